//! Pipelines: the one crate that knows the others. It plans, runs, schedules and shows.

pub mod app;
pub mod backfill;
pub mod books;
pub mod cli;
pub mod contacts;
pub mod copy;
pub mod couriers;
pub mod demo;
pub mod docs;
pub mod embedded;
pub mod jobs;
pub mod lake;
pub mod matching;
pub mod map;
mod names;
pub mod outbox;
pub mod plan;
pub mod progress;
pub mod render;
pub mod run;
pub mod schedule;
pub mod settle;
pub mod show;
pub mod simulate;
pub mod spec;
pub mod sql;
pub mod worker;
