//! Contacts: taking people in, finding them, changing them.

use axum::extract::State;
use catalog::Fault;
use chrono::{DateTime, TimeDelta, Utc};
use http::StatusCode;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use super::Service;
use super::api::{Access, Endpoint, Scope};
use super::caller::{Caller, Role};
use super::carry::carry;
use super::error::{Kind, Problem, Result};
use super::extract::{Json, Path, Query};
use super::paging::{Page, limit, place};
use super::preferences::Preferences;
use crate::contacts::find::{self, Wanted};
use crate::contacts::inbound::{Reading, Told};
use crate::contacts::model::{self, Contact, Patch, Source};
use crate::contacts::service::{Interaction, NewContact, Trouble};

/// Who changes contacts.
pub(super) const WRITERS: Access = Access::Roles(&[Role::Chatbot, Role::Operator, Role::Staff]);
/// Who reads them.
pub(super) const READERS: Access = Access::Roles(&[Role::Chatbot, Role::Operator, Role::Analyst, Role::Staff]);
/// Who decides what a machine must not.
pub(super) const TEAM: Access = Access::Roles(&[Role::Operator, Role::Staff]);

/// How far a sender's clock may be ahead.
const AHEAD: TimeDelta = TimeDelta::days(1);

impl From<Trouble> for Problem {
    fn from(trouble: Trouble) -> Self {
        let told = |kind, fault: Fault| {
            let problem = Problem::new(kind, fault.message.to_string());
            match &fault.hint {
                Some(hint) => problem.hint(hint.to_string()),
                None => problem,
            }
        };
        match trouble {
            Trouble::NotFound(fault) => told(Kind::NotFound, fault),
            Trouble::Stale(fault) => told(Kind::Conflict, fault),
            Trouble::Refused(fault) => told(Kind::Invalid, fault),
            Trouble::Failed(fault) => fault.into(),
        }
    }
}

/// Text of a request that can be stored and is not endless.
pub(super) fn text(field: &str, value: &str, longest: usize) -> Result<String> {
    let value = value.trim();
    if value.is_empty() || value.chars().count() > longest || value.chars().any(char::is_control) {
        let problem = Problem::new(Kind::Invalid, format!("`{field}` is not 1 to {longest} printable characters"));
        return Err(problem.hint("Shorten it, and leave control characters out."));
    }
    Ok(value.to_owned())
}

/// The contact of an id, if the caller may see it.
pub(super) async fn seen(service: &Service, caller: &Caller, id: Uuid) -> Result<Contact> {
    let contact = service.contacts.get(id).await?;
    // The same words as for one that is not there.
    if caller.sees(&contact.property_id) {
        Ok(contact)
    } else {
        Err(Trouble::NotFound(crate::contacts::store::missing(id)).into())
    }
}

/// The contact of an id that somebody wants to change, if the caller may see it. An edit was made of the record as it was:
/// of one that was merged away, its author has to see first what became of it. What a person *says* (a message, an opt-out)
/// follows them instead.
pub(super) async fn editable(service: &Service, caller: &Caller, id: Uuid, under: &str) -> Result<Contact> {
    let contact = seen(service, caller, id).await?;
    if contact.id == id {
        return Ok(contact);
    }
    Err(Problem::new(Kind::Conflict, format!("contact `{id}` was merged into `{}`", contact.id))
        .hint("Read the one that stayed, and send the change there if it still makes sense.")
        .see(format!("/api/resman/{under}/{}", contact.id)))
}

/// Lets only properties through that there are, as far as an inventory tells.
pub(super) async fn known(service: &Service, property: &str) -> Result<()> {
    if service.contacts.has(property).await? {
        return Ok(());
    }
    Err(Problem::not_found("there is no such property").hint(
        "Give a property's id as ResMan has it; one that is new there is known with the next pull of the inventory.",
    ))
}

/// The properties that a question is about: the named one, if the caller may see it, else all of the caller's.
pub(super) fn properties(caller: &Caller, asked: Option<&str>) -> Result<Option<Vec<String>>> {
    match asked {
        Some(property) => {
            let property = text("property_id", property, 100)?;
            caller.property(&property)?;
            Ok(Some(vec![property]))
        }
        None => Ok(caller.properties.clone()),
    }
}

