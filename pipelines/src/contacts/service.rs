//! What the chatbot, the team and the operator do with contacts.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use catalog::store::audit;
use catalog::store::pg::fault;
use catalog::{Clock, Fault, Result};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sinks::resman::document::{Event, EventKind, Lead, Person};
use sqlx::{PgConnection, PgPool};
use tokio::sync::Semaphore;
use transforms::matching::Decision;
use uuid::Uuid;

use super::identity::{self, Rules};
use super::model::{Clean, Contact, Patch, Source, Status, Strategy, clean};
pub use super::said::Interaction;
use super::store::{self, Deed};
pub(super) use super::work::{Work, carried, sent};
use super::{enrichment, merges, said};

/// Why nothing was done.
#[derive(Debug, thiserror::Error)]
pub enum Trouble {
    /// There is no such thing.
    #[error("{0}")]
    NotFound(Fault),
    /// It has changed since the caller looked.
    #[error("{0}")]
    Stale(Fault),
    /// What was asked makes no sense.
    #[error("{0}")]
    Refused(Fault),
    /// It could not be done.
    #[error("{0}")]
    Failed(Fault),
}

impl From<Fault> for Trouble {
    fn from(fault: Fault) -> Self {
        Trouble::Failed(fault)
    }
}

impl Trouble {
    /// The fault inside.
    pub fn fault(&self) -> &Fault {
        match self {
            Trouble::NotFound(f) | Trouble::Stale(f) | Trouble::Refused(f) | Trouble::Failed(f) => f,
        }
    }

    /// The fault itself.
    pub fn into_fault(self) -> Fault {
        match self {
            Trouble::NotFound(f) | Trouble::Stale(f) | Trouble::Refused(f) | Trouble::Failed(f) => f,
        }
    }

    pub(super) fn refused(text: impl Into<std::borrow::Cow<'static, str>>) -> Self {
        Trouble::Refused(Fault::user(text))
    }
}

/// What this service answers with.
pub type Answer<T> = Result<T, Trouble>;

/// The service.
#[derive(Debug, Clone)]
pub struct Contacts {
    /// The database.
    pub pool: PgPool,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// The country of phone numbers without a country code.
    pub region: String,
    /// The connection of courier `resman` that leads go to.
    pub connection: String,
    pub(super) gate: Arc<Semaphore>,
    /// Whether the inventory's tables have been seen.
    inventoried: Arc<AtomicBool>,
}

/// Changes under way at once. More of them would only wait for each other in the database, and take connections from
/// those who read; so they wait here, however many come.
const AT_ONCE: usize = 6;

/// A contact that somebody brings.
#[derive(Debug, Clone, Default)]
pub struct NewContact {
    /// The property.
    pub property_id: String,
    /// What is known of the person.
    pub patch: Patch,
    /// What they said first.
    pub interaction: Option<Interaction>,
}

/// What became of a new contact.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Created {
    /// The contact that the person is now.
    pub contact_id: Uuid,
    /// Whether nobody knew them.
    pub is_new_contact: bool,
    /// The known contact that they are, or may be.
    pub matched_contact_id: Option<Uuid>,
    /// How sure that is.
    pub confidence: Option<f64>,
    /// Whether a person has to look at the match.
    pub review: bool,
    /// What is known from conversations.
    pub enrichment_data: Value,
    /// The version behind the change.
    pub version: i64,
    /// Messages that are now in the outbox.
    #[serde(skip)]
    pub messages: Vec<i64>,
}

/// A changed contact, and the messages that are in the outbox because of it.
#[derive(Debug, Clone)]
pub struct Changed {
    /// The contact as it is now.
    pub contact: Contact,
    /// Whether anything had changed.
    pub moved: bool,
    /// Messages for whoever wants to carry them at once.
    pub messages: Vec<i64>,
}

