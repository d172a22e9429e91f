//! What ResMan says of a lead, whether it was polled or relayed.

use std::collections::{BTreeMap, BTreeSet};

use catalog::store::pg::fault;
use catalog::store::{audit, erasures};
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
    /// Wants no more e-mails. `false` takes nothing back, here and below.
    pub email_opt_out: bool,
    /// Wants no more calls.
    pub phone_opt_out: bool,
    /// Wants no more text messages.
    pub text_opt_out: bool,
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
    /// When it was said, if it is relayed: of a field, what is older than something that is known is no news.
    pub said: Option<DateTime<Utc>>,
    /// It is said in ResMan's name only: the lead is read at once, and what stands there holds.
    pub claimed: bool,
}

/// What is said of a lead.
#[derive(Debug, Default)]
struct Word {
    values: Values,
    opt_outs: BTreeSet<&'static str>,
    /// When whatever was said of the same fields before is older.
    at: Option<DateTime<Utc>>,
    claimed: bool,
}

impl Word {
    fn is_empty(&self) -> bool {
        self.values.is_empty() && self.opt_outs.is_empty()
    }

    fn fields(&self) -> Vec<&str> {
        self.values.keys().map(String::as_str).chain(self.opt_outs.iter().copied()).collect()
    }

    fn opt_out(&self, contact: &mut Contact) {
        contact.email_opt_out |= self.opt_outs.contains("email_opt_out");
        contact.phone_opt_out |= self.opt_outs.contains("phone_opt_out");
        contact.text_opt_out |= self.opt_outs.contains("text_opt_out");
    }

