//! Conversations: what is read out of them, and what becomes of it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::Json;
use axum::routing::post;
use catalog::{Clock, Env};
use chrono::{DateTime, TimeDelta, Utc};
use fixtures::chatbot::{Bot, Chat, conversations};
use kit::house::{House, answer};
use pipelines::contacts::enrichment::{Turn, turn};
use pipelines::contacts::remote::{Config, Remote, from_environment};
use pipelines::http::caller::Role as Key;
use proptest::prelude::*;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use transforms::text::{Conversation, Embedded, Enricher, Message, Role, Wishes};

fn heard(chat: &Chat) -> Conversation {
    let role = |renter| if renter { Role::Renter } else { Role::Agent };
    let message = |l: &fixtures::chatbot::Line| Message { role: role(l.renter), at: Some(l.at), text: l.text.clone() };
    Conversation { messages: chat.lines.iter().map(message).collect(), zone: None }
}

/// Slots as text, so that truth and reading compare.
fn truth(chat: &Chat) -> BTreeMap<&'static str, String> {
    let t = &chat.truth;
    let mut slots = BTreeMap::new();
    let mut put = |name, value: Option<String>| value.map(|v| slots.insert(name, v));
    put("bedrooms", t.bedrooms.map(|n| n.to_string()));
    put("bathrooms", t.bathrooms.map(|n| n.to_string()));
    put("budget", t.budget.map(|n| n.to_string()));
    put("move_in", t.move_in.map(|d| d.to_string()));
    put("pets", t.pets.map(|p| p.to_string()));
    put("lease", t.lease_months.map(|n| n.to_string()));
    put("tour", t.tour.map(|d| d.to_string()));
    let mut names = t.amenities.clone();
    names.sort_unstable();
    put("amenities", Some(names.join(",")).filter(|n| !n.is_empty()));
    slots
}

fn slots(w: &Wishes) -> BTreeMap<&'static str, String> {
    let mut slots = BTreeMap::new();
    let mut put = |name, value: Option<String>| value.map(|v| slots.insert(name, v));
    put("bedrooms", w.bedrooms.as_ref().and_then(|f| f.value.min.or(f.value.max)).map(|n| n.to_string()));
    put("bathrooms", w.bathrooms.as_ref().and_then(|f| f.value.min.or(f.value.max)).map(|n| n.to_string()));
    put("budget", w.budget.as_ref().and_then(|f| f.value.max).map(|n| n.to_string()));
    put("move_in", w.move_in.as_ref().and_then(|f| f.value.from).map(|d| d.to_string()));
    put("pets", w.pets.as_ref().filter(|f| f.confidence > 0.5).map(|f| f.value.has.to_string()));
    put("lease", w.lease_months.as_ref().map(|f| f.value.to_string()));
    put("tour", w.tour.as_ref().and_then(|f| f.value.from).map(|d| d.to_string()));
    let mut names: Vec<&str> = w
        .amenities
        .iter()
        .filter(|a| a.value.wanted && a.value.name != "pet_friendly")
        .map(|a| a.value.name.as_str())
        .collect();
    names.sort_unstable();
    put("amenities", Some(names.join(",")).filter(|n| !n.is_empty()));
    slots
}

#[test]
fn what_renters_ask_for_is_read_whatever_words_they_use() {
    let now = DateTime::<Utc>::from_timestamp(1_790_000_000, 0).unwrap();
    let (mut right, mut said, mut read) = (0, 0, 0);
    let mut wrong: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for chat in conversations(11, 300, now) {
        let found = Embedded::default().read(&heard(&chat));
        let (truth, slots) = (truth(&chat), slots(&found.reading.preferences_extracted));
        said += truth.len();
        read += slots.len();
        for name in truth.keys().chain(slots.keys()).collect::<std::collections::BTreeSet<_>>() {
            if truth.get(name) == slots.get(name) {
                right += 1;
            } else {
                let lines: Vec<&str> = chat.lines.iter().filter(|l| l.renter).map(|l| l.text.as_str()).collect();
                wrong.entry(name).or_default().push(format!(
                    "{:?}, not {:?}: {lines:?}",
                    slots.get(name),
                    truth.get(name)
                ));
            }
        }
    }
    let f1 = 2.0 * right as f64 / (said + read) as f64;
    let shown: Vec<String> =
        wrong.iter().map(|(n, w)| format!("{n} ({}): {}", w.len(), w[..w.len().min(3)].join("\n  "))).collect();
    println!("slot F1 {f1:.4}");
    assert!(f1 >= 0.95, "slot F1 {f1:.4}\n{}", shown.join("\n"));
}

