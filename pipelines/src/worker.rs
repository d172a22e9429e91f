//! The worker: jobs become runs, pipeline files become schedules.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use catalog::store::pg::fault;
use catalog::store::runs::Status;
use catalog::{Env, Fault, Result};
use chrono::TimeDelta;
use chrono_tz::Tz;
use sqlx::Row;
use tokio_util::sync::CancellationToken;
use transforms::text::Enricher;
use uuid::Uuid;

use crate::app::{App, Asked, Database};
use crate::contacts::{Contacts, enrichment, remote, telling};
use crate::inbox::{self, Connections};
use crate::jobs::{self, Handler, Job, Outcome, Schedules, Task};
use crate::outbox::{self, Couriers};
use crate::plan::Plan;
use crate::poll;
use crate::run::run;
use crate::schedule::Scheduled;
use crate::services::{self, templates::Templates};

/// How to work.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Jobs at a time.
    pub concurrency: usize,
    /// Do what is due, then end.
    pub once: bool,
    /// How long deliveries are kept.
    pub deliveries_kept: TimeDelta,
}

/// How long deliveries are kept unless something else is asked, in days.
pub const DELIVERIES_KEPT_DAYS: i64 = 30;

impl Default for Options {
    fn default() -> Self {
        Self { concurrency: 2, once: false, deliveries_kept: TimeDelta::days(DELIVERIES_KEPT_DAYS) }
    }
}

/// Works until stopped, or until nothing is due.
///
/// # Errors
/// When a pipeline file has a problem: a schedule that is silently left out would be noticed by nobody.
pub async fn work(app: &App, database: &Arc<Database>, options: Options, stop: &CancellationToken) -> Result<()> {
    let plans = app.sound_plans().await?;
    let settling = plans.clone();
    let templates = Templates::load(app.specs.as_deref())?;
    let reader = Env { clock: app.clock.clone(), ..Env::default() };
    let enricher = remote::from_environment(&reader, |name| std::env::var(name).ok())?;
    let connections = Connections::new(app.clone(), app.world(Some(database)));
    let runner = Arc::new(Runner { app: app.clone(), database: database.clone(), connections });
    let timetable = Arc::new(Timetable { plans, database: database.clone() });
    let queue = jobs::Options { concurrency: options.concurrency, drain: options.once };
    let working = jobs::work(&database.pool, runner, timetable, app.clock.clone(), queue, stop.clone());
    let couriers = Couriers::new(app, database.pool.clone());
    let carrying = outbox::Options { parallel: DELIVERIES, drain: options.once };
    if options.once {
        jobs::setup(&database.pool).await?;
        inbox::work::sweep(app, &database.pool).await?;
        working.await?;
        app.settle(&settling, database, "schedule").await?;
        let polled = poll::each_once(app, database, &settling, stop).await;
        telling::tell(&Contacts::new(database.pool.clone(), app.clock.clone())).await?;
        services::turn(&database.pool, &templates, app.clock.now()).await?;
        enrichment::turn(&database.pool, &*enricher, &*app.clock).await?;
        // Jobs and services put messages into the outbox, so it is emptied behind them.
        outbox::work(&database.pool, &couriers, carrying, stop).await?;
        return polled;
    }
    // The house is kept as long as there is a worker, and no longer.
    let ended = CancellationToken::new();
    let work = async {
        let end = tokio::try_join!(working, outbox::work(&database.pool, &couriers, carrying, stop));
        ended.cancel();
        end.map(|_| ())
    };
    let settle = async {
        tokio::select! { () = settle_when_due(app, &settling, &templates, database) => {}, () = ended.cancelled() => {} }
    };
    let read = async {
        tokio::select! { () = enrich_when_said(app, &*enricher, database) => {}, () = ended.cancelled() => {} }
    };
    let house = inbox::work::keep_house(app, database, options.deliveries_kept, &ended);
    let polls = async {
        tokio::select! { () = poll::keep(app, database, &settling, stop) => {}, () = ended.cancelled() => {} }
    };
    let (end, (), (), (), ()) = tokio::join!(work, settle, read, house, polls);
    end
}

