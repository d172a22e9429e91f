//! Who did what by hand.

use serde_json::Value;
use sqlx::PgConnection;

use super::pg::fault;
use crate::Result;

/// One entry of the audit trail. Never holds a secret.
#[derive(Debug, Clone, Default)]
pub struct Entry<'a> {
    /// Who: a login at a machine, or the name of an API key.
    pub actor: &'a str,
    /// What was done, as a short stable word: `replay`, `backfill`, `run_fresh`, `requeue`.
    pub action: &'a str,
    /// To what: a pipeline, a job, a contact.
    pub subject: &'a str,
    /// How it was.
    pub before: Option<Value>,
    /// How it is now, or what was asked.
    pub after: Option<Value>,
    /// Why.
    pub reason: Option<&'a str>,
}

/// Appends an entry. Call it in the transaction of the deed, if it has one.
pub async fn write(connection: &mut PgConnection, entry: &Entry<'_>) -> Result<()> {
    sqlx::query(
        "insert into sync.audit_log (actor, action, subject, before, after, reason) values ($1, $2, $3, $4, $5, $6)",
    )
    .bind(entry.actor)
    .bind(entry.action)
    .bind(entry.subject)
    .bind(&entry.before)
    .bind(&entry.after)
    .bind(entry.reason)
    .execute(connection)
    .await
    .map_err(|e| fault("cannot write the audit trail", e))?;
    Ok(())
}
