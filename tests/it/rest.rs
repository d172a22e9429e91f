//! The REST connector: what a server holds arrives, whatever the server does on the way.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{Date32Type, Decimal128Type, Float64Type, Int64Type, TimestampMicrosecondType};
use catalog::store::PgQuota;
use catalog::{Blame, Cursor, Env, Fault, Note, Reject, RejectKind, Result};
use connectors::{Event, Read, Request, Source, guarded};
use fixtures::rest::{Login, Options, Rate, Simulator, Wrong};
use futures::StreamExt;
use kit::db::TestDb;
use pipelines::app::App;
use pipelines::copy::{Copy, copy};
use pipelines::progress::Silent;
use pipelines::run::Summary;
use proptest::prelude::*;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

/// Everything that one reading said.
#[derive(Debug, Default)]
struct Reading {
    batches: Vec<RecordBatch>,
    rejects: Vec<Reject>,
    notes: Vec<Note>,
    /// Each checkpoint, with the number of rows before it.
    checkpoints: Vec<(Cursor, usize)>,
    fault: Option<Fault>,
}

impl Reading {
    fn rows(&self) -> Vec<Value> {
        self.batches.iter().flat_map(|b| (0..b.num_rows()).map(|row| object(b, row))).collect()
    }

    fn ids(&self) -> Vec<i64> {
        self.rows().iter().map(|r| r["id"].as_i64().unwrap()).collect()
    }
}

/// A row as JSON: decimals in hundredths, days and instants as their numbers, JSON parsed.
fn object(batch: &RecordBatch, row: usize) -> Value {
    let schema = batch.schema();
    let cells = schema.fields().iter().zip(batch.columns()).map(|(field, column)| {
        use arrow::datatypes::DataType as T;
        let value = match column.data_type() {
            _ if column.is_null(row) => Value::Null,
            T::Utf8 if field.name() == "nested" => serde_json::from_str(column.as_string::<i32>().value(row)).unwrap(),
            T::Utf8 => column.as_string::<i32>().value(row).into(),
            T::Int64 => column.as_primitive::<Int64Type>().value(row).into(),
            T::Float64 => column.as_primitive::<Float64Type>().value(row).into(),
            T::Boolean => column.as_boolean().value(row).into(),
            T::Date32 => column.as_primitive::<Date32Type>().value(row).into(),
            T::Timestamp(..) => column.as_primitive::<TimestampMicrosecondType>().value(row).into(),
            T::Decimal128(..) => i64::try_from(column.as_primitive::<Decimal128Type>().value(row)).unwrap().into(),
            other => panic!("no test for {other}"),
        };
        (field.name().clone(), value)
    });
    Value::Object(cells.collect())
}

fn paginator(style: &str, size: usize) -> Value {
    match style {
        "page" => json!({"kind": "page_number", "size_param": "size", "size": size}),
        "page_counted" => json!({"kind": "page_number", "size_param": "size", "size": size, "pages": "meta.pages"}),
        "offset" => json!({"kind": "offset", "size": size}),
        "offset_counted" => json!({"kind": "offset", "size": size, "total": "meta.total"}),
        "cursor" => json!({"kind": "cursor_in_body", "path": "meta.next_cursor", "size_param": "size", "size": size}),
        "next" => json!({"kind": "next_url_in_body", "path": "meta.next", "size_param": "size", "size": size}),
        "link" => json!({"kind": "link_header", "size_param": "size", "size": size}),
        "last" => {
            json!({"kind": "last_id", "param": "after_id", "size_param": "size", "size": size, "more": "meta.has_more"})
        }
        _ => json!({"kind": "none"}),
    }
}

const STYLES: [&str; 9] = ["page", "page_counted", "offset", "offset_counted", "cursor", "next", "link", "last", "all"];

/// Settings for the simulated API in one of its styles.
fn settings(server: &Simulator, style: &str, size: usize) -> Value {
    let path = style.trim_end_matches("_counted");
    let bare = matches!(path, "link" | "all" | "one");
    json!({
        "base_url": server.base_url(),
        "limits": {"calls_per_sec": 100_000, "burst": 10_000, "backoff_ms": 1, "attempts": 3},
        "streams": [{
            "name": "stays",
            "path": format!("/v1/bookings/{path}"),
            "records": if bare { "" } else { "data.items" },
            "paginator": paginator(style, size),
            "key": ["id"],
            "columns": [
                {"name": "id", "type": "int"},
                {"name": "name", "type": "text"},
                {"name": "total", "type": "money"},
                {"name": "open", "type": "flag"},
                {"name": "weight", "type": "float"},
                {"name": "day", "type": "date"},
                {"name": "at", "type": "instant"},
                {"name": "mail", "path": "guest.mail", "type": "text", "sensitive": true},
                {"name": "nested", "path": "guest", "type": "json"},
            ],
        }],
    })
}

