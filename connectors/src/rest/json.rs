//! A reader over JSON text that never builds a tree: values are handed out as slices of the answer.

use std::borrow::Cow;

/// Levels of lists and objects; what is nested deeper is refused instead of followed.
pub(super) const DEPTH: usize = 128;

/// Why a text is not JSON, and at which byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Bad {
    pub(super) what: &'static str,
    pub(super) at: usize,
}

/// One value.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Value<'a> {
    Null,
    Flag(bool),
    /// A number as it was written.
    Number(&'a str),
    Text(Cow<'a, str>),
    /// A list or an object as it was written.
    Nested(&'a str),
}

/// Where the reading stands.
#[derive(Debug, Clone)]
pub(super) struct Scan<'a> {
    text: &'a str,
    bytes: &'a [u8],
    pub(super) at: usize,
}

type Result<T> = std::result::Result<T, Bad>;

impl<'a> Scan<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Self { text, bytes: text.as_bytes(), at: 0 }
    }

    pub(super) fn bad<T>(&self, what: &'static str) -> Result<T> {
        Err(Bad { what, at: self.at })
    }

    /// What was read from `start` on.
    pub(super) fn since(&self, start: usize) -> &'a str {
        &self.text[start..self.at]
    }

    /// The next byte that is not white space, which is not taken.
    pub(super) fn peek(&mut self) -> Option<u8> {
        loop {
            match self.bytes.get(self.at) {
                Some(b' ' | b'\n' | b'\r' | b'\t') => self.at += 1,
                other => return other.copied(),
            }
        }
    }

    /// Takes this byte if it is the next one.
    pub(super) fn takes(&mut self, byte: u8) -> bool {
        let there = self.peek() == Some(byte);
        self.at += usize::from(there);
        there
    }

    /// The next key of an object whose `{` was taken, its colon taken too; `None` behind the `}`.
    pub(super) fn key(&mut self, first: bool) -> Result<Option<Cow<'a, str>>> {
        match self.peek() {
            Some(b'}') => {
                self.at += 1;
                return Ok(None);
            }
            Some(b',') if !first => self.at += 1,
            Some(_) if first => {}
            Some(_) => return self.bad("a comma or the end of an object is missing"),
            None => return self.bad("it ends amid an object"),
        }
        if !self.takes(b'"') {
            return self.bad("a key is missing");
        }
        let key = self.string()?;
        if !self.takes(b':') {
            return self.bad("a colon is missing");
        }
        Ok(Some(key))
    }

    /// Whether a list whose `[` was taken goes on; at its end the `]` is taken.
    pub(super) fn item(&mut self, first: bool) -> Result<bool> {
        match self.peek() {
            Some(b']') => {
                self.at += 1;
                Ok(false)
            }
            Some(b',') if !first => {
                self.at += 1;
                Ok(true)
            }
            Some(_) if first => Ok(true),
            Some(_) => self.bad("a comma or the end of a list is missing"),
            None => self.bad("it ends amid a list"),
        }
    }

    /// The next value, whole.
    pub(super) fn value(&mut self) -> Result<Value<'a>> {
        match self.peek() {
            Some(b'"') => {
                self.at += 1;
                self.string().map(Value::Text)
            }
            Some(b'-' | b'0'..=b'9') => self.number().map(Value::Number),
            Some(b'{' | b'[') => {
                let start = self.at;
                self.skip(0)?;
                Ok(Value::Nested(self.since(start)))
            }
            Some(b't') => self.word("true", Value::Flag(true)),
            Some(b'f') => self.word("false", Value::Flag(false)),
            Some(b'n') => self.word("null", Value::Null),
            Some(_) => self.bad("no value begins like that"),
            None => self.bad("it ends where a value should be"),
        }
    }

    /// Passes over the next value, which is checked all the same.
    pub(super) fn skip(&mut self, depth: usize) -> Result<()> {
        match self.peek() {
            Some(b'{' | b'[') if depth >= DEPTH => self.bad("it is nested too deeply"),
            Some(b'{') => {
                self.at += 1;
                let mut first = true;
                while self.key(first)?.is_some() {
                    first = false;
                    self.skip(depth + 1)?;
                }
                Ok(())
            }
            Some(b'[') => {
                self.at += 1;
                let mut first = true;
                while self.item(first)? {
                    first = false;
                    self.skip(depth + 1)?;
                }
                Ok(())
            }
            _ => self.value().map(drop),
        }
    }

    /// Refuses anything but white space behind the last value.
    pub(super) fn end(&mut self) -> Result<()> {
        if self.peek().is_some() { self.bad("there is more behind its end") } else { Ok(()) }
    }

    fn word(&mut self, word: &str, value: Value<'a>) -> Result<Value<'a>> {
        if !self.bytes[self.at..].starts_with(word.as_bytes()) {
            return self.bad("no value begins like that");
        }
        self.at += word.len();
        Ok(value)
    }

    fn number(&mut self) -> Result<&'a str> {
        let start = self.at;
        let digits = |scan: &mut Self| {
            let from = scan.at;
            while scan.bytes.get(scan.at).is_some_and(u8::is_ascii_digit) {
                scan.at += 1;
            }
            scan.at - from
        };
        self.at += usize::from(self.bytes[self.at] == b'-');
        let zero = self.bytes.get(self.at) == Some(&b'0');
        let whole = digits(self);
        if whole == 0 || (zero && whole > 1) {
            return self.bad("a number is malformed");
        }
        if self.bytes.get(self.at) == Some(&b'.') {
            self.at += 1;
            if digits(self) == 0 {
                return self.bad("a number is malformed");
            }
        }
        if let Some(b'e' | b'E') = self.bytes.get(self.at) {
            self.at += 1;
            self.at += usize::from(matches!(self.bytes.get(self.at), Some(b'+' | b'-')));
            if digits(self) == 0 {
                return self.bad("a number is malformed");
            }
        }
        Ok(self.since(start))
    }

    /// The rest of a text whose opening quote was taken.
    fn string(&mut self) -> Result<Cow<'a, str>> {
        let start = self.at;
        self.at += plain(&self.bytes[self.at..]);
        match self.bytes.get(self.at) {
            Some(b'"') => {
                self.at += 1;
                Ok(Cow::Borrowed(&self.text[start..self.at - 1]))
            }
            Some(b'\\') => self.escaped(start).map(Cow::Owned),
            Some(_) => self.bad("a text holds a control character"),
            None => self.bad("it ends amid a text"),
        }
    }

    fn escaped(&mut self, start: usize) -> Result<String> {
        let mut out = self.since(start).to_owned();
        loop {
            match self.bytes.get(self.at) {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(out);
                }
                Some(b'\\') => {
                    self.at += 1;
                    self.escape(&mut out)?;
                }
                Some(0..0x20) => return self.bad("a text holds a control character"),
                Some(_) => {
                    let from = self.at;
                    self.at += plain(&self.bytes[self.at..]);
                    out.push_str(self.since(from));
                }
                None => return self.bad("it ends amid a text"),
            }
        }
    }

    fn escape(&mut self, out: &mut String) -> Result<()> {
        let Some(kind) = self.bytes.get(self.at) else { return self.bad("it ends amid a text") };
        self.at += 1;
        out.push(match kind {
            b'"' => '"',
            b'\\' => '\\',
            b'/' => '/',
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => {
                let first = self.unit()?;
                let mut second = None;
                if (0xD800..0xDC00).contains(&first) && self.bytes[self.at..].starts_with(b"\\u") {
                    let back = self.at;
                    self.at += 2;
                    let unit = self.unit()?;
                    if (0xDC00..0xE000).contains(&unit) {
                        second = Some(unit);
                    } else {
                        self.at = back;
                    }
                }
                let code = second.map_or(first, |low| 0x10000 + ((first - 0xD800) << 10) + (low - 0xDC00));
                // Half of a surrogate pair stands for nothing.
                char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER)
            }
            _ => return self.bad("an escape is unknown"),
        });
        Ok(())
    }

    fn unit(&mut self) -> Result<u32> {
        let digits = self.bytes.get(self.at..self.at + 4).filter(|d| d.iter().all(u8::is_ascii_hexdigit));
        let Some(digits) = digits else { return self.bad("an escape is malformed") };
        self.at += 4;
        Ok(digits.iter().fold(0, |code, d| code << 4 | (*d as char).to_digit(16).unwrap_or(0)))
    }
}

