//! `ical`: calendars that booking sites and property-management systems export.

mod calendars;
pub mod dialect;
pub mod diff;
pub mod feed;
pub mod reader;
mod zones;

use std::path::PathBuf;

use async_trait::async_trait;
use catalog::{Component, Env, Fault, Result};
use futures::stream::BoxStream;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};

pub use self::calendars::FeedConfig;
pub(crate) use self::calendars::{Calendars, Calls, Listed, Position, stream};
use self::calendars::{NAMED, Place};
use self::dialect::{Dialect, Kind};
use self::feed::Rules;
use crate::emit;
use crate::http::{Limits, address};
use crate::source::{Event, Read, Request, Source, Stream};

/// Which calendars to read: `feeds`, or one by `path` or `url`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The calendars, each with its listing.
    #[serde(default)]
    pub feeds: Vec<FeedConfig>,
    /// One calendar in a file, for a copy by address.
    #[serde(default)]
    pub path: Option<PathBuf>,
    /// One calendar at an address, for a copy by address. In a pipeline file name it under `feeds`, by reference.
    #[serde(default)]
    pub url: Option<String>,
    /// Whether addresses may be inside a private network: on this machine, behind the firewall. Whoever can set an address
    /// could else have propflow fetch from there.
    #[serde(default)]
    pub allow_private: bool,
    /// How each host may be called.
    #[serde(default)]
    pub limits: Limits,
}

/// The connector.
#[derive(Debug)]
pub struct Ical {
    calendars: Calendars,
}

#[async_trait]
impl Component for Ical {
    type Live = dyn Source;
    type Config = Config;
    const NAME: &'static str = "ical";
    const ABOUT: &'static str =
        "calendars (iCal) of any booking site or property manager: stays and closed times, by comparing snapshots";

    async fn open(config: Config, env: Env) -> Result<Box<dyn Source>> {
        let calendars = open(Self::NAME, config, None, &env)?;
        Ok(Box::new(Self { calendars }))
    }

    fn address(rest: &str) -> Option<Value> {
        one_off(rest)
    }
}

/// The settings for a file or an address alone.
pub(crate) fn one_off(rest: &str) -> Option<Value> {
    let remote = rest.contains("://");
    (!rest.is_empty()).then(|| if remote { json!({ "url": rest }) } else { json!({ "path": rest }) })
}

/// Opens the calendars of `connector`, whose feeds are of this dialect where nothing else is said.
pub(crate) fn open(connector: &'static str, config: Config, dialect: Option<Dialect>, env: &Env) -> Result<Calendars> {
    let single = match (config.path, config.url) {
        (None, None) => None,
        (Some(path), None) => {
            let name = path.file_stem().map(|stem| stem.to_string_lossy().into_owned());
            Some((name.unwrap_or_else(|| connector.to_owned()), Place::File(path)))
        }
        (None, Some(url)) => {
            let url = address("url", &url).map_err(|fault| fault.hint(NAMED))?;
            Some((listing_of(&url), Place::Address(url)))
        }
        (Some(_), Some(_)) => {
            return Err(Fault::user(format!("`{connector}` takes one of `path` and `url`, not both")));
        }
    };
    if single.is_some() != config.feeds.is_empty() {
        return Err(Fault::user(format!("`{connector}` needs `feeds`, or else one of `path` and `url`"))
            .hint("Write `feeds = [{ listing = \"…\", url = \"env:…\" }]`, one for each listing."));
    }
    let calls = Calls { limits: &config.limits, allow_private: config.allow_private };
    let mut calendars = Calendars::open(connector, config.feeds, dialect, calls, env)?;
    if let Some((listing, place)) = single {
        let rules = Rules { listing: listing.clone(), scope: None, dialect, zone: None, otherwise: Kind::Blocked };
        calendars.add(listing, None, place, rules, calls, env)?;
        calendars.alone = true;
    }
    Ok(calendars)
}

/// A name for the listing of an address: the number in it, if it has one; other parts may be the secret.
fn listing_of(url: &url::Url) -> String {
    let file = url.path_segments().and_then(|mut parts| parts.next_back()).unwrap_or_default();
    let number = file.strip_suffix(".ics").unwrap_or(file);
    match !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()) {
        true => number.to_owned(),
        false => url.host_str().unwrap_or("calendar").to_owned(),
    }
}

/// Where a reading begins.
pub(crate) fn position(connector: &str, request: &Request) -> Result<Position> {
    let wrong = || {
        Fault::user(format!("`{connector}` cannot read `{}` that way", request.stream))
            .hint("It has one stream, `bookings`, which is read whole or for what has changed.")
    };
    if request.stream != "bookings" {
        return Err(wrong());
    }
    let since = match &request.read {
        Read::Snapshot => None,
        Read::Changes { since } => since.as_ref(),
        Read::Backfill { .. } | Read::Objects { .. } => return Err(wrong()),
    };
    match (&request.resume, since) {
        (Some(resume), _) => resume.read(),
        (None, Some(since)) => Ok(Position { after: None, ..since.read()? }),
        (None, None) => Ok(Position::default()),
    }
}

#[async_trait]
impl Source for Ical {
    fn streams(&self) -> Vec<Stream> {
        vec![stream(false)]
    }

    async fn check(&self) -> Result<()> {
        self.calendars.check().await
    }

    fn read(&self, request: Request) -> BoxStream<'_, Result<Event>> {
        emit::stream(move |mut emit| {
            Box::pin(async move {
                let mut position = position(Self::NAME, &request)?;
                self.calendars.read(&request, &mut position, &mut emit).await
            })
        })
    }
}
