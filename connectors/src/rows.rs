//! Wire rows on their way into Arrow batches.

use std::collections::HashMap;

use arrow::array::{ArrayRef, RecordBatch, StringBuilder};
use arrow::datatypes::SchemaRef;
pub use catalog::id;
use catalog::{Fault, Result};
use serde_json::value::RawValue;

/// Rows of one wire dataset, all text, under construction.
///
/// A cell is set by row and column index; what is never set is null and costs nothing until the batch is finished. Cells
/// of one column must be set in the order of their rows, but columns are independent of each other: the id of an owner
/// that is known last can be filled in last.
#[derive(Debug)]
pub struct Table {
    name: &'static str,
    schema: SchemaRef,
    columns: Vec<StringBuilder>,
    rows: usize,
    bytes: usize,
}

impl Table {
    /// An empty table of the dataset of that name.
    pub fn of(name: &'static str) -> Result<Self> {
        let dataset =
            catalog::datasets::find(name).ok_or_else(|| Fault::us(format!("there is no dataset `{name}`")))?;
        let schema = dataset.schema();
        let columns = schema.fields().iter().map(|_| StringBuilder::new()).collect();
        Ok(Self { name, schema, columns, rows: 0, bytes: 0 })
    }

    /// The dataset's name.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// The index of a column.
    pub fn column(&self, name: &str) -> Result<usize> {
        self.schema.index_of(name).map_err(|_| Fault::us(format!("`{}` has no column `{name}`", self.name)))
    }

    /// How many rows there are.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// How many bytes of text there are.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Starts a row and gives its index.
    pub fn add(&mut self) -> usize {
        self.rows += 1;
        self.rows - 1
    }

    /// Sets a cell. One that has a value already, or stands before a cell of its column that has one, keeps what it has.
    pub fn set(&mut self, column: usize, row: usize, value: &str) {
        let builder = &mut self.columns[column];
        let filled = arrow::array::ArrayBuilder::len(builder);
        if filled > row {
            return;
        }
        if filled < row {
            builder.append_nulls(row - filled);
        }
        builder.append_value(value);
        self.bytes += value.len();
    }

    /// Sets a cell of the last row.
    pub fn put(&mut self, column: usize, value: &str) {
        if let Some(row) = self.rows.checked_sub(1) {
            self.set(column, row, value);
        }
    }

    /// Sets a column of the rows from `from` on.
    pub fn fill(&mut self, column: usize, from: usize, value: &str) {
        for row in from..self.rows {
            self.set(column, row, value);
        }
    }

    /// Takes the first `keep` rows as a batch in the dataset's schema and drops the others.
    pub fn take(&mut self, keep: usize) -> Result<RecordBatch> {
        let rows = std::mem::take(&mut self.rows);
        self.bytes = 0;
        let finish = |builder: &mut StringBuilder| -> ArrayRef {
            let missing = rows - arrow::array::ArrayBuilder::len(builder);
            if missing > 0 {
                builder.append_nulls(missing);
            }
            // The next batch is about as large: its builder starts at this size and does not grow by doubling, which
            // would copy the text and leave up to half of the room unused.
            let (cells, bytes) = (rows, builder.values_slice().len());
            let next = match bytes {
                0 => StringBuilder::new(),
                _ => StringBuilder::with_capacity(cells + cells / 8, bytes + bytes / 8),
            };
            std::sync::Arc::new(std::mem::replace(builder, next).finish())
        };
        let arrays: Vec<ArrayRef> = self.columns.iter_mut().map(finish).map(|array| array.slice(0, keep)).collect();
        Ok(RecordBatch::try_new(self.schema.clone(), arrays)?)
    }

    /// Takes all rows as a batch.
    pub fn finish(&mut self) -> Result<RecordBatch> {
        self.take(self.rows)
    }
}

/// Declares a struct of column indexes, each field named like its column.
macro_rules! columns {
    ($(#[$meta:meta])* $name:ident of $table:literal: $($column:ident)*) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy)]
        struct $name { $($column: usize,)* }

        impl $name {
            fn of(table: &$crate::rows::Table) -> catalog::Result<Self> {
                debug_assert_eq!(table.name(), $table);
                Ok(Self { $($column: table.column(stringify!($column))?,)* })
            }
        }
    };
}
pub(crate) use columns;

/// A JSON object whose values are still as they were written.
pub type Object<'a> = HashMap<String, &'a RawValue>;

/// A JSON value as a cell: text without its quotes, numbers and flags as written, null as `None`, lists and objects as
/// JSON.
pub fn cell(value: &RawValue) -> Option<String> {
    match value.get() {
        "null" => None,
        text if text.starts_with('"') => serde_json::from_str(text).ok(),
        text => Some(text.to_owned()),
    }
}

/// A value of an object by its key, or else by its key in another case.
pub fn field<'a>(object: &Object<'a>, key: &str) -> Option<&'a RawValue> {
    let other = || object.iter().find(|(k, _)| k.eq_ignore_ascii_case(key)).map(|(_, v)| v);
    object.get(key).or_else(other).copied()
}

#[cfg(test)]
mod tests {
    use arrow::array::{Array, AsArray};

    use super::*;

    #[test]
    fn columns_fill_in_any_order_and_rows_can_be_dropped() {
        let mut table = Table::of("mits_buildings").unwrap();
        let (property, name) = (table.column("property_id").unwrap(), table.column("name").unwrap());
        for text in ["a", "b", "c"] {
            let row = table.add();
            if text != "b" {
                table.set(name, row, text);
                table.set(name, row, "second values lose");
            }
        }
        table.fill(property, 0, "p");
        let batch = table.take(2).unwrap();
        let names = batch.column(name).as_string::<i32>();
        assert_eq!((names.len(), names.value(0), names.is_null(1)), (2, "a", true));
        assert_eq!(batch.column(property).as_string::<i32>().value(1), "p");
        assert_eq!(table.finish().unwrap().num_rows(), 0);
    }

    #[test]
    fn numbers_stay_as_written() {
        let text = r#"{"amount": 1500.00, "name": "a\u0022b", "none": null, "on": true, "list": [1]}"#;
        let object: Object<'_> = serde_json::from_str(text).unwrap();
        let cell = |key| field(&object, key).and_then(cell);
        assert_eq!(cell("Amount").as_deref(), Some("1500.00"));
        assert_eq!(cell("name").as_deref(), Some("a\"b"));
        assert_eq!(cell("none"), None);
        assert_eq!(cell("on").as_deref(), Some("true"));
        assert_eq!(cell("list").as_deref(), Some("[1]"));
    }
}
