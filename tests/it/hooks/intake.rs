//! Events of own systems that say only what has changed, in any order, late and again.

use chrono::TimeDelta;
use kit::house::{House, answer, booking};
use pipelines::jobs::Outcome;
use reqwest::StatusCode;
use serde_json::{Value, json};

/// Its name, what is sent, and what stands then.
type Story<'a> = (&'a str, Vec<(&'a str, Value)>, String);

/// What a house holds of a booking of `intake`: status, guests, name, amount and last day.
async fn held(house: &House, id: &str) -> Option<String> {
    sqlx::query_scalar(
        "select concat_ws(' ', status, guest_count, guest_name, total_amount, currency, check_out) \
         from core.source_bookings where source_booking_id = $1",
    )
    .bind(id)
    .fetch_optional(house.pool())
    .await
    .unwrap()
}

async fn send(house: &House, event: &str, number: usize, id: &str, said: &Value) {
    // A whole body is marked by `booking`.
    let mut body: Value = match said.get("booking") {
        Some(_) => serde_json::from_str(&booking(id)).unwrap(),
        None => json!({ "booking_id": id }),
    };
    body.as_object_mut().unwrap().extend(said.as_object().unwrap().clone());
    let request = house.delivery(&format!("/api/webhooks/{event}"), &format!("{id}-{number}"), body.to_string());
    let (status, answer) = answer(request).await;
    assert_eq!(status, StatusCode::ACCEPTED, "{id}: {answer}");
    house.clock.advance(TimeDelta::seconds(20));
}

/// Each story ends the same, whether its events are worked off one by one or all at once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_changes_what_it_says_and_no_more() {
    let house = House::new().await;
    let path = house.dir.path().join("specs").join("intake.toml");
    std::fs::write(&path, std::fs::read_to_string(&path).unwrap() + "[[sinks]]\nsink = \"postgres\"\n").unwrap();
    let (created, updated, cancelled) = ("booking-created", "booking-updated", "booking-cancelled");
    let (came, left) = ("guest-checked-in", "guest-checked-out");
    let (none, whole) = (json!({}), json!({ "booking": true }));
    let at = |seconds: i64| rig_time(&house, seconds);
    let guests = |n: u32| json!({ "guest_count": n });
    let dated = |n: u32, time: &str| json!({ "guest_count": n, "updated_at": time });
    let made = (created, whole.clone());
    let usual = |status: &str, guests: u32| format!("{status} {guests} Ada Example 612.50 USD 2026-07-04");
    let stories: Vec<Story<'_>> = vec![
        ("called off", vec![made.clone(), (cancelled, none.clone())], usual("cancelled", 2)),
        ("left", vec![made.clone(), (came, none.clone()), (left, none.clone())], usual("completed", 2)),
        ("left, and came late", vec![made.clone(), (left, none.clone()), (came, none.clone())], usual("completed", 2)),
        ("more guests", vec![made.clone(), (came, none.clone()), (updated, guests(5))], usual("checked_in", 5)),
        ("told whole", vec![made.clone(), (came, none.clone()), (updated, whole.clone())], usual("checked_in", 2)),
        ("left, told whole", vec![made.clone(), (left, none.clone()), (updated, whole.clone())], usual("completed", 2)),
        ("made late", vec![made.clone(), (cancelled, none.clone()), made.clone()], usual("cancelled", 2)),
        ("off and changed", vec![made.clone(), (cancelled, none.clone()), (updated, guests(3))], usual("cancelled", 3)),
        (
            "on again",
            vec![made.clone(), (cancelled, none.clone()), (updated, json!({ "booking_status": "confirmed" }))],
            usual("confirmed", 2),
        ),
        (
            "longer",
            vec![made.clone(), (updated, json!({ "check_out": "2026-07-05" }))],
            usual("confirmed", 2).replace("07-04", "07-05"),
        ),
        (
            "of the future",
            vec![made.clone(), (updated, dated(4, "2099-01-01T00:00:00Z")), (updated, guests(5))],
            usual("confirmed", 5),
        ),
        (
            "of no time",
            vec![made.clone(), (updated, dated(6, "garbage")), (came, none.clone())],
            usual("checked_in", 6),
        ),
        ("of the past", vec![made.clone(), (updated, dated(7, &at(-3600)))], usual("confirmed", 2)),
        (
            "unsound between",
            vec![made.clone(), (updated, json!({ "check_out": "2026-06-01" })), (came, none.clone())],
            usual("checked_in", 2),
        ),
        ("beside nothing", vec![made.clone(), (came, json!({ "check_in": "soon" }))], usual("confirmed", 2)),
    ];
    for (name, events, wanted) in stories {
        let [each, once] = ["each", "once"].map(|way| format!("{name} {way}"));
        for (number, (event, said)) in events.iter().enumerate() {
            send(&house, event, number, &each, said).await;
            assert!(matches!(house.work_off().await, Outcome::Done));
        }
        for (number, (event, said)) in events.iter().enumerate() {
            send(&house, event, number, &once, said).await;
        }
        assert!(matches!(house.work_off().await, Outcome::Done));
        assert_eq!(held(&house, &each).await.as_deref(), Some(&*wanted), "{each}");
        assert_eq!(held(&house, &once).await.as_deref(), Some(&*wanted), "{once}");
    }
    // Nobody knows this one, and it says too little.
    send(&house, cancelled, 0, "stranger", &none).await;
    house.work_off().await;
    assert_eq!(held(&house, "stranger").await, None);
    let reason = async |like: &str| -> Option<String> {
        sqlx::query_scalar("select string_agg(reason, '; ') from ops.rejects where key like $1 or payload ->> 'source_booking_id' = $1")
            .bind(like)
            .fetch_one(house.pool())
            .await
            .unwrap()
    };
    assert!(reason("%stranger%").await.unwrap().contains("it names no listing"));
    assert!(reason("%of no time once%").await.unwrap().contains("`updated_at` `garbage` is no instant"));
    let states = house.states().await;
    let said = |id: &str| states.iter().find(|(delivery, ..)| delivery == id).unwrap().clone();
    let (_, state, why) = said("stranger-0");
    assert_eq!(state, "processed");
    assert!(why.unwrap().contains("nobody has told its booking"));
    assert!(said("made late each-2").2.unwrap().contains("does not say that it is newer"));
    assert!(said("of the past once-1").2.unwrap().contains("newer"));
    assert_eq!(said("called off each-1").2, None);
}

fn rig_time(house: &House, seconds: i64) -> String {
    let now = catalog::Clock::now(&house.clock) + TimeDelta::seconds(seconds);
    now.to_rfc3339_opts(chrono::SecondsFormat::Secs, true)
}
