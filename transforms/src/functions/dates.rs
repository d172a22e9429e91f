//! Days and time zones as vendors write them.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock};

use arrow::array::{ArrayRef, AsArray, Date32Array, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, Date32Type, TimeUnit, TimestampMicrosecondType};
use chrono::{DateTime, NaiveDate, NaiveDateTime, NaiveTime, Offset, TimeDelta, TimeZone, Utc};
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

/// `time_zone(text)`: the time zone of an IANA name in any case, of a Windows id, or of the name that people use in the
/// United States and Canada, as vendors write them: `Eastern Time (GMT -0500)`, `(UTC-05:00) Eastern Time (US & Canada)`.
/// Nothing when the name is not known, could be several, or contradicts the offset beside it.
///
/// The ids are those of Unicode CLDR's table `windowsZones` (`common/supplemental/windowsZones.xml`), the other names those
/// that Windows shows for these ids; old IANA names are followed to where the database's file `backward` links them.
pub fn time_zone(text: &str) -> Option<Tz> {
    let text = text.trim().to_ascii_lowercase();
    zone_of_id(&text).or_else(|| {
        let (name, offset) = without_offset(&text)?;
        let zone = zone_of_id(&name).or_else(|| zone_of_name(&name))?;
        offset.is_none_or(|minutes| has_offset(zone, minutes)).then_some(zone)
    })
}

fn zone_of_id(id: &str) -> Option<Tz> {
    static ZONES: LazyLock<HashMap<String, Tz>> = LazyLock::new(|| {
        let mut zones: HashMap<_, _> =
            chrono_tz::TZ_VARIANTS.iter().map(|z| (z.name().to_ascii_lowercase(), *z)).collect();
        for (id, iana) in WINDOWS.iter().chain(&LINKS) {
            zones.extend(iana.parse().ok().map(|zone| (id.to_ascii_lowercase(), zone)));
        }
        zones
    });
    ZONES.get(id).copied()
}

/// A name and the offset from UTC in minutes that is written before or behind it, such as `(gmt -0500)` or `utc-05:00`.
/// Nothing when what follows `gmt` or `utc` is no offset.
fn without_offset(text: &str) -> Option<(String, Option<i32>)> {
    let Some(at) = text.find("gmt").or_else(|| text.find("utc")) else { return Some((text.to_owned(), None)) };
    let (before, rest) = (&text[..at], text[at + 3..].trim_start());
    let west = rest.starts_with(['-', '\u{2212}']);
    let rest = rest.strip_prefix(['-', '\u{2212}', '+'])?.trim_start();
    let end = rest.find(|c: char| !c.is_ascii_digit() && c != ':').unwrap_or(rest.len());
    let (digits, after) = rest.split_at(end);
    let (hours, minutes) = match (digits.split_once(':'), digits.len()) {
        (Some(parts), _) => parts,
        (None, 4) => digits.split_at(2),
        (None, 1 | 2) => (digits, "0"),
        _ => return None,
    };
    let (hours, minutes): (u8, u8) = (hours.parse().ok()?, minutes.parse().ok()?);
    let offset = i32::from(hours) * 60 + i32::from(minutes);
    let before = before.trim_end();
    let (before, after) = match before.strip_suffix('(') {
        Some(before) => (before, after.trim_start().strip_prefix(')')?),
        None => (before, after),
    };
    let name = format!("{} {}", before.trim(), after.trim());
    Some((name.trim_matches([' ', '-', ',', ':']).to_owned(), Some(if west { -offset } else { offset })))
}

/// Whether the clocks of a zone show this offset in winter or in summer.
fn has_offset(zone: Tz, minutes: i32) -> bool {
    [1, 7].into_iter().any(|month| {
        let day = NaiveDate::from_ymd_opt(2026, month, 1).unwrap_or_default().and_time(NaiveTime::MIN);
        zone.offset_from_utc_datetime(&day).fix().local_minus_utc() == minutes * 60
    })
}

