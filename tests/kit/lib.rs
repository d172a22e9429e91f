//! What tests share: databases, simulated vendors, whole installations, rows.

pub mod db;
pub mod rig;
pub mod rows;
pub mod vendors;
