//! What a person has to decide: two records of one person, two values of one field, and the rules that decide alone.

use axum::extract::State;
use catalog::store::pg::fault;
use chrono::{DateTime, Utc};
use http::StatusCode;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use transforms::matching::{Profile, Rule};
use uuid::Uuid;

use super::Service;
use super::api::{Access, Endpoint, Scope};
use super::caller::{Caller, Role};
use super::carry::carry;
use super::contacts::{Shown, TEAM, known, properties, seen, text};
use super::error::{Kind, Problem, Result};
use super::extract::{Json, MayBe, Path, Query};
use super::paging::{Page, limit, place};
use crate::contacts::find::{self, Conflict, OwnRules};
use crate::contacts::identity::{self, Rules};
use crate::contacts::merges::Merge;
use crate::contacts::model::Strategy;

const ANALYSED: Access = Access::Roles(&[Role::Operator, Role::Analyst, Role::Staff]);
const RULED: Access = Access::Roles(&[Role::Operator]);

/// Which of them.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ListQuery {
    /// Only of this property.
    property_id: Option<String>,
    /// The `next` of the page before.
    after: Option<String>,
    /// Rows of a page, 50 if it is absent, 500 at most.
    limit: Option<u32>,
}

/// Two contacts that are, or may be, one person.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Merge")]
pub(super) struct Pair {
    /// Its id.
    merge_id: String,
    /// The property.
    property_id: String,
    /// The record that stays.
    primary_contact_id: String,
    /// The record that goes into it.
    secondary_contact_id: String,
    /// How likely they are one person, 0 to 1.
    confidence: f64,
    /// Why: each field's level and weight.
    evidence: Value,
    /// `pending`, `merged`, `rejected` or `undone`.
    state: String,
    /// Why it was decided so.
    reason: Option<String>,
    /// When it came up.
    #[schemars(with = "String")]
    created_at: DateTime<Utc>,
    /// When it was decided.
    #[schemars(with = "Option<String>")]
    decided_at: Option<DateTime<Utc>>,
    /// Who decided.
    decided_by: Option<String>,
}

impl From<Merge> for Pair {
    fn from(m: Merge) -> Self {
        Self {
            merge_id: m.id.to_string(),
            property_id: m.property_id,
            primary_contact_id: m.primary_id.to_string(),
            secondary_contact_id: m.secondary_id.to_string(),
            confidence: m.confidence,
            evidence: m.evidence,
            state: m.state,
            reason: m.reason,
            created_at: m.created_at,
            decided_at: m.decided_at,
            decided_by: m.decided_by,
        }
    }
}

/// A merge, if the caller may see it.
async fn pair(service: &Service, caller: &Caller, id: Uuid) -> Result<Merge> {
    let merge = service.contacts.merge_of(id).await?;
    let seen = caller.sees(&merge.property_id);
    if seen { Ok(merge) } else { Err(Problem::not_found(format!("there is no merge `{id}`"))) }
}

pub(super) fn pending_about() -> Endpoint {
    Endpoint::get("/api/resman/merges/pending", ANALYSED, Scope::Own)
        .about("Pairs that may be one person and wait for somebody to decide, oldest first.")
        .query::<ListQuery>()
        .answers::<Page<Pair>>(200, "A page of them")
        .problems(&[400, 404, 422])
}

pub(super) async fn pending(
    State(service): State<Service>,
    caller: Caller,
    Query(query): Query<ListQuery>,
) -> Result<Json<Page<Pair>>> {
    let limit = limit(query.limit)?;
    let own = properties(&caller, query.property_id.as_deref())?;
    // To the service no property stands for all; to a key it stands for none.
    if own.as_ref().is_some_and(Vec::is_empty) {
        return Ok(Json(Page { items: Vec::new(), next: None }));
    }
    let after = place(query.after.as_deref())?;
    let rows = service.contacts.merges("pending", &own.unwrap_or_default(), after, i64::from(limit) + 1).await?;
    let page = Page::of(rows, limit, |m: &Merge| m.id);
    Ok(Json(Page { items: page.items.into_iter().map(Pair::from).collect(), next: page.next }))
}

/// Two contacts that are one person.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "NewMerge")]
pub(super) struct MergeBody {
    /// The record that stays.
    #[schemars(with = "String")]
    primary_contact_id: Uuid,
    /// The record that goes into it.
    #[schemars(with = "String")]
    secondary_contact_id: Uuid,
}

/// A merge and the record that stayed.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "MergedContact")]
pub(super) struct Merged {
    /// The merge.
    merge: Pair,
    /// The record that stayed.
    contact: Shown,
}

