//! One worker of the queue: it fetches a job at a time, runs it, and writes how it ended.

use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use apalis::prelude::{
    BackendExt, Event, EventListenerExt, PollSnapshot, PollStrategy, TaskId, WorkerBuilder, WorkerBuilderExt,
};
use apalis_postgres::{Config, PostgresStorage};
use catalog::store::pg::fault;
use catalog::{Fault, Result, Retry};
use futures::FutureExt;
use serde_json::{Value, json};
use sqlx::postgres::PgPoolOptions;
use sqlx::{PgPool, Row};
use tokio::sync::Notify;
use tokio::time::{Interval, MissedTickBehavior, interval, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{error, info, warn};
use uuid::Uuid;

use super::{HEARTBEAT, Handler, Job, MAX_PANICS, MAX_WORKERS_LOST, MISSED_HEARTBEATS, Options, Outcome, QUEUE, push};

/// How often a worker looks for jobs that have become due. New ones are announced at once.
const POLL: Duration = Duration::from_millis(500);
/// One to listen, the others to fetch and to show life.
const QUEUE_CONNECTIONS: u32 = 3;
/// The pause before a worker that failed is started again; doubled for each failure in a row, up to the longest.
const RESTART_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_RESTART_PAUSE: Duration = Duration::from_secs(30);
/// How often `drain` starts a failed worker again before it gives up.
const DRAIN_RESTARTS: u32 = 3;
/// How often the end of a job is written before the worker gives up and starts anew.
const SETTLE_TRIES: u32 = 3;
/// A job waits this long, at most, after another one on the same pipeline and properties has ended.
const LANE_PAUSE_SECS: f64 = 60.0;

/// One worker after the other, each with its own name, until stopped or drained.
pub(super) async fn run_workers(
    pool: &PgPool,
    handler: Arc<dyn Handler>,
    options: Options,
    stop: CancellationToken,
) -> Result<()> {
    let mut failures = 0_u32;
    loop {
        let worker = Arc::new(Worker {
            name: worker_name(),
            pool: pool.clone(),
            handler: Arc::clone(&handler),
            stop: stop.child_token(),
            running: TaskTracker::new(),
            settled: Notify::new(),
            heard: Notify::new(),
        });
        let began = tokio::time::Instant::now();
        let Err(fault) = worker.run(options).await else { return Ok(()) };
        if stop.is_cancelled() {
            return Ok(());
        }
        // A worker that worked for a while has come back from the last failure.
        failures = if began.elapsed() > 2 * LONGEST_RESTART_PAUSE { 1 } else { failures + 1 };
        if options.drain && failures > DRAIN_RESTARTS {
            return Err(fault);
        }
        let pause = RESTART_PAUSE.saturating_mul(1 << (failures - 1).min(5)).min(LONGEST_RESTART_PAUSE);
        warn!(worker = worker.name, error = %fault.chain(), pause_secs = pause.as_secs(), "the worker failed; another one starts after a pause");
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            () = sleep(pause) => {}
        }
    }
}

/// `host-process-uuid`: never the same twice, and tells an operator where to look.
fn worker_name() -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let host = host.trim();
    format!("{}-{}-{}", if host.is_empty() { "host" } else { host }, std::process::id(), Uuid::now_v7().simple())
}

/// One worker's life.
struct Worker {
    name: String,
    pool: PgPool,
    handler: Arc<dyn Handler>,
    /// Cancelled when the process is to stop, and when this worker has failed.
    stop: CancellationToken,
    running: TaskTracker,
    /// A job has ended.
    settled: Notify,
    /// apalis's worker has shown that it lives.
    heard: Notify,
}

impl Worker {
    /// Runs until stopped, drained or failed, then waits for the handlers, and hands back what is left.
    async fn run(self: &Arc<Self>, options: Options) -> Result<()> {
        // Should this future be dropped, its handlers hear of it.
        let _dropped = self.stop.clone().drop_guard();
        let ended = CancellationToken::new();
        let ((), result) = tokio::join!(beat(&self.pool, &self.name, &ended), async {
            let result = tokio::select! {
                biased;
                () = self.stop.cancelled() => Ok(()),
                drained = self.drained(), if options.drain => drained,
                () = self.silence() => Err(Fault::us("the worker has stopped asking for jobs").retry(Retry::Backoff)),
                end = self.listen(options.concurrency) => end,
            };
            let failed = result.is_err();
            if failed {
                self.stop.cancel();
            }
            self.running.close();
            self.running.wait().await;
            ended.cancel();
            if let Err(fault) = self.release().await {
                // Others take them when the heartbeats stay away.
                warn!(worker = self.name, error = %fault.chain(), "unfinished jobs cannot be handed back at once");
            }
            result
        });
        match result {
            // Cancelled from inside, by a handler whose end could not be written.
            Ok(()) if self.failed() => Err(Fault::remote("the end of a job could not be written")),
            other => other,
        }
    }

