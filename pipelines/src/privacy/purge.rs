//! A connection whose authorisation was withdrawn: stopped, and without what may not be kept behind that.
//!
//! What goes: every guest that it told of, the personal columns of its reservations and of the bookings that rest on them, the
//! bodies of its deliveries, its tokens. What stays: which nights are taken, dates, amounts, codes. So the calendar does not
//! go free. What other connections tell of the same guests comes back with the next settling.

use std::collections::HashSet;

use arrow::array::{Array, AsArray, BooleanArray, RecordBatch};
use catalog::store::pg::fault;
use catalog::store::{audit, connections, erasures};
use catalog::{Clock, Fault, Result};
use serde_json::json;
use sinks::parquet::{Change, Lake};
use sqlx::{Connection, PgConnection, PgPool};

use super::collect::still_named;
use super::shape::{self, SHAPES, Shape, text};

const WHAT: &str = "cannot purge a connection";

/// Stops a connection, if it is not stopped yet. Says whether that changed anything.
///
/// # Errors
/// When the database refuses.
pub async fn revoke(pool: &PgPool, connector: &str, name: &str, actor: &str, reason: &str) -> Result<bool> {
    let mut tx = pool.begin().await.map_err(|e| fault("cannot stop a connection", e))?;
    let changed = connections::set(&mut tx, connector, name, true, reason).await?;
    if changed {
        let entry =
            audit::Entry { actor, action: "revoke", subject: name, reason: Some(reason), ..audit::Entry::default() };
        audit::write(&mut tx, &entry).await?;
    }
    tx.commit().await.map_err(|e| fault("cannot stop a connection", e))?;
    Ok(changed)
}

/// Removes what a connection told of people. Run again after a kill, it does the rest; run twice, it changes nothing. Gives
/// the number of rows that were met in the tables.
///
/// # Errors
/// When the connection is in use, or a database or lake fails.
pub async fn purge(
    pool: &PgPool,
    connector: &str,
    name: &str,
    lakes: &[String],
    clock: &dyn Clock,
    actor: &str,
) -> Result<u64> {
    if connections::usable(pool, connector, name).await.is_ok() {
        return Err(Fault::user(format!("connection `{name}` of `{connector}` is in use"))
            .hint("Stop it first: the next pull would bring everything back."));
    }
    let mut own = pool.acquire().await.map_err(|e| fault(WHAT, e))?.detach();
    erasures::alone(&mut own).await?;
    let done = alone(&mut own, connector, name, lakes, clock, actor).await;
    let gave_way = erasures::give_way(&mut own).await;
    let _ = own.close().await;
    let done = done?;
    gave_way?;
    Ok(done)
}

/// The bookings that rest on the connection, and their guests; of these the ones whom no other connection tells of.
async fn gather(tx: &mut PgConnection, connector: &str, name: &str) -> Result<()> {
    sqlx::raw_sql(
        "create temp table gdpr_stays (booking_id text primary key) on commit drop; \
         create temp table gdpr_guests (guest_id text primary key, shared boolean not null) on commit drop",
    )
    .execute(&mut *tx)
    .await
    .map_err(|e| fault(WHAT, e))?;
    sqlx::query(
        "insert into pg_temp.gdpr_stays \
         select distinct s.booking_id from core.booking_sources s join core.source_bookings b \
           on b.connection = s.connection and b.source_booking_id = s.source_booking_id and b.segment = s.segment \
         where s.connection = $2 and b.connector = $1 and s.role <> 'echo' \
         union select booking_id from core.bookings where connector = $1 and connection = $2",
    )
    .bind(connector)
    .bind(name)
    .execute(&mut *tx)
    .await
    .map_err(|e| fault(WHAT, e))?;
    sqlx::query(
        "insert into pg_temp.gdpr_guests \
         select b.guest_id, exists (select from core.bookings o join core.booking_sources s on s.booking_id = o.booking_id \
             where o.guest_id = b.guest_id and s.role <> 'echo' and s.connection <> $1) \
         from core.bookings b join pg_temp.gdpr_stays using (booking_id) where b.guest_id is not null group by b.guest_id",
    )
    .bind(name)
    .execute(tx)
    .await
    .map_err(|e| fault(WHAT, e))?;
    Ok(())
}

async fn list(tx: &mut PgConnection, sql: &'static str) -> Result<HashSet<String>> {
    let found: Vec<String> = sqlx::query_scalar(sql).fetch_all(tx).await.map_err(|e| fault(WHAT, e))?;
    Ok(found.into_iter().collect())
}

