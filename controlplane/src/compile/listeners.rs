//! The listeners of one proxy, and where each leads.
//!
//! An `Outbound` listener of HTTP serves each service in scope by its names
//! `cart.shop.svc.cluster.local`, `cart.shop.svc`, `cart.shop`, and `cart` for proxies of the same
//! namespace. The port of the authority chooses the service's port; without one it is 80 and, for a
//! service that has no port 80, its only HTTP port. The model takes `cart:80` for `cart`.
//!
//! A `Gateway` listener becomes one for each port of its Gateway, named `edge:80` after the port that
//! the Gateway has.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use lateen_snapshot::model::proxy_protocol::AddressRange;
use lateen_snapshot::model::{
    Balancing, Cluster, ClusterId, Direction, Endpoint, HostPattern, HostRoutes, Listener,
    Protocol, RouteId, RouteTable, RouteTableId, TcpBackend, TcpRoute, VirtualHost,
};

use crate::compile::attach::missing_gateway;
use crate::compile::findings::Findings;
use crate::compile::hosts::pattern;
use crate::compile::objects::{Item, Objects};
use crate::compile::plan::Selection;
use crate::compile::policy::rate_limit::of_connections;
use crate::compile::policy::{Settings, TargetKind};
use crate::compile::references::{missing_service, no_such_port};
use crate::compile::services::{Service, ServicePort};
use crate::compile::whole::{route_to, rule_to};
use crate::language::diagnostic::Diagnostic;
use crate::language::kinds::proxy::{
    Backend, GatewayRef, ListenerProtocol, ListenerType, OutboundScope, ProxyListener, ProxySpec,
    Target,
};
use crate::language::schema::check::nearest;
use crate::language::text::{address_range, duration_ms};

/// Adds a proxy's listeners to its snapshot, and what they lead to.
pub(super) fn add_listeners<'d>(
    proxy: &Item<'d, ProxySpec>,
    objects: &Objects<'d>,
    selection: &mut Selection<'_, 'd>,
    findings: &mut Findings,
) {
    let mut draft = Draft { proxy, objects, selection, findings, addresses: BTreeMap::new() };
    draft.check_scope();
    for (index, listener) in proxy.spec.listeners.iter().enumerate() {
        let path = format!("spec.listeners[{index}]");
        // The language refuses those that lack what their type needs.
        match (listener.r#type, listener.target, &listener.gateway) {
            (ListenerType::Inbound, Some(target), _) => draft.add_inbound(listener, target, &path),
            (ListenerType::Outbound, ..) => match &listener.backend {
                Some(backend) => draft.add_outbound_to(listener, backend, &path),
                None => draft.add_outbound(listener, &path),
            },
            (ListenerType::Gateway, _, Some(gateway)) => {
                draft.add_gateway(listener, gateway, &path);
            }
            (ListenerType::Inbound | ListenerType::Gateway, ..) => {}
        }
    }
}

struct Draft<'p, 'a, 'd> {
    proxy: &'p Item<'d, ProxySpec>,
    objects: &'p Objects<'d>,
    selection: &'p mut Selection<'a, 'd>,
    findings: &'p mut Findings,
    /// Each address, and the field that it is from.
    addresses: BTreeMap<SocketAddr, String>,
}

