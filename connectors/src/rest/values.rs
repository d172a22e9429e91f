//! From a JSON value to a cell of a column, exactly or not at all.

use std::sync::Arc;

use arrow::array::{
    ArrayBuilder, ArrayRef, BooleanBuilder, Date32Builder, Decimal128Builder, Float64Builder, Int64Builder,
    StringBuilder, TimestampMicrosecondBuilder,
};
use arrow::datatypes::DataType;
use catalog::Kind;
use catalog::dataset::{COUNT, MONEY};
use chrono::{DateTime, NaiveDate, NaiveDateTime, Utc};

use super::json::Value;

/// How the text of a day or an instant is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Format {
    /// ISO 8601; an instant with its offset (RFC 3339).
    Iso,
    /// ISO 8601 without an offset, read as UTC.
    Utc,
    /// Seconds since 1970.
    EpochSeconds,
    /// Milliseconds since 1970.
    EpochMillis,
    /// As `strftime` has it.
    Pattern(String),
}

/// A column under construction.
#[derive(Debug)]
pub(super) enum Cells {
    Text(StringBuilder),
    Json(StringBuilder),
    Int(Int64Builder),
    /// With the places behind the point and the number of digits.
    Decimal(Decimal128Builder, u32, u32),
    Float(Float64Builder),
    Flag(BooleanBuilder),
    Date(Date32Builder, Format),
    Instant(TimestampMicrosecondBuilder, Format),
}

impl Cells {
    pub(super) fn new(kind: Kind, format: &Format, rows: usize) -> Self {
        let text = || StringBuilder::with_capacity(rows, rows * 16);
        let decimal = |kind: DataType| {
            let (digits, places) = match kind {
                DataType::Decimal128(digits, places) => (u32::from(digits), u32::from(places.unsigned_abs())),
                _ => (38, 2),
            };
            Self::Decimal(Decimal128Builder::with_capacity(rows).with_data_type(kind), places, digits)
        };
        match kind {
            Kind::Text => Self::Text(text()),
            Kind::Json => Self::Json(text()),
            Kind::Int => Self::Int(Int64Builder::with_capacity(rows)),
            Kind::Money => decimal(MONEY),
            Kind::Count => decimal(COUNT),
            Kind::Float => Self::Float(Float64Builder::with_capacity(rows)),
            Kind::Flag => Self::Flag(BooleanBuilder::with_capacity(rows)),
            Kind::Date => Self::Date(Date32Builder::with_capacity(rows), format.clone()),
            Kind::Instant => {
                let builder = TimestampMicrosecondBuilder::with_capacity(rows).with_timezone("UTC");
                Self::Instant(builder, format.clone())
            }
        }
    }

