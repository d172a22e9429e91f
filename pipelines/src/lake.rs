//! The lake as tables: views over its Parquet files that show each row once, as it was at one instant.
//!
//! The schema `files` holds the files as they lie there. Every dataset gets two views over them: `<dataset>` is the newest
//! row per key, without the rows that have left their snapshot, and `<dataset>_history` all rows that were ever
//! committed. A dataset that is a history itself, such as `price_history`, has one view, with its repetitions dropped.
//! The views are plain SQL that DuckDB reads as well; [`script`] prints them for it.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use catalog::dataset::KEY;
use catalog::datasets::serving::QUERIES;
use catalog::{Dataset, Fault, Result, WriteMode, datasets};
use chrono::{DateTime, SecondsFormat, Utc};
use datafusion::common::TableReference;
use datafusion::datasource::file_format::FileFormat;
use datafusion::datasource::file_format::parquet::ParquetFormat;
use datafusion::datasource::listing::{ListingOptions, ListingTable, ListingTableConfig, ListingTableUrl};
use datafusion::prelude::SessionContext;
use futures::TryStreamExt;
use object_store::aws::AmazonS3Builder;
use object_store::{ObjectMeta, ObjectStore, path::Path as StorePath};
use url::Url;

use crate::sql::{identifier, literal, plain};

/// The folder of commit records, and the table made of it in the schema `files`.
const SLICES: (&str, &str) = ("_slices", "slices");
/// The partition column: the UTC day of the slice.
const DAY: &str = "date";

/// Registers the lake at a folder or an `s3://` address. Gives the names of its views.
pub async fn register(ctx: &SessionContext, root: &str) -> Result<Vec<String>> {
    register_as_of(ctx, root, None).await
}

/// As [`register`], but shows the lake as it was at an instant: slices observed later do not exist.
pub async fn register_as_of(ctx: &SessionContext, root: &str, as_of: Option<DateTime<Utc>>) -> Result<Vec<String>> {
    let lake = Lake::open(ctx, root).await?;
    let tables = lake.tables(ctx).await?;
    let views = views(&tables, as_of);
    ctx.sql("create schema if not exists files").await.map_err(|e| plain("the lake cannot be registered", &e))?;
    let slices = ListingOptions::new(Arc::new(ParquetFormat::default()));
    lake.list(ctx, SLICES.0, SLICES.1, slices, slices_schema())?;
    for table in &tables {
        let options = ListingOptions::new(Arc::new(ParquetFormat::default()))
            .with_table_partition_cols(vec![(DAY.to_owned(), DataType::Date32)]);
        lake.list(ctx, &table.dataset.name, &table.dataset.name, options, table.schema.clone())?;
    }
    for view in &views {
        let sql = format!("create or replace view {} as {}", view.name, view.body);
        ctx.sql(&sql).await.map_err(|e| plain(&format!("the view `{}` cannot be made", view.name), &e))?;
    }
    Ok(views.into_iter().filter(|v| !v.name.starts_with("files.")).map(|v| v.name).collect())
}

/// The views of a lake as a script for DuckDB, with the same meaning as those of [`register_as_of`].
pub async fn script(ctx: &SessionContext, root: &str, as_of: Option<DateTime<Utc>>) -> Result<String> {
    let lake = Lake::open(ctx, root).await?;
    let tables = lake.tables(ctx).await?;
    let mut out = String::from("create schema if not exists files;\n");
    let mut files = |folder: &str, glob: &str, table: &str, hive: bool| {
        let path = literal(&format!("{}{folder}/{glob}", lake.address));
        let _ = writeln!(
            out,
            "create or replace view files.{} as\nselect * from read_parquet({path}, union_by_name = true, \
             hive_partitioning = {hive});",
            identifier(table)
        );
    };
    files(SLICES.0, "*.parquet", SLICES.1, false);
    for table in tables.iter().filter(|t| t.has_files) {
        files(&table.dataset.name, "*/*.parquet", &table.dataset.name, true);
    }
    let tables: Vec<Table> = tables.into_iter().filter(|t| t.has_files).collect();
    for view in views(&tables, as_of) {
        let _ = writeln!(out, "create or replace view {} as\n{};", view.name, view.body);
    }
    Ok(out)
}

/// One dataset of a lake.
struct Table {
    dataset: Dataset,
    /// The columns of its files, old and new.
    schema: SchemaRef,
    /// The column that says when a row's slice was observed, and the one with the slice's name.
    observed_at: &'static str,
    slice_id: &'static str,
    has_files: bool,
}

