//! What a contact is.

use std::collections::BTreeMap;

use catalog::{Fault, Result};
use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use sqlx::FromRow;
use uuid::Uuid;

/// The fields that both sides hold.
pub const SHARED: [&str; 5] = ["first_name", "last_name", "email", "phone", "status"];

/// The longest name that is taken, in characters.
pub const LONGEST_NAME: usize = 200;
/// The longest e-mail address: ResMan's schema takes no more, and what is cut is another address.
pub const LONGEST_EMAIL: usize = 80;
/// The longest note or message.
pub const LONGEST_TEXT: usize = 20_000;

/// The most replaced values of a field that are remembered.
const MOST_ALIASES: usize = 5;

/// One person at one property.
#[derive(Debug, Clone, PartialEq, FromRow, Serialize)]
pub struct Contact {
    /// Its id; it never changes, and after a merge it leads to the record that stayed.
    pub id: Uuid,
    /// The property.
    pub property_id: String,
    /// Given name.
    pub first_name: String,
    /// Family name.
    pub last_name: String,
    /// E-mail address in canonical form.
    pub email: Option<String>,
    /// Phone in E.164.
    pub phone: Option<String>,
    /// Where the person stands; see [`Status`].
    pub status: String,
    /// Who brought the contact first.
    pub source: String,
    /// Free text of the team.
    pub notes: Option<String>,
    /// `communication_method` and `contact_frequency`.
    pub preferences: Value,
    /// No e-mails.
    pub email_opt_out: bool,
    /// No calls.
    pub phone_opt_out: bool,
    /// No text messages.
    pub text_opt_out: bool,
    /// What was read out of conversations.
    pub enrichment: Value,
    /// 0 to 100; null until it was computed.
    pub lead_score: Option<i32>,
    /// The parts of the score, so that a person can read why.
    pub lead_score_parts: Option<Value>,
    /// The last time that we heard from the person.
    pub last_interaction: Option<DateTime<Utc>>,
    /// How often we did.
    pub interaction_count: i32,
    /// E-mail addresses and phones that were replaced: `{email: […], phone: […]}`. The person may still come under them.
    #[serde(skip)]
    pub aliases: Value,
    /// Where each value came from: field to `{source, at, verified}`.
    #[serde(skip)]
    pub provenance: Value,
    /// What ResMan was last known to hold.
    #[serde(skip)]
    pub base: Value,
    /// What is on its way to ResMan: field to values.
    #[serde(skip)]
    pub pushed: Value,
    /// Raised with every change.
    pub version: i64,
    /// How many changes came from the chatbot's side.
    pub domiq_version: i64,
    /// How many came from ResMan.
    pub resman_version: i64,
    /// The record that stayed, when this one was merged away.
    pub merged_into: Option<Uuid>,
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// When it changed last.
    pub updated_at: DateTime<Utc>,
}

impl Contact {
    /// A shared field as ResMan would hold it: statuses as their class there.
    pub fn shared(&self, field: &str) -> Option<String> {
        let text = |t: &str| Some(t.to_owned()).filter(|t| !t.is_empty());
        match field {
            "first_name" => text(&self.first_name),
            "last_name" => text(&self.last_name),
            "email" => self.email.clone(),
            "phone" => self.phone.clone(),
            "status" => Some(Status::parse(&self.status).class().to_owned()),
            _ => None,
        }
    }

    /// All shared fields.
    pub fn all_shared(&self) -> BTreeMap<String, Option<String>> {
        SHARED.iter().map(|f| ((*f).to_owned(), self.shared(f))).collect()
    }

    /// Takes a value of a shared field, as ResMan writes it.
    pub fn set_shared(&mut self, field: &str, value: Option<String>) {
        match field {
            "first_name" => self.first_name = value.unwrap_or_default(),
            "last_name" => self.last_name = value.unwrap_or_default(),
            "email" => self.email = value,
            "phone" => self.phone = value,
            "status" => {
                if let Some(class) = value
                    && Status::parse(&self.status).class() != class
                {
                    self.status = Status::of_class(&class).as_str().to_owned();
                }
            }
            _ => {}
        }
    }

