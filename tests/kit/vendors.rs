//! One simulated vendor per registered connector, for suites that loop over all of them.

use std::io::Write;

use chrono::NaiveTime;
use fixtures::calendars::{self, Glitch};
use fixtures::desk;
use fixtures::guesty;
use fixtures::mits::{FeedShape, Pricing, write_feed};
use fixtures::resman::{Misbehaviour, Options, Rule, Simulator};
use fixtures::rest;
use fixtures::stays::{self, Shared, Stays};
use fixtures::world::{Shape, World};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::channel::world;
use crate::rig::{now, today};

/// What a vendor can be told to do wrong, whatever its protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wrong {
    /// Refuse the credentials.
    Credentials,
    /// Fail with a server error, for good.
    Down,
    /// Fail with a server error, a few times.
    Shaky,
    /// Ask for fewer calls, a few times.
    Busy,
    /// Cut every answer off.
    Cut,
    /// Answer with something else than data.
    Garbage,
}

/// A running vendor, and how to open its connector.
#[derive(Debug)]
pub struct Vendor {
    /// The connector's settings.
    pub settings: Value,
    /// Texts that must appear in no error and no log.
    pub secrets: Vec<String>,
    /// Whether it is reached over a network, so that each [`Wrong`] can happen.
    pub remote: bool,
    /// Whether it can be asked at all; one that cannot sends by itself.
    pub pulled: bool,
    kind: Kind,
    _dir: TempDir,
}

#[derive(Debug)]
enum Kind {
    Guesty(guesty::Simulator),
    ResMan(Simulator),
    OwnerRez(fixtures::ownerrez::Simulator),
    Hostaway(fixtures::hostaway::Simulator),
    Feed(std::path::PathBuf),
    Sender,
    Calendars(calendars::Simulator),
    Rest(rest::Simulator),
}

impl Vendor {
    /// Starts the vendor of a connector. A connector without one fails here: add it.
    pub async fn start(connector: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let secret = |name: &str, value: &str| {
            let path = dir.path().join(name);
            std::fs::write(&path, value).unwrap();
            format!("file:{}", path.display())
        };
        match connector {
            "ownerrez" => {
                let simulator =
                    fixtures::ownerrez::Simulator::start(world(3, 12, 8), Default::default()).await.unwrap();
                let credentials = simulator.credentials().clone();
                let settings = json!({
                    "base_url": simulator.base_url(),
                    "token": secret("token", &credentials.access_token),
                    "client_id": credentials.client_id,
                    "page_size": 10,
                    "limits": { "calls_per_sec": 100_000, "burst": 1000, "backoff_ms": 1 },
                });
                let secrets = vec![credentials.access_token.clone()];
                Self { settings, secrets, remote: true, pulled: true, kind: Kind::OwnerRez(simulator), _dir: dir }
            }
            "hostaway" => {
                let simulator =
                    fixtures::hostaway::Simulator::start(world(3, 12, 8), Default::default()).await.unwrap();
                let credentials = simulator.credentials().clone();
                let settings = json!({
                    "base_url": simulator.base_url(),
                    "account_id": credentials.account_id,
                    "client_secret": secret("secret", &credentials.client_secret),
                    "page_size": 10,
                    "token_wait_ms": 0,
                    "limits": { "calls_per_sec": 100_000, "burst": 1000, "backoff_ms": 1 },
                });
                let secrets = vec![credentials.client_secret.clone(), "hostaway-token".to_owned()];
                Self { settings, secrets, remote: true, pulled: true, kind: Kind::Hostaway(simulator), _dir: dir }
            }
            "resman" => {
                let mut world = World::generate(Shape { seed: 3, properties: 3, units: 8, today: today() });
                world.seed_leads(12, now());
                let simulator = Simulator::start(world, Options::default()).await.unwrap();
                let credentials = simulator.credentials().clone();
                let settings = json!({
                    "v1_url": simulator.base_url_v1(),
                    "v2_url": simulator.base_url_v2(),
                    "partner_id": secret("partner", &credentials.partner_id),
                    "api_key": secret("key", &credentials.api_key),
                    "account_id": credentials.account_id,
                    "limits": { "calls_per_sec": 100_000, "burst": 1000, "backoff_ms": 1 },
                });
                let secrets = vec![credentials.api_key.clone()];
                Self { settings, secrets, remote: true, pulled: true, kind: Kind::ResMan(simulator), _dir: dir }
            }
            "guesty" => {
                let world = stays::Stays::new(stays::Shape { seed: 3, listings: 8, stays: 8, now: now() });
                let options = guesty::Options::default();
                let simulator = guesty::Simulator::start(stays::Shared::new(world), options).await.unwrap();
                let secret = |name: &str, value: &str| {
                    let path = dir.path().join(name);
                    std::fs::write(&path, value).unwrap();
                    format!("file:{}", path.display())
                };
                let settings = json!({
                    "base_url": simulator.base_url(),
                    "token_url": simulator.token_url(),
                    "client_id": secret("id", simulator.client_id()),
                    "client_secret": secret("secret", simulator.client_secret()),
                    "page_size": 10,
                    "limits": {
                        "calls_per_sec": 100_000, "burst": 1000, "calls_per_min": 10_000_000,
                        "calls_per_hour": 10_000_000, "backoff_ms": 1,
                    },
                });
                let secrets = vec![simulator.client_secret().to_owned(), "TOKEN-".to_owned()];
                Self { settings, secrets, remote: true, pulled: true, kind: Kind::Guesty(simulator), _dir: dir }
            }
            "mits" => {
                let path = dir.path().join("feed.xml");
                let mut feed = Vec::new();
                write_feed(
                    &mut feed,
                    FeedShape { seed: 3, properties: 3, units: 8, today: today(), pricing: Pricing::default() },
                )
                .unwrap();
                std::fs::File::create(&path).unwrap().write_all(&feed).unwrap();
                let settings = json!({ "path": path });
                Self { settings, secrets: Vec::new(), remote: false, pulled: true, kind: Kind::Feed(path), _dir: dir }
            }
            "intake" => {
                let path = dir.path().join("secret");
                std::fs::write(&path, crate::house::SECRET).unwrap();
                let settings = json!({ "secrets": [format!("file:{}", path.display())] });
                let secrets = vec![crate::house::SECRET.to_owned()];
                Self { settings, secrets, remote: false, pulled: false, kind: Kind::Sender, _dir: dir }
            }
            "ical" | "airbnb" | "vrbo" => calendars(connector, dir).await,
            "rest" => {
                let token = "t0ken-of-the-vendor";
                let options =
                    rest::Options { page_size: 10, login: rest::Login::Bearer(token.to_owned()), ..Default::default() };
                let simulator = rest::Simulator::start(64, 3, options).await.unwrap();
                let path = dir.path().join("token");
                std::fs::write(&path, token).unwrap();
                let columns = ["id", "status", "guest_name", "check_in", "total"];
                let settings = json!({
                    "base_url": simulator.base_url(),
                    "auth": { "kind": "bearer", "token": format!("file:{}", path.display()) },
                    "limits": { "calls_per_sec": 100_000, "burst": 1000, "backoff_ms": 1 },
                    "streams": [{
                        "name": "stays",
                        "path": "v1/bookings/cursor",
                        "records": "data.items",
                        "key": ["id"],
                        "paginator": { "kind": "cursor_in_body", "path": "meta.next_cursor" },
                        "columns": columns.map(|name| json!({ "name": name, "type": "text" })),
                    }],
                });
                let secrets = vec![token.to_owned()];
                Self { settings, secrets, remote: true, pulled: true, kind: Kind::Rest(simulator), _dir: dir }
            }
            other => panic!("connector `{other}` has no vendor in tests/kit/vendors.rs"),
        }
    }

