//! One connection's life: take a turn, be connected, send, await the answer, count it.
//!
//! The hot path is [`exchange`]: one send and one receive, no allocation.

use std::cell::RefCell;
use std::io;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::answer::HeadReader;
use super::connect::connect;
use super::plan::{Amount, Exchange, Plan};
use super::schedule::{Schedule, Turn};
use super::tally::{Answer, Fault, Tally};
use super::watch::{Watch, Watched};
use crate::clock::{Clock, as_ns, now_ns};
use crate::framing::{Body, Malformed};
use crate::wire::Wire;

/// A buffer's first size; it grows for those who fill it.
const RECEIVE_BYTES: usize = 8 * 1024;
const RECEIVE_BYTES_MAX: usize = 256 * 1024;

/// Of a message that is echoed, at most so much is under way that has not come back: both sides'
/// socket buffers hold it, so neither waits for the other.
const ECHO_BYTES_AHEAD: usize = 64 * 1024;

/// Waits after connections that failed in a row: doubled from the first to the last.
const BACKOFF_FIRST_NS: u64 = 5_000_000;
const BACKOFF_LAST_NS: u64 = 640_000_000;

/// A connection that wasn't used for so long is looked at before it is used.
const LOOK_AFTER_NS: u64 = 500_000_000;

/// What the connections of one thread share.
pub(crate) struct Shared {
    pub(crate) plan: Plan,
    pub(crate) clock: Clock,
    pub(crate) watch: Watch,
    pub(crate) schedule: RefCell<Schedule>,
    pub(crate) tally: RefCell<Tally>,
    /// Right answers so far, for whoever shows progress; this thread alone writes it.
    pub(crate) progress: std::sync::Arc<AtomicU64>,
}

pub(crate) struct Connection {
    shared: Rc<Shared>,
    watched: Rc<Watched>,
    wire: Option<Wire>,
    heads: HeadReader,
    /// Lent to the kernel while something is received.
    buffer: Vec<u8>,
    /// Counts the connects, so that each has another source.
    connects: u64,
    failed_in_row: u32,
    last_used_ns: u64,
}

/// How a request ended, other than with a whole answer.
type Failed = (Fault, String);

impl Connection {
    /// The connection number `number` of the load; numbers choose sources.
    pub(crate) fn new(shared: Rc<Shared>, number: u64) -> Self {
        let method = match &shared.plan.exchange {
            Exchange::Http { method, .. } => method.as_str(),
            Exchange::Tcp { .. } => "",
        };
        let heads = HeadReader::new(method);
        let watched = shared.watch.add();
        Self {
            shared,
            watched,
            wire: None,
            heads,
            buffer: Vec::with_capacity(RECEIVE_BYTES),
            connects: number,
            failed_in_row: 0,
            last_used_ns: 0,
        }
    }

    /// Connects, if connections are kept, and makes a request that doesn't count if only numbers of
    /// them were asked for. Without success the first turn tries again.
    pub(crate) async fn stand(&mut self) {
        let shared = self.shared.clone();
        if !shared.plan.keep_alive {
            return;
        }
        let now = now_ns();
        let turn = Turn { due_ns: now, measured: false };
        let stands = match shared.plan.amount {
            Amount::Requests(_) if shared.plan.warmup.is_zero() => {
                self.turn(turn, now, false).await
            }
            _ => self.open(turn, now).await,
        };
        self.watched.idle();
        self.last_used_ns = match stands {
            Ok(now) => now,
            Err((fault, reason)) => self.fail(turn, fault, &reason).await,
        };
    }

    /// Works until the schedule has no turn left.
    pub(crate) async fn work(&mut self) {
        let shared = self.shared.clone();
        let is_open_loop = shared.plan.rate_per_s.is_some();
        let mut now = now_ns();
        loop {
            let Some(turn) = shared.schedule.borrow_mut().take(now) else { break };
            if turn.due_ns > now {
                shared.clock.sleep_until(turn.due_ns).await;
                now = now_ns();
            }
            now = match self.turn(turn, now, is_open_loop).await {
                Ok(now) => now,
                Err((fault, reason)) => self.fail(turn, fault, &reason).await,
            };
        }
    }

