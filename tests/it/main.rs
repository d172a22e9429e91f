//! The integration tests: behaviour through public surfaces, in one binary because each binary links DataFusion.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "in a test, that is how a wrong turn ends")]

mod conformance;
mod functions;
mod jobs;
mod lake;
mod mits;
mod models;
mod parquet;
mod pipeline;
mod postgres;
mod quota;
mod resman;
mod rest;
mod simulator;
mod slt;
mod tidy;
