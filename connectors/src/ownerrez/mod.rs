//! `ownerrez`: bookings, holds, properties and guests from OwnerRez.

mod api;
mod webhook;

use std::collections::BTreeMap;
use std::fmt;

use async_trait::async_trait;
use catalog::{Blame, Component, Env, Fault, Result, Retry, SafeUrl, SecretRef};
use chrono::{DateTime, NaiveDate, SecondsFormat, Utc};
use futures::stream::BoxStream;
use http::{Method, StatusCode, header};
use reqwest::RequestBuilder;
use schemars::JsonSchema;
use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;
use url::Url;

pub use self::webhook::WebhookConfig;
use crate::authority::{App, Authority, Style};
use crate::emit;
use crate::http::{Cause, Client, Limits, Refusal, address};
use crate::managers::{self, Account, Booking, Kind, Listing, Manager, Page, Person, Told};
use crate::source::{Event, Request, Source, Stream};
use crate::webhook::Webhook;

/// The account and how to reach it.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The API's address.
    #[serde(default = "base_url")]
    pub base_url: String,
    /// The e-mail address of the user whom a personal access token (`pt_…`) belongs to. Left out: the token is an OAuth
    /// access token (`at_…`).
    #[serde(default)]
    pub user: Option<String>,
    /// The token, by reference. Left out with `oauth`.
    #[serde(default)]
    pub token: Option<SecretRef>,
    /// The OAuth app through which the account's owner lets propflow in, with `propflow authorise`.
    #[serde(default)]
    pub oauth: Option<OAuthConfig>,
    /// The OAuth app's client id (`c_…`), which the vendor wants to see in the user agent. Not a secret.
    #[serde(default)]
    pub client_id: Option<String>,
    /// How deliveries of the OAuth app are checked. Left out: none are taken.
    #[serde(default)]
    pub webhook: Option<WebhookConfig>,
    /// The operator's property behind each OwnerRez property, by its id.
    #[serde(default)]
    pub properties: BTreeMap<String, String>,
    /// Seconds that a reading of changes reaches back behind the beginning of the last one.
    #[serde(default = "overlap_secs")]
    pub overlap_secs: u32,
    /// Seconds between two comparisons of everything to come, which find deletions that nobody announced.
    #[serde(default = "compare_every_secs")]
    pub compare_every_secs: u32,
    /// Bookings a page, at most 100.
    #[serde(default = "page_size")]
    #[schemars(range(min = 1, max = 100))]
    pub page_size: u32,
    /// How the address may be called. The vendor allows 300 calls in five minutes to each IP address: one a second,
    /// without a burst, unless said otherwise.
    #[serde(default = "limits", deserialize_with = "given_limits")]
    pub limits: Limits,
}

/// An OAuth app; its client id is `client_id`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OAuthConfig {
    /// The app's secret (`s_…`), by reference.
    pub client_secret: SecretRef,
    /// Where the vendor sends the owner back to, as the app is registered there. Left out: to the address on which
    /// `propflow authorise` listens.
    #[serde(default)]
    pub redirect_uri: Option<String>,
    /// Where the owner consents.
    #[serde(default = "authorize_url")]
    pub authorize_url: String,
    /// Where codes and refresh tokens are exchanged.
    #[serde(default = "token_url")]
    pub token_url: String,
}

fn authorize_url() -> String {
    "https://app.ownerrez.com/oauth/authorize".to_owned()
}

fn token_url() -> String {
    "https://api.ownerrez.com/oauth/access_token".to_owned()
}

fn base_url() -> String {
    "https://api.ownerrez.com/v2".to_owned()
}

fn overlap_secs() -> u32 {
    900
}

fn compare_every_secs() -> u32 {
    3600
}

fn page_size() -> u32 {
    100
}

fn limits() -> Limits {
    Limits { calls_per_sec: 1, burst: 1, ..Limits::default() }
}

fn given_limits<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Limits, D::Error> {
    Limits::with_pace(deserializer, 1, 1)
}

/// Seconds after which a block of the vendor's is likely to have lifted; it does not say.
const BLOCKED: std::time::Duration = std::time::Duration::from_secs(60);

/// The connector.
pub struct OwnerRez {
    client: Client,
    base: Url,
    pass: Pass,
    user_agent: String,
    webhook: Option<WebhookConfig>,
    page_size: u32,
    account: Account,
}

/// What lets calls in.
enum Pass {
    Personal(String, SecretString),
    Bearer(SecretString),
    Authorised(Box<Authority>),
}

