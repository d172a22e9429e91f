//! Days and time zones as vendors write them.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock};

use arrow::array::{ArrayRef, AsArray, Date32Array, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, Date32Type, TimeUnit, TimestampMicrosecondType};
use chrono::{DateTime, NaiveDate, NaiveDateTime, NaiveTime, TimeDelta, TimeZone, Utc};
use chrono_tz::Tz;
use datafusion::error::Result;

use super::{Arity, Function, map_text, strings};

pub(super) fn all() -> Vec<Function> {
    vec![
        Function::text("date_lenient", Arity::Between(1, 1), DataType::Date32, |a| {
            let days: Date32Array =
                strings(&a[0]).iter().map(|v| v.and_then(date_lenient).map(Date32Type::from_naive_date)).collect();
            Ok(Arc::new(days))
        }),
        Function::map("time_zone", |a| map_text(a, |v| time_zone(v).map(|z| z.name().to_owned()))),
        Function::new(
            "local_date",
            Arity::Between(2, 2),
            &[DataType::Timestamp(TimeUnit::Microsecond, None), DataType::Utf8],
            DataType::Date32,
            local_date,
        ),
        Function::map("clock_time", |a| map_text(a, clock_time)),
        Function::text("instant_lenient", Arity::Between(1, 1), instant(), |a| {
            let instants: TimestampMicrosecondArray =
                strings(&a[0]).iter().map(|v| v.and_then(instant_lenient).map(|i| i.timestamp_micros())).collect();
            Ok(Arc::new(instants.with_timezone("UTC")))
        }),
        Function::new(
            "local_instant",
            Arity::Between(3, 3),
            &[DataType::Date32, DataType::Utf8, DataType::Utf8],
            instant(),
            local_instant,
        ),
    ]
}

fn instant() -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))
}

/// `clock_time(text)`: a time of day as `HH:MM`, from `9:30`, `16:00:00`, a bare hour or `4 PM`.
pub fn clock_time(text: &str) -> Option<String> {
    let text = text.trim().to_ascii_lowercase().replace('.', "");
    let (body, noon) = match (text.strip_suffix("am"), text.strip_suffix("pm")) {
        (Some(body), _) => (body.trim_end(), Some(false)),
        (_, Some(body)) => (body.trim_end(), Some(true)),
        _ => (text.as_str(), None),
    };
    let mut parts = body.split(':');
    let mut number = |most: u32| -> Option<Option<u32>> {
        let Some(part) = parts.next() else { return Some(None) };
        let digits = (1..=2).contains(&part.len()) && part.bytes().all(|b| b.is_ascii_digit());
        let value: u32 = digits.then(|| part.parse().ok())??;
        (value <= most).then_some(Some(value))
    };
    let (hour, minute) = (number(24)??, number(59)?.unwrap_or(0));
    number(59)?;
    let hour = match noon {
        None => hour,
        Some(_) if hour == 0 || hour > 12 => return None,
        Some(afternoon) => hour % 12 + if afternoon { 12 } else { 0 },
    };
    (parts.next().is_none() && hour < 24).then(|| format!("{hour:02}:{minute:02}"))
}

/// `instant_lenient(text)`: the instant in an ISO 8601 text, in its basic form too, with a blank for the `T`, with or
/// without fractions, with a zone's name in brackets behind it. Without an offset it is taken for UTC.
pub fn instant_lenient(text: &str) -> Option<DateTime<Utc>> {
    let text = text.trim();
    let text = text.split('[').next().unwrap_or(text).trim_end();
    if let Ok(instant) = DateTime::parse_from_rfc3339(text) {
        return Some(instant.to_utc());
    }
    let bare = text.strip_suffix(['Z', 'z']).unwrap_or(text);
    let naive = ["%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%dT%H:%M", "%Y%m%dT%H%M%S"]
        .iter()
        .find_map(|format| NaiveDateTime::parse_from_str(bare, format).ok());
    let naive = naive.or_else(|| NaiveDate::parse_from_str(bare, "%Y-%m-%d").ok().map(|d| d.and_time(NaiveTime::MIN)));
    match naive {
        Some(naive) => Some(naive.and_utc()),
        None => ["%Y-%m-%dT%H:%M:%S%.f%z", "%Y-%m-%d %H:%M:%S%.f %z"]
            .iter()
            .find_map(|format| DateTime::parse_from_str(text, format).ok())
            .map(|i| i.to_utc()),
    }
}

