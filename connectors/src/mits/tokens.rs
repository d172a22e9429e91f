//! XML as tokens, for feeds of any length.
//!
//! What a general reader gives one event at a time, most of it for nobody, is half of the time that a feed takes. This one
//! hands out slices of its window, knows where it is, checks that end tags match, and refuses a token that never ends.
//! It resolves no references and reads no declarations: what it does not know it hands on as it stands.

use std::io::{self, Read};

use catalog::Result;
use memchr::{memchr, memchr3, memmem, memrchr};

use super::input::{bad, too_long, unreadable};
use super::parser::cut;

/// How much is read at once.
const CHUNK_BYTES: usize = 256 * 1024;
/// How long a reference may be that is waited for when a text is handed out in parts.
const REFERENCE_BYTES: usize = 64;

/// A part of a document.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Token<'a> {
    /// A start tag: what is between `<` and `>`, and how long the name is. An `empty` one has no end tag.
    Open { tag: &'a str, name: usize, empty: bool },
    /// An end tag, of the element that was opened last.
    Close,
    /// Text with its references as they are written. A long one comes in parts, none of which ends inside a reference.
    Text(&'a str),
    /// What a CDATA section holds.
    Literal(&'a str),
    /// What a DOCTYPE says, up to its end or to the declarations in it.
    Doctype(&'a str),
    /// A comment or a processing instruction.
    Aside,
    /// There is no more.
    End,
}

/// Tokens of a text in UTF-8.
#[derive(Debug)]
pub(super) struct Tokens<R> {
    input: R,
    /// The window, and where in it the next token begins.
    text: String,
    at: usize,
    /// Bytes behind the window: a character that has not come whole, or something that is none.
    bytes: Box<[u8]>,
    waiting: usize,
    broken: bool,
    ended: bool,
    /// What has left the window.
    gone: u64,
    lines: u64,
    limit: usize,
    /// The names of the open elements, one behind the other, and where each begins.
    names: String,
    open: Vec<usize>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Tag,
    EndTag,
    Text,
    Literal,
    Doctype,
    Aside,
}

impl<R: Read> Tokens<R> {
    /// Tokens of `input`; one that is longer than `limit` bytes is refused.
    pub(super) fn new(input: R, limit: usize) -> Self {
        Self {
            input,
            text: String::new(),
            at: 0,
            bytes: vec![0; CHUNK_BYTES].into(),
            waiting: 0,
            broken: false,
            ended: false,
            gone: 0,
            lines: 1,
            limit,
            names: String::new(),
            open: Vec::new(),
        }
    }

    /// The byte behind the last token, and its line.
    pub(super) fn place(&self) -> (u64, u64) {
        (self.gone + self.at as u64, self.lines + newlines(&self.text.as_bytes()[..self.at]))
    }

    /// The next token.
    ///
    /// # Errors
    /// Text that is not UTF-8, markup that is none or never ends, end tags that do not match, and what the input says.
    pub(super) fn next(&mut self) -> Result<Token<'_>> {
        let (kind, length) = loop {
            if let Some(found) = scan(&self.text.as_bytes()[self.at..], self.ended)? {
                break found;
            }
            if self.ended {
                if self.at == self.text.len() && self.waiting == 0 {
                    return Ok(Token::End);
                }
                self.at = self.text.len();
                return Err(cut());
            }
            self.more()?;
        };
        let start = self.at;
        self.at += length;
        if length > self.limit && kind != Kind::Text {
            return Err(too_long(self.limit));
        }
        let whole = &self.text[start..self.at];
        Ok(match kind {
            Kind::Text => Token::Text(whole),
            Kind::Literal => Token::Literal(&whole[9..length - 3]),
            Kind::Doctype => Token::Doctype(whole[9..].trim_ascii_start()),
            Kind::Aside => Token::Aside,
            Kind::Tag => {
                let inside = &whole[1..length - 1];
                let (tag, empty) = inside.strip_suffix('/').map_or((inside, false), |tag| (tag, true));
                let name = tag.bytes().position(|b| b.is_ascii_whitespace()).unwrap_or(tag.len());
                if !empty {
                    self.open.push(self.names.len());
                    self.names.push_str(&tag[..name]);
                }
                Token::Open { tag, name, empty }
            }
            Kind::EndTag => {
                let name = whole[2..length - 1].trim_ascii_end();
                match self.open.pop() {
                    Some(start) if self.names[start..] == *name => self.names.truncate(start),
                    _ => return Err(bad("the feed is not well-formed: an end tag does not match its start tag")),
                }
                Token::Close
            }
        })
    }

    /// The text of the element that the last token opened, and passes its end tag, if it holds a plain text and nothing
    /// else. That is how most elements are, and it spares two tokens for each.
    pub(super) fn content(&mut self) -> Option<&str> {
        let rest = &self.text.as_bytes()[self.at..];
        let length = memchr(b'<', rest).filter(|length| *length <= self.limit)?;
        let name = &self.names[*self.open.last()?..];
        let behind = rest[length..].strip_prefix(b"</")?.strip_prefix(name.as_bytes())?;
        if behind.first() != Some(&b'>') || memchr(b'&', &rest[..length]).is_some() {
            return None;
        }
        let start = self.at;
        self.at += length + name.len() + 3;
        let name = self.open.pop()?;
        self.names.truncate(name);
        Some(&self.text[start..start + length])
    }

    /// Reads on.
    fn more(&mut self) -> Result<()> {
        self.lines += newlines(&self.text.as_bytes()[..self.at]);
        self.gone += self.at as u64;
        self.text.drain(..self.at);
        self.at = 0;
        if self.text.len() > self.limit {
            return Err(too_long(self.limit));
        }
        if self.broken {
            return Err(bad("the feed's text is not in the encoding that it declares"));
        }
        let read = loop {
            match self.input.read(&mut self.bytes[self.waiting..]) {
                Ok(read) => break read,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(unreadable(e)),
            }
        };
        self.ended = read == 0;
        let filled = self.waiting + read;
        let sound = match std::str::from_utf8(&self.bytes[..filled]) {
            Ok(text) => text,
            Err(e) => {
                self.broken = e.error_len().is_some();
                std::str::from_utf8(&self.bytes[..e.valid_up_to()]).unwrap_or_default()
            }
        };
        let taken = sound.len();
        let first = self.gone == 0 && self.text.is_empty();
        self.text.push_str(sound.strip_prefix('\u{FEFF}').filter(|_| first).unwrap_or(sound));
        self.bytes.copy_within(taken..filled, 0);
        self.waiting = filled - taken;
        Ok(())
    }
}

/// What kind of token a text begins with, and how long it is; none when that cannot be said yet.
fn scan(rest: &[u8], ended: bool) -> Result<Option<(Kind, usize)>> {
    let behind = |mark: &[u8], from: usize, kind: Kind| {
        Ok(memmem::find(rest.get(from..).unwrap_or_default(), mark).map(|at| (kind, from + at + mark.len())))
    };
    match rest {
        [] => Ok(None),
        [b'<', b'/', ..] => Ok(tag_end(rest).map(|length| (Kind::EndTag, length))),
        [b'<', b'?', ..] => behind(b"?>", 2, Kind::Aside),
        [b'<', b'!', b'-', b'-', ..] => behind(b"-->", 4, Kind::Aside),
        [b'<', b'!', b'[', ..] if rest.starts_with(b"<![CDATA[") => behind(b"]]>", 9, Kind::Literal),
        [b'<', b'!', more @ ..] => {
            let known: [&[u8]; 3] = [b"--", b"[CDATA[", b"DOCTYPE"];
            let begins = |mark: &[u8]| mark.iter().zip(more).all(|(a, b)| a.eq_ignore_ascii_case(b));
            if !known.iter().any(|mark| begins(mark)) || (more.len() >= 7 && !begins(b"DOCTYPE")) {
                return Err(bad("the feed is not well-formed: unknown markup behind `<!`"));
            }
            if more.len() < 7 {
                return Ok(None);
            }
            // Declarations inside are refused, whatever they are, so that their end need not be found.
            let open = memchr(b'[', rest).filter(|at| memchr(b'>', &rest[..*at]).is_none());
            Ok(open.map(|at| at + 1).or_else(|| tag_end(rest)).map(|length| (Kind::Doctype, length)))
        }
        [b'<'] => Ok(None),
        [b'<', ..] => Ok(tag_end(rest).map(|length| (Kind::Tag, length))),
        _ => {
            let length = memchr(b'<', rest).unwrap_or_else(|| if ended { rest.len() } else { settled(rest) });
            Ok((length > 0).then_some((Kind::Text, length)))
        }
    }
}

/// The length of a tag: a `>` inside quotes does not end it.
fn tag_end(rest: &[u8]) -> Option<usize> {
    let mut at = 1;
    loop {
        at += memchr3(b'>', b'"', b'\'', rest.get(at..)?)?;
        if rest[at] == b'>' {
            return Some(at + 1);
        }
        at += memchr(rest[at], &rest[at + 1..])? + 2;
    }
}

/// How much of a text that goes on does not end inside a reference.
fn settled(text: &[u8]) -> usize {
    let from = text.len().saturating_sub(REFERENCE_BYTES);
    match memrchr(b'&', &text[from..]) {
        Some(at) if memchr(b';', &text[from + at..]).is_none() => from + at,
        _ => text.len(),
    }
}

fn newlines(bytes: &[u8]) -> u64 {
    // Counting in bytes, a stretch at a time, is what a processor does many at once.
    bytes.chunks(255).map(|part| u64::from(part.iter().map(|&b| u8::from(b == b'\n')).sum::<u8>())).sum()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use quick_xml::events::Event;

    use super::*;

    /// Gives a few bytes at a time.
    struct Trickle<'a>(&'a [u8], usize);

    impl Read for Trickle<'_> {
        fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
            let length = self.1.min(self.0.len()).min(out.len());
            let (now, later) = self.0.split_at(length);
            out[..length].copy_from_slice(now);
            self.0 = later;
            Ok(length)
        }
    }

    /// What a document holds, parts of one text put together; cut short by `…` where it cannot be read on.
    fn said(parts: impl Iterator<Item = Option<(char, String)>>) -> Vec<(char, String)> {
        let mut all: Vec<(char, String)> = Vec::new();
        for part in parts {
            match (part, all.last_mut()) {
                (None, _) => all.push(('…', String::new())),
                (Some(('t', more)), Some(('t', text))) => text.push_str(&more),
                (Some(part), _) => all.push(part),
            }
        }
        all
    }

    fn ours(document: &str, step: usize, whole_elements: bool) -> Vec<(char, String)> {
        let mut tokens = Tokens::new(Trickle(document.as_bytes(), step), 1 << 20);
        let mut parts = Vec::new();
        loop {
            let mut opened = false;
            parts.push(match tokens.next() {
                Err(_) => None,
                Ok(Token::End) => break,
                Ok(Token::Open { tag, empty, .. }) => {
                    opened = !empty;
                    Some((if empty { 'e' } else { 'o' }, tag.to_owned()))
                }
                Ok(Token::Close) => Some(('c', String::new())),
                Ok(Token::Text(text)) => Some(('t', text.to_owned())),
                Ok(Token::Literal(text)) => Some(('l', text.to_owned())),
                Ok(Token::Aside) => Some(('a', String::new())),
                Ok(Token::Doctype(_)) => Some(('d', String::new())),
            });
            if parts.last() == Some(&None) {
                break;
            }
            if opened
                && whole_elements
                && let Some(text) = tokens.content()
            {
                if !text.is_empty() {
                    parts.push(Some(('t', text.to_owned())));
                }
                parts.push(Some(('c', String::new())));
            }
        }
        said(parts.into_iter())
    }

    fn theirs(document: &str) -> Vec<(char, String)> {
        let mut reader = quick_xml::Reader::from_str(document);
        reader.config_mut().allow_dangling_amp = true;
        let mut parts = Vec::new();
        loop {
            parts.push(match reader.read_event() {
                Err(_) => None,
                Ok(Event::Eof) => break,
                Ok(Event::Start(e)) => Some(('o', (*e).to_owned())),
                Ok(Event::Empty(e)) => Some(('e', (*e).to_owned())),
                Ok(Event::End(_)) => Some(('c', String::new())),
                Ok(Event::Text(e)) => Some(('t', (*e).to_owned())),
                Ok(Event::GeneralRef(e)) => Some(('t', format!("&{};", &*e))),
                Ok(Event::CData(e)) => Some(('l', (*e).to_owned())),
                Ok(Event::Comment(_) | Event::PI(_) | Event::Decl(_)) => Some(('a', String::new())),
                Ok(Event::DocType(_)) => Some(('d', String::new())),
            });
            if parts.last() == Some(&None) {
                break;
            }
        }
        said(parts.into_iter())
    }

    const PIECES: [&str; 22] = [
        "<a>",
        "</a>",
        "</a >",
        "<b x='1>2' y=\"&amp;'\">",
        "</b>",
        "<c/>",
        "<d e=\"f/\" />",
        "<n:e\n>",
        "</n:e>",
        "text",
        " ",
        "\n",
        "ü€",
        "&amp;",
        "& ",
        "&#65;",
        "<!-- <x> - -->",
        "<![CDATA[ ]] <y> ]]>",
        "<?pi > ?>",
        "<!DOCTYPE a SYSTEM 'x>'>",
        ">",
        "]]>",
    ];

    proptest! {
        #[test]
        fn tokens_are_those_of_a_general_reader(
            pieces in prop::collection::vec(prop::sample::select(&PIECES[..]), 0..24), cut in 0..12_usize, step in 1..9_usize
        ) {
            let mut document = pieces.concat();
            while cut > 8 && !document.is_char_boundary(document.len().saturating_sub(cut)) {
                document.pop();
            }
            if cut > 8 {
                document.truncate(document.len().saturating_sub(cut));
            }
            let expected = theirs(&document);
            prop_assert_eq!(ours(&document, step, false), expected.clone(), "{}", &document);
            prop_assert_eq!(ours(&document, step, true), expected.clone(), "{}", &document);
            prop_assert_eq!(ours(&document, 1 << 20, true), expected, "{}", &document);
        }
    }

    #[test]
    fn a_text_in_parts_is_not_cut_inside_a_reference() {
        let text = format!("<a>{}</a>", "x&amp;".repeat(200));
        let mut tokens = Tokens::new(Trickle(text.as_bytes(), 7), 1 << 20);
        let mut parts = 0;
        loop {
            match tokens.next().unwrap() {
                Token::Text(part) => {
                    parts += 1;
                    assert_eq!(part.matches('&').count(), part.matches(';').count(), "{part}");
                }
                Token::End => break,
                _ => {}
            }
        }
        assert!(parts > 10, "{parts}");
    }

    #[test]
    fn a_character_that_is_cut_in_two_or_is_none_is_not_passed_over() {
        for (tail, told) in [(&b"\xE2\x82"[..], "ends before it is complete"), (b"\xFF", "not in the encoding")] {
            for step in [1, 1 << 20] {
                let document = [b"<a>x</a>", tail].concat();
                let mut tokens = Tokens::new(Trickle(&document, step), 100);
                let fault = loop {
                    match tokens.next() {
                        Err(fault) => break fault,
                        Ok(token) => assert_ne!(token, Token::End),
                    }
                };
                assert!(fault.message.contains(told), "{fault}");
            }
        }
    }

    #[test]
    fn places_are_counted_over_the_whole_and_long_tokens_refused() {
        let text = format!("<a>\n\n<b>{}</b>\n<c", "y".repeat(300));
        let mut tokens = Tokens::new(Trickle(text.as_bytes(), 16), 1 << 20);
        while !matches!(tokens.next(), Err(_) | Ok(Token::End)) {}
        assert_eq!(tokens.place(), (text.len() as u64, 4));
        let long = format!("<a b='{}'>", "y".repeat(300));
        for step in [16, 1 << 20] {
            let mut tokens = Tokens::new(Trickle(long.as_bytes(), step), 100);
            assert_eq!(tokens.next().unwrap_err().message, "one element or text is longer than 100 bytes");
        }
    }
}
