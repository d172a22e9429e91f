//! Runs, slices, cursors, rejects, notes and freshness.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sqlx::postgres::PgConnection;
use sqlx::{PgPool, Row};
use uuid::Uuid;

use super::pg::fault;
use crate::datasets::{bookings, people};
use crate::{Cursor, Fault, Note, Receipt, Reject, Result, Retry, Slice};

/// How a run ended, or that it has not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// Under way, or its process died; the next one resumes it.
    Running,
    /// Everything was loaded.
    Succeeded,
    /// Ended, but a scope could not be read.
    Partial,
    /// Ended by a fault.
    Failed,
    /// Stopped on request at a slice's end; the next one resumes it.
    Stopped,
}

impl Status {
    /// The stored word.
    pub fn as_str(self) -> &'static str {
        match self {
            Status::Running => "running",
            Status::Succeeded => "succeeded",
            Status::Partial => "partial",
            Status::Failed => "failed",
            Status::Stopped => "stopped",
        }
    }

    fn parse(text: &str) -> Self {
        match text {
            "succeeded" => Status::Succeeded,
            "partial" => Status::Partial,
            "failed" => Status::Failed,
            "stopped" => Status::Stopped,
            _ => Status::Running,
        }
    }
}

/// A run as the ledger knows it.
#[derive(Debug, Clone, Serialize)]
pub struct Run {
    /// Its id.
    pub id: Uuid,
    /// The pipeline.
    pub pipeline: String,
    /// Who asked: manual, schedule, backfill, replay, demo.
    pub trigger: String,
    /// What was asked.
    pub request: Value,
    /// Where it stands.
    pub status: Status,
    /// The last checkpoint.
    pub cursor: Option<Cursor>,
    /// The number of the next slice.
    pub next_slice: u32,
    /// Rows read so far.
    pub rows_read: i64,
    /// Rows and values refused so far.
    pub rows_rejected: i64,
    /// Why it failed.
    pub fault: Option<String>,
    /// What to do about it.
    pub hint: Option<String>,
    /// When it began.
    pub created_at: DateTime<Utc>,
    /// When it ended.
    pub finished_at: Option<DateTime<Utc>>,
}

const RUN: &str = "id, pipeline, trigger, request, status, cursor, next_slice, rows_read, rows_rejected, fault, hint, created_at, finished_at";

fn run(row: &sqlx::postgres::PgRow) -> Run {
    Run {
        id: row.get("id"),
        pipeline: row.get("pipeline"),
        trigger: row.get("trigger"),
        request: row.get("request"),
        status: Status::parse(row.get("status")),
        cursor: row.get::<Option<Value>, _>("cursor").map(Cursor),
        next_slice: u32::try_from(row.get::<i32, _>("next_slice")).unwrap_or_default(),
        rows_read: row.get("rows_read"),
        rows_rejected: row.get("rows_rejected"),
        fault: row.get("fault"),
        hint: row.get("hint"),
        created_at: row.get("created_at"),
        finished_at: row.get("finished_at"),
    }
}

/// The newest run of this pipeline and request that was interrupted, if it is not older than `since`: a run that began
/// long ago would mix old rows with new ones.
pub async fn resumable(pool: &PgPool, pipeline: &str, request: &Value, since: DateTime<Utc>) -> Result<Option<Run>> {
    let row = sqlx::query(sqlx::AssertSqlSafe(format!(
        "select {RUN} from ops.runs where pipeline = $1 and request = $2 and created_at >= $3 \
         order by created_at desc limit 1"
    )))
    .bind(pipeline)
    .bind(request)
    .bind(since)
    .fetch_optional(pool)
    .await
    .map_err(|e| fault("cannot read the run ledger", e))?;
    Ok(row.as_ref().map(run).filter(|r| !matches!(r.status, Status::Succeeded | Status::Partial)))
}

