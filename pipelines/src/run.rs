//! One run of a pipeline: read, transform, write, commit, slice by slice.
//!
//! A slice is everything between two checkpoints of the source. Its cursor becomes durable in the transaction that
//! makes its rows durable, or after every sink has committed when no sink keeps cursors. So a run can be killed between
//! any two steps: the next one finds the last committed cursor and goes on behind it, and the slice that was lost is
//! fetched and written again under the same name.
//!
//! Where reading on costs nothing, the slices behind the one that is being written are read and transformed beside it.
//! They are written in their order, one after the other. What was read up to a checkpoint when a stop or a fault of the
//! source comes is still written; what was read behind it does not exist.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{AsArray, BooleanArray, RecordBatch};
use arrow::compute::filter_record_batch;
use catalog::slice::Scope;
use catalog::standing::NoTables;
use catalog::store::runs::{self, Status};
use catalog::{
    Clock, Cursor, Dataset, Env, Fault, Note, Quota, Receipt, Reject, RejectKind, Result, Retry, Slice, SliceId, Tokens,
};
use chrono::{DateTime, TimeDelta, Utc};
use connectors::{Event, Read, Request, Source, Stream, guarded};
use futures::StreamExt;
use serde::Serialize;
use serde_json::{Value, json};
use sinks::{Kept, Sink, Target};
use sqlx::{Connection, PgConnection, PgPool};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use transforms::{Inputs, Model, Output, SliceInfo};
use uuid::Uuid;

use crate::contacts::{Contacts, telling};
use crate::progress::{Observer, Progress};
use crate::settle::{self, Alone, Settled, Store, Tables};
use crate::standing::PgTables;

/// An interrupted run older than this is not resumed: its first rows would be older than its last by that much.
const RESUME_WITHIN: TimeDelta = TimeDelta::hours(6);

/// Slices that are transformed beside the one that is being written, where the source reads ahead.
const SLICES_AHEAD: usize = 1;

/// How long a stop waits for the source to come to the end of the slice under way.
const STOP_WITHIN: Duration = Duration::from_secs(3);

/// What a run needs of the world.
#[derive(Debug, Clone)]
pub struct World {
    /// The ledger's database. Without one nothing is remembered: for one-off copies.
    pub ledger: Option<PgPool>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// The shared call budgets.
    pub quota: Arc<dyn Quota>,
    /// The shared access tokens.
    pub tokens: Arc<dyn Tokens>,
    /// Who is told.
    pub observer: Arc<dyn Observer>,
}

/// What to run.
pub struct Job {
    /// The pipeline's name.
    pub pipeline: String,
    /// Who asked; a word that the ledger knows.
    pub trigger: String,
    /// The opened source.
    pub source: Box<dyn Source>,
    /// The source's stream.
    pub stream: Stream,
    /// The vendor account's name.
    pub connection: String,
    /// How much to read.
    pub read: Read,
    /// Only these scopes; empty means all.
    pub only: Vec<String>,
    /// Begin anew even when an interrupted run could be resumed.
    pub fresh: bool,
    /// What the sink has kept of a copy, in place of a ledger.
    pub kept: Option<Kept>,
    /// The models of each slice, in order.
    pub models: Vec<&'static Model>,
    /// The opened sinks.
    pub sinks: Vec<Box<dyn Sink>>,
    /// ISO 4217 code of amounts without a currency.
    pub currency: String,
    /// Country of phone numbers without a country code.
    pub region: String,
    /// Whether the vendor was asked to work concessions into its prices.
    pub concessions_included: bool,
    /// Seconds after which served rows count as stale.
    pub freshness_limit_secs: i64,
    /// The batch of deliveries that it loads, if it does; then `read` only says which objects they named.
    pub deliveries: Option<Uuid>,
}

