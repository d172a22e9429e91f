//! The PostgreSQL sink against a real server.

#![allow(
    clippy::await_holding_refcell_ref,
    reason = "one thread, one borrower: proptest wants a closure that can be called again"
)]

use std::cell::{Cell as Counter, RefCell};
use std::collections::BTreeMap;

use arrow::array::{AsArray, RecordBatch};
use arrow::compute::concat_batches;
use arrow::datatypes::Float64Type;
use catalog::dataset::{date, flag, float, instant, int, json, money, text};
use catalog::slice::Scope;
use catalog::store::runs;
use catalog::{Cursor, Dataset, Slice, SliceId, WriteMode, dataset::count};
use chrono::{DateTime, TimeDelta, Utc};
use kit::db::TestDb;
use kit::rows::{Cell, batch};
use proptest::prelude::*;
use serde_json::json;
use sinks::memory::{Handle, MemorySink};
use sinks::postgres::{Options, PostgresSink, create_views, quote, read};
use sinks::{Receipt, Sink, Target};
use sqlx::{AssertSqlSafe, Executor, PgPool};
use uuid::Uuid;

pub(crate) fn start() -> DateTime<Utc> {
    "2026-03-01T08:00:00Z".parse().unwrap()
}

pub(crate) fn slice(run: Uuid, number: u32) -> Slice {
    Slice {
        id: SliceId { run, number },
        pipeline: "test".to_owned(),
        observed_at: start() + TimeDelta::minutes(number.into()),
        complete: BTreeMap::new(),
        cursor: None,
        follows: None,
        rejects: Vec::new(),
        notes: Vec::new(),
    }
}

pub(crate) fn target(dataset: &Dataset) -> Target {
    Target { dataset: dataset.clone(), mode: dataset.mode }
}

fn options() -> Options {
    Options { ledger: false, ..Options::default() }
}

pub(crate) fn whole(value: &str) -> Scope {
    Scope { value: value.to_owned(), origins: None }
}

async fn sink(pool: &PgPool, options: Options, datasets: &[Dataset]) -> PostgresSink {
    let mut sink = PostgresSink::new(pool.clone(), options);
    sink.prepare(&datasets.iter().map(target).collect::<Vec<_>>()).await.unwrap();
    sink
}

pub(crate) async fn load(sink: &mut dyn Sink, slice: &Slice, rows: &[(&Dataset, RecordBatch)]) -> Receipt {
    sink.begin(slice.id).await.unwrap();
    for (dataset, batch) in rows {
        sink.write(&dataset.name, batch.clone()).await.unwrap();
    }
    let mut total = Receipt::default();
    sink.commit(slice).await.unwrap().into_values().for_each(|r| total += r);
    total
}

async fn stored(pool: &PgPool, dataset: &Dataset) -> RecordBatch {
    let batches = read(pool, "core", dataset).await.unwrap();
    concat_batches(&dataset.schema(), &batches).unwrap()
}

pub(crate) fn every_kind() -> Dataset {
    Dataset::new("every_kind", "One row of every kind; it's a \\ test.").columns([
        int("id", "the key").key(),
        text("t", "text"),
        json("j", "a document"),
        int("i", "number"),
        money("m", "money"),
        count("c", "count"),
        float("f", "float"),
        flag("b", "flag"),
        date("d", "day"),
        instant("at", "instant"),
    ])
}

fn hostile() -> impl Strategy<Value = String> {
    prop_oneof![
        any::<String>(),
        "[\\\\\"'`;$\t\n\r,{}()]{0,8}",
        Just(String::new()),
        Just("\\N".to_owned()),
        Just("Łukasz 🏠 \u{202e}\u{feff}".to_owned()),
        Just("'); drop table core.every_kind; --".to_owned()),
        Just("x".repeat(70_000)),
    ]
}

fn maybe<T: std::fmt::Debug + Clone>(s: impl Strategy<Value = T>, f: fn(T) -> Cell) -> impl Strategy<Value = Cell> {
    prop_oneof![1 => Just(Cell::Null), 4 => s.prop_map(f)]
}

