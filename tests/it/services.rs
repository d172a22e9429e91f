//! Services around stays: planned once, moved and withdrawn with the stay, each side told once.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use axum::extract::State;
use catalog::store::outbox::{self, Message};
use catalog::{Clock, Env, Result, TestClock};
use chrono::{DateTime, Days, NaiveDate, NaiveTime, TimeDelta, TimeZone, Utc};
use chrono_tz::Tz;
use fixtures::mail::MailServer;
use kit::db::TestDb;
use pipelines::app::{App, Database};
use pipelines::outbox::{Couriers, Options, work};
use pipelines::progress::Silent;
use pipelines::services::templates::Templates;
use pipelines::services::{Asked, Turn, done, request, turn};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};
use sinks::Courier;
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

fn start() -> DateTime<Utc> {
    Utc.with_ymd_and_hms(2026, 3, 1, 12, 0, 0).unwrap()
}

/// A stay as the calendar has it.
#[derive(Debug, Clone)]
struct Stay {
    id: String,
    property: String,
    status: &'static str,
    check_in: NaiveDate,
    nights: i32,
}

impl Stay {
    fn zone(&self) -> Tz {
        if self.property == "P-2" { chrono_tz::America::New_York } else { chrono_tz::Europe::Lisbon }
    }

    fn at(&self, day: i32, hour: u32) -> DateTime<Utc> {
        let day = self.check_in + Days::new(day.try_into().unwrap());
        let local = day.and_time(NaiveTime::from_hms_opt(hour, 0, 0).unwrap());
        self.zone().from_local_datetime(&local).unwrap().to_utc()
    }

    fn starts(&self) -> DateTime<Utc> {
        self.at(0, 16)
    }

    fn ends(&self) -> DateTime<Utc> {
        self.at(self.nights, 11)
    }
}

struct House {
    db: TestDb,
    database: Arc<Database>,
    clock: TestClock,
    templates: Templates,
    couriers: Arc<Couriers>,
    dir: TempDir,
}

impl House {
    async fn new() -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let db = TestDb::new().await;
        let database = Database::open(Some(&db.url)).await.unwrap();
        let clock = TestClock::at(start());
        let dir = tempfile::tempdir().unwrap();
        let app = App {
            specs: Some(dir.path().to_owned()),
            database_url: Some(db.url.clone()),
            clock: Arc::new(clock.clone()),
            observer: Arc::new(Silent),
        };
        let couriers = Couriers::new(&app, db.pool.clone());
        Self { db, database, clock, templates: Templates::load(None).unwrap(), couriers, dir }
    }

    async fn book(&self, stay: &Stay) {
        sqlx::query(
            "insert into core.bookings (booking_id, property_id, kind, booking_status, occupies, platform, connector, connection, \
               source_booking_id, listing_id, identity, sources, check_in, check_out, nights, check_in_time, check_out_time, \
               time_zone, starts_at, ends_at, amount_kind, revision, guest_name, guest_email, guest_phone, guest_count, \
               host_payout, currency) \
             values ($1, $2, 'stay', $3, true, 'airbnb', 'guesty', 'guesty', $1, $2, 'strong', 1, $4, $4 + $5::int, $5::int, \
               '16:00', '11:00', $6, $7, $8, 'host_payout', 1, 'Ana Berg', $1 || '@guests.example', '+15550100', 2, 900, 'USD') \
             on conflict (booking_id) do update set property_id = excluded.property_id, \
               booking_status = excluded.booking_status, check_in = excluded.check_in, check_out = excluded.check_out, \
               nights = excluded.nights, time_zone = excluded.time_zone, starts_at = excluded.starts_at, \
               ends_at = excluded.ends_at, revision = bookings.revision + 1",
        )
        .bind(&stay.id)
        .bind(&stay.property)
        .bind(stay.status)
        .bind(stay.check_in)
        .bind(stay.nights)
        .bind(stay.zone().name())
        .bind(stay.starts())
        .bind(stay.ends())
        .execute(&self.db.pool)
        .await
        .unwrap();
    }

    async fn turn(&self) -> Turn {
        turn(&self.db.pool, &self.templates, self.clock.now()).await.unwrap_or_else(|f| panic!("{}", f.chain()))
    }

    async fn sql(&self, sql: &'static str) {
        sqlx::raw_sql(sql).execute(&self.db.pool).await.unwrap();
    }

    async fn deliver(&self) {
        let options = Options { parallel: 2, drain: true };
        work(&self.db.pool, &self.couriers, options, &CancellationToken::new()).await.unwrap();
    }

    async fn json(&self, sql: &'static str) -> Vec<Value> {
        sqlx::query_scalar(sql).fetch_all(&self.db.pool).await.unwrap()
    }
}

