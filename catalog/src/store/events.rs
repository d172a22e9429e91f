//! What has changed, in one order for everyone who listens.
//!
//! [`append`] takes numbers from a row that stays locked until the caller's transaction ends, so numbers become visible in
//! their order, without gaps: a listener that has seen a number has seen all before it. Append last in a transaction, so
//! that the lock is short.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sqlx::postgres::PgConnection;
use sqlx::{PgPool, Row};

use super::pg::fault;
use crate::Result;

/// The channel on which new events are announced; the payload is the newest number.
pub const ANNOUNCED: &str = "propflow_events";

/// Something that changed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// What it belongs to: `contacts`, `bookings`, `conflicts`, ….
    pub topic: String,
    /// The property that it concerns.
    pub property_id: Option<String>,
    /// What happened: `created`, `updated`, `merged`, ….
    pub kind: String,
    /// The row's key.
    pub key: String,
    /// The row's version behind the change.
    pub version: i64,
    /// What a listener is told; never more than its topic's readers may see.
    pub data: Value,
}

/// An event with its place and time.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Numbered {
    /// Its number: 1, 2, 3, ….
    pub seq: i64,
    /// What happened.
    #[serde(flatten)]
    pub event: Event,
    /// When.
    pub at: DateTime<Utc>,
}

/// Appends events in the caller's transaction and announces them with its commit. Gives the newest number.
pub async fn append(connection: &mut PgConnection, events: &[Event], now: DateTime<Utc>) -> Result<i64> {
    let what = "cannot append events";
    let count = i64::try_from(events.len()).unwrap_or(i64::MAX);
    let last: i64 = sqlx::query_scalar("update sync.events_head set seq = seq + $1 returning seq")
        .bind(count)
        .fetch_one(&mut *connection)
        .await
        .map_err(|e| fault(what, e))?;
    for (seq, event) in (last - count + 1..).zip(events) {
        sqlx::query(
            "insert into sync.events (seq, topic, property_id, kind, key, version, data, created_at) \
             values ($1, $2, $3, $4, $5, $6, $7, $8)",
        )
        .bind(seq)
        .bind(&event.topic)
        .bind(&event.property_id)
        .bind(&event.kind)
        .bind(&event.key)
        .bind(event.version)
        .bind(&event.data)
        .bind(now)
        .execute(&mut *connection)
        .await
        .map_err(|e| fault(what, e))?;
    }
    sqlx::query("select pg_notify($1, $2)")
        .bind(ANNOUNCED)
        .bind(last.to_string())
        .execute(connection)
        .await
        .map_err(|e| fault(what, e))?;
    Ok(last)
}

/// The newest number; 0 before the first event.
pub async fn head(pool: &PgPool) -> Result<i64> {
    sqlx::query_scalar("select seq from sync.events_head")
        .fetch_one(pool)
        .await
        .map_err(|e| fault("cannot read events", e))
}

/// The oldest number that is still kept, or one past the head when none is.
pub async fn oldest(pool: &PgPool) -> Result<i64> {
    sqlx::query_scalar("select coalesce(min(seq), (select seq + 1 from sync.events_head)) from sync.events")
        .fetch_one(pool)
        .await
        .map_err(|e| fault("cannot read events", e))
}

/// Events behind a number, oldest first.
pub async fn since(pool: &PgPool, seq: i64, limit: i64) -> Result<Vec<Numbered>> {
    let rows = sqlx::query(
        "select seq, topic, property_id, kind, key, version, data, created_at from sync.events where seq > $1 \
         order by seq limit $2",
    )
    .bind(seq)
    .bind(limit)
    .fetch_all(pool)
    .await
    .map_err(|e| fault("cannot read events", e))?;
    Ok(rows
        .iter()
        .map(|row| Numbered {
            seq: row.get("seq"),
            event: Event {
                topic: row.get("topic"),
                property_id: row.get("property_id"),
                kind: row.get("kind"),
                key: row.get("key"),
                version: row.get("version"),
                data: row.get("data"),
            },
            at: row.get("created_at"),
        })
        .collect())
}

/// Removes events from before an instant. Says how many.
pub async fn prune(pool: &PgPool, before: DateTime<Utc>) -> Result<u64> {
    let gone = sqlx::query("delete from sync.events where created_at < $1").bind(before).execute(pool).await;
    Ok(gone.map_err(|e| fault("cannot remove old events", e))?.rows_affected())
}
