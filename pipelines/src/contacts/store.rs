//! Contacts in PostgreSQL. Everything here runs in the caller's transaction.

use std::collections::BTreeMap;

use catalog::store::pg::fault;
use catalog::store::{audit, events};
use catalog::{Fault, Result};
use chrono::{DateTime, SubsecRound, TimeDelta, Utc};
use serde_json::{Value, json};
use sqlx::Row;
use sqlx::postgres::PgConnection;
use uuid::Uuid;

use super::model::Contact;

/// A contact's counterpart in ResMan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Counterpart {
    /// ResMan's id of the lead.
    pub prospect_id: String,
    /// ResMan's id of the person.
    pub person_id: Option<String>,
}

/// A contact, locked until the transaction ends. A contact that was merged away gives the one that stayed.
///
/// # Errors
/// When there is none.
pub async fn lock(connection: &mut PgConnection, id: Uuid) -> Result<Contact> {
    let mut id = id;
    // A chain of merges is as long as somebody has merged by hand; a loop cannot come about, and is not followed for ever.
    for _ in 0..64 {
        let found: Option<Contact> = sqlx::query_as("select * from sync.contacts where id = $1 for update")
            .bind(id)
            .fetch_optional(&mut *connection)
            .await
            .map_err(|e| fault("cannot read a contact", e))?;
        let contact = found.ok_or_else(|| missing(id))?;
        match contact.merged_into {
            Some(into) => id = into,
            None => return Ok(contact),
        }
    }
    Err(Fault::us(format!("the merges of contact `{id}` lead nowhere")))
}

/// What is said of a contact that is not there.
pub fn missing(id: Uuid) -> Fault {
    Fault::user(format!("there is no contact `{id}`")).hint("`GET /api/resman/contacts/search` finds contacts.")
}

/// Contacts by id, in no order.
pub async fn many(connection: &mut PgConnection, ids: &[Uuid]) -> Result<Vec<Contact>> {
    sqlx::query_as("select * from sync.contacts where id = any($1)")
        .bind(ids)
        .fetch_all(connection)
        .await
        .map_err(|e| fault("cannot read contacts", e))
}

/// Writes a contact, new or known, as it stands.
pub async fn save(connection: &mut PgConnection, c: &Contact) -> Result<()> {
    sqlx::query(
        "insert into sync.contacts (id, property_id, first_name, last_name, email, phone, status, source, notes, preferences, \
         email_opt_out, phone_opt_out, text_opt_out, enrichment, lead_score, lead_score_parts, last_interaction, \
         interaction_count, provenance, base, pushed, version, domiq_version, resman_version, merged_into, created_at, updated_at, \
         aliases) \
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22, $23, $24, $25, $26, $27, $28) \
         on conflict (id) do update set first_name = excluded.first_name, last_name = excluded.last_name, \
         email = excluded.email, phone = excluded.phone, status = excluded.status, notes = excluded.notes, \
         preferences = excluded.preferences, email_opt_out = excluded.email_opt_out, phone_opt_out = excluded.phone_opt_out, \
         text_opt_out = excluded.text_opt_out, enrichment = excluded.enrichment, lead_score = excluded.lead_score, \
         lead_score_parts = excluded.lead_score_parts, last_interaction = excluded.last_interaction, \
         interaction_count = excluded.interaction_count, provenance = excluded.provenance, base = excluded.base, \
         pushed = excluded.pushed, version = excluded.version, domiq_version = excluded.domiq_version, \
         resman_version = excluded.resman_version, merged_into = excluded.merged_into, updated_at = excluded.updated_at, \
         aliases = excluded.aliases",
    )
    .bind(c.id)
    .bind(&c.property_id)
    .bind(&c.first_name)
    .bind(&c.last_name)
    .bind(&c.email)
    .bind(&c.phone)
    .bind(&c.status)
    .bind(&c.source)
    .bind(&c.notes)
    .bind(&c.preferences)
    .bind(c.email_opt_out)
    .bind(c.phone_opt_out)
    .bind(c.text_opt_out)
    .bind(&c.enrichment)
    .bind(c.lead_score)
    .bind(&c.lead_score_parts)
    .bind(c.last_interaction)
    .bind(c.interaction_count)
    .bind(&c.provenance)
    .bind(&c.base)
    .bind(&c.pushed)
    .bind(c.version)
    .bind(c.domiq_version)
    .bind(c.resman_version)
    .bind(c.merged_into)
    .bind(c.created_at)
    .bind(c.updated_at)
    .bind(&c.aliases)
    .execute(connection)
    .await
    .map_err(|e| fault("cannot write a contact", e))?;
    Ok(())
}

