//! The OwnerRez connector against the simulator: whatever happens to the bookings, a reader ends up with the truth.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, in its own helpers too")]

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use catalog::{Blame, Retry};
use chrono::{Days, TimeDelta};
use connectors::webhook::Refused;
use connectors::{Read, Source};
use fixtures::desk::{Knobs, Misbehaviour, Rule, Sender, Window};
use fixtures::ownerrez::{End, NextPage, Options, Simulator, booking_id, guest_id, is_listed, second_booking_id};
use fixtures::stays::{Booking, Kind, Manager, Platform, Reservation, Shared, Status, Stays};
use kit::channel::{Mirror, Row, Told, changes, delivery, now, objects, open, read, receive, world};
use serde_json::{Value, json};
use tempfile::TempDir;

struct Bench {
    simulator: Simulator,
    folder: TempDir,
}

impl Bench {
    async fn start(stays: Shared, options: Options) -> Self {
        let simulator = Simulator::start(stays, options).await.unwrap();
        let folder = tempfile::tempdir().unwrap();
        let c = simulator.credentials();
        for (name, value) in [("pt", &c.personal_token), ("at", &c.access_token), ("hook", &c.webhook_password)] {
            std::fs::write(folder.path().join(name), value).unwrap();
        }
        std::fs::write(folder.path().join("old-hook"), "the-one-before").unwrap();
        Self { simulator, folder }
    }

    fn secret(&self, name: &str) -> String {
        format!("file:{}", self.folder.path().join(name).display())
    }

    fn settings(&self, more: Value) -> Value {
        let c = self.simulator.credentials();
        let mut settings = json!({
            "base_url": self.simulator.base_url(),
            "token": self.secret("at"),
            "client_id": c.client_id,
            "compare_every_secs": 0,
            "webhook": {
                "user": c.webhook_user,
                "passwords": [self.secret("old-hook"), self.secret("hook")],
                "user_id": c.user_id,
            },
            "limits": {"calls_per_sec": 100_000, "burst": 1_000, "backoff_ms": 1, "timeout_secs": 5},
        });
        settings.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        settings
    }

    async fn open(&self, more: Value) -> Box<dyn Source> {
        open("ownerrez", &self.settings(more)).await
    }

    fn stays<T>(&self, act: impl FnOnce(&mut Stays) -> T) -> T {
        act(&mut self.simulator.stays().lock())
    }
}

/// What a reader must hold: by booking id, its listing, dates, type and status.
fn truth(stays: &Stays) -> BTreeMap<u64, [String; 5]> {
    let mut truth = BTreeMap::new();
    let ours = |l: usize| stays.listings[l].manager == Manager::OwnerRez;
    for r in stays.reservations.iter().filter(|r| is_listed(r) && ours(r.listing)) {
        let status = match r.status {
            Status::Pending => "pending",
            Status::Cancelled => "canceled",
            _ => "active",
        };
        let kind = if r.kind == Kind::Stay { "booking" } else { "block" };
        let mut add = |id, listing: usize, from: chrono::NaiveDate, to: chrono::NaiveDate| {
            let listing = stays.listings[listing].manager_id.clone();
            let (kind, status) = (kind.to_owned(), status.to_owned());
            truth.insert(id, [listing, from.to_string(), to.to_string(), kind, status]);
        };
        match r.moves {
            None => add(booking_id(r.number), r.listing, r.check_in, r.check_out),
            Some((day, to)) => {
                add(booking_id(r.number), r.listing, r.check_in, day);
                add(second_booking_id(r.number), to, day, r.check_out);
            }
        }
    }
    truth
}

fn held(mirror: &Mirror) -> BTreeMap<u64, [String; 5]> {
    let cells = |row: &Row| ["listing_id", "check_in", "check_out", "type", "status"].map(|c| row[c].clone());
    mirror.reservations().into_iter().map(|(id, row)| (id, cells(row))).collect()
}

