//! Declared objects in, a snapshot for each proxy out.
//!
//! Before: [`language`](crate::language) parsed objects that are right each on its own. After: the
//! snapshots are published. What happens between, in reading order:
//!
//! 1. `objects`: the objects by kind, in an order that does not depend on the one they came in.
//! 2. `services`: who can be called, and `policy`: how; `endpoints` makes a cluster of each port.
//! 3. `references`: what routes refer to, and whether they may.
//! 4. `http_rules`, `filters`, `tcp_rules`: what routes say, in the words of the snapshot;
//!    `contradictions`: what of it can never act.
//! 5. `attach`: which routes apply where, `hosts` for which host names; `precedence` orders them.
//! 6. `whole`: all of it linked; `plan` and `listeners`: what one proxy has and reaches, and no more;
//!    `totals` holds that against the bounds.
//! 7. [`in_force`]: for people: what policies come to on a route, and who says what.
//!
//! Everything is checked here, so that [`validate`](lateen_snapshot::validate) has nothing to say about
//! a snapshot of a mesh: all errors come at once, with their places. Pure: no clock, no I/O.

mod objects;
mod findings;
mod services;
mod sessions;
mod subsets;
mod localities;
pub(crate) mod policy;
mod endpoints;
mod references;
mod http_rules;
pub(crate) mod rule_names;
mod contradictions;
mod filters;
mod cors;
mod tcp_rules;
mod attach;
mod hosts;
mod precedence;
mod whole;
mod plan;
mod listeners;
mod totals;
pub mod in_force;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use lateen_snapshot::model::{Cluster, Snapshot};

use crate::compile::findings::Findings;
use crate::compile::objects::Objects;
use crate::compile::plan::{Plan, plan_proxies};
use crate::compile::whole::Whole;
use crate::language::diagnostic::Diagnostic;
use crate::language::object::Declared;
use crate::resolver::{Addresses, Names};

/// What was declared, resolved: a snapshot for each proxy, but for the addresses that DNS has.
#[derive(Debug, Default)]
pub struct Mesh {
    plans: BTreeMap<String, Plan>,
    clusters: HashMap<String, Arc<Cluster>>,
    dns_names: Names,
    warnings: Vec<Diagnostic>,
}

/// Resolves a set of objects.
///
/// Errors: everything that is wrong with it, in the order of its files; warnings among them.
/// Cost: linear in the objects, and in what each proxy reaches.
pub fn resolve(declared: &[Arc<Declared>]) -> Result<Mesh, Vec<Diagnostic>> {
    resolve_after(declared, &Mesh::default())
}

/// Like [`resolve`]; what did not change since `before` is shared with it, so that snapshots of both
/// take the memory of one, and are told apart by pointers.
pub fn resolve_after(declared: &[Arc<Declared>], before: &Mesh) -> Result<Mesh, Vec<Diagnostic>> {
    let mut findings = Findings::default();
    let objects = Objects::sort(declared);
    let whole = Whole::resolve(&objects, &before.clusters, &mut findings);
    let plans = plan_proxies(&objects, &whole, &mut findings);
    let warnings = findings.finish()?;
    let names: BTreeSet<Arc<str>> = plans.values().flat_map(Plan::dns_names).cloned().collect();
    Ok(Mesh { plans, clusters: whole.into_clusters(), dns_names: Arc::new(names), warnings })
}

impl Mesh {
    /// The names of all proxies, in order.
    pub fn proxies(&self) -> impl Iterator<Item = &str> {
        self.plans.keys().map(String::as_str)
    }

    /// What a proxy runs on; `None` if none of that name is declared. A DNS name without an address
    /// is a cluster without endpoints.
    ///
    /// Cost: a copy of all that the proxy reaches, clusters excepted, where DNS has endpoints of it; else
    /// none.
    pub fn snapshot(&self, proxy: &str, addresses: &Addresses) -> Option<Arc<Snapshot>> {
        let found = |name: &str| {
            addresses.get(name).and_then(|known| known.addresses.as_deref()).unwrap_or_default()
        };
        Some(self.plans.get(proxy)?.snapshot(found))
    }

    /// The cluster of a service's port by its name (`shop/cart:80`), whoever reaches it; without the
    /// addresses that DNS has.
    pub fn cluster(&self, name: &str) -> Option<&Arc<Cluster>> {
        self.clusters.get(name)
    }

    /// The DNS names whose addresses go into snapshots.
    pub fn dns_names(&self) -> Names {
        Arc::clone(&self.dns_names)
    }

    /// The same with another snapshot for a proxy, whatever is wrong with it.
    #[cfg(test)]
    pub(crate) fn with_snapshot(mut self, proxy: &str, snapshot: Arc<Snapshot>) -> Self {
        self.plans.insert(proxy.to_owned(), Plan::fixed_to(snapshot));
        self
    }

    /// What was accepted, but is probably not what was meant.
    pub fn warnings(&self) -> &[Diagnostic] {
        &self.warnings
    }
}
