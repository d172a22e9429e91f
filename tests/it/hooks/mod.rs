//! Vendors' deliveries through the whole program: what is refused, and what becomes of what was told and then taken back.

#![expect(clippy::unwrap_used, reason = "the functions below are parts of tests")]

mod intake;
mod refused;

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
                        "callback_passwords": [keep("anext", "next-pass"), keep("ahook", "callback-pass")], "host_id": "77", "listings": airbnb,
                    },
                    "limits": limits,
                }),
            ),
            (
                "vrbo",
                json!({ "partner": { "unverified": true, "passwords": [keep("vnext", "next-pass"), keep("vhook", "partner-pass")] } }),
            ),
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

    /// The announcement of a new booking.
    fn early(&self, connector: &str, number: u64, from: usize) -> String {
        match connector {
            "guesty" => {
                let changes: Vec<Changed> = self.stays.lock().changes[from..].to_vec();
                self.guesty.letters(&changes, SIGNING, guesty::Sending::default()).remove(0).body
            }
            "ownerrez" => json!({
                "id": "early", "user_id": self.ownerrez.credentials().user_id, "action": "entity_create",
                "entity_type": "booking", "entity_id": ownerrez::booking_id(number),
            })
            .to_string(),
            _ => json!({
                "object": "reservation", "event": "reservation.created", "accountId": 10450,
                "data": { "id": hostaway::reservation_id(number) },
            })
            .to_string(),
        }
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
        coast.guesty.behave();
        coast.ownerrez.behave();
        coast.hostaway.behave();
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

/// A vendor may announce a booking that it does not find yet. It is not held to that: the next reading brings it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_booking_that_is_announced_too_early_comes_with_the_next_reading() {
    let coast = Coast::new(11).await;
    for (manager, connector) in MANAGERS {
        coast.pull(connector).await;
        coast.pass(TimeDelta::minutes(5));
        let from = coast.stays.lock().changes.len();
        let number = coast.book(manager, None);
        match connector {
            "guesty" => {
                use guesty::{Misbehaviour, Rule};
                coast.guesty.misbehave(Rule::on("/v1/reservations/*", Misbehaviour::Status(404)));
            }
            // What has not come to every server yet is as if it had been deleted for a moment.
            _ => coast.stays.lock().reservations[number as usize].deleted = true,
        }
        let early = coast.early(connector, number, from);
        let (status, answer) = answer(coast.good(connector, "early", early.as_bytes())).await;
        assert_eq!(status, StatusCode::ACCEPTED, "{answer}");
        coast.pass(TimeDelta::minutes(5));
        coast.work_off(connector).await;
        coast.guesty.behave();
        coast.stays.lock().reservations[number as usize].deleted = false;
        assert_eq!(coast.stands(number).await, "nobody knows it", "{connector}");
        coast.pull(connector).await;
        assert_eq!(coast.stands(number).await, "confirmed booked", "{connector}");
    }
}

/// Bookings of the product's own endpoints that are sound deliveries and unsound bookings: taken, and each found again with
/// its reason; one whose property nobody has mapped waits until somebody does.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unsound_bookings_are_taken_and_explained() {
    let coast = Coast::new(2).await;
    let path = coast.house.dir.path().join("specs").join("intake.toml");
    let text = std::fs::read_to_string(&path).unwrap() + "[[sinks]]\nsink = \"postgres\"\n";
    std::fs::write(path, text).unwrap();
    let body = |id: &str, changes: Value| {
        let mut body: Value = serde_json::from_str(&kit::house::booking(id)).unwrap();
        body.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
        body.to_string()
    };
    let cases = [
        ("backwards", json!({ "check_out": "2026-06-20" }), "row", "its dates run backwards: 2026-07-01 to 2026-06-20"),
        ("endless", json!({ "check_out": "2036-07-01" }), "row", "longer than three years"),
        ("dateless", json!({ "check_in": "soon" }), "row", "its dates cannot be read: `soon`"),
        ("placeless", json!({ "property_id": null }), "row", "it names no listing"),
        ("coinless", json!({ "currency": null }), "value", "an amount without a currency"),
        ("foreign", json!({ "currency": "ZZZZ" }), "value", "`ZZZZ` is no currency, so the amount is left unknown"),
        ("huge", json!({ "total_amount": 99_999_999_999_999_u64 }), "value", "`99999999999999` is too large"),
        (
            "kuwaiti",
            json!({ "total_amount": "12.345", "currency": "KWD" }),
            "value",
            "total amount `12.345` has more than two decimal places, so it is rounded",
        ),
        (
            "japanese",
            json!({ "total_amount": 1500.5, "currency": "JPY" }),
            "value",
            "total amount `1500.5` has decimal places, which its currency has not, so it is rounded",
        ),
        ("strange", json!({ "booking_status": "besotted" }), "value", "the status `besotted` is not known"),
        ("unreachable", json!({ "guest_email": "no address" }), "value", "the e-mail is not an address"),
    ];
    for (event, (id, changes, ..)) in ["created", "updated", "cancelled"].iter().cycle().zip(&cases) {
        let path = format!("/api/webhooks/booking-{event}");
        let (status, answer) = answer(coast.house.delivery(&path, id, body(id, changes.clone()))).await;
        assert_eq!(status, StatusCode::ACCEPTED, "{id}: {answer}");
    }
    assert!(matches!(coast.house.work_off().await, Outcome::Done));
    for (id, _, kind, reason) in cases {
        let sql = format!(
            "select string_agg(concat(kind, ': ', reason), '; ') from ops.rejects where payload ->> 'reservation_id' = '{id}' or key like '%{id}%'"
        );
        let found = coast.text(sql).await.unwrap_or_default();
        assert!(found.contains(reason) && found.contains(kind), "{id}: {found}");
    }
    let waiting = "select reservations::text from serving.unmapped_listings where listing_id = 'P-1'".to_owned();
    assert_eq!(coast.text(waiting.clone()).await.as_deref(), Some("7"), "what is left of them waits for its property");
    assert_eq!(coast.text("select booking_id from core.bookings".to_owned()).await, None);
    sqlx::raw_sql(
        "insert into sync.listing_map (connection, listing_id, property_id) values ('intake', 'P-1', 'P-1'); \
         insert into ops.unsettled (connection, listing_id, what) values ('intake', 'P-1', 'listing')",
    )
    .execute(coast.house.pool())
    .await
    .unwrap();
    coast.settle().await;
    assert_eq!(coast.text(waiting).await, None);
    let loaded = "select string_agg(source_booking_id, ' ' order by source_booking_id) from core.bookings".to_owned();
    assert_eq!(coast.text(loaded).await.as_deref(), Some("coinless foreign huge japanese kuwaiti strange unreachable"));
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
