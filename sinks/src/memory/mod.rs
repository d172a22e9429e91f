//! Memory: what the other sinks should hold, in plain collections. For tests and dry runs.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};

use arrow::array::{ArrayRef, AsArray, RecordBatch};
use arrow::compute::concat_batches;
use arrow::row::{RowConverter, SortField};
use async_trait::async_trait;
use catalog::{Component, Dataset, Env, Fault, Result, Slice, SliceId, WriteMode};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{Abilities, Receipt, Sink, Target, rows};

/// The component `memory`.
#[derive(Debug)]
pub struct Memory;

/// Settings of `memory`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Sinks of one process with the same name share their rows; without a name they are the sink's own.
    #[serde(default)]
    name: Option<String>,
}

static NAMED: LazyLock<Mutex<HashMap<String, Handle>>> = LazyLock::new(Mutex::default);

#[async_trait]
impl Component for Memory {
    type Live = dyn Sink;
    type Config = Config;
    const NAME: &'static str = "memory";
    const ABOUT: &'static str = "rows kept in memory until the process ends, for tests and dry runs";

    async fn open(config: Config, _env: Env) -> Result<Box<dyn Sink>> {
        let handle = config.name.map(|name| named(&name)).unwrap_or_default();
        Ok(Box::new(MemorySink::new(handle)))
    }

    fn address(rest: &str) -> Option<Value> {
        Some(if rest.is_empty() { json!({}) } else { json!({ "name": rest }) })
    }
}

/// The rows that sinks of this name share.
pub fn named(name: &str) -> Handle {
    lock(&NAMED).entry(name.to_owned()).or_default().clone()
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A look at the rows of a [`MemorySink`]; clones see the same.
#[derive(Debug, Clone, Default)]
pub struct Handle(Arc<Mutex<Held>>);

#[derive(Debug, Default)]
struct Held {
    tables: BTreeMap<String, Table>,
    slices: Vec<Slice>,
}

#[derive(Debug, Clone)]
struct Table {
    target: Target,
    /// By key; rows that are only appended go by their slice and place instead.
    rows: BTreeMap<Vec<u8>, Stored>,
}

#[derive(Debug, Clone)]
struct Stored {
    row: RecordBatch,
    slice: SliceId,
}

impl Handle {
    /// The rows of a dataset in the order of their keys, and none if nothing was written.
    pub fn rows(&self, dataset: &str) -> Option<RecordBatch> {
        let held = lock(&self.0);
        let table = held.tables.get(dataset)?;
        concat_batches(&table.target.dataset.schema(), table.rows.values().map(|s| &s.row)).ok()
    }

    /// The datasets that were prepared.
    pub fn datasets(&self) -> Vec<String> {
        lock(&self.0).tables.keys().cloned().collect()
    }

    /// The slices that were committed, each once, in order.
    pub fn slices(&self) -> Vec<Slice> {
        lock(&self.0).slices.clone()
    }
}

/// The sink.
pub struct MemorySink {
    handle: Handle,
    pending: Vec<(String, RecordBatch)>,
    slice: Option<SliceId>,
}

impl fmt::Debug for MemorySink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemorySink").field("slice", &self.slice).finish_non_exhaustive()
    }
}

impl MemorySink {
    /// A sink that writes to where this handle looks.
    pub fn new(handle: Handle) -> Self {
        Self { handle, pending: Vec::new(), slice: None }
    }
}

#[async_trait]
impl Sink for MemorySink {
    fn abilities(&self) -> Abilities {
        Abilities {
            modes: &[WriteMode::Append, WriteMode::Upsert, WriteMode::Snapshot, WriteMode::History],
            keeps_cursor: false,
        }
    }

    async fn check(&self) -> Result<()> {
        Ok(())
    }

    async fn prepare(&mut self, targets: &[Target]) -> Result<()> {
        let mut held = lock(&self.handle.0);
        for target in targets {
            let table = held.tables.entry(target.dataset.name.clone());
            let table = table.or_insert_with(|| Table { target: target.clone(), rows: BTreeMap::new() });
            if table.target != *target {
                return Err(Fault::user(format!("`{}` is there with other columns", target.dataset.name)));
            }
        }
        Ok(())
    }

    async fn begin(&mut self, slice: SliceId) -> Result<()> {
        self.pending.clear();
        self.slice = Some(slice);
        Ok(())
    }

    async fn write(&mut self, dataset: &str, batch: RecordBatch) -> Result<()> {
        let Some(found) = lock(&self.handle.0).tables.get(dataset).map(|t| t.target.dataset.clone()) else {
            return Err(Fault::us(format!("`{dataset}` was not prepared")));
        };
        self.pending.push((dataset.to_owned(), rows::conform(&found, &found.schema(), &batch)?));
        Ok(())
    }

    async fn commit(&mut self, slice: &Slice) -> Result<BTreeMap<String, Receipt>> {
        if self.slice.take() != Some(slice.id) {
            return Err(Fault::us(format!("slice {} was not begun", slice.id)));
        }
        let mut held = lock(&self.handle.0);
        let mut tables = held.tables.clone();
        let mut receipts = BTreeMap::new();
        let pending = std::mem::take(&mut self.pending);
        for (name, table) in &mut tables {
            let batches: Vec<&RecordBatch> = pending.iter().filter(|(n, _)| n == name).map(|(_, b)| b).collect();
            let receipt = table.apply(slice, &batches)?;
            if receipt != Receipt::default() {
                receipts.insert(name.clone(), receipt);
            }
        }
        held.tables = tables;
        held.slices.retain(|s| s.id != slice.id);
        held.slices.push(slice.clone());
        Ok(receipts)
    }
}

