//! The reader of marketing feeds: any order, any prefix, any cut, any encoding.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, in its own helpers too")]

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::ops::ControlFlow;

use arrow::array::{Array, AsArray, RecordBatch};
use catalog::{Component, Cursor, Env, Fault};
use connectors::mits::Mits;
use connectors::mits::parser::{Chunk, Options, Summary, parse};
use connectors::source::{Event, Read as Reading, Request, Source, guarded};
use futures::StreamExt;
use proptest::prelude::*;
use serde_json::json;

/// A feed with every element that a table has a place for, in ResMan's dialect.
const FEED: &str = r#"<PhysicalProperty><Property IDValue="5B0C3F52-6A0E-4C5B-9A55-0F6D9F3C2A11" OrganizationName="ResMan"><PropertyID><MarketingName>Harbor Flats</MarketingName><LegalName>Harbor LLC</LegalName><WebSite>https://harbor.example</WebSite><Address AddressType="property"><AddressLine1>40 Quay Rd</AddressLine1><AddressLine2>Suite 1</AddressLine2><City>Mobile</City><State>AL</State><PostalCode>36602</PostalCode><Country>US</Country></Address><Phone PhoneType="personal"><PhoneNumber>(251) 555-0142</PhoneNumber></Phone><Phone PhoneType="fax"><PhoneNumber>(251) 555-0143</PhoneNumber></Phone><Email>leasing@harbor.example</Email></PropertyID><ILS_Identification ILS_IdentificationType="Apartment"><Latitude>30.69</Latitude><LastUpdate Month="7" Day="4" Year="2026"/></ILS_Identification><Information><UnitCount>2</UnitCount><OfficeHour><OpenTime>9:00 AM</OpenTime><CloseTime>6:00 PM</CloseTime><Day>Monday</Day></OfficeHour><Parking ParkingType="Covered Lot"><SpaceFee>45.00</SpaceFee><Comment>Carport</Comment></Parking><UnitApplicationBaseURL>https://harbor.example/apply</UnitApplicationBaseURL></Information><Fee><LateMinFee>75.00</LateMinFee><ApplicationFee>60.00</ApplicationFee><BrokerFee>0</BrokerFee></Fee><Concession Active="true"><Value>30.00</Value><DescriptionHeader>Look and lease</DescriptionHeader></Concession><Amenity AmenityType="Pool"><Description>Pool</Description></Amenity><Policy><Pet Allowed="true"><Pets PetType="Dog" Count="2"/><Fee>300.00</Fee><Rent>25.00</Rent><Restrictions>Two at most</Restrictions></Pet></Policy><Building IDValue="12"><Name>Building 12</Name><UnitCount>2</UnitCount></Building><Floorplan IDValue="B2"><Name>Two Bed</Name><UnitCount>2</UnitCount><UnitsAvailable>1</UnitsAvailable><Room RoomType="Bedroom"><Count>2</Count></Room><Room RoomType="Bathroom"><Count>2.00</Count></Room><SquareFeet Min="980" Max="990"/><MarketRent Max="1560"/><EffectiveRent Min="1495" Max="1560"/><Deposit DepositType="Security"><Amount AmountType="Actual"><ValueRange Exact="300.00" Currency="USD"/></Amount><PercentRefundable>100</PercentRefundable></Deposit><File><FileType>Floorplan</FileType><Src>https://img.example/b2.png</Src></File></Floorplan><ILS_Unit IDValue="12*04"><Units><Unit><Identification IDValue="12*04"/><MarketingName>12*04</MarketingName><UnitType>B2</UnitType><UnitBedrooms>2</UnitBedrooms><MarketRent>1540</MarketRent><UnitEconomicStatus>residential</UnitEconomicStatus><UnitOccupancyStatus>occupied</UnitOccupancyStatus><UnitLeasedStatus>on_notice</UnitLeasedStatus><BuildingName>Building 12</BuildingName><Address AddressType="property"><AddressLine1>40 Quay Rd</AddressLine1><City>Mobile</City></Address></Unit></Units><Pricing><MITS-OfferTerm><EffectiveRent>1,540.00</EffectiveRent><Term>12</Term><DateRange><StartDate Month="8" Day="1" Year="2026"/><EndDate Month="8" Day="15" Year="2026"/></DateRange></MITS-OfferTerm><MITS-OfferTerm><EffectiveRent>1600.00</EffectiveRent><Term>6</Term></MITS-OfferTerm></Pricing><EffectiveRent Avg="1540" Min="1540" Max="1600"/><FloorLevel>2</FloorLevel><Availability><VacateDate Month="7" Day="31" Year="2026"/><VacancyClass>Occupied</VacancyClass><MadeReadyDate Month="8" Day="5" Year="2026"/></Availability></ILS_Unit><ILS_Unit IDValue="12*05"><Units><Unit><UnitType>B2</UnitType><MarketRent>0</MarketRent></Unit></Units><EffectiveRent/><Amenity AmenityType="Other"><Description>Balcony</Description></Amenity></ILS_Unit></Property><Property IDValue="p2"><PropertyID><MarketingName>Quay</MarketingName></PropertyID></Property></PhysicalProperty>"#;

