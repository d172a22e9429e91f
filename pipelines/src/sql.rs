//! `propflow sql`: questions in SQL to the lake, to files and to PostgreSQL. It only ever reads.
//!
//! Without `--db` the query runs here, on DataFusion, over the views of a lake ([`crate::lake`]) and over files named by
//! their path. With `--db` it runs on the PostgreSQL server as it is written, in a read-only transaction.

use std::fmt::Write as _;
use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{ArrayRef, BooleanBuilder, Float64Builder, Int64Builder, RecordBatch, StringBuilder};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use catalog::{Blame, Fault, Result, store};
use chrono::{DateTime, NaiveDate, Utc};
use datafusion::common::{SchemaError, TableReference};
use datafusion::datasource::TableProvider;
use datafusion::datasource::file_format::FileFormat;
use datafusion::datasource::file_format::csv::CsvFormat;
use datafusion::datasource::file_format::json::JsonFormat;
use datafusion::datasource::file_format::parquet::ParquetFormat;
use datafusion::datasource::listing::{ListingOptions, ListingTable, ListingTableConfig, ListingTableUrl};
use datafusion::error::DataFusionError;
use datafusion::execution::context::SQLOptions;
use datafusion::prelude::{SessionConfig, SessionContext};
use datafusion::sql::parser::{DFParserBuilder, Statement};
use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::keywords::{ALL_KEYWORDS, ALL_KEYWORDS_INDEX, RESERVED_FOR_COLUMN_ALIAS};
use futures::TryStreamExt;
use sqlx::postgres::{PgConnection, PgRow};
use sqlx::{
    AssertSqlSafe, Column as _, Connection as _, Executor as _, Row as _, SqlSafeStr as _, Statement as _,
    TypeInfo as _,
};

use crate::lake;
use crate::render::{Format, Printer, mark_numbers};

/// Rows fetched from PostgreSQL at a time.
const FETCH: usize = 1_000;

/// What to ask, of whom, and how to show the answer.
#[derive(Debug, Clone, clap::Args)]
pub struct Options {
    /// The query. A file is a table by its quoted path: 'x.parquet', 'x.csv', 'x.jsonl', 'folder/*.parquet'
    #[arg(required_unless_present = "print_views")]
    pub sql: Option<String>,
    /// The lake whose datasets are tables: a folder or `s3://bucket/path`
    #[arg(long, value_name = "DIR", conflicts_with = "db")]
    pub lake: Option<String>,
    /// Show the lake as it was at an instant (2026-07-01T06:00:00Z) or at the end of a day in UTC (2026-07-01)
    #[arg(long, value_name = "WHEN", requires = "lake", value_parser = parse_as_of)]
    pub as_of: Option<DateTime<Utc>>,
    /// Print the lake's views as a script for DuckDB, and ask nothing
    #[arg(long, requires = "lake")]
    pub print_views: bool,
    /// Ask PostgreSQL (`DATABASE_URL`) in its own SQL, in a read-only transaction
    #[arg(long)]
    pub db: bool,
    /// How to print the answer
    #[arg(long, value_enum, default_value_t)]
    pub format: Format,
    /// Give up after this many seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 600, value_parser = clap::value_parser!(u64).range(1..))]
    pub timeout_secs: u64,
    /// The database, for `db`.
    #[arg(skip)]
    pub database_url: Option<String>,
    /// The width of the terminal; `None` when the answer goes elsewhere.
    #[arg(skip)]
    pub width: Option<u16>,
}

/// Answers the query. Gives the number of rows. A reader that stops reading (`| head`) is no failure.
pub async fn run(options: &Options, out: &mut dyn Write) -> Result<u64> {
    let limit = Duration::from_secs(options.timeout_secs);
    let answer = async { if options.db { from_database(options, out).await } else { from_files(options, out).await } };
    match tokio::time::timeout(limit, answer).await {
        Ok(Err(Failure::Output(e))) if e.kind() == io::ErrorKind::BrokenPipe => Ok(0),
        Ok(Err(Failure::Output(e))) => Err(Fault::user("the answer cannot be written").because(e)),
        Ok(Err(Failure::Fault(fault))) => Err(fault),
        Ok(Ok(rows)) => Ok(rows),
        Err(_) => Err(Fault::user(format!("the query took longer than {} seconds", options.timeout_secs))
            .hint("Ask for less, or allow more with `--timeout-secs`.")),
    }
}

