//! Bookings: what many connections say, settled into one calendar.

#![expect(clippy::unwrap_used, reason = "the functions below are parts of tests")]

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex};

use arrow::array::{RecordBatch, StringArray};
use async_trait::async_trait;
use catalog::quota::LocalQuota;
use catalog::token::LocalTokens;
use catalog::{Cursor, Result, TestClock, datasets};
use chrono::{DateTime, Days, TimeDelta, TimeZone, Utc};
use connectors::{Event, Read, Request, Source, Stream};
use fixtures::stays::{Kind, Listing, Manager, Platform, Reservation, Shape, Status, Stays};
use futures::StreamExt;
use futures::stream::BoxStream;
use kit::db::TestDb;
use pipelines::app::Database;
use pipelines::progress::Silent;
use pipelines::run::{Job, Summary, World, run};
use pipelines::settle::LAYER;
use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::{Map, Value, json};
use sinks::memory::{Handle, MemorySink};
use sinks::postgres::{Options, PostgresSink};
use sqlx::PgPool;
use tokio_util::sync::CancellationToken;
use transforms::models;

type Wire = (&'static str, Value);

/// Wire rows as a batch of their dataset.
fn batch(dataset: &str, rows: &[&Value]) -> RecordBatch {
    let dataset = datasets::find(dataset).unwrap();
    let columns = dataset.columns.iter().map(|column| {
        let values = rows.iter().map(|row| match &row[&column.name] {
            Value::String(text) => Some(text.clone()),
            Value::Null => None,
            other => Some(other.to_string()),
        });
        Arc::new(values.collect::<StringArray>()) as _
    });
    RecordBatch::try_new(dataset.schema(), columns.collect()).unwrap()
}

/// A connection that says what it is told to, one slice after another.
struct Said(Mutex<VecDeque<Vec<Wire>>>);

fn stream() -> Stream {
    Stream {
        name: "bookings".into(),
        about: "what the test says".into(),
        datasets: datasets::wire::channels(),
        backfill: false,
        changes: true,
        objects: false,
    }
}

#[async_trait]
impl Source for Said {
    fn streams(&self) -> Vec<Stream> {
        vec![stream()]
    }

    async fn check(&self) -> Result<()> {
        Ok(())
    }

    fn read(&self, _: Request) -> BoxStream<'_, Result<Event>> {
        let slices = std::mem::take(&mut *self.0.lock().unwrap());
        let mut events = Vec::new();
        for (number, rows) in slices.into_iter().enumerate() {
            for name in ["channel_listings", "channel_guests", "channel_reservations"] {
                let of: Vec<&Value> = rows.iter().filter(|(n, _)| *n == name).map(|(_, v)| v).collect();
                if !of.is_empty() {
                    events.push(Ok(Event::Rows { dataset: name.into(), batch: batch(name, &of) }));
                }
            }
            events.push(Ok(Event::Checkpoint(Cursor(json!(number)))));
        }
        futures::stream::iter(events).boxed()
    }
}

fn bookings_models() -> Vec<&'static transforms::Model> {
    pipelines::plan::models_for(&datasets::wire::channels()).unwrap()
}

/// An installation for bookings: a database and a clock.
struct House {
    db: TestDb,
    _database: Arc<Database>,
    clock: TestClock,
}

impl House {
    async fn new(now: DateTime<Utc>) -> Self {
        let db = TestDb::new().await;
        let database = Database::open(Some(&db.url)).await.unwrap();
        Self { db, _database: database, clock: TestClock::at(now) }
    }

    fn pool(&self) -> &PgPool {
        &self.db.pool
    }

    fn world(&self) -> World {
        World {
            ledger: Some(self.db.pool.clone()),
            clock: Arc::new(self.clock.clone()),
            quota: Arc::new(LocalQuota::default()),
            tokens: Arc::new(LocalTokens::default()),
            observer: Arc::new(Silent),
        }
    }

    fn job(&self, connection: &str, slices: Vec<Vec<Wire>>) -> Job {
        let sink = PostgresSink::new(self.db.pool.clone(), Options::default());
        job(connection, slices, vec![Box::new(sink)])
    }

    async fn hear(&self, connection: &str, slices: Vec<Vec<Wire>>) -> Summary {
        run(&self.world(), self.job(connection, slices), &CancellationToken::new())
            .await
            .unwrap_or_else(|fault| panic!("{}", fault.chain()))
    }

    async fn settle(&self) -> usize {
        let sink = PostgresSink::new(self.db.pool.clone(), Options::default());
        pipelines::run::settle_pending(&self.world(), "schedule", models::layer(LAYER).unwrap(), vec![Box::new(sink)])
            .await
            .unwrap_or_else(|fault| panic!("{}", fault.chain()))
    }