pub(super) fn merge_about() -> Endpoint {
    Endpoint::post("/api/resman/merges", TEAM, Scope::Own)
        .about("Makes one contact of two, by hand. It can be undone.")
        .repeatable()
        .body::<MergeBody>()
        .answers::<Merged>(201, "They are one")
        .problems(&[400, 404, 413, 415, 422])
}

pub(super) async fn merge(
    State(service): State<Service>,
    caller: Caller,
    Json(body): Json<MergeBody>,
) -> Result<(StatusCode, Json<Merged>)> {
    seen(&service, &caller, body.primary_contact_id).await?;
    seen(&service, &caller, body.secondary_contact_id).await?;
    let merged = service.contacts.merge(body.primary_contact_id, body.secondary_contact_id, &caller.name).await?;
    carry(&service, merged.1.id);
    Ok((StatusCode::CREATED, Json(Merged { merge: merged.0.into(), contact: merged.1.into() })))
}

pub(super) fn approve_about() -> Endpoint {
    Endpoint::post("/api/resman/merges/{id}/approve", TEAM, Scope::Own)
        .about("Makes one contact of a pair that was up for review.")
        .part("id", "The merge's id")
        .repeatable()
        .answers::<Merged>(200, "They are one")
        .problems(&[404, 409, 422])
}

pub(super) async fn approve(
    State(service): State<Service>,
    Path(id): Path<Uuid>,
    caller: Caller,
) -> Result<Json<Merged>> {
    pair(&service, &caller, id).await?;
    let (merge, contact) = service.contacts.approve(id, &caller.name).await?;
    carry(&service, contact.id);
    Ok(Json(Merged { merge: merge.into(), contact: contact.into() }))
}

/// Why.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Reason")]
pub(super) struct ReasonBody {
    /// Why; it stays on record.
    reason: Option<String>,
}

impl ReasonBody {
    fn checked(self) -> Result<Option<String>> {
        self.reason.map(|r| text("reason", &r, 1000)).transpose()
    }
}

pub(super) fn reject_about() -> Endpoint {
    Endpoint::post("/api/resman/merges/{id}/reject", TEAM, Scope::Own)
        .about("Leaves a pair as two people, for good.")
        .part("id", "The merge's id")
        .repeatable()
        .may_body::<ReasonBody>()
        .answers::<Pair>(200, "They stay two")
        .problems(&[400, 404, 409, 413, 415, 422])
}

pub(super) async fn reject(
    State(service): State<Service>,
    Path(id): Path<Uuid>,
    caller: Caller,
    MayBe(body): MayBe<ReasonBody>,
) -> Result<Json<Pair>> {
    pair(&service, &caller, id).await?;
    Ok(Json(service.contacts.reject(id, body.checked()?.as_deref(), &caller.name).await?.into()))
}

/// Two contacts that were one.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "UnmergedContacts")]
pub(super) struct Undone {
    /// The record that had stayed.
    primary: Shown,
    /// The record that is back.
    secondary: Shown,
}

pub(super) fn undo_about() -> Endpoint {
    Endpoint::post("/api/resman/merges/{id}/undo", TEAM, Scope::Own)
        .about("Makes two contacts of one again. What was changed since stays with the one that stayed.")
        .part("id", "The merge's id")
        .repeatable()
        .may_body::<ReasonBody>()
        .answers::<Undone>(200, "They are two again")
        .problems(&[400, 404, 409, 413, 415, 422])
}

pub(super) async fn undo(
    State(service): State<Service>,
    Path(id): Path<Uuid>,
    caller: Caller,
    MayBe(body): MayBe<ReasonBody>,
) -> Result<Json<Undone>> {
    pair(&service, &caller, id).await?;
    let (first, second) = service.contacts.unmerge(id, body.checked()?.as_deref(), &caller.name).await?;
    carry(&service, first.id);
    carry(&service, second.id);
    Ok(Json(Undone { primary: first.into(), secondary: second.into() }))
}

/// Where a conflict stands.
#[derive(Debug, Clone, Copy, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum ConflictState {
    /// A person has to decide.
    #[default]
    Open,
    /// It is decided.
    Settled,
}

/// Which conflicts.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ConflictQuery {
    /// Only of this state; `open` if it is absent.
    state: Option<ConflictState>,
    /// Only of this property.
    property_id: Option<String>,
    /// The `next` of the page before.
    after: Option<String>,
    /// Rows of a page, 50 if it is absent, 500 at most.
    limit: Option<u32>,
}

