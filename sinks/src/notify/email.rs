//! `email`: messages by SMTP, as plain text.
//!
//! The `Message-ID` is made from the message's key, so that a message that is sent twice, because the process died between
//! the delivery and the note of it, shows as one in most mailboxes.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use catalog::store::outbox::Message;
use catalog::{Blame, Clock, Component, Env, Fault, Result, Retry, SecretRef};
use lettre::message::{Mailbox, header::ContentType};
use lettre::transport::smtp::authentication::Credentials;
use lettre::transport::smtp::client::{Tls, TlsParameters};
use lettre::transport::smtp::extension::ClientId;
use lettre::{Address, AsyncSmtpTransport, AsyncTransport, Tokio1Executor};
use schemars::JsonSchema;
use secrecy::ExposeSecret;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{address_of, key, notice};
use crate::Courier;

/// The mail server and the sender.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The mail server's name.
    pub host: String,
    /// Its port; 0, or left out: 587 for `starttls`, 465 for `tls`, 25 for `none`.
    #[serde(default)]
    pub port: u16,
    /// How the connection is protected.
    #[serde(default)]
    pub security: Security,
    /// The user, if the server asks for one.
    #[serde(default)]
    pub username: Option<String>,
    /// The user's password, by reference.
    #[serde(default)]
    pub password: Option<SecretRef>,
    /// The sender, as `name@domain.example` or `Name <name@domain.example>`.
    pub from: String,
    /// Where answers go, if not to the sender.
    #[serde(default)]
    pub reply_to: Option<String>,
    /// Seconds until an exchange is given up.
    #[serde(default = "timeout")]
    pub timeout_secs: u64,
}

fn timeout() -> u64 {
    30
}

/// How a connection to a mail server is protected.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Security {
    /// Begins plain and must become TLS before anything is said.
    #[default]
    Starttls,
    /// TLS from the first byte.
    Tls,
    /// None at all; only to this machine.
    None,
}

/// The courier.
pub struct Email {
    transport: AsyncSmtpTransport<Tokio1Executor>,
    from: Mailbox,
    reply_to: Option<Mailbox>,
    clock: Arc<dyn Clock>,
}

impl std::fmt::Debug for Email {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Email")
    }
}

fn mailbox(setting: &str, text: &str) -> Result<Mailbox> {
    text.parse().map_err(|_| {
        Fault::user(format!("`{setting}` is no e-mail address"))
            .hint("Write it as `name@domain.example` or `Name <name@domain.example>`.")
    })
}

fn is_loopback(host: &str) -> bool {
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

#[async_trait]
impl Component for Email {
    type Live = dyn Courier;
    type Config = Config;
    const NAME: &'static str = "email";
    const ABOUT: &'static str = "E-mail to guests, owners and staff, by SMTP";

    async fn open(config: Config, env: Env) -> Result<Box<dyn Courier>> {
        let from = mailbox("from", &config.from)?;
        let reply_to = config.reply_to.as_deref().map(|text| mailbox("reply_to", text)).transpose()?;
        let parameters = || {
            TlsParameters::new(config.host.clone()).map_err(|_| {
                Fault::user("TLS cannot be set up for `host`").hint("Write the server's name, without a scheme.")
            })
        };
        let (tls, usual) = match config.security {
            Security::Starttls => (Tls::Required(parameters()?), 587),
            Security::Tls => (Tls::Wrapper(parameters()?), 465),
            Security::None if is_loopback(&config.host) => (Tls::None, 25),
            Security::None => {
                return Err(Fault::user("`security` may be `none` only for a mail server on this machine")
                    .hint("Use `starttls` or `tls`."));
            }
        };
        let mut builder = AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous(config.host.clone())
            .port(if config.port == 0 { usual } else { config.port })
            .tls(tls)
            .timeout(Some(Duration::from_secs(config.timeout_secs)))
            .hello_name(ClientId::Domain(from.email.domain().to_owned()));
        match (&config.username, &config.password) {
            (Some(user), Some(password)) => {
                let password = password.resolve()?.expose_secret().to_owned();
                builder = builder.credentials(Credentials::new(user.clone(), password));
            }
            (None, None) => {}
            _ => return Err(Fault::user("`username` and `password` belong together")),
        }
        Ok(Box::new(Self { transport: builder.build(), from, reply_to, clock: env.clock.clone() }))
    }
}

#[async_trait]
impl Courier for Email {
    async fn check(&self) -> Result<()> {
        match self.transport.test_connection().await {
            Ok(true) => Ok(()),
            Ok(false) => Err(Fault::remote("the mail server does not answer")),
            Err(error) => Err(fault(&error)),
        }
    }

    async fn deliver(&self, message: &Message) -> Result<Option<Value>> {
        let notice = notice(message, Self::NAME)?;
        let to: Address = address_of(&notice)?.parse().map_err(|_| {
            Fault::user("the message's address is no e-mail address").hint("Correct it where it comes from.")
        })?;
        let id = format!("<{}@{}>", key(message), self.from.email.domain());
        // A line break in a subject would begin another header.
        let subject: String = notice.subject.split_whitespace().collect::<Vec<_>>().join(" ");
        let mut mail = lettre::Message::builder()
            .message_id(Some(id.clone()))
            .date(SystemTime::from(self.clock.now()))
            .from(self.from.clone())
            .to(Mailbox::new(None, to))
            .subject(subject);
        if let Some(reply_to) = &self.reply_to {
            mail = mail.reply_to(reply_to.clone());
        }
        let mail = mail
            .header(ContentType::TEXT_PLAIN)
            .body(notice.text)
            .map_err(|_| Fault::us(format!("message {} cannot be written as an e-mail", message.id)))?;
        self.transport.send(mail).await.map_err(|error| fault(&error))?;
        Ok(Some(json!({ "message_id": id })))
    }
}

/// What went wrong, without the server's words: they like to repeat the address.
fn fault(error: &lettre::transport::smtp::Error) -> Fault {
    let code = error.status().map(u16::from);
    match code {
        Some(code @ (530 | 534 | 535 | 538)) => Fault::user(format!("the mail server does not let us in ({code})"))
            .retry(Retry::Backoff)
            .hint("Check `username`, `password` and `security` of the courier."),
        Some(code) if error.is_permanent() => {
            Fault::new(Blame::Remote, Retry::Never, format!("the mail server refuses the message ({code})"))
                .hint("Check the recipient's address and whether the server may send for this sender.")
        }
        Some(code) => Fault::remote(format!("the mail server does not take the message now ({code})")),
        None if error.is_tls() => Fault::user("the mail server's TLS connection failed")
            .retry(Retry::Backoff)
            .hint("Check `host`, `port` and `security`."),
        None if error.is_timeout() => Fault::remote("the mail server did not answer in time"),
        None => Fault::remote("the mail server cannot be reached or broke off")
            .hint("Check `host` and `port` of the courier."),
    }
}
