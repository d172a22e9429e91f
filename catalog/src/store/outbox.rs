//! The outbox: what has to reach a system outside or a person.
//!
//! [`put`] writes a message in the transaction of the change that caused it. Whoever delivers claims it in a transaction
//! that stays open while the message is under way, so that a process that dies gives it back untouched. Messages of one
//! lane go one after another: only the oldest waiting one can be claimed.

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::Value;
use sqlx::postgres::{PgConnection, PgRow};
use sqlx::{PgPool, Row};

use super::pg::fault;
use crate::{Fault, Result};

/// The channel on which new messages are announced.
pub const ANNOUNCED: &str = "propflow_outbox";

/// A message to be put into the outbox.
#[derive(Debug, Clone)]
pub struct New {
    /// Who delivers it: the courier's name.
    pub courier: String,
    /// The connection whose settings the courier uses.
    pub connection: String,
    /// What it must not overtake: messages of a lane keep their order.
    pub lane: String,
    /// What it is, in the courier's words.
    pub kind: String,
    /// What it says.
    pub payload: Value,
    /// What makes it one of a kind.
    pub dedupe_key: String,
    /// Not before this instant.
    pub run_after: DateTime<Utc>,
}

/// A message under way.
#[derive(Debug, Clone)]
pub struct Message {
    /// Its place in the outbox.
    pub id: i64,
    /// Who delivers it.
    pub courier: String,
    /// The connection.
    pub connection: String,
    /// Its lane.
    pub lane: String,
    /// What it is.
    pub kind: String,
    /// What it says.
    pub payload: Value,
    /// What makes it one of a kind.
    pub dedupe_key: String,
    /// Tries before this one.
    pub attempts: i32,
    /// When it was put there.
    pub created_at: DateTime<Utc>,
}

/// How a try ended.
#[derive(Debug)]
pub enum Verdict {
    /// It arrived; this is what the other side answered.
    Delivered(Option<Value>),
    /// It has to be tried again, and with it the rest of its lane waits.
    Later {
        /// How long to wait.
        after: Duration,
        /// Why.
        fault: Fault,
    },
    /// It cannot arrive. It stays on record and can be replayed; its lane goes on.
    Dead(Fault),
}

/// Puts a message into the outbox, in the caller's transaction. Gives its id, or `None` when its key is known.
pub async fn put(connection: &mut PgConnection, new: &New, now: DateTime<Utc>) -> Result<Option<i64>> {
    sqlx::query_scalar(
        "insert into sync.outbox (courier, connection, lane, kind, payload, dedupe_key, run_after, created_at, updated_at) \
         values ($1, $2, $3, $4, $5, $6, $7, $8, $8) on conflict (dedupe_key) do nothing returning id",
    )
    .bind(&new.courier)
    .bind(&new.connection)
    .bind(&new.lane)
    .bind(&new.kind)
    .bind(&new.payload)
    .bind(&new.dedupe_key)
    .bind(new.run_after)
    .bind(now)
    .fetch_optional(connection)
    .await
    .map_err(|e| fault("cannot write into the outbox", e))
}

/// Takes messages back whose key starts with a prefix and that nobody has delivered. Says how many.
pub async fn withdraw(connection: &mut PgConnection, prefix: &str, reason: &str, now: DateTime<Utc>) -> Result<u64> {
    let gone = sqlx::query(
        "update sync.outbox set state = 'withdrawn', reason = $2, updated_at = $3, settled_at = $3 \
         where starts_with(dedupe_key, $1) and state = 'waiting'",
    )
    .bind(prefix)
    .bind(reason)
    .bind(now)
    .execute(connection)
    .await
    .map_err(|e| fault("cannot take a message back", e))?;
    Ok(gone.rows_affected())
}

/// Claims the message that has waited longest among the oldest of each lane; `only` asks for one by its id. The claim
/// lasts as long as the transaction.
pub async fn claim(connection: &mut PgConnection, now: DateTime<Utc>, only: Option<i64>) -> Result<Option<Message>> {
    let row = sqlx::query(
        "select id, courier, connection, lane, kind, payload, dedupe_key, attempts, created_at from sync.outbox o \
         where state = 'waiting' and run_after <= $1 and ($2::bigint is null or id = $2) \
         and not exists (select from sync.outbox e where e.state = 'waiting' and e.courier = o.courier \
             and e.connection = o.connection and e.lane = o.lane and e.id < o.id) \
         order by run_after, id limit 1 for update skip locked",
    )
    .bind(now)
    .bind(only)
    .fetch_optional(connection)
    .await
    .map_err(|e| fault("cannot read the outbox", e))?;
    Ok(row.map(|row| message(&row)))
}

fn message(row: &PgRow) -> Message {
    Message {
        id: row.get("id"),
        courier: row.get("courier"),
        connection: row.get("connection"),
        lane: row.get("lane"),
        kind: row.get("kind"),
        payload: row.get("payload"),
        dedupe_key: row.get("dedupe_key"),
        attempts: row.get("attempts"),
        created_at: row.get("created_at"),
    }
}

