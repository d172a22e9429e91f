//! Erasing: marks first, then the lake, then the tables in one transaction.
//!
//! Once the marks are durable no slice brings the person again. The tables come last, because it is they that say who the
//! person is: whoever is killed before finds them again and repeats what was done, which changes nothing; what the tables lose
//! they lose at once.

use std::collections::BTreeSet;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, StringArray};
use arrow::compute::filter_record_batch;
use arrow::datatypes::DataType;
use catalog::store::audit;
use catalog::store::erasures::{self, OptOuts, Salt};
use catalog::store::pg::fault;
use catalog::{Clock, Result, datasets};
use serde_json::{Value, json};
use sinks::parquet::{Change, Lake};
use sqlx::{AssertSqlSafe, Connection, PgConnection, PgPool};

use super::collect::{self, describe, is_there, mentioned};
use super::load::naming;
use super::person::Person;
use super::places::{Deed, PLACES};
use super::shape::{self, SHAPES, Shape};
use super::words::Words;
use super::{Collected, raw, unknown_tables};

const WHAT: &str = "cannot erase a person";

/// What an erasure met.
#[derive(Debug)]
pub struct Erasure {
    /// What was stored, by place. Holds the person: count it, do not print it.
    pub found: Collected,
    /// When the person was erased before, if so.
    pub before: Option<chrono::DateTime<chrono::Utc>>,
}

/// Erases a person everywhere, or with `dry_run` only says what there is. One erasure runs at a time, and none while a slice
/// is being written. Run again after a kill it goes on; run twice it finds nothing the second time.
///
/// # Errors
/// When a database or a lake fails. Whatever was done stays done, and running it again does the rest.
pub async fn erase(
    pool: &PgPool,
    person: Person,
    lakes: &[String],
    clock: &dyn Clock,
    actor: &str,
    dry_run: bool,
) -> Result<Erasure> {
    // A connection of its own: the lock lives as long as it does.
    let mut own = pool.acquire().await.map_err(|e| fault(WHAT, e))?.detach();
    erasures::alone(&mut own).await?;
    let done = alone(&mut own, person, lakes, clock, actor, dry_run).await;
    let gave_way = erasures::give_way(&mut own).await;
    let _ = own.close().await;
    let done = done?;
    gave_way?;
    Ok(done)
}

async fn alone(
    own: &mut PgConnection,
    person: Person,
    lakes: &[String],
    clock: &dyn Clock,
    actor: &str,
    dry_run: bool,
) -> Result<Erasure> {
    let failed = |e| fault(WHAT, e);
    let salt = Salt::read(own).await?;
    let (kind, value) = person.asked.first().cloned().unwrap_or(("email", String::new()));
    let asked = salt.mark(kind, &value).to_vec();
    let before = erasures::last(own, &asked).await?;
    let person = person.find(own).await?;
    let mut tx = own.begin().await.map_err(failed)?;
    describe(&mut tx, &person).await?;
    let found = collect::collect(&mut tx, &person, lakes).await?;
    tx.rollback().await.map_err(failed)?;
    if dry_run || found.is_empty() {
        return Ok(Erasure { found, before });
    }

    let mut tx = own.begin().await.map_err(failed)?;
    let id = erasures::begin(&mut tx, &asked, &person.marks(&salt), clock.now()).await?;
    if person.opt_outs != OptOuts::default() {
        for mark in person.reach(&salt) {
            erasures::suppress(&mut tx, &mark, person.opt_outs, clock.now()).await?;
        }
    }
    tx.commit().await.map_err(failed)?;

    let mentions = person.mentions(&shared_phones(own, &person).await?);
    for root in lakes {
        rewrite(root, &person, &mentions, clock).await?;
    }

    let mut tx = own.begin().await.map_err(failed)?;
    describe(&mut tx, &person).await?;
    tables(&mut tx, &person, &mentions).await?;
    let counts: Value =
        found.iter().map(|(place, rows)| (place.clone(), json!(rows.len()))).collect::<serde_json::Map<_, _>>().into();
    let subject: String = asked.iter().fold(String::new(), |text, byte| format!("{text}{byte:02x}"));
    let entry = audit::Entry {
        actor,
        action: "gdpr_erase",
        subject: &subject,
        after: Some(counts.clone()),
        ..audit::Entry::default()
    };
    audit::write(&mut tx, &entry).await?;
    erasures::finish(&mut tx, id, &counts, clock.now()).await?;
    tx.commit().await.map_err(failed)?;
    Ok(Erasure { found, before })
}

