//! One simulated vendor per registered connector, for suites that loop over all of them.

use std::io::Write;

use fixtures::mits::{FeedShape, Pricing, write_feed};
use fixtures::resman::{Misbehaviour, Options, Rule, Simulator};
use fixtures::rest;
use fixtures::world::{Shape, World};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::rig::today;

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
    kind: Kind,
    _dir: TempDir,
}

#[derive(Debug)]
enum Kind {
    ResMan(Simulator),
    Feed(std::path::PathBuf),
    Rest(rest::Simulator),
}

impl Vendor {
    /// Starts the vendor of a connector. A connector without one fails here: add it.
    pub async fn start(connector: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        match connector {
            "resman" => {
                let world = World::generate(Shape { seed: 3, properties: 3, units: 8, today: today() });
                let simulator = Simulator::start(world, Options::default()).await.unwrap();
                let credentials = simulator.credentials().clone();
                let secret = |name: &str, value: &str| {
                    let path = dir.path().join(name);
                    std::fs::write(&path, value).unwrap();
                    format!("file:{}", path.display())
                };
                let settings = json!({
                    "v1_url": simulator.base_url_v1(),
                    "v2_url": simulator.base_url_v2(),
                    "partner_id": secret("partner", &credentials.partner_id),
                    "api_key": secret("key", &credentials.api_key),
                    "account_id": credentials.account_id,
                    "limits": { "calls_per_sec": 100_000, "burst": 1000, "backoff_ms": 1 },
                });
                let secrets = vec![credentials.api_key.clone()];
                Self { settings, secrets, remote: true, kind: Kind::ResMan(simulator), _dir: dir }
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
                Self { settings, secrets: Vec::new(), remote: false, kind: Kind::Feed(path), _dir: dir }
            }
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
                Self { settings, secrets, remote: true, kind: Kind::Rest(simulator), _dir: dir }
            }
            other => panic!("connector `{other}` has no vendor in tests/kit/vendors.rs"),
        }
    }

    /// Makes the vendor do something wrong from now on.
    pub fn misbehave(&self, wrong: Wrong) {
        match &self.kind {
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
