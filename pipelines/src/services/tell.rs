//! Makes tasks due and tells those whom they concern.

use catalog::store::outbox::{self, New};
use catalog::store::pg::fault;
use catalog::{Fault, Result};
use chrono::{DateTime, NaiveDate, Utc};
use sinks::notify::{KIND, Notice};
use sqlx::Row;
use sqlx::postgres::{PgConnection, PgRow};
use uuid::Uuid;

use super::due::zone;
use super::templates::{Templates, Values};
use super::{CONFIRMED, prefix};

/// Most tasks made due in one transaction.
const GROUP: i64 = 200;
const WHAT: &str = "cannot make services due";

/// The sides that can be told, as rules and tasks name them.
const AUDIENCES: [&str; 3] = ["guest", "owner", "staff"];

/// Everything that a message about a task can say: of tasks whose booking meets a condition, at this place.
fn select(stays: &str, place: &str) -> String {
    format!(
        "select t.task_id, t.booking_id, t.property_id, t.service_type, t.due_at, t.tell_until, t.version, t.note, \
           r.guest_template, r.owner_template, r.staff_template, r.staff_template is not null as has_staff, \
           b.external_code, b.platform, b.check_in, b.check_out, b.check_in_time, b.check_out_time, b.nights, b.guest_count, \
           b.time_zone, b.guest_name, b.guest_email, b.guest_phone, \
           coalesce((select coalesce(nullif(l.nickname, ''), l.name) from core.listings l where l.property_id = {place} \
               and l.deleted_at is null and coalesce(nullif(l.nickname, ''), l.name) is not null \
               order by l.connection, l.listing_id limit 1), \
             (select p.name from core.properties p where p.property_id = {place}), {place}) as property_name, \
           exists (select from sync.contacts c where c.merged_into is null and c.email_opt_out \
             and lower(c.email) = lower(b.guest_email)) \
             or exists (select from sync.suppressions x where x.email and x.mark = ops.mark('email', lower(b.guest_email))) as no_email, \
           exists (select from sync.contacts c where c.merged_into is null and c.text_opt_out \
             and c.phone = b.guest_phone) \
             or exists (select from sync.suppressions x where x.text and x.mark = ops.mark('phone', b.guest_phone)) as no_sms, \
           o.owner_id, o.name as owner_name, o.channel as owner_channel, o.email as owner_email, o.phone as owner_phone, \
           s.staff_id, s.name as staff_name, s.channel as staff_channel, s.email as staff_email, s.phone as staff_phone \
         from sync.service_tasks t \
         join sync.services_automation r on r.rule_id = t.rule_id \
         join core.bookings b on b.booking_id = t.booking_id and {stays} \
         left join sync.property_services ps on ps.property_id = t.property_id \
         left join sync.owners o on o.owner_id = ps.owner_id \
         left join sync.staff s on s.staff_id = t.staff_id and s.active"
    )
}

/// The same of one task whatever has become of its booking, at a property.
pub(super) async fn row(tx: &mut PgConnection, task: Uuid, property: &str) -> Result<Option<PgRow>> {
    let sql = format!("{} where t.task_id = $1", select("true", "$2::text"));
    sqlx::query(sqlx::AssertSqlSafe(sql)).bind(task).bind(property).fetch_optional(tx).await.map_err(|e| fault(WHAT, e))
}

/// Makes due what is due and puts the messages into the outbox. Gives the numbers of both. A task whose booking is not what
/// it was planned for is left to the planning.
pub(super) async fn tell(tx: &mut PgConnection, templates: &Templates, now: DateTime<Utc>) -> Result<(usize, usize)> {
    let sql = format!(
        "{} where t.state = 'planned' and t.due_at <= $1 order by t.due_at, t.task_id limit $2 for update of t",
        select(CONFIRMED, "t.property_id")
    );
    let rows = sqlx::query(sqlx::AssertSqlSafe(sql))
        .bind(now)
        .bind(GROUP)
        .fetch_all(&mut *tx)
        .await
        .map_err(|e| fault(WHAT, e))?;
    let mut told = 0;
    for row in &rows {
        told += one(tx, templates, row, now).await?;
    }
    Ok((rows.len(), told))
}

