//! A worker's part: what it has heard of a cluster's endpoints, and what it tells of them.
//!
//! Before: a try ended ([`tries`](super::tries)), or an endpoint is to be chosen. After: what was seen stands
//! on the process's board and the health thread knows if it should look; what was decided stands in the
//! endpoints' loads, where the choice goes by it.

use std::cell::{Cell, OnceCell, RefCell};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use lateen_snapshot::model;
use lateen_snapshot::model::outlier::OutlierDetection;

use crate::cluster::{Chosen, Cluster};
use crate::decide::balance::EndpointIndex;
use crate::decide::balance::load::OutOfService;
use crate::decide::outlier::Ending;
use crate::health::board::{Desk, Notice, Seen};
use crate::shard::Shard;

/// What one worker has of the health of a cluster's endpoints.
#[derive(Debug)]
pub struct Watch {
    /// Of those that failed lately, or are counted.
    known: Rc<RefCell<HashMap<SocketAddr, Arc<Seen>>>>,
    /// The same beside the cluster's endpoints, where every try is counted.
    counted: Option<Box<[OnceCell<Arc<Seen>>]>>,
    /// The version of the verdicts that the endpoints' loads say.
    followed: Cell<u64>,
    desk: Arc<Desk>,
}

impl Watch {
    /// Of a cluster that is used for the first time.
    pub fn new(spec: &model::Cluster, desk: &Arc<Desk>) -> Self {
        Self::with(Rc::default(), spec, desk)
    }

    /// Of the same cluster as another snapshot has it.
    pub fn as_in(&self, spec: &model::Cluster) -> Self {
        Self::with(self.known.clone(), spec, &self.desk)
    }

    /// Some of its endpoints have left it.
    pub fn forget(&self, gone: impl Iterator<Item = SocketAddr>) {
        let mut known = self.known.borrow_mut();
        if known.is_empty() {
            return;
        }
        for address in gone {
            if let Some(seen) = known.remove(&address) {
                seen.note_gone();
            }
        }
    }

    fn with(
        known: Rc<RefCell<HashMap<SocketAddr, Arc<Seen>>>>,
        spec: &model::Cluster,
        desk: &Arc<Desk>,
    ) -> Self {
        let compares = spec.policy.outlier.as_ref().is_some_and(|detection| detection.compares());
        let counted = compares.then(|| vec![OnceCell::new(); spec.endpoints.len()].into());
        // Where endpoints are checked there is something to follow from the start: a new one does not serve.
        let is_checked = spec.policy.health_check.is_some();
        let followed = Cell::new(if is_checked { u64::MAX } else { 0 });
        Self { known, counted, followed, desk: desk.clone() }
    }

    /// Whether every try is counted.
    #[inline]
    pub fn counts(&self) -> bool {
        self.counted.is_some()
    }

    /// The version of the verdicts that it goes by.
    #[inline]
    pub fn followed(&self) -> u64 {
        self.followed.get()
    }

    /// Counts a try, where every one is counted. False: it is not.
    fn count(
        &self,
        shard: &Shard,
        chosen: &Chosen,
        ending: Ending,
        latency_us: Option<u64>,
    ) -> bool {
        let Some(counted) = &self.counted else { return false };
        let kept = counted[chosen.index.as_usize()].get_or_init(|| self.known(shard, chosen));
        match kept.has_gone() {
            false => kept.count(shard.worker(), ending, latency_us),
            // It left and came again, while this view stayed.
            true => self.known(shard, chosen).count(shard.worker(), ending, latency_us),
        }
        true
    }

    fn known(&self, shard: &Shard, chosen: &Chosen) -> Arc<Seen> {
        let address = chosen.address();
        let mut known = self.known.borrow_mut();
        if let Some(seen) = known.get(&address).filter(|seen| !seen.has_gone()) {
            return Arc::clone(seen);
        }
        let seen = chosen.cluster.totals.health.seen(address, shard.config.workers);
        known.insert(address, Arc::clone(&seen));
        seen
    }
}

