//! The live socket: each event once and in order, whoever comes and goes.

use std::time::Duration;

use catalog::Clock;
use catalog::store::events::{self, Event};
use futures::{SinkExt, StreamExt};
use kit::house::House;
use pipelines::http::caller::Role;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{WebSocketStream, client_async};

/// Long enough for a loaded machine; nothing here waits for it unless it fails.
const PATIENCE: Duration = Duration::from_secs(60);

type Socket = WebSocketStream<TcpStream>;

async fn connect(house: &House, query: &str, key: Option<&str>) -> Result<Socket, Error> {
    let socket = TcpSocket::new_v4().unwrap();
    // A small window, so that a client that does not read is one that is not written to.
    socket.set_recv_buffer_size(8192).unwrap();
    let address = house.url.strip_prefix("http://").unwrap();
    let stream = socket.connect(address.parse().unwrap()).await.unwrap();
    let mut request = format!("ws://{address}/api/live{query}").into_client_request().unwrap();
    if let Some(key) = key {
        request.headers_mut().insert("authorization", format!("Bearer {key}").parse().unwrap());
    }
    timeout(PATIENCE, client_async(request, stream)).await.unwrap().map(|(socket, _)| socket)
}

/// The next thing that is said: an event and so on, or the reason why it ends.
async fn next(socket: &mut Socket) -> Option<Value> {
    loop {
        match timeout(PATIENCE, socket.next()).await.expect("nothing came") {
            Some(Ok(Message::Text(text))) => return Some(serde_json::from_str(&text).unwrap()),
            Some(Ok(Message::Close(Some(frame)))) => {
                return Some(
                    json!({ "closed": u16::from(frame.code), "why": serde_json::from_str::<Value>(&frame.reason).unwrap() }),
                );
            }
            Some(Ok(_)) => {}
            Some(Err(_)) | None => return None,
        }
    }
}

fn event(topic: &str, property: Option<&str>, n: i64) -> Event {
    Event {
        topic: topic.to_owned(),
        property_id: property.map(str::to_owned),
        kind: "updated".to_owned(),
        key: n.to_string(),
        version: n,
        data: json!({}),
    }
}

async fn append(house: &House, all: &[Event]) -> i64 {
    let mut tx = house.pool().begin().await.unwrap();
    let last = events::append(&mut tx, all, house.clock.now()).await.unwrap();
    tx.commit().await.unwrap();
    last
}

#[tokio::test]
async fn each_event_comes_once_and_in_order_over_reconnects() {
    let house = House::new().await;
    let key = house.key(&[Role::Chatbot], Some(&["P-1"])).await;
    let mut rng = ChaCha8Rng::seed_from_u64(11);
    let total = 1200;
    let writer = async {
        let mut n = 0;
        let mut rng = ChaCha8Rng::seed_from_u64(12);
        while n < total {
            let size = rng.random_range(1..6).min(total - n);
            // Others' events lie between.
            let all: Vec<Event> = (n..n + size)
                .flat_map(|n| {
                    [
                        event("contacts", Some("P-1"), n),
                        event("contacts", Some("P-2"), n),
                        event("bookings", Some("P-1"), n),
                        event("contacts", None, n),
                    ]
                })
                .collect();
            append(&house, &all).await;
            n += size;
        }
    };
    let reader = async {
        let (mut seen, mut since) = (Vec::new(), 0);
        while (seen.len() as i64) < total {
            let mut socket = connect(&house, &format!("?topics=contacts&since={since}"), Some(&key)).await.unwrap();
            let hello = next(&mut socket).await.unwrap();
            assert_eq!(hello["type"], "hello");
            // Often, so that many come while somebody writes.
            for _ in 0..rng.random_range(1..12) {
                if seen.len() as i64 == total {
                    break;
                }
                let told = next(&mut socket).await.unwrap();
                assert_eq!(
                    (&told["type"], &told["property_id"], &told["topic"]),
                    (&json!("event"), &json!("P-1"), &json!("contacts")),
                    "{told}"
                );
                assert!(told["seq"].as_i64().unwrap() > since);
                since = told["seq"].as_i64().unwrap();
                seen.push(told["version"].as_i64().unwrap());
            }
            // Some say goodbye, some are just gone.
            if rng.random_bool(0.5) {
                let _ = socket.close(None).await;
            }
        }
        seen
    };
    let (seen, ()) = tokio::join!(reader, writer);
    assert_eq!(seen, (0..total).collect::<Vec<_>>());
}

