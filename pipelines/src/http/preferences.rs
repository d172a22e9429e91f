//! How people want to be reached, and what they want no more of.

use axum::extract::State;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};
use transforms::functions::date_lenient;
use uuid::Uuid;

use super::Service;
use super::api::{Endpoint, Scope};
use super::caller::Caller;
use super::carry::carry;
use super::contacts::{Shown, TEAM, WRITERS, by, change, seen, text};
use super::error::{Kind, Problem, Result};
use super::extract::{Json, Path};
use crate::contacts::model;
use crate::contacts::service::OptOut;

/// From and to.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "BudgetRange")]
pub(super) struct Range {
    /// The least.
    min: Option<f64>,
    /// The most.
    max: Option<f64>,
}

/// How a person wants to be reached.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Preferences {
    /// `email`, `phone` or `text`.
    communication_method: Option<String>,
    /// `immediate`, `daily` or `weekly`.
    contact_frequency: Option<String>,
    /// `true`: nothing more, by any way. `false` takes nothing back, here and below; `opt-in` does.
    opt_out: Option<bool>,
    /// `true`: no more e-mails.
    email_opt_out: Option<bool>,
    /// `true`: no more calls.
    phone_opt_out: Option<bool>,
    /// `true`: no more text messages.
    text_opt_out: Option<bool>,
    /// The day of moving in, `YYYY-MM-DD` or `MM/DD/YYYY`. Short for the confirmed wish `move_in`.
    move_in_date: Option<String>,
    /// Rent a month. Short for the confirmed wish `budget`.
    budget_range: Option<Range>,
    /// `studio`, `1 bedroom`, `2 bedroom` and so on. Short for the confirmed wish `bedrooms`.
    unit_preferences: Option<Vec<String>>,
    /// Wishes that the person has confirmed, such as `{"bedrooms": {"min": 2, "max": 2}}`, in the form of
    /// `preferences_extracted`; conversations do not change them. Null takes a confirmation back.
    wishes: Option<serde_json::Map<String, Value>>,
}

/// The bedrooms of a kind of unit, in the words of leasing offices: `studio`, `2 bedroom`, `2br`.
fn bedrooms(kind: &str) -> Option<f64> {
    let kind = kind.trim().to_lowercase();
    if kind == "studio" {
        return Some(0.0);
    }
    let number = ["bedrooms", "bedroom", "beds", "bed", "br"].iter().find_map(|word| kind.strip_suffix(word))?;
    number.trim().trim_end_matches('-').parse().ok().filter(|n: &u8| *n <= 9).map(f64::from)
}

impl TryFrom<Preferences> for model::Preferences {
    type Error = Problem;

    fn try_from(p: Preferences) -> Result<Self> {
        let wrong = |field: &str, hint: &str| {
            Problem::new(Kind::Invalid, format!("`preferences.{field}` is not what it has to be")).hint(hint)
        };
        let mut wishes = serde_json::Map::new();
        if let Some(day) = p.move_in_date {
            let day = date_lenient(&day).ok_or_else(|| wrong("move_in_date", "Write a day, such as `2026-08-01`."))?;
            wishes.insert("move_in".to_owned(), json!({ "from": day, "to": day }));
        }
        if let Some(Range { min, max }) = p.budget_range {
            let sound = |n: Option<f64>| n.is_none_or(|n| (0.0..1e7).contains(&n));
            let ordered = min.zip(max).is_none_or(|(min, max)| min <= max);
            if !(sound(min) && sound(max) && ordered) || min.or(max).is_none() {
                return Err(wrong("budget_range", "Give `min`, `max` or both, in their order."));
            }
            wishes.insert("budget".to_owned(), json!({ "min": min, "max": max, "currency": null }));
        }
        if let Some(kinds) = p.unit_preferences.filter(|kinds| !kinds.is_empty()) {
            let rooms: Option<Vec<f64>> = kinds.iter().map(|kind| bedrooms(kind)).collect();
            let rooms =
                rooms.ok_or_else(|| wrong("unit_preferences", "Use `studio`, `1 bedroom`, `2 bedroom` and so on."))?;
            let (min, max) =
                (rooms.iter().copied().fold(f64::MAX, f64::min), rooms.iter().copied().fold(0.0, f64::max));
            wishes.insert("bedrooms".to_owned(), json!({ "min": min, "max": max }));
        }
        // What is said in full counts.
        wishes.extend(p.wishes.unwrap_or_default());
        Ok(Self {
            communication_method: p.communication_method,
            contact_frequency: p.contact_frequency,
            opt_out: p.opt_out,
            email_opt_out: p.email_opt_out,
            phone_opt_out: p.phone_opt_out,
            text_opt_out: p.text_opt_out,
            wishes: (!wishes.is_empty()).then_some(wishes),
        })
    }
}

