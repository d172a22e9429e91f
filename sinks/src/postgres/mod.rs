//! PostgreSQL: binary `COPY` into a staging table, then a merge by key, in one transaction with the books.
//! `README.md` beside this file says what it promises and what it costs.

mod choose;
mod copies;
mod decode;
mod digests;
mod encode;
mod names;
mod news;
mod serving;
mod table;
mod tables;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, RecordBatch, StringArray};
use arrow::compute::filter_record_batch;
use async_trait::async_trait;
use catalog::slice::Scope;
use catalog::store::pg::{connect_one, fault};
use catalog::store::runs::commit_slice;
use catalog::{Component, Dataset, Env, Fault, Kind, Result, SecretRef, Slice, SliceId, WriteMode};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sqlx::postgres::{PgConnectOptions, PgConnection, PgPoolOptions};
use sqlx::{AssertSqlSafe, Connection, PgPool};

use self::choose::{Hashing, choose, scope_values, scopes_of};
use self::copies::Copies;
use self::digests::{KeySet, ScopeState, Store};
pub use self::names::{literal, quote};
pub use self::serving::{create_views, migrate, unlisted};
use self::table::{Load, Table};
use crate::{Abilities, Kept, Receipt, Sink, Target, rows};

/// Rows held in memory before they go to the server, over all tables, in bytes of Arrow.
const BUFFER_BYTES: usize = 16 << 20;
/// Bytes handed to the connection at once.
const SEND_BYTES: usize = 1 << 20;
/// Encoded rows that wait for the staging table: a few changes in every batch cost one `COPY` and not one each.
const STAGE_BYTES: usize = 4 << 20;
/// Staged rows from which the planner is told their number; below it guesses well enough.
const ANALYZE_ROWS: i64 = 5_000;

/// The component `postgres`.
#[derive(Debug)]
pub struct Postgres;

/// Settings of `postgres`.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Where the URL of the database is: `env:NAME` or `file:/path`. Or the URL itself, for a one-off copy. Left out in a
    /// pipeline, it is propflow's own database, and the sink keeps the cursors.
    #[serde(default)]
    url: Option<String>,
    /// The schema that holds the tables. It is made when it is missing.
    #[serde(default = "core")]
    schema: String,
    /// Compare every row with the table itself, not with what was last written. Slower; mends rows that someone else
    /// changed.
    #[serde(default)]
    verify: bool,
}

fn core() -> String {
    "core".to_owned()
}

impl fmt::Debug for Config {
    /// Leaves the URL out: it may hold a password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config").field("schema", &self.schema).field("verify", &self.verify).finish_non_exhaustive()
    }
}

#[async_trait]
impl Component for Postgres {
    type Live = dyn Sink;
    type Config = Config;
    const NAME: &'static str = "postgres";
    const ABOUT: &'static str = "PostgreSQL tables, merged by key";

    async fn open(config: Config, _env: Env) -> Result<Box<dyn Sink>> {
        let Some(url) = config.url else {
            return Err(
                Fault::user("the sink `postgres` was given no `url`").hint("Name the database, as `env:DATABASE_URL`.")
            );
        };
        let url = match url.split_once(':') {
            Some(("env" | "file", _)) => resolved(&SecretRef::parse(&url)?)?,
            _ => url,
        };
        let options: PgConnectOptions = url.parse().map_err(|_| {
            Fault::user("the database URL is not one that PostgreSQL understands")
                .hint("Write it as `postgres://user:password@host:5432/name`.")
        })?;
        let pool = PgPoolOptions::new().connect_lazy_with(options.application_name("propflow"));
        let options = Options { schema: config.schema, ledger: false, verify: config.verify, ..Options::default() };
        Ok(Box::new(PostgresSink::new(pool, options)))
    }

    /// `postgres://user@host/name`; the word before the first colon is the component's name, so the rest of the URL
    /// follows it as it stands.
    fn address(rest: &str) -> Option<Value> {
        rest.starts_with("//").then(|| json!({ "url": format!("postgres:{rest}") }))
    }
}

fn resolved(secret: &SecretRef) -> Result<String> {
    use secrecy::ExposeSecret as _;
    Ok(secret.resolve()?.expose_secret().to_owned())
}

