//! Feeds on their way from an address to rows.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use catalog::slice::RejectKind;
use catalog::{Blame, Clock, Cursor, Env, Fault, Reject, Result, SecretRef};
use chrono::{DateTime, SecondsFormat, Utc};
use chrono_tz::Tz;
use http::{Method, StatusCode, header};
use schemars::JsonSchema;
use secrecy::ExposeSecret as _;
use serde::{Deserialize, Serialize};
use serde_json::json;
use url::Url;

use super::dialect::{Dialect, Kind};
use super::diff::{self, FeedState, Row, Trust};
use super::feed::{Feed, Item, Rules};
use super::reader::MAX_BYTES;
use crate::emit::Emit;
use crate::http::{Cause, Client, Limits, address};
use crate::rows::{Table, columns};
use crate::source::{Event, Read, Request, Stream};
use crate::webhook::body_id;

/// One calendar of one listing. Exactly one of `url` and `path`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FeedConfig {
    /// The listing: the site's number for it where it has one.
    pub listing: String,
    /// The property that the listing belongs to.
    #[serde(default)]
    pub property: Option<String>,
    /// The feed's own name, needed only when a listing has several feeds.
    #[serde(default)]
    pub name: Option<String>,
    /// Its address, by reference, because whoever knows it can read the calendar: `env:NAME` or `file:/path`.
    #[serde(default)]
    pub url: Option<SecretRef>,
    /// A file that holds the calendar.
    #[serde(default)]
    pub path: Option<PathBuf>,
    /// Whose calendar it is, where its header does not tell.
    #[serde(default)]
    pub dialect: Option<Dialect>,
    /// Where the listing is, such as `America/Chicago`: needed for calendars that give times instead of days.
    #[serde(default)]
    pub zone: Option<String>,
    /// What an event is whose words say nothing, such as a bare name: `blocked` unless said otherwise.
    #[serde(default = "blocked")]
    pub otherwise: Kind,
}

fn blocked() -> Kind {
    Kind::Blocked
}

/// Sites turn away what does not look like a browser.
const USER_AGENT: &str = concat!("Mozilla/5.0 (compatible; propflow/", env!("CARGO_PKG_VERSION"), ")");
/// Feeds of one host that fail one after another before the host is left alone for this reading.
const FAILURES_IN_A_ROW: u32 = 3;

/// How feeds may be called.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Calls<'a> {
    /// How each host may be called.
    pub(crate) limits: &'a Limits,
    /// Whether their addresses may be inside a private network.
    pub(crate) allow_private: bool,
}

/// What to do about a calendar that is not where it is said to be.
pub(super) const NAMED: &str = "Name a file that is there, or an address that begins with `https://` or `http://`.";

/// Where one feed is.
pub(crate) enum Place {
    File(PathBuf),
    Address(Url),
}

/// One feed, ready to be read.
struct Live {
    key: String,
    property: Option<String>,
    place: Place,
    rules: Rules,
    /// Changes with every setting that an unchanged answer has to be read anew for.
    fingerprint: String,
}

/// All feeds of a connection.
pub(crate) struct Calendars {
    connector: &'static str,
    connection: String,
    feeds: Vec<Live>,
    /// Whether there is one feed only, named by itself: then a user's mistake about it ends the reading.
    pub(super) alone: bool,
    clients: BTreeMap<String, Client>,
    clock: Arc<dyn Clock>,
}

impl fmt::Debug for Calendars {
    /// Without the addresses, which are secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Calendars({} of {})", self.feeds.len(), self.connection)
    }
}

/// The cursor: what every feed said last, and how far this reading has come.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Position {
    /// By the feed's name.
    #[serde(default)]
    pub(crate) feeds: BTreeMap<String, Kept>,
    /// Reservations that a partner's API lists, by code.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) reservations: BTreeMap<String, Listed>,
    /// The last part that this reading is done with. Another reading begins at the beginning.
    #[serde(default)]
    pub(crate) after: Option<String>,
}

/// A reservation as a partner's API listed it last.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Listed {
    /// The listing it was found under.
    #[serde(rename = "l")]
    pub(crate) listing: String,
    /// Its version.
    #[serde(rename = "v")]
    pub(crate) version: String,
    /// Its last day.
    #[serde(rename = "o")]
    pub(crate) check_out: String,
}

