//! Airbnb's partner API and VRBO's documents, as far as they are known.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, in its own helpers too")]

use std::collections::{BTreeMap, BTreeSet};

use axum::http::{HeaderMap, HeaderValue, header};
use catalog::TestClock;
use chrono::{Days, TimeDelta};
use connectors::webhook::{Decoded, Delivery, Refused};
use connectors::{Event, Read, Source};
use fixtures::calendars::{Glitch, Options, Rule, Simulator, booking_request, booking_update, callback};
use fixtures::stays::{Booking, Kind, Platform, Shape, Shared, Status, Stays};
use kit::vendors::secret;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::ical::{Cells, LIMITS, now, open, read, row_maps};

struct Partner {
    simulator: Simulator,
    clock: TestClock,
    source: Box<dyn Source>,
    _dir: TempDir,
}

impl Partner {
    async fn start() -> Self {
        let stays = Shared::new(Stays::new(Shape { seed: 21, listings: 4, stays: 14, now: now() }));
        let simulator = Simulator::start(stays, Options::default()).await.unwrap();
        let dir = tempfile::tempdir().unwrap();
        let c = simulator.credentials().clone();
        let listings: Vec<Value> = (simulator.stays().lock().listings.iter())
            .map(|l| json!({ "listing": l.airbnb_id, "property": l.property }))
            .collect();
        let settings = json!({
            "partner": {
                "unverified": true,
                "base_url": simulator.base_url(),
                "api_key": secret(dir.path(), "key", &c.api_key),
                "api_secret": secret(dir.path(), "secret", &c.api_secret),
                "refresh_token": secret(dir.path(), "refresh", &c.refresh_token),
                "listings": listings,
                "days_back": 400,
                "callback_password": secret(dir.path(), "callback", "hook"),
            },
            "limits": serde_json::from_str::<Value>(LIMITS).unwrap(),
        });
        let clock = TestClock::at(now());
        let source = open("airbnb", &settings, &clock).await;
        Self { simulator, clock, source, _dir: dir }
    }

    /// What the list must hold: code, listing, dates and what the host gets.
    fn truth(&self) -> BTreeSet<[String; 5]> {
        let stays = self.simulator.stays().lock();
        let listed = |r: &&fixtures::stays::Reservation| {
            !r.deleted && r.kind == Kind::Stay && r.platform == Platform::Airbnb && r.status != Status::Inquiry
        };
        let row = |r: &fixtures::stays::Reservation| {
            let listing = stays.listings[r.listing].airbnb_id.clone();
            let payout = format!("{}.{:02}", r.payout() / 100, r.payout() % 100);
            [r.code.clone(), listing, r.check_in.to_string(), r.check_out.to_string(), payout]
        };
        stays.reservations.iter().filter(listed).map(row).collect()
    }
}

fn row(cells: &Cells) -> [String; 5] {
    ["reservation_id", "listing_id", "check_in", "check_out", "host_payout"].map(|c| cells[c].clone())
}

