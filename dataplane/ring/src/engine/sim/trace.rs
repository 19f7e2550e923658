//! What happened in the network: a digest to compare runs by, and the latest events in words.

use std::collections::VecDeque;
use std::fmt::Write as _;

use crate::time::Instant;

/// One thing that happened to an end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum What {
    Listens,
    Connects,
    Answered,
    Accepting,
    Sent,
    Arrived,
    Read,
    FinSent,
    ResetArrived,
    Stalled,
    Closed,
}

pub(crate) struct Trace {
    digest: u64,
    events: VecDeque<(Instant, What, u32, usize)>,
    events_max: usize,
}

impl Trace {
    pub(super) fn new(events_max: usize) -> Self {
        // FNV-1a's offset and prime; the rotation spreads what multiplication moves up only.
        Self { digest: 0xcbf2_9ce4_8422_2325, events: VecDeque::new(), events_max }
    }

    pub(super) fn note(&mut self, now: Instant, what: What, end: u32, count: usize) {
        for word in [now.as_nanos(), what as u64, u64::from(end), count as u64] {
            self.digest = (self.digest ^ word).wrapping_mul(0x0000_0100_0000_01b3).rotate_left(23);
        }
        if self.events_max > 0 {
            if self.events.len() == self.events_max {
                self.events.pop_front();
            }
            self.events.push_back((now, what, end, count));
        }
    }

    pub(crate) fn digest(&self) -> u64 {
        self.digest
    }

    /// A line for each of the latest events.
    pub(crate) fn journal(&self) -> String {
        let mut text = String::new();
        for (at, what, end, count) in &self.events {
            let _ = writeln!(text, "{:>17} ns  socket {end}  {what:?} {count}", at.as_nanos());
        }
        text
    }
}
