//! The one HTTP client of everything that calls a system outside: paced, retried, capped.

mod public;

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::io::{self, Read};
use std::sync::{Arc, LazyLock, Mutex, Once, PoisonError, Weak};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, StatusCode, header};
use reqwest::{Method, Request, RequestBuilder};
use schemars::JsonSchema;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Deserializer};
use sha2::{Digest, Sha256};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use url::Url;

use self::public::{PrivateAddress, PublicNames, is_public, literal};
use crate::{Blame, Budget, Clock, Env, Fault, Quota, Result, Retry, SafeUrl, Window};

/// How a vendor's account may be called. Every connector that calls one takes these settings.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Calls a second, over all processes that share the account's budget.
    pub calls_per_sec: u32,
    /// Calls that may go out back to back after a pause.
    pub burst: u32,
    /// Calls in any minute, where the vendor counts them.
    pub calls_per_min: Option<u32>,
    /// Calls in any hour, where the vendor counts them.
    pub calls_per_hour: Option<u32>,
    /// Calls under way at once in this process.
    pub parallel: u32,
    /// Seconds until a call is given up.
    pub timeout_secs: u64,
    /// Seconds until connecting is given up.
    pub connect_timeout_secs: u64,
    /// Tries of one call, the first one counted.
    pub attempts: u32,
    /// Milliseconds before the second try; doubled for each further one, with jitter.
    pub backoff_ms: u64,
    /// The longest wait before a call or another try, in seconds. A vendor that asks for more ends the call.
    pub max_wait_secs: u64,
    /// Bytes of an answer that are still read.
    pub max_body_bytes: usize,
    /// Statuses that are worth another try besides 408, 429, 502, 503 and 504.
    pub retry_statuses: Vec<u16>,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            calls_per_sec: 5,
            burst: 5,
            calls_per_min: None,
            calls_per_hour: None,
            parallel: 1,
            timeout_secs: 60,
            connect_timeout_secs: 10,
            attempts: 4,
            backoff_ms: 500,
            max_wait_secs: 90,
            max_body_bytes: 256 << 20,
            retry_statuses: Vec::new(),
        }
    }
}

impl Limits {
    /// Reads limits whose pace is the vendor's own where the settings do not say another.
    pub fn with_pace<'de, D: Deserializer<'de>>(
        deserializer: D,
        calls_per_sec: u32,
        burst: u32,
    ) -> Result<Self, D::Error> {
        let mut given = serde_json::Map::deserialize(deserializer)?;
        given.entry("calls_per_sec").or_insert_with(|| calls_per_sec.into());
        given.entry("burst").or_insert_with(|| burst.into());
        serde_json::from_value(given.into()).map_err(serde::de::Error::custom)
    }

    /// The pace, as it is kept for an account.
    pub fn budget(&self) -> Budget {
        Budget {
            calls: self.calls_per_sec.max(1),
            per: Duration::from_secs(1),
            burst: self.burst.max(1),
            parallel: self.parallel.max(1),
            wider: [
                self.calls_per_min.map(|calls| Window { calls, per: Duration::from_secs(60) }),
                self.calls_per_hour.map(|calls| Window { calls, per: Duration::from_secs(3600) }),
            ],
        }
    }
}

/// No vendor silences an account for longer than this, in case it wrote milliseconds for seconds.
const LONGEST_PAUSE: Duration = Duration::from_secs(3600);

/// The name of an account's budget: the vendor, and a hash of what the vendor counts calls by. The name shows up in logs, so
/// it must not be the id or key itself; a connector and a courier of one account share it.
pub fn account(vendor: &str, counted_by: &SecretString) -> String {
    let hash = Sha256::digest(counted_by.expose_secret());
    hash.iter().take(6).fold(format!("{vendor}/"), |name, byte| format!("{name}{byte:02x}"))
}

/// Why a call brought nothing.
#[derive(Debug)]
pub struct Refusal {
    /// What happened.
    pub cause: Cause,
    /// The same for a person.
    pub fault: Fault,
}

