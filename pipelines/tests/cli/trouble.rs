//! What goes wrong around a run, as the person meets it who typed the command.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use super::{Home, PROPFLOW, Simulated};

/// `propflow db`: a private server that can be stopped and started again.
pub(super) struct Database {
    child: Child,
    pub(super) url: String,
}

impl Database {
    pub(super) fn start(home: &Home) -> Self {
        let mut command = home.command(&["db"]);
        let mut child = command.env_remove("DATABASE_URL").stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let url = line.trim().strip_prefix("DATABASE_URL=").unwrap().to_owned();
        Self { child, url }
    }

    pub(super) fn stop(mut self) {
        assert!(Command::new("kill").args(["-INT", &self.child.id().to_string()]).status().unwrap().success());
        self.child.wait().unwrap();
    }
}

/// Waits until a run has put its first files into the lake, or has ended.
fn first_slice(home: &Home, child: &mut Child) {
    let began = Instant::now();
    while !home.path().join("lake/units").exists() && child.try_wait().unwrap().is_none() {
        assert!(began.elapsed() < Duration::from_secs(300), "no slice came");
        std::thread::sleep(Duration::from_millis(5));
    }
}

pub(super) fn said(output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!text.contains("panicked"), "{text}");
    text
}

#[test]
fn a_database_that_restarts_in_the_middle_of_a_run_costs_no_row() {
    let home = Home::new();
    let vendor = Simulated::resman(&["--properties", "6", "--units", "10", "--latency-ms", "20"]);
    let database = Database::start(&home);
    let url = database.url.clone();
    let run = || {
        let mut command = vendor.command(&home, &["run", "resman_inventory"]);
        command.env("DATABASE_URL", &url).stdout(Stdio::null()).stderr(Stdio::piped());
        command
    };
    let mut child = run().spawn().unwrap();
    first_slice(&home, &mut child);
    database.stop();
    let database = Database::start(&home);
    assert_eq!(database.url, url, "a server that is started again is found where it was");
    let output = child.wait_with_output().unwrap();
    let text = said(&output);
    assert!(matches!(output.status.code(), Some(0 | 4)), "{:?}: {text}", output.status.code());
    assert!(output.status.success() || text.contains("error: "), "{text}");

    let output = run().output().unwrap();
    assert!(output.status.success(), "{}", said(&output));
    let ask = |arguments: &[&str]| {
        let output = home.command(arguments).env("DATABASE_URL", &url).output().unwrap();
        assert!(output.status.success(), "{}", said(&output));
        String::from_utf8(output.stdout).unwrap()
    };
    let count = "select count(*) as n, count(distinct property_id || unit_number) as m from";
    let rows = ask(&["sql", "--db", "--format", "csv", &format!("{count} core.units where deleted_at is null")]);
    assert_eq!(rows, ask(&["sql", "--lake", "lake", "--format", "csv", &format!("{count} units")]));
    assert_eq!(rows, "n,m\n60,60\n");
    let runs: serde_json::Value = serde_json::from_str(&ask(&["status", "--json"])).unwrap();
    assert!(runs.as_array().unwrap().iter().any(|run| run["status"] == "succeeded"), "{runs}");
    assert!(runs.as_array().unwrap().iter().all(|run| run["status"] != "running"), "{runs}");
    database.stop();
}

#[test]
fn a_second_run_of_the_same_pipeline_is_refused_while_the_first_goes_on() {
    let home = Home::new();
    let vendor = Simulated::resman(&["--properties", "6", "--units", "5", "--latency-ms", "40"]);
    let run = || {
        let mut command = vendor.command(&home, &["run", "resman_inventory"]);
        command.stdout(Stdio::null()).stderr(Stdio::piped());
        command
    };
    let mut child = run().spawn().unwrap();
    first_slice(&home, &mut child);
    let second = run().output().unwrap();
    let first = child.wait_with_output().unwrap();
    assert!(first.status.success(), "{}", said(&first));
    let text = said(&second);
    // On a machine under load the first may be done before the second looks.
    assert!(second.status.success() || second.status.code() == Some(2) && text.contains("another process"), "{text}");
}

