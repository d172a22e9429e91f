//! What the connectors of channel managers have in common: following changes without losing a deletion nobody announced.
//!
//! A reading of changes lists what changed since the last one (minus an overlap, because paging skips rows while others
//! are written), and now and then compares everything that is to come with what it knows: a reservation that is not
//! listed any more is asked for by its id, and only when the vendor does not know it either does it come as `gone`. Rows
//! that have not changed are not handed out again. The state of all this is the cursor.

mod rows;
mod state;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use async_trait::async_trait;
use catalog::standing::Tables;
use catalog::{Clock, Cursor, Env, Fault, Reject, Result, SafeUrl};
use chrono::{DateTime, Days, NaiveDate, TimeDelta, Utc};
use reqwest::RequestBuilder;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;
use url::Url;

use self::rows::Rows;
pub(crate) use self::rows::{Cells, Kind, Text, fingerprint, is_id, reject};
use self::state::{Open, Stage, State};
use crate::emit::Emit;
use crate::http::{Cause, Client, Refusal};
use crate::source::{Event, Read, Request, Stream};

/// The one stream of these connectors.
pub(crate) const STREAM: &str = "bookings";

/// Calls for single objects between two checkpoints.
const SINGLE_CALLS: usize = 25;

/// Pages of one list, far beyond any real account: a list that never ends must end here.
pub(crate) const MOST_PAGES: usize = 100_000;

/// The fingerprint of what no reading has told.
const NOT_TOLD: u64 = 0;

/// Guests that one reading keeps in mind.
const MOST_GUESTS: usize = 20_000;

/// What the driver needs to know about a connection.
#[derive(Debug)]
pub(crate) struct Account {
    /// The connection's name.
    pub(crate) connection: String,
    /// The time here.
    pub(crate) clock: Arc<dyn Clock>,
    /// What stands in the tables.
    pub(crate) tables: Arc<dyn Tables>,
    /// How far a reading reaches back behind the beginning of the last one.
    pub(crate) overlap: TimeDelta,
    /// How often everything to come is compared.
    pub(crate) compare_every: TimeDelta,
    /// The operator's property behind a listing.
    pub(crate) properties: BTreeMap<String, String>,
}

impl Account {
    /// From settings.
    pub(crate) fn new(
        env: &Env,
        overlap_secs: u32,
        compare_every_secs: u32,
        properties: BTreeMap<String, String>,
    ) -> Self {
        Self {
            connection: env.connection.clone(),
            clock: env.clock.clone(),
            tables: env.tables.clone(),
            overlap: TimeDelta::seconds(i64::from(overlap_secs)),
            compare_every: TimeDelta::seconds(i64::from(compare_every_secs)),
            properties,
        }
    }
}

/// A listing as its vendor tells it.
#[derive(Debug)]
pub(crate) struct Listing {
    /// The vendor's id.
    pub(crate) id: String,
    /// See [`fingerprint`].
    pub(crate) print: u64,
    /// The row.
    pub(crate) cells: Cells,
}

/// A reservation, block or hold as its vendor tells it.
#[derive(Debug)]
pub(crate) struct Booking {
    /// The vendor's id.
    pub(crate) id: String,
    /// See [`fingerprint`].
    pub(crate) print: u64,
    /// The listing.
    pub(crate) listing: String,
    /// The day of leaving.
    pub(crate) until: Option<NaiveDate>,
    /// Whether it is called off: then nobody minds when it vanishes.
    pub(crate) called_off: bool,
    /// When it changed last.
    pub(crate) updated: Option<DateTime<Utc>>,
    /// The guest who has to be read on their own.
    pub(crate) guest: Option<String>,
    /// The row. Cells that the guest's own record gives come before these.
    pub(crate) cells: Cells,
}

/// A guest as the vendor tells it.
#[derive(Debug, Clone)]
pub(crate) struct Person {
    /// The guest's own row.
    pub(crate) cells: Cells,
    /// What a reservation of theirs repeats of it.
    pub(crate) on_booking: Cells,
}

