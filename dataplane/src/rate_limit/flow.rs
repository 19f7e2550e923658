//! The bytes of one message, or of one tunnel, under the limits of their route.
//!
//! Before: the route has limits of bytes. After: whoever moves the bytes asks for a [`Grant`] before each
//! piece, waits until it is due, and drops it when the piece has moved: what did not pass goes back. A body that
//! waits in memory keeps what it was granted until it is sent, and gives it back if it never is. It
//! holds no buffer and waits for nothing itself.

use std::cell::{Cell, RefCell};
use std::net::IpAddr;
use std::rc::Rc;

use lateen_ring::Instant;
use lateen_snapshot::limits::RATE_LIMITS_MAX;
use lateen_snapshot::model::rate_limit::ByteDirection;

use super::{Limiter, Limits};
use crate::decide::lease::keyed::Lender;
use crate::decide::lease::rate::flow::Promise;
use crate::decide::route::RequestView;
use crate::limits;
use crate::observe::metrics::rate_limit::{LimitOutcome, Limited};
use crate::rate_limit::total::Drawn;
use crate::shard::Shard;

/// What limits the bytes of both directions.
#[derive(Debug, Default)]
pub struct Flows {
    /// Those from the client.
    pub up: Option<Flow>,
    /// Those to the client.
    pub down: Option<Flow>,
}

impl Limits {
    /// What limits the bytes of a request and of its response, or of a connection that is not HTTP.
    /// `None`: nothing. Where nothing `has_up` to go, that direction has no limit.
    pub fn flows(
        &self,
        shard: &Rc<Shard>,
        view: Option<&RequestView<'_>>,
        peer: IpAddr,
        has_up: bool,
    ) -> Option<Box<Flows>> {
        if self.bytes.is_empty() {
            return None;
        }
        let flow = |other: ByteDirection| {
            let limits = self.bytes.iter().filter(|(_, direction)| *direction != other);
            let limits = limits.map(|(limiter, _)| (Rc::clone(limiter), limiter.key(view, peer)));
            let (counting, enforced): (Vec<_>, Vec<_>) =
                limits.partition(|(limiter, _)| limiter.spec.dry_run);
            let is_any = !enforced.is_empty() || !counting.is_empty();
            is_any.then(|| Flow {
                shard: Rc::clone(shard),
                enforced,
                counting,
                piece: Cell::new(0),
                has_delayed: Cell::new(false),
                kept: RefCell::default(),
            })
        };
        let up = if has_up { flow(ByteDirection::Response) } else { None };
        let down = flow(ByteDirection::Request);
        (up.is_some() || down.is_some()).then(|| Box::new(Flows { up, down }))
    }
}

/// What limits the bytes of one direction.
#[derive(Debug)]
pub struct Flow {
    shard: Rc<Shard>,
    /// Limits, and what is counted by.
    enforced: Vec<(Rc<Limiter>, u64)>,
    /// Those that only count.
    counting: Vec<(Rc<Limiter>, u64)>,
    /// What passed as the last piece.
    piece: Cell<u64>,
    /// Something had to wait.
    has_delayed: Cell<bool>,
    /// What may pass at once, and goes back if it never does.
    kept: RefCell<Vec<Kept>>,
}

/// Bytes that were waited for, and have not passed. All of them were drawn between the same two changes.
#[derive(Clone, Copy, Debug)]
struct Kept {
    bytes: u64,
    /// So many of them were not there at once.
    delayed: u64,
    drawn: [Drawn; RATE_LIMITS_MAX],
}

/// Who passes on little is not promised much, which others would wait for in vain.
const ASKED_BYTES_LEAST: u64 = 16 * 1024;

/// So many bytes may pass, from a certain time on. What of them has not passed when this is dropped goes
/// back.
#[derive(Debug)]
pub struct Grant<'f> {
    flow: &'f Flow,
    bytes: u64,
    due: Instant,
    /// They are not there at once.
    is_delayed: bool,
    /// From each of the limits.
    drawn: [Drawn; RATE_LIMITS_MAX],
    /// Counts what passes, and from where.
    passed: &'f Cell<u64>,
    passed_before: u64,
}

impl Flow {
    /// Asks all limits for up to `most` bytes, more than 0. What passes is counted in `passed`.
    pub fn ask<'f>(&'f self, most: u64, passed: &'f Cell<u64>) -> Grant<'f> {
        let now_ns = lateen_ring::now().as_nanos();
        let mut drawn = [Drawn::default(); RATE_LIMITS_MAX];
        let likely = (2 * self.piece.get()).max(ASKED_BYTES_LEAST);
        let (mut bytes, mut due_ns) = (most.min(likely).min(limits::FLOW_PIECE_BYTES_MAX), now_ns);
        for (index, (limiter, key)) in self.enforced.iter().enumerate() {
            let promise;
            (promise, drawn[index]) = limiter.draw(*key, bytes, &self.shard, now_ns);
            for ((earlier, key), drawn) in self.enforced[..index].iter().zip(drawn) {
                earlier.put_back(*key, bytes - promise.bytes, drawn, now_ns);
            }
            bytes = promise.bytes;
            due_ns = due_ns.max(promise.due_ns);
        }
        Grant {
            flow: self,
            bytes,
            due: Instant::from_nanos(due_ns),
            is_delayed: due_ns > now_ns,
            drawn,
            passed,
            passed_before: passed.get(),
        }
    }