#[test]
fn a_disk_that_is_full_is_told_and_the_next_copy_is_whole() {
    let home = Home::new();
    home.ok(&["generate", "mits", "feed.xml", "--properties", "3", "--units", "60"]);
    // A limit on the size of files stands in for the disk: it stops a write in the middle, too.
    let script = format!("trap '' XFSZ; ulimit -f 8; exec '{PROPFLOW}' copy mits:feed.xml parquet:out/");
    let output = Command::new("bash").args(["-c", &script]).current_dir(home.path()).output().unwrap();
    let text = said(&output);
    assert_eq!(output.status.code(), Some(2), "{text}");
    assert!(text.contains("cannot write") && text.contains("hint: "), "{text}");
    home.ok(&["copy", "mits:feed.xml", "parquet:out/"]);
    home.ok(&["copy", "mits:feed.xml", "parquet:clean/"]);
    let sql = "select property_id, unit_number, market_rent from units order by 1, 2";
    let rows = |lake: &str| home.ok(&["sql", "--lake", lake, "--format", "csv", sql]);
    assert_eq!(rows("out"), rows("clean"));
    assert!(rows("out").lines().count() > 100);
}

#[test]
fn a_vendor_that_is_away_and_a_property_that_is_gone_have_their_exit_codes() {
    let home = Home::new();
    let vendor = Simulated::resman(&["--properties", "2", "--units", "4"]);
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut command = vendor.command(&home, &["run", "resman_inventory"]);
    let output = command.env("RESMAN_V1_URL", format!("http://{closed}")).output().unwrap();
    let text = said(&output);
    assert_eq!(output.status.code(), Some(4), "{text}");
    assert!(text.contains(&format!("cannot reach `http://{closed}/Account/GetProperties`")), "{text}");

    let gone = "00000000-0000-4000-8000-000000000000";
    let output = vendor.command(&home, &["run", "resman_inventory", "--only", gone]).output().unwrap();
    let text = said(&output) + &String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(3), "{text}");
    assert!(text.contains(gone) && text.contains("does not list this property"), "{text}");
}

#[test]
fn a_setting_that_does_not_exist_is_named_with_the_one_that_was_meant() {
    let home = Home::new();
    let spec = |settings: &str| {
        format!(
            "name = \"feed\"\nabout = \"x\"\n[source]\nconnector = \"mits\"\nstream = \"feed\"\n[source.settings]\n\
             {settings}\n[[sinks]]\nsink = \"parquet\"\nsettings.path = \"lake\"\n"
        )
    };
    for (settings, words) in [
        ("pathh = \"feed.xml\"", ["pathh`", "`path`"]),
        ("path = 7", ["path", "string"]),
        (
            "path = \"x.xml\"\ncheckpoint_rows = \"many\"",
            ["`source.settings.checkpoint_rows`", "a whole number from 0 on, not a string"],
        ),
        ("path = \"x.xml\"\nlimits = { calls_per_second = 5 }", ["calls_per_second", "`calls_per_sec`"]),
    ] {
        home.write("specs/feed.toml", &spec(settings));
        let text = home.fails(2, &["check", "--specs", "specs"]);
        for word in words {
            assert!(text.contains(word) && text.contains("feed.toml"), "`{word}` is not in:\n{text}");
        }
    }
}

/// One call as it stands, and how long it took: the status line and headers, and the body.
fn call(address: &str, path: &str) -> (String, String, Duration) {
    let began = Instant::now();
    let mut stream = std::net::TcpStream::connect(address).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").unwrap();
    let mut bytes = Vec::new();
    // A body that is cut off is an error of the connection.
    let _ = stream.read_to_end(&mut bytes);
    let text = String::from_utf8_lossy(&bytes).to_ascii_lowercase();
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
    (head.to_owned(), body.to_owned(), began.elapsed())
}

