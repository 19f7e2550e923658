//! The response head as the client gets it.
//!
//! Before it: `response` judged the upstream's head. After it: `forward` sends the bytes and then
//! the body, encoded as [`ClientBody`] says. It never decides whether a response is passed on.

use crate::codec::body::{BodyEncoding, Framing};
use crate::codec::date::DATE_BYTES;
use crate::codec::http1::edits::Edits;
use crate::codec::http1::fields::{Kind, copy_kept_lines, cut_kind, put_number};
use crate::codec::http1::response::ResponseHead;
use crate::codec::message::{Method, Persistence, Version};

/// What the proxy knows of the client when it passes a response on.
#[derive(Clone, Copy, Debug)]
pub struct ResponseForwarding<'a> {
    /// The version of the client's request.
    pub client_version: Version,
    /// The method of the client's request.
    pub request_method: Method,
    /// What the proxy wants: [`Persistence::KeepAlive`] only if the client asked for it;
    /// [`Persistence::Upgrade`] only for a 101 that answers an Upgrade request.
    pub persistence: Persistence,
    /// The current date, for a response that has none.
    pub date: &'a [u8; DATE_BYTES],
    /// What the route changes; `None`: nothing.
    pub edits: Option<ResponseEdits<'a>>,
}

/// What a route changes of a final response, or of a 101; interim ones pass as they come.
#[derive(Clone, Copy, Debug, Default)]
pub struct ResponseEdits<'a> {
    /// Header fields: what of the upstream's is left out, and what is appended behind them.
    pub fields: Option<&'a Edits>,
    /// Names of more fields of the upstream's to leave out; lower case.
    pub cut: &'a [&'a str],
    /// Whole lines to append, each with its end.
    pub lines: &'a [u8],
}

impl ResponseEdits<'_> {
    /// Whether fields of this name, in any case, are left out.
    pub(super) fn cuts(&self, name: &[u8]) -> bool {
        self.fields.is_some_and(|fields| fields.cuts(name))
            || self.cut.iter().any(|cut| name.eq_ignore_ascii_case(cut.as_bytes()))
    }

    /// Appends what is to be added.
    pub(super) fn put_lines(&self, out: &mut Vec<u8>) {
        if let Some(fields) = self.fields {
            out.extend_from_slice(fields.lines());
        }
        out.extend_from_slice(self.lines);
    }
}

/// How the body goes to the client after the head that was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientBody {
    /// How to write the body's bytes.
    pub encoding: BodyEncoding,
    /// Whether the client's connection persists after it. False also where the close is what
    /// ends the body: then a truncated body must be a reset, so that it can't pass for a whole
    /// one.
    pub keep_alive: bool,
    /// Whether the close ends the body.
    pub ends_by_close: bool,
}

