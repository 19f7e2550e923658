//! What a forwarder must know of an HTTP/1 head: where it ends and how long its body is.
//!
//! Never a validator: framing that two implementations could read differently is the product's
//! business. Chunked bodies are refused, no row of the measurement has one.

use std::{mem::MaybeUninit, ops::Range};

use httparse::{Header, Status};

/// A head with more fields than this is refused.
const FIELDS_MAX: usize = 64;

/// A complete head.
#[derive(Debug, PartialEq, Eq)]
pub struct Head {
    /// Bytes up to and with the empty line.
    pub length: usize,
    /// The declared body length in bytes; `None` where no field declares one.
    pub content_length: Option<u64>,
    /// The sender closes the connection after this message.
    pub close: bool,
    /// Where the `Connection` line stands: it concerns one hop and is not forwarded.
    pub connection_line: Option<Range<usize>>,
    /// A response's status, or 0.
    pub status: u16,
    /// A request whose response has no body.
    pub is_head_method: bool,
}

/// The head cannot be forwarded: malformed, too many fields, or chunked.
#[derive(Debug, PartialEq, Eq)]
pub struct Refused;

/// Parses a request head; `None` while it is incomplete. No allocation.
///
/// # Errors
/// [`Refused`], the client's fault or a limit of this program.
pub fn parse_request(bytes: &[u8]) -> Result<Option<Head>, Refused> {
    let mut fields = [const { MaybeUninit::uninit() }; FIELDS_MAX];
    let mut request = httparse::Request::new(&mut []);
    match request.parse_with_uninit_headers(bytes, &mut fields) {
        Ok(Status::Complete(length)) => {
            let mut head = read_fields(bytes, length, request.version, request.headers)?;
            head.is_head_method = request.method == Some("HEAD");
            Ok(Some(head))
        }
        Ok(Status::Partial) => Ok(None),
        Err(_) => Err(Refused),
    }
}

/// Parses a response head; `None` while it is incomplete. No allocation.
///
/// # Errors
/// [`Refused`], the upstream's fault or a limit of this program.
pub fn parse_response(bytes: &[u8]) -> Result<Option<Head>, Refused> {
    let mut fields = [const { MaybeUninit::uninit() }; FIELDS_MAX];
    let mut response = httparse::Response::new(&mut []);
    let parsed = httparse::ParserConfig::default().parse_response_with_uninit_headers(
        &mut response,
        bytes,
        &mut fields,
    );
    match parsed {
        Ok(Status::Complete(length)) => {
            let mut head = read_fields(bytes, length, response.version, response.headers)?;
            head.status = response.code.unwrap_or_default();
            Ok(Some(head))
        }
        Ok(Status::Partial) => Ok(None),
        Err(_) => Err(Refused),
    }
}

fn read_fields(
    bytes: &[u8],
    length: usize,
    version: Option<u8>,
    fields: &[Header<'_>],
) -> Result<Head, Refused> {
    let mut head = Head {
        length,
        content_length: None,
        close: version == Some(0),
        connection_line: None,
        status: 0,
        is_head_method: false,
    };
    for field in fields {
        match field.name.len() {
            10 if field.name.eq_ignore_ascii_case("connection") => {
                head.close = !field.value.eq_ignore_ascii_case(b"keep-alive")
                    && (head.close || field.value.eq_ignore_ascii_case(b"close"));
                head.connection_line = Some(line_of(bytes, field));
            }
            14 if field.name.eq_ignore_ascii_case("content-length") => {
                head.content_length = Some(parse_length(field.value)?);
            }
            17 if field.name.eq_ignore_ascii_case("transfer-encoding") => return Err(Refused),
            _ => {}
        }
    }
    Ok(head)
}

/// From the first byte of the name to the line's end; httparse lends slices of `bytes`.
fn line_of(bytes: &[u8], field: &Header<'_>) -> Range<usize> {
    let start = field.name.as_ptr() as usize - bytes.as_ptr() as usize;
    let line_feed = bytes[start..].iter().position(|&byte| byte == b'\n').unwrap_or_default();
    start..start + line_feed + 1
}

fn parse_length(value: &[u8]) -> Result<u64, Refused> {
    std::str::from_utf8(value).ok().and_then(|text| text.parse().ok()).ok_or(Refused)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_framing_and_finds_the_connection_line() {
        let bytes =
            b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close \r\nA: b\r\n\r\nhello";
        let head = parse_response(bytes).expect("well-formed").expect("complete");
        assert_eq!((head.status, head.content_length, head.close), (200, Some(5), true));
        assert_eq!(&bytes[head.connection_line.expect("present")], b"Connection: close \r\n");
        assert_eq!(&bytes[head.length..], b"hello");
    }

    #[test]
    fn waits_for_the_whole_head() {
        let bytes = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";
        for end in 0..bytes.len() {
            assert_eq!(parse_request(&bytes[..end]), Ok(None));
        }
        assert!(parse_request(bytes).expect("well-formed").is_some());
    }

    #[test]
    fn refuses_chunked_and_bad_lengths() {
        let chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
        assert_eq!(parse_response(chunked), Err(Refused));
        let signed = b"GET / HTTP/1.1\r\nContent-Length: -5\r\n\r\n";
        assert_eq!(parse_request(signed), Err(Refused));
    }
}
