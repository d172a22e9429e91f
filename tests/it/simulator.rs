//! The ResMan simulator over HTTP: what a client sees of it, that its two faces agree, and each way it misbehaves.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, in its own helpers too")]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;
use std::time::Duration;

use chrono::NaiveDate;
use fixtures::resman::{Credentials, Misbehaviour, Options, Overload, Rule, Simulator};
use fixtures::world::{Shape, World};
use reqwest::{Client, Response, StatusCode};
use serde_json::Value;

/// One client for all tests: making one is slow. It keeps no connections, since they would die with a test's runtime.
fn client() -> &'static Client {
    static CLIENT: LazyLock<Client> = LazyLock::new(|| {
        // Someone else may have been first.
        let _ = rustls::crypto::ring::default_provider().install_default();
        Client::builder().pool_max_idle_per_host(0).build().unwrap()
    });
    &CLIENT
}

fn shape(properties: usize, units: usize) -> Shape {
    Shape { seed: 11, properties, units, today: NaiveDate::from_ymd_opt(2026, 6, 15).unwrap() }
}

async fn simulator(properties: usize, units: usize) -> Simulator {
    Simulator::start(World::generate(shape(properties, units)), Options::default()).await.unwrap()
}

fn form<'a>(c: &'a Credentials, more: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    let own = [("IntegrationPartnerID", &*c.partner_id), ("ApiKey", &c.api_key), ("AccountID", &c.account_id)];
    own.into_iter().chain(more.iter().copied()).collect()
}

async fn v1(sim: &Simulator, method: &str, more: &[(&str, &str)]) -> Response {
    let url = format!("{}/{method}", sim.base_url_v1());
    client().post(url).form(&form(sim.credentials(), more)).send().await.unwrap()
}

async fn v2(sim: &Simulator, path: &str) -> Response {
    let c = sim.credentials();
    client()
        .get(format!("{}{path}", sim.base_url_v2()))
        .basic_auth(&c.partner_id, Some(&c.api_key))
        .header("ResMan-Account-Id", &c.account_id)
        .send()
        .await
        .unwrap()
}

async fn json(response: Response) -> Value {
    serde_json::from_str(&response.text().await.unwrap()).unwrap()
}

fn property(sim: &Simulator, index: usize) -> String {
    sim.with_world(|w| w.properties[index].id.clone())
}

#[tokio::test]
async fn every_endpoint_answers_with_its_list() {
    let sim = simulator(2, 30).await;
    let p = property(&sim, 0);
    for (method, list) in [
        ("Account/GetProperties", "Properties"),
        ("Property/GetUnits", "Units"),
        ("Leasing/GetEmployees", "Employees"),
        ("Leasing/GetProspectSources", "ProspectSources"),
        ("Leasing/GetLostProspectReasons", "LostProspectReasons"),
    ] {
        let answer = json(v1(&sim, method, &[("PropertyID", &p)]).await).await;
        assert!(!answer[list].as_array().unwrap().is_empty(), "{method}: {answer}");
        assert_eq!(answer["Status"], "Success");
        assert_eq!(answer["ErrorDescription"], Value::Null);
        assert_eq!(answer["AccountID"], 731);
        assert_eq!(Some(answer["MethodName"].as_str().unwrap()), method.split('/').nth(1));
    }
    for (path, list) in [
        ("/Properties?", "properties"),
        ("/Buildings?", "buildings"),
        ("/Units?", "units"),
        ("/Units/Availability?", "units"),
        ("/UnitTypes?", "unitTypes"),
        ("/Amenities?", "amenities"),
        ("/PropertyCharges?PropertyId=PID&", "propertyCharges"),
        ("/RentableItems?", "rentableItems"),
        ("/RentableItems/Availability?", "rentableItems"),
        ("/RentableItemTypes?", "rentableItemTypes"),
        ("/TransactionCategories?types=Charge&", "transactionCategories"),
        ("/Employees?", "employees"),
        ("/PickLists?name=LostProspectReason&", "pickList"),
    ] {
        let answer = json(v2(&sim, &format!("{}propertyId={p}&nonsense=1", path.replace("PID", &p))).await).await;
        assert!(!answer[list].as_array().unwrap().is_empty(), "{path}: {answer}");
    }
    let account = json(v1(&sim, "Account/GetAccountID", &[("Subdomain", "harborliving")]).await).await;
    assert_eq!(account["CompanyName"], "Harbor Living LLC");
    assert_eq!(sim.count("Property/GetUnits"), 1);
    assert_eq!(sim.count_for("/Units", &p), 1);
}

