//! A set of objects, compiled for each proxy and checked before anybody promises that it runs.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;

use lateen_snapshot::model::Snapshot;
use lateen_snapshot::validate::{Origin, validate};

use crate::compile::{Mesh, resolve_after};
use crate::resolver::Addresses;
use crate::serve::intent::Content;
use crate::serve::overrides::Overrides;
use crate::serve::overrides::applied::{Effect, Lookup, endpoints_of};
use crate::serve::refusal::Refusal;

/// What each proxy should run, by its name.
pub type Snapshots = BTreeMap<String, Arc<Snapshot>>;

/// A set of objects and what came of it.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    /// What was compiled.
    pub content: Content,
    /// Everything but the addresses that DNS has.
    pub mesh: Arc<Mesh>,
    /// Everything.
    pub snapshots: Snapshots,
    /// What operators ordered of it.
    pub overrides: Arc<Overrides>,
    /// Of each order, what it does.
    pub effects: Arc<[Effect]>,
}

impl Plan {
    /// Compiles a set, and holds it to the orders that stand. What is the same as `before` is shared with
    /// it.
    ///
    /// Cost: that of [`resolve_after`] and of a comparison for each proxy. Blocks.
    ///
    /// # Errors
    /// [`Refusal::Declared`] or [`Refusal::Snapshot`]; the fault of whoever declared it.
    pub fn new(
        content: Content,
        before: &Self,
        addresses: &Addresses,
        overrides: Arc<Overrides>,
    ) -> Result<Self, Refusal> {
        let mesh = resolve_after(&content.to_compile(), &before.mesh).map_err(Refusal::Declared)?;
        let plan = Self { content, mesh: Arc::new(mesh), ..Self::default() };
        plan.with_snapshots(&before.snapshots, addresses, overrides)
    }

    /// The same with other addresses.
    ///
    /// # Errors
    /// [`Refusal::Snapshot`]: DNS gave more addresses than a snapshot may have.
    pub fn with_addresses(&self, addresses: &Addresses) -> Result<Self, Refusal> {
        if self.mesh.dns_names().is_empty() {
            return Ok(self.clone());
        }
        self.with_overrides(addresses, Arc::clone(&self.overrides))
    }

    /// The same under other orders, with the addresses that DNS has now.
    ///
    /// # Errors
    /// As [`Plan::with_addresses`].
    pub fn with_overrides(
        &self,
        addresses: &Addresses,
        overrides: Arc<Overrides>,
    ) -> Result<Self, Refusal> {
        self.with_snapshots(&self.snapshots, addresses, overrides)
    }

    /// The endpoints of these ports' clusters, whether a proxy has them or not.
    pub fn endpoints_of(&self, clusters: &[String]) -> BTreeSet<SocketAddr> {
        let mut known = endpoints_of(&self.snapshots, clusters);
        let of_mesh = clusters.iter().filter_map(|name| self.mesh.cluster(name));
        known.extend(of_mesh.flat_map(|cluster| &cluster.endpoints).map(|at| at.address));
        known
    }

    fn with_snapshots(
        &self,
        before: &Snapshots,
        addresses: &Addresses,
        overrides: Arc<Overrides>,
    ) -> Result<Self, Refusal> {
        let lookup = Lookup::new(&overrides, &self.content);
        let mut counts = vec![0; overrides.iter().len()];
        let mut snapshots = Snapshots::new();
        for proxy in self.mesh.proxies() {
            let known = self.mesh.snapshot(proxy, addresses);
            let mut snapshot = known.expect("it is one of the mesh's proxies");
            let mut has_effect = vec![false; counts.len()];
            lookup.apply(&mut snapshot, &mut has_effect);
            counts.iter_mut().zip(has_effect).for_each(|(count, has)| *count += usize::from(has));
            snapshots.insert(proxy.to_owned(), checked(proxy, snapshot, before)?);
        }
        let effects = lookup.effects(&overrides, &counts);
        let (content, mesh) = (self.content.clone(), Arc::clone(&self.mesh));
        Ok(Self { content, mesh, snapshots, overrides, effects })
    }
}

/// A proxy's snapshot, validated; the one before, if it is the same.
fn checked(
    proxy: &str,
    snapshot: Arc<Snapshot>,
    before: &Snapshots,
) -> Result<Arc<Snapshot>, Refusal> {
    // `Arc`s compare pointers first.
    if let Some(same) = before.get(proxy).filter(|before| **before == snapshot) {
        return Ok(same.clone());
    }
    let invalid = |why: lateen_snapshot::validate::Invalid| Refusal::Snapshot {
        proxy: proxy.to_owned(),
        why: why.to_string(),
    };
    validate(&snapshot, Origin::Store).map_err(invalid)?;
    Ok(snapshot)
}
