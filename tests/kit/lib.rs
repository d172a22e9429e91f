//! What tests share: databases, simulated vendors, whole installations, rows.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot be set up should end at once")]

pub mod channel;
pub mod db;
pub mod house;
pub mod rig;
pub mod rows;
pub mod vendors;
