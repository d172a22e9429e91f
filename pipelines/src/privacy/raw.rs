//! What vendors sent and what callers were answered, byte by byte as it was.

use std::collections::BTreeSet;

use catalog::Result;
use catalog::store::erasures::PART;
use catalog::store::pg::fault;
use futures::TryStreamExt;
use serde_json::Value;
use sqlx::{PgConnection, Row};

use super::load::leaves;
use super::person::Person;
use super::words::{ERASED, Words};

/// A vendor's id shorter than this says too little: a number of guests would be one.
const SHORTEST_ID: usize = 4;
const WHAT: &str = "cannot look through the deliveries";

/// What in bodies is about the person.
struct Look {
    words: Words,
    /// Vendor's ids by connection.
    ids: BTreeSet<(String, String)>,
}

impl Look {
    fn new(person: &Person) -> Self {
        let ids =
            ["vendor", "booking", "lead", "person"].iter().flat_map(|kind| person.values(kind)).map(
                |value| match value.split_once(PART) {
                    Some((connection, id)) => (connection.to_owned(), id.to_owned()),
                    None => (String::new(), value),
                },
            );
        Self { words: person.words(), ids: ids.filter(|(_, id)| id.len() >= SHORTEST_ID).collect() }
    }

    /// What of a body is the person's: all of it, when a value in it says that it is about them; of one that only mentions
    /// them the texts that do so, since the rest is somebody else's.
    fn of(&self, connection: Option<&str>, body: &[u8]) -> Option<Value> {
        let text = String::from_utf8_lossy(body);
        let Ok(json) = serde_json::from_str::<Value>(&text) else {
            return self.words.is_in(&text).then(|| Value::from(text.into_owned()));
        };
        let known = |id: &str| {
            self.ids.contains(&(String::new(), id.to_owned()))
                || connection.is_some_and(|c| self.ids.contains(&(c.to_owned(), id.to_owned())))
        };
        let whole = |text: &str| self.words.replace(text).is_some_and(|rest| rest.trim() == ERASED);
        if numbers(&json, &|n| known(n)) || leaves(&json, &|text| known(text) || whole(text)) {
            return Some(json);
        }
        let mut mentions = Vec::new();
        texts(&json, &mut |text| {
            if self.words.is_in(text) {
                mentions.push(text.to_owned());
            }
        });
        (!mentions.is_empty()).then(|| serde_json::json!({ "mentions": mentions }))
    }
}

/// Hands over every text of a document.
fn texts(value: &Value, see: &mut dyn FnMut(&str)) {
    match value {
        Value::String(text) => see(text),
        Value::Array(items) => items.iter().for_each(|v| texts(v, see)),
        Value::Object(fields) => fields.values().for_each(|v| texts(v, see)),
        _ => {}
    }
}

/// Whether a test finds one of the numbers in a document.
fn numbers(value: &Value, test: &dyn Fn(&str) -> bool) -> bool {
    match value {
        Value::Number(n) => test(&n.to_string()),
        Value::Array(items) => items.iter().any(|v| numbers(v, test)),
        Value::Object(fields) => fields.values().any(|v| numbers(v, test)),
        _ => false,
    }
}

/// A delivery or an answer that is about the person.
pub(super) struct Found {
    /// Its number, or the caller and key.
    pub id: (i64, String),
    /// As it is exported.
    pub shown: Value,
    waiting: bool,
    body: Vec<u8>,
}

/// Deliveries that are about the person.
pub(super) async fn deliveries(connection: &mut PgConnection, person: &Person) -> Result<Vec<Found>> {
    let look = Look::new(person);
    let mut rows = sqlx::query(
        "select id, connector, connection, event, state, received_at, body from ops.deliveries where body <> '' order by id",
    )
    .fetch(connection);
    let mut found = Vec::new();
    while let Some(row) = rows.try_next().await.map_err(|e| fault(WHAT, e))? {
        let (connection, body): (String, Vec<u8>) = (row.get("connection"), row.get("body"));
        if let Some(told) = look.of(Some(&connection), &body) {
            let shown = serde_json::json!({
                "id": row.get::<i64, _>("id"), "connector": row.get::<String, _>("connector"), "connection": connection,
                "event": row.get::<String, _>("event"), "body": told,
                "received_at": row.get::<chrono::DateTime<chrono::Utc>, _>("received_at"),
            });
            let waiting = row.get::<&str, _>("state") == "received";
            found.push(Found { id: (row.get("id"), String::new()), shown, waiting, body });
        }
    }
    Ok(found)
}

