//! Which endpoint gets the next request. By default the less loaded of two that chance chose (power of
//! two choices); otherwise as a policy says. Whatever it says, an endpoint which refused a connection is
//! tried last for a while.
//!
//! Before: the conductors know that a request needs an upstream. After: `forward` takes a
//! connection to the endpoint from its pool or makes one. A worker has a [`Load`] of its own for each
//! endpoint. Nothing here does I/O, reads a clock or draws a random number.
//!
//! Why refusals need care: an endpoint that refuses at once has nothing in flight, so it looks like
//! the least loaded of any two and would draw ever more requests.
//!
//! Source: M. Mitzenmacher, "The Power of Two Choices in Randomized Load Balancing", IEEE TPDS
//! 12(10), 2001.

pub mod aperture;
mod bounded;
pub mod consistent;
pub mod key;
pub mod latency;
pub mod load;
pub mod locality;
pub mod positions;
pub mod service;
pub mod slow_start;
pub mod turns;
pub mod weighted;

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;

use lateen_snapshot::model::{Balancing, Cluster, PeakEwma};

use crate::limits;
use aperture::{Aperture, Circle, Seat};
use consistent::Table;
use latency::Latency;
use load::{Load, OutOfService};
use service::InService;
use slow_start::SlowStart;
use turns::Turns;
use weighted::Weights;

/// Position of an endpoint in its cluster's list.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EndpointIndex(u32);

impl EndpointIndex {
    /// The endpoint at `index` of a list that [`limits`] bounds.
    pub const fn new(index: usize) -> Self {
        Self(index as u32)
    }

    /// The index as a `usize`, for indexing lists that run beside the balancer's.
    pub const fn as_usize(self) -> usize {
        self.0 as usize
    }
}

/// What a request says of the endpoint that it is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish {
    /// The one that its key leads to.
    Key(u64),
    /// This one, if it can be had.
    Endpoint(EndpointIndex),
}

/// What the choices of all workers in a cluster share.
#[derive(Clone, Debug, Default)]
pub struct Shared {
    /// The endpoints' weights, where they differ.
    weights: Option<Arc<Weights>>,
    /// Where keys lead, if they count.
    table: Option<Arc<Table>>,
    /// The order of which each worker calls a part, if it does.
    circle: Option<Arc<Circle>>,
}

impl Shared {
    /// `None`: there is nothing to share.
    ///
    /// Cost: that of a [`Table`] or of a [`Circle`], so never on a worker.
    pub fn of(cluster: &Cluster) -> Option<Self> {
        let weights = Weights::of(&cluster.weights).map(Arc::new);
        let table = Table::of(cluster).map(Arc::new);
        let circle = Circle::of(cluster).map(Arc::new);
        let is_any = weights.is_some() || table.is_some() || circle.is_some();
        is_any.then_some(Self { weights, table, circle })
    }
}

/// What a balancer begins with.
#[derive(Clone, Copy, Debug)]
pub struct Draw {
    /// Any 64 evenly spread bits.
    pub random: u64,
    /// The worker's clock.
    pub now_ns: u64,
    /// Which of the workers it is.
    pub seat: Seat,
}

/// How one worker chooses in a cluster, and what it remembers for that.
#[derive(Debug)]
pub struct Balancer {
    shared: Shared,
    method: Method,
    slow_start: Option<Box<SlowStart>>,
    aperture: Option<Box<Aperture>>,
}

#[derive(Debug)]
enum Method {
    LeastRequest,
    Random,
    /// Whom the last choice fell on.
    RoundRobin(Cell<u32>),
    WeightedRoundRobin(Turns),
    PeakEwma {
        terms: PeakEwma,
        /// Beside the endpoints.
        latencies: Box<[Rc<Latency>]>,
    },
    Keyed(Keyed),
}

#[derive(Debug)]
struct Keyed {
    bound_percent: Option<u32>,
    /// Of the worker, at all endpoints.
    in_flight: Rc<Cell<u32>>,
}

impl Balancer {
    /// Begins.
    pub fn new(cluster: &Cluster, shared: Shared, draw: Draw) -> Self {
        let stayed = vec![None; cluster.endpoints.len()];
        let none = Self {
            shared: Shared::default(),
            method: Method::LeastRequest,
            slow_start: None,
            aperture: None,
        };
        let terms = cluster.policy.slow_start.as_deref();
        let slow_start = terms.map(|terms| Box::new(SlowStart::begin(*terms, stayed.len())));
        Self { slow_start, ..none.as_in(cluster, shared, draw, &stayed) }
    }