/// What is kept of one feed between two readings.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Kept {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    etag: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    modified: Option<String>,
    #[serde(default)]
    fingerprint: String,
    /// A hash of the rejects and notes that were told last, which need not be told again.
    #[serde(default)]
    told: String,
    /// The zone that the feed itself names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    zone: Option<String>,
    #[serde(default)]
    state: FeedState,
}

/// The one stream of every connector that brings reservations of calendars.
pub(crate) fn stream(objects: bool) -> Stream {
    Stream {
        name: "bookings".into(),
        about: "the stays and closed times of every listing, and the listings".into(),
        datasets: catalog::datasets::wire::channels(),
        backfill: false,
        changes: true,
        objects,
    }
}

/// An answer of a feed.
enum Answer {
    Unchanged,
    Body { bytes: Vec<u8>, etag: Option<String>, modified: Option<String> },
}

impl Calendars {
    /// Takes the settings. Makes no call.
    pub(crate) fn open(
        connector: &'static str,
        feeds: Vec<FeedConfig>,
        dialect: Option<Dialect>,
        calls: Calls<'_>,
        env: &Env,
    ) -> Result<Self> {
        let mut all = Self {
            connector,
            connection: env.connection.clone(),
            feeds: Vec::new(),
            alone: false,
            clients: BTreeMap::new(),
            clock: env.clock.clone(),
        };
        for feed in feeds {
            let key = feed.name.clone().unwrap_or_else(|| feed.listing.clone());
            let wrong = |text: &str| Err(Fault::user(format!("feed `{key}`: {text}")));
            let place = match (&feed.url, &feed.path) {
                (Some(url), None) => Place::Address(secret_address(&key, url)?),
                (None, Some(path)) => Place::File(path.clone()),
                _ => return wrong("it needs exactly one of `url` and `path`"),
            };
            if feed.listing.trim().is_empty() {
                return wrong("`listing` is empty");
            }
            if all.feeds.iter().any(|other| other.key == key) {
                return Err(Fault::user(format!("two feeds go by the name `{key}`"))
                    .hint("Give each feed of a listing a `name` of its own."));
            }
            let zone = feed.zone.as_deref().map(|name| {
                name.parse::<Tz>().map_err(|_| {
                    Fault::user(format!("feed `{key}`: there is no zone `{name}`"))
                        .hint("Write it as in the tz database, such as `America/Chicago`.")
                })
            });
            let rules = Rules {
                listing: feed.listing.clone(),
                scope: Some(key.clone()),
                dialect: feed.dialect.or(dialect),
                zone: zone.transpose()?,
                otherwise: feed.otherwise,
            };
            all.add(key, feed.property, place, rules, calls, env)?;
        }
        Ok(all)
    }

    /// Adds the only feed of a one-off address.
    pub(crate) fn add(
        &mut self,
        key: String,
        property: Option<String>,
        place: Place,
        rules: Rules,
        calls: Calls<'_>,
        env: &Env,
    ) -> Result<()> {
        if let Place::Address(url) = &place {
            let host = url.host_str().unwrap_or_default();
            if !self.clients.contains_key(host) {
                let Calls { limits, allow_private } = calls;
                let limits = Limits { max_body_bytes: limits.max_body_bytes.min(MAX_BYTES), ..limits.clone() };
                let account = format!("{}/{host}", self.connector);
                let client = match allow_private {
                    true => Client::new(&account, env, limits)?,
                    false => Client::public_only(&account, env, limits)?,
                };
                self.clients.insert(host.to_owned(), client.secret_paths());
            }
        }
        let settings = format!("{rules:?} {property:?}");
        let fingerprint = body_id(settings.as_bytes()).chars().take(12).collect();
        self.feeds.push(Live { key, property, place, rules, fingerprint });
        Ok(())
    }

    /// Reads the first feed.
    pub(crate) async fn check(&self) -> Result<()> {
        let Some(feed) = self.feeds.first() else { return Ok(()) };
        let named = |fault: Fault| fault.at(format!("feed `{}`", feed.key));
        match self.fetch(feed, None).await.map_err(named)? {
            Answer::Unchanged => Ok(()),
            Answer::Body { bytes, .. } => Feed::read(&bytes, &feed.rules).map(|_| ()).map_err(named),
        }
    }