    /// Fetches and starts jobs. Ends only with an error.
    async fn listen(self: &Arc<Self>, concurrency: usize) -> Result<()> {
        let config = Config::default()
            .queue(QUEUE)
            .batch_size(1)
            .heartbeat_interval(HEARTBEAT)
            .missed_heartbeats(MISSED_HEARTBEATS)
            .lock_tasks(false)
            .persist_results(false);
        // A pool of its own, since sqlx 0.9 leaves a transaction open that nobody knows of when a `begin` is dropped
        // half way, as happens here whenever a worker ends: the connections must not go back to the others.
        let pool = PgPoolOptions::new()
            .max_connections(QUEUE_CONNECTIONS)
            .acquire_timeout(HEARTBEAT)
            .connect_with(self.pool.connect_options().as_ref().clone())
            .await
            .map_err(|e| fault("cannot connect to the queue", e))?;
        let storage = PostgresStorage::<Value>::new(&pool)
            .with_config(config)
            .with_pubsub()
            .poll_with_strategy(Tick::every(POLL));
        let (heard, this) = (Arc::clone(self), Arc::clone(self));
        let worker = WorkerBuilder::new(self.name.as_str())
            .backend(storage)
            .concurrency(concurrency.max(1))
            .on_event(move |_, event| {
                if matches!(event, Event::HeartBeat) {
                    heard.heard.notify_one();
                }
            })
            .build(move |payload: Value, id: TaskId| {
                let worker = Arc::clone(&this);
                // A task of its own: it outlives apalis's worker, which ends with the first database error.
                let turn = this.running.spawn(async move { worker.turn(id.to_string(), payload).await });
                async move { turn.await.map_err(|e| Box::new(e) as Box<dyn std::error::Error + Send + Sync>) }
            });
        // Boxed, since the compiler cannot see otherwise that this may be spawned.
        match worker.run().boxed().await {
            Ok(()) => Err(Fault::remote("the queue's connection ended")),
            Err(e) => Err(Fault::remote("the queue cannot be read").because(e)),
        }
    }

    /// Ends when apalis's worker has been silent for so long that others take it for dead.
    async fn silence(&self) {
        let limit = HEARTBEAT * u32::try_from(MISSED_HEARTBEATS).unwrap_or(u32::MAX);
        while timeout(limit, self.heard.notified()).await.is_ok() {}
    }

    /// Ends when no job is due and none runs here.
    async fn drained(&self) -> Result<()> {
        loop {
            let idle: bool = sqlx::query_scalar(
                "select not exists (select from apalis.jobs where job_type = $1 and ( \
                   (status = 'Pending' and run_at <= now()) or (status in ('Queued', 'Running') and lock_by = $2)))",
            )
            .bind(QUEUE)
            .bind(&self.name)
            .fetch_one(&self.pool)
            .await
            .map_err(|e| fault("cannot see what is due", e))?;
            if idle {
                return Ok(());
            }
            let _ = timeout(POLL, self.settled.notified()).await;
        }
    }

