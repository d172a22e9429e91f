//! What booking channels call things.

use std::sync::Arc;

use arrow::array::BooleanArray;
use arrow::datatypes::DataType;
use serde_json::{Map, Value};

use super::{Arity, Function, map_text, strings, text::snake};

pub(super) fn all() -> Vec<Function> {
    vec![
        Function::map("platform", |a| map_text(a, platform)),
        Function::map("channel_ids", |a| map_text(a, channel_ids)),
        Function::text("email_is_alias", Arity::Between(1, 1), DataType::Boolean, |a| {
            Ok(Arc::new(strings(&a[0]).iter().map(|v| v.map(email_is_alias)).collect::<BooleanArray>()))
        }),
    ]
}

/// `platform(text)`: where a guest booked, in one word: `airbnb2` and `Airbnb` are `airbnb`, `homeaway2` and Hostaway's
/// channel 2002 are `vrbo`, what was entered by hand or on an own site is `direct`. Any other name is itself in snake case.
pub fn platform(text: &str) -> Option<String> {
    let word = snake(text)?;
    let known = match word.as_str() {
        w if w.contains("airbnb") => "airbnb",
        "2018" => "airbnb",
        w if ["vrbo", "homeaway", "home_away", "abritel", "fewo", "stayz", "bookabach"]
            .iter()
            .any(|p| w.contains(p)) =>
        {
            "vrbo"
        }
        "2002" | "2009" | "2010" => "vrbo",
        "booking" | "2005" => "booking_com",
        w if w.starts_with("booking_com") || w.starts_with("bookingcom") => "booking_com",
        w if w.starts_with("expedia") => "expedia",
        "2007" => "expedia",
        "direct" | "manual" | "be_api" | "booking_engine" | "website" | "wordpress" | "phone" | "own_site" | "2000"
        | "2013" | "2017" => "direct",
        "2016" => "tripadvisor",
        "2019" => "marriott",
        "2022" => "google",
        _ => return Some(word),
    };
    Some(known.to_owned())
}

/// `email_is_alias(text)`: whether a booking site made the address for one stay. Such an address tells nothing about who
/// the guest is, and ends with the stay.
pub fn email_is_alias(text: &str) -> bool {
    const DOMAINS: [&str; 10] = [
        "guest.airbnb.com",
        "host.airbnb.com",
        "reply.airbnb.com",
        "guest.booking.com",
        "property.booking.com",
        "homeaway.com",
        "vrbo.com",
        "expediapartnercentral.com",
        "agoda-messaging.com",
        "guest.trip.com",
    ];
    let Some((_, domain)) = text.trim().trim_end_matches('>').rsplit_once('@') else { return false };
    let domain = domain.to_ascii_lowercase();
    DOMAINS.iter().any(|d| domain.strip_suffix(d).is_some_and(|rest| rest.is_empty() || rest.ends_with('.')))
}

/// `channel_ids(json)`: an object of platform to listing number, with platforms in one spelling and numbers as text. A
/// number given as a link is the last number in the link's path.
fn channel_ids(text: &str) -> Option<String> {
    let Value::Object(given) = serde_json::from_str(text).ok()? else { return None };
    let ids: Map<String, Value> = given
        .iter()
        .filter_map(|(name, id)| {
            let id = match id {
                Value::String(id) => id.trim().to_owned(),
                Value::Number(id) => id.to_string(),
                _ => return None,
            };
            let id = match id.split_once("://") {
                Some((_, rest)) => {
                    let path = rest.split(['?', '#']).next()?;
                    path.rsplit('/').find(|p| p.bytes().any(|b| b.is_ascii_digit()))?.to_owned()
                }
                None => id,
            };
            (!id.is_empty()).then(|| Some((platform(name)?, Value::String(id))))?
        })
        .collect();
    (!ids.is_empty()).then(|| Value::Object(ids).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn platforms_have_one_spelling() {
        for (from, to) in [
            ("airbnb2", "airbnb"),
            ("Airbnb Official", "airbnb"),
            ("2018", "airbnb"),
            ("homeaway2", "vrbo"),
            ("Vrbo", "vrbo"),
            ("bookingCom", "booking_com"),
            ("Booking.com", "booking_com"),
            ("Expedia Affiliate Network", "expedia"),
            ("manual", "direct"),
            ("be-api", "direct"),
            ("Holidu", "holidu"),
        ] {
            assert_eq!(platform(from).as_deref(), Some(to), "{from}");
        }
        assert_eq!(platform(" "), None);
    }

    #[test]
    fn addresses_that_sites_make_are_known() {
        for address in ["a-1x@guest.airbnb.com", "B@GUEST.BOOKING.COM ", "x@messages.homeaway.com", "y@vrbo.com"] {
            assert!(email_is_alias(address), "{address}");
        }
        for address in ["mira@mail.example", "owner@notvrbo.com", "airbnb.com", "guest.airbnb.com@mail.example"] {
            assert!(!email_is_alias(address), "{address}");
        }
    }

    #[test]
    fn numbers_of_platforms_are_text() {
        let given = r#"{"Airbnb": 971993004118237001, "vrboListingUrl": "https://www.vrbo.com/321.5.6?x=1", "Vrbo": "", "x": null}"#;
        let ids = channel_ids(given).and_then(|t| serde_json::from_str::<Value>(&t).ok());
        assert_eq!(ids, Some(serde_json::json!({ "airbnb": "971993004118237001", "vrbo": "321.5.6" })));
        assert_eq!(channel_ids("[]"), None);
        assert_eq!(channel_ids("{}"), None);
    }
}
