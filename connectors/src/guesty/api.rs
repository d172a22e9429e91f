//! Calls: the token, the lists, single objects.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use catalog::{Clock, Env, Fault, Issued, Issuer, Result, Retry, SafeUrl, Tokens};
use chrono::{DateTime, TimeDelta, Utc};
use http::{Method, StatusCode, header};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};
use url::Url;

use super::Config;
use crate::http::{Cause, Client, Limits, Refusal, address};
use crate::rows::{Object, field};

/// Most items of a page, reservations of a call by ids, reservations of a call for money.
pub(super) const PAGE: usize = 100;
pub(super) const BY_IDS: usize = 10;
pub(super) const FOLIO: usize = 200;

/// How long to leave the token endpoint alone when it refuses without saying for how long.
const LOCKED: Duration = Duration::from_secs(3600);

/// The account, and the way to it.
pub(super) struct Api {
    client: Client,
    /// Without tries: each one may count as a token.
    issuer: Client,
    tokens: Arc<dyn Tokens>,
    token_key: String,
    token_url: Url,
    client_id: SecretString,
    client_secret: SecretString,
    base: Url,
    clock: Arc<dyn Clock>,
    /// How far the vendor's clock is ahead of ours, in milliseconds, as its last answer told.
    ahead_ms: AtomicI64,
    /// Items of a page.
    pub(super) page: usize,
}

impl fmt::Debug for Api {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Api({})", self.token_key)
    }
}

/// A list as it came, and the vendor's time.
#[derive(Debug)]
pub(super) struct Page {
    pub(super) items: Vec<Box<RawValue>>,
    pub(super) more: bool,
    pub(super) at: DateTime<Utc>,
}

/// An answer whose body has the shape that was asked for.
#[derive(Debug)]
pub(super) struct Answered<T> {
    pub(super) body: T,
    pub(super) at: DateTime<Utc>,
}

fn fingerprint(parts: &[&str]) -> String {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update(part.as_bytes());
        hash.update([0]);
    }
    hash.finalize().iter().take(6).map(|byte| format!("{byte:02x}")).collect()
}

impl Api {
    pub(super) fn open(config: &Config, env: &Env) -> Result<Self> {
        let base = address("base_url", &config.base_url)?;
        let token_url = address("token_url", &config.token_url)?;
        let (client_id, client_secret) = (config.client_id.resolve()?, config.client_secret.resolve()?);
        // Both names show up in logs and in the database: they must not be the id itself.
        let account = format!("guesty/{}", fingerprint(&[base.as_str(), client_id.expose_secret()]));
        let parts = [token_url.as_str(), client_id.expose_secret(), client_secret.expose_secret()];
        let mut limits = config.limits.clone();
        // The account's windows are the vendor's, whatever else is set.
        limits.calls_per_min.get_or_insert(120);
        limits.calls_per_hour.get_or_insert(5000);
        let once = Limits { attempts: 1, max_body_bytes: 64 << 10, ..limits.clone() };
        Ok(Self {
            issuer: Client::new(&format!("{account}/token"), env, once)?,
            client: Client::new(&account, env, limits)?,
            tokens: env.tokens.clone(),
            token_key: format!("guesty/{}", fingerprint(&parts)),
            token_url,
            client_id,
            client_secret,
            base,
            clock: env.clock.clone(),
            ahead_ms: AtomicI64::new(0),
            page: config.page_size.clamp(1, PAGE),
        })
    }

    fn url(&self, path: &[&str]) -> Result<Url> {
        let mut url = self.base.clone();
        match url.path_segments_mut() {
            Ok(mut segments) => _ = segments.pop_if_empty().extend(path),
            Err(()) => return Err(Fault::us("an address cannot be built")),
        }
        Ok(url)
    }

    /// Fetches and parses. A token that is refused is replaced once, a body that cannot be used is fetched once more.
    pub(super) async fn get<T>(
        &self,
        path: &[&str],
        query: &[(&str, &str)],
        parse: impl Fn(&[u8]) -> Option<T>,
    ) -> Result<Answered<T>, Refusal> {
        let ours = |fault| Refusal { cause: Cause::Unreachable, fault };
        let url = self.url(path).map_err(ours)?;
        let mut token = self.tokens.get(&self.token_key, None, self).await.map_err(ours)?;
        let (mut renewed, mut repeated) = (false, false);
        loop {
            let request = self
                .client
                .request(Method::GET, url.clone())
                .bearer_auth(token.expose_secret())
                .header(header::ACCEPT, "application/json")
                .query(query);
            match self.client.call(request).await {
                Ok(answer) => {
                    if let Some(body) = parse(&answer.body) {
                        let date = answer.headers.get(header::DATE).and_then(|date| date.to_str().ok());
                        let date = date.and_then(|date| DateTime::parse_from_rfc2822(date).ok());
                        let at = date.map_or_else(|| self.now(), |date| date.to_utc());
                        if date.is_some() {
                            self.ahead_ms.store((at - self.clock.now()).num_milliseconds(), Ordering::Relaxed);
                        }
                        return Ok(Answered { body, at });
                    }
                    if std::mem::replace(&mut repeated, true) {
                        let fault =
                            Fault::remote(format!("`{}` answered in another shape than is known", SafeUrl(url)))
                                .hint("The vendor may be under maintenance, or has changed its API.");
                        return Err(Refusal { cause: Cause::Body, fault });
                    }
                }
                Err(Refusal {
                    cause: Cause::Status(StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN, code),
                    fault,
                }) if !renewed => {
                    renewed = true;
                    let refused = self.tokens.get(&self.token_key, Some(&token), self).await;
                    token = refused.map_err(|why| Refusal {
                        cause: Cause::Status(StatusCode::UNAUTHORIZED, code),
                        // What the keeper says explains why there is no other try, what the vendor said comes first.
                        fault: fault.because(why),
                    })?;
                }
                Err(refusal) => return Err(refusal),
            }
        }
    }

