//! The head of a request: parsed strictly, judged once.
//!
//! Before it: bytes of a client. After it: the conductor decides by the facts of a
//! [`RequestHead`], and `write_request` writes the head for the upstream. Nothing here changes a
//! byte or picks an upstream.

use crate::codec::body::Framing;
use crate::codec::http1::fields::{
    Direction, FieldError, FieldFacts, FieldMask, Repeatable, is, is_h2c, is_protocol, list_items,
    parse_number, read_fields,
};
use crate::codec::http1::head::{
    Cut, Fault, FieldLine, FieldScratch, Fields, RequestLine, cut_fields, cut_request_line,
};
use crate::codec::http1::target::{is_valid_authority, parse_target};
use crate::codec::message::{HeadLimits, Method, Version, valid_request_id};

/// Bytes of a method that is not known by name.
pub const METHOD_BYTES_MAX: usize = 64;

/// A whole and valid request head, borrowed from the bytes it was parsed from.
#[derive(Clone, Copy, Debug)]
pub struct RequestHead<'h> {
    /// Bytes of the head, an empty line before it included; the body follows.
    pub consumed: usize,
    /// The method, where it is one that the proxy treats by name.
    pub method: Method,
    /// The method as it came.
    pub method_text: &'h [u8],
    /// The version that the client speaks.
    pub version: Version,
    /// The target as it came; ASCII, like all that is borrowed here.
    pub target: &'h [u8],
    /// What to forward as the target: origin form, or `*` for OPTIONS.
    pub path: &'h [u8],
    /// Host and perhaps port: of the target in absolute form, else of `Host`
    /// (RFC 9112 §3.2.2). `None` only in HTTP/1.0.
    pub authority: Option<&'h [u8]>,
    /// Where the body ends; never [`Framing::UntilClose`].
    pub framing: Framing,
    /// Whether the client wants to send another request on this connection.
    pub keep_alive: bool,
    /// Whether the client waits for a 100 before it sends its body.
    pub expect_continue: bool,
    /// The value of `Upgrade` when the client asks to leave HTTP/1.1 and offers more than h2c:
    /// a list of protocols, h2c perhaps among them. `None` when the request has a body.
    pub upgrade: Option<&'h [u8]>,
    /// `Max-Forwards` of an OPTIONS or TRACE request. At 0 the proxy answers itself
    /// (RFC 9110 §7.6.2).
    pub max_forwards: Option<u64>,
    /// `X-Request-Timeout-Ms`: how long the caller still waits, in milliseconds.
    pub timeout_ms: Option<u64>,
    /// The `X-Request-Id` that came, if it may be kept.
    pub request_id: Option<&'h [u8]>,
    /// All fields as they came, and the head's bytes without an empty line before it.
    pub fields: Fields<'h>,
    /// Lines that `write_request` does not copy.
    pub(super) cut: FieldMask,
    pub(super) host_is_first: bool,
    /// Whether it asks by which config it is answered (`X-Lateen-Debug`).
    pub wants_epoch: bool,
    pub(super) has_forwarded_for: bool,
    pub(super) has_trailer: bool,
    pub(super) length_kept: bool,
}

