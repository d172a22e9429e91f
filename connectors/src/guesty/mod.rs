//! `guesty`: reservations, calendar blocks, listings and guests of a Guesty account.

mod api;
mod calendar;
mod facts;
mod reading;
mod reservations;
mod webhook;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use catalog::standing::Tables;
use catalog::{Component, Env, Fault, Result, SecretRef};
use futures::stream::BoxStream;
use schemars::JsonSchema;
use serde::Deserialize;

use self::api::Api;
use self::reservations::{Legacy, Reservations, V3};
use self::webhook::Deliveries;
use crate::emit;
use crate::http::Limits;
use crate::source::{Event, Request, Source, Stream};
use crate::webhook::Webhook;

/// The one stream.
const STREAM: &str = "bookings";

/// The account and how to reach it.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The address of the API.
    #[serde(default = "base_url")]
    pub base_url: String,
    /// The address that gives tokens; it is not under the other one.
    #[serde(default = "token_url")]
    pub token_url: String,
    /// The application's client id, by reference.
    pub client_id: SecretRef,
    /// The application's client secret, by reference.
    pub client_secret: SecretRef,
    /// Which generation of reservations is read.
    #[serde(default)]
    pub api: Generation,
    /// The signing secrets of the account's webhook, by reference; two while one is being replaced.
    #[serde(default)]
    pub webhook_secrets: Vec<SecretRef>,
    /// The property behind a listing, by the listing's id.
    #[serde(default)]
    pub properties: BTreeMap<String, String>,
    /// Items of a page, at most 100.
    #[serde(default = "page_size")]
    pub page_size: usize,
    /// Seconds between two looks at everything that is open, which find deletions and what moved without a word. With
    /// `v3` every reading looks.
    #[serde(default = "hour")]
    pub rescan_secs: u32,
    /// Seconds between two looks at the calendars, which cost a call for each listing.
    #[serde(default = "hour")]
    pub calendar_secs: u32,
    /// How many days of the calendars are read.
    #[serde(default = "year")]
    pub calendar_days: u32,
    /// How the account may be called. Guesty's 120 calls a minute and 5,000 an hour hold unless other figures are set.
    #[serde(default = "limits")]
    pub limits: Limits,
}

/// A generation of Guesty's reservations.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Generation {
    /// The list with filters: finds changes, shows every channel, and goes on 2027-03-01.
    #[default]
    Legacy,
    /// The search of 2026.
    V3,
}

fn base_url() -> String {
    "https://open-api.guesty.com/v1".to_owned()
}

fn token_url() -> String {
    "https://open-api.guesty.com/oauth2/token".to_owned()
}

fn page_size() -> usize {
    api::PAGE
}

fn hour() -> u32 {
    3600
}

fn year() -> u32 {
    365
}

/// Fifteen a second are allowed; a burst of four and ten a second never reach that.
fn limits() -> Limits {
    Limits { calls_per_sec: 10, burst: 4, ..Limits::default() }
}

/// The connector.
pub struct Guesty {
    api: Api,
    reservations: Box<dyn Reservations>,
    deliveries: Deliveries,
    properties: BTreeMap<String, String>,
    rescan_secs: u32,
    calendar_secs: u32,
    calendar_days: u32,
    connection: String,
    tables: Arc<dyn Tables>,
}

impl fmt::Debug for Guesty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Guesty({})", self.connection)
    }
}

#[async_trait]
impl Component for Guesty {
    type Live = dyn Source;
    type Config = Config;
    const NAME: &'static str = "guesty";
    const ABOUT: &'static str = "Guesty: reservations, calendar blocks, listings and guests, pulled and by webhook";

    async fn open(config: Config, env: Env) -> Result<Box<dyn Source>> {
        let api = Api::open(&config, &env)?;
        if !(1..=1000).contains(&config.calendar_days) {
            return Err(Fault::user("`calendar_days` must lie between 1 and 1000"));
        }
        Ok(Box::new(Self {
            api,
            reservations: match config.api {
                Generation::Legacy => Box::new(Legacy),
                Generation::V3 => Box::new(V3),
            },
            deliveries: Deliveries::new(config.webhook_secrets),
            properties: config.properties,
            rescan_secs: config.rescan_secs,
            calendar_secs: config.calendar_secs,
            calendar_days: config.calendar_days,
            connection: env.connection,
            tables: env.tables,
        }))
    }
}

#[async_trait]
impl Source for Guesty {
    fn streams(&self) -> Vec<Stream> {
        vec![Stream {
            name: STREAM.into(),
            about: "reservations and calendar blocks with their listings and guests".into(),
            datasets: catalog::datasets::wire::channels(),
            backfill: true,
            changes: true,
            objects: true,
        }]
    }

    async fn check(&self) -> Result<()> {
        let list = self.api.get(&["listings"], &[("limit", "1"), ("fields", "nickname")], api::results).await;
        list.map(|_| ()).map_err(|refusal| refusal.fault)
    }

    fn read(&self, request: Request) -> BoxStream<'_, Result<Event>> {
        emit::stream(move |emit| Box::pin(self.bookings(request, emit)))
    }

    fn webhook(&self) -> Option<&dyn Webhook> {
        Some(&self.deliveries)
    }
}
