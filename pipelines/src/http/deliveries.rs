//! The deliveries on the books, for operators.

use axum::extract::State;
use catalog::store::audit::{self, Entry};
use catalog::store::deliveries::{self, Filter, Kept};
use catalog::store::pg::fault;
use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::Service;
use super::api::{Access, Endpoint, Scope};
use super::caller::{Caller, Role};
use super::error::{Kind, Problem, Result};
use super::extract::{Json, Path, Query};
use super::paging::{Page, limit, place};

const OPERATORS: Access = Access::Roles(&[Role::Operator]);

/// Where a delivery stands.
#[derive(Debug, Clone, Copy, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum Standing {
    /// It waits for its turn.
    Received,
    /// What it says has been loaded.
    Processed,
    /// It says nothing that matters here.
    Ignored,
    /// It was given up.
    Failed,
    /// It was not taken.
    Refused,
}

impl From<Standing> for deliveries::State {
    fn from(state: Standing) -> Self {
        match state {
            Standing::Received => Self::Received,
            Standing::Processed => Self::Processed,
            Standing::Ignored => Self::Ignored,
            Standing::Failed => Self::Failed,
            Standing::Refused => Self::Refused,
        }
    }
}

impl From<deliveries::State> for Standing {
    fn from(state: deliveries::State) -> Self {
        match state {
            deliveries::State::Received => Self::Received,
            deliveries::State::Processed => Self::Processed,
            deliveries::State::Ignored => Self::Ignored,
            deliveries::State::Failed => Self::Failed,
            deliveries::State::Refused => Self::Refused,
        }
    }
}

/// Which deliveries.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ListQuery {
    /// Only of this state.
    state: Option<Standing>,
    /// Only of this connection.
    connection: Option<String>,
    /// Only those that came at this time or later.
    #[schemars(with = "Option<String>")]
    since: Option<DateTime<Utc>>,
    /// The `next` of the page before.
    after: Option<String>,
    /// Rows of a page, 50 if it is absent, 500 at most.
    limit: Option<u32>,
}

/// A delivery. Its body is personal data and is not shown here; `propflow deliveries --show ID --body` does.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Delivery")]
pub(super) struct Shown {
    /// Its number; later ones are larger.
    id: i64,
    /// The connector that understands it.
    connector: String,
    /// The connection that it came in for.
    connection: String,
    /// The sender's id of it.
    delivery_id: String,
    /// The sender's word for what happened.
    event: String,
    /// Where it stands.
    state: Standing,
    /// How often it was tried in vain.
    attempts: i32,
    /// Why it was refused, ignored or given up, or why it has to wait.
    reason: Option<String>,
    /// The run that loaded it.
    #[schemars(with = "Option<String>")]
    run_id: Option<Uuid>,
    /// When it came.
    #[schemars(with = "String")]
    received_at: DateTime<Utc>,
    /// When it reached its end.
    #[schemars(with = "Option<String>")]
    processed_at: Option<DateTime<Utc>>,
    /// The size of its body.
    body_bytes: i64,
}

impl From<Kept> for Shown {
    fn from(kept: Kept) -> Self {
        Self {
            id: kept.id,
            connector: kept.connector,
            connection: kept.connection,
            delivery_id: kept.delivery_id,
            event: kept.event,
            state: kept.state.into(),
            attempts: kept.attempts,
            reason: kept.reason,
            run_id: kept.run_id,
            received_at: kept.received_at,
            processed_at: kept.processed_at,
            body_bytes: kept.body_bytes,
        }
    }
}

pub(super) fn list_about() -> Endpoint {
    Endpoint::get("/api/deliveries", OPERATORS, Scope::All)
        .about("Deliveries, newest first: what came, what became of it, and why.")
        .query::<ListQuery>()
        .answers::<Page<Shown>>(200, "A page of them")
        .problems(&[400, 422])
}

pub(super) async fn list(State(service): State<Service>, Query(query): Query<ListQuery>) -> Result<Json<Page<Shown>>> {
    let limit = limit(query.limit)?;
    let filter = Filter {
        id: None,
        state: query.state.map(Into::into),
        connection: query.connection,
        since: query.since,
        before: place(query.after.as_deref())?,
    };
    let rows = deliveries::list(&service.database.pool, &filter, i64::from(limit) + 1).await?;
    Ok(Json(Page::of(rows.into_iter().map(Shown::from).collect(), limit, |row| row.id)))
}

pub(super) fn show_about() -> Endpoint {
    Endpoint::get("/api/deliveries/{id}", OPERATORS, Scope::All)
        .about("One delivery.")
        .part("id", "Its number")
        .answers::<Shown>(200, "The delivery")
        .problems(&[404])
}

pub(super) async fn show(State(service): State<Service>, Path(id): Path<i64>) -> Result<Json<Shown>> {
    let filter = Filter { id: Some(id), ..Filter::default() };
    let found = deliveries::list(&service.database.pool, &filter, 1).await?.pop();
    found.map(|kept| Json(kept.into())).ok_or_else(|| Problem::not_found(format!("there is no delivery {id}")))
}

pub(super) fn replay_about() -> Endpoint {
    Endpoint::post("/api/deliveries/{id}/replay", OPERATORS, Scope::All)
        .about("Has a delivery processed once more, with all its tries. One that was refused stays refused.")
        .part("id", "Its number")
        .repeatable()
        .answers::<Shown>(200, "The delivery, as it waits")
        .problems(&[404, 409])
}

pub(super) async fn replay(State(service): State<Service>, Path(id): Path<i64>, caller: Caller) -> Result<Json<Shown>> {
    let what = "cannot put a delivery back";
    let pool = &service.database.pool;
    let filter = Filter { id: Some(id), ..Filter::default() };
    let mut tx = pool.begin().await.map_err(|e| fault(what, e))?;
    let again = deliveries::replay(&mut tx, &filter).await?;
    if !again.is_empty() {
        let subject = id.to_string();
        let entry = Entry { actor: &caller.name, action: "replay", subject: &subject, ..Entry::default() };
        audit::write(&mut tx, &entry).await?;
    }
    tx.commit().await.map_err(|e| fault(what, e))?;
    for (connector, connection, _) in &again {
        crate::inbox::work::call(pool, connector, connection).await?;
    }
    let kept = deliveries::list(pool, &filter, 1).await?.pop();
    let kept = kept.ok_or_else(|| Problem::not_found(format!("there is no delivery {id}")))?;
    if kept.state == deliveries::State::Refused {
        return Err(Problem::new(Kind::Conflict, "the delivery was refused, so nobody knows who sent it"));
    }
    Ok(Json(kept.into()))
}