    /// Live rows of a table of `core` as JSON, without the bookkeeping.
    async fn rows(&self, table: &str) -> Vec<Map<String, Value>> {
        let sql = format!(
            "select to_jsonb(t) - 'created_at' - 'updated_at' - 'deleted_at' from core.{table} t where deleted_at is null order by 1"
        );
        let rows: Vec<Value> = sqlx::query_scalar(sqlx::AssertSqlSafe(sql)).fetch_all(self.pool()).await.unwrap();
        rows.into_iter().map(|r| r.as_object().unwrap().clone()).collect()
    }
}

fn job(connection: &str, slices: Vec<Vec<Wire>>, sinks: Vec<Box<dyn sinks::Sink>>) -> Job {
    Job {
        pipeline: format!("{connection}_bookings"),
        trigger: "manual".to_owned(),
        source: Box::new(Said(Mutex::new(slices.into()))),
        stream: stream(),
        connection: connection.to_owned(),
        read: Read::Changes { since: None },
        only: Vec::new(),
        fresh: true,
        kept: None,
        deliveries: None,
        models: bookings_models(),
        sinks,
        currency: "USD".to_owned(),
        region: "US".to_owned(),
        concessions_included: false,
        freshness_limit_secs: 3600,
    }
}

fn start() -> DateTime<Utc> {
    Utc.with_ymd_and_hms(2026, 6, 1, 12, 0, 0).unwrap()
}

// ---- the world, as each connection tells it ----

const FEEDS: [&str; 2] = ["airbnb", "vrbo"];

fn manager_name(manager: Manager) -> Option<&'static str> {
    match manager {
        Manager::Guesty => Some("guesty"),
        Manager::OwnerRez => Some("ownerrez"),
        Manager::Hostaway => Some("hostaway"),
        Manager::None => None,
    }
}

fn stamp(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(chrono::SecondsFormat::Millis, true)
}

fn dollars(cents: i64) -> String {
    format!("{}.{:02}", cents / 100, cents % 100)
}

/// A reservation in a manager's words; two rows when the stay moves half way.
fn told_by_manager(stays: &Stays, r: &Reservation) -> Vec<Wire> {
    let listing = &stays.listings[r.listing];
    let connector = manager_name(listing.manager).unwrap();
    let (kind, status) = match (connector, r.kind, r.status) {
        ("guesty", Kind::Stay, s) => (
            None,
            match s {
                Status::Inquiry => "inquiry",
                Status::Pending => "reserved",
                Status::Confirmed => "confirmed",
                Status::CheckedIn => "checked_in",
                Status::CheckedOut => "checked_out",
                Status::Cancelled => "canceled",
                Status::Declined => "declined",
                Status::Expired => "expired",
            },
        ),
        ("hostaway", Kind::Stay, s) => (
            None,
            match s {
                Status::Inquiry => "inquiry",
                Status::Pending => "awaitingPayment",
                Status::Confirmed | Status::CheckedIn | Status::CheckedOut => "new",
                Status::Cancelled => "cancelled",
                Status::Declined => "inquiryDenied",
                Status::Expired => "expired",
            },
        ),
        ("hostaway", Kind::Owner, s) if s.occupies() => (None, "ownerStay"),
        ("ownerrez", Kind::Stay, s) => (
            Some("booking"),
            match s {
                Status::Pending => "pending",
                // A question is no booking there yet; the words of others serve.
                Status::Inquiry => "inquiry",
                Status::Declined => "declined",
                Status::Expired => "expired",
                Status::Cancelled => "canceled",
                _ => "active",
            },
        ),
        (_, kind, s) => (
            Some(match (connector, kind) {
                ("ownerrez", Kind::Hold) => "quote_hold",
                (_, Kind::Hold) => "hold",
                (_, Kind::Owner) => "owner",
                _ => "block",
            }),
            if s.occupies() { "confirmed" } else { "canceled" },
        ),
    };
    let platform = match r.platform {
        Platform::Airbnb => "airbnb2",
        Platform::Vrbo => "homeaway2",
        Platform::BookingCom => "bookingCom",
        Platform::Direct => "manual",
    };
    let guest = r.guest.map(|g| &stays.guests[g]);
    let row = |segment: u32, listing: &Listing, check_in: chrono::NaiveDate, check_out: chrono::NaiveDate| {
        let row = json!({
            "connection": connector, "connector": connector, "reservation_id": format!("R{}", r.number),
            "segment": segment.to_string(), "external_code": (r.kind == Kind::Stay).then_some(&r.code),
            "platform": platform, "listing_id": listing.manager_id, "type": kind, "status": status,
            "check_in": check_in.to_string(), "check_out": check_out.to_string(),
            "guest_id": guest.map(|g| format!("G{}", g.index)),
            "guest_name": guest.map(|g| format!("{} {}", g.first_name, g.last_name)),
            "guest_email": guest.map(|g| r.alias().unwrap_or_else(|| g.email.clone())),
            "guest_phone": guest.map(|g| g.phone.clone()),
            "adults": (r.kind == Kind::Stay).then(|| r.adults.to_string()),
            "children": (r.kind == Kind::Stay).then(|| r.children.to_string()),
            "total_amount": (r.kind == Kind::Stay).then(|| dollars(r.total())), "currency": "usd",
            "updated_at": stamp(r.updated_at), "created_at": stamp(r.created_at),
            "cancelled_at": r.cancelled_at.map(stamp), "notes": r.notes,
        });
        ("channel_reservations", row)
    };
    match r.moves {
        None => vec![row(0, listing, r.check_in, r.check_out)],
        Some((from, to)) => vec![row(0, listing, r.check_in, from), row(1, &stays.listings[to], from, r.check_out)],
    }
}

