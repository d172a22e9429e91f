//! The documents that ResMan takes: MITS Lead Management 4.0.1, elements in the order of the schema.
//!
//! One document holds one prospect. What is not said is left out, which leaves it as it is; ResMan reads an element that is
//! there and empty as a wish to clear it, so empty texts are left out too. Lengths are those of the schema: what may be cut
//! is cut at a character, long comments become several numbered events.

use catalog::{Fault, Result};
use chrono::{DateTime, NaiveDate, SecondsFormat, Utc};
use quick_xml::Writer;
use quick_xml::events::{BytesEnd, BytesStart, BytesText, Event as Xml};
use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};

/// A message of the outbox, as a lead.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Lead {
    /// ResMan's id of the property.
    pub property_id: String,
    /// What ResMan knows the lead by, if it does.
    pub prospect_id: Option<String>,
    /// What ResMan knows the person by, if it does. A roommate who is new has none.
    pub person_id: Option<String>,
    /// The person.
    pub person: Person,
    /// What they are looking for.
    pub preferences: Option<Preferences>,
    /// What happened.
    pub event: Option<Event>,
    /// Where the lead came from, by the name of a ResMan lead source; left out, the courier's own.
    pub source: Option<String>,
    /// Why the lead is lost, by the name of a ResMan pick-list entry; left out, the courier's own.
    pub lost_reason: Option<String>,
    /// Whether the lead was looked for right before: without an id it is then none that ResMan knows.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub searched: bool,
    /// Whether the names are only there because a document has to have them: then those that are read last are said.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub repeats_name: bool,
}

/// A person. Names are always sent, since ResMan refuses a customer without them.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Person {
    /// Given name.
    pub first_name: String,
    /// Middle name.
    pub middle_name: Option<String>,
    /// Family name.
    pub last_name: String,
    /// E-mail address.
    pub email: Option<String>,
    /// Phone number, at most 20 characters.
    pub phone: Option<String>,
    /// Street and number.
    pub street: Option<String>,
    /// City.
    pub city: Option<String>,
    /// State code.
    pub state: Option<String>,
    /// Postal code.
    pub postal_code: Option<String>,
}

/// What a prospect is looking for.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Preferences {
    /// Day of moving in.
    pub move_in_date: Option<NaiveDate>,
    /// Unit-type code.
    pub floorplan: Option<String>,
    /// Unit number.
    pub unit: Option<String>,
    /// Lowest rent a month.
    pub rent_min: Option<Decimal>,
    /// Highest rent a month.
    pub rent_max: Option<Decimal>,
    /// Fewest bedrooms, 0 for a studio.
    pub bedrooms_min: Option<u32>,
    /// Most bedrooms.
    pub bedrooms_max: Option<u32>,
    /// Bathrooms.
    pub bathrooms: Option<u32>,
    /// Months of the lease.
    pub lease_months: Option<u32>,
    /// People who will live there.
    pub occupants: Option<u32>,
    /// Pets by kind: `dog`, `cat`, …, with their number.
    pub pets: Vec<Pet>,
    /// Notes, at most five of 1,000 characters.
    pub comments: Vec<String>,
}

/// Pets of one kind.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pet {
    /// `dog`, `cat`, `bird`, `reptile`, `fish`; anything else is `other`.
    pub kind: String,
    /// How many.
    pub count: u32,
}

/// Something that happened with a prospect.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Event {
    /// What.
    pub kind: EventKind,
    /// When.
    pub at: DateTime<Utc>,
    /// The subject line.
    #[serde(default)]
    pub reason: Option<String>,
    /// The text.
    #[serde(default)]
    pub comments: Option<String>,
    /// The employee who acts, by ResMan's id; left out, the courier's own. In a change of agent also by name or e-mail address.
    #[serde(default)]
    pub agent_id: Option<String>,
    /// Set to change an event that ResMan knows, such as an appointment that moves.
    #[serde(default)]
    pub event_id: Option<String>,
}

/// What happened, in our words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EventKind {
    /// An e-mail went out.
    EmailSent,
    /// An e-mail came in.
    EmailReceived,
    /// An e-mail came from a listing site.
    EmailFromListing,
    /// A text message went out.
    TextSent,
    /// A text message came in.
    TextReceived,
    /// A call went out.
    CallMade,
    /// A call came in.
    CallReceived,
    /// A conversation with the chatbot.
    Chat,
    /// A note.
    Note,
    /// Someone came by.
    WalkIn,
    /// A tour is arranged; the instant is its start.
    Appointment,
    /// A tour took place.
    Show,
    /// First contact through the web.
    WebContact,
    /// The leasing agent changes.
    AgentChange,
    /// The lead is lost.
    Lost,
    /// A lost lead is back.
    Reactivated,
}