/// Something that was said.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Said {
    /// `chat`, `email`, `phone`, `text`, `tour` or `note`.
    #[serde(rename = "type")]
    kind: String,
    /// When.
    #[schemars(with = "String")]
    timestamp: DateTime<Utc>,
    /// The words.
    message: Option<String>,
    /// `in` from the person, which is usual, or `out` to them.
    direction: Option<String>,
    /// The conversation that it is part of.
    conversation_id: Option<String>,
    /// The sender's id of it; the same id twice is one.
    external_id: Option<String>,
}

impl Said {
    pub(super) fn interaction(self, now: DateTime<Utc>) -> Result<Interaction> {
        let direction = self.direction.as_deref().unwrap_or("in");
        if !["in", "out"].contains(&direction) {
            return Err(Problem::new(Kind::Invalid, "the interaction's `direction` is not `in` or `out`")
                .hint("`in` is from the person, `out` to them; leave it out for `in`."));
        }
        if self.timestamp > now + AHEAD {
            return Err(Problem::new(Kind::Invalid, "the interaction's `timestamp` lies in the future")
                .hint("Send the instant at which it was said, with its offset from UTC."));
        }
        let id = |field: &str, value: Option<String>| value.map(|v| text(field, &v, 200)).transpose();
        Ok(Interaction {
            kind: self.kind,
            direction: direction.to_owned(),
            at: self.timestamp,
            message: self.message,
            conversation_id: id("conversation_id", self.conversation_id)?,
            external_id: id("external_id", self.external_id)?,
        })
    }
}

/// A person who is brought in.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewData {
    /// Given name.
    first_name: Option<String>,
    /// Family name. ResMan takes nobody without both.
    last_name: Option<String>,
    /// E-mail address.
    email: Option<String>,
    /// Phone, with its country code unless it is of this country.
    phone: Option<String>,
    /// The property, by its id in ResMan.
    property_id: String,
    /// `chatbot` or `manual`.
    source: Source,
    /// What they said first.
    initial_interaction: Option<Said>,
    /// How they want to be reached.
    preferences: Option<Preferences>,
    /// Free text of the team.
    notes: Option<String>,
}

/// What is known of a person, and who says so.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "NewContact")]
pub(super) struct CreateBody {
    /// The person.
    contact_data: NewData,
}

/// What became of it.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "CreatedContact")]
pub(super) struct CreateAnswer {
    /// The contact that the person is now.
    contact_id: String,
    /// Whether nobody knew them.
    is_new_contact: bool,
    /// The known contact that they are, or may be.
    #[serde(skip_serializing_if = "Option::is_none")]
    matched_contact_id: Option<String>,
    /// How sure that is, 0 to 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    confidence: Option<f64>,
    /// Whether a person has to look at the match.
    review: bool,
    /// What is known from conversations.
    enrichment_data: Value,
    /// The version behind the change.
    version: i64,
}

/// Takes a person in, and has ResMan told.
pub(super) async fn take(
    service: &Service,
    caller: &Caller,
    data: NewData,
) -> Result<crate::contacts::service::Created> {
    if data.source == Source::Resman {
        return Err(Problem::new(Kind::Invalid, "`source` is not `chatbot` or `manual`")
            .hint("What ResMan says comes in through its pipeline or `POST /api/resman/webhooks/contact-update`."));
    }
    let property_id = text("property_id", &data.property_id, 100)?;
    caller.property(&property_id)?;
    let interaction = data.initial_interaction.map(|s| s.interaction(service.app.clock.now())).transpose()?;
    let patch = Patch {
        first_name: data.first_name,
        last_name: data.last_name,
        email: data.email,
        phone: data.phone,
        notes: data.notes,
        preferences: data.preferences.map(TryInto::try_into).transpose()?,
        ..Patch::default()
    };
    let new = NewContact { property_id, patch, interaction };
    let created = service.contacts.create(&new, data.source, &caller.name).await?;
    carry(service, created.contact_id);
    Ok(created)
}

pub(super) fn create_about() -> Endpoint {
    Endpoint::post("/api/resman/contacts", WRITERS, Scope::Own)
        .about("Takes a person in: somebody new, or somebody known under one of their values. ResMan has them at once.")
        .repeatable()
        .body::<CreateBody>()
        .answers::<CreateAnswer>(201, "Somebody new")
        .answers::<CreateAnswer>(200, "Somebody known")
        .problems(&[400, 404, 413, 415, 422])
}

