//! A worker's view of one snapshot.
//!
//! Before: the main thread loaded it. After: a request pins the view that was live when it began; a
//! tunnel pins no more than its cluster. The view is made when the change is prepared, and costs a
//! word for each cluster; a cluster is looked up among what the worker knows at its first use.

use std::cell::{OnceCell, RefCell};
use std::rc::Rc;
use std::sync::Arc;

use lateen_snapshot::model::failover::Failover;
use lateen_snapshot::model::{ClusterId, Listener, RouteId};

use crate::breaker::Breakers;
use crate::cluster::Cluster;
use crate::decide::balance::locality::{Level, nearest};
use crate::decide::route::plan::LimitsIndex;
use crate::decide::route::regexes::WorkerRegexes;
use crate::hedging::Hedge;
use crate::loaded::{Changed, EpochWord, ListenerSlot, Loaded};
use crate::rate_limit::Limits;
use crate::shard::Shard;

/// One snapshot, seen by one worker.
pub struct Live {
    /// The process's.
    pub loaded: Arc<Loaded>,
    /// What this worker needs to match with its regular expressions.
    pub regexes: WorkerRegexes,
    /// Beside the snapshot's clusters.
    clusters: Box<[OnceCell<Rc<Cluster>>]>,
    /// Beside the snapshot's routes, if any of them sends second requests.
    hedges: Box<[OnceCell<Rc<Hedge>>]>,
    /// Beside the limits of its routes and backends.
    limits: Box<[OnceCell<Limits>]>,
    /// Of its routes that have one.
    pub breakers: Breakers,
}

impl Live {
    /// A view of `loaded`.
    pub fn new(loaded: Arc<Loaded>) -> Self {
        let clusters = vec![OnceCell::new(); loaded.snapshot.clusters.len()].into_boxed_slice();
        let limits = vec![OnceCell::new(); loaded.tables.limits().len()].into_boxed_slice();
        let regexes = WorkerRegexes::of(&loaded.tables);
        let routes = &loaded.snapshot.routes;
        let any_hedged = routes.iter().any(|route| route.policy.hedging.is_some());
        let hedges = vec![OnceCell::new(); if any_hedged { routes.len() } else { 0 }];
        let breakers = Breakers::of(routes);
        Self { loaded, regexes, clusters, hedges: hedges.into(), limits, breakers }
    }

    /// The second requests of a route; `None`: it has none.
    pub fn hedge(&self, id: RouteId) -> Option<&Rc<Hedge>> {
        let route = &self.loaded.snapshot.routes[id.0 as usize];
        let after = route.policy.hedging?;
        let total = || self.loaded.totals.of_hedged_route(&route.name);
        Some(self.hedges[id.0 as usize].get_or_init(|| Rc::new(Hedge::new(after, total()))))
    }

    /// A cluster of it.
    #[inline]
    pub fn cluster(&self, shard: &Shard, id: ClusterId) -> &Rc<Cluster> {
        let cell = &self.clusters[id.0 as usize];
        cell.get_or_init(|| shard.clusters.obtain(shard, &self.loaded, id))
    }

    /// Who gets a request for a cluster: itself, or one further away while too little of it is in service.
    #[inline]
    pub fn serving(&self, shard: &Shard, id: ClusterId) -> ClusterId {
        match self.failover(id) {
            None => id,
            Some(_) => self.nearest(shard, id),
        }
    }

    /// A cluster, and those that stand in for it.
    pub fn stand_ins(&self, id: ClusterId) -> impl Iterator<Item = ClusterId> {
        std::iter::successors(Some(id), |at| Some(self.failover(*at)?.to))
    }

    /// Those of a cluster's that get a request once all endpoints of `serving` were tried: the next ones
    /// further away, then those that are nearer.
    pub fn instead_of(&self, id: ClusterId, serving: ClusterId) -> impl Iterator<Item = ClusterId> {
        let nearer = self.stand_ins(id).take_while(move |at| *at != serving);
        self.stand_ins(serving).skip(1).chain(nearer)
    }

    fn failover(&self, id: ClusterId) -> Option<Failover> {
        self.loaded.snapshot.clusters[id.0 as usize].policy.failover
    }

    fn nearest(&self, shard: &Shard, id: ClusterId) -> ClusterId {
        let mut threshold_percent = 0;
        let levels = self.stand_ins(id).map(|at| {
            // The last has no threshold of its own.
            let own = self.failover(at).map(|failover| u32::from(failover.threshold_percent));
            threshold_percent = own.unwrap_or(threshold_percent);
            let in_service_percent = self.cluster(shard, at).in_service_percent();
            Level { in_service_percent, threshold_percent }
        });
        let index = nearest(levels).unwrap_or(0);
        if index > 0 {
            shard.metrics().endpoint_pick_failover.increment();
        }
        self.stand_ins(id).nth(index).unwrap_or(id)
    }

    /// What this worker has of the limits of a route or a backend.
    #[inline]
    pub fn limits(&self, shard: &Shard, index: LimitsIndex) -> &Limits {
        self.limits[index.as_usize()].get_or_init(|| {
            let limits = &self.loaded.tables.limits()[index.as_usize()];
            Limits::of_requests(limits, shard, &self.loaded)
        })
    }

