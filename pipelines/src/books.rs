//! Looking into the books: runs, rejects, registries.

use std::io::Write;

use catalog::store::audit::Entry;
use catalog::store::pg::fault;
use catalog::store::runs;
use catalog::{Fault, Result};
use clap::Args;
use comfy_table::Table;
use comfy_table::presets::UTF8_FULL_CONDENSED;
use serde_json::{Value, json};
use sqlx::{PgPool, Row};
use uuid::Uuid;

use crate::app::{App, Database};
use crate::cli::{print, wrote};
use crate::{names, show, spec};

/// Who works at this machine, for the audit trail.
pub fn actor() -> String {
    let user =
        nix::unistd::User::from_uid(nix::unistd::geteuid()).ok().flatten().map_or("unknown".to_owned(), |u| u.name);
    let host = nix::unistd::gethostname().ok().and_then(|h| h.into_string().ok()).unwrap_or_default();
    format!("{user}@{host}")
}

/// Notes in the audit trail what a person did by hand.
pub async fn audit(database: &Database, action: &str, subject: &str, asked: Value) -> Result<()> {
    let actor = actor();
    let entry = Entry { actor: &actor, action, subject, after: Some(asked), ..Entry::default() };
    let mut connection = database.pool.acquire().await.map_err(|e| fault("cannot write the audit trail", e))?;
    catalog::store::audit::write(&mut connection, &entry).await
}

/// Which rejects to show.
#[derive(Debug, Clone, Args)]
pub struct RejectsOptions {
    /// Only this run
    #[arg(long, value_name = "ID")]
    run: Option<Uuid>,
    /// Only this pipeline
    #[arg(long)]
    pipeline: Option<String>,
    /// Only this dataset
    #[arg(long)]
    dataset: Option<String>,
    /// Also those that a later slice has settled
    #[arg(long)]
    all: bool,
    /// With the refused rows themselves; they can hold personal data
    #[arg(long)]
    payload: bool,
    /// How many
    #[arg(long, default_value_t = 50)]
    limit: u32,
}

/// What to do with the outbox.
#[derive(Debug, Clone)]
pub struct OutboxOptions {
    /// Only messages in this state.
    pub state: Option<String>,
    /// The id of a message to be tried again, at once if it waits, or `all` that are dead.
    pub replay: Option<String>,
    /// How many to show.
    pub limit: u32,
}

/// Shows the outbox, or lets dead messages be tried again.
pub async fn outbox(
    database: &Database,
    options: &OutboxOptions,
    now: chrono::DateTime<chrono::Utc>,
    as_json: bool,
    out: &mut dyn Write,
) -> Result<()> {
    if let Some(which) = &options.replay {
        let only = match which.as_str() {
            "all" => None,
            id => Some(id.parse().map_err(|_| Fault::user(format!("`{id}` is neither an id nor `all`")))?),
        };
        audit(database, "outbox_replay", which, Value::Null).await?;
        let count = catalog::store::outbox::replay(&database.pool, only, now).await?;
        return print(out, format_args!("{count} messages wait again; a worker delivers them"));
    }
    let found =
        catalog::store::outbox::list(&database.pool, options.state.as_deref(), i64::from(options.limit)).await?;
    if as_json {
        return print(out, format_args!("{}", to_json(&found)?));
    }
    if found.is_empty() {
        return print(out, format_args!("the outbox is empty"));
    }
    let mut table = Table::new();
    table.load_style(UTF8_FULL_CONDENSED).set_header(["id", "courier", "kind", "state", "tries", "created", "reason"]);
    for m in found {
        let reason = [m.reason, m.hint].into_iter().flatten().collect::<Vec<_>>().join(". ");
        table.add_row([
            m.id.to_string(),
            if m.courier == m.connection { m.courier } else { format!("{} ({})", m.courier, m.connection) },
            m.kind,
            m.state,
            m.attempts.to_string(),
            m.created_at.format("%Y-%m-%d %H:%M:%S").to_string(),
            reason,
        ]);
    }
    print(out, format_args!("{table}"))
}

