//! Guesty, read as an account's owner would and compared with the world behind the simulator.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use arrow::array::{Array, AsArray};
use axum::http::{HeaderMap, HeaderName};
use catalog::store::PgTokens;
use catalog::{Blame, Component, Cursor, Env, Fault, Retry};
use chrono::{DateTime, Days, TimeDelta, Utc};
use connectors::guesty::Guesty;
use connectors::{Delivery, Event, Read, Refused, Request, Source, guarded};
use fixtures::guesty::{self, Misbehaviour, Options, Rule, Sending, Simulator, block_id, reservation_id};
use fixtures::stays::{Booking, Kind, Manager, Platform, Shape, Shared, Status, Stays};
use futures::StreamExt;
use kit::db::TestDb;
use serde_json::{Value, json};
use tempfile::TempDir;

/// An account of a world, and how it is opened.
struct Account {
    sim: Simulator,
    settings: Value,
    env: Env,
    _dir: TempDir,
}

const SIGNING: &str = "whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIz";

impl Account {
    async fn new(seed: u64, api: &str, options: Options) -> Self {
        let now = DateTime::from_timestamp(1_790_000_000, 0).unwrap();
        let world = Shared::new(Stays::new(Shape { seed, listings: 12, stays: 16, now }));
        let sim = Simulator::start(world, options).await.unwrap();
        let dir = tempfile::tempdir().unwrap();
        let secret = |name: &str, value: &str| {
            let path = dir.path().join(name);
            std::fs::write(&path, value).unwrap();
            format!("file:{}", path.display())
        };
        let settings = json!({
            "base_url": sim.base_url(),
            "token_url": sim.token_url(),
            "client_id": secret("id", sim.client_id()),
            "client_secret": secret("secret", sim.client_secret()),
            "webhook_secrets": [secret("old", "whsec_b2xkLW9sZC1vbGQtb2xkLW9sZC1vbGQ="), secret("new", SIGNING)],
            "api": api,
            "rescan_secs": 0,
            "calendar_secs": 0,
            "calendar_days": 120,
            "limits": {
                "calls_per_sec": 100_000, "burst": 1000, "calls_per_min": 10_000_000, "calls_per_hour": 10_000_000,
                "backoff_ms": 1,
            },
        });
        Self { sim, settings, env: Env { connection: "harbor".to_owned(), ..Env::default() }, _dir: dir }
    }

    fn with(mut self, key: &str, value: impl Into<Value>) -> Self {
        self.settings[key] = value.into();
        self
    }

    async fn open(&self) -> Box<dyn Source> {
        Guesty::open(serde_json::from_value(self.settings.clone()).unwrap(), self.env.clone()).await.unwrap()
    }

    fn world(&self) -> &Shared {
        self.sim.stays()
    }
}

type Row = BTreeMap<String, String>;

#[derive(Debug, Default)]
struct Reading {
    rows: Vec<(String, Row)>,
    cursors: Vec<Cursor>,
    notes: Vec<String>,
    missing: Vec<&'static str>,
    complete: bool,
    fault: Option<Fault>,
}

/// Reads until the end, or until so many events have come.
async fn read(source: &dyn Source, read: Read, resume: Option<Cursor>, events: usize) -> Reading {
    let stream = source.streams().remove(0);
    let request = Request { stream: "bookings".to_owned(), read, resume, only: Vec::new() };
    let mut left = guarded(&stream, source.read(request)).take(events);
    let mut reading = Reading::default();
    // Rows behind the last checkpoint are lost with a reading that is cut short.
    let mut pending = Vec::new();
    while let Some(event) = left.next().await {
        match event {
            Ok(Event::Rows { dataset, batch }) => {
                for row in 0..batch.num_rows() {
                    let schema = batch.schema();
                    let cell = |(i, c): (usize, &Arc<dyn Array>)| {
                        let c = c.as_string::<i32>();
                        (!c.is_null(row)).then(|| (schema.field(i).name().clone(), c.value(row).to_owned()))
                    };
                    let cells = batch.columns().iter().enumerate().filter_map(cell).collect();
                    pending.push((dataset.to_string(), cells));
                }
            }
            Ok(Event::Checkpoint(cursor)) => {
                reading.rows.append(&mut pending);
                // A cursor has to survive being stored.
                reading.cursors.push(serde_json::from_str(&serde_json::to_string(&cursor).unwrap()).unwrap());
            }
            Ok(Event::Note(note)) => reading.notes.push(note.topic),
            Ok(Event::Complete { missing, .. }) => (reading.complete, reading.missing) = (true, missing),
            Ok(_) => {}
            Err(fault) => reading.fault = Some(fault),
        }
    }
    reading
}