    /// Adds a value. One that does not fit is left unknown, and the reason given; it never repeats the value.
    pub(super) fn push(&mut self, value: &Value<'_>) -> Result<(), &'static str> {
        // Many vendors write an empty text where there is no value.
        let nothing = matches!(value, Value::Null)
            || (matches!(value, Value::Text(t) if t.is_empty()) && !matches!(self, Self::Text(_) | Self::Json(_)));
        if nothing {
            self.null();
            return Ok(());
        }
        let done = match self {
            Self::Text(b) => {
                match value {
                    Value::Text(text) => b.append_value(text),
                    Value::Number(text) | Value::Nested(text) => b.append_value(text),
                    Value::Flag(flag) => b.append_value(if *flag { "true" } else { "false" }),
                    Value::Null => {}
                }
                return Ok(());
            }
            Self::Json(b) => {
                match value {
                    Value::Text(text) => b.append_value(serde_json::Value::from(text.as_ref()).to_string()),
                    Value::Number(text) | Value::Nested(text) => b.append_value(text),
                    Value::Flag(flag) => b.append_value(if *flag { "true" } else { "false" }),
                    Value::Null => {}
                }
                return Ok(());
            }
            Self::Int(b) => match scalar(value) {
                Some(text) => int(text).map(|v| b.append_value(v)).ok_or("is no whole number of 64 bits"),
                None => Err("is no number"),
            },
            Self::Decimal(b, places, digits) => match scalar(value).map(|t| decimal(t, *places)) {
                Some(Some(v)) if v.unsigned_abs() >= 10_u128.pow(*digits) => Err("has too many digits"),
                Some(v) => v.map(|v| b.append_value(v)).ok_or("is no decimal number that its column can hold exactly"),
                None => Err("is no number"),
            },
            Self::Float(b) => {
                let number = scalar(value).and_then(|t| t.parse::<f64>().ok()).filter(|v| v.is_finite());
                number.map(|v| b.append_value(v)).ok_or("is no number")
            }
            Self::Flag(b) => flag(value).map(|v| b.append_value(v)).ok_or("is neither true nor false"),
            Self::Date(b, format) => {
                let day = scalar(value).and_then(|t| day(t, format));
                day.map(|v| b.append_value(v)).ok_or("is no day in the column's format")
            }
            Self::Instant(b, format) => {
                let at = scalar(value).and_then(|t| instant(t, format));
                at.map(|v| b.append_value(v)).ok_or("is no instant in the column's format")
            }
        };
        if done.is_err() {
            self.null();
        }
        done
    }

    pub(super) fn null(&mut self) {
        match self {
            Self::Text(b) | Self::Json(b) => b.append_null(),
            Self::Int(b) => b.append_null(),
            Self::Decimal(b, ..) => b.append_null(),
            Self::Float(b) => b.append_null(),
            Self::Flag(b) => b.append_null(),
            Self::Date(b, _) => b.append_null(),
            Self::Instant(b, _) => b.append_null(),
        }
    }

    pub(super) fn len(&self) -> usize {
        match self {
            Self::Text(b) | Self::Json(b) => b.len(),
            Self::Int(b) => b.len(),
            Self::Decimal(b, ..) => b.len(),
            Self::Float(b) => b.len(),
            Self::Flag(b) => b.len(),
            Self::Date(b, _) => b.len(),
            Self::Instant(b, _) => b.len(),
        }
    }

    /// Whether the last row has no value here.
    pub(super) fn ends_empty(&self) -> bool {
        let nulls = match self {
            Self::Text(b) | Self::Json(b) => b.validity_slice(),
            Self::Int(b) => b.validity_slice(),
            Self::Decimal(b, ..) => b.validity_slice(),
            Self::Float(b) => b.validity_slice(),
            Self::Flag(b) => b.validity_slice(),
            Self::Date(b, _) => b.validity_slice(),
            Self::Instant(b, _) => b.validity_slice(),
        };
        let Some(last) = self.len().checked_sub(1) else { return false };
        nulls.and_then(|bits| bits.get(last / 8)).is_some_and(|byte| byte & (1 << (last % 8)) == 0)
    }

    pub(super) fn finish(&mut self) -> ArrayRef {
        match self {
            Self::Text(b) | Self::Json(b) => Arc::new(b.finish()),
            Self::Int(b) => Arc::new(b.finish()),
            Self::Decimal(b, ..) => Arc::new(b.finish()),
            Self::Float(b) => Arc::new(b.finish()),
            Self::Flag(b) => Arc::new(b.finish()),
            Self::Date(b, _) => Arc::new(b.finish()),
            Self::Instant(b, _) => Arc::new(b.finish()),
        }
    }
}

/// The text of a number, or of a text that may hold one.
fn scalar<'v>(value: &'v Value<'_>) -> Option<&'v str> {
    match value {
        Value::Number(text) => Some(text),
        Value::Text(text) => Some(text.trim()),
        _ => None,
    }
}

fn flag(value: &Value<'_>) -> Option<bool> {
    match value {
        Value::Flag(flag) => Some(*flag),
        Value::Number("1") => Some(true),
        Value::Number("0") => Some(false),
        Value::Text(text) if text.eq_ignore_ascii_case("true") => Some(true),
        Value::Text(text) if text.eq_ignore_ascii_case("false") => Some(false),
        _ => None,
    }
}

/// A whole number, also one written as `12.0` or `1e3`.
pub(super) fn int(text: &str) -> Option<i64> {
    text.parse().ok().or_else(|| decimal(text, 0)?.try_into().ok())
}

/// A decimal number in units of its last place; `None` unless it can be told exactly.
pub(super) fn decimal(text: &str, places: u32) -> Option<i128> {
    let (mantissa, exponent) = match text.find(['e', 'E']) {
        Some(at) => (&text[..at], text[at + 1..].parse::<i32>().ok()?),
        None => (text, 0),
    };
    let (negative, digits) = match mantissa.as_bytes() {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        rest => (false, rest),
    };
    let (mut value, mut behind, mut point, mut any) = (0_i128, 0_i32, false, false);
    for byte in digits {
        match byte {
            b'0'..=b'9' => {
                value = value.checked_mul(10)?.checked_add(i128::from(byte - b'0'))?;
                behind += i32::from(point);
                any = true;
            }
            b'.' if !point => point = true,
            _ => return None,
        }
    }
    if !any {
        return None;
    }
    let shift = i32::try_from(places).ok()?.checked_sub(behind)?.checked_add(exponent)?;
    let value = if value == 0 {
        0
    } else if shift >= 0 {
        value.checked_mul(10_i128.checked_pow(shift.unsigned_abs())?)?
    } else {
        let by = 10_i128.checked_pow(shift.unsigned_abs())?;
        (value % by == 0).then_some(value / by)?
    };
    Some(if negative { -value } else { value })
}

/// Two or four digits.
fn digits(bytes: &[u8]) -> Option<u32> {
    bytes.iter().try_fold(0, |sum, b| b.is_ascii_digit().then(|| sum * 10 + u32::from(b - b'0')))
}

fn epoch_day(day: NaiveDate) -> i32 {
    (day - NaiveDate::default()).num_days() as i32
}

/// Days since 1970 of `YYYY-MM-DD` at the start of the bytes, and what follows.
fn iso_day(bytes: &[u8]) -> Option<(i32, &[u8])> {
    let (head, rest) = bytes.split_at_checked(10)?;
    let (year, month, day) = (digits(&head[..4])?, digits(&head[5..7])?, digits(&head[8..])?);
    if head[4] != b'-' || head[7] != b'-' {
        return None;
    }
    Some((epoch_day(NaiveDate::from_ymd_opt(year as i32, month, day)?), rest))
}

/// Days since 1970.
pub(super) fn day(text: &str, format: &Format) -> Option<i32> {
    match format {
        Format::Pattern(pattern) => NaiveDate::parse_from_str(text, pattern).ok().map(epoch_day),
        Format::EpochSeconds | Format::EpochMillis => {
            instant(text, format).and_then(|us| i32::try_from(us.div_euclid(86_400_000_000)).ok())
        }
        Format::Iso | Format::Utc => match iso_day(text.as_bytes())? {
            // A day that comes with a time is the day as it is written there: local days stay local.
            (day, [] | [b'T' | b' ', ..]) => Some(day),
            _ => None,
        },
    }
}

/// Microseconds since 1970.
pub(super) fn instant(text: &str, format: &Format) -> Option<i64> {
    match format {
        Format::Iso => iso_instant(text.as_bytes(), false),
        Format::Utc => iso_instant(text.as_bytes(), true),
        Format::EpochSeconds => decimal(text, 6)?.try_into().ok(),
        Format::EpochMillis => decimal(text, 3)?.try_into().ok(),
        Format::Pattern(pattern) => DateTime::parse_from_str(text, pattern)
            .map(|at| at.to_utc())
            .or_else(|_| NaiveDateTime::parse_from_str(text, pattern).map(|at| at.and_utc()))
            .ok()
            .map(|at: DateTime<Utc>| at.timestamp_micros()),
    }
}

fn iso_instant(bytes: &[u8], utc: bool) -> Option<i64> {
    let (day, rest) = iso_day(bytes)?;
    if rest.is_empty() && utc {
        return Some(i64::from(day) * 86_400_000_000);
    }
    let [b'T' | b't' | b' ', h1, h2, b':', m1, m2, rest @ ..] = rest else { return None };
    let (hour, minute) = (digits(&[*h1, *h2])?, digits(&[*m1, *m2])?);
    let (second, mut rest) = match rest {
        [b':', s1, s2, rest @ ..] => (digits(&[*s1, *s2])?, rest),
        rest => (0, rest),
    };
    if hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let mut micros = 0;
    if let [b'.' | b',', tail @ ..] = rest {
        let count = tail.iter().take_while(|b| b.is_ascii_digit()).count();
        if count == 0 {
            return None;
        }
        for at in 0..6 {
            micros = micros * 10 + tail.get(at).filter(|_| at < count).map_or(0, |b| i64::from(b - b'0'));
        }
        rest = &tail[count..];
    }
    let offset = match rest {
        [] if utc => 0,
        [b'Z' | b'z'] => 0,
        [sign @ (b'+' | b'-'), h1, h2, rest @ ..] => {
            let minutes = match rest {
                [b':', m1, m2] | [m1, m2] => digits(&[*m1, *m2])?,
                [] => 0,
                _ => return None,
            };
            let hours = digits(&[*h1, *h2])?;
            if hours > 23 || minutes > 59 {
                return None;
            }
            let seconds = i64::from(hours * 3600 + minutes * 60);
            if *sign == b'-' { -seconds } else { seconds }
        }
        _ => return None,
    };
    let seconds = i64::from(day) * 86_400 + i64::from(hour * 3600 + minute * 60 + second) - offset;
    Some(seconds * 1_000_000 + micros)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn numbers_are_exact_or_refused() {
        assert_eq!(decimal("1234.5", 2), Some(123_450));
        assert_eq!(decimal("-0.01", 2), Some(-1));
        assert_eq!(decimal("1.5e3", 2), Some(150_000));
        assert_eq!(decimal("12.340000", 2), Some(1234));
        assert_eq!(decimal("0e999", 2), Some(0));
        for wrong in ["12.345", "1e-3", "", ".", "-", "1e99", "0x1", "1,5", "1e", "NaN"] {
            assert_eq!(decimal(wrong, 2), None, "{wrong}");
        }
        assert_eq!(int("9223372036854775807"), Some(i64::MAX));
        assert_eq!(int("9223372036854775808"), None);
        assert_eq!(int("12.0"), Some(12));
        assert_eq!(int("12.5"), None);
    }

    #[test]
    fn days_and_instants_by_format() {
        assert_eq!(day("1970-01-02", &Format::Iso), Some(1));
        assert_eq!(day("1970-01-02T23:59:59-10:00", &Format::Iso), Some(1));
        assert_eq!(day("02/01/1970", &Format::Pattern("%d/%m/%Y".to_owned())), Some(1));
        assert_eq!(day("2026-02-30", &Format::Iso), None);
        assert_eq!(day("2026-02-3x", &Format::Iso), None);
        assert_eq!(instant("1970-01-01T00:00:01.5Z", &Format::Iso), Some(1_500_000));
        assert_eq!(instant("1970-01-01 02:00:00+0200", &Format::Iso), Some(0));
        assert_eq!(instant("1970-01-01T00:00:00", &Format::Iso), None, "a time without a zone is no instant");
        assert_eq!(instant("1970-01-01T00:00:01", &Format::Utc), Some(1_000_000));
        assert_eq!(instant("1.5", &Format::EpochSeconds), Some(1_500_000));
        assert_eq!(instant("1500", &Format::EpochMillis), Some(1_500_000));
        assert_eq!(instant("1970-01-01 00:00:01", &Format::Pattern("%Y-%m-%d %H:%M:%S".to_owned())), Some(1_000_000));
        assert_eq!(instant("1970-01-01T24:00:00Z", &Format::Iso), None);
    }

    proptest! {
        #[test]
        fn instants_read_as_another_parser_reads_them(micros in -60_000_000_000_000_000_i64..250_000_000_000_000_000, offset in -14_i32..15) {
            let at = DateTime::from_timestamp_micros(micros).unwrap();
            let text = at.with_timezone(&chrono::FixedOffset::east_opt(offset * 3600).unwrap()).to_rfc3339();
            prop_assert_eq!(instant(&text, &Format::Iso), Some(micros));
        }
    }
}