    /// One request; when it was over.
    #[inline]
    async fn turn(&mut self, turn: Turn, now: u64, is_open_loop: bool) -> Result<u64, Failed> {
        let mut now = now;
        if now.saturating_sub(self.last_used_ns) > LOOK_AFTER_NS {
            self.close_if_ended();
        }
        if self.wire.is_none() {
            now = self.open(turn, now).await?;
        }
        if is_open_loop && turn.measured {
            self.shared.tally.borrow_mut().sent_late(now.saturating_sub(turn.due_ns));
        }
        self.watched.wait_until(now + self.timeout_ns());
        let from_ns = if is_open_loop { turn.due_ns } else { now };
        let (answer, keeps_alive) = self.exchange().await?;
        self.watched.idle();
        let now = now_ns();
        self.last_used_ns = now;
        if turn.measured {
            self.count(answer, now.saturating_sub(from_ns), now);
        }
        // The watch may have shut it down in the moment in which the answer came.
        if !keeps_alive || !self.shared.plan.keep_alive || self.watched.has_expired() {
            self.close();
        }
        Ok(now)
    }

    #[inline]
    fn count(&self, answer: Answer, latency_ns: u64, now: u64) {
        let in_time = self.shared.schedule.borrow().is_in_time(now);
        let mut tally = self.shared.tally.borrow_mut();
        let (sent_bytes, is_right) = match &self.shared.plan.exchange {
            Exchange::Http { request, expected, .. } => {
                (request.len(), tally.answered(answer, expected, in_time))
            }
            Exchange::Tcp { message, .. } => {
                tally.right(in_time);
                (message.len(), true)
            }
        };
        if !is_right {
            tally.took_in_vain(latency_ns);
        }
        tally.took(latency_ns, now, sent_bytes as u64, answer);
        self.shared.progress.store(tally.requests, Ordering::Relaxed);
    }

    /// Connects; when that was done.
    async fn open(&mut self, turn: Turn, now: u64) -> Result<u64, Failed> {
        let shared = self.shared.clone();
        let plan = &shared.plan;
        // The first connections of a load that keeps them come from where they would anyway.
        let is_churn = !plan.keep_alive || self.last_used_ns != 0;
        let source = (plan.spreads_sources && is_churn).then_some(self.connects);
        self.connects += u64::from(plan.connections);
        self.watched.wait_until(now + self.timeout_ns());
        self.wire = Some(connect(plan, &shared.watch, &self.watched, source).await?);
        let connected = now_ns();
        if turn.measured {
            shared.tally.borrow_mut().connected(connected.saturating_sub(now));
        }
        self.failed_in_row = 0;
        Ok(connected)
    }

    /// Counts a failure, closes, and waits a little if connecting is what failed.
    #[cold]
    async fn fail(&mut self, turn: Turn, fault: Fault, reason: &str) -> u64 {
        let mut now = now_ns();
        if turn.measured {
            self.shared.tally.borrow_mut().failed(fault, now, reason);
        }
        self.close();
        if matches!(fault, Fault::Connect | Fault::ConnectTimeout | Fault::Tls) {
            let wait_ns = BACKOFF_FIRST_NS << self.failed_in_row.min(16);
            self.failed_in_row += 1;
            self.shared.clock.sleep_until(now + wait_ns.min(BACKOFF_LAST_NS)).await;
            now = now_ns();
        }
        now
    }

    /// Sends the request and reads the answer; whether the connection may be used again.
    #[inline]
    async fn exchange(&mut self) -> Result<(Answer, bool), Failed> {
        let shared = self.shared.clone();
        match &shared.plan.exchange {
            Exchange::Http { request, .. } => self.exchange_http(request).await,
            Exchange::Tcp { message, answer_bytes } => {
                self.exchange_messages(message, *answer_bytes).await
            }
        }
    }