    /// A job's turn, from taking it to writing down how it ended.
    async fn turn(&self, id: String, payload: Value) {
        if self.stop.is_cancelled() {
            return;
        }
        let job: Option<Job> = serde_json::from_value(payload).ok();
        let lost = match take(&self.pool, &self.name, &id).await {
            Ok(Some(lost)) => lost,
            Ok(None) => return self.settled.notify_one(),
            Err(fault) => return self.fail(&id, &fault),
        };
        let outcome = match &job {
            None => Outcome::Dead { fault: Fault::user("the job was written by another version of propflow") },
            Some(_) if lost >= MAX_WORKERS_LOST => Outcome::Dead {
                fault: Fault::us(format!("{lost} workers died while they ran this job"))
                    .hint("Look at their memory and their logs, then run the job again."),
            },
            Some(job) => {
                let stop = self.stop.child_token();
                AssertUnwindSafe(self.handler.run(job.clone(), stop)).catch_unwind().await.unwrap_or_else(|panic| {
                    let text = panic.downcast_ref::<&str>().map(|s| (*s).to_owned());
                    let text = text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default();
                    error!(pipeline.name = job.pipeline, job.key, error = text, "a job panicked: this is a bug");
                    let fault = Fault::us("the job panicked")
                        .retry(Retry::Backoff)
                        .hint("This is a bug. The log of its worker says where.");
                    Outcome::failed_within(fault, job.attempt, MAX_PANICS)
                })
            }
        };
        report(job.as_ref(), &id, &outcome);
        for attempt in 1..=SETTLE_TRIES {
            match settle(&self.pool, &self.name, &id, job.as_ref(), &outcome).await {
                Ok(true) => return self.settled.notify_one(),
                Ok(false) => {
                    warn!(job.id = id, "the job was taken over by another worker while it ran here");
                    return self.settled.notify_one();
                }
                Err(fault) if attempt == SETTLE_TRIES => return self.fail(&id, &fault),
                Err(_) => sleep(RESTART_PAUSE).await,
            }
        }
    }

    /// Ends this worker, so that its jobs, this one among them, go back to the queue.
    fn fail(&self, id: &str, fault: &Fault) {
        error!(job.id = id, error = %fault.chain(), "the state of a job cannot be written; it will run again");
        self.settled.notify_one();
        self.stop.cancel();
    }

    fn failed(&self) -> bool {
        self.stop.is_cancelled()
    }

    /// Puts jobs that were taken and not finished back in the queue.
    async fn release(&self) -> Result<()> {
        sqlx::query(
            "update apalis.jobs set status = 'Pending' where job_type = $1 and lock_by = $2 and status in ('Queued', 'Running')",
        )
        .bind(QUEUE)
        .bind(&self.name)
        .execute(&self.pool)
        .await
        .map_err(|e| fault("cannot hand back jobs", e))?;
        Ok(())
    }
}

/// Says that a worker lives, until it has ended: apalis's own heartbeat ends before the last handler does.
async fn beat(pool: &PgPool, name: &str, ended: &CancellationToken) {
    let mut every = interval(HEARTBEAT);
    loop {
        tokio::select! {
            () = ended.cancelled() => return,
            _ = every.tick() => {}
        }
        let said = sqlx::query("update apalis.workers set last_seen = now() where id = $1").bind(name).execute(pool);
        tokio::select! {
            () = ended.cancelled() => return,
            // An error here is the worker's to find.
            _ = said => {}
        }
    }
}

/// Takes a fetched job, unless another one of its lane runs: then it waits. Gives how many workers have died over it.
async fn take(pool: &PgPool, worker: &str, id: &str) -> Result<Option<i32>> {
    let what = "cannot take a job";
    let mut tx = pool.begin().await.map_err(|e| fault(what, e))?;
    let lane: Option<Option<String>> = sqlx::query_scalar(
        "select metadata -> 'lane' from apalis.jobs where id = $1 and lock_by = $2 and status = 'Queued'",
    )
    .bind(id)
    .bind(worker)
    .fetch_optional(&mut *tx)
    .await
    .map_err(|e| fault(what, e))?;
    let Some(lane) = lane else { return Ok(None) };
    sqlx::query("select pg_advisory_xact_lock(hashtextextended($1, 0))")
        .bind(lane.as_deref().unwrap_or_default())
        .execute(&mut *tx)
        .await
        .map_err(|e| fault(what, e))?;
    let lost: Option<i32> = sqlx::query_scalar(
        "update apalis.jobs j set status = 'Running', lock_at = now() \
         where id = $1 and lock_by = $2 and status = 'Queued' and not exists (select from apalis.jobs o \
           where o.job_type = j.job_type and o.status = 'Running' and o.id <> j.id and o.metadata -> 'lane' = $3) \
         returning attempts",
    )
    .bind(id)
    .bind(worker)
    .bind(lane)
    .fetch_optional(&mut *tx)
    .await
    .map_err(|e| fault(what, e))?;
    if lost.is_none() {
        // `lock_by` stays: apalis counts the jobs that it holds, and takes a missing one for a worker gone astray.
        sqlx::query(
            "update apalis.jobs set status = 'Pending', run_at = now() + make_interval(secs => $3), \
             last_result = '{\"waiting\": true}' where id = $1 and lock_by = $2 and status = 'Queued'",
        )
        .bind(id)
        .bind(worker)
        .bind(LANE_PAUSE_SECS)
        .execute(&mut *tx)
        .await
        .map_err(|e| fault(what, e))?;
    }
    tx.commit().await.map_err(|e| fault(what, e))?;
    Ok(lost)
}

