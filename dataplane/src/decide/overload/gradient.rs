//! How many requests a service can work on at a time, found by how long it takes for them (the gradient of
//! Netflix's concurrency-limits; Envoy's adaptive concurrency; the probe of BBR, N. Cardwell et al., CACM
//! 60(2), 2017).
//!
//! Before: all workers counted how long requests to a cluster took ([`LatencyCounts`]
//! (crate::decide::hedge::LatencyCounts)). After: the limit. As long as requests take no longer than a quarter
//! more than without a queue it grows, if it is used; beyond, it shrinks to where they would.
//!
//! ```text
//!               limit is used for long
//! steady ───────────────────────────────▶ probe with half of it ──┐ they take less: half again
//!    ▲                                        │   ▲───────────────┘
//!    └── the limit before the last half ──────┘ they take as long: that is what they take without a queue
//! ```
//!
//! A window's requests are those that began in it, so that none of a larger limit's are among them. Their
//! median counts: a few slow ones tell of themselves, a queue slows all.

use lateen_snapshot::model::overload::Concurrency;

use crate::decide::hedge::{BUCKETS, Sums, end_of};

/// A window is no shorter, in nanoseconds …
const WINDOW_NS: u64 = 100_000_000;
/// … than twice what a request takes, unless that is longer than this …
const WINDOW_NS_MAX: u64 = 1_000_000_000;
/// … and has so many requests at least.
const SAMPLES_MIN: u64 = 10;
/// Where there are fewer for so long, what there is has to do.
const WINDOW_NS_MOST: u64 = 10_000_000_000;
/// A request may take so much longer than without a queue. Source: Envoy's `min_rtt_calc_params.buffer`.
const TOLERANCE: f64 = 1.25;
/// Or so much longer, in nanoseconds: what a thread that sleeps a moment does to short ones says nothing.
const TOLERANCE_NS: f64 = 1_000_000.0;
/// Bounds of one step. Source: Netflix's.
const GRADIENTS: (f64, f64) = (0.5, 2.0);
/// The limit has room for a queue of so many times its square root: enough that the service never waits for
/// the next request.
const QUEUE_ROOTS: f64 = 0.5;
/// The limit is used if at some moment so much of it was.
const USED: f64 = 0.9;
/// With that little of it in use at all times a window is as good as a probe.
const HARDLY_USED: f64 = 0.5;
/// A probe has shown something new if requests take so much less.
const LESS: f64 = 0.9;
/// From one probe to the next; from half as long to as long again, by chance. Source: BBR's 10 s.
const PROBE_EVERY_NS: u64 = 15_000_000_000;
/// The limit to begin with. Source: between Netflix's 20 and Envoy's 3; what is too much is found by the
/// first probe, what is too little grows by a quarter with each window.
const LIMIT_AT_FIRST: f64 = 10.0;

/// The limit of one service.
#[derive(Debug)]
pub struct Gradient {
    limit: f64,
    /// What a request takes without a queue, in nanoseconds; `None`: nobody knows yet.
    base_ns: Option<f64>,
    /// The limit before the last half, while there is a probe.
    probed: Option<f64>,
    probe_at_ns: u64,
    window_began_ns: u64,
    /// What the workers had counted then.
    seen: Sums,
    timed_out: u64,
}

/// What was seen until now.
#[derive(Clone, Copy, Debug)]
pub struct Look<'a> {
    /// What all workers have counted: how long answers took …
    pub sums: &'a Sums,
    /// … and how many did not come in time.
    pub timed_out: u64,
    /// How many requests there were at a time, at the most, since the last window.
    pub peak: u64,
    /// The time.
    pub now_ns: u64,
    /// Evenly spread bits.
    pub random: u64,
}

impl Gradient {
    /// Of a service that was never called.
    pub fn new(terms: Concurrency, now_ns: u64) -> Self {
        let mut gradient = Self {
            limit: LIMIT_AT_FIRST,
            base_ns: None,
            probed: None,
            probe_at_ns: 0,
            window_began_ns: now_ns,
            seen: Sums::default(),
            timed_out: 0,
        };
        gradient.bound(terms);
        gradient
    }

    /// How many requests there may be at a time.
    pub fn limit(&self) -> u32 {
        self.limit as u32
    }

    /// What a request takes without a queue, as far as is known.
    pub fn base_ns(&self) -> Option<u64> {
        self.base_ns.map(|base_ns| base_ns as u64)
    }

    /// Whether a window can be over.
    pub fn is_due(&self, now_ns: u64) -> bool {
        now_ns.saturating_sub(self.window_began_ns) >= self.window_ns()
    }

