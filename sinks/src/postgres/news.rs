//! Rows that are likely to be new go straight into a table that others are in.
//!
//! A first load that is committed page by page finds its table empty only once. To stage and merge every page after that
//! would cost three times as much as `COPY` alone, and a key that is there makes `COPY` fail at once: so it is tried, behind
//! a savepoint, for as long as it goes well.

use arrow::array::RecordBatch;
use catalog::Result;
use sqlx::postgres::PgConnection;

use super::table::Table;
use super::{copy_in, encode, load_fault, tables};

/// Puts rows straight into a table that others are in, as long as they are likely to be new. False when a key was there:
/// then nothing has happened, and what follows is merged until a whole slice was new again.
pub(super) async fn copy_new(
    tx: &mut PgConnection,
    table: &mut Table,
    batches: &[RecordBatch],
    chosen: &[Vec<u32>],
    count: usize,
) -> Result<bool> {
    if table.news == Some(false) || !table.may_be_new() || table.load.staged || table.load.twice {
        return Ok(false);
    }
    let mut bytes = encode::HEADER.to_vec();
    for (batch, send) in batches.iter().zip(chosen) {
        encode::rows(&mut bytes, &table.dataset, batch, send, None)?;
    }
    bytes.extend_from_slice(&encode::TRAILER);
    let what = "cannot load rows";
    tables::run(tx, what, "savepoint propflow_new".to_owned()).await?;
    match copy_in(tx, &table.sql.copy_direct, &bytes).await {
        Ok(()) => {
            tables::run(tx, what, "release propflow_new".to_owned()).await?;
            table.load.receipt.inserted += count as u64;
            table.news = Some(true);
            Ok(true)
        }
        Err(sqlx::Error::Database(e)) if e.is_unique_violation() => {
            tables::run(tx, what, "rollback to propflow_new".to_owned()).await?;
            table.news = Some(false);
            Ok(false)
        }
        Err(e) => Err(load_fault(table, e)),
    }
}
