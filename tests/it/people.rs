//! Leads and residents of ResMan, polled: every change reaches the contacts once, whatever dies or fails on the way.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use arrow::array::RecordBatch;
use catalog::store::events::ANNOUNCED;
use catalog::{Clock, Env, Note, SystemClock, TestClock};
use chrono::{DateTime, TimeDelta, Utc};
use connectors::{Event, Read, Request, Source, guarded};
use fixtures::resman::{Misbehaviour, Options, Rule, Simulator};
use fixtures::world::leads::{LeadPerson, LeadStatus};
use fixtures::world::{Shape, World};
use futures::StreamExt;
use kit::db::TestDb;
use pipelines::app::{App, Database};
use pipelines::contacts::{Contacts, telling};
use pipelines::poll::{self, Polled, Poller};
use pipelines::progress::Silent;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::{Map, Value, json};
use sqlx::postgres::PgListener;
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;
use transforms::{Inputs, SliceInfo};

const PIPELINE: &str = "resman_people";

/// An account whose office is open, and how to reach it.
struct Office {
    simulator: Simulator,
    clock: TestClock,
    dir: TempDir,
}

fn start() -> DateTime<Utc> {
    DateTime::from_timestamp(1_790_000_000, 0).unwrap()
}

impl Office {
    async fn new(properties: usize, leads: usize, options: Options) -> Self {
        let clock = TestClock::at(start());
        Self::at(properties, leads, Options { clock: Arc::new(clock.clone()), ..options }, clock).await
    }

    async fn at(properties: usize, leads: usize, options: Options, clock: TestClock) -> Self {
        let mut world = World::generate(Shape { seed: 5, properties, units: 12, today: kit::rig::today() });
        world.seed_leads(leads, options.clock.now());
        let simulator = Simulator::start(world, options).await.unwrap();
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("partner"), &simulator.credentials().partner_id).unwrap();
        std::fs::write(dir.path().join("key"), &simulator.credentials().api_key).unwrap();
        Self { simulator, clock, dir }
    }

    fn settings(&self) -> Value {
        let secret = |name: &str| format!("file:{}", self.dir.path().join(name).display());
        json!({
            "v1_url": self.simulator.base_url_v1(), "v2_url": self.simulator.base_url_v2(),
            "partner_id": secret("partner"), "api_key": secret("key"),
            "account_id": self.simulator.credentials().account_id,
            "limits": {"calls_per_sec": 10_000, "burst": 1_000, "backoff_ms": 1, "attempts": 2},
        })
    }

    async fn source(&self) -> Box<dyn Source> {
        let env = Env { clock: Arc::new(self.clock.clone()), connection: "resman".to_owned(), ..Env::default() };
        connectors::find("resman").unwrap().open(self.settings(), env).await.unwrap()
    }

    fn property(&self, n: usize) -> String {
        self.simulator.with_world(|w| w.properties[n].id.clone())
    }
}

/// What a reading said: rows as the models make them, scopes that failed, notes.
struct Told {
    tables: BTreeMap<String, Vec<RecordBatch>>,
    failed: Vec<(String, String)>,
    notes: Vec<Note>,
}

impl Told {
    async fn of(office: &Office, stream: &str, read: Read) -> Self {
        let source = office.source().await;
        let stream = source.streams().into_iter().find(|s| s.name == stream).unwrap();
        let request = Request { stream: stream.name.to_string(), read, resume: None, only: Vec::new() };
        let mut told = Self { tables: BTreeMap::new(), failed: Vec::new(), notes: Vec::new() };
        let mut events = guarded(&stream, source.read(request));
        let mut wire: BTreeMap<String, Vec<RecordBatch>> = BTreeMap::new();
        while let Some(event) = events.next().await {
            match event.unwrap() {
                Event::Rows { dataset, batch } => wire.entry(dataset.into_owned()).or_default().push(batch),
                Event::Failed { scope, fault } => told.failed.push((scope, fault.chain())),
                Event::Note(note) => told.notes.push(note),
                _ => {}
            }
        }
        let slice = SliceInfo {
            observed_at: office.clock.now(),
            connection: "resman".to_owned(),
            currency: "USD".to_owned(),
            region: "US".to_owned(),
            concessions_included: false,
        };
        let models = pipelines::plan::models_for(&stream.datasets).unwrap();
        let output = transforms::run(&models, Inputs { tables: wire, slice }).await.unwrap();
        assert!(output.rejects.is_empty(), "{:?}", output.rejects);
        told.tables = output.tables;
        told
    }

