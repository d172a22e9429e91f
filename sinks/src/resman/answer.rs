//! What ResMan's v1 answers, as far as this courier needs it: by local element name, in any order.

use catalog::xml::Node;
use catalog::{Blame, Fault, Result, Retry};
use chrono::{DateTime, NaiveDateTime, Utc};
use serde::{Deserialize, Serialize};

use super::document::{self, Event};

/// Someone on a lead.
#[derive(Debug, Clone, Default)]
pub(super) struct Person {
    kind: String,
    pub(super) person_id: Option<String>,
    first_name: String,
    last_name: String,
    email: Option<String>,
    phones: Vec<String>,
}

impl Person {
    /// Whether this is the person that a message means: by e-mail or phone, or by name when the message has neither.
    pub(super) fn is(&self, person: &document::Person) -> bool {
        let email = person.email.as_deref().map(|e| e.trim().to_lowercase());
        let phone = person.phone.as_deref().map(digits).filter(|p| p.len() >= 7);
        let by_email = email.is_some() && self.email.as_deref().map(|e| e.trim().to_lowercase()) == email;
        let by_phone = phone.as_ref().is_some_and(|phone| self.phones.iter().any(|p| digits(p) == *phone));
        let nameless = email.is_none() && phone.is_none();
        by_email || by_phone || (nameless && self.is_called(&person.first_name, &person.last_name))
    }

    pub(super) fn is_called(&self, first: &str, last: &str) -> bool {
        let same = |a: &str, b: &str| a.trim().to_lowercase() == b.trim().to_lowercase();
        same(&self.first_name, first) && same(&self.last_name, last)
    }

    /// Whether all that a message says of a person stands there.
    pub(super) fn says(&self, person: &document::Person) -> bool {
        let email = person.email.as_deref().is_none_or(|e| self.email.as_deref().is_some_and(|s| s.trim() == e.trim()));
        let phone = person.phone.as_deref().is_none_or(|p| self.phones.iter().any(|known| digits(known) == digits(p)));
        let names = [(&self.first_name, &person.first_name), (&self.last_name, &person.last_name)];
        email && phone && names.iter().all(|(known, said)| known.trim() == said.trim())
    }

    /// Has a message say the names that stand there.
    pub(super) fn name(&self, said: &mut document::Person) {
        for (known, said) in [(&self.first_name, &mut said.first_name), (&self.last_name, &mut said.last_name)] {
            if !known.trim().is_empty() {
                said.clone_from(known);
            }
        }
    }

    pub(super) fn is_lost(&self) -> bool {
        self.kind.eq_ignore_ascii_case("lost")
    }
}

/// The digits of a phone number, without the country code of North America.
fn digits(phone: &str) -> String {
    let digits: String = phone.chars().filter(char::is_ascii_digit).collect();
    match digits.strip_prefix('1') {
        Some(rest) if rest.len() == 10 => rest.to_owned(),
        _ => digits,
    }
}

/// Something that ResMan knows to have happened.
#[derive(Debug, Clone, Default)]
pub(super) struct Happened {
    pub(super) id: Option<String>,
    kind: String,
    at: Option<DateTime<Utc>>,
    comments: String,
}

impl Happened {
    /// Whether this is the event of a message: the same kind, second and words.
    pub(super) fn is(&self, event: &Event) -> bool {
        let comments = event.comments.as_deref().map(document::clean).unwrap_or_default();
        let first = document::split(&comments).swap_remove(0);
        self.kind.eq_ignore_ascii_case(event.kind.word())
            && self.at.is_some_and(|at| at.timestamp() == event.at.timestamp())
            && self.comments.trim() == first.trim()
    }
}

/// A lead with its people, the main one first.
#[derive(Debug, Clone, Default)]
pub(super) struct Prospect {
    pub(super) prospect_id: Option<String>,
    pub(super) people: Vec<Person>,
    pub(super) events: Vec<Happened>,
}