/// What a person wants no more of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OptOut {
    /// E-mails.
    Email,
    /// Calls.
    Phone,
    /// Text messages.
    Text,
    /// All of it.
    All,
}

impl OptOut {
    /// The opt-out of a word.
    ///
    /// # Errors
    /// When there is none of that name.
    pub fn parse(word: &str) -> Result<Self> {
        match word {
            "email" => Ok(OptOut::Email),
            "phone" => Ok(OptOut::Phone),
            "text" => Ok(OptOut::Text),
            "all" => Ok(OptOut::All),
            _ => Err(Fault::user("there is no such opt-out").hint("Use `email`, `phone`, `text` or `all`.")),
        }
    }

    pub(super) fn apply(self, contact: &mut Contact) {
        let all = self == OptOut::All;
        contact.email_opt_out |= all || self == OptOut::Email;
        contact.phone_opt_out |= all || self == OptOut::Phone;
        contact.text_opt_out |= all || self == OptOut::Text;
    }
}

impl Contacts {
    /// The service with ResMan's usual names.
    pub fn new(pool: PgPool, clock: Arc<dyn Clock>) -> Self {
        Self {
            pool,
            clock,
            region: "US".to_owned(),
            connection: "resman".to_owned(),
            gate: Arc::new(Semaphore::new(AT_ONCE)),
            inventoried: Arc::default(),
        }
    }

