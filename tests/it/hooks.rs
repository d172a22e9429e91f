//! Vendors' deliveries through the whole program: what is refused, and what becomes of what was told and then taken back.

#![expect(clippy::unwrap_used, reason = "the functions below are parts of tests")]

use std::collections::BTreeMap;
use std::path::Path;

use catalog::quota::LocalQuota;
use catalog::store::runs::Status;
use catalog::{Clock, SecretRef};
use chrono::{Days, TimeDelta};
use connectors::webhook::sign;
use fixtures::desk::{Misbehaviour, Rule};
use fixtures::stays::{Changed, Guest, Kind, Manager, Platform, Shape, Shared, Stays};
use fixtures::{calendars, guesty, hostaway, ownerrez};
use kit::house::{House, answer};
use kit::rig;
use kit::vendors::secret;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use pipelines::app::Asked;
use pipelines::inbox::work;
use pipelines::jobs::Outcome;
use pipelines::run::{Summary, run};
use reqwest::{Method, RequestBuilder, StatusCode};
use serde_json::{Value, json};
use sqlx::AssertSqlSafe;

const SIGNING: &str = "whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIz";
const MANAGERS: [(Manager, &str); 3] =
    [(Manager::Guesty, "guesty"), (Manager::OwnerRez, "ownerrez"), (Manager::Hostaway, "hostaway")];

/// One world behind every vendor that sends deliveries, and a house that takes and pulls them.
struct Coast {
    house: House,
    stays: Shared,
    guesty: guesty::Simulator,
    ownerrez: ownerrez::Simulator,
    hostaway: hostaway::Simulator,
    site: calendars::Simulator,
    lake: String,
}

impl Coast {
    async fn new(seed: u64) -> Self {
        let house = House::new().await;
        let stays = Shared::new(Stays::new(Shape { seed, listings: 8, stays: 6, now: rig::now() }));
        let guesty = guesty::Simulator::start(stays.clone(), guesty::Options::default()).await.unwrap();
        let ownerrez = ownerrez::Simulator::start(stays.clone(), ownerrez::Options::default()).await.unwrap();
        let hostaway = hostaway::Simulator::start(stays.clone(), hostaway::Options::default()).await.unwrap();
        let site = calendars::Simulator::start(stays.clone(), calendars::Options::default()).await.unwrap();
        let dir = house.dir.path().to_owned();
        let lake = dir.join("lake").display().to_string();
        let keep = |name: &str, value: &str| secret(&dir, name, value);
        let limits = json!({
            "calls_per_sec": 100_000, "burst": 1000, "calls_per_min": 10_000_000, "calls_per_hour": 10_000_000,
            "backoff_ms": 1, "attempts": 2,
        });
        let (o, h, a) = (ownerrez.credentials(), hostaway.credentials(), site.credentials());
        let airbnb: Vec<Value> = (stays.lock().listings.iter())
            .filter(|l| l.manager == Manager::None)
            .map(|l| json!({ "listing": l.airbnb_id, "property": l.property }))
            .collect();
        for (connector, settings) in [
            (
                "guesty",
                json!({
                    "base_url": guesty.base_url(), "token_url": guesty.token_url(), "rescan_secs": 0, "calendar_secs": 0,
                    "client_id": keep("gid", guesty.client_id()), "client_secret": keep("gkey", guesty.client_secret()),
                    "webhook_secrets": [keep("gnext", "whsec_bmV4dC1uZXh0LW5leHQtbmV4dC1uZXh0"), keep("ghook", SIGNING)],
                    "calendar_days": 60, "limits": limits,
                }),
            ),
            (
                "ownerrez",
                json!({
                    "base_url": ownerrez.base_url(), "token": keep("otoken", &o.access_token), "client_id": o.client_id,
                    "compare_every_secs": 0, "limits": limits,
                    "webhook": {
                        "user": o.webhook_user, "passwords": [keep("ohook", &o.webhook_password)], "user_id": o.user_id,
                    },
                }),
            ),
            (
                "hostaway",
                json!({
                    "base_url": hostaway.base_url(), "account_id": h.account_id, "token_wait_ms": 0,
                    "client_secret": keep("hkey", &h.client_secret), "compare_every_secs": 0, "limits": limits,
                    "webhook": { "login": h.webhook_login, "passwords": [keep("hhook", &h.webhook_password)] },
                }),
            ),
            (
                "airbnb",
                json!({
                    "partner": {
                        "unverified": true, "base_url": site.base_url(), "api_key": keep("akey", &a.api_key),
                        "api_secret": keep("asecret", &a.api_secret), "refresh_token": keep("agrant", &a.refresh_token),
                        "callback_password": keep("ahook", "callback-pass"), "host_id": "77", "listings": airbnb,
                    },
                    "limits": limits,
                }),
            ),
            ("vrbo", json!({ "partner": { "unverified": true, "password": keep("vhook", "partner-pass") } })),
        ] {
            let spec = json!({
                "name": format!("{connector}_bookings"), "about": "a test",
                "source": {
                    "connector": connector, "connection": connector, "stream": "bookings", "read": "changes",
                    "settings": settings,
                },
                "sinks": [{ "sink": "parquet", "settings": { "path": lake } }, { "sink": "postgres" }],
            });
            let specs = dir.join("specs");
            std::fs::write(specs.join(format!("{connector}.toml")), toml::to_string(&spec).unwrap()).unwrap();
        }
        Self { house, stays, guesty, ownerrez, hostaway, site, lake }
    }

