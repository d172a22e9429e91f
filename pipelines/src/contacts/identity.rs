//! Who a person is: the matcher over the stored contacts of a property.

use std::sync::LazyLock;

use catalog::store::pg::fault;
use catalog::{Fault, Result};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sqlx::Row;
use sqlx::postgres::PgConnection;
use transforms::matching::{Decision, Person, Profile, Record, Rule, Says, Scored, Scorer, decide};
use uuid::Uuid;

use super::model::{Contact, Strategy};
use super::store;

/// The rule by which a property matches and merges.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Rules {
    /// The matcher's profile.
    pub profile: Profile,
    /// Who wins when both sides have changed a field.
    pub strategy: Strategy,
}

impl Default for Rules {
    /// The matcher's own profile, but for the limit of merging: leads have no birth date, so that even the same name, e-mail
    /// address and phone could be father and son of one household, which the matcher puts at 0.998. A merge of contacts can
    /// be undone, and two records of one person cannot be told apart by the team.
    fn default() -> Self {
        Self { profile: Profile { merge: 0.99, ..Profile::default() }, strategy: Strategy::default() }
    }
}

/// The rules of a property; without a row, the shipped ones.
pub async fn rules(connection: &mut PgConnection, property: &str) -> Result<Rules> {
    let what = "cannot read the matching rules";
    let row =
        sqlx::query("select matching_criteria, merge_strategy from sync.contact_matching_rules where property_id = $1")
            .bind(property)
            .fetch_optional(connection)
            .await
            .map_err(|e| fault(what, e))?;
    let Some(row) = row else { return Ok(Rules::default()) };
    let profile = serde_json::from_value(row.get::<Value, _>("matching_criteria"))
        .map_err(|e| Fault::us(format!("the matching rules of `{property}` cannot be read")).because(e))?;
    Ok(Rules { profile, strategy: Strategy::parse(&row.get::<String, _>("merge_strategy")) })
}

/// A known contact that may be the same person.
#[derive(Debug, Clone)]
pub struct Candidate {
    /// The contact.
    pub contact: Contact,
    /// What to do.
    pub decision: Decision,
    /// How likely, and why.
    pub scored: Scored,
}

/// Candidates that one look considers, those that share most keys first.
const MOST: i64 = 50;
/// People of one key that it reads: a key that more share says little, and is left to rarer ones.
const CROWD: i64 = 60;

/// The weights that are shipped: one contact is too little to train on.
fn scorer(rule: Rule) -> &'static Scorer {
    static FELLEGI_SUNTER: LazyLock<Scorer> = LazyLock::new(|| Scorer::shipped(Rule::FellegiSunter));
    static SEED: LazyLock<Scorer> = LazyLock::new(|| Scorer::shipped(Rule::Seed));
    match rule {
        Rule::FellegiSunter => &FELLEGI_SUNTER,
        Rule::Seed => &SEED,
    }
}

/// The matcher's view of a contact.
pub fn record(contact: &Contact, region: &str) -> Record {
    let given = |t: &'_ str| !t.is_empty();
    Record::new(
        &Person {
            given_name: Some(contact.first_name.as_str()).filter(|t| given(t)),
            family_name: Some(contact.last_name.as_str()).filter(|t| given(t)),
            email: contact.email.as_deref(),
            phone: contact.phone.as_deref(),
            ..Person::default()
        },
        region,
    )
}

/// The keys under which a contact is found, as PostgreSQL stores them. What half a town shares is none: nobody is known by
/// the provider of their mailbox alone.
pub fn keys(record: &Record) -> Vec<i64> {
    keys_that_say(record, Says::Some)
}

fn keys_that_say(record: &Record, least: Says) -> Vec<i64> {
    record.keys_that_say(least).into_iter().map(u64::cast_signed).collect()
}

/// Holds whoever adds or changes a person who could be this one until the transaction ends, so that two requests for one
/// person come one after the other. Taken in order, so that two never wait for each other.
pub async fn hold(connection: &mut PgConnection, property: &str, record: &Record) -> Result<()> {
    let mut keys = keys_that_say(record, Says::Much);
    keys.sort_unstable();
    sqlx::query("select pg_advisory_xact_lock(hashtextextended($1 || k::text, 7)) from unnest($2::bigint[]) with ordinality t(k, n) order by n")
        .bind(property)
        .bind(&keys)
        .execute(connection)
        .await
        .map_err(|e| fault("cannot wait for other changes of this person", e))?;
    Ok(())
}

/// The contacts of the property that may be this person, the likeliest first.
pub async fn candidates(
    connection: &mut PgConnection,
    contact: &Contact,
    profile: &Profile,
    region: &str,
) -> Result<Vec<Candidate>> {
    let record_of = record(contact, region);
    let ids: Vec<Uuid> = sqlx::query_scalar(
        // From the key to the contact, whatever the planner thinks of tables that it has not looked at yet: the other way
        // goes through every contact of the property. `offset 0` keeps it from turning the steps around.
        "select of_key.id from unnest($1::bigint[]) of (key) cross join lateral ( \
             select c.id from (select k.contact_id from sync.contact_keys k where k.key = of.key offset 0) k \
             cross join lateral ( \
                 select c.id from sync.contacts c \
                 where c.id = k.contact_id and c.property_id = $2 and c.merged_into is null and c.id <> $3 offset 0 \
             ) c limit $5 \
         ) of_key group by of_key.id order by count(*) desc, of_key.id limit $4",
    )
    .bind(keys(&record_of))
    .bind(&contact.property_id)
    .bind(contact.id)
    .bind(MOST)
    .bind(CROWD)
    // Planned anew each time: a plan that was made while the tables were small reads them from end to end once they are not.
    .persistent(false)
    .fetch_all(&mut *connection)
    .await
    .map_err(|e| fault("cannot look for known people", e))?;
    let scorer = scorer(profile.rule);
    let mut found = Vec::new();
    for known in store::many(connection, &ids).await? {
        let guises = known.guises();
        let scored = guises.iter().map(|g| scorer.score(&record_of, &record(g, region)));
        let Some(scored) = scored.max_by(|a, b| a.probability.total_cmp(&b.probability)) else { continue };
        let decision = decide(profile, &scored);
        if decision != Decision::New {
            found.push(Candidate { contact: known, decision, scored });
        }
    }
    found.sort_by(|a, b| b.scored.probability.total_cmp(&a.scored.probability).then(a.contact.id.cmp(&b.contact.id)));
    Ok(found)
}

/// Why two records are taken for one person, to be kept with the decision.
pub fn evidence(scored: &Scored) -> Value {
    json!(scored)
}

/// Writes the keys of a contact anew.
pub async fn index(connection: &mut PgConnection, contact: &Contact, region: &str) -> Result<()> {
    let what = "cannot index a contact";
    let mut of: Vec<i64> = match contact.merged_into {
        Some(_) => Vec::new(),
        None => contact.guises().iter().flat_map(|g| keys(&record(g, region))).collect(),
    };
    of.sort_unstable();
    of.dedup();
    let keys = of;
    sqlx::query("delete from sync.contact_keys where contact_id = $1 and not (key = any($2))")
        .bind(contact.id)
        .bind(&keys)
        .execute(&mut *connection)
        .await
        .map_err(|e| fault(what, e))?;
    sqlx::query("insert into sync.contact_keys (key, contact_id) select k, $1 from unnest($2::bigint[]) k on conflict do nothing")
        .bind(contact.id)
        .bind(&keys)
        .execute(connection)
        .await
        .map_err(|e| fault(what, e))?;
    Ok(())
}
