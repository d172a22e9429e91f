//! One table: its statements, and what a slice has brought for it so far.

use std::collections::HashMap;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use catalog::{Dataset, Result, WriteMode};

use super::digests::{KeySet, ScopeState};
use super::names::{literal, quote};
use super::tables::{SLICE, sql_type};
use crate::{Receipt, Target, rows};

/// A prepared table.
pub(crate) struct Table {
    pub(crate) dataset: Dataset,
    pub(crate) mode: WriteMode,
    pub(crate) schema: SchemaRef,
    pub(crate) seed: u64,
    /// The name under which its digests are kept.
    pub(crate) digest_name: String,
    pub(crate) sql: Statements,
    pub(crate) load: Load,
    /// Whether the rows that came last were new to the table; `None` before the first.
    pub(crate) news: Option<bool>,
}

/// What the slice under way has brought.
#[derive(Default)]
pub(crate) struct Load {
    pub(crate) pending: Vec<RecordBatch>,
    pub(crate) pending_bytes: usize,
    /// Whether rows go straight into the table, which was empty.
    pub(crate) direct: Option<bool>,
    pub(crate) staged: bool,
    /// Whether the planner was told how to join.
    pub(crate) steered: bool,
    pub(crate) ordinal: i64,
    /// Rows for the staging table, encoded, that have not been sent yet.
    pub(crate) unsent: Vec<u8>,
    pub(crate) scopes: HashMap<String, ScopeState>,
    /// Keys so far, where no digests tell whether one came twice.
    pub(crate) keys: KeySet,
    pub(crate) twice: bool,
    /// Whether a key came that the table may not have.
    pub(crate) fresh: bool,
    pub(crate) receipt: Receipt,
}

impl Table {
    pub(crate) fn new(target: &Target, schema: &str) -> Result<Self> {
        let dataset = &target.dataset;
        Ok(Self {
            mode: target.mode,
            schema: dataset.schema(),
            seed: rows::seed(dataset),
            digest_name: format!("{schema}.{}", dataset.name),
            sql: Statements::new(schema, dataset, target.mode)?,
            dataset: dataset.clone(),
            load: Load::default(),
            news: None,
        })
    }

    /// Whether rows may go straight into the table on the chance that their keys are new. Where digests are kept, they
    /// know better.
    pub(crate) fn may_be_new(&self) -> bool {
        self.mode == WriteMode::Upsert && self.digested().is_none()
    }

    /// The scope column, if digests are kept by it. A table without scopes has too many rows for a slice to compare
    /// with, and its slices hold changes only.
    pub(crate) fn digested(&self) -> Option<&str> {
        matches!(self.mode, WriteMode::Snapshot | WriteMode::Upsert).then_some(self.dataset.scope.as_deref()).flatten()
    }
}

/// The statements of a table, all names quoted.
pub(crate) struct Statements {
    pub(crate) table: String,
    pub(crate) lock: String,
    pub(crate) pages: String,
    pub(crate) is_empty: String,
    pub(crate) copy_direct: String,
    pub(crate) create_stage: String,
    pub(crate) copy_stage: String,
    pub(crate) copy_stage_keys: String,
    pub(crate) clear_stage: String,
    pub(crate) analyze_stage: String,
    /// Takes back what went into the empty table.
    pub(crate) unload: String,
    /// Leaves the last row of each key.
    pub(crate) dedupe: String,
    pub(crate) update: Option<String>,
    pub(crate) restore: String,
    pub(crate) insert: String,
    pub(crate) mark_deleted: String,
}

