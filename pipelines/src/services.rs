//! Service automation: what has to be done around a stay, when, and who is told.
//!
//! - Triggers on `core.bookings` and on the rules mark what changed in `ops.unplanned`, in the transaction that changes it.
//!   A [`turn`] plans the marked bookings anew and takes the marks away in one transaction, so that nothing is forgotten.
//! - A task is there once per booking and rule, whatever happens. It moves with its booking and is withdrawn with it.
//! - A task that is due writes its messages into the outbox in the transaction that makes it due. Their keys name task, side
//!   and version, so that a turn that is made twice tells nobody twice. What was not delivered is taken back when the task
//!   is withdrawn or planned anew; whoever was told already is told that too, once per version.

pub mod books;
mod due;
mod retell;
mod tell;
pub mod templates;

use std::collections::{BTreeMap, BTreeSet};

use catalog::store::outbox;
use catalog::store::pg::fault;
use catalog::{Fault, Result};
use chrono::{DateTime, NaiveDate, TimeDelta, Utc};
use rust_decimal::Decimal;
use sqlx::postgres::{PgConnection, PgRow};
use sqlx::{Executor, PgPool, Row};
use uuid::Uuid;

use self::due::{Hours, Trigger, due};
use self::templates::Templates;

/// Most bookings planned in one transaction.
const GROUP: i64 = 1_000;
const WHAT: &str = "cannot plan services";

/// What a turn did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Turn {
    /// Tasks that were planned, moved or withdrawn.
    pub planned: usize,
    /// Tasks that became due.
    pub due: usize,
    /// Messages put into the outbox.
    pub told: usize,
}

/// The trigger that marks bookings. Does nothing when it is there.
///
/// # Errors
/// When the database refuses.
pub async fn setup(pool: &PgPool) -> Result<()> {
    let what = "cannot set up the planning of services";
    let there: bool =
        sqlx::query_scalar("select exists (select from pg_trigger where tgname = 'propflow_unplanned_update')")
            .fetch_one(pool)
            .await
            .map_err(|e| fault(what, e))?;
    if there {
        return Ok(());
    }
    let mut tx = pool.begin().await.map_err(|e| fault(what, e))?;
    tx.execute(
        "select pg_advisory_xact_lock(hashtextextended('propflow.prepare', 0)); \
         create or replace trigger propflow_unplanned_insert after insert on core.bookings \
           referencing new table as new_rows for each statement execute function ops.mark_unplanned(); \
         create or replace trigger propflow_unplanned_update after update on core.bookings \
           referencing new table as new_rows for each statement execute function ops.mark_unplanned();",
    )
    .await
    .map_err(|e| fault(what, e))?;
    tx.commit().await.map_err(|e| fault(what, e))
}

/// Plans what is marked, then makes due what is due. Two at once do it one after the other.
///
/// # Errors
/// When the database fails. What is left stays marked or planned for the next turn.
pub async fn turn(pool: &PgPool, templates: &Templates, now: DateTime<Utc>) -> Result<Turn> {
    let mut all = Turn::default();
    loop {
        let mut tx = pool.begin().await.map_err(|e| fault(WHAT, e))?;
        // Cheap to ask every few seconds, and most of the time the answer is no.
        let waits: bool = sqlx::query_scalar(
            "select exists (select from ops.unplanned) \
             or exists (select from sync.service_tasks where state = 'planned' and due_at <= $1)",
        )
        .bind(now)
        .fetch_one(&mut *tx)
        .await
        .map_err(|e| fault(WHAT, e))?;
        if !waits {
            return Ok(all);
        }
        tx.execute("select pg_advisory_xact_lock(hashtextextended('propflow.services', 0))")
            .await
            .map_err(|e| fault(WHAT, e))?;
        let (marks, planned) = plan(&mut tx, templates, now).await?;
        // Nothing is told while a change of its booking waits to be planned.
        let (due, told) = if marks == 0 { tell::tell(&mut tx, templates, now).await? } else { (0, 0) };
        tx.commit().await.map_err(|e| fault(WHAT, e))?;
        all.planned += planned;
        all.due += due;
        all.told += told;
        if marks == 0 && due == 0 {
            // What is due and was not told now belongs to a booking whose change is under way: the next turn sees it.
            return Ok(all);
        }
    }
}

/// A rule.
#[derive(Debug, Clone)]
struct Rule {
    id: String,
    property: Option<String>,
    trigger: Trigger,
    service: String,
    auto: bool,
    staff: Option<String>,
    level: u8,
    cost: Option<Decimal>,
    currency: Option<String>,
    active: bool,
}