/// How a run ended.
#[derive(Debug, Clone, Serialize)]
pub struct Summary {
    /// The run.
    pub run: Uuid,
    /// The pipeline.
    pub pipeline: String,
    /// Its end.
    pub status: Status,
    /// Slices that this process committed.
    pub slices: u32,
    /// Rows by dataset.
    pub rows: BTreeMap<String, Receipt>,
    /// Rows that were not loaded, and values left unknown.
    pub rejected_rows: u64,
    /// Values left unknown.
    pub rejected_values: u64,
    /// The refused rows and values themselves, when there is no ledger to keep them.
    #[serde(skip)]
    pub unrecorded: Vec<Reject>,
    /// Things to know, and the scopes that failed.
    pub notes: Vec<Note>,
    /// Scopes that could not be read: name and reason.
    pub failed_scopes: Vec<(String, String)>,
}

impl Summary {
    fn new(run: Uuid, pipeline: &str) -> Self {
        Self {
            run,
            pipeline: pipeline.to_owned(),
            status: Status::Running,
            slices: 0,
            rows: BTreeMap::new(),
            rejected_rows: 0,
            rejected_values: 0,
            unrecorded: Vec::new(),
            notes: Vec::new(),
            failed_scopes: Vec::new(),
        }
    }
}

/// The read as the ledger stores it. Runs of the same request resume each other.
pub fn request_json(job: &Job) -> Value {
    if let Some(claim) = job.deliveries {
        return json!({ "stream": job.stream.name, "deliveries": claim });
    }
    let read = match &job.read {
        Read::Snapshot => json!("snapshot"),
        Read::Changes { .. } => json!("changes"),
        Read::Backfill { from, until } => json!({ "from": from, "until": until }),
        Read::Objects { ids } => json!({ "objects": ids }),
    };
    json!({ "stream": job.stream.name, "read": read, "only": job.only })
}

/// Runs a job to its end, or until `stop` is cancelled, which ends it cleanly behind the slice under way; a source that does
/// not come to the end of it within a few seconds is not waited for, and the next run reads that slice anew.
///
/// # Errors
/// The fault that ended the run. What was committed before it stays, and the next run of the same request resumes.
pub async fn run(world: &World, mut job: Job, stop: &CancellationToken) -> Result<Summary> {
    let request = request_json(&job);
    let lease = match &world.ledger {
        Some(pool) => Some(Lease::take(pool, &job.pipeline, &request).await?),
        None => None,
    };
    let now = world.clock.now();
    let resumed = match &world.ledger {
        Some(pool) if !job.fresh => runs::resumable(pool, &job.pipeline, &request, now - RESUME_WITHIN).await?,
        _ => None,
    };
    let mut id = resumed.as_ref().map_or_else(Uuid::now_v7, |r| r.id);
    let (mut resume, mut next) = resumed.as_ref().map_or((None, 0), |r| (r.cursor.clone(), r.next_slice));
    let kept = job.kept.as_ref().filter(|k| !job.fresh && !k.whole && k.at >= now - RESUME_WITHIN);
    if let Some(kept) = kept {
        (id, resume, next) = (kept.run, Some(kept.cursor.clone()), kept.next);
    }
    let resumes = resume.is_some();
    if let Some(pool) = &world.ledger {
        match &resumed {
            Some(run) => runs::resume(pool, run.id).await?,
            None => runs::start(pool, id, &job.pipeline, &job.trigger, &request, now).await?,
        }
    }
    tracing::info!(pipeline.name = job.pipeline, run.id = %id, "run of `{}` {}", job.pipeline, if resumes { "goes on" } else { "begins" });
    world.observer.on(&Progress::Started {
        pipeline: &job.pipeline,
        run: id,
        resumed_at: (resumed.is_some() || resumes).then_some(next),
    });
    let mut summary = Summary::new(id, &job.pipeline);
    if let (Some(pool), Read::Changes { since: since @ None }) = (&world.ledger, &mut job.read) {
        *since = runs::cursor(pool, &job.pipeline, &job.stream.name).await?;
    }
    let mut outcome = match prepare(&mut job, resume.as_ref(), stop).await {
        Ok(true) => slices(world, &mut job, &mut summary, resume, next, stop).await.map_err(went_away),
        ended => ended,
    };
    for sink in &mut job.sinks {
        let finished = sink.finish(matches!(outcome, Ok(true))).await;
        // A fault that came first says more.
        if let (Ok(_), Err(fault)) = (&outcome, finished) {
            outcome = Err(fault);
        }
    }
    if let Some(pool) = &world.ledger
        && let Err(fault) = note_withdrawn(pool, &mut summary, &job.connection).await
    {
        tracing::warn!(pipeline.name = job.pipeline, error = fault.chain(), "withdrawn properties are not named");
    }
    summary.status = match &outcome {
        Ok(true) if summary.failed_scopes.is_empty() => Status::Succeeded,
        Ok(true) => Status::Partial,
        Ok(false) => Status::Stopped,
        Err(_) => Status::Failed,
    };
    world.observer.on(&Progress::Finished);
    let problem = outcome.as_ref().err();
    match problem {
        Some(fault) => {
            // Whoever asked for the run reports the fault; here it only ends.
            tracing::info!(pipeline.name = job.pipeline, run.id = %id, error = fault.chain(), "run of `{}` failed", job.pipeline)
        }
        None => {
            tracing::info!(pipeline.name = job.pipeline, run.id = %id, "run of `{}` {}", job.pipeline, summary.status.as_str())
        }
    }
    if let Some(pool) = &world.ledger {
        let closed = runs::finish(pool, id, summary.status, problem, world.clock.now()).await;
        // When the ledger is what failed, the first fault says more.
        if problem.is_none() {
            closed?;
        }
    }
    if let Some(lease) = lease {
        lease.release().await;
    }
    outcome.map(|_| summary)
}

