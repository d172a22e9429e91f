//! The commands of the HTTP service: serving, its keys, its deliveries, its connections.

use std::io::Write;
use std::net::SocketAddr;
use std::sync::Arc;

use catalog::store::deliveries::{self, Filter, State};
use catalog::store::pg::fault;
use catalog::store::{audit, connections, keys};
use catalog::{Fault, Result};
use chrono::{DateTime, NaiveDate, TimeDelta, Utc};
use clap::{Args, Subcommand};
use comfy_table::Table;
use comfy_table::presets::UTF8_FULL_CONDENSED;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::app::{App, Database};
use crate::books::actor;
use crate::cli::print;
use crate::http::Service;
use crate::http::caller::{self, Role};
use crate::{inbox, worker};

/// How to serve.
#[derive(Debug, Clone, Args)]
pub struct ServeOptions {
    /// Where to listen. TLS and the outside world belong to a proxy in front
    #[arg(long, env = "PROPFLOW_LISTEN", default_value = "127.0.0.1:8080", value_name = "ADDRESS")]
    listen: SocketAddr,
    /// Do not work off jobs and schedules here; `propflow work` does it elsewhere
    #[arg(long)]
    no_work: bool,
    /// Jobs at a time
    #[arg(long, default_value_t = 4)]
    concurrency: usize,
    /// Days for which deliveries are kept: their bodies are personal data
    #[arg(long, env = "PROPFLOW_KEEP_DELIVERIES_DAYS", default_value_t = worker::DELIVERIES_KEPT_DAYS,
          value_name = "DAYS", value_parser = clap::value_parser!(i64).range(1..=3650))]
    keep_deliveries_days: i64,
}

/// Serves until stopped.
pub async fn serve(app: &App, options: &ServeOptions, out: &mut dyn Write, stop: &CancellationToken) -> Result<()> {
    let database = app.database().await?;
    let served = serve_on(app, &database, options, out, stop).await;
    database.close().await;
    served
}

async fn serve_on(
    app: &App,
    database: &Arc<Database>,
    options: &ServeOptions,
    out: &mut dyn Write,
    stop: &CancellationToken,
) -> Result<()> {
    let listener = TcpListener::bind(options.listen).await.map_err(|e| {
        Fault::user(format!("`{}` cannot be listened at", options.listen))
            .hint("Name another address with `--listen`; port 0 takes a free one.")
            .because(e)
    })?;
    let address = listener.local_addr().map_err(|e| Fault::us("the listener has no address").because(e))?;
    let service = Service::open(app, database).await?;
    print(out, format_args!("listening on http://{address}, described at http://{address}/docs"))?;
    if options.no_work {
        return service.serve(listener, stop).await;
    }
    let work = worker::Options {
        concurrency: options.concurrency,
        once: false,
        deliveries_kept: TimeDelta::days(options.keep_deliveries_days),
    };
    // Whichever ends takes the other one along.
    let both = stop.child_token();
    let end = |ended: Result<()>| {
        both.cancel();
        ended
    };
    let (served, worked) = tokio::join!(async { end(service.serve(listener, &both).await) }, async {
        end(worker::work(app, database, work, &both).await)
    });
    served.and(worked)
}

/// What to do with API keys.
#[derive(Debug, Clone, Subcommand)]
pub enum KeysCommand {
    /// Make a key; it is shown once
    Create {
        /// What it may do; may be repeated
        #[arg(long, required = true, value_enum)]
        role: Vec<Role>,
        /// Only for this property, by id; may be repeated; without it for all
        #[arg(long, value_name = "ID")]
        property: Vec<String>,
        /// What people call it
        #[arg(long)]
        name: Option<String>,
    },
    /// Show the keys
    List,
    /// Make a key useless, within seconds
    Revoke {
        /// Its id or its first characters, as `list` shows them
        id: String,
    },
}