    /// What stands behind a slot.
    #[inline]
    pub fn listener(&self, slot: ListenerSlot) -> Option<&Listener> {
        self.loaded.listener(slot)
    }
}

/// Which view is live on a worker, and which is prepared.
pub struct Views {
    word: Arc<EpochWord>,
    live: RefCell<Rc<Live>>,
    prepared: RefCell<Option<Rc<Live>>>,
    /// The last views of listeners that are no more, for clients that are still connected there.
    leaving: RefCell<Vec<(ListenerSlot, Rc<Live>)>>,
}

impl Views {
    /// Begins with a view of `loaded`, which `word` names.
    pub fn new(word: Arc<EpochWord>, loaded: Arc<Loaded>) -> Self {
        debug_assert_eq!(word.load(), loaded.serial, "a process begins with its first snapshot");
        Self {
            word,
            live: RefCell::new(Rc::new(Live::new(loaded))),
            prepared: RefCell::new(None),
            leaving: RefCell::new(Vec::new()),
        }
    }

    /// Makes ready for a change that is not committed yet. The one before it, if it was committed,
    /// is switched to first.
    pub fn prepare(&self, loaded: Arc<Loaded>) {
        let _ = self.live();
        *self.prepared.borrow_mut() = Some(Rc::new(Live::new(loaded)));
    }

    /// Gives up a change that was prepared.
    pub fn abandon(&self) {
        self.prepared.take();
    }

    /// The view that a request which begins now runs on.
    #[inline]
    pub fn live(&self) -> Rc<Live> {
        let live = self.live.borrow();
        if self.word.load() == live.loaded.serial {
            return Rc::clone(&live);
        }
        drop(live);
        self.switch()
    }

    #[cold]
    fn switch(&self) -> Rc<Live> {
        let committed = self.word.load();
        let prepared = self.prepared.take();
        let next = prepared.expect("the word changes when every worker is prepared");
        debug_assert_eq!(next.loaded.serial, committed, "one change at a time");
        let last = self.live.replace(next.clone());
        for (slot, _) in last.loaded.slots() {
            if next.listener(slot).is_none() {
                self.leaving.borrow_mut().push((slot, last.clone()));
            }
        }
        next
    }

    /// The view that a request on a client's connection runs on: the live one, or for what is left
    /// on a listener that is no more, the last one that had it.
    #[inline]
    pub fn of_slot(&self, slot: ListenerSlot) -> Rc<Live> {
        let live = self.live();
        if live.listener(slot).is_some() {
            return live;
        }
        let leaving = self.leaving.borrow();
        let last = leaving.iter().rev().find(|(of, _)| *of == slot);
        last.map_or(live, |(_, last)| last.clone())
    }

    /// Whether a slot's listener is no more: its clients finish what they do and go.
    #[inline]
    pub fn is_leaving(&self, slot: ListenerSlot) -> bool {
        self.live().listener(slot).is_none()
    }

    /// The listeners of which `last` was the last view have no clients any more.
    pub fn have_left(&self, last: &Rc<Live>) {
        self.leaving.borrow_mut().retain(|(_, view)| !Rc::ptr_eq(view, last));
    }
}

impl std::fmt::Debug for Live {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Live").field(&self.loaded.epoch).finish()
    }
}

impl std::fmt::Debug for Views {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Views").field(&self.live).finish()
    }
}

/// The clusters that a change makes otherwise or takes away are brought up to date at once where the
/// worker has used them, some per turn.
pub async fn settle(shard: &Shard, live: &Live) {
    let clusters = &shard.clusters;
    let Loaded { serial, snapshot, changed, removed, .. } = &*live.loaded;
    let mut turn = Turn::default();
    for name in removed {
        turn.spend(1 + clusters.forget(name, *serial)).await;
    }
    for Changed { id, stayed, gone, .. } in changed {
        let is_known = clusters.knows(&snapshot.clusters[id.0 as usize].name);
        if is_known {
            live.cluster(shard, *id);
        }
        turn.spend(1 + if is_known { stayed.len() + gone.len() } else { 0 }).await;
    }
}

/// What was done since other tasks had their turn.
#[derive(Default)]
struct Turn {
    spent: usize,
}

impl Turn {
    async fn spend(&mut self, steps: usize) {
        self.spent += steps;
        if self.spent >= STEPS_PER_TURN {
            self.spent = 0;
            lateen_ring::yield_now().await;
        }
    }
}

/// Clusters that are looked up and endpoints that are followed in one turn: some tens of
/// microseconds. A cluster is not divided: one with more endpoints has a turn of its own.
const STEPS_PER_TURN: usize = 512;

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;
    use crate::testing::{listening, on_worker};

    #[test]
    fn a_listener_that_went_twice_keeps_its_second_last_view() {
        on_worker(&[], async |mut worker| {
            let shard = worker.shard.clone();
            let slot = ListenerSlot(0);
            let address = SocketAddr::from(([10, 0, 0, 1], 80));
            let first = worker.switch(listening(&[address]));
            worker.switch(listening(&[]));
            assert!(Rc::ptr_eq(&shard.views.of_slot(slot), &first));
            let second = worker.switch(listening(&[address]));
            worker.switch(listening(&[]));
            shard.views.have_left(&first);
            assert!(Rc::ptr_eq(&shard.views.of_slot(slot), &second));
        });
    }
}
