//! The same rate for what is delayed instead of refused: bytes.
//!
//! Before: a body has bytes to pass on. After: it is told how many may pass, and from when on. What is not
//! there yet is promised, and what is gained goes to who was promised first: nobody has to ask again,
//! nobody is passed over, and the total is the rate's whoever wakes first.
//!
//! ```text
//!          ┌─ all there ──▶ at once, and some more lent to the worker
//!  draw ───┤
//!          └─ too little ─▶ owed: from now + owed / rate on ──▶ passed, or put back
//!                             └─ the rate changes ──▶ void: drawn anew
//! ```

use super::{BURST_SHARES, Bucket, Lease, PERIOD_NS, Rate};
use crate::limits;

/// Lent beside what is asked for: a worker that passes on short messages does not come for each of them.
const LENT_BYTES: u64 = 16 * 1024;
/// However many wait, what passes as one is not made smaller than that.
const SLICE_BYTES_LEAST: u64 = 1_024;
/// Of what is lent, less than is asked for is taken if it is at least that.
const TAKEN_BYTES_LEAST: u64 = 4 * 1024;

/// Bytes that may pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Promise {
    /// So many.
    pub bytes: u64,
    /// From then on, in nanoseconds; past: at once.
    pub due_ns: u64,
}

impl Rate {
    /// How many bytes pass as one at the most: what comes in a [`limits::PACE_SLICE`], but no more than
    /// the burst, and one at least.
    pub fn slice_bytes(&self) -> u64 {
        let slice_ns = limits::PACE_SLICE.as_nanos();
        let in_slice = u128::from(self.units) * slice_ns / u128::from(self.span_ns);
        let most = self.burst.clamp(1, limits::FLOW_PIECE_BYTES_MAX);
        in_slice.clamp(1, most.into()) as u64
    }

    /// How many bytes a worker is lent at a time beside those that pass.
    pub fn byte_lease_size(&self, workers: usize) -> u64 {
        let by_burst = self.burst / (BURST_SHARES * workers.max(1) as u64);
        self.lease_size(workers).max(LENT_BYTES).min(by_burst)
    }
}

impl Bucket {
    /// Lets up to `most` bytes pass, which is more than 0. If they are all there, `lease` gets up to
    /// `size` beside; what was left in it is taken back.
    pub fn draw(
        &mut self,
        lease: &mut Lease,
        rate: &Rate,
        most: u64,
        size: u64,
        now_ns: u64,
    ) -> Promise {
        self.refill(rate, now_ns);
        self.settle(lease, rate, now_ns);
        let token = u128::from(rate.span_ns);
        let slice = rate.slice_bytes();
        let there = self.level(rate);
        let whole = most.min(slice);
        if there >= whole {
            lease.left = (there - whole).min(size);
            lease.held = lease.left;
            lease.period = self.period;
            lease.refused_until_ns = 0;
            self.held[(self.period & 1) as usize] += lease.held;
            self.level -= u128::from(whole + lease.left) * token;
            return Promise { bytes: whole, due_ns: now_ns };
        }
        // The more are waiting the less each gets at a time, so that none waits for long.
        let waiting = (self.owed / (token * u128::from(slice))) as u64;
        let bytes = most.min((slice / (1 + waiting)).max(SLICE_BYTES_LEAST.min(slice)));
        let wanted = u128::from(bytes) * token;
        let here = wanted.min(self.level);
        self.level -= here;
        self.owed += wanted - here;
        Promise { bytes, due_ns: self.at_ns.saturating_add(rate.time_for(self.owed)) }
    }

    /// Takes up to `most` bytes of those that are there.
    pub fn take(&mut self, rate: &Rate, most: u64, now_ns: u64) -> u64 {
        self.refill(rate, now_ns);
        let taken = self.level(rate).min(most);
        self.level -= u128::from(taken) * u128::from(rate.span_ns);
        taken
    }

    /// So many of those that were to pass don't.
    ///
    /// Who was promised something keeps their time: what is put back shortens the wait of who comes next.
    pub fn put_back(&mut self, rate: &Rate, bytes: u64, now_ns: u64) {
        self.refill(rate, now_ns);
        self.gain(u128::from(bytes) * u128::from(rate.span_ns));
        self.cap(rate);
    }
}

impl Lease {
    /// Whether so many bytes are lent.
    #[inline]
    pub fn has(&self, bytes: u64, now_ns: u64) -> bool {
        self.left >= bytes && self.is_good(now_ns)
    }

    /// Takes up to `most` bytes of what was lent; none, if there is too little to be worth it.
    pub fn take(&mut self, most: u64, now_ns: u64) -> u64 {
        if self.left < most.min(TAKEN_BYTES_LEAST) || !self.is_good(now_ns) {
            return 0;
        }
        let taken = self.left.min(most);
        self.left -= taken;
        taken
    }

    /// Keeps what was to pass and does not, if it can be a part of what was lent in this period. False: it
    /// can't, and goes back to the bucket.
    pub fn keep(&mut self, bytes: u64, now_ns: u64) -> bool {
        let keeps = now_ns / PERIOD_NS == self.period && self.left + bytes <= self.held;
        if keeps {
            self.left += bytes;
        }
        keeps
    }
}

#[cfg(test)]
mod tests;
