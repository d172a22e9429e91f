//! Arrow to PostgreSQL's binary `COPY` format, column by column.
//!
//! The format is row by row, Arrow is column by column: sizes are added up first, then each column writes its values to
//! where its row stands, so that a column's type is looked at once and not once a value.

use std::borrow::Cow;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{Date32Type, Decimal128Type, Float64Type, Int64Type, TimestampMicrosecondType};
use catalog::{Dataset, Fault, Kind, Result};

/// What every binary `COPY` starts with: signature, flags, no extension.
pub(crate) const HEADER: &[u8] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";
/// What it ends with.
pub(crate) const TRAILER: [u8; 2] = [0xff, 0xff];

/// Days from 1970 to PostgreSQL's epoch, 2000-01-01.
pub(crate) const EPOCH_DAYS: i32 = 10_957;
/// The same in microseconds.
pub(crate) const EPOCH_MICROS: i64 = EPOCH_DAYS as i64 * 86_400_000_000;
// First day and one past the last that PostgreSQL's `date` and `timestamptz` hold, on its own epoch (datetime.h: Julian
// days 0 .. 2147483494 and microseconds to the end of the year 294276).
const FIRST_DAY: i32 = -2_451_545;
const END_DAY: i32 = 2_145_031_949;
const FIRST_MICRO: i64 = -211_813_488_000_000_000;
const END_MICRO: i64 = 9_223_371_331_200_000_000;

