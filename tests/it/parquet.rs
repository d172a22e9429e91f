//! The Parquet sink: files, and what the lake's readers make of them.

use std::fs;
use std::path::Path;

use arrow::array::{AsArray, RecordBatch};
use arrow::compute::concat_batches;
use catalog::slice::Scope;
use catalog::{Blame, Cursor, Dataset, SliceId};
use datafusion::prelude::{ParquetReadOptions, SessionContext};
use kit::rows::{Cell, batch};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use proptest::prelude::*;
use sinks::Sink;
use sinks::memory::{Handle, MemorySink};
use sinks::parquet::{ParquetSink, lake_columns, lake_schema};
use uuid::Uuid;

use crate::postgres::{
    any_row, cells, every_kind, fees, leads, load, prices, runtime, slice, step, target, whole, word,
};

async fn sink(root: &Path, datasets: &[Dataset]) -> ParquetSink {
    let mut sink = ParquetSink::open(root.to_str().unwrap()).unwrap();
    sink.prepare(&datasets.iter().map(target).collect::<Vec<_>>()).await.unwrap();
    sink
}

/// The lake's files below a folder, sorted.
fn files(root: &Path) -> Vec<String> {
    fn walk(folder: &Path, root: &Path, out: &mut Vec<String>) {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            if entry.path().is_dir() {
                walk(&entry.path(), root, out);
            } else {
                out.push(entry.path().strip_prefix(root).unwrap().to_str().unwrap().to_owned());
            }
        }
    }
    let mut out = Vec::new();
    walk(root, root, &mut out);
    out.sort();
    out
}

fn read_file(path: &Path) -> RecordBatch {
    let reader = ParquetRecordBatchReaderBuilder::try_new(fs::File::open(path).unwrap()).unwrap();
    let schema = reader.schema().clone();
    let batches: Vec<_> = reader.build().unwrap().map(Result::unwrap).collect();
    concat_batches(&schema, &batches).unwrap()
}

#[test]
fn every_value_comes_back_as_it_went_in() {
    let rt = runtime();
    let dataset = every_kind();
    proptest!(ProptestConfig::with_cases(32), |(rows in prop::collection::vec(any_row(), 1..12))| {
        let rows: Vec<Vec<Cell>> = (0..).map(Cell::Int).zip(rows).map(|(k, r)| [vec![k], r].concat()).collect();
        let dir = tempfile::tempdir().unwrap();
        let slice = slice(Uuid::now_v7(), 0);
        rt.block_on(async {
            let mut sink = sink(dir.path(), std::slice::from_ref(&dataset)).await;
            load(&mut sink, &slice, &[(&dataset, batch(&dataset, &rows))]).await;
        });
        let read = read_file(&dir.path().join(format!("every_kind/date=2026-03-01/{}.parquet", slice.id)));
        prop_assert_eq!(read.schema(), lake_schema(&dataset));
        prop_assert_eq!(format!("{:?}", cells(&dataset, &read)), format!("{rows:?}"));
        let id = read.column(read.num_columns() - 1).as_string::<i32>();
        prop_assert!(id.iter().all(|v| v == Some(slice.id.to_string().as_str())));
    });
}

