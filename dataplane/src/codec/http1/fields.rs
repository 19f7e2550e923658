//! The field lines of a head: what they say about framing and the connection, and which of them
//! end at this hop.
//!
//! Before it: `head` has cut a head into names and values. After it: `request` and `response`
//! take the facts, `write_request` and `write_response` copy what was not cut. One pass over the
//! lines; a name is told apart by its length and first byte before it is compared. It never
//! copies a field.

use crate::codec::http1::head::{FieldLine, Fields};
use crate::codec::message::is_token_byte;
use crate::plant::{self, Plant};

/// Field lines that a head can have at most, whatever `headers_max` says.
pub const FIELDS_MAX: usize = 256;
/// Field names that one head's `Connection` may nominate: each costs a look at every field.
pub const NOMINATIONS_MAX: usize = 32;

/// What is wrong with a head's field lines: the sender's fault, always.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FieldError {
    /// A line ended by LF alone.
    #[error("bare LF in a head")]
    BareLineFeed,
    /// `Content-Length` is no plain number below 2^63.
    #[error("invalid Content-Length")]
    ContentLengthInvalid,
    /// More than one `Content-Length`.
    #[error("repeated Content-Length")]
    ContentLengthRepeated,
    /// Both ways of framing at once.
    #[error("Content-Length with Transfer-Encoding")]
    LengthWithCoding,
    /// `Transfer-Encoding` is not one final `chunked`.
    #[error("invalid Transfer-Encoding")]
    CodingInvalid,
    /// A transfer coding that is not `chunked`.
    #[error("unknown transfer coding")]
    CodingUnknown,
    /// `Transfer-Encoding` in a message whose version or status can't have one.
    #[error("Transfer-Encoding where none may be")]
    CodingForbidden,
    /// More than one `Host`.
    #[error("repeated Host")]
    HostRepeated,
    /// `Connection` is no list of tokens.
    #[error("invalid Connection")]
    ConnectionInvalid,
    /// `Connection` nominates a field that framing, routing or forwarding hangs on.
    #[error("Connection nominates a field that it may not")]
    NominationForbidden,
    /// `Connection` nominates more than [`NOMINATIONS_MAX`] fields.
    #[error("Connection nominates too many fields")]
    NominationsTooMany,
}

/// The set of a head's lines that are not copied as they are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct FieldMask {
    words: [u64; FIELDS_MAX / 64],
}

impl FieldMask {
    #[inline]
    pub(super) fn insert(&mut self, index: usize) {
        self.words[index / 64 % (FIELDS_MAX / 64)] |= 1 << (index % 64);
    }

    /// The indexes in it, ascending, of a head with `count` lines.
    #[inline]
    pub(super) fn iter(&self, count: usize) -> MaskIter<'_> {
        let [first, rest @ ..] = &self.words;
        let rest = if count > 64 { &rest[..] } else { &[] };
        MaskIter { bits: *first, base: 0, rest }
    }
}

/// Iterates over a [`FieldMask`].
pub(super) struct MaskIter<'m> {
    /// What is left of the word that is being read, and the index of its first bit.
    bits: u64,
    base: usize,
    rest: &'m [u64],
}

impl Iterator for MaskIter<'_> {
    type Item = usize;

    #[inline]
    fn next(&mut self) -> Option<usize> {
        while self.bits == 0 {
            let (&bits, rest) = self.rest.split_first()?;
            (self.bits, self.base, self.rest) = (bits, self.base + 64, rest);
        }
        let bit = self.bits.trailing_zeros() as usize;
        self.bits &= self.bits - 1;
        Some(self.base + bit)
    }
}

