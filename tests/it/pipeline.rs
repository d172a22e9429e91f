//! Whole pipelines: from a simulated vendor to the tables and the lake.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use arrow::array::RecordBatch;
use async_trait::async_trait;
use catalog::store::runs::Status;
use catalog::{Result, Slice, SliceId};
use chrono::TimeDelta;
use connectors::{Event, Request, Source, Stream};
use fixtures::resman::{Misbehaviour, Rule};
use futures::StreamExt;
use futures::stream::BoxStream;
use kit::db::TestDb;
use kit::rig::{PIPELINE, Rig};
use pipelines::run::{Job, run};
use proptest::prelude::*;
use sinks::{Abilities, Receipt, Sink, Target};
use sqlx::{Connection, Executor};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

#[tokio::test]
async fn a_test_database_is_migrated_and_its_own() {
    let (a, b) = (TestDb::new().await, TestDb::new().await);
    sqlx::query("insert into ops.schedules (schedule, last_tick) values ('x', now())").execute(&a.pool).await.unwrap();
    let seen: i64 = sqlx::query_scalar("select count(*) from ops.schedules").fetch_one(&b.pool).await.unwrap();
    assert_eq!(seen, 0);
}

#[tokio::test]
async fn a_pull_serves_what_the_vendor_offers_and_fills_the_lake_alike() {
    let rig = Rig::small().await;
    let summary = rig.pull().await;
    assert_eq!(summary.status, Status::Succeeded, "{:?}", summary.failed_scopes);
    assert_eq!(rig.served().await, rig.truth());
    // The lake and the tables tell the same story, row by row.
    let (tables, lake) = (rig.tables().await, rig.lake_tables().await);
    for (name, rows) in &lake {
        let live = tables[name].iter().filter(|r| r.contains("\"gone\": false")).count();
        assert_eq!(rows.len(), live, "`{name}` differs between lake and PostgreSQL");
    }
    assert!(lake["units"].len() >= 30);
}

#[tokio::test]
async fn a_second_pull_of_the_same_world_changes_nothing() {
    let rig = Rig::small().await;
    rig.pull().await;
    let before = rig.tables().await;
    rig.clock.advance(TimeDelta::hours(6));
    let summary = rig.pull().await;
    for (dataset, counts) in &summary.rows {
        assert_eq!(counts.inserted + counts.updated + counts.deleted, 0, "`{dataset}` changed: {counts:?}");
    }
    assert_eq!(rig.tables().await, before);
}

/// Random days at the vendor: after each pull the chatbot sees exactly what is on offer, at the rent that holds.
#[test]
fn whatever_happens_at_the_vendor_the_chatbot_sees_the_truth() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    proptest!(ProptestConfig::with_cases(4), |(seed in 0u64..1000, days in prop::collection::vec(1usize..12, 1..4))| {
        runtime.block_on(async {
            let rig = Rig::of(2, 10, seed).await;
            rig.pull().await;
            for changes in days {
                rig.simulator.with_world(|w| w.mutate(changes));
                rig.clock.advance(TimeDelta::hours(6));
                let summary = rig.pull().await;
                prop_assert_eq!(summary.status, Status::Succeeded);
                prop_assert_eq!(rig.served().await, rig.truth());
                let quoted: Vec<(String, String, i64, Option<String>)> = sqlx::query_as(
                    "select property_id, unit_number, lease_term_months, rent::text from serving.unit_costs where lease_term_months is not null",
                ).fetch_all(rig.pool()).await.unwrap();
                prop_assert!(quoted.iter().all(|(_, _, _, rent)| rent.as_deref() != Some("0.00")), "an unknown rent became free");
                let units: i64 = sqlx::query_scalar("select count(*) from serving.unit_costs c left join serving.available_units u using (property_id, unit_number) where u.unit_number is null")
                    .fetch_one(rig.pool()).await.unwrap();
                prop_assert_eq!(units, 0, "a price of a unit that is gone");
            }
            Ok(())
        })?;
    });
}

