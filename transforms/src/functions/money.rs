//! Amounts of money as people and vendors write them.

use std::sync::Arc;

use arrow::array::{ArrayRef, Decimal128Array, StringArray};
use arrow::datatypes::DataType;
use catalog::dataset::MONEY;
use datafusion::error::Result;

use super::{Args, Arity, Function, strings, text::clean};

pub(super) fn all() -> Vec<Function> {
    vec![
        Function::text("money", Arity::Between(1, 1), MONEY, |a| amounts(&a[0], money)),
        Function::text("price", Arity::Between(1, 1), MONEY, |a| amounts(&a[0], |t| money(t).filter(|m| *m > 0))),
        Function::of_args("issue", Arity::Between(3, 3), &[DataType::Utf8], DataType::Utf8, issues),
    ]
}

fn amounts(values: &ArrayRef, read: impl Fn(&str) -> Option<i128>) -> Result<ArrayRef> {
    let amounts: Decimal128Array = strings(values).iter().map(|v| v.and_then(&read)).collect();
    Ok(Arc::new(amounts.with_data_type(MONEY)))
}

/// What fits into fourteen digits.
const LARGEST: i128 = 99_999_999_999_999;

/// `money(text)`: the amount in hundredths. `None` when the text holds no amount, more than one, or one too large.
///
/// A currency sign or code may stand on either side. The last of `.` and `,` is the decimal sign if both occur; if only
/// one does, it is taken for a thousands sign when it groups by three and, for a single point, never: `1,234` is 1234
/// and `1.234` is 1.23, because vendors write plain decimals with a point. Brackets or a minus make it negative. A third
/// decimal place rounds half away from zero.
pub fn money(text: &str) -> Option<i128> {
    let text = text.trim();
    plain(text.as_bytes()).or_else(|| read(text).map(|(hundredths, _)| hundredths))
}

/// The amount in hundredths, and its decimal places as they are written.
fn read(text: &str) -> Option<(i128, &str)> {
    let (mut body, mut negative) = match text.strip_prefix('(').and_then(|t| t.strip_suffix(')')) {
        Some(inner) => (inner.trim(), true),
        None => (text, false),
    };
    // Signs and currency marks come in any order: `-$5`, `$-5`, `USD -5`, `5.00-`, `5,00 €`.
    let mut marks = 0;
    let mut signs = 0;
    loop {
        let start = body;
        for minus in ['-', '\u{2212}'] {
            if let Some(rest) = body.strip_prefix(minus).or_else(|| body.strip_suffix(minus)) {
                body = rest.trim();
                negative = true;
                signs += 1;
            }
        }
        if let Some(rest) = body.strip_prefix('+') {
            body = rest.trim_start();
            signs += 1;
        }
        if let Some(rest) = without_currency(body) {
            body = rest.trim();
            marks += 1;
        }
        if body == start {
            break;
        }
        if marks > 2 || signs > 1 {
            return None;
        }
    }
    let (hundredths, fraction) = digits(body)?;
    (hundredths <= LARGEST).then_some((if negative { -hundredths } else { hundredths }, fraction))
}

/// The amount as most vendors write it, digits with at most two decimal places, without the care that others need.
fn plain(text: &[u8]) -> Option<i128> {
    let (whole, places) = match text {
        [whole @ .., b'.', a, b] => (whole, [*a, *b]),
        [whole @ .., b'.', a] => (whole, [*a, b'0']),
        whole => (whole, [b'0', b'0']),
    };
    if whole.is_empty() || whole.len() > 12 || !whole.iter().chain(&places).all(u8::is_ascii_digit) {
        return None;
    }
    let hundredths = whole.iter().chain(&places).fold(0_u64, |sum, digit| sum * 10 + u64::from(digit - b'0'));
    Some(i128::from(hundredths))
}

