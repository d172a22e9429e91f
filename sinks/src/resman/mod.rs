//! `resman`: leads and what happens with them, written into ResMan by `MITS/PostLeadManagement4_0`.
//!
//! ResMan has no idempotency: the same document posted twice makes two prospects, or two events. So this courier looks
//! before it posts. A new lead is searched for by e-mail and phone; an event is looked for on its prospect. A process that
//! died between the post and the note of it therefore finds its own deed and reports it as done.

mod answer;
pub mod document;

use std::collections::HashMap;
use std::sync::Arc;

use async_trait::async_trait;
use catalog::http::{Client, Limits, account, address};
use catalog::store::outbox::Message;
use catalog::{Blame, Clock, Component, Env, Fault, Result, Retry, SecretRef};
use chrono::{DateTime, TimeDelta, Utc};
use schemars::JsonSchema;
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::Mutex;
use url::Url;

pub use self::answer::Held;
use self::answer::{Known, Prospect, items, prospects};
use self::document::{Event, EventKind, Lead, Looked, document};
use crate::Courier;

/// The account and how to reach it. Partner, key and limits are those of the connector of the same name.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The address of generation v1.
    #[serde(default = "v1_url")]
    pub v1_url: String,
    /// The integration partner's id, by reference.
    pub partner_id: SecretRef,
    /// The integration partner's key, by reference.
    pub api_key: SecretRef,
    /// The management company's account.
    pub account_id: String,
    /// The name of the lead source under which leads are filed. It must exist in ResMan.
    pub lead_source: String,
    /// The employee in whose name leads are filed: id, e-mail address or full name. Partners have one made for themselves.
    pub agent: String,
    /// The reason for which a lead is marked lost when nobody gives one, by the name of a ResMan pick-list entry.
    #[serde(default = "inactive")]
    pub lost_reason: String,
    /// The reason for which the spare one of two guest cards of one person is closed.
    #[serde(default = "inactive")]
    pub duplicate_reason: String,
    /// `@Type` of a lost customer. The schema has no word for it, and the `Cancel` event alone marks a lead as lost; an
    /// account that wants ResMan's own word sets `lost`.
    #[serde(default = "prospect")]
    pub lost_customer_type: String,
    /// How the account may be called.
    #[serde(default)]
    pub limits: Limits,
}

fn v1_url() -> String {
    "https://api.myresman.com".to_owned()
}

fn prospect() -> String {
    "prospect".to_owned()
}

fn inactive() -> String {
    "Inactive (Lack of Response)".to_owned()
}

/// The operations, as kinds of messages. The payload is a [`Lead`].
pub const KINDS: &[&str] = &[
    "lead_create",
    "lead_update",
    "lead_roommate",
    "lead_agent",
    "lead_lost",
    "lead_spare",
    "lead_reactivate",
    "lead_event",
];

/// A method that lists what ResMan knows by name, and the list in its answer.
type NameList = (&'static str, &'static str);

const EMPLOYEES: NameList = ("Leasing/GetEmployees", "Employees");
const SOURCES: NameList = ("Leasing/GetProspectSources", "ProspectSources");
const REASONS: NameList = ("Leasing/GetLostProspectReasons", "LostProspectReasons");

/// A method, and the property that it was asked about.
type ListOf = (&'static str, String);
/// When a list was read, and what stood there.
type Listed = (DateTime<Utc>, Vec<Known>);

/// How long looked-up ids are trusted.
const LISTS_KEPT: TimeDelta = TimeDelta::minutes(10);

/// The courier.
pub struct ResMan {
    /// Reads: may be made twice.
    reads: Client,
    /// Posts: tried once per message, since the look before the next try is the outbox's.
    posts: Client,
    url: Url,
    partner_id: SecretString,
    api_key: SecretString,
    config: Config,
    clock: Arc<dyn Clock>,
    lists: Mutex<HashMap<ListOf, Listed>>,
}

impl std::fmt::Debug for ResMan {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ResMan(account {})", self.config.account_id)
    }
}

#[async_trait]
impl Component for ResMan {
    type Live = dyn Courier;
    type Config = Config;
    const NAME: &'static str = "resman";
    const ABOUT: &'static str = "ResMan: creates and updates leads, logs communications, marks lost, reactivates";

    async fn open(config: Config, env: Env) -> Result<Box<dyn Courier>> {
        let mut url = address("v1_url", &config.v1_url)?;
        if !url.path().ends_with('/') {
            url.set_path(&format!("{}/", url.path()));
        }
        let partner_id = config.partner_id.resolve()?;
        let name = account("resman", &partner_id);
        Ok(Box::new(Self {
            reads: Client::new(&name, &env, config.limits.clone())?,
            posts: Client::new(&name, &env, Limits { attempts: 1, ..config.limits.clone() })?,
            url,
            api_key: config.api_key.resolve()?,
            partner_id,
            config,
            clock: env.clock.clone(),
            lists: Mutex::new(HashMap::new()),
        }))
    }
}

