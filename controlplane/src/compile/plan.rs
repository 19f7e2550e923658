//! What one proxy has and reaches: its listeners, and of the whole mesh the routes and clusters that
//! they lead to.
//!
//! Before: the mesh is resolved as a whole. `listeners` walks a proxy's listeners and takes out what
//! they need. After: `totals` checks the plan, and a snapshot of it has the addresses that DNS knows
//! at that time.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use lateen_snapshot::limits::ENDPOINTS_MAX;
use lateen_snapshot::model::breaker::Fallback;
use lateen_snapshot::model::failover::Failover;
use lateen_snapshot::model::{
    Action, Cluster, ClusterId, Endpoint, RouteId, RoutePolicy, Rule, Snapshot, TcpRoute,
};

use crate::compile::endpoints::DnsSource;
use crate::compile::findings::Findings;
use crate::compile::listeners::add_listeners;
use crate::compile::localities::by_distance;
use crate::compile::objects::Objects;
use crate::compile::subsets::cut;
use crate::compile::totals::check_totals;
use crate::compile::whole::Whole;
use crate::language::diagnostic::Diagnostic;
use crate::language::kinds::proxy::Locality;
use crate::language::object::Declared;

/// A proxy's snapshot, but for the endpoints that DNS has.
#[derive(Debug)]
pub(super) struct Plan {
    snapshot: Arc<Snapshot>,
    /// Positions of clusters, and where their endpoints come from.
    dns: Vec<(usize, DnsSource)>,
}

impl Plan {
    pub(super) fn dns_names(&self) -> impl Iterator<Item = &Arc<str>> {
        self.dns.iter().map(|(_, source)| &source.name)
    }

    /// One that has none from DNS.
    #[cfg(test)]
    pub(super) fn fixed_to(snapshot: Arc<Snapshot>) -> Self {
        Self { snapshot, dns: Vec::new() }
    }

    /// What is in it, without the endpoints that DNS has.
    pub(super) fn fixed(&self) -> &Snapshot {
        &self.snapshot
    }

    /// How many clusters have their endpoints from DNS.
    pub(super) fn dns_count(&self) -> usize {
        self.dns.len()
    }

    /// With the addresses that names have. Where all would be more than a snapshot holds, each
    /// cluster gets as many of its own as there is room for.
    pub(super) fn snapshot<'a>(&self, addresses: impl Fn(&str) -> &'a [IpAddr]) -> Arc<Snapshot> {
        if self.dns.is_empty() {
            return Arc::clone(&self.snapshot);
        }
        let mut snapshot = Snapshot::clone(&self.snapshot);
        let fixed: usize = snapshot.clusters.iter().map(|cluster| cluster.endpoints.len()).sum();
        let room = ENDPOINTS_MAX.saturating_sub(fixed);
        let wanted: usize = self.dns.iter().map(|(_, source)| addresses(&source.name).len()).sum();
        let each_max = if wanted <= room { usize::MAX } else { room / self.dns.len() };
        for (index, source) in &self.dns {
            let mut found: Vec<IpAddr> = addresses(&source.name).to_vec();
            found.sort_unstable();
            found.dedup();
            found.truncate(each_max);
            let at = |address| Endpoint { address: SocketAddr::new(address, source.port) };
            let mut cluster = Cluster::clone(&snapshot.clusters[*index]);
            cluster.endpoints = found.into_iter().map(at).collect();
            snapshot.clusters[*index] = Arc::new(cluster);
        }
        Arc::new(snapshot)
    }
}

/// Plans all proxies, by name.
pub(super) fn plan_proxies(
    objects: &Objects<'_>,
    whole: &Whole<'_>,
    findings: &mut Findings,
) -> BTreeMap<String, Plan> {
    let mut plans = BTreeMap::new();
    let mut declared: BTreeMap<&str, &Declared> = BTreeMap::new();
    for proxy in &objects.proxies {
        let mut selection = Selection::new(whole, proxy.spec.locality.as_ref());
        add_listeners(proxy, objects, &mut selection, findings);
        let Selection { snapshot, dns, .. } = selection;
        let plan = Plan { snapshot: Arc::new(snapshot), dns };
        check_totals(proxy, &plan, findings);
        if let Some(first) = declared.insert(proxy.name(), proxy.declared) {
            let message = format!("there are two Proxies with the name `{}`", proxy.name());
            let diagnostic = Diagnostic::error(message, proxy.declared.place_of("metadata.name"))
                .with_related(first.place_of("metadata.name"), "the other")
                .with_help("a proxy asks by its name alone, so it is unique over all namespaces");
            findings.push(diagnostic);
        }
        plans.insert(proxy.name().to_owned(), plan);
    }
    plans
}

