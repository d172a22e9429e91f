//! A world of stays, told badly by five connections: what is settled becomes the truth.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Days, TimeDelta, Utc};
use fixtures::stays::{Kind, Listing, Manager, Platform, Reservation, Shape, Status, Stays};
use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::{Map, Value, json};

use super::{House, Wire, start};

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
