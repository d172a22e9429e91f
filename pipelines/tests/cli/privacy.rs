//! One person taken out, and one connection stopped, as an operator does it: with the program, on what the built-in pipelines
//! have brought, while every log is as talkative as it can be.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use catalog::Clock;
use fixtures::bucket::{Bucket, Options as BucketOptions};
use serde_json::{Value, json};
use sinks::parquet::Lake;
use sqlx::{AssertSqlSafe, Connection, PgConnection, Row};
use tokio::runtime::Runtime;

use super::trouble::{Database, said};
use super::{Home, PROPFLOW};

const SECRET: &str = "whsec_cHJvcGZsb3cgdGVzdHMgc2lnbiB3aXRoIHRoaXM=";

/// Everything of OwnerRez once more: a run brings only what has changed.
const AGAIN: [&str; 6] = ["backfill", "ownerrez_bookings", "--from", "2020-01-01", "--to", "2033-01-01"];

/// The built-in pipelines without their schedules: a server runs beside these tests, and nothing may come in between.
const SPECS: [(&str, &str); 5] = [
    ("intake", include_str!("../../specs/intake_bookings.toml")),
    ("ownerrez", include_str!("../../specs/ownerrez_bookings.toml")),
    ("hostaway", include_str!("../../specs/hostaway_bookings.toml")),
    ("residents", include_str!("../../specs/resman_residents.toml")),
    ("people", include_str!("../../specs/resman_people.toml")),
];

/// A process that is killed when the test is over.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A house with vendors, a database and a lake, and the commands in it.
struct Town {
    home: Home,
    database: Option<Database>,
    environment: Vec<(String, String)>,
    vendors: Vec<Running>,
    runtime: Runtime,
    /// Where commands write their logs.
    logs: Vec<PathBuf>,
}

impl Town {
    fn new(lake: &str) -> Self {
        let home = Home::new();
        for (name, text) in SPECS {
            home.write(&format!("specs/{name}.toml"), text.split("[schedule]").next().unwrap());
        }
        let database = Database::start(&home);
        let path = |name: &str| home.path().join(name).display().to_string();
        let lake = if lake.contains("://") { lake.to_owned() } else { path(lake) };
        let environment = [
            ("DATABASE_URL", database.url.clone()),
            ("PROPFLOW_SPECS", path("specs")),
            ("PROPFLOW_LAKE", lake),
            ("PROPFLOW_INTAKE_SECRET", SECRET.to_owned()),
            ("PROPFLOW_LOG", "trace".to_owned()),
        ];
        let environment = environment.map(|(name, value)| (name.to_owned(), value)).to_vec();
        let runtime = Runtime::new().unwrap();
        Self { home, database: Some(database), environment, vendors: Vec::new(), runtime, logs: Vec::new() }
    }

    /// Starts a simulated vendor that prints so many variables.
    fn vendor(&mut self, name: &str, variables: usize) {
        let mut command = Command::new(PROPFLOW);
        command.args(["simulate", name, "--properties", "2", "--units", "24", "--seed", "5"]).stdin(Stdio::null());
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
        let exports = lines.filter_map(|line| {
            let (name, value) = line.strip_prefix("export ")?.split_once('=')?;
            Some((name.to_owned(), value.trim_matches('\'').to_owned()))
        });
        self.environment.extend(exports.take(variables));
        self.vendors.push(Running(child));
    }

    fn command(&mut self, arguments: &[&str]) -> Command {
        let mut command = self.home.command(arguments);
        command.envs(self.environment.iter().map(|(n, v)| (n, v)));
        let log = self.home.path().join(format!("log.{}", self.logs.len()));
        command.stdout(Stdio::piped()).stderr(File::create(&log).unwrap());
        self.logs.push(log);
        command
    }

