//! Words: cleaning, flags, status words, stable ids.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock, PoisonError, RwLock};

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, StringArray, StringBuilder};
use arrow::buffer::NullBuffer;
use arrow::datatypes::DataType;
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::ColumnarValue;
use regex::Regex;
use xxhash_rust::xxh3::xxh3_128;

use super::{Args, Arity, Function, Remembered, map_text, strings};

pub(super) fn all() -> Vec<Function> {
    vec![
        Function::map("clean", |a| cleaned(&a[0])),
        Function::map("snake", |a| {
            let mut words = Remembered::new();
            let found = strings(&a[0]).iter().map(|v| words.of(v?, |v| snake(v).map(Arc::<str>::from)));
            Ok(Arc::new(found.collect::<StringArray>()))
        }),
        Function::map("url_part", |a| map_text(a, |v| Some(url_part(v)))),
        Function::text("flag", Arity::Between(1, 1), DataType::Boolean, |a| {
            Ok(Arc::new(strings(&a[0]).iter().map(|v| v.and_then(flag)).collect::<BooleanArray>()))
        }),
        Function::of_args("matches", Arity::Between(2, 2), &[DataType::Utf8], DataType::Boolean, matches),
        Function::of_args("without", Arity::Between(2, 2), &[DataType::Utf8], DataType::Utf8, without),
        Function::of_args("stable_id", Arity::Any, &[DataType::Utf8], DataType::Utf8, stable_ids),
        Function::of_args("source_of", Arity::Any, &[], DataType::Utf8, source_of),
    ]
}

/// `clean` of a column. Most columns are clean already, or have blank values and no blanks around others: then their
/// text is not copied.
fn cleaned(array: &ArrayRef) -> Result<ArrayRef> {
    let values = strings(array);
    let edge = |b: &u8| b.is_ascii_graphic();
    let (mut blank, mut ragged) = (false, false);
    for value in values.iter().flatten() {
        match value.as_bytes() {
            [] => blank = true,
            [first, .., last] if edge(first) && edge(last) => {}
            [only] if edge(only) => {}
            _ => ragged |= value.trim().len() < value.len(),
        }
    }
    if ragged {
        return Ok(Arc::new(values.iter().map(|v| v.and_then(clean)).collect::<StringArray>()));
    }
    if !blank {
        return Ok(Arc::clone(array));
    }
    let filled: NullBuffer = values.iter().map(|v| v.is_some_and(|v| !v.is_empty())).collect();
    Ok(Arc::new(StringArray::new(values.offsets().clone(), values.values().clone(), Some(filled))))
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
fn stable_ids(args: &Args<'_>) -> Result<ArrayRef> {
    let columns: Vec<_> = (0..args.values.len()).map(|at| args.texts(at)).collect();
    let mut ids = StringBuilder::with_capacity(args.rows, args.rows * ID_LETTERS);
    let (mut bytes, mut letters) = (Vec::with_capacity(128), String::with_capacity(ID_LETTERS));
    for row in 0..args.rows {
        id_of(columns.iter().map(|column| column.at(row)), &mut bytes, &mut letters);
        ids.append_value(&letters);
    }
    Ok(Arc::new(ids.finish()))
}

/// What `stable_id(…)` gives for values that are all there.
pub fn stable_id(values: &[&str]) -> String {
    let (mut bytes, mut letters) = (Vec::new(), String::with_capacity(ID_LETTERS));
    id_of(values.iter().map(|v| Some(*v)), &mut bytes, &mut letters);
    letters
}

fn id_of<'a>(values: impl Iterator<Item = Option<&'a str>>, bytes: &mut Vec<u8>, letters: &mut String) {
    bytes.clear();
    for value in values {
        match value {
            Some(value) => {
                bytes.extend_from_slice(&(value.len() as u64).to_le_bytes());
                bytes.extend_from_slice(value.as_bytes());
            }
            None => bytes.extend_from_slice(&u64::MAX.to_le_bytes()),
        }
    }
    base32(xxh3_128(bytes), letters);
}

const ID_LETTERS: usize = 20;

fn base32(bits: u128, out: &mut String) {
    const LETTERS: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
    out.clear();
    out.extend((0..ID_LETTERS).map(|i| char::from(LETTERS[((bits >> (i * 5)) & 31) as usize])));
}

