//! Which of Guesty's fields holds which value.

use catalog::Result;
use chrono::NaiveDate;
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};

use crate::rows::{Object, Table, cell, field};

/// Cells of a row by column.
pub(super) type Cells = Vec<(&'static str, String)>;

/// Columns, and for each the paths that may hold its value; the first that does counts.
pub(super) type Mapping = &'static [(&'static str, &'static [&'static str])];

/// One part of a stay in one listing.
#[derive(Debug, Clone, Default)]
pub(super) struct Stretch {
    pub(super) listing: Option<String>,
    pub(super) parent: Option<String>,
    pub(super) cells: Cells,
}

/// A reservation as either API tells it.
#[derive(Debug, Clone, Default)]
pub(super) struct Reservation {
    pub(super) id: String,
    pub(super) guest: Option<String>,
    /// What holds for the whole stay.
    pub(super) cells: Cells,
    /// Its amounts, which only the first stretch carries.
    pub(super) money: Cells,
    pub(super) stretches: Vec<Stretch>,
}

impl Reservation {
    /// The value of a column.
    pub(super) fn get(&self, column: &str) -> Option<&str> {
        self.cells.iter().find(|(name, _)| *name == column).map(|(_, value)| value.as_str())
    }

    /// The day of leaving.
    pub(super) fn until(&self) -> Option<NaiveDate> {
        let day = |s: &Stretch| s.cells.iter().find(|(c, _)| *c == "check_out").and_then(|(_, day)| day.parse().ok());
        self.stretches.iter().filter_map(day).max()
    }

    /// What tells this state of it from another. The guest's own data does not count: it is fetched only for
    /// reservations that changed.
    pub(super) fn digest(&self) -> String {
        let mut hash = Sha256::new();
        let mut add = |cells: &Cells| {
            for (column, value) in cells.iter().filter(|(column, _)| !column.starts_with("guest_")) {
                hash.update(column.as_bytes());
                hash.update([1]);
                hash.update(value.as_bytes());
                hash.update([0]);
            }
            hash.update([2]);
        };
        add(&self.cells);
        add(&self.money);
        for stretch in &self.stretches {
            add(&stretch.cells);
            for id in [&stretch.listing, &stretch.parent] {
                add(&vec![("listing", id.clone().unwrap_or_default())]);
            }
        }
        hash.finalize().iter().take(8).map(|byte| format!("{byte:02x}")).collect()
    }

    /// Adds its rows, one for each stretch.
    pub(super) fn put(&self, table: &mut Table, connection: &str) -> Result<()> {
        for (segment, stretch) in self.stretches.iter().enumerate() {
            let segment_text = segment.to_string();
            let mut cells: Vec<(&str, &str)> =
                vec![("reservation_id", &self.id), ("segment", &segment_text), ("identity", "strong")];
            cells.extend(stretch.listing.as_deref().map(|id| ("listing_id", id)));
            cells.extend(stretch.parent.as_deref().map(|id| ("parent_listing_id", id)));
            cells.extend(self.guest.as_deref().map(|id| ("guest_id", id)));
            // What a stretch says of itself goes before what holds for the whole.
            let money = if segment == 0 { &self.money[..] } else { &[] };
            for (column, value) in stretch.cells.iter().chain(&self.cells).chain(money) {
                if cells.iter().all(|(known, _)| known != column) {
                    cells.push((column, value));
                }
            }
            put(table, connection, &cells)?;
        }
        Ok(())
    }
}

/// Adds a row of this connector.
pub(super) fn put(table: &mut Table, connection: &str, cells: &[(&str, &str)]) -> Result<()> {
    table.add();
    for (column, value) in [("connection", connection), ("connector", "guesty")].iter().chain(cells) {
        let column = table.column(column)?;
        table.put(column, value);
    }
    Ok(())
}

/// The JSON value at a path of names with dots.
pub(super) fn at<'a>(object: &Object<'a>, path: &str) -> Option<&'a RawValue> {
    let (key, rest) = path.split_once('.').map_or((path, None), |(key, rest)| (key, Some(rest)));
    let value = field(object, key)?;
    match rest {
        None => Some(value),
        Some(rest) => at(&serde_json::from_str(value.get()).ok()?, rest),
    }
}

/// A value that is one: text, number or flag. A list or an object is never a cell, whatever the vendor puts where a text is
/// expected, since nobody knows what is inside.
pub(super) fn scalar(value: &RawValue) -> Option<String> {
    cell(value).filter(|_| !value.get().starts_with(['{', '[']))
}

/// The text at a path; one without letters is none.
pub(super) fn text(object: &Object<'_>, path: &str) -> Option<String> {
    at(object, path).and_then(scalar).filter(|text| !text.trim().is_empty())
}