/// Writes down how a try ended, in the transaction of the claim.
pub async fn settle(
    connection: &mut PgConnection,
    message: &Message,
    verdict: &Verdict,
    took: Duration,
    now: DateTime<Utc>,
) -> Result<()> {
    let what = "cannot write into the outbox how a message fared";
    let (state, outcome, fault_of, reply) = match verdict {
        Verdict::Delivered(reply) => ("delivered", "delivered", None, reply.as_ref()),
        Verdict::Later { fault, .. } => ("waiting", "later", Some(fault), None),
        Verdict::Dead(fault) => ("dead", "dead", Some(fault), None),
    };
    let after = if let Verdict::Later { after, .. } = verdict { *after } else { Duration::ZERO };
    let reason = fault_of.map(Fault::chain);
    sqlx::query(
        "update sync.outbox set state = $2, attempts = attempts + 1, reason = $3, hint = $4, reply = $5, \
         run_after = $6 + make_interval(secs => $7), updated_at = $6, \
         settled_at = case when $2 = 'waiting' then null else $6 end where id = $1",
    )
    .bind(message.id)
    .bind(state)
    .bind(&reason)
    .bind(fault_of.and_then(|f| f.hint.as_deref()))
    .bind(reply)
    .bind(now)
    .bind(after.as_secs_f64())
    .execute(&mut *connection)
    .await
    .map_err(|e| fault(what, e))?;
    sqlx::query(
        "insert into sync.outbox_tries (outbox_id, attempt, outcome, reason, took_ms, created_at) \
         values ($1, $2, $3, $4, $5, $6)",
    )
    .bind(message.id)
    .bind(message.attempts + 1)
    .bind(outcome)
    .bind(&reason)
    .bind(i64::try_from(took.as_millis()).unwrap_or(i64::MAX))
    .bind(now)
    .execute(connection)
    .await
    .map_err(|e| fault(what, e))?;
    Ok(())
}

/// When the next message of any lane is due; `None` when nothing waits.
pub async fn next_due(pool: &PgPool) -> Result<Option<DateTime<Utc>>> {
    sqlx::query_scalar("select min(run_after) from sync.outbox where state = 'waiting'")
        .fetch_one(pool)
        .await
        .map_err(|e| fault("cannot read the outbox", e))
}

/// A message as a person sees it: without what it says.
#[derive(Debug, Clone, Serialize)]
pub struct Shown {
    /// Its place in the outbox.
    pub id: i64,
    /// Who delivers it.
    pub courier: String,
    /// The connection.
    pub connection: String,
    /// What it is.
    pub kind: String,
    /// `waiting`, `delivered`, `dead` or `withdrawn`.
    pub state: String,
    /// Tries so far.
    pub attempts: i32,
    /// Why it is not delivered.
    pub reason: Option<String>,
    /// What to do about it.
    pub hint: Option<String>,
    /// When it was put there.
    pub created_at: DateTime<Utc>,
    /// When it is tried next, while it waits.
    pub run_after: DateTime<Utc>,
}

/// Messages, newest first, of one state or of all.
pub async fn list(pool: &PgPool, state: Option<&str>, limit: i64) -> Result<Vec<Shown>> {
    let rows = sqlx::query(
        "select id, courier, connection, kind, state, attempts, reason, hint, created_at, run_after from sync.outbox \
         where $1::text is null or state = $1 order by id desc limit $2",
    )
    .bind(state)
    .bind(limit)
    .fetch_all(pool)
    .await
    .map_err(|e| fault("cannot read the outbox", e))?;
    Ok(rows
        .iter()
        .map(|row| Shown {
            id: row.get("id"),
            courier: row.get("courier"),
            connection: row.get("connection"),
            kind: row.get("kind"),
            state: row.get("state"),
            attempts: row.get("attempts"),
            reason: row.get("reason"),
            hint: row.get("hint"),
            created_at: row.get("created_at"),
            run_after: row.get("run_after"),
        })
        .collect())
}

/// Lets dead messages be tried again: all, or one by its id, which may also be one that waits for its next try. Says how many.
///
/// # Errors
/// When no message of this id is dead or waits.
pub async fn replay(pool: &PgPool, only: Option<i64>, now: DateTime<Utc>) -> Result<u64> {
    let back = sqlx::query(
        "update sync.outbox set state = 'waiting', attempts = 0, run_after = $2, updated_at = $2, settled_at = null \
         where (state = 'dead' and $1::bigint is null) or (state in ('dead', 'waiting') and id = $1)",
    )
    .bind(only)
    .bind(now)
    .execute(pool)
    .await
    .map_err(|e| fault("cannot replay messages", e))?
    .rows_affected();
    sqlx::query("select pg_notify($1, '')")
        .bind(ANNOUNCED)
        .execute(pool)
        .await
        .map_err(|e| fault("cannot announce", e))?;
    match (only, back) {
        (Some(id), 0) => Err(Fault::user(format!("no message `{id}` of the outbox is dead or waits"))
            .hint("`propflow outbox --state dead` and `--state waiting` list them.")),
        _ => Ok(back),
    }
}