pub(super) async fn create(
    State(service): State<Service>,
    caller: Caller,
    Json(body): Json<CreateBody>,
) -> Result<(StatusCode, Json<CreateAnswer>)> {
    let created = take(&service, &caller, body.contact_data).await?;
    let status = if created.is_new_contact { StatusCode::CREATED } else { StatusCode::OK };
    let answer = CreateAnswer {
        contact_id: created.contact_id.to_string(),
        is_new_contact: created.is_new_contact,
        matched_contact_id: created.matched_contact_id.map(|id| id.to_string()),
        confidence: created.confidence,
        review: created.review,
        enrichment_data: created.enrichment_data,
        version: created.version,
    };
    Ok((status, Json(answer)))
}

/// Which contacts.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct SearchQuery {
    /// Only with this e-mail address.
    email: Option<String>,
    /// Only with this phone, in any spelling.
    phone: Option<String>,
    /// Only whose name holds each of these words.
    name: Option<String>,
    /// Only of this property.
    property_id: Option<String>,
    /// With those who were lost or set aside.
    include_inactive: Option<bool>,
    /// The `next` of the page before.
    after: Option<String>,
    /// Rows of a page, 50 if it is absent, 500 at most.
    limit: Option<u32>,
}

/// A contact, as lists have it.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "FoundContact")]
pub(super) struct Found {
    /// Its id.
    contact_id: String,
    /// The property.
    property_id: String,
    /// Given name.
    first_name: String,
    /// Family name.
    last_name: String,
    /// E-mail address.
    #[serde(skip_serializing_if = "Option::is_none")]
    email: Option<String>,
    /// Phone in E.164.
    #[serde(skip_serializing_if = "Option::is_none")]
    phone: Option<String>,
    /// Where the person stands.
    status: String,
    /// The last time that we heard from them; null if we never did.
    #[schemars(with = "Option<String>")]
    last_interaction: Option<DateTime<Utc>>,
    /// 0 to 100; absent until it was computed.
    #[serde(skip_serializing_if = "Option::is_none")]
    lead_score: Option<i32>,
    /// The version, for changes.
    version: i64,
}

/// Contacts that were found.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct SearchAnswer {
    /// A page of them, newest first.
    contacts: Vec<Found>,
    /// How many there are on all pages.
    total_count: i64,
    /// What to send as `after` for the next page; absent on the last one.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
}

pub(super) fn search_about() -> Endpoint {
    Endpoint::get("/api/resman/contacts/search", READERS, Scope::Own)
        .about("Finds contacts, newest first. Every condition that is named has to hold.")
        .query::<SearchQuery>()
        .answers::<SearchAnswer>(200, "A page of them")
        .problems(&[400, 404, 422])
}

pub(super) async fn search(
    State(service): State<Service>,
    caller: Caller,
    Query(query): Query<SearchQuery>,
) -> Result<Json<SearchAnswer>> {
    let limit = limit(query.limit)?;
    let own = properties(&caller, query.property_id.as_deref())?;
    let patch = Patch { email: query.email, phone: query.phone, ..Patch::default() };
    let here = match &query.property_id {
        Some(property) => service.contacts.at(property).await?,
        None => service.contacts.clone(),
    };
    let clean = model::clean(&patch, &here.region)?;
    let name = query.name.map(|n| text("name", &n, 200)).transpose()?.unwrap_or_default();
    let wanted = Wanted {
        email: clean.values.get("email").cloned(),
        phone: clean.values.get("phone").cloned(),
        name: name.split_whitespace().map(str::to_owned).collect(),
        properties: own,
        inactive: query.include_inactive.unwrap_or(false),
    };
    let after = place(query.after.as_deref())?;
    let (rows, total_count) = find::search(&service.database.pool, &wanted, after, i64::from(limit) + 1).await?;
    let page = Page::of(rows, limit, |c: &Contact| c.id);
    let found = |c: Contact| Found {
        contact_id: c.id.to_string(),
        property_id: c.property_id,
        first_name: c.first_name,
        last_name: c.last_name,
        email: c.email,
        phone: c.phone,
        status: c.status,
        last_interaction: c.last_interaction,
        lead_score: c.lead_score,
        version: c.version,
    };
    Ok(Json(SearchAnswer { contacts: page.items.into_iter().map(found).collect(), total_count, next: page.next }))
}