    /// The same for one property: phones without a country code are of its country, where that is known.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn at(&self, property: &str) -> Result<Contacts> {
        let mut connection = self.pool.acquire().await.map_err(|e| fault("cannot read a property's country", e))?;
        self.at_by(&mut connection, property).await
    }

    /// The same over a connection that is there, for whoever holds one already.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn at_by(&self, connection: &mut PgConnection, property: &str) -> Result<Contacts> {
        if !self.inventory(connection).await? {
            return Ok(self.clone());
        }
        let region: Option<String> = sqlx::query_scalar(
            "select upper(country) from core.properties where property_id = $1 and deleted_at is null and country ~ '^[A-Za-z]{2}$'",
        )
        .bind(property)
        .fetch_optional(connection)
        .await
        .map_err(|e| fault("cannot read a property's country", e))?;
        Ok(Contacts { region: region.unwrap_or_else(|| self.region.clone()), ..self.clone() })
    }

    /// Whether there is such a property. Before any inventory was read, nobody can tell.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn has(&self, property: &str) -> Result<bool> {
        let mut connection = self.pool.acquire().await.map_err(|e| fault("cannot look for a property", e))?;
        if !self.inventory(&mut connection).await? {
            return Ok(true);
        }
        sqlx::query_scalar(
            "select exists (select from core.properties where property_id = $1 and deleted_at is null) \
             or not exists (select from core.properties where deleted_at is null)",
        )
        .bind(property)
        .fetch_one(&mut *connection)
        .await
        .map_err(|e| fault("cannot look for a property", e))
    }

    /// Whether the inventory's tables are there. Only a database that holds contacts and nothing else has none; it may get some.
    async fn inventory(&self, connection: &mut PgConnection) -> Result<bool> {
        if !self.inventoried.load(Ordering::Relaxed) {
            let there: bool = sqlx::query_scalar("select to_regclass('core.properties') is not null")
                .fetch_one(connection)
                .await
                .map_err(|e| fault("cannot look for the inventory", e))?;
            self.inventoried.store(there, Ordering::Relaxed);
            return Ok(there);
        }
        Ok(true)
    }

    pub(super) fn checked(&self, patch: &Patch) -> Answer<Clean> {
        clean(patch, &self.region).map_err(Trouble::Refused)
    }

    /// Takes a person in: somebody new, or somebody known under one of their values. Two requests for one person at the
    /// same time make one contact.
    ///
    /// # Errors
    /// When a value is not what it claims to be, or there is nothing by which the person could be known.
    pub async fn create(&self, new: &NewContact, source: Source, actor: &str) -> Answer<Created> {
        if new.property_id.trim().is_empty() || new.property_id.len() > 100 {
            return Err(Trouble::refused("`property_id` is missing or longer than 100 characters"));
        }
        let here = self.at(&new.property_id).await?;
        let clean = here.checked(&new.patch)?;
        if !self.has(&new.property_id).await? {
            return Err(Trouble::Refused(
                Fault::user("`property_id` is of no property that is known")
                    .hint("Give a property's id as ResMan has it; one that is new there is known with the next pull of the inventory."),
            ));
        }
        let given = |fields: [&str; 2]| fields.iter().any(|f| clean.values.contains_key(f));
        if !given(["first_name", "last_name"]) {
            return Err(Trouble::Refused(
                Fault::user("the contact has no name")
                    .hint("Give `first_name` or `last_name`; ResMan takes a lead once it has both."),
            ));
        }
        // Without them nobody could be told from a namesake, here or in ResMan, where the name would find another's lead.
        if !given(["email", "phone"]) {
            return Err(Trouble::Refused(
                Fault::user("the contact has no e-mail address and no phone number")
                    .hint("Give `email` or `phone`: by its name alone nobody is known again."),
            ));
        }
        said::check(new.interaction.as_ref())?;
        let mut work = here.begin().await?;
        let now = work.now;
        let mut fresh = blank(&new.property_id, source, work.now);
        apply(&mut fresh, &clean, &new.patch, source, work.now);
        super::inbound::keep_opt_outs(&mut work, &mut fresh).await?;
        let record = identity::record(&fresh, &here.region);
        identity::hold(&mut work.tx, &new.property_id, &record).await?;
        let rules = identity::rules(&mut work.tx, &new.property_id).await?;
        let found = identity::candidates(&mut work.tx, &fresh, &rules.profile, &here.region).await?;
        let best = found.into_iter().next();
        let event = new.interaction.as_ref().map(said::happened);
        let deed = Deed { source: source.as_str(), actor, action: "contact_create", rule: "new", at: work.now };
        let created = match best {
            Some(known) if known.decision == Decision::Merge => {
                let before = store::lock(&mut work.tx, known.contact.id).await?;
                let mut after = before.clone();
                enrich(&mut after, &clean, &new.patch, source, rules.strategy, work.now);
                said::record(&mut work, &mut after, new.interaction.as_ref(), actor).await?;
                let deed = Deed { action: "contact_match", rule: "matched", ..deed };
                work.change(Some(&before), &mut after, &deed).await?;
                let person = ["first_name", "last_name", "email", "phone"];
                if person.iter().any(|f| before.field(f) != after.field(f)) {
                    work.send_person(&mut after, event).await?;
                } else if event.is_some() {
                    work.send(&mut after, "lead_event", event, Lead::default()).await?;
                }
                here.tell_opt_outs(&mut work, Some(&before), &mut after).await?;
                store::save(&mut work.tx, &after).await?;
                Created {
                    contact_id: after.id,
                    is_new_contact: false,
                    matched_contact_id: Some(after.id),
                    confidence: Some(known.scored.probability),
                    review: false,
                    enrichment_data: match after.enrichment.as_object().is_some_and(|e| e.is_empty()) {
                        true => enrichment::at_once(new.interaction.as_ref(), &here.region, now),
                        false => after.enrichment,
                    },
                    version: after.version,
                    messages: Vec::new(),
                }
            }
            other => {
                work.change(None, &mut fresh, &deed).await?;
                said::record(&mut work, &mut fresh, new.interaction.as_ref(), actor).await?;
                work.send_person(&mut fresh, event).await?;
                here.tell_opt_outs(&mut work, None, &mut fresh).await?;
                store::save(&mut work.tx, &fresh).await?;
                if let Some(maybe) = &other {
                    merges::propose(&mut work, &maybe.contact, &fresh, &maybe.scored).await?;
                }
                Created {
                    contact_id: fresh.id,
                    is_new_contact: true,
                    matched_contact_id: other.as_ref().map(|m| m.contact.id),
                    confidence: other.as_ref().map(|m| m.scored.probability),
                    review: other.is_some(),
                    enrichment_data: enrichment::at_once(new.interaction.as_ref(), &here.region, now),
                    version: fresh.version,
                    messages: Vec::new(),
                }
            }
        };
        let messages = work.commit().await?;
        Ok(Created { messages, ..created })
    }

    /// The contact of an id; for one that was merged away, the one that stayed.
    ///
    /// # Errors
    /// When there is none.
    pub async fn get(&self, id: Uuid) -> Answer<Contact> {
        let mut connection = self.pool.acquire().await.map_err(|e| fault("cannot read a contact", e))?;
        let mut id = id;
        for _ in 0..64 {
            let found = store::many(&mut connection, &[id]).await?.into_iter().next();
            let contact = found.ok_or_else(|| Trouble::NotFound(store::missing(id)))?;
            match contact.merged_into {
                Some(into) => id = into,
                None => return Ok(contact),
            }
        }
        Err(Trouble::Failed(Fault::us("the merges of a contact lead nowhere")))
    }

    /// Changes a contact. `version` is the one that the caller saw; without it the change is made whatever happened since.
    ///
    /// # Errors
    /// When there is no such contact, it has changed since, or a value is not what it claims to be; nothing has changed.
    pub async fn update(
        &self,
        id: Uuid,
        patch: &Patch,
        version: Option<i64>,
        source: Source,
        actor: &str,
    ) -> Answer<Changed> {
        let here = self.at(&self.get(id).await?.property_id).await?;
        let clean = here.checked(patch)?;
        let mut work = here.begin().await?;
        let before = self.locked(&mut work.tx, id).await?;
        if version.is_some_and(|v| v != before.version) {
            return Err(Trouble::Stale(
                Fault::user(format!("the contact is at version {} by now", before.version))
                    .hint("Read it again, and repeat the change if it still makes sense."),
            ));
        }
        let mut after = before.clone();
        apply(&mut after, &clean, patch, source, work.now);
        if source != Source::Resman {
            may_become(&before, &after)?;
        }
        let (was, is) = (Status::parse(&before.status).class(), Status::parse(&after.status).class());
        if patch.lost_reason.is_some() && (is != "lost" || was == "lost") {
            return Err(Trouble::Refused(
                Fault::user("`lost_reason` says why a lead becomes lost, and this change makes none lost").hint(
                    "Send it together with the status `lost`; of a lead that is lost already it is changed in ResMan.",
                ),
            ));
        }
        let deed = Deed { source: source.as_str(), actor, action: "contact_update", rule: "asked", at: work.now };
        let moved = work.change(Some(&before), &mut after, &deed).await?;
        if moved {
            self.tell_resman_why(&mut work, &before, &mut after, patch.lost_reason.as_deref()).await?;
        }
        if let Some(agent) = &patch.agent {
            in_resman(&mut work, &after).await?;
            let event = Event { agent_id: Some(agent.clone()), ..said::turn(EventKind::AgentChange, work.now) };
            work.send(&mut after, "lead_agent", Some(event), Lead::default()).await?;
            noted(&mut work, &after, actor, "lead_agent").await?;
        }
        if moved || patch.agent.is_some() {
            store::save(&mut work.tx, &after).await?;
        }
        let messages = work.commit().await?;
        Ok(Changed { contact: after, moved, messages })
    }

    /// The messages that a change of ours brings about.
    pub(super) async fn tell_resman(&self, work: &mut Work<'_>, before: &Contact, after: &mut Contact) -> Result<()> {
        self.tell_resman_why(work, before, after, None).await
    }

    /// The same, with the reason for which a lead is lost.
    async fn tell_resman_why(
        &self,
        work: &mut Work<'_>,
        before: &Contact,
        after: &mut Contact,
        lost_reason: Option<&str>,
    ) -> Result<()> {
        let moved = |field: &str| before.field(field) != after.field(field);
        let person = ["first_name", "last_name", "email", "phone"].into_iter().any(moved);
        let notes = moved("notes").then(|| after.notes.clone()).flatten();
        self.tell_opt_outs(work, Some(before), after).await?;
        let (was, is) = (Status::parse(&before.status).class(), Status::parse(&after.status).class());
        if person {
            work.send_person(after, None).await?;
        }
        if let Some(notes) = notes {
            let event = said::note(work.now, notes);
            work.send(after, "lead_event", Some(event), Lead::default()).await?;
        }
        let turn = |kind| Some(said::turn(kind, work.now));
        match (was, is) {
            (was, "lost") if was != "lost" => {
                let lead = Lead { lost_reason: lost_reason.map(str::to_owned), ..Lead::default() };
                let event = turn(EventKind::Lost);
                work.send(after, "lead_lost", event, lead).await
            }
            ("lost", "prospect") => {
                let event = turn(EventKind::Reactivated);
                work.send(after, "lead_reactivate", event, Lead::default()).await
            }
            // Applications and leases are made in ResMan; it would take no such wish from us.
            _ => Ok(()),
        }
    }

    /// ResMan has no field for opt-outs: the office reads of new ones, and of those that were taken back, among the lead's
    /// communications.
    async fn tell_opt_outs(&self, work: &mut Work<'_>, before: Option<&Contact>, after: &mut Contact) -> Result<()> {
        let outs = |c: &Contact| [c.email_opt_out, c.phone_opt_out, c.text_opt_out];
        let (was, is) = (before.map_or([false; 3], outs), outs(after));
        let out = format!("Opted out of {}.", ways(is));
        let back = [0, 1, 2].map(|n| was[n] && !is[n]);
        let text = match (back.contains(&true), is.contains(&true)) {
            (true, false) => format!("Opted in to {} again.", ways(back)),
            // The last word says how it stands.
            (true, true) => format!("Opted in to {} again. {out}", ways(back)),
            (false, _) if was != is => out,
            (false, _) => return Ok(()),
        };
        work.send(after, "lead_event", Some(said::note(work.now, text)), Lead::default()).await
    }

    /// Notes what a person wants no more of. Opt-outs only ever widen here.
    ///
    /// # Errors
    /// When there is no such contact.
    pub async fn opt_out(&self, id: Uuid, what: OptOut, source: Source, actor: &str) -> Answer<Changed> {
        let mut work = self.begin().await?;
        let before = self.locked(&mut work.tx, id).await?;
        let mut after = before.clone();
        what.apply(&mut after);
        let deed = Deed { source: source.as_str(), actor, action: "contact_opt_out", rule: "asked", at: work.now };
        let moved = work.change(Some(&before), &mut after, &deed).await?;
        if moved {
            self.tell_opt_outs(&mut work, Some(&before), &mut after).await?;
            store::save(&mut work.tx, &after).await?;
        }
        let messages = work.commit().await?;
        Ok(Changed { contact: after, moved, messages })
    }

    /// Takes opt-outs back, which only a person of the team may do, with a reason that stays on record.
    ///
    /// # Errors
    /// When there is no such contact or no reason.
    pub async fn opt_in(&self, id: Uuid, what: OptOut, reason: &str, actor: &str) -> Answer<Changed> {
        if reason.trim().is_empty() {
            return Err(Trouble::Refused(
                Fault::user("an opt-out is taken back only with a reason")
                    .hint("Say in `reason` how the person agreed."),
            ));
        }
        let mut work = self.begin().await?;
        let before = self.locked(&mut work.tx, id).await?;
        let mut after = before.clone();
        let all = what == OptOut::All;
        after.email_opt_out &= !(all || what == OptOut::Email);
        after.phone_opt_out &= !(all || what == OptOut::Phone);
        after.text_opt_out &= !(all || what == OptOut::Text);
        let deed = Deed { source: "manual", actor, action: "contact_opt_in", rule: reason, at: work.now };
        let moved = work.change(Some(&before), &mut after, &deed).await?;
        if moved {
            self.tell_opt_outs(&mut work, Some(&before), &mut after).await?;
            store::save(&mut work.tx, &after).await?;
        }
        let messages = work.commit().await?;
        Ok(Changed { contact: after, moved, messages })
    }

    /// Adds what was said. The same `external_id` twice is one.
    ///
    /// # Errors
    /// When there is no such contact.
    pub async fn interact(&self, id: Uuid, interaction: &Interaction, source: Source, actor: &str) -> Answer<Changed> {
        said::check(Some(interaction))?;
        let mut work = self.begin().await?;
        let before = self.locked(&mut work.tx, id).await?;
        let mut after = before.clone();
        let new = said::record(&mut work, &mut after, Some(interaction), actor).await?;
        if new {
            let deed =
                Deed { source: source.as_str(), actor, action: "contact_interaction", rule: "asked", at: work.now };
            work.change(Some(&before), &mut after, &deed).await?;
            work.events.push(store::event("interaction", &after, &[]));
            work.send(&mut after, "lead_event", Some(said::happened(interaction)), Lead::default()).await?;
            store::save(&mut work.tx, &after).await?;
        }
        let messages = work.commit().await?;
        Ok(Changed { contact: after, moved: new, messages })
    }

    /// Adds somebody to the lead's household in ResMan, who is no lead of their own. One of the same name there is brought up to
    /// date.
    ///
    /// # Errors
    /// When there is no such contact, ResMan does not know it, or the roommate has no full name or the lead's own.
    pub async fn add_roommate(&self, id: Uuid, roommate: &Patch, actor: &str) -> Answer<Changed> {
        let here = self.at(&self.get(id).await?.property_id).await?;
        let mut clean = here.checked(roommate)?.values;
        let (Some(first_name), Some(last_name)) = (clean.remove("first_name"), clean.remove("last_name")) else {
            return Err(Trouble::Refused(
                Fault::user("the roommate has no full name")
                    .hint("Give `first_name` and `last_name`: ResMan takes nobody without."),
            ));
        };
        let mut work = here.begin().await?;
        let mut contact = self.locked(&mut work.tx, id).await?;
        in_resman(&mut work, &contact).await?;
        let lower = |first: &str, last: &str| format!("{first} {last}").to_lowercase();
        // ResMan's people of a lead are told apart by their names alone.
        if lower(&first_name, &last_name) == lower(&contact.first_name, &contact.last_name) {
            return Err(Trouble::Refused(
                Fault::user("the roommate has the name of the lead").hint("Tell them apart by a suffix such as `Jr.`."),
            ));
        }
        let person = Person {
            first_name,
            last_name,
            email: clean.remove("email"),
            phone: clean.remove("phone"),
            ..Person::default()
        };
        work.send(&mut contact, "lead_roommate", None, Lead { person, ..Lead::default() }).await?;
        noted(&mut work, &contact, actor, "lead_roommate").await?;
        let messages = work.commit().await?;
        Ok(Changed { contact, moved: true, messages })
    }

    pub(super) async fn locked(&self, connection: &mut PgConnection, id: Uuid) -> Answer<Contact> {
        store::lock(connection, id).await.map_err(|f| match f.blame {
            catalog::Blame::User => Trouble::NotFound(f),
            _ => Trouble::Failed(f),
        })
    }

    /// Sets the rules of a property.
    ///
    /// # Errors
    /// When a threshold is not between 0 and 1 or they are in no order.
    pub async fn set_rules(&self, property: &str, rules: &Rules, actor: &str) -> Answer<()> {
        let p = &rules.profile;
        if ![p.merge, p.review, p.cluster].iter().all(|t| (0.0..=1.0).contains(t)) || p.review > p.merge {
            return Err(Trouble::Refused(
                Fault::user("the thresholds are not probabilities in their order")
                    .hint("Each lies between 0 and 1, and `review` not above `merge`."),
            ));
        }
        let mut work = self.begin().await?;
        let criteria =
            serde_json::to_value(rules.profile).map_err(|e| Fault::us("a profile has no JSON form").because(e))?;
        sqlx::query(
            "insert into sync.contact_matching_rules (id, property_id, matching_criteria, merge_strategy, created_at, updated_at) \
             values ($1, $2, $3, $4, $5, $5) on conflict (property_id) do update set \
             matching_criteria = excluded.matching_criteria, merge_strategy = excluded.merge_strategy, updated_at = excluded.updated_at",
        )
        .bind(Uuid::now_v7())
        .bind(property)
        .bind(&criteria)
        .bind(rules.strategy.as_str())
        .bind(work.now)
        .execute(&mut *work.tx)
        .await
        .map_err(|e| fault("cannot write the matching rules", e))?;
        let subject = format!("property {property}");
        let after = Some(json!({ "matching_criteria": criteria, "merge_strategy": rules.strategy.as_str() }));
        let entry =
            audit::Entry { actor, action: "matching_rules", subject: &subject, after, ..audit::Entry::default() };
        audit::write(&mut work.tx, &entry).await?;
        work.commit().await?;
        Ok(())
    }

    /// Takes the rules of a property back, so that the shipped ones hold again.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn drop_rules(&self, property: &str, actor: &str) -> Answer<()> {
        let mut work = self.begin().await?;
        let before: Option<Value> = sqlx::query_scalar(
            "delete from sync.contact_matching_rules where property_id = $1 returning \
             jsonb_build_object('matching_criteria', matching_criteria, 'merge_strategy', merge_strategy)",
        )
        .bind(property)
        .fetch_optional(&mut *work.tx)
        .await
        .map_err(|e| fault("cannot take the matching rules back", e))?;
        if before.is_some() {
            let subject = format!("property {property}");
            let entry =
                audit::Entry { actor, action: "matching_rules", subject: &subject, before, ..audit::Entry::default() };
            audit::write(&mut work.tx, &entry).await?;
        }
        work.commit().await?;
        Ok(())
    }
}

