//! The job queue and its schedules: what runs, how often, and what survives.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use catalog::{Clock, Fault, Retry, SystemClock, TestClock};
use chrono::{DateTime, Datelike, NaiveDateTime, TimeDelta, TimeZone, Timelike, Utc};
use futures::future::{BoxFuture, join_all};
use kit::db::TestDb;
use pipelines::jobs::{self, Handler, Job, Options, Outcome, Schedules, Task, work};
use pipelines::schedule::{Schedule, Scheduled};
use proptest::prelude::*;
use sqlx::{AssertSqlSafe, PgPool};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

/// Long enough for a loaded machine; nothing here waits for it unless it fails.
const PATIENCE: Duration = Duration::from_secs(60);

struct With<F>(F);

#[async_trait]
impl<F: Fn(Job, CancellationToken) -> BoxFuture<'static, Outcome> + Send + Sync> Handler for With<F> {
    async fn run(&self, job: Job, stop: CancellationToken) -> Outcome {
        (self.0)(job, stop).await
    }
}

/// A handler that reports each call, then does what it is told.
fn told<F>(answer: F) -> (Arc<dyn Handler>, mpsc::UnboundedReceiver<Job>)
where
    F: Fn(&Job, CancellationToken) -> BoxFuture<'static, Outcome> + Send + Sync + 'static,
{
    let (sender, calls) = mpsc::unbounded_channel();
    let handler = With(move |job: Job, stop| {
        let answer = answer(&job, stop);
        sender.send(job).unwrap();
        answer
    });
    (Arc::new(handler), calls)
}

fn done() -> (Arc<dyn Handler>, mpsc::UnboundedReceiver<Job>) {
    told(|_, _| Box::pin(async { Outcome::Done }))
}

fn job(pipeline: &str, key: &str) -> Job {
    let task = Task::Run;
    Job { task, pipeline: pipeline.into(), trigger: "manual".into(), only: vec![], attempt: 0, key: key.into() }
}

async fn database() -> TestDb {
    let db = TestDb::new().await;
    jobs::setup(&db.pool).await.unwrap();
    db
}

async fn push(pool: &PgPool, job: &Job) -> bool {
    jobs::push(&mut pool.acquire().await.unwrap(), job, Duration::ZERO, 0).await.unwrap()
}

async fn sql(pool: &PgPool, text: &str) {
    sqlx::raw_sql(AssertSqlSafe(text.to_owned())).execute(pool).await.unwrap();
}

async fn count(pool: &PgPool, status: &str) -> i64 {
    sqlx::query_scalar("select count(*) from apalis.jobs where status = $1").bind(status).fetch_one(pool).await.unwrap()
}

fn no_schedules() -> Arc<dyn Schedules> {
    Arc::new(Vec::<Scheduled>::new())
}

async fn drain(pool: &PgPool, handler: &Arc<dyn Handler>, concurrency: usize) {
    let options = Options { concurrency, drain: true };
    let end = work(pool, Arc::clone(handler), no_schedules(), Arc::new(SystemClock), options, CancellationToken::new());
    timeout(PATIENCE, end).await.expect("the queue never ran dry").unwrap();
}

fn start(pool: &PgPool, handler: &Arc<dyn Handler>, stop: &CancellationToken) -> JoinHandle<catalog::Result<()>> {
    let (pool, handler, stop) = (pool.clone(), Arc::clone(handler), stop.clone());
    let options = Options { concurrency: 2, drain: false };
    tokio::spawn(async move { work(&pool, handler, no_schedules(), Arc::new(SystemClock), options, stop).await })
}

async fn next<T>(calls: &mut mpsc::UnboundedReceiver<T>) -> T {
    timeout(PATIENCE, calls.recv()).await.expect("no call came").unwrap()
}