/// Compares what a reader holds with the truth, and the nights that it takes for booked with those that are.
#[track_caller]
fn assert_true(mirror: &Mirror, stays: &Stays, what: &str) {
    // Nobody tells of the deletion of a booking that is over, and nobody has to.
    let today = stays.now.date_naive() - Days::new(2);
    let over = |row: &[String; 5]| row[2].parse::<chrono::NaiveDate>().unwrap() < today;
    let (mut held, truth) = (held(mirror), truth(stays));
    held.retain(|id, row| truth.contains_key(id) || !(over(row) || row[4] == "canceled"));
    assert_eq!(held, truth, "{what}");
    for listing in stays.listings.iter().filter(|l| l.manager == Manager::OwnerRez) {
        for night in stays.today(listing.index).iter_days().take(90) {
            let day = night.to_string();
            let takers = held.values().filter(|[at, from, to, _, status]| {
                *at == listing.manager_id && *from <= day && day < *to && status != "canceled"
            });
            let truly = usize::from(stays.night(listing.index, night).is_some());
            assert_eq!(takers.count(), truly, "{what}: {} on {day}", listing.name);
        }
    }
    for (id, row) in mirror.reservations() {
        let number = if id >= second_booking_id(0) { continue } else { id - booking_id(0) };
        let Some(r) = stays.reservation(number).filter(|r| is_listed(r) && r.kind == Kind::Stay) else { continue };
        let total = format!("{}.{:02}", r.total() / 100, r.total() % 100);
        let taxes = format!("{}.{:02}", r.taxes / 100, r.taxes % 100);
        let guest = &stays.guests[r.guest.unwrap()];
        for (column, value) in [
            ("total_amount", &total),
            ("tax_amount", &taxes),
            ("guest_email", &guest.email),
            ("guest_phone", &guest.phone),
            ("guest_id", &guest_id(guest.index).to_string()),
        ] {
            assert_eq!(row.get(column), Some(value), "{what}: {column} of {id}");
        }
        assert_eq!(row.get("external_code"), Some(&r.code).filter(|_| r.platform != Platform::Direct), "{what}: {id}");
    }
}

#[tokio::test]
async fn readings_of_changes_follow_the_truth() {
    for seed in 0..4 {
        let end = [End::Null, End::Empty, End::Absent][seed as usize % 3];
        let next_page = if seed % 2 == 0 { NextPage::Absolute } else { NextPage::Relative };
        let options = Options { end, next_page, bare_empty_page: seed > 1, ..Options::default() };
        let bench = Bench::start(world(seed, 12, 15), options).await;
        let size = [100, 7, 3, 20][seed as usize];
        let source = bench.open(json!({ "page_size": size })).await;
        let mut mirror = Mirror::default();
        let mut cursor = None;
        for round in 0..20 {
            bench.stays(|stays| {
                for _ in 0..round % 5 {
                    stays.pass(TimeDelta::minutes(4));
                    stays.mutate();
                }
            });
            let told = changes(&*source, cursor).await.well();
            assert!(told.rejects.is_empty() && told.complete.is_empty());
            mirror.apply(&told);
            bench.stays(|stays| assert_true(&mirror, stays, &format!("seed {seed}, round {round}")));
            cursor = Some(told.cursor());
        }
        assert_eq!(mirror.of("channel_listings").len(), 3);
    }
}

