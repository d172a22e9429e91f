//! The description of the API, for machines and for people. The page needs no other server.

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::header::{CONTENT_SECURITY_POLICY, CONTENT_TYPE};

use super::Service;
use super::api::{Access, Endpoint, Scope};

const PAGE: &str = include_str!("page.html");
const SCRIPT: &str = include_str!("page.js");
/// The page runs its own script, reads its own server, and nothing else.
const POLICY: &str = "default-src 'none'; script-src 'self'; connect-src 'self'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

pub(super) fn description_about() -> Endpoint {
    Endpoint::get("/openapi.json", Access::Open, Scope::Free).about("This description, as OpenAPI 3.1.").answers_as(
        200,
        "The description",
        "application/json",
    )
}

pub(super) async fn description(State(service): State<Service>) -> Response {
    let text = service.description.get_or_init(|| service.description().to_string()).clone();
    ([(CONTENT_TYPE, "application/json")], text).into_response()
}

pub(super) fn page_about() -> Endpoint {
    Endpoint::get("/docs", Access::Open, Scope::Free).about("This description, to be read.").answers_as(
        200,
        "The page",
        "text/html",
    )
}

pub(super) async fn page() -> Response {
    let headers = [(CONTENT_TYPE, "text/html; charset=utf-8"), (CONTENT_SECURITY_POLICY, POLICY)];
    (headers, PAGE).into_response()
}

pub(super) fn script_about() -> Endpoint {
    Endpoint::get("/docs/page.js", Access::Open, Scope::Free).about("What draws the page.").answers_as(
        200,
        "The script",
        "text/javascript",
    )
}

pub(super) async fn script() -> Response {
    ([(CONTENT_TYPE, "text/javascript; charset=utf-8")], SCRIPT).into_response()
}
