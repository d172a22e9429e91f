//! Leads written into the simulated ResMan: one prospect per person, each event once, whatever dies or fails on the way.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use catalog::store::outbox::Message;
use catalog::{Clock, Env, Retry, TestClock};
use chrono::{DateTime, TimeDelta, Utc};
use fixtures::resman::{Misbehaviour, Options, Rule, Simulator};
use fixtures::world::leads::{LeadPerson, LeadStatus};
use fixtures::world::{Shape, World};
use proptest::prelude::*;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};
use sinks::Courier;
use sinks::resman::document::{Event, EventKind, Lead, Looked, Person, Preferences, document};

struct Office {
    simulator: Simulator,
    courier: Box<dyn Courier>,
    clock: TestClock,
    property: String,
    _dir: tempfile::TempDir,
}

impl Office {
    async fn new() -> Self {
        Self::with(&json!({})).await
    }

    async fn with(others: &Value) -> Self {
        let clock = TestClock::at(DateTime::<Utc>::from_timestamp(1_790_000_000, 0).unwrap());
        let shape = Shape { seed: 5, properties: 1, units: 6, today: kit::rig::today() };
        let options = Options { clock: Arc::new(clock.clone()), ..Options::default() };
        let simulator = Simulator::start(World::generate(shape), options).await.unwrap();
        let dir = tempfile::tempdir().unwrap();
        let secret = |name: &str, value: &str| {
            std::fs::write(dir.path().join(name), value).unwrap();
            format!("file:{}", dir.path().join(name).display())
        };
        let source = simulator.with_world(|w| w.properties[0].lead_sources[0].name.clone());
        let mut settings = json!({
            "v1_url": simulator.base_url_v1(), "partner_id": secret("partner", &simulator.credentials().partner_id),
            "api_key": secret("key", &simulator.credentials().api_key),
            "account_id": simulator.credentials().account_id, "lead_source": source, "agent": "* DomIQ",
            "limits": {"calls_per_sec": 10_000, "burst": 10_000, "parallel": 8, "backoff_ms": 1, "attempts": 2},
        });
        settings.as_object_mut().unwrap().extend(others.as_object().unwrap().clone());
        let env = Env { clock: Arc::new(clock.clone()), ..Env::default() };
        let courier = sinks::find_courier("resman").unwrap().open(settings, env).await.unwrap();
        let property = simulator.with_world(|w| w.properties[0].id.clone());
        Self { simulator, courier, clock, property, _dir: dir }
    }

    fn lead(&self, n: usize) -> Lead {
        Lead {
            property_id: self.property.clone(),
            person: Person {
                first_name: format!("Rosa{n}"),
                last_name: "Quill".to_owned(),
                email: (!n.is_multiple_of(3)).then(|| format!("rosa{n}@mail.example")),
                phone: (n % 3 != 1).then(|| format!("(251) 555-01{n:02}")),
                ..Person::default()
            },
            ..Lead::default()
        }
    }

    async fn send(&self, kind: &str, lead: &Lead) -> catalog::Result<Value> {
        let message = Message {
            id: 1,
            courier: "resman".to_owned(),
            connection: "resman".to_owned(),
            lane: "one".to_owned(),
            kind: kind.to_owned(),
            payload: serde_json::to_value(lead).unwrap(),
            dedupe_key: "one".to_owned(),
            attempts: 0,
            created_at: self.clock.now(),
        };
        self.courier.deliver(&message).await.map(Option::unwrap)
    }

    fn event(&self, kind: EventKind, comments: &str) -> Event {
        let comments = Some(comments.to_owned()).filter(|c| !c.is_empty());
        Event { kind, at: self.clock.now(), reason: None, comments, agent_id: None, event_id: None }
    }
}

