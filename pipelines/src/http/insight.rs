//! Figures about contacts.

use axum::extract::State;
use chrono::{DateTime, NaiveDate, NaiveTime, TimeDelta, Utc};
use schemars::JsonSchema;
use serde::Deserialize;

use super::Service;
use super::api::{Access, Endpoint, Scope};
use super::caller::{Caller, Role};
use super::contacts::properties;
use super::error::{Kind, Problem, Result};
use super::extract::{Json, Query};
use crate::contacts::figures::{self, Enrichment, Metrics, Span, Trends};

const ANALYSTS: Access = Access::Roles(&[Role::Operator, Role::Analyst, Role::Owner, Role::Staff]);
/// Days that are looked at when none are named.
const USUAL_DAYS: i64 = 30;
/// Days that may be asked for.
const MOST_DAYS: i64 = 3660;

/// Of what.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct SpanQuery {
    /// Only of this property.
    property_id: Option<String>,
    /// The first day, `YYYY-MM-DD` in UTC; 30 days back if it is absent.
    #[schemars(with = "Option<String>")]
    from: Option<NaiveDate>,
    /// The last day, `YYYY-MM-DD` in UTC; today if it is absent.
    #[schemars(with = "Option<String>")]
    to: Option<NaiveDate>,
}

fn span(service: &Service, caller: &Caller, query: &SpanQuery) -> Result<Span> {
    let wrong =
        || Problem::new(Kind::Invalid, format!("`from` and `to` are not 1 to {MOST_DAYS} days, in their order"));
    let to = query.to.unwrap_or_else(|| service.app.clock.now().date_naive());
    let from = query.from.or_else(|| to.checked_sub_signed(TimeDelta::days(USUAL_DAYS - 1))).ok_or_else(wrong)?;
    let until = to.succ_opt().ok_or_else(wrong)?;
    if !(1..=MOST_DAYS).contains(&(until - from).num_days()) {
        return Err(wrong());
    }
    let midnight = |day: NaiveDate| -> DateTime<Utc> { day.and_time(NaiveTime::MIN).and_utc() };
    let properties = properties(caller, query.property_id.as_deref())?;
    Ok(Span { properties, from: midnight(from), until: midnight(until) })
}

pub(super) fn metrics_about() -> Endpoint {
    Endpoint::get("/api/resman/analytics/contacts", ANALYSTS, Scope::Own)
        .about("How many contacts there are, and how they fare.")
        .query::<SpanQuery>()
        .answers::<Metrics>(200, "The figures")
        .problems(&[400, 404, 422])
}

pub(super) async fn metrics(
    State(service): State<Service>,
    caller: Caller,
    Query(query): Query<SpanQuery>,
) -> Result<Json<Metrics>> {
    let span = span(&service, &caller, &query)?;
    Ok(Json(figures::metrics(&service.database.pool, &span).await?))
}

pub(super) fn trends_about() -> Endpoint {
    Endpoint::get("/api/resman/analytics/trends", ANALYSTS, Scope::Own)
        .about("How contacts came day by day, from where, and how they are scored.")
        .query::<SpanQuery>()
        .answers::<Trends>(200, "The figures")
        .problems(&[400, 404, 422])
}

pub(super) async fn trends(
    State(service): State<Service>,
    caller: Caller,
    Query(query): Query<SpanQuery>,
) -> Result<Json<Trends>> {
    let span = span(&service, &caller, &query)?;
    Ok(Json(figures::trends(&service.database.pool, &span).await?))
}

pub(super) fn enrichment_about() -> Endpoint {
    Endpoint::get("/api/resman/analytics/enrichment", ANALYSTS, Scope::Own)
        .about("How much is known from conversations.")
        .query::<SpanQuery>()
        .answers::<Enrichment>(200, "The figures")
        .problems(&[400, 404, 422])
}

pub(super) async fn enrichment(
    State(service): State<Service>,
    caller: Caller,
    Query(query): Query<SpanQuery>,
) -> Result<Json<Enrichment>> {
    let span = span(&service, &caller, &query)?;
    Ok(Json(figures::enrichment(&service.database.pool, &span).await?))
}