/// What a site's calendar of one listing holds now: its own stays by name, all else as closed time in one piece.
fn told_by_feed(stays: &Stays, feed: &'static str, listing: &Listing) -> BTreeMap<String, Value> {
    let site = if feed == "airbnb" { Platform::Airbnb } else { Platform::Vrbo };
    let id = if feed == "airbnb" { &listing.airbnb_id } else { &listing.vrbo_id };
    let today = stays.today(listing.index);
    let mut events = BTreeMap::new();
    let mut add =
        |uid: String, summary: &str, code: Option<&str>, first: chrono::NaiveDate, last: chrono::NaiveDate| {
            events.insert(
                uid.clone(),
                json!({
                    "connection": feed, "connector": feed, "reservation_id": uid, "identity": "feed", "segment": "0",
                    "external_code": code, "listing_id": id, "status": summary, "platform": Value::Null,
                    "check_in": first.to_string(), "check_out": last.to_string(), "updated_at": stamp(stays.now),
                }),
            );
        };
    let mut night = today;
    let mut closed: Option<chrono::NaiveDate> = None;
    let mut stay: Option<(u64, chrono::NaiveDate)> = None;
    loop {
        let taker = stays.night(listing.index, night);
        let own = taker.filter(|r| r.kind == Kind::Stay && r.platform == site && r.status != Status::Pending);
        if let Some((number, first)) = stay.filter(|(number, _)| own.is_none_or(|r| r.number != *number)) {
            let r = stays.reservation(number).unwrap();
            // A site knows the whole stay, also what of it is over.
            let first = if first == today && r.takes(listing.index, r.check_in) { r.check_in } else { first };
            let code = (feed == "airbnb").then_some(r.code.as_str());
            add(format!("{number}-{}@{feed}", listing.index), "Reserved", code, first, night);
            stay = None;
        }
        if let (Some(r), None) = (own, stay) {
            stay = Some((r.number, night));
        }
        match (closed, taker.is_some() && own.is_none()) {
            (None, true) => closed = Some(night),
            (Some(first), false) => {
                let summary = if feed == "airbnb" { "Airbnb (Not available)" } else { "Blocked" };
                add(format!("{first}-{night}-{}@{feed}", listing.index), summary, None, first, night);
                closed = None;
            }
            _ => {}
        }
        if night > today + Days::new(200) && closed.is_none() && stay.is_none() {
            return events;
        }
        night = night + Days::new(1);
    }
}

fn listings_of(stays: &Stays, connection: &str) -> Vec<Wire> {
    let mut rows = Vec::new();
    for l in &stays.listings {
        let managed = manager_name(l.manager);
        let row = |id: &str| {
            json!({
                "connection": connection, "connector": connection, "listing_id": id, "name": l.name,
                "updated_at": stamp(stays.shape.now),
                // Calendars of places without a manager are tied by the settings.
                "property": managed.is_none().then_some(&l.property),
            })
        };
        match connection {
            "airbnb" => rows.push(("channel_listings", row(&l.airbnb_id))),
            "vrbo" => rows.push(("channel_listings", row(&l.vrbo_id))),
            _ if managed == Some(connection) => {
                let mut row = row(&l.manager_id);
                row["time_zone"] = json!(l.zone.name());
                row["check_in_time"] = json!(l.check_in_hour.to_string());
                row["check_out_time"] = json!(format!("{}:00", l.check_out_hour));
                row["channel_ids"] = json!({ "Airbnb": l.airbnb_id, "homeaway2": l.vrbo_id }).to_string().into();
                rows.push(("channel_listings", row));
            }
            _ => {}
        }
    }
    rows
}