/// Keeps the keys of what arrived.
#[derive(Debug, Default)]
struct Kept(Mutex<Vec<String>>);

#[async_trait]
impl Courier for Kept {
    async fn check(&self) -> Result<()> {
        Ok(())
    }

    async fn deliver(&self, message: &Message) -> Result<Option<Value>> {
        self.0.lock().unwrap().push(message.dedupe_key.clone());
        Ok(None)
    }
}

/// The rules as they come, for properties of any level: rule, trigger, sides told, lowest level.
const RULES: &[(&str, &str, &[&str], bool)] = &[
    ("welcome", "before", &["guest"], false),
    ("arrival_preparations", "before", &["staff"], false),
    ("concierge", "in", &["guest"], false),
    ("mid_stay_housekeeping", "mid", &["guest", "staff"], true),
    ("check_out_cleaning", "out", &["staff"], false),
    ("feedback", "out", &["guest"], false),
    ("owner_summary", "out", &[], false),
];

fn due_of(stay: &Stay, trigger: &str) -> Option<(DateTime<Utc>, DateTime<Utc>)> {
    match trigger {
        "before" => Some((stay.starts() - TimeDelta::hours(48), stay.starts())),
        "in" => Some((stay.starts(), stay.ends())),
        "mid" => (stay.nights >= 4).then(|| (stay.at(stay.nights / 2, 11), stay.ends())),
        _ => Some((stay.ends(), stay.ends() + TimeDelta::hours(48))),
    }
}

/// A task as it ought to be.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Truth {
    property: String,
    due: DateTime<Utc>,
    until: DateTime<Utc>,
    state: &'static str,
    /// Sides told and not delivered yet.
    waiting: BTreeSet<&'static str>,
}

type Told = BTreeMap<(String, &'static str, &'static str), usize>;

