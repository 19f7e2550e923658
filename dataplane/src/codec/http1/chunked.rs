//! The chunked coding (RFC 9112 §7.1): a strict decoder that writes what it read again.
//!
//! Before it: `body` knows that a message is chunked. After it: the other side gets chunks of
//! ours, or plain bytes where it speaks HTTP/1.0. Sizes, extensions and trailers are never passed
//! on as they came, so what a peer could read differently ends here. It never holds body data;
//! it holds the trailer section until that is known to be whole and valid.

use crate::codec::body::{BodyEncoding, Progress};
use crate::codec::http1::fields::{is_field_value_byte, is_forbidden_trailer};
use crate::codec::message::is_token_byte;

/// Bytes of one chunk's extensions, and of all extensions of one body: extensions carry nothing
/// that we pass on, and unbounded ones are a known way to burn a server's reads
/// (CVE-2023-39326).
pub const EXTENSION_BYTES_MAX: u16 = 256;
/// See [`EXTENSION_BYTES_MAX`].
pub const EXTENSION_BYTES_TOTAL_MAX: u32 = 16 * 1024;
/// Digits of a chunk size, leading zeros too.
pub const SIZE_DIGITS_MAX: u8 = 16;
/// Bytes of a trailer section.
pub const TRAILER_BYTES_MAX: usize = 8 * 1024;
/// Lines of a trailer section.
pub const TRAILERS_MAX: u16 = 64;

/// What is wrong with a chunked body.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChunkedError {
    /// Not `1*HEXDIG`, or past 63 bits.
    #[error("invalid chunk size")]
    Size,
    /// A control byte in an extension, or too many bytes of them.
    #[error("invalid or too long chunk extension")]
    Extension,
    /// CR without LF, LF without CR, or data that runs on after its chunk.
    #[error("invalid line end in a chunked body")]
    LineEnd,
    /// A trailer that is no field line.
    #[error("invalid trailer field")]
    Trailer,
    /// Too many trailer lines or bytes.
    #[error("trailer section too large")]
    TrailerTooLarge,
}

/// An incremental decoder of one chunked body.
///
/// ```text
///          ┌────────────────────────────── data end CRLF ◀── Data ◀─┐
///          ▼                                                        │ size > 0
/// SizeStart ─hex─▶ Size ─;─▶ Extension ─CR─▶ SizeLf ─LF─────────────┤
///                    └──────────CR───────────▲                      │ size = 0
///                                                                   ▼
///                 Done ◀─LF─ EndLf ◀─CR─ TrailerStart ◀─LF─ TrailerLf ◀─CR─ Trailer
///                                             └───────────any other byte───────▲
/// ```
#[derive(Debug, Default)]
pub struct ChunkedDecoder {
    /// Data bytes left of the current chunk; the size while its line is read.
    remaining: u64,
    /// The kept trailer lines, and the one being read; allocated by the first trailer's byte.
    trailers: Vec<u8>,
    extension_bytes_total: u32,
    extension_bytes: u16,
    /// Where the trailer line that is being read begins in `trailers`.
    line_start: u16,
    trailer_bytes: u16,
    trailer_count: u16,
    size_digits: u8,
    state: State,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    SizeStart,
    Size,
    Extension,
    SizeLf,
    Data,
    DataCr,
    DataLf,
    TrailerStart,
    Trailer,
    TrailerLf,
    EndLf,
    Done,
}

const _: () = assert!(size_of::<ChunkedDecoder>() <= 64);
const _: () = assert!(TRAILER_BYTES_MAX < u16::MAX as usize);

impl ChunkedDecoder {
    /// Before the first chunk.
    #[inline]
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether not one byte of the body has passed, its framing included.
    #[inline]
    pub fn is_untouched(&self) -> bool {
        // The first digit of the first size is counted, and digits are never counted down to none.
        self.size_digits == 0
    }