/// Writes the rows named by `rows`, in that order, each with its number (`ordinal` + place) as a last field if an
/// ordinal is given. The batch has the dataset's schema.
///
/// A text cannot hold NUL in PostgreSQL: U+2400 stands in for it. In a JSON document the escape `\u0000` becomes
/// `\u2400` and half a surrogate pair becomes U+FFFD, for `jsonb` refuses both.
pub(crate) fn rows(
    out: &mut Vec<u8>,
    dataset: &Dataset,
    batch: &RecordBatch,
    rows: &[u32],
    ordinal: Option<i64>,
) -> Result<()> {
    let fields = batch.num_columns() + usize::from(ordinal.is_some());
    let count = i16::try_from(fields).map_err(|_| Fault::user(format!("`{}` has too many columns", dataset.name)))?;
    let mut sizes = vec![2 + 4 * batch.num_columns() + if ordinal.is_some() { 12 } else { 0 }; rows.len()];
    // Texts that have to change are rare: they are made once here and written from there.
    let mut changed: Vec<Vec<(usize, String)>> = Vec::with_capacity(batch.num_columns());
    for (column, array) in dataset.columns.iter().zip(batch.columns()) {
        let mut fixes = Vec::new();
        match column.kind {
            Kind::Text | Kind::Json => {
                let a = array.as_string::<i32>();
                let json = column.kind == Kind::Json;
                for (at, row) in present(array, rows) {
                    let text = a.value(row);
                    let clean = if json { clean_json(text) } else { clean_text(text) };
                    sizes[at] += clean.len() + usize::from(json);
                    if let Cow::Owned(clean) = clean {
                        fixes.push((at, clean));
                    }
                }
            }
            Kind::Money | Kind::Count => {
                let a = array.as_primitive::<Decimal128Type>();
                present(array, rows).for_each(|(at, row)| sizes[at] += Numeric::of(a.value(row)).size());
            }
            Kind::Int | Kind::Float | Kind::Instant => present(array, rows).for_each(|(at, _)| sizes[at] += 8),
            Kind::Date => present(array, rows).for_each(|(at, _)| sizes[at] += 4),
            Kind::Flag => present(array, rows).for_each(|(at, _)| sizes[at] += 1),
        }
        changed.push(fixes);
    }
    let start = out.len();
    let mut at = start;
    let mut places: Vec<usize> = sizes
        .iter()
        .map(|size| {
            let place = at;
            at += size;
            place
        })
        .collect();
    out.resize(at, 0);
    for place in &mut places {
        put(out, place, &count.to_be_bytes());
    }
    for ((column, array), fixes) in dataset.columns.iter().zip(batch.columns()).zip(&changed) {
        if array.null_count() > 0 {
            for (place, row) in places.iter_mut().zip(rows) {
                if array.is_null(*row as usize) {
                    put(out, place, &(-1_i32).to_be_bytes());
                }
            }
        }
        match column.kind {
            Kind::Text | Kind::Json => {
                let a = array.as_string::<i32>();
                let json = column.kind == Kind::Json;
                let mut fixes = fixes.iter().peekable();
                for (at, row) in present(array, rows) {
                    let text = match fixes.next_if(|(place, _)| *place == at) {
                        Some((_, clean)) => clean.as_str(),
                        None => a.value(row),
                    };
                    let size = i32::try_from(text.len() + usize::from(json)).map_err(|_| too_long(dataset, column))?;
                    put(out, &mut places[at], &size.to_be_bytes());
                    if json {
                        put(out, &mut places[at], &[1]);
                    }
                    put(out, &mut places[at], text.as_bytes());
                }
            }
            Kind::Money | Kind::Count => {
                let a = array.as_primitive::<Decimal128Type>();
                for (at, row) in present(array, rows) {
                    Numeric::of(a.value(row)).write(out, &mut places[at]);
                }
            }
            Kind::Int => {
                let a = array.as_primitive::<Int64Type>();
                present(array, rows).for_each(|(at, row)| fixed(out, &mut places[at], a.value(row).to_be_bytes()));
            }
            Kind::Float => {
                let a = array.as_primitive::<Float64Type>();
                present(array, rows).for_each(|(at, row)| fixed(out, &mut places[at], a.value(row).to_be_bytes()));
            }
            Kind::Flag => {
                let a = array.as_boolean();
                present(array, rows).for_each(|(at, row)| fixed(out, &mut places[at], [u8::from(a.value(row))]));
            }
            Kind::Date => {
                let a = array.as_primitive::<Date32Type>();
                for (at, row) in present(array, rows) {
                    let day = a.value(row).checked_sub(EPOCH_DAYS).filter(|d| (FIRST_DAY..END_DAY).contains(d));
                    let day = day.ok_or_else(|| out_of_range(dataset, column))?;
                    fixed(out, &mut places[at], day.to_be_bytes());
                }
            }
            Kind::Instant => {
                let a = array.as_primitive::<TimestampMicrosecondType>();
                for (at, row) in present(array, rows) {
                    let micro = a.value(row).checked_sub(EPOCH_MICROS).filter(|m| (FIRST_MICRO..END_MICRO).contains(m));
                    let micro = micro.ok_or_else(|| out_of_range(dataset, column))?;
                    fixed(out, &mut places[at], micro.to_be_bytes());
                }
            }
        }
    }
    if let Some(first) = ordinal {
        for (number, place) in (first..).zip(&mut places) {
            fixed(out, place, number.to_be_bytes());
        }
    }
    Ok(())
}

/// The chosen rows that have a value: place in the choice, row in the batch.
fn present<'a>(array: &'a dyn Array, rows: &'a [u32]) -> impl Iterator<Item = (usize, usize)> + 'a {
    let nulls = array.nulls();
    rows.iter().map(|row| *row as usize).enumerate().filter(move |(_, row)| nulls.is_none_or(|n| n.is_valid(*row)))
}

fn put(out: &mut [u8], place: &mut usize, bytes: &[u8]) {
    out[*place..*place + bytes.len()].copy_from_slice(bytes);
    *place += bytes.len();
}

fn fixed<const N: usize>(out: &mut [u8], place: &mut usize, bytes: [u8; N]) {
    put(out, place, &(N as i32).to_be_bytes());
    put(out, place, &bytes);
}

fn out_of_range(dataset: &Dataset, column: &catalog::Column) -> Fault {
    Fault::user(format!("`{}.{}` has a value outside what PostgreSQL can store", dataset.name, column.name))
}

