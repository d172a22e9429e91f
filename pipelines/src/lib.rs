//! Pipelines: the one crate that knows the others. It plans, runs, schedules and shows.

pub mod app;
pub mod backfill;
pub mod books;
pub mod cli;
pub mod copy;
pub mod demo;
pub mod docs;
pub mod embedded;
pub mod http;
pub mod inbox;
pub mod jobs;
pub mod lake;
mod names;
pub mod plan;
pub mod progress;
pub mod render;
pub mod run;
pub mod schedule;
pub mod service;
pub mod show;
pub mod simulate;
pub mod spec;
pub mod sql;
pub mod worker;
