//! When a queue is standing, and how long one may wait in it then: controlled delay (K. Nichols and
//! V. Jacobson, RFC 8289; for requests as B. Maurer, "Fail at Scale", ACM Queue 13(8), 2015).
//!
//! Before: who finds no room at a service waits, and it is told here how long that took. After: while nobody
//! got through sooner than the target for a whole interval the queue stands: it holds what will come too late
//! anyway. From then on one waits no longer than the target, until a window passes in which few had to be
//! turned away.
//!
//! ```text
//!          nobody within the target for an interval
//! flowing ──────────────────────────────────────────▶ standing ──┐ many turned away in a window
//!    ▲                                                   │  ▲────┘
//!    └──────── an eighth at the most turned away ────────┘
//! ```
//!
//! A queue that stood is not let grow again at the first moment without a wait, as RFC 8289 §4.2 has it:
//! where each waits no longer than the target, it is empty now and then even at three times the load that
//! can be served, and every second interval would let it fill anew.

use lateen_snapshot::model::overload::{Priority, QueueDelay};

/// Of those who asked within a window one in so many may have been turned away for the queue to flow again.
const TURNED_AWAY_SHARE: u64 = 8;
/// A window is an interval, and longer where fewer than so many asked …
const WINDOW_ASKED_MIN: u64 = 16;
/// … but no longer than so many intervals. Source: as long as Linux's CoDel remembers that it dropped.
const WINDOW_INTERVALS_MAX: u64 = 16;

/// How long those who wait for room take to get it.
#[derive(Debug, Default)]
pub struct Sojourns {
    /// Since when nobody got through within the target; `None`: somebody just did.
    above_since_ns: Option<u64>,
    /// The window at hand, while the queue stands.
    standing: Option<Window>,
    /// When somebody asked last.
    asked_ns: u64,
}

#[derive(Debug)]
struct Window {
    began_ns: u64,
    asked: u64,
    turned_away: u64,
}

impl Window {
    const fn at(began_ns: u64) -> Self {
        Self { began_ns, asked: 0, turned_away: 0 }
    }
}

impl Sojourns {
    /// Whether the queue stands.
    pub fn is_standing(&self) -> bool {
        self.standing.is_some()
    }

    /// So many asked for room; whoever waits longest has waited for `oldest_ns`, 0 if nobody does.
    pub fn asked(&mut self, terms: QueueDelay, count: u64, oldest_ns: u64, now_ns: u64) {
        let pause_ns = now_ns.saturating_sub(std::mem::replace(&mut self.asked_ns, now_ns));
        if pause_ns >= ns(terms.interval_ms) * WINDOW_INTERVALS_MAX {
            // What was then says nothing of now.
            (self.standing, self.above_since_ns) = (None, None);
        }
        self.note(terms, oldest_ns, now_ns);
        let Some(window) = &mut self.standing else { return };
        let interval_ns = ns(terms.interval_ms);
        let lasted_ns = now_ns.saturating_sub(window.began_ns);
        let is_over = lasted_ns >= interval_ns && window.asked >= WINDOW_ASKED_MIN
            || lasted_ns >= interval_ns * WINDOW_INTERVALS_MAX;
        if is_over {
            let flows = window.turned_away * TURNED_AWAY_SHARE <= window.asked;
            self.standing = (!flows).then(|| Window::at(now_ns));
            if flows {
                self.above_since_ns = None;
            }
        }
        if let Some(window) = &mut self.standing {
            window.asked += count;
        }
    }

    /// Somebody's turn has come after so long.
    pub fn note(&mut self, terms: QueueDelay, sojourn_ns: u64, now_ns: u64) {
        if sojourn_ns <= ns(terms.target_ms) {
            self.above_since_ns = None;
            return;
        }
        let since_ns = *self.above_since_ns.get_or_insert(now_ns);
        let is_long = now_ns.saturating_sub(since_ns) >= ns(terms.interval_ms);
        if is_long && self.standing.is_none() {
            self.standing = Some(Window::at(now_ns));
        }
    }

    /// Somebody was turned away because the queue stands.
    pub fn turned_away(&mut self) {
        if let Some(window) = &mut self.standing {
            window.turned_away += 1;
        }
    }

