//! Calendars: whatever a feed does, what is known of its stays stays right.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, in its own helpers too")]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow::array::{Array, AsArray, RecordBatch};
use catalog::{Cursor, Env, Fault, Note, Reject, TestClock};
use chrono::{DateTime, Days, NaiveDate, TimeDelta, Utc};
use connectors::ical::dialect::Kind;
use connectors::ical::diff::{FeedState, Row, diff};
use connectors::ical::feed::{Feed, Rules};
use connectors::source::{Event, Read, Request, Source, guarded};
use fixtures::calendars::{Glitch, Locale, Options, Rule, Simulator, airbnb_uid, vrbo_uid};
use fixtures::stays::{self, Booking, Platform, Shared, Status, Stays};
use futures::StreamExt;
use kit::vendors::secret;
use proptest::prelude::*;
use serde_json::{Value, json};
use tempfile::TempDir;

pub(crate) type Cells = BTreeMap<String, String>;

pub(crate) fn row_maps(batch: &RecordBatch) -> Vec<Cells> {
    let schema = batch.schema();
    let cells = |row: usize| {
        schema.fields().iter().zip(batch.columns()).filter_map(move |(field, column)| {
            let column = column.as_string::<i32>();
            (!column.is_null(row)).then(|| (field.name().clone(), column.value(row).to_owned()))
        })
    };
    (0..batch.num_rows()).map(|row| cells(row).collect()).collect()
}

/// What one reading said, as far as checkpoints cover it.
#[derive(Debug, Default)]
pub(crate) struct Reading {
    pub(crate) rows: Vec<(String, Cells)>,
    rejects: Vec<Reject>,
    notes: Vec<Note>,
    pub(crate) failed: Vec<(String, Fault)>,
    pub(crate) cursor: Option<Cursor>,
}

impl Reading {
    pub(crate) fn reservations(&self) -> Vec<&Cells> {
        self.rows.iter().filter(|(dataset, _)| dataset == "channel_reservations").map(|(_, row)| row).collect()
    }

    pub(crate) fn gone(&self) -> Vec<String> {
        self.reservations().iter().filter(|r| r.contains_key("presence")).map(|r| r["reservation_id"].clone()).collect()
    }
}

/// Reads until the end, or until `stop_after` checkpoints, as if killed there.
pub(crate) async fn read(source: &dyn Source, read: Read, resume: Option<Cursor>, stop_after: usize) -> Reading {
    let stream = source.streams().remove(0);
    let request = Request { stream: "bookings".to_owned(), read, resume, only: Vec::new() };
    let mut events = guarded(&stream, source.read(request));
    let (mut reading, mut pending) = (Reading::default(), Vec::new());
    let mut checkpoints = 0;
    while let Some(event) = events.next().await {
        match event.unwrap() {
            Event::Rows { dataset, batch } => {
                pending.extend(row_maps(&batch).into_iter().map(|row| (dataset.to_string(), row)));
            }
            Event::Checkpoint(cursor) => {
                reading.rows.append(&mut pending);
                // A cursor has to survive being stored.
                reading.cursor = Some(serde_json::from_str(&serde_json::to_string(&cursor).unwrap()).unwrap());
                checkpoints += 1;
                if checkpoints == stop_after {
                    return reading;
                }
            }
            Event::Reject(reject) => reading.rejects.push(reject),
            Event::Note(note) => reading.notes.push(note),
            Event::Failed { scope, fault } => reading.failed.push((scope, fault)),
            Event::Ahead(_) | Event::Complete { .. } => {}
        }
    }
    reading
}

/// A simulator, a clock that goes with it, and what a reader of its calendars has loaded.
struct Rig {
    simulator: Simulator,
    clock: TestClock,
    source: Box<dyn Source>,
    cursor: Option<Cursor>,
    /// By id and segment.
    table: BTreeMap<(String, String), Cells>,
    dir: TempDir,
    settings: Value,
}

pub(crate) fn now() -> DateTime<Utc> {
    DateTime::parse_from_rfc3339("2026-06-01T15:00:00Z").unwrap().to_utc()
}

pub(crate) const LIMITS: &str = r#"{ "calls_per_sec": 100000, "burst": 1000, "backoff_ms": 1 }"#;

pub(crate) async fn open(connector: &str, settings: &Value, clock: &TestClock) -> Box<dyn Source> {
    let env = Env { clock: Arc::new(clock.clone()), connection: "feeds".to_owned(), ..Env::default() };
    connectors::find(connector).unwrap().open(settings.clone(), env).await.unwrap()
}

impl Rig {
    async fn start(connector: &str, seed: u64, listings: usize, stays: usize, options: Options) -> Self {
        let stays = Shared::new(Stays::new(stays::Shape { seed, listings, stays, now: now() }));
        let simulator = Simulator::start(stays, options).await.unwrap();
        let dir = tempfile::tempdir().unwrap();
        let feeds: Vec<Value> = (0..listings)
            .map(|listing| {
                let url = if connector == "vrbo" { simulator.vrbo_url(listing) } else { simulator.airbnb_url(listing) };
                let zone = simulator.stays().lock().listings[listing].zone.name();
                let url = secret(dir.path(), &format!("feed{listing}"), &url);
                json!({ "listing": listing.to_string(), "property": format!("P-{listing:04}"), "url": url, "zone": zone })
            })
            .collect();
        let settings =
            json!({ "feeds": feeds, "allow_private": true, "limits": serde_json::from_str::<Value>(LIMITS).unwrap() });
        let clock = TestClock::at(now());
        let source = open(connector, &settings, &clock).await;
        Self { simulator, clock, source, cursor: None, table: BTreeMap::new(), dir, settings }
    }

