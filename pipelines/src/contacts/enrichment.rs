//! Reads conversations behind the answer: what a person said becomes their enrichment, their wishes and their score.
//!
//! - Triggers mark a contact in the transaction that adds a message or changes what its score rests on. A [`turn`] takes marks
//!   away in the transaction that writes what was read, so nothing is forgotten and nothing is read in vain.
//! - The reading itself happens outside of any transaction, since a model far away may take a while. Before it is written, the
//!   contact is locked and the words are compared: if more was said meanwhile, the next turn reads it all.
//! - What a person has confirmed stays. Everything else that is extracted is replaced by what the words say now.

use catalog::store::pg::fault;
use catalog::store::{audit, events};
use catalog::{Clock, Fault, Result};
use chrono::{DateTime, TimeDelta, Utc};
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};
use sqlx::postgres::PgConnection;
use sqlx::{FromRow, PgPool, Row};
use transforms::text::{Conversation, Embedded, Enricher, Enrichment, Message, Role, Wishes};
use uuid::Uuid;

use super::model::Contact;
use super::said::Interaction;
use super::store;

const WHAT: &str = "cannot enrich contacts";
/// Contacts that are claimed at once.
const GROUP: i64 = 50;
/// How long a claim holds; a model far away has less time than that.
const CLAIM: TimeDelta = TimeDelta::minutes(10);
/// The latest messages of a contact that are read.
const MOST_MESSAGES: i64 = 2_000;
/// A score is computed anew at least this often, because recency fades without anybody doing anything.
const SCORE_HOLDS: TimeDelta = TimeDelta::days(1);
/// Scores that fade in one turn.
const FADING: i64 = 500;
/// The longest wish that a person may confirm, in bytes of its JSON.
const LONGEST_WISH: usize = 4_000;
/// Less sure than this is not written to the contact's preferences.
const SURE: f64 = 0.5;

/// What a turn did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Turn {
    /// Contacts that were read anew.
    pub read: usize,
    /// Scores that were computed.
    pub scored: usize,
}

/// Reads and scores what is marked, then lets old scores fade. Two at once share the work.
///
/// # Errors
/// When the database fails. What is left stays marked for the next turn.
pub async fn turn(pool: &PgPool, enricher: &dyn Enricher, clock: &dyn Clock) -> Result<Turn> {
    let mut all = Turn::default();
    loop {
        let claimed = claim(pool, clock.now()).await?;
        if claimed.is_empty() {
            break;
        }
        for (contact, marks) in claimed {
            let read = one(pool, enricher, clock, contact, &marks).await?;
            all.read += usize::from(read);
            all.scored += 1;
        }
    }
    let now = clock.now();
    let old: Vec<Uuid> =
        sqlx::query_scalar("select contact_id from sync.lead_scores where scored_at < $1 order by scored_at limit $2")
            .bind(now - SCORE_HOLDS)
            .bind(FADING)
            .fetch_all(pool)
            .await
            .map_err(|e| fault(WHAT, e))?;
    if !old.is_empty() {
        let mut tx = pool.begin().await.map_err(|e| fault(WHAT, e))?;
        all.scored += score(&mut tx, &old, now).await?;
        // One that was merged away has no score of its own.
        sqlx::query(
            "delete from sync.lead_scores s using sync.contacts c where c.id = s.contact_id and c.merged_into is not null \
             and s.contact_id = any($1)",
        )
        .bind(&old)
        .execute(&mut *tx)
        .await
        .map_err(|e| fault(WHAT, e))?;
        tx.commit().await.map_err(|e| fault(WHAT, e))?;
    }
    Ok(all)
}

async fn claim(pool: &PgPool, now: DateTime<Utc>) -> Result<Vec<(Uuid, Vec<i64>)>> {
    // Asked every few seconds; most of the time there is nothing.
    let rows = sqlx::query(
        "with due as (select contact_id from (select contact_id, id from ops.unenriched \
           where claimed_until is null or claimed_until <= $1 order by id limit $3 for update skip locked) marked group by contact_id) \
         update ops.unenriched u set claimed_until = $2 from due \
         where u.contact_id = due.contact_id and (u.claimed_until is null or u.claimed_until <= $1) returning u.contact_id, u.id",
    )
    .bind(now)
    .bind(now + CLAIM)
    .bind(GROUP)
    .fetch_all(pool)
    .await
    .map_err(|e| fault(WHAT, e))?;
    let mut claimed: std::collections::BTreeMap<Uuid, Vec<i64>> = std::collections::BTreeMap::new();
    for row in rows {
        claimed.entry(row.get("contact_id")).or_default().push(row.get("id"));
    }
    Ok(claimed.into_iter().collect())
}