#[tokio::test]
async fn v1_renders_as_asked_except_for_mits() {
    let sim = simulator(3, 12).await;
    let p = property(&sim, 0);
    let c = sim.credentials();
    let ask = async |method: &str, accept: &str| {
        let url = format!("{}/{method}", sim.base_url_v1());
        let fields = form(c, &[("propertyId", &p)]);
        client().post(url).header("Accept", accept).form(&fields).send().await.unwrap().text().await.unwrap()
    };
    for accept in ["application/json", "*/*"] {
        assert!(ask("Property/GetUnits", accept).await.starts_with('{'));
        assert!(ask("MITS/GetMarketing4_0", accept).await.starts_with("<?xml"));
    }
    let units = ask("Property/GetUnits", "application/xml").await;
    assert_eq!(units.matches("<Unit><UnitId>").count(), 12);
    assert!(units.contains("<Status>Success</Status>") && !units.contains("ErrorDescription"), "{units}");

    let units = json(v1(&sim, "property/getunits", &[("PROPERTYID", &p.to_ascii_uppercase())]).await).await;
    assert!(units["Units"][0].as_object().unwrap().values().all(Value::is_string), "all text: {}", units["Units"][0]);
    assert!(units["Units"].as_array().unwrap().iter().any(|u| u["UnitNumber"].as_str().unwrap().contains('*')));
    let listed = json(v1(&sim, "Account/GetProperties", &[]).await).await;
    let managed: Vec<bool> =
        listed["Properties"].as_array().unwrap().iter().map(|p| p.get("Manager").is_some()).collect();
    assert_eq!(managed, [true, true, false], "the key is left out where there is none");
}

#[tokio::test]
async fn v1_takes_fields_from_body_and_query_and_refuses_with_status_200() {
    let sim = simulator(1, 3).await;
    let p = property(&sim, 0);
    let c = sim.credentials();
    let key: String = url_encoded(&c.api_key);
    let (v1_url, none) = (sim.base_url_v1(), [("whatever", "else")]);
    let query = format!("IntegrationPartnerID={}&apikey={key}&accountid=731&propertyid={p}", c.partner_id);
    let ask = async |query: &str, body: &[(&str, &str)]| {
        let response = client().post(format!("{v1_url}/Property/GetUnits?{query}")).form(body).send().await.unwrap();
        assert_eq!(response.status(), StatusCode::OK);
        json(response).await["Status"].as_str().unwrap().to_owned()
    };
    assert_eq!(ask(&query, &none).await, "Success");
    assert_eq!(ask(&query, &[("ApiKey", "wrong")]).await, "Failed", "the body wins");
    assert_eq!(ask("ApiKey=wrong", &form(c, &[("PropertyID", &p)])).await, "Success", "the body wins");
    assert_eq!(ask(&query.replace("%2B", "+"), &none).await, "Failed", "a plain `+` is a blank");
    assert_eq!(ask(&query.replace("731", "732"), &none).await, "Failed");
    assert_eq!(ask(&query.replace(&p, "5b0c3f52-6a0e-4c5b-9a55-0f6d9f3c2a11"), &none).await, "Failed");

    let unknown = v1(&sim, "Property/GetUnit", &[]).await;
    assert_eq!(unknown.status(), StatusCode::NOT_FOUND);
    let no_length = client().post(format!("{v1_url}/Property/GetUnits?{query}")).send().await.unwrap();
    assert_eq!(no_length.status(), StatusCode::LENGTH_REQUIRED);
    let get = client().get(format!("{v1_url}/Property/GetUnits?{query}")).send().await.unwrap();
    assert_eq!(get.status(), StatusCode::METHOD_NOT_ALLOWED);
    let feed = v1(&sim, "MITS/GetMarketing4_0", &[]).await.text().await.unwrap();
    assert!(feed.contains("<Status>Failed</Status>") && feed.contains("<ErrorDescription>PropertyID is"), "{feed}");
}

