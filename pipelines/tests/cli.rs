//! The program from the outside: what a person types, sees, and gets as an exit code.
//!
//! These tests stand here and not in `tests/`, because cargo builds the program only for tests of its own package. Runs
//! use `DATABASE_URL` when it is set, in a database of their own; else the private server that the program starts.

#![allow(clippy::unwrap_used, reason = "in a test, that is how a wrong turn ends")]

#[path = "cli/privacy.rs"]
mod privacy;
#[path = "cli/trouble.rs"]
mod trouble;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection};
use tempfile::TempDir;

const PROPFLOW: &str = env!("CARGO_BIN_EXE_propflow");

/// A folder that a private server's user can enter, and commands that live in it.
struct Home {
    dir: TempDir,
    /// The server of `DATABASE_URL`, and a database on it that is this test's own.
    database: Option<(String, String)>,
}

/// Runs one statement on a server.
fn execute(url: &str, sql: String) {
    tokio::runtime::Runtime::new().unwrap().block_on(async {
        let mut connection = PgConnection::connect(url).await.unwrap();
        connection.execute(AssertSqlSafe(sql)).await.unwrap();
        connection.close().await.unwrap();
    });
}

impl Home {
    fn new() -> Self {
        let dir = tempfile::Builder::new().prefix("pf").tempdir().unwrap();
        std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
        let database = std::env::var("DATABASE_URL").ok().map(|server| {
            let name = format!("propflow_cli_{}", uuid::Uuid::now_v7().simple());
            execute(&server, format!("create database {name}"));
            (server, name)
        });
        Self { dir, database }
    }

    fn path(&self) -> &Path {
        self.dir.path()
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(PROPFLOW);
        command.args(arguments).current_dir(self.path()).env("PROPFLOW_HOME", self.path().join("home"));
        command.env_remove("DATABASE_URL").env_remove("PROPFLOW_SPECS").stdin(Stdio::null());
        if let Some((server, name)) = &self.database {
            let mut url = url::Url::parse(server).unwrap();
            url.set_path(name);
            command.env("DATABASE_URL", url.as_str());
        }
        command
    }

    fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    /// Runs a command that must succeed, and gives its standard output.
    fn ok(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    /// Runs a command that must end with a code, and gives its standard error.
    fn fails(&self, code: i32, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {text}");
        assert!(!text.contains("panicked") && !text.contains("RUST_BACKTRACE"), "{text}");
        assert!(text.starts_with("error: "), "{text}");
        text
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        if let Some((server, name)) = &self.database {
            execute(server, format!("drop database if exists {name} with (force)"));
        }
    }
}

/// A simulated vendor in a process of its own, and the environment that points the program at it.
struct Simulated {
    child: Child,
    environment: Vec<(String, String)>,
}

impl Simulated {
    fn resman(arguments: &[&str]) -> Self {
        Self::start("resman", 6, arguments)
    }

    /// One that prints so many lines of variables.
    fn start(vendor: &str, variables: usize, arguments: &[&str]) -> Self {
        let mut command = Command::new(PROPFLOW);
        command.args(["simulate", vendor]).args(arguments).stdout(Stdio::piped()).stdin(Stdio::null());
        let mut child = command.spawn().unwrap();
        let mut environment = Vec::new();
        for line in BufReader::new(child.stdout.take().unwrap()).lines() {
            if let Some((name, value)) = line.unwrap().strip_prefix("export ").and_then(|l| l.split_once('=')) {
                environment.push((name.to_owned(), value.trim_matches('\'').to_owned()));
            }
            if environment.len() == variables {
                break;
            }
        }
        Self { child, environment }
    }

