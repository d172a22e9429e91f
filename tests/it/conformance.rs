//! What every connector and every sink promises, checked on all that are registered.

use std::collections::BTreeMap;

use arrow::array::{Array, AsArray, RecordBatch};
use catalog::slice::Scope;
use catalog::{Blame, Cursor, Dataset, Env, Fault, Slice, SliceId};
use chrono::{DateTime, TimeDelta, Utc};
use connectors::{Event, Read, Request, Source, Stream, guarded};
use futures::StreamExt;
use kit::db::TestDb;
use kit::rows::{Cell, batch};
use kit::vendors::{Vendor, Wrong};
use serde_json::{Value, json};
use sinks::{Sink, Target};
use tempfile::TempDir;
use uuid::Uuid;

/// Everything that one reading said.
#[derive(Debug, Default)]
struct Reading {
    /// Rows as text, by dataset, in order.
    rows: BTreeMap<String, Vec<String>>,
    /// Complete scopes, in order.
    complete: Vec<String>,
    /// Each checkpoint, with the number of rows per dataset before it.
    checkpoints: Vec<(Cursor, BTreeMap<String, usize>)>,
    /// Scopes that failed.
    failed: Vec<(String, Fault)>,
    /// How it ended, if not well.
    fault: Option<Fault>,
}

async fn read(source: &dyn Source, stream: &Stream, resume: Option<Cursor>) -> Reading {
    let request = Request { stream: stream.name.to_string(), read: Read::Snapshot, resume, only: Vec::new() };
    let mut events = guarded(stream, source.read(request));
    let mut reading = Reading::default();
    while let Some(event) = events.next().await {
        match event {
            Ok(Event::Rows { dataset, batch }) => {
                let rows = reading.rows.entry(dataset.into_owned()).or_default();
                for row in 0..batch.num_rows() {
                    let cells = batch.columns().iter().map(|c| {
                        let c = c.as_string::<i32>();
                        if c.is_null(row) { "∅" } else { c.value(row) }
                    });
                    rows.push(cells.collect::<Vec<_>>().join("|"));
                }
            }
            Ok(Event::Complete { scope, .. }) => reading.complete.push(scope),
            Ok(Event::Failed { scope, fault }) => reading.failed.push((scope, fault)),
            Ok(Event::Checkpoint(cursor)) => {
                let seen = reading.rows.iter().map(|(d, r)| (d.clone(), r.len())).collect();
                reading.checkpoints.push((cursor, seen));
            }
            Ok(_) => {}
            Err(fault) => {
                reading.fault = Some(fault);
                break;
            }
        }
    }
    reading
}