fn level(word: &str) -> u8 {
    match word {
        "elite" => 2,
        "premium" => 1,
        _ => 0,
    }
}

/// Someone of the staff.
#[derive(Debug, Clone)]
struct Worker {
    id: String,
    property: Option<String>,
    services: Vec<String>,
}

/// Everything that tasks are planned by besides bookings.
#[derive(Debug)]
struct Book {
    rules: Vec<Rule>,
    staff: Vec<Worker>,
    levels: BTreeMap<String, u8>,
}

impl Book {
    async fn read(tx: &mut PgConnection) -> Result<Self> {
        let failed = |e| fault("cannot read the rules of services", e);
        let rows = sqlx::query(
            "select rule_id, property_id, trigger_event, service_type, auto_schedule, staff_assignment, service_level, \
             cost_amount, cost_currency, active from sync.services_automation order by rule_id",
        )
        .fetch_all(&mut *tx)
        .await
        .map_err(failed)?;
        let rule = |row: &PgRow| -> Result<Rule> {
            Ok(Rule {
                id: row.get("rule_id"),
                property: row.get("property_id"),
                trigger: Trigger::parse(row.get("trigger_event"))?,
                service: row.get("service_type"),
                auto: row.get("auto_schedule"),
                staff: row.get("staff_assignment"),
                level: level(row.get("service_level")),
                cost: row.get("cost_amount"),
                currency: row.get("cost_currency"),
                active: row.get("active"),
            })
        };
        let rules = rows.iter().map(rule).collect::<Result<Vec<_>>>()?;
        // Someone of the property comes before someone for all.
        let rows = sqlx::query(
            "select staff_id, property_id, service_types from sync.staff where active \
             order by property_id is null, cardinality(service_types) = 0, staff_id",
        )
        .fetch_all(&mut *tx)
        .await
        .map_err(failed)?;
        let worker = |row: &PgRow| Worker {
            id: row.get("staff_id"),
            property: row.get("property_id"),
            services: row.get("service_types"),
        };
        let staff = rows.iter().map(worker).collect();
        let levels: Vec<(String, String)> =
            sqlx::query_as("select property_id, service_level from sync.property_services")
                .fetch_all(tx)
                .await
                .map_err(failed)?;
        Ok(Self { rules, staff, levels: levels.into_iter().map(|(p, l)| (p, level(&l))).collect() })
    }

    /// The rules that hold at a property. One of the property's own stands in place of the general ones.
    fn of(&self, property: &str) -> Vec<&Rule> {
        let own = |r: &&Rule| r.property.as_deref() == Some(property);
        let has: BTreeSet<(u8, &str)> =
            self.rules.iter().filter(own).map(|r| (r.trigger as u8, r.service.as_str())).collect();
        let level = self.levels.get(property).copied().unwrap_or(0);
        let holds = |r: &&Rule| {
            let general = r.property.is_none() && !has.contains(&(r.trigger as u8, r.service.as_str()));
            r.active && r.level <= level && (own(r) || general)
        };
        self.rules.iter().filter(holds).collect()
    }

    /// Who does it.
    fn assigned(&self, rule: &Rule, property: &str) -> Option<String> {
        let fits = |w: &&Worker| {
            w.property.as_deref().is_none_or(|p| p == property)
                && (w.services.is_empty() || w.services.contains(&rule.service))
        };
        rule.staff.clone().or_else(|| self.staff.iter().find(fits).map(|w| w.id.clone()))
    }
}

/// A stay that services are planned for.
#[derive(Debug, Clone)]
struct Stay {
    property: String,
    hours: Hours,
}

/// What makes a booking one that services are planned for.
const CONFIRMED: &str =
    "b.deleted_at is null and b.kind = 'stay' and b.booking_status in ('confirmed', 'checked_in', 'completed')";

async fn stays(tx: &mut PgConnection, ids: &[String]) -> Result<BTreeMap<String, Stay>> {
    let sql = format!(
        "select booking_id, property_id, check_in, nights, time_zone, starts_at, ends_at from core.bookings b \
         where booking_id = any($1) and {CONFIRMED}"
    );
    let rows = sqlx::query(sqlx::AssertSqlSafe(sql)).bind(ids).fetch_all(tx).await.map_err(|e| fault(WHAT, e))?;
    let stay = |row: &PgRow| {
        let hours = Hours {
            check_in: row.get::<NaiveDate, _>("check_in"),
            nights: i32::try_from(row.get::<i64, _>("nights")).unwrap_or(i32::MAX),
            time_zone: row.get("time_zone"),
            starts_at: row.get("starts_at"),
            ends_at: row.get("ends_at"),
        };
        (row.get("booking_id"), Stay { property: row.get("property_id"), hours })
    };
    Ok(rows.iter().map(stay).collect())
}