    /// Reads every feed that is asked for and not done yet. One that fails leaves the others and what is known of it alone.
    pub(crate) async fn read(&self, request: &Request, position: &mut Position, emit: &mut Emit) -> Result<()> {
        let changes = matches!(request.read, Read::Changes { .. });
        let only: BTreeSet<&str> = request.only.iter().map(String::as_str).collect();
        let done = position.after.as_ref().and_then(|after| self.feeds.iter().position(|feed| feed.key == *after));
        let ahead: Vec<&Live> = self
            .feeds
            .iter()
            .skip(done.map_or(0, |at| at + 1))
            .filter(|f| only.is_empty() || only.contains(f.key.as_str()) || only.contains(f.rules.listing.as_str()))
            .collect();
        emit.event(Event::Ahead(ahead.len() as u64)).await?;
        let mut failing: BTreeMap<&str, u32> = BTreeMap::new();
        let mut failed = false;
        for feed in ahead {
            let host = match &feed.place {
                Place::Address(url) => url.host_str().unwrap_or_default(),
                Place::File(_) => "",
            };
            let before = position.feeds.get(&feed.key).filter(|_| changes);
            let read = match failing.get(host) {
                Some(times) if *times >= FAILURES_IN_A_ROW && !host.is_empty() => {
                    Err(Fault::remote(format!("`{host}` has failed {times} times in a row and is left alone for now")))
                }
                _ => self.one(feed, before, changes).await,
            };
            match read {
                Ok(told) => {
                    failing.remove(host);
                    let news = !told.rows.is_empty();
                    for (dataset, batch) in told.rows {
                        emit.event(Event::Rows { dataset: dataset.into(), batch }).await?;
                    }
                    for event in told.asides {
                        emit.event(event).await?;
                    }
                    position.after = Some(feed.key.clone());
                    if changes {
                        position.feeds.insert(feed.key.clone(), told.kept);
                    }
                    // Feeds without news are covered by the next checkpoint: each holds what is known of all of them.
                    if news {
                        emit.event(Event::Checkpoint(Cursor::of(position)?)).await?;
                    }
                }
                Err(fault) => {
                    failed = true;
                    if fault.is_retryable() {
                        *failing.entry(host).or_default() += 1;
                    }
                    if self.alone && fault.blame == Blame::User {
                        return Err(fault);
                    }
                    let fault = fault.at(format!("feed `{}`", feed.key));
                    emit.event(Event::Failed { scope: feed.key.clone(), fault }).await?;
                }
            }
        }
        if !changes && !failed {
            // Feeds leave out what is long past, so what they do not list is not gone for that.
            let scope = self.connection.clone();
            emit.event(Event::Complete { column: "connection", scope, missing: vec!["channel_reservations"] }).await?;
        }
        emit.event(Event::Checkpoint(Cursor::of(position)?)).await
    }

    async fn one(&self, feed: &Live, before: Option<&Kept>, changes: bool) -> Result<Told> {
        let now = self.clock.now();
        let same = before.filter(|kept| kept.fingerprint == feed.fingerprint);
        let state = before.map(|kept| &kept.state);
        let whole = same.filter(|kept| !kept.state.is_torn());
        let Answer::Body { bytes, etag, modified } = self.fetch(feed, whole).await? else {
            let kept = same.cloned().unwrap_or_default();
            let zone = feed.rules.zone.or_else(|| kept.zone.as_deref()?.parse().ok());
            let (state, rows) = diff::unchanged(&kept.state, zone, now);
            let rows = self.reservations(feed, None, &rows, Some(now))?;
            return Ok(Told { rows: rows.into_iter().collect(), asides: Vec::new(), kept: Kept { state, ..kept } });
        };
        // Thousands of events take their milliseconds, which others on this thread should not wait for.
        let (rules, mut known) = (feed.rules.clone(), state.cloned().unwrap_or_default());
        if same.is_none() {
            // Other settings make other rows of the same events: all of them are told anew.
            known.known.values_mut().for_each(|event| event.digest.clear());
        }
        let (answer, state, rows) = tokio::task::spawn_blocking(move || {
            let answer = Feed::read(&bytes, &rules)?;
            let (state, rows) = diff::diff(&known, &answer, now);
            Ok::<_, Fault>((answer, state, rows))
        })
        .await
        .map_err(|e| Fault::us("the reader of the feed died").because(e))??;

        let mut asides = self.asides(feed, &answer, &state);
        let told = body_id(format!("{asides:?}").as_bytes()).chars().take(12).collect();
        if same.is_some_and(|kept| kept.told == told) {
            asides.clear();
        }
        let mut tables = Vec::new();
        if same.is_none() {
            tables.push(self.listing(feed, &answer)?);
        }
        // Without changes there is no telling when a row came to be what it is.
        tables.extend(self.reservations(feed, Some(&answer), &rows, changes.then_some(now))?);
        let fingerprint = feed.fingerprint.clone();
        let zone = answer.zone.map(|zone| zone.name().to_owned());
        Ok(Told { rows: tables, asides, kept: Kept { etag, modified, fingerprint, told, zone, state } })
    }

