//! Words, numbers and marks of a message, and its sentences.

use std::borrow::Cow;
use std::ops::Range;

/// A message is read up to here: nobody says more at once, and the work stays bounded.
const MOST_TOKENS: usize = 4_000;

/// A piece of a message.
#[derive(Debug, Clone)]
pub(super) struct Token<'a> {
    /// As it was written.
    pub(super) text: &'a str,
    /// In small letters, slips of the finger in words that matter mended; for marks the mark itself.
    pub(super) word: Cow<'a, str>,
    /// Its value, if it is a number or a number's word.
    pub(super) number: Option<f64>,
    /// The currency whose sign stands at it, as an ISO 4217 code.
    pub(super) currency: Option<&'static str>,
    /// Whether it is an ordinal: `14th`, `first`.
    pub(super) ordinal: bool,
    /// Whether it is a number in letters.
    pub(super) spelled: bool,
    /// Whether no blank stands before it.
    pub(super) glued: bool,
    /// Where it stands.
    pub(super) at: Range<usize>,
}

impl Token<'_> {
    /// Whether it is one of these words.
    pub(super) fn is(&self, words: &[&str]) -> bool {
        words.contains(&&*self.word)
    }

    /// Whether it starts with a capital.
    pub(super) fn capital(&self) -> bool {
        self.text.chars().next().is_some_and(char::is_uppercase)
    }

    /// Whether it is made of letters.
    pub(super) fn wordy(&self) -> bool {
        self.number.is_none() && self.text.chars().next().is_some_and(char::is_alphabetic)
    }
}

/// A message that was taken apart.
#[derive(Debug, Clone)]
pub(super) struct Text<'a> {
    whole: &'a str,
    /// Its tokens.
    pub(super) tokens: Vec<Token<'a>>,
    /// Its sentences, each with its closing mark.
    pub(super) sentences: Vec<Range<usize>>,
}

impl<'a> Text<'a> {
    /// Takes a message apart.
    pub(super) fn new(whole: &'a str) -> Self {
        let tokens = join(split(whole));
        let mut sentences: Vec<Range<usize>> = Vec::new();
        let mut start = 0;
        for (at, token) in tokens.iter().enumerate() {
            if !token.is(&[".", "!", "?", "\n", ";"]) {
                continue;
            }
            match sentences.last_mut() {
                // `?!` and `...` close one sentence.
                Some(last) if at == start => last.end = at + 1,
                _ => sentences.push(start..at + 1),
            }
            start = at + 1;
        }
        if start < tokens.len() {
            sentences.push(start..tokens.len());
        }
        Self { whole, tokens, sentences }
    }

    /// The words of a run of tokens, as they were written.
    pub(super) fn words(&self, run: Range<usize>) -> &'a str {
        match (self.tokens.get(run.start), self.tokens.get(run.end.wrapping_sub(1))) {
            (Some(first), Some(last)) if first.at.start < last.at.end => &self.whole[first.at.start..last.at.end],
            _ => "",
        }
    }
}

fn split(whole: &str) -> Vec<Token<'_>> {
    let mut tokens: Vec<Token<'_>> = Vec::with_capacity(whole.len() / 4 + 1);
    let bytes = whole.as_bytes();
    let mut at = 0;
    let mut end = 0;
    while let Some(c) = whole[at..].chars().next() {
        if tokens.len() >= MOST_TOKENS {
            break;
        }
        if c.is_whitespace() && c != '\n' {
            at += c.len_utf8();
            continue;
        }
        let glued = at == end && at > 0;
        let (length, number) = if c.is_ascii_digit() || (c == '.' && !glued && digit(bytes, at + 1)) {
            number(bytes, at)
        } else if c.is_alphabetic() {
            (word(&whole[at..]), None)
        } else {
            (c.len_utf8(), None)
        };
        let text = &whole[at..at + length];
        at += length;
        end = at;
        let word = match number {
            None if c.is_alphabetic() => lower(text),
            _ => Cow::Borrowed(text),
        };
        let mut token =
            Token { text, word, number, currency: None, ordinal: false, spelled: false, glued, at: at - length..at };
        if number.is_some()
            && let Some(code) = tokens.last().and_then(|t| sign(t.text)).filter(|_| tokens.len() > 1 || glued)
        {
            token.currency = Some(code);
        }
        tokens.push(token);
    }
    tokens
}

fn digit(bytes: &[u8], at: usize) -> bool {
    bytes.get(at).is_some_and(u8::is_ascii_digit)
}