    async fn try_pull(&self, connector: &str) -> catalog::Result<Summary> {
        let (app, database) = (&self.house.app, &self.house.database);
        let plan = app.plan(&format!("{connector}_bookings")).await.unwrap();
        let asked = Asked { trigger: "manual".to_owned(), read: None, only: Vec::new(), fresh: false };
        let job = app.job(&plan, database, asked).await.unwrap();
        let mut world = app.world(Some(database));
        world.quota = std::sync::Arc::new(LocalQuota::default());
        run(&world, job, &self.house.stop).await
    }

    async fn pull(&self, connector: &str) -> Summary {
        let summary = self.try_pull(connector).await.unwrap_or_else(|fault| panic!("{connector}: {}", fault.chain()));
        assert_eq!(summary.status, Status::Succeeded, "{connector}: {:?}", summary.failed_scopes);
        summary
    }

    fn pass(&self, time: TimeDelta) {
        self.stays.lock().pass(time);
        self.house.clock.advance(time);
    }

    fn post(&self, connector: &str, headers: &[(String, String)], body: impl Into<reqwest::Body>) -> RequestBuilder {
        let path = format!("/api/webhooks/{connector}/{connector}");
        let request = self.house.request(Method::POST, &path).body(body);
        headers.iter().fold(request, |request, (name, value)| request.header(name, value))
    }

    /// A delivery with this body that proves itself as its vendor's do.
    fn good(&self, connector: &str, id: &str, body: &[u8]) -> RequestBuilder {
        let basic = |user: &str, password: &str| {
            use base64::Engine as _;
            let text = base64::engine::general_purpose::STANDARD.encode(format!("{user}:{password}"));
            vec![("authorization".to_owned(), format!("Basic {text}"))]
        };
        let headers = match connector {
            "guesty" => {
                let key = format!("file:{}", self.house.dir.path().join("ghook").display());
                let sent = self.house.clock.now().timestamp();
                let signature = sign(&SecretRef::parse(&key).unwrap(), id, sent, body).unwrap();
                [("svix-id", id), ("svix-timestamp", &sent.to_string()), ("svix-signature", &signature)]
                    .map(|(name, value)| (name.to_owned(), value.to_owned()))
                    .to_vec()
            }
            "ownerrez" => self.ownerrez.post("").headers,
            "hostaway" => self.hostaway.post("").headers,
            "airbnb" => basic("airbnb", "callback-pass"),
            _ => basic("vrbo", "partner-pass"),
        };
        self.post(connector, &headers, body.to_vec())
    }

    /// Sends what the vendor says of the changes since `from`.
    async fn deliver(&self, connector: &str, from: usize) {
        let changes: Vec<Changed> = self.stays.lock().changes[from..].to_vec();
        let posts: Vec<(Vec<(String, String)>, String)> = match connector {
            "guesty" => {
                let sending = guesty::Sending { legacy: true, ..guesty::Sending::default() };
                let letters = self.guesty.letters(&changes, SIGNING, sending);
                letters.into_iter().map(|l| (l.headers, l.body)).collect()
            }
            "ownerrez" => self.ownerrez.deliveries().into_iter().map(|p| (p.headers, p.body)).collect(),
            _ => self.hostaway.deliveries().into_iter().map(|p| (p.headers, p.body)).collect(),
        };
        assert!(!posts.is_empty());
        for (headers, body) in posts {
            let (status, answer) = answer(self.post(connector, &headers, body)).await;
            assert!(status.is_success(), "{connector}: {status} {answer}");
        }
        self.work_off(connector).await;
    }

