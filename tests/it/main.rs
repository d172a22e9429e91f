//! The integration tests: behaviour through public surfaces, in one binary because each binary links DataFusion.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "in a test, that is how a wrong turn ends")]

mod api;
mod authorise;
mod bookings;
mod channels;
mod conformance;
mod contacts;
mod deliveries;
mod enrichment;
mod functions;
mod guesty;
mod hooks;
mod hostaway;
mod http;
mod ical;
mod jobs;
mod lake;
mod leads;
mod live;
mod matching;
mod mits;
mod models;
mod outbox;
mod ownerrez;
mod parquet;
mod partners;
mod people;
mod pipeline;
mod postgres;
mod privacy;
mod quota;
mod resman;
mod rest;
mod services;
mod simulator;
mod slt;
mod tidy;
