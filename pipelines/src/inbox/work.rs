//! Working off deliveries: what a connection's job does, and who calls it.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use catalog::store::deliveries::{self, Claim, State, Whole};
use catalog::store::pg::fault;
use catalog::store::runs::Status;
use catalog::store::{connections, requests, runs};
use catalog::{Fault, Result, Retry};
use chrono::TimeDelta;
use connectors::webhook::{Decoded, Delivery};
use connectors::{Event, Read};
use futures::FutureExt;
use sqlx::PgPool;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{Connections, Open, Told, headers_of};
use crate::app::{App, Asked, Database};
use crate::jobs::{self, Job, MAX_ATTEMPTS, Outcome, Task};
use crate::privacy::guests::{self, Named};
use crate::run::{request_json, run};

/// How often connections with due deliveries are looked for: those whose call was lost, and those that had to wait.
const SWEEP: Duration = Duration::from_secs(2);
/// How often what is too old is removed.
const PRUNE: Duration = Duration::from_secs(3600);
/// For how long a repeated request is known.
const REQUESTS_KEPT: TimeDelta = TimeDelta::hours(24);
/// Deliveries go before pulls that wait.
const PRIORITY: i32 = 10;

/// Calls the job of a connection, unless it waits for its turn already.
pub async fn call(pool: &PgPool, connector: &str, connection: &str) -> Result<bool> {
    let job = Job {
        task: Task::Deliveries { connector: connector.to_owned(), connection: connection.to_owned() },
        pipeline: format!("deliveries of {connection}"),
        trigger: "webhook".to_owned(),
        only: Vec::new(),
        attempt: 0,
        key: format!("deliveries/{connector}/{connection}/{}", Uuid::now_v7()),
    };
    jobs::wake(pool, &job, PRIORITY).await
}

/// Calls the jobs of all connections with due deliveries. Gives how many there were.
pub async fn sweep(app: &App, pool: &PgPool) -> Result<usize> {
    let due = deliveries::due(pool, app.clock.now()).await?;
    for (connector, connection) in &due {
        call(pool, connector, connection).await?;
    }
    Ok(due.len())
}

/// Sweeps, and removes what is older than its retention, until stopped.
pub async fn keep_house(app: &App, database: &Database, kept: TimeDelta, stop: &CancellationToken) {
    let pool = &database.pool;
    let [mut sweeping, mut pruning] = [SWEEP, PRUNE].map(|period| {
        let mut interval = interval(period);
        interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
        interval
    });
    loop {
        let done = tokio::select! {
            () = stop.cancelled() => return,
            _ = sweeping.tick() => sweep(app, pool).await.map(drop),
            _ = pruning.tick() => prune(app, pool, kept).await,
        };
        if let Err(fault) = done {
            tracing::warn!(error = %fault.chain(), "deliveries have to wait");
        }
    }
}

/// Removes what revoked connections told of people, where that has not been done yet.
///
/// # Errors
/// When a pipeline file has a problem, so that a lake may be missed, or as for [`purge`](crate::privacy::purge::purge).
pub async fn purge_revoked(app: &App, pool: &PgPool) -> Result<()> {
    let waiting = connections::unpurged(pool).await?;
    if waiting.is_empty() {
        return Ok(());
    }
    let (lakes, others) = crate::privacy::lakes_of(&app.sound_plans().await?);
    for (connector, connection) in waiting {
        let rows = crate::privacy::purge::purge(pool, &connector, &connection, &lakes, &*app.clock, "propflow").await?;
        tracing::warn!(rows, "connection `{connection}` was revoked and is purged");
        for other in &others {
            tracing::warn!("connection `{connection}` is not purged in the sink {other}");
        }
    }
    Ok(())
}

/// Removes what was told of guests whom their vendor has deleted: of everybody whose record is stored, or of those whom a
/// delivery named.
///
/// # Errors
/// When a pipeline file has a problem, so that a lake may be missed, or as for [`forget`](guests::forget).
pub async fn forget_guests(app: &App, pool: &PgPool, named: Option<Named<'_>>) -> Result<()> {
    if guests::any(pool, named).await? {
        let (lakes, _) = crate::privacy::lakes_of(&app.sound_plans().await?);
        guests::forget(pool, named, &lakes, &*app.clock).await?;
    }
    Ok(())
}

