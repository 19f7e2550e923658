//! What a head says to a forwarder: which bytes go on, how many follow, who is kept afterwards.
//!
//! Sans I/O: bytes in, decisions out. The parser is the floor's.

use std::ops::Range;

use lateen_floor::head::{Head, parse_request, parse_response};

use crate::{BUFFER_BYTES, Over};

/// A request whose head is complete.
#[derive(Debug, PartialEq, Eq)]
pub struct Request {
    /// Bytes of the head, and of as much of the body as is there; pipelined ones follow.
    pub end: usize,
    /// Body bytes that are not there yet.
    pub body_left: u64,
    /// The client's connection ends after the response.
    pub close: bool,
    /// The response has no body, whatever its head says.
    pub without_body: bool,
    /// Where the `Connection` line stands, which concerns one hop.
    pub line: Range<usize>,
}

/// A response whose head is complete.
#[derive(Debug, PartialEq, Eq)]
pub struct Response {
    /// Body bytes that are not there yet.
    pub body_left: u64,
    /// The upstream connection may serve another request afterwards.
    pub reusable: bool,
    /// Where the `Connection` line stands.
    pub line: Range<usize>,
}

impl Request {
    /// Reads the request at the front of `bytes`; `None` while its head is incomplete.
    ///
    /// # Errors
    /// [`Over`]: the head is malformed, chunked, or longer than a buffer.
    pub fn parse(bytes: &[u8]) -> Result<Option<Self>, Over> {
        let Some(head) = unless_too_long(parse_request(bytes)?, bytes)? else { return Ok(None) };
        let body = head.content_length.unwrap_or_default();
        let here = body.min((bytes.len() - head.length) as u64);
        Ok(Some(Self {
            end: head.length + here as usize,
            body_left: body - here,
            close: head.close,
            without_body: head.is_head_method,
            line: head.connection_line.unwrap_or_default(),
        }))
    }

    /// Whether it can be asked again on another connection: the one that failed came out of the pool,
    /// where it may have been closed meanwhile, gave nothing back, and all of the request is here.
    #[must_use]
    pub fn may_ask_again(&self, was_pooled: bool, answered_bytes: usize) -> bool {
        was_pooled && answered_bytes == 0 && self.body_left == 0
    }
}

impl Response {
    /// Reads the response that `bytes` are the beginning of; `None` while its head is incomplete.
    ///
    /// # Errors
    /// [`Over`]: the head is malformed or longer than a buffer, an interim response, a body without a
    /// declared length, or more bytes than it declares.
    pub fn parse(bytes: &[u8], without_body: bool) -> Result<Option<Self>, Over> {
        let Some(head) = unless_too_long(parse_response(bytes)?, bytes)? else { return Ok(None) };
        let body = match head.status {
            ..200 => return Err(Over),
            204 | 304 => 0,
            _ if without_body => 0,
            _ => head.content_length.ok_or(Over)?,
        };
        let body_left = body.checked_sub((bytes.len() - head.length) as u64).ok_or(Over)?;
        let line = head.connection_line.unwrap_or_default();
        Ok(Some(Self { body_left, reusable: !head.close, line }))
    }
}

fn unless_too_long(head: Option<Head>, bytes: &[u8]) -> Result<Option<Head>, Over> {
    if head.is_none() && bytes.len() >= BUFFER_BYTES { Err(Over) } else { Ok(head) }
}

/// Moves what stands before `line` over it; returns where the message begins now.
pub fn cut(bytes: &mut [u8], line: &Range<usize>) -> usize {
    bytes.copy_within(..line.start, line.len());
    line.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_body_bytes_from_pipelined_ones() {
        let bytes = b"POST / HTTP/1.1\r\nContent-Length: 3\r\n\r\nabcGET / HTTP/1.1\r\n\r\n";
        let request = Request::parse(bytes).expect("well-formed").expect("complete");
        assert_eq!((request.end, request.body_left), (41, 0));
        let request = Request::parse(&bytes[..39]).expect("well-formed").expect("complete");
        assert_eq!((request.end, request.body_left), (39, 2));
        assert!(!request.may_ask_again(true, 0), "its body is gone");
    }

    #[test]
    fn cuts_the_connection_line() {
        let mut bytes = *b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 1\r\n\r\nx";
        let response = Response::parse(&bytes, false).expect("well-formed").expect("complete");
        assert_eq!((response.body_left, response.reusable), (0, false));
        let start = cut(&mut bytes, &response.line);
        assert_eq!(&bytes[start..], b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx");
    }

    #[test]
    fn refuses_what_has_no_end() {
        assert_eq!(Request::parse(&[b'a'; BUFFER_BYTES]), Err(Over));
        assert_eq!(Response::parse(b"HTTP/1.1 200 OK\r\n\r\n", false), Err(Over));
        assert!(Response::parse(b"HTTP/1.1 200 OK\r\n\r\n", true).expect("a HEAD's").is_some());
        let too_much = b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nxy";
        assert_eq!(Response::parse(too_much, false), Err(Over));
    }
}
