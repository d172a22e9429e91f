//! A source of what deliveries said: their own rows first, then the objects that they named, read from the vendor.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use arrow::compute::concat_batches;
use async_trait::async_trait;
use catalog::{Cursor, Fault, Result};
use connectors::{Event, Read, Request, Source, Stream};
use futures::stream::{self, BoxStream, StreamExt};
use serde_json::json;

/// The vendor's source, with what its deliveries brought in front. Can be read once.
pub struct Told {
    vendor: Box<dyn Source>,
    events: Mutex<Vec<Event>>,
}

impl std::fmt::Debug for Told {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Told")
    }
}

impl Told {
    /// Puts events without checkpoints in front of a vendor's source.
    pub fn new(vendor: Box<dyn Source>, events: Vec<Event>) -> Self {
        Self { vendor, events: Mutex::new(events) }
    }

    /// The cursor behind the deliveries' own rows.
    fn mark() -> Cursor {
        Cursor(json!({ "deliveries": "told" }))
    }

    /// The events in their order, except that rows of one dataset are joined: a thousand deliveries are one batch.
    fn take(&self) -> Result<Vec<Event>> {
        let events = std::mem::take(&mut *self.events.lock().unwrap_or_else(PoisonError::into_inner));
        let mut rows: BTreeMap<String, Vec<_>> = BTreeMap::new();
        let mut all = Vec::new();
        for event in events {
            match event {
                Event::Rows { dataset, batch } => rows.entry(dataset.into_owned()).or_default().push(batch),
                Event::Checkpoint(_) => return Err(Fault::us("a delivery brought a checkpoint")),
                other => all.push(other),
            }
        }
        for (dataset, batches) in rows {
            let batch = concat_batches(&batches[0].schema(), &batches)?;
            all.push(Event::Rows { dataset: dataset.into(), batch });
        }
        Ok(all)
    }
}

#[async_trait]
impl Source for Told {
    fn streams(&self) -> Vec<Stream> {
        self.vendor.streams()
    }

    async fn check(&self) -> Result<()> {
        self.vendor.check().await
    }

    fn read(&self, mut request: Request) -> BoxStream<'_, Result<Event>> {
        let named = matches!(&request.read, Read::Objects { ids } if !ids.is_empty());
        let told = match &request.resume {
            None => match self.take() {
                Ok(events) if events.is_empty() && named => Vec::new(),
                Ok(events) => events.into_iter().chain([Event::Checkpoint(Self::mark())]).map(Ok).collect(),
                Err(fault) => return stream::iter([Err(fault)]).boxed(),
            },
            // An interrupted run had written the deliveries' own rows already.
            Some(_) => Vec::new(),
        };
        request.resume = request.resume.filter(|cursor| *cursor != Self::mark());
        let told = stream::iter(told);
        if named { told.chain(self.vendor.read(request)).boxed() } else { told.boxed() }
    }
}