    /// Goes on in the same cluster as another snapshot has it; of each endpoint `stayed` says where it
    /// stood.
    pub fn as_in(
        &self,
        cluster: &Cluster,
        shared: Shared,
        draw: Draw,
        stayed: &[Option<u32>],
    ) -> Self {
        let latency_of = |terms: &PeakEwma, at: Option<u32>| match (&self.method, at) {
            (Method::PeakEwma { latencies, .. }, Some(at)) => Rc::clone(&latencies[at as usize]),
            _ => Rc::new(Latency::unknown(terms, draw.now_ns)),
        };
        let method = match (&cluster.balancing, &shared.weights, &self.method) {
            (Balancing::LeastRequest, ..) => Method::LeastRequest,
            (Balancing::Random, ..) => Method::Random,
            (Balancing::RoundRobin, Some(weights), _) => {
                Method::WeightedRoundRobin(Turns::new(weights, draw.random))
            }
            (Balancing::RoundRobin, None, Method::RoundRobin(turn)) => {
                Method::RoundRobin(turn.clone())
            }
            (Balancing::RoundRobin, None, _) => Method::RoundRobin(Cell::new(0)),
            (Balancing::PeakEwma(terms), ..) => {
                let latencies = stayed.iter().map(|at| latency_of(terms, *at)).collect();
                Method::PeakEwma { terms: *terms, latencies }
            }
            (Balancing::RingHash(hashing) | Balancing::Maglev(hashing), _, before) => {
                let in_flight = match before {
                    Method::Keyed(keyed) => Rc::clone(&keyed.in_flight),
                    _ => Rc::default(),
                };
                Method::Keyed(Keyed { bound_percent: hashing.bound_percent, in_flight })
            }
        };
        let slow_start = cluster.policy.slow_start.as_deref().map(|terms| {
            let before = self.slow_start.as_deref();
            Box::new(SlowStart::follow(*terms, before, stayed, draw.now_ns))
        });
        let circle = shared.circle.as_deref();
        let aperture = circle.and_then(|of| Aperture::of(of, cluster, draw.seat, draw.random));
        Self { shared, method, slow_start, aperture: aperture.map(Box::new) }
    }

    /// The part of the cluster that it chooses from, if that is not all of it.
    #[inline]
    pub fn aperture(&self) -> Option<&Aperture> {
        self.aperture.as_deref()
    }

    /// Endpoints that are new, if their share grows.
    #[inline]
    pub fn slow_start(&self) -> Option<&SlowStart> {
        self.slow_start.as_deref()
    }

    /// Where a key leads whatever the state of the endpoints; `None`: keys do not count.
    pub fn owner(&self, key: u64) -> Option<EndpointIndex> {
        self.shared.table.as_ref()?.walk(key).next().map(EndpointIndex)
    }

    /// A request was given to an endpoint.
    #[inline]
    pub fn on_start(&self) {
        if let Method::Keyed(keyed) = &self.method {
            keyed.in_flight.set(keyed.in_flight.get() + 1);
        }
    }

    /// A request at an endpoint ended, or was given up. `span_ns` is how long that took until `now_ns`,
    /// asked for where it counts; `None`: it says nothing of how long requests take there.
    #[inline]
    pub fn on_end(&self, endpoint: EndpointIndex, span_ns: impl Fn() -> Option<(u64, u64)>) {
        match &self.method {
            Method::LeastRequest
            | Method::Random
            | Method::RoundRobin(_)
            | Method::WeightedRoundRobin(_) => {}
            Method::PeakEwma { terms, latencies } => {
                if let Some((elapsed_ns, now_ns)) = span_ns() {
                    latencies[endpoint.as_usize()].observe(terms, elapsed_ns, now_ns);
                }
            }
            Method::Keyed(keyed) => keyed.in_flight.set(keyed.in_flight.get().saturating_sub(1)),
        }
    }
}

