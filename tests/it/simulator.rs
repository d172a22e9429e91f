//! The ResMan simulator over HTTP: what a client sees of it, that its two faces agree, and each way it misbehaves.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use chrono::NaiveDate;
use fixtures::resman::{Credentials, Misbehaviour, Options, Overload, Rule, Simulator};
use fixtures::world::{Shape, World};
use reqwest::{Client, Response, StatusCode};
use serde_json::Value;

fn client() -> Client {
    // Another test may have been first.
    let _ = rustls::crypto::ring::default_provider().install_default();
    Client::new()
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