#[tokio::test]
async fn a_hold_becomes_a_booking_under_its_id_and_a_deletion_comes_as_gone() {
    let bench = Bench::start(world(5, 4, 4), Options::default()).await;
    let source = bench.open(json!({})).await;
    let hold = bench.stays(|stays| {
        let (check_in, check_out) = (stays.today(1) + Days::new(200), stays.today(1) + Days::new(203));
        let (kind, status) = (Kind::Hold, Status::Pending);
        stays.book(Booking { listing: 1, check_in, check_out, platform: Platform::Airbnb, kind, status }).unwrap()
    });
    let told = changes(&*source, None).await.well();
    let id = booking_id(hold).to_string();
    let row =
        |told: &Told| (*told.of("channel_reservations").iter().find(|r| r["reservation_id"] == id).unwrap()).clone();
    let held = row(&told);
    assert_eq!((held["type"].as_str(), held["status"].as_str()), ("block", "pending"));
    assert!(held["title"].starts_with("Hold for ") && held.contains_key("hold_until"));
    for absent in ["guest_id", "guest_name", "adults", "total_amount", "children"] {
        assert!(!held.contains_key(absent), "{absent} is left out, and not zero");
    }
    bench.stays(|stays| {
        stays.pass(TimeDelta::seconds(90));
        assert!(stays.convert(hold));
    });
    let told = changes(&*source, Some(told.cursor())).await.well();
    let booked = row(&told);
    assert_eq!((booked["type"].as_str(), booked["status"].as_str()), ("booking", "active"));
    assert!(booked.contains_key("guest_email") && booked["identity"] == "strong" && booked["segment"] == "0");
    assert_eq!(told.rows.len(), 2, "the booking and its guest: {:?}", told.rows);

    bench.stays(|stays| {
        stays.pass(TimeDelta::hours(2));
        assert!(stays.delete(hold));
    });
    let told = changes(&*source, Some(told.cursor())).await.well();
    let gone = row(&told);
    let columns: Vec<&str> = gone.keys().map(String::as_str).collect();
    assert_eq!(columns, ["connection", "connector", "presence", "reservation_id", "segment", "updated_at"]);
    assert_eq!((gone["presence"].as_str(), told.rows.len()), ("gone", 1));
    // And it is over: nothing more is said about it.
    let told = changes(&*source, Some(told.cursor())).await.well();
    assert_eq!(told.rows, []);
}

#[tokio::test]
async fn each_guest_of_a_changed_booking_is_read_once() {
    let bench = Bench::start(world(2, 8, 10), Options::default()).await;
    let source = bench.open(json!({})).await;
    let told = changes(&*source, None).await.well();
    let guests: BTreeSet<u64> = bench.stays(|stays| {
        let ours = |l: usize| stays.listings[l].manager == Manager::OwnerRez;
        let listed = stays.reservations.iter().filter(|r| is_listed(r) && ours(r.listing));
        listed.filter_map(|r| r.guest.map(guest_id)).collect()
    });
    assert_eq!(bench.simulator.count("/guests/"), guests.len());
    assert_eq!(told.of("channel_guests").len(), guests.len());

    bench.simulator.forget_requests();
    let told = changes(&*source, Some(told.cursor())).await.well();
    assert_eq!((told.rows.len(), bench.simulator.count("/guests/")), (0, 0), "nothing has changed");

    let noted = bench.stays(|stays| {
        stays.pass(TimeDelta::minutes(5));
        let ours = |r: &&Reservation| stays.listings[r.listing].manager == Manager::OwnerRez;
        let guests = stays.reservations.iter().filter(ours).filter(|r| is_listed(r) && r.alive() && r.guest.is_some());
        let numbers: Vec<u64> = guests.map(|r| r.number).take(2).collect();
        stays.guests.iter_mut().for_each(|g| g.phone = "+12125550199".to_owned());
        assert!(stays.annotate(numbers[0], "a cot") && stays.annotate(numbers[1], "a \"crib\"\\"));
        booking_id(numbers[1]).to_string()
    });
    let told = changes(&*source, Some(told.cursor())).await.well();
    let changed: BTreeSet<&str> =
        told.of("channel_reservations").iter().map(|r| r["reservation_id"].as_str()).collect();
    assert_eq!(changed.len(), 2);
    assert!(bench.simulator.count("/guests/") <= 2 && bench.simulator.count("/guests/") >= 1);
    for row in told.of("channel_reservations") {
        assert_eq!(row["guest_phone"], "+12125550199");
    }
    let noted = told.of("channel_reservations").into_iter().find(|r| r["reservation_id"] == noted);
    assert_eq!(noted.unwrap()["notes"], "a \"crib\"\\");
}