    /// Links a lead to its contact, and notes when this was said.
    async fn link(&self, work: &mut Work<'_>, contact: &Contact, counterpart: &Counterpart) -> Result<()> {
        store::link(&mut work.tx, contact, counterpart, "success", work.now).await?;
        let Some(at) = self.at else { return Ok(()) };
        store::note_heard(&mut work.tx, &counterpart.prospect_id, &self.fields(), at).await
    }
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
        let told = &Told {
            prospect_id: catalog::id(&told.prospect_id).into_owned(),
            person_id: told.person_id.as_deref().map(|id| catalog::id(id).into_owned()),
            ..told.clone()
        };
        let mut word = self.word(told, reading);
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
            // A spare that was merged away is only closed in ResMan: what it says there is no news of the person. But for
            // what they want no more of, wherever they said it.
            if is_spare(&mut work, &told.prospect_id).await? || is_stale(&mut work, contact.id, reading).await? {
                word.values.clear();
            }
            if let Some(said) = reading.said {
                let known = store::heard(&mut work.tx, &told.prospect_id, &word.fields(), said).await?;
                word.values.retain(|field, _| !known.contains(field));
                word.opt_outs.retain(|field| !known.iter().any(|k| k == field));
            }
            if word.is_empty() {
                return Ok((Some(contact.id), Became::Nothing));
            }
            return self.known(work, contact, &counterpart, &word, actor).await;
        }
        if let Some(id) = reading.contact {
            let contact = self.locked(&mut work.tx, id).await?;
            store::link(&mut work.tx, &contact, &counterpart, "success", work.now).await?;
            let (id, became) = self.known(work, contact, &counterpart, &word, actor).await?;
            return Ok((id, if became == Became::Conflict { became } else { Became::Matched }));
        }
        if was_erased(&mut work, told, &word.values).await? {
            return Ok((None, Became::Nothing));
        }
        let mut fresh = blank(&told.property_id, Source::Resman, work.now);
        for (field, value) in &word.values {
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
            let (id, became) = self.known(work, contact, &counterpart, &word, actor).await?;
            return Ok((id, if became == Became::Conflict { became } else { Became::Matched }));
        }
        fresh.base = json!(word.values);
        word.opt_out(&mut fresh);
        keep_opt_outs(&mut work, &mut fresh).await?;
        let deed = Deed { source: "resman", actor, action: "contact_create", rule: "new in ResMan", at: work.now };
        work.change(None, &mut fresh, &deed).await?;
        word.link(&mut work, &fresh, &counterpart).await?;
        if let Some(maybe) = best {
            merges::propose(&mut work, &maybe.contact, &fresh, &maybe.scored).await?;
        }
        work.commit().await?;
        Ok((Some(fresh.id), Became::Created))
    }

    fn word(&self, told: &Told, reading: Reading) -> Word {
        let outs = [
            ("email_opt_out", told.email_opt_out),
            ("phone_opt_out", told.phone_opt_out),
            ("text_opt_out", told.text_opt_out),
        ];
        Word {
            values: self.canonical(told),
            opt_outs: outs.into_iter().filter(|(_, out)| *out).map(|(field, _)| field).collect(),
            at: reading.said.or(reading.began.map(store::before)),
            claimed: reading.claimed,
        }
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
        word: &Word,
        actor: &str,
    ) -> Answer<(Option<Uuid>, Became)> {
        let rules = identity::rules(&mut work.tx, &before.property_id).await?;
        let pushed: BTreeMap<String, Vec<String>> = serde_json::from_value(before.pushed.clone()).unwrap_or_default();
        let out = reconcile(&store::texts(&before.base), &pushed, &before.all_shared(), &word.values, rules.strategy);
        let mut after = before.clone();
        after.base = json!(out.base);
        for (field, value) in &out.take {
            after.set_shared(field, value.clone());
            after.learned(field, "resman", work.now, false);
        }
        word.opt_out(&mut after);
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
                theirs.set_shared("status", word.values.get("status").cloned().flatten());
                self.tell_resman(&mut work, &theirs, &mut after).await?;
            }
            store::save(&mut work.tx, &after).await?;
        }
        if word.claimed && after.base != before.base {
            // Before it is delivered the lead is read, and what stands there settled.
            work.send(&mut after, "lead_update", None, Lead::default()).await?;
            store::save(&mut work.tx, &after).await?;
        }
        word.link(&mut work, &after, counterpart).await?;
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
        let row: Option<(Uuid, String, Option<String>, Option<String>)> = sqlx::query_as(
            "select contact_id, field, domiq_value, resman_value from sync.conflicts where id = $1 and state = 'open' for update",
        )
        .bind(id)
        .fetch_optional(&mut *work.tx)
        .await
        .map_err(|e| fault(what, e))?;
        let (contact_id, field, domiq_was, resman_was) =
            row.ok_or_else(|| Trouble::NotFound(Fault::user(format!("there is no open conflict `{id}`"))))?;
        let before = self.locked(&mut work.tx, contact_id).await?;
        // Both may have moved on since the conflict came up; what each side has now is what it stands for.
        let (domiq, resman) = (before.shared(&field), store::texts(&before.base).remove(&field).flatten());
        let (chosen, wanted) = match (side, value) {
            (Some("domiq"), None) => ("domiq", domiq.clone()),
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
                theirs.set_shared("status", resman.clone());
                self.tell_resman(&mut work, &theirs, &mut after).await?;
            } else {
                work.send(&mut after, "lead_update", None, Lead::default()).await?;
            }
            store::save(&mut work.tx, &after).await?;
        }
        sqlx::query(
            "update sync.conflicts set state = 'settled', chosen = $2, rule = 'manual', settled_at = $3, settled_by = $4, \
             domiq_value = $5, resman_value = $6 where id = $1",
        )
        .bind(id)
        .bind(chosen)
        .bind(work.now)
        .bind(actor)
        .bind(&domiq)
        .bind(&resman)
        .execute(&mut *work.tx)
        .await
        .map_err(|e| fault(what, e))?;
        // Also where the value that stays stands already: that somebody has decided so is a deed.
        let entry = audit::Entry {
            actor,
            action: "conflict_resolve",
            subject: &format!("conflict {id} of contact {contact_id}"),
            before: Some(json!({ "field": field, "domiq_value": domiq_was, "resman_value": resman_was })),
            after: Some(json!({ "field": field, "domiq_value": domiq, "resman_value": resman, "value": wanted })),
            reason: Some(chosen),
        };
        audit::write(&mut work.tx, &entry).await?;
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
    let what = "cannot write a conflict";
    for clash in &out.clashes {
        let settled = clash.ours_stays;
        let chosen = settled.map(|ours| if ours { "domiq" } else { "resman" });
        let open: Option<(Uuid, Option<String>, Option<String>)> = sqlx::query_as(
            "select id, domiq_value, resman_value from sync.conflicts \
             where contact_id = $1 and field = $2 and state = 'open' and not $3 for update",
        )
        .bind(contact.id)
        .bind(&clash.field)
        .bind(settled.is_some())
        .fetch_optional(&mut *work.tx)
        .await
        .map_err(|e| fault(what, e))?;
        if let Some((id, domiq, resman)) = open {
            // The values that it had are nowhere else: those of ResMan were never taken.
            let entry = audit::Entry {
                actor,
                action: "conflict_update",
                subject: &format!("conflict {id} of contact {}", contact.id),
                before: Some(json!({ "field": clash.field, "domiq_value": domiq, "resman_value": resman })),
                after: Some(json!({ "field": clash.field, "domiq_value": clash.domiq, "resman_value": clash.resman })),
                reason: Some(strategy.as_str()),
            };
            audit::write(&mut work.tx, &entry).await?;
            sqlx::query("update sync.conflicts set domiq_value = $2, resman_value = $3 where id = $1")
                .bind(id)
                .bind(&clash.domiq)
                .bind(&clash.resman)
                .execute(&mut *work.tx)
                .await
                .map_err(|e| fault(what, e))?;
            work.events.push(conflict_event("opened", contact, &clash.field, id));
            continue;
        }
        let id = Uuid::now_v7();
        sqlx::query(
            "insert into sync.conflicts (id, contact_id, property_id, field, base_value, domiq_value, resman_value, rule, chosen, \
             state, created_at, settled_at, settled_by) values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)",
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
        .map_err(|e| fault(what, e))?;
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
