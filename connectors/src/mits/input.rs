//! Bytes of a feed on their way to the XML reader: what kind of thing they are, in which encoding, and how many of them.

use std::io::{self, BufRead, Read};

use catalog::{Blame, Fault, Result, Retry};
use quick_xml::encoding::{DecodingReader, DetectedEncoding, detect_encoding};
use quick_xml::events::Event;
use quick_xml::reader::Reader;

/// How much is read at once.
const CHUNK_BYTES: usize = 256 * 1024;
/// How far the look ahead goes that tells the encoding.
const HEAD_BYTES: usize = 1024;

/// A fault of the feed itself: reading it again gives the same.
pub(super) fn bad(message: impl Into<std::borrow::Cow<'static, str>>) -> Fault {
    Fault::new(Blame::Remote, Retry::Never, message)
}

/// A buffer over a reader that knows its line and stops at a token that is longer than allowed.
#[derive(Debug)]
pub(super) struct Chunks<R> {
    inner: R,
    buffer: Box<[u8]>,
    from: usize,
    until: usize,
    lines: u64,
    /// Bytes since the last call of `token`.
    token: usize,
    limit: usize,
}

/// The error that a token over the limit is reported with.
#[derive(Debug, thiserror::Error)]
#[error("one element or text is longer than {0} bytes")]
pub(super) struct TokenTooLong(pub(super) usize);

impl<R: Read> Chunks<R> {
    fn new(inner: R, limit: usize) -> Self {
        Self { inner, buffer: vec![0; CHUNK_BYTES].into(), from: 0, until: 0, lines: 1, token: 0, limit }
    }

    /// Fills the buffer up to `wanted` bytes, or to the end.
    fn peek(&mut self, wanted: usize) -> io::Result<&[u8]> {
        while self.until < wanted {
            match self.inner.read(&mut self.buffer[self.until..]) {
                Ok(0) => break,
                Ok(n) => self.until += n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(&self.buffer[..self.until])
    }

    fn line(&self) -> u64 {
        self.lines + newlines(&self.buffer[..self.from])
    }
}

fn newlines(bytes: &[u8]) -> u64 {
    // Counting in bytes, a stretch at a time, is what a processor does many at once.
    bytes.chunks(255).map(|part| u64::from(part.iter().map(|&b| u8::from(b == b'\n')).sum::<u8>())).sum()
}

impl<R: Read> Read for Chunks<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let available = self.fill_buf()?;
        let n = available.len().min(out.len());
        out[..n].copy_from_slice(&available[..n]);
        self.consume(n);
        Ok(n)
    }
}

impl<R: Read> BufRead for Chunks<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.token > self.limit {
            return Err(io::Error::other(TokenTooLong(self.limit)));
        }
        if self.from == self.until {
            self.lines += newlines(&self.buffer[..self.until]);
            (self.from, self.until) = (0, 0);
            self.until = loop {
                match self.inner.read(&mut self.buffer) {
                    Ok(n) => break n,
                    Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                    Err(e) => return Err(e),
                }
            };
        }
        Ok(&self.buffer[self.from..self.until])
    }

    fn consume(&mut self, n: usize) {
        self.from += n;
        self.token += n;
    }
}

/// A feed's text as UTF-8.
#[derive(Debug)]
pub(super) enum Input<R> {
    Plain(Chunks<R>),
    Decoding(Box<DecodingReader<Chunks<R>>>),
}

impl<R: Read> Input<R> {
    /// Looks at the first bytes: what is plainly not XML is refused here, and the encoding is settled.
    pub(super) fn open(inner: R, token_limit: usize) -> Result<Self> {
        let mut chunks = Chunks::new(inner, token_limit);
        let head =
            chunks.peek(HEAD_BYTES).map_err(|e| bad("the feed cannot be read").retry(Retry::Backoff).because(e))?;
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
            return Ok(Self::Decoding(Box::new(DecodingReader::new(chunks))));
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
                let mut reader = DecodingReader::new(chunks);
                reader.set_encoding(encoding);
                Ok(Self::Decoding(Box::new(reader)))
            }
            None => Ok(Self::Plain(chunks)),
        }
    }

    /// A new token begins.
    pub(super) fn token(&mut self) {
        self.chunks().token = 0;
    }

    /// The line that is being read.
    pub(super) fn line(&mut self) -> u64 {
        self.chunks().line()
    }

    fn chunks(&mut self) -> &mut Chunks<R> {
        match self {
            Self::Plain(chunks) => chunks,
            Self::Decoding(reader) => reader.get_mut(),
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

impl<R: Read> BufRead for Input<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        match self {
            Self::Plain(reader) => reader.fill_buf(),
            Self::Decoding(reader) => reader.fill_buf(),
        }
    }

    fn consume(&mut self, n: usize) {
        match self {
            Self::Plain(reader) => reader.consume(n),
            Self::Decoding(reader) => reader.consume(n),
        }
    }
}
