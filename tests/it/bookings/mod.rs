//! Bookings: what many connections say, settled into one calendar.

#![expect(clippy::unwrap_used, reason = "the functions below are parts of tests")]

mod figures;
mod told;

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};

use arrow::array::{RecordBatch, StringArray};
use async_trait::async_trait;
use catalog::quota::LocalQuota;
use catalog::token::LocalTokens;
use catalog::{Cursor, Result, TestClock, datasets};
use chrono::{DateTime, TimeDelta, TimeZone, Utc};
use connectors::{Event, Read, Request, Source, Stream};
use futures::StreamExt;
use futures::stream::BoxStream;
use kit::db::TestDb;
use pipelines::app::Database;
use pipelines::progress::Silent;
use pipelines::run::{Job, Summary, World, run};
use pipelines::settle::LAYER;
use rand::{RngExt, SeedableRng};
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
async fn the_words_of_every_channel_are_known() {
    // Connector, identity, type, status; kind and status.
    let words = [
        ("guesty", "strong", "", "inquiry", "stay", "inquiry"),
        ("guesty", "strong", "", "reserved", "stay", "pending"),
        ("guesty", "strong", "", "awaiting_payment", "stay", "pending"),
        ("guesty", "strong", "", "confirmed", "stay", "confirmed"),
        ("guesty", "strong", "", "checked_in", "stay", "checked_in"),
        ("guesty", "strong", "", "checked_out", "stay", "completed"),
        ("guesty", "strong", "", "canceled", "stay", "cancelled"),
        ("guesty", "strong", "", "declined", "stay", "declined"),
        ("guesty", "strong", "", "closed", "stay", "declined"),
        ("guesty", "strong", "", "expired", "stay", "expired"),
        ("guesty", "strong", "owner", "confirmed", "owner", "confirmed"),
        ("guesty", "strong", "owner-guest", "canceled", "owner", "cancelled"),
        ("guesty", "strong", "block", "unavailable", "block", "confirmed"),
        ("guesty", "synthetic", "block", "", "block", "confirmed"),
        ("ownerrez", "strong", "booking", "active", "stay", "confirmed"),
        ("ownerrez", "strong", "booking", "pending", "stay", "pending"),
        ("ownerrez", "strong", "booking", "canceled", "stay", "cancelled"),
        ("ownerrez", "strong", "block", "active", "block", "confirmed"),
        ("ownerrez", "strong", "block", "pending", "hold", "pending"),
        ("ownerrez", "strong", "quote_hold", "pending", "hold", "pending"),
        ("ownerrez", "strong", "linked_availability", "active", "block", "confirmed"),
        ("hostaway", "strong", "", "new", "stay", "confirmed"),
        ("hostaway", "strong", "", "modified", "stay", "confirmed"),
        ("hostaway", "strong", "", "pending", "stay", "pending"),
        ("hostaway", "strong", "", "unconfirmed", "stay", "pending"),
        ("hostaway", "strong", "", "awaitingPayment", "stay", "pending"),
        ("hostaway", "strong", "", "awaitingGuestVerification", "stay", "pending"),
        ("hostaway", "strong", "", "ownerStay", "owner", "confirmed"),
        ("hostaway", "strong", "", "cancelled", "stay", "cancelled"),
        ("hostaway", "strong", "", "declined", "stay", "declined"),
        ("hostaway", "strong", "", "inquiryDenied", "stay", "declined"),
        ("hostaway", "strong", "", "expired", "stay", "expired"),
        ("hostaway", "strong", "", "inquiryTimedout", "stay", "expired"),
        ("hostaway", "strong", "", "inquiry", "stay", "inquiry"),
        ("hostaway", "strong", "", "inquiryPreapproved", "stay", "inquiry"),
        ("hostaway", "strong", "", "inquiryNotPossible", "stay", "inquiry"),
        ("airbnb", "strong", "reservation", "accept", "stay", "confirmed"),
        ("airbnb", "strong", "reservation", "new", "stay", "pending"),
        ("airbnb", "strong", "reservation", "denied", "stay", "declined"),
        ("airbnb", "strong", "reservation", "timedout", "stay", "expired"),
        ("airbnb", "strong", "reservation", "cancelled_by_guest", "stay", "cancelled"),
        ("vrbo", "strong", "booking", "UNCONFIRMED", "stay", "pending"),
        ("vrbo", "strong", "booking", "UNCONFIRMED_BY_OWNER", "stay", "pending"),
        ("vrbo", "strong", "booking", "CONFIRMED", "stay", "confirmed"),
        ("vrbo", "strong", "booking", "STAY_IN_PROGRESS", "stay", "checked_in"),
        ("vrbo", "strong", "booking", "CANCELLED_BY_TRAVELER", "stay", "cancelled"),
        ("vrbo", "strong", "booking", "DECLINED_BY_SYSTEM", "stay", "declined"),
        ("ical", "feed", "reserved", "reserved", "stay", "confirmed"),
        ("ical", "feed", "tentative", "tentative", "stay", "pending"),
        ("ical", "feed", "reserved", "cancelled", "stay", "cancelled"),
        ("ical", "synthetic", "blocked", "blocked", "block", "confirmed"),
        ("intake", "strong", "", "", "stay", "confirmed"),
        ("intake", "strong", "", "Pending", "stay", "pending"),
        ("intake", "strong", "", "cancelled", "stay", "cancelled"),
    ];
    let mut rows = Vec::new();
    for (at, (connector, identity, kind, status, ..)) in words.iter().enumerate() {
        let said = |word: &str| (!word.is_empty()).then(|| word.to_owned());
        let more = json!({ "connector": connector, "identity": identity, "type": said(kind), "status": said(status), "platform": null });
        let (from, to) = ("2026-07-01", "2026-07-04");
        rows.push(reservation(connector, &format!("{at}"), &format!("L{at}"), (from, to), more));
    }
    let (handle, summary) = copied(rows).await;
    assert!(summary.unrecorded.is_empty(), "{:?}", summary.unrecorded);
    let found = table(&handle, "source_bookings");
    assert_eq!(found.len(), words.len());
    for (at, word) in words.iter().enumerate() {
        let id = at.to_string();
        let row = found.iter().find(|r| r["source_booking_id"] == id.as_str()).unwrap();
        assert_eq!((&row["kind"], &row["status"]), (&json!(word.4), &json!(word.5)), "{word:?}");
    }
}