#[derive(Debug, Clone, PartialEq, FromRow)]
struct Said {
    direction: String,
    message: String,
    at: DateTime<Utc>,
}

async fn said(connection: &mut PgConnection, contact: Uuid) -> Result<Vec<Said>> {
    sqlx::query_as(
        "select direction, message, at from (select id, direction, message, at from sync.interactions \
         where contact_id = $1 and message is not null and kind <> 'note' order by at desc, id desc limit $2) latest order by at, id",
    )
    .bind(contact)
    .bind(MOST_MESSAGES)
    .fetch_all(connection)
    .await
    .map_err(|e| fault("cannot read what was said", e))
}

/// A hash of what was said, by whom and when.
fn content(contact: Uuid, said: &[Said]) -> String {
    let mut hash = Sha256::new();
    hash.update(contact.as_bytes());
    for s in said {
        hash.update(s.at.timestamp_micros().to_le_bytes());
        hash.update(s.direction.as_bytes());
        hash.update((s.message.len() as u64).to_le_bytes());
        hash.update(s.message.as_bytes());
    }
    hash.finalize().iter().take(16).fold(String::new(), |text, byte| format!("{text}{byte:02x}"))
}

async fn conversation(connection: &mut PgConnection, property: &str, said: &[Said]) -> Result<Conversation> {
    let zone: Option<Option<String>> =
        sqlx::query_scalar("select time_zone from core.properties where property_id = $1 and deleted_at is null")
            .bind(property)
            .fetch_optional(connection)
            .await
            .map_err(|e| fault("cannot read a property's time zone", e))?;
    let message = |s: &Said| Message {
        role: if s.direction == "out" { Role::Agent } else { Role::Renter },
        at: Some(s.at),
        text: s.message.clone(),
    };
    Ok(Conversation { messages: said.iter().map(message).collect(), zone: zone.flatten().and_then(|z| z.parse().ok()) })
}

/// Reads and scores one contact. Says whether its words were new.
async fn one(pool: &PgPool, enricher: &dyn Enricher, clock: &dyn Clock, id: Uuid, marks: &[i64]) -> Result<bool> {
    let mut connection = pool.acquire().await.map_err(|e| fault(WHAT, e))?;
    let found = store::many(&mut connection, &[id]).await?.into_iter().next();
    let Some(contact) = found.filter(|c| c.merged_into.is_none()) else {
        // Gone, or merged away: its messages were marked again when they moved.
        sqlx::query("delete from sync.lead_scores where contact_id = $1")
            .bind(id)
            .execute(&mut *connection)
            .await
            .map_err(|e| fault(WHAT, e))?;
        return unmark(&mut connection, marks).await.map(|()| false);
    };
    let words = said(&mut connection, id).await?;
    let hash = content(id, &words);
    let known: bool = sqlx::query_scalar(
        "select exists (select from sync.contact_enrichment_log where contact_id = $1 and content = $2)",
    )
    .bind(id)
    .bind(&hash)
    .fetch_one(&mut *connection)
    .await
    .map_err(|e| fault(WHAT, e))?;
    let conversation = conversation(&mut connection, &contact.property_id, &words).await?;
    drop(connection);
    let current = contact.enrichment["content"].as_str() == Some(&hash);
    let enrichment = match words.is_empty() || (known && current) {
        true => None,
        false => Some(enricher.enrich(&conversation).await?),
    };
    let mut tx = pool.begin().await.map_err(|e| fault(WHAT, e))?;
    let now = clock.now();
    let before = store::lock(&mut tx, id).await?;
    if before.id != id || content(id, &said(&mut tx, id).await?) != hash {
        // More was said, or the contact was merged, while we read: there are new marks, and these are not to be forgotten.
        sqlx::query("update ops.unenriched set claimed_until = null where id = any($1)")
            .bind(marks)
            .execute(&mut *tx)
            .await
            .map_err(|e| fault(WHAT, e))?;
        tx.commit().await.map_err(|e| fault(WHAT, e))?;
        return Ok(false);
    }
    let mut after = before.clone();
    if let Some(e) = &enrichment {
        log(&mut tx, id, e, &hash, now).await?;
        after.enrichment = data(e, before.last_interaction, now);
        after.enrichment["content"] = json!(hash);
        learn(&mut after, &e.reading.preferences_extracted);
        sqlx::query("update sync.contacts set enrichment = $2, preferences = $3, updated_at = $4 where id = $1")
            .bind(id)
            .bind(&after.enrichment)
            .bind(&after.preferences)
            .bind(now)
            .execute(&mut *tx)
            .await
            .map_err(|e| fault(WHAT, e))?;
    }
    score(&mut tx, &[id], now).await?;
    if let Some(scored) = store::many(&mut tx, &[id]).await?.into_iter().next() {
        tell(&mut tx, &before, &after, &scored, now).await?;
    }
    unmark(&mut tx, marks).await?;
    tx.commit().await.map_err(|e| fault(WHAT, e))?;
    Ok(enrichment.is_some())
}

