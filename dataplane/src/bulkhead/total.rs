//! The caps of a service as the process has them, and who waits for room.
//!
//! A lock is taken when units are lent to a worker or come back, and for who has to wait; what a worker
//! has left needs none. Where a service's policy bounds how long one may wait, who waited for too long is
//! turned away when its turn comes, or when the queue begins to stand ([`codel`](crate::decide::overload::codel)).

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;
use std::time::Duration;

use lateen_snapshot::model::overload::{Priority, QueueDelay};

use crate::decide::lease::count::Units;
use crate::decide::overload::codel::Sojourns;

/// Of one service.
#[derive(Debug, Default)]
pub struct BulkheadTotal {
    gates: [GateTotal; Resource::ALL.len()],
    /// The tasks that look after idle connections: of each worker, one for each part that has some.
    keepers: Mutex<Vec<Waker>>,
    /// Connections that are there for clients who have said nothing yet.
    spares: Mutex<Vec<Arc<Spare>>>,
    /// Somebody has asked for a connection in vain and does not wait.
    has_missed: AtomicBool,
}

/// A connection that nobody has a use for yet, and which is given up as soon as somebody has one for its
/// place.
#[derive(Debug)]
pub struct Spare {
    is_wanted: AtomicBool,
    keeper: Waker,
}

impl Spare {
    /// Whether it is to be given up.
    pub fn is_wanted(&self) -> bool {
        self.is_wanted.load(Ordering::Acquire)
    }
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

    /// There is a connection that can be given up, which `keeper` looks after.
    pub fn enter_spare(&self, keeper: Waker) -> Arc<Spare> {
        let spare = Arc::new(Spare { is_wanted: AtomicBool::new(false), keeper });
        lock(&self.spares).push(spare.clone());
        // Whoever waits already has looked for one in vain.
        if self.gate(Resource::Connection).waiting() > 0 {
            spare.is_wanted.store(true, Ordering::Release);
        }
        spare
    }

    /// It has a use now, or is gone.
    pub fn leave_spare(&self, spare: &Arc<Spare>) {
        lock(&self.spares).retain(|other| !Arc::ptr_eq(other, spare));
    }

    /// A place is needed: one that is spare is given up.
    pub fn recall_spare(&self) {
        if let Some(spare) = lock(&self.spares).pop() {
            spare.is_wanted.store(true, Ordering::Release);
            spare.keeper.wake_by_ref();
        }
    }

    /// Somebody asked for a connection, and waits or does not: what idles on whatever worker is to be given
    /// up.
    pub fn recall(&self, waits: bool) {
        let keepers = lock(&self.keepers);
        if !waits && !keepers.is_empty() {
            self.has_missed.store(true, Ordering::Release);
        }
        keepers.iter().for_each(Waker::wake_by_ref);
    }

    /// 1 for the first who looks after somebody asked in vain.
    pub fn take_missed(&self) -> usize {
        let has_missed = self.has_missed.load(Ordering::Relaxed)
            && self.has_missed.swap(false, Ordering::AcqRel);
        usize::from(has_missed)
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
    /// When it is to be told next how long the oldest has waited.
    next_look_ns: AtomicU64,
}

#[derive(Debug, Default)]
struct State {
    units: Units,
    /// The most that were lent at a time since that was forgotten.
    peak: u64,
    /// As who asked last has it.
    terms: Terms,
    queue: VecDeque<Arc<Ticket>>,
    sojourns: Sojourns,
}

/// What a policy says of a cap.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Terms {
    /// So many at a time.
    pub cap: u64,
    /// How long one may wait for room; `None`: as long as it has patience.
    pub delay: Option<QueueDelay>,
}

/// A place in the queue, over all workers.
#[derive(Debug)]
pub struct Ticket {
    word: AtomicU8,
    priority: Priority,
    joined_ns: u64,
    waker: Waker,
}

/// Words of a [`Ticket`].
const WAITS: u8 = 0;
const GRANTED: u8 = 1;
const TURNED_AWAY: u8 = 2;

