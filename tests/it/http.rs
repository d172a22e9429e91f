//! The HTTP service: who may do what, what is told to whom, and how it ends.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::sync::Once;
use std::time::Duration;

use kit::house::{House, SECRET, answer, booking};
use pipelines::http::caller::Role;
use reqwest::{Method, StatusCode};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Long enough for a loaded machine; nothing here waits for it unless it fails.
const PATIENCE: Duration = Duration::from_secs(60);

/// Who may call what: every endpoint is here, or the matrix below fails.
const OPEN: [&str; 6] =
    ["GET /docs", "GET /docs/page.js", "GET /health", "GET /metrics", "GET /openapi.json", "GET /ready"];
const SIGNED: [&str; 6] = [
    "POST /api/webhooks/booking-cancelled",
    "POST /api/webhooks/booking-created",
    "POST /api/webhooks/booking-updated",
    "POST /api/webhooks/guest-checked-in",
    "POST /api/webhooks/guest-checked-out",
    "POST /api/webhooks/{connector}/{connection}",
];
const KEYED: [(&str, &str, &[Role]); 34] = [
    ("GET /api/deliveries", "all", &[Role::Operator]),
    ("GET /api/deliveries/{id}", "all", &[Role::Operator]),
    ("GET /api/me", "own", &Role::ALL),
    ("POST /api/deliveries/{id}/replay", "all", &[Role::Operator]),
    ("GET /api/live", "own", &[Role::Chatbot, Role::Operator, Role::Analyst, Role::Staff]),
    ("GET /api/resman/analytics/contacts", "own", &[Role::Operator, Role::Analyst, Role::Owner, Role::Staff]),
    ("GET /api/resman/analytics/enrichment", "own", &[Role::Operator, Role::Analyst, Role::Owner, Role::Staff]),
    ("GET /api/resman/analytics/trends", "own", &[Role::Operator, Role::Analyst, Role::Owner, Role::Staff]),
    ("GET /api/resman/conflicts", "own", &[Role::Operator, Role::Analyst, Role::Staff]),
    ("POST /api/resman/conflicts/{id}/resolve", "own", &[Role::Operator, Role::Staff]),
    ("POST /api/resman/contacts", "own", &[Role::Chatbot, Role::Operator, Role::Staff]),
    ("GET /api/resman/contacts/search", "own", &[Role::Chatbot, Role::Operator, Role::Analyst, Role::Staff]),
    ("GET /api/resman/contacts/{id}", "own", &[Role::Chatbot, Role::Operator, Role::Analyst, Role::Staff]),
    ("PUT /api/resman/contacts/{id}", "own", &[Role::Chatbot, Role::Operator, Role::Staff]),
    ("POST /api/resman/contacts/{id}/opt-in", "own", &[Role::Operator, Role::Staff]),
    ("POST /api/resman/contacts/{id}/opt-out", "own", &[Role::Chatbot, Role::Operator, Role::Staff]),
    ("PUT /api/resman/contacts/{id}/preferences", "own", &[Role::Chatbot, Role::Operator, Role::Staff]),
    ("POST /api/resman/leads", "own", &[Role::Chatbot, Role::Operator, Role::Staff]),
    ("GET /api/resman/leads/{id}", "own", &[Role::Chatbot, Role::Operator, Role::Analyst, Role::Staff]),
    ("PUT /api/resman/leads/{id}", "own", &[Role::Chatbot, Role::Operator, Role::Staff]),
    ("POST /api/resman/leads/{id}/interactions", "own", &[Role::Chatbot, Role::Operator, Role::Staff]),
    ("POST /api/resman/leads/{id}/roommates", "own", &[Role::Chatbot, Role::Operator, Role::Staff]),
    ("GET /api/resman/matching-rules", "own", &[Role::Operator, Role::Analyst, Role::Staff]),
    ("GET /api/resman/matching-rules/{property_id}", "own", &[Role::Operator, Role::Analyst, Role::Staff]),
    ("PUT /api/resman/matching-rules/{property_id}", "own", &[Role::Operator]),
    ("DELETE /api/resman/matching-rules/{property_id}", "own", &[Role::Operator]),
    ("POST /api/resman/merges", "own", &[Role::Operator, Role::Staff]),
    ("GET /api/resman/merges/pending", "own", &[Role::Operator, Role::Analyst, Role::Staff]),
    ("POST /api/resman/merges/{id}/approve", "own", &[Role::Operator, Role::Staff]),
    ("POST /api/resman/merges/{id}/reject", "own", &[Role::Operator, Role::Staff]),
    ("POST /api/resman/merges/{id}/undo", "own", &[Role::Operator, Role::Staff]),
    ("POST /api/resman/sync/{dataset}", "own", &[Role::Operator, Role::Staff]),
    ("POST /api/resman/webhooks/contact-update", "own", &[Role::Webhook]),
    ("POST /api/resman/webhooks/lead-update", "own", &[Role::Webhook]),
];

