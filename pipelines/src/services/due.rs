//! When a service is due.

use catalog::{Fault, Result};
use chrono::{DateTime, Days, Duration, NaiveDate, NaiveDateTime, NaiveTime, TimeDelta, TimeZone, Utc};
use chrono_tz::Tz;

/// What sets a service off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Trigger {
    /// Two days before the hour of arrival.
    BeforeCheckIn,
    /// The hour of arrival.
    CheckIn,
    /// The middle day of a stay of at least [`LONG_STAY_NIGHTS`], at [`MID_STAY_HOUR`].
    MidStay,
    /// Someone asks.
    Request,
    /// The hour of leaving.
    CheckOut,
}

/// Nights from which a stay has a middle worth a visit.
pub(super) const LONG_STAY_NIGHTS: i32 = 4;
/// The local hour of a visit in the middle of a stay: guests who stay on are not woken, and the day is not over.
pub(super) const MID_STAY_HOUR: u32 = 11;
/// How long after leaving guest and owner are still told that the stay has ended.
pub(super) const AFTER_CHECK_OUT: TimeDelta = TimeDelta::hours(48);

impl Trigger {
    /// The trigger of a stored rule.
    ///
    /// # Errors
    /// When the word is not known.
    pub(super) fn parse(word: &str) -> Result<Self> {
        Ok(match word {
            "48h_before_check_in" => Self::BeforeCheckIn,
            "check_in" => Self::CheckIn,
            "mid_stay" => Self::MidStay,
            "service_request" => Self::Request,
            "check_out" => Self::CheckOut,
            _ => return Err(Fault::us(format!("the trigger `{word}` is not known"))),
        })
    }
}

/// The hours of a stay.
#[derive(Debug, Clone)]
pub(super) struct Hours {
    /// First night, local.
    pub(super) check_in: NaiveDate,
    /// Number of nights.
    pub(super) nights: i32,
    /// IANA time zone; one that is not known goes by UTC.
    pub(super) time_zone: String,
    /// The instant of arrival.
    pub(super) starts_at: DateTime<Utc>,
    /// The instant of leaving.
    pub(super) ends_at: DateTime<Utc>,
}

/// When a service is due, and until when guest and owner are told of it; `None` when a stay does not have it.
pub(super) fn due(trigger: Trigger, stay: &Hours) -> Option<(DateTime<Utc>, DateTime<Utc>)> {
    match trigger {
        Trigger::BeforeCheckIn => Some((stay.starts_at - TimeDelta::hours(48), stay.starts_at)),
        Trigger::CheckIn => Some((stay.starts_at, stay.ends_at)),
        Trigger::CheckOut => Some((stay.ends_at, stay.ends_at + AFTER_CHECK_OUT)),
        Trigger::MidStay if stay.nights >= LONG_STAY_NIGHTS => {
            let days = Days::new(u64::try_from(stay.nights / 2).unwrap_or(0));
            let hour = NaiveTime::from_hms_opt(MID_STAY_HOUR, 0, 0)?;
            let local = stay.check_in.checked_add_days(days)?.and_time(hour);
            Some((instant(zone(&stay.time_zone), local), stay.ends_at))
        }
        Trigger::MidStay | Trigger::Request => None,
    }
}

/// The zone of that name.
pub(super) fn zone(name: &str) -> Tz {
    name.parse().unwrap_or(chrono_tz::UTC)
}

/// The instant of a local time; the first of two, and the one an hour on for a time that the clocks leave out.
fn instant(zone: Tz, local: NaiveDateTime) -> DateTime<Utc> {
    let found = zone.from_local_datetime(&local).earliest();
    let found = found.or_else(|| zone.from_local_datetime(&(local + Duration::hours(1))).earliest());
    found.map_or_else(|| local.and_utc(), |at| at.to_utc())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_middle_of_a_stay_is_at_eleven_there_whatever_the_clocks_do() {
        // Clocks in New York go forward on 8 March 2026, so the offset differs at both ends of the stay.
        let at = |text: &str| DateTime::parse_from_rfc3339(text).unwrap().to_utc();
        let stay = |nights| Hours {
            check_in: NaiveDate::from_ymd_opt(2026, 3, 6).unwrap(),
            nights,
            time_zone: "America/New_York".to_owned(),
            starts_at: at("2026-03-06T16:00:00-05:00"),
            ends_at: at("2026-03-11T11:00:00-04:00"),
        };
        assert_eq!(due(Trigger::MidStay, &stay(5)).unwrap().0, at("2026-03-08T11:00:00-04:00"));
        assert_eq!(due(Trigger::MidStay, &stay(3)), None);
        assert_eq!(due(Trigger::BeforeCheckIn, &stay(5)).unwrap().0, at("2026-03-04T16:00:00-05:00"));
        assert_eq!(due(Trigger::CheckOut, &stay(5)).unwrap().0, at("2026-03-11T11:00:00-04:00"));
        let nowhere = Hours { time_zone: "Mars/Base".to_owned(), ..stay(4) };
        assert_eq!(due(Trigger::MidStay, &nowhere).unwrap().0, at("2026-03-08T11:00:00Z"));
    }
}
