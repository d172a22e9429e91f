//! Contacts, leads, merges, conflicts and figures over HTTP, with the simulated ResMan behind.

use std::sync::Arc;
use std::time::Duration;

use catalog::Env;
use fixtures::resman::{Options, Simulator};
use fixtures::world::{Shape, World};
use kit::house::{House, answer};
use pipelines::http::caller::Role;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tokio::time::timeout;

/// Long enough for a loaded machine; nothing here waits for it unless it fails.
const PATIENCE: Duration = Duration::from_secs(60);

struct Office {
    house: House,
    simulator: Simulator,
    property: String,
    bot: String,
    staff: String,
}

impl Office {
    async fn new() -> Self {
        let house = House::new().await;
        let shape = Shape { seed: 5, properties: 1, units: 6, today: kit::rig::today() };
        let options = Options { clock: Arc::new(house.clock.clone()), ..Options::default() };
        let simulator = Simulator::start(World::generate(shape), options).await.unwrap();
        let secret = |name: &str, value: &str| {
            std::fs::write(house.dir.path().join(name), value).unwrap();
            format!("file:{}", house.dir.path().join(name).display())
        };
        let settings = json!({
            "v1_url": simulator.base_url_v1(), "partner_id": secret("partner", &simulator.credentials().partner_id),
            "api_key": secret("resman", &simulator.credentials().api_key),
            "account_id": simulator.credentials().account_id, "lead_source": "DomIQ", "agent": "* DomIQ",
            "limits": {"calls_per_sec": 10_000, "burst": 10_000, "parallel": 8, "backoff_ms": 1, "attempts": 1},
        });
        let env = Env { clock: Arc::new(house.clock.clone()), ..Env::default() };
        let courier = sinks::find_courier("resman").unwrap().open(settings, env).await.unwrap();
        house.service.couriers.insert("resman", "resman", courier.into()).await;
        let property = simulator.with_world(|w| w.properties[0].id.clone());
        let bot = house.key(&[Role::Chatbot], None).await;
        let staff = house.key(&[Role::Staff, Role::Operator], None).await;
        Self { house, simulator, property, bot, staff }
    }

    async fn ask(&self, key: &str, method: Method, path: &str, body: Option<Value>) -> (StatusCode, Value) {
        let request = self.house.request(method, path).bearer_auth(key);
        answer(match body {
            Some(body) => request.header("content-type", "application/json").body(body.to_string()),
            None => request,
        })
        .await
    }

    async fn get(&self, path: &str) -> Value {
        let (status, body) = self.ask(&self.staff, Method::GET, path, None).await;
        assert_eq!(status, StatusCode::OK, "{path}: {body}");
        body
    }

    fn person(&self, first: &str, last: &str, email: &str) -> Value {
        json!({ "contact_data": {
            "first_name": first, "last_name": last, "email": email, "property_id": self.property, "source": "chatbot",
            "initial_interaction": { "type": "chat", "timestamp": "2026-06-01T11:59:00Z", "message": "Is there a pool?" },
        } })
    }

    async fn create(&self, first: &str, last: &str, email: &str) -> String {
        let body = self.person(first, last, email);
        let (status, made) = self.ask(&self.bot, Method::POST, "/api/resman/contacts", Some(body)).await;
        assert_eq!(status, StatusCode::CREATED, "{made}");
        made["contact_id"].as_str().unwrap().to_owned()
    }

    /// The lead once ResMan has everything that was to be sent.
    async fn settled(&self, id: &str) -> Value {
        let look = async {
            loop {
                let lead = self.get(&format!("/api/resman/leads/{id}")).await;
                if lead["waiting_messages"] == 0 && lead["resman"].is_object() {
                    return lead;
                }
            }
        };
        timeout(PATIENCE, look).await.expect("ResMan was not told")
    }

    fn resman_email(&self, prospect: &Value) -> Option<String> {
        let id = prospect.as_str().unwrap();
        self.simulator.with_world(|w| w.leads.all.iter().find(|l| l.id == id).unwrap().people[0].email.clone())
    }
}