prop_compose! {
    pub(crate) fn any_row()(
        t in maybe(hostile(), Cell::Text),
        j in maybe(hostile().prop_map(|s| json!({ "k": [s, 1.5, null] }).to_string()), Cell::Text),
        i in maybe(any::<i64>(), Cell::Int),
        m in maybe(prop_oneof![-99_999_999_999_999_i128..=99_999_999_999_999, -20_000_i128..20_000, Just(0)], Cell::Decimal),
        c in maybe(-999_999_i128..=999_999, Cell::Decimal),
        f in maybe(any::<f64>(), Cell::Float),
        b in maybe(any::<bool>(), Cell::Flag),
        // PostgreSQL's own first and last day, and instant.
        d in maybe(prop_oneof![Just(-2_440_588_i64), Just(2_145_042_905), -100_000_i64..100_000], Cell::Int),
        at in maybe(prop_oneof![Just(-210_866_803_200_000_000_i64), Just(i64::MAX), any::<i32>().prop_map(|v| i64::from(v) * 1_000_003)], Cell::Int),
    ) -> Vec<Cell> {
        vec![t, j, i, m, c, f, b, d, at]
    }
}

/// What a store may change: NUL becomes visible, a document is written out anew.
pub(crate) fn canonical(row: &mut [Cell]) {
    for (at, cell) in row.iter_mut().enumerate() {
        if let Cell::Text(text) = cell {
            *text = match at {
                2 => {
                    let clean = text.replace("\\u0000", "\\u2400");
                    serde_json::from_str::<serde_json::Value>(&clean).unwrap().to_string()
                }
                _ => text.replace('\0', "\u{2400}"),
            };
        }
    }
}

pub(crate) fn cells(dataset: &Dataset, batch: &RecordBatch) -> Vec<Vec<Cell>> {
    use arrow::datatypes::{Date32Type, Decimal128Type, Int64Type, TimestampMicrosecondType};
    use catalog::Kind as K;
    (0..batch.num_rows())
        .map(|row| {
            let cell = |(at, c): (usize, &catalog::Column)| {
                let a = batch.column(at);
                if a.is_null(row) {
                    return Cell::Null;
                }
                match c.kind {
                    K::Text | K::Json => Cell::Text(a.as_string::<i32>().value(row).to_owned()),
                    K::Int => Cell::Int(a.as_primitive::<Int64Type>().value(row)),
                    K::Date => Cell::Int(a.as_primitive::<Date32Type>().value(row).into()),
                    K::Instant => Cell::Int(a.as_primitive::<TimestampMicrosecondType>().value(row)),
                    K::Money | K::Count => Cell::Decimal(a.as_primitive::<Decimal128Type>().value(row)),
                    K::Float => Cell::Float(a.as_primitive::<Float64Type>().value(row)),
                    K::Flag => Cell::Flag(a.as_boolean().value(row)),
                }
            };
            dataset.columns.iter().enumerate().map(cell).collect()
        })
        .collect()
}

pub(crate) fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

#[test]
fn every_value_comes_back_as_it_went_in() {
    let rt = runtime();
    let db = rt.block_on(TestDb::new());
    let dataset = every_kind();
    let run = Uuid::now_v7();
    let sink = RefCell::new(rt.block_on(sink(&db.pool, options(), std::slice::from_ref(&dataset))));
    let number = Counter::new(0);
    proptest!(ProptestConfig::with_cases(24), |(rows in prop::collection::vec(any_row(), 1..12))| {
        let mut rows: Vec<Vec<Cell>> = (0..).map(Cell::Int).zip(rows).map(|(k, r)| [vec![k], r].concat()).collect();
        let read = rt.block_on(async {
            db.pool.execute("truncate core.every_kind").await.unwrap();
            // Half of them straight into the empty table, the other half by way of the staging table.
            for part in rows.chunks(rows.len().div_ceil(2)) {
                number.set(number.get() + 1);
                load(&mut *sink.borrow_mut(), &slice(run, number.get()), &[(&dataset, batch(&dataset, part))]).await;
            }
            stored(&db.pool, &dataset).await
        });
        let mut read = cells(&dataset, &read);
        rows.iter_mut().for_each(|r| canonical(r));
        read.iter_mut().for_each(|r| canonical(r));
        prop_assert_eq!(format!("{read:?}"), format!("{rows:?}"));
    });
    rt.block_on(async { drop((sink, db)) });
}