/// `local_instant(day, time, zone)`: the instant at which that time strikes there; where clocks skip it, the first instant
/// behind the gap, where they strike it twice, the first one. A time that is no time is midnight, an unknown zone UTC.
fn local_instant(args: &[ArrayRef]) -> Result<ArrayRef> {
    let days = args[0].as_primitive::<Date32Type>();
    let (times, zones) = (strings(&args[1]), strings(&args[2]));
    let instants = days.iter().zip(times.iter().zip(zones.iter())).map(|(day, (time, zone))| {
        let day = Date32Type::to_naive_date_opt(day?)?;
        let time = time.and_then(|t| NaiveTime::parse_from_str(t, "%H:%M").ok()).unwrap_or(NaiveTime::MIN);
        let zone = zone.and_then(time_zone).unwrap_or(Tz::UTC);
        let struck = (0..8).find_map(|quarters| {
            let time = day.and_time(time).checked_add_signed(TimeDelta::minutes(15 * quarters))?;
            zone.from_local_datetime(&time).earliest()
        });
        struck.map(|i| i.timestamp_micros())
    });
    Ok(Arc::new(instants.collect::<TimestampMicrosecondArray>().with_timezone("UTC")))
}

/// `date_lenient(text)`: the day in `2026-08-01`, `2026-8-1`, `8/1/2026`, `20260801`, `Aug 1, 2026` and the like, with
/// or without a time behind it, which is not looked at. `None` for what is not a day between the years 1900 and 2200.
pub fn date_lenient(text: &str) -> Option<NaiveDate> {
    let text = text.trim();
    let numbers = |part: &str, sign: char| -> Option<[u32; 3]> {
        let mut parts = part.split(sign).map(|p| {
            (p.len() <= 4 && !p.is_empty() && p.bytes().all(|b| b.is_ascii_digit())).then(|| p.parse().ok()).flatten()
        });
        let found = [parts.next()??, parts.next()??, parts.next()??];
        parts.next().is_none().then_some(found)
    };
    let day = text.split(['T', ' ']).next().unwrap_or(text);
    let date = if let Some([year, month, day]) = numbers(day, '-').filter(|n| n[0] > 31) {
        NaiveDate::from_ymd_opt(year as i32, month, day)
    } else if let Some([year, month, day]) = numbers(day, '/').filter(|n| n[0] > 31) {
        NaiveDate::from_ymd_opt(year as i32, month, day)
    } else if let Some([month, day, year]) = numbers(day, '/').or_else(|| numbers(day, '-')) {
        let year = if year < 100 { 2000 + year } else { year };
        NaiveDate::from_ymd_opt(year as i32, month, day)
    } else if day.len() == 8 && day.bytes().all(|b| b.is_ascii_digit()) {
        NaiveDate::parse_from_str(day, "%Y%m%d").ok()
    } else {
        ["%b %d, %Y", "%B %d, %Y", "%d %b %Y", "%d %B %Y"]
            .iter()
            .find_map(|format| NaiveDate::parse_and_remainder(text, format).ok())
            .filter(|(_, rest)| rest.is_empty() || rest.starts_with([' ', ',']))
            .map(|(date, _)| date)
    };
    date.filter(|d| (1900..2200).contains(&chrono::Datelike::year(d)))
}

/// `time_zone(text)`: the time zone of an IANA name in any case, or of a Windows name as vendors on that system give it.
pub fn time_zone(text: &str) -> Option<Tz> {
    let text = text.trim();
    let name = WINDOWS.iter().find(|(windows, _)| windows.eq_ignore_ascii_case(text)).map_or(text, |(_, iana)| iana);
    static ZONES: LazyLock<HashMap<String, Tz>> =
        LazyLock::new(|| chrono_tz::TZ_VARIANTS.iter().map(|z| (z.name().to_ascii_lowercase(), *z)).collect());
    ZONES.get(&name.to_ascii_lowercase()).copied()
}

