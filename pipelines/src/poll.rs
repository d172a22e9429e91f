//! Polls: pipelines that ask their vendor every few seconds what has changed.
//!
//! A poll that brings nothing leaves no run, only a count in `ops.polls`, which is written now and then. One that brings
//! something is a run like any other, over what it has read already. One process at a time polls a pipeline: whoever holds an
//! advisory lock, on a connection of its own, so that a process that dies lets go of it.
//!
//! A source decides itself whom it asks first when it cannot ask everybody at once; see the connectors.
//!
//! A poll rests for at least as long as it took. Calls wait for their place in the account's budget, so an account whose poll
//! fills the budget is polled less often, and about half of the budget is left to everything else.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use catalog::store::pg::fault;
use catalog::store::{connections, runs};
use catalog::{Cursor, Fault, Result};
use connectors::{Event, Read, Request, Source, Stream, guarded};
use futures::StreamExt;
use futures::stream::{self, BoxStream};
use sqlx::{Connection, PgConnection};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::app::{App, Asked, Database, open_source};
use crate::plan::Plan;
use crate::run::{World, run};

/// How often the pipeline file is read again.
const FILE_READ: Duration = Duration::from_secs(60);
/// How often counts are written.
const COUNTED: Duration = Duration::from_secs(30);
/// How often a process looks whether the one that polls is still there.
const STAND_BY: Duration = Duration::from_secs(5);
/// The longest rest of a poll that fails again and again.
const LONGEST_REST: Duration = Duration::from_secs(60);
/// A poll that has read so many rows ends at its next checkpoint; the next one goes on from there.
const MOST_ROWS: usize = 20_000;

/// What a poll brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Polled {
    /// Nothing has changed.
    Nothing,
    /// Something had, and has been loaded.
    News,
}

/// Polls every pipeline that has a schedule of this kind until stopped. Faults are logged and counted, and the next poll tries
/// again.
pub async fn keep(app: &App, database: &Arc<Database>, plans: &[Plan], stop: &CancellationToken) {
    let polls = polled(plans).map(|(plan, every)| {
        let poller = Poller::new(app, database, &plan.spec.name);
        poller.keep(every, stop)
    });
    futures::future::join_all(polls).await;
}

/// Polls every pipeline of this kind once.
///
/// # Errors
/// When one of the polls fails; the others are made nevertheless.
pub async fn each_once(app: &App, database: &Arc<Database>, plans: &[Plan], stop: &CancellationToken) -> Result<()> {
    let mut problem = Ok(());
    for (plan, _) in polled(plans) {
        if let Err(fault) = Poller::new(app, database, &plan.spec.name).poll(stop).await {
            problem = Err(fault.at(format!("polling for `{}`", plan.spec.name)));
        }
    }
    problem
}

fn polled(plans: &[Plan]) -> impl Iterator<Item = (&Plan, Duration)> {
    plans.iter().filter_map(|plan| Some((plan, plan.spec.schedule.as_ref()?.every().ok()??)))
}

/// Polls one pipeline.
pub struct Poller {
    app: App,
    database: Arc<Database>,
    world: World,
    pipeline: String,
    open: Option<Open>,
    counts: Counts,
}

impl std::fmt::Debug for Poller {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Poller({})", self.pipeline)
    }
}

/// The pipeline as its file was when it was read.
struct Open {
    at: Instant,
    plan: Plan,
    source: Box<dyn Source>,
    stream: Stream,
}

/// What is not written yet.
#[derive(Debug, Default)]
struct Counts {
    polls: i64,
    news: i64,
    failures: i64,
    /// When it was written, and what the last poll failed with by then.
    written: Option<(Instant, Option<String>)>,
}

impl Poller {
    /// One that has not polled yet.
    pub fn new(app: &App, database: &Arc<Database>, pipeline: &str) -> Self {
        Self {
            app: app.clone(),
            database: database.clone(),
            world: app.world(Some(database)),
            pipeline: pipeline.to_owned(),
            open: None,
            counts: Counts::default(),
        }
    }