    /// What the last command logged.
    fn logged(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(self.logs.last().unwrap()).unwrap()).into_owned()
    }

    /// Runs a command that ends with a code, and gives what it printed, and the message with which it ended.
    fn ends(&mut self, code: i32, arguments: &[&str]) -> String {
        let output = self.command(arguments).output().unwrap();
        let log = self.logged();
        let end = log.lines().rev().take(8).collect::<Vec<_>>().join("\n");
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {end}");
        let told = log.split_once("error: ").map_or("", |(_, told)| told);
        String::from_utf8(output.stdout).unwrap() + told
    }

    fn ok(&mut self, arguments: &[&str]) -> String {
        self.ends(0, arguments)
    }

    fn url(&self) -> &str {
        &self.database.as_ref().unwrap().url
    }

    fn rows(&self, sql: &str) -> Vec<Value> {
        self.runtime.block_on(async {
            let mut connection = PgConnection::connect(self.url()).await.unwrap();
            let sql = AssertSqlSafe(format!("select to_jsonb(x) from ({sql}) x"));
            let rows = sqlx::query(sql).fetch_all(&mut connection).await.unwrap();
            connection.close().await.unwrap();
            rows.iter().map(|row| row.get(0)).collect()
        })
    }

    /// Everything that is stored, as text: every row of every table, every row and every other file of the lake.
    fn stored(&self) -> BTreeMap<String, Vec<String>> {
        let mut all = BTreeMap::new();
        let tables = self.rows(
            "select format('%I.%I', t.table_schema, t.table_name) as name, \
               coalesce((select string_agg(format('encode(t.%I, ''escape'')', c.column_name), ', ') \
                 from information_schema.columns c where c.table_schema = t.table_schema and c.table_name = t.table_name \
                   and c.data_type = 'bytea'), '''''') as bytes \
             from information_schema.tables t where t.table_type = 'BASE TABLE' \
               and t.table_schema not in ('pg_catalog', 'information_schema')",
        );
        for table in tables {
            let name = table["name"].as_str().unwrap();
            // Bytes as they read: bodies are text.
            let bytes = table["bytes"].as_str().unwrap();
            let rows = self.rows(&format!("select concat_ws(' ', to_jsonb(t)::text, {bytes}) as row from {name} t"));
            all.insert(name.to_owned(), rows.iter().map(|r| r["row"].as_str().unwrap().to_lowercase()).collect());
        }
        let root = self.home.path().join("lake");
        if root.exists() {
            self.runtime.block_on(lake_rows(&root, &mut all));
        }
        all
    }

    /// Where one of these texts stands.
    fn traces(&self, words: &[String]) -> BTreeSet<String> {
        let stored = self.stored();
        let names = |row: &String| words.iter().any(|w| row.contains(w.as_str()));
        stored.into_iter().filter(|(_, rows)| rows.iter().any(names)).map(|(place, _)| place).collect()
    }

    /// That no log, of whatever command, holds one of these texts.
    fn logs_are_clean(&self, words: &[String]) {
        for log in &self.logs {
            let text = String::from_utf8_lossy(&std::fs::read(log).unwrap()).to_lowercase();
            let line = text.lines().find(|line| words.iter().any(|w| line.contains(w.as_str())));
            assert_eq!(line, None, "in {}", log.display());
        }
    }

    fn serve(&mut self) -> (Running, String) {
        let mut child = self.command(&["serve", "--listen", "127.0.0.1:0"]).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let address = line.split_once("http://").unwrap().1.split(',').next().unwrap().to_owned();
        (Running(child), format!("http://{address}"))
    }

    fn stop(&self, mut server: Running) {
        assert!(Command::new("kill").args(["-TERM", &server.0.id().to_string()]).status().unwrap().success());
        assert!(server.0.wait().unwrap().success());
    }

    /// Posts, and gives the answer.
    fn post(&self, address: &str, headers: &[(&str, &str)], body: &Value) -> Value {
        let (host, path) = address.strip_prefix("http://").unwrap().split_once('/').unwrap();
        let body = body.to_string();
        let mut request =
            format!("POST /{path} HTTP/1.1\r\nhost: {host}\r\ncontent-type: application/json\r\nconnection: close\r\n");
        for (name, value) in headers {
            request += &format!("{name}: {value}\r\n");
        }
        request += &format!("content-length: {}\r\n\r\n{body}", body.len());
        let mut stream = std::net::TcpStream::connect(host).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 2"), "{path}: {answer}");
        serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1).unwrap_or(Value::Null)
    }

    fn book(&self, server: &str, id: &str, body: &Value) {
        let sent = catalog::SystemClock.now().timestamp();
        let file = self.home.path().join("secret");
        std::fs::write(&file, SECRET).unwrap();
        let secret = catalog::SecretRef::parse(&format!("file:{}", file.display())).unwrap();
        let signature = connectors::webhook::sign(&secret, id, sent, body.to_string().as_bytes()).unwrap();
        let headers = [("webhook-id", id), ("webhook-timestamp", &sent.to_string()), ("webhook-signature", &signature)];
        self.post(&format!("{server}/api/webhooks/booking-created"), &headers, body);
    }

    /// Waits until the database says so.
    fn until(&self, sql: &str) {
        let began = std::time::Instant::now();
        while self.rows(sql)[0]["done"] != true {
            assert!(
                began.elapsed() < Duration::from_secs(120),
                "{sql}: {:?}",
                self.rows("select * from ops.deliveries")
            );
        }
    }
}

