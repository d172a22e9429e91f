//! What handlers take from a request, with problems for what does not fit.

use axum::body::{Body, Bytes};
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::response::{IntoResponse, Response};
use bytes::BytesMut;
use futures::StreamExt;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use http::request::Parts;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::error::{Kind, Problem};
use crate::inbox::BODY_CAP_BYTES;

/// The parameters behind the `?`.
#[derive(Debug)]
pub struct Query<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Query<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let query = axum::extract::Query::<T>::from_request_parts(parts, state).await;
        query.map(|q| Self(q.0)).map_err(|e: QueryRejection| Problem::new(Kind::Malformed, quiet(&e.body_text())))
    }
}

/// The variable parts of the path.
#[derive(Debug)]
pub struct Path<T>(pub T);

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for Path<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let path = axum::extract::Path::<T>::from_request_parts(parts, state).await;
        // What is no id is the id of nothing.
        path.map(|p| Self(p.0)).map_err(|_: PathRejection| Problem::not_found("there is nothing at this address"))
    }
}

/// A body, and an answer, in JSON.
#[derive(Debug)]
pub struct Json<T>(pub T);

impl<T: DeserializeOwned + JsonSchema, S: Send + Sync> FromRequest<S> for Json<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, _: &S) -> Result<Self, Problem> {
        declared(&request)?;
        let (parts, body) = request.into_parts();
        let body = whole(&parts.headers, body).await?.ok_or_else(too_large)?;
        read(&body).map(Self)
    }
}

/// A body of which everything may be left out, and so the body itself.
#[derive(Debug)]
pub struct MayBe<T>(pub T);

impl<T: DeserializeOwned + JsonSchema + Default, S: Send + Sync> FromRequest<S> for MayBe<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, _: &S) -> Result<Self, Problem> {
        let declared = declared(&request);
        let (parts, body) = request.into_parts();
        let body = whole(&parts.headers, body).await?.ok_or_else(too_large)?;
        if body.is_empty() {
            return Ok(Self(T::default()));
        }
        declared?;
        read(&body).map(Self)
    }
}

/// Lets only bodies through that say they are JSON.
fn declared(request: &Request) -> Result<(), Problem> {
    let json = request.headers().get(CONTENT_TYPE).and_then(|v| v.to_str().ok()).is_some_and(|kind| {
        let kind = kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        kind == "application/json" || (kind.starts_with("application/") && kind.ends_with("+json"))
    });
    if !json {
        let problem = Problem::new(Kind::UnsupportedMedia, "the body is not declared as JSON");
        return Err(problem.hint("Send it with `content-type: application/json`."));
    }
    Ok(())
}

/// The value of a body.
fn read<T: DeserializeOwned + JsonSchema>(body: &[u8]) -> Result<T, Problem> {
    // A list would be taken for an object, its items for the fields in their order.
    if body.contains(&b'[')
        && let Ok(value) = serde_json::from_slice::<Value>(body)
        && let Some(place) = listed(&value, T::json_schema)
    {
        return Err(Problem::new(Kind::Invalid, format!("{} is a list, and not an object", named(&place)))
            .hint("Write its fields by their names: `{\"field\": value}`."));
    }
    let mut reader = serde_json::Deserializer::from_slice(body);
    let value = serde_path_to_error::deserialize(&mut reader);
    let value = value.map_err(|e| wrong(&e.path().to_string(), e.inner()))?;
    reader.end().map_err(|e| wrong(".", &e))?;
    Ok(value)
}

/// What is wrong with a body. Values may be personal data, and serde quotes them: they are left out.
fn wrong(path: &str, error: &serde_json::Error) -> Problem {
    match error.classify() {
        serde_json::error::Category::Data => Problem::new(Kind::Invalid, shape(path, error)),
        _ => {
            let place = format!("line {}, column {}", error.line(), error.column());
            Problem::new(Kind::Malformed, format!("the body is not JSON at {place}"))
        }
    }
}

/// The place of a value, as messages name it.
fn named(path: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_.[]".contains(c);
    match path.trim_matches('.') {
        "" => "the body".to_owned(),
        path if path.chars().all(plain) => format!("`{path}`"),
        _ => "a value".to_owned(),
    }
}

/// Where a list stands in an object's place, by the schema of what is read.
fn listed(value: &Value, schema: fn(&mut SchemaGenerator) -> Schema) -> Option<String> {
    let mut generator = SchemaGenerator::default();
    let schema = schema(&mut generator).to_value();
    let definitions = Value::Object(generator.take_definitions(true));
    list_in(value, &schema, &definitions, "")
}

fn list_in(value: &Value, schema: &Value, definitions: &Value, place: &str) -> Option<String> {
    if let Some(name) = schema["$ref"].as_str().and_then(|r| r.rsplit('/').next()) {
        return list_in(value, &definitions[name], definitions, place);
    }
    // What may be absent is one of two: itself or null.
    if let Some(choices) = schema["anyOf"].as_array() {
        return choices.iter().find_map(|choice| list_in(value, choice, definitions, place));
    }
    match value {
        Value::Array(_) if schema["properties"].is_object() => Some(place.to_owned()),
        Value::Array(items) => {
            let each = |(at, item)| list_in(item, &schema["items"], definitions, &format!("{place}[{at}]"));
            items.iter().enumerate().find_map(each)
        }
        Value::Object(fields) => fields.iter().find_map(|(name, field)| {
            list_in(field, &schema["properties"][name], definitions, &format!("{place}.{name}"))
        }),
        _ => None,
    }
}

