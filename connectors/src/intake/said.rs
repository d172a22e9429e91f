//! What an event says of a booking, put onto what is known of it.

use std::collections::BTreeMap;

use catalog::standing::Stored;
use catalog::{Reject, RejectKind};
use chrono::{DateTime, NaiveDate, NaiveDateTime, SecondsFormat, TimeDelta, Utc};
use serde_json::json;

/// Cells of `channel_reservations` by column.
pub(super) type Row = BTreeMap<&'static str, String>;

/// Columns that an event may leave open, and where what is known of them is stored.
const FILLED: [(&str, &str); 15] = [
    ("platform", "platform"),
    ("listing_id", "listing_id"),
    ("guest_name", "guest_name"),
    ("guest_email", "guest_email"),
    ("guest_phone", "guest_phone"),
    ("check_in", "check_in"),
    ("check_out", "check_out"),
    ("guest_count", "guest_count"),
    ("total_amount", "total_amount"),
    ("currency", "currency"),
    ("special_requests", "special_requests"),
    ("notes", "booking_notes"),
    ("booked_at", "booked_at"),
    ("created_at", "source_created_at"),
    ("status", "raw_status"),
];
const OLDER: &str = "what is known of its booking is newer";
const TOLD: &str = "its booking is known, and it does not say that it is newer";
const ALONE: &str = "nobody has told its booking, and it does not say where and when that is";

/// What is known of a booking.
#[derive(Debug, Clone)]
pub(super) struct Known {
    version: DateTime<Utc>,
    row: Row,
    /// Not stored yet: an event of the same batch said it.
    fresh: bool,
}

impl From<Stored> for Known {
    fn from(mut stored: Stored) -> Self {
        let mut row: Row =
            FILLED.iter().filter_map(|(column, from)| Some((*column, stored.cells.remove(*from)?))).collect();
        let stay = match stored.cells.get("status").map(String::as_str) {
            Some("checked_in") => Some("checked_in"),
            Some("completed") => Some("checked_out"),
            _ => None,
        };
        row.extend(stay.map(|stay| ("stay_status", stay.to_owned())));
        Self { version: stored.version, row, fresh: false }
    }
}

/// What one event says.
#[derive(Debug)]
pub(super) struct Said {
    /// The booking.
    pub(super) id: String,
    /// The cells that it says, and the time of its change.
    pub(super) row: Row,
    created: bool,
    /// When the booking changed: by the sender's word, else not behind its sending.
    at: DateTime<Utc>,
    dated: bool,
    unreadable: Option<String>,
}

impl Said {
    /// Nothing changes behind its being told, whatever the sender's clock says: a time in the future would stand in the way
    /// of all that comes behind it.
    pub(super) fn new(
        id: String,
        created: bool,
        mut row: Row,
        changed: Option<String>,
        sent: DateTime<Utc>,
        received: DateTime<Utc>,
    ) -> Self {
        let read = changed.as_deref().and_then(instant);
        let at = read.map_or(sent, |at| at.min(received));
        row.insert("updated_at", text(at));
        Self { id, row, created, at, dated: read.is_some(), unreadable: changed.filter(|_| read.is_none()) }
    }

    /// By this, events of a batch are worked off: a booking is made before it changes, whenever that is told again.
    pub(super) fn order(&self) -> DateTime<Utc> {
        if self.created && !self.dated { DateTime::<Utc>::MIN_UTC } else { self.at }
    }

    /// The row that the event makes of what is known, and why it is none of its own. What it says is known from then on.
    pub(super) fn onto(&self, known: &mut BTreeMap<String, Known>) -> (Row, Option<&'static str>) {
        let mut row = self.row.clone();
        let Some(before) = known.get(&self.id) else {
            let whole = ["listing_id", "check_in", "check_out"].iter().all(|column| row.contains_key(column));
            if whole && !backwards(&row) {
                known.insert(self.id.clone(), Known { version: self.at, row: row.clone(), fresh: true });
            }
            return (row, (!whole).then_some(ALONE));
        };
        let aside = match (self.created, self.dated) {
            (true, true) if self.at <= before.version => Some(TOLD),
            (true, false) => Some(TOLD),
            (_, true) if self.at < before.version => Some(OLDER),
            // The time of sending has no fractions of a second, and is the later the more often it was tried.
            (_, false) if self.at + TimeDelta::seconds(1) <= before.version => Some(OLDER),
            _ => None,
        };
        if aside.is_some() {
            // It is loaded as it stands: a batch that is repeated because its process died says the same again.
            row.retain(|column, _| {
                ["connection", "connector", "reservation_id", "segment", "identity"].contains(column)
            });
            row.extend(before.row.clone());
            row.insert("updated_at", text(before.version));
            return (row, aside);
        }
        let status = |row: &Row| row.get("status").map_or("confirmed", |s| s.trim()).to_ascii_lowercase();
        // A status that is only repeated does not undo an arrival; nor does an arrival that is told late undo a departure.
        let repeated = !row.contains_key("status") || status(&row) == status(&before.row);
        let left = before.row.get("stay_status").is_some_and(|stay| stay == "checked_out");
        let arrives = row.get("stay_status").is_some_and(|stay| stay == "checked_in");
        if repeated && left && arrives && !self.dated {
            row.remove("stay_status");
        }
        for (column, value) in before.row.iter().filter(|(column, _)| repeated || **column != "stay_status") {
            row.entry(column).or_insert_with(|| value.clone());
        }
        // Of equal versions in one batch the later one has to be told from the earlier one.
        let least = before.version + if before.fresh { TimeDelta::microseconds(1) } else { TimeDelta::zero() };
        let version = self.at.max(least);
        row.insert("updated_at", text(version));
        if !backwards(&row) {
            known.insert(self.id.clone(), Known { version, row: row.clone(), fresh: true });
        }
        (row, None)
    }

    /// That the time of the change cannot be read, if that is so.
    pub(super) fn unreadable(&self, connection: &str) -> Option<Reject> {
        let shown: String = self.unreadable.as_deref()?.chars().take(60).collect();
        Some(Reject {
            dataset: "source_bookings".to_owned(),
            scope: None,
            key: format!("{connection}/{}/0", self.id),
            kind: RejectKind::Value,
            reason: format!("`updated_at` `{shown}` is no instant, so the time of its delivery is taken"),
            payload: json!({ "reservation_id": self.id, "updated_at": shown }),
        })
    }
}

fn text(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(SecondsFormat::AutoSi, true)
}

/// The instant; one without an offset is in UTC, a day alone is its beginning.
fn instant(text: &str) -> Option<DateTime<Utc>> {
    let text = text.trim();
    if let Ok(at) =
        DateTime::parse_from_rfc3339(text).or_else(|_| DateTime::parse_from_str(text, "%Y-%m-%dT%H:%M:%S%.f%z"))
    {
        return Some(at.to_utc());
    }
    let plain = ["%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%dT%H:%M", "%Y%m%dT%H%M%S"];
    let plain =
        plain.iter().find_map(|format| NaiveDateTime::parse_from_str(text.trim_end_matches(['Z', 'z']), format).ok());
    plain.or_else(|| Some(text.parse::<NaiveDate>().ok()?.and_time(chrono::NaiveTime::MIN))).map(|at| at.and_utc())
}

/// Whether a booking will surely be refused, so that nothing may build on it.
fn backwards(row: &Row) -> bool {
    let day = |column: &str| row.get(column).and_then(|text| text.trim().parse::<NaiveDate>().ok());
    matches!((day("check_in"), day("check_out")), (Some(first), Some(last)) if last <= first)
}