impl EventKind {
    /// The schema's word for it.
    pub(super) fn word(self) -> &'static str {
        self.wire().0
    }

    /// The schema's word that ResMan takes, and the subject when none is given. Text messages and chats have words in the
    /// schema (`Text`, `Chat`) that ResMan does not take for leads, and words at ResMan (`TextToProspect`) that the schema
    /// does not have: `Other` with a subject is in both.
    fn wire(self) -> (&'static str, Option<&'static str>) {
        match self {
            EventKind::EmailSent => ("EmailToProspect", None),
            EventKind::EmailReceived => ("EmailFromProspect", None),
            EventKind::EmailFromListing => ("EmailFromILS", None),
            EventKind::TextSent => ("Other", Some("Text message sent")),
            EventKind::TextReceived => ("Other", Some("Text message received")),
            EventKind::CallMade => ("CallToProspect", None),
            EventKind::CallReceived => ("CallFromProspect", None),
            EventKind::Chat => ("Contact", Some("Chat")),
            EventKind::Note => ("Other", Some("Note")),
            EventKind::WalkIn => ("WalkIn", None),
            EventKind::Appointment => ("Appointment", None),
            EventKind::Show => ("Show", None),
            EventKind::WebContact => ("Contact", None),
            EventKind::AgentChange => ("Other", None),
            EventKind::Lost => ("Cancel", None),
            EventKind::Reactivated => ("ReActivate", None),
        }
    }
}

/// What the courier adds: ids that it looked up.
#[derive(Debug, Clone, Default)]
pub struct Looked {
    /// The employee's id.
    pub agent_id: Option<String>,
    /// The lead source's id, or on a lost lead the reason's.
    pub source_id: Option<String>,
    /// Whether this is the first contact with the lead.
    pub first_contact: bool,
    /// `@Type` of the customer.
    pub customer_type: String,
}

/// The longest name, by the schema.
pub const NAME_CHARS: usize = 50;
/// The longest text of an event or comment, by the schema.
const COMMENT_CHARS: usize = 1000;
/// Comments of one preference list, by the schema.
const COMMENTS: usize = 5;

/// What ResMan holds of a person's value once a document has said it: without what XML cannot hold, and names cut.
pub fn as_held(field: &str, value: &str) -> String {
    let name = matches!(field, "first_name" | "last_name");
    cut(value, if name { NAME_CHARS } else { usize::MAX })
}

/// The document of a lead.
///
/// # Errors
/// When the lead lacks what ResMan must have, or holds what the schema has no room for.
pub fn document(lead: &Lead, looked: &Looked) -> Result<String> {
    let person = &lead.person;
    for (what, name) in [("first name", &person.first_name), ("last name", &person.last_name)] {
        if clean(name).is_empty() {
            return Err(Fault::user(format!("the lead has no {what}, and ResMan takes none without"))
                .hint("Give the contact a name; the message can be replayed then."));
        }
    }
    let mut out = Document(Writer::new(Vec::new()));
    out.open("LeadManagement", &[])?;
    out.open("Prospects", &[])?;
    out.open("Prospect", &[])?;
    out.open("Customers", &[])?;
    out.open("Customer", &[("Type", &looked.customer_type)])?;
    for (kind, id) in [("ProspectID", &lead.prospect_id), ("PersonID", &lead.person_id)] {
        if let Some(id) = id {
            out.leaf_with(
                "Identification",
                &[("IDType", kind), ("IDValue", id), ("OrganizationName", "ResMan")],
                None,
            )?;
        }
    }
    person_of(&mut out, person)?;
    out.close("Customer")?;
    out.close("Customers")?;
    if let Some(preferences) = &lead.preferences {
        preferences_of(&mut out, preferences)?;
    }
    if let Some(event) = &lead.event {
        out.open("Events", &[])?;
        let comments = event.comments.as_deref().map(clean).unwrap_or_default();
        let parts = split(&comments);
        for (part, text) in parts.iter().enumerate() {
            event_of(&mut out, event, looked, part == 0, text)?;
        }
        out.close("Events")?;
    }
    out.close("Prospect")?;
    out.close("Prospects")?;
    out.close("LeadManagement")?;
    String::from_utf8(out.0.into_inner()).map_err(|e| Fault::us("a document is not UTF-8").because(e))
}