    fn pass(&self, time: TimeDelta) {
        self.clock.advance(time);
        self.simulator.stays().lock().pass(time);
    }

    /// Reads what has changed and loads it; killed behind so many checkpoints.
    async fn poll_until(&mut self, stop_after: usize) -> Reading {
        let reading = read(&*self.source, Read::Changes { since: self.cursor.clone() }, None, stop_after).await;
        // The stretches of the newest version are all that there are, and whoever is gone is gone with all of them.
        let ids: BTreeSet<&String> = reading.reservations().iter().map(|row| &row["reservation_id"]).collect();
        for row in reading.reservations().into_iter().filter(|row| row.contains_key("presence")) {
            let id = &row["reservation_id"];
            assert!(self.table.keys().any(|(known, _)| known == id), "{id:?} went without having come");
        }
        self.table.retain(|(id, _), _| !ids.contains(id));
        for row in reading.reservations().into_iter().filter(|row| !row.contains_key("presence")) {
            self.table.insert((row["reservation_id"].clone(), row["segment"].clone()), row.clone());
        }
        self.cursor = reading.cursor.clone().or(self.cursor.take());
        reading
    }

    async fn poll(&mut self) -> Reading {
        self.poll_until(usize::MAX).await
    }

    /// Polls until everything that can become clear has become clear.
    async fn settle(&mut self) {
        self.simulator.behave();
        for _ in 0..5 {
            assert!(self.poll().await.failed.is_empty());
            self.pass(TimeDelta::hours(2));
        }
        self.poll().await;
    }

    /// The nights that stays take, by listing, from today on, as they were loaded.
    fn nights(&self) -> BTreeSet<(usize, NaiveDate)> {
        let today = |listing| self.simulator.stays().lock().today(listing);
        let mut nights = BTreeSet::new();
        for row in self.table.values().filter(|row| row["type"] != "blocked" && row["status"] != "cancelled") {
            let listing: usize = row["listing_id"].parse().unwrap();
            let (from, until): (NaiveDate, NaiveDate) =
                (row["check_in"].parse().unwrap(), row["check_out"].parse().unwrap());
            let first = from.max(today(listing));
            nights.extend(first.iter_days().take_while(|night| *night < until).map(|night| (listing, night)));
        }
        nights
    }

    /// The same as it is.
    fn truth(&self, platform: Platform) -> BTreeSet<(usize, NaiveDate)> {
        let stays = self.simulator.stays().lock();
        let mut nights = BTreeSet::new();
        for listing in 0..stays.listings.len() {
            for night in stays.today(listing).iter_days().take(400) {
                let taken = stays.night(listing, night).is_some_and(|r| {
                    let listed = r.platform == platform && r.kind == stays::Kind::Stay;
                    listed && (platform == Platform::Vrbo || r.status != Status::Pending)
                });
                if taken {
                    nights.insert((listing, night));
                }
            }
        }
        nights
    }

    fn book(&self, listing: usize, from: u64, nights: u64, platform: Platform) -> u64 {
        let mut stays = self.simulator.stays().lock();
        let check_in = stays.today(listing) + Days::new(from);
        let check_out = check_in + Days::new(nights);
        let (kind, status) = (stays::Kind::Stay, Status::Confirmed);
        stays.book(Booking { listing, check_in, check_out, platform, kind, status }).unwrap()
    }
}

/// Days of changes, outages and kills, in both sites' calendars: at no moment is a night lost that is taken, and once the
/// sites are well again exactly the right nights are taken.
#[tokio::test]
async fn whatever_a_site_does_the_nights_come_out_right() {
    const GLITCHES: [Glitch; 9] = [
        Glitch::NoEvents,
        Glitch::Nothing,
        Glitch::Html,
        Glitch::Truncated,
        Glitch::CutBody,
        Glitch::DuplicateIds,
        Glitch::Status(500),
        Glitch::Status(404),
        Glitch::Redirect,
    ];
    for (connector, platform, seed) in [
        ("airbnb", Platform::Airbnb, 1),
        ("vrbo", Platform::Vrbo, 2),
        ("airbnb", Platform::Airbnb, 3),
        ("vrbo", Platform::Vrbo, 4),
        ("airbnb", Platform::Airbnb, 5),
        ("vrbo", Platform::Vrbo, 6),
    ] {
        let options = Options { legacy: seed == 3, etag: seed != 4, stretches: seed > 4, ..Options::default() };
        let mut rig = Rig::start(connector, seed, 8, 14, options).await;
        let mut dice = seed;
        let mut roll = |sides: u64| {
            dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (dice >> 33) % sides
        };
        for round in 0..90 {
            for _ in 0..roll(4) {
                rig.simulator.stays().lock().mutate();
            }
            rig.simulator.behave();
            if roll(3) == 0 {
                let glitch = GLITCHES[roll(9) as usize];
                rig.simulator.misbehave(Rule::always(glitch).every(1 + roll(2) as usize));
            }
            let (before, truth) = (rig.nights(), rig.truth(platform));
            let killed_after = if roll(5) == 0 { 1 + roll(3) as usize } else { usize::MAX };
            rig.poll_until(killed_after).await;
            let after = rig.nights();
            let lost: Vec<_> = before.intersection(&truth).filter(|night| !after.contains(night)).collect();
            assert!(lost.is_empty(), "{connector} {seed}, round {round}: lost {lost:?}");
            rig.pass(TimeDelta::minutes(5 + roll(90) as i64));
            if round % 30 == 29 {
                rig.settle().await;
                assert_eq!(rig.nights(), rig.truth(platform), "{connector} {seed}, after round {round}");
            }
        }
    }
}