impl fmt::Debug for OwnerRez {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "OwnerRez({})", self.account.connection)
    }
}

#[async_trait]
impl Component for OwnerRez {
    type Live = dyn Source;
    type Config = Config;
    const NAME: &'static str = "ownerrez";
    const ABOUT: &'static str = "OwnerRez: bookings, blocks and holds, properties and guests, by pull and by webhook";

    async fn open(config: Config, env: Env) -> Result<Box<dyn Source>> {
        let base = managers::base("base_url", &config.base_url)?;
        // What comes from an unset variable is empty.
        let user = config.user.filter(|user| !user.is_empty());
        let client_id = config.client_id.filter(|id| !id.is_empty());
        if !(1..=100).contains(&config.page_size) {
            return Err(Fault::user("`page_size` must be between 1 and 100"));
        }
        let program = concat!("propflow/", env!("CARGO_PKG_VERSION"));
        let user_agent = match &client_id {
            Some(id) => format!("{program} ({id})"),
            None => program.to_owned(),
        };
        if header::HeaderValue::from_str(&user_agent).is_err() {
            return Err(Fault::user("`client_id` holds characters that no header can hold"));
        }
        let client = Client::new(&managers::budget("ownerrez", &base), &env, config.limits)?;
        let pass = match (config.token, config.oauth) {
            (Some(token), None) => {
                let token = token.resolve()?;
                match user {
                    Some(user) => Pass::Personal(user, token),
                    None if token.expose_secret().starts_with("pt_") => {
                        return Err(Fault::user("a personal access token of OwnerRez needs `user`")
                            .hint("Set `user` to the e-mail address of the account that made the token."));
                    }
                    None => Pass::Bearer(token),
                }
            }
            (None, Some(oauth)) => {
                let Some(client_id) = client_id else {
                    return Err(Fault::user("an OAuth app of OwnerRez needs `client_id`")
                        .hint("Set `client_id` as the app's page shows it (`c_…`)."));
                };
                let app = App {
                    vendor: "OwnerRez",
                    connector: <Self as Component>::NAME,
                    connection: env.connection.clone(),
                    consent: address("oauth.authorize_url", &oauth.authorize_url)?,
                    token: address("oauth.token_url", &oauth.token_url)?,
                    client_id,
                    client_secret: oauth.client_secret.resolve()?,
                    redirect: oauth.redirect_uri,
                    style: Style::Form,
                    user_agent: user_agent.clone(),
                    grant: None,
                    lifetime: None,
                };
                Pass::Authorised(Box::new(Authority::new(app, client.clone(), &env)))
            }
            _ => {
                return Err(Fault::user("`ownerrez` needs exactly one of `token` and `oauth`").hint(
                    "`token` for a token that you have, `oauth` for an app that the account's owner authorises.",
                ));
            }
        };
        Ok(Box::new(Self {
            client,
            base,
            pass,
            user_agent,
            webhook: config.webhook,
            page_size: config.page_size,
            account: Account::new(&env, config.overlap_secs, config.compare_every_secs, config.properties),
        }))
    }
}

#[async_trait]
impl Source for OwnerRez {
    fn streams(&self) -> Vec<Stream> {
        let about = "properties, then bookings, blocks and holds with their guests";
        vec![managers::stream(about, &[Kind::Reservation, Kind::Listing, Kind::Guest])]
    }

    async fn check(&self) -> Result<()> {
        let url = managers::below(&self.base, "users/me")?;
        self.ask::<serde::de::IgnoredAny>(&url).await?.ok_or_else(|| managers::missing(&url))?;
        Ok(())
    }

    fn read(&self, request: Request) -> BoxStream<'_, Result<Event>> {
        emit::stream(move |emit| Box::pin(managers::read(self, request, emit)))
    }

    fn authority(&self) -> Option<&Authority> {
        if let Pass::Authorised(authority) = &self.pass { Some(authority) } else { None }
    }

    fn webhook(&self) -> Option<&dyn Webhook> {
        self.webhook.as_ref().map(|webhook| webhook as &dyn Webhook)
    }
}