/// What each connection has said so far, so that it can say what is gone.
#[derive(Default)]
struct Told(BTreeMap<&'static str, BTreeSet<String>>);

impl Told {
    /// Everything that a connection holds now, and what it no longer knows.
    fn all(&mut self, stays: &Stays, connection: &'static str) -> Vec<Wire> {
        let mut rows = listings_of(stays, connection);
        let mut ids = BTreeSet::new();
        let mut over = BTreeSet::new();
        if FEEDS.contains(&connection) {
            for listing in &stays.listings {
                for (uid, row) in told_by_feed(stays, connection, listing) {
                    ids.insert(uid);
                    rows.push(("channel_reservations", row));
                }
            }
        } else {
            for r in &stays.reservations {
                if manager_name(stays.listings[r.listing].manager) != Some(connection) {
                    continue;
                }
                let id = format!("R{}", r.number);
                if r.deleted {
                    continue;
                }
                over.insert(id.clone());
                ids.insert(id);
                rows.extend(told_by_manager(stays, r));
            }
        }
        let before = self.0.entry(connection).or_default();
        for id in before.difference(&ids) {
            rows.push((
                "channel_reservations",
                json!({ "connection": connection, "connector": connection, "reservation_id": id, "presence": "gone", "updated_at": stamp(stays.now) }),
            ));
        }
        before.extend(ids);
        rows
    }

    fn one(&mut self, stays: &Stays, number: u64) -> Option<(&'static str, Vec<Wire>)> {
        let r = stays.reservation(number)?;
        let connection = manager_name(stays.listings[r.listing].manager)?;
        let id = format!("R{number}");
        self.0.entry(connection).or_default().insert(id.clone());
        let rows = if r.deleted {
            vec![(
                "channel_reservations",
                json!({ "connection": connection, "connector": connection, "reservation_id": id, "presence": "gone", "updated_at": stamp(stays.now) }),
            )]
        } else {
            told_by_manager(stays, r)
        };
        Some((connection, rows))
    }
}

fn property(l: &Listing) -> String {
    match manager_name(l.manager) {
        Some(manager) => format!("{manager}:{}", l.manager_id),
        None => l.property.clone(),
    }
}

fn state(r: &Reservation) -> &'static str {
    match (r.kind, r.status) {
        (Kind::Stay, Status::Pending) => "held",
        (Kind::Stay, _) => "booked",
        (Kind::Owner, _) => "owner",
        (Kind::Hold, _) => "held",
        (Kind::Block, _) => "blocked",
    }
}

