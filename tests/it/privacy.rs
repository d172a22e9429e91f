//! One person taken out of everything: tables, deliveries, lake; and a revoked connection without its guests.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use catalog::Dataset;
use catalog::store::connections;
use kit::house::House;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use pipelines::contacts::inbound::{Became, Told};
use pipelines::contacts::service::{Interaction, NewContact, OptOut};
use pipelines::contacts::{Contacts, Patch, Source};
use pipelines::inbox::work;
use pipelines::privacy::places::unnamed;
use pipelines::privacy::purge::{purge, revoke};
use pipelines::privacy::shape::{SHAPES, Shape};
use pipelines::privacy::{Erasure, Person, erase, export};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};
use sqlx::AssertSqlSafe;
use uuid::Uuid;

/// Words that only the person's data holds, in lower case.
const TRACES: [&str; 6] =
    ["quintessa", "marlowbeck", "qm@home.example", "qm.work@office.example", "5125550147", "512) 555-0147"];

struct Town {
    house: House,
    contacts: Contacts,
    lake: String,
    /// What the person's rows are known by without naming them.
    ids: Vec<String>,
}

fn stay(id: &str, guest: (&str, &str, &str), day: u32, month: u32) -> String {
    let (name, email, phone) = guest;
    json!({
        "booking_id": id, "platform": "direct", "property_id": format!("P-{}", day % 3), "guest_name": name,
        "guest_email": email, "guest_phone": phone, "check_in": format!("2026-{month:02}-{day:02}"),
        "check_out": format!("2026-{month:02}-{:02}", day + 2), "guest_count": 2, "booking_status": "confirmed",
        "total_amount": "612.50", "currency": "USD", "special_requests": format!("a cot for {name}"),
    })
    .to_string()
}

const HER: (&str, &str, &str) = ("Quintessa Marlowbeck", "QM@home.example", "+1 512 555 0147");

impl Town {
    async fn new() -> Self {
        let house = House::new().await;
        let dir = house.dir.path();
        let lake = dir.join("lake").display().to_string();
        let spec = dir.join("specs").join("intake.toml");
        let text = std::fs::read_to_string(&spec).unwrap() + "[[sinks]]\nsink = \"postgres\"\n";
        std::fs::write(spec, text).unwrap();
        let contacts = Contacts::new(house.pool().clone(), std::sync::Arc::new(house.clock.clone()));
        sqlx::raw_sql(
            "insert into sync.listing_map (connection, listing_id, property_id) \
             values ('intake', 'P-0', 'P-0'), ('intake', 'P-1', 'P-1'), ('intake', 'P-2', 'P-2')",
        )
        .execute(house.pool())
        .await
        .unwrap();
        Self { house, contacts, lake, ids: Vec::new() }
    }

    async fn send(&self, id: &str, body: String) {
        let answer = self.house.delivery("/api/webhooks/booking-created", id, body).send().await.unwrap();
        assert!(answer.status().is_success(), "{}", answer.text().await.unwrap());
    }

    async fn load(&self) {
        self.house.work_off().await;
        let states = self.house.states().await;
        assert!(states.iter().all(|(_, state, _)| state == "processed"), "{states:?}");
        let plans = self.house.app.sound_plans().await.unwrap();
        self.house.app.settle(&plans, &self.house.database, "manual").await.unwrap();
    }

    async fn sql(&self, sql: &str) {
        sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(self.house.pool()).await.unwrap();
    }

    async fn one(&self, sql: &str) -> Value {
        let sql = format!("select to_jsonb(x) from ({sql}) x");
        sqlx::query_scalar(AssertSqlSafe(sql)).fetch_one(self.house.pool()).await.unwrap()
    }