/// Makes, shows and revokes API keys.
pub async fn keys(
    app: &App,
    database: &Database,
    command: &KeysCommand,
    as_json: bool,
    out: &mut dyn Write,
) -> Result<()> {
    match command {
        KeysCommand::Create { role, property, name } => {
            let mut roles = role.clone();
            roles.sort_unstable();
            roles.dedup();
            let words: Vec<&str> = roles.iter().map(|r| r.as_str()).collect();
            let name = name.clone().unwrap_or_else(|| words.join("+"));
            let properties = (!property.is_empty()).then(|| property.clone());
            let made = caller::make(name, &roles, properties, &*app.clock);
            let what = "cannot keep the API key";
            let mut tx = database.pool.begin().await.map_err(|e| fault(what, e))?;
            keys::insert(&mut tx, &made.kept).await?;
            let after = json!({ "roles": made.kept.roles, "properties": made.kept.properties });
            note(&mut tx, "key_create", &made.kept.prefix, after).await?;
            tx.commit().await.map_err(|e| fault(what, e))?;
            if as_json {
                let shown = json!({
                    "id": made.kept.id, "name": made.kept.name, "key": made.text, "roles": made.kept.roles,
                    "properties": made.kept.properties,
                });
                return print(out, format_args!("{shown}"));
            }
            print(out, format_args!("{}", made.text))?;
            let mut err = std::io::stderr().lock();
            crate::cli::wrote(writeln!(err, "This key is shown once; only a hash of it is kept."))
        }
        KeysCommand::List => {
            let all = keys::list(&database.pool).await?;
            if as_json {
                return print(out, format_args!("{}", to_json(&all)?));
            }
            if all.is_empty() {
                return print(out, format_args!("no key yet; `propflow keys create --role ROLE` makes one"));
            }
            let mut table = Table::new();
            table.load_style(UTF8_FULL_CONDENSED).set_header([
                "key",
                "name",
                "roles",
                "properties",
                "last used",
                "state",
            ]);
            for key in all {
                table.add_row([
                    format!("{}…", key.prefix),
                    key.name,
                    key.roles.join(", "),
                    key.properties.map_or_else(|| "all".to_owned(), |p| p.join(", ")),
                    key.last_used_at.map_or_else(|| "never".to_owned(), minute),
                    key.revoked_at.map_or_else(|| "good".to_owned(), |at| format!("revoked {}", minute(at))),
                ]);
            }
            print(out, format_args!("{table}"))
        }
        KeysCommand::Revoke { id } => {
            let id = id.trim_end_matches('…');
            let what = "cannot revoke the API key";
            let mut tx = database.pool.begin().await.map_err(|e| fault(what, e))?;
            let key = keys::revoke(&mut tx, id).await?.ok_or_else(|| {
                Fault::user("there is no such key that is still good").hint("`propflow keys list` shows the keys.")
            })?;
            note(&mut tx, "key_revoke", &key.prefix, Value::Null).await?;
            tx.commit().await.map_err(|e| fault(what, e))?;
            let seconds = caller::KEY_KEPT.as_secs();
            print(
                out,
                format_args!("`{}` ({}) is revoked; it works for {seconds} s more at most", key.prefix, key.name),
            )
        }
    }
}

/// Which deliveries to show.
#[derive(Debug, Clone, Args)]
pub struct DeliveriesOptions {
    /// Only of this state: received, processed, ignored, failed, refused
    #[arg(long, value_parser = state)]
    state: Option<State>,
    /// Only of this connection
    #[arg(long, value_name = "NAME")]
    connection: Option<String>,
    /// One of them, with its headers
    #[arg(long, value_name = "ID")]
    show: Option<i64>,
    /// With its body, which is personal data
    #[arg(long, requires = "show")]
    body: bool,
    /// How many
    #[arg(long, default_value_t = 50)]
    limit: u32,
}

fn state(text: &str) -> Result<State, String> {
    let known = || State::ALL.map(State::as_str).join(", ");
    State::parse(text).ok_or_else(|| format!("it is one of {}", known()))
}

