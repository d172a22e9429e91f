//! What the tables hold of a connection, for a source that has to find out what its vendor does not know any more.
//!
//! A source remembers in its cursor what it has told. A reservation may stand in the tables and in no cursor: a delivery
//! told it behind the last reading, or the cursor was given up. If its vendor then deletes it without a word, nothing but
//! the tables knows that it has to be asked for.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;

use async_trait::async_trait;
use chrono::{DateTime, NaiveDate, Utc};

use crate::Result;

/// A reservation or block of a connection that is neither called off nor removed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// The vendor's id.
    pub id: String,
    /// The listing of its first stretch.
    pub listing: String,
    /// Its first night.
    pub from: NaiveDate,
    /// The day of leaving.
    pub until: NaiveDate,
    /// Whether the vendor names it, so that it can be asked for; else its id was made here, or is a calendar's.
    pub named: bool,
    /// `stay`, `block`, `hold` or `owner`.
    pub kind: String,
}

/// The first stretch of a reservation as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// Its version.
    pub version: DateTime<Utc>,
    /// What is known of it, as text by column of `source_bookings`.
    pub cells: BTreeMap<String, String>,
}

/// The tables, as far as a source may ask them.
#[async_trait]
pub trait Tables: Send + Sync + Debug {
    /// What stands of a connection and ends on this day or later, in the order of ids.
    ///
    /// # Errors
    /// When the tables cannot be read.
    async fn standing(&self, connection: &str, from: NaiveDate) -> Result<Vec<Standing>>;

    /// Which of these reservations of a connection are stored at all. One that is not needs no withdrawal: a vendor may not
    /// find yet what it has just announced, and must not be held to that for ever.
    ///
    /// # Errors
    /// When the tables cannot be read.
    async fn stored(&self, connection: &str, ids: &[String]) -> Result<BTreeSet<String>>;

    /// What is stored of these reservations of a connection, by their ids: for deliveries that say only what has changed.
    ///
    /// # Errors
    /// When the tables cannot be read.
    async fn reservations(&self, connection: &str, ids: &[String]) -> Result<BTreeMap<String, Stored>>;
}

/// No tables: what a copy without a ledger has.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoTables;

#[async_trait]
impl Tables for NoTables {
    async fn standing(&self, _: &str, _: NaiveDate) -> Result<Vec<Standing>> {
        Ok(Vec::new())
    }

    /// Nobody knows, so all of them may be.
    async fn stored(&self, _: &str, ids: &[String]) -> Result<BTreeSet<String>> {
        Ok(ids.iter().cloned().collect())
    }

    async fn reservations(&self, _: &str, _: &[String]) -> Result<BTreeMap<String, Stored>> {
        Ok(BTreeMap::new())
    }
}