/// What a caller may want to tell apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// No connection.
    Unreachable,
    /// No answer in time.
    Timeout,
    /// The answer had this status and, in its JSON body, this `code`.
    Status(StatusCode, Option<i64>),
    /// The answer broke off, or was longer than allowed.
    Body,
    /// The answer was an error whose body holds the text of [`Client::final_words`].
    Final,
}

impl From<Refusal> for Fault {
    fn from(refusal: Refusal) -> Self {
        refusal.fault
    }
}

/// An answer with a status of success, its body whole.
#[derive(Debug)]
pub struct Answer {
    /// The headers.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
}

/// A client for one account of one vendor.
///
/// Every try of every call first books its place in the account's budget and waits for it, so callers never pace
/// themselves. What a vendor asks for (`Retry-After`, or `retry_after` in the body) holds for everyone on the account.
#[derive(Debug, Clone)]
pub struct Client {
    http: reqwest::Client,
    account: String,
    secret_paths: bool,
    final_words: Option<&'static str>,
    limits: Limits,
    quota: Arc<dyn Quota>,
    clock: Arc<dyn Clock>,
    slots: Arc<Semaphore>,
    public_only: bool,
}

impl Client {
    /// A client for `account`, which names vendor and account and nothing secret.
    pub fn new(account: &str, env: &Env, limits: Limits) -> Result<Self> {
        Self::build(account, env, limits, false)
    }

    /// A client for an address that anyone with a say in the settings may choose: it calls public addresses only,
    /// whatever a name resolves to at the time, and goes through no proxy, which could not be held to that.
    pub fn public_only(account: &str, env: &Env, limits: Limits) -> Result<Self> {
        Self::build(account, env, limits, true)
    }