#[tokio::test]
async fn a_property_that_left_the_account_is_no_longer_served() {
    let rig = Rig::small().await;
    rig.pull().await;
    let gone = rig.simulator.with_world(|w| {
        let id = w.properties[0].id.clone();
        assert!(w.remove_property(&id));
        id
    });
    let name: String = sqlx::query_scalar("select name from core.account_properties where property_id = $1")
        .bind(&gone)
        .fetch_one(rig.pool())
        .await
        .unwrap();
    rig.clock.advance(TimeDelta::hours(6));
    let summary = rig.pull().await;
    let told = format!("on no list any more, and served no longer: {name} ({gone})");
    assert!(summary.notes.iter().any(|n| n.text == told), "{:?}", summary.notes);
    let kept = catalog::store::runs::notes(rig.pool(), summary.run).await.unwrap();
    assert!(kept.iter().any(|n| n.topic == "withdrawn" && n.text == told && n.count == 1), "{kept:?}");
    // It is news once.
    rig.clock.advance(TimeDelta::hours(6));
    assert!(rig.pull().await.notes.iter().all(|n| n.topic != "withdrawn"));
    assert!(!rig.served().await.contains_key(&gone));
    let seen: i64 = sqlx::query_scalar("select count(*) from serving.properties where property_id = $1")
        .bind(&gone)
        .fetch_one(rig.pool())
        .await
        .unwrap();
    assert_eq!(seen, 0);
}

#[tokio::test]
async fn one_bad_property_is_named_kept_and_does_not_stop_the_others() {
    let rig = Rig::small().await;
    rig.pull().await;
    let bad = rig.simulator.with_world(|w| w.properties[1].id.clone());
    let before: Vec<String> = rig.served().await.remove(&bad).unwrap_or_default();
    rig.simulator.misbehave(Rule::on("MITS/GetMarketing4_0", Misbehaviour::Malformed).property(&bad));
    rig.simulator.with_world(|w| w.mutate(10));
    rig.clock.advance(TimeDelta::hours(6));
    let summary = rig.pull().await;
    assert_eq!(summary.status, Status::Partial);
    assert_eq!(summary.failed_scopes.len(), 1);
    assert_eq!(summary.failed_scopes[0].0, bad);
    let (mut served, mut truth) = (rig.served().await, rig.truth());
    assert_eq!(served.remove(&bad).unwrap_or_default(), before, "what was stored of the bad property stays");
    truth.remove(&bad);
    assert_eq!(served, truth);
    // Mended, a replay reads just that property.
    rig.simulator.behave();
    rig.simulator.forget_requests();
    let only = pipelines::books::scopes_to_replay(&rig.database, PIPELINE).await.unwrap();
    assert_eq!(only, std::slice::from_ref(&bad));
    let mut job = rig.job().await;
    job.only = only;
    rig.run(job).await.unwrap();
    assert_eq!(rig.served().await, rig.truth());
    assert_eq!(rig.simulator.count("MITS/GetMarketing4_0"), 1);
}

#[tokio::test]
async fn rows_grow_stale_when_nobody_confirms_them() {
    let rig = Rig::small().await;
    rig.pull().await;
    let stale = "select count(*) filter (where stale), count(*) from serving.available_units";
    // The view compares with the server's own time; the rig's clock stands in another year, so set it to now.
    sqlx::query("update ops.freshness set observed_at = now()").execute(rig.pool()).await.unwrap();
    let (old, all): (i64, i64) = sqlx::query_as(stale).fetch_one(rig.pool()).await.unwrap();
    assert!(all > 0 && old == 0);
    let property: String = sqlx::query_scalar("select property_id from serving.available_units limit 1")
        .fetch_one(rig.pool())
        .await
        .unwrap();
    sqlx::query(
        "update ops.freshness set observed_at = now() - make_interval(secs => limit_seconds + 1) where scope = $1",
    )
    .bind(&property)
    .execute(rig.pool())
    .await
    .unwrap();
    let marked: Vec<String> =
        sqlx::query_scalar("select distinct property_id from serving.available_units where stale")
            .fetch_all(rig.pool())
            .await
            .unwrap();
    assert_eq!(marked, [property]);
}