    fn person(first: &str, last: &str, email: &str, phone: Option<&str>) -> NewContact {
        let own = |t: &str| Some(t.to_owned());
        let patch = Patch {
            first_name: own(first),
            last_name: own(last),
            email: own(email),
            phone: phone.and_then(own),
            notes: Some(format!("{first} likes the pool")),
            ..Patch::default()
        };
        let interaction = Some(Interaction {
            kind: "chat".to_owned(),
            direction: "in".to_owned(),
            at: chrono::DateTime::from_timestamp(1_780_000_000, 0).unwrap(),
            message: Some(format!("hello, {first} {last} here")),
            conversation_id: None,
            external_id: None,
        });
        NewContact { property_id: "P-1".to_owned(), patch, interaction }
    }

    async fn meet(&self, person: NewContact) -> Uuid {
        self.contacts.create(&person, Source::Chatbot, "bot").await.unwrap().contact_id
    }

    /// Her, everywhere, among others.
    async fn fill(&mut self, seed: u64) {
        let mut dice = ChaCha8Rng::seed_from_u64(seed);
        let mut bodies = vec![
            ("h1".to_owned(), stay("her-1", HER, 3, 7)),
            ("h2".to_owned(), stay("her-2", ("Quintessa Marlowbeck", "qm.work@office.example", HER.2), 12, 8)),
        ];
        for n in 0..dice.random_range(4..9) {
            let (name, email, phone) =
                (format!("Other Guest{n}"), format!("o{n}@home.example"), format!("+1 512 555 02{n:02}"));
            let body = stay(
                &format!("other-{n}"),
                (&name, &email, &phone),
                dice.random_range(1..26),
                dice.random_range(6..10),
            );
            bodies.insert(dice.random_range(0..=bodies.len()), (format!("d{n}"), body));
        }
        // Somebody who names her, and a row that was refused.
        bodies.push((
            "m".to_owned(),
            stay("other-m", ("Mark Example", "mark@home.example", "+1 512 555 0301"), 5, 9)
                .replace("a cot", "a room beside qm@home.example, and a cot"),
        ));
        bodies.push(("bad".to_owned(), stay("her-3", HER, 20, 7).replace("2026-07-22", "2026-07-01")));
        for (id, body) in &bodies {
            self.send(id, body.clone()).await;
        }
        self.load().await;
        let her = self.meet(Self::person("Quintessa", "Marlowbeck", "qm@home.example", Some(HER.2))).await;
        let other = self.meet(Self::person("Otto", "Other", "otto@home.example", Some("+1 512 555 0400"))).await;
        self.contacts.opt_out(her, OptOut::Email, Source::Chatbot, "bot").await.unwrap();
        let booking =
            self.one("select booking_id, guest_id from core.bookings where source_booking_id = 'her-1'").await;
        let (booking, guest) = (booking["booking_id"].as_str().unwrap(), booking["guest_id"].as_str().unwrap());
        let task = Uuid::now_v7();
        self.ids = vec![her.to_string(), booking.to_owned(), guest.to_owned(), task.to_string(), "her-".to_owned()];
        self.sql(&format!(
            "insert into sync.contact_sync (id, user_id, property_id, resman_contact_id, resman_person_id, sync_status, created_at, updated_at) \
               values (gen_random_uuid(), '{her}', 'P-1', 'lead-77', 'person-77', 'success', now(), now()); \
             insert into sync.contact_enrichment_log values (gen_random_uuid(), '{her}', 'preferences', '{{\"said\": \"Quintessa\"}}', 'chatbot', now()); \
             insert into sync.conflicts (id, contact_id, property_id, field, domiq_value, state, created_at) \
               values (gen_random_uuid(), '{her}', 'P-1', 'email', 'qm@home.example', 'open', now()); \
             insert into sync.merges (id, property_id, primary_id, secondary_id, confidence, state, before, created_at) \
               values (gen_random_uuid(), 'P-1', '{other}', '{her}', 0.6, 'pending', '{{\"a\": \"Marlowbeck\"}}', now()); \
             insert into sync.interactions (id, contact_id, kind, direction, message, at, created_at) \
               values (gen_random_uuid(), '{other}', 'chat', 'in', 'ask QM@home.example or (512) 555-0147', now(), now()); \
             insert into sync.service_tasks (task_id, booking_id, rule_id, property_id, service_type, due_at, tell_until, note, created_at, updated_at) \
               values ('{task}', '{booking}', 'request', 'P-0', 'request', now(), now(), 'flowers for Quintessa Marlowbeck', now(), now()); \
             insert into sync.outbox (courier, connection, lane, kind, payload, dedupe_key, run_after, created_at, updated_at) values \
               ('email', 'email', '{booking}/guest', 'notice', '{{\"to\": \"qm@home.example\", \"text\": \"Dear Quintessa\"}}', 'service/{task}/guest/1', now(), now(), now()), \
               ('email', 'email', '{booking}/staff', 'notice', '{{\"to\": \"sam@staff.example\", \"text\": \"for Quintessa Marlowbeck\"}}', 'service/{task}/staff/1', now(), now(), now()); \
             insert into sync.notifications (dedupe_key, audience, recipient, subject, body, created_at) values \
               ('service/{task}/guest/1', 'guest', 'qm@home.example', 'hello', 'Dear Quintessa', now()), \
               ('service/{task}/staff/1', 'staff', null, 'flowers', 'for Quintessa Marlowbeck', now()); \
             insert into ops.requests (caller, key, fingerprint, status, body, created_at) \
               values (gen_random_uuid(), 'k', 'x', 200, convert_to('{{\"email\": \"qm@home.example\"}}', 'UTF8'), now()); \
             create table core.own_stream (id text primary key, mail text, total bigint); \
             insert into core.own_stream values ('1', 'Qm@Home.example', 5), ('2', 'o1@home.example', 6);"
        ))
        .await;
    }

