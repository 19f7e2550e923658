//! The head of an answer: its status, where its body ends, whether the connection stays.
//!
//! Without I/O; comes after a receive, before [`framing`](crate::framing).

use crate::framing::{Fields, Framing, HEAD_BYTES_MAX, HEADERS_MAX, KeptHead, Malformed};

/// What an answer's head says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Head {
    /// Bytes of the head, its empty line included.
    pub(crate) bytes: usize,
    /// 200 to 999: what comes before a final answer is not seen.
    pub(crate) status: u16,
    pub(crate) framing: Framing,
    /// Another request may be sent on the connection.
    pub(crate) keeps_alive: bool,
}

/// Reads the heads of one connection.
pub(crate) struct HeadReader {
    /// The requests are `HEAD`: no answer has a body.
    is_head: bool,
    kept: KeptHead<Head>,
}

impl HeadReader {
    pub(crate) fn new(method: &str) -> Self {
        Self { is_head: method == "HEAD", kept: KeptHead::new() }
    }

    /// The final head at the front of `bytes`; interim ones (1xx) before it are counted into its
    /// size. Nothing while it isn't whole.
    ///
    /// # Errors
    /// Bytes that are no answer, and a head past 64 KiB.
    #[inline]
    pub(crate) fn read(&mut self, bytes: &[u8]) -> Result<Option<Head>, Malformed> {
        match self.kept.of(bytes) {
            Some(head) => Ok(Some(head)),
            None => self.read_anew(bytes),
        }
    }

    #[cold]
    fn read_anew(&mut self, bytes: &[u8]) -> Result<Option<Head>, Malformed> {
        let mut before = 0;
        loop {
            let Some(head) = self.parse(&bytes[before..])? else {
                if bytes.len() - before >= HEAD_BYTES_MAX || before >= HEAD_BYTES_MAX {
                    return Err(Malformed("a head of more than 64 KiB"));
                }
                return Ok(None);
            };
            match head.status {
                101 => return Err(Malformed("another protocol, which nobody asked for")),
                100..=199 => before += head.bytes,
                _ => {
                    let head = Head { bytes: before + head.bytes, ..head };
                    self.kept.keep(&bytes[..head.bytes], head);
                    return Ok(Some(head));
                }
            }
        }
    }

    fn parse(&self, bytes: &[u8]) -> Result<Option<Head>, Malformed> {
        let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
        let mut answer = httparse::Response::new(&mut headers);
        let length = match answer.parse(bytes) {
            Ok(httparse::Status::Complete(length)) => length,
            Ok(httparse::Status::Partial) => return Ok(None),
            Err(httparse::Error::TooManyHeaders) => return Err(Malformed("too many headers")),
            Err(_) => return Err(Malformed("no head of HTTP/1.1")),
        };
        if length > HEAD_BYTES_MAX {
            return Err(Malformed("a head of more than 64 KiB"));
        }
        let (Some(status @ 100..=999), Some(version)) = (answer.code, answer.version) else {
            return Err(Malformed("no status of HTTP"));
        };
        let fields = Fields::read(answer.headers)?;
        let framing = match fields {
            _ if self.is_head || status < 200 || status == 204 || status == 304 => {
                Framing::Length(0)
            }
            Fields { chunked: true, .. } => Framing::Chunked,
            Fields { content_length: Some(length), .. } => Framing::Length(length),
            _ => Framing::UntilClose,
        };
        let keeps_alive = framing != Framing::UntilClose && fields.keeps_alive(version);
        Ok(Some(Head { bytes: length, status, framing, keeps_alive }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(method: &str, text: &str) -> Result<Option<Head>, Malformed> {
        HeadReader::new(method).read(text.as_bytes())
    }

    #[test]
    fn reads_where_an_answer_ends() {
        let long = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n";
        for (method, text, framing, keeps_alive) in [
            ("GET", long, Framing::Length(5), true),
            ("HEAD", long, Framing::Length(0), true),
            ("GET", "HTTP/1.1 204 No Content\r\n\r\n", Framing::Length(0), true),
            ("GET", "HTTP/1.1 304 x\r\nContent-Length: 9\r\n\r\n", Framing::Length(0), true),
            ("GET", "HTTP/1.1 200\r\nTransfer-Encoding: chunked\r\n\r\n", Framing::Chunked, true),
            ("GET", "HTTP/1.1 200 OK\r\n\r\n", Framing::UntilClose, false),
            ("GET", "HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n", Framing::Length(0), false),
            (
                "GET",
                "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 5\r\n\r\n",
                Framing::Length(5),
                false,
            ),
        ] {
            let head = read(method, text).expect(text).expect(text);
            assert_eq!((head.framing, head.keeps_alive), (framing, keeps_alive), "{text}");
            assert_eq!(head.bytes, text.len());
        }
    }

    #[test]
    fn passes_over_interim_answers() {
        let text = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\n\
                    HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n";
        let head = read("GET", text).expect("an answer").expect("whole");
        assert_eq!((head.status, head.bytes), (200, text.len()));
        assert_eq!(read("GET", "HTTP/1.1 100 Continue\r\n\r\n"), Ok(None));
    }

    #[test]
    fn the_kept_head_serves_only_bytes_that_begin_with_it() {
        let mut reader = HeadReader::new("GET");
        let first = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";
        let second = b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\n";
        for (bytes, length) in [(&first[..], 5), (first, 5), (second, 50), (first, 5)] {
            let head = reader.read(bytes).expect("an answer").expect("whole");
            assert_eq!(head.framing, Framing::Length(length));
        }
        assert_eq!(reader.read(&first[..20]), Ok(None));
    }

    #[test]
    fn refuses_what_is_no_answer() {
        for text in [
            "\0\0\0\0",
            "SSH-2.0-x\r\n",
            "GET / HTTP/1.1\r\n\r\n",
            "HTTP/2.0 200 OK\r\n\r\n",
            "HTTP/1.1 099 x\r\n\r\n",
            "HTTP/1.1 101 Switching Protocols\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n",
        ] {
            assert!(read("GET", text).is_err(), "{text}");
        }
        let endless = format!("HTTP/1.1 200 OK\r\nA: {}", "a".repeat(HEAD_BYTES_MAX));
        assert!(read("GET", &endless).is_err());
        let interim = "HTTP/1.1 100 Continue\r\n\r\n".repeat(4000);
        assert!(read("GET", &interim).is_err());
    }
}