impl Drop for Town {
    fn drop(&mut self) {
        if let Some(database) = self.database.take() {
            database.stop();
        }
    }
}

async fn lake_rows(root: &Path, all: &mut BTreeMap<String, Vec<String>>) {
    let lake = Lake::open(&root.display().to_string()).unwrap();
    for file in lake.files().await.unwrap() {
        let (_, reader) = lake.rows(&file).await.unwrap().unwrap();
        let rows = all.entry(format!("lake/{}", file.dataset)).or_default();
        for batch in reader {
            let mut out = Vec::new();
            let mut writer = arrow::json::LineDelimitedWriter::new(&mut out);
            writer.write(&batch.unwrap()).unwrap();
            writer.finish().unwrap();
            rows.extend(String::from_utf8(out).unwrap().lines().map(str::to_lowercase));
        }
    }
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                // As it lies there: what is not Parquet, and what Parquet keeps beside its rows.
                let bytes = std::fs::read(&path).unwrap();
                let place = path.strip_prefix(root).unwrap().display().to_string();
                all.insert(format!("file {place}"), vec![String::from_utf8_lossy(&bytes).to_lowercase()]);
            }
        }
    }
}

/// A guest of OwnerRez whose name and phone nobody else has, with the most bookings.
fn somebody(town: &Town) -> Value {
    town.rows(
        "select g.guest_id, g.name, g.email, g.phone, split_part(g.name, ' ', 1) as first, split_part(g.name, ' ', 2) as last \
         from serving.guests g join core.source_guests s on lower(s.email) = g.email and s.connection = 'ownerrez' \
         where g.phone is not null and g.name like '% %' \
           and not exists (select from core.source_guests o where (o.name = g.name or o.phone = g.phone) \
             and lower(o.email) <> g.email) \
           and not exists (select from core.source_bookings o where o.guest_name = g.name and lower(o.guest_email) <> g.email) \
           and not exists (select from core.residents r where r.phone = g.phone) \
         order by g.bookings desc, g.guest_id limit 1",
    )
    .remove(0)
}

fn words(person: &Value) -> Vec<String> {
    let text = |name: &str| person[name].as_str().unwrap().to_lowercase();
    vec![text("email"), text("name"), text("phone").trim_start_matches("+1").to_owned()]
}

fn booking(id: &str, person: &Value, day: &str, until: &str, wish: &str) -> Value {
    json!({
        "booking_id": id, "platform": "direct", "property_id": "P-0000", "guest_name": person["name"],
        "guest_email": person["email"], "guest_phone": person["phone"], "check_in": day, "check_out": until,
        "guest_count": 2, "booking_status": "confirmed", "total_amount": "612.50", "currency": "USD",
        "special_requests": wish,
    })
}

