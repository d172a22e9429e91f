//! A change of contacts under way: one transaction, with its events and its messages to ResMan.

use catalog::store::events;
use catalog::store::outbox::{self, New};
use catalog::store::pg::fault;
use catalog::{Fault, Result};
use chrono::{DateTime, Utc};
use serde_json::json;
use sinks::resman::document::{Event, Lead, Person};
use tokio::sync::OwnedSemaphorePermit;
use uuid::Uuid;

use super::identity;
use super::model::Contact;
use super::service::Contacts;
use super::store::{self, Deed};

/// A transaction under way, with what it will announce and send.
pub(super) struct Work<'a> {
    pub(super) service: &'a Contacts,
    pub(super) tx: sqlx::Transaction<'static, sqlx::Postgres>,
    pub(super) now: DateTime<Utc>,
    pub(super) events: Vec<events::Event>,
    pub(super) messages: Vec<i64>,
    _turn: OwnedSemaphorePermit,
}

impl Work<'_> {
    /// Saves a change, with its event.
    pub(super) async fn change(
        &mut self,
        before: Option<&Contact>,
        after: &mut Contact,
        deed: &Deed<'_>,
    ) -> Result<bool> {
        let changed = store::changed(before, after);
        let moved = store::change(&mut self.tx, before, after, deed).await?;
        if moved {
            self.events.push(store::event(if before.is_none() { "created" } else { "updated" }, after, &changed));
        }
        identity::index(&mut self.tx, after, &self.service.region).await?;
        Ok(moved)
    }

    /// Puts a lead message into the outbox, if ResMan can take it: it knows nobody without both names.
    pub(super) async fn send(
        &mut self,
        contact: &mut Contact,
        kind: &str,
        event: Option<Event>,
        lead: Lead,
    ) -> Result<()> {
        if contact.first_name.is_empty() || contact.last_name.is_empty() {
            return Ok(());
        }
        let counterpart = store::counterparts(&mut self.tx, contact.id).await?.into_iter().next();
        let prospect_id = lead.prospect_id.or_else(|| counterpart.as_ref().map(|c| c.prospect_id.clone()));
        let lead = match kind {
            // Somebody else, whom ResMan may not know: by the lead's person they would be taken for that one, and by a search
            // for somebody's own lead.
            "lead_roommate" => Lead { prospect_id, person_id: None, searched: true, ..lead },
            _ => Lead {
                prospect_id,
                person_id: lead.person_id.or_else(|| counterpart.and_then(|c| c.person_id)),
                person: Person {
                    first_name: contact.first_name.clone(),
                    last_name: contact.last_name.clone(),
                    email: contact.email.clone(),
                    phone: contact.phone.clone(),
                    ..Person::default()
                },
                ..lead
            },
        };
        let lead = Lead { property_id: contact.property_id.clone(), event, ..lead };
        if !contact.pushed.is_object() {
            contact.pushed = json!({});
        }
        for field in carried(kind) {
            if let Some(value) = sent(&lead, kind, field) {
                match contact.pushed[*field].as_array_mut() {
                    Some(list) => list.push(json!(value)),
                    None => contact.pushed[*field] = json!([value]),
                }
            }
        }
        let payload = serde_json::to_value(&lead).map_err(|e| Fault::us("a lead has no JSON form").because(e))?;
        let message = New {
            courier: "resman".to_owned(),
            connection: self.service.connection.clone(),
            lane: contact.id.to_string(),
            kind: kind.to_owned(),
            payload,
            // Each is one of a kind: what has to be said again, for instance because a person has decided so, is no repetition.
            dedupe_key: format!("contact/{}/{kind}/{}", contact.id, Uuid::now_v7()),
            run_after: self.now,
        };
        self.messages.extend(outbox::put(&mut self.tx, &message, self.now).await?);
        Ok(())
    }

    /// Creates or updates the lead, whichever ResMan needs.
    pub(super) async fn send_person(&mut self, contact: &mut Contact, event: Option<Event>) -> Result<()> {
        if self.known(contact.id).await? {
            self.send(contact, "lead_update", None, Lead::default()).await?;
            if event.is_some() {
                self.send(contact, "lead_event", event, Lead::default()).await?;
            }
            return Ok(());
        }
        self.send(contact, "lead_create", event, Lead::default()).await
    }

    /// Whether ResMan has a lead of a contact, or is about to.
    pub(super) async fn known(&mut self, id: Uuid) -> Result<bool> {
        Ok(!store::counterparts(&mut self.tx, id).await?.is_empty() || self.created(id).await?)
    }

    async fn created(&mut self, id: Uuid) -> Result<bool> {
        sqlx::query_scalar(
            "select exists (select from sync.outbox where lane = $1 and kind = 'lead_create' and state in ('waiting', 'delivered'))",
        )
        .bind(id.to_string())
        .fetch_one(&mut *self.tx)
        .await
        .map_err(|e| fault("cannot read the outbox", e))
    }

    /// Commits, with the events last: their lock is short.
    pub(super) async fn commit(mut self) -> Result<Vec<i64>> {
        if !self.events.is_empty() {
            events::append(&mut self.tx, &self.events, self.now).await?;
        }
        self.tx.commit().await.map_err(|e| fault("cannot commit a change of contacts", e))?;
        Ok(self.messages)
    }
}

impl Contacts {
    /// Begins a change, once there is room for one more.
    pub(super) async fn begin(&self) -> Result<Work<'_>> {
        let turn = self.gate.clone().acquire_owned().await;
        let turn = turn.map_err(|e| Fault::us("the gate of contacts is closed").because(e))?;
        let tx = self.pool.begin().await.map_err(|e| fault("cannot begin a change of contacts", e))?;
        Ok(Work { service: self, tx, now: self.clock.now(), events: Vec::new(), messages: Vec::new(), _turn: turn })
    }
}

/// The shared fields that a kind of message brings to ResMan.
pub(super) fn carried(kind: &str) -> &'static [&'static str] {
    match kind {
        "lead_create" => &["first_name", "last_name", "email", "phone", "status"],
        "lead_update" => &["first_name", "last_name", "email", "phone"],
        "lead_lost" | "lead_reactivate" => &["status"],
        _ => &[],
    }
}

/// The value of a shared field that a message brings.
pub(super) fn sent(lead: &Lead, kind: &str, field: &str) -> Option<String> {
    match field {
        "first_name" => Some(lead.person.first_name.clone()),
        "last_name" => Some(lead.person.last_name.clone()),
        "email" => lead.person.email.clone(),
        "phone" => lead.person.phone.clone(),
        "status" => Some(if kind == "lead_lost" { "lost" } else { "prospect" }.to_owned()),
        _ => None,
    }
}