#[tokio::test]
async fn a_stay_that_has_lost_a_stretch_goes_on() {
    let gone = |id: &str, segment: &str| {
        (
            "channel_reservations",
            json!({ "connection": "guesty", "connector": "guesty", "reservation_id": id, "segment": segment, "presence": "gone", "updated_at": "2026-05-09T00:00:00Z" }),
        )
    };
    let (handle, _) = copied(vec![
        described("guesty", "L1", "P1"),
        reservation("guesty", "R1", "L1", ("2026-06-10", "2026-06-14"), json!({})),
        gone("R1", "1"),
        reservation("guesty", "R2", "L1", ("2026-06-20", "2026-06-22"), json!({})),
        gone("R2", "0"),
        gone("R2", "1"),
    ])
    .await;
    let days = table(&handle, "calendar_days");
    assert_eq!(day(&days, "P1", "2026-06-11")["state"], "booked");
    assert_eq!(day(&days, "P1", "2026-06-20")["state"], "free");
}

/// A stay of several stretches has the nights that are in them, once each; what lies between them is free, and what the guest
/// pays is spread over the nights that are stayed.
#[tokio::test]
async fn nights_between_two_stretches_of_a_stay_are_not_stayed() {
    let mut dice = ChaCha8Rng::seed_from_u64(12);
    let mut rows = vec![described("guesty", "L1", "P1"), described("guesty", "L2", "P2")];
    let mut stayed: BTreeMap<String, Vec<(String, String)>> = BTreeMap::new();
    let first = chrono::NaiveDate::from_ymd_opt(2026, 6, 3).unwrap();
    let mut begin = first;
    for number in 0..12 {
        let id = format!("R{number}");
        let stretches = dice.random_range(1..4);
        for segment in 0..stretches {
            let end = begin + chrono::Days::new(dice.random_range(1..4));
            let listing = if dice.random_bool(0.5) { "L1" } else { "L2" };
            let dates = (begin.to_string(), end.to_string());
            let more = json!({ "segment": segment.to_string(), "platform": "direct", "total_amount": "100", "currency": "USD" });
            rows.push(reservation("guesty", &id, listing, (&dates.0, &dates.1), more));
            for night in begin.iter_days().take_while(|night| *night < end) {
                stayed.entry(id.clone()).or_default().push((format!("P{}", &listing[1..]), night.to_string()));
            }
            begin = end + chrono::Days::new(dice.random_range(0..4));
        }
    }
    // Stretches in two places at once: the nights that they share count once.
    let last = (begin + chrono::Days::new(1), begin + chrono::Days::new(5), begin + chrono::Days::new(7));
    for (segment, listing, from, until) in [("0", "L1", begin, last.1), ("1", "L2", last.0, last.2)] {
        let more = json!({ "segment": segment, "platform": "direct" });
        rows.push(reservation("guesty", "twice", listing, (&from.to_string(), &until.to_string()), more));
    }
    let (handle, _) = copied(rows).await;
    let bookings = table(&handle, "bookings");
    let nights = |id: &str| bookings.iter().find(|b| b["source_booking_id"] == id).unwrap()["nights"].as_u64().unwrap();
    for (id, taken) in &stayed {
        assert_eq!(nights(id), taken.len() as u64, "{id}");
    }
    assert_eq!(nights("twice"), 7);
    assert!(
        bookings
            .iter()
            .any(|b| b["nights"].as_i64() < Some((day_of(b, "check_out") - day_of(b, "check_in")).num_days()))
    );
    let taken: std::collections::BTreeSet<&(String, String)> = stayed.values().flatten().collect();
    for day in table(&handle, "calendar_days") {
        let (property, night) = (day["property_id"].as_str().unwrap(), day["day"].as_str().unwrap());
        if night >= first.to_string().as_str() && night < begin.to_string().as_str() {
            let wanted = if taken.contains(&(property.to_owned(), night.to_owned())) { "booked" } else { "free" };
            assert_eq!(day["state"], wanted, "{property} {night}");
        }
    }
}

