//! Personal data: one person's, taken out or erased everywhere; a revoked connection's, purged.
//!
//! What is personal is said by the catalog for stored datasets, and by the registry in [`places`] for everything else. See
//! `docs/privacy.md`.

pub mod cards;
mod collect;
mod erase;
pub mod guests;
pub mod load;
mod person;
pub mod places;
pub mod purge;
mod raw;
pub mod shape;
mod words;

use std::collections::BTreeSet;
use std::io::Write;
use std::path::PathBuf;

use catalog::store::erasures::{self, Salt};
use catalog::store::pg::fault;
use catalog::{Fault, Result, datasets};
use clap::{Args, Subcommand};
use serde_json::{Value, json};
use sinks::parquet::Lake;
use sqlx::{Connection, PgConnection, PgPool};

pub use self::collect::Collected;
pub use self::erase::{Erasure, erase};
pub use self::person::Person;
use crate::app::{App, Database};
use crate::books::actor;
use crate::cli::print;
use crate::matching::replace;
use crate::plan::Plan;
use crate::run::SETTLE;

/// What to do with one person's data.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Write down everything that is stored of a person, place by place
    Export {
        /// Who it is about.
        #[command(flatten)]
        who: Who,
        /// One document, or a line a row
        #[arg(long, default_value = "json", value_parser = ["json", "jsonl"])]
        format: String,
        /// Where to; without it, standard output
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
    /// Erase a person from tables, deliveries and lake, and keep them out
    Erase {
        /// Who it is about.
        #[command(flatten)]
        who: Who,
        /// Only say what there is
        #[arg(long)]
        dry_run: bool,
        /// Do it: nothing brings it back
        #[arg(long)]
        yes: bool,
    },
    /// Let a person who was erased be stored again
    Lift {
        /// Who it is about.
        #[command(flatten)]
        who: Who,
    },
}

/// Who is meant.
#[derive(Debug, Args)]
pub struct Who {
    /// The person's e-mail address; may be repeated
    #[arg(long, value_name = "ADDRESS")]
    email: Vec<String>,
    /// The person's phone; may be repeated. A record with this phone and another's address is the other's
    #[arg(long, value_name = "NUMBER")]
    phone: Vec<String>,
    /// Country of phones without a country code
    #[arg(long, default_value = "US")]
    region: String,
    /// A lake to look through besides those of the pipeline files; may be repeated
    #[arg(long, value_name = "DIR")]
    lake: Vec<String>,
}

impl Who {
    fn person(&self) -> Result<Person> {
        Person::asked(&self.email, &self.phone, &self.region)
    }
}

/// The lakes that pipelines write into, and the sinks whose rows nobody here can reach.
pub fn lakes_of(plans: &[Plan]) -> (Vec<String>, Vec<String>) {
    let (mut lakes, mut others) = (BTreeSet::new(), BTreeSet::new());
    for (plan, sink) in plans.iter().flat_map(|p| p.spec.sinks.iter().map(move |s| (p, s))) {
        let path = sink.settings.get("path").and_then(Value::as_str);
        match (sink.sink.as_str(), path) {
            ("parquet", Some(path)) => lakes.extend([path.to_owned()]),
            ("postgres", _) if !sink.settings.contains_key("url") => {}
            ("memory", _) => {}
            (name, _) => others.extend([format!("`{name}` of `{}`", plan.spec.name)]),
        }
    }
    (lakes.into_iter().collect(), others.into_iter().collect())
}

/// Refuses to go on without a lake that pipelines of this database have written into: its files would keep what the tables
/// forget, and nothing would find it there any more.
///
/// # Errors
/// When a folder is not there, or the books cannot be read.
pub async fn all_there(pool: &PgPool, plans: &[Plan], lakes: &[String]) -> Result<()> {
    let ran = ran(pool).await?;
    for lake in lakes {
        if Lake::open(lake)?.is_there() {
            continue;
        }
        let named: Vec<&Plan> = plans.iter().filter(|p| lakes_of(std::slice::from_ref(*p)).0.contains(lake)).collect();
        match named.iter().find(|p| ran.contains(&p.spec.name)) {
            Some(plan) => {
                return Err(Fault::user(format!(
                    "the lake `{lake}` of pipeline `{}` is not there, but the pipeline has run",
                    plan.spec.name
                ))
                .hint(
                    "Run this in the folder where the pipelines run, and with their `PROPFLOW_LAKE`. If the lake is gone for \
                     good, make an empty folder of that name.",
                ));
            }
            None if named.is_empty() => {
                return Err(Fault::user(format!("there is no lake `{lake}`")).hint("Check the folder after `--lake`."));
            }
            None => {}
        }
    }
    Ok(())
}

