//! Two records of one person become one, and two again when that was wrong.

use catalog::store::pg::fault;
use catalog::store::{audit, events};
use catalog::{Fault, Result};
use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::{Value, json};
use sinks::resman::document::{Event, EventKind, Lead};
use sqlx::FromRow;
use transforms::matching::Scored;
use uuid::Uuid;

use super::identity;
use super::model::{Contact, Status, Strategy};
use super::service::{Answer, Contacts, Trouble};
use super::store::{self, Deed};
use super::work::Work;

/// Two contacts that are, or may be, one person.
#[derive(Debug, Clone, FromRow, Serialize)]
pub struct Merge {
    /// Its id.
    pub id: Uuid,
    /// The property.
    pub property_id: String,
    /// The record that stays.
    pub primary_id: Uuid,
    /// The record that goes into it.
    pub secondary_id: Uuid,
    /// How likely they are one person, 0 to 1.
    pub confidence: f64,
    /// Why: each field's level and weight.
    pub evidence: Value,
    /// `pending`, `merged`, `rejected` or `undone`.
    pub state: String,
    /// Why it was decided so.
    pub reason: Option<String>,
    /// When it came up.
    pub created_at: DateTime<Utc>,
    /// When it was decided.
    pub decided_at: Option<DateTime<Utc>>,
    /// Who decided.
    pub decided_by: Option<String>,
}

const COLUMNS: &str = "id, property_id, primary_id, secondary_id, confidence, evidence, state, reason, created_at, decided_at, decided_by";

/// Whether a value with this provenance is worth more than one with that: confirmed beats unconfirmed; then the side that
/// the property trusts; then the later one.
pub fn worth_more(new: &Value, old: &Value, strategy: Strategy) -> bool {
    let verified = |v: &Value| v["verified"] == json!(true);
    if verified(new) != verified(old) {
        return verified(new);
    }
    let trusted = |v: &Value| match strategy {
        Strategy::ResmanWins => v["source"] == json!("resman"),
        Strategy::DomiqWins => v["source"] != json!("resman"),
        // Nobody is trusted more; what stands there stays until somebody says otherwise.
        Strategy::ManualReview => false,
    };
    if trusted(new) != trusted(old) {
        return trusted(new);
    }
    let at = |v: &Value| v["at"].as_str().and_then(|t| t.parse::<DateTime<Utc>>().ok());
    strategy != Strategy::ManualReview && at(new) > at(old)
}

/// Puts a pair up for review, once.
pub(super) async fn propose(work: &mut Work<'_>, known: &Contact, new: &Contact, scored: &Scored) -> Result<()> {
    let id = Uuid::now_v7();
    let added = sqlx::query(
        "insert into sync.merges (id, property_id, primary_id, secondary_id, confidence, evidence, state, created_at) \
         select $1, $2, $3, $4, $5, $6, 'pending', $7 where not exists (select from sync.merges where state in ('pending', 'rejected') \
         and least(primary_id, secondary_id) = least($3, $4) and greatest(primary_id, secondary_id) = greatest($3, $4))",
    )
    .bind(id)
    .bind(&new.property_id)
    .bind(known.id)
    .bind(new.id)
    .bind(scored.probability)
    .bind(identity::evidence(scored))
    .bind(work.now)
    .execute(&mut *work.tx)
    .await
    .map_err(|e| fault("cannot put a pair up for review", e))?
    .rows_affected();
    if added == 1 {
        work.events.push(event("proposed", &new.property_id, id, known.id, new.id));
    }
    Ok(())
}

fn event(kind: &str, property: &str, id: Uuid, primary: Uuid, secondary: Uuid) -> events::Event {
    events::Event {
        topic: "merges".to_owned(),
        property_id: Some(property.to_owned()),
        kind: kind.to_owned(),
        key: id.to_string(),
        version: 1,
        data: json!({ "primary_id": primary, "secondary_id": secondary }),
    }
}

