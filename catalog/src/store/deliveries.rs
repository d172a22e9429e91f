//! Deliveries of webhooks: kept as they came, worked off in order, listed, run again.
//!
//! A delivery is `received` until a batch has taken it to its end. A batch is a *claim*: a name that is written on its
//! rows before anything is done with them, so that a batch whose process was killed is taken up again with the very
//! same rows, under the same name.

use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::Value;
use sqlx::postgres::PgRow;
use sqlx::{PgConnection, PgPool, Row};
use uuid::Uuid;

use super::pg::fault;
use crate::Result;

/// How many deliveries one batch takes at most.
pub const BATCH: i64 = 500;
/// How many bytes of bodies one batch takes at most, unless its first delivery is larger.
pub const BATCH_BYTES: i64 = 16 << 20;
/// After this many failures a delivery is tried alone, so that it cannot take others down with it.
pub const ALONE_AFTER: i32 = 3;

/// Where a delivery stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// It is durable and waits for its turn.
    Received,
    /// What it says has been loaded.
    Processed,
    /// It says nothing that matters here.
    Ignored,
    /// It was given up; the reason says why.
    Failed,
    /// It was not taken; the reason says why.
    Refused,
}

impl State {
    /// All of them.
    pub const ALL: [State; 5] = [State::Received, State::Processed, State::Ignored, State::Failed, State::Refused];

    /// The stored word.
    pub fn as_str(self) -> &'static str {
        match self {
            State::Received => "received",
            State::Processed => "processed",
            State::Ignored => "ignored",
            State::Failed => "failed",
            State::Refused => "refused",
        }
    }

    /// The state of a stored word.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|s| s.as_str() == text)
    }
}

/// A delivery to be kept.
#[derive(Debug, Clone)]
pub struct NewDelivery {
    /// The connector that understands it.
    pub connector: String,
    /// The connection that it came in for.
    pub connection: String,
    /// The sender's id of it.
    pub delivery_id: String,
    /// The sender's word for what happened.
    pub event: String,
    /// [`State::Received`] or [`State::Refused`].
    pub state: State,
    /// Headers that say what it is.
    pub headers: Value,
    /// Its body.
    pub body: bytes::Bytes,
    /// When it came.
    pub received_at: DateTime<Utc>,
    /// Why it was refused.
    pub reason: Option<String>,
}

/// A delivery as it is kept, without its body.
#[derive(Debug, Clone, Serialize)]
pub struct Kept {
    /// Its number here; later ones are larger.
    pub id: i64,
    /// The connector.
    pub connector: String,
    /// The connection.
    pub connection: String,
    /// The sender's id of it.
    pub delivery_id: String,
    /// The sender's word for what happened.
    pub event: String,
    /// Where it stands.
    pub state: State,
    /// How often it was tried in vain.
    pub attempts: i32,
    /// Why it was refused, ignored or given up, or why it has to wait.
    pub reason: Option<String>,
    /// The run that loaded it.
    pub run_id: Option<Uuid>,
    /// When it came.
    pub received_at: DateTime<Utc>,
    /// When it reached its end.
    pub processed_at: Option<DateTime<Utc>>,
    /// The size of its body.
    pub body_bytes: i64,
}

const KEPT: &str = "id, connector, connection, delivery_id, event, state, attempts, reason, run_id, received_at, processed_at, \
                    length(body)::bigint as body_bytes";

fn kept(row: &PgRow) -> Kept {
    Kept {
        id: row.get("id"),
        connector: row.get("connector"),
        connection: row.get("connection"),
        delivery_id: row.get("delivery_id"),
        event: row.get("event"),
        state: State::parse(row.get("state")).unwrap_or(State::Failed),
        attempts: row.get("attempts"),
        reason: row.get("reason"),
        run_id: row.get("run_id"),
        received_at: row.get("received_at"),
        processed_at: row.get("processed_at"),
        body_bytes: row.get("body_bytes"),
    }
}

/// A delivery with all that came.
#[derive(Debug, Clone)]
pub struct Whole {
    /// What is known about it.
    pub kept: Kept,
    /// Its headers, as far as they were kept.
    pub headers: Value,
    /// Its body.
    pub body: Vec<u8>,
}

fn whole(row: &PgRow) -> Whole {
    Whole { kept: kept(row), headers: row.get("headers"), body: row.get("body") }
}