/// Messages of the outbox that one worker carries at once; each holds a connection to the database.
const DELIVERIES: usize = 3;

/// Settles what time alone has changed, and what a worker that was killed left behind, then plans the services of stays. Never ends: a fault is logged, and
/// the next turn tries again.
async fn settle_when_due(app: &App, plans: &[Plan], templates: &Templates, database: &Database) {
    let contacts = Contacts::new(database.pool.clone(), app.clock.clone());
    let mut turns = tokio::time::interval(SETTLE_EVERY);
    turns.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        turns.tick().await;
        if let Err(fault) = app.settle(plans, database, "schedule").await {
            tracing::error!(error = fault.chain(), "bookings could not be settled");
        }
        // What a run was killed before, or has put off.
        if let Err(fault) = telling::tell(&contacts).await {
            tracing::error!(error = fault.chain(), "the contacts could not be told of leads");
        }
        if let Err(fault) = services::turn(&database.pool, templates, app.clock.now()).await {
            tracing::error!(error = fault.chain(), "services could not be planned");
        }
    }
}

/// Reads what people said, apart from the settling: a model far away may take a while. Never ends, as above.
async fn enrich_when_said(app: &App, enricher: &dyn Enricher, database: &Database) {
    let mut turns = tokio::time::interval(ENRICH_EVERY);
    turns.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        turns.tick().await;
        if let Err(fault) = enrichment::turn(&database.pool, enricher, &*app.clock).await {
            tracing::error!(error = fault.chain(), "conversations could not be read");
        }
    }
}

/// How often a worker looks for new words.
const ENRICH_EVERY: std::time::Duration = std::time::Duration::from_secs(2);

/// How often a worker looks for properties that are due.
const SETTLE_EVERY: std::time::Duration = std::time::Duration::from_secs(5);

/// Makes a job of every schedule as if it ticked now, and works them off.
pub async fn run_scheduled_now(
    app: &App,
    database: &Arc<Database>,
    trigger: &str,
    stop: &CancellationToken,
) -> Result<()> {
    let plans = app.sound_plans().await?;
    let timetable = Timetable { plans, database: database.clone() };
    let mut connection = database.pool.acquire().await.map_err(|e| fault("cannot reach the job queue", e))?;
    for scheduled in timetable.list().await? {
        let key = format!("{}@{}", scheduled.schedule.name, Uuid::now_v7());
        let job = Job {
            task: Task::Run,
            pipeline: scheduled.pipeline,
            trigger: trigger.to_owned(),
            only: scheduled.only,
            attempt: 0,
            key,
        };
        jobs::push(&mut connection, &job, std::time::Duration::ZERO, 0).await?;
    }
    drop(connection);
    work(app, database, Options { concurrency: 1, once: true, ..Options::default() }, stop).await
}

/// Runs jobs.
struct Runner {
    app: App,
    database: Arc<Database>,
    connections: Connections,
}

#[async_trait]
impl Handler for Runner {
    async fn run(&self, job: Job, stop: CancellationToken) -> Outcome {
        if let Task::Deliveries { connector, connection } = &job.task {
            let worked =
                inbox::work::work_off(&self.app, &self.database, &self.connections, connector, connection, &stop);
            return worked.await.unwrap_or_else(|fault| Outcome::failed(fault, job.attempt));
        }
        match self.attempt(&job, &stop).await {
            Ok(Status::Stopped) => Outcome::Stopped,
            Ok(_) => Outcome::Done,
            Err(fault) => {
                tracing::error!(
                    pipeline.name = job.pipeline,
                    error = fault.chain(),
                    "a run of `{}` failed",
                    job.pipeline
                );
                Outcome::failed(fault, job.attempt)
            }
        }
    }
}

