//! What a worker has of limited rates, and whether a request or a connection is let through.
//!
//! Before: a request's route is known (`judge`), or a connection is not HTTP (`connection`). After: it is
//! let through, or answered 429, or reset. The limits themselves are the process's ([`total`], found by
//! name in `totals`), so that more workers never mean more requests; a worker spends what it was lent.

pub mod total;
pub mod flow;

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

use lateen_snapshot::limits::RATE_LIMITS_MAX;
use lateen_snapshot::model::rate_limit::{ByteDirection, RateLimit, RateLimits};

use crate::codec::http1::rate_limit::{Left, OverLimit, Quota};
use crate::decide::lease::keyed::Lender;
use crate::decide::lease::rate::{Lease, Spent};
use crate::decide::limit_key::{Peer, hash_of_part};
use crate::decide::route::RequestView;
use crate::limits;
use crate::loaded::Loaded;
use crate::observe::metrics::rate_limit::{LimitOutcome, Limited};
use crate::rate_limit::flow::FlowLimits;
use crate::rate_limit::total::{Asking, RateTotal, rate_of};
use crate::shard::Shard;

/// The limits that this worker has used, by name. They survive snapshots, and their leases do.
#[derive(Debug, Default)]
pub struct Limiters {
    known: RefCell<HashMap<String, Rc<Limiter>>>,
    /// When there are so many, it is looked whether all are needed.
    look_at: Cell<usize>,
}

/// Fewer are not worth a look.
const LOOK_AT_LEAST: usize = 64;

impl Limiters {
    fn obtain(&self, spec: &RateLimit, shard: &Shard, loaded: &Loaded) -> Rc<Limiter> {
        let mut known = self.known.borrow_mut();
        if let Some(limiter) = known.get(&spec.name)
            && limiter.spec == *spec
        {
            limiter.serial.set(limiter.serial.get().max(loaded.serial));
            return Rc::clone(limiter);
        }
        if known.len() >= self.look_at.get().max(LOOK_AT_LEAST) {
            known.retain(|_, limiter| Rc::strong_count(limiter) > 1);
            self.look_at.set(2 * known.len());
        }
        let total = loaded.totals.of_rate_limit(&spec.name);
        let limiter = Rc::new(Limiter::new(spec, total, loaded.serial, shard.config.workers));
        known.insert(spec.name.clone(), Rc::clone(&limiter));
        limiter
    }
}

/// What this worker has of the limits of a route, of a backend, or of connections.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Those that decide.
    enforced: Rc<[Rc<Limiter>]>,
    /// Those that only count.
    counting: Rc<[Rc<Limiter>]>,
    /// Clients are told of some.
    tells: bool,
    /// Those of the bytes from the client, and of those to it.
    up: Option<Rc<FlowLimits>>,
    down: Option<Rc<FlowLimits>>,
}

impl Limits {
    /// Those of these limits of a snapshot that are of requests, and of their bytes.
    pub fn of_requests(limits: &RateLimits, shard: &Shard, loaded: &Loaded) -> Self {
        Self::of(&limits.requests, limits, shard, loaded)
    }

    /// Those of connections that are not HTTP, and of their bytes.
    pub fn of_connections(limits: &RateLimits, shard: &Shard, loaded: &Loaded) -> Self {
        Self::of(&limits.connections, limits, shard, loaded)
    }

    fn of(counted: &[RateLimit], limits: &RateLimits, shard: &Shard, loaded: &Loaded) -> Self {
        let obtain = |limit| shard.limiters.obtain(limit, shard, loaded);
        let of_kind = |is_counting: bool| {
            let limits = counted.iter().filter(|limit| limit.dry_run == is_counting);
            limits.map(obtain).collect()
        };
        let of_bytes = |other: ByteDirection| {
            let limits = limits.bytes.iter().filter(|of| of.direction != other);
            FlowLimits::of(limits.map(|of| obtain(&of.limit)))
        };
        let enforced: Rc<[Rc<Limiter>]> = of_kind(false);
        Self {
            tells: enforced.iter().any(|limiter| limiter.spec.is_told),
            enforced,
            counting: of_kind(true),
            up: of_bytes(ByteDirection::Response),
            down: of_bytes(ByteDirection::Request),
        }
    }