/// A sink to which something happens before a chosen step.
struct Mortal {
    inner: Box<dyn Sink>,
    step: Arc<AtomicUsize>,
    deadly: usize,
    fate: Fate,
}

#[derive(Clone)]
enum Fate {
    /// The step never happens, and neither does anything after it.
    Death(Arc<Notify>),
    /// Every connection of the database of this address is cut, and the sink goes on as if nothing had happened.
    Cut(String),
}

impl Mortal {
    async fn step(&self) {
        if self.step.fetch_add(1, Ordering::SeqCst) != self.deadly {
            return;
        }
        match &self.fate {
            Fate::Death(dead) => {
                dead.notify_one();
                std::future::pending::<()>().await;
            }
            Fate::Cut(url) => {
                let mut connection = sqlx::PgConnection::connect(url).await.unwrap();
                connection.execute(CUT).await.unwrap();
                connection.close().await.unwrap();
            }
        }
    }
}

/// Ends every other connection of the database.
const CUT: &str = "select pg_terminate_backend(pid) from pg_stat_activity \
                   where datname = current_database() and pid <> pg_backend_pid()";

#[async_trait]
impl Sink for Mortal {
    fn abilities(&self) -> Abilities {
        self.inner.abilities()
    }

    async fn check(&self) -> Result<()> {
        self.inner.check().await
    }

    async fn prepare(&mut self, targets: &[Target]) -> Result<()> {
        self.inner.prepare(targets).await
    }

    async fn begin(&mut self, slice: SliceId) -> Result<()> {
        self.step().await;
        self.inner.begin(slice).await
    }

    async fn write(&mut self, dataset: &str, batch: RecordBatch) -> Result<()> {
        // One write stands for all: between two writes nothing is durable.
        if dataset == "units" {
            self.step().await;
        }
        self.inner.write(dataset, batch).await
    }

    async fn commit(&mut self, slice: &Slice) -> Result<BTreeMap<String, Receipt>> {
        self.step().await;
        let receipt = self.inner.commit(slice).await?;
        self.step().await;
        Ok(receipt)
    }
}

fn mortal(job: &mut Job, deadly: usize, dead: &Arc<Notify>) -> Arc<AtomicUsize> {
    let step = Arc::new(AtomicUsize::new(0));
    job.sinks = std::mem::take(&mut job.sinks)
        .into_iter()
        .map(|inner| {
            let fate = Fate::Death(dead.clone());
            Box::new(Mortal { inner, step: step.clone(), deadly, fate }) as Box<dyn Sink>
        })
        .collect();
    step
}

/// Kills a run before every single step of every sink, lets the next one resume, and compares with a run that nobody
/// killed. The vendor is asked for at most one property's feed twice.
#[tokio::test]
async fn a_run_killed_between_any_two_steps_ends_as_a_clean_run() {
    let clean = Rig::of(2, 6, 5).await;
    let mut job = clean.job().await;
    let steps = mortal(&mut job, usize::MAX, &Arc::default());
    clean.run(job).await.unwrap();
    let (tables, lake) = (clean.tables().await, clean.lake_tables().await);
    let feeds = clean.simulator.count("MITS/GetMarketing4_0");
    let total = steps.load(Ordering::SeqCst);
    assert!(total > 15, "{total} steps are too few to mean anything");
    for deadly in 0..total {
        let rig = Rig::of(2, 6, 5).await;
        let mut job = rig.job().await;
        let dead = Arc::new(Notify::new());
        mortal(&mut job, deadly, &dead);
        tokio::select! {
            ended = rig.run(job) => panic!("step {deadly} did not happen: {ended:?}"),
            () = dead.notified() => {}
        }
        let summary = rig.pull().await;
        assert_eq!(summary.status, Status::Succeeded);
        assert_eq!(rig.tables().await, tables, "killed before step {deadly}");
        assert_eq!(rig.lake_tables().await, lake, "killed before step {deadly}");
        assert!(rig.simulator.count("MITS/GetMarketing4_0") <= feeds + 1, "killed before step {deadly}");
        let runs: i64 = sqlx::query_scalar("select count(*) from ops.runs").fetch_one(rig.pool()).await.unwrap();
        assert_eq!(runs, 1, "the run was resumed, not begun anew");
    }
}

