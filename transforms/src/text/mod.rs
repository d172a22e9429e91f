//! What a conversation says about the person who wants to rent: summary, topics, mood, habits and wishes.
//!
//! [`Enricher`] is the promise; [`Embedded`] keeps it without a network, a model file or a clock, by rules over words and
//! numbers. It reads English. Words of the other side (the chatbot, the office) are no wishes of the renter: they say what an
//! answer is about, and become wishes only when the renter confirms them. What is said later corrects what was said before.

mod dates;
mod embedded;
mod extras;
mod money;
mod mood;
mod pattern;
mod places;
mod rooms;
mod summary;
mod tokens;
mod topics;
mod wishes;

use std::collections::BTreeMap;

use async_trait::async_trait;
use catalog::Result;
use chrono::{DateTime, NaiveDate, NaiveTime, Utc};
use chrono_tz::Tz;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use embedded::Embedded;
pub use mood::sentiment;
pub use pattern::pattern;
pub use topics::key_topics;

/// Who said something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// The person who wants to rent.
    Renter,
    /// The chatbot or someone of the team.
    Agent,
}

/// One message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Who said it.
    pub role: Role,
    /// When. Without it, days such as "next Friday" are found and not resolved.
    pub at: Option<DateTime<Utc>>,
    /// The words.
    pub text: String,
}

/// Messages in their order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Conversation {
    /// The messages.
    pub messages: Vec<Message>,
    /// Where the renter looks at a calendar; UTC if nobody knows.
    pub zone: Option<Tz>,
}

/// A wish, with the words that it was read from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Found<T> {
    /// What is wished.
    pub value: T,
    /// The message that says so, counted from 0.
    pub message: usize,
    /// The words that say so.
    pub words: String,
    /// How sure that is, 0 to 1.
    pub confidence: f64,
}

/// A number or a range of numbers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Span {
    /// The least.
    pub min: Option<f64>,
    /// The most.
    pub max: Option<f64>,
}

impl Span {
    fn just(n: f64) -> Self {
        Self { min: Some(n), max: Some(n) }
    }
}

/// A day, or the first and last of several.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Days {
    /// The first day; null when nobody knows the day of the message.
    #[schemars(with = "Option<String>")]
    pub from: Option<NaiveDate>,
    /// The last day.
    #[schemars(with = "Option<String>")]
    pub to: Option<NaiveDate>,
}

/// Rent per month.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Budget {
    /// The least.
    pub min: Option<f64>,
    /// The most.
    pub max: Option<f64>,
    /// ISO 4217 code, where one was named.
    pub currency: Option<String>,
}

/// Animals.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Pets {
    /// Whether there are any.
    pub has: bool,
    /// How many of which kind: `dog`, `cat`, `bird`, …; 0 is "some".
    pub kinds: BTreeMap<String, u32>,
}

/// A visit that was asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Tour {
    /// The first day that was named.
    #[schemars(with = "Option<String>")]
    pub from: Option<NaiveDate>,
    /// The last one.
    #[schemars(with = "Option<String>")]
    pub to: Option<NaiveDate>,
    /// The time of day.
    #[schemars(with = "Option<String>")]
    pub time: Option<NaiveTime>,
    /// `morning`, `afternoon` or `evening`.
    pub part: Option<String>,
    /// The words for the day, as they were written.
    pub day_words: Option<String>,
    /// Whether it was called off.
    pub off: bool,
}

/// Something that the home has to have, or must not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Amenity {
    /// Its name: `balcony`, `elevator`, `in_unit_laundry`, …
    pub name: String,
    /// Whether it is wanted; false: not needed or not wanted.
    pub wanted: bool,
}

/// Rent or buy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Intent {
    /// To rent.
    Rent,
    /// To buy.
    Buy,
}