/// The fields that this hop reads or ends. `Ordinary` is all others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Ordinary,
    /// `X-Attempt-Count`: each hop counts its own tries.
    AttemptCount,
    Connection,
    ContentLength,
    Date,
    Expect,
    ForwardedFor,
    ForwardedProto,
    /// `Keep-Alive`, `Proxy-Connection`, `TE`, `HTTP2-Settings`, `Proxy-Authenticate`,
    /// `Proxy-Authorization`: they end here.
    HopByHop,
    Host,
    /// `X-Lateen-Debug`.
    LateenDebug,
    MaxForwards,
    RequestId,
    /// `X-Request-Timeout-Ms`.
    RequestTimeout,
    Trailer,
    TransferEncoding,
    Upgrade,
    Via,
}

/// Tells a field name apart: by its length, then by its first byte, and only then by the rest.
/// A name that is told apart is a token.
#[inline]
pub(super) fn classify(name: &[u8]) -> Kind {
    let first = name.first().map_or(0, |first| first | 0x20);
    match name.len() {
        2 if is(name, b"te") => Kind::HopByHop,
        3 if is(name, b"via") => Kind::Via,
        4 if first == b'h' && is(name, b"host") => Kind::Host,
        4 if first == b'd' && is(name, b"date") => Kind::Date,
        6 if first == b'e' && is(name, b"expect") => Kind::Expect,
        7 if first == b'u' && is(name, b"upgrade") => Kind::Upgrade,
        7 if first == b't' && is(name, b"trailer") => Kind::Trailer,
        10 if first == b'c' && is(name, b"connection") => Kind::Connection,
        10 if first == b'k' && is(name, b"keep-alive") => Kind::HopByHop,
        12 if first == b'm' && is(name, b"max-forwards") => Kind::MaxForwards,
        12 if first == b'x' && is(name, b"x-request-id") => Kind::RequestId,
        14 if first == b'c' && is(name, b"content-length") => Kind::ContentLength,
        14 if first == b'x' && is(name, b"x-lateen-debug") => Kind::LateenDebug,
        14 if first == b'h' && is(name, b"http2-settings") => Kind::HopByHop,
        15 if first == b'x' && is(name, b"x-forwarded-for") => Kind::ForwardedFor,
        15 if first == b'x' && is(name, b"x-attempt-count") => Kind::AttemptCount,
        16 if first == b'p' && is(name, b"proxy-connection") => Kind::HopByHop,
        17 if first == b't' && is(name, b"transfer-encoding") => Kind::TransferEncoding,
        17 if first == b'x' && is(name, b"x-forwarded-proto") => Kind::ForwardedProto,
        18 if first == b'p' && is(name, b"proxy-authenticate") => Kind::HopByHop,
        19 if first == b'p' && is(name, b"proxy-authorization") => Kind::HopByHop,
        20 if first == b'x' && is(name, b"x-request-timeout-ms") => Kind::RequestTimeout,
        _ => Kind::Ordinary,
    }
}

/// Whether other hops tell of the client by this field, beside those that [`classify`] knows:
/// passed on, and never nominated.
fn is_forwarding(name: &[u8]) -> bool {
    is(name, b"forwarded")
        || is(name, b"x-real-ip")
        || name.get(..12).is_some_and(|start| is(start, b"x-forwarded-"))
}

/// Whether a text equals a lower-case name in any case. Only where the name has a letter may bit 5
/// differ: setting it elsewhere would take a CR for a `-`.
#[inline(always)]
pub(super) fn is<const N: usize>(name: &[u8], lower: &[u8; N]) -> bool {
    let Ok(name) = <&[u8; N]>::try_from(name) else { return false };
    let mut difference = 0;
    let mut index = 0;
    while index < N {
        let case = if lower[index].is_ascii_lowercase() { 0x20 } else { 0 };
        difference |= (name[index] | case) ^ lower[index];
        index += 1;
    }
    difference == 0
}

