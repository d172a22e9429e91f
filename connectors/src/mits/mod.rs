//! `mits`: marketing feeds of any vendor, from a file or an address.

mod grammar;
mod input;
pub mod parser;
mod tokens;

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io::Read as _;
use std::ops::ControlFlow;
use std::path::PathBuf;

use async_trait::async_trait;
use catalog::datasets::wire;
use catalog::{Component, Cursor, Env, Fault, Note, Result, SafeUrl, SecretRef};
use futures::stream::BoxStream;
use http::{HeaderName, HeaderValue};
use schemars::JsonSchema;
use secrecy::ExposeSecret;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use url::Url;

use self::input::bad;
use self::parser::{Chunk, Options, Summary, parse};
use crate::emit::{self, Emit};
use crate::http::{Client, Limits, address};
use crate::rows::Table;
use crate::source::{Event, Read, Request, Source, Stream};

/// Where a feed is. Exactly one of `path` and `url`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// A file.
    #[serde(default)]
    pub path: Option<PathBuf>,
    /// An address, `http` or `https`. A query that holds a secret belongs into `headers`.
    #[serde(default)]
    pub url: Option<String>,
    /// Headers of the request, values by reference: `authorization = "env:FEED_AUTH"`.
    #[serde(default)]
    pub headers: BTreeMap<String, SecretRef>,
    /// The currency of amounts where the feed names none, such as `USD`.
    #[serde(default)]
    pub default_currency: Option<String>,
    /// Rows between two checkpoints, at the least: the next end of a property makes one.
    #[serde(default = "checkpoint_rows")]
    pub checkpoint_rows: usize,
    /// Whether the address may be inside a private network: on this machine, behind the firewall. Whoever can set `url`
    /// could else have propflow fetch from there.
    #[serde(default)]
    pub allow_private: bool,
    /// How the address may be called.
    #[serde(default)]
    pub limits: Limits,
}

fn checkpoint_rows() -> usize {
    8 * 1024
}

/// The connector.
#[derive(Debug)]
pub struct Mits {
    place: Place,
    currency: Option<String>,
    checkpoint_rows: usize,
    connection: String,
}

#[derive(Debug)]
enum Place {
    File(PathBuf),
    Address { client: Box<Client>, url: Url, headers: Vec<(HeaderName, SecretRef)> },
}

/// Properties that are done with, from the start of the feed, and which they were: a feed that has been written anew
/// since may have others in their places.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
struct Done {
    properties: u64,
    #[serde(default)]
    trail: u64,
    /// Whether that was the end, and the list of properties has been told.
    #[serde(default)]
    whole: bool,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => path.display().fmt(f),
            Self::Address { url, .. } => SafeUrl(url.clone()).fmt(f),
        }
    }
}

#[async_trait]
impl Component for Mits {
    type Live = dyn Source;
    type Config = Config;
    const NAME: &'static str = "mits";
    const ABOUT: &'static str =
        "ILS / MITS marketing feeds of any vendor, dialects 2.0 to 4.1, from a file or an address";

    async fn open(config: Config, env: Env) -> Result<Box<dyn Source>> {
        let place = match (config.path, config.url) {
            (Some(path), None) => Place::File(path),
            (None, Some(url)) => {
                let url = address("url", &url)?;
                let account = format!("mits/{}", url.host_str().unwrap_or_default());
                let client = match config.allow_private {
                    true => Client::new(&account, &env, config.limits)?,
                    false => Client::public_only(&account, &env, config.limits)?,
                };
                let client = Box::new(client);
                let name = |(name, secret): (String, SecretRef)| {
                    let name = HeaderName::try_from(&name)
                        .map_err(|_| Fault::user(format!("`{name}` in `headers` is not a header's name")))?;
                    Ok((name, secret))
                };
                Place::Address { client, url, headers: config.headers.into_iter().map(name).collect::<Result<_>>()? }
            }
            _ => return Err(Fault::user("`mits` needs exactly one of `path` and `url`")),
        };
        Ok(Box::new(Self {
            place,
            currency: config.default_currency,
            checkpoint_rows: config.checkpoint_rows,
            connection: env.connection,
        }))
    }

    fn address(rest: &str) -> Option<Value> {
        let remote = rest.starts_with("http://") || rest.starts_with("https://");
        (!rest.is_empty()).then(|| if remote { json!({"url": rest}) } else { json!({"path": rest}) })
    }
}

#[async_trait]
impl Source for Mits {
    fn streams(&self) -> Vec<Stream> {
        vec![Stream {
            name: "feed".into(),
            about: "properties, floor plans, units, prices, concessions, charges and amenities of a marketing feed"
                .into(),
            datasets: [wire::mits(), vec![wire::mits_list()]].concat(),
            backfill: false,
            changes: false,
            objects: false,
        }]
    }

    async fn check(&self) -> Result<()> {
        let mut reader = self.reader().await?;
        let mut first = [0; 1];
        let read = tokio::task::spawn_blocking(move || reader.read(&mut first)).await;
        match read.map_err(|e| Fault::us("the reader of the feed died").because(e))? {
            Ok(0) => Err(Fault::remote("the feed is empty")),
            Ok(_) => Ok(()),
            Err(e) => Err(Fault::remote("the feed cannot be read").because(e)),
        }
    }

    fn read(&self, request: Request) -> BoxStream<'_, Result<Event>> {
        emit::stream(move |emit| Box::pin(self.feed(request, emit)))
    }

    /// A feed is one file or one download, whichever part of it is wanted.
    fn reads_ahead(&self) -> bool {
        true
    }
}