enum Failure {
    Fault(Fault),
    Output(io::Error),
}

impl From<Fault> for Failure {
    fn from(fault: Fault) -> Self {
        Failure::Fault(fault)
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Failure::Output(error)
    }
}

/// An instant, or a day that stands for its last microsecond in UTC.
fn parse_as_of(text: &str) -> Result<DateTime<Utc>, String> {
    if let Ok(instant) = DateTime::parse_from_rfc3339(text) {
        return Ok(instant.to_utc());
    }
    let day: NaiveDate =
        text.parse().map_err(|_| "write a day as 2026-07-01 or an instant as 2026-07-01T06:00:00Z".to_owned())?;
    day.and_hms_micro_opt(23, 59, 59, 999_999).map(|t| t.and_utc()).ok_or_else(|| "no such day".to_owned())
}

// ---- files and lake

async fn from_files(options: &Options, out: &mut dyn Write) -> Result<u64, Failure> {
    let ctx = session()?;
    if options.print_views {
        let root = options.lake.as_deref().unwrap_or_default();
        write!(out, "{}", lake::script(&ctx, root, options.as_of).await?)?;
        return Ok(0);
    }
    if let Some(root) = &options.lake {
        lake::register_as_of(&ctx, root, options.as_of).await?;
    }
    let mut rows = query(&ctx, options.sql.as_deref().unwrap_or_default()).await?;
    let mut printer = Printer::new(options.format, rows.schema(), options.width, out)?;
    while let Some(batch) = rows.try_next().await.map_err(|e| plain("the query failed", &e))? {
        printer.batch(&batch)?;
    }
    Ok(printer.finish()?)
}

fn session() -> Result<SessionContext> {
    // A lake has tens of thousands of files: each is opened once, when it is read.
    let config = SessionConfig::new().with_information_schema(true).with_collect_statistics(false);
    transforms::session_with(config).map_err(|e| plain("a session cannot be made", &e))
}

/// Plans and starts one reading statement. Files that it names by path become tables of the session.
pub async fn query(ctx: &SessionContext, sql: &str) -> Result<datafusion::execution::SendableRecordBatchStream> {
    let statement = parse(sql)?;
    let verb = sql.split_whitespace().next().unwrap_or_default().to_lowercase();
    if !reads(&statement) {
        return Err(read_only(&verb));
    }
    let state = ctx.state();
    let tables = state.resolve_table_references(&statement).map_err(|e| plain("the query cannot be read", &e))?;
    for table in tables {
        if ctx.table_exist(table.clone()).unwrap_or(false) {
            continue;
        }
        match &table {
            TableReference::Bare { table: name } if is_path(name) => {
                let provider = file(ctx, name).await?;
                ctx.register_table(table.clone(), provider).map_err(|e| plain("the file cannot be a table", &e))?;
            }
            _ => return Err(unknown_table(ctx, &table)),
        }
    }
    let plan = state.statement_to_plan(statement).await.map_err(|e| plain("the query cannot be planned", &e))?;
    SQLOptions::new()
        .with_allow_ddl(false)
        .with_allow_dml(false)
        .with_allow_statements(false)
        .verify_plan(&plan)
        .map_err(|_| read_only(&verb))?;
    let frame = ctx.execute_logical_plan(plan).await.map_err(|e| plain("the query cannot be planned", &e))?;
    frame.execute_stream().await.map_err(|e| plain("the query failed", &e))
}

/// Whether a statement is of a kind that reads. What stands inside it is judged once it is planned.
fn reads(statement: &Statement) -> bool {
    use datafusion::sql::sqlparser::ast::Statement as Sql;
    match statement {
        Statement::Explain(_) => true,
        Statement::Statement(sql) => matches!(
            sql.as_ref(),
            Sql::Query(_)
                | Sql::ExplainTable { .. }
                | Sql::ShowTables { .. }
                | Sql::ShowColumns { .. }
                | Sql::ShowVariable { .. }
                | Sql::ShowFunctions { .. }
        ),
        _ => false,
    }
}

fn read_only(verb: &str) -> Fault {
    Fault::user(format!("`{verb}` is refused: `propflow sql` only reads"))
        .hint("Ask with `select`. To load data, use `propflow run` or `propflow copy`.")
}