    async fn fetch(&self, feed: &Live, known: Option<&Kept>) -> Result<Answer> {
        let url = match &feed.place {
            Place::File(path) => {
                let failed =
                    |e| Fault::user(format!("the calendar `{}` cannot be read", path.display())).hint(NAMED).because(e);
                let length = tokio::fs::metadata(path).await.map_err(failed)?.len();
                if length > MAX_BYTES as u64 {
                    return Err(Fault::user(format!("`{}` is longer than {MAX_BYTES} bytes", path.display())));
                }
                let bytes = tokio::fs::read(path).await.map_err(failed)?;
                return Ok(Answer::Body { bytes, etag: None, modified: None });
            }
            Place::Address(url) => url,
        };
        let client = self.clients.get(url.host_str().unwrap_or_default());
        let client = client.ok_or_else(|| Fault::us("a feed without a client"))?;
        let mut request = client
            .request(Method::GET, url.clone())
            .header(header::USER_AGENT, USER_AGENT)
            .header(header::ACCEPT, "text/calendar, */*;q=0.1");
        if let Some(etag) = known.and_then(|k| k.etag.as_ref()) {
            request = request.header(header::IF_NONE_MATCH, etag);
        } else if let Some(modified) = known.and_then(|k| k.modified.as_ref()) {
            request = request.header(header::IF_MODIFIED_SINCE, modified);
        }
        match client.call(request).await {
            Ok(answer) => {
                let header = |name| answer.headers.get(name).and_then(|v| v.to_str().ok()).map(str::to_owned);
                let (etag, modified) = (header(header::ETAG), header(header::LAST_MODIFIED));
                Ok(Answer::Body { bytes: answer.body.to_vec(), etag, modified })
            }
            Err(refusal) if matches!(refusal.cause, Cause::Status(StatusCode::NOT_MODIFIED, _)) && known.is_some() => {
                Ok(Answer::Unchanged)
            }
            Err(refusal) => Err(match refusal.cause {
                Cause::Status(StatusCode::NOT_FOUND | StatusCode::GONE, _) => {
                    refusal.fault.hint("The calendar's address may have been replaced: copy it again from the site.")
                }
                Cause::Status(status, _) if status.is_redirection() => refusal
                    .fault
                    .hint("It points to another host, where the secret address is not sent. Name that one instead."),
                _ => refusal.fault,
            }),
        }
    }

    fn asides(&self, feed: &Live, answer: &Feed, state: &FeedState) -> Vec<Event> {
        let mut asides = Vec::new();
        for refused in &answer.refused {
            let at = if refused.line > 0 { format!(", line {}", refused.line) } else { String::new() };
            asides.push(Event::Reject(Reject {
                dataset: "channel_reservations".to_owned(),
                scope: Some(self.connection.clone()),
                key: refused.uid.clone().unwrap_or_else(|| format!("{}{at}", feed.key)),
                kind: if refused.loaded { RejectKind::Value } else { RejectKind::Row },
                reason: format!("feed `{}`{at}: {}", feed.key, refused.reason),
                // The event itself may name a guest.
                payload: json!({ "feed": feed.key, "listing": feed.rules.listing, "uid": refused.uid }),
            }));
        }
        asides.extend(answer.notes.iter().map(|(topic, text)| Event::note(topic, &feed.key, text.clone())));
        if state.trust == Trust::Doubtful {
            let text = "the feed is empty, has lost most of its stays, or cannot be read in part: what is missing is kept \
                        until it has stayed missing for hours";
            asides.push(Event::note("doubtful_feed", &feed.key, text));
        }
        asides
    }

