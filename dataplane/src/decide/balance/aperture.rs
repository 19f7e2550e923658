//! The part of a cluster that one worker calls: with one, a process's connections to a service grow with its
//! endpoints, and not with endpoints times workers.
//!
//! Before: a snapshot says so of a cluster. The [`Circle`] is put in order once per process, off the
//! workers; each of them cuts its [`Aperture`] out of it. After: a choice draws from that, and from the whole
//! cluster where nothing in it can be had.
//!
//! ```text
//!  the circle of 6 endpoints, 4 workers, 3 endpoints at least: each gets two quarters of it
//!
//!             |---0---|---1---|---2---|---3---|---4---|---5---|
//!   worker 0  [-----------------------)                          0, 1, 2
//!   worker 1              [-----------------------)              half of 1, 2, 3, half of 4
//!   worker 2                          [-----------------------)  3, 4, 5
//!   worker 3  ------------)                       [------------  half of 4, 5, 0, half of 1
//! ```
//!
//! Every worker's arc begins a worker's share of the circle behind the last one's, and is a whole number of
//! such shares long, so that each point of the circle is in as many arcs as any other: what all workers
//! give an endpoint is the same for all. What is at an end of an arc is in it by a fraction, and is drawn as
//! often. An endpoint's span on the circle is as long as its weight, so that weights hold too.
//!
//! Source: Finagle's deterministic aperture, which also rounds up to whole shares.

use std::cell::Cell;

use lateen_snapshot::model::{Balancing, Cluster};

use super::consistent::address_hash;
use super::turns::Turns;
use super::weighted::Weights;
use super::{below, mix};

/// Which of the process's workers chooses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seat {
    /// From 0.
    pub worker: u32,
    /// How many there are; at least 1.
    pub workers: u32,
}

/// The endpoints of a cluster in an order that is the same on every proxy, and in which a new one moves each
/// arc by less than its own width: by a hash of their addresses. By the addresses themselves an arc would be
/// those of one node or rack, and would be lost with it.
#[derive(Debug)]
pub struct Circle {
    order: Box<[u32]>,
    /// Where each place ends, if weights differ; else a place has the length 1.
    ends: Option<Box<[u64]>>,
}

/// What one worker draws from.
#[derive(Debug)]
pub struct Aperture {
    members: Box<[u32]>,
    /// How much of each is in it, where that differs.
    weights: Option<Weights>,
    turns: Option<Order>,
}

/// Whose turn it is.
#[derive(Debug)]
enum Order {
    Steps(Steps),
    ByWeight(Turns),
}

/// Turns of members that are of one length, but for the first and the last: a point that goes on by that
/// length. Each pass over the arc begins one unit further, so that a part of an endpoint has its turn in
/// as many passes.
#[derive(Debug)]
struct Steps {
    /// Of the first member.
    first: u64,
    /// Of those behind it; of the last at most.
    unit: u64,
    /// Of all.
    length: u64,
    point: Cell<u64>,
    /// Where this pass began; below `unit`.
    began: Cell<u64>,
}

impl Circle {
    /// `None`: workers are not to call only some of them.
    ///
    /// Cost: that of sorting them, so never on a worker.
    pub fn of(cluster: &Cluster) -> Option<Self> {
        cluster.policy.aperture?;
        let hash_of = |index: &u32| {
            let address = cluster.endpoints[*index as usize].address;
            (address_hash(address), address)
        };
        let mut order: Box<[u32]> = (0..cluster.endpoints.len() as u32).collect();
        order.sort_by_cached_key(hash_of);
        let differ = cluster.weights.windows(2).any(|pair| pair[0] != pair[1]);
        let ends = differ.then(|| {
            let weights = order.iter().map(|index| u64::from(cluster.weights[*index as usize]));
            let sums = weights.scan(0, |sum, weight| {
                *sum += weight;
                Some(*sum)
            });
            sums.collect()
        });
        Some(Self { order, ends })
    }

    fn length(&self) -> u64 {
        self.end_of(self.order.len() - 1)
    }

    /// Where a place ends.
    fn end_of(&self, place: usize) -> u64 {
        self.ends.as_ref().map_or(place as u64 + 1, |ends| ends[place])
    }

    /// The place that a point is in.
    fn place_at(&self, point: u64) -> usize {
        match &self.ends {
            None => point as usize,
            Some(ends) => ends.partition_point(|end| *end <= point),
        }
    }

    /// How many shares of a worker an arc is long, so that every worker's holds so many endpoints.
    fn shares(&self, least: u64, workers: u64) -> u64 {
        let (mut too_few, mut enough) = (0, workers);
        let holds =
            |shares| (0..workers).all(|worker| self.count(worker, shares, workers) >= least);
        while too_few + 1 < enough {
            let middle = u64::midpoint(too_few, enough);
            if holds(middle) {
                enough = middle;
            } else {
                too_few = middle;
            }
        }
        enough
    }

