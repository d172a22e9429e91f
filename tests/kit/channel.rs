//! Readings of booking channels, and what a reader who applies them holds.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{Array, AsArray};
use bytes::Bytes;
use catalog::{Cursor, Env, Fault, Reject, TestClock};
use chrono::{DateTime, TimeDelta, Utc};
use connectors::webhook::{Decoded, Delivery, Refused};
use connectors::{Event, Read, Request, Source, guarded};
use fixtures::desk::Post;
use fixtures::stays::{Shape, Shared, Stays};
use futures::StreamExt;
use http::{HeaderMap, HeaderName, HeaderValue};
use serde_json::Value;

/// A row's cells that have a value.
pub type Row = BTreeMap<String, String>;

/// The instant at which the tests' worlds stand.
pub fn now() -> DateTime<Utc> {
    DateTime::from_timestamp(1_782_900_000, 0).unwrap()
}

/// A world of so many listings, spread over the managers in turn.
pub fn world(seed: u64, listings: usize, stays: usize) -> Shared {
    Shared::new(Stays::new(Shape { seed, listings, stays, now: now() }))
}

/// Opens a connector. Its own clock is years ahead of the vendor's: the vendor's is the one that counts.
pub async fn open(connector: &str, settings: &Value) -> Box<dyn Source> {
    let clock = TestClock::at(now() + TimeDelta::days(3000));
    let env = Env { connection: "coast".to_owned(), clock: Arc::new(clock), ..Env::default() };
    connectors::find(connector).unwrap().open(settings.clone(), env).await.unwrap()
}

/// Everything that a reading said.
#[derive(Debug, Default)]
pub struct Told {
    /// Rows in order, with their datasets.
    pub rows: Vec<(String, Row)>,
    /// Each checkpoint, with the number of rows before it.
    pub checkpoints: Vec<(usize, Cursor)>,
    /// Complete scopes.
    pub complete: Vec<String>,
    /// What was refused.
    pub rejects: Vec<Reject>,
    /// How it ended, if not well.
    pub end: Option<Fault>,
}

impl Told {
    /// The cursor to go on from.
    pub fn cursor(&self) -> Cursor {
        // A cursor has to survive being stored.
        let text = serde_json::to_string(&self.checkpoints.last().unwrap().1).unwrap();
        serde_json::from_str(&text).unwrap()
    }

    /// The rows of a dataset.
    pub fn of(&self, dataset: &str) -> Vec<&Row> {
        self.rows.iter().filter(|(name, _)| name == dataset).map(|(_, row)| row).collect()
    }

    /// Takes the reading for a good one.
    #[track_caller]
    pub fn well(self) -> Self {
        assert!(self.end.is_none(), "{:?}", self.end);
        self
    }
}

/// Reads the stream `bookings` to its end, or until so many checkpoints have come: then the reader is dropped, as if the
/// process had been killed. Rows that no checkpoint covers are lost then.
pub async fn read(source: &dyn Source, read: Read, resume: Option<Cursor>, checkpoints: usize) -> Told {
    let request = Request { stream: "bookings".to_owned(), read, resume, only: Vec::new() };
    let stream = source.streams().remove(0);
    let mut events = guarded(&stream, source.read(request));
    let mut told = Told::default();
    while told.checkpoints.len() < checkpoints {
        let Some(event) = events.next().await else { break };
        match event {
            Ok(Event::Rows { dataset, batch }) => {
                let schema = batch.schema();
                for row in 0..batch.num_rows() {
                    let cells = schema.fields().iter().zip(batch.columns());
                    let cells = cells.filter(|(_, column)| !column.is_null(row));
                    let cells = cells.map(|(f, c)| (f.name().clone(), c.as_string::<i32>().value(row).to_owned()));
                    told.rows.push((dataset.to_string(), cells.collect()));
                }
            }
            Ok(Event::Checkpoint(cursor)) => told.checkpoints.push((told.rows.len(), cursor)),
            Ok(Event::Complete { scope, .. }) => told.complete.push(scope),
            Ok(Event::Reject(reject)) => told.rejects.push(reject),
            Ok(_) => {}
            Err(fault) => told.end = Some(fault),
        }
    }
    let covered = told.checkpoints.last().map_or(0, |(rows, _)| *rows);
    told.rows.truncate(covered);
    told
}

/// Reads what has changed since a cursor.
pub async fn changes(source: &dyn Source, since: Option<Cursor>) -> Told {
    read(source, Read::Changes { since }, None, usize::MAX).await
}

/// Reads single objects.
pub async fn objects(source: &dyn Source, ids: Vec<String>) -> Told {
    read(source, Read::Objects { ids }, None, usize::MAX).await
}

/// What a reader holds who has applied every row: the newest one of each object.
#[derive(Debug, Default, Clone)]
pub struct Mirror {
    /// Rows by dataset and id.
    pub rows: BTreeMap<(String, String), Row>,
}

impl Mirror {
    /// Applies a reading.
    pub fn apply(&mut self, told: &Told) {
        for (dataset, row) in &told.rows {
            let id = ["reservation_id", "listing_id", "guest_id"];
            let id = match dataset.as_str() {
                "channel_reservations" => id[0],
                "channel_listings" => id[1],
                _ => id[2],
            };
            self.rows.insert((dataset.clone(), row[id].clone()), row.clone());
        }
    }

    /// The reservations that are there.
    pub fn reservations(&self) -> BTreeMap<u64, &Row> {
        self.of("channel_reservations")
    }

    /// The rows of a dataset that are there, by the number of their object.
    pub fn of(&self, dataset: &str) -> BTreeMap<u64, &Row> {
        let rows = self.rows.iter().filter(|((name, _), row)| name == dataset && !row.contains_key("presence"));
        rows.map(|((_, id), row)| (id.parse().unwrap(), row)).collect()
    }
}

/// A delivery as a receiver gets it.
pub fn delivery(post: &Post) -> Delivery {
    let header = |(name, value): &(String, String)| {
        (HeaderName::from_bytes(name.as_bytes()).unwrap(), HeaderValue::from_str(value).unwrap())
    };
    let headers: HeaderMap = post.headers.iter().map(header).collect();
    Delivery { headers, body: Bytes::from(post.body.clone()), received_at: now() }
}

/// Takes a delivery as a receiver does.
///
/// # Errors
/// When it is refused.
pub fn receive(source: &dyn Source, post: &Post) -> Result<Decoded, Refused> {
    let (webhook, delivery) = (source.webhook().unwrap(), delivery(post));
    webhook.verify(&delivery)?;
    webhook.identify(&delivery)?;
    Ok(webhook.decode(&delivery).unwrap())
}
