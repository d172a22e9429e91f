//! What is known of people who were erased: hashes only, by which rows are recognised that bring them again.

use std::collections::HashSet;

use chrono::{DateTime, Utc};
use serde_json::Value;
use sha2::{Digest, Sha256};
use sqlx::{PgConnection, PgPool, Postgres, Transaction};
use uuid::Uuid;

use super::pg::fault;
use crate::Result;

/// What stands between the parts of a value that is hashed.
pub const PART: char = '\u{1f}';

const LOCK: &str = "hashtextextended('propflow.erasure', 0)";

/// The database's own salt, with which everything here is hashed.
#[derive(Clone)]
pub struct Salt(Vec<u8>);

impl std::fmt::Debug for Salt {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Salt")
    }
}

impl Salt {
    /// Reads it.
    pub async fn read(connection: &mut PgConnection) -> Result<Self> {
        let salt = sqlx::query_scalar("select salt from ops.erasure_salt").fetch_one(connection).await;
        Ok(Self(salt.map_err(|e| fault("cannot read the salt of erasures", e))?))
    }

    /// The mark of a canonical value, the same as `ops.mark(kind, value)`.
    pub fn mark(&self, kind: &str, value: &str) -> [u8; 32] {
        let mut hash = Sha256::new();
        hash.update(&self.0);
        hash.update(kind);
        hash.update([PART as u8]);
        hash.update(value);
        hash.finalize().into()
    }
}

/// Everyone who was erased.
#[derive(Debug, Clone)]
pub struct Erased {
    salt: Salt,
    marks: HashSet<Vec<u8>>,
}

impl Erased {
    /// Whether a canonical value of this kind is one of theirs.
    pub fn knows(&self, kind: &str, value: &str) -> bool {
        self.marks.contains(self.salt.mark(kind, value).as_slice())
    }
}

/// Holds erasures off until the guard is dropped, and gives those that were. `None` when nobody ever was erased; erasures
/// are held off even so.
pub async fn hold_off(pool: &PgPool) -> Result<(Transaction<'static, Postgres>, Option<Erased>)> {
    let failed = |e| fault("cannot read who was erased", e);
    let mut tx = pool.begin().await.map_err(failed)?;
    sqlx::raw_sql(sqlx::AssertSqlSafe(format!("select pg_advisory_xact_lock_shared({LOCK})")))
        .execute(&mut *tx)
        .await
        .map_err(failed)?;
    let erased = read(&mut tx).await?;
    Ok((tx, erased))
}

/// Everyone who was erased, if anyone was.
pub async fn read(connection: &mut PgConnection) -> Result<Option<Erased>> {
    let marks: Vec<Vec<u8>> = sqlx::query_scalar("select mark from ops.erased")
        .fetch_all(&mut *connection)
        .await
        .map_err(|e| fault("cannot read who was erased", e))?;
    if marks.is_empty() {
        return Ok(None);
    }
    Ok(Some(Erased { salt: Salt::read(connection).await?, marks: marks.into_iter().collect() }))
}

/// Waits until no slice is being written and no other erasure is under way, and keeps it so while the connection lives. A
/// process that dies gives way with its connection.
pub async fn alone(connection: &mut PgConnection) -> Result<()> {
    sqlx::raw_sql(sqlx::AssertSqlSafe(format!("select pg_advisory_lock({LOCK})")))
        .execute(connection)
        .await
        .map_err(|e| fault("cannot wait for what is being written", e))?;
    Ok(())
}

/// Lets others write again.
pub async fn give_way(connection: &mut PgConnection) -> Result<()> {
    sqlx::raw_sql(sqlx::AssertSqlSafe(format!("select pg_advisory_unlock({LOCK})")))
        .execute(connection)
        .await
        .map_err(|e| fault("cannot let others write again", e))?;
    Ok(())
}