/// Windows zone ids and their IANA zone, from the territory-free rows of Unicode CLDR's `windowsZones` table, for the
/// Americas, Europe and the Pacific; with the short words that people use in the United States.
const WINDOWS: [(&str, &str); 43] = [
    ("Eastern Standard Time", "America/New_York"),
    ("US Eastern Standard Time", "America/Indiana/Indianapolis"),
    ("Central Standard Time", "America/Chicago"),
    ("Mountain Standard Time", "America/Denver"),
    ("US Mountain Standard Time", "America/Phoenix"),
    ("Pacific Standard Time", "America/Los_Angeles"),
    ("Alaskan Standard Time", "America/Anchorage"),
    ("Hawaiian Standard Time", "Pacific/Honolulu"),
    ("Aleutian Standard Time", "America/Adak"),
    ("Atlantic Standard Time", "America/Halifax"),
    ("Newfoundland Standard Time", "America/St_Johns"),
    ("Canada Central Standard Time", "America/Regina"),
    ("Central Standard Time (Mexico)", "America/Mexico_City"),
    ("Mountain Standard Time (Mexico)", "America/Mazatlan"),
    ("Pacific Standard Time (Mexico)", "America/Tijuana"),
    ("Eastern Standard Time (Mexico)", "America/Cancun"),
    ("Central America Standard Time", "America/Guatemala"),
    ("SA Western Standard Time", "America/La_Paz"),
    ("SA Pacific Standard Time", "America/Bogota"),
    ("SA Eastern Standard Time", "America/Cayenne"),
    ("E. South America Standard Time", "America/Sao_Paulo"),
    ("Argentina Standard Time", "America/Argentina/Buenos_Aires"),
    ("GMT Standard Time", "Europe/London"),
    ("Greenwich Standard Time", "Atlantic/Reykjavik"),
    ("W. Europe Standard Time", "Europe/Berlin"),
    ("Romance Standard Time", "Europe/Paris"),
    ("Central Europe Standard Time", "Europe/Budapest"),
    ("Central European Standard Time", "Europe/Warsaw"),
    ("FLE Standard Time", "Europe/Kyiv"),
    ("GTB Standard Time", "Europe/Bucharest"),
    ("E. Europe Standard Time", "Europe/Chisinau"),
    ("AUS Eastern Standard Time", "Australia/Sydney"),
    ("E. Australia Standard Time", "Australia/Brisbane"),
    ("W. Australia Standard Time", "Australia/Perth"),
    ("New Zealand Standard Time", "Pacific/Auckland"),
    ("West Pacific Standard Time", "Pacific/Port_Moresby"),
    ("Coordinated Universal Time", "Etc/UTC"),
    ("Eastern", "America/New_York"),
    ("Central", "America/Chicago"),
    ("Mountain", "America/Denver"),
    ("Pacific", "America/Los_Angeles"),
    ("Alaska", "America/Anchorage"),
    ("Hawaii", "Pacific/Honolulu"),
];

/// `local_date(instant, zone)`: the day that the instant falls on there; in UTC when the zone is null or unknown.
fn local_date(args: &[ArrayRef]) -> Result<ArrayRef> {
    let instants = args[0].as_primitive::<TimestampMicrosecondType>();
    let zones = strings(&args[1]);
    let days = instants.iter().zip(zones.iter()).map(|(instant, zone)| {
        let instant = DateTime::from_timestamp_micros(instant?)?;
        let zone = zone.and_then(time_zone).unwrap_or(Tz::UTC);
        Some(Date32Type::from_naive_date(instant.with_timezone(&zone).date_naive()))
    });
    Ok(Arc::new(days.collect::<Date32Array>()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_are_read_in_the_usual_forms() {
        let day = NaiveDate::from_ymd_opt(2026, 8, 1);
        for text in [
            "2026-08-01",
            "2026-8-1",
            " 2026-08-01T00:00:00Z",
            "2026-08-01 12:30:00.5",
            "8/1/2026",
            "08/01/2026 12:00:00 AM",
            "8/1/26",
            "20260801",
            "Aug 1, 2026",
            "August 1, 2026",
            "1 Aug 2026",
            "2026/8/1",
        ] {
            assert_eq!(date_lenient(text), day, "{text}");
        }
        for text in ["", "2026-13-01", "2026-02-30", "0999-01-01", "soon", "1/2", "2026-08-01-02", "99999-01-01"] {
            assert_eq!(date_lenient(text), None, "{text}");
        }
    }

    #[test]
    fn every_windows_zone_is_known_to_chrono() {
        for (windows, iana) in WINDOWS {
            assert_eq!(time_zone(windows).map(|z| z.name()), Some(iana));
        }
        assert_eq!(time_zone("america/chicago"), Some(Tz::America__Chicago));
        assert_eq!(time_zone("Middle of Nowhere"), None);
    }
}