    fn command(&self, home: &Home, arguments: &[&str]) -> Command {
        let mut command = home.command(arguments);
        command.envs(self.environment.iter().map(|(n, v)| (n, v)));
        command
    }
}

impl Drop for Simulated {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn simulated_channels_keep_to_their_options() {
    let get = |url: &str| {
        let url = url::Url::parse(url).unwrap();
        let mut stream = TcpStream::connect(("127.0.0.1", url.port().unwrap())).unwrap();
        let path = &url[url::Position::BeforePath..];
        write!(stream, "GET {path} HTTP/1.1\r\nhost: x\r\nuser-agent: Mozilla/5.0\r\nconnection: close\r\n\r\n")
            .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    };
    let guesty = Simulated::start("guesty", 4, &["--properties", "1", "--latency-ms", "150"]);
    let began = Instant::now();
    assert!(get(&format!("{}/listings", guesty.environment[0].1)).starts_with("HTTP/1.1 401"));
    assert!(began.elapsed() >= Duration::from_millis(150));
    let events = ["1", "9"].map(|stays| {
        let calendars = Simulated::start("calendars", 2, &["--properties", "1", "--units", stays]);
        let (_, feed) = calendars.environment[1].1.split_once("AIRBNB_FEED_1='").unwrap();
        get(feed).matches("BEGIN:VEVENT").count()
    });
    assert!(events[0] < events[1], "{events:?}");
}

#[test]
fn a_feed_is_copied_and_asked_in_sql_without_a_database() {
    let home = Home::new();
    home.ok(&["generate", "mits", "feed.xml", "--properties", "2", "--units", "15"]);
    let text = home.ok(&["copy", "mits:feed.xml", "parquet:out/"]);
    assert!(text.contains("succeeded") && text.contains("floorplans"), "{text}");
    let csv = home.ok(&["sql", "--lake", "out", "--format", "csv", "select count(*) as n from properties"]);
    assert_eq!(csv, "n\n2\n");
    let json = home.ok(&["sql", "--lake", "out", "--format", "json", "select count(*) > 10 as many from units"]);
    assert_eq!(json.split_whitespace().collect::<String>(), "[{\"many\":true}]");
    // Once more: the same rows, not twice.
    home.ok(&["copy", "mits:feed.xml", "parquet:out/"]);
    assert_eq!(home.ok(&["sql", "--lake", "out", "--format", "csv", "select count(*) as n from properties"]), "n\n2\n");
}

#[test]
fn a_copy_says_what_it_refused_and_keeps_it() {
    let home = Home::new();
    home.ok(&["generate", "mits", "feed.xml", "--properties", "1", "--units", "6"]);
    let feed = std::fs::read_to_string(home.path().join("feed.xml")).unwrap();
    let start = feed.find("<ILS_Unit").unwrap() + feed[feed.find("<ILS_Unit").unwrap()..].find("<MarketRent>").unwrap();
    let end = start + feed[start..].find("</MarketRent>").unwrap();
    home.write("odd.xml", &format!("{}<MarketRent>-1{}", &feed[..start], &feed[end..]));
    let text = home.ok(&["copy", "mits:odd.xml", "parquet:out", "--rejects", "rejects.jsonl"]);
    assert!(text.contains("is negative"), "{text}");
    let kept = std::fs::read_to_string(home.path().join("rejects.jsonl")).unwrap();
    assert!(kept.lines().count() > 0 && kept.contains("\"kind\":\"value\""), "{kept}");
    // The unit is there, its rent is unknown and not free.
    let rents =
        home.ok(&["sql", "--lake", "out", "--format", "csv", "select count(*) as n from units where market_rent <= 0"]);
    assert_eq!(rents, "n\n0\n");
}

#[test]
fn files_are_tables_and_functions_are_there() {
    let home = Home::new();
    home.write("people.csv", "name,phone\nAda Example,(251) 555-0142\nNo Phone,\n");
    home.write(
        "people.jsonl",
        "{\"name\":\"Ada Example\",\"rent\":\"$1,234.50\"}\n{\"name\":\"x\",\"rent\":\"N/A\"}\n",
    );
    let csv = home.ok(&[
        "sql",
        "--format",
        "csv",
        "select phone_e164(phone, 'US') as p from 'people.csv' order by p nulls last",
    ]);
    assert_eq!(csv, "p\n+12515550142\n\"\"\n".replace("\"\"", ""));
    let csv = home.ok(&["sql", "--format", "csv", "select money(rent) as m from 'people.jsonl' order by m nulls last"]);
    assert!(csv.starts_with("m\n1234.50\n"), "{csv}");
}

#[test]
fn mistakes_in_sql_are_answered_with_what_there_is() {
    let home = Home::new();
    home.ok(&["generate", "mits", "feed.xml", "--properties", "1", "--units", "5"]);
    home.ok(&["copy", "mits:feed.xml", "parquet:out/"]);
    let text = home.fails(2, &["sql", "--lake", "out", "select * from unit"]);
    assert!(text.contains("`units`"), "{text}");
    home.fails(2, &["sql", "--lake", "out", "drop table units"]);
    home.fails(2, &["sql", "--lake", "nowhere", "select 1"]);
    home.fails(2, &["sql", "select * from 'missing.parquet'"]);
    home.fails(2, &["sql", "selec 1"]);
}

#[test]
fn every_problem_of_every_file_is_reported_at_once() {
    let home = Home::new();
    home.write(
        "specs/a.toml",
        "name = \"a\"\nabout = \"x\"\nshedule = 1\n[source]\nconnector = \"mist\"\nstream = \"feed\"\n[[sinks]]\nsink = \"postgers\"\n",
    );
    home.write(
        "specs/b.toml",
        "name = \"b\"\nabout = \"x\"\n[source]\nconnector = \"mits\"\nstream = \"feed\"\nsettings.path = \"${NOT_SET_ANYWHERE}\"\n\
         [[sinks]]\nsink = \"parquet\"\nsettings.path = \"lake\"\n[schedule]\ncron = [\"61 * * * *\"]\nzone = \"Mars/Base\"\n",
    );
    home.write("specs/c.toml", "name = [");
    let text = home.fails(2, &["check", "--specs", "specs"]);
    for part in [
        "shedule",
        "`schedule`",
        "`mist`",
        "`mits`",
        "postgers",
        "`postgres`",
        "NOT_SET_ANYWHERE",
        "Mars/Base",
        "61 * * * *",
        "c.toml",
    ] {
        assert!(text.contains(part), "`{part}` is not in:\n{text}");
    }
}

#[test]
fn bad_feeds_are_refused_with_what_and_where() {
    let home = Home::new();
    home.ok(&["generate", "mits", "good.xml", "--properties", "2", "--units", "5"]);
    let good = std::fs::read_to_string(home.path().join("good.xml")).unwrap();
    home.write("cut.xml", &good[..good.len() / 2]);
    home.write("page.xml", "<!doctype html><html><body>Sign in</body></html>");
    home.write("empty.xml", "");
    let bomb: String = (1..30).map(|i| format!("<!ENTITY a{i} \"&a{};&a{};\">", i - 1, i - 1)).collect();
    home.write(
        "bomb.xml",
        &format!("<!DOCTYPE x [<!ENTITY a0 \"boom\">{bomb}]><PhysicalProperty>&a29;</PhysicalProperty>"),
    );
    for name in ["cut.xml", "page.xml", "empty.xml", "bomb.xml", "missing.xml"] {
        let output = home.run(&["copy", &format!("mits:{name}"), "parquet:out/"]);
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(matches!(output.status.code(), Some(2..=4)), "{name}: {:?} {text}", output.status.code());
        assert!(text.starts_with("error: ") && !text.contains("panicked"), "{name}: {text}");
    }
    home.fails(2, &["copy", "mits:good.xml", "parquet:/dev/null/lake"]);
    home.fails(2, &["copy", "mist:good.xml", "parquet:out/"]);
    home.fails(2, &["copy", "good.xml", "parquet:out/"]);
    for calendar in ["missing.ics", "ftp://site.example/a.ics", "http://169.254.169.254/a.ics"] {
        let told = home.fails(2, &["copy", &format!("ical:{calendar}"), "parquet:out/"]);
        assert!(told.contains("Name a file") || told.contains("allow_private"), "{calendar}: {told}");
    }
}

#[test]
fn a_run_that_is_killed_goes_on_and_its_books_are_true() {
    let home = Home::new();
    let vendor = Simulated::resman(&["--properties", "4", "--units", "10", "--latency-ms", "15"]);
    // The whole pull takes about a second; it is killed again and again, each time as soon as its first slice is in.
    let lake = home.path().join("lake");
    let mut child = vendor
        .command(&home, &["run", "resman_inventory"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let began = Instant::now();
    while !lake.join("units").exists()
        && child.try_wait().unwrap().is_none()
        && began.elapsed() < Duration::from_secs(60)
    {
        std::thread::yield_now();
    }
    child.kill().unwrap();
    child.wait().unwrap();
    let output = vendor.command(&home, &["run", "resman_inventory", "--json"]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let json = String::from_utf8(vendor.command(&home, &["status", "--json"]).output().unwrap().stdout).unwrap();
    let runs: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(runs.as_array().unwrap().len(), 1, "the second run went on with the first: {runs}");
    assert_eq!(runs[0]["status"], "succeeded");
    assert_eq!(
        home.ok(&["sql", "--lake", "lake", "--format", "csv", "select count(distinct property_id) as n from units"]),
        "n\n4\n"
    );
    let none = home.ok(&["rejects"]);
    assert!(none.contains("no open rejects"), "{none}");
}

/// Settings of the connector `rest` for the simulated API.
fn rest_settings(base_url: &str) -> String {
    let column = |name: &str, kind: &str| format!("{{ name = \"{name}\", type = \"{kind}\" }}, ");
    format!(
        "base_url = \"{base_url}\"\nlimits = {{ calls_per_sec = 100000, burst = 1000 }}\n[[streams]]\nname = \"stays\"\n\
         path = \"v1/bookings/page\"\nrecords = \"data.items\"\nkey = [\"id\"]\n\
         paginator = {{ kind = \"page_number\", size_param = \"size\", size = 50, pages = \"meta.pages\" }}\n\
         incremental = {{ field = \"updated_at\", param = \"updated_since\", lag_secs = 1 }}\ncolumns = [{}{}{}]\n",
        column("id", "int"),
        column("guest_name", "text"),
        column("total", "money")
    )
}

#[test]
fn a_copy_of_an_api_that_is_killed_fetches_at_most_two_pages_again() {
    use fixtures::rest::{Options, Simulator};
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let home = Home::new();
    let lake = format!("parquet:{}", home.path().join("lake").display());
    let mut database = home.command(&["db"]).stdout(Stdio::piped()).spawn().unwrap();
    let url = match &home.database {
        Some((server, name)) => {
            let mut url = url::Url::parse(server).unwrap();
            url.set_path(name);
            String::from(url)
        }
        None => {
            let mut line = String::new();
            BufReader::new(database.stdout.take().unwrap()).read_line(&mut line).unwrap();
            line.trim().strip_prefix("DATABASE_URL=").unwrap().to_owned()
        }
    };
    for to in [lake.as_str(), &url] {
        let options = Options { page_size: 50, latency: Duration::from_millis(2), ..Options::default() };
        let server = runtime.block_on(Simulator::start(2000, 1, options)).unwrap();
        home.write("stays.toml", &rest_settings(&server.base_url()));
        let mut child =
            home.command(&["copy", "rest:stays.toml", to]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let began = Instant::now();
        while server.calls().len() < 15
            && child.try_wait().unwrap().is_none()
            && began.elapsed() < Duration::from_secs(60)
        {
            std::thread::yield_now();
        }
        child.kill().unwrap();
        child.wait().unwrap();
        let text = home.ok(&["copy", "rest:stays.toml", to]);
        let again = server.calls().len() as i64 - 40;
        assert!((0..=2).contains(&again), "{again} pages were fetched again into {to}: {text}");
        server.forget();
        // What is there is whole: the next copy reads the last changes only.
        let text = home.ok(&["copy", "rest:stays.toml#stays", to]);
        let calls = server.calls().len();
        assert!((1..=2).contains(&calls), "{calls} calls: {text}");
    }
    assert_eq!(
        home.ok(&[
            "sql",
            "--lake",
            "lake",
            "--format",
            "csv",
            "select count(*) as n, count(distinct id) as m from stays"
        ]),
        "n,m\n2000,2000\n"
    );
    let _ = Command::new("kill").args(["-INT", &database.id().to_string()]).status();
    database.wait().unwrap();
}

#[test]
fn a_vendor_that_refuses_or_is_away_has_its_exit_code_and_no_secret_is_shown() {
    let home = Home::new();
    let vendor = Simulated::resman(&["--properties", "1", "--units", "3"]);
    let output =
        vendor.command(&home, &["run", "resman_inventory"]).env("RESMAN_API_KEY", "hunter2-wrong").output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{text}");
    assert!(!text.contains("hunter2-wrong") && text.contains("hint: "), "{text}");
    let output = vendor.command(&home, &["check"]).env_remove("RESMAN_API_KEY").output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2));
    assert!(text.contains("RESMAN_API_KEY"), "{text}");
}

#[test]
fn ctrl_c_ends_the_slice_and_the_next_run_goes_on() {
    let home = Home::new();
    let vendor = Simulated::resman(&["--properties", "5", "--units", "5", "--latency-ms", "20"]);
    let mut child = vendor
        .command(&home, &["run", "resman_inventory"])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let lake = home.path().join("lake");
    let began = Instant::now();
    while !lake.exists() && child.try_wait().unwrap().is_none() && began.elapsed() < Duration::from_secs(60) {
        std::thread::yield_now();
    }
    let interrupted = Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(interrupted.success());
    let mut text = String::new();
    child.stdout.take().unwrap().read_to_string(&mut text).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(130), "{text}");
    assert!(text.contains("stopped cleanly"), "{text}");
    let output = vendor.command(&home, &["run", "resman_inventory"]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let json: serde_json::Value = serde_json::from_str(&home.ok(&["status", "--json"])).unwrap();
    assert_eq!(json.as_array().unwrap().len(), 1);
}

#[test]
fn documentation_is_what_the_catalog_says() {
    let home = Home::new();
    for page in ["serving", "datasets"] {
        let written = std::fs::read_to_string(format!("{}/../docs/{page}.md", env!("CARGO_MANIFEST_DIR"))).unwrap();
        assert_eq!(home.ok(&["docs", page]), written, "run `just docs`");
    }
}

#[test]
fn people_are_matched_in_files() {
    let home = Home::new();
    home.ok(&["generate", "people", "--rows", "900", "--seed", "3", "--out", "all.csv"]);
    let matched = ["match", "all.csv", "--truth", "person", "--out", "clusters.csv", "--json"];
    let told: serde_json::Value = serde_json::from_str(&home.ok(&matched)).unwrap();
    assert!(told["quality"]["f1"].as_f64().unwrap() > 0.9, "{told}");
    let read = |name: &str| std::fs::read_to_string(home.path().join(name)).unwrap();
    let clusters = read("clusters.csv");
    assert!(clusters.starts_with("id,cluster_id\n") && clusters.lines().count() == 901);
    assert_eq!(
        home.ok(&[
            "match",
            "all.csv",
            "--columns",
            "given_name=given_name,family_name=family_name,email=email,\
        phone=phone,birth_date=birth_date,street=street,city=city,state=state,postcode=postcode"
        ]),
        clusters
    );
    home.ok(&["match", "all.csv", "--out", "clusters.parquet"]);
    let counted = home.ok(&["sql", "select count(*) as n from 'clusters.parquet'", "--format", "csv"]);
    assert_eq!(counted, "n\n900\n");
    // Two rows of one person, explained without saying who it is.
    let pair = clusters.lines().skip(1).map(|l| l.split_once(',').unwrap()).find(|(a, b)| a != b).unwrap();
    let told = home.ok(&["match", "all.csv", "--explain", pair.0, pair.1]);
    assert!(told.contains("the records are in one cluster") && told.contains("before looking"), "{told}");
    // Known rows first, new ones later.
    let rows = read("all.csv");
    let (head, rest) = rows.split_once('\n').unwrap();
    let cut = rest.match_indices('\n').nth(699).unwrap().0 + 1;
    std::fs::write(home.path().join("old.csv"), format!("{head}\n{}", &rest[..cut])).unwrap();
    home.ok(&["match", "old.csv", "--state", "people.state"]);
    let added = home.ok(&["match", "all.csv", "--state", "people.state", "--out", "now.csv", "--json"]);
    let added: serde_json::Value = serde_json::from_str(&added).unwrap();
    assert_eq!((&added["known"], &added["added"]), (&serde_json::json!(700), &serde_json::json!(200)));
    assert_eq!(read("now.csv").lines().count(), 901);
    for (wrong, said) in [
        (&["match", "all.csv", "--id", "idd"][..], "Did you mean `id`?"),
        (&["match", "all.csv", "--columns", "email=emial"], "Did you mean `email`?"),
        (&["match", "all.csv", "--columns", "mail=email"], "Did you mean `email`?"),
        (&["match", "all.csv", "old.csv"], "700 ids occur more than once"),
        (&["match", "all.csv", "--out", "clusters.txt"], "`.csv` or `.parquet`"),
        (&["match", "all.csv", "--threshold", "7"], "is no probability"),
        (&["match", "none.csv"], "there is no file `none.csv`"),
        (&["match", "all.csv", "--explain", "1", "2"], "no record with one of the ids"),
    ] {
        let output = home.command(wrong).output().unwrap();
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.code() == Some(2) && text.contains(said), "{wrong:?}: {text}");
    }
}

/// `propflow serve` on a free port.
struct Serve {
    child: Child,
    address: String,
}

impl Serve {
    fn start(home: &Home, secret: &str) -> Self {
        let mut command = home.command(&["serve", "--listen", "127.0.0.1:0", "--specs", "specs"]);
        command.env("PROPFLOW_INTAKE_SECRET", secret).env("PROPFLOW_LAKE", home.path().join("lake"));
        let errors = home.path().join("serve.err");
        let stderr = std::fs::File::create(&errors).unwrap();
        let mut child = command.stdout(Stdio::piped()).stderr(stderr).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let Some((_, rest)) = line.split_once("http://") else {
            panic!("`{line}`: {}", std::fs::read_to_string(&errors).unwrap());
        };
        let address = rest.split(',').next().unwrap().to_owned();
        Self { child, address }
    }

    fn signal(&self, name: &str) {
        assert!(Command::new("kill").args([name, &self.child.id().to_string()]).status().unwrap().success());
    }
}

/// Sends signed bookings one after another until the server is gone, and gives the ids that were answered with a 2xx.
fn send(address: &str, secret: &catalog::SecretRef, name: &str, answered: &AtomicUsize) -> Vec<String> {
    use catalog::Clock;
    let mut ids = Vec::new();
    let Ok(mut stream) = TcpStream::connect(address) else { return ids };
    for n in 0..100_000 {
        let (id, body) = (format!("{name}-{n}"), format!("{{\"booking_id\": \"{name}-{n}\"}}"));
        let sent = catalog::SystemClock.now().timestamp();
        let signature = connectors::webhook::sign(secret, &id, sent, body.as_bytes()).unwrap();
        let request = format!(
            "POST /api/webhooks/booking-created HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\nwebhook-id: {id}\r\n\
             webhook-timestamp: {sent}\r\nwebhook-signature: {signature}\r\n\r\n{body}",
            body.len()
        );
        let mut answer = [0; 2048];
        let read = stream.write_all(request.as_bytes()).and_then(|()| stream.read(&mut answer));
        match read {
            Ok(read) if answer[..read].starts_with(b"HTTP/1.1 202") => {
                answered.fetch_add(1, Ordering::Relaxed);
                ids.push(id);
            }
            Ok(0) | Err(_) => return ids,
            Ok(read) => panic!("{}", String::from_utf8_lossy(&answer[..read])),
        }
    }
    ids
}

#[test]
fn a_delivery_that_was_answered_survives_the_kill_of_the_server() {
    let home = Home::new();
    let spec = include_str!("../specs/intake_bookings.toml");
    home.write("specs/intake_bookings.toml", spec);
    let key = "whsec_cHJvcGZsb3cgdGVzdHMgc2lnbiB3aXRoIHRoaXM=";
    home.write("secret", key);
    let secret = catalog::SecretRef::parse(&format!("file:{}", home.path().join("secret").display())).unwrap();
    let server = Serve::start(&home, key);
    let answered = AtomicUsize::new(0);
    let ids: Vec<String> = std::thread::scope(|scope| {
        let senders: Vec<_> = (0..8)
            .map(|n| {
                let (address, secret, answered) = (&server.address, &secret, &answered);
                scope.spawn(move || send(address, secret, &format!("s{n}"), answered))
            })
            .collect();
        while answered.load(Ordering::Relaxed) < 100 {
            std::thread::yield_now();
        }
        server.signal("-KILL");
        senders.into_iter().flat_map(|s| s.join().unwrap()).collect()
    });
    let mut server = server;
    server.child.wait().unwrap();
    assert!(ids.len() >= 100);

    let mut server = Serve::start(&home, key);
    let listed = |state: &[&str]| -> Vec<String> {
        let mut arguments = vec!["deliveries", "--json", "--limit", "1000000"];
        arguments.extend(state);
        let text = home.ok(&arguments);
        let id = |line: &str| {
            serde_json::from_str::<serde_json::Value>(line).unwrap()["delivery_id"].as_str().unwrap().to_owned()
        };
        text.lines().map(id).collect()
    };
    let kept = listed(&[]);
    let lost: Vec<_> = ids.iter().filter(|id| !kept.contains(id)).collect();
    assert!(lost.is_empty(), "answered and lost: {lost:?}");
    // The worker of the new server takes up what the old one left.
    let began = Instant::now();
    while listed(&["--state", "processed"]).len() < kept.len() {
        assert!(began.elapsed() < Duration::from_secs(120), "{}", home.ok(&["deliveries"]));
    }
    server.signal("-TERM");
    assert!(server.child.wait().unwrap().success(), "a server that is asked to end ends well");

    let made = home.ok(&["keys", "create", "--role", "chatbot", "--property", "P-1"]);
    assert!(made.starts_with("pf_"));
    let listed = home.ok(&["keys", "list"]);
    assert!(listed.contains(&made[..11]) && !listed.contains(made.trim()));
    home.ok(&["keys", "revoke", &made[..11]]);
    home.fails(2, &["keys", "revoke", &made[..11]]);
    home.fails(2, &["replay", "--delivery", "99999999"]);
}

#[test]
fn the_demo_ends_well_and_leaves_a_lake() {
    let home = Home::new();
    let told = home.ok(&["demo", "--properties", "2", "--units", "10", "--listings", "4", "--keep", "kept"]);
    // What went wrong inside ends the demo with an error; these say that each act was played.
    for act in ["noon pull", "none free that is taken", "deliveries processed, each once", "each once and in order"] {
        assert!(told.contains(act), "`{act}` is missing in\n{told}");
    }
    for dataset in ["units", "bookings"] {
        let counted = home.ok(&["sql", "--lake", "kept", &format!("select count(*) > 0 as some from {dataset}")]);
        assert!(counted.contains("true"), "{dataset}: {counted}");
    }
    examples_run_as_written(&home);
}

/// Every example of `docs/sql.md`, on the lake of the demo and some files.
fn examples_run_as_written(home: &Home) {
    std::fs::rename(home.path().join("kept"), home.path().join("lake")).unwrap();
    home.write("units.csv", "unit,rent\n1,990\n2,1200\n");
    home.write("people.jsonl", "{\"phone\":\"(251) 555-0142\"}\n");
    home.write("messages.csv", "text\n\"I love the pool, it is great!\"\nAre dogs allowed?\n");
    home.ok(&["generate", "people", "people.csv", "--rows", "30"]);
    std::fs::create_dir(home.path().join("exports")).unwrap();
    home.ok(&["match", "people.csv", "--out", "exports/clusters.parquet"]);
    let folder = Path::new(PROPFLOW).parent().unwrap();
    let path = format!("{}:{}", folder.display(), std::env::var("PATH").unwrap());
    let text = std::fs::read_to_string(format!("{}/../docs/sql.md", env!("CARGO_MANIFEST_DIR"))).unwrap();
    let blocks: Vec<&str> = text.split("```sh\n").skip(1).map(|rest| rest.split("```").next().unwrap()).collect();
    assert!(blocks.len() >= 5, "the examples are gone");
    for block in blocks {
        // The environment is that of any other command; only the program differs.
        let like = home.command(&[]);
        let mut shell = Command::new("bash");
        shell.args(["-e", "-c", block]).current_dir(home.path()).env_remove("DATABASE_URL").env("PATH", &path);
        for (name, value) in like.get_envs() {
            if let Some(value) = value {
                shell.env(name, value);
            }
        }
        let output = shell.stdin(Stdio::null()).output().unwrap();
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && !output.stdout.is_empty(), "{block}\n{told}");
    }
}