    /// Every row of every table as text, but for the books of time.
    async fn rows(&self) -> BTreeMap<String, Vec<String>> {
        let tables: Vec<String> = sqlx::query_scalar(
            "select format('%I.%I', table_schema, table_name) from information_schema.tables \
             where table_type = 'BASE TABLE' and table_schema not in ('pg_catalog', 'information_schema')",
        )
        .fetch_all(self.house.pool())
        .await
        .unwrap();
        let mut all = BTreeMap::new();
        for table in tables {
            // Bytes as they read: bodies are text.
            let sql = format!(
                "select (to_jsonb(t) - 'updated_at' - 'body')::text || \
                 coalesce(encode(decode(substr(to_jsonb(t) ->> 'body', 3), 'hex'), 'escape'), '') from {table} t order by 1"
            );
            let sql = if ["ops.deliveries", "ops.requests"].contains(&table.as_str()) {
                sql
            } else {
                format!("select (to_jsonb(t) - 'updated_at')::text from {table} t order by 1")
            };
            let rows: Vec<String> = sqlx::query_scalar(AssertSqlSafe(sql)).fetch_all(self.house.pool()).await.unwrap();
            all.insert(table, rows);
        }
        for (path, dataset) in files(Path::new(&self.lake)) {
            all.entry(format!("lake/{dataset}")).or_default().extend(lake_rows(&path));
        }
        all
    }

    /// Where anything of her stands.
    async fn traces(&self) -> Vec<String> {
        let rows = self.rows().await;
        let found = rows.iter().flat_map(|(place, rows)| rows.iter().map(move |row| (place, row.to_lowercase())));
        let found = found.filter(|(_, row)| TRACES.iter().any(|t| row.contains(t)));
        found.map(|(place, row)| format!("{place}: {row}")).collect()
    }

    async fn erase(&self, dry_run: bool) -> catalog::Result<Erasure> {
        let her = Person::asked(&["qm@HOME.example".to_owned()], &[], "US").unwrap();
        erase(self.house.pool(), her, std::slice::from_ref(&self.lake), &self.house.clock, "test", dry_run).await
    }
}

