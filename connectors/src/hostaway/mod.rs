//! `hostaway`: reservations and listings from Hostaway.

mod api;
mod token;
mod webhook;

use std::collections::BTreeMap;
use std::fmt;

use async_trait::async_trait;
use catalog::{Component, Env, Fault, Result, SecretRef};
use chrono::{DateTime, Days, NaiveDate, Utc};
use futures::stream::BoxStream;
use http::{Method, StatusCode, header};
use schemars::JsonSchema;
use secrecy::ExposeSecret as _;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;
use url::Url;

use self::api::{Envelope, Items, Place};
use self::token::Tokens;
use self::webhook::Checked;
pub use self::webhook::WebhookConfig;
use crate::emit;
use crate::http::{Cause, Client, Limits};
use crate::managers::{self, Account, Booking, Kind, Listing, Manager, Page, Person, Told};
use crate::source::{Event, Request, Source, Stream};
use crate::webhook::Webhook;

/// The account and how to reach it.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The API's address.
    #[serde(default = "base_url")]
    pub base_url: String,
    /// The account's id, which is the client id too.
    pub account_id: String,
    /// The client secret, by reference.
    pub client_secret: SecretRef,
    /// How unified webhooks are checked. Left out: none are taken.
    #[serde(default)]
    pub webhook: Option<WebhookConfig>,
    /// The operator's property behind each listing, by its id.
    #[serde(default)]
    pub properties: BTreeMap<String, String>,
    /// Seconds that a reading of changes reaches back behind the beginning of the last one.
    #[serde(default = "overlap_secs")]
    pub overlap_secs: u32,
    /// Seconds between two comparisons of everything to come, which find deletions that nobody announced.
    #[serde(default = "compare_every_secs")]
    pub compare_every_secs: u32,
    /// Reservations a page.
    #[serde(default = "page_size")]
    #[schemars(range(min = 2, max = 500))]
    pub page_size: u32,
    /// Milliseconds until a new token works.
    #[serde(default = "token_wait_ms")]
    pub token_wait_ms: u64,
    /// How the address may be called. The vendor allows 15 calls in ten seconds to each IP address and 20 to each account:
    /// one a second with a burst of five, unless said otherwise.
    #[serde(default = "limits", deserialize_with = "given_limits")]
    pub limits: Limits,
}

fn base_url() -> String {
    "https://api.hostaway.com/v1".to_owned()
}

fn overlap_secs() -> u32 {
    900
}

fn compare_every_secs() -> u32 {
    3600
}

fn page_size() -> u32 {
    100
}

fn token_wait_ms() -> u64 {
    1000
}

fn limits() -> Limits {
    Limits { calls_per_sec: 1, burst: 5, ..Limits::default() }
}

fn given_limits<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Limits, D::Error> {
    Limits::with_pace(deserializer, 1, 5)
}

/// The connector.
pub struct Hostaway {
    client: Client,
    base: Url,
    tokens: Tokens,
    webhook: Option<Checked>,
    page_size: usize,
    account: Account,
}

impl fmt::Debug for Hostaway {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Hostaway({})", self.account.connection)
    }
}

#[async_trait]
impl Component for Hostaway {
    type Live = dyn Source;
    type Config = Config;
    const NAME: &'static str = "hostaway";
    const ABOUT: &'static str = "Hostaway: reservations and listings, by pull and by unified webhook";

    async fn open(config: Config, env: Env) -> Result<Box<dyn Source>> {
        let base = managers::base("base_url", &config.base_url)?;
        // A page of one could not tell its end from a row that has moved.
        if !(2..=500).contains(&config.page_size) {
            return Err(Fault::user("`page_size` must be between 2 and 500"));
        }
        let secret = config.client_secret.resolve()?;
        Ok(Box::new(Self {
            client: Client::new(&managers::budget("hostaway", &base), &env, config.limits)?,
            tokens: Tokens::new(&base, &config.account_id, secret, config.token_wait_ms)?,
            base,
            webhook: config.webhook.map(|webhook| Checked { webhook, account_id: config.account_id }),
            page_size: config.page_size as usize,
            account: Account::new(&env, config.overlap_secs, config.compare_every_secs, config.properties),
        }))
    }
}

#[async_trait]
impl Source for Hostaway {
    fn streams(&self) -> Vec<Stream> {
        vec![managers::stream("listings, then reservations and owner stays", &[Kind::Reservation, Kind::Listing])]
    }

    async fn check(&self) -> Result<()> {
        self.list("listings", &[("limit", "1")]).await.map(|_| ())
    }

    fn read(&self, request: Request) -> BoxStream<'_, Result<Event>> {
        emit::stream(move |emit| Box::pin(managers::read(self, request, emit)))
    }

    fn webhook(&self) -> Option<&dyn Webhook> {
        self.webhook.as_ref().map(|webhook| webhook as &dyn Webhook)
    }
}

/// Where a list goes on: behind `after`, or, if the vendor has nothing behind that, behind `before_it`.
///
/// A place is an id, and the order is that of the last change: when that very row changes or is deleted between two pages,
/// its place is lost and the list seems to end. So an empty page behind a full one is believed only if the row before the
/// last one agrees.
struct Behind<'a> {
    after: &'a str,
    before_it: Option<&'a str>,
}

impl<'a> Behind<'a> {
    fn parse(at: &'a str) -> Self {
        match at.split_once('/') {
            Some((after, before_it)) => Self { after, before_it: Some(before_it) },
            None => Self { after: at, before_it: None },
        }
    }
}

