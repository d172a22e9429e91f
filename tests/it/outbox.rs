//! The outbox: nothing is lost, nothing overtakes, everything that is given up has its reason.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use catalog::store::outbox::{self, Message, New};
use catalog::{Clock, Fault, Result, Retry, TestClock};
use chrono::{DateTime, TimeDelta, Utc};
use kit::db::TestDb;
use pipelines::app::App;
use pipelines::outbox::{Couriers, Options, attempt, work};
use pipelines::progress::Silent;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};
use sinks::Courier;
use tokio_util::sync::CancellationToken;

/// Fails as each message says, and keeps what arrived.
#[derive(Debug, Default)]
struct Scripted {
    arrived: Mutex<Vec<Message>>,
    in_lane: Mutex<BTreeSet<String>>,
    overlapped: AtomicUsize,
}

#[async_trait]
impl Courier for Scripted {
    async fn check(&self) -> Result<()> {
        Ok(())
    }

    async fn deliver(&self, message: &Message) -> Result<Option<Value>> {
        if !self.in_lane.lock().unwrap().insert(message.lane.clone()) {
            self.overlapped.fetch_add(1, Ordering::Relaxed);
        }
        for _ in 0..message.payload["slow"].as_u64().unwrap_or(0) {
            tokio::task::yield_now().await;
        }
        self.in_lane.lock().unwrap().remove(&message.lane);
        let failures = message.payload["failures"].as_i64().unwrap();
        if i64::from(message.attempts) < failures {
            return Err(Fault::remote("the vendor is busy"));
        }
        match message.payload["end"].as_str() {
            Some("refused") => Err(Fault::user("the vendor refuses it").hint("Mend it.")),
            Some("later") if message.attempts as i64 == failures => {
                Err(Fault::remote("come back").retry(Retry::After(Duration::from_secs(7200))))
            }
            _ => {
                self.arrived.lock().unwrap().push(message.clone());
                Ok(Some(json!({ "got": message.id })))
            }
        }
    }
}

struct Desk {
    db: TestDb,
    clock: TestClock,
    courier: Arc<Scripted>,
    couriers: Arc<Couriers>,
}

impl Desk {
    async fn new() -> Self {
        let db = TestDb::new().await;
        let clock = TestClock::at(DateTime::<Utc>::from_timestamp(1_790_000_000, 0).unwrap());
        let app = App {
            specs: None,
            database_url: Some(db.url.clone()),
            clock: Arc::new(clock.clone()),
            observer: Arc::new(Silent),
        };
        let (couriers, courier) = (Couriers::new(&app, db.pool.clone()), Arc::new(Scripted::default()));
        couriers.insert("test", "acme", courier.clone()).await;
        Self { db, clock, courier, couriers }
    }

    async fn put(&self, lane: &str, key: &str, payload: Value) -> Option<i64> {
        let new = New {
            courier: "test".to_owned(),
            connection: "acme".to_owned(),
            lane: lane.to_owned(),
            kind: "greeting".to_owned(),
            payload,
            dedupe_key: key.to_owned(),
            run_after: self.clock.now(),
        };
        let mut connection = self.db.pool.acquire().await.unwrap();
        outbox::put(&mut connection, &new, self.clock.now()).await.unwrap()
    }

    async fn drain(&self) {
        let options = Options { parallel: 3, drain: true };
        work(&self.db.pool, &self.couriers, options, &CancellationToken::new()).await.unwrap();
    }

    async fn states(&self) -> BTreeMap<String, i64> {
        sqlx::query_as("select state, count(*) from sync.outbox group by 1")
            .fetch_all(&self.db.pool)
            .await
            .unwrap()
            .into_iter()
            .collect()
    }
}