#[tokio::test]
async fn no_bad_answer_cancels_anything() {
    for glitch in [
        Glitch::NoEvents,
        Glitch::Nothing,
        Glitch::Html,
        Glitch::Truncated,
        Glitch::CutBody,
        Glitch::Status(403),
        Glitch::Status(404),
        Glitch::Status(500),
        Glitch::Redirect,
    ] {
        let mut rig = Rig::start("airbnb", 5, 2, 14, Options::default()).await;
        rig.poll().await;
        let before = rig.table.clone();
        rig.simulator.misbehave(Rule::always(glitch));
        for _ in 0..3 {
            rig.pass(TimeDelta::minutes(100));
            let reading = rig.poll().await;
            assert!(reading.rows.is_empty(), "{glitch:?}: {:?}", reading.rows);
            match glitch {
                Glitch::NoEvents => assert!(reading.failed.is_empty()),
                _ => assert_eq!(reading.failed.len(), 2, "{glitch:?}"),
            }
            for (_, fault) in &reading.failed {
                let text = format!("{fault:?} {}", fault.chain());
                assert!(!text.contains("calendar/ical") && !text.contains("s="), "{glitch:?}: {text}");
            }
        }
        assert_eq!(rig.table, before, "{glitch:?}");
    }
}

/// A calendar that is empty for good is believed in the end.
#[tokio::test]
async fn what_stays_missing_is_gone() {
    let mut rig = Rig::start("airbnb", 5, 1, 0, Options::default()).await;
    let numbers: Vec<u64> = (0..5).map(|n| rig.book(0, 10 + n * 5, 3, Platform::Airbnb)).collect();
    rig.poll().await;
    assert_eq!(rig.nights().len(), 15);

    // One of five: two answers, an hour apart. The second one says only that nothing has changed.
    rig.simulator.stays().lock().cancel(numbers[0], true);
    assert_eq!(rig.poll().await.gone(), [] as [String; 0]);
    rig.pass(TimeDelta::minutes(30));
    assert_eq!(rig.poll().await.gone(), [] as [String; 0], "too soon");
    rig.pass(TimeDelta::minutes(31));
    let reading = rig.poll().await;
    assert_eq!(reading.gone(), [airbnb_uid(rig.simulator.stays().lock().reservation(numbers[0]).unwrap(), 0)]);
    assert_eq!(reading.reservations()[0]["status"], "disappeared");
    assert_eq!(rig.simulator.requests().iter().filter(|r| r.status == 304).count(), 2);

    // All the others at once: that looks like a bad answer, and takes four of them over six hours.
    numbers[1..].iter().for_each(|number| _ = rig.simulator.stays().lock().cancel(*number, true));
    for passed in 0..6 {
        let reading = rig.poll().await;
        assert_eq!(reading.gone().len(), 0, "after {passed} hours");
        assert_eq!(reading.notes.iter().filter(|n| n.topic == "doubtful_feed").count(), usize::from(passed == 0));
        rig.pass(TimeDelta::hours(1));
    }
    assert_eq!(rig.poll().await.gone().len(), 4);

    // What comes back comes back.
    let again = rig.book(0, 10, 3, Platform::Airbnb);
    rig.poll().await;
    assert_eq!(rig.nights(), rig.truth(Platform::Airbnb));
    assert!(again > numbers[4]);
}

#[tokio::test]
async fn a_stay_keeps_its_id_when_its_dates_change() {
    for (connector, platform) in [("airbnb", Platform::Airbnb), ("vrbo", Platform::Vrbo)] {
        let mut rig = Rig::start(connector, 9, 1, 0, Options::default()).await;
        // Two stays that have nothing to do with it.
        rig.book(0, 40, 4, platform);
        rig.book(0, 50, 4, platform);
        let number = rig.book(0, 10, 4, platform);
        rig.poll().await;
        let id = {
            let stays = rig.simulator.stays().lock();
            let r = stays.reservation(number).unwrap();
            if connector == "vrbo" { vrbo_uid(r, 0, true) } else { airbnb_uid(r, 0) }
        };
        for shift in [2, 9, 4] {
            let (from, until) = {
                let mut stays = rig.simulator.stays().lock();
                let from = stays.today(0) + Days::new(10 + shift);
                assert!(stays.move_dates(number, from, from + Days::new(5)));
                (from.to_string(), (from + Days::new(5)).to_string())
            };
            rig.pass(TimeDelta::minutes(20));
            let reading = rig.poll().await;
            let rows = reading.reservations();
            assert_eq!(rows.len(), 1, "{connector}");
            assert_eq!((&rows[0]["reservation_id"], &rows[0]["check_in"], &rows[0]["check_out"]), (&id, &from, &until));
        }
        assert_eq!(rig.table.len(), 3 + usize::from(connector == "airbnb"), "{connector}: Airbnb's far block");
        // A second reading over the same state finds nothing to tell.
        assert_eq!(rig.poll().await.rows, []);
        rig.simulator.stays().lock().cancel(number, false);
        rig.settle().await;
        assert!(!rig.table.keys().any(|(known, _)| *known == id));
        assert_eq!(rig.nights(), rig.truth(platform));
    }
}