    /// Asks all of them to let a request through, or a connection that is not HTTP. `None`: they do.
    /// Where one does not, the others are as if nobody had asked.
    pub fn ask(
        &self,
        shard: &Shard,
        view: Option<&RequestView<'_>>,
        peer: Peer<'_>,
    ) -> Option<OverLimit<'_>> {
        if self.enforced.is_empty() && self.counting.is_empty() {
            return None;
        }
        let now_ns = lateen_ring::now().as_nanos();
        let metrics = &shard.metrics().rate_limit;
        let unit = if view.is_some() { Limited::Request } else { Limited::Connection };
        let mut keys = [0; RATE_LIMITS_MAX];
        let mut spent = 0;
        for (index, limiter) in self.enforced.iter().enumerate() {
            keys[index] = limiter.key(view, peer);
            spent += usize::from(spent == index && limiter.spend(keys[index], now_ns));
        }
        if spent < self.enforced.len() {
            let each = || keys.iter().zip(&*self.enforced);
            each().take(spent).for_each(|(key, limiter)| limiter.unspend(*key));
            if let Some(index) = self.first_that_refuses(&keys, shard, now_ns) {
                metrics.decided(unit, LimitOutcome::Limited).increment();
                return Some(self.over(index, keys[index], now_ns));
            }
            for (key, limiter) in each() {
                let is_spent = limiter.spend(*key, now_ns);
                debug_assert!(is_spent, "it has just said that there is one");
            }
        }
        metrics.decided(unit, LimitOutcome::Admitted).increment();
        for limiter in &*self.counting {
            let key = limiter.key(view, peer);
            if !limiter.ready(key, shard, now_ns) || !limiter.spend(key, now_ns) {
                metrics.decided(unit, LimitOutcome::DryRun).increment();
            }
        }
        None
    }

    /// Whether clients are told of any.
    #[inline]
    pub fn tells(&self) -> bool {
        self.tells
    }

    /// How much is left of those that clients are told of, after a request was let through.
    pub fn left(&self, view: Option<&RequestView<'_>>, peer: Peer<'_>) -> Vec<Left<'_>> {
        let told = self.enforced.iter().filter(|limiter| limiter.spec.is_told);
        told.map(|limiter| limiter.left(limiter.key(view, peer))).collect()
    }

    /// First those that know their answer are asked, then the process: a request that one of them
    /// refuses anyhow borrows from none.
    fn first_that_refuses(&self, keys: &[u64], shard: &Shard, now_ns: u64) -> Option<usize> {
        let each = || keys.iter().zip(&*self.enforced).enumerate();
        let known = each().find(|(_, (key, it))| it.peek(**key, now_ns) == Spent::Refused);
        if let Some((index, _)) = known {
            return Some(index);
        }
        let mut lent = 0_u32;
        for (index, (key, limiter)) in each() {
            let was_empty = limiter.peek(*key, now_ns) == Spent::Empty;
            if !limiter.ready(*key, shard, now_ns) {
                for (_, (key, limiter)) in each().filter(|(index, _)| lent & (1 << index) != 0) {
                    limiter.give_back(*key, now_ns);
                }
                return Some(index);
            }
            lent |= u32::from(was_empty) << index;
        }
        None
    }

    fn over(&self, index: usize, key: u64, now_ns: u64) -> OverLimit<'_> {
        let broken = &self.enforced[index];
        let left_ns = broken.refused_until_ns(key).saturating_sub(now_ns);
        OverLimit {
            quotas: self.enforced.iter().map(|limiter| limiter.quota()).collect(),
            label: &broken.spec.label,
            retry_after_s: left_ns.div_ceil(1_000_000_000).max(1),
        }
    }
}

/// What this worker has of one limit.
#[derive(Debug)]
struct Limiter {
    spec: RateLimit,
    /// The newest snapshot, by the process's count, that has it so.
    serial: Cell<u64>,
    total: Arc<RateTotal>,
    /// How many are lent at a time.
    lease_size: u64,
    /// How many bytes are lent at a time, and how many pass as one.
    byte_lease_size: u64,
    slice_bytes: u64,
    leases: Leases,
}

#[derive(Debug)]
enum Leases {
    One(RefCell<Lease>),
    /// The latest of each residue class of keys.
    Keyed(Box<[RefCell<(u64, Lease)>]>),
}

impl Limiter {
    fn new(spec: &RateLimit, total: Arc<RateTotal>, serial: u64, workers: usize) -> Self {
        let leases = match spec.key {
            None => Leases::One(RefCell::default()),
            Some(_) => {
                let count = (spec.keys_max as usize).min(limits::RATE_LEASES_MAX);
                Leases::Keyed(vec![RefCell::default(); count].into())
            }
        };
        let rate = rate_of(spec);
        Self {
            spec: spec.clone(),
            serial: Cell::new(serial),
            total,
            lease_size: rate.lease_size(workers),
            byte_lease_size: rate.byte_lease_size(workers),
            slice_bytes: rate.slice_bytes(),
            leases,
        }
    }