    /// Whether the last chunk and the trailers have passed.
    #[inline]
    pub fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// Decodes all of `input` up to the end of the body, and appends its data to `out`: as one
    /// chunk, or plain. The last chunk and the trailers are appended once they are whole and
    /// valid; trailers are lost in plain encoding (RFC 9110 §6.5.1 allows it).
    ///
    /// # Errors
    /// The peer broke the coding. What `out` holds then is an incomplete body.
    pub fn transcode(
        &mut self,
        input: &[u8],
        out: &mut Vec<u8>,
        encoding: BodyEncoding,
    ) -> Result<Progress, ChunkedError> {
        let mut run = Run::begin(out, input.len(), encoding);
        let mut body_bytes = 0;
        let mut at = 0;
        let mut verdict = Ok(());
        while at < input.len() && self.state != State::Done {
            if self.state == State::Data {
                let taken = self.take_data(input.len() - at);
                out.extend_from_slice(&input[at..at + taken]);
                body_bytes += taken;
                at += taken;
                continue;
            }
            verdict = self.step(input[at]);
            if verdict.is_err() {
                break;
            }
            at += 1;
        }
        run.end(out);
        verdict?;

        let done = self.state == State::Done;
        if done && at > 0 && encoding == BodyEncoding::Chunked {
            out.extend_from_slice(b"0\r\n");
            out.extend_from_slice(&self.trailers);
            out.extend_from_slice(b"\r\n");
        }
        Ok(Progress { consumed: at, body_bytes, done })
    }

    /// Data bytes of the current chunk among `available` ones; at least one is available.
    #[inline]
    fn take_data(&mut self, available: usize) -> usize {
        debug_assert!(self.remaining > 0 && available > 0);
        let taken = usize::try_from(self.remaining).unwrap_or(usize::MAX).min(available);
        self.remaining -= taken as u64;
        if self.remaining == 0 {
            self.state = State::DataCr;
        }
        taken
    }

    /// One byte of framing.
    #[inline]
    fn step(&mut self, byte: u8) -> Result<(), ChunkedError> {
        self.state = match self.state {
            State::SizeStart => {
                self.remaining = u64::from(hex_digit(byte).ok_or(ChunkedError::Size)?);
                self.extension_bytes = 0;
                self.size_digits = 1;
                State::Size
            }
            State::Size => match byte {
                b'\r' => State::SizeLf,
                b';' => State::Extension,
                _ => self.size_digit(byte)?,
            },
            State::Extension => match byte {
                b'\r' => State::SizeLf,
                _ => self.extension_byte(byte)?,
            },
            State::SizeLf if byte == b'\n' && self.remaining > 0 => State::Data,
            State::SizeLf if byte == b'\n' => State::TrailerStart,
            State::DataCr if byte == b'\r' => State::DataLf,
            State::DataLf if byte == b'\n' => State::SizeStart,
            State::TrailerStart if byte == b'\r' => State::EndLf,
            State::TrailerStart | State::Trailer => self.trailer_byte(byte)?,
            State::TrailerLf if byte == b'\n' => self.end_trailer()?,
            State::EndLf if byte == b'\n' => State::Done,
            State::SizeLf | State::DataCr | State::DataLf | State::TrailerLf | State::EndLf => {
                return Err(ChunkedError::LineEnd);
            }
            State::Data | State::Done => unreachable!("transcode handles data and stops when done"),
        };
        Ok(())
    }

    #[inline]
    fn size_digit(&mut self, byte: u8) -> Result<State, ChunkedError> {
        let digit = u64::from(hex_digit(byte).ok_or(match byte {
            b'\n' => ChunkedError::LineEnd,
            _ => ChunkedError::Size,
        })?);
        // 63 bits is what others can count; the bound on digits is for leading zeros.
        self.size_digits += 1;
        if self.size_digits > SIZE_DIGITS_MAX || self.remaining > (i64::MAX as u64 >> 4) {
            return Err(ChunkedError::Size);
        }
        self.remaining = self.remaining << 4 | digit;
        Ok(State::Size)
    }

    #[cold]
    fn extension_byte(&mut self, byte: u8) -> Result<State, ChunkedError> {
        self.extension_bytes += 1;
        self.extension_bytes_total += 1;
        let allowed = byte == b'\t' || (b' '..=b'~').contains(&byte);
        if !allowed
            || self.extension_bytes > EXTENSION_BYTES_MAX
            || self.extension_bytes_total > EXTENSION_BYTES_TOTAL_MAX
        {
            return Err(ChunkedError::Extension);
        }
        Ok(State::Extension)
    }

    #[cold]
    fn trailer_byte(&mut self, byte: u8) -> Result<State, ChunkedError> {
        self.trailer_bytes += 1;
        if usize::from(self.trailer_bytes) > TRAILER_BYTES_MAX {
            return Err(ChunkedError::TrailerTooLarge);
        }
        self.trailers.push(byte);
        match byte {
            b'\r' => Ok(State::TrailerLf),
            b'\n' => Err(ChunkedError::LineEnd),
            _ => Ok(State::Trailer),
        }
    }