#[test]
fn an_operator_erases_a_person_and_nothing_is_left_anywhere() {
    let mut town = Town::new("lake");
    for (vendor, variables) in [("resman", 6), ("ownerrez", 5), ("hostaway", 5)] {
        town.vendor(vendor, variables);
    }
    for pipeline in ["resman_residents", "ownerrez_bookings", "hostaway_bookings", "resman_people"] {
        town.ok(&["run", pipeline]);
    }
    let person = somebody(&town);
    let (email, words) = (person["email"].as_str().unwrap().to_owned(), words(&person));
    let other = json!({ "name": "Olga Other", "email": "olga@home.example", "phone": "+12125550199" });

    // By webhook and chatbot too: bookings, one of them refused, a contact who wants no mail, somebody who mentions them.
    let (server, address) = town.serve();
    town.book(&address, "w-1", &booking("own-1", &person, "2031-07-03", "2031-07-05", "a cot"));
    town.book(&address, "w-2", &booking("own-2", &person, "2031-07-09", "2031-07-01", "none"));
    let wish = format!("a room beside {email}");
    town.book(&address, "w-3", &booking("own-3", &other, "2031-08-03", "2031-08-05", &wish));
    let key = town.ok(&["keys", "create", "--role", "chatbot"]).trim().to_owned();
    let bearer = format!("Bearer {key}");
    let contact = |who: &Value, message: &str| {
        let interaction = json!({ "type": "chat", "timestamp": "2026-06-01T11:59:00Z", "message": message });
        json!({ "contact_data": {
            "first_name": who["name"].as_str().unwrap().split(' ').next(), "email": who["email"],
            "last_name": who["name"].as_str().unwrap().split(' ').nth(1), "phone": who["phone"],
            "property_id": "P-0000", "source": "chatbot", "initial_interaction": interaction,
        } })
    };
    let contacts = format!("{address}/api/resman/contacts");
    let hello = format!("hello, {} here, two bedrooms please", person["name"].as_str().unwrap());
    let headers = [("authorization", bearer.as_str()), ("idempotency-key", "once")];
    let made = town.post(&contacts, &headers, &contact(&person, &hello));
    let id = made["contact_id"].as_str().unwrap().to_owned();
    town.post(&format!("{contacts}/{id}/opt-out"), &headers[..1], &json!({ "type": "email" }));
    town.post(&contacts, &headers[..1], &contact(&other, &format!("{email} recommended you")));
    town.until("select count(*) = 3 as done from ops.deliveries where state <> 'received'");
    town.until("select count(*) > 0 as done from sync.contact_enrichment_log");
    town.stop(server);
    town.ok(&["map", "intake", "P-0000", "P-0000"]);
    town.ok(&["work", "--once"]);

    let before = town.traces(&words);
    for place in [
        "core.bookings",
        "core.guests",
        "core.source_guests",
        "core.source_bookings",
        "sync.contacts",
        "sync.interactions",
        "sync.outbox",
        "ops.deliveries",
        "ops.rejects",
        "lake/bookings",
        "lake/guests",
        "lake/source_guests",
    ] {
        assert!(before.contains(place), "{place} is not among {before:?}");
    }

    // What an operator may get wrong changes nothing.
    let stored = town.stored();
    let erase = ["gdpr", "erase", "--email", &email];
    assert!(town.ends(2, &erase).contains("cannot be taken back"));
    assert!(town.ends(2, &["gdpr", "erase", "--yes"]).contains("nobody is named"));
    assert!(town.ends(2, &["gdpr", "erase", "--email", "nobody@home.example", "--yes"]).contains("nobody with this"));
    assert!(town.ends(2, &["gdpr", "lift", "--email", &email]).contains("was erased"));
    let mut elsewhere = town.command(&[&erase[..], &["--yes"]].concat());
    let output = elsewhere.env("PROPFLOW_LAKE", town.home.path().join("no-lake")).output().unwrap();
    assert!(output.status.code() == Some(2) && town.logged().contains("no-lake` of pipeline"), "a lake is missing");
    let planned = town.ok(&[&erase[..], &["--dry-run"]].concat());
    assert!(planned.contains("nothing was changed") && planned.contains("lake/guests"), "{planned}");
    assert_eq!(town.stored(), stored);

    // A copy for the person, readable for the operator only, and of nobody else.
    let out = town.home.path().join("export.json");
    town.ok(&["gdpr", "export", "--email", &email, "--out", &out.display().to_string()]);
    use std::os::unix::fs::PermissionsExt;
    assert_eq!(std::fs::metadata(&out).unwrap().permissions().mode() & 0o777, 0o600);
    let export = std::fs::read_to_string(&out).unwrap();
    assert!(export.contains(&email) && !export.contains("\"olga@home.example\""), "{export}");
    std::fs::remove_file(&out).unwrap();

    let done: Value = serde_json::from_str(&town.ok(&[&erase[..], &["--yes", "--json"]].concat())).unwrap();
    assert!(done["erased"] == true && done["rows"]["sync.contacts"] == 1, "{done}");
    assert_eq!(done["not_reached"], json!([]), "settlings have run here, and have no lake of their own");
    assert_eq!(town.traces(&words), BTreeSet::new());
    let again = town.ok(&[&erase[..], &["--yes"]].concat());
    assert!(again.contains("erased on ") && again.contains("already"), "{again}");
    // The nights and the books stay, and so does everybody else.
    let kept = town
        .rows("select total_amount::text, guest_name, occupies from core.bookings where source_booking_id = 'own-1'");
    assert_eq!(kept, [json!({ "total_amount": "612.50", "guest_name": null, "occupies": true })]);
    let olga = town.rows("select special_requests as r from core.bookings where source_booking_id = 'own-3'");
    assert_eq!(olga, [json!({ "r": "a room beside [erased]" })]);
    assert_eq!(town.rows("select count(*) as n from sync.contacts where email = 'olga@home.example'")[0]["n"], 1);

    // Vendors bring them again: still nowhere. Until that is lifted.
    town.ok(&AGAIN);
    assert_eq!(town.traces(&words), BTreeSet::new());
    let (server, address) = town.serve();
    let contacts = format!("{address}/api/resman/contacts");
    let made = town.post(&contacts, &headers[..1], &contact(&person, "me again"));
    let opted = town.rows(&format!(
        "select email_opt_out as e, text_opt_out as t from sync.contacts where id = '{}'",
        made["contact_id"].as_str().unwrap()
    ));
    assert_eq!(opted, [json!({ "e": true, "t": false })], "they come by themselves, and still get no mail");
    town.stop(server);
    assert!(town.ok(&["gdpr", "lift", "--email", &email]).contains("stored again"));
    town.ok(&AGAIN);
    assert!(town.traces(&words).contains("core.source_guests"));

    town.logs_are_clean(&words);
}