async fn open(settings: &Value) -> Result<Box<dyn Source>> {
    connectors::find("rest").unwrap().open(settings.clone(), Env::default()).await
}

async fn read(source: &dyn Source, read: Read, resume: Option<Cursor>) -> Reading {
    let mut stream = source.streams().remove(0);
    let mut reading = Reading::default();
    match source.discover(&stream.name, resume.as_ref()).await {
        Ok(found) => stream = found.unwrap_or(stream),
        Err(fault) => {
            reading.fault = Some(fault);
            return reading;
        }
    }
    let request = Request { stream: stream.name.to_string(), read, resume, only: Vec::new() };
    let mut events = guarded(&stream, source.read(request));
    while let Some(event) = events.next().await {
        match event {
            Ok(Event::Rows { batch, .. }) => reading.batches.push(batch),
            Ok(Event::Reject(reject)) => reading.rejects.push(reject),
            Ok(Event::Note(note)) => reading.notes.push(note),
            Ok(Event::Checkpoint(cursor)) => {
                reading.checkpoints.push((cursor, reading.batches.iter().map(RecordBatch::num_rows).sum()));
            }
            Ok(_) => {}
            Err(fault) => reading.fault = Some(fault),
        }
    }
    reading
}

async fn snapshot(settings: &Value) -> Reading {
    let source = open(settings).await.unwrap();
    read(&*source, Read::Snapshot, None).await
}

/// What a record should become.
fn expected(record: &Value) -> Value {
    let cents = record["total"].as_str().map(|t| t.replace('.', "").parse::<i64>().unwrap());
    let guest = record.get("guest").filter(|g| !g.is_null());
    let mail = guest.and_then(|g| g.get("mail")).and_then(Value::as_str);
    json!({
        "id": record["id"],
        "name": record.get("name"),
        "total": cents,
        "open": record.get("open"),
        "weight": record.get("weight").filter(|w| !w.is_null()).map(|w| w.as_f64()),
        "day": record.get("day").filter(|d| !d.is_null()).map(|_| 20_605),
        "at": record.get("at").filter(|d| !d.is_null()).map(|_| 1_780_272_000_123_456_i64),
        "mail": mail,
        "nested": guest,
    })
}

/// One record, fields missing, null or set at random.
fn record() -> impl Strategy<Value = serde_json::Map<String, Value>> {
    let maybe = |values: BoxedStrategy<Value>| prop_oneof![1 => Just(None), 1 => Just(Some(Value::Null)), 4 => values.prop_map(Some)];
    let total = (-99_999_i64..99_999_999).prop_map(|c| {
        let sign = if c < 0 { "-" } else { "" };
        format!("{sign}{}.{:02}", c.abs() / 100, c.abs() % 100).into()
    });
    (
        maybe(any::<String>().prop_map(Into::into).boxed()),
        maybe(total.boxed()),
        maybe(any::<bool>().prop_map(Into::into).boxed()),
        maybe((-1000.0..1000.0_f64).prop_map(Into::into).boxed()),
        maybe(Just("2026-06-01".into()).boxed()),
        maybe(Just("2026-06-01T02:00:00.123456+02:00".into()).boxed()),
        maybe(any::<String>().prop_map(|t| json!({"mail": t, "other": [1, {"x": "y\"\\"}]})).boxed()),
        maybe(Just(json!([[], {}])).boxed()),
    )
        .prop_map(|(name, total, open, weight, day, at, guest, extra)| {
            let fields = [
                ("name", name),
                ("total", total),
                ("open", open),
                ("weight", weight),
                ("day", day),
                ("at", at),
                ("guest", guest),
                ("extra", extra),
            ];
            fields.into_iter().filter_map(|(k, v)| Some((k.to_owned(), v?))).collect()
        })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]
    #[test]
    fn whatever_the_paging_the_rows_are_those_of_the_server(
        records in prop::collection::vec(record(), 0..40),
        size in 1_usize..13,
        ahead in 1_usize..5,
        cut in any::<prop::sample::Index>(),
    ) {
        let records: Vec<Value> = records
            .into_iter()
            .enumerate()
            .map(|(at, mut r)| {
                r.insert("id".to_owned(), (i64::MAX - at as i64).into());
                r.into()
            })
            .collect();
        let wanted: Vec<Value> = records.iter().map(expected).collect();
        tokio::runtime::Runtime::new().unwrap().block_on(async {
            let server = Simulator::of(&records, Options::default()).await.unwrap();
            for style in STYLES {
                let mut settings = settings(&server, style, size);
                settings["streams"][0]["concurrency"] = ahead.into();
                let reading = snapshot(&settings).await;
                prop_assert!(reading.fault.is_none(), "{}: {:?}", style, reading.fault);
                prop_assert!(reading.rejects.is_empty(), "{}: {:?}", style, reading.rejects);
                prop_assert_eq!(&reading.rows(), &wanted, "{}", style);
                // From any checkpoint on the rest comes, and nothing else.
                let (cursor, before) = &reading.checkpoints[cut.index(reading.checkpoints.len())];
                let stored = serde_json::from_str(&serde_json::to_string(cursor).unwrap()).unwrap();
                let source = open(&settings).await.unwrap();
                let rest = read(&*source, Read::Snapshot, Some(stored)).await;
                prop_assert_eq!(&rest.rows()[..], &wanted[*before..], "{}", style);
            }
            Ok(())
        })?;
    }
}