/// Removes deliveries and answers that are older than their retention.
pub async fn prune(app: &App, pool: &PgPool, kept: TimeDelta) -> Result<()> {
    let now = app.clock.now();
    let mut gone = 0;
    loop {
        let some = deliveries::prune(pool, now - kept).await?;
        gone += some;
        if some == 0 {
            break;
        }
    }
    requests::prune(pool, now - REQUESTS_KEPT).await?;
    purge_revoked(app, pool).await?;
    forget_guests(app, pool, None).await?;
    if gone > 0 {
        tracing::info!(deliveries = gone, "removed deliveries older than {} days", kept.num_days());
    }
    Ok(())
}

/// Works off the deliveries of one connection, oldest first, batch by batch, until none is due.
///
/// # Errors
/// When the books cannot be read or written. What becomes of each delivery is on the books.
pub async fn work_off(
    app: &App,
    database: &Arc<Database>,
    known: &Connections,
    connector: &str,
    connection: &str,
    stop: &CancellationToken,
) -> Result<Outcome> {
    loop {
        if stop.is_cancelled() {
            return Ok(Outcome::Stopped);
        }
        let Some(claim) = deliveries::claim(&database.pool, connector, connection, app.clock.now()).await? else {
            return Ok(Outcome::Done);
        };
        let batch = Batch { app, database, connector, connection };
        match batch.take(known.get(connector, connection).await, claim, stop).await? {
            Ended::Well => {}
            // The vendor is in trouble: the sweep calls again when the first delivery is due.
            Ended::Waiting => return Ok(Outcome::Done),
            Ended::Stopped => return Ok(Outcome::Stopped),
        }
    }
}

enum Ended {
    Well,
    Waiting,
    Stopped,
}

/// What deliveries of one stream say together.
#[derive(Default)]
struct Said {
    /// The deliveries' numbers, each with its tries so far.
    ids: Vec<(i64, i32)>,
    /// Those of which nothing is loaded, and why.
    asides: Vec<(i64, String)>,
    objects: Vec<String>,
    events: Vec<Event>,
}

struct Batch<'a> {
    app: &'a App,
    database: &'a Arc<Database>,
    connector: &'a str,
    connection: &'a str,
}