impl OwnerRez {
    fn request(&self, url: &Url, token: Option<&SecretString>) -> RequestBuilder {
        let request = self
            .client
            .request(Method::GET, url.clone())
            .header(header::USER_AGENT, &self.user_agent)
            .header(header::ACCEPT, "application/json");
        match (&self.pass, token) {
            (Pass::Personal(user, token), _) => request.basic_auth(user, Some(token.expose_secret())),
            (Pass::Bearer(token), _) | (Pass::Authorised(_), Some(token)) => request.bearer_auth(token.expose_secret()),
            (Pass::Authorised(_), None) => request,
        }
    }

    async fn ask<T: serde::de::DeserializeOwned>(&self, url: &Url) -> Result<Option<Told<T>>> {
        let Pass::Authorised(authority) = &self.pass else {
            return managers::ask(&self.client, url, || self.request(url, None)).await.map_err(refused);
        };
        let token = authority.token(None).await?;
        match managers::ask(&self.client, url, || self.request(url, Some(&token))).await {
            Err(Refusal { cause: Cause::Status(StatusCode::UNAUTHORIZED, _), .. }) => {
                let token = authority.token(Some(&token)).await?;
                managers::ask(&self.client, url, || self.request(url, Some(&token))).await.map_err(refused)
            }
            other => other.map_err(refused),
        }
    }

    /// The address of a list's first page.
    fn list(&self, path: &str, query: &[(&str, &str)]) -> Result<Url> {
        let mut url = managers::below(&self.base, path)?;
        url.query_pairs_mut().extend_pairs(query).append_pair("limit", &self.page_size.to_string());
        Ok(url)
    }

    async fn page<T>(&self, url: &Url, kind: Kind, understand: fn(&str) -> Option<T>) -> Result<Page<T>> {
        let (mut before, mut url) = (total(url), url.clone());
        url.set_fragment(None);
        for _ in 0..MOST_STEPS {
            let Listed { mut page, total } = self.listed(&url, kind, understand).await?;
            let lost = before.saturating_sub(total.unwrap_or(before));
            // So many rows in front of this page may have gone since the last one: then those behind have moved up.
            if let Some(back) = Some(lost).filter(|lost| *lost > 0).and_then(|lost| step_back(&url, lost)) {
                before = total.unwrap_or(before);
                url = back;
                continue;
            }
            if let (Some(next), Some(total)) = (&mut page.next, total) {
                next.push_str(&format!("#{total}"));
            }
            return Ok(page);
        }
        Err(Fault::remote(format!("`{}` shrinks faster than it can be read", SafeUrl(url))))
    }

    async fn listed<T>(&self, url: &Url, kind: Kind, understand: fn(&str) -> Option<T>) -> Result<Listed<T>> {
        let told = self.ask::<api::List>(url).await?.ok_or_else(|| managers::missing(url))?;
        let list = told.what;
        let mut page = match &list.items {
            Some(items) => Page::of(items, kind, &self.account.connection, understand),
            None if list.limit.is_some() && list.offset.is_some() => Page::of(&[], kind, "", understand),
            None => return Err(managers::strange(url)),
        };
        page.now = told.now;
        page.next = list.next_page_url.get().map(|next| self.next(url, next)).transpose()?.map(String::from);
        // A count of the page alone, which is not documented and not excluded, says nothing.
        let total = list.count.filter(|count| *count > list.items.as_ref().map_or(0, Vec::len));
        Ok(Listed { page, total })
    }

    /// The address of the next page, if it is one to which the token may be sent.
    fn next(&self, here: &Url, next: &str) -> Result<Url> {
        let wrong = |what: &str| {
            Fault::new(
                Blame::Remote,
                Retry::Never,
                format!("`{}` names a next page {what}, which is not followed", SafeUrl(here.clone())),
            )
        };
        let url = here.join(next).map_err(|_| wrong("that is no address"))?;
        if url.origin() != self.base.origin() || !url.username().is_empty() || url.password().is_some() {
            let host = url.host_str().unwrap_or("nowhere").to_owned();
            return Err(wrong(&format!("on another host, `{host}`"))
                .hint("The token is sent to the host of `base_url` only. Set `base_url` if the vendor has moved."));
        }
        let same = here[..url::Position::AfterQuery] == url[..url::Position::AfterQuery];
        if same {
            return Err(wrong("that is the same page again"));
        }
        Ok(url)
    }

    /// One object by its id.
    async fn object<T>(&self, path: &str, id: &str, understand: fn(&str) -> Option<T>) -> Result<Option<T>> {
        let mut url = managers::below(&self.base, &format!("{path}/{id}"))?;
        if path == "bookings" {
            url.query_pairs_mut().extend_pairs(INCLUDED);
        } else if path == "properties" {
            url.query_pairs_mut().append_pair("include_listing_numbers", "true");
        }
        let Some(told) = self.ask::<Box<RawValue>>(&url).await? else { return Ok(None) };
        understand(told.what.get()).map(Some).ok_or_else(|| managers::strange(&url))
    }
}