/// Why two records become one.
#[derive(Debug)]
pub(crate) struct Why<'a> {
    /// The pair, when it was up for review.
    pub id: Option<Uuid>,
    /// How likely they are one person, 0 to 1.
    pub confidence: f64,
    /// What decided it.
    pub rule: &'a str,
    /// Who did.
    pub actor: &'a str,
    /// The other record is nobody's: it was made of the very lead that this one's message made in ResMan.
    pub own_lead: bool,
}

impl Contacts {
    /// Pairs of a state, oldest first, of these properties (none stands for all).
    pub async fn merges(
        &self,
        state: &str,
        properties: &[String],
        after: Option<Uuid>,
        limit: i64,
    ) -> Result<Vec<Merge>> {
        sqlx::query_as(sqlx::AssertSqlSafe(format!(
            "select {COLUMNS} from sync.merges where state = $1 and (cardinality($2::text[]) = 0 or property_id = any($2)) \
             and ($3::uuid is null or id > $3) order by id limit $4"
        )))
        .bind(state)
        .bind(properties)
        .bind(after)
        .bind(limit)
        .fetch_all(&self.pool)
        .await
        .map_err(|e| fault("cannot read the merges", e))
    }

    /// One pair.
    ///
    /// # Errors
    /// When there is none of this id.
    pub async fn merge_of(&self, id: Uuid) -> Answer<Merge> {
        let found: Option<Merge> =
            sqlx::query_as(sqlx::AssertSqlSafe(format!("select {COLUMNS} from sync.merges where id = $1")))
                .bind(id)
                .fetch_optional(&self.pool)
                .await
                .map_err(|e| fault("cannot read a merge", e))?;
        found.ok_or_else(|| Trouble::NotFound(Fault::user(format!("there is no merge `{id}`"))))
    }

    /// Makes one record of a pair that was up for review.
    ///
    /// # Errors
    /// When it is not pending any more.
    pub async fn approve(&self, id: Uuid, actor: &str) -> Answer<(Merge, Contact)> {
        let merge = self.decide(id, actor, "pending").await?;
        let why = Why { id: Some(merge.id), confidence: merge.confidence, rule: "approved", actor, own_lead: false };
        self.join(merge.primary_id, merge.secondary_id, &why).await
    }

    /// Leaves a pair as two people, for good: it does not come up again.
    ///
    /// # Errors
    /// When it is not pending any more.
    pub async fn reject(&self, id: Uuid, reason: Option<&str>, actor: &str) -> Answer<Merge> {
        let merge = self.decide(id, actor, "pending").await?;
        let mut work = self.begin().await?;
        let done = sqlx::query(
            "update sync.merges set state = 'rejected', reason = $2, decided_at = $3, decided_by = $4 where id = $1 and state = 'pending'",
        )
        .bind(id)
        .bind(reason)
        .bind(work.now)
        .bind(actor)
        .execute(&mut *work.tx)
        .await
        .map_err(|e| fault("cannot reject a merge", e))?;
        if done.rows_affected() == 0 {
            return Err(decided(id));
        }
        let subject = format!("merge {id}");
        let entry =
            audit::Entry { actor, action: "merge_reject", subject: &subject, reason, ..audit::Entry::default() };
        audit::write(&mut work.tx, &entry).await?;
        work.events.push(event("rejected", &merge.property_id, id, merge.primary_id, merge.secondary_id));
        work.commit().await?;
        self.merge_of(id).await
    }

    async fn decide(&self, id: Uuid, _actor: &str, state: &str) -> Answer<Merge> {
        let merge = self.merge_of(id).await?;
        if merge.state == state { Ok(merge) } else { Err(decided(id)) }
    }

    /// Makes one record of two, by hand.
    ///
    /// # Errors
    /// When they are one already, or of two properties.
    pub async fn merge(&self, primary: Uuid, secondary: Uuid, actor: &str) -> Answer<(Merge, Contact)> {
        let why = Why { id: None, confidence: 1.0, rule: "asked", actor, own_lead: false };
        self.join(primary, secondary, &why).await
    }