impl Batch<'_> {
    async fn take(&self, open: Option<Arc<Open>>, claim: Claim, stop: &CancellationToken) -> Result<Ended> {
        let Some((open, webhook)) = open.as_deref().and_then(|open| Some((open, open.source.webhook()?))) else {
            let fault = Fault::remote(format!(
                "no pipeline file has connection `{}` of `{}` that takes deliveries",
                self.connection, self.connector
            ));
            let ids: Vec<_> = claim.deliveries.iter().map(|d| (d.kept.id, d.kept.attempts)).collect();
            return self.failed(&ids, &fault).await;
        };
        let (mut keeping, mut told) = (Vec::new(), Vec::new());
        for Whole { kept, headers, body } in claim.deliveries {
            let delivery = Delivery { headers: headers_of(&headers), body: body.into(), received_at: kept.received_at };
            let decoded = catch_unwind(AssertUnwindSafe(|| webhook.decode(&delivery)))
                .unwrap_or_else(|_| Err(Fault::us("the connector panicked over this delivery")));
            match decoded {
                Err(fault) => self.settle(&[kept.id], State::Failed, None, Some(&fault.chain())).await?,
                Ok(Decoded { revoked: true, .. }) => self.revoke(kept.id).await?,
                Ok(said) => {
                    keeping.push(kept);
                    told.push((delivery, said));
                }
            }
        }
        let completed = AssertUnwindSafe(webhook.complete(&mut told)).catch_unwind().await;
        if let Err(fault) = completed.unwrap_or_else(|_| Err(Fault::us("the connector panicked over these deliveries")))
        {
            let ids: Vec<_> = keeping.iter().map(|kept| (kept.id, kept.attempts)).collect();
            return self.failed(&ids, &fault).await;
        }
        let mut streams: BTreeMap<String, Said> = BTreeMap::new();
        for (kept, (_, said)) in keeping.into_iter().zip(told) {
            let aside = said.aside.map(|aside| format!("`{}` is left alone: {aside}", kept.event));
            if said.objects.is_empty() && said.events.is_empty() {
                let reason = aside.unwrap_or_else(|| format!("`{}` says nothing that is loaded", kept.event));
                self.settle(&[kept.id], State::Ignored, None, Some(&reason)).await?;
                continue;
            }
            let stream = streams.entry(said.stream.into_owned()).or_default();
            stream.ids.push((kept.id, kept.attempts));
            stream.asides.extend(aside.map(|aside| (kept.id, aside)));
            stream.events.extend(said.events);
            for object in said.objects {
                if !stream.objects.contains(&object) {
                    stream.objects.push(object);
                }
            }
        }
        for (stream, said) in streams {
            match self.load(open, &stream, said, claim.id, stop).await? {
                Ended::Well => {}
                other => return Ok(other),
            }
        }
        Ok(Ended::Well)
    }

    /// Loads what deliveries of one stream say, as one run.
    async fn load(
        &self,
        open: &Open,
        stream: &str,
        said: Said,
        claim: Uuid,
        stop: &CancellationToken,
    ) -> Result<Ended> {
        let Said { ids, asides, objects, events } = said;
        let plan = open.plans.iter().find(|p| stream.is_empty() || p.spec.source.stream == stream);
        let Some(plan) = plan else {
            let fault = Fault::user(format!("no pipeline file reads stream `{stream}` of `{}`", self.connection));
            return self.failed(&ids, &fault).await;
        };
        let guests: Vec<String> =
            objects.iter().filter_map(|object| object.strip_prefix("guest:")).map(str::to_owned).collect();
        let asked = Asked {
            trigger: "webhook".to_owned(),
            read: Some(Read::Objects { ids: objects }),
            only: Vec::new(),
            fresh: false,
        };
        let mut job = match self.app.job(plan, self.database, asked).await {
            Ok(job) => job,
            Err(fault) => return self.failed(&ids, &fault).await,
        };
        job.deliveries = Some(claim);
        job.source = Box::new(Told::new(job.source, events));
        // The run may have ended well in a process that died before it could say so here.
        if let Some(run) = runs::ended_well(&self.database.pool, &job.pipeline, &request_json(&job)).await? {
            self.processed(&ids, &asides, run).await?;
            self.forget(&guests).await;
            return Ok(Ended::Well);
        }
        match run(&self.app.world(Some(self.database)), job, stop).await {
            Ok(summary) if summary.status == Status::Stopped => Ok(Ended::Stopped),
            Ok(summary) if summary.failed_scopes.is_empty() => {
                self.processed(&ids, &asides, summary.run).await?;
                self.forget(&guests).await;
                Ok(Ended::Well)
            }
            Ok(summary) => {
                let text = summary.failed_scopes.into_iter().map(|(_, why)| why).next().unwrap_or_default();
                self.failed(&ids, &Fault::remote(text)).await
            }
            Err(fault) => self.failed(&ids, &fault).await,
        }
    }

    /// Ends deliveries that a run has loaded.
    async fn processed(&self, ids: &[(i64, i32)], asides: &[(i64, String)], run: Uuid) -> Result<()> {
        // What is ended keeps its reason.
        for (id, aside) in asides {
            self.settle(&[*id], State::Processed, Some(run), Some(aside)).await?;
        }
        let all: Vec<i64> = ids.iter().map(|(id, _)| *id).collect();
        self.settle(&all, State::Processed, Some(run), None).await
    }

    /// Removes what was told of those among these guests whom the vendor does not know any more. Behind the books of the
    /// deliveries, so that their bodies go too.
    async fn forget(&self, guests: &[String]) {
        if guests.is_empty() {
            return;
        }
        let named = Named { connector: self.connector, connection: self.connection, guests };
        // What could not be removed now is removed by the next prune.
        if let Err(fault) = forget_guests(self.app, &self.database.pool, Some(named)).await {
            tracing::error!(error = fault.chain(), "guests of `{}` could not be removed yet", self.connection);
        }
    }

    /// Puts deliveries back that could not be loaded, or gives them up. A fault that no waiting mends is pinned on the one
    /// that causes it by trying each alone.
    async fn failed(&self, ids: &[(i64, i32)], fault: &Fault) -> Result<Ended> {
        let now = self.app.clock.now();
        let all: Vec<i64> = ids.iter().map(|(id, _)| *id).collect();
        let reason = fault.chain();
        if !fault.is_retryable() {
            if let [id] = all[..] {
                tracing::error!(error = reason, "delivery {id} of `{}` was given up", self.connection);
                self.settle(&[id], State::Failed, None, Some(&reason)).await?;
            } else {
                let mut connection = self.acquire().await?;
                deliveries::put_back(&mut connection, &all, now, true, &reason).await?;
            }
            return Ok(Ended::Well);
        }
        let (last, again): (Vec<_>, Vec<_>) =
            ids.iter().partition(|(_, attempts)| u32::try_from(*attempts).unwrap_or(0) + 1 >= MAX_ATTEMPTS);
        let last: Vec<i64> = last.into_iter().map(|(id, _)| id).collect();
        if !last.is_empty() {
            let text = format!("gave up after {MAX_ATTEMPTS} tries: {reason}");
            tracing::error!(error = text, deliveries = last.len(), "deliveries of `{}` were given up", self.connection);
            self.settle(&last, State::Failed, None, Some(&text)).await?;
        }
        let tried = again.iter().map(|(_, attempts)| u32::try_from(*attempts).unwrap_or(0)).min().unwrap_or(0);
        let wait = match fault.retry {
            Retry::After(wait) => wait,
            _ => jobs::backoff(tried),
        };
        let again: Vec<i64> = again.into_iter().map(|(id, _)| id).collect();
        if !again.is_empty() {
            tracing::warn!(
                error = reason,
                deliveries = again.len(),
                "deliveries of `{}` are tried again in {} s",
                self.connection,
                wait.as_secs()
            );
            let next = now + TimeDelta::from_std(wait).unwrap_or(TimeDelta::hours(1));
            let mut connection = self.acquire().await?;
            deliveries::put_back(&mut connection, &again, next, false, &reason).await?;
        }
        Ok(Ended::Waiting)
    }

    /// Stops the connection: the vendor's customer has withdrawn what it gave.
    async fn revoke(&self, id: i64) -> Result<()> {
        let what = "cannot stop a connection";
        let reason = "the vendor said that the authorisation was withdrawn";
        let mut tx = self.database.pool.begin().await.map_err(|e| fault(what, e))?;
        if connections::set(&mut tx, self.connector, self.connection, true, reason).await? {
            let entry = catalog::store::audit::Entry {
                actor: self.connector,
                action: "revoke",
                subject: self.connection,
                reason: Some(reason),
                ..catalog::store::audit::Entry::default()
            };
            catalog::store::audit::write(&mut tx, &entry).await?;
            tracing::error!("connection `{}` is stopped: {reason}", self.connection);
        }
        deliveries::settle(&mut tx, &[id], State::Processed, None, Some(reason)).await?;
        tx.commit().await.map_err(|e| fault(what, e))?;
        // Stopped it is in any case; what could not be removed now is removed by the next sweep.
        if let Err(fault) = purge_revoked(self.app, &self.database.pool).await {
            tracing::error!(error = fault.chain(), "connection `{}` could not be purged yet", self.connection);
        }
        Ok(())
    }

    async fn settle(&self, ids: &[i64], state: State, run: Option<Uuid>, reason: Option<&str>) -> Result<()> {
        deliveries::settle(&mut *self.acquire().await?, ids, state, run, reason).await
    }

    async fn acquire(&self) -> Result<sqlx::pool::PoolConnection<sqlx::Postgres>> {
        self.database.pool.acquire().await.map_err(|e| fault("cannot reach the deliveries", e))
    }
}
