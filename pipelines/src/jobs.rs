//! The job queue: the one place that knows how jobs are kept, handed out, repeated and given up.
//!
//! Jobs live in PostgreSQL, handed out by apalis. A job runs at least once: whatever it does must bear a repeat. What
//! apalis 1.0 does differently from what is wanted here decides the design:
//!
//! - Its own retries know no delay, so a job that has to wait is *parked*: the transaction that ends it puts its
//!   successor in the queue, due later.
//! - A panic leaves the row running for ever, and an acknowledgement is a message that can get lost. So handlers run
//!   under `catch_unwind`, and `settle` is the only acknowledgement: apalis's own is switched off.
//! - A worker that comes back under its old name keeps its dead jobs alive. So each start has a name of its own.
//! - Heartbeats stop when more jobs are fetched than can run, and while a worker shuts down. So one job is fetched at
//!   a time, and `beat` goes on until the last handler has ended.
//! - Notifications are sent for rows that are due when they are inserted, and the polling that comes with apalis can
//!   lose its wake-up. So both are used, the polling with `Tick`.
//! - A worker ends with the first database error. So [`work`] starts the next one, after a pause.

mod worker;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use apalis_postgres::PostgresStorage;
use async_trait::async_trait;
use catalog::store::pg::fault;
use catalog::{Clock, Fault, Result, Retry};
use chrono::{DateTime, SecondsFormat, Utc};
use futures::FutureExt;
use serde::{Deserialize, Serialize};
use serde_json::json;
use sqlx::{PgConnection, PgPool, Row};
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};
use uuid::Uuid;

use self::worker::run_workers;
use crate::schedule::Scheduled;

/// The queue of pipeline jobs. Named once: a name taken from a type would change when the type moves.
pub const QUEUE: &str = "propflow.pipelines";

/// How often a worker says that it lives. A worker that was silent for [`MISSED_HEARTBEATS`] of them is taken for
/// dead and its jobs go to others: a killed worker's job starts again within about 20 seconds.
pub const HEARTBEAT: Duration = Duration::from_secs(5);
/// See [`HEARTBEAT`].
pub const MISSED_HEARTBEATS: usize = 3;

/// How often schedules are looked at.
const SCHEDULE_POLL: Duration = Duration::from_secs(1);
/// How often the list of schedules is read again: a property may have moved to another zone, a file may have changed.
const SCHEDULES_READ: Duration = Duration::from_secs(60);
/// How often old rows are removed.
const PRUNE: Duration = Duration::from_secs(3600);

/// Tries of a job that fails without saying when to come back; with [`backoff`] that is about five hours.
pub const MAX_ATTEMPTS: u32 = 12;
/// Tries of a job that is told when to come back.
pub const MAX_DEFERRALS: u32 = 100;
/// Tries of a job that panics: a bug seldom goes away by itself.
pub const MAX_PANICS: u32 = 3;
/// Workers that may die while they run a job before the job is taken for the cause.
pub const MAX_WORKERS_LOST: i32 = 5;

/// How long finished jobs are kept. Their keys keep a repeated push from running again.
pub const DONE_KEPT: Duration = Duration::from_secs(14 * 86_400);
/// How long finished jobs of deliveries are kept: there are many, their keys never come again, and what they did stands with
/// the deliveries.
pub const DELIVERIES_KEPT: Duration = Duration::from_secs(3600);
/// How long dead jobs are kept.
pub const DEAD_KEPT: Duration = Duration::from_secs(90 * 86_400);

/// What kind of work a job is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Task {
    /// A run of the pipeline.
    #[default]
    Run,
    /// Work off the deliveries of a connection.
    Deliveries {
        /// The connector that understands them.
        connector: String,
        /// The connection that they came in for.
        connection: String,
    },
}

/// What is to be done. Ids only: the rows are read when the job runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Job {
    /// What kind of work it is.
    #[serde(default)]
    pub task: Task,
    /// The pipeline to run; for people, what a job of another kind is about.
    pub pipeline: String,
    /// Who asked: `schedule`, `manual` and so on, as the run ledger has it.
    pub trigger: String,
    /// The properties to run it for; none stands for all.
    #[serde(default)]
    pub only: Vec<String>,
    /// How often it was parked before.
    #[serde(default)]
    pub attempt: u32,
    /// What makes it one of a kind, whatever its attempt: `<schedule>@<tick>`, or a run's id.
    pub key: String,
}