#[tokio::test]
async fn what_the_chatbot_writes_is_in_resman_at_once_and_comes_back() {
    let office = Office::new().await;
    // The same name, address and phone may still be two of one household: this property merges a little sooner.
    let rules = format!("/api/resman/matching-rules/{}", office.property);
    let mut set = office.get(&rules).await;
    set["matching_criteria"]["merge"] = json!(0.99);
    assert_eq!(office.ask(&office.staff, Method::PUT, &rules, Some(set)).await.0, StatusCode::OK);
    let mut rosa = office.person("Rosa", "Quill", "rosa.quill@mail.example");
    rosa["contact_data"]["phone"] = json!("+1 251 555 0188");
    let (status, made) = office.ask(&office.bot, Method::POST, "/api/resman/contacts", Some(rosa)).await;
    assert_eq!((status, &made["is_new_contact"]), (StatusCode::CREATED, &json!(true)), "{made}");
    let id = made["contact_id"].as_str().unwrap().to_owned();
    // No worker runs here: only the request itself can have carried it.
    let lead = office.settled(&id).await;
    let prospect = lead["resman"]["resman_lead_id"].clone();
    assert_eq!(office.resman_email(&prospect).as_deref(), Some("rosa.quill@mail.example"));
    assert_eq!(lead["contact"]["interaction_count"], 1);

    // The same person again is the same contact, whichever way they come.
    let mut again = office.person("rosa", "quill", "Rosa.Quill@Mail.example");
    again["contact_data"]["phone"] = json!("(251) 555-0188");
    again["lead_data"] = again["contact_data"].take();
    again.as_object_mut().unwrap().remove("contact_data");
    let (status, known) = office.ask(&office.bot, Method::POST, "/api/resman/leads", Some(again)).await;
    assert_eq!(
        (status, known["lead_id"].as_str()),
        (StatusCode::OK, Some(&*id)),
        "{known} {}",
        office.get("/api/resman/merges/pending").await
    );

    // A change goes out; one of the same version is late.
    let version = office.get(&format!("/api/resman/contacts/{id}")).await["version"].clone();
    let path = format!("/api/resman/contacts/{id}");
    let change =
        json!({ "contact_data": { "email": "rosa.new@mail.example" }, "update_source": "chatbot", "version": version });
    let (status, changed) = office.ask(&office.bot, Method::PUT, &path, Some(change.clone())).await;
    assert_eq!((status, &changed["email"]), (StatusCode::OK, &json!("rosa.new@mail.example")));
    assert_eq!(office.ask(&office.bot, Method::PUT, &path, Some(change)).await.0, StatusCode::CONFLICT);
    office.settled(&id).await;
    assert_eq!(office.resman_email(&prospect).as_deref(), Some("rosa.new@mail.example"));

    // What is said is told once.
    let said =
        json!({ "type": "chat", "timestamp": "2026-06-01T11:59:30Z", "message": "And a gym?", "external_id": "m-7" });
    let path = format!("/api/resman/leads/{id}/interactions");
    assert_eq!(office.ask(&office.bot, Method::POST, &path, Some(said.clone())).await.1["added"], true);
    assert_eq!(office.ask(&office.bot, Method::POST, &path, Some(said)).await.1["added"], false);
    office.settled(&id).await;

    // ResMan's side, relayed; a repeated delivery is no news.
    let relay = office.house.key(&[Role::Webhook], None).await;
    let news = json!({
        "contact_id": prospect, "updated_fields": { "phone": "(251) 555-0199", "agent": 7 }, "update_source": "resman",
        "timestamp": "2026-06-01T12:00:00Z", "user_id": "U-1",
    });
    for became in ["updated", "nothing"] {
        let (status, heard) =
            office.ask(&relay, Method::POST, "/api/resman/webhooks/contact-update", Some(news.clone())).await;
        assert_eq!(
            (status, &heard["became"], heard["contact_id"].as_str()),
            (StatusCode::OK, &json!(became), Some(&*id))
        );
    }
    let found = office.get("/api/resman/contacts/search?phone=251.555.0199&name=quill%20ro").await;
    assert_eq!((&found["total_count"], found["contacts"][0]["contact_id"].as_str()), (&json!(1), Some(&*id)));

    // A lead of ResMan that nobody knew.
    let news = json!({
        "lead_id": "P-900", "updated_fields": { "first_name": "Milo", "last_name": "Marsh", "property_id": office.property },
        "update_source": "resman", "timestamp": "2026-06-01T12:00:00Z",
    });
    let (_, heard) = office.ask(&relay, Method::POST, "/api/resman/webhooks/lead-update", Some(news)).await;
    assert_eq!(heard["became"], "created", "{heard}");

    // Lost, and no more of anything.
    let path = format!("/api/resman/leads/{id}");
    let lost = json!({ "lead_data": { "status": "lost" }, "update_source": "manual" });
    assert_eq!(office.ask(&office.staff, Method::PUT, &path, Some(lost)).await.0, StatusCode::OK);
    office.settled(&id).await;
    assert_eq!(office.get("/api/resman/contacts/search?name=quill").await["total_count"], 0);
    assert_eq!(office.get("/api/resman/contacts/search?name=quill&include_inactive=true").await["total_count"], 1);
    let path = format!("/api/resman/contacts/{id}/opt-out");
    let (_, out) = office.ask(&office.bot, Method::POST, &path, Some(json!({ "type": "text" }))).await;
    assert_eq!([&out["text_opt_out"], &out["email_opt_out"]], [&json!(true), &json!(false)]);

    let figures = office.get("/api/resman/analytics/contacts").await;
    assert_eq!(
        (&figures["total_contacts"], &figures["new_contacts"], &figures["conversion_rate"]),
        (&json!(2), &json!(2), &json!(0.0))
    );
    let trends = office.get("/api/resman/analytics/trends?from=2026-05-31&to=2026-06-01").await;
    assert_eq!(
        trends["daily_new_contacts"],
        json!([{ "date": "2026-05-31", "count": 0 }, { "date": "2026-06-01", "count": 2 }])
    );
    assert_eq!(trends["contact_source_distribution"], json!({ "chatbot": 1, "resman": 1 }));
    assert_eq!(office.get("/api/resman/analytics/enrichment").await["enrichment_rate"], 0.0);
}

