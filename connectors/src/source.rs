//! What every connector promises.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use catalog::{Cursor, Dataset, Fault, Note, Reject, Result};
use chrono::{DateTime, Utc};
use futures::StreamExt;
use futures::stream::BoxStream;

use crate::authority::Authority;
use crate::webhook::Webhook;

/// A system outside, opened with its settings.
#[async_trait]
pub trait Source: Send + Sync {
    /// What can be read, each stream on its own schedule and with its own cursor.
    fn streams(&self) -> Vec<Stream>;

    /// One cheap call that proves address, credentials and account.
    async fn check(&self) -> Result<()>;

    /// Reads a stream. Events come in order; [`Event::Checkpoint`] covers every event before it. The stream is lazy: a
    /// reader that stops polling stops the calls, and dropping it leaves nothing running.
    fn read(&self, request: Request) -> BoxStream<'_, Result<Event>>;

    /// The stream as it really is, for one whose columns show only in what the vendor sends: reads as little as it takes,
    /// or takes the columns from a cursor of an earlier reading. `None` when [`Source::streams`] knew all along. Called
    /// before a reading's tables are made.
    async fn discover(&self, stream: &str, known: Option<&Cursor>) -> Result<Option<Stream>> {
        let _ = (stream, known);
        Ok(None)
    }

    /// How deliveries of this connection are checked and understood, when the vendor sends any.
    fn webhook(&self) -> Option<&dyn Webhook> {
        None
    }

    /// The authorisation by the account's owner that this connection rests on, when it rests on one.
    fn authority(&self) -> Option<&Authority> {
        None
    }

    /// Whether reading on costs nobody anything while what was read before is not yet durable, as with a file. A source
    /// that calls a vendor says no: what a run has read ahead when it is killed is asked for once more.
    fn reads_ahead(&self) -> bool {
        false
    }
}

/// A group of datasets that one reading brings together.
#[derive(Debug, Clone)]
pub struct Stream {
    /// Its name inside the connector.
    pub name: Cow<'static, str>,
    /// What it brings.
    pub about: Cow<'static, str>,
    /// The wire datasets that it may emit.
    pub datasets: Vec<Dataset>,
    /// Whether it can be read for a time range in the past.
    pub backfill: bool,
    /// Whether it can be read from a cursor on.
    pub changes: bool,
    /// Whether single objects of it can be read by id.
    pub objects: bool,
}

/// What to read.
#[derive(Debug, Clone)]
pub struct Request {
    /// The stream's name.
    pub stream: String,
    /// How much of it.
    pub read: Read,
    /// The last checkpoint of an interrupted reading of the same kind: go on behind it.
    pub resume: Option<Cursor>,
    /// Only these scopes, such as property ids; empty means all.
    pub only: Vec<String>,
}

/// Four different readings.
#[derive(Debug, Clone)]
pub enum Read {
    /// Everything that is there now.
    Snapshot,
    /// Everything that changed inside a range of time, oldest first.
    Backfill {
        /// First instant.
        from: DateTime<Utc>,
        /// First instant not included.
        until: DateTime<Utc>,
    },
    /// Everything that changed since a cursor; `None` reads everything and gives the cursor to go on from.
    Changes {
        /// Where the last reading ended.
        since: Option<Cursor>,
    },
    /// These objects, as they are now: what a webhook said has changed. An object that the vendor no longer knows
    /// comes as a row that says so.
    Objects {
        /// The vendor's ids, as [`Webhook::decode`] gave them.
        ids: Vec<String>,
    },
}

/// What a source says while it reads.
#[derive(Debug)]
pub enum Event {
    /// How many scopes or pages are ahead, as far as is known. For progress only.
    Ahead(u64),
    /// Rows of a dataset.
    Rows {
        /// The dataset's name.
        dataset: Cow<'static, str>,
        /// Rows in the dataset's schema.
        batch: RecordBatch,
    },
    /// Something that could not be read as a row.
    Reject(Reject),
    /// Something to know.
    Note(Note),
    /// The rows of this scope, of all datasets of the stream whose scope column can hold it, have come whole.
    Complete {
        /// The datasets' scope column: `property_id` or `connection`.
        column: &'static str,
        /// Its value.
        scope: String,
        /// Datasets that could not be read for this scope and will not be: nothing of them may be taken as gone.
        missing: Vec<&'static str>,
    },
    /// This scope could not be read; the others go on. Its rows so far are dropped and what is stored stays.
    Failed {
        /// The scope's value.
        scope: String,
        /// Why.
        fault: Fault,
    },
    /// All events so far are covered by this cursor.
    Checkpoint(Cursor),
}

impl Event {
    /// A note that counts one.
    pub fn note(topic: &str, subject: impl Into<String>, text: impl Into<String>) -> Self {
        Event::Note(Note { topic: topic.to_owned(), subject: subject.into(), text: text.into(), count: 1 })
    }
}

/// Holds a source to its promises: rows belong to the stream and fit their schema, and a reading that ends well has
/// covered its last rows with a checkpoint.
pub fn guarded<'a>(stream: &Stream, events: BoxStream<'a, Result<Event>>) -> BoxStream<'a, Result<Event>> {
    let schemas: BTreeMap<String, SchemaRef> = stream.datasets.iter().map(|d| (d.name.clone(), d.schema())).collect();
    let name = stream.name.clone();
    let mut uncovered = BTreeSet::new();
    let mut failed = false;
    let checked = events.map(Some).chain(futures::stream::iter([None])).filter_map(move |event| {
        let out = match event {
            Some(Ok(Event::Rows { dataset, batch })) => match schemas.get(&*dataset) {
                None => Some(Err(Fault::us(format!(
                    "stream `{name}` emitted rows of `{dataset}`, which it does not declare"
                )))),
                Some(schema) if batch.schema().fields() != schema.fields() => {
                    Some(Err(Fault::us(format!("stream `{name}` emitted rows of `{dataset}` in another schema"))))
                }
                Some(_) => {
                    uncovered.insert(dataset.clone());
                    Some(Ok(Event::Rows { dataset, batch }))
                }
            },
            Some(Ok(Event::Checkpoint(cursor))) => {
                uncovered.clear();
                Some(Ok(Event::Checkpoint(cursor)))
            }
            Some(Err(fault)) => {
                failed = true;
                Some(Err(fault))
            }
            Some(other) => Some(other),
            None if !failed && !uncovered.is_empty() => Some(Err(Fault::us(format!(
                "stream `{name}` ended with rows of {uncovered:?} that no checkpoint covers"
            )))),
            None => None,
        };
        futures::future::ready(out)
    });
    checked.boxed()
}
