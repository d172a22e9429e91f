//! Parquet: the lake. One file a slice and dataset, and a commit record a slice, put last. `README.md` beside this file
//! is the contract for those who read it.

mod journal;
mod rewrite;
mod spool;
mod store;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ::parquet::arrow::ArrowWriter;
use ::parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use arrow::array::{
    ArrayRef, AsArray, Int64Builder, RecordBatch, StringArray, StringBuilder, TimestampMicrosecondArray,
};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit, TimestampMicrosecondType};
use async_trait::async_trait;
use bytes::Bytes;
use catalog::{Clock, Component, Dataset, Env, Fault, Result, Slice, SliceId, WriteMode};
use chrono::{DateTime, Utc};
use futures::{StreamExt, TryStreamExt};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};
use tempfile::TempPath;

use self::journal::{Journal, Rows};
pub use self::rewrite::{Change, Lake, LakeFile};
use self::spool::Spool;
use self::store::Store;
use crate::{Abilities, Kept, Receipt, Sink, Target};

/// Rows held in memory before they are sorted and encoded, over all datasets, in bytes of Arrow.
const BUFFER_BYTES: usize = 16 << 20;

/// Files that are put at once.
const PUTS_AT_ONCE: usize = 8;

/// The component `parquet`.
#[derive(Debug)]
pub struct Parquet;

/// Settings of `parquet`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The lake's root: a folder, or a `file://` or `s3://` URL. Credentials for S3 come from the environment (`AWS_*`).
    path: String,
}

#[async_trait]
impl Component for Parquet {
    type Live = dyn Sink;
    type Config = Config;
    const NAME: &'static str = "parquet";
    const ABOUT: &'static str = "Parquet files in a folder or an S3 bucket, one a slice and dataset";

    async fn open(config: Config, env: Env) -> Result<Box<dyn Sink>> {
        Ok(Box::new(ParquetSink { clock: env.clock, ..ParquetSink::open(&config.path)? }))
    }

    fn address(rest: &str) -> Option<Value> {
        (!rest.is_empty()).then(|| json!({ "path": rest }))
    }
}

/// The names of the two columns that the lake adds to a dataset: when the row was read, and its slice. They are
/// `observed_at` and `slice_id`, with a leading underscore where the dataset has a column of that name.
pub fn lake_columns(dataset: &Dataset) -> (String, String) {
    let name = |name: &str| {
        let mut name = name.to_owned();
        while dataset.column(&name).is_some() {
            name.insert(0, '_');
        }
        name
    };
    (name("observed_at"), name("slice_id"))
}

/// The schema of a dataset's files.
pub fn lake_schema(dataset: &Dataset) -> SchemaRef {
    let schema = dataset.schema();
    let (observed_at, slice_id) = lake_columns(dataset);
    let about = |text: &str| [(catalog::dataset::ABOUT.to_owned(), text.to_owned())].into();
    let mut fields: Vec<_> = schema.fields().iter().cloned().collect();
    fields.push(Arc::new(
        Field::new(observed_at, instant(), false).with_metadata(about("when the row was read from its vendor")),
    ));
    fields.push(Arc::new(
        Field::new(slice_id, DataType::Utf8, false).with_metadata(about("the slice that brought the row")),
    ));
    Arc::new(Schema::new_with_metadata(fields, schema.metadata().clone()))
}

/// The schema of a commit record: what the slice holds, one row a dataset, and one a complete scope and origin.
pub fn slices_schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("slice_id", DataType::Utf8, false),
        Field::new("observed_at", instant(), false),
        Field::new("pipeline", DataType::Utf8, false),
        Field::new("dataset", DataType::Utf8, false),
        Field::new("scope", DataType::Utf8, true),
        Field::new("origin", DataType::Utf8, true),
        Field::new("rows", DataType::Int64, true),
    ]))
}

fn instant() -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))
}

/// The sink.
pub struct ParquetSink {
    store: Store,
    targets: BTreeMap<String, Target>,
    spools: BTreeMap<String, Spool>,
    slice: Option<SliceId>,
    clock: Arc<dyn Clock>,
    /// The journal of a copy, and the rows of its slice that is not yet committed.
    copy: Option<(Journal, Rows)>,
}

impl fmt::Debug for ParquetSink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ParquetSink").field("store", &self.store).field("slice", &self.slice).finish_non_exhaustive()
    }
}

impl ParquetSink {
    /// A sink on this lake. Touches nothing yet.
    pub fn open(root: &str) -> Result<Self> {
        Ok(Self {
            store: Store::open(root)?,
            targets: BTreeMap::new(),
            spools: BTreeMap::new(),
            slice: None,
            clock: Arc::new(catalog::SystemClock),
            copy: None,
        })
    }

