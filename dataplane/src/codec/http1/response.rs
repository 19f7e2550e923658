//! The head of a response: parsed with the same strictness as a request's.
//!
//! Before it: bytes of an upstream. After it: the conductor decides by the facts of a
//! [`ResponseHead`], and `write_response` writes the head for the client. An upstream's fault
//! never becomes the client's: it is a 502, or a closed connection.

use httparse::{Header, ParserConfig, Status};

use crate::codec::body::Framing;
use crate::codec::http1::fields::{
    Direction, FIELDS_MAX, FieldError, FieldFacts, FieldMask, FieldScratch, Repeatable, is_h2c,
    is_protocol, list_items, offset_in, read_fields,
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
    pub(super) bytes: &'h [u8],
    pub(super) fields: &'h [Header<'h>],
    /// Lines that `write_response` does not copy.
    pub(super) cut: FieldMask,
    /// Where the first field line begins.
    pub(super) fields_start: usize,
    pub(super) has_trailer: bool,
    pub(super) length_kept: bool,
}

impl<'h> ResponseHead<'h> {
    /// Whether another response follows for the same request (1xx but 101).
    #[inline]
    pub fn is_interim(&self) -> bool {
        is_interim(self.status)
    }

    /// All fields as they came, in order: names and values without the white space around them.
    pub fn fields(&self) -> impl Iterator<Item = (&'h str, &'h [u8])> + use<'h> {
        self.fields.iter().map(|field| (field.name, field.value))
    }

    /// The value of the first field of this name, in any case.
    pub fn field(&self, name: &str) -> Option<&'h [u8]> {
        self.fields().find(|(own, _)| own.eq_ignore_ascii_case(name)).map(|(_, value)| value)
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
pub fn parse_response<'h, 'b: 'h>(
    bytes: &'b [u8],
    scratch: &'h mut FieldScratch<'b>,
    request_method: Method,
    limits: &HeadLimits,
) -> Result<Option<ResponseHead<'h>>, ResponseError> {
    // httparse would skip empty lines before a status line; a response has none.
    if matches!(bytes.first(), Some(b'\r' | b'\n')) {
        return Err(ResponseError::Syntax("status line"));
    }
    let slots = limits.headers_max.min(FIELDS_MAX);
    let mut parsed = httparse::Response::new(&mut []);
    let result = ParserConfig::default().parse_response_with_uninit_headers(
        &mut parsed,
        bytes,
        &mut scratch.headers[..slots],
    );
    let (Ok(Status::Complete(head_bytes)), Some(minor), Some(status)) =
        (result, parsed.version, parsed.code)
    else {
        return judge_incomplete(bytes, limits).map(|()| None);
    };
    if head_bytes > limits.head_bytes_max {
        return judge_incomplete(bytes, limits).map(|()| None);
    }
    let fields: &'h [Header<'h>] = parsed.headers;
    let mut facts = FieldFacts::default();
    read_fields(bytes, head_bytes, fields, Direction::Response, &mut facts)?;
    let version = if minor == 0 { Version::Http10 } else { Version::Http11 };
    let mut head = judge_head(status, version, request_method, &facts)?;
    head.consumed = head_bytes;
    head.bytes = &bytes[..head_bytes];
    head.fields = fields;
    head.fields_start =
        fields.first().map_or(head_bytes - 2, |first| offset_in(bytes, first.name.as_bytes()));
    Ok(Some(head))
}

#[inline]
fn judge_head<'h>(
    status: u16,
    version: Version,
    request_method: Method,
    facts: &FieldFacts<'h>,
) -> Result<ResponseHead<'h>, ResponseError> {
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
        consumed: 0,
        status,
        version,
        framing,
        declared_length: facts.content_length,
        keep_alive: wants_keep_alive && framing != Framing::UntilClose && !stray_body,
        upgrade: judge_upgrade(status, version, facts)?,
        has_date: facts.has_date,
        bytes: &[],
        fields: &[],
        cut: facts.cut,
        fields_start: 0,
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
    let mut parsed = httparse::Response::new(&mut []);
    let status = ParserConfig::default().parse_response_with_uninit_headers(
        &mut parsed,
        &window[..ended],
        &mut scratch.headers[..limits.headers_max.min(FIELDS_MAX)],
    );
    match status {
        Ok(_) if bytes.len() >= limits.head_bytes_max => Err(ResponseError::HeadTooLarge),
        Ok(_) => Ok(()),
        Err(httparse::Error::TooManyHeaders) => Err(ResponseError::HeadTooLarge),
        Err(httparse::Error::Version) => Err(ResponseError::Syntax("HTTP version")),
        Err(httparse::Error::HeaderName) => Err(ResponseError::Syntax("field name")),
        Err(httparse::Error::HeaderValue) => Err(ResponseError::Syntax("field value")),
        Err(httparse::Error::NewLine) => Err(ResponseError::Syntax("line end")),
        Err(_) => Err(ResponseError::Syntax("status line")),
    }
}

#[cfg(test)]
mod tests;