impl Statements {
    fn new(schema: &str, dataset: &Dataset, mode: WriteMode) -> Result<Self> {
        let table = format!("{}.{}", quote(schema)?, quote(&dataset.name)?);
        let stage = format!("pg_temp.{}", quote(&dataset.name)?);
        let quoted = |keep: &dyn Fn(&catalog::Column) -> bool| -> Result<Vec<String>> {
            dataset.columns.iter().filter(|c| keep(c)).map(|c| quote(&c.name)).collect()
        };
        let all = quoted(&|_| true)?;
        let key = quoted(&|c| c.key)?;
        let values = quoted(&|c| !c.key)?;
        let of = |alias: &str, columns: &[String]| {
            columns.iter().map(|c| format!("{alias}.{c}")).collect::<Vec<_>>().join(", ")
        };
        let same = |a: &str, b: &str, columns: &[String]| match columns {
            [] => "true".to_owned(),
            _ => columns.iter().map(|c| format!("{a}.{c} = {b}.{c}")).collect::<Vec<_>>().join(" and "),
        };
        let columns = all.join(", ");
        let key_columns = key.join(", ");
        let typed = dataset
            .columns
            .iter()
            .map(|c| Ok(format!("{} {}", quote(&c.name)?, sql_type(c.kind))))
            .collect::<Result<Vec<_>>>()?
            .join(", ");
        let on_key = same("t", "s", &key);
        let mut set: Vec<String> = values.iter().map(|c| format!("{c} = s.{c}")).collect();
        set.extend(["updated_at = now()".to_owned(), "deleted_at = null".to_owned()]);
        let version = dataset.version_column.as_deref().filter(|_| mode == WriteMode::Upsert).map(quote).transpose()?;
        // What is stored gives way to its own version or a newer one, never to an older.
        let newer = version.as_ref().map_or(String::new(), |v| format!(" and s.{v} >= t.{v}"));
        let update = format!("update {table} t set {} from {stage} s where {on_key}{newer}", set.join(", "));
        let insert = match mode {
            WriteMode::Append => format!(
                "insert into {table} ({columns}, {SLICE}) select {columns}, $1 from {stage} order by propflow_ordinal"
            ),
            WriteMode::Upsert | WriteMode::Snapshot => format!(
                "insert into {table} ({columns}) select {columns} from {stage} s \
                 where not exists (select from {table} t where {on_key})"
            ),
            WriteMode::History => {
                let version = quote(dataset.version_column.as_deref().unwrap_or_default())?;
                let rest: Vec<String> = key.iter().filter(|k| **k != version).cloned().collect();
                // A row's predecessor is the newest version before it, stored or in this slice.
                format!(
                    "insert into {table} ({columns}) select {} from (\
                       select *, lag({version}) over w as propflow_version, lag(row({})) over w as propflow_before \
                       from {stage} window w as (partition by {} order by {version})) s \
                     left join lateral (select t.* from {table} t where {} and t.{version} <= s.{version} \
                       order by t.{version} desc limit 1) p on true \
                     where case when s.propflow_version is not null and (p.{version} is null or s.propflow_version > p.{version}) \
                       then s.propflow_before is distinct from row({}) \
                       else p.{version} is null or row({}) is distinct from row({}) end \
                     on conflict do nothing",
                    of("s", &all),
                    values.join(", "),
                    if rest.is_empty() { "1".to_owned() } else { rest.join(", ") },
                    same("t", "s", &rest),
                    of("s", &values),
                    of("p", &values),
                    of("s", &values),
                )
            }
        };
        Ok(Self {
            lock: format!("lock table {table} in share row exclusive mode nowait"),
            pages: format!("select pg_relation_size({}::regclass) / 8192", literal(&table)),
            is_empty: format!("select not exists (select from {table})"),
            copy_direct: format!("copy {table} ({columns}) from stdin (format binary)"),
            create_stage: format!(
                "create temp table if not exists {stage} ({typed}, propflow_ordinal bigint) on commit delete rows"
            ),
            copy_stage: format!("copy {stage} ({columns}, propflow_ordinal) from stdin (format binary)"),
            copy_stage_keys: format!("copy {stage} ({key_columns}) from stdin (format binary)"),
            clear_stage: format!("truncate {stage}"),
            // Rows are joined by their keys; what else they hold is looked at by nobody.
            analyze_stage: match key_columns.as_str() {
                "" => format!("analyze {stage}"),
                _ => format!("analyze {stage} ({key_columns})"),
            },
            unload: format!(
                "insert into {stage} ({columns}, propflow_ordinal) select {columns}, -1 from {table}; truncate {table}"
            ),
            dedupe: format!(
                "delete from {stage} a using {stage} b where {} and {}",
                same("a", "b", &key),
                match &version {
                    Some(v) => format!("(a.{v}, a.propflow_ordinal) < (b.{v}, b.propflow_ordinal)"),
                    None => "a.propflow_ordinal < b.propflow_ordinal".to_owned(),
                }
            ),
            update: (!values.is_empty()).then(|| {
                format!(
                    "{update} and t.deleted_at is null and row({}) is distinct from row({})",
                    of("t", &values),
                    of("s", &values)
                )
            }),
            restore: format!("{update} and t.deleted_at is not null"),
            insert,
            mark_deleted: format!(
                "update {table} t set deleted_at = now(), updated_at = now() from {stage} s where {on_key} and t.deleted_at is null"
            ),
            table,
        })
    }
}
