//! One lead as each generation writes it, taken apart into rows.

use std::hash::{DefaultHasher, Hash, Hasher};

use catalog::xml::Node;
use catalog::{Fault, Result};
use chrono::{DateTime, NaiveDateTime, Utc};
use serde_json::json;

use super::datasets::{Fields, Item};
use super::nested;
use crate::rows::{Object, Table, field, id};

/// A row: columns and values, those without a value left out.
type Row = Vec<(&'static str, String)>;

/// One lead of one generation.
#[derive(Debug, Default, Clone)]
pub(super) struct Lead {
    /// Its id.
    pub(super) id: String,
    /// When it changed last, as the vendor says.
    pub(super) at: Option<DateTime<Utc>>,
    main: Row,
    people: Vec<Row>,
    events: Vec<Row>,
}

/// The tables that leads are written into.
#[derive(Debug)]
pub(super) struct Tables {
    pub(super) newer: Table,
    pub(super) older: Table,
    pub(super) people: Table,
    pub(super) events: Table,
}

impl Tables {
    pub(super) fn new() -> Result<Self> {
        Ok(Self {
            newer: Table::of("resman_prospects")?,
            older: Table::of("resman_v1_prospects")?,
            people: Table::of("resman_prospect_people")?,
            events: Table::of("resman_prospect_events")?,
        })
    }

    /// Adds a lead of the newer API, of the older one, or both sides of one lead.
    pub(super) fn add(&mut self, newer: Option<&Lead>, older: Option<&Lead>) -> Result<()> {
        for (lead, table) in [(newer, &mut self.newer), (older, &mut self.older)] {
            let Some(lead) = lead else { continue };
            put(table, &lead.main)?;
            for person in &lead.people {
                put(&mut self.people, person)?;
            }
            for event in &lead.events {
                put(&mut self.events, event)?;
            }
        }
        Ok(())
    }
}

fn put(table: &mut Table, row: &Row) -> Result<()> {
    table.add();
    for (column, value) in row {
        table.put(table.column(column)?, value);
    }
    Ok(())
}

impl Lead {
    /// A number that is another one, but by chance, when anything of the lead is. Order of lists that say the same is kept
    /// by the vendor.
    pub(super) fn fingerprint(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        (&self.main, &self.people, &self.events).hash(&mut hasher);
        hasher.finish()
    }

    /// An item of v2 `/Prospects`. `None` when it has no id.
    pub(super) fn of_item(item: &Object<'_>) -> Option<Self> {
        let prospect = id(&item.text("prospectId")?).into_owned();
        let modified = item.text("lastModified");
        let row = |item: &Object<'_>, fields: Fields| -> Row {
            let cells = fields.iter().filter_map(|(column, key)| Some((*column, item.text(key)?)));
            cells
                .map(|(column, text)| (column, if column.ends_with("_id") { id(&text).into_owned() } else { text }))
                .collect()
        };
        let of_lead = |mut cells: Row| {
            cells.extend([("generation", "v2".to_owned()), ("prospect_id", prospect.clone())]);
            cells.extend(modified.clone().map(|at| ("last_modified", at)));
            cells
        };
        let listed = nested(item, "people");
        let people = listed.iter().enumerate().map(|(at, person)| {
            let mut cells = of_lead(row(person, PERSON));
            cells.push(("position", at.to_string()));
            cells
        });
        let log = if field(item, "communicationLog").is_some() { nested(item, "communicationLog") } else { Vec::new() };
        Some(Self {
            at: modified.as_deref().and_then(instant),
            main: row(item, PROSPECT),
            people: people.collect(),
            events: log.iter().map(|entry| of_lead(row(entry, LOG))).collect(),
            id: prospect.clone(),
        })
    }

    /// A `Prospect` of v1. `None` when it has no id.
    pub(super) fn of_node(node: &Node) -> Option<Self> {
        let customers: Vec<&Node> = node.child("Customers").into_iter().flat_map(|c| c.all("Customer")).collect();
        let prospect = customers.iter().find_map(|c| identity(c, "ProspectID"))?;
        let modified = node.text_of("LastUpdateDate");
        let of_lead = |cells: Vec<(&'static str, Option<String>)>| -> Row {
            let mut row: Row = cells.into_iter().filter_map(|(column, value)| Some((column, value?))).collect();
            row.extend([("generation", "v1".to_owned()), ("prospect_id", prospect.clone())]);
            row.extend(modified.clone().map(|at| ("last_modified", at)));
            row
        };
        let people = customers.iter().enumerate().map(|(at, customer)| {
            let name = customer.child("Name");
            let named = |part| name.and_then(|n| n.text_of(part));
            let phone = customer.child("Phone");
            of_lead(vec![
                ("person_id", identity(customer, "PersonID")),
                ("position", Some(at.to_string())),
                ("first_name", named("FirstName")),
                ("middle_name", named("MiddleName")),
                ("last_name", named("LastName")),
                ("email", customer.text_of("Email")),
                ("phone", phone.and_then(|p| p.text_of("PhoneNumber"))),
                ("phone_type", phone.and_then(|p| p.attribute("PhoneType").or_else(|| p.attribute("Type")))),
            ])
        });
        let events: Vec<&Node> = node.child("Events").into_iter().flat_map(|e| e.all("Event")).collect();
        let agent = |event: &Node| {
            let agent = event.child("Agent").and_then(|a| a.child("AgentID")).and_then(|a| a.attribute("IDValue"));
            agent.map(|a| id(&a).into_owned())
        };
        let first = |event: &&&Node| event.text_of("FirstContact").is_some_and(|f| f.eq_ignore_ascii_case("true"));
        let began = events.iter().find(first);
        // An event of a lost lead says why in words of ResMan's own.
        let lost =
            events.iter().rev().find(|e| e.attribute("EventType").is_some_and(|t| t.eq_ignore_ascii_case("cancel")));
        let reason = lost.and_then(|e| e.text_of("EventReasons"));
        let reason = reason.map(|r| r.strip_prefix("Prospect Lost: ").unwrap_or(&r).to_owned());
        let mut main: Vec<(&'static str, Option<String>)> = vec![
            ("main_person_id", customers.first().and_then(|c| identity(c, "PersonID"))),
            ("customer_type", customers.first().and_then(|c| c.attribute("Type"))),
            ("source_id", began.and_then(|e| e.text_of("TransactionSource")).map(|s| id(&s).into_owned())),
            ("agent_id", began.and_then(|e| agent(e))),
            ("first_contact_method", began.and_then(|e| e.attribute("EventType"))),
            ("first_contact_date", began.and_then(|e| e.attribute("EventDate"))),
            ("lost_reason", reason),
        ];
        main.extend(node.child("CustomerPreferences").map(preferences).unwrap_or_default());
        let log = events.iter().map(|event| {
            of_lead(vec![
                ("event_id", event.child("EventID").and_then(|e| e.attribute("IDValue")).map(|e| id(&e).into_owned())),
                ("kind", event.attribute("EventType")),
                ("timestamp", event.attribute("EventDate")),
                ("subject", event.text_of("EventReasons")),
                ("text", event.text_of("Comments")),
                ("agent_id", agent(event)),
                ("source_id", event.text_of("TransactionSource").map(|s| id(&s).into_owned())),
                ("first_contact", event.text_of("FirstContact")),
            ])
        });
        let mut lead = Self {
            at: modified.as_deref().and_then(instant),
            main: of_lead(main),
            people: people.collect(),
            events: log.collect(),
            id: prospect.clone(),
        };
        // The older table is of one generation only.
        lead.main.retain(|(column, _)| *column != "generation");
        Some(lead)
    }
}