/// Shows the latest runs, or one in full.
pub async fn status(
    database: &Database,
    run: Option<Uuid>,
    pipeline: Option<&str>,
    limit: u32,
    as_json: bool,
    out: &mut dyn Write,
) -> Result<()> {
    let Some(id) = run else {
        let all = runs::list(&database.pool, pipeline, i64::from(limit)).await?;
        if as_json {
            return print(out, format_args!("{}", to_json(&all)?));
        }
        if all.is_empty() {
            return print(out, format_args!("no run yet; start one with `propflow run PIPELINE`"));
        }
        print(out, format_args!("{}", show::runs(&all)))?;
        return print_freshness(database, out).await;
    };
    let found = runs::find(&database.pool, id).await?.ok_or_else(|| {
        Fault::user(format!("there is no run `{id}`")).hint("`propflow status` lists the latest runs.")
    })?;
    let notes = runs::notes(&database.pool, id).await?;
    let slices = sqlx::query("select number, observed_at, rows from ops.slices where run_id = $1 order by number")
        .bind(id)
        .fetch_all(&database.pool)
        .await
        .map_err(|e| fault("cannot read the slices", e))?;
    let slices: Vec<Value> = slices
        .iter()
        .map(|r| {
            json!({
                "number": r.get::<i32, _>("number"),
                "observed_at": r.get::<chrono::DateTime<chrono::Utc>, _>("observed_at"),
                "rows": r.get::<Value, _>("rows"),
            })
        })
        .collect();
    if as_json {
        return print(
            out,
            format_args!("{}", json!({ "run": to_json(&found)?, "notes": to_json(&notes)?, "slices": slices })),
        );
    }
    print(out, format_args!("{}", show::runs(std::slice::from_ref(&found))))?;
    if let Some(hint) = &found.hint {
        print(out, format_args!("hint: {hint}"))?;
    }
    let mut table = Table::new();
    table.load_style(UTF8_FULL_CONDENSED).set_header(["topic", "subject", "count", "what"]);
    for note in &notes {
        table.add_row([note.topic.clone(), note.subject.clone(), note.count.to_string(), note.text.clone()]);
    }
    if !notes.is_empty() {
        print(out, format_args!("{table}"))?;
    }
    print(out, format_args!("{} slices", slices.len()))
}

fn to_json<T: serde::Serialize>(value: &T) -> Result<Value> {
    serde_json::to_value(value).map_err(|e| Fault::us("a ledger entry has no JSON form").because(e))
}

/// How many properties are named before the rest is only counted.
const NAMED: usize = 5;

/// Properties by name and id, the rest of many as a number.
pub fn names_of(properties: &[(String, String)]) -> String {
    let named = properties.iter().take(NAMED).map(|(id, name)| format!("{name} ({id})")).collect::<Vec<_>>().join(", ");
    match properties.len().saturating_sub(NAMED) {
        0 => named,
        more => format!("{named} and {more} more"),
    }
}

/// The properties that no list has any more, by id and name, the latest first; of a run, those that left their last list in it.
///
/// # Errors
/// When the database cannot be read.
pub async fn withdrawn(pool: &PgPool, run: Option<Uuid>) -> Result<Vec<(String, String)>> {
    if !has_lists(pool).await? {
        return Ok(Vec::new());
    }
    // Rows are withdrawn in the transaction that enters their slice.
    let query = format!(
        "select l.property_id, max(l.name) from core.account_properties l where {} \
         group by 1 having $1::uuid is null or max(l.deleted_at) in (select created_at from ops.slices where run_id = $1) \
         order by max(l.deleted_at) desc, 1",
        sinks::postgres::unlisted("l.property_id")
    );
    sqlx::query_as(sqlx::AssertSqlSafe(query))
        .bind(run)
        .fetch_all(pool)
        .await
        .map_err(|e| fault("cannot read which properties were withdrawn", e))
}

/// Whether any account's list of properties was ever loaded.
async fn has_lists(pool: &PgPool) -> Result<bool> {
    sqlx::query_scalar("select to_regclass('core.account_properties') is not null")
        .fetch_one(pool)
        .await
        .map_err(|e| fault("cannot look for the lists of properties", e))
}

