//! Deliveries that vendors send by themselves: how they are checked and what they say.
//!
//! Whoever receives a delivery checks it with [`Webhook::verify`] over the body exactly as it came, keeps it, answers, and
//! only then asks [`Webhook::decode`] what it means. Most vendors' bodies are hints: `decode` names the objects, and they
//! are read again from the vendor.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::{LazyLock, Mutex, PoisonError};

use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use catalog::{Fault, Result, SecretRef};
use chrono::{DateTime, TimeDelta, Utc};
use hmac::{Hmac, KeyInit as _, Mac as _};
use http::{HeaderMap, header};
use secrecy::{ExposeSecret as _, SecretString};
use sha2::{Digest as _, Sha256};

use crate::source::Event;

/// A delivery as it came in.
#[derive(Debug, Clone)]
pub struct Delivery {
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body, untouched.
    pub body: Bytes,
    /// When it came.
    pub received_at: DateTime<Utc>,
}

/// A header that only the receiver sets: the event that the address itself names, at an endpoint per event.
pub const EVENT_HEADER: &str = "propflow-event";

/// Why a delivery is not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// Nothing proves who sent it, or the proof is wrong.
    #[error("{0}")]
    Unverified(Cow<'static, str>),
    /// Its sender is known, but it was signed too long ago or in the future.
    #[error("{0}")]
    Stale(Cow<'static, str>),
    /// It cannot be read.
    #[error("{0}")]
    Malformed(Cow<'static, str>),
}

/// What names a delivery, so that a repeated one is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The sender's id of this delivery, the same in every repetition; where the sender has none, a hash of the body.
    pub id: String,
    /// The vendor's word for what happened, such as `reservation.updated.v2`. Unknown words are kept as they are.
    pub event: String,
}

/// What a delivery says.
#[derive(Debug, Default)]
pub struct Decoded {
    /// Objects of [`Self::stream`] to be read again from the vendor.
    pub objects: Vec<String>,
    /// The stream that the objects and the rows belong to.
    pub stream: Cow<'static, str>,
    /// Rows that the delivery itself brings, when there is nothing to read again; no checkpoints.
    pub events: Vec<Event>,
    /// Why nothing of it is loaded, where that is worth knowing: a clause for the books.
    pub aside: Option<&'static str>,
    /// The vendor's customer has withdrawn the authorisation: the connection must stop and forget what its contract forbids
    /// to keep.
    pub revoked: bool,
}

/// How one connection's deliveries are checked and understood.
#[async_trait]
pub trait Webhook: Send + Sync {
    /// Checks the signature over the raw body first, then its age, so that a stranger learns nothing about the clock.
    ///
    /// # Errors
    /// [`Refused`]; the text is safe to show to the sender.
    fn verify(&self, delivery: &Delivery) -> Result<(), Refused>;

    /// What names this delivery. Called behind `verify`.
    ///
    /// # Errors
    /// [`Refused::Malformed`] when the body is not what this vendor sends at all.
    fn identify(&self, delivery: &Delivery) -> Result<Identity, Refused>;

    /// What it says. An event that is unknown or of no interest says nothing, which is no fault.
    ///
    /// # Errors
    /// When a known event lacks what it must have.
    fn decode(&self, delivery: &Delivery) -> Result<Decoded>;

    /// Fills in what these deliveries, in the order in which they came, leave open because it is stored or because one of
    /// them says it. Does nothing for vendors whose deliveries are whole, or are hints.
    ///
    /// # Errors
    /// When what is stored cannot be read.
    async fn complete(&self, said: &mut [(Delivery, Decoded)]) -> Result<()> {
        let _ = said;
        Ok(())
    }
}

/// The hash of a body in hexadecimal, for senders that give their deliveries no id.
pub fn body_id(body: &[u8]) -> String {
    Sha256::digest(body).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Signatures as in the Standard Webhooks specification, which Svix sends too: HMAC-SHA256 over `id.timestamp.body`, any
/// number of `v1,` entries, several live secrets while one is being replaced.
#[derive(Debug, Clone)]
pub struct Standard {
    secrets: Vec<SecretRef>,
}

/// How far a timestamp may lie from now, in seconds, by the specification.
pub const TOLERANCE_SECS: i64 = 300;

impl Standard {
    /// Accepts what any of these secrets signed: `whsec_` and the key in base64.
    pub fn new(secrets: Vec<SecretRef>) -> Self {
        Self { secrets }
    }

    /// Checks a delivery's signature, then its age.
    ///
    /// # Errors
    /// [`Refused::Unverified`] or, behind a sound signature, [`Refused::Stale`].
    pub fn verify(&self, delivery: &Delivery) -> Result<(), Refused> {
        let unverified = |text: &'static str| Refused::Unverified(Cow::Borrowed(text));
        let id = header(&delivery.headers, "id").ok_or_else(|| unverified("the header `webhook-id` is missing"))?;
        let timestamp = header(&delivery.headers, "timestamp")
            .ok_or_else(|| unverified("the header `webhook-timestamp` is missing"))?;
        let signatures = header(&delivery.headers, "signature")
            .ok_or_else(|| unverified("the header `webhook-signature` is missing"))?;
        let claimed: Vec<Vec<u8>> = signatures
            .split_ascii_whitespace()
            .filter_map(|entry| STANDARD.decode(entry.strip_prefix("v1,")?).ok())
            .collect();
        if claimed.is_empty() {
            return Err(unverified("the header `webhook-signature` has no `v1` signature"));
        }
        let mut signed = false;
        for secret in &self.secrets {
            let text = live(secret, delivery.received_at);
            let key = text.and_then(|text| key(secret, &text));
            let key = key.map_err(|_| unverified("this endpoint's signing secret cannot be read"))?;
            for claim in &claimed {
                let mac = mac(&key, id, timestamp, &delivery.body);
                // Every pair is compared, in constant time each, so that the answer's time tells nothing.
                signed |= mac.is_ok_and(|mac| mac.verify_slice(claim).is_ok());
            }
        }
        if !signed {
            return Err(unverified("the signature does not fit the body and the secret of this endpoint"));
        }
        let stale = |text: &'static str| Refused::Stale(Cow::Borrowed(text));
        let sent: i64 = timestamp.parse().map_err(|_| stale("`webhook-timestamp` is not a number of seconds"))?;
        if (delivery.received_at.timestamp().saturating_sub(sent)).saturating_abs() > TOLERANCE_SECS {
            return Err(stale("`webhook-timestamp` is more than five minutes away from now"));
        }
        Ok(())
    }

    /// When the sender says that it sent a delivery.
    pub fn sent_at(delivery: &Delivery) -> Option<DateTime<Utc>> {
        DateTime::from_timestamp(header(&delivery.headers, "timestamp")?.parse().ok()?, 0)
    }

    /// The sender's id of a delivery.
    pub fn id(delivery: &Delivery) -> Option<&str> {
        header(&delivery.headers, "id")
    }
}

/// Signs a body as a sender would: the value of `webhook-signature`.
///
/// # Errors
/// When the secret is not base64.
pub fn sign(secret: &SecretRef, id: &str, timestamp: i64, body: &[u8]) -> Result<String> {
    let mac = mac(&key(secret, &secret.resolve()?)?, id, &timestamp.to_string(), body)?;
    Ok(format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes())))
}

