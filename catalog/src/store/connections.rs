//! Connections that must not be used any more.

use chrono::{DateTime, Utc};
use serde::Serialize;
use sqlx::{PgConnection, PgPool, Row};

use super::pg::fault;
use crate::{Fault, Result, token};

/// A connection on the books.
#[derive(Debug, Clone, Serialize)]
pub struct Connection {
    /// The connector.
    pub connector: String,
    /// The connection.
    pub connection: String,
    /// Whether its authorisation was withdrawn.
    pub revoked: bool,
    /// Why it is as it is.
    pub reason: Option<String>,
    /// Since when.
    pub updated_at: DateTime<Utc>,
    /// When the personal data that it had told was removed.
    pub purged_at: Option<DateTime<Utc>>,
}

/// Every connection that ever was revoked.
pub async fn list(pool: &PgPool) -> Result<Vec<Connection>> {
    let rows = sqlx::query(
        "select connector, connection, state, reason, updated_at, purged_at from ops.connections order by connector, connection",
    )
    .fetch_all(pool)
    .await
    .map_err(|e| fault("cannot list the connections", e))?;
    Ok(rows
        .iter()
        .map(|r| Connection {
            connector: r.get("connector"),
            connection: r.get("connection"),
            revoked: r.get::<&str, _>("state") == "revoked",
            reason: r.get("reason"),
            updated_at: r.get("updated_at"),
            purged_at: r.get("purged_at"),
        })
        .collect())
}

/// Stops a connection, or lets it be used again. Says whether that changed anything.
pub async fn set(
    connection: &mut PgConnection,
    connector: &str,
    name: &str,
    revoked: bool,
    reason: &str,
) -> Result<bool> {
    let changed = sqlx::query(
        "insert into ops.connections as c (connector, connection, state, reason) values ($1, $2, $3, $4) \
         on conflict (connector, connection) do update set state = excluded.state, reason = excluded.reason, \
         purged_at = null, updated_at = now() where c.state <> excluded.state",
    )
    .bind(connector)
    .bind(name)
    .bind(if revoked { "revoked" } else { "active" })
    .bind(reason)
    .execute(&mut *connection)
    .await
    .map_err(|e| fault("cannot write the state of a connection", e))?;
    if revoked {
        // What let it in is worth nothing, and must not be kept.
        let key = token::key(connector, name);
        sqlx::query("delete from ops.tokens where key = $1 or key = $2")
            .bind(&key)
            .bind(token::grant_key(&key))
            .execute(connection)
            .await
            .map_err(|e| fault("cannot drop the tokens of a connection", e))?;
    }
    Ok(changed.rows_affected() == 1)
}

/// The revoked connections of which not everything has been removed yet that may not be kept.
pub async fn unpurged(pool: &PgPool) -> Result<Vec<(String, String)>> {
    sqlx::query_as(
        "select connector, connection from ops.connections where state = 'revoked' and purged_at is null \
         order by connector, connection",
    )
    .fetch_all(pool)
    .await
    .map_err(|e| fault("cannot list the connections", e))
}

/// Notes that what a revoked connection may not keep has been removed.
pub async fn purged(connection: &mut PgConnection, connector: &str, name: &str, now: DateTime<Utc>) -> Result<()> {
    sqlx::query("update ops.connections set purged_at = $3 where connector = $1 and connection = $2")
        .bind(connector)
        .bind(name)
        .bind(now)
        .execute(connection)
        .await
        .map_err(|e| fault("cannot write the state of a connection", e))?;
    Ok(())
}

/// Whether a connection may be used.
///
/// # Errors
/// When its authorisation was withdrawn.
pub async fn usable(pool: &PgPool, connector: &str, name: &str) -> Result<()> {
    let since: Option<DateTime<Utc>> = sqlx::query_scalar(
        "select updated_at from ops.connections where connector = $1 and connection = $2 and state = 'revoked'",
    )
    .bind(connector)
    .bind(name)
    .fetch_optional(pool)
    .await
    .map_err(|e| fault("cannot read the state of a connection", e))?;
    match since {
        None => Ok(()),
        Some(since) => Err(Fault::user(format!(
            "connection `{name}` of `{connector}` is stopped: its authorisation was withdrawn on {}",
            since.format("%Y-%m-%d")
        ))
        .hint(format!("Authorise it again, then `propflow connections --resume {name}`."))),
    }
}
