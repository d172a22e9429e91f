//! What every sink promises.

use std::collections::BTreeMap;

use arrow::array::RecordBatch;
use async_trait::async_trait;
use catalog::{Cursor, Dataset, Receipt, Result, Slice, SliceId, WriteMode};
use chrono::{DateTime, Utc};
use uuid::Uuid;

/// A place to write to, opened with its settings.
///
/// The order is `prepare` once, then per slice any number of `write`s and one `commit`. What was written but not
/// committed does not exist: nobody can read it, and the next `begin` forgets it. The same slice committed twice leaves
/// the sink as if it had been committed once.
#[async_trait]
pub trait Sink: Send + Sync {
    /// What it can do; the plan checks a pipeline against it before anything moves.
    fn abilities(&self) -> Abilities;

    /// Proves that it can be reached and written.
    async fn check(&self) -> Result<()>;

    /// Makes room for datasets. A new nullable column is added and recorded; any other difference from what is there is
    /// a fault, and nothing has changed.
    async fn prepare(&mut self, targets: &[Target]) -> Result<()>;

    /// Starts a slice and drops what an earlier one left uncommitted.
    async fn begin(&mut self, slice: SliceId) -> Result<()>;

    /// Takes rows of the slice that was begun. Their schema is the dataset's.
    async fn write(&mut self, dataset: &str, batch: RecordBatch) -> Result<()>;

    /// Makes the slice durable. A sink that keeps cursors saves `slice.cursor`, the rejects and the notes in the same
    /// transaction. Says what became of the rows, by dataset.
    async fn commit(&mut self, slice: &Slice) -> Result<BTreeMap<String, Receipt>>;

    /// Makes the sink the memory of a copy, which has no ledger: from now on every commit saves its cursor under this
    /// name together with its rows. Gives what is there of the copy so far; nothing, when one of its `datasets` was taken
    /// away meanwhile. Call it before `prepare`, and `finish` at the end.
    ///
    /// With its cursor beside them, rows that a crash of the machine takes away are read again. So until `finish` a commit
    /// need only survive the end of this process, and may stay unseen by readers.
    async fn keep(&mut self, copy: &str, datasets: &[&str]) -> Result<Option<Kept>> {
        let _ = (copy, datasets);
        Ok(None)
    }

    /// Ends a copy: whatever was committed is durable and can be read. `whole` says that the source came to its end.
    async fn finish(&mut self, whole: bool) -> Result<()> {
        let _ = whole;
        Ok(())
    }
}

/// What a sink has kept of a copy; see [`Sink::keep`].
#[derive(Debug, Clone, PartialEq)]
pub struct Kept {
    /// The run that wrote last.
    pub run: Uuid,
    /// The number of its next slice.
    pub next: u32,
    /// The cursor of the last slice.
    pub cursor: Cursor,
    /// Whether the source came to its end.
    pub whole: bool,
    /// When that was written.
    pub at: DateTime<Utc>,
}

/// A dataset and how to write it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// The dataset.
    pub dataset: Dataset,
    /// How its rows meet those that are there.
    pub mode: WriteMode,
}

/// What a sink can do.
#[derive(Debug, Clone, Copy)]
pub struct Abilities {
    /// The write modes that it honours.
    pub modes: &'static [WriteMode],
    /// Whether `commit` saves the slice's cursor with its rows in one transaction. Such a sink is committed last.
    pub keeps_cursor: bool,
}
