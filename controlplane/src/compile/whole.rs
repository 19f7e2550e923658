//! The mesh as a whole: every cluster, every route, and what leads to them.
//!
//! Before: routes are compiled and attached. After: `plan` takes out what one proxy reaches. It is in
//! the snapshot's own words, but ids count the clusters and routes of the whole mesh. The first routes
//! are those that nobody declared: one for each cluster of a port, in the clusters' order, which sends
//! everything there. The clusters of subsets come behind those of ports.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use gateway_api::apis::experimental::gateways::GatewaySpec;
use lateen_snapshot::model::{
    Action, Cluster, ClusterId, HeaderEdits, HostPattern, Route, RouteId, RoutePolicy, Rule,
    TcpBackend, TcpRoute, VirtualHost, WeightedBackend,
};

use crate::compile::attach::{Attachments, HostAttachment, ListenerKey, attach_routes};
use crate::compile::contradictions::{
    Speakers, tell_of_attached, tell_of_fallback, tell_of_port, tell_of_retry,
};
use crate::compile::endpoints::{MeshCluster, collect_clusters};
use crate::compile::findings::Findings;
use crate::compile::hosts::HostRank;
use crate::compile::http_rules::{HttpRoute, HttpRule, compile_http_routes};
use crate::compile::objects::{Item, Objects};
use crate::compile::policy::rate_limit::of_connections;
use crate::compile::policy::{Policies, Settings, TargetKind, either};
use crate::compile::precedence::{Age, Precedence};
use crate::compile::references::References;
use crate::compile::services::Services;
use crate::compile::subsets::Subsets;
use crate::compile::tcp_rules::{TcpRule, compile_tcp_routes};
use crate::language::diagnostic::Severity;
use crate::language::object::Declared;

