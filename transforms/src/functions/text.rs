//! Words: cleaning, flags, status words, stable ids.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, BooleanArray, StringArray};
use arrow::datatypes::DataType;
use datafusion::error::Result;
use xxhash_rust::xxh3::Xxh3;

use super::{Arity, Function, map_text, strings};

pub(super) fn all() -> Vec<Function> {
    vec![
        Function::map("clean", |a| map_text(a, |v| clean(v).map(str::to_owned))),
        Function::map("snake", |a| map_text(a, snake)),
        Function::map("url_part", |a| map_text(a, |v| Some(url_part(v)))),
        Function::text("flag", Arity::Between(1, 1), DataType::Boolean, |a| {
            Ok(Arc::new(strings(&a[0]).iter().map(|v| v.and_then(flag)).collect::<BooleanArray>()))
        }),
        Function::text("stable_id", Arity::Any, DataType::Utf8, stable_ids),
        Function::text("source_of", Arity::Any, DataType::Utf8, source_of),
    ]
}

/// `clean(text)`: the text without blanks around it; null when nothing is left.
pub(super) fn clean(text: &str) -> Option<&str> {
    Some(text.trim()).filter(|t| !t.is_empty())
}

/// `flag(text)`: whether a vendor's word means yes or no; `None` for any other word.
pub fn flag(text: &str) -> Option<bool> {
    match text.trim().to_ascii_lowercase().as_str() {
        "true" | "t" | "yes" | "y" | "1" | "on" | "active" => Some(true),
        "false" | "f" | "no" | "n" | "0" | "off" | "inactive" => Some(false),
        _ => None,
    }
}

/// `snake(text)`: a status word in lower snake case: `Notice to Vacate`, `on notice`, `NotReady` become
/// `notice_to_vacate`, `on_notice`, `not_ready`. `None` when no letter or digit is left.
pub fn snake(text: &str) -> Option<String> {
    let mut out = String::with_capacity(text.len() + 4);
    let mut former = None;
    let mut letters = text.chars().peekable();
    while let Some(c) = letters.next() {
        if c.is_alphanumeric() {
            // A capital starts a word after a small letter (`notReady`) and before one (`MITSFeed`).
            let starts = c.is_ascii_uppercase()
                && former.is_some_and(|f: char| {
                    f.is_lowercase()
                        || f.is_numeric()
                        || (f.is_uppercase() && letters.peek().is_some_and(|n| n.is_lowercase()))
                });
            if (starts || former.is_some_and(|f| !f.is_alphanumeric())) && !out.is_empty() && !out.ends_with('_') {
                out.push('_');
            }
            out.extend(c.to_lowercase().filter(|l| l.is_alphanumeric()));
        }
        former = Some(c);
    }
    Some(out).filter(|o| !o.is_empty())
}

/// `url_part(text)`: the text as it may stand in one part of a URL.
fn url_part(text: &str) -> String {
    url::form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>().replace('+', "%20")
}

/// `stable_id(value, …)`: the same 20 characters for the same values, on every machine and in every version.
///
/// 100 bits of an unkeyed hash: among a thousand million values, two would collide once in a million million. Every
/// value is hashed with its length, so that `('ab', 'c')` and `('a', 'bc')` differ; null is a value of its own.
fn stable_ids(args: &[ArrayRef]) -> Result<ArrayRef> {
    let columns: Vec<_> = args.iter().map(strings).collect();
    let rows = columns.first().map_or(0, |c| c.len());
    let ids =
        (0..rows).map(|row| Some(id_of(columns.iter().map(|column| column.is_valid(row).then(|| column.value(row))))));
    Ok(Arc::new(ids.collect::<StringArray>()))
}

/// What `stable_id(…)` gives for values that are all there.
pub(crate) fn stable_id(values: &[&str]) -> String {
    id_of(values.iter().map(|v| Some(*v)))
}

fn id_of(values: impl Iterator<Item = Option<impl AsRef<str>>>) -> String {
    let mut hash = Xxh3::new();
    for value in values {
        match value {
            Some(value) => {
                let value = value.as_ref();
                hash.update(&(value.len() as u64).to_le_bytes());
                hash.update(value.as_bytes());
            }
            None => hash.update(&u64::MAX.to_le_bytes()),
        }
    }
    base32(hash.digest128())
}

fn base32(bits: u128) -> String {
    const LETTERS: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
    (0..20).map(|i| char::from(LETTERS[((bits >> (i * 5)) & 31) as usize])).collect()
}

/// `source_of(name, value, name, value, …)`: the name before the first value that is neither null nor blank; the
/// companion of `coalesce` over the same values.
fn source_of(args: &[ArrayRef]) -> Result<ArrayRef> {
    let columns: Vec<_> = args.iter().map(strings).collect();
    let rows = columns.first().map_or(0, |c| c.len());
    let names = (0..rows).map(|row| {
        columns
            .chunks_exact(2)
            .find(|pair| pair[1].is_valid(row) && clean(pair[1].value(row)).is_some())
            .and_then(|pair| pair[0].is_valid(row).then(|| pair[0].value(row)))
    });
    Ok(Arc::new(names.collect::<StringArray>()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn status_words_become_snake_case() {
        for (from, to) in [
            ("Notice to Vacate Preleased", "notice_to_vacate_preleased"),
            ("on notice", "on_notice"),
            ("leased_on_notice", "leased_on_notice"),
            ("NotReady", "not_ready"),
            ("  Down ", "down"),
            ("One-Time", "one_time"),
            ("OneTime", "one_time"),
            ("MITSFeed2", "mits_feed2"),
        ] {
            assert_eq!(snake(from).as_deref(), Some(to), "{from}");
        }
        assert_eq!(snake(" -- "), None);
    }
}
