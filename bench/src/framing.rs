//! Where a message of HTTP/1.1 ends (RFC 9112, section 6), for answers and for requests.
//!
//! Without I/O: a head was read before, bytes come in pieces of any size, and what stands after the
//! end is left alone. Bodies are counted and thrown away, never kept.

use httparse::Header;

/// Bytes of a head that are read before its end must have come.
pub(crate) const HEAD_BYTES_MAX: usize = 64 * 1024;

/// Header fields of a head.
pub(crate) const HEADERS_MAX: usize = 256;

/// Bytes of the trailers after a chunked body, and of a chunk's size with its extensions.
const LINE_BYTES_MAX: u32 = 64 * 1024;

/// Why bytes are no HTTP/1.1: a word for people who look for the fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Malformed(pub(crate) &'static str);

/// Heads past this size are read anew each time.
const KEPT_BYTES_MAX: usize = 4096;

/// The last head of a connection with its meaning: its messages mostly begin with the same bytes, and
/// bytes that begin with all of a head mean the same.
#[derive(Debug)]
pub(crate) struct KeptHead<H> {
    bytes: Vec<u8>,
    head: Option<H>,
}

impl<H: Copy> KeptHead<H> {
    pub(crate) fn new() -> Self {
        Self { bytes: Vec::new(), head: None }
    }

    /// What these bytes begin with, if it is the same as before.
    #[inline]
    pub(crate) fn of(&self, bytes: &[u8]) -> Option<H> {
        self.head.filter(|_| bytes.starts_with(&self.bytes))
    }

    /// Keeps a head that was just read from these bytes, which are all of it.
    pub(crate) fn keep(&mut self, bytes: &[u8], head: H) {
        if bytes.len() <= KEPT_BYTES_MAX {
            self.bytes.clear();
            self.bytes.extend_from_slice(bytes);
            self.head = Some(head);
        }
    }
}

/// How the end of a body is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Framing {
    Length(u64),
    Chunked,
    /// Answers only.
    UntilClose,
}

/// What the fields say about the message, where they say anything.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Fields {
    pub(crate) content_length: Option<u64>,
    pub(crate) chunked: bool,
    pub(crate) close: bool,
    pub(crate) keep_alive: bool,
    pub(crate) expects_continue: bool,
}

impl Fields {
    /// Reads the fields that matter.
    ///
    /// # Errors
    /// A length that is none or two, and codings other than `chunked`: the peer's fault.
    pub(crate) fn read(headers: &[Header<'_>]) -> Result<Self, Malformed> {
        let mut fields = Self::default();
        for header in headers {
            let (name, value) = (header.name, header.value);
            match name.len() {
                14 if name.eq_ignore_ascii_case("content-length") => {
                    let length = read_length(value)?;
                    if fields.content_length.is_some_and(|first| first != length) {
                        return Err(Malformed("two content-lengths"));
                    }
                    fields.content_length = Some(length);
                }
                17 if name.eq_ignore_ascii_case("transfer-encoding") => {
                    if fields.chunked || !value.eq_ignore_ascii_case(b"chunked") {
                        return Err(Malformed("a transfer-encoding other than chunked"));
                    }
                    fields.chunked = true;
                }
                10 if name.eq_ignore_ascii_case("connection") => {
                    for option in value.split(|&byte| byte == b',') {
                        let option = option.trim_ascii();
                        fields.close |= option.eq_ignore_ascii_case(b"close");
                        fields.keep_alive |= option.eq_ignore_ascii_case(b"keep-alive");
                    }
                }
                6 if name.eq_ignore_ascii_case("expect") => {
                    fields.expects_continue |= value.eq_ignore_ascii_case(b"100-continue");
                }
                _ => {}
            }
        }
        if fields.chunked && fields.content_length.is_some() {
            return Err(Malformed("content-length beside transfer-encoding"));
        }
        Ok(fields)
    }

    /// Whether another message may follow; `version` is httparse's: 0 or 1.
    pub(crate) fn keeps_alive(&self, version: u8) -> bool {
        !self.close && (version == 1 || self.keep_alive)
    }
}

fn read_length(value: &[u8]) -> Result<u64, Malformed> {
    if value.is_empty() || value.len() > 19 || !value.iter().all(u8::is_ascii_digit) {
        return Err(Malformed("a content-length that is no number"));
    }
    Ok(value.iter().fold(0, |length, digit| length * 10 + u64::from(digit - b'0')))
}

/// What is left of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Body {
    Length(u64),
    Chunked(Chunked),
    UntilClose,
}

