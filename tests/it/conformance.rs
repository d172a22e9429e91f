//! What every connector promises, checked on all that are registered.

use std::collections::BTreeMap;

use arrow::array::{Array, AsArray};
use catalog::{Blame, Cursor, Env, Fault};
use connectors::{Event, Read, Request, Source, Stream, guarded};
use futures::StreamExt;
use kit::vendors::{Vendor, Wrong};
use serde_json::json;

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
    let request = Request { stream: stream.name.to_owned(), read: Read::Snapshot, resume, only: Vec::new() };
    let mut events = guarded(stream, source.read(request));
    let mut reading = Reading::default();
    while let Some(event) = events.next().await {
        match event {
            Ok(Event::Rows { dataset, batch }) => {
                let rows = reading.rows.entry(dataset.to_owned()).or_default();
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