async fn one(tx: &mut PgConnection, templates: &Templates, row: &PgRow, now: DateTime<Utc>) -> Result<usize> {
    let task: Uuid = row.get("task_id");
    let values = values(row);
    let late = row.get::<DateTime<Utc>, _>("tell_until") <= now;
    let (mut told, mut unreached) = (0, Vec::new());
    for audience in AUDIENCES {
        let template: Option<String> = row.get(format!("{audience}_template").as_str());
        let Some(template) = template else { continue };
        if late && audience != "staff" {
            // The service may still have to be done; a greeting for a stay that is over helps nobody.
            unreached.push(audience);
            continue;
        }
        let (subject, text) = match templates.render(&template, &values) {
            Ok(rendered) => rendered,
            Err(fault) => {
                // One wrong rule must not silence the others.
                tracing::error!(error = fault.chain(), "nobody of `{audience}` is told of service `{task}`");
                unreached.push(audience);
                continue;
            }
        };
        let Some((courier, to)) = way(row, audience) else {
            unreached.push(audience);
            continue;
        };
        let notice = Notice { audience: audience.to_owned(), to, property_id: row.get("property_id"), subject, text };
        let new = New {
            courier: courier.to_owned(),
            connection: courier.to_owned(),
            lane: format!("{}/{audience}", row.get::<String, _>("booking_id")),
            kind: KIND.to_owned(),
            payload: serde_json::to_value(&notice).map_err(|e| Fault::us("a notice has no JSON form").because(e))?,
            dedupe_key: format!("{}{audience}/{}", prefix(task), row.get::<i32, _>("version")),
            run_after: now,
        };
        told += usize::from(outbox::put(tx, &new, now).await?.is_some());
    }
    sqlx::query("update sync.service_tasks set state = 'due', unreached = $2, updated_at = $3 where task_id = $1")
        .bind(task)
        .bind(&unreached)
        .bind(now)
        .execute(tx)
        .await
        .map_err(|e| fault(WHAT, e))?;
    Ok(told)
}

/// How one side is reached: the courier and the address. `None` when there is no way, or they do not want to hear.
fn way(row: &PgRow, audience: &str) -> Option<(&'static str, Option<String>)> {
    let text = |column: &str| row.get::<Option<String>, _>(column).filter(|v| !v.trim().is_empty());
    if audience == "guest" {
        let email = text("guest_email").filter(|_| !row.get::<bool, _>("no_email"));
        let phone = text("guest_phone").filter(|_| !row.get::<bool, _>("no_sms"));
        return email.map(|to| ("email", Some(to))).or_else(|| phone.map(|to| ("sms", Some(to))));
    }
    let id = text(&format!("{audience}_id"));
    let Some(channel) = text(&format!("{audience}_channel")) else {
        // Nobody is assigned: everyone of the staff who looks into the program sees it.
        return (audience == "staff").then_some(("in_app", None));
    };
    match channel.as_str() {
        "slack" => Some(("slack", None)),
        "in_app" => Some(("in_app", id)),
        "sms" => text(&format!("{audience}_phone")).map(|to| ("sms", Some(to))),
        _ => text(&format!("{audience}_email")).map(|to| ("email", Some(to))),
    }
}

fn values(row: &PgRow) -> Values {
    let due = row.get("due_at");
    values_of(row, due, due)
}

/// The values of a message about a task that is due at an instant, and was before at another.
pub(super) fn values_of(row: &PgRow, due: DateTime<Utc>, former: DateTime<Utc>) -> Values {
    let text = |column: &str| row.get::<Option<String>, _>(column).filter(|v| !v.trim().is_empty());
    let day = |day: NaiveDate| day.format("%-d %B %Y").to_string();
    let [due, former] = [due, former].map(|at| at.with_timezone(&zone(row.get("time_zone"))));
    let guests = row.get::<Option<i64>, _>("guest_count").map(|n| n.to_string());
    Values::from([
        ("booking_code", text("external_code").unwrap_or_default()),
        ("check_in", day(row.get("check_in"))),
        ("check_in_time", row.get("check_in_time")),
        ("check_out", day(row.get("check_out"))),
        ("check_out_time", row.get("check_out_time")),
        ("due_date", day(due.date_naive())),
        ("due_time", due.format("%H:%M").to_string()),
        ("former_due_date", day(former.date_naive())),
        ("former_due_time", former.format("%H:%M").to_string()),
        ("guest_count", guests.unwrap_or_else(|| "an unknown number of".to_owned())),
        ("guest_name", text("guest_name").unwrap_or_else(|| "guest".to_owned())),
        ("nights", row.get::<i64, _>("nights").to_string()),
        ("note", text("note").unwrap_or_else(|| "none".to_owned())),
        ("owner_name", text("owner_name").unwrap_or_else(|| "owner".to_owned())),
        ("platform", row.get::<String, _>("platform").replace('_', " ")),
        ("property_name", row.get("property_name")),
        ("service_type", row.get::<String, _>("service_type").replace('_', " ")),
        ("staff_name", text("staff_name").unwrap_or_else(|| "to whoever is on duty".to_owned())),
    ])
}
