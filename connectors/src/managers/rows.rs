//! Channel rows on their way into batches, and a vendor's values as text.

use catalog::{Fault, Reject, RejectKind, Result};
use chrono::{DateTime, NaiveDate, NaiveDateTime, Utc};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;
use sha2::{Digest as _, Sha256};

use crate::emit::Emit;
use crate::rows::{Table, cell};
use crate::source::Event;

/// A JSON value as the vendor wrote it: text without its quotes, numbers and flags verbatim. Null and empty text are
/// absent.
#[derive(Debug, Clone, Default)]
pub(crate) struct Text(pub(crate) Option<String>);

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = Box::<RawValue>::deserialize(deserializer)?;
        Ok(Self(cell(&raw).filter(|text| !text.trim().is_empty())))
    }
}

impl Text {
    /// The text, if there is one.
    pub(crate) fn get(&self) -> Option<&str> {
        self.0.as_deref()
    }

    /// Whether it is a flag that is on, in either of the two ways in which the vendors write flags.
    pub(crate) fn is_on(&self) -> bool {
        matches!(self.get(), Some("true" | "1"))
    }

    /// The id, if it is a number as both vendors' ids are: nothing else may become part of an address.
    pub(crate) fn id(&self) -> Option<String> {
        self.get().filter(|text| is_id(text)).map(str::to_owned)
    }

    /// The calendar day in front of whatever else stands there.
    pub(crate) fn day(&self) -> Option<NaiveDate> {
        self.get()?.get(..10)?.parse().ok()
    }

    /// The instant; one without an offset is in UTC.
    pub(crate) fn instant(&self) -> Option<DateTime<Utc>> {
        let text = self.get()?.trim();
        let zoned = DateTime::parse_from_rfc3339(text).map(|at| at.to_utc()).ok();
        let plain = |format| NaiveDateTime::parse_from_str(text, format).map(|at| at.and_utc()).ok();
        zoned.or_else(|| plain("%Y-%m-%d %H:%M:%S%.f")).or_else(|| plain("%Y-%m-%dT%H:%M:%S%.f"))
    }
}

/// Whether a text is the number of an object of OwnerRez or Hostaway.
pub(crate) fn is_id(text: &str) -> bool {
    (1..=19).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// A short fingerprint, which fits into a JSON number: the content of an object, to know whether it has changed.
pub(crate) fn fingerprint(text: &str) -> u64 {
    Sha256::digest(text.as_bytes()).iter().take(6).fold(0, |all, byte| (all << 8) | u64::from(*byte))
}

/// The named cells of a row.
pub(crate) type Cells = Vec<(&'static str, Option<String>)>;

/// Which of the three tables.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Kind {
    /// `channel_reservations`.
    Reservation,
    /// `channel_listings`.
    Listing,
    /// `channel_guests`.
    Guest,
}

impl Kind {
    /// The dataset.
    pub(crate) fn dataset(self) -> &'static str {
        match self {
            Kind::Reservation => "channel_reservations",
            Kind::Listing => "channel_listings",
            Kind::Guest => "channel_guests",
        }
    }

    fn id_column(self) -> &'static str {
        match self {
            Kind::Reservation => "reservation_id",
            Kind::Listing => "listing_id",
            Kind::Guest => "guest_id",
        }
    }
}

/// A reject for something in a vendor's list that has no id. Its content may hold anything, so it is not kept.
pub(crate) fn reject(kind: Kind, connection: &str, key: String, reason: &str) -> Reject {
    Reject {
        dataset: kind.dataset().to_owned(),
        scope: Some(connection.to_owned()),
        key,
        kind: RejectKind::Row,
        reason: reason.to_owned(),
        payload: serde_json::Value::Null,
    }
}

/// The rows since the last time they were handed out.
#[derive(Debug)]
pub(crate) struct Rows {
    connection: String,
    connector: &'static str,
    reservations: Table,
    listings: Table,
    guests: Table,
}

impl Rows {
    /// No rows yet.
    pub(crate) fn new(connection: &str, connector: &'static str) -> Result<Self> {
        Ok(Self {
            connection: connection.to_owned(),
            connector,
            reservations: Table::of(Kind::Reservation.dataset())?,
            listings: Table::of(Kind::Listing.dataset())?,
            guests: Table::of(Kind::Guest.dataset())?,
        })
    }

    /// Adds a row. Of two cells of one column the first counts.
    pub(crate) fn put(&mut self, kind: Kind, id: &str, cells: Cells) -> Result<()> {
        let table = match kind {
            Kind::Reservation => &mut self.reservations,
            Kind::Listing => &mut self.listings,
            Kind::Guest => &mut self.guests,
        };
        table.add();
        for (column, value) in
            [("connection", self.connection.as_str()), ("connector", self.connector), (kind.id_column(), id)]
        {
            let column = table.column(column)?;
            table.put(column, value);
        }
        for (column, value) in cells {
            if let Some(value) = value {
                let column = table.column(column)?;
                table.put(column, &value);
            }
        }
        Ok(())
    }

    /// Adds a row that says that the vendor does not know an object any more.
    pub(crate) fn gone(&mut self, kind: Kind, id: &str, at: DateTime<Utc>) -> Result<()> {
        let at = at.format("%Y-%m-%dT%H:%M:%SZ").to_string();
        let mut cells = vec![("presence", Some("gone".to_owned())), ("updated_at", Some(at))];
        if matches!(kind, Kind::Reservation) {
            cells.push(("segment", Some("0".to_owned())));
        }
        self.put(kind, id, cells)
    }

    /// Hands the rows out.
    pub(crate) async fn flush(&mut self, emit: &mut Emit) -> Result<(), Fault> {
        for table in [&mut self.listings, &mut self.guests, &mut self.reservations] {
            if table.rows() > 0 {
                let dataset = table.name().into();
                emit.event(Event::Rows { dataset, batch: table.finish()? }).await?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_stay_as_written_and_empty_ones_are_absent() {
        let texts: Vec<Text> =
            serde_json::from_str(r#"[1101.00, "HM\u0031", null, "", " ", 721993004118237905, 0]"#).unwrap();
        let texts: Vec<_> = texts.iter().map(Text::get).collect();
        assert_eq!(texts, [Some("1101.00"), Some("HM1"), None, None, None, Some("721993004118237905"), Some("0")]);
    }

    #[test]
    fn instants_without_an_offset_are_utc() {
        let at = |text: &str| Text(Some(text.to_owned())).instant().map(|at| at.timestamp());
        assert_eq!(at("2026-03-08 17:54:44"), at("2026-03-08T17:54:44Z"));
        assert_eq!(at("2026-03-08T18:54:44+01:00"), at("2026-03-08T17:54:44"));
        assert_eq!(at("yesterday"), None);
    }

    #[test]
    fn only_numbers_are_ids() {
        for wrong in ["", "../users/me", "12?x", "-1", "1e3", "12345678901234567890"] {
            assert!(!is_id(wrong), "{wrong}");
        }
        assert!(is_id("9001"));
    }
}