fn header<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    ["webhook", "svix"].iter().find_map(|brand| headers.get(format!("{brand}-{name}"))?.to_str().ok())
}

/// For how long a secret that was read is used. A new one is taken up this fast.
const SECRET_KEPT: TimeDelta = TimeDelta::seconds(5);

/// Secrets by their place, each with the time at which it was read.
type Live = HashMap<String, (DateTime<Utc>, SecretString)>;

static SECRETS: LazyLock<Mutex<Live>> = LazyLock::new(Mutex::default);

/// A secret as it was at most a few seconds ago: deliveries come by the thousand, and each would read a file otherwise.
fn live(secret: &SecretRef, now: DateTime<Utc>) -> Result<SecretString> {
    let place = secret.to_string();
    let known = SECRETS.lock().unwrap_or_else(PoisonError::into_inner).get(&place).cloned();
    if let Some((read_at, value)) = known
        && (now - read_at).abs() < SECRET_KEPT
    {
        return Ok(value);
    }
    let value = secret.resolve()?;
    SECRETS.lock().unwrap_or_else(PoisonError::into_inner).insert(place, (now, value.clone()));
    Ok(value)
}

fn key(secret: &SecretRef, value: &SecretString) -> Result<Vec<u8>> {
    let text = value.expose_secret();
    STANDARD.decode(text.strip_prefix("whsec_").unwrap_or(text)).map_err(|_| {
        Fault::user(format!("the signing secret `{secret}` is not base64"))
            .hint("It is `whsec_` and a key in base64, exactly as the sender shows it.")
    })
}