/// Keeps deliveries, all in one statement and so in one commit. Says of each whether it is new: one whose sender, id and
/// connection are known, refused ones apart, is not kept again.
pub async fn append(connection: &mut PgConnection, deliveries: &[NewDelivery]) -> Result<Vec<bool>> {
    let column = |value: fn(&NewDelivery) -> &str| deliveries.iter().map(value).collect::<Vec<&str>>();
    let rows = sqlx::query(
        "insert into ops.deliveries \
           (connector, connection, delivery_id, event, state, headers, body, received_at, reason, next_at) \
         select d.*, d.received_at from unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::jsonb[], \
           $7::bytea[], $8::timestamptz[], $9::text[]) \
           as d (connector, connection, delivery_id, event, state, headers, body, received_at, reason) \
         on conflict do nothing returning connector, connection, delivery_id",
    )
    .bind(column(|d| &d.connector))
    .bind(column(|d| &d.connection))
    .bind(column(|d| &d.delivery_id))
    .bind(column(|d| &d.event))
    .bind(column(|d| d.state.as_str()))
    .bind(deliveries.iter().map(|d| &d.headers).collect::<Vec<_>>())
    .bind(deliveries.iter().map(|d| &*d.body).collect::<Vec<&[u8]>>())
    .bind(deliveries.iter().map(|d| d.received_at).collect::<Vec<_>>())
    .bind(deliveries.iter().map(|d| d.reason.as_deref()).collect::<Vec<_>>())
    .fetch_all(connection)
    .await
    .map_err(|e| fault("cannot keep a delivery", e))?;
    if rows.len() == deliveries.len() {
        return Ok(vec![true; deliveries.len()]);
    }
    // Of equal ones in one statement only the first is new.
    let mut new: std::collections::HashSet<(String, String, String)> =
        rows.iter().map(|r| (r.get(0), r.get(1), r.get(2))).collect();
    Ok(deliveries
        .iter()
        .map(|d| {
            d.state == State::Refused || new.remove(&(d.connector.clone(), d.connection.clone(), d.delivery_id.clone()))
        })
        .collect())
}

/// Connections with deliveries that are due, as connector and connection.
pub async fn due(pool: &PgPool, now: DateTime<Utc>) -> Result<Vec<(String, String)>> {
    sqlx::query_as(
        "select distinct connector, connection from ops.deliveries where state = 'received' and (claim is not null or next_at <= $1)",
    )
    .bind(now)
    .fetch_all(pool)
    .await
    .map_err(|e| fault("cannot see which deliveries wait", e))
}

/// When the next delivery of a connection is due, if any waits.
pub async fn next_due(pool: &PgPool, connector: &str, connection: &str) -> Result<Option<DateTime<Utc>>> {
    sqlx::query_scalar(
        "select min(next_at) from ops.deliveries where state = 'received' and connector = $1 and connection = $2",
    )
    .bind(connector)
    .bind(connection)
    .fetch_one(pool)
    .await
    .map_err(|e| fault("cannot see which deliveries wait", e))
}

/// A batch of deliveries of one connection, oldest first.
#[derive(Debug)]
pub struct Claim {
    /// Its name.
    pub id: Uuid,
    /// Its deliveries.
    pub deliveries: Vec<Whole>,
}

/// Takes the next batch of a connection: the one whose process was killed, if there is one, else the oldest that are due.
/// One job at a time may do this for a connection.
pub async fn claim(pool: &PgPool, connector: &str, connection: &str, now: DateTime<Utc>) -> Result<Option<Claim>> {
    let what = "cannot take deliveries";
    let left: Option<Uuid> = sqlx::query_scalar(
        "select claim from ops.deliveries where state = 'received' and connector = $1 and connection = $2 \
         and claim is not null order by id limit 1",
    )
    .bind(connector)
    .bind(connection)
    .fetch_optional(pool)
    .await
    .map_err(|e| fault(what, e))?;
    let id = match left {
        Some(id) => id,
        None => {
            let id = Uuid::now_v7();
            let taken = sqlx::query(
                "update ops.deliveries d set claim = $3, updated_at = now() from ( \
                   select id, row_number() over w as place, sum(length(body)) over w as bytes, \
                     first_value(attempts >= $6) over w or attempts >= $6 as alone \
                   from (select id, body, attempts from ops.deliveries \
                     where state = 'received' and connector = $1 and connection = $2 and next_at <= $4 \
                     order by id limit $5) waiting \
                   window w as (order by id)) first \
                 where d.id = first.id and (first.place = 1 or (first.bytes <= $7 and not first.alone))",
            )
            .bind(connector)
            .bind(connection)
            .bind(id)
            .bind(now)
            .bind(BATCH)
            .bind(ALONE_AFTER)
            .bind(BATCH_BYTES)
            .execute(pool)
            .await
            .map_err(|e| fault(what, e))?
            .rows_affected();
            if taken == 0 {
                return Ok(None);
            }
            id
        }
    };
    let rows = sqlx::query(sqlx::AssertSqlSafe(format!(
        "select {KEPT}, headers, body from ops.deliveries where claim = $3 and state = 'received' \
         and connector = $1 and connection = $2 order by id"
    )))
    .bind(connector)
    .bind(connection)
    .bind(id)
    .fetch_all(pool)
    .await
    .map_err(|e| fault(what, e))?;
    Ok(Some(Claim { id, deliveries: rows.iter().map(whole).collect() }))
}

/// Ends deliveries of a batch: processed by a run, ignored or failed.
pub async fn settle(
    connection: &mut PgConnection,
    ids: &[i64],
    state: State,
    run: Option<Uuid>,
    reason: Option<&str>,
) -> Result<()> {
    if ids.is_empty() {
        return Ok(());
    }
    sqlx::query(
        "update ops.deliveries set state = $2, run_id = $3, reason = $4, claim = null, \
         attempts = attempts + case when $2 = 'failed' then 1 else 0 end, \
         processed_at = clock_timestamp(), updated_at = now() where id = any($1) and state = 'received'",
    )
    .bind(ids)
    .bind(state.as_str())
    .bind(run)
    .bind(reason)
    .execute(connection)
    .await
    .map_err(|e| fault("cannot end a delivery", e))?;
    Ok(())
}