/// A task as it stands.
#[derive(Debug, Clone)]
struct Task {
    id: Uuid,
    booking: String,
    rule: String,
    request: String,
    property: String,
    staff: Option<String>,
    due_at: DateTime<Utc>,
    tell_until: DateTime<Utc>,
    state: String,
    cost: Option<Decimal>,
    currency: Option<String>,
    version: i32,
}

/// A task as it should be.
#[derive(Debug, Clone)]
struct Wanted<'a> {
    rule: &'a Rule,
    property: &'a str,
    staff: Option<String>,
    due_at: DateTime<Utc>,
    tell_until: DateTime<Utc>,
}

/// Plans a group of marked bookings. Gives the marks that were taken and the tasks that changed.
async fn plan(tx: &mut PgConnection, templates: &Templates, now: DateTime<Utc>) -> Result<(usize, usize)> {
    let failed = |e| fault(WHAT, e);
    let mut marks: Vec<(i64, Option<String>)> =
        sqlx::query_as("select id, booking_id from ops.unplanned order by id limit $1")
            .bind(GROUP)
            .fetch_all(&mut *tx)
            .await
            .map_err(failed)?;
    if marks.is_empty() {
        return Ok((0, 0));
    }
    if marks.iter().any(|(_, booking)| booking.is_none()) {
        sqlx::query(
            "insert into ops.unplanned (booking_id) \
             select booking_id from core.bookings where deleted_at is null and kind = 'stay' and ends_at > $1 \
             union select booking_id from sync.service_tasks \
               where state = 'planned' or (state = 'due' and tell_until > $2)",
        )
        .bind(now - due::AFTER_CHECK_OUT)
        .bind(now)
        .execute(&mut *tx)
        .await
        .map_err(failed)?;
    }
    let ids: BTreeSet<String> = marks.iter_mut().filter_map(|(_, booking)| booking.take()).collect();
    let ids: Vec<String> = ids.into_iter().collect();
    let changed = if ids.is_empty() { 0 } else { replan(tx, templates, &ids, now).await? };
    sqlx::query("delete from ops.unplanned where id = any($1)")
        .bind(marks.iter().map(|(id, _)| *id).collect::<Vec<_>>())
        .execute(tx)
        .await
        .map_err(failed)?;
    Ok((marks.len(), changed))
}

async fn replan(tx: &mut PgConnection, templates: &Templates, ids: &[String], now: DateTime<Utc>) -> Result<usize> {
    let book = Book::read(tx).await?;
    let stays = stays(tx, ids).await?;
    let rows = sqlx::query(
        "select task_id, booking_id, rule_id, request, property_id, staff_id, due_at, tell_until, state, cost_amount, \
         cost_currency, version from sync.service_tasks where booking_id = any($1) order by task_id for update",
    )
    .bind(ids)
    .fetch_all(&mut *tx)
    .await
    .map_err(|e| fault(WHAT, e))?;
    let tasks: Vec<Task> = rows
        .iter()
        .map(|row| Task {
            id: row.get("task_id"),
            booking: row.get("booking_id"),
            rule: row.get("rule_id"),
            request: row.get("request"),
            property: row.get("property_id"),
            staff: row.get("staff_id"),
            due_at: row.get("due_at"),
            tell_until: row.get("tell_until"),
            state: row.get("state"),
            cost: row.get("cost_amount"),
            currency: row.get("cost_currency"),
            version: row.get("version"),
        })
        .collect();
    let mut wanted: BTreeMap<(&str, &str), Wanted<'_>> = BTreeMap::new();
    for (booking, stay) in &stays {
        for rule in book.of(&stay.property).into_iter().filter(|r| r.auto) {
            if let Some((due_at, tell_until)) = due(rule.trigger, &stay.hours) {
                let staff = book.assigned(rule, &stay.property);
                wanted
                    .insert((booking, &rule.id), Wanted { rule, property: &stay.property, staff, due_at, tell_until });
            }
        }
    }
    let mut changed = 0;
    for task in &tasks {
        let should = if task.request.is_empty() {
            wanted.remove(&(task.booking.as_str(), task.rule.as_str()))
        } else {
            requested(&book, &stays, task)
        };
        changed += usize::from(adjust(tx, templates, task, should, now).await?);
    }
    // What was over before it was known is not begun: the first load of a year's stays greets nobody.
    wanted.retain(|_, w| w.tell_until > now);
    insert(tx, &wanted, now).await?;
    Ok(changed + wanted.len())
}

