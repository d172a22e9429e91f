//! One dataset of the slice under way, on its way into a file.

use std::collections::HashMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, RecordBatch, StringArray};
use arrow::compute::{concat_batches, filter_record_batch, interleave_record_batch};
use arrow::datatypes::SchemaRef;
use arrow::row::{RowConverter, SortField};
use catalog::{Dataset, Fault, Result, SliceId, WriteMode};
use chrono::{DateTime, Utc};
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::basic::{Compression, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::schema::types::ColumnPath;
use tempfile::{NamedTempFile, TempPath};

use super::{io_fault, lake_schema, stamp};
use crate::{Target, rows};

/// Buffers batches; when told to, sorts what it has and adds it to a temporary file as a row group.
pub(super) struct Spool {
    dataset: Dataset,
    mode: WriteMode,
    schema: SchemaRef,
    pending: Vec<RecordBatch>,
    bytes: usize,
    received: u64,
    /// Sorted runs that are encoded already, without the lake's own columns.
    runs: Vec<(TempPath, u64)>,
    /// By key hash the last run that holds the key. Filled only when there is more than one run.
    keys: HashMap<u64, u32>,
    /// Whether a key is in two runs.
    twice: bool,
}

impl Spool {
    pub(super) fn new(target: &Target) -> Self {
        Self {
            schema: target.dataset.schema(),
            dataset: target.dataset.clone(),
            mode: target.mode,
            pending: Vec::new(),
            bytes: 0,
            received: 0,
            runs: Vec::new(),
            keys: HashMap::new(),
            twice: false,
        }
    }

    pub(super) fn push(&mut self, batch: &RecordBatch) -> Result<()> {
        let batch = rows::conform(&self.dataset, &self.schema, batch)?;
        self.received += batch.num_rows() as u64;
        if batch.num_rows() > 0 {
            self.bytes += batch.get_array_memory_size();
            self.pending.push(batch);
        }
        Ok(())
    }

    pub(super) fn buffered(&self) -> usize {
        self.bytes
    }

    pub(super) fn received(&self) -> u64 {
        self.received
    }

    /// Moves what is buffered into a run on disk.
    pub(super) fn encode(&mut self, folder: &Path) -> Result<()> {
        let Some(sorted) = self.sorted()? else { return Ok(()) };
        let run = u32::try_from(self.runs.len()).unwrap_or(u32::MAX);
        let file = temp(folder)?;
        let mut writer = writer(&self.dataset.key(), &self.schema, file.as_file(), sorted.rows(), folder)?;
        for batch in sorted.batches() {
            let batch = batch?;
            if self.keyed() {
                for hash in rows::key_hashes(&self.dataset, &batch) {
                    self.twice |= self.keys.insert(hash, run).is_some_and(|other| other != run);
                }
            }
            writer.write(&batch).map_err(|e| failed(folder, e))?;
        }
        writer.close().map_err(|e| failed(folder, e))?;
        self.runs.push((file.into_temp_path(), sorted.rows() as u64));
        Ok(())
    }

    /// Writes the file. `None` when the slice has no rows of this dataset.
    pub(super) fn finish(
        mut self,
        folder: &Path,
        observed_at: DateTime<Utc>,
        slice: SliceId,
    ) -> Result<Option<(TempPath, u64)>> {
        if !self.runs.is_empty() {
            self.encode(folder)?;
        }
        let last = self.sorted()?;
        let expected = last.as_ref().map_or_else(
            || self.runs.iter().map(|(_, rows)| usize::try_from(*rows).unwrap_or(usize::MAX)).max().unwrap_or(0),
            Sorted::rows,
        );
        if expected == 0 {
            return Ok(None);
        }
        let schema = lake_schema(&self.dataset);
        let id = slice.to_string();
        let stamped = |batch: &RecordBatch| -> Result<RecordBatch> {
            let mut columns = batch.columns().to_vec();
            columns.push(Arc::new(stamp(observed_at, batch.num_rows())));
            columns.push(Arc::new(StringArray::from_iter_values(std::iter::repeat_n(&id, batch.num_rows()))));
            Ok(RecordBatch::try_new(Arc::clone(&schema), columns)?)
        };
        let file = temp(folder)?;
        let mut writer = writer(&self.dataset.key(), &schema, file.as_file(), expected, folder)?;
        let mut count = 0;
        if let Some(sorted) = last {
            for batch in sorted.batches() {
                writer.write(&stamped(&batch?)?).map_err(|e| failed(folder, e))?;
            }
            count += sorted.rows() as u64;
        }
        for (number, (path, _)) in (0_u32..).zip(&self.runs) {
            let run = File::open(path).map_err(|e| io_fault("read", path, e))?;
            let reader = ParquetRecordBatchReaderBuilder::try_new(run)
                .and_then(|b| b.with_batch_size(8192).build())
                .map_err(|e| failed(folder, e))?;
            for batch in reader {
                let mut batch = batch?.with_schema(Arc::clone(&self.schema))?;
                if self.twice {
                    // The last one wins: a row gives way to its key in a later run.
                    let keep: BooleanArray = rows::key_hashes(&self.dataset, &batch)
                        .iter()
                        .map(|hash| Some(self.keys.get(hash) == Some(&number)))
                        .collect();
                    batch = filter_record_batch(&batch, &keep)?;
                }
                writer.write(&stamped(&batch)?).map_err(|e| failed(folder, e))?;
                count += batch.num_rows() as u64;
            }
            writer.flush().map_err(|e| failed(folder, e))?;
        }
        writer.close().map_err(|e| failed(folder, e))?;
        Ok(Some((file.into_temp_path(), count)))
    }

    fn keyed(&self) -> bool {
        self.mode != WriteMode::Append && self.dataset.columns.iter().any(|c| c.key)
    }

    /// What is buffered, one row a key, in the order of the keys.
    fn sorted(&mut self) -> Result<Option<Sorted>> {
        let mut batches = std::mem::take(&mut self.pending);
        self.bytes = 0;
        if batches.is_empty() {
            return Ok(None);
        }
        let keys = self.dataset.key();
        if keys.is_empty() {
            return Ok(Some(Sorted { batches, order: None }));
        }
        let keyed = self.keyed();
        // Floats that are equal as keys need not be the same bytes.
        if keyed && rows::pick(&batches[0], &keys).iter().any(|k| k.data_type().is_floating()) {
            let whole = concat_batches(&self.schema, &batches)?;
            batches = vec![rows::last_of_each_key(&self.dataset, &whole)?.unwrap_or(whole)];
        }
        let columns: Vec<_> = batches.iter().map(|batch| rows::pick(batch, &keys)).collect();
        let order = order(&columns, keyed)?;
        Ok(Some(Sorted { batches, order }))
    }
}

/// Rows that are handed out together on their way into a file.
const STRETCH_ROWS: usize = 4096;

/// Rows in the order in which a file has them. They stay where they are until they are written.
struct Sorted {
    batches: Vec<RecordBatch>,
    /// Batch and row of each; none when that is how they lie.
    order: Option<Vec<(u32, u32)>>,
}

impl Sorted {
    fn rows(&self) -> usize {
        match &self.order {
            Some(order) => order.len(),
            None => self.batches.iter().map(RecordBatch::num_rows).sum(),
        }
    }

    /// The rows, a stretch at a time.
    fn batches(&self) -> Box<dyn Iterator<Item = Result<RecordBatch>> + '_> {
        let Some(order) = &self.order else { return Box::new(self.batches.iter().cloned().map(Ok)) };
        let batches: Vec<&RecordBatch> = self.batches.iter().collect();
        Box::new(order.chunks(STRETCH_ROWS).map(move |stretch| {
            let places: Vec<_> = stretch.iter().map(|(batch, row)| (*batch as usize, *row as usize)).collect();
            Ok(interleave_record_batch(&batches, &places)?)
        }))
    }
}