fn day_of(booking: &Map<String, Value>, column: &str) -> chrono::NaiveDate {
    booking[column].as_str().unwrap().parse().unwrap()
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

/// Systems of one's own send bookings and describe no listings: what they name is the property of that name, whoever told of
/// it, before or behind; where there is none, it waits. A listing of a vendor is never taken for a property.
#[tokio::test]
async fn own_systems_call_a_property_by_its_name() {
    let house = House::new(start()).await;
    let dates = ("2026-06-10", "2026-06-12");
    let own = |id: &str, listing: &str| vec![vec![reservation("intake", id, listing, dates, json!({}))]];
    let places = async || -> Vec<(String, Option<String>, Option<String>)> {
        sqlx::query_as("select listing_id, property_id, basis from core.listings where connector is null order by 1")
            .fetch_all(house.pool())
            .await
            .unwrap()
    };
    let place = |listing: &str, basis: Option<&str>| {
        (listing.to_owned(), basis.map(|_| listing.to_owned()), basis.map(str::to_owned))
    };
    house.hear("guesty", vec![vec![described("guesty", "L1", "P-0001")]]).await;
    house.hear("intake", own("A", "P-0001")).await;
    house.hear("intake", own("B", "P-0002")).await;
    house.hear("hostaway", vec![vec![reservation("hostaway", "C", "P-0003", dates, json!({}))]]).await;
    let property = Some("property");
    assert_eq!(places().await, [place("P-0001", property), place("P-0002", None), place("P-0003", None)]);
    // Two listings are described: one makes the name known that was waited for.
    house.hear("guesty", vec![vec![described("guesty", "L2", "P-0002"), described("guesty", "L3", "P-0003")]]).await;
    assert_eq!(places().await, [place("P-0001", property), place("P-0002", property), place("P-0003", None)]);
    let days: i64 = sqlx::query_scalar(
        "select count(*) from core.calendar_days where property_id in ('P-0001', 'P-0002') and state = 'booked'",
    )
    .fetch_one(house.pool())
    .await
    .unwrap();
    assert_eq!(days, 4);
    // What was loaded as a property counts too, and a person's word more than a name.
    sqlx::raw_sql(
        "insert into core.properties (property_id, name) values ('P-0004', 'x'); \
         insert into sync.listing_map (connection, listing_id, property_id) values ('intake', 'P-0005', 'P-0001')",
    )
    .execute(house.pool())
    .await
    .unwrap();
    house.hear("intake", own("D", "P-0004")).await;
    house.hear("intake", own("E", "P-0005")).await;
    let found = places().await;
    assert_eq!(found[3], place("P-0004", property));
    assert_eq!(found[4].1.as_deref(), Some("P-0001"));
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
        let mut unsound = 0;
        for _ in 0..dice.random_range(1..4) {
            let (minute, night) = (dice.random_range(0..30), dice.random_range(1..28));
            // One that is refused takes nobody with it.
            if newest > (0, 0) && dice.random_range(0..3) == 0 {
                let (dataset, mut row) = version(minute, night);
                row["check_out"] = row["check_in"].clone();
                rows.push((dataset, row));
                unsound += 1;
                continue;
            }
            if minute > newest.0 || (minute == newest.0 && newest.0 > 0) || newest == (0, 0) {
                newest = (minute, night);
            }
            rows.push(version(minute, night));
        }
        let sinks: Vec<Box<dyn sinks::Sink>> = vec![
            Box::new(MemorySink::new(memory.clone())),
            Box::new(PostgresSink::new(house.db.pool.clone(), Options::default())),
        ];
        let summary = run(&house.world(), job("guesty", vec![rows], sinks), &CancellationToken::new()).await.unwrap();
        assert_eq!(summary.rejected_rows, unsound);
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
