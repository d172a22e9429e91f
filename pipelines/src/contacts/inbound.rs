//! What ResMan says of a lead, whether it was polled or relayed.

use std::collections::BTreeMap;

use catalog::store::erasures;
use catalog::store::pg::fault;
use catalog::{Fault, Result};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::json;
use sinks::resman::document::Lead;
use transforms::matching::Decision;
use uuid::Uuid;

use super::identity;
use super::merges;
use super::model::{Contact, Patch, Source, Strategy};
use super::reconcile::{Outcome, Values, reconcile};
use super::service::{Answer, Contacts, Trouble, Work, blank};
use super::store::{self, Counterpart, Deed};

/// A lead as ResMan has it. Fields that are `None` were not named, which says nothing about them.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Told {
    /// ResMan's id of the lead.
    pub prospect_id: String,
    /// ResMan's id of its main person.
    pub person_id: Option<String>,
    /// The property.
    pub property_id: String,
    /// Given name.
    pub first_name: Option<String>,
    /// Family name.
    pub last_name: Option<String>,
    /// E-mail address.
    pub email: Option<String>,
    /// Phone.
    pub phone: Option<String>,
    /// `prospect`, `lost`, `applicant` or `resident`.
    pub status: Option<String>,
}

/// What became of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Became {
    /// It said nothing new, or was our own write coming back.
    Nothing,
    /// A known contact changed.
    Updated,
    /// Nobody knew the person.
    Created,
    /// Somebody known by the chatbot turned out to be this lead.
    Matched,
    /// Both sides had changed the same field.
    Conflict,
}

/// Of when something that ResMan says is, and whom it is known to be about. Without all of it, it is of now and about
/// whoever is found.
#[derive(Debug, Clone, Copy, Default)]
pub struct Reading {
    /// When the reading began.
    pub began: Option<DateTime<Utc>>,
    /// How often the contact had been written into ResMan by then.
    pub deliveries: Option<i64>,
    /// The contact that a lead which nobody has belongs to.
    pub contact: Option<Uuid>,
}

impl Contacts {
    /// Takes in what ResMan says.
    ///
    /// # Errors
    /// When the lead has no id or no property.
    pub async fn told(&self, told: &Told, actor: &str) -> Answer<(Option<Uuid>, Became)> {
        self.told_by(told, Reading::default(), actor).await
    }