    async fn keep(mut self, every: Duration, stop: &CancellationToken) {
        let mut lock: Option<PgConnection> = None;
        let mut rest = Duration::ZERO;
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                () = tokio::time::sleep(rest) => {}
            }
            match self.alone(lock.take()).await {
                Ok(held) => lock = held,
                Err(fault) => tracing::warn!(error = fault.chain(), "`{}` cannot be polled now", self.pipeline),
            }
            if lock.is_none() {
                rest = STAND_BY;
                continue;
            }
            let began = Instant::now();
            let polled = self.poll(stop).await;
            let took = began.elapsed();
            rest = match &polled {
                Ok(_) => every.saturating_sub(took).max(took.min(LONGEST_REST)),
                Err(_) => (rest.max(every) * 2).min(LONGEST_REST),
            };
        }
        if let Some(connection) = lock {
            let _ = connection.close().await;
        }
    }

    /// The connection that holds the right to poll: the one that is there, if it lives, or a new one, if nobody has it.
    async fn alone(&self, held: Option<PgConnection>) -> Result<Option<PgConnection>> {
        if let Some(mut connection) = held
            && connection.ping().await.is_ok()
        {
            return Ok(Some(connection));
        }
        let failed = |e| fault("cannot take the right to poll", e);
        // A connection of its own: one from the pool would hand the lock on with it.
        let mut connection = self.database.pool.acquire().await.map_err(failed)?.detach();
        let taken: bool =
            sqlx::query_scalar("select pg_try_advisory_lock(hashtextextended('propflow poll ' || $1, 0))")
                .bind(&self.pipeline)
                .fetch_one(&mut connection)
                .await
                .map_err(failed)?;
        if taken {
            return Ok(Some(connection));
        }
        let _ = connection.close().await;
        Ok(None)
    }

    /// Asks once, and loads what has changed.
    ///
    /// # Errors
    /// When the vendor or the database cannot be asked, or the run fails. What was committed stays; the rest comes again.
    pub async fn poll(&mut self, stop: &CancellationToken) -> Result<Polled> {
        let polled = match self.ask(stop).await {
            Ok(polled) => Ok(polled),
            Err(fault) => {
                // What is wrong may be in the file, or mended there.
                self.open = None;
                Err(fault)
            }
        };
        self.count(&polled).await;
        polled
    }

    async fn ask(&mut self, stop: &CancellationToken) -> Result<Polled> {
        if self.open.as_ref().is_none_or(|open| open.at.elapsed() >= FILE_READ) {
            let before = self.open.take();
            self.open = Some(self.reopen(before).await?);
        }
        let Some(open) = &self.open else { return Err(Fault::us("a pipeline that is open is not")) };
        let name = open.stream.name.to_string();
        let asked = Asked { trigger: "schedule".to_owned(), read: None, only: Vec::new(), fresh: false };
        let Some(since) = runs::cursor(&self.database.pool, &self.pipeline, &name).await? else {
            // The first reading brings everything: slice by slice, as a run that another process can go on with.
            let job = self.app.job(&open.plan, &self.database, asked).await?;
            run(&self.world, job, stop).await?;
            return Ok(Polled::News);
        };
        let found = read_on(&*open.source, &open.stream, since).await?;
        if found.is_empty() {
            return Ok(Polled::Nothing);
        }
        let mut job = self.app.job(&open.plan, &self.database, Asked { fresh: true, ..asked }).await?;
        job.source = Box::new(Found { streams: vec![open.stream.clone()], events: Mutex::new(found) });
        run(&self.world, job, stop).await?;
        Ok(Polled::News)
    }

    /// Reads the pipeline's file. While it says the same, the source stays open: it knows whom to ask first.
    async fn reopen(&self, before: Option<Open>) -> Result<Open> {
        let plan = self.app.plan(&self.pipeline).await?;
        connections::usable(&self.database.pool, &plan.spec.source.connector, plan.spec.connection()).await?;
        let text = |plan: &Plan| serde_json::to_string(&plan.spec).ok();
        if let Some(open) = before
            && text(&open.plan).is_some_and(|before| Some(before) == text(&plan))
        {
            return Ok(Open { at: Instant::now(), plan, ..open });
        }
        let source = open_source(&plan.spec, &self.world).await?;
        let stream = source.streams().into_iter().find(|s| s.name == plan.spec.source.stream);
        let stream = stream.ok_or_else(|| Fault::us(format!("the stream of `{}` is lost", self.pipeline)))?;
        Ok(Open { at: Instant::now(), plan, source, stream })
    }

    /// Counts a poll, and writes the counts when it is time or something is different.
    async fn count(&mut self, polled: &Result<Polled>) {
        let problem = polled.as_ref().err().map(Fault::chain);
        let before = self.counts.written.as_ref().and_then(|(_, problem)| problem.clone());
        match (&before, &problem) {
            (None, Some(error)) => {
                tracing::warn!(pipeline.name = self.pipeline, error, "polling for `{}` fails", self.pipeline)
            }
            (Some(_), None) => {
                tracing::info!(pipeline.name = self.pipeline, "polling for `{}` works again", self.pipeline)
            }
            _ => {}
        }
        self.counts.polls += 1;
        self.counts.news += i64::from(matches!(polled, Ok(Polled::News)));
        self.counts.failures += i64::from(polled.is_err());
        let due = self.counts.written.as_ref().is_none_or(|(at, _)| at.elapsed() >= COUNTED);
        if !(due || problem != before || matches!(polled, Ok(Polled::News))) {
            return;
        }
        let now = self.world.clock.now();
        let written = sqlx::query(
            "insert into ops.polls as p (pipeline, polls, news, failures, last_at, last_news_at, fault) \
             values ($1, $2, $3, $4, $5, case when $3 > 0 then $5 end, $6) \
             on conflict (pipeline) do update set polls = p.polls + excluded.polls, news = p.news + excluded.news, \
               failures = p.failures + excluded.failures, last_at = excluded.last_at, \
               last_news_at = coalesce(excluded.last_news_at, p.last_news_at), fault = excluded.fault, updated_at = now()",
        )
        .bind(&self.pipeline)
        .bind(self.counts.polls)
        .bind(self.counts.news)
        .bind(self.counts.failures)
        .bind(now)
        .bind(&problem)
        .execute(&self.database.pool)
        .await;
        match written {
            Ok(_) => self.counts = Counts { written: Some((Instant::now(), problem)), ..Counts::default() },
            // The counts are kept and written the next time.
            Err(error) => tracing::debug!(%error, "the counts of polls cannot be written"),
        }
    }
}