/// Who changes something, why, and when.
#[derive(Debug, Clone, Copy)]
pub struct Deed<'a> {
    /// `chatbot`, `resman` or `manual`.
    pub source: &'a str,
    /// The name of the key, the person or the pipeline.
    pub actor: &'a str,
    /// What was done, as the audit trail has it.
    pub action: &'a str,
    /// The rule or the reason.
    pub rule: &'a str,
    /// When.
    pub at: DateTime<Utc>,
}

/// The fields whose changes are kept.
const KEPT: [&str; 13] = [
    "first_name",
    "last_name",
    "email",
    "phone",
    "status",
    "notes",
    "preferences",
    "email_opt_out",
    "phone_opt_out",
    "text_opt_out",
    "enrichment",
    "lead_score",
    "merged_into",
];

/// Saves a changed contact with its history, its audit row and its event. Says whether anything had changed.
pub async fn change(
    connection: &mut PgConnection,
    before: Option<&Contact>,
    after: &mut Contact,
    deed: &Deed<'_>,
) -> Result<bool> {
    let differs = |field: &str| before.map(|b| b.field(field)) != Some(after.field(field));
    let changed: Vec<&str> = KEPT.into_iter().filter(|f| differs(f)).collect();
    if before.is_some() && changed.is_empty() {
        // Marks such as what was sent may have moved; no reader can see them.
        save(connection, after).await?;
        return Ok(false);
    }
    if let Some(before) = before {
        after.remember(before);
        after.version = before.version + 1;
    }
    match deed.source {
        "resman" => after.resman_version += 1,
        _ => after.domiq_version += 1,
    }
    after.updated_at = deed.at;
    save(connection, after).await?;
    let what = "cannot write a contact's history";
    for field in &changed {
        let (was, is) = (before.map_or(Value::Null, |b| b.field(field)), after.field(field));
        if before.is_none() && (is.is_null() || is == json!({}) || is == json!(false) || is == json!("")) {
            continue;
        }
        sqlx::query(
            "insert into sync.contact_history (contact_id, version, field, before, after, source, actor, rule, created_at) \
             values ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
        )
        .bind(after.id)
        .bind(after.version)
        .bind(field)
        .bind(was)
        .bind(is)
        .bind(deed.source)
        .bind(deed.actor)
        .bind(deed.rule)
        .bind(deed.at)
        .execute(&mut *connection)
        .await
        .map_err(|e| fault(what, e))?;
    }
    let pick = |c: &Contact| changed.iter().map(|f| ((*f).to_owned(), c.field(f))).collect::<serde_json::Map<_, _>>();
    let entry = audit::Entry {
        actor: deed.actor,
        action: deed.action,
        subject: &format!("contact {}", after.id),
        before: before.map(|b| Value::Object(pick(b))),
        after: Some(Value::Object(pick(after))),
        reason: Some(deed.rule),
    };
    audit::write(connection, &entry).await?;
    Ok(true)
}

/// The event of a changed contact: which fields moved, not to what, since a listener may be one who may not read all.
pub fn event(kind: &str, contact: &Contact, changed: &[&str]) -> events::Event {
    events::Event {
        topic: "contacts".to_owned(),
        property_id: Some(contact.property_id.clone()),
        kind: kind.to_owned(),
        key: contact.id.to_string(),
        version: contact.version,
        data: json!({ "status": contact.status, "lead_score": contact.lead_score, "changed": changed }),
    }
}

/// The fields that differ between two states.
pub fn changed(before: Option<&Contact>, after: &Contact) -> Vec<&'static str> {
    KEPT.into_iter().filter(|f| before.map(|b| b.field(f)) != Some(after.field(f))).collect()
}

/// A contact's counterparts in ResMan, the one that counts first. Two exist while a duplicate is being cleaned up.
pub async fn counterparts(connection: &mut PgConnection, id: Uuid) -> Result<Vec<Counterpart>> {
    let rows = sqlx::query(
        "select resman_contact_id, resman_person_id from sync.contact_sync where user_id = $1 and sync_status <> 'merged' \
         order by created_at, resman_contact_id",
    )
    .bind(id)
    .fetch_all(connection)
    .await
    .map_err(|e| fault("cannot read a contact's counterpart", e))?;
    let counterpart = |row: &sqlx::postgres::PgRow| Counterpart {
        prospect_id: row.get("resman_contact_id"),
        person_id: row.get("resman_person_id"),
    };
    Ok(rows.iter().map(counterpart).collect())
}

