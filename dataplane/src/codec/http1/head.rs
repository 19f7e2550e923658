//! Cuts a head into its first line and its field lines, in one pass and without copying.
//!
//! Before it: bytes of a peer. After it: `fields` reads what the lines say, `request` and `response`
//! judge them. Strict where readers differ: a line ends with CRLF, a name is followed by its colon,
//! and a line that begins with white space is none (RFC 9112 §2.2, §5.1, §5.2).
//!
//! Colons and the ends of values are looked for eight bytes at a time, those of long values in larger
//! blocks. A name that is told apart is a token; of all others each byte is looked up.

use crate::codec::http1::fields::{FIELDS_MAX, Kind, classify, is_field_value_byte};
use crate::codec::message::{Version, is_token_byte};

/// Where a field line stands in its head. Offsets of 32 bits: heads are bounded far below 4 GiB.
#[derive(Clone, Copy, Debug)]
pub(super) struct FieldLine {
    name_at: u32,
    name_end: u32,
    value_at: u32,
    value_end: u32,
    pub(super) kind: Kind,
}

impl FieldLine {
    const NONE: Self =
        Self { name_at: 0, name_end: 0, value_at: 0, value_end: 0, kind: Kind::Ordinary };

    /// Where the line begins.
    #[inline]
    pub(super) fn start(&self) -> usize {
        self.name_at as usize
    }

    #[inline]
    pub(super) fn name<'h>(&self, bytes: &'h [u8]) -> &'h [u8] {
        &bytes[self.name_at as usize..self.name_end as usize]
    }

    /// In any case. Most other names are not as long, and are not even looked up.
    #[inline]
    fn is_named(&self, bytes: &[u8], name: &[u8]) -> bool {
        (self.name_end - self.name_at) as usize == name.len()
            && self.name(bytes).eq_ignore_ascii_case(name)
    }

    /// Without the white space around it.
    #[inline]
    pub(super) fn value<'h>(&self, bytes: &'h [u8]) -> &'h [u8] {
        &bytes[self.value_at as usize..self.value_end as usize]
    }

    /// Whether one space stands before the value, and nothing between it and the line's end.
    #[inline]
    pub(super) fn is_plainly_set(&self, bytes: &[u8]) -> bool {
        let before = &bytes[self.name_end as usize..self.value_at as usize];
        before == b": " && bytes[self.value_end as usize] == b'\r'
    }
}

/// Room for a head's field lines, used for one head after another.
#[derive(Debug)]
pub struct FieldScratch {
    lines: Box<[FieldLine; FIELDS_MAX]>,
}

impl FieldScratch {
    /// Empty. Costs an allocation of some KiB.
    pub fn new() -> Self {
        Self { lines: Box::new([FieldLine::NONE; FIELDS_MAX]) }
    }

    /// Room for up to `count` lines.
    #[inline]
    pub(super) fn room(&mut self, count: usize) -> &mut [FieldLine] {
        &mut self.lines[..count.min(FIELDS_MAX)]
    }
}

impl Default for FieldScratch {
    fn default() -> Self {
        Self::new()
    }
}

/// A field as it came: the value without the white space around it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field<'h> {
    /// A token.
    pub name: &'h [u8],
    /// Bytes of a field value; perhaps none.
    pub value: &'h [u8],
}

/// All field lines of a head, in order.
#[derive(Clone, Copy, Debug)]
pub struct Fields<'h> {
    pub(super) bytes: &'h [u8],
    pub(super) lines: &'h [FieldLine],
}

impl<'h> Fields<'h> {
    /// No lines.
    pub const NONE: Self = Self { bytes: &[], lines: &[] };

    /// The fields.
    #[inline]
    pub fn iter(self) -> impl Iterator<Item = Field<'h>> + Clone {
        let Self { bytes, lines } = self;
        lines.iter().map(move |line| Field { name: line.name(bytes), value: line.value(bytes) })
    }

    /// The values of all fields of this name, in any case.
    #[inline]
    pub fn values<'n>(
        self,
        name: &'n [u8],
    ) -> impl Iterator<Item = &'h [u8]> + Clone + use<'h, 'n> {
        let Self { bytes, lines } = self;
        let named = lines.iter().filter(move |line| line.is_named(bytes, name));
        named.map(move |line| line.value(bytes))
    }
}

/// What is wrong with a head's grammar.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// A request's method or target, or a response's status or phrase.
    StartLine,
    Version,
    /// A CR that no LF follows, or something between a line and its end.
    LineEnd,
    /// A line ended by LF alone.
    BareLineFeed,
    FieldName,
    FieldValue,
    /// More lines than there is room for.
    TooManyLines,
}

/// What was cut off, or `None` if the bytes end before it does.
pub(super) type Cut<T> = Result<Option<T>, Fault>;

