//! Guests whom their vendor has deleted: what the connection told of them goes here too.
//!
//! The vendor says so, or does not know the guest's record any more when it is asked for. What goes: the guest's record, the
//! personal columns of their reservations and of the bookings that rest on these, bodies of deliveries that name them. What
//! stays: nights, dates, amounts, codes. What the vendor itself still says on a reservation that was read behind the deletion
//! stays too, and what other connections tell of the same person comes back with the next settling.

use std::collections::{HashMap, HashSet};

use arrow::array::{Array, AsArray, BooleanArray, RecordBatch};
use arrow::datatypes::TimestampMicrosecondType;
use catalog::store::pg::fault;
use catalog::store::{audit, erasures};
use catalog::{Clock, Result};
use chrono::{DateTime, Utc};
use serde_json::json;
use sinks::parquet::{Change, Lake};
use sqlx::{AssertSqlSafe, Connection, PgConnection, PgPool};
use transforms::functions::stable_id;

use super::collect::still_named;
use super::shape::{self, Shape, text};

const WHAT: &str = "cannot remove what was told of deleted guests";
/// Most guests in one go.
const GROUP: i64 = 500;

/// Guests that a delivery named, by the connection that it was for.
#[derive(Debug, Clone, Copy)]
pub struct Named<'a> {
    /// The connector.
    pub connector: &'a str,
    /// The connection.
    pub connection: &'a str,
    /// The vendor's ids of the guests.
    pub guests: &'a [String],
}

/// Whose data has to go: without `named` everybody whose record is stored and was deleted by the vendor; with it those among
/// the named ones whom the vendor does not know, whether or not their record is stored.
const DUE: &str = "select r.connection, r.connector, r.object_id, r.updated_at from core.source_removals r \
     where r.object = 'guest' and r.deleted_at is null \
       and ($1::text is null or (r.connector = $1 and r.connection = $2 and r.object_id = any($3))) \
       and not exists (select from core.source_guests g where g.connection = r.connection \
         and g.guest_id = r.object_id and (g.version > r.version or g.updated_at > r.updated_at)) \
       and (exists (select from core.source_guests g where g.connection = r.connection and g.guest_id = r.object_id) \
         or ($1 is not null and exists (select from core.source_bookings b where b.connection = r.connection \
           and b.guest_id = r.object_id and b.updated_at < r.updated_at))) \
     order by r.connection, r.object_id limit $4";

/// Whether somebody's data has to go.
///
/// # Errors
/// When the tables cannot be read.
pub async fn any(pool: &PgPool, named: Option<Named<'_>>) -> Result<bool> {
    let known: bool = sqlx::query_scalar("select to_regclass('core.source_removals') is not null")
        .fetch_one(pool)
        .await
        .map_err(|e| fault(WHAT, e))?;
    if !known {
        return Ok(false);
    }
    let found = sqlx::query(AssertSqlSafe(format!("select from ({DUE}) x limit 1")))
        .bind(named.map(|n| n.connector))
        .bind(named.map(|n| n.connection))
        .bind(named.map(|n| n.guests))
        .bind(1_i64)
        .fetch_optional(pool)
        .await
        .map_err(|e| fault(WHAT, e))?;
    Ok(found.is_some())
}

/// Removes it, from the lakes first: it is the tables that know whose rows these are. Run again after a kill, it does the
/// rest; run twice, it changes nothing. Gives the number of guests.
///
/// # Errors
/// When a database or lake fails.
pub async fn forget(pool: &PgPool, named: Option<Named<'_>>, lakes: &[String], clock: &dyn Clock) -> Result<usize> {
    let mut own = pool.acquire().await.map_err(|e| fault(WHAT, e))?.detach();
    erasures::alone(&mut own).await?;
    let mut count = 0;
    let done = loop {
        match group(&mut own, named, lakes, clock).await {
            Ok(0) => break Ok(count),
            Ok(some) => count += some,
            Err(fault) => break Err(fault),
        }
    };
    let gave_way = erasures::give_way(&mut own).await;
    let _ = own.close().await;
    let done = done?;
    gave_way?;
    Ok(done)
}