/// What a task that someone asked for should be: it stands as long as the stay does.
fn requested<'a>(book: &'a Book, stays: &'a BTreeMap<String, Stay>, task: &Task) -> Option<Wanted<'a>> {
    let stay = stays.get(&task.booking)?;
    let rule = book.rules.iter().find(|r| r.id == task.rule && r.active)?;
    let (due_at, tell_until) = match rule.trigger {
        Trigger::Request => (task.due_at, task.tell_until),
        trigger => due(trigger, &stay.hours)?,
    };
    let staff = book.assigned(rule, &stay.property);
    Some(Wanted { rule, property: &stay.property, staff, due_at, tell_until })
}

/// Brings a task to what it should be. Says whether that changed it.
async fn adjust(
    tx: &mut PgConnection,
    templates: &Templates,
    task: &Task,
    wanted: Option<Wanted<'_>>,
    now: DateTime<Utc>,
) -> Result<bool> {
    let open = task.state == "planned" || (task.state == "due" && task.tell_until > now);
    let Some(wanted) = wanted else {
        if !open {
            return Ok(false);
        }
        withdraw(tx, task.id, "the stay or the rule no longer asks for it", now).await?;
        retell::retell(tx, templates, task, None, now).await?;
        return Ok(true);
    };
    let again = match task.state.as_str() {
        "withdrawn" => wanted.tell_until > now,
        // It was told of, and now lies ahead or elsewhere: those who know the old place and time have to hear.
        "due" => wanted.due_at > now || (task.property != wanted.property && wanted.tell_until > now),
        _ => false,
    };
    let same = task.due_at == wanted.due_at
        && task.tell_until == wanted.tell_until
        && task.property == wanted.property
        && task.staff == wanted.staff
        && task.cost == wanted.rule.cost
        && task.currency == wanted.rule.currency;
    if !again && (task.state != "planned" || same) {
        return Ok(false);
    }
    if again {
        outbox::withdraw(tx, &prefix(task.id), "the service was planned anew", now).await?;
    }
    let moved = task.due_at != wanted.due_at || task.property != wanted.property || task.staff != wanted.staff;
    if moved && (again || task.version > 1) {
        outbox::withdraw(tx, &prefix(task.id), "the service was moved once more", now).await?;
        retell::retell(tx, templates, task, Some(&wanted), now).await?;
    }
    sqlx::query(
        "update sync.service_tasks set state = 'planned', reason = null, unreached = '{}', property_id = $2, staff_id = $3, \
         due_at = $4, tell_until = $5, cost_amount = $6, cost_currency = $7, version = version + $8, updated_at = $9 \
         where task_id = $1",
    )
    .bind(task.id)
    .bind(wanted.property)
    .bind(&wanted.staff)
    .bind(wanted.due_at)
    .bind(wanted.tell_until)
    .bind(wanted.rule.cost)
    .bind(&wanted.rule.currency)
    .bind(i32::from(again))
    .bind(now)
    .execute(tx)
    .await
    .map_err(|e| fault(WHAT, e))?;
    Ok(true)
}

/// What the keys of a task's messages begin with.
fn prefix(task: Uuid) -> String {
    format!("service/{task}/")
}

async fn withdraw(tx: &mut PgConnection, task: Uuid, reason: &str, now: DateTime<Utc>) -> Result<()> {
    outbox::withdraw(tx, &prefix(task), reason, now).await?;
    sqlx::query("update sync.service_tasks set state = 'withdrawn', reason = $2, updated_at = $3 where task_id = $1")
        .bind(task)
        .bind(reason)
        .bind(now)
        .execute(tx)
        .await
        .map_err(|e| fault(WHAT, e))?;
    Ok(())
}

async fn insert(tx: &mut PgConnection, wanted: &BTreeMap<(&str, &str), Wanted<'_>>, now: DateTime<Utc>) -> Result<()> {
    let (bookings, rules): (Vec<&str>, Vec<&str>) = wanted.keys().copied().unzip();
    let all: Vec<&Wanted<'_>> = wanted.values().collect();
    sqlx::query(
        "insert into sync.service_tasks (task_id, booking_id, rule_id, property_id, service_type, staff_id, due_at, \
           tell_until, cost_amount, cost_currency, created_at, updated_at) \
         select t.*, $11::timestamptz, $11::timestamptz from unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], \
           $7::timestamptz[], $8::timestamptz[], $9::numeric[], $10::text[]) t \
         on conflict (booking_id, rule_id, request) do nothing",
    )
    .bind(all.iter().map(|_| Uuid::now_v7()).collect::<Vec<_>>())
    .bind(bookings)
    .bind(rules)
    .bind(all.iter().map(|w| w.property).collect::<Vec<_>>())
    .bind(all.iter().map(|w| w.rule.service.as_str()).collect::<Vec<_>>())
    .bind(all.iter().map(|w| w.staff.as_deref()).collect::<Vec<_>>())
    .bind(all.iter().map(|w| w.due_at).collect::<Vec<_>>())
    .bind(all.iter().map(|w| w.tell_until).collect::<Vec<_>>())
    .bind(all.iter().map(|w| w.rule.cost).collect::<Vec<_>>())
    .bind(all.iter().map(|w| w.rule.currency.as_deref()).collect::<Vec<_>>())
    .bind(now)
    .execute(tx)
    .await
    .map_err(|e| fault(WHAT, e))?;
    Ok(())
}