    /// The record that stays takes over what the other one has, field by field the value that is worth more; everything
    /// that points to the other one follows. Opt-outs only widen. In ResMan the spare lead is closed.
    pub(crate) async fn join(&self, primary: Uuid, secondary: Uuid, why: &Why<'_>) -> Answer<(Merge, Contact)> {
        if primary == secondary {
            return Err(Trouble::refused("a contact cannot be merged with itself").map_hint("Name two contacts."));
        }
        let mut work = self.begin().await?;
        if let Some(id) = why.id {
            // Somebody may have decided otherwise since the caller looked.
            let state: Option<String> = sqlx::query_scalar("select state from sync.merges where id = $1 for update")
                .bind(id)
                .fetch_optional(&mut *work.tx)
                .await
                .map_err(|e| fault("cannot read a merge", e))?;
            if state.as_deref() != Some("pending") {
                return Err(decided(id));
            }
        }
        // Always in one order, so that two merges of the same records cannot wait for each other.
        let (first, second) = (primary.min(secondary), primary.max(secondary));
        let a = self.locked(&mut work.tx, first).await?;
        let b = self.locked(&mut work.tx, second).await?;
        if a.id == b.id {
            return Err(Trouble::refused("both are one contact already").map_hint(
                "One of them was merged into the other, straight or by way of a third: there is nothing to do.",
            ));
        }
        let (keep, spare) = if first == primary { (a, b) } else { (b, a) };
        if keep.property_id != spare.property_id {
            return Err(Trouble::refused("contacts of two properties are two leads in ResMan and stay two")
                .map_hint("Name two contacts of one property."));
        }
        let strategy = identity::rules(&mut work.tx, &keep.property_id).await?.strategy;
        let mut after = keep.clone();
        survive(&mut after, &spare, (!why.own_lead).then_some(strategy));
        if why.own_lead {
            // Nothing is agreed on with ResMan yet: what the office has changed of the lead meanwhile is settled by the
            // reading that follows, and a clash is on record.
        } else if store::counterparts(&mut work.tx, keep.id).await?.is_empty() {
            // The other one's lead is this record's from now on, and with it what ResMan is known to hold.
            after.base.clone_from(&spare.base);
        }
        let moved = move_references(&mut work, spare.id, keep.id).await?;
        let before = json!({ "primary": snapshot(&keep), "secondary": snapshot(&spare), "after": snapshot(&after), "moved": moved });
        let deed = Deed { source: "manual", actor: why.actor, action: "contact_merge", rule: why.rule, at: work.now };
        work.change(Some(&keep), &mut after, &deed).await?;
        let mut gone = spare.clone();
        gone.merged_into = Some(keep.id);
        gone.status = Status::Merged.as_str().to_owned();
        work.change(Some(&spare), &mut gone, &deed).await?;
        let id = record(&mut work, &keep, &spare, &before, why).await?;
        work.events.push(event("merged", &keep.property_id, id, keep.id, spare.id));
        let leads: Vec<Uuid> = serde_json::from_value(before["moved"]["sync.contact_sync"].clone()).unwrap_or_default();
        self.close_spares(&mut work, &mut after, &leads).await?;
        self.tell_resman(&mut work, &keep, &mut after).await?;
        store::save(&mut work.tx, &after).await?;
        work.commit().await?;
        Ok((self.merge_of(id).await?, after))
    }