/// Adds a note that names the properties which left their last list in this run.
async fn note_withdrawn(pool: &PgPool, summary: &mut Summary, connection: &str) -> Result<()> {
    if summary.rows.get("account_properties").is_none_or(|rows| rows.deleted == 0) {
        return Ok(());
    }
    let gone = crate::books::withdrawn(pool, Some(summary.run)).await?;
    if gone.is_empty() {
        return Ok(());
    }
    let note = Note {
        topic: "withdrawn".to_owned(),
        subject: connection.to_owned(),
        text: format!("on no list any more, and served no longer: {}", crate::books::names_of(&gone)),
        count: 1,
    };
    let failed = |e| catalog::store::pg::fault("cannot keep the run's notes", e);
    let mut connection = pool.acquire().await.map_err(failed)?;
    runs::write_notes(&mut connection, summary.run, std::slice::from_ref(&note)).await?;
    merge_notes(&mut summary.notes, vec![note]);
    Ok(())
}

/// Once the stop is asked for, and the time that it leaves the source is over.
async fn impatient(stop: &CancellationToken) {
    stop.cancelled().await;
    tokio::time::sleep(STOP_WITHIN).await;
}

/// Looks which columns the stream has and makes room for them in every sink; `false` when the stop came first.
async fn prepare(job: &mut Job, resume: Option<&Cursor>, stop: &CancellationToken) -> Result<bool> {
    let since = if let Read::Changes { since } = &job.read { since.as_ref() } else { None };
    let known = resume.or(since).or(job.kept.as_ref().map(|k| &k.cursor));
    let found = tokio::select! {
        found = job.source.discover(&job.stream.name, known) => found?,
        () = impatient(stop) => return Ok(false),
    };
    if let Some(stream) = found {
        job.stream = stream;
    }
    let targets = targets(job);
    for sink in &mut job.sinks {
        sink.prepare(&targets).await?;
    }
    Ok(true)
}

/// The datasets that a job writes: what its models make, and what of the stream is stored as it comes.
fn targets(job: &Job) -> Vec<Target> {
    let mut targets = crate::plan::targets(&job.models);
    targets.extend(crate::plan::direct(&job.stream.datasets));
    targets
}

/// A fault of a run whose database left it, told as what it is.
fn went_away(fault: Fault) -> Fault {
    if !catalog::store::pg::is_gone(&fault) {
        return fault;
    }
    Fault::remote("the database went away in the middle of the run")
        .hint("What was committed stays. Run the same again once the database is back: it goes on from there.")
        .because(fault)
}