/// The run of this pipeline and request that has ended well, if there is one.
pub async fn ended_well(pool: &PgPool, pipeline: &str, request: &Value) -> Result<Option<Uuid>> {
    sqlx::query_scalar(
        "select id from ops.runs where pipeline = $1 and request = $2 and status = 'succeeded' \
         order by created_at desc limit 1",
    )
    .bind(pipeline)
    .bind(request)
    .fetch_optional(pool)
    .await
    .map_err(|e| fault("cannot read the run ledger", e))
}

/// Where the last reading of a stream's changes ended.
pub async fn cursor(pool: &PgPool, pipeline: &str, stream: &str) -> Result<Option<Cursor>> {
    let cursor: Option<Value> =
        sqlx::query_scalar("select cursor from ops.cursors where pipeline = $1 and stream = $2")
            .bind(pipeline)
            .bind(stream)
            .fetch_optional(pool)
            .await
            .map_err(|e| fault("cannot read the stream's cursor", e))?;
    Ok(cursor.map(Cursor))
}

/// Opens a run in the ledger.
pub async fn start(
    pool: &PgPool,
    id: Uuid,
    pipeline: &str,
    trigger: &str,
    request: &Value,
    now: DateTime<Utc>,
) -> Result<()> {
    sqlx::query(
        "insert into ops.runs (id, pipeline, trigger, request, status, created_at) values ($1, $2, $3, $4, 'running', $5)",
    )
    .bind(id)
    .bind(pipeline)
    .bind(trigger)
    .bind(request)
    .bind(now)
    .execute(pool)
    .await
    .map_err(|e| fault("cannot open a run in the ledger", e))?;
    Ok(())
}

/// Marks an interrupted run as under way again.
pub async fn resume(pool: &PgPool, id: Uuid) -> Result<()> {
    sqlx::query("update ops.runs set status = 'running', fault = null, hint = null, finished_at = null, updated_at = now() where id = $1")
        .bind(id)
        .execute(pool)
        .await
        .map_err(|e| fault("cannot resume a run in the ledger", e))?;
    Ok(())
}

/// Closes a run.
pub async fn finish(
    pool: &PgPool,
    id: Uuid,
    status: Status,
    problem: Option<&Fault>,
    now: DateTime<Utc>,
) -> Result<()> {
    sqlx::query(
        "update ops.runs set status = $2, fault = $3, hint = $4, finished_at = $5, updated_at = now() where id = $1",
    )
    .bind(id)
    .bind(status.as_str())
    .bind(problem.map(Fault::chain))
    .bind(problem.and_then(|f| f.hint.as_deref()))
    .bind(now)
    .execute(pool)
    .await
    .map_err(|e| fault("cannot close a run in the ledger", e))?;
    Ok(())
}

