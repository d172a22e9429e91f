//! `vrbo`: the calendars that any host can export, and the documents that VRBO sends to integrated software.

mod document;

use async_trait::async_trait;
use catalog::{Component, Env, Fault, Result, SecretRef};
use futures::stream::BoxStream;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;

use crate::emit;
use crate::http::Limits;
use crate::ical::dialect::Dialect;
use crate::ical::{self, Calendars, Calls, FeedConfig};
use crate::source::{Event, Request, Source, Stream};
use crate::webhook::{Decoded, Delivery, Identity, Refused, Webhook, any_basic, body_id};

/// Which calendars to read, and whether VRBO's documents are taken.
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
    /// The documents that VRBO sends. Nobody has checked this against VRBO itself.
    #[serde(default)]
    pub partner: Option<PartnerConfig>,
    /// How each host may be called.
    #[serde(default)]
    pub limits: Limits,
}

/// How VRBO proves itself when it sends its documents.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PartnerConfig {
    /// Must be true: it says that you know that nobody has checked this against VRBO itself.
    pub unverified: bool,
    /// The user that VRBO presents.
    #[serde(default = "user")]
    pub user: String,
    /// The passwords that are taken, by reference: one, or two while it is being replaced. They should be long and random.
    #[serde(default)]
    pub passwords: Vec<SecretRef>,
    /// One password more, as a single one was written before `passwords`.
    #[serde(default)]
    pub password: Option<SecretRef>,
}

impl PartnerConfig {
    fn passwords(&self) -> impl Iterator<Item = &SecretRef> {
        self.passwords.iter().chain(&self.password)
    }
}

fn user() -> String {
    "vrbo".to_owned()
}

/// The connector.
#[derive(Debug)]
pub struct Vrbo {
    calendars: Calendars,
    receiver: Option<Receiver>,
}

#[async_trait]
impl Component for Vrbo {
    type Live = dyn Source;
    type Config = Config;
    const NAME: &'static str = "vrbo";
    const ABOUT: &'static str = "VRBO and its sister sites: each listing's exported calendar; the documents of its partner integration, unverified";

    async fn open(config: Config, env: Env) -> Result<Box<dyn Source>> {
        let Config { feeds, path, url, allow_private, partner, limits } = config;
        if partner.as_ref().is_some_and(|partner| !partner.unverified) {
            return Err(Fault::user("the partner documents of `vrbo` are off")
                .hint("Set `unverified = true` if you know that nobody has checked them against VRBO itself."));
        }
        if partner.as_ref().is_some_and(|partner| partner.passwords().next().is_none()) {
            return Err(Fault::user("the partner documents of `vrbo` need a password")
                .hint("Write `passwords = [\"env:VRBO_PARTNER_PASSWORD\"]` below `partner`."));
        }
        let alone = partner.is_some() && feeds.is_empty() && path.is_none() && url.is_none();
        let calendars = match alone {
            true => {
                Calendars::open(Self::NAME, feeds, Some(Dialect::Vrbo), Calls { limits: &limits, allow_private }, &env)?
            }
            false => ical::open(
                Self::NAME,
                ical::Config { feeds, path, url, allow_private, limits },
                Some(Dialect::Vrbo),
                &env,
            )?,
        };
        let receiver = partner.map(|config| Receiver { config, connection: env.connection.clone() });
        Ok(Box::new(Self { calendars, receiver }))
    }

    fn address(rest: &str) -> Option<Value> {
        ical::one_off(rest)
    }
}

#[async_trait]
impl Source for Vrbo {
    fn streams(&self) -> Vec<Stream> {
        vec![ical::stream(false)]
    }

    async fn check(&self) -> Result<()> {
        self.calendars.check().await
    }

    fn read(&self, request: Request) -> BoxStream<'_, Result<Event>> {
        emit::stream(move |mut emit| {
            Box::pin(async move {
                let mut position = ical::position(Self::NAME, &request)?;
                self.calendars.read(&request, &mut position, &mut emit).await
            })
        })
    }

    fn webhook(&self) -> Option<&dyn Webhook> {
        self.receiver.as_ref().map(|receiver| receiver as &dyn Webhook)
    }
}

/// Takes VRBO's documents. They are the reservation itself: there is nothing to read again.
#[derive(Debug)]
struct Receiver {
    config: PartnerConfig,
    connection: String,
}

impl Webhook for Receiver {
    fn verify(&self, delivery: &Delivery) -> Result<(), Refused> {
        any_basic(delivery, &self.config.user, self.config.passwords())
    }

    fn identify(&self, delivery: &Delivery) -> Result<Identity, Refused> {
        let document = document::read(&delivery.body).map_err(|fault| Refused::Malformed(fault.message))?;
        Ok(Identity { id: body_id(&delivery.body), event: document.name })
    }

    fn decode(&self, delivery: &Delivery) -> Result<Decoded> {
        let document = document::read(&delivery.body)?;
        let rows = document::row(&document, &self.connection, delivery.received_at)?;
        Ok(Decoded { stream: "bookings".into(), events: rows.into_iter().collect(), ..Decoded::default() })
    }
}