/// The calendar and the bookings are what the world is.
async fn compare(house: &House, stays: &Stays, context: &str) {
    let days: Vec<(String, chrono::NaiveDate, String, bool)> =
        sqlx::query_as("select property_id, day, state, conflict from core.calendar_days where deleted_at is null")
            .fetch_all(house.pool())
            .await
            .unwrap();
    let days: BTreeMap<(String, chrono::NaiveDate), (String, bool)> =
        days.into_iter().map(|(p, d, s, c)| ((p, d), (s, c))).collect();
    for l in &stays.listings {
        let managed = manager_name(l.manager).is_some();
        let today = if managed { stays.today(l.index) } else { stays.now.date_naive() };
        let (from, until) = if managed { (today - Days::new(90), 631) } else { (today, 180) };
        for night in from.iter_days().take(until) {
            let found = days.get(&(property(l), night));
            let truth = stays.night(l.index, night);
            let wanted = truth.map_or("free", state);
            let (found, conflict) = found.unwrap_or_else(|| panic!("{context}: {} has no {night}", property(l)));
            let same = if managed { found == wanted } else { (found == "free") == (wanted == "free") };
            assert!(same, "{context}: {} on {night} is {found}, but {wanted}: {truth:?}", property(l));
            assert!(!conflict, "{context}: {} on {night} has a conflict that nobody made", property(l));
        }
    }
    let sources: Vec<(String, String, String)> = sqlx::query_as(
        "select distinct connection, source_booking_id, booking_id from core.booking_sources where role <> 'echo'",
    )
    .fetch_all(house.pool())
    .await
    .unwrap();
    let mut of: BTreeMap<(String, String), BTreeSet<String>> = BTreeMap::new();
    for (connection, id, booking) in sources {
        of.entry((connection, id)).or_default().insert(booking);
    }
    let bookings = house.rows("bookings").await;
    let bookings: BTreeMap<&str, &Map<String, Value>> =
        bookings.iter().map(|b| (b["booking_id"].as_str().unwrap(), b)).collect();
    let mut expected = BTreeSet::new();
    for r in &stays.reservations {
        let l = &stays.listings[r.listing];
        let Some(manager) = manager_name(l.manager) else { continue };
        let Some(ids) = of.get(&(manager.to_owned(), format!("R{}", r.number))) else {
            assert!(r.deleted, "{context}: {r:?} is no booking");
            continue;
        };
        assert_eq!(ids.len(), 1, "{context}: {r:?} is several bookings");
        let id = ids.first().unwrap().as_str();
        let booking = bookings.get(id).unwrap_or_else(|| panic!("{context}: {r:?} has lost its booking {id}"));
        assert!(expected.insert(id), "{context}: two reservations are one booking: {r:?}");
        let word = |column: &str| booking[column].as_str().unwrap_or_default();
        let status = word("booking_status");
        if r.deleted {
            assert!(!booking["occupies"].as_bool().unwrap(), "{context}: {r:?} still takes nights");
            continue;
        }
        match (r.kind, r.status) {
            (Kind::Stay, Status::Inquiry) => assert_eq!(status, "inquiry", "{context}: {r:?}"),
            (Kind::Stay | Kind::Hold, Status::Pending) => assert_eq!(status, "pending", "{context}: {r:?}"),
            (_, Status::Cancelled) => assert_eq!(status, "cancelled", "{context}: {r:?}"),
            (_, Status::Declined) => assert!(["declined", "cancelled"].contains(&status), "{context}: {status} {r:?}"),
            (Kind::Stay, _) => {
                assert!(["confirmed", "checked_in", "completed"].contains(&status), "{context}: {status} {r:?}");
                assert_eq!(word("external_code"), r.code, "{context}: {r:?}");
                let cents = (booking["total_amount"].as_f64().unwrap() * 100.0).round() as i64;
                assert_eq!(cents, r.total(), "{context}: {r:?}");
            }
            _ => assert!(booking["occupies"].as_bool().unwrap(), "{context}: {r:?}"),
        }
        assert_eq!(word("check_in"), r.check_in.to_string(), "{context}: {r:?}");
        assert_eq!(word("check_out"), r.check_out.to_string(), "{context}: {r:?}");
        assert_eq!(word("property_id"), property(l), "{context}: {r:?}");
    }
    let managed: BTreeSet<String> =
        stays.listings.iter().filter(|l| l.manager != Manager::None).map(property).collect();
    for (id, booking) in &bookings {
        let takes =
            booking["occupies"].as_bool().unwrap() && managed.contains(booking["property_id"].as_str().unwrap());
        let over = booking["check_out"].as_str().unwrap() <= stays.now.date_naive().to_string().as_str();
        assert!(!takes || over || expected.contains(id), "{context}: nobody made the booking {booking:?}");
    }
    let open: i64 = sqlx::query_scalar("select count(*) from ops.unsettled").fetch_one(house.pool()).await.unwrap();
    assert_eq!(open, 0, "{context}: marks were left");
}

const CONNECTIONS: [&str; 5] = ["guesty", "ownerrez", "hostaway", "airbnb", "vrbo"];