/// Writes a slice into the books: its row counts, the run's cursor, rejects and notes, the freshness of the scopes it
/// holds whole. Call it inside the transaction that makes the slice's rows durable.
///
/// # Errors
/// When another worker has committed this slice: the transaction must then be rolled back.
pub async fn commit_slice(
    tx: &mut PgConnection,
    slice: &Slice,
    rows: &BTreeMap<String, Receipt>,
    freshness_limit_secs: i64,
) -> Result<()> {
    let number = i32::try_from(slice.id.number).map_err(|_| Fault::us("a run cannot have that many slices"))?;
    let what = "cannot write the slice into the ledger";
    let received: u64 = rows.values().map(|c| c.received).sum();
    let rows = serde_json::to_value(rows).map_err(|e| Fault::us(what).because(e))?;
    // The run's row is the lock: two workers on one slice meet here, and the second one finds the number taken.
    let moved = sqlx::query(
        "update ops.runs set cursor = $3, next_slice = $2 + 1, rows_read = rows_read + $4, \
         rows_rejected = rows_rejected + $5, updated_at = now() where id = $1 and next_slice = $2",
    )
    .bind(slice.id.run)
    .bind(number)
    .bind(slice.cursor.as_ref().map(|c| &c.0))
    .bind(i64::try_from(received).unwrap_or(i64::MAX))
    .bind(i64::try_from(slice.rejects.len()).unwrap_or(i64::MAX))
    .execute(&mut *tx)
    .await
    .map_err(|e| fault(what, e))?
    .rows_affected();
    if moved == 0 {
        return Err(Fault::new(
            crate::Blame::User,
            Retry::Never,
            format!("slice {} was committed by another worker", slice.id),
        )
        .hint("Nothing is lost: the other worker goes on. Look at `propflow status`."));
    }
    if let (Some(stream), Some(cursor)) = (&slice.follows, &slice.cursor) {
        sqlx::query(
            "insert into ops.cursors (pipeline, stream, cursor, run_id) values ($1, $2, $3, $4) \
             on conflict (pipeline, stream) do update set cursor = excluded.cursor, run_id = excluded.run_id, updated_at = now()",
        )
        .bind(&slice.pipeline)
        .bind(stream)
        .bind(&cursor.0)
        .bind(slice.id.run)
        .execute(&mut *tx)
        .await
        .map_err(|e| fault(what, e))?;
    }
    sqlx::query("insert into ops.slices (run_id, number, observed_at, rows) values ($1, $2, $3, $4)")
        .bind(slice.id.run)
        .bind(number)
        .bind(slice.observed_at)
        .bind(rows)
        .execute(&mut *tx)
        .await
        .map_err(|e| fault(what, e))?;
    // A settled table rests on several connections: that it was computed again confirms nothing.
    let confirmed = |dataset: &str| !bookings::is_settled(dataset);
    let fresh = scopes_of(slice, |dataset| confirmed(dataset) && !people::is_of_people(dataset));
    let scopes = scopes_of(slice, confirmed);
    sqlx::query(
        "insert into ops.freshness (scope, pipeline, run_id, observed_at, limit_seconds) \
         select s, $2, $3, $4, $5 from unnest($1::text[]) s \
         on conflict (scope) do update set pipeline = excluded.pipeline, run_id = excluded.run_id, \
           observed_at = excluded.observed_at, limit_seconds = excluded.limit_seconds, updated_at = now()",
    )
    .bind(&fresh)
    .bind(&slice.pipeline)
    .bind(slice.id.run)
    .bind(slice.observed_at)
    .bind(freshness_limit_secs)
    .execute(&mut *tx)
    .await
    .map_err(|e| fault(what, e))?;
    // Complaints about a scope end when the scope comes whole again; those that still hold are written anew below.
    sqlx::query(
        "update ops.rejects set resolved_at = now() where resolved_at is null and pipeline = $1 and scope = any($2)",
    )
    .bind(&slice.pipeline)
    .bind(&scopes)
    .execute(&mut *tx)
    .await
    .map_err(|e| fault(what, e))?;
    write_rejects(tx, slice, number).await?;
    write_notes(tx, slice.id.run, &slice.notes).await
}

/// The scopes that are whole in some dataset of a kind.
fn scopes_of(slice: &Slice, kind: impl Fn(&str) -> bool) -> Vec<&str> {
    let of_kind = slice.complete.iter().filter(|(dataset, _)| kind(dataset));
    let mut scopes: Vec<&str> = of_kind.flat_map(|(_, scopes)| scopes).map(|s| s.value.as_str()).collect();
    scopes.sort_unstable();
    scopes.dedup();
    scopes
}

async fn write_rejects(tx: &mut PgConnection, slice: &Slice, number: i32) -> Result<()> {
    let rejects: &[Reject] = &slice.rejects;
    if rejects.is_empty() {
        return Ok(());
    }
    // One array a column: a slice with a hundred thousand bad rows is still one statement.
    sqlx::query(
        "insert into ops.rejects (run_id, slice, pipeline, dataset, scope, key, kind, reason, payload) \
         select $1, $2, $3, * from unnest($4::text[], $5::text[], $6::text[], $7::text[], $8::text[], $9::jsonb[])",
    )
    .bind(slice.id.run)
    .bind(number)
    .bind(&slice.pipeline)
    .bind(rejects.iter().map(|r| text(&r.dataset)).collect::<Vec<_>>())
    .bind(rejects.iter().map(|r| r.scope.as_deref().map(text)).collect::<Vec<_>>())
    .bind(rejects.iter().map(|r| text(&r.key)).collect::<Vec<_>>())
    .bind(rejects.iter().map(|r| r.kind.as_str()).collect::<Vec<_>>())
    .bind(rejects.iter().map(|r| text(&r.reason)).collect::<Vec<_>>())
    .bind(rejects.iter().map(|r| json(&r.payload)).collect::<Vec<_>>())
    .execute(&mut *tx)
    .await
    .map_err(|e| fault("cannot keep the rejected rows", e))?;
    Ok(())
}

