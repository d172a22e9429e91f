//! Looking contacts up: by what is known of them, with their counterparts and open questions.

use catalog::Result;
use catalog::store::pg::fault;
use chrono::{DateTime, Utc};
use serde::Serialize;
use sqlx::{FromRow, PgPool};
use uuid::Uuid;

use super::identity::{self, Rules};
use super::model::Contact;

/// Which contacts. Every condition that is named has to hold.
#[derive(Debug, Clone, Default)]
pub struct Wanted {
    /// E-mail address in canonical form.
    pub email: Option<String>,
    /// Phone in E.164.
    pub phone: Option<String>,
    /// Words that each stand in the name, in any order.
    pub name: Vec<String>,
    /// The properties; `None` for all.
    pub properties: Option<Vec<String>>,
    /// With those that were lost or set aside.
    pub inactive: bool,
}

const WHERE: &str = "merged_into is null and ($1::text is null or lower(email) = lower($1)) and ($2::text is null or phone = $2) \
    and concat_ws(' ', first_name, last_name) ilike all($3) and ($4::text[] is null or property_id = any($4)) \
    and ($5 or status not in ('lost', 'inactive'))";

/// Contacts, newest first, behind the contact `after`; and how many there are in all.
///
/// # Errors
/// When the database fails.
pub async fn search(pool: &PgPool, wanted: &Wanted, after: Option<Uuid>, limit: i64) -> Result<(Vec<Contact>, i64)> {
    let what = "cannot search contacts";
    // The words are taken as they stand: what PostgreSQL reads as a pattern is no pattern here.
    let quoted = |w: &String| format!("%{}%", w.replace('\\', "\\\\").replace('%', "\\%").replace('_', "\\_"));
    let name: Vec<String> = wanted.name.iter().map(quoted).collect();
    let page = format!(
        "select * from sync.contacts where {WHERE} and ($6::uuid is null or id < $6) order by id desc limit $7"
    );
    let rows = sqlx::query_as(sqlx::AssertSqlSafe(page))
        .bind(&wanted.email)
        .bind(&wanted.phone)
        .bind(&name)
        .bind(&wanted.properties)
        .bind(wanted.inactive)
        .bind(after)
        .bind(limit)
        .fetch_all(pool)
        .await
        .map_err(|e| fault(what, e))?;
    let count = sqlx::query_scalar(sqlx::AssertSqlSafe(format!("select count(*) from sync.contacts where {WHERE}")))
        .bind(&wanted.email)
        .bind(&wanted.phone)
        .bind(&name)
        .bind(&wanted.properties)
        .bind(wanted.inactive)
        .fetch_one(pool)
        .await
        .map_err(|e| fault(what, e))?;
    Ok((rows, count))
}

/// How a contact stands with ResMan.
#[derive(Debug, Clone, FromRow)]
pub struct Standing {
    /// ResMan's id of the lead.
    pub resman_contact_id: String,
    /// ResMan's id of its main person.
    pub resman_person_id: Option<String>,
    /// `pending`, `success`, `failed` or `merged`.
    pub sync_status: String,
    /// Why it failed.
    pub reason: Option<String>,
    /// When both sides last agreed.
    pub last_sync_at: Option<DateTime<Utc>>,
}

/// The counterpart of a contact that counts, if ResMan has one.
///
/// # Errors
/// When the database fails.
pub async fn standing(pool: &PgPool, id: Uuid) -> Result<Option<Standing>> {
    sqlx::query_as(
        "select resman_contact_id, resman_person_id, sync_status, reason, last_sync_at from sync.contact_sync \
         where user_id = $1 and sync_status <> 'merged' order by created_at, resman_contact_id limit 1",
    )
    .bind(id)
    .fetch_optional(pool)
    .await
    .map_err(|e| fault("cannot read a contact's counterpart", e))
}

/// How the messages of a contact to ResMan fare.
#[derive(Debug, Clone, FromRow)]
pub struct Errands {
    /// Messages that wait.
    pub waiting: i64,
    /// Why the first of them was not taken when it was last tried.
    pub delayed: Option<String>,
    /// Why the lead could not be made, or else why the last message that was given up was not taken.
    pub failed: Option<String>,
}