fn parse(sql: &str) -> Result<Statement> {
    let mut statements = DFParserBuilder::new(sql)
        .with_dialect(&GenericDialect {})
        .build()
        .and_then(|mut parser| parser.parse_statements())
        .map_err(|e| plain("the query cannot be read", &e))?;
    match (statements.pop_front(), statements.len()) {
        (Some(statement), 0) => Ok(statement),
        (None, _) => Err(Fault::user("there is no query").hint("Write it in quotes, such as \"select 1\".")),
        (Some(_), more) => Err(Fault::user(format!("there are {} statements", more + 1)).hint("Ask one at a time.")),
    }
}

fn is_path(name: &str) -> bool {
    name.contains(['/', '.', '*', '?']) || Path::new(name).exists()
}

/// A file, a folder of files or a pattern as a table. The ending decides the format; columns and types are taken from
/// all of the content, so that no later row can contradict them.
async fn file(ctx: &SessionContext, path: &str) -> Result<Arc<dyn TableProvider>> {
    let failed = |e: DataFusionError| plain(&format!("`{path}` cannot be read as a table"), &e);
    if path.contains("://") {
        return Err(Fault::user(format!("`{path}` is not a local file"))
            .hint("Name a file on this machine; a lake on S3 goes with `--lake s3://bucket/path`."));
    }
    let url = ListingTableUrl::parse(path).map_err(failed)?;
    let sample = sample(path)?;
    let ending = sample.rsplit_once('.').map(|(_, e)| e.to_ascii_lowercase()).unwrap_or_default();
    let format: Arc<dyn FileFormat> = match ending.as_str() {
        "parquet" => Arc::new(ParquetFormat::default()),
        "csv" => Arc::new(csv(b',')),
        "tsv" => Arc::new(csv(b'\t')),
        "json" | "jsonl" | "ndjson" => Arc::new(
            JsonFormat::default().with_schema_infer_max_rec(usize::MAX).with_newline_delimited(!is_array(&sample)?),
        ),
        _ => {
            return Err(Fault::user(format!("`{sample}` has an ending that is no table format")).hint(
                "Files that end in .parquet, .csv, .tsv, .json, .jsonl or .ndjson can be read; unpack others first.",
            ));
        }
    };
    let state = ctx.state();
    let options =
        ListingOptions::new(format).with_file_extension(format!(".{}", sample.rsplit('.').next().unwrap_or("")));
    let mut config = ListingTableConfig::new(url.clone()).with_listing_options(options.clone());
    if url.is_collection() {
        config = config.infer_partitions_from_path(&state).await.map_err(failed)?;
    }
    let mut schema = options.infer_schema(&state, &url).await.map_err(|e| match e.find_root().to_string() {
        text if text.contains("no files found") => Fault::user(format!("no file is found at `{path}`"))
            .hint("A path begins in the folder that you are in; put patterns and paths in single quotes."),
        _ => failed(e),
    })?;
    if matches!(ending.as_str(), "csv" | "tsv") {
        schema = keep_leading_zeros(ctx, config.clone(), schema).await.map_err(failed)?;
    }
    let table = ListingTable::try_new(config.with_schema(schema)).map_err(failed)?;
    Ok(Arc::new(table))
}

fn csv(delimiter: u8) -> CsvFormat {
    CsvFormat::default()
        .with_has_header(true)
        .with_delimiter(delimiter)
        .with_newlines_in_values(true)
        .with_schema_infer_max_rec(usize::MAX)
}

/// A column of digits with leading zeros holds postal codes or account numbers, not quantities: it stays text.
async fn keep_leading_zeros(
    ctx: &SessionContext,
    config: ListingTableConfig,
    schema: SchemaRef,
) -> datafusion::error::Result<SchemaRef> {
    let whole = |f: &&Arc<Field>| f.data_type() == &DataType::Int64;
    if !schema.fields().iter().any(|f| whole(&f)) {
        return Ok(schema);
    }
    let text = |f: &Field| f.clone().with_data_type(DataType::Utf8);
    let as_text = Schema::new(schema.fields().iter().map(|f| text(f)).collect::<Vec<_>>());
    let table = ctx.read_table(Arc::new(ListingTable::try_new(config.with_schema(Arc::new(as_text)))?))?;
    let zeros: Vec<_> = (schema.fields().iter().filter(whole))
        .map(|f| {
            let column = datafusion::prelude::ident(f.name());
            let matches = datafusion::prelude::regexp_like(column, datafusion::prelude::lit("^-?0[0-9]"), None);
            datafusion::functions_aggregate::expr_fn::bool_or(matches).alias(f.name())
        })
        .collect();
    let found = table.aggregate(vec![], zeros)?.collect().await?;
    let has_zeros = |name: &str| {
        found.iter().any(|b| {
            b.column_by_name(name).is_some_and(|c| arrow::array::AsArray::as_boolean(c).iter().flatten().any(|z| z))
        })
    };
    Ok(Arc::new(Schema::new(
        schema
            .fields()
            .iter()
            .map(|f| if has_zeros(f.name()) { text(f) } else { f.as_ref().clone() })
            .collect::<Vec<_>>(),
    )))
}