/// Takes one currency sign or code off either end.
fn without_currency(text: &str) -> Option<&str> {
    const MARKS: [&str; 22] = [
        "US$", "CA$", "C$", "AU$", "A$", "NZ$", "MX$", "$", "€", "£", "¥", "₹", "₺", "USD", "CAD", "EUR", "GBP", "MXN",
        "AUD", "NZD", "CHF", "kr",
    ];
    // Most amounts have no mark.
    if text.starts_with(|c: char| c.is_ascii_digit()) && text.ends_with(|c: char| c.is_ascii_digit()) {
        return None;
    }
    MARKS.iter().find_map(|mark| {
        let start = text.get(..mark.len()).filter(|s| s.eq_ignore_ascii_case(mark)).map(|_| &text[mark.len()..]);
        start.or_else(|| {
            let at = text.len().checked_sub(mark.len())?;
            text.get(at..).filter(|s| s.eq_ignore_ascii_case(mark)).map(|_| &text[..at])
        })
    })
}

fn digits(text: &str) -> Option<(i128, &str)> {
    if !text.starts_with(|c: char| c.is_ascii_digit() || c == '.' || c == ',')
        || !text.contains(|c: char| c.is_ascii_digit())
    {
        return None;
    }
    let is_space = |c: char| matches!(c, ' ' | '\u{a0}' | '\u{202f}' | '\u{2009}' | '\'' | '\u{2019}');
    let (points, commas) = (text.matches('.').count(), text.matches(',').count());
    let decimal = match (text.rfind('.'), text.rfind(',')) {
        (Some(p), Some(c)) if p > c && points == 1 => Some('.'),
        (Some(p), Some(c)) if c > p && commas == 1 => Some(','),
        (Some(_), Some(_)) => return None,
        (Some(_), None) if points == 1 => Some('.'),
        (None, Some(c)) if commas == 1 && text.len() - c - 1 != 3 => Some(','),
        _ => None,
    };
    let (whole, fraction) = match decimal.and_then(|d| text.rsplit_once(d)) {
        Some((whole, fraction)) => (whole, fraction),
        None => (text, ""),
    };
    if fraction.contains(|c: char| !c.is_ascii_digit()) {
        return None;
    }
    // A thousands sign is one and the same all along, and stands before every three digits.
    let groups: Vec<&str> = whole.split(|c: char| c == '.' || c == ',' || is_space(c)).collect();
    let separators: Vec<char> = whole.chars().filter(|c| !c.is_ascii_digit()).collect();
    if separators.windows(2).any(|w| w[0] != w[1])
        || groups.iter().any(|g| g.contains(|c: char| !c.is_ascii_digit()))
        || (groups.len() > 1
            && (groups[0].is_empty() || groups[0].len() > 3 || groups[1..].iter().any(|g| g.len() != 3)))
        || separators.first().is_some_and(|s| Some(*s) == decimal)
    {
        return None;
    }
    let whole: String = groups.concat();
    let units: i128 = if whole.is_empty() { 0 } else { whole.get(..).filter(|w| w.len() <= 20)?.parse().ok()? };
    let mut places = fraction.bytes().map(|b| i128::from(b - b'0')).chain(std::iter::repeat(0));
    let (tenths, hundredths, next) = (places.next()?, places.next()?, places.next()?);
    Some((units * 100 + tenths * 10 + hundredths + i128::from(next >= 5), fraction))
}

/// Whether an amount that is kept with this many decimal places is another one than the text says. What arithmetic with
/// floating point leaves behind, such as the end of `199.98999999999998`, is no part of an amount.
fn rounds(text: &str, places: u32) -> bool {
    let text = text.trim();
    let fraction = match plain(text.as_bytes()) {
        Some(_) => text.rsplit_once('.').map(|(_, fraction)| fraction),
        None => read(text).map(|(_, fraction)| fraction),
    };
    let fraction = fraction.unwrap_or_default();
    if fraction.is_empty() {
        return false;
    }
    let digits = fraction.bytes().chain(std::iter::repeat(b'0')).take(7);
    let millionths = (digits.fold(0_u64, |sum, digit| sum * 10 + u64::from(digit - b'0')) + 5) / 10;
    !millionths.is_multiple_of(10_u64.pow(6 - places))
}