struct View {
    /// Its name, quoted where needed.
    name: String,
    body: String,
}

struct Lake {
    /// The root as an object store address that ends in a slash.
    url: Url,
    /// The root for people and DuckDB, with a slash at its end.
    address: String,
    store: Arc<dyn ObjectStore>,
    prefix: StorePath,
}

impl Lake {
    async fn open(ctx: &SessionContext, root: &str) -> Result<Self> {
        let (url, address) = if root.contains("://") { remote(ctx, root)? } else { local(root)? };
        let table = ListingTableUrl::parse(&url).map_err(|e| plain("the lake's address cannot be used", &e))?;
        let store = ctx.runtime_env().object_store(&table).map_err(|e| plain("the lake cannot be reached", &e))?;
        let lake = Self { prefix: table.prefix().clone(), url, address, store };
        let slices = lake.prefix.clone().join(SLICES.0);
        let found = lake.store.list(Some(&slices)).try_next().await.map_err(|e| lake.unreadable(e))?;
        if found.is_none() {
            return Err(Fault::user(format!("`{root}` is not a lake: it has no committed slice"))
                .hint("A lake is the folder that a `parquet` sink writes to. To read single files, name them in the query: `select * from 'x.parquet'`."));
        }
        Ok(lake)
    }

    /// The datasets that have a folder, and those that were committed without ever having had a row.
    async fn tables(&self, ctx: &SessionContext) -> Result<Vec<Table>> {
        let listing = self.store.list_with_delimiter(Some(&self.prefix)).await.map_err(|e| self.unreadable(e))?;
        let folders: BTreeSet<String> = (listing.common_prefixes.iter())
            .filter_map(|p| p.filename().map(str::to_owned))
            .filter(|name| !name.starts_with(['_', '.']))
            .collect();
        let mut tables = Vec::new();
        for folder in folders {
            if let Some(newest) = self.newest_file(&folder).await? {
                let format = ParquetFormat::default().with_skip_metadata(false);
                let schema = format
                    .infer_schema(&ctx.state(), &self.store, &[newest])
                    .await
                    .map_err(|e| plain(&format!("the files of `{folder}` cannot be read"), &e))?;
                tables.push(Table::new(&folder, Some(&schema)));
            }
        }
        let known: BTreeSet<&str> = tables.iter().map(|t| t.dataset.name.as_str()).collect();
        let empty: Vec<_> = self.committed(ctx).await?.into_iter().filter(|d| !known.contains(d.as_str())).collect();
        tables.extend(empty.iter().filter(|d| datasets::find(d).is_some()).map(|d| Table::new(d, None)));
        Ok(tables)
    }

    /// The datasets that the newest commit records name.
    async fn committed(&self, ctx: &SessionContext) -> Result<BTreeSet<String>> {
        let records = self.store.list(Some(&self.prefix.clone().join(SLICES.0)));
        let newest = records
            .try_fold(None, |newest: Option<ObjectMeta>, file| async move {
                Ok(newest.into_iter().chain([file]).max_by_key(age))
            })
            .await
            .map_err(|e| self.unreadable(e))?;
        let Some(newest) = newest else { return Ok(BTreeSet::new()) };
        let name = newest.location.filename().unwrap_or_default();
        let url = self.url.join(&format!("{}/{name}", SLICES.0)).map_err(no_address)?;
        let unreadable = |e| plain("the commit records of the lake cannot be read", &e);
        let batches = ctx
            .read_parquet(url.as_str(), datafusion::prelude::ParquetReadOptions::default().schema(&slices_schema()))
            .await
            .map_err(unreadable)?
            .select_columns(&["dataset"])
            .and_then(|d| d.distinct())
            .map_err(unreadable)?
            .collect()
            .await
            .map_err(unreadable)?;
        Ok(batches
            .iter()
            .flat_map(|b| arrow::array::AsArray::as_string::<i32>(b.column(0)).iter().flatten())
            .map(str::to_owned)
            .collect())
    }

    async fn newest_file(&self, folder: &str) -> Result<Option<ObjectMeta>> {
        let prefix = self.prefix.clone().join(folder);
        let days = self.store.list_with_delimiter(Some(&prefix)).await.map_err(|e| self.unreadable(e))?;
        let mut days = days.common_prefixes;
        days.sort();
        // A day can be without a file for a moment, while it is compacted.
        for day in days.iter().rev() {
            let files: Vec<ObjectMeta> =
                self.store.list(Some(day)).try_collect().await.map_err(|e| self.unreadable(e))?;
            let parquet = files.into_iter().filter(|f| f.location.extension() == Some("parquet"));
            if let Some(newest) = parquet.max_by_key(age) {
                return Ok(Some(newest));
            }
        }
        Ok(None)
    }