/// The newest rows, by the rules in the sink's README.
async fn newest(root: &Path, dataset: &Dataset) -> RecordBatch {
    let none = || RecordBatch::new_empty(dataset.schema());
    let ctx = SessionContext::new();
    let folder = |name: &str| format!("{}/", root.join(name).display());
    if !root.join(&dataset.name).exists() {
        return none();
    }
    for (name, path) in [("r", folder(&dataset.name)), ("s", folder("_slices"))] {
        ctx.register_parquet(name, path, ParquetReadOptions::default().skip_metadata(true)).await.unwrap();
    }
    let (at, id) = lake_columns(dataset);
    let key = dataset.key().join(", ");
    let columns: Vec<_> = dataset.columns.iter().map(|c| c.name.as_str()).collect();
    let left = match (&dataset.scope, &dataset.origin) {
        (Some(scope), Some(origin)) => format!(
            "and not exists (select 1 from s c where c.dataset = '{}' and c.scope = n.{scope} \
             and (c.origin is null or c.origin = n.{origin}) \
             and (c.observed_at > n.{at} or (c.observed_at = n.{at} and c.slice_id > n.{id})))",
            dataset.name
        ),
        _ => String::new(),
    };
    let sql = format!(
        "select {} from (select r.*, row_number() over (partition by {key} order by r.{at} desc, r.{id} desc) as place \
         from r where exists (select 1 from s where s.dataset = '{}' and s.scope is null and s.slice_id = r.{id} \
         and s.observed_at = r.{at})) n where place = 1 {left} order by {key}",
        columns.join(", "),
        dataset.name
    );
    let batches = ctx.sql(&sql).await.unwrap().collect().await.unwrap();
    let Some(first) = batches.first() else { return none() };
    let all = concat_batches(&first.schema(), &batches).unwrap();
    let columns = dataset
        .schema()
        .fields()
        .iter()
        .zip(all.columns())
        .map(|(f, c)| arrow::compute::cast(c, f.data_type()).unwrap())
        .collect();
    RecordBatch::try_new(dataset.schema(), columns).unwrap()
}

