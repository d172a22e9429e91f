//! What must not be kept, however it was sent: cards, passports, codes of doors.

use std::borrow::Cow;
use std::fmt;

use bytes::Bytes;
use connectors::webhook::is_payment;
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::Value;
use serde_json::value::RawValue;

use crate::privacy::cards;

/// Parts of field names, in lower case and without anything but letters. What such fields hold becomes null.
const SECRET: [&str; 41] = [
    "cardnumber",
    "creditcard",
    "debitcard",
    "paymentcard",
    "bankcard",
    "cardholder",
    "cardtoken",
    "numbertoken",
    "ccnumber",
    "cvv",
    "cvc",
    "securitycode",
    "iban",
    "bankaccount",
    "accountnumber",
    "stripe",
    "socialsecurity",
    "passport",
    "identitynumber",
    "identitycard",
    "identitydocument",
    "driverlicen",
    "driverslicen",
    "drivinglicen",
    "nationality",
    "birthday",
    "birthdate",
    "dateofbirth",
    "guestpicture",
    "doorcode",
    "doorlock",
    "smartlock",
    "lockbox",
    "keycode",
    "keypad",
    "lockcode",
    "accesscode",
    "gatecode",
    "entrycode",
    "passcode",
    "wifipassword",
];
/// Whole names of fields, written alike: as parts they would be in harmless ones.
const SECRET_WHOLE: [&str; 15] = [
    "card",
    "cards",
    "pan",
    "cvn",
    "csc",
    "door",
    "doors",
    "lock",
    "locks",
    "pin",
    "ssn",
    "idcard",
    "idnumber",
    "nationalid",
    "nationalidnumber",
];
/// Fields that say what their object is.
const KINDS: [&str; 5] = ["type", "kind", "documenttype", "doctype", "idtype"];
/// Fields that name what stands in another field of their object.
const LABELS: [&str; 5] = ["name", "label", "key", "field", "fieldname"];
/// That other field.
const LABELLED: [&str; 3] = ["value", "values", "answer"];
/// Kinds of documents that say who somebody is.
const DOCUMENTS: [&str; 7] =
    ["passport", "identitycard", "identitydocument", "driverlicen", "driverslicen", "drivinglicen", "residencepermit"];

/// A body without the values of secret fields and without numbers of cards, everything else as it was: JSON byte for byte,
/// where nothing goes other formats too. Of what looks like JSON or XML and is not whole nothing is left, since nothing of
/// it can be told apart.
pub(super) fn without_secrets(body: &Bytes) -> Bytes {
    let Ok(text) = std::str::from_utf8(body) else { return body.clone() };
    match unmarked(text).trim_start().as_bytes().first() {
        Some(b'{' | b'[' | b'<') => whole(body).unwrap_or_default(),
        _ => plain(text).map_or_else(|| body.clone(), Bytes::from),
    }
}

/// The same of a body that is whole JSON or XML, nested as deeply as is taken at the most; else nothing. Nobody vouches for
/// what was refused, so of other formats nothing of it is kept.
pub(super) fn whole(body: &Bytes) -> Option<Bytes> {
    let text = std::str::from_utf8(body).ok()?;
    let text = unmarked(text);
    if text.trim_start().starts_with('<') {
        let clean = catalog::xml::without(
            text,
            |name| is_payment(name) || secret(name),
            |name, text| if refers(name) { None } else { cards::without(text) },
        )?;
        return Some(Bytes::from(clean));
    }
    if !text.trim_start().starts_with(['{', '[']) {
        return None;
    }
    let raw = serde_json::from_str::<&RawValue>(text).ok()?;
    let mut scrubbed = Scrubbed { out: String::with_capacity(text.len()), changed: false };
    scrubbed.value(raw, false);
    Some(if scrubbed.changed { Bytes::from(scrubbed.out) } else { body.clone() })
}

/// Without the mark that some senders put before a text.
fn unmarked(text: &str) -> &str {
    text.strip_prefix('\u{feff}').unwrap_or(text)
}

/// A form, or plain words. `None` when nothing goes.
fn plain(text: &str) -> Option<String> {
    if !text.contains('=') || text.contains(char::is_whitespace) {
        return cards::without(text);
    }
    let mut changed = false;
    let mut form = url::form_urlencoded::Serializer::new(String::new());
    for (name, value) in url::form_urlencoded::parse(text.as_bytes()) {
        let clean = if secret(&name) { Some(String::new()) } else { cards::without(&value) };
        changed |= clean.is_some();
        form.append_pair(&name, &clean.map_or(value, Cow::Owned));
    }
    changed.then(|| form.finish())
}