    /// Makes the vendor do something wrong from now on.
    pub fn misbehave(&self, wrong: Wrong) {
        match &self.kind {
            Kind::Guesty(simulator) => {
                use guesty::{Misbehaviour, Rule};
                // The token is one call of many: what goes wrong has to go wrong with data too.
                simulator.misbehave(match wrong {
                    Wrong::Credentials => Rule::on("*", Misbehaviour::Status(401)),
                    Wrong::Down => Rule::on("/v1/*", Misbehaviour::Status(503)),
                    Wrong::Shaky => Rule::on("/v1/*", Misbehaviour::Status(502)).every(5).times(3),
                    Wrong::Busy => {
                        let retry_after = "0".to_owned();
                        Rule::on("/v1/*", Misbehaviour::TooManyRequests { retry_after }).every(5).times(3)
                    }
                    Wrong::Cut => Rule::on("/v1/*", Misbehaviour::CutBody),
                    Wrong::Garbage => Rule::on("/v1/*", Misbehaviour::Html),
                });
            }
            Kind::ResMan(simulator) => {
                let rule = match wrong {
                    Wrong::Credentials => Rule::on("*", Misbehaviour::Unauthorized),
                    Wrong::Down => Rule::on("*", Misbehaviour::ServerError { status: 503, retry_after_secs: None }),
                    Wrong::Shaky => Rule::on("*", Misbehaviour::ServerError { status: 502, retry_after_secs: None })
                        .every(5)
                        .times(3),
                    Wrong::Busy => {
                        Rule::on("*", Misbehaviour::TooManyRequests { retry_after_secs: 0 }).every(5).times(3)
                    }
                    Wrong::Cut => Rule::on("*", Misbehaviour::CutBody),
                    Wrong::Garbage => Rule::on("*", Misbehaviour::Html),
                };
                simulator.misbehave(rule);
            }
            Kind::OwnerRez(simulator) => simulator.misbehave(at_desk(wrong)),
            Kind::Hostaway(simulator) => simulator.misbehave(at_desk(wrong)),
            Kind::Sender => {}
            Kind::Calendars(simulator) => simulator.misbehave(match wrong {
                Wrong::Credentials => calendars::Rule::always(Glitch::Status(401)),
                Wrong::Down => calendars::Rule::always(Glitch::Status(503)),
                Wrong::Shaky => calendars::Rule::always(Glitch::Status(502)).every(3).times(3),
                Wrong::Busy => {
                    calendars::Rule::always(Glitch::TooManyRequests { retry_after_secs: 0 }).every(3).times(3)
                }
                Wrong::Cut => calendars::Rule::always(Glitch::CutBody),
                Wrong::Garbage => calendars::Rule::always(Glitch::Html),
            }),
            Kind::Rest(simulator) => {
                let always = usize::MAX;
                match wrong {
                    Wrong::Credentials => simulator.misbehave(rest::Wrong::Status(401), 0, always),
                    Wrong::Down => simulator.misbehave(rest::Wrong::Status(503), 0, always),
                    Wrong::Shaky => simulator.misbehave(rest::Wrong::Status(502), 2, 2),
                    Wrong::Busy => simulator.misbehave(rest::Wrong::Busy(0), 2, 2),
                    Wrong::Cut => simulator.misbehave(rest::Wrong::Cut, 0, always),
                    Wrong::Garbage => simulator.misbehave(rest::Wrong::Html, 0, always),
                }
            }
            Kind::Feed(path) => match wrong {
                Wrong::Cut => {
                    let whole = std::fs::read(path).unwrap();
                    std::fs::write(path, &whole[..whole.len() * 2 / 3]).unwrap();
                }
                Wrong::Garbage => std::fs::write(path, "<html><body>Down for maintenance</body></html>").unwrap(),
                _ => std::fs::remove_file(path).unwrap(),
            },
        }
    }
}