/// Takes out of the whole mesh what a proxy reaches, once each, and numbers it anew in the order in
/// which it is met.
pub(super) struct Selection<'a, 'd> {
    pub(super) whole: &'a Whole<'d>,
    snapshot: Snapshot,
    dns: Vec<(usize, DnsSource)>,
    clusters: HashMap<ClusterId, ClusterId>,
    routes: HashMap<RouteId, RouteId>,
    /// Where the proxy is.
    locality: Option<&'d Locality>,
}

impl<'a, 'd> Selection<'a, 'd> {
    fn new(whole: &'a Whole<'d>, locality: Option<&'d Locality>) -> Self {
        let (snapshot, dns) = (Snapshot::default(), Vec::new());
        let (clusters, routes) = (HashMap::new(), HashMap::new());
        Self { whole, snapshot, dns, clusters, routes, locality }
    }

    /// What is selected so far, to add to it what is the proxy's own.
    pub(super) fn snapshot(&mut self) -> &mut Snapshot {
        &mut self.snapshot
    }

    /// Rules of the whole mesh in this snapshot's numbers.
    pub(super) fn take_rules(&mut self, rules: &[Rule]) -> Vec<Rule> {
        let rules = rules.iter();
        rules
            .map(|rule| Rule { matches: rule.matches.clone(), route: self.take_route(rule.route) })
            .collect()
    }

    /// A route of bytes in this snapshot's numbers.
    pub(super) fn take_tcp(&mut self, mut route: TcpRoute) -> TcpRoute {
        for backend in &mut route.backends {
            backend.cluster = backend.cluster.map(|cluster| self.take_cluster(cluster));
        }
        route
    }

    pub(super) fn take_route(&mut self, of_whole: RouteId) -> RouteId {
        if let Some(&taken) = self.routes.get(&of_whole) {
            return taken;
        }
        let mut route = self.whole.routes[of_whole.0 as usize].clone();
        if let Action::Forward(backends) = &mut route.action {
            for backend in backends {
                backend.cluster = backend.cluster.map(|cluster| self.take_cluster(cluster));
            }
        }
        for mirror in &mut route.mirrors {
            mirror.cluster = self.take_cluster(mirror.cluster);
        }
        let forwards = matches!(route.action, Action::Forward(_));
        self.take_fallback(&mut route.policy, forwards);
        let id = RouteId(self.snapshot.routes.len() as u32);
        self.snapshot.routes.push(route);
        self.routes.insert(of_whole, id);
        id
    }

    /// The backend that a route falls back to, in this snapshot's numbers. One that forwards nothing asks
    /// no breaker, and so reaches none.
    pub(super) fn take_fallback(&mut self, policy: &mut RoutePolicy, forwards: bool) {
        if let Some(breaker) = &mut policy.circuit_breaker
            && let Some(Fallback::Backend(cluster)) = breaker.fallback
        {
            let taken = forwards.then(|| Fallback::Backend(self.take_cluster(cluster)));
            breaker.fallback = taken;
        }
    }

    fn take_cluster(&mut self, of_whole: ClusterId) -> ClusterId {
        if let Some(&taken) = self.clusters.get(&of_whole) {
            return taken;
        }
        let index = self.snapshot.clusters.len();
        let of_mesh = &self.whole.clusters[of_whole.0 as usize];
        let levels = match (self.locality, self.whole.locality_percent(of_whole)) {
            (Some(locality), Some(percent)) => Some((by_distance(of_mesh, locality), percent)),
            _ => None,
        };
        match levels {
            Some((levels, threshold_percent)) if !levels.is_empty() => {
                let count = levels.len();
                for (level, (suffix, found)) in levels.into_iter().enumerate() {
                    let mut part = cut(&of_mesh.cluster, &found, suffix);
                    let to = ClusterId((index + level + 1) as u32);
                    let failover = Failover { to, threshold_percent };
                    part.policy.failover = (level + 1 < count).then_some(failover);
                    self.snapshot.clusters.push(Arc::new(part));
                }
            }
            _ => self.snapshot.clusters.push(Arc::clone(&of_mesh.cluster)),
        }
        self.dns.extend(of_mesh.dns.clone().map(|source| (index, source)));
        let id = ClusterId(index as u32);
        self.clusters.insert(of_whole, id);
        id
    }
}
