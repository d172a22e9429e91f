//! The Hostaway connector against the simulator: whatever happens to the reservations, a reader ends up with the truth.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, in its own helpers too")]

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use catalog::Blame;
use chrono::{Days, NaiveDate, TimeDelta};
use connectors::webhook::Refused;
use connectors::{Read, Source};
use fixtures::desk::{Knobs, Misbehaviour, Rule, Sender, Window};
use fixtures::hostaway::{Options, Simulator, has_dates, reservation_id, second_reservation_id, status};
use fixtures::stays::{Booking, Kind, Manager, Platform, Shared, Status, Stays};
use kit::channel::{Mirror, Row, changes, delivery, now, objects, open, read, receive, world};
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
        std::fs::write(folder.path().join("secret"), &c.client_secret).unwrap();
        std::fs::write(folder.path().join("hook"), &c.webhook_password).unwrap();
        Self { simulator, folder }
    }

    fn settings(&self, more: Value) -> Value {
        let c = self.simulator.credentials();
        let secret = |name: &str| format!("file:{}", self.folder.path().join(name).display());
        let mut settings = json!({
            "base_url": self.simulator.base_url(),
            "account_id": c.account_id,
            "client_secret": secret("secret"),
            "compare_every_secs": 0,
            "token_wait_ms": 0,
            "webhook": { "login": c.webhook_login, "passwords": [secret("hook")] },
            "limits": {"calls_per_sec": 100_000, "burst": 1_000, "backoff_ms": 1, "timeout_secs": 5},
        });
        settings.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        settings
    }

    async fn open(&self, more: Value) -> Box<dyn Source> {
        open("hostaway", &self.settings(more)).await
    }

    fn stays<T>(&self, act: impl FnOnce(&mut Stays) -> T) -> T {
        act(&mut self.simulator.stays().lock())
    }
}

/// What a reader must hold: by id, its listing, dates and status.
fn truth(stays: &Stays) -> BTreeMap<u64, [String; 4]> {
    let mut truth = BTreeMap::new();
    for r in stays.reservations.iter().filter(|r| !r.deleted && stays.listings[r.listing].manager == Manager::Hostaway)
    {
        let mut add = |id, listing: usize, from: NaiveDate, to: NaiveDate| {
            let listing = stays.listings[listing].manager_id.clone();
            let day = |day: NaiveDate| if has_dates(r) { day.to_string() } else { String::new() };
            truth.insert(id, [listing, day(from), day(to), status(r).to_owned()]);
        };
        match r.moves {
            None => add(reservation_id(r.number), r.listing, r.check_in, r.check_out),
            Some((day, to)) => {
                add(reservation_id(r.number), r.listing, r.check_in, day);
                add(second_reservation_id(r.number), to, day, r.check_out);
            }
        }
    }
    truth
}

/// Compares what a reader holds with the truth, and the nights that it takes for booked with those that are.
#[track_caller]
fn assert_true(mirror: &Mirror, stays: &Stays, what: &str) {
    let cell = |row: &Row, column: &str| row.get(column).cloned().unwrap_or_default();
    let cells = |row: &Row| ["listing_id", "check_in", "check_out", "status"].map(|c| cell(row, c));
    let mut held: BTreeMap<u64, [String; 4]> =
        mirror.reservations().into_iter().map(|(id, row)| (id, cells(row))).collect();
    // What takes no night any more, or never did, may vanish unnoticed.
    let today = (stays.now.date_naive() - Days::new(2)).to_string();
    let idle = ["cancelled", "declined", "expired"];
    let truth = truth(stays);
    held.retain(|id, row| truth.contains_key(id) || !(row[2] < today || idle.contains(&row[3].as_str())));
    assert_eq!(held, truth, "{what}");
    let taken = ["new", "modified", "ownerStay", "pending", "awaitingPayment"];
    for listing in stays.listings.iter().filter(|l| l.manager == Manager::Hostaway) {
        for night in stays.today(listing.index).iter_days().take(90) {
            let day = night.to_string();
            let takers = held.values().filter(|[at, from, to, status]| {
                *at == listing.manager_id && *from <= day && day < *to && taken.contains(&status.as_str())
            });
            let truly = usize::from(stays.night(listing.index, night).is_some());
            assert_eq!(takers.count(), truly, "{what}: {} on {day}", listing.name);
        }
    }
    for (id, row) in mirror.reservations() {
        let number = if id >= second_reservation_id(0) { continue } else { id - reservation_id(0) };
        let Some(r) = stays.reservation(number).filter(|r| !r.deleted && r.kind == Kind::Stay) else { continue };
        let amount = |cents: i64| format!("{}.{:02}", cents / 100, cents % 100);
        let guest = &stays.guests[r.guest.unwrap()];
        for (column, value) in [
            ("total_amount", amount(r.total())),
            ("tax_amount", amount(r.taxes)),
            ("balance_amount", amount(r.total() - r.paid)),
            ("guest_email", r.alias().unwrap_or_else(|| guest.email.clone())),
            ("guest_phone", guest.phone.clone()),
            ("external_code", r.code.clone()),
            ("guest_count", (r.adults + r.children).to_string()),
        ] {
            assert_eq!(row.get(column), Some(&value), "{what}: {column} of {id}");
        }
        assert_eq!(row.get("special_requests"), r.special_requests.as_ref());
        assert_eq!(row.get("host_payout"), Some(&amount(r.payout())).filter(|_| r.platform == Platform::Airbnb));
    }
}

