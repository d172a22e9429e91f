//! SQL as text files: `tests/slt/*.slt`, run over a session with every function.
//!
//! The statement `run models` takes the tables that have the names of wire datasets for a slice, runs every model over
//! it, and makes tables of what they give, with `rejects` (dataset, key, kind, reason) among them.
//!
//! With `SLT_FIX=1` the expected results are written anew.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, StringArray};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use catalog::{Fault, Reject, RejectKind, datasets};
use chrono::{TimeZone, Utc};
use datafusion::datasource::MemTable;
use datafusion::error::DataFusionError;
use datafusion::prelude::SessionContext;
use sqllogictest::{AsyncDB, DBOutput, DefaultColumnType, Runner};

struct Session(SessionContext);

impl Session {
    async fn models(&self) -> Result<(), DataFusionError> {
        let context = &self.0;
        let mut tables = BTreeMap::new();
        for dataset in datasets::all() {
            if context.table_exist(dataset.name.as_str())? {
                let rows = context.table(dataset.name.as_str()).await?.collect().await?;
                tables.insert(dataset.name.clone(), rows);
            }
        }
        let slice = transforms::SliceInfo {
            observed_at: Utc.with_ymd_and_hms(2026, 8, 1, 12, 0, 0).unwrap(),
            connection: "acme".to_owned(),
            currency: "USD".to_owned(),
            region: "US".to_owned(),
            concessions_included: false,
        };
        let failed = |e: Fault| DataFusionError::Execution(e.chain());
        let models = transforms::models::all().map_err(failed)?;
        let output = transforms::run(&models, transforms::Inputs { tables, slice }).await.map_err(failed)?;
        for (name, batches) in output.tables {
            let schema = datasets::find(&name).unwrap().schema();
            context.register_table(name.as_str(), Arc::new(MemTable::try_new(schema, vec![batches])?))?;
        }
        let rejects = &output.rejects;
        let column = |of: fn(&Reject) -> &str| Arc::new(rejects.iter().map(|r| Some(of(r))).collect::<StringArray>());
        let columns: [(&str, ArrayRef); 4] = [
            ("dataset", column(|r| &r.dataset)),
            ("key", column(|r| &r.key)),
            ("kind", column(|r| if r.kind == RejectKind::Row { "row" } else { "value" })),
            ("reason", column(|r| &r.reason)),
        ];
        context.register_batch("rejects", RecordBatch::try_from_iter(columns)?)?;
        Ok(())
    }
}

#[async_trait::async_trait]
impl AsyncDB for Session {
    type Error = DataFusionError;
    type ColumnType = DefaultColumnType;

    async fn run(&mut self, sql: &str) -> Result<DBOutput<DefaultColumnType>, Self::Error> {
        if sql.trim() == "run models" {
            self.models().await?;
            return Ok(DBOutput::StatementComplete(0));
        }
        let batches = self.0.sql(sql).await?.collect().await?;
        let Some(first) = batches.first().filter(|b| b.num_columns() > 0) else {
            return Ok(DBOutput::StatementComplete(0));
        };
        let types = vec![DefaultColumnType::Any; first.num_columns()];
        let options = FormatOptions::new().with_null("NULL");
        let mut rows = Vec::new();
        for batch in &batches {
            let columns: Vec<_> =
                batch.columns().iter().map(|c| ArrayFormatter::try_new(c, &options)).collect::<Result<_, _>>()?;
            for row in 0..batch.num_rows() {
                let text = |c: &ArrayFormatter<'_>| match c.value(row).to_string() {
                    text if text.is_empty() => "(empty)".to_owned(),
                    text => text,
                };
                rows.push(columns.iter().map(text).collect());
            }
        }
        Ok(DBOutput::Rows { types, rows })
    }

    async fn shutdown(&mut self) {}
}

#[tokio::test]
async fn every_file_gives_what_it_says() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("slt");
    let mut files = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let file = entry.unwrap().path();
        // A session of its own for each pass: the tables of the first are in the way of the second.
        let runner = || Runner::new(|| async { Ok(Session(transforms::session()?)) });
        if std::env::var_os("SLT_FIX").is_some() {
            let columns = sqllogictest::default_column_validator;
            let (validator, normalizer) = (sqllogictest::default_validator, sqllogictest::default_normalizer);
            runner().update_test_file(&file, " ", validator, normalizer, columns).await.unwrap();
        }
        if let Err(error) = runner().run_file_async(&file).await {
            panic!("{}", error.display(false));
        }
        files += 1;
    }
    assert!(files > 0);
}
