//! Figures about contacts, of some properties and a span of time.

use std::collections::BTreeMap;

use catalog::Result;
use catalog::store::pg::fault;
use chrono::{DateTime, NaiveDate, Utc};
use schemars::JsonSchema;
use serde::Serialize;
use sqlx::{FromRow, PgPool};

/// Of what.
#[derive(Debug, Clone)]
pub struct Span {
    /// The properties; `None` for all.
    pub properties: Option<Vec<String>>,
    /// From this time on.
    pub from: DateTime<Utc>,
    /// Before this time.
    pub until: DateTime<Utc>,
}

/// How many contacts there are, and how they fare.
#[derive(Debug, Clone, PartialEq, FromRow, Serialize, JsonSchema)]
pub struct Metrics {
    /// Contacts at the end of the span.
    pub total_contacts: i64,
    /// Those who came within it.
    pub new_contacts: i64,
    /// Those we heard from within it.
    pub active_contacts: i64,
    /// New ones for each that was there before; null when nobody was.
    pub contact_growth_rate: Option<f64>,
    /// The mean of the scores, 0 to 100; null when none is scored.
    pub average_lead_score: Option<f64>,
    /// The part of all contacts who have applied or live here, 0 to 1; null when there is nobody.
    pub conversion_rate: Option<f64>,
}

/// Contacts who came on a day.
#[derive(Debug, Clone, PartialEq, Eq, FromRow, Serialize, JsonSchema)]
pub struct Day {
    /// The day, in UTC.
    #[schemars(with = "String")]
    pub date: NaiveDate,
    /// How many.
    pub count: i64,
}

/// How contacts came, and from where.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Trends {
    /// Every day of the span, those without anybody too.
    pub daily_new_contacts: Vec<Day>,
    /// Contacts of the span by who brought them.
    pub contact_source_distribution: BTreeMap<String, i64>,
    /// Contacts of the span by their score, in steps of 20; `unscored` has none yet.
    pub lead_score_distribution: BTreeMap<String, i64>,
}

/// One source of what was learned.
#[derive(Debug, Clone, PartialEq, Eq, FromRow, Serialize, JsonSchema)]
pub struct SourceCount {
    /// `chatbot`, `resman` or `manual`.
    pub source: String,
    /// How often something was learned from it.
    pub count: i64,
}

/// How much is known from conversations.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct Enrichment {
    /// The part of the contacts about whom something was learned, 0 to 1; null when there is nobody.
    pub enrichment_rate: Option<f64>,
    /// Of the three kinds of knowledge, the part that is there of those about whom something was learned, 0 to 1.
    pub average_enrichment_score: Option<f64>,
    /// Where it came from, the most frequent first.
    pub top_enrichment_sources: Vec<SourceCount>,
}

const OWN: &str = "merged_into is null and ($1::text[] is null or property_id = any($1)) and created_at < $3";
const WHAT: &str = "cannot count contacts";

/// Counts and rates.
///
/// # Errors
/// When the database fails.
pub async fn metrics(pool: &PgPool, span: &Span) -> Result<Metrics> {
    sqlx::query_as(sqlx::AssertSqlSafe(format!(
        "select count(*) as total_contacts, count(*) filter (where created_at >= $2) as new_contacts, \
         count(*) filter (where last_interaction >= $2 and last_interaction < $3) as active_contacts, \
         count(*) filter (where created_at >= $2)::float8 / nullif(count(*) filter (where created_at < $2), 0) as contact_growth_rate, \
         avg(lead_score)::float8 as average_lead_score, \
         count(*) filter (where status in ('applicant', 'resident'))::float8 / nullif(count(*), 0) as conversion_rate \
         from sync.contacts where {OWN}"
    )))
    .bind(&span.properties)
    .bind(span.from)
    .bind(span.until)
    .fetch_one(pool)
    .await
    .map_err(|e| fault(WHAT, e))
}

/// Distributions.
///
/// # Errors
/// When the database fails.
pub async fn trends(pool: &PgPool, span: &Span) -> Result<Trends> {
    let daily_new_contacts = sqlx::query_as(sqlx::AssertSqlSafe(format!(
        "select d::date as date, count(c.id) as count \
         from generate_series(($2 at time zone 'UTC')::date, (($3 - interval '1 microsecond') at time zone 'UTC')::date, interval '1 day') d \
         left join (select id, created_at from sync.contacts where {OWN} and created_at >= $2) c \
         on (c.created_at at time zone 'UTC')::date = d::date group by 1 order by 1"
    )))
    .bind(&span.properties)
    .bind(span.from)
    .bind(span.until)
    .fetch_all(pool)
    .await
    .map_err(|e| fault(WHAT, e))?;
    let by = async |group: &str| -> Result<BTreeMap<String, i64>> {
        let rows: Vec<(String, i64)> = sqlx::query_as(sqlx::AssertSqlSafe(format!(
            "select {group}, count(*) from sync.contacts where {OWN} and created_at >= $2 group by 1"
        )))
        .bind(&span.properties)
        .bind(span.from)
        .bind(span.until)
        .fetch_all(pool)
        .await
        .map_err(|e| fault(WHAT, e))?;
        Ok(rows.into_iter().collect())
    };
    Ok(Trends {
        daily_new_contacts,
        contact_source_distribution: by("source").await?,
        lead_score_distribution: by(
            "case when lead_score is null then 'unscored' when lead_score < 20 then '0-19' when lead_score < 40 then '20-39' \
             when lead_score < 60 then '40-59' when lead_score < 80 then '60-79' else '80-100' end",
        )
        .await?,
    })
}

/// What is known from conversations.
///
/// # Errors
/// When the database fails.
pub async fn enrichment(pool: &PgPool, span: &Span) -> Result<Enrichment> {
    let (enrichment_rate, average_enrichment_score) = sqlx::query_as(sqlx::AssertSqlSafe(format!(
        "select count(kinds)::float8 / nullif(count(*), 0), avg(kinds)::float8 / 3 from (select \
         (select nullif(count(distinct enrichment_type), 0) from sync.contact_enrichment_log l where l.contact_id = c.id) as kinds \
         from sync.contacts c where {OWN} and created_at >= $2) k"
    )))
    .bind(&span.properties)
    .bind(span.from)
    .bind(span.until)
    .fetch_one(pool)
    .await
    .map_err(|e| fault(WHAT, e))?;
    let top_enrichment_sources = sqlx::query_as(sqlx::AssertSqlSafe(format!(
        "select l.source, count(*) as count from sync.contact_enrichment_log l where l.contact_id in \
         (select id from sync.contacts where {OWN} and created_at >= $2) group by 1 order by 2 desc, 1"
    )))
    .bind(&span.properties)
    .bind(span.from)
    .bind(span.until)
    .fetch_all(pool)
    .await
    .map_err(|e| fault(WHAT, e))?;
    Ok(Enrichment { enrichment_rate, average_enrichment_score, top_enrichment_sources })
}
