//! Which endpoint gets the next request: the less loaded of two that chance chose (power of two
//! choices), save that an endpoint which refused a connection is tried last for a while.
//!
//! Before: the conductors know that a request needs an upstream. After: `forward` takes a
//! connection to the endpoint from its pool or makes one. A worker has a [`Load`] of its own for each
//! endpoint. Nothing here does I/O, reads a clock or draws a random number.
//!
//! Why refusals need care: an endpoint that refuses at once has nothing in flight, so it looks like
//! the least loaded of any two and would draw ever more requests.
//!
//! Source: M. Mitzenmacher, "The Power of Two Choices in Randomized Load Balancing", IEEE TPDS
//! 12(10), 2001.

use std::cell::Cell;

use lateen_snapshot::model::Balancing;

use crate::limits;

/// Position of an endpoint in its cluster's list.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EndpointIndex(u32);

impl EndpointIndex {
    /// The endpoint at `index` of a list that [`limits`] bounds.
    pub const fn new(index: usize) -> Self {
        Self(index as u32)
    }

    /// The index as a `usize`, for indexing lists that run beside the balancer's.
    pub const fn as_usize(self) -> usize {
        self.0 as usize
    }
}

/// How busy one endpoint is, and how willing, as one worker sees it. Survives snapshots.
///
/// ```text
///  healthy ──refused──► penalised 1 s ──time──► on trial ──refused──► penalised 2 s … 30 s
///     ▲                     │                      │
///     └───────connected─────┴───────connected──────┘
/// ```
#[derive(Debug, Default)]
pub struct Load {
    /// Requests (or tunnels) that were given to it and have not ended.
    in_flight: Cell<u32>,
    /// Refusals in a row, counted once per penalty, up to 32.
    refusals: Cell<u8>,
    /// Tried last until then; 0 when it never refused since it last connected.
    penalty_until_ns: Cell<u64>,
}

impl Load {
    /// A request was given to the endpoint.
    #[inline]
    pub fn on_start(&self) {
        self.in_flight.set(self.in_flight.get() + 1);
    }

    /// That request ended, however it did; to be called exactly once per
    /// [`on_start`](Self::on_start).
    #[inline]
    pub fn on_end(&self) {
        debug_assert!(self.in_flight.get() > 0, "on_end without on_start");
        self.in_flight.set(self.in_flight.get().saturating_sub(1));
    }

    /// A connect was refused or timed out: the endpoint is tried last for 1 s, doubling with each
    /// penalty that is followed by another refusal, to at most 30 s. Refusals within a penalty (many
    /// connects fail at once) do not lengthen it.
    pub fn on_refused(&self, now_ns: u64) {
        const FIRST_NS: u64 = limits::REFUSAL_PENALTY.as_nanos() as u64;
        const MOST_NS: u64 = limits::REFUSAL_PENALTY_MAX.as_nanos() as u64;
        if now_ns < self.penalty_until_ns.get() {
            return;
        }
        // 32 doublings are far past the maximum: the shift cannot overflow 64 bits meaningfully.
        let refusals = self.refusals.get();
        let penalty_ns = FIRST_NS.saturating_mul(1 << refusals.min(32)).min(MOST_NS);
        self.refusals.set(refusals.saturating_add(1).min(32));
        self.penalty_until_ns.set(now_ns.saturating_add(penalty_ns));
    }

    /// A connect succeeded: refusals are forgotten.
    pub fn on_connected(&self) {
        self.refusals.set(0);
        self.penalty_until_ns.set(0);
    }

    /// Requests in flight, as this worker counts them.
    pub fn in_flight(&self) -> u32 {
        self.in_flight.get()
    }
}

/// What one choice among `endpoints` goes by.
#[derive(Clone, Copy, Debug)]
pub struct Choice<'a, E> {
    /// Those to choose from.
    pub endpoints: &'a [E],
    /// How to choose.
    pub balancing: Balancing,
    /// The worker's clock.
    pub now_ns: u64,
    /// Any 64 evenly spread bits.
    pub random: u64,
    /// Where the last choice of [`Balancing::RoundRobin`] fell; moved on by each.
    pub turn: &'a Cell<u32>,
    /// The endpoints that this request already went to; a handful at most.
    pub tried: &'a [EndpointIndex],
}

