//! Settling: from what each connection says to what is agreed.
//!
//! A slice brings what one connection says of some reservations; which bookings that makes depends on what all the others
//! say of the same property. So after a slice, the properties that it touched are computed anew from the tables and
//! written through the same sinks as a slice of their own.
//!
//! - Triggers mark what changed in `ops.unsettled`, in the transaction that changes it. The marks go away only behind the
//!   commit of the settling, so that whoever is killed in between leaves them for the next one. Settling twice is as once.
//! - One settling runs at a time, under an advisory lock that its transaction holds. It takes all marks that are there, up
//!   to `GROUP` properties, so that waiting ones find their work done.
//! - A property is also settled when time alone changes it: `ops.settled.due_at`.
//!
//! Without propflow's database there is nothing to agree with: the rows of the run itself are settled at its end.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, StringArray};
use arrow::datatypes::TimestampMicrosecondType;
use catalog::datasets::bookings::{former, sources};
use catalog::slice::Scope;
use catalog::store::pg::fault;
use catalog::{Cursor, Fault, Result, datasets};
use chrono::{DateTime, Days, NaiveTime, TimeDelta, TimeZone, Utc};
use chrono_tz::Tz;
use sqlx::{AssertSqlSafe, Executor, PgConnection, PgPool, Row};
use transforms::{Inputs, Model, SliceInfo};

/// Most properties settled together: what is held in memory, and how long others wait.
const GROUP: usize = 40;
/// Most marks looked at in one settling.
const MARKS: i64 = 5_000;
/// The layer of the models that settle.
pub const LAYER: &str = "settle";
/// The models that say which property a listing is; they run before the others, over all listings.
const LISTINGS: [&str; 2] = ["listings", "platform_listings"];
/// The connector of own systems, which have no listings but the operator's properties.
const OWN_SYSTEMS: &str = "intake";
/// The tables that are read whole for the properties that are settled.
const WHOLE: [&str; 2] = ["bookings", "calendar_days"];

/// Rows by dataset.
pub type Tables = BTreeMap<String, Vec<RecordBatch>>;

/// What a settling made, to be written as a slice.
#[derive(Debug)]
pub struct Settled {
    /// Rows by dataset.
    pub tables: Tables,
    /// The properties that are whole in it.
    pub complete: BTreeMap<String, Vec<Scope>>,
    /// What the models could not use.
    pub rejects: Vec<catalog::Reject>,
    /// When it was computed.
    pub observed_at: DateTime<Utc>,
}