fn files(folder: &Path) -> Vec<(std::path::PathBuf, String)> {
    let mut found = Vec::new();
    for top in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let mut folders = vec![top.path()];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
                match entry.path() {
                    path if path.is_dir() => folders.push(path),
                    path if path.extension().is_some_and(|e| e == "parquet") => {
                        found.push((path, top.file_name().into_string().unwrap()));
                    }
                    _ => {}
                }
            }
        }
    }
    found.sort();
    found
}

fn lake_rows(path: &Path) -> Vec<String> {
    let file = std::fs::File::open(path).unwrap();
    let mut rows = Vec::new();
    for batch in ParquetRecordBatchReaderBuilder::try_new(file).unwrap().build().unwrap() {
        let mut out = Vec::new();
        let mut writer = arrow::json::LineDelimitedWriter::new(&mut out);
        writer.write(&batch.unwrap()).unwrap();
        writer.finish().unwrap();
        rows.extend(String::from_utf8(out).unwrap().lines().map(str::to_owned));
    }
    rows
}

/// Books that say what was done and when, not about whom.
const BOOKS: [&str; 8] = [
    "ops.digests",
    "ops.unsettled",
    "ops.unplanned",
    "ops.erased",
    "ops.erasures",
    "ops.settled",
    "sync.audit_log",
    "sync.suppressions",
];

#[tokio::test]
async fn nothing_is_left_of_an_erased_person_and_all_of_the_others() {
    for seed in [1, 2] {
        let mut town = Town::new().await;
        town.fill(seed).await;
        let before = town.rows().await;
        assert!(town.traces().await.len() > 25, "she is not everywhere");
        let planned = town.erase(true).await.unwrap().found;
        assert_eq!(town.rows().await, before, "looking changes nothing");
        // Killed at any moment, and begun again; then two at once.
        for millis in [1, 5, 15, 40, 90] {
            let _ = tokio::time::timeout(Duration::from_millis(millis), town.erase(false)).await;
        }
        let (one, two) = tokio::join!(town.erase(false), town.erase(false));
        let (one, two) = (one.unwrap(), two.unwrap());
        assert!(one.found.is_empty() || two.found.is_empty(), "one of them has nothing left to do");
        assert!(one.before.is_some() || two.before.is_some());
        assert_eq!(town.traces().await, Vec::<String>::new(), "seed {seed}");
        let after = town.rows().await;
        for (place, rows) in &before {
            let others = rows.iter().filter(|row| {
                let lower = row.to_lowercase();
                !TRACES.iter().any(|t| lower.contains(t)) && !town.ids.iter().any(|id| row.contains(id.as_str()))
            });
            if !BOOKS.contains(&place.as_str()) {
                for row in others {
                    assert!(after.get(place).is_some_and(|rows| rows.contains(row)), "{place} has lost {row}");
                }
            }
        }
        let mark = after["core.source_bookings"].iter().find(|r| r.contains("\"other-m\"")).unwrap();
        assert!(mark.contains("a room beside [erased], and a cot for Mark Example"), "{mark}");
        for place in [
            "core.bookings",
            "core.guests",
            "core.source_bookings",
            "sync.contacts",
            "ops.deliveries",
            "lake/bookings",
            "ops.rejects",
            "core.own_stream",
            "sync.outbox",
            "ops.requests",
            "sync.interactions",
        ] {
            assert!(planned.contains_key(place), "{place} was not found: {:?}", planned.keys());
        }
        // What she paid stays, and so does the night.
        let kept = town
            .one("select total_amount::text, guest_name, occupies from core.bookings where source_booking_id = 'her-1'")
            .await;
        assert_eq!(kept, json!({ "total_amount": "612.50", "guest_name": null, "occupies": true }));
    }
}

