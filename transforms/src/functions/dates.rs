//! Days and time zones as vendors write them.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock};

use arrow::array::{ArrayRef, AsArray, Date32Array};
use arrow::datatypes::{DataType, Date32Type, TimeUnit, TimestampMicrosecondType};
use chrono::{DateTime, NaiveDate};
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
    ]
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