/// Why a request is refused: the client's fault, always. The connection closes after the answer,
/// and nothing is forwarded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// More than one empty line, or a lone CR or LF, before the request line.
    #[error("invalid start of a request")]
    Start,
    /// The request line, or a field line, breaks the grammar.
    #[error("invalid {0}")]
    Syntax(&'static str),
    /// HTTP of another major version.
    #[error("unsupported HTTP version")]
    VersionUnsupported,
    /// A method that is too long to be one.
    #[error("method too long")]
    MethodTooLong,
    /// CONNECT, or TRACE where it is off.
    #[error("method not allowed")]
    MethodNotAllowed {
        /// Whether TRACE is among what is allowed.
        trace_allowed: bool,
    },
    /// The target is no valid one for its method.
    #[error("invalid request target")]
    Target,
    /// The target is longer than `target_bytes_max`.
    #[error("request target too long")]
    TargetTooLong,
    /// More bytes than `head_bytes_max`, or more lines than `headers_max`.
    #[error("request head too large")]
    HeadTooLarge,
    /// What the field lines say together can be read in two ways.
    #[error(transparent)]
    Field(#[from] FieldError),
    /// HTTP/1.1 without `Host`.
    #[error("missing Host")]
    HostMissing,
    /// `Host` is no host and port.
    #[error("invalid Host")]
    HostInvalid,
    /// An expectation other than `100-continue`.
    #[error("unknown expectation")]
    Expectation,
    /// `Max-Forwards` of OPTIONS or TRACE is no number, or repeated.
    #[error("invalid Max-Forwards")]
    MaxForwards,
    /// `X-Request-Timeout-Ms` is no number of milliseconds, or repeated.
    #[error("invalid X-Request-Timeout-Ms")]
    RequestTimeout,
    /// TRACE with a body (RFC 9110 §9.3.8).
    #[error("TRACE with a body")]
    TraceBody,
}

impl RequestError {
    /// The status of the answer.
    pub fn status(self) -> u16 {
        match self {
            Self::VersionUnsupported => 505,
            Self::MethodTooLong | Self::Field(FieldError::CodingUnknown) => 501,
            Self::MethodNotAllowed { .. } => 405,
            Self::TargetTooLong => 414,
            Self::HeadTooLarge => 431,
            Self::Expectation => 417,
            Self::Start
            | Self::Syntax(_)
            | Self::Target
            | Self::Field(_)
            | Self::HostMissing
            | Self::HostInvalid
            | Self::MaxForwards
            | Self::RequestTimeout
            | Self::TraceBody => 400,
        }
    }

    /// The value of `Allow`, which a 405 must have (RFC 9110 §15.5.6).
    pub fn allow(self) -> Option<&'static str> {
        match self {
            Self::MethodNotAllowed { trace_allowed } => Some(allowed_methods(trace_allowed)),
            _ => None,
        }
    }
}

/// The value of `Allow` for what the proxy forwards.
pub fn allowed_methods(trace_allowed: bool) -> &'static str {
    if trace_allowed {
        "GET, HEAD, POST, PUT, DELETE, PATCH, OPTIONS, TRACE"
    } else {
        "GET, HEAD, POST, PUT, DELETE, PATCH, OPTIONS"
    }
}

/// Parses the request head that `bytes` begin with; `None` while it is not whole.
///
/// The verdict does not depend on how the bytes arrived: a prefix is `None` until the first line
/// that is wrong has ended or a limit is passed. To parse again for every byte that trickles in
/// would cost the square of the head; [`may_end_head`] tells when it is worth it.
///
/// Cost: one pass over the bytes and one over the fields of interest, no allocation.
///
/// # Errors
/// The client's faults of RFC 9112 and RFC 9110, and all that two readers could take differently.
#[inline]
pub fn parse_request<'h>(
    bytes: &'h [u8],
    scratch: &'h mut FieldScratch,
    limits: &HeadLimits,
) -> Result<Option<RequestHead<'h>>, RequestError> {
    let skipped = match bytes {
        [b'\r', b'\n', b'\r' | b'\n', ..] | [b'\n', ..] => return Err(RequestError::Start),
        [b'\r', b'\n', ..] => 2,
        [b'\r'] => return Ok(None),
        [b'\r', ..] => return Err(RequestError::Start),
        _ => 0,
    };
    let bytes = &bytes[skipped..];
    let lines = scratch.room(limits.headers_max);
    let Ok(Some((line, count, head_bytes))) = cut(bytes, lines) else {
        return judge_incomplete(bytes, limits).map(|()| None);
    };
    if head_bytes > limits.head_bytes_max {
        return judge_incomplete(bytes, limits).map(|()| None);
    }
    if line.target.len() > limits.target_bytes_max {
        return Err(RequestError::TargetTooLong);
    }
    let fields = Fields { bytes: &bytes[..head_bytes], lines: &lines[..count] };
    let mut facts = FieldFacts::default();
    read_fields(fields, Direction::Request, &mut facts)?;
    let head = judge_head(&line, fields, &facts, limits)?;
    Ok(Some(RequestHead { consumed: skipped + head_bytes, ..head }))
}

/// First line, number of field lines, and bytes of a whole head.
#[inline]
fn cut<'h>(bytes: &'h [u8], lines: &mut [FieldLine]) -> Cut<(RequestLine<'h>, usize, usize)> {
    let Some(line) = cut_request_line(bytes)? else { return Ok(None) };
    let fields = cut_fields(bytes, line.end, lines)?;
    Ok(fields.map(|(count, head_bytes)| (line, count, head_bytes)))
}

