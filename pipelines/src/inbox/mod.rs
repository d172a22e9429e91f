//! The inbox of webhooks: checked, kept, answered, and only then understood.
//!
//! ```text
//! sender ─> cap ─> signature ─> age ─> id ─> row durable ─> 202      (this module and `group`)
//!                                             │
//!                                     job ─> decode ─> run ─> processed   (`work`)
//! ```
//!
//! A delivery that was answered with a 2xx is in `ops.deliveries`. What it says is loaded by a job, so that a vendor never
//! waits for a vendor. A delivery that was refused is there too, with its reason, as far as strangers leave room for it.

mod connections;
mod group;
mod refusals;
mod scrub;
mod told;
pub mod work;

use std::net::IpAddr;
use std::sync::Arc;

use bytes::Bytes;
use catalog::store::deliveries::{NewDelivery, State};
use catalog::{Clock, Result};
use connectors::webhook::{Delivery, EVENT_HEADER, Identity, Refused, body_id};
use http::HeaderMap;
use serde_json::{Map, Value};

pub use self::connections::{Connections, Open};
use self::group::GroupCommit;
use self::refusals::Refusals;
pub use self::told::Told;
use crate::app::{App, Database};

/// The largest body that is taken, in bytes.
pub const BODY_CAP_BYTES: usize = 1 << 20;
/// How much of a refused body is kept, in bytes.
const REFUSED_BODY_BYTES: usize = 2048;
/// The deepest nesting of a JSON body that is taken.
const DEEPEST: usize = 64;
/// The longest id and the longest event that are kept as they are, in bytes.
const LONGEST_WORD_BYTES: usize = 200;
/// The most headers that are kept of a delivery.
const MOST_HEADERS: usize = 24;

/// What became of a delivery.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Receipt {
    /// It is durable.
    Kept,
    /// It was here before, and nothing was kept again.
    Duplicate,
}

/// Why a delivery is not taken. The text is for the sender.
#[derive(Debug)]
pub enum Rejected {
    /// There is no such connection, or it takes no deliveries.
    Unknown,
    /// It is too large.
    TooLarge,
    /// The connector refused it.
    Refused(Refused),
    /// It could not be kept; the sender has to try again.
    Unkept(Arc<catalog::Fault>),
}

/// What a request at a webhook's address brings.
#[derive(Debug)]
pub struct Incoming {
    /// The connector in its address.
    pub connector: String,
    /// The connection in its address.
    pub connection: String,
    /// The event in its address, at an endpoint per event.
    pub event: Option<&'static str>,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body; `None` when that was larger than [`BODY_CAP_BYTES`].
    pub body: Option<Bytes>,
    /// Who sent it.
    pub peer: Option<IpAddr>,
}

/// Takes deliveries.
#[derive(Debug)]
pub struct Inbox {
    connections: Arc<Connections>,
    group: GroupCommit,
    refusals: Refusals,
    clock: Arc<dyn Clock>,
}

impl Inbox {
    /// An inbox on a database. Its writers run until [`Self::drain`].
    pub async fn open(app: &App, database: &Arc<Database>, connections: Arc<Connections>) -> Result<Self> {
        Ok(Self {
            connections,
            group: GroupCommit::start(database).await?,
            refusals: Refusals::default(),
            clock: app.clock.clone(),
        })
    }

