//! Everything that is stored of a person, place by place.

use std::collections::BTreeMap;

use arrow::array::RecordBatch;
use arrow::compute::filter_record_batch;
use arrow::json::LineDelimitedWriter;
use catalog::store::pg::fault;
use catalog::{Fault, Result, datasets};
use serde_json::Value;
use sinks::parquet::Lake;
use sqlx::{AssertSqlSafe, PgConnection};

use super::load::naming;
use super::person::Person;
use super::places::PLACES;
use super::shape::{self, SHAPES};
use super::{raw, unknown_tables};

/// Rows as JSON by place: a table, `lake/` and a dataset.
pub type Collected = BTreeMap<String, Vec<Value>>;

const WHAT: &str = "cannot collect what is stored of a person";

/// Writes down for SQL who the person is, until the transaction ends.
pub(super) async fn describe(tx: &mut PgConnection, person: &Person) -> Result<()> {
    let failed = |e| fault(WHAT, e);
    sqlx::raw_sql(
        "create temp table gdpr_contacts (id uuid primary key) on commit drop; \
         create temp table gdpr_values (kind text, value text) on commit drop",
    )
    .execute(&mut *tx)
    .await
    .map_err(failed)?;
    sqlx::query("insert into pg_temp.gdpr_contacts select unnest($1::uuid[])")
        .bind(person.contacts.iter().copied().collect::<Vec<_>>())
        .execute(&mut *tx)
        .await
        .map_err(failed)?;
    let mut values: Vec<(&str, String)> = Vec::new();
    for kind in shape::KINDS {
        values.extend(person.values(kind).into_iter().map(|value| (kind, value)));
    }
    values.extend(person.words().pattern().map(|pattern| ("pattern", pattern)));
    let (kinds, values): (Vec<&str>, Vec<String>) = values.into_iter().unzip();
    sqlx::query("insert into pg_temp.gdpr_values select * from unnest($1::text[], $2::text[])")
        .bind(kinds)
        .bind(values)
        .execute(tx)
        .await
        .map_err(failed)?;
    Ok(())
}

/// Whether a table of the registry is there.
pub(super) async fn is_there(tx: &mut PgConnection, table: &str) -> Result<bool> {
    sqlx::query_scalar("select to_regclass($1) is not null").bind(table).fetch_one(tx).await.map_err(|e| fault(WHAT, e))
}

/// Everything of a person, from the tables and these lakes. The connection is in a transaction that knows the person.
pub(super) async fn collect(tx: &mut PgConnection, person: &Person, lakes: &[String]) -> Result<Collected> {
    let mut all = Collected::new();
    let mut add = |place: String, rows: Vec<Value>| {
        if !rows.is_empty() {
            all.entry(place).or_default().extend(rows);
        }
    };
    for shape in SHAPES.iter() {
        let condition = shape.condition(&|kind| person.values(kind))?;
        let sql = format!("select to_jsonb(t) from core.\"{}\" t where {condition}", shape.dataset);
        let rows = person.rows(&mut *tx, sql).await?;
        // What was blanked once is the person's no more.
        let named = |row: &Value| shape.goes || shape.blank.iter().any(|c| !row[c].is_null());
        add(format!("core.{}", shape.dataset), rows.into_iter().filter(named).collect());
    }
    for (table, columns) in unknown_tables(tx).await? {
        let sql = format!("select to_jsonb(t) from core.\"{table}\" t where {}", mentioned(&columns));
        let rows = sqlx::query_scalar(AssertSqlSafe(sql)).fetch_all(&mut *tx).await.map_err(|e| fault(WHAT, e))?;
        add(format!("core.{table}"), rows);
    }
    for place in PLACES.iter().filter(|p| p.find != "false") {
        if is_there(tx, place.table).await? {
            let sql = format!("select to_jsonb(t) from {} t where {}", place.table, place.find);
            let rows: Vec<Value> =
                sqlx::query_scalar(AssertSqlSafe(sql)).fetch_all(&mut *tx).await.map_err(|e| fault(WHAT, e))?;
            // What was emptied once is the person's no more.
            let done = |row: &Value| match place.table {
                "sync.outbox" => row["payload"] == serde_json::json!({}),
                "sync.outbox_tries" => row["reason"].is_null(),
                _ => false,
            };
            add(place.table.to_owned(), rows.into_iter().filter(|r| !done(r)).collect());
        }
    }
    add("ops.deliveries".to_owned(), raw::deliveries(tx, person).await?.into_iter().map(|f| f.shown).collect());
    add("ops.requests".to_owned(), raw::answers(tx, person).await?.into_iter().map(|f| f.shown).collect());
    let words = person.words();
    for root in lakes {
        let lake = Lake::open(root)?;
        for file in lake.files().await? {
            let shape = shape::find(&file.dataset);
            if shape.is_none() && datasets::find(&file.dataset).is_some() {
                continue;
            }
            let Some((_, reader)) = lake.rows(&file).await? else { continue };
            for batch in reader {
                let batch = batch?;
                let rows = match shape {
                    Some(shape) => {
                        let rows = shape.matches(&batch, &|kind, value| person.is(kind, value))?;
                        still_named(shape, &batch, rows)?
                    }
                    None => naming(&batch, &|text| words.is_in(text))?,
                };
                if rows.true_count() > 0 {
                    add(format!("lake/{}", file.dataset), lines(&filter_record_batch(&batch, &rows)?)?);
                }
            }
        }
    }
    Ok(all)
}

/// Of the matched rows those that are not blanked yet.
pub(super) fn still_named(
    shape: &shape::Shape,
    batch: &RecordBatch,
    rows: arrow::array::BooleanArray,
) -> Result<arrow::array::BooleanArray> {
    use arrow::array::Array;
    if shape.goes {
        return Ok(rows);
    }
    let columns: Vec<_> = shape.blank.iter().filter_map(|c| batch.column_by_name(c)).collect();
    Ok((0..batch.num_rows()).map(|at| Some(rows.value(at) && columns.iter().any(|c| c.is_valid(at)))).collect())
}

/// SQL that finds rows of a table that name the person anywhere.
pub(super) fn mentioned(columns: &[String]) -> String {
    let texts: Vec<String> = columns.iter().map(|c| format!("t.\"{c}\"::text")).collect();
    format!(
        "exists (select from pg_temp.gdpr_values v where v.kind = 'pattern' and concat_ws(chr(10), {}) ~* v.value)",
        texts.join(", ")
    )
}

fn lines(batch: &RecordBatch) -> Result<Vec<Value>> {
    let mut out = Vec::new();
    let mut writer = LineDelimitedWriter::new(&mut out);
    writer.write(batch)?;
    writer.finish()?;
    serde_json::Deserializer::from_slice(&out)
        .into_iter::<Value>()
        .collect::<Result<_, _>>()
        .map_err(|e| Fault::us("rows of the lake have no JSON form").because(e))
}