#[tokio::test]
async fn what_is_gone_is_said_to_be_gone() {
    let house = House::new().await;
    let key = house.key(&[Role::Staff], None).await;
    append(&house, &(0..5).map(|n| event("contacts", None, n)).collect::<Vec<_>>()).await;
    sqlx::query("delete from sync.events where seq <= 3").execute(house.pool()).await.unwrap();
    let mut socket = connect(&house, "?since=1", Some(&key)).await.unwrap();
    next(&mut socket).await.unwrap();
    assert_eq!(next(&mut socket).await.unwrap(), json!({ "type": "gap", "since": 1, "from": 3 }));
    assert_eq!(next(&mut socket).await.unwrap()["seq"], 4);
    // Without a number it begins now; a number of another database is a gap too.
    let mut now = connect(&house, "", Some(&key)).await.unwrap();
    next(&mut now).await.unwrap();
    let mut odd = connect(&house, "?since=900", Some(&key)).await.unwrap();
    next(&mut odd).await.unwrap();
    assert_eq!(next(&mut odd).await.unwrap()["from"], 5);
    append(&house, &[event("merges", Some("P-1"), 9)]).await;
    for socket in [&mut now, &mut odd] {
        assert_eq!(next(socket).await.unwrap()["seq"], 6);
    }
    // When the service ends, everybody hears what they have.
    house.stop.cancel();
    assert_eq!(next(&mut now).await.unwrap(), json!({ "closed": 1001, "why": { "code": "ending", "last": 6 } }));
}

#[tokio::test]
async fn nobody_listens_without_a_key() {
    let house = House::new().await;
    let (owner, staff) = (house.key(&[Role::Owner], None).await, house.key(&[Role::Staff], None).await);
    for (key, query, status) in
        [("pf_00000000_x", "", 401), (&*owner, "", 403), (&*staff, "?topics=dragons", 422), (&*staff, "?since=x", 400)]
    {
        match connect(&house, query, Some(key)).await {
            Err(Error::Http(response)) => assert_eq!(response.status().as_u16(), status, "{query}"),
            other => panic!("{query}: {other:?}"),
        }
    }
    let greetings = [
        (json!({ "key": "pf_00000000_x" }), 4001),
        (json!({ "key": "\n" }), 4001),
        (json!({ "key": owner }), 4003),
        (json!({ "key": staff, "topics": ["dragons"] }), 4002),
        (json!({ "key": staff, "colour": 1 }), 4002),
        (json!("x"), 4002),
    ];
    for (greeting, code) in greetings {
        let mut socket = connect(&house, "", None).await.unwrap();
        socket.send(Message::text(greeting.to_string())).await.unwrap();
        assert_eq!(next(&mut socket).await.unwrap()["closed"], code, "{greeting}");
    }
    let mut socket = connect(&house, "", None).await.unwrap();
    socket.send(Message::text(json!({ "key": staff, "topics": ["merges"], "since": 0 }).to_string())).await.unwrap();
    assert_eq!(next(&mut socket).await.unwrap()["type"], "hello");
    append(&house, &[event("contacts", None, 1), event("merges", None, 2)]).await;
    assert_eq!(next(&mut socket).await.unwrap()["seq"], 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_does_not_read_is_closed_and_delays_nobody() {
    let house = House::new().await;
    let key = house.key(&[Role::Analyst], None).await;
    let mut slow = connect(&house, "?since=0", Some(&key)).await.unwrap();
    let mut fast = connect(&house, "?since=0", Some(&key)).await.unwrap();
    next(&mut slow).await.unwrap();
    next(&mut fast).await.unwrap();
    // One event that both have shows that both listen.
    append(&house, &[event("contacts", None, 1)]).await;
    for socket in [&mut slow, &mut fast] {
        assert_eq!(next(socket).await.unwrap()["seq"], 1);
    }
    let total = 12_000;
    let mut tx = house.pool().begin().await.unwrap();
    sqlx::query(
        "insert into sync.events (seq, topic, kind, key, version, data, created_at) \
         select n, 'contacts', 'updated', n::text, 1, jsonb_build_object('filler', repeat('x', 2000)), now() \
         from generate_series(2, $1::bigint) n",
    )
    .bind(total)
    .execute(&mut *tx)
    .await
    .unwrap();
    sqlx::query("update sync.events_head set seq = $1").bind(total).execute(&mut *tx).await.unwrap();
    sqlx::query("select pg_notify($1, '')").bind(events::ANNOUNCED).execute(&mut *tx).await.unwrap();
    tx.commit().await.unwrap();
    for seq in 2..=total {
        assert_eq!(next(&mut fast).await.unwrap()["seq"], seq);
    }
    // The slow one gets what was on its way, then hears why it ends, unless it took too long even for that.
    let mut last = 1;
    while let Some(told) = next(&mut slow).await {
        if told["closed"].is_number() {
            assert_eq!(told, json!({ "closed": 4008, "why": { "code": "behind", "last": last } }));
            break;
        }
        assert_eq!(told["seq"], last + 1);
        last += 1;
    }
    assert!(last < total, "it was never behind");
    let mut again = connect(&house, &format!("?since={last}"), Some(&key)).await.unwrap();
    next(&mut again).await.unwrap();
    for seq in last + 1..=total {
        assert_eq!(next(&mut again).await.unwrap()["seq"], seq);
    }
}