async fn ended(worker: JoinHandle<catalog::Result<()>>) {
    timeout(PATIENCE, worker).await.expect("the worker did not end").unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_workers_share_the_jobs_and_none_runs_twice() {
    let db = database().await;
    let pushed: BTreeSet<String> = (0..80).map(|n| format!("run-{n:02}")).collect();
    for key in &pushed {
        assert!(push(&db.pool, &job(key, key)).await);
        assert!(!push(&db.pool, &job(key, key)).await, "a key is pushed once");
    }
    let (handler, mut calls) = done();
    tokio::join!(drain(&db.pool, &handler, 4), drain(&db.pool, &handler, 4));
    // The queue is dry for a worker when the rest runs at the other one; `join` has seen both to their ends.
    let mut ran: Vec<String> = Vec::new();
    while let Ok(job) = calls.try_recv() {
        ran.push(job.key);
    }
    ran.sort();
    assert_eq!(ran, pushed.into_iter().collect::<Vec<_>>());
    assert_eq!(count(&db.pool, "Done").await, 80);
    let workers: i64 =
        sqlx::query_scalar("select count(distinct lock_by) from apalis.jobs").fetch_one(&db.pool).await.unwrap();
    assert_eq!(workers, 2, "both took part");
}

#[tokio::test]
async fn a_push_belongs_to_its_transaction_and_the_urgent_go_first() {
    let db = database().await;
    let mut tx = db.pool.begin().await.unwrap();
    assert!(jobs::push(&mut tx, &job("a", "rolled back"), Duration::ZERO, 0).await.unwrap());
    tx.rollback().await.unwrap();
    let mut tx = db.pool.begin().await.unwrap();
    for (key, priority) in [("late", 0), ("soon", 5), ("first", 9)] {
        jobs::push(&mut tx, &job(key, key), Duration::ZERO, priority).await.unwrap();
    }
    tx.commit().await.unwrap();
    let (handler, mut calls) = done();
    drain(&db.pool, &handler, 1).await;
    for key in ["first", "soon", "late"] {
        assert_eq!(calls.try_recv().unwrap().key, key);
    }
    assert!(calls.try_recv().is_err());
}

#[tokio::test]
async fn the_job_of_a_killed_worker_goes_to_another_one() {
    let db = database().await;
    push(&db.pool, &job("units", "run")).await;
    let (stuck, mut calls) = told(|_, _| Box::pin(std::future::pending()));
    let worker = start(&db.pool, &stuck, &CancellationToken::new());
    next(&mut calls).await;
    worker.abort();
    let _ = worker.await;
    // Its last sign of life grows old.
    sql(&db.pool, "update apalis.workers set last_seen = now() - interval '16 seconds'").await;

    let stop = CancellationToken::new();
    let (handler, mut calls) = done();
    let worker = start(&db.pool, &handler, &stop);
    assert_eq!(next(&mut calls).await, job("units", "run"));
    stop.cancel();
    ended(worker).await;
    assert_eq!(count(&db.pool, "Done").await, 1);
}

#[tokio::test]
async fn a_job_that_was_taken_over_changes_nothing_when_it_ends() {
    let db = database().await;
    push(&db.pool, &job("units", "run")).await;
    let (go, gate) = oneshot::channel::<()>();
    let gate = std::sync::Mutex::new(Some(gate));
    let (handler, mut calls) = told(move |_, _| {
        let gate = gate.lock().unwrap().take().unwrap();
        Box::pin(async move {
            let _ = gate.await;
            Outcome::Park { after: Duration::ZERO, reason: "too late".into() }
        })
    });
    let stop = CancellationToken::new();
    let worker = start(&db.pool, &handler, &stop);
    next(&mut calls).await;
    sql(
        &db.pool,
        "insert into apalis.workers (id, worker_type, storage_name) values ('other', 'propflow.pipelines', 'x'); \
         update apalis.jobs set lock_by = 'other'",
    )
    .await;
    go.send(()).unwrap();
    stop.cancel();
    ended(worker).await;
    let rows: Vec<(String, String)> =
        sqlx::query_as("select status, lock_by from apalis.jobs").fetch_all(&db.pool).await.unwrap();
    assert_eq!(rows, [("Running".to_owned(), "other".to_owned())]);
}

#[tokio::test]
async fn a_failing_job_waits_longer_each_time_and_is_given_up_at_last() {
    let db = database().await;
    push(&db.pool, &job("units", "run")).await;
    let (handler, mut calls) = told(|job, _| {
        let outcome = Outcome::failed(Fault::remote("the vendor is down").hint("Wait."), job.attempt);
        Box::pin(async { outcome })
    });
    let mut waits = Vec::new();
    for attempt in 0..jobs::MAX_ATTEMPTS {
        drain(&db.pool, &handler, 2).await;
        assert_eq!(calls.try_recv().unwrap().attempt, attempt);
        assert!(calls.try_recv().is_err(), "one call for each wait");
        let wait: Option<f64> = sqlx::query_scalar(
            "select extract(epoch from run_at - now())::float8 from apalis.jobs where status = 'Pending'",
        )
        .fetch_optional(&db.pool)
        .await
        .unwrap();
        waits.extend(wait);
        sql(&db.pool, "update apalis.jobs set run_at = now() where status = 'Pending'").await;
    }
    assert_eq!(waits.len(), jobs::MAX_ATTEMPTS as usize - 1);
    assert!(waits[0] > 10.0 && waits[..7].is_sorted(), "{waits:?}");
    assert!(waits.iter().all(|w| *w <= 4500.0), "{waits:?}");

    drain(&db.pool, &handler, 2).await;
    assert!(calls.try_recv().is_err());
    let dead = jobs::dead(&db.pool, 10).await.unwrap();
    assert_eq!(dead.len(), 1);
    assert_eq!(dead[0].reason, "gave up after 12 tries: the vendor is down");
    assert_eq!(dead[0].hint.as_deref(), Some("Wait."));
}

#[test]
fn a_fault_says_what_becomes_of_its_job() {
    let minute = Duration::from_secs(60);
    let parked = Outcome::failed(Fault::remote("429").retry(Retry::After(minute)), 50);
    assert!(matches!(parked, Outcome::Park { after, .. } if after == minute));
    assert!(matches!(Outcome::failed(Fault::user("no such key"), 0), Outcome::Dead { .. }));
    let too_often = Outcome::failed(Fault::remote("429").retry(Retry::After(minute)), jobs::MAX_DEFERRALS - 1);
    assert!(matches!(too_often, Outcome::Dead { .. }));
}

#[tokio::test]
async fn a_panic_is_tried_again_then_listed_and_can_be_run_again() {
    let db = database().await;
    let pushed = Job { only: vec!["7".into()], ..job("units", "run") };
    push(&db.pool, &pushed).await;
    let (handler, mut calls) = told(|_, _| Box::pin(async { panic!("a bug") }));
    for attempt in 0..jobs::MAX_PANICS {
        drain(&db.pool, &handler, 1).await;
        assert_eq!(calls.try_recv().unwrap().attempt, attempt);
        sql(&db.pool, "update apalis.jobs set run_at = now() where status = 'Pending'").await;
    }
    drain(&db.pool, &handler, 1).await;
    assert!(calls.try_recv().is_err());
    let dead = jobs::dead(&db.pool, 10).await.unwrap();
    assert_eq!(dead.len(), 1);
    assert_eq!(dead[0].reason, "gave up after 3 tries: the job panicked");

    let again = jobs::requeue(&db.pool, &dead[0].id).await.unwrap();
    assert!(jobs::requeue(&db.pool, &dead[0].id).await.unwrap_err().to_string().contains("no dead job"));
    assert!(jobs::dead(&db.pool, 10).await.unwrap().is_empty());
    let (handler, mut calls) =
        told(|_, _| Box::pin(async { Outcome::Park { after: Duration::ZERO, reason: "slowly".into() } }));
    let stop = CancellationToken::new();
    let worker = start(&db.pool, &handler, &stop);
    assert_eq!(next(&mut calls).await, again);
    // Its attempts are new ones, though attempt 1 of its key was there before.
    assert_eq!(next(&mut calls).await, Job { attempt: 1, ..again.clone() });
    assert_eq!((again.pipeline, again.only, again.attempt), (pushed.pipeline, pushed.only, 0));
    stop.cancel();
    ended(worker).await;
}

#[tokio::test]
async fn a_job_that_cannot_be_read_or_kills_its_workers_is_set_aside() {
    let db = database().await;
    push(&db.pool, &job("a", "unreadable")).await;
    push(&db.pool, &job("b", "killer")).await;
    push(&db.pool, &job("c", "good")).await;
    sql(
        &db.pool,
        "update apalis.jobs set job = '[1]'::bytea where idempotency_key = 'unreadable'; \
         update apalis.jobs set attempts = 5 where idempotency_key = 'killer'",
    )
    .await;
    let (handler, mut calls) = done();
    drain(&db.pool, &handler, 1).await;
    assert_eq!(calls.try_recv().unwrap().key, "good");
    assert!(calls.try_recv().is_err());
    let reasons: BTreeSet<String> = jobs::dead(&db.pool, 10).await.unwrap().into_iter().map(|d| d.reason).collect();
    assert_eq!(
        reasons.into_iter().collect::<Vec<_>>(),
        ["5 workers died while they ran this job", "the job was written by another version of propflow"]
    );
}

#[tokio::test]
async fn a_stopped_job_goes_back_as_the_same_attempt() {
    let db = database().await;
    push(&db.pool, &job("units", "run")).await;
    let (handler, mut calls) = told(|_, stop| {
        Box::pin(async move {
            stop.cancelled().await;
            Outcome::Stopped
        })
    });
    let stop = CancellationToken::new();
    let worker = start(&db.pool, &handler, &stop);
    next(&mut calls).await;
    stop.cancel();
    ended(worker).await;
    assert_eq!(count(&db.pool, "Pending").await, 1);
    let (handler, mut calls) = done();
    drain(&db.pool, &handler, 1).await;
    assert_eq!(calls.try_recv().unwrap(), job("units", "run"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn jobs_on_the_same_properties_run_one_after_the_other() {
    let db = database().await;
    for n in 0..5 {
        push(&db.pool, &job("units", &format!("run-{n}"))).await;
    }
    let (running, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let seen = Arc::clone(&most);
    let (handler, mut calls) = told(move |_, _| {
        let (running, most) = (Arc::clone(&running), Arc::clone(&most));
        Box::pin(async move {
            most.fetch_max(running.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            for _ in 0..2000 {
                tokio::task::yield_now().await;
            }
            running.fetch_sub(1, Ordering::SeqCst);
            Outcome::Done
        })
    });
    let stop = CancellationToken::new();
    let workers = [start(&db.pool, &handler, &stop), start(&db.pool, &handler, &stop)];
    for _ in 0..5 {
        next(&mut calls).await;
    }
    stop.cancel();
    for worker in workers {
        ended(worker).await;
    }
    assert_eq!(seen.load(Ordering::SeqCst), 1);
    assert_eq!(count(&db.pool, "Done").await, 5);
}

#[tokio::test]
async fn a_job_waits_until_it_is_due() {
    let db = database().await;
    let later = job("units", "later");
    jobs::push(&mut db.pool.acquire().await.unwrap(), &later, Duration::from_secs(3600), 0).await.unwrap();
    let (handler, mut calls) = done();
    drain(&db.pool, &handler, 1).await;
    assert!(calls.try_recv().is_err());

    let stop = CancellationToken::new();
    let worker = start(&db.pool, &handler, &stop);
    push(&db.pool, &job("other", "now")).await;
    assert_eq!(next(&mut calls).await.key, "now");
    // Nothing announces that an hour has passed.
    sql(&db.pool, "update apalis.jobs set run_at = now() where status = 'Pending'").await;
    assert_eq!(next(&mut calls).await, later);
    stop.cancel();
    ended(worker).await;
}

#[tokio::test]
async fn a_worker_outlives_its_database_connections() {
    let db = database().await;
    let stop = CancellationToken::new();
    let (handler, mut calls) = done();
    let worker = start(&db.pool, &handler, &stop);
    for key in ["before", "after", "after again"] {
        push(&db.pool, &job(key, key)).await;
        assert_eq!(next(&mut calls).await.key, key);
        let admin = catalog::store::connect(&db.url, 1).await.unwrap();
        sql(
            &admin,
            "select pg_terminate_backend(pid) from pg_stat_activity \
             where datname = current_database() and pid <> pg_backend_pid()",
        )
        .await;
    }
    stop.cancel();
    ended(worker).await;
    assert_eq!(count(&db.pool, "Done").await + count(&db.pool, "Pending").await, 3);
}

#[tokio::test]
async fn old_rows_are_removed_and_dead_ones_last_longer() {
    let db = database().await;
    for key in ["a", "b", "c"] {
        push(&db.pool, &job(key, key)).await;
    }
    let (handler, _calls) = told(|job, _| {
        let outcome = if job.key == "b" { Outcome::Dead { fault: Fault::user("no") } } else { Outcome::Done };
        Box::pin(async { outcome })
    });
    drain(&db.pool, &handler, 1).await;
    push(&db.pool, &job("waiting", "waiting")).await;
    let prune = || jobs::prune(&db.pool, jobs::DONE_KEPT, jobs::DEAD_KEPT);
    assert_eq!(prune().await.unwrap(), 0);
    sql(
        &db.pool,
        "update apalis.jobs set done_at = now() - interval '20 days', run_at = now() - interval '20 days'; \
         update apalis.workers set last_seen = now() - interval '20 days'",
    )
    .await;
    assert_eq!(prune().await.unwrap(), 2);
    assert_eq!((count(&db.pool, "Killed").await, count(&db.pool, "Pending").await), (1, 1));
    sql(&db.pool, "update apalis.jobs set done_at = now() - interval '100 days'").await;
    assert_eq!(prune().await.unwrap(), 1);
    let workers: i64 = sqlx::query_scalar("select count(*) from apalis.workers").fetch_one(&db.pool).await.unwrap();
    assert_eq!(workers, 0);
}

fn at(text: &str) -> DateTime<Utc> {
    text.parse().unwrap()
}

fn daily(zone: chrono_tz::Tz) -> Scheduled {
    Scheduled::whole("units", &["0 6 * * *".to_owned()], zone).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tick_becomes_one_job_whoever_sees_it() {
    let db = database().await;
    let daily = daily(chrono_tz::America::Chicago);
    let (before, after) = (at("2026-11-20T11:00:00Z"), at("2026-11-20T12:00:05Z"));
    assert_eq!(jobs::tick(&db.pool, &daily, before).await.unwrap(), None, "a new schedule begins now");
    let made = join_all((0..8).map(|_| jobs::tick(&db.pool, &daily, after))).await;
    let made: Vec<Job> = made.into_iter().filter_map(|m| m.unwrap()).collect();
    assert_eq!(made.len(), 1);
    assert_eq!(made[0].key, "units@2026-11-20T12:00:00Z");
    assert_eq!(made[0].trigger, "schedule");
    assert_eq!(count(&db.pool, "Pending").await, 1);
}

#[tokio::test]
async fn after_an_outage_only_the_newest_tick_runs() {
    let db = database().await;
    let daily = daily(chrono_tz::UTC);
    let clock = TestClock::at(at("2026-11-01T00:00:00Z"));
    let schedules = Arc::new(vec![daily.clone()]);
    let (handler, mut calls) = done();
    let pass = || async {
        let options = Options { concurrency: 1, drain: true };
        let stop = CancellationToken::new();
        work(&db.pool, Arc::clone(&handler), schedules.clone(), Arc::new(clock.clone()), options, stop).await.unwrap();
    };
    pass().await;
    assert!(calls.try_recv().is_err());
    clock.advance(TimeDelta::days(10) + TimeDelta::hours(7));
    pass().await;
    assert_eq!(calls.try_recv().unwrap().key, "units@2026-11-11T06:00:00Z");
    pass().await;
    assert!(calls.try_recv().is_err(), "nine days are not made up for");

    // While the last one still waits, the next one would do the same work twice.
    clock.advance(TimeDelta::days(1));
    assert!(jobs::tick(&db.pool, &daily, clock.now()).await.unwrap().is_some());
    clock.advance(TimeDelta::days(1));
    assert!(jobs::tick(&db.pool, &daily, clock.now()).await.unwrap().is_none());
    assert_eq!(count(&db.pool, "Pending").await, 1);
}

#[tokio::test]
async fn a_working_worker_keeps_its_schedules() {
    let db = database().await;
    let clock = TestClock::at(at("2026-11-01T00:00:00Z"));
    let scheduled = daily(chrono_tz::UTC);
    jobs::tick(&db.pool, &scheduled, clock.now()).await.unwrap();
    let (handler, mut calls) = done();
    let stop = CancellationToken::new();
    let worker = tokio::spawn({
        let (pool, clock, stop) = (db.pool.clone(), clock.clone(), stop.clone());
        async move { work(&pool, handler, Arc::new(vec![scheduled]), Arc::new(clock), Options::default(), stop).await }
    });
    for day in 1..=2 {
        clock.advance(TimeDelta::days(1));
        assert_eq!(next(&mut calls).await.key, format!("units@2026-11-0{day}T06:00:00Z"));
    }
    stop.cancel();
    ended(worker).await;
}

#[test]
fn each_zone_of_the_properties_gets_a_schedule_of_its_own() {
    let zones = [
        (chrono_tz::America::Chicago, vec!["2".to_owned(), "1".to_owned()]),
        (chrono_tz::America::Phoenix, vec!["3".to_owned()]),
        (chrono_tz::America::Chicago, vec!["1".to_owned(), "4".to_owned()]),
        (chrono_tz::America::Denver, vec![]),
    ];
    let all = Scheduled::by_zone("units", &["0 6 * * *".to_owned()], &zones).unwrap();
    let names: BTreeMap<&str, &[String]> = all.iter().map(|s| (s.schedule.name.as_str(), s.only.as_slice())).collect();
    assert_eq!(names.len(), 2);
    assert_eq!(names["units/America/Chicago"], ["1", "2", "4"]);
    assert_eq!(names["units/America/Phoenix"], ["3"]);
}

fn parse(cron: &str, zone: chrono_tz::Tz) -> catalog::Result<Schedule> {
    Schedule::parse("units", &[cron.to_owned()], zone)
}

#[test]
fn a_bad_expression_is_named_with_its_field() {
    for (cron, complaint) in [
        ("0 25 * * *", "`0 25 * * *` has `25` as its hour"),
        ("61 6 * * *", "has `61` as its minute"),
        ("0 6 * * 8", "has `8` as its weekday"),
        ("0 6 * * 5-2", "has `5-2` as its weekday"),
        ("0 6 * * Xyz", "has `Xyz` as its weekday"),
        ("@daily", "has 1 fields"),
        ("0 0 6 * * * 2026", "has 7 fields"),
        ("", "has 0 fields"),
        ("0 6 1 * 1", "restricts both"),
        ("0 6 30 2 *", "never comes true"),
    ] {
        let fault = parse(cron, chrono_tz::UTC).expect_err(cron);
        assert!(fault.to_string().contains(complaint) && fault.hint.is_some(), "{cron}: {fault}");
        assert!(fault.to_string().contains("`units`"));
    }
    let none = Schedule::parse("units", &[], chrono_tz::UTC).unwrap_err();
    assert_eq!(none.to_string(), "schedule `units` has no cron expression");
}

#[test]
fn weekdays_count_as_cron_counts_them() {
    let sunday = at("2026-11-22T06:00:00Z");
    for (cron, days) in [
        ("0 6 * * 0", vec![0]),
        ("0 6 * * 7", vec![0]),
        ("0 6 * * 1-5", vec![1, 2, 3, 4, 5]),
        ("0 6 * * 5-7", vec![0, 5, 6]),
        ("0 6 * * Mon,3", vec![1, 3]),
        ("0 6 * * 1/2", vec![1, 3, 5]),
        ("0 0 6 * * Sat", vec![6]),
    ] {
        let schedule = parse(cron, chrono_tz::UTC).unwrap();
        let ticks = schedule.ticks_between(sunday - TimeDelta::hours(1), sunday + TimeDelta::days(6));
        assert_eq!(ticks, days.iter().map(|d| sunday + TimeDelta::days(*d)).collect::<Vec<_>>(), "{cron}");
    }
}

#[test]
fn a_skipped_hour_and_a_repeated_one_tick_once() {
    let zone = chrono_tz::America::New_York;
    let march = (at("2026-03-08T00:00:00Z"), at("2026-03-09T00:00:00Z"));
    let november = (at("2026-11-01T00:00:00Z"), at("2026-11-02T00:00:00Z"));
    let ticks = |cron, (after, until)| parse(cron, zone).unwrap().ticks_between(after, until);
    assert_eq!(ticks("30 2 * * *", march), [at("2026-03-08T07:00:00Z")]);
    assert_eq!(ticks("*/10 2 * * *", march), [at("2026-03-08T07:00:00Z")]);
    assert_eq!(ticks("30 1 * * *", november), [at("2026-11-01T05:30:00Z")]);
    // Two expressions that meet are one tick.
    let both = Schedule::parse("units", &["0 6 * * *".into(), "0 */6 * * *".into()], chrono_tz::UTC).unwrap();
    assert_eq!(both.ticks_between(march.0, march.1).len(), 4);
}

/// What cron means, by the book: walk through every minute of real time, and tick whenever the wall clock shows, or
/// has jumped over, a matching time that it has never shown before.
fn by_the_book(
    zone: chrono_tz::Tz,
    (minutes, hours, weekdays): (&[u32], &[u32], &[u32]),
    after: DateTime<Utc>,
    until: DateTime<Utc>,
) -> Vec<DateTime<Utc>> {
    let matches = |t: NaiveDateTime| {
        minutes.contains(&t.minute())
            && hours.contains(&t.hour())
            && weekdays.contains(&t.weekday().num_days_from_sunday())
    };
    let mut ticks = Vec::new();
    let mut now = after - TimeDelta::days(2);
    let mut shown = now.with_timezone(&zone).naive_local();
    while now < until {
        now += TimeDelta::minutes(1);
        let wall = now.with_timezone(&zone).naive_local();
        let mut ticked = false;
        while shown < wall {
            shown += TimeDelta::minutes(1);
            ticked |= matches(shown);
        }
        if ticked && now > after && now <= until {
            ticks.push(now);
        }
    }
    ticks
}

fn list(numbers: &[u32]) -> String {
    numbers.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(120))]

    #[test]
    fn ticks_are_those_of_the_wall_clock(
        zone in prop::sample::select(vec![
            chrono_tz::America::New_York, chrono_tz::America::Phoenix, chrono_tz::Europe::London,
            chrono_tz::Australia::Lord_Howe, chrono_tz::America::Havana, chrono_tz::Asia::Kathmandu,
            chrono_tz::Pacific::Apia,
        ]),
        minutes in prop::sample::subsequence((0..60).collect::<Vec<u32>>(), 1..6),
        hours in prop::sample::subsequence((0..24).collect::<Vec<u32>>(), 1..24),
        weekdays in prop::sample::subsequence((0..7).collect::<Vec<u32>>(), 1..=7),
        // Half of the windows lie around a night on which some of these clocks are changed.
        start in prop_oneof![
            Just((2026, 3, 7)), Just((2026, 10, 31)), Just((2026, 4, 4)), Just((2026, 10, 3)), Just((2011, 12, 29)),
            (2020..2030, 1..13_u32, 1..29_u32),
        ],
        (from, length) in (0..3000_i64, 1..4000_i64),
    ) {
        let (year, month, day) = start;
        let after = Utc.with_ymd_and_hms(year, month, day, 0, 0, 0).unwrap() + TimeDelta::minutes(from);
        let until = after + TimeDelta::minutes(length);
        let cron = format!("{} {} * * {}", list(&minutes), list(&hours), list(&weekdays));
        let schedule = parse(&cron, zone).unwrap();
        let expected = by_the_book(zone, (&minutes, &hours, &weekdays), after, until);
        prop_assert_eq!(&schedule.ticks_between(after, until), &expected);
        prop_assert_eq!(schedule.newest_between(after, until), expected.last().copied());
        prop_assert_eq!(schedule.next(after).filter(|t| *t <= until), expected.first().copied());
        // Looking every so often sees the same ticks as looking once.
        let mut seen = Vec::new();
        let mut last = after;
        while last < until {
            let now = (last + TimeDelta::seconds(7001)).min(until);
            seen.extend(schedule.ticks_between(last, now));
            last = now;
        }
        prop_assert_eq!(seen, expected);
    }
}
