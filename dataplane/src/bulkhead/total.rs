//! The caps of a service as the process has them, and who waits for room.
//!
//! A lock is taken when units are lent to a worker or come back, and for who has to wait; what a worker
//! has left needs none.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;

use crate::decide::lease::count::Units;

/// Of one service.
#[derive(Debug, Default)]
pub struct BulkheadTotal {
    gates: [GateTotal; Resource::ALL.len()],
    /// The tasks that look after idle connections: of each worker, one for each part that has some.
    keepers: Mutex<Vec<Waker>>,
}

/// What there is a cap of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Resource {
    /// Connections to all endpoints together, idle ones included.
    Connection,
    /// Requests that were sent, or are about to be.
    Request,
    /// Those of them that are another try.
    Retry,
}

impl Resource {
    /// Every resource, at its index.
    pub const ALL: [Self; 3] = [Self::Connection, Self::Request, Self::Retry];

    /// The label's value.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Connection => "connections",
            Self::Request => "requests",
            Self::Retry => "retries",
        }
    }
}

impl BulkheadTotal {
    /// What there is of a resource.
    pub fn gate(&self, of: Resource) -> &GateTotal {
        &self.gates[of as usize]
    }

    /// Somebody looks after idle connections from now on.
    pub fn enter_keeper(&self, keeper: &Waker) {
        lock(&self.keepers).push(keeper.clone());
    }

    /// There are none any more.
    pub fn leave_keeper(&self, keeper: &Waker) {
        lock(&self.keepers).retain(|other| !other.will_wake(keeper));
    }

    /// Somebody waits for a connection: what idles on whatever worker is to be given up.
    pub fn recall(&self) {
        lock(&self.keepers).iter().for_each(Waker::wake_by_ref);
    }
}

/// One cap.
#[derive(Debug, Default)]
pub struct GateTotal {
    state: Mutex<State>,
    /// As many as wait in the queue, for who has no lock.
    waiting: AtomicUsize,
    /// Somebody has waited in vain, and nothing came free since: nobody else waits.
    failing: AtomicBool,
}

#[derive(Debug, Default)]
struct State {
    units: Units,
    /// As who asked last has it.
    cap: u64,
    queue: VecDeque<Arc<Ticket>>,
}

/// A place in the queue, over all workers.
#[derive(Debug)]
pub struct Ticket {
    granted: AtomicBool,
    waker: Waker,
}

impl Ticket {
    /// Whether its turn has come: one unit is lent to who holds it.
    pub fn is_granted(&self) -> bool {
        self.granted.load(Ordering::Acquire)
    }
}

/// What became of the wish to wait.
#[derive(Debug)]
pub enum Joined {
    /// There was a unit after all; it is lent.
    Unit,
    /// This place in the queue.
    Queued(Arc<Ticket>),
    /// The queue is full.
    Full,
}

impl GateTotal {
    /// How many wait.
    #[inline]
    pub fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Acquire)
    }

    /// Whether it fails at once who would have to wait.
    pub fn is_failing(&self) -> bool {
        self.failing.load(Ordering::Acquire)
    }

    /// Somebody has waited in vain.
    pub fn set_failing(&self) {
        self.failing.store(true, Ordering::Release);
    }

    /// How many units are lent.
    pub fn lent(&self) -> u64 {
        lock(&self.state).units.lent()
    }

    /// Lends up to `wanted` units; how many.
    pub fn lend(&self, cap: u64, wanted: u64) -> u64 {
        let mut state = lock(&self.state);
        state.cap = cap;
        state.units.lend(cap, wanted)
    }

    /// A unit, or a place behind at most `queue_max` - 1 others. The waker is of who waits.
    pub fn join(&self, cap: u64, queue_max: usize, waker: &Waker) -> Joined {
        let mut state = lock(&self.state);
        state.cap = cap;
        if state.units.lend(cap, 1) == 1 {
            return Joined::Unit;
        }
        if state.queue.len() >= queue_max {
            return Joined::Full;
        }
        let ticket = Arc::new(Ticket { granted: AtomicBool::new(false), waker: waker.clone() });
        state.queue.push_back(Arc::clone(&ticket));
        self.waiting.store(state.queue.len(), Ordering::Release);
        Joined::Queued(ticket)
    }

    /// So many units come back. Whoever waits longest gets what there is.
    pub fn take_back(&self, count: u64) {
        let mut state = lock(&self.state);
        state.units.take_back(count);
        while !state.queue.is_empty() && {
            let cap = state.cap;
            state.units.lend(cap, 1) == 1
        } {
            let ticket = state.queue.pop_front().expect("it is not empty");
            ticket.granted.store(true, Ordering::Release);
            ticket.waker.wake_by_ref();
        }
        self.waiting.store(state.queue.len(), Ordering::Release);
        drop(state);
        self.clear_failing();
    }

    /// Gives a place in the queue up. True if its turn had come: the unit is the caller's.
    pub fn leave(&self, ticket: &Arc<Ticket>) -> bool {
        let mut state = lock(&self.state);
        if ticket.is_granted() {
            return true;
        }
        state.queue.retain(|other| !Arc::ptr_eq(other, ticket));
        self.waiting.store(state.queue.len(), Ordering::Release);
        false
    }

    /// Something came free.
    #[inline]
    pub fn clear_failing(&self) {
        if self.failing.load(Ordering::Relaxed) {
            self.failing.store(false, Ordering::Release);
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