/// Every message is sent until it succeeds, dies at random places (the answer is lost behind the deed, before it, or cut in
/// the middle), and is sent once more on top. ResMan ends with one lead per person and one event per message.
#[tokio::test]
async fn whatever_gets_lost_each_deed_is_done_once() {
    let office = Office::new().await;
    let mut rng = ChaCha8Rng::seed_from_u64(77);
    let mut wanted: BTreeMap<usize, BTreeSet<String>> = BTreeMap::new();
    for step in 0..60 {
        office.clock.advance(TimeDelta::seconds(61));
        let n = rng.random_range(0..6);
        let mut lead = office.lead(n);
        let kind = if wanted.contains_key(&n) { "lead_event" } else { "lead_create" };
        if kind == "lead_event" {
            let text = if step % 7 == 0 { "a long story ".repeat(200) } else { format!("said <{step}> & left") };
            lead.event = Some(office.event(EventKind::Chat, &text));
            wanted.entry(n).or_default().insert(format!("{step}"));
        } else {
            wanted.insert(n, BTreeSet::new());
        }
        for round in 0..8 {
            let trouble = match rng.random_range(0..6) {
                0 => Some(Misbehaviour::ServerError { status: 503, retry_after_secs: None }),
                1 => Some(Misbehaviour::CutBody),
                2 => Some(Misbehaviour::Malformed),
                _ => None,
            };
            if let Some(trouble) = trouble.filter(|_| round < 6) {
                let path = if rng.random_bool(0.7) { "MITS/PostLeadManagement4_0" } else { "MITS/SearchProspects" };
                office.simulator.misbehave(Rule::on(path, trouble).times(1));
            }
            match office.send(kind, &lead).await {
                Ok(reply) => {
                    assert!(reply["prospect_id"].is_string(), "{reply}");
                    // Delivered, and the note of it lost: it is delivered again.
                    if rng.random_bool(0.5) {
                        break;
                    }
                }
                Err(fault) => assert!(fault.is_retryable(), "{fault:?}"),
            }
            office.simulator.behave();
            assert!(round < 7, "step {step} never succeeds");
        }
        office.simulator.behave();
        assert!(office.send(kind, &lead).await.is_ok());
    }
    let leads = office.simulator.with_world(|w| w.leads.all.clone());
    assert_eq!(leads.len(), wanted.len(), "one lead per person");
    for (n, events) in &wanted {
        let name = format!("Rosa{n}");
        let lead = leads.iter().find(|l| l.people[0].first_name == name).unwrap();
        assert_eq!(lead.people.len(), 1);
        let heads = lead.events.iter().filter(|e| e.kind == "Contact").count();
        assert_eq!(heads, events.len() + 1, "{name}: one event per message and the first contact");
    }
    // With a folder to write to, what was posted can be validated against the schema by hand.
    if let Ok(folder) = std::env::var("PROPFLOW_KEEP_LEADS") {
        for (n, text) in office.simulator.documents().iter().enumerate() {
            std::fs::write(format!("{folder}/{n}.xml"), text).unwrap();
        }
    }
}

#[tokio::test]
async fn a_lead_goes_through_its_life() {
    let office = Office::with(&json!({ "lost_reason": "Pet policy", "duplicate_reason": "Availability" })).await;
    let mut lead = office.lead(2);
    lead.preferences = Some(Preferences {
        move_in_date: "2026-08-01".parse().ok(),
        floorplan: Some("B2".to_owned()),
        rent_max: Some("1600".parse().unwrap()),
        bedrooms_min: Some(2),
        bedrooms_max: Some(2),
        comments: vec!["pool view".to_owned()],
        ..Preferences::default()
    });
    let ids = office.send("lead_create", &lead).await.unwrap();
    let id = ids["prospect_id"].as_str().unwrap().to_owned();
    lead.prospect_id = Some(id.clone());
    lead.person_id = ids["person_id"].as_str().map(str::to_owned);
    lead.preferences = None;

    lead.person.email = Some("rosa.new@mail.example".to_owned());
    office.send("lead_update", &lead).await.unwrap();
    let mut roommate = Lead { person_id: None, ..lead.clone() };
    roommate.person = Person { first_name: "Milo".into(), last_name: "Marsh".into(), ..Person::default() };
    office.send("lead_roommate", &roommate).await.unwrap();
    office.send("lead_roommate", &roommate).await.unwrap();
    let now = office.simulator.with_world(|w| w.leads.find(&id).unwrap().clone());
    assert_eq!(now.people.len(), 2, "a roommate is added once");
    assert_eq!(now.people[0].email.as_deref(), Some("rosa.new@mail.example"));
    assert!(now.preferences.iter().any(|p| p.name == "DesiredRent"), "an update leaves what it does not name");

    let reason = office.simulator.with_world(|w| w.lost_reasons[1].name.clone());
    office.clock.advance(TimeDelta::minutes(1));
    let lost = Lead { event: Some(office.event(EventKind::Lost, "")), lost_reason: Some(reason), ..lead.clone() };
    office.send("lead_lost", &lost).await.unwrap();
    let now = office.simulator.with_world(|w| w.leads.find(&id).unwrap().clone());
    assert_eq!((now.status, now.lost.unwrap().1.as_str()), (LeadStatus::Lost, "Price"));
    office.clock.advance(TimeDelta::minutes(1));
    let back = Lead { event: Some(office.event(EventKind::Reactivated, "")), ..lead.clone() };
    office.send("lead_reactivate", &back).await.unwrap();
    assert_eq!(office.simulator.with_world(|w| w.leads.find(&id).unwrap().status), LeadStatus::Prospect);
    // Where nobody says why, the settings do.
    for (kind, reason) in [("lead_lost", "Pet policy"), ("lead_spare", "Availability")] {
        office.clock.advance(TimeDelta::minutes(1));
        let lost = Lead { event: Some(office.event(EventKind::Lost, "")), ..lead.clone() };
        office.send(kind, &lost).await.unwrap();
        assert_eq!(office.simulator.with_world(|w| w.leads.find(&id).unwrap().lost.clone().unwrap().1), reason);
    }
}

