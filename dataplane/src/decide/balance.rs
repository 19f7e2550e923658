//! Which endpoint gets the next request: the less loaded of two that chance chose (power of two
//! choices), save that an endpoint which refused a connection is tried last for a while.
//!
//! Before: the conductors know that a request needs an upstream. After: `forward` takes a
//! connection to the endpoint from its pool or makes one. A worker has its own [`Balancer`]; it
//! never does I/O, never reads a clock and never draws a random number of its own.
//!
//! Why refusals need care: an endpoint that refuses at once has nothing in flight, so it looks like
//! the least loaded of any two and would draw ever more requests.
//!
//! Source: M. Mitzenmacher, "The Power of Two Choices in Randomized Load Balancing", IEEE TPDS
//! 12(10), 2001.

use crate::limits;

/// Position of an endpoint in the list that the [`Balancer`] was made for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EndpointIndex(u32);

impl EndpointIndex {
    /// The index as a `usize`, for indexing lists that run beside the balancer's.
    pub const fn as_usize(self) -> usize {
        self.0 as usize
    }
}

/// One endpoint as one worker sees it.
///
/// ```text
///  healthy ──refused──► penalised 1 s ──time──► on trial ──refused──► penalised 2 s … 30 s
///     ▲                     │                      │
///     └───────connected─────┴───────connected──────┘
/// ```
#[derive(Clone, Copy, Debug, Default)]
struct Endpoint {
    /// Requests (or tunnels) that were given to it and have not ended.
    in_flight: u32,
    /// Refusals in a row, counted once per penalty.
    refusals: u32,
    /// Tried last until then; 0 when it never refused since it last connected.
    penalty_until_ns: u64,
}

/// Power-of-two-choices balancer over a fixed list of endpoints.
#[derive(Debug)]
pub struct Balancer {
    endpoints: Box<[Endpoint]>,
}

impl Balancer {
    /// A balancer over `count` endpoints, all healthy and without load.
    ///
    /// # Panics
    /// When `count` exceeds [`limits::ENDPOINTS_MAX`]; `bootstrap` refuses such a list.
    pub fn new(count: usize) -> Self {
        assert!(count <= limits::ENDPOINTS_MAX, "bootstrap bounds the list of endpoints");
        Self { endpoints: vec![Endpoint::default(); count].into_boxed_slice() }
    }

    /// Chooses an endpoint that is not in `tried` (the endpoints this request already went to; a
    /// handful at most).
    ///
    /// `now_ns` is the worker's clock, `random` any 64 evenly spread bits. `None` when every
    /// endpoint was tried, or there is none. Penalised endpoints come only when no other is left,
    /// the one whose penalty ends first before the rest.
    ///
    /// Cost: two probes whatever the count; [`limits::EXTRA_PROBES_MAX`] more when both fall on
    /// penalised or tried endpoints; a scan of the list only when these fail too. Does not
    /// allocate.
    pub fn pick(&self, now_ns: u64, random: u64, tried: &[EndpointIndex]) -> Option<EndpointIndex> {
        let count = self.endpoints.len() as u64;
        if count < 2 {
            return self.scan(now_ns, 0, tried);
        }
        let first = below(random >> 32, count);
        let offset = 1 + below(random & 0xffff_ffff, count - 1);
        let second = wrap(first + offset, count);
        let usable = |index: u64| self.is_usable(index, now_ns, tried);
        match (usable(first), usable(second)) {
            (true, true) => Some(self.less_loaded(first, second)),
            (true, false) => Some(EndpointIndex(first as u32)),
            (false, true) => Some(EndpointIndex(second as u32)),
            (false, false) => self.pick_further(now_ns, random, tried),
        }
    }

    /// A request was given to `endpoint`.
    pub fn on_start(&mut self, endpoint: EndpointIndex) {
        self.endpoints[endpoint.as_usize()].in_flight += 1;
    }

    /// That request ended, however it did; to be called exactly once per
    /// [`on_start`](Self::on_start).
    pub fn on_end(&mut self, endpoint: EndpointIndex) {
        let in_flight = &mut self.endpoints[endpoint.as_usize()].in_flight;
        debug_assert!(*in_flight > 0, "on_end without on_start");
        *in_flight = in_flight.saturating_sub(1);
    }