    fn listing(&self, feed: &Live, answer: &Feed) -> Result<Batch> {
        let mut table = Table::of("channel_listings")?;
        let columns = ListingColumns::of(&table)?;
        table.add();
        table.put(columns.connection, &self.connection);
        table.put(columns.connector, self.connector);
        table.put(columns.listing_id, &feed.rules.listing);
        if let Some(property) = &feed.property {
            table.put(columns.property, property);
        }
        if let Some(zone) = feed.rules.zone {
            table.put(columns.time_zone, zone.name());
        }
        if let Some(platform) = answer.dialect.platform() {
            table.put(columns.channel_ids, &json!({ platform: feed.rules.listing }).to_string());
        }
        Ok((table.name(), table.finish()?))
    }

    fn reservations(
        &self,
        feed: &Live,
        answer: Option<&Feed>,
        rows: &[Row],
        at: Option<DateTime<Utc>>,
    ) -> Result<Option<Batch>> {
        if rows.is_empty() {
            return Ok(None);
        }
        let mut table = Table::of("channel_reservations")?;
        let c = ReservationColumns::of(&table)?;
        let kind = table.column("type")?;
        let at = at.map(|at| at.to_rfc3339_opts(SecondsFormat::Millis, true));
        for row in rows {
            table.add();
            table.put(c.connection, &self.connection);
            table.put(c.connector, self.connector);
            table.put(c.listing_id, &feed.rules.listing);
            if let Some(at) = &at {
                table.put(c.updated_at, at);
            }
            match row {
                Row::Gone { id } => {
                    table.put(c.reservation_id, id);
                    table.put(c.segment, "0");
                    table.put(c.status, "disappeared");
                    table.put(c.presence, "gone");
                }
                Row::Present(item) => {
                    table.put(kind, item.meaning.kind.as_str());
                    put(&mut table, &c, item, answer);
                }
            }
        }
        Ok(Some((table.name(), table.finish()?)))
    }
}

type Batch = (&'static str, arrow::array::RecordBatch);

/// What one feed brought.
struct Told {
    rows: Vec<Batch>,
    asides: Vec<Event>,
    kept: Kept,
}

columns! {
    ListingColumns of "channel_listings": connection connector listing_id property time_zone channel_ids
}

columns! {
    ReservationColumns of "channel_reservations":
        connection connector reservation_id segment identity external_code platform listing_id guest_name guest_first_name
        check_in check_out check_in_time check_out_time time_zone status presence notes title updated_at
}

fn put(table: &mut Table, c: &ReservationColumns, item: &Item, answer: Option<&Feed>) {
    let kind = item.meaning.kind.as_str();
    let nights = &item.nights;
    let zone = answer.and_then(|a| a.zone).or(nights.zone);
    let time = |time: Option<chrono::NaiveTime>| time.map(|t| t.format("%H:%M").to_string());
    for (column, value) in [
        (c.reservation_id, Some(item.id.as_str())),
        (c.segment, Some(item.segment.to_string().as_str())),
        (c.identity, Some(if item.synthetic { "synthetic" } else { "feed" })),
        (c.external_code, item.meaning.code.as_deref()),
        (c.platform, answer.and_then(|a| a.dialect.platform())),
        (c.guest_name, item.meaning.first_name.as_deref()),
        (c.guest_first_name, item.meaning.first_name.as_deref()),
        (c.check_in, Some(nights.check_in.to_string().as_str())),
        (c.check_out, Some(nights.check_out.to_string().as_str())),
        (c.check_in_time, time(nights.check_in_time).as_deref()),
        (c.check_out_time, time(nights.check_out_time).as_deref()),
        (c.time_zone, zone.map(|zone| zone.name())),
        (c.status, Some(if item.cancelled { "cancelled" } else { kind })),
        (c.notes, item.meaning.notes.as_deref()),
        (c.title, item.meaning.title.as_deref()),
    ] {
        if let Some(value) = value {
            table.put(column, value);
        }
    }
}

/// An address that is a secret: no fault may hold any part of it but the host.
fn secret_address(key: &str, secret: &SecretRef) -> Result<Url> {
    let text = secret.resolve()?;
    // What the parser says of it may repeat it.
    address("url", text.expose_secret().trim()).map_err(|_| {
        Fault::user(format!("feed `{key}`: what `{secret}` holds is not an `http` or `https` address"))
            .hint("It must hold the calendar's whole address, as the site shows it under export.")
    })
}