/// Everything that any proxy may run on.
#[derive(Debug)]
pub(super) struct Whole<'d> {
    pub(super) services: Services<'d>,
    pub(super) policies: Policies<'d>,
    pub(super) clusters: Vec<MeshCluster>,
    /// Of each cluster.
    settings: Vec<Settings>,
    pub(super) routes: Vec<Route>,
    /// Rules for requests to a port, by the namespace of the routes that they are of.
    port_rules: HashMap<(ClusterId, &'d str), Vec<Rule>>,
    /// The same for bytes.
    port_tcp: HashMap<(ClusterId, &'d str), TcpRoute>,
    /// Of each HTTP listener of a Gateway that some route attached to.
    listener_hosts: HashMap<ListenerKey, Vec<VirtualHost>>,
    /// Of each TCP listener of a Gateway that some route attached to.
    listener_tcp: HashMap<ListenerKey, TcpRoute>,
    pub(super) gateways: Vec<Item<'d, GatewaySpec>>,
}

impl<'d> Whole<'d> {
    pub(super) fn resolve(
        objects: &Objects<'d>,
        before: &HashMap<String, Arc<Cluster>>,
        findings: &mut Findings,
    ) -> Self {
        let services = Services::collect(objects, findings);
        let references = References::collect(objects, &services);
        let policies = Policies::collect(objects, &services, &references, findings);
        let mut settings: Vec<Settings> = services
            .iter()
            .flat_map(|service| service.ports.iter().map(move |port| (service, port)))
            .map(|(service, port)| {
                let (namespace, name) = (service.namespace(), service.name());
                policies.about(TargetKind::Service, namespace, name, port.name)
            })
            .collect();
        let speakers = speakers_of_ports(&services, &policies, &settings, findings);
        let mut clusters = collect_clusters(objects, &services, &settings, before, findings);
        let mut http =
            compile_http_routes(objects, &references, &policies, &settings, &speakers, findings);
        let mut tcp = compile_tcp_routes(objects, &references, &policies, &settings, findings);
        let (of_mesh, of_clusters) = (&mut clusters, &mut settings);
        let ids = HashMap::new();
        Subsets { clusters: of_mesh, settings: of_clusters, before, ids }
            .lead(&mut http, &mut tcp, findings);
        let attachments = attach_routes(objects, &services, findings);
        let mut linker = Linker {
            http: &http,
            tcp: &tcp,
            settings: &settings,
            speakers: &speakers,
            routes: default_routes(&services, &settings),
            ids: HashMap::new(),
            findings,
        };
        let port_rules = linker.link_ports(&attachments);
        let port_tcp = linker.link_tcp_ports(&attachments);
        let listener_hosts = linker.link_listeners(&attachments);
        let listener_tcp = linker.link_tcp_listeners(&attachments);
        let routes = linker.routes;
        let gateways = objects.gateways.clone();
        Self {
            services,
            policies,
            clusters,
            settings,
            routes,
            port_rules,
            port_tcp,
            listener_hosts,
            listener_tcp,
            gateways,
        }
    }

    /// By name, for the mesh that comes after.
    pub(super) fn into_clusters(self) -> HashMap<String, Arc<Cluster>> {
        let clusters = self.clusters.into_iter().map(|of_mesh| of_mesh.cluster);
        clusters.map(|cluster| (cluster.name.clone(), cluster)).collect()
    }

    /// The rules for requests to a port of a service: those of the caller's namespace, else those of
    /// the service's, else one that sends everything there.
    pub(super) fn rules_for(&self, port: ClusterId, caller: &str, owner: &str) -> Vec<Rule> {
        let declared = match self.port_rules.is_empty() {
            true => None,
            false => {
                let of = |namespace| self.port_rules.get(&(port, namespace));
                of(caller).or_else(|| of(owner))
            }
        };
        declared.cloned().unwrap_or_else(|| vec![rule_to(RouteId(port.0))])
    }

    /// The same for bytes.
    pub(super) fn tcp_for(&self, port: ClusterId, caller: &str, owner: &str) -> TcpRoute {
        let of = |namespace| self.port_tcp.get(&(port, namespace));
        of(caller).or_else(|| of(owner)).cloned().unwrap_or_else(|| TcpRoute {
            name: self.routes[port.0 as usize].name.clone(),
            backends: vec![TcpBackend {
                cluster: Some(port),
                weight: 1,
                rate_limits: of_connections(&self.settings[port.0 as usize].of_requests),
            }],
            idle_timeout_ms: self.settings[port.0 as usize].idle_timeout_ms,
            connection_ms_max: None,
        })
    }

    /// Where requests to a cluster stay near: with fewer percent in service they go further.
    pub(super) fn locality_percent(&self, cluster: ClusterId) -> Option<u8> {
        self.settings[cluster.0 as usize].locality_percent
    }

    /// The hosts of an HTTP listener of a Gateway; none if nothing attached to it.
    pub(super) fn hosts_of(&self, listener: ListenerKey) -> &[VirtualHost] {
        self.listener_hosts.get(&listener).map(Vec::as_slice).unwrap_or_default()
    }

    /// The route of a TCP listener of a Gateway, if one attached to it.
    pub(super) fn tcp_of(&self, listener: ListenerKey) -> Option<&TcpRoute> {
        self.listener_tcp.get(&listener)
    }
}

/// A rule for every request.
pub(super) fn rule_to(route: RouteId) -> Rule {
    Rule { matches: crate::compile::http_rules::match_all(), route }
}

/// A route that sends everything to one cluster.
pub(super) fn route_to(name: String, cluster: ClusterId, policy: RoutePolicy) -> Route {
    Route {
        name,
        action: Action::Forward(vec![WeightedBackend {
            cluster: Some(cluster),
            weight: 1,
            request_headers: HeaderEdits::default(),
            response_headers: HeaderEdits::default(),
            rate_limits: None,
        }]),
        request_headers: HeaderEdits::default(),
        response_headers: HeaderEdits::default(),
        rewrite: None,
        mirrors: Vec::new(),
        cors: None,
        policy,
    }
}

/// The policies about each port. They may contradict each other.
fn speakers_of_ports<'d>(
    services: &Services<'d>,
    policies: &Policies<'d>,
    settings: &[Settings],
    findings: &mut Findings,
) -> Vec<Vec<&'d Declared>> {
    let ports =
        services.iter().flat_map(|service| service.ports.iter().map(move |port| (service, port)));
    let speakers = ports.zip(settings).map(|((service, port), settings)| {
        let (namespace, name) = (service.namespace(), service.name());
        let policies = policies.speakers(TargetKind::Service, namespace, name, port.name);
        let (declared, path) = (service.declared, "spec.ports".to_owned());
        let speakers = Speakers { declared, path, policies };
        tell_of_port(&settings.of_requests, &speakers, findings);
        speakers.policies
    });
    speakers.collect()
}

