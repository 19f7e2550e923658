//! A route's breaker: whether a request is let through, and what its end says.
//!
//! Before: `request` is about to forward a request whose route has a breaker, its mirrors have their copies.
//! After: it is forwarded, and its end is noted here; or it is answered at once, or goes elsewhere (`fallback`). Each worker counts in a slot
//! of its own by plain stores; the health thread alone says where the breaker stands, in one word that every
//! request of such a route reads. `decide::breaker` says what follows from what.

use std::cell::OnceCell;
use std::rc::Rc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};
use std::sync::{Arc, OnceLock};

use crossbeam_utils::CachePadded;
use lateen_snapshot::model::breaker::{BreakerMode, CircuitBreaker, Fallback};
use lateen_snapshot::model::{ClusterId, Route, RouteId};

use crate::decide::breaker::{
    Event, PARTS, Part, Stage, fits_ramp, is_over, part_number, ramp_volume,
};
use crate::exchange::{Exchange, Request};
use crate::failure::{Failure, Stage as FailedAt};
use crate::health::board::{BreakerNotice, Desk};
use crate::live::Live;
use crate::shard::{Counters, Shard};
use crate::totals::RouteTotals;

/// A route's breaker in the process.
#[derive(Debug, Default)]
pub struct Board {
    slots: OnceLock<Box<[CachePadded<Slot>]>>,
    /// Where it stands, in the two lowest bits; above them, how often that changed: its turn.
    word: AtomicU64,
    /// The last turn whose probe somebody took.
    probed: AtomicU64,
    /// The last turn of which the thread was told that too many requests failed, and 1.
    told: AtomicU64,
}

/// What one worker counted.
#[derive(Debug, Default)]
struct Slot {
    /// Of what is counted.
    turn: AtomicU64,
    parts: [PartCells; PARTS],
    answered_well: AtomicU64,
    /// Of those that a ramp let through.
    in_flight: AtomicU64,
}

#[derive(Debug, Default)]
struct PartCells {
    number: AtomicU64,
    requests: AtomicU32,
    failures: AtomicU32,
}

/// Where a breaker stands, and since which of its changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Where.
    pub stage: Stage,
    /// How often that changed.
    pub turn: u64,
}

impl Board {
    /// Where it stands.
    #[inline]
    pub fn standing(&self) -> Standing {
        let word = self.word.load(Ordering::Acquire);
        Standing { stage: Stage::ALL[(word & 3) as usize], turn: word >> 2 }
    }

    /// Puts it somewhere else. For the health thread alone.
    pub fn move_to(&self, stage: Stage) -> Standing {
        let turn = self.standing().turn + 1;
        self.word.store(turn << 2 | stage as u64, Ordering::Release);
        Standing { stage, turn }
    }

    fn slots(&self, workers: usize) -> &[CachePadded<Slot>] {
        self.slots.get_or_init(|| (0..workers).map(|_| CachePadded::default()).collect())
    }
}

impl Slot {
    /// What was counted in another turn counts no longer.
    fn begin_turn(&self, turn: u64) {
        if self.turn.load(Ordering::Relaxed) == turn {
            return;
        }
        for part in &self.parts {
            part.requests.store(0, Ordering::Relaxed);
            part.failures.store(0, Ordering::Relaxed);
        }
        self.answered_well.store(0, Ordering::Relaxed);
        self.in_flight.store(0, Ordering::Relaxed);
        // Last: what is left of another turn must not pass for this one's.
        self.turn.store(turn, Ordering::Release);
    }

    fn note(&self, rule: &CircuitBreaker, now_ns: u64, has_failed: bool) {
        let number = part_number(rule, now_ns);
        let cells = &self.parts[(number % PARTS as u64) as usize];
        let mut part = cells.read();
        part.note(number, has_failed);
        cells.requests.store(part.requests, Ordering::Relaxed);
        cells.failures.store(part.failures, Ordering::Relaxed);
        cells.number.store(part.number, Ordering::Relaxed);
    }
}

impl PartCells {
    fn read(&self) -> Part {
        Part {
            number: self.number.load(Ordering::Relaxed),
            requests: self.requests.load(Ordering::Relaxed),
            failures: self.failures.load(Ordering::Relaxed),
        }
    }
}