/// The pipelines that have run on this database.
async fn ran(pool: &PgPool) -> Result<BTreeSet<String>> {
    let names: Vec<String> = sqlx::query_scalar("select distinct pipeline from ops.runs")
        .fetch_all(pool)
        .await
        .map_err(|e| fault("cannot read which pipelines have run", e))?;
    Ok(names.into_iter().collect())
}

/// Does what was asked about one person.
///
/// # Errors
/// When nobody is found, or as for [`erase`].
pub async fn gdpr(app: &App, database: &Database, command: &Command, as_json: bool, out: &mut dyn Write) -> Result<()> {
    let (Command::Export { who, .. } | Command::Erase { who, .. } | Command::Lift { who }) = command;
    let person = who.person()?;
    if let Command::Lift { .. } = command {
        return lift(database, &person, as_json, out).await;
    }
    // A lake that a broken pipeline file names would be left out.
    let plans = app.sound_plans().await?;
    let (mut lakes, mut others) = lakes_of(&plans);
    for other in &mut others {
        other.insert_str(0, "sink ");
    }
    // Settlings of their own are no pipeline: what they write is in the lakes of those that brought it.
    let here = |name: &str| name == SETTLE || plans.iter().any(|p| p.spec.name == name);
    for name in ran(&database.pool).await?.iter().filter(|name| !here(name)) {
        others.push(format!(
            "the lake of `{name}`, which has run but is not among the pipeline files here, if it has its own"
        ));
    }
    for lake in &who.lake {
        if !lakes.contains(lake) {
            lakes.push(lake.clone());
        }
    }
    all_there(&database.pool, &plans, &lakes).await?;
    match command {
        Command::Export { format, out: file, .. } => {
            let found = export(database, person, &lakes).await?;
            let text = written(&found, format)?;
            match file {
                None => print(out, format_args!("{}", text.trim_end())),
                Some(path) => {
                    replace(path, |mut file| {
                        let failed = |e| Fault::user(format!("`{}` cannot be written", path.display())).because(e);
                        file.write_all(text.as_bytes()).map_err(failed)
                    })?;
                    let (rows, places) = (rows(&found), found.len());
                    if as_json {
                        let told = json!({ "file": path.display().to_string(), "rows": rows, "places": places });
                        return print(out, format_args!("{told}"));
                    }
                    print(out, format_args!("{rows} rows of {places} places are in `{}`", path.display()))
                }
            }
        }
        Command::Erase { dry_run, yes, .. } => {
            if !dry_run && !yes {
                return Err(Fault::user("an erasure cannot be taken back")
                    .hint("Look at it with `--dry-run`, keep a copy with `propflow gdpr export`, then say `--yes`."));
            }
            let done = erase(&database.pool, person, &lakes, &*app.clock, &actor(), *dry_run).await?;
            if done.found.is_empty() {
                let Some(before) = done.before else { return Err(nobody()) };
                if as_json {
                    return print(out, format_args!("{}", json!({ "erased": true, "before": before, "rows": {} })));
                }
                return print(out, format_args!("erased on {} already; nothing is left", before.format("%Y-%m-%d")));
            }
            report(&done.found, &others, *dry_run, as_json, out)
        }
        Command::Lift { .. } => Ok(()),
    }
}

fn nobody() -> Fault {
    Fault::user("nobody with this address or phone is stored")
        .hint("Try another address or phone of the person; `--lake` names lakes that no pipeline file has.")
}

