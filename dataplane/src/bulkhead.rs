//! Bulkheads: how much of the process one service may take, and who waits while it takes all of that.
//!
//! Before: a request is to go to a cluster, or a connection is to be opened. After: it has a [`Unit`] of the
//! cap as long as it lasts, or fails with `UO`. The caps are the process's ([`total`]); a worker keeps
//! what it was lent and did not use for its own next need.
//!
//! ```text
//!            room                       ┌── a unit comes free ──▶ entered
//! asked ──────────────▶ entered         │
//!   │ full                              │   ┌── a connection of this worker is done with ──▶ used
//!   ├── the queue has a place ──▶ waits ┴───┤
//!   │                                       └── queue timeout ──▶ UO, and from now on nobody waits
//!   └── it has none, or somebody waited in vain and nothing came free since ──▶ UO
//! ```
//!
//! Where a policy bounds the delay of the queue, who would be late is turned away with `OM`; where it has the
//! cap of requests follow how long they take, [`adaptive`] finds it.

pub mod adaptive;
mod recall;
mod spare;
pub mod total;

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Poll, Waker};
use std::time::Duration;

use lateen_ring::{Deadline, Instant, TaskHandle};
use lateen_snapshot::model::bulkhead::Caps;
use lateen_snapshot::model::overload::{Overload, Priority, QueueDelay};
use lateen_snapshot::model::{Cluster as ClusterSpec, ClusterPolicy};

use crate::bulkhead::adaptive::Adaptive;
use crate::bulkhead::total::{GateTotal, Joined, Resource, Terms, Ticket};
use crate::cluster::Chosen;
use crate::decide::lease::count::{UnitLease, batch_size};
use crate::failure::{Failure, Stage};
use crate::forward::pool::{ClusterIdle, Upstream};
use crate::limits;
use crate::observe::metrics::bulkhead::{BulkheadMetrics, Overflow};
use crate::observe::metrics::overload::ShedCause;
use crate::shard::{Counters, Shard};
use crate::totals::ServiceTotals;

/// What a worker has of the caps of a service, of which a cluster may be a part. Survives snapshots.
pub struct Bulkhead {
    caps: Cell<Caps>,
    delay: Cell<Option<QueueDelay>>,
    /// Finds the cap of requests, if a policy wants that.
    adaptive: RefCell<Option<Rc<Adaptive>>>,
    workers: usize,
    counters: Rc<Counters>,
    totals: Arc<ServiceTotals>,
    leases: [Cell<UnitLease>; Resource::ALL.len()],
    /// The task that looks whether what is spare of them is of use, and its waker while nothing is.
    looks_after: RefCell<Option<TaskHandle>>,
    rests: Cell<Option<Waker>>,
    /// This worker's, of those who wait for a connection: one of its own that is done with does as well.
    waiters: RefCell<VecDeque<Rc<Waiter>>>,
    waiting_here: Cell<usize>,
}

/// A unit of a cap, which comes back when it is dropped. What it is of is no part of its value, so that it
/// is a word.
pub struct Unit<const OF: usize>(Rc<Bulkhead>);

/// Of the cap of connections.
pub type ConnectionUnit = Unit<{ Resource::Connection as usize }>;
/// Of the cap of requests.
pub type RequestUnit = Unit<{ Resource::Request as usize }>;
/// Of the cap of other tries.
pub type RetryUnit = Unit<{ Resource::Retry as usize }>;

/// What there is for who asked for a connection.
pub enum Room {
    /// One may be opened.
    Unit(ConnectionUnit),
    /// This one is idle, or was done with.
    Connection(Box<(Chosen, Upstream)>),
}

/// What a wait has brought.
enum Got<const OF: usize> {
    Unit(Unit<OF>),
    Connection(Box<(Chosen, Upstream)>),
}

struct Waiter {
    /// Whose connections are of use.
    cluster: Rc<ClusterIdle>,
    ticket: Arc<Ticket>,
    waker: Waker,
    handed: RefCell<Option<Box<(Chosen, Upstream)>>>,
}

/// The caps of a cluster whose policy says nothing, or not of all of them.
pub fn caps_of(policy: &ClusterPolicy) -> Caps {
    policy.bulkhead.as_deref().copied().unwrap_or(Caps {
        connections_max: limits::BULKHEAD_CONNECTIONS_MAX,
        pending_max: limits::BULKHEAD_PENDING_MAX,
        requests_max: None,
        retries_max: None,
        queue_timeout_ms: limits::BULKHEAD_QUEUE_TIMEOUT.as_millis() as u32,
    })
}