    async fn work_off(&self, connector: &str) {
        let House { app, database, stop, .. } = &self.house;
        let known = self.house.connections();
        let ended = work::work_off(app, database, &known, connector, connector, stop).await.unwrap();
        assert!(matches!(ended, Outcome::Done));
    }

    async fn settle(&self) {
        let plans = self.house.app.sound_plans().await.unwrap();
        self.house.app.settle(&plans, &self.house.database, "manual").await.unwrap();
    }

    async fn text(&self, sql: String) -> Option<String> {
        sqlx::query_scalar(AssertSqlSafe(sql)).fetch_optional(self.house.pool()).await.unwrap()
    }

    /// How a reservation stands: its booking's status and reason, and its first night.
    async fn stands(&self, number: u64) -> String {
        let (property, night) = {
            let stays = self.stays.lock();
            let r = stays.reservation(number).unwrap();
            let l = &stays.listings[r.listing];
            let connector = MANAGERS.iter().find(|(manager, _)| *manager == l.manager).unwrap().1;
            (format!("{connector}:{}", l.manager_id), r.check_in)
        };
        let sql = format!(
            "select concat_ws(' ', b.booking_status, b.cancel_reason, d.state) from core.bookings b \
             join core.calendar_days d on d.property_id = b.property_id and d.day = b.check_in \
             where b.property_id = '{property}' and b.check_in = '{night}' and b.kind = 'stay'"
        );
        self.text(sql).await.unwrap_or_else(|| "nobody knows it".to_owned())
    }

    /// Books a stay of a new guest and gives its number and the guest's.
    fn book(&self, manager: Manager, guest: Option<&str>) -> u64 {
        let mut stays = self.stays.lock();
        let listing = stays.listings.iter().find(|l| l.manager == manager).unwrap().index;
        let from = stays.today(listing) + Days::new(20);
        let number = stays.book_next(listing, from, 3, Platform::Direct).unwrap();
        if let Some(name) = guest {
            let index = stays.guests.len();
            let lower = name.to_lowercase();
            stays.guests.push(Guest {
                index,
                first_name: name.to_owned(),
                last_name: format!("{name}son"),
                email: format!("{lower}@home.example"),
                phone: "+12125550199".to_owned(),
                city: "Galveston",
                locale: "en",
                deleted: false,
            });
            stays.reservations[number as usize].guest = Some(index);
        }
        number
    }

    /// Where a word is still found: tables, bodies of deliveries, files of the lake.
    async fn traces(&self, word: &str) -> Vec<String> {
        let tables: Vec<String> = sqlx::query_scalar(
            "select format('%I.%I', table_schema, table_name) from information_schema.tables \
             where table_schema in ('core', 'ops', 'sync') and table_type = 'BASE TABLE'",
        )
        .fetch_all(self.house.pool())
        .await
        .unwrap();
        let mut found = Vec::new();
        for table in tables {
            let text = match table.as_str() {
                "ops.deliveries" => "concat(to_jsonb(t), encode(t.body, 'escape'))",
                _ => "to_jsonb(t)::text",
            };
            let sql = format!("select {text} from {table} t where {text} ilike '%{word}%' limit 1");
            found.extend(self.text(sql).await.map(|row| format!("{table}: {row}")));
        }
        for path in files(Path::new(&self.lake)) {
            let reader = ParquetRecordBatchReaderBuilder::try_new(std::fs::File::open(&path).unwrap());
            for batch in reader.unwrap().build().unwrap() {
                let mut out = Vec::new();
                let mut writer = arrow::json::LineDelimitedWriter::new(&mut out);
                writer.write(&batch.unwrap()).unwrap();
                writer.finish().unwrap();
                let text = String::from_utf8(out).unwrap();
                let row = text.lines().find(|row| row.to_lowercase().contains(&word.to_lowercase()));
                found.extend(row.map(|row| format!("{}: {row}", path.display())));
            }
        }
        found
    }