/// Runs slices until the source ends (`true`) or the stop is asked for (`false`).
async fn slices(
    world: &World,
    job: &mut Job,
    summary: &mut Summary,
    resume: Option<Cursor>,
    first: u32,
    stop: &CancellationToken,
) -> Result<bool> {
    let targets = targets(job);
    let direct = crate::plan::direct(&job.stream.datasets);
    let stored: BTreeSet<String> = direct.into_iter().map(|t| t.dataset.name).collect();
    let (models, settle) = settle::split(&job.models);
    let writer = Writer {
        world,
        pipeline: &job.pipeline,
        models: &models,
        stored: &stored,
        settles: !settle.is_empty(),
        targets: &targets,
        connection: &job.connection,
        currency: &job.currency,
        region: &job.region,
        concessions_included: job.concessions_included,
        freshness_limit_secs: job.freshness_limit_secs,
        follows: matches!(job.read, Read::Changes { .. }).then(|| job.stream.name.to_string()),
    };
    let request =
        Request { stream: job.stream.name.to_string(), read: job.read.clone(), resume, only: job.only.clone() };
    let needed = models.clone();
    let _loading = AbortOnDropHandle::new(tokio::spawn(async move { transforms::load(&needed).await }));
    let mut events = guarded(&job.stream, job.source.read(request));
    let mut pending = Pending::new(world.clock.now());
    let mut number = first;
    // A settling takes the number behind its slice, so no slice may have a number while another is settled.
    let ahead = if job.source.reads_ahead() && settle.is_empty() { SLICES_AHEAD } else { 0 };
    let mut under_way: VecDeque<Slicing> = VecDeque::new();
    let mut settling = Settling::new(world, settle, &job.sinks);
    let telling = telling(world, &targets, job);
    let mut patience = std::pin::pin!(impatient(stop));
    let ended = 'reading: loop {
        // What has come is taken first; a source that keeps a stop waiting is not waited for.
        let event = tokio::select! {
            biased;
            event = events.next() => event,
            () = &mut patience => break Ok(false),
        };
        let event = match event {
            Some(Ok(event)) => event,
            Some(Err(fault)) => break Err(fault),
            None => break Ok(true),
        };
        match event {
            Event::Ahead(count) => world.observer.on(&Progress::Ahead(count)),
            Event::Rows { dataset, batch } => {
                let batch = crate::privacy::cards::left_out(&dataset, batch)?;
                pending.tables.entry(dataset.into_owned()).or_default().push(batch);
            }
            Event::Reject(reject) => pending.rejects.push(reject),
            Event::Note(note) => pending.notes.push(note),
            Event::Complete { column, scope, missing } => pending.complete.push((column, scope, missing)),
            Event::Failed { scope, fault } => {
                world.observer.on(&Progress::ScopeFailed { scope: &scope, fault: &fault });
                tracing::warn!(pipeline.name = job.pipeline, error = fault.chain(), "`{scope}` could not be read");
                pending.drop_scope(&job.stream.datasets, &scope)?;
                pending.notes.push(Note {
                    topic: "scope_failed".to_owned(),
                    subject: scope.clone(),
                    text: fault.chain(),
                    count: 1,
                });
                summary.failed_scopes.push((scope, fault.chain()));
            }
            Event::Checkpoint(cursor) => {
                let slice = std::mem::replace(&mut pending, Pending::new(world.clock.now()));
                let id = SliceId { run: summary.run, number };
                under_way.push_back(writer.transform(id, slice, Some(cursor.clone())));
                number += 1;
                while under_way.len() > ahead
                    && let Some(slice) = under_way.pop_front()
                {
                    let made = writer.write(slice, &job.stream.datasets, &mut job.sinks, summary).await?;
                    settling.after(&writer, &made, Some(cursor.clone()), &mut number, &mut job.sinks, summary).await;
                    if let Some(contacts) = &telling
                        && let Err(fault) = telling::tell(contacts).await
                    {
                        // What was not told stays marked, and the next one tells it.
                        tracing::warn!(
                            pipeline.name = job.pipeline,
                            error = fault.chain(),
                            "contacts were not told of leads"
                        );
                    }
                    if stop.is_cancelled() {
                        break 'reading Ok(false);
                    }
                }
            }
        }
    };
    // What a checkpoint covered is good, however the reading ended.
    while let Some(slice) = under_way.pop_front() {
        writer.write(slice, &job.stream.datasets, &mut job.sinks, summary).await?;
    }
    let whole = ended?;
    settling.end(&writer, &mut number, &mut job.sinks, summary).await?;
    if !whole {
        return Ok(false);
    }
    // What came behind the last checkpoint holds no rows (the guard sees to it), but may hold rejects and notes.
    if !pending.rejects.is_empty() || !pending.notes.is_empty() {
        let id = SliceId { run: summary.run, number };
        let slice = writer.transform(id, pending, None);
        writer.write(slice, &job.stream.datasets, &mut job.sinks, summary).await?;
    }
    Ok(true)
}

