//! The integration tests: behaviour through public surfaces, in one binary because each binary links DataFusion.

mod cli;
mod conformance;
mod faults;
mod functions;
mod jobs;
mod lake;
mod mits;
mod models;
mod parquet;

mod postgres;
mod resman;
mod simulator;
mod slt;
mod tidy;
