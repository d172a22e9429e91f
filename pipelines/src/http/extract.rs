//! What handlers take from a request, with problems for what does not fit.

use axum::body::{Body, Bytes};
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::response::{IntoResponse, Response};
use bytes::BytesMut;
use futures::StreamExt;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use http::request::Parts;
use serde::Serialize;
use serde::de::DeserializeOwned;

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

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Json<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, _: &S) -> Result<Self, Problem> {
        let json = request.headers().get(CONTENT_TYPE).and_then(|v| v.to_str().ok()).is_some_and(|kind| {
            let kind = kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
            kind == "application/json" || (kind.starts_with("application/") && kind.ends_with("+json"))
        });
        if !json {
            let problem = Problem::new(Kind::UnsupportedMedia, "the body is not declared as JSON");
            return Err(problem.hint("Send it with `content-type: application/json`."));
        }
        let (parts, body) = request.into_parts();
        let body = whole(&parts.headers, body).await?.ok_or_else(too_large)?;
        let mut reader = serde_json::Deserializer::from_slice(&body);
        let value = T::deserialize(&mut reader).and_then(|value| reader.end().map(|()| value));
        value.map(Self).map_err(|e| {
            // Positions help; values may be personal data, and serde quotes them.
            let place = format!("line {}, column {}", e.line(), e.column());
            match e.classify() {
                serde_json::error::Category::Data => Problem::new(Kind::Invalid, format!("{place}: {}", shape(&e))),
                _ => Problem::new(Kind::Malformed, format!("the body is not JSON at {place}")),
            }
        })
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

/// What is wrong with a value, without the value.
fn shape(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let text = text.rsplit_once(" at line ").map_or(text.as_str(), |(before, _)| before);
    match text.split_once("invalid type: ").or_else(|| text.split_once("invalid value: ")) {
        Some((_, rest)) => {
            format!("the value is not {}", rest.split_once(", expected ").map_or("what is expected", |(_, e)| e))
        }
        None => quiet(text),
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
