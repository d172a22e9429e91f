//! Numbers of cards in what people write: told apart from other long numbers, and left out before anything is stored.
//!
//! A number of a card has 13 to 19 digits, begins as an issuer's do, and fits its own check digit. One in ten other numbers
//! of that length and beginning fits by chance, so this looks at what people write and not at fields that hold ids.

use std::ops::Range;

use arrow::array::{AsArray, RecordBatch, StringArray};
use catalog::Result;

/// What stands in the place of a number.
const PUT_IN: &str = "[card removed]";
/// Digits of a card, at the least and at the most.
const DIGITS: std::ops::RangeInclusive<usize> = 13..=19;
/// Digits of a telephone number, at the most.
const PHONE_DIGITS: usize = 15;
/// Blanks and dashes between two groups of digits, at the most.
const MOST_BETWEEN: usize = 3;

/// Columns of wire datasets that hold what people write.
const WRITTEN: [(&str, &[&str]); 5] = [
    ("channel_reservations", &["special_requests", "notes", "title"]),
    ("channel_listings", &["house_rules"]),
    ("channel_guests", &["notes"]),
    ("resman_prospect_events", &["subject", "text"]),
    ("resman_v1_prospects", &["comments", "additional"]),
];

/// The rows as they may be kept: without numbers of cards in what people have written.
///
/// # Errors
/// When a batch cannot be put together again.
pub fn left_out(dataset: &str, batch: RecordBatch) -> Result<RecordBatch> {
    let Some((_, written)) = WRITTEN.iter().find(|(name, _)| *name == dataset) else { return Ok(batch) };
    let mut columns = batch.columns().to_vec();
    let mut met = false;
    for name in *written {
        let Some((at, _)) = batch.schema_ref().column_with_name(name) else { continue };
        let Some(texts) = columns[at].as_string_opt::<i32>() else { continue };
        let clean: Vec<Option<String>> = texts.iter().map(|text| text.and_then(without)).collect();
        if clean.iter().any(Option::is_some) {
            met = true;
            let texts: StringArray =
                clean.iter().zip(texts.iter()).map(|(clean, text)| clean.as_deref().or(text)).collect();
            columns[at] = std::sync::Arc::new(texts);
        }
    }
    Ok(if met { RecordBatch::try_new(batch.schema(), columns)? } else { batch })
}

/// A text without the numbers of cards in it; `None` when it has none.
pub(crate) fn without(text: &str) -> Option<String> {
    if text.bytes().filter(u8::is_ascii_digit).count() < *DIGITS.start() {
        return None;
    }
    let (mut out, mut done) = (String::new(), 0);
    for number in numbers(text) {
        out.push_str(&text[done..number.start]);
        out.push_str(PUT_IN);
        done = number.end;
    }
    (done > 0).then(|| out + &text[done..])
}

/// Where numbers of cards are.
fn numbers(text: &str) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    let mut at = 0;
    while let Some(begin) = text[at..].find(|c: char| c.is_ascii_digit()).map(|found| at + found) {
        let groups = groups(text, begin);
        at = groups.last().map_or(text.len(), |last| last.end);
        let digits: usize = groups.iter().map(Range::len).sum();
        // Nobody writes a plus before a card.
        if digits < *DIGITS.start() || (text[..begin].ends_with('+') && digits <= PHONE_DIGITS) {
            continue;
        }
        let mut first = 0;
        while first < groups.len() {
            let last = card_in(text, &groups[first..]);
            if let Some(last) = last {
                found.push(groups[first].start..groups[first + last].end);
            }
            first += last.map_or(1, |last| last + 1);
        }
    }
    found
}

