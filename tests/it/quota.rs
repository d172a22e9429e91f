//! One budget of calls per vendor account, whoever calls.

use std::sync::Arc;
use std::time::{Duration, Instant};

use catalog::quota::LocalQuota;
use catalog::store::PgQuota;
use catalog::{Budget, Quota};
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
    let budget = Budget { calls: 50, per: Duration::from_secs(1), burst: 5, parallel: 1 };
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
    let budget = Budget { calls: 100, per: Duration::from_secs(1), burst: 10, parallel: 1 };
    holds(&book(vec![keeper.clone()], budget, 300).await, &budget);
    keeper.pause("vendor/1", &budget, Duration::from_secs(60)).await.unwrap();
    assert!(keeper.book("vendor/1", &budget).await.unwrap() > Duration::from_secs(55));
}