    /// Takes in what a reading of ResMan says. One that is older than our last write there is passed over: the write has
    /// looked at what stood there before, and the next reading shows what it left.
    ///
    /// # Errors
    /// When the lead has no id or no property.
    pub async fn told_by(&self, told: &Told, reading: Reading, actor: &str) -> Answer<(Option<Uuid>, Became)> {
        if told.prospect_id.is_empty() || told.property_id.is_empty() {
            return Err(Trouble::refused("a lead of ResMan has an id and a property"));
        }
        let values = self.canonical(told);
        let mut work = self.begin().await?;
        // Two readings of one lead come one after the other.
        sqlx::query("select pg_advisory_xact_lock(hashtextextended($1, 8))")
            .bind(&told.prospect_id)
            .execute(&mut *work.tx)
            .await
            .map_err(|e| fault("cannot wait for other readings of this lead", e))?;
        let counterpart = Counterpart { prospect_id: told.prospect_id.clone(), person_id: told.person_id.clone() };
        let known = store::of_prospect(&mut work.tx, &told.prospect_id).await?;
        if let Some(id) = known {
            let contact = self.locked(&mut work.tx, id).await?;
            // A spare that was merged away is only closed in ResMan: what it says there is no news of the person.
            if is_spare(&mut work, &told.prospect_id).await? {
                return Ok((Some(contact.id), Became::Nothing));
            }
            if is_stale(&mut work, contact.id, reading).await? {
                return Ok((Some(contact.id), Became::Nothing));
            }
            return self.known(work, contact, &counterpart, &values, actor).await;
        }
        if let Some(id) = reading.contact {
            let contact = self.locked(&mut work.tx, id).await?;
            store::link(&mut work.tx, &contact, &counterpart, "success", work.now).await?;
            let (id, became) = self.known(work, contact, &counterpart, &values, actor).await?;
            return Ok((id, if became == Became::Conflict { became } else { Became::Matched }));
        }
        if was_erased(&mut work, told, &values).await? {
            return Ok((None, Became::Nothing));
        }
        let mut fresh = blank(&told.property_id, Source::Resman, work.now);
        for (field, value) in &values {
            fresh.set_shared(field, value.clone());
            fresh.learned(field, "resman", work.now, false);
        }
        let record = identity::record(&fresh, &self.region);
        identity::hold(&mut work.tx, &told.property_id, &record).await?;
        let rules = identity::rules(&mut work.tx, &told.property_id).await?;
        let found = identity::candidates(&mut work.tx, &fresh, &rules.profile, &self.region).await?;
        // A contact that has a lead of its own already is another lead of ResMan's: a person decides about two leads.
        let mut best = found.into_iter().next();
        let mut taken = false;
        if let Some(candidate) = &best {
            taken = !store::counterparts(&mut work.tx, candidate.contact.id).await?.is_empty();
        }
        if let Some(candidate) = best.take_if(|c| c.decision == Decision::Merge && !taken) {
            let contact = store::lock(&mut work.tx, candidate.contact.id).await?;
            store::link(&mut work.tx, &contact, &counterpart, "success", work.now).await?;
            let (id, became) = self.known(work, contact, &counterpart, &values, actor).await?;
            return Ok((id, if became == Became::Conflict { became } else { Became::Matched }));
        }
        fresh.base = json!(values);
        keep_opt_outs(&mut work, &mut fresh).await?;
        let deed = Deed { source: "resman", actor, action: "contact_create", rule: "new in ResMan", at: work.now };
        work.change(None, &mut fresh, &deed).await?;
        store::link(&mut work.tx, &fresh, &counterpart, "success", work.now).await?;
        if let Some(maybe) = best {
            merges::propose(&mut work, &maybe.contact, &fresh, &maybe.scored).await?;
        }
        work.commit().await?;
        Ok((Some(fresh.id), Became::Created))
    }

    /// Only what can be compared with ours: in canonical form, or as it stands when it has none.
    pub(super) fn canonical(&self, told: &Told) -> Values {
        let text = |t: &Option<String>| t.as_deref().map(str::trim).filter(|t| !t.is_empty()).map(str::to_owned);
        let mut values = Values::new();
        let mut put = |field: &str, value: Option<String>| {
            if value.is_some() {
                values.insert(field.to_owned(), value);
            }
        };
        put("first_name", text(&told.first_name));
        put("last_name", text(&told.last_name));
        put("email", text(&told.email).map(|e| transforms::functions::email_canonical(&e).unwrap_or(e)));
        put("phone", text(&told.phone).map(|p| transforms::functions::phone_e164(&p, &self.region).unwrap_or(p)));
        put("status", text(&told.status).map(|s| s.to_lowercase()));
        values
    }

    async fn known(
        &self,
        mut work: Work<'_>,
        before: Contact,
        counterpart: &Counterpart,
        values: &Values,
        actor: &str,
    ) -> Answer<(Option<Uuid>, Became)> {
        let rules = identity::rules(&mut work.tx, &before.property_id).await?;
        let pushed: BTreeMap<String, Vec<String>> = serde_json::from_value(before.pushed.clone()).unwrap_or_default();
        let out = reconcile(&store::texts(&before.base), &pushed, &before.all_shared(), values, rules.strategy);
        let mut after = before.clone();
        after.base = json!(out.base);
        for (field, value) in &out.take {
            after.set_shared(field, value.clone());
            after.learned(field, "resman", work.now, false);
        }
        let rule = if out.clashes.is_empty() { "changed in ResMan" } else { rules.strategy.as_str() };
        let deed = Deed { source: "resman", actor, action: "contact_update", rule, at: work.now };
        let moved = work.change(Some(&before), &mut after, &deed).await?;
        record_clashes(&mut work, &after, &out, rules.strategy, actor).await?;
        if !out.push.is_empty() {
            if out.push.iter().any(|f| f != "status") {
                work.send_person(&mut after, None).await?;
            }
            if out.push.contains("status") {
                let mut theirs = after.clone();
                theirs.set_shared("status", values.get("status").cloned().flatten());
                self.tell_resman(&mut work, &theirs, &mut after).await?;
            }
            store::save(&mut work.tx, &after).await?;
        }
        store::link(&mut work.tx, &after, counterpart, "success", work.now).await?;
        work.commit().await?;
        let became = match (out.clashes.is_empty(), moved) {
            (false, _) => Became::Conflict,
            (true, true) => Became::Updated,
            (true, false) => Became::Nothing,
        };
        Ok((Some(after.id), became))
    }