impl Job {
    /// The key of this attempt: two tasks of one queue never share it.
    fn task_key(&self) -> String {
        if self.attempt == 0 { self.key.clone() } else { format!("{}:{}", self.key, self.attempt) }
    }

    /// Jobs of one lane never run at the same time: they would read and write the same properties.
    fn lane(&self) -> String {
        match &self.task {
            Task::Run => json!([self.pipeline, self.only]).to_string(),
            // A pull of the same connection may take an hour: deliveries do not wait for it.
            Task::Deliveries { connector, connection } => json!(["deliveries", connector, connection]).to_string(),
        }
    }
}

/// How a job's turn ended.
#[derive(Debug)]
pub enum Outcome {
    /// It is finished.
    Done,
    /// It has to run again, as a new attempt, not before this time has passed.
    Park {
        /// How long to wait.
        after: Duration,
        /// Why, for a person.
        reason: String,
    },
    /// It was asked to stop and did, with everything so far committed. Another worker may go on at once; it does not
    /// count as an attempt.
    Stopped,
    /// It cannot succeed. It stays listed until a person runs it again.
    Dead {
        /// Why.
        fault: Fault,
    },
}

impl Outcome {
    /// What a fault means for the job that it ended: [`Retry::Never`] is dead; [`Retry::Backoff`] waits longer each
    /// time, [`MAX_ATTEMPTS`] times; [`Retry::After`] waits as long as was asked, [`MAX_DEFERRALS`] times.
    pub fn failed(fault: Fault, attempt: u32) -> Self {
        Self::failed_within(fault, attempt, MAX_ATTEMPTS)
    }

    fn failed_within(fault: Fault, attempt: u32, attempts: u32) -> Self {
        let (after, limit) = match fault.retry {
            Retry::Never => return Outcome::Dead { fault },
            Retry::Backoff => (backoff(attempt), attempts),
            Retry::After(wait) => (wait, MAX_DEFERRALS),
        };
        if attempt + 1 >= limit {
            let tries = attempt + 1;
            return Outcome::Dead { fault: fault.at(format!("gave up after {tries} tries")) };
        }
        Outcome::Park { after, reason: fault.chain() }
    }
}

/// The wait before a try: half a minute, doubled each time, an hour at most, give or take a quarter so that jobs that
/// failed together do not come back together.
pub fn backoff(attempt: u32) -> Duration {
    let base = Duration::from_secs(30).saturating_mul(1 << attempt.min(7)).min(Duration::from_secs(3600));
    let random = f64::from(Uuid::new_v4().as_u128() as u16) / f64::from(u16::MAX);
    base.mul_f64(0.75 + random / 2.0)
}

/// What runs the jobs.
#[async_trait]
pub trait Handler: Send + Sync {
    /// Runs a job. When `stop` is cancelled it should end its slice and answer [`Outcome::Stopped`]. It may be called
    /// again for a job that was run before, in part or whole: the worker may have died before it could say so.
    async fn run(&self, job: Job, stop: CancellationToken) -> Outcome;
}

/// Where the schedules come from. Asked once a minute.
#[async_trait]
pub trait Schedules: Send + Sync {
    /// Every schedule that is in force.
    async fn list(&self) -> Result<Vec<Scheduled>>;
}

#[async_trait]
impl Schedules for Vec<Scheduled> {
    async fn list(&self) -> Result<Vec<Scheduled>> {
        Ok(self.clone())
    }
}

/// How to work.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Jobs at a time.
    pub concurrency: usize,
    /// Run what is due, then return.
    pub drain: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self { concurrency: 2, drain: false }
    }
}

/// Brings the queue's tables up to date. Needs a database user that may create the extensions `hstore` and `pgcrypto`,
/// or finds them there.
pub async fn setup(pool: &PgPool) -> Result<()> {
    // Boxed, since the compiler cannot see otherwise that callers may be spawned.
    PostgresStorage::setup(pool).boxed().await.map_err(|e| match e {
        apalis_postgres::Error::Database(e) => fault("cannot prepare the job queue", e),
        other => Fault::us("cannot prepare the job queue").because(other),
    })
}