/// How the messages of a contact to ResMan fare.
///
/// # Errors
/// When the database fails.
pub async fn errands(pool: &PgPool, id: Uuid) -> Result<Errands> {
    sqlx::query_as(
        "select count(*) as waiting, \
             (array_agg(nullif(concat_ws('. ', reason, hint), '') order by id))[1] as delayed, \
             (select concat_ws('. ', reason, hint) from sync.outbox where state = 'dead' and courier = 'resman' \
                 and lane = $1 order by kind = 'lead_create' desc, id desc limit 1) as failed \
         from sync.outbox where state = 'waiting' and courier = 'resman' and lane = $1",
    )
    .bind(id.to_string())
    .fetch_one(pool)
    .await
    .map_err(|e| fault("cannot read how messages fare", e))
}

/// A field that both sides have changed.
#[derive(Debug, Clone, FromRow, Serialize)]
pub struct Conflict {
    /// Its id.
    pub id: Uuid,
    /// The contact.
    pub contact_id: Uuid,
    /// The property.
    pub property_id: String,
    /// The field.
    pub field: String,
    /// What both last agreed on.
    pub base_value: Option<String>,
    /// The chatbot's value.
    pub domiq_value: Option<String>,
    /// ResMan's value.
    pub resman_value: Option<String>,
    /// Which rule settled it.
    pub rule: Option<String>,
    /// Whose value stays.
    pub chosen: Option<String>,
    /// `open` or `settled`.
    pub state: String,
    /// When it came up.
    pub created_at: DateTime<Utc>,
    /// When it was settled.
    pub settled_at: Option<DateTime<Utc>>,
    /// Who settled it.
    pub settled_by: Option<String>,
}

/// Conflicts of a state, oldest first, behind `after`.
///
/// # Errors
/// When the database fails.
pub async fn conflicts(
    pool: &PgPool,
    state: &str,
    properties: Option<&[String]>,
    after: Option<Uuid>,
    limit: i64,
) -> Result<Vec<Conflict>> {
    sqlx::query_as(
        "select id, contact_id, property_id, field, base_value, domiq_value, resman_value, rule, chosen, state, created_at, \
         settled_at, settled_by from sync.conflicts where state = $1 and ($2::text[] is null or property_id = any($2)) \
         and ($3::uuid is null or id > $3) order by id limit $4",
    )
    .bind(state)
    .bind(properties)
    .bind(after)
    .bind(limit)
    .fetch_all(pool)
    .await
    .map_err(|e| fault("cannot read the conflicts", e))
}

/// The property of a conflict.
///
/// # Errors
/// When the database fails.
pub async fn property_of_conflict(pool: &PgPool, id: Uuid) -> Result<Option<String>> {
    sqlx::query_scalar("select property_id from sync.conflicts where id = $1")
        .bind(id)
        .fetch_optional(pool)
        .await
        .map_err(|e| fault("cannot read a conflict", e))
}

/// The message of a contact that comes next, if it is due.
///
/// # Errors
/// When the database fails.
pub async fn due(pool: &PgPool, id: Uuid, now: DateTime<Utc>) -> Result<Option<i64>> {
    let head: Option<(i64, bool)> = sqlx::query_as(
        "select id, run_after <= $2 from sync.outbox where courier = 'resman' and lane = $1 and state = 'waiting' \
         order by id limit 1",
    )
    .bind(id.to_string())
    .bind(now)
    .fetch_optional(pool)
    .await
    .map_err(|e| fault("cannot read the outbox", e))?;
    Ok(head.filter(|(_, due)| *due).map(|(id, _)| id))
}

/// The rules of a property that has its own.
#[derive(Debug, Clone)]
pub struct OwnRules {
    /// The property.
    pub property_id: String,
    /// Its rules.
    pub rules: Rules,
}

/// Properties that have rules of their own, in the order of their ids, behind `after`.
///
/// # Errors
/// When the database fails, or holds rules that cannot be read.
pub async fn own_rules(
    pool: &PgPool,
    properties: Option<&[String]>,
    after: Option<String>,
    limit: i64,
) -> Result<Vec<OwnRules>> {
    let what = "cannot read the matching rules";
    let ids: Vec<String> = sqlx::query_scalar(
        "select property_id from sync.contact_matching_rules where ($1::text[] is null or property_id = any($1)) \
         and ($2::text is null or property_id > $2) order by property_id limit $3",
    )
    .bind(properties)
    .bind(after)
    .bind(limit)
    .fetch_all(pool)
    .await
    .map_err(|e| fault(what, e))?;
    let mut connection = pool.acquire().await.map_err(|e| fault(what, e))?;
    let mut found = Vec::new();
    for property_id in ids {
        let rules = identity::rules(&mut connection, &property_id).await?;
        found.push(OwnRules { property_id, rules });
    }
    Ok(found)
}