fn records(count: usize) -> Vec<Value> {
    (1..=count)
        .map(|id| json!({"id": id, "name": format!("n{id}"), "updated_at": format!("2026-06-{id:02}T00:00:00Z")}))
        .collect()
}

#[tokio::test]
async fn drift_is_counted_and_what_does_not_fit_is_refused_with_its_reason() {
    let server = Simulator::of(
        &[
            json!({"id": 1, "name": "good", "colour": "blue", "guest": {"mail": "a@mail.example", "card": "4111"}}),
            json!({"id": 2, "total": "12.345", "open": "maybe", "colour": "red"}),
            json!({"id": "x", "name": "no id"}),
            json!({"name": "none", "passport": "P123"}),
            json!([1]),
            json!({"id": 9_223_372_036_854_775_808_u64}),
            json!({"id": 3, "day": "2026-02-30", "at": "2026-06-01T00:00:00", "weight": "1e999", "name": 5}),
        ],
        Options::default(),
    )
    .await
    .unwrap();
    let reading = snapshot(&settings(&server, "all", 1)).await;
    assert!(reading.fault.is_none(), "{:?}", reading.fault);
    assert_eq!(reading.ids(), [1, 2, 3]);
    let rows = reading.rows();
    assert_eq!(rows[1]["total"], Value::Null, "a value that does not fit is left unknown");
    assert_eq!(rows[2]["name"], "5");
    let refused: Vec<_> = reading.rejects.iter().map(|r| (r.kind, r.reason.as_str())).collect();
    assert_eq!(
        refused,
        [
            (
                RejectKind::Value,
                "`total` is no decimal number that its column can hold exactly; `open` is neither true nor false"
            ),
            (RejectKind::Row, "`id` is no whole number of 64 bits"),
            (RejectKind::Row, "`id` has no value"),
            (RejectKind::Row, "the record is no object"),
            (RejectKind::Row, "`id` is no whole number of 64 bits"),
            (
                RejectKind::Value,
                "`weight` is no number; `day` is no day in the column's format; `at` is no instant in the column's format"
            ),
        ]
    );
    // What no column reads is not kept in a reject either.
    assert!(!format!("{:?}", reading.rejects).contains("P123"));
    let notes: BTreeMap<_, _> = reading.notes.iter().map(|n| (n.subject.as_str(), n.count)).collect();
    assert_eq!(notes["stays.colour"], 2);
    assert_eq!(notes["stays.passport"], 1);
}