/// How a [`PostgresSink`] works.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Options {
    /// The schema that holds the tables.
    pub schema: String,
    /// After how many seconds without news a scope counts as stale.
    pub freshness_limit_secs: i64,
    /// Whether propflow's own books (`ops`) are in this database: then the slice is entered in the same transaction.
    pub ledger: bool,
    /// Whether to compare with the tables themselves and not with what was last written.
    pub verify: bool,
}

impl Options {
    /// For the engine's own database, with what a pipeline file says besides.
    ///
    /// # Errors
    /// When the settings do not fit.
    pub fn of_ledger(settings: Value, freshness_limit_secs: i64) -> Result<Self> {
        let config: Config =
            serde_json::from_value(settings).map_err(|e| Fault::user(format!("settings of `postgres`: {e}")))?;
        Ok(Self { schema: config.schema, freshness_limit_secs, ledger: true, verify: config.verify })
    }
}

impl Default for Options {
    /// The engine's own database: schema `core`, books kept, thirty hours.
    fn default() -> Self {
        Self { schema: core(), freshness_limit_secs: 30 * 3600, ledger: true, verify: false }
    }
}

/// The sink. It keeps one connection of its own, so that a slice that is dropped half-way is rolled back by the server.
pub struct PostgresSink {
    pool: PgPool,
    options: Options,
    digests: Store,
    tables: BTreeMap<String, Table>,
    connection: Option<PgConnection>,
    open: bool,
    slice: Option<SliceId>,
    copies: Option<Copies>,
}

impl fmt::Debug for PostgresSink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresSink")
            .field("options", &self.options)
            .field("slice", &self.slice)
            .finish_non_exhaustive()
    }
}

impl PostgresSink {
    /// A sink on this database.
    pub fn new(pool: PgPool, options: Options) -> Self {
        Self {
            pool,
            options,
            digests: Store { table: "ops.digests".to_owned() },
            tables: BTreeMap::new(),
            connection: None,
            open: false,
            slice: None,
            copies: None,
        }
    }

    /// A connection besides the pool's: one whose loss is known at once, and whose end ends its transaction.
    async fn connect(&self) -> Result<PgConnection> {
        connect_one(&self.pool.connect_options()).await
    }

    /// The sink's own connection, out of a transaction or in one.
    async fn connection(&mut self) -> Result<&mut PgConnection> {
        if self.connection.is_none() {
            self.connection = Some(self.connect().await?);
            self.open = false;
        }
        self.connection.as_mut().ok_or_else(|| Fault::us("the connection to PostgreSQL is gone"))
    }

    /// The same inside the slice's transaction, which starts here at the latest.
    async fn transaction(&mut self) -> Result<&mut PgConnection> {
        self.connection().await?;
        let begin = !std::mem::replace(&mut self.open, true);
        let copy = self.copies.is_some();
        let connection = self.connection().await?;
        if begin {
            // Compiling a plan costs more than running it over one slice.
            let mut sql = "begin; set local jit = off".to_owned();
            if copy {
                sql.push_str("; set local synchronous_commit = off");
            }
            tables::run(connection, "cannot start a transaction", sql).await?;
        }
        Ok(connection)
    }

    /// Drops the transaction with everything in it. The connection goes too: its state is not worth guessing.
    fn abandon(&mut self) {
        if self.open {
            self.connection = None;
            self.open = false;
        }
        self.slice = None;
        for table in self.tables.values_mut() {
            table.load = Load::default();
        }
    }

