//! Who asks, and what they may: API keys with roles and properties.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::extract::FromRequestParts;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use catalog::store::keys::{self, ApiKey};
use catalog::{Clock, Fault};
use http::header::AUTHORIZATION;
use http::request::Parts;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use sqlx::PgPool;
use uuid::Uuid;

use super::error::{Kind, Problem, Result};

/// How long a key that was looked up is used: a revoked one works for this much longer at the most.
pub const KEY_KEPT: Duration = Duration::from_secs(5);
/// How many characters of a key find it.
const PREFIX_CHARS: usize = 11;
/// Keys that are remembered.
const REMEMBERED: usize = 10_000;
/// How often the use of a key is noted.
const USE_NOTED: Duration = Duration::from_secs(60);

/// What a key is for.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema, clap::ValueEnum,
)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// The leasing chatbot.
    Chatbot,
    /// Who runs propflow.
    Operator,
    /// Who asks questions of the data.
    Analyst,
    /// The owner of properties.
    Owner,
    /// Who works on site.
    Staff,
    /// A system that relays events.
    Webhook,
}

impl Role {
    /// All of them.
    pub const ALL: [Role; 6] = [Role::Chatbot, Role::Operator, Role::Analyst, Role::Owner, Role::Staff, Role::Webhook];

    /// The stored word.
    pub fn as_str(self) -> &'static str {
        match self {
            Role::Chatbot => "chatbot",
            Role::Operator => "operator",
            Role::Analyst => "analyst",
            Role::Owner => "owner",
            Role::Staff => "staff",
            Role::Webhook => "webhook",
        }
    }

    fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|r| r.as_str() == text)
    }
}

/// Who asks. Handlers behind a rule with roles take it as an argument.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// The key's id.
    pub key: Uuid,
    /// What people call the key: the actor of audit entries.
    pub name: String,
    /// What it may do.
    pub roles: Vec<Role>,
    /// The properties that it may do it for; `None` for all.
    pub properties: Option<Vec<String>>,
}

impl Caller {
    /// Whether it has one of these roles.
    pub fn is_any(&self, roles: &[Role]) -> bool {
        self.roles.iter().any(|r| roles.contains(r))
    }

    /// Whether it may see a property.
    pub fn sees(&self, property: &str) -> bool {
        self.properties.as_ref().is_none_or(|own| own.iter().any(|p| p == property))
    }

    /// Lets only those through who may act for a property.
    ///
    /// # Errors
    /// Not found, and not forbidden: whether a property exists is no business of a stranger.
    pub fn property(&self, property: &str) -> Result<()> {
        if self.sees(property) { Ok(()) } else { Err(Problem::not_found("there is no such property")) }
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self> {
        let caller = parts.extensions.get::<Arc<Caller>>();
        caller
            .map(|c| (**c).clone())
            .ok_or_else(|| Problem::new(Kind::Unauthenticated, "this endpoint needs an API key"))
    }
}

/// A key that was made. Its text is shown once and kept nowhere.
#[derive(Debug)]
pub struct Made {
    /// What is kept of it.
    pub kept: ApiKey,
    /// The key.
    pub text: String,
}

/// Makes a key: `pf_`, eight characters by which it is found, and 256 random bits.
pub fn make(name: String, roles: &[Role], properties: Option<Vec<String>>, clock: &dyn Clock) -> Made {
    let [found, high, low] = [(); 3].map(|()| Uuid::new_v4().into_bytes());
    let prefix = format!("pf_{:02x}{:02x}{:02x}{:02x}", found[0], found[1], found[2], found[3]);
    // A version 4 UUID holds 122 random bits; the hash spreads those of both.
    let secret = Sha256::new().chain_update(high).chain_update(low).chain_update(found).finalize();
    let text = format!("{prefix}_{}", URL_SAFE_NO_PAD.encode(secret));
    let kept = ApiKey {
        id: Uuid::now_v7(),
        name,
        hash: Sha256::digest(text.as_bytes()).to_vec(),
        prefix,
        roles: roles.iter().map(|r| r.as_str().to_owned()).collect(),
        properties,
        last_used_at: None,
        revoked_at: None,
        created_at: clock.now(),
    };
    Made { kept, text }
}

#[derive(Debug, Clone)]
struct Remembered {
    caller: Option<Arc<Caller>>,
    at: Instant,
    noted: Option<Instant>,
}

/// The keys that were looked up lately.
#[derive(Debug)]
pub struct KeyRing {
    pool: PgPool,
    clock: Arc<dyn Clock>,
    /// By hash, so that no key is held in memory.
    known: Mutex<HashMap<[u8; 32], Remembered>>,
}

impl KeyRing {
    /// The keys of a database.
    pub fn new(pool: PgPool, clock: Arc<dyn Clock>) -> Self {
        Self { pool, clock, known: Mutex::default() }
    }

