//! The ResMan connector against the simulator: everything comes, once, whatever goes wrong on the way.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, in its own helpers too")]

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use arrow::array::{Array, AsArray};
use catalog::{Blame, Component, Cursor, Env, Fault, Note};
use chrono::NaiveDate;
use connectors::resman::ResMan;
use connectors::source::{Event, Read, Request, Source, guarded};
use fixtures::resman::{Misbehaviour, Options, Rule, Simulator};
use fixtures::world::{Shape, World};
use futures::StreamExt;
use serde_json::{Value, json};
use tempfile::TempDir;

/// Rows by dataset, each as its cells.
type Rows = BTreeMap<String, Vec<BTreeMap<String, String>>>;

/// Everything that a reading said.
#[derive(Default)]
struct Told {
    /// What is covered by each checkpoint, with the checkpoint.
    slices: Vec<(Rows, Cursor)>,
    complete: Vec<(String, Vec<&'static str>)>,
    failed: Vec<(String, Fault)>,
    notes: Vec<Note>,
    end: Option<Fault>,
}

impl Told {
    fn rows(&self) -> Rows {
        let mut all = Rows::new();
        for (table, rows) in self.slices.iter().flat_map(|(rows, _)| rows.clone()) {
            all.entry(table).or_default().extend(rows);
        }
        all
    }

    fn values(&self, table: &str, column: &str) -> BTreeSet<String> {
        let rows = self.rows();
        rows.get(table).into_iter().flatten().filter_map(|row| row.get(column).cloned()).collect()
    }

    fn failed_ids(&self) -> Vec<&str> {
        self.failed.iter().map(|(scope, _)| scope.as_str()).collect()
    }
}

struct Bench {
    simulator: Simulator,
    folder: TempDir,
}

impl Bench {
    async fn start(options: Options) -> Self {
        let today = NaiveDate::from_ymd_opt(2026, 7, 1).unwrap();
        let world = World::generate(Shape { seed: 11, properties: 4, units: 12, today });
        let simulator = Simulator::start(world, options).await.unwrap();
        let folder = tempfile::tempdir().unwrap();
        let credentials = simulator.credentials();
        std::fs::write(folder.path().join("partner"), &credentials.partner_id).unwrap();
        std::fs::write(folder.path().join("key"), format!("{}\n", credentials.api_key)).unwrap();
        Self { simulator, folder }
    }

    fn settings(&self) -> Value {
        let secret = |name: &str| format!("file:{}", self.folder.path().join(name).display());
        json!({
            "v1_url": self.simulator.base_url_v1(),
            "v2_url": self.simulator.base_url_v2(),
            "partner_id": secret("partner"),
            "api_key": secret("key"),
            "account_id": self.simulator.credentials().account_id,
            "limits": {"calls_per_sec": 100_000, "burst": 1_000, "backoff_ms": 1, "timeout_secs": 5},
        })
    }

    async fn open(&self, settings: Value) -> Box<dyn Source> {
        let env = Env { connection: "harbor".to_owned(), ..Env::default() };
        ResMan::open(serde_json::from_value(settings).unwrap(), env).await.unwrap()
    }

    async fn read(&self, resume: Option<Cursor>, only: &[&str]) -> Told {
        read(&*self.open(self.settings()).await, resume, only).await
    }