    /// Sends what is buffered for a table.
    async fn flush(&mut self, name: &str) -> Result<()> {
        self.transaction().await?;
        let trust = !self.options.verify;
        let (Some(tx), Some(table)) = (self.connection.as_mut(), self.tables.get_mut(name)) else { return Ok(()) };
        let batches = std::mem::take(&mut table.load.pending);
        table.load.pending_bytes = 0;
        let direct = match table.load.direct {
            Some(direct) => direct,
            // Rows were new so far: no look at whether the table is empty.
            None if table.may_be_new() && table.news == Some(true) => false,
            None => {
                let direct = claim_empty(tx, table).await?;
                if direct && table.digested().is_some() {
                    // Should someone have emptied the table, the digests of all its scopes are wrong, not only of ours.
                    self.digests.forget(tx, std::slice::from_ref(&table.digest_name)).await?;
                }
                table.load.direct = Some(direct);
                direct
            }
        };
        // What the table holds is asked for while what has come is hashed.
        let hashing = (Hashing::of(table), batches.clone());
        let hashing = tokio::task::spawn_blocking(move || hashing.0.all(&hashing.1));
        lock_scopes(tx, &self.digests, table, scopes_of(table, &batches), direct, trust).await?;
        let mut chosen = Vec::with_capacity(batches.len());
        let mut count = 0;
        let digests = hashing.await.map_err(|e| Fault::us("a thread that hashes rows died").because(e))?;
        for (batch, digests) in batches.iter().zip(digests) {
            let send = choose(table, batch, digests);
            count += send.len();
            chosen.push(send);
        }
        if count == 0 {
            return Ok(());
        }
        if direct {
            let mut bytes = encode::HEADER.to_vec();
            for (batch, send) in batches.iter().zip(&chosen) {
                encode::rows(&mut bytes, &table.dataset, batch, send, None)?;
            }
            bytes.extend_from_slice(&encode::TRAILER);
            let what = "cannot load rows";
            tables::run(tx, what, "savepoint propflow_direct".to_owned()).await?;
            match copy_in(tx, &table.sql.copy_direct, &bytes).await {
                Ok(()) => {
                    tables::run(tx, what, "release propflow_direct".to_owned()).await?;
                    table.news = Some(true);
                    table.load.receipt.inserted += count as u64;
                    return Ok(());
                }
                // A key is there twice. The rows so far, and these, take the long way.
                Err(sqlx::Error::Database(e)) if e.is_unique_violation() => {
                    tables::run(
                        tx,
                        what,
                        format!("rollback to propflow_direct; {}; {}", table.sql.create_stage, table.sql.unload),
                    )
                    .await?;
                    table.load.receipt.inserted = 0;
                    table.load.direct = Some(false);
                    table.load.staged = true;
                    table.load.twice = true;
                }
                Err(e) => return Err(load_fault(table, e)),
            }
        }
        if !direct && news::copy_new(tx, table, &batches, &chosen, count).await? {
            return Ok(());
        }
        if !table.load.staged {
            tables::run(tx, "cannot make a staging table", table.sql.create_stage.clone()).await?;
            table.load.staged = true;
        }
        for (batch, send) in batches.iter().zip(&chosen) {
            encode::rows(&mut table.load.unsent, &table.dataset, batch, send, Some(table.load.ordinal))?;
            table.load.ordinal += i64::try_from(send.len()).unwrap_or(i64::MAX);
        }
        if table.load.unsent.len() > STAGE_BYTES { stage(tx, table).await } else { Ok(()) }
    }

    async fn try_write(&mut self, dataset: &str, batch: &RecordBatch) -> Result<()> {
        let Some(table) = self.tables.get_mut(dataset) else {
            return Err(Fault::us(format!("`{dataset}` was not prepared")));
        };
        let batch = without_nul(&table.dataset, rows::conform(&table.dataset, &table.schema, batch)?)?;
        table.load.receipt.received += batch.num_rows() as u64;
        table.load.pending_bytes += batch.get_array_memory_size();
        if batch.num_rows() > 0 {
            table.load.pending.push(batch);
        }
        while self.tables.values().map(|t| t.load.pending_bytes).sum::<usize>() > BUFFER_BYTES {
            let biggest = self.tables.iter().max_by_key(|(_, t)| t.load.pending_bytes).map(|(name, _)| name.clone());
            let Some(name) = biggest else { break };
            self.flush(&name).await?;
        }
        Ok(())
    }