fn person_of(out: &mut Document, person: &Person) -> Result<()> {
    out.open("Name", &[])?;
    out.leaf("FirstName", Some(&person.first_name), NAME_CHARS)?;
    out.leaf("MiddleName", person.middle_name.as_deref(), NAME_CHARS)?;
    out.leaf("LastName", Some(&person.last_name), NAME_CHARS)?;
    out.close("Name")?;
    let known = |text: &Option<String>| text.as_deref().is_some_and(|t| !clean(t).is_empty());
    if known(&person.street) || known(&person.city) || known(&person.postal_code) {
        out.open("Address", &[("AddressType", "current")])?;
        out.leaf("AddressLine1", person.street.as_deref(), 100)?;
        out.leaf("City", person.city.as_deref(), 60)?;
        // A state that is no code has no place in the schema.
        out.leaf("State", person.state.as_deref().filter(|s| s.chars().count() <= 3), 3)?;
        out.leaf("PostalCode", person.postal_code.as_deref(), 12)?;
        out.close("Address")?;
    }
    if let Some(phone) = person.phone.as_deref().map(clean).filter(|p| !p.is_empty()) {
        if phone.chars().count() > 20 {
            return Err(Fault::user("the phone number is longer than the 20 characters that ResMan takes"));
        }
        out.open("Phone", &[("PhoneType", "cell")])?;
        out.leaf("PhoneNumber", Some(&phone), 20)?;
        out.close("Phone")?;
    }
    if let Some(email) = person.email.as_deref().map(clean).filter(|e| !e.is_empty()) {
        if email.chars().count() > 80 {
            return Err(Fault::user("the e-mail address is longer than the 80 characters that ResMan takes"));
        }
        out.leaf("Email", Some(&email), 80)?;
    }
    Ok(())
}

fn preferences_of(out: &mut Document, p: &Preferences) -> Result<()> {
    if *p == Preferences::default() {
        return Ok(());
    }
    out.open("CustomerPreferences", &[])?;
    out.leaf("TargetMoveInDate", p.move_in_date.map(|d| d.to_string()).as_deref(), 10)?;
    out.leaf("DesiredFloorplan", p.floorplan.as_deref(), 50)?;
    if let Some(unit) = p.unit.as_deref().map(clean).filter(|u| !u.is_empty()) {
        out.open("DesiredUnit", &[])?;
        out.leaf("MarketingName", Some(&unit), 120)?;
        out.close("DesiredUnit")?;
    }
    let money = |amount: Option<Decimal>| amount.map(|a| format!("{:.2}", a.round_dp(2)));
    out.range("DesiredRent", money(p.rent_min), money(p.rent_max))?;
    let number = |n: Option<u32>| n.map(|n| n.to_string());
    out.range("DesiredNumBedrooms", number(p.bedrooms_min), number(p.bedrooms_max))?;
    out.range("DesiredNumBathrooms", number(p.bathrooms), number(p.bathrooms))?;
    out.leaf("DesiredLeaseTerms", number(p.lease_months).as_deref(), 10)?;
    out.leaf("NumberOfOccupants", number(p.occupants).as_deref(), 10)?;
    for pet in p.pets.iter().filter(|pet| pet.count > 0) {
        let kind = match pet.kind.to_ascii_lowercase().as_str() {
            "dog" => "Dog",
            "cat" => "Cat",
            "bird" => "Bird",
            "reptile" => "Reptile",
            "fish" => "Fish",
            _ => "Other",
        };
        out.leaf_with("Pets", &[("PetType", kind), ("Count", &pet.count.to_string())], None)?;
    }
    for comment in p.comments.iter().filter(|c| !clean(c).is_empty()).take(COMMENTS) {
        out.leaf("Comment", Some(comment), COMMENT_CHARS)?;
    }
    out.close("CustomerPreferences")
}