/// Whether parsing is worth it again after `bytes[..seen]` were found to be an incomplete head:
/// a line has ended since, or the head has reached its limit.
#[inline]
pub fn may_end_head(bytes: &[u8], seen: usize, limits: &HeadLimits) -> bool {
    bytes.len() >= limits.head_bytes_max || bytes[seen.min(bytes.len())..].contains(&b'\n')
}

#[inline]
fn judge_head<'h>(
    line: &RequestLine<'h>,
    fields: Fields<'h>,
    facts: &FieldFacts<'h>,
    limits: &HeadLimits,
) -> Result<RequestHead<'h>, RequestError> {
    let method = Method::from_bytes(line.method);
    match method {
        Method::Connect => {
            return Err(RequestError::MethodNotAllowed { trace_allowed: limits.trace_allowed });
        }
        Method::Trace if !limits.trace_allowed => {
            return Err(RequestError::MethodNotAllowed { trace_allowed: false });
        }
        Method::Other if line.method.len() > METHOD_BYTES_MAX => {
            return Err(RequestError::MethodTooLong);
        }
        _ => {}
    }
    let target = parse_target(line.target, method).ok_or(RequestError::Target)?;
    let host = judge_host(facts, line.version)?;
    let framing = judge_framing(facts, line.version)?;
    if method == Method::Trace && framing != Framing::None {
        return Err(RequestError::TraceBody);
    }
    let keep_alive = match line.version {
        Version::Http11 => !facts.close,
        Version::Http10 => facts.keep_alive && !facts.close,
    };
    Ok(RequestHead {
        consumed: 0,
        method,
        method_text: line.method,
        version: line.version,
        target: line.target,
        path: target.path,
        authority: target.authority.or(host),
        framing,
        keep_alive,
        expect_continue: judge_expectation(facts, line.version, framing)?,
        upgrade: judge_upgrade(facts, line.version, framing),
        max_forwards: judge_max_forwards(facts, method)?,
        timeout_ms: judge_timeout(facts)?,
        request_id: match facts.request_id {
            Repeatable::Once(id) if valid_request_id(id) => Some(id),
            _ => None,
        },
        fields,
        cut: facts.cut,
        host_is_first: target.authority.is_none() && matches!(facts.host, Some((_, 0))),
        wants_epoch: facts.wants_epoch,
        has_forwarded_for: facts.has_forwarded_for,
        has_trailer: facts.has_trailer,
        length_kept: facts.length_kept,
    })
}

#[inline]
fn judge_host<'h>(
    facts: &FieldFacts<'h>,
    version: Version,
) -> Result<Option<&'h [u8]>, RequestError> {
    match facts.host {
        Some((host, _)) if is_valid_authority(host) => Ok(Some(host)),
        Some(_) => Err(RequestError::HostInvalid),
        None if version == Version::Http11 => Err(RequestError::HostMissing),
        None => Ok(None),
    }
}

#[inline]
fn judge_framing(facts: &FieldFacts<'_>, version: Version) -> Result<Framing, RequestError> {
    match (facts.chunked, facts.content_length) {
        (true, _) if version == Version::Http10 => Err(FieldError::CodingForbidden.into()),
        (true, _) => Ok(Framing::Chunked),
        (false, Some(length)) => Ok(Framing::Length(length)),
        (false, None) => Ok(Framing::None),
    }
}

/// RFC 9110 §10.1.1: HTTP/1.0 clients can't expect, and without a body there is nothing to wait
/// for.
#[inline]
fn judge_expectation(
    facts: &FieldFacts<'_>,
    version: Version,
    framing: Framing,
) -> Result<bool, RequestError> {
    match facts.expect {
        Repeatable::Missing => Ok(false),
        _ if version == Version::Http10 => Ok(false),
        Repeatable::Once(value) if is(value, b"100-continue") => {
            Ok(!matches!(framing, Framing::None | Framing::Length(0)))
        }
        Repeatable::Once(_) | Repeatable::Repeated => Err(RequestError::Expectation),
    }
}

