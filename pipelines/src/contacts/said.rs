//! What was said, as contacts keep it and as ResMan logs it.

use catalog::store::audit;
use catalog::store::pg::fault;
use catalog::{Fault, Result};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::json;
use sinks::resman::document::{Event, EventKind};
use uuid::Uuid;

use super::model::{Contact, LONGEST_TEXT};
use super::service::{Answer, Trouble};
use super::work::Work;

/// Something that was said.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Interaction {
    /// `chat`, `email`, `phone`, `text`, `tour` or `note`.
    pub kind: String,
    /// `in` from the person, `out` to them.
    pub direction: String,
    /// When.
    pub at: DateTime<Utc>,
    /// The words.
    pub message: Option<String>,
    /// The conversation that it is part of.
    pub conversation_id: Option<String>,
    /// The sender's id of it; the same id twice is one.
    pub external_id: Option<String>,
}

pub(super) fn check(interaction: Option<&Interaction>) -> Answer<()> {
    let Some(i) = interaction else { return Ok(()) };
    if !["chat", "email", "phone", "text", "tour", "note"].contains(&i.kind.as_str()) {
        return Err(Trouble::Refused(
            Fault::user("the interaction's `type` is not a word that is known")
                .hint("Use one of chat, email, phone, text, tour, note."),
        ));
    }
    if i.message.as_deref().is_some_and(|m| m.chars().count() > LONGEST_TEXT) {
        return Err(Trouble::Refused(
            Fault::user(format!("the interaction's `message` is longer than {LONGEST_TEXT} characters"))
                .hint("Send it in several interactions."),
        ));
    }
    Ok(())
}

/// Writes an interaction down and counts it. Says whether it was new.
pub(super) async fn record(
    work: &mut Work<'_>,
    contact: &mut Contact,
    i: Option<&Interaction>,
    actor: &str,
) -> Result<bool> {
    let Some(i) = i else { return Ok(false) };
    let id = Uuid::now_v7();
    let added = sqlx::query(
        "insert into sync.interactions (id, contact_id, conversation_id, external_id, kind, direction, message, at, created_at) \
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9) on conflict (contact_id, external_id) do nothing",
    )
    .bind(id)
    .bind(contact.id)
    .bind(&i.conversation_id)
    .bind(&i.external_id)
    .bind(&i.kind)
    .bind(&i.direction)
    .bind(words(i))
    .bind(i.at)
    .bind(work.now)
    .execute(&mut *work.tx)
    .await
    .map_err(|e| fault("cannot write an interaction", e))?
    .rows_affected();
    if added == 1 {
        contact.interaction_count += 1;
        contact.last_interaction = contact.last_interaction.max(Some(i.at));
        // The words themselves stand in one place.
        let entry = audit::Entry {
            actor,
            action: "contact_interaction",
            subject: &format!("contact {}", contact.id),
            after: Some(json!({ "interaction_id": id, "type": i.kind, "direction": i.direction, "at": i.at })),
            reason: Some("asked"),
            ..audit::Entry::default()
        };
        audit::write(&mut work.tx, &entry).await?;
    }
    Ok(added == 1)
}

/// The words without what no database takes.
fn words(i: &Interaction) -> Option<String> {
    i.message.as_deref().map(|m| m.replace('\0', ""))
}

/// An interaction as ResMan logs it.
pub(super) fn happened(i: &Interaction) -> Event {
    let kind = match (i.kind.as_str(), i.direction.as_str()) {
        ("email", "out") => EventKind::EmailSent,
        ("email", _) => EventKind::EmailReceived,
        ("phone", "out") => EventKind::CallMade,
        ("phone", _) => EventKind::CallReceived,
        ("text", "out") => EventKind::TextSent,
        ("text", _) => EventKind::TextReceived,
        ("note", _) => EventKind::Note,
        _ => EventKind::Chat,
    };
    Event { kind, at: i.at, reason: None, comments: words(i), agent_id: None, event_id: None }
}

/// A turn of a lead, without words.
pub(super) fn turn(kind: EventKind, at: DateTime<Utc>) -> Event {
    Event { kind, at, reason: None, comments: None, agent_id: None, event_id: None }
}

pub(super) fn note(at: DateTime<Utc>, text: String) -> Event {
    Event { kind: EventKind::Note, at, reason: None, comments: Some(text), agent_id: None, event_id: None }
}