#[test]
fn a_connection_that_an_operator_revokes_pulls_nothing_and_keeps_its_nights() {
    let mut town = Town::new("lake");
    for (vendor, variables) in [("ownerrez", 5), ("hostaway", 5)] {
        town.vendor(vendor, variables);
    }
    // What no pipeline of this town asks for: they have to be there for the files to be sound.
    for name in ["RESMAN_PARTNER_ID", "RESMAN_API_KEY", "RESMAN_ACCOUNT_ID"] {
        town.environment.push((name.to_owned(), "x".to_owned()));
    }
    town.ok(&["run", "ownerrez_bookings"]);
    town.ok(&["run", "hostaway_bookings"]);
    let addresses: Vec<String> = town
        .rows("select distinct lower(email) as e from core.source_guests where connection = 'ownerrez' and email is not null")
        .iter()
        .map(|row| row["e"].as_str().unwrap().to_owned())
        .collect();
    assert!(addresses.len() > 5 && town.traces(&addresses).contains("lake/guests"));
    let nights = "select property_id, day, state from core.calendar_days where deleted_at is null order by 1, 2";
    let taken = town.rows(nights);

    assert!(town.ends(2, &["connections", "revoke", "ownerez"]).contains("`ownerrez`"));
    assert!(town.ends(2, &["connections", "purge", "ownerrez"]).contains("no stopped connection"));
    let mut elsewhere = town.command(&["connections", "revoke", "ownerrez"]);
    let output = elsewhere.env("PROPFLOW_LAKE", town.home.path().join("no-lake")).output().unwrap();
    assert!(output.status.code() == Some(2) && town.logged().contains("no-lake` of pipeline"), "a lake is missing");
    // It is stopped even so.
    let told = town.ends(2, &["run", "ownerrez_bookings"]);
    assert!(told.contains("is stopped") && told.contains("--resume ownerrez"), "{told}");
    let told: Value = serde_json::from_str(&town.ok(&["connections", "revoke", "ownerrez", "--json"])).unwrap();
    assert!(told["revoked"] == true && told["purged"].as_u64() > Some(50), "{told}");
    assert!(town.ok(&["connections", "revoke", "ownerrez"]).contains("purged: 0 rows"));
    assert!(town.ok(&["connections", "purge", "ownerrez"]).contains("purged: 0 rows"));
    let listed: Value = serde_json::from_str(&town.ok(&["connections", "list", "--json"])).unwrap();
    assert!(listed[0]["revoked"] == true && listed[0]["purged_at"].is_string(), "{listed}");

    let left = |town: &Town| -> Vec<String> {
        // Guests of whom the other connection tells too are its guests.
        let known = town
            .rows("select distinct lower(guest_email) as e from core.source_bookings where connection = 'hostaway'");
        let known: Vec<&str> = known.iter().filter_map(|row| row["e"].as_str()).collect();
        addresses.iter().filter(|a| !known.contains(&a.as_str())).cloned().collect()
    };
    let theirs = left(&town);
    assert!(theirs.len() > 3 && town.traces(&theirs).is_empty(), "{:?}", town.traces(&theirs));
    town.ok(&["run", "hostaway_bookings"]);
    assert!(town.traces(&theirs).is_empty());
    assert_eq!(town.rows(nights), taken);
    assert!(town.ends(2, &["run", "ownerrez_bookings"]).contains("is stopped"));

    assert!(town.ok(&["connections", "--resume", "ownerrez"]).contains("in use again"));
    town.ok(&AGAIN);
    assert!(town.traces(&theirs).contains("core.guests"));
    town.logs_are_clean(&addresses);
}