    fn list(
        &self,
        ctx: &SessionContext,
        folder: &str,
        table: &str,
        options: ListingOptions,
        schema: SchemaRef,
    ) -> Result<()> {
        let failed = |e| plain(&format!("the files of `{folder}` cannot be registered"), &e);
        let url = self.url.join(&format!("{folder}/")).map_err(no_address)?;
        let url = ListingTableUrl::parse(url.as_str()).map_err(failed)?;
        let config = ListingTableConfig::new(url)
            .with_listing_options(options.with_file_extension(".parquet"))
            .with_schema(schema);
        let provider = ListingTable::try_new(config).map_err(failed)?;
        ctx.register_table(TableReference::partial("files", table), Arc::new(provider)).map_err(failed)?;
        Ok(())
    }

    fn unreadable(&self, error: object_store::Error) -> Fault {
        let fault = Fault::user(format!("the lake `{}` cannot be read", self.address)).because(error);
        match self.address.starts_with("s3://") {
            true => fault.hint("Check that the bucket exists, the `AWS_…` variables and what they may read."),
            false => fault,
        }
    }
}

fn no_address(error: url::ParseError) -> Fault {
    Fault::us("a folder of the lake has no address").because(error)
}

fn local(root: &str) -> Result<(Url, String)> {
    let path = Path::new(root).canonicalize().map_err(|e| {
        Fault::user(format!("the lake `{root}` cannot be opened"))
            .because(e)
            .hint("Name the folder that a `parquet` sink writes to; a path begins in the folder that you are in.")
    })?;
    let url = Url::from_directory_path(&path).map_err(|()| Fault::user(format!("`{root}` is not a folder")))?;
    if !path.is_dir() {
        return Err(Fault::user(format!("`{root}` is not a folder"))
            .hint("Give the folder that holds the datasets; a single file can be named in the query."));
    }
    Ok((url, format!("{}/", path.display())))
}

/// An `s3://` address. Credentials, region and endpoint come from the usual `AWS_…` variables.
fn remote(ctx: &SessionContext, root: &str) -> Result<(Url, String)> {
    let wrong = || {
        Fault::user("the lake's address is neither a folder nor `s3://bucket/path`")
            .hint("Credentials do not belong in it: they come from `AWS_ACCESS_KEY_ID` and its companions.")
    };
    let mut url = Url::parse(root).map_err(|_| wrong())?;
    let bucket = url.host_str().ok_or_else(wrong)?.to_owned();
    if url.scheme() != "s3" || !url.username().is_empty() || url.query().is_some() {
        return Err(wrong());
    }
    if !url.path().ends_with('/') {
        url.set_path(&format!("{}/", url.path()));
    }
    let store = AmazonS3Builder::from_env()
        .with_bucket_name(&bucket)
        .build()
        .map_err(|e| Fault::user(format!("the bucket `{bucket}` cannot be used")).because(e))?;
    ctx.register_object_store(&url, Arc::new(store));
    let address = url.to_string();
    Ok((url, address))
}

fn instant() -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))
}

/// The order of files. Those of one tick of the store's clock, which can be coarse, are told apart by their names: slices
/// of a run are numbered, and ids of runs grow with time.
fn age(file: &ObjectMeta) -> (DateTime<Utc>, StorePath) {
    (file.last_modified, file.location.clone())
}

fn slices_schema() -> SchemaRef {
    let text = |name| Field::new(name, DataType::Utf8, true);
    Arc::new(Schema::new(vec![
        text("slice_id"),
        Field::new("observed_at", instant(), true),
        text("pipeline"),
        text("dataset"),
        text("scope"),
        text("origin"),
        Field::new("rows", DataType::Int64, true),
    ]))
}

