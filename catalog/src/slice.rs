//! The unit of work: what is fetched, loaded and committed together.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize, Serializer};
use uuid::Uuid;

use crate::Cursor;

/// Names a slice. The same name written twice leaves a sink as if it had been written once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct SliceId {
    /// The run that fetches it.
    pub run: Uuid,
    /// Its place in the run, from 0.
    pub number: u32,
}

impl fmt::Display for SliceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{:06}", self.run.simple(), self.number)
    }
}

/// Everything a sink needs to know to commit a slice.
#[derive(Debug, Clone)]
pub struct Slice {
    /// Its name.
    pub id: SliceId,
    /// The pipeline that the run belongs to.
    pub pipeline: String,
    /// When its rows were read from the vendor.
    pub observed_at: chrono::DateTime<chrono::Utc>,
    /// The scopes that this slice holds whole, by dataset: rows of such a scope that are not in the slice have left.
    pub complete: BTreeMap<String, Vec<Scope>>,
    /// The cursor that covers every row up to and including this slice. `None` for a one-off copy.
    pub cursor: Option<Cursor>,
    /// Set when the reading follows changes: the stream whose next reading starts at `cursor`.
    pub follows: Option<String>,
    /// Rows that could not be loaded, or not as they came.
    pub rejects: Vec<Reject>,
    /// Things a person should know.
    pub notes: Vec<Note>,
}

/// What became of a slice's rows of one dataset. As JSON it has only what the sink knows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Receipt {
    /// Rows that came in.
    pub received: u64,
    /// Rows that were new.
    pub inserted: u64,
    /// Rows that replaced another.
    pub updated: u64,
    /// Rows that were there already, equal.
    pub unchanged: u64,
    /// Rows that left their snapshot.
    pub deleted: u64,
    /// Rows that were put beside what is there, by a sink that does not look at it: whether they are new, only reading
    /// shows.
    pub appended: u64,
}

impl Receipt {
    /// Whether the sink has compared the rows with what was there; else it only knows how many there are.
    pub fn compared(&self) -> bool {
        self.appended == 0
    }
}

impl Serialize for Receipt {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let known: &[(&'static str, u64)] = if self.compared() {
            &[
                ("received", self.received),
                ("inserted", self.inserted),
                ("updated", self.updated),
                ("unchanged", self.unchanged),
                ("deleted", self.deleted),
            ]
        } else {
            &[("received", self.received)]
        };
        serializer.collect_map(known.iter().copied())
    }
}

impl std::ops::AddAssign for Receipt {
    fn add_assign(&mut self, other: Self) {
        self.received += other.received;
        self.inserted += other.inserted;
        self.updated += other.updated;
        self.unchanged += other.unchanged;
        self.deleted += other.deleted;
        self.appended += other.appended;
    }
}

/// One value of a dataset's scope column, held whole by a slice.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scope {
    /// The value of the scope column, such as a property id.
    pub value: String,
    /// When set, only rows whose origin column has one of these values may be taken as gone; the other origins could
    /// not be read this time.
    pub origins: Option<Vec<String>>,
}

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RejectKind {
    /// The row was not loaded.
    Row,
    /// The row was loaded with the value left unknown.
    Value,
}

impl RejectKind {
    /// The word that is stored.
    pub fn as_str(self) -> &'static str {
        match self {
            RejectKind::Row => "row",
            RejectKind::Value => "value",
        }
    }
}

/// A row, or a value of one, that was not good enough to load.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Reject {
    /// The dataset it was meant for.
    pub dataset: String,
    /// The scope it belongs to, such as a property id.
    pub scope: Option<String>,
    /// The row's key as text, as far as it is known.
    pub key: String,
    /// Whether the row or just a value was refused.
    pub kind: RejectKind,
    /// Why, in words for a person.
    pub reason: String,
    /// The row as it came, as JSON.
    pub payload: serde_json::Value,
}

/// Something that is not a failure but that nobody should have to guess: an endpoint that is switched off for this
/// account, elements that no one reads.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Note {
    /// A short, stable word: `endpoint_off`, `unknown_element`, `scope_failed`.
    pub topic: String,
    /// What it is about: an endpoint, an element's path, a property.
    pub subject: String,
    /// What happened, for a person.
    pub text: String,
    /// How often.
    pub count: u64,
}