/// The first line of a request.
#[derive(Debug)]
pub(super) struct RequestLine<'h> {
    pub(super) method: &'h [u8],
    /// Not empty; no white space and no control bytes.
    pub(super) target: &'h [u8],
    pub(super) version: Version,
    /// Where the field lines begin.
    pub(super) end: usize,
}

/// Cuts off the first line of a request.
#[inline]
pub(super) fn cut_request_line(bytes: &[u8]) -> Cut<RequestLine<'_>> {
    let method_bytes = if bytes.starts_with(b"GET ") { 3 } else { token_bytes(bytes) };
    let (method, rest) = bytes.split_at(method_bytes);
    let Some(rest) = cut_space(method, rest)? else { return Ok(None) };
    let (target, rest) = rest.split_at(text_bytes::<b'!'>(rest));
    let Some(rest) = cut_space(target, rest)? else { return Ok(None) };
    let Some((version, rest)) = cut_version(rest)? else { return Ok(None) };
    let fields = line_end(rest, Fault::LineEnd)?;
    let end = |fields: &[u8]| bytes.len() - fields.len();
    Ok(fields.map(|fields| RequestLine { method, target, version, end: end(fields) }))
}

/// What stands behind the space that follows `word`, which must not be empty.
#[inline]
fn cut_space<'b>(word: &[u8], rest: &'b [u8]) -> Cut<&'b [u8]> {
    match rest {
        [b' ', behind @ ..] if !word.is_empty() => Ok(Some(behind)),
        [] => Ok(None),
        _ => Err(Fault::StartLine),
    }
}

/// The first line of a response.
#[derive(Debug)]
pub(super) struct StatusLine {
    pub(super) version: Version,
    /// Three digits; may be below 100.
    pub(super) status: u16,
    /// Where the field lines begin.
    pub(super) end: usize,
}

/// Cuts off the first line of a response. The space and the phrase behind the status may be missing.
#[inline]
pub(super) fn cut_status_line(bytes: &[u8]) -> Cut<StatusLine> {
    let Some((version, rest)) = cut_version(bytes)? else { return Ok(None) };
    let are_digits = |digits: &[u8]| digits.iter().all(u8::is_ascii_digit);
    let (status, rest) = match rest {
        [b' ', digits @ ..] if digits.len() < 3 && are_digits(digits) => return Ok(None),
        [] => return Ok(None),
        [b' ', a, b, c, rest @ ..] if are_digits(&[*a, *b, *c]) => {
            let digits = [a, b, c].map(|digit| u16::from(digit - b'0'));
            (digits[0] * 100 + digits[1] * 10 + digits[2], rest)
        }
        _ => return Err(Fault::StartLine),
    };
    let phrase = if rest.first() == Some(&b' ') { value_bytes(rest) } else { 0 };
    let fields = line_end(&rest[phrase..], Fault::StartLine)?;
    Ok(fields.map(|fields| StatusLine { version, status, end: bytes.len() - fields.len() }))
}

#[inline]
fn cut_version(bytes: &[u8]) -> Cut<(Version, &[u8])> {
    match bytes.split_first_chunk::<8>() {
        Some((b"HTTP/1.1", rest)) => Ok(Some((Version::Http11, rest))),
        Some((b"HTTP/1.0", rest)) => Ok(Some((Version::Http10, rest))),
        None if b"HTTP/1.".starts_with(bytes) => Ok(None),
        _ => Err(Fault::Version),
    }
}

/// Cuts the field lines that begin at `start` into `lines`, up to the empty line. Returns how many
/// there are and where the head ends.
#[inline]
pub(super) fn cut_fields(
    bytes: &[u8],
    start: usize,
    lines: &mut [FieldLine],
) -> Cut<(usize, usize)> {
    let mut rest = &bytes[start..];
    let mut count = 0;
    loop {
        if let [b'\r' | b'\n', ..] | [] = rest {
            let behind = line_end(rest, Fault::LineEnd)?;
            return Ok(behind.map(|behind| (count, bytes.len() - behind.len())));
        }
        let name_at = bytes.len() - rest.len();
        let Some((name, behind)) = split_at_colon(rest) else {
            let is_name = token_bytes(rest) == rest.len();
            return if is_name { Ok(None) } else { Err(Fault::FieldName) };
        };
        let kind = classify(name);
        if kind == Kind::Ordinary && !is_token(name) {
            return Err(Fault::FieldName);
        }
        let mut text = behind;
        while let [b' ' | b'\t', more @ ..] = text {
            text = more;
        }
        let value_at = bytes.len() - text.len();
        let (mut value, end) = text.split_at(value_bytes(text));
        let Some(behind) = line_end(end, Fault::FieldValue)? else { return Ok(None) };
        while let [more @ .., b' ' | b'\t'] = value {
            value = more;
        }
        let line = lines.get_mut(count).ok_or(Fault::TooManyLines)?;
        *line = FieldLine {
            name_at: name_at as u32,
            name_end: (name_at + name.len()) as u32,
            value_at: value_at as u32,
            value_end: (value_at + value.len()) as u32,
            kind,
        };
        count += 1;
        rest = behind;
    }
}