    async fn try_commit(&mut self, slice: &Slice) -> Result<BTreeMap<String, Receipt>> {
        let (ledger, limit) = (self.options.ledger, self.options.freshness_limit_secs);
        let tx = self.transaction().await?;
        if ledger {
            // Triggers want to know how old the news is.
            sqlx::query("select set_config('propflow.observed_at', $1, true)")
                .bind(slice.observed_at.to_rfc3339())
                .execute(tx)
                .await
                .map_err(|e| fault("cannot commit the slice", e))?;
        }
        let names: Vec<String> = self.tables.keys().cloned().collect();
        let mut counts = BTreeMap::new();
        for name in names {
            if self.tables.get(&name).is_some_and(|t| !t.load.pending.is_empty()) {
                self.flush(&name).await?;
            }
            let trust = !self.options.verify;
            let (Some(tx), Some(table)) = (self.connection.as_mut(), self.tables.get_mut(&name)) else { continue };
            let complete = match table.mode {
                WriteMode::Snapshot => slice.complete.get(&name).map_or(&[][..], Vec::as_slice),
                _ => &[],
            };
            settle(tx, &self.digests, table, slice, complete, trust).await?;
            let receipt = table.load.receipt;
            if receipt != Receipt::default() {
                counts.insert(name, receipt);
            }
        }
        self.transaction().await?;
        let Some(tx) = self.connection.as_mut() else { return Err(Fault::us("the transaction is gone")) };
        if ledger {
            commit_slice(tx, slice, &counts, limit).await?;
        }
        if let Some(copies) = &mut self.copies {
            copies.save(tx, slice).await?;
        }
        tables::run(tx, "cannot commit the slice", "commit".to_owned()).await?;
        self.open = false;
        if let Some(copies) = &mut self.copies {
            copies.saved();
        }
        Ok(counts)
    }
}

#[async_trait]
impl Sink for PostgresSink {
    fn abilities(&self) -> Abilities {
        Abilities {
            modes: &[WriteMode::Append, WriteMode::Upsert, WriteMode::Snapshot, WriteMode::History],
            keeps_cursor: self.options.ledger,
        }
    }

    async fn check(&self) -> Result<()> {
        let what = "cannot look at PostgreSQL";
        let mut connection = self.connect().await?;
        let (read_only, may_create): (bool, bool) = sqlx::query_as(
            "select current_setting('transaction_read_only')::bool, \
             case when exists (select from pg_namespace where nspname = $1) then has_schema_privilege($1, 'create') \
             else has_database_privilege(current_database(), 'create') end",
        )
        .bind(&self.options.schema)
        .fetch_one(&mut connection)
        .await
        .map_err(|e| fault(what, e))?;
        if read_only {
            return Err(Fault::user("the database is read-only").hint("Name the primary server, not a standby."));
        }
        if !may_create {
            return Err(Fault::user(format!("the database user may not create tables in `{}`", self.options.schema))
                .hint("Grant it `create` on the schema, or on the database when the schema is missing."));
        }
        Ok(())
    }

    async fn prepare(&mut self, targets: &[Target]) -> Result<()> {
        self.abandon();
        // A staging table on the former connection may have other columns.
        self.connection = None;
        let mut tables = BTreeMap::new();
        for target in targets {
            if let Some(c) = target.dataset.columns.iter().find(|c| c.key && c.kind == Kind::Json) {
                return Err(Fault::user(format!(
                    "`{}.{}`: a JSON document cannot be a key",
                    target.dataset.name, c.name
                )));
            }
            tables.insert(target.dataset.name.clone(), Table::new(target, &self.options.schema)?);
        }
        let schema = quote(&self.options.schema)?;
        let mut connection = self.connect().await?;
        let mut tx = connection.begin().await.map_err(|e| fault("cannot prepare the tables", e))?;
        let made = tables::prepare(&mut tx, &self.options.schema, targets).await?;
        if !self.options.ledger {
            self.digests.table = format!("{schema}.propflow_digests");
            let there = "select to_regclass($1) is not null";
            let there = tables::exists(&mut tx, there, &self.digests.table).await?;
            let sql = format!(
                "create table if not exists {} (dataset text not null, scope text not null, digests bytea not null, \
                 patch bytea not null default '', updated_at timestamptz not null default now(), primary key (dataset, scope)); \
                 alter table {0} alter column digests set storage external",
                self.digests.table
            );
            if !there {
                tables::run(&mut tx, "cannot make the table of digests", sql).await?;
            }
        }
        if let Some(copies) = &self.copies {
            copies.prepare(&mut tx).await?;
        }
        let made: Vec<String> = made.iter().map(|name| format!("{}.{name}", self.options.schema)).collect();
        if !made.is_empty() {
            self.digests.forget(&mut tx, &made).await?;
        }
        tx.commit().await.map_err(|e| fault("cannot prepare the tables", e))?;
        self.tables = tables;
        Ok(())
    }

