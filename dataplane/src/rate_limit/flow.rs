//! The bytes of one message, or of one tunnel, under the limits of their route.
//!
//! Before: the route has limits of bytes. After: whoever moves the bytes asks for a [`Grant`] before each
//! piece, waits until it is due, and drops it when the piece has moved: what did not pass goes back. A body that
//! waits in memory keeps what it was granted until it is sent, and gives it back if it never is. It
//! holds no buffer and waits for nothing itself.

use std::cell::{Cell, RefCell};
use std::ops::Range;
use std::rc::Rc;

use lateen_ring::Instant;
use lateen_snapshot::limits::RATE_LIMITS_MAX;

use super::{Limiter, Limits};
use crate::decide::lease::keyed::Lender;
use crate::decide::lease::rate::Lease;
use crate::decide::lease::rate::flow::Promise;
use crate::decide::limit_key::Peer;
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
        peer: Peer<'_>,
        has_up: bool,
    ) -> Option<Flows> {
        let up = self.up.as_ref().filter(|_| has_up);
        if up.is_none() && self.down.is_none() {
            return None;
        }
        let flow = |limits: &Rc<FlowLimits>| Flow {
            shard: Rc::clone(shard),
            limits: Rc::clone(limits),
            keys: limits.is_keyed.then(|| limits.keys(view, peer)),
            piece: Cell::new(0),
            has_delayed: Cell::new(false),
            kept: RefCell::default(),
        };
        Some(Flows { up: up.map(flow), down: self.down.as_ref().map(flow) })
    }
}

/// The limits of the bytes of one direction.
#[derive(Debug)]
pub(super) struct FlowLimits {
    /// [`RATE_LIMITS_MAX`] at the most; first those that decide, then those that only count.
    limiters: Box<[Rc<Limiter>]>,
    /// So many decide.
    enforced: usize,
    /// One of them counts by a key.
    is_keyed: bool,
}

type Keys = [u64; RATE_LIMITS_MAX];

impl FlowLimits {
    /// Of these; `None`: there are none.
    pub(super) fn of(limiters: impl Iterator<Item = Rc<Limiter>>) -> Option<Rc<Self>> {
        let (mut all, counting): (Vec<_>, Vec<_>) =
            limiters.partition(|limiter| !limiter.spec.dry_run);
        let enforced = all.len();
        all.extend(counting);
        let is_keyed = all.iter().any(|limiter| limiter.spec.key.is_some());
        (!all.is_empty()).then(|| Rc::new(Self { limiters: all.into(), enforced, is_keyed }))
    }

    /// What each of them counts a message by.
    #[cold]
    fn keys(&self, view: Option<&RequestView<'_>>, peer: Peer<'_>) -> Box<Keys> {
        let mut keys = Box::new([0; RATE_LIMITS_MAX]);
        for (key, limiter) in keys.iter_mut().zip(&self.limiters) {
            *key = limiter.key(view, peer);
        }
        keys
    }
}

/// What limits the bytes of one direction of one message, or of one tunnel.
#[derive(Debug)]
pub struct Flow {
    shard: Rc<Shard>,
    limits: Rc<FlowLimits>,
    /// What each of them counts by; `None`: all together.
    keys: Option<Box<Keys>>,
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
    taken: Taken,
    /// Counts what passes, and from where.
    passed: &'f Cell<u64>,
    passed_before: u64,
}

/// Where granted bytes are from.
#[derive(Debug)]
enum Taken {
    /// All of what this worker was lent, when the limits had become others so often, all together.
    Lent { changes: u32 },
    /// From each of the limits.
    Drawn(Box<[Drawn; RATE_LIMITS_MAX]>),
}

impl Flow {
    /// Asks all limits for up to `most` bytes, more than 0. What passes is counted in `passed`.
    pub fn ask<'f>(&'f self, most: u64, passed: &'f Cell<u64>) -> Grant<'f> {
        let now_ns = lateen_ring::now().as_nanos();
        let likely = (2 * self.piece.get()).max(ASKED_BYTES_LEAST);
        let most = most.min(likely).min(limits::FLOW_PIECE_BYTES_MAX);
        let (bytes, due_ns, taken) = if self.has_lent(most, now_ns) {
            self.take_lent(most, now_ns);
            (most, now_ns, Taken::Lent { changes: self.changes() })
        } else {
            let (bytes, due_ns, drawn) = self.draw(most, now_ns);
            (bytes, due_ns, Taken::Drawn(drawn))
        };
        Grant {
            flow: self,
            bytes,
            due: Instant::from_nanos(due_ns),
            is_delayed: due_ns > now_ns,
            taken,
            passed,
            passed_before: passed.get(),
        }
    }

    /// How often the limits became others, all together.
    fn changes(&self) -> u32 {
        self.enforced().fold(0, |sum, (limiter, _)| sum.wrapping_add(limiter.total.changes()))
    }

    /// Whether so many may pass as one, all of what this worker was lent: as most messages may.
    #[inline]
    pub fn has_lent(&self, bytes: u64, now_ns: u64) -> bool {
        for index in 0..self.limits.enforced {
            let (limiter, key) = self.one(index);
            if !limiter.has(key, bytes, now_ns) {
                return false;
            }
        }
        true
    }

    /// So many pass, no more than [`has_lent`](Self::has_lent) said in the same turn.
    #[inline]
    pub fn pass_lent(&self, bytes: u64) {
        let now_ns = lateen_ring::now().as_nanos();
        self.piece.set(bytes);
        self.take_lent(bytes, now_ns);
        self.note_passed(bytes, false, now_ns);
    }