/// A number such as `1,800.50`: its length and its value.
fn number(bytes: &[u8], from: usize) -> (usize, Option<f64>) {
    let mut text = String::with_capacity(12);
    let mut at = from;
    // Behind the point of a date comes no other one: `08.2026` of `07.08.2026` is two numbers.
    let mut point = from >= 2 && bytes[from - 1] == b'.' && bytes[from - 2].is_ascii_digit();
    while let Some(b) = bytes.get(at) {
        match b {
            b'0'..=b'9' => text.push(*b as char),
            // A thousands separator has exactly three digits behind it.
            b',' if !point && !text.is_empty() && (1..=3).all(|n| digit(bytes, at + n)) && !digit(bytes, at + 4) => {}
            // A second point makes it a date or an address, whose parts are numbers of their own.
            b'.' if !point && digit(bytes, at + 1) => {
                let behind = (1..).take_while(|n| digit(bytes, at + n)).count() + 1;
                if bytes.get(at + behind) == Some(&b'.') && digit(bytes, at + behind + 1) {
                    break;
                }
                point = true;
                text.push('.');
            }
            _ => break,
        }
        at += 1;
    }
    (at - from, text.parse().ok().filter(|n: &f64| *n < 1e12))
}

/// The length of a word, with apostrophes inside it.
fn word(text: &str) -> usize {
    let mut letters = text.char_indices().peekable();
    while let Some((at, c)) = letters.next() {
        let inner = matches!(c, '\'' | '’') && letters.peek().is_some_and(|(_, n)| n.is_alphabetic());
        let mark = !c.is_ascii() && !c.is_whitespace() && c.is_alphanumeric();
        if !(c.is_alphabetic() || inner || mark) {
            return at;
        }
    }
    text.len()
}

fn lower(text: &str) -> Cow<'_, str> {
    let plain = text.bytes().all(|b| b.is_ascii_lowercase() || b == b'\'');
    let word = if plain { Cow::Borrowed(text) } else { Cow::Owned(text.to_lowercase().replace('’', "'")) };
    match mended(&word) {
        Some(right) => Cow::Borrowed(right),
        None => word,
    }
}

fn sign(text: &str) -> Option<&'static str> {
    match text {
        "$" => Some("USD"),
        "€" => Some("EUR"),
        "£" => Some("GBP"),
        "¥" => Some("JPY"),
        "₹" => Some("INR"),
        _ => None,
    }
}

/// The words that a slip of the finger must not hide.
const MATTERS: &[&str] = &[
    "apartment",
    "apartments",
    "available",
    "balcony",
    "bathroom",
    "bathrooms",
    "bedroom",
    "bedrooms",
    "budget",
    "dishwasher",
    "elevator",
    "furnished",
    "garage",
    "kitten",
    "laundry",
    "maximum",
    "minimum",
    "monday",
    "month",
    "parking",
    "saturday",
    "schedule",
    "september",
    "studio",
    "sunday",
    "thursday",
    "tomorrow",
    "tuesday",
    "unfurnished",
    "viewing",
    "washer",
    "wednesday",
    "january",
    "february",
    "october",
    "november",
    "december",
    "august",
    "friday",
];

/// Words that are near one of those and are right.
const RIGHT: &[&str] = &["mouth", "fished", "sundry", "washed", "bucket", "studios", "warring", "parting", "rationed"];

/// The word that matters and is one slip away: a letter left out, doubled, swapped or hit beside.
fn mended(word: &str) -> Option<&'static str> {
    if word.len() < 5 || !word.is_ascii() {
        return None;
    }
    let letters = word.as_bytes();
    for right in MATTERS {
        let right_letters = right.as_bytes();
        if right_letters[0] != letters[0] || right.len().abs_diff(word.len()) > 1 {
            continue;
        }
        if *right == word {
            return None;
        }
        let plural = word.strip_suffix('s') == Some(right) || right.strip_suffix('s') == Some(word);
        if !plural && right.len() > 5 && one_slip(letters, right_letters) && !RIGHT.contains(&word) {
            return Some(right);
        }
    }
    None
}

fn one_slip(a: &[u8], b: &[u8]) -> bool {
    let front = a.iter().zip(b).take_while(|(x, y)| x == y).count();
    let (a, b) = (&a[front..], &b[front..]);
    let back = a.iter().rev().zip(b.iter().rev()).take_while(|(x, y)| x == y).count();
    let (a, b) = (&a[..a.len() - back], &b[..b.len() - back]);
    matches!((a, b), ([], [_]) | ([_], []) | ([_], [_])) || matches!((a, b), ([p, q], [r, s]) if p == s && q == r)
}