/// A page of a list.
#[derive(Debug)]
pub(crate) struct Page<T> {
    /// What is on it.
    pub(crate) items: Vec<T>,
    /// What could not be understood.
    pub(crate) rejects: Vec<Reject>,
    /// The page behind it, in the vendor's terms. It becomes part of the cursor.
    pub(crate) next: Option<String>,
    /// The vendor's time.
    pub(crate) now: Option<DateTime<Utc>>,
}

impl<T> Page<T> {
    /// Understands what is on a page, one by one.
    pub(crate) fn of(
        raw: &[Box<RawValue>],
        kind: Kind,
        connection: &str,
        understand: impl Fn(&str) -> Option<T>,
    ) -> Page<T> {
        let mut page = Page { items: Vec::new(), rejects: Vec::new(), next: None, now: None };
        for (at, item) in raw.iter().enumerate() {
            match understand(item.get()) {
                Some(item) => page.items.push(item),
                None => page.rejects.push(reject(
                    kind,
                    connection,
                    format!("item {at} of a page"),
                    "it is no object with an id that is a number, or one of its parts has another shape than is known",
                )),
            }
        }
        page
    }
}

/// A vendor that manages the calendars of many listings.
#[async_trait]
pub(crate) trait Manager: Send + Sync {
    /// The connector's name.
    const NAME: &'static str;
    /// How many listings one question for what is to come can cover; `None` asks for all at once.
    const TOGETHER: Option<usize>;
    /// Whether guests are objects of their own.
    const GUESTS: bool;

    /// The connection.
    fn account(&self) -> &Account;

    /// All listings, and the vendor's time before anything else was read.
    async fn listings(&self) -> Result<Page<Listing>>;

    /// One listing, `None` if the vendor does not know it.
    async fn listing(&self, id: &str) -> Result<Option<Listing>>;

    /// A page of the reservations that changed at or behind `from`. It may hold others.
    async fn changed(&self, from: DateTime<Utc>, at: Option<&str>) -> Result<Page<Booking>>;

    /// A page of the reservations of these listings that end on a day or later.
    async fn upcoming(&self, listings: &[String], from: NaiveDate, at: Option<&str>) -> Result<Page<Booking>>;

    /// One reservation, `None` if the vendor does not know it.
    async fn reservation(&self, id: &str) -> Result<Option<Booking>>;

    /// One guest, `None` if the vendor does not know them.
    async fn guest(&self, id: &str) -> Result<Option<Person>>;
}

/// The stream of a manager.
pub(crate) fn stream(about: &'static str, datasets: &[Kind]) -> Stream {
    Stream {
        name: STREAM.into(),
        about: about.into(),
        datasets: datasets.iter().filter_map(|kind| catalog::datasets::find(kind.dataset()).cloned()).collect(),
        backfill: true,
        changes: true,
        objects: true,
    }
}

/// Reads the stream of a manager.
pub(crate) async fn read<M: Manager>(manager: &M, request: Request, emit: Emit) -> Result<()> {
    let account = manager.account();
    if request.stream != STREAM {
        return Err(Fault::user(format!("`{}` has no stream `{}`", M::NAME, request.stream))
            .hint(format!("Its one stream is `{STREAM}`.")));
    }
    if !request.only.is_empty() && !request.only.contains(&account.connection) {
        return Err(Fault::user(format!("`{}` cannot be read in parts", account.connection))
            .hint("A booking channel is read as one scope, named like the connection."));
    }
    let mut reading = Reading {
        manager,
        emit,
        rows: Rows::new(&account.connection, M::NAME)?,
        guests: HashMap::new(),
        single_calls: 0,
        whole: false,
    };
    let resumed = request.resume.as_ref().map(Cursor::read::<State>).transpose()?;
    match request.read {
        Read::Snapshot if resumed.is_some() => Ok(()),
        Read::Snapshot => reading.snapshot().await,
        Read::Changes { since } => match resumed {
            // Its last checkpoint was that of its end.
            Some(state) if state.stage == Stage::Idle => Ok(()),
            Some(state) => reading.changes(state).await,
            None => reading.changes(since.map(|c| c.read()).transpose()?.unwrap_or_default()).await,
        },
        Read::Backfill { from, until } => reading.backfill(from, until, resumed).await,
        Read::Objects { ids } => reading.objects(&ids, resumed.unwrap_or_default()).await,
    }
}