impl Mits {
    async fn reader(&self) -> Result<Box<dyn std::io::Read + Send>> {
        match &self.place {
            Place::File(path) => {
                let there = Fault::user(format!("the feed `{}` cannot be opened", path.display()))
                    .hint("Name a file that is there and may be read; a path begins in the folder that you are in.");
                let file = match File::open(path) {
                    Ok(file) if path.is_dir() => {
                        drop(file);
                        return Err(Fault::user(format!("the feed `{}` is a folder", path.display()))
                            .hint("Name one file in it."));
                    }
                    Ok(file) => file,
                    Err(e) => return Err(there.because(e)),
                };
                Ok(Box::new(file))
            }
            Place::Address { client, url, headers } => {
                let mut values = http::HeaderMap::new();
                for (name, secret) in headers {
                    let mut value = HeaderValue::from_str(secret.resolve()?.expose_secret()).map_err(|_| {
                        Fault::user(format!("the secret `{secret}` cannot be the value of the header `{name}`"))
                    })?;
                    value.set_sensitive(true);
                    values.insert(name, value);
                }
                let body = client.download(client.request(http::Method::GET, url.clone()).headers(values)).await?;
                Ok(Box::new(body))
            }
        }
    }

    async fn feed(&self, request: Request, mut emit: Emit) -> Result<()> {
        if request.stream != "feed" || !matches!(request.read, Read::Snapshot) {
            return Err(Fault::user(format!("`mits` cannot read `{}` that way", request.stream))
                .hint("It has one stream, `feed`, which can only be read whole."));
        }
        let only: Vec<String> = request.only.iter().map(|id| crate::rows::id(id).into_owned()).collect();
        let mut done = request.resume.map(|cursor| cursor.read::<Done>()).transpose()?.unwrap_or_default();
        loop {
            let options = Options {
                skip: done.properties,
                trail: done.trail,
                only: only.clone(),
                currency: self.currency.clone(),
                batch_rows: (self.checkpoint_rows / 2).clamp(1, Options::default().batch_rows),
                ..Options::default()
            };
            let end = self.pass(options, &mut done, &mut emit).await?;
            match end {
                Ok(summary) if summary.changed => {
                    let note = Note {
                        topic: "feed_changed".to_owned(),
                        subject: self.connection.clone(),
                        text: "the feed is not the one that the interrupted reading began with, so it is read from its start"
                            .to_owned(),
                        count: 1,
                    };
                    emit.event(Event::Note(note)).await?;
                    done = Done::default();
                }
                Ok(summary) if summary.properties == 0 => {
                    return Err(bad("the feed holds no property").hint(
                        "Nothing was withdrawn for it: a feed that is empty by mistake must not empty the offers.",
                    ));
                }
                Ok(summary) => {
                    let Summary { properties, trail, listed, .. } = summary;
                    if !done.whole || properties > done.properties {
                        self.list(&listed, &mut emit).await?;
                    }
                    let whole = Done { properties, trail, whole: true };
                    return emit.event(Event::Checkpoint(Cursor::of(&whole)?)).await;
                }
                Err(fault) => {
                    // What came whole before a fault is good and need not be read again.
                    emit.event(Event::Checkpoint(Cursor::of(&done)?)).await?;
                    return Err(fault.at(format_args!("`{}`", self.place)));
                }
            }
        }
    }

    /// Reads the feed once; `done` moves on with what was handed out.
    async fn pass(&self, options: Options, done: &mut Done, emit: &mut Emit) -> Result<Result<Summary>> {
        let reader = self.reader().await?;

        // The parser runs ahead of the reader of the stream by three chunks at most: one waits, one is in each hand.
        let (sender, mut chunks) = mpsc::channel::<Chunk>(1);
        let parsing = tokio::task::spawn_blocking(move || {
            parse(reader, &options, &mut |chunk| match sender.blocking_send(chunk) {
                Ok(()) => ControlFlow::Continue(()),
                Err(_) => ControlFlow::Break(()),
            })
        });
        let mut pending = 0;
        while let Some(chunk) = chunks.recv().await {
            *done = Done { properties: chunk.done, trail: chunk.trail, whole: false };
            for (dataset, batch) in chunk.rows {
                pending += batch.num_rows();
                emit.event(Event::Rows { dataset: dataset.into(), batch }).await?;
            }
            for reject in chunk.rejects {
                emit.event(Event::Reject(reject)).await?;
            }
            for scope in chunk.complete {
                emit.event(Event::Complete { column: "property_id", scope, missing: Vec::new() }).await?;
            }
            if pending >= self.checkpoint_rows {
                pending = 0;
                emit.event(Event::Checkpoint(Cursor::of(done)?)).await?;
            }
        }
        let end = parsing.await.map_err(|e| Fault::us("the reader of the feed died").because(e))?;
        for note in end.iter().filter(|end| !end.changed).flat_map(|end| &end.notes) {
            emit.event(Event::Note(note.clone())).await?;
        }
        Ok(end)
    }

    /// Says which properties the whole feed holds, so that one that has left it is offered no longer.
    async fn list(&self, listed: &[(String, Option<String>)], emit: &mut Emit) -> Result<()> {
        let mut table = Table::of("mits_listed")?;
        let (id, name) = (table.column("property_id")?, table.column("name")?);
        for (property, known_as) in listed {
            table.add();
            table.put(id, property);
            if let Some(known_as) = known_as {
                table.put(name, known_as);
            }
        }
        table.fill(0, 0, &self.connection);
        emit.event(Event::Rows { dataset: table.name().into(), batch: table.finish()? }).await?;
        let scope = self.connection.clone();
        emit.event(Event::Complete { column: "connection", scope, missing: Vec::new() }).await
    }
}