    /// Checks a delivery and keeps it. When this is `Ok`, it is durable.
    pub async fn receive(&self, incoming: Incoming) -> Result<Receipt, Rejected> {
        let received_at = self.clock.now();
        let Incoming { connector, connection, event, mut headers, body, peer } = incoming;
        // Only this server may say which address a delivery came to.
        headers.remove(EVENT_HEADER);
        if let Some(event) = event {
            headers.insert(EVENT_HEADER, http::HeaderValue::from_static(event));
        }
        let (body, whole) = (body.clone().unwrap_or_default(), body.is_some());
        let delivery = Delivery { headers, body, received_at };
        let open = self.connections.get(&connector, &connection).await;
        let checked = match open.as_deref().and_then(|open| open.source.webhook()) {
            None => Err(Rejected::Unknown),
            Some(_) if !whole => Err(Rejected::TooLarge),
            Some(webhook) => webhook
                .verify(&delivery)
                .and_then(|()| plain(&delivery.headers))
                .and_then(|()| readable(&delivery.body))
                .and_then(|()| webhook.identify(&delivery))
                .map_err(Rejected::Refused),
        };
        let identity = match checked {
            Ok(identity) => identity,
            Err(rejected) => {
                let known = !matches!(rejected, Rejected::Unknown);
                self.refuse(&connector, &connection, &delivery, &rejected, peer, known).await;
                return Err(rejected);
            }
        };
        let row = NewDelivery {
            headers: kept_headers(&delivery.headers),
            body: scrub::without_secrets(&delivery.body),
            delivery_id: id(&identity, &delivery.body),
            event: word(&identity.event),
            connector,
            connection,
            state: State::Received,
            received_at,
            reason: None,
        };
        match self.group.keep(row).await {
            Ok(true) => Ok(Receipt::Kept),
            Ok(false) => Ok(Receipt::Duplicate),
            Err(fault) => Err(Rejected::Unkept(fault)),
        }
    }

    /// Puts a refused delivery on record, unless its sender has filled enough of it lately.
    async fn refuse(
        &self,
        connector: &str,
        connection: &str,
        delivery: &Delivery,
        rejected: &Rejected,
        peer: Option<IpAddr>,
        known: bool,
    ) {
        if !self.refusals.may_record(peer, known.then_some((connector, connection)), delivery.received_at) {
            return;
        }
        // Nobody vouches for it, so it is looked at as a whole before its beginning is kept, and kept only if that can be done.
        let body = readable(&delivery.body).ok().and_then(|()| scrub::whole(&delivery.body)).unwrap_or_default();
        let row = NewDelivery {
            connector: if known { word(connector) } else { head(connector) },
            connection: if known { word(connection) } else { head(connection) },
            delivery_id: body_id(&delivery.body),
            event: String::new(),
            state: State::Refused,
            headers: kept_headers(&delivery.headers),
            body: body.slice(..body.len().min(REFUSED_BODY_BYTES)),
            received_at: delivery.received_at,
            reason: Some(rejected.to_string()),
        };
        // The sender is told anyway; a database that is away has its own alarm.
        if let Err(fault) = self.group.keep(row).await {
            tracing::warn!(error = %fault.chain(), "a refused delivery could not be put on record");
        }
    }

    /// Ends the writers when everything that waits is durable.
    pub async fn drain(&self) {
        self.group.drain().await;
    }
}

impl std::fmt::Display for Rejected {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Rejected::Unknown => f.write_str("no connection of that name takes deliveries here"),
            Rejected::TooLarge => write!(f, "the body is larger than {BODY_CAP_BYTES} bytes"),
            Rejected::Refused(refused) => refused.fmt(f),
            Rejected::Unkept(_) => f.write_str("the delivery could not be kept"),
        }
    }
}

/// Refuses a body that is compressed: what was signed is what came, and what it says would have to be unpacked first.
fn plain(headers: &HeaderMap) -> Result<(), Refused> {
    let coding = headers.get(http::header::CONTENT_ENCODING).and_then(|value| value.to_str().ok());
    match coding.filter(|coding| !coding.eq_ignore_ascii_case("identity")) {
        Some(_) => Err(Refused::Malformed("the body is compressed; only plain ones are read".into())),
        None => Ok(()),
    }
}