    fn build(account: &str, env: &Env, limits: Limits, public_only: bool) -> Result<Self> {
        // Another part of the program may have chosen a provider; any will do.
        static PROVIDER: Once = Once::new();
        PROVIDER.call_once(|| _ = rustls::crypto::ring::default_provider().install_default());
        let builder = reqwest::Client::builder();
        let builder = if public_only { builder.no_proxy().dns_resolver(Arc::new(PublicNames)) } else { builder };
        let http = builder
            .user_agent(concat!("propflow/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(Duration::from_secs(limits.connect_timeout_secs))
            .read_timeout(Duration::from_secs(limits.timeout_secs))
            .redirect(reqwest::redirect::Policy::custom(|attempt| {
                // Forms and headers carry secrets: they go to the host they were meant for, or nowhere.
                let first = attempt.previous().first();
                let same = first.is_some_and(|u| u.host() == attempt.url().host() && u.port() == attempt.url().port());
                if same && attempt.previous().len() <= 5 { attempt.follow() } else { attempt.stop() }
            }))
            .build()
            .map_err(|e| Fault::us("the HTTP client cannot be built").because(e.without_url()))?;
        Ok(Self {
            http,
            account: account.to_owned(),
            secret_paths: false,
            final_words: None,
            slots: slots(account, limits.parallel),
            limits,
            quota: env.quota.clone(),
            clock: env.clock.clone(),
            public_only,
        })
    }

    /// Names only the host in faults and logs: the whole address is a secret.
    #[must_use]
    pub fn secret_paths(mut self) -> Self {
        self.secret_paths = true;
        self
    }

    /// Takes an error whose body holds these words, in any case, as the vendor's last one, whatever its status: the call is not
    /// tried again, and its cause is [`Cause::Final`].
    #[must_use]
    pub fn final_words(mut self, words: &'static str) -> Self {
        self.final_words = Some(words);
        self
    }

    /// An address as faults and logs may show it.
    fn place(&self, url: &Url) -> SafeUrl {
        let mut url = url.clone();
        if self.secret_paths {
            url.set_path("");
        }
        SafeUrl(url)
    }

    /// A request to be given to [`Client::call`] or [`Client::download`].
    pub fn request(&self, method: Method, url: Url) -> RequestBuilder {
        self.http.request(method, url)
    }

    /// Makes a call until it succeeds, is refused for good, or the tries are used up. It must be safe to make twice.
    pub async fn call(&self, request: RequestBuilder) -> Result<Answer, Refusal> {
        let request = self.built(request.timeout(Duration::from_secs(self.limits.timeout_secs)))?;
        let mut tries = 0;
        loop {
            match self.whole(&request).await {
                Ok(answer) => return Ok(answer),
                Err(failed) => self.recover(failed, &mut tries).await?,
            }
        }
    }

    /// Opens a large body to be read piece by piece. Tries are made until it opens; a body that breaks off later ends with
    /// an error of the reader. Dropping the reader ends the transfer.
    pub async fn download(&self, request: RequestBuilder) -> Result<Download, Refusal> {
        let request = self.built(request)?;
        let mut tries = 0;
        let (mut response, slot) = loop {
            match self.open(&request).await {
                Ok(open) => break open,
                Err(failed) => self.recover(failed, &mut tries).await?,
            }
        };
        let place = self.place(request.url());
        let (sender, pieces) = mpsc::channel(4);
        let fetch = tokio::spawn(async move {
            let _slot = slot;
            loop {
                let piece = match response.chunk().await {
                    Ok(Some(piece)) => Ok(piece),
                    Ok(None) => return,
                    Err(error) => Err(broken(&place, error).fault),
                };
                let last = piece.is_err();
                if sender.send(piece).await.is_err() || last {
                    return;
                }
            }
        });
        Ok(Download { pieces, piece: Bytes::new(), _fetch: tokio_util::task::AbortOnDropHandle::new(fetch) })
    }

    fn built(&self, request: RequestBuilder) -> Result<Request, Refusal> {
        request.build().map_err(|e| Refusal {
            cause: Cause::Unreachable,
            fault: Fault::us("a request cannot be built").because(e.without_url()),
        })
    }

    async fn whole(&self, request: &Request) -> Result<Answer, Failed> {
        let (response, _slot) = self.open(request).await?;
        let headers = response.headers().clone();
        let body = self.body(response, &self.place(request.url())).await?;
        Ok(Answer { headers, body })
    }

    /// Waits before another try, or gives the refusal back if there is to be none.
    async fn recover(&self, failed: Failed, tries: &mut u32) -> Result<(), Refusal> {
        *tries += 1;
        if let Some(pause) = failed.pause {
            let told = self.quota.pause(&self.account, &self.limits.budget(), pause.min(LONGEST_PAUSE)).await;
            told.map_err(|fault| Refusal { cause: failed.refusal.cause, fault })?;
        }
        let wait = failed.pause.unwrap_or_else(|| self.backoff(*tries - 1));
        if *tries >= self.limits.attempts || !failed.again || wait > Duration::from_secs(self.limits.max_wait_secs) {
            return Err(failed.refusal);
        }
        let wait_ms = wait.as_millis();
        tracing::warn!(account = self.account, fault = %failed.refusal.fault, wait_ms, "a call is tried again");
        if failed.pause.is_none() {
            tokio::time::sleep(wait).await;
        }
        Ok(())
    }

    /// Half to all of the doubled backoff, so that many clients do not come back at once.
    fn backoff(&self, tries: u32) -> Duration {
        let full = self.limits.backoff_ms.saturating_mul(1 << tries.min(16));
        let random = RandomState::new().hash_one(tries);
        Duration::from_millis(full / 2 + random % (full / 2 + 1))
    }

    async fn open(&self, request: &Request) -> Result<(reqwest::Response, OwnedSemaphorePermit), Failed> {
        let ours = |fault| Failed::last(Cause::Unreachable, fault);
        let place = self.place(request.url());
        if self.public_only
            && let Some(address) = literal(request.url())
            && !is_public(address)
        {
            return Err(ours(PrivateAddress.into()));
        }
        let request = request.try_clone().ok_or_else(|| ours(Fault::us("a request that cannot be made twice")))?;
        let slot =
            self.slots.clone().acquire_owned().await.map_err(|e| ours(Fault::us("no slot for a call").because(e)))?;
        let wait = self.quota.book(&self.account, &self.limits.budget()).await.map_err(ours)?;
        // A vendor that wants an hour of silence gets it from a job that is put off, not from one that sleeps.
        if wait > Duration::from_secs(self.limits.max_wait_secs) {
            let text =
                format!("the vendor has asked `{}` to be silent, for another {} s", self.account, wait.as_secs());
            let fault = Fault::remote(text).retry(Retry::After(wait));
            let fault = fault.hint("Nothing is lost by waiting; a scheduled run comes back by itself.");
            return Err(Failed::last(Cause::Status(StatusCode::TOO_MANY_REQUESTS, None), fault));
        }
        if !wait.is_zero() {
            tokio::time::sleep(wait).await;
        }
        let response = self.http.execute(request).await.map_err(|error| {
            if PrivateAddress::is_behind(&error) {
                return ours(PrivateAddress.into());
            }
            let (cause, fault) = if error.is_timeout() && !error.is_connect() {
                (Cause::Timeout, Fault::remote(format!("no answer from `{place}` in time")))
            } else {
                let fault = Fault::remote(format!("cannot reach `{place}`"));
                (Cause::Unreachable, fault.hint("Check the address, the network and whether the vendor is up."))
            };
            Failed::again(cause, fault.because(error.without_url()))
        })?;
        if let Some(pause) = exhausted(response.headers()) {
            self.quota.pause(&self.account, &self.limits.budget(), pause).await.map_err(ours)?;
        }
        if response.status().is_success() {
            return Ok((response, slot));
        }
        Err(self.refused(response, &place).await)
    }

    async fn refused(&self, response: reqwest::Response, place: &SafeUrl) -> Failed {
        #[derive(Deserialize, Default)]
        struct Told {
            #[serde(default)]
            code: Option<serde_json::Value>,
            #[serde(default)]
            retry_after: Option<serde_json::Value>,
        }
        let status = response.status();
        let header = response.headers().get(header::RETRY_AFTER).and_then(|v| v.to_str().ok()).map(str::to_owned);
        let body = read(response, 64 << 10).await.unwrap_or_default();
        let text = || String::from_utf8_lossy(&body).to_ascii_lowercase();
        if let Some(words) = self.final_words
            && text().contains(&words.to_ascii_lowercase())
        {
            let why = format!("`{place}` failed (status {}): {words}", status.as_u16());
            return Failed::last(Cause::Final, Fault::new(Blame::Remote, Retry::Never, why));
        }
        let told: Told = serde_json::from_slice(&body).unwrap_or_default();
        let number = |v: &serde_json::Value| v.as_i64().or_else(|| v.as_str()?.trim().parse().ok());
        let code = told.code.as_ref().and_then(number);
        let asked = told.retry_after.as_ref().and_then(number).and_then(|s| u64::try_from(s).ok());
        let pause = header.and_then(|text| self.retry_after(&text)).or(asked.map(Duration::from_secs));
        let fault = match status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                Fault::user(format!("`{place}` refused the credentials (status {})", status.as_u16()))
                    .hint("Check the credentials, and that the account has been given access.")
            }
            StatusCode::NOT_FOUND | StatusCode::GONE => Fault::new(
                Blame::Remote,
                Retry::Never,
                format!("`{place}` does not exist (status {})", status.as_u16()),
            ),
            StatusCode::TOO_MANY_REQUESTS => {
                Fault::remote(format!("`{place}` takes no more calls for now (status 429)"))
            }
            _ if status.is_server_error() => Fault::remote(format!("`{place}` failed (status {})", status.as_u16())),
            _ => Fault::new(
                Blame::Remote,
                Retry::Never,
                format!("`{place}` refused the call (status {})", status.as_u16()),
            ),
        };
        let again = matches!(status.as_u16(), 408 | 429 | 502 | 503 | 504)
            || self.limits.retry_statuses.contains(&status.as_u16())
            || (pause.is_some() && status.is_server_error());
        let pause = pause.filter(|_| again);
        let fault = match pause {
            Some(pause) => fault.retry(Retry::After(pause)),
            None => fault,
        };
        Failed { refusal: Refusal { cause: Cause::Status(status, code), fault }, again, pause }
    }