    /// How many endpoints a worker's arc holds; what is in it by a fraction counts by the fraction, where
    /// all have the same weight.
    fn count(&self, worker: u64, shares: u64, workers: u64) -> u64 {
        let length = self.length();
        if self.ends.is_none() {
            return shares * length / workers;
        }
        let (begin, end) =
            (worker * length / workers, ((worker + shares) * length).div_ceil(workers));
        let last = end - 1;
        let lap = if last < length { 0 } else { self.order.len() };
        let places = self.place_at(last % length) + lap - self.place_at(begin) + 1;
        places.min(self.order.len()) as u64
    }
}

impl Aperture {
    /// What a worker draws from; `None`: from all of them.
    ///
    /// Cost: linear in the endpoints that are in it.
    pub fn of(circle: &Circle, cluster: &Cluster, seat: Seat, random: u64) -> Option<Self> {
        let wanted = cluster.policy.aperture?.min_endpoints;
        let takes_turns = match cluster.balancing {
            Balancing::LeastRequest | Balancing::PeakEwma(_) => false,
            Balancing::RoundRobin => true,
            Balancing::Random | Balancing::RingHash(_) | Balancing::Maglev(_) => return None,
        };
        if circle.order.is_empty() || seat.workers == 1 {
            return None;
        }
        let workers = u64::from(seat.workers);
        let least = u64::from(wanted).min(circle.order.len() as u64);
        let shares = circle.shares(least, workers);
        if shares == workers {
            return None;
        }
        let (members, parts) = cut(circle, seat, shares);
        let weights = Weights::of(&parts);
        let turns = takes_turns.then(|| match &weights {
            Some(weights) if circle.ends.is_some() => Order::ByWeight(Turns::new(weights, random)),
            _ => Order::Steps(Steps::begin(&parts, random)),
        });
        Some(Self { members, weights, turns })
    }

    /// The endpoints that are in it, in the order of the circle.
    #[inline]
    pub fn members(&self) -> &[u32] {
        &self.members
    }

    /// How much of each is in it, where that differs.
    #[inline]
    pub(super) fn weights(&self) -> Option<&Weights> {
        self.weights.as_ref()
    }

    /// The member whose turn it is, where they take turns.
    #[inline]
    pub(super) fn turn(&self) -> Option<u64> {
        match self.turns.as_ref()? {
            Order::Steps(steps) => Some(steps.take()),
            Order::ByWeight(turns) => turns.take(self.weights()?),
        }
    }
}

/// Who is in a worker's arc, and how much of each, in parts of which the weight 1 has as many as there are
/// workers.
fn cut(circle: &Circle, seat: Seat, shares: u64) -> (Box<[u32]>, Vec<u32>) {
    let (worker, workers) = (u64::from(seat.worker), u64::from(seat.workers));
    let length = circle.length();
    let (mut at, end) = (worker * length, (worker + shares) * length);
    let mut place = circle.place_at(at / workers);
    let mut lap = 0;
    let (mut members, mut parts) = (Vec::new(), Vec::new());
    while at < end {
        let next = end.min(circle.end_of(place) * workers + lap);
        members.push(circle.order[place]);
        parts.push((next - at) as u32);
        at = next;
        place += 1;
        if place == circle.order.len() {
            place = 0;
            lap = length * workers;
        }
    }
    // An arc that is nearly all of the circle has both ends in the same endpoint.
    if members.len() > 1 && members.first() == members.last() {
        members.pop();
        parts[0] += parts.pop().expect("there are as many");
    }
    (members.into(), parts)
}

impl Steps {
    fn begin(parts: &[u32], random: u64) -> Self {
        let first = u64::from(parts[0]);
        // The last may be but a part of one.
        let unit = parts.iter().copied().max().map_or(1, u64::from);
        let length = parts.iter().copied().map(u64::from).sum();
        let point = below(mix(random) >> 32, length);
        Self { first, unit, length, point: Cell::new(point), began: Cell::new(point % unit) }
    }

    #[inline]
    fn take(&self) -> u64 {
        let next = self.point.get() + self.unit;
        let point = if next < self.length {
            next
        } else {
            let began = self.began.get() + 1;
            self.began.set(if began < self.unit { began } else { 0 });
            self.began.get()
        };
        self.point.set(point);
        if point < self.first { 0 } else { 1 + (point - self.first) / self.unit }
    }
}

#[cfg(test)]
#[path = "aperture_tests.rs"]
mod tests;