    async fn try_write(&mut self, dataset: &str, batch: &RecordBatch) -> Result<()> {
        let Some(spool) = self.spools.get_mut(dataset) else {
            return Err(Fault::us(format!("`{dataset}` was not prepared")));
        };
        spool.push(batch)?;
        while self.spools.values().map(Spool::buffered).sum::<usize>() > BUFFER_BYTES {
            let biggest = self.spools.iter().max_by_key(|(_, s)| s.buffered()).map(|(name, _)| name.clone());
            let Some(name) = biggest else { break };
            self.encode(&name).await?;
        }
        Ok(())
    }

    /// Sorts and encodes what a dataset has buffered, off the async threads.
    async fn encode(&mut self, name: &str) -> Result<()> {
        let Some(mut spool) = self.spools.remove(name) else { return Ok(()) };
        let folder = self.store.scratch()?;
        let spool = blocking(move || {
            spool.encode(&folder)?;
            Ok(spool)
        })
        .await?;
        self.spools.insert(name.to_owned(), spool);
        Ok(())
    }

    /// Puts rows that are committed into the spools.
    fn gather(&mut self, rows: Rows) -> Result<()> {
        for (dataset, batch) in rows {
            let Some(target) = self.targets.get(&dataset) else {
                return Err(Fault::user(format!("a former copy left rows of `{dataset}`, which is no longer read"))
                    .hint("Begin anew with `--fresh`."));
            };
            self.spools.entry(dataset).or_insert_with(|| Spool::new(target)).push(&batch)?;
        }
        Ok(())
    }

    /// Commits a slice of a copy to its journal; once enough has come together, that becomes a slice of the lake.
    async fn commit_copy(&mut self, slice: &Slice) -> Result<BTreeMap<String, Receipt>> {
        let Some((journal, rows)) = &mut self.copy else { return Err(Fault::us("there is no copy under way")) };
        let rows = std::mem::take(rows);
        journal.append(slice, &rows)?;
        let mut receipts: BTreeMap<String, Receipt> = BTreeMap::new();
        for (dataset, batch) in &rows {
            let receipt = receipts.entry(dataset.clone()).or_default();
            receipt.received += batch.num_rows() as u64;
            receipt.appended += batch.num_rows() as u64;
        }
        self.gather(rows)?;
        if self.spools.values().map(Spool::buffered).sum::<usize>() > BUFFER_BYTES {
            self.settle_copy(false).await?;
        }
        Ok(receipts)
    }

    /// Makes a slice of the lake of what is in the journal.
    async fn settle_copy(&mut self, whole: bool) -> Result<()> {
        if let Some(slice) = self.copy.as_ref().and_then(|(journal, _)| journal.slice()) {
            for (name, target) in &self.targets {
                self.spools.entry(name.clone()).or_insert_with(|| Spool::new(target));
            }
            if let Err(fault) = self.try_commit(&slice).await {
                // The journal holds what could not be put, and the next copy begins with it. This one must not call it settled.
                self.copy = None;
                return Err(fault);
            }
        }
        let now = self.clock.now();
        match &mut self.copy {
            Some((journal, _)) => journal.settled(&self.store, now, whole).await,
            None => Ok(()),
        }
    }

    async fn try_commit(&mut self, slice: &Slice) -> Result<BTreeMap<String, Receipt>> {
        let date = slice.observed_at.date_naive();
        let record = format!("_slices/{}.parquet", slice.id);
        let pending = format!("_pending/{}.json", slice.id);
        let mut files: Vec<(String, TempPath)> = Vec::new();
        let mut counts: BTreeMap<&str, u64> = BTreeMap::new();
        let mut receipts: BTreeMap<String, Receipt> = BTreeMap::new();
        let folder = self.store.scratch()?;
        let (observed_at, id) = (slice.observed_at, slice.id);
        // Encoding is most of the work, so it goes to every core. What waits for one is in memory already.
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        // The largest first: begun last, it would keep one core busy while the others wait.
        let mut spools: Vec<_> = std::mem::take(&mut self.spools).into_iter().collect();
        spools.sort_by_key(|(_, spool)| std::cmp::Reverse(spool.buffered()));
        let encoded = spools.into_iter().map(|(name, spool)| {
            let folder = folder.clone();
            blocking(move || Ok((name, spool.received(), spool.finish(&folder, observed_at, id)?)))
        });
        let mut encoded = futures::stream::iter(encoded).buffered(cores);
        while let Some((name, received, file)) = encoded.try_next().await? {
            let receipt = receipts.entry(name.clone()).or_default();
            receipt.received = received;
            if let Some((file, rows)) = file {
                if let Some((name, _)) = self.targets.get_key_value(&name) {
                    counts.insert(name, rows);
                    receipt.appended = rows;
                }
                files.push((format!("{name}/date={date}/{}.parquet", slice.id), file));
            }
        }
        // Files of a former try that this one does not replace: on another day, of another dataset.
        let mut stale: BTreeSet<String> = self.former(&record, &pending).await?;
        for (path, _) in &files {
            stale.remove(path);
        }
        let mut intent: Vec<&str> = stale.iter().map(String::as_str).collect();
        intent.extend(files.iter().map(|(path, _)| path.as_str()));
        let intent =
            serde_json::to_vec(&intent).map_err(|e| Fault::us("cannot note down a slice's files").because(e))?;
        self.store.put(&pending, intent.into()).await?;
        // Each put waits for its disk or bucket: together they wait once.
        let puts = files.into_iter().map(|(path, file)| self.store.put_file(path, file));
        futures::stream::iter(puts).buffer_unordered(PUTS_AT_ONCE).try_collect::<()>().await?;
        for path in &stale {
            self.store.delete(path).await?;
        }
        self.store.put(&record, commit_record(slice, &self.targets, &counts)?).await?;
        self.store.delete(&pending).await?;
        Ok(receipts)
    }

