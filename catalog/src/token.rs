//! Access tokens of vendors that count how many of them they give.
//!
//! Some vendors give an account a handful of tokens a day and lock out whoever asks for more. So a token is kept outside
//! the connector, shared by everything that calls the account, and fetched by one caller at a time. A refusal is kept
//! too: nobody asks again before it is over.

use std::collections::HashMap;
use std::fmt::Debug;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, TimeDelta, Utc};
use secrecy::{ExposeSecret, SecretString};

use crate::{Blame, Clock, Fault, Result, Retry, SystemClock};

/// A token as the vendor gave it.
#[derive(Debug, Clone)]
pub struct Issued {
    /// The token.
    pub token: SecretString,
    /// How long it is good for.
    pub lifetime: Duration,
}

impl Issued {
    /// How long it is used: it is replaced ten minutes before its end, or a quarter of a short life before it.
    pub fn used_for(&self) -> Duration {
        self.lifetime.saturating_sub((self.lifetime / 4).min(Duration::from_secs(600)))
    }
}

/// Asks a vendor for a token, once: the keeper decides whether there is another try.
#[async_trait]
pub trait Issuer: Send + Sync {
    /// Fetches a new token.
    async fn issue(&self) -> Result<Issued>;

    /// Whether the vendor gives a few tokens only, so that one that is refused is not replaced whenever that happens.
    fn counted(&self) -> bool {
        true
    }
}

/// The keeper of tokens. One implementation lives in this process and serves one-off copies; the other lives in
/// PostgreSQL and is shared by every process on it.
#[async_trait]
pub trait Tokens: Send + Sync + Debug {
    /// The token of `key`, which names vendor and account and nothing secret; fetched from `issuer` when there is none or
    /// when it ends soon.
    ///
    /// `refused` is a token that the vendor has just refused. If another caller has replaced it since, that one is given.
    /// If not, it is replaced, but only once in [`REPLACE_EVERY`]: when fresh tokens are refused too, the token is not what
    /// is wrong.
    ///
    /// # Errors
    /// When the vendor gives no token, and from then on without asking it until the time it named is over.
    async fn get(&self, key: &str, refused: Option<&SecretString>, issuer: &dyn Issuer) -> Result<SecretString>;

    /// What is kept under a key, however old it is. Not for a key whose token is just being fetched by the caller.
    ///
    /// # Errors
    /// When it cannot be read.
    async fn kept(&self, key: &str) -> Result<Option<SecretString>>;

    /// Keeps a token in place of what was there. A refusal is forgotten: whoever brings a new token has mended its cause.
    ///
    /// # Errors
    /// When it cannot be kept.
    async fn keep(&self, key: &str, issued: &Issued) -> Result<()>;

    /// Forgets the tokens of a connection that its vendor does not let in any more, and, where connections have a ledger,
    /// stops it.
    ///
    /// # Errors
    /// When that cannot be written.
    async fn end(&self, connector: &str, connection: &str, reason: &str) -> Result<()>;
}

/// The key of a connection's access token.
pub fn key(connector: &str, connection: &str) -> String {
    format!("{connector}/connection/{connection}")
}

/// The key of what access tokens under another key are made of.
pub fn grant_key(key: &str) -> String {
    format!("{key}/grant")
}

/// How long after a refused token was replaced no other one is: four in a day, and one for the end of its life.
pub const REPLACE_EVERY: Duration = Duration::from_secs(6 * 3600);

/// What is known of one key.
#[derive(Debug, Clone, Default)]
pub struct Kept {
    /// The token.
    pub token: Option<SecretString>,
    /// When it is to be replaced.
    pub good_until: Option<DateTime<Utc>>,
    /// When a refused token was replaced last.
    pub replaced_at: Option<DateTime<Utc>>,
    /// Nobody asks before this.
    pub closed_until: Option<DateTime<Utc>>,
    /// Why: the fault of the last try.
    pub closed_because: Option<String>,
    /// Whether the operator has to act on it.
    pub closed_by_user: bool,
}

impl Kept {
    /// A token that somebody brought.
    pub fn given(issued: &Issued, now: DateTime<Utc>) -> Self {
        let mut kept = Self::default();
        kept.learn(None, &Ok(issued.clone()), now);
        kept
    }

    /// What to do for a caller: give a token, refuse, or (`None`) ask the vendor.
    pub fn decide(&self, refused: Option<&SecretString>, now: DateTime<Utc>) -> Option<Result<SecretString>> {
        let same = |a: &SecretString, b: &SecretString| a.expose_secret() == b.expose_secret();
        let token = self.token.as_ref();
        let is_refused = matches!((token, refused), (Some(kept), Some(refused)) if same(kept, refused));
        if let Some(token) = token
            && !is_refused
            && self.good_until.is_some_and(|until| now < until)
        {
            return Some(Ok(token.clone()));
        }
        if is_refused && self.replaced_at.is_some_and(|at| (now - at).to_std().unwrap_or_default() < REPLACE_EVERY) {
            return Some(Err(Fault::user("the vendor refuses a token that it gave not long ago")
                .hint("Check that the account may use this part of the vendor's API.")));
        }
        let left = (self.closed_until? - now).to_std().ok().filter(|left| !left.is_zero())?;
        let text = self.closed_because.clone().unwrap_or_else(|| "the vendor gives no token for now".to_owned());
        let blame = if self.closed_by_user { Blame::User } else { Blame::Remote };
        Some(Err(Fault::new(blame, Retry::After(left), text)
            .hint(format!("It is asked again in {} s, so that the account is not locked.", left.as_secs() + 1))))
    }