/// Shows deliveries, newest first, or one of them.
pub async fn deliveries(
    database: &Database,
    options: &DeliveriesOptions,
    as_json: bool,
    out: &mut dyn Write,
) -> Result<()> {
    if let Some(id) = options.show {
        let whole = deliveries::find(&database.pool, id).await?.ok_or_else(|| {
            Fault::user(format!("there is no delivery {id}")).hint("`propflow deliveries` lists them.")
        })?;
        let mut shown = to_json(&whole.kept)?;
        shown["headers"] = whole.headers;
        if options.body {
            shown["body"] = String::from_utf8_lossy(&whole.body).into();
        }
        let text = if as_json { Ok(shown.to_string()) } else { serde_json::to_string_pretty(&shown) };
        let text = text.map_err(|e| Fault::us("a delivery has no JSON form").because(e))?;
        return print(out, format_args!("{text}"));
    }
    let filter = Filter { state: options.state, connection: options.connection.clone(), ..Filter::default() };
    let rows = deliveries::list(&database.pool, &filter, i64::from(options.limit)).await?;
    if as_json {
        return rows.iter().try_for_each(|row| print(out, format_args!("{}", to_json(row)?)));
    }
    if rows.is_empty() {
        return print(out, format_args!("no such delivery"));
    }
    let mut table = Table::new();
    table.load_style(UTF8_FULL_CONDENSED).set_header(["id", "connection", "event", "state", "tries", "came", "why"]);
    for row in rows {
        table.add_row([
            row.id.to_string(),
            format!("{}/{}", row.connector, row.connection),
            row.event,
            row.state.as_str().to_owned(),
            row.attempts.to_string(),
            row.received_at.format("%Y-%m-%d %H:%M:%S UTC").to_string(),
            row.reason.unwrap_or_default(),
        ]);
    }
    print(out, format_args!("{table}"))
}

/// Which deliveries to process once more.
#[derive(Debug, Clone, Args)]
pub struct ReplayOptions {
    /// One delivery
    #[arg(long, value_name = "ID", conflicts_with_all = ["connection", "since", "state"])]
    pub delivery: Option<i64>,
    /// Deliveries of this connection, those that failed unless `--state` says otherwise
    #[arg(long, value_name = "NAME")]
    pub connection: Option<String>,
    /// Only those that came on this day (UTC) or later, or at this time, as `2026-06-01` or `2026-06-01T12:00:00Z`
    #[arg(long, requires = "connection", value_parser = since)]
    pub since: Option<DateTime<Utc>>,
    /// Only of this state: processed, ignored or failed
    #[arg(long, requires = "connection", value_parser = state)]
    pub state: Option<State>,
}

fn since(text: &str) -> Result<DateTime<Utc>, String> {
    let day = || text.parse::<NaiveDate>().map(|day| day.and_time(chrono::NaiveTime::MIN).and_utc());
    text.parse::<DateTime<Utc>>().or_else(|_| day()).map_err(|_| "it is no day and no time".to_owned())
}

/// Puts deliveries back to be processed once more.
pub async fn replay(database: &Database, options: &ReplayOptions, out: &mut dyn Write) -> Result<()> {
    let state = match options.delivery {
        Some(_) => None,
        None => Some(options.state.unwrap_or(State::Failed)),
    };
    if matches!(state, Some(State::Refused | State::Received)) {
        return Err(Fault::user("deliveries of that state cannot be processed once more")
            .hint("Those that wait come to their turn; of those that were refused nobody knows who sent them."));
    }
    let filter = Filter {
        id: options.delivery,
        state,
        connection: options.connection.clone(),
        since: options.since,
        before: None,
    };
    let what = "cannot put deliveries back";
    let mut tx = database.pool.begin().await.map_err(|e| fault(what, e))?;
    let again = deliveries::replay(&mut tx, &filter).await?;
    let subject = options.delivery.map_or_else(|| options.connection.clone().unwrap_or_default(), |id| id.to_string());
    let asked = json!({ "since": options.since, "state": state.map(State::as_str) });
    note(&mut tx, "replay", &subject, asked).await?;
    tx.commit().await.map_err(|e| fault(what, e))?;
    if again.is_empty() {
        if let Some(id) = options.delivery {
            return Err(Fault::user(format!("there is no delivery {id} that can be processed once more"))
                .hint("It waits already, or it was refused; `propflow deliveries --show ID` says which."));
        }
        return print(out, format_args!("no such delivery"));
    }
    for (connector, connection, count) in again {
        inbox::work::call(&database.pool, &connector, &connection).await?;
        print(out, format_args!("{count} of `{connection}` are to be processed once more; a worker takes them up"))?;
    }
    Ok(())
}

/// What to do with a connection.
#[derive(Debug, Subcommand)]
pub enum ConnectionsCommand {
    /// Show connections that were stopped
    List,
    /// Stop a connection and remove what it told of people: bookings keep their nights, without the guests
    Revoke {
        /// The connection's name in its pipeline file
        connection: String,
    },
    /// Remove what a stopped connection told of people, once more
    Purge {
        /// The connection's name
        connection: String,
    },
}

