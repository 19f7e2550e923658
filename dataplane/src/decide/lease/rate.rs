//! A rate: so many in a span of time, and a burst.
//!
//! Before: [`Bucket`] is the process's, one for each limit. After: each worker has a [`Lease`] of it and
//! spends that alone.
//!
//! ```text
//!             ┌── spend: admitted ──┐
//!  lent n ────▶ left > 0 ───────────┘
//!    ▲            │ none left, or too old
//!    │            ▼
//!    └─ lend ── empty ── lend: nothing there ──▶ refused until t ──t──▶ empty
//! ```
//!
//! What is lent and not spent is not refilled meanwhile, so that the burst is never more than it says. It
//! is given back with the next lend; a worker that does not come again within a period keeps none of it,
//! and what it left counts as spent.

pub mod flow;

/// The period within which a lease is to be spent: a worker that was lent something may spend it until
/// the period after has ended.
const PERIOD_NS: u64 = 1_000_000_000;

/// Workers come so often for more, each of them, where the rate is high. With it, what all of them
/// together leave unspent is half a percent of a second's worth at the most.
const LENDS_PER_S: u64 = 200;

/// A worker's lease is at most the burst divided by this and by the number of workers, so that a burst
/// that comes in on one worker finds most of it.
const BURST_SHARES: u64 = 4;

/// Who was refused does not ask again before that long, unless it would lose something by waiting.
const ASK_AGAIN_NS: u64 = 1_000_000;

/// How much may pass: so many in a span, and so many at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// So many …
    pub units: u64,
    /// … in that many nanoseconds. More than 0, as all of these.
    pub span_ns: u64,
    /// So many at once, after a pause.
    pub burst: u64,
}

impl Rate {
    /// How many a worker is lent at a time: one where the rate is low, so that none lie about unspent.
    pub fn lease_size(&self, workers: usize) -> u64 {
        let workers = workers.max(1) as u128;
        let per_s = u128::from(self.units) * u128::from(PERIOD_NS) / u128::from(self.span_ns);
        let by_rate = per_s / (u128::from(LENDS_PER_S) * workers);
        let by_burst = u128::from(self.burst) / (u128::from(BURST_SHARES) * workers);
        by_rate.min(by_burst).clamp(1, u32::MAX.into()) as u64
    }

    /// How long it takes to gain as much as `level` in the bucket's measure; rounded up.
    fn time_for(&self, level: u128) -> u64 {
        level.div_ceil(self.units.into()).min(u64::MAX.into()) as u64
    }

    /// How long it takes to fill the bucket from nothing, in nanoseconds.
    pub fn fill_ns(&self) -> u64 {
        self.time_for(u128::from(self.burst) * u128::from(self.span_ns))
    }
}

/// What is there of a limit, for all workers.
///
/// Source: the token bucket of RFC 2697 §3, in whole numbers: a token is as much as
/// [`span_ns`](Rate::span_ns), and each nanosecond brings [`units`](Rate::units).
#[derive(Clone, Copy, Debug)]
pub struct Bucket {
    level: u128,
    /// Promised, and not there yet (see [`flow`]); what is gained goes there first.
    owed: u128,
    at_ns: u64,
    /// Counted in [`PERIOD_NS`].
    period: u64,
    /// Lent and, as far as is known here, unspent: in this period and in the one before, by the last bit
    /// of the period.
    held: [u64; 2],
}

impl Bucket {
    /// A full one.
    pub fn full(rate: &Rate, now_ns: u64) -> Self {
        let level = u128::from(rate.burst) * u128::from(rate.span_ns);
        Self { level, owed: 0, at_ns: now_ns, period: now_ns / PERIOD_NS, held: [0; 2] }
    }

    /// The limit is another now: what is there stays, as far as there is room. What was promised is void: who
    /// waits for it asks again, and would be promised the same bytes twice.
    pub fn change(&mut self, from: &Rate, to: &Rate, now_ns: u64) {
        self.refill(from, now_ns);
        let (from_ns, to_ns) = (u128::from(from.span_ns), u128::from(to.span_ns));
        self.level = self.level / from_ns * to_ns + self.level % from_ns * to_ns / from_ns;
        self.owed = 0;
        self.cap(to);
    }

    /// Takes back what is left of `lease` and lends up to `size` anew; nothing, if nothing is there.
    pub fn lend(&mut self, lease: &mut Lease, rate: &Rate, size: u64, now_ns: u64) {
        self.refill(rate, now_ns);
        self.settle(lease, rate, now_ns);
        let token = u128::from(rate.span_ns);
        let granted = (self.level / token).min(size.into()) as u64;
        if granted == 0 {
            lease.refused_until_ns = now_ns.saturating_add(self.ask_again_ns(rate));
            (lease.there, lease.there_ns) = (0, self.at_ns);
            return;
        }
        self.level -= u128::from(granted) * token;
        // One of them is spent at once.
        lease.held = granted - 1;
        self.held[(self.period & 1) as usize] += lease.held;
        lease.left = granted;
        lease.period = self.period;
        lease.refused_until_ns = 0;
        (lease.there, lease.there_ns) = (self.level(rate), self.at_ns);
    }

    /// When one more can be had, in nanoseconds from when it was last looked at; 0: then.
    pub fn next_ns(&self, rate: &Rate) -> u64 {
        rate.time_for((u128::from(rate.span_ns) + self.owed).saturating_sub(self.level))
    }