/// Whom to tell of leads behind each slice, when the run writes leads into propflow's own tables.
fn telling(world: &World, targets: &[Target], job: &Job) -> Option<Contacts> {
    let keeper = job.sinks.iter().any(|s| s.abilities().keeps_cursor);
    let pool = world.ledger.as_ref().filter(|_| keeper && targets.iter().any(|t| t.dataset.name == "leads"))?;
    let mut contacts = Contacts::new(pool.clone(), world.clock.clone());
    contacts.region.clone_from(&job.region);
    Some(contacts)
}

/// What has been read since the last checkpoint.
#[derive(Debug)]
struct Pending {
    observed_at: DateTime<Utc>,
    tables: BTreeMap<String, Vec<RecordBatch>>,
    rejects: Vec<Reject>,
    notes: Vec<Note>,
    complete: Vec<(&'static str, String, Vec<&'static str>)>,
}

impl Pending {
    fn new(observed_at: DateTime<Utc>) -> Self {
        Self { observed_at, tables: BTreeMap::new(), rejects: Vec::new(), notes: Vec::new(), complete: Vec::new() }
    }

    /// Forgets the rows of a scope that failed halfway: a half-read property must not look like a whole one.
    fn drop_scope(&mut self, datasets: &[Dataset], scope: &str) -> Result<()> {
        self.complete.retain(|(_, s, _)| s != scope);
        for (name, batches) in &mut self.tables {
            let Some(column) = datasets.iter().find(|d| &d.name == name).and_then(|d| d.scope.as_deref()) else {
                continue;
            };
            for batch in batches.iter_mut() {
                let Some(values) = batch.column_by_name(column).and_then(|c| c.as_string_opt::<i32>()) else {
                    continue;
                };
                let keep: BooleanArray = values.iter().map(|v| Some(v != Some(scope))).collect();
                *batch = filter_record_batch(batch, &keep)?;
            }
        }
        Ok(())
    }
}

/// A slice between its last row and its commit.
struct Slicing {
    id: SliceId,
    pending: Pending,
    cursor: Option<Cursor>,
    output: AbortOnDropHandle<Result<Output>>,
}

/// Turns what was read into a committed slice.
struct Writer<'a> {
    world: &'a World,
    pipeline: &'a str,
    models: &'a [&'static Model],
    /// The stream's own datasets that are stored as they are.
    stored: &'a BTreeSet<String>,
    /// Whether something is settled behind each slice.
    settles: bool,
    targets: &'a [Target],
    connection: &'a str,
    currency: &'a str,
    region: &'a str,
    concessions_included: bool,
    freshness_limit_secs: i64,
    follows: Option<String>,
}

