//! Contacts and the simulated ResMan: one record per person, and no update of either side lost.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use catalog::store::events;
use catalog::store::outbox::Message;
use catalog::{Clock, Env, TestClock};
use chrono::{DateTime, TimeDelta, Utc};
use fixtures::resman::{Misbehaviour, Options, Rule, Simulator};
use fixtures::world::leads::{LeadPerson, LeadStatus};
use fixtures::world::{Shape, World};
use kit::db::TestDb;
use pipelines::app::App;
use pipelines::contacts::identity::Rules;
use pipelines::contacts::inbound::{Became, Reading, Told};
use pipelines::contacts::service::{Interaction, NewContact, OptOut, Trouble};
use pipelines::contacts::{Contacts, Patch, Source, Strategy};
use pipelines::outbox::{self, Couriers};
use pipelines::progress::Silent;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};
use sinks::Courier;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

struct Desk {
    db: TestDb,
    contacts: Contacts,
    couriers: Arc<Couriers>,
    steps: Arc<Steps>,
    simulator: Simulator,
    clock: TestClock,
    property: String,
    _dir: tempfile::TempDir,
}

impl Desk {
    async fn new() -> Self {
        let db = TestDb::new().await;
        let clock = TestClock::at(DateTime::<Utc>::from_timestamp(1_790_000_000, 0).unwrap());
        let shape = Shape { seed: 5, properties: 1, units: 6, today: kit::rig::today() };
        let options = Options { clock: Arc::new(clock.clone()), ..Options::default() };
        let simulator = Simulator::start(World::generate(shape), options).await.unwrap();
        let dir = tempfile::tempdir().unwrap();
        let secret = |name: &str, value: &str| {
            std::fs::write(dir.path().join(name), value).unwrap();
            format!("file:{}", dir.path().join(name).display())
        };
        let settings = json!({
            "v1_url": simulator.base_url_v1(), "partner_id": secret("partner", &simulator.credentials().partner_id),
            "api_key": secret("key", &simulator.credentials().api_key),
            "account_id": simulator.credentials().account_id, "lead_source": "DomIQ", "agent": "* DomIQ",
            "limits": {"calls_per_sec": 10_000, "burst": 10_000, "parallel": 8, "backoff_ms": 1, "attempts": 1},
        });
        let env = Env { clock: Arc::new(clock.clone()), ..Env::default() };
        let courier = sinks::find_courier("resman").unwrap().open(settings, env).await.unwrap();
        let app = App {
            specs: None,
            database_url: Some(db.url.clone()),
            clock: Arc::new(clock.clone()),
            observer: Arc::new(Silent),
        };
        let couriers = Couriers::new(&app, db.pool.clone());
        let steps =
            Arc::new(Steps { inner: courier, next: Mutex::default(), ended: Notify::new(), hold: Mutex::default() });
        couriers.insert("resman", "resman", steps.clone()).await;
        let contacts = Contacts::new(db.pool.clone(), Arc::new(clock.clone()));
        let property = simulator.with_world(|w| w.properties[0].id.clone());
        Self { db, contacts, couriers, steps, simulator, clock, property, _dir: dir }
    }

    fn person(&self, first: &str, last: &str, email: Option<&str>, phone: Option<&str>) -> NewContact {
        let own = |t: &str| Some(t.to_owned());
        NewContact {
            property_id: self.property.clone(),
            patch: Patch {
                first_name: own(first),
                last_name: own(last),
                email: email.and_then(own),
                phone: phone.and_then(own),
                ..Patch::default()
            },
            interaction: None,
        }
    }

    async fn drain(&self) {
        let options = outbox::Options { parallel: 1, drain: true };
        let never = CancellationToken::new();
        let work = outbox::work(&self.db.pool, &self.couriers, options, &never);
        tokio::select! { done = work => done.unwrap(), () = self.ended() => {} }
    }

    /// Works until the process ends at a place; nothing that it held is held any more.
    async fn die(&self, place: Place) {
        *self.steps.next.lock().unwrap() = Some((place, None));
        tokio::select! {
            done = outbox::attempt(&self.db.pool, &self.couriers, None) => { done.unwrap(); }
            () = self.ended() => {}
        }
        self.steps.next.lock().unwrap().take();
        self.one::<i64>("select count(*) from (select from sync.outbox where state = 'waiting' for update) held").await;
    }

    async fn ended(&self) {
        self.steps.ended.notified().await;
    }

    /// Reads every lead as a poll does, and tells the service.
    async fn poll(&self) -> Vec<Became> {
        let mut became = Vec::new();
        for told in self.leads() {
            became.push(self.contacts.told(&told, "poll").await.unwrap().1);
        }
        became
    }

    fn leads(&self) -> Vec<Told> {
        self.simulator.with_world(|w| {
            let told = |l: &fixtures::world::leads::Lead| Told {
                prospect_id: l.id.clone(),
                person_id: l.people.first().map(|p| p.id.clone()),
                property_id: l.property_id.clone(),
                first_name: l.people.first().map(|p| p.first_name.clone()),
                last_name: l.people.first().map(|p| p.last_name.clone()),
                email: l.people.first().and_then(|p| p.email.clone()),
                phone: l.people.first().and_then(|p| p.phone.clone()),
                status: Some(if l.status == LeadStatus::Lost { "lost" } else { "prospect" }.to_owned()),
                ..Told::default()
            };
            w.leads.all.iter().map(told).collect()
        })
    }