    /// Takes in what was seen. True: a window is over, and the next one has begun.
    pub fn look(&mut self, terms: Concurrency, look: Look<'_>) -> bool {
        if !self.is_due(look.now_ns) {
            return false;
        }
        let lasted_ns = look.now_ns.saturating_sub(self.window_began_ns);
        let counts = Counts::between(&self.seen, look.sums);
        let timed_out = look.timed_out.saturating_sub(self.timed_out);
        let ended = counts.total + timed_out;
        if ended < SAMPLES_MIN && (lasted_ns < WINDOW_NS_MOST || ended == 0) {
            return false;
        }
        self.seen = Sums(look.sums.0);
        self.timed_out = look.timed_out;
        self.window_began_ns = look.now_ns;
        match 2 * timed_out >= ended {
            true => self.back_off(look),
            false => self.judge(counts.median_ns(), look),
        }
        self.bound(terms);
        true
    }

    /// Keeps the limit within its bounds; a probe goes below, else it would find the queue that the minimum
    /// makes.
    pub fn bound(&mut self, terms: Concurrency) {
        let least = if self.probed.is_some() { 1 } else { terms.minimum };
        self.limit = self.limit.clamp(least.into(), terms.maximum.into());
    }

    fn window_ns(&self) -> u64 {
        self.base_ns
            .map_or(WINDOW_NS, |base_ns| ((2.0 * base_ns) as u64).clamp(WINDOW_NS, WINDOW_NS_MAX))
    }

    fn judge(&mut self, median_ns: f64, look: Look<'_>) {
        let used = look.peak as f64 / self.limit.floor().max(1.0);
        if let Some(before) = self.probed {
            let took_less = self.base_ns.is_none_or(|base_ns| median_ns < LESS * base_ns);
            self.base_ns = Some(median_ns);
            if took_less && self.limit() > 1 {
                return self.halve();
            }
            self.limit = before;
            return self.end_probe(look);
        }
        if used <= HARDLY_USED {
            self.base_ns = Some(median_ns);
            return self.end_probe(look);
        }
        // While nothing is known at all, the first window tells of a queue that was still growing.
        let Some(base_ns) = self.base_ns else { return self.halve() };
        let base_ns = base_ns.min(median_ns);
        self.base_ns = Some(base_ns);
        if used >= USED && look.now_ns >= self.probe_at_ns {
            return self.halve();
        }
        let tolerated_ns = (TOLERANCE * base_ns).max(base_ns + TOLERANCE_NS);
        let gradient = (tolerated_ns / median_ns.max(1.0)).clamp(GRADIENTS.0, GRADIENTS.1);
        let next = self.limit * gradient + QUEUE_ROOTS * self.limit.sqrt();
        if next < self.limit || used >= USED {
            self.limit = next;
        }
    }

    /// Half of them were not answered in time: how long they would have taken nobody knows.
    fn back_off(&mut self, look: Look<'_>) {
        if let Some(before) = self.probed {
            self.limit = before;
            self.end_probe(look);
        }
        self.limit *= GRADIENTS.0;
    }

    fn halve(&mut self) {
        self.probed = Some(self.limit);
        self.limit /= 2.0;
    }

    fn end_probe(&mut self, look: Look<'_>) {
        self.probed = None;
        let by_chance = look.random % PROBE_EVERY_NS;
        self.probe_at_ns = look.now_ns + PROBE_EVERY_NS / 2 + by_chance;
    }
}

/// What was counted within a window.
struct Counts {
    buckets: [u64; BUCKETS],
    total: u64,
}

impl Counts {
    fn between(from: &Sums, to: &Sums) -> Self {
        let mut buckets = [0; BUCKETS];
        for (bucket, (from, to)) in buckets.iter_mut().zip(from.0.iter().zip(&to.0)) {
            *bucket = to.saturating_sub(*from);
        }
        Self { buckets, total: buckets.iter().sum() }
    }

