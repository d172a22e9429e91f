//! History from the lake: for streams whose vendor keeps no past, what was observed is the past.

use catalog::{Dataset, Fault, Result, Slice, SliceId, WriteMode};
use chrono::{DateTime, Utc};
use serde_json::Value;
use sinks::{Sink, Target};
use uuid::Uuid;

use crate::app::Database;
use crate::lake;
use crate::plan::Plan;

/// What a restore found and did.
#[derive(Debug, Clone, Default)]
pub struct Restored {
    /// The lake's folder.
    pub lake: String,
    /// Observations in the range.
    pub received: u64,
    /// Those that were not in the database yet.
    pub inserted: u64,
}

/// Writes the lake's observations of a range into the history tables of the database. Those that are there already stay
/// as they are, so it can be repeated at will.
///
/// # Errors
/// When the pipeline writes no lake, or the lake cannot be read.
pub async fn from_lake(
    plan: &Plan,
    database: &Database,
    from: DateTime<Utc>,
    until: DateTime<Utc>,
    dry_run: bool,
) -> Result<Restored> {
    let root = plan
        .spec
        .sinks
        .iter()
        .find(|s| s.sink == "parquet")
        .and_then(|s| s.settings.get("path").and_then(Value::as_str))
        .ok_or_else(|| {
            Fault::user(format!(
                "`{}` reads a vendor without a past and writes no lake, so there is nothing to backfill from",
                plan.spec.name
            ))
            .hint("Add a `parquet` sink; from then on the lake keeps what was observed.")
        })?;
    let context = transforms::session().map_err(|e| Fault::us("no SQL session can be made").because(e))?;
    let present = lake::register(&context, root).await?;
    let mut restored = Restored { lake: root.to_owned(), ..Restored::default() };
    let histories: Vec<Target> = plan.targets().into_iter().filter(|t| t.mode == WriteMode::History).collect();
    for target in histories.iter().filter(|t| present.contains(&t.dataset.name)) {
        let batches = observations(&context, &target.dataset, from, until).await?;
        restored.received += batches.iter().map(|b| b.num_rows() as u64).sum::<u64>();
        if dry_run {
            continue;
        }
        // The key holds the version, so an upsert adds what is missing and changes nothing else.
        let upsert = Target { dataset: target.dataset.clone(), mode: WriteMode::Upsert };
        let mut sink = sinks::postgres::PostgresSink::new(
            database.pool.clone(),
            sinks::postgres::Options { ledger: false, ..sinks::postgres::Options::default() },
        );
        sink.prepare(&[upsert]).await?;
        let id = SliceId { run: Uuid::now_v7(), number: 0 };
        sink.begin(id).await?;
        for batch in batches {
            sink.write(&target.dataset.name, batch).await?;
        }
        let slice = Slice {
            id,
            pipeline: plan.spec.name.clone(),
            observed_at: until,
            complete: std::collections::BTreeMap::new(),
            cursor: None,
            follows: None,
            rejects: Vec::new(),
            notes: Vec::new(),
        };
        restored.inserted += sink.commit(&slice).await?.values().map(|r| r.inserted).sum::<u64>();
    }
    Ok(restored)
}

/// The lake's rows of a history dataset in a range, in the dataset's schema.
async fn observations(
    context: &datafusion::prelude::SessionContext,
    dataset: &Dataset,
    from: DateTime<Utc>,
    until: DateTime<Utc>,
) -> Result<Vec<arrow::array::RecordBatch>> {
    let version = dataset
        .version_column
        .as_deref()
        .ok_or_else(|| Fault::us(format!("history dataset `{}` has no version column", dataset.name)))?;
    let failed = |e: datafusion::error::DataFusionError| {
        Fault::remote(format!("the lake's `{}` cannot be read", dataset.name)).because(e)
    };
    let columns: Vec<String> = dataset.columns.iter().map(|c| format!("\"{}\"", c.name)).collect();
    let sql = format!(
        "select {} from \"{}\" where \"{version}\" >= timestamp '{}' and \"{version}\" < timestamp '{}' order by \"{version}\"",
        columns.join(", "),
        dataset.name,
        from.format("%Y-%m-%dT%H:%M:%SZ"),
        until.format("%Y-%m-%dT%H:%M:%SZ"),
    );
    let batches = context.sql(&sql).await.map_err(failed)?.collect().await.map_err(failed)?;
    let schema = dataset.schema();
    batches
        .into_iter()
        .map(|batch| {
            let columns = schema
                .fields()
                .iter()
                .zip(batch.columns())
                .map(|(field, column)| arrow::compute::cast(column, field.data_type()))
                .collect::<std::result::Result<Vec<_>, _>>()?;
            Ok(arrow::array::RecordBatch::try_new(schema.clone(), columns)?)
        })
        .collect()
}
