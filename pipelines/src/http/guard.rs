//! What stands before every endpoint: who may pass, and whether the request was here before.

use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use catalog::store::requests::{self, Answer, Known};
use http::{HeaderName, HeaderValue, Method, StatusCode, header};
use sha2::{Digest as _, Sha256};
use std::time::Duration;
use uuid::Uuid;

use super::Service;
use super::api::{Access, Scope};
use super::caller::{Caller, Role};
use super::error::{Kind, Problem, Result};
use super::extract::{too_large, whole};

/// The header by which a client names a request.
const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
/// Says that an answer was given before.
const REPLAYED: HeaderName = HeaderName::from_static("idempotent-replayed");
/// The largest answer that is kept.
const ANSWER_BYTES: usize = 1 << 20;

/// The rule of an endpoint.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rule {
    /// Who may call it.
    pub(super) access: Access,
    /// What it means that a key is limited to properties.
    pub(super) scope: Scope,
    /// Whether it takes an `Idempotency-Key`.
    pub(super) repeatable: bool,
}

/// Lets a request pass by its endpoint's rule.
pub(super) async fn guard(
    State((service, rule)): State<(Service, Rule)>,
    mut request: Request,
    next: Next,
) -> Result<Response> {
    let headers = request.headers();
    let roles = match rule.access {
        Access::Open | Access::Signed => return Ok(next.run(request).await),
        Access::Socket(_) if headers.contains_key(header::UPGRADE) && !headers.contains_key(header::AUTHORIZATION) => {
            return Ok(next.run(request).await);
        }
        Access::Roles(roles) | Access::Socket(roles) => roles,
    };
    let caller = service.keys.caller(headers).await?;
    may(&caller, roles)?;
    if rule.scope == Scope::All && caller.properties.is_some() {
        return Err(Problem::new(Kind::Forbidden, "this key is limited to properties, and this concerns all of them"));
    }
    let key = caller.key;
    request.extensions_mut().insert(caller);
    match request.headers().get(IDEMPOTENCY_KEY).cloned() {
        Some(name) if rule.repeatable => once(&service, key, &name, request, next).await,
        _ => Ok(next.run(request).await),
    }
}

/// Lets only callers with one of these roles pass.
pub(super) fn may(caller: &Caller, roles: &[Role]) -> Result<()> {
    if caller.is_any(roles) {
        return Ok(());
    }
    let words: Vec<_> = roles.iter().map(|r| format!("`{}`", r.as_str())).collect();
    let problem = Problem::new(Kind::Forbidden, "this key has no role that may do this");
    Err(problem.hint(format!("It takes a key with the role {}.", words.join(" or "))))
}

/// Serves a request that names itself: the first time for real, then from the books.
async fn once(service: &Service, caller: Uuid, name: &HeaderValue, request: Request, next: Next) -> Result<Response> {
    let name = name.to_str().ok().filter(|n| (1..=200).contains(&n.len())).map(str::to_owned);
    let name = name.ok_or_else(|| {
        Problem::new(Kind::Malformed, "`Idempotency-Key` is not 1 to 200 visible characters")
            .hint("A UUID will do, the same for each try of one request.")
    })?;
    let (parts, body) = request.into_parts();
    let body = whole(&parts.headers, body).await?.ok_or_else(too_large)?;
    let fingerprint = fingerprint(&parts.method, &parts.uri, &body);
    let pool = &service.database.pool;
    match requests::begin(pool, caller, &name, &fingerprint, service.app.clock.now()).await? {
        Known::New => {}
        Known::Other => {
            return Err(Problem::new(Kind::Invalid, "this `Idempotency-Key` was used for another request")
                .hint("Use a new key for a new request."));
        }
        Known::UnderWay => {
            return Err(Problem::new(
                Kind::Conflict,
                "the first request with this `Idempotency-Key` is still under way",
            )
            .retry_after(Duration::from_secs(1)));
        }
        Known::Answered(answer) => return Ok(replayed(answer)),
    }
    // On a task of its own: a client that goes away must not leave the request half answered.
    let (service, task) = (service.clone(), next.run(Request::from_parts(parts, Body::from(body))));
    let served = tokio::spawn(async move {
        let response = task.await;
        settle(&service, caller, &name, response).await
    });
    served.await.map_err(|_| Problem::new(Kind::Internal, "this was not your doing"))?
}

async fn settle(service: &Service, caller: Uuid, name: &str, response: Response) -> Result<Response> {
    let pool = &service.database.pool;
    let (parts, body) = response.into_parts();
    let body = to_bytes(body, ANSWER_BYTES).await.ok();
    match body {
        // What failed on our side may go well the next time.
        Some(body) if !parts.status.is_server_error() => {
            let content_type = parts.headers.get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).map(str::to_owned);
            let answer = Answer { status: parts.status.as_u16(), content_type, body: body.to_vec() };
            requests::answered(pool, caller, name, &answer).await?;
            Ok(Response::from_parts(parts, Body::from(body)))
        }
        body => {
            requests::forget(pool, caller, name).await?;
            Ok(Response::from_parts(parts, Body::from(body.unwrap_or_default())))
        }
    }
}

fn replayed(answer: Answer) -> Response {
    let status = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::OK);
    let mut response = (status, answer.body).into_response();
    let headers = response.headers_mut();
    headers.remove(header::CONTENT_TYPE);
    if let Some(kind) = answer.content_type.and_then(|kind| HeaderValue::try_from(kind).ok()) {
        headers.insert(header::CONTENT_TYPE, kind);
    }
    headers.insert(REPLAYED, HeaderValue::from_static("true"));
    response
}

fn fingerprint(method: &Method, uri: &http::Uri, body: &[u8]) -> Vec<u8> {
    let place = uri.path_and_query().map_or("", |p| p.as_str());
    let hash = Sha256::new().chain_update(method.as_str()).chain_update([0]).chain_update(place).chain_update([0]);
    hash.chain_update(body).finalize().to_vec()
}
