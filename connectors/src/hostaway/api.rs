//! The vendor's answers: only the fields that are read. What is not named here, door codes and custom fields above all,
//! is dropped while an answer is parsed.

use serde::Deserialize;
use serde_json::json;
use serde_json::value::RawValue;
use url::Url;

use crate::managers::{Booking, Listing, Text, fingerprint};

/// What every answer is wrapped in.
#[derive(Debug, Deserialize)]
pub(super) struct Envelope<T> {
    #[serde(default)]
    pub(super) status: Text,
    pub(super) result: T,
}

/// The objects of a list.
pub(super) type Items = Vec<Box<RawValue>>;

/// The answer to a request for a token. The vendor's promise of how long it lives is not believed.
#[derive(Deserialize)]
pub(super) struct Token {
    pub(super) access_token: secrecy::SecretString,
}

/// The field that is part of a list's order.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Place {
    pub(super) id: Text,
    #[serde(rename = "updatedOn")]
    pub(super) updated_on: Text,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Reservation {
    id: Text,
    listing_map_id: Text,
    channel_id: Text,
    channel_name: Text,
    confirmation_code: Text,
    guest_external_account_id: Text,
    guest_name: Text,
    guest_first_name: Text,
    guest_last_name: Text,
    guest_email: Text,
    phone: Text,
    guest_locale: Text,
    number_of_guests: Text,
    adults: Text,
    children: Text,
    infants: Text,
    pets: Text,
    arrival_date: Text,
    departure_date: Text,
    is_dates_unspecified: Text,
    check_in_time: Text,
    check_out_time: Text,
    total_price: Text,
    tax_amount: Text,
    remaining_balance: Text,
    airbnb_expected_payout_amount: Text,
    currency: Text,
    status: Text,
    cancellation_date: Text,
    cancelled_by: Text,
    pending_expire_date: Text,
    host_note: Text,
    guest_note: Text,
    comment: Text,
    bookingcom_special_requests: Option<Box<RawValue>>,
    reservation_date: Text,
    inserted_on: Text,
    updated_on: Text,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct SpecialRequests {
    remarks: Text,
}

/// Understands a reservation; `None` if it is none.
pub(super) fn reservation(raw: &str) -> Option<Booking> {
    let r: Reservation = serde_json::from_str(raw).ok()?;
    // Dates that are not settled yet stand there as placeholders.
    let unsettled = r.is_dates_unspecified.is_on();
    let (arrival, departure) = if unsettled { (Text(None), Text(None)) } else { (r.arrival_date, r.departure_date) };
    // This one is a list in place of an object when it is empty.
    let remarks = r
        .bookingcom_special_requests
        .and_then(|raw| serde_json::from_str::<SpecialRequests>(raw.get()).ok())
        .and_then(|requests| requests.remarks.0);
    let mut wishes: Vec<String> = Vec::new();
    for wish in [r.guest_note.0, remarks, r.comment.0].into_iter().flatten() {
        if !wishes.contains(&wish) {
            wishes.push(wish);
        }
    }
    let over = ["cancelled", "declined", "expired", "inquiryDenied", "inquiryTimedout"];
    Some(Booking {
        id: r.id.id()?,
        print: fingerprint(raw),
        listing: r.listing_map_id.0.unwrap_or_default(),
        until: departure.day(),
        called_off: r.status.get().is_some_and(|status| over.contains(&status)),
        updated: r.updated_on.instant(),
        guest: None,
        cells: vec![
            ("external_code", r.confirmation_code.0),
            ("platform", r.channel_id.0.or(r.channel_name.0)),
            ("guest_id", r.guest_external_account_id.0),
            ("guest_name", r.guest_name.0),
            ("guest_first_name", r.guest_first_name.0),
            ("guest_last_name", r.guest_last_name.0),
            ("guest_email", r.guest_email.0),
            ("guest_phone", r.phone.0),
            ("guest_locale", r.guest_locale.0),
            ("check_in", arrival.0),
            ("check_out", departure.0),
            ("check_in_time", r.check_in_time.0),
            ("check_out_time", r.check_out_time.0),
            ("adults", r.adults.0),
            ("children", r.children.0),
            ("infants", r.infants.0),
            ("pets", r.pets.0),
            ("guest_count", r.number_of_guests.0),
            ("status", r.status.0),
            ("hold_until", r.pending_expire_date.0),
            ("total_amount", r.total_price.0),
            ("tax_amount", r.tax_amount.0),
            ("host_payout", r.airbnb_expected_payout_amount.0),
            ("balance_amount", r.remaining_balance.0),
            ("currency", r.currency.0),
            ("special_requests", (!wishes.is_empty()).then(|| wishes.join("\n"))),
            ("notes", r.host_note.0),
            ("booked_at", r.reservation_date.0),
            ("created_at", r.inserted_on.0),
            ("updated_at", r.updated_on.0),
            ("cancelled_at", r.cancellation_date.0),
            ("cancelled_by", r.cancelled_by.0),
        ],
    })
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct ListingObject {
    id: Text,
    name: Text,
    internal_listing_name: Text,
    time_zone_name: Text,
    currency_code: Text,
    check_in_time_start: Text,
    check_out_time: Text,
    person_capacity: Text,
    bedrooms_number: Text,
    bathrooms_number: Text,
    room_type: Text,
    street: Text,
    city: Text,
    state: Text,
    zipcode: Text,
    country_code: Text,
    lat: Text,
    lng: Text,
    special_status: Text,
    airbnb_listing_url: Text,
    vrbo_listing_url: Text,
    house_rules: Text,
    updated_on: Text,
}

/// Understands a listing.
pub(super) fn listing(raw: &str) -> Option<Listing> {
    let l: ListingObject = serde_json::from_str(raw).ok()?;
    let sites = [("airbnb", &l.airbnb_listing_url), ("vrbo", &l.vrbo_listing_url)];
    let sites: serde_json::Map<_, _> =
        sites.into_iter().filter_map(|(site, url)| Some((site.to_owned(), json!(number(url)?)))).collect();
    Some(Listing {
        id: l.id.id()?,
        print: fingerprint(raw),
        cells: vec![
            ("name", l.name.0),
            ("nickname", l.internal_listing_name.0),
            ("time_zone", l.time_zone_name.0),
            ("currency", l.currency_code.0),
            ("check_in_time", l.check_in_time_start.0),
            ("check_out_time", l.check_out_time.0),
            ("max_guests", l.person_capacity.0),
            ("bedrooms", l.bedrooms_number.0),
            ("bathrooms", l.bathrooms_number.0),
            ("property_type", l.room_type.0),
            ("street", l.street.0),
            ("city", l.city.0),
            ("state", l.state.0),
            ("postal_code", l.zipcode.0),
            ("country", l.country_code.0),
            ("latitude", l.lat.0),
            ("longitude", l.lng.0),
            // A listing without a special status is an active one.
            ("active", Some(l.special_status.0.is_none().to_string())),
            ("channel_ids", (!sites.is_empty()).then(|| serde_json::Value::from(sites).to_string())),
            ("house_rules", l.house_rules.0),
            ("updated_at", l.updated_on.0),
        ],
    })
}

/// The listing's id at a site: the last part of its address there.
fn number(url: &Text) -> Option<String> {
    let url = Url::parse(url.get()?).ok()?;
    let last = url.path_segments()?.rfind(|part| !part.is_empty())?;
    Some(last.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn placeholders_are_no_dates() {
        let dates = |flag: &str| {
            let raw = format!(
                r#"{{"id": 13, "arrivalDate": "2026-12-01", "departureDate": "2026-12-03", "isDatesUnspecified": {flag}}}"#
            );
            let booking = reservation(&raw).unwrap();
            let set = booking.cells.iter().any(|(column, value)| *column == "check_in" && value.is_some());
            (set, booking.until.is_some())
        };
        assert_eq!(dates("0"), (true, true));
        assert_eq!(dates("null"), (true, true));
        assert_eq!(dates("1"), (false, false));
        assert_eq!(dates("true"), (false, false));
    }

    #[test]
    fn wishes_of_three_places_are_one_text() {
        let wishes = |requests: &str| {
            let raw = format!(
                r#"{{"id": 13, "guestNote": "A crib", "comment": "A crib", "bookingcomSpecialRequests": {requests}}}"#
            );
            let booking = reservation(&raw).unwrap();
            booking.cells.into_iter().find(|(column, _)| *column == "special_requests").and_then(|(_, value)| value)
        };
        assert_eq!(wishes(r#"{"remarks": "Late"}"#).as_deref(), Some("A crib\nLate"));
        for none in ["[]", "null", "{}", r#""""#] {
            assert_eq!(wishes(none).as_deref(), Some("A crib"), "{none}");
        }
    }

    #[test]
    fn ids_at_the_sites_are_the_ends_of_addresses() {
        let id = |url: &str| number(&Text(Some(url.to_owned())));
        assert_eq!(id("https://www.airbnb.com/rooms/972199300411823700/?x=1").as_deref(), Some("972199300411823700"));
        assert_eq!(id("https://www.vrbo.com/1234567ha").as_deref(), Some("1234567ha"));
        assert_eq!(id("not an address"), None);
        assert_eq!(id("https://www.vrbo.com/"), None);
    }
}