/// The same at a channel manager.
fn at_desk(wrong: Wrong) -> desk::Rule {
    use desk::{Misbehaviour, Rule};
    match wrong {
        Wrong::Credentials => Rule::on("*", Misbehaviour::Unauthorized),
        Wrong::Down => Rule::on("*", Misbehaviour::ServerError { status: 503 }),
        Wrong::Shaky => Rule::on("*", Misbehaviour::ServerError { status: 502 }).every(5).times(3),
        Wrong::Busy => Rule::on("*", Misbehaviour::TooManyRequests { retry_after_secs: Some(0) }).every(5).times(3),
        Wrong::Cut => Rule::on("*", Misbehaviour::CutBody),
        Wrong::Garbage => Rule::on("*", Misbehaviour::Html),
    }
}

/// The world that the channel simulators share.
pub fn stays(seed: u64, listings: usize) -> Shared {
    let now = today().and_time(NaiveTime::MIN).and_utc() + chrono::TimeDelta::hours(15);
    Shared::new(Stays::new(stays::Shape { seed, listings, stays: 14, now }))
}

/// A secret in a file of its own, as settings name it.
pub fn secret(dir: &std::path::Path, name: &str, value: &str) -> String {
    let path = dir.join(name);
    std::fs::write(&path, value).unwrap();
    format!("file:{}", path.display())
}

async fn calendars(connector: &str, dir: TempDir) -> Vendor {
    const LISTINGS: usize = 5;
    let simulator = calendars::Simulator::start(stays(3, LISTINGS), calendars::Options::default()).await.unwrap();
    let mut secrets = Vec::new();
    let mut feeds = Vec::new();
    for listing in 0..LISTINGS {
        let url = match connector {
            "airbnb" => simulator.airbnb_url(listing),
            "vrbo" => simulator.vrbo_url(listing),
            _ => simulator.booking_url(listing),
        };
        feeds.push(json!({
            "listing": format!("L{listing}"),
            "property": format!("P-{listing:04}"),
            "url": secret(dir.path(), &format!("feed{listing}"), &url),
        }));
        secrets.push(url.rsplit(['/', '=']).next().unwrap().trim_end_matches(".ics").to_owned());
    }
    let mut settings = json!({
        "feeds": feeds,
        "allow_private": true,
        "limits": { "calls_per_sec": 100_000, "burst": 1000, "backoff_ms": 1 },
    });
    if connector == "airbnb" {
        let c = simulator.credentials().clone();
        let ids: Vec<String> = simulator.stays().lock().listings.iter().map(|l| l.airbnb_id.clone()).collect();
        settings["partner"] = json!({
            "unverified": true,
            "base_url": simulator.base_url(),
            "api_key": secret(dir.path(), "key", &c.api_key),
            "api_secret": secret(dir.path(), "secret", &c.api_secret),
            "refresh_token": secret(dir.path(), "refresh", &c.refresh_token),
            "listings": ids.iter().take(2).map(|id| json!({ "listing": id, "property": "P" })).collect::<Vec<_>>(),
            "callback_password": secret(dir.path(), "callback", "callback-pass-5d"),
        });
        secrets.extend([c.api_secret, c.refresh_token, "callback-pass-5d".to_owned()]);
    }
    if connector == "vrbo" {
        settings["partner"] =
            json!({ "unverified": true, "password": secret(dir.path(), "partner", "partner-pass-e2") });
        secrets.push("partner-pass-e2".to_owned());
    }
    Vendor { settings, secrets, remote: true, pulled: true, kind: Kind::Calendars(simulator), _dir: dir }
}