/// One file that a path stands for.
fn sample(path: &str) -> Result<String> {
    let missing = || Fault::user(format!("there is no file `{path}`"));
    if let Some(star) = path.find(['*', '?', '[']) {
        let folder =
            path[..star].rsplit_once('/').map_or(".", |(folder, _)| if folder.is_empty() { "/" } else { folder });
        if !Path::new(folder).is_dir() {
            return Err(missing());
        }
        // The listing applies the pattern; its ending says the format.
        return if path.ends_with(['*', '?', ']', '/']) {
            Err(Fault::user(format!("the pattern `{path}` does not say which format its files have"))
                .hint("Let it end in the files' ending, such as `*.parquet`."))
        } else {
            Ok(path.to_owned())
        };
    }
    if !Path::new(path).is_dir() {
        return if Path::new(path).exists() { Ok(path.to_owned()) } else { Err(near_file(path, missing())) };
    }
    let mut folders = vec![path.to_owned()];
    while let Some(folder) = folders.pop() {
        let entries = std::fs::read_dir(&folder)
            .map_err(|e| Fault::user(format!("the folder `{folder}` cannot be read")).because(e))?;
        for entry in entries.flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let full = format!("{}/{name}", folder.trim_end_matches('/'));
            if entry.path().is_dir() {
                folders.extend(name.contains('=').then_some(full));
            } else if name.contains('.') && !name.starts_with(['.', '_']) {
                return Ok(full);
            }
        }
    }
    Err(Fault::user(format!("there is no table in the folder `{path}`")))
}

fn near_file(path: &str, fault: Fault) -> Fault {
    let path = Path::new(path);
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let names: Vec<String> = std::fs::read_dir(folder)
        .map(|entries| entries.flatten().map(|e| e.file_name().to_string_lossy().into_owned()).collect())
        .unwrap_or_default();
    let wanted = path.file_name().unwrap_or_default().to_string_lossy();
    match nearest(&wanted, names.iter().map(String::as_str)).as_slice() {
        [] => fault,
        near => fault.hint(format!("In that folder there is {}.", quoted(near))),
    }
}

/// Whether a JSON file is one array, and not one value a line.
fn is_array(path: &str) -> Result<bool> {
    if !Path::new(path).is_file() {
        return Ok(false);
    }
    let unreadable = |e| Fault::user(format!("`{path}` cannot be read")).because(e);
    let mut file = std::fs::File::open(path).map_err(unreadable)?;
    let mut start = [0; 64];
    let read = io::Read::read(&mut file, &mut start).map_err(unreadable)?;
    Ok(start[..read].iter().find(|b| !b.is_ascii_whitespace()) == Some(&b'['))
}

fn unknown_table(ctx: &SessionContext, table: &TableReference) -> Fault {
    let mut known = Vec::new();
    for catalog in ctx.catalog_names().iter().filter_map(|c| ctx.catalog(c)) {
        for schema in ["public", "files"].iter().filter_map(|s| Some((*s, catalog.schema(s)?))) {
            let prefix = if schema.0 == "public" { "" } else { "files." };
            known.extend(schema.1.table_names().into_iter().map(|t| format!("{prefix}{t}")));
        }
    }
    known.sort();
    let name = table.to_string();
    let fault = Fault::user(format!("there is no table `{name}`"));
    if known.is_empty() {
        return fault
            .hint("Name a lake with `--lake DIR`, or a file by its path in single quotes: `from 'units.csv'`.");
    }
    let inner = name.starts_with("files.");
    let near = nearest(&name, known.iter().map(String::as_str).filter(|t| t.starts_with("files.") == inner));
    let public: Vec<&str> = known.iter().map(String::as_str).filter(|t| !t.starts_with("files.")).collect();
    fault.hint(match near.as_slice() {
        [] => format!("There is {}.", quoted(&public)),
        near => format!("Did you mean {}? There is {}.", quoted(near), quoted(&public)),
    })
}