/// Stops or purges a connection.
///
/// # Errors
/// When there is no such connection, or as for [`purge`](crate::privacy::purge::purge).
pub async fn stop_connection(
    app: &App,
    database: &Database,
    command: &ConnectionsCommand,
    as_json: bool,
    out: &mut dyn Write,
) -> Result<()> {
    let (name, revoke) = match command {
        ConnectionsCommand::List => return connections(database, None, as_json, out).await,
        ConnectionsCommand::Revoke { connection } => (connection, true),
        ConnectionsCommand::Purge { connection } => (connection, false),
    };
    let plans = app.sound_plans().await?;
    let (lakes, others) = crate::privacy::lakes_of(&plans);
    let mut found: Vec<String> = if revoke {
        plans.iter().filter(|p| p.spec.connection() == name).map(|p| p.spec.source.connector.clone()).collect()
    } else {
        let known = connections::list(&database.pool).await?.into_iter();
        known.filter(|c| &c.connection == name && c.revoked).map(|c| c.connector).collect()
    };
    found.sort_unstable();
    found.dedup();
    if found.is_empty() {
        let text = format!("there is no {}connection `{name}`", if revoke { "" } else { "stopped " });
        return Err(Fault::user(text).hint(crate::names::hint(name, plans.iter().map(|p| p.spec.connection()))));
    }
    for connector in &found {
        if revoke {
            let reason = "a person withdrew the authorisation";
            crate::privacy::purge::revoke(&database.pool, connector, name, &actor(), reason).await?;
        }
        // Behind the stop: a lake that is not here must not let the next pull happen.
        crate::privacy::all_there(&database.pool, &plans, &lakes).await?;
        let rows = crate::privacy::purge::purge(&database.pool, connector, name, &lakes, &*app.clock, &actor()).await?;
        if as_json {
            let told = json!({ "connection": name, "connector": connector, "revoked": true, "purged": rows, "not_reached": others });
            print(out, format_args!("{told}"))?;
        } else {
            print(out, format_args!("connection `{name}` of `{connector}` is stopped and purged: {rows} rows"))?;
        }
    }
    if as_json {
        return Ok(());
    }
    for other in others {
        print(out, format_args!("not reached: sink {other}"))?;
    }
    Ok(())
}

/// Shows connections that were stopped, or lets one be used again.
pub async fn connections(database: &Database, resume: Option<&str>, as_json: bool, out: &mut dyn Write) -> Result<()> {
    let all = connections::list(&database.pool).await?;
    if let Some(name) = resume {
        let what = "cannot let the connection be used again";
        let mut tx = database.pool.begin().await.map_err(|e| fault(what, e))?;
        let mut resumed = 0;
        for found in all.iter().filter(|c| c.connection == name && c.revoked) {
            let reason = "a person let it be used again";
            connections::set(&mut tx, &found.connector, name, false, reason).await?;
            note(&mut tx, "resume", name, json!({ "connector": found.connector })).await?;
            resumed += 1;
        }
        tx.commit().await.map_err(|e| fault(what, e))?;
        if resumed == 0 {
            return Err(Fault::user(format!("no connection `{name}` is stopped"))
                .hint("`propflow connections` shows those that are."));
        }
        return print(out, format_args!("connection `{name}` is in use again"));
    }
    if as_json {
        return print(out, format_args!("{}", to_json(&all)?));
    }
    if all.is_empty() {
        return print(out, format_args!("no connection was ever stopped"));
    }
    let mut table = Table::new();
    table.load_style(UTF8_FULL_CONDENSED).set_header(["connection", "state", "since", "purged", "why"]);
    for c in all {
        table.add_row([
            format!("{}/{}", c.connector, c.connection),
            if c.revoked { "stopped".to_owned() } else { "in use".to_owned() },
            minute(c.updated_at),
            c.purged_at.map(minute).unwrap_or_default(),
            c.reason.unwrap_or_default(),
        ]);
    }
    print(out, format_args!("{table}"))
}

fn minute(at: DateTime<Utc>) -> String {
    at.format("%Y-%m-%d %H:%M UTC").to_string()
}

async fn note(tx: &mut sqlx::PgConnection, action: &str, subject: &str, asked: Value) -> Result<()> {
    let actor = actor();
    let entry = audit::Entry { actor: &actor, action, subject, after: Some(asked), ..audit::Entry::default() };
    audit::write(tx, &entry).await
}

fn to_json<T: serde::Serialize>(value: &T) -> Result<Value> {
    serde_json::to_value(value).map_err(|e| Fault::us("an entry of the books has no JSON form").because(e))
}