/// Rows of each table, as maps of their columns, sorted; the place among siblings left out, since it follows the order.
type Rows = BTreeMap<String, Vec<BTreeMap<String, String>>>;

fn row_maps(batch: &RecordBatch) -> Vec<BTreeMap<String, String>> {
    let schema = batch.schema();
    let cells = |row: usize| {
        schema.fields().iter().zip(batch.columns()).filter_map(move |(field, column)| {
            let column = column.as_string::<i32>();
            (!column.is_null(row)).then(|| (field.name().clone(), column.value(row).to_owned()))
        })
    };
    (0..batch.num_rows()).map(|row| cells(row).filter(|(name, _)| name != "position").collect()).collect()
}

fn collect(input: impl Read, options: &Options) -> (Rows, Vec<Chunk>, Result<Summary, Fault>) {
    let mut chunks = Vec::new();
    let end = parse(input, options, &mut |chunk| {
        chunks.push(chunk);
        ControlFlow::Continue(())
    });
    let mut rows = Rows::new();
    for (name, batch) in chunks.iter().flat_map(|chunk| &chunk.rows) {
        rows.entry((*name).to_string()).or_default().extend(row_maps(batch));
    }
    rows.values_mut().for_each(|rows| rows.sort());
    (rows, chunks, end)
}

fn read(feed: &[u8]) -> Rows {
    let (rows, _, end) = collect(feed, &Options::default());
    end.unwrap();
    rows
}

fn fault(feed: impl AsRef<[u8]>) -> Fault {
    collect(feed.as_ref(), &Options::default()).2.unwrap_err()
}

/// A reader that hands out its bytes in pieces of the given sizes, over and over.
struct Pieces<'a>(&'a [u8], Vec<usize>, usize);

impl Read for Pieces<'_> {
    fn read(&mut self, out: &mut [u8]) -> std::io::Result<usize> {
        self.2 += 1;
        let n = self.1[self.2 % self.1.len()].min(out.len()).min(self.0.len());
        out[..n].copy_from_slice(&self.0[..n]);
        self.0 = &self.0[n..];
        Ok(n)
    }
}

/// An element of [`FEED`]: its tag with attributes, its text, its children.
#[derive(Debug, Clone, Default)]
struct Node {
    tag: String,
    text: String,
    children: Vec<Node>,
}

fn tree(feed: &str) -> Node {
    let mut stack = vec![Node::default()];
    for part in feed.split('<').skip(1) {
        let (tag, text) = part.split_once('>').unwrap();
        if !tag.starts_with('/') {
            let tag = tag.trim_end_matches('/').to_owned();
            stack.push(Node { tag, text: text.to_owned(), ..Node::default() });
        }
        if tag.starts_with('/') || tag.ends_with('/') {
            let node = stack.pop().unwrap();
            stack.last_mut().unwrap().children.push(node);
        }
    }
    stack.pop().unwrap().children.pop().unwrap()
}