/// Puts a job in the queue, within the caller's transaction if `connection` has one open: then it becomes visible with
/// the rest. Of those that wait, the one with the highest `priority` runs first, then the one that is due longest.
///
/// Says whether it was new. A job whose key and attempt are known, finished ones included, is not added again.
pub async fn push(connection: &mut PgConnection, job: &Job, after: Duration, priority: i32) -> Result<bool> {
    let payload = serde_json::to_vec(job).map_err(|e| Fault::us("cannot write a job").because(e))?;
    let pushed = sqlx::query(
        "insert into apalis.jobs (id, job_type, job, status, attempts, max_attempts, run_at, priority, metadata, idempotency_key) \
         values (apalis.generate_ulid(), $1, $2, 'Pending', 0, 1, now() + make_interval(secs => $3), $4, hstore('lane', $5), $6) \
         on conflict (job_type, idempotency_key) do nothing",
    )
    .bind(QUEUE)
    .bind(payload)
    .bind(after.as_secs_f64())
    .bind(priority)
    .bind(job.lane())
    .bind(job.task_key())
    .execute(connection)
    .await
    .map_err(|e| fault("cannot put a job in the queue", e))?;
    Ok(pushed.rows_affected() == 1)
}

/// Puts a job in the queue unless one of its lane is there that has not begun to look for its work. Call it after the
/// commit of what it is to find. Says whether it was added.
pub async fn wake(pool: &PgPool, job: &Job, priority: i32) -> Result<bool> {
    let what = "cannot put a job in the queue";
    let mut connection = pool.acquire().await.map_err(|e| fault(what, e))?;
    let waiting: bool = sqlx::query_scalar(
        "select exists (select from apalis.jobs where job_type = $1 and metadata -> 'lane' = $2 and (status = 'Queued' or \
           (status = 'Pending' and (run_at <= now() + interval '1 second' or last_result ? 'waiting'))))",
    )
    .bind(QUEUE)
    .bind(job.lane())
    .fetch_one(&mut *connection)
    .await
    .map_err(|e| fault(what, e))?;
    if waiting { Ok(false) } else { push(&mut connection, job, Duration::ZERO, priority).await }
}

/// How many jobs are due and wait, and how many run.
pub async fn depth(pool: &PgPool) -> Result<(i64, i64)> {
    sqlx::query_as(
        "select count(*) filter (where status = 'Pending' and run_at <= now()), \
           count(*) filter (where status in ('Queued', 'Running')) \
         from apalis.jobs where job_type = $1 and status in ('Pending', 'Queued', 'Running')",
    )
    .bind(QUEUE)
    .fetch_one(pool)
    .await
    .map_err(|e| fault("cannot see how long the queue is", e))
}

/// A job that was given up.
#[derive(Debug, Clone, Serialize)]
pub struct DeadJob {
    /// Its id in the queue.
    pub id: String,
    /// What it was to do; `None` when that cannot be read, as after a change of version.
    pub job: Option<Job>,
    /// Why it was given up.
    pub reason: String,
    /// What to do about it.
    pub hint: Option<String>,
    /// When.
    pub died_at: Option<DateTime<Utc>>,
}

/// The jobs that were given up, newest first.
pub async fn dead(pool: &PgPool, limit: i64) -> Result<Vec<DeadJob>> {
    let rows = sqlx::query(
        "select id, job, last_result ->> 'Err' as reason, last_result ->> 'hint' as hint, done_at from apalis.jobs \
         where job_type = $1 and status in ('Killed', 'Failed') order by done_at desc nulls last, id desc limit $2",
    )
    .bind(QUEUE)
    .bind(limit)
    .fetch_all(pool)
    .await
    .map_err(|e| fault("cannot list the dead jobs", e))?;
    Ok(rows
        .iter()
        .map(|row| DeadJob {
            id: row.get("id"),
            job: serde_json::from_slice(row.get("job")).ok(),
            reason: row.get::<Option<_>, _>("reason").unwrap_or_else(|| "no reason was kept".to_owned()),
            hint: row.get("hint"),
            died_at: row.get("done_at"),
        })
        .collect())
}