impl Bulkhead {
    /// Nothing is lent yet.
    pub fn new(shard: &Shard, caps: Caps, totals: Arc<ServiceTotals>) -> Rc<Self> {
        Rc::new(Self {
            caps: Cell::new(caps),
            delay: Cell::new(None),
            adaptive: RefCell::default(),
            workers: shard.config.workers,
            counters: shard.counters(),
            totals,
            leases: Default::default(),
            looks_after: RefCell::default(),
            rests: Cell::default(),
            waiters: RefCell::default(),
            waiting_here: Cell::new(0),
        })
    }

    /// Goes by what a snapshot says of the cluster. What is in use beyond its caps comes back in its time.
    pub fn follow(&self, spec: &ClusterSpec) {
        self.set_caps(caps_of(&spec.policy));
        let service = spec.policy.part_of.as_deref().unwrap_or(&spec.name);
        self.set_overload(service, spec.policy.overload.as_deref());
        Resource::ALL.into_iter().for_each(|of| self.give_up(of, false));
    }

    /// The caps are these from now on.
    pub fn set_caps(&self, caps: Caps) {
        let before = self.caps.replace(caps);
        let grows = |before: Option<u32>, now: Option<u32>| {
            before.is_some_and(|before| before < u32::MAX && now.is_none_or(|now| now > before))
        };
        // Whoever waited in vain did so for less.
        if caps.connections_max > before.connections_max {
            self.gate(Resource::Connection).clear_failing();
        }
        if grows(before.requests_max, caps.requests_max) {
            self.gate(Resource::Request).clear_failing();
        }
    }

    /// The same for who is turned away. After the caps.
    pub fn set_overload(&self, name: &str, overload: Option<&Overload>) {
        self.delay.set(overload.map(|overload| overload.queue_delay));
        let bounds = overload.and_then(|overload| overload.concurrency);
        let mut adaptive = self.adaptive.borrow_mut();
        match (&*adaptive, bounds) {
            (Some(adaptive), Some(bounds)) => adaptive.set_bounds(bounds),
            (None, Some(bounds)) => {
                *adaptive = Some(Adaptive::join(&self.totals, bounds, &self.counters, name));
            }
            (_, None) => *adaptive = None,
        }
        if bounds.is_some() {
            let mut caps = self.caps.get();
            caps.requests_max.get_or_insert(u32::MAX);
            self.caps.set(caps);
        }
    }

    /// Whether requests have a cap of their own.
    #[inline]
    pub fn caps_requests(&self) -> bool {
        self.caps.get().requests_max.is_some()
    }

    /// Takes a unit, if there is one. Whoever has no patience asks so: a retry, or a copy for a mirror.
    #[inline]
    pub fn try_enter<const OF: usize>(self: &Rc<Self>) -> Option<Unit<OF>> {
        let of = Resource::ALL[OF];
        let lease = &self.leases[of as usize];
        let mut units = lease.get();
        if !units.take() {
            let terms = self.terms(of);
            let batch = batch_size(terms.cap, self.workers);
            let lent = self.gate(of).lend(terms, batch, lateen_ring::now().as_nanos());
            units.lent(lent);
            if batch > 1 {
                self.look_after_spare();
            }
            if !units.take() {
                return None;
            }
        }
        lease.set(units);
        Some(Unit(Rc::clone(self)))
    }

    /// As [`try_enter`](Self::try_enter) for another try of a request. A refusal is counted.
    pub fn try_retry(self: &Rc<Self>) -> Option<RetryUnit> {
        let unit = self.try_enter();
        if unit.is_none() {
            self.metrics().overflow(Resource::Retry, Overflow::QueueFull).increment();
        }
        unit
    }