/// Who has applied and who lives here is decided in ResMan, which takes no word of ours on that: here and there would differ
/// for good.
fn may_become(before: &Contact, after: &Contact) -> Answer<()> {
    let theirs = |contact: &Contact| ["applicant", "resident"].contains(&Status::parse(&contact.status).class());
    let (was, is) = (Status::parse(&before.status).class(), Status::parse(&after.status).class());
    if was != is && (theirs(after) || (theirs(before) && is != "lost")) {
        return Err(Trouble::Refused(
            Fault::user(format!(
                "`status` cannot become `{}` here: applications and leases are made in ResMan",
                after.status
            ))
            .hint("Change it in ResMan, or name `resman` as `update_source` when ResMan says so."),
        ));
    }
    Ok(())
}

/// Lets only those contacts through that ResMan has, or is about to.
async fn in_resman(work: &mut Work<'_>, contact: &Contact) -> Answer<()> {
    if work.known(contact.id).await? {
        return Ok(());
    }
    Err(Trouble::Refused(
        Fault::user("ResMan does not know this lead").hint("`GET /api/resman/leads/{id}` shows how it stands and why."),
    ))
}

/// Puts on record that something of a lead was changed in ResMan that is kept nowhere here.
async fn noted(work: &mut Work<'_>, contact: &Contact, actor: &str, action: &str) -> Result<()> {
    let subject = format!("contact {}", contact.id);
    audit::write(&mut work.tx, &audit::Entry { actor, action, subject: &subject, ..audit::Entry::default() }).await
}