/// Lets the world change at random, and tells of it badly: late, twice, out of order, or not at all. Then every connection
/// is read again as a whole, and everything must be as it is.
async fn live(seed: u64, rounds: usize, changes: usize) {
    let mut stays = Stays::new(Shape { seed, listings: 8, stays: 9, now: start() });
    let house = House::new(stays.now).await;
    let mut told = Told::default();
    let mut dice = ChaCha8Rng::seed_from_u64(seed);
    for connection in CONNECTIONS {
        house.hear(connection, vec![told.all(&stays, connection)]).await;
    }
    compare(&house, &stays, &format!("seed {seed}, at first")).await;
    let mut late: Vec<(&'static str, Vec<Wire>)> = Vec::new();
    for round in 0..rounds {
        for _ in 0..changes {
            stays.pass(TimeDelta::minutes(dice.random_range(1..90)));
            house.clock.advance(stays.now - catalog::Clock::now(&house.clock));
            let Some((number, _)) = stays.mutate() else { continue };
            let Some((connection, rows)) = told.one(&stays, number) else { continue };
            match dice.random_range(0..8) {
                0 => {}
                1 | 2 => late.push((connection, rows)),
                3 => {
                    house.hear(connection, vec![rows.clone(), rows]).await;
                }
                _ => {
                    house.hear(connection, vec![rows]).await;
                }
            }
            if dice.random_range(0..4) == 0 {
                let feed = FEEDS[dice.random_range(0..2)];
                let rows = told.all(&stays, feed);
                if dice.random_bool(0.3) { late.push((feed, rows)) } else { _ = house.hear(feed, vec![rows]).await }
            }
            if !late.is_empty() && dice.random_range(0..3) == 0 {
                let (connection, rows) = late.swap_remove((dice.next_u32() as usize) % late.len());
                house.hear(connection, vec![rows]).await;
            }
        }
        let mut order = CONNECTIONS.to_vec();
        order.rotate_left(dice.random_range(0..5));
        for connection in order {
            house.hear(connection, vec![told.all(&stays, connection)]).await;
        }
        for (connection, rows) in late.drain(..) {
            house.hear(connection, vec![rows]).await;
        }
        house.settle().await;
        compare(&house, &stays, &format!("seed {seed}, round {round}")).await;
    }
}

#[tokio::test]
async fn whatever_happens_and_however_late_it_is_told_the_calendar_becomes_the_truth() {
    for seed in [1, 2] {
        live(seed, 3, 14).await;
    }
}

// ---- small cases, without a database ----

/// A row of a reservation.
fn reservation(connection: &str, id: &str, listing: &str, dates: (&str, &str), more: Value) -> Wire {
    let mut row = json!({
        "connection": connection, "connector": connection, "reservation_id": id, "listing_id": listing, "segment": "0",
        "check_in": dates.0, "check_out": dates.1, "status": "confirmed", "platform": "airbnb",
        "updated_at": "2026-05-01T00:00:00Z",
    });
    row.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    ("channel_reservations", row)
}

fn described(connection: &str, listing: &str, property: &str) -> Wire {
    (
        "channel_listings",
        json!({ "connection": connection, "connector": connection, "listing_id": listing, "property": property }),
    )
}

/// What a copy without a database makes of rows.
async fn copied(rows: Vec<Wire>) -> (Handle, Summary) {
    let handle = Handle::default();
    let world = World {
        ledger: None,
        clock: Arc::new(TestClock::at(start())),
        quota: Arc::new(LocalQuota::default()),
        tokens: Arc::new(LocalTokens::default()),
        observer: Arc::new(Silent),
    };
    let job = job("copy", vec![rows], vec![Box::new(MemorySink::new(handle.clone()))]);
    let summary = run(&world, job, &CancellationToken::new()).await.unwrap_or_else(|fault| panic!("{}", fault.chain()));
    (handle, summary)
}

fn table(handle: &Handle, name: &str) -> Vec<Map<String, Value>> {
    let mut writer = arrow::json::ArrayWriter::new(Vec::new());
    writer.write(&handle.rows(name).unwrap()).unwrap();
    writer.finish().unwrap();
    serde_json::from_slice(&writer.into_inner()).unwrap_or_default()
}

fn day<'a>(days: &'a [Map<String, Value>], property: &str, day: &str) -> &'a Map<String, Value> {
    days.iter().find(|d| d["property_id"] == property && d["day"] == day).unwrap()
}