// ---- PostgreSQL

async fn from_database(options: &Options, out: &mut dyn Write) -> Result<u64, Failure> {
    let Some(url) = &options.database_url else {
        return Err(Fault::user("there is no database to ask")
            .hint("Set `DATABASE_URL`, or ask the lake with `--lake DIR`.")
            .into());
    };
    let sql = options.sql.as_deref().unwrap_or_default().trim().trim_end_matches(';');
    let pool = store::connect(url, 1).await?;
    let mut connection = pool.acquire().await.map_err(|e| store::pg::fault("cannot connect to PostgreSQL", e))?;
    let failed = |e| store::pg::fault("the query cannot be started", e);
    let mut transaction = connection.begin().await.map_err(failed)?;
    let setup = format!(
        // The check interval makes the server notice that we are gone, and stop.
        "set transaction read only; set local statement_timeout = {}; set local client_connection_check_interval = 1000",
        options.timeout_secs.saturating_mul(1000).min(i32::MAX as u64)
    );
    sqlx::raw_sql(AssertSqlSafe(setup)).execute(&mut *transaction).await.map_err(failed)?;
    let verb = sql.split_whitespace().next().unwrap_or_default().to_lowercase();
    let prepared = async { transaction.prepare(AssertSqlSafe(sql.to_owned()).into_sql_str()).await }.await;
    // The server itself says whether this is one statement; only then may it go over the protocol that allows several.
    let prepared = match prepared {
        Ok(prepared) => prepared,
        Err(e) => {
            drop(transaction);
            return Err(database_fault(&mut connection, sql, e).await.into());
        }
    };
    let kinds: Vec<Decode> = prepared.columns().iter().map(|c| Decode::of(c.type_info().name())).collect();
    let fields: Vec<Field> =
        (prepared.columns().iter().zip(&kinds)).map(|(c, kind)| Field::new(c.name(), kind.arrow(), true)).collect();
    let numbers: Vec<bool> = kinds.iter().map(|k| *k == Decode::Number).collect();
    let schema = mark_numbers(Schema::new(fields), &numbers);
    let direct = matches!(verb.as_str(), "show" | "explain");
    let first = if direct {
        sql.to_owned()
    } else {
        // Only a query can be the body of a cursor, and rows come in portions.
        let declare = format!("declare propflow_rows no scroll cursor for {sql}");
        if let Err(e) = sqlx::raw_sql(AssertSqlSafe(declare)).execute(&mut *transaction).await {
            let syntax = matches!(&e, sqlx::Error::Database(db) if db.code().as_deref() == Some("42601"));
            drop(transaction);
            return Err(if syntax { read_only(&verb) } else { database_fault(&mut connection, sql, e).await }.into());
        }
        format!("fetch {FETCH} from propflow_rows")
    };
    let mut printer = Printer::new(options.format, schema.clone(), options.width, out)?;
    loop {
        let rows = match sqlx::raw_sql(AssertSqlSafe(first.clone())).fetch_all(&mut *transaction).await {
            Ok(rows) => rows,
            Err(e) => {
                drop(transaction);
                return Err(database_fault(&mut connection, sql, e).await.into());
            }
        };
        printer.batch(&decode(&schema, &kinds, &rows)?)?;
        if direct || rows.len() < FETCH {
            break;
        }
    }
    let count = printer.finish()?;
    transaction.rollback().await.map_err(failed)?;
    Ok(count)
}

/// How a PostgreSQL value, which comes as the server's own text, is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Decode {
    Flag,
    Whole,
    Float,
    /// A numeric: its digits, untouched.
    Number,
    Text,
}

impl Decode {
    fn of(type_name: &str) -> Self {
        match type_name {
            "BOOL" => Decode::Flag,
            "INT2" | "INT4" | "INT8" | "OID" => Decode::Whole,
            "FLOAT4" | "FLOAT8" => Decode::Float,
            "NUMERIC" => Decode::Number,
            _ => Decode::Text,
        }
    }

    fn arrow(self) -> DataType {
        match self {
            Decode::Flag => DataType::Boolean,
            Decode::Whole => DataType::Int64,
            Decode::Float => DataType::Float64,
            Decode::Number | Decode::Text => DataType::Utf8,
        }
    }
}