/// One reading under way.
struct Reading<'m, M> {
    manager: &'m M,
    emit: Emit,
    rows: Rows,
    /// Guests that were read already.
    guests: HashMap<String, Option<Person>>,
    single_calls: usize,
    /// Everything belongs to one slice: no checkpoint before the end.
    whole: bool,
}

impl<M: Manager> Reading<'_, M> {
    async fn snapshot(&mut self) -> Result<()> {
        self.whole = true;
        let mut state = State::default();
        self.begin(&mut state).await?;
        self.changed(&mut state).await?;
        // Paging can skip a row while another is deleted, and what is missing here would be taken as gone.
        self.compare(&mut state).await?;
        self.checkpoint(&state).await?;
        let scope = self.manager.account().connection.clone();
        self.emit.event(Event::Complete { column: "connection", scope, missing: Vec::new() }).await?;
        self.emit.event(Event::Checkpoint(Cursor::of(&serde_json::json!({}))?)).await
    }

    async fn changes(&mut self, mut state: State) -> Result<()> {
        if state.stage == Stage::Idle {
            self.begin(&mut state).await?;
        }
        let started = self.started(&state);
        if state.stage == Stage::Changed {
            self.changed(&mut state).await?;
            let last = *state.compared.get_or_insert(started);
            if started - last >= self.manager.account().compare_every {
                state.stage = Stage::Compare;
                self.checkpoint(&state).await?;
            }
        }
        if state.stage == Stage::Compare {
            self.compare(&mut state).await?;
            state.compared = Some(started);
        }
        state.since = Some(started - self.manager.account().overlap);
        state.recent = std::mem::take(&mut state.fresh);
        state.started = None;
        state.stage = Stage::Idle;
        self.checkpoint(&state).await
    }

    async fn backfill(&mut self, from: DateTime<Utc>, until: DateTime<Utc>, resumed: Option<State>) -> Result<()> {
        let mut state = match resumed {
            Some(state) if state.stage == Stage::Idle => return Ok(()),
            Some(state) => state,
            None => State { stage: Stage::Changed, ..State::default() },
        };
        for _ in 0..MOST_PAGES {
            let page = self.manager.changed(from, state.at.as_deref()).await?;
            self.rejects(page.rejects).await?;
            for booking in page.items {
                let inside = booking.updated.is_none_or(|at| (from..until).contains(&at));
                if inside && state.done.insert(booking.id.clone()) {
                    self.put(booking).await?;
                    self.breathe(&state).await?;
                }
            }
            state.done.clear();
            state.at = page.next;
            if state.at.is_none() {
                state.stage = Stage::Idle;
                return self.checkpoint(&state).await;
            }
            self.checkpoint(&state).await?;
        }
        Err(endless(M::NAME))
    }

    async fn objects(&mut self, ids: &[String], mut state: State) -> Result<()> {
        let mut known = BTreeSet::new();
        let now = self.manager.account().clock.now();
        for id in ids.iter().skip(state.group) {
            state.group += 1;
            if !known.insert(id) {
                continue;
            }
            let (kind, bare) = id.split_once(':').unwrap_or(("reservation", id));
            let kind = match kind {
                "reservation" => Kind::Reservation,
                "listing" => Kind::Listing,
                "guest" if M::GUESTS => Kind::Guest,
                _ => {
                    self.refuse(Kind::Reservation, id, "there is no such kind of object").await?;
                    continue;
                }
            };
            if !is_id(bare) {
                self.refuse(kind, bare, "it is not the number of an object").await?;
                continue;
            }
            let known = match kind {
                Kind::Reservation => match self.manager.reservation(bare).await? {
                    Some(booking) => self.put(booking).await.map(|()| true),
                    None => Ok(false),
                },
                Kind::Listing => match self.manager.listing(bare).await? {
                    Some(listing) => self.put_listing(listing).map(|()| true),
                    None => Ok(false),
                },
                Kind::Guest => {
                    self.guests.remove(bare);
                    self.guest(bare).await.map(|_| true)
                }
            }?;
            if !known && (!matches!(kind, Kind::Reservation) || self.is_stored(bare).await?) {
                self.rows.gone(kind, bare, now)?;
            }
            self.single_calls += 1;
            self.breathe(&state).await?;
        }
        self.checkpoint(&state).await
    }

    async fn is_stored(&self, id: &str) -> Result<bool> {
        let account = self.manager.account();
        Ok(!account.tables.stored(&account.connection, &[id.to_owned()]).await?.is_empty())
    }

    async fn refuse(&mut self, kind: Kind, id: &str, reason: &str) -> Result<()> {
        let connection = &self.manager.account().connection;
        self.emit.event(Event::Reject(reject(kind, connection, id.chars().take(80).collect(), reason))).await
    }

    fn started(&self, state: &State) -> DateTime<Utc> {
        state.started.unwrap_or_else(|| self.manager.account().clock.now())
    }

    /// Reads the listings and hands out those that have changed.
    async fn begin(&mut self, state: &mut State) -> Result<()> {
        let page = self.manager.listings().await?;
        self.rejects(page.rejects).await?;
        let here = self.manager.account().clock.now();
        // The vendor's clock counts. If ours is behind, that only makes the overlap larger.
        let started = page.now.map_or(here, |there| there.min(here));
        let mut known = std::mem::take(&mut state.listings);
        for listing in page.items {
            let print = self.print(&listing);
            if known.remove(&listing.id) != Some(print) {
                state.listings.insert(listing.id.clone(), print);
                self.put_listing(listing)?;
            } else {
                state.listings.insert(listing.id, print);
            }
        }
        for (id, print) in known {
            if state.listings.contains_key(&id) {
                continue;
            }
            match self.manager.listing(&id).await? {
                Some(listing) => {
                    let now = self.print(&listing);
                    if now != print {
                        self.put_listing(listing)?;
                    }
                    state.listings.insert(id, now);
                }
                None => self.rows.gone(Kind::Listing, &id, started)?,
            }
        }
        state.started = Some(started);
        state.stage = Stage::Changed;
        self.checkpoint(state).await
    }

    /// Reads what has changed, page by page.
    async fn changed(&mut self, state: &mut State) -> Result<()> {
        let from = state.since.unwrap_or(DateTime::UNIX_EPOCH);
        for _ in 0..MOST_PAGES {
            let page = self.manager.changed(from, state.at.as_deref()).await?;
            self.rejects(page.rejects).await?;
            for booking in page.items {
                let inside = booking.updated.is_none_or(|at| at >= from);
                if inside && !state.done.contains(&booking.id) {
                    self.take(state, booking).await?;
                }
            }
            state.done.clear();
            state.at = page.next;
            let last = state.at.is_none();
            if !last {
                self.checkpoint(state).await?;
            } else {
                return Ok(());
            }
        }
        Err(endless(M::NAME))
    }

    /// Compares everything to come with what is known, and asks for what is missing.
    async fn compare(&mut self, state: &mut State) -> Result<()> {
        let from = self.started(state).date_naive() - Days::new(1);
        state.open.retain(|_, open| open.1 >= from);
        if !self.whole && state.group == 0 && state.at.is_none() {
            self.remind(state, from).await?;
        }
        let listings: Vec<String> = state.listings.keys().cloned().collect();
        let groups: Vec<&[String]> = match M::TOGETHER {
            Some(together) => listings.chunks(together).collect(),
            None => vec![&listings],
        };
        while let Some(group) = groups.get(state.group) {
            self.compare_group(state, group, from).await?;
            state.seen.clear();
            state.group += 1;
            self.checkpoint(state).await?;
        }
        // Those of listings that are gone themselves.
        let orphans = state.open.iter().filter(|(_, open)| !state.listings.contains_key(&open.0));
        let orphans = orphans.map(|(id, _)| id.clone()).collect();
        self.confirm(state, orphans).await?;
        state.group = 0;
        state.seen.clear();
        Ok(())
    }

    /// Adds what stands in the tables and is not remembered: a delivery told it, or the cursor that knew it was given up. Its
    /// vendor may have deleted it since.
    async fn remind(&self, state: &mut State, from: NaiveDate) -> Result<()> {
        let account = self.manager.account();
        for known in account.tables.standing(&account.connection, from).await? {
            if known.named && is_id(&known.id) {
                state.open.entry(known.id).or_insert(Open(known.listing, known.until, NOT_TOLD));
            }
        }
        Ok(())
    }

    async fn compare_group(&mut self, state: &mut State, group: &[String], from: NaiveDate) -> Result<()> {
        for _ in 0..MOST_PAGES {
            let page = self.manager.upcoming(group, from, state.at.as_deref()).await?;
            self.rejects(page.rejects).await?;
            for booking in page.items {
                state.seen.insert(booking.id.clone());
                if !state.done.contains(&booking.id) {
                    self.take(state, booking).await?;
                }
            }
            state.done.clear();
            state.at = page.next;
            if state.at.is_none() {
                let missing = state.open.iter().filter(|(id, open)| {
                    (M::TOGETHER.is_none() || group.contains(&open.0)) && !state.seen.contains(*id)
                });
                let missing = missing.map(|(id, _)| id.clone()).collect();
                return self.confirm(state, missing).await;
            }
            self.checkpoint(state).await?;
        }
        Err(endless(M::NAME))
    }

    /// Asks for reservations that are listed no more. Not being listed alone proves nothing.
    async fn confirm(&mut self, state: &mut State, missing: Vec<String>) -> Result<()> {
        for id in missing {
            match self.manager.reservation(&id).await? {
                Some(booking) => self.take(state, booking).await?,
                None => {
                    let at = self.started(state);
                    self.rows.gone(Kind::Reservation, &id, at)?;
                    state.open.remove(&id);
                }
            }
            state.seen.insert(id);
            self.single_calls += 1;
            self.breathe(state).await?;
        }
        Ok(())
    }

    /// Hands a reservation out if it is not known as it is, and remembers it.
    async fn take(&mut self, state: &mut State, booking: Booking) -> Result<()> {
        let started = self.started(state);
        let changed = state.known(&booking.id) != Some(booking.print);
        let (id, print, updated) = (booking.id.clone(), booking.print, booking.updated);
        let ahead = booking.until.filter(|until| !booking.called_off && *until >= started.date_naive() - Days::new(1));
        let listing = booking.listing.clone();
        if changed {
            self.put(booking).await?;
        }
        let overlap = self.manager.account().overlap;
        match ahead {
            Some(until) => _ = state.open.insert(id.clone(), Open(listing, until, print)),
            None => {
                state.open.remove(&id);
                // Within one slice nothing is said twice.
                if self.whole || updated.is_none_or(|at| at >= started - overlap) {
                    state.fresh.insert(id.clone(), print);
                }
            }
        }
        if changed {
            state.done.insert(id);
            self.breathe(state).await?;
        }
        Ok(())
    }

    /// A checkpoint in the middle of a page, when many calls have been made for it.
    async fn breathe(&mut self, state: &State) -> Result<()> {
        if self.single_calls >= SINGLE_CALLS {
            self.checkpoint(state).await?;
        }
        Ok(())
    }

    async fn put(&mut self, booking: Booking) -> Result<()> {
        let mut cells = match &booking.guest {
            Some(guest) => self.guest(guest).await?,
            None => Cells::new(),
        };
        cells.extend(booking.cells);
        cells.push(("segment", Some("0".to_owned())));
        cells.push(("identity", Some("strong".to_owned())));
        cells.push(("listing_id", Some(booking.listing).filter(|id| !id.is_empty())));
        self.rows.put(Kind::Reservation, &booking.id, cells)
    }

    fn put_listing(&mut self, listing: Listing) -> Result<()> {
        let mut cells = listing.cells;
        cells.push(("property", self.manager.account().properties.get(&listing.id).cloned()));
        self.rows.put(Kind::Listing, &listing.id, cells)
    }

    /// The listing's fingerprint, with what the settings add to it.
    fn print(&self, listing: &Listing) -> u64 {
        let property = self.manager.account().properties.get(&listing.id);
        listing.print ^ property.map_or(0, |property| fingerprint(property))
    }

    /// What a guest's record adds to their reservations. Each guest is read once in a reading, and handed out then.
    async fn guest(&mut self, id: &str) -> Result<Cells> {
        if !self.guests.contains_key(id) {
            let person = self.manager.guest(id).await?;
            self.single_calls += 1;
            match &person {
                Some(person) => self.rows.put(Kind::Guest, id, person.cells.clone())?,
                None => self.rows.gone(Kind::Guest, id, self.manager.account().clock.now())?,
            }
            if self.guests.len() >= MOST_GUESTS {
                self.guests.clear();
            }
            self.guests.insert(id.to_owned(), person);
        }
        let person = self.guests.get(id).and_then(Option::as_ref);
        Ok(person.map(|person| person.on_booking.clone()).unwrap_or_default())
    }

    async fn rejects(&mut self, rejects: Vec<Reject>) -> Result<()> {
        for reject in rejects {
            self.emit.event(Event::Reject(reject)).await?;
        }
        Ok(())
    }

    async fn checkpoint(&mut self, state: &State) -> Result<()> {
        self.single_calls = 0;
        self.rows.flush(&mut self.emit).await?;
        if self.whole {
            return Ok(());
        }
        self.emit.event(Event::Checkpoint(state.cursor()?)).await
    }
}