/// How many bytes come before the next quote, backslash or control character.
fn plain(bytes: &[u8]) -> usize {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGH: u64 = ONES << 7;
    let zero = |word: u64| word.wrapping_sub(ONES) & !word & HIGH;
    let (chunks, rest) = bytes.as_chunks::<8>();
    for (number, chunk) in chunks.iter().enumerate() {
        let word = u64::from_le_bytes(*chunk);
        let control = word.wrapping_sub(ONES * 0x20) & !word & HIGH;
        let special = zero(word ^ (ONES * u64::from(b'"'))) | zero(word ^ (ONES * u64::from(b'\\'))) | control;
        // A borrow can mark a byte wrongly, but only behind one that is marked rightly.
        if special != 0 {
            return number * 8 + (special.trailing_zeros() / 8) as usize;
        }
    }
    let tail = rest.iter().position(|b| matches!(b, b'"' | b'\\' | 0..0x20)).unwrap_or(rest.len());
    chunks.len() * 8 + tail
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn whole(text: &str) -> Result<()> {
        let mut scan = Scan::new(text);
        scan.skip(0)?;
        scan.end()
    }

    /// Reads a value back into a tree, to be compared with another parser's.
    fn tree(scan: &mut Scan<'_>) -> serde_json::Value {
        match scan.peek() {
            Some(b'{') => {
                scan.at += 1;
                let (mut map, mut first) = (serde_json::Map::new(), true);
                while let Some(key) = scan.key(first).unwrap() {
                    first = false;
                    map.insert(key.into_owned(), tree(scan));
                }
                map.into()
            }
            Some(b'[') => {
                scan.at += 1;
                let (mut list, mut first) = (Vec::new(), true);
                while scan.item(first).unwrap() {
                    first = false;
                    list.push(tree(scan));
                }
                list.into()
            }
            _ => match scan.value().unwrap() {
                Value::Null => serde_json::Value::Null,
                Value::Flag(flag) => flag.into(),
                Value::Number(text) => serde_json::from_str(text).unwrap(),
                Value::Text(text) => text.into_owned().into(),
                Value::Nested(_) => unreachable!(),
            },
        }
    }

    fn any_json() -> impl Strategy<Value = serde_json::Value> {
        let leaf = prop_oneof![
            Just(serde_json::Value::Null),
            any::<bool>().prop_map(Into::into),
            any::<i64>().prop_map(Into::into),
            // Eighths are exact in both parsers; how floats are rounded is not what is compared here.
            any::<i32>().prop_map(|n| (f64::from(n) / 8.0).into()),
            any::<String>().prop_map(Into::into),
        ];
        leaf.prop_recursive(4, 40, 6, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..6).prop_map(Into::into),
                prop::collection::btree_map(any::<String>(), inner, 0..6)
                    .prop_map(|m| serde_json::Value::Object(m.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn reads_what_another_parser_wrote(value in any_json(), pretty in any::<bool>()) {
            let text = if pretty { serde_json::to_string_pretty(&value) } else { serde_json::to_string(&value) }.unwrap();
            prop_assert_eq!(tree(&mut Scan::new(&text)), value);
            prop_assert!(whole(&text).is_ok());
        }

        /// A byte that is lost, doubled or replaced is JSON for both parsers or for none.
        #[test]
        fn refuses_what_another_parser_refuses(value in any_json(), at in any::<prop::sample::Index>(), byte in 0_u8..128) {
            let text = serde_json::to_string(&value).unwrap();
            let mut bytes = text.into_bytes();
            let place = at.index(bytes.len());
            bytes[place] = byte;
            if let Ok(text) = String::from_utf8(bytes) {
                let raw: std::result::Result<Box<serde_json::value::RawValue>, _> = serde_json::from_str(&text);
                prop_assert_eq!(whole(&text).is_ok(), raw.is_ok(), "{}", text);
            }
        }
    }

    #[test]
    fn escapes_and_edges() {
        let text = |json: &str| match Scan::new(json).value() {
            Ok(Value::Text(text)) => text.into_owned(),
            other => panic!("{other:?}"),
        };
        assert_eq!(text(r#""a\u00e4\ud83d\ude00\n\/\"""#), "a\u{e4}\u{1F600}\n/\"");
        assert_eq!(text(r#""\ud83d-\ude00\ud83dA""#), "\u{FFFD}-\u{FFFD}\u{FFFD}A");
        for wrong in [
            "",
            "nul",
            "01",
            "1.",
            "-",
            "1e",
            "\"\\x\"",
            "\"a",
            "[1 2]",
            "{\"a\" 1}",
            "{,}",
            "[1,]",
            "\"\u{1}\"",
            "1 1",
        ] {
            assert!(whole(wrong).is_err(), "{wrong}");
        }
        assert!(whole(&format!("{}{}", "[".repeat(DEPTH), "]".repeat(DEPTH))).is_ok());
        let deep = "[".repeat(2_000_000);
        assert_eq!(whole(&deep).unwrap_err().what, "it is nested too deeply");
    }
}