/// An empty contact.
pub(super) fn blank(property: &str, source: Source, now: DateTime<Utc>) -> Contact {
    Contact {
        id: Uuid::now_v7(),
        property_id: property.to_owned(),
        first_name: String::new(),
        last_name: String::new(),
        email: None,
        phone: None,
        status: Status::New.as_str().to_owned(),
        source: source.as_str().to_owned(),
        notes: None,
        preferences: json!({}),
        email_opt_out: false,
        phone_opt_out: false,
        text_opt_out: false,
        enrichment: json!({}),
        lead_score: None,
        lead_score_parts: None,
        last_interaction: None,
        interaction_count: 0,
        aliases: json!({}),
        provenance: json!({}),
        base: json!({}),
        pushed: json!({}),
        version: 1,
        domiq_version: 0,
        resman_version: 0,
        merged_into: None,
        created_at: now,
        updated_at: now,
    }
}

/// Sets what a change names.
fn apply(contact: &mut Contact, clean: &Clean, patch: &Patch, source: Source, now: DateTime<Utc>) {
    for (field, value) in &clean.values {
        put(contact, field, value);
        contact.learned(field, source.as_str(), now, patch.verified.iter().any(|f| f == field));
    }
    preferences(contact, patch);
}

/// Adds to a known contact what somebody new brought who turned out to be them. A value that is there already gives way
/// only to one that is worth more; see [`merges::worth_more`].
fn enrich(contact: &mut Contact, clean: &Clean, patch: &Patch, source: Source, strategy: Strategy, now: DateTime<Utc>) {
    for (field, value) in &clean.values {
        // A known person who writes again is not new again.
        if *field == "status" {
            continue;
        }
        let verified = patch.verified.iter().any(|f| f == field);
        let empty = matches!(contact.field(field), Value::Null) || contact.field(field) == json!("");
        let new = json!({ "source": source.as_str(), "at": now, "verified": verified });
        if empty || merges::worth_more(&new, &contact.provenance[*field], strategy) {
            put(contact, field, value);
            contact.learned(field, source.as_str(), now, verified);
        }
    }
    preferences(contact, patch);
}

