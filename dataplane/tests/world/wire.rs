//! What clients and upstreams of a world share: reading HTTP from a stream, byte by byte where it
//! matters, and signals between a world's tasks. Shares no code with the proxy's codec.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Poll, Waker};
use std::time::Duration;

use lateen_ring::{Deadline, Stream};

use crate::pattern::{self, Lane};

/// A number that only grows, and a task that waits for it.
#[derive(Default)]
pub(crate) struct Signal {
    value: Cell<usize>,
    wakers: RefCell<Vec<Waker>>,
}

impl Signal {
    pub(crate) fn raise(&self, value: usize) {
        self.value.set(self.value.get().max(value));
        for waker in self.wakers.take() {
            waker.wake();
        }
    }

    pub(crate) fn value(&self) -> usize {
        self.value.get()
    }

    pub(crate) async fn at_least(&self, value: usize) {
        poll_fn(|cx| {
            if self.value.get() >= value {
                return Poll::Ready(());
            }
            self.wakers.borrow_mut().push(cx.waker().clone());
            Poll::Pending
        })
        .await;
    }
}

/// How reading came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    Fin,
    Reset,
    /// Nothing came for as long as anything may take.
    Stuck,
    /// The reader was told to give up.
    Gone,
}

/// The unread bytes of a stream.
pub(crate) struct Inbox {
    pub(crate) stream: Rc<Stream>,
    /// Raised to 1 by whoever closes the stream's other user.
    pub(crate) gone: Rc<Signal>,
    deadline: Deadline,
    patience: Duration,
    /// Waited before each read.
    pub(crate) pace: Duration,
    bytes: Vec<u8>,
    used: usize,
    /// All bytes that came.
    pub(crate) total: u64,
}

/// A head and its fields.
#[derive(Debug)]
pub(crate) struct Head {
    pub(crate) text: String,
}

impl Head {
    pub(crate) fn first_line(&self) -> &str {
        self.text.split("\r\n").next().unwrap_or("")
    }

    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        self.fields().find(|(own, _)| own.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    pub(crate) fn fields(&self) -> impl Iterator<Item = (&str, &str)> {
        self.text.split("\r\n").skip(1).filter_map(|line| line.split_once(": "))
    }

    pub(crate) fn count(&self, name: &str) -> usize {
        self.fields().filter(|(own, _)| own.eq_ignore_ascii_case(name)).count()
    }
}

/// How a body is delimited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Delimited {
    Length(usize),
    Chunked,
    Close,
}

/// Why a message did not come whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Bad {
    Ended(Ended),
    /// Bytes that must not come.
    Wrong(String),
}

impl From<Ended> for Bad {
    fn from(ended: Ended) -> Self {
        Self::Ended(ended)
    }
}

impl Inbox {
    pub(crate) fn new(stream: Rc<Stream>, patience: Duration) -> Self {
        Self {
            stream,
            gone: Rc::default(),
            deadline: Deadline::new(),
            patience,
            pace: Duration::ZERO,
            bytes: Vec::new(),
            used: 0,
            total: 0,
        }
    }

    pub(crate) fn unread(&self) -> &[u8] {
        &self.bytes[self.used..]
    }

    pub(crate) fn consume(&mut self, count: usize) {
        self.used += count;
        if self.used == self.bytes.len() {
            self.bytes.clear();
            self.used = 0;
        }
    }

    /// Waits for more bytes.
    pub(crate) async fn more(&mut self) -> Result<(), Ended> {
        if !self.pace.is_zero() {
            lateen_ring::sleep(self.pace).await;
        }
        self.deadline.set_after(self.patience);
        let (stream, gone, deadline) = (&self.stream, &self.gone, &self.deadline);
        let mut waiting = std::pin::pin!(gone.at_least(1));
        let lease = poll_fn(|cx| {
            if waiting.as_mut().poll(cx).is_ready() {
                return Poll::Ready(Err(Ended::Gone));
            }
            match stream.poll_recv(cx) {
                Poll::Ready(Ok(Some(lease))) => return Poll::Ready(Ok(lease)),
                Poll::Ready(Ok(None)) => return Poll::Ready(Err(Ended::Fin)),
                Poll::Ready(Err(_)) => return Poll::Ready(Err(Ended::Reset)),
                Poll::Pending => {}
            }
            deadline.poll_past(cx).map(|()| Err(Ended::Stuck))
        })
        .await?;
        self.total += lease.len() as u64;
        self.bytes.extend_from_slice(&lease);
        Ok(())
    }

