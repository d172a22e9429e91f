//! What is refused at the vendors' addresses, and what is taken although it says nothing.

use chrono::Days;
use fixtures::stays::{Booking, Kind, Platform, Status};
use fixtures::{calendars, guesty};
use kit::house::answer;
use reqwest::{Method, RequestBuilder, StatusCode};
use serde_json::{Value, json};

use super::{Coast, SIGNING};

/// Every wrong delivery to a vendor's address gets the right 4xx and a sentence, and is on the books with it; none gets a
/// 5xx, and what is only unknown is kept.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_wrong_delivery_of_a_vendor_is_answered_with_a_sentence() {
    let coast = Coast::new(3).await;
    let deep = |n: usize| format!("{{\"event\": \"x\", \"action\": \"x\", \"a\": {}{}}}", "[".repeat(n), "]".repeat(n));
    let user = coast.ownerrez.credentials().user_id;
    let mut count = 0;
    for connector in ["guesty", "ownerrez", "hostaway", "airbnb", "vrbo"] {
        let good = |body: &[u8]| coast.good(connector, "m", body);
        let bare = |body: &'static str| coast.post(connector, &[], body);
        let of = |name: &str, value: &str| vec![(name.to_owned(), value.to_owned())];
        let xml = connector == "vrbo";
        let shape = match connector {
            "guesty" => "not a JSON object",
            "vrbo" => "the document",
            "hostaway" => "no JSON object with an `event`",
            "airbnb" => "not JSON with an `action`",
            _ => "no JSON object with an `action`",
        };
        let unsigned = if connector == "guesty" { "`webhook-id` is missing" } else { "user and password are missing" };
        let mut cases: Vec<(&str, RequestBuilder, u16, &str)> = vec![
            ("unsigned", bare("{}"), 401, unsigned),
            ("unsigned garbage", bare("\u{0}"), 401, unsigned),
            ("empty", good(b""), 400, if xml { "ends before it is complete" } else { shape }),
            ("cut", good(br#"{"event": "reservation.updated", "action": ["#), 400, shape),
            ("a list", good(b"[]"), 400, shape),
            ("a number", good(b"7"), 400, shape),
            ("no text", good(b"{\"event\": \"\xff\", \"action\": \"\xff\"}"), 400, "UTF-8"),
            ("no text at all", good(b"\xff\xfe\x00\x01"), 400, if xml { "UTF-8" } else { shape }),
            (
                "a form",
                good(b"event=x&action=y").header("content-type", "application/x-www-form-urlencoded"),
                400,
                shape,
            ),
            ("nested without end", good(deep(100_000).as_bytes()), 400, "nested deeper than 64 levels"),
            ("compressed", good(b"\x1f\x8b\x08").header("content-encoding", "gzip"), 400, "the body is compressed"),
            ("too large", good(&vec![b' '; (1 << 20) + 1]), 413, "larger than 1048576 bytes"),
        ];
        if connector == "guesty" {
            let changes = {
                let mut stays = coast.stays.lock();
                while stays.changes.len() < 40 {
                    stays.mutate();
                }
                stays.changes.clone()
            };
            let letter = |sending| coast.guesty.letters(&changes, SIGNING, sending).remove(0);
            for (what, sending, status, says) in [
                ("forged", guesty::Sending { forge: true, ..Default::default() }, 401, "does not fit the body"),
                ("stale", guesty::Sending { age_secs: 301, ..Default::default() }, 400, "five minutes"),
                ("of tomorrow", guesty::Sending { age_secs: -86_400, ..Default::default() }, 400, "five minutes"),
            ] {
                let letter = letter(sending);
                cases.push((what, coast.post(connector, &letter.headers, letter.body), status, says));
            }
        } else {
            let wrong = of("authorization", "Basic bm9ib2R5Om5vdGhpbmc=");
            cases.push(("wrong password", coast.post(connector, &wrong, "{}"), 401, "user or password is wrong"));
            for odd in ["Bearer x", "Basic", "Basic %%%", "basic"] {
                cases.push((
                    "odd credentials",
                    coast.post(connector, &of("authorization", odd), "{}"),
                    401,
                    "are missing",
                ));
            }
        }
        if xml {
            cases.push(("no document", good(b"{}"), 400, "the document"));
            cases.push((
                "entities",
                good(b"<!DOCTYPE a [<!ENTITY x SYSTEM \"file:///etc/passwd\">]><a>&x;</a>"),
                400,
                "DOCTYPE",
            ));
            cases.push(("deep document", good("<a>".repeat(100_000).as_bytes()), 400, "nest too deep"));
        }
        for (what, request, status, detail) in cases {
            let response = request.send().await.unwrap();
            let kind = response.headers()["content-type"].to_str().unwrap().to_owned();
            let got = response.status().as_u16();
            let problem: Value = serde_json::from_str(&response.text().await.unwrap()).unwrap();
            assert_eq!((got, kind.as_str()), (status, "application/problem+json"), "{connector}, {what}: {problem}");
            let sentence = problem["detail"].as_str().unwrap();
            assert!(sentence.contains(detail), "{connector}, {what}: {problem}");
            let last = "select reason from ops.deliveries where state = 'refused' order by id desc limit 1".to_owned();
            let last = coast.text(last).await.unwrap();
            assert!(last.contains(detail), "{connector}, {what} is on record as `{last}`");
            count += 1;
        }
        for path in [format!("/api/webhooks/{connector}/nobody"), format!("/api/webhooks/nobody/{connector}")] {
            let (status, problem) = answer(coast.house.request(Method::POST, &path).body("{}")).await;
            assert_eq!(status, StatusCode::NOT_FOUND);
            assert!(problem["detail"].as_str().unwrap().contains("no connection of that name"), "{problem}");
            count += 1;
        }

        // What is sound and unknown, or says nothing that can be read again, is kept, answered well, and explained.
        let kept: Vec<(String, &str, &str)> = match connector {
            "guesty" => vec![
                (json!({ "event": "reservation.admired.v9", "x": 1 }).to_string(), "failed", "does not say which"),
                (json!({ "event": "task.created", "task": {} }).to_string(), "ignored", "`task.created` says nothing"),
                (json!({ "event": "reservation.updated.v2", "data": {} }).to_string(), "failed", "does not say which"),
                ("{}".to_owned(), "ignored", "`unknown` says nothing"),
            ],
            "ownerrez" => vec![
                (
                    json!({ "action": "entity_admire", "entity_type": "booking", "entity_id": 1, "user_id": user })
                        .to_string(),
                    "ignored",
                    "`booking.entity_admire` says nothing",
                ),
                (
                    json!({ "action": "entity_update", "entity_type": "booking", "entity_id": "x", "user_id": user })
                        .to_string(),
                    "failed",
                    "no object by a number",
                ),
                (
                    json!({ "action": "webhook_test", "user_id": user }).to_string(),
                    "ignored",
                    "`webhook_test` says nothing",
                ),
                (
                    json!({ "action": "application_authorization_revoked", "user_id": 1 }).to_string(),
                    "ignored",
                    "is left alone: it is about another user",
                ),
            ],
            "hostaway" => vec![
                (
                    json!({ "event": "task.created", "object": "task" }).to_string(),
                    "ignored",
                    "`task.created` says nothing",
                ),
                (
                    json!({ "event": "reservation.updated", "data": { "id": "../x" } }).to_string(),
                    "failed",
                    "no object by a number",
                ),
            ],
            "airbnb" => vec![
                (json!({ "action": "message_added" }).to_string(), "ignored", "`message_added` says nothing"),
                (
                    json!({ "action": "reservation_requested", "reservation": {} }).to_string(),
                    "failed",
                    "without `confirmation_code`",
                ),
                (
                    json!({ "action": "reservation_requested", "confirmation_code": "../x" }).to_string(),
                    "failed",
                    "letters and digits only",
                ),
                (
                    json!({ "action": "authorization_revoked", "host_id": 78 }).to_string(),
                    "ignored",
                    "is left alone: it is about another host",
                ),
                (
                    json!({ "action": "authorization_revoked" }).to_string(),
                    "ignored",
                    "is left alone: it is about another host",
                ),
            ],
            _ => vec![
                ("<quoteRequest><a>1</a></quoteRequest>".to_owned(), "ignored", "`quoteRequest` says nothing"),
                ("<bookingUpdate><a>1</a></bookingUpdate>".to_owned(), "failed", "names no booking"),
            ],
        };
        for (at, (body, state, says)) in kept.into_iter().enumerate() {
            let request = coast.good(connector, &format!("kept-{at}"), body.as_bytes());
            // Senders get content types wrong: the body says what it is.
            let (status, taken) = answer(request.header("content-type", "text/plain")).await;
            assert_eq!((status, &taken["status"]), (StatusCode::ACCEPTED, &json!("received")), "{connector}: {body}");
            coast.work_off(connector).await;
            let last = "select concat(state, ': ', reason) from ops.deliveries order by id desc limit 1".to_owned();
            let last = coast.text(last).await.unwrap();
            assert!(last.starts_with(state) && last.contains(says), "{connector}: {body} is on record as `{last}`");
        }
    }
    let refused = "select count(*)::text from ops.deliveries where state = 'refused'".to_owned();
    assert_eq!(coast.text(refused).await, Some(count.to_string()), "every refusal has its line");
    let bare =
        "select count(*)::text from ops.deliveries where state <> 'received' and coalesce(reason, '') = ''".to_owned();
    assert_eq!(coast.text(bare).await.as_deref(), Some("0"));
    let stopped = "select count(*)::text from ops.connections where state = 'revoked'".to_owned();
    assert_eq!(coast.text(stopped).await.as_deref(), Some("0"), "nobody else's word stops a connection");
    let calls = coast.site.requests().into_iter().filter(|r| r.path.contains("..")).count();
    assert_eq!(calls, 0);
    // A callback that names the host does stop it.
    let body = json!({ "action": "authorization_revoked", "host_id": 77 }).to_string();
    assert_eq!(answer(coast.good("airbnb", "bye", body.as_bytes())).await.0, StatusCode::ACCEPTED);
    coast.work_off("airbnb").await;
    let stopped = "select string_agg(connection, ',') from ops.connections where state = 'revoked'".to_owned();
    assert_eq!(coast.text(stopped).await.as_deref(), Some("airbnb"));
}

/// Whoever sends them, however they are shaped, and whether they are taken or refused.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cards_passports_and_codes_of_doors_leave_no_trace() {
    let coast = Coast::new(5).await;
    let (request, name) = {
        let mut stays = coast.stays.lock();
        let check_in = stays.today(0) + Days::new(12);
        let (kind, platform, status) = (Kind::Stay, Platform::Vrbo, Status::Pending);
        let booking = Booking { listing: 0, check_in, check_out: check_in + Days::new(4), platform, kind, status };
        let number = stays.book(booking).unwrap();
        let guest = stays.reservation(number).unwrap().guest.unwrap();
        let request = calendars::booking_request(&stays, number).unwrap();
        let said = "</inquiryId><message>Mine is 4111-1111-1111-1111</message>";
        (request.replacen("</inquiryId>", said, 1), stays.guests[guest].last_name.clone())
    };
    assert!(request.contains("4111-1111") && request.contains("tok_invented"));
    let wrong = [("authorization".to_owned(), "Basic bm9ib2R5Om5vdGhpbmc=".to_owned())];
    let json = json!({
        "object": "reservation", "event": "reservation.admired",
        "data": {
            "card": { "number": "tok_invented" }, "payment": { "pan": "tok_invented" }, "door": { "code": "tok_invented" },
            "guest": { "identityNumber": "tok_invented" }, "document": { "type": "passport", "value": "tok_invented" },
            "comment": "4111 1111 1111 1111",
        },
    })
    .to_string();
    for (connector, body) in [("vrbo", &request), ("hostaway", &json)] {
        assert_eq!(answer(coast.good(connector, "m", body.as_bytes())).await.0, StatusCode::ACCEPTED);
        let form = "card_number=4111-1111-1111-1111&numberToken=tok_invented".to_owned();
        let doctype = format!("<!DOCTYPE a>{body}");
        for (refused, whole) in
            [(body, true), (&doctype, false), (&body[..body.len() - 2].to_owned(), false), (&form, false)]
        {
            let (status, _) = answer(coast.post(connector, &wrong, refused.clone())).await;
            assert_eq!(status, StatusCode::UNAUTHORIZED);
            let kept = "select (length(body) > 0)::text from ops.deliveries order by id desc limit 1".to_owned();
            assert_eq!(coast.text(kept).await, Some(whole.to_string()), "{refused}");
        }
        coast.work_off(connector).await;
    }
    let asked = "select special_requests from core.source_bookings where connector = 'vrbo'".to_owned();
    assert_eq!(coast.text(asked).await.as_deref(), Some("Mine is [card removed]"));
    for secret in ["tok_invented", "4111", "987</", "CARDHOLDER"] {
        assert_eq!(coast.traces(secret).await, Vec::<String>::new(), "`{secret}` is kept");
    }
    assert!(!coast.traces(&name).await.is_empty(), "the guest is known");
}
