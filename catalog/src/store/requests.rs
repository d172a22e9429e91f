//! Requests that named themselves, and what was answered: a repeated one changes nothing.

use chrono::{DateTime, TimeDelta, Utc};
use sqlx::{PgPool, Row};
use uuid::Uuid;

use super::pg::fault;
use crate::Result;

/// A request that is under way for longer than this is taken for lost with its process.
const LOST_AFTER: TimeDelta = TimeDelta::seconds(90);

/// An answer that was given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// Its status.
    pub status: u16,
    /// Its `Content-Type`.
    pub content_type: Option<String>,
    /// Its body.
    pub body: Vec<u8>,
}

/// What is known of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Known {
    /// Nothing: it is the first, and the caller must end it with [`answered`] or [`forget`].
    New,
    /// The same key was used for another request.
    Other,
    /// The first one has not been answered yet.
    UnderWay,
    /// It was answered.
    Answered(Answer),
}

/// Begins a request, or says what became of it.
pub async fn begin(pool: &PgPool, caller: Uuid, key: &str, fingerprint: &[u8], now: DateTime<Utc>) -> Result<Known> {
    let what = "cannot look up a repeated request";
    let begun = sqlx::query(
        "insert into ops.requests as r (caller, key, fingerprint, created_at) values ($1, $2, $3, $4) \
         on conflict (caller, key) do update set created_at = excluded.created_at, updated_at = now() \
         where r.status is null and r.fingerprint = excluded.fingerprint and r.created_at < $5",
    )
    .bind(caller)
    .bind(key)
    .bind(fingerprint)
    .bind(now)
    .bind(now - LOST_AFTER)
    .execute(pool)
    .await
    .map_err(|e| fault(what, e))?;
    if begun.rows_affected() == 1 {
        return Ok(Known::New);
    }
    let row =
        sqlx::query("select fingerprint, status, content_type, body from ops.requests where caller = $1 and key = $2")
            .bind(caller)
            .bind(key)
            .fetch_optional(pool)
            .await
            .map_err(|e| fault(what, e))?;
    // Gone in between: its first try has just failed, and whoever asks again finds the place free.
    let Some(row) = row else { return Ok(Known::UnderWay) };
    if row.get::<Vec<u8>, _>("fingerprint") != fingerprint {
        return Ok(Known::Other);
    }
    Ok(match row.get::<Option<i16>, _>("status") {
        None => Known::UnderWay,
        Some(status) => Known::Answered(Answer {
            status: u16::try_from(status).unwrap_or(500),
            content_type: row.get("content_type"),
            body: row.get::<Option<Vec<u8>>, _>("body").unwrap_or_default(),
        }),
    })
}

/// Keeps the answer to a request.
pub async fn answered(pool: &PgPool, caller: Uuid, key: &str, answer: &Answer) -> Result<()> {
    sqlx::query(
        "update ops.requests set status = $3, content_type = $4, body = $5, updated_at = now() where caller = $1 and key = $2",
    )
    .bind(caller)
    .bind(key)
    .bind(i16::try_from(answer.status).unwrap_or(500))
    .bind(&answer.content_type)
    .bind(&answer.body)
    .execute(pool)
    .await
    .map_err(|e| fault("cannot keep the answer to a request", e))?;
    Ok(())
}

/// Forgets a request that changed nothing, so that it may be tried again.
pub async fn forget(pool: &PgPool, caller: Uuid, key: &str) -> Result<()> {
    sqlx::query("delete from ops.requests where caller = $1 and key = $2 and status is null")
        .bind(caller)
        .bind(key)
        .execute(pool)
        .await
        .map_err(|e| fault("cannot forget a request", e))?;
    Ok(())
}

/// Removes requests that are older than a time. Gives how many went.
pub async fn prune(pool: &PgPool, before: DateTime<Utc>) -> Result<u64> {
    let gone = sqlx::query("delete from ops.requests where created_at < $1")
        .bind(before)
        .execute(pool)
        .await
        .map_err(|e| fault("cannot remove old requests", e))?;
    Ok(gone.rows_affected())
}
