//! Where a message's body ends, and how far it has come.
//!
//! Before it: a parsed head said how the body is framed. After it: `forward` moves the bytes that
//! this module lets through. It never holds body bytes; a body of known length may be moved by
//! splice, and only its count passes here.

use crate::codec::http1::chunked::{ChunkedDecoder, ChunkedError, write_chunk, write_last_chunk};

/// How a message says where its body ends (RFC 9112 §6.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// No body follows the head.
    None,
    /// Exactly so many bytes; 0 when `Content-Length: 0` was said.
    Length(u64),
    /// The chunked coding.
    Chunked,
    /// All bytes until the connection closes (responses only).
    UntilClose,
}

/// How body bytes are written to the other side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyEncoding {
    /// As they are: the head said a length, or the close ends the body, or there is none.
    Plain,
    /// In chunks.
    Chunked,
}

/// What one call of [`BodyProgress::transcode`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Input bytes that belong to this body; the rest belongs to what follows it.
    pub consumed: usize,
    /// Body bytes among them, without framing.
    pub body_bytes: usize,
    /// Whether the body is whole.
    pub done: bool,
}

/// Why a body can't be trusted any more; the connection it came on must close.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BodyError {
    /// The chunked coding is broken.
    #[error(transparent)]
    Chunked(#[from] ChunkedError),
    /// The peer closed before the body was whole.
    #[error("connection closed before the body was whole")]
    Truncated,
}

/// The state of one body on its way.
///
/// ```text
/// Length(n) ──bytes──▶ Length(n−k) … Length(0) = done
/// Chunked   ──last chunk and trailers──▶ done
/// UntilClose ──end_of_stream──▶ done
/// ```
#[derive(Debug)]
pub struct BodyProgress {
    state: State,
}

#[derive(Debug)]
enum State {
    Length(u64),
    Chunked(ChunkedDecoder),
    UntilClose,
}

impl BodyProgress {
    /// The start of a body with this framing.
    #[inline]
    pub fn new(framing: Framing) -> Self {
        let state = match framing {
            Framing::None => State::Length(0),
            Framing::Length(length) => State::Length(length),
            Framing::Chunked => State::Chunked(ChunkedDecoder::new()),
            Framing::UntilClose => State::UntilClose,
        };
        Self { state }
    }

    /// Whether every byte of the body has passed.
    #[inline]
    pub fn is_done(&self) -> bool {
        match &self.state {
            State::Length(remaining) => *remaining == 0,
            State::Chunked(decoder) => decoder.is_done(),
            State::UntilClose => false,
        }
    }

    /// Whether not one byte of a body of this framing has been taken, of its framing neither: the
    /// body can still be had whole from where it comes.
    pub fn is_untouched(&self, framing: Framing) -> bool {
        match (&self.state, framing) {
            (State::Length(remaining), Framing::Length(length)) => *remaining == length,
            (State::Chunked(decoder), Framing::Chunked) => decoder.is_untouched(),
            _ => false,
        }
    }

    /// Bytes that are still to come, where the head said so.
    #[inline]
    pub fn remaining(&self) -> Option<u64> {
        match &self.state {
            State::Length(remaining) => Some(*remaining),
            State::Chunked(_) | State::UntilClose => None,
        }
    }

    /// Of `available` bytes, how many belong to this body as they are and may be sent without a
    /// copy; they count as passed. `None` when the body is chunked and must be transcoded.
    #[inline]
    pub fn take_plain(&mut self, available: u64) -> Option<u64> {
        match &mut self.state {
            State::Length(remaining) => {
                let taken = available.min(*remaining);
                *remaining -= taken;
                Some(taken)
            }
            State::UntilClose => Some(available),
            State::Chunked(_) => None,
        }
    }

    /// Appends to `out` what of `input` belongs to this body, in the other side's encoding; a run
    /// of data in one input becomes one chunk. The end of a body that [`Framing::Length`] or
    /// [`Framing::Chunked`] announced is written with its last byte, and only by this function:
    /// so a body of length 0 must pass here once when the other side is chunked.
    ///
    /// # Errors
    /// The peer that sent `input` broke the chunked coding; `out` then ends in an incomplete
    /// body and its connection must close.
    pub fn transcode(
        &mut self,
        input: &[u8],
        out: &mut Vec<u8>,
        encoding: BodyEncoding,
    ) -> Result<Progress, BodyError> {
        if let State::Chunked(decoder) = &mut self.state {
            return Ok(decoder.transcode(input, out, encoding)?);
        }
        let available = input.len() as u64;
        let taken = self.take_plain(available).map_or(0, |taken| taken as usize);
        let data = &input[..taken];
        let done = self.is_done();
        match encoding {
            BodyEncoding::Plain => out.extend_from_slice(data),
            BodyEncoding::Chunked => {
                write_chunk(data, out);
                if done {
                    write_last_chunk(out);
                }
            }
        }
        Ok(Progress { consumed: taken, body_bytes: taken, done })
    }