/// A table with a scope and an origin, narrow enough for collisions.
pub(crate) fn fees() -> Dataset {
    Dataset::new("fees", "A fee.")
        .columns([
            text("property_id", "the property").key(),
            text("fee_id", "the fee").key(),
            text("origin", "the list").required(),
            money("amount", "how much"),
            text("note", "free text"),
        ])
        .scope("property_id")
        .origin("origin")
}

pub(crate) fn prices() -> Dataset {
    Dataset::new("prices", "A price.")
        .columns([text("unit", "the unit").key(), instant("seen_at", "since when").key(), money("rent", "the rent")])
        .mode(WriteMode::History)
        .versioned_by("seen_at")
}

pub(crate) fn leads() -> Dataset {
    Dataset::new("leads", "A lead.").columns([
        int("id", "the id").key(),
        text("name", "the name"),
        json("tags", "tags"),
    ])
}

pub(crate) fn logs() -> Dataset {
    Dataset::new("logs", "A line.").columns([text("line", "the line")]).mode(WriteMode::Append)
}

#[derive(Debug, Clone)]
pub(crate) struct Step {
    fees: Vec<(u8, u8, u8, u8)>,
    complete: Vec<(u8, Option<Vec<u8>>)>,
    prices: Vec<(u8, u8)>,
    leads: Vec<(u8, u8)>,
    logs: u8,
    /// Written and then dropped before the commit, this often.
    pub(crate) kills: u8,
    pub(crate) repeat: bool,
}

pub(crate) fn step() -> impl Strategy<Value = Step> {
    (
        prop::collection::vec((0..3_u8, 0..5_u8, 0..2_u8, 0..3_u8), 0..12),
        prop::collection::btree_map(0..3_u8, prop::option::weighted(0.3, prop::collection::vec(0..2_u8, 0..2)), 0..3),
        prop::collection::vec((0..3_u8, 0..3_u8), 0..4),
        prop::collection::vec((0..4_u8, 0..3_u8), 0..4),
        0..3_u8,
        0..2_u8,
        any::<bool>(),
    )
        .prop_map(|(fees, complete, prices, leads, logs, kills, repeat)| Step {
            fees,
            complete: complete.into_iter().collect(),
            prices,
            leads,
            logs,
            kills,
            repeat,
        })
}

pub(crate) fn word(prefix: &str, n: u8) -> Cell {
    Cell::Text(format!("{prefix}{n}"))
}

impl Step {
    pub(crate) fn slice(&self, run: Uuid, number: u32) -> Slice {
        let scopes = self.complete.iter().map(|(p, origins)| Scope {
            value: format!("p{p}"),
            origins: origins.as_ref().map(|list| list.iter().map(|o| format!("o{o}")).collect()),
        });
        Slice { complete: [("fees".to_owned(), scopes.collect())].into(), ..slice(run, number) }
    }

    pub(crate) fn rows(&self, at: DateTime<Utc>) -> Vec<(Dataset, Vec<Vec<Cell>>)> {
        let fee = |&(p, f, o, v): &(u8, u8, u8, u8)| {
            vec![word("p", p), word("f", f), word("o", o), Cell::Decimal(v.into()), Cell::Null]
        };
        let price = |&(u, v): &(u8, u8)| {
            let rent = if v == 0 { Cell::Null } else { Cell::Decimal(v.into()) };
            vec![word("u", u), Cell::Int(at.timestamp_micros()), rent]
        };
        let lead = |&(id, v): &(u8, u8)| vec![Cell::Int(id.into()), word("n", v), Cell::Text(format!("[{v}]"))];
        vec![
            (fees(), self.fees.iter().map(fee).collect()),
            (prices(), self.prices.iter().map(price).collect()),
            (leads(), self.leads.iter().map(lead).collect()),
            (logs(), (0..self.logs).map(|n| vec![word("line", n)]).collect()),
        ]
    }
}

