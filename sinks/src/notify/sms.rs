//! `sms`: text messages, by any provider that takes one over HTTP. The settings say how it wants to be called.

use async_trait::async_trait;
use catalog::http::{Client, Limits, account, address};
use catalog::store::outbox::Message;
use catalog::{Component, Env, Fault, Result, SecretRef};
use http::{HeaderName, HeaderValue};
use schemars::JsonSchema;
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use url::Url;

use super::{address_of, key, notice};
use crate::Courier;

/// The provider and how it wants to be called.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The address that takes a message by `POST`.
    pub url: String,
    /// The user of HTTP Basic; without it the token goes as a bearer token.
    #[serde(default)]
    pub username: Option<String>,
    /// The token, key or password, by reference.
    pub token: SecretRef,
    /// The header that carries the token bare, for providers that want neither Basic nor a bearer token.
    #[serde(default)]
    pub token_header: Option<String>,
    /// The sender: a number or a name that the provider knows.
    pub from: String,
    /// What the body is.
    #[serde(default)]
    pub body: Body,
    /// The provider's name for the recipient's number.
    #[serde(default = "to_field")]
    pub to_field: String,
    /// The provider's name for the sender.
    #[serde(default = "from_field")]
    pub from_field: String,
    /// The provider's name for the text.
    #[serde(default = "text_field")]
    pub text_field: String,
    /// The header by which the provider knows a repetition.
    #[serde(default = "idempotency_header")]
    pub idempotency_header: String,
    /// Where in the answer the provider's id stands, as a JSON pointer.
    #[serde(default = "id_pointer")]
    pub id_pointer: String,
    /// How the provider may be called.
    #[serde(default)]
    pub limits: Limits,
}

/// How the fields are written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Body {
    /// A JSON object.
    #[default]
    Json,
    /// A form.
    Form,
}

fn to_field() -> String {
    "to".to_owned()
}

fn from_field() -> String {
    "from".to_owned()
}

fn text_field() -> String {
    "text".to_owned()
}

fn idempotency_header() -> String {
    "idempotency-key".to_owned()
}

fn id_pointer() -> String {
    "/id".to_owned()
}

/// The courier.
pub struct Sms {
    client: Client,
    url: Url,
    token: SecretString,
    token_header: Option<HeaderName>,
    idempotency_header: HeaderName,
    config: Config,
}

impl std::fmt::Debug for Sms {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Sms")
    }
}

fn header(setting: &str, text: &str) -> Result<HeaderName> {
    text.to_ascii_lowercase().parse().map_err(|_| Fault::user(format!("`{setting}` is no name of a header")))
}

#[async_trait]
impl Component for Sms {
    type Live = dyn Courier;
    type Config = Config;
    const NAME: &'static str = "sms";
    const ABOUT: &'static str = "Text messages, by an HTTP provider that the settings describe";

    async fn open(config: Config, env: Env) -> Result<Box<dyn Courier>> {
        let token = config.token.resolve()?;
        let limits = Limits { attempts: 1, max_body_bytes: 64 << 10, ..config.limits.clone() };
        Ok(Box::new(Self {
            // Some providers write the account into the path.
            client: Client::new(&account("sms", &token), &env, limits)?.secret_paths(),
            url: address("url", &config.url)?,
            token_header: config.token_header.as_deref().map(|h| header("token_header", h)).transpose()?,
            idempotency_header: header("idempotency_header", &config.idempotency_header)?,
            token,
            config,
        }))
    }
}

#[async_trait]
impl Courier for Sms {
    /// Nothing can be asked of a provider in general without sending.
    async fn check(&self) -> Result<()> {
        Ok(())
    }

    async fn deliver(&self, message: &Message) -> Result<Option<Value>> {
        let notice = notice(message, Self::NAME)?;
        let to = address_of(&notice)?;
        let config = &self.config;
        let fields =
            [(&config.to_field, to), (&config.from_field, &config.from), (&config.text_field, notice.text.trim_end())];
        let request = self.client.request(http::Method::POST, self.url.clone());
        let request = request.header(&self.idempotency_header, key(message));
        let request = match (&self.token_header, &config.username) {
            (Some(name), _) => {
                let mut value = HeaderValue::from_str(self.token.expose_secret())
                    .map_err(|_| Fault::user("the secret of `token` cannot stand in a header"))?;
                value.set_sensitive(true);
                request.header(name, value)
            }
            (None, Some(user)) => request.basic_auth(user, Some(self.token.expose_secret())),
            (None, None) => request.bearer_auth(self.token.expose_secret()),
        };
        let request = match config.body {
            Body::Form => request.form(&fields),
            Body::Json => {
                let fields: Map<String, Value> = fields.iter().map(|(n, v)| ((*n).clone(), json!(v))).collect();
                request.json(&fields)
            }
        };
        let answer = self.client.call(request).await?;
        let answer: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
        Ok(answer
            .pointer(&config.id_pointer)
            .filter(|id| id.is_string() || id.is_number())
            .map(|id| json!({ "id": id })))
    }
}