    /// The peer closed its side. Ends an [`Framing::UntilClose`] body, appending the last chunk
    /// when the other side is chunked.
    ///
    /// # Errors
    /// [`BodyError::Truncated`] when more bytes were promised.
    pub fn end_of_stream(
        &mut self,
        out: &mut Vec<u8>,
        encoding: BodyEncoding,
    ) -> Result<(), BodyError> {
        match self.state {
            State::UntilClose => {
                if encoding == BodyEncoding::Chunked {
                    write_last_chunk(out);
                }
                self.state = State::Length(0);
                Ok(())
            }
            _ if self.is_done() => Ok(()),
            _ => Err(BodyError::Truncated),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DONE: Progress = Progress { consumed: 0, body_bytes: 0, done: true };

    #[test]
    fn leaves_the_next_message_after_a_known_length() {
        let mut body = BodyProgress::new(Framing::Length(5));
        let mut out = Vec::new();
        let first = body.transcode(b"he", &mut out, BodyEncoding::Plain);
        assert_eq!(first, Ok(Progress { consumed: 2, body_bytes: 2, done: false }));
        assert_eq!(body.remaining(), Some(3));
        let last = body.transcode(b"lloGET /", &mut out, BodyEncoding::Plain);
        assert_eq!(last, Ok(Progress { consumed: 3, body_bytes: 3, done: true }));
        assert_eq!(out, b"hello");
    }

    #[test]
    fn no_body_takes_nothing() {
        let mut body = BodyProgress::new(Framing::None);
        let mut out = Vec::new();
        assert!(body.is_done());
        assert_eq!(body.transcode(b"GET /", &mut out, BodyEncoding::Plain), Ok(DONE));
        assert_eq!(body.take_plain(9), Some(0));
        assert_eq!(out, b"");
    }

    #[test]
    fn a_known_length_can_be_chunked_for_the_other_side() {
        let mut body = BodyProgress::new(Framing::Length(3));
        let mut out = Vec::new();
        let progress = body.transcode(b"abcd", &mut out, BodyEncoding::Chunked);
        assert_eq!(progress, Ok(Progress { consumed: 3, body_bytes: 3, done: true }));
        assert_eq!(out, b"3\r\nabc\r\n0\r\n\r\n");
    }

    #[test]
    fn until_close_ends_with_the_stream_only() {
        let mut body = BodyProgress::new(Framing::UntilClose);
        let mut out = Vec::new();
        let progress = body.transcode(b"abc", &mut out, BodyEncoding::Chunked);
        assert_eq!(progress, Ok(Progress { consumed: 3, body_bytes: 3, done: false }));
        assert!(!body.is_done());
        assert_eq!(body.end_of_stream(&mut out, BodyEncoding::Chunked), Ok(()));
        assert!(body.is_done());
        assert_eq!(out, b"3\r\nabc\r\n0\r\n\r\n");
    }

    #[test]
    fn an_early_close_is_a_truncation() {
        for framing in [Framing::Length(5), Framing::Chunked] {
            let mut body = BodyProgress::new(framing);
            let mut out = Vec::new();
            body.transcode(b"2\r\n", &mut out, BodyEncoding::Plain).expect("a valid start");
            let end = body.end_of_stream(&mut out, BodyEncoding::Plain);
            assert_eq!(end, Err(BodyError::Truncated), "{framing:?}");
        }
        let mut done = BodyProgress::new(Framing::None);
        assert_eq!(done.end_of_stream(&mut Vec::new(), BodyEncoding::Plain), Ok(()));
    }

    #[test]
    fn a_body_is_untouched_until_its_first_byte_or_that_of_its_framing() {
        for (framing, first) in [(Framing::Length(2), b"a"), (Framing::Chunked, b"1")] {
            let mut body = BodyProgress::new(framing);
            assert!(body.is_untouched(framing), "{framing:?}");
            body.transcode(b"", &mut Vec::new(), BodyEncoding::Chunked).expect("nothing is valid");
            assert!(body.is_untouched(framing), "{framing:?}");
            body.transcode(first, &mut Vec::new(), BodyEncoding::Plain).expect("a valid start");
            assert!(!body.is_untouched(framing), "{framing:?}");
        }
        // After a whole chunk the next one's size is awaited, as at the start.
        let mut body = BodyProgress::new(Framing::Chunked);
        body.transcode(b"1\r\na\r\n", &mut Vec::new(), BodyEncoding::Chunked).expect("a chunk");
        assert!(!body.is_untouched(Framing::Chunked));
    }

    #[test]
    fn only_a_chunked_body_must_be_transcoded() {
        assert_eq!(BodyProgress::new(Framing::Length(10)).take_plain(4), Some(4));
        assert_eq!(BodyProgress::new(Framing::UntilClose).take_plain(4), Some(4));
        assert_eq!(BodyProgress::new(Framing::Chunked).take_plain(4), None);
    }
}
