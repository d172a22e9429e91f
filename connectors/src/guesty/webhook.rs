//! Guesty's deliveries: signed by Svix, and hints about what to read again.

use std::borrow::Cow;

use catalog::{Blame, Fault, Result, Retry, SecretRef};
use serde_json::value::RawValue;

use super::STREAM;
use super::facts::{at, objects, text};
use crate::rows::Object;
use crate::webhook::{Decoded, Delivery, Identity, Refused, Standard, Webhook, body_id};

/// The deliveries of one connection.
#[derive(Debug)]
pub(super) struct Deliveries {
    standard: Option<Standard>,
}

impl Deliveries {
    pub(super) fn new(secrets: Vec<SecretRef>) -> Self {
        Self { standard: (!secrets.is_empty()).then(|| Standard::new(secrets)) }
    }
}

fn body(delivery: &Delivery) -> Option<Object<'_>> {
    serde_json::from_slice(&delivery.body).ok()
}

/// Where the id of a kind of object has been seen, the likeliest first.
fn places(event: &str) -> Option<(&'static str, &'static [&'static str])> {
    let is = |start: &str| event.starts_with(start);
    Some(match () {
        () if is("reservation.message") => return None,
        () if is("reservation.") || is("reservation_") => {
            ("reservation", &["data.reservationId", "data._id", "data.id", "reservation._id", "reservationId"])
        }
        () if is("guest.") => ("guest", &["data.guestId", "data._id", "data.id", "guest._id", "guestId"]),
        () if is("listing.calendar") || is("calendar.") => {
            ("calendar", &["data.listingId", "listingId", "calendar.listingId"])
        }
        () if is("listing.") => ("listing", &["data.listingId", "data._id", "data.id", "listing._id", "listingId"]),
        () => return None,
    })
}

/// An id as the vendor makes them. It becomes part of an address, so it must not be anything else.
pub(super) fn sound(id: &str) -> bool {
    (1..=64).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
}

impl Webhook for Deliveries {
    fn verify(&self, delivery: &Delivery) -> Result<(), Refused> {
        match &self.standard {
            Some(standard) => standard.verify(delivery),
            None => Err(Refused::Unverified(Cow::Borrowed("this connection has no signing secret"))),
        }
    }

    fn identify(&self, delivery: &Delivery) -> Result<Identity, Refused> {
        let body = body(delivery).ok_or(Refused::Malformed(Cow::Borrowed("the body is not a JSON object")))?;
        let event = text(&body, "event").or_else(|| text(&body, "type")).unwrap_or_else(|| "unknown".to_owned());
        let id = Standard::id(delivery).map_or_else(|| body_id(&delivery.body), str::to_owned);
        Ok(Identity { id, event })
    }

    fn decode(&self, delivery: &Delivery) -> Result<Decoded> {
        let nothing = Decoded { stream: Cow::Borrowed(STREAM), ..Decoded::default() };
        let Some(body) = body(delivery) else {
            return Err(broken("a delivery is not a JSON object"));
        };
        let event = text(&body, "event").unwrap_or_default();
        let Some((kind, places)) = places(&event) else { return Ok(nothing) };
        let id = places.iter().find_map(|place| text(&body, place)).or_else(|| {
            // The older calendar event is a list of days.
            let days: Option<&RawValue> = at(&body, "calendar").filter(|_| kind == "calendar");
            objects(days).first().and_then(|day| text(day, "listingId"))
        });
        match id.filter(|id| sound(id)) {
            Some(id) => Ok(Decoded { objects: vec![format!("{kind}:{id}")], ..nothing }),
            None => Err(broken(&format!("a delivery of `{event}` does not say which {kind} it is about"))),
        }
    }
}

fn broken(message: &str) -> Fault {
    Fault::new(Blame::Remote, Retry::Never, message.to_owned())
        .hint("The change is found by the next reading of changes.")
}