fn decode(schema: &SchemaRef, kinds: &[Decode], rows: &[PgRow]) -> Result<RecordBatch> {
    let text = |row: &PgRow, i: usize| -> Result<Option<String>> {
        let value = row.try_get_raw(i).map_err(|e| Fault::us("a value of the answer is missing").because(e))?;
        if sqlx::ValueRef::is_null(&value) {
            return Ok(None);
        }
        value
            .as_str()
            .map(|s| Some(s.to_owned()))
            .map_err(|e| Fault::us("a value of the answer is not text").because(e))
    };
    let mut columns: Vec<ArrayRef> = Vec::with_capacity(kinds.len());
    for (i, kind) in kinds.iter().enumerate() {
        macro_rules! build {
            ($builder:ty, $parse:expr) => {{
                let mut builder = <$builder>::new();
                for row in rows {
                    builder.append_option(text(row, i)?.and_then($parse));
                }
                Arc::new(builder.finish()) as ArrayRef
            }};
        }
        columns.push(match kind {
            Decode::Flag => build!(BooleanBuilder, |t: String| Some(t == "t")),
            Decode::Whole => build!(Int64Builder, |t: String| t.parse::<i64>().ok()),
            Decode::Float => build!(Float64Builder, |t: String| t.parse::<f64>().ok()),
            Decode::Number | Decode::Text => build!(StringBuilder, Some),
        });
    }
    let options = arrow::array::RecordBatchOptions::new().with_row_count(Some(rows.len()));
    Ok(RecordBatch::try_new_with_options(schema.clone(), columns, &options)?)
}

/// What the server said, with near names for what it does not know.
async fn database_fault(connection: &mut PgConnection, sql: &str, error: sqlx::Error) -> Fault {
    let (code, message) = match &error {
        sqlx::Error::Database(db) => (db.code().unwrap_or_default().into_owned(), db.message().to_owned()),
        _ => return store::pg::fault("the query failed", error),
    };
    let fault = Fault::user(message.clone());
    match code.as_str() {
        "42P01" | "3F000" => {
            let known: Vec<String> = sqlx::query_scalar(
                "select table_schema || '.' || table_name from information_schema.tables \
                 where table_schema in ('serving', 'core', 'ops', 'public') order by 1",
            )
            .fetch_all(connection)
            .await
            .unwrap_or_default();
            let wanted = message.split('"').nth(1).unwrap_or(sql);
            match nearest(wanted, known.iter().map(String::as_str)).as_slice() {
                [] => {
                    fault.hint("`select table_schema, table_name from information_schema.tables` lists what there is.")
                }
                near => fault.hint(format!("Did you mean {}?", quoted(near))),
            }
        }
        // The last one is a view that cannot be written to.
        "25006" | "25001" | "55000" => fault.hint("`propflow sql` only reads."),
        "42601" if message.contains("multiple commands") => {
            Fault::user("there are several statements").hint("Ask one at a time.")
        }
        "57014" => Fault::user("the query was cancelled: it took too long")
            .hint("Ask for less, or allow more with `--timeout-secs`."),
        // Errors of the query itself: data exceptions, cardinality, undefined and mistyped things.
        c if matches!(c.get(..2), Some("22" | "21" | "42" | "0A")) => {
            let hint = match &error {
                sqlx::Error::Database(db) => {
                    db.try_downcast_ref::<sqlx::postgres::PgDatabaseError>().and_then(|e| e.hint().map(str::to_owned))
                }
                _ => None,
            };
            match hint {
                Some(hint) => fault.hint(hint),
                None => fault,
            }
        }
        _ => store::pg::fault("the query failed", error),
    }
}

// ---- words

/// A DataFusion error as a fault in plain words: never its variant names, never a plan.
pub(crate) fn plain(what: &str, error: &DataFusionError) -> Fault {
    let root = error.find_root();
    match root {
        DataFusionError::SchemaError(schema, _) => schema_fault(schema),
        DataFusionError::SQL(parse, _) => {
            let text = parse.to_string();
            let text = text.strip_prefix("sql parser error: ").unwrap_or(&text);
            Fault::user(format!("{what}: {}", lower_first(text)))
        }
        DataFusionError::External(cause) => match cause.downcast_ref::<Fault>() {
            Some(fault) => {
                let copy = Fault::new(fault.blame, fault.retry, format!("{what}: {}", fault.message));
                match &fault.hint {
                    Some(hint) => copy.hint(hint.clone()),
                    None => copy,
                }
            }
            None => Fault::user(format!("{what}: {}", one_line(&cause.to_string()))),
        },
        DataFusionError::ObjectStore(cause) => match cause.as_ref() {
            object_store::Error::NotFound { path, .. } => Fault::user(format!("{what}: there is no file `{path}`")),
            other => {
                Fault::new(Blame::Remote, catalog::Retry::Backoff, format!("{what}: {}", one_line(&other.to_string())))
            }
        },
        DataFusionError::ResourcesExhausted(text) => Fault::user(format!("{what}: {}", one_line(text)))
            .hint("The query needs more memory than is allowed: ask for fewer rows or columns."),
        DataFusionError::Internal(text) => Fault::us(format!("{what}: {}", one_line(text))),
        other => Fault::user(format!("{what}: {}", lower_first(&one_line(&bare(other))))),
    }
}