/// Answers to repeated requests that are about the person.
pub(super) async fn answers(connection: &mut PgConnection, person: &Person) -> Result<Vec<Found>> {
    let look = Look::new(person);
    let contacts: Vec<String> = person.contacts.iter().map(ToString::to_string).collect();
    let mut rows =
        sqlx::query("select caller::text || ' ' || key as id, body from ops.requests where length(body) > 2")
            .fetch(connection);
    let mut found = Vec::new();
    while let Some(row) = rows.try_next().await.map_err(|e| fault("cannot look through the answers", e))? {
        let body: Vec<u8> = row.get("body");
        let text = String::from_utf8_lossy(&body);
        let theirs = contacts.iter().any(|id| text.contains(id.as_str()));
        if let Some(shown) = if theirs { Some(readable(&body)) } else { look.of(None, &body) } {
            found.push(Found { id: (0, row.get("id")), shown, waiting: false, body });
        }
    }
    Ok(found)
}

fn readable(body: &[u8]) -> Value {
    serde_json::from_slice(body).unwrap_or_else(|_| Value::from(String::from_utf8_lossy(body).into_owned()))
}

/// Empties bodies. Of a delivery that is still to be worked off, what names things stays, so that no change is lost: ids,
/// dates, amounts; words do not.
pub(super) async fn erase(
    connection: &mut PgConnection,
    person: &Person,
    deliveries: &[Found],
    answers: &[Found],
) -> Result<()> {
    let words = person.words();
    for found in deliveries {
        let body = match serde_json::from_slice::<Value>(&found.body) {
            Ok(json) if found.waiting => serde_json::to_vec(&bare(json, &words)).unwrap_or_default(),
            _ => Vec::new(),
        };
        sqlx::query(
            "update ops.deliveries set body = $2, updated_at = now(), \
             headers = case when length($2) = 0 then '{}' else headers end where id = $1",
        )
        .bind(found.id.0)
        .bind(body)
        .execute(&mut *connection)
        .await
        .map_err(|e| fault("cannot empty a delivery", e))?;
    }
    for found in answers {
        sqlx::query("update ops.requests set body = '{}', updated_at = now() where caller::text || ' ' || key = $1")
            .bind(&found.id.1)
            .execute(&mut *connection)
            .await
            .map_err(|e| fault("cannot empty an answer", e))?;
    }
    Ok(())
}

/// A document without words: texts stay that look like an id, a date or a state, and none that is one of the person's.
fn bare(value: Value, words: &Words) -> Value {
    match value {
        Value::String(text) => {
            let token = text.len() <= 64
                && text.chars().all(|c| c.is_ascii_alphanumeric() || "_.:-".contains(c))
                && (text.chars().any(|c| c.is_ascii_digit() || c == '_')
                    || text.chars().all(|c| c.is_ascii_lowercase()));
            if token && !words.is_in(&text) { Value::String(text) } else { Value::Null }
        }
        Value::Array(items) => items.into_iter().map(|v| bare(v, words)).collect(),
        Value::Object(fields) => Value::Object(
            fields
                .into_iter()
                .map(|(name, value)| {
                    let personal = ["name", "mail", "phone", "note", "comment", "message", "address"];
                    let hit = personal.iter().any(|p| name.to_ascii_lowercase().contains(p));
                    (name, if hit && !value.is_object() { Value::Null } else { bare(value, words) })
                })
                .collect(),
        ),
        other => other,
    }
}
