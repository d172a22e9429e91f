//! The access token: kept in memory, asked for once, and again when the vendor does not take it any more.

use std::time::Duration;

use catalog::{Fault, Result};
use http::Method;
use secrecy::{ExposeSecret as _, SecretString};
use tokio::sync::Mutex;
use url::Url;

use super::{api, expired};
use crate::http::Client;
use crate::managers;

/// Where tokens come from.
pub(super) struct Tokens {
    url: Url,
    account_id: String,
    client_secret: SecretString,
    wait: Duration,
    current: Mutex<Option<SecretString>>,
}

impl Tokens {
    pub(super) fn new(base: &Url, account_id: &str, client_secret: SecretString, wait_ms: u64) -> Result<Self> {
        Ok(Self {
            url: managers::below(base, "accessTokens")?,
            account_id: account_id.to_owned(),
            client_secret,
            wait: Duration::from_millis(wait_ms.min(60_000)),
            current: Mutex::new(None),
        })
    }

    /// The token to use. Callers that come while one is being fetched wait for it.
    pub(super) async fn get(&self, client: &Client) -> Result<SecretString> {
        let mut current = self.current.lock().await;
        if let Some(token) = &*current {
            return Ok(token.clone());
        }
        let token = self.fetch(client).await?;
        *current = Some(token.clone());
        Ok(token)
    }

    /// Gives up a token that was refused, unless another one has taken its place meanwhile.
    pub(super) async fn forget(&self, refused: &SecretString) {
        let mut current = self.current.lock().await;
        if current.as_ref().is_some_and(|token| token.expose_secret() == refused.expose_secret()) {
            *current = None;
        }
    }

    /// Asks the vendor for a new token.
    async fn fetch(&self, client: &Client) -> Result<SecretString> {
        let form = [
            ("grant_type", "client_credentials"),
            ("client_id", self.account_id.as_str()),
            ("client_secret", self.client_secret.expose_secret()),
            ("scope", "general"),
        ];
        let request = || client.request(Method::POST, self.url.clone()).form(&form);
        let told = managers::ask::<api::Token>(client, &self.url, request).await.map_err(|refusal| {
            match expired(refusal.cause) {
                true => Fault::user("Hostaway refused the account's id and client secret")
                    .hint("Check `account_id` and `client_secret`; a new secret can be made in Hostaway's settings."),
                false => refusal.fault,
            }
        })?;
        let token = told.ok_or_else(|| managers::missing(&self.url))?.what.access_token;
        // The vendor asks for it: a token does not work at once.
        tokio::time::sleep(self.wait).await;
        Ok(token)
    }
}