/// A name as names are compared: lower case, letters only.
fn letters(name: &str) -> String {
    name.chars().filter(char::is_ascii_alphabetic).map(|c| c.to_ascii_lowercase()).collect()
}

fn secret(name: &str) -> bool {
    let name = letters(name);
    SECRET_WHOLE.contains(&&*name) || contains_any(&name, &SECRET)
}

fn contains_any(name: &str, words: &[&str]) -> bool {
    // By far the most names hold none of them: their first letters settle it without a search for each.
    let name = name.as_bytes();
    (0..name.len())
        .any(|at| words.iter().any(|word| word.as_bytes()[0] == name[at] && name[at..].starts_with(word.as_bytes())))
}

/// Whether a field holds a number by which others know something, or by which somebody is called: in one of ten such
/// numbers a card's could be seen.
fn refers(name: &str) -> bool {
    let name = letters(name);
    ["id", "ids", "url", "code", "ref", "reference"].iter().any(|end| name.ends_with(end))
        || ["phone", "mobile", "fax", "confirmation", "reservationnumber", "bookingnumber", "timestamp"]
            .iter()
            .any(|part| name.contains(part))
}

/// JSON on its way to be kept.
struct Scrubbed {
    out: String,
    changed: bool,
}

impl Scrubbed {
    fn value(&mut self, raw: &RawValue, refers_here: bool) {
        let text = raw.get();
        // Bodies that are nested deeply are refused before, so this ends.
        match text.as_bytes().first() {
            Some(b'{') => match serde_json::from_str::<Fields<'_>>(text) {
                Ok(Fields(fields)) => self.object(&fields, refers_here),
                Err(_) => self.drop(text),
            },
            Some(b'[') => match serde_json::from_str::<Vec<&RawValue>>(text) {
                Ok(items) => {
                    self.out.push('[');
                    for (at, item) in items.into_iter().enumerate() {
                        self.out.push_str(if at == 0 { "" } else { "," });
                        self.value(item, refers_here);
                    }
                    self.out.push(']');
                }
                Err(_) => self.drop(text),
            },
            Some(b'"') if !refers_here => match said(text).as_deref().and_then(cards::without) {
                Some(clean) => {
                    self.out.push_str(&Value::from(clean).to_string());
                    self.changed = true;
                }
                None => self.out.push_str(text),
            },
            Some(b'0'..=b'9') if !refers_here && cards::is_card(text) => self.drop(text),
            _ => self.out.push_str(text),
        }
    }

    fn object(&mut self, fields: &[(Cow<'_, str>, &RawValue)], refers_here: bool) {
        let names = |(name, value): &(Cow<'_, str>, &RawValue), among: &[&str], is: &dyn Fn(&str) -> bool| {
            value.get().starts_with('"')
                && among.contains(&&*letters(name))
                && said(value.get()).is_some_and(|v| is(&v))
        };
        if fields.iter().any(|field| names(field, &KINDS, &|kind| contains_any(&letters(kind), &DOCUMENTS))) {
            return self.drop("{}");
        }
        let labelled = fields.iter().any(|field| names(field, &LABELS, &secret) || names(field, &KINDS, &secret));
        self.out.push('{');
        for (at, (name, value)) in fields.iter().enumerate() {
            self.out.push_str(if at == 0 { "" } else { "," });
            self.out.push_str(&Value::from(&**name).to_string());
            self.out.push(':');
            match secret(name) || (labelled && LABELLED.contains(&&*letters(name))) {
                true => self.drop(value.get()),
                false => self.value(value, refers_here || refers(name)),
            }
        }
        self.out.push('}');
    }

    fn drop(&mut self, text: &str) {
        self.out.push_str("null");
        self.changed |= text != "null";
    }
}

/// What a JSON text says.
fn said(text: &str) -> Option<Cow<'_, str>> {
    match text.contains('\\') {
        true => serde_json::from_str::<String>(text).ok().map(Cow::Owned),
        false => text.get(1..text.len() - 1).map(Cow::Borrowed),
    }
}

/// The fields of an object in their order, repeated ones too.
struct Fields<'a>(Vec<(Cow<'a, str>, &'a RawValue)>);

