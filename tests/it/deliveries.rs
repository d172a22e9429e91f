//! Deliveries: what is taken, what is refused, and what becomes of them whatever dies on the way.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use async_trait::async_trait;
use catalog::store::connections;
use catalog::{Clock, Cursor, Fault, Result, Retry, SecretRef};
use chrono::TimeDelta;
use connectors::webhook::{Decoded, Delivery, Identity, Refused, Webhook, sign};
use connectors::{Event, Read, Request, Source, Stream};
use futures::StreamExt;
use futures::stream::{self, BoxStream};
use kit::house::{House, NEXT_SECRET, answer, booking};
use pipelines::app::Database;
use pipelines::inbox::{Connections, Open, Told, work};
use pipelines::jobs::Outcome;
use pipelines::worker;
use proptest::prelude::*;
use reqwest::header::{HeaderMap, HeaderName};
use reqwest::{Method, RequestBuilder, StatusCode};
use serde_json::{Value, json};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

/// Long enough for a loaded machine; nothing here waits for it unless it fails.
const PATIENCE: Duration = Duration::from_secs(60);
const CREATED: &str = "/api/webhooks/booking-created";

/// The request with another value of a header.
fn with(request: RequestBuilder, name: &'static str, value: &str) -> RequestBuilder {
    request.headers(HeaderMap::from_iter([(HeaderName::from_static(name), value.parse().unwrap())]))
}

async fn reasons(house: &House) -> Vec<String> {
    sqlx::query_scalar("select reason from ops.deliveries where state = 'refused' order by id")
        .fetch_all(house.pool())
        .await
        .unwrap()
}

