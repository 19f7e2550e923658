//! What a worker lets other threads see of its loop: a pulse for the watchdog, a report per turn.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use crate::time::{self, Instant};

/// What a turn looked like; counters are totals since the runtime began.
#[derive(Clone, Copy, Debug)]
pub struct TurnReport {
    /// How long the turn's tasks ran.
    pub busy: Duration,
    /// When they had run.
    pub ended: Instant,
    /// How long something that came meanwhile has waited at the most, as far as is known: while they ran, all of
    /// the turn before, if tasks or completions were left then so that the engine did not wait; for how long the
    /// thread worked, in the kernel too; or how long completions waited there.
    pub lag: Duration,
    /// Waits: calls of `io_uring_enter` or `epoll_wait`.
    pub enters: u64,
    /// Operations handed to the kernel.
    pub submitted: u64,
    /// Operations that the kernel finished.
    pub completed: u64,
    /// Receives that found no buffer.
    pub starved: u64,
    /// Receive buffers that are not lent out.
    pub buffers_free: u64,
    /// Tasks that ended by a panic.
    pub task_panics: u64,
}

/// A worker's pulse, watched by another thread that looks for stalls.
///
/// The watcher costs an idle process nothing: it asks to be called ([`Pulse::call_when_busy`]) and
/// sleeps; the first turn after that calls it. The worker pays one store and one load per turn. The
/// request may be missed by one turn (no fence orders the worker's load after its store), and is
/// seen by the next.
#[derive(Debug)]
pub struct Pulse {
    busy_since_ns: AtomicU64,
    call: AtomicBool,
    eventfd: OwnedFd,
}

impl Pulse {
    /// A pulse that calls its watcher through `eventfd`.
    #[must_use]
    pub fn new(eventfd: OwnedFd) -> Self {
        Self { busy_since_ns: AtomicU64::new(0), call: AtomicBool::new(false), eventfd }
    }

    pub(crate) fn busy(&self, now: Instant) {
        self.busy_since_ns.store(now.as_nanos().max(1), Ordering::Relaxed);
        if self.call.load(Ordering::Relaxed) {
            self.call.store(false, Ordering::Relaxed);
            // EAGAIN means that the counter is full: the watcher is being called already.
            let _ = rustix::io::write(self.eventfd.as_fd(), &1_u64.to_ne_bytes());
        }
    }

    pub(crate) fn waiting(&self) {
        self.busy_since_ns.store(0, Ordering::Relaxed);
    }

    /// Asks the worker to write to the eventfd when its next turn begins.
    pub fn call_when_busy(&self) {
        self.call.store(true, Ordering::SeqCst);
    }

    /// When the worker's present turn began; `None` while it waits for something to do.
    #[must_use]
    pub fn busy_since(&self) -> Option<Instant> {
        match self.busy_since_ns.load(Ordering::Relaxed) {
            0 => None,
            ns => Some(Instant::from_nanos(ns)),
        }
    }

    /// How long the worker's present turn has lasted; zero while it waits.
    #[must_use]
    pub fn busy_for(&self) -> Duration {
        self.busy_since().map_or(Duration::ZERO, |since| time::monotonic().since(since))
    }
}