/// `issue(label, kind, text)`: what of a value that is there is not kept, and why, as a sentence for a person; null when
/// all of it is, and when there is none. Kinds are `price` (0 and blank are no price, and no issue), `date`, `number`,
/// `amount` (a number that is kept in hundredths) and `whole amount` (in a currency without hundredths).
fn issues(args: &Args<'_>) -> Result<ArrayRef> {
    let [labels, kinds, values] = [0, 1, 2].map(|at| args.texts(at));
    let found = (0..args.rows).map(|row| {
        let value = values.at(row).and_then(clean)?;
        let (label, kind) = (labels.at(row)?, kinds.at(row)?);
        let unknown = "so it is left unknown";
        let no = |what: &'static str| if too_large(value) { "is too large" } else { what };
        let (fault, therefore) = match kind {
            "date" => (super::date_lenient(value).is_none().then_some("is not a date")?, unknown),
            "number" | "amount" | "whole amount" => match money(value) {
                None => (no("is not a number"), unknown),
                Some(_) if kind == "amount" && rounds(value, 2) => {
                    ("has more than two decimal places", "so it is rounded")
                }
                Some(_) if kind == "whole amount" && rounds(value, 0) => {
                    ("has decimal places, which its currency has not", "so it is rounded")
                }
                Some(_) => return None,
            },
            _ => match money(value) {
                None => (no("is not an amount"), unknown),
                Some(amount) if amount < 0 => ("is negative", unknown),
                Some(_) => return None,
            },
        };
        let shown: String = value.chars().take(60).collect();
        Some(format!("{label} `{shown}` {fault}, {therefore}"))
    });
    Ok(Arc::new(found.collect::<StringArray>()))
}

/// Whether an amount would be one if fewer digits stood before its decimal sign.
fn too_large(text: &str) -> bool {
    let whole = text.split(['.', ',']).next().unwrap_or_default();
    let digits = whole.bytes().filter(u8::is_ascii_digit).count();
    digits > 12 && whole.bytes().all(|b| b.is_ascii_digit() || b == b'-' || b == b'+')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_read_as_written() {
        for (text, hundredths) in [
            ("1,234.50", 123_450),
            ("$1,234.50", 123_450),
            ("USD 1,234.50", 123_450),
            ("1.234,50 €", 123_450),
            ("1 234,50", 123_450),
            ("(25.00)", -2_500),
            ("-$25", -2_500),
            ("$-25", -2_500),
            ("25.00-", -2_500),
            ("1,234", 123_400),
            ("1,234,567", 123_456_700),
            ("12,5", 1_250),
            ("45.125", 4_513),
            ("-45.125", -4_513),
            (".5", 50),
            ("5.", 500),
            ("0", 0),
            ("CA$ 10", 1_000),
            ("1540", 154_000),
        ] {
            assert_eq!(money(text), Some(hundredths), "{text}");
        }
    }

    #[test]
    fn the_short_way_and_the_long_one_agree() {
        for text in
            ["0", "00", "5.", "5.5", "5.05", "5.005", ".5", "1234.50", "999999999999.99", "1000000000000", "1.a", "a"]
        {
            if let Some(short) = plain(text.as_bytes()) {
                assert_eq!(digits(text).map(|(d, _)| d).filter(|d| *d <= LARGEST), Some(short), "{text}");
            }
        }
        assert_eq!(plain(b"1234.5"), Some(123_450));
    }

    #[test]
    fn an_amount_is_rounded_if_its_last_digits_are_not_what_floating_point_left() {
        for (text, places) in
            [("12.345", 2), ("-$1,234.567", 2), ("0.001", 2), ("1500.5", 0), ("12,5", 0), ("1.999", 2)]
        {
            assert!(rounds(text, places), "{text}");
        }
        for (text, places) in [
            ("12.34", 2),
            ("12.340", 2),
            ("199.98999999999998", 2),
            ("0.30000000000000004", 2),
            ("1,234", 2),
            ("1500.00", 0),
            ("1500", 0),
            ("nothing", 0),
        ] {
            assert!(!rounds(text, places), "{text}");
        }
    }

    #[test]
    fn what_is_no_single_amount_is_nothing() {
        for text in [
            "",
            "-",
            "N/A",
            "call",
            "$",
            "1-2",
            "100 - 200",
            "12,34,567",
            "1.2.3",
            "1,23.4,5",
            "--5",
            "1e3",
            "999999999999999",
            "٣",
            "5%",
            ".",
            ",",
        ] {
            assert_eq!(money(text), None, "{text}");
        }
    }
}