#[tokio::test]
async fn a_stop_ends_behind_the_slice_and_the_next_run_goes_on() {
    let rig = Rig::small().await;
    let stop = CancellationToken::new();
    stop.cancel();
    let summary = run(&rig.app.world(Some(&rig.database)), rig.job().await, &stop).await.unwrap();
    assert_eq!((summary.status, summary.slices), (Status::Stopped, 1));
    let rest = rig.pull().await;
    assert_eq!((rest.run, rest.status), (summary.run, Status::Succeeded));
    assert_eq!(rig.served().await, rig.truth());
}

/// A source that falls silent: after so many checkpoints, and rows that no checkpoint covers, it never says anything again.
struct Silent {
    inner: Box<dyn Source>,
    after: usize,
    ahead: bool,
    silent: Arc<Notify>,
}

#[async_trait]
impl Source for Silent {
    fn streams(&self) -> Vec<Stream> {
        self.inner.streams()
    }

    async fn check(&self) -> Result<()> {
        self.inner.check().await
    }

    fn read(&self, request: Request) -> BoxStream<'_, Result<Event>> {
        let mut left = self.after;
        let said = self.inner.read(request).take_while(move |event| {
            let covers = matches!(event, Ok(Event::Checkpoint(_)));
            let said = !covers || left > 0;
            left = left.saturating_sub(usize::from(covers));
            std::future::ready(said)
        });
        let silence = futures::stream::once(async {
            self.silent.notify_one();
            std::future::pending().await
        });
        said.chain(silence).boxed()
    }

    fn reads_ahead(&self) -> bool {
        self.ahead
    }
}

#[tokio::test]
async fn a_stop_does_not_wait_for_a_vendor_that_is_silent() {
    for (after, ahead) in [(0, false), (1, false), (2, false), (1, true), (2, true)] {
        let rig = Rig::small().await;
        let mut job = rig.job().await;
        let silent = Arc::new(Notify::new());
        job.source = Box::new(Silent { inner: job.source, after, ahead, silent: silent.clone() });
        let stop = CancellationToken::new();
        let world = rig.app.world(Some(&rig.database));
        let asked = async {
            silent.notified().await;
            stop.cancel();
        };
        let run = async { tokio::time::timeout(Duration::from_secs(60), run(&world, job, &stop)).await };
        let (ended, ()) = tokio::join!(run, asked);
        let summary = ended.expect("the stop waits for the vendor").unwrap();
        assert_eq!((summary.status, summary.slices as usize), (Status::Stopped, after), "{after} {ahead}");
        let entered = catalog::store::runs::find(rig.pool(), summary.run).await.unwrap().unwrap();
        assert_eq!(entered.status, Status::Stopped);
        let rest = rig.pull().await;
        assert_eq!((rest.run, rest.status), (summary.run, Status::Succeeded), "{after} {ahead}");
        assert_eq!(rig.served().await, rig.truth());
    }
}