    /// The hash of what it counts by; 0 where it counts all together.
    #[inline]
    fn key(&self, view: Option<&RequestView<'_>>, peer: Peer<'_>) -> u64 {
        match &self.spec.key {
            None => 0,
            Some(key) => hash_of_part(key, view, peer, &self.total.hasher),
        }
    }

    #[inline]
    fn peek(&self, key: u64, now_ns: u64) -> Spent {
        self.with_lent(key, |lease| lease.peek(now_ns)).unwrap_or(Spent::Empty)
    }

    /// What is lent for this key, if it is the latest of its class.
    #[inline]
    fn with_lent<T>(&self, key: u64, look: impl FnOnce(&mut Lease) -> T) -> Option<T> {
        match &self.leases {
            Leases::One(lease) => Some(look(&mut lease.borrow_mut())),
            Leases::Keyed(leases) => {
                let (of, lease) = &mut *leases[class_of(key, leases.len())].borrow_mut();
                (*of == key).then(|| look(lease))
            }
        }
    }

    /// Whether there is one to spend; borrows if need be.
    fn ready(&self, key: u64, shard: &Shard, now_ns: u64) -> bool {
        match self.peek(key, now_ns) {
            Spent::Admitted => return true,
            Spent::Refused => return false,
            Spent::Empty => {}
        }
        self.with_lease(key, now_ns, |lease| {
            let lender = self.total.lend(self.asking(key), lease, self.lease_size, now_ns);
            if lender == Lender::Overflow {
                shard.metrics().rate_limit.overflow.increment();
            }
            lease.peek(now_ns) == Spent::Admitted
        })
    }

    /// Spends one of what is lent for this key. False: there is none.
    #[inline]
    fn spend(&self, key: u64, now_ns: u64) -> bool {
        self.with_lent(key, |lease| lease.spend(now_ns) == Spent::Admitted).unwrap_or(false)
    }

    /// Takes back that one was spent, in the same turn.
    fn unspend(&self, key: u64) {
        self.with_lent(key, Lease::unspend);
    }

    fn give_back(&self, key: u64, now_ns: u64) {
        self.with_lease(key, now_ns, |lease| {
            self.total.take_back(self.asking(key), lease, now_ns);
        });
    }

    fn refused_until_ns(&self, key: u64) -> u64 {
        self.with_lease(key, 0, |lease| lease.refused_until_ns())
    }

    /// A lease that another key leaves behind goes back.
    #[inline]
    fn with_lease<T>(&self, key: u64, now_ns: u64, look: impl FnOnce(&mut Lease) -> T) -> T {
        match &self.leases {
            Leases::One(of_all) => look(&mut of_all.borrow_mut()),
            Leases::Keyed(leases) => {
                let mut place = leases[class_of(key, leases.len())].borrow_mut();
                let (of, lease) = &mut *place;
                if *of != key {
                    self.leave(std::mem::replace(of, key), lease, now_ns);
                }
                look(lease)
            }
        }
    }

    /// Another key takes the place of this one.
    #[cold]
    fn leave(&self, key: u64, lease: &mut Lease, now_ns: u64) {
        if lease.has_some() {
            self.total.take_back(self.asking(key), lease, now_ns);
        }
        *lease = Lease::default();
    }

    fn left(&self, key: u64) -> Left<'_> {
        let now_ns = lateen_ring::now().as_nanos();
        let rate = rate_of(&self.spec);
        let left = self.with_lease(key, now_ns, |lease| lease.remaining(&rate, now_ns));
        let full_in_s = left.full_in_ns.div_ceil(1_000_000_000);
        Left { quota: self.quota(), units: left.units, full_in_s }
    }

    fn asking(&self, key: u64) -> Asking<'_> {
        Asking { serial: self.serial.get(), spec: &self.spec, key }
    }

    /// Windows are told in whole seconds: a shorter one as what it lets through in a second.
    fn quota(&self) -> Quota<'_> {
        let span_ms = u64::from(self.spec.span_ms);
        let window_s = span_ms.div_ceil(1_000);
        let units = self.spec.units * window_s * 1_000 / span_ms;
        Quota { label: &self.spec.label, units, window_s }
    }
}

#[inline]
fn class_of(key: u64, classes: usize) -> usize {
    (key % classes as u64) as usize
}

#[cfg(test)]
pub(crate) mod tests;
