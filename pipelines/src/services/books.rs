//! `propflow services`: what is planned, the rules, requests and what was done.

use std::io::Write;

use catalog::store::pg::fault;
use catalog::{Fault, Result};
use chrono::{DateTime, TimeDelta, Utc};
use clap::Subcommand;
use comfy_table::Table;
use comfy_table::presets::UTF8_FULL_CONDENSED;
use rust_decimal::Decimal;
use serde_json::{Value, json};
use uuid::Uuid;

use super::Asked;
use crate::app::Database;
use crate::cli::print;

/// What to do with services.
#[derive(Debug, Clone, Subcommand)]
pub enum Command {
    /// Show what is planned and due
    List {
        /// Only this property
        #[arg(long, value_name = "ID")]
        property: Option<String>,
        /// As many days ahead
        #[arg(long, default_value_t = 14)]
        days: u32,
    },
    /// Show the rules
    Rules,
    /// Plan a service that someone asks for
    Request {
        /// The stay's booking id
        booking: String,
        /// The rule; `propflow services rules` shows them
        rule: String,
        /// What is asked for, in words
        #[arg(long)]
        note: Option<String>,
        /// What tells requests of one stay apart; asked twice with one key, it is one request
        #[arg(long, default_value = "once")]
        key: String,
    },
    /// Note that a service was done
    Done {
        /// The task's id
        task: Uuid,
        /// What it cost
        #[arg(long, requires = "currency")]
        cost: Option<Decimal>,
        /// ISO 4217 code of the cost
        #[arg(long, requires = "cost")]
        currency: Option<String>,
    },
}

impl Default for Command {
    fn default() -> Self {
        Self::List { property: None, days: 14 }
    }
}

/// Shows or changes services.
///
/// # Errors
/// When the database fails, or what is named is not there.
pub async fn services(
    database: &Database,
    command: &Command,
    now: DateTime<Utc>,
    as_json: bool,
    out: &mut dyn Write,
) -> Result<()> {
    match command {
        Command::List { property, days } => list(database, property.as_deref(), *days, now, as_json, out).await,
        Command::Rules => rules(database, as_json, out).await,
        Command::Request { booking, rule, note, key } => {
            let asked =
                Asked { booking: booking.clone(), rule: rule.clone(), request: key.clone(), note: note.clone() };
            let task = super::request(&database.pool, &asked, now).await?;
            crate::books::audit(database, "service_request", &task.to_string(), json!({ "rule": rule })).await?;
            if as_json {
                print(out, format_args!("{}", json!({ "task": task })))
            } else {
                print(out, format_args!("planned as {task}"))
            }
        }
        Command::Done { task, cost, currency } => {
            if currency.as_ref().is_some_and(|c| c.len() != 3 || !c.bytes().all(|b| b.is_ascii_uppercase())) {
                return Err(Fault::user("`--currency` is an ISO 4217 code such as `USD`"));
            }
            super::done(&database.pool, *task, cost.zip(currency.clone()), now).await?;
            crate::books::audit(database, "service_done", &task.to_string(), Value::Null).await?;
            print(out, format_args!("noted"))
        }
    }
}

async fn list(
    database: &Database,
    property: Option<&str>,
    days: u32,
    now: DateTime<Utc>,
    as_json: bool,
    out: &mut dyn Write,
) -> Result<()> {
    let rows: Vec<Value> = sqlx::query_scalar(
        "select to_jsonb(u) - '{guest_name,note}'::text[] from serving.upcoming_services u \
         where ($1::text is null or property_id = $1) and due_at <= $2 order by due_at, task_id",
    )
    .bind(property)
    .bind(now + TimeDelta::days(i64::from(days)))
    .fetch_all(&database.pool)
    .await
    .map_err(|e| fault("cannot read the services", e))?;
    let columns =
        ["due_local", "property_id", "service_type", "state", "staff_name", "booking_id", "unreached", "task_id"];
    show(&rows, &columns, "nothing is planned", as_json, out)
}

async fn rules(database: &Database, as_json: bool, out: &mut dyn Write) -> Result<()> {
    let rows: Vec<Value> = sqlx::query_scalar(
        "select to_jsonb(r) - '{created_at,updated_at}'::text[] from sync.services_automation r \
         order by trigger_event, rule_id",
    )
    .fetch_all(&database.pool)
    .await
    .map_err(|e| fault("cannot read the rules of services", e))?;
    let columns = [
        "rule_id",
        "property_id",
        "trigger_event",
        "service_type",
        "auto_schedule",
        "staff_assignment",
        "service_level",
        "active",
    ];
    show(&rows, &columns, "there is no rule", as_json, out)
}

fn show(rows: &[Value], columns: &[&str], nothing: &str, as_json: bool, out: &mut dyn Write) -> Result<()> {
    if as_json {
        return print(out, format_args!("{}", Value::from(rows)));
    }
    if rows.is_empty() {
        return print(out, format_args!("{nothing}"));
    }
    let mut table = Table::new();
    table.load_style(UTF8_FULL_CONDENSED).set_header(columns);
    for row in rows {
        table.add_row(columns.iter().map(|column| match &row[*column] {
            Value::Null => String::new(),
            Value::String(text) => text.clone(),
            Value::Array(items) => items.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(", "),
            other => other.to_string(),
        }));
    }
    print(out, format_args!("{table}"))
}
