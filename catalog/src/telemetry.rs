//! The names of log fields, so that a search finds the same thing everywhere.

/// The pipeline's name.
pub const PIPELINE: &str = "pipeline.name";
/// The run's id.
pub const RUN: &str = "run.id";
/// The slice's number inside its run.
pub const SLICE: &str = "slice.number";
/// The dataset's name.
pub const DATASET: &str = "dataset.name";
/// A count of rows.
pub const ROWS: &str = "rows";
/// A duration in milliseconds.
pub const DURATION_MS: &str = "duration_ms";
/// The text of a failure.
pub const ERROR: &str = "error";