#[tokio::test]
async fn a_copy_settles_what_it_brought() {
    let feed = json!({ "identity": "feed", "platform": null, "status": "Reserved" });
    let code = json!({ "identity": "feed", "platform": null, "status": "Reserved", "external_code": "HMABCDEFGH" });
    let closed = json!({ "identity": "feed", "platform": null, "status": "Airbnb (Not available)" });
    let (handle, summary) = copied(vec![
        described("guesty", "L1", "P1"),
        described("airbnb", "A1", "P1"),
        // One stay by its code, though one channel is late with its dates.
        reservation("guesty", "R1", "L1", ("2026-06-10", "2026-06-14"), json!({ "external_code": "hmabcdefgh" })),
        reservation("airbnb", "U1", "A1", ("2026-06-11", "2026-06-14"), code),
        // One stay by its dates alone.
        reservation("guesty", "R2", "L1", ("2026-06-20", "2026-06-22"), json!({ "external_code": "HMZZZZZZZZ" })),
        reservation("airbnb", "U2", "A1", ("2026-06-20", "2026-06-22"), feed.clone()),
        // A block that only repeats stays, and one with a night of its own.
        reservation("guesty", "R3", "L1", ("2026-07-01", "2026-07-03"), json!({ "platform": "homeaway2" })),
        reservation("airbnb", "B1", "A1", ("2026-07-01", "2026-07-03"), closed.clone()),
        reservation("airbnb", "B2", "A1", ("2026-07-08", "2026-07-10"), closed),
        // Two stays that cannot both be true.
        reservation("guesty", "R4", "L1", ("2026-08-01", "2026-08-05"), json!({ "platform": "manual" })),
        reservation("airbnb", "U4", "A1", ("2026-08-04", "2026-08-06"), feed),
        // A listing that nobody described.
        reservation("hostaway", "R9", "7", ("2026-06-10", "2026-06-12"), json!({ "status": "new" })),
        // What cannot be used says why.
        reservation("guesty", "X1", "L1", ("2026-09-05", "2026-09-01"), json!({})),
        reservation("guesty", "X2", "L1", ("2026-09-05", "2026-09-07"), json!({ "total_amount": "100.00" })),
        reservation("guesty", "X3", "L1", ("2026-09-15", "2026-09-17"), json!({ "status": "whatever" })),
        ("channel_reservations", json!({ "connection": "guesty", "connector": "guesty", "reservation_id": "X4", "check_in": "2026-09-05", "check_out": "2026-09-07", "status": "confirmed" })),
    ])
    .await;
    let bookings = table(&handle, "bookings");
    let days = table(&handle, "calendar_days");
    let sources = table(&handle, "booking_sources");
    let role = |id: &str| {
        sources
            .iter()
            .find(|s| s["source_booking_id"] == id)
            .map(|s| (s["role"].as_str().unwrap(), s["basis"].as_str().unwrap()))
    };
    assert_eq!(role("U1"), Some(("same", "code")));
    assert_eq!(role("U2"), Some(("same", "dates")));
    assert_eq!(role("B1").map(|r| r.0), Some("echo"));
    assert_eq!(role("B2"), Some(("anchor", "own")));
    assert_eq!(role("U4"), Some(("anchor", "own")));
    // R1, R2, R3, B2, R4, U4, R9, X2, X3.
    assert_eq!(bookings.len(), 9, "{bookings:#?}");
    assert_eq!(day(&days, "P1", "2026-06-10")["state"], "booked");
    assert_eq!(day(&days, "P1", "2026-07-01")["state"], "booked");
    assert_eq!(day(&days, "P1", "2026-07-08")["state"], "blocked");
    assert_eq!(day(&days, "P1", "2026-08-03")["conflict"], false);
    assert_eq!(day(&days, "P1", "2026-08-04")["conflict"], true);
    assert_eq!(day(&days, "P1", "2026-08-05")["state"], "booked");
    assert_eq!(day(&days, "hostaway:7", "2026-06-11")["state"], "booked");
    assert_eq!(day(&days, "P1", "2026-09-15")["state"], "held", "a status that nobody knows still takes the nights");
    let reasons: Vec<(&str, &str)> = summary.unrecorded.iter().map(|r| (r.kind.as_str(), r.reason.as_str())).collect();
    assert!(reasons.iter().any(|(k, r)| *k == "row" && r.contains("run backwards")), "{reasons:?}");
    assert!(reasons.iter().any(|(k, r)| *k == "row" && r.contains("no listing")), "{reasons:?}");
    assert!(reasons.iter().any(|(k, r)| *k == "value" && r.contains("without a currency")), "{reasons:?}");
    assert!(reasons.iter().any(|(k, r)| *k == "value" && r.contains("`whatever` is not known")), "{reasons:?}");
}

#[tokio::test]
async fn an_alias_never_says_who_a_guest_is() {
    let with =
        |email: &str, phone: Value| json!({ "guest_email": email, "guest_phone": phone, "guest_name": "Mira Okafor" });
    let (handle, _) = copied(vec![
        described("guesty", "L1", "P1"),
        reservation("guesty", "R1", "L1", ("2026-06-01", "2026-06-02"), with("x1@guest.airbnb.com", Value::Null)),
        reservation("guesty", "R2", "L1", ("2026-06-03", "2026-06-04"), with("x1@guest.airbnb.com", Value::Null)),
        reservation(
            "guesty",
            "R3",
            "L1",
            ("2026-06-05", "2026-06-06"),
            with("x3@guest.airbnb.com", json!("+12125550101")),
        ),
        reservation(
            "guesty",
            "R4",
            "L1",
            ("2026-06-07", "2026-06-08"),
            with("Mira@Mail.example", json!("(212) 555-0101")),
        ),
        reservation("guesty", "R5", "L1", ("2026-06-09", "2026-06-10"), with("mira@mail.example", Value::Null)),
    ])
    .await;
    let bookings = table(&handle, "bookings");
    let guest =
        |id: &str| bookings.iter().find(|b| b["source_booking_id"] == id).map(|b| b["guest_id"].as_str().unwrap());
    assert_ne!(guest("R1"), guest("R2"));
    assert_eq!(guest("R3"), guest("R4"), "the phone");
    assert_eq!(guest("R4"), guest("R5"), "the e-mail");
    assert_ne!(guest("R1"), guest("R3"));
    assert_eq!(table(&handle, "guests").len(), 3);
}

