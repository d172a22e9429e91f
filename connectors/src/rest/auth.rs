//! How calls are let in, and tokens that run out.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use catalog::{Clock, Fault, Result, SecretRef};
use chrono::{DateTime, TimeDelta, Utc};
use http::{HeaderName, HeaderValue};
use reqwest::{Method, RequestBuilder};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use tokio::sync::Mutex;
use url::Url;

use super::settings::Auth;
use crate::http::{Client, address};

/// A token is replaced this long before it runs out.
const MARGIN: TimeDelta = TimeDelta::seconds(60);

/// Credentials, resolved.
pub(super) enum Pass {
    None,
    Basic(String, Option<SecretString>),
    Header(HeaderName, HeaderValue),
    Query(String, SecretString),
    Token(Box<Tokens>),
}

impl fmt::Debug for Pass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Pass::None => "none",
            Pass::Basic(..) => "basic",
            Pass::Header(..) => "header",
            Pass::Query(..) => "query",
            Pass::Token(_) => "token",
        })
    }
}

/// Tokens of an OAuth 2.0 client.
pub(super) struct Tokens {
    url: Url,
    client_id: SecretString,
    client_secret: Option<SecretString>,
    basic: bool,
    scope: Option<String>,
    params: BTreeMap<String, String>,
    token_file: Option<PathBuf>,
    clock: Arc<dyn Clock>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    access: Option<(SecretString, Option<DateTime<Utc>>)>,
    refresh: Option<SecretString>,
}

#[derive(Deserialize)]
struct Given {
    access_token: SecretString,
    #[serde(default)]
    expires_in: Option<serde_json::Value>,
    #[serde(default)]
    refresh_token: Option<SecretString>,
}

/// A header's value that no log shows.
pub(super) fn hidden(setting: &str, text: &str) -> Result<HeaderValue> {
    let mut value = HeaderValue::try_from(text)
        .map_err(|_| Fault::user(format!("`{setting}` holds characters that a header cannot carry")))?;
    value.set_sensitive(true);
    Ok(value)
}

impl Pass {
    /// Fetches the secrets; makes no call.
    pub(super) fn of(auth: &Auth, clock: Arc<dyn Clock>) -> Result<Self> {
        let resolve =
            |setting: &str, secret: &SecretRef| secret.resolve().map_err(|f| f.at(format!("`auth.{setting}`")));
        Ok(match auth {
            Auth::None => Pass::None,
            Auth::Basic { user, password } => {
                Pass::Basic(user.clone(), password.as_ref().map(|p| resolve("password", p)).transpose()?)
            }
            Auth::Bearer { token } => {
                let token = resolve("token", token)?;
                let value = hidden("auth.token", &format!("Bearer {}", token.expose_secret()))?;
                Pass::Header(http::header::AUTHORIZATION, value)
            }
            Auth::ApiKey { key, header, query, prefix } => {
                let key = resolve("key", key)?;
                match (header, query) {
                    (Some(header), _) => {
                        let name = HeaderName::try_from(header)
                            .map_err(|_| Fault::user(format!("`auth.header`: `{header}` is not a header's name")))?;
                        Pass::Header(name, hidden("auth.key", &format!("{prefix}{}", key.expose_secret()))?)
                    }
                    (None, query) => Pass::Query(query.clone().unwrap_or_default(), key),
                }
            }
            Auth::Oauth2ClientCredentials { token_url, client_id, client_secret, scope, params, basic } => {
                Pass::Token(Box::new(Tokens {
                    url: address("auth.token_url", token_url)?,
                    client_id: resolve("client_id", client_id)?,
                    client_secret: Some(resolve("client_secret", client_secret)?),
                    basic: *basic,
                    scope: scope.clone(),
                    params: params.clone(),
                    token_file: None,
                    clock,
                    state: Mutex::default(),
                }))
            }
            Auth::Oauth2RefreshToken { token_url, client_id, client_secret, refresh_token, token_file, basic } => {
                let kept = token_file.as_deref().map(kept).transpose()?.flatten();
                let refresh = match kept {
                    Some(kept) => kept,
                    None => resolve("refresh_token", refresh_token)?,
                };
                Pass::Token(Box::new(Tokens {
                    url: address("auth.token_url", token_url)?,
                    client_id: resolve("client_id", client_id)?,
                    client_secret: client_secret.as_ref().map(|s| resolve("client_secret", s)).transpose()?,
                    basic: *basic,
                    scope: None,
                    params: BTreeMap::new(),
                    token_file: token_file.clone(),
                    clock,
                    state: Mutex::new(State { access: None, refresh: Some(refresh) }),
                }))
            }
        })
    }

