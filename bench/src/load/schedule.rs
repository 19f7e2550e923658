//! When the next request is due: the pace of one thread's connections.
//!
//! Without I/O and without a clock of its own, so that tests run it in simulated time. A connection
//! that is free takes the next turn, waits until it is due and sends. Closed loop: a turn is due at
//! once. Open loop: turns are due at even distances from the start, whatever the answers do; when
//! no connection is free, turns wait and are taken late, never dropped while there is time, and
//! what is left at the end is counted.

use super::plan::{Amount, Plan};
use crate::clock::as_ns;

const NS_PER_S: f64 = 1e9;

/// One request's moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Turn {
    /// When it should be sent: in the open loop its latency counts from here.
    pub(crate) due_ns: u64,
    /// It counts: the warm-up is over.
    pub(crate) measured: bool,
}

/// The turns of one thread.
#[derive(Clone, Debug)]
pub(crate) struct Schedule {
    measure_from_ns: u64,
    /// Nothing is sent from here on; `u64::MAX` without a limit of time.
    end_ns: u64,
    /// Measured turns still to be given.
    left: u64,
    pace: Option<Pace>,
}

/// Turn k is due at `start_ns + offset_ns + k * interval_ns`.
#[derive(Clone, Debug)]
struct Pace {
    start_ns: u64,
    /// The first turn after the start.
    offset_ns: f64,
    interval_ns: f64,
    next: u64,
}

impl Schedule {
    /// The share of thread `thread`, from `start_ns` on; threads' turns lie between each other's.
    pub(crate) fn new(plan: &Plan, thread: u32, start_ns: u64) -> Self {
        let measure_from_ns = start_ns + as_ns(plan.warmup);
        let (end_ns, left) = match plan.amount {
            Amount::Time(duration) => (measure_from_ns + as_ns(duration), u64::MAX),
            Amount::Requests(requests) => (u64::MAX, plan.share(requests, thread)),
        };
        let pace = plan.rate_per_s.map(|rate_per_s| {
            let distance_ns = NS_PER_S / rate_per_s;
            Pace {
                start_ns,
                offset_ns: distance_ns * f64::from(thread),
                interval_ns: distance_ns * f64::from(plan.threads),
                next: 0,
            }
        });
        Self { measure_from_ns, end_ns, left, pace }
    }

    /// The part of that schedule that doesn't count.
    pub(crate) fn warm_up(plan: &Plan, thread: u32, start_ns: u64) -> Self {
        let whole = Self::new(plan, thread, start_ns);
        Self { end_ns: whole.measure_from_ns, ..whole }
    }

    /// The next turn, or nothing: the connection is done.
    #[inline]
    pub(crate) fn take(&mut self, now_ns: u64) -> Option<Turn> {
        if now_ns >= self.end_ns {
            return None;
        }
        let due_ns = match &self.pace {
            None => now_ns,
            Some(pace) => pace.due_ns(pace.next),
        };
        if due_ns >= self.end_ns {
            return None;
        }
        let measured = due_ns >= self.measure_from_ns;
        if measured {
            self.left = self.left.checked_sub(1)?;
        }
        if let Some(pace) = &mut self.pace {
            pace.next += 1;
        }
        Some(Turn { due_ns, measured })
    }

    /// No more turns: the user has seen enough.
    pub(crate) fn stop(&mut self, now_ns: u64) {
        self.end_ns = self.end_ns.min(now_ns);
    }

    /// Whether what is over now still falls into the asked time.
    #[inline]
    pub(crate) fn is_in_time(&self, now_ns: u64) -> bool {
        now_ns <= self.end_ns
    }

    /// The end of the asked time, if it is a time that was asked for or somebody stopped it.
    pub(crate) fn end_ns(&self) -> Option<u64> {
        (self.end_ns != u64::MAX).then_some(self.end_ns)
    }

    /// Turns that were due before the end and that nobody took; 0 in the closed loop.
    pub(crate) fn unsent(&self) -> u64 {
        let Some(pace) = &self.pace else { return 0 };
        if self.end_ns == u64::MAX {
            return 0;
        }
        let first = pace.first_at_or_after(self.measure_from_ns).max(pace.next);
        pace.first_at_or_after(self.end_ns).saturating_sub(first).min(self.left)
    }
}

impl Pace {
    fn due_ns(&self, index: u64) -> u64 {
        // Only what is after the start is a float: it is exact to the nanosecond for 104 days.
        self.start_ns + (self.offset_ns + self.interval_ns * index as f64) as u64
    }

    fn first_at_or_after(&self, ns: u64) -> u64 {
        let after_start_ns = ns.saturating_sub(self.start_ns) as f64;
        let mut index = ((after_start_ns - self.offset_ns) / self.interval_ns).max(0.0) as u64;
        // What was rounded away.
        index = index.saturating_sub(1);
        while self.due_ns(index) < ns {
            index += 1;
        }
        index
    }
}

#[cfg(test)]
mod tests;
