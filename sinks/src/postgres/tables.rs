//! Making tables, and finding out how those that are there differ.

use std::collections::BTreeMap;

use catalog::store::pg::fault;
use catalog::{Column, Dataset, Fault, Kind, Result, WriteMode};
use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Executor, Row};

use super::names::{derived, literal, quote};
use crate::Target;

/// The columns that the sink keeps for itself in every table.
const OWN: &[(&str, &str, &str)] = &[
    ("created_at", "timestamp with time zone not null default now()", "when the row was first loaded"),
    ("updated_at", "timestamp with time zone not null default now()", "when the row last changed"),
    ("deleted_at", "timestamp with time zone", "when the row left its snapshot; null while it is there"),
];
/// The column by which a repeated slice finds its own rows in a table that only grows.
pub(crate) const SLICE: &str = "slice_id";

/// The PostgreSQL type of a column, as `format_type` spells it.
pub(crate) fn sql_type(kind: Kind) -> &'static str {
    match kind {
        Kind::Text => "text",
        Kind::Json => "jsonb",
        Kind::Int => "bigint",
        Kind::Money => "numeric(14,2)",
        Kind::Count => "numeric(6,2)",
        Kind::Float => "double precision",
        Kind::Flag => "boolean",
        Kind::Date => "date",
        Kind::Instant => "timestamp with time zone",
    }
}

/// What a table looks like now.
struct Found {
    /// By column: type, whether it must have a value, whether it has a default.
    columns: BTreeMap<String, (String, bool, bool)>,
    key: Vec<String>,
}

/// Makes the tables that are missing and adds nullable columns. Every other difference is listed in one fault, and
/// then nothing has changed. Runs inside the caller's transaction.
///
/// Returns the datasets whose table is new.
pub(crate) async fn prepare(tx: &mut PgConnection, schema: &str, targets: &[Target]) -> Result<Vec<String>> {
    let what = "cannot prepare the tables";
    let mut statements = Vec::new();
    let mut problems = Vec::new();
    let mut changes = Vec::new();
    let mut made = Vec::new();
    // Two processes that start together take turns.
    tx.execute("select pg_advisory_xact_lock(hashtextextended('propflow.prepare', 0))")
        .await
        .map_err(|e| fault(what, e))?;
    if !exists(tx, "select exists (select from pg_namespace where nspname = $1)", schema).await? {
        statements.push(format!("create schema {}", quote(schema)?));
    }
    for Target { dataset, mode } in targets {
        reserved(dataset, *mode)?;
        match find(tx, schema, &dataset.name).await? {
            None => {
                statements.push(create(schema, dataset, *mode)?);
                made.push(dataset.name.clone());
            }
            Some(found) => {
                let table = format!("{}.{}", quote(schema)?, quote(&dataset.name)?);
                for column in compare(dataset, *mode, &found, &mut problems) {
                    let name = quote(&column.name)?;
                    statements.push(format!("alter table {table} add column {name} {}", sql_type(column.kind)));
                    statements.push(format!("comment on column {table}.{name} is {}", literal(&column.about)));
                    changes.push((dataset.name.clone(), format!("added `{}` {}", column.name, sql_type(column.kind))));
                }
            }
        }
    }
    if !problems.is_empty() {
        return Err(Fault::user(format!("the tables do not fit their datasets: {}", problems.join("; ")))
            .hint("Nothing was changed. Alter the tables by hand, or load into another schema."));
    }
    if !statements.is_empty() {
        run(tx, what, statements.join(";\n")).await?;
    }
    if !changes.is_empty() && exists(tx, "select to_regclass($1) is not null", "ops.schema_changes").await? {
        for (dataset, change) in changes {
            sqlx::query("insert into ops.schema_changes (dataset, change) values ($1, $2)")
                .bind(dataset)
                .bind(change)
                .execute(&mut *tx)
                .await
                .map_err(|e| fault("cannot record a schema change", e))?;
        }
    }
    Ok(made)
}

/// Runs statements that were built here, all names in them quoted.
pub(crate) async fn run(connection: &mut PgConnection, what: &str, sql: String) -> Result<u64> {
    sqlx::raw_sql(AssertSqlSafe(sql)).execute(connection).await.map(|r| r.rows_affected()).map_err(|e| fault(what, e))
}

/// Asks a yes-or-no question about a name.
pub(crate) async fn exists(connection: &mut PgConnection, sql: &'static str, name: &str) -> Result<bool> {
    sqlx::query_scalar(sql).bind(name).fetch_one(connection).await.map_err(|e| fault("cannot look at the tables", e))
}

fn reserved(dataset: &Dataset, mode: WriteMode) -> Result<()> {
    let own = |name: &str| OWN.iter().any(|(own, ..)| *own == name) || (mode == WriteMode::Append && name == SLICE);
    match dataset.columns.iter().find(|c| own(&c.name)) {
        None => Ok(()),
        Some(c) => Err(Fault::user(format!("`{}.{}` has a name that the sink keeps for itself", dataset.name, c.name))),
    }
}