    fn properties(&self) -> Vec<String> {
        let mut ids: Vec<_> = self.simulator.with_world(|w| w.properties.iter().map(|p| p.id.clone()).collect());
        ids.sort();
        ids
    }
}

async fn read(source: &dyn Source, resume: Option<Cursor>, only: &[&str]) -> Told {
    let request = Request {
        stream: "inventory".to_owned(),
        read: Read::Snapshot,
        resume,
        only: only.iter().map(|&id| id.to_owned()).collect(),
    };
    let stream = source.streams().remove(0);
    let mut events = guarded(&stream, source.read(request));
    let mut told = Told::default();
    let mut rows = Rows::new();
    while let Some(event) = events.next().await {
        match event {
            Ok(Event::Rows { dataset, batch }) => {
                let schema = batch.schema();
                rows.entry(dataset.into_owned()).or_default().extend((0..batch.num_rows()).map(|row| {
                    let cells = schema.fields().iter().zip(batch.columns());
                    let cells = cells.filter(|(_, column)| !column.is_null(row));
                    cells.map(|(f, c)| (f.name().clone(), c.as_string::<i32>().value(row).to_owned())).collect()
                }));
            }
            Ok(Event::Checkpoint(cursor)) => told.slices.push((std::mem::take(&mut rows), cursor)),
            Ok(Event::Complete { scope, missing, .. }) => told.complete.push((scope, missing)),
            Ok(Event::Failed { scope, fault }) => told.failed.push((scope, fault)),
            Ok(Event::Note(note)) => told.notes.push(note),
            Ok(Event::Reject(_) | Event::Ahead(_)) => {}
            Err(fault) => told.end = Some(fault),
        }
    }
    told
}

#[tokio::test]
async fn every_property_and_unit_comes_from_every_list() {
    let bench = Bench::start(Options { not_entitled: vec![], ..Options::default() }).await;
    let told = bench.read(None, &[]).await;
    assert!(told.end.is_none() && told.failed.is_empty(), "{:?} {:?}", told.end, told.failed);
    assert_eq!(told.notes, []);
    let ids = bench.properties();
    let complete: Vec<_> = told.complete.iter().map(|(scope, missing)| (scope.clone(), missing.len())).collect();
    let expected: Vec<_> = ["harbor".to_owned()].into_iter().chain(ids.clone()).map(|scope| (scope, 0)).collect();
    assert_eq!(complete, expected);

    let rows = told.rows();
    let world = bench.simulator.with_world(|w| w.clone());
    for p in &world.properties {
        let all: BTreeSet<_> = p.units.iter().map(|u| u.number.clone()).collect();
        let marketed: BTreeSet<_> = p.units.iter().filter(|u| u.marketed).map(|u| u.number.clone()).collect();
        for (table, units) in [
            ("resman_v1_units", &all),
            ("resman_units", &all),
            ("resman_availability", &all),
            ("mits_units", &marketed),
        ] {
            let here = rows[table].iter().filter(|row| row["property_id"] == p.id);
            assert_eq!(here.map(|row| row["unit_number"].clone()).collect::<BTreeSet<_>>(), *units, "{table}");
        }
        let count = |table: &str| rows[table].iter().filter(|row| row["property_id"] == p.id).count();
        assert_eq!(count("resman_buildings"), p.buildings.len());
        assert_eq!(count("resman_unit_types"), p.unit_types.len());
        assert_eq!(count("resman_property_charges"), p.charges.len());
        assert_eq!(count("resman_rentable_items"), p.rentable_items.len());
        assert_eq!(count("resman_rentable_item_types"), p.rentable_types.len());
        assert_eq!(count("resman_v1_lead_sources"), p.lead_sources.len());
        let with: usize = p.units.iter().map(|u| u.amenities.len()).sum();
        assert_eq!(count("resman_amenities"), p.amenities.len() + with);
        let staff = world.employees.iter().filter(|e| e.property_ids.contains(&p.id)).count();
        assert_eq!(count("resman_employees"), staff);
    }
    assert_eq!(rows["resman_account_properties"].len(), 2 * world.properties.len());
    assert_eq!(rows["resman_transaction_categories"].len(), world.categories.len());
    assert_eq!(rows["resman_v1_lost_reasons"].len(), world.lost_reasons.len());
    assert!(rows["resman_account_properties"].iter().all(|row| row["connection"] == "harbor"));
    let occupied = rows["resman_availability"].iter().filter(|row| row.contains_key("move_out_date")).count();
    assert!(occupied > 0, "no move-out date came");
    let free = rows["resman_rentable_items"].iter().filter(|row| row.contains_key("status")).count();
    assert!(free > 0, "the items' availability was not joined");
    // Serial: never two calls at once. And the staff of all properties in one call.
    assert_eq!(bench.simulator.peak_in_flight(), 1);
    assert_eq!(bench.simulator.count("/Employees"), 1);
}

#[tokio::test]
async fn a_reading_goes_on_behind_any_checkpoint() {
    let bench = Bench::start(Options::default()).await;
    let whole = bench.read(None, &[]).await;
    assert_eq!(whole.slices.len(), 5);
    for at in 0..whole.slices.len() {
        bench.simulator.forget_requests();
        let rest = bench.read(Some(whole.slices[at].1.clone()), &[]).await;
        assert!(rest.end.is_none());
        let mut rows = Rows::new();
        for (table, more) in whole.slices[..=at].iter().chain(&rest.slices).flat_map(|(rows, _)| rows.clone()) {
            rows.entry(table).or_default().extend(more);
        }
        assert_eq!(rows, whole.rows(), "resumed behind slice {at}");
        assert_eq!(bench.simulator.count("MITS/GetMarketing4_0"), 4 - at, "properties fetched again behind slice {at}");
    }
}

#[tokio::test]
async fn passing_trouble_changes_no_row() {
    let bench = Bench::start(Options::default()).await;
    let clean = bench.read(None, &[]).await.rows();
    let too_many = || Misbehaviour::TooManyRequests { retry_after_secs: 0 };
    let bad_gateway = |retry_after_secs| Misbehaviour::ServerError { status: 502, retry_after_secs };
    for (name, path, trouble) in [
        ("429", "*", too_many()),
        ("502", "*", bad_gateway(None)),
        ("502 with a time", "*", bad_gateway(Some(0))),
        ("cut", "*", Misbehaviour::CutBody),
        ("cut feed", "MITS/GetMarketing4_0", Misbehaviour::CutBody),
        ("malformed", "*", Misbehaviour::Malformed),
        ("malformed feed", "MITS/GetMarketing4_0", Misbehaviour::Malformed),
        ("maintenance page", "*", Misbehaviour::Html),
        ("empty", "*", Misbehaviour::Empty),
    ] {
        bench.simulator.behave();
        bench.simulator.misbehave(Rule::on(path, trouble).every(3).times(4));
        let told = bench.read(None, &[]).await;
        assert!(told.end.is_none() && told.failed.is_empty(), "{name}: {:?} {:?}", told.end, told.failed);
        assert_eq!(told.rows(), clean, "{name}");
    }
}

#[tokio::test]
async fn one_property_in_trouble_does_not_stop_the_others() {
    let bench = Bench::start(Options::default()).await;
    let ids = bench.properties();
    let clean = bench.read(None, &[]).await.rows();
    let rule = |path: &str, trouble| Rule::on(path, trouble).property(&ids[1]);
    for (rule, says, retryable) in [
        (rule("MITS/*", Misbehaviour::Malformed), "`MITS/GetMarketing4_0`: the feed", true),
        (rule("MITS/*", Misbehaviour::Html), "the feed is an HTML page", true),
        (rule("Property/GetUnits", Misbehaviour::Refused("Units are locked.".to_owned())), "Units are locked.", false),
        (
            rule("/Units", Misbehaviour::ServerError { status: 500, retry_after_secs: None }),
            "failed (status 500)",
            true,
        ),
        (rule("/Buildings", Misbehaviour::Html), "`/Buildings` answered in another shape", true),
        (rule("/UnitTypes", Misbehaviour::CutBody), "broke off", true),
    ] {
        bench.simulator.behave();
        bench.simulator.misbehave(rule);
        let told = bench.read(None, &[]).await;
        assert!(told.end.is_none(), "{:?}", told.end);
        assert_eq!(told.failed_ids(), [ids[1].as_str()]);
        let fault = &told.failed[0].1;
        assert!(fault.message.contains(says), "{fault}");
        assert!(fault.message.starts_with(&format!("property `{}`: ", ids[1])), "{fault}");
        assert_eq!(fault.is_retryable(), retryable, "{fault}");
        let mut expected = clean.clone();
        for rows in expected.values_mut() {
            rows.retain(|row| row.get("connection").is_some() || row["property_id"] != ids[1]);
        }
        assert_eq!(told.rows(), expected, "{says}");
        assert_eq!(told.slices.len(), 5, "a failed property is passed, not met again");
    }
}

#[tokio::test]
async fn a_property_that_vanished_fails_alone() {
    let bench = Bench::start(Options::default()).await;
    let ids = bench.properties();
    let gone = "00000000-0000-4000-8000-000000000000";
    let told = bench.read(None, &[&ids[0].to_uppercase(), gone]).await;
    assert!(told.end.is_none());
    assert_eq!(told.failed_ids(), [gone]);
    assert_eq!(told.values("mits_units", "property_id"), BTreeSet::from([ids[0].clone()]));

    // Listed, and gone when its turn comes.
    let refused = Misbehaviour::Refused("The property could not be found.".to_owned());
    bench.simulator.misbehave(Rule::on("Property/*", refused.clone()).property(&ids[2]));
    let told = bench.read(None, &[]).await;
    assert_eq!(told.failed_ids(), [ids[2].as_str()]);
    assert!(told.end.is_none() && told.failed[0].1.message.contains("could not be found"));
}

#[tokio::test]
async fn an_endpoint_that_is_off_is_noted_once_and_missing_everywhere() {
    let off =
        vec!["/UnitCharges".to_owned(), "/Amenities".to_owned(), "/Employees".to_owned(), "/PickLists".to_owned()];
    let bench = Bench::start(Options { not_entitled: off, ..Options::default() }).await;
    let told = bench.read(None, &[]).await;
    assert!(told.end.is_none() && told.failed.is_empty());
    let subjects: BTreeSet<_> = told.notes.iter().map(|n| (n.topic.as_str(), n.subject.as_str())).collect();
    assert_eq!(subjects.len(), told.notes.len(), "a note came twice");
    let topics = ["Amenities", "Employees", "PickLists", "UnitCharges"].map(|path| ("endpoint_off", path));
    assert_eq!(subjects, BTreeSet::from(topics));
    assert_eq!(told.complete[0].1, ["resman_pick_lists"]);
    for (_, missing) in &told.complete[1..] {
        let missing: BTreeSet<_> = missing.iter().copied().collect();
        let expected = ["resman_amenities", "resman_amenity_charges", "resman_employees", "resman_unit_charges"];
        assert_eq!(missing, BTreeSet::from(expected));
    }
    assert_eq!(bench.simulator.count("/Amenities"), 1, "an endpoint that is off is not asked again");
    assert!(!told.rows()["resman_units"].is_empty());
}

#[tokio::test]
async fn the_older_feed_stands_in_for_the_newer_one() {
    let newer = Bench::start(Options::default()).await.read(None, &[]).await;
    let absent = Misbehaviour::ServerError { status: 404, retry_after_secs: None };
    for (name, trouble) in [("not entitled", Misbehaviour::NotEntitled), ("absent", absent.clone())] {
        let bench = Bench::start(Options::default()).await;
        bench.simulator.misbehave(Rule::on("MITS/GetMarketing4_0", trouble));
        let told = bench.read(None, &[]).await;
        assert!(told.end.is_none() && told.failed.is_empty(), "{name}: {:?} {:?}", told.end, told.failed);
        let noted: Vec<_> = told.notes.iter().filter(|n| n.topic == "endpoint_off").map(|n| &*n.subject).collect();
        assert_eq!(noted, ["MITS/GetMarketing4_0", "UnitCharges"], "{name}");
        assert_eq!(bench.simulator.count("MITS/GetMarketing4_0"), 1, "{name}: asked again");
        assert_eq!(bench.simulator.count("MITS/GetMarketing2_0"), 4);
        for (_, missing) in &told.complete {
            assert!(!missing.iter().any(|table| table.starts_with("mits_")), "{name}: {missing:?}");
        }
        // What both feeds state is the same in both; only spelling and priced terms differ.
        let facts = |told: &Told, table: &str, columns: &[&str]| -> BTreeSet<Vec<Option<String>>> {
            let cell = |row: &BTreeMap<String, String>, column: &&str| {
                let text = row.get(*column)?.replace(' ', "_");
                Some(text.strip_suffix(".00").map(str::to_owned).unwrap_or(text))
            };
            told.rows()[table].iter().map(|row| columns.iter().map(|column| cell(row, column)).collect()).collect()
        };
        let unit = [
            "property_id",
            "unit_number",
            "floorplan_id",
            "market_rent",
            "economic_status",
            "occupancy_status",
            "leased_status",
            "vacancy_class",
            "vacate_date",
            "made_ready_date",
            "bedrooms",
            "bathrooms",
        ];
        for (table, columns) in [
            ("mits_units", &unit[..]),
            ("mits_properties", &["property_id", "marketing_name", "street", "city", "postal_code", "phone"]),
            ("mits_floorplans", &["property_id", "floorplan_id", "name", "bedrooms", "bathrooms", "square_feet_min"]),
        ] {
            assert_eq!(facts(&told, table, columns), facts(&newer, table, columns), "{name}: {table}");
        }
        let deposits = told.rows()["mits_charges"].iter().filter(|row| row["element"] == "Deposit").count();
        assert!(deposits > 0, "{name}: no deposit came");
    }

    // With neither, the rest comes, and nothing of the feed is taken as gone.
    let bench = Bench::start(Options::default()).await;
    bench.simulator.misbehave(Rule::on("MITS/*", Misbehaviour::NotEntitled));
    let told = bench.read(None, &[]).await;
    assert!(told.end.is_none() && told.failed.is_empty());
    assert!(told.complete[1..].iter().all(|(_, missing)| missing.contains(&"mits_units")));
    assert!(!told.rows().contains_key("mits_units") && !told.rows()["resman_units"].is_empty());

    // The property's own trouble is no reason to ask for the older feed.
    let bench = Bench::start(Options::default()).await;
    bench.simulator.misbehave(Rule::on("MITS/GetMarketing4_0", Misbehaviour::Refused("It is locked.".to_owned())));
    assert_eq!(bench.read(None, &[]).await.failed.len(), 4);
    assert_eq!(bench.simulator.count("MITS/GetMarketing2_0"), 0);

    // An address that leads nowhere says so, rather than only blaming the entitlement.
    let bench = Bench::start(Options::default()).await;
    bench.simulator.misbehave(Rule::on("Account/*", absent));
    let end = bench.read(None, &[]).await.end.unwrap();
    assert!(end.chain().contains("404") && end.hint.as_deref().unwrap().contains("`v1_url`"), "{}", end.chain());
}

#[tokio::test]
async fn wrong_credentials_and_unreachable_hosts_end_the_reading() {
    let bench = Bench::start(Options::default()).await;
    std::fs::write(bench.folder.path().join("key"), "not/the+key").unwrap();
    let source = bench.open(bench.settings()).await;
    let told = read(&*source, None, &[]).await;
    let end = told.end.unwrap();
    assert_eq!(end.blame, Blame::User);
    assert!(end.hint.is_some() && source.check().await.is_err());
    assert_eq!(bench.simulator.requests().len(), 2, "wrong credentials were tried again");
    for text in [format!("{end:?}"), end.chain(), format!("{source:?}", source = bench.settings()["account_id"])] {
        assert!(!text.contains("not/the+key") && !text.contains("harbor-domiq"), "{text}");
    }

    let bench = Bench::start(Options::default()).await;
    let source = bench.open(bench.settings()).await;
    source.check().await.unwrap();
    // Credentials that are withdrawn in the middle.
    bench.simulator.misbehave(Rule::on("/UnitTypes", Misbehaviour::Unauthorized).after(1));
    let told = read(&*source, None, &[]).await;
    assert_eq!((told.slices.len(), told.failed.len(), told.end.map(|f| f.blame)), (2, 0, Some(Blame::User)));
    bench.simulator.behave();
    bench.simulator.misbehave(Rule::on("MITS/*", Misbehaviour::Unauthorized).after(1));
    let told = read(&*source, None, &[]).await;
    assert_eq!((told.slices.len(), told.failed.len(), told.end.map(|f| f.blame)), (2, 0, Some(Blame::User)));

    let mut settings = bench.settings();
    drop(bench.simulator);
    // A port that nobody listens on any more.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    for key in ["v1_url", "v2_url"] {
        settings[key] = json!(format!("http://{port}"));
    }
    let source = ResMan::open(serde_json::from_value(settings).unwrap(), Env::default()).await.unwrap();
    let end = read(&*source, None, &[]).await.end.unwrap();
    assert_eq!(end.message, format!("cannot reach `http://{port}/Account/GetProperties`"));
    assert!(end.hint.is_some() && end.is_retryable());
}

