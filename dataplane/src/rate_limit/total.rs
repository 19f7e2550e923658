//! A limit as the process has it.

use std::hash::RandomState;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};

use lateen_snapshot::model::rate_limit::RateLimit;

use crate::decide::lease::keyed::{KeyedBuckets, Lender};
use crate::decide::lease::rate::flow::Promise;
use crate::decide::lease::rate::{Bucket, Lease, Rate};

/// What is there of a limit, for all workers. The lock is taken when something is lent or given back.
#[derive(Debug)]
pub struct RateTotal {
    /// Of the keys: the same for all limits of the process.
    pub hasher: RandomState,
    state: Mutex<Option<State>>,
    /// As in the state, for who looks without the lock.
    changes: AtomicU32,
}

#[derive(Debug)]
struct State {
    /// The newest snapshot, by the process's count, that a worker has asked by.
    serial: u64,
    rate: Rate,
    buckets: Buckets,
    /// How often the limit became another one, when it last did, and whether its buckets were made anew.
    changes: u32,
    changed_at_ns: u64,
    was_made_anew: bool,
}

#[derive(Debug)]
enum Buckets {
    One(Bucket),
    Keyed(KeyedBuckets),
}

/// Who asks, and by which words.
#[derive(Clone, Copy, Debug)]
pub struct Asking<'a> {
    /// The snapshot's, by the process's count.
    pub serial: u64,
    /// As that has it.
    pub spec: &'a RateLimit,
    /// The hash of the key, if it has one.
    pub key: u64,
}

/// What was drawn from a limit: of how many changes it was, and from when on the bytes may pass.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Drawn {
    /// As [`RateTotal::changes`].
    pub changes: u32,
    /// As [`Promise::due_ns`].
    pub due_ns: u64,
}

/// The rate that a limit stands for.
pub fn rate_of(spec: &RateLimit) -> Rate {
    let span_ns = u64::from(spec.span_ms) * 1_000_000;
    Rate { units: spec.units, span_ns, burst: spec.burst }
}

impl RateTotal {
    /// Nobody has asked yet.
    pub fn new(hasher: RandomState) -> Self {
        Self { hasher, state: Mutex::default(), changes: AtomicU32::new(0) }
    }

    /// As [`Bucket::lend`]. Of two workers that run different snapshots the newer one's words count.
    pub fn lend(&self, asking: Asking<'_>, lease: &mut Lease, size: u64, now_ns: u64) -> Lender {
        self.with_state(asking, now_ns, |state| match &mut state.buckets {
            Buckets::One(bucket) => {
                bucket.lend(lease, &state.rate, size, now_ns);
                Lender::Own
            }
            Buckets::Keyed(keyed) => keyed.lend(asking.key, lease, size, now_ns),
        })
    }

    /// As [`Bucket::draw`].
    pub fn draw(
        &self,
        asking: Asking<'_>,
        lease: &mut Lease,
        most: u64,
        size: u64,
        now_ns: u64,
    ) -> (Promise, Lender, Drawn) {
        self.with_state(asking, now_ns, |state| {
            let (promise, lender) = match &mut state.buckets {
                Buckets::One(bucket) => {
                    (bucket.draw(lease, &state.rate, most, size, now_ns), Lender::Own)
                }
                Buckets::Keyed(keyed) => keyed.draw(asking.key, lease, most, size, now_ns),
            };
            let drawn = Drawn { changes: state.changes, due_ns: promise.due_ns };
            (promise, lender, drawn)
        })
    }

    /// As [`Bucket::take`].
    pub fn take(&self, asking: Asking<'_>, most: u64, now_ns: u64) -> u64 {
        self.with_state(asking, now_ns, |state| match &mut state.buckets {
            Buckets::One(bucket) => bucket.take(&state.rate, most, now_ns),
            Buckets::Keyed(keyed) => keyed.take(asking.key, most, now_ns),
        })
    }

    /// As [`Bucket::put_back`], if the bucket still has to do with what was drawn from it.
    pub fn put_back(&self, asking: Asking<'_>, bytes: u64, drawn: Drawn, now_ns: u64) {
        self.with_state(asking, now_ns, |state| {
            if !state.has_taken(drawn) {
                return;
            }
            match &mut state.buckets {
                Buckets::One(bucket) => bucket.put_back(&state.rate, bytes, now_ns),
                Buckets::Keyed(keyed) => keyed.put_back(asking.key, bytes, now_ns),
            }
        });
    }

    /// How often the limit became another one: what was promised before is void, and to be asked for again.
    pub fn changes(&self) -> u32 {
        self.changes.load(Ordering::Relaxed)
    }

    /// As [`Bucket::take_back`].
    pub fn take_back(&self, asking: Asking<'_>, lease: &mut Lease, now_ns: u64) {
        self.with_state(asking, now_ns, |state| match &mut state.buckets {
            Buckets::One(bucket) => bucket.take_back(lease, &state.rate, now_ns),
            Buckets::Keyed(keyed) => keyed.take_back(asking.key, lease, now_ns),
        });
    }

    fn with_state<T>(
        &self,
        asking: Asking<'_>,
        now_ns: u64,
        look: impl FnOnce(&mut State) -> T,
    ) -> T {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let state = state.get_or_insert_with(|| State::new(&asking, now_ns));
        if asking.serial > state.serial {
            let before = (state.rate, std::mem::discriminant(&state.buckets));
            state.follow(&asking, now_ns);
            let after = (state.rate, std::mem::discriminant(&state.buckets));
            if before != after {
                state.changes = state.changes.wrapping_add(1);
                (state.changed_at_ns, state.was_made_anew) = (now_ns, before.1 != after.1);
                self.changes.store(state.changes, Ordering::Relaxed);
            }
        }
        look(state)
    }
}

impl State {
    fn new(asking: &Asking<'_>, now_ns: u64) -> Self {
        let rate = rate_of(asking.spec);
        let buckets = match asking.spec.key {
            None => Buckets::One(Bucket::full(&rate, now_ns)),
            Some(_) => {
                Buckets::Keyed(KeyedBuckets::new(rate, asking.spec.keys_max as usize, now_ns))
            }
        };
        let serial = asking.serial;
        Self { serial, rate, buckets, changes: 0, changed_at_ns: 0, was_made_anew: false }
    }

    /// Whether the buckets are less for what was drawn. Who draws asks again after a change, so that there
    /// are hardly more than one in between; of who does not, nothing is known any more.
    fn has_taken(&self, drawn: Drawn) -> bool {
        match self.changes.wrapping_sub(drawn.changes) {
            0 => true,
            // What was only promised by then is owed to nobody.
            1 => !self.was_made_anew && drawn.due_ns <= self.changed_at_ns,
            _ => false,
        }
    }

    /// Another snapshot may have the limit otherwise. What there is of it stays, unless it is counted by
    /// a key now and was not before, or the other way round.
    fn follow(&mut self, asking: &Asking<'_>, now_ns: u64) {
        let rate = rate_of(asking.spec);
        match (&mut self.buckets, &asking.spec.key) {
            (Buckets::One(bucket), None) if rate != self.rate => {
                bucket.change(&self.rate, &rate, now_ns);
            }
            (Buckets::One(_), None) => {}
            (Buckets::Keyed(keyed), Some(_)) => {
                keyed.change(rate, asking.spec.keys_max as usize, now_ns);
            }
            (_, _) => self.buckets = Self::new(asking, now_ns).buckets,
        }
        self.rate = rate;
        self.serial = asking.serial;
    }
}
