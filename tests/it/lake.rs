//! The lake as an analyst sees it. The files are written here by a plain Parquet writer in the layout that the lake
//! promises, so that the views are tested against the layout and not against the sink.

use std::path::Path;
use std::sync::Arc;

use arrow::array::{ArrayRef, Decimal128Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, Field, Schema};
use chrono::{DateTime, TimeDelta, Utc};
use pipelines::render::{self, Format};
use pipelines::sql::{self, Options};
use proptest::prelude::*;

fn at(hours: i64) -> DateTime<Utc> {
    "2026-06-01T00:00:00Z".parse::<DateTime<Utc>>().unwrap() + TimeDelta::hours(hours)
}

fn slice_name(number: usize) -> String {
    format!("0197aaaabbbb7cccddddeeeeffff0000-{number:06}")
}

fn write(path: &Path, columns: Vec<(&str, ArrayRef)>) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    let fields: Vec<Field> = columns.iter().map(|(n, a)| Field::new(*n, a.data_type().clone(), true)).collect();
    let batch =
        RecordBatch::try_new(Arc::new(Schema::new(fields)), columns.into_iter().map(|(_, a)| a).collect()).unwrap();
    let file = std::fs::File::create(path).unwrap();
    let mut writer = parquet::arrow::ArrowWriter::try_new(file, batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    let file = writer.into_inner().unwrap();
    // The clock of a file system can be so coarse that all files are of one age.
    file.set_modified(at(0).into()).unwrap();
}

fn text(values: Vec<Option<String>>) -> ArrayRef {
    Arc::new(StringArray::from(values))
}

fn instants(values: Vec<DateTime<Utc>>) -> ArrayRef {
    let micros: Vec<i64> = values.iter().map(DateTime::timestamp_micros).collect();
    Arc::new(TimestampMicrosecondArray::from(micros).with_timezone("UTC"))
}

fn money(values: Vec<Option<i128>>) -> ArrayRef {
    Arc::new(Decimal128Array::from(values).with_precision_and_scale(14, 2).unwrap())
}

/// A lake under construction: slices one hour apart.
struct Lake {
    dir: tempfile::TempDir,
    slices: usize,
}

/// What a slice holds whole: a scope and the origin, if only that one was read.
type Complete<'a> = (&'a str, Option<&'a str>);