#[tokio::test]
async fn what_a_person_has_to_decide_is_decided_over_http() {
    let office = Office::new().await;
    let a = office.create("Rosa", "Quill", "rosa@mail.example").await;
    let b = office.create("Tobias", "Dray", "tobias@mail.example").await;
    office.settled(&a).await;
    office.settled(&b).await;
    let pair = json!({ "primary_contact_id": a, "secondary_contact_id": b });
    let (status, merged) = office.ask(&office.staff, Method::POST, "/api/resman/merges", Some(pair.clone())).await;
    assert_eq!(status, StatusCode::CREATED, "{merged}");
    let again = office.ask(&office.staff, Method::POST, "/api/resman/merges", Some(pair)).await;
    assert_eq!(again.0, StatusCode::UNPROCESSABLE_ENTITY);
    // The one that went leads to the one that stayed.
    assert_eq!(office.get(&format!("/api/resman/contacts/{b}")).await["contact_id"], json!(a));
    let undo = format!("/api/resman/merges/{}/undo", merged["merge"]["merge_id"].as_str().unwrap());
    for status in [StatusCode::OK, StatusCode::CONFLICT] {
        assert_eq!(
            office.ask(&office.staff, Method::POST, &undo, Some(json!({ "reason": "brothers" }))).await.0,
            status
        );
    }
    assert_eq!(office.get(&format!("/api/resman/contacts/{b}")).await["first_name"], "Tobias");
    office.settled(&a).await;
    office.settled(&b).await;

    // A weaker likeness waits for a person: the same name, and nothing else.
    let rules = format!("/api/resman/matching-rules/{}", office.property);
    let mut set = office.get(&rules).await;
    assert_eq!(set["merge_strategy"], "manual_review");
    set["matching_criteria"]["review"] = json!(0.0);
    assert_eq!(office.ask(&office.staff, Method::PUT, &rules, Some(set.clone())).await.0, StatusCode::OK);
    set["matching_criteria"]["merge"] = json!(1.5);
    assert_eq!(office.ask(&office.staff, Method::PUT, &rules, Some(set)).await.0, StatusCode::UNPROCESSABLE_ENTITY);
    let c = office.create("Tobias", "Dray", "t.dray@office.example").await;
    office.settled(&c).await;
    let pending = office.get("/api/resman/merges/pending").await;
    assert_eq!(pending["items"].as_array().unwrap().len(), 1, "{pending}");
    let id = pending["items"][0]["merge_id"].as_str().unwrap();
    let (status, body) = office.ask(&office.bot, Method::POST, &format!("/api/resman/merges/{id}/approve"), None).await;
    assert_eq!(status, StatusCode::FORBIDDEN, "{body}");
    let (status, body) =
        office.ask(&office.staff, Method::POST, &format!("/api/resman/merges/{id}/approve"), None).await;
    assert_eq!((status, &body["merge"]["state"]), (StatusCode::OK, &json!("merged")), "{body}");
    let reject = format!("/api/resman/merges/{id}/reject");
    assert_eq!(office.ask(&office.staff, Method::POST, &reject, Some(json!({}))).await.0, StatusCode::CONFLICT);

    // Both sides change a field: nothing moves until somebody says so.
    let prospect = office.settled(&a).await["resman"]["resman_lead_id"].clone();
    office
        .simulator
        .misbehave(fixtures::resman::Rule::on("MITS/PostLeadManagement4_0", fixtures::resman::Misbehaviour::CutBody));
    let ours = json!({ "contact_data": { "email": "ours@mail.example" }, "update_source": "chatbot" });
    office.ask(&office.bot, Method::PUT, &format!("/api/resman/contacts/{a}"), Some(ours)).await;
    let theirs = json!({ "contact_data": { "email": "theirs@mail.example" }, "update_source": "resman" });
    let (status, body) =
        office.ask(&office.staff, Method::PUT, &format!("/api/resman/contacts/{a}"), Some(theirs)).await;
    assert_eq!(status, StatusCode::OK, "{body}");
    let open = office.get("/api/resman/conflicts").await;
    assert_eq!(open["items"][0]["field"], "email", "{open}");
    let path = format!("/api/resman/conflicts/{}/resolve", open["items"][0]["conflict_id"].as_str().unwrap());
    for body in [json!({}), json!({ "side": "fax" }), json!({ "value": "no address" })] {
        assert_eq!(
            office.ask(&office.staff, Method::POST, &path, Some(body)).await.0,
            StatusCode::UNPROCESSABLE_ENTITY
        );
    }
    let (status, contact) = office.ask(&office.staff, Method::POST, &path, Some(json!({ "side": "resman" }))).await;
    assert_eq!((status, &contact["email"]), (StatusCode::OK, &json!("theirs@mail.example")));
    assert_eq!(
        office.ask(&office.staff, Method::POST, &path, Some(json!({ "side": "resman" }))).await.0,
        StatusCode::NOT_FOUND
    );
    assert_eq!(office.get("/api/resman/conflicts?state=settled").await["items"].as_array().unwrap().len(), 1);
    assert!(prospect.is_string());
}