/// Phones that records of others have too: in these they stay.
async fn shared_phones(connection: &mut PgConnection, person: &Person) -> Result<BTreeSet<String>> {
    let contacts: Vec<uuid::Uuid> = person.contacts.iter().copied().collect();
    let phones: Vec<String> =
        sqlx::query_scalar("select phone from sync.contacts where phone = any($1) and not id = any($2)")
            .bind(person.values("phone"))
            .bind(contacts)
            .fetch_all(&mut *connection)
            .await
            .map_err(|e| fault(WHAT, e))?;
    let mut shared: BTreeSet<String> = phones.into_iter().collect();
    for shape in SHAPES.iter() {
        let mine = shape.condition(&|kind| person.values(kind))?;
        for column in &shape.phones {
            let sql = format!(
                "select distinct to_jsonb(t.\"{column}\") from core.\"{}\" t where t.\"{column}\" = any($2) and not {mine}",
                shape.dataset
            );
            let phones = person.rows(&mut *connection, sql).await?;
            shared.extend(phones.iter().filter_map(Value::as_str).map(str::to_owned));
        }
    }
    Ok(shared)
}

/// Rewrites the files of a lake that hold the person.
async fn rewrite(root: &str, person: &Person, mentions: &Words, clock: &dyn Clock) -> Result<()> {
    let lake = Lake::open(root)?;
    let guests = person.values("guest");
    for file in lake.files().await? {
        let shape = shape::find(&file.dataset);
        let change = |batch: &RecordBatch| -> Result<Change> {
            match shape {
                Some(shape) => blank(shape, batch, person, mentions),
                None if file.dataset == "booking_changes" => forget_guests(batch, &guests),
                None if datasets::find(&file.dataset).is_some() => Ok(Change::Same),
                None => {
                    let rows = naming(batch, &|text| mentions.is_in(text))?;
                    if rows.true_count() == 0 {
                        return Ok(Change::Same);
                    }
                    Ok(Change::Rows(filter_record_batch(batch, &arrow::compute::not(&rows)?)?))
                }
            }
        };
        lake.rewrite(&file, &change).await?;
    }
    let words: Vec<String> = person.values("email").into_iter().chain(person.values("phone")).collect();
    let has = move |bytes: &[u8]| {
        let lower = bytes.to_ascii_lowercase();
        words.iter().any(|word| lower.windows(word.len()).any(|part| part == word.as_bytes()))
    };
    lake.forget_leftovers(has, clock.now().into()).await.map(|_| ())
}

/// A batch without the person.
fn blank(shape: &Shape, batch: &RecordBatch, person: &Person, mentions: &Words) -> Result<Change> {
    let rows = shape.matches(batch, &|kind, value| person.is(kind, value))?;
    let rows = collect::still_named(shape, batch, rows)?;
    let mut changed = rows.true_count() > 0;
    let batch = if changed { shape.blanked(batch, &rows, true)? } else { batch.clone() };
    let schema = batch.schema();
    let mut columns: Vec<ArrayRef> = batch.columns().to_vec();
    for (column, field) in columns.iter_mut().zip(schema.fields()) {
        if !shape.texts.contains(field.name()) || field.data_type() != &DataType::Utf8 {
            continue;
        }
        let texts = column.as_string::<i32>();
        let clean: Vec<Option<String>> = texts.iter().map(|t| mentions.replace(t?)).collect();
        if clean.iter().any(Option::is_some) {
            changed = true;
            let merged: StringArray =
                texts.iter().zip(clean).map(|(old, new)| new.or_else(|| old.map(str::to_owned))).collect();
            *column = std::sync::Arc::new(merged);
        }
    }
    Ok(if changed { Change::Rows(RecordBatch::try_new(schema, columns)?) } else { Change::Same })
}

/// Changes of a booking's guest, without the ids that the guest had.
fn forget_guests(batch: &RecordBatch, guests: &[String]) -> Result<Change> {
    let schema = batch.schema();
    let mut columns: Vec<ArrayRef> = batch.columns().to_vec();
    let mut changed = false;
    for (column, field) in columns.iter_mut().zip(schema.fields()) {
        if !["before", "after"].contains(&field.name().as_str()) || field.data_type() != &DataType::Utf8 {
            continue;
        }
        let texts = column.as_string::<i32>();
        let named = |text: &str| guests.iter().find(|g| text.starts_with(g.as_str()));
        if (0..texts.len()).any(|row| texts.is_valid(row) && named(texts.value(row)).is_some()) {
            changed = true;
            let clean: StringArray = texts
                .iter()
                .map(|text| {
                    text.map(|t| named(t).map_or_else(|| t.to_owned(), |g| t.replacen(g.as_str(), "erased", 1)))
                })
                .collect();
            *column = std::sync::Arc::new(clean);
        }
    }
    Ok(if changed { Change::Rows(RecordBatch::try_new(schema, columns)?) } else { Change::Same })
}

