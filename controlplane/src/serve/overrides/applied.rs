//! Orders in the snapshots that proxies get.
//!
//! Before: a set of objects was compiled, and has the addresses of DNS. After: the snapshot is validated and
//! published. An ejected endpoint stays in its cluster, marked: what is known of it stays, and where keys
//! decide only its own keys move. A held breaker keeps what was declared of it, its fallback too; where there
//! is none, one is made. Pure.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::SocketAddr;
use std::sync::Arc;

use lateen_snapshot::model::breaker::BreakerMode;
use lateen_snapshot::model::{Action, Cluster, Route, Snapshot};

use crate::compile::policy::breaker::usual;
use crate::serve::intent::Content;
use crate::serve::overrides::lookup::{clusters_of, routes_of};
use crate::serve::overrides::names::EndpointName;
use crate::serve::overrides::{Held, Ordered, Override, Overrides};
use crate::serve::plan::{Plan, Snapshots};

/// Orders, looked up in a set of objects.
#[derive(Debug, Default)]
pub struct Lookup {
    /// By a cluster's name: endpoints, and the position of the order.
    ejected: HashMap<String, Vec<(EndpointName, usize)>>,
    /// By a route's name: of several the last counts.
    held: HashMap<String, (Held, usize)>,
    /// Of each order: why it can't do anything.
    lost: Vec<Option<String>>,
}

/// What an order does.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Effect {
    /// In so many proxies' snapshots.
    pub proxies: usize,
    /// Why in none.
    pub why_none: Option<String>,
}

impl Lookup {
    /// Looks all orders up.
    pub fn new(overrides: &Overrides, content: &Content) -> Self {
        let mut lookup = Self::default();
        for (index, order) in overrides.iter().enumerate() {
            let found = match &order.ordered {
                Ordered::Ejected { service, endpoint } => {
                    clusters_of(content, service).map(|clusters| {
                        for cluster in clusters {
                            lookup.ejected.entry(cluster).or_default().push((*endpoint, index));
                        }
                    })
                }
                Ordered::Breaker { route, held } => routes_of(content, route).map(|routes| {
                    lookup.held.extend(routes.into_iter().map(|route| (route, (*held, index))));
                }),
            };
            lookup.lost.push(found.err().map(|refusal| refusal.to_string()));
        }
        lookup
    }

    /// Puts the orders into a proxy's snapshot, and says of each whether it does something there. What
    /// nothing is ordered of stays as it is, and the snapshot too.
    pub fn apply(&self, snapshot: &mut Arc<Snapshot>, effects: &mut [bool]) {
        if self.ejected.is_empty() && self.held.is_empty() {
            return;
        }
        let clusters: Vec<(usize, Vec<u32>)> = snapshot
            .clusters
            .iter()
            .enumerate()
            .filter_map(|(at, cluster)| Some((at, self.positions(cluster, effects)?)))
            .collect();
        let routes: Vec<(usize, Held)> = snapshot
            .routes
            .iter()
            .enumerate()
            .filter_map(|(at, route)| Some((at, self.hold_of(route, effects)?)))
            .collect();
        if clusters.is_empty() && routes.is_empty() {
            return;
        }
        let snapshot = Arc::make_mut(snapshot);
        for (at, positions) in clusters {
            Arc::make_mut(&mut snapshot.clusters[at]).policy.ordered_out = positions;
        }
        for (at, held) in routes {
            let mode = match held {
                Held::Open => BreakerMode::ForcedOpen,
                Held::Closed => BreakerMode::ForcedClosed,
            };
            let breaker = &mut snapshot.routes[at].policy.circuit_breaker;
            breaker.get_or_insert_with(|| Box::new(usual(mode))).mode = mode;
        }
    }

    /// The endpoints of a cluster that are ordered out, if any are.
    fn positions(&self, cluster: &Cluster, effects: &mut [bool]) -> Option<Vec<u32>> {
        let ordered = self.ejected.get(port_of(&cluster.name))?;
        let mut positions = Vec::new();
        for (endpoint, at) in cluster.endpoints.iter().zip(0..) {
            let mut is_out = false;
            for (name, order) in ordered {
                if name.means(endpoint.address) {
                    is_out = true;
                    effects[*order] = true;
                }
            }
            if is_out {
                positions.push(at);
            }
        }
        (!positions.is_empty()).then_some(positions)
    }