const UNITS: [&str; 20] = [
    "zero",
    "one",
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
    "ten",
    "eleven",
    "twelve",
    "thirteen",
    "fourteen",
    "fifteen",
    "sixteen",
    "seventeen",
    "eighteen",
    "nineteen",
];
const TENS: [&str; 8] = ["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"];
const ORDINALS: [&str; 12] = [
    "first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth", "eleventh",
    "twelfth",
];

fn unit(word: &str) -> Option<f64> {
    UNITS.iter().position(|u| *u == word).map(|n| n as f64)
}

fn ten(word: &str) -> Option<f64> {
    TENS.iter().position(|t| *t == word).map(|n| (n as f64 + 2.0) * 10.0)
}

/// Puts numbers in words together, and takes `k`, `th` and the like into the number before them.
fn join(tokens: Vec<Token<'_>>) -> Vec<Token<'_>> {
    let mut joined: Vec<Token<'_>> = Vec::with_capacity(tokens.len());
    let mut rest = tokens.into_iter().peekable();
    while let Some(mut token) = rest.next() {
        if token.number.is_some() {
            if let Some(next) = rest.peek().filter(|n| n.glued) {
                if next.is(&["k"]) && token.number.is_some_and(|n| n < 1_000.0) {
                    token.number = token.number.map(|n| n * 1_000.0);
                    token.currency = token.currency.or(Some(""));
                    token.at.end = next.at.end;
                    rest.next();
                } else if next.is(&["st", "nd", "rd", "th"]) {
                    token.ordinal = true;
                    token.at.end = next.at.end;
                    rest.next();
                } else if let Some(code) = sign(next.text) {
                    token.currency = Some(code);
                }
            }
            joined.push(token);
            continue;
        }
        if let Some(n) = ORDINALS.iter().position(|o| token.is(&[o])) {
            token.number = Some(n as f64 + 1.0);
            (token.ordinal, token.spelled) = (true, true);
            joined.push(token);
            continue;
        }
        let (tens, units) = (ten(&token.word), unit(&token.word));
        let Some(mut value) = tens.or(units) else {
            joined.push(token);
            continue;
        };
        let mut total = 0.0;
        let mut last = rest.clone();
        let mut open = tens.is_some();
        // `twenty five`, `twenty-five`, `fifteen hundred`, `two thousand five hundred`.
        while let Some(next) = last.next() {
            if next.is(&["-"]) && next.glued && last.peek().is_some_and(|n| unit(&n.word).is_some()) && open {
                continue;
            }
            match (unit(&next.word), ten(&next.word)) {
                (Some(n), _) if open && (1.0..10.0).contains(&n) => (value, open) = (value + n, false),
                (Some(n), _) if value == 0.0 => (value, open) = (n, false),
                (_, Some(n)) if value == 0.0 || (value % 100.0 == 0.0 && value > 0.0) => {
                    (value, open) = (value + n, true)
                }
                _ if next.is(&["hundred"]) && value > 0.0 && value < 100.0 => (value, open) = (value * 100.0, false),
                _ if next.is(&["thousand", "grand"]) && value > 0.0 && total == 0.0 => {
                    total = value * 1_000.0;
                    (value, open) = (0.0, false);
                }
                _ => break,
            }
            token.at.end = next.at.end;
            rest = last.clone();
        }
        token.number = Some(total + value);
        token.spelled = true;
        joined.push(token);
    }
    joined
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(text: &str) -> Vec<f64> {
        Text::new(text).tokens.iter().filter_map(|t| t.number).collect()
    }

    #[test]
    fn numbers_are_read_in_figures_and_in_words() {
        assert_eq!(numbers("$1,800.50 or 2.2k, 2br/1ba"), [1800.5, 2200.0, 2.0, 1.0]);
        assert_eq!(numbers("twenty-five hundred, two thousand five hundred, fifty five"), [2500.0, 2500.0, 55.0]);
        assert_eq!(numbers("the 14th or the third, 3/14, 07.08.2026"), [14.0, 3.0, 3.0, 14.0, 7.0, 8.0, 2026.0]);
        assert_eq!(numbers("two three-bedroom"), [2.0, 3.0]);
    }

    #[test]
    fn slips_in_words_that_matter_are_mended() {
        let words = |t: &str| Text::new(t).tokens.iter().map(|t| t.word.to_string()).collect::<Vec<_>>();
        assert_eq!(words("Bedrom bugdet balconny mouth"), ["bedroom", "budget", "balcony", "mouth"]);
    }

    #[test]
    fn any_text_is_taken_apart() {
        for text in ["", "...", "?!?", "\u{202e}مرحبا 🏠 2", "a\u{301}b'c''", "999999999999999999999999"] {
            let parts = Text::new(text);
            assert!(parts.sentences.iter().all(|s| s.end <= parts.tokens.len()), "{text}");
        }
    }
}