#[async_trait]
impl Courier for ResMan {
    /// Whether the account lets us in, and has what leads are filed under at each of its properties.
    async fn check(&self) -> Result<()> {
        let body = self.call(&self.reads, "Account/GetProperties", &[]).await?;
        let c = &self.config;
        for property_id in answer::properties(&body)? {
            let lead = Lead { property_id, ..Lead::default() };
            for (list, name, what) in [
                (EMPLOYEES, &c.agent, "employee"),
                (SOURCES, &c.lead_source, "lead source"),
                (REASONS, &c.lost_reason, "lost reason"),
                (REASONS, &c.duplicate_reason, "lost reason"),
            ] {
                let found = self.named(list, &lead, name, what).await;
                found.map_err(|f| f.at(format!("property `{}`", lead.property_id)))?;
            }
        }
        Ok(())
    }

    /// The leads that a message may be about, as [`Held`]. A roommate changes nobody else, so nothing is looked for.
    async fn look(&self, message: &Message) -> Result<Option<Vec<Value>>> {
        let lead = lead(message)?;
        if message.kind == "lead_roommate" {
            return Ok(None);
        }
        let found = match &lead.prospect_id {
            Some(id) => self.find(&lead.property_id, &[("ProspectID", id)]).await?,
            None => {
                let found = self.search(&lead).await?;
                let made = if message.kind == "lead_create" && found.is_empty() {
                    self.made(&lead, message.created_at).await?
                } else {
                    Vec::new()
                };
                found.into_iter().chain(made).collect()
            }
        };
        let event = lead.event.clone().unwrap_or_else(|| first_contact(message.created_at));
        let made = |p: &Prospect| message.kind == "lead_create" && p.events.iter().any(|e| e.is(&event));
        let held = found.iter().filter_map(|p| Some(Held { made: made(p), ..p.held(lead.person_id.as_deref())? }));
        let values = held.map(serde_json::to_value).collect::<serde_json::Result<_>>();
        values.map(Some).map_err(|e| Fault::us("a lead has no JSON form").because(e))
    }

    async fn deliver(&self, message: &Message) -> Result<Option<Value>> {
        let lead = lead(message)?;
        let kind = message.kind.as_str();
        if !KINDS.contains(&kind) {
            return Err(Fault::us(format!("`resman` carries no `{kind}`")));
        }
        self.post_lead(kind, lead, message.created_at).await.map(Some)
    }
}

fn lead(message: &Message) -> Result<Lead> {
    let mut lead: Lead = serde_json::from_value(message.payload.clone())
        .map_err(|e| Fault::us(format!("message {} is no lead", message.id)).because(e))?;
    // ResMan finds nobody by more than it holds of a name.
    for name in [&mut lead.person.first_name, &mut lead.person.last_name] {
        *name = document::as_held("first_name", name);
    }
    Ok(lead)
}

impl ResMan {
    async fn post_lead(&self, kind: &str, mut lead: Lead, asked_at: DateTime<Utc>) -> Result<Value> {
        let mut first = false;
        if lead.prospect_id.is_none() {
            let known = if lead.searched { None } else { self.search(&lead).await?.into_iter().next() };
            match known {
                Some(known) => adopt(&mut lead, &known, kind),
                None if kind == "lead_create" => first = true,
                None => {
                    return Err(Fault::new(Blame::Remote, Retry::Never, "ResMan has no such lead")
                        .hint("It may have been removed there, or its creation was given up: replay that first."));
                }
            }
        }
        if kind == "lead_create" && lead.event.is_none() {
            lead.event = Some(first_contact(asked_at));
        }
        if let Some(done) = self.done(kind, &mut lead).await? {
            if kind != "lead_create" || done.person(lead.person_id.as_deref()).is_some_and(|p| p.says(&lead.person)) {
                return Ok(reply(&done));
            }
            // An earlier try was heard, but its answer was not, and the person has changed since: that is left to be said.
            lead.event = None;
        }
        let looked = self.looked(kind, &lead, first || kind == "lead_agent").await?;
        let xml = document(&lead, &looked)?;
        match self.post(&lead, &xml).await {
            Ok(answer) => Ok(reply(&answer)),
            // ResMan knows a person that the search did not show, for instance by a phone in another spelling.
            Err(fault) if first && fault.message.to_ascii_lowercase().contains("already exist") => {
                // Whoever has looked right before knows that the lead which stands there is somebody else's.
                if lead.searched {
                    return Err(
                        fault.hint("ResMan has a lead with this e-mail address or phone that is another contact's.")
                    );
                }
                let known = self.search(&lead).await?.into_iter().next().ok_or(fault)?;
                adopt(&mut lead, &known, kind);
                let looked = self.looked(kind, &lead, false).await?;
                let xml = document(&lead, &looked)?;
                self.post(&lead, &xml).await.map(|answer| reply(&answer))
            }
            Err(fault) => Err(fault),
        }
    }