/// Whatever slices come, however often, and wherever they are cut off: PostgreSQL holds what a plain map would.
#[test]
fn postgres_and_memory_agree() {
    let rt = runtime();
    let db = rt.block_on(TestDb::new());
    let datasets = [fees(), prices(), leads(), logs()];
    proptest!(ProptestConfig::with_cases(16), |(steps in prop::collection::vec(step(), 1..8), verify in any::<bool>())| {
        rt.block_on(async {
            db.pool.execute("drop schema core cascade").await.unwrap();
            let options = Options { verify, ..options() };
            let run = Uuid::now_v7();
            let handle = Handle::default();
            let mut memory = MemorySink::new(handle.clone());
            memory.prepare(&datasets.iter().map(target).collect::<Vec<_>>()).await.unwrap();
            let mut postgres = sink(&db.pool, options.clone(), &datasets).await;
            for (number, step) in (0..).zip(&steps) {
                let slice = step.slice(run, number);
                let rows = step.rows(slice.observed_at);
                for _ in 0..step.kills {
                    postgres.begin(slice.id).await.unwrap();
                    for (d, r) in &rows {
                        postgres.write(&d.name, batch(d, r)).await.unwrap();
                    }
                    postgres = sink(&db.pool, options.clone(), &datasets).await;
                }
                for _ in 0..=u8::from(step.repeat) {
                    let rows: Vec<_> = rows.iter().map(|(d, r)| (d, batch(d, r))).collect();
                    let expected = load(&mut memory, &slice, &rows).await;
                    let got = load(&mut postgres, &slice, &rows).await;
                    if rows[3].1.num_rows() == 0 {
                        prop_assert_eq!(got, expected, "slice {}", number);
                    }
                }
                for d in &datasets {
                    let expected = handle.rows(&d.name).unwrap();
                    let mut expected = cells(d, &expected);
                    let mut got = cells(d, &stored(&db.pool, d).await);
                    expected.sort_by_key(|r| format!("{r:?}"));
                    got.sort_by_key(|r| format!("{r:?}"));
                    prop_assert_eq!(got, expected, "`{}` after slice {}", d.name, number);
                }
            }
            Ok(())
        })?;
    });
    rt.block_on(async { drop(db) });
}

/// The buffer overflows, so that rows go to the server before the commit; keys come twice, in one buffer and far apart.
#[tokio::test(flavor = "multi_thread")]
async fn a_large_slice_streams_and_the_last_row_of_a_key_wins() {
    let db = TestDb::new().await;
    let dataset = fees();
    let mut sink = sink(&db.pool, options(), std::slice::from_ref(&dataset)).await;
    let row = |n: usize, v: i128| {
        let filler = Cell::Text(format!("{n:>600}"));
        vec![
            word("p", u8::try_from(n % 7).unwrap()),
            Cell::Text(format!("f{n}")),
            word("o", 0),
            Cell::Decimal(v),
            filler,
        ]
    };
    let run = Uuid::now_v7();
    let first: Vec<_> = (0..40_000).map(|n| row(n, 1)).collect();
    let again: Vec<_> = (0..100).map(|n| row(n, 2)).collect();
    let rows: Vec<_> = first.chunks(5_000).chain([&again[..]]).map(|r| (&dataset, batch(&dataset, r))).collect();
    let one = slice(run, 0);
    let receipt = load(&mut sink, &one, &rows).await;
    assert_eq!((receipt.received, receipt.inserted), (40_100, 40_000));
    let sum: i64 =
        sqlx::query_scalar("select sum(amount * 100)::bigint from core.fees").fetch_one(&db.pool).await.unwrap();
    assert_eq!(sum, 40_100);
    // The same once more: nothing to do.
    let receipt = load(&mut sink, &slice(run, 1), &rows).await;
    assert_eq!((receipt.inserted, receipt.deleted), (0, 0));
    let sum: i64 =
        sqlx::query_scalar("select sum(amount * 100)::bigint from core.fees").fetch_one(&db.pool).await.unwrap();
    assert_eq!(sum, 40_100);
}

