//! Phone numbers in E.164.

use std::panic::catch_unwind;
use std::sync::Arc;

use arrow::array::{ArrayRef, StringArray};
use arrow::datatypes::DataType;
use phonenumber::Mode;
use phonenumber::country::Id;

use super::{Arity, Function, strings};

pub(super) fn all() -> Vec<Function> {
    vec![Function::text("phone_e164", Arity::Between(1, 2), DataType::Utf8, |args| {
        let numbers = strings(&args[0]);
        let found: StringArray = match args.get(1) {
            None => numbers.iter().map(|n| phone_e164(n?, "US")).collect(),
            Some(regions) => numbers.iter().zip(strings(regions).iter()).map(|(n, r)| phone_e164(n?, r?)).collect(),
        };
        Ok(Arc::new(found) as ArrayRef)
    })]
}

/// `phone_e164(text, region)`: the one phone number that the text holds, in E.164 and without its extension; a number
/// without country code is taken for one of the region, an ISO 3166-1 alpha-2 code. `None` when the text holds no number
/// that could be assigned, or more than one.
pub fn phone_e164(text: &str, region: &str) -> Option<String> {
    let text = text.trim();
    let text = text.get(..4).filter(|p| p.eq_ignore_ascii_case("tel:")).map_or(text, |p| text[p.len()..].trim());
    // No number is longer than 15 digits; the rest is for an extension and for people's ways of writing.
    if text.is_empty() || text.len() > 80 || text.bytes().filter(u8::is_ascii_digit).count() > 35 {
        return None;
    }
    let text = without_extension(text);
    // The parser takes the region's trunk prefix off international numbers too: `+49 176…` would lose its 1 in the United
    // States. So it is not told of a region, nor of the trunk prefix that `+44 (0)…` mentions.
    if let Some(international) = text.strip_prefix('+').or_else(|| text.strip_prefix("(+")) {
        let international = international.replacen("(0)", "", 1);
        let dressed = |c: char| c.is_ascii_digit() || " ()-./\u{a0}\u{2010}\u{2011}\u{2013}".contains(c);
        let digits: String = international.chars().filter(char::is_ascii_digit).collect();
        return if international.chars().all(dressed) { valid(None, &format!("+{digits}")) } else { None };
    }
    valid(region.trim().to_ascii_uppercase().parse().ok(), text)
}

/// Loads what the numbers of all countries look like, which the first call would otherwise wait for.
pub(crate) fn load() {
    valid(Some(Id::US), "202-555-0100");
}

fn valid(region: Option<Id>, text: &str) -> Option<String> {
    // The parser is not ours and its input is anything: should it break, the text is no number.
    let parsed = catch_unwind(|| {
        let number = phonenumber::parse(region, text).ok()?;
        number.is_valid().then(|| number.format().mode(Mode::E164).to_string())
    });
    parsed.ok().flatten()
}

/// Cuts an extension off: behind seven digits or more, a mark or word for it and then digits alone.
fn without_extension(text: &str) -> &str {
    let mut digits = 0;
    for (at, c) in text.char_indices() {
        digits += usize::from(c.is_ascii_digit());
        if digits >= 7 && (matches!(c, ';' | '~' | '#') || c.is_ascii_alphabetic()) {
            let number = text[at..].trim_start_matches(|c: char| !c.is_ascii_digit());
            let word = text[at..text.len() - number.len()].to_ascii_lowercase();
            let word = word.trim_matches(|c: char| !c.is_ascii_alphabetic());
            let number = number.trim_end_matches(['#', ' ', '.']);
            let extension = matches!(word, "" | "x" | "ext" | "extn" | "xtn" | "xtensio" | "extension");
            if extension && !number.is_empty() && number.len() <= 20 && number.bytes().all(|b| b.is_ascii_digit()) {
                return text[..at].trim_end_matches([' ', ',', '(']);
            }
            break;
        }
    }
    text
}