/// Whatever slices come, however often, on whatever day, and wherever they are cut off: the lake's newest rows are what
/// a plain map holds.
#[test]
fn the_newest_rows_are_those_of_memory() {
    let rt = runtime();
    let datasets = [fees(), leads()];
    proptest!(ProptestConfig::with_cases(10), |(steps in prop::collection::vec(step(), 1..7))| {
        rt.block_on(async {
            let dir = tempfile::tempdir().unwrap();
            let run = Uuid::now_v7();
            let handle = Handle::default();
            let mut memory = MemorySink::new(handle.clone());
            memory.prepare(&datasets.iter().map(target).collect::<Vec<_>>()).await.unwrap();
            let mut parquet = sink(dir.path(), &datasets).await;
            for (number, step) in (0..).zip(&steps) {
                let mut slice = step.slice(run, number);
                slice.observed_at += chrono::TimeDelta::hours(i64::from(number) * 9);
                let rows = step.rows(slice.observed_at);
                let rows: Vec<_> = rows
                    .iter()
                    .filter(|(d, _)| datasets.contains(d))
                    .map(|(d, r)| (d, batch(d, r)))
                    .collect();
                if step.kills > 0 {
                    // A try a day before that never got to its record: its files must not be seen.
                    let mut early = slice.clone();
                    early.observed_at -= chrono::TimeDelta::days(1);
                    load(&mut parquet, &early, &rows).await;
                    fs::remove_file(dir.path().join(format!("_slices/{}.parquet", slice.id))).unwrap();
                    let paths: Vec<_> = files(dir.path()).into_iter().filter(|p| p.contains(&slice.id.to_string())).collect();
                    fs::write(dir.path().join(format!("_pending/{}.json", slice.id)), serde_json::to_vec(&paths).unwrap()).unwrap();
                    parquet.begin(slice.id).await.unwrap();
                    for (d, r) in &rows {
                        parquet.write(&d.name, r.clone()).await.unwrap();
                    }
                    parquet = sink(dir.path(), &datasets).await;
                }
                for _ in 0..=u8::from(step.repeat) {
                    load(&mut memory, &slice, &rows).await;
                    load(&mut parquet, &slice, &rows).await;
                }
                for d in &datasets {
                    let expected = cells(d, &handle.rows(&d.name).unwrap());
                    prop_assert_eq!(cells(d, &newest(dir.path(), d).await), expected, "`{}` after {}", d.name, number);
                }
                prop_assert!(!files(dir.path()).iter().any(|f| f.starts_with("_pending") || f.starts_with("_tmp")));
            }
            Ok(())
        })?;
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeated_slice_replaces_its_own_files_and_no_others() {
    let dir = tempfile::tempdir().unwrap();
    let datasets = [fees(), leads()];
    let mut sink = sink(dir.path(), &datasets).await;
    let run = Uuid::now_v7();
    let fee = batch(&datasets[0], &[vec![word("p", 1), word("f", 1), word("o", 1), Cell::Null, Cell::Null]]);
    let lead = batch(&datasets[1], &[vec![Cell::Int(1), Cell::Null, Cell::Null]]);
    let (first, mut second) = (slice(run, 0), slice(run, 1));
    load(&mut sink, &first, &[(&datasets[0], fee.clone()), (&datasets[1], lead.clone())]).await;
    load(&mut sink, &second, &[(&datasets[0], fee.clone()), (&datasets[1], lead)]).await;
    // Read again the next day, with a dataset less.
    second.observed_at += chrono::TimeDelta::days(1);
    load(&mut sink, &second, &[(&datasets[0], fee)]).await;
    assert_eq!(
        files(dir.path()),
        [
            format!("_slices/{}.parquet", first.id),
            format!("_slices/{}.parquet", second.id),
            format!("fees/date=2026-03-01/{}.parquet", first.id),
            format!("fees/date=2026-03-02/{}.parquet", second.id),
            format!("leads/date=2026-03-01/{}.parquet", first.id),
        ]
    );
}

/// More than the buffer holds: several sorted row groups, and a key that comes back much later still wins.
#[tokio::test(flavor = "multi_thread")]
async fn a_large_slice_is_spooled_and_the_last_row_of_a_key_wins() {
    let dir = tempfile::tempdir().unwrap();
    let dataset = fees();
    let mut sink = sink(dir.path(), std::slice::from_ref(&dataset)).await;
    let row = |n: usize, v: i128| {
        let key = Cell::Text(format!("f{:06}", n * 7919 % 60_000));
        vec![word("p", 1), key, word("o", 0), Cell::Decimal(v), Cell::Text(format!("{n:>900}"))]
    };
    let first: Vec<_> = (0..60_000).map(|n| row(n, 1)).collect();
    let again: Vec<_> = (0..100).map(|n| row(n, 2)).collect();
    let rows: Vec<_> = first.chunks(5_000).chain([&again[..]]).map(|r| (&dataset, batch(&dataset, r))).collect();
    let slice = slice(Uuid::now_v7(), 0);
    let receipt = load(&mut sink, &slice, &rows).await;
    assert_eq!((receipt.received, receipt.appended, receipt.inserted), (60_100, 60_000, 0));
    let path = dir.path().join(format!("fees/date=2026-03-01/{}.parquet", slice.id));
    let file = ParquetRecordBatchReaderBuilder::try_new(fs::File::open(&path).unwrap()).unwrap();
    assert!(file.metadata().num_row_groups() > 1);
    assert!(file.metadata().row_group(0).column(1).bloom_filter_offset().is_some());
    let read = cells(&dataset, &read_file(&path));
    assert_eq!(read.len(), 60_000);
    assert_eq!(read.iter().filter(|r| r[3] == Cell::Decimal(2)).count(), 100);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_scope_that_came_empty_is_on_record() {
    let dir = tempfile::tempdir().unwrap();
    let dataset = fees();
    let mut sink = sink(dir.path(), std::slice::from_ref(&dataset)).await;
    let mut slice = slice(Uuid::now_v7(), 0);
    let origins = Scope { value: "p2".to_owned(), origins: Some(vec!["o1".to_owned(), "o2".to_owned()]) };
    slice.complete = [("fees".to_owned(), vec![whole("p1"), origins])].into();
    load(&mut sink, &slice, &[]).await;
    let record = read_file(&dir.path().join(format!("_slices/{}.parquet", slice.id)));
    let text = |column: usize| {
        record.column(column).as_string::<i32>().iter().map(|v| v.unwrap_or("-").to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(text(4), ["-", "p1", "p2", "p2"]);
    assert_eq!(text(5), ["-", "-", "o1", "o2"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lake_that_cannot_be_written_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    fs::write(&file, "x").unwrap();
    let lake = ParquetSink::open(file.to_str().unwrap()).unwrap();
    let fault = lake.check().await.unwrap_err();
    assert_eq!(fault.blame, Blame::User);
    assert!(fault.message.contains(file.to_str().unwrap()), "{fault:?}");
    assert!(ParquetSink::open("ftp://me:hunter2@host.example/x").is_err_and(|f| !f.chain().contains("hunter2")));
}

/// `price_history` has a column `observed_at` of its own.
#[test]
fn the_lakes_columns_give_way() {
    let own = catalog::datasets::find("price_history").unwrap();
    assert_eq!(lake_columns(own), ("_observed_at".to_owned(), "slice_id".to_owned()));
    assert_eq!(lake_columns(&prices()), ("observed_at".to_owned(), "slice_id".to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slice_that_was_not_begun_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let dataset = leads();
    let mut sink = sink(dir.path(), &[dataset]).await;
    let one = slice(Uuid::now_v7(), 0);
    sink.begin(SliceId { number: 1, ..one.id }).await.unwrap();
    assert!(sink.commit(&one).await.is_err());
    assert!(files(dir.path()).is_empty());
    let hostile = Dataset::new("../out", "no folder").columns(leads().columns);
    assert!(sink.prepare(&[target(&hostile)]).await.is_err());
}

/// A copy that was killed while it wrote goes on behind the last slice that was written whole.
#[tokio::test(flavor = "multi_thread")]
async fn a_journal_that_was_cut_anywhere_holds_whole_slices() {
    let dir = tempfile::tempdir().unwrap();
    let dataset = fees();
    let open = || async {
        let mut sink = ParquetSink::open(dir.path().to_str().unwrap()).unwrap();
        let kept = sink.keep("copy", &[]).await.unwrap();
        sink.prepare(&[target(&dataset)]).await.unwrap();
        (sink, kept.map(|k| k.next))
    };
    let run = Uuid::now_v7();
    let (mut first, kept) = open().await;
    assert_eq!(kept, None);
    let journal = files(dir.path()).into_iter().find(|f| f.ends_with(".journal")).unwrap();
    let journal = dir.path().join(journal);
    let mut ends = vec![0];
    for number in 0..3_u8 {
        let mut slice = slice(run, number.into());
        slice.cursor = Some(Cursor::of(&number).unwrap());
        let row = |n| vec![word("p", 1), word("f", n), word("o", 1), Cell::Decimal(i128::from(number)), Cell::Null];
        let rows: Vec<_> = (0..=number).map(row).collect();
        load(&mut first, &slice, &[(&dataset, batch(&dataset, &rows))]).await;
        ends.push(usize::try_from(fs::metadata(&journal).unwrap().len()).unwrap());
    }
    drop(first);
    let bytes = fs::read(&journal).unwrap();
    let found = async |bytes: &[u8]| {
        fs::write(&journal, bytes).unwrap();
        open().await.1
    };
    for cut in (0..bytes.len()).step_by(61).chain(ends.clone()) {
        let whole = u32::try_from(ends[1..].iter().filter(|end| **end <= cut).count()).unwrap();
        assert_eq!(found(&bytes[..cut]).await, (whole > 0).then_some(whole), "cut at {cut} of {ends:?}");
    }
    // What stands before an entry is written last.
    let mut under_way = bytes.clone();
    under_way[ends[2]..ends[2] + 32].fill(0);
    assert_eq!(found(&under_way).await, Some(2));
    let mut damaged = bytes.clone();
    damaged[(ends[1] + ends[2]) / 2] ^= 1;
    assert_eq!(found(&damaged).await, Some(1));

    // What is left is the lake's, once.
    fs::write(&journal, &bytes[..ends[2]]).unwrap();
    open().await.0.finish(false).await.unwrap();
    let path = dir.path().join(format!("fees/date=2026-03-01/{}.parquet", slice(run, 0).id));
    let amounts: Vec<_> = cells(&dataset, &read_file(&path)).into_iter().map(|row| row[3].clone()).collect();
    assert_eq!(amounts, [Cell::Decimal(1), Cell::Decimal(1)]);
    assert_eq!(fs::metadata(&journal).unwrap().len(), 0);
}