#[test]
fn a_simulated_vendor_misbehaves_as_it_is_told() {
    for (vendor, variables) in [("resman", 6), ("ownerrez", 5), ("hostaway", 5), ("guesty", 4), ("calendars", 5)] {
        let base = ["--properties", "1", "--units", "1", "--after", "1", "--every", "2", "--times", "1"];
        let told = |more: &[&str]| {
            let simulated = Simulated::start(vendor, variables, &[&base[..], more].concat());
            let at = |v: &String| v.split("http://").nth(1).map(|rest| rest.split('/').next().unwrap().to_owned());
            let address = simulated.environment.iter().find_map(|(_, value)| at(value)).unwrap();
            // The first call goes well, the third is the second after it, and the fifth is good again.
            let answers: Vec<_> = (0..5).map(|_| call(&address, "/somewhere")).collect();
            let plain = &answers[0];
            for good in [1, 3, 4] {
                assert_eq!(
                    (&answers[good].0.lines().next(), &answers[good].1),
                    (&plain.0.lines().next(), &plain.1),
                    "{vendor} {more:?}"
                );
            }
            (plain.clone(), answers[2].clone())
        };
        for (how, status) in [("too-many-requests", "429"), ("429", "429"), ("server-error", "503")] {
            let (_, (head, ..)) = told(&["--misbehave", how, "--retry-after-secs", "7"]);
            assert!(head.starts_with(&format!("http/1.1 {status} ")), "{vendor} {how}: {head}");
            assert_eq!(head.contains("retry-after: 7"), status == "429", "{vendor} {how}: {head}");
        }
        let (_, (_, page, _)) = told(&["--misbehave", "html"]);
        assert!(page.contains("<html"), "{vendor}: {page}");
        let (_, (_, nothing, _)) = told(&["--misbehave", "empty"]);
        assert_eq!(nothing, "", "{vendor}");
        let ((_, whole, _), (_, late, took)) = told(&["--misbehave", "slow", "--slow-ms", "400"]);
        assert!(late == whole && took >= Duration::from_millis(400), "{vendor}: {took:?}");
        for how in ["cut-body", "malformed"] {
            let ((_, whole, _), (_, part, _)) = told(&["--misbehave", how]);
            assert!(whole.len() < 2 || part.len() < whole.len(), "{vendor} {how}: {part}");
        }
        // On another path it behaves.
        let (plain, same) = told(&["--misbehave", "html", "--on", "/elsewhere*"]);
        assert_eq!(plain.1, same.1, "{vendor}");
    }
    let home = Home::new();
    let text = home.fails(2, &["simulate", "resman", "--every", "2"]);
    assert!(text.contains("--misbehave"), "{text}");
}

#[test]
fn a_run_gets_through_a_vendor_that_misbehaves() {
    let home = Home::new();
    let ways = "--misbehave too-many-requests,server-error,cut-body,malformed,slow --every 25 --slow-ms 50 --retry-after-secs 0";
    let vendor =
        Simulated::resman(&[&["--properties", "2", "--units", "5"], &*ways.split(' ').collect::<Vec<_>>()].concat());
    let output = vendor.command(&home, &["run", "resman_inventory"]).output().unwrap();
    assert!(matches!(output.status.code(), Some(0 | 3)), "{}", said(&output));
}

#[test]
fn a_run_ends_at_once_when_asked_though_its_vendor_hangs() {
    let home = Home::new();
    let hangs = "--misbehave slow --slow-ms 600000 --on MITS/GetMarketing4_0 --after 1 --every 1";
    let vendor =
        Simulated::resman(&[&["--properties", "3", "--units", "5"], &*hangs.split(' ').collect::<Vec<_>>()].concat());
    let mut command = vendor.command(&home, &["run", "resman_inventory"]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0).spawn().unwrap();
    first_slice(&home, &mut child);
    let asked = Instant::now();
    // As a terminal does it: everything that the command has started hears it too.
    let group = format!("-{}", child.id());
    assert!(Command::new("kill").args(["-INT", "--", &group]).status().unwrap().success());
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130), "{}", said(&output));
    assert!(String::from_utf8_lossy(&output.stdout).contains("stopped cleanly"), "{}", said(&output));
    assert!(asked.elapsed() < Duration::from_secs(60), "{:?}", asked.elapsed());
    let runs: serde_json::Value = serde_json::from_str(&home.ok(&["--json", "status"])).unwrap();
    assert_eq!(runs[0]["status"], "stopped", "{runs}");
}

#[test]
fn a_copy_says_of_its_rows_only_what_the_destination_knows() {
    let home = Home::new();
    home.ok(&["generate", "mits", "feed.xml", "--properties", "1", "--units", "3"]);
    let database = Database::start(&home);
    for (to, words) in [("parquet:out", 0), (database.url.as_str(), 4)] {
        let text = home.ok(&["copy", "mits:feed.xml", to]);
        let shown = ["new", "changed", "equal", "gone"].iter().filter(|w| text.contains(&format!(" {w} "))).count();
        assert!(shown == words && text.contains(" rows "), "{text}");
        let json: serde_json::Value =
            serde_json::from_str(&home.ok(&["--json", "copy", "mits:feed.xml", to, "--fresh"])).unwrap();
        let units = json["rows"]["units"].as_object().unwrap();
        assert!(units["received"] == 3 && units.len() == words + 1, "{json}");
        assert!(words == 0 || units["unchanged"] == 3, "{json}");
    }
    database.stop();
}