    /// Who asks, by the header `Authorization: Bearer KEY`.
    ///
    /// # Errors
    /// When there is no key, or none that is good.
    pub async fn caller(&self, headers: &http::HeaderMap) -> Result<Arc<Caller>> {
        let wrong = |text: &str| {
            Problem::new(Kind::Unauthenticated, text)
                .hint("Send `Authorization: Bearer KEY`; `propflow keys create` makes keys.")
        };
        let key = headers
            .get(AUTHORIZATION)
            .ok_or_else(|| wrong("this endpoint needs an API key"))?
            .to_str()
            .ok()
            .and_then(|value| value.split_once(' '))
            .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
            .map(|(_, key)| key.trim())
            .ok_or_else(|| wrong("the header `Authorization` holds no bearer key"))?;
        let hash: [u8; 32] = Sha256::digest(key.as_bytes()).into();
        let remembered = self.known.lock().unwrap_or_else(PoisonError::into_inner).get(&hash).cloned();
        let (caller, noted) = match remembered {
            Some(known) if known.at.elapsed() < KEY_KEPT => (known.caller, known.noted),
            before => {
                let caller = self.look_up(key, &hash).await?;
                let noted = before.and_then(|b| b.noted);
                self.remember(hash, Remembered { caller: caller.clone(), at: Instant::now(), noted });
                (caller, noted)
            }
        };
        let caller = caller.ok_or_else(|| wrong("the API key is unknown or revoked"))?;
        if noted.is_none_or(|at| at.elapsed() > USE_NOTED) {
            if let Some(known) = self.known.lock().unwrap_or_else(PoisonError::into_inner).get_mut(&hash) {
                known.noted = Some(Instant::now());
            }
            keys::used(&self.pool, caller.key, self.clock.now()).await?;
        }
        Ok(caller)
    }

    async fn look_up(&self, key: &str, hash: &[u8; 32]) -> Result<Option<Arc<Caller>>, Fault> {
        let found = key.split_at_checked(PREFIX_CHARS).filter(|(_, secret)| secret.starts_with('_'));
        let Some((prefix, _)) = found else { return Ok(None) };
        let Some(kept) = keys::find(&self.pool, prefix).await? else { return Ok(None) };
        // Every byte is compared, so that the answer's time tells nothing.
        let differs = kept.hash.iter().zip(hash).fold(0, |d, (a, b)| d | (a ^ b));
        if differs != 0 || kept.hash.len() != hash.len() || kept.revoked_at.is_some() {
            return Ok(None);
        }
        let roles = kept.roles.iter().filter_map(|r| Role::parse(r)).collect();
        Ok(Some(Arc::new(Caller { key: kept.id, name: kept.name, roles, properties: kept.properties })))
    }

    fn remember(&self, hash: [u8; 32], entry: Remembered) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= REMEMBERED {
            known.clear();
        }
        known.insert(hash, entry);
    }
}