pub(crate) fn endless(name: &str) -> Fault {
    Fault::remote(format!("a list of `{name}` has more than {MOST_PAGES} pages"))
}

/// An answer and the vendor's time.
#[derive(Debug)]
pub(crate) struct Told<T> {
    /// What it said.
    pub(crate) what: T,
    /// When.
    pub(crate) now: Option<DateTime<Utc>>,
}

/// Makes a call and reads its JSON. A body that cannot be used is fetched once more, since proxies in front of a vendor
/// answer for it now and then. `None` is an object that does not exist.
pub(crate) async fn ask<T: DeserializeOwned>(
    client: &Client,
    place: &Url,
    request: impl Fn() -> RequestBuilder,
) -> Result<Option<Told<T>>, Refusal> {
    for _ in 0..2 {
        let answer = match client.call(request()).await {
            Ok(answer) => answer,
            Err(Refusal { cause: Cause::Status(status, _), .. }) if matches!(status.as_u16(), 404 | 410) => {
                return Ok(None);
            }
            Err(refusal) => return Err(refusal),
        };
        if let Ok(what) = serde_json::from_slice(&answer.body) {
            let date = answer.headers.get(http::header::DATE).and_then(|date| date.to_str().ok());
            let now = date.and_then(|date| DateTime::parse_from_rfc2822(date).ok()).map(|date| date.to_utc());
            return Ok(Some(Told { what, now }));
        }
    }
    Err(Refusal { cause: Cause::Body, fault: strange(place) })
}

