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
use super::contacts::{ChangeData, NewData, OfLead, READERS, Said, Shown, WRITERS, by, change, editable, seen, take};
use super::error::Result;
use super::extract::{Json, Path};
use super::preferences::Preferences;
use crate::contacts::find;
use crate::contacts::model::{Contact, Patch, Source};

/// A lead as ResMan has it.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Counterpart {
    /// ResMan's id of it; null until ResMan has it.
    resman_lead_id: Option<String>,
    /// ResMan's id of its main person.
    resman_person_id: Option<String>,
    /// `pending` while a message waits, `failed` when the last one was given up, `success` when ResMan has all of them.
    sync_status: String,
    /// Why it failed, or why what waits was not taken at the last try.
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
    /// How it stands with ResMan; null while there is nothing to tell it, as of a person without both names.
    resman: Option<Counterpart>,
    /// Messages to ResMan that wait.
    waiting_messages: i64,
}

async fn lead(service: &Service, contact: Contact) -> Result<Json<Lead>> {
    let pool = &service.database.pool;
    let (standing, errands) = (find::standing(pool, contact.id).await?, find::errands(pool, contact.id).await?);
    let noted = standing.as_ref().map(|s| (s.sync_status.clone(), s.reason.clone()));
    let fares = match errands.waiting {
        0 => noted.or_else(|| Some(("failed".to_owned(), Some(errands.failed?)))),
        _ => Some(("pending".to_owned(), errands.delayed)),
    };
    let resman = fares.map(|(sync_status, reason)| Counterpart {
        sync_status,
        reason,
        resman_lead_id: standing.as_ref().map(|s| s.resman_contact_id.clone()),
        resman_person_id: standing.as_ref().and_then(|s| s.resman_person_id.clone()),
        last_sync_at: standing.as_ref().and_then(|s| s.last_sync_at),
    });
    let waiting_messages = errands.waiting;
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

/// What a change may set. What is absent or null stays as it is.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct LeadData {
    /// Given name.
    first_name: Option<String>,
    /// Family name.
    last_name: Option<String>,
    /// E-mail address.
    email: Option<String>,
    /// Phone.
    phone: Option<String>,
    /// `new`, `contacted`, `qualified`, `tour_scheduled`, `active`, `lost`, `applicant`, `resident` or `inactive`.
    /// Only ResMan makes applicants and residents.
    status: Option<String>,
    /// Why the lead is lost, by the name of one of the account's lost reasons in ResMan. It goes with the status `lost`;
    /// without it, the courier's own is given.
    lost_reason: Option<String>,
    /// The leasing agent whose the lead is to be in ResMan: an employee's id, e-mail address or full name.
    agent: Option<String>,
    /// How the person wants to be reached.
    preferences: Option<Preferences>,
    /// Free text of the team.
    notes: Option<String>,
}

impl From<LeadData> for ChangeData {
    fn from(d: LeadData) -> Self {
        Self {
            first_name: d.first_name,
            last_name: d.last_name,
            email: d.email,
            phone: d.phone,
            status: d.status,
            preferences: d.preferences,
            notes: d.notes,
            of_lead: OfLead { lost_reason: d.lost_reason, agent: d.agent },
        }
    }
}

/// A change of a lead.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "LeadChange")]
pub(super) struct UpdateBody {
    /// What is to be.
    lead_data: LeadData,
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
    let contact = change(&service, &caller, id, body.lead_data.into(), body.update_source, body.version).await?;
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

/// Somebody who will live with a lead.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Roommate {
    /// Given name.
    first_name: String,
    /// Family name.
    last_name: String,
    /// E-mail address.
    email: Option<String>,
    /// Phone, with its country code unless it is of this country.
    phone: Option<String>,
}

pub(super) fn roommate_about() -> Endpoint {
    Endpoint::post("/api/resman/leads/{id}/roommates", WRITERS, Scope::Own)
        .about("Adds somebody to the lead's household in ResMan; one of the same name there is brought up to date.")
        .part("id", "The lead's id, which is the contact's")
        .repeatable()
        .body::<Roommate>()
        .answers::<Lead>(202, "It is on its way to ResMan")
        .problems(&[400, 404, 413, 415, 422])
}

pub(super) async fn roommate(
    State(service): State<Service>,
    Path(id): Path<Uuid>,
    caller: Caller,
    Json(body): Json<Roommate>,
) -> Result<(StatusCode, Json<Lead>)> {
    seen(&service, &caller, id).await?;
    let (first_name, last_name) = (Some(body.first_name), Some(body.last_name));
    let person = Patch { first_name, last_name, email: body.email, phone: body.phone, ..Patch::default() };
    let changed = service.contacts.add_roommate(id, &person, &caller.name).await?;
    carry(&service, changed.contact.id);
    Ok((StatusCode::ACCEPTED, lead(&service, changed.contact).await?))
}