    /// Settles an open conflict by hand: `domiq` or `resman` names the side whose value stays, or `value` gives another.
    ///
    /// # Errors
    /// When there is no open conflict of this id, or the value is not what it claims to be.
    pub async fn resolve(&self, id: Uuid, side: Option<&str>, value: Option<&str>, actor: &str) -> Answer<Contact> {
        let mut work = self.begin().await?;
        let what = "cannot settle a conflict";
        let row: Option<(Uuid, String)> =
            sqlx::query_as("select contact_id, field from sync.conflicts where id = $1 and state = 'open' for update")
                .bind(id)
                .fetch_optional(&mut *work.tx)
                .await
                .map_err(|e| fault(what, e))?;
        let (contact_id, field) =
            row.ok_or_else(|| Trouble::NotFound(Fault::user(format!("there is no open conflict `{id}`"))))?;
        let before = self.locked(&mut work.tx, contact_id).await?;
        // Both may have moved on since the conflict came up; what each side has now is what it stands for.
        let (domiq, resman) = (before.shared(&field), store::texts(&before.base).remove(&field).flatten());
        let (chosen, wanted) = match (side, value) {
            (Some("domiq"), None) => ("domiq", domiq),
            (Some("resman"), None) => ("resman", resman.clone()),
            (None, Some(value)) => {
                let mut patch = Patch::default();
                let slot = match field.as_str() {
                    "first_name" => &mut patch.first_name,
                    "last_name" => &mut patch.last_name,
                    "email" => &mut patch.email,
                    "phone" => &mut patch.phone,
                    _ => return Err(Trouble::refused("a conflict about the status is settled by naming a side")),
                };
                *slot = Some(value.to_owned());
                let clean = self.checked(&patch)?;
                ("other", clean.values.get(field.as_str()).cloned())
            }
            _ => return Err(Trouble::refused("name a side, `domiq` or `resman`, or give a value")),
        };
        let mut after = before.clone();
        after.set_shared(&field, wanted.clone());
        after.learned(&field, "manual", work.now, true);
        let deed = Deed { source: "manual", actor, action: "conflict_resolve", rule: chosen, at: work.now };
        work.change(Some(&before), &mut after, &deed).await?;
        if wanted != resman {
            if field == "status" {
                // The base holds ResMan's class, so the step from there to ours is what has to be sent.
                let mut theirs = after.clone();
                theirs.set_shared("status", resman);
                self.tell_resman(&mut work, &theirs, &mut after).await?;
            } else {
                work.send(&mut after, "lead_update", None, Lead::default()).await?;
            }
            store::save(&mut work.tx, &after).await?;
        }
        sqlx::query(
            "update sync.conflicts set state = 'settled', chosen = $2, rule = 'manual', settled_at = $3, settled_by = $4 where id = $1",
        )
        .bind(id)
        .bind(chosen)
        .bind(work.now)
        .bind(actor)
        .execute(&mut *work.tx)
        .await
        .map_err(|e| fault(what, e))?;
        work.events.push(conflict_event("settled", &after, &field, id));
        work.commit().await?;
        Ok(after)
    }
}