/// What stands behind the line's end that `bytes` begin with; `otherwise` if they begin otherwise.
#[inline]
fn line_end(bytes: &[u8], otherwise: Fault) -> Cut<&[u8]> {
    match bytes {
        [b'\r', b'\n', behind @ ..] => Ok(Some(behind)),
        [] | [b'\r'] => Ok(None),
        [b'\n', ..] => Err(Fault::BareLineFeed),
        _ => Err(otherwise),
    }
}

/// How many bytes of a token `bytes` begin with.
#[inline]
fn token_bytes(bytes: &[u8]) -> usize {
    bytes.iter().position(|&byte| !is_token_byte(byte)).unwrap_or(bytes.len())
}

fn is_token(text: &[u8]) -> bool {
    !text.is_empty() && text.iter().fold(true, |is_token, &byte| is_token & is_token_byte(byte))
}

const ONES: u64 = u64::from_ne_bytes([1; 8]);
const LOW: u64 = ONES * 0x7f;
const HIGH: u64 = ONES * 0x80;

/// The position of the first byte of a word, the lowest, of which bit 7 is set in `marks`.
#[inline(always)]
fn first_marked(marks: u64) -> usize {
    marks.trailing_zeros() as usize / 8
}

/// What stands before the first colon, and what behind it.
#[inline(always)]
fn split_at_colon(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (words, rest) = bytes.as_chunks::<8>();
    for (index, word) in words.iter().enumerate() {
        let other = u64::from_le_bytes(*word) ^ (ONES * b':' as u64);
        // Bit 7 of what is not 0, by a carry or by itself.
        let colons = !(((other & LOW) + LOW) | other) & HIGH;
        if colons != 0 {
            let (name, behind) = bytes.split_at(index * 8 + first_marked(colons));
            return Some((name, behind.get(1..)?));
        }
    }
    let in_rest = rest.iter().position(|&byte| byte == b':')?;
    let (name, behind) = bytes.split_at(words.len() * 8 + in_rest);
    Some((name, behind.get(1..)?))
}

/// A text of fewer bytes is short, as most are; what is behind them is looked at in blocks as large.
const BLOCK_BYTES: usize = 32;

/// How many bytes stand before the first that is below `FIRST`, or DEL.
#[inline(always)]
fn text_bytes<const FIRST: u8>(bytes: &[u8]) -> usize {
    let start = &bytes[..bytes.len().min(BLOCK_BYTES)];
    match text_bytes_by_words::<FIRST>(start) {
        BLOCK_BYTES => BLOCK_BYTES + long_text_bytes::<FIRST>(&bytes[BLOCK_BYTES..]),
        count => count,
    }
}

#[inline(never)]
fn long_text_bytes<const FIRST: u8>(bytes: &[u8]) -> usize {
    let mut count = 0;
    for block in bytes.as_chunks::<BLOCK_BYTES>().0 {
        // No way out of a block, so that the compiler makes vectors of it.
        if block.iter().fold(false, |odd, &byte| odd | (byte < FIRST) | (byte == 0x7f)) {
            break;
        }
        count += BLOCK_BYTES;
    }
    count + text_bytes_by_words::<FIRST>(&bytes[count..])
}

#[inline(always)]
fn text_bytes_by_words<const FIRST: u8>(bytes: &[u8]) -> usize {
    let (words, rest) = bytes.as_chunks::<8>();
    for (index, word) in words.iter().enumerate() {
        let word = u64::from_le_bytes(*word);
        // Bit 7 where the low seven are past a bound, by a carry.
        let is_del = (word & LOW) + ONES;
        let is_text = (word & LOW) + ONES * (0x80 - FIRST as u64);
        // What has bit 7 by itself is neither.
        let odd = (is_del | !is_text) & !word & HIGH;
        if odd != 0 {
            return index * 8 + first_marked(odd);
        }
    }
    let is_odd = |byte: &u8| *byte < FIRST || *byte == 0x7f;
    words.len() * 8 + rest.iter().position(is_odd).unwrap_or(rest.len())
}

/// How many bytes of a field value `bytes` begin with.
#[inline(always)]
fn value_bytes(bytes: &[u8]) -> usize {
    let mut count = text_bytes::<b' '>(bytes);
    while let Some(b'\t') = bytes.get(count) {
        count += 1 + text_bytes::<b' '>(&bytes[count + 1..]);
    }
    debug_assert!(bytes[..count].iter().all(|&byte| is_field_value_byte(byte)));
    count
}

#[cfg(test)]
pub(crate) mod tests;