/// How often a page is asked for again because rows have moved.
const MOST_STEPS: usize = 20;

/// A page, and how long its whole list was.
struct Listed<T> {
    page: Page<T>,
    total: Option<usize>,
}

/// How long a list was when its last page was read. The address remembers it where no server sees it.
fn total(url: &Url) -> usize {
    url.fragment().and_then(|total| total.parse().ok()).unwrap_or(0)
}

/// The address of a page that begins so many rows earlier, if pages are addressed by rows.
fn step_back(url: &Url, rows: usize) -> Option<Url> {
    let offset: usize = url.query_pairs().find(|(key, _)| key == "offset")?.1.parse().ok()?;
    let others: Vec<(String, String)> = url.query_pairs().into_owned().filter(|(key, _)| key != "offset").collect();
    let mut back = url.clone();
    let offset = offset.checked_sub(rows)?.to_string();
    back.query_pairs_mut().clear().extend_pairs(others).append_pair("offset", &offset);
    Some(back)
}

/// What is asked for with each booking. Door codes, custom fields and agreements are not.
const INCLUDED: [(&str, &str); 2] = [("include_guest", "true"), ("include_charges", "true")];

/// Says when to come back from a refusal that does not say so itself.
fn refused(refusal: Refusal) -> Fault {
    match refusal.cause {
        Cause::Status(StatusCode::TOO_MANY_REQUESTS, _) if refusal.fault.retry == Retry::Backoff => {
            refusal.fault.retry(Retry::After(BLOCKED)).hint(
                "The vendor allows 300 calls in five minutes to each IP address; others behind the same address count too.",
            )
        }
        _ => refusal.fault,
    }
}

#[async_trait]
impl Manager for OwnerRez {
    const NAME: &'static str = "ownerrez";
    const TOGETHER: Option<usize> = Some(25);
    const GUESTS: bool = true;

    fn account(&self) -> &Account {
        &self.account
    }

    async fn listings(&self) -> Result<Page<Listing>> {
        let first = self.list("properties", &[("include_listing_numbers", "true")])?;
        let mut all = self.page(&first, Kind::Listing, api::property).await?;
        for _ in 0..managers::MOST_PAGES {
            let Some(next) = all.next.take() else { return Ok(all) };
            let page = self.page(&self.next(&self.base, &next)?, Kind::Listing, api::property).await?;
            all.items.extend(page.items);
            all.rejects.extend(page.rejects);
            all.next = page.next;
        }
        Err(managers::endless(<Self as Manager>::NAME))
    }

    async fn listing(&self, id: &str) -> Result<Option<Listing>> {
        self.object("properties", id, api::property).await
    }

    async fn changed(&self, from: DateTime<Utc>, at: Option<&str>) -> Result<Page<Booking>> {
        let first = || {
            let since = from.to_rfc3339_opts(SecondsFormat::Secs, true);
            self.list("bookings", &[("since_utc", since.as_str()), INCLUDED[0], INCLUDED[1]])
        };
        let url = self.place(at, first)?;
        self.page(&url, Kind::Reservation, api::booking).await
    }

    async fn upcoming(&self, listings: &[String], from: NaiveDate, at: Option<&str>) -> Result<Page<Booking>> {
        let first = || {
            let (ids, from) = (listings.join(","), from.to_string());
            self.list("bookings", &[("property_ids", ids.as_str()), ("from", &from), INCLUDED[0], INCLUDED[1]])
        };
        let url = self.place(at, first)?;
        self.page(&url, Kind::Reservation, api::booking).await
    }

    async fn reservation(&self, id: &str) -> Result<Option<Booking>> {
        self.object("bookings", id, api::booking).await
    }

    async fn guest(&self, id: &str) -> Result<Option<Person>> {
        self.object("guests", id, api::guest).await
    }
}

impl OwnerRez {
    /// The first page, or the one that a cursor remembers. The cursor may be older than the settings.
    fn place(&self, at: Option<&str>, first: impl FnOnce() -> Result<Url>) -> Result<Url> {
        match at {
            Some(at) => self.next(&self.base, at),
            None => first(),
        }
    }
}