    /// How long one of this priority may wait, in nanoseconds; `None`: as long as anybody.
    pub fn patience_ns(&self, terms: QueueDelay, priority: Priority) -> Option<u64> {
        match (self.is_standing(), priority) {
            (false, _) | (true, Priority::Critical) => None,
            (true, Priority::Default) => Some(ns(terms.target_ms)),
            (true, Priority::Sheddable) => Some(0),
        }
    }
}

fn ns(span_ms: u32) -> u64 {
    u64::from(span_ms) * 1_000_000
}

#[cfg(test)]
mod tests {
    use super::*;

    const TERMS: QueueDelay = QueueDelay { target_ms: 5, interval_ms: 100 };
    const MS: u64 = 1_000_000;

    #[test]
    fn a_queue_stands_when_nobody_got_through_in_time_for_an_interval() {
        let mut sojourns = Sojourns::default();
        for at_ms in 0..100 {
            sojourns.note(TERMS, 6 * MS, at_ms * MS);
            assert!(!sojourns.is_standing(), "after {at_ms} ms");
        }
        sojourns.note(TERMS, 6 * MS, 100 * MS);
        assert!(sojourns.is_standing());
        let patience = |priority| sojourns.patience_ns(TERMS, priority);
        assert_eq!(patience(Priority::Critical), None);
        assert_eq!(patience(Priority::Default), Some(5 * MS));
        assert_eq!(patience(Priority::Sheddable), Some(0));
    }

    #[test]
    fn a_burst_that_drains_is_no_standing_queue() {
        let mut sojourns = Sojourns::default();
        for burst in 0..50 {
            for at_ms in 0..80 {
                sojourns.note(TERMS, at_ms * MS, (burst * 90 + at_ms) * MS);
            }
        }
        assert!(!sojourns.is_standing());
        assert_eq!(sojourns.patience_ns(TERMS, Priority::Sheddable), None);
    }

    #[test]
    fn one_that_waits_in_vain_is_enough_for_those_who_come() {
        let mut sojourns = Sojourns::default();
        for at_ms in 0..=106 {
            sojourns.asked(TERMS, 1, at_ms * MS, at_ms * MS);
        }
        assert!(sojourns.is_standing(), "though nobody ever got through");
    }

    fn standing() -> Sojourns {
        let mut sojourns = Sojourns::default();
        for at_ms in [0, 100] {
            sojourns.note(TERMS, 6 * MS, at_ms * MS);
        }
        assert!(sojourns.is_standing());
        sojourns
    }

    #[test]
    fn it_stands_as_long_as_many_are_turned_away() {
        let mut sojourns = standing();
        for at_ms in 100..10_000 {
            sojourns.asked(TERMS, 1, 0, at_ms * MS);
            if at_ms % 3 != 0 {
                sojourns.turned_away();
            }
            assert!(sojourns.is_standing(), "after {at_ms} ms");
        }
    }

    #[test]
    fn after_a_pause_it_does_not_stand() {
        let mut sojourns = standing();
        sojourns.asked(TERMS, 1, 0, 200 * MS);
        sojourns.turned_away();
        sojourns.asked(TERMS, 1, 0, 3_600_000 * MS);
        assert!(!sojourns.is_standing());
    }

    #[test]
    fn it_flows_again_once_few_are_turned_away() {
        let mut sojourns = standing();
        for at_ms in 100..200 {
            sojourns.asked(TERMS, 1, 0, at_ms * MS);
            if at_ms % 10 == 0 {
                sojourns.turned_away();
            }
            assert!(sojourns.is_standing(), "after {at_ms} ms");
        }
        sojourns.asked(TERMS, 1, 0, 200 * MS);
        assert!(!sojourns.is_standing());
    }

    #[test]
    fn where_few_ask_a_window_is_longer_but_has_an_end() {
        let mut sojourns = standing();
        for at_ms in [300, 900, 1_699] {
            sojourns.asked(TERMS, 1, 0, at_ms * MS);
            assert!(sojourns.is_standing(), "three are too few to tell");
        }
        sojourns.asked(TERMS, 1, 0, 1_700 * MS);
        assert!(!sojourns.is_standing());
    }
}