#[tokio::test]
async fn what_makes_no_sense_is_refused_with_a_sentence_and_changes_nothing() {
    let office = Office::new().await;
    let id = office.create("Rosa", "Quill", "rosa@mail.example").await;
    office.settled(&id).await;
    let sums = "select (select count(*) from sync.contacts) + (select sum(version)::bigint from sync.contacts) \
                + (select count(*) from sync.outbox) + (select count(*) from sync.events) + (select count(*) from sync.merges)";
    let sum = async || -> i64 { sqlx::query_scalar(sums).fetch_one(office.house.pool()).await.unwrap() };
    let before = sum().await;
    let with = |field: &str, value: Value| {
        let mut body = office.person("Ada", "Example", "ada@mail.example");
        body["contact_data"][field] = value;
        body
    };
    let contacts = "/api/resman/contacts";
    let one = format!("/api/resman/contacts/{id}");
    let (out, merge) = (format!("{one}/opt-out"), "/api/resman/merges");
    let none = "/api/resman/contacts/019e0000-0000-7000-8000-000000000000";
    let big =
        json!({ "contact_data": { "first_name": "x".repeat(2_000_000), "property_id": "P", "source": "chatbot" } });
    let update = |data: Value| json!({ "contact_data": data, "update_source": "manual" });
    let cases = [
        ("POST", contacts, with("first_name", json!(7)), 422),
        ("POST", contacts, with("colour", json!("blue")), 422),
        ("POST", contacts, with("first_name", json!("x".repeat(201))), 422),
        ("POST", contacts, big, 413),
        ("POST", contacts, with("email", json!("nobody")), 422),
        ("POST", contacts, with("phone", json!("12")), 422),
        ("POST", contacts, with("property_id", json!("")), 422),
        ("POST", contacts, with("property_id", json!("P\u{0}")), 422),
        ("POST", contacts, with("source", json!("resman")), 422),
        ("POST", contacts, with("source", json!("fax")), 422),
        (
            "POST",
            contacts,
            with("initial_interaction", json!({ "type": "fax", "timestamp": "2026-06-01T00:00:00Z" })),
            422,
        ),
        ("POST", contacts, with("initial_interaction", json!({ "type": "chat", "timestamp": "yesterday" })), 422),
        (
            "POST",
            contacts,
            with("initial_interaction", json!({ "type": "chat", "timestamp": "9000-01-01T00:00:00Z" })),
            422,
        ),
        ("POST", contacts, with("preferences", json!({ "communication_method": "fax" })), 422),
        ("POST", contacts, json!({ "contact_data": { "property_id": "P-1", "source": "chatbot" } }), 422),
        ("POST", contacts, json!([]), 422),
        ("PUT", &one, update(json!({ "status": "dead" })), 422),
        ("PUT", &one, update(json!({ "email": "nobody" })), 422),
        ("PUT", &one, json!({ "contact_data": {}, "update_source": "manual", "version": 99 }), 409),
        ("PUT", &one, json!({ "contact_data": { "notes": "x" }, "update_source": "resman" }), 422),
        ("PUT", none, update(json!({ "notes": "x" })), 404),
        ("PUT", "/api/resman/contacts/7", update(json!({})), 404),
        ("POST", &out, json!({ "type": "fax" }), 422),
        ("POST", merge, json!({ "primary_contact_id": id, "secondary_contact_id": id }), 422),
        ("POST", merge, json!({ "primary_contact_id": id, "secondary_contact_id": none.rsplit('/').next() }), 404),
        ("POST", "/api/resman/sync/dragons", json!({}), 404),
        ("GET", "/api/resman/contacts/search?email=nobody", Value::Null, 422),
        ("GET", "/api/resman/contacts/search?name=%00", Value::Null, 422),
        ("GET", "/api/resman/contacts/search?after=x", Value::Null, 400),
        ("GET", "/api/resman/contacts/search?nickname=x", Value::Null, 400),
        ("GET", "/api/resman/analytics/trends?from=2026-06-02&to=2026-06-01", Value::Null, 422),
        ("GET", "/api/resman/analytics/trends?from=-262143-01-01", Value::Null, 422),
        ("GET", "/api/resman/conflicts?state=odd", Value::Null, 400),
    ];
    for (method, path, body, status) in cases {
        let body = Some(body).filter(|b| !b.is_null());
        let about = body.as_ref().map(|b| b.to_string().chars().take(200).collect::<String>());
        let (got, problem) = office.ask(&office.staff, method.parse().unwrap(), path, body).await;
        assert_eq!(got.as_u16(), status, "{method} {path} {about:?}: {problem}");
        assert!(problem["detail"].as_str().is_some_and(|d| !d.is_empty() && !d.contains("nobody")), "{problem}");
    }
    assert_eq!(sum().await, before, "something was changed by what was refused");
    // Odd but good.
    for (n, name) in ["😀 שָׁלוֹם", "O'Neil-ß", "李"].into_iter().enumerate() {
        office.create(name, "Example", &format!("odd{n}@mail.example")).await;
    }
    let found = office.get("/api/resman/contacts/search?name=%25").await;
    assert_eq!(found["total_count"], 0, "a pattern was taken for one");
}