/// Someone asks for a service.
#[derive(Debug, Clone)]
pub struct Asked {
    /// The stay.
    pub booking: String,
    /// The rule.
    pub rule: String,
    /// What tells it apart from other requests of the same; asked twice, it is one.
    pub request: String,
    /// What the asker wants, in words.
    pub note: Option<String>,
}

/// Plans a service that someone asks for. Gives the task; a request that is known gives the task that it has.
///
/// # Errors
/// When there is no such stay, or no rule by which it could have the service.
pub async fn request(pool: &PgPool, asked: &Asked, now: DateTime<Utc>) -> Result<Uuid> {
    let failed = |e| fault("cannot note the request", e);
    if asked.request.is_empty() {
        return Err(Fault::user("a request needs a key of its own"));
    }
    let mut tx = pool.begin().await.map_err(failed)?;
    tx.execute("select pg_advisory_xact_lock(hashtextextended('propflow.services', 0))").await.map_err(failed)?;
    let stays = stays(&mut tx, std::slice::from_ref(&asked.booking)).await?;
    let stay = stays.get(&asked.booking).ok_or_else(|| {
        Fault::user(format!("there is no confirmed stay `{}`", asked.booking))
            .hint("`propflow sql \"select booking_id, check_in from serving.bookings\"` shows the stays.")
    })?;
    let book = Book::read(&mut tx).await?;
    let rules = book.of(&stay.property);
    let rule = rules.iter().find(|r| r.id == asked.rule).ok_or_else(|| {
        Fault::user(format!("no rule `{}` holds at the property of this stay", asked.rule))
            .hint(crate::names::hint(&asked.rule, rules.iter().map(|r| r.id.as_str())))
    })?;
    let (due_at, tell_until) = match rule.trigger {
        Trigger::Request => (now, now + TimeDelta::days(1)),
        trigger => due(trigger, &stay.hours)
            .ok_or_else(|| Fault::user(format!("this stay is too short for `{}`", asked.rule)))?,
    };
    let id: Uuid = sqlx::query_scalar(
        "insert into sync.service_tasks (task_id, booking_id, rule_id, request, property_id, service_type, staff_id, due_at, \
           tell_until, note, cost_amount, cost_currency, created_at, updated_at) \
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $13) \
         on conflict (booking_id, rule_id, request) do update set request = excluded.request returning task_id",
    )
    .bind(Uuid::now_v7())
    .bind(&asked.booking)
    .bind(&asked.rule)
    .bind(&asked.request)
    .bind(&stay.property)
    .bind(&rule.service)
    .bind(book.assigned(rule, &stay.property))
    .bind(due_at)
    .bind(tell_until)
    .bind(&asked.note)
    .bind(rule.cost)
    .bind(&rule.currency)
    .bind(now)
    .fetch_one(&mut *tx)
    .await
    .map_err(failed)?;
    tx.commit().await.map_err(failed)?;
    Ok(id)
}

/// Notes that a service was done, and what it cost if that is known now.
///
/// # Errors
/// When there is no such task, or it was withdrawn.
pub async fn done(pool: &PgPool, task: Uuid, cost: Option<(Decimal, String)>, now: DateTime<Utc>) -> Result<()> {
    let (amount, currency) = cost.unzip();
    let noted = sqlx::query(
        "update sync.service_tasks set state = 'done', cost_amount = coalesce($2, cost_amount), \
         cost_currency = coalesce($3, cost_currency), updated_at = $4 \
         where task_id = $1 and state in ('planned', 'due', 'done')",
    )
    .bind(task)
    .bind(amount)
    .bind(currency)
    .bind(now)
    .execute(pool)
    .await
    .map_err(|e| fault("cannot note that a service was done", e))?;
    match noted.rows_affected() {
        0 => Err(Fault::user(format!("there is no open service `{task}`")).hint("`propflow services` lists them.")),
        _ => Ok(()),
    }
}