    async fn one<T>(&self, sql: &'static str) -> T
    where
        T: Send + Unpin + for<'r> sqlx::Decode<'r, sqlx::Postgres> + sqlx::Type<sqlx::Postgres>,
    {
        sqlx::query_scalar(sql).fetch_one(&self.db.pool).await.unwrap()
    }
}

/// The steps of a delivery at which the process may end, or the office write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    BeforeLook,
    AfterLook,
    AfterPost,
}

/// Is told which message is under way.
type Act = Box<dyn FnOnce(&Message) + Send>;

/// The courier, with something that happens at a place: an act of somebody else, or the end of the process.
struct Steps {
    inner: Box<dyn Courier>,
    next: Mutex<Option<(Place, Option<Act>)>>,
    ended: Notify,
    /// Says when a post has a look behind it, and waits to be let on.
    hold: Mutex<Option<(Arc<Notify>, Arc<Notify>)>>,
}

impl Steps {
    async fn pass(&self, place: Place, message: &Message) {
        let next = {
            let mut next = self.next.lock().unwrap();
            next.take_if(|(at, _)| *at == place)
        };
        match next {
            Some((_, Some(act))) => act(message),
            Some((_, None)) => {
                self.ended.notify_one();
                std::future::pending::<()>().await;
            }
            None => {}
        }
    }
}

#[async_trait]
impl Courier for Steps {
    async fn check(&self) -> catalog::Result<()> {
        self.inner.check().await
    }

    async fn look(&self, message: &Message) -> catalog::Result<Option<Vec<Value>>> {
        self.pass(Place::BeforeLook, message).await;
        let found = self.inner.look(message).await;
        self.pass(Place::AfterLook, message).await;
        found
    }

    async fn deliver(&self, message: &Message) -> catalog::Result<Option<Value>> {
        let hold = self.hold.lock().unwrap().take();
        if let Some((reached, go)) = hold {
            reached.notify_one();
            go.notified().await;
        }
        let reply = self.inner.deliver(message).await;
        self.pass(Place::AfterPost, message).await;
        reply
    }
}

/// The chatbot, the office and the outbox at random: polls, outages, lost answers, a process that ends at each step of a
/// delivery, an office that writes between our look and our post.
#[tokio::test]
async fn no_update_is_lost_and_no_person_is_there_twice() {
    // More of them, to look for what is rare: `PROPFLOW_SEEDS=200`.
    let seeds = std::env::var("PROPFLOW_SEEDS").ok().and_then(|n| n.parse().ok()).unwrap_or(6);
    for seed in 1..=seeds {
        let strategy = [Strategy::ManualReview, Strategy::ResmanWins, Strategy::DomiqWins][seed as usize % 3];
        Story::new(seed, strategy).await.run().await;
    }
}

const FIRST: [&str; 5] = ["Rosa", "Milo", "Ines", "Tobias", "Nadia"];
const LAST: [&str; 5] = ["Quill", "Marsh", "Hale", "Dray", "Brandt"];