async fn whole(source: &dyn Source, what: Read) -> Reading {
    let reading = read(source, what, None, usize::MAX).await;
    assert!(reading.fault.is_none(), "{:?}", reading.fault);
    reading
}

/// The rows that are there, by what names them.
#[derive(Debug, Default)]
struct Table {
    stays: BTreeMap<(String, String), Row>,
    listings: BTreeMap<String, Row>,
    guests: BTreeMap<String, Row>,
}

impl Table {
    fn apply(&mut self, reading: &Reading) {
        fn set<K: Ord>(map: &mut BTreeMap<K, Row>, key: K, row: &Row) {
            match row.get("presence").map(String::as_str) {
                Some("gone") => _ = map.remove(&key),
                _ => _ = map.insert(key, row.clone()),
            }
        }
        for (dataset, row) in &reading.rows {
            assert_eq!((row["connection"].as_str(), row["connector"].as_str()), ("harbor", "guesty"));
            match dataset.as_str() {
                "channel_reservations" => {
                    set(&mut self.stays, (row["reservation_id"].clone(), row["segment"].clone()), row);
                }
                "channel_listings" => set(&mut self.listings, row["listing_id"].clone(), row),
                _ => set(&mut self.guests, row["guest_id"].clone(), row),
            }
        }
    }

    /// What each row says, as far as the world knows it too. Guests' own data is looked at by itself.
    fn told(&self) -> BTreeMap<(String, String), Row> {
        let known = |column: &str| {
            !matches!(column, "connection" | "connector" | "identity" | "segment" | "reservation_id")
                && !column.starts_with("guest_n")
                && !matches!(column, "guest_first_name" | "guest_last_name" | "guest_phone" | "guest_locale")
        };
        let keep = |row: &Row| row.iter().filter(|(c, _)| known(c)).map(|(c, v)| (c.clone(), v.clone())).collect();
        self.stays.iter().map(|(key, row)| (key.clone(), keep(row))).collect()
    }
}