    async fn begin(&mut self, slice: SliceId) -> Result<()> {
        self.abandon();
        self.slice = Some(slice);
        Ok(())
    }

    async fn write(&mut self, dataset: &str, batch: RecordBatch) -> Result<()> {
        let written = self.try_write(dataset, &batch).await;
        if written.is_err() {
            self.abandon();
        }
        written
    }

    async fn commit(&mut self, slice: &Slice) -> Result<BTreeMap<String, Receipt>> {
        if self.slice != Some(slice.id) {
            return Err(Fault::us(format!("slice {} was not begun", slice.id)));
        }
        let committed = self.try_commit(slice).await;
        self.abandon();
        committed
    }

    async fn keep(&mut self, copy: &str, datasets: &[&str]) -> Result<Option<Kept>> {
        let schema = self.options.schema.clone();
        let copies = Copies::new(&schema, copy)?;
        let connection = self.connection().await?;
        let mut kept = copies.read(connection).await?;
        if kept.is_some() {
            // What has changed since is too little for a table that somebody has dropped.
            let names = datasets
                .iter()
                .map(|d| Ok(format!("{}.{}", quote(&schema)?, quote(d)?)))
                .collect::<Result<Vec<_>>>()?;
            let gone: bool =
                sqlx::query_scalar("select exists (select from unnest($1::text[]) t where to_regclass(t) is null)")
                    .bind(names)
                    .fetch_one(connection)
                    .await
                    .map_err(|e| fault("cannot look at the tables of the copy", e))?;
            kept = kept.filter(|_| !gone);
        }
        self.copies = Some(copies);
        Ok(kept)
    }

    async fn finish(&mut self, whole: bool) -> Result<()> {
        self.abandon();
        let Some(copies) = self.copies.take() else { return Ok(()) };
        copies.finish(self.connection().await?, whole).await
    }
}

/// Whether the table is empty, and ours alone until the end: then rows need no staging.
async fn claim_empty(tx: &mut PgConnection, table: &Table) -> Result<bool> {
    if !matches!(table.mode, WriteMode::Upsert | WriteMode::Snapshot) || !is_empty(tx, table).await? {
        return Ok(false);
    }
    let what = "cannot lock a table";
    tables::run(tx, what, "savepoint propflow_claim".to_owned()).await?;
    // Someone else is loading it: no waiting, since they may wait for a table of ours.
    let locked = sqlx::raw_sql(AssertSqlSafe(table.sql.lock.clone())).execute(&mut *tx).await;
    match locked {
        Ok(_) => {
            tables::run(tx, what, "release propflow_claim".to_owned()).await?;
            is_empty(tx, table).await
        }
        Err(sqlx::Error::Database(e)) if e.code().as_deref() == Some("55P03") => {
            tables::run(tx, what, "rollback to propflow_claim".to_owned()).await?;
            Ok(false)
        }
        Err(e) => Err(fault(what, e)),
    }
}

async fn is_empty(tx: &mut PgConnection, table: &Table) -> Result<bool> {
    sqlx::query_scalar(AssertSqlSafe(table.sql.is_empty.clone()))
        .fetch_one(tx)
        .await
        .map_err(|e| fault("cannot look at a table", e))
}

/// Loads what was last written to these scopes, unless it is loaded already.
async fn lock_scopes(
    tx: &mut PgConnection,
    digests: &Store,
    table: &mut Table,
    mut scopes: Vec<String>,
    empty: bool,
    trust: bool,
) -> Result<()> {
    scopes.retain(|s| !table.load.scopes.contains_key(s));
    scopes.sort_unstable();
    scopes.dedup();
    let locked = digests.lock(tx, &table.digest_name, &scopes, trust && !empty).await?;
    // In an empty table nothing was written, whatever the digests say: someone may have emptied it.
    table
        .load
        .scopes
        .extend(locked.into_iter().map(|(s, state)| (s, if empty { ScopeState::unknown(true) } else { state })));
    Ok(())
}