#[tokio::test]
async fn rows_that_shift_while_they_are_read_are_not_lost() {
    for seed in 0..3 {
        let bench = Bench::start(world(seed, 12, 15), Options::default()).await;
        let source = bench.open(json!({ "page_size": 4 })).await;
        bench.simulator.before_lists(|stays, page| {
            // The earliest rows vanish, so that all others move up under the reader's offset; others change behind it.
            let listed = (stays.reservations.iter())
                .find(|r| is_listed(r) && stays.listings[r.listing].manager == Manager::OwnerRez);
            let first = listed.map(|r| r.number);
            stays.pass(TimeDelta::seconds(20));
            if page < 12 && page % 2 == 1 {
                first.map(|number| stays.delete(number));
            } else if page < 30 {
                stays.mutate();
            }
        });
        let mut mirror = Mirror::default();
        let told = changes(&*source, None).await.well();
        mirror.apply(&told);
        bench.simulator.before_lists(|_, _| {});
        let told = changes(&*source, Some(told.cursor())).await.well();
        mirror.apply(&told);
        bench.stays(|stays| assert_true(&mirror, stays, &format!("seed {seed}")));
    }
}

#[tokio::test]
async fn a_reading_that_is_killed_goes_on_with_at_most_two_pages_more() {
    let bench = Bench::start(world(3, 16, 18), Options::default()).await;
    let source = bench.open(json!({ "page_size": 6 })).await;
    bench.simulator.forget_requests();
    let whole = changes(&*source, None).await.well();
    let pages = bench.simulator.count("/bookings");
    let guests = bench.simulator.count("/guests/");
    assert!(pages > 12 && whole.checkpoints.len() > 12);
    for stop in 1..whole.checkpoints.len() {
        bench.simulator.forget_requests();
        let mut mirror = Mirror::default();
        let start = Read::Changes { since: None };
        let before = read(&*source, start.clone(), None, stop).await;
        mirror.apply(&before);
        // In another process, and by either way: as an interrupted run, or as the next one.
        let source = bench.open(json!({ "page_size": 6 })).await;
        let after = match stop % 2 {
            0 => read(&*source, start, Some(before.cursor()), usize::MAX).await.well(),
            _ => changes(&*source, Some(before.cursor())).await.well(),
        };
        mirror.apply(&after);
        bench.stays(|stays| assert_true(&mirror, stays, &format!("killed behind checkpoint {stop}")));
        assert!(bench.simulator.count("/bookings") <= pages + 2, "{} pages", bench.simulator.count("/bookings"));
        assert!(bench.simulator.count("/guests/") <= guests + 30);
        assert!(before.rows.len() + after.rows.len() <= whole.rows.len() + 30);
    }
    // Behind its last checkpoint an interrupted run has nothing left to do.
    let rest = read(&*source, Read::Changes { since: None }, Some(whole.cursor()), usize::MAX).await.well();
    assert!(rest.rows.is_empty() && rest.checkpoints.is_empty());
}

#[tokio::test]
async fn a_snapshot_is_one_whole_scope_and_a_backfill_is_its_range() {
    let bench = Bench::start(world(7, 8, 16), Options::default()).await;
    let source = bench.open(json!({ "page_size": 5, "properties": { "4401": "P-0001" } })).await;
    let told = read(&*source, Read::Snapshot, None, usize::MAX).await.well();
    assert_eq!((told.complete.as_slice(), told.checkpoints.len()), (&["coast".to_owned()][..], 1));
    let mut mirror = Mirror::default();
    mirror.apply(&told);
    bench.stays(|stays| {
        let ids: Vec<u64> = mirror.reservations().into_keys().collect();
        assert_eq!(ids, truth(stays).into_keys().collect::<Vec<_>>());
        for listing in stays.listings.iter().filter(|l| l.manager == Manager::OwnerRez) {
            let row = mirror.of("channel_listings")[&listing.manager_id.parse().unwrap()];
            let sites: Value = serde_json::from_str(&row["channel_ids"]).unwrap();
            assert_eq!(sites["Airbnb"], listing.airbnb_id.as_str(), "eighteen digits");
            assert_eq!(row.get("property"), Some(&"P-0001".to_owned()).filter(|_| listing.index == 1));
            assert_eq!((row["active"].as_str(), row["listed"].as_str()), ("true", "true"));
            assert_eq!(row["bathrooms"], format!("{}.{}", listing.bathrooms / 10, listing.bathrooms % 10));
        }
    });
    let (from, until) = (now() - TimeDelta::days(40), now() - TimeDelta::days(15));
    let told = read(&*source, Read::Backfill { from, until }, None, usize::MAX).await.well();
    let ids: BTreeSet<u64> =
        told.of("channel_reservations").iter().map(|r| r["reservation_id"].parse().unwrap()).collect();
    let expected: BTreeSet<u64> = bench.stays(|stays| {
        let ours = |l: usize| stays.listings[l].manager == Manager::OwnerRez;
        let listed = stays.reservations.iter().filter(|r| is_listed(r) && ours(r.listing));
        listed.filter(|r| (from..until).contains(&r.updated_at)).map(|r| booking_id(r.number)).collect()
    });
    assert!(!expected.is_empty());
    assert_eq!(ids, expected);
}

