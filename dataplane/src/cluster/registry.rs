//! The clusters that a worker has used, by name.
//!
//! Before: a worker's view of a snapshot needs a cluster. After: it has the cluster as that snapshot has it,
//! with what is known of the endpoints that were in others too.

use std::borrow::Borrow;
use std::cell::RefCell;
use std::collections::HashSet;
use std::hash::{Hash, Hasher};
use std::rc::Rc;
use std::sync::Arc;

use lateen_snapshot::model::ClusterId;

use crate::cluster::shares::Shares;
use crate::cluster::{Cluster, draw};
use crate::health::watch::Watch;
use crate::loaded::{Loaded, compare_endpoints};
use crate::shard::Shard;

/// The clusters that this worker has used, by name.
#[derive(Default)]
pub struct Clusters {
    known: RefCell<HashSet<Known>>,
    shares: RefCell<Shares>,
}

struct Known {
    cluster: Rc<Cluster>,
    /// The newest snapshot, by the process's count, that has it so.
    serial: u64,
}

impl Borrow<str> for Known {
    fn borrow(&self) -> &str {
        self.cluster.name()
    }
}

impl Hash for Known {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.cluster.name().hash(state);
    }
}

impl PartialEq for Known {
    fn eq(&self, other: &Self) -> bool {
        self.cluster.name() == other.cluster.name()
    }
}

impl Eq for Known {}

impl Clusters {
    /// The cluster as a snapshot has it. Endpoints that it has lost are retired, and what
    /// idled on connections to them is closed soon.
    ///
    /// A request that began under an older snapshot may come later: it gets its own view and changes
    /// nothing. What it alone has is retired from the start: no later snapshot would take it away.
    ///
    /// Cost: a look-up, and once for a change of its endpoints a pointer for each of them.
    pub fn obtain(&self, shard: &Shard, loaded: &Loaded, id: ClusterId) -> Rc<Cluster> {
        let (serial, spec) = (loaded.serial, &loaded.snapshot.clusters[id.0 as usize]);
        let mut known = self.known.borrow_mut();
        let Some(entry) = known.get(spec.name.as_str()) else {
            let shared = loaded.shared_of(id);
            let totals = loaded.totals.of_cluster(&spec.name);
            let watch = Watch::new(spec, &loaded.totals.desk);
            let shares = self.shares.borrow_mut().of(shard, loaded, spec);
            let spec = spec.clone();
            let cluster = Rc::new(Cluster::new(shard, spec, shared, (totals, watch), shares));
            cluster.note_leaving();
            if serial < shard.views.live().loaded.serial {
                cluster.endpoints.iter().for_each(|endpoint| endpoint.retired.set(true));
            } else {
                // Another part of the service may go by an older snapshot still.
                cluster.bulkhead.follow(cluster.spec());
                known.insert(Known { cluster: cluster.clone(), serial });
            }
            return cluster;
        };
        if Arc::ptr_eq(&entry.cluster.spec, spec) {
            let cluster = entry.cluster.clone();
            if entry.serial < serial {
                known.replace(Known { cluster: cluster.clone(), serial });
            }
            return cluster;
        }
        let changed = loaded.change_of(id);
        let compared;
        let (stayed, gone) = match changed.filter(|it| Arc::ptr_eq(&it.from, &entry.cluster.spec)) {
            Some(changed) => (&changed.stayed, &changed.gone),
            // What this worker knows is older than the last snapshot, or newer than this one.
            None => {
                compared = compare_endpoints(&entry.cluster.spec, spec);
                (&compared.0, &compared.1)
            }
        };
        let shared = loaded.shared_of(id);
        let cluster = Rc::new(entry.cluster.as_in(spec.clone(), shared, draw(shard), stayed));
        if entry.serial > serial {
            cluster.is_superseded.set(true);
            return cluster;
        }
        cluster.note_leaving();
        let last = known.replace(Known { cluster: cluster.clone(), serial });
        drop(known);
        let last = last.expect("it was found").cluster;
        last.is_superseded.set(true);
        for at in gone {
            last.endpoints[*at as usize].retired.set(true);
        }
        let address_of = |at: &u32| last.spec.endpoints[*at as usize].address;
        cluster.watch.forget(gone.iter().map(address_of));
        last.idle.wake_keeper();
        cluster.bulkhead.follow(spec);
        cluster
    }

    /// Forgets a cluster that the snapshot `serial` has no more; unless a newer one, which came before
    /// this was done, has it again and uses it. Returns how many endpoints were retired.
    pub fn forget(&self, name: &str, serial: u64) -> usize {
        let mut known = self.known.borrow_mut();
        if known.get(name).is_none_or(|of| of.serial > serial) {
            return 0;
        }
        let forgotten = known.take(name).expect("it was found").cluster;
        drop(known);
        forgotten.endpoints.iter().for_each(|endpoint| endpoint.retired.set(true));
        forgotten.idle.wake_keeper();
        forgotten.endpoints.len()
    }

    /// Every cluster that was used.
    pub fn all(&self) -> Vec<Rc<Cluster>> {
        self.known.borrow().iter().map(|known| known.cluster.clone()).collect()
    }

    /// Whether a cluster of this name was used.
    pub fn knows(&self, name: &str) -> bool {
        self.known.borrow().contains(name)
    }

    /// Requests and tunnels that have not ended.
    pub fn in_flight(&self) -> u64 {
        let of = |cluster: Rc<Cluster>| -> u64 {
            cluster.endpoints.iter().map(|endpoint| u64::from(endpoint.load.in_flight())).sum()
        };
        self.all().into_iter().map(of).sum()
    }
}

impl std::fmt::Debug for Clusters {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.all()).finish()
    }
}