/// Refuses what would cost more than it can be worth: text that is no text, and JSON that is nested without end.
fn readable(body: &[u8]) -> Result<(), Refused> {
    let json = body.iter().find(|b| !b.is_ascii_whitespace()).is_some_and(|b| matches!(b, b'{' | b'['));
    if !json {
        return Ok(());
    }
    if std::str::from_utf8(body).is_err() {
        return Err(Refused::Malformed("the body is not UTF-8".into()));
    }
    let (mut depth, mut text, mut escaped) = (0_usize, false, false);
    for byte in body {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if text => escaped = true,
            b'"' => text = !text,
            b'{' | b'[' if !text => {
                depth += 1;
                if depth > DEEPEST {
                    return Err(Refused::Malformed(format!("the body is nested deeper than {DEEPEST} levels").into()));
                }
            }
            b'}' | b']' if !text => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    Ok(())
}

/// The id under which a delivery is kept: the sender's, unless it is too long to be kept.
fn id(identity: &Identity, body: &[u8]) -> String {
    match identity.id.len() {
        0 => body_id(body),
        1..=LONGEST_WORD_BYTES => word(&identity.id),
        _ => body_id(identity.id.as_bytes()),
    }
}

/// A word from outside, as a column can hold it.
fn word(text: &str) -> String {
    let mut end = text.len().min(LONGEST_WORD_BYTES);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text[..end].replace('\0', "\u{2400}")
}

/// The beginning of a name that anybody could invent, as a table can show it.
fn head(name: &str) -> String {
    const SHOWN: usize = 40;
    let mut head: String = word(name).chars().take(SHOWN).collect();
    if name.chars().nth(SHOWN).is_some() {
        head.push('…');
    }
    head
}

/// The headers that say what a delivery is: none that prove who sent it, and none that say where a person is.
fn kept_headers(headers: &HeaderMap) -> Value {
    const NEVER: [&str; 9] =
        ["signature", "auth", "token", "secret", "key", "cookie", "forwarded", "real-ip", "client-ip"];
    let kept: Map<String, Value> = headers
        .iter()
        .filter(|(name, _)| {
            let name = name.as_str();
            let says = ["webhook-", "svix-", "x-"].iter().any(|p| name.starts_with(p))
                || ["content-type", "user-agent", EVENT_HEADER].contains(&name);
            says && !NEVER.iter().any(|word| name.contains(word))
        })
        .filter_map(|(name, value)| Some((name.to_string(), Value::String(word(value.to_str().ok()?)))))
        .take(MOST_HEADERS)
        .collect();
    Value::Object(kept)
}

/// The headers of a kept delivery.
fn headers_of(kept: &Value) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in kept.as_object().into_iter().flatten() {
        if let (Ok(name), Some(Ok(value))) =
            (name.parse::<http::HeaderName>(), value.as_str().map(str::parse::<http::HeaderValue>))
        {
            headers.insert(name, value);
        }
    }
    headers
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn nesting_counts_outside_of_texts_only() {
        let deep = |n: usize| format!("{{\"a\": \"[[\\\"[\", \"b\": {}{}}}", "[".repeat(n), "]".repeat(n));
        assert!(readable(deep(DEEPEST - 1).as_bytes()).is_ok());
        assert!(readable(deep(DEEPEST).as_bytes()).is_err());
        assert!(readable("[".repeat(100_000).as_bytes()).is_err());
        assert!(readable(b"{\"a\": \"\xff\"}").is_err());
        assert!(readable(b"<xml/>").is_ok(), "other formats are the connector's");
    }

    #[test]
    fn headers_that_prove_or_locate_are_not_kept() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("authorization", "Basic c2VjcmV0"),
            ("webhook-id", "m1"),
            ("webhook-signature", "v1,abc"),
            ("cookie", "a=b"),
            ("x-forwarded-for", "192.0.2.1"),
            ("x-api-key", "k"),
            ("x-event", "created"),
            ("content-type", "application/json"),
        ] {
            headers.insert(name, value.parse().unwrap());
        }
        let kept = kept_headers(&headers);
        assert_eq!(kept, json!({"webhook-id": "m1", "x-event": "created", "content-type": "application/json"}));
        assert_eq!(kept_headers(&headers_of(&kept)), kept);
    }

    #[test]
    fn words_fit_their_columns() {
        assert_eq!(word("a\0b"), "a\u{2400}b");
        assert!(word(&"ä".repeat(500)).len() <= LONGEST_WORD_BYTES);
    }
}