/// What has changed since a cursor, up to the last checkpoint that a fault has left; nothing, if no row has.
async fn read_on(source: &dyn Source, stream: &Stream, since: Cursor) -> Result<VecDeque<Event>> {
    let request = Request {
        stream: stream.name.to_string(),
        read: Read::Changes { since: Some(since) },
        resume: None,
        only: Vec::new(),
    };
    let mut events = guarded(stream, source.read(request));
    let (mut found, mut covered, mut rows, mut news) = (VecDeque::new(), 0, 0, false);
    let mut failed: Option<Fault> = None;
    while let Some(event) = events.next().await {
        match event {
            Err(fault) => {
                failed = Some(fault);
                break;
            }
            Ok(event) => {
                let checkpoint = matches!(event, Event::Checkpoint(_));
                if let Event::Rows { batch, .. } = &event {
                    rows += batch.num_rows();
                }
                if let Event::Failed { scope, fault } = &event {
                    let problem = Fault::new(fault.blame, fault.retry, fault.chain()).at(format!("`{scope}`"));
                    failed.get_or_insert(problem);
                }
                found.push_back(event);
                if checkpoint {
                    covered = found.len();
                    news |= rows > 0;
                    if rows >= MOST_ROWS {
                        break;
                    }
                }
            }
        }
    }
    drop(events);
    found.truncate(covered);
    news |= found.iter().any(|e| matches!(e, Event::Reject(_)));
    match failed {
        // What came before it is loaded; it shows again, if it lasts, in the next poll.
        _ if news => Ok(found),
        Some(fault) => Err(fault),
        None => Ok(VecDeque::new()),
    }
}

/// A source that has been read already.
struct Found {
    streams: Vec<Stream>,
    events: Mutex<VecDeque<Event>>,
}

#[async_trait]
impl Source for Found {
    fn streams(&self) -> Vec<Stream> {
        self.streams.clone()
    }

    async fn check(&self) -> Result<()> {
        Ok(())
    }

    fn read(&self, _: Request) -> BoxStream<'_, Result<Event>> {
        let events = std::mem::take(&mut *self.events.lock().unwrap_or_else(PoisonError::into_inner));
        stream::iter(events.into_iter().map(Ok)).boxed()
    }
}