/// What a correct reader must know.
fn truth(world: &Stays, v3: bool, options: &Options, today: chrono::NaiveDate) -> BTreeMap<(String, String), Row> {
    let mut all = BTreeMap::new();
    let mut put = |id: String, segment: usize, cells: Vec<(&str, Option<String>)>| {
        let row = cells.into_iter().filter_map(|(c, v)| Some((c.to_owned(), v?))).collect();
        all.insert((id, segment.to_string()), row);
    };
    let manager = |r: &&fixtures::stays::Reservation| world.listings[r.listing].manager == Manager::Guesty;
    for r in world.reservations.iter().filter(|r| !r.deleted).filter(manager) {
        if r.kind == Kind::Block {
            for (listing, from, until) in guesty::stretches(r) {
                // A calendar tells closed nights, from two days ago to the end of its window.
                if !r.status.occupies() || until <= today - Days::new(2) {
                    continue;
                }
                let listing = &world.listings[listing].manager_id;
                put(
                    format!("{listing}:{}", block_id(r.number)),
                    0,
                    vec![
                        ("type", Some("block".to_owned())),
                        ("status", Some("unavailable".to_owned())),
                        ("listing_id", Some(listing.clone())),
                        ("check_in", Some(from.to_string())),
                        ("check_out", Some(until.to_string())),
                    ],
                );
            }
            continue;
        }
        let site = r.platform == Platform::BookingCom;
        if v3 && options.omit_booking_com && site {
            continue;
        }
        let money = !v3 || !(r.cancelled_at.is_some() || matches!(r.kind, Kind::Hold | Kind::Owner));
        let written = !v3 || !options.drop_notes;
        for (segment, (listing, from, until)) in guesty::stretches(r).into_iter().enumerate() {
            let amount = |cents| (money && segment == 0).then(|| guesty::amount(cents));
            let text = |t: &str| Some(t.to_owned());
            let mut cells = vec![
                ("external_code", text(&r.code)),
                ("platform", text(guesty::platform(r))),
                ("status", text(if v3 { guesty::status_v3(r) } else { guesty::status(r) })),
                ("stay_status", text(guesty::stay_status(r))),
                ("listing_id", text(&world.listings[listing].manager_id)),
                ("check_in", Some(from.to_string())),
                ("check_out", Some(until.to_string())),
                ("check_in_time", guesty::planned_arrival(r).map(str::to_owned)),
                ("adults", Some(r.adults.to_string())),
                ("children", Some(r.children.to_string())),
                ("infants", Some(r.infants.to_string())),
                ("pets", Some(r.pets.to_string())),
                ("guest_count", Some((r.adults + r.children).to_string())),
                ("type", (r.kind == Kind::Owner).then(|| "owner".to_owned())),
                ("hold_until", (r.kind == Kind::Hold).then(|| "twoDays".to_owned())),
                ("subtotal_amount", amount(r.subtotal)),
                ("tax_amount", amount(r.taxes)),
                ("host_payout", amount(r.payout())),
                ("currency", (money && segment == 0).then(|| "USD".to_owned())),
                ("guest_id", guesty::guest_id(r)),
                ("guest_email", r.guest.map(|g| r.alias().unwrap_or_else(|| world.guests[g].email.clone()))),
                ("special_requests", r.special_requests.clone().filter(|_| written)),
                ("notes", r.notes.clone().filter(|_| written)),
                ("booked_at", r.booked_at.map(guesty::instant)),
                ("created_at", Some(guesty::instant(r.created_at))),
                ("updated_at", Some(guesty::instant(r.updated_at))),
                ("cancelled_at", r.cancelled_at.map(guesty::instant)),
                ("cancelled_by", r.cancelled_at.and(text(if r.cancelled_by_guest { "GUEST" } else { "TEAM_MEMBER" }))),
            ];
            if !v3 {
                cells.push(("paid_amount", amount(r.paid)));
                cells.push(("balance_amount", amount(r.total() - r.paid)));
            }
            put(reservation_id(r.number), segment, cells);
        }
    }
    all
}

fn same(told: &BTreeMap<(String, String), Row>, truth: &BTreeMap<(String, String), Row>, place: &str) {
    for key in told.keys().chain(truth.keys()).collect::<BTreeSet<_>>() {
        assert_eq!(told.get(key), truth.get(key), "{place}: {key:?}");
    }
}