#[tokio::test]
async fn a_key_of_another_property_finds_nobody() {
    let office = Office::new().await;
    let id = office.create("Rosa", "Quill", "rosa@mail.example").await;
    office.settled(&id).await;
    let roles = [Role::Chatbot, Role::Staff, Role::Operator, Role::Analyst, Role::Webhook];
    let other = office.house.key(&roles, Some(&["P-other"])).await;
    let nobodys = office.house.key(&roles, Some(&[])).await;
    let own = office.house.key(&roles, Some(&[&office.property])).await;
    for key in [&other, &nobodys] {
        let search = office.ask(key, Method::GET, "/api/resman/contacts/search", None).await.1;
        assert_eq!(search["total_count"], 0);
        assert_eq!(office.ask(key, Method::GET, "/api/resman/analytics/contacts", None).await.1["total_contacts"], 0);
        assert_eq!(office.ask(key, Method::GET, "/api/resman/merges/pending", None).await.1["items"], json!([]));
        let named = format!("/api/resman/contacts/search?property_id={}", office.property);
        assert_eq!(office.ask(key, Method::GET, &named, None).await.0, StatusCode::NOT_FOUND);
        let body = office.person("Ada", "Example", "ada@mail.example");
        assert_eq!(office.ask(key, Method::POST, "/api/resman/contacts", Some(body)).await.0, StatusCode::NOT_FOUND);
        let change = json!({ "contact_data": { "notes": "x" }, "update_source": "manual" });
        let lead = json!({ "lead_data": { "notes": "x" }, "update_source": "manual" });
        let said = json!({ "type": "chat", "timestamp": "2026-06-01T11:59:00Z" });
        let prospect = office.settled(&id).await["resman"]["resman_lead_id"].clone();
        let news = json!({ "contact_id": prospect, "updated_fields": {}, "update_source": "x", "timestamp": "2026-06-01T11:59:00Z" });
        for (method, path, body) in [
            (Method::GET, format!("/api/resman/contacts/{id}"), None),
            (Method::GET, format!("/api/resman/leads/{id}"), None),
            (Method::PUT, format!("/api/resman/contacts/{id}"), Some(change)),
            (Method::PUT, format!("/api/resman/leads/{id}"), Some(lead)),
            (Method::PUT, format!("/api/resman/contacts/{id}/preferences"), Some(json!({}))),
            (Method::POST, format!("/api/resman/contacts/{id}/opt-out"), Some(json!({ "type": "all" }))),
            (Method::POST, format!("/api/resman/contacts/{id}/opt-in"), Some(json!({ "type": "all", "reason": "x" }))),
            (Method::POST, format!("/api/resman/leads/{id}/interactions"), Some(said)),
            (Method::GET, format!("/api/resman/matching-rules/{}", office.property), None),
            (Method::POST, "/api/resman/webhooks/contact-update".to_owned(), Some(news)),
        ] {
            let (status, body) = office.ask(key, method.clone(), &path, body).await;
            assert_eq!(status, StatusCode::NOT_FOUND, "{method} {path}: {body}");
        }
    }
    assert_eq!(office.ask(&own, Method::GET, "/api/resman/contacts/search", None).await.1["total_count"], 1);
    assert_eq!(office.ask(&own, Method::GET, &format!("/api/resman/contacts/{id}"), None).await.0, StatusCode::OK);
}
