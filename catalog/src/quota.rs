//! One budget of calls per vendor account, shared by everything that calls it.

use std::collections::HashMap;
use std::fmt::Debug;
use std::sync::Mutex;
use std::time::Duration;

use async_trait::async_trait;

use crate::Result;

/// How many calls an account allows.
///
/// A token bucket: `burst` calls at once, refilled at `calls` per `per`. `parallel` bounds the calls under way.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Budget {
    /// Calls per period.
    pub calls: u32,
    /// The period.
    pub per: Duration,
    /// Calls that may go out back to back.
    pub burst: u32,
    /// Calls under way at once, over all processes.
    pub parallel: u32,
}

impl Budget {
    /// The time that one call uses up.
    pub fn interval(&self) -> Duration {
        self.per / self.calls.max(1)
    }

    /// How far ahead of an even pace a burst may run: half of what the vendor allows. The other half is for calls that are
    /// held up on their way, so that those behind them do not look early to a strict vendor.
    pub fn tolerance(&self) -> Duration {
        self.interval() * self.burst.saturating_sub(1) / 2
    }
}

/// The keeper of budgets. One implementation lives in this process and serves one-off copies; the other lives in
/// PostgreSQL and is shared by every run, backfill and worker.
#[async_trait]
pub trait Quota: Send + Sync + Debug {
    /// Books the next call on `account` and says how long to wait before making it. Booking is atomic: two callers never
    /// get the same place. The caller waits; this does not.
    async fn book(&self, account: &str, budget: &Budget) -> Result<Duration>;

    /// The vendor refused and asked for silence: nobody books a place on `account` before `pause` is over, and no burst
    /// follows it.
    async fn pause(&self, account: &str, budget: &Budget, pause: Duration) -> Result<()>;
}

/// The state of one bucket, in the generic cell rate form: `tat` is the theoretical arrival time of the next call, in
/// seconds on any monotonic scale. See ITU-T I.371 for the algorithm.
#[derive(Debug, Clone, Copy, Default)]
struct Bucket {
    tat: f64,
}

/// Books places for this process alone.
#[derive(Debug)]
pub struct LocalQuota {
    start: std::time::Instant,
    buckets: Mutex<HashMap<String, Bucket>>,
}

impl Default for LocalQuota {
    fn default() -> Self {
        Self { start: std::time::Instant::now(), buckets: Mutex::default() }
    }
}

impl LocalQuota {
    fn with<T>(&self, account: &str, change: impl FnOnce(&mut Bucket, f64) -> T) -> T {
        let now = self.start.elapsed().as_secs_f64();
        let mut buckets = self.buckets.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        change(buckets.entry(account.to_owned()).or_default(), now)
    }
}

#[async_trait]
impl Quota for LocalQuota {
    async fn book(&self, account: &str, budget: &Budget) -> Result<Duration> {
        let interval = budget.interval().as_secs_f64();
        let tolerance = budget.tolerance().as_secs_f64();
        Ok(self.with(account, |bucket, now| {
            let tat = bucket.tat.max(now);
            bucket.tat = tat + interval;
            Duration::from_secs_f64((tat - tolerance - now).max(0.0))
        }))
    }

    async fn pause(&self, account: &str, budget: &Budget, pause: Duration) -> Result<()> {
        let silence = (pause + budget.tolerance()).as_secs_f64();
        self.with(account, |bucket, now| bucket.tat = bucket.tat.max(now + silence));
        Ok(())
    }
}