proptest! {
    /// Whatever is typed: nothing panics, evidence points at a message, confidence and mood stay in their ranges.
    #[test]
    fn any_words_are_read(texts in prop::collection::vec(("(\\PC|[0-9$./-]|bed|no|in |may |budget ){0,60}", any::<bool>()), 0..6)) {
        let message = |(text, renter): &(String, bool)| Message {
            role: if *renter { Role::Renter } else { Role::Agent }, at: DateTime::from_timestamp(1_790_000_000, 0), text: text.clone(),
        };
        let conversation = Conversation { messages: texts.iter().map(message).collect(), zone: None };
        let e = Embedded::default().read(&conversation);
        prop_assert!((-1.0..=1.0).contains(&e.reading.sentiment_analysis.score));
        let wishes = serde_json::to_value(&e.reading.preferences_extracted).unwrap();
        for found in wishes.as_object().unwrap().values().flat_map(|v| v.as_array().cloned().unwrap_or_else(|| vec![v.clone()])) {
            let message = found["message"].as_u64().unwrap() as usize;
            prop_assert_eq!(conversation.messages[message].role, Role::Renter, "{}", found);
            prop_assert!((0.0..=1.0).contains(&found["confidence"].as_f64().unwrap()));
        }
        prop_assert_eq!(serde_json::from_value::<Wishes>(wishes).unwrap(), e.reading.preferences_extracted);
    }
}

async fn count(house: &House, sql: &'static str) -> i64 {
    sqlx::query_scalar(sql).fetch_one(house.pool()).await.unwrap()
}