    /// Rows by their key, without columns that only one generation fills.
    fn rows(&self, table: &str, without: &[&str]) -> BTreeMap<String, Map<String, Value>> {
        let dataset = catalog::datasets::find(table).unwrap();
        let mut rows = BTreeMap::new();
        for batch in self.tables.get(table).into_iter().flatten() {
            let mut writer = arrow::json::ArrayWriter::new(Vec::new());
            writer.write(batch).unwrap();
            writer.finish().unwrap();
            let batch: Vec<Map<String, Value>> = serde_json::from_slice(&writer.into_inner()).unwrap_or_default();
            for mut row in batch {
                let key: Vec<_> = dataset.key().iter().map(|k| row[*k].as_str().unwrap().to_owned()).collect();
                row.retain(|column, _| !without.contains(&column.as_str()));
                assert!(rows.insert(key.join("/"), row).is_none(), "{table} has a key twice");
            }
        }
        rows
    }
}

#[tokio::test]
async fn both_generations_tell_the_same_leads() {
    let both = Office::new(2, 24, Options::default()).await;
    let off = vec!["/Prospects".to_owned()];
    let older = Office::new(2, 24, Options { not_entitled: off, largest_search: 5, ..Options::default() }).await;
    let (a, b) = (Told::of(&both, "people", Read::Snapshot).await, Told::of(&older, "people", Read::Snapshot).await);
    assert_eq!(b.notes.iter().filter(|n| n.topic == "endpoint_off").count(), 1, "{:?}", b.notes);
    assert!(a.failed.is_empty() && b.failed.is_empty());
    let only_one = ["raw_status", "source_name", "agent_name", "lost_on"];
    for table in ["leads", "lead_people", "lead_communications"] {
        assert_eq!(a.rows(table, &only_one), b.rows(table, &only_one), "{table}");
    }
    let leads = a.rows("leads", &[]);
    assert_eq!(leads.len(), 48);
    assert!(leads.values().any(|l| l.get("rent_max").is_some()) && leads.values().any(|l| l["people"] == 2));
    assert_eq!(a.rows("lead_people", &[]).len(), 48 + leads.values().filter(|l| l["people"] == 2).count());
    assert!(a.rows("lead_communications", &[]).values().any(|c| c["kind"] == "text" && c["direction"] == "in"));

    // A stretch of the past is what changed in it, and nothing else.
    let (from, until) = (start() - TimeDelta::minutes(70), start() - TimeDelta::minutes(28));
    let part = Told::of(&both, "people", Read::Backfill { from, until }).await;
    let inside = both.simulator.with_world(|w| {
        w.leads.all.iter().filter(|l| (from..until).contains(&l.modified_at)).map(|l| l.id.clone()).collect::<Vec<_>>()
    });
    assert_eq!(part.rows("leads", &[]).len(), inside.len());
    assert!((1..48).contains(&inside.len()));
}

#[tokio::test]
async fn a_window_that_finds_too_many_is_halved_down_to_a_second() {
    let crowd = |office: &Office| {
        let property = office.property(1);
        office.simulator.with_world(|w| {
            let same = start() - TimeDelta::hours(1);
            w.leads.all.iter_mut().filter(|l| l.property_id == property).for_each(|l| l.modified_at = same);
        });
        property
    };
    // The older API alone: the property whose leads all changed in one second waits, the others do not.
    let off = vec!["/Prospects".to_owned()];
    let office = Office::new(3, 12, Options { not_entitled: off, largest_search: 4, ..Options::default() }).await;
    let property = crowd(&office);
    let told = Told::of(&office, "people", Read::Snapshot).await;
    assert_eq!(told.failed.len(), 1);
    assert_eq!(told.failed[0].0, property);
    let second = (start() - TimeDelta::hours(1)).format("%Y-%m-%d %H:%M:%S").to_string();
    assert!(told.failed[0].1.contains(&second), "{}", told.failed[0].1);
    assert_eq!(told.rows("leads", &[]).values().filter(|l| l["property_id"] != property.as_str()).count(), 24);
    // Both: they are asked for one by one instead.
    let office = Office::new(3, 12, Options { largest_search: 4, ..Options::default() }).await;
    let property = crowd(&office);
    let told = Told::of(&office, "people", Read::Snapshot).await;
    assert!(told.failed.is_empty(), "{:?}", told.failed);
    assert!(told.notes.iter().any(|n| n.topic == "window_too_large" && n.subject == property), "{:?}", told.notes);
    let rows = told.rows("leads", &[]);
    let wishes = rows.values().filter(|l| l["property_id"] == property.as_str() && l.get("rent_max").is_some());
    assert_eq!((rows.len(), wishes.count()), (36, 6));
}