/// Writes how a job ended, puts its successor in the queue, and lets its lane go on, all at once. `false` when the job
/// is no longer this worker's: then nothing is written.
async fn settle(pool: &PgPool, worker: &str, id: &str, job: Option<&Job>, outcome: &Outcome) -> Result<bool> {
    let what = "cannot write how a job ended";
    let (status, result) = match outcome {
        Outcome::Done => ("Done", json!({ "Ok": "done" })),
        Outcome::Park { after, reason } => {
            ("Done", json!({ "Ok": "parked", "secs": after.as_secs(), "reason": reason }))
        }
        Outcome::Stopped => ("Pending", Value::Null),
        Outcome::Dead { fault } => {
            ("Killed", json!({ "Err": fault.chain(), "hint": fault.hint, "blame": format!("{:?}", fault.blame) }))
        }
    };
    let mut tx = pool.begin().await.map_err(|e| fault(what, e))?;
    // A job that is being told to wait for this one has to be waiting before it is woken below.
    sqlx::query(
        "select pg_advisory_xact_lock(hashtextextended(coalesce(metadata -> 'lane', ''), 0)) from apalis.jobs where id = $1",
    )
    .bind(id)
    .execute(&mut *tx)
    .await
    .map_err(|e| fault(what, e))?;
    let ended = sqlx::query(
        "update apalis.jobs set status = $3, last_result = $4, done_at = case when $3 = 'Pending' then null else now() end \
         where id = $1 and lock_by = $2 and status = 'Running' returning priority, metadata -> 'lane' as lane",
    )
    .bind(id)
    .bind(worker)
    .bind(status)
    .bind(result)
    .fetch_optional(&mut *tx)
    .await
    .map_err(|e| fault(what, e))?;
    let Some(ended) = ended else { return Ok(false) };
    if let (Outcome::Park { after, .. }, Some(job)) = (outcome, job) {
        let successor = Job { attempt: job.attempt + 1, ..job.clone() };
        push(&mut tx, &successor, *after, ended.get::<Option<i32>, _>("priority").unwrap_or_default()).await?;
    }
    sqlx::query(
        "update apalis.jobs set run_at = now(), last_result = null \
         where job_type = $1 and status = 'Pending' and metadata -> 'lane' = $2 and last_result ? 'waiting'",
    )
    .bind(QUEUE)
    .bind(ended.get::<Option<String>, _>("lane"))
    .execute(&mut *tx)
    .await
    .map_err(|e| fault(what, e))?;
    tx.commit().await.map_err(|e| fault(what, e))?;
    Ok(true)
}

/// One line about how a job ended.
fn report(job: Option<&Job>, id: &str, outcome: &Outcome) {
    let (pipeline, key) = job.map_or(("", ""), |j| (j.pipeline.as_str(), j.key.as_str()));
    match outcome {
        Outcome::Done => info!(pipeline.name = pipeline, job.key = key, "job `{key}` is done"),
        Outcome::Stopped => {
            info!(pipeline.name = pipeline, job.key = key, "job `{key}` stopped; the next worker goes on")
        }
        Outcome::Park { after, reason } => {
            warn!(
                pipeline.name = pipeline,
                job.key = key,
                error = reason,
                "job `{key}` runs again in {} s",
                after.as_secs()
            );
        }
        Outcome::Dead { fault } => {
            error!(pipeline.name = pipeline, job.key = key, job.id = id, error = %fault.chain(), "job `{key}` is dead");
        }
    }
}

/// Polls at an interval. It asks the timer until the timer says "not yet": only then is a wake-up on its way.
#[derive(Debug, Clone)]
struct Tick(Arc<Mutex<Interval>>);

impl Tick {
    fn every(period: Duration) -> Self {
        let mut interval = interval(period);
        interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self(Arc::new(Mutex::new(interval)))
    }
}

impl PollStrategy for Tick {
    fn poll_drive(&mut self, cx: &mut Context<'_>, _: &PollSnapshot) -> Poll<Option<()>> {
        let mut interval = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut due = Poll::Pending;
        while interval.poll_tick(cx).is_ready() {
            due = Poll::Ready(Some(()));
        }
        due
    }
}