#[tokio::test]
async fn languages_and_formats_say_the_same() {
    let rows = async |connector: &str, options: Options| {
        let rig = Rig::start(connector, 11, 4, 14, options).await;
        // Someone has asked and not been answered yet.
        let asked = rig.book(0, 200, 3, Platform::Vrbo);
        rig.simulator.stays().lock().reservations[asked as usize].status = Status::Pending;
        let mut reading = read(&*rig.source, Read::Snapshot, None, usize::MAX).await;
        for (_, row) in &mut reading.rows {
            // The site's own words.
            row.remove("title");
            row.remove("notes");
            if row.get("type").is_some_and(|kind| kind == "blocked") {
                row.remove("reservation_id");
            }
        }
        reading.rows
    };
    let english = rows("vrbo", Options::default()).await;
    let of = |kind: &str| english.iter().filter(|(_, row)| row.get("type").is_some_and(|k| k == kind)).count();
    let found = (of("reserved"), of("tentative"), of("blocked"));
    assert!(found.0 > 3 && found.1 > 0 && found.2 > 20, "{found:?}");
    for locale in Locale::ALL {
        assert_eq!(rows("vrbo", Options { locale, ..Options::default() }).await, english, "{locale:?}");
    }
    let current = rows("airbnb", Options::default()).await;
    assert!(current.iter().filter(|(_, row)| row.contains_key("external_code")).count() > 3);
    assert_eq!(rows("airbnb", Options { legacy: true, ..Options::default() }).await, current);
    let text = format!("{current:?}");
    assert!(!text.contains("Last 4") && !text.contains("Phone"), "digits of a phone");
}

#[tokio::test]
async fn a_feed_is_read_by_a_browser_with_the_right_token_only() {
    let rig = Rig::start("airbnb", 5, 1, 14, Options::default()).await;
    let wrong = rig.simulator.airbnb_url(0).replace("?s=", "?s=0");
    secret(rig.dir.path(), "feed0", &wrong);
    let source = open("airbnb", &rig.settings, &rig.clock).await;
    let fault = source.check().await.unwrap_err();
    assert!(fault.chain().contains("a web page came where a calendar was expected"), "{}", fault.chain());
    assert!(!fault.chain().contains("s=0"));

    // Without a word from whoever runs it, nothing inside the network is called.
    let mut settings = rig.settings.clone();
    settings["allow_private"] = false.into();
    for host in ["127.0.0.1", "localhost", "[::ffff:127.0.0.1]"] {
        secret(rig.dir.path(), "feed0", &rig.simulator.airbnb_url(0).replace("127.0.0.1", host));
        let calls = rig.simulator.requests().len();
        let fault = open("airbnb", &settings, &rig.clock).await.check().await.unwrap_err();
        assert!(fault.chain().contains("inside a private network"), "{host}: {}", fault.chain());
        assert_eq!(rig.simulator.requests().len(), calls, "{host}");
    }

    secret(rig.dir.path(), "feed0", "not an address: s3cr3t");
    let env = Env::default();
    let fault = connectors::find("airbnb").unwrap().open(rig.settings.clone(), env).await.map(|_| ()).unwrap_err();
    assert!(!format!("{fault:?}").contains("s3cr3t") && fault.chain().contains("feed `0`"), "{fault:?}");
}

#[tokio::test]
async fn settings_that_cannot_work_are_refused() {
    for (settings, reason) in [
        (json!({}), "needs `feeds`"),
        (json!({ "path": "a", "url": "https://a.example/" }), "not both"),
        (json!({ "url": "ftp://a.example/" }), "must be an `http` or `https` address"),
        (json!({ "path": "a", "feeds": [{ "listing": "1", "path": "b" }] }), "needs `feeds`"),
        (json!({ "feeds": [{ "listing": "1" }] }), "exactly one of `url` and `path`"),
        (json!({ "feeds": [{ "listing": "1", "path": "a" }, { "listing": "1", "path": "b" }] }), "two feeds"),
        (json!({ "feeds": [{ "listing": "1", "path": "a", "zone": "Mars" }] }), "there is no zone `Mars`"),
        (json!({ "feeds": [{ "listing": "1", "url": "https://a.example/?s=1" }] }), "by reference"),
    ] {
        let fault = connectors::find("ical").unwrap().open(settings, Env::default()).await.map(|_| ()).unwrap_err();
        assert!(fault.chain().contains(reason), "{}", fault.chain());
    }
    for (connector, partner) in [
        (
            "airbnb",
            json!({ "unverified": false, "api_key": "env:A", "api_secret": "env:A", "refresh_token": "env:A", "listings": [] }),
        ),
        ("vrbo", json!({ "unverified": false, "passwords": ["env:A"] })),
    ] {
        let fault = connectors::find(connector).unwrap().open(json!({ "partner": partner }), Env::default()).await;
        assert!(fault.map(|_| ()).unwrap_err().hint.unwrap().contains("unverified = true"));
    }
}

fn rules() -> Rules {
    Rules { listing: "L".to_owned(), scope: Some("L".to_owned()), dialect: None, zone: None, otherwise: Kind::Blocked }
}

/// Id, segment, dates, kind, title, whether it is called off.
type Told = (String, u32, String, String, Kind, Option<String>, bool);

fn items(bytes: &[u8]) -> Vec<Told> {
    let feed = Feed::read(bytes, &rules()).unwrap();
    let item = |i: connectors::ical::feed::Item| {
        let (a, b) = (i.nights.check_in.to_string(), i.nights.check_out.to_string());
        (i.id, i.segment, a, b, i.meaning.kind, i.meaning.title, i.cancelled)
    };
    feed.items.into_iter().map(item).collect()
}

fn calendar(product: &str, events: &[&str]) -> String {
    let events: String =
        events.iter().map(|e| format!("BEGIN:VEVENT\n{}\nEND:VEVENT\n", e.replace("; ", "\n"))).collect();
    format!("BEGIN:VCALENDAR\nPRODID:{product}\n{events}END:VCALENDAR\n")
}