/// `source_of(name, value, name, value, …)`: the name before the first value that is neither null nor blank; the
/// companion of `coalesce` over the same values. Values may have any type: only whether they are there is asked.
fn source_of(args: &Args<'_>) -> Result<ArrayRef> {
    let wide = |kind: &DataType| matches!(kind, DataType::LargeUtf8 | DataType::Utf8View);
    let plain = |v: &ColumnarValue| if wide(&v.data_type()) { v.cast_to(&DataType::Utf8, None) } else { Ok(v.clone()) };
    let values = args.values.iter().map(plain).collect::<Result<Vec<_>>>()?;
    let args = Args { values: &values, rows: args.rows };
    let pairs = (0..values.len() / 2).map(|pair| (args.texts(2 * pair), args.there(2 * pair + 1)));
    // A list that the slice does not have is null in every row.
    let pairs: Vec<_> = pairs.filter(|(_, value)| !matches!(value, There::All(false))).collect();
    let names = (0..args.rows).map(|row| {
        let found = pairs.iter().find(|(_, value)| value.at(row));
        found.and_then(|(name, _)| name.at(row))
    });
    Ok(Arc::new(names.collect::<StringArray>()))
}

/// In which rows an argument has a value that is neither null nor blank.
enum There<'a> {
    Texts(&'a StringArray),
    Values(&'a ArrayRef),
    All(bool),
}

impl Args<'_> {
    fn there(&self, at: usize) -> There<'_> {
        match &self.values[at] {
            ColumnarValue::Array(array) => array.as_string_opt().map_or(There::Values(array), There::Texts),
            ColumnarValue::Scalar(value) => There::All(match value.try_as_str() {
                Some(text) => text.and_then(clean).is_some(),
                None => !value.is_null(),
            }),
        }
    }
}

impl There<'_> {
    fn at(&self, row: usize) -> bool {
        match self {
            There::Texts(array) => array.is_valid(row) && clean(array.value(row)).is_some(),
            There::Values(array) => array.is_valid(row),
            There::All(there) => *there,
        }
    }
}

/// `matches(text, pattern)`: whether the regular expression is found in the text.
fn matches(args: &Args<'_>) -> Result<ArrayRef> {
    let (texts, patterns) = (args.texts(0), args.texts(1));
    let mut regex = Patterns::default();
    let found = (0..args.rows).map(|row| match (texts.at(row), patterns.at(row)) {
        (Some(text), Some(pattern)) => Ok(Some(regex.of(pattern)?.is_match(text))),
        _ => Ok(None),
    });
    Ok(Arc::new(found.collect::<Result<BooleanArray>>()?))
}

/// `without(text, pattern)`: the text without the first place that the regular expression finds.
fn without(args: &Args<'_>) -> Result<ArrayRef> {
    let (texts, patterns) = (args.texts(0), args.texts(1));
    let mut regex = Patterns::default();
    let mut rest = StringBuilder::with_capacity(args.rows, args.rows * 8);
    for row in 0..args.rows {
        match (texts.at(row), patterns.at(row)) {
            (Some(text), Some(pattern)) => rest.append_value(regex.of(pattern)?.replace(text, "")),
            _ => rest.append_null(),
        }
    }
    Ok(Arc::new(rest.finish()))
}

/// The pattern of a call, compiled. DataFusion's own functions compile theirs for every batch; a model runs once a slice,
/// with the same few patterns, and the compiling was a tenth of a small slice's time.
#[derive(Default)]
struct Patterns<'a> {
    last: Option<(&'a str, Regex)>,
}

impl<'a> Patterns<'a> {
    /// Patterns that are kept; a column of patterns can hold any number.
    const KEPT: usize = 256;

    fn of(&mut self, pattern: &'a str) -> Result<&Regex> {
        static KNOWN: LazyLock<RwLock<HashMap<String, Regex>>> = LazyLock::new(RwLock::default);
        let last = match self.last.take() {
            Some((known, regex)) if known == pattern => (known, regex),
            _ => {
                let known = KNOWN.read().unwrap_or_else(PoisonError::into_inner).get(pattern).cloned();
                let regex = match known {
                    Some(regex) => regex,
                    None => {
                        let regex = Regex::new(pattern).map_err(|e| {
                            DataFusionError::Execution(format!("`{pattern}` is not a regular expression: {e}"))
                        })?;
                        let mut known = KNOWN.write().unwrap_or_else(PoisonError::into_inner);
                        if known.len() < Self::KEPT {
                            known.insert(pattern.to_owned(), regex.clone());
                        }
                        regex
                    }
                };
                (pattern, regex)
            }
        };
        Ok(&self.last.insert(last).1)
    }
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
