//! `airbnb`: the calendars that any host can export, and the partner API for those who have a contract.

mod partner;

use async_trait::async_trait;
use catalog::{Component, Env, Fault, Result};
use futures::stream::BoxStream;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;

use self::partner::Partner;
pub use self::partner::{PartnerConfig, PartnerListing};
use crate::authority::Authority;
use crate::emit;
use crate::http::Limits;
use crate::ical::dialect::Dialect;
use crate::ical::{self, Calendars, Calls, FeedConfig};
use crate::source::{Event, Read, Request, Source, Stream};
use crate::webhook::Webhook;

/// Which calendars to read, and the partner's account if there is one.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The calendars, one for each listing.
    #[serde(default)]
    pub feeds: Vec<FeedConfig>,
    /// One calendar in a file, for a copy by address.
    #[serde(default)]
    pub path: Option<std::path::PathBuf>,
    /// One calendar at an address, for a copy by address. In a pipeline file name it under `feeds`, by reference.
    #[serde(default)]
    pub url: Option<String>,
    /// Whether addresses of calendars may be inside a private network: on this machine, behind the firewall. Whoever can set
    /// an address could else have propflow fetch from there.
    #[serde(default)]
    pub allow_private: bool,
    /// The partner API. Nobody has checked it against Airbnb itself.
    #[serde(default)]
    pub partner: Option<PartnerConfig>,
    /// How each host may be called.
    #[serde(default)]
    pub limits: Limits,
}

/// The connector.
#[derive(Debug)]
pub struct Airbnb {
    calendars: Calendars,
    partner: Option<Partner>,
}

#[async_trait]
impl Component for Airbnb {
    type Live = dyn Source;
    type Config = Config;
    const NAME: &'static str = "airbnb";
    const ABOUT: &'static str =
        "Airbnb: each listing's exported calendar; its partner API, unverified, for contract partners";

    async fn open(config: Config, env: Env) -> Result<Box<dyn Source>> {
        let Config { feeds, path, url, allow_private, partner, limits } = config;
        let partner = partner.map(|partner| Partner::open(partner, &limits, &env)).transpose()?;
        let alone = partner.is_some() && feeds.is_empty() && path.is_none() && url.is_none();
        let calendars = match alone {
            true => Calendars::open(
                Self::NAME,
                feeds,
                Some(Dialect::Airbnb),
                Calls { limits: &limits, allow_private },
                &env,
            )?,
            false => ical::open(
                Self::NAME,
                ical::Config { feeds, path, url, allow_private, limits },
                Some(Dialect::Airbnb),
                &env,
            )?,
        };
        Ok(Box::new(Self { calendars, partner }))
    }

    fn address(rest: &str) -> Option<Value> {
        ical::one_off(rest)
    }
}

#[async_trait]
impl Source for Airbnb {
    fn streams(&self) -> Vec<Stream> {
        vec![ical::stream(self.partner.is_some())]
    }

    async fn check(&self) -> Result<()> {
        if let Some(partner) = &self.partner {
            partner.check().await?;
        }
        self.calendars.check().await
    }

    fn read(&self, request: Request) -> BoxStream<'_, Result<Event>> {
        emit::stream(move |mut emit| {
            Box::pin(async move {
                if let (Read::Objects { ids }, "bookings") = (&request.read, request.stream.as_str()) {
                    let partner = self.partner.as_ref().ok_or_else(|| {
                        Fault::user("`airbnb` reads single reservations through its partner API only")
                            .hint("A calendar can only be read whole.")
                    })?;
                    return partner.objects(ids, &mut emit).await;
                }
                let mut position = ical::position(Self::NAME, &request)?;
                if let Some(partner) = &self.partner {
                    partner.read(&request, &mut position, &mut emit).await?;
                }
                self.calendars.read(&request, &mut position, &mut emit).await
            })
        })
    }

    fn authority(&self) -> Option<&Authority> {
        self.partner.as_ref().map(Partner::authority)
    }

    fn webhook(&self) -> Option<&dyn Webhook> {
        self.partner.as_ref().and_then(Partner::webhook)
    }
}
