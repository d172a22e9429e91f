//! One budget of calls per vendor account, whoever calls.

use std::sync::Arc;
use std::time::{Duration, Instant};

use catalog::http::{Client, Limits};
use catalog::quota::LocalQuota;
use catalog::store::PgQuota;
use catalog::{Budget, Env, Fault, Quota, Retry, Window};
use kit::db::TestDb;

/// Books `calls` places from several tasks at once and gives the instants, in seconds since the start, at which the
/// calls would go out, in order.
async fn book(keepers: Vec<Arc<dyn Quota>>, budget: Budget, calls: usize) -> Vec<f64> {
    let start = Instant::now();
    let tasks: Vec<_> = (0..calls)
        .map(|i| {
            let keeper = keepers[i % keepers.len()].clone();
            tokio::spawn(async move {
                let wait = keeper.book("vendor/1", &budget).await.unwrap();
                (start.elapsed() + wait).as_secs_f64()
            })
        })
        .collect();
    let mut due = Vec::new();
    for task in tasks {
        due.push(task.await.unwrap());
    }
    due.sort_by(f64::total_cmp);
    due
}

/// However many processes book: after the burst, calls are never closer than the budget allows over any stretch of time,
/// and no place is given away.
fn holds(due: &[f64], budget: &Budget) {
    let interval = budget.interval().as_secs_f64();
    let burst = budget.burst as usize;
    // Bookings are timed by the keeper's clock a moment before this test reads its own; that moment only delays calls.
    let slack = 0.5;
    for (i, at) in due.iter().enumerate().skip(burst) {
        let earliest = (i + 1 - burst) as f64 * interval;
        assert!(at + 0.02 >= earliest, "call {i} goes out at {at:.3} s, before {earliest:.3} s");
    }
    let last = (due.len() - burst) as f64 * interval;
    assert!(due[due.len() - 1] <= last + slack, "the last of {} calls waits longer than it has to", due.len());
}

#[tokio::test]
async fn processes_on_one_database_share_the_budget() {
    let db = TestDb::new().await;
    // Two pools stand for two processes.
    let other = catalog::store::connect(&db.url, 4).await.unwrap();
    let keepers: Vec<Arc<dyn Quota>> =
        vec![Arc::new(PgQuota::new(db.pool.clone())), Arc::new(PgQuota::new(other.clone()))];
    let budget = Budget { calls: 50, per: Duration::from_secs(1), burst: 5, parallel: 1, wider: [None; 2] };
    holds(&book(keepers.clone(), budget, 300).await, &budget);
    // Another account has a budget of its own.
    assert_eq!(keepers[0].book("vendor/2", &budget).await.unwrap(), Duration::ZERO);
    // A refusal holds everybody back.
    keepers[1].pause("vendor/2", &budget, Duration::from_secs(30)).await.unwrap();
    assert!(keepers[0].book("vendor/2", &budget).await.unwrap() > Duration::from_secs(28));
    other.close().await;
}

#[tokio::test]
async fn a_process_without_a_database_keeps_the_same_budget() {
    let keeper: Arc<dyn Quota> = Arc::new(LocalQuota::default());
    let budget = Budget { calls: 100, per: Duration::from_secs(1), burst: 10, parallel: 1, wider: [None; 2] };
    holds(&book(vec![keeper.clone()], budget, 300).await, &budget);
    keeper.pause("vendor/1", &budget, Duration::from_secs(60)).await.unwrap();
    assert!(keeper.book("vendor/1", &budget).await.unwrap() > Duration::from_secs(55));
}

#[tokio::test]
async fn nobody_sleeps_through_an_hour_that_a_vendor_asked_for() {
    let limits = Limits::default();
    let env = Env::default();
    let client = Client::new("vendor/1", &env, limits.clone()).unwrap();
    env.quota.pause("vendor/1", &limits.budget(), Duration::from_secs(3600)).await.unwrap();
    // Nobody listens there: the call must not even be tried.
    let request = client.request(http::Method::GET, "http://127.0.0.1:9/".parse().unwrap());
    let fault = client.call(request).await.map(|_| ()).map_err(Fault::from).unwrap_err();
    let Retry::After(wait) = fault.retry else { panic!("{fault:?}") };
    assert!(wait > Duration::from_secs(3500), "{wait:?}");
    assert!(fault.message.contains("`vendor/1`"), "{fault}");
}

/// No stretch of time as long as a window sees more calls than it allows, whoever books, and the narrow window holds too.
fn fits(due: &[f64], budget: &Budget) {
    let narrow = Window { calls: budget.calls + budget.burst, per: budget.per };
    for window in budget.wider.into_iter().flatten().chain([narrow]) {
        let per = window.per.as_secs_f64();
        for (i, from) in due.iter().enumerate() {
            let inside = due[i..].iter().take_while(|at| **at < from + per - 0.02).count();
            assert!(inside <= window.calls as usize, "{inside} calls in {per} s, of {} allowed", window.calls);
        }
    }
}

#[tokio::test]
async fn wider_windows_hold_over_any_stretch_of_time() {
    let db = TestDb::new().await;
    let other = catalog::store::connect(&db.url, 4).await.unwrap();
    let shared: Vec<Arc<dyn Quota>> =
        vec![Arc::new(PgQuota::new(db.pool.clone())), Arc::new(PgQuota::new(other.clone()))];
    let window = |calls, secs| Some(Window { calls, per: Duration::from_secs(secs) });
    // As Guesty counts: a second, a minute, an hour.
    let budget = Budget {
        calls: 10,
        per: Duration::from_secs(1),
        burst: 4,
        parallel: 1,
        wider: [window(120, 60), window(5000, 3600)],
    };
    for keepers in [shared.clone(), vec![Arc::new(LocalQuota::default()) as Arc<dyn Quota>]] {
        // Two hours of calls, booked at once: nobody has to wait for them here.
        let due = book(keepers.clone(), budget, 1500).await;
        fits(&due, &budget);
        let last = due[due.len() - 1];
        assert!(last < 1500.0 / (120.0 * 0.7 / 60.0), "{last} s is far slower than the minute allows");
        assert!(due[20] < 3.0, "a short reading does not wait for the wide windows");
        keepers[0].pause("vendor/1", &budget, Duration::from_secs(7200)).await.unwrap();
        assert!(keepers[0].book("vendor/1", &budget).await.unwrap() > Duration::from_secs(7190));
    }
    // An account whose windows were set later goes on from its narrow one.
    let narrow = Budget { wider: [None; 2], ..budget };
    shared[0].book("vendor/3", &narrow).await.unwrap();
    assert!(shared[1].book("vendor/3", &budget).await.unwrap() < Duration::from_secs(1));
    other.close().await;
}
