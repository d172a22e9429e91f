//! API keys: what they may do, and a hash by which they are known again.

use chrono::{DateTime, Utc};
use serde::Serialize;
use sqlx::postgres::PgRow;
use sqlx::{PgConnection, PgPool, Row};
use uuid::Uuid;

use super::pg::fault;
use crate::Result;

/// A key as it is kept.
#[derive(Debug, Clone, Serialize)]
pub struct ApiKey {
    /// Its id.
    pub id: Uuid,
    /// What people call it.
    pub name: String,
    /// Its first characters, which are no secret.
    pub prefix: String,
    /// SHA-256 of the whole key.
    #[serde(skip)]
    pub hash: Vec<u8>,
    /// What it may do.
    pub roles: Vec<String>,
    /// The properties that it may do it for; `None` for all.
    pub properties: Option<Vec<String>>,
    /// When it was last used, to the minute.
    pub last_used_at: Option<DateTime<Utc>>,
    /// When it was revoked.
    pub revoked_at: Option<DateTime<Utc>>,
    /// When it was made.
    pub created_at: DateTime<Utc>,
}

const KEY: &str = "id, name, prefix, hash, roles, properties, last_used_at, revoked_at, created_at";

fn key(row: &PgRow) -> ApiKey {
    ApiKey {
        id: row.get("id"),
        name: row.get("name"),
        prefix: row.get("prefix"),
        hash: row.get("hash"),
        roles: row.get("roles"),
        properties: row.get("properties"),
        last_used_at: row.get("last_used_at"),
        revoked_at: row.get("revoked_at"),
        created_at: row.get("created_at"),
    }
}

/// Keeps a new key.
pub async fn insert(connection: &mut PgConnection, key: &ApiKey) -> Result<()> {
    sqlx::query("insert into ops.api_keys (id, name, prefix, hash, roles, properties) values ($1, $2, $3, $4, $5, $6)")
        .bind(key.id)
        .bind(&key.name)
        .bind(&key.prefix)
        .bind(&key.hash)
        .bind(&key.roles)
        .bind(&key.properties)
        .execute(connection)
        .await
        .map_err(|e| fault("cannot keep the API key", e))?;
    Ok(())
}

/// Every key, newest first.
pub async fn list(pool: &PgPool) -> Result<Vec<ApiKey>> {
    let rows =
        sqlx::query(sqlx::AssertSqlSafe(format!("select {KEY} from ops.api_keys order by created_at desc, prefix")))
            .fetch_all(pool)
            .await
            .map_err(|e| fault("cannot list the API keys", e))?;
    Ok(rows.iter().map(key).collect())
}

/// The key with this prefix, revoked or not.
pub async fn find(pool: &PgPool, prefix: &str) -> Result<Option<ApiKey>> {
    let row = sqlx::query(sqlx::AssertSqlSafe(format!("select {KEY} from ops.api_keys where prefix = $1")))
        .bind(prefix)
        .fetch_optional(pool)
        .await
        .map_err(|e| fault("cannot look up an API key", e))?;
    Ok(row.as_ref().map(key))
}

/// Revokes the key of this prefix or id, and gives it; `None` if there is none that is still good.
pub async fn revoke(connection: &mut PgConnection, name: &str) -> Result<Option<ApiKey>> {
    let row = sqlx::query(sqlx::AssertSqlSafe(format!(
        "update ops.api_keys set revoked_at = now(), updated_at = now() \
         where (prefix = $1 or id::text = $1) and revoked_at is null returning {KEY}"
    )))
    .bind(name)
    .fetch_optional(connection)
    .await
    .map_err(|e| fault("cannot revoke the API key", e))?;
    Ok(row.as_ref().map(key))
}

/// Notes that a key was used.
pub async fn used(pool: &PgPool, id: Uuid, at: DateTime<Utc>) -> Result<()> {
    sqlx::query("update ops.api_keys set last_used_at = $2 where id = $1")
        .bind(id)
        .bind(at)
        .execute(pool)
        .await
        .map_err(|e| fault("cannot note the use of an API key", e))?;
    Ok(())
}