fn event_of(out: &mut Document, event: &Event, looked: &Looked, first: bool, comments: &str) -> Result<()> {
    let (kind, subject) = event.kind.wire();
    // The further parts of a long text are notes to the first one, not further e-mails or tours.
    let kind = if first { kind } else { "Other" };
    // `xs:dateTime`; ResMan reads it as UTC.
    let at = event.at.to_rfc3339_opts(SecondsFormat::Secs, true);
    out.open("Event", &[("EventType", kind), ("EventDate", &at)])?;
    if let Some(id) = event.event_id.as_deref().filter(|_| first) {
        out.leaf_with("EventID", &[("IDValue", id), ("OrganizationName", "ResMan"), ("IDType", "EventID")], None)?;
    }
    if let Some(agent) = looked.agent_id.as_ref().or(event.agent_id.as_ref()) {
        out.open("Agent", &[])?;
        out.leaf_with("AgentID", &[("IDValue", agent)], None)?;
        out.close("Agent")?;
    }
    out.leaf("EventReasons", event.reason.as_deref().or(subject), 200)?;
    out.leaf("FirstContact", Some(if looked.first_contact && first { "true" } else { "false" }), 5)?;
    out.leaf("Comments", Some(comments), COMMENT_CHARS)?;
    if event.kind != EventKind::Reactivated {
        out.leaf("TransactionSource", looked.source_id.as_deref(), 50)?;
    }
    out.close("Event")
}

/// A text in parts that fit, numbered when there is more than one. An empty text is one empty part.
pub(super) fn split(text: &str) -> Vec<String> {
    let chars: Vec<char> = text.chars().collect();
    if chars.len() <= COMMENT_CHARS {
        return vec![text.to_owned()];
    }
    // Room for `(999/999) `.
    let room = COMMENT_CHARS - 10;
    let count = chars.len().div_ceil(room);
    chars
        .chunks(room)
        .enumerate()
        .map(|(i, c)| format!("({}/{count}) {}", i + 1, c.iter().collect::<String>()))
        .collect()
}

/// Without what XML 1.0 cannot hold, and without space around it.
pub(super) fn clean(text: &str) -> String {
    let allowed =
        |c: &char| matches!(c, '\t' | '\n' | '\r' | ' '..='\u{D7FF}' | '\u{E000}'..='\u{FFFD}' | '\u{10000}'..);
    text.chars().filter(allowed).collect::<String>().trim().to_owned()
}

/// A text that fits, without space at its ends: whoever reads it back drops that.
fn cut(text: &str, chars: usize) -> String {
    clean(text).chars().take(chars).collect::<String>().trim_end().to_owned()
}

/// A document under way.
struct Document(Writer<Vec<u8>>);

impl Document {
    fn event(&mut self, event: Xml<'_>) -> Result<()> {
        self.0.write_event(event).map_err(|e| Fault::us("a document cannot be written").because(e))
    }

    fn open(&mut self, name: &str, attributes: &[(&str, &str)]) -> Result<()> {
        let attributes = attributes.iter().map(|(key, value)| (*key, *value));
        self.event(Xml::Start(BytesStart::new(name).with_attributes(attributes)))
    }

    fn close(&mut self, name: &str) -> Result<()> {
        self.event(Xml::End(BytesEnd::new(name)))
    }

    /// An element with text, cut to a length; nothing when there is no text.
    fn leaf(&mut self, name: &str, text: Option<&str>, chars: usize) -> Result<()> {
        let text = text.map(|text| cut(text, chars)).unwrap_or_default();
        if text.is_empty() { Ok(()) } else { self.leaf_with(name, &[], Some(&text)) }
    }

    fn leaf_with(&mut self, name: &str, attributes: &[(&str, &str)], text: Option<&str>) -> Result<()> {
        let cleaned: Vec<(&str, String)> = attributes.iter().map(|(key, value)| (*key, clean(value))).collect();
        let start = BytesStart::new(name).with_attributes(cleaned.iter().map(|(key, value)| (*key, value.as_str())));
        let Some(text) = text else { return self.event(Xml::Empty(start)) };
        self.event(Xml::Start(start))?;
        self.event(Xml::Text(BytesText::new(text)))?;
        self.close(name)
    }

    /// `Exact` when both ends are one, else what is known of them.
    fn range(&mut self, name: &str, min: Option<String>, max: Option<String>) -> Result<()> {
        match (&min, &max) {
            (None, None) => Ok(()),
            (Some(min), Some(max)) if min == max => self.leaf_with(name, &[("Exact", min)], None),
            _ => {
                let ends = [("Min", &min), ("Max", &max)];
                let known: Vec<(&str, &str)> = ends.iter().filter_map(|(k, v)| Some((*k, v.as_deref()?))).collect();
                self.leaf_with(name, &known, None)
            }
        }
    }
}