/// Stays that come, move, change property, are called off and booked again, while time passes: tasks are what they ought
/// to be, and what was told is what had to be told, once.
#[tokio::test]
async fn tasks_follow_their_stays_and_nobody_is_told_twice() {
    // How often somebody was told that a service has moved, and that it is called off.
    let mut changes: BTreeMap<String, usize> = BTreeMap::new();
    for seed in [1, 2, 3] {
        let mut dice = ChaCha8Rng::seed_from_u64(seed);
        let house = House::new().await;
        house.sql("insert into sync.property_services (property_id, service_level) values ('P-2', 'premium')").await;
        let kept = Arc::new(Kept::default());
        for courier in ["email", "in_app"] {
            house.couriers.insert(courier, courier, kept.clone()).await;
        }
        let mut stays: BTreeMap<String, Stay> = BTreeMap::new();
        let mut truth: BTreeMap<(String, &'static str), Truth> = BTreeMap::new();
        let mut told = Told::new();
        for step in 0..70 {
            for _ in 0..dice.random_range(0..3) {
                let id = format!("b{}", dice.random_range(0..9));
                let today = house.clock.now().date_naive();
                let stay = stays.entry(id.clone()).or_insert_with(|| Stay {
                    id,
                    property: "P-1".to_owned(),
                    status: "pending",
                    check_in: today,
                    nights: 3,
                });
                match dice.random_range(0..6) {
                    0 => stay.status = "cancelled",
                    1 => stay.property = format!("P-{}", dice.random_range(1..3)),
                    2 => stay.nights = dice.random_range(1..8),
                    _ => {
                        stay.status = "confirmed";
                        stay.check_in = today + Days::new(dice.random_range(0..9)) - Days::new(dice.random_range(0..4));
                    }
                }
                let stay = stay.clone();
                house.book(&stay).await;
            }
            let now = house.clock.now();
            // Two workers at once are as one.
            if step % 3 == 0 {
                tokio::join!(house.turn(), house.turn());
            } else {
                house.turn().await;
            }
            assert_eq!(house.turn().await, Turn::default(), "a second turn finds nothing to do");
            for stay in stays.values() {
                for (rule, trigger, sides, premium) in RULES {
                    let confirmed = stay.status == "confirmed" && (!premium || stay.property == "P-2");
                    let wanted = due_of(stay, trigger).filter(|_| confirmed);
                    let key = (stay.id.clone(), *rule);
                    let old = truth.get(&key).cloned();
                    let fresh = |(due, until)| Truth {
                        property: stay.property.clone(),
                        due,
                        until,
                        state: "planned",
                        waiting: BTreeSet::new(),
                    };
                    let mut task = match (old, wanted) {
                        (None, None) => continue,
                        (None, Some((_, until))) if until <= now => continue,
                        (None, Some(wanted)) => fresh(wanted),
                        (Some(old), None) => {
                            let open = old.state == "planned" || (old.state == "due" && old.until > now);
                            if open { Truth { state: "withdrawn", waiting: BTreeSet::new(), ..old } } else { old }
                        }
                        (Some(old), Some((due, until))) => match old.state {
                            "planned" => fresh((due, until)),
                            "withdrawn" if until > now => fresh((due, until)),
                            "due" if due > now || (old.property != stay.property && until > now) => fresh((due, until)),
                            _ => old,
                        },
                    };
                    if task.state == "planned" && task.due <= now {
                        task.state = "due";
                        task.waiting = sides.iter().copied().filter(|s| *s == "staff" || task.until > now).collect();
                    }
                    truth.insert(key, task);
                }
            }
            if dice.random_bool(0.6) {
                house.deliver().await;
                for ((booking, rule), task) in &mut truth {
                    for side in std::mem::take(&mut task.waiting) {
                        *told.entry((booking.clone(), rule, side)).or_default() += 1;
                    }
                }
            }
            let rows: Vec<(String, String, String, DateTime<Utc>, String)> = sqlx::query_as(
                "select booking_id, rule_id, property_id, due_at, state from sync.service_tasks order by 1, 2",
            )
            .fetch_all(&house.db.pool)
            .await
            .unwrap();
            let wanted: Vec<_> = truth
                .iter()
                .map(|((b, r), t)| (b.clone(), (*r).to_owned(), t.property.clone(), t.due, t.state.to_owned()))
                .collect();
            assert_eq!(rows, wanted, "seed {seed}, step {step}, {now}");
            house.clock.advance(TimeDelta::hours(dice.random_range(1..20)));
        }
        house.deliver().await;
        for ((booking, rule), task) in &mut truth {
            for side in std::mem::take(&mut task.waiting) {
                *told.entry((booking.clone(), rule, side)).or_default() += 1;
            }
        }
        let tasks: Vec<(Uuid, String, String)> =
            sqlx::query_as("select task_id, booking_id, rule_id from sync.service_tasks")
                .fetch_all(&house.db.pool)
                .await
                .unwrap();
        let mut arrived: BTreeMap<(String, String, String), usize> = BTreeMap::new();
        // What each side of a task knows: told of it, then perhaps that it has moved, then perhaps that it is called off.
        let mut known: BTreeMap<(String, String), Vec<String>> = BTreeMap::new();
        for key in kept.0.lock().unwrap().iter() {
            let parts: Vec<&str> = key.split('/').collect();
            let kind = parts.get(4).copied().unwrap_or("told");
            let heard = known.entry((parts[1].to_owned(), parts[2].to_owned())).or_default();
            let last = heard.last().map(String::as_str);
            match kind {
                "told" => {}
                _ => assert!(last.is_some_and(|l| l != "withdrawn"), "{kind} behind {last:?}: {key}"),
            }
            heard.push(kind.to_owned());
            if kind != "told" {
                continue;
            }
            let (_, booking, rule) = tasks.iter().find(|(id, ..)| id.to_string() == parts[1]).unwrap();
            *arrived.entry((booking.clone(), rule.clone(), parts[2].to_owned())).or_default() += 1;
        }
        let told: BTreeMap<_, _> =
            told.into_iter().map(|((b, r, s), n)| ((b, r.to_owned(), s.to_owned()), n)).collect();
        assert!(told.len() > 20, "the dice made too little happen");
        assert_eq!(arrived, told, "seed {seed}");
        for ((task, side), heard) in &known {
            let (_, booking, rule) = tasks.iter().find(|(id, ..)| &id.to_string() == task).unwrap();
            let served =
                ["arrival_preparations", "mid_stay_housekeeping", "check_out_cleaning"].contains(&rule.as_str());
            let state = truth.iter().find(|((b, r), _)| b == booking && r == rule).unwrap().1.state;
            let last = heard.last().unwrap();
            let over = served && state == "withdrawn";
            assert_eq!(
                last == "withdrawn",
                over || (last == "withdrawn" && state == "planned"),
                "{side} of {rule}: {heard:?}"
            );
            for kind in heard {
                *changes.entry(kind.clone()).or_default() += 1;
            }
        }
    }
    assert!(changes["withdrawn"] > 3 && changes["moved"] > 3, "{changes:?}");
}

/// What an HTTP receiver was sent: path, idempotency key, authorization, body.
type Heard = Arc<Mutex<Vec<(String, String, String, Value)>>>;

async fn receiver() -> (String, Heard) {
    let heard = Heard::default();
    let take = async |State(heard): State<Heard>, uri: http::Uri, headers: http::HeaderMap, body: String| {
        let header = |name: &str| headers.get(name).map(|v| v.to_str().unwrap().to_owned()).unwrap_or_default();
        let body = serde_json::from_str(&body).unwrap();
        let entry = (uri.path().to_owned(), header("idempotency-key"), header("authorization"), body);
        heard.lock().unwrap().push(entry);
        axum::Json(json!({ "id": "sms-1" }))
    };
    let router = axum::Router::new().fallback(take).with_state(heard.clone());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await });
    (url, heard)
}

