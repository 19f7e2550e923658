//! What was asked: where the request ends, how much it wants back, whether another may follow.
//!
//! Without I/O; comes after a receive, before [`framing`](crate::framing).

use crate::framing::{Fields, Framing, HEAD_BYTES_MAX, HEADERS_MAX, KeptHead, Malformed};
use crate::units::BODY_BYTES_MAX;

/// What a request's head says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Head {
    /// Bytes of the head, its empty line included.
    pub(crate) bytes: usize,
    pub(crate) framing: Framing,
    /// The client reads another answer on this connection.
    pub(crate) keeps_alive: bool,
    /// The answer has no body.
    pub(crate) is_head: bool,
    /// The client waits for an interim answer before it sends the body.
    pub(crate) expects_continue: bool,
    /// The body that the path asks for.
    pub(crate) wanted: Wanted,
}

/// The answer that a path asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wanted {
    Default,
    Bytes(u64),
    /// More than the largest body.
    TooMany,
}

pub(crate) struct HeadReader {
    kept: KeptHead<Head>,
}

impl HeadReader {
    pub(crate) fn new() -> Self {
        Self { kept: KeptHead::new() }
    }

    /// The head at the front of `bytes`; nothing while it isn't whole.
    ///
    /// # Errors
    /// Bytes that are no request, and a head past 64 KiB.
    #[inline]
    pub(crate) fn read(&mut self, bytes: &[u8]) -> Result<Option<Head>, Malformed> {
        match self.kept.of(bytes) {
            Some(head) => Ok(Some(head)),
            None => self.read_anew(bytes),
        }
    }

    fn read_anew(&mut self, bytes: &[u8]) -> Result<Option<Head>, Malformed> {
        let head = parse(bytes)?;
        match head {
            Some(head) if head.bytes > HEAD_BYTES_MAX => {
                return Err(Malformed("a head of more than 64 KiB"));
            }
            None if bytes.len() >= HEAD_BYTES_MAX => {
                return Err(Malformed("a head of more than 64 KiB"));
            }
            Some(head) => self.kept.keep(&bytes[..head.bytes], head),
            None => {}
        }
        Ok(head)
    }
}

fn parse(bytes: &[u8]) -> Result<Option<Head>, Malformed> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut request = httparse::Request::new(&mut headers);
    let length = match request.parse(bytes) {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(_) => return Err(Malformed("no head of HTTP/1.1")),
    };
    let fields = Fields::read(request.headers)?;
    let framing = match fields {
        Fields { chunked: true, .. } => Framing::Chunked,
        Fields { content_length, .. } => Framing::Length(content_length.unwrap_or(0)),
    };
    Ok(Some(Head {
        bytes: length,
        framing,
        // A client of HTTP/1.0 would have to be told, and no proxy that is measured is one.
        keeps_alive: request.version == Some(1) && fields.keeps_alive(1),
        is_head: request.method == Some("HEAD"),
        expects_continue: fields.expects_continue && framing != Framing::Length(0),
        wanted: wanted_by(request.path.unwrap_or("/")),
    }))
}

fn wanted_by(path: &str) -> Wanted {
    let number = path.trim_start_matches('/').split('?').next().unwrap_or_default();
    if number.is_empty() || !number.bytes().all(|byte| byte.is_ascii_digit()) {
        return Wanted::Default;
    }
    match number.parse() {
        Ok(bytes) if bytes <= BODY_BYTES_MAX => Wanted::Bytes(bytes),
        _ => Wanted::TooMany,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Head {
        HeadReader::new().read(text.as_bytes()).expect(text).expect(text)
    }

    #[test]
    fn reads_what_a_request_wants() {
        for (path, wanted) in [
            ("/", Wanted::Default),
            ("/a/1", Wanted::Default),
            ("/-1", Wanted::Default),
            ("/0", Wanted::Bytes(0)),
            ("/1024?x=y", Wanted::Bytes(1024)),
            ("/1073741824", Wanted::Bytes(1 << 30)),
            ("/1073741825", Wanted::TooMany),
            ("/99999999999999999999999", Wanted::TooMany),
        ] {
            let head = read(&format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n"));
            assert_eq!(head.wanted, wanted, "{path}");
            assert!(head.keeps_alive && !head.is_head);
        }
    }

    #[test]
    fn reads_where_a_request_ends() {
        let chunked = read("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n");
        assert_eq!(chunked.framing, Framing::Chunked);
        let length = read("POST / HTTP/1.0\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n");
        assert_eq!((length.framing, length.keeps_alive), (Framing::Length(3), false));
        assert!(length.expects_continue);
        assert!(read("HEAD / HTTP/1.1\r\n\r\n").is_head);
    }

    #[test]
    fn refuses_what_is_no_request() {
        for text in ["\x16\x03\x01", "GET\r\n\r\n", "GET / HTTP/3.0\r\n\r\n"] {
            assert!(HeadReader::new().read(text.as_bytes()).is_err(), "{text}");
        }
        let endless = format!("GET / HTTP/1.1\r\nA: {}", "a".repeat(HEAD_BYTES_MAX));
        assert!(HeadReader::new().read(endless.as_bytes()).is_err());
    }
}