/// A contact.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Contact")]
pub(super) struct Shown {
    /// Its id. For one that was merged away this is the one that stayed.
    contact_id: String,
    /// The property.
    property_id: String,
    /// Given name.
    first_name: String,
    /// Family name.
    last_name: String,
    /// E-mail address.
    email: Option<String>,
    /// Phone in E.164.
    phone: Option<String>,
    /// Where the person stands.
    status: String,
    /// Who brought them first.
    source: String,
    /// Free text of the team.
    notes: Option<String>,
    /// `communication_method` and `contact_frequency`.
    preferences: Value,
    /// No e-mails.
    email_opt_out: bool,
    /// No calls.
    phone_opt_out: bool,
    /// No text messages.
    text_opt_out: bool,
    /// What was read out of conversations.
    enrichment_data: Value,
    /// 0 to 100; null until it was computed.
    lead_score: Option<i32>,
    /// The parts of the score.
    lead_score_parts: Option<Value>,
    /// The last time that we heard from them.
    #[schemars(with = "Option<String>")]
    last_interaction: Option<DateTime<Utc>>,
    /// How often we did.
    interaction_count: i32,
    /// Raised with every change; send it back with one.
    version: i64,
    /// When they came.
    #[schemars(with = "String")]
    created_at: DateTime<Utc>,
    /// When something last changed.
    #[schemars(with = "String")]
    updated_at: DateTime<Utc>,
}

impl From<Contact> for Shown {
    fn from(mut c: Contact) -> Self {
        if let Some(known) = c.enrichment.as_object_mut().filter(|known| !known.is_empty()) {
            known.insert("lead_score".to_owned(), c.lead_score.into());
        }
        Self {
            contact_id: c.id.to_string(),
            property_id: c.property_id,
            first_name: c.first_name,
            last_name: c.last_name,
            email: c.email,
            phone: c.phone,
            status: c.status,
            source: c.source,
            notes: c.notes,
            preferences: c.preferences,
            email_opt_out: c.email_opt_out,
            phone_opt_out: c.phone_opt_out,
            text_opt_out: c.text_opt_out,
            enrichment_data: c.enrichment,
            lead_score: c.lead_score,
            lead_score_parts: c.lead_score_parts,
            last_interaction: c.last_interaction,
            interaction_count: c.interaction_count,
            version: c.version,
            created_at: c.created_at,
            updated_at: c.updated_at,
        }
    }
}

pub(super) fn show_about() -> Endpoint {
    Endpoint::get("/api/resman/contacts/{id}", READERS, Scope::Own)
        .about("One contact. For one that was merged away, the one that stayed.")
        .part("id", "Its id")
        .answers::<Shown>(200, "The contact")
        .problems(&[404])
}

pub(super) async fn show(State(service): State<Service>, Path(id): Path<Uuid>, caller: Caller) -> Result<Json<Shown>> {
    Ok(Json(seen(&service, &caller, id).await?.into()))
}

/// What a change may set. What is absent or null stays as it is.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ChangeData {
    /// Given name.
    pub(super) first_name: Option<String>,
    /// Family name.
    pub(super) last_name: Option<String>,
    /// E-mail address.
    pub(super) email: Option<String>,
    /// Phone.
    pub(super) phone: Option<String>,
    /// `new`, `contacted`, `qualified`, `tour_scheduled`, `active`, `lost`, `applicant`, `resident` or `inactive`.
    /// Only ResMan makes applicants and residents.
    pub(super) status: Option<String>,
    /// How the person wants to be reached.
    pub(super) preferences: Option<Preferences>,
    /// Free text of the team.
    pub(super) notes: Option<String>,
    /// Of leads only; see [`super::leads`].
    #[serde(skip)]
    #[schemars(skip)]
    pub(super) of_lead: OfLead,
}

/// What a change may set of a lead that ResMan keeps and we do not.
#[derive(Debug, Default)]
pub(super) struct OfLead {
    /// Why it is lost.
    pub(super) lost_reason: Option<String>,
    /// Whose it is to be.
    pub(super) agent: Option<String>,
}

impl From<Preferences> for ChangeData {
    fn from(preferences: Preferences) -> Self {
        Self { preferences: Some(preferences), ..Self::default() }
    }
}

/// A change of a contact.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "ContactChange")]
pub(super) struct UpdateBody {
    /// What is to be.
    contact_data: ChangeData,
    /// Who says so. What `resman` says is settled against what both sides last agreed on.
    update_source: Source,
    /// The version that the caller saw; without it the change is made whatever happened since.
    version: Option<i64>,
}

