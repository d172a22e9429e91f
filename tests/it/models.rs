//! The SQL models: what they make of invented vendor rows.

#![expect(clippy::unwrap_used, reason = "the functions below are parts of tests")]

use std::collections::{BTreeMap, BTreeSet};

use arrow::array::{RecordBatch, StringArray};
use catalog::{RejectKind, datasets};
use chrono::{TimeZone, Utc};
use rand::{RngExt, SeedableRng};
use serde_json::{Map, Value, json};
use transforms::{Inputs, Model, Output, SliceInfo, models};

const P: &str = "5b0c3f52-6a0e-4c5b-9a55-0f6d9f3c2a11";

/// Wire rows from JSON objects of text; every row belongs to the property `P` unless it says otherwise.
fn table(dataset: &str, rows: &[Value]) -> RecordBatch {
    let dataset = datasets::find(dataset).unwrap();
    let columns = dataset.columns.iter().map(|column| {
        let values = rows.iter().map(|row| match &row[&column.name] {
            Value::Null if column.name == "property_id" => Some(P.to_owned()),
            Value::Null if column.name == "connection" => Some("acme".to_owned()),
            Value::String(text) => Some(text.clone()),
            Value::Null => None,
            other => Some(other.to_string()),
        });
        std::sync::Arc::new(values.collect::<StringArray>()) as _
    });
    RecordBatch::try_new(dataset.schema(), columns.collect()).unwrap()
}

fn inputs(tables: &[(&str, Vec<Value>)]) -> Inputs {
    Inputs {
        tables: tables.iter().map(|(name, rows)| ((*name).to_owned(), vec![table(name, rows)])).collect(),
        slice: SliceInfo {
            observed_at: Utc.with_ymd_and_hms(2026, 8, 1, 3, 0, 0).unwrap(),
            connection: "acme".to_owned(),
            currency: "USD".to_owned(),
            region: "US".to_owned(),
            concessions_included: false,
        },
    }
}

async fn run(tables: &[(&str, Vec<Value>)]) -> Output {
    transforms::run(&models::all().unwrap(), inputs(tables)).await.unwrap_or_else(|e| panic!("{}", e.chain()))
}

/// The rows of an output table as JSON, by their key.
fn rows(output: &Output, table: &str) -> BTreeMap<String, Map<String, Value>> {
    let dataset = datasets::find(table).unwrap();
    let mut found = BTreeMap::new();
    for batch in &output.tables[table] {
        assert_eq!(batch.schema(), dataset.schema(), "{table}");
        let mut writer = arrow::json::ArrayWriter::new(Vec::new());
        writer.write(batch).unwrap();
        writer.finish().unwrap();
        let batch: Vec<Map<String, Value>> = serde_json::from_slice(&writer.into_inner()).unwrap();
        for row in batch {
            let key = dataset.key().into_iter().filter(|k| !["property_id", "connection", "observed_at"].contains(k));
            let key: Vec<_> = key.map(|k| row[k].as_str().unwrap().to_owned()).collect();
            assert!(found.insert(key.join("/"), row).is_none(), "{table} has a key twice");
        }
    }
    found
}