#[test]
fn every_problem_of_every_file_is_told_at_once_with_its_line() {
    let home = Home::new();
    let feed = "\
        nmae = \"feed\"\n\
        about = 7\n\
        models = [\"unts\", \"normalise\"]\n\
        [source]\n\
        connector = \"mits\"\n\
        stream = \"feeds\"\n\
        read = \"snapshots\"\n\
        [source.settings]\n\
        path = \"feed.xml\"\n\
        checkpoint_rows = \"many\"\n\
        pathh = \"x\"\n\
        headers = { Authorization = \"hunter2\" }\n\
        [[sinks]]\n\
        sink = \"parquett\"\n\
        [[sinks]]\n\
        settings.path = \"${PF_NOT_SET}\"\n\
        [[sinks]]\n\
        sink = \"parquet\"\n\
        settings = { path = 7, rows = 1 }\n\
        [schedule]\n\
        cron = [\"0 6 * * *\", \"61 6 * * *\", \"x\"]\n\
        zone = \"Americas/Chicago\"\n\
        [freshness]\n\
        limit_hours = -1\n";
    // The line, the key, a word of what is wrong, and a word of what to do.
    let expected = [
        (0, "`name`: this key is required and missing", "The pipeline's name"),
        (1, "`nmae`: unknown key", "Did you mean `name`?"),
        (2, "`about`: expected a string, not a number", "One line for"),
        (3, "`models[0]`: there is no model or layer `unts`", "`units`"),
        (6, "`source.stream`: connector `mits` has no stream `feeds`", "`feed`"),
        (7, "`source.read`: `snapshots` is not one of `snapshot`, `changes`", "`snapshot`?"),
        (10, "`source.settings.checkpoint_rows`: expected a whole number", "This is: "),
        (11, "`source.settings.pathh`: unknown key", "`path`?"),
        (
            12,
            "`source.settings.headers.Authorization`: a secret must be named by reference",
            "environment variable or a file",
        ),
        (14, "`sinks[0].sink`: there is no sink `parquett`", "`parquet`?"),
        (15, "`sinks[1].sink`: this key is required and missing", "The sink's name"),
        (16, "`sinks[1].settings.path`: the environment variable `PF_NOT_SET` is not set", "${NAME:-default}"),
        (19, "`sinks[2].settings.path`: expected a string, not a number", ""),
        (19, "`sinks[2].settings.rows`: unknown key", "Known are"),
        (21, "`schedule.cron[1]`: ", ""),
        (21, "`schedule.cron[2]`: ", ""),
        (22, "`schedule.zone`: `Americas/Chicago` is not a time zone", "IANA"),
        (24, "`freshness.limit_hours`: expected a whole number from 0 to 4294967295, not `-1`", "Hours since"),
    ];
    home.write("specs/feed.toml", feed);
    home.write("specs/talk.toml", "[[couriers]]\ncourier = \"resmann\"\n[[couriers]]\nconection = \"x\"\n");
    home.write("specs/torn.toml", "name = \"torn\nabout = \n");
    let text = home.fails(2, &["check", "--specs", "specs"]);
    let lines: Vec<&str> = text.lines().filter(|l| l.starts_with("- ")).collect();
    let of = |file: &str| lines.iter().filter(|l| l.contains(file)).copied().collect::<Vec<_>>();
    for ((line, what, next), told) in expected.iter().zip(of("feed.toml")) {
        let place = if *line == 0 { "feed.toml: ".to_owned() } else { format!("feed.toml: line {line}: ") };
        assert!(told.contains(&format!("{place}{what}")) && told.contains(next), "{what} is not in:\n{told}\n{text}");
    }
    assert_eq!(of("feed.toml").len(), expected.len(), "{text}");
    assert!(!text.contains("hunter2"), "{text}");
    for (file, words) in [
        ("talk.toml", ["line 2: `couriers[0].courier`: there is no courier `resmann`", "`resman`?"]),
        (
            "talk.toml",
            ["line 3: `couriers[1].courier`: this key is required", "line 4: `couriers[1].conection`: unknown key"],
        ),
        ("torn.toml", ["line 1: ", "line 2: "]),
    ] {
        assert!(words.iter().all(|w| of(file).iter().any(|l| l.contains(w))), "{words:?} are not in:\n{text}");
    }
    let json: serde_json::Value =
        serde_json::from_slice(&home.run(&["--json", "check", "--specs", "specs"]).stdout).unwrap();
    assert_eq!(json["problems"].as_array().unwrap().len(), lines.len(), "{json}");
}

