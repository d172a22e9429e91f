//! What of a message to ResMan still holds, right before it is delivered.
//!
//! A message says that something of a person has changed. What it brings is made up only now, from the contact as it stands
//! and from what ResMan holds: a message that has waited would otherwise take back what either side has written since. What
//! ResMan holds that nobody here has heard of is settled first, by [`super::inbound`], and on record.

use std::collections::BTreeMap;

use catalog::store::outbox::{self, Message};
use catalog::store::pg::fault;
use catalog::{Fault, Result};
use chrono::{DateTime, Utc};
use serde_json::{Value, json};
use sinks::resman::Held;
use sinks::resman::document::{Lead, as_held};
use sqlx::PgConnection;
use uuid::Uuid;

use super::inbound::Told;
use super::model::{Contact, Source, Status, Strategy};
use super::reconcile::{Values, echoes, reconcile};
use super::service::{Contacts, carried, sent};
use super::store::{self, Counterpart};

/// The fields of a person that a message can bring.
const PERSON: [&str; 4] = ["first_name", "last_name", "email", "phone"];

/// A message whose lead is known, with the contact that it is about.
#[derive(Debug, Clone)]
pub struct Prepared {
    /// The message, with ResMan's ids as far as they are known by now.
    pub message: Message,
    lead: Lead,
    contact: Contact,
    /// How often the contact was written into ResMan when this began.
    pub deliveries: i64,
    /// Fields about which a person has to decide first.
    undecided: Vec<String>,
    owner: Option<Uuid>,
    /// The lead is the spare one of a merge.
    spare: bool,
}

/// What to do with a message.
#[derive(Debug)]
pub enum Step {
    /// Deliver it, in this form.
    Post {
        /// The message.
        message: Message,
        /// What it brings.
        outcome: Outcome,
    },
    /// Nothing of it is left to be said.
    Moot {
        /// What stands for ResMan's answer.
        reply: Option<Value>,
        /// What ResMan was found to hold.
        outcome: Outcome,
    },
    /// Take in first what ResMan says, then look again.
    Hear(Told),
    /// The lead that an earlier try made was read meanwhile and taken for somebody new: this contact. Both are one.
    Same(Uuid),
}

/// What is known of ResMan behind a message.
#[derive(Debug, Clone, Default)]
pub struct Outcome {
    /// What it held before.
    held: Values,
    /// What was brought.
    sent: Values,
    /// Whether anything was written.
    posted: bool,
}

impl Prepared {
    /// The contact that the message is about.
    pub fn contact_id(&self) -> Uuid {
        self.contact.id
    }

    /// What ResMan holds, as something that it tells.
    pub fn told(&self, held: &Held) -> Told {
        let named = |t: &str| Some(t.to_owned()).filter(|t| !t.is_empty());
        Told {
            prospect_id: held.prospect_id.clone(),
            person_id: held.person_id.clone(),
            property_id: self.contact.property_id.clone(),
            first_name: named(&held.first_name),
            last_name: named(&held.last_name),
            email: held.email.clone(),
            phone: held.phone.clone(),
            status: held.status.clone(),
            ..Told::default()
        }
    }

    /// Whether what stands there speaks for this contact.
    pub fn speaks(&self) -> bool {
        !self.foreign() && !matches!(self.message.kind.as_str(), "lead_roommate" | "lead_spare")
    }

    /// Whether the lead is not, or no longer, the one that speaks for this contact.
    fn foreign(&self) -> bool {
        self.spare || self.contact.merged_into.is_some() || self.owner.is_some_and(|owner| owner != self.contact.id)
    }
}

