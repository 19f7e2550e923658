//! Whether a worker can't keep up: its turns stay long for a while (as CoDel judges a queue, RFC 8289, with
//! the turn for the sojourn: what comes during one waits for its end).
//!
//! Before: a turn of the worker's loop has ended. After: the worker takes nothing new until one was short.

use std::time::Duration;

use lateen_ring::Instant;

use crate::limits;

/// What is known of a worker's turns.
#[derive(Clone, Copy, Debug, Default)]
pub struct LoopLag {
    /// When the first of the long turns in a row ended.
    above_since: Option<Instant>,
    is_lagging: bool,
}

impl LoopLag {
    /// A turn has ended at `now`, during which something may have waited for so long. Whether the worker can't
    /// keep up.
    #[inline]
    pub fn turned(&mut self, lag: Duration, now: Instant) -> bool {
        if lag <= limits::LAG_TARGET {
            *self = Self::default();
            return false;
        }
        let since = *self.above_since.get_or_insert(now);
        self.is_lagging |= now.since(since) >= limits::LAG_INTERVAL;
        self.is_lagging
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Instant {
        Instant::from_nanos(ms * 1_000_000)
    }

    #[test]
    fn only_long_turns_for_a_whole_interval_tell() {
        let mut lag = LoopLag::default();
        let long = Duration::from_millis(6);
        assert!(!lag.turned(long, at(6)));
        assert!(!lag.turned(long, at(105)));
        assert!(lag.turned(long, at(106)));
        assert!(lag.turned(long, at(1_000)));
        assert!(!lag.turned(limits::LAG_TARGET, at(1_005)), "one short turn is enough");
        assert!(!lag.turned(long, at(1_011)));
        assert!(!lag.turned(Duration::from_secs(10), at(1_110)), "a single stall is none");
        assert!(lag.turned(long, at(1_111)));
    }
}