    /// Of two leads that ResMan has of one person, the one of the record that went is closed there, as people do by hand.
    async fn close_spares(&self, work: &mut Work<'_>, contact: &mut Contact, moved: &[Uuid]) -> Result<()> {
        let spares = store::spares(&mut work.tx, contact.id, moved).await?;
        for spare in &spares {
            let at = work.now;
            let comments = Some("Duplicate of another guest card.".to_owned());
            let event = Event { kind: EventKind::Lost, at, reason: None, comments, agent_id: None, event_id: None };
            let lead = Lead {
                prospect_id: Some(spare.prospect_id.clone()),
                person_id: spare.person_id.clone(),
                ..Lead::default()
            };
            // It says nothing about the person, only about the spare card.
            work.send(contact, "lead_spare", Some(event), lead).await?;
            sqlx::query(
                "update sync.contact_sync set sync_status = 'merged', updated_at = $2 where resman_contact_id = $1",
            )
            .bind(&spare.prospect_id)
            .bind(work.now)
            .execute(&mut *work.tx)
            .await
            .map_err(|e| fault("cannot mark a spare lead", e))?;
        }
        Ok(())
    }

    /// Makes two records of one again. What was changed since stays with the record that stayed, and so do opt-outs, on
    /// both: nobody's is lost.
    ///
    /// # Errors
    /// When they are not merged, or the record that stayed was merged into another since.
    pub async fn unmerge(&self, id: Uuid, reason: Option<&str>, actor: &str) -> Answer<(Contact, Contact)> {
        let merge = self.decide(id, actor, "merged").await?;
        let mut work = self.begin().await?;
        let what = "cannot undo a merge";
        let before: Option<Value> =
            sqlx::query_scalar("select before from sync.merges where id = $1 and state = 'merged' for update")
                .bind(id)
                .fetch_optional(&mut *work.tx)
                .await
                .map_err(|e| fault(what, e))?;
        let before = before.ok_or_else(|| decided(id))?;
        let keep = self.locked(&mut work.tx, merge.primary_id).await?;
        if keep.id != merge.primary_id {
            return Err(Trouble::refused("the record that stayed was merged into another one since")
                .map_hint("Undo that merge first."));
        }
        let spare: Option<Contact> = store::many(&mut work.tx, &[merge.secondary_id]).await?.into_iter().next();
        let spare = spare.ok_or_else(|| Trouble::NotFound(store::missing(merge.secondary_id)))?;
        let (mut first, mut second) = (keep.clone(), spare.clone());
        for field in ["first_name", "last_name", "email", "phone", "status", "notes", "preferences", "enrichment"] {
            // What somebody changed since the merge is theirs.
            if keep.field(field) == before["after"][field] {
                restore(&mut first, field, &before["primary"][field]);
            }
            restore(&mut second, field, &before["secondary"][field]);
        }
        second.merged_into = None;
        // The other one's values are theirs again, not former values of this one.
        for (field, theirs) in [("email", &second.email), ("phone", &second.phone)] {
            if let Some(list) = first.aliases[field].as_array_mut() {
                list.retain(|v| v.as_str() != theirs.as_deref());
            }
        }
        second.email_opt_out |= first.email_opt_out;
        second.phone_opt_out |= first.phone_opt_out;
        second.text_opt_out |= first.text_opt_out;
        move_back(&mut work, &before["moved"], keep.id, spare.id).await?;
        let deed =
            Deed { source: "manual", actor, action: "contact_unmerge", rule: reason.unwrap_or("asked"), at: work.now };
        work.change(Some(&keep), &mut first, &deed).await?;
        work.change(Some(&spare), &mut second, &deed).await?;
        sqlx::query(
            "update sync.merges set state = 'undone', reason = $2, decided_at = $3, decided_by = $4 where id = $1",
        )
        .bind(id)
        .bind(reason)
        .bind(work.now)
        .bind(actor)
        .execute(&mut *work.tx)
        .await
        .map_err(|e| fault(what, e))?;
        work.events.push(event("undone", &keep.property_id, id, keep.id, spare.id));
        self.tell_resman(&mut work, &keep, &mut first).await?;
        // The spare lead was closed in ResMan with the merge; it is somebody of their own again.
        let spare_lead = store::counterparts(&mut work.tx, second.id).await?.into_iter().next();
        if let Some(lead) = spare_lead {
            let event = Event {
                kind: EventKind::Reactivated,
                at: work.now,
                reason: None,
                comments: None,
                agent_id: None,
                event_id: None,
            };
            let lead = Lead { prospect_id: Some(lead.prospect_id), person_id: lead.person_id, ..Lead::default() };
            work.send(&mut second, "lead_reactivate", Some(event), lead).await?;
        } else {
            work.send_person(&mut second, None).await?;
        }
        store::save(&mut work.tx, &first).await?;
        store::save(&mut work.tx, &second).await?;
        work.commit().await?;
        Ok((first, second))
    }
}