/// Reads what a message is about; `None` when it is about no contact.
///
/// # Errors
/// When the database fails.
pub async fn prepare(connection: &mut PgConnection, message: &Message) -> Result<Option<Prepared>> {
    let what = "cannot read what a message is about";
    let (Ok(id), Ok(mut lead)) =
        (message.lane.parse::<Uuid>(), serde_json::from_value::<Lead>(message.payload.clone()))
    else {
        return Ok(None);
    };
    let Some(contact) = store::many(connection, &[id]).await?.into_iter().next() else { return Ok(None) };
    let (deliveries, undecided): (i64, Vec<String>) = sqlx::query_as(
        "select deliveries, array(select field from sync.conflicts where contact_id = $1 and state = 'open') \
         from sync.contacts where id = $1",
    )
    .bind(id)
    .fetch_one(&mut *connection)
    .await
    .map_err(|e| fault(what, e))?;
    lead.prospect_id = lead.prospect_id.map(|prospect| catalog::id(&prospect).into_owned());
    if lead.prospect_id.is_none() {
        // One that was merged away before ResMan knew it has the lead of the record that stayed.
        let mut of = contact.id;
        let mut next = contact.merged_into;
        for _ in 0..64 {
            let Some(into) = next else { break };
            of = into;
            next = store::many(connection, &[into]).await?.into_iter().next().and_then(|c| c.merged_into);
        }
        if let Some(known) = store::counterparts(connection, of).await?.into_iter().next() {
            lead.prospect_id = Some(known.prospect_id);
            if message.kind != "lead_roommate" {
                lead.person_id = lead.person_id.or(known.person_id);
            }
        }
    }
    let (owner, spare) = match &lead.prospect_id {
        Some(prospect) => {
            let row: Option<(Uuid, bool)> = sqlx::query_as(
                "select user_id, sync_status = 'merged' from sync.contact_sync where resman_contact_id = $1",
            )
            .bind(prospect)
            .fetch_optional(connection)
            .await
            .map_err(|e| fault(what, e))?;
            row.map_or((None, false), |(owner, spare)| (Some(owner), spare))
        }
        None => (None, false),
    };
    let message = with(message, &message.kind, &lead)?;
    Ok(Some(Prepared { message, lead, contact, deliveries, undecided, owner, spare }))
}

fn with(message: &Message, kind: &str, lead: &Lead) -> Result<Message> {
    let payload = serde_json::to_value(lead).map_err(|e| Fault::us("a lead has no JSON form").because(e))?;
    Ok(Message { kind: kind.to_owned(), payload, ..message.clone() })
}