/// The zone of a name such as `eastern time (us & canada)` or `us pacific`.
fn zone_of_name(name: &str) -> Option<Tz> {
    let name = name.replace("u.s.", "us");
    let words = name.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
    let told: Vec<&str> = words.filter(|w| !["time", "zone", "standard", "daylight", "and"].contains(w)).collect();
    let core = match told.as_slice() {
        ["us", core @ ..] | [core @ .., "us" | "usa"] | [core @ .., "us" | "usa", "canada"] => core,
        all => all,
    };
    let core = core.join(" ");
    NAMES.iter().find(|(name, _)| *name == core)?.1.parse().ok()
}

/// What zones are called in the United States and Canada, without what is around it.
const NAMES: [(&str, &str); 23] = [
    ("eastern", "America/New_York"),
    ("est edt", "America/New_York"),
    ("central", "America/Chicago"),
    ("cst cdt", "America/Chicago"),
    ("mountain", "America/Denver"),
    ("mst mdt", "America/Denver"),
    ("pacific", "America/Los_Angeles"),
    ("pst pdt", "America/Los_Angeles"),
    ("alaska", "America/Anchorage"),
    ("alaskan", "America/Anchorage"),
    ("hawaii", "Pacific/Honolulu"),
    ("hawaiian", "Pacific/Honolulu"),
    ("hawaii aleutian", "Pacific/Honolulu"),
    ("aleutian islands", "America/Adak"),
    ("arizona", "America/Phoenix"),
    ("mountain arizona", "America/Phoenix"),
    ("indiana east", "America/Indiana/Indianapolis"),
    ("atlantic", "America/Halifax"),
    ("atlantic canada", "America/Halifax"),
    ("newfoundland", "America/St_Johns"),
    ("newfoundland canada", "America/St_Johns"),
    ("saskatchewan", "America/Regina"),
    ("yukon", "America/Whitehorse"),
];

/// Old IANA names of the United States and Canada.
const LINKS: [(&str, &str); 25] = [
    ("US/Alaska", "America/Anchorage"),
    ("US/Aleutian", "America/Adak"),
    ("US/Arizona", "America/Phoenix"),
    ("US/Central", "America/Chicago"),
    ("US/East-Indiana", "America/Indiana/Indianapolis"),
    ("US/Eastern", "America/New_York"),
    ("US/Hawaii", "Pacific/Honolulu"),
    ("US/Indiana-Starke", "America/Indiana/Knox"),
    ("US/Michigan", "America/Detroit"),
    ("US/Mountain", "America/Denver"),
    ("US/Pacific", "America/Los_Angeles"),
    ("US/Samoa", "Pacific/Pago_Pago"),
    ("Canada/Atlantic", "America/Halifax"),
    ("Canada/Central", "America/Winnipeg"),
    ("Canada/Eastern", "America/Toronto"),
    ("Canada/Mountain", "America/Edmonton"),
    ("Canada/Newfoundland", "America/St_Johns"),
    ("Canada/Pacific", "America/Vancouver"),
    ("Canada/Saskatchewan", "America/Regina"),
    ("Canada/Yukon", "America/Whitehorse"),
    ("EST5EDT", "America/New_York"),
    ("CST6CDT", "America/Chicago"),
    ("MST7MDT", "America/Denver"),
    ("PST8PDT", "America/Los_Angeles"),
    ("Navajo", "America/Denver"),
];