/// Whatever happens between two readings, what was read is the world: both APIs, any page size, vendors that stumble.
#[tokio::test]
async fn what_was_read_is_what_is_there_after_any_changes() {
    let short = Options { short_pages: true, omit_booking_com: true, ..Options::default() };
    let mute = Options { drop_notes: true, ..Options::default() };
    for (seed, api, page, options) in [
        (1, "legacy", 100, Options::default()),
        (2, "legacy", 3, Options::default()),
        (3, "v3", 100, Options::default()),
        (4, "v3", 4, short),
        (5, "v3", 25, mute),
        (6, "legacy", 1, Options { expired_status: 403, ..Options::default() }),
    ] {
        let account = Account::new(seed, api, options.clone()).await.with("page_size", page);
        let (mut table, mut since) = (Table::default(), None);
        let mut gone = 0;
        for round in 0..10 {
            match round {
                3 => account.sim.misbehave(Rule::on("/v1/*", Misbehaviour::Status(502)).every(4).times(4)),
                5 => account.sim.misbehave(
                    Rule::on("/v1/*", Misbehaviour::TooManyRequests { retry_after: "0".to_owned() }).every(3).times(4),
                ),
                7 => account.sim.misbehave(Rule::on("/v1/*", Misbehaviour::Malformed).every(4).times(3)),
                8 => account.sim.misbehave(Rule::on("/v1/*", Misbehaviour::CutBody).every(4).times(3)),
                _ => {}
            }
            // A fresh source each time: all that is remembered is in the cursor.
            let reading = whole(&*account.open().await, Read::Changes { since: since.clone() }).await;
            for (_, row) in reading.rows.iter().filter(|(_, row)| row.contains_key("presence")) {
                let last = row.get("reservation_id").and_then(|id| table.stays.get(&(id.clone(), "0".to_owned())));
                let last = last.and_then(|row| row.get("updated_at"));
                assert!(last.is_none_or(|last| row["updated_at"] > *last), "a late change would undo it");
                gone += 1;
            }
            table.apply(&reading);
            since = reading.cursors.last().cloned();
            let mut world = account.world().lock();
            let place = format!("seed {seed}, {api}, pages of {page}, round {round}");
            let today = world.now.date_naive();
            let (mut told, mut truth) = (table.told(), truth(&world, api == "v3", &options, today));
            if round > 0 {
                // What is over and done is not looked at again, and nobody says that it was deleted.
                let open = (today - Days::new(2)).to_string();
                told.retain(|_, row| row["check_out"] >= open);
                truth.retain(|_, row| row["check_out"] >= open);
            }
            assert!(truth.len() > 8, "{place}: there is little to compare");
            same(&told, &truth, &place);
            for _ in 0..if round == 6 { 0 } else { 40 } {
                world.mutate();
            }
            world.pass(TimeDelta::minutes(50));
        }
        assert!(gone > 0, "seed {seed}: nothing was ever deleted");
        let world = account.world().lock();
        let managed = world.listings.iter().filter(|l| l.manager == Manager::Guesty);
        for listing in managed {
            let row = &table.listings[&listing.manager_id];
            assert_eq!(row["time_zone"], listing.zone.name());
            let ids: Value = serde_json::from_str(&row["channel_ids"]).unwrap();
            assert_eq!(ids["airbnb2"], listing.airbnb_id.as_str(), "no digit is lost");
        }
        for row in table.stays.values().filter(|row| row.contains_key("guest_id")) {
            let guest = &table.guests[&row["guest_id"]];
            let emails: Vec<String> = serde_json::from_str(&guest["emails"]).unwrap();
            assert_eq!(emails[0], row["guest_email"]);
            assert_eq!(guest["full_name"], row["guest_name"]);
            assert!(row.contains_key("guest_phone") && row.contains_key("guest_locale"));
        }
    }
}

/// Nothing that opens a door, pays or identifies a person for the state is in any row, or even asked for where one can ask.
#[tokio::test]
async fn secrets_of_the_vendor_stay_there() {
    for api in ["legacy", "v3"] {
        let account = Account::new(9, api, Options::default()).await;
        let reading = whole(&*account.open().await, Read::Snapshot).await;
        assert!(reading.complete && reading.rows.len() > 30);
        let text = format!("{:?} {:?}", reading.rows, reading.cursors);
        for secret in ["KEY-7731", "GATE-9911", "PASS-X1234", "IDNO-5678", "1980-02-30", "4242", "TOKEN-", "41&sQ7"] {
            assert!(!text.contains(secret), "{api}: {secret}");
        }
        for request in account.sim.requests() {
            for name in ["keyCode", "customFields", "passport", "payments", "identityNumber"] {
                assert!(!request.query.contains(name), "{api}: {} asks for {name}", request.path);
            }
        }
    }
}

/// Wherever a reading is killed, the next one goes on behind its last checkpoint, repeats two pages at most, and ends with
/// the same rows.
#[tokio::test]
async fn a_killed_reading_goes_on_where_it_was() {
    for api in ["legacy", "v3"] {
        let account = Account::new(4, api, Options::default()).await.with("page_size", 10);
        let calls = || {
            let data = account.sim.requests().into_iter().filter(|r| r.path.starts_with("/v1"));
            data.map(|r| format!("{}?{}", r.path, r.query)).collect::<Vec<_>>()
        };
        let source = account.open().await;
        let calm = whole(&*source, Read::Changes { since: None }).await;
        let mut kept = Table::default();
        kept.apply(&calm);
        for events in (1..60).step_by(3) {
            account.sim.forget_requests();
            let cut = read(&*source, Read::Changes { since: None }, None, events).await;
            let before = calls();
            let rest = read(&*source, Read::Changes { since: None }, cut.cursors.last().cloned(), usize::MAX).await;
            assert!(rest.fault.is_none(), "{:?}", rest.fault);
            let again = calls()[before.len()..].iter().filter(|call| before.contains(call)).count();
            // A page of v3 is a search, by ids, money and guests.
            let page = if api == "v3" { 4 } else { 2 };
            assert!(again <= 2 * page, "{api}: {again} calls are made again after {events} events");
            let mut table = Table::default();
            table.apply(&cut);
            table.apply(&rest);
            same(&table.told(), &kept.told(), api);
            assert_eq!(table.listings, kept.listings);
            assert_eq!(table.guests, kept.guests);
        }
    }
}