#[test]
fn every_secret_that_is_not_there_is_told_at_once() {
    let home = Home::new();
    home.write(
        "specs/resman.toml",
        "name = \"r\"\nabout = \"x\"\n[source]\nconnector = \"resman\"\nstream = \"inventory\"\n[source.settings]\n\
         partner_id = \"env:PF_NOT_SET_1\"\napi_key = \"env:PF_NOT_SET_2\"\naccount_id = \"1\"\n\
         [[sinks]]\nsink = \"postgres\"\n",
    );
    let text = home.fails(2, &["check", "--specs", "specs"]);
    for told in ["line 7: `source.settings.partner_id`: ", "line 8: `source.settings.api_key`: "] {
        assert!(text.contains(told), "{text}");
    }
    assert_eq!(text.matches("is not set").count(), 2, "{text}");
}

#[test]
fn odd_prices_are_read_or_refused_but_never_free() {
    let home = Home::new();
    home.ok(&["generate", "mits", "feed.xml", "--properties", "1", "--units", "8"]);
    let feed = std::fs::read_to_string(home.path().join("feed.xml")).unwrap();
    let mut texts = ["1,234.50", "N/A", "-1", "0", "abc"].into_iter();
    let mut odd = String::new();
    for (at, part) in feed.split("<MarketRent>").enumerate() {
        match (at, if at == 0 { None } else { texts.next() }) {
            (0, _) => odd.push_str(part),
            (_, Some(text)) => odd.push_str(&format!("<MarketRent>{text}{}", &part[part.find('<').unwrap()..])),
            (_, None) => odd.push_str(&format!("<MarketRent>{part}")),
        }
    }
    assert!(texts.next().is_none(), "too few units for every odd price");
    home.write("odd.xml", &odd);
    let told = home.ok(&["copy", "mits:odd.xml", "parquet:out", "--rejects", "rejects.jsonl"]);
    let rents = home.ok(&[
        "sql",
        "--lake",
        "out",
        "--format",
        "csv",
        "select count(*) filter (where market_rent = 1234.50) as whole, count(*) filter (where market_rent <= 0) as free, \
         count(*) filter (where market_rent is null) >= 4 as unknown from units",
    ]);
    assert_eq!(rents, "whole,free,unknown\n1,0,true\n", "{told}");
    let kept = std::fs::read_to_string(home.path().join("rejects.jsonl")).unwrap();
    for text in ["`-1` is negative", "`abc` is not an amount"] {
        assert!(kept.contains(text), "{kept}");
    }
}

#[test]
fn the_database_answers_in_its_own_sql_and_is_only_read() {
    let home = Home::new();
    for told in [&["migrate"][..], &["list", "parquet"], &["replay", "resman_inventory"], &["status"]] {
        let text = home.ok(&[&["--json"], told].concat());
        serde_json::from_str::<serde_json::Value>(&text).unwrap_or_else(|e| panic!("{told:?}: {e}: {text}"));
    }
    let types = "select 1 as n, 'a,b' as t, 1.50::numeric as m, null::int as z, true as f, date '2026-07-01' as d";
    let csv = home.ok(&["sql", "--db", "--format", "csv", types]);
    assert_eq!(csv, "n,t,m,z,f,d\n1,\"a,b\",1.50,,true,2026-07-01\n");
    let json: serde_json::Value = serde_json::from_str(&home.ok(&["sql", "--db", "--format", "json", types])).unwrap();
    assert_eq!((&json[0]["n"], &json[0]["z"]), (&serde_json::json!(1), &serde_json::Value::Null));
    // More rows than are fetched at a time, and none at all.
    let many = home.ok(&["sql", "--db", "--format", "csv", "select count(*) as n from generate_series(1, 2500) g"]);
    assert_eq!(many, "n\n2500\n");
    let all = home.ok(&["sql", "--db", "--format", "csv", "select g from generate_series(1, 2500) g"]);
    assert_eq!((all.lines().count(), all.lines().last()), (2501, Some("2500")));
    let none = home.ok(&["sql", "--db", "--format", "csv", "select unit_number from serving.available_units"]);
    assert_eq!(none, "unit_number\n");

    for (sql, word) in [
        ("delete from core.units", "only reads"),
        ("with gone as (delete from core.units returning 1) select * from gone", "data-modifying"),
        ("create table t (n int)", "only reads"),
        ("select * from serving.available_unit", "`serving.available_units`"),
        ("selec 1", "selec"),
        ("select 1; select 2", ""),
    ] {
        let text = home.fails(2, &["sql", "--db", sql]);
        assert!(text.contains(word), "{sql}: {text}");
    }
    let text = home.fails(2, &["sql", "--db", "--timeout-secs", "1", "select pg_sleep(60)"]);
    assert!(text.contains("longer than 1 second"), "{text}");
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut command = home.command(&["sql", "--db", "select 1"]);
    let output = command.env("DATABASE_URL", format!("postgres://u:hunter2@{closed}/x")).output().unwrap();
    let text = said(&output);
    assert!(output.status.code() == Some(4) && !text.contains("hunter2"), "{text}");
}