/// Writes a courier file that points at the receivers.
fn couriers_file(house: &House, mail: &MailServer, url: &str) {
    let dir = house.dir.path();
    std::fs::write(dir.join("hook"), format!("{url}/services/T0/hush")).unwrap();
    std::fs::write(dir.join("token"), "hush-token").unwrap();
    let text = format!(
        "[[couriers]]\ncourier = \"email\"\nsettings = {{ host = \"127.0.0.1\", port = {}, security = \"none\", from = \"Stays <stays@house.example>\" }}\n\
         [[couriers]]\ncourier = \"slack\"\nsettings = {{ webhook_url = \"file:{dir}/hook\" }}\n\
         [[couriers]]\ncourier = \"sms\"\nsettings = {{ url = \"{url}/messages\", token = \"file:{dir}/token\", from = \"House\", text_field = \"body\" }}\n\
         [[couriers]]\ncourier = \"in_app\"\n",
        mail.port,
        dir = dir.display(),
    );
    std::fs::write(dir.join("couriers.toml"), text).unwrap();
}

fn stay(id: &str, days: u64) -> Stay {
    Stay {
        id: id.to_owned(),
        property: "P-2".to_owned(),
        status: "confirmed",
        check_in: start().date_naive() + Days::new(days),
        nights: 5,
    }
}