/// Lets the endpoints' loads say what was decided. Cost: a look at each endpoint.
#[cold]
pub fn follow(cluster: &Cluster) {
    let health = &cluster.totals.health;
    // Before the verdicts: what is decided meanwhile is followed next time.
    cluster.watch.followed.set(health.version());
    let verdicts = health.verdicts();
    let is_checked = cluster.spec().policy.health_check.is_some();
    let of_specs = cluster.endpoint_specs().iter().enumerate();
    for (endpoint, (at, of_spec)) in cluster.endpoints().iter().zip(of_specs) {
        let (index, load) = (EndpointIndex::new(at), &endpoint.load);
        let is_ill = match &verdicts.well {
            Some(well) => well.binary_search(&of_spec.address).is_err(),
            None => is_checked,
        };
        if is_ill != load.is_out_for(OutOfService::Unhealthy) {
            cluster.set_out_of_service(index, OutOfService::Unhealthy, is_ill);
        }
        let is_ejected = verdicts.ejected.binary_search(&of_spec.address).is_ok();
        if is_ejected != load.is_out_for(OutOfService::Ejected) {
            cluster.set_out_of_service(index, OutOfService::Ejected, is_ejected);
            if !is_ejected {
                // What it did before is forgotten; how it answers next is not.
                load.on_connected();
                endpoint.set_suspect(true);
            }
        }
    }
}

/// Notes how a try ended that is worth it: it failed, or the one before it did, or all are counted.
pub(super) fn note(shard: &Shard, chosen: &Chosen, ending: Ending, latency_us: Option<u64>) {
    let (cluster, endpoint) = (&chosen.cluster, chosen.endpoint());
    if endpoint.is_retired() {
        return;
    }
    if cluster.watch.count(shard, chosen, ending, latency_us) {
        let health = &cluster.totals.health;
        if !health.is_compared() && tell(cluster, None) {
            health.set_compared(true);
        }
        if ending.is_good() && !endpoint.is_suspect() {
            return;
        }
    }
    note_run(shard, chosen, ending);
}

/// Tells the health thread.
fn tell(cluster: &Cluster, failing: Option<SocketAddr>) -> bool {
    let (spec, totals) = (cluster.spec().clone(), cluster.totals.clone());
    cluster.watch.desk.tell(Notice { cluster: spec, totals, failing })
}

/// Notes a failure, or what comes after one.
#[cold]
fn note_run(shard: &Shard, chosen: &Chosen, ending: Ending) {
    let (cluster, endpoint) = (&chosen.cluster, chosen.endpoint());
    let seen = cluster.watch.known(shard, chosen);
    endpoint.set_suspect(!ending.is_good());
    let (runs, on_trial) = seen.note(shard.worker(), ending);
    if ending.is_good() {
        return;
    }
    let by_default = OutlierDetection::default();
    let detection = cluster.spec().policy.outlier.as_deref().unwrap_or(&by_default);
    let now_ns = lateen_ring::now().as_nanos();
    let span_ns = u64::from(detection.interval_ms) * 1_000_000;
    if !seen.was_told(now_ns, span_ns) && runs.cause(detection, on_trial).is_some() {
        // Before: the thread may find at once that it says nothing any more.
        seen.note_told(now_ns);
        if !tell(cluster, Some(chosen.address())) {
            seen.forget_told();
        }
    }
}

#[cfg(test)]
mod tests {
    use lateen_snapshot::model::ClusterId;

    use super::*;
    use crate::health::tries::note_connect_failed;
    use crate::testing::{clusters, on_worker};

    #[test]
    fn who_left_is_forgotten_and_not_for_an_older_view() {
        on_worker(&[], async |mut worker| {
            let older = worker.switch(clusters(&[("a", &[1])]));
            let live = worker.switch(clusters(&[("a", &[1, 2])]));
            let fail = |worker: &crate::testing::TestWorker, live: &crate::live::Live| {
                let cluster = live.cluster(&worker.shard, ClusterId(0)).clone();
                let chosen = Chosen { cluster, index: EndpointIndex::new(1) };
                note_connect_failed(&worker.shard, &chosen);
                let health = &chosen.cluster.totals.health;
                let seen = health.seen_if_any(chosen.address()).expect("it failed");
                seen.sum().0.refused
            };
            assert_eq!(fail(&worker, &live), 1);
            older.cluster(&worker.shard, ClusterId(0));
            assert_eq!(fail(&worker, &live), 2, "it is there still");
            let without = worker.switch(clusters(&[("a", &[1])]));
            without.cluster(&worker.shard, ClusterId(0));
            let again = worker.switch(clusters(&[("a", &[1, 2])]));
            assert_eq!(fail(&worker, &again), 1, "it is another one");
        });
    }
}