impl Writer<'_> {
    /// Starts to run the models over what was read, on another thread.
    fn transform(&self, id: SliceId, mut pending: Pending, cursor: Option<Cursor>) -> Slicing {
        let (as_they_are, tables): (Tables, Tables) =
            std::mem::take(&mut pending.tables).into_iter().partition(|(name, _)| self.stored.contains(name));
        let inputs = Inputs { tables, slice: self.info(pending.observed_at) };
        let models = self.models.to_vec();
        let output = tokio::spawn(async move {
            let mut output = transforms::run(&models, inputs).await?;
            output.tables.extend(as_they_are);
            Ok(output)
        });
        Slicing { id, pending, cursor, output: AbortOnDropHandle::new(output) }
    }

    async fn write(
        &self,
        slice: Slicing,
        wire: &[Dataset],
        sinks: &mut [Box<dyn Sink>],
        summary: &mut Summary,
    ) -> Result<Tables> {
        let Slicing { id, pending, cursor, output } = slice;
        let complete = self.complete_scopes(&pending, wire);
        let output = output.await.map_err(|e| Fault::us("a thread that runs models died").because(e))??;
        let mut rejects = pending.rejects;
        rejects.extend(output.rejects);
        let slice = Slice {
            id,
            pipeline: self.pipeline.to_owned(),
            observed_at: pending.observed_at,
            complete,
            cursor,
            follows: self.follows.clone(),
            rejects,
            notes: pending.notes,
        };
        // What is settled is looked at behind the commit; anything else is let go of as it is written.
        let made = if self.settles { output.tables.clone() } else { Tables::new() };
        self.store(slice, output.tables, sinks, summary).await?;
        Ok(made)
    }

    fn info(&self, observed_at: DateTime<Utc>) -> SliceInfo {
        SliceInfo {
            observed_at,
            connection: self.connection.to_owned(),
            currency: self.currency.to_owned(),
            region: self.region.to_owned(),
            concessions_included: self.concessions_included,
        }
    }

    /// Writes a slice into all sinks.
    async fn store(
        &self,
        slice: Slice,
        mut tables: Tables,
        sinks: &mut [Box<dyn Sink>],
        summary: &mut Summary,
    ) -> Result<()> {
        let mut slice = slice;
        // Whoever was erased stays out, and nobody is erased while this slice is on its way.
        let erasures = match &self.world.ledger {
            Some(pool) => Some(catalog::store::erasures::hold_off(pool).await?),
            None => None,
        };
        if let Some((_, Some(erased))) = &erasures {
            crate::privacy::load::blank(erased, &mut tables, &mut slice.rejects)?;
        }
        let id = slice.id;
        let mut rows: BTreeMap<String, Receipt> = BTreeMap::new();
        // The keeper of the cursor commits last: whatever it has committed, the others have too.
        let keeper = sinks.iter().position(|s| s.abilities().keeps_cursor);
        let order = (0..sinks.len()).filter(|i| Some(*i) != keeper).chain(keeper);
        let mut left = sinks.len();
        for i in order {
            let sink = &mut sinks[i];
            sink.begin(id).await?;
            left -= 1;
            // The last sink is the last owner: what it has taken in makes room.
            let given = if left == 0 { std::mem::take(&mut tables) } else { tables.clone() };
            for (dataset, batches) in given {
                for batch in batches {
                    sink.write(&dataset, batch).await?;
                }
            }
            rows = sink.commit(&slice).await?;
        }
        if keeper.is_none()
            && let Some(pool) = &self.world.ledger
        {
            let failed = |e| catalog::store::pg::fault("cannot write the slice into the ledger", e);
            let mut tx = pool.begin().await.map_err(failed)?;
            runs::commit_slice(&mut tx, &slice, &rows, self.freshness_limit_secs).await?;
            tx.commit().await.map_err(failed)?;
        }
        if let Some((held, _)) = erasures {
            held.rollback().await.map_err(|e| catalog::store::pg::fault("cannot let erasures go on", e))?;
        }
        self.world.observer.on(&Progress::Committed { number: id.number, rows: &rows });
        summary.slices += 1;
        for (dataset, count) in rows {
            *summary.rows.entry(dataset).or_default() += count;
        }
        for reject in &slice.rejects {
            match reject.kind {
                RejectKind::Row => summary.rejected_rows += 1,
                RejectKind::Value => summary.rejected_values += 1,
            }
        }
        if self.world.ledger.is_none() {
            summary.unrecorded.extend(slice.rejects);
        }
        merge_notes(&mut summary.notes, slice.notes);
        Ok(())
    }

    /// Which scopes of which written datasets the slice holds whole. A dataset with an origin column may only lose rows
    /// of the origins that were read; see [`Scope::origins`].
    fn complete_scopes(&self, pending: &Pending, wire: &[Dataset]) -> BTreeMap<String, Vec<Scope>> {
        let mut complete: BTreeMap<String, Vec<Scope>> = BTreeMap::new();
        for target in self.targets {
            let Some(column) = &target.dataset.scope else { continue };
            for (_, value, missing) in pending.complete.iter().filter(|(c, _, _)| c == column) {
                let origins =
                    target.dataset.origin.as_ref().filter(|_| !missing.is_empty()).map(|_| {
                        wire.iter().map(|d| d.name.clone()).filter(|n| !missing.contains(&n.as_str())).collect()
                    });
                complete.entry(target.dataset.name.clone()).or_default().push(Scope { value: value.clone(), origins });
            }
        }
        complete
    }
}