impl Lake {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap(), slices: 0 }
    }

    fn root(&self) -> String {
        self.dir.path().display().to_string()
    }

    fn data(&self, dataset: &str, number: usize) -> std::path::PathBuf {
        let day = at(number as i64).date_naive();
        self.dir.path().join(format!("{dataset}/date={day}/{}.parquet", slice_name(number)))
    }

    /// Writes the commit record of the next slice, and its rows if there are any.
    fn slice(&mut self, dataset: &str, complete: &[Complete<'_>], rows: Vec<(&str, ArrayRef)>) -> usize {
        let number = self.slices;
        self.rows(dataset, number, at(number as i64), rows);
        self.record(dataset, number, complete);
        self.slices += 1;
        number
    }

    fn rows(&self, dataset: &str, number: usize, observed_at: DateTime<Utc>, mut rows: Vec<(&str, ArrayRef)>) {
        let Some(count) = rows.first().map(|(_, a)| a.len()).filter(|n| *n > 0) else { return };
        let (at_name, id_name) =
            if dataset == "price_history" { ("_observed_at", "slice_id") } else { ("observed_at", "slice_id") };
        rows.push((at_name, instants(vec![observed_at; count])));
        rows.push((id_name, text(vec![Some(slice_name(number)); count])));
        write(&self.data(dataset, number), rows);
    }

    fn record(&self, dataset: &str, number: usize, complete: &[Complete<'_>]) {
        let own = |s: &str| Some(s.to_owned());
        let count = complete.len() + 1;
        let mut scopes = vec![None];
        let mut origins = vec![None];
        for (scope, origin) in complete {
            scopes.push(own(scope));
            origins.push(origin.and_then(own));
        }
        let mut rows = vec![None; count];
        rows[0] = Some(1);
        write(
            &self.dir.path().join(format!("_slices/{}.parquet", slice_name(number))),
            vec![
                ("slice_id", text(vec![Some(slice_name(number)); count])),
                ("observed_at", instants(vec![at(number as i64); count])),
                ("pipeline", text(vec![own("test"); count])),
                ("dataset", text(vec![own(dataset); count])),
                ("scope", text(scopes)),
                ("origin", text(origins)),
                ("rows", Arc::new(Int64Array::from(rows))),
            ],
        );
    }

    /// One property's units: numbers with their rents in cents.
    fn units(&mut self, property: &str, complete: bool, units: &[(&str, i128)]) -> usize {
        let whole: &[Complete<'_>] = if complete { &[(property, None)] } else { &[] };
        self.slice("units", whole, unit_rows(property, units))
    }

    async fn ask(&self, sql: &str) -> String {
        ask(&Options { lake: Some(self.root()), ..options(sql, Format::Csv) }).await.unwrap()
    }

    async fn ask_as_of(&self, sql: &str, as_of: DateTime<Utc>) -> String {
        ask(&Options { lake: Some(self.root()), as_of: Some(as_of), ..options(sql, Format::Csv) }).await.unwrap()
    }
}

fn unit_rows(property: &str, units: &[(&str, i128)]) -> Vec<(&'static str, ArrayRef)> {
    vec![
        ("property_id", text(vec![Some(property.to_owned()); units.len()])),
        ("unit_number", text(units.iter().map(|(u, _)| Some((*u).to_owned())).collect())),
        ("market_rent", money(units.iter().map(|(_, r)| Some(*r)).collect())),
    ]
}

fn options(sql: &str, format: Format) -> Options {
    Options {
        sql: Some(sql.to_owned()),
        lake: None,
        as_of: None,
        print_views: false,
        db: false,
        format,
        timeout_secs: 60,
        database_url: None,
        width: None,
    }
}

async fn ask(options: &Options) -> catalog::Result<String> {
    let mut out = Vec::new();
    sql::run(options, &mut out).await?;
    Ok(String::from_utf8(out).unwrap())
}

const UNITS: &str = "select property_id, unit_number, market_rent from units order by 1, 2";

#[tokio::test]
async fn the_newest_row_per_key_is_shown_and_what_left_its_snapshot_is_not() {
    let mut lake = Lake::new();
    lake.units("a", true, &[("1", 100_000), ("2", 110_000)]);
    lake.units("b", true, &[("1", 90_000)]);
    lake.units("a", true, &[("1", 120_000)]);
    // Not whole: unit 1 is still there.
    lake.units("a", false, &[("3", 130_000)]);
    insta::assert_snapshot!(lake.ask(UNITS).await, @r"
    property_id,unit_number,market_rent
    a,1,1200.00
    a,3,1300.00
    b,1,900.00
    ");
    insta::assert_snapshot!(lake.ask("select count(*) as n, count(distinct slice_id) as s from units_history").await, @r"
    n,s
    5,4
    ");
    // A property whose last snapshot was empty has no units.
    lake.units("b", true, &[]);
    assert!(!lake.ask(UNITS).await.contains("\nb,"));
}

#[tokio::test]
async fn the_past_is_as_it_was() {
    let mut lake = Lake::new();
    lake.units("a", true, &[("1", 100_000), ("2", 110_000)]);
    lake.slices = 30; // The next day.
    lake.units("a", true, &[("1", 120_000)]);
    for (when, rows) in [(at(-1), 0), (at(0), 2), (at(29), 2), (at(30), 1)] {
        let shown = lake.ask_as_of(UNITS, when).await;
        assert_eq!(shown.lines().count() - 1, rows, "{when}: {shown}");
    }
    assert!(lake.ask_as_of(UNITS, at(29)).await.contains("a,1,1000.00"));
    assert_eq!(lake.ask_as_of("select count(*) as n from units_history", at(29)).await, "n\n2\n");
}

#[tokio::test]
async fn a_slice_without_its_commit_record_does_not_exist() {
    let mut lake = Lake::new();
    lake.units("a", true, &[("1", 100_000)]);
    lake.rows("units", 7, at(7), unit_rows("a", &[("1", 999_900)]));
    // A former try of a committed slice, observed at another time.
    lake.rows("units", 8, at(9), unit_rows("a", &[("1", 888_800)]));
    lake.record("units", 8, &[]);
    assert_eq!(lake.ask("select market_rent from units_history").await, "market_rent\n1000.00\n");
    assert_eq!(lake.ask("select market_rent from units").await, "market_rent\n1000.00\n");
}

#[tokio::test]
async fn only_the_origins_that_were_read_lose_rows() {
    let mut lake = Lake::new();
    let fees = |names: &[(&str, &str)]| -> Vec<(&'static str, ArrayRef)> {
        vec![
            ("property_id", text(vec![Some("a".to_owned()); names.len()])),
            ("fee_id", text(names.iter().map(|(id, _)| Some((*id).to_owned())).collect())),
            ("origin", text(names.iter().map(|(_, o)| Some((*o).to_owned())).collect())),
        ]
    };
    lake.slice("fees", &[("a", None)], fees(&[("f1", "feed"), ("f2", "feed"), ("v1", "v2")]));
    lake.slice("fees", &[("a", Some("feed"))], fees(&[("f1", "feed")]));
    assert_eq!(lake.ask("select fee_id from fees order by 1").await, "fee_id\nf1\nv1\n");
    lake.slice("fees", &[("a", None)], fees(&[]));
    assert_eq!(lake.ask("select fee_id from fees order by 1").await, "fee_id\n");
}

#[tokio::test]
async fn files_without_newer_columns_and_with_unknown_ones_are_read() {
    let mut lake = Lake::new();
    lake.units("a", true, &[("1", 100_000)]);
    let mut rows = unit_rows("b", &[("1", 100_000)]);
    rows.push(("city", text(vec![Some("Fort Worth".to_owned())])));
    rows.push(("view_side", text(vec![Some("lake".to_owned())])));
    lake.slice("units", &[("b", None)], rows);
    insta::assert_snapshot!(
        lake.ask("select property_id, city, state, view_side from units order by 1").await,
        @r"
    property_id,city,state,view_side
    a,,,
    b,Fort Worth,,lake
    "
    );
}

#[tokio::test]
async fn a_price_history_has_no_repetitions_and_its_changes_skip_gaps() {
    let mut lake = Lake::new();
    for rent in [Some(100_000), Some(100_000), None, Some(100_000), Some(105_000)] {
        let observed = at(lake.slices as i64);
        lake.slice(
            "price_history",
            &[],
            vec![
                ("property_id", text(vec![Some("a".to_owned())])),
                ("unit_number", text(vec![Some("1".to_owned())])),
                ("offer_id", text(vec![Some("market".to_owned())])),
                ("observed_at", instants(vec![observed])),
                ("rent", money(vec![rent])),
                ("currency", text(vec![Some("USD".to_owned())])),
            ],
        );
    }
    insta::assert_snapshot!(lake.ask("select observed_at, rent from price_history order by 1").await, @r"
    observed_at,rent
    2026-06-01T00:00:00Z,1000.00
    2026-06-01T02:00:00Z,
    2026-06-01T03:00:00Z,1000.00
    2026-06-01T04:00:00Z,1050.00
    ");
    insta::assert_snapshot!(
        lake.ask("select unit_number, changed_at, previous_rent, rent, difference from price_changes").await,
        @r"
    unit_number,changed_at,previous_rent,rent,difference
    1,2026-06-01T04:00:00Z,1000.00,1050.00,50.00
    "
    );
}

#[tokio::test]
async fn a_dataset_that_never_had_a_row_is_an_empty_table() {
    let mut lake = Lake::new();
    lake.slice("concessions", &[("a", None)], vec![]);
    assert_eq!(lake.ask("select count(*) as n from concessions").await, "n\n0\n");
}

#[tokio::test]
async fn the_script_for_duckdb_has_the_same_views() {
    let mut lake = Lake::new();
    lake.units("it's", true, &[("1", 100_000)]);
    let script = ask(&Options { sql: None, print_views: true, lake: Some(lake.root()), ..options("", Format::Csv) })
        .await
        .unwrap();
    let root = lake.dir.path().canonicalize().unwrap().display().to_string();
    insta::assert_snapshot!(script.replace(&root, "/lake"), @r"
    create schema if not exists files;
    create or replace view files.slices as
    select * from read_parquet('/lake/_slices/*.parquet', union_by_name = true, hive_partitioning = false);
    create or replace view files.units as
    select * from read_parquet('/lake/units/*/*.parquet', union_by_name = true, hive_partitioning = true);
    create or replace view files.whole as
    select * from files.slices where scope is not null
    qualify row_number() over (partition by dataset, scope, origin order by observed_at desc, slice_id desc) = 1;
    create or replace view units_history as
    select * from files.units as r
    where exists (
      select 1 from files.slices as s
      where s.dataset = 'units' and s.slice_id = r.slice_id and s.observed_at = r.observed_at);
    create or replace view units as
    select * exclude (date) from units_history as r
    where not exists (
      select 1 from files.whole as w
      where w.dataset = 'units' and w.scope = r.property_id and w.origin is null
        and (w.observed_at > r.observed_at or (w.observed_at = r.observed_at and w.slice_id > r.slice_id)))
    qualify row_number() over (partition by r.property_id, r.unit_number order by r.observed_at desc, r.slice_id desc) = 1;
    ");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, ..ProptestConfig::default() })]

    /// Against a plain model: a map that each slice changes, and that a whole scope replaces. Compacting a day into one
    /// file changes no answer.
    #[test]
    fn the_view_is_the_model(slices in prop::collection::vec(
        (0..2_usize, any::<bool>(), prop::collection::btree_map(0..4_u8, 1..9_i128, 0..4)), 1..8))
    {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let mut lake = Lake::new();
        let mut model = std::collections::BTreeMap::new();
        for (property, complete, units) in &slices {
            let property = ["a", "b"][*property];
            if *complete {
                model.retain(|(p, _): &(String, String), _| p != property);
            }
            let named: Vec<(String, i128)> = units.iter().map(|(u, r)| (u.to_string(), r * 100)).collect();
            for (unit, rent) in &named {
                model.insert((property.to_owned(), unit.clone()), rent / 100);
            }
            let rows: Vec<(&str, i128)> = named.iter().map(|(u, r)| (u.as_str(), *r)).collect();
            lake.units(property, *complete, &rows);
        }
        let expected: String = model.iter().map(|((p, u), r)| format!("{p},{u},{r}.00\n")).collect();
        let expected = format!("property_id,unit_number,market_rent\n{expected}");
        if lake.dir.path().join("units").is_dir() {
            prop_assert_eq!(&runtime.block_on(lake.ask(UNITS)), &expected);
            compact(&lake);
            prop_assert_eq!(&runtime.block_on(lake.ask(UNITS)), &expected);
        }
    }
}

/// Replaces the files of each day by one.
fn compact(lake: &Lake) {
    for day in std::fs::read_dir(lake.dir.path().join("units")).unwrap() {
        let day = day.unwrap().path();
        let mut batches = Vec::new();
        for file in std::fs::read_dir(&day).unwrap() {
            let file = file.unwrap().path();
            let reader = parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder::try_new(
                std::fs::File::open(&file).unwrap(),
            );
            batches.extend(reader.unwrap().build().unwrap().map(Result::unwrap));
            std::fs::remove_file(file).unwrap();
        }
        let all = arrow::compute::concat_batches(&batches[0].schema(), &batches).unwrap();
        let schema = all.schema();
        write(
            &day.join("compacted.parquet"),
            schema.fields().iter().zip(all.columns()).map(|(f, c)| (f.name().as_str(), c.clone())).collect(),
        );
    }
}

#[tokio::test]
async fn files_are_tables_by_their_path() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).display().to_string();
    std::fs::write(path("x.csv"), "unit,zip,rent,Note\n1,02139,1000.50,\"two\nlines\"\n2,76102,,\n").unwrap();
    std::fs::write(path("x.jsonl"), "{\"unit\":1,\"tags\":[\"a\",\"b\"]}\n{\"unit\":2}\n").unwrap();
    std::fs::write(path("x.json"), " [{\"unit\":1},{\"unit\":2}]").unwrap();
    std::fs::create_dir(path("many")).unwrap();
    std::fs::write(path("many/1.csv"), "unit\n1\n").unwrap();
    std::fs::write(path("many/2.csv"), "unit\n2\n").unwrap();
    for name in ["p/a.parquet", "p/b.parquet"] {
        write(Path::new(&path(name)), vec![("unit", Arc::new(Int64Array::from(vec![1, 2])) as ArrayRef)]);
    }
    let query = |sql: String| async move { ask(&options(&sql, Format::Jsonl)).await.unwrap() };
    insta::assert_snapshot!(query(format!("select * from '{}'", path("x.csv"))).await, @r#"
    {"unit":1,"zip":"02139","rent":1000.5,"Note":"two\nlines"}
    {"unit":2,"zip":"76102","rent":null,"Note":null}
    "#);
    insta::assert_snapshot!(query(format!("select * from '{}'", path("x.jsonl"))).await, @r#"
    {"tags":["a","b"],"unit":1}
    {"tags":null,"unit":2}
    "#);
    assert_eq!(query(format!("select sum(unit) as n from '{}'", path("x.json"))).await, "{\"n\":3}\n");
    assert_eq!(query(format!("select sum(unit) as n from '{}'", path("many"))).await, "{\"n\":3}\n");
    for pattern in ["p/a.parquet", "p/a*.parquet"] {
        assert_eq!(query(format!("select sum(unit) as n from '{}'", path(pattern))).await, "{\"n\":3}\n");
    }
    for pattern in ["p", "p/", "p/*.parquet"] {
        assert_eq!(query(format!("select sum(unit) as n from '{}'", path(pattern))).await, "{\"n\":6}\n");
    }
}

#[tokio::test]
async fn mistakes_are_named_with_a_way_out() {
    let mut lake = Lake::new();
    lake.units("a", true, &[("1", 100_000)]);
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("units.csv"), "a\n1\n").unwrap();
    std::fs::write(dir.path().join("units.zip"), "").unwrap();
    let file = |name: &str| format!("select * from '{}'", dir.path().join(name).display());
    let mut said = String::new();
    for sql in [
        "select * from unit",
        "select unit_numbr from units",
        "select nothing_like_it from (select 1 as a)",
        "selec 1",
        "select 1; select 2",
        "",
        "drop table units",
        "create table t as select 1",
        "insert into units values (1)",
        "copy (select 1) to 'out.csv'",
        "set datafusion.execution.batch_size = 1",
        "select nofunction(1)",
        "select 1 / 0",
        "select cast('x' as int)",
        &file("unit.csv"),
        &file("units.zip"),
        "select * from 'https://example.com/x.csv'",
    ] {
        let fault = ask(&Options { lake: Some(lake.root()), ..options(sql, Format::Csv) }).await.unwrap_err();
        assert_eq!(fault.blame, catalog::Blame::User, "{sql}: {fault:?}");
        said += &format!("{sql}\n  {}\n  {}\n", fault.chain(), fault.hint.as_deref().unwrap_or("-"));
    }
    let said = said.replace(&dir.path().display().to_string(), "DIR");
    insta::assert_snapshot!(said, @r#"
    select * from unit
      there is no table `unit`
      Did you mean `units`, `units_history`? There is `units`, `units_history`.
    select unit_numbr from units
      there is no column `unit_numbr`
      Did you mean `unit_number`, `unit_name`?
    select nothing_like_it from (select 1 as a)
      there is no column `nothing_like_it`
      There is `a`.
    selec 1
      the query cannot be read: expected: an SQL statement, found: selec at Line: 1, Column: 1
      -
    select 1; select 2
      there are 2 statements
      Ask one at a time.

      there is no query
      Write it in quotes, such as "select 1".
    drop table units
      `drop` is refused: `propflow sql` only reads
      Ask with `select`. To load data, use `propflow run` or `propflow copy`.
    create table t as select 1
      `create` is refused: `propflow sql` only reads
      Ask with `select`. To load data, use `propflow run` or `propflow copy`.
    insert into units values (1)
      `insert` is refused: `propflow sql` only reads
      Ask with `select`. To load data, use `propflow run` or `propflow copy`.
    copy (select 1) to 'out.csv'
      `copy` is refused: `propflow sql` only reads
      Ask with `select`. To load data, use `propflow run` or `propflow copy`.
    set datafusion.execution.batch_size = 1
      `set` is refused: `propflow sql` only reads
      Ask with `select`. To load data, use `propflow run` or `propflow copy`.
    select nofunction(1)
      the query cannot be planned: invalid function 'nofunction'. Did you mean 'position'?
      -
    select 1 / 0
      the query failed: divide by zero error
      -
    select cast('x' as int)
      the query failed: cannot cast string 'x' to value of Int32 type
      -
    select * from 'DIR/unit.csv'
      there is no file `DIR/unit.csv`
      In that folder there is `units.csv`.
    select * from 'DIR/units.zip'
      `DIR/units.zip` has an ending that is no table format
      Files that end in .parquet, .csv, .tsv, .json, .jsonl or .ndjson can be read; unpack others first.
    select * from 'https://example.com/x.csv'
      `https://example.com/x.csv` is not a local file
      Name a file on this machine; a lake on S3 goes with `--lake s3://bucket/path`.
    "#);
    let fault =
        ask(&Options { lake: Some(dir.path().display().to_string()), ..options("select 1", Format::Csv) }).await;
    assert!(fault.unwrap_err().message.contains("is not a lake"));
    let fault = ask(&Options { lake: Some("/nowhere".to_owned()), ..options("select 1", Format::Csv) }).await;
    assert!(fault.unwrap_err().message.contains("`/nowhere` cannot be opened"));
}

#[tokio::test]
async fn hostile_values_survive_every_format() {
    let sql = "select 'a,\"b\"' as quote, E'x\ny' as line, '' as empty, cast(null as varchar) as none, \
               '=1+1' as formula, E'\u{1b}[31m' as escape, ' pad ' as pad, 1.10 as n, true as f, \
               [1, 2] as list, {'k': 'v\"'} as object, 'naïve 😀' as unicode";
    let show = |format| async move { ask(&options(sql, format)).await.unwrap() };
    insta::assert_snapshot!(show(Format::Csv).await, @"
    quote,line,empty,none,formula,escape,pad,n,f,list,object,unicode
    \"a,\"\"b\"\"\",\"x
    y\",\"\",,=1+1,\u{1b}[31m,\" pad \",1.1,true,\"[1,2]\",\"{\"\"k\"\":\"\"v\\\"\"\"\"}\",naïve 😀
    ");
    insta::assert_snapshot!(show(Format::Jsonl).await, @r#"
    {"quote":"a,\"b\"","line":"x\ny","empty":"","none":null,"formula":"=1+1","escape":"\u001b[31m","pad":" pad ","n":1.1,"f":true,"list":[1,2],"object":{"k":"v\""},"unicode":"naïve 😀"}
    "#);
    let json: serde_json::Value = serde_json::from_str(&show(Format::Json).await).unwrap();
    assert_eq!(json[0]["escape"], "\u{1b}[31m");
    assert!(!show(Format::Table).await.contains('\u{1b}'));
    let none = ask(&options("select 1 as a where false", Format::Json)).await.unwrap();
    assert_eq!(serde_json::from_str::<serde_json::Value>(&none).unwrap(), serde_json::json!([]));
}

#[tokio::test]
async fn a_table_fits_its_terminal_and_is_whole_elsewhere() {
    let long = "x".repeat(200);
    let sql = format!(
        "select 'Harbor' as name, 1250.00 as rent, '{long}' as words union all select null, 7.5, 'y' order by 2"
    );
    let mut narrow = options(&sql, Format::Table);
    assert!(ask(&narrow).await.unwrap().contains(&long));
    narrow.width = Some(60);
    let shown = ask(&narrow).await.unwrap();
    assert!(shown.lines().all(|l| l.chars().count() <= 60), "{shown}");
    insta::assert_snapshot!(shown, @r"
    ┌────────┬────────┬────────────────────────────────────────┐
    │ name   ┆   rent ┆ words                                  │
    ╞════════╪════════╪════════════════════════════════════════╡
    │ null   ┆    7.5 ┆ y                                      │
    │ Harbor ┆ 1250.0 ┆ xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx… │
    └────────┴────────┴────────────────────────────────────────┘
    2 rows
    ");
    narrow.width = Some(24);
    insta::assert_snapshot!(ask(&narrow).await.unwrap(), @r"
    ┌───────┬──────┐
    │ row   ┆ 1    │
    ╞═══════╪══════╡
    │ name  ┆ null │
    │ rent  ┆ 7.5  │
    │ words ┆ y    │
    └───────┴──────┘
    ┌───────┬──────────────┐
    │ row   ┆ 2            │
    ╞═══════╪══════════════╡
    │ name  ┆ Harbor       │
    │ rent  ┆ 1250.0       │
    │ words ┆ xxxxxxxxxxxx │
    │       ┆ xxxxxxxxxxxx │
    │       ┆ xxxxxxxxxxxx │
    │       ┆ xxxxxxxxxxxx │
    │       ┆ xxxxxxxxxxx… │
    └───────┴──────────────┘
    2 rows
    ");
}

proptest! {
    /// Any text comes back from CSV and JSON as it was; an empty text is not null.
    #[test]
    fn any_text_survives(values in prop::collection::vec(prop::option::of(".{0,12}|[,\"\r\n =]{0,6}"), 1..6)) {
        let schema = Arc::new(Schema::new(vec![Field::new("v", DataType::Utf8, true), Field::new("n", DataType::Int64, false)]));
        let numbers: ArrayRef = Arc::new(Int64Array::from_iter_values(0..values.len() as i64));
        let batch = RecordBatch::try_new(schema.clone(), vec![text(values.clone()), numbers]).unwrap();
        let mut json = Vec::new();
        render::print(Format::Jsonl, schema.clone(), std::slice::from_ref(&batch), None, &mut json).unwrap();
        let back: Vec<Option<String>> = String::from_utf8(json).unwrap().lines()
            .map(|l| serde_json::from_str::<serde_json::Value>(l).unwrap()["v"].as_str().map(str::to_owned)).collect();
        prop_assert_eq!(&back, &values);
        let mut csv = Vec::new();
        render::print(Format::Csv, schema.clone(), &[batch], None, &mut csv).unwrap();
        let reader = arrow::csv::ReaderBuilder::new(schema).with_header(true).build(&csv[..]).unwrap();
        let read: Vec<RecordBatch> = reader.map(Result::unwrap).collect();
        let back: Vec<String> = read.iter().flat_map(|b| {
            arrow::array::AsArray::as_string::<i32>(b.column(0)).iter().map(|v| v.unwrap_or_default().to_owned()).collect::<Vec<_>>()
        }).collect();
        prop_assert_eq!(back, values.into_iter().map(Option::unwrap_or_default).collect::<Vec<_>>());
    }
}
