//! The one error type that crosses crate borders.

use std::borrow::Cow;
use std::error::Error as StdError;
use std::fmt;
use std::time::Duration;

/// The result of anything that can fail with a [`Fault`].
pub type Result<T, E = Fault> = std::result::Result<T, E>;

/// Who has to act for the fault to go away.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Blame {
    /// The person who runs propflow: a wrong setting, missing credentials, an unwritable folder.
    User,
    /// A system outside: it is down, it is slow, it answered nonsense.
    Remote,
    /// propflow itself: a bug.
    Us,
}

/// What a caller may do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retry {
    /// Trying again gives the same answer.
    Never,
    /// Trying again later may help; the caller chooses when.
    Backoff,
    /// The other side said when to come back.
    After(Duration),
}

/// A failure that says whose it is, what to do next, and in plain words what happened.
///
/// `message` is a lower-case clause without a full stop, since it gets joined to others: what, and where. `hint` is the
/// next step as a sentence of its own. Neither ever holds a secret, a response body or personal data.
pub struct Fault {
    /// Who has to act.
    pub blame: Blame,
    /// Whether trying again can help.
    pub retry: Retry,
    /// What happened and where.
    pub message: Cow<'static, str>,
    /// What to do next, if we know.
    pub hint: Option<Cow<'static, str>>,
    /// The cause below, for the log.
    pub source: Option<Box<dyn StdError + Send + Sync>>,
}

impl Fault {
    /// A fault with its blame and retry rule.
    pub fn new(blame: Blame, retry: Retry, message: impl Into<Cow<'static, str>>) -> Self {
        Self { blame, retry, message: message.into(), hint: None, source: None }
    }

    /// The user has to change something; trying again is useless.
    pub fn user(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Blame::User, Retry::Never, message)
    }

    /// The other side failed; it may work later.
    pub fn remote(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Blame::Remote, Retry::Backoff, message)
    }

    /// A bug of ours.
    pub fn us(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Blame::Us, Retry::Never, message)
    }

    /// Adds the next step.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<Cow<'static, str>>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Adds the cause.
    #[must_use]
    pub fn because(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// Replaces the retry rule.
    #[must_use]
    pub fn retry(mut self, retry: Retry) -> Self {
        self.retry = retry;
        self
    }

    /// Puts the place in front of the message: `property Harbor: the feed ends early`.
    #[must_use]
    pub fn at(mut self, place: impl fmt::Display) -> Self {
        self.message = Cow::Owned(format!("{place}: {}", self.message));
        self
    }

    /// Whether a later try may succeed.
    pub fn is_retryable(&self) -> bool {
        self.retry != Retry::Never
    }

    /// The message followed by the causes below it, each once, joined by colons.
    pub fn chain(&self) -> String {
        let mut text = self.message.to_string();
        let mut cause = self.source.as_deref().map(|e| e as &dyn StdError);
        while let Some(error) = cause {
            let part = error.to_string();
            if !text.contains(&part) {
                text.push_str(": ");
                text.push_str(&part);
            }
            cause = error.source();
        }
        text
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl fmt::Debug for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}/{:?}: {}", self.blame, self.retry, self.chain())
    }
}

impl StdError for Fault {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source.as_deref().map(|e| e as &(dyn StdError + 'static))
    }
}

impl From<arrow::error::ArrowError> for Fault {
    /// Arrow errors that reach this far are ours: user data was checked before.
    fn from(error: arrow::error::ArrowError) -> Self {
        Fault::us("a batch could not be built").because(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chain_names_each_cause_once() {
        let inner = Fault::remote("connection refused");
        let fault = Fault::remote("cannot reach `units`").because(inner).at("property 7");
        assert_eq!(fault.chain(), "property 7: cannot reach `units`: connection refused");
        assert_eq!(fault.to_string(), "property 7: cannot reach `units`");
    }
}