/// What a run settles, and how.
struct Settling<'a> {
    models: Vec<&'static Model>,
    /// propflow's own tables, when a sink of the run writes them.
    pool: Option<&'a PgPool>,
    clock: &'a dyn Clock,
    alone: Alone,
    fault: Option<Fault>,
}

impl<'a> Settling<'a> {
    fn new(world: &'a World, models: Vec<&'static Model>, sinks: &[Box<dyn Sink>]) -> Self {
        let keeper = sinks.iter().any(|s| s.abilities().keeps_cursor);
        let pool = world.ledger.as_ref().filter(|_| keeper);
        Self { models, pool, clock: &*world.clock, alone: Alone::default(), fault: None }
    }

    /// Settles what a slice has changed. A fault is kept for the end of the run: what was read is safe, and reading the rest
    /// is worth more than ending here.
    async fn after(
        &mut self,
        writer: &Writer<'_>,
        made: &Tables,
        cursor: Option<Cursor>,
        number: &mut u32,
        sinks: &mut [Box<dyn Sink>],
        summary: &mut Summary,
    ) {
        if self.models.is_empty() || self.fault.is_some() {
            return;
        }
        let Some(pool) = self.pool else { return self.alone.take(made, cursor.as_ref()) };
        let now = self.clock.now();
        let mut store = Next { writer, cursor, number, sinks, summary };
        if let Err(fault) = settle::settle(pool, &self.models, &writer.info(now), now, &mut store).await {
            tracing::warn!(pipeline.name = writer.pipeline, error = fault.chain(), "bookings could not be settled");
            self.fault = Some(fault.at("settling bookings"));
        }
    }

    /// Settles what could not be settled slice by slice.
    async fn end(
        &mut self,
        writer: &Writer<'_>,
        number: &mut u32,
        sinks: &mut [Box<dyn Sink>],
        summary: &mut Summary,
    ) -> Result<()> {
        if let Some(fault) = self.fault.take() {
            return Err(fault);
        }
        if self.models.is_empty() || self.pool.is_some() {
            return Ok(());
        }
        let alone = std::mem::take(&mut self.alone);
        let cursor = alone.cursor();
        if let Some(settled) = alone.settle(&self.models, &writer.info(self.clock.now())).await? {
            Next { writer, cursor, number, sinks, summary }.store(settled).await?;
        }
        Ok(())
    }
}

/// The slices of a run that settle: they keep its cursor where it is.
struct Next<'a, 'w> {
    writer: &'a Writer<'w>,
    cursor: Option<Cursor>,
    number: &'a mut u32,
    sinks: &'a mut [Box<dyn Sink>],
    summary: &'a mut Summary,
}

#[async_trait::async_trait]
impl Store for Next<'_, '_> {
    async fn store(&mut self, settled: Settled) -> Result<()> {
        let slice = Slice {
            id: SliceId { run: self.summary.run, number: *self.number },
            pipeline: self.writer.pipeline.to_owned(),
            observed_at: settled.observed_at,
            complete: settled.complete,
            cursor: self.cursor.clone(),
            follows: None,
            rejects: settled.rejects,
            notes: Vec::new(),
        };
        self.writer.store(slice, settled.tables, self.sinks, self.summary).await?;
        *self.number += 1;
        Ok(())
    }
}