    /// Takes in what the vendor answered.
    pub fn learn(&mut self, refused: Option<&SecretString>, issued: &Result<Issued>, now: DateTime<Utc>) {
        let after = |d: Duration| now + TimeDelta::from_std(d).unwrap_or(TimeDelta::days(1));
        match issued {
            Ok(issued) => {
                if refused.is_some() && self.token.is_some() {
                    self.replaced_at = Some(now);
                }
                self.token = Some(issued.token.clone());
                self.good_until = Some(after(issued.used_for()));
                (self.closed_until, self.closed_because, self.closed_by_user) = (None, None, false);
            }
            Err(fault) => {
                let wait = match fault.retry {
                    Retry::After(wait) => wait,
                    Retry::Backoff => Duration::from_secs(30),
                    Retry::Never => Duration::from_secs(900),
                };
                self.closed_until = Some(after(wait));
                self.closed_because = Some(fault.message.to_string());
                self.closed_by_user = fault.blame == Blame::User;
            }
        }
    }
}

type Slot = Arc<futures::lock::Mutex<Kept>>;

/// Keeps tokens for this process alone, in memory.
#[derive(Debug)]
pub struct LocalTokens {
    clock: Arc<dyn Clock>,
    kept: std::sync::Mutex<HashMap<String, Slot>>,
}

impl LocalTokens {
    /// A keeper on this clock.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, kept: std::sync::Mutex::default() }
    }

    fn slot(&self, key: &str) -> Slot {
        let mut all = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        all.entry(key.to_owned()).or_default().clone()
    }
}

impl Default for LocalTokens {
    fn default() -> Self {
        Self::new(Arc::new(SystemClock))
    }
}

#[async_trait]
impl Tokens for LocalTokens {
    async fn get(&self, key: &str, refused: Option<&SecretString>, issuer: &dyn Issuer) -> Result<SecretString> {
        let slot = self.slot(key);
        // The lock is held while the vendor is asked: callers behind it find what it gave.
        let mut kept = slot.lock().await;
        kept.replaced_at = kept.replaced_at.filter(|_| issuer.counted());
        if let Some(decided) = kept.decide(refused, self.clock.now()) {
            return decided;
        }
        let issued = issuer.issue().await;
        kept.learn(refused, &issued, self.clock.now());
        issued.map(|issued| issued.token)
    }

    async fn kept(&self, key: &str) -> Result<Option<SecretString>> {
        Ok(self.slot(key).lock().await.token.clone())
    }

    async fn keep(&self, key: &str, issued: &Issued) -> Result<()> {
        *self.slot(key).lock().await = Kept::given(issued, self.clock.now());
        Ok(())
    }

    async fn end(&self, connector: &str, connection: &str, _: &str) -> Result<()> {
        let key = key(connector, connection);
        let mut all = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        all.remove(&grant_key(&key));
        all.remove(&key);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(secs: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(1_790_000_000 + secs, 0).unwrap_or_default()
    }

    fn issued(token: &str) -> Result<Issued> {
        Ok(Issued { token: token.to_owned().into(), lifetime: Duration::from_secs(86_400) })
    }

    fn given(kept: &Kept, refused: Option<&str>, now: i64) -> Option<Result<String, Blame>> {
        let refused = refused.map(|t| SecretString::from(t.to_owned()));
        let decided = kept.decide(refused.as_ref(), at(now))?;
        Some(decided.map(|t| t.expose_secret().to_owned()).map_err(|f| f.blame))
    }

    #[test]
    fn a_token_is_kept_replaced_once_and_a_refusal_is_remembered() {
        let mut kept = Kept::default();
        assert!(given(&kept, None, 0).is_none(), "there is none yet");
        kept.learn(None, &issued("a"), at(0));
        assert_eq!(given(&kept, None, 80_000), Some(Ok("a".to_owned())));
        assert!(given(&kept, None, 85_801).is_none(), "it ends in less than ten minutes");
        // Someone holds a token that was replaced: no new one is needed.
        assert_eq!(given(&kept, Some("older"), 10), Some(Ok("a".to_owned())));
        assert!(given(&kept, Some("a"), 10).is_none());
        kept.learn(Some(&"a".to_owned().into()), &issued("b"), at(10));
        assert_eq!(given(&kept, Some("a"), 11), Some(Ok("b".to_owned())));
        assert_eq!(given(&kept, Some("b"), 11), Some(Err(Blame::User)), "fresh tokens are refused too");
        assert!(given(&kept, Some("b"), 10 + 6 * 3600).is_none());
        let wait = Fault::remote("no more tokens").retry(Retry::After(Duration::from_secs(3600)));
        kept.learn(Some(&"b".to_owned().into()), &Err(wait), at(30_000));
        assert_eq!(given(&kept, Some("b"), 33_000), Some(Err(Blame::Remote)));
        assert!(given(&kept, Some("b"), 33_601).is_none());
    }

    #[test]
    fn a_short_lived_token_is_used_most_of_its_life() {
        let issued = Issued { token: "t".to_owned().into(), lifetime: Duration::from_secs(400) };
        assert_eq!(issued.used_for(), Duration::from_secs(300));
        assert!(!format!("{issued:?}").contains("\"t\""));
    }
}