    /// Puts the credentials on a request. `stale` is a token that was refused. Gives the token that is used.
    pub(super) async fn sign(
        &self,
        client: &Client,
        request: RequestBuilder,
        stale: Option<&SecretString>,
    ) -> Result<(RequestBuilder, Option<SecretString>)> {
        Ok(match self {
            Pass::None => (request, None),
            Pass::Basic(user, password) => {
                (request.basic_auth(user, password.as_ref().map(ExposeSecret::expose_secret)), None)
            }
            Pass::Header(name, value) => (request.header(name, value), None),
            Pass::Query(name, key) => (request.query(&[(name.as_str(), key.expose_secret())]), None),
            Pass::Token(tokens) => {
                let token = tokens.get(client, stale).await?;
                let value = hidden("access_token", &format!("Bearer {}", token.expose_secret()))?;
                (request.header(http::header::AUTHORIZATION, value), Some(token))
            }
        })
    }

    /// The parameter of the query that holds a secret.
    pub(super) fn secret_param(&self) -> Option<&str> {
        if let Pass::Query(name, _) = self { Some(name) } else { None }
    }
}

impl Tokens {
    /// A token that is still good. Whoever comes while one is being fetched waits for that one.
    async fn get(&self, client: &Client, stale: Option<&SecretString>) -> Result<SecretString> {
        let mut state = self.state.lock().await;
        let now = self.clock.now();
        if let Some((token, until)) = &state.access
            && until.is_none_or(|until| now + MARGIN < until)
            && stale.is_none_or(|stale| stale.expose_secret() != token.expose_secret())
        {
            return Ok(token.clone());
        }
        let mut form: Vec<(&str, &str)> = Vec::new();
        match &state.refresh {
            Some(refresh) => {
                form.push(("grant_type", "refresh_token"));
                form.push(("refresh_token", refresh.expose_secret()));
            }
            None => form.push(("grant_type", "client_credentials")),
        }
        form.extend(self.scope.as_deref().map(|scope| ("scope", scope)));
        form.extend(self.params.iter().map(|(name, value)| (name.as_str(), value.as_str())));
        let mut request = client.request(Method::POST, self.url.clone());
        let secret = self.client_secret.as_ref().map(ExposeSecret::expose_secret);
        if self.basic {
            request = request.basic_auth(self.client_id.expose_secret(), secret);
        } else {
            form.push(("client_id", self.client_id.expose_secret()));
            form.extend(secret.map(|secret| ("client_secret", secret)));
        }
        let answer = client
            .call(request.header(http::header::ACCEPT, "application/json").form(&form))
            .await
            .map_err(|refusal| Fault::from(refusal).at("no token was given"))?;
        let given: Given = serde_json::from_slice(&answer.body).map_err(|_| {
            Fault::remote("the token's address did not answer with a token")
                .hint("Check `auth.token_url`; the answer must be JSON with `access_token`.")
        })?;
        // Some write the seconds as text; without them the token is used until it is refused.
        let seconds = given.expires_in.as_ref().and_then(|v| v.as_i64().or_else(|| v.as_str()?.trim().parse().ok()));
        let until = seconds.and_then(TimeDelta::try_seconds).and_then(|d| now.checked_add_signed(d));
        if let Some(refresh) = given.refresh_token.filter(|_| state.refresh.is_some()) {
            let new = state.refresh.as_ref().is_none_or(|old| old.expose_secret() != refresh.expose_secret());
            if let Some(path) = self.token_file.as_deref().filter(|_| new) {
                keep(path, &refresh)?;
            } else if new {
                tracing::warn!(
                    "the refresh token was replaced by its vendor; name a `token_file`, or the next process may be refused"
                );
            }
            state.refresh = Some(refresh);
        }
        state.access = Some((given.access_token.clone(), until));
        Ok(given.access_token)
    }
}

fn kept(path: &Path) -> Result<Option<SecretString>> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(Some(text.trim().to_owned()).filter(|t| !t.is_empty()).map(Into::into)),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(Fault::user(format!("`auth.token_file`: `{}` cannot be read", path.display())).because(e)),
    }
}

/// Replaces the file whole; only its owner may read it.
fn keep(path: &Path, token: &SecretString) -> Result<()> {
    use std::io::Write;
    let failed = |e: std::io::Error| {
        Fault::user(format!("`auth.token_file`: `{}` cannot be written", path.display()))
            .hint("Without it the replaced refresh token would be lost with this process.")
            .because(e)
    };
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{}", std::process::id()));
    let beside = PathBuf::from(name);
    let _ = std::fs::remove_file(&beside);
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(&beside).map_err(failed)?;
    file.write_all(token.expose_secret().as_bytes()).and_then(|()| file.sync_all()).map_err(failed)?;
    std::fs::rename(&beside, path).map_err(failed)
}
