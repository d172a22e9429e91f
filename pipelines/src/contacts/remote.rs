//! A model behind an OpenAI-compatible address reads conversations; the embedded reader does when it fails.
//!
//! What is sent: the role, time and whole text of every message, unredacted, and nothing else of the contact. Switch it on only
//! where that may go there.

use async_trait::async_trait;
use catalog::http::{Client, Limits, account, address};
use catalog::{Env, Fault, Result, SecretRef};
use schemars::{JsonSchema, schema_for};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use serde_json::{Value, json};
use transforms::text::{Conversation, Embedded, Enricher, Enrichment, Reading, Role, Sentiment, Wishes, pattern};
use url::Url;

/// How the model is reached.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The address in front of `/chat/completions`, such as `http://localhost:11434/v1`.
    pub url: String,
    /// The model's name.
    pub model: String,
    /// The key, by reference; a model on one's own machine may need none.
    #[serde(default)]
    pub api_key: Option<SecretRef>,
    /// Seconds until the embedded reader takes over.
    #[serde(default = "timeout_secs")]
    pub timeout_secs: u64,
    /// The most that the model may write, in tokens.
    #[serde(default = "max_tokens")]
    pub max_tokens: u32,
}

fn timeout_secs() -> u64 {
    30
}

fn max_tokens() -> u32 {
    2_000
}

/// The longest answer that is read.
const MOST_BYTES: usize = 256 << 10;
/// The longest summary that is kept, in characters.
const LONGEST_SUMMARY: usize = 2_000;

/// The reader that the environment names: `PROPFLOW_ENRICHER_URL` and `PROPFLOW_ENRICHER_MODEL` for a model, with
/// `PROPFLOW_ENRICHER_KEY` (a reference), `PROPFLOW_ENRICHER_TIMEOUT_SECS` and `PROPFLOW_ENRICHER_MAX_TOKENS`; the embedded one
/// without them.
///
/// # Errors
/// When what is named is not complete or not valid.
pub fn from_environment(env: &Env, get: impl Fn(&str) -> Option<String>) -> Result<Box<dyn Enricher>> {
    let get = |name: &str| get(name).filter(|v| !v.trim().is_empty());
    let Some(url) = get("PROPFLOW_ENRICHER_URL") else { return Ok(Box::new(Embedded::default())) };
    let model = get("PROPFLOW_ENRICHER_MODEL").ok_or_else(|| {
        Fault::user("`PROPFLOW_ENRICHER_URL` is set without `PROPFLOW_ENRICHER_MODEL`").hint("Name the model.")
    })?;
    let number = |name: &'static str| -> Result<Option<u64>> {
        let Some(text) = get(name) else { return Ok(None) };
        let parsed = text.trim().parse().ok().filter(|n| (1..=300_000).contains(n));
        parsed.map(Some).ok_or_else(|| Fault::user(format!("`{name}` is not a whole number from 1 on")))
    };
    let config = Config {
        url,
        model,
        api_key: get("PROPFLOW_ENRICHER_KEY").map(|k| SecretRef::parse(&k)).transpose()?,
        timeout_secs: number("PROPFLOW_ENRICHER_TIMEOUT_SECS")?.unwrap_or_else(timeout_secs).min(540),
        max_tokens: number("PROPFLOW_ENRICHER_MAX_TOKENS")?
            .and_then(|n| u32::try_from(n).ok())
            .unwrap_or_else(max_tokens),
    };
    Ok(Box::new(Remote::open(config, env)?))
}

/// A model far away, with the embedded reader behind it.
#[derive(Debug)]
pub struct Remote {
    client: Client,
    url: Url,
    key: Option<SecretString>,
    config: Config,
    embedded: Embedded,
}

impl Remote {
    /// Opens it; nothing is called yet.
    ///
    /// # Errors
    /// When the address is none or the key cannot be read.
    pub fn open(config: Config, env: &Env) -> Result<Self> {
        let url = address("url", &format!("{}/chat/completions", config.url.trim_end_matches('/')))?;
        let key = config.api_key.as_ref().map(SecretRef::resolve).transpose()?;
        let limits = Limits {
            calls_per_sec: 5,
            burst: 5,
            parallel: 2,
            timeout_secs: config.timeout_secs,
            // The embedded reader is there at once: trying again would only hold the others up.
            attempts: 1,
            max_body_bytes: MOST_BYTES,
            ..Limits::default()
        };
        let counted = key.clone().unwrap_or_else(|| SecretString::from(config.url.clone()));
        let client = Client::new(&account("enricher", &counted), env, limits)?;
        Ok(Self { client, url, key, config, embedded: Embedded::default() })
    }

