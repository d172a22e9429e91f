//! What every sink promises.

use std::collections::BTreeMap;

use arrow::array::RecordBatch;
use async_trait::async_trait;
use catalog::{Dataset, Receipt, Result, Slice, SliceId, WriteMode};

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
