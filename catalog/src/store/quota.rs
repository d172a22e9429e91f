//! The budget of a vendor account, shared by every process on one database.

use std::time::Duration;

use async_trait::async_trait;
use sqlx::PgPool;

use super::pg::fault;
use crate::{Budget, Quota, Result};

/// Books calls in PostgreSQL. One short statement per call; the row lock orders the callers, the server's clock is the
/// only clock.
#[derive(Debug, Clone)]
pub struct PgQuota {
    pool: PgPool,
}

impl PgQuota {
    /// Keeps budgets in this database.
    pub fn new(pool: PgPool) -> Self {
        Self { pool }
    }
}

#[async_trait]
impl Quota for PgQuota {
    async fn book(&self, account: &str, budget: &Budget) -> Result<Duration> {
        if budget.wider.iter().any(Option::is_some) {
            let (intervals, tolerances): (Vec<f64>, Vec<f64>) = budget.paces().into_iter().unzip();
            let wait: f64 = sqlx::query_scalar("select ops.book($1, $2, $3)")
                .bind(account)
                .bind(intervals)
                .bind(tolerances)
                .fetch_one(&self.pool)
                .await
                .map_err(|e| fault("cannot book a call in the shared quota", e))?;
            return Ok(Duration::from_secs_f64(wait.max(0.0)));
        }
        let interval = budget.interval().as_secs_f64();
        let tolerance = budget.tolerance().as_secs_f64();
        let wait: f64 = sqlx::query_scalar(
            "insert into ops.quotas as q (account, tat) values ($1, clock_timestamp() + make_interval(secs => $2)) \
             on conflict (account) do update set \
               tat = greatest(q.tat, clock_timestamp()) + make_interval(secs => $2), updated_at = now() \
             returning extract(epoch from q.tat - clock_timestamp())::float8 - $2 - $3",
        )
        .bind(account)
        .bind(interval)
        .bind(tolerance)
        .fetch_one(&self.pool)
        .await
        .map_err(|e| fault("cannot book a call in the shared quota", e))?;
        Ok(Duration::from_secs_f64(wait.max(0.0)))
    }

    async fn pause(&self, account: &str, budget: &Budget, pause: Duration) -> Result<()> {
        sqlx::query(
            "insert into ops.quotas as q (account, tat) values ($1, clock_timestamp() + make_interval(secs => $2)) \
             on conflict (account) do update set \
               tat = greatest(q.tat, clock_timestamp() + make_interval(secs => $2)), updated_at = now()",
        )
        .bind(account)
        .bind((pause + budget.tolerance()).as_secs_f64())
        .execute(&self.pool)
        .await
        .map_err(|e| fault("cannot pause the shared quota", e))?;
        Ok(())
    }
}