#[test]
fn repeated_ids_become_segments_or_the_newest_counts() {
    let feed = calendar(
        "x",
        &[
            "UID:a; DTSTART:20261001; DTEND:20261004; SUMMARY:Reserved",
            "UID:a; DTSTART:20261001; DTEND:20261004; SUMMARY:Reserved",
            "UID:a; DTSTART:20261006; DTEND:20261008; SUMMARY:Reserved",
            "UID:b; DTSTART:20261010; DTEND:20261014; SUMMARY:Reserved; SEQUENCE:2",
            "UID:b; DTSTART:20261011; DTEND:20261012; SUMMARY:Reserved; SEQUENCE:1",
            "UID:c; DTSTART:20261020; DTEND:20261021; SUMMARY:Reserved; STATUS:CANCELLED",
            "DTSTART:20261025; SUMMARY:Reserved",
            "DTSTART:20261027",
            "UID:d; DTSTART:20261028; RRULE:FREQ=WEEKLY; SUMMARY:Closed",
            "UID:e; DTSTART:20261028; DTEND:20261028",
        ],
    );
    let day = |d: u32| format!("2026-10-{d:02}");
    let reserved = Some("Reserved".to_owned());
    let row = |id: &str, segment, from, until, cancelled| {
        (id.to_owned(), segment, day(from), day(until), Kind::Reserved, reserved.clone(), cancelled)
    };
    let closed = ("L/d".to_owned(), 0, day(28), day(29), Kind::Blocked, Some("Closed".to_owned()), false);
    assert_eq!(
        items(feed.as_bytes()),
        [
            row("a", 0, 1, 4, false),
            row("a", 1, 6, 8, false),
            row("b", 0, 10, 14, false),
            row("c", 0, 20, 21, true),
            row("L/2026-10-25/2026-10-26", 0, 25, 26, false),
            closed
        ]
    );
    let feed = Feed::read(feed.as_bytes(), &rules()).unwrap();
    let refused: Vec<_> = feed.refused.iter().map(|r| (r.uid.as_deref(), r.loaded, r.reason.as_str())).collect();
    assert_eq!(
        refused,
        [
            (None, false, "it has neither `UID` nor `SUMMARY`"),
            (Some("d"), true, "it repeats; only the first time is taken"),
            (Some("e"), false, "it ends before it begins, or lasts no night"),
            (Some("b"), false, "another event with the same `UID` is newer"),
        ]
    );
    assert!(feed.unsure);
}

/// Where closed times may be stays they are given up as slowly; where they are not, at once.
#[test]
fn closed_times_go_at_once_unless_they_may_be_stays() {
    for (product, slow) in
        [("-//Airbnb Inc//Hosting Calendar 1.0//EN", false), ("-//admin.booking.com//EN", true), ("x", true)]
    {
        let event = |uid: &str, month: u32| {
            format!("UID:{uid}; DTSTART:2026{month:02}01; DTEND:2026{month:02}05; SUMMARY:CLOSED")
        };
        let feed = |events: &[String]| {
            let events: Vec<&str> = events.iter().map(String::as_str).collect();
            Feed::read(calendar(product, &events).as_bytes(), &rules()).unwrap()
        };
        let (state, _) = diff(&FeedState::default(), &feed(&[event("a", 9), event("b", 10)]), now());
        let (state, rows) = diff(&state, &feed(&[event("b", 10)]), now());
        assert_eq!(rows.len(), usize::from(!slow), "{product}");
        let (_, rows) = diff(&state, &feed(&[event("b", 10)]), now() + TimeDelta::hours(1));
        assert_eq!(rows.len(), usize::from(slow), "{product}");
    }
}

/// An event that turns unreadable is still there: it must not count as missing.
#[test]
fn an_unreadable_event_is_not_missing() {
    let read = |text: String| Feed::read(text.as_bytes(), &rules()).unwrap();
    let good =
        read(calendar("x", &["UID:a; DTSTART:20261001; SUMMARY:Reserved", "UID:b; DTSTART:20261005; SUMMARY:Closed"]));
    let bad = read(calendar("x", &["UID:a; DTSTART:2026; SUMMARY:Reserved", "UID:b; DTSTART:2026; SUMMARY:Closed"]));
    let (mut state, rows) = diff(&FeedState::default(), &good, now());
    assert_eq!(rows.len(), 2);
    for hours in 0..20 {
        let (next, rows) = diff(&state, &bad, now() + TimeDelta::hours(hours));
        assert!(rows.is_empty());
        state = next;
    }
    let (_, rows) = diff(&state, &good, now());
    assert!(rows.is_empty(), "nothing has changed");
}

#[test]
fn documents_that_are_no_whole_calendar_are_faults() {
    for (text, reason) in [
        ("", "is empty"),
        ("\u{feff} \r\n", "is empty"),
        ("<!doctype html><html></html>", "a web page"),
        ("{\"error\":1}", "JSON"),
        ("UID:x\nEND:VCALENDAR", "outside"),
        ("hello", "outside"),
        ("BEGIN:VCALENDAR\nVERSION:2.0\n", "breaks off"),
        ("BEGIN:VCALENDAR\nEND:VEVENT\nEND:VCALENDAR", "ends `VEVENT` where `VCALENDAR` is open"),
        ("BEGIN:VCALENDAR\nBEGIN:VEVENT\nEND:VCALENDAR", "ends `VCALENDAR` where `VEVENT` is open"),
        ("BEGIN:VCALENDAR\nEND:VCALENDAR\n<script>", "outside"),
        ("BEGIN:VEVENT\nEND:VEVENT", "outside"),
        (&format!("BEGIN:VCALENDAR\n{}", "BEGIN:X\n".repeat(9)), "nest deeper"),
        (&format!("BEGIN:VCALENDAR\nX:{}\nEND:VCALENDAR", "x".repeat(70_000)), "longer than"),
        (&format!("BEGIN:VCALENDAR\nX:y{}\nEND:VCALENDAR", "\n x".repeat(70_000)), "longer than"),
    ] {
        let fault = Feed::read(text.as_bytes(), &rules()).map(|_| ()).unwrap_err();
        assert!(fault.chain().contains(reason), "{text:.60}: {}", fault.chain());
        assert!(fault.is_retryable(), "the next answer may be right");
    }
}