    /// How many are there for whoever comes now.
    pub fn level(&self, rate: &Rate) -> u64 {
        (self.level / u128::from(rate.span_ns)) as u64
    }

    /// From when on it is full, if nobody takes anything.
    pub fn full_at_ns(&self, rate: &Rate) -> u64 {
        let room = u128::from(rate.burst) * u128::from(rate.span_ns);
        let missing = room - self.level.min(room) + self.owed;
        let filled_ns = self.at_ns.saturating_add(rate.time_for(missing));
        match self.held {
            [0, 0] => filled_ns,
            // What is lent comes back, or is forgotten, by then.
            _ => filled_ns.max((self.period + 2).saturating_mul(PERIOD_NS)),
        }
    }

    /// Brings the level to `now_ns`. A worker whose time is behind that of another changes nothing.
    pub fn refill(&mut self, rate: &Rate, now_ns: u64) {
        let period = now_ns / PERIOD_NS;
        if period > self.period {
            // What was lent two periods ago can't be spent any more.
            self.held[(period & 1) as usize] = 0;
            if period > self.period + 1 {
                self.held = [0; 2];
            }
            self.period = period;
        }
        let gained = u128::from(now_ns.saturating_sub(self.at_ns)) * u128::from(rate.units);
        self.at_ns = self.at_ns.max(now_ns);
        self.gain(gained);
        self.cap(rate);
    }

    fn gain(&mut self, gained: u128) {
        let paid = gained.min(self.owed);
        self.owed -= paid;
        self.level = self.level.saturating_add(gained - paid);
    }

    fn cap(&mut self, rate: &Rate) {
        let held = self.held[0] + self.held[1];
        let room = u128::from(rate.burst.saturating_sub(held)) * u128::from(rate.span_ns);
        self.level = self.level.min(room);
    }

    /// Takes back what is left of `lease`.
    pub fn take_back(&mut self, lease: &mut Lease, rate: &Rate, now_ns: u64) {
        self.refill(rate, now_ns);
        self.settle(lease, rate, now_ns);
    }

    fn settle(&mut self, lease: &mut Lease, rate: &Rate, now_ns: u64) {
        if lease.period + 1 >= self.period {
            let held = &mut self.held[(lease.period & 1) as usize];
            *held = held.saturating_sub(lease.held);
            if lease.is_good(now_ns) {
                self.gain(u128::from(lease.left) * u128::from(rate.span_ns));
                self.cap(rate);
            }
        }
        (lease.left, lease.held) = (0, 0);
    }

    /// Waiting longer than until the next one is there loses nothing as long as the bucket has room for
    /// what comes meanwhile; and spares all workers the asking for each.
    fn ask_again_ns(&self, rate: &Rate) -> u64 {
        self.next_ns(rate).max(ASK_AGAIN_NS.min(rate.fill_ns() / 2))
    }
}

/// What a worker has of a limit.
#[derive(Clone, Copy, Debug, Default)]
pub struct Lease {
    left: u64,
    /// How many of them the bucket holds for it.
    held: u64,
    /// When they were lent.
    period: u64,
    refused_until_ns: u64,
    /// What the bucket had beside it when it last lent, and when that was.
    there: u64,
    there_ns: u64,
}

/// How much is left of a limit, as far as one worker knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Remaining {
    /// So many may pass at once.
    pub units: u64,
    /// How long it takes until as many may as ever, if nobody asks meanwhile, in nanoseconds.
    pub full_in_ns: u64,
}

/// Whether one more may pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spent {
    /// It may.
    Admitted,
    /// It may not, and nothing can change that before the time that was said.
    Refused,
    /// The lease knows no answer: [`Bucket::lend`], then ask again.
    Empty,
}

impl Lease {
    /// Spends one.
    #[inline]
    pub fn spend(&mut self, now_ns: u64) -> Spent {
        let spent = self.peek(now_ns);
        if spent == Spent::Admitted {
            self.left -= 1;
        }
        spent
    }

    /// As if the last one had not been spent.
    pub fn unspend(&mut self) {
        self.left += 1;
    }

    /// What [`spend`](Self::spend) would say.
    #[inline]
    pub fn peek(&self, now_ns: u64) -> Spent {
        match self.left {
            1.. if self.is_good(now_ns) => Spent::Admitted,
            _ if now_ns < self.refused_until_ns => Spent::Refused,
            _ => Spent::Empty,
        }
    }

    /// What is left of its limit: exactly, where as little is lent at a time as there is spent; else an
    /// estimate, since what other workers spent after the last loan is not known here.
    pub fn remaining(&self, rate: &Rate, now_ns: u64) -> Remaining {
        let since_ns = now_ns.saturating_sub(self.there_ns);
        let gained = u128::from(since_ns) * u128::from(rate.units) / u128::from(rate.span_ns);
        let own = if self.is_good(now_ns) { self.left } else { 0 };
        let there = u128::from(self.there + own) + gained;
        let units = there.min(rate.burst.into()) as u64;
        let missing = u128::from(rate.burst - units) * u128::from(rate.span_ns);
        Remaining { units, full_in_ns: rate.time_for(missing) }
    }

    /// Until when it refuses, in nanoseconds; past: it does not.
    pub fn refused_until_ns(&self) -> u64 {
        self.refused_until_ns
    }

    /// Whether something is left in it that is worth to be given back.
    pub fn has_some(&self) -> bool {
        self.left > 0
    }

    #[inline]
    fn is_good(&self, now_ns: u64) -> bool {
        now_ns / PERIOD_NS <= self.period + 1
    }
}