    /// What the vendor calls the lead, if the deed is done already: an event that stands there, a roommate who lives there.
    async fn done(&self, kind: &str, lead: &mut Lead) -> Result<Option<Prospect>> {
        let Some(id) = lead.prospect_id.clone() else { return Ok(None) };
        if lead.event.is_none() && kind != "lead_roommate" {
            return Ok(None);
        }
        let found = self.find(&lead.property_id, &[("ProspectID", &id)]).await?;
        let Some(known) = found.into_iter().next() else { return Ok(None) };
        if kind == "lead_roommate" {
            let same = |p: &&answer::Person| p.is_called(&lead.person.first_name, &lead.person.last_name);
            lead.person_id = known.people.iter().find(same).and_then(|p| p.person_id.clone());
            return Ok(None);
        }
        if lead.person_id.is_none() {
            lead.person_id = known.people.first().and_then(|p| p.person_id.clone());
        }
        if lead.repeats_name
            && let Some(person) = known.person(lead.person_id.as_deref())
        {
            person.name(&mut lead.person);
        }
        let event = lead.event.as_ref();
        Ok(event.filter(|e| e.event_id.is_none() && known.events.iter().any(|k| k.is(e))).map(|_| known.clone()))
    }

    /// The leads that have this person's e-mail address or phone, open ones before lost ones.
    async fn search(&self, lead: &Lead) -> Result<Vec<Prospect>> {
        let person = &lead.person;
        let mut found: Vec<Prospect> = Vec::new();
        for (filter, value) in [("Email", &person.email), ("Phone", &person.phone)] {
            let Some(value) = value.as_deref().filter(|v| !v.trim().is_empty()) else { continue };
            found.extend(self.find(&lead.property_id, &[(filter, value)]).await?);
        }
        if found.is_empty() && person.email.is_none() && person.phone.is_none() {
            let name = [("FirstName", person.first_name.as_str()), ("LastName", person.last_name.as_str())];
            found = self.find(&lead.property_id, &name).await?;
        }
        found.retain(|p| p.main().is_some_and(|main| main.is(person)));
        found.sort_by_key(|p| p.main().is_some_and(answer::Person::is_lost));
        Ok(found)
    }

    /// The lead that an earlier try made, when the office has since replaced all by which the person could be found: it has
    /// the name, and the very event that we brought.
    async fn made(&self, lead: &Lead, asked_at: DateTime<Utc>) -> Result<Vec<Prospect>> {
        let event = lead.event.clone().unwrap_or_else(|| first_contact(asked_at));
        let name = [("FirstName", lead.person.first_name.as_str()), ("LastName", lead.person.last_name.as_str())];
        let mut found = self.find(&lead.property_id, &name).await?;
        found.retain(|p| p.events.iter().any(|e| e.is(&event)));
        Ok(found)
    }

    async fn find(&self, property: &str, filters: &[(&str, &str)]) -> Result<Vec<Prospect>> {
        let mut fields = vec![("PropertyID", property)];
        fields.extend(filters);
        let body = self.call(&self.reads, "MITS/SearchProspects", &fields).await?;
        prospects(&body)
    }

    async fn post(&self, lead: &Lead, xml: &str) -> Result<Prospect> {
        let fields = [("PropertyID", lead.property_id.as_str()), ("Xml", xml)];
        let body = self.call(&self.posts, "MITS/PostLeadManagement4_0", &fields).await?;
        let answer = prospects(&body)?.into_iter().next();
        answer.filter(|p| p.prospect_id.is_some()).ok_or_else(|| {
            Fault::remote("`MITS/PostLeadManagement4_0` answered without the lead's id")
                .hint("The next try looks for the lead before it posts again.")
        })
    }