/// A change that does not move `lastUpdatedAt` is found by the look at everything open, and the look is not taken more often
/// than it is asked for.
#[tokio::test]
async fn what_changes_without_a_word_is_found_by_looking() {
    let account = Account::new(6, "legacy", Options::default()).await.with("rescan_secs", 3600);
    let first = whole(&*account.open().await, Read::Changes { since: None }).await;
    let id = {
        let mut world = account.world().lock();
        let open = |r: &&mut fixtures::stays::Reservation| {
            r.kind == Kind::Stay && r.alive() && r.status == Status::Confirmed && r.listing.is_multiple_of(4)
        };
        let r = world.reservations.iter_mut().filter(open).last().unwrap();
        r.code = "HMSILENT01".to_owned();
        let id = reservation_id(r.number);
        world.pass(TimeDelta::minutes(10));
        id
    };
    let soon = whole(&*account.open().await, Read::Changes { since: first.cursors.last().cloned() }).await;
    assert!(soon.rows.is_empty(), "{:?}", soon.rows);
    account.world().lock().pass(TimeDelta::minutes(55));
    let later = whole(&*account.open().await, Read::Changes { since: soon.cursors.last().cloned() }).await;
    let rows: Vec<_> = later.rows.iter().filter(|(d, _)| d == "channel_reservations").collect();
    assert_eq!(rows.len(), 1);
    assert_eq!((&rows[0].1["reservation_id"], rows[0].1["external_code"].as_str()), (&id, "HMSILENT01"));
}

#[tokio::test]
async fn v3_says_when_booking_com_is_missing() {
    let options = Options { omit_booking_com: true, ..Options::default() };
    let account = Account::new(4, "v3", options).await;
    let reading = whole(&*account.open().await, Read::Snapshot).await;
    assert_eq!(reading.notes, ["booking_com_missing"]);
    // What was not shown must not be taken as gone.
    assert_eq!((reading.complete, &reading.missing[..]), (true, &["channel_reservations"][..]));
    let account = Account::new(4, "v3", Options::default()).await;
    let reading = whole(&*account.open().await, Read::Snapshot).await;
    assert!(reading.notes.is_empty() && reading.missing.is_empty());
    let account = Account::new(4, "legacy", Options { legacy_removed: true, ..Options::default() }).await;
    let reading = read(&*account.open().await, Read::Snapshot, None, usize::MAX).await;
    let fault = reading.fault.unwrap();
    assert_eq!(fault.blame, Blame::User);
    assert!(fault.hint.unwrap().contains("v3"));
}

#[tokio::test]
async fn a_time_in_the_past_is_read_alone() {
    let account = Account::new(5, "legacy", Options::default()).await.with("page_size", 7);
    let (from, until) = {
        let now = account.world().lock().now;
        (now - TimeDelta::days(75), now - TimeDelta::days(15))
    };
    let reading = whole(&*account.open().await, Read::Backfill { from, until }).await;
    let mut table = Table::default();
    table.apply(&reading);
    let world = account.world().lock();
    let inside = world.reservations.iter().filter(|r| guesty::is_reservation(&world, r) && !r.deleted);
    let wanted: BTreeSet<_> =
        inside.filter(|r| (from..until).contains(&r.updated_at)).map(|r| reservation_id(r.number)).collect();
    let found: BTreeSet<_> = table.stays.keys().map(|(id, _)| id.clone()).collect();
    assert!(wanted.len() > 7, "there is little to find");
    assert_eq!(found, wanted);
}