fn url_encoded(text: &str) -> String {
    text.bytes().map(|b| format!("%{b:02X}")).collect()
}

#[tokio::test]
async fn v2_wants_credentials_account_and_filters() {
    let sim = simulator(1, 3).await;
    let p = property(&sim, 0);
    let c = sim.credentials();
    let ask = async |user: &str, key: &str, account: Option<&str>| {
        let mut call = client().get(format!("{}/Properties", sim.base_url_v2())).basic_auth(user, Some(key));
        if let Some(account) = account {
            call = call.header("ResMan-Account-Id", account);
        }
        call.send().await.unwrap()
    };
    assert_eq!(ask(&c.partner_id, &c.api_key, Some("731")).await.status(), StatusCode::OK);
    for (user, key, account) in
        [("other", &*c.api_key, Some("731")), (&c.partner_id, "wrong", Some("731")), (&c.partner_id, &c.api_key, None)]
    {
        let refused = ask(user, key, account).await;
        assert_eq!(refused.status(), StatusCode::UNAUTHORIZED);
        let body = json(refused).await;
        assert!(body["message"].is_string() && body["code"].is_u64() && body["code"] != 20001, "{body}");
    }
    for (path, status) in [
        ("/Units", 400),
        (&*format!("/Units?PropertyId={p}"), 400),
        (&*format!("/PropertyCharges?propertyId={p}"), 400),
        ("/PickLists", 400),
        ("/TransactionCategories", 400),
        ("/TransactionCategories?types=", 500),
        ("/BankAccounts", 404),
        (&*format!("/UnitCharges?propertyId={p}"), 401),
    ] {
        assert_eq!(v2(&sim, path).await.status().as_u16(), status, "{path}");
    }
    let off = json(v2(&sim, &format!("/UnitCharges?propertyId={p}")).await).await;
    assert_eq!(off["code"], 20001);
    let several = json(v2(&sim, "/TransactionCategories?types=Charge,Credit").await).await;
    assert_eq!(several["transactionCategories"], Value::Array(Vec::new()));
    let units = json(v2(&sim, &format!("/Units/Availability?propertyId={p}")).await).await;
    assert!(units["units"][0]["floor"].is_string() && units["units"][0]["unitTypeMarketingName"].is_null());
}

#[tokio::test]
async fn entitlements_are_a_setting() {
    let options = Options { not_entitled: vec!["/propertycharges".to_owned()], ..Options::default() };
    let sim = Simulator::start(World::generate(shape(1, 20)), options).await.unwrap();
    let p = property(&sim, 0);
    let off = v2(&sim, &format!("/PropertyCharges?PropertyId={p}")).await;
    assert_eq!(json(off).await["code"], 20001);
    let on = json(v2(&sim, &format!("/UnitCharges?propertyId={p}")).await).await;
    assert!(!on["unitCharges"].as_array().unwrap().is_empty());
}

/// What stands between two marks.
fn between<'a>(text: &'a str, from: &str, to: &str) -> Option<&'a str> {
    let (_, rest) = text.split_once(from)?;
    Some(rest.split_once(to)?.0)
}

fn cents(text: &str) -> i64 {
    (text.replace(',', "").parse::<f64>().unwrap() * 100.0).round() as i64
}

fn date(element: &str) -> NaiveDate {
    let part = |name| between(element, &format!("{name}=\"")[..], "\"").unwrap().parse::<i32>().unwrap();
    NaiveDate::from_ymd_opt(part("Year"), part("Month") as u32, part("Day") as u32).unwrap()
}