    /// Judges the line that has just ended; drops it again if it may not be a trailer.
    #[cold]
    fn end_trailer(&mut self) -> Result<State, ChunkedError> {
        self.trailer_count += 1;
        if self.trailer_count > TRAILERS_MAX {
            return Err(ChunkedError::TrailerTooLarge);
        }
        let start = usize::from(self.line_start);
        let line = &self.trailers[start..self.trailers.len() - 1];
        let colon = line.iter().position(|&byte| byte == b':').ok_or(ChunkedError::Trailer)?;
        let (name, value) = (&line[..colon], &line[colon + 1..]);
        if name.is_empty()
            || !name.iter().all(|&byte| is_token_byte(byte))
            || !value.iter().all(|&byte| is_field_value_byte(byte))
        {
            return Err(ChunkedError::Trailer);
        }
        if is_forbidden_trailer(name) {
            self.trailers.truncate(start);
        } else {
            self.trailers.push(b'\n');
        }
        self.line_start = self.trailers.len() as u16;
        Ok(State::TrailerStart)
    }
}

#[inline]
fn hex_digit(byte: u8) -> Option<u8> {
    match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        b'A'..=b'F' => Some(byte - b'A' + 10),
        _ => None,
    }
}

/// Appends `data` as one chunk; nothing when it is empty, for an empty chunk is the last one.
pub fn write_chunk(data: &[u8], out: &mut Vec<u8>) {
    if data.is_empty() {
        return;
    }
    write_chunk_size(data.len(), out);
    out.extend_from_slice(data);
    out.extend_from_slice(b"\r\n");
}

/// Appends the line before a chunk of `size` bytes, for data that is sent without a copy; the
/// caller sends CRLF after the data. `size` is not 0.
pub fn write_chunk_size(size: usize, out: &mut Vec<u8>) {
    debug_assert!(size > 0);
    let mut line = [0; 18];
    let digits = put_hex(size, &mut line);
    line[digits..digits + 2].copy_from_slice(b"\r\n");
    out.extend_from_slice(&line[..digits + 2]);
}

/// Appends the last chunk with no trailers.
pub fn write_last_chunk(out: &mut Vec<u8>) {
    out.extend_from_slice(b"0\r\n\r\n");
}

/// Writes `number` in hex without leading zeros and returns how many digits it took.
fn put_hex(number: usize, digits: &mut [u8]) -> usize {
    let count = hex_width(number);
    for (index, digit) in digits[..count].iter_mut().enumerate() {
        *digit = b"0123456789abcdef"[number >> (4 * (count - 1 - index)) & 15];
    }
    count
}

fn hex_width(number: usize) -> usize {
    (number.max(1).ilog2() / 4 + 1) as usize
}

/// An output chunk whose size is known only when its input has been walked: room for the size is
/// left before the data, as wide as the input's length would need.
struct Run {
    /// Where the size line begins in the output, and where the data does.
    start: usize,
    data_start: usize,
    encoding: BodyEncoding,
}

impl Run {
    #[inline]
    fn begin(out: &mut Vec<u8>, input_bytes: usize, encoding: BodyEncoding) -> Self {
        let start = out.len();
        out.reserve(input_bytes + 32);
        if encoding == BodyEncoding::Chunked {
            out.resize(start + hex_width(input_bytes) + 2, b'0');
        }
        Self { start, data_start: out.len(), encoding }
    }

    #[inline]
    fn end(&mut self, out: &mut Vec<u8>) {
        if self.encoding == BodyEncoding::Plain {
            return;
        }
        let data_bytes = out.len() - self.data_start;
        if data_bytes == 0 {
            out.truncate(self.start);
            return;
        }
        let line_bytes = hex_width(data_bytes) + 2;
        let spare = self.data_start - self.start - line_bytes;
        if spare > 0 {
            out.copy_within(self.data_start.., self.data_start - spare);
            out.truncate(out.len() - spare);
        }
        let line = &mut out[self.start..self.start + line_bytes];
        let digits = put_hex(data_bytes, line);
        line[digits..].copy_from_slice(b"\r\n");
        out.extend_from_slice(b"\r\n");
    }
}

#[cfg(test)]
mod tests;
