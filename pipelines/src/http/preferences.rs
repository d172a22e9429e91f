//! How people want to be reached, and what they want no more of.

use axum::extract::State;
use schemars::JsonSchema;
use serde::Deserialize;
use uuid::Uuid;

use super::Service;
use super::api::{Endpoint, Scope};
use super::caller::Caller;
use super::carry::carry;
use super::contacts::{Preferences, Shown, TEAM, WRITERS, by, change, seen, text};
use super::error::Result;
use super::extract::{Json, Path};
use crate::contacts::service::OptOut;

pub(super) fn preferences_about() -> Endpoint {
    Endpoint::put("/api/resman/contacts/{id}/preferences", WRITERS, Scope::Own)
        .about("Sets how a person wants to be reached.")
        .part("id", "The contact's id")
        .repeatable()
        .body::<Preferences>()
        .answers::<Shown>(200, "The contact as it is now")
        .problems(&[400, 404, 413, 415, 422])
}

pub(super) async fn preferences(
    State(service): State<Service>,
    Path(id): Path<Uuid>,
    caller: Caller,
    Json(body): Json<Preferences>,
) -> Result<Json<Shown>> {
    Ok(Json(change(&service, &caller, id, body.into(), by(&caller), None).await?.into()))
}

/// What a person wants no more of.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "OptOut")]
pub(super) struct OptOutBody {
    /// `email`, `phone`, `text` or `all`.
    #[serde(rename = "type")]
    kind: String,
}

pub(super) fn opt_out_about() -> Endpoint {
    Endpoint::post("/api/resman/contacts/{id}/opt-out", WRITERS, Scope::Own)
        .about("Notes what a person wants no more of. It only ever widens.")
        .part("id", "The contact's id")
        .repeatable()
        .body::<OptOutBody>()
        .answers::<Shown>(200, "The contact as it is now")
        .problems(&[400, 404, 413, 415, 422])
}

pub(super) async fn opt_out(
    State(service): State<Service>,
    Path(id): Path<Uuid>,
    caller: Caller,
    Json(body): Json<OptOutBody>,
) -> Result<Json<Shown>> {
    seen(&service, &caller, id).await?;
    let what = OptOut::parse(&body.kind)?;
    let changed = service.contacts.opt_out(id, what, by(&caller), &caller.name).await?;
    carry(&service, changed.contact.id);
    Ok(Json(changed.contact.into()))
}

/// What a person has agreed to again.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "OptIn")]
pub(super) struct OptInBody {
    /// `email`, `phone`, `text` or `all`.
    #[serde(rename = "type")]
    kind: String,
    /// How they agreed; it stays on record.
    reason: String,
}

pub(super) fn opt_in_about() -> Endpoint {
    Endpoint::post("/api/resman/contacts/{id}/opt-in", TEAM, Scope::Own)
        .about("Takes opt-outs back, with a reason that stays on record.")
        .part("id", "The contact's id")
        .repeatable()
        .body::<OptInBody>()
        .answers::<Shown>(200, "The contact as it is now")
        .problems(&[400, 404, 413, 415, 422])
}

pub(super) async fn opt_in(
    State(service): State<Service>,
    Path(id): Path<Uuid>,
    caller: Caller,
    Json(body): Json<OptInBody>,
) -> Result<Json<Shown>> {
    seen(&service, &caller, id).await?;
    let (what, reason) = (OptOut::parse(&body.kind)?, text("reason", &body.reason, 1000)?);
    Ok(Json(service.contacts.opt_in(id, what, &reason, &caller.name).await?.contact.into()))
}