/// Reads a property by all three faces and holds what they say against the state.
async fn assert_faces_agree(sim: &Simulator, p: &str) {
    let matrix = [("PropertyID", p), ("IncludeFullPricingMatrix", "True")];
    let feed = v1(sim, "MITS/GetMarketing4_0", &matrix).await.text().await.unwrap();
    let listed = json(v1(sim, "Property/GetUnits", &[("PropertyID", p)]).await).await;
    let units = json(v2(sim, &format!("/Units?propertyId={p}")).await).await;
    let availability = json(v2(sim, &format!("/Units/Availability?propertyId={p}")).await).await;
    let charges = json(v2(sim, &format!("/PropertyCharges?PropertyId={p}")).await).await;
    let world = sim.world();
    let world = world.lock().unwrap();

    let (mut by_status, mut by_date, mut in_feed) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
    for unit in feed.split("<ILS_Unit ").skip(1) {
        let unit = unit.split("</ILS_Unit>").next().unwrap();
        let number = between(unit, "IDValue=\"", "\"").unwrap();
        in_feed.insert(number.to_owned());
        let status = |name: &str| between(unit, &format!("<Unit{name}Status>"), "</").unwrap();
        let residential = status("Economic") == "residential";
        let class = if status("Occupancy") == "vacant" { "Unoccupied" } else { "Occupied" };
        assert!(between(unit, "<VacancyClass>", "</").is_none_or(|c| c == class), "{number}");
        if residential
            && matches!((status("Occupancy"), status("Leased")), ("vacant", "available") | ("occupied", "on_notice"))
        {
            by_status.insert(number.to_owned());
        }
        if let Some(day) = between(unit, "<MadeReadyDate ", "/>") {
            by_date.insert(number.to_owned());
            assert_eq!(Some(date(day)), world.available_on(p, number), "{number}");
        }
        let mut rents = BTreeMap::<u32, i64>::new();
        for term in unit.split("<MITS-OfferTerm>").skip(1) {
            let rent = cents(between(term, "<EffectiveRent>", "</").unwrap());
            let term = between(term, "<Term>", "</").unwrap().parse().unwrap();
            rents.entry(term).and_modify(|r| *r = rent.min(*r)).or_insert(rent);
        }
        for term in [6, 9, 12, 15] {
            assert_eq!(rents.get(&term).copied(), world.rent(p, number, term), "{number} for {term} months");
        }
        let market = cents(between(unit, "<MarketRent>", "</").unwrap());
        assert_eq!(market, world.unit(p, number).unwrap().market_rent, "{number}");
    }

    let text = |v: &Value| v.as_str().unwrap().to_owned();
    let rows = |v: &Value, list: &str| v[list].as_array().unwrap().clone();
    let offered: BTreeSet<String> = world.offered_units(p).into_iter().collect();
    assert_eq!(by_status, offered, "rule 1");
    assert_eq!(by_date, offered, "rule 2");
    let mut by_v2 = BTreeSet::new();
    for unit in rows(&availability, "units") {
        let number = text(&unit["number"]);
        if unit["availableForOnlineMarketing"] == true
            && unit["excludedFromOccupancy"] == false
            && ["Ready", "Not Ready"].contains(&unit["status"].as_str().unwrap())
            && ["Vacant", "Notice to Vacate"].contains(&unit["vacancyStatus"].as_str().unwrap())
        {
            let day = unit["dateAvailable"].as_str().map(|day| day.parse().unwrap());
            assert_eq!(day, world.available_on(p, &number), "{number}");
            by_v2.insert(number);
        } else {
            assert_eq!(world.available_on(p, &number), None, "{number}");
        }
    }
    assert_eq!(by_v2, offered, "rule 3");

    let ids = |rows: &[Value], id: &str, number: &str| -> BTreeMap<String, String> {
        rows.iter().map(|u| (text(&u[number]), text(&u[id]))).collect()
    };
    let all = ids(&rows(&units, "units"), "unitId", "unitNumber");
    assert_eq!(ids(&rows(&listed, "Units"), "UnitId", "UnitNumber"), all);
    assert_eq!(ids(&rows(&availability, "units"), "unitId", "number"), all);
    let marketed: BTreeSet<String> = rows(&units, "units")
        .iter()
        .filter(|u| u["availableForOnlineMarketing"] == true)
        .map(|u| text(&u["unitNumber"]))
        .collect();
    assert_eq!(in_feed, marketed, "the feed has what is marketed");
    for unit in rows(&units, "units") {
        let rent = world.unit(p, unit["unitNumber"].as_str().unwrap()).unwrap().market_rent;
        assert_eq!((unit["marketRent"].as_f64().unwrap() * 100.0).round() as i64, rent);
    }

    let places = [
        ("Application Fee", "ApplicationFee"),
        ("Admin Fee", "AdminFee"),
        ("Pet Rent", "Rent"),
        ("Carport", "SpaceFee"),
    ];
    for (charge, element) in places {
        let v2 = rows(&charges, "propertyCharges").into_iter().find(|c| c["chargeName"] == charge).unwrap();
        let amount = (v2["amount"].as_f64().unwrap() * 100.0).round() as i64;
        assert_eq!(Some(amount), world.fee(p, charge), "{charge}");
        assert_eq!(cents(between(&feed, &format!("<{element}>"), "</").unwrap()), amount, "{charge}");
    }
}