#[tokio::test]
async fn residents_come_with_the_ends_of_their_leases_and_without_a_list_that_is_refused() {
    let office = Office::new(2, 0, Options::default()).await;
    office.simulator.with_world(|w| w.today = start().date_naive());
    let told = Told::of(&office, "residents", Read::Snapshot).await;
    let truth = office.simulator.with_world(|w| {
        w.properties
            .iter()
            .flat_map(|p| w.residents(&p.id))
            .map(|r| (r.person_id.clone(), r.current))
            .collect::<BTreeMap<_, _>>()
    });
    let rows = told.rows("residents", &[]);
    assert_eq!(rows.len(), truth.len());
    for row in rows.values() {
        let current = truth[row["person_id"].as_str().unwrap()];
        assert_eq!(row["status"], if current { "current" } else { "applicant" });
        // Only the list of residents tells the account that is billed.
        assert_eq!(row.contains_key("billing_account_id"), current, "{row:?}");
    }
    let events = told.rows("resident_events", &[]);
    let kinds: BTreeSet<&str> = events.values().map(|e| e["kind"].as_str().unwrap()).collect();
    assert!(kinds.is_superset(&BTreeSet::from(["lease_expiration", "work_order"])), "{kinds:?}");
    assert!(events.values().all(|e| e.contains_key("on_date")), "{events:?}");
    office
        .simulator
        .misbehave(Rule::on("Events/GetOnNotice", Misbehaviour::Refused("The interface is not enabled.".to_owned())));
    let told = Told::of(&office, "residents", Read::Snapshot).await;
    assert!(told.failed.is_empty());
    assert!(
        told.notes.iter().any(|n| n.topic == "list_failed" && n.subject == "Events/GetOnNotice"),
        "{:?}",
        told.notes
    );
    assert_eq!(told.rows("residents", &[]).len(), truth.len());
}

/// An office, and an installation that polls it.
struct House {
    office: Office,
    db: TestDb,
    app: App,
    database: Arc<Database>,
    contacts: Contacts,
}

impl House {
    async fn new(office: Office, every: &str, clock: Arc<dyn Clock>) -> Self {
        let settings = office.settings();
        Self::with(office, every, clock, settings).await
    }

    async fn with(office: Office, every: &str, clock: Arc<dyn Clock>, settings: Value) -> Self {
        let db = TestDb::new().await;
        let specs = office.dir.path().join("specs");
        std::fs::create_dir(&specs).unwrap();
        let spec = json!({
            "name": PIPELINE, "about": "leads",
            "source": {"connector": "resman", "stream": "people", "read": "changes", "settings": settings},
            "sinks": [{"sink": "postgres"}],
            "schedule": {"every": every},
        });
        std::fs::write(specs.join("people.toml"), toml::to_string(&spec).unwrap()).unwrap();
        let app = App {
            specs: Some(specs),
            database_url: Some(db.url.clone()),
            clock: clock.clone(),
            observer: Arc::new(Silent),
        };
        let database = Database::open(Some(&db.url)).await.unwrap();
        let contacts = Contacts::new(db.pool.clone(), clock);
        Self { office, db, app, database, contacts }
    }

    async fn of(properties: usize, leads: usize, options: Options) -> Self {
        let office = Office::new(properties, leads, options).await;
        let clock = Arc::new(office.clock.clone());
        Self::new(office, "1s", clock).await
    }

    fn poller(&self) -> Poller {
        Poller::new(&self.app, &self.database, PIPELINE)
    }

    async fn count(&self, sql: &str) -> i64 {
        sqlx::query_scalar(AssertSqlSafe(sql)).fetch_one(&self.db.pool).await.unwrap()
    }
}