impl<T: Serialize> IntoResponse for Json<T> {
    fn into_response(self) -> Response {
        axum::Json(self.0).into_response()
    }
}

/// The body, or nothing when it is too large. The rest of one that is too large is read and dropped, up to a limit: most
/// senders listen to no answer before they have said everything.
pub(super) async fn whole(headers: &http::HeaderMap, body: Body) -> Result<Option<Bytes>, Problem> {
    const DROPPED_BYTES: usize = 16 * BODY_CAP_BYTES;
    let said = headers.get(CONTENT_LENGTH).and_then(|v| v.to_str().ok()?.parse::<usize>().ok()).unwrap_or(0);
    let mut parts = body.into_data_stream();
    let (mut kept, mut seen) = (BytesMut::with_capacity(said.min(BODY_CAP_BYTES)), 0);
    while let Some(part) = parts.next().await {
        let part = part.map_err(|_| Problem::new(Kind::Malformed, "the body ends early"))?;
        seen += part.len();
        if seen > DROPPED_BYTES {
            break;
        }
        if seen <= BODY_CAP_BYTES {
            kept.extend_from_slice(&part);
        }
    }
    Ok((seen <= BODY_CAP_BYTES).then(|| kept.freeze()))
}

/// What is said of a body beyond [`BODY_CAP_BYTES`].
pub(super) fn too_large() -> Problem {
    let most = BODY_CAP_BYTES >> 10;
    Problem::new(Kind::TooLarge, "the body is too large").hint(format!("The most is {most} KiB; send less at once."))
}

/// What is wrong with a value, by its place and without the value.
fn shape(path: &str, error: &serde_json::Error) -> String {
    let text = error.to_string();
    let text = text.rsplit_once(" at line ").map_or(text.as_str(), |(before, _)| before);
    let place = named(path);
    if let Some((_, rest)) = text.split_once("invalid type: ").or_else(|| text.split_once("invalid value: ")) {
        return format!(
            "{place} is not {}",
            rest.rsplit_once(", expected ").map_or("what it has to be", |(_, e)| kind(e))
        );
    }
    if let Some(field) = text.strip_prefix("missing field `") {
        let field = field.trim_end_matches('`');
        let field = if path == "." { field.to_owned() } else { format!("{path}.{field}") };
        return format!("{} is missing", named(&field));
    }
    if let Some(words) = text.strip_prefix("unknown variant `").and_then(|t| t.rsplit_once("`, expected ")) {
        return format!("{place} is not {}", words.1);
    }
    if text.starts_with("unknown field `") || text.starts_with("duplicate field `") {
        // The place of a field that nobody knows ends with its name.
        return match path.rsplit_once('.').filter(|(above, _)| !above.is_empty()) {
            Some((above, _)) => format!("{}: {}", named(above), quiet(text)),
            None => quiet(text),
        };
    }
    // chrono and uuid have words of their own.
    let instants = ["input contains", "input is", "premature end", "trailing input"];
    if instants.iter().any(|words| text.starts_with(words)) {
        return format!("{place} is not an instant such as `2026-06-01T12:00:00Z`");
    }
    if text.starts_with("UUID parsing failed") {
        return format!("{place} is not an id");
    }
    format!("{place} is not in the form that it has to have")
}

/// The kinds of values, in JSON's words.
fn kind(expected: &str) -> &str {
    match expected {
        "a map" => "an object",
        "a sequence" => "a list",
        "a boolean" => "`true` or `false`",
        "string or map" => "one of the words that are known",
        "f32" | "f64" => "a number",
        "i8" | "i16" | "i32" | "i64" | "u8" | "u16" | "u32" | "u64" => "a whole number in range",
        "a formatted date and time string or a unix timestamp" | "an RFC 3339 formatted date and time string" => {
            "an instant such as `2026-06-01T12:00:00Z`"
        }
        "a formatted date string" => "a day such as `2026-06-01`",
        "a UUID string" => "an id",
        _ if expected.starts_with("struct ") => "an object",
        _ if expected.starts_with("a ") || expected.starts_with("an ") => expected,
        _ => "what it has to be",
    }
}

/// The longest name of a field that is said back.
const LONGEST_FIELD: usize = 60;

/// serde's words without what was sent, but for the name of a field.
fn quiet(text: &str) -> String {
    let named = |words: &str| {
        let (before, rest) = text.split_once(words)?;
        // A name may hold anything, so the last one counts.
        let (name, expected) = match rest.rsplit_once("`, expected ") {
            Some((name, expected)) => (name, Some(expected)),
            None => (rest, None),
        };
        Some((before, name.trim_end_matches('`'), expected))
    };
    let expected = |e: Option<&str>| e.map(|e| format!(", expected {e}")).unwrap_or_default();
    if let Some((before, _, e)) = named("unknown variant `") {
        return clause(&format!("{before}unknown word{}", expected(e)));
    }
    if let Some((before, name, e)) = named("unknown field `") {
        let plain = name.len() <= LONGEST_FIELD && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
        let name = if plain { format!(" `{name}`") } else { String::new() };
        return clause(&format!("{before}unknown field{name}{}", expected(e)));
    }
    clause(text)
}

fn clause(text: &str) -> String {
    let mut characters = text.trim_end_matches('.').chars();
    characters.next().map_or_else(String::new, |first| first.to_lowercase().chain(characters).collect())
}