fn endpoints(description: &Value) -> BTreeMap<String, Value> {
    let paths = description["paths"].as_object().unwrap();
    paths
        .iter()
        .flat_map(|(path, methods)| {
            let methods = methods.as_object().unwrap();
            methods.iter().map(move |(method, op)| (format!("{} {path}", method.to_uppercase()), op.clone()))
        })
        .collect()
}

/// A request that is well formed as far as its address goes.
async fn call(house: &House, endpoint: &str, key: Option<&str>) -> StatusCode {
    let (method, path) = endpoint.split_once(' ').unwrap();
    let path = path.replace("{id}", "1").replace("{connector}", "intake").replace("{connection}", "intake");
    let mut request = house.request(method.parse().unwrap(), &path);
    if let Some(key) = key {
        request = request.bearer_auth(key);
    }
    request.send().await.unwrap().status()
}

#[tokio::test]
async fn the_description_is_what_clients_were_told() {
    let house = House::new().await;
    let (status, served) = answer(house.request(Method::GET, "/openapi.json")).await;
    assert_eq!((status, &served), (StatusCode::OK, &house.service.description()));
    // Each reference leads somewhere.
    let text = served.to_string();
    for reference in text.split("\"$ref\":\"#").skip(1).map(|rest| rest.split('"').next().unwrap()) {
        assert!(served.pointer(reference).is_some(), "{reference}");
    }
    let mut told = served;
    told["info"]["version"] = "[version]".into();
    insta::assert_json_snapshot!("openapi", told);
}