#[tokio::test]
async fn each_wrong_delivery_gets_its_4xx_a_sentence_and_a_line_in_the_books() {
    let house = House::new().await;
    let now = house.clock.now().timestamp();
    let deep = |n: usize| format!("{{\"booking_id\": \"b\", \"x\": {}{}}}", "[".repeat(n), "]".repeat(n));
    let mut not_text = booking("b").into_bytes();
    not_text[20] = 0xff;
    let own = |id: &str, body: Vec<u8>| house.delivery(CREATED, id, body);
    let at = |path: &str, body: &str| house.delivery(path, "m", body.to_owned());
    let cases = [
        ("unsigned", house.request(Method::POST, CREATED).body(booking("b")), 401, "`webhook-id` is missing"),
        ("signed by another", with(own("m", booking("b").into()), "webhook-id", "n"), 401, "does not fit"),
        ("half signed", house.request(Method::POST, CREATED).header("webhook-id", "m"), 401, "`webhook-timestamp`"),
        ("too old", house.delivery_at(CREATED, "m", booking("b"), now - 301), 400, "five minutes"),
        ("of tomorrow", house.delivery_at(CREATED, "m", booking("b"), now + 86_400), 400, "five minutes"),
        ("too large", own("m", vec![b' '; (1 << 20) + 1]), 413, "larger than 1048576 bytes"),
        ("nested without end", own("m", deep(100_000).into()), 400, "nested deeper"),
        ("not closed", own("m", b"{\"booking_id\": [".to_vec()), 400, "not a JSON object"),
        ("not text", own("m", not_text), 400, "UTF-8"),
        ("empty", own("m", Vec::new()), 400, "not a JSON object"),
        ("a list", own("m", b"[]".to_vec()), 400, "not a JSON object"),
        ("without a booking", own("m", b"{}".to_vec()), 400, "`booking_id`"),
        (
            "of another event",
            own("m", br#"{"event":"x","booking_id":"b"}"#.to_vec()),
            400,
            "not the one of this address",
        ),
        ("without an event", at("/api/webhooks/intake/intake", r#"{"booking_id":"b"}"#), 400, "no `event`"),
        ("for nobody", at("/api/webhooks/intake/nobody", &booking("b")), 404, "no connection of that name"),
        ("for a puller", at("/api/webhooks/mits/mits", &booking("b")), 404, "no connection of that name"),
    ];
    let count = cases.len();
    for (what, request, status, detail) in cases {
        let (got, problem) = answer(request).await;
        assert_eq!(got.as_u16(), status, "{what}: {problem}");
        assert!(problem["detail"].as_str().is_some_and(|d| d.contains(detail)), "{what}: {problem}");
        let last = reasons(&house).await.pop().unwrap_or_default();
        assert!(last.contains(detail), "{what} is on record as `{last}`");
    }
    // A stranger learns nothing about the clock.
    let stranger = with(house.delivery_at(CREATED, "m", booking("b"), now - 9999), "webhook-id", "other");
    assert_eq!(answer(stranger).await.0, StatusCode::UNAUTHORIZED);
    assert_eq!(reasons(&house).await.len(), count + 1);
    let kept: Vec<(String, i32)> =
        sqlx::query_as("select headers::text, length(body) from ops.deliveries").fetch_all(house.pool()).await.unwrap();
    assert!(kept.iter().all(|(headers, body)| !headers.contains("v1,") && *body <= 2048), "{kept:?}");
    // The refused ones do not stand in the way of the real one, and nobody can have them processed.
    assert_eq!(answer(own("m", booking("b").into())).await.0, StatusCode::ACCEPTED);
    assert!(matches!(house.work_off().await, Outcome::Done));
    let options = pipelines::service::ReplayOptions { delivery: Some(1), connection: None, since: None, state: None };
    assert!(pipelines::service::replay(&house.database, &options, &mut Vec::new()).await.is_err());
}

#[tokio::test]
async fn a_flood_of_strangers_fills_no_disk() {
    let house = House::new().await;
    for _ in 0..90 {
        assert_eq!(answer(house.request(Method::POST, CREATED).body("x")).await.0, StatusCode::UNAUTHORIZED);
    }
    assert_eq!(reasons(&house).await.len(), 60);
}

#[tokio::test]
async fn unknown_events_are_kept_and_secrets_are_not() {
    let house = House::new().await;
    let body = r#"{"event":"booking-admired","booking_id":"b","card_number":"4111","door_code":"99"}"#;
    assert_eq!(answer(house.delivery("/api/webhooks/intake/intake", "m1", body)).await.0, StatusCode::ACCEPTED);
    let forged = house
        .delivery("/api/webhooks/intake/intake", "m2", r#"{"event":"x"}"#)
        .header("propflow-event", "booking-created");
    assert_eq!(answer(forged).await.0, StatusCode::ACCEPTED);
    house.work_off().await;
    let states = house.states().await;
    assert_eq!((states[0].1.as_str(), states[1].1.as_str()), ("ignored", "ignored"), "{states:?}");
    assert!(states[0].2.as_ref().unwrap().contains("`booking-admired`"));
    let kept: String = sqlx::query_scalar("select string_agg(convert_from(body, 'utf8'), '') from ops.deliveries")
        .fetch_one(house.pool())
        .await
        .unwrap();
    assert!(!kept.contains("4111") && !kept.contains("99") && kept.contains("booking-admired"), "{kept}");
}

#[tokio::test]
async fn while_a_secret_is_replaced_both_are_good() {
    let house = House::new().await;
    let signed_with = async |name: &str, id: &str| {
        let secret = SecretRef::parse(&format!("file:{}", house.dir.path().join(name).display())).unwrap();
        let (body, sent) = (booking(id), house.clock.now().timestamp());
        let request = house.delivery(CREATED, id, body.clone());
        let mut request = request.build().unwrap();
        let signature = sign(&secret, id, sent, body.as_bytes()).unwrap();
        request.headers_mut().insert("webhook-signature", signature.parse().unwrap());
        reqwest::Client::builder().no_proxy().build().unwrap().execute(request).await.unwrap().status()
    };
    assert_eq!(signed_with("secret", "m1").await, StatusCode::ACCEPTED);
    assert_eq!(signed_with("next", "m2").await, StatusCode::ACCEPTED);
    // The old one goes. What was read is used for a few seconds more, and no longer.
    std::fs::write(house.dir.path().join("old"), std::fs::read(house.dir.path().join("secret")).unwrap()).unwrap();
    std::fs::write(house.dir.path().join("secret"), NEXT_SECRET).unwrap();
    house.clock.advance(TimeDelta::seconds(6));
    assert_eq!(signed_with("old", "m3").await, StatusCode::UNAUTHORIZED);
    assert_eq!(signed_with("next", "m4").await, StatusCode::ACCEPTED);
}

/// Any sequence of deliveries, some repeated, some unsigned, sent one after another or all at once: each that was answered
/// with a 2xx is there once, in the order of its coming, and is processed once.
#[test]
fn what_was_taken_is_there_once_and_in_order() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let step = (0u8..12, prop::bool::weighted(0.15), prop::bool::weighted(0.1));
    let config = ProptestConfig { cases: 6, ..ProptestConfig::default() };
    proptest!(config, |(steps in prop::collection::vec(step, 1..60), at_once: bool)| {
        runtime.block_on(async {
            let house = House::new().await;
            let mut model: Vec<String> = Vec::new();
            let send = |n: u8, forged: bool, unknown: bool| {
                let id = format!("m{n}");
                let body = if unknown { json!({ "event": "other" }).to_string() } else { booking(&id) };
                let path = if unknown { "/api/webhooks/intake/intake" } else { CREATED };
                let request = house.delivery(path, &id, body);
                (id, if forged { with(request, "webhook-timestamp", "1") } else { request })
            };
            if at_once {
                let sent = steps.iter().map(|(n, forged, unknown)| send(*n, *forged, *unknown));
                let answers = futures::future::join_all(sent.map(|(id, r)| async { (id, answer(r).await.0) })).await;
                let taken: Vec<&String> = answers.iter().filter(|(_, s)| *s == StatusCode::ACCEPTED).map(|(id, _)| id).collect();
                let ids: BTreeSet<&String> = taken.iter().copied().collect();
                prop_assert_eq!(taken.len(), ids.len(), "one was new twice");
                prop_assert!(answers.iter().all(|(id, s)| *s != StatusCode::OK || ids.contains(id)));
                model = ids.into_iter().cloned().collect();
            } else {
                for (n, forged, unknown) in &steps {
                    let (id, request) = send(*n, *forged, *unknown);
                    let new = !model.contains(&id);
                    let expected = match (forged, new) {
                        (true, _) => StatusCode::UNAUTHORIZED,
                        (false, true) => StatusCode::ACCEPTED,
                        (false, false) => StatusCode::OK,
                    };
                    prop_assert_eq!(answer(request).await.0, expected);
                    if expected == StatusCode::ACCEPTED {
                        model.push(id);
                    }
                }
            }
            let there = async |state: &[&str]| -> Vec<String> {
                let mut ids: Vec<String> = house.states().await.into_iter()
                    .filter(|(_, s, _)| state.contains(&&**s)).map(|(id, _, _)| id).collect();
                if at_once { ids.sort() }
                ids
            };
            if at_once { model.sort() }
            prop_assert_eq!(&there(&["received"]).await, &model);
            prop_assert!(matches!(house.work_off().await, Outcome::Done));
            prop_assert_eq!(&there(&["processed", "ignored"]).await, &model);
            let runs: Vec<String> = sqlx::query_scalar("select status from ops.runs").fetch_all(house.pool()).await.unwrap();
            prop_assert!(runs.len() <= 1 && runs.iter().all(|s| s == "succeeded"), "{:?}", runs);
            Ok(())
        })?;
    });
}

/// The job is dropped between any two of its steps, then run again: each delivery is loaded by exactly one run.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_that_dies_anywhere_loses_and_doubles_nothing() {
    let house = House::new().await;
    for n in 0..8 {
        let id = format!("m{n}");
        assert_eq!(answer(house.delivery(CREATED, &id, booking(&id))).await.0, StatusCode::ACCEPTED);
    }
    let stop = CancellationToken::new();
    let open = "select count(*) from ops.deliveries where state = 'received'";
    let locks = "select count(*) from pg_locks where locktype = 'advisory'";
    let (mut polls, mut deaths) = (2, 0);
    while sqlx::query_scalar::<_, i64>(open).fetch_one(house.pool()).await.unwrap() > 0 {
        // A process of its own, as far as the server can see: its connections die with it.
        let database = Database::open(Some(&house.db.url)).await.unwrap();
        let known = Connections::new(house.app.clone(), house.app.world(Some(&database)));
        let mut job = Box::pin(work::work_off(&house.app, &database, &known, "intake", "intake", &stop));
        let mut left = polls;
        // Each poll is a step of the job; when they are used up it dies.
        let step = std::future::poll_fn(|cx| {
            left -= 1;
            match job.as_mut().poll(cx) {
                Poll::Ready(end) => Poll::Ready(Some(end)),
                Poll::Pending if left == 0 => Poll::Ready(None),
                Poll::Pending => Poll::Pending,
            }
        });
        let ended = timeout(PATIENCE, step).await.expect("it hangs");
        drop(job);
        database.pool.close().await;
        if let Some(end) = ended {
            assert!(matches!(end.unwrap(), Outcome::Done));
        } else {
            deaths += 1;
            // The server notices soon that a connection has ended, and gives its locks back.
            while sqlx::query_scalar::<_, i64>(locks).fetch_one(house.pool()).await.unwrap() > 0 {
                tokio::task::yield_now().await;
            }
        }
        polls += 4;
        assert!(deaths < 300, "no end");
    }
    assert!(deaths > 3, "it died {deaths} times only");
    let (processed, with_run, runs): (i64, i64, i64) = sqlx::query_as(
        "select count(*), count(r.id), count(distinct r.id) from ops.deliveries d \
         left join ops.runs r on r.id = d.run_id and r.status = 'succeeded' where d.state = 'processed'",
    )
    .fetch_one(house.pool())
    .await
    .unwrap();
    assert_eq!((processed, with_run, runs), (8, 8, 1));
    let succeeded: i64 = sqlx::query_scalar("select count(*) from ops.runs where status = 'succeeded'")
        .fetch_one(house.pool())
        .await
        .unwrap();
    assert_eq!(succeeded, 1, "a batch was loaded twice");
}

#[tokio::test]
async fn a_worker_is_called_at_once_and_a_lost_call_is_found() {
    let house = House::new().await;
    let stop = CancellationToken::new();
    // Taken while no worker runs, and its call is lost.
    answer(house.delivery(CREATED, "before", booking("b0"))).await;
    sqlx::query("delete from apalis.jobs").execute(house.pool()).await.unwrap();
    let working = tokio::spawn({
        let (app, database, stop) = (house.app.clone(), house.database.clone(), stop.clone());
        async move { worker::work(&app, &database, worker::Options::default(), &stop).await }
    });
    let processed = async |id: &str| {
        let seen = "select exists (select from ops.deliveries where delivery_id = $1 and state = 'processed')";
        timeout(PATIENCE, async {
            while !sqlx::query_scalar::<_, bool>(seen).bind(id).fetch_one(house.pool()).await.unwrap() {
                tokio::task::yield_now().await;
            }
        })
        .await
        .expect("it was never processed");
    };
    processed("before").await;
    for n in 0..5 {
        let id = format!("m{n}");
        answer(house.delivery(CREATED, &id, booking(&id))).await;
        processed(&id).await;
    }
    stop.cancel();
    timeout(PATIENCE, working).await.unwrap().unwrap().unwrap();
}

/// A vendor that says what it is told to say.
struct Vendor {
    said: fn(&str) -> Result<Decoded>,
    read: fn() -> Result<()>,
}

impl Webhook for Vendor {
    fn verify(&self, _: &Delivery) -> Result<(), Refused> {
        Ok(())
    }

    fn identify(&self, delivery: &Delivery) -> Result<Identity, Refused> {
        Ok(Identity { id: connectors::webhook::body_id(&delivery.body), event: "e".to_owned() })
    }

    fn decode(&self, delivery: &Delivery) -> Result<Decoded> {
        (self.said)(std::str::from_utf8(&delivery.body).unwrap())
    }
}

#[async_trait]
impl Source for Vendor {
    fn streams(&self) -> Vec<Stream> {
        Vec::new()
    }

    async fn check(&self) -> Result<()> {
        Ok(())
    }

    fn read(&self, request: Request) -> BoxStream<'_, Result<Event>> {
        let Read::Objects { ids } = request.read else { panic!("{:?}", request.read) };
        let done = request.resume.map_or(0, |cursor| cursor.0["done"].as_u64().unwrap());
        let events = ids.into_iter().enumerate().skip(usize::try_from(done).unwrap()).flat_map(|(at, id)| {
            [
                Ok(Event::note("read", id, "")),
                (self.read)().map(|()| Event::Checkpoint(Cursor(json!({ "done": at + 1 })))),
            ]
        });
        stream::iter(events.collect::<Vec<_>>()).boxed()
    }

    fn webhook(&self) -> Option<&dyn Webhook> {
        Some(self)
    }
}

/// Rows come first, then the objects; and a reading that was cut off goes on behind what was written.
#[tokio::test]
async fn what_was_told_comes_before_what_is_asked_and_once() {
    let rows = || {
        let mut table = connectors::rows::Table::of("channel_reservations").unwrap();
        table.add();
        table.fill(0, 0, "c");
        Event::Rows { dataset: "channel_reservations".into(), batch: table.finish().unwrap() }
    };
    let request = |ids: &[&str], resume| Request {
        stream: "bookings".to_owned(),
        read: Read::Objects { ids: ids.iter().map(|i| (*i).to_owned()).collect() },
        resume,
        only: Vec::new(),
    };
    let read = async |events: Vec<Event>, ids: &[&str], resume: Option<Cursor>| {
        let told = Told::new(Box::new(Vendor { said: |_| panic!(), read: || Ok(()) }), events);
        let all: Vec<Event> = told.read(request(ids, resume)).map(Result::unwrap).collect().await;
        let cursors: Vec<Cursor> =
            all.iter().filter_map(|e| if let Event::Checkpoint(c) = e { Some(c.clone()) } else { None }).collect();
        let words: Vec<String> = all
            .into_iter()
            .map(|event| match event {
                Event::Rows { batch, .. } => format!("{} rows", batch.num_rows()),
                Event::Note(note) => note.subject,
                Event::Checkpoint(_) => "|".to_owned(),
                other => format!("{other:?}"),
            })
            .collect();
        (words.join(" "), cursors)
    };
    let (whole, cursors) = read(vec![rows(), rows()], &["a", "b"], None).await;
    assert_eq!(whole, "2 rows | a | b |");
    let rest = ["a | b |", "b |", ""];
    for (cursor, rest) in cursors.into_iter().zip(rest) {
        assert_eq!(read(vec![rows(), rows()], &["a", "b"], Some(cursor)).await.0, rest);
    }
    assert_eq!(read(vec![rows()], &[], None).await.0, "1 rows |");
    assert_eq!(read(vec![], &["a"], None).await.0, "a |");
}

impl Vendor {
    async fn work(self, house: &House) -> Outcome {
        let plan = house.app.plan("intake_bookings").await.unwrap();
        let open = Open { plans: vec![plan], source: Box::new(self) };
        let world = house.app.world(Some(&house.database));
        let known = Connections::fixed(house.app.clone(), world, "intake", "intake", open);
        let stop = CancellationToken::new();
        work::work_off(&house.app, &house.database, &known, "intake", "intake", &stop).await.unwrap()
    }
}

fn one_object() -> Decoded {
    Decoded { objects: vec!["reservation:1".to_owned()], stream: "bookings".into(), ..Decoded::default() }
}

#[tokio::test]
async fn a_delivery_that_cannot_be_understood_is_given_up_alone() {
    let house = House::new().await;
    for body in ["good", "broken", "panics", "nothing", "lost"] {
        let id = format!("m-{body}");
        let body = json!({ "booking_id": body }).to_string();
        answer(house.delivery(CREATED, &id, body)).await;
    }
    let said = |body: &str| match serde_json::from_str::<Value>(body).unwrap()["booking_id"].as_str().unwrap() {
        "good" => Ok(one_object()),
        "broken" => Err(Fault::user("the reservation has no id")),
        "nothing" => Ok(Decoded::default()),
        "lost" => Ok(Decoded { stream: "guests".into(), ..one_object() }),
        _ => panic!("a bug of a connector"),
    };
    let outcome = Vendor { said, read: || Ok(()) }.work(&house).await;
    assert!(matches!(outcome, Outcome::Done), "{outcome:?}");
    let states = house.states().await;
    let state =
        |id: &str| states.iter().find(|(i, _, _)| i == id).map(|(_, s, r)| (s.as_str(), r.clone().unwrap_or_default()));
    assert_eq!(state("m-good").unwrap().0, "processed");
    assert_eq!(state("m-nothing").unwrap().0, "ignored");
    for (id, reason) in
        [("m-broken", "no id"), ("m-panics", "panicked"), ("m-lost", "no pipeline file reads stream `guests`")]
    {
        let (state, why) = state(id).unwrap();
        assert!(state == "failed" && why.contains(reason), "{id}: {state}: {why}");
    }
}

#[tokio::test]
async fn what_cannot_be_loaded_is_tried_again_given_up_and_replayed() {
    let house = House::new().await;
    for n in 0..3 {
        let id = format!("m{n}");
        answer(house.delivery(CREATED, &id, booking(&id))).await;
    }
    // A connection that is stopped cannot load: a person has to act, so each is given up, with the way out.
    let mut connection = house.pool().acquire().await.unwrap();
    connections::set(&mut connection, "intake", "intake", true, "test").await.unwrap();
    assert!(matches!(house.work_off().await, Outcome::Done));
    let states = house.states().await;
    assert!(states.iter().all(|(_, s, r)| s == "failed" && r.as_ref().unwrap().contains("is stopped")), "{states:?}");
    let mut out = Vec::new();
    pipelines::service::connections(&house.database, Some("intake"), false, &mut out).await.unwrap();
    let options = |state| pipelines::service::ReplayOptions {
        delivery: None,
        connection: Some("intake".to_owned()),
        since: None,
        state,
    };
    pipelines::service::replay(&house.database, &options(None), &mut out).await.unwrap();
    house.work_off().await;
    assert!(house.states().await.iter().all(|(_, s, _)| s == "processed"), "{:?}", house.states().await);
    // The same again, on purpose: new runs, no new deliveries.
    let again = Some(catalog::store::deliveries::State::Processed);
    pipelines::service::replay(&house.database, &options(again), &mut out).await.unwrap();
    house.work_off().await;
    assert_eq!(house.states().await.iter().filter(|(_, s, _)| s == "processed").count(), 3);
    let none = pipelines::service::ReplayOptions { delivery: Some(77), ..options(None) };
    assert!(pipelines::service::replay(&house.database, &none, &mut out).await.is_err());
}

#[tokio::test]
async fn a_vendor_in_trouble_is_asked_ever_less_often_and_given_up_at_last() {
    let house = House::new().await;
    for n in 0..3 {
        let id = format!("m{n}");
        answer(house.delivery(CREATED, &id, booking(&id))).await;
    }
    // No pipeline file has the connection any more: somebody is at work on it, perhaps.
    std::fs::write(house.dir.path().join("specs").join("intake.toml"), "").unwrap();
    let mut rounds = 0;
    loop {
        assert!(matches!(house.work_off().await, Outcome::Done));
        let states = house.states().await;
        if states.iter().all(|(_, s, _)| s == "failed") {
            assert!(
                states[0].2.as_ref().unwrap().starts_with("gave up after 12 tries: no pipeline file"),
                "{states:?}"
            );
            break;
        }
        // Nothing is due before its time.
        let tries = "select sum(attempts)::bigint from ops.deliveries";
        let before: i64 = sqlx::query_scalar(tries).fetch_one(house.pool()).await.unwrap();
        house.work_off().await;
        let after: i64 = sqlx::query_scalar(tries).fetch_one(house.pool()).await.unwrap();
        assert!(after - before <= 2, "{before} tries became {after} without waiting");
        house.clock.advance(TimeDelta::hours(2));
        rounds += 1;
        assert!(rounds < 60, "{states:?}");
    }
    house.load_into("lake");
    let options = pipelines::service::ReplayOptions {
        delivery: None,
        connection: Some("intake".to_owned()),
        since: Some(house.clock.now() - TimeDelta::days(30)),
        state: None,
    };
    pipelines::service::replay(&house.database, &options, &mut Vec::new()).await.unwrap();
    house.work_off().await;
    assert!(house.states().await.iter().all(|(_, s, _)| s == "processed"));
}

#[tokio::test]
async fn a_withdrawn_authorisation_stops_the_connection() {
    let house = House::new().await;
    answer(house.delivery(CREATED, "m1", booking("b1"))).await;
    let revoked = |_: &str| Ok(Decoded { revoked: true, ..Decoded::default() });
    Vendor { said: revoked, read: || Err(Fault::remote("never asked").retry(Retry::Never)) }.work(&house).await;
    assert_eq!(house.states().await[0].1, "processed");
    let plan = house.app.plan("intake_bookings").await.unwrap();
    let asked = pipelines::app::Asked { trigger: "manual".to_owned(), read: None, only: Vec::new(), fresh: false };
    let fault = house.app.job(&plan, &house.database, asked.clone()).await.err().unwrap();
    assert!(fault.message.contains("its authorisation was withdrawn"), "{fault:?}");
    assert!(fault.hint.as_ref().unwrap().contains("propflow connections --resume intake"));
    let text = house.request(Method::GET, "/metrics").send().await.unwrap().text().await.unwrap();
    assert!(text.contains("propflow_connections_stopped 1"));
    pipelines::service::connections(&house.database, Some("intake"), false, &mut Vec::new()).await.unwrap();
    assert!(house.app.job(&plan, &house.database, asked).await.is_ok());
}

#[tokio::test]
async fn deliveries_go_when_their_time_is_over() {
    let house = House::new().await;
    answer(house.delivery(CREATED, "old", booking("b1"))).await;
    house.clock.advance(TimeDelta::days(20));
    answer(house.delivery(CREATED, "new", booking("b2"))).await;
    house.clock.advance(TimeDelta::days(11));
    work::prune(&house.app, house.pool(), TimeDelta::days(30)).await.unwrap();
    let left: Vec<String> = house.states().await.into_iter().map(|(id, _, _)| id).collect();
    assert_eq!(left, ["new"]);
}

#[tokio::test]
async fn several_inboxes_on_one_database_keep_one_of_each() {
    let house = House::new().await;
    let known = || Arc::new(house.connections());
    let mut inboxes = Vec::new();
    for _ in 0..3 {
        inboxes.push(pipelines::inbox::Inbox::open(&house.app, &house.database, known()).await.unwrap());
    }
    let (id, body) = ("m1", booking("b1"));
    let sent = house.clock.now().timestamp();
    let mut headers = reqwest::header::HeaderMap::new();
    let signature = sign(&house.secret(), id, sent, body.as_bytes()).unwrap();
    for (name, value) in
        [("webhook-id", id), ("webhook-timestamp", &sent.to_string()), ("webhook-signature", &signature)]
    {
        headers.insert(name, value.parse().unwrap());
    }
    let takes = (0..30).map(|n| {
        inboxes[n % 3].receive(pipelines::inbox::Incoming {
            connector: "intake".to_owned(),
            connection: "intake".to_owned(),
            event: Some("booking-created"),
            headers: headers.clone(),
            body: Some(body.clone().into()),
            peer: None,
        })
    });
    let receipts = futures::future::join_all(takes).await;
    let kept = receipts.iter().filter(|r| matches!(r, Ok(pipelines::inbox::Receipt::Kept))).count();
    assert_eq!((kept, house.states().await.len()), (1, 1));
    assert!(receipts.iter().all(Result::is_ok));
    for inbox in &inboxes {
        inbox.drain().await;
    }
}