/// What one choice among `endpoints` goes by.
#[derive(Clone, Copy, Debug)]
pub struct Choice<'a, E> {
    /// Those to choose from.
    pub endpoints: &'a [E],
    /// Which of them are in service.
    pub service: &'a InService,
    /// How to choose.
    pub balancer: &'a Balancer,
    /// The worker's clock.
    pub now_ns: u64,
    /// Any 64 evenly spread bits.
    pub random: u64,
    /// The request's key, if it has one.
    pub key: Option<u64>,
    /// The endpoints that this request already went to; a handful at most.
    pub tried: &'a [EndpointIndex],
    /// So few are in service that those which were found bad are to be chosen too.
    pub panics: bool,
}

impl<E: AsRef<Load>> Choice<'_, E> {
    /// Whether an endpoint that is wished for can be had.
    pub fn allows(&self, wished: EndpointIndex) -> bool {
        let Some(endpoint) = self.endpoints.get(wished.as_usize()) else { return false };
        let load = endpoint.as_ref();
        let is_penalised = load.penalty_until_ns() > self.now_ns;
        !is_penalised && !self.is_out(load) && !self.tried.contains(&wished)
    }

    /// Chooses an endpoint that is not in `tried`. `None` when every endpoint was tried or ordered out, or
    /// there is none. Penalised endpoints come only when no other is left, the one whose penalty ends first
    /// before the rest.
    ///
    /// Cost: two probes whatever the count; [`limits::EXTRA_PROBES_MAX`] more when both fall on
    /// penalised or tried endpoints; when these fail too a look at those in service, however many are not,
    /// one after the other until one is usable, but at no more than [`limits::SCAN_STEPS_MAX`], or where it
    /// panics twice as many. A ring costs a search besides. Does not allocate.
    #[inline]
    pub fn pick(&self) -> Option<EndpointIndex> {
        let count = self.endpoints.len() as u64;
        if count < 2 {
            return self.scan(0);
        }
        match &self.balancer.method {
            Method::LeastRequest | Method::PeakEwma { .. } => {}
            Method::RoundRobin(turn) => {
                // A list that has become shorter: begin anew.
                let after = |turn: u64| if turn + 1 < count { turn + 1 } else { 0 };
                let first = after(turn.get().into());
                // Who can't be had, or is passed over, loses its turn, and the turn goes on from who was
                // picked in its place: that one does not get its own on top. Where all are passed over,
                // each has its turn.
                let picked = std::iter::successors(Some(first), |at| Some(after(*at)))
                    .take(1 + limits::EXTRA_PROBES_MAX)
                    .find(|at| self.is_usable(*at))
                    .map(|at| EndpointIndex(at as u32))
                    .or_else(|| self.scan(first));
                turn.set(picked.map_or(first as u32, |index| index.0));
                return picked;
            }
            Method::WeightedRoundRobin(turns) => return self.pick_by_turns(turns),
            Method::Random => {
                let index = self.everyone().draw(self.random);
                return if self.is_usable(index) {
                    Some(EndpointIndex(index as u32))
                } else {
                    self.pick_further()
                };
            }
            Method::Keyed(keyed) => return self.pick_by_key(keyed),
        }
        self.pick_of_two(&self.everyone()).or_else(|| self.pick_further())
    }

    /// Chooses within the worker's [`Aperture`]. `None`: there is none, or nothing in it is better than last
    /// choice.
    ///
    /// Cost: that of [`pick`](Self::pick), the scan being of what is in it, and of no more than
    /// [`limits::APERTURE_STEPS_MAX`].
    #[inline]
    pub fn pick_near(&self) -> Option<EndpointIndex> {
        let aperture = self.balancer.aperture()?;
        let field = Field::of(aperture);
        let picked = match self.balancer.method {
            Method::RoundRobin(_) | Method::WeightedRoundRobin(_) => (0..=limits::EXTRA_PROBES_MAX)
                .map_while(|_| aperture.turn())
                .map(|place| field.at(place))
                .find(|index| self.is_usable(*index))
                .map(|index| EndpointIndex(index as u32)),
            _ => self.pick_of_two(&field),
        };
        picked.or_else(|| self.probe_further(&field)).or_else(|| self.scan_near(&field))
    }

    /// The better of two by chance, if it can be had.
    #[inline]
    fn pick_of_two(&self, field: &Field<'_>) -> Option<EndpointIndex> {
        let (first, second) = field.draw_two(self.random);
        match (self.is_usable(field.at(first)), self.is_usable(field.at(second))) {
            (true, true) => Some(self.better(field, first, second)),
            (true, false) => Some(EndpointIndex(field.at(first) as u32)),
            (false, true) => Some(EndpointIndex(field.at(second) as u32)),
            (false, false) => None,
        }
    }

    /// All of them.
    #[inline]
    fn everyone(&self) -> Field<'_> {
        let weights = self.balancer.shared.weights.as_deref();
        Field { members: None, count: self.endpoints.len() as u64, weights }
    }

    #[inline]
    fn load(&self, index: u64) -> &Load {
        self.endpoints[index as usize].as_ref()
    }

    #[inline]
    fn is_usable(&self, index: u64) -> bool {
        let load = self.load(index);
        load.penalty_until_ns() <= self.now_ns
            && !self.is_out(load)
            && !self.is_passed_over(index)
            && !self.tried.contains(&EndpointIndex(index as u32))
    }

    /// Whether an endpoint is out of service, as far as that counts.
    #[inline]
    fn is_out(&self, load: &Load) -> bool {
        load.is_out_of_service()
            && (!self.panics
                || load.is_out_for(OutOfService::Terminating)
                || load.is_out_for(OutOfService::Ordered))
    }

    /// Whether it is new, and this choice not for it.
    #[inline]
    fn is_passed_over(&self, index: u64) -> bool {
        self.balancer
            .slow_start()
            .is_some_and(|slow| slow.passes_over(index, self.random, self.now_ns))
    }

    /// The better one of two. On a tie the first wins; chance chose it evenly.
    #[inline]
    fn better(&self, field: &Field<'_>, first: u64, second: u64) -> EndpointIndex {
        let waiting = |place: u64| self.load(field.at(place)).in_flight();
        let second_is_better = match (&self.balancer.method, field.weights) {
            (Method::PeakEwma { terms, latencies }, weights) => {
                let cost = |place: u64| {
                    let in_flight = f64::from(waiting(place));
                    let in_flight = in_flight / weights.map_or(1.0, |of| of.over_mean(place));
                    latencies[field.at(place) as usize].cost(terms, in_flight, self.now_ns)
                };
                cost(second) < cost(first)
            }
            (_, None) => waiting(second) < waiting(first),
            // Both were drawn by their weights: a heavier one is as good with as much more to do.
            (_, Some(weights)) => {
                let weight = |place: u64| u64::from(weights.of_one(place));
                u64::from(waiting(second)) * weight(first)
                    < u64::from(waiting(first)) * weight(second)
            }
        };
        EndpointIndex(field.at(if second_is_better { second } else { first }) as u32)
    }

    /// The next by turn, passing over those that are unusable.
    fn pick_by_turns(&self, turns: &Turns) -> Option<EndpointIndex> {
        let weights = self.balancer.shared.weights.as_deref().expect("turns are made of them");
        for _ in 0..=limits::EXTRA_PROBES_MAX {
            let index = turns.take(weights)?;
            if self.is_usable(index) {
                return Some(EndpointIndex(index as u32));
            }
        }
        self.pick_further()
    }

    /// The choices were unusable: a few more probes, then the scan.
    #[cold]
    fn pick_further(&self) -> Option<EndpointIndex> {
        let field = self.everyone();
        let probed = self.probe_further(&field);
        probed.or_else(|| self.scan(below(mix(self.random) >> 32, field.count)))
    }

    /// A few more probes, still keeping the better of two where that is asked for.
    #[cold]
    fn probe_further(&self, field: &Field<'_>) -> Option<EndpointIndex> {
        let compares =
            matches!(self.balancer.method, Method::LeastRequest | Method::PeakEwma { .. });
        let mut found = None;
        for probe in 1..=limits::EXTRA_PROBES_MAX as u64 {
            let place = field.draw(mix(self.random.wrapping_add(probe)));
            if !self.is_usable(field.at(place)) {
                continue;
            }
            match found {
                None if compares => found = Some(place),
                None => return Some(EndpointIndex(field.at(place) as u32)),
                Some(other) => return Some(self.better(field, other, place)),
            }
        }
        found.map(|place| EndpointIndex(field.at(place) as u32))
    }

    /// The first that can be had from a random place on: as in a scan of all, one that is new is not passed
    /// over, and the neighbour of the dead does not get all that they would have.
    #[cold]
    fn scan_near(&self, field: &Field<'_>) -> Option<EndpointIndex> {
        let start = below(mix(self.random) >> 32, field.count);
        let steps = field.count.min(limits::APERTURE_STEPS_MAX);
        let indexes = (start..start + steps).map(|place| field.at(wrap(place, field.count)));
        let mut indexes = indexes.map(|index| EndpointIndex(index as u32));
        indexes.find(|index| self.allows(*index))
    }

    /// The first usable endpoint from `start` on, else the untried one whose penalty ends first; those out
    /// of service come after all others, and those that were ordered out not at all.
    /// The start is random, so that one survivor's neighbour does not get all that the dead would
    /// have.
    fn scan(&self, start: u64) -> Option<EndpointIndex> {
        // For a request of an older snapshot it may have changed.
        let is_good = |index: &EndpointIndex| !self.is_out(self.load(u64::from(index.0)));
        let in_service = || self.soonest(self.service.round(start as usize)).filter(is_good);
        let count = self.endpoints.len();
        let all = || self.soonest((start as usize..count).chain(0..start as usize));
        if !self.panics {
            return in_service().or_else(all);
        }
        // Among all there may be so many who leave that nobody else is reached.
        let any = all();
        any.filter(is_good).or_else(in_service).or(any)
    }

    /// The first usable one of these, else the untried one whose penalty ends first. Those that were tried
    /// are few: what is looked at in vain is bounded by the rest.
    fn soonest(&self, indexes: impl Iterator<Item = usize>) -> Option<EndpointIndex> {
        let mut soonest: Option<((bool, u64), EndpointIndex)> = None;
        let indexes = indexes.map(EndpointIndex::new).filter(|index| !self.tried.contains(index));
        for index in indexes.take(limits::SCAN_STEPS_MAX) {
            let load = self.load(u64::from(index.0));
            if load.is_out_for(OutOfService::Ordered) {
                continue;
            }
            let rank = (self.is_out(load), load.penalty_until_ns().max(self.now_ns));
            if rank == (false, self.now_ns) {
                return Some(index);
            }
            if soonest.is_none_or(|(least, _)| rank < least) {
                soonest = Some((rank, index));
            }
        }
        soonest.map(|(_, index)| index)
    }
}