#[test]
fn a_lake_on_s3_is_written_and_asked_like_a_folder() {
    use fixtures::bucket::{Bucket, Options};
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let bucket = runtime.block_on(Bucket::start(Options::default())).unwrap();
    let home = Home::new();
    let on_s3 = |arguments: &[&str]| {
        let mut command = home.command(arguments);
        command.envs(bucket.environment());
        command
    };
    let ok = |arguments: &[&str]| {
        let output = on_s3(arguments).output().unwrap();
        assert!(output.status.success(), "{arguments:?}: {}", said(&output));
        String::from_utf8(output.stdout).unwrap()
    };
    home.ok(&["generate", "mits", "feed.xml", "--properties", "3", "--units", "20"]);
    home.ok(&["copy", "mits:feed.xml", "parquet:out/"]);
    ok(&["copy", "mits:feed.xml", "parquet:s3://harbor-lake/deep/out"]);
    let keys = bucket.keys();
    assert!(keys.iter().any(|key| key.starts_with("deep/out/units/")), "{keys:?}");
    assert!(keys.iter().all(|key| key.starts_with("deep/out/") && !key.contains("/_tmp/")), "{keys:?}");
    assert_eq!(bucket.open_uploads(), 0);
    let same = |sql: &str| {
        let remote = ok(&["sql", "--lake", "s3://harbor-lake/deep/out", "--format", "csv", sql]);
        assert_eq!(remote, home.ok(&["sql", "--lake", "out", "--format", "csv", sql]), "{sql}");
        remote.lines().count()
    };
    assert!(same("select property_id, unit_number, market_rent from units order by 1, 2") > 50);
    assert!(same("select property_id, name, amount from fees order by 1, 2, 3") > 3);
    // Once more, with a store that is busy now and then: the same rows, not twice.
    bucket.busy(2);
    ok(&["copy", "mits:feed.xml", "parquet:s3://harbor-lake/deep/out"]);
    bucket.busy(2);
    same("select count(*) as n, count(distinct property_id || unit_number) as m from units");
    assert!(bucket.calls("LIST") > 1);

    // A pipeline, with its books in PostgreSQL.
    let vendor = Simulated::resman(&["--properties", "2", "--units", "5"]);
    let mut run = vendor.command(&home, &["run", "resman_inventory"]);
    let output = run.envs(bucket.environment()).env("PROPFLOW_LAKE", "s3://harbor-lake/live").output().unwrap();
    assert!(output.status.success(), "{}", said(&output));
    let count = "select count(distinct property_id) as n from units";
    assert_eq!(ok(&["sql", "--lake", "s3://harbor-lake/live/", "--format", "csv", count]), "n\n2\n");

    for (command, words) in [
        (on_s3(&["copy", "mits:feed.xml", "parquet:s3://no-such-lake/out"]), ["no-such-lake", "bucket"]),
        (on_s3(&["sql", "--lake", "s3://no-such-lake/out", "select 1"]), ["no-such-lake", "bucket"]),
        (
            {
                let mut command = on_s3(&["copy", "mits:feed.xml", "parquet:s3://harbor-lake/other"]);
                command.env("AWS_ACCESS_KEY_ID", "someone-else");
                command
            },
            ["harbor-lake", "credentials"],
        ),
    ] {
        let mut command = command;
        let output = command.output().unwrap();
        let text = said(&output);
        assert_eq!(output.status.code(), Some(2), "{text}");
        assert!(words.iter().all(|word| text.contains(word)) && !text.contains("harbor-secret"), "{text}");
    }
}