    #[inline]
    async fn exchange_http(&mut self, request: &'static [u8]) -> Result<(Answer, bool), Failed> {
        let sent = self.wire_mut()?.send(request).await;
        // A server may answer before it has read a body, and break off: what it said still counts.
        self.buffer.clear();
        let mut bytes = 0;
        let mut body_bytes = 0;
        let head = loop {
            let received = self.receive().await;
            match (received, &sent) {
                (Ok(0), Err(error)) => return Err(self.fault(error)),
                (Err(_), Err(error)) => return Err(self.fault(error)),
                (Ok(0), _) => return Err(self.ended()),
                (Err(error), _) => return Err(self.fault(&error)),
                (Ok(received), _) => bytes += received as u64,
            }
            if let Some(head) = self.heads.read(&self.buffer).map_err(malformed)? {
                break head;
            }
        };
        let mut body = Body::new(head.framing);
        let mut at = head.bytes;
        loop {
            let taken = body.take(&self.buffer[at..]).map_err(malformed)?;
            at += taken.bytes;
            body_bytes += taken.content as u64;
            if taken.done {
                break;
            }
            self.buffer.clear();
            at = 0;
            match self.receive().await {
                Ok(0) if body == Body::UntilClose => break,
                Ok(0) => return Err(self.ended()),
                Ok(received) => bytes += received as u64,
                Err(error) => return Err(self.fault(&error)),
            }
        }
        if at < self.buffer.len() {
            return Err((Fault::Protocol, "bytes after the end of the answer".to_owned()));
        }
        let answer = Answer { status: head.status, body_bytes, bytes };
        Ok((answer, head.keeps_alive && sent.is_ok()))
    }

    async fn exchange_messages(
        &mut self,
        message: &'static [u8],
        answer_bytes: u64,
    ) -> Result<(Answer, bool), Failed> {
        let is_echo = answer_bytes == message.len() as u64;
        let piece_bytes = if is_echo { ECHO_BYTES_AHEAD } else { message.len().max(1) };
        let mut received = 0;
        let mut sent = 0;
        for piece in message.chunks(piece_bytes) {
            if let Err(error) = self.wire_mut()?.send(piece).await {
                return Err(self.fault(&error));
            }
            sent += piece.len() as u64;
            if is_echo {
                let ahead = sent.saturating_sub(ECHO_BYTES_AHEAD as u64);
                self.receive_until(&mut received, ahead, answer_bytes).await?;
            }
        }
        self.receive_until(&mut received, answer_bytes, answer_bytes).await?;
        Ok((Answer { status: 0, body_bytes: received, bytes: received }, true))
    }

    async fn receive_until(
        &mut self,
        received: &mut u64,
        until: u64,
        all: u64,
    ) -> Result<(), Failed> {
        while *received < until {
            self.buffer.clear();
            match self.receive().await {
                Ok(0) => return Err(self.ended()),
                Ok(bytes) => *received += bytes as u64,
                Err(error) => return Err(self.fault(&error)),
            }
        }
        if *received > all {
            return Err((Fault::Protocol, "bytes after the end of the answer".to_owned()));
        }
        Ok(())
    }

    /// Appends what arrives to the buffer, which grows if it was filled to the brim.
    #[inline]
    async fn receive(&mut self) -> io::Result<usize> {
        if self.buffer.len() == self.buffer.capacity() {
            self.buffer.reserve(self.buffer.len());
        }
        let Some(wire) = &mut self.wire else { return Ok(0) };
        let (received, buffer) = wire.receive(std::mem::take(&mut self.buffer)).await;
        self.buffer = buffer;
        let capacity = self.buffer.capacity();
        if self.buffer.len() == capacity && capacity < RECEIVE_BYTES_MAX {
            self.buffer.reserve(capacity);
        }
        received
    }

    fn wire_mut(&mut self) -> Result<&mut Wire, Failed> {
        self.wire.as_mut().ok_or_else(|| (Fault::Connect, "no connection".to_owned()))
    }

    #[cold]
    fn ended(&self) -> Failed {
        if self.watched.has_expired() {
            return (Fault::Timeout, "no answer in time".to_owned());
        }
        (Fault::ClosedEarly, "the peer closed before the end of the answer".to_owned())
    }

    #[cold]
    fn fault(&self, error: &io::Error) -> Failed {
        let fault = match error.kind() {
            _ if self.watched.has_expired() => Fault::Timeout,
            io::ErrorKind::InvalidData => Fault::Tls,
            io::ErrorKind::UnexpectedEof => Fault::ClosedEarly,
            _ => Fault::Reset,
        };
        (fault, error.to_string())
    }

    /// Closes a connection that the server has ended while nobody used it.
    fn close_if_ended(&mut self) {
        if self.wire.is_some() && self.shared.watch.has_ended(&self.watched) {
            self.close();
        }
    }

    pub(crate) fn close(&mut self) {
        self.watched.closing();
        self.wire = None;
    }

    fn timeout_ns(&self) -> u64 {
        as_ns(self.shared.plan.timeout)
    }
}

fn malformed(Malformed(what): Malformed) -> Failed {
    (Fault::Protocol, what.to_owned())
}