/// ```text
/// Size -> (SizeEnd) -> Data -> DataEnd -> Size ...
///   `0` -> (SizeEnd) -> Trailer -> TrailerEnd -> Done
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Chunked {
    state: State,
    /// Of the chunk that is read.
    left: u64,
    /// Of the line that is read, or of all trailers.
    line_bytes: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Size,
    /// After the digits, up to the CR.
    Extension,
    SizeEnd,
    Data,
    DataEnd,
    DataEndLf,
    TrailerStart,
    Trailer,
    TrailerLf,
    LastLf,
}

/// What [`Body::take`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Taken {
    /// Bytes that belong to this body, framing included.
    pub(crate) bytes: usize,
    /// Bytes of content among them.
    pub(crate) content: usize,
    /// Whether the body has ended.
    pub(crate) done: bool,
}

impl Body {
    pub(crate) fn new(framing: Framing) -> Self {
        match framing {
            Framing::Length(length) => Self::Length(length),
            Framing::Chunked => {
                Self::Chunked(Chunked { state: State::Size, left: 0, line_bytes: 0 })
            }
            Framing::UntilClose => Self::UntilClose,
        }
    }

    /// Takes from the front of `bytes` what belongs to the body.
    ///
    /// # Errors
    /// Chunks that are none: the peer's fault.
    #[inline]
    pub(crate) fn take(&mut self, bytes: &[u8]) -> Result<Taken, Malformed> {
        match self {
            Self::Length(left) => {
                let taken =
                    usize::try_from(*left).map_or(bytes.len(), |left| left.min(bytes.len()));
                *left -= taken as u64;
                Ok(Taken { bytes: taken, content: taken, done: *left == 0 })
            }
            Self::Chunked(chunked) => chunked.take(bytes),
            Self::UntilClose => Ok(Taken { bytes: bytes.len(), content: bytes.len(), done: false }),
        }
    }
}

impl Chunked {
    fn take(&mut self, bytes: &[u8]) -> Result<Taken, Malformed> {
        let mut at = 0;
        let mut content = 0;
        while at < bytes.len() {
            if self.state == State::Data {
                let there = bytes.len() - at;
                let taken = usize::try_from(self.left).map_or(there, |left| left.min(there));
                self.left -= taken as u64;
                at += taken;
                content += taken;
                if self.left == 0 {
                    self.state = State::DataEnd;
                }
                continue;
            }
            let byte = bytes[at];
            at += 1;
            if self.step(byte)? {
                return Ok(Taken { bytes: at, content, done: true });
            }
        }
        Ok(Taken { bytes: at, content, done: false })
    }