impl Prospect {
    pub(super) fn main(&self) -> Option<&Person> {
        self.people.first()
    }

    /// The person of this id, or the main one when there is none.
    pub(super) fn person(&self, person_id: Option<&str>) -> Option<&Person> {
        let same = |p: &&Person| p.person_id.as_deref().zip(person_id).is_some_and(|(a, b)| a.eq_ignore_ascii_case(b));
        self.people.iter().find(same).or_else(|| self.main())
    }
}

/// Someone's lead as it stands in ResMan, in its words.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Held {
    /// ResMan's id of the lead.
    pub prospect_id: String,
    /// ResMan's id of the person.
    pub person_id: Option<String>,
    /// Given name.
    pub first_name: String,
    /// Family name.
    pub last_name: String,
    /// E-mail address.
    pub email: Option<String>,
    /// Phone, the first of several.
    pub phone: Option<String>,
    /// `prospect`, `lost`, `applicant` or `resident`; absent when ResMan does not say.
    pub status: Option<String>,
    /// Whether the lead has the very event that a message to create it brings: an earlier try has made it.
    pub made: bool,
}

impl Prospect {
    /// How the lead stands for one of its people, or for the main one when there is no such person.
    pub(super) fn held(&self, person_id: Option<&str>) -> Option<Held> {
        let person = self.person(person_id)?;
        let kind = person.kind.to_ascii_lowercase();
        let class = ["lost", "applicant", "resident", "prospect"].into_iter().find(|class| kind.contains(class));
        Some(Held {
            prospect_id: self.prospect_id.clone()?,
            person_id: person.person_id.clone(),
            first_name: person.first_name.clone(),
            last_name: person.last_name.clone(),
            email: person.email.clone(),
            phone: person.phones.first().cloned(),
            status: class.map(str::to_owned),
            made: false,
        })
    }
}

/// An entry of one of ResMan's lists.
#[derive(Debug, Clone)]
pub(super) struct Known {
    pub(super) id: String,
    pub(super) name: String,
    email: Option<String>,
}

impl Known {
    pub(super) fn is(&self, wanted: &str) -> bool {
        let wanted = wanted.trim().to_lowercase();
        [Some(&self.id), Some(&self.name), self.email.as_ref()]
            .into_iter()
            .flatten()
            .any(|known| known.trim().to_lowercase() == wanted)
    }
}

/// A refusal comes with status 200, and says so inside.
pub(super) fn succeeded(body: &[u8]) -> Result<()> {
    let root = root(body)?;
    match root.text_of("Status") {
        Some(status) if status.eq_ignore_ascii_case("Success") => Ok(()),
        Some(_) => {
            // The text is the vendor's, about a document of ours; it can repeat a name, so only its known parts are kept.
            let why = root.text_of("ErrorDescription").unwrap_or_default();
            Err(refusal(&why))
        }
        None => Err(Fault::remote("the answer has no status").hint("The vendor may be under maintenance.")),
    }
}

fn refusal(why: &str) -> Fault {
    let lower = why.to_ascii_lowercase();
    let never = |blame, text: &'static str| Fault::new(blame, Retry::Never, text);
    if lower.contains("transaction source") {
        never(Blame::User, "ResMan does not know the lead source or lost reason")
            .hint("Compare the courier's settings with ResMan's lists.")
    } else if lower.contains("credential") || lower.contains("api key") {
        never(Blame::User, "ResMan refused the credentials").hint("Check `partner_id` and `api_key`.")
    } else if lower.contains("already exist") || lower.contains("duplicate") {
        never(Blame::Remote, "ResMan says that this person already exists")
    } else if lower.contains("agent") || lower.contains("employee") {
        never(Blame::User, "ResMan does not know the employee").hint("Check `agent` in the courier's settings.")
    } else if lower.contains("property") {
        never(Blame::User, "ResMan does not know the property, or it is closed to this partner")
    } else {
        never(Blame::Remote, "ResMan refused the call").because(Quoted(scrubbed(why)))
    }
}

