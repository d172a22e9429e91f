//! Whether the service lives, whether it can work, and who asks.

use std::time::Duration;

use axum::extract::State;
use schemars::JsonSchema;
use serde::Serialize;
use tokio::time::timeout;

use super::Service;
use super::api::{Access, Endpoint, Scope};
use super::caller::{Caller, Role};
use super::error::{Kind, Problem, Result};
use super::extract::Json;

/// How long the database may take to say that it is there.
const PATIENCE: Duration = Duration::from_secs(2);

/// The process answers.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Health {
    /// Always `ok`.
    status: &'static str,
    /// The program's version.
    version: &'static str,
}

pub(super) fn health_about() -> Endpoint {
    Endpoint::get("/health", Access::Open, Scope::Free)
        .about("Whether the process lives. It asks nothing of the database.")
        .answers::<Health>(200, "It lives")
}

pub(super) async fn health() -> Json<Health> {
    Json(Health { status: "ok", version: env!("CARGO_PKG_VERSION") })
}

pub(super) fn ready_about() -> Endpoint {
    Endpoint::get("/ready", Access::Open, Scope::Free)
        .about("Whether requests can be served: the database answers, and its migrations are those of this program.")
        .answers::<Health>(200, "It is ready")
        .problems(&[503])
}

pub(super) async fn ready(State(service): State<Service>) -> Result<Json<Health>> {
    let away = || Problem::new(Kind::Unavailable, "the database does not answer").retry_after(PATIENCE);
    let fits = timeout(PATIENCE, catalog::store::pg::is_migrated(&service.database.pool)).await;
    match fits.map_err(|_| away())? {
        Ok(true) => Ok(Json(Health { status: "ready", version: env!("CARGO_PKG_VERSION") })),
        Ok(false) => Err(Problem::new(Kind::Unavailable, "the database is of another version of propflow")
            .hint("Run `propflow migrate` with this version.")),
        Err(fault) => {
            tracing::warn!(error = %fault.chain(), "the database does not answer");
            Err(away())
        }
    }
}

/// What the caller's key may do.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Me {
    /// The key's name.
    name: String,
    /// What it may do.
    roles: Vec<Role>,
    /// The properties that it may do it for; null for all.
    properties: Option<Vec<String>>,
}

pub(super) fn me_about() -> Endpoint {
    Endpoint::get("/api/me", Access::Roles(&Role::ALL), Scope::Own)
        .about("What the key of this request may do.")
        .answers::<Me>(200, "Its roles and properties")
}

pub(super) async fn me(caller: Caller) -> Json<Me> {
    Json(Me { name: caller.name, roles: caller.roles, properties: caller.properties })
}