/// What the field lines of a head say.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct FieldFacts<'h> {
    /// Lines that are not copied as they are.
    pub(super) cut: FieldMask,
    pub(super) content_length: Option<u64>,
    /// The `Content-Length` line is as this hop would write it, and is not among the `cut`.
    pub(super) length_kept: bool,
    pub(super) chunked: bool,
    pub(super) close: bool,
    pub(super) keep_alive: bool,
    pub(super) connection_upgrade: bool,
    pub(super) has_date: bool,
    pub(super) has_trailer: bool,
    pub(super) has_forwarded_for: bool,
    pub(super) wants_epoch: bool,
    pub(super) upgrade: Repeatable<'h>,
    pub(super) request_id: Repeatable<'h>,
    pub(super) request_timeout: Repeatable<'h>,
    pub(super) max_forwards: Repeatable<'h>,
    pub(super) expect: Repeatable<'h>,
    pub(super) host: Option<(&'h [u8], u8)>,
}

/// A field that may stand once to be taken seriously.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Repeatable<'h> {
    #[default]
    Missing,
    Once(&'h [u8]),
    Repeated,
}

impl<'h> Repeatable<'h> {
    #[inline]
    fn add(&mut self, value: &'h [u8]) {
        *self = if *self == Self::Missing { Self::Once(value) } else { Self::Repeated };
    }
}

/// Which way a message goes: some fields mean something in one direction only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Direction {
    Request,
    Response,
}

/// Reads all field lines of a head into `facts`, which are empty (and too large to be handed about).
///
/// # Errors
/// What two implementations could read differently.
#[inline]
pub(super) fn read_fields<'h>(
    fields: Fields<'h>,
    direction: Direction,
    facts: &mut FieldFacts<'h>,
) -> Result<(), FieldError> {
    let mut has_connection = false;
    for (index, line) in fields.lines.iter().enumerate() {
        let kind = line.kind;
        if kind == Kind::Ordinary {
            continue;
        }
        if kind == Kind::ContentLength && is_canonical_length(fields.bytes, line) {
            facts.length_kept = true;
        }
        read_field(facts, index, kind, line.value(fields.bytes), direction)?;
        has_connection |= kind == Kind::Connection;
    }
    if facts.chunked && facts.content_length.is_some() {
        return Err(FieldError::LengthWithCoding);
    }
    if has_connection {
        read_connection(facts, fields)?;
    }
    Ok(())
}

#[inline]
fn read_field<'h>(
    facts: &mut FieldFacts<'h>,
    index: usize,
    kind: Kind,
    value: &'h [u8],
    direction: Direction,
) -> Result<(), FieldError> {
    let request = direction == Direction::Request;
    match kind {
        Kind::ContentLength => {
            let length = parse_number(value).ok_or(FieldError::ContentLengthInvalid)?;
            if facts.content_length.replace(length).is_some() {
                return Err(FieldError::ContentLengthRepeated);
            }
            if facts.length_kept {
                return Ok(());
            }
        }
        Kind::TransferEncoding => {
            if facts.chunked {
                return Err(FieldError::CodingInvalid);
            }
            check_coding(value)?;
            facts.chunked = true;
        }
        Kind::Upgrade => facts.upgrade.add(value),
        Kind::Connection | Kind::HopByHop => {}
        Kind::Host if request => {
            if facts.host.replace((value, index.min(1) as u8)).is_some() {
                return Err(FieldError::HostRepeated);
            }
        }
        Kind::Expect if request => facts.expect.add(value),
        Kind::MaxForwards if request => {
            facts.max_forwards.add(value);
            return Ok(());
        }
        Kind::RequestId if request => facts.request_id.add(value),
        Kind::RequestTimeout if request => facts.request_timeout.add(value),
        Kind::AttemptCount if request => {}
        Kind::ForwardedFor if request => facts.has_forwarded_for = true,
        // Passed on: each hop that is asked says which config it answered by.
        Kind::LateenDebug if request => {
            facts.wants_epoch = true;
            return Ok(());
        }
        Kind::ForwardedProto if request => {}
        Kind::Trailer => {
            facts.has_trailer = true;
            return Ok(());
        }
        Kind::Date => {
            facts.has_date = true;
            return Ok(());
        }
        _ => return Ok(()),
    }
    facts.cut.insert(index);
    Ok(())
}

