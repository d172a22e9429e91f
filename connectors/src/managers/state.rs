//! What a reading of changes remembers, between its pages and until the next one.

use std::collections::{BTreeMap, BTreeSet};

use catalog::{Cursor, Result};
use chrono::{DateTime, NaiveDate, Utc};
use serde::{Deserialize, Serialize};

/// Where a reading stands.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Stage {
    /// Between two readings.
    #[default]
    Idle,
    /// Reading what has changed.
    Changed,
    /// Comparing what is to come with what is known.
    Compare,
}

/// A reservation that is still to come or under way: its listing, its day of leaving and its fingerprint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Open(pub(super) String, pub(super) NaiveDate, pub(super) u64);

/// The cursor.
///
/// It can be stored at any checkpoint and serves both to go on with an interrupted reading and to begin the next one: a
/// reading that was interrupted is finished first. `open` is what makes silent deletions visible. Nothing in it is
/// secret or personal.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct State {
    /// Changes from here on have not all been read.
    pub(super) since: Option<DateTime<Utc>>,
    /// When all that is to come was compared last.
    pub(super) compared: Option<DateTime<Utc>>,
    /// Listings by id, with their fingerprints.
    pub(super) listings: BTreeMap<String, u64>,
    /// Reservations to come by id.
    pub(super) open: BTreeMap<String, Open>,
    /// Fingerprints of the others that changed behind `since`, which the next reading will see again.
    pub(super) recent: BTreeMap<String, u64>,

    /// What the reading under way is doing.
    pub(super) stage: Stage,
    /// When it began, by the vendor's clock.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) started: Option<DateTime<Utc>>,
    /// The page that comes next, in the vendor's terms.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) at: Option<String>,
    /// Objects of that page which are done already.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub(super) done: BTreeSet<String>,
    /// What will be `recent`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) fresh: BTreeMap<String, u64>,
    /// The group of listings that is compared, or the object that is read next.
    #[serde(skip_serializing_if = "is_zero")]
    pub(super) group: usize,
    /// Reservations of that group that are known to be there.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub(super) seen: BTreeSet<String>,
}

fn is_zero(n: &usize) -> bool {
    *n == 0
}

impl State {
    /// The fingerprint under which a reservation was last handed out, as far as it is remembered.
    pub(super) fn known(&self, id: &str) -> Option<u64> {
        let other = || self.fresh.get(id).or_else(|| self.recent.get(id)).copied();
        self.open.get(id).map(|open| open.2).or_else(other)
    }

    /// The state as a cursor.
    pub(super) fn cursor(&self) -> Result<Cursor> {
        Cursor::of(self)
    }
}