/// An Upgrade that can't be honoured is ignored, as RFC 9110 §7.8 lets a server do: from
/// HTTP/1.0, with a body (its end and the tunnel's start would have to be agreed on), repeated,
/// malformed, or for h2c alone.
#[inline]
fn judge_upgrade<'h>(
    facts: &FieldFacts<'h>,
    version: Version,
    framing: Framing,
) -> Option<&'h [u8]> {
    let Repeatable::Once(value) = facts.upgrade else { return None };
    if !facts.connection_upgrade
        || version == Version::Http10
        || !matches!(framing, Framing::None | Framing::Length(0))
        || !list_items(value).all(is_protocol)
        || list_items(value).all(is_h2c)
    {
        return None;
    }
    Some(value)
}

#[inline]
fn judge_max_forwards(facts: &FieldFacts<'_>, method: Method) -> Result<Option<u64>, RequestError> {
    if !matches!(method, Method::Options | Method::Trace) {
        return Ok(None);
    }
    match facts.max_forwards {
        Repeatable::Missing => Ok(None),
        Repeatable::Once(value) => parse_number(value).map(Some).ok_or(RequestError::MaxForwards),
        Repeatable::Repeated => Err(RequestError::MaxForwards),
    }
}

/// How long the caller still waits, as it says.
#[inline]
fn judge_timeout(facts: &FieldFacts<'_>) -> Result<Option<u64>, RequestError> {
    match facts.request_timeout {
        Repeatable::Missing => Ok(None),
        Repeatable::Once(value) => {
            parse_number(value).map(Some).ok_or(RequestError::RequestTimeout)
        }
        Repeatable::Repeated => Err(RequestError::RequestTimeout),
    }
}

/// Judges bytes that are not a whole head within the limits: the lines that have ended may be
/// wrong already, or the limits passed. Only ended lines count, so that the verdict is the same
/// however the bytes were cut.
#[cold]
fn judge_incomplete(bytes: &[u8], limits: &HeadLimits) -> Result<(), RequestError> {
    let window = &bytes[..bytes.len().min(limits.head_bytes_max)];
    if target_bytes_so_far(window) > limits.target_bytes_max {
        return Err(RequestError::TargetTooLong);
    }
    let ended = window.iter().rposition(|&byte| byte == b'\n').map_or(0, |at| at + 1);
    let mut scratch = FieldScratch::new();
    match cut(&window[..ended], scratch.room(limits.headers_max)) {
        Ok(_) if bytes.len() >= limits.head_bytes_max => Err(RequestError::HeadTooLarge),
        Ok(_) => Ok(()),
        Err(Fault::TooManyLines) => Err(RequestError::HeadTooLarge),
        Err(Fault::Version) => Err(judge_version(window)),
        Err(Fault::BareLineFeed) => Err(FieldError::BareLineFeed.into()),
        Err(Fault::FieldName) => Err(RequestError::Syntax("field name")),
        Err(Fault::FieldValue) => Err(RequestError::Syntax("field value")),
        Err(Fault::LineEnd) => Err(RequestError::Syntax("line end")),
        Err(Fault::StartLine) => Err(RequestError::Syntax("request line")),
    }
}

/// Bytes of the target in the first line, ended or not.
fn target_bytes_so_far(window: &[u8]) -> usize {
    let is_end = |byte: &u8| matches!(byte, b' ' | b'\r' | b'\n');
    let Some(method) = window.iter().position(is_end) else { return 0 };
    if window[method] != b' ' {
        return 0;
    }
    let target = &window[method + 1..];
    target.iter().position(is_end).unwrap_or(target.len())
}

/// Tells another major version from nonsense, in a first line that was refused for its version.
fn judge_version(window: &[u8]) -> RequestError {
    let end = window.iter().position(|&byte| byte == b'\n').unwrap_or(window.len());
    let line = window[..end].strip_suffix(b"\r").unwrap_or(&window[..end]);
    let version = line.rsplit(|&byte| byte == b' ').next().unwrap_or_default();
    match version {
        [b'H', b'T', b'T', b'P', b'/', major, b'.', minor]
            if major.is_ascii_digit() && *major != b'1' && minor.is_ascii_digit() =>
        {
            RequestError::VersionUnsupported
        }
        _ => RequestError::Syntax("HTTP version"),
    }
}

#[cfg(test)]
mod tests;