impl Contacts {
    /// What is left of a message when ResMan holds `found`, the likeliest first.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn fit(&self, connection: &mut PgConnection, prepared: &Prepared, found: &[Held]) -> Result<Step> {
        let kind = prepared.message.kind.as_str();
        let contact = &prepared.contact;
        let mut lead = prepared.lead.clone();
        lead.searched = true;
        let known = match &lead.prospect_id {
            Some(id) => found.iter().find(|h| h.prospect_id.eq_ignore_ascii_case(id)),
            None => {
                // A lead that belongs to another contact is not taken over: what stands there is theirs.
                let mut free = None;
                for held in found {
                    match store::of_prospect(connection, &held.prospect_id).await? {
                        None => {
                            free = Some(held);
                            break;
                        }
                        // A poll found our own new lead before its answer was noted, and made a contact of it. One that was
                        // brought in here is somebody else, even if they have the name and said the same.
                        Some(other) if held.made && !prepared.foreign() => {
                            let known = store::many(connection, &[other]).await?;
                            if known.iter().any(|c| c.source == Source::Resman.as_str()) {
                                return Ok(Step::Same(other));
                            }
                        }
                        Some(_) => {}
                    }
                }
                free
            }
        };
        let Some(held) = known else { return self.unknown(prepared, lead) };
        let mut told = prepared.told(held);
        if kind == "lead_reactivate" && told.status.as_deref() == Some("lost") {
            // The very thing that the message is there to take back.
            told.status = None;
        }
        let values = self.canonical(&told);
        let foreign = prepared.foreign();
        if !foreign && (prepared.owner.is_none() || is_news(contact, &values)) {
            return Ok(Step::Hear(told));
        }
        let reply = json!({ "prospect_id": held.prospect_id, "person_id": held.person_id, "event_ids": [] });
        let mut outcome = Outcome { posted: true, ..Outcome::default() };
        if !foreign {
            outcome.held.clone_from(&values);
        }
        let moot =
            |outcome: Outcome| Ok(Step::Moot { reply: Some(reply), outcome: Outcome { posted: false, ..outcome } });
        let open = |field: &str| prepared.undecided.iter().any(|f| f == field);
        // What is not said stays as it is in ResMan, but names have to be said.
        let person = &mut lead.person;
        for (name, theirs) in [(&mut person.first_name, &held.first_name), (&mut person.last_name, &held.last_name)] {
            if !theirs.trim().is_empty() {
                name.clone_from(theirs);
            }
        }
        (person.email, person.phone) = (None, None);
        lead.prospect_id = Some(held.prospect_id.clone());
        lead.person_id = lead.person_id.take().or_else(|| held.person_id.clone());
        let (is, was) = (Status::parse(&contact.status).class(), told.status.as_deref());
        match kind {
            "lead_create" | "lead_update" => {
                for field in PERSON.into_iter().filter(|f| !foreign && !open(f)) {
                    let Some(mine) = contact.shared(field) else { continue };
                    if values.get(field).and_then(Option::as_ref).is_some_and(|theirs| echoes(field, &mine, theirs)) {
                        continue;
                    }
                    set(&mut lead, field, &mine);
                    outcome.sent.insert(field.to_owned(), Some(as_held(field, &mine)));
                }
                if outcome.sent.is_empty() && (kind == "lead_update" || (foreign && lead.event.is_none())) {
                    return moot(outcome);
                }
            }
            "lead_lost" => {
                if foreign || is != "lost" || was == Some("lost") || open("status") {
                    return moot(outcome);
                }
                outcome.sent.insert("status".to_owned(), Some("lost".to_owned()));
            }
            "lead_reactivate" => {
                if foreign || is != "prospect" || was == Some("prospect") || open("status") {
                    return moot(outcome);
                }
                outcome.sent.insert("status".to_owned(), Some("prospect".to_owned()));
            }
            // The merge that made it a spare one was undone.
            "lead_spare" if !prepared.spare => return moot(outcome),
            _ => {}
        }
        lead.repeats_name = !["first_name", "last_name"].iter().any(|f| outcome.sent.contains_key(*f));
        Ok(Step::Post { message: with(&prepared.message, kind, &lead)?, outcome })
    }

    /// The step for a lead that ResMan does not know, or knows no more.
    fn unknown(&self, prepared: &Prepared, mut lead: Lead) -> Result<Step> {
        let (kind, contact) = (prepared.message.kind.as_str(), &prepared.contact);
        let person = matches!(kind, "lead_create" | "lead_update");
        if lead.prospect_id.is_some() || !person {
            return Ok(Step::Post { message: with(&prepared.message, kind, &lead)?, outcome: Outcome::default() });
        }
        if contact.merged_into.is_some() {
            return Ok(Step::Moot { reply: None, outcome: Outcome::default() });
        }
        let mut outcome = Outcome { posted: true, ..Outcome::default() };
        (lead.person.email, lead.person.phone) = (None, None);
        for field in PERSON {
            let Some(mine) = contact.shared(field) else { continue };
            set(&mut lead, field, &mine);
            outcome.sent.insert(field.to_owned(), Some(as_held(field, &mine)));
        }
        outcome.sent.insert("status".to_owned(), Some("prospect".to_owned()));
        // The message that was to create it is settled already, since this one is next: nobody else will.
        Ok(Step::Post { message: with(&prepared.message, "lead_create", &lead)?, outcome })
    }

    /// Whether ResMan's answer to a post says something that nobody here knows: somebody else was writing too.
    pub fn answered(&self, contact: &Contact, told: &Told) -> bool {
        is_news(contact, &self.canonical(told))
    }

    /// Takes note of a message that was delivered or given up, in the transaction that settles it: what ResMan holds now,
    /// and the contact's counterpart there. Gives the contact as it is then.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn settled(
        &self,
        connection: &mut PgConnection,
        message: &Message,
        outcome: &Outcome,
        reply: Option<&Value>,
        dead: Option<&Fault>,
        now: DateTime<Utc>,
    ) -> Result<Option<Contact>> {
        let what = "cannot note what ResMan holds";
        let (Ok(id), Ok(lead)) =
            (message.lane.parse::<Uuid>(), serde_json::from_value::<Lead>(message.payload.clone()))
        else {
            return Ok(None);
        };
        let found: Option<Contact> = sqlx::query_as("select * from sync.contacts where id = $1 for update")
            .bind(id)
            .fetch_optional(&mut *connection)
            .await
            .map_err(|e| fault(what, e))?;
        let Some(mut contact) = found else { return Ok(None) };
        for field in carried(&message.kind) {
            let Some(value) = sent(&lead, &message.kind, field) else { continue };
            if let Some(list) = contact.pushed[*field].as_array_mut()
                && let Some(at) = list.iter().position(|v| v.as_str() == Some(value.as_str()))
            {
                list.remove(at);
            }
        }
        if reply.is_some() {
            if !contact.base.is_object() {
                contact.base = json!({});
            }
            for (field, value) in outcome.held.iter().chain(&outcome.sent) {
                contact.base[field] = json!(value);
            }
            self.follow_up(connection, message, &mut contact, outcome, now).await?;
        }
        let posted = outcome.posted && reply.is_some();
        sqlx::query(
            "update sync.contacts set base = $2, pushed = $3, deliveries = deliveries + $4::int, \
             delivered_at = case when $4::int = 1 then $5 else delivered_at end where id = $1",
        )
        .bind(contact.id)
        .bind(&contact.base)
        .bind(&contact.pushed)
        .bind(i32::from(posted))
        .bind(now)
        .execute(&mut *connection)
        .await
        .map_err(|e| fault(what, e))?;
        if let Some(prospect_id) = reply.and_then(|r| r["prospect_id"].as_str()) {
            // What is answered of a roommate is not the lead's person.
            let person = reply.filter(|_| message.kind != "lead_roommate").and_then(|r| r["person_id"].as_str());
            let person_id = person.map(str::to_owned);
            let counterpart = Counterpart { prospect_id: prospect_id.to_owned(), person_id };
            store::link(connection, &contact, &counterpart, "success", now).await?;
            if posted {
                // Whatever was said there before our word has been looked at, and our word holds since.
                let fields: Vec<&str> = outcome.sent.keys().map(String::as_str).collect();
                store::note_heard(connection, prospect_id, &fields, store::before(message.created_at)).await?;
            }
        }
        if let Some(fault_of) = dead {
            // A message that was put there before the lead was made names none.
            let known = match &lead.prospect_id {
                Some(prospect_id) => Some(prospect_id.clone()),
                None => store::counterparts(connection, id).await?.into_iter().next().map(|c| c.prospect_id),
            };
            let hint = fault_of.hint.as_deref().map(|hint| format!(". {hint}")).unwrap_or_default();
            sqlx::query("update sync.contact_sync set sync_status = 'failed', reason = $2, updated_at = $3 where resman_contact_id = $1")
                .bind(known)
                .bind(fault_of.chain() + &hint)
                .bind(now)
                .execute(connection)
                .await
                .map_err(|e| fault("cannot note that a message was given up", e))?;
        }
        Ok(Some(contact))
    }

    /// While a message was under way, ResMan's word for another value may have been taken: then ResMan was just given one
    /// that holds no more, and no message says so.
    async fn follow_up(
        &self,
        connection: &mut PgConnection,
        message: &Message,
        contact: &mut Contact,
        outcome: &Outcome,
        now: DateTime<Utc>,
    ) -> Result<()> {
        let mut lead = Lead { property_id: contact.property_id.clone(), ..Lead::default() };
        let mut fields = BTreeMap::new();
        for field in PERSON.into_iter().filter(|f| outcome.sent.contains_key(*f)) {
            let Some(mine) = contact.shared(field) else { continue };
            let on_its_way = contact.pushed[field].as_array().is_some_and(|l| l.contains(&json!(mine)));
            if outcome.sent[field] != Some(as_held(field, &mine)) && !on_its_way {
                set(&mut lead, field, &mine);
                fields.insert(field, mine);
            }
        }
        if fields.is_empty() || contact.merged_into.is_some() {
            return Ok(());
        }
        let new = outbox::New {
            courier: message.courier.clone(),
            connection: message.connection.clone(),
            lane: message.lane.clone(),
            kind: "lead_update".to_owned(),
            payload: serde_json::to_value(&lead).map_err(|e| Fault::us("a lead has no JSON form").because(e))?,
            dedupe_key: format!("{}/again", message.dedupe_key),
            run_after: now,
        };
        if outbox::put(connection, &new, now).await?.is_some() {
            for (field, value) in fields {
                match contact.pushed[field].as_array_mut() {
                    Some(list) => list.push(json!(value)),
                    None => contact.pushed[field] = json!([value]),
                }
            }
        }
        Ok(())
    }
}

fn set(lead: &mut Lead, field: &str, value: &str) {
    let person = &mut lead.person;
    match field {
        "first_name" => value.clone_into(&mut person.first_name),
        "last_name" => value.clone_into(&mut person.last_name),
        "email" => person.email = Some(value.to_owned()),
        "phone" => person.phone = Some(value.to_owned()),
        _ => {}
    }
}

/// Whether this is more than what both sides last agreed on, or what is on its way there.
fn is_news(contact: &Contact, values: &Values) -> bool {
    let pushed: BTreeMap<String, Vec<String>> = serde_json::from_value(contact.pushed.clone()).unwrap_or_default();
    let base = store::texts(&contact.base);
    let out = reconcile(&base, &pushed, &contact.all_shared(), values, Strategy::ManualReview);
    !out.take.is_empty() || !out.clashes.is_empty()
}