/// The cells of an object.
pub(super) fn cells(object: &Object<'_>, mapping: Mapping) -> Cells {
    let value = |(column, paths): &(&'static str, &[&str])| {
        // An emptied note is a fact, a note that did not come is none.
        let written = matches!(*column, "notes" | "special_requests");
        let mut values = paths.iter().filter_map(|path| at(object, path).and_then(scalar));
        let full = values.clone().find(|value| !value.trim().is_empty());
        Some((*column, full.or_else(|| values.next().filter(|_| written))?))
    };
    mapping.iter().filter_map(value).collect()
}

/// The objects of a list.
pub(super) fn objects<'a>(list: Option<&'a RawValue>) -> Vec<Object<'a>> {
    let items: Vec<&'a RawValue> = list.and_then(|list| serde_json::from_str(list.get()).ok()).unwrap_or_default();
    items.into_iter().filter_map(|item| serde_json::from_str(item.get()).ok()).collect()
}

/// Columns that both APIs keep under one name.
pub(super) const COMMON: Mapping = &[
    ("external_code", &["confirmationCode"]),
    ("group_id", &["groupId"]),
    ("status", &["status"]),
    ("stay_status", &["guestStay.status"]),
    ("hold_until", &["reservedUntil"]),
    ("special_requests", &["specialRequests", "notes.specialRequests"]),
    ("notes", &["notes.other", "note", "notes"]),
    ("booked_at", &["confirmedAt"]),
    ("created_at", &["createdAt"]),
    ("updated_at", &["lastUpdatedAt", "alteredAt"]),
    ("cancelled_at", &["canceledAt"]),
    ("cancelled_by", &["canceledBy"]),
];

/// What one entry of `stay` says.
const STAY: Mapping = &[
    ("check_in", &["checkInDateLocalized"]),
    ("check_out", &["checkOutDateLocalized"]),
    ("check_in_time", &["eta"]),
    ("check_out_time", &["etd"]),
];

/// How many there are.
pub(super) const PARTY: Mapping = &[
    ("adults", &["numberOfGuests.numberOfAdults"]),
    ("children", &["numberOfGuests.numberOfChildren"]),
    ("infants", &["numberOfGuests.numberOfInfants"]),
    ("pets", &["numberOfGuests.numberOfPets"]),
    ("guest_count", &["guestsCount"]),
];

/// The stretches of `stay`.
pub(super) fn stretches(stay: Option<&RawValue>) -> Vec<Stretch> {
    let stretch = |part: &Object<'_>| {
        let unit = text(part, "unitId").or_else(|| text(part, "listingId"));
        let kind = text(part, "unitTypeId").or_else(|| text(part, "parentListingId"));
        let parent = kind.clone().filter(|kind| unit.as_ref().is_some_and(|unit| unit != kind));
        let mut all = cells(part, STAY);
        all.extend(cells(part, PARTY));
        Stretch { listing: unit.or(kind), parent, cells: all }
    };
    objects(stay).iter().map(stretch).collect()
}

/// The vendor's word for what it is, where it has one: owners' own stays are reservations whose source says so.
pub(super) fn kind(object: &Object<'_>) -> Option<String> {
    text(object, "source").filter(|source| source.to_ascii_lowercase().starts_with("owner"))
}

/// What is asked of a listing, and where it goes.
pub(super) const LISTING: Mapping = &[
    ("name", &["title"]),
    ("nickname", &["nickname"]),
    ("parent_listing_id", &["mtl.p"]),
    ("time_zone", &["timezone"]),
    ("currency", &["prices.currency"]),
    ("check_in_time", &["defaultCheckInTime"]),
    ("check_out_time", &["defaultCheckOutTime"]),
    ("max_guests", &["accommodates"]),
    ("bedrooms", &["bedrooms"]),
    ("bathrooms", &["bathrooms"]),
    ("property_type", &["propertyType"]),
    ("street", &["address.street", "address.full"]),
    ("city", &["address.city"]),
    ("state", &["address.state"]),
    ("postal_code", &["address.zipcode"]),
    ("country", &["address.country"]),
    ("latitude", &["address.lat"]),
    ("longitude", &["address.lng"]),
    ("active", &["active"]),
    ("listed", &["isListed", "listed"]),
    ("house_rules", &["publicDescription.houseRules"]),
    ("updated_at", &["lastUpdatedAt"]),
];

/// The `fields` of the call for listings: what is mapped and no more.
pub(super) const LISTING_FIELDS: &str = "title nickname mtl.p timezone prices.currency defaultCheckInTime defaultCheckOutTime accommodates bedrooms bathrooms \
     propertyType address.street address.full address.city address.state address.zipcode address.country address.lat \
     address.lng active isListed listed publicDescription.houseRules lastUpdatedAt owners integrations amenities";