proptest::proptest! {
    #![proptest_config(proptest::test_runner::Config::with_cases(12))]

    #[test]
    fn both_faces_tell_the_same_state_after_any_mutations(seed in 0u64..1_000, mutations in 0usize..200) {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
            let world = World::generate(Shape { seed, ..shape(2, 40) });
            let sim = Simulator::start(world, Options::default()).await.unwrap();
            let changes = sim.with_world(|w| w.mutate(mutations));
            assert_eq!(changes.len(), mutations);
            for index in 0..2 {
                assert_faces_agree(&sim, &property(&sim, index)).await;
            }
            sim.with_world(|w| w.advance_to(w.today + chrono::Days::new(5)));
            assert_faces_agree(&sim, &property(&sim, 0)).await;
        });
    }
}

#[tokio::test]
async fn concessions_are_worked_in_when_asked_for() {
    let sim = simulator(1, 12).await;
    let p = property(&sim, 0);
    let rent = async |more: &[(&str, &str)]| {
        let fields: Vec<_> = [("PropertyID", &*p)].into_iter().chain(more.iter().copied()).collect();
        let feed = v1(&sim, "MITS/GetMarketing4_0", &fields).await.text().await.unwrap();
        let first = feed.split("<ILS_Unit ").nth(1).unwrap();
        (cents(between(first, "<EffectiveRent>", "</").unwrap()), first.matches("<MITS-OfferTerm>").count())
    };
    let (plain, terms) = rent(&[]).await;
    // $500 once over 12 months.
    assert_eq!(rent(&[("includeConcessionsInLeaseTermPricing", "True")]).await, (plain - 50_000 / 12, terms));
    assert!(rent(&[("includefullpricingmatrix", "true")]).await.1 > terms);
}

