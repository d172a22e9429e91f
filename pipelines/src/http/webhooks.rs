//! Where deliveries come in.

use std::borrow::Cow;
use std::time::Duration;

use axum::extract::{Request, State};
use connectors::Refused;
use http::StatusCode;
use schemars::JsonSchema;
use serde::Serialize;

use super::Service;
use super::api::{Access, Endpoint, Scope};
use super::error::{Kind, Problem, Result};
use super::extract::{Json, Path, whole};
use super::shell::Peer;
use crate::inbox::{Incoming, Receipt, Rejected};

/// The connector and the connection behind the product's own endpoints.
const OWN: &str = "intake";

/// That a delivery was taken.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Taken {
    /// `received`, or `duplicate` when it was here before.
    status: &'static str,
}

/// What the product's own endpoints take. Other fields are left out.
#[derive(Debug, JsonSchema)]
#[expect(dead_code, reason = "described here, read by the connector `intake`")]
pub(super) struct Booking {
    /// The sender's id of the booking, a text or a number.
    booking_id: String,
    /// Where the guest booked: `airbnb`, `vrbo`, `direct` and so on.
    platform: Option<String>,
    /// The property, as the sender knows it.
    property_id: Option<String>,
    /// The guest's name.
    guest_name: Option<String>,
    /// The guest's address for mail.
    guest_email: Option<String>,
    /// The guest's telephone number.
    guest_phone: Option<String>,
    /// The first night, `YYYY-MM-DD` where the property is.
    check_in: Option<String>,
    /// The day of leaving, `YYYY-MM-DD` where the property is.
    check_out: Option<String>,
    /// How many people.
    guest_count: Option<u32>,
    /// The sender's word for how the booking stands.
    booking_status: Option<String>,
    /// What the guest pays, as a number or as text.
    total_amount: Option<String>,
    /// Its ISO 4217 code.
    currency: Option<String>,
    /// What the guest asks for.
    special_requests: Option<String>,
    /// What is to be known about it.
    booking_notes: Option<String>,
    /// When the sender last changed it; the time of the delivery if it is absent.
    updated_at: Option<String>,
}

const PROBLEMS: [u16; 5] = [400, 401, 404, 413, 503];

pub(super) fn vendor_about() -> Endpoint {
    Endpoint::post("/api/webhooks/{connector}/{connection}", Access::Signed, Scope::Free)
        .about("A vendor's delivery for a connection, signed as the vendor signs. It is durable when it is answered.")
        .part("connector", "The connector of the connection's pipeline file")
        .part("connection", "The connection's name")
        .any_body()
        .answers::<Taken>(202, "It was taken")
        .answers::<Taken>(200, "It was here before")
        .problems(&PROBLEMS)
}

pub(super) async fn vendor(
    State(service): State<Service>,
    Path((connector, connection)): Path<(String, String)>,
    request: Request,
) -> Result<(StatusCode, Json<Taken>)> {
    take(&service, connector, connection, None, request).await
}

fn own(path: &'static str, about: &'static str) -> Endpoint {
    Endpoint::post(path, Access::Signed, Scope::Free)
        .about(about)
        .body::<Booking>()
        .answers::<Taken>(202, "It was taken")
        .answers::<Taken>(200, "It was here before")
        .problems(&PROBLEMS)
}

/// One endpoint an event: its address is its event.
macro_rules! events {
    ($($about:ident $handler:ident $event:literal $text:literal;)*) => {$(
        pub(super) fn $about() -> Endpoint {
            own(concat!("/api/webhooks/", $event), $text)
        }

        pub(super) async fn $handler(
            State(service): State<Service>,
            request: Request,
        ) -> Result<(StatusCode, Json<Taken>)> {
            take(&service, OWN.to_owned(), OWN.to_owned(), Some($event), request).await
        }
    )*};
}

events! {
    booking_created_about booking_created "booking-created" "A booking was made. Signed as Standard Webhooks says.";
    booking_updated_about booking_updated "booking-updated" "A booking has changed. Signed as Standard Webhooks says.";
    booking_cancelled_about booking_cancelled "booking-cancelled" "A booking was cancelled. Signed as Standard Webhooks says.";
    guest_checked_in_about guest_checked_in "guest-checked-in" "The guest has come. Signed as Standard Webhooks says.";
    guest_checked_out_about guest_checked_out "guest-checked-out" "The guest has left. Signed as Standard Webhooks says.";
}

async fn take(
    service: &Service,
    connector: String,
    connection: String,
    event: Option<&'static str>,
    request: Request,
) -> Result<(StatusCode, Json<Taken>)> {
    let (parts, body) = request.into_parts();
    let peer = parts.extensions.get::<Peer>().map(|p| p.0);
    let body = whole(&parts.headers, body).await?;
    let name = connection.clone();
    let incoming = Incoming { connector, connection, event, headers: parts.headers, body, peer };
    let (outcome, answer) = match service.inbox.receive(incoming).await {
        Ok(Receipt::Kept) => ("received", Ok((StatusCode::ACCEPTED, Json(Taken { status: "received" })))),
        Ok(Receipt::Duplicate) => ("duplicate", Ok((StatusCode::OK, Json(Taken { status: "duplicate" })))),
        Err(rejected) => (outcome(&rejected), Err(problem(rejected))),
    };
    // Anybody can invent connections, and each would be a series.
    let known = !matches!(outcome, "unknown");
    service.metrics.delivery(if known { &name } else { "unknown" }, outcome);
    answer
}

fn outcome(rejected: &Rejected) -> &'static str {
    match rejected {
        Rejected::Unknown => "unknown",
        Rejected::TooLarge => "too_large",
        Rejected::Refused(Refused::Unverified(_)) => "unverified",
        Rejected::Refused(Refused::Stale(_)) => "stale",
        Rejected::Refused(Refused::Malformed(_)) => "malformed",
        Rejected::Unkept(_) => "unkept",
    }
}

fn problem(rejected: Rejected) -> Problem {
    let text = rejected.to_string();
    match rejected {
        Rejected::Unknown => Problem::not_found(text).hint("The address is `/api/webhooks/CONNECTOR/CONNECTION`."),
        Rejected::TooLarge => Problem::new(Kind::TooLarge, text),
        Rejected::Refused(Refused::Unverified(text)) => Problem::new(Kind::Unauthenticated, Cow::into_owned(text))
            .hint("The connection's pipeline file names what has to prove a delivery: a secret, or a user and a password."),
        Rejected::Refused(Refused::Stale(text)) => Problem::new(Kind::Malformed, Cow::into_owned(text))
            .hint("Send it again with the time of sending and a signature over that time."),
        Rejected::Refused(Refused::Malformed(text)) => Problem::new(Kind::Malformed, Cow::into_owned(text)),
        Rejected::Unkept(fault) => {
            tracing::warn!(error = %fault.chain(), "a delivery could not be kept");
            Problem::new(Kind::Unavailable, text).retry_after(Duration::from_secs(5))
        }
    }
}
