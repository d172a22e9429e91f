//! What a run says while it runs, apart from how it is shown.

use std::collections::BTreeMap;
use std::fmt::Debug;

use catalog::Receipt;
use uuid::Uuid;

/// Something that happened in a run.
#[derive(Debug)]
pub enum Progress<'a> {
    /// A run began, or went on after an interruption.
    Started {
        /// The pipeline.
        pipeline: &'a str,
        /// The run.
        run: Uuid,
        /// The slice it goes on with, when it was interrupted.
        resumed_at: Option<u32>,
    },
    /// How many scopes or pages are ahead.
    Ahead(u64),
    /// A slice is durable in every sink.
    Committed {
        /// Its number.
        number: u32,
        /// Rows by dataset.
        rows: &'a BTreeMap<String, Receipt>,
    },
    /// A scope could not be read; the run goes on.
    ScopeFailed {
        /// The scope.
        scope: &'a str,
        /// Why.
        fault: &'a catalog::Fault,
    },
    /// The run ended, well or not.
    Finished,
}

/// Who wants to know.
pub trait Observer: Send + Sync + Debug {
    /// Takes one event. Must not block.
    fn on(&self, progress: &Progress<'_>);
}

/// Nobody wants to know.
#[derive(Debug, Clone, Copy, Default)]
pub struct Silent;

impl Observer for Silent {
    fn on(&self, _: &Progress<'_>) {}
}