#[tokio::test]
async fn the_list_is_followed_through_changes() {
    let partner = Partner::start().await;
    let first = read(&*partner.source, Read::Changes { since: None }, None, usize::MAX).await;
    let mut table: BTreeMap<String, Cells> =
        first.reservations().into_iter().map(|r| (r["reservation_id"].clone(), r.clone())).collect();
    assert_eq!(table.values().map(row).collect::<BTreeSet<_>>(), partner.truth());
    assert!(table.len() > 15, "{}", table.len());
    let some = table.values().find(|r| r["status"] == "accept").unwrap();
    assert_eq!((some["identity"].as_str(), some["currency"].as_str()), ("strong", "USD"));
    assert_eq!(some["check_in_time"].len(), 5);
    assert!(some["guest_email"].ends_with("@guest.airbnb.com"));
    assert!(!some.contains_key("total_amount"), "what the guest pays is not told");

    let mut cursor = first.cursor;
    for round in 0..25 {
        partner.clock.advance(TimeDelta::minutes(10));
        {
            let mut stays = partner.simulator.stays().lock();
            stays.pass(TimeDelta::minutes(10));
            (0..6).for_each(|_| _ = stays.mutate());
        }
        if round % 5 == 0 {
            partner.simulator.revoke_tokens();
        }
        // Killed behind some listing, it goes on from what was committed.
        let stop = if round % 3 == 0 { 2 } else { usize::MAX };
        let reading = read(&*partner.source, Read::Changes { since: cursor.clone() }, None, stop).await;
        let mut told: Vec<Cells> = reading.reservations().into_iter().cloned().collect();
        cursor = reading.cursor.clone();
        if stop == 2 {
            let rest = read(&*partner.source, Read::Changes { since: None }, cursor.clone(), usize::MAX).await;
            told.extend(rest.reservations().into_iter().cloned());
            cursor = rest.cursor;
        }
        for cells in told {
            match cells.contains_key("presence") {
                true => _ = table.remove(&cells["reservation_id"]),
                false => _ = table.insert(cells["reservation_id"].clone(), cells),
            }
        }
    }
    // What happened behind the listing that was read last is seen by the next reading.
    let last = read(&*partner.source, Read::Changes { since: cursor.clone() }, None, usize::MAX).await;
    for cells in last.reservations() {
        match cells.contains_key("presence") {
            true => _ = table.remove(&cells["reservation_id"]),
            false => _ = table.insert(cells["reservation_id"].clone(), cells.clone()),
        }
    }
    assert_eq!(table.values().map(row).collect::<BTreeSet<_>>(), partner.truth());
    let quiet = read(&*partner.source, Read::Changes { since: last.cursor }, None, usize::MAX).await;
    assert_eq!(quiet.rows, []);
}

#[tokio::test]
async fn a_listing_that_fails_leaves_the_others_alone() {
    let partner = Partner::start().await;
    partner.source.check().await.unwrap();
    partner.simulator.misbehave(Rule::always(Glitch::Html).path("/v2/reservations/").times(1));
    let reading = read(&*partner.source, Read::Snapshot, None, usize::MAX).await;
    assert_eq!(reading.failed.len(), 1);
    assert!(reading.failed[0].1.chain().contains("not what is known of it"), "{}", reading.failed[0].1.chain());
    let listings: BTreeSet<&String> = reading.reservations().iter().map(|r| &r["listing_id"]).collect();
    assert_eq!(listings.len(), 3);
}

fn delivery(user: &str, password: &str, body: String) -> Delivery {
    use base64::Engine as _;
    let credentials = base64::engine::general_purpose::STANDARD.encode(format!("{user}:{password}"));
    let mut headers = HeaderMap::new();
    headers.insert(header::AUTHORIZATION, HeaderValue::try_from(format!("Basic {credentials}")).unwrap());
    Delivery { headers, body: body.into(), received_at: now() }
}

