//! A snapshot as the process holds it: decoded once, shared by all workers, never changed.
//!
//! Before: `subscription` received it, or `bootstrap` made it from flags. After: every worker wraps it
//! in a [`Live`](crate::live::Live), and a request pins that from its first byte to its last.
//!
//! A change is prepared on every worker, then committed by one word that all of them read
//! ([`EpochWord`]): handing it to the workers one by one would let a client with connections to two of
//! them see the new config, then the old one.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use lateen_snapshot::model::{Cluster, ClusterId, Epoch, Listener, Snapshot};
use lateen_snapshot::validate::patterns::Patterns;

use crate::decide::balance::Shared;
use crate::decide::route::{BuildError, ListenerIndex, RouteTables};
use crate::totals::Totals;

/// A listening address of the process, by the order in which they were first bound. Outlives
/// snapshots: what stands behind it may change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ListenerSlot(pub u16);

impl ListenerSlot {
    const fn as_usize(self) -> usize {
        self.0 as usize
    }
}

/// More addresses were bound in the life of the process than there are slots.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this process has listened on 65,536 different addresses; restart it to listen on others")]
pub struct TooManyListeners;

/// A snapshot and what was made of it.
#[derive(Debug)]
pub struct Loaded {
    /// The process's own count of what it was offered, from 1.
    pub serial: u64,
    /// What the control plane calls it.
    pub epoch: Epoch,
    /// The model, checked.
    pub snapshot: Snapshot,
    /// The way of a request through it.
    pub tables: RouteTables,
    /// Position in [`Snapshot::listeners`] of what stands behind each slot.
    by_slot: Vec<Option<u32>>,
    /// Clusters that the one before it had too, but otherwise; in the order of the snapshot.
    pub changed: Vec<Changed>,
    /// Clusters that the one before it had and this one has not.
    pub removed: Vec<String>,
    /// What the choices of all workers share, of the clusters that have such a thing.
    shared: HashMap<u32, Shared>,
    /// What is counted by the process, whatever the snapshot.
    pub totals: Arc<Totals>,
}

/// A cluster that the snapshot before had otherwise, and what became of its endpoints: compared here,
/// once, so that a worker has only to follow.
#[derive(Debug)]
pub struct Changed {
    /// Which.
    pub id: ClusterId,
    /// As it was.
    pub from: Arc<Cluster>,
    /// Where each of its endpoints stood in `from`; `None`: it is new.
    pub stayed: Box<[Option<u32>]>,
    /// Positions in `from` of endpoints that it has no longer.
    pub gone: Box<[u32]>,
}

impl Changed {
    fn new(id: ClusterId, from: &Arc<Cluster>, to: &Cluster) -> Self {
        let (stayed, gone) = compare_endpoints(from, to);
        Self { id, from: Arc::clone(from), stayed, gone }
    }
}

/// [`Changed::stayed`] and [`Changed::gone`] of two versions of a cluster.
pub fn compare_endpoints(from: &Cluster, to: &Cluster) -> (Box<[Option<u32>]>, Box<[u32]>) {
    let mut known: HashMap<SocketAddr, u32> =
        from.endpoints.iter().map(|endpoint| endpoint.address).zip(0..).collect();
    let stayed = to.endpoints.iter().map(|endpoint| known.remove(&endpoint.address)).collect();
    let mut gone: Box<[u32]> = known.into_values().collect();
    gone.sort_unstable();
    (stayed, gone)
}

/// Made for every cluster that has no such thing yet.
fn shared_anew(clusters: &[Arc<Cluster>], is_there: impl Fn(u32) -> bool) -> HashMap<u32, Shared> {
    let missing = (0..).zip(clusters).filter(|(index, _)| !is_there(*index));
    missing.filter_map(|(index, cluster)| Some((index, Shared::of(cluster)?))).collect()
}

impl Loaded {
    /// The first snapshot of a process. Listeners get slots in their order. `patterns` has what of
    /// its regular expressions is compiled already.
    ///
    /// # Errors
    /// It is not as `validate` wants it.
    pub fn first(
        epoch: Epoch,
        snapshot: Snapshot,
        patterns: &mut Patterns,
    ) -> Result<Self, BuildError> {
        let tables = RouteTables::build(&snapshot, patterns)?;
        let by_slot = (0..snapshot.listeners.len()).map(|index| Some(index as u32)).collect();
        let (changed, removed) = (Vec::new(), Vec::new());
        let shared = shared_anew(&snapshot.clusters, |_| false);
        let totals = Arc::default();
        Ok(Self { serial: 1, epoch, snapshot, tables, by_slot, changed, removed, shared, totals })
    }