impl<'a, 'd> Draft<'_, 'a, 'd> {
    /// Everything goes to the workload beside the proxy.
    fn add_inbound(&mut self, written: &ProxyListener, target: Target, path: &str) {
        let mut settings = self.inbound_settings(written, path);
        self.selection.take_fallback(&mut settings.of_requests, true);
        let name = format!("inbound/{}", written.name);
        let snapshot = self.selection.snapshot();
        let cluster = ClusterId(snapshot.clusters.len() as u32);
        snapshot.clusters.push(Arc::new(Cluster {
            name: name.clone(),
            endpoints: vec![Endpoint { address: SocketAddr::new(target.address, target.port) }],
            weights: Vec::new(),
            balancing: Balancing::default(),
            connect_timeout_ms: settings.connect_timeout_ms,
            policy: settings.policy.clone(),
        }));
        let route = RouteId(snapshot.routes.len() as u32);
        let rate_limits = of_connections(&settings.of_requests);
        snapshot.routes.push(route_to(name.clone(), cluster, settings.of_requests));
        let tcp = TcpRoute {
            name,
            backends: vec![TcpBackend { cluster: Some(cluster), weight: 1, rate_limits }],
            idle_timeout_ms: settings.idle_timeout_ms,
            connection_ms_max: None,
        };
        let any = vec![HostPattern::Any];
        let hosts = vec![VirtualHost { hosts: any, port: None, rules: vec![rule_to(route)] }];
        self.add_plain(written, Direction::Inbound, hosts, Some(tcp), path);
    }

    /// What the policy about the service as a whole says; about its port, if it has just one.
    fn inbound_settings(&mut self, written: &ProxyListener, path: &str) -> Settings {
        let Some(name) = &written.service else { return Settings::default() };
        let namespace = self.proxy.namespace();
        match self.selection.whole.services.find("", namespace, name) {
            Ok(service) => {
                let section = match service.ports.as_slice() {
                    [only] => only.name,
                    _ => None,
                };
                let policies = &self.selection.whole.policies;
                policies.about(TargetKind::Service, namespace, name, section)
            }
            Err(missing) => {
                let place = self.proxy.declared.place_of(&format!("{path}.service"));
                self.findings.push(missing_service(missing, namespace, name, place));
                Settings::default()
            }
        }
    }

    /// Requests go to the service that their host names.
    fn add_outbound(&mut self, written: &ProxyListener, path: &str) {
        let mut hosts = Vec::new();
        for service in self.services_in_scope() {
            self.add_service_hosts(service, &mut hosts);
        }
        self.add_plain(written, Direction::Outbound, hosts, None, path);
    }

    fn add_service_hosts(&mut self, service: &Service<'d>, hosts: &mut Vec<VirtualHost>) {
        let (caller, owner) = (self.proxy.namespace(), service.namespace());
        let names = mesh_names(service, caller);
        let mut http_ports = service.ports.iter().filter(|port| port.speaks.may_be_http());
        for port in http_ports.clone() {
            let rules = self.selection.whole.rules_for(port.cluster, caller, owner);
            let rules = self.selection.take_rules(&rules);
            hosts.push(VirtualHost { hosts: names.clone(), port: Some(port.number), rules });
        }
        let (first, second) = (http_ports.next(), http_ports.next());
        if let (Some(only), None, None) = (first, second, service.port(80)) {
            let rules = self.selection.whole.rules_for(only.cluster, caller, owner);
            let rules = self.selection.take_rules(&rules);
            hosts.push(VirtualHost { hosts: names, port: Some(80), rules });
        }
    }

    /// Everything goes to one port of a service; requests by its HTTPRoutes, bytes by its TCPRoutes.
    fn add_outbound_to(&mut self, written: &ProxyListener, backend: &Backend, path: &str) {
        let Some((service, port)) = self.find_backend(backend, path) else { return };
        let (caller, owner) = (self.proxy.namespace(), service.namespace());
        let tcp = self.selection.whole.tcp_for(port.cluster, caller, owner);
        let tcp = self.selection.take_tcp(tcp);
        let hosts = match written.protocol.unwrap_or_default() {
            ListenerProtocol::Tcp => Vec::new(),
            ListenerProtocol::Auto | ListenerProtocol::Http => {
                let rules = match port.speaks.may_be_http() {
                    true => self.selection.whole.rules_for(port.cluster, caller, owner),
                    false => vec![rule_to(RouteId(port.cluster.0))],
                };
                let rules = self.selection.take_rules(&rules);
                vec![VirtualHost { hosts: vec![HostPattern::Any], port: None, rules }]
            }
        };
        self.add_plain(written, Direction::Outbound, hosts, Some(tcp), path);
    }

    fn find_backend(
        &mut self,
        backend: &Backend,
        path: &str,
    ) -> Option<(&'a Service<'d>, &'a ServicePort<'d>)> {
        let whole = self.selection.whole;
        let namespace = backend.namespace.as_deref().unwrap_or(self.proxy.namespace());
        let group = backend.group.as_deref().unwrap_or_default();
        let place = |field: &str| self.proxy.declared.place_of(&format!("{path}.backend.{field}"));
        let problem = match whole.services.find(group, namespace, &backend.name) {
            Ok(service) => match service.port(backend.port) {
                Some(port) => return Some((service, port)),
                None => no_such_port(service, backend.port, place("port")),
            },
            Err(missing) => missing_service(missing, namespace, &backend.name, place("name")),
        };
        self.findings.push(problem);
        None
    }

    /// One listener for each port of the Gateway; its listeners of that port are told apart by host.
    fn add_gateway(&mut self, written: &ProxyListener, reference: &GatewayRef, path: &str) {
        let namespace = reference.namespace.as_deref().unwrap_or(self.proxy.namespace());
        let gateways = &self.selection.whole.gateways;
        let found = gateways.binary_search_by_key(&(namespace, &*reference.name), |gateway| {
            (gateway.namespace(), gateway.name())
        });
        let Ok(gateway_index) = found else {
            let place = self.proxy.declared.place_of(&format!("{path}.gateway.name"));
            let missing = missing_gateway(gateways, namespace, &reference.name, place);
            return self.findings.push(missing);
        };
        let gateway = gateways[gateway_index];
        let mut by_port: BTreeMap<i32, Vec<usize>> = BTreeMap::new();
        for (index, listener) in gateway.spec.listeners.iter().enumerate() {
            by_port.entry(listener.port).or_default().push(index);
        }
        for (port, listeners) in by_port {
            let Some(own_port) = self.offset_port(written, port, path) else { continue };
            let is_tcp = gateway.spec.listeners[listeners[0]].protocol == "TCP";
            let mut http = Vec::new();
            let mut tcp = None;
            for index in listeners {
                let listener = &gateway.spec.listeners[index];
                let (key, name) =
                    ((gateway_index, index), format!("{}/{}", written.name, listener.name));
                if is_tcp {
                    let route = self.selection.whole.tcp_of(key).cloned();
                    // Nobody gets the bytes: a reset.
                    let nobody = TcpRoute {
                        name,
                        backends: Vec::new(),
                        idle_timeout_ms: None,
                        connection_ms_max: None,
                    };
                    tcp = Some(self.selection.take_tcp(route.unwrap_or(nobody)));
                    continue;
                }
                let hosts = self.selection.whole.hosts_of(key).iter();
                let hosts = hosts.map(|of_whole| VirtualHost {
                    hosts: of_whole.hosts.clone(),
                    port: of_whole.port,
                    rules: self.selection.take_rules(&of_whole.rules),
                });
                let hosts = hosts.collect();
                let host = pattern(listener.hostname.as_deref());
                http.push(HostRoutes { host, table: self.add_table(name, hosts) });
            }
            let listener = Listener {
                name: format!("{}:{port}", written.name),
                direction: Direction::Gateway,
                address: SocketAddr::new(written.address.unwrap_or(EVERYWHERE), own_port),
                protocol: if is_tcp { Protocol::Tcp } else { Protocol::Http },
                proxy_sources: proxy_sources(written),
                connection_ms_max: connection_ms_max(written),
                http,
                tcp,
            };
            self.add(listener, path);
        }
    }

    fn offset_port(&mut self, written: &ProxyListener, port: i32, path: &str) -> Option<u16> {
        let offset = written.port_offset.unwrap_or(0);
        let moved = u16::try_from(port).ok().and_then(|port| port.checked_add(offset));
        if moved.is_none() {
            let message = format!("port {port} of the Gateway and {offset} more are no port");
            let path = format!("{path}.portOffset");
            let help = format!("at most {}", i32::from(u16::MAX) - port);
            self.findings.error_with_help(self.proxy.declared, &path, message, help);
        }
        moved
    }

    /// A listener as it is written, with all its hosts in one table.
    fn add_plain(
        &mut self,
        written: &ProxyListener,
        direction: Direction,
        hosts: Vec<VirtualHost>,
        tcp: Option<TcpRoute>,
        path: &str,
    ) {
        let protocol = match written.protocol.unwrap_or_default() {
            ListenerProtocol::Auto => Protocol::Auto,
            ListenerProtocol::Http => Protocol::Http,
            ListenerProtocol::Tcp => Protocol::Tcp,
        };
        let http = match protocol {
            Protocol::Tcp => Vec::new(),
            Protocol::Auto | Protocol::Http => {
                let table = self.add_table(written.name.clone(), hosts);
                vec![HostRoutes { host: HostPattern::Any, table }]
            }
        };
        let default = match direction {
            Direction::Outbound => IpAddr::V4(Ipv4Addr::LOCALHOST),
            Direction::Inbound | Direction::Gateway => EVERYWHERE,
        };
        let port = written.port.unwrap_or_default();
        let address = SocketAddr::new(written.address.unwrap_or(default), port);
        let tcp = tcp.filter(|_| protocol != Protocol::Http);
        let name = written.name.clone();
        let proxy_sources = proxy_sources(written);
        let connection_ms_max = connection_ms_max(written);
        let listener = Listener {
            name,
            direction,
            address,
            protocol,
            proxy_sources,
            connection_ms_max,
            http,
            tcp,
        };
        self.add(listener, path);
    }

    fn add_table(&mut self, name: String, hosts: Vec<VirtualHost>) -> RouteTableId {
        let tables = &mut self.selection.snapshot().route_tables;
        tables.push(RouteTable { name, hosts });
        RouteTableId(tables.len() as u32 - 1)
    }

    fn add(&mut self, listener: Listener, path: &str) {
        let address = listener.address;
        let taken = self.addresses.iter().find(|(taken, _)| overlap(**taken, address));
        if let Some((&taken, first)) = taken {
            let declared = self.proxy.declared;
            let message = match taken == address {
                true => format!("two listeners accept at {address}"),
                false => format!("a listener at {taken} accepts at {address} too"),
            };
            self.findings.push(
                Diagnostic::error(message, declared.place_of(&format!("{path}.name")))
                    .with_label(format!("`{}`", listener.name))
                    .with_related(declared.place_of(&format!("{first}.name")), "and this one")
                    .with_help(
                        "a `Gateway` listener has the ports of its Gateway, plus `portOffset`",
                    ),
            );
        }
        self.addresses.insert(address, path.to_owned());
        self.selection.snapshot().listeners.push(listener);
    }

    /// In the order of their names, each once.
    fn services_in_scope(&self) -> Vec<&'a Service<'d>> {
        let services = &self.selection.whole.services;
        let own = self.proxy.namespace();
        let scope = match &self.proxy.spec.outbound {
            Some(OutboundScope { services: None, namespaces: None }) | None => {
                return services.of_namespace(own).iter().collect();
            }
            Some(scope) => scope,
        };
        let namespaces = scope.namespaces.as_deref().unwrap_or_default();
        if namespaces.iter().any(|namespace| namespace == "*") {
            return services.iter().collect();
        }
        let namespaces: BTreeSet<&str> = namespaces.iter().map(String::as_str).collect();
        let all = namespaces.iter().flat_map(|namespace| services.of_namespace(namespace));
        let named = scope.services.iter().flatten();
        let named = named.filter_map(|reference| {
            services.named(reference.namespace.as_deref().unwrap_or(own), &reference.name)
        });
        let all = all.chain(named).map(|service| ((service.namespace(), service.name()), service));
        all.collect::<BTreeMap<_, _>>().into_values().collect()
    }

    /// What the scope names is there.
    fn check_scope(&mut self) {
        let Some(scope) = &self.proxy.spec.outbound else { return };
        let declared = self.proxy.declared;
        for (index, reference) in scope.services.iter().flatten().enumerate() {
            let namespace = reference.namespace.as_deref().unwrap_or(self.proxy.namespace());
            let found = self.selection.whole.services.find("", namespace, &reference.name);
            if let Err(missing) = found {
                let place = declared.place_of(&format!("spec.outbound.services[{index}].name"));
                self.findings.push(missing_service(missing, namespace, &reference.name, place));
            }
        }
        for (index, namespace) in scope.namespaces.iter().flatten().enumerate() {
            if namespace == "*" || self.objects.namespaces.contains(&**namespace) {
                continue;
            }
            let message = format!("nothing is declared in the namespace `{namespace}`");
            let place = declared.place_of(&format!("spec.outbound.namespaces[{index}]"));
            let diagnostic = Diagnostic::error(message, place);
            let names = self.objects.namespaces.iter().copied();
            self.findings.push(match nearest(namespace, names) {
                Some(near) => diagnostic.with_label(format!("did you mean `{near}`?")),
                None => diagnostic.with_help("declare the Namespace if it is to be filled later"),
            });
        }
    }
}