/// Puts deliveries of a batch back, to be tried again not before a time. With `alone` each gets a batch of its own.
pub async fn put_back(
    connection: &mut PgConnection,
    ids: &[i64],
    next_at: DateTime<Utc>,
    alone: bool,
    reason: &str,
) -> Result<()> {
    sqlx::query(
        "update ops.deliveries set claim = null, next_at = $2, reason = $4, updated_at = now(), \
         attempts = case when $3 then greatest(attempts + 1, $5) else attempts + 1 end \
         where id = any($1) and state = 'received'",
    )
    .bind(ids)
    .bind(next_at)
    .bind(alone)
    .bind(reason)
    .bind(ALONE_AFTER)
    .execute(connection)
    .await
    .map_err(|e| fault("cannot put deliveries back", e))?;
    Ok(())
}

/// Which deliveries are meant.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// Only this one.
    pub id: Option<i64>,
    /// Only of this state.
    pub state: Option<State>,
    /// Only of this connection.
    pub connection: Option<String>,
    /// Only those that came at this time or later.
    pub since: Option<DateTime<Utc>>,
    /// Only those before this number.
    pub before: Option<i64>,
}

/// Deliveries, newest first.
pub async fn list(pool: &PgPool, filter: &Filter, limit: i64) -> Result<Vec<Kept>> {
    let rows = sqlx::query(sqlx::AssertSqlSafe(format!(
        "select {KEPT} from ops.deliveries where ($1::bigint is null or id = $1) and ($2::text is null or state = $2) \
         and ($3::text is null or connection = $3) and ($4::timestamptz is null or received_at >= $4) \
         and ($5::bigint is null or id < $5) order by id desc limit $6"
    )))
    .bind(filter.id)
    .bind(filter.state.map(State::as_str))
    .bind(&filter.connection)
    .bind(filter.since)
    .bind(filter.before)
    .bind(limit)
    .fetch_all(pool)
    .await
    .map_err(|e| fault("cannot list the deliveries", e))?;
    Ok(rows.iter().map(kept).collect())
}

/// One delivery with all that came.
pub async fn find(pool: &PgPool, id: i64) -> Result<Option<Whole>> {
    let row =
        sqlx::query(sqlx::AssertSqlSafe(format!("select {KEPT}, headers, body from ops.deliveries where id = $1")))
            .bind(id)
            .fetch_optional(pool)
            .await
            .map_err(|e| fault("cannot read a delivery", e))?;
    Ok(row.as_ref().map(whole))
}

/// Puts deliveries back to be processed once more, with all their tries. Refused ones stay refused: nobody knows who sent
/// them. Those that wait already are left alone. Gives the connections that have something to do, and how many.
pub async fn replay(connection: &mut PgConnection, filter: &Filter) -> Result<Vec<(String, String, i64)>> {
    sqlx::query_as(
        "with again as (update ops.deliveries set state = 'received', attempts = 0, next_at = to_timestamp(0), claim = null, \
           run_id = null, reason = null, processed_at = null, updated_at = now() \
         where state not in ('refused', 'received') and ($1::bigint is null or id = $1) \
           and ($2::text is null or state = $2) and ($3::text is null or connection = $3) \
           and ($4::timestamptz is null or received_at >= $4) returning connector, connection) \
         select connector, connection, count(*) from again group by 1, 2 order by 1, 2",
    )
    .bind(filter.id)
    .bind(filter.state.map(State::as_str))
    .bind(&filter.connection)
    .bind(filter.since)
    .fetch_all(connection)
    .await
    .map_err(|e| fault("cannot put deliveries back", e))
}

/// Removes deliveries that came before a time, in whatever state: their bodies are personal data. At most ten thousand a
/// call, so that the table is never locked for long. Gives how many went.
pub async fn prune(pool: &PgPool, before: DateTime<Utc>) -> Result<u64> {
    let gone = sqlx::query(
        "delete from ops.deliveries where id in ( \
           select id from ops.deliveries where received_at < $1 order by received_at limit 10000)",
    )
    .bind(before)
    .execute(pool)
    .await
    .map_err(|e| fault("cannot remove old deliveries", e))?;
    Ok(gone.rows_affected())
}

/// How many deliveries of each connection wait or were given up, and how many were refused: connector, connection, state,
/// count. A refused one may name a connection that somebody made up, so those are not told apart.
pub async fn open(pool: &PgPool) -> Result<Vec<(String, String, String, i64)>> {
    sqlx::query_as(
        "select connector, connection, state, count(*) from ops.deliveries \
         where state = 'received' or state = 'failed' group by 1, 2, 3 \
         union all select '', '', 'refused', count(*) from ops.deliveries where state = 'refused' order by 1, 2, 3",
    )
    .fetch_all(pool)
    .await
    .map_err(|e| fault("cannot count the deliveries", e))
}