#[tokio::test]
async fn mistakes_are_named_and_nothing_is_made() {
    let office = Office::new().await;
    let mut lead = office.lead(1);
    lead.source = Some("Billboard".to_owned());
    let fault = office.send("lead_create", &lead).await.unwrap_err();
    assert!(
        fault.message.contains("no lead source `Billboard`") && fault.hint.unwrap().contains('`'),
        "what there is is named"
    );
    lead.source = None;
    lead.person.last_name = " \u{1} ".to_owned();
    let fault = office.send("lead_create", &lead).await.unwrap_err();
    assert_eq!(
        (fault.message.as_ref(), fault.retry),
        ("the lead has no last name, and ResMan takes none without", Retry::Never)
    );
    let unknown = Lead { event: Some(office.event(EventKind::Note, "hello")), ..office.lead(4) };
    assert_eq!(office.send("lead_event", &unknown).await.unwrap_err().message, "ResMan has no such lead");
    assert!(office.simulator.with_world(|w| w.leads.all.is_empty()));
    // A person whom the office has typed in is taken over, with another spelling of the phone.
    let clock = office.clock.now();
    let known = office.simulator.with_world(|w| {
        let person = LeadPerson {
            first_name: "R".into(),
            last_name: "Q".into(),
            phone: Some("+1 251 555 0103".into()),
            ..LeadPerson::default()
        };
        let property = w.properties[0].id.clone();
        w.leads.walk_in(&property, person, clock)
    });
    assert_eq!(office.send("lead_create", &office.lead(3)).await.unwrap()["prospect_id"], known);
    // Slow is not lost: the call is given up, and the next try finds the deed.
    office.simulator.misbehave(Rule::on("MITS/SearchProspects", Misbehaviour::Slow(Duration::from_millis(1))).times(1));
    assert!(office.send("lead_create", &office.lead(5)).await.is_ok());
    // Names that the account does not have are found before the first lead, with those that it has.
    office.courier.check().await.unwrap();
    for (setting, value, says, known) in [
        ("lead_source", "Billboard", "no lead source `Billboard`", "`DomIQ`"),
        ("agent", "* Nobody", "no employee", "`* DomIQ`"),
        ("lost_reason", "Moved to Mars", "no lost reason `Moved to Mars`", "`Price`"),
        ("duplicate_reason", "Twice", "no lost reason `Twice`", "`Price`"),
    ] {
        let fault = Office::with(&json!({ setting: value })).await.courier.check().await.unwrap_err();
        let hint = fault.hint.clone().unwrap();
        assert!(fault.chain().contains(says) && hint.contains(known), "{}: {hint}", fault.chain());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]
    /// Whatever people write, the document is XML that reads back as they wrote it, cut to the schema's lengths.
    #[test]
    fn any_text_makes_a_document(first in "\\PC{1,80}", last in any::<String>(), comments in any::<String>(), long in 0usize..4000) {
        let comments = format!("{comments}\u{b}\u{ffff}{}", "x".repeat(long));
        let lead = Lead {
            person: Person { first_name: first.clone(), last_name: format!("L{last}"), ..Person::default() },
            event: Some(Event {
                kind: EventKind::Note, at: DateTime::UNIX_EPOCH, reason: Some(last.clone()), comments: Some(comments.clone()),
                agent_id: None, event_id: None,
            }),
            ..Lead::default()
        };
        let looked = Looked { customer_type: "prospect".to_owned(), ..Looked::default() };
        let Ok(xml) = document(&lead, &looked) else {
            prop_assert!(first.trim().is_empty());
            return Ok(());
        };
        let root = catalog::xml::Node::parse(xml.as_bytes(), "LeadManagement").unwrap();
        let prospect = root.child("Prospects").unwrap().child("Prospect").unwrap();
        let name = prospect.child("Customers").unwrap().child("Customer").unwrap().child("Name").unwrap();
        let back = name.text_of("FirstName").unwrap();
        let allowed = |c: char| matches!(c, '\t' | '\n' | '\r' | ' '..='\u{D7FF}' | '\u{E000}'..='\u{FFFD}' | '\u{10000}'..);
        prop_assert!(xml.chars().all(allowed), "XML 1.0 has no such character");
        prop_assert!(back.chars().count() <= 50 && first.trim().starts_with(back.trim_end()));
        let parts: Vec<_> = prospect.child("Events").unwrap().all("Event").filter_map(|e| e.text_of("Comments")).collect();
        prop_assert!(parts.iter().all(|p| p.chars().count() <= 1000));
        let whole = parts.iter().map(|p| p.chars().filter(|c| *c == 'x').count()).sum::<usize>();
        prop_assert!(whole >= long, "{whole} of {long}");
    }
}