    /// A connect to `endpoint` was refused or timed out: it is tried last for 1 s, doubling with
    /// each penalty that is followed by another refusal, to at most 30 s. Refusals within a penalty
    /// (many connects fail at once) do not lengthen it.
    pub fn on_refused(&mut self, endpoint: EndpointIndex, now_ns: u64) {
        const FIRST_NS: u64 = limits::REFUSAL_PENALTY.as_nanos() as u64;
        const MOST_NS: u64 = limits::REFUSAL_PENALTY_MAX.as_nanos() as u64;
        let endpoint = &mut self.endpoints[endpoint.as_usize()];
        if now_ns < endpoint.penalty_until_ns {
            return;
        }
        // 32 doublings are far past the maximum: the shift cannot overflow 64 bits meaningfully.
        let penalty_ns = FIRST_NS.saturating_mul(1 << endpoint.refusals.min(32)).min(MOST_NS);
        endpoint.refusals = endpoint.refusals.saturating_add(1);
        endpoint.penalty_until_ns = now_ns.saturating_add(penalty_ns);
    }

    /// A connect to `endpoint` succeeded: its refusals are forgotten.
    pub fn on_connected(&mut self, endpoint: EndpointIndex) {
        let endpoint = &mut self.endpoints[endpoint.as_usize()];
        endpoint.refusals = 0;
        endpoint.penalty_until_ns = 0;
    }

    /// Requests in flight to `endpoint`, as this worker counts them.
    pub fn in_flight(&self, endpoint: EndpointIndex) -> u32 {
        self.endpoints[endpoint.as_usize()].in_flight
    }

    /// Requests and tunnels of all endpoints that have not ended.
    pub fn in_flight_total(&self) -> u64 {
        self.endpoints.iter().map(|endpoint| u64::from(endpoint.in_flight)).sum()
    }

    /// How many endpoints there are, penalised or not.
    pub fn endpoint_count(&self) -> usize {
        self.endpoints.len()
    }

    fn is_usable(&self, index: u64, now_ns: u64, tried: &[EndpointIndex]) -> bool {
        self.endpoints[index as usize].penalty_until_ns <= now_ns
            && !tried.contains(&EndpointIndex(index as u32))
    }

    /// On a tie the first wins; chance chose it evenly.
    fn less_loaded(&self, first: u64, second: u64) -> EndpointIndex {
        let second_is_less =
            self.endpoints[second as usize].in_flight < self.endpoints[first as usize].in_flight;
        EndpointIndex(if second_is_less { second } else { first } as u32)
    }

    /// Both choices were unusable: a few more probes, still keeping the less loaded of two, then
    /// the scan.
    #[cold]
    fn pick_further(
        &self,
        now_ns: u64,
        random: u64,
        tried: &[EndpointIndex],
    ) -> Option<EndpointIndex> {
        let count = self.endpoints.len() as u64;
        let mut found = None;
        for probe in 1..=limits::EXTRA_PROBES_MAX as u64 {
            let index = below(mix(random.wrapping_add(probe)) >> 32, count);
            if !self.is_usable(index, now_ns, tried) {
                continue;
            }
            match found {
                None => found = Some(index),
                Some(other) => return Some(self.less_loaded(other, index)),
            }
        }
        match found {
            Some(index) => Some(EndpointIndex(index as u32)),
            None => self.scan(now_ns, below(mix(random) >> 32, count), tried),
        }
    }

    /// The first usable endpoint from `start` on, else the untried one whose penalty ends first.
    /// The start is random, so that one survivor's neighbour does not get all that the dead would
    /// have.
    fn scan(&self, now_ns: u64, start: u64, tried: &[EndpointIndex]) -> Option<EndpointIndex> {
        let count = self.endpoints.len() as u64;
        let mut soonest: Option<(u64, EndpointIndex)> = None;
        for step in 0..count {
            let index = EndpointIndex(wrap(start + step, count) as u32);
            if tried.contains(&index) {
                continue;
            }
            let until_ns = self.endpoints[index.as_usize()].penalty_until_ns;
            if until_ns <= now_ns {
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