/// What chance draws from, by place: all endpoints of a cluster, or the members of an aperture.
struct Field<'a> {
    /// Who stands at each place; `None`: all stand at their own.
    members: Option<&'a [u32]>,
    count: u64,
    weights: Option<&'a Weights>,
}

impl<'a> Field<'a> {
    #[inline]
    fn of(aperture: &'a Aperture) -> Self {
        let members = aperture.members();
        Self { members: Some(members), count: members.len() as u64, weights: aperture.weights() }
    }

    /// The endpoint at a place.
    #[inline]
    fn at(&self, place: u64) -> u64 {
        self.members.map_or(place, |members| members[place as usize].into())
    }

    /// A place by chance and weight.
    #[inline]
    fn draw(&self, random: u64) -> u64 {
        match self.weights {
            None => below(random >> 32, self.count),
            Some(weights) => weights.draw(random),
        }
    }

    /// Two places by chance and weight; different ones, unless there is but one.
    #[inline]
    fn draw_two(&self, random: u64) -> (u64, u64) {
        let first = self.draw(random);
        if self.weights.is_none() {
            let offset = 1 + below(random & 0xffff_ffff, self.count - 1);
            return (first, wrap(first + offset, self.count));
        }
        let mut random = random;
        for _ in 0..limits::EXTRA_PROBES_MAX {
            random = mix(random);
            let second = self.draw(random);
            if second != first {
                return (first, second);
            }
        }
        (first, wrap(first + 1, self.count))
    }
}

/// Maps 32 random bits evenly to `0..bound`, by multiplication instead of division (D. Lemire,
/// "Fast Random Integer Generation in an Interval", ACM TOMACS 29(1), 2019); the bias is below
/// bound / 2^32.
const fn below(random_32: u64, bound: u64) -> u64 {
    (random_32 * bound) >> 32
}

/// `index` modulo `count`, for an index below twice the count.
const fn wrap(index: u64, count: u64) -> u64 {
    if index < count { index } else { index - count }
}

/// SplitMix64's finaliser (G. Steele and others, OOPSLA 2014): further evenly spread bits from the
/// same draw.
const fn mix(value: u64) -> u64 {
    let value = value.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

#[cfg(test)]
mod tests;
#[cfg(test)]
mod bounded_tests;