/// Whether the contact was written into ResMan since a reading of it began.
async fn is_stale(work: &mut Work<'_>, id: Uuid, reading: Reading) -> Result<bool> {
    if reading.began.is_none() && reading.deliveries.is_none() {
        return Ok(false);
    }
    sqlx::query_scalar(
        "select coalesce(delivered_at > $2, false) or coalesce(deliveries > $3, false) from sync.contacts where id = $1",
    )
    .bind(id)
    .bind(reading.began)
    .bind(reading.deliveries)
    .fetch_one(&mut *work.tx)
    .await
    .map_err(|e| fault("cannot read a contact", e))
}

/// Whether it is a lead of somebody who was erased, and whom nobody has taken in anew since.
async fn was_erased(work: &mut Work<'_>, told: &Told, values: &Values) -> Result<bool> {
    let Some(erased) = erasures::read(&mut work.tx).await? else { return Ok(false) };
    let value = |field: &str| values.get(field).cloned().flatten();
    let by_address = match (value("email"), value("phone")) {
        (Some(email), _) => erased.knows("email", &email.to_lowercase()),
        (None, Some(phone)) => erased.knows("phone", &phone),
        (None, None) => false,
    };
    let person = told.person_id.as_deref().is_some_and(|id| erased.knows("person", id));
    Ok(by_address || person || erased.knows("lead", &told.prospect_id))
}

/// What somebody opted out of before they were erased holds for them still.
pub(super) async fn keep_opt_outs(work: &mut Work<'_>, fresh: &mut Contact) -> Result<()> {
    let kept = erasures::suppressed(&mut work.tx, fresh.email.as_deref(), fresh.phone.as_deref()).await?;
    fresh.email_opt_out |= kept.email;
    fresh.phone_opt_out |= kept.phone;
    fresh.text_opt_out |= kept.text;
    Ok(())
}

async fn is_spare(work: &mut Work<'_>, prospect_id: &str) -> Result<bool> {
    sqlx::query_scalar("select sync_status = 'merged' from sync.contact_sync where resman_contact_id = $1")
        .bind(prospect_id)
        .fetch_one(&mut *work.tx)
        .await
        .map_err(|e| fault("cannot read a contact's counterpart", e))
}

async fn record_clashes(
    work: &mut Work<'_>,
    contact: &Contact,
    out: &Outcome,
    strategy: Strategy,
    actor: &str,
) -> Result<()> {
    for clash in &out.clashes {
        let id = Uuid::now_v7();
        let settled = clash.ours_stays;
        let chosen = settled.map(|ours| if ours { "domiq" } else { "resman" });
        sqlx::query(
            "insert into sync.conflicts (id, contact_id, property_id, field, base_value, domiq_value, resman_value, rule, chosen, \
             state, created_at, settled_at, settled_by) values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13) \
             on conflict (contact_id, field) where state = 'open' do update set resman_value = excluded.resman_value, \
             domiq_value = excluded.domiq_value",
        )
        .bind(id)
        .bind(contact.id)
        .bind(&contact.property_id)
        .bind(&clash.field)
        .bind(&clash.base)
        .bind(&clash.domiq)
        .bind(&clash.resman)
        .bind(settled.map(|_| strategy.as_str()))
        .bind(chosen)
        .bind(if settled.is_some() { "settled" } else { "open" })
        .bind(work.now)
        .bind(settled.map(|_| work.now))
        .bind(settled.map(|_| actor))
        .execute(&mut *work.tx)
        .await
        .map_err(|e| fault("cannot write a conflict", e))?;
        let kind = if settled.is_some() { "settled" } else { "opened" };
        work.events.push(conflict_event(kind, contact, &clash.field, id));
    }
    Ok(())
}

fn conflict_event(kind: &str, contact: &Contact, field: &str, id: Uuid) -> catalog::store::events::Event {
    catalog::store::events::Event {
        topic: "conflicts".to_owned(),
        property_id: Some(contact.property_id.clone()),
        kind: kind.to_owned(),
        key: id.to_string(),
        version: contact.version,
        data: json!({ "contact_id": contact.id, "field": field }),
    }
}