#[tokio::test]
async fn every_endpoint_lets_in_whom_its_rule_names_and_nobody_else() {
    let house = House::new().await;
    let all = endpoints(&house.service.description());
    let known: BTreeSet<&str> = OPEN.iter().chain(&SIGNED).copied().chain(KEYED.iter().map(|(e, _, _)| *e)).collect();
    assert_eq!(all.keys().map(String::as_str).collect::<BTreeSet<_>>(), known, "an endpoint has no rule in this test");
    for endpoint in OPEN {
        assert_eq!(call(&house, endpoint, None).await, StatusCode::OK, "{endpoint}");
    }
    for endpoint in SIGNED {
        assert_eq!(call(&house, endpoint, None).await, StatusCode::UNAUTHORIZED, "{endpoint}");
        let key = house.key(&Role::ALL, None).await;
        assert_eq!(
            call(&house, endpoint, Some(&key)).await,
            StatusCode::UNAUTHORIZED,
            "{endpoint}: a key signs nothing"
        );
    }
    let mut keys = Vec::new();
    for role in Role::ALL {
        keys.push((role, house.key(&[role], None).await, house.key(&[role], Some(&["P-1"])).await));
    }
    for (endpoint, scope, roles) in KEYED {
        let op = &all[endpoint];
        let said: Vec<&str> =
            op["security"][0]["api_key"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
        assert_eq!(said, roles.iter().map(|r| r.as_str()).collect::<Vec<_>>(), "{endpoint}");
        assert_eq!(op["x-property-scope"], scope, "{endpoint}");
        let wrong = format!("{}x", keys[0].1);
        for key in [None, Some("pf_00000000_nothing"), Some(""), Some("x"), Some(&*wrong)] {
            assert_eq!(call(&house, endpoint, key).await, StatusCode::UNAUTHORIZED, "{endpoint} {key:?}");
        }
        for (role, whole, limited) in &keys {
            let (may, allowed) = (roles.contains(role), call(&house, endpoint, Some(whole)).await);
            assert_eq!(allowed != StatusCode::FORBIDDEN, may, "{endpoint} {role:?}: {allowed}");
            let allowed = call(&house, endpoint, Some(limited)).await;
            assert_eq!(
                allowed != StatusCode::FORBIDDEN,
                may && scope != "all",
                "{endpoint} {role:?}, limited: {allowed}"
            );
            assert!(
                allowed != StatusCode::UNAUTHORIZED && !allowed.is_server_error(),
                "{endpoint} {role:?}: {allowed}"
            );
        }
    }
}

#[tokio::test]
async fn a_key_is_known_by_its_hash_and_ends_when_it_is_revoked() {
    let house = House::new().await;
    let mut out = Vec::new();
    let create = pipelines::service::KeysCommand::Create {
        role: vec![Role::Staff, Role::Owner, Role::Staff],
        property: vec!["P-7".to_owned()],
        name: Some("front desk".to_owned()),
    };
    pipelines::service::keys(&house.app, &house.database, &create, true, &mut out).await.unwrap();
    let made: Value = serde_json::from_slice(&out).unwrap();
    let key = made["key"].as_str().unwrap();
    let (status, me) = answer(house.request(Method::GET, "/api/me").bearer_auth(key)).await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(me, serde_json::json!({ "name": "front desk", "roles": ["owner", "staff"], "properties": ["P-7"] }));
    let books: String = sqlx::query_scalar(
        "select (select string_agg(k::text, ' ') from ops.api_keys k) || (select string_agg(a::text, ' ') from sync.audit_log a)",
    )
    .fetch_one(house.pool())
    .await
    .unwrap();
    assert!(books.contains(&key[..11]) && !books.contains(&key[12..]), "the books hold a key");
    let used: Option<chrono::DateTime<chrono::Utc>> =
        sqlx::query_scalar("select last_used_at from ops.api_keys").fetch_one(house.pool()).await.unwrap();
    assert!(used.is_some());

    let (mut listed, mut revoked) = (Vec::new(), Vec::new());
    let list = pipelines::service::KeysCommand::List;
    pipelines::service::keys(&house.app, &house.database, &list, false, &mut listed).await.unwrap();
    let listed = String::from_utf8(listed).unwrap();
    assert!(listed.contains("front desk") && !listed.contains(&key[12..]));
    let revoke = pipelines::service::KeysCommand::Revoke { id: key[..11].to_owned() };
    pipelines::service::keys(&house.app, &house.database, &revoke, false, &mut revoked).await.unwrap();
    assert!(pipelines::service::keys(&house.app, &house.database, &revoke, false, &mut revoked).await.is_err());
    // A ring that has not seen it knows at once; this house's forgets it within seconds.
    let ring = pipelines::http::caller::KeyRing::new(house.pool().clone(), house.app.clock.clone());
    let mut headers = reqwest::header::HeaderMap::new();
    headers.insert("authorization", format!("Bearer {key}").parse().unwrap());
    assert!(ring.caller(&headers).await.is_err());
}

#[tokio::test]
async fn a_request_that_names_itself_is_served_once() {
    let house = House::new().await;
    let key = house.key(&[Role::Operator], None).await;
    for id in ["a", "b"] {
        assert_eq!(
            answer(house.delivery("/api/webhooks/booking-created", id, booking(id))).await.0,
            StatusCode::ACCEPTED
        );
    }
    house.work_off().await;
    let replay = |id: u8, name: &str| {
        house
            .request(Method::POST, &format!("/api/deliveries/{id}/replay"))
            .bearer_auth(&key)
            .header("idempotency-key", name)
    };
    // Ten at once: one is served, the others hear the same or are told to wait.
    let answers = futures::future::join_all((0..10).map(|_| replay(1, "first").send())).await;
    let mut served = BTreeSet::new();
    let mut fresh = 0;
    for response in answers.into_iter().map(Result::unwrap) {
        let (status, replayed) = (response.status(), response.headers().contains_key("idempotent-replayed"));
        if status == StatusCode::OK {
            fresh += u32::from(!replayed);
            served.insert(response.text().await.unwrap());
        } else {
            assert_eq!(status, StatusCode::CONFLICT);
        }
    }
    assert_eq!((fresh, served.len()), (1, 1));
    let audited: i64 = sqlx::query_scalar("select count(*) from sync.audit_log where action = 'replay'")
        .fetch_one(house.pool())
        .await
        .unwrap();
    assert_eq!(audited, 1);
    // The same key for another request is a mistake; a problem is an answer too; another caller has other keys.
    assert_eq!(replay(2, "first").send().await.unwrap().status(), StatusCode::UNPROCESSABLE_ENTITY);
    for _ in 0..2 {
        assert_eq!(replay(9, "none").send().await.unwrap().status(), StatusCode::NOT_FOUND);
    }
    let other = house.key(&[Role::Operator], None).await;
    let request = house.request(Method::POST, "/api/deliveries/2/replay").bearer_auth(&other);
    assert_eq!(request.header("idempotency-key", "first").send().await.unwrap().status(), StatusCode::OK);
    assert_eq!(replay(1, "").send().await.unwrap().status(), StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn what_is_wrong_is_a_problem_with_a_sentence_and_an_id() {
    let house = House::new().await;
    let key = house.key(&[Role::Operator], None).await;
    let cases = [
        (Method::GET, "/nowhere", 404),
        (Method::DELETE, "/health", 405),
        (Method::GET, "/api/deliveries/none", 404),
        (Method::GET, "/api/deliveries/9223372036854775808", 404),
        (Method::GET, "/api/deliveries?limit=0", 422),
        (Method::GET, "/api/deliveries?limit=x", 400),
        (Method::GET, "/api/deliveries?state=lost", 400),
        (Method::GET, "/api/deliveries?colour=blue", 400),
        (Method::GET, "/api/deliveries?after=%00", 400),
        (Method::POST, "/api/webhooks/nobody/nothing", 404),
    ];
    for (method, path, status) in cases {
        let request = house.request(method, path).bearer_auth(&key).header("x-request-id", "my-id.1");
        let response = request.send().await.unwrap();
        assert_eq!(response.headers()["x-request-id"], "my-id.1");
        assert_eq!(response.headers()["content-type"], "application/problem+json", "{path}");
        let problem: Value = serde_json::from_str(&response.text().await.unwrap()).unwrap();
        assert_eq!(problem["status"], status, "{path}: {problem}");
        assert!(problem["detail"].as_str().is_some_and(|d| !d.is_empty() && !d.contains("Error")), "{problem}");
    }
    // An id that is no id is replaced.
    let odd = house.request(Method::GET, "/health").header("x-request-id", "a b").send().await.unwrap();
    assert_eq!(odd.headers()["x-request-id"].len(), 32);
}

#[tokio::test]
async fn ready_says_whether_the_database_is_there_and_fits() {
    let house = House::new().await;
    assert_eq!(call(&house, "GET /ready", None).await, StatusCode::OK);
    sqlx::query("delete from _sqlx_migrations where version = (select max(version) from _sqlx_migrations)")
        .execute(house.pool())
        .await
        .unwrap();
    assert_eq!(call(&house, "GET /ready", None).await, StatusCode::SERVICE_UNAVAILABLE);
    house.database.pool.close().await;
    assert_eq!(call(&house, "GET /ready", None).await, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(call(&house, "GET /health", None).await, StatusCode::OK);
    let key = "pf_00000000_0000000000000000000000000000000000000000000";
    let (status, problem) = answer(house.request(Method::GET, "/api/me").bearer_auth(key)).await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE, "{problem}");
    assert!(!problem.to_string().contains("pool"), "{problem}");
}

#[tokio::test]
async fn figures_count_requests_and_deliveries() {
    let house = House::new().await;
    answer(house.delivery("/api/webhooks/booking-created", "m1", booking("b1"))).await;
    answer(house.delivery("/api/webhooks/booking-created", "m1", booking("b1"))).await;
    answer(house.request(Method::POST, "/api/webhooks/booking-created")).await;
    answer(house.request(Method::POST, "/api/webhooks/made/up")).await;
    let text = house.request(Method::GET, "/metrics").send().await.unwrap().text().await.unwrap();
    for line in [
        "propflow_http_request_duration_seconds_count{method=\"POST\",route=\"/api/webhooks/booking-created\",status=\"202\"} 1",
        "propflow_http_request_duration_seconds_bucket{method=\"POST\",route=\"/api/webhooks/booking-created\",status=\"202\",le=\"+Inf\"} 1",
        "propflow_deliveries_total{connection=\"intake\",outcome=\"received\"} 1",
        "propflow_deliveries_total{connection=\"intake\",outcome=\"duplicate\"} 1",
        "propflow_deliveries_total{connection=\"intake\",outcome=\"unverified\"} 1",
        "propflow_deliveries_total{connection=\"unknown\",outcome=\"unknown\"} 1",
        "propflow_deliveries{connector=\"intake\",connection=\"intake\",state=\"received\"} 1",
        "propflow_deliveries{connector=\"\",connection=\"\",state=\"refused\"} 2",
        "propflow_jobs{state=\"running\"} 0",
    ] {
        assert!(text.lines().any(|l| l == line), "{line} is not in\n{text}");
    }
    assert!(!text.contains("made"), "a name that a stranger made up is a series");
}

#[tokio::test]
async fn a_request_under_way_is_answered_when_the_service_ends() {
    let mut house = House::new().await;
    let address = house.url.strip_prefix("http://").unwrap().to_owned();
    let body = booking("b1");
    let sent = catalog::Clock::now(&house.clock).timestamp();
    let signature = connectors::webhook::sign(&house.secret(), "m1", sent, body.as_bytes()).unwrap();
    let mut stream = TcpStream::connect(&address).await.unwrap();
    let head = format!(
        "POST /api/webhooks/booking-created HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\nwebhook-id: m1\r\n\
         webhook-timestamp: {sent}\r\nwebhook-signature: {signature}\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let (first, rest) = body.as_bytes().split_at(20);
    stream.write_all(first).await.unwrap();
    // One that is served shows that the server has seen the other.
    assert_eq!(call(&house, "GET /health", None).await, StatusCode::OK);
    house.stop.cancel();
    // The listener goes at once.
    timeout(PATIENCE, async { while TcpStream::connect(&address).await.is_ok() {} }).await.unwrap();
    stream.write_all(rest).await.unwrap();
    let mut text = String::new();
    timeout(PATIENCE, stream.read_to_string(&mut text)).await.unwrap().unwrap();
    assert!(text.starts_with("HTTP/1.1 202"), "{text}");
    timeout(PATIENCE, &mut house.server).await.unwrap().unwrap().unwrap();
    assert_eq!(house.states().await.len(), 1);
}

thread_local! {
    /// What this thread logs, once somebody listens.
    static HEARD: RefCell<Option<Vec<u8>>> = const { RefCell::new(None) };
}

/// Writes into the log of the thread that speaks.
struct Ear;

impl Write for Ear {
    fn write(&mut self, text: &[u8]) -> std::io::Result<usize> {
        HEARD.with_borrow_mut(|heard| {
            if let Some(log) = heard {
                log.extend_from_slice(text);
            }
        });
        Ok(text.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Collects what this thread logs from now on.
fn listen() {
    static LOG: Once = Once::new();
    // One subscriber for the whole process: a scoped one misses every place that another test's thread reached first,
    // because `tracing` remembers for all threads that nobody was interested there.
    LOG.call_once(|| {
        let filter = "propflow=trace,pipelines=trace,connectors=trace,catalog=trace,sinks=trace,hyper=debug,axum=trace";
        tracing_subscriber::fmt().with_env_filter(filter).with_ansi(false).with_writer(|| Ear).init();
    });
    HEARD.set(Some(Vec::new()));
}

#[tokio::test]
async fn no_log_holds_a_key_a_secret_or_a_person() {
    // This runtime has one thread, so everything of the house is heard.
    listen();
    let house = House::new().await;
    let key = house.key(&[Role::Chatbot], None).await;
    for path in ["/api/me", "/api/deliveries?after=ada%40guest.example", "/api/deliveries/ada@guest.example"] {
        house.request(Method::GET, path).bearer_auth(&key).send().await.unwrap();
        house.request(Method::GET, path).bearer_auth(format!("{key}1")).send().await.unwrap();
    }
    answer(house.delivery("/api/webhooks/booking-created", "m1", booking("b1"))).await;
    answer(house.delivery("/api/webhooks/booking-created", "m2", "{\"guest_name\": \"Ada Example\"}")).await;
    house.work_off().await;
    let text = String::from_utf8(HEARD.take().unwrap()).unwrap();
    assert!(text.contains("GET /api/me"), "nothing was logged: {text}");
    for secret in [&key[12..], SECRET, &SECRET[6..], "Ada", "ada@", "ada%40", "512 555", "612.50"] {
        assert!(!text.contains(secret), "`{secret}` is in\n{text}");
    }
}