#[tokio::test]
async fn what_a_chatbot_writes_is_read_scored_and_shown() {
    let house = House::new().await;
    let bot = Bot::new(&house.url, &house.key(&[Key::Chatbot], None).await).unwrap();
    let staff = house.key(&[Key::Staff, Key::Operator], None).await;
    let get = async |path: String| answer(house.request(Method::GET, &path).bearer_auth(&staff)).await.1;
    let chats = conversations(5, 4, house.clock.now());
    let embedded = Embedded::default();
    let mut ids = Vec::new();
    for chat in &chats {
        let taken = bot.talk(chat, "P-1").await.unwrap();
        assert!(taken.enrichment_data["conversation_summary"].is_string(), "{taken:?}");
        assert_eq!(taken.added, chat.lines.len() - 1);
        ids.push(taken.contact_id);
    }
    // A worker dies in the middle; its claim runs out, and nothing is there twice.
    for steps in [1, 4, 9, 25] {
        let mut dying = Box::pin(turn(house.pool(), &embedded, &house.clock));
        for _ in 0..steps {
            tokio::select! { biased; _ = &mut dying => break, () = tokio::task::yield_now() => {} }
        }
        drop(dying);
        house.clock.advance(TimeDelta::minutes(11));
    }
    let (a, b) = tokio::join!(turn(house.pool(), &embedded, &house.clock), turn(house.pool(), &embedded, &house.clock));
    a.unwrap();
    b.unwrap();
    assert_eq!(turn(house.pool(), &embedded, &house.clock).await.unwrap(), Turn::default());
    assert_eq!(count(&house, "select count(*) from ops.unenriched").await, 0);
    assert_eq!(count(&house, "select count(*) from sync.contact_enrichment_log").await, 3 * chats.len() as i64);
    for (chat, id) in chats.iter().zip(&ids) {
        let shown = get(format!("/api/resman/contacts/{id}")).await;
        let wishes: Wishes = serde_json::from_value(shown["enrichment_data"]["preferences_extracted"].clone()).unwrap();
        assert_eq!(slots(&wishes).get("bedrooms"), truth(chat).get("bedrooms"), "{shown}");
        assert!(shown["preferences"]["wishes"]["bedrooms"]["value"].is_object(), "{shown}");
        let score = shown["lead_score"].as_i64().unwrap();
        let parts: i64 = ["completeness", "intent", "engagement", "recency", "fit", "sentiment"]
            .iter()
            .map(|p| shown["lead_score_parts"][p].as_i64().unwrap())
            .sum();
        assert_eq!(score, parts, "{shown}");
    }
    assert_eq!(
        count(&house, "select count(*) from serving.lead_scores where score > 0 and reasons like '%recency%'").await,
        ids.len() as i64
    );

    // What a person confirms stays, whatever is said later; a score follows the status.
    let id = &ids[0];
    let path = format!("/api/resman/contacts/{id}/preferences");
    let put = async |body: Value| {
        answer(
            house
                .request(Method::PUT, &path)
                .bearer_auth(&staff)
                .header("content-type", "application/json")
                .body(body.to_string()),
        )
        .await
    };
    let three = json!({ "min": 3.0, "max": 3.0 });
    assert_eq!(put(json!({ "wishes": { "bedrooms": three } })).await.0, StatusCode::OK);
    for wrong in [json!({ "bedroms": three }), json!({ "bedrooms": "three" })] {
        assert_eq!(put(json!({ "wishes": wrong })).await.0, StatusCode::UNPROCESSABLE_ENTITY);
    }
    let version = get(format!("/api/resman/contacts/{id}")).await["version"].clone();
    let said = json!({ "type": "chat", "timestamp": house.clock.now(), "message": "Actually, one bedroom and two bathrooms." });
    let request = house.request(Method::POST, &format!("/api/resman/leads/{id}/interactions")).bearer_auth(&staff);
    assert_eq!(
        answer(request.header("content-type", "application/json").body(said.to_string())).await.0,
        StatusCode::OK
    );
    let before = get(format!("/api/resman/contacts/{id}")).await["version"].clone();
    assert_ne!(before, json!(0), "{version}");
    assert_eq!(turn(house.pool(), &embedded, &house.clock).await.unwrap().read, 1);
    let shown = get(format!("/api/resman/contacts/{id}")).await;
    assert_eq!(shown["preferences"]["wishes"]["bedrooms"]["value"], three);
    assert_eq!(shown["preferences"]["wishes"]["bathrooms"]["value"]["max"], 2.0);
    assert_eq!(shown["version"], before, "a reading overtakes nobody's change");
    let lost = json!({ "contact_data": { "status": "inactive" }, "update_source": "manual" });
    let request = house.request(Method::PUT, &format!("/api/resman/contacts/{id}")).bearer_auth(&staff);
    assert_eq!(
        answer(request.header("content-type", "application/json").body(lost.to_string())).await.0,
        StatusCode::OK
    );
    turn(house.pool(), &embedded, &house.clock).await.unwrap();
    assert!(get(format!("/api/resman/contacts/{id}")).await["lead_score"].as_i64().unwrap() <= 10);
    let figures = get("/api/resman/analytics/enrichment".to_owned()).await;
    assert_eq!(
        (&figures["enrichment_rate"], &figures["average_enrichment_score"]),
        (&json!(1.0), &json!(1.0)),
        "{figures}"
    );

    // Silence lowers a score, though nobody does anything.
    let fresh = count(&house, "select sum(recency) from sync.lead_scores").await;
    house.clock.advance(TimeDelta::days(40));
    assert_eq!(turn(house.pool(), &embedded, &house.clock).await.unwrap(), Turn { read: 0, scored: ids.len() });
    assert!(count(&house, "select sum(recency) from sync.lead_scores").await < fresh / 2);
}

