//! Vendors' access tokens, shared by every process on one database.

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use secrecy::{ExposeSecret, SecretString};
use sqlx::{PgConnection, PgPool};

use super::pg::fault;
use super::{audit, connections};
use crate::token::{Issued, Issuer, Kept, Tokens};
use crate::{Fault, Result};

/// Keeps tokens in PostgreSQL. An advisory lock per key lets one caller at a time ask the vendor, over all processes; the
/// server's clock is the only clock.
#[derive(Debug, Clone)]
pub struct PgTokens {
    pool: PgPool,
}

impl PgTokens {
    /// Keeps tokens in this database.
    pub fn new(pool: PgPool) -> Self {
        Self { pool }
    }
}

fn failed(error: sqlx::Error) -> Fault {
    fault("cannot use the shared tokens", error)
}

type Row = (
    DateTime<Utc>,
    Option<String>,
    Option<DateTime<Utc>>,
    Option<DateTime<Utc>>,
    Option<DateTime<Utc>>,
    Option<String>,
    Option<bool>,
);

/// What is kept, and the server's time.
async fn kept(connection: &mut PgConnection, key: &str) -> Result<(Kept, DateTime<Utc>)> {
    let (now, token, good_until, replaced_at, closed_until, closed_because, closed_by_user): Row = sqlx::query_as(
        "select clock_timestamp(), t.token, t.good_until, t.replaced_at, t.closed_until, t.closed_because, \
           t.closed_by_user \
         from (select) as always left join ops.tokens t on t.key = $1",
    )
    .bind(key)
    .fetch_one(connection)
    .await
    .map_err(failed)?;
    let kept = Kept {
        token: token.map(SecretString::from),
        good_until,
        replaced_at,
        closed_until,
        closed_because,
        closed_by_user: closed_by_user.unwrap_or(false),
    };
    Ok((kept, now))
}

#[async_trait]
impl Tokens for PgTokens {
    async fn get(&self, key: &str, refused: Option<&SecretString>, issuer: &dyn Issuer) -> Result<SecretString> {
        {
            let mut connection = self.pool.acquire().await.map_err(failed)?;
            let (mut kept, now) = kept(&mut connection, key).await?;
            kept.replaced_at = kept.replaced_at.filter(|_| issuer.counted());
            if let Some(decided) = kept.decide(refused, now) {
                return decided;
            }
        }
        // The lock goes with the transaction, so a process that dies while it asks holds nobody up.
        let mut tx = self.pool.begin().await.map_err(failed)?;
        sqlx::query("select pg_advisory_xact_lock(hashtextextended('propflow token ' || $1, 0))")
            .bind(key)
            .execute(&mut *tx)
            .await
            .map_err(failed)?;
        let (mut kept, now) = kept(&mut tx, key).await?;
        kept.replaced_at = kept.replaced_at.filter(|_| issuer.counted());
        if let Some(decided) = kept.decide(refused, now) {
            return decided;
        }
        let issued = issuer.issue().await;
        kept.learn(refused, &issued, now);
        write(&mut tx, key, &kept).await?;
        tx.commit().await.map_err(failed)?;
        issued.map(|issued| issued.token)
    }

    async fn kept(&self, key: &str) -> Result<Option<SecretString>> {
        let mut connection = self.pool.acquire().await.map_err(failed)?;
        Ok(kept(&mut connection, key).await?.0.token)
    }

    async fn keep(&self, key: &str, issued: &Issued) -> Result<()> {
        let mut connection = self.pool.acquire().await.map_err(failed)?;
        let (_, now) = kept(&mut connection, key).await?;
        write(&mut connection, key, &Kept::given(issued, now)).await
    }

    async fn end(&self, connector: &str, connection: &str, reason: &str) -> Result<()> {
        let mut tx = self.pool.begin().await.map_err(failed)?;
        if connections::set(&mut tx, connector, connection, true, reason).await? {
            let (actor, action, subject) = (connector, "revoke", connection);
            let entry = audit::Entry { actor, action, subject, reason: Some(reason), ..audit::Entry::default() };
            audit::write(&mut tx, &entry).await?;
        }
        tx.commit().await.map_err(failed)
    }
}

/// Writes what is known of a key.
async fn write(connection: &mut PgConnection, key: &str, kept: &Kept) -> Result<()> {
    sqlx::query(
        "insert into ops.tokens as t \
               (key, token, good_until, replaced_at, closed_until, closed_because, closed_by_user) \
             values ($1, $2, $3, $4, $5, $6, $7) \
             on conflict (key) do update set token = excluded.token, good_until = excluded.good_until, \
               replaced_at = excluded.replaced_at, closed_until = excluded.closed_until, \
               closed_because = excluded.closed_because, closed_by_user = excluded.closed_by_user, updated_at = now()",
    )
    .bind(key)
    .bind(kept.token.as_ref().map(|token| token.expose_secret().to_owned()))
    .bind(kept.good_until)
    .bind(kept.replaced_at)
    .bind(kept.closed_until)
    .bind(&kept.closed_because)
    .bind(kept.closed_by_user)
    .execute(connection)
    .await
    .map_err(failed)?;
    Ok(())
}