    /// The files that former tries of a slice wrote.
    async fn former(&self, record: &str, pending: &str) -> Result<BTreeSet<String>> {
        let mut paths = BTreeSet::new();
        if let Some(bytes) = self.store.get(pending).await? {
            // Half a list, after a crash of the machine, is as good as none: nothing had been put.
            let list: Vec<String> = serde_json::from_slice(&bytes).unwrap_or_default();
            paths.extend(list);
        }
        if let Some(bytes) = self.store.get(record).await? {
            let name = record.trim_start_matches("_slices/");
            paths.extend(
                files_of(bytes, name).map_err(|e| Fault::user(format!("`{record}` is no commit record")).because(e))?,
            );
        }
        // The lists are ours, but they lie where others may write: stay inside the data folders.
        let file = format!("/{}", record.trim_start_matches("_slices/"));
        paths.retain(|p| p.ends_with(&file) && !p.starts_with(['_', '/']) && !p.split('/').any(|part| part == ".."));
        Ok(paths)
    }
}

/// The data files that a commit record names.
fn files_of(record: Bytes, name: &str) -> ::parquet::errors::Result<Vec<String>> {
    let mut paths = Vec::new();
    for batch in ParquetRecordBatchReaderBuilder::try_new(record)?.build()? {
        let batch = batch?;
        let observed = batch.column(1).as_primitive::<TimestampMicrosecondType>();
        let datasets = batch.column(3).as_string::<i32>();
        for row in 0..batch.num_rows() {
            let date = DateTime::from_timestamp_micros(observed.value(row)).unwrap_or_default().date_naive();
            paths.push(format!("{}/date={date}/{name}", datasets.value(row)));
        }
    }
    Ok(paths)
}

fn commit_record(slice: &Slice, targets: &BTreeMap<String, Target>, counts: &BTreeMap<&str, u64>) -> Result<Bytes> {
    let (mut datasets, mut scopes, mut origins) = (StringBuilder::new(), StringBuilder::new(), StringBuilder::new());
    let mut rows = Int64Builder::new();
    let mut add = |dataset: &str, scope: Option<&str>, origin: Option<&str>, count: Option<u64>| {
        datasets.append_value(dataset);
        scopes.append_option(scope);
        origins.append_option(origin);
        rows.append_option(count.map(|c| i64::try_from(c).unwrap_or(i64::MAX)));
    };
    for (name, target) in targets {
        add(name, None, None, Some(counts.get(name.as_str()).copied().unwrap_or_default()));
        let complete = slice.complete.get(name).filter(|_| target.mode == WriteMode::Snapshot);
        for scope in complete.into_iter().flatten() {
            match &scope.origins {
                None => add(name, Some(&scope.value), None, None),
                Some(list) => list.iter().for_each(|o| add(name, Some(&scope.value), Some(o), None)),
            }
        }
    }
    let datasets = datasets.finish();
    let count = arrow::array::Array::len(&datasets);
    let columns: Vec<ArrayRef> = vec![
        Arc::new(StringArray::from_iter_values(std::iter::repeat_n(slice.id.to_string(), count))),
        Arc::new(stamp(slice.observed_at, count)),
        Arc::new(StringArray::from_iter_values(std::iter::repeat_n(&slice.pipeline, count))),
        Arc::new(datasets),
        Arc::new(scopes.finish()),
        Arc::new(origins.finish()),
        Arc::new(rows.finish()),
    ];
    let what = "cannot write a commit record";
    let batch = RecordBatch::try_new(slices_schema(), columns)?;
    let mut out = Vec::new();
    let mut writer = ArrowWriter::try_new(&mut out, batch.schema(), None).map_err(|e| Fault::us(what).because(e))?;
    writer.write(&batch).map_err(|e| Fault::us(what).because(e))?;
    writer.close().map_err(|e| Fault::us(what).because(e))?;
    Ok(out.into())
}

