//! Bytes of a feed on their way to the reader of XML: what kind of thing they are, and in which encoding.

use std::io::{self, BufReader, Chain, Cursor, Read};

use catalog::{Blame, Fault, Result, Retry};
use quick_xml::encoding::{DecodingReader, DetectedEncoding, detect_encoding};
use quick_xml::events::Event;
use quick_xml::reader::Reader;

/// How far the look ahead goes that tells the encoding.
const HEAD_BYTES: usize = 1024;
/// How much is decoded at once.
const DECODED_BYTES: usize = 64 * 1024;

/// A fault of the feed itself: reading it again gives the same.
pub(super) fn bad(message: impl Into<std::borrow::Cow<'static, str>>) -> Fault {
    Fault::new(Blame::Remote, Retry::Never, message)
}

/// The fault of a token over the limit.
pub(super) fn too_long(limit: usize) -> Fault {
    bad(format!("one element or text is longer than {limit} bytes"))
}

/// The fault of an input that cannot be read. One that comes through it as an error is told as it is.
pub(super) fn unreadable(error: io::Error) -> Fault {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<Fault>()) {
        Some(f) => Fault::new(f.blame, f.retry, f.message.clone()).hint(f.hint.clone().unwrap_or_default()),
        None => bad("the feed cannot be read").retry(Retry::Backoff).because(error),
    }
}

/// A feed's first bytes, and the others.
type Whole<R> = Chain<Cursor<Vec<u8>>, R>;

fn whole<R: Read>(first: Vec<u8>, inner: R) -> BufReader<Whole<R>> {
    BufReader::with_capacity(DECODED_BYTES, Cursor::new(first).chain(inner))
}

/// A feed's text as UTF-8.
#[derive(Debug)]
pub(super) enum Input<R> {
    Plain(Whole<R>),
    Decoding(Box<DecodingReader<BufReader<Whole<R>>>>),
}

impl<R: Read> Input<R> {
    /// Looks at the first bytes: what is plainly not XML is refused here, and the encoding is settled.
    pub(super) fn open(mut inner: R) -> Result<Self> {
        let mut first = Vec::with_capacity(HEAD_BYTES);
        inner.by_ref().take(HEAD_BYTES as u64).read_to_end(&mut first).map_err(unreadable)?;
        let head = first.as_slice();
        let wide = matches!(
            detect_encoding(head),
            Some(
                DetectedEncoding::Utf16LeLike
                    | DetectedEncoding::Utf16LeBom
                    | DetectedEncoding::Utf16BeLike
                    | DetectedEncoding::Utf16BeBom
            )
        );
        if wide {
            return Ok(Self::Decoding(Box::new(DecodingReader::new(whole(first, inner)))));
        }
        let head = head.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(head).trim_ascii_start();
        match head {
            [] => return Err(bad("the feed is empty")),
            [b'<', ..] => {}
            [b'{' | b'[', ..] => return Err(bad("the feed is JSON, where XML was expected")),
            [0x1F, 0x8B, ..] | [b'P', b'K', ..] => {
                return Err(bad("the feed is compressed").hint("Unpack it first, then read the XML inside."));
            }
            _ => return Err(bad("the feed is not XML: it does not begin with `<`")),
        }
        let declared = match Reader::from_reader(head).read_event() {
            Ok(Event::Decl(declaration)) => match (declaration.encoder(), declaration.encoding()) {
                (Some(encoding), _) => Some(encoding),
                (None, Some(Ok(name))) => {
                    let name: String = name.chars().filter(char::is_ascii_graphic).take(40).collect();
                    return Err(bad(format!("the feed declares the encoding `{name}`, which is not known")));
                }
                _ => None,
            },
            _ => None,
        };
        // A declaration that reads as plain bytes and yet says UTF-16 was copied from a string of two-byte characters.
        match declared.filter(|encoding| !["UTF-8", "UTF-16LE", "UTF-16BE"].contains(&encoding.name())) {
            Some(encoding) => {
                let mut reader = DecodingReader::new(whole(first, inner));
                reader.set_encoding(encoding);
                Ok(Self::Decoding(Box::new(reader)))
            }
            None => Ok(Self::Plain(Cursor::new(first).chain(inner))),
        }
    }
}

impl<R: Read> Read for Input<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(reader) => reader.read(out),
            Self::Decoding(reader) => reader.read(out),
        }
    }
}