impl Table {
    /// The dataset of that name, as the catalog and its newest file describe it. Files of an older version have fewer
    /// columns, so all may be null.
    fn new(name: &str, file: Option<&Schema>) -> Self {
        let known = datasets::find(name);
        let dataset = known.cloned().unwrap_or_else(|| unknown(name, file));
        let has = |column: &str| match file {
            Some(schema) => schema.column_with_name(column).is_some(),
            None => dataset.column(column.trim_start_matches('_')).is_some(),
        };
        let observed_at = if has("_observed_at") { "_observed_at" } else { "observed_at" };
        let slice_id = if has("_slice_id") { "_slice_id" } else { "slice_id" };
        let known = known.map(|d| d.schema().fields().clone()).unwrap_or_default();
        let mut fields: Vec<Field> = known.iter().map(|f| f.as_ref().clone()).collect();
        let more = file.into_iter().flat_map(|s| s.fields().iter()).map(|f| f.as_ref().clone());
        let own = [Field::new(observed_at, instant(), true), Field::new(slice_id, DataType::Utf8, true)];
        for field in own.into_iter().chain(more) {
            if fields.iter().all(|f| f.name() != field.name()) {
                fields.push(field);
            }
        }
        let fields: Vec<Field> = fields.into_iter().map(|f| f.with_nullable(true)).collect();
        Self { schema: Arc::new(Schema::new(fields)), dataset, observed_at, slice_id, has_files: file.is_some() }
    }

    /// Newer than another record of a slice, both given as table aliases.
    fn newer(&self, record: &str, row: &str) -> String {
        let (at, id) = (self.observed_at, self.slice_id);
        format!(
            "({record}.observed_at > {row}.{at} or ({record}.observed_at = {row}.{at} and {record}.slice_id > {row}.{id}))"
        )
    }

    /// Drops the rows whose scope came whole, later, without them.
    fn not_gone(&self, scope: &str, origin: &str) -> String {
        format!(
            "not exists (\n  select 1 from files.whole as w\n  where w.dataset = {} and w.scope = r.{} and {origin}\n    and {})",
            literal(&self.dataset.name),
            identifier(scope),
            self.newer("w", "r")
        )
    }

    /// The rows of committed slices.
    fn committed(&self, as_of: Option<DateTime<Utc>>) -> String {
        let (at, id) = (self.observed_at, self.slice_id);
        let mut sql = format!(
            "select * from files.{} as r\nwhere exists (\n  select 1 from files.slices as s\n  where s.dataset = {} and \
             s.slice_id = r.{id} and s.observed_at = r.{at})",
            identifier(&self.dataset.name),
            literal(&self.dataset.name)
        );
        if let Some(as_of) = as_of {
            // The day prunes folders, the instant rows.
            let _ = write!(sql, "\n  and r.{DAY} <= date '{}' and r.{at} <= {}", as_of.date_naive(), timestamp(as_of));
        }
        sql
    }

    fn columns(&self, names: &[&str]) -> String {
        names.iter().map(|n| format!("r.{}", identifier(n))).collect::<Vec<_>>().join(", ")
    }

    /// The newest row per key that is still there, from a view of all rows.
    fn newest(&self, history: &str, listed: bool) -> String {
        let key = self.dataset.key();
        let (mut before, mut after) = (Vec::new(), Vec::new());
        if listed && self.of_property() {
            before.push(
                "not exists (select 1 from files.left_properties as l where l.property_id = r.property_id)".to_owned(),
            );
        }
        if let Some(scope) = &self.dataset.scope {
            let whole = self.not_gone(scope, "w.origin is null");
            let part = self
                .dataset
                .origin
                .as_ref()
                .map(|origin| self.not_gone(scope, &format!("w.origin = r.{}", identifier(origin))));
            // Rows of one key share their scope when it is part of the key: then a row that is gone has no successor,
            // and to drop it before rows are compared spares reading most of the history.
            if key.is_empty() || key.contains(&scope.as_str()) { &mut before } else { &mut after }.push(whole);
            if key.is_empty() { &mut before } else { &mut after }.extend(part);
        }
        let mut sql = format!("select * exclude ({DAY}) from {history} as r");
        if !before.is_empty() {
            let _ = write!(sql, "\nwhere {}", before.join("\n  and "));
        }
        if !key.is_empty() {
            let _ = write!(
                sql,
                "\nqualify row_number() over (partition by {} order by {}r.{} desc, r.{} desc) = 1",
                self.columns(&key),
                // A row never gives way to an older version of itself, however late that one came.
                match self.dataset.version_column.as_deref().filter(|_| self.dataset.mode == WriteMode::Upsert) {
                    Some(version) => format!("r.{} desc nulls last, ", identifier(version)),
                    None => String::new(),
                },
                self.observed_at,
                self.slice_id
            );
        }
        if !after.is_empty() {
            sql = format!("select * from (\n{sql}\n) as r\nwhere {}", after.join("\n  and "));
        }
        sql
    }