/// Runs a dead job again, as a new job with all its tries.
///
/// # Errors
/// When there is no dead job with this id; it may have been run again already.
pub async fn requeue(pool: &PgPool, id: &str) -> Result<Job> {
    let what = "cannot run the job again";
    let mut tx = pool.begin().await.map_err(|e| fault(what, e))?;
    let row = sqlx::query(
        "update apalis.jobs set status = 'Done', last_result = last_result || '{\"requeued\": true}' \
         where id = $1 and job_type = $2 and status in ('Killed', 'Failed') returning job, priority",
    )
    .bind(id)
    .bind(QUEUE)
    .fetch_optional(&mut *tx)
    .await
    .map_err(|e| fault(what, e))?
    .ok_or_else(|| {
        Fault::user(format!("there is no dead job `{id}`")).hint("`propflow jobs` lists the jobs that were given up.")
    })?;
    let mut job: Job = serde_json::from_slice(row.get("job")).map_err(|e| {
        Fault::user(format!("job `{id}` was written by another version of propflow"))
            .hint("Start its pipeline with `propflow run` instead.")
            .because(e)
    })?;
    // A fresh key: the keys of its former attempts are taken.
    let first = job.key.split('~').next().unwrap_or_default();
    job.key = format!("{first}~{}", Uuid::now_v7().simple());
    job.attempt = 0;
    push(&mut tx, &job, Duration::ZERO, row.get::<Option<i32>, _>("priority").unwrap_or_default()).await?;
    tx.commit().await.map_err(|e| fault(what, e))?;
    Ok(job)
}

/// Removes finished jobs and dead ones that are older than this, and workers that are long gone. Gives how many jobs
/// went.
pub async fn prune(pool: &PgPool, done_kept: Duration, dead_kept: Duration) -> Result<u64> {
    let what = "cannot remove old jobs";
    let gone = sqlx::query(
        "delete from apalis.jobs where job_type = $1 and ( \
           (status = 'Done' and done_at < now() - make_interval(secs => \
             case when idempotency_key like 'deliveries/%' then least($2, $4) else $2 end)) or \
           (status in ('Killed', 'Failed') and done_at < now() - make_interval(secs => $3)))",
    )
    .bind(QUEUE)
    .bind(done_kept.as_secs_f64())
    .bind(dead_kept.as_secs_f64())
    .bind(DELIVERIES_KEPT.as_secs_f64())
    .execute(pool)
    .await
    .map_err(|e| fault(what, e))?;
    // Jobs refer to the worker that ran them, so theirs stay until they go.
    sqlx::query(
        "delete from apalis.workers w where worker_type = $1 and last_seen < now() - interval '1 day' \
         and not exists (select from apalis.jobs j where j.lock_by = w.id)",
    )
    .bind(QUEUE)
    .execute(pool)
    .await
    .map_err(|e| fault(what, e))?;
    Ok(gone.rows_affected())
}