/// The breakers of a worker's view of a snapshot, made at their first use: beside its routes, if any of them
/// has one.
#[derive(Debug)]
pub struct Breakers(Box<[OnceCell<Rc<Breaker>>]>);

/// A route's breaker as one worker sees it, by one snapshot.
#[derive(Debug)]
struct Breaker {
    name: Arc<str>,
    rule: CircuitBreaker,
    totals: Arc<RouteTotals>,
    desk: Arc<Desk>,
    counters: Rc<Counters>,
    worker: usize,
    workers: usize,
}

/// A request that was let through. Dropped without a word its end says nothing.
#[derive(Debug)]
pub struct Admitted {
    breaker: Rc<Breaker>,
    standing: Standing,
    /// It is still to be said how it ended.
    is_open_ended: bool,
}

/// What becomes of a request that is not answered at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is let through.
    Admitted,
    /// It is not, and this cluster gets it instead.
    Elsewhere(ClusterId),
}

/// Lets a request through, or not.
///
/// # Errors
/// [`Failure::overflow`]: it is to be answered at once; by the route's fallback if
/// [`Exchange::falls_back`] says so.
pub fn admit(
    shard: &Shard,
    live: &Live,
    rule: &CircuitBreaker,
    request: &Request,
    exchange: &Exchange,
) -> Result<Verdict, Failure> {
    let is_admitted = match rule.mode {
        BreakerMode::ForcedClosed => return Ok(Verdict::Admitted),
        BreakerMode::ForcedOpen => false,
        BreakerMode::Automatic => {
            let breaker = live.breakers.obtain(shard, live, exchange.route.get().route, rule);
            let admitted = breaker.admit(is_replayable(request));
            let is_admitted = admitted.is_some();
            *exchange.breaker.borrow_mut() = admitted;
            is_admitted
        }
    };
    if is_admitted {
        return Ok(Verdict::Admitted);
    }
    let metrics = &shard.metrics().breaker;
    metrics.rejected.increment();
    match rule.fallback {
        Some(Fallback::Backend(cluster)) => {
            metrics.fallback_backend.increment();
            return Ok(Verdict::Elsewhere(cluster));
        }
        Some(Fallback::Response(_)) => {
            metrics.fallback_response.increment();
            exchange.falls_back.set(true);
        }
        None => {}
    }
    Err(Failure::overflow(FailedAt::Decide))
}

/// Whether nothing is lost if it fails: it may be repeated, and all of it is here.
fn is_replayable(request: &Request) -> bool {
    request.method.is_idempotent() && request.body.is_done() && request.upgrade().is_none()
}

/// Notes a good answer, whose body may take for long.
#[inline]
pub fn note_head(exchange: &Exchange, status: u16) {
    if status < 500
        && let Some(admitted) = exchange.breaker.borrow_mut().take()
    {
        admitted.end(Some(true));
    }
}

/// Notes how a request that was let through ended.
#[inline]
pub fn note_end<T>(exchange: &Exchange, outcome: &Result<T, Failure>) {
    let admitted = exchange.breaker.borrow_mut().take();
    if let Some(admitted) = admitted {
        admitted.end(match outcome {
            Ok(_) => Some(exchange.status.get() < 500),
            Err(failure) => failure.tells_of_service().then_some(false),
        });
    }
}

impl Breakers {
    /// Of these routes.
    pub fn of(routes: &[Route]) -> Self {
        let any = routes.iter().any(|route| route.policy.circuit_breaker.is_some());
        Self(vec![OnceCell::new(); if any { routes.len() } else { 0 }].into())
    }

    fn obtain(
        &self,
        shard: &Shard,
        live: &Live,
        route: RouteId,
        rule: &CircuitBreaker,
    ) -> &Rc<Breaker> {
        let make = || {
            let (totals, name) =
                (&live.loaded.totals, &live.loaded.snapshot.routes[route.0 as usize].name);
            Rc::new(Breaker {
                name: Arc::from(name.as_str()),
                rule: rule.clone(),
                totals: totals.of_route(name),
                desk: totals.desk.clone(),
                counters: shard.counters(),
                worker: shard.worker(),
                workers: shard.config.workers,
            })
        };
        self.0[route.0 as usize].get_or_init(make)
    }
}