#[tokio::test]
async fn what_is_not_mapped_waits_and_loads_by_itself() {
    let house = House::new(start()).await;
    house.hear("guesty", vec![vec![reservation("guesty", "R1", "L7", ("2026-06-10", "2026-06-12"), json!({}))]]).await;
    assert!(house.rows("bookings").await.is_empty());
    let waiting: i64 = sqlx::query_scalar("select reservations from serving.unmapped_listings where listing_id = 'L7'")
        .fetch_one(house.pool())
        .await
        .unwrap();
    assert_eq!(waiting, 1);
    sqlx::query("insert into sync.listing_map (connection, listing_id, property_id) values ('guesty', 'L7', 'P-0007')")
        .execute(house.pool())
        .await
        .unwrap();
    sqlx::query("insert into ops.unsettled (connection, listing_id, what) values ('guesty', 'L7', 'listing')")
        .execute(house.pool())
        .await
        .unwrap();
    assert_eq!(house.settle().await, 1);
    let state: String = sqlx::query_scalar(
        "select state from serving.booking_calendar where property_id = 'P-0007' and day = '2026-06-11'",
    )
    .fetch_one(house.pool())
    .await
    .unwrap();
    assert_eq!(state, "booked");
    assert_eq!(house.settle().await, 0, "settled twice");
    // Every view can be read.
    for view in
        ["bookings", "guests", "listings", "unmapped_listings", "booking_performance", "booking_pace", "channel_mix"]
    {
        let sql = format!("select count(*) from serving.{view}");
        let _: i64 = sqlx::query_scalar(sqlx::AssertSqlSafe(sql)).fetch_one(house.pool()).await.unwrap();
    }
    // A day later the calendar has moved on, with nobody telling anything.
    house.clock.advance(TimeDelta::days(30));
    assert_eq!(house.settle().await, 1);
    let status: String =
        sqlx::query_scalar("select booking_status from serving.bookings").fetch_one(house.pool()).await.unwrap();
    assert_eq!(status, "completed");
}

/// A sink of versioned rows: an older version never replaces a newer one, in whatever slices they come.
#[tokio::test]
async fn an_older_version_never_replaces_a_newer_one() {
    let house = House::new(start()).await;
    let mut dice = ChaCha8Rng::seed_from_u64(7);
    let version = |minute: u32, night: u32| {
        reservation(
            "guesty",
            "R1",
            "L1",
            (&format!("2026-07-{:02}", night), &format!("2026-07-{:02}", night + 1)),
            json!({ "updated_at": format!("2026-05-01T00:{minute:02}:00Z") }),
        )
    };
    let mut newest = (0, 0);
    let memory = Handle::default();
    for _ in 0..12 {
        let mut rows = Vec::new();
        for _ in 0..dice.random_range(1..4) {
            let (minute, night) = (dice.random_range(0..30), dice.random_range(1..28));
            if minute > newest.0 || (minute == newest.0 && newest.0 > 0) || newest == (0, 0) {
                newest = (minute, night);
            }
            rows.push(version(minute, night));
        }
        let sinks: Vec<Box<dyn sinks::Sink>> = vec![
            Box::new(MemorySink::new(memory.clone())),
            Box::new(PostgresSink::new(house.db.pool.clone(), Options::default())),
        ];
        run(&house.world(), job("guesty", vec![rows], sinks), &CancellationToken::new()).await.unwrap();
        let wanted = format!("2026-07-{:02}", newest.1);
        assert_eq!(house.rows("source_bookings").await[0]["check_in"], wanted.as_str());
        assert_eq!(table(&memory, "source_bookings")[0]["check_in"], wanted.as_str());
    }
}

#[tokio::test]
async fn two_workers_at_once_and_a_settling_that_was_cut_off_agree_in_the_end() {
    let house = House::new(start()).await;
    let listings = vec![described("guesty", "L1", "P1"), described("airbnb", "A1", "P1")];
    house.hear("guesty", vec![listings]).await;
    for round in 0..4 {
        let night = format!("2026-07-{:02}", 2 * round + 1);
        let leave = format!("2026-07-{:02}", 2 * round + 2);
        let dates = (night.as_str(), leave.as_str());
        let code = json!({ "external_code": format!("HMAAAAAAA{round}") });
        let manager = vec![reservation("guesty", &format!("R{round}"), "L1", dates, code.clone())];
        let mut feed = reservation("airbnb", &format!("U{round}"), "A1", dates, code);
        feed.1["identity"] = json!("feed");
        feed.1["status"] = json!("Reserved");
        let world = house.world();
        let stop = CancellationToken::new();
        let (a, b) = tokio::join!(
            run(&world, house.job("guesty", vec![manager]), &stop),
            run(&world, house.job("airbnb", vec![vec![feed]]), &stop)
        );
        a.and(b).unwrap_or_else(|fault| panic!("{}", fault.chain()));
    }
    // Marks as a process leaves them that was killed behind its slice: settling again changes nothing.
    let before = (house.rows("bookings").await, house.rows("booking_changes").await);
    assert_eq!(before.0.len(), 4, "{:#?}", before.0);
    sqlx::query("insert into ops.unsettled (connection, listing_id, what) values ('guesty', 'L1', 'booking')")
        .execute(house.pool())
        .await
        .unwrap();
    assert_eq!(house.settle().await, 1);
    assert_eq!((house.rows("bookings").await, house.rows("booking_changes").await), before);
}