impl Ticket {
    /// Whether its turn has come: one unit is lent to who holds it.
    pub fn is_granted(&self) -> bool {
        self.word.load(Ordering::Acquire) == GRANTED
    }

    /// Since when it waits.
    pub fn joined_ns(&self) -> u64 {
        self.joined_ns
    }

    /// Whether it has waited for too long.
    pub fn is_turned_away(&self) -> bool {
        self.word.load(Ordering::Acquire) == TURNED_AWAY
    }

    fn tell(&self, word: u8) {
        self.word.store(word, Ordering::Release);
        self.waker.wake_by_ref();
    }
}

/// What became of the wish to wait.
#[derive(Debug)]
pub enum Joined {
    /// There was a unit after all; it is lent.
    Unit,
    /// This place in the queue.
    Queued {
        /// The place.
        ticket: Arc<Ticket>,
        /// How long it may be held, in nanoseconds; `None`: as long as anybody likes.
        patience_ns: Option<u64>,
    },
    /// The queue is full.
    Full,
    /// The queue stands, and one like this does not wait then.
    TurnedAway,
}

impl GateTotal {
    /// How many wait.
    #[inline]
    pub fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Acquire)
    }

    /// Since when who waits longest does.
    pub fn oldest_ns(&self) -> Option<u64> {
        lock(&self.state).queue.front().map(|ticket| ticket.joined_ns)
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

    /// The most that were lent at a time since that was forgotten.
    pub fn peak(&self) -> u64 {
        lock(&self.state).peak
    }

    /// Forgets it.
    pub fn forget_peak(&self) {
        let mut state = lock(&self.state);
        state.peak = state.units.lent();
    }

    /// Lends up to `wanted` units; how many. None while somebody waits.
    pub fn lend(&self, terms: Terms, wanted: u64, now_ns: u64) -> u64 {
        let mut state = lock(&self.state);
        state.terms = terms;
        self.serve(&mut state, now_ns);
        let lent = if state.queue.is_empty() { state.lend(wanted) } else { 0 };
        if let Some(delay) = terms.delay
            && lent > 0
        {
            // One asks, and leaves the others to those who come next.
            state.sojourns.asked(delay, lent, 0, now_ns);
        }
        lent
    }

    /// A unit, or a place behind at most `queue_max` - 1 others. The waker is of who waits.
    pub fn join(
        &self,
        terms: Terms,
        queue_max: usize,
        (priority, waker): (Priority, &Waker),
        now_ns: u64,
    ) -> Joined {
        let mut state = lock(&self.state);
        state.terms = terms;
        self.serve(&mut state, now_ns);
        let oldest_ns = state.queue.front().map(|ticket| now_ns.saturating_sub(ticket.joined_ns));
        if let Some(delay) = terms.delay {
            state.note(|sojourns| sojourns.asked(delay, 1, oldest_ns.unwrap_or(0), now_ns), now_ns);
            self.waiting.store(state.queue.len(), Ordering::Release);
        }
        if state.queue.is_empty() && state.lend(1) == 1 {
            return Joined::Unit;
        }
        if state.queue.len() >= queue_max {
            return Joined::Full;
        }
        let patience_ns = state.patience_ns(priority);
        if patience_ns == Some(0) {
            state.sojourns.turned_away();
            return Joined::TurnedAway;
        }
        let ticket = Arc::new(Ticket {
            word: AtomicU8::new(WAITS),
            priority,
            joined_ns: now_ns,
            waker: waker.clone(),
        });
        state.queue.push_back(Arc::clone(&ticket));
        self.waiting.store(state.queue.len(), Ordering::Release);
        Joined::Queued { ticket, patience_ns }
    }

    /// So many units come back. Whoever waits longest gets what there is.
    pub fn take_back(&self, count: u64, now_ns: u64) {
        let mut state = lock(&self.state);
        state.units.take_back(count);
        self.serve(&mut state, now_ns);
        drop(state);
        self.clear_failing();
    }

    /// The terms are these from now on. Whoever waits gets what there is more.
    pub fn set_terms(&self, terms: Terms, now_ns: u64) {
        let mut state = lock(&self.state);
        state.terms = terms;
        self.serve(&mut state, now_ns);
    }

    /// Who waits tells how long the oldest has: nobody else may come, and nothing may come free. When it is to
    /// do so again.
    pub fn look(&self, terms: Terms, now_ns: u64) -> Duration {
        let Some(delay) = terms.delay else { return Duration::MAX };
        let interval = Duration::from_millis(delay.interval_ms.into());
        let next_ns = self.next_look_ns.load(Ordering::Relaxed);
        if now_ns < next_ns {
            // One of them is enough.
            return Duration::from_nanos(next_ns - now_ns);
        }
        self.next_look_ns.store(now_ns + interval.as_nanos() as u64, Ordering::Relaxed);
        let mut state = lock(&self.state);
        state.terms = terms;
        if let Some(oldest) = state.queue.front() {
            let sojourn_ns = now_ns.saturating_sub(oldest.joined_ns);
            state.note(|sojourns| sojourns.note(delay, sojourn_ns, now_ns), now_ns);
            self.waiting.store(state.queue.len(), Ordering::Release);
        }
        interval
    }

    /// Gives a place in the queue up, because it was held for too long or for whatever reason. True if its
    /// turn had come: the unit is the caller's.
    pub fn leave(&self, ticket: &Arc<Ticket>, is_too_late: bool) -> bool {
        let mut state = lock(&self.state);
        if ticket.is_granted() {
            return true;
        }
        if is_too_late && !ticket.is_turned_away() {
            state.sojourns.turned_away();
        }
        state.queue.retain(|other| !Arc::ptr_eq(other, ticket));
        self.waiting.store(state.queue.len(), Ordering::Release);
        false
    }

    /// Gives what there is to those who wait, in their order.
    fn serve(&self, state: &mut State, now_ns: u64) {
        if state.queue.is_empty() {
            return;
        }
        while !state.queue.is_empty() && state.lend(1) == 1 {
            let ticket = state.queue.pop_front().expect("it is not empty");
            let sojourn_ns = now_ns.saturating_sub(ticket.joined_ns);
            if let Some(delay) = state.terms.delay {
                state.note(|sojourns| sojourns.note(delay, sojourn_ns, now_ns), now_ns);
            }
            if state.is_too_late(&ticket, now_ns) {
                state.units.take_back(1);
                state.sojourns.turned_away();
                ticket.tell(TURNED_AWAY);
            } else {
                ticket.tell(GRANTED);
            }
        }
        self.waiting.store(state.queue.len(), Ordering::Release);
    }

    /// Something came free.
    #[inline]
    pub fn clear_failing(&self) {
        if self.failing.load(Ordering::Relaxed) {
            self.failing.store(false, Ordering::Release);
        }
    }
}