fn too_long(dataset: &Dataset, column: &catalog::Column) -> Fault {
    Fault::user(format!("`{}.{}` has a text longer than PostgreSQL can store", dataset.name, column.name))
}

/// A decimal with two places as PostgreSQL's `numeric`: digits of base 10,000, the last group behind the point.
struct Numeric {
    /// Least significant first.
    groups: [u16; 11],
    len: usize,
    skip: usize,
    negative: bool,
}

impl Numeric {
    fn of(hundredths: i128) -> Self {
        let mut rest = hundredths.unsigned_abs();
        let mut groups = [0; 11];
        groups[0] = (rest % 100) as u16 * 100;
        rest /= 100;
        // A value below one has no group before the point.
        let mut len = 1;
        if let Ok(mut small) = u64::try_from(rest) {
            while small > 0 {
                groups[len] = (small % 10_000) as u16;
                small /= 10_000;
                len += 1;
            }
        } else {
            while rest > 0 {
                groups[len] = (rest % 10_000) as u16;
                rest /= 10_000;
                len += 1;
            }
        }
        let skip = groups[..len].iter().take_while(|g| **g == 0).count();
        Self { groups, len, skip, negative: hundredths < 0 }
    }

    fn size(&self) -> usize {
        8 + 2 * (self.len - self.skip)
    }

    fn write(&self, out: &mut [u8], place: &mut usize) {
        let digits = self.len - self.skip;
        let weight = self.len as i16 - 2;
        put(out, place, &(self.size() as i32).to_be_bytes());
        put(out, place, &(digits as i16).to_be_bytes());
        put(out, place, &(if digits == 0 { 0 } else { weight }).to_be_bytes());
        put(out, place, &(if self.negative { 0x4000_u16 } else { 0 }).to_be_bytes());
        put(out, place, &2_u16.to_be_bytes());
        for group in self.groups[self.skip..self.len].iter().rev() {
            put(out, place, &group.to_be_bytes());
        }
    }
}

fn clean_text(text: &str) -> Cow<'_, str> {
    if text.as_bytes().contains(&0) { Cow::Owned(text.replace('\0', "\u{2400}")) } else { Cow::Borrowed(text) }
}

fn clean_json(text: &str) -> Cow<'_, str> {
    if !text.contains("\\u") {
        return Cow::Borrowed(text);
    }
    let bytes = text.as_bytes();
    let unit = |at: usize| -> Option<u16> {
        let hex = text.get(at..at + 6)?.strip_prefix("\\u")?;
        u16::from_str_radix(hex, 16).ok()
    };
    let mut out = String::with_capacity(text.len());
    let (mut done, mut at) = (0, 0);
    while at < bytes.len() {
        if bytes[at] != b'\\' {
            at += 1;
            continue;
        }
        let (length, stand_in) = match unit(at) {
            Some(0) => (6, Some("\\u2400")),
            Some(0xD800..=0xDBFF) if matches!(unit(at + 6), Some(0xDC00..=0xDFFF)) => (12, None),
            Some(0xD800..=0xDFFF) => (6, Some("\\ufffd")),
            Some(_) => (6, None),
            // Any other escape is two characters, `\\` among them: the second one escapes nothing.
            None => (2, None),
        };
        if let Some(stand_in) = stand_in {
            out.push_str(&text[done..at]);
            out.push_str(stand_in);
            done = at + length;
        }
        at += length;
    }
    if done == 0 {
        return Cow::Borrowed(text);
    }
    out.push_str(&text[done..]);
    Cow::Owned(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_keeps_what_jsonb_takes() {
        for (text, clean) in [
            (r#""\u0000""#, r#""\u2400""#),
            (r#""\\u0000""#, r#""\\u0000""#),
            (r#""\ud83d\ude00\ud83d""#, r#""\ud83d\ude00\ufffd""#),
            (r#""\ude00x""#, r#""\ufffdx""#),
            (r#""\u00e4\n""#, r#""\u00e4\n""#),
        ] {
            assert_eq!(clean_json(text), clean);
        }
    }
}