    /// Bytes wait for their turn.
    pub fn note_delay(&self) {
        self.has_delayed.set(true);
        self.shard.metrics().rate_limit.delays.increment();
    }

    /// Whether any have waited.
    pub fn has_delayed(&self) -> bool {
        self.has_delayed.get()
    }

    /// What was kept passes now, if anything was.
    pub fn pass_kept(&self) {
        for kept in self.kept.take() {
            let now_ns = lateen_ring::now().as_nanos();
            self.note_passed(kept.delayed, true, now_ns);
            self.note_passed(kept.bytes - kept.delayed, false, now_ns);
        }
    }

    fn put_back(&self, bytes: u64, drawn: &[Drawn; RATE_LIMITS_MAX], now_ns: u64) {
        for ((limiter, key), drawn) in self.enforced.iter().zip(drawn) {
            limiter.put_back(*key, bytes, *drawn, now_ns);
        }
    }

    fn note_passed(&self, bytes: u64, is_delayed: bool, now_ns: u64) {
        let metrics = &self.shard.metrics().rate_limit;
        let outcome = if is_delayed { LimitOutcome::Limited } else { LimitOutcome::Admitted };
        metrics.decided(Limited::Byte, outcome).add(bytes);
        for (limiter, key) in &self.counting {
            let there = limiter.total.take(limiter.asking(*key), bytes, now_ns);
            metrics.decided(Limited::Byte, LimitOutcome::DryRun).add(bytes - there);
        }
    }
}

impl Drop for Flow {
    fn drop(&mut self) {
        for kept in self.kept.take() {
            self.put_back(kept.bytes, &kept.drawn, lateen_ring::now().as_nanos());
        }
    }
}

impl Grant<'_> {
    /// They are due, but it is not certain yet that they pass: [`Flow::pass_kept`] says that they do.
    pub fn keep(self) {
        let Self { flow, bytes, drawn, .. } = self;
        let delayed = if self.is_delayed { bytes } else { 0 };
        // Nothing of it is to go back.
        std::mem::forget(self);
        flow.piece.set(bytes);
        let mut all = flow.kept.borrow_mut();
        let changes = |drawn: [Drawn; RATE_LIMITS_MAX]| drawn.map(|drawn| drawn.changes);
        match all.last_mut().filter(|last| changes(last.drawn) == changes(drawn)) {
            Some(last) => {
                last.bytes += bytes;
                last.delayed += delayed;
                // Later than any before.
                last.drawn = drawn;
            }
            None => all.push(Kept { bytes, delayed, drawn }),
        }
    }

    /// How many.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// From when on.
    pub fn due(&self) -> Instant {
        self.due
    }

    /// Whether the limits are others by now, so that asking again may be answered otherwise.
    pub fn is_outdated(&self) -> bool {
        let mut limits = self.flow.enforced.iter().zip(&self.drawn);
        limits.any(|((limiter, _), drawn)| limiter.total.changes() != drawn.changes)
    }
}

impl Drop for Grant<'_> {
    fn drop(&mut self) {
        let now_ns = lateen_ring::now().as_nanos();
        let passed = self.passed.get() - self.passed_before;
        debug_assert!(passed <= self.bytes, "{passed} bytes passed of {}", self.bytes);
        self.flow.piece.set(passed);
        if passed > 0 {
            self.flow.note_passed(passed, self.is_delayed, now_ns);
        }
        self.flow.put_back(self.bytes.saturating_sub(passed), &self.drawn, now_ns);
    }
}

impl Limiter {
    /// Up to `most` bytes: of what this worker was lent, else of what the process has.
    fn draw(&self, key: u64, most: u64, shard: &Shard, now_ns: u64) -> (Promise, Drawn) {
        let size = self.byte_lease_size;
        self.with_lease(key, now_ns, |lease| {
            let bytes = lease.take(most.min(self.slice_bytes), now_ns);
            if bytes > 0 {
                let drawn = Drawn { changes: self.total.changes(), due_ns: now_ns };
                return (Promise { bytes, due_ns: now_ns }, drawn);
            }
            let (promise, lender, drawn) =
                self.total.draw(self.asking(key), lease, most, size, now_ns);
            if lender == Lender::Overflow {
                shard.metrics().rate_limit.overflow.increment();
            }
            (promise, drawn)
        })
    }

    fn put_back(&self, key: u64, bytes: u64, drawn: Drawn, now_ns: u64) {
        if bytes == 0 {
            return;
        }
        let may_keep = drawn.changes == self.total.changes();
        if !(may_keep && self.with_lease(key, now_ns, |lease| lease.keep(bytes, now_ns))) {
            self.total.put_back(self.asking(key), bytes, drawn, now_ns);
        }
    }
}

#[cfg(test)]
mod tests;