/// The rows in the order of their keys, those of one key in their own order; of those, if `last`, the last one only.
/// `None` when that is how they are.
fn order(keys: &[Vec<ArrayRef>], last: bool) -> Result<Option<Vec<(u32, u32)>>> {
    let Some(first) = keys.first() else { return Ok(None) };
    let converter = RowConverter::new(first.iter().map(|k| SortField::new(k.data_type().clone())).collect())?;
    let mut rows = converter.empty_rows(0, 0);
    let mut places: Vec<(u32, u32)> = Vec::new();
    for (batch, columns) in (0_u32..).zip(keys) {
        converter.append(&mut rows, columns)?;
        let count = u32::try_from(columns.first().map_or(0, |c| c.len())).unwrap_or(u32::MAX);
        places.extend((0..count).map(|row| (batch, row)));
    }
    let count = rows.num_rows();
    let ordered = |a: usize, b: usize| if last { rows.row(a) < rows.row(b) } else { rows.row(a) <= rows.row(b) };
    if (1..count).all(|row| ordered(row - 1, row)) {
        return Ok(None);
    }
    let mut order: Vec<usize> = (0..count).collect();
    order.sort_by(|a, b| rows.row(*a).cmp(&rows.row(*b)));
    let kept = (0..count)
        .filter(|at| !last || order.get(at + 1).is_none_or(|next| rows.row(*next) != rows.row(order[*at])))
        .map(|at| places[order[at]]);
    Ok(Some(kept.collect()))
}

pub(super) fn temp(folder: &Path) -> Result<NamedTempFile> {
    NamedTempFile::new_in(folder).map_err(|e| io_fault("write to", folder, e))
}

/// A writer of a lake's file, with bloom filters on the keys.
pub(super) fn writer<'a>(
    keys: &[&str],
    schema: &SchemaRef,
    file: &'a File,
    expected: usize,
    folder: &Path,
) -> Result<ArrowWriter<&'a File>> {
    let mut properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::default()))
        .set_statistics_enabled(EnabledStatistics::Page)
        .set_created_by(concat!("propflow ", env!("CARGO_PKG_VERSION")).to_owned());
    for key in keys {
        let path = ColumnPath::from((*key).to_owned());
        properties = properties.set_column_bloom_filter_enabled(path.clone(), true);
        properties = properties.set_column_bloom_filter_max_ndv(path, expected.max(1) as u64);
    }
    ArrowWriter::try_new(file, Arc::clone(schema), Some(properties.build())).map_err(|e| failed(folder, e))
}

pub(super) fn failed(folder: &Path, error: ParquetError) -> Fault {
    match error {
        ParquetError::External(inner) => match inner.downcast::<std::io::Error>() {
            Ok(io) => io_fault("write to", &PathBuf::from(folder), *io),
            Err(other) => Fault::us("Parquet could not be encoded").because(other),
        },
        other => Fault::us("Parquet could not be encoded").because(other),
    }
}