    /// Remembers the values of a former state that this one has replaced.
    pub fn remember(&mut self, before: &Contact) {
        if !self.aliases.is_object() {
            self.aliases = Value::Object(Map::new());
        }
        for (field, was, is) in [("email", &before.email, &self.email), ("phone", &before.phone, &self.phone)] {
            let Some(was) = was.as_ref().filter(|_| was != is) else { continue };
            let mut known: Vec<String> = serde_json::from_value(self.aliases[field].clone()).unwrap_or_default();
            known.retain(|k| k != was);
            known.push(was.clone());
            let from = known.len().saturating_sub(MOST_ALIASES);
            self.aliases[field] = serde_json::json!(known[from..]);
        }
    }

    /// The contact as it stands, and as it would stand under each replaced e-mail address and phone.
    pub fn guises(&self) -> Vec<Contact> {
        let mut all = vec![self.clone()];
        for field in ["email", "phone"] {
            let known: Vec<String> = serde_json::from_value(self.aliases[field].clone()).unwrap_or_default();
            all.extend(known.into_iter().map(|value| {
                let mut guise = self.clone();
                guise.set_shared(field, Some(value));
                guise
            }));
        }
        all
    }

    /// Any field by its name, for histories.
    pub fn field(&self, name: &str) -> Value {
        match serde_json::to_value(self) {
            Ok(Value::Object(mut map)) => map.remove(name).unwrap_or(Value::Null),
            _ => Value::Null,
        }
    }

    /// Notes where a value came from.
    pub fn learned(&mut self, field: &str, source: &str, at: DateTime<Utc>, verified: bool) {
        if !self.provenance.is_object() {
            self.provenance = Value::Object(Map::new());
        }
        self.provenance[field] = serde_json::json!({ "source": source, "at": at, "verified": verified });
    }
}

/// Where a person stands. The words before `lost` are the chatbot's finer steps of ResMan's `prospect`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// Just come.
    New,
    /// We have answered.
    Contacted,
    /// Wants what we have.
    Qualified,
    /// Has a tour.
    TourScheduled,
    /// Being looked after.
    Active,
    /// Given up.
    Lost,
    /// Has applied.
    Applicant,
    /// Lives here.
    Resident,
    /// Set aside by the team.
    Inactive,
    /// Merged into another record.
    Merged,
}

impl Status {
    /// Every status that may be set from outside.
    pub const SETTABLE: [Status; 9] = [
        Status::New,
        Status::Contacted,
        Status::Qualified,
        Status::TourScheduled,
        Status::Active,
        Status::Lost,
        Status::Applicant,
        Status::Resident,
        Status::Inactive,
    ];

    /// The stored word.
    pub fn as_str(self) -> &'static str {
        match self {
            Status::New => "new",
            Status::Contacted => "contacted",
            Status::Qualified => "qualified",
            Status::TourScheduled => "tour_scheduled",
            Status::Active => "active",
            Status::Lost => "lost",
            Status::Applicant => "applicant",
            Status::Resident => "resident",
            Status::Inactive => "inactive",
            Status::Merged => "merged",
        }
    }

    /// The status of a stored word; unknown words were written by a later version and count as active.
    pub fn parse(word: &str) -> Self {
        Self::SETTABLE.into_iter().chain([Status::Merged]).find(|s| s.as_str() == word).unwrap_or(Status::Active)
    }

    /// The status of a word from outside.
    ///
    /// # Errors
    /// When the word is none of [`Self::SETTABLE`].
    pub fn settable(word: &str) -> Result<Self> {
        Self::SETTABLE.into_iter().find(|s| s.as_str() == word).ok_or_else(|| {
            let known: Vec<_> = Self::SETTABLE.iter().map(|s| s.as_str()).collect();
            Fault::user("`status` is not one that a contact can have").hint(format!("Use one of {}.", known.join(", ")))
        })
    }

    /// The class that ResMan knows.
    pub fn class(self) -> &'static str {
        match self {
            Status::Lost => "lost",
            Status::Applicant => "applicant",
            Status::Resident => "resident",
            _ => "prospect",
        }
    }

    /// The status of a contact that ResMan has moved into a class.
    pub fn of_class(class: &str) -> Self {
        match class {
            "lost" => Status::Lost,
            "applicant" => Status::Applicant,
            "resident" => Status::Resident,
            _ => Status::Active,
        }
    }
}

