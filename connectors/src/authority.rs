//! Connections that the owner of an account authorises: OAuth 2.0 with an authorisation code.
//!
//! The owner consents at an address and gets a code, which is exchanged once for an access token and, from vendors whose
//! access tokens end, for a refresh token: the *grant*. Both are kept where all processes find them. One process at a time
//! asks for a new access token; a grant that its vendor replaces is kept before anything else is done with the answer.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use catalog::{Clock, Env, Fault, Issued, Issuer, Result, Tokens};
use http::{Method, StatusCode, header};
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use serde_json::Value;
use url::Url;

use crate::http::{Cause, Client, Refusal};

/// How long an access token is used whose vendor names no end: until it is refused.
const ENDLESS: Duration = Duration::from_secs(10 * 365 * 86_400);

/// How a vendor wants to be asked for tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Style {
    /// A form with `grant_type`, as the standard has it.
    Form,
    /// A JSON object that holds the code or the grant alone.
    Json,
}

/// What is known of the app that the owner authorises.
pub(crate) struct App {
    /// The vendor, as people know it.
    pub(crate) vendor: &'static str,
    pub(crate) connector: &'static str,
    pub(crate) connection: String,
    /// Where the owner consents.
    pub(crate) consent: Url,
    /// Where codes and grants are exchanged.
    pub(crate) token: Url,
    pub(crate) client_id: String,
    pub(crate) client_secret: SecretString,
    /// Where the vendor sends the owner back to, as the app is registered there.
    pub(crate) redirect: Option<String>,
    pub(crate) style: Style,
    pub(crate) user_agent: String,
    /// A grant that was given elsewhere, used until there is another one.
    pub(crate) grant: Option<SecretString>,
    /// How long an access token lasts whose answer does not say; `None` until it is refused.
    pub(crate) lifetime: Option<Duration>,
}

/// The authorisation of one connection.
pub struct Authority {
    app: App,
    client: Client,
    tokens: Arc<dyn Tokens>,
    clock: Arc<dyn Clock>,
    /// Whether the vendor has just refused the grant.
    ended: AtomicBool,
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Authority({})", self.key())
    }
}

/// What a vendor answers with.
#[derive(Deserialize)]
struct Given {
    access_token: SecretString,
    #[serde(default)]
    refresh_token: Option<SecretString>,
    #[serde(default)]
    expires_in: Option<Value>,
    #[serde(default)]
    expires_at: Option<i64>,
}

impl Authority {
    pub(crate) fn new(app: App, client: Client, env: &Env) -> Self {
        let (tokens, clock) = (env.tokens.clone(), env.clock.clone());
        Self { app, client, tokens, clock, ended: AtomicBool::new(false) }
    }

    fn key(&self) -> String {
        catalog::token::key(self.app.connector, &self.app.connection)
    }

    /// Where the vendor sends the owner back to, if the settings say.
    pub fn redirect(&self) -> Option<&str> {
        self.app.redirect.as_deref()
    }

    /// The address at which the owner consents. The vendor hands `state` back with the code.
    pub fn consent(&self, redirect: Option<&str>, state: &str) -> Url {
        let mut url = self.app.consent.clone();
        let mut query = url.query_pairs_mut();
        query.append_pair("response_type", "code").append_pair("client_id", &self.app.client_id);
        if let Some(redirect) = redirect.or(self.redirect()) {
            query.append_pair("redirect_uri", redirect);
        }
        query.append_pair("state", state);
        drop(query);
        url
    }

    /// Exchanges a code, which works once, and keeps what it gives in place of what was there.
    ///
    /// # Errors
    /// When the vendor does not take the code, or what it gave cannot be kept.
    pub async fn accept(&self, code: String) -> Result<()> {
        let given =
            self.ask("authorization_code", "code", &code.into()).await.map_err(|refusal| match refusal.cause {
                Cause::Status(StatusCode::BAD_REQUEST | StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN, _) => {
                    Fault::user(format!("{} does not take the code", self.app.vendor))
                        .hint("A code works once and for some minutes. Begin anew, and check the app's id and secret.")
                }
                _ => refusal.fault,
            })?;
        let issued = self.keep(given).await?;
        self.tokens.keep(&self.key(), &issued).await
    }

