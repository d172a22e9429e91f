//! Unified webhooks.
//!
//! They carry HTTP Basic credentials and no signature, and may come twice and out of order, so that the object in the body
//! is only a hint: it is read again.

use std::borrow::Cow;

use catalog::{Fault, Result, SecretRef};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::managers::{self, Text};
use crate::webhook::{Decoded, Delivery, Identity, Refused, Webhook, any_basic, body_id};

/// How deliveries are checked.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WebhookConfig {
    /// The `login` of the webhook's settings.
    pub login: String,
    /// The passwords that are taken, by reference: one, or two while it is being replaced. They should be long and random.
    pub passwords: Vec<SecretRef>,
}

/// The settings, and whose deliveries count.
#[derive(Debug)]
pub(super) struct Checked {
    pub(super) webhook: WebhookConfig,
    pub(super) account_id: String,
}

/// A delivery's fields that are read; the rest of the object is not.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Body {
    event: String,
    #[serde(default)]
    object: Text,
    #[serde(default)]
    account_id: Text,
    #[serde(default)]
    data: Option<Object>,
}

#[derive(Debug, Deserialize)]
struct Object {
    #[serde(default)]
    id: Text,
}

fn body(delivery: &Delivery) -> Result<Body, Refused> {
    serde_json::from_slice(&delivery.body)
        .map_err(|_| Refused::Malformed(Cow::Borrowed("the body is no JSON object with an `event`")))
}

impl Webhook for Checked {
    fn verify(&self, delivery: &Delivery) -> Result<(), Refused> {
        any_basic(delivery, &self.webhook.login, &self.webhook.passwords)
    }

    fn identify(&self, delivery: &Delivery) -> Result<Identity, Refused> {
        // The vendor gives deliveries no id. Two with one body say the same.
        Ok(Identity { event: body(delivery)?.event, id: body_id(&delivery.body) })
    }

    fn decode(&self, delivery: &Delivery) -> Result<Decoded> {
        let body = body(delivery).map_err(|refused| Fault::remote(refused.to_string()))?;
        let mut decoded = Decoded { stream: Cow::Borrowed(managers::STREAM), ..Decoded::default() };
        let ours = body.account_id.get().is_none_or(|account| account == self.account_id);
        let reservation =
            body.object.get().is_none_or(|object| object == "reservation") && body.event.starts_with("reservation.");
        if !ours {
            decoded.aside = Some("it is about another account than `account_id` of the settings");
        } else if reservation {
            let id = body.data.map(|data| data.id).unwrap_or_default();
            decoded.objects = managers::object("reservation", &id, &body.event)?;
        }
        Ok(decoded)
    }
}
