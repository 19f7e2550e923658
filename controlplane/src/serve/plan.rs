//! A set of objects, compiled for each proxy and checked before anybody promises that it runs.

use std::collections::BTreeMap;
use std::sync::Arc;

use lateen_snapshot::model::Snapshot;
use lateen_snapshot::validate::{Origin, validate};

use crate::compile::{Mesh, resolve_after};
use crate::resolver::Addresses;
use crate::serve::intent::Content;
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
}

impl Plan {
    /// Compiles a set. What is the same as `before` is shared with it.
    ///
    /// Cost: that of [`resolve_after`] and of a comparison for each proxy. Blocks.
    ///
    /// # Errors
    /// [`Refusal::Declared`] or [`Refusal::Snapshot`]; the fault of whoever declared it.
    pub fn new(content: Content, before: &Self, addresses: &Addresses) -> Result<Self, Refusal> {
        let mesh = resolve_after(&content.to_compile(), &before.mesh).map_err(Refusal::Declared)?;
        let mesh = Arc::new(mesh);
        let snapshots = snapshots(&mesh, &before.snapshots, addresses)?;
        Ok(Self { content, mesh, snapshots })
    }

    /// The same with other addresses.
    ///
    /// # Errors
    /// [`Refusal::Snapshot`]: DNS gave more addresses than a snapshot may have.
    pub fn with_addresses(&self, addresses: &Addresses) -> Result<Self, Refusal> {
        if self.mesh.dns_names().is_empty() {
            return Ok(self.clone());
        }
        let snapshots = snapshots(&self.mesh, &self.snapshots, addresses)?;
        Ok(Self { content: self.content.clone(), mesh: self.mesh.clone(), snapshots })
    }
}

fn snapshots(mesh: &Mesh, before: &Snapshots, addresses: &Addresses) -> Result<Snapshots, Refusal> {
    let mut snapshots = Snapshots::new();
    for proxy in mesh.proxies() {
        let snapshot = mesh.snapshot(proxy, addresses).expect("it is one of the mesh's proxies");
        // `Arc`s compare pointers first.
        let snapshot = match before.get(proxy).filter(|before| **before == snapshot) {
            Some(same) => same.clone(),
            None => {
                let invalid = |why: lateen_snapshot::validate::Invalid| Refusal::Snapshot {
                    proxy: proxy.to_owned(),
                    why: why.to_string(),
                };
                validate(&snapshot, Origin::Store).map_err(invalid)?;
                snapshot
            }
        };
        snapshots.insert(proxy.to_owned(), snapshot);
    }
    Ok(snapshots)
}