    /// An access token; another one than `refused`, which the vendor has just turned away.
    ///
    /// # Errors
    /// When the connection is not authorised, or not any more: then it is stopped, and its tokens are gone.
    pub async fn token(&self, refused: Option<&SecretString>) -> Result<SecretString> {
        if let Some(refused) = refused
            && self.grant().await?.is_none()
        {
            // Without a grant there is no other token than the one that a person brings.
            return match self.tokens.kept(&self.key()).await? {
                Some(other) if other.expose_secret() != refused.expose_secret() => Ok(other),
                _ => Err(self.end().await),
            };
        }
        let token = self.tokens.get(&self.key(), refused, self).await;
        if token.is_err() && self.ended.swap(false, Ordering::AcqRel) {
            return Err(self.end().await);
        }
        token
    }

    async fn grant(&self) -> Result<Option<SecretString>> {
        let kept = self.tokens.kept(&catalog::token::grant_key(&self.key())).await?;
        Ok(kept.or_else(|| self.app.grant.clone()))
    }

    /// Stops the connection, and says so.
    async fn end(&self) -> Fault {
        let App { vendor, connector, connection, .. } = &self.app;
        let reason = format!("{vendor} does not take its authorisation any more");
        if let Err(fault) = self.tokens.end(connector, connection, &reason).await {
            return fault;
        }
        tracing::error!("connection `{connection}` is stopped: {reason}");
        Fault::user(format!("connection `{connection}` is stopped: {reason}"))
            .hint(format!("Authorise it again with `propflow authorise {connection}`."))
    }

    async fn ask(&self, grant_type: &str, name: &str, secret: &SecretString) -> Result<Given, Refusal> {
        let app = &self.app;
        let request = self
            .client
            .request(Method::POST, app.token.clone())
            .basic_auth(&app.client_id, Some(app.client_secret.expose_secret()))
            .header(header::USER_AGENT, &app.user_agent)
            .header(header::ACCEPT, "application/json");
        let request = match app.style {
            Style::Form => request.form(&[("grant_type", grant_type), (name, secret.expose_secret())]),
            Style::Json => request.json(&serde_json::json!({ name: secret.expose_secret() })),
        };
        let answer = self.client.call(request).await?;
        serde_json::from_slice(&answer.body).map_err(|_| Refusal {
            cause: Cause::Body,
            fault: Fault::remote(format!("{} did not answer with a token", app.vendor))
                .hint("The vendor may be under maintenance, or has changed its API."),
        })
    }

    /// Keeps the grant, if there is another one, and gives the access token.
    async fn keep(&self, given: Given) -> Result<Issued> {
        if let Some(token) = given.refresh_token {
            let known = self.grant().await?;
            if known.is_none_or(|known| known.expose_secret() != token.expose_secret()) {
                let key = catalog::token::grant_key(&self.key());
                self.tokens.keep(&key, &Issued { token, lifetime: ENDLESS }).await?;
            }
        }
        // Some write the seconds as text.
        let seconds = given.expires_in.as_ref().and_then(|v| v.as_u64().or_else(|| v.as_str()?.trim().parse().ok()));
        let at = given.expires_at.and_then(|at| u64::try_from(at - self.clock.now().timestamp()).ok());
        let lifetime = at.or(seconds).map(|s| Duration::from_secs(s).min(ENDLESS)).or(self.app.lifetime);
        Ok(Issued { token: given.access_token, lifetime: lifetime.unwrap_or(ENDLESS) })
    }
}

#[async_trait]
impl Issuer for Authority {
    fn counted(&self) -> bool {
        false
    }

    async fn issue(&self) -> Result<Issued> {
        let App { vendor, connection, .. } = &self.app;
        let grant = self.grant().await?.ok_or_else(|| {
            Fault::user(format!("connection `{connection}` is not authorised by the owner of its account"))
                .hint(format!("Run `propflow authorise {connection}` and follow what it says."))
        })?;
        match self.ask("refresh_token", "refresh_token", &grant).await {
            Ok(given) => self.keep(given).await,
            Err(Refusal { cause: Cause::Status(StatusCode::BAD_REQUEST, _), .. }) => {
                self.ended.store(true, Ordering::Release);
                Err(Fault::user(format!(
                    "{vendor} does not take the authorisation of connection `{connection}` any more"
                )))
            }
            Err(Refusal { cause: Cause::Status(StatusCode::UNAUTHORIZED, _), .. }) => Err(Fault::user(format!(
                "{vendor} refused the id and secret of the app behind connection `{connection}`"
            ))
            .hint("Check them in the pipeline file and at the vendor.")),
            Err(refusal) => Err(refusal.fault),
        }
    }
}