async fn each(mut test: impl AsyncFnMut(&'static str, &Vendor, Box<dyn Source>, Stream)) {
    for entry in connectors::ALL {
        let vendor = Vendor::start(entry.name).await;
        let source = entry.open(vendor.settings.clone(), Env::default()).await.unwrap();
        if !vendor.pulled {
            source.check().await.unwrap();
            assert!(source.webhook().is_some(), "{} cannot be asked and sends nothing", entry.name);
            continue;
        }
        for stream in source.streams() {
            let source = entry.open(vendor.settings.clone(), Env::default()).await.unwrap();
            test(entry.name, &vendor, source, stream).await;
        }
    }
}

#[tokio::test]
async fn a_reading_reaches_the_end_covered_and_in_schema() {
    each(async |name, _, source, stream| {
        source.check().await.unwrap();
        let reading = read(&*source, &stream, None).await;
        assert!(reading.fault.is_none(), "{name}: {:?}", reading.fault);
        assert!(reading.failed.is_empty(), "{name}: {:?}", reading.failed);
        assert!(!reading.checkpoints.is_empty() && !reading.complete.is_empty(), "{name}");
        assert!(reading.rows.values().map(Vec::len).sum::<usize>() > 20, "{name} read next to nothing");
    })
    .await;
}

#[tokio::test]
async fn reading_on_from_any_checkpoint_loses_and_repeats_nothing() {
    each(async |name, _, source, stream| {
        let whole = read(&*source, &stream, None).await;
        for (i, (cursor, seen)) in whole.checkpoints.iter().enumerate() {
            // A cursor has to survive being stored.
            let stored = serde_json::from_str(&serde_json::to_string(cursor).unwrap()).unwrap();
            let rest = read(&*source, &stream, Some(stored)).await;
            assert!(rest.fault.is_none(), "{name}: {:?}", rest.fault);
            for (dataset, rows) in &whole.rows {
                let tail = &rows[seen.get(dataset).copied().unwrap_or(0)..];
                let empty = Vec::new();
                assert_eq!(
                    rest.rows.get(dataset).unwrap_or(&empty),
                    tail,
                    "{name}: `{dataset}` from checkpoint {i} on"
                );
            }
        }
    })
    .await;
}

#[tokio::test]
async fn an_unknown_setting_is_refused_by_name() {
    for entry in connectors::ALL {
        let vendor = Vendor::start(entry.name).await;
        let mut settings = vendor.settings.clone();
        settings["colour"] = json!("blue");
        let fault = entry.check(&settings).unwrap_err();
        assert!(fault.chain().contains("colour"), "{}: {}", entry.name, fault.chain());
        assert_eq!(fault.blame, Blame::User);
    }
}

#[tokio::test]
async fn passing_trouble_is_ridden_out() {
    for wrong in [Wrong::Shaky, Wrong::Busy] {
        each(async |name, vendor, source, stream| {
            if !vendor.remote {
                return;
            }
            let calm = read(&*source, &stream, None).await;
            vendor.misbehave(wrong);
            let shaken = read(&*source, &stream, None).await;
            assert!(
                shaken.fault.is_none() && shaken.failed.is_empty(),
                "{name} {wrong:?}: {:?} {:?}",
                shaken.fault,
                shaken.failed
            );
            assert_eq!(calm.rows, shaken.rows, "{name} {wrong:?}");
        })
        .await;
    }
}

#[tokio::test]
async fn lasting_trouble_is_a_fault_with_the_right_blame_and_no_secret() {
    for wrong in [Wrong::Credentials, Wrong::Down, Wrong::Cut, Wrong::Garbage] {
        each(async |name, vendor, source, stream| {
            vendor.misbehave(wrong);
            let reading = read(&*source, &stream, None).await;
            let faults: Vec<&Fault> = reading.fault.iter().chain(reading.failed.iter().map(|(_, f)| f)).collect();
            assert!(!faults.is_empty(), "{name}: {wrong:?} went unnoticed");
            for fault in faults {
                if vendor.remote {
                    let blame = if wrong == Wrong::Credentials { Blame::User } else { Blame::Remote };
                    assert_eq!(fault.blame, blame, "{name}: {wrong:?}: {}", fault.chain());
                }
                assert_ne!(fault.blame, Blame::Us, "{name}: {wrong:?}: {}", fault.chain());
                for secret in &vendor.secrets {
                    assert!(
                        !format!("{fault:?} {}", fault.hint.as_deref().unwrap_or("")).contains(secret.as_str()),
                        "{name}: a secret in a fault"
                    );
                }
            }
        })
        .await;
    }
}

/// A place for a sink to write to, and a way to look at it that is not the sink's own.
struct Place {
    settings: Value,
    db: Option<TestDb>,
    dir: TempDir,
    name: String,
}

impl Place {
    async fn of(sink: &str) -> Self {
        let (dir, name) = (tempfile::tempdir().unwrap(), Uuid::now_v7().to_string());
        let mut db = None;
        let settings = match sink {
            "memory" => json!({ "name": name }),
            "parquet" => json!({ "path": dir.path() }),
            "postgres" => {
                let made = TestDb::new().await;
                let settings = json!({ "url": made.url });
                db = Some(made);
                settings
            }
            other => panic!("sink `{other}` has no place in this suite"),
        };
        Self { settings, db, dir, name }
    }

    /// The live rows, as `property/id=name`.
    async fn rows(&self, dataset: &Dataset) -> Vec<String> {
        let batches: Vec<RecordBatch> = if let Some(db) = &self.db {
            let live: Vec<String> = sqlx::query_scalar(
                "select property_id || '/' || lead_source_id || '=' || name from core.lead_sources \
                 where deleted_at is null order by 1",
            )
            .fetch_all(&db.pool)
            .await
            .unwrap();
            return live;
        } else if self.settings.get("path").is_some() {
            let context = transforms::session().unwrap();
            if pipelines::lake::register(&context, &self.dir.path().display().to_string()).await.is_err() {
                return Vec::new();
            }
            let sql = format!("select property_id, lead_source_id, name from {}", dataset.name);
            context.sql(&sql).await.unwrap().collect().await.unwrap()
        } else {
            sinks::memory::named(&self.name).rows(&dataset.name).into_iter().collect()
        };
        let mut rows = Vec::new();
        for batch in &batches {
            let batch = RecordBatch::try_new(
                dataset.schema(),
                batch
                    .columns()
                    .iter()
                    .zip(dataset.schema().fields())
                    .map(|(c, f)| arrow::compute::cast(c, f.data_type()).unwrap())
                    .collect(),
            )
            .unwrap();
            let cell = |column: usize, row: usize| batch.column(column).as_string::<i32>().value(row).to_owned();
            rows.extend((0..batch.num_rows()).map(|r| format!("{}/{}={}", cell(0, r), cell(1, r), cell(2, r))));
        }
        rows.sort();
        rows
    }
}

fn slice(number: u32, run: Uuid, whole: &[&str]) -> Slice {
    let scopes = whole.iter().map(|s| Scope { value: (*s).to_owned(), origins: None }).collect();
    Slice {
        id: SliceId { run, number },
        pipeline: "conformance".to_owned(),
        observed_at: DateTime::<Utc>::UNIX_EPOCH + TimeDelta::hours(i64::from(number)),
        complete: BTreeMap::from([("lead_sources".to_owned(), scopes)]),
        cursor: None,
        follows: None,
        rejects: Vec::new(),
        notes: Vec::new(),
    }
}

#[tokio::test]
async fn every_sink_keeps_the_promises_of_a_slice() {
    let dataset = catalog::datasets::find("lead_sources").unwrap();
    let rows = |list: &[(&str, &str, &str)]| {
        let text = |t: &str| Cell::Text(t.to_owned());
        batch(dataset, &list.iter().map(|(p, id, n)| vec![text(p), text(id), text(n)]).collect::<Vec<_>>())
    };
    for entry in sinks::ALL {
        let name = entry.name;
        let place = Place::of(name).await;
        let mut sink: Box<dyn Sink> = entry.open(place.settings.clone(), Env::default()).await.unwrap();
        sink.check().await.unwrap();
        sink.prepare(&[Target { dataset: dataset.clone(), mode: dataset.mode }]).await.unwrap();
        let run = Uuid::now_v7();

        // What is written but not committed does not exist, and the next slice does not bring it along.
        sink.begin(SliceId { run, number: 0 }).await.unwrap();
        sink.write("lead_sources", rows(&[("p1", "lost", "Nowhere")])).await.unwrap();
        assert!(place.rows(dataset).await.is_empty(), "{name}: rows before the commit");

        let first = rows(&[("p1", "a", "Web"), ("p1", "b", "Sign"), ("p2", "a", "Web")]);
        for _ in 0..2 {
            // The second time the very same slice: as if it had come once.
            let slice = slice(1, run, &["p1", "p2"]);
            sink.begin(slice.id).await.unwrap();
            sink.write("lead_sources", first.clone()).await.unwrap();
            let receipts = sink.commit(&slice).await.unwrap();
            assert_eq!(receipts["lead_sources"].received, 3, "{name}");
            assert_eq!(place.rows(dataset).await, ["p1/a=Web", "p1/b=Sign", "p2/a=Web"], "{name}");
        }

        // p1 came whole without `b`: it left. p2 was not read: it stays. A change and a new row are there.
        let third = slice(2, run, &["p1"]);
        sink.begin(third.id).await.unwrap();
        sink.write("lead_sources", rows(&[("p1", "a", "Web site"), ("p1", "c", "Friend")])).await.unwrap();
        sink.commit(&third).await.unwrap();
        assert_eq!(place.rows(dataset).await, ["p1/a=Web site", "p1/c=Friend", "p2/a=Web"], "{name}");

        // A scope that came whole and empty has nothing left; what had gone comes back.
        let fourth = slice(3, run, &["p1", "p2"]);
        sink.begin(fourth.id).await.unwrap();
        sink.write("lead_sources", rows(&[("p1", "b", "Sign")])).await.unwrap();
        sink.commit(&fourth).await.unwrap();
        assert_eq!(place.rows(dataset).await, ["p1/b=Sign"], "{name}");

        // A slice that was never begun, and a dataset that was never prepared, are refused.
        assert!(sink.commit(&slice(9, run, &[])).await.is_err(), "{name}");
        sink.begin(SliceId { run, number: 10 }).await.unwrap();
        assert!(sink.write("units", rows(&[])).await.is_err(), "{name}");

        let mut settings = place.settings.clone();
        settings["colour"] = json!("blue");
        assert!(entry.check(&settings).unwrap_err().chain().contains("colour"), "{name}");
    }
}