#[tokio::test]
async fn who_was_erased_stays_out_and_is_not_written_to() {
    let mut town = Town::new().await;
    town.fill(3).await;
    let done = town.erase(false).await.unwrap();
    assert!(!done.found.is_empty());
    // The vendors bring her back.
    town.send("again-1", stay("her-1", HER, 3, 7)).await;
    town.send("again-9", stay("her-9", HER, 15, 9)).await;
    town.send("again-bad", stay("her-10", HER, 20, 7).replace("2026-07-22", "2026-07-01")).await;
    town.load().await;
    let traces = town.traces().await;
    let raw = |t: &&String| t.starts_with("ops.deliveries");
    assert_eq!(traces.iter().filter(|t| !raw(t)).collect::<Vec<_>>(), Vec::<&String>::new());
    assert_eq!(traces.len(), 3, "what came raw stays until its retention ends");
    let booked = town
        .one("select count(*) as n from core.calendar_days c join core.bookings b on c.booking_ids ? b.booking_id where b.source_booking_id = 'her-9'")
        .await;
    assert_eq!(booked["n"], 2, "her nights are taken");
    let settled = town.one("select revision from core.bookings where source_booking_id = 'her-1'").await;
    let told = Told {
        prospect_id: "lead-77".to_owned(),
        person_id: None,
        property_id: "P-1".to_owned(),
        first_name: Some("Quintessa".to_owned()),
        last_name: Some("Marlowbeck".to_owned()),
        ..Told::default()
    };
    assert_eq!(town.contacts.told(&told, "poll").await.unwrap(), (None, Became::Nothing));
    let told = Told { prospect_id: "lead-78".to_owned(), email: Some("Qm@home.example".to_owned()), ..told };
    assert_eq!(town.contacts.told(&told, "poll").await.unwrap(), (None, Became::Nothing));
    // She comes by herself: she is known anew, and what she did not want she does not get.
    let id = town.meet(Town::person("Quintessa", "Marlowbeck", "qm@home.example", Some(HER.2))).await;
    let contact = town.contacts.get(id).await.unwrap();
    assert!(contact.email_opt_out && !contact.text_opt_out);
    // Settling goes on without finding a change in her bookings each time.
    town.send("o", stay("other-99", ("Nina Example", "nina@home.example", "+1 512 555 0999"), 6, 9)).await;
    town.load().await;
    assert_eq!(town.one("select revision from core.bookings where source_booking_id = 'her-1'").await, settled);
}

#[tokio::test]
async fn an_export_holds_every_place_and_nobody_else() {
    let mut town = Town::new().await;
    town.fill(4).await;
    let her = || Person::asked(&["qm@home.example".to_owned()], &[], "US").unwrap();
    let found = export(&town.house.database, her(), std::slice::from_ref(&town.lake)).await.unwrap();
    for place in [
        "core.bookings",
        "core.guests",
        "sync.contacts",
        "sync.interactions",
        "ops.deliveries",
        "ops.rejects",
        "lake/guests",
    ] {
        assert!(found.contains_key(place), "{place}: {:?}", found.keys());
    }
    let text = serde_json::to_string(&found).unwrap();
    assert!(!text.contains("o1@home.example") && !text.contains("otto@home.example"));
    assert_eq!(format!("{:?}", her()), "Person(0 contacts)", "a person is not printed");
    let nobody = Person::asked(&["nobody@home.example".to_owned()], &[], "US").unwrap();
    let fault = export(&town.house.database, nobody, &[]).await.unwrap_err();
    assert!(fault.chain().contains("nobody with this address") && !fault.chain().contains('@'), "{}", fault.chain());
    assert!(Person::asked(&["no address".to_owned()], &[], "US").is_err());
}