/// Everything in the tables.
async fn tables(tx: &mut PgConnection, person: &Person, mentions: &Words) -> Result<()> {
    let found = raw::deliveries(tx, person).await?;
    let answers = raw::answers(tx, person).await?;
    raw::erase(tx, person, &found, &answers).await?;
    // What was told to others about this person's stays keeps its place and loses the name.
    let stays = "in (select value from pg_temp.gdpr_values where kind = 'stay')";
    let (about, tasks) = (
        format!("left(t.lane, -length(substring(t.lane from '/[^/]*$'))) {stays}"),
        format!(
            "exists (select from sync.service_tasks s where s.booking_id {stays} \
             and starts_with(t.dedupe_key, 'service/' || s.task_id || '/'))"
        ),
    );
    sweep(tx, "sync.outbox", &["payload"], &person.words(), &about).await?;
    sweep(tx, "sync.notifications", &["subject", "body"], &person.words(), &tasks).await?;
    for place in PLACES {
        if place.find == "false" || !is_there(tx, place.table).await? {
            continue;
        }
        let sql = match place.deed {
            Deed::Delete => format!("delete from {} t where {}", place.table, place.find),
            Deed::Set(set, _) => format!("update {} t set {set} where {}", place.table, place.find),
            Deed::Own(_) | Deed::Nobody => continue,
        };
        run(tx, sql).await?;
    }
    core(tx, person, mentions).await?;
    for place in PLACES {
        if !place.swept.is_empty() && is_there(tx, place.table).await? {
            sweep(tx, place.table, place.swept, mentions, "true").await?;
        }
    }
    Ok(())
}

async fn core(tx: &mut PgConnection, person: &Person, mentions: &Words) -> Result<()> {
    for shape in SHAPES.iter() {
        let table = format!("core.\"{}\"", shape.dataset);
        let condition = shape.condition(&|kind| person.values(kind))?;
        let sql = shape.emptying(&condition)?;
        let done = person.query(sql).execute(&mut *tx).await.map_err(|e| fault(WHAT, e))?;
        let mut met = done.rows_affected();
        let texts: Vec<&str> = shape.texts.iter().map(String::as_str).collect();
        met += sweep(tx, &table, &texts, mentions, "true").await?;
        if met > 0 {
            forget_digests(tx, &shape.dataset).await?;
        }
    }
    for guest in person.values("guest") {
        sqlx::query(
            "update core.booking_changes set before = replace(before, $1, 'erased'), after = replace(after, $1, 'erased'), \
             updated_at = now() where change = 'guest' and (starts_with(before, $1) or starts_with(after, $1))",
        )
        .bind(guest)
        .execute(&mut *tx)
        .await
        .map_err(|e| fault(WHAT, e))?;
    }
    for (table, columns) in unknown_tables(tx).await? {
        let met = run(tx, format!("delete from core.\"{table}\" t where {}", mentioned(&columns))).await?;
        if met > 0 {
            forget_digests(tx, &table).await?;
        }
    }
    Ok(())
}

/// What was last written into a table of `core` is what is there no more.
async fn forget_digests(tx: &mut PgConnection, table: &str) -> Result<()> {
    let sql = "delete from ops.digests where dataset = $1";
    sqlx::query(sql).bind(format!("core.{table}")).execute(tx).await.map_err(|e| fault(WHAT, e)).map(|_| ())
}

/// Replaces the words in these columns of the rows that meet a condition.
async fn sweep(tx: &mut PgConnection, table: &str, columns: &[&str], words: &Words, condition: &str) -> Result<u64> {
    let Some(pattern) = words.pattern().filter(|_| !columns.is_empty()) else { return Ok(0) };
    let (schema, name) = table.split_once('.').unwrap_or(("core", table));
    let kinds: Vec<(String, String)> = sqlx::query_as(
        "select column_name::text, data_type::text from information_schema.columns where table_schema = $1 and table_name = $2",
    )
    .bind(schema)
    .bind(name.trim_matches('"'))
    .fetch_all(&mut *tx)
    .await
    .map_err(|e| fault(WHAT, e))?;
    let (mut set, mut has) = (Vec::new(), Vec::new());
    for (column, kind) in kinds.iter().filter(|(c, _)| columns.contains(&c.as_str())) {
        let cast = if kind == "jsonb" { "::jsonb" } else { "" };
        set.push(format!("\"{column}\" = regexp_replace(t.\"{column}\"::text, $1, $2, 'gi'){cast}"));
        has.push(format!("t.\"{column}\"::text ~* $1"));
    }
    if set.is_empty() {
        return Ok(0);
    }
    let sql = format!("update {table} t set {} where {condition} and ({})", set.join(", "), has.join(" or "));
    // As parameters: the statement is logged, they are not.
    let swept = sqlx::query(AssertSqlSafe(sql)).bind(pattern).bind(super::words::ERASED).execute(tx).await;
    swept.map(|done| done.rows_affected()).map_err(|e| fault(WHAT, e))
}

async fn run(tx: &mut PgConnection, sql: String) -> Result<u64> {
    // The server's own words about a failed statement can repeat values, so they stay out of the fault.
    let done = sqlx::raw_sql(AssertSqlSafe(sql)).execute(tx).await.map_err(|e| fault(WHAT, e))?;
    Ok(done.rows_affected())
}