async fn group(own: &mut PgConnection, named: Option<Named<'_>>, lakes: &[String], clock: &dyn Clock) -> Result<usize> {
    let failed = |e| fault(WHAT, e);
    let mut tx = own.begin().await.map_err(failed)?;
    gather(&mut tx, named).await?;
    let gone: Vec<(String, String)> = sqlx::query_as("select connection, guest_id from pg_temp.gone_guests")
        .fetch_all(&mut *tx)
        .await
        .map_err(failed)?;
    if gone.is_empty() {
        return Ok(0);
    }
    let count = gone.len();
    let found = Found {
        gone: gone.into_iter().collect(),
        told_since: told_since(&mut tx).await?,
        stays: list(&mut tx, "select booking_id from pg_temp.gone_stays").await?,
        people: list(&mut tx, "select guest_id from pg_temp.gone_people").await?,
        alone: list(&mut tx, "select guest_id from pg_temp.gone_people where not shared").await?,
    };
    for root in lakes {
        let lake = Lake::open(root)?;
        for file in lake.files().await? {
            let Some(shape) = shape::find(&file.dataset) else { continue };
            lake.rewrite(&file, &|batch: &RecordBatch| found.change(shape, batch)).await?;
        }
    }
    let mut rows = 0;
    for (dataset, condition) in [
        ("source_guests", "(t.connection, t.guest_id) in (select connection, guest_id from pg_temp.gone_guests)"),
        (
            "source_bookings",
            "(t.connection, t.source_booking_id) in (select connection, id from pg_temp.gone_reservations)",
        ),
        ("bookings", "t.booking_id in (select booking_id from pg_temp.gone_stays)"),
        // Of a guest whom others tell of too, the next settling brings back what these say.
        ("guests", "t.guest_id in (select guest_id from pg_temp.gone_people)"),
        ("guest_identities", "t.guest_id in (select guest_id from pg_temp.gone_people where not shared)"),
    ] {
        if let Some(shape) = shape::find(dataset) {
            rows += shape.empty(&mut tx, condition, WHAT).await?;
        }
    }
    rows += raw(&mut tx, clock).await?;
    sqlx::query(
        "insert into ops.unsettled (connection, listing_id, what) \
         select distinct b.connection, b.listing_id, 'booking' from core.bookings b where b.deleted_at is null \
           and (b.booking_id in (select booking_id from pg_temp.gone_stays) \
             or b.guest_id in (select guest_id from pg_temp.gone_people))",
    )
    .execute(&mut *tx)
    .await
    .map_err(failed)?;
    let connections: HashSet<&str> = found.gone.iter().map(|(connection, _)| connection.as_str()).collect();
    for connection in connections {
        let guests = found.gone.iter().filter(|(of, _)| of == connection).count();
        let entry = audit::Entry {
            actor: "propflow",
            action: "purge_guests",
            subject: connection,
            reason: Some("the vendor has deleted them"),
            after: Some(json!({ "guests": guests })),
            ..audit::Entry::default()
        };
        audit::write(&mut tx, &entry).await?;
    }
    tx.commit().await.map_err(failed)?;
    tracing::info!(guests = count, rows, "removed what was told of guests whom their vendors have deleted");
    Ok(count)
}

/// The guests, their reservations as they were told before the deletion, the bookings that rest on any of theirs, and who
/// they are here; shared are those who have other bookings beside.
async fn gather(tx: &mut PgConnection, named: Option<Named<'_>>) -> Result<()> {
    let failed = |e| fault(WHAT, e);
    sqlx::raw_sql(
        "create temp table gone_guests (connection text, connector text, guest_id text, at timestamptz) on commit drop; \
         create temp table gone_reservations (connection text, id text) on commit drop; \
         create temp table gone_stays (booking_id text) on commit drop; \
         create temp table gone_people (guest_id text, shared boolean) on commit drop",
    )
    .execute(&mut *tx)
    .await
    .map_err(failed)?;
    sqlx::query(AssertSqlSafe(format!("insert into pg_temp.gone_guests {DUE}")))
        .bind(named.map(|n| n.connector))
        .bind(named.map(|n| n.connection))
        .bind(named.map(|n| n.guests))
        .bind(GROUP)
        .execute(&mut *tx)
        .await
        .map_err(failed)?;
    sqlx::raw_sql(
        "insert into pg_temp.gone_reservations select distinct b.connection, b.source_booking_id \
           from core.source_bookings b join pg_temp.gone_guests g using (connection, guest_id) where b.updated_at < g.at; \
         insert into pg_temp.gone_stays select distinct s.booking_id from core.booking_sources s \
           join core.source_bookings b on b.connection = s.connection and b.source_booking_id = s.source_booking_id \
           join pg_temp.gone_guests g on g.connection = b.connection and g.guest_id = b.guest_id where s.role <> 'echo'; \
",
    )
    .execute(&mut *tx)
    .await
    .map_err(failed)?;
    // Who was taken off their reservations before is known by their mark alone.
    let gone: Vec<(String, String)> = sqlx::query_as("select connection, guest_id from pg_temp.gone_guests")
        .fetch_all(&mut *tx)
        .await
        .map_err(failed)?;
    let marks: Vec<String> = gone.iter().map(|(connection, guest)| stable_id(&["vendor", connection, guest])).collect();
    sqlx::query(
        "insert into pg_temp.gone_people \
         select p.guest_id, exists (select from core.bookings o where o.guest_id = p.guest_id and o.deleted_at is null \
             and o.booking_id not in (select booking_id from pg_temp.gone_stays)) \
         from (select b.guest_id from core.bookings b join pg_temp.gone_stays using (booking_id) \
             where b.guest_id is not null \
           union select i.guest_id from core.guest_identities i where i.identity = any($1)) p",
    )
    .bind(marks)
    .execute(tx)
    .await
    .map_err(failed)?;
    Ok(())
}

/// What is looked for in a lake.
struct Found {
    /// Connections and the vendors' ids of guests.
    gone: HashSet<(String, String)>,
    /// Reservations that were told behind the deletion, and their versions.
    told_since: HashMap<(String, String), i64>,
    stays: HashSet<String>,
    people: HashSet<String>,
    /// Those of them who have no other booking.
    alone: HashSet<String>,
}