async fn print_freshness(database: &Database, out: &mut dyn Write) -> Result<()> {
    // A property that has left every list it was on is not late: nobody reads it any more.
    let read = match has_lists(&database.pool).await? {
        true => format!(" where not {}", sinks::postgres::unlisted("f.scope")),
        false => String::new(),
    };
    let query = format!(
        "select count(*) as scopes, count(*) filter (where observed_at < now() - make_interval(secs => limit_seconds)) as stale \
         from ops.freshness f{read}"
    );
    let what = "cannot read the freshness of properties";
    let row = sqlx::query(sqlx::AssertSqlSafe(query)).fetch_one(&database.pool).await.map_err(|e| fault(what, e))?;
    let open: i64 = sqlx::query_scalar("select count(*) from ops.rejects where resolved_at is null")
        .fetch_one(&database.pool)
        .await
        .map_err(|e| fault("cannot count the rejects", e))?;
    let (scopes, stale): (i64, i64) = (row.get("scopes"), row.get("stale"));
    print(out, format_args!("{scopes} scopes loaded, {stale} of them stale; {open} open rejects"))?;
    let gone = withdrawn(&database.pool, None).await?;
    if !gone.is_empty() {
        print(out, format_args!("on no list any more, and served no longer: {}", names_of(&gone)))?;
    }
    Ok(())
}

/// Shows rejects, newest first.
pub async fn rejects(database: &Database, options: &RejectsOptions, as_json: bool, out: &mut dyn Write) -> Result<()> {
    let rows = sqlx::query(
        "select id, run_id, pipeline, dataset, scope, key, kind, reason, payload, created_at, resolved_at from ops.rejects \
         where ($1::uuid is null or run_id = $1) and ($2::text is null or pipeline = $2) \
           and ($3::text is null or dataset = $3) and ($4 or resolved_at is null) order by id desc limit $5",
    )
    .bind(options.run)
    .bind(&options.pipeline)
    .bind(&options.dataset)
    .bind(options.all)
    .bind(i64::from(options.limit))
    .fetch_all(&database.pool)
    .await
    .map_err(|e| fault("cannot read the rejects", e))?;
    if as_json {
        for r in &rows {
            let mut line = json!({
                "id": r.get::<i64, _>("id"),
                "run": r.get::<Uuid, _>("run_id"),
                "pipeline": r.get::<String, _>("pipeline"),
                "dataset": r.get::<String, _>("dataset"),
                "scope": r.get::<Option<String>, _>("scope"),
                "key": r.get::<String, _>("key"),
                "kind": r.get::<String, _>("kind"),
                "reason": r.get::<String, _>("reason"),
                "created_at": r.get::<chrono::DateTime<chrono::Utc>, _>("created_at"),
                "resolved_at": r.get::<Option<chrono::DateTime<chrono::Utc>>, _>("resolved_at"),
            });
            if options.payload {
                line["payload"] = r.get("payload");
            }
            print(out, format_args!("{line}"))?;
        }
        return Ok(());
    }
    if rows.is_empty() {
        return print(out, format_args!("no open rejects"));
    }
    let mut table = Table::new();
    table.load_style(UTF8_FULL_CONDENSED).set_header(["id", "dataset", "key", "what", "reason"]);
    for r in &rows {
        let what = if r.get::<String, _>("kind") == "row" { "row not loaded" } else { "value unknown" };
        table.add_row([
            r.get::<i64, _>("id").to_string(),
            r.get("dataset"),
            r.get("key"),
            what.to_owned(),
            r.get("reason"),
        ]);
        if options.payload {
            table.add_row(["", "", "", "", &r.get::<Value, _>("payload").to_string()]);
        }
    }
    print(out, format_args!("{table}"))
}

/// Shows the jobs that were given up, or puts one of them back in the queue.
pub async fn jobs(database: &Database, requeue: Option<&str>, as_json: bool, out: &mut dyn Write) -> Result<()> {
    if let Some(id) = requeue {
        let job = crate::jobs::requeue(&database.pool, id).await?;
        audit(database, "requeue", id, to_json(&job)?).await?;
        return print(out, format_args!("`{}` is in the queue again; a worker takes it up", job.pipeline));
    }
    let dead = crate::jobs::dead(&database.pool, 100).await?;
    if as_json {
        return print(out, format_args!("{}", to_json(&dead)?));
    }
    if dead.is_empty() {
        return print(out, format_args!("no job was given up"));
    }
    let mut table = Table::new();
    table.load_style(UTF8_FULL_CONDENSED).set_header(["job", "pipeline", "given up", "why", "what to do"]);
    for job in dead {
        table.add_row([
            job.id,
            job.job.map_or_else(|| "?".to_owned(), |j| j.pipeline),
            job.died_at.map_or_else(String::new, |t| t.format("%Y-%m-%d %H:%M:%S UTC").to_string()),
            job.reason,
            job.hint.unwrap_or_default(),
        ]);
    }
    print(out, format_args!("{table}"))
}