    /// Named guests of bookings by source booking, but for one.
    async fn others(&self, word: &str) -> BTreeMap<String, String> {
        let sql = "select source_booking_id, guest_name from core.bookings where guest_name is not null";
        let rows: Vec<(String, String)> = sqlx::query_as(sql).fetch_all(self.house.pool()).await.unwrap();
        rows.into_iter().filter(|(_, name)| !name.contains(word)).collect()
    }
}

fn files(folder: &Path) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        match entry.path() {
            path if path.is_dir() => found.extend(files(&path)),
            path if path.extension().is_some_and(|e| e == "parquet") => found.push(path),
            _ => {}
        }
    }
    found
}

/// A stay that a delivery told and that its vendor deletes before a reading lists it, and one that only a lost cursor
/// knew: both are withdrawn by the next whole comparison, and by nothing less.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_came_and_went_between_two_readings_is_withdrawn() {
    let coast = Coast::new(7).await;
    for (manager, connector) in MANAGERS {
        coast.pull(connector).await;
        let known = coast.book(manager, None);
        coast.pull(connector).await;
        let from = coast.stays.lock().changes.len();
        coast.pass(TimeDelta::minutes(5));
        let heard = coast.book(manager, None);
        coast.deliver(connector, from).await;
        assert_eq!(coast.stands(heard).await, "confirmed booked", "{connector}");

        coast.pass(TimeDelta::minutes(5));
        assert!(coast.stays.lock().delete(heard));
        // Lists that are empty prove nothing, nor does a vendor that cannot be asked for the one.
        match connector {
            "guesty" => {
                use guesty::{Misbehaviour, Rule};
                coast.guesty.misbehave(Rule::on("/v1/reservations/*", Misbehaviour::Status(503)));
            }
            "ownerrez" => {
                coast.ownerrez.misbehave(Rule::on("/bookings", Misbehaviour::EmptyPage));
                coast.ownerrez.misbehave(Rule::on("/bookings/*", Misbehaviour::ServerError { status: 503 }));
            }
            _ => {
                coast.hostaway.misbehave(Rule::on("/reservations", Misbehaviour::EmptyPage));
                coast.hostaway.misbehave(Rule::on("/reservations/*", Misbehaviour::ServerError { status: 503 }));
            }
        }
        assert!(coast.try_pull(connector).await.is_err(), "{connector}");
        assert_eq!(coast.stands(heard).await, "confirmed booked", "{connector}");
        assert_eq!(coast.stands(known).await, "confirmed booked", "{connector}");
        (coast.guesty.behave(), coast.ownerrez.behave(), coast.hostaway.behave());
        coast.pull(connector).await;
        assert_eq!(coast.stands(heard).await, "cancelled deleted free", "{connector}");
        assert_eq!(coast.stands(known).await, "confirmed booked", "{connector}");
        let again = coast.pull(connector).await;
        assert_eq!(again.rows.values().map(|c| c.inserted + c.updated + c.deleted).sum::<u64>(), 0, "{connector}");

        // The cursor is given up: what it knew is compared even so, closed days of a calendar too.
        sqlx::query("delete from ops.cursors").execute(coast.house.pool()).await.unwrap();
        coast.pass(TimeDelta::minutes(5));
        let blocked = {
            let mut stays = coast.stays.lock();
            assert!(stays.delete(known));
            let blocks = |r: &&fixtures::stays::Reservation| {
                r.kind == Kind::Block
                    && r.alive()
                    && stays.listings[r.listing].manager == manager
                    && r.check_in > stays.today(r.listing)
            };
            let block = stays.reservations.iter().find(blocks).map(|r| r.number);
            block.inspect(|number| assert!(stays.delete(*number)))
        };
        coast.pull(connector).await;
        assert_eq!(coast.stands(known).await, "cancelled deleted free", "{connector}");
        let Some(blocked) = blocked else { continue };
        let (listing, night) = {
            let stays = coast.stays.lock();
            let r = stays.reservation(blocked).unwrap();
            (stays.listings[r.listing].manager_id.clone(), r.check_in)
        };
        let sql = format!(
            "select state from core.calendar_days where property_id = '{connector}:{listing}' and day = '{night}'"
        );
        assert_eq!(coast.text(sql).await.as_deref(), Some("free"), "{connector}");
    }
}