fn mac(key: &[u8], id: &str, timestamp: &str, body: &[u8]) -> Result<Hmac<Sha256>> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).map_err(|e| Fault::us("HMAC refuses the key").because(e))?;
    for part in [id.as_bytes(), b".", timestamp.as_bytes(), b".", body] {
        mac.update(part);
    }
    Ok(mac)
}

/// Checks HTTP Basic credentials in constant time, for vendors that do not sign.
///
/// # Errors
/// [`Refused::Unverified`] when they are missing or wrong.
pub fn basic(delivery: &Delivery, user: &str, password: &SecretRef) -> Result<(), Refused> {
    let unverified = |text: &'static str| Refused::Unverified(Cow::Borrowed(text));
    let given = delivery
        .headers
        .get(header::AUTHORIZATION)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.split_once(' '))
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("basic"))
        .and_then(|(_, credentials)| STANDARD.decode(credentials.trim()).ok())
        .ok_or_else(|| unverified("user and password are missing"))?;
    let password =
        live(password, delivery.received_at).map_err(|_| unverified("this endpoint's password cannot be read"))?;
    let wanted = format!("{user}:{}", password.expose_secret());
    // Hashes have one length, so the comparison's time does not depend on how much is right.
    let differs = Sha256::digest(&given).iter().zip(Sha256::digest(wanted.as_bytes())).fold(0, |d, (a, b)| d | (a ^ b));
    if differs == 0 { Ok(()) } else { Err(unverified("user or password is wrong")) }
}

/// The same with the passwords of a receiver: one, or two while it is being replaced.
///
/// # Errors
/// What was wrong with the last of them.
pub fn any_basic<'a>(
    delivery: &Delivery,
    user: &str,
    passwords: impl IntoIterator<Item = &'a SecretRef>,
) -> Result<(), Refused> {
    let mut verdict = Err(Refused::Unverified(Cow::Borrowed("this endpoint has no password")));
    for password in passwords {
        verdict = basic(delivery, user, password);
        if verdict.is_ok() {
            break;
        }
    }
    verdict
}