#[tokio::test]
async fn the_token_goes_to_no_other_host() {
    let (stays, strangers) = (world(1, 8, 9), world(1, 8, 9));
    let stranger = Bench::start(strangers, Options::default()).await;
    let foreign = stranger.simulator.base_url().replace("/v2", "");
    let bench = Bench::start(stays, Options { next_page: NextPage::Foreign(foreign), ..Options::default() }).await;
    let source = bench.open(json!({ "page_size": 3 })).await;
    let fault = changes(&*source, None).await.end.unwrap();
    assert_eq!((fault.blame, fault.retry), (Blame::Remote, Retry::Never));
    assert!(fault.message.contains("on another host, `127.0.0.1`, which is not followed"), "{fault}");
    assert_eq!(stranger.simulator.requests(), []);
    // Nor when a cursor says so.
    let cursor = serde_json::from_value(json!({
        "stage": "changed", "started": now(), "at": format!("{}/bookings?offset=3", stranger.simulator.base_url()),
    }));
    let fault = changes(&*source, Some(cursor.unwrap())).await.end.unwrap();
    assert!(fault.message.contains("another host"), "{fault}");
    assert_eq!(stranger.simulator.requests(), []);
}

#[tokio::test]
async fn credentials_of_both_kinds_let_in_and_wrong_ones_are_the_users_fault() {
    let bench = Bench::start(world(1, 4, 4), Options::default()).await;
    let user = bench.simulator.credentials().user.clone();
    let personal = bench.open(json!({ "token": bench.secret("pt"), "user": user, "client_id": null })).await;
    personal.check().await.unwrap();
    bench.open(json!({})).await.check().await.unwrap();

    // OAuth wants to see the app in the user agent.
    let anonymous = bench.open(json!({ "client_id": null })).await;
    assert_eq!(anonymous.check().await.unwrap_err().blame, Blame::User);

    let entry = connectors::find("ownerrez").unwrap();
    for (wrong, says) in [
        (json!({ "token": bench.secret("pt") }), "needs `user`"),
        (json!({ "page_size": 101 }), "`page_size`"),
        (json!({ "client_id": "c_\n" }), "`client_id`"),
        (json!({ "base_url": "ftp://api.example" }), "`base_url`"),
    ] {
        let fault = entry.open(bench.settings(wrong), catalog::Env::default()).await.err().unwrap();
        assert!(fault.message.contains(says) && fault.blame == Blame::User, "{fault}");
    }

    std::fs::write(bench.folder.path().join("at"), "at_wrong/t0ken").unwrap();
    let fault = changes(&*bench.open(json!({})).await, None).await.end.unwrap();
    assert!(fault.blame == Blame::User && fault.hint.is_some());
    assert!(!format!("{fault:?}").contains("t0ken"));

    let revocation = bench.simulator.revoke();
    assert!(receive(&*personal, &revocation).unwrap().revoked);
    assert_eq!(changes(&*personal, None).await.end.unwrap().blame, Blame::User);
}