#[tokio::test]
async fn a_property_that_leaves_is_gone_from_both_faces() {
    let sim = simulator(2, 12).await;
    let p = property(&sim, 0);
    assert!(sim.with_world(|w| w.remove_property(&p)));
    assert_eq!(json(v1(&sim, "Property/GetUnits", &[("PropertyID", &p)]).await).await["Status"], "Failed");
    assert_eq!(v2(&sim, &format!("/Units?propertyId={p}")).await.status(), StatusCode::BAD_REQUEST);
    assert_eq!(json(v2(&sim, "/Properties").await).await["properties"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn misbehaviour_strikes_where_and_as_often_as_told() {
    let sim = simulator(2, 12).await;
    let (p, other) = (property(&sim, 0), property(&sim, 1));
    let feed = async |p: &str| v1(&sim, "MITS/GetMarketing4_0", &[("PropertyID", p)]).await;
    let units = async |p: &str| v2(&sim, &format!("/Units?propertyId={p}")).await;

    sim.misbehave(Rule::on("/Units", Misbehaviour::TooManyRequests { retry_after_secs: 7 }).times(1));
    let limited = units(&p).await;
    assert_eq!(limited.status(), StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(limited.headers()["retry-after"], "7");
    assert_eq!(units(&p).await.status(), StatusCode::OK);

    sim.misbehave(Rule::on("*", Misbehaviour::ServerError { status: 503, retry_after_secs: Some(60) }).property(&p));
    assert_eq!(units(&other).await.status(), StatusCode::OK);
    let down = units(&p).await;
    assert_eq!(down.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(json(down).await["retry_after"], 60);
    sim.behave();

    sim.misbehave(Rule::on("MITS/*", Misbehaviour::CutBody).times(1));
    let cut = feed(&p).await;
    assert_eq!(cut.status(), StatusCode::OK);
    let announced = cut.content_length().unwrap();
    assert!(cut.text().await.is_err(), "the connection breaks amid the {announced} bytes");
    let whole = feed(&p).await.text().await.unwrap();
    assert_eq!(whole.len() as u64, announced);

    sim.misbehave(Rule::on("MITS/*", Misbehaviour::Malformed).times(1));
    let malformed = feed(&p).await.text().await.unwrap();
    assert!(!malformed.ends_with("</ResMan>") && malformed.starts_with("<?xml"));
    sim.misbehave(Rule::on("MITS/*", Misbehaviour::Html).times(1));
    assert!(feed(&p).await.text().await.unwrap().starts_with("<!DOCTYPE html>"));
    sim.misbehave(Rule::on("MITS/*", Misbehaviour::Empty).times(1));
    assert_eq!(feed(&p).await.text().await.unwrap(), "");
    sim.misbehave(Rule::on("*", Misbehaviour::Refused("no such luck".to_owned())).times(1));
    let refused = feed(&p).await.text().await.unwrap();
    assert!(refused.contains("<Status>Failed</Status>") && refused.contains("no such luck"));
    sim.misbehave(Rule::on("*", Misbehaviour::Refused("no such luck".to_owned())).times(1));
    assert!(v1(&sim, "MITS/SearchProspects", &[]).await.text().await.unwrap().contains("<Status>Error</Status>"));
    sim.misbehave(Rule::on("/Units", Misbehaviour::NotEntitled).times(1));
    assert_eq!(json(units(&p).await).await["code"], 20001);
    sim.misbehave(Rule::on("/Units", Misbehaviour::Unauthorized).times(1));
    assert_eq!(json(units(&p).await).await["code"], 20000);
    assert_eq!(units(&p).await.status(), StatusCode::OK);

    let seen: Vec<_> = sim.requests().into_iter().filter(|r| r.path == "/Units").map(|r| r.status).collect();
    assert_eq!(seen, [429, 200, 200, 503, 401, 401, 200]);
    assert_eq!(sim.count_for("Units", &other), 1);
    sim.forget_requests();
    assert_eq!(sim.requests(), []);
}

#[tokio::test]
async fn a_loaded_simulator_is_slow_beyond_its_limit() {
    let overload = Some(Overload { in_flight: 1, delay: Duration::from_secs(600) });
    let options = Options { overload, ..Options::default() };
    let sim = Simulator::start(World::generate(shape(1, 3)), options).await.unwrap();
    sim.misbehave(Rule::on("/Employees", Misbehaviour::Slow(Duration::from_secs(600))));
    assert_eq!(v2(&sim, "/Properties").await.status(), StatusCode::OK);
    sim.forget_requests();

    let c = sim.credentials().clone();
    let call = |path: &str, limit| {
        let url = format!("{}{path}", sim.base_url_v2());
        let call = client().get(url).basic_auth(&c.partner_id, Some(&c.api_key)).timeout(limit);
        call.header("ResMan-Account-Id", &c.account_id).send()
    };
    let slow = tokio::spawn(call("/Employees", Duration::from_secs(60)));
    while sim.peak_in_flight() == 0 {
        tokio::task::yield_now().await;
    }
    let second = call("/Properties", Duration::from_millis(300)).await;
    assert!(second.unwrap_err().is_timeout());
    assert_eq!(sim.peak_in_flight(), 2);
    slow.abort();
}

#[tokio::test]
async fn a_fixed_port_gives_two_and_dropping_frees_them() {
    let sim = simulator(1, 1).await;
    let (v1_url, v2_url) = (sim.base_url_v1(), sim.base_url_v2());
    assert_ne!(v1_url, v2_url);
    assert_eq!(v2(&sim, "/Properties").await.status(), StatusCode::OK);
    let taken = v1_url.rsplit(':').next().unwrap().parse().unwrap();
    let again = Simulator::start(World::generate(shape(1, 1)), Options { port: Some(taken), ..Options::default() });
    let fault = again.await.unwrap_err();
    assert_eq!(fault.message, format!("the ResMan simulator cannot listen on 127.0.0.1:{taken}"));
    drop(sim);
    for _ in 0..10_000 {
        if tokio::net::TcpStream::connect(v2_url.trim_start_matches("http://")).await.is_err() {
            return;
        }
        tokio::task::yield_now().await;
    }
    panic!("the port is still open");
}