#[tokio::test]
async fn a_poll_without_news_is_one_call_a_property_and_leaves_no_run() {
    let house = House::of(3, 6, Options::default()).await;
    let stop = CancellationToken::new();
    let mut poller = house.poller();
    assert_eq!(poller.poll(&stop).await.unwrap(), Polled::News);
    assert_eq!(house.count("select count(*) from core.leads").await, 18);
    assert_eq!(house.count("select count(*) from sync.contact_sync where sync_status = 'success'").await, 18);
    assert_eq!(house.count("select count(*) from ops.untold").await, 0);
    house.office.clock.advance(TimeDelta::seconds(10));
    // The first look behind the whole reading may bring what the overlap repeats, known by its fingerprint.
    assert_eq!(poller.poll(&stop).await.unwrap(), Polled::Nothing);
    let runs = house.count("select count(*) from ops.runs").await;
    house.office.simulator.forget_requests();
    for _ in 0..5 {
        house.office.clock.advance(TimeDelta::seconds(1));
        assert_eq!(poller.poll(&stop).await.unwrap(), Polled::Nothing);
    }
    let asked = house.office.simulator.requests();
    assert_eq!(asked.len(), 15, "{asked:?}");
    assert!(asked.iter().all(|r| r.path == "/Prospects"));
    assert_eq!(house.count("select count(*) from ops.runs").await, runs);
    assert_eq!(house.count("select count(*) from ops.polls where news = 1 and fault is null").await, 1);

    // An outage is counted and shown, and is no run either.
    house.office.simulator.misbehave(Rule::on("*", Misbehaviour::ServerError { status: 503, retry_after_secs: None }));
    assert!(poller.poll(&stop).await.is_err());
    assert_eq!(house.count("select count(*) from ops.polls where fault is not null").await, 1);
    assert_eq!(house.count("select count(*) from ops.runs").await, runs);
    house.office.simulator.behave();
    assert_eq!(poller.poll(&stop).await.unwrap(), Polled::Nothing);
    assert_eq!(house.count("select count(*) from ops.polls where fault is null and failures = 1").await, 1);
}

/// Many properties and a partner who takes few calls a second: whoever has news is asked in each poll, the others in turn.
#[tokio::test]
async fn of_many_properties_those_with_news_are_asked_in_each_poll_and_the_others_in_turn() {
    let office = Office::new(40, 1, Options::default()).await;
    let mut settings = office.settings();
    settings["limits"] = json!({"calls_per_sec": 30, "burst": 1, "backoff_ms": 1, "attempts": 2, "parallel": 4});
    let clock = Arc::new(office.clock.clone());
    let house = House::with(office, "1s", clock, settings).await;
    let stop = CancellationToken::new();
    let mut poller = house.poller();
    assert_eq!(poller.poll(&stop).await.unwrap(), Polled::News);
    let (simulator, clock) = (&house.office.simulator, &house.office.clock);
    clock.advance(TimeDelta::seconds(10));
    // The first poll of a process leaves nobody out.
    simulator.forget_requests();
    poller.poll(&stop).await.unwrap();
    let asked = |simulator: &Simulator| {
        let all = simulator.requests().into_iter().filter(|r| r.path == "/Prospects");
        all.filter_map(|r| r.property).collect::<Vec<String>>()
    };
    assert_eq!(asked(simulator).len(), 40);
    let id = simulator.with_world(|w| w.leads.all[7].id.clone());
    let property = simulator.with_world(|w| w.leads.all[7].property_id.clone());
    let edit = |n: usize| {
        let now = clock.now();
        simulator.with_world(|w| w.leads.edit(&id, now, |l| l.people[0].email = Some(format!("n{n}@mail.example"))));
    };
    edit(0);
    let mut polls = 0;
    while poller.poll(&stop).await.unwrap() == Polled::Nothing {
        polls += 1;
        assert!(polls < 8, "nobody comes by");
    }
    let mut seen = BTreeSet::new();
    for n in 1..12 {
        clock.advance(TimeDelta::seconds(1));
        edit(n);
        simulator.forget_requests();
        assert_eq!(poller.poll(&stop).await.unwrap(), Polled::News, "news at a lively property waits");
        let asked = asked(simulator);
        assert!(asked.contains(&property) && asked.len() < 40, "{} calls in one poll", asked.len());
        seen.extend(asked);
        if seen.len() == 40 {
            break;
        }
    }
    assert_eq!(seen.len(), 40, "somebody is never asked");
}