/// A field that both sides have changed since they last agreed.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Conflict")]
pub(super) struct Clash {
    /// Its id.
    conflict_id: String,
    /// The contact.
    contact_id: String,
    /// The property.
    property_id: String,
    /// The field.
    field: String,
    /// What both last agreed on.
    base_value: Option<String>,
    /// The chatbot's value.
    domiq_value: Option<String>,
    /// ResMan's value.
    resman_value: Option<String>,
    /// Which rule settled it; null while a person has to.
    rule: Option<String>,
    /// Whose value stays: `domiq`, `resman` or `other`.
    chosen: Option<String>,
    /// `open` or `settled`.
    state: String,
    /// When it came up.
    #[schemars(with = "String")]
    created_at: DateTime<Utc>,
    /// When it was settled.
    #[schemars(with = "Option<String>")]
    settled_at: Option<DateTime<Utc>>,
    /// Who settled it.
    settled_by: Option<String>,
}

impl From<Conflict> for Clash {
    fn from(c: Conflict) -> Self {
        Self {
            conflict_id: c.id.to_string(),
            contact_id: c.contact_id.to_string(),
            property_id: c.property_id,
            field: c.field,
            base_value: c.base_value,
            domiq_value: c.domiq_value,
            resman_value: c.resman_value,
            rule: c.rule,
            chosen: c.chosen,
            state: c.state,
            created_at: c.created_at,
            settled_at: c.settled_at,
            settled_by: c.settled_by,
        }
    }
}

pub(super) fn conflicts_about() -> Endpoint {
    Endpoint::get("/api/resman/conflicts", ANALYSED, Scope::Own)
        .about("Fields that both sides have changed since they last agreed, oldest first.")
        .query::<ConflictQuery>()
        .answers::<Page<Clash>>(200, "A page of them")
        .problems(&[400, 404, 422])
}

pub(super) async fn conflicts(
    State(service): State<Service>,
    caller: Caller,
    Query(query): Query<ConflictQuery>,
) -> Result<Json<Page<Clash>>> {
    let limit = limit(query.limit)?;
    let state = match query.state.unwrap_or_default() {
        ConflictState::Open => "open",
        ConflictState::Settled => "settled",
    };
    let own = properties(&caller, query.property_id.as_deref())?;
    let after = place(query.after.as_deref())?;
    let rows = find::conflicts(&service.database.pool, state, own.as_deref(), after, i64::from(limit) + 1).await?;
    let page = Page::of(rows, limit, |c: &Conflict| c.id);
    Ok(Json(Page { items: page.items.into_iter().map(Clash::from).collect(), next: page.next }))
}

/// How a conflict is settled: by a side, or by another value.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Resolution")]
pub(super) struct ResolveBody {
    /// Whose value stays: `domiq` or `resman`.
    side: Option<String>,
    /// Another value, in place of both.
    value: Option<String>,
}

pub(super) fn resolve_about() -> Endpoint {
    Endpoint::post("/api/resman/conflicts/{id}/resolve", TEAM, Scope::Own)
        .about("Settles an open conflict. ResMan is told if its value does not stay.")
        .part("id", "The conflict's id")
        .repeatable()
        .body::<ResolveBody>()
        .answers::<Shown>(200, "The contact as it is now")
        .problems(&[400, 404, 413, 415, 422])
}

pub(super) async fn resolve(
    State(service): State<Service>,
    Path(id): Path<Uuid>,
    caller: Caller,
    Json(body): Json<ResolveBody>,
) -> Result<Json<Shown>> {
    let property = find::property_of_conflict(&service.database.pool, id).await?;
    if !property.is_some_and(|p| caller.sees(&p)) {
        return Err(Problem::not_found(format!("there is no open conflict `{id}`")));
    }
    // An empty value would wipe what both sides have.
    let value = body.value.map(|v| text("value", &v, 254)).transpose()?;
    let contact = service.contacts.resolve(id, body.side.as_deref(), value.as_deref(), &caller.name).await?;
    carry(&service, contact.id);
    Ok(Json(contact.into()))
}

/// The rules by which a property matches and merges.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct MatchingRules {
    /// The property.
    property_id: String,
    /// The matcher's rule, and the probabilities from which on it acts.
    matching_criteria: Profile,
    /// Who wins when both sides have changed a field.
    merge_strategy: Strategy,
}

impl MatchingRules {
    fn of(property_id: String, rules: Rules) -> Self {
        Self { property_id, matching_criteria: rules.profile, merge_strategy: rules.strategy }
    }
}

/// A rule, with those of its limits that are to be others than it ships with.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Criteria {
    /// `fellegi_sunter`, which is usual, or `seed`.
    rule: Option<Rule>,
    /// Above this, two records are merged without asking, between 0 and 1; left out, 0.99 or the seed's 0.9.
    merge: Option<f64>,
    /// Above this, and not above `merge`, a person looks at the pair; left out, 0.5 or the seed's 0.7.
    review: Option<f64>,
    /// From this on, a run over many records puts two into one cluster; left out, 0.7 or the seed's 0.8.
    cluster: Option<f64>,
}