/// Who says something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// The chatbot.
    Chatbot,
    /// ResMan.
    Resman,
    /// A person of the team.
    Manual,
}

impl Source {
    /// The stored word.
    pub fn as_str(self) -> &'static str {
        match self {
            Source::Chatbot => "chatbot",
            Source::Resman => "resman",
            Source::Manual => "manual",
        }
    }
}

/// Who wins when both sides have changed a field since they last agreed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Strategy {
    /// ResMan's value stays.
    ResmanWins,
    /// The chatbot's value stays.
    DomiqWins,
    /// Nothing moves until a person has decided.
    #[default]
    ManualReview,
}

impl Strategy {
    /// The stored word.
    pub fn as_str(self) -> &'static str {
        match self {
            Strategy::ResmanWins => "resman_wins",
            Strategy::DomiqWins => "domiq_wins",
            Strategy::ManualReview => "manual_review",
        }
    }

    /// The strategy of a stored word.
    pub fn parse(word: &str) -> Self {
        [Strategy::ResmanWins, Strategy::DomiqWins].into_iter().find(|s| s.as_str() == word).unwrap_or_default()
    }
}

/// What a change may set. A field that is `None` stays as it is; a null never wipes a value.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize)]
#[serde(default)]
pub struct Patch {
    /// Given name.
    pub first_name: Option<String>,
    /// Family name.
    pub last_name: Option<String>,
    /// E-mail address.
    pub email: Option<String>,
    /// Phone.
    pub phone: Option<String>,
    /// Status.
    pub status: Option<String>,
    /// Notes.
    pub notes: Option<String>,
    /// How the person wants to be reached.
    pub preferences: Option<Preferences>,
    /// Fields whose value the person has confirmed.
    pub verified: Vec<String>,
    /// Why the lead is lost, in ResMan's words. It goes with the status `lost`.
    pub lost_reason: Option<String>,
    /// The leasing agent whose the lead is to be in ResMan: id, e-mail address or full name.
    pub agent: Option<String>,
}

/// How a person wants to be reached.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Preferences {
    /// `email`, `phone` or `text`.
    pub communication_method: Option<String>,
    /// `immediate`, `daily` or `weekly`.
    pub contact_frequency: Option<String>,
    /// Whether all of it is unwanted. `false` takes nothing back, here and below.
    pub opt_out: Option<bool>,
    /// Whether e-mails are unwanted.
    pub email_opt_out: Option<bool>,
    /// Whether calls are unwanted.
    pub phone_opt_out: Option<bool>,
    /// Whether text messages are unwanted.
    pub text_opt_out: Option<bool>,
    /// Wishes that the person has confirmed, by name; null takes a confirmation back. No conversation changes them.
    pub wishes: Option<Map<String, Value>>,
}

/// The canonical form of what a person typed.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Clean {
    /// Fields with a value.
    pub values: BTreeMap<&'static str, String>,
}

