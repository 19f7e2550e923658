//! One connection of the upstream: read a request to its end, answer it, again.

use std::cell::RefCell;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use monoio::net::TcpStream;
use rustls::{ServerConfig, ServerConnection};

use super::arguments::Protocol;
use super::misbehaviour::{Chance, Misbehaviour};
use super::reply::{BAD_REQUEST, CONTINUE, Choice, Replies};
use super::request::{Head, HeadReader};
use super::slots::Slots;
use crate::clock::{Clock, now_ns};
use crate::framing::Body;
use crate::wire::Wire;

/// A buffer's first size; it grows for those who fill it.
const RECEIVE_BYTES: usize = 4 * 1024;
const RECEIVE_BYTES_MAX: usize = 256 * 1024;

/// What the connections of one thread share.
pub(crate) struct Shared {
    pub(crate) clock: Clock,
    pub(crate) protocol: Protocol,
    pub(crate) replies: Replies,
    pub(crate) misbehaviour: Misbehaviour,
    pub(crate) chance: RefCell<Chance>,
    /// Of the whole process.
    pub(crate) slots: Option<Arc<Slots>>,
    pub(crate) close_every: Option<u64>,
    pub(crate) tls: Option<Arc<ServerConfig>>,
    pub(crate) counts: Arc<Counts>,
}

/// What one thread has done; it alone writes, so no count needs more than a load and a store.
#[derive(Default)]
pub(crate) struct Counts {
    pub(crate) connections: AtomicU64,
    /// Answered requests, or echoed pieces.
    pub(crate) answers: AtomicU64,
}

impl Counts {
    pub(crate) fn one_more(count: &AtomicU64) {
        count.store(count.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
    }
}

/// Serves until either side is done. That a client goes is no error.
pub(crate) async fn serve(shared: Rc<Shared>, stream: TcpStream) {
    Counts::one_more(&shared.counts.connections);
    let wire = match &shared.tls {
        None => Ok(Wire::plain(stream)),
        Some(config) => match ServerConnection::new(config.clone()) {
            Ok(session) => Wire::handshake(stream, session.into()).await,
            Err(error) => Err(io::Error::other(error)),
        },
    };
    let Ok(wire) = wire else { return };
    let mut connection = Connection {
        shared,
        wire,
        heads: HeadReader::new(),
        buffer: Vec::with_capacity(RECEIVE_BYTES),
        scratch: Vec::new(),
        answered: 0,
    };
    // The client is gone: nobody to tell.
    let _ = match connection.shared.protocol {
        Protocol::Http => connection.answer_requests().await,
        Protocol::Echo => connection.echo().await,
        Protocol::Discard => connection.discard().await,
    };
}

struct Connection {
    shared: Rc<Shared>,
    wire: Wire,
    heads: HeadReader,
    /// What was received and not yet read.
    buffer: Vec<u8>,
    scratch: Vec<u8>,
    answered: u64,
}

impl Connection {
    async fn answer_requests(&mut self) -> io::Result<()> {
        let shared = self.shared.clone();
        let is_quick = shared.misbehaviour.is_none();
        while let Some(head) = self.read_request().await? {
            let fails = !is_quick && self.misbehave().await;
            self.answered += 1;
            let is_full = shared.close_every.is_some_and(|every| self.answered >= every);
            let choice = Choice {
                wanted: head.wanted,
                fails,
                is_head: head.is_head,
                is_last: !head.keeps_alive || is_full,
            };
            Counts::one_more(&shared.counts.answers);
            if !shared.replies.send(&mut self.wire, &mut self.scratch, choice).await? {
                // All that came was read: the close that follows says the same as an end would.
                return if self.buffer.is_empty() {
                    self.wire.notify_end().await
                } else {
                    self.linger().await
                };
            }
        }
        Ok(())
    }

    /// Waits as long as was asked for; whether the answer is to be an error.
    async fn misbehave(&mut self) -> bool {
        let shared = &self.shared;
        let hold_from =
            |ns: u64| shared.misbehaviour.hold_until(ns, &mut shared.chance.borrow_mut());
        let held = match &shared.slots {
            None => hold_from(now_ns()),
            Some(slots) => {
                Some(slots.take(now_ns, |begin_ns| hold_from(begin_ns).unwrap_or(begin_ns)))
            }
        };
        if let Some(until_ns) = held {
            shared.clock.sleep_until(until_ns).await;
        }
        shared.misbehaviour.fails(&mut shared.chance.borrow_mut())
    }

    /// Reads a request with its body; nothing if the client has no more.
    #[inline]
    async fn read_request(&mut self) -> io::Result<Option<Head>> {
        let head = loop {
            if !self.buffer.is_empty() {
                match self.heads.read(&self.buffer) {
                    Ok(Some(head)) => break head,
                    Ok(None) => {}
                    Err(_) => {
                        self.wire.send(BAD_REQUEST).await?;
                        self.linger().await?;
                        return Ok(None);
                    }
                }
            }
            if self.receive().await? == 0 {
                return Ok(None);
            }
        };
        if head.expects_continue && self.buffer.len() == head.bytes {
            self.wire.send(CONTINUE).await?;
        }
        let mut body = Body::new(head.framing);
        let mut at = head.bytes;
        loop {
            let Ok(taken) = body.take(&self.buffer[at..]) else {
                self.wire.send(BAD_REQUEST).await?;
                self.linger().await?;
                return Ok(None);
            };
            at += taken.bytes;
            if taken.done {
                break;
            }
            self.buffer.clear();
            at = 0;
            if self.receive().await? == 0 {
                return Ok(None);
            }
        }
        if at == self.buffer.len() {
            self.buffer.clear();
        } else {
            // The next request of a client that doesn't wait.
            self.buffer.drain(..at);
        }
        Ok(Some(head))
    }

    async fn echo(&mut self) -> io::Result<()> {
        while self.receive().await? > 0 {
            if !self.shared.misbehaviour.is_none() {
                self.misbehave().await;
            }
            Counts::one_more(&self.shared.counts.answers);
            let (sent, buffer) = self.wire.send_buffer(std::mem::take(&mut self.buffer)).await;
            self.buffer = buffer;
            self.buffer.clear();
            sent?;
        }
        Ok(())
    }

    async fn discard(&mut self) -> io::Result<()> {
        while self.receive().await? > 0 {
            Counts::one_more(&self.shared.counts.answers);
            self.buffer.clear();
        }
        Ok(())
    }

    /// Ends our side. What the client still sends is read for as long as it keeps its side, as a
    /// close on unread bytes would be a reset, and take the answer with it (RFC 9112, 9.6).
    async fn linger(&mut self) -> io::Result<()> {
        self.wire.end().await?;
        loop {
            self.buffer.clear();
            if self.receive().await? == 0 {
                return Ok(());
            }
        }
    }

    /// Appends what arrives to the buffer, which grows if it was filled to the brim.
    #[inline]
    async fn receive(&mut self) -> io::Result<usize> {
        if self.buffer.len() == self.buffer.capacity() {
            self.buffer.reserve(self.buffer.len());
        }
        let (received, buffer) = self.wire.receive(std::mem::take(&mut self.buffer)).await;
        self.buffer = buffer;
        let capacity = self.buffer.capacity();
        if self.buffer.len() == capacity && capacity < RECEIVE_BYTES_MAX {
            self.buffer.reserve(capacity);
        }
        received
    }
}
