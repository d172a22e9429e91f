//! Row by row: loaded, or refused with a reason.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, RecordBatch};
use arrow::compute::{CastOptions, cast_with_options, filter_record_batch};
use arrow::datatypes::{DataType, SchemaRef};
use arrow::row::{RowConverter, SortField};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use catalog::{Dataset, Fault, Reject, RejectKind, Result};
use xxhash_rust::xxh3::xxh3_128;

use super::nullable;
use super::step::{ISSUE, REJECT};

/// Decides row by row what of a model's result is loaded.
pub(super) struct Judge {
    dataset: &'static Dataset,
    schema: SchemaRef,
    keys: RowConverter,
    /// Hashes of the keys so far; by chance, two keys of a slice would share one less often than a disk lies.
    seen: HashSet<u128>,
    pub(super) rejects: Vec<Reject>,
}

impl Judge {
    pub(super) fn new(dataset: &'static Dataset) -> Result<Self> {
        let keys = dataset.columns.iter().filter(|c| c.key).map(|c| SortField::new(c.kind.arrow())).collect();
        Ok(Self {
            dataset,
            schema: dataset.schema(),
            keys: RowConverter::new(keys)?,
            seen: HashSet::new(),
            rejects: Vec::new(),
        })
    }

    /// The rows of the batch that are good, in the dataset's schema.
    pub(super) fn admit(&mut self, batch: &RecordBatch) -> Result<RecordBatch> {
        let mut reasons: BTreeMap<usize, String> = BTreeMap::new();
        let mut issues: BTreeMap<usize, Vec<String>> = BTreeMap::new();
        for (row, reason) in texts(batch, REJECT)? {
            reasons.insert(row, reason);
        }
        for (row, issue) in texts(batch, ISSUE)? {
            issues.entry(row).or_default().push(issue);
        }
        let mut columns = Vec::with_capacity(self.dataset.columns.len());
        for column in &self.dataset.columns {
            let from = batch
                .column_by_name(&column.name)
                .ok_or_else(|| Fault::us(format!("its result lacks the column `{}`", column.name)))?;
            let to = cast_with_options(from, &column.kind.arrow(), &CastOptions { safe: true, ..Default::default() })?;
            if to.null_count() > from.null_count() {
                for row in (0..to.len()).filter(|r| to.is_null(*r) && from.is_valid(*r)) {
                    issues
                        .entry(row)
                        .or_default()
                        .push(format!("`{}` does not fit its type, so it is left unknown", column.name));
                }
            }
            if column.required && to.null_count() > 0 {
                for row in (0..to.len()).filter(|r| to.is_null(*r)) {
                    reasons.entry(row).or_insert_with(|| format!("`{}` has no value", column.name));
                }
            }
            columns.push(to);
        }
        self.seen.reserve(batch.num_rows());
        let keys: Vec<ArrayRef> =
            self.dataset.columns.iter().zip(&columns).filter(|(c, _)| c.key).map(|(_, a)| Arc::clone(a)).collect();
        let rows = self.keys.convert_columns(&keys)?;
        for (number, row) in rows.iter().enumerate() {
            if !reasons.contains_key(&number) && !self.seen.insert(xxh3_128(row.as_ref())) {
                reasons.insert(number, "another row has the same key".to_owned());
            }
        }
        let whole = RecordBatch::try_new(nullable(&self.schema), columns)?;
        for (row, issues) in issues.into_iter().filter(|(row, _)| !reasons.contains_key(row)) {
            self.rejects.push(self.reject(&whole, &keys, row, RejectKind::Value, issues.join("; "))?);
        }
        let good = if reasons.is_empty() {
            whole
        } else {
            let keep: BooleanArray = (0..whole.num_rows()).map(|r| Some(!reasons.contains_key(&r))).collect();
            for (row, reason) in reasons {
                self.rejects.push(self.reject(&whole, &keys, row, RejectKind::Row, reason)?);
            }
            filter_record_batch(&whole, &keep)?
        };
        Ok(RecordBatch::try_new(Arc::clone(&self.schema), good.columns().to_vec())?)
    }

    fn reject(
        &self,
        batch: &RecordBatch,
        keys: &[ArrayRef],
        row: usize,
        kind: RejectKind,
        reason: String,
    ) -> Result<Reject> {
        let options = FormatOptions::default();
        let mut key = Vec::with_capacity(keys.len());
        for column in keys {
            key.push(ArrayFormatter::try_new(column, &options)?.value(row).to_string());
        }
        let scope = self.dataset.scope.as_deref().and_then(|s| batch.column_by_name(s)).map(|c| c.as_string::<i32>());
        let mut writer = arrow::json::ArrayWriter::new(Vec::new());
        writer.write(&batch.slice(row, 1))?;
        writer.finish()?;
        let payload: serde_json::Value = serde_json::from_slice(&writer.into_inner()).unwrap_or_default();
        Ok(Reject {
            dataset: self.dataset.name.clone(),
            scope: scope.filter(|s| s.is_valid(row)).map(|s| s.value(row).to_owned()),
            key: key.join("/"),
            kind,
            reason,
            payload: payload.get(0).cloned().unwrap_or_default(),
        })
    }
}

/// The rows of an optional text column that have a value.
fn texts(batch: &RecordBatch, column: &str) -> Result<Vec<(usize, String)>> {
    let Some(array) = batch.column_by_name(column).filter(|a| a.null_count() < a.len()) else { return Ok(Vec::new()) };
    let array = arrow::compute::cast(array, &DataType::Utf8)?;
    Ok(array.as_string::<i32>().iter().enumerate().filter_map(|(row, v)| Some((row, v?.to_owned()))).collect())
}