    /// Half of them took less, as if those of a bucket were spread over it evenly. There is one at least.
    fn median_ns(&self) -> f64 {
        let half = self.total as f64 / 2.0;
        let mut below = 0.0;
        for (bucket, count) in self.buckets.iter().enumerate().filter(|(_, count)| **count > 0) {
            let count = *count as f64;
            if below + count >= half {
                let end_ns = end_of(bucket).as_nanos() as f64;
                let begin_ns = bucket.checked_sub(1).map_or(0.0, |it| end_of(it).as_nanos() as f64);
                return begin_ns + (end_ns - begin_ns) * (half - below) / count;
            }
            below += count;
        }
        0.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decide::hedge::LatencyCounts;

    const BOUNDS: Concurrency = Concurrency { minimum: 2, maximum: 100 };
    const SECOND: u64 = 1_000_000_000;

    /// A service, and what is known of it.
    struct Service {
        gradient: Gradient,
        counts: LatencyCounts,
        now_ns: u64,
    }

    impl Service {
        fn new() -> Self {
            Self { gradient: Gradient::new(BOUNDS, 0), counts: LatencyCounts::default(), now_ns: 0 }
        }

        /// A window of requests that took so long, `peak` of them at a time.
        fn window(&mut self, took_ms: u64, peak: u64) -> u32 {
            for _ in 0..SAMPLES_MIN {
                self.counts.observe(took_ms * 1_000);
            }
            let mut sums = Sums::default();
            self.counts.add_to(&mut sums.0);
            self.now_ns += SECOND;
            let look = Look { sums: &sums, timed_out: 0, peak, now_ns: self.now_ns, random: 0 };
            assert!(self.gradient.look(BOUNDS, look), "a second is enough");
            self.gradient.limit()
        }
    }

    #[test]
    fn it_grows_while_it_is_used_and_costs_nothing() {
        let mut service = Service::new();
        assert_eq!(service.window(20, 1), 10, "what is hardly used does not grow");
        let mut last = 10;
        for _ in 0..7 {
            let limit = service.window(20, last.into());
            assert!(limit > last, "{limit} after {last}");
            last = limit;
        }
        assert_eq!(service.window(20, u64::from(last) * 8 / 10), last, "not all of it was used");
    }

    #[test]
    fn it_shrinks_to_where_requests_take_little_longer() {
        let mut service = Service::new();
        service.window(20, 1);
        // Eight at a time, the others wait.
        let mut limit = 10;
        for _ in 0..5 {
            limit = service.window(20 * u64::from(limit).max(8) / 8, limit.into());
        }
        assert!((10..=13).contains(&limit), "{limit}");
        let (before, after) = (limit, service.window(2_000, 13));
        assert!((before / 2..before / 2 + 3).contains(&after), "by half at the most: {after}");
    }

    #[test]
    fn a_probe_finds_what_requests_take_without_a_queue() {
        let mut service = Service::new();
        // From the start ten are too many: one at a time is worked on.
        for limit in [10, 5, 2, 1] {
            assert_eq!(service.gradient.limit(), limit);
            service.window(20 * u64::from(limit), limit.into());
        }
        assert_eq!(service.gradient.limit(), 2, "one more than without a queue");
        let base_ns = service.gradient.base_ns().expect("it was seen");
        assert!((18_000_000..23_000_000).contains(&base_ns), "{base_ns}");
        // It has become slower for good: the next probe finds that too.
        for _ in 0..20 {
            let limit = u64::from(service.gradient.limit());
            service.window(40 * limit, limit);
        }
        let base_ns = service.gradient.base_ns().expect("it was seen");
        assert!((36_000_000..46_000_000).contains(&base_ns), "{base_ns}");
    }

    #[test]
    fn bounds_hold_but_for_a_probe() {
        let mut service = Service::new();
        service.window(20, 1);
        for _ in 0..40 {
            service.window(20, 1_000);
        }
        assert_eq!(service.gradient.limit(), 100);
        service.gradient.bound(Concurrency { minimum: 3, maximum: 50 });
        assert_eq!(service.gradient.limit(), 50);
        service.gradient.bound(Concurrency { minimum: 60, maximum: 60 });
        assert_eq!(service.gradient.limit(), 60);
    }

    #[test]
    fn what_is_not_answered_in_time_is_no_latency() {
        let mut service = Service::new();
        for limit in [10, 5, 2, 1] {
            service.window(20 * limit, limit);
        }
        let base_ns = service.gradient.base_ns().expect("it was seen");
        // It hangs, through the time of many probes.
        for seconds in 1..=100 {
            let seen = Sums(service.gradient.seen.0);
            let now_ns = service.now_ns + seconds * SECOND;
            let look =
                Look { sums: &seen, timed_out: 20 * seconds, peak: 100, now_ns, random: seconds };
            assert!(service.gradient.look(BOUNDS, look));
            assert_eq!(service.gradient.limit(), BOUNDS.minimum);
        }
        assert_eq!(service.gradient.base_ns(), Some(base_ns));
    }

    #[test]
    fn a_window_waits_for_enough_requests() {
        let mut gradient = Gradient::new(BOUNDS, 0);
        let counts = LatencyCounts::default();
        let mut look = |count: usize, now_ns: u64| {
            (0..count).for_each(|_| counts.observe(1_000));
            let mut sums = Sums::default();
            counts.add_to(&mut sums.0);
            gradient.look(BOUNDS, Look { sums: &sums, timed_out: 0, peak: 1, now_ns, random: 0 })
        };
        assert!(!look(100, SECOND / 100), "it is too short");
        assert!(look(0, SECOND / 10));
        assert!(!look(9, SECOND));
        assert!(look(1, SECOND));
        assert!(!look(1, 10 * SECOND));
        assert!(look(0, 11 * SECOND), "few have to do");
        assert!(!look(0, 100 * SECOND), "none can't");
    }
}