#[tokio::test]
async fn every_place_has_a_rule() {
    let town = Town::new().await;
    assert_eq!(unnamed(town.house.pool()).await.unwrap(), Vec::<String>::new(), "add them to `privacy/places.rs`");
    town.sql("create table sync.new_things (id bigint, remark text)").await;
    assert_eq!(unnamed(town.house.pool()).await.unwrap(), ["sync.new_things.remark"]);
    for dataset in catalog::datasets::stored().iter().filter(|d| d.columns.iter().any(|c| c.sensitive)) {
        let shape = SHAPES.iter().find(|s| s.dataset == dataset.name);
        assert!(shape.is_some_and(Shape::can_be_found), "nobody's rows can be found in `{}`", dataset.name);
    }
    let bare = Dataset::new("remarks", "x").columns([catalog::dataset::text("remark", "x").sensitive()]);
    assert!(!Shape::of(&bare).unwrap().can_be_found());
}

#[tokio::test]
async fn a_revoked_connection_loses_its_guests_and_no_night() {
    let mut town = Town::new().await;
    town.fill(5).await;
    let pool = town.house.pool();
    let nights = "select jsonb_agg(jsonb_build_array(property_id, day, state) order by 1) as n from core.calendar_days";
    let before = town.one(nights).await;
    let lakes = std::slice::from_ref(&town.lake);
    let clock = &town.house.clock;
    let fault = purge(pool, "intake", "intake", lakes, clock, "test").await.unwrap_err();
    assert!(fault.chain().contains("is in use"), "{}", fault.chain());
    let account = catalog::http::account("intake", &"client".into());
    let other = catalog::token::key("intake", "elsewhere");
    for key in [&account, &catalog::token::key("intake", "intake"), &other, &catalog::token::grant_key(&other)] {
        sqlx::query("insert into ops.tokens (key, token) values ($1, 't')").bind(key).execute(pool).await.unwrap();
    }
    assert!(revoke(pool, "intake", "intake", "test", "told to").await.unwrap());
    assert_eq!(connections::unpurged(pool).await.unwrap().len(), 1);
    // The sweep does it, however often it is called.
    work::purge_revoked(&town.house.app, pool).await.unwrap();
    assert!(connections::unpurged(pool).await.unwrap().is_empty());
    assert_eq!(purge(pool, "intake", "intake", lakes, clock, "test").await.unwrap(), 0);
    let plans = town.house.app.sound_plans().await.unwrap();
    town.house.app.settle(&plans, &town.house.database, "manual").await.unwrap();
    assert_eq!(town.one(nights).await, before);
    let rows = town.rows().await;
    for place in rows.keys().filter(|p| p.starts_with("core.") || p.starts_with("lake/") || p.starts_with("ops.")) {
        for row in rows[place].iter().filter(|_| place != "core.own_stream" && place != "ops.requests") {
            assert!(
                !row.contains("home.example") && !row.contains("Guest1") && !row.contains("+1512"),
                "{place}: {row}"
            );
        }
    }
    let kept: Vec<String> = sqlx::query_scalar("select key from ops.tokens where token is not null order by key")
        .fetch_all(pool)
        .await
        .unwrap();
    assert_eq!(kept, [other.clone(), catalog::token::grant_key(&other)], "what another connection was authorised with");
}

#[tokio::test]
async fn a_guest_has_a_history_of_stays_and_services() {
    let mut town = Town::new().await;
    town.fill(6).await;
    let her = town
        .one("select bookings, stays, nights, revenue, services, service_history, next_stay from serving.guests where name = 'Quintessa Marlowbeck'")
        .await;
    assert_eq!(her["bookings"], 2);
    assert_eq!(her["stays"], 2);
    assert_eq!(her["nights"], 4);
    assert_eq!(her["revenue"]["USD"].as_f64(), Some(1225.0));
    assert_eq!(her["next_stay"], "2026-07-03");
    assert_eq!(her["services"], 0, "it is planned, not due");
    assert!(her["service_history"].as_array().unwrap().iter().any(|s| s["service_type"] == "request"));
}