async fn alone(
    own: &mut PgConnection,
    connector: &str,
    name: &str,
    lakes: &[String],
    clock: &dyn Clock,
    actor: &str,
) -> Result<u64> {
    let failed = |e| fault(WHAT, e);
    let mut tx = own.begin().await.map_err(failed)?;
    gather(&mut tx, connector, name).await?;
    let stays = list(&mut tx, "select booking_id from pg_temp.gdpr_stays").await?;
    let guests = list(&mut tx, "select guest_id from pg_temp.gdpr_guests").await?;
    // The lake first: it is the tables that know which bookings rest on the connection.
    for root in lakes {
        let lake = Lake::open(root)?;
        for file in lake.files().await? {
            let Some(shape) = shape::find(&file.dataset) else { continue };
            let change = |batch: &RecordBatch| -> Result<Change> {
                let rows = if shape.dataset.starts_with("source_") {
                    let (a, b) = (
                        passing(batch, "connection", &|v| v == name)?,
                        passing(batch, "connector", &|v| v == connector)?,
                    );
                    arrow::compute::and(&a, &b)?
                } else if shape.dataset == "bookings" {
                    passing(batch, "booking_id", &|v| stays.contains(v))?
                } else if shape.goes {
                    passing(batch, "guest_id", &|v| guests.contains(v))?
                } else {
                    return Ok(Change::Same);
                };
                let rows = still_named(shape, batch, rows)?;
                if rows.true_count() == 0 {
                    return Ok(Change::Same);
                }
                Ok(Change::Rows(shape.blanked(batch, &rows, true)?))
            };
            lake.rewrite(&file, &change).await?;
        }
    }
    let mut met = 0;
    for shape in SHAPES.iter() {
        met += table(&mut tx, shape, connector, name).await?;
    }
    let emptied = "update ops.deliveries set body = '', headers = '{}', updated_at = now(), \
         reason = coalesce(reason, 'the connection was revoked'), processed_at = coalesce(processed_at, $3), \
         claim = null, state = case when state = 'received' then 'ignored' else state end \
         where connector = $1 and connection = $2 and body <> ''";
    met += sqlx::query(emptied)
        .bind(connector)
        .bind(name)
        .bind(clock.now())
        .execute(&mut *tx)
        .await
        .map_err(failed)?
        .rows_affected();
    met += sqlx::query("update ops.rejects set payload = '{}' where payload ->> 'connection' = $1 and payload <> '{}'")
        .bind(name)
        .execute(&mut *tx)
        .await
        .map_err(failed)?
        .rows_affected();
    // The connection's own tokens went when it was stopped. Others are kept by account, under a hash of what the vendor
    // counts calls by (`catalog::http::account`), and whose it is cannot be told: another account asks for one anew. What
    // another connection was authorised with is kept under its name, and cannot be had again without its owner.
    sqlx::query(
        "update ops.tokens set token = null, good_until = null, updated_at = now() where key ~ ('^' || $1 || '/[0-9a-f]{12}$')",
    )
    .bind(connector)
    .execute(&mut *tx)
    .await
    .map_err(failed)?;
    connections::purged(&mut tx, connector, name, clock.now()).await?;
    let entry = audit::Entry {
        actor,
        action: "purge",
        subject: name,
        after: Some(json!({ "connector": connector, "rows": met })),
        ..audit::Entry::default()
    };
    audit::write(&mut tx, &entry).await?;
    tx.commit().await.map_err(failed)?;
    Ok(met)
}

/// Purges one table.
async fn table(tx: &mut PgConnection, shape: &Shape, connector: &str, name: &str) -> Result<u64> {
    let (connection, connector) = (sinks::postgres::literal(name), sinks::postgres::literal(connector));
    let condition = match shape.dataset.as_str() {
        name if name.starts_with("source_") => format!("t.connection = {connection} and t.connector = {connector}"),
        "bookings" => "t.booking_id in (select booking_id from pg_temp.gdpr_stays)".to_owned(),
        // Of a guest whom others tell of too, the next settling brings back what these say.
        "guests" => "t.guest_id in (select guest_id from pg_temp.gdpr_guests)".to_owned(),
        "guest_identities" => "t.guest_id in (select guest_id from pg_temp.gdpr_guests where not shared)".to_owned(),
        _ => return Ok(0),
    };
    shape.empty(tx, &condition, WHAT).await
}

/// The rows in which a column passes a test; none, when it is missing.
fn passing(batch: &RecordBatch, column: &str, test: &dyn Fn(&str) -> bool) -> Result<BooleanArray> {
    let Some(values) = text(batch, column) else { return Ok(vec![false; batch.num_rows()].into()) };
    let values = values?;
    let values = values.as_string::<i32>();
    Ok((0..batch.num_rows()).map(|row| Some(values.is_valid(row) && test(values.value(row)))).collect())
}