/// The models of a slice, and those that settle.
pub fn split(models: &[&'static Model]) -> (Vec<&'static Model>, Vec<&'static Model>) {
    models.iter().partition(|m| m.layer != LAYER)
}

/// Marks, indices and triggers on the tables of sources. Does nothing when they are there.
///
/// # Errors
/// When the database refuses.
pub async fn setup(pool: &PgPool) -> Result<()> {
    let what = "cannot set up the settling";
    let there: bool =
        sqlx::query_scalar("select exists (select from pg_trigger where tgname = 'propflow_unsettled_update_guests')")
            .fetch_one(pool)
            .await
            .map_err(|e| fault(what, e))?;
    if there {
        return Ok(());
    }
    let mut sql = String::from(
        "select pg_advisory_xact_lock(hashtextextended('propflow.prepare', 0));\n\
         create index if not exists source_bookings_by_listing on core.source_bookings (connection, listing_id);\n\
         create index if not exists source_bookings_by_code on core.source_bookings (upper(external_code));\n\
         create index if not exists source_bookings_by_guest on core.source_bookings (connection, guest_id);\n\
         create index if not exists listings_by_property on core.listings (property_id);\n\
         create index if not exists booking_sources_by_booking on core.booking_sources (booking_id);\n\
         create index if not exists bookings_by_guest on core.bookings (guest_id);\n",
    );
    for table in ["bookings", "removals", "listings", "guests"] {
        for (event, rows) in
            [("insert", "new table as new_rows"), ("update", "old table as old_rows new table as new_rows")]
        {
            sql.push_str(&format!(
                "create or replace trigger propflow_unsettled_{event}_{table} after {event} on core.source_{table} \
                 referencing {rows} for each statement execute function ops.mark_{table}();\n"
            ));
        }
    }
    let mut tx = pool.begin().await.map_err(|e| fault(what, e))?;
    tx.execute(sqlx::raw_sql(AssertSqlSafe(sql))).await.map_err(|e| fault(what, e))?;
    tx.commit().await.map_err(|e| fault(what, e))
}

/// Where a settling's slice goes.
#[async_trait::async_trait]
pub trait Store: Send {
    /// Writes what was settled, and is back when it is durable.
    async fn store(&mut self, settled: Settled) -> Result<()>;
}

/// Settles until nothing is pending or due. Gives the number of properties.
///
/// # Errors
/// When the tables cannot be read or written, or a model fails. What is pending stays pending.
pub async fn settle(
    pool: &PgPool,
    models: &[&'static Model],
    info: &SliceInfo,
    now: DateTime<Utc>,
    store: &mut dyn Store,
) -> Result<usize> {
    let mut settled = 0;
    while pending(pool, now).await? {
        settled += once(pool, models, info, now, store).await?;
    }
    Ok(settled)
}

/// Whether anything waits to be settled.
///
/// # Errors
/// When the database cannot be asked.
pub async fn pending(pool: &PgPool, now: DateTime<Utc>) -> Result<bool> {
    sqlx::query_scalar(
        "select exists (select from ops.unsettled) or exists (select from ops.settled where due_at <= $1)",
    )
    .bind(now)
    .fetch_one(pool)
    .await
    .map_err(|e| fault("cannot see what waits to be settled", e))
}

const WHAT: &str = "cannot settle bookings";

/// One settling: takes the lock, so that what it reads is what the former one wrote.
async fn once(
    pool: &PgPool,
    models: &[&'static Model],
    info: &SliceInfo,
    now: DateTime<Utc>,
    store: &mut dyn Store,
) -> Result<usize> {
    let failed = |e| fault(WHAT, e);
    let mut tx = pool.begin().await.map_err(failed)?;
    tx.execute("set local jit = off; select pg_advisory_xact_lock(hashtextextended('propflow.settle', 0))")
        .await
        .map_err(failed)?;
    let info = SliceInfo { observed_at: now, ..info.clone() };
    let marks: Vec<(i64, String, String, String)> =
        sqlx::query_as("select id, connection, listing_id, what from ops.unsettled order by id desc limit $1")
            .bind(MARKS)
            .fetch_all(&mut *tx)
            .await
            .map_err(failed)?;
    let mentioned: BTreeSet<(&str, &str)> = marks.iter().map(|(_, c, l, _)| (c.as_str(), l.as_str())).collect();
    let (connections, listings): (Vec<&str>, Vec<&str>) = mentioned.iter().copied().unzip();
    let unknown: bool = sqlx::query_scalar(
        "select exists (select from unnest($1::text[], $2::text[]) m (connection, listing_id) \
         where not exists (select from core.listings l where l.connection = m.connection and l.listing_id = m.listing_id))",
    )
    .bind(&connections)
    .bind(&listings)
    .fetch_one(&mut *tx)
    .await
    .map_err(failed)?;
    if unknown
        || marks.iter().any(|(_, _, _, what)| what == "listing")
        || named(&mut tx, &connections, &listings, false).await?.iter().any(|(.., property)| property.is_some())
    {
        relist(pool, &mut tx, models, &info, &mentioned, store).await?;
    }
    let mut properties: Vec<String> = sqlx::query_scalar(
        "select distinct l.property_id from unnest($1::text[], $2::text[]) m (connection, listing_id) \
         join core.listings l on l.connection = m.connection and l.listing_id = m.listing_id \
         where l.property_id is not null",
    )
    .bind(&connections)
    .bind(&listings)
    .fetch_all(&mut *tx)
    .await
    .map_err(failed)?;
    // What does not fit into this group is due at once; its marks may go.
    let rest = properties.split_off(properties.len().min(GROUP));
    sqlx::query(
        "insert into ops.settled (property_id, due_at) select p, 'epoch' from unnest($1::text[]) p order by p \
         on conflict (property_id) do update set due_at = excluded.due_at, updated_at = now()",
    )
    .bind(&rest)
    .execute(&mut *tx)
    .await
    .map_err(failed)?;
    let due: Vec<String> = sqlx::query_scalar(
        "select property_id from ops.settled where due_at <= $1 and not property_id = any($2) order by due_at limit $3",
    )
    .bind(now)
    .bind(&rest)
    .bind(i64::try_from(GROUP - properties.len()).unwrap_or(0))
    .fetch_all(&mut *tx)
    .await
    .map_err(failed)?;
    properties.extend(due);
    properties.sort_unstable();
    properties.dedup();
    let count = properties.len();
    if !properties.is_empty() {
        settle_properties(&mut tx, models, &info, properties, store).await?;
    }
    sqlx::query("delete from ops.unsettled where id = any($1)")
        .bind(marks.iter().map(|(id, ..)| *id).collect::<Vec<_>>())
        .execute(&mut *tx)
        .await
        .map_err(failed)?;
    tx.commit().await.map_err(failed)?;
    Ok(count)
}

/// Finds out anew which property each listing is. Properties that lose or gain a listing are due at once, which is durable
/// before the listings are.
async fn relist(
    pool: &PgPool,
    tx: &mut PgConnection,
    models: &[&'static Model],
    info: &SliceInfo,
    mentioned: &BTreeSet<(&str, &str)>,
    store: &mut dyn Store,
) -> Result<()> {
    let mut tables = Tables::new();
    read(tx, &mut tables, "source_listings", "source_listings", "true").await?;
    read(tx, &mut tables, "source_removals", "source_removals", "t.object = 'listing'").await?;
    read(tx, &mut tables, "listings", &former("listings"), "true").await?;
    let map: Vec<(String, String, String)> =
        sqlx::query_as("select connection, listing_id, property_id from sync.listing_map")
            .fetch_all(&mut *tx)
            .await
            .map_err(|e| fault(WHAT, e))?;
    let map: Vec<[&str; 3]> = map.iter().map(|(c, l, p)| [c.as_str(), l.as_str(), p.as_str()]).collect();
    tables.insert("listing_map".to_owned(), vec![texts("listing_map", &map)?]);
    let (connections, names): (Vec<&str>, Vec<&str>) = mentioned.iter().copied().unzip();
    let named = named(tx, &connections, &names, true).await?;
    let (called, others): (Vec<_>, Vec<_>) = named.iter().partition(|(.., property)| property.is_some());
    let called: Vec<[&str; 3]> = called.iter().map(|(c, l, _)| [c.as_str(), l.as_str(), l.as_str()]).collect();
    let others: Vec<[&str; 2]> = others.iter().map(|(c, l, _)| [c.as_str(), l.as_str()]).collect();
    let both = vec![texts("named_listings", &called)?, texts("named_listings", &others)?];
    tables.insert("named_listings".to_owned(), both);
    let new: Vec<[&str; 2]> = mentioned.iter().map(|(c, l)| [*c, *l]).collect();
    tables.entry(former("listings")).or_default().push(texts(&former("listings"), &new)?);
    let before = properties_of(tables.get(&former("listings")))?;
    let models: Vec<&Model> = models.iter().copied().filter(|m| LISTINGS.contains(&m.name.as_str())).collect();
    let output = transforms::run(&models, Inputs { tables, slice: info.clone() }).await?;
    let after = properties_of(output.tables.get("listings"))?;
    let mut moved: BTreeSet<&str> = BTreeSet::new();
    for (listing, property) in &after {
        let former = before.get(listing).and_then(Option::as_deref);
        if former != property.as_deref() {
            moved.extend(former.into_iter().chain(property.as_deref()));
        }
    }
    sqlx::query(
        "insert into ops.settled (property_id, due_at) select p, 'epoch' from unnest($1::text[]) p order by p \
         on conflict (property_id) do update set due_at = excluded.due_at, updated_at = now()",
    )
    .bind(moved.iter().copied().collect::<Vec<_>>())
    .execute(pool)
    .await
    .map_err(|e| fault(WHAT, e))?;
    store
        .store(Settled {
            tables: output.tables,
            complete: BTreeMap::new(),
            rejects: output.rejects,
            observed_at: info.observed_at,
        })
        .await
}

/// The listings among these that only own systems mention and that have no property, with the property of that name if
/// there is one. With `anew`, all such listings, also those that are called like a property already, and only properties that
/// were loaded: which ones have listings is found out with the listings.
async fn named(
    tx: &mut PgConnection,
    connections: &[&str],
    listings: &[&str],
    anew: bool,
) -> Result<Vec<(String, String, Option<String>)>> {
    let failed = |e| fault(WHAT, e);
    let loaded: bool = sqlx::query_scalar("select to_regclass('core.properties') is not null")
        .fetch_one(&mut *tx)
        .await
        .map_err(failed)?;
    let loaded = if loaded {
        "exists (select from core.properties p where p.property_id = m.listing_id and p.deleted_at is null)"
    } else {
        "false"
    };
    let sql = format!(
        "select m.connection, m.listing_id, case when {loaded} or (not $4 and exists ( \
             select from core.listings k where k.property_id = m.listing_id)) then m.listing_id end \
         from (select * from unnest($1::text[], $2::text[]) \
           union select connection, listing_id from core.listings where $4 and connector is null) m (connection, listing_id) \
         left join core.listings l on l.connection = m.connection and l.listing_id = m.listing_id \
         where (l.property_id is null or $4) and exists (select from core.source_bookings b \
           where b.connection = m.connection and b.listing_id = m.listing_id and b.connector = $3)"
    );
    sqlx::query_as(AssertSqlSafe(sql))
        .bind(connections)
        .bind(listings)
        .bind(OWN_SYSTEMS)
        .bind(anew)
        .fetch_all(tx)
        .await
        .map_err(failed)
}

type Listed = BTreeMap<(String, String), Option<String>>;

fn properties_of(batches: Option<&Vec<RecordBatch>>) -> Result<Listed> {
    let mut all = Listed::new();
    for batch in batches.into_iter().flatten() {
        let text = |column: &str| -> Result<&StringArray> {
            batch
                .column_by_name(column)
                .and_then(|c| c.as_string_opt::<i32>())
                .ok_or_else(|| Fault::us(format!("listings have no `{column}`")))
        };
        let (connections, listings) = (text("connection")?, text("listing_id")?);
        let properties = batch.column_by_name("property_id").and_then(|c| c.as_string_opt::<i32>());
        for row in 0..batch.num_rows() {
            let property = properties.filter(|p| p.is_valid(row)).map(|p| p.value(row).to_owned());
            // A listing that is only mentioned again stands behind what is known of it.
            all.entry((connections.value(row).to_owned(), listings.value(row).to_owned())).or_insert(property);
        }
    }
    Ok(all)
}

/// Computes some properties from the tables and writes them.
async fn settle_properties(
    tx: &mut PgConnection,
    models: &[&'static Model],
    info: &SliceInfo,
    properties: Vec<String>,
    store: &mut dyn Store,
) -> Result<()> {
    let now = info.observed_at;
    let properties = gather(tx, properties, now).await?;
    let mut tables = Tables::new();
    let ours = "in (select connection, source_booking_id from pg_temp.propflow_settling)";
    read(tx, &mut tables, "source_bookings", "source_bookings", &format!("(t.connection, t.source_booking_id) {ours}"))
        .await?;
    let removals = format!("t.object = 'reservation' and (t.connection, t.object_id) {ours}");
    read(tx, &mut tables, "source_removals", "source_removals", &removals).await?;
    let listings = "t.property_id in (select property_id from pg_temp.propflow_settling_places)";
    read(tx, &mut tables, "listings", "listings", listings).await?;
    let guests = "(t.connection, t.guest_id) in (select b.connection, b.guest_id from core.source_bookings b \
         join pg_temp.propflow_settling r on r.connection = b.connection and r.source_booking_id = b.source_booking_id)";
    read(tx, &mut tables, "source_guests", "source_guests", guests).await?;
    let of_sources = format!("(t.connection, t.source_booking_id) {ours}");
    read(tx, &mut tables, "booking_sources", &former("booking_sources"), &of_sources).await?;
    let of_bookings = "(t.property_id in (select property_id from pg_temp.propflow_settling_places p where p.settling) \
         or t.booking_id in (select s.booking_id from core.booking_sources s join pg_temp.propflow_settling r \
           on r.connection = s.connection and r.source_booking_id = s.source_booking_id where s.role <> 'echo'))";
    read(tx, &mut tables, "bookings", &former("bookings"), of_bookings).await?;
    let known = known_guests(tx, &mut tables).await?;
    let settling: Vec<[&str; 1]> = properties.iter().map(|p| [p.as_str()]).collect();
    tables.insert("settling".to_owned(), vec![texts("settling", &settling)?]);
    let zones = zones(tables.get("listings"))?;
    let output = compute(models, tables, info).await?;
    let due = due(&properties, &zones, output.tables.get("bookings"), now)?;
    let replaced = replaced_guests(&known, output.tables.get("guest_identities"))?;
    let scopes: Vec<Scope> = properties.iter().map(|p| Scope { value: p.clone(), origins: None }).collect();
    store
        .store(Settled {
            complete: WHOLE.iter().map(|name| ((*name).to_owned(), scopes.clone())).collect(),
            observed_at: now,
            ..output
        })
        .await?;
    let (names, instants): (Vec<String>, Vec<DateTime<Utc>>) = due.into_iter().unzip();
    sqlx::query(
        "insert into ops.settled (property_id, settled_at, due_at) \
         select p, $3, d from unnest($1::text[], $2::timestamptz[]) x (p, d) order by p \
         on conflict (property_id) do update set settled_at = excluded.settled_at, due_at = excluded.due_at, updated_at = now()",
    )
    .bind(&names)
    .bind(&instants)
    .bind(now)
    .execute(&mut *tx)
    .await
    .map_err(|e| fault(WHAT, e))?;
    // Two people turned out to be one: the other bookings of the one that is no more are told.
    sqlx::query(
        "insert into ops.unsettled (connection, listing_id, what) \
         select distinct connection, listing_id, 'booking' from core.bookings \
         where guest_id = any($1) and deleted_at is null and not property_id = any($2)",
    )
    .bind(&replaced)
    .bind(&names)
    .execute(tx)
    .await
    .map_err(|e| fault(WHAT, e))?;
    Ok(())
}

/// Everything that is made of listings that are placed already.
async fn compute(models: &[&'static Model], mut tables: Tables, info: &SliceInfo) -> Result<Settled> {
    transforms::settle::assign(&mut tables, info.observed_at)?;
    let models: Vec<&Model> = models.iter().copied().filter(|m| !LISTINGS.contains(&m.name.as_str())).collect();
    let output = transforms::run(&models, Inputs { tables, slice: info.clone() }).await?;
    Ok(Settled {
        tables: output.tables,
        complete: BTreeMap::new(),
        rejects: output.rejects,
        observed_at: info.observed_at,
    })
}

/// Fills the temporary tables with the reservations that decide these properties: all of their listings, and those of
/// other properties that share a booking or a code with them. Properties that share a stay which is not long over are
/// settled together: a move frees the old nights in the transaction that takes the new ones.
async fn gather(tx: &mut PgConnection, properties: Vec<String>, now: DateTime<Utc>) -> Result<Vec<String>> {
    let failed = |e| fault(WHAT, e);
    tx.execute(
        "create temp table if not exists propflow_settling (connection text, source_booking_id text) on commit delete rows; \
         create temp table if not exists propflow_settling_places (property_id text, settling boolean) on commit delete rows",
    )
    .await
    .map_err(failed)?;
    let mut all = properties;
    for _ in 0..2 {
        tx.execute("delete from pg_temp.propflow_settling").await.map_err(failed)?;
        sqlx::query(
            "insert into pg_temp.propflow_settling \
             with recursive mine (connection, source_booking_id) as ( \
               select b.connection, b.source_booking_id from core.source_bookings b \
               join core.listings l on l.connection = b.connection and l.listing_id = b.listing_id \
               where l.property_id = any($1) \
               union \
               select x.connection, x.source_booking_id from mine m \
               cross join lateral ( \
                 select o.connection, o.source_booking_id from core.source_bookings b \
                 join core.source_bookings o on upper(o.external_code) = upper(b.external_code) and o.platform = b.platform \
                 where b.connection = m.connection and b.source_booking_id = m.source_booking_id \
                   and b.platform not in ('direct', 'unknown') \
                 union all \
                 select o.connection, o.source_booking_id from core.booking_sources s \
                 join core.booking_sources o on o.booking_id = s.booking_id \
                 where s.connection = m.connection and s.source_booking_id = m.source_booking_id \
                   and s.role <> 'echo' and o.role <> 'echo') x \
             ) select * from mine",
        )
        .bind(&all)
        .execute(&mut *tx)
        .await
        .map_err(failed)?;
        let beside: Vec<String> = sqlx::query_scalar(
            "select l.property_id from pg_temp.propflow_settling r \
             join core.source_bookings b on b.connection = r.connection and b.source_booking_id = r.source_booking_id \
             join core.listings l on l.connection = b.connection and l.listing_id = b.listing_id \
             where l.property_id is not null and b.check_out >= $1 and not l.property_id = any($2) \
             union \
             select k.property_id from pg_temp.propflow_settling r \
             join core.booking_sources s on s.connection = r.connection and s.source_booking_id = r.source_booking_id \
             join core.bookings k on k.booking_id = s.booking_id and k.deleted_at is null \
             where k.check_out >= $1 and not k.property_id = any($2)",
        )
        .bind((now - TimeDelta::days(100)).date_naive())
        .bind(&all)
        .fetch_all(&mut *tx)
        .await
        .map_err(failed)?;
        if beside.is_empty() {
            break;
        }
        all.extend(beside);
    }
    all.sort_unstable();
    all.dedup();
    sqlx::query(
        "insert into pg_temp.propflow_settling_places \
         select p, true from unnest($1::text[]) p \
         union all \
         select distinct l.property_id, false from pg_temp.propflow_settling r \
         join core.source_bookings b on b.connection = r.connection and b.source_booking_id = r.source_booking_id \
         join core.listings l on l.connection = b.connection and l.listing_id = b.listing_id \
         where not l.property_id = any($1)",
    )
    .bind(&all)
    .execute(tx)
    .await
    .map_err(failed)?;
    Ok(all)
}

async fn read(tx: &mut PgConnection, tables: &mut Tables, table: &str, name: &str, condition: &str) -> Result<()> {
    let dataset = datasets::find(name).ok_or_else(|| Fault::us(format!("the catalog has no `{name}`")))?;
    let rows = sinks::postgres::select(tx, "core", table, dataset, condition).await?;
    tables.insert(name.to_owned(), rows);
    Ok(())
}

/// Rows of text as a batch of a dataset's first columns; models see the others as null.
fn texts<const N: usize>(name: &str, rows: &[[&str; N]]) -> Result<RecordBatch> {
    let dataset = datasets::find(name).ok_or_else(|| Fault::us(format!("the catalog has no `{name}`")))?;
    let columns = dataset.columns.iter().take(N).enumerate();
    Ok(RecordBatch::try_from_iter(columns.map(|(at, column)| {
        (column.name.as_str(), Arc::new(rows.iter().map(|r| Some(r[at])).collect::<StringArray>()) as ArrayRef)
    }))?)
}

/// Adds what is known of the guests. Gives the marks that are known and whose they are.
async fn known_guests(tx: &mut PgConnection, tables: &mut Tables) -> Result<BTreeMap<String, String>> {
    let marks = transforms::settle::guest_marks(tables)?;
    let rows = sqlx::query("select identity, kind, guest_id from core.guest_identities where identity = any($1)")
        .bind(&marks)
        .fetch_all(&mut *tx)
        .await
        .map_err(|e| fault(WHAT, e))?;
    let rows: Vec<[&str; 3]> = rows.iter().map(|r| [r.get(0), r.get(1), r.get(2)]).collect();
    let name = former("guest_identities");
    tables.insert(name.clone(), vec![texts(&name, &rows)?]);
    let mut ids: Vec<String> = rows.iter().map(|r| sinks::postgres::literal(r[2])).collect();
    ids.sort_unstable();
    ids.dedup();
    if !ids.is_empty() {
        let of = format!("t.guest_id in ({})", ids.join(", "));
        read(tx, tables, "guests", &former("guests"), &of).await?;
    }
    Ok(rows.iter().map(|r| (r[0].to_owned(), r[2].to_owned())).collect())
}

/// The guests that turned out to be others.
fn replaced_guests(known: &BTreeMap<String, String>, identities: Option<&Vec<RecordBatch>>) -> Result<Vec<String>> {
    let mut replaced = BTreeSet::new();
    for batch in identities.into_iter().flatten() {
        let text = |column: &str| batch.column_by_name(column).and_then(|c| c.as_string_opt::<i32>());
        let (Some(marks), Some(kinds), Some(guests)) = (text("identity"), text("kind"), text("guest_id")) else {
            return Err(Fault::us("identities of guests have lost a column"));
        };
        for row in (0..batch.num_rows()).filter(|row| kinds.value(*row) != "booking") {
            let former = known.get(marks.value(row)).filter(|guest| *guest != guests.value(row));
            replaced.extend(former.cloned());
        }
    }
    Ok(replaced.into_iter().collect())
}

fn zones(listings: Option<&Vec<RecordBatch>>) -> Result<BTreeMap<String, Tz>> {
    let mut zones: BTreeMap<String, String> = BTreeMap::new();
    for batch in listings.into_iter().flatten() {
        let text = |column: &str| batch.column_by_name(column).and_then(|c| c.as_string_opt::<i32>());
        let (Some(properties), Some(names)) = (text("property_id"), text("time_zone")) else {
            return Err(Fault::us("listings have lost a column"));
        };
        for row in (0..batch.num_rows()).filter(|row| properties.is_valid(*row) && names.is_valid(*row)) {
            let (property, zone) = (properties.value(row).to_owned(), names.value(row).to_owned());
            zones.entry(property).and_modify(|z| *z = z.clone().min(zone.clone())).or_insert(zone);
        }
    }
    Ok(zones.into_iter().filter_map(|(property, zone)| Some((property, zone.parse().ok()?))).collect())
}

/// When time alone will change each property: its day ends, somebody arrives or leaves, a hold runs out.
fn due(
    properties: &[String],
    zones: &BTreeMap<String, Tz>,
    bookings: Option<&Vec<RecordBatch>>,
    now: DateTime<Utc>,
) -> Result<BTreeMap<String, DateTime<Utc>>> {
    let mut due: BTreeMap<String, DateTime<Utc>> = BTreeMap::new();
    for property in properties {
        let zone = zones.get(property).copied().unwrap_or(Tz::UTC);
        let tomorrow = now.with_timezone(&zone).date_naive() + Days::new(1);
        // Where midnight does not strike, an hour later is early enough.
        let midnight = zone
            .from_local_datetime(&tomorrow.and_time(NaiveTime::MIN))
            .earliest()
            .map_or(now + TimeDelta::hours(1), |at| at.to_utc());
        due.insert(property.clone(), midnight);
    }
    for batch in bookings.into_iter().flatten() {
        let Some(owners) = batch.column_by_name("property_id").and_then(|c| c.as_string_opt::<i32>()) else {
            return Err(Fault::us("bookings have no `property_id`"));
        };
        for column in ["starts_at", "ends_at", "hold_until"] {
            let instants = batch.column_by_name(column).and_then(|c| c.as_primitive_opt::<TimestampMicrosecondType>());
            for row in 0..batch.num_rows() {
                let at =
                    instants.filter(|i| i.is_valid(row)).and_then(|i| DateTime::from_timestamp_micros(i.value(row)));
                // A hold has run out behind its instant, not at it.
                let at = at.map(|at| at + TimeDelta::milliseconds(1)).filter(|at| *at > now);
                if let (Some(at), Some(first)) = (at, due.get_mut(owners.value(row))) {
                    *first = (*first).min(at);
                }
            }
        }
    }
    Ok(due)
}

/// What a run without propflow's database has brought so far.
#[derive(Debug, Default)]
pub struct Alone {
    tables: Tables,
    cursor: Option<Cursor>,
}

impl Alone {
    /// Keeps what a slice said.
    pub fn take(&mut self, tables: &Tables, cursor: Option<&Cursor>) {
        for source in sources() {
            if let Some(batches) = tables.get(&source.name) {
                self.tables.entry(source.name).or_default().extend(batches.iter().cloned());
            }
        }
        self.cursor = cursor.cloned().or_else(|| self.cursor.take());
    }

    /// The last checkpoint of the slices.
    pub fn cursor(&self) -> Option<Cursor> {
        self.cursor.clone()
    }

    /// Settles what was kept, with nothing known before. A listing that nobody described is a property of its own.
    ///
    /// # Errors
    /// When a model fails.
    pub async fn settle(self, models: &[&'static Model], info: &SliceInfo) -> Result<Option<Settled>> {
        let mut tables = self.tables;
        for source in sources() {
            if let Some(batches) = tables.get_mut(&source.name) {
                *batches = newest(&source, batches)?;
            }
        }
        if tables.values().flatten().all(|b| b.num_rows() == 0) {
            return Ok(None);
        }
        let described: BTreeSet<(String, String)> = properties_of(tables.get("source_listings"))?.into_keys().collect();
        let mentioned = properties_of(tables.get("source_bookings"))?.into_keys().filter(|l| !described.contains(l));
        let own: Vec<(String, String, String)> =
            mentioned.map(|(c, l)| (c.clone(), l.clone(), format!("{c}:{l}"))).collect();
        let own: Vec<[&str; 3]> = own.iter().map(|(c, l, p)| [c.as_str(), l.as_str(), p.as_str()]).collect();
        tables.insert("listing_map".to_owned(), vec![texts("listing_map", &own)?]);
        let of_listings: Vec<&Model> = models.iter().copied().filter(|m| LISTINGS.contains(&m.name.as_str())).collect();
        let placed = transforms::run(&of_listings, Inputs { tables: tables.clone(), slice: info.clone() }).await?;
        let listings = placed.tables.get("listings").cloned().unwrap_or_default();
        let properties: BTreeSet<String> = properties_of(Some(&listings))?.into_values().flatten().collect();
        let settling: Vec<[&str; 1]> = properties.iter().map(|p| [p.as_str()]).collect();
        tables.insert("settling".to_owned(), vec![texts("settling", &settling)?]);
        tables.insert("listings".to_owned(), listings);
        let mut settled = compute(models, tables, info).await?;
        settled.tables.extend(placed.tables);
        settled.rejects.extend(placed.rejects);
        Ok(Some(settled))
    }
}

/// The newest version of each row, of equal ones the last.
fn newest(dataset: &catalog::Dataset, batches: &[RecordBatch]) -> Result<Vec<RecordBatch>> {
    let whole = arrow::compute::concat_batches(&dataset.schema(), batches)?;
    let columns: Vec<ArrayRef> =
        dataset.columns.iter().zip(whole.columns()).filter(|(c, _)| c.key).map(|(_, a)| Arc::clone(a)).collect();
    let fields = columns.iter().map(|c| arrow::row::SortField::new(c.data_type().clone())).collect();
    let converter = arrow::row::RowConverter::new(fields)?;
    let keys = converter.convert_columns(&columns)?;
    let versions = whole.column_by_name("version").and_then(|c| c.as_primitive_opt::<TimestampMicrosecondType>());
    let Some(versions) = versions else { return Err(Fault::us(format!("`{}` has no version", dataset.name))) };
    let mut best: BTreeMap<arrow::row::Row<'_>, u32> = BTreeMap::new();
    for (row, key) in (0_u32..).zip(keys.iter()) {
        let place = best.entry(key).or_insert(row);
        if versions.value(row as usize) >= versions.value(*place as usize) {
            *place = row;
        }
    }
    let mut chosen: Vec<u32> = best.into_values().collect();
    chosen.sort_unstable();
    Ok(vec![arrow::compute::take_record_batch(&whole, &arrow::array::UInt32Array::from(chosen))?])
}