/// The scopes of a pipeline with open rejects, or that its newest run could not read.
pub async fn scopes_to_replay(database: &Database, pipeline: &str) -> Result<Vec<String>> {
    sqlx::query_scalar(
        "select distinct scope from ( \
           select scope from ops.rejects where pipeline = $1 and resolved_at is null and scope is not null \
           union all \
           select n.subject from ops.notes n where n.topic = 'scope_failed' and n.run_id = ( \
             select id from ops.runs where pipeline = $1 order by created_at desc limit 1)) s order by 1",
    )
    .bind(pipeline)
    .fetch_all(&database.pool)
    .await
    .map_err(|e| fault("cannot read what is to be replayed", e))
}

/// Shows what there is.
pub async fn list(app: &App, name: Option<&str>, as_json: bool, out: &mut dyn Write) -> Result<()> {
    if let Some(name) = name {
        return list_one(name, as_json, out);
    }
    let files = spec::files(app.specs.as_deref())?;
    let pipelines: Vec<(String, String, String)> = files
        .iter()
        .filter_map(|f| {
            let table: toml::Table = f.text.parse().ok()?;
            let word = |key: &str| table.get(key).and_then(|v| v.as_str()).unwrap_or_default().to_owned();
            Some((word("name"), word("about"), f.place.clone()))
        })
        .collect();
    let about = |entries: Vec<(&str, &str)>| {
        entries.into_iter().map(|(n, a)| json!({ "name": n, "about": a })).collect::<Vec<_>>()
    };
    let connectors: Vec<_> = connectors::ALL.iter().map(|e| (e.name, e.about)).collect();
    let sinks: Vec<_> = sinks::ALL.iter().map(|e| (e.name, e.about)).collect();
    let models: Vec<_> = transforms::models::all()?.into_iter().map(|m| (m.name.as_str(), m.about.as_str())).collect();
    if as_json {
        let pipelines: Vec<_> =
            pipelines.iter().map(|(n, a, p)| json!({ "name": n, "about": a, "place": p })).collect();
        return print(
            out,
            format_args!(
                "{}",
                json!({ "pipelines": pipelines, "connectors": about(connectors), "sinks": about(sinks), "models": about(models) })
            ),
        );
    }
    let mut section = |title: &str, rows: Vec<(&str, &str)>| -> std::io::Result<()> {
        writeln!(out, "{title}")?;
        let width = rows.iter().map(|(n, _)| n.len()).max().unwrap_or(0);
        for (name, about) in rows {
            writeln!(out, "  {name:width$}  {about}")?;
        }
        writeln!(out)
    };
    wrote((|| {
        section("pipelines", pipelines.iter().map(|(n, a, _)| (n.as_str(), a.as_str())).collect())?;
        section("connectors", connectors)?;
        section("sinks", sinks)?;
        section("models", models)
    })())
}

fn list_one(name: &str, as_json: bool, out: &mut dyn Write) -> Result<()> {
    let schema = connectors::find(name)
        .map(|e| (e.about, e.schema()))
        .or_else(|| sinks::find(name).map(|e| (e.about, e.schema())));
    let Some((about, schema)) = schema else {
        let known = connectors::ALL.iter().map(|e| e.name).chain(sinks::ALL.iter().map(|e| e.name));
        return Err(Fault::user(format!("there is no connector or sink `{name}`")).hint(names::hint(name, known)));
    };
    if as_json {
        return print(out, format_args!("{}", json!({ "name": name, "about": about, "settings": schema })));
    }
    let text = serde_json::to_string_pretty(&schema).map_err(|e| Fault::us("a schema has no JSON form").because(e))?;
    print(out, format_args!("{name}: {about}\n{text}"))
}

#[cfg(test)]
mod tests {
    use super::names_of;

    #[test]
    fn many_properties_are_named_up_to_a_number_and_then_counted() {
        let properties = |n: usize| (1..=n).map(|i| (format!("P{i}"), format!("At {i}"))).collect::<Vec<_>>();
        assert_eq!(names_of(&properties(2)), "At 1 (P1), At 2 (P2)");
        assert_eq!(names_of(&properties(5)).matches("(P").count(), 5);
        assert!(names_of(&properties(5)).ends_with("(P5)"));
        assert!(names_of(&properties(1_005)).ends_with("At 5 (P5) and 1000 more"));
    }
}