impl Runner {
    async fn attempt(&self, job: &Job, stop: &CancellationToken) -> Result<Status> {
        // The file is read anew for each job: an edited pipeline needs no restart.
        let plan = self.app.plan(&job.pipeline).await?;
        let asked = Asked { trigger: job.trigger.clone(), read: None, only: job.only.clone(), fresh: false };
        let opened = self.app.job(&plan, &self.database, asked).await?;
        let summary = run(&self.app.world(Some(&self.database)), opened, stop).await?;
        if summary.status == Status::Partial {
            self.try_again(job, &summary.failed_scopes).await?;
        }
        Ok(summary.status)
    }

    /// What could not be read is tried again by a job of its own, so that the rest is not pulled twice.
    async fn try_again(&self, job: &Job, failed: &[(String, String)]) -> Result<()> {
        /// Three tries lie within the first hour; the next scheduled pull comes anyway.
        const TRIES: u32 = 3;
        let (base, tries) = match job.key.rsplit_once("!") {
            Some((base, n)) => (base, n.parse().unwrap_or(TRIES)),
            None => (job.key.as_str(), 0),
        };
        if tries >= TRIES {
            return Ok(());
        }
        let again = Job {
            task: Task::Run,
            pipeline: job.pipeline.clone(),
            trigger: "replay".to_owned(),
            only: failed.iter().map(|(scope, _)| scope.clone()).collect(),
            attempt: 0,
            key: format!("{base}!{}", tries + 1),
        };
        let mut connection = self.database.pool.acquire().await.map_err(|e| fault("cannot reach the job queue", e))?;
        jobs::push(&mut connection, &again, jobs::backoff(tries + 3), 0).await?;
        Ok(())
    }
}

/// The schedules of the pipeline files.
struct Timetable {
    plans: Vec<Plan>,
    database: Arc<Database>,
}

#[async_trait]
impl Schedules for Timetable {
    async fn list(&self) -> Result<Vec<Scheduled>> {
        let mut all = Vec::new();
        let stopped = catalog::store::connections::list(&self.database.pool).await?;
        for plan in &self.plans {
            let Some(schedule) = &plan.spec.schedule else { continue };
            if schedule.every.is_some() {
                // These are no jobs: a row in the queue each second would be all that most of them leave.
                continue;
            }
            let (connector, connection) = (&plan.spec.source.connector, plan.spec.connection());
            if stopped.iter().any(|c| c.revoked && c.connector == *connector && c.connection == connection) {
                // It would only fail, run after run; who starts it by hand is told why.
                continue;
            }
            if schedule.zone != "property" {
                let zone =
                    schedule.zone.parse().map_err(|_| Fault::us(format!("`{}` passed the check", schedule.zone)))?;
                all.push(Scheduled::whole(&plan.spec.name, &schedule.cron, zone)?);
                continue;
            }
            let zones = self.zones(plan.spec.connection()).await?;
            if zones.is_empty() {
                // Nothing is known yet. The first pull reads everything and brings the zones.
                all.push(Scheduled::whole(&plan.spec.name, &schedule.cron, chrono_tz::UTC)?);
            } else {
                all.extend(Scheduled::by_zone(&plan.spec.name, &schedule.cron, &zones)?);
            }
        }
        Ok(all)
    }
}

impl Timetable {
    /// The properties of a connection by time zone. One without a known zone goes by UTC rather than not at all.
    async fn zones(&self, connection: &str) -> Result<Vec<(Tz, Vec<String>)>> {
        let rows = sqlx::query(
            "select a.property_id, coalesce(p.time_zone, a.time_zone) as zone \
             from core.account_properties a left join core.properties p on p.property_id = a.property_id \
             where a.connection = $1 and a.deleted_at is null order by 1",
        )
        .bind(connection)
        .fetch_all(&self.database.pool)
        .await
        .map_err(|e| fault("cannot read the properties' time zones", e))?;
        let mut zones: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for row in rows {
            let zone = row.get::<Option<String>, _>("zone").unwrap_or_default();
            zones.entry(zone).or_default().push(row.get("property_id"));
        }
        Ok(zones.into_iter().map(|(zone, properties)| (zone.parse().unwrap_or(chrono_tz::UTC), properties)).collect())
    }
}