#[tokio::test]
async fn one_object_is_one_record_and_a_null_list_is_none() {
    let server = Simulator::of(&records(1), Options::default()).await.unwrap();
    assert_eq!(snapshot(&settings(&server, "one", 1)).await.ids(), [1]);
    server.misbehave(Wrong::Body(r#"{"data":{"items":null},"meta":{}}"#.into()), 0, 1);
    assert!(snapshot(&settings(&server, "cursor", 5)).await.ids().is_empty());
}

#[tokio::test]
async fn a_reject_keeps_what_was_sent_to_its_last_digit() {
    let server = Simulator::of(&records(1), Options::default()).await.unwrap();
    let items = r#"[5,null,{"id":99999999999999999999,"total":1.10,"passport":"P123"}]"#;
    server.misbehave(Wrong::Body(format!(r#"{{"data":{{"items":{items}}},"meta":{{}}}}"#).into()), 0, 1);
    let reading = snapshot(&settings(&server, "cursor", 5)).await;
    let refused: Vec<_> = reading.rejects.iter().map(|r| (r.key.as_str(), r.payload.clone())).collect();
    assert_eq!(
        refused,
        [
            ("", json!({"record": 5})),
            ("", json!({"record": null})),
            ("99999999999999999999", json!({"id": "99999999999999999999", "total": "1.10"})),
        ]
    );
}

#[tokio::test]
async fn unusable_answers_are_faults_that_name_the_trouble_and_repeat_nothing() {
    let server = Simulator::of(&records(30), Options::default()).await.unwrap();
    let body = |text: &str| Wrong::Body(text.to_owned().into());
    let deep =
        format!("{{\"data\":{{\"items\":[{{\"id\":1,\"guest\":{}1{}}}]}}}}", "[".repeat(100_000), "]".repeat(100_000));
    let cases = [
        (Wrong::Html, "a web page"),
        (Wrong::Half, "it ends amid"),
        (Wrong::Cut, "broke off"),
        (body(""), "is empty"),
        (body("{\"data\":{\"items\":[{\"id\":1,}]}}"), "a key is missing at byte"),
        (body("secret-word"), "not sound JSON"),
        (Wrong::Body(vec![b'[', 0xff, 0xfe, b']'].into()), "not UTF-8 at byte 1"),
        (body(&deep), "nested too deeply"),
        (body("{\"error\":\"secret-word\"}"), "has no `data.items`"),
        (body("{\"data\":{\"items\":7}}"), "neither a list nor an object"),
        (body("{\"data\":{\"items\":[]}} trailing"), "more behind its end"),
        (Wrong::Status(404), "does not exist"),
        (Wrong::Status(500), "failed (status 500)"),
    ];
    for (wrong, words) in cases {
        server.behave();
        // The first page comes well: what it brought is covered before the fault.
        server.misbehave(wrong.clone(), 1, 100);
        let reading = snapshot(&settings(&server, "cursor", 10)).await;
        let fault = reading.fault.unwrap_or_else(|| panic!("{wrong:?} went unnoticed"));
        assert_eq!(fault.blame, Blame::Remote, "{}", fault.chain());
        assert!(fault.chain().contains(words), "{wrong:?}: {}", fault.chain());
        assert!(fault.chain().len() < 250 && !fault.chain().contains("secret-word"), "{}", fault.chain());
        assert_eq!(reading.checkpoints.len(), 1, "{wrong:?}");
        assert_eq!(reading.batches.iter().map(RecordBatch::num_rows).sum::<usize>(), 10, "{wrong:?}");
    }
    // What passes is ridden out, a status of one's own choice too.
    server.behave();
    server.misbehave(Wrong::Status(503), 1, 1);
    server.misbehave(Wrong::Busy(0), 1, 1);
    server.misbehave(Wrong::Cut, 1, 1);
    server.misbehave(Wrong::Status(409), 0, 1);
    let mut settings = settings(&server, "cursor", 10);
    settings["limits"]["retry_statuses"] = json!([409]);
    settings["limits"]["attempts"] = 6.into();
    let reading = snapshot(&settings).await;
    assert!(reading.fault.is_none(), "{:?}", reading.fault);
    assert_eq!(reading.ids().len(), 30);
}

#[tokio::test]
async fn a_large_value_is_taken_and_a_larger_answer_refused() {
    let text = "ä".repeat(5 << 20);
    let server = Simulator::of(&[json!({"id": 1, "name": text})], Options::default()).await.unwrap();
    let mut settings = settings(&server, "all", 1);
    let reading = snapshot(&settings).await;
    assert_eq!(reading.rows()[0]["name"].as_str().map(str::len), Some(10 << 20));
    settings["limits"]["max_body_bytes"] = (1 << 20).into();
    let fault = snapshot(&settings).await.fault.unwrap();
    assert!(fault.chain().contains("longer than 1048576 bytes"), "{}", fault.chain());
}

#[tokio::test]
async fn the_next_page_is_on_the_same_host_and_leads_on() {
    let server = Simulator::of(&records(30), Options::default()).await.unwrap();
    for style in ["next", "link"] {
        server.behave();
        server.misbehave(Wrong::ForeignNext, 1, 1);
        let fault = snapshot(&settings(&server, style, 10)).await.fault.unwrap();
        assert!(fault.chain().contains("another host"), "{style}: {}", fault.chain());
    }
    for style in ["cursor", "next", "link"] {
        server.behave();
        server.forget();
        server.misbehave(Wrong::Loop, 1, usize::MAX);
        let fault = snapshot(&settings(&server, style, 10)).await.fault.unwrap();
        assert!(fault.chain().contains("have no end"), "{style}: {}", fault.chain());
        assert!(server.calls().len() < 6, "{style}: {} calls", server.calls().len());
    }
    // A server that does not know the parameter sends the first page for ever.
    server.behave();
    let mut settings = settings(&server, "page", 10);
    settings["streams"][0]["paginator"]["param"] = "seite".into();
    let fault = snapshot(&settings).await.fault.unwrap();
    assert!(fault.chain().contains("two pages are the same"), "{}", fault.chain());
}

/// A reference to a secret in a file of its own.
fn secret(dir: &std::path::Path, name: &str, value: &str) -> String {
    let path = dir.join(name);
    std::fs::write(&path, value).unwrap();
    format!("file:{}", path.display())
}

#[tokio::test]
async fn every_kind_of_credentials_lets_in_and_a_wrong_one_is_not_repeated() {
    let dir = tempfile::tempdir().unwrap();
    let good = secret(dir.path(), "good", "s3cr3t-w0rd");
    let bad = secret(dir.path(), "bad", "hunter2-wrong");
    let word = "s3cr3t-w0rd".to_owned();
    let cases = [
        (Login::Basic("me".to_owned(), word.clone()), json!({"kind": "basic", "user": "me"}), "password"),
        (Login::Bearer(word.clone()), json!({"kind": "bearer"}), "token"),
        (
            Login::Header("x-key".to_owned(), format!("Key {word}")),
            json!({"kind": "api_key", "header": "X-Key", "prefix": "Key "}),
            "key",
        ),
        (Login::Query("api_key".to_owned(), word.clone()), json!({"kind": "api_key", "query": "api_key"}), "key"),
    ];
    for (login, auth, field) in cases {
        let server = Simulator::of(&records(25), Options { login, ..Options::default() }).await.unwrap();
        for style in ["cursor", "next"] {
            let mut settings = settings(&server, style, 10);
            settings["auth"] = auth.clone();
            settings["auth"][field] = good.clone().into();
            let reading = snapshot(&settings).await;
            assert!(reading.fault.is_none(), "{auth}: {:?}", reading.fault);
            assert_eq!(reading.ids().len(), 25, "{auth}");
            settings["auth"][field] = bad.clone().into();
            let fault = snapshot(&settings).await.fault.unwrap();
            assert_eq!(fault.blame, Blame::User, "{auth}: {}", fault.chain());
            assert!(!format!("{fault:?}").contains("hunter2"), "{auth}: {fault:?}");
            // Nor is a secret in a cursor.
            assert!(!format!("{:?}", reading.checkpoints).contains("s3cr3t"), "{auth}");
        }
    }
}

#[tokio::test]
async fn tokens_are_kept_replaced_once_when_refused_and_outlive_the_process() {
    let dir = tempfile::tempdir().unwrap();
    let reference = |name: &str, value: &str| secret(dir.path(), name, value);
    let login = |refresh: Option<&str>, calls| Login::OAuth {
        client: "me".to_owned(),
        secret: "s3cr3t".to_owned(),
        refresh: refresh.map(str::to_owned),
        calls,
    };
    let auth = json!({
        "kind": "oauth2_client_credentials", "client_id": reference("id", "me"), "client_secret": reference("secret", "s3cr3t"),
    });
    let server = Simulator::of(&records(30), Options { login: login(None, 4), ..Options::default() }).await.unwrap();
    let mut wanted = settings(&server, "cursor", 3);
    wanted["auth"] = auth.clone();
    wanted["auth"]["token_url"] = format!("{}/oauth/token", server.base_url()).into();
    let reading = snapshot(&wanted).await;
    assert!(reading.fault.is_none(), "{:?}", reading.fault);
    assert_eq!(reading.ids().len(), 30);
    assert_eq!(server.tokens(), 3, "ten calls, four to a token");

    // A token that is refused at once is fetched anew once, not for ever.
    let server = Simulator::of(&records(3), Options { login: login(None, 0), ..Options::default() }).await.unwrap();
    wanted["base_url"] = server.base_url().into();
    wanted["auth"]["token_url"] = format!("{}/oauth/token", server.base_url()).into();
    let fault = snapshot(&wanted).await.fault.unwrap();
    assert_eq!((fault.blame, server.tokens()), (Blame::User, 2), "{}", fault.chain());

    // Refresh tokens are replaced at each use; the file keeps the newest for the next process.
    let server =
        Simulator::of(&records(30), Options { login: login(Some("first"), 4), ..Options::default() }).await.unwrap();
    let mut wanted = settings(&server, "cursor", 3);
    wanted["auth"] = json!({
        "kind": "oauth2_refresh_token", "token_url": format!("{}/oauth/token", server.base_url()),
        "client_id": reference("id", "me"), "client_secret": reference("secret", "s3cr3t"),
        "refresh_token": reference("refresh", "first"), "token_file": dir.path().join("kept"),
    });
    for _ in 0..2 {
        let reading = snapshot(&wanted).await;
        assert!(reading.fault.is_none(), "{:?}", reading.fault);
        assert_eq!(reading.ids().len(), 30);
    }
    use std::os::unix::fs::PermissionsExt;
    assert_eq!(std::fs::metadata(dir.path().join("kept")).unwrap().permissions().mode() & 0o777, 0o600);
}

#[tokio::test]
async fn every_mistake_in_the_settings_is_named_with_its_place() {
    let wrong = json!({
        "base_url": "https://me:hunter2@api.example",
        "auth": {"kind": "api_key", "key": "env:KEY"},
        "headers": {"bad header": "x"},
        "streams": [
            {"name": "units", "dataset": "units", "path": "a?x=1", "key": ["nowhere"], "version": "v", "concurrency": 99,
             "paginator": {"kind": "offset", "size": 0},
             "incremental": {"field": "a", "param": "b", "format": "rfc", "initial": "soon"},
             "columns": [{"name": "a", "type": "text", "format": "iso"}, {"name": "a", "type": "date", "format": "x"},
                         {"name": "updated_at", "type": "instant"}]},
            {"name": "units", "dataset": "units", "path": "b", "write": "history", "columns": []},
        ],
    });
    let fault = open(&wrong).await.err().unwrap();
    assert_eq!(fault.blame, Blame::User);
    let text = fault.chain();
    for part in [
        "`base_url` must not hold credentials",
        "`auth`: a key needs exactly one",
        "`headers.bad header`",
        "`streams[0].dataset`: propflow has a table",
        "`streams[0].path`",
        "`streams[0].key[0]`: there is no column `nowhere`",
        "`streams[0].version`",
        "`streams[0].concurrency`",
        "`streams[0].paginator.size`",
        "`streams[0].incremental.format`",
        "`streams[0].columns[0].format`",
        "`streams[0].columns[1].name`: `a` is there twice",
        "`streams[0].columns[1].format`",
        "`streams[0].columns[2].name`: `updated_at`",
        "`streams[1].name`: another stream",
        "`streams[1].key`",
        "`streams[1].columns`: there is none",
    ] {
        assert!(text.contains(part), "`{part}` is not in: {text}");
    }
    assert!(!text.contains("hunter2"), "{text}");
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("api.toml");
    std::fs::write(&file, "base_url = \"https://api.example\"\n[[streams]]\nname = \"a\"\npath = \"b\"\nkolumns = 1\ncolumns = \"infer\"\n").unwrap();
    let fault = open(&json!({"file": file})).await.err().unwrap();
    assert!(fault.chain().contains("line 5") && fault.chain().contains("kolumns"), "{}", fault.chain());
}

fn changing(server: &Simulator) -> Value {
    let mut wanted = settings(server, "page", 4);
    wanted["streams"][0]["incremental"] = json!({
        "field": "updated_at", "param": "updated_since", "until_param": "updated_before", "lag_secs": 86_400,
    });
    wanted
}

#[tokio::test]
async fn changes_begin_where_the_last_reading_ended_less_the_lag() {
    let server = Simulator::of(&records(20), Options::default()).await.unwrap();
    let source = open(&changing(&server)).await.unwrap();
    let first = read(&*source, Read::Changes { since: None }, None).await;
    assert_eq!(first.ids().len(), 20);
    let last = first.checkpoints.last().unwrap().0.clone();
    let second = read(&*source, Read::Changes { since: Some(last.clone()) }, None).await;
    assert_eq!(second.ids(), [19, 20], "the last day once more");
    // Nothing new: the place does not move back.
    let third = read(&*source, Read::Changes { since: Some(second.checkpoints.last().unwrap().0.clone()) }, None).await;
    assert_eq!(third.ids(), [19, 20]);
    // A reading that did not reach its end and is not resumed counts for nothing: its pages were in no order.
    let begun = first.checkpoints[1].0.clone();
    let again = read(&*source, Read::Changes { since: Some(begun.clone()) }, None).await;
    assert_eq!(again.ids().len(), 20);
    // Resumed, it goes on.
    let on = read(&*source, Read::Changes { since: Some(begun.clone()) }, Some(begun)).await;
    assert_eq!(on.ids().len(), 12);
    let day = |d: u32| chrono::NaiveDate::from_ymd_opt(2026, 6, d).unwrap().and_time(chrono::NaiveTime::MIN).and_utc();
    let past = read(&*source, Read::Backfill { from: day(3), until: day(6) }, None).await;
    assert_eq!(past.ids(), [3, 4, 5]);
}

#[tokio::test]
async fn inferred_columns_are_typed_once_and_kept_in_the_cursor() {
    let server = Simulator::of(&records(10), Options::default()).await.unwrap();
    let mut wanted = settings(&server, "cursor", 5);
    wanted["streams"][0]["columns"] = "infer".into();
    let source = open(&wanted).await.unwrap();
    let first = read(&*source, Read::Snapshot, None).await;
    assert!(first.fault.is_none(), "{:?}", first.fault);
    assert_eq!(first.rows()[0], json!({"id": 1, "name": "n1", "source_updated_at": 1_780_272_000_000_000_i64}));
    // Later the list looks different: the columns stay, and what does not fit is refused.
    server.replace(&[json!({"id": 1, "name": "n1", "size": 5, "updated_at": 7})]);
    let source = open(&wanted).await.unwrap();
    let known = first.checkpoints[0].0.clone();
    let stream = source.discover("stays", Some(&known)).await.unwrap().unwrap();
    assert_eq!(stream.datasets[0].columns.len(), 3);
    let request = Request { stream: "stays".to_owned(), read: Read::Snapshot, resume: None, only: Vec::new() };
    let events: Vec<_> = guarded(&stream, source.read(request)).collect().await;
    assert!(events.iter().any(|e| matches!(e, Ok(Event::Reject(r)) if r.reason.contains("source_updated_at"))));
    assert!(events.iter().any(|e| matches!(e, Ok(Event::Note(n)) if n.subject == "stays.size")));
}

#[tokio::test]
async fn two_processes_and_a_backfill_stay_inside_one_quota() {
    let db = TestDb::new().await;
    let rate = Rate { per_sec: 20.0, burst: 5.0 };
    let options = Options { rate: Some(rate), page_size: 10, ..Options::default() };
    let server = Simulator::start(100, 1, options).await.unwrap();
    let mut wanted = changing(&server);
    wanted["streams"][0]["paginator"] = paginator("page_counted", 10);
    wanted["limits"] = json!({"calls_per_sec": 20, "burst": 5, "attempts": 1});
    let began = std::time::Instant::now();
    let from = chrono::DateTime::UNIX_EPOCH;
    let reads =
        [Read::Snapshot, Read::Snapshot, Read::Backfill { from, until: from + chrono::TimeDelta::days(36_500) }];
    let readings = reads.map(|what| {
        let (url, wanted) = (db.url.clone(), wanted.clone());
        async move {
            // A pool of its own stands for a process of its own.
            let pool = catalog::store::connect(&url, 2).await.unwrap();
            let env = Env { quota: Arc::new(PgQuota::new(pool.clone())), ..Env::default() };
            let source = connectors::find("rest").unwrap().open(wanted, env).await.unwrap();
            let reading = read(&*source, what, None).await;
            pool.close().await;
            reading
        }
    });
    for reading in futures::future::join_all(readings).await {
        assert!(reading.fault.is_none(), "{:?}", reading.fault);
        assert_eq!(reading.batches.iter().map(RecordBatch::num_rows).sum::<usize>(), 100);
    }
    assert_eq!(server.refused(), 0);
    // 30 pages, and those asked for ahead of the first answer.
    assert!(began.elapsed() < Duration::from_secs(5), "some 30 calls at 20 a second took {:?}", began.elapsed());
}

async fn copied(file: &std::path::Path, dest: &str, fresh: bool) -> Result<Summary> {
    let app = App::new(None, None, Arc::new(Silent));
    let what = Copy {
        source: format!("rest:{}", file.display()),
        dest: dest.to_owned(),
        only: Vec::new(),
        serve: false,
        fresh,
        currency: "USD".to_owned(),
        region: "US".to_owned(),
    };
    copy(&app, what, &CancellationToken::new()).await
}

fn as_toml(settings: &Value) -> String {
    fn bare(value: &Value) -> Value {
        match value {
            Value::Object(map) => map.iter().filter(|(_, v)| !v.is_null()).map(|(k, v)| (k.clone(), bare(v))).collect(),
            other => other.clone(),
        }
    }
    toml_of(&bare(settings))
}

/// JSON as an inline TOML table's inside, one key a line.
fn toml_of(value: &Value) -> String {
    fn inline(value: &Value) -> String {
        match value {
            Value::Object(map) => {
                let parts: Vec<_> = map.iter().map(|(k, v)| format!("{k} = {}", inline(v))).collect();
                format!("{{ {} }}", parts.join(", "))
            }
            Value::Array(list) => format!("[{}]", list.iter().map(inline).collect::<Vec<_>>().join(", ")),
            other => other.to_string(),
        }
    }
    value.as_object().unwrap().iter().map(|(k, v)| format!("{k} = {}\n", inline(v))).collect()
}

async fn stored(db: &TestDb) -> Vec<(i64, Option<String>)> {
    sqlx::query_as("select id, name from core.stays where deleted_at is null order by id")
        .fetch_all(&db.pool)
        .await
        .unwrap()
}

#[tokio::test]
async fn a_copy_into_postgres_is_keyed_and_goes_on_from_its_cursor() {
    let db = TestDb::new().await;
    let server = Simulator::of(&records(20), Options::default()).await.unwrap();
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("stays.toml");
    std::fs::write(&file, as_toml(&changing(&server))).unwrap();
    let summary = copied(&file, &db.url, false).await.unwrap();
    // Five full pages, and the empty one that ends the list.
    assert_eq!((summary.rows["stays"].inserted, summary.slices), (20, 6));
    // Known, changed and new rows of one page; one key twice on it, the last one counts.
    let mut later = records(20);
    later[18]["name"] = "changed".into();
    later.push(json!({"id": 21, "name": "lost", "updated_at": "2026-06-21T00:00:00Z"}));
    later.push(json!({"id": 21, "name": "new", "updated_at": "2026-06-22T00:00:00Z"}));
    server.replace(&later);
    server.forget();
    let summary = copied(&file, &db.url, false).await.unwrap();
    assert_eq!(summary.rows["stays"].received, 4);
    assert!(
        server.calls().iter().all(|c| c.query.contains("updated_since=2026-06-19T00%3A00%3A00Z")),
        "{:?}",
        server.calls()
    );
    let rows = stored(&db).await;
    assert_eq!((rows.len(), rows[18].1.as_deref(), rows[20].1.as_deref()), (21, Some("changed"), Some("new")));
    // All again: nothing is doubled. A row that is gone from the list stays, for this is no snapshot.
    server.replace(&later[1..]);
    copied(&file, &db.url, true).await.unwrap();
    assert_eq!(stored(&db).await, rows);
    let whole: bool = sqlx::query_scalar("select whole from core.propflow_copies").fetch_one(&db.pool).await.unwrap();
    assert!(whole);
    // A table that somebody dropped is filled anew, not with the changes alone.
    sqlx::query("drop table core.stays").execute(&db.pool).await.unwrap();
    copied(&file, &db.url, false).await.unwrap();
    assert_eq!(stored(&db).await, rows[1..]);
}

#[tokio::test]
async fn a_list_in_one_piece_loses_what_left_it() {
    let db = TestDb::new().await;
    let server = Simulator::of(&records(9), Options::default()).await.unwrap();
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("stays.toml");
    let mut wanted = settings(&server, "cursor", 4);
    wanted["streams"][0]["write"] = "snapshot".into();
    std::fs::write(&file, as_toml(&wanted)).unwrap();
    copied(&file, &db.url, false).await.unwrap();
    server.replace(&records(9)[2..]);
    let summary = copied(&file, &db.url, false).await.unwrap();
    assert_eq!(summary.rows["stays"].deleted, 2);
    assert_eq!(stored(&db).await.len(), 7);
}

#[tokio::test]
async fn the_example_of_the_guide_does_what_it_says() {
    let guide = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/rest.md")).unwrap();
    let example = guide.split("```toml\n").nth(1).unwrap().split("```").next().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let options = Options { login: Login::Bearer("s3cr3t".to_owned()), ..Options::default() };
    let server = Simulator::start(250, 1, options).await.unwrap();
    let text = example
        .replace("https://api.channel.example", &server.base_url())
        .replace("env:CHANNEL_TOKEN", &secret(dir.path(), "token", "s3cr3t"))
        .replace("calls_per_sec = 5", "calls_per_sec = 5000");
    let (file, lake) = (dir.path().join("bookings.toml"), dir.path().join("lake").display().to_string());
    std::fs::write(&file, text).unwrap();
    let summary = copied(&file, &format!("parquet:{lake}"), false).await.unwrap();
    assert_eq!((summary.rows["rest_bookings"].received, summary.rejected_rows, summary.rejected_values), (250, 0, 0));
    assert_eq!(server.calls().len(), 3);
    assert!(
        server.calls()[0].query.contains("include=guest&include=fees&status=all&size=100"),
        "{:?}",
        server.calls()[0]
    );
    let context = transforms::session().unwrap();
    pipelines::lake::register(&context, &lake).await.unwrap();
    let sql = "select count(*) as n, count(distinct booking_id) as ids, count(total) as totals, count(changed_at) as changes from rest_bookings";
    let batches = context.sql(sql).await.unwrap().collect().await.unwrap();
    assert_eq!(object(&batches[0], 0), json!({"n": 250, "ids": 250, "totals": 250, "changes": 250}));
}

/// The rows of a lake's stream, by SQL.
async fn in_lake(lake: &str) -> Vec<i64> {
    let context = transforms::session().unwrap();
    pipelines::lake::register(&context, lake).await.unwrap();
    let batches = context.sql("select id from stays order by id").await.unwrap().collect().await.unwrap();
    batches.iter().flat_map(|b| b.column(0).as_primitive::<Int64Type>().values().to_vec()).collect()
}

#[tokio::test]
async fn a_copy_into_a_lake_goes_on_with_the_page_that_failed() {
    let server = Simulator::of(&records(20), Options::default()).await.unwrap();
    let dir = tempfile::tempdir().unwrap();
    let (file, lake) = (dir.path().join("stays.toml"), dir.path().join("lake").display().to_string());
    std::fs::write(&file, as_toml(&changing(&server))).unwrap();
    let dest = format!("parquet:{lake}");
    server.misbehave(Wrong::Html, 3, 1);
    copied(&file, &dest, false).await.unwrap_err();
    assert_eq!(in_lake(&lake).await, (1..=12).collect::<Vec<_>>(), "what came can be read");
    server.forget();
    server.behave();
    let summary = copied(&file, &dest, false).await.unwrap();
    assert_eq!(summary.rows["stays"].received, 8);
    assert!(server.calls()[0].query.contains("page=4"), "{:?}", server.calls());
    assert_eq!(in_lake(&lake).await, (1..=20).collect::<Vec<_>>());
    // The next one reads changes only, and a row that comes again is there once.
    let summary = copied(&file, &dest, false).await.unwrap();
    assert_eq!(summary.rows["stays"].received, 2);
    assert_eq!(in_lake(&lake).await, (1..=20).collect::<Vec<_>>());
}