/// Whether the element of a document holds means of payment: cards, tokens, bank accounts. It and all inside of it is
/// neither read nor kept.
pub fn is_payment(element: &str) -> bool {
    let name = element.to_ascii_lowercase();
    name.starts_with("payment") || name.contains("card") || name.contains("bankaccount")
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;
    use proptest::prelude::*;

    use super::*;

    fn secret(name: &str, bytes: &[u8]) -> SecretRef {
        let path = std::env::temp_dir().join(format!("propflow-webhook-{}-{name}", std::process::id()));
        std::fs::write(&path, format!("whsec_{}", STANDARD.encode(bytes))).unwrap();
        SecretRef::parse(&format!("file:{}", path.display())).unwrap()
    }

    fn delivery(brand: &str, id: &str, sent: i64, signature: &str, body: &[u8], late: i64) -> Delivery {
        let mut headers = HeaderMap::new();
        for (name, value) in [("id", id), ("timestamp", &sent.to_string()), ("signature", signature)] {
            let name: http::HeaderName = format!("{brand}-{name}").parse().unwrap();
            headers.insert(name, value.parse().unwrap());
        }
        let received_at = DateTime::from_timestamp(sent, 0).unwrap() + TimeDelta::seconds(late);
        Delivery { headers, body: Bytes::copy_from_slice(body), received_at }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        /// What either live secret signed is taken, under both names, beside signatures of other kinds; and not when a
        /// byte of it, of the id or of the time is another.
        #[test]
        fn only_what_was_signed_is_taken(
            body in prop::collection::vec(any::<u8>(), 1..200), id in "[a-z0-9_]{1,20}", sent in 0i64..4_000_000_000,
            svix: bool, old: bool, flip in any::<prop::sample::Index>(),
        ) {
            let secrets = [secret("old", &[7; 24]), secret("new", &[9; 32])];
            let standard = Standard::new(secrets.to_vec());
            let signed = sign(&secrets[usize::from(!old)], &id, sent, &body).unwrap();
            let brand = if svix { "svix" } else { "webhook" };
            let signature = format!("v1a,AAAA v1,AAAA {signed}");
            let good = delivery(brand, &id, sent, &signature, &body, 0);
            prop_assert_eq!(standard.verify(&good), Ok(()));
            prop_assert_eq!(Standard::id(&good), Some(&*id));
            let mut other = body.clone();
            other[flip.index(body.len())] ^= 1;
            for bad in [
                delivery(brand, &id, sent, &signature, &other, 0),
                delivery(brand, &id, sent + 1, &signature, &body, 0),
                delivery(brand, &format!("{id}x"), sent, &signature, &body, 0),
                delivery(brand, &id, sent, "v1,AAAA", &body, 0),
                delivery(brand, &id, sent, "", &body, 0),
            ] {
                prop_assert!(matches!(standard.verify(&bad), Err(Refused::Unverified(_))));
            }
            // A stranger with an old timestamp is a stranger first.
            let stranger = delivery(brand, &id, sent, "v1,AAAA", &body, 9999);
            prop_assert!(matches!(standard.verify(&stranger), Err(Refused::Unverified(_))));
            for late in [TOLERANCE_SECS, -TOLERANCE_SECS] {
                prop_assert_eq!(standard.verify(&delivery(brand, &id, sent, &signature, &body, late)), Ok(()));
                let late = late + late.signum();
                let stale = standard.verify(&delivery(brand, &id, sent, &signature, &body, late));
                prop_assert!(matches!(stale, Err(Refused::Stale(_))));
            }
        }
    }

    #[test]
    fn basic_credentials_are_compared_whole() {
        let path = std::env::temp_dir().join(format!("propflow-basic-{}", std::process::id()));
        std::fs::write(&path, "s:cret").unwrap();
        let password = SecretRef::parse(&format!("file:{}", path.display())).unwrap();
        for (given, good) in
            [("user:s:cret", true), ("user:s:cre", false), ("user:s:crett", false), ("usr:s:cret", false)]
        {
            let mut headers = HeaderMap::new();
            headers.insert(header::AUTHORIZATION, format!("Basic {}", STANDARD.encode(given)).parse().unwrap());
            let delivery = Delivery { headers, body: Bytes::new(), received_at: DateTime::UNIX_EPOCH };
            assert_eq!(basic(&delivery, "user", &password).is_ok(), good, "{given}");
        }
        let bare = Delivery { headers: HeaderMap::new(), body: Bytes::new(), received_at: DateTime::UNIX_EPOCH };
        assert!(basic(&bare, "user", &password).is_err());
    }
}
