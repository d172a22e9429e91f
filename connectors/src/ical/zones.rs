//! Zones by the names that calendars use.

use chrono_tz::Tz;

/// Names of Windows and where they are, after the table that Unicode keeps (`windowsZones.xml`, territory 001).
const WINDOWS: &[(&str, Tz)] = &[
    ("AUS Eastern Standard Time", chrono_tz::Australia::Sydney),
    ("Afghanistan Standard Time", chrono_tz::Asia::Kabul),
    ("Alaskan Standard Time", chrono_tz::America::Anchorage),
    ("Arab Standard Time", chrono_tz::Asia::Riyadh),
    ("Arabian Standard Time", chrono_tz::Asia::Dubai),
    ("Argentina Standard Time", chrono_tz::America::Buenos_Aires),
    ("Atlantic Standard Time", chrono_tz::America::Halifax),
    ("Azores Standard Time", chrono_tz::Atlantic::Azores),
    ("Canada Central Standard Time", chrono_tz::America::Regina),
    ("Cape Verde Standard Time", chrono_tz::Atlantic::Cape_Verde),
    ("Central America Standard Time", chrono_tz::America::Guatemala),
    ("Central Europe Standard Time", chrono_tz::Europe::Budapest),
    ("Central European Standard Time", chrono_tz::Europe::Warsaw),
    ("Central Standard Time", chrono_tz::America::Chicago),
    ("Central Standard Time (Mexico)", chrono_tz::America::Mexico_City),
    ("China Standard Time", chrono_tz::Asia::Shanghai),
    ("E. Africa Standard Time", chrono_tz::Africa::Nairobi),
    ("E. Australia Standard Time", chrono_tz::Australia::Brisbane),
    ("E. South America Standard Time", chrono_tz::America::Sao_Paulo),
    ("Eastern Standard Time", chrono_tz::America::New_York),
    ("Eastern Standard Time (Mexico)", chrono_tz::America::Cancun),
    ("Egypt Standard Time", chrono_tz::Africa::Cairo),
    ("FLE Standard Time", chrono_tz::Europe::Kiev),
    ("GMT Standard Time", chrono_tz::Europe::London),
    ("GTB Standard Time", chrono_tz::Europe::Bucharest),
    ("Georgian Standard Time", chrono_tz::Asia::Tbilisi),
    ("Greenland Standard Time", chrono_tz::America::Godthab),
    ("Greenwich Standard Time", chrono_tz::Atlantic::Reykjavik),
    ("Hawaiian Standard Time", chrono_tz::Pacific::Honolulu),
    ("India Standard Time", chrono_tz::Asia::Kolkata),
    ("Israel Standard Time", chrono_tz::Asia::Jerusalem),
    ("Jordan Standard Time", chrono_tz::Asia::Amman),
    ("Korea Standard Time", chrono_tz::Asia::Seoul),
    ("Mauritius Standard Time", chrono_tz::Indian::Mauritius),
    ("Middle East Standard Time", chrono_tz::Asia::Beirut),
    ("Montevideo Standard Time", chrono_tz::America::Montevideo),
    ("Morocco Standard Time", chrono_tz::Africa::Casablanca),
    ("Mountain Standard Time", chrono_tz::America::Denver),
    ("New Zealand Standard Time", chrono_tz::Pacific::Auckland),
    ("Newfoundland Standard Time", chrono_tz::America::St_Johns),
    ("Pacific SA Standard Time", chrono_tz::America::Santiago),
    ("Pacific Standard Time", chrono_tz::America::Los_Angeles),
    ("Pacific Standard Time (Mexico)", chrono_tz::America::Tijuana),
    ("Romance Standard Time", chrono_tz::Europe::Paris),
    ("Russian Standard Time", chrono_tz::Europe::Moscow),
    ("SA Eastern Standard Time", chrono_tz::America::Cayenne),
    ("SA Pacific Standard Time", chrono_tz::America::Bogota),
    ("SA Western Standard Time", chrono_tz::America::La_Paz),
    ("SE Asia Standard Time", chrono_tz::Asia::Bangkok),
    ("Singapore Standard Time", chrono_tz::Asia::Singapore),
    ("South Africa Standard Time", chrono_tz::Africa::Johannesburg),
    ("Sri Lanka Standard Time", chrono_tz::Asia::Colombo),
    ("Taipei Standard Time", chrono_tz::Asia::Taipei),
    ("Tasmania Standard Time", chrono_tz::Australia::Hobart),
    ("Tokyo Standard Time", chrono_tz::Asia::Tokyo),
    ("Turkey Standard Time", chrono_tz::Europe::Istanbul),
    ("US Eastern Standard Time", chrono_tz::America::Indiana::Indianapolis),
    ("US Mountain Standard Time", chrono_tz::America::Phoenix),
    ("UTC", chrono_tz::UTC),
    ("Venezuela Standard Time", chrono_tz::America::Caracas),
    ("W. Australia Standard Time", chrono_tz::Australia::Perth),
    ("W. Central Africa Standard Time", chrono_tz::Africa::Lagos),
    ("W. Europe Standard Time", chrono_tz::Europe::Berlin),
    ("West Asia Standard Time", chrono_tz::Asia::Tashkent),
    ("West Pacific Standard Time", chrono_tz::Pacific::Port_Moresby),
];

/// The zone of a name: that of the tz database, with a vendor's path before it or not, or that of Windows.
pub(super) fn find(name: &str) -> Option<Tz> {
    let name = name.trim();
    if let Ok(zone) = name.parse() {
        return Some(zone);
    }
    // `/freeassociation.sourceforge.net/Tzfile/Europe/Berlin`
    if let Some((rest, city)) = name.rsplit_once('/') {
        let area = rest.rsplit('/').next().unwrap_or(rest);
        return format!("{area}/{city}").parse().ok();
    }
    WINDOWS.iter().find(|(windows, _)| windows.eq_ignore_ascii_case(name)).map(|(_, zone)| *zone)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zones_by_any_name() {
        assert_eq!(find("Europe/Zurich"), Some(chrono_tz::Europe::Zurich));
        assert_eq!(find("/mozilla.example/20050126_1/Europe/Berlin"), Some(chrono_tz::Europe::Berlin));
        assert_eq!(find("w. europe standard time"), Some(chrono_tz::Europe::Berlin));
        assert_eq!(find("Nowhere"), None);
        assert_eq!(find("a/b/c"), None);
    }
}