/// Audit row and event, if a reader can see a difference. The version stays: nobody's own change is overtaken by a reading.
async fn tell(
    tx: &mut PgConnection,
    before: &Contact,
    after: &Contact,
    scored: &Contact,
    now: DateTime<Utc>,
) -> Result<()> {
    let mut changed = Vec::new();
    if before.enrichment != after.enrichment {
        changed.push("enrichment");
    }
    if before.preferences != after.preferences {
        changed.push("preferences");
    }
    if before.lead_score != scored.lead_score {
        changed.push("lead_score");
    }
    if changed.is_empty() {
        return Ok(());
    }
    let pick = |c: &Contact, score: &Contact| json!({ "preferences": c.preferences, "lead_score": score.lead_score });
    let entry = audit::Entry {
        actor: "enrichment",
        action: "contact_enrich",
        subject: &format!("contact {}", before.id),
        before: Some(pick(before, before)),
        after: Some(pick(after, scored)),
        reason: Some("conversation"),
    };
    audit::write(&mut *tx, &entry).await?;
    // Last, because the lock of the events is short.
    events::append(tx, &[store::event("enriched", scored, &changed)], now).await?;
    Ok(())
}

async fn unmark(connection: &mut PgConnection, marks: &[i64]) -> Result<()> {
    sqlx::query("delete from ops.unenriched where id = any($1)")
        .bind(marks)
        .execute(connection)
        .await
        .map(|_| ())
        .map_err(|e| fault(WHAT, e))
}

/// The rows of the log: one of each kind, once for the same words.
async fn log(tx: &mut PgConnection, id: Uuid, e: &Enrichment, content: &str, now: DateTime<Utc>) -> Result<()> {
    let reading = &e.reading;
    let kinds = [
        (
            "conversation_data",
            json!({ "conversation_summary": reading.conversation_summary, "key_topics": reading.key_topics,
                "sentiment_analysis": reading.sentiment_analysis }),
        ),
        ("preferences", json!(reading.preferences_extracted)),
        ("interaction_history", json!(e.pattern)),
    ];
    for (kind, data) in kinds {
        sqlx::query(
            "insert into sync.contact_enrichment_log (id, contact_id, enrichment_type, enriched_data, source, content, reader, fallback, \
             created_at) values ($1, $2, $3, $4, 'chatbot', $5, $6, $7, $8) \
             on conflict (contact_id, enrichment_type, content) where content is not null do nothing",
        )
        .bind(Uuid::now_v7())
        .bind(id)
        .bind(kind)
        .bind(data)
        .bind(content)
        .bind(&e.reader)
        .bind(&e.fallback)
        .bind(now)
        .execute(&mut *tx)
        .await
        .map_err(|e| fault("cannot write the enrichment log", e))?;
    }
    Ok(())
}

/// What a contact shows as its enrichment.
fn data(e: &Enrichment, last: Option<DateTime<Utc>>, now: DateTime<Utc>) -> Value {
    json!({
        "conversation_summary": e.reading.conversation_summary,
        "key_topics": e.reading.key_topics,
        "sentiment_analysis": e.reading.sentiment_analysis,
        "interaction_patterns": e.pattern,
        "preferences_extracted": e.reading.preferences_extracted,
        "last_interaction": last,
        "last_enriched": now,
        "reader": e.reader,
    })
}

/// What one message says, for the answer to the request that brings it. The turn reads it again with all the others.
pub(super) fn at_once(interaction: Option<&Interaction>, region: &str, now: DateTime<Utc>) -> Value {
    let Some((i, text)) = interaction.and_then(|i| Some((i, i.message.clone()?))).filter(|(i, _)| i.kind != "note")
    else {
        return json!({});
    };
    let role = if i.direction == "out" { Role::Agent } else { Role::Renter };
    let conversation = Conversation { messages: vec![Message { role, at: Some(i.at), text }], zone: None };
    data(&Embedded::new(region).read(&conversation), Some(i.at), now)
}

