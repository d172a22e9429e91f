//! What is relayed from ResMan by other systems, and pulls on demand.

use std::collections::BTreeSet;

use axum::extract::State;
use catalog::store::audit::{self, Entry};
use catalog::store::pg::fault;
use chrono::{DateTime, Utc};
use http::StatusCode;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::Service;
use super::api::{Access, Endpoint, Scope};
use super::caller::{Caller, Role};
use super::carry::carry;
use super::contacts::{TEAM, known, text, unknown_there};
use super::error::{Kind, Problem, Result};
use super::extract::{Json, MayBe, Path};
use crate::contacts::find;
use crate::contacts::inbound::{Became, Reading, Told};
use crate::contacts::model::{self, Patch, Status};
use crate::contacts::store;
use crate::jobs::{self, Job, Task};
use crate::names;

const RELAYS: Access = Access::Roles(&[Role::Webhook]);

/// A change in ResMan. Fields that are not shared are left out.
#[derive(Debug, Deserialize, JsonSchema)]
#[schemars(rename = "ResmanChange")]
pub(super) struct ChangeBody {
    /// ResMan's id of the lead, or ours. `lead_id` is another name of it.
    #[serde(alias = "lead_id")]
    contact_id: String,
    /// The fields that changed: `first_name`, `last_name`, `email`, `phone`, `status`. Of a lead that is not known yet,
    /// `property_id` too. What a person wants no more of is `opt_out`, `email_opt_out`, `phone_opt_out` or `text_opt_out`,
    /// each true, here or under `preferences`; false takes nothing back.
    updated_fields: Map<String, Value>,
    /// Who changed it.
    update_source: String,
    /// When. What is older than something that was heard of the same field, or as old, changes nothing.
    #[schemars(with = "String")]
    timestamp: DateTime<Utc>,
    /// The ResMan user who did.
    user_id: Option<String>,
}

/// What became of a change.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Heard {
    /// The contact that it concerns.
    contact_id: Option<String>,
    /// `nothing` new, `updated`, `created`, `matched` with somebody known, or a `conflict`.
    became: String,
}

fn about(path: &'static str, what: &'static str) -> Endpoint {
    Endpoint::post(path, RELAYS, Scope::Own)
        .about(what)
        .repeatable()
        .body::<ChangeBody>()
        .answers::<Heard>(200, "What became of it")
        .problems(&[400, 404, 413, 415, 422])
}

pub(super) fn contact_about() -> Endpoint {
    about("/api/resman/webhooks/contact-update", "A contact has changed in ResMan.")
}

pub(super) fn lead_about() -> Endpoint {
    about("/api/resman/webhooks/lead-update", "A lead has changed in ResMan.")
}