/// Reads the `Connection` lines, which are known to be there: options of this connection, and
/// fields that end here because they are nominated (RFC 9110 §7.6.1).
fn read_connection(facts: &mut FieldFacts<'_>, fields: Fields<'_>) -> Result<(), FieldError> {
    let mut nominations = 0;
    for line in fields.lines.iter().filter(|line| line.kind == Kind::Connection) {
        for option in list_items(line.value(fields.bytes)) {
            match option.len() {
                0 => continue,
                5 if is(option, b"close") => facts.close = true,
                10 if is(option, b"keep-alive") => facts.keep_alive = true,
                7 if is(option, b"upgrade") => facts.connection_upgrade = true,
                _ => {
                    nominations += 1;
                    if nominations > NOMINATIONS_MAX {
                        return Err(FieldError::NominationsTooMany);
                    }
                    nominate(facts, fields, option)?;
                }
            }
        }
    }
    Ok(())
}

#[cold]
fn nominate(
    facts: &mut FieldFacts<'_>,
    fields: Fields<'_>,
    option: &[u8],
) -> Result<(), FieldError> {
    if !option.iter().all(|&byte| is_token_byte(byte)) {
        return Err(FieldError::ConnectionInvalid);
    }
    match classify(option) {
        Kind::ContentLength
        | Kind::TransferEncoding
        | Kind::Host
        | Kind::Expect
        | Kind::MaxForwards
        | Kind::Date
        | Kind::ForwardedFor
        | Kind::ForwardedProto
        | Kind::RequestId
        | Kind::RequestTimeout
        | Kind::AttemptCount
        | Kind::Via => return Err(FieldError::NominationForbidden),
        Kind::Ordinary if is_forwarding(option) => return Err(FieldError::NominationForbidden),
        Kind::Ordinary
        | Kind::Connection
        | Kind::HopByHop
        | Kind::LateenDebug
        | Kind::Trailer
        | Kind::Upgrade => {}
    }
    for (index, field) in fields.iter().enumerate() {
        let nominated = field.name.eq_ignore_ascii_case(option);
        if nominated && !plant::has(Plant::NominatedForwarded) {
            facts.cut.insert(index);
        }
    }
    Ok(())
}

/// Whether a `Content-Length` line is, but for the case of its name, as [`put_number`] would write
/// it: one space, no leading zero, nothing behind the number.
#[inline]
fn is_canonical_length(bytes: &[u8], line: &FieldLine) -> bool {
    let value = line.value(bytes);
    line.is_plainly_set(bytes) && (value.len() == 1 || value.first() != Some(&b'0'))
}

/// `1*DIGIT` below 2^63 (what others keep in a signed number), of at most 19 digits.
#[inline]
pub(super) fn parse_number(value: &[u8]) -> Option<u64> {
    if value.is_empty() || value.len() > 19 {
        return None;
    }
    let mut number = 0_u64;
    for &byte in value {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        number = number * 10 + u64::from(digit); // 19 nines are below 2^64
    }
    (number <= i64::MAX as u64).then_some(number)
}

/// Whether a `Transfer-Encoding` line is exactly one `chunked` (RFC 9112 §6.1).
fn check_coding(value: &[u8]) -> Result<(), FieldError> {
    if is(value, b"chunked") {
        return Ok(());
    }
    // Chunked elsewhere than at the end, twice, or with parameters, is nobody's coding; a list
    // of well-formed names is a coding that we don't know.
    let mut unknown = false;
    let items = list_items(value).count();
    for (index, coding) in list_items(value).enumerate() {
        if coding.is_empty() || !coding.iter().all(|&byte| is_token_byte(byte)) {
            return Err(FieldError::CodingInvalid);
        }
        let chunked = is(coding, b"chunked");
        if chunked && index + 1 != items {
            return Err(FieldError::CodingInvalid);
        }
        unknown |= !chunked;
    }
    Err(if unknown { FieldError::CodingUnknown } else { FieldError::CodingInvalid })
}

/// The items of a comma-separated list without the white space around them; empty ones too.
#[inline]
pub(super) fn list_items(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|&byte| byte == b',').map(trim)
}