/// Appends the head for the client: HTTP/1.1, the upstream's fields as they came without those
/// that end at this hop, then what this hop says. An interim response to an HTTP/1.0 client
/// appends nothing (RFC 9110 §15.2).
///
/// A body that ends with the upstream's close, or in chunks, is chunked for HTTP/1.1 and ends by
/// close for HTTP/1.0. Cost: a few copies; no allocation when `out` has room.
#[inline]
pub fn write_response(
    head: &ResponseHead<'_>,
    forwarding: &ResponseForwarding<'_>,
    out: &mut Vec<u8>,
) -> ClientBody {
    let body = client_body(head, forwarding);
    if head.is_interim() && forwarding.client_version == Version::Http10 {
        return body;
    }
    let bytes = head.fields.bytes;
    let fields_end = bytes.len() - 2;
    out.reserve(bytes.len() + ADDED_BYTES_MAX);

    let mut cut = head.cut;
    if head.has_trailer && body.encoding == BodyEncoding::Plain {
        cut_kind(head.fields, Kind::Trailer, &mut cut);
    }
    let length = told_length(head, forwarding);
    if head.length_kept && length.is_none() {
        cut_kind(head.fields, Kind::ContentLength, &mut cut);
    }
    let edits = forwarding.edits.as_ref().filter(|_| !head.is_interim());
    if let Some(edits) = edits {
        for (index, field) in head.fields.iter().enumerate() {
            if edits.cuts(field.name) {
                cut.insert(index);
            }
        }
    }
    let kept_start = write_status_line(head, out);
    copy_kept_lines(head.fields, &cut, kept_start, fields_end, out);
    if let Some(edits) = edits {
        edits.put_lines(out);
    }

    match length {
        Some(_) if head.length_kept => {}
        Some(length) => {
            out.extend_from_slice(b"Content-Length: ");
            put_number(length, out);
            out.extend_from_slice(b"\r\n");
        }
        None if body.encoding == BodyEncoding::Chunked => {
            out.extend_from_slice(b"Transfer-Encoding: chunked\r\n");
        }
        None => {}
    }
    if !head.is_interim() && head.status != 101 {
        write_persistence(forwarding.client_version, body.keep_alive, out);
        // Config that sets or takes away `Date` has said what there is to say.
        if !head.has_date && !edits.is_some_and(|edits| edits.cuts(b"date")) {
            out.extend_from_slice(b"Date: ");
            out.extend_from_slice(forwarding.date);
            out.extend_from_slice(b"\r\n");
        }
    }
    if let (101, Some(protocol)) = (head.status, head.upgrade) {
        out.extend_from_slice(b"Connection: upgrade\r\nUpgrade: ");
        out.extend_from_slice(protocol);
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(match head.version {
        Version::Http11 => b"Via: 1.1 lateen\r\n\r\n",
        Version::Http10 => b"Via: 1.0 lateen\r\n\r\n",
    });
    body
}

/// More than what the lines of this module take beside the upstream's own bytes.
const ADDED_BYTES_MAX: usize = 256;

#[inline]
fn client_body(head: &ResponseHead<'_>, forwarding: &ResponseForwarding<'_>) -> ClientBody {
    let unmeasured = matches!(head.framing, Framing::Chunked | Framing::UntilClose);
    let ends_by_close = unmeasured && forwarding.client_version == Version::Http10;
    ClientBody {
        encoding: if unmeasured && !ends_by_close {
            BodyEncoding::Chunked
        } else {
            BodyEncoding::Plain
        },
        keep_alive: forwarding.persistence == Persistence::KeepAlive && !ends_by_close,
        ends_by_close,
    }
}

/// Writes the status line, our version and the upstream's status and phrase, and returns from
/// where on the field lines are still to copy. From HTTP/1.1 it is left to the copy of the lines.
#[inline]
fn write_status_line(head: &ResponseHead<'_>, out: &mut Vec<u8>) -> usize {
    const VERSION_AND_STATUS: usize = "HTTP/1.1 200".len();
    let line = &head.fields.bytes[..head.fields_start - 2];
    if head.version == Version::Http11 && line.len() > VERSION_AND_STATUS {
        return 0;
    }
    out.extend_from_slice(b"HTTP/1.1");
    out.extend_from_slice(&line["HTTP/1.1".len()..]);
    if line.len() == VERSION_AND_STATUS {
        out.push(b' '); // RFC 9112 §4: the space stands even without a phrase
    }
    out.extend_from_slice(b"\r\n");
    head.fields_start
}

/// What `Content-Length` tells the client, if it is told one.
#[inline]
fn told_length(head: &ResponseHead<'_>, forwarding: &ResponseForwarding<'_>) -> Option<u64> {
    match head.framing {
        Framing::Length(length) => Some(length),
        // What a GET would have had: HEAD and 304 may say so (RFC 9110 §8.6), 1xx and 204 not.
        Framing::None if forwarding.request_method == Method::Head || head.status == 304 => {
            head.declared_length.filter(|_| head.status >= 200 && head.status != 204)
        }
        Framing::None | Framing::Chunked | Framing::UntilClose => None,
    }
}

/// HTTP/1.1 persists by default and HTTP/1.0 does not (RFC 9112 §9.3).
#[inline]
pub(super) fn write_persistence(client_version: Version, keep_alive: bool, out: &mut Vec<u8>) {
    match (client_version, keep_alive) {
        (_, false) => out.extend_from_slice(b"Connection: close\r\n"),
        (Version::Http10, true) => out.extend_from_slice(b"Connection: keep-alive\r\n"),
        (Version::Http11, true) => {}
    }
}

#[cfg(test)]
mod tests;