#[tokio::test]
async fn a_model_reads_and_the_embedded_reader_stands_in() {
    let good = json!({
        "conversation_summary": "Wants two bedrooms.", "key_topics": [], "sentiment_analysis": { "score": 0.9, "label": "gloomy" },
        "preferences_extracted": { "bedrooms": { "value": { "min": 2.0, "max": 2.0 }, "message": 0, "words": "3BR, for", "confidence": 0.9 },
            "pets": { "value": { "has": true, "kinds": { "dog": 1 } }, "message": 0, "words": "a dog", "confidence": 0.9 },
            "floor": { "value": { "min": 3.0, "max": 3.0 }, "message": 1, "words": "please", "confidence": 0.9 },
            "areas": [
                { "value": "Zebulon", "message": 0, "words": "zebulon", "confidence": 0.9 },
                { "value": "Raleigh", "message": 0, "words": "Raleigh", "confidence": 0.9 },
                { "value": "Nowhere", "message": 0, "words": " ", "confidence": 0.9 },
            ],
        },
    });
    let mut beyond = good.clone();
    beyond["preferences_extracted"]["bedrooms"]["message"] = json!(7);
    let answers: Vec<String> = vec![good.to_string(), "no json".to_owned(), beyond.to_string(), "{}".to_owned()];
    let turns = Arc::new(AtomicUsize::new(0));
    let asked = Arc::new(std::sync::Mutex::new(Vec::new()));
    let app = axum::Router::new().route(
        "/v1/chat/completions",
        post({
            let asked = asked.clone();
            async move |Json(body): Json<Value>| {
                asked.lock().unwrap().push(body);
                let content = answers[turns.fetch_add(1, Ordering::SeqCst) % answers.len()].clone();
                Json(json!({ "choices": [{ "message": { "content": content } }] }))
            }
        }),
    );
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/v1", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, app).await });
    let config: Config = serde_json::from_value(json!({ "url": url, "model": "m-1" })).unwrap();
    let remote = Remote::open(config, &Env::default()).unwrap();
    let message = Message { role: Role::Renter, at: None, text: "3br for Zebulon please".to_owned() };
    let bye = Message { role: Role::Agent, at: None, text: "Sure, and a cat? Goodbye".to_owned() };
    let conversation = Conversation { messages: vec![message, bye], zone: None };
    let read = remote.enrich(&conversation).await.unwrap();
    assert_eq!(
        (read.reader.as_str(), &read.fallback, read.reading.sentiment_analysis.label.as_str()),
        ("m-1", &None, "positive")
    );
    // Evidence that nobody gave is none, and what it stood for is dropped: words that are not there, of another message, or none.
    let wishes = read.reading.preferences_extracted;
    assert_eq!(wishes.bedrooms.unwrap().value.max, Some(2.0));
    assert_eq!((wishes.pets, wishes.floor), (None, None));
    assert_eq!(wishes.areas.iter().map(|a| &*a.value).collect::<Vec<_>>(), ["Zebulon"]);
    for _ in 0..3 {
        let read = remote.enrich(&conversation).await.unwrap();
        assert_eq!(
            (read.reader.as_str(), read.reading.preferences_extracted.bedrooms.unwrap().value.max),
            ("embedded", Some(3.0))
        );
        assert!(!read.fallback.unwrap().contains("Zebulon"));
    }
    let body = asked.lock().unwrap()[0].clone();
    assert_eq!((&body["model"], &body["response_format"]["type"]), (&json!("m-1"), &json!("json_schema")));
    let half = |name: &str| (name == "PROPFLOW_ENRICHER_URL").then(|| url.clone());
    assert!(from_environment(&Env::default(), half).unwrap_err().to_string().contains("PROPFLOW_ENRICHER_MODEL"));
}