    async fn ask(&self, conversation: &Conversation) -> Result<Reading> {
        let said: Vec<Value> = conversation
            .messages
            .iter()
            .enumerate()
            .map(|(n, m)| json!({ "message": n, "role": m.role, "at": m.at, "text": m.text }))
            .collect();
        let schema = schema_for!(Reading);
        let body = json!({
            "model": self.config.model,
            "temperature": 0,
            "max_tokens": self.config.max_tokens,
            "messages": [
                { "role": "system", "content": TASK },
                { "role": "user", "content": json!({ "time_zone": conversation.zone.map(|z| z.name()), "messages": said }).to_string() },
            ],
            "response_format": { "type": "json_schema", "json_schema": { "name": "reading", "schema": schema } },
        });
        let mut request = self.client.request(http::Method::POST, self.url.clone()).json(&body);
        if let Some(key) = &self.key {
            request = request.bearer_auth(key.expose_secret());
        }
        let answer = self.client.call(request).await.map_err(Fault::from)?;
        // What is wrong with an answer is said without any of its words.
        let wrong = || Fault::remote("the model's answer has not the form that was asked for");
        let answer: Value = serde_json::from_slice(&answer.body).map_err(|_| wrong())?;
        let content = answer["choices"][0]["message"]["content"].as_str().ok_or_else(wrong)?;
        let reading: Reading = serde_json::from_str(content).map_err(|_| wrong())?;
        let mut reading = checked(reading, conversation.messages.len()).ok_or_else(wrong)?;
        keep_said(&mut reading.preferences_extracted, conversation);
        Ok(reading)
    }
}

const TASK: &str = "You read a conversation of a person who looks for a home with a leasing chatbot. Answer with JSON of the given \
    schema and nothing else. Take wishes only from messages of the role `renter`, or from what the renter confirms; later words \
    correct earlier ones; leave out what was not said. `message` is the number of the message that says it, `words` its words as they stand there. \
    Resolve days against the time of the message. A studio has 0 bedrooms.";

/// The reading, if it can be true of that many messages.
fn checked(mut reading: Reading, messages: usize) -> Option<Reading> {
    let found = serde_json::to_value(&reading.preferences_extracted).ok()?;
    let holds = |f: &Value| {
        f["message"].as_u64().is_some_and(|n| n < messages as u64)
            && f["confidence"].as_f64().is_some_and(|c| (0.0..=1.0).contains(&c))
    };
    let sound = found.as_object()?.values().all(|v| match v.as_array() {
        Some(list) => list.len() <= 50 && list.iter().all(holds),
        None => holds(v),
    });
    let mood = reading.sentiment_analysis.score;
    let topics = reading.key_topics.len() <= 50
        && reading.key_topics.iter().all(|t| (0.0..=1.0).contains(&t.weight) && t.topic.len() <= 100);
    if !sound
        || !topics
        || !(-1.0..=1.0).contains(&mood)
        || reading.conversation_summary.chars().count() > LONGEST_SUMMARY
    {
        return None;
    }
    reading.sentiment_analysis = Sentiment::of(mood);
    let bounded = |w: &Wishes| {
        let span = |s: Option<f64>| s.is_none_or(|n| (0.0..1e7).contains(&n));
        w.budget.as_ref().is_none_or(|b| span(b.value.min) && span(b.value.max))
            && w.bedrooms.as_ref().is_none_or(|b| span(b.value.min) && span(b.value.max))
    };
    bounded(&reading.preferences_extracted).then_some(reading)
}

/// Text as its words, so that case, marks and spaces make no difference.
fn words(text: &str) -> String {
    let plain = text.to_lowercase().replace(',', "");
    let words = plain.split(|c: char| !c.is_alphanumeric()).filter(|w| !w.is_empty());
    words.fold(" ".to_owned(), |all, word| all + word + " ")
}

/// Drops wishes whose words nobody said: a model may make them up. The words stand in the message that is named: one of the
/// renter's, or one that the renter answers.
fn keep_said(wishes: &mut Wishes, conversation: &Conversation) {
    let messages = &conversation.messages;
    let said = |at: usize, evidence: &str| {
        let theirs = |at: usize| messages.get(at).is_some_and(|m| m.role == Role::Renter);
        let evidence = words(evidence);
        !evidence.trim().is_empty()
            && (theirs(at) || theirs(at + 1))
            && messages.get(at).is_some_and(|m| words(&m.text).contains(&evidence))
    };
    macro_rules! keep {
        ($($single:ident),*; $($list:ident),*) => {
            $(wishes.$single = wishes.$single.take().filter(|f| said(f.message, &f.words));)*
            $(wishes.$list.retain(|f| said(f.message, &f.words));)*
        };
    }
    keep!(intent, move_in, budget, bedrooms, bathrooms, square_feet, floor, pets, lease_months, tour;
        areas, near, amenities, emails, phones);
}

#[async_trait]
impl Enricher for Remote {
    async fn enrich(&self, conversation: &Conversation) -> Result<Enrichment> {
        match self.ask(conversation).await {
            Ok(reading) => Ok(Enrichment {
                reading,
                pattern: pattern(conversation),
                reader: self.config.model.clone(),
                fallback: None,
            }),
            Err(fault) => {
                tracing::warn!(error = fault.chain(), "the model could not be asked; the embedded reader stands in");
                Ok(Enrichment { fallback: Some(fault.message.to_string()), ..self.embedded.read(conversation) })
            }
        }
    }
}