/// Changes a contact and has ResMan told, or, where ResMan says so itself, settles what it says.
pub(super) async fn change(
    service: &Service,
    caller: &Caller,
    id: Uuid,
    data: ChangeData,
    source: Source,
    version: Option<i64>,
) -> Result<Contact> {
    let before = seen(service, caller, id).await?;
    if source == Source::Resman {
        return heard(service, caller, &before, data, version).await;
    }
    let patch = Patch {
        first_name: data.first_name,
        last_name: data.last_name,
        email: data.email,
        phone: data.phone,
        status: data.status,
        notes: data.notes,
        preferences: data.preferences.map(TryInto::try_into).transpose()?,
        verified: Vec::new(),
        lost_reason: data.of_lead.lost_reason.map(|r| text("lost_reason", &r, 200)).transpose()?,
        agent: data.of_lead.agent.map(|a| text("agent", &a, 200)).transpose()?,
    };
    let changed = service.contacts.update(id, &patch, version, source, &caller.name).await?;
    carry(service, changed.contact.id);
    Ok(changed.contact)
}

/// ResMan cannot have said anything of a contact that it does not have.
pub(super) fn unknown_there() -> Problem {
    Problem::new(Kind::Invalid, "ResMan does not know this contact yet").hint(
        "`GET /api/resman/leads/{id}` shows how it stands; name `manual` or `chatbot` as `update_source` meanwhile.",
    )
}

async fn heard(
    service: &Service,
    caller: &Caller,
    before: &Contact,
    data: ChangeData,
    version: Option<i64>,
) -> Result<Contact> {
    if version.is_some_and(|v| v != before.version) {
        return Err(Problem::new(Kind::Conflict, format!("the contact is at version {} by now", before.version))
            .hint("Read it again, and repeat the change if it still makes sense."));
    }
    let OfLead { lost_reason, agent } = &data.of_lead;
    if data.notes.is_some() || data.preferences.is_some() || lost_reason.is_some() || agent.is_some() {
        return Err(Problem::new(Kind::Invalid, "ResMan shares names, e-mail address, phone and status only")
            .hint("Name `manual` or `chatbot` as `update_source` for everything else."));
    }
    let patch = Patch {
        first_name: data.first_name.clone(),
        last_name: data.last_name.clone(),
        email: data.email.clone(),
        phone: data.phone.clone(),
        ..Patch::default()
    };
    let here = service.contacts.at(&before.property_id).await?;
    model::clean(&patch, &here.region)?;
    let status = data.status.map(|s| model::Status::settable(s.trim()).map(|s| s.class().to_owned())).transpose()?;
    let standing = find::standing(&service.database.pool, before.id).await?.ok_or_else(unknown_there)?;
    let told = Told {
        prospect_id: standing.resman_contact_id,
        person_id: standing.resman_person_id,
        property_id: before.property_id.clone(),
        first_name: data.first_name,
        last_name: data.last_name,
        email: data.email,
        phone: data.phone,
        status,
        ..Told::default()
    };
    // Who asks is not ResMan.
    let reading = Reading { claimed: true, ..Reading::default() };
    here.told_by(&told, reading, &caller.name).await?;
    carry(service, before.id);
    Ok(service.contacts.get(before.id).await?)
}

pub(super) fn update_about() -> Endpoint {
    Endpoint::put("/api/resman/contacts/{id}", WRITERS, Scope::Own)
        .about("Changes a contact. ResMan has it at once; a stale version, or a contact that was merged away, changes nothing.")
        .part("id", "Its id")
        .repeatable()
        .body::<UpdateBody>()
        .answers::<Shown>(200, "The contact as it is now")
        .problems(&[400, 404, 409, 413, 415, 422])
}

pub(super) async fn update(
    State(service): State<Service>,
    Path(id): Path<Uuid>,
    caller: Caller,
    Json(body): Json<UpdateBody>,
) -> Result<Json<Shown>> {
    editable(&service, &caller, id, "contacts").await?;
    let contact = change(&service, &caller, id, body.contact_data, body.update_source, body.version).await?;
    Ok(Json(contact.into()))
}

/// On whose behalf a key speaks: the team's, or the chatbot's.
pub(super) fn by(caller: &Caller) -> Source {
    if caller.is_any(&[Role::Staff, Role::Operator]) { Source::Manual } else { Source::Chatbot }
}