    /// Whether its rows are a property's, and leave with it.
    fn of_property(&self) -> bool {
        self.dataset.mode == WriteMode::Snapshot && self.dataset.scope.as_deref() == Some("property_id")
    }

    /// The rows that differ from the one before them.
    fn changes(&self, committed: &str) -> String {
        let version = self.dataset.version_column.as_deref();
        let key: Vec<&str> = self.dataset.key().into_iter().filter(|k| Some(*k) != version).collect();
        let order = [version.unwrap_or(self.observed_at), self.slice_id];
        let window = format!("over (partition by {} order by {})", self.columns(&key), self.columns(&order));
        let values = (self.dataset.columns.iter())
            .filter(|c| !c.key && self.schema.column_with_name(&c.name).is_some())
            .map(|c| identifier(&c.name));
        let differs =
            values.map(|c| format!("\n  or (lag(r.{c}) {window} is distinct from r.{c})")).collect::<String>();
        format!("select * exclude ({DAY}) from (\n{committed}\n) as r\nqualify row_number() {window} = 1{differs}")
    }
}

/// A dataset that this version does not know: its file says what the key is.
fn unknown(name: &str, file: Option<&Schema>) -> Dataset {
    let key = file.and_then(|s| s.metadata().get(KEY)).map(String::as_str).unwrap_or_default();
    let mut dataset = Dataset::new(name, "unknown to this version").mode(WriteMode::Upsert);
    // Types are the file's own; the kind here only has to be some.
    dataset.columns =
        key.split(',').filter(|k| !k.is_empty()).map(|k| catalog::dataset::text(k, "key").key()).collect();
    dataset
}

fn views(tables: &[Table], as_of: Option<DateTime<Utc>>) -> Vec<View> {
    let until = as_of.map(|t| format!(" and observed_at <= {}", timestamp(t))).unwrap_or_default();
    let whole = format!(
        "select * from files.slices where scope is not null{until}\nqualify row_number() over (partition by dataset, \
         scope, origin order by observed_at desc, slice_id desc) = 1"
    );
    let mut views = vec![View { name: "files.whole".to_owned(), body: whole }];
    // The list of properties comes first: what belongs to one that has left it is in no view behind.
    let mut tables: Vec<&Table> = tables.iter().collect();
    tables.sort_by_key(|table| table.dataset.name != PROPERTIES);
    let mut listed = false;
    for table in &tables {
        let name = identifier(&table.dataset.name);
        let committed = table.committed(as_of);
        match table.dataset.mode {
            WriteMode::History => views.push(View { name, body: table.changes(&committed) }),
            WriteMode::Append => views.push(View { name, body: committed }),
            WriteMode::Upsert | WriteMode::Snapshot => {
                let history = identifier(&format!("{}_history", table.dataset.name));
                views.push(View { name: history.clone(), body: committed });
                views.push(View { name, body: table.newest(&history, listed) });
            }
        }
        if table.dataset.name == PROPERTIES && table.has_files {
            listed = true;
            views.push(View { name: "files.left_properties".to_owned(), body: LEFT_PROPERTIES.to_owned() });
        }
    }
    if tables.iter().any(|t| t.dataset.name == "price_history") {
        views.push(View { name: "price_changes".to_owned(), body: PRICE_CHANGES.to_owned() });
    }
    let known: BTreeSet<&str> = tables.iter().map(|t| t.dataset.name.as_str()).collect();
    for query in QUERIES.iter().filter(|q| q.lake && q.inputs().iter().all(|i| known.contains(i))) {
        views.push(View { name: identifier(query.name), body: query.over(identifier) });
    }
    views
}

/// The dataset of the lists of properties.
const PROPERTIES: &str = "account_properties";

/// The properties that were on a list once and are on none any more.
const LEFT_PROPERTIES: &str = "\
select distinct property_id from account_properties_history
where property_id not in (select property_id from account_properties)";

/// What a rent was and became. A price that was withdrawn and came back is compared with what it was before.
const PRICE_CHANGES: &str = "\
select property_id, unit_number, offer_id, lease_term_months, observed_at as changed_at,
  previous_rent, rent, rent - previous_rent as difference, currency
from (
  select *, lag(rent) over (
    partition by property_id, unit_number, offer_id, currency order by observed_at) as previous_rent
  from price_history
  where rent is not null
) as p
where rent <> previous_rent";

fn timestamp(at: DateTime<Utc>) -> String {
    format!("timestamptz '{}'", at.to_rfc3339_opts(SecondsFormat::Micros, true))
}