    /// Takes a unit, or waits for one: until `until`, and not longer than the queue's own timeout.
    ///
    /// # Errors
    /// [`Failure::overflow`] or [`Failure::overloaded`], or [`Failure::upstream_timeout`] if `until` came first.
    pub async fn enter<const OF: usize>(
        self: &Rc<Self>,
        priority: Priority,
        deadline: &Deadline,
        until: Instant,
    ) -> Result<Unit<OF>, Failure> {
        if let Some(unit) = self.try_enter() {
            return Ok(unit);
        }
        match self.wait::<OF>(None, priority, deadline, until).await? {
            Got::Unit(unit) => Ok(unit),
            Got::Connection(_) => unreachable!("it waits for a unit alone"),
        }
    }

    /// Room for a connection for a request, to whatever endpoint of a cluster: a new one, or one that
    /// another request leaves behind.
    ///
    /// # Errors
    /// As [`enter`](Self::enter).
    pub async fn room(
        self: &Rc<Self>,
        cluster: &Rc<ClusterIdle>,
        priority: Priority,
        deadline: &Deadline,
        until: Instant,
        idle: impl FnOnce() -> Option<(Chosen, Upstream)>,
    ) -> Result<Room, Failure> {
        if let Some(unit) = self.try_enter() {
            return Ok(Room::Unit(unit));
        }
        if let Some(idle) = idle() {
            return Ok(Room::Connection(Box::new(idle)));
        }
        Ok(match self.wait(Some(cluster), priority, deadline, until).await? {
            Got::Unit(unit) => Room::Unit(unit),
            Got::Connection(handed) => Room::Connection(handed),
        })
    }

    async fn wait<const OF: usize>(
        self: &Rc<Self>,
        takes_connections_of: Option<&Rc<ClusterIdle>>,
        priority: Priority,
        deadline: &Deadline,
        until: Instant,
    ) -> Result<Got<OF>, Failure> {
        let of = Resource::ALL[OF];
        let (gate, caps) = (self.gate(of), self.caps.get());
        let overflow = |how: Overflow| {
            self.metrics().overflow(of, how).increment();
            Failure::overflow(Stage::Decide)
        };
        if gate.is_failing() {
            return Err(overflow(Overflow::FailFast));
        }
        let waker = poll_fn(|cx| Poll::Ready(cx.waker().clone())).await;
        let began = lateen_ring::now();
        let asks = (priority, &waker);
        let joined = gate.join(self.terms(of), caps.pending_max as usize, asks, began.as_nanos());
        let (ticket, patience_ns) = match joined {
            Joined::Unit => return Ok(Got::Unit(self.granted())),
            Joined::Full => {
                self.recall(of, false);
                return Err(overflow(Overflow::QueueFull));
            }
            Joined::TurnedAway => return Err(self.turn_away(of, priority)),
            Joined::Queued { ticket, patience_ns } => (ticket, patience_ns),
        };
        self.metrics().queued(of).increment();
        self.recall(of, true);
        let cluster = takes_connections_of.cloned().unwrap_or_default();
        let waiter = Rc::new(Waiter { cluster, ticket, waker, handed: RefCell::new(None) });
        let (is_left, is_too_late) = (Cell::new(false), Cell::new(false));
        let place = Place::<OF> { bulkhead: self, waiter: &waiter, is_left, is_too_late };
        if takes_connections_of.is_some() {
            self.waiting_here.set(self.waiting_here.get() + 1);
            self.waiters.borrow_mut().push_back(Rc::clone(&waiter));
        }
        let gives_up = began + Duration::from_millis(caps.queue_timeout_ms.into());
        let too_late = began + patience_ns.map_or(Duration::MAX, Duration::from_nanos);
        let ends = gives_up.min(too_late).min(until);
        deadline.set(ends.min(began + self.delay.get().map_or(Duration::MAX, first_look)));
        let got = poll_fn(|cx| {
            loop {
                if waiter.ticket.is_granted() || waiter.handed.borrow().is_some() {
                    return Poll::Ready(true);
                }
                if waiter.ticket.is_turned_away() {
                    return Poll::Ready(false);
                }
                if deadline.poll_past(cx).is_pending() {
                    return Poll::Pending;
                }
                let now = lateen_ring::now();
                if now >= ends {
                    return Poll::Ready(false);
                }
                deadline.set(ends.min(now + gate.look(self.terms(of), now.as_nanos())));
            }
        })
        .await;
        deadline.clear();
        if got {
            return Ok(place.take());
        }
        let now = lateen_ring::now();
        let is_too_late = now < until && now >= too_late;
        place.is_too_late.set(is_too_late);
        drop(place);
        if is_too_late || waiter.ticket.is_turned_away() {
            return Err(self.turn_away(of, priority));
        }
        if now >= until {
            return Err(Failure::upstream_timeout(Stage::Decide));
        }
        gate.set_failing();
        Err(overflow(Overflow::TimedOut))
    }