pub(super) fn preferences_about() -> Endpoint {
    Endpoint::put("/api/resman/contacts/{id}/preferences", WRITERS, Scope::Own)
        .about("Sets how a person wants to be reached.")
        .part("id", "The contact's id")
        .repeatable()
        .body::<Preferences>()
        .answers::<Shown>(200, "The contact as it is now")
        .problems(&[400, 404, 413, 415, 422])
}

pub(super) async fn preferences(
    State(service): State<Service>,
    Path(id): Path<Uuid>,
    caller: Caller,
    Json(body): Json<Preferences>,
) -> Result<Json<Shown>> {
    Ok(Json(change(&service, &caller, id, body.into(), by(&caller), None).await?.into()))
}

/// What a person wants no more of.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "OptOut")]
pub(super) struct OptOutBody {
    /// `email`, `phone`, `text` or `all`.
    #[serde(rename = "type")]
    kind: String,
}

pub(super) fn opt_out_about() -> Endpoint {
    Endpoint::post("/api/resman/contacts/{id}/opt-out", WRITERS, Scope::Own)
        .about("Notes what a person wants no more of. It only ever widens.")
        .part("id", "The contact's id")
        .repeatable()
        .body::<OptOutBody>()
        .answers::<Shown>(200, "The contact as it is now")
        .problems(&[400, 404, 413, 415, 422])
}

pub(super) async fn opt_out(
    State(service): State<Service>,
    Path(id): Path<Uuid>,
    caller: Caller,
    Json(body): Json<OptOutBody>,
) -> Result<Json<Shown>> {
    seen(&service, &caller, id).await?;
    let what = OptOut::parse(&body.kind)?;
    let changed = service.contacts.opt_out(id, what, by(&caller), &caller.name).await?;
    carry(&service, changed.contact.id);
    Ok(Json(changed.contact.into()))
}

/// What a person has agreed to again.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "OptIn")]
pub(super) struct OptInBody {
    /// `email`, `phone`, `text` or `all`.
    #[serde(rename = "type")]
    kind: String,
    /// How they agreed; it stays on record.
    reason: String,
}

pub(super) fn opt_in_about() -> Endpoint {
    Endpoint::post("/api/resman/contacts/{id}/opt-in", TEAM, Scope::Own)
        .about("Takes opt-outs back, with a reason that stays on record.")
        .part("id", "The contact's id")
        .repeatable()
        .body::<OptInBody>()
        .answers::<Shown>(200, "The contact as it is now")
        .problems(&[400, 404, 413, 415, 422])
}

pub(super) async fn opt_in(
    State(service): State<Service>,
    Path(id): Path<Uuid>,
    caller: Caller,
    Json(body): Json<OptInBody>,
) -> Result<Json<Shown>> {
    seen(&service, &caller, id).await?;
    let (what, reason) = (OptOut::parse(&body.kind)?, text("reason", &body.reason, 1000)?);
    let changed = service.contacts.opt_in(id, what, &reason, &caller.name).await?;
    carry(&service, changed.contact.id);
    Ok(Json(changed.contact.into()))
}