fn stamp(at: DateTime<Utc>, count: usize) -> TimestampMicrosecondArray {
    TimestampMicrosecondArray::from_value(at.timestamp_micros(), count).with_timezone("UTC")
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(|e| Fault::us("a thread that encodes Parquet died").because(e))?
}

#[async_trait]
impl Sink for ParquetSink {
    fn abilities(&self) -> Abilities {
        Abilities {
            modes: &[WriteMode::Append, WriteMode::Upsert, WriteMode::Snapshot, WriteMode::History],
            keeps_cursor: false,
        }
    }

    async fn check(&self) -> Result<()> {
        self.store.check().await
    }

    async fn prepare(&mut self, targets: &[Target]) -> Result<()> {
        for Target { dataset, .. } in targets {
            let plain = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
            if dataset.name.is_empty() || dataset.name.starts_with('_') || !dataset.name.chars().all(plain) {
                return Err(Fault::user(format!("`{}` cannot be a folder of the lake", dataset.name))
                    .hint("Use letters, digits, `-` and `_`, and no `_` in front."));
            }
        }
        self.store.check().await?;
        self.spools.clear();
        self.slice = None;
        self.targets = targets.iter().map(|t| (t.dataset.name.clone(), t.clone())).collect();
        Ok(())
    }

    async fn begin(&mut self, slice: SliceId) -> Result<()> {
        if let Some((journal, rows)) = &mut self.copy {
            rows.clear();
            let found = journal.take_found(Some(slice.run))?;
            self.gather(found)?;
            self.slice = Some(slice);
            return Ok(());
        }
        self.spools = self.targets.iter().map(|(name, t)| (name.clone(), Spool::new(t))).collect();
        self.slice = Some(slice);
        Ok(())
    }

    async fn write(&mut self, dataset: &str, batch: RecordBatch) -> Result<()> {
        if let Some((_, rows)) = &mut self.copy {
            if !self.targets.contains_key(dataset) {
                return Err(Fault::us(format!("`{dataset}` was not prepared")));
            }
            rows.push((dataset.to_owned(), batch));
            return Ok(());
        }
        self.try_write(dataset, &batch).await
    }

    async fn commit(&mut self, slice: &Slice) -> Result<BTreeMap<String, Receipt>> {
        if self.slice.take() != Some(slice.id) {
            return Err(Fault::us(format!("slice {} was not begun", slice.id)));
        }
        if self.copy.is_some() {
            return self.commit_copy(slice).await;
        }
        self.try_commit(slice).await
    }

    async fn keep(&mut self, copy: &str, _datasets: &[&str]) -> Result<Option<Kept>> {
        let journal = Journal::open(&self.store, copy).await?;
        let kept = journal.kept();
        self.copy = Some((journal, Vec::new()));
        Ok(kept)
    }

    async fn finish(&mut self, whole: bool) -> Result<()> {
        let Some((journal, _)) = &mut self.copy else { return Ok(()) };
        let found = journal.take_found(None)?;
        self.gather(found)?;
        self.settle_copy(whole).await?;
        self.copy = None;
        Ok(())
    }
}

/// Whether a path of the lake is on this machine.
fn local(root: &str) -> Option<PathBuf> {
    match root.split_once("://") {
        None => Some(PathBuf::from(root)),
        Some(("file", _)) => url::Url::parse(root).ok()?.to_file_path().ok(),
        Some(_) => None,
    }
}

/// Says what went wrong with a file in words that fit its cause.
fn io_fault(what: &str, path: &Path, error: std::io::Error) -> Fault {
    use std::io::ErrorKind as K;
    let text = format!("cannot {what} `{}`: {error}", path.display());
    let fault = match error.kind() {
        K::StorageFull | K::QuotaExceeded => Fault::user(text)
            .retry(catalog::Retry::Backoff)
            .hint("Free space there; the run goes on from its last slice."),
        K::FileTooLarge => Fault::user(text)
            .retry(catalog::Retry::Backoff)
            .hint("Raise the limit on the size of files (`ulimit -f`); the run goes on from its last slice."),
        K::PermissionDenied | K::ReadOnlyFilesystem => {
            Fault::user(text).hint("Name a folder that this user may write, or change its rights.")
        }
        K::NotADirectory | K::AlreadyExists | K::InvalidFilename => {
            Fault::user(text).hint("Name a folder, not a file.")
        }
        _ => Fault::user(text),
    };
    fault.because(error)
}