/// Notes that an erasure begins, or goes on that was interrupted, and by what its person is known from now on. Gives its id.
pub async fn begin(
    connection: &mut PgConnection,
    asked: &[u8],
    marks: &[(&'static str, Vec<u8>)],
    now: DateTime<Utc>,
) -> Result<Uuid> {
    let failed = |e| fault("cannot note an erasure", e);
    let open: Option<Uuid> =
        sqlx::query_scalar("select id from ops.erasures where mark = $1 and state = 'running' order by id limit 1")
            .bind(asked)
            .fetch_optional(&mut *connection)
            .await
            .map_err(failed)?;
    let id = open.unwrap_or_else(Uuid::now_v7);
    sqlx::query(
        "insert into ops.erasures (id, mark, state, created_at, updated_at) values ($1, $2, 'running', $3, $3) \
         on conflict (id) do update set updated_at = excluded.updated_at",
    )
    .bind(id)
    .bind(asked)
    .bind(now)
    .execute(&mut *connection)
    .await
    .map_err(failed)?;
    let (kinds, marks): (Vec<&str>, Vec<&[u8]>) = marks.iter().map(|(kind, mark)| (*kind, mark.as_slice())).unzip();
    sqlx::query(
        "insert into ops.erased (mark, kind, erasure_id, created_at) \
         select m, k, $3, $4 from unnest($1::bytea[], $2::text[]) x (m, k) on conflict (mark) do nothing",
    )
    .bind(marks)
    .bind(kinds)
    .bind(id)
    .bind(now)
    .execute(connection)
    .await
    .map_err(failed)?;
    Ok(id)
}

/// Notes that an erasure is done, and how many rows it met where.
pub async fn finish(connection: &mut PgConnection, id: Uuid, counts: &Value, now: DateTime<Utc>) -> Result<()> {
    sqlx::query("update ops.erasures set state = 'done', counts = $2, updated_at = $3, finished_at = $3 where id = $1")
        .bind(id)
        .bind(counts)
        .bind(now)
        .execute(connection)
        .await
        .map_err(|e| fault("cannot note the end of an erasure", e))?;
    Ok(())
}

/// Forgets that a person was erased: from the next pull on they are stored again. What they wanted no more of stays. Gives
/// the number of erasures.
pub async fn lift(connection: &mut PgConnection, mark: &[u8]) -> Result<u64> {
    // The erasure itself stays on the books; only its marks go.
    let lifted = sqlx::query(
        "with gone as (delete from ops.erased where erasure_id in (select erasure_id from ops.erased where mark = $1) \
         returning erasure_id) select distinct erasure_id from gone",
    )
    .bind(mark)
    .fetch_all(connection)
    .await
    .map_err(|e| fault("cannot lift an erasure", e))?;
    Ok(lifted.len() as u64)
}

/// Whether somebody of this mark was erased, and when last.
pub async fn last(connection: &mut PgConnection, mark: &[u8]) -> Result<Option<DateTime<Utc>>> {
    sqlx::query_scalar("select max(created_at) from ops.erased where mark = $1")
        .bind(mark)
        .fetch_one(connection)
        .await
        .map_err(|e| fault("cannot read who was erased", e))
}

/// What somebody wants no more of: e-mails, calls, text messages.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct OptOuts {
    /// No e-mails.
    pub email: bool,
    /// No calls.
    pub phone: bool,
    /// No text messages.
    pub text: bool,
}

/// Keeps what somebody wants no more of, by the mark of an address or a phone. What was kept before stays.
pub async fn suppress(connection: &mut PgConnection, mark: &[u8], what: OptOuts, now: DateTime<Utc>) -> Result<()> {
    sqlx::query(
        "insert into sync.suppressions as s (mark, email, phone, text, created_at, updated_at) values ($1, $2, $3, $4, $5, $5) \
         on conflict (mark) do update set email = s.email or excluded.email, phone = s.phone or excluded.phone, \
         text = s.text or excluded.text, updated_at = excluded.updated_at",
    )
    .bind(mark)
    .bind(what.email)
    .bind(what.phone)
    .bind(what.text)
    .bind(now)
    .execute(connection)
    .await
    .map_err(|e| fault("cannot keep an opt-out", e))?;
    Ok(())
}

/// What somebody with this address and this phone, both in canonical form, wants no more of although they were erased.
pub async fn suppressed(connection: &mut PgConnection, email: Option<&str>, phone: Option<&str>) -> Result<OptOuts> {
    let (email, phone, text): (Option<bool>, Option<bool>, Option<bool>) = sqlx::query_as(
        "select bool_or(email), bool_or(phone), bool_or(text) from sync.suppressions \
         where mark in (ops.mark('email', lower($1)), ops.mark('phone', $2))",
    )
    .bind(email)
    .bind(phone)
    .fetch_one(connection)
    .await
    .map_err(|e| fault("cannot read opt-outs", e))?;
    Ok(OptOuts { email: email.unwrap_or(false), phone: phone.unwrap_or(false), text: text.unwrap_or(false) })
}
