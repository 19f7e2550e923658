//! The head of a response: parsed with the same strictness as a request's.
//!
//! Before it: bytes of an upstream. After it: the conductor decides by the facts of a
//! [`ResponseHead`], and `write_response` writes the head for the client. An upstream's fault
//! never becomes the client's: it is a 502, or a closed connection.

use crate::codec::body::Framing;
use crate::codec::http1::fields::{
    Direction, FieldError, FieldFacts, FieldMask, Repeatable, is_h2c, is_protocol, list_items,
    read_fields,
};
use crate::codec::http1::head::{
    Cut, Fault, FieldLine, FieldScratch, Fields, StatusLine, cut_fields, cut_status_line,
};
use crate::codec::message::{HeadLimits, Method, Version, is_bodyless, is_interim};

/// A whole and valid response head, borrowed from the bytes it was parsed from.
#[derive(Clone, Copy, Debug)]
pub struct ResponseHead<'h> {
    /// Bytes of the head; the body follows.
    pub consumed: usize,
    /// 100 to 999.
    pub status: u16,
    /// The version that the upstream speaks.
    pub version: Version,
    /// Where the body ends on the upstream's connection.
    pub framing: Framing,
    /// What `Content-Length` said, also where no body follows (HEAD, 304).
    pub declared_length: Option<u64>,
    /// Whether the upstream's connection can carry another request after this response.
    pub keep_alive: bool,
    /// The protocol of a 101. The caller refuses a 101 that answers no Upgrade request.
    pub upgrade: Option<&'h [u8]>,
    /// Whether a `Date` came.
    pub has_date: bool,
    /// All fields as they came, and the head's bytes.
    pub fields: Fields<'h>,
    /// Lines that `write_response` does not copy.
    pub(super) cut: FieldMask,
    /// Where the first field line begins.
    pub(super) fields_start: usize,
    pub(super) has_trailer: bool,
    pub(super) length_kept: bool,
}

impl ResponseHead<'_> {
    /// Whether another response follows for the same request (1xx but 101).
    #[inline]
    pub fn is_interim(&self) -> bool {
        is_interim(self.status)
    }
}

/// Why a response can't be trusted: the upstream's fault, always.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ResponseError {
    /// The status line, or a field line, breaks the grammar.
    #[error("invalid {0}")]
    Syntax(&'static str),
    /// A status below 100.
    #[error("invalid status")]
    Status,
    /// More bytes than `head_bytes_max`, or more lines than `headers_max`.
    #[error("response head too large")]
    HeadTooLarge,
    /// What the field lines say together can be read in two ways.
    #[error(transparent)]
    Field(#[from] FieldError),
    /// A 101 that names no protocol, or h2c, or is not HTTP/1.1.
    #[error("invalid switch of protocols")]
    Upgrade,
}

/// Parses the response head that `bytes` begin with, of a response to `request_method`; `None`
/// while it is not whole. Like [`parse_request`](super::request::parse_request) the verdict does
/// not depend on how the bytes arrived; of `limits` the target's has no meaning here.
///
/// # Errors
/// The upstream's faults of RFC 9112, and all that two readers could take differently.
#[inline]
pub fn parse_response<'h>(
    bytes: &'h [u8],
    scratch: &'h mut FieldScratch,
    request_method: Method,
    limits: &HeadLimits,
) -> Result<Option<ResponseHead<'h>>, ResponseError> {
    // Nothing that goes on can make a head of it.
    if matches!(bytes.first(), Some(b'\r' | b'\n')) {
        return Err(ResponseError::Syntax("status line"));
    }
    let lines = scratch.room(limits.headers_max);
    let Ok(Some((line, count, head_bytes))) = cut(bytes, lines) else {
        return judge_incomplete(bytes, limits).map(|()| None);
    };
    if head_bytes > limits.head_bytes_max {
        return judge_incomplete(bytes, limits).map(|()| None);
    }
    let fields = Fields { bytes: &bytes[..head_bytes], lines: &lines[..count] };
    let mut facts = FieldFacts::default();
    read_fields(fields, Direction::Response, &mut facts)?;
    judge_head(&line, fields, request_method, &facts).map(Some)
}