/// The message of an error without the name of its variant.
fn bare(error: &DataFusionError) -> String {
    match error {
        DataFusionError::Plan(t)
        | DataFusionError::Execution(t)
        | DataFusionError::NotImplemented(t)
        | DataFusionError::Configuration(t) => t.clone(),
        DataFusionError::ArrowError(e, _) => {
            let text = e.to_string();
            // `Cast error: …`, `Parser error: …`: the first words name the variant.
            text.split_once(" error: ").map_or(text.clone(), |(_, rest)| rest.to_owned())
        }
        DataFusionError::ParquetError(e) => e.to_string(),
        other => other.strip_backtrace(),
    }
}

fn schema_fault(error: &SchemaError) -> Fault {
    match error {
        SchemaError::FieldNotFound { field, valid_fields } => {
            let names: Vec<String> = valid_fields.iter().map(|c| c.name.clone()).collect();
            let fault = Fault::user(format!("there is no column `{}`", field.flat_name()));
            let near = nearest(&field.name, names.iter().map(String::as_str));
            let spelled: Vec<String> = near.iter().map(|n| identifier(n)).collect();
            let spelled: Vec<&str> = spelled.iter().map(String::as_str).collect();
            match (spelled.is_empty(), names.len()) {
                (false, _) => fault.hint(format!("Did you mean {}?", quoted(&spelled))),
                (true, 0) => fault,
                (true, _) => {
                    let names: Vec<&str> = names.iter().map(String::as_str).collect();
                    fault.hint(format!("There is {}.", quoted(&names)))
                }
            }
        }
        other => Fault::user(lower_first(&one_line(&other.to_string()))),
    }
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ").trim_end_matches('.').to_owned()
}

fn lower_first(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map(|c| c.to_lowercase().chain(chars).collect()).unwrap_or_default()
}

/// The names that are close enough to be what was meant, best first.
fn nearest<'a>(wanted: &str, known: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    let wanted = wanted.to_lowercase();
    let mut near: Vec<(f64, &str)> = known
        .map(|k| {
            let lower = k.to_lowercase();
            let bare = lower.rsplit('.').next().unwrap_or(&lower).to_owned();
            (strsim::jaro_winkler(&wanted, &lower).max(strsim::jaro_winkler(&wanted, &bare)), k)
        })
        .filter(|(score, _)| *score > 0.85)
        .collect();
    near.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(b.1)));
    near.into_iter().map(|(_, k)| k).take(3).collect()
}

/// Names in backticks, as a list in a sentence; a long list is cut.
fn quoted(names: &[&str]) -> String {
    const MOST: usize = 30;
    let mut text = String::new();
    for (i, name) in names.iter().take(MOST).enumerate() {
        let _ = write!(text, "{}`{name}`", if i == 0 { "" } else { ", " });
    }
    if names.len() > MOST {
        let _ = write!(text, " and {} more", names.len() - MOST);
    }
    text
}

/// A name as SQL writes it: in double quotes unless it is plain lower case and no reserved word.
pub(crate) fn identifier(name: &str) -> String {
    let plain = name.starts_with(|c: char| c.is_ascii_lowercase() || c == '_')
        && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
    let reserved = ALL_KEYWORDS
        .iter()
        .position(|k| k.eq_ignore_ascii_case(name))
        .is_some_and(|i| RESERVED_FOR_COLUMN_ALIAS.contains(&ALL_KEYWORDS_INDEX[i]));
    if plain && !reserved { name.to_owned() } else { format!("\"{}\"", name.replace('"', "\"\"")) }
}

/// A text as SQL writes it.
pub(crate) fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}