#[tokio::test]
async fn two_processes_do_not_run_the_same_pipeline_at_once() {
    let rig = Rig::small().await;
    let (one, two) = (rig.job().await, rig.job().await);
    let (one, two) = tokio::join!(rig.run(one), rig.run(two));
    let refused = [&one, &two].into_iter().filter_map(|r| r.as_ref().err()).collect::<Vec<_>>();
    assert_eq!(refused.len(), 1, "exactly one is refused");
    assert!(refused[0].is_retryable() && refused[0].message.contains("another process"));
    assert_eq!(rig.served().await, rig.truth());
}

#[tokio::test]
async fn a_server_that_drops_every_connection_mid_run_costs_no_row() {
    let rig = Rig::small().await;
    let mut job = rig.job().await;
    let dead = Arc::new(Notify::new());
    // Hold the run before a commit of PostgreSQL, cut its connections, let it go on.
    mortal(&mut job, 9, &dead);
    let cut = async {
        dead.notified().await;
        rig.pool().execute(CUT).await.unwrap();
    };
    tokio::select! { _ = rig.run(job) => panic!("the run should hang"), () = cut => {} }
    rig.pull().await;
    assert_eq!(rig.served().await, rig.truth());
}

#[tokio::test]
async fn a_run_whose_database_goes_away_says_so_and_goes_on_when_it_is_back() {
    let mut told = 0;
    for at in 0..6 {
        let rig = Rig::of(2, 6, 5).await;
        let mut job = rig.job().await;
        let step = Arc::new(AtomicUsize::new(0));
        let cut = |inner: Box<dyn Sink>| {
            if !inner.abilities().keeps_cursor {
                return inner;
            }
            let fate = Fate::Cut(rig.db.url.clone());
            Box::new(Mortal { inner, step: step.clone(), deadly: at, fate }) as Box<dyn Sink>
        };
        job.sinks = std::mem::take(&mut job.sinks).into_iter().map(cut).collect();
        // Where nothing was under way, a new connection is as good.
        if let Err(fault) = rig.run(job).await {
            told += 1;
            assert!(
                fault.chain().starts_with("the database went away in the middle of the run: "),
                "{}",
                fault.chain()
            );
            let hint = fault.hint.as_deref().unwrap_or_default();
            assert!(hint.contains("What was committed stays") && hint.contains("goes on from there"), "{hint}");
            assert!(fault.blame == catalog::Blame::Remote && fault.is_retryable(), "{fault:?}");
        }
        assert!(step.load(Ordering::SeqCst) > at, "step {at} did not come");
        assert_eq!(rig.pull().await.status, Status::Succeeded);
        assert_eq!(rig.served().await, rig.truth(), "cut before step {at}");
    }
    assert!(told >= 3, "{told}");
}

#[tokio::test]
async fn a_database_whose_disk_is_full_says_so_and_the_next_run_goes_on() {
    let rig = Rig::small().await;
    let full = "create function disk_full_in_test() returns trigger language plpgsql as $$ begin \
                  raise exception 'could not extend file \"base/1/2\": No space left on device' using errcode = '53100'; end $$; \
                create trigger full_disk before insert or update on core.available_units execute function disk_full_in_test()";
    rig.pull().await;
    sqlx::raw_sql(full).execute(rig.pool()).await.unwrap();
    rig.simulator.with_world(|w| w.mutate(20));
    rig.clock.advance(TimeDelta::hours(6));
    let before = rig.served().await;
    let fault = rig.run(rig.job().await).await.unwrap_err();
    assert!(fault.message.contains("the database's disk is full"), "{fault}");
    assert!(fault.is_retryable() && fault.hint.as_deref().unwrap().contains("goes on"), "{fault:?}");
    assert_eq!(rig.served().await, before, "a slice that failed changed something");
    sqlx::raw_sql("drop trigger full_disk on core.available_units").execute(rig.pool()).await.unwrap();
    assert_eq!(rig.pull().await.status, Status::Succeeded);
    assert_eq!(rig.served().await, rig.truth());
}