impl Trouble {
    fn map_hint(self, hint: &'static str) -> Self {
        match self {
            Trouble::Refused(fault) => Trouble::Refused(fault.hint(hint)),
            other => other,
        }
    }
}

fn decided(id: Uuid) -> Trouble {
    let fault = Fault::user(format!("merge `{id}` is decided already"));
    Trouble::Stale(
        fault.hint("`GET /api/resman/merges/pending` lists those that wait; `undo` takes back one that was made."),
    )
}

/// Field by field the value that is worth more; without a strategy the values stay as they are.
fn survive(keep: &mut Contact, spare: &Contact, strategy: Option<Strategy>) {
    for field in ["first_name", "last_name", "email", "phone"] {
        let Some(strategy) = strategy else { break };
        let theirs = spare.shared(field);
        let better = worth_more(&spare.provenance[field], &keep.provenance[field], strategy);
        if theirs.is_some() && (keep.shared(field).is_none() || better) {
            keep.set_shared(field, theirs);
            keep.provenance[field] = spare.provenance[field].clone();
        }
    }
    // Whoever has come further, has.
    let rank = |c: &Contact| match Status::parse(&c.status).class() {
        "resident" => 3,
        "applicant" => 2,
        "prospect" => 1,
        _ => 0,
    };
    if rank(spare) > rank(keep) {
        keep.status.clone_from(&spare.status);
    }
    keep.email_opt_out |= spare.email_opt_out;
    keep.phone_opt_out |= spare.phone_opt_out;
    keep.text_opt_out |= spare.text_opt_out;
    keep.notes = match (keep.notes.take(), &spare.notes) {
        (Some(a), Some(b)) if a != *b => Some(format!("{a}\n\n{b}")),
        (a, b) => a.or_else(|| b.clone()),
    };
    // What either side has confirmed holds for both.
    let confirmed: Vec<(String, Value)> = spare.preferences["wishes"]
        .as_object()
        .into_iter()
        .flatten()
        .filter(|(name, wish)| {
            wish["confirmed"] == true && keep.preferences["wishes"][name.as_str()]["confirmed"] != true
        })
        .map(|(name, wish)| (name.clone(), wish.clone()))
        .collect();
    for (name, wish) in confirmed {
        if !keep.preferences["wishes"].is_object() {
            keep.preferences["wishes"] = json!({});
        }
        keep.preferences["wishes"][name] = wish;
    }
    for (mine, theirs) in [(&mut keep.preferences, &spare.preferences), (&mut keep.enrichment, &spare.enrichment)] {
        for (key, value) in theirs.as_object().into_iter().flatten() {
            if mine.get(key).is_none_or(Value::is_null) {
                mine[key.as_str()] = value.clone();
            }
        }
    }
    for guise in spare.guises() {
        keep.remember(&guise);
    }
    keep.interaction_count += spare.interaction_count;
    keep.last_interaction = keep.last_interaction.max(spare.last_interaction);
    keep.lead_score = keep.lead_score.max(spare.lead_score);
}

/// Everything that points to a contact, by table and column of the row's id.
const REFERENCES: [(&str, &str, &str); 3] = [
    ("sync.interactions", "id", "contact_id"),
    ("sync.contact_enrichment_log", "id", "contact_id"),
    ("sync.contact_sync", "id", "user_id"),
];