pub(super) async fn changed(
    State(service): State<Service>,
    caller: Caller,
    Json(body): Json<ChangeBody>,
) -> Result<Json<Heard>> {
    let id = text("contact_id", &body.contact_id, 100)?;
    text("update_source", &body.update_source, 100)?;
    let who = body.user_id.as_deref().map(|u| text("user_id", u, 100)).transpose()?;
    let now = service.app.clock.now();
    if body.timestamp > now + chrono::TimeDelta::days(1) {
        return Err(Problem::new(Kind::Invalid, "`timestamp` lies in the future")
            .hint("Send the instant of the change, with its offset from UTC."));
    }
    let field = |name: &str| match body.updated_fields.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(value)) if value.trim().is_empty() => Ok(None),
        Some(Value::String(value)) => text(&format!("updated_fields.{name}"), value, 254).map(Some),
        Some(_) => Err(Problem::new(Kind::Invalid, format!("`updated_fields.{name}` is not a text"))
            .hint("Leave out what did not change; what is left out or null stays as it is.")),
    };
    let [email_opt_out, phone_opt_out, text_opt_out] = opt_outs(&body.updated_fields)?;
    let (prospect_id, person_id, known) = place(&service, &catalog::id(&id)).await?;
    let property_id = match (known, field("property_id")?) {
        (Some(property), _) | (None, Some(property)) => property,
        (None, None) => {
            return Err(Problem::not_found("there is no contact of this id")
                .hint("Name `property_id` among the fields of a lead that is new."));
        }
    };
    if !caller.sees(&property_id) {
        return Err(Problem::not_found("there is no contact of this id"));
    }
    let told = Told {
        prospect_id,
        person_id,
        property_id,
        first_name: field("first_name")?,
        last_name: field("last_name")?,
        email: field("email")?,
        phone: field("phone")?,
        status: field("status")?.map(|s| class(&s)).transpose()?,
        email_opt_out,
        phone_opt_out,
        text_opt_out,
    };
    let actor = who.map_or_else(|| caller.name.clone(), |who| format!("{} for ResMan user {who}", caller.name));
    let here = service.contacts.at(&told.property_id).await?;
    // What a poll brings is taken as it stands; who relays something can be told that it is none.
    let patch = Patch {
        first_name: told.first_name.clone(),
        last_name: told.last_name.clone(),
        email: told.email.clone(),
        phone: told.phone.clone(),
        ..Patch::default()
    };
    model::clean(&patch, &here.region)?;
    // A clock that is ahead must not close the field to everybody else until then.
    let reading = Reading { said: Some(body.timestamp.min(now)), ..Reading::default() };
    let (contact, became) = here.told_by(&told, reading, &actor).await?;
    if let Some(contact) = contact {
        carry(&service, contact);
    }
    let became = match became {
        Became::Nothing => "nothing",
        Became::Updated => "updated",
        Became::Created => "created",
        Became::Matched => "matched",
        Became::Conflict => "conflict",
    };
    Ok(Json(Heard { contact_id: contact.map(|c| c.to_string()), became: became.to_owned() }))
}

/// What the person wants no more of: e-mails, calls, text messages. An opt-out by a name that is not known is refused, so
/// that none is lost.
fn opt_outs(fields: &Map<String, Value>) -> Result<[bool; 3]> {
    let known = "Use `opt_out`, `email_opt_out`, `phone_opt_out` and `text_opt_out`, each true or false.";
    let wrong = |what: String| Err(Problem::new(Kind::Invalid, what).hint(known));
    let mut out = [false; 3];
    for (name, value) in fields {
        let ways = match name.as_str() {
            "opt_out" => [true; 3],
            "email_opt_out" => [true, false, false],
            "phone_opt_out" => [false, true, false],
            "text_opt_out" => [false, false, true],
            "preferences" | "communication_preferences" => match value {
                Value::Object(inner) => opt_outs(inner)?,
                Value::Null => continue,
                _ => return wrong(format!("`updated_fields.{name}` is not an object")),
            },
            other => {
                let word: String = other.to_lowercase().chars().filter(char::is_ascii_alphanumeric).take(60).collect();
                let means =
                    ["optout", "optedout", "unsubscribe", "donotcontact", "donotcall", "donottext", "donotemail"];
                let says = !matches!(value, Value::Null | Value::Bool(false));
                if says && means.iter().any(|m| word.contains(m)) {
                    return wrong(format!("`{word}` is an opt-out by a name that is not known"));
                }
                continue;
            }
        };
        let says = match value {
            Value::Bool(says) => *says,
            Value::Null => false,
            Value::Object(_) if name.ends_with("preferences") => true,
            _ => return wrong(format!("`updated_fields.{name}` is not true or false")),
        };
        out = [0, 1, 2].map(|n| out[n] || (says && ways[n]));
    }
    Ok(out)
}