/// Windows zone ids and their IANA zone, from the territory-free rows of Unicode CLDR's `windowsZones` table, for the
/// Americas, Europe and the Pacific.
const WINDOWS: [(&str, &str); 38] = [
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
    ("Yukon Standard Time", "America/Whitehorse"),
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
    use proptest::prelude::*;

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
    fn every_listed_zone_is_known_to_chrono() {
        for (id, iana) in WINDOWS.iter().chain(&LINKS).chain(&NAMES) {
            for text in [id.to_string(), format!(" {} ", id.to_uppercase())] {
                assert_eq!(time_zone(&text).map(|z| z.name()), Some(*iana), "{text}");
            }
        }
        assert_eq!(time_zone("america/chicago"), Some(Tz::America__Chicago));
        assert_eq!(time_zone("Etc/GMT+5"), Some(Tz::Etc__GMTPlus5));
        // Standard and daylight time in minutes, as Windows shows the zones of the two countries.
        for (text, iana) in [
            ("Eastern Time (GMT -0500)", "America/New_York"),
            ("(UTC-05:00) Eastern Time (US & Canada)", "America/New_York"),
            ("(GMT-06:00) Central Time (US and Canada)", "America/Chicago"),
            ("(UTC-05:00) US Eastern Standard Time", "America/Indiana/Indianapolis"),
            ("(UTC-05:00) Indiana (East)", "America/Indiana/Indianapolis"),
            ("(UTC-04:00) Eastern Daylight Time", "America/New_York"),
            ("(UTC-07:00) Arizona", "America/Phoenix"),
            ("(UTC-10:00) Hawaii", "Pacific/Honolulu"),
            ("(UTC-09:00) Alaska", "America/Anchorage"),
            ("(UTC-04:00) Atlantic Time (Canada)", "America/Halifax"),
            ("(UTC-03:30) Newfoundland", "America/St_Johns"),
            ("(UTC-06:00) Saskatchewan", "America/Regina"),
            ("Pacific Time (U.S. & Canada)", "America/Los_Angeles"),
            ("GMT-7 Mountain Time", "America/Denver"),
            ("US Mountain Time", "America/Denver"),
            ("US Mountain Standard Time", "America/Phoenix"),
            ("(UTC+01:00) W. Europe Standard Time", "Europe/Berlin"),
        ] {
            assert_eq!(time_zone(text).map(|z| z.name()), Some(iana), "{text}");
        }
        for text in [
            "",
            "()",
            "Middle of Nowhere",
            "CST",
            "Canada Central",
            "Pacific Time (Canada)",
            "(UTC-05:00)",
            "GMT -0500",
            "Eastern Time (GMT)",
            "Eastern Time (GMT -0500",
            "Eastern Time (GMT -05000)",
            "Eastern Time (GMT -:)",
            "(UTC-06:00) Central America Time",
            "Eastern Pacific",
            "us",
            "us canada",
            "time",
            "utc-5 utc-5 eastern",
        ] {
            assert_eq!(time_zone(text), None, "{text}");
        }
    }

    proptest! {
        /// However a name is decorated, it is the same zone; beside an offset that its clocks never show, it is none.
        #[test]
        fn a_zone_is_known_by_its_name_whatever_stands_around_it(
            (name, iana) in prop::sample::select(NAMES.to_vec()),
            kind in prop::sample::select(vec!["", " time", " standard time", " daylight time", " time zone"]),
            place in prop::sample::select(vec!["", " (us & canada)", " (us and canada)", " (us)", " - usa"]),
            zone in prop::sample::select(vec!["UTC", "GMT"]), form in 0..6_usize, summer in any::<bool>(), upper in any::<bool>(),
            wrong in (-14 * 4..14 * 4_i32).prop_map(|quarters| quarters * 15),
        ) {
            let tz: Tz = iana.parse().unwrap();
            let words = format!("{name}{kind}{place}");
            let day = NaiveDate::from_ymd_opt(2026, if summer { 7 } else { 1 }, 15).unwrap().and_time(NaiveTime::MIN);
            let told = tz.offset_from_utc_datetime(&day).fix().local_minus_utc() / 60;
            let write = |minutes: i32| {
                let (sign, h, m) = (if minutes < 0 { '-' } else { '+' }, minutes.abs() / 60, minutes.abs() % 60);
                let text = match form {
                    0 => format!("({zone}{sign}{h:02}:{m:02}) {words}"),
                    1 => format!("{words} ({zone} {sign}{h:02}{m:02})"),
                    2 => format!("{zone}{sign}{h}:{m:02} {words}"),
                    3 => format!("{words}, {zone} {sign}{h:02}:{m:02}"),
                    4 => format!("{words} - ({zone}{sign}{h:02}{m:02})"),
                    _ => words.clone(),
                };
                if upper { text.to_uppercase() } else { text }
            };
            prop_assert_eq!(time_zone(&write(told)), Some(tz), "{}", write(told));
            let fits = form == 5 || has_offset(tz, wrong);
            prop_assert_eq!(time_zone(&write(wrong)), fits.then_some(tz), "{}", write(wrong));
        }

        #[test]
        fn no_text_is_too_odd_for_a_zone(text in "(?i)[a-z():+\u{2212}é0-9 -]{0,30}|(?i)(gmt|utc)[-+:0-9( )]{0,12}.{0,6}") {
            time_zone(&text);
        }
    }
}