    /// Somebody of this priority would get through too late.
    #[cold]
    fn turn_away(&self, of: Resource, priority: Priority) -> Failure {
        let is_found = of == Resource::Request && self.adaptive.borrow().is_some();
        let cause = if is_found { ShedCause::Concurrency } else { ShedCause::QueueDelay };
        self.counters.of_worker().overload.shed(cause, priority).increment();
        Failure::overloaded(Stage::Decide)
    }

    /// Whether somebody of this worker would rather have a connection than see it idle.
    #[inline]
    pub fn is_waited_for_here(&self) -> bool {
        self.waiting_here.get() > 0
    }

    /// Hands a connection that is done with to who waits longest here for one of its cluster.
    ///
    /// # Errors
    /// Nobody does, but for another part of the service, or somebody waits for much longer on another worker:
    /// the room is to be theirs.
    pub fn hand_over(&self, chosen: &Chosen, upstream: Upstream) -> Result<(), Upstream> {
        let gate = self.gate(Resource::Connection);
        let others_wait = gate.waiting() > self.waiting_here.get();
        let oldest_ns = if others_wait { gate.oldest_ns() } else { None };
        let lead_ns = limits::HAND_OVER_LEAD.as_nanos() as u64;
        let latest_ns = oldest_ns.map_or(u64::MAX, |oldest_ns| oldest_ns.saturating_add(lead_ns));
        let waiter = {
            let mut waiters = self.waiters.borrow_mut();
            let is_of = |waiter: &Rc<Waiter>| Rc::ptr_eq(&waiter.cluster, &chosen.cluster.idle);
            let found = waiters.iter().position(is_of);
            let in_turn = |at: &usize| waiters[*at].ticket.joined_ns() <= latest_ns;
            found.filter(in_turn).and_then(|at| waiters.remove(at))
        };
        let Some(waiter) = waiter else { return Err(upstream) };
        self.waiting_here.set(self.waiting_here.get() - 1);
        *waiter.handed.borrow_mut() = Some(Box::new((chosen.clone(), upstream)));
        waiter.waker.wake_by_ref();
        self.gate(Resource::Connection).clear_failing();
        self.metrics().handed_over.increment();
        Ok(())
    }

    /// How many wait for a connection.
    pub fn waiting(&self) -> usize {
        self.gate(Resource::Connection).waiting()
    }

    /// 1 if somebody has asked for a connection in vain, who does not wait; for the first who looks.
    pub fn take_missed(&self) -> usize {
        self.totals.bulkhead.take_missed()
    }

    /// How many wait for a connection who can't be handed one of this cluster's here: of other workers, for
    /// another part of the service, or for a unit alone.
    #[inline]
    pub fn wanted_elsewhere(&self, of: &Rc<ClusterIdle>) -> usize {
        let waiting = self.gate(Resource::Connection).waiting();
        if waiting == 0 || self.waiting_here.get() == 0 {
            return waiting;
        }
        let waiters = self.waiters.borrow();
        let here = waiters.iter().filter(|waiter| Rc::ptr_eq(&waiter.cluster, of)).count();
        waiting.saturating_sub(here)
    }

    /// A unit was lent to one of this worker's.
    fn granted<const OF: usize>(self: &Rc<Self>) -> Unit<OF> {
        let lease = &self.leases[OF];
        let mut units = lease.get();
        units.lent(1);
        let taken = units.take();
        debug_assert!(taken, "it was just lent");
        lease.set(units);
        Unit(Rc::clone(self))
    }

    #[inline]
    fn release(&self, of: Resource) {
        let (lease, gate) = (&self.leases[of as usize], self.gate(of));
        let mut units = lease.get();
        let batch = batch_size(self.cap(of), self.workers);
        let back = units.release(batch, gate.waiting() > 0);
        lease.set(units);
        match back {
            0 => {
                gate.clear_failing();
                self.note_spare();
            }
            back => gate.take_back(back, lateen_ring::now().as_nanos()),
        }
    }

