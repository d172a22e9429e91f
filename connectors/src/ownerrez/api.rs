//! The vendor's answers: only the fields that are read. What is not named here, door codes and custom fields above all,
//! is dropped while an answer is parsed.

use std::cmp::Reverse;

use rust_decimal::Decimal;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::managers::{Booking, Cells, Listing, Person, Text, fingerprint};

/// A page of a list. A page without `items` is an empty one if it says where it stands.
#[derive(Debug, Deserialize)]
pub(super) struct List {
    pub(super) items: Option<Vec<Box<RawValue>>>,
    pub(super) limit: Option<i64>,
    pub(super) offset: Option<i64>,
    pub(super) count: Option<usize>,
    #[serde(default)]
    pub(super) next_page_url: Text,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Reservation {
    id: Text,
    property_id: Text,
    guest_id: Text,
    r#type: Text,
    is_block: Text,
    status: Text,
    arrival: Text,
    departure: Text,
    check_in: Text,
    check_out: Text,
    adults: Text,
    children: Text,
    infants: Text,
    pets: Text,
    booked_utc: Text,
    created_utc: Text,
    updated_utc: Text,
    canceled_utc: Text,
    pending_until_utc: Text,
    currency_code: Text,
    total_amount: Text,
    total_paid: Text,
    total_owed: Text,
    charges: Option<Vec<Charge>>,
    listing_site: Text,
    platform_reservation_number: Text,
    platform_email_address: Text,
    guest: Option<Name>,
    notes: Text,
    title: Text,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Charge {
    r#type: Text,
    amount: Text,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Name {
    id: Text,
    first_name: Text,
    last_name: Text,
}

/// Understands a booking, block or hold; `None` if it is none.
pub(super) fn booking(raw: &str) -> Option<Booking> {
    let r: Reservation = serde_json::from_str(raw).ok()?;
    let name = r.guest.unwrap_or_default();
    let called_off =
        r.status.get().is_some_and(|s| s.eq_ignore_ascii_case("canceled") || s.eq_ignore_ascii_case("cancelled"));
    // Older objects have the flag alone.
    let kind = r.r#type.0.or_else(|| r.is_block.is_on().then(|| "block".to_owned()));
    Some(Booking {
        id: r.id.id()?,
        print: fingerprint(raw),
        listing: r.property_id.0.unwrap_or_default(),
        until: r.departure.day(),
        called_off,
        updated: r.updated_utc.instant(),
        guest: r.guest_id.id().or_else(|| name.id.id()),
        cells: vec![
            ("external_code", r.platform_reservation_number.0),
            ("platform", r.listing_site.0),
            ("guest_id", r.guest_id.0.or(name.id.0)),
            ("guest_name", full_name(&name.first_name, &name.last_name)),
            ("guest_first_name", name.first_name.0),
            ("guest_last_name", name.last_name.0),
            ("guest_email", r.platform_email_address.0),
            ("check_in", r.arrival.0),
            ("check_out", r.departure.0),
            ("check_in_time", r.check_in.0),
            ("check_out_time", r.check_out.0),
            ("adults", r.adults.0),
            ("children", r.children.0),
            ("infants", r.infants.0),
            ("pets", r.pets.0),
            ("type", kind),
            ("status", r.status.0),
            ("hold_until", r.pending_until_utc.0),
            ("total_amount", r.total_amount.0),
            ("tax_amount", taxes(r.charges.as_deref().unwrap_or_default())),
            ("paid_amount", r.total_paid.0),
            ("balance_amount", r.total_owed.0),
            ("currency", r.currency_code.0),
            ("notes", r.notes.0),
            ("title", r.title.0),
            ("booked_at", r.booked_utc.0),
            ("created_at", r.created_utc.0),
            ("updated_at", r.updated_utc.0),
            ("cancelled_at", r.canceled_utc.0),
        ],
    })
}

/// The taxes among the charges, added up exactly. Without a tax, or with one that is no number, they are unknown.
fn taxes(charges: &[Charge]) -> Option<String> {
    let taxes: Vec<&Charge> = charges.iter().filter(|charge| charge.r#type.get() == Some("tax")).collect();
    match taxes[..] {
        [] => None,
        [one] => one.amount.0.clone(),
        _ => {
            let amounts = taxes.iter().map(|tax| tax.amount.get()?.parse::<Decimal>().ok());
            let sum = amounts.into_iter().try_fold(Decimal::ZERO, |sum, amount| sum.checked_add(amount?))?;
            Some(sum.to_string())
        }
    }
}

fn full_name(first: &Text, last: &Text) -> Option<String> {
    let parts: Vec<&str> = [first, last].into_iter().filter_map(Text::get).collect();
    (!parts.is_empty()).then(|| parts.join(" "))
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Guest {
    id: Text,
    first_name: Text,
    last_name: Text,
    email_addresses: Option<Vec<Contact>>,
    phones: Option<Vec<Contact>>,
    addresses: Option<Vec<Address>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Contact {
    #[serde(alias = "number")]
    address: Text,
    is_default: Text,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Address {
    street1: Text,
    city: Text,
    #[serde(alias = "province")]
    state: Text,
    postal_code: Text,
    country: Text,
    is_default: Text,
}

/// The contacts, the default first; there may be none that is the default.
fn contacts(contacts: Option<Vec<Contact>>) -> Vec<String> {
    let mut contacts = contacts.unwrap_or_default();
    contacts.sort_by_key(|contact| Reverse(contact.is_default.is_on()));
    contacts.into_iter().filter_map(|contact| contact.address.0).collect()
}

/// Understands a guest. What the operator noted about them, and whether they are banned, stays with the vendor.
pub(super) fn guest(raw: &str) -> Option<Person> {
    let g: Guest = serde_json::from_str(raw).ok()?;
    g.id.id()?;
    let (emails, phones) = (contacts(g.email_addresses), contacts(g.phones));
    let mut addresses = g.addresses.unwrap_or_default();
    addresses.sort_by_key(|address| Reverse(address.is_default.is_on()));
    let address = addresses.into_iter().next().unwrap_or_default();
    let list = |list: &[String]| (!list.is_empty()).then(|| serde_json::Value::from(list.to_vec()).to_string());
    let name = full_name(&g.first_name, &g.last_name);
    let on_booking: Cells = vec![
        ("guest_name", name.clone()),
        ("guest_first_name", g.first_name.0.clone()),
        ("guest_last_name", g.last_name.0.clone()),
        ("guest_email", emails.first().cloned()),
        ("guest_phone", phones.first().cloned()),
    ];
    let cells = vec![
        ("first_name", g.first_name.0),
        ("last_name", g.last_name.0),
        ("full_name", name),
        ("emails", list(&emails)),
        ("phones", list(&phones)),
        ("street", address.street1.0),
        ("city", address.city.0),
        ("state", address.state.0),
        ("postal_code", address.postal_code.0),
        ("country", address.country.0),
    ];
    Some(Person { cells, on_booking })
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Property {
    id: Text,
    name: Text,
    external_name: Text,
    internal_code: Text,
    active: Text,
    is_snoozed: Text,
    time_zone: Text,
    currency_code: Text,
    check_in: Text,
    check_out: Text,
    max_guests: Text,
    bedrooms: Text,
    bathrooms: Text,
    property_type: Text,
    address: Option<Address>,
    latitude: Text,
    longitude: Text,
    owner_id: Text,
    listing_numbers: Text,
}

/// Understands a property.
pub(super) fn property(raw: &str) -> Option<Listing> {
    let p: Property = serde_json::from_str(raw).ok()?;
    let address = p.address.unwrap_or_default();
    // A flag that is left out is off: the vendor writes no empty values.
    let flag = |on: bool| Some(on.to_string());
    Some(Listing {
        id: p.id.id()?,
        print: fingerprint(raw),
        cells: vec![
            ("name", p.name.0),
            ("nickname", p.internal_code.0.or(p.external_name.0)),
            ("time_zone", p.time_zone.0),
            ("currency", p.currency_code.0),
            ("check_in_time", p.check_in.0),
            ("check_out_time", p.check_out.0),
            ("max_guests", p.max_guests.0),
            ("bedrooms", p.bedrooms.0),
            ("bathrooms", p.bathrooms.0),
            ("property_type", p.property_type.0),
            ("street", address.street1.0),
            ("city", address.city.0),
            ("state", address.state.0),
            ("postal_code", address.postal_code.0),
            ("country", address.country.0),
            ("latitude", p.latitude.0),
            ("longitude", p.longitude.0),
            ("active", flag(p.active.is_on())),
            ("listed", flag(!p.is_snoozed.is_on())),
            ("owner_id", p.owner_id.0),
            // As written: ids of eighteen digits do not survive a reader that takes them for floating point.
            ("channel_ids", p.listing_numbers.0),
        ],
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(cells: &Cells, column: &str) -> Option<String> {
        cells.iter().find(|(name, _)| *name == column).and_then(|(_, value)| value.clone())
    }

    #[test]
    fn taxes_are_added_exactly() {
        let sum = |charges: &str| {
            let raw = format!(r#"{{"id": 1, "charges": {charges}}}"#);
            value(&booking(&raw).unwrap().cells, "tax_amount")
        };
        assert_eq!(sum(r#"[{"type": "rent", "amount": 90}]"#), None);
        assert_eq!(sum(r#"[{"type": "tax", "amount": 0.10}]"#).as_deref(), Some("0.10"));
        assert_eq!(sum(r#"[{"type": "tax", "amount": 0.1}, {"type": "tax", "amount": 0.2}]"#).as_deref(), Some("0.3"));
        assert_eq!(sum(r#"[{"type": "tax", "amount": 0.1}, {"type": "tax"}]"#), None, "a tax of unknown size");
    }

    #[test]
    fn the_default_contact_comes_first_and_else_the_first() {
        let phones = |flags: [bool; 2]| {
            let raw = format!(
                r#"{{"id": 7, "phones": [{{"number": "+12125550101", "is_default": {}}}, {{"number": "+12125550102", "is_default": {}}}]}}"#,
                flags[0], flags[1]
            );
            value(&guest(&raw).unwrap().on_booking, "guest_phone").unwrap()
        };
        assert_eq!(phones([false, true]), "+12125550102");
        assert_eq!(phones([true, false]), "+12125550101");
        assert_eq!(phones([false, false]), "+12125550101");
    }

    #[test]
    fn what_is_no_object_with_a_number_is_nothing() {
        for raw in ["7", "{}", r#"{"id": "x/../y"}"#, r#"{"id": {"a": 1}}"#, r#"{"id": 1, "guest": 3}"#, "[]"] {
            assert!(booking(raw).is_none(), "{raw}");
        }
    }
}