/// Settles on its own, as a run of the ledger, what is pending or due. Nothing is entered when nothing is.
///
/// # Errors
/// As for [`settle::settle`].
pub async fn settle_pending(
    world: &World,
    trigger: &str,
    models: Vec<&'static Model>,
    mut sinks: Vec<Box<dyn Sink>>,
) -> Result<usize> {
    let (Some(pool), now) = (&world.ledger, world.clock.now()) else { return Ok(0) };
    if !settle::pending(pool, now).await? {
        return Ok(0);
    }
    let (_, models) = settle::split(&models);
    let targets = crate::plan::targets(&models);
    for sink in &mut sinks {
        sink.prepare(&targets).await?;
    }
    let stored = BTreeSet::new();
    let writer = Writer {
        stored: &stored,
        settles: false,
        world,
        pipeline: SETTLE,
        models: &[],
        targets: &targets,
        connection: SETTLE,
        currency: "",
        region: "",
        concessions_included: false,
        freshness_limit_secs: 0,
        follows: None,
    };
    let mut summary = Summary::new(Uuid::now_v7(), SETTLE);
    runs::start(pool, summary.run, SETTLE, trigger, &json!({ "settle": "pending" }), now).await?;
    let mut number = 0;
    let mut store =
        Next { writer: &writer, cursor: None, number: &mut number, sinks: &mut sinks, summary: &mut summary };
    let settled = settle::settle(pool, &models, &writer.info(now), now, &mut store).await;
    let status = if settled.is_ok() { Status::Succeeded } else { Status::Failed };
    runs::finish(pool, summary.run, status, settled.as_ref().err(), world.clock.now()).await?;
    settled
}

/// The name under which settlings of their own are in the ledger.
pub const SETTLE: &str = "settle";

fn merge_notes(notes: &mut Vec<Note>, more: Vec<Note>) {
    for note in more {
        match notes.iter_mut().find(|n| n.topic == note.topic && n.subject == note.subject) {
            Some(known) => known.count += note.count,
            None => notes.push(note),
        }
    }
}

/// The right to run a request, held by one process at a time and lost with its connection.
struct Lease {
    connection: PgConnection,
}

impl Lease {
    async fn take(pool: &PgPool, pipeline: &str, request: &Value) -> Result<Self> {
        let failed = |e| catalog::store::pg::fault("cannot take the run's lease", e);
        // A connection of its own: one from the pool would hand the lock on with it.
        let mut connection = pool.acquire().await.map_err(failed)?.detach();
        let taken: bool =
            sqlx::query_scalar("select pg_try_advisory_lock(hashtextextended('propflow run ' || $1 || $2::text, 0))")
                .bind(pipeline)
                .bind(request)
                .fetch_one(&mut connection)
                .await
                .map_err(failed)?;
        if taken {
            return Ok(Self { connection });
        }
        let _ = connection.close().await;
        Err(Fault::user(format!("another process is running `{pipeline}` now"))
            .retry(Retry::Backoff)
            .hint("Wait for it, or look at `propflow status`. Nothing is lost by waiting."))
    }

    async fn release(mut self) {
        // A server takes a moment to notice that a connection has gone; whoever comes next should not wait for that.
        let _ = sqlx::query("select pg_advisory_unlock_all()").execute(&mut self.connection).await;
        let _ = self.connection.close().await;
    }
}

/// What a source may use, for one connection.
pub fn env(world: &World, connection: &str) -> Env {
    Env {
        clock: world.clock.clone(),
        quota: world.quota.clone(),
        tokens: world.tokens.clone(),
        tables: match &world.ledger {
            Some(pool) => Arc::new(PgTables(pool.clone())),
            None => Arc::new(NoTables),
        },
        connection: connection.to_owned(),
    }
}