#[test]
fn a_property_that_left_its_feed_is_offered_no_longer() {
    let home = Home::new();
    home.write(
        "specs/feed.toml",
        "name = \"feed\"\nabout = \"a feed\"\n[source]\nconnector = \"mits\"\nconnection = \"feed\"\nstream = \"feed\"\n\
         [source.settings]\npath = \"feed.xml\"\n[[sinks]]\nsink = \"parquet\"\nsettings.path = \"lake\"\n\
         [[sinks]]\nsink = \"postgres\"\n",
    );
    let property = |id: &str, pricing: &str| {
        format!(
            "<Property IDValue=\"{id}\"><PropertyID><MarketingName>At {id}</MarketingName></PropertyID>\
             <ILS_Unit IDValue=\"1\"><Units><Unit><MarketRent>900</MarketRent>\
             <UnitEconomicStatus>residential</UnitEconomicStatus><UnitOccupancyStatus>vacant</UnitOccupancyStatus>\
             <UnitLeasedStatus>available</UnitLeasedStatus></Unit></Units>{pricing}\
             <Availability><MadeReadyDate Month=\"1\" Day=\"2\" Year=\"2024\"/></Availability></ILS_Unit></Property>"
        )
    };
    let plain = |id: &str| property(id, "");
    // One price whose window closed years ago, and one without a window.
    let over = "<Pricing><MITS-OfferTerm><EffectiveRent>700</EffectiveRent><Term>12</Term><DateRange>\
        <StartDate Month=\"1\" Day=\"1\" Year=\"2020\"/><EndDate Month=\"2\" Day=\"1\" Year=\"2020\"/></DateRange>\
        </MITS-OfferTerm><MITS-OfferTerm><EffectiveRent>880</EffectiveRent><Term>12</Term></MITS-OfferTerm></Pricing>";
    let run = |properties: &[String], code: i32| {
        home.write("feed.xml", &format!("<PhysicalProperty>{}</PhysicalProperty>", properties.concat()));
        let arguments = ["run", "feed", "--specs", "specs"];
        if code == 0 { home.ok(&arguments) } else { home.fails(code, &arguments) }
    };
    let offers = || {
        let sql = "select property_id, rent_from from available_units order by 1";
        let lake = home.ok(&["sql", "--lake", "lake", "--format", "csv", sql]);
        let served = home.ok(&["sql", "--db", "--format", "csv", &sql.replace("from av", "from serving.av")]);
        assert_eq!(lake, served, "the lake and the database differ");
        lake
    };
    run(&[plain("P1"), plain("P2"), property("P3", over)], 0);
    assert_eq!(offers(), "property_id,rent_from\nP1,900.00\nP2,900.00\nP3,880.00\n");
    let costs =
        home.ok(&["sql", "--lake", "lake", "--format", "csv", "select offer_id, rent from unit_costs order by rent"]);
    assert_eq!(costs, "offer_id,rent\n12,880.00\nmarket,900.00\nmarket,900.00\n");
    run(&[plain("P1"), property("P3", over)], 0);
    assert_eq!(offers(), "property_id,rent_from\nP1,900.00\nP3,880.00\n");
    assert_eq!(home.ok(&["sql", "--lake", "lake", "--format", "csv", "select count(*) as n from units"]), "n\n2\n");
    let status = home.ok(&["status"]);
    assert!(status.contains("0 of them stale"), "{status}");
    assert!(status.contains("on no list any more, and served no longer: At P2 (P2)\n"), "{status}");
    let views = home.ok(&["sql", "--lake", "lake", "--print-views"]);
    assert_eq!(views.matches("select * from files.account_properties ").count(), 1, "a list is read twice:\n{views}");
    // A feed that is empty by mistake empties nothing.
    let text = run(&[], 4);
    assert!(text.contains("the feed holds no property"), "{text}");
    assert_eq!(offers(), "property_id,rent_from\nP1,900.00\nP3,880.00\n");
}