/// What the renter wants. What was not said is absent.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Wishes {
    /// Rent or buy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub intent: Option<Found<Intent>>,
    /// When they want to move in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub move_in: Option<Found<Days>>,
    /// What they want to pay a month.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub budget: Option<Found<Budget>>,
    /// Bedrooms; a studio has 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bedrooms: Option<Found<Span>>,
    /// Bathrooms; one without a bath is a half.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bathrooms: Option<Found<Span>>,
    /// The size in square feet.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub square_feet: Option<Found<Span>>,
    /// The floor.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub floor: Option<Found<Span>>,
    /// Animals.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pets: Option<Found<Pets>>,
    /// Months of the lease.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lease_months: Option<Found<u32>>,
    /// A visit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tour: Option<Found<Tour>>,
    /// Towns and quarters.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub areas: Vec<Found<String>>,
    /// What it should be close to.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub near: Vec<Found<String>>,
    /// What the home should have.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub amenities: Vec<Found<Amenity>>,
    /// E-mail addresses in canonical form.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub emails: Vec<Found<String>>,
    /// Phones in E.164.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub phones: Vec<Found<String>>,
}

/// What was talked about.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Topic {
    /// Its name, such as `pricing`.
    pub topic: String,
    /// How often it was mentioned by the renter.
    pub count: u32,
    /// Its part of all mentions, 0 to 1.
    pub weight: f64,
}

/// The renter's mood.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Sentiment {
    /// −1 to 1.
    pub score: f64,
    /// `negative`, `neutral` or `positive`.
    pub label: String,
}

impl Sentiment {
    /// The sentiment of a score.
    pub fn of(score: f64) -> Self {
        let label = match score {
            s if s >= 0.15 => "positive",
            s if s <= -0.15 => "negative",
            _ => "neutral",
        };
        Self { score: (score * 1_000.0).round() / 1_000.0, label: label.to_owned() }
    }
}

/// What was read out of the words.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Reading {
    /// A few sentences.
    pub conversation_summary: String,
    /// What was talked about, the most frequent first.
    pub key_topics: Vec<Topic>,
    /// The mood.
    pub sentiment_analysis: Sentiment,
    /// The wishes.
    #[serde(default)]
    pub preferences_extracted: Wishes,
}

/// How the conversation went.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Pattern {
    /// Messages of both sides.
    pub messages: usize,
    /// Those of the renter.
    pub renter_messages: usize,
    /// Changes of the speaker, and one.
    pub turns: usize,
    /// Questions that the renter asked.
    pub questions: usize,
    /// Words in a message of the renter, on average.
    pub words_per_message: f64,
    /// Seconds from the first message to the last.
    pub span_secs: Option<i64>,
    /// The median of the seconds until the renter answered.
    pub renter_reply_secs: Option<i64>,
    /// The median of the seconds until the renter was answered.
    pub agent_reply_secs: Option<i64>,
    /// The renter's messages by hour of the day, on the property's clocks.
    pub hours: BTreeMap<u32, u32>,
    /// Whether the last word was the renter's.
    pub awaits_answer: bool,
}

/// What an enricher makes of a conversation.
#[derive(Debug, Clone, PartialEq)]
pub struct Enrichment {
    /// What was read out of the words.
    pub reading: Reading,
    /// How it went.
    pub pattern: Pattern,
    /// Who read it: `embedded`, or the name of the model.
    pub reader: String,
    /// Why another reader than the one that was asked for did it.
    pub fallback: Option<String>,
}

/// Reads conversations.
#[async_trait]
pub trait Enricher: std::fmt::Debug + Send + Sync {
    /// Reads one. The same conversation may be read again; nothing outside may change by it.
    ///
    /// # Errors
    /// When nothing could be read at all. A fault names no words of the conversation.
    async fn enrich(&self, conversation: &Conversation) -> Result<Enrichment>;
}

impl Conversation {
    /// The day of a message on the property's calendar.
    fn day(&self, message: &Message) -> Option<NaiveDate> {
        let at = message.at?;
        Some(self.zone.map_or_else(|| at.date_naive(), |zone| at.with_timezone(&zone).date_naive()))
    }
}