fn identity(customer: &Node, kind: &str) -> Option<String> {
    let found =
        customer.all("Identification").find(|i| i.attribute("IDType").is_some_and(|t| t.eq_ignore_ascii_case(kind)))?;
    found.attribute("IDValue").map(|value| id(&value).into_owned())
}

/// What they look for. `Exact` is both ends of a range.
fn preferences(node: &Node) -> Vec<(&'static str, Option<String>)> {
    let end = |name: &str, end: &str| {
        let range = node.child(name)?;
        range.attribute(end).or_else(|| range.attribute("Exact")).or_else(|| Some(range.text.trim().to_owned()))
    };
    let texts = |names: [&str; 2]| {
        let all: Vec<String> = node
            .children
            .iter()
            .filter(|c| names.iter().any(|n| c.name.eq_ignore_ascii_case(n)))
            .map(|c| c.text.trim().to_owned())
            .filter(|t| !t.is_empty())
            .collect();
        (!all.is_empty()).then(|| all.join("; "))
    };
    let pets: Vec<_> = node
        .all("Pets")
        .map(|p| {
            json!({ "type": p.attribute("PetType"), "count": p.attribute("Count"), "description": p.attribute("Description") })
        })
        .collect();
    let filled = |text: Option<String>| text.filter(|t| !t.is_empty());
    vec![
        ("target_move_in_date", node.text_of("TargetMoveInDate")),
        ("floorplan", node.text_of("DesiredFloorplan")),
        (
            "unit_number",
            node.child("DesiredUnit")
                .and_then(|u| u.text_of("MarketingName").or_else(|| filled(Some(u.text.trim().to_owned())))),
        ),
        ("rent_min", filled(end("DesiredRent", "Min"))),
        ("rent_max", filled(end("DesiredRent", "Max"))),
        ("bedrooms_min", filled(end("DesiredNumBedrooms", "Min"))),
        ("bedrooms_max", filled(end("DesiredNumBedrooms", "Max"))),
        ("bathrooms_min", filled(end("DesiredNumBathrooms", "Min"))),
        ("bathrooms_max", filled(end("DesiredNumBathrooms", "Max"))),
        // Clients have posted it in the singular.
        ("lease_terms", node.text_of("DesiredLeaseTerms").or_else(|| node.text_of("DesiredLeaseTerm"))),
        ("occupants", node.text_of("NumberOfOccupants")),
        ("pets", (!pets.is_empty()).then(|| json!(pets).to_string())),
        ("comments", texts(["Comment", "Comments"])),
        ("additional", texts(["CustomerAdditionalPreferences", "Amenities"])),
    ]
}