    /// A page of a list in the order of its `_id`s, `{"results": […]}`; `pagination.hasMore` says whether there is more,
    /// and where it is missing, a full page does.
    pub(super) async fn page(&self, path: &[&str], query: &[(&str, &str)], skip: usize) -> Result<Page, Refusal> {
        let (limit, skip) = (self.page.to_string(), skip.to_string());
        let window = [("limit", &*limit), ("skip", &*skip)];
        let answer = self.get(path, &[query, &window].concat(), results).await?;
        let (items, more) = answer.body;
        let more = more.unwrap_or(items.len() >= self.page);
        Ok(Page { items, more, at: answer.at })
    }

    /// One object, or `None` when the vendor does not know it, and the vendor's time, at most a second late.
    pub(super) async fn object(
        &self,
        path: &[&str],
        query: &[(&str, &str)],
    ) -> Result<(Option<Box<RawValue>>, DateTime<Utc>)> {
        match self.get(path, query, |body| serde_json::from_slice::<Box<RawValue>>(body).ok()).await {
            Ok(answer) if answer.body.get().starts_with('{') => Ok((Some(answer.body), answer.at)),
            Ok(_) => Err(strange(path)),
            Err(Refusal { cause: Cause::Status(StatusCode::NOT_FOUND, _), .. }) => Ok((None, self.now())),
            Err(refusal) => Err(refusal.fault),
        }
    }

    /// The vendor's time now. Its answers tell it in whole seconds: this is never behind it, so that what is found gone
    /// is younger than the last change that it saw.
    pub(super) fn now(&self) -> DateTime<Utc> {
        self.clock.now() + TimeDelta::milliseconds(self.ahead_ms.load(Ordering::Relaxed) + 1000)
    }
}

/// A list in another shape than is known.
pub(super) fn strange(path: &[&str]) -> Fault {
    Fault::remote(format!("`/{}` answered in another shape than is known", path.join("/")))
        .hint("The vendor may be under maintenance, or has changed its API.")
}

/// `results` and, where it is said, whether there is more.
pub(super) fn results(body: &[u8]) -> Option<(Vec<Box<RawValue>>, Option<bool>)> {
    #[derive(Deserialize)]
    struct Pagination {
        #[serde(rename = "hasMore")]
        has_more: Option<bool>,
    }
    let answer: Object<'_> = serde_json::from_slice(body).ok()?;
    let items = serde_json::from_str(field(&answer, "results")?.get()).ok()?;
    let more = field(&answer, "pagination").and_then(|p| serde_json::from_str::<Pagination>(p.get()).ok()?.has_more);
    Some((items, more))
}

#[async_trait]
impl Issuer for Api {
    async fn issue(&self) -> Result<Issued> {
        let form = [
            ("grant_type", "client_credentials"),
            ("scope", "open-api"),
            ("client_id", self.client_id.expose_secret()),
            ("client_secret", self.client_secret.expose_secret()),
        ];
        let request = self.issuer.request(Method::POST, self.token_url.clone()).form(&form);
        let answer = self.issuer.call(request).await.map_err(|refusal| match refusal.cause {
            Cause::Status(status, _) if matches!(status.as_u16(), 400 | 401 | 403) => {
                Fault::user(format!("`{}` refused the client id or the client secret", SafeUrl(self.token_url.clone())))
                    .hint("Check both, and that the application is still installed in the Guesty account.")
            }
            Cause::Status(StatusCode::TOO_MANY_REQUESTS, _) if !matches!(refusal.fault.retry, Retry::After(_)) => {
                refusal.fault.retry(Retry::After(LOCKED))
            }
            _ => refusal.fault,
        })?;
        let answer: Object<'_> = serde_json::from_slice(&answer.body).map_err(|_| self.no_token())?;
        let text = |key| field(&answer, key).and_then(crate::rows::cell);
        let token = text("access_token").filter(|token| !token.is_empty()).ok_or_else(|| self.no_token())?;
        let secs = text("expires_in").and_then(|secs| secs.trim().parse::<f64>().ok()).unwrap_or(86_400.0);
        tracing::info!(account = self.token_key, "Guesty gave a new token");
        Ok(Issued { token: token.into(), lifetime: Duration::from_secs_f64(secs.clamp(60.0, 604_800.0)) })
    }
}

impl Api {
    fn no_token(&self) -> Fault {
        Fault::remote(format!("`{}` answered without a token", SafeUrl(self.token_url.clone())))
            .hint("The vendor may be under maintenance.")
    }
}