    /// The one that comes after `last`. `slots` knows the slot of each address of a snapshot that was
    /// run; new addresses get the next ones, which count once this one runs too. `serial` is greater
    /// than any before; `tables` are those of the snapshot.
    ///
    /// # Errors
    /// The process has listened on too many addresses. What did not change is shared.
    pub fn after(
        last: &Self,
        serial: u64,
        epoch: Epoch,
        mut snapshot: Snapshot,
        tables: RouteTables,
        slots: &HashMap<SocketAddr, ListenerSlot>,
    ) -> Result<Self, TooManyListeners> {
        let clusters = last.snapshot.clusters.iter().zip(0..);
        let mut known: HashMap<&str, (&Arc<_>, u32)> =
            clusters.map(|(cluster, at)| (cluster.name.as_str(), (cluster, at))).collect();
        let mut kept = HashMap::new();
        let mut changed = Vec::new();
        for (index, cluster) in snapshot.clusters.iter_mut().enumerate() {
            match known.remove(cluster.name.as_str()) {
                Some((before, at)) if before == cluster => {
                    *cluster = Arc::clone(before);
                    kept.extend(last.shared.get(&at).map(|of| (index as u32, of.clone())));
                }
                Some((before, _)) => {
                    changed.push(Changed::new(ClusterId(index as u32), before, cluster));
                }
                None => {}
            }
        }
        let removed = known.into_keys().map(str::to_owned).collect();
        let mut shared = shared_anew(&snapshot.clusters, |index| kept.contains_key(&index));
        shared.extend(kept);
        let mut by_slot = Vec::new();
        let mut next = slots.len();
        for (index, listener) in snapshot.listeners.iter().enumerate() {
            let slot = match slots.get(&listener.address) {
                Some(slot) => *slot,
                None => {
                    let slot = u16::try_from(next).map_err(|_| TooManyListeners)?;
                    next += 1;
                    ListenerSlot(slot)
                }
            };
            if by_slot.len() <= slot.as_usize() {
                by_slot.resize(slot.as_usize() + 1, None);
            }
            by_slot[slot.as_usize()] = Some(index as u32);
        }
        let totals = Arc::clone(&last.totals);
        Ok(Self { serial, epoch, snapshot, tables, by_slot, changed, removed, shared, totals })
    }

    /// How a cluster differs from what the one before it had, if it does.
    pub fn change_of(&self, cluster: ClusterId) -> Option<&Changed> {
        let found = self.changed.binary_search_by_key(&cluster.0, |changed| changed.id.0);
        Some(&self.changed[found.ok()?])
    }

    /// What the choices of all workers in a cluster share.
    pub fn shared_of(&self, cluster: ClusterId) -> Shared {
        self.shared.get(&cluster.0).cloned().unwrap_or_default()
    }

    /// What stands behind a slot; `None`: nothing any more.
    #[inline]
    pub fn listener(&self, slot: ListenerSlot) -> Option<&Listener> {
        let ListenerIndex(index) = self.index_of(slot)?;
        self.snapshot.listeners.get(index as usize)
    }

    /// The same as a position in the snapshot.
    #[inline]
    pub fn index_of(&self, slot: ListenerSlot) -> Option<ListenerIndex> {
        self.by_slot.get(slot.as_usize())?.map(ListenerIndex)
    }

    /// The slots behind which something stands.
    pub fn slots(&self) -> impl Iterator<Item = (ListenerSlot, &Listener)> {
        self.by_slot.iter().enumerate().filter_map(|(slot, index)| {
            let listener = &self.snapshot.listeners[(*index)? as usize];
            Some((ListenerSlot(slot as u16), listener))
        })
    }
}

/// What every worker runs, for those who look at the process from outside.
#[derive(Debug)]
pub struct Published(Mutex<Arc<Loaded>>);

impl Published {
    /// Begins with the first.
    pub const fn new(loaded: Arc<Loaded>) -> Self {
        Self(Mutex::new(loaded))
    }

    /// Every worker runs this now.
    pub fn publish(&self, loaded: Arc<Loaded>) {
        let desk = loaded.totals.desk.clone();
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = loaded;
        desk.ring();
    }

    /// What every worker runs.
    pub fn loaded(&self) -> Arc<Loaded> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// The [`Loaded::serial`] that all workers run. Written by the main thread once every worker is
/// prepared; read by a worker at the start of each request.
#[derive(Debug)]
pub struct EpochWord(AtomicU64);

impl EpochWord {
    /// All workers start with this one.
    pub const fn new(serial: u64) -> Self {
        Self(AtomicU64::new(serial))
    }

    /// From now on every request that begins, on whatever worker, runs on `serial`.
    pub fn commit(&self, serial: u64) {
        self.0.store(serial, Ordering::Release);
    }

    /// What to run on. What was prepared for it is visible.
    #[inline]
    pub fn load(&self) -> u64 {
        self.0.load(Ordering::Acquire)
    }
}