#[tokio::test]
async fn callbacks_are_hints() {
    let partner = Partner::start().await;
    let hook = partner.source.webhook().unwrap();
    let mut kinds = BTreeSet::new();
    for _ in 0..120 {
        let (number, body) = {
            let mut stays = partner.simulator.stays().lock();
            let Some((number, _)) = stays.mutate() else { continue };
            let changed = *stays.changes.last().unwrap();
            (number, callback(&stays, &changed))
        };
        let Some(body) = body else { continue };
        let delivery = delivery("airbnb", "hook", body);
        hook.verify(&delivery).unwrap();
        let identity = hook.identify(&delivery).unwrap();
        assert_eq!(identity, hook.identify(&delivery).unwrap());
        kinds.insert(identity.event);
        let decoded = hook.decode(&delivery).unwrap();
        assert!(decoded.events.is_empty(), "nothing that it says is believed");
        let code = partner.simulator.stays().lock().reservation(number).unwrap().code.clone();
        assert_eq!(decoded.objects, [format!("reservation:{code}")]);
        let reading = read(&*partner.source, Read::Objects { ids: decoded.objects }, None, usize::MAX).await;
        let known = partner.truth().into_iter().find(|row| row[0] == code);
        assert_eq!(reading.reservations().first().map(|cells| row(cells)), known);
    }
    assert!(kinds.len() >= 3, "{kinds:?}");

    let gone =
        read(&*partner.source, Read::Objects { ids: vec!["reservation:HMUNKNOWN1".to_owned()] }, None, usize::MAX)
            .await;
    assert_eq!(gone.gone(), ["HMUNKNOWN1"]);

    let say = |body: &str| delivery("airbnb", "hook", body.to_owned());
    let decoded: Decoded = hook.decode(&say(r#"{"action":"authorization_revoked","host_id":1}"#)).unwrap();
    assert!(decoded.revoked);
    for quiet in ["test_notification", "message_added", "something_new"] {
        let decoded = hook.decode(&say(&format!(r#"{{"action":"{quiet}"}}"#))).unwrap();
        assert!(decoded.objects.is_empty() && !decoded.revoked);
    }
    assert!(hook.decode(&say(r#"{"action":"reservation_requested","reservation":{}}"#)).is_err());
    for body in ["", "[]", "{}", "<xml/>", r#"{"action":7}"#] {
        assert!(matches!(hook.identify(&say(body)), Err(Refused::Malformed(_))), "{body}");
    }
    assert!(matches!(hook.verify(&delivery("airbnb", "wrong", String::new())), Err(Refused::Unverified(_))));
    assert!(matches!(hook.verify(&Delivery { headers: HeaderMap::new(), ..say("") }), Err(Refused::Unverified(_))));
}

#[tokio::test]
async fn documents_are_rows_without_their_payment() {
    let dir = tempfile::tempdir().unwrap();
    let settings = json!({ "partner": { "unverified": true, "password": secret(dir.path(), "p", "hook") } });
    let source = open("vrbo", &settings, &TestClock::at(now())).await;
    source.check().await.unwrap();
    let hook = source.webhook().unwrap();

    let mut stays = Stays::new(Shape { seed: 8, listings: 2, stays: 0, now: now() });
    let check_in = stays.today(0) + Days::new(12);
    let (kind, platform, status) = (Kind::Stay, Platform::Vrbo, Status::Pending);
    let booking = Booking { listing: 0, check_in, check_out: check_in + Days::new(4), platform, kind, status };
    let number = stays.book(booking).unwrap();
    let tell = |body: String| {
        let delivery = delivery("vrbo", "hook", body);
        hook.verify(&delivery).unwrap();
        let event = hook.identify(&delivery).unwrap().event;
        let mut decoded = hook.decode(&delivery).unwrap();
        let Event::Rows { dataset, batch } = decoded.events.remove(0) else { panic!("no rows") };
        assert_eq!((&*dataset, &*decoded.stream), ("channel_reservations", "bookings"));
        (event, row_maps(&batch).remove(0))
    };

    let request = booking_request(&stays, number).unwrap();
    assert!(request.contains("INVENTED") && request.contains("192.0.2.7"));
    let (event, asked) = tell(request);
    let r = stays.reservation(number).unwrap().clone();
    let guest = stays.guests[r.guest.unwrap()].clone();
    assert_eq!((event.as_str(), asked["status"].as_str()), ("bookingRequest", "UNCONFIRMED"));
    assert_eq!(asked["total_amount"], format!("{}.{:02}", r.total() / 100, r.total() % 100));
    assert_eq!((asked["currency"].as_str(), asked["guest_first_name"].as_str()), ("USD", guest.first_name.as_str()));
    assert_eq!((asked["check_in"].clone(), asked["adults"].clone()), (r.check_in.to_string(), r.adults.to_string()));
    let text = format!("{asked:?}");
    for secret in ["INVENTED", "tok_", "987", "192.0.2.7", "CARDHOLDER"] {
        assert!(!text.contains(secret), "`{secret}` has come through");
    }

    assert!(stays.confirm(number));
    let (_, confirmed) = tell(booking_update(&stays, number).unwrap());
    assert_eq!(
        (&confirmed["status"], &confirmed["reservation_id"]),
        (&"CONFIRMED".to_owned(), &asked["reservation_id"])
    );
    assert!(stays.cancel(number, true));
    assert_eq!(tell(booking_update(&stays, number).unwrap()).1["status"], "CANCELLED_BY_TRAVELER");

    let say = |body: &str| delivery("vrbo", "hook", body.to_owned());
    assert!(hook.decode(&say("<quoteRequest><a>1</a></quoteRequest>")).unwrap().events.is_empty());
    assert!(hook.decode(&say("<bookingUpdate><a>1</a></bookingUpdate>")).is_err());
    assert!(matches!(hook.identify(&say("{}")), Err(Refused::Malformed(_))));
    assert!(matches!(hook.verify(&delivery("vrbo", "", String::new())), Err(Refused::Unverified(_))));
}