const EVERYWHERE: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);

/// From which a listener takes headers of the PROXY protocol, as the language found them right.
fn proxy_sources(written: &ProxyListener) -> Vec<AddressRange> {
    let from = written.proxy_protocol.iter().flat_map(|accepted| &accepted.from);
    from.filter_map(|text| {
        let (address, bits) = address_range(text)?;
        AddressRange::around(address, bits)
    })
    .collect()
}

/// Whether a port of one is a port of the other: `0.0.0.0` stands for every IPv4 address, `::` for every
/// address.
fn overlap(one: SocketAddr, other: SocketAddr) -> bool {
    let covers = |all: IpAddr, one: IpAddr| match all {
        IpAddr::V4(all) => all.is_unspecified() && one.is_ipv4(),
        IpAddr::V6(all) => all.is_unspecified(),
    };
    let (one_ip, other_ip) = (one.ip(), other.ip());
    one.port() == other.port()
        && (one_ip == other_ip || covers(one_ip, other_ip) || covers(other_ip, one_ip))
}

/// What a service is called by proxies of the namespace `caller`.
fn mesh_names(service: &Service<'_>, caller: &str) -> Vec<HostPattern> {
    let (namespace, name) = (service.namespace(), service.name());
    let mut names = vec![
        HostPattern::Exact(format!("{name}.{namespace}.svc.cluster.local")),
        HostPattern::Exact(format!("{name}.{namespace}.svc")),
        HostPattern::Exact(format!("{name}.{namespace}")),
    ];
    if namespace == caller {
        names.push(HostPattern::Exact(name.to_owned()));
    }
    names
}

/// The language saw to its bounds.
fn connection_ms_max(written: &ProxyListener) -> Option<u32> {
    let span_ms = duration_ms(written.max_connection_duration.as_deref()?)?;
    u32::try_from(span_ms).ok()
}