#[tokio::test]
async fn single_objects_are_read_as_they_are_now() {
    for api in ["legacy", "v3"] {
        let account = Account::new(7, api, Options::default()).await;
        let (kept, deleted, guest, listing, block) = {
            let mut world = account.world().lock();
            let from = world.today(0);
            let kept = world.book_next(0, from, 3, Platform::Direct).unwrap();
            let deleted = world.book_next(0, from, 2, Platform::Airbnb).unwrap();
            world.delete(deleted);
            let free = from.iter_days().find(|d| world.free(4, *d, *d + Days::new(2), None)).unwrap();
            let (kind, status, platform) = (Kind::Block, Status::Confirmed, Platform::Direct);
            let booking =
                Booking { listing: 4, check_in: free, check_out: free + Days::new(2), platform, kind, status };
            let block = world.book(booking).unwrap();
            let guest = guesty::guest_id(world.reservation(kept).unwrap()).unwrap();
            let ids = (reservation_id(kept), reservation_id(deleted));
            (ids.0, ids.1, guest, world.listings[4].manager_id.clone(), block)
        };
        let ids = [
            format!("reservation:{kept}"),
            deleted.clone(),
            format!("guest:{guest}"),
            "guest:65cc9999".to_owned(),
            format!("listing:{listing}"),
            "listing:65bb9999".to_owned(),
            format!("calendar:{listing}"),
        ];
        // Its clock is ours here: blocks are asked for from today on.
        let clock = catalog::TestClock::at(account.world().lock().now);
        let env = Env { clock: Arc::new(clock), ..account.env.clone() };
        let source = Guesty::open(serde_json::from_value(account.settings.clone()).unwrap(), env).await.unwrap();
        let reading = whole(&*source, Read::Objects { ids: ids.to_vec() }).await;
        let row = |dataset: &str, column: &str, id: &str| {
            let hit = |(d, row): &&(String, Row)| d == dataset && row.get(column).is_some_and(|v| v == id);
            reading.rows.iter().find(hit).map(|(_, row)| row.clone()).unwrap()
        };
        assert_eq!(row("channel_reservations", "reservation_id", &kept)["guest_id"], guest);
        let gone = row("channel_reservations", "reservation_id", &deleted);
        let columns: Vec<&str> = gone.keys().map(String::as_str).collect();
        assert_eq!(columns, ["connection", "connector", "presence", "reservation_id", "segment", "updated_at"]);
        assert_eq!(row("channel_guests", "guest_id", "65cc9999")["presence"], "gone");
        assert_eq!(row("channel_listings", "listing_id", "65bb9999")["presence"], "gone");
        assert!(row("channel_listings", "listing_id", &listing).contains_key("name"));
        let closed = row("channel_reservations", "reservation_id", &format!("{listing}:{}", block_id(block)));
        assert_eq!(closed["type"], "block");
        for bad in ["reservation:../guests-crud", "car:1", "reservation:"] {
            let reading = read(&*source, Read::Objects { ids: vec![bad.to_owned()] }, None, usize::MAX).await;
            assert_eq!(reading.fault.unwrap().blame, Blame::User, "{bad}");
        }
    }
}

/// Five tokens a day: however many processes open the account, one token is fetched, a refused one is replaced once, and a
/// vendor that gives none is left alone.
#[tokio::test]
async fn processes_share_one_token() {
    let db = TestDb::new().await;
    let mut account = Account::new(1, "legacy", Options { expired_status: 403, ..Options::default() }).await;
    let all = async |account: &mut Account| {
        let mut checks = Vec::new();
        for _ in 0..6 {
            // A pool of its own stands for a process.
            let pool = catalog::store::connect(&db.url, 2).await.unwrap();
            account.env.tokens = Arc::new(PgTokens::new(pool));
            let source = account.open().await;
            checks.push(tokio::spawn(async move { source.check().await }));
        }
        let mut faults = Vec::new();
        for check in checks {
            faults.extend(check.await.unwrap().err());
        }
        faults
    };
    assert!(all(&mut account).await.is_empty());
    assert_eq!(account.sim.tokens_asked(), 1);
    account.sim.revoke_tokens();
    assert!(all(&mut account).await.is_empty());
    assert_eq!(account.sim.tokens_asked(), 2, "a refused token is replaced once for all");
    // The fresh one is refused too: the token is not what is wrong, and asking on would burn the day's five.
    account.sim.revoke_tokens();
    let faults = all(&mut account).await;
    assert_eq!((faults.len(), account.sim.tokens_asked()), (6, 2));
    for fault in &faults {
        assert_eq!(fault.blame, Blame::User);
        assert!(!format!("{fault:?} {:?}", account.env).contains("TOKEN-"));
    }

    let mut account = Account::new(1, "legacy", Options { tokens_a_day: 0, ..Options::default() }).await;
    let faults = all(&mut account).await;
    assert_eq!((faults.len(), account.sim.tokens_asked()), (6, 1), "a refusal is remembered");
    for fault in &faults {
        assert!(matches!(fault.retry, Retry::After(_)), "{fault:?}");
        assert_eq!(fault.blame, Blame::Remote);
    }
    let account = account.with("client_secret", "file:/proc/self/comm");
    let fault = account.open().await.check().await.unwrap_err();
    assert_eq!(fault.blame, Blame::User);
}