/// Everything that is stored of a person.
///
/// # Errors
/// When there is nothing, or a place cannot be read.
pub async fn export(database: &Database, person: Person, lakes: &[String]) -> Result<Collected> {
    let what = "cannot collect what is stored of a person";
    let mut connection = database.pool.acquire().await.map_err(|e| fault(what, e))?;
    let person = person.find(&mut connection).await?;
    let mut tx = connection.begin().await.map_err(|e| fault(what, e))?;
    collect::describe(&mut tx, &person).await?;
    let found = collect::collect(&mut tx, &person, lakes).await?;
    tx.rollback().await.map_err(|e| fault(what, e))?;
    if found.is_empty() { Err(nobody()) } else { Ok(found) }
}

async fn lift(database: &Database, person: &Person, as_json: bool, out: &mut dyn Write) -> Result<()> {
    let what = "cannot lift an erasure";
    let mut tx = database.pool.begin().await.map_err(|e| fault(what, e))?;
    let salt = Salt::read(&mut tx).await?;
    let mut lifted = 0;
    for (kind, value) in &person.asked {
        lifted += erasures::lift(&mut tx, &salt.mark(kind, value)).await?;
    }
    if lifted == 0 {
        return Err(Fault::user("nobody with this address or phone was erased")
            .hint("Name the address or phone with which the person was erased."));
    }
    let entry = catalog::store::audit::Entry {
        actor: &actor(),
        action: "gdpr_lift",
        subject: "a person who was erased",
        ..catalog::store::audit::Entry::default()
    };
    catalog::store::audit::write(&mut tx, &entry).await?;
    tx.commit().await.map_err(|e| fault(what, e))?;
    if as_json {
        return print(out, format_args!("{}", json!({ "lifted": true })));
    }
    print(out, format_args!("from now on rows of this person are stored again; what they opted out of stays"))
}

fn rows(found: &Collected) -> usize {
    found.values().map(Vec::len).sum()
}

fn written(found: &Collected, format: &str) -> Result<String> {
    let failed = |e| Fault::us("an export has no JSON form").because(e);
    if format == "json" {
        return serde_json::to_string_pretty(found).map(|text| text + "\n").map_err(failed);
    }
    let mut text = String::new();
    for (place, row) in found.iter().flat_map(|(place, rows)| rows.iter().map(move |row| (place, row))) {
        text.push_str(&json!({ "place": place, "row": row }).to_string());
        text.push('\n');
    }
    Ok(text)
}

fn report(found: &Collected, others: &[String], dry_run: bool, as_json: bool, out: &mut dyn Write) -> Result<()> {
    let counts: serde_json::Map<String, Value> =
        found.iter().map(|(place, rows)| (place.clone(), json!(rows.len()))).collect();
    if as_json {
        return print(out, format_args!("{}", json!({ "erased": !dry_run, "rows": counts, "not_reached": others })));
    }
    for (place, count) in &counts {
        print(out, format_args!("{count:>8}  {place}"))?;
    }
    if dry_run {
        print(out, format_args!("nothing was changed; `--yes` erases this"))?;
    } else {
        print(out, format_args!("erased; vendors that still have the person have to be asked themselves"))?;
    }
    for other in others {
        print(out, format_args!("not reached: {other}"))?;
    }
    Ok(())
}

/// The tables of `core` that the catalog does not know, with the columns that hold text: streams that are stored as they
/// come.
async fn unknown_tables(connection: &mut PgConnection) -> Result<Vec<(String, Vec<String>)>> {
    let rows: Vec<(String, Vec<String>)> = sqlx::query_as(
        "select table_name::text, array_agg(column_name::text order by ordinal_position) from information_schema.columns \
         where table_schema = 'core' and data_type in ('text', 'character varying', 'jsonb') group by 1 order by 1",
    )
    .fetch_all(connection)
    .await
    .map_err(|e| fault("cannot list the tables", e))?;
    let plain = |name: &str| !name.contains('"');
    let known = datasets::stored();
    Ok(rows
        .into_iter()
        .filter(|(table, columns)| {
            plain(table) && columns.iter().all(|c| plain(c)) && known.iter().all(|d| &d.name != table)
        })
        .collect())
}