/// First line, number of field lines, and bytes of a whole head.
#[inline]
fn cut(bytes: &[u8], lines: &mut [FieldLine]) -> Cut<(StatusLine, usize, usize)> {
    let Some(line) = cut_status_line(bytes)? else { return Ok(None) };
    let fields = cut_fields(bytes, line.end, lines)?;
    Ok(fields.map(|(count, head_bytes)| (line, count, head_bytes)))
}

#[inline]
fn judge_head<'h>(
    line: &StatusLine,
    fields: Fields<'h>,
    request_method: Method,
    facts: &FieldFacts<'h>,
) -> Result<ResponseHead<'h>, ResponseError> {
    let StatusLine { version, status, end: fields_start } = *line;
    if status < 100 {
        return Err(ResponseError::Status);
    }
    let bodyless = is_bodyless(status);
    // RFC 9112 §6.1: never in HTTP/1.0, a 1xx or a 204.
    if facts.chunked && (version == Version::Http10 || (bodyless && status != 304)) {
        return Err(FieldError::CodingForbidden.into());
    }
    let framing = match (facts.chunked, facts.content_length) {
        _ if bodyless || request_method == Method::Head => Framing::None,
        (true, _) => Framing::Chunked,
        (false, Some(length)) => Framing::Length(length),
        (false, None) => Framing::UntilClose,
    };
    // A body announced where there can be none may come all the same, and would be read as the
    // next response.
    let stray_body = bodyless && status != 304 && facts.content_length.is_some_and(|n| n > 0);
    let wants_keep_alive = match version {
        Version::Http11 => !facts.close,
        Version::Http10 => facts.keep_alive && !facts.close,
    };
    Ok(ResponseHead {
        consumed: fields.bytes.len(),
        status,
        version,
        framing,
        declared_length: facts.content_length,
        keep_alive: wants_keep_alive && framing != Framing::UntilClose && !stray_body,
        upgrade: judge_upgrade(status, version, facts)?,
        has_date: facts.has_date,
        fields,
        cut: facts.cut,
        fields_start,
        has_trailer: facts.has_trailer,
        length_kept: facts.length_kept,
    })
}

/// `Upgrade` means something in a 101 only, and must be there and named by `Connection`
/// (RFC 9110 §7.8, §15.2.2).
#[inline]
fn judge_upgrade<'h>(
    status: u16,
    version: Version,
    facts: &FieldFacts<'h>,
) -> Result<Option<&'h [u8]>, ResponseError> {
    if status != 101 {
        return Ok(None);
    }
    match facts.upgrade {
        Repeatable::Once(protocol)
            if facts.connection_upgrade
                && version == Version::Http11
                && list_items(protocol).all(|item| is_protocol(item) && !is_h2c(item)) =>
        {
            Ok(Some(protocol))
        }
        _ => Err(ResponseError::Upgrade),
    }
}

/// Judges bytes that are not a whole head within the limits, by the lines that have ended.
#[cold]
fn judge_incomplete(bytes: &[u8], limits: &HeadLimits) -> Result<(), ResponseError> {
    let window = &bytes[..bytes.len().min(limits.head_bytes_max)];
    let ended = window.iter().rposition(|&byte| byte == b'\n').map_or(0, |at| at + 1);
    let mut scratch = FieldScratch::new();
    match cut(&window[..ended], scratch.room(limits.headers_max)) {
        Ok(_) if bytes.len() >= limits.head_bytes_max => Err(ResponseError::HeadTooLarge),
        Ok(_) => Ok(()),
        Err(Fault::TooManyLines) => Err(ResponseError::HeadTooLarge),
        Err(Fault::BareLineFeed) => Err(FieldError::BareLineFeed.into()),
        Err(Fault::Version) => Err(ResponseError::Syntax("HTTP version")),
        Err(Fault::FieldName) => Err(ResponseError::Syntax("field name")),
        Err(Fault::FieldValue) => Err(ResponseError::Syntax("field value")),
        Err(Fault::LineEnd) => Err(ResponseError::Syntax("line end")),
        Err(Fault::StartLine) => Err(ResponseError::Syntax("status line")),
    }
}

#[cfg(test)]
mod tests;