/// The whole way: a stay, its rule, the outbox, a mail server, a text provider, a chat, the program itself.
#[tokio::test]
async fn every_side_hears_in_its_own_way() {
    let house = House::new().await;
    let mail = MailServer::start().await.unwrap();
    let (url, heard) = receiver().await;
    couriers_file(&house, &mail, &url);
    house
        .sql(
            "insert into sync.owners (owner_id, name, channel, phone) values ('o1', 'Olga Reis', 'sms', '+15550101'); \
             insert into sync.property_services values ('P-2', 'o1', 'elite'); \
             insert into sync.staff (staff_id, name, property_id, service_types, channel) \
               values ('s1', 'Sam <!here>', 'P-2', '{cleaning_verification}', 'slack'); \
             insert into sync.contacts (id, property_id, email, source, email_opt_out, created_at, updated_at) \
               values (gen_random_uuid(), 'P-2', 'Quiet@guests.example', 'chatbot', true, now(), now()); \
             update sync.services_automation set cost_amount = 120.50, cost_currency = 'USD' where rule_id = 'check_out_cleaning'",
        )
        .await;
    house.book(&stay("loud", 2)).await;
    house.book(&stay("quiet", 2)).await;
    house.clock.advance(TimeDelta::hours(12));
    assert_eq!(house.turn().await.due, 4);
    house.deliver().await;

    let mails = mail.mails();
    assert_eq!(mails.iter().map(|m| m.to.as_str()).collect::<Vec<_>>(), ["loud@guests.example"]);
    assert_eq!(mails[0].header("subject").unwrap(), "Your stay at P-2 from 3 March 2026");
    assert!(mails[0].text.contains("Dear Ana Berg,"), "{}", mails[0].text);
    assert!(mails[0].header("message-id").unwrap().ends_with("@house.example>"));
    assert_eq!(mails[0].header("date").unwrap(), "Mon, 02 Mar 2026 00:00:00 +0000");
    let all = heard.lock().unwrap().clone();
    let texts: Vec<_> = all.iter().filter(|(path, ..)| path == "/messages").collect();
    // The guest who wants no e-mail gets a text; the owner of both stays two.
    assert_eq!(texts.iter().filter(|(.., body)| body["to"] == "+15550100").count(), 1);
    assert_eq!(texts.iter().filter(|(.., body)| body["to"] == "+15550101").count(), 2);
    assert!(texts.iter().all(|(_, key, authorization, _)| key.len() == 32 && authorization == "Bearer hush-token"));
    let chats: Vec<_> = all.iter().filter(|(path, ..)| path == "/services/T0/hush").collect();
    assert_eq!(chats.len(), 2);
    assert!(chats[0].3["text"].as_str().unwrap().contains("Sam &lt;!here&gt;"), "{:?}", chats[0]);
    let reply: Vec<Value> = house.json("select reply from sync.outbox where courier = 'sms'").await;
    assert_eq!(reply[0], json!({ "id": "sms-1" }));

    // Asked for, told, done, and what it cost.
    let asked = Asked {
        booking: "loud".to_owned(),
        rule: "request".to_owned(),
        request: "chat-7".to_owned(),
        note: Some("two more\ntowels".to_owned()),
    };
    let task = request(&house.db.pool, &asked, house.clock.now()).await.unwrap();
    assert_eq!(request(&house.db.pool, &asked, house.clock.now()).await.unwrap(), task, "asked twice, it is one");
    for (wrong, part) in [("nobody", "no confirmed stay"), ("loud", "no rule `requst`")] {
        let asked = Asked { booking: wrong.to_owned(), rule: "requst".to_owned(), ..asked.clone() };
        let fault = request(&house.db.pool, &asked, house.clock.now()).await.unwrap_err();
        assert!(fault.message.contains(part), "{fault:?}");
    }
    assert_eq!(house.turn().await.due, 1);
    house.deliver().await;
    let notices = house.json("select to_jsonb(n) from sync.notifications n").await;
    assert_eq!(notices.len(), 1, "nobody is assigned: the staff sees it in the program");
    assert!(notices[0]["body"].as_str().unwrap().contains("Note: two more towels"), "{notices:?}");
    done(&house.db.pool, task, Some(("15".parse().unwrap(), "USD".to_owned())), house.clock.now()).await.unwrap();
    assert!(done(&house.db.pool, Uuid::nil(), None, house.clock.now()).await.is_err());
    let statement = house.json("select to_jsonb(s) from serving.owner_statement s where booking_id = 'loud'").await;
    assert_eq!(statement[0]["owner_id"], "o1");
    assert_eq!((&statement[0]["service_cost"], &statement[0]["net"]), (&json!(135.5), &json!(764.5)), "{statement:?}");
    let upcoming = house
        .json("select to_jsonb(s) from serving.upcoming_services s where booking_id = 'loud' order by due_at, task_id")
        .await;
    assert!(upcoming.iter().all(|u| u["task_id"] != json!(task)), "what is done is not upcoming");
    let middle = upcoming.iter().find(|u| u["service_type"] == "housekeeping").unwrap();
    assert_eq!(middle["due_local"], "2026-03-05T11:00:00");
    // A rule that is switched off takes its tasks with it, and a property's own one replaces the general one.
    house
        .sql(
            "update sync.services_automation set active = false where rule_id = 'feedback'; \
             insert into sync.services_automation (rule_id, property_id, trigger_event, service_type, staff_template) \
               values ('own_cleaning', 'P-2', 'check_out', 'cleaning_and_inspection', 'staff_task')",
        )
        .await;
    house.turn().await;
    let states = house
        .json(
            "select to_jsonb(rule_id || ' ' || state) from sync.service_tasks where booking_id = 'loud' \
             and rule_id in ('feedback', 'check_out_cleaning', 'own_cleaning') order by rule_id",
        )
        .await;
    assert_eq!(states, ["check_out_cleaning withdrawn", "feedback withdrawn", "own_cleaning planned"]);
    house.database.pool.close().await;
}

