//! One budget of calls per vendor account, shared by everything that calls it.

use std::collections::HashMap;
use std::fmt::Debug;
use std::sync::Mutex;
use std::time::Duration;

use async_trait::async_trait;

use crate::Result;

/// How many calls an account allows.
///
/// A token bucket: `burst` calls at once, refilled at `calls` per `per`. `parallel` bounds the calls under way, `wider`
/// the calls over longer times.
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
    /// Wider windows, such as a minute and an hour, into which each call has to fit as well.
    pub wider: [Option<Window>; 2],
}

/// A wider window: no stretch of time as long as `per` sees more than `calls`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Window {
    /// Calls in the window.
    pub calls: u32,
    /// Its length.
    pub per: Duration,
}

impl Window {
    /// A quarter of the calls may go out back to back.
    fn burst(&self) -> u32 {
        (self.calls / 4).max(1)
    }

    /// The pace of the others. A burst and then this pace fill the window less one call, which is left for calls that the
    /// network brings closer together.
    fn interval(&self) -> Duration {
        self.per / self.calls.saturating_sub(self.burst() + 1).max(1)
    }
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

    /// Interval and tolerance of every window in seconds, the narrowest first.
    pub fn paces(&self) -> Vec<(f64, f64)> {
        let narrowest = (self.interval(), self.tolerance());
        let wider = self.wider.iter().flatten().map(|w| (w.interval(), w.interval() * (w.burst() - 1)));
        std::iter::once(narrowest).chain(wider).map(|(i, t)| (i.as_secs_f64(), t.as_secs_f64())).collect()
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

/// The state of an account's buckets, in the generic cell rate form: `tats` are the theoretical arrival times of the next
/// call, one for each window, in seconds on any monotonic scale. See ITU-T I.371 for the algorithm.
#[derive(Debug, Clone, Default)]
struct Buckets {
    tats: Vec<f64>,
}

/// Books places for this process alone.
#[derive(Debug)]
pub struct LocalQuota {
    start: std::time::Instant,
    buckets: Mutex<HashMap<String, Buckets>>,
}

impl Default for LocalQuota {
    fn default() -> Self {
        Self { start: std::time::Instant::now(), buckets: Mutex::default() }
    }
}

impl LocalQuota {
    fn with<T>(&self, account: &str, change: impl FnOnce(&mut Buckets, f64) -> T) -> T {
        let now = self.start.elapsed().as_secs_f64();
        let mut buckets = self.buckets.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        change(buckets.entry(account.to_owned()).or_default(), now)
    }
}

#[async_trait]
impl Quota for LocalQuota {
    async fn book(&self, account: &str, budget: &Budget) -> Result<Duration> {
        let paces = budget.paces();
        Ok(self.with(account, |buckets, now| {
            let tats = &mut buckets.tats;
            tats.resize(tats.len().max(paces.len()), 0.0);
            // The call goes out when every window has a place, and that is when it takes one in each.
            let place = tats.iter().zip(&paces).fold(now, |place, (tat, (_, tolerance))| place.max(tat - tolerance));
            for (tat, (interval, _)) in tats.iter_mut().zip(&paces) {
                *tat = tat.max(place) + interval;
            }
            Duration::from_secs_f64(place - now)
        }))
    }

    async fn pause(&self, account: &str, budget: &Budget, pause: Duration) -> Result<()> {
        let silence = (pause + budget.tolerance()).as_secs_f64();
        self.with(account, |buckets, now| {
            buckets.tats.resize(buckets.tats.len().max(1), 0.0);
            buckets.tats[0] = buckets.tats[0].max(now + silence);
        });
        Ok(())
    }
}
