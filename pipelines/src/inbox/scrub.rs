//! What must not be kept, however it was sent: cards, passports, codes of doors.

use std::borrow::Cow;
use std::fmt;

use bytes::Bytes;
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

/// Parts of field names, in lower case and without anything but letters. The values of such fields become null.
const SECRET: [&str; 18] = [
    "cardnumber",
    "creditcard",
    "ccnumber",
    "cvv",
    "cvc",
    "securitycode",
    "passport",
    "doorcode",
    "keycode",
    "lockcode",
    "accesscode",
    "gatecode",
    "entrycode",
    "iban",
    "socialsecurity",
    "bankaccount",
    "accountnumber",
    "wifipassword",
];

/// A JSON body without the values of secret fields, everything else byte for byte as it was. Bodies of other formats and
/// those without such fields are handed back as they are.
pub(super) fn without_secrets(body: &Bytes) -> Bytes {
    let Ok(text) = std::str::from_utf8(body) else { return body.clone() };
    if !suspicious(body) {
        return body.clone();
    }
    let Ok(raw) = serde_json::from_str::<&RawValue>(text) else {
        // Not whole JSON, such as the head of a refused body: nothing of it can be told apart.
        return if text.trim_start().starts_with(['{', '[']) { Bytes::new() } else { body.clone() };
    };
    let mut out = String::with_capacity(text.len());
    write(raw, &mut out);
    Bytes::from(out)
}

/// Whether a name of a secret field may be in there.
fn suspicious(body: &[u8]) -> bool {
    let letters: Vec<u8> = body.iter().filter(|b| b.is_ascii_alphabetic()).map(u8::to_ascii_lowercase).collect();
    let text = String::from_utf8(letters).unwrap_or_default();
    // An escaped letter hides a name from this look.
    SECRET.iter().any(|word| text.contains(word)) || body.windows(2).any(|pair| pair == b"\\u")
}

fn secret(name: &str) -> bool {
    let letters: String = name.chars().filter(char::is_ascii_alphabetic).map(|c| c.to_ascii_lowercase()).collect();
    SECRET.iter().any(|word| letters.contains(word))
}

fn write(raw: &RawValue, out: &mut String) {
    let text = raw.get();
    // Bodies that are nested deeply are refused before, so this ends.
    if let Some(Fields(fields)) = text.starts_with('{').then(|| serde_json::from_str(text).ok()).flatten() {
        out.push('{');
        for (at, (name, value)) in fields.into_iter().enumerate() {
            out.push_str(if at == 0 { "" } else { "," });
            out.push_str(&serde_json::Value::from(&*name).to_string());
            out.push(':');
            if secret(&name) { out.push_str("null") } else { write(value, out) }
        }
        out.push('}');
    } else if let Some(items) =
        text.starts_with('[').then(|| serde_json::from_str::<Vec<&RawValue>>(text).ok()).flatten()
    {
        out.push('[');
        for (at, item) in items.into_iter().enumerate() {
            out.push_str(if at == 0 { "" } else { "," });
            write(item, out);
        }
        out.push(']');
    } else {
        out.push_str(text);
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
        let clean = r#"{ "total": 1500.00, "note": "no card" }"#;
        assert_eq!(scrubbed(clean), clean, "untouched, white space included");
        let body = r#"{"total": 1500.00, "a": 1, "a": 2, "payment": [{"card_number": "4111", "CVV": 123, "ok": "ü"}],
            "guest": {"passportNumber": {"n": "X"}}, "keyCode": "77", "door\u0043ode": "9"}"#;
        assert_eq!(
            scrubbed(body),
            r#"{"total":1500.00,"a":1,"a":2,"payment":[{"card_number":null,"CVV":null,"ok":"ü"}],"guest":{"passportNumber":null},"keyCode":null,"doorCode":null}"#
        );
        assert_eq!(scrubbed(r#"{"card_number": "4111"#), "", "a torn body that may hold one is dropped");
        assert_eq!(scrubbed("<cardNumber>"), "<cardNumber>");
    }
}
