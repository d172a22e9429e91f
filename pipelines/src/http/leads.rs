//! Leads: contacts together with their counterparts in ResMan.

use axum::extract::State;
use chrono::{DateTime, Utc};
use http::StatusCode;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::Service;
use super::api::{Endpoint, Scope};
use super::caller::Caller;
use super::carry::carry;
use super::contacts::{ChangeData, NewData, READERS, Said, Shown, WRITERS, by, change, editable, seen, take};
use super::error::Result;
use super::extract::{Json, Path};
use crate::contacts::find;
use crate::contacts::model::{Contact, Source};

/// A lead as ResMan has it.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Counterpart {
    /// ResMan's id of it.
    resman_lead_id: String,
    /// ResMan's id of its main person.
    resman_person_id: Option<String>,
    /// `pending`, `success`, `failed` or `merged`.
    sync_status: String,
    /// Why it failed.
    reason: Option<String>,
    /// When both sides last agreed.
    #[schemars(with = "Option<String>")]
    last_sync_at: Option<DateTime<Utc>>,
}

/// A lead.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Lead {
    /// Its id, which is the contact's.
    lead_id: String,
    /// The person.
    contact: Shown,
    /// How it stands with ResMan; null while ResMan has not heard of it.
    resman: Option<Counterpart>,
    /// Messages to ResMan that wait.
    waiting_messages: i64,
}

async fn lead(service: &Service, contact: Contact) -> Result<Json<Lead>> {
    let (standing, waiting_messages) = find::standing(&service.database.pool, contact.id).await?;
    let resman = standing.map(|s| Counterpart {
        resman_lead_id: s.resman_contact_id,
        resman_person_id: s.resman_person_id,
        sync_status: s.sync_status,
        reason: s.reason,
        last_sync_at: s.last_sync_at,
    });
    Ok(Json(Lead { lead_id: contact.id.to_string(), contact: contact.into(), resman, waiting_messages }))
}

/// Somebody who is interested.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "NewLead")]
pub(super) struct CreateBody {
    /// The person.
    lead_data: NewData,
}

pub(super) fn create_about() -> Endpoint {
    Endpoint::post("/api/resman/leads", WRITERS, Scope::Own)
        .about("Takes a lead in: a new one, or one more word of somebody known. ResMan has it at once.")
        .repeatable()
        .body::<CreateBody>()
        .answers::<Lead>(201, "A new lead")
        .answers::<Lead>(200, "Somebody known")
        .problems(&[400, 404, 413, 415, 422])
}

pub(super) async fn create(
    State(service): State<Service>,
    caller: Caller,
    Json(body): Json<CreateBody>,
) -> Result<(StatusCode, Json<Lead>)> {
    let created = take(&service, &caller, body.lead_data).await?;
    let status = if created.is_new_contact { StatusCode::CREATED } else { StatusCode::OK };
    let contact = service.contacts.get(created.contact_id).await?;
    Ok((status, lead(&service, contact).await?))
}

pub(super) fn show_about() -> Endpoint {
    Endpoint::get("/api/resman/leads/{id}", READERS, Scope::Own)
        .about("One lead, and how it stands with ResMan.")
        .part("id", "Its id, which is the contact's")
        .answers::<Lead>(200, "The lead")
        .problems(&[404])
}

pub(super) async fn show(State(service): State<Service>, Path(id): Path<Uuid>, caller: Caller) -> Result<Json<Lead>> {
    let contact = seen(&service, &caller, id).await?;
    lead(&service, contact).await
}

/// A change of a lead.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "LeadChange")]
pub(super) struct UpdateBody {
    /// What is to be.
    lead_data: ChangeData,
    /// Who says so.
    update_source: Source,
    /// The contact's version that the caller saw.
    version: Option<i64>,
}

pub(super) fn update_about() -> Endpoint {
    Endpoint::put("/api/resman/leads/{id}", WRITERS, Scope::Own)
        .about("Changes a lead. The status `lost` marks it lost in ResMan, and one before it takes that back.")
        .part("id", "Its id, which is the contact's")
        .repeatable()
        .body::<UpdateBody>()
        .answers::<Lead>(200, "The lead as it is now")
        .problems(&[400, 404, 409, 413, 415, 422])
}

pub(super) async fn update(
    State(service): State<Service>,
    Path(id): Path<Uuid>,
    caller: Caller,
    Json(body): Json<UpdateBody>,
) -> Result<Json<Lead>> {
    editable(&service, &caller, id, "leads").await?;
    let contact = change(&service, &caller, id, body.lead_data, body.update_source, body.version).await?;
    lead(&service, contact).await
}

/// Whether something was added.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Added {
    /// False when its `external_id` was there before.
    added: bool,
    /// How often we have heard from the person.
    interaction_count: i32,
}

pub(super) fn interact_about() -> Endpoint {
    Endpoint::post("/api/resman/leads/{id}/interactions", WRITERS, Scope::Own)
        .about("Adds what was said, here and to the lead's history in ResMan.")
        .part("id", "The lead's id, which is the contact's")
        .repeatable()
        .body::<Said>()
        .answers::<Added>(200, "It is on record")
        .problems(&[400, 404, 413, 415, 422])
}

pub(super) async fn interact(
    State(service): State<Service>,
    Path(id): Path<Uuid>,
    caller: Caller,
    Json(body): Json<Said>,
) -> Result<Json<Added>> {
    seen(&service, &caller, id).await?;
    let interaction = body.interaction(service.app.clock.now())?;
    let changed = service.contacts.interact(id, &interaction, by(&caller), &caller.name).await?;
    carry(&service, changed.contact.id);
    Ok(Json(Added { added: changed.moved, interaction_count: changed.contact.interaction_count }))
}