/// A digest that equals must never hide a row that differs.
#[test]
fn digests_never_hide_a_change() {
    let rt = runtime();
    let db = rt.block_on(TestDb::new());
    let dataset = every_kind().columns(std::iter::once(text("scope", "scope").key()).chain(every_kind().columns));
    let dataset = dataset.scope("scope");
    let sink = RefCell::new(rt.block_on(sink(&db.pool, options(), std::slice::from_ref(&dataset))));
    let run = Uuid::now_v7();
    let number = Counter::new(0);
    let changes = prop::collection::vec((0..60_usize, 1..10_usize, any_row()), 1..6);
    let base: Vec<Vec<Cell>> = (0..60_i64)
        .map(|n| {
            let mut row = vec![word("s", u8::try_from(n % 2).unwrap()), Cell::Int(n)];
            row.extend([
                Cell::Null,
                Cell::Null,
                Cell::Int(n),
                Cell::Decimal(0),
                Cell::Null,
                Cell::Float(0.0),
                Cell::Flag(false),
                Cell::Int(0),
                Cell::Int(0),
            ]);
            row
        })
        .collect();
    let table = RefCell::new(base);
    proptest!(ProptestConfig::with_cases(40), |(changes in changes, shuffle in any::<bool>())| {
        let mut rows = table.borrow_mut();
        for (row, column, values) in changes {
            let row = row % rows.len();
            rows[row][column + 1] = values[column - 1].clone();
        }
        if shuffle {
            rows.reverse();
        }
        number.set(number.get() + 1);
        let mut s = slice(run, number.get());
        s.complete = [("every_kind".to_owned(), vec![whole("s0"), whole("s1")])].into();
        let read = rt.block_on(async {
            load(&mut *sink.borrow_mut(), &s, &[(&dataset, batch(&dataset, &rows))]).await;
            stored(&db.pool, &dataset).await
        });
        let clean = |rows: Vec<Vec<Cell>>| {
            let mut rows = rows;
            rows.iter_mut().for_each(|r| canonical(&mut r[1..]));
            rows.sort_by_key(|r| format!("{:?}", &r[..2]));
            // Zero has no sign for a table.
            format!("{rows:?}").replace("Float(-0.0)", "Float(0.0)")
        };
        prop_assert_eq!(clean(cells(&dataset, &read)), clean(rows.clone()));
    });
    rt.block_on(async { drop((sink, db)) });
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_names_make_sound_tables() {
    let db = TestDb::new().await;
    let name = r#"a"; drop schema ops cascade; --'\"#;
    let dataset = Dataset::new(name, "it's \\ odd").columns([
        text("select", "a 'word'").key(),
        text(r#"b"c'"#, "\\"),
        int("Ünit №", "mixed"),
    ]);
    let schema = r#"My "core""#;
    let options = Options { schema: schema.to_owned(), ..options() };
    let mut sink = sink(&db.pool, options, std::slice::from_ref(&dataset)).await;
    let rows = |v: i64| batch(&dataset, &[vec![word("k", 1), Cell::Text("x".into()), Cell::Int(v)]]);
    let run = Uuid::now_v7();
    for number in 0..2 {
        load(&mut sink, &slice(run, number), &[(&dataset, rows(number.into()))]).await;
    }
    let read = read(&db.pool, schema, &dataset).await.unwrap();
    assert_eq!(cells(&dataset, &read[0])[0][2], Cell::Int(1));
    let there: bool =
        sqlx::query_scalar("select to_regclass('ops.runs') is not null").fetch_one(&db.pool).await.unwrap();
    assert!(there);
    assert!(quote(&"n".repeat(64)).is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn only_a_new_nullable_column_changes_a_table() {
    let db = TestDb::new().await;
    let ledger = Options::default;
    let before = leads();
    sink(&db.pool, ledger(), std::slice::from_ref(&before)).await;
    let wider = before.clone().extend([text("email", "the mail")]);
    sink(&db.pool, ledger(), std::slice::from_ref(&wider)).await;
    let changes: Vec<(String, String)> =
        sqlx::query_as("select dataset, change from ops.schema_changes").fetch_all(&db.pool).await.unwrap();
    assert_eq!(changes, [("leads".to_owned(), "added `email` text".to_owned())]);

    let other = Dataset::new("leads", "A lead.").columns([
        text("id", "retyped").key(),
        text("name", "part of the key").key(),
        int("age", "new and required").required(),
        text("phone", "fine").sensitive(),
    ]);
    let mut refused = PostgresSink::new(db.pool.clone(), ledger());
    let fault = refused.prepare(&[target(&other)]).await.unwrap_err();
    for part in ["`id` is bigint, not text", "`age` is required", "its key is (id), not (id, name)"] {
        assert!(fault.message.contains(part), "{} in {}", part, fault.message);
    }
    // `phone` alone would have been fine, but nothing may have changed.
    sink(&db.pool, ledger(), &[wider]).await;
    let columns: i64 = sqlx::query_scalar("select count(*) from information_schema.columns where table_name = 'leads'")
        .fetch_one(&db.pool)
        .await
        .unwrap();
    assert_eq!(columns, 7);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_cursor_moves_with_the_rows_and_two_workers_do_not_both_win() {
    let db = TestDb::new().await;
    let run = Uuid::now_v7();
    runs::start(&db.pool, run, "test", "manual", &json!({}), start()).await.unwrap();
    let dataset = fees();
    let rows =
        |v: i128| batch(&dataset, &[vec![word("p", 1), word("f", 1), word("o", 1), Cell::Decimal(v), Cell::Null]]);
    let mut slice = slice(run, 0);
    slice.cursor = Some(Cursor(json!({ "page": 2 })));
    slice.complete = [("fees".to_owned(), vec![whole("p1")])].into();
    let mut one = sink(&db.pool, Options::default(), std::slice::from_ref(&dataset)).await;
    let mut two = sink(&db.pool, Options::default(), std::slice::from_ref(&dataset)).await;
    for sink in [&mut one, &mut two] {
        sink.begin(slice.id).await.unwrap();
    }
    one.write("fees", rows(1)).await.unwrap();
    two.write("fees", rows(2)).await.unwrap();
    let (a, b) = tokio::join!(one.commit(&slice), two.commit(&slice));
    assert!(a.is_ok() != b.is_ok(), "{a:?} {b:?}");
    let winner = if a.is_ok() { 1 } else { 2 };
    let amount: i64 =
        sqlx::query_scalar("select (amount * 100)::bigint from core.fees").fetch_one(&db.pool).await.unwrap();
    assert_eq!(amount, winner);
    let (next, cursor): (i32, serde_json::Value) =
        sqlx::query_as("select next_slice, cursor from ops.runs").fetch_one(&db.pool).await.unwrap();
    assert_eq!((next, cursor), (1, json!({ "page": 2 })));
    let fault = a.and(b).unwrap_err();
    assert!(fault.message.contains("another worker") || fault.is_retryable(), "{fault:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_server_is_retryable_and_leaves_nothing() {
    let db = TestDb::new().await;
    let dataset = fees();
    let mut sink = sink(&db.pool, options(), std::slice::from_ref(&dataset)).await;
    let row = |n: i64| {
        vec![word("p", 1), Cell::Text(format!("f{n}")), word("o", 0), Cell::Null, Cell::Text(format!("{n:>900}"))]
    };
    let rows = batch(&dataset, &(0..30_000).map(row).collect::<Vec<_>>());
    let run = Uuid::now_v7();
    let one = slice(run, 0);
    sink.begin(one.id).await.unwrap();
    sink.write("fees", rows.clone()).await.unwrap();
    let ended: i64 = sqlx::query_scalar(
        "select count(pg_terminate_backend(pid)) from pg_stat_activity where datname = current_database() and state = 'idle in transaction'",
    )
    .fetch_one(&db.pool)
    .await
    .unwrap();
    assert_eq!(ended, 1);
    let fault = sink.commit(&one).await.unwrap_err();
    assert_eq!(fault.blame, catalog::Blame::Remote, "{fault:?}");
    assert!(fault.is_retryable());
    assert_eq!(stored(&db.pool, &dataset).await.num_rows(), 0);
    let receipt = load(&mut sink, &one, &[(&dataset, rows)]).await;
    assert_eq!(receipt.inserted, 30_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_changed_behind_its_back_are_mended_by_verify() {
    let db = TestDb::new().await;
    let dataset = fees();
    let rows = batch(&dataset, &[vec![word("p", 1), word("f", 1), word("o", 1), Cell::Decimal(700), Cell::Null]]);
    let run = Uuid::now_v7();
    let mut usual = sink(&db.pool, options(), std::slice::from_ref(&dataset)).await;
    load(&mut usual, &slice(run, 0), &[(&dataset, rows.clone())]).await;
    db.pool.execute("update core.fees set amount = 1").await.unwrap();
    let receipt = load(&mut usual, &slice(run, 1), &[(&dataset, rows.clone())]).await;
    assert_eq!(receipt.unchanged, 1);
    let mut verifying = sink(&db.pool, Options { verify: true, ..options() }, std::slice::from_ref(&dataset)).await;
    let receipt = load(&mut verifying, &slice(run, 2), &[(&dataset, rows.clone())]).await;
    assert_eq!(receipt.updated, 1);
    // An emptied table needs no such option, not even for a scope that comes later.
    db.pool.execute("truncate core.fees").await.unwrap();
    let other = batch(&dataset, &[vec![word("p", 2), word("f", 1), word("o", 1), Cell::Null, Cell::Null]]);
    load(&mut usual, &slice(run, 3), &[(&dataset, other)]).await;
    let receipt = load(&mut usual, &slice(run, 4), &[(&dataset, rows)]).await;
    assert_eq!(receipt.inserted, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn serving_shows_only_what_may_be_offered() {
    let db = TestDb::new().await;
    sink(&db.pool, Options::default(), &catalog::datasets::stored()).await;
    let mut connection = db.pool.acquire().await.unwrap();
    for _ in 0..2 {
        create_views(&mut connection).await.unwrap();
    }
    let sql = "insert into core.properties (property_id, name, deleted_at) values \
         ('open', 'Open', null), ('gone', 'Gone', now()), ('dropped', 'Dropped', null), ('feed', 'Feed', null), \
         ('moved', 'Moved', null); \
         insert into core.account_properties (connection, property_id, name, deleted_at) values \
         ('c', 'open', 'Open', null), ('c', 'dropped', 'Dropped', now()), ('d', 'dropped', 'Dropped', now()), \
         ('c', 'moved', 'Moved', now()), ('d', 'moved', 'Moved', null); \
         insert into core.available_units (property_id, unit_number, property_name, currency, agreement, deleted_at) \
         select p, u, p, 'USD', 'agreed', case when u = '2' then now() end \
         from unnest(array['open', 'gone', 'dropped', 'feed', 'moved']) p, unnest(array['1', '2']) u; \
         insert into ops.freshness (scope, pipeline, run_id, observed_at, limit_seconds) values \
         ('open', 'p', gen_random_uuid(), now(), 60), ('feed', 'p', gen_random_uuid(), now() - interval '2 min', 60)";
    sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(&mut *connection).await.unwrap();
    let left =
        format!("select property_id from core.properties p where {}", sinks::postgres::unlisted("p.property_id"));
    let left: Vec<String> = sqlx::query_scalar(AssertSqlSafe(left)).fetch_all(&mut *connection).await.unwrap();
    assert_eq!(left, ["dropped"]);
    connection.execute("set role propflow_reader").await.unwrap();
    let seen: Vec<(String, String, bool)> =
        sqlx::query_as("select property_id, unit_number, stale from serving.available_units order by 1")
            .fetch_all(&mut *connection)
            .await
            .unwrap();
    let shown = |property: &str, stale| (property.to_owned(), "1".to_owned(), stale);
    assert_eq!(seen, [shown("feed", true), shown("moved", true), shown("open", false)]);
    assert!(connection.execute("select * from core.properties").await.is_err());
    assert!(connection.execute("delete from serving.available_units").await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_address_never_shows() {
    let entry = sinks::find("postgres").unwrap();
    let settings = entry.address("//me:hunter2@127.0.0.1:1/none").unwrap();
    let mut sink = entry.open(settings, catalog::Env::default()).await.unwrap();
    let fault = sink.prepare(&[target(&fees())]).await.unwrap_err();
    assert!(!format!("{fault:?} {}", fault.chain()).contains("hunter2"));
    let fault =
        entry.open(json!({ "url": "postgres://me:hunter2@[bad" }), catalog::Env::default()).await.err().unwrap();
    assert!(!format!("{fault:?} {}", fault.chain()).contains("hunter2"));
    assert!(entry.check(&json!({ "url": "env:X", "shcema": "x" })).is_err());
}