#[tokio::test]
async fn a_lead_whose_slice_was_committed_is_told_though_nobody_lived_to_do_it() {
    let house = House::of(1, 3, Options::default()).await;
    let stop = CancellationToken::new();
    // Somebody holds the right to tell, so that the telling comes to stand between the commit and the contacts.
    let mut other = PgConnection::connect(&house.db.url).await.unwrap();
    sqlx::query("select pg_advisory_lock(hashtextextended('propflow.tell', 0))").execute(&mut other).await.unwrap();
    for sql in [
        "create function shout() returns trigger language plpgsql as $$ begin notify committed; return null; end $$",
        "create trigger shout after insert on ops.slices for each statement execute function shout()",
    ] {
        sqlx::query(sql).execute(&house.db.pool).await.unwrap();
    }
    let mut listener = PgListener::connect_with(&house.db.pool).await.unwrap();
    listener.listen("committed").await.unwrap();
    let mut poller = house.poller();
    {
        let mut poll = pin!(poller.poll(&stop));
        tokio::select! {
            _ = &mut poll => panic!("the telling did not wait"),
            heard = listener.recv() => { heard.unwrap(); }
        }
    }
    assert_eq!(house.count("select count(*) from core.leads").await, 3);
    assert_eq!(house.count("select count(*) from sync.contacts").await, 0);
    sqlx::query("select pg_advisory_unlock_all()").execute(&mut other).await.unwrap();
    assert_eq!(telling::tell(&house.contacts).await.unwrap(), 3);
    assert_eq!(house.count("select count(*) from sync.contacts").await, 3);
    assert_eq!(telling::tell(&house.contacts).await.unwrap(), 0);
    // A phone without a country code is of the property's country, whoever tells.
    for sql in [
        "insert into core.properties (property_id, name, country) select distinct property_id, 'x', 'GB' from core.leads",
        "update core.leads set phone = '020 7946 0018'",
    ] {
        sqlx::query(sql).execute(&house.db.pool).await.unwrap();
    }
    telling::tell(&house.contacts).await.unwrap();
    assert_eq!(house.count("select count(*) from sync.contacts where phone = '+442079460018'").await, 3);
}

#[tokio::test]
async fn a_lead_that_the_contacts_refuse_is_a_reject_with_its_reason_and_holds_up_nobody() {
    let house = House::of(1, 3, Options::default()).await;
    // A value that the table of contacts cannot hold stands for whatever else may be refused.
    let id = house.office.simulator.with_world(|w| w.leads.all[1].id.clone());
    sqlx::query(
        "create function refuse() returns trigger language plpgsql as $$ begin \
         if new.resman_contact_id = tg_argv[0] then raise exception 'no' using errcode = '23514'; end if; return new; end $$",
    )
    .execute(&house.db.pool)
    .await
    .unwrap();
    let trigger = format!(
        "create trigger refuse before insert on sync.contact_sync for each row execute function refuse('{id}')"
    );
    sqlx::query(AssertSqlSafe(trigger)).execute(&house.db.pool).await.unwrap();
    let mut poller = house.poller();
    poller.poll(&CancellationToken::new()).await.unwrap();
    assert_eq!(house.count("select count(*) from sync.contact_sync").await, 2);
    let open =
        format!("select count(*) from ops.rejects where dataset = 'leads' and key = '{id}' and resolved_at is null");
    assert_eq!(house.count(&open).await, 1);
    assert_eq!(house.count("select count(*) from ops.untold").await, 0);
    // What was wrong is mended, and the next change takes the complaint back.
    sqlx::query("drop trigger refuse on sync.contact_sync").execute(&house.db.pool).await.unwrap();
    house.office.clock.advance(TimeDelta::seconds(5));
    let now = house.office.clock.now();
    house.office.simulator.with_world(|w| w.leads.edit(&id, now, |l| l.people[0].last_name = "Marsh".to_owned()));
    assert_eq!(poller.poll(&CancellationToken::new()).await.unwrap(), Polled::News);
    assert_eq!(house.count("select count(*) from sync.contact_sync").await, 3);
    assert_eq!(house.count(&open).await, 0);
}

