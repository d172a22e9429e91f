//! What every request passes: its id, its span, its time, its end even when a handler panics.

use std::net::IpAddr;
use std::panic::AssertUnwindSafe;
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::{DefaultBodyLimit, MatchedPath, Request, State};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use futures::FutureExt;
use http::{HeaderName, HeaderValue, header};
use tokio::time::timeout;
use tracing::Instrument as _;
use uuid::Uuid;

use super::error::{Kind, Problem};
use super::{Service, routes};
use crate::inbox::BODY_CAP_BYTES;

/// How long a request may take, its body included.
const LONGEST: Duration = Duration::from_secs(30);
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Who is at the other end of the connection.
#[derive(Debug, Clone, Copy)]
pub(super) struct Peer(pub IpAddr);

/// All endpoints with everything around them.
pub(super) fn wrap(service: &Service) -> Router {
    let (router, _) = routes::all(service);
    router
        .fallback(async || Problem::not_found("there is nothing at this address").hint("`/docs` shows every address."))
        .method_not_allowed_fallback(async || {
            Problem::new(Kind::MethodNotAllowed, "this address takes other methods").hint("`/docs` shows which.")
        })
        .layer(DefaultBodyLimit::max(BODY_CAP_BYTES))
        .layer(from_fn_with_state(service.clone(), pass))
        .with_state(service.clone())
}

async fn pass(State(service): State<Service>, mut request: Request, next: Next) -> Response {
    let began = Instant::now();
    let id = request_id(&request);
    request.headers_mut().insert(REQUEST_ID, id.clone());
    // The pattern of the address and not the address: that may hold an id, and its query anything.
    let route = request.extensions().get::<MatchedPath>().map_or("none", MatchedPath::as_str).to_owned();
    let method = request.method().clone();
    let span = tracing::info_span!("request", request.id = id.to_str().unwrap_or_default(), http.method = %method, http.route = route);
    let served = AssertUnwindSafe(timeout(LONGEST, next.run(request))).catch_unwind().instrument(span.clone()).await;
    let mut response = match served {
        Ok(Ok(response)) => response,
        Ok(Err(_)) => Problem::new(Kind::Unavailable, format!("it took longer than {} seconds", LONGEST.as_secs()))
            .retry_after(Duration::from_secs(10))
            .into_response(),
        Err(_) => {
            span.in_scope(|| tracing::error!("the handler of `{route}` panicked: this is a bug"));
            Problem::new(Kind::Internal, "this was not your doing")
                .hint("The log has the details under this answer's `x-request-id`.")
                .into_response()
        }
    };
    let took = began.elapsed();
    service.metrics.request(&method, &route, response.status().as_u16(), took);
    span.in_scope(|| {
        tracing::info!(
            http.status = response.status().as_u16(),
            duration_ms = took.as_secs_f64() * 1000.0,
            "{method} {route}"
        );
    });
    let headers = response.headers_mut();
    headers.insert(REQUEST_ID, id);
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    response
}

/// The id that the client gave, if it is a modest one, else a new one.
fn request_id(request: &Request) -> HeaderValue {
    let modest = |v: &&HeaderValue| {
        let bytes = v.as_bytes();
        (1..=64).contains(&bytes.len())
            && bytes.iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
    };
    let given = request.headers().get(REQUEST_ID).filter(modest).cloned();
    given.unwrap_or_else(|| {
        HeaderValue::try_from(Uuid::now_v7().simple().to_string()).unwrap_or(HeaderValue::from_static("none"))
    })
}