/// A listing's row, without its id and property.
pub(super) fn listing(object: &Object<'_>) -> Cells {
    let mut all = cells(object, LISTING);
    let list = |path| at(object, path).and_then(|l| serde_json::from_str::<Vec<&RawValue>>(l.get()).ok());
    let texts = |path| -> Vec<String> { list(path).unwrap_or_default().into_iter().filter_map(scalar).collect() };
    all.extend(texts("owners").into_iter().next().map(|owner| ("owner_id", owner)));
    let amenities = texts("amenities");
    if !amenities.is_empty() {
        all.extend(serde_json::to_string(&amenities).ok().map(|list| ("amenities", list)));
    }
    // Ids as text: those of Airbnb have more digits than a double.
    let mut ids = serde_json::Map::new();
    for integration in objects(at(object, "integrations")) {
        let Some(platform) = text(&integration, "platform") else { continue };
        let id = text(&integration, &format!("{platform}.id")).or_else(|| text(&integration, "externalId"));
        ids.extend(id.map(|id| (platform, serde_json::Value::String(id))));
    }
    if !ids.is_empty() {
        all.push(("channel_ids", serde_json::Value::Object(ids).to_string()));
    }
    all
}

/// What is asked of a guest, and where it goes. Passports, birthdays and the like are neither.
const GUEST: Mapping = &[
    ("first_name", &["firstName"]),
    ("last_name", &["lastName"]),
    ("full_name", &["fullName"]),
    ("street", &["address.street"]),
    ("city", &["address.city"]),
    ("state", &["address.state"]),
    ("postal_code", &["address.zipcode", "address.zipCode"]),
    ("country", &["address.country"]),
    ("locale", &["preferredLanguage"]),
    ("updated_at", &["lastUpdatedAt", "updatedAt"]),
];

/// The `columns` of the call for guests.
pub(super) const GUEST_COLUMNS: &str =
    "firstName lastName fullName email emails phone phones preferredLanguage address lastUpdatedAt";

/// A guest's row, without the id.
pub(super) fn guest(object: &Object<'_>) -> Cells {
    let mut all = cells(object, GUEST);
    for (column, one, many) in [("emails", "email", "emails"), ("phones", "phone", "phones")] {
        let listed: Vec<&RawValue> =
            at(object, many).and_then(|list| serde_json::from_str(list.get()).ok()).unwrap_or_default();
        let mut texts: Vec<String> = Vec::new();
        for value in at(object, one).into_iter().chain(listed).filter_map(scalar) {
            let value = value.trim().to_owned();
            if !value.is_empty() && !texts.contains(&value) {
                texts.push(value);
            }
        }
        if !texts.is_empty() {
            all.extend(serde_json::to_string(&texts).ok().map(|list| (column, list)));
        }
    }
    all
}

/// A guest's data as a reservation's row carries it.
pub(super) fn guest_of_stay(guest: &Cells) -> Cells {
    let get = |column| guest.iter().find(|(name, _)| *name == column).map(|(_, value)| value.clone());
    let first = |column| serde_json::from_str::<Vec<String>>(&get(column)?).ok()?.into_iter().next();
    [
        ("guest_name", get("full_name")),
        ("guest_first_name", get("first_name")),
        ("guest_last_name", get("last_name")),
        ("guest_email", first("emails")),
        ("guest_phone", first("phones")),
        ("guest_locale", get("locale")),
    ]
    .into_iter()
    .filter_map(|(column, value)| Some((column, value?)))
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_values_become_cells() {
        let body = r#"{"notes": {"keyCode": "SECRET", "other": "", "specialRequests": "a crib"}, "guestsCount": 2,
            "confirmationCode": ["SECRET"], "lastUpdatedAt": null, "alteredAt": "2026-01-01T00:00:00.000Z"}"#;
        let object: Object<'_> = serde_json::from_str(body).unwrap();
        let found = cells(&object, COMMON);
        let get = |column| found.iter().find(|(c, _)| *c == column).map(|(_, v)| v.as_str());
        assert_eq!(get("notes"), Some(""), "an emptied note is not a missing one");
        assert_eq!(get("special_requests"), Some("a crib"));
        assert_eq!(get("updated_at"), Some("2026-01-01T00:00:00.000Z"));
        assert_eq!(get("external_code"), None);
        assert!(!format!("{found:?}").contains("SECRET"));
        let bare: Object<'_> = serde_json::from_str("{}").unwrap();
        assert!(cells(&bare, COMMON).is_empty());
    }
}
