//! What tests share: databases, simulators, clocks.

pub mod db;
pub mod rows;