#[tokio::test]
async fn passing_trouble_changes_nothing_and_lasting_trouble_is_told() {
    let bench = Bench::start(world(4, 8, 16), Options::default()).await;
    let source = bench.open(json!({ "page_size": 6 })).await;
    let calm = changes(&*source, None).await.well();
    for trouble in [
        Misbehaviour::TooManyRequests { retry_after_secs: Some(0) },
        Misbehaviour::TooManyRequests { retry_after_secs: None },
        Misbehaviour::ServerError { status: 503 },
        Misbehaviour::Slow(Duration::from_millis(30)),
        Misbehaviour::CutBody,
        Misbehaviour::Malformed,
        Misbehaviour::Html,
        Misbehaviour::Empty,
    ] {
        bench.simulator.behave();
        bench.simulator.misbehave(Rule::on("*", trouble.clone()).every(4).times(5));
        let told = changes(&*source, None).await.well();
        assert_eq!(told.rows, calm.rows, "{trouble:?}");
    }

    bench.simulator.behave();
    bench.simulator.misbehave(Simulator::blocked());
    let fault = changes(&*source, None).await.end.unwrap();
    assert_eq!((fault.blame, fault.retry), (Blame::Remote, Retry::After(Duration::from_secs(60))));
    for trouble in [Misbehaviour::Other, Misbehaviour::Html, Misbehaviour::CutBody] {
        bench.simulator.behave();
        bench.simulator.misbehave(Rule::on("/bookings", trouble.clone()));
        let fault = changes(&*source, None).await.end.unwrap();
        assert_eq!(fault.blame, Blame::Remote, "{trouble:?}: {fault}");
    }
    // A list that breaks in the middle leaves what came before, and a way to go on.
    bench.simulator.behave();
    bench.simulator.misbehave(Rule::on("/bookings", Misbehaviour::Other).after(2));
    let broken = changes(&*source, None).await;
    assert!(broken.end.is_some() && broken.checkpoints.len() >= 3);
    bench.simulator.behave();
    let mut mirror = Mirror::default();
    mirror.apply(&broken);
    mirror.apply(&changes(&*source, Some(broken.cursor())).await.well());
    bench.stays(|stays| assert_true(&mirror, stays, "behind a broken list"));
}

#[tokio::test]
async fn a_vendor_that_lists_nothing_for_once_deletes_nothing() {
    let bench = Bench::start(world(4, 8, 18), Options::default()).await;
    let source = bench.open(json!({})).await;
    let told = changes(&*source, None).await.well();
    bench.simulator.forget_requests();
    bench.simulator.misbehave(Rule::on("/bookings", Misbehaviour::EmptyPage));
    let told = changes(&*source, Some(told.cursor())).await.well();
    assert_eq!(told.rows, [], "not being listed proves nothing");
    assert!(bench.simulator.count("/bookings/") > 2, "what was missing was asked for by its id");
    bench.simulator.misbehave(Rule::on("/properties", Misbehaviour::EmptyPage));
    assert_eq!(changes(&*source, Some(told.cursor())).await.well().rows, []);
}

#[tokio::test]
async fn deliveries_name_what_to_read_again_and_only_good_ones_count() {
    let bench = Bench::start(world(6, 8, 16), Options::default()).await;
    let source = bench.open(json!({})).await;
    let mut mirror = Mirror::default();
    let first = changes(&*source, None).await.well();
    mirror.apply(&first);
    let knobs = Knobs { duplicate: 3, reorder: 2, delay: 5, wrong_password: 4, ..Knobs::default() };
    let mut sender = Sender::new(knobs);
    let (mut refused, mut ids) = (0, BTreeSet::new());
    for _ in 0..80 {
        bench.stays(|stays| {
            stays.pass(TimeDelta::minutes(3));
            stays.mutate();
        });
        let posts = bench.simulator.deliveries();
        for post in sender.arrange(posts, Simulator::forged) {
            match receive(&*source, &post) {
                Ok(decoded) => {
                    assert_eq!((decoded.stream.as_ref(), decoded.revoked), ("bookings", false));
                    ids.insert(source.webhook().unwrap().identify(&delivery(&post)).unwrap().id);
                    let told = objects(&*source, decoded.objects).await.well();
                    mirror.apply(&told);
                }
                Err(refusal) => {
                    assert_eq!(refusal, Refused::Unverified("user or password is wrong".into()));
                    refused += 1;
                }
            }
        }
    }
    assert!(refused > 2 && ids.len() > 10);
    for post in sender.arrange(Vec::new(), Simulator::forged) {
        mirror.apply(&objects(&*source, receive(&*source, &post).unwrap().objects).await.well());
    }
    bench.stays(|stays| assert_true(&mirror, stays, "by deliveries alone"));
    mirror.apply(&changes(&*source, Some(first.cursor())).await.well());
    bench.stays(|stays| assert_true(&mirror, stays, "deliveries, then a reading"));
}

