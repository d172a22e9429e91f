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
    // No number is longer than 15 digits; the rest is for an extension and for people's ways of writing.
    if text.is_empty() || text.len() > 80 || text.bytes().filter(u8::is_ascii_digit).count() > 30 {
        return None;
    }
    let region: Option<Id> = region.trim().to_ascii_uppercase().parse().ok();
    let parsed = catch_unwind(|| {
        let number = phonenumber::parse(region, text).ok()?;
        number.is_valid().then(|| number.format().mode(Mode::E164).to_string())
    });
    parsed.ok().flatten()
}