impl Table {
    fn apply(&mut self, slice: &Slice, batches: &[&RecordBatch]) -> Result<Receipt> {
        let dataset = &self.target.dataset;
        let mode = self.target.mode;
        let mut receipt = Receipt::default();
        let former = self.rows.clone();
        if mode == WriteMode::Append {
            self.rows.retain(|_, stored| stored.slice != slice.id);
        }
        for batch in batches {
            let keys = encoded(dataset, batch, |c| c.key)?;
            let ordered = dataset.version_column.as_deref().filter(|_| mode == WriteMode::Upsert);
            for (row, key) in keys.into_iter().enumerate() {
                receipt.received += 1;
                let stored = Stored { row: batch.slice(row, 1), slice: slice.id };
                let key = match mode {
                    WriteMode::Append => format!("{}-{:012}", slice.id, receipt.received).into_bytes(),
                    _ => key,
                };
                if let (Some(version), Some(there)) = (ordered, self.rows.get(&key)) {
                    let of = |row: &RecordBatch| encoded(dataset, row, |c| c.name == version);
                    if of(&there.row)? > of(&stored.row)? {
                        continue;
                    }
                }
                self.rows.insert(key, stored);
            }
        }
        if mode == WriteMode::History {
            self.drop_repeats(&former)?;
        }
        if mode == WriteMode::Snapshot {
            receipt.deleted = self.withdraw(slice)?;
        }
        for (key, stored) in &self.rows {
            match former.get(key) {
                None => receipt.inserted += 1,
                Some(old) if old.row != stored.row => receipt.updated += 1,
                Some(_) => {}
            }
        }
        receipt.unchanged = receipt.received.saturating_sub(receipt.inserted + receipt.updated);
        Ok(receipt)
    }

    /// Drops new rows that equal the version before them. Versions that were there stay as they are.
    fn drop_repeats(&mut self, former: &BTreeMap<Vec<u8>, Stored>) -> Result<()> {
        let dataset = &self.target.dataset;
        let version = dataset.version_column.as_deref();
        let mut newest: HashMap<Vec<u8>, Vec<u8>> = HashMap::new();
        let mut versions = Vec::new();
        for (key, stored) in &self.rows {
            let stored = former.get(key).unwrap_or(stored);
            let part = |keep: &dyn Fn(&catalog::Column) -> bool| -> Result<Vec<u8>> {
                Ok(encoded(dataset, &stored.row, keep)?.remove(0))
            };
            let is_version = |c: &catalog::Column| Some(c.name.as_str()) == version;
            versions.push((part(&is_version)?, part(&|c| c.key && !is_version(c))?, part(&|c| !c.key)?, key.clone()));
        }
        versions.sort();
        for (_, rest, values, key) in versions {
            match former.get(&key) {
                Some(old) => {
                    newest.insert(rest, values);
                    self.rows.insert(key, old.clone());
                }
                None if newest.get(&rest) == Some(&values) => {
                    self.rows.remove(&key);
                }
                None => {
                    newest.insert(rest, values);
                }
            }
        }
        Ok(())
    }

    fn withdraw(&mut self, slice: &Slice) -> Result<u64> {
        let dataset = &self.target.dataset;
        let (Some(scopes), Some(column)) = (slice.complete.get(&dataset.name), &dataset.scope) else { return Ok(0) };
        let text = |row: &RecordBatch, column: &str| {
            row.column_by_name(column)
                .and_then(|a| a.as_string_opt::<i32>())
                .and_then(|a| a.iter().next().flatten().map(str::to_owned))
        };
        let before = self.rows.len();
        self.rows.retain(|_, stored| {
            let value = text(&stored.row, column);
            let origin = dataset.origin.as_deref().and_then(|c| text(&stored.row, c));
            let left = scopes.iter().any(|s| {
                Some(&s.value) == value.as_ref()
                    && s.origins.as_ref().is_none_or(|list| origin.as_ref().is_some_and(|o| list.contains(o)))
            });
            stored.slice == slice.id || !left
        });
        Ok((before - self.rows.len()) as u64)
    }
}

/// Some columns of each row as bytes that sort as the values do.
fn encoded(dataset: &Dataset, batch: &RecordBatch, keep: impl Fn(&catalog::Column) -> bool) -> Result<Vec<Vec<u8>>> {
    let (fields, columns): (Vec<SortField>, Vec<ArrayRef>) = dataset
        .columns
        .iter()
        .zip(batch.columns())
        .filter(|(c, _)| keep(c))
        .map(|(c, a)| (SortField::new(c.kind.arrow()), Arc::clone(a)))
        .unzip();
    if fields.is_empty() {
        return Ok(vec![Vec::new(); batch.num_rows()]);
    }
    let converter = RowConverter::new(fields)?;
    let rows = converter.convert_columns(&columns)?;
    Ok(rows.iter().map(|row| row.as_ref().to_vec()).collect())
}