    fn terms(&self, of: Resource) -> Terms {
        let delay = if of == Resource::Retry { None } else { self.delay.get() };
        Terms { cap: self.cap(of), delay }
    }

    fn cap(&self, of: Resource) -> u64 {
        let caps = self.caps.get();
        match of {
            Resource::Connection => caps.connections_max.into(),
            Resource::Request => {
                let most = caps.requests_max.map_or(u64::MAX, u64::from);
                let found = self.adaptive.borrow().as_ref().map(|adaptive| adaptive.limit());
                found.map_or(most, |limit| most.min(limit.into()))
            }
            Resource::Retry => caps.retries_max.map_or(u64::MAX, u64::from),
        }
    }

    #[inline]
    fn gate(&self, of: Resource) -> &GateTotal {
        self.totals.bulkhead.gate(of)
    }

    fn metrics(&self) -> &BulkheadMetrics {
        &self.counters.of_worker().bulkhead
    }
}

/// When who waits tells of it for the first time: it may be the only one who could.
fn first_look(delay: QueueDelay) -> Duration {
    Duration::from_millis(u64::from(delay.target_ms) + 1)
}

impl ConnectionUnit {
    /// The counters of the worker that it is of.
    pub fn counters(&self) -> &Counters {
        &self.0.counters
    }
}

impl RequestUnit {
    /// The request had been sent at `began`, and was answered at `ended`; `None`: not in time.
    #[inline]
    pub fn observe(&self, began: Instant, ended: Option<Instant>) {
        let adaptive = self.0.adaptive.borrow();
        if let Some(adaptive) = &*adaptive {
            adaptive.observe(began, ended);
            adaptive.look(self.0.gate(Resource::Request), || self.0.terms(Resource::Request));
        }
    }
}

impl<const OF: usize> Drop for Unit<OF> {
    #[inline]
    fn drop(&mut self) {
        self.0.release(Resource::ALL[OF]);
    }
}

impl Drop for Bulkhead {
    fn drop(&mut self) {
        if let Some(task) = self.looks_after.take() {
            task.abort();
        }
        for of in Resource::ALL {
            match self.leases[of as usize].get().spare() {
                0 => {}
                // The worker may have no clock any more: who waits elsewhere gets it as if just come.
                spare => self.gate(of).take_back(spare, 0),
            }
        }
    }
}

/// A place in the queue, which is left when this is dropped.
struct Place<'a, const OF: usize> {
    bulkhead: &'a Rc<Bulkhead>,
    waiter: &'a Rc<Waiter>,
    is_left: Cell<bool>,
    /// It was held for longer than one may wait.
    is_too_late: Cell<bool>,
}

impl<const OF: usize> Place<'_, OF> {
    /// What the wait has brought: a connection comes before a unit, which goes to the next then.
    fn take(self) -> Got<OF> {
        if let Some(handed) = self.waiter.handed.borrow_mut().take() {
            return Got::Connection(handed);
        }
        self.leave_waiters();
        // Its turn has come, so there is no place in the queue any more.
        self.is_left.set(true);
        Got::Unit(self.bulkhead.granted())
    }

    fn leave_waiters(&self) {
        let mut waiters = self.bulkhead.waiters.borrow_mut();
        let before = waiters.len();
        waiters.retain(|other| !Rc::ptr_eq(other, self.waiter));
        let left = before - waiters.len();
        self.bulkhead.waiting_here.set(self.bulkhead.waiting_here.get() - left);
    }
}

impl<const OF: usize> Drop for Place<'_, OF> {
    fn drop(&mut self) {
        self.leave_waiters();
        let gate = self.bulkhead.gate(Resource::ALL[OF]);
        if !self.is_left.get() && gate.leave(&self.waiter.ticket, self.is_too_late.get()) {
            gate.take_back(1, lateen_ring::now().as_nanos());
        }
    }
}

impl std::fmt::Debug for Bulkhead {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Bulkhead").field("caps", &self.caps.get()).finish_non_exhaustive()
    }
}

impl<const OF: usize> std::fmt::Debug for Unit<OF> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Unit").field(&Resource::ALL[OF]).finish()
    }
}

impl std::fmt::Debug for Room {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Unit(_) => "Unit",
            Self::Connection(_) => "Connection",
        })
    }
}

#[cfg(test)]
mod overload_tests;
#[cfg(test)]
mod tests;
