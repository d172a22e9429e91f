//! Group commit: deliveries that arrive while a commit is under way share the next one.
//!
//! A commit costs one wait for the disk, whatever it holds. So each writer takes everything that waits, up to a limit, and
//! commits it in one statement; when nothing waits, a delivery goes at once. Two writers, so that one can gather while the
//! other one waits for the disk.

use std::collections::HashSet;
use std::sync::{Arc, Mutex as SyncMutex, PoisonError};
use std::time::Duration;

use catalog::store::deliveries::{self, NewDelivery, State};
use catalog::store::pg::fault;
use catalog::{Fault, Result};
use sqlx::postgres::PgPoolOptions;
use sqlx::{Executor, PgPool};
use tokio::sync::{Mutex, Notify, Semaphore, mpsc, oneshot};
use tokio::time::{sleep, timeout};
use tokio_util::task::TaskTracker;

use super::work;
use crate::app::Database;

const WRITERS: u32 = 2;
/// Deliveries in one commit, at most.
const BATCH: usize = 512;
/// Deliveries that may wait; then senders wait.
const WAITING: usize = 4096;
/// Kilobytes of bodies that may wait.
const WAITING_KIB: u32 = 64 * 1024;
/// How long a delivery may wait for room before its sender is told to come back.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long to wait after a connection's job was called before it is called again.
const WAKE_PAUSE: Duration = Duration::from_millis(20);

type Answer = Result<bool, Arc<Fault>>;

#[derive(Debug)]
struct Waiting {
    delivery: NewDelivery,
    done: oneshot::Sender<Answer>,
}

/// Keeps deliveries.
#[derive(Debug)]
pub(super) struct GroupCommit {
    queue: SyncMutex<Option<mpsc::Sender<Waiting>>>,
    room: Arc<Semaphore>,
    running: TaskTracker,
    pool: PgPool,
}

/// Connections with new deliveries, whose jobs are to be called.
#[derive(Debug, Default)]
struct Wake {
    connections: SyncMutex<HashSet<(String, String)>>,
    changed: Notify,
}

impl GroupCommit {
    /// Starts the writers on connections of their own: a burst of deliveries must not starve the rest, nor the rest them.
    pub(super) async fn start(database: &Arc<Database>) -> Result<Self> {
        let pool = PgPoolOptions::new()
            .max_connections(WRITERS)
            .acquire_timeout(Duration::from_secs(5))
            .test_before_acquire(false)
            // The answer promises durability, whatever the server's default is.
            .after_connect(|connection, _| {
                Box::pin(async move { connection.execute("set synchronous_commit = on").await.map(drop) })
            })
            .connect_with(database.pool.connect_options().as_ref().clone())
            .await
            .map_err(|e| fault("cannot connect the inbox", e))?;
        let (sender, receiver) = mpsc::channel(WAITING);
        let (receiver, wake, running) = (Arc::new(Mutex::new(receiver)), Arc::new(Wake::default()), TaskTracker::new());
        for _ in 0..WRITERS {
            running.spawn(write(pool.clone(), receiver.clone(), wake.clone()));
        }
        // Not tracked: whoever was not called is found by the sweep of the worker.
        tokio::spawn(call(database.pool.clone(), wake));
        let room = Arc::new(Semaphore::new(WAITING_KIB as usize));
        Ok(Self { queue: SyncMutex::new(Some(sender)), room, running, pool })
    }

    /// Keeps a delivery. `Ok` when it is durable: `true` if it is new.
    pub(super) async fn keep(&self, delivery: NewDelivery) -> Answer {
        let busy = || {
            Arc::new(
                Fault::remote("the inbox is full").hint("The database is slower than the senders; they try again."),
            )
        };
        let kib = u32::try_from(delivery.body.len() / 1024 + 1).unwrap_or(WAITING_KIB).min(WAITING_KIB);
        let Ok(Ok(_room)) = timeout(PATIENCE, self.room.acquire_many(kib)).await else { return Err(busy()) };
        let queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let ended = || Arc::new(Fault::remote("the inbox is closing"));
        let queue = queue.ok_or_else(ended)?;
        let (done, answer) = oneshot::channel();
        match timeout(PATIENCE, queue.send(Waiting { delivery, done })).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) => return Err(ended()),
            Err(_) => return Err(busy()),
        }
        drop(queue);
        answer.await.unwrap_or_else(|_| Err(ended()))
    }

    /// Takes no more, and returns when everything that waits is durable or has failed.
    pub(super) async fn drain(&self) {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner).take();
        self.running.close();
        self.running.wait().await;
        self.pool.close().await;
    }
}

async fn write(pool: PgPool, receiver: Arc<Mutex<mpsc::Receiver<Waiting>>>, wake: Arc<Wake>) {
    let mut batch: Vec<Waiting> = Vec::with_capacity(BATCH);
    loop {
        // Held while waiting for the first: the other writer has nothing to take then either.
        if receiver.lock().await.recv_many(&mut batch, BATCH).await == 0 {
            return;
        }
        let (rows, answers): (Vec<_>, Vec<_>) = batch.drain(..).map(|w| (w.delivery, w.done)).unzip();
        let kept = commit(&pool, &rows).await;
        let mut called = HashSet::new();
        for ((row, answer), done) in rows.into_iter().zip(kept).zip(answers) {
            if matches!(answer, Ok(true)) && row.state == State::Received {
                called.insert((row.connector, row.connection));
            }
            // A sender that went away comes again, and is told that it was here.
            let _ = done.send(answer);
        }
        if !called.is_empty() {
            wake.connections.lock().unwrap_or_else(PoisonError::into_inner).extend(called);
            wake.changed.notify_one();
        }
    }
}

/// One answer a row. When the statement itself is refused, each row is tried alone: one that the database cannot hold must
/// not take its neighbours with it.
async fn commit(pool: &PgPool, rows: &[NewDelivery]) -> Vec<Answer> {
    match append(pool, rows).await {
        Ok(new) => new.into_iter().map(Ok).collect(),
        Err(fault) if fault.is_retryable() || rows.len() == 1 => {
            let fault = Arc::new(fault);
            rows.iter().map(|_| Err(fault.clone())).collect()
        }
        Err(_) => {
            let mut answers = Vec::with_capacity(rows.len());
            for row in rows {
                let kept = append(pool, std::slice::from_ref(row)).await;
                answers.push(kept.map(|new| new == [true]).map_err(Arc::new));
            }
            answers
        }
    }
}

async fn append(pool: &PgPool, rows: &[NewDelivery]) -> Result<Vec<bool>> {
    let mut connection = pool.acquire().await.map_err(|e| fault("cannot reach the inbox's database", e))?;
    deliveries::append(&mut connection, rows).await
}

/// Calls the jobs of connections that have something new.
async fn call(pool: PgPool, wake: Arc<Wake>) {
    // Ends with the inbox: the writers hold the other ends.
    while Arc::strong_count(&wake) > 1 {
        if timeout(Duration::from_secs(1), wake.changed.notified()).await.is_err() {
            continue;
        }
        let called = std::mem::take(&mut *wake.connections.lock().unwrap_or_else(PoisonError::into_inner));
        for (connector, connection) in called {
            if let Err(fault) = work::call(&pool, &connector, &connection).await {
                tracing::warn!(error = %fault.chain(), "the job of `{connection}` could not be called; the sweep will");
            }
        }
        sleep(WAKE_PAUSE).await;
    }
}