/// Polls a future so many times, then drops it where it stands.
async fn killed_after<F: Future>(future: F, times: usize) -> Option<F::Output> {
    let mut future = pin!(future);
    let mut left = times;
    std::future::poll_fn(move |context| {
        if left == 0 {
            return Poll::Ready(None);
        }
        left -= 1;
        future.as_mut().poll(context).map(Some)
    })
    .await
}

/// Random edits at the office, between and within polls; outages, answers that are cut off, windows that find too many;
/// processes that die anywhere. In the end each lead is one contact that says what ResMan says, and each change was made once.
#[tokio::test]
async fn every_change_reaches_the_contacts_once() {
    for (seed, newer_off) in [(1, false), (2, true)] {
        let mut options = Options { largest_search: 8, ..Options::default() };
        if newer_off {
            options.not_entitled.push("/Prospects".to_owned());
        }
        let house = House::of(2, 4, options).await;
        let (simulator, clock) = (&house.office.simulator, &house.office.clock);
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let stop = CancellationToken::new();
        let mut poller = house.poller();
        for step in 0..50 {
            for _ in 0..rng.random_range(0..3) {
                let now = clock.now();
                let property = house.office.property(rng.random_range(0..2));
                let pick = rng.random_range(0..1_000);
                match rng.random_range(0..6) {
                    0 => {
                        let person = LeadPerson {
                            first_name: format!("Wanda{step}x{pick}"),
                            last_name: format!("Of{step}x{pick}"),
                            email: Some(format!("walk{step}.{pick}@mail.example")),
                            ..LeadPerson::default()
                        };
                        simulator.with_world(|w| w.leads.walk_in(&property, person, now));
                    }
                    what => simulator.with_world(|w| {
                        let id = w.leads.all[pick % w.leads.all.len()].id.clone();
                        w.leads.edit(&id, now, |lead| match what {
                            1 | 2 => lead.people[0].email = Some(format!("edit{step}.{pick}@mail.example")),
                            3 => lead.people[0].last_name = format!("Name{step}x{pick}"),
                            4 => lead.status = LeadStatus::Lost,
                            _ => lead.status = LeadStatus::Prospect,
                        });
                    }),
                }
            }
            let trouble = match rng.random_range(0..8) {
                0 => Some(Misbehaviour::ServerError { status: 503, retry_after_secs: None }),
                1 => Some(Misbehaviour::CutBody),
                2 => Some(Misbehaviour::Malformed),
                _ => None,
            };
            if let Some(trouble) = trouble {
                let path = if rng.random_bool(0.5) { "/Prospects" } else { "MITS/SearchProspects" };
                simulator.misbehave(Rule::on(path, trouble).times(rng.random_range(1..6)));
            }
            if rng.random_bool(0.4) {
                // A process of its own, with connections of its own, that ends somewhere on the way.
                let database = Database::open(Some(&house.db.url)).await.unwrap();
                let mut other = Poller::new(&house.app, &database, PIPELINE);
                let _ = killed_after(other.poll(&stop), rng.random_range(1..120)).await;
                drop(other);
                database.pool.close().await;
            } else {
                let _ = poller.poll(&stop).await;
            }
            simulator.behave();
            clock.advance(TimeDelta::milliseconds(rng.random_range(0..2_500)));
        }
        let mut calm = 0;
        for _ in 0..200 {
            clock.advance(TimeDelta::seconds(5));
            // A run that was killed holds its lease until the server notices that it has gone.
            calm += i32::from(matches!(poller.poll(&stop).await, Ok(Polled::Nothing)));
            if calm == 2 {
                break;
            }
        }
        assert_eq!(calm, 2, "the polls never come to rest");
        clock.advance(TimeDelta::seconds(600));
        telling::tell(&house.contacts).await.unwrap();
        assert_eq!(house.count("select count(*) from ops.untold").await, 0);

        let leads = simulator.with_world(|w| w.leads.all.clone());
        type Known = (String, Option<String>, Option<String>, Option<String>);
        let rows: Vec<Known> = sqlx::query_as(
            "select s.resman_contact_id, c.email, c.last_name, c.base ->> 'status' from sync.contact_sync s \
             join sync.contacts c on c.id = s.user_id",
        )
        .fetch_all(&house.db.pool)
        .await
        .unwrap();
        let known: BTreeMap<_, _> =
            rows.into_iter().map(|(id, email, last, status)| (id, (email, last, status))).collect();
        assert_eq!(known.len(), leads.len(), "one contact a lead");
        for lead in &leads {
            let (email, last, status) = &known[&lead.id];
            let person = &lead.people[0];
            assert_eq!((email.as_deref(), last.as_deref()), (person.email.as_deref(), Some(person.last_name.as_str())));
            let word = match lead.status {
                LeadStatus::Prospect => "prospect",
                LeadStatus::Lost => "lost",
                LeadStatus::Applicant => "applicant",
                LeadStatus::Resident => "resident",
            };
            assert_eq!(status.as_deref(), Some(word), "seed {seed}");
        }
        let twice = house
            .count(
                "select count(*) from (select from sync.contact_history where field in ('email', 'last_name') \
                 group by contact_id, field, after having count(*) > 1) twice",
            )
            .await;
        assert_eq!(twice, 0, "a change was made twice");
        assert_eq!(house.count("select count(*) from sync.conflicts").await, 0);
        assert_eq!(house.count("select count(*) from core.leads").await, i64::try_from(leads.len()).unwrap());
    }
}