/// The prospects of an answer of v1 `MITS/SearchProspects`.
pub(super) fn answer(body: &[u8]) -> Result<Vec<Lead>> {
    let body = body.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(body).trim_ascii_start();
    let unusable = || {
        Fault::remote("the answer is not a document of leads")
            .hint("The vendor may be under maintenance: try again later.")
    };
    let root = Node::parse(body, "ResMan")?;
    match root.text_of("Status") {
        Some(status) if status.eq_ignore_ascii_case("Success") => {}
        Some(status) => {
            let why = root.text_of("ErrorDescription");
            return Err(crate::mits::parser::refusal(&status, why.as_deref().unwrap_or("without a reason")));
        }
        None => return Err(unusable()),
    }
    let response = root.child("Response").ok_or_else(unusable)?;
    // Some answers hold their document as text.
    let inner = match response.child("LeadManagement") {
        None if response.text.trim_start().starts_with('<') => {
            Some(Node::parse(response.text.trim().as_bytes(), "LeadManagement")?)
        }
        _ => None,
    };
    let document = inner.as_ref().or_else(|| response.child("LeadManagement")).ok_or_else(unusable)?;
    let prospects = document.child("Prospects").into_iter().flat_map(|p| p.all("Prospect"));
    Ok(prospects.filter_map(Lead::of_node).collect())
}

/// An instant of either generation; without a zone it is UTC.
fn instant(text: &str) -> Option<DateTime<Utc>> {
    let naive = || {
        let text = text.trim();
        let read = |format| NaiveDateTime::parse_from_str(text, format).ok();
        read("%Y-%m-%dT%H:%M:%S%.f").or_else(|| read("%Y-%m-%d %H:%M:%S%.f")).map(|t| t.and_utc())
    };
    DateTime::parse_from_rfc3339(text.trim()).ok().map(|t| t.to_utc()).or_else(naive)
}