/// Writes the tree with children in another order (those of one name keep theirs) and with prefixes on some names.
fn write(node: &Node, random: &mut impl FnMut() -> usize, out: &mut String) {
    let prefix = ["", "", "MITS:", "ns0:"][random() % 4];
    let name = node.tag.split(' ').next().unwrap();
    out.push_str(&format!("<{prefix}{}>{}", node.tag, node.text));
    let mut left: Vec<&Node> = node.children.iter().collect();
    while !left.is_empty() {
        let at = random() % left.len();
        let kind = left[at].tag.split(' ').next();
        let first = left.iter().position(|n| n.tag.split(' ').next() == kind).unwrap();
        write(left.remove(first), random, out);
        out.push_str(["", "\n  ", "<!-- x -->"][random() % 3]);
    }
    out.push_str(&format!("</{prefix}{name}>"));
}

proptest! {
    #[test]
    fn order_prefixes_and_pieces_change_no_row(seed in any::<u64>(), sizes in prop::collection::vec(1_usize..700, 1..8)) {
        let mut state = seed | 1;
        let mut random = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            usize::try_from(state % 1_000_003).unwrap()
        };
        let mut feed = String::new();
        write(&tree(FEED), &mut random, &mut feed);
        let (rows, _, end) = collect(Pieces(feed.as_bytes(), sizes, 0), &Options::default());
        prop_assert!(end.unwrap().notes.is_empty());
        prop_assert_eq!(rows, read(FEED.as_bytes()));
    }

    #[test]
    fn nothing_makes_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), at in 0..FEED.len()) {
        let mut feed = FEED.as_bytes()[..at].to_vec();
        feed.extend(&bytes);
        feed.extend(&FEED.as_bytes()[at..]);
        let _ = collect(feed.as_slice(), &Options::default());
        let _ = collect(bytes.as_slice(), &Options::default());
    }
}