impl<'de> Deserialize<'de> for Fields<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct InOrder;
        impl<'de> Visitor<'de> for InOrder {
            type Value = Fields<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut fields = Vec::new();
                while let Some((name, value)) = map.next_entry::<String, &'de RawValue>()? {
                    fields.push((Cow::Owned(name), value));
                }
                Ok(Fields(fields))
            }
        }
        deserializer.deserialize_map(InOrder)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scrubbed(text: &str) -> String {
        String::from_utf8(without_secrets(&Bytes::copy_from_slice(text.as_bytes())).to_vec()).unwrap()
    }

    #[test]
    fn secrets_go_and_everything_else_stays_as_written() {
        let clean = r#"{ "total": 1500.00, "note": "no card", "list": [ ], "code": null,
            "shipping": "a\n\u00fc", "listing_id": "4111111111111111", "id": 4111111111111111, "phones": [{"number": "4111111111111111"}] }"#;
        assert_eq!(scrubbed(clean), clean, "untouched, white space included");
        let body = r#"{"total": 1500.00, "a": 1, "a": 2, "payment": [{"card_number": "4111", "CVV": 123, "ok": "ü"}, []],
            "guest": {"passportNumber": {"n": "X"}}, "keyCode": "77", "door\u0043ode": "9"}"#;
        assert_eq!(
            scrubbed(body),
            r#"{"total":1500.00,"a":1,"a":2,"payment":[{"card_number":null,"CVV":null,"ok":"ü"},[]],"guest":{"passportNumber":null},"keyCode":null,"doorCode":null}"#
        );
        for (body, kept) in [
            (
                r#"{"card":{"number":"4242"},"payment":{"pan":"4242","amount":"9"}}"#,
                r#"{"card":null,"payment":{"pan":null,"amount":"9"}}"#,
            ),
            (
                r#"{"guest":{"identityNumber":"X1","birthday":"1"}}"#,
                r#"{"guest":{"identityNumber":null,"birthday":null}}"#,
            ),
            (r#"{"document":{"type":"passport","value":"X1"}}"#, r#"{"document":null}"#),
            (r#"{"door":{"code":"7788"},"lock":"7788"}"#, r#"{"door":null,"lock":null}"#),
            (
                r#"{"fields":[{"name":"Door code","value":"7788","at":1}]}"#,
                r#"{"fields":[{"name":"Door code","value":null,"at":1}]}"#,
            ),
            (
                r#"{"listing":{"name":"Passport Inn","text":"x"},"company":"a","spinner":1}"#,
                r#"{"listing":{"name":"Passport Inn","text":"x"},"company":"a","spinner":1}"#,
            ),
            (
                r#"{"say":"it is 4111\u00201111 1111 1111","n":[4111111111111111, 5]}"#,
                r#"{"say":"it is [card removed]","n":[null,5]}"#,
            ),
            ("\u{feff}{\"pin\":1}", "{\"pin\":null}"),
            (
                "card_number=4111&cvv=123&note=4111+1111+1111+1111&id=7%26",
                "card_number=&cvv=&note=%5Bcard+removed%5D&id=7%26",
            ),
            ("a=b&c=%64", "a=b&c=%64"),
            ("call 4111111111111111", "call [card removed]"),
            (r#"{"total": "4111"#, ""),
            ("<cardNumber>", ""),
            (
                "<a:b><a:paymentForm><paymentCard><number>4</number></paymentCard></a:paymentForm><m cvv='1' x='2'>4111 1111 1111 1111</m><id>4111111111111111</id><doorCode>7</doorCode></a:b>",
                "<a:b><m x=\"2\">[card removed]</m><id>4111111111111111</id></a:b>",
            ),
        ] {
            assert_eq!(scrubbed(body), kept, "{body}");
        }
    }

    #[test]
    fn of_what_was_refused_only_whole_documents_are_left() {
        for (body, kept) in [
            (r#"{"card":"4"}"#, Some(r#"{"card":null}"#)),
            ("<a><card/></a>", Some("<a></a>")),
            ("card_number=4111", None),
            ("4111", None),
            (r#"{"a":"4111"#, None),
            ("<a>4111", None),
            ("<!DOCTYPE a [<!ENTITY x '4111'>]><a>&x;</a>", None),
            ("", None),
        ] {
            let kept = kept.map(|text| Bytes::copy_from_slice(text.as_bytes()));
            assert_eq!(whole(&Bytes::copy_from_slice(body.as_bytes())), kept, "{body}");
        }
    }
}
