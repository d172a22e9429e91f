//! Pipelines: the one crate that knows the others. It plans, runs, schedules and shows.

pub mod embedded;
pub mod jobs;
pub mod schedule;
pub mod lake;
pub mod render;
pub mod sql;