/// The fault of an answer that cannot be understood.
pub(crate) fn strange(place: &Url) -> Fault {
    Fault::remote(format!("`{}` answered in another shape than is known", SafeUrl(place.clone())))
        .hint("The vendor may be under maintenance, or has changed its API.")
}

/// The fault of a list that should be there.
pub(crate) fn missing(place: &Url) -> Fault {
    Fault::user(format!("`{}` does not exist", SafeUrl(place.clone()))).hint("Check `base_url`.")
}

/// An address under which paths can be joined.
pub(crate) fn base(setting: &str, text: &str) -> Result<Url> {
    let mut url = crate::http::address(setting, text)?;
    if !url.path().ends_with('/') {
        url.set_path(&format!("{}/", url.path()));
    }
    Ok(url)
}

/// The address of a path below a base.
pub(crate) fn below(base: &Url, path: &str) -> Result<Url> {
    base.join(path).map_err(|e| Fault::us("an address cannot be built").because(e))
}

/// The name of a budget that all accounts at one address share, because the vendor counts calls by who makes them.
pub(crate) fn budget(name: &str, base: &Url) -> String {
    match (base.host_str(), base.port()) {
        (Some(host), Some(port)) => format!("{name}/{host}:{port}"),
        (host, _) => format!("{name}/{}", host.unwrap_or_default()),
    }
}

/// What a vendor's word in a delivery names, if it is the number of an object.
pub(crate) fn object(prefix: &str, id: &Text, event: &str) -> Result<Vec<String>> {
    let id = id.id().ok_or_else(|| Fault::remote(format!("a delivery `{event}` names no object by a number")))?;
    Ok(vec![format!("{prefix}:{id}")])
}