/// Random lanes of messages that arrive at once, late, or never; workers that die in the middle; several at a time.
#[tokio::test]
async fn every_message_arrives_in_its_lanes_order_or_is_dead_with_a_reason() {
    let mut rng = ChaCha8Rng::seed_from_u64(4);
    let desk = Desk::new().await;
    let mut wanted: BTreeMap<String, Vec<i64>> = BTreeMap::new();
    let mut refused = 0;
    for n in 0..60 {
        let lane = format!("person-{}", rng.random_range(0..9));
        let end = ["ok", "ok", "ok", "later", "refused"][rng.random_range(0..5)];
        let payload = json!({ "failures": rng.random_range(0..3), "end": end, "slow": rng.random_range(0..30) });
        let id = desk.put(&lane, &format!("m{n}"), payload.clone()).await.unwrap();
        assert_eq!(desk.put(&lane, &format!("m{n}"), payload).await, None, "a known key is no second message");
        if end == "refused" { refused += 1 } else { wanted.entry(lane).or_default().push(id) }
    }
    for round in 0..80 {
        // A worker that dies with messages under way: its future is dropped at a random step.
        let steps = rng.random_range(0..40);
        let mut dying = Box::pin(attempt(&desk.db.pool, &desk.couriers, None));
        for _ in 0..steps {
            tokio::select! { biased; _ = &mut dying => break, () = tokio::task::yield_now() => {} }
        }
        drop(dying);
        desk.courier.in_lane.lock().unwrap().clear();
        desk.drain().await;
        desk.clock.advance(TimeDelta::hours(1));
        if !desk.states().await.contains_key("waiting") {
            break;
        }
        assert!(round < 79, "messages never settle: {:?}", desk.states().await);
    }
    let arrived = desk.courier.arrived.lock().unwrap().clone();
    for (lane, ids) in &wanted {
        let mut got: Vec<i64> = arrived.iter().filter(|m| m.lane == *lane).map(|m| m.id).collect();
        // A worker that died behind the delivery and before the note of it delivers once more, in place.
        got.dedup();
        assert_eq!(&got, ids, "{lane}");
    }
    assert_eq!(desk.courier.overlapped.load(Ordering::Relaxed), 0, "two messages of a lane were under way at once");
    let states = desk.states().await;
    assert_eq!(states.get("dead").copied().unwrap_or(0), refused);
    assert_eq!(states["delivered"], 60 - refused);
    let dead = outbox::list(&desk.db.pool, Some("dead"), 100).await.unwrap();
    assert!(dead.iter().all(|m| m.reason.as_deref() == Some("the vendor refuses it") && m.hint.is_some()));
    let untold: i64 = sqlx::query_scalar(
        "select count(*) from sync.outbox o where attempts <> (select count(*) from sync.outbox_tries t where t.outbox_id = o.id)",
    )
    .fetch_one(&desk.db.pool)
    .await
    .unwrap();
    assert_eq!(untold, 0, "every try is on record");
}

#[tokio::test]
async fn what_was_given_up_can_be_replayed_and_what_waits_withdrawn() {
    let desk = Desk::new().await;
    let dead = desk.put("a", "one", json!({ "failures": 99 })).await.unwrap();
    desk.put("b", "visit-7/reminder", json!({ "failures": 99 })).await.unwrap();
    desk.drain().await;
    let mut connection = desk.db.pool.acquire().await.unwrap();
    let now = desk.clock.now();
    assert_eq!(outbox::withdraw(&mut connection, "visit-7/", "the visit was called off", now).await.unwrap(), 1);
    drop(connection);
    for _ in 0..40 {
        desk.clock.advance(TimeDelta::hours(2));
        desk.drain().await;
    }
    assert_eq!(desk.states().await, BTreeMap::from([("dead".to_owned(), 1), ("withdrawn".to_owned(), 1)]));
    let given_up = &outbox::list(&desk.db.pool, Some("dead"), 9).await.unwrap()[0];
    assert_eq!(given_up.reason.as_deref(), Some("gave up after 12 tries: the vendor is busy"));
    assert_eq!(outbox::replay(&desk.db.pool, Some(dead), desk.clock.now()).await.unwrap(), 1);
    // A courier that no file describes can be added while its messages wait.
    let mut unknown = desk.db.pool.acquire().await.unwrap();
    sqlx::query("update sync.outbox set connection = 'nobody' where id = $1")
        .bind(dead)
        .execute(&mut *unknown)
        .await
        .unwrap();
    desk.drain().await;
    let waiting = &outbox::list(&desk.db.pool, Some("waiting"), 9).await.unwrap()[0];
    assert!(waiting.reason.as_deref().unwrap().contains("no file describes the connection `nobody`"), "{waiting:?}");
    // Whoever has added one need not wait for the next try; what was withdrawn stays so.
    assert!(waiting.run_after > desk.clock.now());
    assert_eq!(outbox::replay(&desk.db.pool, Some(dead), desk.clock.now()).await.unwrap(), 1);
    assert_eq!(outbox::next_due(&desk.db.pool).await.unwrap(), Some(desk.clock.now()));
    let withdrawn = outbox::list(&desk.db.pool, Some("withdrawn"), 9).await.unwrap()[0].id;
    assert!(outbox::replay(&desk.db.pool, Some(withdrawn), desk.clock.now()).await.is_err());
}
