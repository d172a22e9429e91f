//! SQL as text files: `tests/slt/*.slt`, run over a session with every function.
//!
//! With `SLT_FIX=1` the expected results are written anew.

use std::path::Path;

use arrow::util::display::{ArrayFormatter, FormatOptions};
use datafusion::prelude::SessionContext;
use sqllogictest::{AsyncDB, DBOutput, DefaultColumnType, Runner};

struct Session(SessionContext);

#[async_trait::async_trait]
impl AsyncDB for Session {
    type Error = datafusion::error::DataFusionError;
    type ColumnType = DefaultColumnType;

    async fn run(&mut self, sql: &str) -> Result<DBOutput<DefaultColumnType>, Self::Error> {
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
        let mut runner = Runner::new(|| async { Ok(Session(transforms::session()?)) });
        if std::env::var_os("SLT_FIX").is_some() {
            let columns = sqllogictest::default_column_validator;
            let (validator, normalizer) = (sqllogictest::default_validator, sqllogictest::default_normalizer);
            runner.update_test_file(&file, " ", validator, normalizer, columns).await.unwrap();
        }
        if let Err(error) = runner.run_file_async(&file).await {
            panic!("{}", error.display(false));
        }
        files += 1;
    }
    assert!(files > 0);
}
