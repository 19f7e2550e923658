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
    /// When the last of them ended.
    ended: Instant,
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
        // Who had nothing to do in between keeps up. A shorter gap may be a thread that was not let run.
        if now.since(self.ended).saturating_sub(lag) > limits::LAG_INTERVAL {
            *self = Self::default();
        }
        self.ended = now;
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
        let long = Duration::from_millis(10);
        for ended in (10..=100).step_by(10) {
            assert!(!lag.turned(long, at(ended)));
        }
        assert!(lag.turned(long, at(110)));
        assert!(lag.turned(long, at(120)));
        assert!(!lag.turned(limits::LAG_TARGET, at(125)), "one short turn is enough");
        assert!(!lag.turned(long, at(135)));
        assert!(!lag.turned(Duration::from_millis(99), at(234)), "a single stall is none");
        assert!(lag.turned(long, at(244)));
    }

    #[test]
    fn long_turns_with_rests_between_them_tell_nothing() {
        let mut lag = LoopLag::default();
        let long = Duration::from_millis(10);
        for nth in 1..=10 {
            assert!(!lag.turned(long, at(nth * 111)));
        }
        for nth in 1..=10 {
            lag.turned(long, at(10_000 + nth * 10));
        }
        assert!(lag.turned(long, at(10_110)));
        assert!(!lag.turned(long, at(11_000)), "it has rested");
    }
}