    /// How a route's breaker is held, if it is. One that forwards nothing has none to hold.
    fn hold_of(&self, route: &Route, effects: &mut [bool]) -> Option<Held> {
        let (held, order) = self.held.get(&route.name)?;
        if !matches!(route.action, Action::Forward(_)) {
            return None;
        }
        effects[*order] = true;
        Some(*held)
    }

    /// What came of each order, of which `counts` says in how many snapshots it does something.
    pub fn effects(&self, overrides: &Overrides, counts: &[usize]) -> Arc<[Effect]> {
        let of = |(index, order): (usize, &Override)| {
            let proxies = counts[index];
            let why = || match (&self.lost[index], &order.ordered) {
                (Some(lost), _) => lost.clone(),
                (None, Ordered::Ejected { service, endpoint }) => {
                    format!("no proxy knows an endpoint {endpoint} of {service}")
                }
                (None, Ordered::Breaker { route, .. }) => {
                    format!("no proxy forwards by {route}, or a later order counts")
                }
            };
            Effect { proxies, why_none: (proxies == 0).then(why) }
        };
        overrides.iter().enumerate().map(of).collect()
    }
}

/// The name of the port's own cluster: `shop/cart:80` of `shop/cart:80?version=v2@zone`.
fn port_of(cluster: &str) -> &str {
    cluster.split(['?', '@']).next().unwrap_or(cluster)
}

/// Whether a cluster is one of these ports' own, or was cut from it.
fn is_of(cluster: &Cluster, ports: &[String]) -> bool {
    let port = port_of(&cluster.name);
    ports.iter().any(|own| own == port)
}

/// The endpoints of these ports that some proxy has.
pub fn endpoints_of(snapshots: &Snapshots, ports: &[String]) -> BTreeSet<SocketAddr> {
    let clusters = snapshots.values().flat_map(|snapshot| &snapshot.clusters);
    let of_ports = clusters.filter(|cluster| is_of(cluster, ports));
    of_ports.flat_map(|cluster| &cluster.endpoints).map(|endpoint| endpoint.address).collect()
}

/// A cluster of these ports that had somebody to send requests to `before`, and has nobody `after`. Those that
/// were cut from one by distance stand in for each other, and are one.
pub fn emptied(before: &Plan, after: &Plan, ports: &[String]) -> Option<String> {
    let (had, has) = (left_by_cluster(before, ports), left_by_cluster(after, ports));
    let mut emptied = has.into_iter().filter(|(name, left)| !left && had.get(name) == Some(&true));
    emptied.next().map(|(name, _)| name.to_owned())
}

/// Of each cluster, whether it has an endpoint that gets requests as far as is known here; or would get them,
/// where no proxy has it yet.
fn left_by_cluster<'p>(plan: &'p Plan, ports: &'p [String]) -> BTreeMap<&'p str, bool> {
    let mut left = BTreeMap::new();
    let clusters = plan.snapshots.values().flat_map(|snapshot| &snapshot.clusters);
    for cluster in clusters.filter(|cluster| is_of(cluster, ports)) {
        let whole = cluster.name.split('@').next().unwrap_or(&cluster.name);
        *left.entry(whole).or_default() |= gets_requests(cluster, &cluster.policy.ordered_out);
    }
    // What nobody uses beside what is used is no reason to refuse.
    if !left.is_empty() {
        return left;
    }
    let lookup = Lookup::new(&plan.overrides, &plan.content);
    for port in ports {
        if let Some(cluster) = plan.mesh.cluster(port) {
            let positions = lookup.positions(cluster, &mut vec![false; lookup.lost.len()]);
            left.insert(port, gets_requests(cluster, &positions.unwrap_or_default()));
        }
    }
    left
}

/// Whether an endpoint is left that is not `ordered_out`, nor being taken away.
pub(super) fn gets_requests(cluster: &Cluster, ordered_out: &[u32]) -> bool {
    let is_in = |positions: &[u32], at: u32| positions.binary_search(&at).is_ok();
    let terminating = &cluster.policy.terminating;
    let mut all = 0..cluster.endpoints.len() as u32;
    all.any(|at| !is_in(ordered_out, at) && !is_in(terminating, at))
}
