//! `slack`: messages into a channel, by an incoming webhook. The webhook's address is the secret.

use async_trait::async_trait;
use catalog::http::{Client, Limits, account, address};
use catalog::store::outbox::Message;
use catalog::{Component, Env, Fault, Result, SecretRef};
use schemars::JsonSchema;
use secrecy::ExposeSecret;
use serde::Deserialize;
use serde_json::{Value, json};
use url::Url;

use super::notice;
use crate::Courier;

/// The webhook.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The incoming webhook's address, by reference.
    pub webhook_url: SecretRef,
    /// How it may be called; Slack allows one message a second.
    #[serde(default = "limits")]
    pub limits: Limits,
}

fn limits() -> Limits {
    Limits { calls_per_sec: 1, burst: 3, timeout_secs: 20, max_body_bytes: 64 << 10, ..Limits::default() }
}

/// The courier.
#[derive(Debug)]
pub struct Slack {
    client: Client,
    url: Url,
}

#[async_trait]
impl Component for Slack {
    type Live = dyn Courier;
    type Config = Config;
    const NAME: &'static str = "slack";
    const ABOUT: &'static str = "Slack: messages to staff, by an incoming webhook";

    async fn open(config: Config, env: Env) -> Result<Box<dyn Courier>> {
        let secret = config.webhook_url.resolve()?;
        let url = address("webhook_url", secret.expose_secret())?;
        // The outbox tries again, with patience that survives a restart.
        let limits = Limits { attempts: 1, ..config.limits };
        Ok(Box::new(Self { client: Client::new(&account("slack", &secret), &env, limits)?.secret_paths(), url }))
    }
}

#[async_trait]
impl Courier for Slack {
    /// A webhook can only be written to, so nothing is asked.
    async fn check(&self) -> Result<()> {
        Ok(())
    }

    async fn deliver(&self, message: &Message) -> Result<Option<Value>> {
        let notice = notice(message, Self::NAME)?;
        let body = json!({ "text": format!("*{}*\n{}", escape(&notice.subject), escape(&notice.text)) });
        let request = self.client.request(http::Method::POST, self.url.clone()).json(&body);
        self.client.call(request).await.map_err(Fault::from)?;
        Ok(None)
    }
}

/// Slack reads three characters as markup; unescaped, a guest's name could mention a whole channel.
fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