/// The vendor's words with everything that could be a name, an address or a number taken out.
fn scrubbed(text: &str) -> String {
    let plain = |word: &&str| word.chars().all(|c| c.is_ascii_lowercase() || matches!(c, '.' | ',' | '\''));
    text.split_whitespace().map(|w| if plain(&w) { w } else { "…" }).take(40).collect::<Vec<_>>().join(" ")
}

#[derive(Debug)]
struct Quoted(String);

impl std::fmt::Display for Quoted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Quoted {}

/// The leads of an answer.
pub(super) fn prospects(body: &[u8]) -> Result<Vec<Prospect>> {
    let root = root(body)?;
    let leads = root.child("Response").and_then(|r| r.child("LeadManagement")).and_then(|l| l.child("Prospects"));
    Ok(leads.map(|l| l.all("Prospect").map(prospect).collect()).unwrap_or_default())
}

fn prospect(node: &Node) -> Prospect {
    let mut out = Prospect::default();
    for customer in node.child("Customers").into_iter().flat_map(|c| c.all("Customer")) {
        let mut person = Person { kind: customer.attribute("Type").unwrap_or_default(), ..Person::default() };
        // The two ids come in either order.
        for id in customer.all("Identification") {
            let value = id.attribute("IDValue").map(|value| catalog::id(&value).into_owned());
            match id.attribute("IDType").unwrap_or_default().to_ascii_lowercase().as_str() {
                "prospectid" => out.prospect_id = out.prospect_id.take().or(value),
                "personid" => person.person_id = value,
                _ => {}
            }
        }
        if let Some(name) = customer.child("Name") {
            person.first_name = name.text_of("FirstName").unwrap_or_default();
            person.last_name = name.text_of("LastName").unwrap_or_default();
        }
        person.email = customer.text_of("Email");
        person.phones = customer.all("Phone").filter_map(|p| p.text_of("PhoneNumber")).collect();
        out.people.push(person);
    }
    for event in node.child("Events").into_iter().flat_map(|e| e.all("Event")) {
        out.events.push(Happened {
            id: event.child("EventID").and_then(|id| id.attribute("IDValue")),
            kind: event.attribute("EventType").unwrap_or_default(),
            at: event.attribute("EventDate").and_then(|at| instant(&at)),
            comments: event.text_of("Comments").unwrap_or_default(),
        });
    }
    out
}

/// ResMan writes instants with a zone, with `Z` and without: then they are UTC.
fn instant(text: &str) -> Option<DateTime<Utc>> {
    let naive = || NaiveDateTime::parse_from_str(text, "%Y-%m-%dT%H:%M:%S%.f").ok().map(|t| t.and_utc());
    DateTime::parse_from_rfc3339(text).ok().map(|t| t.to_utc()).or_else(naive)
}

/// The ids of the account's properties.
pub(super) fn properties(body: &[u8]) -> Result<Vec<String>> {
    let root = root(body)?;
    let ids = root.child("Properties").into_iter().flat_map(|l| &l.children).filter_map(|p| p.text_of("PropertyID"));
    Ok(ids.collect())
}

/// The entries of a list such as `<Employees><Employee><ID>…`.
pub(super) fn items(body: &[u8], list: &str) -> Result<Vec<Known>> {
    let root = root(body)?;
    let known = |item: &Node| {
        Some(Known {
            id: item.text_of("ID")?,
            name: item.text_of("Name").unwrap_or_default(),
            email: item.text_of("Email"),
        })
    };
    Ok(root.child(list).map(|l| l.children.iter().filter_map(known).collect()).unwrap_or_default())
}

fn root(body: &[u8]) -> Result<Node> {
    Node::parse(body, "ResMan").map_err(|f| f.hint("The vendor may be under maintenance: try again later."))
}
