//! What everyone who carries messages out promises.

use async_trait::async_trait;
use catalog::Result;
use catalog::store::outbox::Message;
use serde_json::Value;

/// Someone who brings a message of the outbox to a system outside or to a person.
///
/// A message is delivered at least once: the process may die between the delivery and the note of it. A courier whose
/// other side would take a repetition for a second deed looks first whether the deed is done.
#[async_trait]
pub trait Courier: Send + Sync {
    /// Proves that the other side can be reached with these settings, without delivering anything.
    async fn check(&self) -> Result<()>;

    /// What the other side holds now of whom or what a message is about, the likeliest first, asked right before it is
    /// delivered: whoever composes messages can leave out what holds no more. `None` where that makes no difference.
    ///
    /// # Errors
    /// As of [`Self::deliver`].
    async fn look(&self, message: &Message) -> Result<Option<Vec<Value>>> {
        let _ = message;
        Ok(None)
    }

    /// Delivers a message. Gives what the other side answered, such as ids; it is kept with the message.
    ///
    /// # Errors
    /// A fault that can be retried parks the message and its lane; any other ends the message, with the reason on record.
    async fn deliver(&self, message: &Message) -> Result<Option<Value>>;
}