#[tokio::test]
async fn a_change_in_resman_is_an_event_of_ours_while_one_process_polls() {
    let office = Office::at(2, 4, Options::default(), TestClock::at(SystemClock.now())).await;
    let house = House::new(office, "1s", Arc::new(SystemClock)).await;
    house.poller().poll(&CancellationToken::new()).await.unwrap();
    let stop = CancellationToken::new();
    let plans = house.app.sound_plans().await.unwrap();
    // Two processes stand ready; one of them polls.
    let polls = async {
        tokio::join!(
            poll::keep(&house.app, &house.database, &plans, &stop),
            poll::keep(&house.app, &house.database, &plans, &stop)
        )
    };
    let mut listener = PgListener::connect_with(&house.db.pool).await.unwrap();
    listener.listen(ANNOUNCED).await.unwrap();
    let edits = async {
        for n in 0..3 {
            let id = house.office.simulator.with_world(|w| w.leads.all[n].id.clone());
            let email = format!("news{n}@mail.example");
            house
                .office
                .simulator
                .with_world(|w| w.leads.edit(&id, SystemClock.now(), |l| l.people[0].email = Some(email.clone())));
            let began = Instant::now();
            loop {
                tokio::time::timeout(Duration::from_secs(120), listener.recv()).await.unwrap().unwrap();
                let there = house.count(&format!("select count(*) from sync.contacts where email = '{email}'")).await;
                if there == 1 {
                    break;
                }
            }
            eprintln!("a change in ResMan was an event of ours after {} ms", began.elapsed().as_millis());
        }
        stop.cancel();
    };
    tokio::join!(polls, edits);
}

#[tokio::test]
async fn a_schedule_that_cannot_work_is_refused_by_name() {
    let office = Office::new(1, 0, Options::default()).await;
    for (schedule, read, expected) in [
        (json!({"every": "soon"}), "changes", "`soon` is not a time between polls"),
        (json!({"every": "0s"}), "changes", "`0s` is not a time between polls"),
        (json!({"every": "1s"}), "snapshot", "`schedule.every`: the pipeline does not read changes"),
        (json!({"every": "1s", "zone": "UTC"}), "changes", "`schedule`: it has `every` and also `cron` or `zone`"),
        (json!({"cron": ["0 6 * * *"]}), "changes", "`schedule.zone`: this key is required and missing"),
    ] {
        let spec = json!({
            "name": PIPELINE, "about": "leads", "schedule": schedule, "sinks": [{"sink": "postgres"}],
            "source": {"connector": "resman", "stream": "people", "read": read, "settings": office.settings()},
        });
        let file = pipelines::spec::SpecFile { place: "people.toml".to_owned(), text: toml::to_string(&spec).unwrap() };
        let (_, faults) = pipelines::plan::check(&[file]).await;
        assert_eq!(faults.len(), 1, "{faults:?}");
        assert!(faults[0].chain().contains(expected), "{}", faults[0].chain());
    }
}