/// What a bucket holds, row by row, and its other objects as they are.
fn in_bucket(town: &Town, bucket: &Bucket) -> BTreeMap<String, String> {
    let folder = tempfile::tempdir().unwrap();
    let mut all = BTreeMap::new();
    for key in bucket.keys() {
        let path = folder.path().join(&key);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bucket.object(&key).unwrap()).unwrap();
    }
    for lake in ["live", "own"] {
        let mut rows = BTreeMap::new();
        if folder.path().join(lake).exists() {
            town.runtime.block_on(lake_rows(&folder.path().join(lake), &mut rows));
        }
        for (place, rows) in rows {
            for (n, row) in rows.into_iter().enumerate() {
                // Rewritten files differ as files; what their rows say is compared.
                if !place.ends_with(".parquet") {
                    all.insert(format!("{lake} {place} {n}"), row);
                }
            }
        }
    }
    all
}

#[test]
fn a_lake_on_s3_loses_the_person_and_no_other_row_however_often_its_rewriting_is_killed() {
    let mut town = Town::new("s3://harbor-lake/live");
    let bucket = town.runtime.block_on(Bucket::start(BucketOptions::default())).unwrap();
    town.environment.extend(bucket.environment().map(|(n, v)| (n.to_owned(), v)));
    town.vendor("ownerrez", 5);
    for name in
        ["RESMAN_PARTNER_ID", "RESMAN_API_KEY", "RESMAN_ACCOUNT_ID", "HOSTAWAY_ACCOUNT_ID", "HOSTAWAY_CLIENT_SECRET"]
    {
        town.environment.push((name.to_owned(), "x".to_owned()));
    }
    town.ok(&["run", "ownerrez_bookings"]);
    let person = somebody(&town);
    let (email, words) = (person["email"].as_str().unwrap().to_owned(), words(&person));
    // A file that holds nobody else goes as a whole.
    let page = json!([{ "id": 1, "mail": email }]).to_string();
    let api = town.runtime.block_on(one_page(page));
    town.home.write(
        "api.toml",
        &format!(
            "base_url = \"http://{api}\"\n[[streams]]\nname = \"friends\"\npath = \"friends\"\nkey = [\"id\"]\n\
             columns = [{{ name = \"id\", type = \"int\" }}, {{ name = \"mail\", type = \"text\" }}]\n"
        ),
    );
    town.ok(&["copy", "rest:api.toml", "parquet:s3://harbor-lake/own"]);
    let before = in_bucket(&town, &bucket);
    let names = |text: &String| words.iter().any(|w| text.contains(w.as_str()));
    assert!(before.values().filter(|t| names(t)).count() > 5, "the person is in the lake");
    assert!(bucket.keys().iter().any(|k| k.starts_with("own/friends/")));

    // Killed while a file is put, when it is put and nobody has been told, and while and behind the removal of a file.
    let erase = ["gdpr", "erase", "--email", &email, "--lake", "s3://harbor-lake/own", "--yes"];
    for (call, calls_before, done) in [
        ("PUT", 0, true),
        ("POST", 1, false),
        ("POST", 1, true),
        ("POST", 3, true),
        ("DELETE", 0, false),
        ("DELETE", 0, true),
    ] {
        bucket.hang(call, calls_before, done);
        let mut child = town.command(&erase).spawn().unwrap();
        let hung = town.runtime.block_on(async { tokio::time::timeout(Duration::from_secs(30), bucket.hung()).await });
        assert!(hung.is_ok(), "no {call} came");
        child.kill().unwrap();
        child.wait().unwrap();
        // Whoever reads meanwhile finds every file whole.
        assert!(in_bucket(&town, &bucket).len() + 20 > before.len());
    }
    let done = town.ok(&erase);
    assert!(done.contains("erased;"), "{done}");
    let after = in_bucket(&town, &bucket);
    assert_eq!(after.iter().filter(|(_, t)| names(t)).collect::<Vec<_>>(), []);
    assert!(town.traces(&words).is_empty());
    assert!(!bucket.keys().iter().any(|k| k.starts_with("own/friends/")), "{:?}", bucket.keys());
    let guest = person["guest_id"].as_str().unwrap();
    let rows: BTreeSet<&String> = after.values().collect();
    for (place, row) in before.iter().filter(|(_, row)| !names(row) && !row.contains(guest)) {
        let theirs = place.contains("source_") || place.contains("bookings");
        assert!(rows.contains(row) || theirs, "{place} has lost {row}");
    }
    let others = |all: &BTreeMap<String, String>| all.values().filter(|r| r.contains("mail.example")).count();
    let hers = before.values().filter(|r| r.contains(&email)).count();
    assert_eq!(others(&after), others(&before) - hers);
    let counted = "select count(*) > 10 as some from source_bookings";
    assert!(town.ok(&["sql", "--lake", "s3://harbor-lake/live", counted]).contains("true"));
    town.logs_are_clean(&words);
}

