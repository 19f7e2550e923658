//! Answers that the proxy gives itself.
//!
//! Before it: the conductor refused a request, or an upstream failed, or the request may go no
//! further, or its route sends the client elsewhere. After it: the bytes go to the client. It never tells anything of the inside: the
//! reason phrase is all the text there is.

use crate::codec::date::DATE_BYTES;
use crate::codec::http1::fields::put_number;
use crate::codec::http1::request::RequestHead;
use crate::codec::http1::write_response::{ResponseEdits, write_persistence};
use crate::codec::message::{Version, reason_phrase};

/// An answer of the proxy's own.
#[derive(Clone, Copy, Debug)]
pub struct LocalReply<'a> {
    /// A final status, 200 or above.
    pub status: u16,
    /// The version of the client's request; [`Version::Http11`] when it was not understood.
    pub client_version: Version,
    /// Whether the client's connection stays; false after any request that was refused.
    pub keep_alive: bool,
    /// Whether the request was a HEAD: the head is the same, the body is left out.
    pub head_only: bool,
    /// `Allow`, for a 405 or an answer to OPTIONS.
    pub allow: Option<&'a str>,
    /// `Retry-After`, in seconds.
    pub retry_after_s: Option<u32>,
    /// The current date.
    pub date: &'a [u8; DATE_BYTES],
    /// `Location`, for a redirect.
    pub location: Option<&'a [u8]>,
    /// What the route changes of these fields and adds to them; `None`: nothing.
    pub edits: Option<ResponseEdits<'a>>,
}

/// Appends a whole response: its body is the reason phrase in plain text; 204 and 304 have none.
pub fn write_local_reply(reply: &LocalReply<'_>, out: &mut Vec<u8>) {
    let mut phrase = [0; PHRASE_BYTES_MAX + 1];
    let text = reason_phrase(reply.status).as_bytes();
    phrase[..text.len()].copy_from_slice(text);
    phrase[text.len()] = b'\n';
    write_body_reply(reply, "text/plain", &phrase[..=text.len()], out);
}

/// Of the longest reason phrase, with room to spare.
const PHRASE_BYTES_MAX: usize = 63;

/// The same with a body of its own.
pub fn write_body_reply(
    reply: &LocalReply<'_>,
    content_type: &str,
    body: &[u8],
    out: &mut Vec<u8>,
) {
    debug_assert!(reply.status >= 200);
    let bodyless = matches!(reply.status, 204 | 304);
    write_status_line(reply.status, out);
    put_field(reply, "Date", reply.date, out);
    if !bodyless {
        put_field(reply, "Content-Type", content_type.as_bytes(), out);
        write_content_length(body.len(), out);
    }
    if let Some(allow) = reply.allow {
        put_field(reply, "Allow", allow.as_bytes(), out);
    }
    if let Some(retry_after_s) = reply.retry_after_s {
        put_field(reply, "Retry-After", retry_after_s.to_string().as_bytes(), out);
    }
    if let Some(location) = reply.location {
        put_field(reply, "Location", location, out);
    }
    if let Some(edits) = reply.edits {
        edits.put_lines(out);
    }
    write_persistence(reply.client_version, reply.keep_alive, out);
    out.extend_from_slice(b"\r\n");
    if !reply.head_only && !bodyless {
        out.extend_from_slice(body);
    }
}

/// How long the body of an answer is that was written here.
pub fn body_bytes_of(reply: &[u8]) -> usize {
    const HEAD_END: &[u8] = b"\r\n\r\n";
    let end = reply.windows(HEAD_END.len()).position(|bytes| bytes == HEAD_END);
    reply.len() - HEAD_END.len() - end.expect("each head ends")
}

/// Appends a field that the route may have replaced or taken away.
fn put_field(reply: &LocalReply<'_>, name: &str, value: &[u8], out: &mut Vec<u8>) {
    if !reply.edits.is_some_and(|edits| edits.cuts(name.as_bytes())) {
        for text in [name.as_bytes(), b": ", value, b"\r\n"] {
            out.extend_from_slice(text);
        }
    }
}

/// Appends the answer to a TRACE that may go no further: the request's head as it came, without
/// the fields that carry secrets (RFC 9110 §9.3.8).
pub fn write_trace_reply(
    head: &RequestHead<'_>,
    keep_alive: bool,
    date: &[u8; DATE_BYTES],
    out: &mut Vec<u8>,
) {
    let mut echo = Vec::with_capacity(head.fields.bytes.len());
    let (method, version) = (head.method_text, head.version.as_str().as_bytes());
    for text in [method, b" ", head.target, b" ", version, b"\r\n"] {
        echo.extend_from_slice(text);
    }
    for field in head.fields.iter().filter(|field| !is_secret(field.name)) {
        for text in [field.name, b": ", field.value, b"\r\n"] {
            echo.extend_from_slice(text);
        }
    }
    echo.extend_from_slice(b"\r\n");

    write_status_line(200, out);
    for text in [b"Date: ", &date[..], b"\r\nContent-Type: message/http\r\n"] {
        out.extend_from_slice(text);
    }
    write_content_length(echo.len(), out);
    write_persistence(head.version, keep_alive, out);
    out.extend_from_slice(b"\r\n");
    out.extend_from_slice(&echo);
}

/// Fields that a TRACE must not show to a script that reads the answer.
fn is_secret(name: &[u8]) -> bool {
    ["authorization", "proxy-authorization", "cookie", "cookie2"]
        .iter()
        .any(|secret| name.eq_ignore_ascii_case(secret.as_bytes()))
}

fn write_status_line(status: u16, out: &mut Vec<u8>) {
    out.extend_from_slice(b"HTTP/1.1 ");
    put_number(u64::from(status), out);
    out.push(b' ');
    out.extend_from_slice(reason_phrase(status).as_bytes());
    out.extend_from_slice(b"\r\n");
}

fn write_content_length(length: usize, out: &mut Vec<u8>) {
    out.extend_from_slice(b"Content-Length: ");
    put_number(length as u64, out);
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests;