async fn copy_in(tx: &mut PgConnection, sql: &str, bytes: &[u8]) -> Result<(), sqlx::Error> {
    let mut copy = tx.copy_in_raw(sql).await?;
    for part in bytes.chunks(SEND_BYTES) {
        copy.send(part).await?;
    }
    copy.finish().await.map(|_| ())
}

/// Sends the rows that wait for the staging table.
async fn stage(tx: &mut PgConnection, table: &mut Table) -> Result<()> {
    if table.load.unsent.is_empty() {
        return Ok(());
    }
    let mut bytes = encode::HEADER.to_vec();
    bytes.append(&mut table.load.unsent);
    bytes.extend_from_slice(&encode::TRAILER);
    copy_in(tx, &table.sql.copy_stage, &bytes).await.map_err(|e| load_fault(table, e))
}

fn load_fault(table: &Table, error: sqlx::Error) -> Fault {
    fault(&format!("cannot load rows into `{}`", table.dataset.name), error)
}

/// Merges what was staged, marks what left, saves the digests, counts.
async fn settle(
    tx: &mut PgConnection,
    digests: &Store,
    table: &mut Table,
    slice: &Slice,
    complete: &[Scope],
    trust: bool,
) -> Result<()> {
    let what = format!("cannot merge rows into `{}`", table.dataset.name);
    if table.mode == WriteMode::Append && table.load.receipt.received > 0 {
        // The same slice once more replaces its rows.
        sqlx::query(AssertSqlSafe(format!("delete from {} where {} = $1", table.sql.table, tables::SLICE)))
            .bind(slice.id.to_string())
            .execute(&mut *tx)
            .await
            .map_err(|e| fault(&what, e))?;
    }
    if table.load.staged {
        stage(tx, table).await?;
        merge(tx, table, slice, &what).await?;
    }
    let scopes: Vec<String> = complete.iter().map(|s| s.value.clone()).collect();
    lock_scopes(tx, digests, table, scopes, table.load.direct == Some(true), trust).await?;
    let gone = withdraw(tx, table, complete, &what).await?;
    if std::mem::take(&mut table.load.steered) {
        tables::run(tx, &what, "reset enable_hashjoin; reset enable_mergejoin".to_owned()).await?;
    }
    if table.digested().is_some() {
        let whole: HashSet<&str> = complete.iter().filter(|s| s.origins.is_none()).map(|s| s.value.as_str()).collect();
        digests.save(tx, &table.digest_name, &table.load.scopes, &whole, &gone).await?;
    }
    let receipt = &mut table.load.receipt;
    receipt.unchanged = receipt.received.saturating_sub(receipt.inserted + receipt.updated);
    Ok(())
}

async fn merge(tx: &mut PgConnection, table: &mut Table, slice: &Slice, what: &str) -> Result<()> {
    if table.mode != WriteMode::Append && table.load.twice {
        // Before the planner is told anything: staged rows have no index to probe.
        tables::run(tx, what, table.sql.dedupe.clone()).await?;
    }
    let probing = join_by(tx, table, table.load.ordinal, what).await?;
    if !probing && table.load.ordinal >= ANALYZE_ROWS {
        tables::run(tx, what, table.sql.analyze_stage.clone()).await?;
    }
    let receipt = &mut table.load.receipt;
    if table.mode == WriteMode::Append {
        receipt.inserted += sqlx::query(AssertSqlSafe(table.sql.insert.clone()))
            .bind(slice.id.to_string())
            .execute(tx)
            .await
            .map_err(|e| fault(what, e))?
            .rows_affected();
        return Ok(());
    }
    if table.mode != WriteMode::History {
        let mut updated = 0;
        if let Some(update) = &table.sql.update {
            updated = tables::run(tx, what, update.clone()).await?;
            receipt.updated += updated;
        }
        // Rows that the digests know were live, and each of them differed: there is nothing to bring back or to add.
        // Were they not, someone else took rows away, and those are missed here.
        if !table.load.fresh && !table.load.twice && i64::try_from(updated) == Ok(table.load.ordinal) {
            return Ok(());
        }
        receipt.inserted += tables::run(tx, what, table.sql.restore.clone()).await?;
    }
    receipt.inserted += sqlx::raw_sql(AssertSqlSafe(table.sql.insert.clone()))
        .execute(tx)
        .await
        .map_err(|e| match &e {
            // Only a table without scopes, whose rows no lock guards, lets two workers get here with one key.
            sqlx::Error::Database(db) if db.is_unique_violation() => {
                Fault::remote(format!("{what}: another worker inserted the same key just now")).because(e)
            }
            _ => fault(what, e),
        })?
        .rows_affected();
    if i64::try_from(receipt.inserted) == Ok(table.load.ordinal) {
        table.news = Some(true);
    }
    Ok(())
}