/// A mail server's refusal ends the message, or has it tried again; neither its words nor the address are kept.
#[tokio::test]
async fn a_refusal_names_nobody() {
    let house = House::new().await;
    let mail = MailServer::start().await.unwrap();
    couriers_file(&house, &mail, "http://127.0.0.1:9");
    for id in ["gone", "later", "fine"] {
        house.book(&stay(id, 2)).await;
    }
    house.clock.advance(TimeDelta::hours(12));
    house.turn().await;
    house.deliver().await;
    let guests = "select to_jsonb(o) from sync.outbox o where courier = 'email' order by payload ->> 'to'";
    let messages = house.json(guests).await;
    let states: Vec<&str> = messages.iter().map(|m| m["state"].as_str().unwrap()).collect();
    assert_eq!(states, ["delivered", "dead", "waiting"]);
    assert_eq!(messages[1]["reason"], "the mail server refuses the message (550)");
    assert_eq!(messages[2]["reason"], "the mail server does not take the message now (451)");
    let books: String = sqlx::query_scalar("select string_agg(t::text, '') from sync.outbox_tries t")
        .fetch_one(&house.db.pool)
        .await
        .unwrap();
    assert!(!books.contains("guests.example"), "{books}");
    // Called off while the message waits: it is taken back.
    house.book(&Stay { status: "cancelled", ..stay("later", 2) }).await;
    house.turn().await;
    assert_eq!(house.json(guests).await[2]["state"], "withdrawn");
    // The same message once more carries the same id: a mailbox can tell.
    let first = mail.mails()[0].clone();
    sqlx::query("update sync.outbox set state = 'dead' where payload ->> 'to' = 'fine@guests.example'")
        .execute(&house.db.pool)
        .await
        .unwrap();
    house.clock.advance(TimeDelta::hours(1));
    outbox::replay(&house.db.pool, None, house.clock.now()).await.unwrap();
    house.deliver().await;
    let again = mail.mails().into_iter().skip(1).find(|m| m.to == "fine@guests.example").unwrap();
    assert_eq!(again.header("message-id"), first.header("message-id"));
}

/// Settings that would send in the clear, or as nobody, are refused when the courier is opened.
#[tokio::test]
async fn settings_that_cannot_work_are_refused() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let email = sinks::find_courier("email").unwrap();
    let settings = |changes: Value| {
        let mut all = json!({ "host": "mail.example", "from": "stays@house.example" });
        all.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
        all
    };
    for (changes, part) in [
        (json!({ "security": "none" }), "only for a mail server on this machine"),
        (json!({ "from": "nobody" }), "`from` is no e-mail address"),
        (json!({ "username": "me" }), "belong together"),
    ] {
        let fault = email.open(settings(changes), Env::default()).await.err().unwrap();
        assert!(fault.message.contains(part), "{fault:?}");
    }
    assert!(email.open(settings(json!({})), Env::default()).await.is_ok());
    // A template that names something unknown is noticed before anything is sent.
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("templates")).unwrap();
    std::fs::write(dir.path().join("templates/guest_welcome.txt"), "Subject: Hi\n\n{{door_code}}").unwrap();
    let fault = Templates::load(Some(dir.path())).unwrap_err();
    assert!(fault.message.contains("`{{door_code}}`"), "{fault:?}");
}