/// A guest whom the vendor has deleted, whether it says so or only does not know them any more: nothing is left of them,
/// their nights and everybody else stay.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_guest_whom_the_vendor_has_deleted_is_forgotten() {
    let coast = Coast::new(9).await;
    for (round, (manager, connector, name, told)) in [
        (Manager::Guesty, "guesty", "Quintessa", true),
        (Manager::OwnerRez, "ownerrez", "Leocadia", true),
        (Manager::OwnerRez, "ownerrez", "Oriabel", false),
    ]
    .into_iter()
    .enumerate()
    {
        coast.pull(connector).await;
        let from = coast.stays.lock().changes.len();
        let number = coast.book(manager, Some(name));
        coast.deliver(connector, from).await;
        coast.pull(connector).await;
        let traces = coast.traces(name).await;
        for place in ["core.source_guests", "core.bookings", "core.guests", "ops.deliveries", "lake/"] {
            assert!(traces.iter().any(|t| t.contains(place)), "{connector}: nothing in {place}: {traces:?}");
        }
        let others = coast.others(name).await;
        let guest = {
            let mut stays = coast.stays.lock();
            let index = stays.reservation(number).unwrap().guest.unwrap();
            let id = match manager {
                Manager::Guesty => guesty::guest_id(stays.reservation(number).unwrap()).unwrap(),
                _ => ownerrez::guest_id(index).to_string(),
            };
            stays.pass(TimeDelta::minutes(1));
            coast.house.clock.advance(TimeDelta::minutes(1));
            stays.forget_guest(index);
            id
        };
        if told {
            let body = match manager {
                Manager::Guesty => json!({ "event": "guest.deleted", "guest": { "_id": guest, "fullName": name } }),
                _ => json!({
                    "id": format!("d-{round}"), "user_id": coast.ownerrez.credentials().user_id,
                    "action": "entity_delete", "entity_type": "guest", "entity_id": guest.parse::<u64>().unwrap(),
                    "entity": { "id": guest.parse::<u64>().unwrap(), "first_name": name },
                }),
            };
            let (status, answer) =
                answer(coast.good(connector, &format!("g{round}"), body.to_string().as_bytes())).await;
            assert_eq!(status, StatusCode::ACCEPTED, "{answer}");
            coast.work_off(connector).await;
        } else {
            // Somebody asks for the record, and the vendor does not know it.
            let ids = vec![format!("guest:{guest}")];
            let plan = coast.house.app.plan(&format!("{connector}_bookings")).await.unwrap();
            let read = Some(connectors::Read::Objects { ids });
            let asked = Asked { trigger: "manual".to_owned(), read, only: Vec::new(), fresh: false };
            let job = coast.house.app.job(&plan, &coast.house.database, asked).await.unwrap();
            let world = coast.house.app.world(Some(&coast.house.database));
            run(&world, job, &coast.house.stop).await.unwrap();
            assert!(!coast.traces(name).await.is_empty(), "nobody has removed it yet");
            work::prune(&coast.house.app, coast.house.pool(), TimeDelta::days(30)).await.unwrap();
        }
        coast.settle().await;
        assert_eq!(coast.traces(name).await, Vec::<String>::new(), "{connector}");
        assert_eq!(coast.stands(number).await, "confirmed booked", "{connector}");
        assert_eq!(coast.others(name).await, others, "{connector}");
        // Done once: nothing is due, and the next reading brings nobody back.
        assert!(!pipelines::privacy::guests::any(coast.house.pool(), None).await.unwrap());
        coast.pull(connector).await;
        assert_eq!(coast.traces(name).await, Vec::<String>::new(), "{connector}");
    }
}