/// `protocol-name [ "/" protocol-version ]` (RFC 9110 §7.8).
pub(super) fn is_protocol(item: &[u8]) -> bool {
    let (name, version) = match item.iter().position(|&byte| byte == b'/') {
        Some(slash) => (&item[..slash], &item[slash + 1..]),
        None => (item, &b"1"[..]),
    };
    let is_token = |text: &[u8]| !text.is_empty() && text.iter().all(|&byte| is_token_byte(byte));
    is_token(name) && is_token(version)
}

/// Whether a protocol is HTTP/2 in plaintext, which would escape the proxy's rules.
pub(super) fn is_h2c(item: &[u8]) -> bool {
    item.get(..3).is_some_and(|name| is(name, b"h2c")) && matches!(item.get(3), None | Some(b'/'))
}

/// Without the spaces and tabs at both ends.
#[inline]
pub(super) fn trim(mut text: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] = text {
        text = rest;
    }
    while let [rest @ .., b' ' | b'\t'] = text {
        text = rest;
    }
    text
}

/// Whether a byte may stand in a field value (RFC 9110 §5.5, with obs-text).
#[inline]
pub(super) fn is_field_value_byte(byte: u8) -> bool {
    byte == b'\t' || (byte >= b' ' && byte != 0x7f)
}

/// Whether a field may not come as a trailer: framing, routing, authentication, hop-by-hop and
/// content format (RFC 9110 §6.5.1). `name` is a token.
pub(super) fn is_forbidden_trailer(name: &[u8]) -> bool {
    const ALSO: [&str; 19] = [
        "authorization",
        "www-authenticate",
        "authentication-info",
        "proxy-authentication-info",
        "cookie",
        "set-cookie",
        "content-encoding",
        "content-type",
        "content-range",
        "range",
        "te",
        "cache-control",
        "expires",
        "age",
        "vary",
        "location",
        "retry-after",
        "pragma",
        "if-match",
    ];
    classify(name) != Kind::Ordinary
        || is_forwarding(name)
        || ALSO.iter().any(|also| name.eq_ignore_ascii_case(also.as_bytes()))
        || name.get(..3).is_some_and(|prefix| is(prefix, b"if-"))
}

/// Adds the lines of one kind to `cut`, for the rare fields whose fate hangs on more than a name.
pub(super) fn cut_kind(fields: Fields<'_>, kind: Kind, cut: &mut FieldMask) {
    for (index, line) in fields.lines.iter().enumerate() {
        if line.kind == kind {
            cut.insert(index);
        }
    }
}

/// Appends the lines from `start` to `end` of a head that are not in `cut`, in runs.
#[inline]
pub(super) fn copy_kept_lines(
    fields: Fields<'_>,
    cut: &FieldMask,
    start: usize,
    end: usize,
    out: &mut Vec<u8>,
) {
    let Fields { bytes, lines } = fields;
    let mut run_start = start;
    for index in cut.iter(lines.len()) {
        let line_start = lines[index].start();
        if line_start > run_start {
            out.extend_from_slice(&bytes[run_start..line_start]);
        }
        run_start = lines.get(index + 1).map_or(end, FieldLine::start);
    }
    if end > run_start {
        out.extend_from_slice(&bytes[run_start..end]);
    }
}

/// Appends a line of a field whose value is a number; `start` is its name, with what comes between them.
pub fn put_number_line(start: &[u8], number: u64, out: &mut Vec<u8>) {
    out.extend_from_slice(start);
    put_number(number, out);
    out.extend_from_slice(b"\r\n");
}

/// Appends a number in decimal.
pub(super) fn put_number(number: u64, out: &mut Vec<u8>) {
    if number < 10 {
        return out.push(b'0' + number as u8);
    }
    let mut digits = [0; 20];
    let mut at = digits.len();
    let mut rest = number;
    loop {
        at -= 1;
        digits[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}

#[cfg(test)]
mod tests;