/// ResMan's ids of what the sender means, and its property if it is known.
async fn place(service: &Service, id: &str) -> Result<(String, Option<String>, Option<String>)> {
    let pool = &service.database.pool;
    let mut connection = pool.acquire().await.map_err(|e| fault("cannot read a contact", e))?;
    let of_prospect = store::of_prospect(&mut connection, id).await?;
    drop(connection);
    if let Some(contact) = of_prospect {
        let property = service.contacts.get(contact).await?.property_id;
        return Ok((id.to_owned(), None, Some(property)));
    }
    // ResMan's ids are UUIDs too, so one that is not ours is taken for one of a lead that is new.
    let ours = match id.parse::<Uuid>() {
        Ok(id) => service.contacts.get(id).await.ok(),
        Err(_) => None,
    };
    let Some(contact) = ours else { return Ok((id.to_owned(), None, None)) };
    match find::standing(pool, contact.id).await? {
        Some(standing) => Ok((standing.resman_contact_id, standing.resman_person_id, Some(contact.property_id))),
        None => Err(unknown_there()),
    }
}

/// The class of a status in ResMan's words or ours.
fn class(status: &str) -> Result<String> {
    let status = status.to_lowercase();
    if status == "prospect" { Ok(status) } else { Ok(Status::settable(&status)?.class().to_owned()) }
}

/// What to pull.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Pull")]
pub(super) struct PullBody {
    /// Only of this property.
    property_id: Option<String>,
}

/// A pull that is under way.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "PullUnderWay")]
pub(super) struct Pulled {
    /// The pipeline that reads it.
    pipeline: String,
    /// `queued`, or `waiting` when one was queued before.
    status: &'static str,
}

pub(super) fn pull_about() -> Endpoint {
    Endpoint::post("/api/resman/sync/{dataset}", TEAM, Scope::Own)
        .about("Has a dataset pulled from ResMan now, by the pipeline that writes it.")
        .part("dataset", "A dataset or stream, such as `units` or `inventory`")
        .repeatable()
        .may_body::<PullBody>()
        .answers::<Pulled>(202, "A worker takes it up")
        .problems(&[400, 404, 413, 415, 422])
}

pub(super) async fn pull(
    State(service): State<Service>,
    Path(dataset): Path<String>,
    caller: Caller,
    MayBe(body): MayBe<PullBody>,
) -> Result<(StatusCode, Json<Pulled>)> {
    let only = super::contacts::properties(&caller, body.property_id.as_deref())?;
    if let Some(property) = &body.property_id {
        known(&service, property.trim()).await?;
    }
    if only.as_ref().is_some_and(Vec::is_empty) {
        return Err(Problem::not_found("there is no such property"));
    }
    let (plans, faults) = service.app.plans().await?;
    if !faults.is_empty() {
        tracing::warn!("{} problems in the pipeline files; `propflow check` shows them", faults.len());
    }
    let mut known = BTreeSet::new();
    let mut found = None;
    for plan in plans.iter().filter(|p| p.spec.source.connector == "resman") {
        let stream = plan.spec.source.stream.clone();
        let written = plan.targets().into_iter().map(|t| t.dataset.name.clone());
        let names: BTreeSet<String> = written.chain([stream]).collect();
        if found.is_none() && names.contains(&dataset) {
            found = Some(plan.spec.name.clone());
        }
        known.extend(names);
    }
    let pipeline = found.ok_or_else(|| {
        Problem::not_found("no pipeline reads this dataset from ResMan")
            .hint(names::hint(&dataset, known.iter().map(String::as_str)))
    })?;
    let job = Job {
        task: Task::Run,
        pipeline: pipeline.clone(),
        trigger: "manual".to_owned(),
        only: only.unwrap_or_default(),
        attempt: 0,
        key: format!("{pipeline}@{}", Uuid::now_v7()),
    };
    let what = "cannot put a pull in the queue";
    let pool = &service.database.pool;
    let mut tx = pool.begin().await.map_err(|e| fault(what, e))?;
    let after = Some(json!({ "dataset": dataset, "only": job.only }));
    let entry = Entry { actor: &caller.name, action: "pull", subject: &pipeline, after, ..Entry::default() };
    audit::write(&mut tx, &entry).await?;
    tx.commit().await.map_err(|e| fault(what, e))?;
    // In front of what is scheduled: somebody waits.
    let status = if jobs::wake(pool, &job, 1).await? { "queued" } else { "waiting" };
    Ok((StatusCode::ACCEPTED, Json(Pulled { pipeline, status })))
}
