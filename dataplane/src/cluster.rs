//! Clusters and endpoints as one worker knows them: load, refusals, idle connections.
//!
//! Before: a request's route names a cluster of its snapshot. After: `decide` chooses among its
//! endpoints, `forward` connects to one. What is known of an endpoint survives snapshots: it is kept
//! by the cluster's name and the endpoint's address, and adding or removing one endpoint leaves all
//! others as they were. A cluster is made at its first use, so that a snapshot of thousands costs a
//! worker nothing but for those that it serves.

pub mod registry;
mod shares;

use std::cell::{Cell, OnceCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use lateen_ring::Instant;
use lateen_snapshot::model::proxy_protocol::ProxyVersion;
use lateen_snapshot::model::{self, HashKey};

use crate::bulkhead::Bulkhead;
use crate::cluster::shares::Retries;
use crate::decide::balance::aperture::Seat;
use crate::decide::balance::load::{Load, OutOfService};
use crate::decide::balance::service::InService;
use crate::decide::balance::{Balancer, Choice, Draw, EndpointIndex, Shared, Wish};
use crate::decide::lasting::{lasts_ns, scattered};
use crate::decide::session::endpoint_mark;
use crate::forward::pool::{ClusterIdle, IdleList};
use crate::health::watch::{self, Watch};
use crate::limits;
use crate::shard::Shard;
use crate::totals::ClusterTotals;

/// What one worker knows of one endpoint.
#[derive(Default)]
pub struct Endpoint {
    /// How busy and how willing it is.
    pub load: Load,
    /// Connections to it that nobody uses.
    pub idle: IdleList,
    /// Responses in a row that came in one piece with their head.
    short_responses: Cell<u32>,
    /// Its cluster has it no longer: no connection to it is kept.
    retired: Cell<bool>,
    /// Its last try failed, or it is back from an ejection: a good one is worth noting.
    suspect: Cell<bool>,
}

// A worker has one for each endpoint that it may call, in a block of the allocator's of 64 bytes.
const _: () = assert!(size_of::<Endpoint>() <= 40);

impl Endpoint {
    /// Whether its cluster has it no longer.
    #[inline]
    pub fn is_retired(&self) -> bool {
        self.retired.get()
    }

    /// Whether a good try is worth noting.
    #[inline]
    pub fn is_suspect(&self) -> bool {
        self.suspect.get()
    }

    /// Its last try failed, or went well.
    pub fn set_suspect(&self, is_suspect: bool) {
        self.suspect.set(is_suspect);
    }

    /// Notes whether a response came in one piece with its head.
    #[inline]
    pub fn note_response(&self, is_short: bool) {
        let in_a_row = self.short_responses.get();
        self.short_responses.set(if is_short { in_a_row.saturating_add(1) } else { 0 });
    }

    /// How many have come so in a row.
    #[inline]
    pub fn short_responses(&self) -> u32 {
        self.short_responses.get()
    }
}

impl AsRef<Load> for Rc<Endpoint> {
    #[inline]
    fn as_ref(&self) -> &Load {
        &self.load
    }
}

/// A cluster of one snapshot, with what this worker knows of its endpoints.
pub struct Cluster {
    spec: Arc<model::Cluster>,
    /// Beside `spec.endpoints`.
    endpoints: Box<[Rc<Endpoint>]>,
    balancer: Balancer,
    /// Among [`PICK_METHODS`](crate::observe::metrics::PICK_METHODS).
    method_index: usize,
    /// How many of the endpoints are in service, as this view of it counts.
    service: InService,
    /// Of its endpoints, where sessions are kept.
    marks: OnceCell<Box<[(u64, EndpointIndex)]>>,
    /// Its idle connections.
    pub idle: Rc<ClusterIdle>,
    /// What it may take of the process, with the other parts of its service.
    pub bulkhead: Rc<Bulkhead>,
    /// What all workers count of it together.
    pub totals: Arc<ClusterTotals>,
    /// What it tells and hears of its endpoints' health.
    pub watch: Watch,
    retries: Rc<Retries>,
    /// A newer snapshot's view has taken its place.
    is_superseded: Cell<bool>,
}

impl Cluster {
    fn new(
        shard: &Shard,
        spec: Arc<model::Cluster>,
        shared: Shared,
        (totals, watch): (Arc<ClusterTotals>, Watch),
        (bulkhead, retries): (Rc<Bulkhead>, Rc<Retries>),
    ) -> Self {
        let draw = draw(shard);
        let endpoints: Box<[Rc<Endpoint>]> = spec.endpoints.iter().map(|_| Rc::default()).collect();
        let balancer = Balancer::new(&spec, shared, draw);
        let method_index = method_index(&spec.balancing);
        Self {
            service: in_service(&spec, &endpoints),
            marks: OnceCell::new(),
            idle: Rc::default(),
            spec,
            endpoints,
            balancer,
            method_index,
            bulkhead,
            totals,
            watch,
            retries,
            is_superseded: Cell::new(false),
        }
    }

    /// The same cluster as another snapshot has it: endpoints that are in both stay what they are.
    fn as_in(
        &self,
        spec: Arc<model::Cluster>,
        shared: Shared,
        draw: Draw,
        stayed: &[Option<u32>],
    ) -> Self {
        let endpoint = |at: &Option<u32>| match at {
            Some(at) => Rc::clone(&self.endpoints[*at as usize]),
            None => Rc::default(),
        };
        let endpoints: Box<[Rc<Endpoint>]> = stayed.iter().map(endpoint).collect();
        let balancer = self.balancer.as_in(&spec, shared, draw, stayed);
        let method_index = method_index(&spec.balancing);
        let (idle, totals) = (self.idle.clone(), self.totals.clone());
        let watch = self.watch.as_in(&spec);
        Self {
            service: in_service(&spec, &endpoints),
            marks: OnceCell::new(),
            bulkhead: Rc::clone(&self.bulkhead),
            retries: Rc::clone(&self.retries),
            is_superseded: Cell::new(false),
            spec,
            endpoints,
            balancer,
            method_index,
            idle,
            totals,
            watch,
        }
    }

    /// The cluster's name.
    pub fn name(&self) -> &str {
        &self.spec.name
    }

    /// As the snapshot has it.
    pub fn spec(&self) -> &Arc<model::Cluster> {
        &self.spec
    }

    /// How many endpoints it has.
    pub fn endpoint_count(&self) -> usize {
        self.endpoints.len()
    }

    /// Its endpoints.
    pub fn endpoints(&self) -> &[Rc<Endpoint>] {
        &self.endpoints
    }

    /// The same as the snapshot has them.
    pub fn endpoint_specs(&self) -> &[model::Endpoint] {
        &self.spec.endpoints
    }

    /// One of its endpoints.
    #[inline]
    pub fn endpoint(&self, index: EndpointIndex) -> &Rc<Endpoint> {
        &self.endpoints[index.as_usize()]
    }

    /// Where an endpoint is.
    #[inline]
    pub fn address_of(&self, index: EndpointIndex) -> SocketAddr {
        self.spec.endpoints[index.as_usize()].address
    }

    /// Until a connection to one of them stands.
    pub fn connect_timeout(&self, of_process: Duration) -> Duration {
        self.spec.connect_timeout_ms.map_or(of_process, |ms| Duration::from_millis(ms.into()))
    }

    /// How long a connection to one of them that opened at `opened` lasts; `None`: as config does not say.
    #[inline]
    pub fn connection_ends(&self, opened: Instant) -> Option<Instant> {
        let most_ns = u64::from(self.spec.policy.connection_ms_max?) * 1_000_000;
        let lasts_ns = lasts_ns(most_ns, scattered(opened.as_nanos()));
        Some(opened + Duration::from_nanos(lasts_ns))
    }

    /// The header that connections to its endpoints begin with, if any. Such a connection serves one
    /// client alone.
    #[inline]
    pub fn proxy_protocol(&self) -> Option<ProxyVersion> {
        self.spec.policy.proxy_protocol
    }

    /// `Host` for an HTTP/1.0 request that named none.
    pub fn fallback_authority(&self) -> String {
        match self.spec.endpoints.first() {
            Some(endpoint) => endpoint.address.to_string(),
            None => self.spec.name.clone(),
        }
    }

    /// Takes an endpoint out of service for a reason, or lets that reason go. The one way to do so: the
    /// panic threshold counts along. One that is in service again is as new for a slow start. Views of the
    /// cluster that older snapshots have see the endpoint change, but count no more.
    pub fn set_out_of_service(&self, index: EndpointIndex, why: OutOfService, is_out: bool) {
        let is_back = self.service.set(index.as_usize(), &self.endpoint(index).load, why, is_out);
        if let Some(slow) = self.balancer.slow_start()
            && is_back
        {
            slow.restart(index.as_usize(), lateen_ring::now().as_nanos());
        }
    }

    /// Whether so few endpoints are in service that it counts no longer.
    #[inline]
    pub fn is_panicking(&self) -> bool {
        self.service.is_panicking()
    }

    /// Hears what was decided of its endpoints. A view that another one has taken the place of hears nothing
    /// more: its endpoints are that one's too, which counts along.
    #[inline]
    fn look(&self) {
        if self.totals.health.version() != self.watch.followed() && !self.is_superseded.get() {
            watch::follow(self);
        }
    }

    /// How many of these endpoints are in service.
    pub fn in_service_among(&self, endpoints: &[EndpointIndex]) -> usize {
        let is_in = |index: &&EndpointIndex| !self.endpoint(**index).load.is_out_of_service();
        endpoints.iter().filter(is_in).count()
    }

    /// How many of its endpoints are in service.
    pub fn in_service_count(&self) -> usize {
        self.look();
        match self.is_superseded.get() {
            false => self.service.count() as usize,
            // It counts no more.
            true => self.endpoints.iter().filter(|it| !it.load.is_out_of_service()).count(),
        }
    }

    /// How much of it is in service.
    pub fn in_service_percent(&self) -> u32 {
        self.look();
        self.service.percent()
    }

    /// Endpoints are being taken away or ordered out, or stay after all, as the newest snapshot says.
    fn note_leaving(&self) {
        let policy = &self.spec.policy;
        self.note_listed(&policy.terminating, OutOfService::Terminating);
        self.note_listed(&policy.ordered_out, OutOfService::Ordered);
    }

    fn note_listed(&self, positions: &[u32], why: OutOfService) {
        let mut listed = positions.iter().copied().peekable();
        for (at, endpoint) in self.endpoints.iter().enumerate() {
            let is_listed = listed.next_if_eq(&(at as u32)).is_some();
            if is_listed != endpoint.load.is_out_for(why) {
                self.set_out_of_service(EndpointIndex::new(at), why, is_listed);
            }
        }
    }

    /// What an endpoint is called in the tokens of sessions.
    pub fn mark_of(&self, index: EndpointIndex) -> u64 {
        endpoint_mark(self.name(), self.address_of(index))
    }

    /// The endpoint that tokens call so. Cost: a search; at the first use all endpoints are marked.
    pub fn endpoint_of_mark(&self, mark: u64) -> Option<EndpointIndex> {
        let marks = self.marks.get_or_init(|| {
            let indexes = (0..self.endpoints.len()).map(EndpointIndex::new);
            let mut marks: Vec<_> = indexes.map(|index| (self.mark_of(index), index)).collect();
            marks.sort_unstable();
            marks.into()
        });
        let at = marks.binary_search_by_key(&mark, |(mark, _)| *mark).ok()?;
        Some(marks[at].1)
    }

    /// How an endpoint is chosen.
    #[inline]
    pub fn balancer(&self) -> &Balancer {
        &self.balancer
    }

    /// What a request's key is made of; `None`: it needs none.
    #[inline]
    pub fn hash_keys(&self) -> Option<&[HashKey]> {
        match &self.spec.balancing {
            model::Balancing::RingHash(hashing) | model::Balancing::Maglev(hashing) => {
                Some(&hashing.keys)
            }
            _ => None,
        }
    }

    /// A request came that goes to one of them.
    #[inline]
    pub fn note_request(&self) {
        self.retries.note_request();
    }

    /// Pays for one more try from its service's budget.
    pub fn pay_for_try(&self, now_ns: u64) -> bool {
        self.retries.pay(&self.spec, now_ns)
    }

    /// Picks an endpoint for a request that already went to `tried`.
    #[inline]
    pub fn pick(
        &self,
        shard: &Shard,
        wish: Option<Wish>,
        tried: &[EndpointIndex],
    ) -> Option<EndpointIndex> {
        self.look();
        let key = match wish {
            Some(Wish::Key(key)) => Some(key),
            Some(Wish::Endpoint(_)) | None => None,
        };
        let metrics = shard.metrics();
        metrics.endpoint_pick[self.method_index].increment();
        let now_ns = lateen_ring::now().as_nanos();
        let panics = self.is_panicking();
        if panics {
            metrics.endpoint_pick_panic.increment();
        }
        if self.balancer.slow_start().is_some_and(|slow| slow.is_active(now_ns)) {
            metrics.endpoint_pick_slow_start.increment();
        }
        let choice = Choice {
            endpoints: &self.endpoints,
            service: &self.service,
            balancer: &self.balancer,
            now_ns,
            random: shard.random(),
            key,
            tried,
            panics,
        };
        if let Some(Wish::Endpoint(wished)) = wish
            && choice.allows(wished)
        {
            return Some(wished);
        }
        let picked = match self.balancer.aperture() {
            None => choice.pick(),
            Some(_) => choice.pick_near().or_else(|| {
                metrics.endpoint_pick_aperture_widened.increment();
                choice.pick()
            }),
        };
        if self.hash_keys().is_some() && tried.is_empty() {
            match key {
                None => metrics.endpoint_pick_keyless.increment(),
                Some(key) if picked != self.balancer.owner(key) => {
                    metrics.endpoint_pick_moved.increment();
                }
                Some(_) => {}
            }
        }
        picked
    }
}

fn in_service(spec: &model::Cluster, endpoints: &[Rc<Endpoint>]) -> InService {
    let threshold = spec.policy.panic_threshold_percent.unwrap_or(limits::PANIC_THRESHOLD_PERCENT);
    InService::of(endpoints.iter().map(|endpoint| &endpoint.load), threshold)
}

const fn method_index(balancing: &model::Balancing) -> usize {
    match balancing {
        model::Balancing::LeastRequest => 0,
        model::Balancing::RoundRobin => 1,
        model::Balancing::Random => 2,
        model::Balancing::PeakEwma(_) => 3,
        model::Balancing::RingHash(_) => 4,
        model::Balancing::Maglev(_) => 5,
    }
}

fn draw(shard: &Shard) -> Draw {
    let (worker, workers) = (shard.worker() as u32, shard.config.workers as u32);
    let seat = Seat { worker, workers };
    Draw { random: shard.random(), now_ns: lateen_ring::now().as_nanos(), seat }
}

/// An endpoint that was chosen for a request, and its cluster.
#[derive(Clone)]
pub struct Chosen {
    /// The cluster.
    pub cluster: Rc<Cluster>,
    /// Which of its endpoints.
    pub index: EndpointIndex,
}

impl Chosen {
    /// The endpoint.
    #[inline]
    pub fn endpoint(&self) -> &Rc<Endpoint> {
        self.cluster.endpoint(self.index)
    }

    /// Where it is.
    #[inline]
    pub fn address(&self) -> SocketAddr {
        self.cluster.address_of(self.index)
    }

    /// The same endpoint in the cluster as another snapshot has it, if that has it.
    pub fn as_of(&self, cluster: &Rc<Cluster>) -> Option<Self> {
        if Rc::ptr_eq(&self.cluster, cluster) {
            return Some(self.clone());
        }
        let index = cluster.endpoints.iter().position(|it| Rc::ptr_eq(it, self.endpoint()))?;
        Some(Self { cluster: Rc::clone(cluster), index: EndpointIndex::new(index) })
    }
}

impl std::fmt::Debug for Cluster {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Cluster").field(&self.spec.name).finish()
    }
}

impl std::fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Endpoint").field("load", &self.load).finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Chosen {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} of {}", self.address(), self.cluster.name())
    }
}

#[cfg(test)]
mod tests;
