//! Contacts and the simulated ResMan: one record per person, and no update of either side lost.

use std::collections::BTreeMap;
use std::sync::Arc;

use catalog::store::events;
use catalog::{Clock, Env, TestClock};
use chrono::{DateTime, TimeDelta, Utc};
use fixtures::resman::{Misbehaviour, Options, Rule, Simulator};
use fixtures::world::leads::{LeadPerson, LeadStatus};
use fixtures::world::{Shape, World};
use kit::db::TestDb;
use pipelines::app::App;
use pipelines::contacts::identity::Rules;
use pipelines::contacts::inbound::{Became, Told};
use pipelines::contacts::service::{Interaction, NewContact, OptOut, Trouble};
use pipelines::contacts::{Contacts, Patch, Source, Strategy};
use pipelines::outbox::{self, Couriers};
use pipelines::progress::Silent;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

struct Desk {
    db: TestDb,
    contacts: Contacts,
    couriers: Arc<Couriers>,
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
        couriers.insert("resman", "resman", courier.into()).await;
        let contacts = Contacts::new(db.pool.clone(), Arc::new(clock.clone()));
        let property = simulator.with_world(|w| w.properties[0].id.clone());
        Self { db, contacts, couriers, simulator, clock, property, _dir: dir }
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
        let options = outbox::Options { parallel: 2, drain: true };
        outbox::work(&self.db.pool, &self.couriers, options, &CancellationToken::new()).await.unwrap();
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

/// The chatbot, the office and the outbox at random, with outages, lost answers and polls in between.
#[tokio::test]
async fn no_update_is_lost_and_no_person_is_there_twice() {
    for (seed, strategy) in [(1, Strategy::ResmanWins), (2, Strategy::DomiqWins), (3, Strategy::ManualReview)] {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let desk = Desk::new().await;
        desk.contacts.set_rules(&desk.property, &Rules { strategy, ..Rules::default() }, "test").await.unwrap();
        let people = 5;
        let mut ids: BTreeMap<usize, Uuid> = BTreeMap::new();
        // The newest values that each side wrote, by person and field.
        let mut ours: BTreeMap<(usize, &str), String> = BTreeMap::new();
        let mut theirs: BTreeMap<(usize, &str), String> = BTreeMap::new();
        for step in 0..70 {
            desk.clock.advance(TimeDelta::seconds(rng.random_range(1..90)));
            let n = rng.random_range(0..people);
            let (first, last) =
                (["Rosa", "Milo", "Ines", "Tobias", "Nadia"][n], ["Quill", "Marsh", "Hale", "Dray", "Brandt"][n]);
            match rng.random_range(0..10) {
                0..3 => {
                    let email = ours
                        .get(&(n, "email"))
                        .cloned()
                        .unwrap_or_else(|| format!("{}@mail.example", first.to_lowercase()));
                    let phone = format!("25155501{n:02}");
                    let new = desk.person(first, last, Some(&email), Some(&phone));
                    let made = desk.contacts.create(&new, Source::Chatbot, "bot").await.unwrap();
                    let known = *ids.entry(n).or_insert(made.contact_id);
                    assert_eq!(made.contact_id, known, "seed {seed}, step {step}: {first} is there twice");
                    ours.entry((n, "email")).or_insert(email);
                }
                3..5 => {
                    let Some(id) = ids.get(&n) else { continue };
                    let email = format!("{}.{step}@mail.example", first.to_lowercase());
                    let patch = Patch { email: Some(email.clone()), ..Patch::default() };
                    desk.contacts.update(*id, &patch, None, Source::Chatbot, "bot").await.unwrap();
                    ours.insert((n, "email"), email);
                }
                5 => {
                    // Someone at the office corrects the e-mail address.
                    let now = desk.clock.now();
                    let email = format!("office.{step}@mail.example");
                    let changed = desk.simulator.with_world(|w| {
                        let lead = w.leads.all.iter().find(|l| l.people[0].first_name == first).map(|l| l.id.clone());
                        lead.is_some_and(|id| w.leads.edit(&id, now, |l| l.people[0].email = Some(email.clone())))
                    });
                    if changed {
                        theirs.insert((n, "email"), email);
                    }
                }
                6 => {
                    let trouble = if rng.random_bool(0.5) { Misbehaviour::CutBody } else { Misbehaviour::Malformed };
                    desk.simulator.misbehave(Rule::on("MITS/PostLeadManagement4_0", trouble).times(2));
                }
                7 => {
                    // A worker that dies in the middle of a delivery.
                    let mut dying = Box::pin(outbox::attempt(&desk.db.pool, &desk.couriers, None));
                    for _ in 0..rng.random_range(0..60) {
                        tokio::select! { biased; _ = &mut dying => break, () = tokio::task::yield_now() => {} }
                    }
                }
                8 => desk.drain().await,
                _ => _ = desk.poll().await,
            }
        }
        desk.simulator.behave();
        for _ in 0..6 {
            desk.clock.advance(TimeDelta::hours(2));
            desk.drain().await;
            desk.poll().await;
        }
        assert_eq!(desk.one::<i64>("select count(*) from sync.outbox where state <> 'delivered'").await, 0);
        assert!(desk.poll().await.iter().all(|b| *b == Became::Nothing), "everything has settled");
        let leads = desk.leads();
        assert_eq!(leads.len(), ids.len(), "seed {seed}: one lead per person");
        for (n, id) in &ids {
            let contact = desk.contacts.get(*id).await.unwrap();
            let lead = leads.iter().find(|l| Some(&l.first_name) == Some(&Some(contact.first_name.clone()))).unwrap();
            let open: i64 =
                sqlx::query_scalar("select count(*) from sync.conflicts where contact_id = $1 and state = 'open'")
                    .bind(id)
                    .fetch_one(&desk.db.pool)
                    .await
                    .unwrap();
            let values = [contact.email.clone(), lead.email.clone()];
            let written = [ours.get(&(*n, "email")).cloned(), theirs.get(&(*n, "email")).cloned()];
            if open == 0 {
                assert_eq!(values[0], values[1], "seed {seed}: both sides agree about {}", contact.first_name);
            } else {
                assert_eq!(strategy, Strategy::ManualReview);
                // Both values stand where they were written, until somebody decides.
                let id: Uuid = desk.one("select id from sync.conflicts where state = 'open' limit 1").await;
                let settled = desk.contacts.resolve(id, Some("domiq"), None, "ana").await.unwrap();
                assert!(settled.email.is_some());
            }
            // What stands there is the newest value of one of the sides, never an older one.
            assert!(written.contains(&values[0]), "seed {seed}: {values:?} of {written:?}");
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
                assert!(kept > 0, "seed {seed}: a value vanished without a record");
            }
        }
        desk.drain().await;
        let heads: Vec<i64> = events::since(&desk.db.pool, 0, 10_000).await.unwrap().iter().map(|e| e.seq).collect();
        assert_eq!(heads, (1..=heads.len() as i64).collect::<Vec<_>>(), "events have no gap");
    }
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
    assert!(desk.contacts.resolve(conflict, None, Some("not an address"), "ana").await.is_err());
    let contact = desk.contacts.resolve(conflict, Some("resman"), None, "ana").await.unwrap();
    assert_eq!(contact.email.as_deref(), Some("marsh@office.example"));
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
    assert_eq!(odd.contact.first_name, "👩‍🚀 \u{202e}אנה");
    let audit: Value = desk.one("select coalesce(jsonb_agg(action), '[]') from sync.audit_log").await;
    assert_eq!(audit, json!(["contact_create", "contact_update"]));
}
