//! What is answered: bytes that are made once and sent many times.
//!
//! Comes after the request is read. A usual answer is one send from where it lies; a large body is
//! sent piece by piece from one filler, never kept whole.

use std::io;

use super::request::Wanted;
use crate::wire::Wire;

/// Bodies up to this size lie in memory with their head.
const WHOLE_BYTES_MAX: u64 = 64 * 1024;

/// What bodies are made of.
const FILLER_BYTES: usize = 256 * 1024;

/// Every answer there is, made once for all threads: the bytes live as long as the program.
#[derive(Clone, Copy)]
pub(crate) struct Replies {
    default: Reply,
    /// The same, with `Connection: close`.
    default_last: Reply,
    unavailable: &'static [u8],
    unavailable_last: &'static [u8],
    too_many: &'static [u8],
    filler: &'static [u8],
}

/// An answer with its head.
#[derive(Clone, Copy)]
struct Reply {
    /// Head, and body unless it is large.
    first: &'static [u8],
    head_bytes: usize,
    /// Of a large body.
    rest_bytes: u64,
}

/// What an answer depends on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Choice {
    pub(crate) wanted: Wanted,
    pub(crate) fails: bool,
    pub(crate) is_head: bool,
    pub(crate) is_last: bool,
}

pub(crate) const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";
pub(crate) const BAD_REQUEST: &[u8] =
    b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";

impl Replies {
    /// Those of an upstream whose usual body has so many bytes.
    pub(crate) fn new(body_bytes: u64) -> Self {
        let filler: &'static [u8] = vec![b'x'; FILLER_BYTES].leak();
        let reply = |is_last| {
            let head = head("200 OK", body_bytes, is_last);
            let head_bytes = head.len();
            let mut first = head.into_bytes();
            let is_whole = body_bytes <= WHOLE_BYTES_MAX;
            if is_whole {
                first.extend_from_slice(&filler[..body_bytes as usize]);
            }
            let rest_bytes = if is_whole { 0 } else { body_bytes };
            Reply { first: first.leak(), head_bytes, rest_bytes }
        };
        let empty =
            |status, is_last| -> &'static [u8] { head(status, 0, is_last).into_bytes().leak() };
        Self {
            default: reply(false),
            default_last: reply(true),
            unavailable: empty("503 Service Unavailable", false),
            unavailable_last: empty("503 Service Unavailable", true),
            too_many: empty("400 Bad Request", true),
            filler,
        }
    }

    /// Sends an answer; whether another may follow. `scratch` is the connection's, kept for its
    /// room.
    ///
    /// # Errors
    /// What the socket says.
    #[inline]
    pub(crate) async fn send(
        &self,
        wire: &mut Wire,
        scratch: &mut Vec<u8>,
        choice: Choice,
    ) -> io::Result<bool> {
        let goes_on = !choice.is_last;
        match choice.wanted {
            _ if choice.fails => {
                let reply = if choice.is_last { self.unavailable_last } else { self.unavailable };
                wire.send(reply).await?;
            }
            Wanted::Default => {
                let reply = if choice.is_last { self.default_last } else { self.default };
                if choice.is_head {
                    wire.send(&reply.first[..reply.head_bytes]).await?;
                } else {
                    wire.send(reply.first).await?;
                    self.send_filler(wire, reply.rest_bytes).await?;
                }
            }
            Wanted::Bytes(bytes) => self.send_bytes(wire, scratch, bytes, choice).await?,
            Wanted::TooMany => {
                wire.send(self.too_many).await?;
                return Ok(false);
            }
        }
        Ok(goes_on)
    }

    async fn send_bytes(
        &self,
        wire: &mut Wire,
        scratch: &mut Vec<u8>,
        body_bytes: u64,
        choice: Choice,
    ) -> io::Result<()> {
        let mut first = std::mem::take(scratch);
        first.clear();
        write_head(&mut first, "200 OK", body_bytes, choice.is_last);
        let content_bytes = if choice.is_head { 0 } else { body_bytes };
        let with_head = content_bytes.min(WHOLE_BYTES_MAX);
        first.extend_from_slice(&self.filler[..with_head as usize]);
        let (sent, first) = wire.send_buffer(first).await;
        *scratch = first;
        sent?;
        self.send_filler(wire, content_bytes - with_head).await
    }

    async fn send_filler(&self, wire: &mut Wire, mut left: u64) -> io::Result<()> {
        while left > 0 {
            let piece = left.min(FILLER_BYTES as u64);
            wire.send(&self.filler[..piece as usize]).await?;
            left -= piece;
        }
        Ok(())
    }
}

fn head(status: &str, body_bytes: u64, is_last: bool) -> String {
    let mut head = Vec::new();
    write_head(&mut head, status, body_bytes, is_last);
    String::from_utf8(head).expect("written from text")
}

fn write_head(head: &mut Vec<u8>, status: &str, body_bytes: u64, is_last: bool) {
    let close = if is_last { "Connection: close\r\n" } else { "" };
    // A Vec takes everything.
    let _ = io::Write::write_fmt(
        head,
        format_args!(
            "HTTP/1.1 {status}\r\nServer: lateen-bench\r\nContent-Type: text/plain\r\n\
             Content-Length: {body_bytes}\r\n{close}\r\n"
        ),
    );
}