    /// `Retry-After`: seconds, or a date.
    fn retry_after(&self, text: &str) -> Option<Duration> {
        let text = text.trim();
        if let Ok(seconds) = text.parse() {
            return Some(Duration::from_secs(seconds));
        }
        let until = chrono::DateTime::parse_from_rfc2822(text).ok()?;
        Some((until.to_utc() - self.clock.now()).to_std().unwrap_or_default())
    }

    async fn body(&self, response: reqwest::Response, place: &SafeUrl) -> Result<Bytes, Failed> {
        let limit = self.limits.max_body_bytes;
        read(response, limit).await.map_err(|error| match error {
            Some(error) => {
                let Refusal { cause, fault } = broken(place, error);
                Failed::again(cause, fault)
            }
            None => Failed::last(
                Cause::Body,
                Fault::new(
                    Blame::Remote,
                    Retry::Never,
                    format!("the answer of `{place}` is longer than {limit} bytes"),
                )
                .hint("Raise `max_body_bytes` if the answer is meant to be that long."),
            ),
        })
    }
}

/// One try that failed.
struct Failed {
    refusal: Refusal,
    again: bool,
    pause: Option<Duration>,
}

impl Failed {
    fn again(cause: Cause, fault: Fault) -> Self {
        Self { refusal: Refusal { cause, fault }, again: true, pause: None }
    }

