//! Couriers that reach people: [`email`], [`slack`], [`sms`] and [`in_app`].
//!
//! A message's payload is a [`Notice`], its text ready to be read. What a courier can make of the message's dedupe key so
//! that a repetition is known as one, it does: a `Message-ID`, an idempotency key, a unique row. No fault names a person.

pub mod email;
pub mod in_app;
pub mod slack;
pub mod sms;

use catalog::store::outbox::Message;
use catalog::{Fault, Result};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// The kind of every message that these couriers carry.
pub const KIND: &str = "notice";

/// What is said to whom.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Notice {
    /// The side that is told: `guest`, `owner` or `staff`.
    pub audience: String,
    /// The address in the courier's terms: an e-mail address, a phone in E.164, the id of an owner or of staff. Without
    /// one it goes to the whole audience, where the courier can do that.
    #[serde(default)]
    pub to: Option<String>,
    /// The property that it is about.
    #[serde(default)]
    pub property_id: Option<String>,
    /// One line.
    pub subject: String,
    /// The text, plain.
    pub text: String,
}

impl std::fmt::Debug for Notice {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Notice(to {})", self.audience)
    }
}

/// The notice of a message.
///
/// # Errors
/// When the message is of another kind.
fn notice(message: &Message, courier: &str) -> Result<Notice> {
    if message.kind != KIND {
        return Err(Fault::us(format!("`{courier}` carries no `{}`", message.kind)));
    }
    // The decoder's own words may repeat a value.
    serde_json::from_value(message.payload.clone())
        .map_err(|_| Fault::us(format!("message {} is no notice", message.id)))
}

/// The address of a notice.
fn address_of(notice: &Notice) -> Result<&str> {
    let to = notice.to.as_deref().map(str::trim).filter(|to| !to.is_empty());
    to.ok_or_else(|| Fault::user("the message has no address").hint("Add one to whom it is for, then replay it."))
}

/// A message's key in a form that every protocol can carry, and that says nothing.
fn key(message: &Message) -> String {
    Sha256::digest(&message.dedupe_key).iter().take(16).fold(String::new(), |text, byte| format!("{text}{byte:02x}"))
}