    /// Reads up to and with the empty line.
    pub(crate) async fn head(&mut self) -> Result<Head, Bad> {
        let mut seen = 0;
        loop {
            let unread = self.unread();
            let from = seen.max(3) - 3;
            if let Some(at) = unread[from..].windows(4).position(|four| four == b"\r\n\r\n") {
                let end = from + at + 4;
                let text = match std::str::from_utf8(&unread[..end - 4]) {
                    Ok(text) => text.to_owned(),
                    Err(_) => {
                        let text = unread[..end.min(200)].escape_ascii();
                        return Err(Bad::Wrong(format!("a head that is no text: {text}")));
                    }
                };
                self.consume(end);
                return Ok(Head { text });
            }
            seen = unread.len();
            if seen > 200_000 {
                return Err(Bad::Wrong("a head without end".to_owned()));
            }
            self.more().await?;
        }
    }

    async fn line(&mut self) -> Result<String, Bad> {
        loop {
            if let Some(at) = self.unread().iter().position(|&byte| byte == b'\n') {
                let line = String::from_utf8_lossy(&self.unread()[..at]).into_owned();
                self.consume(at + 1);
                return line
                    .strip_suffix('\r')
                    .map(str::to_owned)
                    .ok_or(Bad::Wrong("a line that ends in a bare LF".to_owned()));
            }
            self.more().await?;
        }
    }

    /// Reads a body and checks every byte; adds its size to `count` as it comes.
    pub(crate) async fn body(
        &mut self,
        delimited: Delimited,
        id: usize,
        lane: Lane,
        count: &mut usize,
    ) -> Result<(), Bad> {
        match delimited {
            Delimited::Length(length) => self.part(length, id, lane, count).await,
            Delimited::Close => loop {
                self.check(usize::MAX, id, lane, count)?;
                match self.more().await {
                    Ok(()) => {}
                    Err(Ended::Fin) => return Ok(()),
                    Err(ended) => return Err(ended.into()),
                }
            },
            Delimited::Chunked => loop {
                let line = self.line().await?;
                let size = usize::from_str_radix(&line, 16)
                    .map_err(|_| Bad::Wrong(format!("the chunk size {line:?}")))?;
                if size == 0 {
                    while !self.line().await?.is_empty() {}
                    return Ok(());
                }
                self.part(size, id, lane, count).await?;
                let line = self.line().await?;
                if !line.is_empty() {
                    return Err(Bad::Wrong(format!("{line:?} after a chunk")));
                }
            },
        }
    }

    async fn part(
        &mut self,
        mut left: usize,
        id: usize,
        lane: Lane,
        count: &mut usize,
    ) -> Result<(), Bad> {
        loop {
            left -= self.check(left, id, lane, count)?;
            if left == 0 {
                return Ok(());
            }
            self.more().await?;
        }
    }

    fn check(
        &mut self,
        most: usize,
        id: usize,
        lane: Lane,
        count: &mut usize,
    ) -> Result<usize, Bad> {
        let here = self.unread().len().min(most);
        if !pattern::matches(&self.unread()[..here], id, lane, *count) {
            return Err(Bad::Wrong(format!("foreign bytes in {here} at {count} of {lane:?} {id}")));
        }
        self.consume(here);
        *count += here;
        Ok(here)
    }
}

/// A chunked encoding of a body, in chunks of these sizes in turn.
pub(crate) fn encode_chunked(
    out: &mut Vec<u8>,
    id: usize,
    lane: Lane,
    length: usize,
    sizes: &[usize],
) {
    let mut offset = 0;
    let mut sizes = sizes.iter().cycle();
    while offset < length {
        let size = sizes.next().map_or(length, |size| *size).clamp(1, length - offset);
        out.extend_from_slice(format!("{size:x}\r\n").as_bytes());
        pattern::append(out, id, lane, offset, size);
        out.extend_from_slice(b"\r\n");
        offset += size;
    }
    out.extend_from_slice(b"0\r\n\r\n");
}