#[tokio::test]
async fn a_vendor_that_is_down_ends_the_reading() {
    let today = NaiveDate::from_ymd_opt(2026, 7, 1).unwrap();
    let world = World::generate(Shape { seed: 3, properties: 8, units: 2, today });
    let mut bench = Bench::start(Options::default()).await;
    bench.simulator = Simulator::start(world, Options::default()).await.unwrap();
    bench.simulator.misbehave(Rule::on("/Units", Misbehaviour::ServerError { status: 503, retry_after_secs: None }));
    let told = bench.read(None, &[]).await;
    assert_eq!(told.failed.len(), 4);
    assert!(told.end.unwrap().is_retryable());
}

#[tokio::test]
async fn a_vendor_that_asks_for_silence_gets_it() {
    let bench = Bench::start(Options::default()).await;
    let one = bench.properties()[0].clone();
    let busy = Misbehaviour::TooManyRequests { retry_after_secs: 1 };
    bench.simulator.misbehave(Rule::on("/Units", busy).times(1));
    let start = tokio::time::Instant::now();
    let told = bench.read(None, &[&one]).await;
    assert!(told.end.is_none() && told.failed.is_empty());
    assert!(start.elapsed() >= Duration::from_millis(950), "{:?}", start.elapsed());
    assert_eq!(bench.simulator.count("/Units"), 2);
}