#[test]
fn facts_land_in_their_columns() {
    let rows = read(FEED.as_bytes());
    insta::assert_json_snapshot!(rows["mits_units"], @r#"
    [
      {
        "bedrooms": "2",
        "building": "Building 12",
        "city": "Mobile",
        "economic_status": "residential",
        "effective_rent_max": "1600",
        "effective_rent_min": "1540",
        "floor": "2",
        "floorplan_id": "B2",
        "leased_status": "on_notice",
        "made_ready_date": "2026-8-5",
        "market_rent": "1540",
        "marketing_name": "12*04",
        "occupancy_status": "occupied",
        "property_id": "5b0c3f52-6a0e-4c5b-9a55-0f6d9f3c2a11",
        "street": "40 Quay Rd",
        "unit_number": "12*04",
        "vacancy_class": "Occupied",
        "vacate_date": "2026-7-31"
      },
      {
        "floorplan_id": "B2",
        "market_rent": "0",
        "property_id": "5b0c3f52-6a0e-4c5b-9a55-0f6d9f3c2a11",
        "unit_number": "12*05"
      }
    ]
    "#);
    let charges: Vec<String> = rows["mits_charges"]
        .iter()
        .map(|r| {
            let get = |name| r.get(name).map_or("-", String::as_str);
            let columns = ["element", "floorplan_id", "kind", "label", "amount", "currency", "condition"];
            columns.map(get).join(" | ")
        })
        .collect();
    insta::assert_json_snapshot!(charges, @r#"
    [
      "Fee/BrokerFee | - | - | - | 0 | - | -",
      "Policy/Pet/Rent | - | Dog | - | 25.00 | - | Two at most",
      "Policy/Pet/Fee | - | Dog | - | 300.00 | - | Two at most",
      "Deposit | B2 | Security | - | 300.00 | USD | -",
      "Information/Parking/SpaceFee | - | Covered Lot | Carport | 45.00 | - | -",
      "Fee/ApplicationFee | - | - | - | 60.00 | - | -",
      "Fee/LateMinFee | - | - | - | 75.00 | - | -"
    ]
    "#);
    let property = rows["mits_properties"].iter().find(|r| r["property_id"] != "p2").unwrap();
    assert_eq!(property["street"], "40 Quay Rd, Suite 1");
    assert_eq!((property["phone"].as_str(), property["fax"].as_str()), ("(251) 555-0142", "(251) 555-0143"));
    assert_eq!((property["dialect"].as_str(), property["last_update"].as_str()), ("4.x", "2026-7-4"));
    assert_eq!(property["office_hours"], r#"[{"close":"6:00 PM","day":"Monday","open":"9:00 AM"}]"#);
    let terms: Vec<_> =
        rows["mits_offer_terms"].iter().map(|r| (&r["unit_number"][..], &r["effective_rent"][..])).collect();
    assert_eq!(terms, [("12*04", "1,540.00"), ("12*04", "1600.00")]);
}

#[test]
fn older_dialects_say_the_same() {
    let second = r#"<PhysicalProperty><Property><PropertyID><MITS:Identification xmlns:MITS="urn:x"><MITS:PrimaryID>77</MITS:PrimaryID><MITS:MarketingName>Quay</MITS:MarketingName></MITS:Identification><MITS:Address><MITS:Address1>1 Pier</MITS:Address1></MITS:Address></PropertyID>
        <Floorplan Id="9"><Room Type="Bedroom"><Count>1</Count></Room><Deposit><Amount Value="250"/></Deposit></Floorplan>
        <ILS_Unit Id="501" FloorplanID="9"><Unit><MITS:Information><MITS:UnitType>1x1</MITS:UnitType><MITS:MarketRent>900.0000</MITS:MarketRent><MITS:UnitLeasedStatus>on notice</MITS:UnitLeasedStatus></MITS:Information></Unit></ILS_Unit></Property></PhysicalProperty>"#;
    let third = r#"<PhysicalProperty><Property><PropertyID><Identification IDRank="secondary"><IDValue>other</IDValue></Identification><Identification IDRank="primary"><IDValue>77</IDValue></Identification><MarketingName>Quay</MarketingName><Address><Address>1 Pier</Address></Address></PropertyID>
        <Floorplan><Identification IDRank="primary"><IDValue>9</IDValue></Identification><Room RoomType="Bedroom"><Count>1</Count></Room><Deposit><Amount><ValueRange Exact="250"/></Amount></Deposit></Floorplan>
        <ILS_Unit><Identification><IDValue>501</IDValue></Identification><Units><Unit FloorPlanId="9"><MarketRent>900.0000</MarketRent><UnitLeasedStatus>on notice</UnitLeasedStatus></Unit></Units></ILS_Unit></Property></PhysicalProperty>"#;
    let mut rows = [second, third].map(|feed| read(feed.as_bytes()));
    let dialects = rows.each_mut().map(|rows| {
        let properties = rows.get_mut("mits_properties").unwrap();
        properties[0].remove("dialect").unwrap()
    });
    assert_eq!(dialects, ["2.x", "3.x"]);
    assert_eq!(rows[0], rows[1]);
    assert_eq!(rows[0]["mits_units"][0]["unit_number"], "501");
    assert_eq!(rows[0]["mits_charges"][0]["amount"], "250");
}

#[test]
fn a_feed_cut_anywhere_is_a_fault_and_only_whole_properties_come() {
    for end in (0..FEED.len()).step_by(3) {
        let (rows, chunks, result) = collect(&FEED.as_bytes()[..end], &Options::default());
        assert!(result.is_err(), "a feed cut at byte {end} passed");
        let complete: BTreeSet<_> = chunks.iter().flat_map(|c| &c.complete).collect();
        for row in rows.values().flatten() {
            assert!(complete.contains(&row["property_id"]), "a row of a cut property, at byte {end}");
        }
    }
    let middle = FEED.find("<Policy>").unwrap();
    insta::assert_snapshot!(fault(&FEED[..middle]), @"the feed ends before it is complete, at byte 1387 (line 1), in property `5B0C3F52-6A0E-4C5B-9A55-0F6D9F3C2A11`");
}

#[test]
fn hostile_and_foreign_input_is_refused_in_plain_words() {
    let bomb = r#"<?xml version="1.0"?><!DOCTYPE x [<!ENTITY a "aaaaaaaa"><!ENTITY b "&a;&a;&a;">]><PhysicalProperty>&b;</PhysicalProperty>"#;
    let deep = "<PhysicalProperty><Property>".to_owned() + &"<Unknown>".repeat(10_000);
    let wide = format!("<PhysicalProperty><Property IDValue=\"{}\"/></PhysicalProperty>", "x".repeat(9 << 20));
    let long = format!(
        "<PhysicalProperty><Property IDValue=\"p\"><Fee><AdminFee>{}",
        format!("&amp;{}", "x".repeat(3 << 20)).repeat(4)
    );
    let doubled = "<PhysicalProperty></PhysicalProperty><PhysicalProperty/>";
    let faults: Vec<String> = [
        "",
        "  \n ",
        "{\"Status\": \"Success\"}",
        "<!DOCTYPE html><html><body>Maintenance</body></html>",
        "<html><br></html>",
        "Service unavailable",
        "PK\u{3}\u{4}",
        "<?xml version=\"1.0\" encoding=\"ebcdic-xx\"?><PhysicalProperty/>",
        "<?xml version=\"1.0\"?>",
        "<LeadManagement><Prospects/></LeadManagement>",
        "<PhysicalProperty><Property></PhysicalProperty>",
        "<ResMan><Status>Failed</Status><ErrorDescription>no access</ErrorDescription></ResMan>",
        bomb,
        &deep,
        &wide,
        &long,
        doubled,
    ]
    .iter()
    .map(|feed| fault(feed).to_string())
    .collect();
    insta::assert_json_snapshot!(faults, @r#"
    [
      "the feed is empty",
      "the feed is empty",
      "the feed is JSON, where XML was expected",
      "the feed is an HTML page, where XML was expected, at byte 15 (line 1)",
      "the feed is an HTML page, where XML was expected, at byte 6 (line 1)",
      "the feed is not XML: it does not begin with `<`",
      "the feed is compressed",
      "the feed declares the encoding `ebcdic-xx`, which is not known",
      "the feed ends before its first element",
      "the XML holds no `PhysicalProperty`",
      "the feed is not well-formed: an end tag does not match its start tag, at byte 47 (line 1), in property number 1",
      "the vendor answered `Failed`: no access",
      "the feed carries declarations in its DOCTYPE, which are refused, at byte 34 (line 1)",
      "elements are nested more than 64 deep, at byte 613 (line 1), in property number 1",
      "one element or text is longer than 8388608 bytes, at byte 18 (line 1)",
      "one element or text is longer than 8388608 bytes, at byte 8389632 (line 1), in property `p`",
      "there is something behind the end of the feed, at byte 56 (line 1)"
    ]
    "#);
}

#[test]
fn encodings_and_wrappings_change_no_row() {
    let feed = FEED.replace("Harbor Flats", "Hôtel “Ä”");
    let expected = read(feed.as_bytes());
    let utf16 = |units: &dyn Fn(u16) -> [u8; 2], bom: bool| -> Vec<u8> {
        let text = format!("{}<?xml version=\"1.0\" encoding=\"utf-16\"?>{feed}", if bom { "\u{feff}" } else { "" });
        text.encode_utf16().flat_map(units).collect()
    };
    // Of these characters windows-1252 has a byte each.
    let narrow: Vec<u8> = feed
        .chars()
        .map(|c| match c {
            '“' => 0x93,
            '”' => 0x94,
            c => u8::try_from(u32::from(c)).unwrap(),
        })
        .collect();
    let declared = |name: &str| [format!("<?xml version=\"1.0\" encoding=\"{name}\"?>").as_bytes(), &narrow].concat();
    let escaped = feed.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    for feed in [
        format!("\u{feff}{feed}").into_bytes(),
        format!("\n <?xml version=\"1.0\" encoding=\"utf-16\"?>{feed}").into_bytes(),
        utf16(&u16::to_le_bytes, true),
        utf16(&u16::to_be_bytes, true),
        utf16(&u16::to_le_bytes, false),
        declared("windows-1252"),
        declared("ISO-8859-1"),
        format!("<ResMan><Status>Success</Status><Response>{feed}</Response></ResMan>").into_bytes(),
        format!("<ResMan><Response> {escaped}</Response><Status>Success</Status></ResMan>").into_bytes(),
        format!("<ResMan><Response><![CDATA[{feed}]]></Response><Status>Success</Status></ResMan>").into_bytes(),
    ] {
        assert_eq!(read(&feed), expected, "{}", String::from_utf8_lossy(&feed[..60]));
    }
}

#[test]
fn what_nobody_reads_is_counted_and_named() {
    let feed = r#"<PhysicalProperty><Property IDValue="p"><Solar><Panel/><Panel/></Solar><ILS_Unit IDValue="1"><Units><Unit><Hue>red</Hue></Unit></Units></ILS_Unit><ILS_Unit IDValue="2"><Units><Unit><Hue/><MarketingName>A&nbsp;&amp;&#66;</MarketingName></Unit></Units></ILS_Unit></Property></PhysicalProperty>"#;
    let (rows, _, end) = collect(feed.as_bytes(), &Options::default());
    let notes: Vec<_> = end.unwrap().notes.into_iter().map(|n| (n.topic, n.subject, n.count)).collect();
    let note = |topic: &str, subject: &str, count| (topic.to_owned(), subject.to_owned(), count);
    assert_eq!(
        notes,
        [
            note("unknown_element", "ILS_Unit/Units/Unit/Hue", 2),
            note("unknown_element", "Solar", 1),
            note("unknown_entity", "nbsp", 1)
        ]
    );
    assert_eq!(rows["mits_units"][0]["marketing_name"], "A&nbsp;&B");
}

#[test]
fn a_property_without_id_or_twice_is_rejected_whole() {
    let feed = r#"<PhysicalProperty><Property IDValue="a"><Amenity AmenityType="x"/></Property><Property><ILS_Unit IDValue="1"/></Property><Property IDValue="a"><ILS_Unit IDValue="2"/></Property><Property IDValue="b"/></PhysicalProperty>"#;
    let (rows, chunks, end) = collect(feed.as_bytes(), &Options::default());
    assert_eq!(end.unwrap().properties, 4);
    let complete: Vec<_> = chunks.iter().flat_map(|c| c.complete.clone()).collect();
    assert_eq!(complete, ["a", "b"]);
    assert!(!rows.contains_key("mits_units"));
    let rejects: Vec<_> =
        chunks.iter().flat_map(|c| &c.rejects).map(|r| (&r.key[..], &r.payload["rows"]["mits_units"])).collect();
    assert_eq!(rejects, [("property number 2", &json!(1)), ("a", &json!(1))]);
}

fn generated(properties: usize, units: usize) -> Vec<u8> {
    let mut feed = Vec::new();
    let shape = fixtures::mits::FeedShape {
        seed: 7,
        properties,
        units,
        today: chrono::NaiveDate::from_ymd_opt(2026, 7, 1).unwrap(),
        pricing: fixtures::mits::Pricing::default(),
    };
    fixtures::mits::write_feed(&mut feed, shape).unwrap();
    feed
}

#[test]
fn every_property_plan_and_unit_of_a_generated_feed_comes() {
    let feed = generated(5, 40);
    let text = std::str::from_utf8(&feed).unwrap();
    let (rows, _, end) = collect(feed.as_slice(), &Options::default());
    assert_eq!(end.unwrap().notes, []);
    for (table, tag) in [
        ("mits_properties", "<Property "),
        ("mits_floorplans", "<Floorplan "),
        ("mits_units", "<ILS_Unit "),
        ("mits_buildings", "<Building "),
        ("mits_offer_terms", "<MITS-OfferTerm>"),
        ("mits_concessions", "<Concession "),
        ("mits_amenities", "<Amenity "),
    ] {
        assert_eq!(rows[table].len(), text.matches(tag).count(), "{table}");
    }
    assert!(
        rows["mits_units"].iter().all(|unit| unit.contains_key("unit_number") && unit.contains_key("floorplan_id"))
    );
}

async fn open(settings: serde_json::Value) -> Box<dyn Source> {
    Mits::open(serde_json::from_value(settings).unwrap(), Env::default()).await.unwrap()
}

fn request(resume: Option<Cursor>, only: &[&str]) -> Request {
    Request {
        stream: "feed".to_owned(),
        read: Reading::Snapshot,
        resume,
        only: only.iter().map(|&id| id.to_owned()).collect(),
    }
}

/// Rows up to each checkpoint, with the checkpoint; the fault that ended it.
async fn slices(source: &dyn Source, request: Request) -> (Vec<(Rows, Cursor)>, Option<Fault>) {
    let stream = source.streams().remove(0);
    let mut events = guarded(&stream, source.read(request));
    let (mut slices, mut rows) = (Vec::new(), Rows::new());
    while let Some(event) = events.next().await {
        match event {
            Ok(Event::Rows { dataset, batch }) => {
                rows.entry(dataset.into_owned()).or_default().extend(row_maps(&batch))
            }
            Ok(Event::Checkpoint(cursor)) => slices.push((std::mem::take(&mut rows), cursor)),
            Ok(_) => {}
            Err(fault) => return (slices, Some(fault)),
        }
    }
    (slices, None)
}

fn merged(slices: impl IntoIterator<Item = (Rows, Cursor)>) -> Rows {
    let mut all = Rows::new();
    for (table, rows) in slices.into_iter().flat_map(|(rows, _)| rows) {
        all.entry(table).or_default().extend(rows);
    }
    all
}

#[tokio::test]
async fn a_file_is_read_in_slices_and_goes_on_behind_any_of_them() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("feed.xml");
    std::fs::write(&path, generated(12, 20)).unwrap();
    assert_eq!(Mits::address("feed.xml"), Some(json!({"path": "feed.xml"})));
    assert_eq!(Mits::address("https://a.example/f"), Some(json!({"url": "https://a.example/f"})));
    let source = open(json!({"path": path, "checkpoint_rows": 300})).await;
    source.check().await.unwrap();
    let (whole, fault) = slices(&*source, request(None, &[])).await;
    assert!(fault.is_none());
    assert!(whole.len() > 2, "one slice only");
    // The list of properties comes at the end of every reading, whole.
    let mut all = merged(whole.clone());
    let list = all.remove("mits_listed").unwrap();
    assert_eq!(list.len(), 12);
    for at in 0..whole.len() {
        let (rest, fault) = slices(&*source, request(Some(whole[at].1.clone()), &[])).await;
        assert!(fault.is_none());
        let told = merged(rest.clone()).remove("mits_listed");
        assert_eq!(told, (at + 1 < whole.len()).then(|| list.clone()), "resumed behind slice {at}");
        let mut resumed = merged(whole[..=at].iter().cloned().chain(rest));
        resumed.remove("mits_listed");
        assert_eq!(resumed, all, "resumed behind slice {at}");
    }
    let one = whole[0].0["mits_properties"][3]["property_id"].clone();
    let (only, _) = slices(&*source, request(None, &[&one.to_uppercase()])).await;
    let mut only = merged(only);
    assert_eq!(only.remove("mits_listed").unwrap(), list);
    assert!(only.values().flatten().all(|row| row["property_id"] == one));
    assert_eq!(only["mits_properties"].len(), 1);
}

#[tokio::test]
async fn a_feed_that_was_written_anew_is_read_from_its_start() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("feed.xml");
    let property = |id: &str| {
        format!(
            r#"<Property IDValue="{id}"><PropertyID><MarketingName>At {id}</MarketingName></PropertyID><ILS_Unit IDValue="1"><Units><Unit><MarketRent>900</MarketRent></Unit></Units></ILS_Unit></Property>"#
        )
    };
    let write = |ids: &[&str], end: &str| {
        let properties: String = ids.iter().map(|id| property(id)).collect();
        std::fs::write(&path, format!("<PhysicalProperty>{properties}{end}")).unwrap();
    };
    let source = open(json!({"path": path, "checkpoint_rows": 1})).await;
    write(&["a", "b", "c"], "<Property");
    let (former, fault) = slices(&*source, request(None, &[])).await;
    assert!(fault.is_some());
    let cursor = former.last().unwrap().1.clone();
    let ids = |rows: &Rows, table: &str| -> Vec<String> {
        rows.get(table).into_iter().flatten().map(|row| row["property_id"].clone()).collect()
    };
    // The same feed, whole at last: only what is new comes, and the list has all.
    write(&["a", "b", "c", "d"], "</PhysicalProperty>");
    let rest = merged(slices(&*source, request(Some(cursor.clone()), &[])).await.0);
    assert_eq!(ids(&rest, "mits_properties"), ["d"]);
    assert_eq!(ids(&rest, "mits_listed"), ["a", "b", "c", "d"]);
    // One more in front, one less, or none of them: nothing of it may be taken for read.
    for feed in [&["new", "a", "b", "c"][..], &["a", "b"], &["x"]] {
        write(feed, "</PhysicalProperty>");
        let anew = merged(slices(&*source, request(Some(cursor.clone()), &[])).await.0);
        assert_eq!(ids(&anew, "mits_properties"), feed);
        assert_eq!(ids(&anew, "mits_listed"), feed);
    }
    // An empty feed withdraws nothing.
    write(&[], "</PhysicalProperty>");
    let (nothing, fault) = slices(&*source, request(None, &[])).await;
    assert_eq!((nothing.len(), fault.unwrap().message.as_ref()), (0, "the feed holds no property"));
}

#[tokio::test]
async fn an_address_is_read_like_a_file_and_a_broken_one_is_a_fault() {
    use axum::body::{Body, Bytes};
    use axum::routing::get;
    let feed = Bytes::from(generated(3, 20));
    let cut = feed.slice(..feed.len() / 2);
    let whole = feed.clone();
    let app = axum::Router::new()
        .route(
            "/feed.xml",
            get(move |headers: axum::http::HeaderMap| async move {
                let known = headers.get("x-feed").is_some_and(|v| v == "s3cr3t");
                if known { Ok(whole) } else { Err(axum::http::StatusCode::UNAUTHORIZED) }
            }),
        )
        .route(
            "/cut.xml",
            get(move || async move {
                let broken = futures::stream::iter([Ok(cut), Err(std::io::Error::other("cut"))]);
                Body::from_stream(broken)
            }),
        );
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, app).await });

    let folder = tempfile::tempdir().unwrap();
    let secret = folder.path().join("secret");
    std::fs::write(&secret, "s3cr3t\n").unwrap();
    let reference = format!("file:{}", secret.display());
    // Without a word from whoever runs it, nothing inside the network is called, whatever it is called by.
    let port = base.rsplit(':').next().unwrap();
    for host in ["127.0.0.1", "localhost", "2130706433", "[::1]", "[::ffff:127.0.0.1]"] {
        let source = open(json!({"url": format!("http://{host}:{port}/feed.xml")})).await;
        let (_, end) = slices(&*source, request(None, &[])).await;
        let end = end.unwrap();
        assert!(end.message.contains("inside a private network") && !end.is_retryable(), "{host}: {}", end.chain());
    }
    let open = async |mut settings: serde_json::Value| {
        settings["allow_private"] = true.into();
        open(settings).await
    };
    let source = open(json!({"url": format!("{base}/feed.xml?token=t0ken"), "headers": {"x-feed": reference}})).await;
    let (read_slices, end) = slices(&*source, request(None, &[])).await;
    assert!(end.is_none(), "{end:?}");
    assert_eq!(merged(read_slices)["mits_units"].len(), read(&feed)["mits_units"].len());

    let refused = open(json!({"url": format!("{base}/feed.xml?token=t0ken")})).await;
    let (_, end) = slices(&*refused, request(None, &[])).await;
    let end = end.unwrap();
    assert_eq!(end.message, format!("`{base}/feed.xml?…` refused the credentials (status 401)"));
    assert!(!format!("{end:?}").contains("t0ken"));

    let (_, end) = slices(&*open(json!({"url": format!("{base}/cut.xml")})).await, request(None, &[])).await;
    assert!(end.unwrap().is_retryable());
}