/// Every wrong delivery to a vendor's address gets the right 4xx and a sentence, and is on the books with it; none gets a
/// 5xx, and what is only unknown is kept.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_wrong_delivery_of_a_vendor_is_answered_with_a_sentence() {
    let coast = Coast::new(3).await;
    let deep = |n: usize| format!("{{\"event\": \"x\", \"action\": \"x\", \"a\": {}{}}}", "[".repeat(n), "]".repeat(n));
    let user = coast.ownerrez.credentials().user_id;
    let mut count = 0;
    for connector in ["guesty", "ownerrez", "hostaway", "airbnb", "vrbo"] {
        let good = |body: &[u8]| coast.good(connector, "m", body);
        let bare = |body: &'static str| coast.post(connector, &[], body);
        let of = |name: &str, value: &str| vec![(name.to_owned(), value.to_owned())];
        let xml = connector == "vrbo";
        let shape = match connector {
            "guesty" => "not a JSON object",
            "vrbo" => "the document",
            "hostaway" => "no JSON object with an `event`",
            "airbnb" => "not JSON with an `action`",
            _ => "no JSON object with an `action`",
        };
        let unsigned = if connector == "guesty" { "`webhook-id` is missing" } else { "user and password are missing" };
        let mut cases: Vec<(&str, RequestBuilder, u16, &str)> = vec![
            ("unsigned", bare("{}"), 401, unsigned),
            ("unsigned garbage", bare("\u{0}"), 401, unsigned),
            ("empty", good(b""), 400, if xml { "ends before it is complete" } else { shape }),
            ("cut", good(br#"{"event": "reservation.updated", "action": ["#), 400, shape),
            ("a list", good(b"[]"), 400, shape),
            ("a number", good(b"7"), 400, shape),
            ("no text", good(b"{\"event\": \"\xff\", \"action\": \"\xff\"}"), 400, "UTF-8"),
            ("no text at all", good(b"\xff\xfe\x00\x01"), 400, if xml { "UTF-8" } else { shape }),
            (
                "a form",
                good(b"event=x&action=y").header("content-type", "application/x-www-form-urlencoded"),
                400,
                shape,
            ),
            ("nested without end", good(deep(100_000).as_bytes()), 400, "nested deeper than 64 levels"),
            ("too large", good(&vec![b' '; (1 << 20) + 1]), 413, "larger than 1048576 bytes"),
        ];
        if connector == "guesty" {
            let changes = {
                let mut stays = coast.stays.lock();
                while stays.changes.len() < 40 {
                    stays.mutate();
                }
                stays.changes.clone()
            };
            let letter = |sending| coast.guesty.letters(&changes, SIGNING, sending).remove(0);
            for (what, sending, status, says) in [
                ("forged", guesty::Sending { forge: true, ..Default::default() }, 401, "does not fit the body"),
                ("stale", guesty::Sending { age_secs: 301, ..Default::default() }, 400, "five minutes"),
                ("of tomorrow", guesty::Sending { age_secs: -86_400, ..Default::default() }, 400, "five minutes"),
            ] {
                let letter = letter(sending);
                cases.push((what, coast.post(connector, &letter.headers, letter.body), status, says));
            }
        } else {
            let wrong = of("authorization", "Basic bm9ib2R5Om5vdGhpbmc=");
            cases.push(("wrong password", coast.post(connector, &wrong, "{}"), 401, "user or password is wrong"));
            for odd in ["Bearer x", "Basic", "Basic %%%", "basic"] {
                cases.push((
                    "odd credentials",
                    coast.post(connector, &of("authorization", odd), "{}"),
                    401,
                    "are missing",
                ));
            }
        }
        if xml {
            cases.push(("no document", good(b"{}"), 400, "the document"));
            cases.push((
                "entities",
                good(b"<!DOCTYPE a [<!ENTITY x SYSTEM \"file:///etc/passwd\">]><a>&x;</a>"),
                400,
                "DOCTYPE",
            ));
            cases.push(("deep document", good("<a>".repeat(100_000).as_bytes()), 400, "nest too deep"));
        }
        for (what, request, status, detail) in cases {
            let response = request.send().await.unwrap();
            let kind = response.headers()["content-type"].to_str().unwrap().to_owned();
            let got = response.status().as_u16();
            let problem: Value = serde_json::from_str(&response.text().await.unwrap()).unwrap();
            assert_eq!((got, kind.as_str()), (status, "application/problem+json"), "{connector}, {what}: {problem}");
            let sentence = problem["detail"].as_str().unwrap();
            assert!(sentence.contains(detail), "{connector}, {what}: {problem}");
            let last = "select reason from ops.deliveries where state = 'refused' order by id desc limit 1".to_owned();
            let last = coast.text(last).await.unwrap();
            assert!(last.contains(detail), "{connector}, {what} is on record as `{last}`");
            count += 1;
        }
        for path in [format!("/api/webhooks/{connector}/nobody"), format!("/api/webhooks/nobody/{connector}")] {
            let (status, problem) = answer(coast.house.request(Method::POST, &path).body("{}")).await;
            assert_eq!(status, StatusCode::NOT_FOUND);
            assert!(problem["detail"].as_str().unwrap().contains("no connection of that name"), "{problem}");
            count += 1;
        }

        // What is sound and unknown, or says nothing that can be read again, is kept, answered well, and explained.
        let kept: Vec<(String, &str, &str)> = match connector {
            "guesty" => vec![
                (json!({ "event": "reservation.admired.v9", "x": 1 }).to_string(), "failed", "does not say which"),
                (json!({ "event": "task.created", "task": {} }).to_string(), "ignored", "`task.created` says nothing"),
                (json!({ "event": "reservation.updated.v2", "data": {} }).to_string(), "failed", "does not say which"),
                ("{}".to_owned(), "ignored", "`unknown` says nothing"),
            ],
            "ownerrez" => vec![
                (
                    json!({ "action": "entity_admire", "entity_type": "booking", "entity_id": 1, "user_id": user })
                        .to_string(),
                    "ignored",
                    "`booking.entity_admire` says nothing",
                ),
                (
                    json!({ "action": "entity_update", "entity_type": "booking", "entity_id": "x", "user_id": user })
                        .to_string(),
                    "failed",
                    "no object by a number",
                ),
                (
                    json!({ "action": "webhook_test", "user_id": user }).to_string(),
                    "ignored",
                    "`webhook_test` says nothing",
                ),
                (
                    json!({ "action": "application_authorization_revoked", "user_id": 1 }).to_string(),
                    "ignored",
                    "says nothing",
                ),
            ],
            "hostaway" => vec![
                (
                    json!({ "event": "task.created", "object": "task" }).to_string(),
                    "ignored",
                    "`task.created` says nothing",
                ),
                (
                    json!({ "event": "reservation.updated", "data": { "id": "../x" } }).to_string(),
                    "failed",
                    "no object by a number",
                ),
            ],
            "airbnb" => vec![
                (json!({ "action": "message_added" }).to_string(), "ignored", "`message_added` says nothing"),
                (
                    json!({ "action": "reservation_requested", "reservation": {} }).to_string(),
                    "failed",
                    "without `confirmation_code`",
                ),
                (
                    json!({ "action": "reservation_requested", "confirmation_code": "../x" }).to_string(),
                    "failed",
                    "letters and digits only",
                ),
                (json!({ "action": "authorization_revoked", "host_id": 78 }).to_string(), "ignored", "says nothing"),
                (json!({ "action": "authorization_revoked" }).to_string(), "ignored", "says nothing"),
            ],
            _ => vec![
                ("<quoteRequest><a>1</a></quoteRequest>".to_owned(), "ignored", "`quoteRequest` says nothing"),
                ("<bookingUpdate><a>1</a></bookingUpdate>".to_owned(), "failed", "names no booking"),
            ],
        };
        for (at, (body, state, says)) in kept.into_iter().enumerate() {
            let request = coast.good(connector, &format!("kept-{at}"), body.as_bytes());
            // Senders get content types wrong: the body says what it is.
            let (status, taken) = answer(request.header("content-type", "text/plain")).await;
            assert_eq!((status, &taken["status"]), (StatusCode::ACCEPTED, &json!("received")), "{connector}: {body}");
            coast.work_off(connector).await;
            let last = "select concat(state, ': ', reason) from ops.deliveries order by id desc limit 1".to_owned();
            let last = coast.text(last).await.unwrap();
            assert!(last.starts_with(state) && last.contains(says), "{connector}: {body} is on record as `{last}`");
        }
    }
    let refused = "select count(*)::text from ops.deliveries where state = 'refused'".to_owned();
    assert_eq!(coast.text(refused).await, Some(count.to_string()), "every refusal has its line");
    let bare =
        "select count(*)::text from ops.deliveries where state <> 'received' and coalesce(reason, '') = ''".to_owned();
    assert_eq!(coast.text(bare).await.as_deref(), Some("0"));
    let stopped = "select count(*)::text from ops.connections where state = 'revoked'".to_owned();
    assert_eq!(coast.text(stopped).await.as_deref(), Some("0"), "nobody else's word stops a connection");
    let calls = coast.site.requests().into_iter().filter(|r| r.path.contains("..")).count();
    assert_eq!(calls, 0);
    // A callback that names the host does stop it.
    let body = json!({ "action": "authorization_revoked", "host_id": 77 }).to_string();
    assert_eq!(answer(coast.good("airbnb", "bye", body.as_bytes())).await.0, StatusCode::ACCEPTED);
    coast.work_off("airbnb").await;
    let stopped = "select string_agg(connection, ',') from ops.connections where state = 'revoked'".to_owned();
    assert_eq!(coast.text(stopped).await.as_deref(), Some("airbnb"));
}