/// Adds notes to a run; the same note again adds to its count.
pub async fn write_notes(tx: &mut PgConnection, run: Uuid, notes: &[Note]) -> Result<()> {
    // `on conflict` cannot touch a row twice in one statement, so equal notes are added up first.
    let mut sums: BTreeMap<(&str, &str), (&str, i64)> = BTreeMap::new();
    for note in notes {
        let entry = sums.entry((&note.topic, &note.subject)).or_insert((&note.text, 0));
        entry.1 += i64::try_from(note.count).unwrap_or(i64::MAX);
    }
    if sums.is_empty() {
        return Ok(());
    }
    sqlx::query(
        "insert into ops.notes as n (run_id, topic, subject, text, count) \
         select $1, * from unnest($2::text[], $3::text[], $4::text[], $5::int8[]) \
         on conflict (run_id, topic, subject) do update set text = excluded.text, count = n.count + excluded.count, updated_at = now()",
    )
    .bind(run)
    .bind(sums.keys().map(|k| text(k.0)).collect::<Vec<_>>())
    .bind(sums.keys().map(|k| text(k.1)).collect::<Vec<_>>())
    .bind(sums.values().map(|v| text(v.0)).collect::<Vec<_>>())
    .bind(sums.values().map(|v| v.1).collect::<Vec<_>>())
    .execute(tx)
    .await
    .map_err(|e| fault("cannot keep the run's notes", e))?;
    Ok(())
}

/// The newest runs, newest first.
pub async fn list(pool: &PgPool, pipeline: Option<&str>, limit: i64) -> Result<Vec<Run>> {
    let rows = sqlx::query(sqlx::AssertSqlSafe(format!(
        "select {RUN} from ops.runs where $1::text is null or pipeline = $1 order by created_at desc limit $2"
    )))
    .bind(pipeline)
    .bind(limit)
    .fetch_all(pool)
    .await
    .map_err(|e| fault("cannot read the run ledger", e))?;
    Ok(rows.iter().map(run).collect())
}

/// One run, if the ledger has it.
pub async fn find(pool: &PgPool, id: Uuid) -> Result<Option<Run>> {
    let row = sqlx::query(sqlx::AssertSqlSafe(format!("select {RUN} from ops.runs where id = $1")))
        .bind(id)
        .fetch_optional(pool)
        .await
        .map_err(|e| fault("cannot read the run ledger", e))?;
    Ok(row.as_ref().map(run))
}

/// The notes of a run.
pub async fn notes(pool: &PgPool, id: Uuid) -> Result<Vec<Note>> {
    let rows =
        sqlx::query("select topic, subject, text, count from ops.notes where run_id = $1 order by topic, subject")
            .bind(id)
            .fetch_all(pool)
            .await
            .map_err(|e| fault("cannot read the run's notes", e))?;
    Ok(rows
        .iter()
        .map(|r| Note {
            topic: r.get("topic"),
            subject: r.get("subject"),
            text: r.get("text"),
            count: u64::try_from(r.get::<i64, _>("count")).unwrap_or_default(),
        })
        .collect())
}

/// PostgreSQL text cannot hold NUL; a visible stand-in keeps the rest.
fn text(value: &str) -> String {
    value.replace('\0', "\u{2400}")
}

fn json(value: &Value) -> Value {
    match value {
        Value::String(s) => Value::String(text(s)),
        Value::Array(items) => Value::Array(items.iter().map(json).collect()),
        Value::Object(map) => Value::Object(map.iter().map(|(k, v)| (text(k), json(v))).collect()),
        other => other.clone(),
    }
}
