//! Which rows of a slice have to be sent: those that differ from what was last written.

use arrow::array::{Array, AsArray, RecordBatch, StringArray};
use catalog::{Dataset, WriteMode};

use super::table::Table;
use crate::rows;

/// Rows from which it pays to hash them on several threads, and on how many at most.
const THREADED_ROWS: usize = 16 * 1024;
const MOST_HASHERS: usize = 4;

pub(super) fn scopes_of(table: &Table, batches: &[RecordBatch]) -> Vec<String> {
    let Some(column) = table.digested() else { return Vec::new() };
    let mut scopes = Vec::new();
    for batch in batches {
        let Some(values) = scope_values(batch, column) else { continue };
        let mut last: Option<&str> = None;
        for value in values.iter().flatten() {
            if last != Some(value) {
                scopes.push(value.to_owned());
                last = Some(value);
            }
        }
    }
    scopes
}

pub(super) fn scope_values<'a>(batch: &'a RecordBatch, column: &str) -> Option<&'a StringArray> {
    batch.column_by_name(column).and_then(|a| a.as_string_opt::<i32>())
}

/// The hashes of every row's key, and of the rows where they are compared with what was last written.
#[derive(Default)]
pub(super) struct Hashes {
    keys: Vec<u64>,
    rows: Vec<u64>,
}

/// How the rows of a table are hashed.
pub(super) struct Hashing {
    dataset: Dataset,
    seed: u64,
    /// Whether keys are looked at, and whether whole rows are.
    keys: bool,
    rows: bool,
}

impl Hashing {
    pub(super) fn of(table: &Table) -> Self {
        let keys = table.mode != WriteMode::Append;
        let rows = keys && table.digested().is_some();
        Self { dataset: table.dataset.clone(), seed: table.seed, keys, rows }
    }

    fn one(&self, batch: &RecordBatch) -> Hashes {
        Hashes {
            keys: if self.keys { rows::key_hashes(&self.dataset, batch) } else { Vec::new() },
            rows: if self.rows { rows::hash(self.seed, batch.columns()) } else { Vec::new() },
        }
    }

    /// Hashes batches, on every core when they are large.
    pub(super) fn all(&self, batches: &[RecordBatch]) -> Vec<Hashes> {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get).min(MOST_HASHERS);
        let few = batches.iter().map(RecordBatch::num_rows).sum::<usize>() < THREADED_ROWS;
        if cores == 1 || batches.len() < 2 || few {
            return batches.iter().map(|batch| self.one(batch)).collect();
        }
        let share = batches.len().div_ceil(cores);
        std::thread::scope(|scope| {
            let hash = |part: &[RecordBatch]| part.iter().map(|batch| self.one(batch)).collect::<Vec<_>>();
            let parts: Vec<_> = batches.chunks(share).map(|part| (part, scope.spawn(move || hash(part)))).collect();
            // A thread that died is made good for here.
            parts.into_iter().flat_map(|(part, t)| t.join().unwrap_or_else(|_| hash(part))).collect()
        })
    }
}

/// The rows of a batch that have to be sent.
pub(super) fn choose(table: &mut Table, batch: &RecordBatch, hashes: Hashes) -> Vec<u32> {
    let count = u32::try_from(batch.num_rows()).unwrap_or(u32::MAX);
    if table.mode == WriteMode::Append {
        return (0..count).collect();
    }
    let Hashes { keys, rows: hashes } = hashes;
    let Some(values) = table.digested().and_then(|c| scope_values(batch, c)).cloned() else {
        table.load.fresh = true;
        for key in keys {
            table.load.twice |= !table.load.keys.insert(key);
        }
        return (0..count).collect();
    };
    let mut send = Vec::new();
    let mut at = 0;
    while at < values.len() {
        // Rows of one scope come together, so that the scope is looked up once a run.
        let scope = values.is_valid(at).then(|| values.value(at));
        let mut end = at + 1;
        while end < values.len() && values.is_valid(end).then(|| values.value(end)) == scope {
            end += 1;
        }
        let first = u32::try_from(at).unwrap_or(u32::MAX);
        let state = scope.and_then(|s| table.load.scopes.get_mut(s));
        match state {
            Some(state) => {
                for (row, digest) in (first..).zip(keys[at..end].iter().copied().zip(hashes[at..end].iter().copied())) {
                    if state.take(digest) {
                        send.push(row);
                    }
                }
                table.load.twice |= state.twice;
                table.load.fresh |= state.fresh;
            }
            None => {
                table.load.fresh = true;
                for (row, key) in (first..).zip(&keys[at..end]) {
                    table.load.twice |= !table.load.keys.insert(*key);
                    send.push(row);
                }
            }
        }
        at = end;
    }
    send
}