/// Tells the planner, which knows neither table well, how to join `rows` staged rows: an index probe costs about what
/// the scan of a page does. Holds until the table is settled; what else joins then, such as the digests of thousands of
/// scopes, is left to the planner again.
/// True when it is to probe the index for each row, whatever it would think of the tables.
async fn join_by(tx: &mut PgConnection, table: &mut Table, rows: i64, what: &str) -> Result<bool> {
    table.load.steered = true;
    let pages: i64 = sqlx::query_scalar(AssertSqlSafe(table.sql.pages.clone()))
        .fetch_one(&mut *tx)
        .await
        .map_err(|e| fault(what, e))?;
    let probing = rows < pages;
    let scan = if probing { "off" } else { "on" };
    tables::run(tx, what, format!("set local enable_hashjoin = {scan}; set local enable_mergejoin = {scan}")).await?;
    Ok(probing)
}

/// Marks the rows that left their scope. Gives the hashes of their keys by scope.
async fn withdraw(
    tx: &mut PgConnection,
    table: &mut Table,
    complete: &[Scope],
    what: &str,
) -> Result<HashMap<String, KeySet>> {
    let mut gone: HashMap<String, KeySet> = HashMap::new();
    let open: Vec<&Scope> =
        complete.iter().filter(|s| table.load.scopes.get(&s.value).is_some_and(ScopeState::may_have_left)).collect();
    let (Some(column), false) = (table.dataset.scope.clone(), open.is_empty()) else { return Ok(gone) };
    let wanted: HashMap<&str, &Scope> = open.iter().map(|s| (s.value.as_str(), *s)).collect();
    let mut keys = table.dataset.clone();
    let origin = table.dataset.origin.clone();
    keys.columns.retain(|c| c.key || c.name == column || Some(&c.name) == origin.as_ref());
    let names = keys.columns.iter().map(|c| quote(&c.name)).collect::<Result<Vec<_>>>()?.join(", ");
    let scopes = open.iter().map(|s| literal(&s.value)).collect::<Vec<_>>().join(", ");
    let sql = format!(
        "copy (select {names} from {} where deleted_at is null and {} in ({scopes})) to stdout (format binary)",
        table.sql.table,
        quote(&column)?
    );
    let stored = decode::copy_out(tx, &keys, &keys.schema(), &sql).await?;
    let present: HashMap<&str, KeySet> =
        wanted.keys().filter_map(|s| Some((*s, table.load.scopes.get(*s)?.keys()))).collect();
    let mut key_only = keys.clone();
    key_only.columns.retain(|c| c.key);
    let mut bytes = encode::HEADER.to_vec();
    for batch in &stored {
        let Some(scope) = scope_values(batch, &column) else { continue };
        let origins = origin.as_deref().and_then(|c| scope_values(batch, c));
        let hashes = rows::key_hashes(&keys, batch);
        let left: BooleanArray = (0..batch.num_rows())
            .map(|row| {
                let value = scope.value(row);
                let here = present.get(value).is_some_and(|p| p.contains(&hashes[row]));
                let may = wanted.get(value).is_some_and(|s| match (&s.origins, origins) {
                    (None, _) => true,
                    (Some(list), Some(o)) => o.is_valid(row) && list.iter().any(|l| l == o.value(row)),
                    (Some(_), None) => false,
                });
                let left = may && !here;
                if left {
                    gone.entry(value.to_owned()).or_default().insert(hashes[row]);
                }
                Some(left)
            })
            .collect();
        if left.true_count() > 0 {
            let batch = filter_record_batch(batch, &left)?;
            let batch = RecordBatch::try_new(key_only.schema(), rows::pick(&batch, &key_only.key()))?;
            let all: Vec<u32> = (0..u32::try_from(batch.num_rows()).unwrap_or(u32::MAX)).collect();
            encode::rows(&mut bytes, &key_only, &batch, &all, None)?;
        }
    }
    if gone.is_empty() {
        return Ok(gone);
    }
    bytes.extend_from_slice(&encode::TRAILER);
    tables::run(tx, what, format!("{}; {}", table.sql.create_stage, table.sql.clear_stage)).await?;
    copy_in(tx, &table.sql.copy_stage_keys, &bytes).await.map_err(|e| fault(what, e))?;
    let count = gone.values().map(KeySet::len).sum::<usize>();
    join_by(tx, table, i64::try_from(count).unwrap_or(i64::MAX), what).await?;
    table.load.receipt.deleted += tables::run(tx, what, table.sql.mark_deleted.clone()).await?;
    Ok(gone)
}

