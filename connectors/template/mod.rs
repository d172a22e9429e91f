//! `template`: rows from a file of JSON lines. Replace `api.rs` by calls of the vendor.

mod api;
mod datasets;

use std::path::PathBuf;

use async_trait::async_trait;
use catalog::{Component, Cursor, Env, Fault, Result};
use futures::StreamExt;
use futures::stream::{self, BoxStream};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::source::{Event, Read, Request, Source, Stream};

/// Where the rows are.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// A file with one JSON object a line.
    pub path: PathBuf,
}

/// The connector.
#[derive(Debug)]
pub struct Template {
    path: PathBuf,
    connection: String,
}

#[async_trait]
impl Component for Template {
    type Live = dyn Source;
    type Config = Config;
    const NAME: &'static str = "template";
    const ABOUT: &'static str = "rows from a file of JSON lines";

    async fn open(config: Config, env: Env) -> Result<Box<dyn Source>> {
        Ok(Box::new(Self { path: config.path, connection: env.connection }))
    }

    fn address(rest: &str) -> Option<Value> {
        Some(json!({ "path": rest }))
    }
}

#[async_trait]
impl Source for Template {
    fn streams(&self) -> Vec<Stream> {
        vec![Stream {
            name: "items".into(),
            about: "every row of the file".into(),
            datasets: vec![datasets::items()],
            backfill: false,
            changes: false,
            objects: false,
        }]
    }

    async fn check(&self) -> Result<()> {
        api::items(&self.path).await.map(|_| ())
    }

    fn read(&self, request: Request) -> BoxStream<'_, Result<Event>> {
        let events = async move {
            if !matches!(request.read, Read::Snapshot) {
                return Err(Fault::user("`template` can only be read whole"));
            }
            let rows = datasets::batch(&self.connection, &api::items(&self.path).await?)?;
            Ok(vec![
                Event::Rows { dataset: datasets::ITEMS.into(), batch: rows },
                // All rows of the connection came: one that a former reading had and this one has not is gone.
                Event::Complete { column: "connection", scope: self.connection.clone(), missing: Vec::new() },
                Event::Checkpoint(Cursor::of(&"read")?),
            ])
        };
        stream::once(events)
            .flat_map(|events| match events {
                Ok(events) => stream::iter(events).map(Ok).boxed(),
                Err(fault) => stream::iter([Err(fault)]).boxed(),
            })
            .boxed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn read(text: &str) -> Result<Vec<Event>> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        let source = Template { path: file.path().to_owned(), connection: "one".to_owned() };
        let request = Request { stream: "items".to_owned(), read: Read::Snapshot, resume: None, only: Vec::new() };
        let stream = source.streams().remove(0);
        crate::guarded(&stream, source.read(request)).collect::<Vec<_>>().await.into_iter().collect()
    }

    #[tokio::test]
    async fn every_line_is_a_row_and_a_bad_one_is_named() {
        let events = read("{\"id\": \"a\", \"name\": \"Ada\"}\n\n{\"id\": \"b\"}\n").await.unwrap();
        assert!(matches!(&events[0], Event::Rows { batch, .. } if batch.num_rows() == 2), "{events:?}");
        let fault = read("{\"id\": \"a\"}\n{}\n").await.unwrap_err();
        assert!(fault.message.contains("line 2"), "{fault}");
    }
}
