//! Tells those who know of a service that it is called off or moved.
//!
//! Who knows is read from the outbox: whose last delivered message about the task was not that it is called off. Messages that
//! wait are taken back before, so nobody hears of a service and then of its end. It happens in the transaction that changes
//! the task, so that it happens once.

use catalog::store::outbox::{self, New};
use catalog::store::pg::fault;
use catalog::{Fault, Result};
use chrono::{DateTime, Utc};
use sinks::notify::{KIND, Notice};
use sqlx::Row;
use sqlx::postgres::{PgConnection, PgRow};

use super::templates::Templates;
use super::{Task, prefix, tell};

const WHAT: &str = "cannot tell that a service has changed";

/// Tells each side that knows of a task, as it was before, what has become of it; `None` is called off. Only what somebody
/// does can be called off: a greeting that is not sent is no news.
pub(super) async fn retell(
    tx: &mut PgConnection,
    templates: &Templates,
    task: &Task,
    now_at: Option<&super::Wanted<'_>>,
    now: DateTime<Utc>,
) -> Result<()> {
    // A task that was planned once and was never due has been told to nobody.
    if task.state == "planned" && task.version == 1 {
        return Ok(());
    }
    let failed = |e| fault(WHAT, e);
    let told = sqlx::query(
        "select distinct on (split_part(dedupe_key, '/', 3)) split_part(dedupe_key, '/', 3) as audience, courier, connection, \
           lane, payload, dedupe_key like '%/withdrawn/%' as ended \
         from sync.outbox where starts_with(dedupe_key, $1) and state = 'delivered' \
         order by split_part(dedupe_key, '/', 3), id desc",
    )
    .bind(prefix(task.id))
    .fetch_all(&mut *tx)
    .await
    .map_err(failed)?;
    for message in told.iter().filter(|m| !m.get::<bool, _>("ended")) {
        // What was sent to a person who was erased is not there any more.
        let Ok(known) = serde_json::from_value::<Notice>(message.get("payload")) else { continue };
        // Somebody else does it now: for the former it is over.
        let moved = now_at.filter(|w| known.audience != "staff" || w.staff == task.staff);
        let same = now_at.is_some_and(|w| w.due_at == task.due_at && w.property == task.property);
        if same && known.audience != "staff" {
            continue;
        }
        let place = moved.map_or(task.property.as_str(), |w| w.property);
        let Some(row) = tell::row(tx, task.id, place).await? else { continue };
        if !row.get::<bool, _>("has_staff") && known.audience != "staff" {
            continue;
        }
        if known.audience == "guest" && refused(&row, message.get("courier")) {
            continue;
        }
        let kind = if moved.is_some() { "moved" } else { "withdrawn" };
        let due = moved.map_or(task.due_at, |w| w.due_at);
        let values = tell::values_of(&row, due, task.due_at);
        let (subject, text) = match templates.render(&format!("{}_{kind}", known.audience), &values) {
            Ok(rendered) => rendered,
            Err(fault) => {
                tracing::error!(error = fault.chain(), "nobody is told that service `{}` has changed", task.id);
                continue;
            }
        };
        let before: i64 = sqlx::query_scalar("select count(*) from sync.outbox where starts_with(dedupe_key, $1)")
            .bind(format!("{}{}/", prefix(task.id), known.audience))
            .fetch_one(&mut *tx)
            .await
            .map_err(failed)?;
        let dedupe_key = format!("{}{}/{}/{kind}/{before}", prefix(task.id), known.audience, task.version);
        let notice = Notice { subject, text, property_id: Some(place.to_owned()), ..known };
        let new = New {
            courier: message.get("courier"),
            connection: message.get("connection"),
            lane: message.get("lane"),
            kind: KIND.to_owned(),
            payload: serde_json::to_value(&notice).map_err(|e| Fault::us("a notice has no JSON form").because(e))?,
            dedupe_key,
            run_after: now,
        };
        outbox::put(tx, &new, now).await?;
    }
    Ok(())
}

/// Whether the guest has opted out since.
fn refused(row: &PgRow, courier: &str) -> bool {
    (courier == "email" && row.get("no_email")) || (courier == "sms" && row.get("no_sms"))
}