    /// One byte outside of the data; whether it was the last one.
    fn step(&mut self, byte: u8) -> Result<bool, Malformed> {
        self.line_bytes += 1;
        if self.line_bytes > LINE_BYTES_MAX {
            return Err(Malformed("a chunk's line without end"));
        }
        self.state =
            match (self.state, byte) {
                (State::Size, b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F') => {
                    if self.left >> 56 != 0 {
                        return Err(Malformed("a chunk of more bytes than can be"));
                    }
                    let digit = char::from(byte).to_digit(16).unwrap_or(0);
                    self.left = self.left << 4 | u64::from(digit);
                    State::Size
                }
                (State::Size, b'\r' | b';' | b' ' | b'\t') if self.line_bytes > 1 => {
                    if byte == b'\r' { State::SizeEnd } else { State::Extension }
                }
                (State::Extension, b'\r') => State::SizeEnd,
                (State::Extension, b'\n') => {
                    return Err(Malformed("a bare LF after a chunk's size"));
                }
                (State::Extension, _) => State::Extension,
                (State::SizeEnd, b'\n') => {
                    self.line_bytes = 0;
                    if self.left == 0 { State::TrailerStart } else { State::Data }
                }
                (State::DataEnd, b'\r') => State::DataEndLf,
                (State::DataEndLf, b'\n') => {
                    self.line_bytes = 0;
                    State::Size
                }
                (State::TrailerStart, b'\r') => State::LastLf,
                (State::TrailerStart | State::Trailer, b'\n') => {
                    return Err(Malformed("a bare LF in the trailers"));
                }
                (State::Trailer, b'\r') => State::TrailerLf,
                (State::TrailerStart | State::Trailer, _) => State::Trailer,
                (State::TrailerLf, b'\n') => State::TrailerStart,
                (State::LastLf, b'\n') => return Ok(true),
                (State::Size, _) => return Err(Malformed("a chunk's size that is no number")),
                _ => return Err(Malformed("a chunk that doesn't end where it said")),
            };
        Ok(false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take_all(body: &[u8]) -> Result<Taken, Malformed> {
        Body::new(Framing::Chunked).take(body)
    }

    /// The same, a byte at a time.
    fn take_bytewise(body: &[u8]) -> Result<Taken, Malformed> {
        let mut chunked = Body::new(Framing::Chunked);
        let mut all = Taken { bytes: 0, content: 0, done: false };
        for byte in body.chunks(1) {
            let taken = chunked.take(byte)?;
            all.bytes += taken.bytes;
            all.content += taken.content;
            all.done = taken.done;
            if all.done {
                break;
            }
        }
        Ok(all)
    }

    #[test]
    fn finds_the_end_of_chunks_however_they_are_cut() {
        for (body, bytes, content, done) in [
            (&b"0\r\n\r\nHTTP"[..], 5, 0, true),
            (b"5\r\nhello\r\n0\r\n\r\n", 15, 5, true),
            (b"A;x=y\r\n0123456789\r\n0 \r\nTrailer: 1\r\n\r\n", 37, 10, true),
            (b"005\r\nhello\r\n", 12, 5, false),
            (b"5\r\nhel", 6, 3, false),
            (b"", 0, 0, false),
        ] {
            let expected = Ok(Taken { bytes, content, done });
            assert_eq!(take_all(body), expected, "{}", body.escape_ascii());
            assert_eq!(take_bytewise(body), expected, "{}", body.escape_ascii());
        }
    }

    #[test]
    fn refuses_chunks_that_are_none() {
        for body in [
            &b"\r\n"[..],
            b"x\r\n",
            b";\r\n",
            b"-1\r\n",
            b"5\nhello\r\n",
            b"5;a\nhello\r\n",
            b"5\r\nhello0\r\n\r\n",
            b"5\r\nhello\n",
            b"0\r\n\n",
            b"0\r\nA: b\n\r\n",
            b"fffffffffffffffff\r\n",
        ] {
            assert!(take_all(body).is_err(), "{}", body.escape_ascii());
            assert!(take_bytewise(body).is_err(), "{}", body.escape_ascii());
        }
        let endless = [b"0\r\nA: ".as_slice(), &vec![b'a'; 70_000]].concat();
        assert!(take_all(&endless).is_err());
    }

    #[test]
    fn takes_no_more_than_the_length() {
        let mut body = Body::new(Framing::Length(5));
        assert_eq!(body.take(b"hel"), Ok(Taken { bytes: 3, content: 3, done: false }));
        assert_eq!(body.take(b"lo and more"), Ok(Taken { bytes: 2, content: 2, done: true }));
    }

    fn fields(text: &str) -> Result<Fields, Malformed> {
        let mut headers = [httparse::EMPTY_HEADER; 8];
        let text = format!("{text}\r\n");
        let httparse::Status::Complete((_, headers)) =
            httparse::parse_headers(text.as_bytes(), &mut headers).expect("headers")
        else {
            panic!("{text} is not complete")
        };
        Fields::read(headers)
    }

    #[test]
    fn reads_what_a_head_says_of_its_body() {
        let read = fields("Content-Length: 5\r\ncontent-length: 5\r\n").expect("the same twice");
        assert_eq!(read.content_length, Some(5));
        assert!(fields("Transfer-Encoding: Chunked\r\n").expect("chunked").chunked);
        let read = fields("Connection: te, Close\r\n").expect("close");
        assert!(read.close && !read.keeps_alive(1));
        assert!(fields("Connection: keep-alive\r\n").expect("kept").keeps_alive(0));
        assert!(!fields("A: b\r\n").expect("nothing").keeps_alive(0));
    }

    #[test]
    fn refuses_framing_that_could_be_read_in_two_ways() {
        for text in [
            "Content-Length: 5\r\nContent-Length: 6\r\n",
            "Content-Length: 5, 5\r\n",
            "Content-Length: +5\r\n",
            "Content-Length: \r\n",
            "Content-Length: 99999999999999999999\r\n",
            "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
            "Transfer-Encoding: gzip, chunked\r\n",
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
        ] {
            assert!(fields(text).is_err(), "{text}");
        }
    }
}