    #[inline]
    fn take_lent(&self, bytes: u64, now_ns: u64) {
        for index in 0..self.limits.enforced {
            let (limiter, key) = self.one(index);
            limiter.take_lent(key, bytes, now_ns);
        }
    }

    /// How many pass of up to `most`, from when on, and what was drawn from each limit.
    #[cold]
    fn draw(&self, most: u64, now_ns: u64) -> (u64, u64, Box<[Drawn; RATE_LIMITS_MAX]>) {
        let mut all = Box::new([Drawn::default(); RATE_LIMITS_MAX]);
        let (mut bytes, mut due_ns) = (most, now_ns);
        for (index, (limiter, key)) in self.enforced().enumerate() {
            let (promise, drawn) = limiter.draw(key, bytes, &self.shard, now_ns);
            all[index] = drawn;
            for ((earlier, key), drawn) in self.enforced().take(index).zip(&*all) {
                earlier.put_back(key, bytes - promise.bytes, *drawn, now_ns);
            }
            bytes = promise.bytes;
            due_ns = due_ns.max(promise.due_ns);
        }
        (bytes, due_ns, all)
    }

    /// The limits that decide, and what is counted by.
    #[inline]
    fn enforced(&self) -> impl Iterator<Item = (&Limiter, u64)> {
        self.those(0..self.limits.enforced)
    }

    #[inline]
    fn those(&self, range: Range<usize>) -> impl Iterator<Item = (&Limiter, u64)> {
        range.map(|index| self.one(index))
    }

    #[inline]
    fn one(&self, index: usize) -> (&Limiter, u64) {
        let key = self.keys.as_ref().map_or(0, |keys| keys[index]);
        (&self.limits.limiters[index], key)
    }

    /// What it is to have been drawn when what was lent was taken.
    fn drawn_now(&self, now_ns: u64) -> [Drawn; RATE_LIMITS_MAX] {
        let mut all = [Drawn::default(); RATE_LIMITS_MAX];
        for ((limiter, _), drawn) in self.enforced().zip(&mut all) {
            *drawn = Drawn { changes: limiter.total.changes(), due_ns: now_ns };
        }
        all
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
        for ((limiter, key), drawn) in self.enforced().zip(drawn) {
            limiter.put_back(key, bytes, *drawn, now_ns);
        }
    }

    #[inline]
    fn note_passed(&self, bytes: u64, is_delayed: bool, now_ns: u64) {
        let metrics = &self.shard.metrics().rate_limit;
        let outcome = if is_delayed { LimitOutcome::Limited } else { LimitOutcome::Admitted };
        metrics.decided(Limited::Byte, outcome).add(bytes);
        let counting = self.limits.enforced..self.limits.limiters.len();
        if !counting.is_empty() {
            self.count(counting, bytes, now_ns);
        }
    }

    /// Tells those limits that only count.
    #[cold]
    fn count(&self, counting: Range<usize>, bytes: u64, now_ns: u64) {
        let metrics = &self.shard.metrics().rate_limit;
        for (limiter, key) in self.those(counting) {
            let there = limiter.total.take(limiter.asking(key), bytes, now_ns);
            metrics.decided(Limited::Byte, LimitOutcome::DryRun).add(bytes - there);
        }
    }
}

impl Drop for Flow {
    fn drop(&mut self) {
        // Most leave nothing, and that is seen at a glance.
        if self.kept.get_mut().is_empty() {
            return;
        }
        for kept in self.kept.take() {
            self.put_back(kept.bytes, &kept.drawn, lateen_ring::now().as_nanos());
        }
    }
}

impl Grant<'_> {
    /// They are due, but it is not certain yet that they pass: [`Flow::pass_kept`] says that they do.
    pub fn keep(mut self) {
        let Self { flow, bytes, .. } = self;
        let taken = std::mem::replace(&mut self.taken, Taken::Lent { changes: 0 });
        let drawn = match taken {
            Taken::Lent { .. } => flow.drawn_now(lateen_ring::now().as_nanos()),
            Taken::Drawn(drawn) => *drawn,
        };
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
        // What was lent is there, whatever changes.
        let Taken::Drawn(drawn) = &self.taken else { return false };
        let mut limits = self.flow.enforced().zip(&**drawn);
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
        let left = self.bytes.saturating_sub(passed);
        if left > 0 {
            match &self.taken {
                Taken::Drawn(drawn) => self.flow.put_back(left, drawn, now_ns),
                Taken::Lent { changes } if *changes == self.flow.changes() => {
                    self.flow.put_back(left, &self.flow.drawn_now(now_ns), now_ns);
                }
                // Of what there was of another limit nothing is known any more.
                Taken::Lent { .. } => {}
            }
        }
    }
}

impl Limiter {
    /// Whether so many may pass as one, and all of them are lent.
    #[inline]
    fn has(&self, key: u64, bytes: u64, now_ns: u64) -> bool {
        let has = |lease: &mut Lease| lease.has(bytes, now_ns);
        bytes <= self.slice_bytes && self.with_lent(key, has) == Some(true)
    }

    /// Takes them of what is lent.
    #[inline]
    fn take_lent(&self, key: u64, bytes: u64, now_ns: u64) {
        let taken = self.with_lent(key, |lease| lease.take(bytes, now_ns));
        debug_assert_eq!(taken, Some(bytes), "it was asked before");
    }

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