/// Values by person and field.
type Written = BTreeMap<(usize, &'static str), String>;

struct Story {
    seed: u64,
    strategy: Strategy,
    rng: ChaCha8Rng,
    desk: Desk,
    ids: BTreeMap<usize, Uuid>,
    /// The newest values that each side wrote.
    ours: Written,
    theirs: Written,
    written_between: Arc<Mutex<Written>>,
    /// What was done, in words.
    acts: Vec<String>,
}

impl Story {
    async fn new(seed: u64, strategy: Strategy) -> Self {
        let desk = Desk::new().await;
        desk.contacts.set_rules(&desk.property, &Rules { strategy, ..Rules::default() }, "test").await.unwrap();
        let rng = ChaCha8Rng::seed_from_u64(seed);
        let (ids, ours, theirs) = (BTreeMap::new(), Written::new(), Written::new());
        Self { seed, strategy, rng, desk, ids, ours, theirs, written_between: Arc::default(), acts: Vec::new() }
    }

    async fn run(mut self) {
        for step in 0..80 {
            self.desk.clock.advance(TimeDelta::seconds(self.rng.random_range(1..90)));
            self.step(step).await;
        }
        let desk = &self.desk;
        desk.simulator.behave();
        *desk.steps.next.lock().unwrap() = None;
        for _ in 0..6 {
            desk.clock.advance(TimeDelta::hours(2));
            desk.drain().await;
            desk.poll().await;
        }
        self.check().await;
    }

    async fn step(&mut self, step: usize) {
        let n = self.rng.random_range(0..FIRST.len());
        let act = self.rng.random_range(0..14);
        self.acts.push(format!("{} step {step}: act {act} on {}", self.desk.clock.now().format("%H:%M:%S"), FIRST[n]));
        match act {
            0..3 => self.come(n).await,
            3..6 => self.change(n, step).await,
            6..8 => self.office(n, step, None),
            8 => {
                let trouble = if self.rng.random_bool(0.5) { Misbehaviour::CutBody } else { Misbehaviour::Malformed };
                let path =
                    if self.rng.random_bool(0.7) { "MITS/PostLeadManagement4_0" } else { "MITS/SearchProspects" };
                self.desk.simulator.misbehave(Rule::on(path, trouble).times(2));
            }
            9 | 10 => {
                let place = [Place::BeforeLook, Place::AfterLook, Place::AfterPost][self.rng.random_range(0..3)];
                self.desk.die(place).await;
            }
            11 => self.office(n, step, Some("last_name")),
            12 => self.desk.drain().await,
            _ => _ = self.desk.poll().await,
        }
    }

    async fn come(&mut self, n: usize) {
        let phone = format!("+1251555010{n}");
        if self.ids.contains_key(&n) && self.theirs.keys().any(|(m, field)| *m == n && *field != "email") {
            // By now the office knows them under another name or number; a word of theirs comes under their id.
            let said = Interaction {
                kind: "chat".into(),
                direction: "in".into(),
                at: self.desk.clock.now(),
                message: Some("Is there a pool?".into()),
                conversation_id: None,
                external_id: None,
            };
            self.desk.contacts.interact(self.ids[&n], &said, Source::Chatbot, "bot").await.unwrap();
            return;
        }
        let first = FIRST[n].to_lowercase();
        let email = self.ours.entry((n, "email")).or_insert_with(|| format!("{first}@mail.example")).clone();
        let new = self.desk.person(FIRST[n], LAST[n], Some(&email), Some(&phone));
        let made = self.desk.contacts.create(&new, Source::Chatbot, "bot").await.unwrap();
        let known = *self.ids.entry(n).or_insert(made.contact_id);
        assert_eq!(made.contact_id, known, "seed {}: {first} is there twice", self.seed);
        self.ours.insert((n, "phone"), phone);
        self.ours.insert((n, "last_name"), LAST[n].to_owned());
    }

    async fn change(&mut self, n: usize, step: usize) {
        let Some(id) = self.ids.get(&n) else { return };
        let mut patch = Patch::default();
        match self.rng.random_range(0..5) {
            0..4 => {
                let email = format!("{}.{step}@mail.example", FIRST[n].to_lowercase());
                patch.email = Some(email.clone());
                self.ours.insert((n, "email"), email);
            }
            _ => {
                let status = if self.rng.random_bool(0.5) { "lost" } else { "active" };
                patch.status = Some(status.to_owned());
            }
        }
        self.desk.contacts.update(*id, &patch, None, Source::Chatbot, "bot").await.unwrap();
    }

    /// Someone at the office corrects a value: now, or between our next look and the post behind it.
    fn office(&mut self, n: usize, step: usize, between: Option<&'static str>) {
        let desk = &self.desk;
        let field = between.unwrap_or(["email", "email", "phone"][self.rng.random_range(0..3)]);
        // Of name and phone one stays as it was: a lead whose every value is replaced before the note of it stands could be
        // known by nothing.
        let field = match field {
            "phone" if n.is_multiple_of(2) => "email",
            "last_name" if n % 2 == 1 => return,
            field => field,
        };
        let id = desk
            .simulator
            .with_world(|w| w.leads.all.iter().find(|l| l.people[0].first_name == FIRST[n]).map(|l| l.id.clone()));
        let Some(id) = id else { return };
        let (raw, value) = match field {
            "email" => (format!("Office.{step}@mail.example"), format!("office.{step}@mail.example")),
            "phone" => (format!("(205) 555-01{step:02}"), format!("+120555501{step:02}")),
            _ => (format!("{}-{step}", LAST[n]), format!("{}-{step}", LAST[n])),
        };
        let (world, clock) = (desk.simulator.world(), desk.clock.clone());
        let edit = move || {
            let mut world = world.lock().unwrap();
            world.leads.edit(&id, clock.now(), |l| {
                let person = &mut l.people[0];
                match field {
                    "email" => person.email = Some(raw),
                    "phone" => person.phone = Some(raw),
                    _ => person.last_name = raw,
                }
            });
        };
        if between.is_some() {
            // It need not come about; then it is not among what was written.
            let mut next = desk.steps.next.lock().unwrap();
            let (kept, key) = (self.written_between.clone(), (n, field));
            *next = Some((
                Place::AfterLook,
                Some(Box::new(move |message: &Message| {
                    // These have to say the names, as they were read: what changes after that they overwrite.
                    if !["lead_create", "lead_update"].contains(&message.kind.as_str()) {
                        edit();
                        kept.lock().unwrap().insert(key, value);
                    }
                })),
            ));
        } else {
            edit();
            self.theirs.insert((n, field), value);
        }
    }

    /// What befell a contact, for whoever has to find out why.
    async fn diary(&self, id: Uuid) -> String {
        let lines: Vec<String> = sqlx::query_scalar(
            "select to_char(at, 'HH24:MI:SS ') || line from ( \
             select created_at at, concat_ws(' ', 'history', field, before, '->', after, source, rule) line from sync.contact_history where contact_id = $1 \
             union all select t.created_at, concat_ws(' ', 'message', o.id, kind, t.outcome, t.reason, payload -> 'person') from sync.outbox o join sync.outbox_tries t on t.outbox_id = o.id where lane = $1::text \
             union all select created_at, concat_ws(' ', 'conflict', field, base_value, domiq_value, resman_value, state, chosen) from sync.conflicts where contact_id = $1) l order by at",
        )
        .bind(id)
        .fetch_all(&self.desk.db.pool)
        .await
        .unwrap();
        format!("\n{}\n{}", lines.join("\n"), self.acts.join("\n"))
    }

    async fn check(&self) {
        let (desk, seed) = (&self.desk, self.seed);
        let mut theirs = self.theirs.clone();
        theirs.extend(self.written_between.lock().unwrap().clone());
        assert_eq!(desk.one::<i64>("select count(*) from sync.outbox where state <> 'delivered'").await, 0);
        assert!(desk.poll().await.iter().all(|b| *b == Became::Nothing), "seed {seed}: everything has settled");
        let leads = desk.leads();
        let known: Value = desk
            .one("select jsonb_agg(jsonb_build_object('id', c.id, 'name', first_name, 'email', email, 'phone', phone, 'source', source, 'sync', (select jsonb_agg(resman_contact_id) from sync.contact_sync where user_id = c.id))) from sync.contacts c")
            .await;
        assert_eq!(leads.len(), self.ids.len(), "seed {seed}: one lead per person: {leads:#?} {known:#}");
        let open: Vec<(Uuid, Uuid, String)> =
            sqlx::query_as("select id, contact_id, field from sync.conflicts where state = 'open' order by id")
                .fetch_all(&desk.db.pool)
                .await
                .unwrap();
        assert!(open.is_empty() || self.strategy == Strategy::ManualReview);
        for (n, id) in &self.ids {
            let contact = desk.contacts.get(*id).await.unwrap();
            let lead = leads.iter().find(|l| l.first_name.as_deref() == Some(FIRST[*n])).unwrap();
            for field in ["email", "phone", "last_name", "status"] {
                let values = [contact.shared(field), canonical(lead, field)];
                if open.iter().any(|(_, of, at)| of == id && at == field) {
                    assert_ne!(values[0], values[1], "seed {seed}: what is there to decide?");
                } else {
                    assert_eq!(
                        values[0], values[1],
                        "seed {seed}: both sides agree about the {field} of {}",
                        FIRST[*n]
                    );
                }
                if field == "status" {
                    continue;
                }
                // What stands there is the newest value of one of the sides, never an older one.
                let written = [self.ours.get(&(*n, field)).cloned(), theirs.get(&(*n, field)).cloned()];
                for value in &values {
                    assert!(
                        written.contains(value),
                        "seed {seed}, {}: {values:?} of {written:?}: {}",
                        FIRST[*n],
                        self.diary(*id).await
                    );
                }
                // Whatever was overwritten is on record.
                for value in written.iter().flatten() {
                    let kept: i64 = sqlx::query_scalar(
                        "select (select count(*) from sync.contact_history where contact_id = $1 and (after #>> '{}' = $2 or before #>> '{}' = $2)) \
                         + (select count(*) from sync.conflicts where contact_id = $1 and $2 in (domiq_value, resman_value, base_value))",
                    )
                    .bind(id)
                    .bind(value)
                    .fetch_one(&desk.db.pool)
                    .await
                    .unwrap();
                    assert!(
                        kept > 0,
                        "seed {seed}: a value of the {field} of {} vanished without a record: {}",
                        FIRST[*n],
                        self.diary(*id).await
                    );
                }
            }
        }
        // What a person decides stands on both sides, whichever side they name.
        for (n, (conflict, _, _)) in open.iter().enumerate() {
            let side = ["domiq", "resman"][n % 2];
            desk.contacts.resolve(*conflict, Some(side), None, "ana").await.unwrap();
        }
        desk.drain().await;
        let leads = desk.leads();
        for (n, id) in &self.ids {
            let contact = desk.contacts.get(*id).await.unwrap();
            let lead = leads.iter().find(|l| l.first_name.as_deref() == Some(FIRST[*n])).unwrap();
            for field in ["email", "phone", "last_name", "status"] {
                assert_eq!(contact.shared(field), canonical(lead, field), "seed {seed}: the {field} of {}", FIRST[*n]);
            }
        }
        assert!(desk.poll().await.iter().all(|b| *b == Became::Nothing), "seed {seed}: it stands");
        let heads: Vec<i64> = events::since(&desk.db.pool, 0, 10_000).await.unwrap().iter().map(|e| e.seq).collect();
        assert_eq!(heads, (1..=heads.len() as i64).collect::<Vec<_>>(), "events have no gap");
    }
}

/// What a lead says, in the form in which contacts are kept.
fn canonical(lead: &Told, field: &str) -> Option<String> {
    match field {
        "email" => lead.email.as_deref().map(str::to_lowercase),
        "phone" => lead.phone.as_deref().map(|p| {
            let digits: String = p.chars().filter(char::is_ascii_digit).collect();
            format!("+1{}", digits.strip_prefix('1').filter(|d| d.len() == 10).unwrap_or(&digits))
        }),
        "last_name" => lead.last_name.clone(),
        _ => lead.status.clone(),
    }
}

/// Each order in which the office and the chatbot can write, with no poll in between.
#[tokio::test]
async fn what_the_office_writes_meanwhile_is_seen_before_and_behind_our_own_write() {
    let desk = Desk::new().await;
    let rosa = desk.person("Rosa", "Quill", Some("rosa@mail.example"), Some("2515550101"));
    let id = desk.contacts.create(&rosa, Source::Chatbot, "bot").await.unwrap().contact_id;
    desk.drain().await;
    let prospect = desk.leads().remove(0).prospect_id;
    let office = {
        let (world, clock, prospect) = (desk.simulator.world(), desk.clock.clone(), prospect.clone());
        move |change: fn(&mut LeadPerson)| {
            let (world, clock, prospect) = (world.clone(), clock.clone(), prospect.clone());
            move || assert!(world.lock().unwrap().leads.edit(&prospect, clock.now(), |l| change(&mut l.people[0])))
        }
    };
    let bot = async |email: &str| {
        let patch = Patch { email: Some(email.to_owned()), ..Patch::default() };
        desk.contacts.update(id, &patch, None, Source::Chatbot, "bot").await.unwrap();
    };
    let now = async || {
        let (lead, contact) = (desk.leads().remove(0), desk.contacts.get(id).await.unwrap());
        (lead, contact)
    };

    // Another field, after our message was written and before it is delivered: it says nothing about that field.
    bot("rosa.1@mail.example").await;
    office(|p| p.phone = Some("(205) 555-0102".into()))();
    desk.drain().await;
    let (lead, contact) = now().await;
    assert_eq!((lead.email.as_deref(), lead.phone.as_deref()), (Some("rosa.1@mail.example"), Some("(205) 555-0102")));
    assert_eq!(contact.phone.as_deref(), Some("+12055550102"), "it was heard at once");

    // Between our look and our post: the answer shows it.
    bot("rosa.2@mail.example").await;
    let edit = office(|p| p.phone = Some("(205) 555-0103".into()));
    *desk.steps.next.lock().unwrap() = Some((Place::AfterLook, Some(Box::new(move |_: &Message| edit()))));
    desk.drain().await;
    let (lead, contact) = now().await;
    assert_eq!((lead.email.as_deref(), lead.phone.as_deref()), (Some("rosa.2@mail.example"), Some("(205) 555-0103")));
    assert_eq!(contact.phone.as_deref(), Some("+12055550103"), "no poll was needed");

    // A reading from before our write says nothing about what stands there now.
    let (old, began) = (now().await.0, desk.clock.now());
    desk.clock.advance(TimeDelta::seconds(1));
    bot("rosa.3@mail.example").await;
    desk.drain().await;
    let late = Reading { began: Some(began), ..Reading::default() };
    assert_eq!(desk.contacts.told_by(&old, late, "poll").await.unwrap().1, Became::Nothing);
    assert_eq!(now().await.1.email.as_deref(), Some("rosa.3@mail.example"));

    // The same field: nothing is overwritten until somebody has decided, and what is written meanwhile waits too.
    office(|p| p.email = Some("quill@office.example".into()))();
    bot("rosa.4@mail.example").await;
    desk.drain().await;
    bot("rosa.5@mail.example").await;
    desk.drain().await;
    let (lead, contact) = now().await;
    assert_eq!(lead.email.as_deref(), Some("quill@office.example"));
    assert_eq!(contact.email.as_deref(), Some("rosa.5@mail.example"));
    let conflict: Uuid = desk.one("select id from sync.conflicts where state = 'open'").await;
    let chosen = desk.contacts.resolve(conflict, Some("domiq"), None, "ana").await.unwrap();
    assert_eq!(chosen.email.as_deref(), Some("rosa.5@mail.example"), "our side is what it says now");
    desk.drain().await;
    assert_eq!(now().await.0.email.as_deref(), Some("rosa.5@mail.example"));

    // An event says nothing about the person.
    office(|p| p.last_name = "Quill-Hale".into())();
    desk.contacts.opt_out(id, OptOut::Text, Source::Chatbot, "bot").await.unwrap();
    desk.drain().await;
    let (lead, contact) = now().await;
    assert_eq!((lead.last_name.as_deref(), contact.last_name.as_str()), (Some("Quill-Hale"), "Quill-Hale"));

    // The office's last word of an opt-out is how it stands.
    desk.clock.advance(TimeDelta::seconds(1));
    desk.contacts.opt_out(id, OptOut::Email, Source::Chatbot, "bot").await.unwrap();
    for what in [OptOut::Text, OptOut::All] {
        desk.clock.advance(TimeDelta::seconds(1));
        desk.contacts.opt_in(id, what, "wrote to us", "ana").await.unwrap();
    }
    desk.drain().await;
    let notes = desk.simulator.with_world(|w| {
        let events = &w.leads.find(&prospect).unwrap().events;
        events.iter().filter_map(|e| e.comments.clone()).filter(|c| c.starts_with("Opted")).collect::<Vec<_>>()
    });
    assert_eq!(
        notes,
        [
            "Opted out of text messages.",
            "Opted out of e-mail, text messages.",
            "Opted in to text messages again. Opted out of e-mail.",
            "Opted in to e-mail again.",
        ]
    );

    // Somebody else with the same phone does not become the lead that is there.
    let ana = desk.person("Benedikt", "Okafor", None, Some("(205) 555-0103"));
    let ana = desk.contacts.create(&ana, Source::Chatbot, "bot").await.unwrap();
    assert!(ana.is_new_contact);
    desk.drain().await;
    let leads = desk.leads();
    let rosas = leads.iter().find(|l| l.prospect_id == prospect).unwrap();
    assert_eq!(rosas.first_name.as_deref(), Some("Rosa"));
    assert_eq!(desk.one::<i64>("select count(*) from sync.outbox where state = 'waiting'").await, 0);
}

/// ResMan has of a name what its schema has room for, and writes its ids as it likes.
#[tokio::test]
async fn our_own_write_is_known_in_the_form_in_which_resman_has_it() {
    let desk = Desk::new().await;
    let name = format!("Rosa {} \u{fffe}of the Hill", "M".repeat(44));
    let person = desk.person(&name, "Quill", Some("rosa@mail.example"), None);
    let id = desk.contacts.create(&person, Source::Chatbot, "bot").await.unwrap().contact_id;
    // The note of the lead is lost with the process: it is found by as much of the name as ResMan has.
    desk.die(Place::AfterPost).await;
    desk.simulator.with_world(|w| w.leads.all[0].people[0].email = Some("office@mail.example".into()));
    desk.drain().await;
    let lead = desk.leads().remove(0);
    assert_eq!((desk.leads().len(), lead.first_name.as_ref().unwrap().chars().count()), (1, 49));
    let shouted = Told { prospect_id: lead.prospect_id.to_uppercase(), ..lead.clone() };
    for told in [&lead, &shouted] {
        assert_eq!(desk.contacts.told(told, "poll").await.unwrap(), (Some(id), Became::Nothing));
    }
    let (before, posts) = (desk.contacts.get(id).await.unwrap(), desk.simulator.documents().len());
    assert_eq!(before.first_name, name);
    assert_eq!(desk.one::<i64>("select count(*) from sync.contact_sync").await, 1);
    // What has no place there is not posted for ever, and what the office writes is no clash with it.
    let patch = Patch { first_name: Some(format!("{name} and Dale")), ..Patch::default() };
    desk.contacts.update(id, &patch, None, Source::Chatbot, "bot").await.unwrap();
    desk.drain().await;
    assert_eq!(desk.simulator.documents().len(), posts);
    let told = Told { first_name: Some("Rosalind".into()), ..lead };
    assert_eq!(desk.contacts.told(&told, "relay").await.unwrap().1, Became::Updated);
}

/// Somebody speaks in ResMan's name: what it says itself stands in the end, on both sides.
#[tokio::test]
async fn what_is_said_in_resmans_name_is_looked_up_there() {
    let desk = Desk::new().await;
    let rosa = desk.person("Rosa", "Quill", Some("rosa@mail.example"), Some("2515550101"));
    let id = desk.contacts.create(&rosa, Source::Chatbot, "bot").await.unwrap().contact_id;
    desk.drain().await;
    let lead = desk.leads().remove(0);
    let claim = Reading { claimed: true, ..Reading::default() };
    let told = Told { phone: Some("2515550102".into()), status: Some("applicant".into()), ..lead.clone() };
    assert_eq!(desk.contacts.told_by(&told, claim, "bot").await.unwrap().1, Became::Updated);
    desk.drain().await;
    let contact = desk.contacts.get(id).await.unwrap();
    assert_eq!((contact.phone.as_deref(), &*contact.status), (Some("+12515550101"), "active"));
    assert_eq!(desk.leads(), [lead]);
}

/// While our post is under way, ResMan's word for another value is taken: ResMan has to have that again.
#[tokio::test]
async fn a_value_that_was_taken_while_we_wrote_is_written_back() {
    let desk = Desk::new().await;
    let rules = Rules { strategy: Strategy::ResmanWins, ..Rules::default() };
    desk.contacts.set_rules(&desk.property, &rules, "test").await.unwrap();
    let rosa = desk.person("Rosa", "Quill", Some("rosa@mail.example"), None);
    let id = desk.contacts.create(&rosa, Source::Chatbot, "bot").await.unwrap().contact_id;
    desk.drain().await;
    let patch = Patch { email: Some("rosa.1@mail.example".into()), ..Patch::default() };
    desk.contacts.update(id, &patch, None, Source::Chatbot, "bot").await.unwrap();
    let (pause, go) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    *desk.steps.hold.lock().unwrap() = Some((pause.clone(), go.clone()));
    let relay = async {
        pause.notified().await;
        // Written in ResMan between our look and our post, and relayed at once.
        let told = Told { email: Some("office@mail.example".into()), ..desk.leads().remove(0) };
        assert_eq!(desk.contacts.told(&told, "relay").await.unwrap().1, Became::Conflict);
        go.notify_one();
    };
    let (_, ()) = tokio::join!(desk.drain(), relay);
    desk.drain().await;
    let (lead, contact) = (desk.leads().remove(0), desk.contacts.get(id).await.unwrap());
    assert_eq!(contact.email.as_deref(), Some("office@mail.example"));
    assert_eq!(lead.email, contact.email);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_requests_for_one_person_make_one_contact() {
    let desk = Desk::new().await;
    let spellings = [("Rosa", "Quill"), ("rosa", "quill"), ("ROSA", "Quill"), ("Rosa", "Quill ")];
    let requests = (0..1000).map(|n| {
        let (first, last) = spellings[n % 4];
        let phone = ["(251) 555-0188", "+1 251 555 0188", "251.555.0188"][n % 3];
        let new = desk.person(first, last, Some("Rosa.Quill@Mail.example"), Some(phone));
        let contacts = desk.contacts.clone();
        tokio::spawn(async move { contacts.create(&new, Source::Chatbot, "bot").await.unwrap() })
    });
    let made = futures::future::join_all(requests.collect::<Vec<_>>()).await;
    let new = made.iter().filter(|m| m.as_ref().unwrap().is_new_contact).count();
    assert_eq!(new, 1);
    assert_eq!(desk.one::<i64>("select count(*) from sync.contacts").await, 1);
    desk.drain().await;
    assert_eq!(desk.leads().len(), 1);
}

#[tokio::test]
async fn two_records_become_one_and_two_again() {
    let desk = Desk::new().await;
    let a = desk.person("Rosa", "Quill", Some("rosa@mail.example"), None);
    let b = desk.person("Rosalind", "Quill-Hale", None, Some("2515550188"));
    let a = desk.contacts.create(&a, Source::Chatbot, "bot").await.unwrap().contact_id;
    let b = desk.contacts.create(&b, Source::Chatbot, "bot").await.unwrap().contact_id;
    desk.contacts.opt_out(b, OptOut::Text, Source::Chatbot, "bot").await.unwrap();
    let said = Interaction {
        kind: "chat".into(),
        direction: "in".into(),
        at: desk.clock.now(),
        message: Some("Is there a pool?".into()),
        conversation_id: None,
        external_id: Some("m1".into()),
    };
    assert!(desk.contacts.interact(b, &said, Source::Chatbot, "bot").await.unwrap().moved);
    assert!(!desk.contacts.interact(b, &said, Source::Chatbot, "bot").await.unwrap().moved, "one message is one");
    let audited = "select after ->> 'direction' from sync.audit_log where action = 'contact_interaction'";
    assert_eq!(desk.one::<String>(audited).await, "in");
    desk.drain().await;
    assert_eq!(desk.leads().len(), 2);
    let open = |d: &Desk| d.leads().iter().filter(|l| l.status.as_deref() == Some("prospect")).count();

    assert!(matches!(desk.contacts.merge(a, a, "ana").await, Err(Trouble::Refused(_))));
    let (merge, one) = desk.contacts.merge(a, b, "ana").await.unwrap();
    assert_eq!((one.id, one.phone.as_deref(), one.text_opt_out), (a, Some("+12515550188"), true));
    assert_eq!(one.first_name, "Rosa", "a value stays unless the other one is worth more");
    assert!(matches!(desk.contacts.merge(b, a, "ana").await, Err(Trouble::Refused(_))), "a loop");
    assert_eq!(desk.contacts.get(b).await.unwrap().id, a, "the old id leads on");
    let through = Patch { notes: Some("wants a corner unit".into()), ..Patch::default() };
    assert_eq!(desk.contacts.update(b, &through, None, Source::Manual, "ana").await.unwrap().contact.id, a);
    desk.drain().await;
    assert_eq!(open(&desk), 1, "the spare lead is closed in ResMan");
    assert!(desk.poll().await.iter().all(|b| *b == Became::Nothing), "and its closing is no news of the person");

    let (first, second) = desk.contacts.unmerge(merge.id, Some("two sisters"), "ana").await.unwrap();
    assert_eq!((first.phone, second.phone.as_deref()), (None, Some("+12515550188")));
    assert_eq!(first.notes.as_deref(), Some("wants a corner unit"), "what was written since stays");
    assert!(first.text_opt_out && second.text_opt_out, "nobody's opt-out is lost");
    let words: i64 = sqlx::query_scalar("select count(*) from sync.interactions where contact_id = $1")
        .bind(b)
        .fetch_one(&desk.db.pool)
        .await
        .unwrap();
    assert_eq!(words, 1);
    assert!(matches!(desk.contacts.unmerge(merge.id, None, "ana").await, Err(Trouble::Stale(_))));
    desk.drain().await;
    assert_eq!(open(&desk), 2);
}

#[tokio::test]
async fn what_the_office_types_is_found_matched_and_followed() {
    let desk = Desk::new().await;
    let now = desk.clock.now();
    let property = desk.property.clone();
    let lead = desk.simulator.with_world(|w| {
        let person = LeadPerson {
            first_name: "Milo".into(),
            last_name: "Marsh".into(),
            email: Some("milo.marsh@mail.example".into()),
            phone: Some("(251) 555-0101".into()),
            ..LeadPerson::default()
        };
        w.leads.walk_in(&property, person, now)
    });
    let chat = desk.person("Milo", "Marsh", Some("milo.marsh@mail.example"), Some("251-555-0101"));
    let made = desk.contacts.create(&chat, Source::Chatbot, "bot").await.unwrap();
    assert_eq!(desk.poll().await, [Became::Matched], "before our own message went out");
    desk.drain().await;
    assert_eq!(desk.leads().len(), 1, "the search finds the walk-in");
    assert_eq!(desk.poll().await, [Became::Nothing]);
    // A value that ResMan leaves out wipes nothing; one that it changes is taken.
    let told = Told { email: None, phone: Some("251 555 0177".into()), ..desk.leads().remove(0) };
    assert_eq!(desk.contacts.told(&told, "relay").await.unwrap().1, Became::Updated);
    let contact = desk.contacts.get(made.contact_id).await.unwrap();
    assert_eq!(
        (contact.email.as_deref(), contact.phone.as_deref()),
        (Some("milo.marsh@mail.example"), Some("+12515550177"))
    );
    // Both at once, and nobody trusted more: a person decides, and until then nothing moves.
    let ours = Patch { email: Some("milo@new.example".into()), ..Patch::default() };
    desk.contacts.update(made.contact_id, &ours, None, Source::Chatbot, "bot").await.unwrap();
    let told = Told { email: Some("marsh@office.example".into()), ..told };
    assert_eq!(desk.contacts.told(&told, "relay").await.unwrap().1, Became::Conflict);
    let conflict: Uuid = desk.one("select id from sync.conflicts where state = 'open'").await;
    // Both go on meanwhile. The conflict is the same one, and what it was about before is on record.
    let told = Told { email: Some("m.marsh@office.example".into()), ..told };
    assert_eq!(desk.contacts.told(&told, "relay").await.unwrap().1, Became::Conflict);
    let opened: Vec<String> = events::since(&desk.db.pool, 0, 10_000)
        .await
        .unwrap()
        .into_iter()
        .filter(|e| e.event.kind == "opened")
        .map(|e| e.event.key)
        .collect();
    assert_eq!(opened, [conflict.to_string(), conflict.to_string()]);
    let kept = "select before ->> 'resman_value' from sync.audit_log where action = 'conflict_update'";
    assert_eq!(desk.one::<String>(kept).await, "marsh@office.example");
    let ours = Patch { email: Some("milo@newer.example".into()), ..Patch::default() };
    desk.contacts.update(made.contact_id, &ours, None, Source::Chatbot, "bot").await.unwrap();
    assert!(desk.contacts.resolve(conflict, None, Some("not an address"), "ana").await.is_err());
    let contact = desk.contacts.resolve(conflict, Some("domiq"), None, "ana").await.unwrap();
    assert_eq!(contact.email.as_deref(), Some("milo@newer.example"));
    let settled = "select domiq_value || ' ' || resman_value from sync.conflicts";
    assert_eq!(desk.one::<String>(settled).await, "milo@newer.example m.marsh@office.example");
    let decided =
        "select actor || ' ' || (before ->> 'domiq_value') from sync.audit_log where action = 'conflict_resolve'";
    assert_eq!(desk.one::<String>(decided).await, "ana milo@new.example", "though the value stood already");
    assert!(matches!(desk.contacts.resolve(conflict, Some("resman"), None, "ana").await, Err(Trouble::NotFound(_))));
    let _ = lead;
}

#[tokio::test]
async fn bad_input_is_refused_and_nothing_changes() {
    let desk = Desk::new().await;
    let made = desk
        .contacts
        .create(&desk.person("Ines", "Hale", Some("ines@mail.example"), None), Source::Chatbot, "bot")
        .await
        .unwrap();
    let long = "x".repeat(10 << 20);
    let patches = [
        Patch { email: Some("not an address".into()), ..Patch::default() },
        Patch { phone: Some("12".into()), ..Patch::default() },
        Patch { status: Some("happy".into()), ..Patch::default() },
        Patch { first_name: Some(long.clone()), ..Patch::default() },
        Patch { notes: Some(long), ..Patch::default() },
    ];
    let version = desk.contacts.get(made.contact_id).await.unwrap().version;
    for patch in &patches {
        let refused = desk.contacts.update(made.contact_id, patch, None, Source::Chatbot, "bot").await;
        let Err(Trouble::Refused(fault)) = refused else { panic!("{refused:?}") };
        assert!(fault.message.len() < 200, "the value is not repeated");
    }
    let name = Patch { first_name: Some("👩‍🚀 \u{202e}אנה \u{0}".into()), ..Patch::default() };
    let stale = desk.contacts.update(made.contact_id, &name, Some(version + 1), Source::Chatbot, "bot").await;
    assert!(matches!(stale, Err(Trouble::Stale(_))));
    let nobody = desk.contacts.update(Uuid::nil(), &name, None, Source::Chatbot, "bot").await;
    assert!(matches!(nobody, Err(Trouble::NotFound(_))));
    assert!(OptOut::parse("fax").is_err());
    assert!(matches!(
        desk.contacts.create(&desk.person(" ", "", None, None), Source::Chatbot, "bot").await,
        Err(Trouble::Refused(_))
    ));
    assert_eq!(desk.contacts.get(made.contact_id).await.unwrap().version, version);
    let odd = desk.contacts.update(made.contact_id, &name, Some(version), Source::Chatbot, "bot").await.unwrap();
    assert_eq!(odd.contact.first_name, "👩‍🚀 אנה", "what turns text around is no part of a name");
    let audit: Value = desk.one("select coalesce(jsonb_agg(action), '[]') from sync.audit_log").await;
    assert_eq!(audit, json!(["contact_create", "contact_update"]));
}
