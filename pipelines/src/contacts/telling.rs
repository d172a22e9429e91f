//! What slices say of leads, told to the contacts.
//!
//! Triggers mark each lead that a slice changes in `ops.untold`, in the slice's transaction. The marks go away behind the
//! telling, so that whoever is killed in between leaves them for the next one; a lead that is told twice is as told once. One
//! telling runs at a time, under an advisory lock: what is told of a lead is never older than what was told before. A lead
//! that cannot be taken in goes to `ops.rejects` with its reason, and the others go on.

use std::collections::BTreeMap;

use catalog::Result;
use catalog::store::pg::fault;
use chrono::{DateTime, TimeDelta, Utc};
use futures::StreamExt;
use serde_json::json;
use sinks::resman::document::NAME_CHARS;
use sqlx::{Executor, PgConnection, PgPool, Row};

use super::inbound::{Reading, Told};
use super::service::{Contacts, Trouble};

/// Marks that are looked at under one lock.
const MARKS: i64 = 400;
/// Leads that are told at once.
const AT_ONCE: usize = 4;
/// Tries of a lead whose telling fails without a reason of its own.
const TRIES: i32 = 10;
/// Who the audit trail says it was.
const ACTOR: &str = "resman";
/// For so long an unknown lead waits for the answer to a lead of the same name that is being posted: they may be one.
const OWN_POST_SECS: f64 = 60.0;

const WHAT: &str = "cannot tell the contacts of leads";

/// The triggers on the table of leads. Does nothing when they are there.
///
/// # Errors
/// When the database refuses.
pub async fn setup(pool: &PgPool) -> Result<()> {
    let what = "cannot set up the telling of leads";
    let there: bool =
        sqlx::query_scalar("select exists (select from pg_trigger where tgname = 'propflow_untold_update')")
            .fetch_one(pool)
            .await
            .map_err(|e| fault(what, e))?;
    if there {
        return Ok(());
    }
    let mut tx = pool.begin().await.map_err(|e| fault(what, e))?;
    tx.execute(
        "select pg_advisory_xact_lock(hashtextextended('propflow.prepare', 0)); \
         create or replace trigger propflow_untold_insert after insert on core.leads \
           referencing new table as new_rows for each statement execute function ops.mark_untold(); \
         create or replace trigger propflow_untold_update after update on core.leads \
           referencing new table as new_rows for each statement execute function ops.mark_untold();",
    )
    .await
    .map_err(|e| fault(what, e))?;
    tx.commit().await.map_err(|e| fault(what, e))
}

/// A lead and the marks that it has.
#[derive(Debug)]
struct Marked {
    property_id: String,
    lead_id: String,
    marks: Vec<i64>,
    attempts: i32,
    /// Whether it was marked less than [`OWN_POST_SECS`] ago.
    fresh: bool,
    /// When the newest reading of it began: what we wrote into ResMan since is not in it.
    began: Option<DateTime<Utc>>,
}

/// What became of the telling of a lead.
enum Outcome {
    Done,
    Later { after: TimeDelta, counts: bool },
    Refused(String),
}

/// Tells everything that is marked and due. Gives the number of leads.
///
/// # Errors
/// When the database cannot be asked. What was not told stays marked.
pub async fn tell(contacts: &Contacts) -> Result<usize> {
    let mut told = 0;
    while waiting(&contacts.pool, contacts.clock.now()).await? {
        told += some(contacts).await?;
    }
    Ok(told)
}

/// Whether a lead waits to be told.
///
/// # Errors
/// When the database cannot be asked.
pub async fn waiting(pool: &PgPool, now: DateTime<Utc>) -> Result<bool> {
    sqlx::query_scalar("select exists (select from ops.untold where due_at <= $1)")
        .bind(now)
        .fetch_one(pool)
        .await
        .map_err(|e| fault(WHAT, e))
}

async fn some(contacts: &Contacts) -> Result<usize> {
    let failed = |e| fault(WHAT, e);
    let now = contacts.clock.now();
    let mut turn = contacts.pool.begin().await.map_err(failed)?;
    turn.execute("select pg_advisory_xact_lock(hashtextextended('propflow.tell', 0))").await.map_err(failed)?;
    type Mark = (i64, String, String, i32, bool, Option<DateTime<Utc>>);
    let rows: Vec<Mark> = sqlx::query_as(
        "select id, property_id, lead_id, attempts, created_at > now() - make_interval(secs => $3), observed_at from ops.untold \
         where due_at <= $1 order by id limit $2",
    )
    .bind(now)
    .bind(MARKS)
    .bind(OWN_POST_SECS)
    .fetch_all(&mut *turn)
    .await
    .map_err(failed)?;
    let mut marked: BTreeMap<(String, String), Marked> = BTreeMap::new();
    for (id, property_id, lead_id, attempts, fresh, observed_at) in rows {
        let entry = marked.entry((property_id.clone(), lead_id.clone())).or_insert_with(|| Marked {
            property_id,
            lead_id,
            marks: Vec::new(),
            attempts: 0,
            fresh,
            began: None,
        });
        entry.began = entry.began.max(observed_at);
        entry.marks.push(id);
        entry.attempts = entry.attempts.max(attempts);
    }
    let count = marked.len();
    let outcomes: Vec<(Marked, Result<Outcome>)> = futures::stream::iter(marked.into_values())
        .map(|lead| async move {
            let outcome = tell_one(contacts, &lead).await;
            (lead, outcome)
        })
        .buffer_unordered(AT_ONCE)
        .collect()
        .await;
    let mut problem = None;
    for (lead, outcome) in outcomes {
        match outcome {
            Ok(outcome) => settle(&mut turn, &lead, outcome, now).await?,
            Err(fault) => problem = Some(fault),
        }
    }
    turn.commit().await.map_err(failed)?;
    problem.map_or(Ok(count), Err)
}