/// The account's windows are kept: by pacing, and where the pace is set too fast, by what the answers say is left.
#[tokio::test]
async fn no_call_is_refused_for_coming_too_fast() {
    for limits in [json!({}), json!({ "calls_per_sec": 1000, "burst": 100 })] {
        let options = Options { windows: Some([15, 120, 5000]), ..Options::default() };
        let account = Account::new(2, "legacy", options).await.with("page_size", 4).with("limits", limits.clone());
        whole(&*account.open().await, Read::Changes { since: None }).await;
        let requests = account.sim.requests();
        assert!(requests.len() > 20, "{} calls prove little", requests.len());
        assert!(requests.iter().all(|r| r.status != 429), "{limits}");
    }
}

fn delivery(letter: &guesty::Letter, received_at: DateTime<Utc>) -> Delivery {
    let mut headers = HeaderMap::new();
    for (name, value) in &letter.headers {
        headers.insert(HeaderName::try_from(name).unwrap(), value.parse().unwrap());
    }
    Delivery { headers, body: letter.body.clone().into(), received_at }
}

#[tokio::test]
async fn deliveries_are_checked_and_name_what_to_read_again() {
    let account = Account::new(8, "legacy", Options::default()).await;
    let source = account.open().await;
    let webhook = source.webhook().unwrap();
    let (changes, now) = {
        let mut world = account.world().lock();
        while world.changes.len() < 60 {
            world.mutate();
        }
        (world.changes.clone(), world.now)
    };
    for legacy in [false, true] {
        let sending = Sending { legacy, duplicate: true, reorder: true, ..Sending::default() };
        let letters = account.sim.letters(&changes, SIGNING, sending);
        assert!(letters.len() > 10);
        let mut named = BTreeSet::new();
        for pair in letters.chunks(2) {
            let [one, two] = [0, 1].map(|i| delivery(&pair[i], now));
            assert_eq!(webhook.verify(&one), Ok(()));
            assert_eq!(webhook.identify(&one), webhook.identify(&two), "a repeated delivery is known");
            let decoded = webhook.decode(&one).unwrap();
            assert_eq!((&*decoded.stream, decoded.objects.len(), decoded.revoked), ("bookings", 1, false));
            named.extend(decoded.objects);
        }
        let world = account.world().lock();
        let managed = |number: &u64| {
            let r = world.reservation(*number)?;
            let listing = &world.listings[r.listing];
            (listing.manager == Manager::Guesty).then(|| match guesty::is_reservation(&world, r) {
                true => format!("reservation:{}", reservation_id(r.number)),
                false => format!("calendar:{}", listing.manager_id),
            })
        };
        let wanted: BTreeSet<String> = changes.iter().filter_map(|c| managed(&c.number)).collect();
        assert_eq!(named, wanted);
    }
    let letter = |sending| account.sim.letters(&changes, SIGNING, sending).remove(0);
    let forged = delivery(&letter(Sending { forge: true, ..Sending::default() }), now);
    assert!(matches!(webhook.verify(&forged), Err(Refused::Unverified(_))));
    let old = delivery(&letter(Sending { age_secs: 900, ..Sending::default() }), now);
    assert!(matches!(webhook.verify(&old), Err(Refused::Stale(_))));

    let sent = |body: &str| {
        let mut letter = letter(Sending::default());
        letter.body = body.to_owned();
        delivery(&letter, now)
    };
    for (body, objects) in [
        (r#"{"event":"guest.deleted","guest":{"_id":"65cc01"}}"#, &["guest:65cc01"][..]),
        (r#"{"event":"listing.removed","data":{"_id":"65bb01"}}"#, &["listing:65bb01"]),
        (r#"{"event":"calendar.updated.v2","data":{"listingId":"65bb02"}}"#, &["calendar:65bb02"]),
        (r#"{"event":"listing.calendar.updated","calendar":[{"listingId":"65bb03"}]}"#, &["calendar:65bb03"]),
        (r#"{"event":"reservation_update_shortlist","reservationId":"65aa09"}"#, &["reservation:65aa09"]),
        (r#"{"event":"reservation.messageReceived","message":{"body":"hello"}}"#, &[]),
        (r#"{"event":"task.created","task":{"_id":"1"}}"#, &[]),
        (r#"{"event":"something.new.v9"}"#, &[]),
        (r"{}", &[]),
    ] {
        assert!(webhook.identify(&sent(body)).is_ok(), "{body}");
        assert_eq!(webhook.decode(&sent(body)).unwrap().objects, objects, "{body}");
    }
    for body in [r#"{"event":"reservation.updated.v2","data":{}}"#, r#"{"event":"guest.updated","guestId":"../x"}"#] {
        assert!(webhook.identify(&sent(body)).is_ok());
        assert!(webhook.decode(&sent(body)).is_err(), "{body}");
    }
    for body in ["", "[]", "{", "\u{0}", &"[".repeat(100_000)] {
        assert!(matches!(webhook.identify(&sent(body)), Err(Refused::Malformed(_))));
        assert!(webhook.decode(&sent(body)).is_err());
    }
    let bare = Account::new(8, "legacy", Options::default()).await.with("webhook_secrets", json!([])).open().await;
    let good = delivery(&letter(Sending::default()), now);
    assert!(matches!(bare.webhook().unwrap().verify(&good), Err(Refused::Unverified(_))));
}

/// The simulator's own webhooks: subscribed to through its API, posted to a receiver.
#[tokio::test]
async fn the_simulator_delivers_what_was_subscribed_to() {
    let account = Account::new(8, "legacy", Options { secret_delay: 2, ..Options::default() }).await;
    let received = Arc::new(Mutex::new(Vec::new()));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/hook", listener.local_addr().unwrap());
    let inbox = received.clone();
    let hook = async move |headers: HeaderMap, body: axum::body::Bytes| {
        let id = headers["svix-id"].to_str().unwrap().to_owned();
        inbox.lock().unwrap().push((id, body));
        axum::http::StatusCode::ACCEPTED
    };
    let server = tokio::spawn(async move {
        axum::serve(listener, axum::Router::new().route("/hook", axum::routing::post(hook))).await
    });

    _ = rustls::crypto::ring::default_provider().install_default();
    let http = reqwest::Client::new();
    let form = [
        ("grant_type", "client_credentials"),
        ("scope", "open-api"),
        ("client_id", account.sim.client_id()),
        ("client_secret", account.sim.client_secret()),
    ];
    let form: String = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(form).finish();
    let answer = http.post(account.sim.token_url()).body(form).send().await.unwrap();
    let answer: Value = serde_json::from_str(&answer.text().await.unwrap()).unwrap();
    let token = answer["access_token"].as_str().unwrap();
    let hooks = format!("{}/webhooks", account.sim.base_url());
    let subscribe = async |event: &str| {
        let body = json!({ "url": url, "events": [event] }).to_string();
        http.post(&hooks).bearer_auth(token).body(body).send().await.unwrap().status().as_u16()
    };
    assert_eq!(subscribe("reservation.updated").await, 400);
    assert_eq!(subscribe("reservation.updated.v2").await, 201);
    let secret = format!("{}/webhooks-v2/secret?url={url}", account.sim.base_url());
    let ask = async || http.get(&secret).bearer_auth(token).send().await.unwrap().status().as_u16();
    assert_eq!([ask().await, ask().await, ask().await], [404, 404, 200]);

    let changes = {
        let mut world = account.world().lock();
        while world.changes.len() < 30 {
            world.mutate();
        }
        world.changes.clone()
    };
    let sending = Sending { duplicate: true, ..Sending::default() };
    let statuses = account.sim.deliver(&changes, sending).await.unwrap();
    assert!(statuses.len() > 4 && statuses.iter().all(|status| *status == 202));
    let received = received.lock().unwrap().clone();
    assert_eq!(received.len(), statuses.len());
    assert!(received.chunks(2).all(|pair| pair[0] == pair[1]));
    server.abort();
}