impl Breaker {
    fn admit(self: &Rc<Self>, is_replayable: bool) -> Option<Admitted> {
        let board = &self.totals.breaker;
        let standing = board.standing();
        match standing.stage {
            Stage::Closed => {}
            Stage::Open => return None,
            Stage::HalfOpen => {
                let last = board.probed.load(Ordering::Relaxed);
                let is_free = is_replayable && last != standing.turn;
                // The only read-modify-write here, and only while a probe is granted.
                let taken = is_free
                    && board
                        .probed
                        .compare_exchange(last, standing.turn, Ordering::AcqRel, Ordering::Relaxed)
                        .is_ok();
                if !taken {
                    return None;
                }
                self.counters.of_worker().breaker.probes.increment();
            }
            Stage::Ramp => {
                let slots = board.slots(self.workers);
                slots[self.worker].begin_turn(standing.turn);
                let of_turn =
                    |slot: &&CachePadded<Slot>| slot.turn.load(Ordering::Acquire) == standing.turn;
                let slots_now = || slots.iter().filter(of_turn);
                let answered = slots_now().map(|it| it.answered_well.load(Ordering::Relaxed)).sum();
                let in_flight = slots_now().map(|it| it.in_flight.load(Ordering::Relaxed)).sum();
                if !fits_ramp(in_flight, answered) {
                    return None;
                }
                let own = &slots[self.worker].in_flight;
                own.store(own.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
            }
        }
        Some(Admitted { breaker: Rc::clone(self), standing, is_open_ended: true })
    }

    fn tell(&self, turn: u64, event: Event) {
        self.desk.tell_breaker(BreakerNotice {
            name: self.name.clone(),
            totals: self.totals.clone(),
            rule: self.rule.clone(),
            turn,
            event,
        });
    }

    /// Counts a request of a turn, and tells when too many failed.
    fn count(&self, standing: Standing, has_failed: bool) {
        let board = &self.totals.breaker;
        let slots = board.slots(self.workers);
        let own = &slots[self.worker];
        own.begin_turn(standing.turn);
        let now_ns = lateen_ring::now().as_nanos();
        own.note(&self.rule, now_ns, has_failed);
        if !has_failed {
            let well = &own.answered_well;
            return well.store(well.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
        }
        // Of two workers that count the last failure it takes at the same time, one sees the other's.
        fence(Ordering::SeqCst);
        let of_turn = slots.iter().filter(|it| it.turn.load(Ordering::Acquire) == standing.turn);
        let parts = of_turn.flat_map(|slot| slot.parts.iter().map(PartCells::read));
        let least = match standing.stage {
            Stage::Ramp => ramp_volume(&self.rule),
            _ => self.rule.request_volume,
        };
        let number = part_number(&self.rule, now_ns);
        let told = &board.told;
        if is_over(&self.rule, least, parts, number)
            && told.load(Ordering::Relaxed) != standing.turn + 1
        {
            told.store(standing.turn + 1, Ordering::Relaxed);
            self.tell(standing.turn, Event::Tripped);
        }
    }
}

impl Admitted {
    /// How it ended; `None`: that says nothing.
    fn end(mut self, went_well: Option<bool>) {
        self.is_open_ended = false;
        self.conclude(went_well);
    }

    fn conclude(&self, went_well: Option<bool>) {
        let Self { breaker, standing, .. } = self;
        let board = &breaker.totals.breaker;
        match standing.stage {
            Stage::HalfOpen => {
                let event = match went_well {
                    Some(true) => Event::Proven,
                    Some(false) => Event::Disproven,
                    None => Event::Abandoned,
                };
                return breaker.tell(standing.turn, event);
            }
            Stage::Ramp => {
                let own = &board.slots(breaker.workers)[breaker.worker];
                // What another ramp let through is not of this one.
                if own.turn.load(Ordering::Relaxed) == standing.turn {
                    let in_flight = own.in_flight.load(Ordering::Relaxed).saturating_sub(1);
                    own.in_flight.store(in_flight, Ordering::Relaxed);
                }
            }
            Stage::Closed | Stage::Open => {}
        }
        // One that began in another turn says nothing of this one.
        if let Some(went_well) = went_well
            && board.standing() == *standing
        {
            breaker.count(*standing, !went_well);
        }
    }
}

impl Drop for Admitted {
    fn drop(&mut self) {
        if self.is_open_ended {
            self.conclude(None);
        }
    }
}