/// Tells one lead as it is now. A fault is one of the database: it is the same for every lead.
async fn tell_one(contacts: &Contacts, lead: &Marked) -> Result<Outcome> {
    let row = sqlx::query(
        "select person_id, first_name, last_name, email, phone, status from core.leads \
         where property_id = $1 and lead_id = $2 and deleted_at is null",
    )
    .bind(&lead.property_id)
    .bind(&lead.lead_id)
    .fetch_optional(&contacts.pool)
    .await
    .map_err(|e| fault(WHAT, e))?;
    let Some(row) = row else { return Ok(Outcome::Done) };
    let told = Told {
        prospect_id: lead.lead_id.clone(),
        person_id: row.get("person_id"),
        property_id: lead.property_id.clone(),
        first_name: row.get("first_name"),
        last_name: row.get("last_name"),
        email: row.get("email"),
        phone: row.get("phone"),
        status: row.get("status"),
        ..Told::default()
    };
    if lead.fresh && being_posted(&contacts.pool, &told).await? {
        return Ok(Outcome::Later { after: TimeDelta::seconds(1), counts: false });
    }
    let reading = Reading { began: lead.began, ..Reading::default() };
    let here = contacts.at(&lead.property_id).await?;
    Ok(match here.told_by(&told, reading, ACTOR).await {
        Ok(_) => Outcome::Done,
        Err(Trouble::Failed(fault)) if fault.is_retryable() && lead.attempts + 1 < TRIES => {
            tracing::warn!(error = fault.chain(), "a lead of ResMan could not be taken in; it is tried again");
            Outcome::Later { after: TimeDelta::seconds(1 << lead.attempts.clamp(0, 8)), counts: true }
        }
        Err(trouble) => Outcome::Refused(trouble.fault().chain()),
    })
}

/// Whether a lead that no contact has yet may be one that we are posting: ResMan shows it before its answer is noted here.
async fn being_posted(pool: &PgPool, told: &Told) -> Result<bool> {
    sqlx::query_scalar(
        "select not exists (select from sync.contact_sync where resman_contact_id = $1) and exists ( \
           select from sync.outbox where courier = 'resman' and kind = 'lead_create' and state = 'waiting' \
             and payload ->> 'property_id' = $2 \
             and lower(rtrim(left(payload #>> '{person,first_name}', $5))) is not distinct from lower($3) \
             and lower(rtrim(left(payload #>> '{person,last_name}', $5))) is not distinct from lower($4))",
    )
    .bind(&told.prospect_id)
    .bind(&told.property_id)
    .bind(&told.first_name)
    .bind(&told.last_name)
    .bind(i32::try_from(NAME_CHARS).unwrap_or(i32::MAX))
    .fetch_one(pool)
    .await
    .map_err(|e| fault(WHAT, e))
}

async fn settle(turn: &mut PgConnection, lead: &Marked, outcome: Outcome, now: DateTime<Utc>) -> Result<()> {
    let failed = |e| fault(WHAT, e);
    if let Outcome::Later { after, counts } = outcome {
        sqlx::query("update ops.untold set due_at = $2, attempts = attempts + $3 where id = any($1)")
            .bind(&lead.marks)
            .bind(now + after)
            .bind(i32::from(counts))
            .execute(turn)
            .await
            .map_err(failed)?;
        return Ok(());
    }
    // A complaint ends when the lead is told again; one that still holds is written anew.
    sqlx::query(
        "update ops.rejects set resolved_at = now() where resolved_at is null and dataset = 'leads' and scope = $1 \
         and key = $2 and payload ? 'told'",
    )
    .bind(&lead.property_id)
    .bind(&lead.lead_id)
    .execute(&mut *turn)
    .await
    .map_err(failed)?;
    if let Outcome::Refused(reason) = outcome {
        tracing::warn!(error = reason, "a lead of ResMan could not be taken in; `ops.rejects` has it");
        // Leads come by runs of this stream only, so there is one.
        sqlx::query(
            "insert into ops.rejects (run_id, slice, pipeline, dataset, scope, key, kind, reason, payload) \
             select id, greatest(next_slice - 1, 0), pipeline, 'leads', $1, $2, 'row', $3, $4 from ops.runs \
             where request ->> 'stream' = 'people' order by created_at desc limit 1",
        )
        .bind(&lead.property_id)
        .bind(&lead.lead_id)
        .bind(&reason)
        .bind(json!({ "told": "contacts", "property_id": lead.property_id, "lead_id": lead.lead_id }))
        .execute(&mut *turn)
        .await
        .map_err(failed)?;
    }
    sqlx::query("delete from ops.untold where id = any($1)").bind(&lead.marks).execute(turn).await.map_err(failed)?;
    Ok(())
}