    fn last(cause: Cause, fault: Fault) -> Self {
        Self { refusal: Refusal { cause, fault }, again: false, pause: None }
    }
}

/// How long an account has to be silent whose answer says that nothing is left of a window. The hour is not waited for:
/// past the minute a refusal names the time that is really left.
fn exhausted(headers: &HeaderMap) -> Option<Duration> {
    let used_up = |window: &str| {
        let left = headers.get(format!("x-ratelimit-remaining-{window}"))?.to_str().ok()?;
        left.trim().parse::<f64>().ok().filter(|left| *left <= 0.0)
    };
    [("hour", 60), ("minute", 60), ("second", 1)]
        .into_iter()
        .find_map(|(window, secs)| used_up(window).map(|_| Duration::from_secs(secs)))
}

fn broken(place: &SafeUrl, error: reqwest::Error) -> Refusal {
    let what = if error.is_timeout() { "stalled" } else { "broke off" };
    Refusal {
        cause: Cause::Body,
        fault: Fault::remote(format!("the answer of `{place}` {what}")).because(error.without_url()),
    }
}

/// Reads a body up to a limit; `None` is a body beyond it.
async fn read(mut response: reqwest::Response, limit: usize) -> Result<Bytes, Option<reqwest::Error>> {
    let announced = response.content_length().and_then(|n| usize::try_from(n).ok()).unwrap_or(0);
    // What is announced is not yet sent: a liar gets one megabyte in advance.
    let mut body = BytesMut::with_capacity(announced.min(limit).min(1 << 20));
    while let Some(piece) = response.chunk().await.map_err(Some)? {
        if body.len() + piece.len() > limit {
            return Err(None);
        }
        body.extend_from_slice(&piece);
    }
    Ok(body.freeze())
}

/// The slots of an account, shared by all its clients in this process.
fn slots(account: &str, parallel: u32) -> Arc<Semaphore> {
    static SLOTS: LazyLock<Mutex<HashMap<String, Weak<Semaphore>>>> = LazyLock::new(Mutex::default);
    let mut all = SLOTS.lock().unwrap_or_else(PoisonError::into_inner);
    all.retain(|_, slots| slots.strong_count() > 0);
    if let Some(slots) = all.get(account).and_then(Weak::upgrade) {
        return slots;
    }
    let slots = Arc::new(Semaphore::new(parallel.max(1) as usize));
    all.insert(account.to_owned(), Arc::downgrade(&slots));
    slots
}