/// Makes a job of the newest tick of a schedule that has come since the last one, if any has. Ticks before it are
/// dropped: a snapshot needs no repeats. A schedule that is seen for the first time begins now.
///
/// Any number of processes may call it: each tick becomes one job, and none is made while the schedule's last job still
/// waits for its turn.
pub async fn tick(pool: &PgPool, scheduled: &Scheduled, now: DateTime<Utc>) -> Result<Option<Job>> {
    let Scheduled { pipeline, only, schedule } = scheduled;
    let what = "cannot turn a tick into a job";
    let mut tx = pool.begin().await.map_err(|e| fault(what, e))?;
    sqlx::query("insert into ops.schedules (schedule, last_tick) values ($1, $2) on conflict do nothing")
        .bind(&schedule.name)
        .bind(now)
        .execute(&mut *tx)
        .await
        .map_err(|e| fault(what, e))?;
    let last: DateTime<Utc> = sqlx::query_scalar("select last_tick from ops.schedules where schedule = $1 for update")
        .bind(&schedule.name)
        .fetch_one(&mut *tx)
        .await
        .map_err(|e| fault(what, e))?;
    let mut made = None;
    if let Some(tick) = schedule.newest_between(last, now) {
        sqlx::query("update ops.schedules set last_tick = $2, updated_at = now() where schedule = $1")
            .bind(&schedule.name)
            .bind(tick)
            .execute(&mut *tx)
            .await
            .map_err(|e| fault(what, e))?;
        let job = Job {
            task: Task::Run,
            pipeline: pipeline.clone(),
            trigger: "schedule".to_owned(),
            only: only.clone(),
            attempt: 0,
            key: format!("{}@{}", schedule.name, tick.to_rfc3339_opts(SecondsFormat::Secs, true)),
        };
        let waiting: bool = sqlx::query_scalar(
            "select exists (select from apalis.jobs where job_type = $1 and status = 'Pending' \
             and metadata -> 'lane' = $2 and idempotency_key like $3)",
        )
        .bind(QUEUE)
        .bind(job.lane())
        .bind(format!("{}@%", schedule.name.replace(['\\', '%', '_'], "_")))
        .fetch_one(&mut *tx)
        .await
        .map_err(|e| fault(what, e))?;
        if !waiting && push(&mut tx, &job, Duration::ZERO, 0).await? {
            made = Some(job);
        }
    }
    tx.commit().await.map_err(|e| fault(what, e))?;
    Ok(made)
}

/// Runs jobs and turns ticks into jobs until `stop` is cancelled, or, with [`Options::drain`], until nothing is due.
/// Returns when the last handler has ended. Lives through a database that goes away and comes back.
///
/// # Errors
/// When it cannot begin; while draining, also when the database stays away.
pub async fn work(
    pool: &PgPool,
    handler: Arc<dyn Handler>,
    schedules: Arc<dyn Schedules>,
    clock: Arc<dyn Clock>,
    options: Options,
    stop: CancellationToken,
) -> Result<()> {
    setup(pool).await?;
    if options.drain {
        for scheduled in schedules.list().await? {
            tick(pool, &scheduled, clock.now()).await?;
        }
        return run_workers(pool, handler, options, stop).await;
    }
    let (worked, ()) =
        tokio::join!(run_workers(pool, handler, options, stop.clone()), keep_time(pool, &*schedules, &*clock, stop));
    worked
}

/// Turns ticks into jobs, and removes old rows, until stopped.
async fn keep_time(pool: &PgPool, schedules: &dyn Schedules, clock: &dyn Clock, stop: CancellationToken) {
    let mut known = Vec::new();
    let mut next: HashMap<String, DateTime<Utc>> = HashMap::new();
    let [mut reading, mut looking, mut pruning] = [SCHEDULES_READ, SCHEDULE_POLL, PRUNE].map(|period| {
        let mut interval = interval(period);
        interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
        interval
    });
    loop {
        // The list is read first: all three are due at the start.
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            _ = reading.tick() => match schedules.list().await {
                Ok(list) => {
                    known = list;
                    next.clear();
                }
                Err(fault) => warn!(error = %fault.chain(), "the schedules cannot be read; the known ones stay in force"),
            },
            _ = pruning.tick() => match prune(pool, DONE_KEPT, DEAD_KEPT).await {
                Ok(0) => {}
                Ok(jobs) => info!(jobs, "removed old jobs"),
                Err(fault) => warn!(error = %fault.chain(), "old jobs cannot be removed; trying again in an hour"),
            },
            _ = looking.tick() => {
                let now = clock.now();
                for scheduled in &known {
                    let schedule = &scheduled.schedule;
                    if next.get(&schedule.name).is_some_and(|due| *due > now) {
                        continue;
                    }
                    match tick(pool, scheduled, now).await {
                        Ok(made) => {
                            if let Some(job) = made {
                                info!(pipeline.name = job.pipeline, job.key, "schedule `{}` is due", schedule.name);
                            }
                            next.insert(schedule.name.clone(), schedule.next(now).unwrap_or(DateTime::<Utc>::MAX_UTC));
                        }
                        Err(fault) => warn!(error = %fault.chain(), "schedule `{}` has to wait", schedule.name),
                    }
                }
            }
        }
    }
}