/// The wishes that a person may confirm.
pub const WISHES: [&str; 11] = [
    "move_in",
    "budget",
    "bedrooms",
    "bathrooms",
    "square_feet",
    "floor",
    "pets",
    "lease_months",
    "areas",
    "near",
    "amenities",
];

/// Writes wishes to the contact's preferences, but for those that a person has confirmed.
fn learn(contact: &mut Contact, wishes: &Wishes) {
    if !contact.preferences.is_object() {
        contact.preferences = json!({});
    }
    let mut kept: Map<String, Value> = contact.preferences["wishes"].as_object().cloned().unwrap_or_default();
    kept.retain(|_, wish| wish["confirmed"] == true);
    let mut put = |name: &str, value: Value, confidence: f64| {
        if confidence >= SURE && !kept.contains_key(name) {
            kept.insert(name.to_owned(), json!({ "value": value, "source": "conversation", "confidence": confidence }));
        }
    };
    macro_rules! single {
        ($($field:ident),*) => {$(
            if let Some(found) = &wishes.$field {
                put(stringify!($field), json!(found.value), found.confidence);
            }
        )*};
    }
    single!(move_in, budget, bedrooms, bathrooms, square_feet, floor, pets, lease_months);
    for (name, list) in [("areas", &wishes.areas), ("near", &wishes.near)] {
        if let Some(sure) = list.iter().map(|f| f.confidence).reduce(f64::min) {
            put(name, json!(list.iter().map(|f| &f.value).collect::<Vec<_>>()), sure);
        }
    }
    if let Some(sure) = wishes.amenities.iter().map(|f| f.confidence).reduce(f64::min) {
        put("amenities", json!(wishes.amenities.iter().map(|f| &f.value).collect::<Vec<_>>()), sure);
    }
    if kept.is_empty() {
        contact.preferences.as_object_mut().map(|p| p.remove("wishes"));
    } else {
        contact.preferences["wishes"] = Value::Object(kept);
    }
}

/// Sets what a person has confirmed; null takes a confirmation back.
pub(super) fn confirm(contact: &mut Contact, wishes: &Map<String, Value>) {
    let mut kept: Map<String, Value> = contact.preferences["wishes"].as_object().cloned().unwrap_or_default();
    for (name, value) in wishes {
        if value.is_null() {
            kept.remove(name);
        } else {
            kept.insert(
                name.clone(),
                json!({ "value": value, "source": "person", "confirmed": true, "confidence": 1.0 }),
            );
        }
    }
    contact.preferences["wishes"] = Value::Object(kept);
}

/// Whether a text in a value holds what PostgreSQL has no place for.
fn holds_nul(value: &Value) -> bool {
    match value {
        Value::String(text) => text.contains('\0'),
        Value::Array(items) => items.iter().any(holds_nul),
        Value::Object(map) => map.iter().any(|(key, value)| key.contains('\0') || holds_nul(value)),
        _ => false,
    }
}

/// Checks what somebody wants to confirm: known names, and values of modest length that the score can read.
pub(super) fn check(wishes: &Map<String, Value>) -> Result<()> {
    for (name, value) in wishes.iter().filter(|(_, v)| !v.is_null()) {
        let mut whole = Map::new();
        let single = !["areas", "near", "amenities"].contains(&name.as_str());
        let found = |value: &Value| json!({ "value": value, "message": 0, "words": "", "confidence": 1.0 });
        let value = match value.as_array().filter(|_| !single) {
            Some(list) => Value::Array(list.iter().map(found).collect()),
            None => found(value),
        };
        let fits = value.to_string().len() <= LONGEST_WISH && !holds_nul(&value);
        whole.insert(name.clone(), value);
        let reads = fits && serde_json::from_value::<Wishes>(Value::Object(whole)).is_ok();
        if !WISHES.contains(&name.as_str()) || !reads {
            return Err(Fault::user("`preferences.wishes` holds a wish of no known name or form").hint(format!(
                "Names are {}; values have the form that `preferences_extracted` shows.",
                WISHES.join(", ")
            )));
        }
    }
    Ok(())
}

/// Scores contacts. Gives how many.
pub(super) async fn score(connection: &mut PgConnection, ids: &[Uuid], now: DateTime<Utc>) -> Result<usize> {
    let rows = sqlx::query(include_str!("lead_score.sql"))
        .bind(ids)
        .bind(now)
        .fetch_all(connection)
        .await
        .map_err(|e| fault("cannot score leads", e))?;
    Ok(rows.len())
}