#[tokio::test]
async fn deliveries_say_no_more_than_they_may() {
    let bench = Bench::start(world(6, 4, 4), Options::default()).await;
    let source = bench.open(json!({})).await;
    let hook = source.webhook().unwrap();
    let user = bench.simulator.credentials().user_id;
    let decoded = |body: &str| hook.decode(&delivery(&bench.simulator.post(body)));
    for (body, objects) in [
        (
            format!(r#"{{"id":7,"user_id":{user},"action":"entity_insert","entity_type":"booking","entity_id":9001}}"#),
            vec!["reservation:9001"],
        ),
        (
            format!(r#"{{"user_id":{user},"action":"entity_delete","entity_type":"guest","entity_id":70001}}"#),
            vec!["guest:70001"],
        ),
        (
            format!(
                r#"{{"user_id":{user},"action":"entity_update","entity_type":"property","entity_id":4401,"categories":["x"]}}"#
            ),
            vec!["listing:4401"],
        ),
        (format!(r#"{{"user_id":{user},"action":"entity_update","entity_type":"quote","entity_id":1}}"#), vec![]),
        (format!(r#"{{"user_id":{user},"action":"entity_archive","entity_type":"booking","entity_id":1}}"#), vec![]),
        (r#"{"user_id":1,"action":"entity_update","entity_type":"booking","entity_id":9001}"#.to_owned(), vec![]),
        (r#"{"user_id":1,"action":"application_authorization_revoked"}"#.to_owned(), vec![]),
        (r#"{"action":"application_authorization_revoked"}"#.to_owned(), vec![]),
    ] {
        let decoded = decoded(&body).unwrap();
        assert_eq!(
            (decoded.objects, decoded.revoked),
            (objects.iter().map(ToString::to_string).collect(), false),
            "{body}"
        );
    }
    let hostile =
        format!(r#"{{"user_id":{user},"action":"entity_update","entity_type":"booking","entity_id":"../users/me"}}"#);
    assert!(decoded(&hostile).is_err());
    let test = bench.simulator.test_delivery();
    assert!(receive(&*source, &test).unwrap().objects.is_empty());
    let identity = hook.identify(&delivery(&test)).unwrap();
    assert_eq!(
        (identity.event.as_str(), identity.id.as_str()),
        ("webhook_test", "7e570000-0000-4000-8000-000000000000")
    );
    let anonymous = bench.simulator.post(r#"{"action":"webhook_test"}"#);
    assert_eq!(hook.identify(&delivery(&anonymous)).unwrap().id.len(), 64);
    for malformed in ["", "[]", "{}", "\u{1}", r#"{"action":{}}"#, "null"] {
        let refused = hook.identify(&delivery(&bench.simulator.post(malformed)));
        assert!(matches!(refused, Err(Refused::Malformed(_))), "{malformed:?}");
    }
    let bare = open("ownerrez", &bench.settings(json!({ "webhook": null }))).await;
    assert!(bare.webhook().is_none());
}

#[tokio::test]
async fn single_objects_come_as_they_are_and_strange_ids_are_refused() {
    let bench = Bench::start(world(6, 4, 6), Options::default()).await;
    let source = bench.open(json!({})).await;
    let ids =
        ["listing:4401", "listing:1", "guest:70000", "guest:1", "reservation:1", "1", "reservation:../x", "owner:1"];
    let told = objects(&*source, ids.map(str::to_owned).to_vec()).await.well();
    let gone = |dataset: &str| told.of(dataset).iter().map(|r| r.contains_key("presence")).collect::<Vec<_>>();
    assert_eq!(gone("channel_listings"), [false, true]);
    assert_eq!(gone("channel_guests"), [false, true]);
    assert_eq!(gone("channel_reservations"), [true, true]);
    let refused: Vec<&str> = told.rejects.iter().map(|r| r.key.as_str()).collect();
    assert_eq!(refused, ["../x", "owner:1"]);
    assert!(bench.simulator.requests().iter().all(|r| !r.path.contains("..")));
}

#[tokio::test]
async fn nothing_secret_leaves_the_connector() {
    let bench = Bench::start(world(9, 8, 16), Options::default()).await;
    let source = bench.open(json!({})).await;
    let told = changes(&*source, None).await.well();
    assert!(told.rows.len() > 30);
    let text = format!("{:?} {:?}", told.rows, told.checkpoints);
    let c = bench.simulator.credentials();
    for secret in ["DOOR-", "SECRET", "GATE", "BANNED", "banned", &c.access_token, &c.webhook_password, &c.user] {
        assert!(!text.contains(secret), "{secret}");
    }
    // The cursor names no person either.
    let cursor = serde_json::to_string(&told.cursor()).unwrap();
    assert!(!cursor.contains('@') && !cursor.contains("guest"));
    assert_eq!(format!("{:?}", bench.simulator.requests()).matches("include_door_codes").count(), 0);
}

#[tokio::test]
async fn the_vendors_limit_is_kept() {
    // The vendor's 300 in five minutes, thirty times as fast.
    let window = Window { calls: 12, per: Duration::from_secs(1) };
    let bench = Bench::start(world(1, 4, 18), Options { window: Some(window), ..Options::default() }).await;
    let limits = json!({ "calls_per_sec": 11, "burst": 1, "backoff_ms": 1 });
    let source = bench.open(json!({ "page_size": 2, "limits": limits })).await;
    changes(&*source, None).await.well();
    assert!(bench.simulator.requests().len() > 12);
    assert!(bench.simulator.requests().iter().all(|r| r.status == 200));
}

#[tokio::test]
async fn a_sender_posts_over_http_and_gives_up_on_a_receiver_that_fails() {
    use axum::http::{HeaderMap, StatusCode};
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::sync::{Arc, Mutex};
    let bench = Bench::start(world(2, 4, 16), Options::default()).await;
    let source = bench.open(json!({})).await;
    let (got, broken) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicBool::new(false)));
    let (heard, state) = (got.clone(), broken.clone());
    let receive_post = move |headers: HeaderMap, body: String| async move {
        let authorization = headers["authorization"].to_str().unwrap().to_owned();
        let headers = vec![("authorization".to_owned(), authorization)];
        heard.lock().unwrap().push(fixtures::desk::Post { headers, body });
        if state.load(Ordering::Relaxed) { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::ACCEPTED }
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/api/webhooks/ownerrez/coast", listener.local_addr().unwrap());
    let router = axum::Router::new().route("/api/webhooks/ownerrez/coast", axum::routing::post(receive_post));
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });

    let mut sender = Sender::new(Knobs { give_up_after: 3, ..Knobs::default() });
    let test = bench.simulator.test_delivery();
    let sent = sender.send(&url, vec![test.clone(), Simulator::forged(&test)]).await;
    assert_eq!(sent.iter().map(|s| s.status).collect::<Vec<_>>(), [Some(202), Some(202)]);
    let posts = got.lock().unwrap().clone();
    assert_eq!(posts[0].body, test.body);
    assert!(receive(&*source, &posts[0]).is_ok() && receive(&*source, &posts[1]).is_err());

    broken.store(true, Ordering::Relaxed);
    assert_eq!(sender.send(&url, vec![test.clone(); 5]).await.len(), 3);
    assert!(sender.disabled());
    assert_eq!(sender.send(&url, vec![test.clone()]).await, []);
    sender.enable();
    assert_eq!(sender.send("http://127.0.0.1:1/", vec![test]).await[0].status, None);
}