impl From<Criteria> for Profile {
    fn from(c: Criteria) -> Self {
        let usual = match c.rule {
            Some(Rule::Seed) => Profile::seed(),
            Some(Rule::FellegiSunter) | None => Rules::default().profile,
        };
        Self {
            rule: usual.rule,
            merge: c.merge.unwrap_or(usual.merge),
            review: c.review.unwrap_or(usual.review),
            cluster: c.cluster.unwrap_or(usual.cluster),
        }
    }
}

/// The rules that a property is to have.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewRules {
    /// Sent back as it was read; another than the address names is refused.
    property_id: Option<String>,
    /// The matcher's rule, and the probabilities from which on it acts.
    matching_criteria: Criteria,
    /// Who wins when both sides have changed a field.
    merge_strategy: Strategy,
}

/// A property that has, or may get, rules.
async fn ruled(service: &Service, caller: &Caller, property: &str) -> Result<String> {
    let property = text("property_id", property, 100)?;
    caller.property(&property)?;
    known(service, &property).await?;
    Ok(property)
}

pub(super) fn all_rules_about() -> Endpoint {
    Endpoint::get("/api/resman/matching-rules", ANALYSED, Scope::Own)
        .about("The properties that have rules of their own, in the order of their ids; for all others the shipped ones hold.")
        .query::<ListQuery>()
        .answers::<Page<MatchingRules>>(200, "A page of them")
        .problems(&[400, 404, 422])
}

pub(super) async fn all_rules(
    State(service): State<Service>,
    caller: Caller,
    Query(query): Query<ListQuery>,
) -> Result<Json<Page<MatchingRules>>> {
    let limit = limit(query.limit)?;
    let own = properties(&caller, query.property_id.as_deref())?;
    let after = place(query.after.as_deref())?;
    let rows = find::own_rules(&service.database.pool, own.as_deref(), after, i64::from(limit) + 1).await?;
    let page = Page::of(rows, limit, |o: &OwnRules| o.property_id.clone());
    let items = page.items.into_iter().map(|o| MatchingRules::of(o.property_id, o.rules)).collect();
    Ok(Json(Page { items, next: page.next }))
}

pub(super) fn rules_about() -> Endpoint {
    Endpoint::get("/api/resman/matching-rules/{property_id}", ANALYSED, Scope::Own)
        .about("The rules by which a property matches and merges; the shipped ones where none were set.")
        .part("property_id", "The property")
        .answers::<MatchingRules>(200, "The rules")
        .problems(&[404])
}

pub(super) async fn rules(
    State(service): State<Service>,
    Path(property): Path<String>,
    caller: Caller,
) -> Result<Json<MatchingRules>> {
    let property = ruled(&service, &caller, &property).await?;
    let what = "cannot read the matching rules";
    let mut connection = service.database.pool.acquire().await.map_err(|e| fault(what, e))?;
    let rules = identity::rules(&mut connection, &property).await?;
    Ok(Json(MatchingRules::of(property, rules)))
}

pub(super) fn set_rules_about() -> Endpoint {
    Endpoint::put("/api/resman/matching-rules/{property_id}", RULED, Scope::Own)
        .about("Sets the rules of a property. Limits that are left out are those that the rule ships with.")
        .part("property_id", "The property")
        .repeatable()
        .body::<NewRules>()
        .answers::<MatchingRules>(200, "The rules")
        .problems(&[400, 404, 413, 415, 422])
}

pub(super) async fn set_rules(
    State(service): State<Service>,
    Path(property): Path<String>,
    caller: Caller,
    Json(body): Json<NewRules>,
) -> Result<Json<MatchingRules>> {
    let property = ruled(&service, &caller, &property).await?;
    if body.property_id.is_some_and(|named| named != property) {
        return Err(Problem::new(Kind::Invalid, "`property_id` is not the property of the address")
            .hint("Leave it out, or send the rules to the address of the property that they are of."));
    }
    let rules = Rules { profile: body.matching_criteria.into(), strategy: body.merge_strategy };
    service.contacts.set_rules(&property, &rules, &caller.name).await?;
    Ok(Json(MatchingRules::of(property, rules)))
}

pub(super) fn drop_rules_about() -> Endpoint {
    Endpoint::delete("/api/resman/matching-rules/{property_id}", RULED, Scope::Own)
        .about("Takes the rules of a property back; the shipped ones hold again.")
        .part("property_id", "The property")
        .repeatable()
        .answers::<MatchingRules>(200, "The rules that hold now")
        .problems(&[404])
}

pub(super) async fn drop_rules(
    State(service): State<Service>,
    Path(property): Path<String>,
    caller: Caller,
) -> Result<Json<MatchingRules>> {
    let property = ruled(&service, &caller, &property).await?;
    service.contacts.drop_rules(&property, &caller.name).await?;
    Ok(Json(MatchingRules::of(property, Rules::default())))
}
