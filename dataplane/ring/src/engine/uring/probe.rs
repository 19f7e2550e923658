//! How long completions wait in the kernel before a worker sees them.
//!
//! Where task work is deferred, an enter does only some of what is there (20 items in newer kernels,
//! `IO_LOCAL_TW_DEFAULT_MAX`), so that turns stay short however much waits. A timeout that is over at once stands
//! in that line like everything else, and how long it takes to come back is how long they all wait. It is sent
//! only where something waits anyhow, and seldom.

use std::time::Duration;

use io_uring::opcode;
use io_uring::types::Timespec;

use crate::engine::Io;
use crate::engine::uring::Uring;
use crate::engine::uring::tag::Kind;
use crate::time::{self, Instant};

/// The kernel copies it when the timeout is submitted.
static AT_ONCE: Timespec = Timespec::new();

/// From one to the next.
const EVERY: Duration = Duration::from_millis(5);

/// What is known of the line.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Probe {
    /// When the one was sent that stands in it.
    sent: Option<Instant>,
    next: Instant,
    /// How long the last one took.
    waited: Duration,
}

impl Probe {
    /// A turn begins at `now`, and work is there, or is not. Whether to send one.
    #[inline]
    pub(super) fn turn(&mut self, now: Instant, has_work: bool) -> bool {
        if self.sent.is_some() {
            return false;
        }
        if !has_work {
            self.waited = Duration::ZERO;
            return false;
        }
        let is_due = now >= self.next;
        if is_due {
            self.sent = Some(now);
            self.next = now + EVERY;
        }
        is_due
    }

    /// It has come back.
    pub(super) fn returned(&mut self, now: Instant) {
        if let Some(sent) = self.sent.take() {
            self.waited = now.since(sent);
        }
    }

    /// How long what comes now waits at the least, as far as is known at `now`.
    #[inline]
    pub(super) fn waited(&self, now: Instant) -> Duration {
        self.sent.map_or(self.waited, |sent| self.waited.max(now.since(sent)))
    }
}

impl Uring {
    /// Whether something is done that was not handled: the next turn won't wait.
    pub(crate) fn is_due(&mut self) -> bool {
        !self.finished.is_empty() || self.ring.submission().taskrun()
    }

    /// Sends one if it is time to, before the turn's enter, and says how long the line is.
    #[inline]
    pub(super) fn probe_line(&mut self, io: &mut Io) {
        let has_work = self.ring.submission().taskrun();
        if self.probe.turn(io.turned_at, has_work) {
            let entry = opcode::Timeout::new(&AT_ONCE).build();
            self.push(&entry.user_data((Kind::Probe as u64) << 56));
        }
        io.waited = self.probe.waited(io.turned_at);
    }

    pub(super) fn probe_returned(&mut self) {
        self.probe.returned(time::monotonic());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(us: u64) -> Instant {
        Instant::from_nanos(us * 1_000)
    }

    #[test]
    fn one_at_a_time_tells_how_long_the_line_is() {
        let mut probe = Probe::default();
        assert!(!probe.turn(at(1_000), false), "nothing waits");
        assert!(probe.turn(at(1_100), true));
        assert!(!probe.turn(at(1_200), true), "one stands in it");
        assert_eq!(probe.waited(at(1_300)), Duration::from_micros(200));
        probe.returned(at(9_100));
        assert_eq!(probe.waited(at(20_000)), Duration::from_millis(8));
        assert!(probe.turn(at(9_200), true));
        assert_eq!(
            probe.waited(at(9_300)),
            Duration::from_millis(8),
            "the last one's, until it is longer"
        );
        probe.returned(at(9_400));
        assert!(!probe.turn(at(9_500), true), "not so soon again");
        assert_eq!(probe.waited(at(9_500)), Duration::from_micros(200));
        assert!(!probe.turn(at(9_600), false));
        assert_eq!(probe.waited(at(9_600)), Duration::ZERO, "nothing waits any more");
        assert!(probe.turn(at(14_200), true));
    }
}