impl State {
    fn lend(&mut self, wanted: u64) -> u64 {
        let lent = self.units.lend(self.terms.cap, wanted);
        self.peak = self.peak.max(self.units.lent());
        lent
    }

    fn patience_ns(&self, priority: Priority) -> Option<u64> {
        self.sojourns.patience_ns(self.terms.delay?, priority)
    }

    fn is_too_late(&self, ticket: &Ticket, now_ns: u64) -> bool {
        let patience_ns = self.patience_ns(ticket.priority);
        patience_ns.is_some_and(|most_ns| now_ns.saturating_sub(ticket.joined_ns) > most_ns)
    }

    /// Tells of a sojourn. Where the queue begins to stand by it, those go at once who wait for too long.
    fn note(&mut self, tell: impl FnOnce(&mut Sojourns), now_ns: u64) {
        let stood = self.sojourns.is_standing();
        tell(&mut self.sojourns);
        if stood || !self.sojourns.is_standing() {
            return;
        }
        let queue = std::mem::take(&mut self.queue);
        let (late, left) = queue.into_iter().partition(|ticket| self.is_too_late(ticket, now_ns));
        self.queue = left;
        let late: VecDeque<Arc<Ticket>> = late;
        for ticket in late {
            self.sojourns.turned_away();
            ticket.tell(TURNED_AWAY);
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