/// Of the counterparts that came with a merge, those that are one too many: all, if the contact has one of its own, else
/// all but the first.
pub async fn spares(connection: &mut PgConnection, id: Uuid, moved: &[Uuid]) -> Result<Vec<Counterpart>> {
    let rows = sqlx::query(
        "select resman_contact_id, resman_person_id, id = any($2) as came from sync.contact_sync \
         where user_id = $1 and sync_status <> 'merged' order by came, created_at, resman_contact_id offset 1",
    )
    .bind(id)
    .bind(moved)
    .fetch_all(connection)
    .await
    .map_err(|e| fault("cannot read a contact's counterpart", e))?;
    let counterpart = |row: &sqlx::postgres::PgRow| Counterpart {
        prospect_id: row.get("resman_contact_id"),
        person_id: row.get("resman_person_id"),
    };
    Ok(rows.iter().filter(|row| row.get("came")).map(counterpart).collect())
}

/// The contact that a lead of ResMan belongs to.
pub async fn of_prospect(connection: &mut PgConnection, prospect_id: &str) -> Result<Option<Uuid>> {
    sqlx::query_scalar("select user_id from sync.contact_sync where resman_contact_id = $1")
        .bind(catalog::id(prospect_id))
        .fetch_optional(connection)
        .await
        .map_err(|e| fault("cannot read a contact's counterpart", e))
}

/// Notes a contact's counterpart, or that it was confirmed once more.
pub async fn link(
    connection: &mut PgConnection,
    contact: &Contact,
    counterpart: &Counterpart,
    status: &str,
    now: DateTime<Utc>,
) -> Result<()> {
    sqlx::query(
        "insert into sync.contact_sync (id, user_id, property_id, resman_contact_id, resman_person_id, sync_status, \
         last_sync_at, created_at, updated_at) values ($1, $2, $3, $4, $5, $6, $7, $7, $7) \
         on conflict (resman_contact_id) do update set resman_person_id = coalesce(excluded.resman_person_id, \
         sync.contact_sync.resman_person_id), sync_status = case when sync.contact_sync.sync_status = 'merged' then 'merged' \
         else excluded.sync_status end, reason = null, last_sync_at = excluded.last_sync_at, updated_at = excluded.updated_at",
    )
    .bind(Uuid::now_v7())
    .bind(contact.id)
    .bind(&contact.property_id)
    .bind(catalog::id(&counterpart.prospect_id))
    .bind(counterpart.person_id.as_deref().map(catalog::id))
    .bind(status)
    .bind(now)
    .execute(connection)
    .await
    .map_err(|e| fault("cannot write a contact's counterpart", e))?;
    Ok(())
}

/// Of these fields of a lead, those of which something was said at an instant or since.
pub async fn heard(
    connection: &mut PgConnection,
    prospect_id: &str,
    fields: &[&str],
    at: DateTime<Utc>,
) -> Result<Vec<String>> {
    sqlx::query_scalar(
        "select f from sync.contact_sync, unnest($2::text[]) f \
         where resman_contact_id = $1 and (heard ->> f)::timestamptz >= $3",
    )
    .bind(prospect_id)
    .bind(fields)
    .bind(at)
    .fetch_all(connection)
    .await
    .map_err(|e| fault("cannot read when a lead was heard of", e))
}

/// Notes when what is known of a lead's fields was said. An earlier instant changes nothing.
pub async fn note_heard(
    connection: &mut PgConnection,
    prospect_id: &str,
    fields: &[&str],
    at: DateTime<Utc>,
) -> Result<()> {
    sqlx::query(
        "update sync.contact_sync set heard = heard || (select coalesce(jsonb_object_agg(f, $3::timestamptz), '{}') \
         from unnest($2::text[]) f where coalesce((heard ->> f)::timestamptz < $3, true)) where resman_contact_id = $1",
    )
    .bind(catalog::id(prospect_id))
    .bind(fields)
    .bind(at)
    .execute(connection)
    .await
    .map_err(|e| fault("cannot note when a lead was heard of", e))?;
    Ok(())
}

/// The last instant of which whoever looked at ResMan at `at` has surely seen what was said: instants that are relayed may
/// be whole seconds.
pub fn before(at: DateTime<Utc>) -> DateTime<Utc> {
    at.trunc_subsecs(0) - TimeDelta::microseconds(1)
}

/// A JSON object of texts.
pub fn texts(value: &Value) -> BTreeMap<String, Option<String>> {
    let map = value.as_object().into_iter().flatten();
    map.map(|(k, v)| (k.clone(), v.as_str().map(str::to_owned))).collect()
}