/// Checks what came from outside and brings it into canonical form.
///
/// # Errors
/// When a value cannot be what it claims to be; the fault names the field and never the value.
pub fn clean(patch: &Patch, region: &str) -> Result<Clean> {
    let mut values = BTreeMap::new();
    for (field, given) in [("first_name", &patch.first_name), ("last_name", &patch.last_name)] {
        let Some(name) = given.as_deref().map(tidy).filter(|n| !n.is_empty()) else { continue };
        if name.chars().count() > LONGEST_NAME {
            return Err(too_long(field, LONGEST_NAME));
        }
        values.insert(field, name);
    }
    if let Some(email) = patch.email.as_deref().map(str::trim).filter(|e| !e.is_empty()) {
        let long = |email: &str| email.chars().count() > LONGEST_EMAIL;
        if long(email) {
            return Err(too_long("email", LONGEST_EMAIL));
        }
        let canonical = transforms::functions::email_canonical(email)
            .ok_or_else(|| Fault::user("`email` is not an e-mail address").hint("It has the form `name@host`."))?;
        // A host in another script is longer in canonical form.
        if long(&canonical) {
            return Err(too_long("email", LONGEST_EMAIL));
        }
        values.insert("email", canonical);
    }
    if let Some(phone) = patch.phone.as_deref().map(str::trim).filter(|p| !p.is_empty()) {
        let canonical =
            Some(phone).filter(|p| p.len() <= 40).and_then(|p| transforms::functions::phone_e164(p, region));
        let canonical = canonical.ok_or_else(|| {
            Fault::user("`phone` is not a phone number")
                .hint("Write it with its country code, such as `+12515550188`, unless it is of this country.")
        })?;
        values.insert("phone", canonical);
    }
    if let Some(status) = &patch.status {
        values.insert("status", Status::settable(status.trim())?.as_str().to_owned());
    }
    if let Some(notes) = patch.notes.as_deref().map(str::trim).filter(|n| !n.is_empty()) {
        if notes.chars().count() > LONGEST_TEXT {
            return Err(too_long("notes", LONGEST_TEXT));
        }
        values.insert("notes", notes.replace('\0', ""));
    }
    if let Some(preferences) = &patch.preferences {
        check_word("communication_method", preferences.communication_method.as_deref(), &["email", "phone", "text"])?;
        check_word("contact_frequency", preferences.contact_frequency.as_deref(), &["immediate", "daily", "weekly"])?;
        preferences.wishes.as_ref().map_or(Ok(()), super::enrichment::check)?;
    }
    Ok(Clean { values })
}

fn too_long(field: &str, most: usize) -> Fault {
    Fault::user(format!("`{field}` is longer than {most} characters")).hint("Shorten it.")
}

fn check_word(field: &str, word: Option<&str>, known: &[&str]) -> Result<()> {
    match word {
        Some(word) if !known.contains(&word) => {
            Err(Fault::user(format!("`preferences.{field}` is not a word that is known"))
                .hint(format!("Use one of {}.", known.join(", "))))
        }
        _ => Ok(()),
    }
}

/// Without control characters and what nobody sees, and with single blanks.
fn tidy(text: &str) -> String {
    let words = text.split(|c: char| c.is_whitespace() || c.is_control()).map(seen).filter(|w| !w.is_empty());
    words.collect::<Vec<_>>().join(" ")
}

/// What has no shape: soft hyphens, marks of direction, blanks that look like letters, and the like.
const UNSEEN: [std::ops::RangeInclusive<char>; 17] = [
    '\u{ad}'..='\u{ad}',
    '\u{61c}'..='\u{61c}',
    '\u{115f}'..='\u{1160}',
    '\u{180e}'..='\u{180e}',
    '\u{200b}'..='\u{200b}',
    '\u{200e}'..='\u{200f}',
    '\u{202a}'..='\u{202e}',
    '\u{2060}'..='\u{206f}',
    '\u{2800}'..='\u{2800}',
    '\u{3164}'..='\u{3164}',
    '\u{feff}'..='\u{feff}',
    '\u{ffa0}'..='\u{ffa0}',
    '\u{fff9}'..='\u{fffb}',
    '\u{1bca0}'..='\u{1bca3}',
    '\u{1d173}'..='\u{1d17a}',
    '\u{e0000}'..='\u{e001f}',
    '\u{e0080}'..='\u{e00ff}',
];

/// A word without characters that have no shape of their own: those that only steer how text is laid out could also stand a
/// name on its head, or be all there is of it. What joins letters or emoji, or makes one a variant, says something behind a
/// character that is seen.
fn seen(word: &str) -> String {
    let mut kept = String::with_capacity(word.len());
    for c in word.chars() {
        let unseen = UNSEEN.iter().any(|u| u.contains(&c));
        if !unseen && (!hangs(c) || !kept.is_empty()) {
            kept.push(c);
        }
    }
    let end = kept.trim_end_matches(joins).len();
    kept.truncate(end);
    kept
}

/// What joins two characters.
fn joins(c: char) -> bool {
    matches!(c, '\u{200c}' | '\u{200d}' | '\u{34f}')
}

/// What joins, or belongs to the character before it.
fn hangs(c: char) -> bool {
    let marks =
        ['\u{180b}'..='\u{180d}', '\u{fe00}'..='\u{fe0f}', '\u{e0020}'..='\u{e007f}', '\u{e0100}'..='\u{e01ef}'];
    joins(c) || marks.iter().any(|m| m.contains(&c))
}
