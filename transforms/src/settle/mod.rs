//! Which source rows are one booking, and which bookings are of one guest.
//!
//! The models of the layer `settle` are SQL; these two questions are not, because their answer is a partition: each link
//! changes what the next one may do, and SQL would compute every step once for each step that reads it. What is decided
//! here comes to the models as two tables, [`ASSIGNMENTS`] and [`GUEST_ASSIGNMENTS`].

mod assign;
mod guests;

use std::collections::BTreeMap;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, RecordBatch, StringArray};
use arrow::datatypes::{Date32Type, Int64Type, TimestampMicrosecondType};
use catalog::{Fault, Result, datasets};
use chrono::{DateTime, Utc};

pub use assign::ASSIGNMENTS;
pub use guests::GUEST_ASSIGNMENTS;

/// Adds the two tables to those of a settling: `source_bookings`, `source_removals`, `source_guests`, `listings` and the
/// former `booking_sources` and `guest_identities`. The same tables give the same answer, whatever the order of their rows.
///
/// # Errors
/// A table without a column of its dataset.
pub fn assign(tables: &mut BTreeMap<String, Vec<RecordBatch>>, observed_at: DateTime<Utc>) -> Result<()> {
    let assigned = assign::assign(tables, observed_at.timestamp_micros())?;
    let guests = guests::assign(tables, &assigned)?;
    tables.insert(ASSIGNMENTS.to_owned(), vec![assign::batch(&assigned)?]);
    tables.insert(GUEST_ASSIGNMENTS.to_owned(), vec![guests]);
    Ok(())
}

/// The keys of `guest_identities` that may say who the guests of these rows are.
///
/// # Errors
/// As for [`assign`].
pub fn guest_marks(tables: &BTreeMap<String, Vec<RecordBatch>>) -> Result<Vec<String>> {
    Ok(guests::possible(tables)?.into_iter().collect())
}

type Tables = BTreeMap<String, Vec<RecordBatch>>;

/// One row of a batch, by column names.
#[derive(Clone, Copy)]
struct Row<'a> {
    batch: &'a RecordBatch,
    at: usize,
}

/// The rows of a table.
fn rows<'a>(tables: &'a Tables, name: &str) -> impl Iterator<Item = Row<'a>> {
    let batches = tables.get(name).map_or(&[][..], Vec::as_slice);
    batches.iter().flat_map(|batch| (0..batch.num_rows()).map(move |at| Row { batch, at }))
}

impl<'a> Row<'a> {
    fn array(self, column: &str) -> Result<&'a ArrayRef> {
        self.batch.column_by_name(column).ok_or_else(|| Fault::us(format!("rows to settle lack the column `{column}`")))
    }

    fn text(self, column: &str) -> Result<Option<&'a str>> {
        let array = self
            .array(column)?
            .as_string_opt::<i32>()
            .ok_or_else(|| Fault::us(format!("the column `{column}` to settle is not text")))?;
        Ok(array.is_valid(self.at).then(|| array.value(self.at)))
    }

    fn word(self, column: &str) -> Result<&'a str> {
        Ok(self.text(column)?.unwrap_or_default())
    }

    fn instant(self, column: &str) -> Result<Option<i64>> {
        let array = self.array(column)?.as_primitive_opt::<TimestampMicrosecondType>();
        Ok(array.filter(|a| a.is_valid(self.at)).map(|a| a.value(self.at)))
    }

    fn int(self, column: &str) -> Result<i64> {
        let array = self.array(column)?.as_primitive_opt::<Int64Type>();
        Ok(array.filter(|a| a.is_valid(self.at)).map_or(0, |a| a.value(self.at)))
    }

    fn day(self, column: &str) -> Result<i32> {
        let array = self.array(column)?.as_primitive_opt::<Date32Type>();
        Ok(array.filter(|a| a.is_valid(self.at)).map_or(0, |a| a.value(self.at)))
    }

    fn flag(self, column: &str) -> Result<bool> {
        Ok(self.array(column)?.as_boolean_opt().is_some_and(|a: &BooleanArray| a.is_valid(self.at) && a.value(self.at)))
    }
}

/// A batch of an input dataset whose columns are all text.
fn text_batch(dataset: &str, rows: &[Vec<String>]) -> Result<RecordBatch> {
    let found = datasets::find(dataset).ok_or_else(|| Fault::us(format!("the catalog has no `{dataset}`")))?;
    let columns = (0..found.columns.len())
        .map(|c| std::sync::Arc::new(rows.iter().map(|r| r.get(c)).collect::<StringArray>()) as ArrayRef)
        .collect();
    Ok(RecordBatch::try_new(found.schema(), columns)?)
}

/// Sets that grow together.
struct Union(Vec<usize>);

impl Union {
    fn new(count: usize) -> Self {
        Self((0..count).collect())
    }

    fn find(&mut self, mut at: usize) -> usize {
        while self.0[at] != at {
            self.0[at] = self.0[self.0[at]];
            at = self.0[at];
        }
        at
    }

    /// The smaller root becomes that of both.
    fn join(&mut self, a: usize, b: usize) {
        let (a, b) = (self.find(a), self.find(b));
        self.0[a.max(b)] = a.min(b);
    }
}