async fn move_references(work: &mut Work<'_>, from: Uuid, to: Uuid) -> Result<Value> {
    let mut moved = serde_json::Map::new();
    for (table, id, column) in REFERENCES {
        // The same message kept under both records would be there twice.
        let but = if table == "sync.interactions" {
            " and (external_id is null or external_id not in (select external_id from sync.interactions where contact_id = $2 and external_id is not null))"
        } else {
            ""
        };
        let sql = format!("update {table} set {column} = $2 where {column} = $1{but} returning {id}");
        let ids: Vec<Uuid> = sqlx::query_scalar(sqlx::AssertSqlSafe(sql))
            .bind(from)
            .bind(to)
            .fetch_all(&mut *work.tx)
            .await
            .map_err(|e| fault("cannot move what points to a contact", e))?;
        moved.insert(table.to_owned(), json!(ids));
    }
    Ok(Value::Object(moved))
}

async fn move_back(work: &mut Work<'_>, moved: &Value, from: Uuid, to: Uuid) -> Result<()> {
    for (table, id, column) in REFERENCES {
        let ids: Vec<Uuid> = serde_json::from_value(moved[table].clone()).unwrap_or_default();
        let status = if table == "sync.contact_sync" { ", sync_status = 'success'" } else { "" };
        let sql = format!("update {table} set {column} = $2{status} where {id} = any($3) and {column} = $1");
        sqlx::query(sqlx::AssertSqlSafe(sql))
            .bind(from)
            .bind(to)
            .bind(&ids)
            .execute(&mut *work.tx)
            .await
            .map_err(|e| fault("cannot move back what points to a contact", e))?;
    }
    Ok(())
}

fn snapshot(contact: &Contact) -> Value {
    serde_json::to_value(contact).unwrap_or(Value::Null)
}

fn restore(contact: &mut Contact, field: &str, value: &Value) {
    let text = || value.as_str().map(str::to_owned);
    match field {
        "first_name" => contact.first_name = text().unwrap_or_default(),
        "last_name" => contact.last_name = text().unwrap_or_default(),
        "email" => contact.email = text(),
        "phone" => contact.phone = text(),
        "status" => contact.status = text().unwrap_or_default(),
        "notes" => contact.notes = text(),
        "preferences" => contact.preferences = value.clone(),
        "enrichment" => contact.enrichment = value.clone(),
        _ => {}
    }
}

async fn record(work: &mut Work<'_>, keep: &Contact, spare: &Contact, before: &Value, why: &Why<'_>) -> Result<Uuid> {
    let (id, actor) = (why.id.unwrap_or_else(Uuid::now_v7), why.actor);
    // The pair may have been up for review under another id: that review is decided with this.
    sqlx::query(
        "update sync.merges set state = 'rejected', reason = 'merged by hand', decided_at = $4, decided_by = $5 where state = 'pending' \
         and id <> $1 and ((primary_id = $2 and secondary_id = $3) or (primary_id = $3 and secondary_id = $2))",
    )
    .bind(id)
    .bind(keep.id)
    .bind(spare.id)
    .bind(work.now)
    .bind(actor)
    .execute(&mut *work.tx)
    .await
    .map_err(|e| fault("cannot write a merge", e))?;
    sqlx::query(
        "insert into sync.merges (id, property_id, primary_id, secondary_id, confidence, state, before, created_at, decided_at, decided_by) \
         values ($1, $2, $3, $4, $5, 'merged', $6, $7, $7, $8) on conflict (id) do update set state = 'merged', \
         before = excluded.before, decided_at = excluded.decided_at, decided_by = excluded.decided_by",
    )
    .bind(id)
    .bind(&keep.property_id)
    .bind(keep.id)
    .bind(spare.id)
    .bind(why.confidence)
    .bind(before)
    .bind(work.now)
    .bind(actor)
    .execute(&mut *work.tx)
    .await
    .map_err(|e| fault("cannot write a merge", e))?;
    Ok(id)
}