#[tokio::test]
async fn an_answer_without_end_is_not_kept() {
    let bench = Bench::start(Options::default()).await;
    let mut settings = bench.settings();
    settings["limits"]["max_body_bytes"] = json!(200);
    let told = read(&*bench.open(settings).await, None, &[]).await;
    assert!(told.end.unwrap().message.ends_with("is longer than 200 bytes"));
    assert_eq!(bench.simulator.requests().len(), 1, "an answer that is too long was fetched again");
}

#[tokio::test]
async fn the_account_is_found_by_its_subdomain_and_settings_are_held_to_account() {
    let bench = Bench::start(Options::default()).await;
    let mut settings = bench.settings();
    settings.as_object_mut().unwrap().remove("account_id");
    let error = ResMan::open(serde_json::from_value(settings.clone()).unwrap(), Env::default()).await.err().unwrap();
    assert_eq!(error.message, "`resman` needs `account_id` or `subdomain`");

    settings["subdomain"] = bench.simulator.with_world(|w| w.account.subdomain.clone()).into();
    settings["properties"] = json!([bench.properties()[2].to_uppercase()]);
    let told = read(&*bench.open(settings).await, None, &[]).await;
    assert!(told.end.is_none(), "{:?}", told.end);
    assert_eq!(told.values("mits_properties", "property_id"), BTreeSet::from([bench.properties()[2].clone()]));
    assert_eq!(bench.simulator.count("Account/GetAccountID"), 1);

    let entry = connectors::find("resman").unwrap();
    let mut unknown = bench.settings();
    unknown["api_kee"] = json!("x");
    assert!(entry.check(&unknown).unwrap_err().message.contains("api_kee"));
    let mut literal = bench.settings();
    literal["api_key"] = json!("hunter2");
    assert!(!entry.check(&literal).unwrap_err().chain().contains("hunter2"));
    let mut scheme = bench.settings();
    scheme["v1_url"] = json!("ftp://api.example");
    let fault = entry.open(scheme, Env::default()).await.err().unwrap();
    assert_eq!(fault.message, "`v1_url` must be an `http` or `https` address");
}