fn create(schema: &str, dataset: &Dataset, mode: WriteMode) -> Result<String> {
    let table = format!("{}.{}", quote(schema)?, quote(&dataset.name)?);
    let key = dataset.key();
    let mut lines = Vec::new();
    for c in &dataset.columns {
        let null = if c.required { " not null" } else { "" };
        lines.push(format!("{} {}{null}", quote(&c.name)?, sql_type(c.kind)));
    }
    lines.extend(OWN.iter().map(|(name, rest, _)| format!("{name} {rest}")));
    if mode == WriteMode::Append {
        lines.push(format!("{SLICE} text not null"));
    } else if key.is_empty() {
        return Err(Fault::user(format!("`{}` has no key, so that its rows can only be appended", dataset.name)));
    } else {
        let columns = key.iter().map(|k| quote(k)).collect::<Result<Vec<_>>>()?.join(", ");
        lines.push(format!("constraint {} primary key ({columns})", quote(&derived(&dataset.name, "_key"))?));
    }
    // A row that changes finds room for its new version in its page, and the key's index need not hear of it.
    let room = if matches!(mode, WriteMode::Upsert | WriteMode::Snapshot) { " with (fillfactor = 90)" } else { "" };
    let mut sql = format!("create table {table} ({}){room};\n", lines.join(", "));
    // What left a scope is looked for by the scope: the key serves if it starts with it.
    let index = match (&dataset.scope, mode) {
        (_, WriteMode::Append) => Some(SLICE),
        (Some(scope), _) if key.first() != Some(&scope.as_str()) => Some(scope.as_str()),
        _ => None,
    };
    if let Some(column) = index {
        let name = quote(&derived(&dataset.name, "_scope"))?;
        sql.push_str(&format!("create index {name} on {table} ({});\n", quote(column)?));
    }
    sql.push_str(&format!("comment on table {table} is {};\n", literal(&dataset.about)));
    for c in &dataset.columns {
        sql.push_str(&format!("comment on column {table}.{} is {};\n", quote(&c.name)?, literal(&c.about)));
    }
    for (name, _, about) in OWN {
        sql.push_str(&format!("comment on column {table}.{name} is {};\n", literal(about)));
    }
    Ok(sql.trim_end_matches(";\n").to_owned())
}

/// The columns to add; what cannot be mended goes to `problems`.
fn compare<'a>(dataset: &'a Dataset, mode: WriteMode, found: &Found, problems: &mut Vec<String>) -> Vec<&'a Column> {
    let mut new = Vec::new();
    let mut problem = |text: String| problems.push(format!("`{}`: {text}", dataset.name));
    for c in &dataset.columns {
        match found.columns.get(&c.name) {
            None if c.required => problem(format!("the new column `{}` is required, but there may be rows", c.name)),
            None => new.push(c),
            Some((kind, ..)) if kind != sql_type(c.kind) => {
                problem(format!("`{}` is {kind}, not {}", c.name, sql_type(c.kind)));
            }
            Some((_, required, _)) if *required && !c.required => {
                problem(format!("`{}` must have a value in the table, but not in the dataset", c.name));
            }
            Some((_, required, _)) if !*required && c.required => {
                problem(format!("`{}` must have a value in the dataset, but not in the table", c.name));
            }
            Some(_) => {}
        }
    }
    for (name, _, _) in OWN {
        if !found.columns.contains_key(*name) {
            problem(format!("the column `{name}` is missing"));
        }
    }
    let own = |name: &str| OWN.iter().any(|(own, ..)| *own == name) || (mode == WriteMode::Append && name == SLICE);
    for (name, (_, required, default)) in &found.columns {
        if *required && !default && dataset.column(name).is_none() && !own(name) {
            problem(format!("the table requires `{name}`, which the dataset no longer has"));
        }
    }
    if mode == WriteMode::Append {
        if !found.columns.contains_key(SLICE) {
            problem(format!("the column `{SLICE}` is missing"));
        }
    } else if found.key != dataset.key() {
        problem(format!("its key is ({}), not ({})", found.key.join(", "), dataset.key().join(", ")));
    }
    new
}

async fn find(tx: &mut PgConnection, schema: &str, table: &str) -> Result<Option<Found>> {
    let what = "cannot look at the tables";
    let rows = sqlx::query(
        "select a.attname::text, format_type(a.atttypid, a.atttypmod), a.attnotnull, a.atthasdef, c.relkind::text \
         from pg_class c join pg_namespace n on n.oid = c.relnamespace \
         join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped \
         where n.nspname = $1 and c.relname = $2",
    )
    .bind(schema)
    .bind(table)
    .fetch_all(&mut *tx)
    .await
    .map_err(|e| fault(what, e))?;
    let Some(first) = rows.first() else { return Ok(None) };
    let kind: String = first.get(4);
    if !matches!(kind.as_str(), "r" | "p") {
        return Err(Fault::user(format!("`{schema}.{table}` is there, but is not a table"))
            .hint("Rename it, or load into another schema."));
    }
    let key = sqlx::query_scalar(
        "select a.attname::text from pg_index i join pg_class c on c.oid = i.indrelid \
         join pg_namespace n on n.oid = c.relnamespace, \
         unnest(i.indkey) with ordinality k (attnum, place) \
         join pg_attribute a on a.attnum = k.attnum \
         where n.nspname = $1 and c.relname = $2 and i.indisprimary and a.attrelid = c.oid order by k.place",
    )
    .bind(schema)
    .bind(table)
    .fetch_all(tx)
    .await
    .map_err(|e| fault(what, e))?;
    let columns = rows.iter().map(|r| (r.get(0), (r.get(1), r.get(2), r.get(3)))).collect();
    Ok(Some(Found { columns, key }))
}