/// The groups of digits from here on that only blanks and dashes stand between.
fn groups(text: &str, begin: usize) -> Vec<Range<usize>> {
    let between = |c: char| c.is_whitespace() || matches!(c, '-' | '\u{2010}'..='\u{2015}');
    let mut groups = Vec::new();
    let mut begin = begin;
    loop {
        let rest = &text[begin..];
        let end = begin + rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        groups.push(begin..end);
        let rest = &text[end..];
        let next = rest.char_indices().take(MOST_BETWEEN + 1).find(|(_, c)| !between(*c));
        match next {
            Some((skip, c)) if skip > 0 && c.is_ascii_digit() => begin = end + skip,
            _ => return groups,
        }
    }
}

/// The last of the groups that make one number of a card with the first one, the longest such number.
fn card_in(text: &str, groups: &[Range<usize>]) -> Option<usize> {
    let mut digits = Vec::with_capacity(*DIGITS.end());
    let mut found = None;
    for (at, group) in groups.iter().enumerate() {
        if digits.len() + group.len() > *DIGITS.end() {
            break;
        }
        digits.extend(text[group.clone()].bytes().map(|digit| digit - b'0'));
        if is_number(&digits) {
            found = Some(at);
        }
    }
    found
}

/// Whether that could be a card's number as a whole.
pub(crate) fn is_card(number: &str) -> bool {
    number.bytes().all(|byte| byte.is_ascii_digit())
        && is_number(&number.bytes().map(|digit| digit - b'0').collect::<Vec<_>>())
}

fn is_number(digits: &[u8]) -> bool {
    DIGITS.contains(&digits.len()) && issued(digits) && check_sum(digits) == 0
}

/// Whether some issuer's numbers begin so and are that long.
fn issued(digits: &[u8]) -> bool {
    let head = |count: usize| digits[..count].iter().fold(0_u32, |n, digit| n * 10 + u32::from(*digit));
    let (two, three, four) = (head(2), head(3), head(4));
    match digits.len() {
        // Visa; Mastercard; RuPay.
        13 | 16 | 19 if two / 10 == 4 => true,
        16 if matches!(two, 51..=55 | 60) || matches!(four, 2221..=2720) || three == 508 => true,
        // American Express.
        15 if matches!(two, 34 | 37) => true,
        // Diners Club; then Discover, JCB, UnionPay and Mir.
        14..=19 if matches!(two, 36 | 38 | 39) || matches!(three, 300..=305) || four == 3095 => true,
        16..=19 if two == 62 || two == 65 || matches!(three, 644..=649) => true,
        16..=19 if four == 6011 || matches!(four, 3528..=3589 | 2200..=2204) => true,
        // Maestro.
        _ => matches!(four, 5018 | 5020 | 5038 | 5893 | 6304 | 6759 | 6761..=6763),
    }
}