fn put(contact: &mut Contact, field: &str, value: &str) {
    let value = value.to_owned();
    match field {
        "first_name" => contact.first_name = value,
        "last_name" => contact.last_name = value,
        "email" => contact.email = Some(value),
        "phone" => contact.phone = Some(value),
        "status" => contact.status = value,
        "notes" => contact.notes = Some(value),
        _ => {}
    }
}

fn preferences(contact: &mut Contact, patch: &Patch) {
    let Some(given) = &patch.preferences else { return };
    if !contact.preferences.is_object() {
        contact.preferences = json!({});
    }
    if let Some(method) = &given.communication_method {
        contact.preferences["communication_method"] = json!(method);
    }
    if let Some(frequency) = &given.contact_frequency {
        contact.preferences["contact_frequency"] = json!(frequency);
    }
    if let Some(wishes) = &given.wishes {
        enrichment::confirm(contact, wishes);
    }
    let unwanted = [
        (given.opt_out, OptOut::All),
        (given.email_opt_out, OptOut::Email),
        (given.phone_opt_out, OptOut::Phone),
        (given.text_opt_out, OptOut::Text),
    ];
    for (_, what) in unwanted.into_iter().filter(|(out, _)| *out == Some(true)) {
        what.apply(contact);
    }
}

/// The ways to reach somebody that are meant: e-mail, calls, text messages.
fn ways(meant: [bool; 3]) -> String {
    let all = ["e-mail", "calls", "text messages"];
    all.into_iter().zip(meant).filter(|(_, meant)| *meant).map(|(way, _)| way).collect::<Vec<_>>().join(", ")
}
