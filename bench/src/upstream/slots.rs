//! How many requests are worked on at a time: the others wait, in the order in which they came.
//!
//! Before: a request was read to its end. After: its connection sleeps until its answer is due. Nobody waits
//! for another to wake him: how long a request takes is known when it comes, and with that when its slot is
//! free again, so that a table of times is the whole queue. The times of all threads stand in one table.
//!
//! A request whose client gave up takes its slot all the same, as in servers that look at their client only
//! when they answer: under more load than it can carry, such a server works for nobody.
//!
//! A connection has one request at a time, so that what waits is bounded by the connections.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::{Mutex, PoisonError};

/// The slots of one process.
#[derive(Debug)]
pub(crate) struct Slots {
    count: usize,
    /// When each that was ever taken is free, the earliest first.
    free_at_ns: Mutex<BinaryHeap<Reverse<u64>>>,
}

impl Slots {
    pub(crate) fn new(count: u32) -> Self {
        Self { count: count as usize, free_at_ns: Mutex::default() }
    }

    /// Takes the slot that is free first; when the request that came at `now_ns` is done. Of a beginning
    /// `done_at` says the end.
    ///
    /// Cost: a lock that all threads share, and logarithmic in the slots; only where they were asked for.
    pub(crate) fn take(
        &self,
        now_ns: impl FnOnce() -> u64,
        done_at: impl FnOnce(u64) -> u64,
    ) -> u64 {
        // Whole at every moment: a thread that died leaves nothing half done.
        let mut free_at_ns = self.free_at_ns.lock().unwrap_or_else(PoisonError::into_inner);
        // Under the lock, so that the order of the times is the order in which they take a slot.
        let now_ns = now_ns();
        let free_ns = if free_at_ns.len() < self.count {
            now_ns
        } else {
            free_at_ns.pop().map_or(now_ns, |Reverse(free_ns)| free_ns)
        };
        let done_ns = done_at(now_ns.max(free_ns));
        free_at_ns.push(Reverse(done_ns));
        done_ns
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_comes_too_many_waits_for_the_slot_that_is_free_first() {
        let slots = Slots::new(2);
        for (now_ns, took_ns, done_ns) in [
            (100, 50, 150),
            (100, 30, 130),
            // At 130, and at 150.
            (101, 10, 140),
            (101, 10, 150),
            (102, 40, 190),
            (103, 1, 151),
            // Both are free again, one since long.
            (1_000, 5, 1_005),
            (1_001, 5, 1_006),
            (1_002, 5, 1_010),
        ] {
            assert_eq!(slots.take(|| now_ns, |ns| ns + took_ns), done_ns, "at {now_ns}");
        }
        assert_eq!(slots.free_at_ns.lock().expect("no panic").len(), 2);
    }

    #[test]
    fn threads_together_have_no_more_than_the_slots() {
        let slots = Slots::new(3);
        let mut done_ns: Vec<u64> = std::thread::scope(|scope| {
            let take = || scope.spawn(|| slots.take(|| 0, |ns| ns + 10));
            let taken: Vec<_> = (0..12).map(|_| take()).collect();
            taken.into_iter().map(|it| it.join().expect("no panic")).collect()
        });
        done_ns.sort_unstable();
        assert_eq!(done_ns, [10, 10, 10, 20, 20, 20, 30, 30, 30, 40, 40, 40]);
    }
}