/// Answers every call with this.
async fn one_page(body: String) -> std::net::SocketAddr {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut asked = [0; 4096];
            let _ = stream.read(&mut asked).await;
            let length = body.len();
            let answer = format!(
                "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}"
            );
            let _ = stream.write_all(answer.as_bytes()).await;
        }
    });
    address
}

/// Every command that needs the database, with a server that is not there.
#[test]
fn a_database_that_cannot_be_reached_is_told_at_once_with_its_address() {
    let home = Home::new();
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    for arguments in [
        &["sql", "--db", "select 1"][..],
        &["status"],
        &["rejects"],
        &["migrate"],
        &["work", "--once"],
        &["serve", "--listen", "127.0.0.1:0"],
        &["keys", "list"],
        &["connections"],
        &["gdpr", "export", "--email", "a@home.example"],
        &["outbox"],
        &["jobs"],
        &["map"],
        &["services"],
        &["deliveries"],
        &["replay", "--delivery", "1"],
    ] {
        let began = std::time::Instant::now();
        let mut command = home.command(arguments);
        let output: Output = command.env("DATABASE_URL", format!("postgres://u:hunter2@{closed}/x")).output().unwrap();
        let text = said(&output);
        assert_eq!(output.status.code(), Some(4), "{arguments:?}: {text}");
        assert!(
            text.contains(&format!("PostgreSQL at `{closed}`")) && !text.contains("hunter2"),
            "{arguments:?}: {text}"
        );
        assert!(text.contains("hint: ") && text.contains("`DATABASE_URL`"), "{arguments:?}: {text}");
        assert!(began.elapsed() < Duration::from_secs(8), "{arguments:?} took {:?}", began.elapsed());
    }
}
