//! Deliveries of an OwnerRez OAuth app.
//!
//! They carry HTTP Basic credentials and neither a signature nor a time, so their content proves nothing: it only names
//! what to read again.

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
    /// The user that the app's settings name.
    pub user: String,
    /// The passwords that are taken, by reference: one, or two while it is being replaced. They should be long and random.
    pub passwords: Vec<SecretRef>,
    /// The OwnerRez user whose account this connection reads. One app receives the deliveries of all its users at one
    /// address, and those of others say nothing about this one.
    pub user_id: i64,
}

/// A delivery's fields that are read; what else it repeats of the object is not.
#[derive(Debug, Deserialize)]
struct Body {
    #[serde(default)]
    id: Text,
    #[serde(default)]
    user_id: Text,
    action: String,
    #[serde(default)]
    entity_type: Text,
    #[serde(default)]
    entity_id: Text,
}

impl Body {
    fn event(&self) -> String {
        match self.entity_type.get() {
            Some(entity) => format!("{entity}.{}", self.action),
            None => self.action.clone(),
        }
    }
}

fn body(delivery: &Delivery) -> Result<Body, Refused> {
    serde_json::from_slice(&delivery.body)
        .map_err(|_| Refused::Malformed(Cow::Borrowed("the body is no JSON object with an `action`")))
}

impl Webhook for WebhookConfig {
    fn verify(&self, delivery: &Delivery) -> Result<(), Refused> {
        any_basic(delivery, &self.user, &self.passwords)
    }

    fn identify(&self, delivery: &Delivery) -> Result<Identity, Refused> {
        let body = body(delivery)?;
        let event = body.event();
        Ok(Identity { id: body.id.0.unwrap_or_else(|| body_id(&delivery.body)), event })
    }

    fn decode(&self, delivery: &Delivery) -> Result<Decoded> {
        let body = body(delivery).map_err(|refused| Fault::remote(refused.to_string()))?;
        let mut decoded = Decoded { stream: Cow::Borrowed(managers::STREAM), ..Decoded::default() };
        let ours = body.user_id.get().is_none_or(|user| user == self.user_id.to_string());
        // A revocation ends the connection, so it has to name whose it is.
        if !ours {
            decoded.aside = Some("it is about another user of the app than `user_id` of the settings");
            return Ok(decoded);
        }
        if body.action == REVOKED && body.user_id.get().is_none() {
            decoded.aside = Some("it does not say whose authorisation was withdrawn");
            return Ok(decoded);
        }
        decoded.revoked = body.action == REVOKED;
        let happened =
            matches!(body.action.as_str(), "entity_create" | "entity_insert" | "entity_update" | "entity_delete");
        let kind = match body.entity_type.get() {
            Some("booking") => "reservation",
            Some("guest") => "guest",
            Some("property") => "listing",
            _ => return Ok(decoded),
        };
        if happened {
            decoded.objects = managers::object(kind, &body.entity_id, &body.event())?;
        }
        Ok(decoded)
    }
}

/// The customer has withdrawn the app's authorisation.
const REVOKED: &str = "application_authorization_revoked";