/// v2 `/Prospects`.
pub(super) const PROSPECT: Fields = &[
    ("prospect_id", "prospectId"),
    ("main_person_id", "mainPersonId"),
    ("status", "status"),
    ("last_modified", "lastModified"),
    ("source_id", "prospectSourceId"),
    ("source_name", "prospectSourceName"),
    ("first_contact_method", "firstContactMethod"),
    ("first_contact_date", "firstContactDate"),
    ("lost_date", "lostDate"),
    ("lost_reason", "lostReason"),
    ("agent_id", "leasingAgent.agentId"),
    ("agent_first_name", "leasingAgent.firstName"),
    ("agent_last_name", "leasingAgent.lastName"),
    ("lease_id", "lease.leaseId"),
    ("lease_status", "lease.status"),
    ("unit_id", "lease.unitId"),
    ("unit_number", "lease.unitNumber"),
    ("application_date", "lease.applicationDate"),
    ("approval_date", "lease.approvalDate"),
    ("denial_date", "lease.denialDate"),
    ("cancellation_date", "lease.cancellationDate"),
    ("lease_signed_date", "lease.leaseSignedDate"),
    ("scheduled_move_in_date", "lease.scheduledMoveInDate"),
    ("move_in_date", "lease.moveInDate"),
];

/// `people[]` of v2 `/Prospects`.
pub(super) const PERSON: Fields = &[
    ("person_id", "personId"),
    ("first_name", "firstName"),
    ("middle_name", "middleName"),
    ("last_name", "lastName"),
    ("email", "email"),
    ("phone", "phone"),
    ("phone_type", "phoneType"),
    ("household_status", "householdStatus"),
    ("is_main_contact", "isMainContact"),
    ("is_head_of_household", "isHeadOfHousehold"),
    ("is_lease_signer", "isLeaseSigner"),
    ("is_guarantor", "isGuarantor"),
    ("is_dependent", "isDependent"),
];

/// `communicationLog[]` of v2 `/Prospects`.
pub(super) const LOG: Fields = &[
    ("event_id", "communicationLogId"),
    ("kind", "interactionType"),
    ("contact_type", "contactType"),
    ("date", "date"),
    ("timestamp", "timestamp"),
    ("subject", "description"),
    ("text", "note"),
    ("agent_id", "employee.agentId"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_field_has_its_column() {
        for (table, fields) in
            [("resman_prospects", PROSPECT), ("resman_prospect_people", PERSON), ("resman_prospect_events", LOG)]
        {
            let table = Table::of(table).unwrap();
            assert!(fields.iter().all(|(column, _)| table.column(column).is_ok()));
        }
    }

    #[test]
    fn a_document_in_either_dress_is_the_same_leads() {
        let inner = "<LeadManagement><Prospects><Prospect><LastUpdateDate>2026-06-01T08:00:00Z</LastUpdateDate><Customers>\
            <Customer Type='prospect'><Identification IDType='PersonID' IDValue='P-1'/>\
            <Identification IDType='ProspectID' IDValue='L-1'/><Name><FirstName>Rosa</FirstName></Name></Customer></Customers>\
            <CustomerPreferences><DesiredRent Max='1600'/><DesiredNumBedrooms Exact='2'/></CustomerPreferences></Prospect>\
            </Prospects></LeadManagement>";
        let escaped = inner.replace('<', "&lt;").replace('>', "&gt;");
        let plain = answer(format!("<ResMan><Status>Success</Status><Response>{inner}</Response></ResMan>").as_bytes())
            .unwrap();
        let text =
            answer(format!("<ResMan><Status>Success</Status><Response>{escaped}</Response></ResMan>").as_bytes())
                .unwrap();
        assert_eq!(plain.len(), 1);
        assert_eq!((plain[0].id.as_str(), plain[0].fingerprint()), ("L-1", text[0].fingerprint()));
        for cell in [("rent_max", "1600"), ("bedrooms_min", "2"), ("bedrooms_max", "2")] {
            assert!(plain[0].main.contains(&(cell.0, cell.1.to_owned())), "{cell:?}");
        }
        assert!(!plain[0].main.iter().any(|(column, _)| *column == "rent_min"));
        let none = answer(b"<ResMan><Status>Success</Status><Response><LeadManagement><Prospects/></LeadManagement></Response></ResMan>");
        assert!(none.unwrap().is_empty());
        let refused =
            answer(b"<ResMan><Status>Error</Status><ErrorDescription>no</ErrorDescription></ResMan>").unwrap_err();
        assert!(!refused.is_retryable());
    }
}