fn default_routes(services: &Services<'_>, settings: &[Settings]) -> Vec<Route> {
    let ports =
        services.iter().flat_map(|service| service.ports.iter().map(move |port| (service, port)));
    let routes = ports.map(|(service, port)| {
        let (namespace, name) = (service.namespace(), service.name());
        let name = format!("Service/{namespace}/{name}/{}", port.number);
        route_to(name, port.cluster, settings[port.cluster.0 as usize].of_requests.clone())
    });
    routes.collect()
}

/// Turns attachments into rules in their order.
struct Linker<'a, 'd> {
    http: &'a [HttpRoute<'d>],
    tcp: &'a [TcpRule<'d>],
    settings: &'a [Settings],
    /// Policies about each port.
    speakers: &'a [Vec<&'d Declared>],
    routes: Vec<Route>,
    /// A rule is one route for each policy that it has where it is attached.
    ids: HashMap<(usize, usize, RoutePolicy), RouteId>,
    findings: &'a mut Findings,
}

impl<'d> Linker<'_, 'd> {
    fn link_ports(&mut self, attached: &Attachments) -> HashMap<(ClusterId, &'d str), Vec<Rule>> {
        let mut rules = HashMap::new();
        for (&port, routes) in &attached.http_ports {
            for (namespace, routes) in by_namespace(routes, |route| self.http[route].declared) {
                let ranked = routes.into_iter().map(|route| (HostRank::default(), route));
                rules.insert((port, namespace), self.order(ranked.collect(), Some(port)));
            }
        }
        rules
    }

    fn link_tcp_ports(
        &mut self,
        attached: &Attachments,
    ) -> HashMap<(ClusterId, &'d str), TcpRoute> {
        let mut linked = HashMap::new();
        for (&port, routes) in &attached.tcp_ports {
            let of_port = Some(&self.settings[port.0 as usize]);
            for (namespace, routes) in by_namespace(routes, |route| self.tcp[route].declared) {
                linked.insert((port, namespace), self.choose(&routes, of_port));
            }
        }
        linked
    }

    fn link_listeners(&mut self, attached: &Attachments) -> HashMap<ListenerKey, Vec<VirtualHost>> {
        let mut keys: Vec<ListenerKey> = attached.http_listeners.keys().copied().collect();
        keys.sort_unstable();
        let mut linked = HashMap::new();
        for key in keys {
            linked.insert(key, self.link_hosts(&attached.http_listeners[&key]));
        }
        linked
    }

    /// Patterns with the same routes share one virtual host.
    fn link_hosts(&mut self, attached: &[HostAttachment]) -> Vec<VirtualHost> {
        let mut by_pattern: Vec<(&HostPattern, Vec<(HostRank, usize)>)> = Vec::new();
        let mut positions: HashMap<&HostPattern, usize> = HashMap::new();
        for one in attached {
            let position = *positions.entry(&one.hosts).or_insert_with(|| {
                by_pattern.push((&one.hosts, Vec::new()));
                by_pattern.len() - 1
            });
            by_pattern[position].1.push((one.rank, one.route));
        }
        let mut linked: Vec<VirtualHost> = Vec::new();
        let mut by_routes: HashMap<Vec<(HostRank, usize)>, usize> = HashMap::new();
        for (pattern, routes) in by_pattern {
            // With one route its rank has nothing to be compared with.
            let key = match routes.as_slice() {
                [(_, route)] => vec![(HostRank::default(), *route)],
                _ => routes.clone(),
            };
            if let Some(&position) = by_routes.get(&key) {
                linked[position].hosts.push(pattern.clone());
                continue;
            }
            by_routes.insert(key, linked.len());
            let rules = self.order(routes, None);
            linked.push(VirtualHost { hosts: vec![pattern.clone()], port: None, rules });
        }
        linked
    }

    fn link_tcp_listeners(&mut self, attached: &Attachments) -> HashMap<ListenerKey, TcpRoute> {
        let listeners = attached.tcp_listeners.iter();
        listeners.map(|(&key, routes)| (key, self.choose(routes, None))).collect()
    }

    /// The rules of some routes in their order of precedence; of those that are attached to a port with it.
    fn order(&mut self, routes: Vec<(HostRank, usize)>, parent: Option<ClusterId>) -> Vec<Rule> {
        let all = self.http;
        let mut ordered = Vec::new();
        for (rank, route) in routes {
            for (rule_index, rule) in all[route].rules.iter().enumerate() {
                for (match_index, matches) in rule.matches.iter().enumerate() {
                    let position = (rule_index, match_index);
                    let declared = all[route].declared;
                    let key = Precedence::of(rank, declared, position, matches);
                    ordered.push((key, route, rule_index, matches));
                }
            }
        }
        ordered.sort_by(|one, other| one.0.cmp(&other.0));
        let ordered = ordered.into_iter();
        ordered
            .map(|(_, route, rule, matches)| Rule {
                matches: matches.clone(),
                route: self.route_id(route, rule, parent),
            })
            .collect()
    }

    fn route_id(&mut self, route: usize, index: usize, parent: Option<ClusterId>) -> RouteId {
        let rule = &self.http[route].rules[index];
        let mut policy = rule.said.clone();
        if let Some(port) = parent {
            policy = either(policy, &self.settings[port.0 as usize].of_requests);
        }
        let policy = either(policy, &rule.of_backends);
        match self.ids.entry((route, index, policy)) {
            Entry::Occupied(known) => *known.get(),
            Entry::Vacant(free) => {
                let policy = free.key().2.clone();
                let id = *free.insert(RouteId(self.routes.len() as u32));
                self.tell_of_attached(rule, &policy, parent);
                self.routes.push(Route { policy, ..rule.route.clone() });
                id
            }
        }
    }

    /// What of a rule's policy can never act, since a policy of a service says something else.
    fn tell_of_attached(
        &mut self,
        rule: &HttpRule<'d>,
        policy: &RoutePolicy,
        parent: Option<ClusterId>,
    ) {
        let Action::Forward(_) = rule.route.action else { return };
        let of_parent = parent.map(|port| &self.speakers[port.0 as usize]);
        let of_services = of_parent.into_iter().flatten().chain(&rule.backend_policies);
        let mut speakers = rule.speakers.clone();
        speakers.policies.extend(of_services);
        tell_of_attached(policy, &rule.said, &speakers, self.findings);
        if rule.said.retry.is_none() {
            let severity = Severity::Warning;
            tell_of_retry(policy, &rule.matches, &speakers, severity, self.findings);
        }
        if rule.said.circuit_breaker.is_none() {
            let (action, severity) = (&rule.route.action, Severity::Warning);
            tell_of_fallback(policy, action, &speakers, severity, self.findings);
        }
    }

    /// Of several TCPRoutes the first in the order of age: bytes say nothing that could choose.
    fn choose(&mut self, routes: &[usize], of_parent: Option<&Settings>) -> TcpRoute {
        let mut ordered: Vec<&TcpRule<'_>> = routes.iter().map(|&route| &self.tcp[route]).collect();
        ordered.sort_by_key(|rule| Age::of(rule.declared));
        for unused in &ordered[1..] {
            let message = format!(
                "the TCPRoute `{}` gets no connections where `{}` is attached too",
                unused.declared.key.name, ordered[0].declared.key.name
            );
            let help = "the older of two counts, then the first by name";
            self.findings.warn(unused.declared, "spec.parentRefs", message, help);
        }
        let chosen = ordered[0];
        let mut route = chosen.route.clone();
        let idle_ms = route.idle_timeout_ms.or(of_parent.and_then(|of| of.idle_timeout_ms));
        route.idle_timeout_ms = idle_ms.or(chosen.backend_idle_timeout_ms);
        let of_parent_ms = of_parent.and_then(|of| of.policy.connection_ms_max);
        route.connection_ms_max = route.connection_ms_max.or(of_parent_ms);
        let of_parent = || of_parent.and_then(|of| of_connections(&of.of_requests));
        if let Some(limits) = chosen.rate_limits.clone().or_else(of_parent) {
            for backend in &mut route.backends {
                backend.rate_limits = Some(limits.clone());
            }
        }
        route
    }
}

fn by_namespace<'d>(
    routes: &[usize],
    declared: impl Fn(usize) -> &'d Declared,
) -> BTreeMap<&'d str, Vec<usize>> {
    let mut grouped: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for &route in routes {
        grouped.entry(&declared(route).key.namespace).or_default().push(route);
    }
    grouped
}