/// What is left of Luhn's sum over all digits; nothing if the last one is right.
fn check_sum(digits: &[u8]) -> u32 {
    let weighed = digits.iter().rev().enumerate().map(|(at, digit)| match (at % 2, u32::from(*digit)) {
        (0, digit) => digit,
        (_, digit) => digit * 2 / 10 + digit * 2 % 10,
    });
    weighed.sum::<u32>() % 10
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A number that fits, beginning so and that long.
    fn number(head: &str, length: usize, filling: &[u8]) -> String {
        let mut digits: Vec<u8> = head.bytes().map(|digit| digit - b'0').collect();
        digits.extend(filling.iter().take(length - 1 - head.len()));
        digits.push(0);
        let last = (10 - check_sum(&digits)) % 10;
        *digits.last_mut().unwrap() = u8::try_from(last).unwrap();
        digits.iter().map(|digit| char::from(b'0' + digit)).collect()
    }

    prop_compose! {
        fn any_card()(
            (head, length) in prop_oneof![
                prop_oneof![Just(13_usize), Just(16), Just(19)].prop_map(|length| ("4".to_owned(), length)),
                (51..=55_u32).prop_map(|head| (head.to_string(), 16)),
                (2221..=2720_u32).prop_map(|head| (head.to_string(), 16)),
                prop_oneof![Just("34"), Just("37")].prop_map(|head| (head.to_owned(), 15)),
                (300..=305_u32, 14..=19_usize).prop_map(|(head, length)| (head.to_string(), length)),
                (3528..=3589_u32, 16..=19_usize).prop_map(|(head, length)| (head.to_string(), length)),
                (prop_oneof![Just("6011"), Just("62"), Just("65")], 16..=19_usize)
                    .prop_map(|(head, length)| (head.to_owned(), length)),
                (Just("6759".to_owned()), 13..=19_usize),
            ],
            filling in prop::collection::vec(0..10_u8, 19),
        ) -> String {
            number(&head, length, &filling)
        }
    }

    proptest! {
        #[test]
        fn no_number_of_a_card_survives(
            card in any_card(),
            gaps in prop::collection::vec(prop_oneof![6 => Just(""), 1 => Just(" "), 1 => Just("-"), 1 => Just(" - "), 1 => Just("\u{a0}")], 19),
            before in "(|My card is |7 nights, |visa|room 12 |[a-zß #:]{0,8})",
            after in "(|\\.| exp 04/27| 123|, door code 7788|[a-zß #:]{0,8})",
        ) {
            let written: String = card.chars().zip(gaps).map(|(digit, gap)| format!("{gap}{digit}")).collect();
            let text = format!("{before}{written}{after}");
            let clean = without(&text).unwrap_or_else(|| panic!("{text} is taken for harmless"));
            let left: String = clean.chars().filter(char::is_ascii_digit).collect();
            prop_assert!(!left.contains(&card), "{clean}");
            prop_assert_eq!(without(&clean), None, "once is enough");
        }

        #[test]
        fn a_wrong_digit_is_no_card(card in any_card(), at in 0..13_usize, by in 1..10_u8) {
            let mut digits = card.into_bytes();
            digits[at] = b'0' + (digits[at] - b'0' + by) % 10;
            let number = String::from_utf8(digits).unwrap();
            prop_assert_eq!(without(&number), None, "{}", number);
        }

        #[test]
        fn phones_codes_dates_and_amounts_survive(
            text in prop_oneof![
                r"\+[1-9][0-9]{0,2}[ -]?[0-9]{2,4}[ -]?[0-9]{3}[ -]?[0-9]{3,5}",
                r"\(?251\)? 555-01[0-9]{2}, or 251-555-01[0-9]{2}",
                "HM[A-Z0-9]{8}", "[0-9]{1,12}", "17[0-9]{11}", "17[0-9]{14}",
                "20[0-9]{2}-[01][0-9]-[0-3][0-9] to 20[0-9]{2}-[01][0-9]-[0-3][0-9]",
                "[0-9]{1,6}\\.[0-9]{2} [A-Z]{3}, [0-9]{1,6}\\.[0-9]{2} [A-Z]{3}",
                "[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[a-f][0-9a-f]{11}",
            ],
        ) {
            prop_assert_eq!(without(&text), None, "{}", text);
        }
    }

    #[test]
    fn only_the_number_goes() {
        assert_eq!(
            without("My card is 4111 1111 1111 1111, door code 7788. Or 3782-822463-10005!").as_deref(),
            Some("My card is [card removed], door code 7788. Or [card removed]!")
        );
        assert_eq!(without("call +49 151 5550 14242 or 4111 1111 1111 1112"), None);
        assert!(is_card("5555555555554444") && !is_card("5555555555554445") && !is_card("555555555555444"));
    }

    #[test]
    fn rows_lose_numbers_in_what_people_write_and_nowhere_else() {
        let rows = |value: &str| {
            let column = |text: &str| -> arrow::array::ArrayRef {
                std::sync::Arc::new(StringArray::from(vec![None, Some(text)]))
            };
            RecordBatch::try_from_iter([("reservation_id", column("4111111111111111")), ("notes", column(value))])
                .unwrap()
        };
        let clean = left_out("channel_reservations", rows("card 4111111111111111")).unwrap();
        assert_eq!(clean, rows("card [card removed]"));
        assert_eq!(left_out("rest_orders", rows("4111111111111111")).unwrap(), rows("4111111111111111"));
    }
}