impl Hostaway {
    /// Makes a call with the token, with a new one if the vendor does not take it any more.
    async fn ask<T: DeserializeOwned>(&self, url: &Url) -> Result<Option<Told<T>>> {
        let mut fresh = false;
        loop {
            let token = self.tokens.get(&self.client).await?;
            let request = || {
                self.client
                    .request(Method::GET, url.clone())
                    .bearer_auth(token.expose_secret())
                    .header(header::ACCEPT, "application/json")
            };
            match managers::ask(&self.client, url, request).await {
                Err(refusal) if !fresh && expired(refusal.cause) => {
                    self.tokens.forget(&token).await;
                    fresh = true;
                }
                other => return Ok(other?),
            }
        }
    }

    async fn list(&self, path: &str, query: &[(&str, &str)]) -> Result<Told<Items>> {
        let mut url = managers::below(&self.base, path)?;
        url.query_pairs_mut().extend_pairs(query);
        let told = self.ask::<Envelope<Items>>(&url).await?.ok_or_else(|| managers::missing(&url))?;
        match told.what.status.get() {
            Some("success") => Ok(Told { what: told.what.result, now: told.now }),
            _ => Err(managers::strange(&url)),
        }
    }

    async fn object<T>(&self, path: &str, id: &str, understand: fn(&str) -> Option<T>) -> Result<Option<T>> {
        let url = managers::below(&self.base, &format!("{path}/{id}"))?;
        let Some(told) = self.ask::<Envelope<Box<RawValue>>>(&url).await? else { return Ok(None) };
        understand(told.what.result.get()).map(Some).ok_or_else(|| managers::strange(&url))
    }

    /// A page of reservations behind a place in the list.
    async fn page(&self, query: &[(&str, &str)], at: Option<&str>) -> Result<(Page<Booking>, Vec<Place>)> {
        let limit = self.page_size.to_string();
        let mut query = query.to_vec();
        query.push(("limit", &limit));
        let behind = at.map(Behind::parse);
        let told = match &behind {
            None => self.list("reservations", &query).await?,
            Some(behind) => {
                let told = self.list("reservations", &[&query[..], &[("afterId", behind.after)]].concat()).await?;
                match behind.before_it {
                    Some(before) if told.what.is_empty() => {
                        let mut again =
                            self.list("reservations", &[&query[..], &[("afterId", before)]].concat()).await?;
                        again.what.retain(|item| place(item).id.get() != Some(behind.after));
                        again
                    }
                    _ => told,
                }
            }
        };
        let mut page = Page::of(&told.what, Kind::Reservation, &self.account.connection, api::reservation);
        page.now = told.now;
        let places: Vec<Place> = told.what.iter().map(|item| place(item)).collect();
        let mut ids = places.iter().rev().filter_map(|place| place.id.id());
        page.next = ids.next().map(|after| match ids.next() {
            // Behind a short page the end is no surprise.
            Some(before) if places.len() + 1 >= self.page_size => format!("{after}/{before}"),
            _ => after,
        });
        Ok((page, places))
    }
}

fn place(item: &RawValue) -> Place {
    serde_json::from_str(item.get()).unwrap_or_default()
}

/// The vendor answers 403 when a token has expired, and also when it was never one.
fn expired(cause: Cause) -> bool {
    matches!(cause, Cause::Status(StatusCode::FORBIDDEN | StatusCode::UNAUTHORIZED, _))
}

#[async_trait]
impl Manager for Hostaway {
    const NAME: &'static str = "hostaway";
    const TOGETHER: Option<usize> = None;
    const GUESTS: bool = false;

    fn account(&self) -> &Account {
        &self.account
    }

    async fn listings(&self) -> Result<Page<Listing>> {
        let mut all = Page { items: Vec::new(), rejects: Vec::new(), next: None, now: None };
        let limit = self.page_size.to_string();
        for page in 0..managers::MOST_PAGES {
            let offset = (page * self.page_size).to_string();
            let told = self.list("listings", &[("limit", &limit), ("offset", &offset)]).await?;
            let page = Page::of(&told.what, Kind::Listing, &self.account.connection, api::listing);
            all.now = all.now.or(told.now);
            all.items.extend(page.items);
            all.rejects.extend(page.rejects);
            if told.what.len() < self.page_size {
                return Ok(all);
            }
        }
        Err(managers::endless(<Self as Manager>::NAME))
    }

    async fn listing(&self, id: &str) -> Result<Option<Listing>> {
        self.object("listings", id, api::listing).await
    }

    async fn changed(&self, from: DateTime<Utc>, at: Option<&str>) -> Result<Page<Booking>> {
        // The filter knows days only, and not in which zone: one more day, and the rest is told by `updatedOn`.
        let day = (from.date_naive() - Days::new(1)).to_string();
        let filter = [("latestActivityStart", day.as_str())];
        let filter: &[_] = if from > DateTime::UNIX_EPOCH { &filter } else { &[] };
        let (mut page, places) = self.page(filter, at).await?;
        // Newest first: behind an older row there are only older ones.
        let changed: Option<Vec<DateTime<Utc>>> = places.iter().map(|place| place.updated_on.instant()).collect();
        let newest_first = |times: &[DateTime<Utc>]| times.windows(2).all(|pair| pair[0] >= pair[1]);
        if changed.is_some_and(|times| newest_first(&times) && times.last().is_some_and(|last| *last < from)) {
            page.next = None;
        }
        Ok(page)
    }

    async fn upcoming(&self, _: &[String], from: NaiveDate, at: Option<&str>) -> Result<Page<Booking>> {
        let from = from.to_string();
        Ok(self.page(&[("departureStartDate", &from)], at).await?.0)
    }

    async fn reservation(&self, id: &str) -> Result<Option<Booking>> {
        self.object("reservations", id, api::reservation).await
    }

    async fn guest(&self, _: &str) -> Result<Option<Person>> {
        Ok(None)
    }
}