/// An amount in hundredths.
fn cents(row: &Map<String, Value>, column: &str) -> Option<i64> {
    let text = match row.get(column)? {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let (whole, part) = text.split_once('.').unwrap_or((&text, "0"));
    Some(whole.parse::<i64>().unwrap() * 100 + format!("{part:0<2}").parse::<i64>().unwrap())
}

fn dollars(cents: i64) -> String {
    format!("{}.{:02}", cents / 100, cents % 100)
}

/// A unit of the feed that can be let.
fn vacant(number: &str) -> Value {
    json!({
        "unit_number": number, "floorplan_id": "B2", "market_rent": "1540", "economic_status": "residential",
        "occupancy_status": "vacant", "leased_status": "available", "vacancy_class": "Unoccupied",
        "made_ready_date": "2026-7-5", "bedrooms": "2", "bathrooms": "1.50",
    })
}

fn with(mut row: Value, changes: Value) -> Value {
    row.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
    row
}

#[tokio::test]
async fn every_model_can_be_planned() {
    let mut faults = Vec::new();
    for model in models::all().unwrap() {
        if let Err(fault) = model.check().await {
            faults.push(fault.chain());
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn every_stored_dataset_has_one_model_and_every_file_is_listed() {
    let made: BTreeSet<_> = models::all().unwrap().iter().map(|m| m.name.clone()).collect();
    let stored: BTreeSet<_> = datasets::stored().iter().map(|d| d.name.clone()).collect();
    assert_eq!(made, stored);
    let mut files = 0;
    for layer in transforms::model::LAYERS {
        let folder = format!("{}/../transforms/models/{layer}", env!("CARGO_MANIFEST_DIR"));
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let text = std::fs::read_to_string(&path).unwrap();
            assert!(models::TEXTS.contains(&text.as_str()), "{} is not listed", path.display());
            let model = Model::parse(&text).unwrap();
            assert_eq!(
                (model.layer.as_str(), model.name.as_str()),
                (layer, path.file_stem().unwrap().to_str().unwrap())
            );
            files += 1;
        }
    }
    assert_eq!(files, models::TEXTS.len());
}

fn model(header: &str, sql: &str) -> Result<Model, catalog::Fault> {
    Model::parse(&format!("{header}\n{sql}"))
}

const HEADER: &str = "-- model: lead_sources\n-- layer: normalise\n-- about: sources\n-- inputs: resman_v1_lead_sources\n-- key: property_id, lead_source_id";

#[test]
fn a_wrong_header_is_refused() {
    let fault = |header: &str| model(header, "select 1").unwrap_err().to_string();
    assert!(fault("-- model: lead_sources").contains("`layer: …`"));
    assert!(fault(&HEADER.replace("lead_sources\n-- l", "leads\n-- l")).contains("`leads`"));
    assert!(fault(&format!("{HEADER}\n-- checks: true")).contains("unknown word `checks`"));
    assert!(fault(&HEADER.replace(", lead_source_id", "")).contains("key of model"));
    assert!(fault(&HEADER.replace("resman_v1_lead_sources", "resman_v3")).contains("`resman_v3`"));
    assert!(fault(&HEADER.replace("normalise", "polish")).contains("`polish`"));
}

#[tokio::test]
async fn a_model_is_held_to_its_header_and_to_its_inputs_alone() {
    let fault = async |sql: &str| model(HEADER, sql).unwrap().check().await.unwrap_err().chain();
    let from = "from resman_v1_lead_sources";
    assert!(fault(&format!("select property_id, lead_source_id {from}")).await.contains("lacks the column `name`"));
    assert!(fault(&format!("select property_id, lead_source_id, name, 1 as more {from}")).await.contains("`more`"));
    assert!(
        fault(&format!("select property_id, lead_source_id, cast(now() as varchar) as name {from}"))
            .await
            .contains("`now`")
    );
    assert!(
        fault("select property_id, item_id as lead_source_id, name from resman_pick_lists")
            .await
            .contains("cannot be planned")
    );
    assert!(
        fault("select property_id, employee_id as lead_source_id, name from resman_v1_employees")
            .await
            .contains("resman_v1_employees")
    );
}

#[tokio::test]
async fn a_check_that_fails_stops_the_slice_and_says_how_many_rows() {
    let sql = "select property_id, lead_source_id, name from resman_v1_lead_sources";
    let strict = model(&format!("{HEADER}\n-- check: name <> 'Sign'"), sql).unwrap();
    let source = |id: &str, name: Option<&str>| json!({"lead_source_id": id, "name": name});
    let given = inputs(&[(
        "resman_v1_lead_sources",
        vec![source("1", Some("Sign")), source("2", Some("Web")), source("3", Some("Sign"))],
    )]);
    let fault = transforms::run(&[&strict], given).await.unwrap_err();
    assert_eq!(fault.to_string(), "model `lead_sources`: check `name <> 'Sign'` does not hold for 2 rows");
}

#[tokio::test]
async fn refused_rows_say_which_and_why() {
    let source = |id: Option<&str>, name: Option<&str>| json!({"lead_source_id": id, "name": name});
    let output = run(&[(
        "resman_v1_lead_sources",
        vec![
            source(Some("1"), Some("Sign")),
            source(Some("2"), Some(" ")),
            source(Some("1"), Some("Web")),
            source(None, Some("Radio")),
        ],
    )])
    .await;
    assert_eq!(rows(&output, "lead_sources")["1"]["name"], "Sign");
    assert_eq!(rows(&output, "lead_sources").len(), 1);
    let found: BTreeSet<_> = output.rejects.iter().map(|r| (r.key.as_str(), r.reason.as_str())).collect();
    let (second, first, third) = (format!("{P}/2"), format!("{P}/1"), format!("{P}/"));
    assert_eq!(
        found,
        BTreeSet::from([
            (second.as_str(), "`name` has no value"),
            (first.as_str(), "another row has the same key"),
            (third.as_str(), "`lead_source_id` has no value"),
        ])
    );
    for reject in &output.rejects {
        assert_eq!(
            (reject.kind, reject.scope.as_deref(), reject.dataset.as_str()),
            (RejectKind::Row, Some(P), "lead_sources")
        );
    }
    let twice = output.rejects.iter().find(|r| r.reason.starts_with("another")).unwrap();
    assert_eq!(twice.payload["name"], "Web");
}

/// The three rules again, in another language, over every combination that matters.
#[tokio::test]
async fn availability_follows_its_truth_table() {
    let some = |list: &[&'static str]| -> Vec<Option<&'static str>> {
        std::iter::once(None).chain(list.iter().copied().map(Some)).collect()
    };
    let and = |a: Option<bool>, b: Option<bool>| match (a, b) {
        (Some(false), _) | (_, Some(false)) => Some(false),
        (Some(true), Some(true)) => Some(true),
        _ => None,
    };
    let or = |a: Option<bool>, b: Option<bool>| and(a.map(|x| !x), b.map(|x| !x)).map(|x| !x);
    let (mut feed, mut units, mut live) = (Vec::new(), Vec::new(), Vec::new());
    let mut expected = BTreeMap::new();
    for econ in some(&["Residential", "model"]) {
        for occupancy in some(&["vacant", "occupied"]) {
            for leased in some(&["available", "on notice", "leased"]) {
                for ready in [None, Some(None), Some(Some("2026-8-5")), Some(Some("soon"))] {
                    for v2 in [
                        None,
                        Some(("true", "false", "Ready", "Vacant")),
                        Some(("true", "false", "Not Ready", "Notice to Vacate")),
                        Some(("false", "false", "Ready", "Vacant")),
                        Some(("true", "true", "Ready", "Vacant")),
                        Some(("true", "false", "Down", "Vacant")),
                        Some(("true", "false", "Ready", "Notice to Vacate Preleased")),
                    ] {
                        let number = format!("{:04}", expected.len());
                        feed.push(json!({
                            "unit_number": number, "economic_status": econ, "occupancy_status": occupancy,
                            "leased_status": leased, "vacancy_class": ready.map(|_| "Occupied"), "made_ready_date": ready.flatten(),
                        }));
                        if let Some((marketed, excluded, status, vacancy)) = v2 {
                            units.push(json!({"unit_number": number, "available_for_online_marketing": marketed, "excluded_from_occupancy": excluded}));
                            live.push(json!({"unit_number": number, "status": status, "vacancy_status": vacancy}));
                        }
                        let is = |value: Option<&str>, wanted: &str| value.map(|v| v.to_lowercase() == wanted);
                        let status = and(
                            is(econ, "residential"),
                            or(
                                and(is(occupancy, "vacant"), is(leased, "available")),
                                and(is(occupancy, "occupied"), is(leased, "on notice")),
                            ),
                        );
                        let made_ready = match ready {
                            None | Some(Some("soon")) => None,
                            Some(day) => Some(day.is_some()),
                        };
                        let live_rule = v2
                            .map(|(m, e, s, v)| m == "true" && e == "false" && s != "Down" && !v.contains("Preleased"));
                        let votes: Vec<bool> = [status, made_ready, live_rule].into_iter().flatten().collect();
                        let yes = votes.iter().filter(|v| **v).count();
                        let agreement = match votes.len() {
                            0 => "none",
                            n if yes != 0 && yes != n => "disputed",
                            1 => "single",
                            _ => "agreed",
                        };
                        let barred = v2.is_some_and(|(m, e, ..)| m == "false" || e == "true");
                        let available = !barred && !votes.is_empty() && yes == votes.len();
                        expected.insert(number, (available, agreement, status, made_ready, live_rule));
                    }
                }
            }
        }
    }
    let output = run(&[("mits_units", feed), ("resman_units", units), ("resman_availability", live)]).await;
    let found = rows(&output, "unit_availability");
    assert_eq!(found.len(), expected.len());
    for (number, (available, agreement, status, made_ready, live_rule)) in &expected {
        let row = &found[number];
        let rule = |name: &str| row.get(name).and_then(Value::as_bool);
        assert_eq!(
            (row["available"].as_bool(), row["agreement"].as_str()),
            (Some(*available), Some(*agreement)),
            "{row:?}"
        );
        assert_eq!(
            (rule("rule_status"), rule("rule_made_ready"), rule("rule_v2")),
            (*status, *made_ready, *live_rule),
            "{row:?}"
        );
        assert_eq!(row.contains_key("reason"), !available, "{row:?}");
    }
    let offered: BTreeSet<_> = rows(&output, "available_units").into_keys().collect();
    let wanted: BTreeSet<_> = expected.iter().filter(|(_, e)| e.0).map(|(n, _)| n.clone()).collect();
    assert!(!wanted.is_empty());
    assert_eq!(offered, wanted);
}

#[tokio::test]
async fn a_unit_of_the_oldest_list_alone_is_known_but_not_offered() {
    let output = run(&[(
        "resman_v1_units",
        vec![json!({"unit_id": "AB-1", "unit_number": " 7 ", "floor": "2", "unit_type": "B2"})],
    )])
    .await;
    assert_eq!(rows(&output, "units")["7"]["unit_id"], "ab-1");
    let row = &rows(&output, "unit_availability")["7"];
    assert_eq!((&row["available"], &row["agreement"]), (&json!(false), &json!("none")));
    assert!(rows(&output, "available_units").is_empty());
}

#[tokio::test]
async fn values_are_merged_and_say_where_they_came_from() {
    let output = run(&[
        ("mits_units", vec![with(vacant("7"), json!({"floor": "3", "building": "Building 12", "floorplan_name": "Two Bed"}))]),
        ("resman_v1_units", vec![json!({"unit_id": "OLD", "unit_number": "7", "street": "40 Quay Rd"})]),
        ("resman_units", vec![json!({"unit_id": "NEW", "unit_number": "7 ", "floor": "2", "unit_type": "B2", "market_rent": 0, "square_feet": "980.0"})]),
        ("resman_availability", vec![json!({"unit_number": "7", "market_rent": "1,550.25", "status": "Ready", "vacancy_status": "Vacant", "available_for_online_marketing": true})]),
    ])
    .await;
    let row = &rows(&output, "units")["7"];
    assert_eq!(
        (&row["unit_id"], &row["floor"], &row["building"], &row["square_feet"]),
        (&json!("new"), &json!("2"), &json!("12"), &json!(980))
    );
    assert_eq!(cents(row, "market_rent"), Some(155_025));
    let sources: Value = serde_json::from_str(row["value_sources"].as_str().unwrap()).unwrap();
    assert_eq!(sources["market_rent"], "v2_availability");
    assert_eq!(
        (&sources["floor"], &sources["building"], &sources["street"]),
        (&json!("v2_units"), &json!("mits"), &json!("v1_units"))
    );
}

#[tokio::test]
async fn a_rent_that_is_no_price_is_unknown_and_only_a_wrong_one_is_reported() {
    let rents = [("1", "0", false), ("2", "", false), ("3", "N/A", true), ("4", "-1", true)];
    let mut units: Vec<_> = rents.iter().map(|(n, rent, _)| with(vacant(n), json!({"market_rent": rent}))).collect();
    units.push(with(vacant("5"), json!({"market_rent": "1,234.50"})));
    let output = run(&[("mits_units", units)]).await;
    let found = rows(&output, "units");
    for (number, rent, reported) in rents {
        assert_eq!(cents(&found[number], "market_rent"), None, "{rent}");
        let key = format!("{P}/{number}");
        let issue = output.rejects.iter().find(|r| r.dataset == "units" && r.key == key);
        assert_eq!(issue.map(|r| r.kind), reported.then_some(RejectKind::Value), "{rent}");
        assert!(issue.is_none_or(|r| r.reason.contains(rent)));
    }
    assert_eq!(cents(&found["5"], "market_rent"), Some(123_450));
    let costs = rows(&output, "unit_costs");
    assert_eq!(cents(&costs["1/market"], "total_monthly_cost"), None);
    assert_eq!(cents(&costs["5/market"], "total_monthly_cost"), Some(123_450));
}

#[tokio::test]
async fn a_number_that_stands_twice_is_offered_only_when_both_rows_agree() {
    let output = run(&[(
        "mits_units",
        vec![vacant("1"), vacant("1 "), vacant("2"), with(vacant("2"), json!({"market_rent": "9"})), vacant("3")],
    )])
    .await;
    assert_eq!(rows(&output, "units").len(), 3);
    assert_eq!(rows(&output, "available_units").into_keys().collect::<Vec<_>>(), ["1", "3"]);
    assert_eq!(cents(&rows(&output, "units")["2"], "market_rent"), Some(154_000), "the first row is kept");
    let refused: Vec<_> = output.rejects.iter().filter(|r| r.kind == RejectKind::Row).collect();
    assert_eq!(refused.len(), 1);
    assert!(refused[0].key.ends_with("/2") && refused[0].reason.contains("again"));
}

#[tokio::test]
async fn terms_of_a_floor_plan_reach_its_units_and_concessions_are_taken_off_once() {
    let term = |unit: Option<&str>, months: &str, rent: &str| json!({"unit_number": unit, "floorplan_id": "B2", "lease_term": months, "effective_rent": rent});
    let mut own = term(Some("2"), "12", "1,400.00");
    own["start_date"] = json!("2026-8-1");
    own["end_date"] = json!("2026-8-15");
    let concession = |changes: Value| {
        with(json!({"active": "true", "value": "120.00", "term": "12", "header": "Look and lease"}), changes)
    };
    let tables = [
        (
            "mits_units",
            vec![
                vacant("1"),
                vacant("2"),
                with(
                    vacant("3"),
                    json!({"leased_status": "leased", "occupancy_status": "occupied", "made_ready_date": null}),
                ),
            ],
        ),
        (
            "mits_offer_terms",
            vec![term(None, "12", "1500"), term(None, "6", "1600"), own, term(Some("2"), "soon", "5")],
        ),
        (
            "mits_concessions",
            vec![
                concession(json!({})),
                concession(json!({})),
                concession(json!({"active": "false", "value": "999"})),
                concession(json!({"end_date": "2026-7-1", "value": "888"})),
                concession(json!({"unit_number": "2", "value": "-50", "header": "$50 off per month"})),
            ],
        ),
    ];
    let output = run(&tables).await;
    let offers = rows(&output, "offer_terms");
    assert_eq!(offers.keys().map(String::as_str).collect::<Vec<_>>(), ["1/12", "1/6", "2/12@2026-08-01..2026-08-15"]);
    let figures = |key: &str| ["offered_rent", "concession_monthly", "effective_rent"].map(|c| cents(&offers[key], c));
    assert_eq!(figures("1/12"), [Some(150_000), Some(1_000), Some(149_000)]);
    assert_eq!(figures("1/6"), [Some(160_000), None, Some(160_000)]);
    assert_eq!(figures("2/12@2026-08-01..2026-08-15"), [Some(140_000), Some(5_000), Some(135_000)]);
    assert!(output.rejects.iter().any(|r| r.dataset == "offer_terms" && r.reason.contains("`soon`")));
    assert_eq!(rows(&output, "concessions").len(), 4);
    assert_eq!(cents(&rows(&output, "available_units")["1"], "rent_from"), Some(149_000));
    assert_eq!(rows(&output, "price_history").len(), offers.len() + 3);

    let mut included = inputs(&tables);
    included.slice.concessions_included = true;
    let output = transforms::run(&models::all().unwrap(), included).await.unwrap();
    assert_eq!(cents(&rows(&output, "offer_terms")["1/12"], "effective_rent"), Some(150_000));
}

#[tokio::test]
async fn fees_are_one_list_in_which_each_is_counted_once() {
    let charge = |element: &str, amount: &str| json!({"element": element, "amount": amount, "position": "1"});
    let property = |name: &str, amount: &str, changes: Value| {
        with(
            json!({"transaction_category_id": name, "charge_name": name, "amount": amount, "is_required": "true", "is_recurring": "false", "is_enabled": "true"}),
            changes,
        )
    };
    let output = run(&[
        ("mits_units", vec![vacant("1")]),
        ("mits_charges", vec![
            charge("Fee/ApplicationFee", "60.00"),
            charge("Fee/AdminFee", "150"),
            charge("Fee/BrokerFee", "0"),
            charge("Fee/NonRefundableHoldFee", ""),
            charge("Policy/Pet/Rent", "25"),
            json!({"element": "Deposit", "unit_number": "1", "kind": "Security", "amount": "300", "percent_refundable": "100"}),
        ]),
        ("resman_unit_types", vec![json!({"unit_type_id": "T", "name": "B2", "required_deposit": 300})]),
        ("resman_property_charges", vec![
            property("Application Fee", "60", json!({"is_refundable": "false"})),
            property("Valet Trash", "30.00", json!({"frequency": "Monthly"})),
            property("Disabled", "10", json!({"is_enabled": "false"})),
            property("Pool Key", "-5", json!({})),
            property("Gym", "20", json!({"is_required": "false"})),
            property("Insurance", "120.05", json!({"frequency": "Annual"})),
        ]),
        ("resman_rentable_item_types", vec![json!({"rentable_item_type_id": "R", "name": "Garage", "amount": "95"})]),
        ("resman_amenity_charges", vec![
            json!({"amenity_id": "V", "amenity_name": "View", "amount": "40", "impacts_market_rent": "true"}),
            json!({"amenity_id": "W", "amenity_name": "Washer", "amount": "35", "impacts_market_rent": "false", "charge_date": "2026-1-1"}),
            json!({"amenity_id": "W", "amenity_name": "Washer", "amount": "55", "impacts_market_rent": "false", "charge_date": "2027-1-1"}),
        ]),
        ("resman_amenities", vec![
            json!({"amenity_id": "V", "name": "View", "unit_number": "1"}),
            json!({"amenity_id": "W", "name": "Washer", "unit_number": "1"}),
        ]),
    ])
    .await;
    let fees = rows(&output, "fees");
    let named: BTreeMap<_, _> = fees.values().map(|f| (f["name"].as_str().unwrap(), f)).collect();
    assert_eq!(
        named.keys().copied().collect::<Vec<_>>(),
        [
            "Admin fee",
            "Application Fee",
            "Garage",
            "Gym",
            "Insurance",
            "Pet rent",
            "Pool Key",
            "Required deposit",
            "Security deposit",
            "Valet Trash",
            "Washer"
        ]
    );
    assert_eq!(fees.len(), 11);
    let kind =
        |name: &str| ["category", "frequency", "requirement", "applies_to"].map(|c| named[name][c].as_str().unwrap());
    assert_eq!(kind("Application Fee"), ["application", "one_time", "required", "property"]);
    assert_eq!(kind("Garage"), ["parking", "monthly", "optional", "rentable_item"]);
    assert_eq!(kind("Pet rent"), ["pet", "monthly", "situational", "pet"]);
    assert_eq!(kind("Security deposit"), ["deposit", "one_time", "required", "unit"]);
    assert_eq!(kind("Washer"), ["amenity", "monthly", "required", "unit"]);
    assert_eq!(cents(named["Pool Key"], "amount"), None);
    assert!(
        output
            .rejects
            .iter()
            .any(|r| r.dataset == "fees" && r.kind == RejectKind::Value && r.reason.contains("`-5` is negative"))
    );

    let cost = &rows(&output, "unit_costs")["1/market"];
    let figure = |column: &str| cents(cost, column);
    assert_eq!(
        figure("required_monthly_fees"),
        Some(3_000 + 3_500 + 1_000),
        "trash, washer, a twelfth of the insurance"
    );
    assert_eq!(figure("required_one_time_fees"), Some(6_000 + 15_000));
    assert_eq!(figure("required_deposits"), Some(30_000), "two lists state the deposit");
    assert_eq!(figure("total_move_in_cost"), Some(154_000 + 7_500 + 21_000 + 30_000));
    assert_eq!((&cost["complete"], &cost["unknown_fees"]), (&json!(false), &json!("[\"Pool Key\"]")));

    let schedule = rows(&output, "fee_schedule");
    let sentence =
        |name: &str| schedule.values().find(|f| f["name"] == name).unwrap()["statement"].as_str().unwrap().to_owned();
    assert_eq!(sentence("Application Fee"), "Application Fee: $60.00, once, required, not refundable.");
    assert_eq!(sentence("Valet Trash"), "Valet Trash: $30.00 a month, required.");
    assert_eq!(sentence("Security deposit"), "Security deposit: $300.00, once, required, for unit 1, refundable.");
    assert_eq!(sentence("Pool Key"), "Pool Key: the amount is not known, once, required.");
    let mut positions: Vec<_> = schedule.values().map(|f| f["position"].as_i64().unwrap()).collect();
    positions.sort_unstable();
    assert_eq!(positions, (1..=11).collect::<Vec<_>>());
}

/// Random properties, their totals added up again in whole cents.
#[tokio::test]
async fn totals_equal_an_independent_sum() {
    let mut random = rand_chacha::ChaCha8Rng::seed_from_u64(7);
    for _ in 0..15 {
        let (mut units, mut terms, mut charges, mut deposits) = (vec![], vec![], vec![], vec![]);
        let (mut monthly, mut once, mut bonds) = (0_i64, 0_i64, 0_i64);
        for n in 0..random.random_range(0..6) {
            let cents: i64 = random.random_range(1..90_000);
            let (recurring, required): (bool, bool) = (random.random(), random.random());
            let bond = !recurring && random.random();
            charges.push(json!({
                "transaction_category_id": n, "charge_name": format!("{} {n}", if bond { "Deposit" } else { "Service" }),
                "amount": dollars(cents), "is_required": required, "is_recurring": recurring, "is_enabled": true,
            }));
            match (required, recurring, bond) {
                (false, ..) => {}
                (_, true, _) => monthly += cents,
                (_, _, true) => bonds += cents,
                _ => once += cents,
            }
        }
        let mut expected = BTreeMap::new();
        for n in 0..random.random_range(1..12) {
            let number = format!("{n:02}");
            let rent: i64 = random.random_range(50_000..400_000);
            units.push(with(vacant(&number), json!({"market_rent": dollars(rent)})));
            // A deposit of the unit's own stands in for those of wider places.
            let own = random.random::<bool>().then(|| random.random_range(1_000..50_000));
            if let Some(own) = own {
                deposits.push(
                    json!({"element": "Deposit", "unit_number": number, "kind": "Security", "amount": dollars(own)}),
                );
            }
            let bonds = own.unwrap_or(bonds);
            let offers: Vec<i64> =
                (0..random.random_range(0..3)).map(|_| random.random_range(50_000..400_000)).collect();
            for (i, rent) in offers.iter().enumerate() {
                terms.push(json!({"unit_number": number, "lease_term": i + 6, "effective_rent": dollars(*rent)}));
                expected.insert(format!("{number}/{}", i + 6), (*rent, bonds));
            }
            if offers.is_empty() {
                expected.insert(format!("{number}/market"), (rent, bonds));
            }
        }
        let output = run(&[
            ("mits_units", units),
            ("mits_offer_terms", terms),
            ("mits_charges", deposits),
            ("resman_property_charges", charges),
        ])
        .await;
        let costs = rows(&output, "unit_costs");
        assert_eq!(costs.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>());
        for (key, (rent, bonds)) in expected {
            let figure = |column: &str| cents(&costs[&key], column).unwrap();
            assert_eq!(figure("total_monthly_cost"), rent + monthly, "{key}");
            assert_eq!(figure("required_deposits"), bonds, "{key}");
            assert_eq!(figure("total_move_in_cost"), rent + monthly + once + bonds, "{key}");
        }
    }
}

#[tokio::test]
async fn a_property_gets_its_zone_its_day_and_its_links() {
    let output = run(&[
        ("resman_account_properties", vec![
            json!({"generation": "v1", "property_id": P.to_uppercase(), "name": "Harbor"}),
            json!({"generation": "v2", "property_id": P, "name": "Harbor Flats", "time_zone": "Central Standard Time", "phone": "(251) 555-0142"}),
            json!({"generation": "v2", "property_id": "other", "name": "Elsewhere"}),
        ]),
        ("mits_properties", vec![json!({"marketing_name": "Harbor Flats ", "email": "Leasing <LEASING@Harborflats.example>", "application_url": "https://harbor.example/apply?a=1", "country": "USA"})]),
        ("mits_units", vec![vacant("1#2")]),
        ("mits_concessions", vec![json!({"active": "true", "value": "10", "header": "Ends in July", "end_date": "2026-7-31"})]),
    ])
    .await;
    let properties = rows(&output, "properties");
    assert_eq!(output.tables["properties"][0].num_rows(), 1, "a property without inventory in the slice is not one");
    let property = properties.values().next().unwrap();
    assert_eq!(
        ["name", "time_zone", "phone", "email", "country"].map(|c| property[c].as_str().unwrap()),
        ["Harbor Flats", "America/Chicago", "+12515550142", "leasing@harborflats.example", "US"]
    );
    assert_eq!(output.tables["account_properties"][0].num_rows(), 2);
    let concession = rows(&output, "concessions");
    // It is 1 August in UTC, and still 31 July where the property is.
    assert_eq!(concession.values().next().unwrap()["current"], true);
    assert_eq!(
        rows(&output, "available_units")["1#2"]["application_url"],
        "https://harbor.example/apply?a=1&unitNumber=1%232"
    );
}

#[tokio::test]
async fn the_same_slice_gives_the_same_output_however_often_and_beside_others() {
    let tables = [("mits_units", (0..300).map(|n| vacant(&n.to_string())).collect::<Vec<_>>())];
    let other = [("mits_units", vec![vacant("1")])];
    let (first, second, third) = tokio::join!(run(&tables), run(&tables), run(&other));
    assert_eq!(first.tables, second.tables);
    assert_eq!(rows(&third, "units").len(), 1);
    assert_eq!(run(&tables).await.tables, first.tables);
}

#[tokio::test]
async fn a_slice_with_a_dataset_that_no_one_knows_is_refused() {
    let mut given = inputs(&[]);
    given.tables.insert("mits_unit".to_owned(), vec![]);
    assert!(transforms::run(&models::all().unwrap(), given).await.unwrap_err().to_string().contains("`mits_unit`"));
}

#[tokio::test]
async fn a_feed_without_terms_still_has_its_door_number_and_its_rent() {
    let unit = with(
        vacant("10252429"),
        json!({ "marketing_name": " 1010 ", "effective_rent_min": "1,495.00", "effective_rent_max": "1540" }),
    );
    let wrong = with(vacant("10252430"), json!({ "effective_rent_min": "-1" }));
    let output = run(&[
        ("mits_properties", vec![json!({ "marketing_name": "Harbor Flats", "state": "AL" })]),
        ("mits_units", vec![unit, wrong]),
    ])
    .await;
    let units = rows(&output, "units");
    assert_eq!(units["10252429"]["unit_name"], "1010");
    assert_eq!(units["10252430"]["unit_name"], "10252430", "without a name, the number is the name");
    assert_eq!(cents(&units["10252430"], "effective_rent_min"), None);
    let offered = rows(&output, "available_units");
    assert_eq!(cents(&offered["10252429"], "rent_from"), Some(149_500));
    assert!(output.rejects.iter().any(|r| r.key.ends_with("10252430") && r.reason.contains("negative")));
}