#[tokio::test]
async fn readings_of_changes_follow_the_truth() {
    for seed in 0..4 {
        let bench = Bench::start(world(seed, 12, 15), Options::default()).await;
        let size = [100, 7, 3, 2][seed as usize];
        let source = bench.open(json!({ "page_size": size })).await;
        let mut mirror = Mirror::default();
        let mut cursor = None;
        for round in 0..20 {
            bench.stays(|stays| {
                for _ in 0..round % 5 {
                    // Over midnight too, since the vendor's filter knows days only.
                    stays.pass(TimeDelta::minutes(25));
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
        assert_eq!(bench.simulator.count("/accessTokens"), 1);
    }
}

#[tokio::test]
async fn a_reading_of_few_changes_asks_for_few_pages() {
    let bench = Bench::start(world(2, 16, 14), Options::default()).await;
    let source = bench.open(json!({ "page_size": 10, "compare_every_secs": 86_400 })).await;
    let told = changes(&*source, None).await.well();
    assert!(bench.simulator.count("/reservations") > 5);
    bench.stays(|stays| {
        for _ in 0..40 {
            stays.pass(TimeDelta::seconds(5));
            stays.mutate();
        }
        stays.pass(TimeDelta::hours(1));
    });
    let told = changes(&*source, Some(told.cursor())).await.well();
    assert!(!told.rows.is_empty());
    bench.simulator.forget_requests();
    let told = changes(&*source, Some(told.cursor())).await.well();
    assert_eq!((told.rows.len(), bench.simulator.count("/reservations")), (0, 1), "behind an older row are older ones");
    bench.stays(|stays| stays.pass(TimeDelta::days(2)));
    bench.simulator.forget_requests();
    changes(&*source, Some(told.cursor())).await.well();
    assert!(bench.simulator.count("/reservations") > 2, "a day later everything to come is compared");
}

#[tokio::test]
async fn rows_that_shift_while_they_are_read_are_not_lost() {
    for seed in 0..6 {
        let bench = Bench::start(world(seed, 12, 15), Options::default()).await;
        let source = bench.open(json!({ "page_size": 4, "compare_every_secs": 864_000 })).await;
        bench.simulator.before_lists(move |stays, page| {
            // The row that marks the reader's place moves to the front or vanishes, again and again.
            let mut rows: Vec<_> = (stays.reservations.iter())
                .filter(|r| !r.deleted && r.alive() && stays.listings[r.listing].manager == Manager::Hostaway)
                .map(|r| (r.updated_at, r.number))
                .collect();
            rows.sort_unstable();
            rows.reverse();
            stays.pass(TimeDelta::seconds(20));
            if page > 0 && page < 20 {
                for (_, number) in rows.iter().skip(3).step_by(4) {
                    stays.annotate(*number, "moved");
                }
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
async fn the_end_of_a_list_is_believed_only_if_the_row_before_agrees() {
    // The rows of the first page's end vanish one by one, so that the place has no row any more and the list seems to end.
    let bench = Bench::start(world(8, 12, 16), Options::default()).await;
    let source = bench.open(json!({ "page_size": 4, "compare_every_secs": 864_000 })).await;
    bench.simulator.before_lists(|stays, page| {
        if !matches!(page, 1 | 3 | 5) {
            return;
        }
        let mut rows: Vec<_> = (stays.reservations.iter())
            .filter(|r| !r.deleted && stays.listings[r.listing].manager == Manager::Hostaway)
            .map(|r| (r.updated_at, r.number))
            .collect();
        rows.sort_unstable();
        rows.reverse();
        let place = rows[page / 2 * 3 + 3].1;
        stays.delete(place);
    });
    let told = changes(&*source, None).await.well();
    let mut mirror = Mirror::default();
    mirror.apply(&told);
    bench.stays(|stays| {
        let held: BTreeSet<u64> = mirror.reservations().into_keys().collect();
        let missed: Vec<u64> = truth(stays).into_keys().filter(|id| !held.contains(id)).collect();
        assert_eq!(missed, [] as [u64; 0]);
    });
}

#[tokio::test]
async fn a_reading_that_is_killed_goes_on_with_at_most_two_pages_more() {
    let bench = Bench::start(world(3, 16, 18), Options::default()).await;
    let source = bench.open(json!({ "page_size": 6 })).await;
    let whole = changes(&*source, None).await.well();
    let pages = bench.simulator.count("/reservations");
    assert!(pages > 12 && whole.checkpoints.len() > 12);
    for stop in 1..whole.checkpoints.len() {
        bench.simulator.forget_requests();
        let mut mirror = Mirror::default();
        let start = Read::Changes { since: None };
        let before = read(&*source, start.clone(), None, stop).await;
        mirror.apply(&before);
        let source = bench.open(json!({ "page_size": 6 })).await;
        let after = match stop % 2 {
            0 => read(&*source, start, Some(before.cursor()), usize::MAX).await.well(),
            _ => changes(&*source, Some(before.cursor())).await.well(),
        };
        mirror.apply(&after);
        bench.stays(|stays| assert_true(&mirror, stays, &format!("killed behind checkpoint {stop}")));
        assert!(bench.simulator.count("/reservations") <= pages + 2);
        assert!(before.rows.len() + after.rows.len() <= whole.rows.len() + 12);
    }
}

#[tokio::test]
async fn a_snapshot_is_one_whole_scope_and_a_backfill_is_its_range() {
    let bench = Bench::start(world(7, 8, 16), Options::default()).await;
    let source = bench.open(json!({ "page_size": 5, "properties": { "71002": "P-0002" } })).await;
    let told = read(&*source, Read::Snapshot, None, usize::MAX).await.well();
    assert_eq!((told.complete.as_slice(), told.checkpoints.len()), (&["coast".to_owned()][..], 1));
    let mut mirror = Mirror::default();
    mirror.apply(&told);
    bench.stays(|stays| {
        assert_true(&mirror, stays, "a snapshot");
        for listing in stays.listings.iter().filter(|l| l.manager == Manager::Hostaway) {
            let row = mirror.of("channel_listings")[&listing.manager_id.parse().unwrap()];
            let sites: Value = serde_json::from_str(&row["channel_ids"]).unwrap();
            assert_eq!((&sites["airbnb"], &sites["vrbo"]), (&json!(listing.airbnb_id), &json!(listing.vrbo_id)));
            assert_eq!(row.get("property"), Some(&"P-0002".to_owned()).filter(|_| listing.index == 2));
            assert_eq!((row["active"].as_str(), row["time_zone"].as_str()), ("true", listing.zone.name()));
        }
    });
    let (from, until) = (now() - TimeDelta::days(40), now() - TimeDelta::days(15));
    let told = read(&*source, Read::Backfill { from, until }, None, usize::MAX).await.well();
    let ids: BTreeSet<u64> =
        told.of("channel_reservations").iter().map(|r| r["reservation_id"].parse().unwrap()).collect();
    let expected: BTreeSet<u64> = bench.stays(|stays| {
        let ours = stays.reservations.iter().filter(|r| stays.listings[r.listing].manager == Manager::Hostaway);
        ours.filter(|r| (from..until).contains(&r.updated_at)).map(|r| reservation_id(r.number)).collect()
    });
    assert!(!expected.is_empty());
    assert_eq!(ids, expected);
}

#[tokio::test]
async fn a_refused_token_is_replaced_once() {
    let bench = Bench::start(world(1, 8, 6), Options::default()).await;
    let source = bench.open(json!({})).await;
    let told = changes(&*source, None).await.well();
    bench.simulator.expire_tokens();
    changes(&*source, Some(told.cursor())).await.well();
    assert_eq!(bench.simulator.count("/accessTokens"), 2);

    // A vendor that takes no token at all is not asked for ever.
    bench.simulator.forget_requests();
    bench.simulator.misbehave(Rule::on("/listings", Misbehaviour::Unauthorized));
    let fault = changes(&*source, None).await.end.unwrap();
    assert_eq!(fault.blame, Blame::User);
    assert_eq!((bench.simulator.count("/listings"), bench.simulator.count("/accessTokens")), (2, 1));
    bench.simulator.behave();

    std::fs::write(bench.folder.path().join("secret"), "wr0ng/secret").unwrap();
    let source = bench.open(json!({})).await;
    let fault = source.check().await.unwrap_err();
    assert!(fault.blame == Blame::User && fault.message.contains("client secret"), "{fault}");
    assert!(!format!("{fault:?}").contains("wr0ng"));
}

#[tokio::test]
async fn passing_trouble_changes_nothing_and_lasting_trouble_is_told() {
    let bench = Bench::start(world(4, 8, 16), Options::default()).await;
    let source = bench.open(json!({ "page_size": 4 })).await;
    let calm = changes(&*source, None).await.well();
    for trouble in [
        Misbehaviour::TooManyRequests { retry_after_secs: Some(0) },
        Misbehaviour::TooManyRequests { retry_after_secs: None },
        Misbehaviour::ServerError { status: 503 },
        Misbehaviour::Unauthorized,
        Misbehaviour::CutBody,
        Misbehaviour::Malformed,
        Misbehaviour::Html,
        Misbehaviour::Empty,
    ] {
        bench.simulator.behave();
        bench.simulator.misbehave(Rule::on("*", trouble.clone()).every(4).times(3));
        let told = changes(&*source, None).await.well();
        assert_eq!(told.rows, calm.rows, "{trouble:?}");
    }
    for trouble in [Misbehaviour::Other, Misbehaviour::Html, Misbehaviour::CutBody] {
        bench.simulator.behave();
        bench.simulator.misbehave(Rule::on("/reservations", trouble.clone()));
        let fault = changes(&*source, None).await.end.unwrap();
        assert_eq!(fault.blame, Blame::Remote, "{trouble:?}: {fault}");
    }
    // A list that is empty for once deletes nothing.
    bench.simulator.behave();
    bench.simulator.forget_requests();
    bench.simulator.misbehave(Rule::on("/reservations", Misbehaviour::EmptyPage));
    let told = changes(&*source, Some(calm.cursor())).await.well();
    assert_eq!(told.rows, []);
    assert!(bench.simulator.count("/reservations/") > 2, "what was missing was asked for by its id");
}

#[tokio::test]
async fn deliveries_name_what_to_read_again_and_only_good_ones_count() {
    let bench = Bench::start(world(6, 8, 16), Options::default()).await;
    let source = bench.open(json!({})).await;
    let mut mirror = Mirror::default();
    let mut polled = changes(&*source, None).await.well();
    mirror.apply(&polled);
    let mut by_poll: BTreeSet<u64> = mirror.reservations().into_keys().collect();
    let knobs = Knobs { duplicate: 3, reorder: 2, delay: 5, wrong_password: 4, lose: 9, ..Knobs::default() };
    let mut sender = Sender::new(knobs);
    let (mut refused, mut ids) = (0, BTreeSet::new());
    for round in 1..=80 {
        bench.stays(|stays| {
            stays.pass(TimeDelta::minutes(3));
            stays.mutate();
        });
        for post in sender.arrange(bench.simulator.deliveries(), Simulator::forged) {
            match receive(&*source, &post) {
                Ok(decoded) => {
                    ids.insert(source.webhook().unwrap().identify(&delivery(&post)).unwrap().id);
                    mirror.apply(&objects(&*source, decoded.objects).await.well());
                }
                Err(refusal) => {
                    assert_eq!(refusal, Refused::Unverified("user or password is wrong".into()));
                    refused += 1;
                }
            }
        }
        if round % 10 == 0 {
            // Deletions are not announced, and some deliveries are lost.
            polled = changes(&*source, Some(polled.cursor())).await.well();
            mirror.apply(&polled);
            by_poll
                .extend(polled.of("channel_reservations").iter().map(|r| r["reservation_id"].parse::<u64>().unwrap()));
            // What came and went between two readings is known by its delivery alone.
            mirror.rows.retain(|(_, id), _| id.parse().is_ok_and(|id: u64| by_poll.contains(&id) || id < 1_000_000));
        }
    }
    assert!(refused > 2 && ids.len() > 10);
    bench.stays(|stays| assert_true(&mirror, stays, "deliveries and readings"));
}

#[tokio::test]
async fn deliveries_say_no_more_than_they_may() {
    let bench = Bench::start(world(6, 4, 4), Options::default()).await;
    let source = bench.open(json!({})).await;
    let hook = source.webhook().unwrap();
    let decoded = |body: &str| hook.decode(&delivery(&bench.simulator.post(body)));
    for (body, objects) in [
        (
            r#"{"object":"reservation","event":"reservation.updated","accountId":10450,"data":{"id":13}}"#,
            vec!["reservation:13"],
        ),
        (
            r#"{"object":"reservation","event":"reservation.created","accountId":10450,"data":{"id":"14"}}"#,
            vec!["reservation:14"],
        ),
        (r#"{"object":"reservation","event":"reservation.updated","accountId":1,"data":{"id":13}}"#, vec![]),
        (r#"{"object":"conversationMessage","event":"message.received","accountId":10450,"data":{"id":13}}"#, vec![]),
        (r#"{"object":"task","event":"task.created","accountId":10450,"data":{"id":13}}"#, vec![]),
        (r#"{"event":"something.new"}"#, vec![]),
    ] {
        let decoded = decoded(body).unwrap();
        assert_eq!(decoded.objects, objects.iter().map(ToString::to_string).collect::<Vec<_>>(), "{body}");
        assert!(!decoded.revoked && decoded.events.is_empty());
    }
    for known in [r#"{"event":"reservation.updated","data":{"id":"a/b"}}"#, r#"{"event":"reservation.updated"}"#] {
        assert!(decoded(known).is_err(), "{known}");
    }
    for malformed in ["", "[]", "{}", "<html>", r#"{"event":3}"#, r#"{"event":"reservation.updated","data":3}"#] {
        let refused = hook.identify(&delivery(&bench.simulator.post(malformed)));
        assert!(matches!(refused, Err(Refused::Malformed(_))), "{malformed:?}");
    }
}

#[tokio::test]
async fn dates_that_are_not_settled_are_absent_and_an_owners_stay_keeps_its_word() {
    let bench = Bench::start(world(6, 4, 4), Options::default()).await;
    let source = bench.open(json!({})).await;
    let (asked, owner) = bench.stays(|stays| {
        let from = stays.today(2) + Days::new(300);
        let mut book = |kind, status, offset| {
            let (check_in, check_out) = (from + Days::new(offset), from + Days::new(offset + 2));
            stays.book(Booking { listing: 2, check_in, check_out, platform: Platform::Airbnb, kind, status }).unwrap()
        };
        let mut asked = book(Kind::Stay, Status::Inquiry, 0);
        while asked % 3 != 0 {
            asked = book(Kind::Stay, Status::Inquiry, 0);
        }
        (asked, book(Kind::Owner, Status::Confirmed, 5))
    });
    let told = changes(&*source, None).await.well();
    let mut mirror = Mirror::default();
    mirror.apply(&told);
    let rows = mirror.reservations();
    let asked = rows[&reservation_id(asked)];
    assert_eq!(asked["status"], "inquiry");
    assert!(!asked.contains_key("check_in") && !asked.contains_key("check_out"));
    let owner = rows[&reservation_id(owner)];
    assert_eq!(owner["status"], "ownerStay");
    for absent in ["guest_name", "guest_email", "guest_count", "total_amount", "currency", "external_code", "adults"] {
        assert!(!owner.contains_key(absent), "{absent} is null, and not zero");
    }
}

#[tokio::test]
async fn nothing_secret_leaves_the_connector() {
    let bench = Bench::start(world(9, 8, 16), Options::default()).await;
    let source = bench.open(json!({})).await;
    let told = changes(&*source, None).await.well();
    assert!(told.rows.len() > 20);
    let text = format!("{:?} {:?}", told.rows, told.checkpoints);
    let c = bench.simulator.credentials();
    for secret in ["DOOR-", "SECRET", "cus_", "hostaway-token", &c.client_secret, &c.webhook_password] {
        assert!(!text.contains(secret), "{secret}");
    }
    assert!(!serde_json::to_string(&told.cursor()).unwrap().contains('@'));
    let refused = objects(&*source, vec!["guest:1".to_owned(), "reservation:1".to_owned()]).await.well();
    assert_eq!((refused.rejects.len(), refused.rows.len()), (1, 1), "guests are no objects here");
}

#[tokio::test]
async fn the_vendors_limit_is_kept() {
    // The vendor's 15 in ten seconds, twenty times as fast.
    let window = Window { calls: 15, per: Duration::from_millis(500) };
    let bench = Bench::start(world(1, 4, 20), Options { window: Some(window), ..Options::default() }).await;
    let limits = json!({ "calls_per_sec": 20, "burst": 4, "backoff_ms": 1 });
    let source = bench.open(json!({ "page_size": 2, "limits": limits })).await;
    changes(&*source, None).await.well();
    assert!(bench.simulator.requests().len() > 16);
    assert!(bench.simulator.requests().iter().all(|r| r.status == 200));
}
