//! Contacts, leads, merges, conflicts and figures over HTTP, with the simulated ResMan behind.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use catalog::Env;
use fixtures::resman::{Options, Simulator};
use fixtures::world::{Shape, World};
use kit::house::{House, answer};
use pipelines::http::caller::Role;
use reqwest::{Method, RequestBuilder, StatusCode};
use serde_json::{Value, json};
use sqlx::AssertSqlSafe;
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
                if lead["waiting_messages"] == 0 && lead["resman"]["resman_lead_id"].is_string() {
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
    let said = json!({ "type": "chat", "timestamp": "2026-06-01T11:59:30Z", "message": "And\u{0} a gym?", "external_id": "m-7" });
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

    // What comes late or a second time is no news of its field, whatever is in it; an opt-out only ever widens.
    let heard = async |at: &str, fields: Value| {
        let shouted = prospect.as_str().unwrap().to_uppercase();
        let news = json!({ "contact_id": shouted, "updated_fields": fields, "update_source": "resman",
            "timestamp": format!("2026-06-01T{at}Z") });
        let path = "/api/resman/webhooks/contact-update";
        let (status, heard) = office.ask(&relay, Method::POST, path, Some(news)).await;
        assert_eq!((status, heard["contact_id"].as_str()), (StatusCode::OK, Some(&*id)), "{heard}");
        heard["became"].as_str().unwrap().to_owned()
    };
    let preferences = json!({ "opt_out": false, "preferences": { "email_opt_out": true } });
    for (at, fields, became) in [
        ("11:59:59", json!({ "phone": "(251) 555-0198" }), "nothing"),
        ("12:00:00", json!({ "phone": "(251) 555-0198" }), "nothing"),
        // Our own word of the name is younger.
        ("11:59:58", json!({ "last_name": "Quill-Marsh" }), "nothing"),
        ("12:00:00", json!({ "last_name": "Quill-Hale" }), "updated"),
        ("11:59:57", json!({ "last_name": "Quill", "phone": "(251) 555-0197" }), "nothing"),
        ("11:59:59", preferences.clone(), "updated"),
        ("11:59:59", preferences, "nothing"),
        ("11:59:59", json!({ "preferences": null, "email_opt_out": false }), "nothing"),
    ] {
        assert_eq!(heard(at, fields.clone()).await, became, "{at} {fields}");
    }
    let now = office.get(&format!("/api/resman/contacts/{id}")).await;
    assert_eq!([&now["email_opt_out"], &now["text_opt_out"]], [&json!(true), &json!(false)]);
    assert_eq!([&now["phone"], &now["last_name"]], [&json!("+12515550199"), &json!("Quill-Hale")]);
    let path = format!("/api/resman/contacts/{id}/opt-in");
    let back = json!({ "type": "email", "reason": "wrote to us" });
    assert_eq!(office.ask(&office.staff, Method::POST, &path, Some(back)).await.0, StatusCode::OK);

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

/// How a lead stands with ResMan, and what only ResMan keeps of it.
#[tokio::test]
async fn what_resman_takes_and_refuses_of_a_lead_is_to_be_seen() {
    let office = Office::new().await;
    let stands = async |id: &str, status: &str| {
        let look = async {
            loop {
                let lead = office.get(&format!("/api/resman/leads/{id}")).await;
                match lead["resman"]["sync_status"].as_str() {
                    Some(now) if now == status => return lead,
                    Some("failed") => panic!("not {status}: {}", lead["resman"]),
                    _ => {}
                }
            }
        };
        timeout(PATIENCE, look).await.unwrap_or_else(|_| panic!("never {status}"))
    };
    // ResMan has no such property, and never takes it.
    let mut nowhere = office.person("Ada", "Brandt", "ada@mail.example");
    nowhere["contact_data"]["property_id"] = json!("P-nowhere");
    let (status, made) = office.ask(&office.bot, Method::POST, "/api/resman/contacts", Some(nowhere)).await;
    assert_eq!(status, StatusCode::CREATED, "{made}");
    let lead = stands(made["contact_id"].as_str().unwrap(), "failed").await;
    let resman = &lead["resman"];
    assert!(resman["reason"].as_str().unwrap().contains("does not know the property"), "{resman}");
    assert_eq!((&resman["resman_lead_id"], &lead["waiting_messages"]), (&Value::Null, &json!(0)));

    let id = office.create("Rosa", "Quill", "rosa@mail.example").await;
    let prospect = stands(&id, "success").await["resman"]["resman_lead_id"].as_str().unwrap().to_owned();
    let there = || office.simulator.with_world(|w| w.leads.find(&prospect).unwrap().clone());
    let lead = format!("/api/resman/leads/{id}");
    let ask = async |path: &str, method: Method, body: Value, status: StatusCode| {
        let (got, answer) = office.ask(&office.bot, method, path, Some(body)).await;
        assert_eq!(got, status, "{path}: {answer}");
    };
    let put = async |data: Value| {
        ask(&lead, Method::PUT, json!({ "lead_data": data, "update_source": "manual" }), StatusCode::OK).await;
    };
    // Someone moves in with her, once, whatever is known of them later.
    let roommates = format!("{lead}/roommates");
    let mut milo = json!({ "first_name": "Milo", "last_name": "Marsh" });
    ask(&roommates, Method::POST, milo.clone(), StatusCode::ACCEPTED).await;
    milo["email"] = json!("milo@mail.example");
    ask(&roommates, Method::POST, milo, StatusCode::ACCEPTED).await;
    // The next agent is one whom the office knows by e-mail.
    let agent = office.simulator.with_world(|w| w.employees.iter().find(|e| e.email.is_some()).unwrap().clone());
    put(json!({ "agent": agent.email, "email": "rosa.new@mail.example" })).await;
    stands(&id, "success").await;
    let now = there();
    let people: Vec<_> = now.people.iter().map(|p| (p.first_name.as_str(), p.email.as_deref())).collect();
    assert_eq!(people, [("Rosa", Some("rosa.new@mail.example")), ("Milo", Some("milo@mail.example"))]);
    assert_eq!(now.agent_id.as_deref(), Some(&*agent.agent_id));
    // Lost for a reason, back, and lost for none.
    for (data, reason) in [
        (json!({ "status": "lost", "lost_reason": "Price" }), Some("Price")),
        (json!({ "status": "active" }), None),
        (json!({ "status": "lost" }), Some("Inactive (Lack of Response)")),
    ] {
        put(data).await;
        stands(&id, "success").await;
        assert_eq!(there().lost.as_ref().map(|(_, reason)| reason.as_str()), reason);
        office.house.clock.advance(chrono::TimeDelta::minutes(1));
    }
    // What ResMan has no word for waits, and says what there is.
    put(json!({ "status": "active", "agent": "nobody@office.example" })).await;
    let waits = async || stands(&id, "pending").await["resman"]["reason"].as_str().map(str::to_owned);
    let reason = timeout(PATIENCE, async {
        loop {
            if let Some(reason) = waits().await {
                return reason;
            }
        }
    });
    let reason = reason.await.unwrap();
    assert!(reason.contains("no such `agent`") && !reason.contains("nobody"), "{reason}");
    let who: Vec<String> = sqlx::query_scalar("select action from sync.audit_log where subject = $1 order by id")
        .bind(format!("contact {id}"))
        .fetch_all(office.house.pool())
        .await
        .unwrap();
    let kept = |action: &str| who.iter().filter(|w| *w == action).count();
    assert_eq!((kept("lead_roommate"), kept("lead_agent")), (2, 2), "{who:?}");
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
    let brothers = json!({ "reason": "brothers" });
    for (status, body) in [(StatusCode::OK, None), (StatusCode::CONFLICT, Some(brothers))] {
        assert_eq!(office.ask(&office.staff, Method::POST, &undo, body).await.0, status, "a reason need not be given");
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
    // The seed's rule comes with the seed's limits; what was set is listed, and taken back.
    let listed = office.get("/api/resman/matching-rules").await;
    assert_eq!(listed["items"][0]["property_id"], json!(office.property), "{listed}");
    let keep = listed["items"][0].clone();
    let seed = json!({ "matching_criteria": { "rule": "seed" }, "merge_strategy": "domiq_wins" });
    let (_, now) = office.ask(&office.staff, Method::PUT, &rules, Some(seed)).await;
    assert_eq!(now["matching_criteria"], json!({ "rule": "seed", "merge": 0.9, "review": 0.7, "cluster": 0.8 }));
    assert_eq!(office.ask(&office.bot, Method::DELETE, &rules, None).await.0, StatusCode::FORBIDDEN);
    let (status, now) = office.ask(&office.staff, Method::DELETE, &rules, None).await;
    assert_eq!((status, &now["matching_criteria"]["merge"]), (StatusCode::OK, &json!(0.99)));
    assert_eq!(office.get(&rules).await, now, "the shipped ones hold again");
    assert_eq!(office.get("/api/resman/matching-rules").await["items"], json!([]));
    assert_eq!(office.ask(&office.staff, Method::PUT, &rules, Some(keep)).await.0, StatusCode::OK);
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

    // What was rejected stays two, and cannot be approved any more.
    let d = office.create("Tobias", "Dray", "dray@studio.example").await;
    office.settled(&d).await;
    let pending = office.get("/api/resman/merges/pending").await;
    let id = pending["items"][0]["merge_id"].as_str().unwrap();
    for (verb, status) in
        [("reject", StatusCode::OK), ("approve", StatusCode::CONFLICT), ("reject", StatusCode::CONFLICT)]
    {
        let path = format!("/api/resman/merges/{id}/{verb}");
        assert_eq!(office.ask(&office.staff, Method::POST, &path, Some(json!({}))).await.0, status, "{verb}");
    }
    assert_eq!(office.get(&format!("/api/resman/contacts/{d}")).await["contact_id"], json!(d));

    // Who says that ResMan said so is taken at their word until ResMan was asked.
    let claim = json!({ "contact_data": { "phone": "+12515550177" }, "update_source": "resman" });
    let path = format!("/api/resman/contacts/{a}");
    assert_eq!(office.ask(&office.bot, Method::PUT, &path, Some(claim)).await.1["phone"], "+12515550177");
    office.settled(&a).await;
    let claimed = json!({ "contact_data": { "first_name": "Rosalind" }, "update_source": "resman" });
    office.ask(&office.bot, Method::PUT, &path, Some(claimed)).await;
    assert_eq!(office.settled(&a).await["contact"]["first_name"], "Rosa");

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

/// Everything in `sync`, and every lead that ResMan has.
async fn everything(office: &Office) -> BTreeMap<String, Value> {
    let pool = office.house.pool();
    let tables: Vec<String> = sqlx::query_scalar(
        "select table_name::text from information_schema.tables where table_schema = 'sync' and table_type = 'BASE TABLE'",
    )
    .fetch_all(pool)
    .await
    .unwrap();
    assert!(tables.len() > 10, "{tables:?}");
    let rows = tables.iter().map(|t| {
        format!("select '{t}', coalesce(jsonb_agg(r order by r::text), '[]') from (select to_jsonb(t) as r from sync.{t} t) t")
    });
    let all = rows.collect::<Vec<_>>().join(" union all ");
    let rows: Vec<(String, Value)> = sqlx::query_as(AssertSqlSafe(all)).fetch_all(pool).await.unwrap();
    let mut all: BTreeMap<String, Value> = rows.into_iter().collect();
    let leads = office.simulator.with_world(|w| format!("{:?}", w.leads.all));
    all.insert("ResMan".to_owned(), json!(leads));
    all
}

/// A request that makes no sense: what is wrong with it, the request, the status, and a word of the answer.
struct Nonsense {
    what: &'static str,
    request: RequestBuilder,
    status: u16,
    says: &'static str,
}

#[tokio::test]
async fn what_makes_no_sense_is_refused_with_the_next_step_and_changes_nothing() {
    let office = Office::new().await;
    let id = office.create("Rosa", "Quill", "rosa@mail.example").await;
    let names = [("Ada", "Brandt"), ("Milo", "Marsh"), ("Ines", "Hale")];
    let mut chain = Vec::new();
    for (first, last) in names {
        chain.push(office.create(first, last, &format!("{}@mail.example", first.to_lowercase())).await);
    }
    let [a, b, c] = [&chain[0], &chain[1], &chain[2]];
    let pair =
        |primary: &str, secondary: &str| json!({ "primary_contact_id": primary, "secondary_contact_id": secondary });
    // A into B, B into C.
    let merges = "/api/resman/merges";
    let mut merge = String::new();
    for (primary, secondary) in [(b, a), (c, b)] {
        let (status, made) = office.ask(&office.staff, Method::POST, merges, Some(pair(primary, secondary))).await;
        assert_eq!(status, StatusCode::CREATED, "{made}");
        merge = made["merge"]["merge_id"].as_str().unwrap().to_owned();
    }
    let contacts = "/api/resman/contacts";
    let named = |key: &str, path: &str, body: &Value| {
        let request = office.house.request(Method::POST, path).bearer_auth(&office.bot).header("idempotency-key", key);
        request.header("content-type", "application/json").body(body.to_string())
    };
    let tobias = office.person("Tobias", "Dray", "tobias@mail.example");
    let (status, first) = answer(named("k-1", contacts, &tobias)).await;
    assert_eq!(status, StatusCode::CREATED);
    for id in [&id, c, &first["contact_id"].as_str().unwrap().to_owned()] {
        office.settled(id).await;
    }
    let before = everything(&office).await;
    assert_eq!(answer(named("k-1", contacts, &tobias)).await, (StatusCode::CREATED, first), "a repeat");
    assert_eq!(everything(&office).await, before, "a repeat has changed something");

    let raw = |method: &str, path: &str| {
        let request = office.house.request(method.parse().unwrap(), path).bearer_auth(&office.staff);
        request.header("content-type", "application/json")
    };
    let mut table = Vec::new();
    let mut row = |what, request, status, says| table.push(Nonsense { what, request, status, says });
    let ask = |method, path: &str, body: Value| raw(method, path).body(body.to_string());
    let with = |changes: Value| {
        let mut body = office.person("Ada", "Example", "ada.new@mail.example");
        body["contact_data"].as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
        ask("POST", contacts, body)
    };
    let one = format!("{contacts}/{id}");
    let edit = |path: &str, data: Value| ask("PUT", path, json!({ "contact_data": data, "update_source": "manual" }));
    let huge = "Zebulon ".repeat(10 << 17);
    let at = "2026-06-01T00:00:00Z";

    row("a number for a name", with(json!({ "first_name": 7 })), 422, "`contact_data.first_name` is not a string");
    row(
        "a list for an object",
        ask("POST", contacts, json!([office.person("Zebulon", "x", "y")])),
        422,
        "the body is a list",
    );
    let listed = json!([["Zebulon", "Example", "z@mail.example", null, office.property, "chatbot", null, null, null]]);
    row("a list of lists", ask("POST", contacts, listed), 422, "the body is a list");
    row("a list below", ask("POST", contacts, json!({ "contact_data": ["Zebulon"] })), 422, "`contact_data` is a list");
    row(
        "a list for what may be absent",
        with(json!({ "initial_interaction": ["chat"] })),
        422,
        "initial_interaction` is a list",
    );
    row(
        "a text for an object",
        ask("POST", contacts, json!({ "contact_data": "Zebulon" })),
        422,
        "`contact_data` is not an object",
    );
    row(
        "a text for a version",
        ask("PUT", &one, json!({ "contact_data": {}, "update_source": "manual", "version": "1" })),
        422,
        "",
    );
    row(
        "a field that nobody knows",
        with(json!({ "colour": "Zebulon" })),
        422,
        "`contact_data`: unknown field `colour`",
    );
    row(
        "a missing field",
        ask("POST", contacts, json!({ "contact_data": { "source": "chatbot" } })),
        422,
        "`contact_data.property_id` is missing",
    );
    row("half a body", raw("POST", contacts).body("{\"contact_data\": "), 400, "line 1");
    row("no text at all", raw("POST", contacts).body(&b"{\"contact_data\": \"\xff\xfe\"}"[..]), 400, "");
    row("no body", raw("POST", contacts), 400, "");
    row(
        "another format",
        office.house.request(Method::POST, contacts).bearer_auth(&office.staff).body("{}"),
        415,
        "JSON",
    );
    row("a name of 10 MB", with(json!({ "first_name": huge })), 413, "too large");
    row("a change to a name of 10 MB", edit(&one, json!({ "last_name": huge })), 413, "too large");
    row("a name of 10 MB, named", named("k-2", contacts, &json!({ "contact_data": huge })), 413, "too large");
    row("a long name", with(json!({ "first_name": "Zebulon".repeat(29) })), 422, "`first_name`");
    row("no name", with(json!({ "first_name": null, "last_name": " \u{0} " })), 422, "no name");
    row("no e-mail and no phone", with(json!({ "email": null, "phone": "" })), 422, "no e-mail address and no phone");
    row(
        "nothing",
        ask("POST", contacts, json!({ "contact_data": { "property_id": "P-1", "source": "chatbot" } })),
        422,
        "no name",
    );
    row("an e-mail that is none", with(json!({ "email": "Zebulon" })), 422, "`email`");
    row("a change to one", edit(&one, json!({ "email": "Zebulon@" })), 422, "`email`");
    let long = format!("{}@mail.example", "e".repeat(70));
    row("an e-mail that ResMan does not take", with(json!({ "email": long })), 422, "`email` is longer than 80");
    row(
        "a change to one that it does not take",
        edit(&one, json!({ "email": long })),
        422,
        "`email` is longer than 80",
    );
    row(
        "a name that nobody sees",
        with(json!({ "first_name": "\u{202e}\u{200b}", "last_name": "\u{2060}\u{fe0f}" })),
        422,
        "no name",
    );
    row("a phone that is none", with(json!({ "phone": "12" })), 422, "`phone`");
    row("a phone of another country without its code", with(json!({ "phone": "020 7946 0018" })), 422, "`phone`");
    row("no property", with(json!({ "property_id": "" })), 422, "`property_id`");
    row("a property with a zero byte", with(json!({ "property_id": "P\u{0}" })), 422, "`property_id`");
    row("in ResMan's name", with(json!({ "source": "resman" })), 422, "`source`");
    row("in nobody's name", with(json!({ "source": "Zebulon" })), 422, "`contact_data.source` is not one of `chatbot`");
    let said = |kind: &str, at: &str| json!({ "initial_interaction": { "type": kind, "timestamp": at } });
    row("an interaction by fax", with(said("fax", at)), 422, "`type`");
    row(
        "an instant that is none",
        with(said("chat", "yesterday")),
        422,
        "initial_interaction.timestamp` is not an instant",
    );
    row("an instant to come", with(said("chat", "9000-01-01T00:00:00Z")), 422, "`timestamp`");
    let lead = format!("/api/resman/leads/{id}/interactions");
    row(
        "a message of 21,000 characters",
        ask("POST", &lead, json!({ "type": "chat", "timestamp": at, "message": "x".repeat(21_000) })),
        422,
        "`message`",
    );
    row(
        "sideways",
        ask("POST", &lead, json!({ "type": "chat", "timestamp": at, "direction": "across" })),
        422,
        "`direction`",
    );
    row(
        "a way that nobody knows",
        with(json!({ "preferences": { "communication_method": "fax" } })),
        422,
        "communication_method",
    );
    let relay = office.house.key(&[Role::Webhook], None).await;
    for (what, fields, says) in [
        ("a relayed e-mail that is none", json!({ "email": "Zebulon" }), "`email`"),
        ("a relayed phone that is none", json!({ "phone": "Zebulon" }), "`phone`"),
        ("a relayed opt-out that is neither yes nor no", json!({ "opt_out": "Zebulon" }), "`updated_fields.opt_out`"),
        ("relayed preferences that are none", json!({ "preferences": "Zebulon" }), "`updated_fields.preferences`"),
        ("an opt-out by another name", json!({ "preferences": { "smsOptOut": true } }), "`smsoptout`"),
    ] {
        for path in ["contact-update", "lead-update"] {
            let body =
                json!({ "contact_id": id, "updated_fields": fields, "update_source": "resman", "timestamp": at });
            let request =
                office.house.request(Method::POST, &format!("/api/resman/webhooks/{path}")).bearer_auth(&relay);
            row(what, request.header("content-type", "application/json").body(body.to_string()), 422, says);
        }
    }
    let preferences = format!("{one}/preferences");
    row(
        "a wish with a zero byte",
        ask("PUT", &preferences, json!({ "wishes": { "areas": ["P\u{0}"] } })),
        422,
        "wishes",
    );
    row(
        "a wish of 5,000 characters",
        ask("PUT", &preferences, json!({ "wishes": { "areas": ["x".repeat(5_000)] } })),
        422,
        "wishes",
    );
    row(
        "a day of moving in that is none",
        ask("PUT", &preferences, json!({ "move_in_date": "Zebulon" })),
        422,
        "move_in_date",
    );
    row(
        "a budget upside down",
        ask("PUT", &preferences, json!({ "budget_range": { "min": 2, "max": 1 } })),
        422,
        "budget_range",
    );
    row(
        "a unit of no kind",
        ask("PUT", &preferences, json!({ "unit_preferences": ["Zebulon"] })),
        422,
        "unit_preferences",
    );
    row("a status that nobody knows", edit(&one, json!({ "status": "Zebulon" })), 422, "`status`");
    row(
        "a status that only ResMan gives",
        edit(&one, json!({ "status": "resident" })),
        422,
        "`status` cannot become `resident`",
    );
    row("another that only ResMan gives", edit(&one, json!({ "status": "applicant" })), 422, "made in ResMan");
    let lead_of = format!("/api/resman/leads/{id}");
    let turn = |data: Value, source: &str| ask("PUT", &lead_of, json!({ "lead_data": data, "update_source": source }));
    row("a reason for nothing", turn(json!({ "lost_reason": "Price" }), "manual"), 422, "`lost_reason`");
    row(
        "a reason with a zero byte",
        turn(json!({ "status": "lost", "lost_reason": "P\u{0}" }), "manual"),
        422,
        "`lost_reason`",
    );
    row("an agent in ResMan's name", turn(json!({ "agent": "Zebulon" }), "resman"), 422, "ResMan shares");
    row("a reason at a contact", edit(&one, json!({ "lost_reason": "Price" })), 422, "`lost_reason`");
    let roommates = format!("{lead_of}/roommates");
    row(
        "a roommate without a name",
        ask("POST", &roommates, json!({ "first_name": "Milo", "last_name": " " })),
        422,
        "no full name",
    );
    row(
        "a roommate of the same name",
        ask("POST", &roommates, json!({ "first_name": "rosa", "last_name": "Quill" })),
        422,
        "name of the lead",
    );
    row("a status that only a merge gives", edit(&one, json!({ "status": "merged" })), 422, "`status`");
    row(
        "what ResMan does not share",
        ask("PUT", &one, json!({ "contact_data": { "notes": "x" }, "update_source": "resman" })),
        422,
        "ResMan shares",
    );
    row(
        "a stale version",
        ask("PUT", &one, json!({ "contact_data": { "notes": "x" }, "update_source": "manual", "version": 99 })),
        409,
        "at version",
    );
    row(
        "the same in ResMan's name",
        ask(
            "PUT",
            &one,
            json!({ "contact_data": { "email": "r@mail.example" }, "update_source": "resman", "version": 99 }),
        ),
        409,
        "at version",
    );
    let nobody = "019e0000-0000-7000-8000-000000000000";
    row("a change of nobody", edit(&format!("{contacts}/{nobody}"), json!({ "notes": "x" })), 404, "no contact");
    row("an id that is none", edit(&format!("{contacts}/7"), json!({})), 404, "");
    row(
        "a change of one that was merged away",
        edit(&format!("{contacts}/{a}"), json!({ "notes": "x" })),
        409,
        "merged into",
    );
    row(
        "the same as a lead",
        ask(
            "PUT",
            &format!("/api/resman/leads/{b}"),
            json!({ "lead_data": { "status": "lost" }, "update_source": "manual" }),
        ),
        409,
        "merged into",
    );
    row("an opt-out for fax", ask("POST", &format!("{one}/opt-out"), json!({ "type": "fax" })), 422, "opt-out");
    row("an opt-out of nothing", ask("POST", &format!("{one}/opt-out"), json!({})), 422, "`type`");
    row(
        "an opt-in without a reason",
        ask("POST", &format!("{one}/opt-in"), json!({ "type": "all", "reason": " " })),
        422,
        "`reason`",
    );
    row("a merge with itself", ask("POST", merges, pair(&id, &id)), 422, "with itself");
    row("a loop of merges: C into A", ask("POST", merges, pair(a, c)), 422, "one contact already");
    row("a loop of two: B into A", ask("POST", merges, pair(a, b)), 422, "one contact already");
    row("a merge with nobody", ask("POST", merges, pair(&id, nobody)), 404, "no contact");
    row("a merge that is decided", raw("POST", &format!("{merges}/{merge}/approve")), 409, "decided");
    row("a merge that is nowhere", raw("POST", &format!("{merges}/{nobody}/approve")), 404, "no merge");
    row(
        "a key that was used with another body",
        named("k-1", contacts, &office.person("Eve", "Example", "eve@mail.example")),
        422,
        "Idempotency-Key",
    );
    row("a key that was used at another address", named("k-1", "/api/resman/leads", &tobias), 422, "Idempotency-Key");
    row("a key that is too long", named(&"k".repeat(201), contacts, &tobias), 400, "Idempotency-Key");
    row("a key that is empty", named("", contacts, &tobias), 400, "Idempotency-Key");
    let rules = format!("/api/resman/matching-rules/{}", office.property);
    let criteria = |criteria: Value| {
        ask("PUT", &rules, json!({ "matching_criteria": criteria, "merge_strategy": "manual_review" }))
    };
    row("a threshold beyond certainty", criteria(json!({ "merge": 1.5 })), 422, "thresholds");
    row("thresholds upside down", criteria(json!({ "merge": 0.5, "review": 0.7 })), 422, "thresholds");
    row("a rule that nobody knows", criteria(json!({ "merg": 0.9 })), 422, "`merg`");
    row(
        "rules of another property",
        ask("PUT", &rules, json!({ "property_id": "P-2", "matching_criteria": {}, "merge_strategy": "domiq_wins" })),
        422,
        "`property_id`",
    );
    row("a dataset that nobody reads", ask("POST", "/api/resman/sync/dragons", json!({})), 404, "no pipeline");
    for (what, query, status) in [
        ("a search for an e-mail that is none", "contacts/search?email=Zebulon", 422),
        ("a search for a zero byte", "contacts/search?name=%00", 422),
        ("a search at a zero byte", "contacts/search?property_id=a%00b", 422),
        ("a page of no list", "contacts/search?after=x", 400),
        ("a condition that nobody knows", "contacts/search?nickname=x", 400),
        ("a page of none", "contacts/search?limit=0", 422),
        ("days in the wrong order", "analytics/trends?from=2026-06-02&to=2026-06-01", 422),
        ("days before the calendar", "analytics/trends?from=-262143-01-01", 422),
        ("a state that nobody knows", "conflicts?state=Zebulon", 400),
        ("a number that is none", "contacts/search?limit=Zebulon", 400),
        ("a day that is none", "analytics/trends?from=Zebulon", 400),
    ] {
        row(what, raw("GET", &format!("/api/resman/{query}")), status, "");
    }
    for Nonsense { what, request, status, says } in table {
        let response = request.send().await.unwrap_or_else(|e| panic!("{what}: {e:?}"));
        let kind = response.headers()["content-type"].to_str().unwrap().to_owned();
        let got = response.status().as_u16();
        let text = response.text().await.unwrap();
        assert_eq!((got, &*kind), (status, "application/problem+json"), "{what}: {text}");
        let problem: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(problem["status"], status, "{what}: {text}");
        let part = |name: &str| problem[name].as_str().unwrap_or_else(|| panic!("{what}: no {name}: {text}"));
        assert!(!part("detail").is_empty() && part("detail").contains(says), "{what}: {text}");
        assert!(part("hint").ends_with('.') && part("title").len() > 5, "{what} leaves one helpless: {text}");
        assert!(!text.contains("ebulon"), "{what}: what was sent is repeated: {text}");
        if says == "merged into" {
            assert!(part("see").ends_with(&**c), "{what}: {text}");
        }
        let now = everything(&office).await;
        let moved: Vec<_> = now.iter().filter(|(name, rows)| before.get(*name) != Some(*rows)).collect();
        assert!(moved.is_empty(), "{what} has changed {moved:?}");
    }
}

/// The names of the chatbot's own preferences, each once, and what becomes of them here and in ResMan.
#[tokio::test]
async fn preferences_may_be_named_as_the_chatbot_names_them() {
    let office = Office::new().await;
    let mut rosa = office.person("Rosa", "Quill", "rosa@mail.example");
    rosa["contact_data"]["preferences"] = json!({
        "communication_method": "text", "contact_frequency": "daily", "opt_out": false, "phone_opt_out": true,
        "move_in_date": "08/01/2026", "budget_range": { "min": 1200, "max": 1600 }, "unit_preferences": ["studio", "2 bedroom"],
    });
    let (status, made) = office.ask(&office.bot, Method::POST, "/api/resman/contacts", Some(rosa)).await;
    assert_eq!(status, StatusCode::CREATED, "{made}");
    let id = made["contact_id"].as_str().unwrap();
    let path = format!("/api/resman/contacts/{id}/preferences");
    let more = json!({ "email_opt_out": true, "phone_opt_out": false, "wishes": { "budget": { "min": null, "max": 1700.0, "currency": null } } });
    let (status, shown) = office.ask(&office.bot, Method::PUT, &path, Some(more)).await;
    assert_eq!(status, StatusCode::OK, "{shown}");
    let outs = ["email_opt_out", "phone_opt_out", "text_opt_out"].map(|name| shown[name].as_bool().unwrap());
    assert_eq!(outs, [true, true, false], "an opt-out is not taken back by a false");
    let wish = |name: &str| shown["preferences"]["wishes"][name]["value"].clone();
    assert_eq!(wish("move_in"), json!({ "from": "2026-08-01", "to": "2026-08-01" }));
    assert_eq!((wish("bedrooms"), wish("budget")["max"].clone()), (json!({ "min": 0.0, "max": 2.0 }), json!(1700.0)));
    assert_eq!(shown["preferences"]["communication_method"], "text");
    // The office reads of it on the guest card.
    let there = office.settled(id).await["resman"]["resman_lead_id"].as_str().unwrap().to_owned();
    let notes = office.simulator.with_world(|w| {
        w.leads.find(&there).unwrap().events.iter().filter_map(|e| e.comments.clone()).collect::<Vec<_>>()
    });
    assert!(notes.contains(&"Opted out of calls.".to_owned()), "{notes:?}");
    assert!(notes.contains(&"Opted out of e-mail, calls.".to_owned()), "{notes:?}");
}

#[tokio::test]
async fn what_is_only_odd_is_taken_as_it_is() {
    let office = Office::new().await;
    // Emoji, right-to-left marks and joiners are parts of names.
    let names = ["😀 שָׁלוֹם", "O'Neil-ß", "李", "👩\u{200d}🚀", "محمد", "Ǆ\u{301}", "علی\u{200c}رضا", "❤\u{fe0f}"];
    for (n, name) in names.into_iter().enumerate() {
        // What only steers how a name is laid out is no part of it.
        let typed = format!("\u{202b}{name}\u{202c}\u{200b}");
        let id = office.create(&typed, "Example", &format!("odd{n}@mail.example")).await;
        let lead = office.settled(&id).await;
        assert_eq!(lead["contact"]["first_name"], name);
        let there = lead["resman"]["resman_lead_id"].as_str().unwrap().to_owned();
        let held = office.simulator.with_world(|w| w.leads.find(&there).unwrap().people[0].first_name.clone());
        assert_eq!(held, name, "in ResMan");
    }
    assert_eq!(
        office.get("/api/resman/contacts/search?name=%25").await["total_count"],
        0,
        "a pattern was taken for one"
    );

    // Phones of other countries keep their country, here and in ResMan; without a country code they are of the property's.
    let create = async |property: &str, n: usize, phone: &str| {
        let mut body = office.person("Abroad", "Example", &format!("abroad{n}@mail.example"));
        body["contact_data"]["last_name"] = json!(format!("Number{n}"));
        body["contact_data"]["phone"] = json!(phone);
        body["contact_data"]["property_id"] = json!(property);
        let (status, made) = office.ask(&office.bot, Method::POST, "/api/resman/contacts", Some(body)).await;
        assert_eq!(status, StatusCode::CREATED, "{made}");
        made["contact_id"].as_str().unwrap().to_owned()
    };
    for (n, (typed, kept)) in [
        ("+44 (0)20 7946 0018", "+442079460018"),
        ("+49 30 23125 018", "+493023125018"),
        ("+52 55 1234 5678", "+525512345678"),
        ("(251) 555-0188", "+12515550188"),
    ]
    .into_iter()
    .enumerate()
    {
        let id = create(&office.property, n, typed).await;
        let lead = office.settled(&id).await;
        assert_eq!(lead["contact"]["phone"], kept);
        let there = lead["resman"]["resman_lead_id"].as_str().unwrap().to_owned();
        let held = office.simulator.with_world(|w| w.leads.find(&there).unwrap().people[0].phone.clone());
        assert_eq!(held.as_deref(), Some(kept), "in ResMan");
    }
    sqlx::query("insert into core.properties (property_id, name, country) values ('P-London', 'x', 'GB')")
        .execute(office.house.pool())
        .await
        .unwrap();
    // From now on it is known which properties there are.
    let mut nope = office.person("Eve", "Example", "eve@mail.example");
    nope["contact_data"]["property_id"] = json!("NOPE");
    let new = [("contacts", nope.clone()), ("leads", json!({ "lead_data": nope["contact_data"] }))];
    for (path, body) in new {
        let (status, problem) = office.ask(&office.bot, Method::POST, &format!("/api/resman/{path}"), Some(body)).await;
        assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY, "{problem}");
        assert!(problem["detail"].as_str().unwrap().contains("`property_id`"), "{problem}");
    }
    for (method, path, body) in [
        (Method::POST, "sync/units", Some(json!({ "property_id": "NOPE" }))),
        (Method::GET, "matching-rules/NOPE", None),
        (Method::DELETE, "matching-rules/NOPE", None),
    ] {
        let (status, problem) = office.ask(&office.staff, method, &format!("/api/resman/{path}"), body).await;
        assert_eq!(
            (status, &problem["detail"]),
            (StatusCode::NOT_FOUND, &json!("there is no such property")),
            "{path}"
        );
    }
    let (status, pulled) = office.ask(&office.staff, Method::POST, "/api/resman/sync/units", None).await;
    assert_ne!(status, StatusCode::UNSUPPORTED_MEDIA_TYPE, "nothing has to be said: {pulled}");
    let id = create("P-London", 9, "020 7946 0018").await;
    let path = format!("/api/resman/contacts/{id}");
    assert_eq!(office.get(&path).await["phone"], "+442079460018");
    let change = json!({ "contact_data": { "phone": "020 7946 0019" }, "update_source": "manual" });
    assert_eq!(office.ask(&office.staff, Method::PUT, &path, Some(change)).await.1["phone"], "+442079460019");
    let found = office.get("/api/resman/contacts/search?property_id=P-London&phone=020%207946%200019").await;
    assert_eq!(found["total_count"], 1, "{found}");
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