/// A body as a blocking reader, for a thread of its own.
#[derive(Debug)]
pub struct Download {
    pieces: mpsc::Receiver<Result<Bytes>>,
    piece: Bytes,
    _fetch: tokio_util::task::AbortOnDropHandle<()>,
}

impl Read for Download {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        while self.piece.is_empty() {
            match self.pieces.blocking_recv() {
                Some(piece) => self.piece = piece.map_err(io::Error::other)?,
                None => return Ok(0),
            }
        }
        let n = out.len().min(self.piece.len());
        out[..n].copy_from_slice(&self.piece.split_to(n));
        Ok(n)
    }
}

/// Parses an address that a person wrote: `http` or `https`, with a host.
pub fn address(setting: &str, text: &str) -> Result<Url> {
    let url = Url::parse(text).map_err(|e| Fault::user(format!("`{setting}` is not an address: {e}")))?;
    if !matches!(url.scheme(), "http" | "https") || url.host().is_none() {
        return Err(Fault::user(format!("`{setting}` must be an `http` or `https` address")));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(Fault::user(format!("`{setting}` must not hold credentials"))
            .hint("Name them by reference in the settings made for them."));
    }
    Ok(url)
}

#[cfg(test)]
mod tests {
    use crate::TestClock;

    use super::*;

    #[test]
    fn a_wait_is_read_as_seconds_and_as_a_date() {
        let now = chrono::DateTime::parse_from_rfc3339("2026-07-01T10:00:00Z").unwrap().to_utc();
        let env = Env { clock: Arc::new(TestClock::at(now)), ..Env::default() };
        let client = Client::new("test/1", &env, Limits::default()).unwrap();
        let wait = |text| client.retry_after(text).map(|wait| wait.as_secs());
        assert_eq!(wait(" 30 "), Some(30));
        assert_eq!(wait("Wed, 01 Jul 2026 10:01:00 GMT"), Some(60));
        assert_eq!(wait("Wed, 01 Jul 2026 09:00:00 GMT"), Some(0), "a date that has passed is no wait");
        assert_eq!(wait("soon"), None);
    }

    #[test]
    fn an_empty_window_is_a_pause() {
        let pause = |headers: &[(&'static str, &'static str)]| {
            let headers = headers
                .iter()
                .map(|(name, value)| (http::HeaderName::from_static(name), http::HeaderValue::from_static(value)));
            exhausted(&headers.collect()).map(|pause| pause.as_secs())
        };
        assert_eq!(pause(&[("x-ratelimit-remaining-second", "3"), ("x-ratelimit-remaining-minute", "1")]), None);
        assert_eq!(pause(&[("x-ratelimit-remaining-second", "0"), ("x-ratelimit-remaining-minute", "1")]), Some(1));
        assert_eq!(pause(&[("x-ratelimit-remaining-second", "0"), ("x-ratelimit-remaining-minute", " 0 ")]), Some(60));
        assert_eq!(pause(&[("x-ratelimit-remaining-hour", "-1")]), Some(60));
        assert_eq!(pause(&[("x-ratelimit-remaining-second", "many")]), None);
    }

    #[test]
    fn waits_grow_and_clients_of_one_account_share_its_slots() {
        let limits = Limits { backoff_ms: 100, parallel: 2, ..Limits::default() };
        let client = Client::new("test/2", &Env::default(), limits.clone()).unwrap();
        for tries in 0..5 {
            let full = 100 << tries;
            let wait = u64::try_from(client.backoff(tries).as_millis()).unwrap();
            assert!((full / 2..=full).contains(&wait), "{wait} ms after try {tries}");
        }
        let other = Client::new("test/2", &Env::default(), limits).unwrap();
        assert!(Arc::ptr_eq(&client.slots, &other.slots));
    }

    #[test]
    fn an_address_holds_no_credentials() {
        assert!(address("url", "https://feeds.example/a.xml").is_ok());
        for wrong in ["feeds.example", "file:///etc/passwd", "https://me:hunter2@feeds.example"] {
            assert!(!address("url", wrong).unwrap_err().chain().contains("hunter2"));
        }
    }
}