impl<E: AsRef<Load>> Choice<'_, E> {
    /// Chooses an endpoint that is not in `tried`. `None` when every endpoint was tried, or there is
    /// none. Penalised endpoints come only when no other is left, the one whose penalty ends first
    /// before the rest.
    ///
    /// Cost: two probes whatever the count; [`limits::EXTRA_PROBES_MAX`] more when both fall on
    /// penalised or tried endpoints; a scan of the list only when these fail too. Does not
    /// allocate.
    #[inline]
    pub fn pick(&self) -> Option<EndpointIndex> {
        let count = self.endpoints.len() as u64;
        if count < 2 {
            return self.scan(0);
        }
        match self.balancing {
            Balancing::LeastRequest => {}
            Balancing::RoundRobin => {
                let next = wrap(u64::from(self.turn.get()) + 1, count);
                // A list that has become shorter: begin anew.
                let next = if next < count { next } else { 0 };
                self.turn.set(next as u32);
                return self.scan(next);
            }
            Balancing::Random => {
                let index = below(self.random >> 32, count);
                return if self.is_usable(index) {
                    Some(EndpointIndex(index as u32))
                } else {
                    self.pick_further()
                };
            }
        }
        let first = below(self.random >> 32, count);
        let offset = 1 + below(self.random & 0xffff_ffff, count - 1);
        let second = wrap(first + offset, count);
        match (self.is_usable(first), self.is_usable(second)) {
            (true, true) => Some(self.less_loaded(first, second)),
            (true, false) => Some(EndpointIndex(first as u32)),
            (false, true) => Some(EndpointIndex(second as u32)),
            (false, false) => self.pick_further(),
        }
    }

    #[inline]
    fn load(&self, index: u64) -> &Load {
        self.endpoints[index as usize].as_ref()
    }

    #[inline]
    fn is_usable(&self, index: u64) -> bool {
        self.load(index).penalty_until_ns.get() <= self.now_ns
            && !self.tried.contains(&EndpointIndex(index as u32))
    }

    /// On a tie the first wins; chance chose it evenly.
    #[inline]
    fn less_loaded(&self, first: u64, second: u64) -> EndpointIndex {
        let second_is_less = self.load(second).in_flight() < self.load(first).in_flight();
        EndpointIndex(if second_is_less { second } else { first } as u32)
    }

    /// The choices were unusable: a few more probes, still keeping the less loaded of two where that
    /// is asked for, then the scan.
    #[cold]
    fn pick_further(&self) -> Option<EndpointIndex> {
        let count = self.endpoints.len() as u64;
        let mut found = None;
        for probe in 1..=limits::EXTRA_PROBES_MAX as u64 {
            let index = below(mix(self.random.wrapping_add(probe)) >> 32, count);
            if !self.is_usable(index) {
                continue;
            }
            match found {
                None if self.balancing == Balancing::Random => {
                    return Some(EndpointIndex(index as u32));
                }
                None => found = Some(index),
                Some(other) => return Some(self.less_loaded(other, index)),
            }
        }
        match found {
            Some(index) => Some(EndpointIndex(index as u32)),
            None => self.scan(below(mix(self.random) >> 32, count)),
        }
    }

    /// The first usable endpoint from `start` on, else the untried one whose penalty ends first.
    /// The start is random, so that one survivor's neighbour does not get all that the dead would
    /// have.
    fn scan(&self, start: u64) -> Option<EndpointIndex> {
        let count = self.endpoints.len() as u64;
        let mut soonest: Option<(u64, EndpointIndex)> = None;
        for step in 0..count {
            let at = wrap(start + step, count);
            let index = EndpointIndex(at as u32);
            if self.tried.contains(&index) {
                continue;
            }
            let until_ns = self.load(at).penalty_until_ns.get();
            if until_ns <= self.now_ns {
                return Some(index);
            }
            if soonest.is_none_or(|(least_ns, _)| until_ns < least_ns) {
                soonest = Some((until_ns, index));
            }
        }
        soonest.map(|(_, index)| index)
    }
}

/// Maps 32 random bits evenly to `0..bound`, by multiplication instead of division (D. Lemire,
/// "Fast Random Integer Generation in an Interval", ACM TOMACS 29(1), 2019); the bias is below
/// bound / 2^32.
const fn below(random_32: u64, bound: u64) -> u64 {
    (random_32 * bound) >> 32
}

/// `index` modulo `count`, for an index below twice the count.
const fn wrap(index: u64, count: u64) -> u64 {
    if index < count { index } else { index - count }
}

/// SplitMix64's finaliser (G. Steele and others, OOPSLA 2014): further evenly spread bits from the
/// same draw.
const fn mix(value: u64) -> u64 {
    let value = value.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

#[cfg(test)]
#[path = "balance_tests.rs"]
mod tests;