impl Found {
    fn change(&self, shape: &Shape, batch: &RecordBatch) -> Result<Change> {
        let rows = match shape.dataset.as_str() {
            "source_guests" => pairs(batch, ["connection", "guest_id"], |_, pair| self.gone.contains(pair))?,
            "source_bookings" => {
                let gone = pairs(batch, ["connection", "guest_id"], |_, pair| self.gone.contains(pair))?;
                let versions = batch.column_by_name("version");
                let versions = versions.and_then(|c| c.as_primitive_opt::<TimestampMicrosecondType>());
                let before = pairs(batch, ["connection", "source_booking_id"], |row, pair| {
                    let since = self.told_since.get(pair);
                    since.is_none_or(|since| versions.is_none_or(|v| v.is_null(row) || v.value(row) < *since))
                })?;
                arrow::compute::and(&gone, &before)?
            }
            "bookings" => arrow::compute::or(
                &passing(batch, "booking_id", &self.stays)?,
                &passing(batch, "guest_id", &self.alone)?,
            )?,
            "guests" | "guest_identities" => passing(batch, "guest_id", &self.people)?,
            _ => return Ok(Change::Same),
        };
        let rows = still_named(shape, batch, rows)?;
        if rows.true_count() == 0 {
            return Ok(Change::Same);
        }
        Ok(Change::Rows(shape.blanked(batch, &rows, true)?))
    }
}

/// Reservations of the guests that were told behind the deletion.
async fn told_since(tx: &mut PgConnection) -> Result<HashMap<(String, String), i64>> {
    let rows: Vec<(String, String, DateTime<Utc>)> = sqlx::query_as(
        "select b.connection, b.source_booking_id, max(b.version) from core.source_bookings b \
         join pg_temp.gone_guests g using (connection, guest_id) where b.updated_at >= g.at group by 1, 2",
    )
    .fetch_all(tx)
    .await
    .map_err(|e| fault(WHAT, e))?;
    Ok(rows.into_iter().map(|(connection, id, version)| ((connection, id), version.timestamp_micros())).collect())
}

async fn list(tx: &mut PgConnection, sql: &'static str) -> Result<HashSet<String>> {
    let found: Vec<String> = sqlx::query_scalar(sql).fetch_all(tx).await.map_err(|e| fault(WHAT, e))?;
    Ok(found.into_iter().collect())
}

/// Empties bodies of deliveries and refused rows that name one of the guests by their id. Those that still have to be
/// worked off stay: they only say what to read.
async fn raw(tx: &mut PgConnection, clock: &dyn Clock) -> Result<u64> {
    // Whatever the body is, it becomes text without a fault: an id is plain letters and digits.
    let deliveries = "update ops.deliveries d set body = '', headers = '{}', updated_at = now(), \
           reason = coalesce(d.reason, 'the guest was deleted'), processed_at = coalesce(d.processed_at, $1) \
         from pg_temp.gone_guests g \
         where d.connector = g.connector and d.connection = g.connection and d.state <> 'received' and d.body <> '' \
           and g.guest_id ~ '^[0-9A-Za-z_-]+$' \
           and encode(d.body, 'escape') ~ ('[iI]d\"\\s*:\\s*\"?' || g.guest_id || '[^0-9A-Za-z_-]')";
    let mut met =
        sqlx::query(deliveries).bind(clock.now()).execute(&mut *tx).await.map_err(|e| fault(WHAT, e))?.rows_affected();
    met += sqlx::query(
        "update ops.rejects r set payload = '{}' from pg_temp.gone_guests g \
         where r.payload ->> 'connection' = g.connection and r.payload ->> 'guest_id' = g.guest_id",
    )
    .execute(tx)
    .await
    .map_err(|e| fault(WHAT, e))?
    .rows_affected();
    Ok(met)
}

/// The rows whose two columns pass a test; none, when a column is missing.
fn pairs(
    batch: &RecordBatch,
    columns: [&str; 2],
    test: impl Fn(usize, &(String, String)) -> bool,
) -> Result<BooleanArray> {
    let [Some(first), Some(second)] = columns.map(|name| text(batch, name)) else {
        return Ok(vec![false; batch.num_rows()].into());
    };
    let (first, second) = (first?, second?);
    let (first, second) = (first.as_string::<i32>(), second.as_string::<i32>());
    Ok((0..batch.num_rows())
        .map(|row| {
            let both = first.is_valid(row) && second.is_valid(row);
            Some(both && test(row, &(first.value(row).to_owned(), second.value(row).to_owned())))
        })
        .collect())
}

/// The rows whose column is one of the values; none, when it is missing.
fn passing(batch: &RecordBatch, column: &str, known: &HashSet<String>) -> Result<BooleanArray> {
    let Some(values) = text(batch, column) else { return Ok(vec![false; batch.num_rows()].into()) };
    let values = values?;
    let values = values.as_string::<i32>();
    Ok((0..batch.num_rows()).map(|row| Some(values.is_valid(row) && known.contains(values.value(row)))).collect())
}
