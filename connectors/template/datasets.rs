//! The wire datasets: text as it came, each row behind the connection that it belongs to.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, StringArray};
use catalog::dataset::text;
use catalog::{Dataset, Result};

use super::api::Item;

pub(super) const ITEMS: &str = "template_items";

pub(super) fn items() -> Dataset {
    Dataset::new(ITEMS, "one item of the file")
        .columns([
            text("connection", "the connection that listed it").key(),
            text("id", "`id` as written").key(),
            text("name", "`name` as written"),
        ])
        .scope("connection")
}

pub(super) fn batch(connection: &str, rows: &[Item]) -> Result<RecordBatch> {
    let columns: Vec<ArrayRef> = vec![
        Arc::new(StringArray::from(vec![connection; rows.len()])),
        Arc::new(StringArray::from_iter_values(rows.iter().map(|i| &i.id))),
        Arc::new(StringArray::from_iter(rows.iter().map(|i| i.name.as_deref()))),
    ];
    Ok(RecordBatch::try_new(items().schema(), columns)?)
}
