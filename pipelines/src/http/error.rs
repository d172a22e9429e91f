//! What a client is told when something goes wrong: `application/problem+json`, and the only status codes of errors.

use std::time::Duration;

use axum::Json;
use axum::response::{IntoResponse, Response};
use catalog::{Blame, Fault, Retry};
use http::{HeaderValue, StatusCode, header};
use schemars::JsonSchema;
use serde::Serialize;

/// How an endpoint ends.
pub type Result<T, E = Problem> = std::result::Result<T, E>;

/// The kinds of problems, each with a status.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The request cannot be understood.
    Malformed,
    /// Nothing proves who asks.
    Unauthenticated,
    /// Who asks may not do this.
    Forbidden,
    /// There is no such thing.
    NotFound,
    /// The address takes other methods.
    MethodNotAllowed,
    /// It contradicts what is there.
    Conflict,
    /// The body is too large.
    TooLarge,
    /// The body is of another format.
    UnsupportedMedia,
    /// It is understood and cannot be.
    Invalid,
    /// Too much is asked at once.
    TooMany,
    /// A bug.
    Internal,
    /// Something that is needed is away.
    Unavailable,
}

impl Kind {
    /// The next step, where nobody knows a better one.
    fn next_step(self) -> &'static str {
        match self {
            Kind::Malformed | Kind::UnsupportedMedia | Kind::Invalid => "`/docs` shows what this address takes.",
            Kind::Unauthenticated => "Send `Authorization: Bearer KEY` with a key of `propflow keys create`.",
            Kind::Forbidden => "Ask an operator for a key that may.",
            Kind::NotFound => {
                "The id may be wrong, or of a property that this key does not see; `/docs` shows every address."
            }
            Kind::MethodNotAllowed => "`/docs` shows which.",
            Kind::Conflict => "Read it again, and repeat the request if it still makes sense.",
            Kind::TooLarge => "Send less at once.",
            Kind::TooMany | Kind::Unavailable => "Try again in a few seconds.",
            Kind::Internal => "The log has the details under this answer's `x-request-id`.",
        }
    }

    fn parts(self) -> (StatusCode, &'static str, &'static str) {
        match self {
            Kind::Malformed => (StatusCode::BAD_REQUEST, "malformed", "The request cannot be understood"),
            Kind::Unauthenticated => (StatusCode::UNAUTHORIZED, "unauthenticated", "Nothing proves who asks"),
            Kind::Forbidden => (StatusCode::FORBIDDEN, "forbidden", "This is not allowed"),
            Kind::NotFound => (StatusCode::NOT_FOUND, "not-found", "There is no such thing"),
            Kind::MethodNotAllowed => {
                (StatusCode::METHOD_NOT_ALLOWED, "method-not-allowed", "This address takes other methods")
            }
            Kind::Conflict => (StatusCode::CONFLICT, "conflict", "It contradicts what is there"),
            Kind::TooLarge => (StatusCode::PAYLOAD_TOO_LARGE, "too-large", "The body is too large"),
            Kind::UnsupportedMedia => {
                (StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported-media-type", "The body is of another format")
            }
            Kind::Invalid => (StatusCode::UNPROCESSABLE_ENTITY, "invalid", "It is understood and cannot be done"),
            Kind::TooMany => (StatusCode::TOO_MANY_REQUESTS, "too-many", "Too much is asked at once"),
            Kind::Internal => (StatusCode::INTERNAL_SERVER_ERROR, "internal", "Something is wrong inside propflow"),
            Kind::Unavailable => (StatusCode::SERVICE_UNAVAILABLE, "unavailable", "Something that is needed is away"),
        }
    }
}

/// A problem, as RFC 9457 has it.
#[derive(Debug, Clone)]
pub struct Problem {
    kind: Kind,
    detail: String,
    hint: Option<String>,
    see: Option<String>,
    retry_after: Option<Duration>,
}

/// The body of every answer that is an error.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Problem")]
pub struct ProblemBody {
    /// The kind of problem, a stable word behind `urn:propflow:problem:`.
    #[serde(rename = "type")]
    kind: String,
    /// The kind in words.
    title: String,
    /// The status of the answer.
    status: u16,
    /// What happened, in one clause.
    detail: String,
    /// What to do next, as a sentence.
    hint: String,
    /// The address of what is there in its place, such as the contact into which one was merged.
    #[serde(skip_serializing_if = "Option::is_none")]
    see: Option<String>,
}

impl Problem {
    /// A problem of a kind. The text is for the client: what, and where.
    pub fn new(kind: Kind, detail: impl Into<String>) -> Self {
        Self { kind, detail: detail.into(), hint: None, see: None, retry_after: None }
    }

    /// Adds the next step.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Names the address of what is there in its place.
    #[must_use]
    pub fn see(mut self, address: impl Into<String>) -> Self {
        self.see = Some(address.into());
        self
    }

    /// Says when to come back.
    #[must_use]
    pub fn retry_after(mut self, after: Duration) -> Self {
        self.retry_after = Some(after);
        self
    }

    /// Whether it is of a kind.
    pub fn is(&self, kind: Kind) -> bool {
        self.kind == kind
    }

    /// There is nothing at this address, or nothing that this caller may know of.
    pub fn not_found(what: impl Into<String>) -> Self {
        Self::new(Kind::NotFound, what)
    }
}

impl From<Fault> for Problem {
    /// A fault about what the client sent is told to it. One of the database or of ours is told to the log; the client
    /// hears that it was not its doing, and whether to come back.
    fn from(fault: Fault) -> Self {
        let mut cause = fault.source.as_deref().map(|e| e as &(dyn std::error::Error + 'static));
        let mut database = false;
        while let Some(error) = cause {
            database |= error.is::<sqlx::Error>();
            cause = error.source();
        }
        let after = match fault.retry {
            Retry::After(after) => Some(after),
            Retry::Backoff => Some(Duration::from_secs(5)),
            Retry::Never => None,
        };
        match (fault.blame, after) {
            (Blame::User, _) if !database => {
                let problem = Self::new(Kind::Invalid, fault.message.to_string());
                match &fault.hint {
                    Some(hint) => problem.hint(hint.to_string()),
                    None => problem,
                }
            }
            (_, Some(after)) => {
                tracing::warn!(error = %fault.chain(), "a request could not be served");
                Self::new(Kind::Unavailable, "a system that is needed for this is away")
                    .hint("Try again in a few seconds.")
                    .retry_after(after)
            }
            _ => {
                tracing::error!(error = %fault.chain(), "a request failed");
                Self::new(Kind::Internal, "this was not your doing")
                    .hint("The log has the details under this answer's `x-request-id`.")
            }
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let (status, word, title) = self.kind.parts();
        let body = ProblemBody {
            kind: format!("urn:propflow:problem:{word}"),
            title: title.to_owned(),
            status: status.as_u16(),
            detail: self.detail,
            hint: self.hint.unwrap_or_else(|| self.kind.next_step().to_owned()),
            see: self.see,
        };
        let mut response = (status, Json(body)).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if self.kind == Kind::Unauthenticated {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"propflow\""));
        }
        if let Some(after) = self.retry_after {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(after.as_secs().max(1)));
        }
        response
    }
}