/// Events with any text in them, as logical lines.
fn lines() -> impl Strategy<Value = Vec<Vec<String>>> {
    let text = "[a-zA-Zéß漢🏠 ,;:()\"-]{0,30}";
    let event =
        (0..60_u64, 1..9_u64, text, prop::bool::ANY, 0..3_u8).prop_map(|(from, nights, text, reserved, form)| {
            let from = NaiveDate::from_ymd_opt(2026, 10, 1).unwrap() + Days::new(from);
            let until = from + Days::new(nights);
            let summary = if reserved { format!("Réservée - {text}") } else { text };
            let escaped = summary.replace('\\', "\\\\").replace(',', "\\,").replace(';', "\\;");
            let (a, b) = (from.format("%Y%m%d"), until.format("%Y%m%d"));
            let dates = match form {
                0 => [format!("DTSTART;VALUE=DATE:{a}"), format!("DTEND;VALUE=DATE:{b}")],
                1 => [
                    format!("DTSTART;X-A=\"b:c;d\";TZID=\"Europe/Paris\":{a}T160000"),
                    format!("DTEND;TZID=Europe/Paris:{b}T100000"),
                ],
                _ => [format!("DTSTART:{a}"), format!("DURATION:P{nights}D")],
            };
            [dates.to_vec(), vec![format!("SUMMARY:{escaped}")]].concat()
        });
    prop::collection::vec(event, 0..6).prop_map(|events| {
        events
            .into_iter()
            .enumerate()
            .map(|(n, mut lines)| {
                lines.push(format!("UID:{n}@homeaway.com"));
                lines
            })
            .collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    /// Line ends, folds at any byte, the order of properties and the case of names change nothing.
    #[test]
    fn how_a_calendar_is_written_does_not_matter(
        events in lines(),
        end in prop::sample::select(vec!["\n", "\r\n", "\r", "\r\r\n"]),
        folds in prop::collection::vec(1..40_usize, 1..20),
        fold in prop::sample::select(vec![' ', '\t']),
        turn in 0..4_usize,
        lower in prop::bool::ANY,
        bom in prop::bool::ANY,
    ) {
        let header = ["BEGIN:VCALENDAR", "PRODID:-//HomeAway.com, Inc.//EN"].map(str::to_owned).to_vec();
        let write = |lines: &[Vec<String>]| {
            let body = lines.iter().flat_map(|l| [vec!["BEGIN:VEVENT".to_owned()], l.clone(), vec!["END:VEVENT".to_owned()]].concat());
            header.iter().cloned().chain(body).chain(["END:VCALENDAR".to_owned()]).collect::<Vec<_>>()
        };
        let plain = write(&events).join("\n");

        let mut turned = events.clone();
        turned.iter_mut().for_each(|lines| { let n = lines.len(); lines.rotate_left(turn % n); });
        let mut bytes = if bom { b"\xEF\xBB\xBF".to_vec() } else { Vec::new() };
        let mut sizes = folds.iter().cycle();
        for line in write(&turned) {
            let line = match line.split_once([':', ';']) {
                Some((name, _)) if lower => format!("{}{}", name.to_lowercase(), &line[name.len()..]),
                _ => line,
            };
            let mut rest = line.as_bytes();
            while rest.len() > *sizes.clone().next().unwrap() {
                let (piece, more) = rest.split_at(*sizes.next().unwrap());
                bytes.extend_from_slice(piece);
                bytes.extend_from_slice(end.as_bytes());
                bytes.push(fold as u8);
                rest = more;
            }
            bytes.extend_from_slice(rest);
            bytes.extend_from_slice(end.as_bytes());
        }
        prop_assert_eq!(items(&bytes), items(plain.as_bytes()));
    }

    /// Nothing that can come brings the reader down, and what breaks off is never taken for a calendar.
    #[test]
    fn garbage_is_refused_or_read(
        events in lines(),
        at in any::<prop::sample::Index>(),
        junk in prop::collection::vec(any::<u8>(), 0..40),
    ) {
        let body: String = events.iter().map(|l| format!("BEGIN:VEVENT\r\n{}\r\nEND:VEVENT\r\n", l.join("\r\n"))).collect();
        let whole = format!("BEGIN:VCALENDAR\r\n{body}END:VCALENDAR").into_bytes();
        let at = at.index(whole.len());
        prop_assert!(Feed::read(&whole[..at], &rules()).is_err());
        let mut damaged = whole.clone();
        damaged.splice(at..(at + junk.len()).min(whole.len()), junk.iter().copied());
        if let Ok(feed) = Feed::read(&damaged, &rules()) {
            let (state, _) = diff(&FeedState::default(), &feed, now());
            let (_, rows) = diff(&state, &feed, now());
            prop_assert!(rows.is_empty());
        }
        let _ = Feed::read(&junk, &rules());
    }
}

/// What can happen to a calendar whose stays come in several stretches.
#[derive(Debug, Clone)]
enum Turn {
    /// A stay of these stretches: nights until it begins (behind the day before), nights.
    Book(Vec<(u64, u64)>),
    /// One stretch of one stay gets other nights.
    Move(usize, u64, u64),
    /// One stretch of one stay goes; the stay goes with its last one.
    Drop(usize),
    /// The stay of that stretch is called off.
    Cancel(usize),
    /// The site gives the stay of that stretch another id.
    Rename(usize),
    /// One answer in which each stretch is missing whose bit is set.
    Glitch(u64),
    /// Days pass.
    Wait(u64),
}

fn turns() -> impl Strategy<Value = Vec<Turn>> {
    let which = 0..64_usize;
    let stretches = prop::collection::vec((0..9_u64, 1..4_u64), 1..4);
    let turn = prop_oneof![
        4 => stretches.prop_map(Turn::Book),
        4 => (which.clone(), 0..9_u64, 1..4_u64).prop_map(|(at, shift, nights)| Turn::Move(at, shift, nights)),
        2 => which.clone().prop_map(Turn::Drop),
        1 => which.clone().prop_map(Turn::Cancel),
        1 => which.prop_map(Turn::Rename),
        3 => any::<u64>().prop_map(Turn::Glitch),
        2 => (0..6_u64).prop_map(Turn::Wait),
    ];
    prop::collection::vec(turn, 1..25)
}

/// A site that lists every stretch under the id of its stay, and what a reader of it has been told.
struct Stretches {
    rotates: bool,
    now: DateTime<Utc>,
    booked: usize,
    /// Id and nights of every stretch.
    truth: Vec<(String, NaiveDate, NaiveDate)>,
    state: FeedState,
    /// By id: what was told last.
    told: BTreeMap<String, Vec<(NaiveDate, NaiveDate)>>,
}

impl Stretches {
    fn today(&self) -> NaiveDate {
        Feed::today(None, self.now)
    }

    fn turn(&mut self, turn: &Turn) -> u64 {
        let at = |at: usize| (!self.truth.is_empty()).then(|| at % self.truth.len());
        match turn {
            Turn::Book(stretches) => {
                let mut day = self.today() + Days::new(1);
                for (wait, nights) in stretches {
                    let from = self.free(day + Days::new(*wait), *nights, None);
                    day = from + Days::new(*nights + 1);
                    self.truth.push((format!("{}@x", self.booked), from, day - Days::new(1)));
                }
                self.booked += 1;
            }
            Turn::Move(which, shift, nights) => {
                // Nobody moves a stay that is over: there is nothing left of it to be told together with.
                let Some(at) = at(*which).filter(|at| self.goes_on(&self.truth[*at].0)) else { return 0 };
                let from = self.free(self.today() + Days::new(*shift), *nights, Some(at));
                (self.truth[at].1, self.truth[at].2) = (from, from + Days::new(*nights));
            }
            Turn::Drop(which) => _ = at(*which).map(|at| self.truth.remove(at)),
            Turn::Cancel(which) => {
                let Some(at) = at(*which) else { return 0 };
                let id = self.truth[at].0.clone();
                self.truth.retain(|(other, ..)| *other != id);
            }
            Turn::Rename(which) => {
                let Some(at) = at(*which).filter(|_| self.rotates) else { return 0 };
                let id = self.truth[at].0.clone();
                for stretch in self.truth.iter_mut().filter(|stretch| stretch.0 == id) {
                    stretch.0 = format!("{}@x", self.booked);
                }
                self.booked += 1;
            }
            Turn::Glitch(missing) => return *missing,
            Turn::Wait(days) => self.now += TimeDelta::days(*days as i64),
        }
        0
    }

    fn goes_on(&self, id: &str) -> bool {
        self.truth.iter().any(|(other, _, until)| other == id && *until > self.today())
    }

    /// The first day from one on from which so many nights are free.
    fn free(&self, from: NaiveDate, nights: u64, except: Option<usize>) -> NaiveDate {
        let others: Vec<_> = (0..).zip(&self.truth).filter(|(at, _)| Some(*at) != except).map(|(_, s)| s).collect();
        // A night between two stretches keeps them from being told apart by their ends alone.
        let taken = |day: &NaiveDate| others.iter().any(|s| s.1 <= *day + Days::new(nights) && *day <= s.2);
        from.iter_days().find(|day| !taken(day)).unwrap()
    }

    fn nights(&self, stretches: impl Iterator<Item = (NaiveDate, NaiveDate)>) -> BTreeSet<NaiveDate> {
        let today = self.today();
        stretches
            .flat_map(|(from, until)| from.iter_days().take_while(move |d| *d < until))
            .filter(|d| *d >= today)
            .collect()
    }

    fn told(&self) -> BTreeSet<NaiveDate> {
        self.nights(self.told.values().flatten().copied())
    }

    fn taken(&self) -> BTreeSet<NaiveDate> {
        self.nights(self.truth.iter().map(|(_, from, until)| (*from, *until)))
    }

    /// Reads an answer that leaves out what is over, and each stretch whose bit is set.
    fn poll(&mut self, missing: u64) {
        let listed: Vec<String> = (0..)
            .zip(&self.truth)
            .filter(|(at, s)| s.2 > self.today() && missing >> (at % 64) & 1 == 0)
            .map(|(_, (id, from, until))| {
                let (from, until) = (from.format("%Y%m%d"), until.format("%Y%m%d"));
                format!("UID:{id}; DTSTART:{from}; DTEND:{until}; SUMMARY:Reserved")
            })
            .collect();
        let listed: Vec<&str> = listed.iter().map(String::as_str).collect();
        let product =
            if self.rotates { "-//HomeAway.com, Inc.//EN" } else { "-//Airbnb Inc//Hosting Calendar 1.0//EN" };
        let feed = Feed::read(calendar(product, &listed).as_bytes(), &rules()).unwrap();
        let (state, rows) = diff(&self.state, &feed, self.now);
        self.state = serde_json::from_str(&serde_json::to_string(&state).unwrap()).unwrap();
        let mut told: BTreeMap<String, Vec<(NaiveDate, NaiveDate)>> = BTreeMap::new();
        for row in rows {
            match row {
                Row::Present(item) => {
                    let told = told.entry(item.id).or_default();
                    assert_eq!(item.segment as usize, told.len(), "stretches are told in order, all of them");
                    told.push((item.nights.check_in, item.nights.check_out));
                }
                Row::Gone { id } => assert!(self.told.remove(&id).is_some(), "{id} went without having come"),
            }
        }
        self.told.extend(told);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    /// Whatever becomes of stays that come in several stretches, no night that is taken is ever free, and in the end
    /// exactly the right nights are taken.
    #[test]
    fn stretches_under_one_id_are_told_together(turns in turns(), rotates in prop::bool::ANY) {
        let mut site = Stretches {
            rotates,
            now: now(),
            booked: 0,
            truth: Vec::new(),
            state: FeedState::default(),
            told: BTreeMap::new(),
        };
        for turn in &turns {
            let before = site.told();
            let missing = site.turn(turn);
            site.poll(missing);
            let (after, taken) = (site.told(), site.taken());
            let lost: Vec<_> = taken.iter().filter(|n| (missing == 0 || before.contains(n)) && !after.contains(n)).collect();
            prop_assert!(lost.is_empty(), "{turn:?} lost {lost:?}");
            site.now += TimeDelta::minutes(10);
            if missing != 0 {
                site.poll(0);
            }
        }
        // What is over stays told while the stay goes on.
        for (id, from, until) in &site.truth {
            if site.goes_on(id) && !rotates {
                prop_assert!(site.told[id].contains(&(*from, *until)), "{id} from {from} to {until}");
            }
        }
        for _ in 0..5 {
            site.poll(0);
            site.now += TimeDelta::hours(2);
        }
        prop_assert_eq!(site.told(), site.taken());
    }
}

/// A stretch may go for good while the answer says nothing new: until that is clear, whole answers are asked for.
#[tokio::test]
async fn a_stay_that_loses_a_stretch_keeps_the_others() {
    let options = Options { stretches: true, ..Options::default() };
    let mut rig = Rig::start("airbnb", 5, 1, 0, options).await;
    rig.book(0, 40, 4, Platform::Airbnb);
    let number = rig.book(0, 10, 5, Platform::Airbnb);
    rig.poll().await;
    let stretches = |rig: &Rig| rig.table.values().filter(|row| row["type"] != "blocked").count();
    assert_eq!(stretches(&rig), 4);
    {
        let mut stays = rig.simulator.stays().lock();
        let from = stays.today(0) + Days::new(10);
        assert!(stays.move_dates(number, from, from + Days::new(2)));
    }
    assert_eq!(rig.poll().await.rows, [], "a stretch that is missing once is waited for");
    rig.pass(TimeDelta::minutes(61));
    let reading = rig.poll().await;
    let told: Vec<_> = reading.reservations().iter().map(|r| (&r["check_in"], r.contains_key("presence"))).collect();
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(!told[0].1 && reading.reservations()[0].contains_key("external_code"));
    assert_eq!(rig.nights(), rig.truth(Platform::Airbnb));
    assert_eq!(stretches(&rig), 3);
    rig.poll().await;
    let codes: Vec<u16> = rig.simulator.requests().iter().map(|r| r.status).collect();
    assert_eq!(codes, [200, 200, 200, 304], "half a stay is no reason to be content with `not modified`");
}

/// Ten thousand events: the same answer tells nothing, and changed ones are found among them.
#[test]
fn a_large_feed_is_compared_event_by_event() {
    let feed = |shift: u64| {
        let day = NaiveDate::from_ymd_opt(2026, 6, 2).unwrap();
        let event = |n: u64| {
            let from = day + Days::new(3 * n + if n.is_multiple_of(100) { shift } else { 0 });
            let uid = if n.is_multiple_of(100) && shift > 0 { format!("{n}-new") } else { n.to_string() };
            format!(
                "UID:{uid}; DTSTART:{}; DTEND:{}; SUMMARY:Reserved - G{}",
                from.format("%Y%m%d"),
                (from + Days::new(1)).format("%Y%m%d"),
                n % 9
            )
        };
        let events: Vec<String> = (0..10_000).map(event).collect();
        let text = calendar("-//HomeAway.com, Inc.//EN", &events.iter().map(String::as_str).collect::<Vec<_>>());
        Feed::read(text.as_bytes(), &rules()).unwrap()
    };
    let (state, rows) = diff(&FeedState::default(), &feed(0), now());
    assert_eq!(rows.len(), 10_000);
    let (same, rows) = diff(&state, &feed(0), now());
    assert!(rows.is_empty() && same == state);
    let (_, rows) = diff(&state, &feed(1), now());
    let ids: BTreeSet<String> = rows
        .iter()
        .map(|row| match row {
            Row::Present(item) => item.id.clone(),
            Row::Gone { id } => panic!("{id} is gone"),
        })
        .collect();
    assert_eq!(ids, (0..100).map(|n| (n * 100).to_string()).collect(), "known again under new ids");
}