/// PostgreSQL text cannot hold NUL. It is replaced before hashing, so that a key read back hashes as it did.
fn without_nul(dataset: &Dataset, batch: RecordBatch) -> Result<RecordBatch> {
    let has_nul = |array: &ArrayRef| {
        array.as_string_opt::<i32>().is_some_and(|a| {
            let offsets = a.value_offsets();
            let span = offsets.first().map_or(0, |o| *o as usize)..offsets.last().map_or(0, |o| *o as usize);
            // Looking at whole stretches is what a processor does many bytes at once.
            let zero = |part: &[u8]| part.iter().fold(false, |zero, byte| zero | (*byte == 0));
            a.value_data()[span].chunks(4096).any(zero)
        })
    };
    if !batch.columns().iter().any(has_nul) {
        return Ok(batch);
    }
    let columns = dataset
        .columns
        .iter()
        .zip(batch.columns())
        .map(|(c, array)| {
            if c.kind != Kind::Text || !has_nul(array) {
                return Arc::clone(array);
            }
            let clean: StringArray =
                array.as_string::<i32>().iter().map(|v| v.map(|v| v.replace('\0', "\u{2400}"))).collect();
            Arc::new(clean) as ArrayRef
        })
        .collect();
    Ok(RecordBatch::try_new(batch.schema(), columns)?)
}

/// The live rows of a table that meet a condition, in the shape of a dataset whose columns the table has. `condition` is
/// SQL over the alias `t`; it must hold no value that was not quoted.
///
/// # Errors
/// When the table is missing, or the condition is no SQL.
pub async fn select(
    connection: &mut PgConnection,
    schema: &str,
    table: &str,
    dataset: &Dataset,
    condition: &str,
) -> Result<Vec<RecordBatch>> {
    let columns =
        dataset.columns.iter().map(|c| Ok(format!("t.{}", quote(&c.name)?))).collect::<Result<Vec<_>>>()?.join(", ");
    let sql = format!(
        "copy (select {columns} from {}.{} t where t.deleted_at is null and {condition}) to stdout (format binary)",
        quote(schema)?,
        quote(table)?
    );
    decode::copy_out(connection, dataset, &dataset.schema(), &sql).await
}

/// The live rows of a stored dataset, ordered by key. For tests, exports and the SQL command.
pub async fn read(pool: &PgPool, schema: &str, dataset: &Dataset) -> Result<Vec<RecordBatch>> {
    let mut connection = pool.acquire().await.map_err(|e| fault("cannot connect to PostgreSQL", e))?;
    let columns = dataset.columns.iter().map(|c| quote(&c.name)).collect::<Result<Vec<_>>>()?.join(", ");
    let key = dataset.key().iter().map(|k| quote(k)).collect::<Result<Vec<_>>>()?.join(", ");
    let order = if key.is_empty() { String::new() } else { format!(" order by {key}") };
    let sql = format!(
        "copy (select {columns} from {}.{} where deleted_at is null{order}) to stdout (format binary)",
        quote(schema)?,
        quote(&dataset.name)?
    );
    decode::copy_out(&mut connection, dataset, &dataset.schema(), &sql).await
}