    async fn looked(&self, kind: &str, lead: &Lead, first_contact: bool) -> Result<Looked> {
        let mut looked = Looked { first_contact, customer_type: "prospect".to_owned(), ..Looked::default() };
        if lead.event.is_none() {
            return Ok(looked);
        }
        let given = lead.event.as_ref().and_then(|e| e.agent_id.clone());
        looked.agent_id = match given {
            Some(agent) if kind == "lead_agent" => {
                let found = self.named(EMPLOYEES, lead, &agent, "employee").await;
                // Who was asked for is a person, and stays out of the books.
                let unknown = |f: Fault| match f.blame {
                    Blame::User => Fault::new(f.blame, f.retry, "ResMan has no such `agent` at this property")
                        .hint("Give the id, e-mail address or full name of an employee as ResMan has it."),
                    _ => f,
                };
                Some(found.map_err(unknown)?)
            }
            Some(agent) => Some(agent),
            None => Some(self.named(EMPLOYEES, lead, &self.config.agent, "employee").await?),
        };
        if kind == "lead_lost" || kind == "lead_spare" {
            looked.customer_type.clone_from(&self.config.lost_customer_type);
            let usual = if kind == "lead_spare" { &self.config.duplicate_reason } else { &self.config.lost_reason };
            let reason = lead.lost_reason.as_deref().unwrap_or(usual);
            looked.source_id = Some(self.named(REASONS, lead, reason, "lost reason").await?);
        } else {
            let source = lead.source.as_deref().unwrap_or(&self.config.lead_source);
            looked.source_id = Some(self.named(SOURCES, lead, source, "lead source").await?);
        }
        Ok(looked)
    }

    /// The id that ResMan gives a name, in one of its lists.
    async fn named(&self, (method, list): NameList, lead: &Lead, name: &str, what: &str) -> Result<String> {
        let key = (method, lead.property_id.clone());
        let now = self.clock.now();
        let mut lists = self.lists.lock().await;
        if lists.get(&key).is_none_or(|(at, _)| now - *at > LISTS_KEPT) {
            let body = self.call(&self.reads, method, &[("PropertyID", &lead.property_id)]).await?;
            lists.insert(key.clone(), (now, items(&body, list)?));
        }
        let known = lists.get(&key).map(|(_, known)| known.as_slice()).unwrap_or_default();
        if let Some(found) = known.iter().find(|k| k.is(name)) {
            return Ok(found.id.clone());
        }
        // Names of staff are personal data; sources and reasons are not, and neither are users that stand for a system.
        let plain = |k: &&Known| what != "employee" || k.name.starts_with('*');
        let names: Vec<String> = known.iter().filter(plain).map(|k| format!("`{}`", k.name)).collect();
        let hint = match names.as_slice() {
            [] => format!("Have the {what} made in ResMan, or change the courier's settings."),
            names => format!("Have it made in ResMan, or use one of {}.", names.join(", ")),
        };
        // It can be made while the message waits.
        let fault = Fault::user(format!("ResMan has no {what} `{name}` at this property"));
        Err(fault.hint(hint).retry(Retry::Backoff))
    }

    /// Posts a form and gives the body of a success.
    async fn call(&self, client: &Client, method: &str, fields: &[(&str, &str)]) -> Result<bytes::Bytes> {
        let url = self.url.join(method).map_err(|e| Fault::us("an address cannot be built").because(e))?;
        let mut form = vec![
            ("IntegrationPartnerID", self.partner_id.expose_secret()),
            ("ApiKey", self.api_key.expose_secret()),
            ("AccountID", self.config.account_id.as_str()),
        ];
        form.extend(fields);
        let request = client.request(http::Method::POST, url).header(http::header::ACCEPT, "application/xml");
        let body = client.call(request.form(&form)).await?.body;
        answer::succeeded(&body).map_err(|f| f.at(format!("`{method}`")))?;
        Ok(body)
    }
}

/// What stands for the first contact when nothing was said. Its time is the same at each try, so that the event of an
/// earlier one is known again.
fn first_contact(at: DateTime<Utc>) -> Event {
    Event { kind: EventKind::WebContact, at, reason: None, comments: None, agent_id: None, event_id: None }
}

/// Takes over what ResMan knows the lead by.
fn adopt(lead: &mut Lead, known: &Prospect, kind: &str) {
    lead.prospect_id.clone_from(&known.prospect_id);
    if kind != "lead_roommate" {
        lead.person_id = known.main().and_then(|p| p.person_id.clone());
    }
}

/// The ids that the outbox keeps, and how the lead stands there now, for whoever had the message delivered.
fn reply(answer: &Prospect) -> Value {
    json!({
        "prospect_id": answer.prospect_id,
        "person_id": answer.main().and_then(|p| p.person_id.clone()),
        "event_ids": answer.events.iter().filter_map(|e| e.id.clone()).collect::<Vec<_>>(),
        "held": answer.held(None),
    })
}
