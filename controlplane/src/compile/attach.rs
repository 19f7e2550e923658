//! Which routes apply where: `parentRefs` against Gateway listeners and service ports.
//!
//! Source: Gateway API, `ParentReference`, `AllowedRoutes`; for services GEP-1426: a route in the
//! service's namespace is a producer's and holds for all callers, one in another namespace is a
//! consumer's and holds for callers of that namespace, for whom it replaces those of the producer.

use std::collections::{BTreeMap, HashMap};

use gateway_api::apis::experimental::gateways::{
    GatewayListeners, GatewayListenersAllowedRoutesNamespacesFrom as From,
    GatewayListenersAllowedRoutesNamespacesSelector as Selector, GatewaySpec,
};
use gateway_api::apis::experimental::httproutes::HttpRouteParentRefs;
use gateway_api::apis::experimental::tcproutes::TcpRouteParentRefs;
use lateen_snapshot::model::{ClusterId, HostPattern};

use crate::compile::findings::Findings;
use crate::compile::hosts::{HostRank, intersect};
use crate::compile::objects::{Item, Objects};
use crate::compile::references::{list_names, missing_service, no_such_port, not_http};
use crate::compile::services::{ServicePort, Services};
use crate::language::diagnostic::Diagnostic;
use crate::language::object::{Declared, ObjectKind};
use crate::language::schema::check::{list_of, nearest};

/// A listener: positions of its Gateway among all, and of it in that.
pub(super) type ListenerKey = (usize, usize);

/// What applies where. Routes are positions among those of their kind.
#[derive(Debug, Default)]
pub(super) struct Attachments {
    pub(super) http_listeners: HashMap<ListenerKey, Vec<HostAttachment>>,
    pub(super) tcp_listeners: HashMap<ListenerKey, Vec<usize>>,
    pub(super) http_ports: BTreeMap<ClusterId, Vec<usize>>,
    pub(super) tcp_ports: BTreeMap<ClusterId, Vec<usize>>,
}

/// An HTTPRoute that applies to some hosts of a listener.
#[derive(Debug)]
pub(super) struct HostAttachment {
    pub(super) hosts: HostPattern,
    pub(super) rank: HostRank,
    pub(super) route: usize,
}

/// What a route attaches to.
#[derive(Clone, Copy, Debug)]
struct ParentRef<'a> {
    group: &'a str,
    kind: &'a str,
    namespace: Option<&'a str>,
    name: &'a str,
    section_name: Option<&'a str>,
    port: Option<i32>,
}

/// Two route kinds, one form; the crate generates a type for each.
macro_rules! parent_ref_from {
    ($written:ty) => {
        impl<'a> std::convert::From<&'a $written> for ParentRef<'a> {
            fn from(parent: &'a $written) -> Self {
                Self {
                    group: parent.group.as_deref().unwrap_or("gateway.networking.k8s.io"),
                    kind: parent.kind.as_deref().unwrap_or("Gateway"),
                    namespace: parent.namespace.as_deref(),
                    name: &parent.name,
                    section_name: parent.section_name.as_deref(),
                    port: parent.port,
                }
            }
        }
    };
}

parent_ref_from!(HttpRouteParentRefs);
parent_ref_from!(TcpRouteParentRefs);

/// Attaches all routes. One that attaches to nothing that it names is an error.
pub(super) fn attach_routes(
    objects: &Objects<'_>,
    services: &Services<'_>,
    findings: &mut Findings,
) -> Attachments {
    let gateways = objects.gateways.iter().enumerate();
    let gateways = gateways.map(|(index, item)| ((item.namespace(), item.name()), index)).collect();
    let mut attacher =
        Attacher { objects, services, gateways, findings, attachments: Attachments::default() };
    for (index, route) in objects.http_routes.iter().enumerate() {
        let parents = route.spec.parent_refs.iter().flatten().map(ParentRef::from).collect();
        let hostnames = route.spec.hostnames.as_deref().unwrap_or_default();
        attacher.attach(&Route { declared: route.declared, index, hostnames, parents });
    }
    for (index, route) in objects.tcp_routes.iter().enumerate() {
        let parents = route.spec.parent_refs.iter().flatten().map(ParentRef::from).collect();
        attacher.attach(&Route { declared: route.declared, index, hostnames: &[], parents });
    }
    attacher.attachments
}

/// A route of either kind.
struct Route<'a> {
    declared: &'a Declared,
    index: usize,
    hostnames: &'a [String],
    parents: Vec<ParentRef<'a>>,
}

impl Route<'_> {
    fn is_http(&self) -> bool {
        self.declared.key.kind == ObjectKind::HttpRoute
    }
}

struct Attacher<'a, 'd> {
    objects: &'a Objects<'d>,
    services: &'a Services<'d>,
    gateways: HashMap<(&'a str, &'a str), usize>,
    findings: &'a mut Findings,
    attachments: Attachments,
}

impl Attacher<'_, '_> {
    fn attach(&mut self, route: &Route<'_>) {
        if route.parents.is_empty() {
            let message = format!("the {} attaches to nothing", route.declared.key.kind);
            let help = "name a Gateway or a Service in `parentRefs`";
            self.findings.warn(route.declared, "metadata.name", message, help);
        }
        for (index, parent) in route.parents.iter().enumerate() {
            let path = format!("spec.parentRefs[{index}]");
            match parent.kind {
                "Gateway" => self.attach_to_gateway(route, parent, &path),
                _ => self.attach_to_service(route, parent, &path),
            }
        }
        let is_of_service = |parent: &ParentRef<'_>| parent.kind == "Service";
        if !route.hostnames.is_empty() && route.parents.iter().any(is_of_service) {
            let message = "`hostnames` mean nothing to a Service: it is called by its own names";
            match route.parents.iter().all(is_of_service) {
                true => self.findings.error(route.declared, "spec.hostnames", message),
                false => {
                    let help = "they hold for the Gateway alone";
                    self.findings.warn(route.declared, "spec.hostnames", message, help);
                }
            }
        }
    }

    fn attach_to_gateway(&mut self, route: &Route<'_>, parent: &ParentRef<'_>, path: &str) {
        let namespace = parent.namespace.unwrap_or(&route.declared.key.namespace);
        let Some(&gateway_index) = self.gateways.get(&(namespace, parent.name)) else {
            let place = route.declared.place_of(&format!("{path}.name"));
            let gateways = &self.objects.gateways;
            return self.findings.push(missing_gateway(gateways, namespace, parent.name, place));
        };
        let gateway = self.objects.gateways[gateway_index];
        let selected = match select_listeners(&gateway, parent) {
            Ok(selected) => selected,
            Err((field, message, label)) => {
                let place = route.declared.place_of(&format!("{path}.{field}"));
                let names: Vec<&str> =
                    gateway.spec.listeners.iter().map(|listener| &*listener.name).collect();
                let mut diagnostic = Diagnostic::error(message, place).with_related(
                    gateway.declared.place_of("spec.listeners"),
                    list_names("its listeners", &names),
                );
                diagnostic.label = label;
                return self.findings.push(diagnostic);
            }
        };
        let mut refusals = Vec::new();
        let mut is_attached = false;
        for index in selected {
            let listener = &gateway.spec.listeners[index];
            match self.refuse(route, &gateway, listener) {
                Some(why) => refusals.push(format!("`{}` {why}", listener.name)),
                None => {
                    is_attached = true;
                    self.attachments.add(route, (gateway_index, index), listener);
                }
            }
        }
        if !is_attached {
            let message = format!(
                "no listener of the Gateway `{}` accepts the {} `{}`: {}",
                parent.name,
                route.declared.key.kind,
                route.declared.key.name,
                refusals.join("; ")
            );
            let listeners = gateway.declared.place_of("spec.listeners");
            let diagnostic = Diagnostic::error(message, route.declared.place_of(path))
                .with_related(listeners, "its listeners");
            self.findings.push(diagnostic);
        }
    }

    /// Why a listener does not accept a route, as the end of a sentence.
    fn refuse(
        &self,
        route: &Route<'_>,
        gateway: &Item<'_, GatewaySpec>,
        listener: &GatewayListeners,
    ) -> Option<String> {
        let allowed = listener.allowed_routes.as_ref();
        let kinds = allowed.and_then(|allowed| allowed.kinds.as_deref()).unwrap_or_default();
        let takes_http = listener.protocol == "HTTP";
        let takes_kind = kinds.is_empty()
            || kinds.iter().any(|kind| kind.kind == route.declared.key.kind.name());
        if takes_http != route.is_http() || !takes_kind {
            return Some(match takes_http {
                true => "takes HTTPRoutes".to_owned(),
                false => "takes TCPRoutes".to_owned(),
            });
        }
        let from = &*route.declared.key.namespace;
        let namespaces = allowed.and_then(|allowed| allowed.namespaces.as_ref());
        match namespaces.and_then(|namespaces| namespaces.from.as_ref()).unwrap_or(&From::Same) {
            From::All => {}
            From::Same if from == gateway.namespace() => {}
            From::Same => {
                return Some(format!(
                    "takes routes of its own namespace `{}` alone, which `allowedRoutes` can change",
                    gateway.namespace()
                ));
            }
            From::Selector => {
                let selector = namespaces.and_then(|namespaces| namespaces.selector.as_ref());
                if selector.is_none_or(|selector| !self.is_selected(from, selector)) {
                    return Some(format!(
                        "takes routes of namespaces with certain labels, which `{from}` has not"
                    ));
                }
            }
        }
        let hostname = listener.hostname.as_deref();
        let meets = |name: &String| intersect(hostname, Some(name)).is_some();
        if route.hostnames.is_empty() || route.hostnames.iter().any(meets) {
            return None;
        }
        let hostname = hostname.unwrap_or_default();
        Some(format!("is for `{hostname}`, the route for {}", list_of(route.hostnames, "and")))
    }

    /// Kubernetes' label selectors, on the labels of a namespace; it labels each with its own name.
    fn is_selected(&self, namespace: &str, selector: &Selector) -> bool {
        let labels = self.objects.namespace_labels.get(namespace);
        let label = |key: &str| {
            let written = labels.and_then(|labels| labels.get(key)).map(String::as_str);
            written.or((key == "kubernetes.io/metadata.name").then_some(namespace))
        };
        let mut equalities = selector.match_labels.iter().flatten();
        let mut expressions = selector.match_expressions.iter().flatten();
        equalities.all(|(key, value)| label(key) == Some(value))
            && expressions.all(|expression| {
                let found = label(&expression.key);
                let is_listed = found.is_some_and(|found| {
                    expression.values.iter().flatten().any(|value| value == found)
                });
                match expression.operator.as_str() {
                    "In" => is_listed,
                    "NotIn" => !is_listed,
                    "Exists" => found.is_some(),
                    _ => found.is_none(),
                }
            })
    }

    fn attach_to_service(&mut self, route: &Route<'_>, parent: &ParentRef<'_>, path: &str) {
        let namespace = parent.namespace.unwrap_or(&route.declared.key.namespace);
        let service = match self.services.find(parent.group, namespace, parent.name) {
            Ok(service) => service,
            Err(missing) => {
                let place = route.declared.place_of(&format!("{path}.name"));
                return self.findings.push(missing_service(missing, namespace, parent.name, place));
            }
        };
        let number = parent.port.and_then(|port| u16::try_from(port).ok());
        let is_selected = |port: &&ServicePort<'_>| {
            number.is_none_or(|number| port.number == number)
                && parent.section_name.is_none_or(|name| port.name == Some(name))
        };
        let selected: Vec<_> = service.ports.iter().filter(is_selected).collect();
        let Some(first) = selected.first() else {
            let place = |field: &str| route.declared.place_of(&format!("{path}.{field}"));
            return self.findings.push(match (number, parent.section_name) {
                (Some(number), None) => no_such_port(service, number, place("port")),
                (_, Some(section)) => {
                    let names: Vec<&str> =
                        service.ports.iter().filter_map(|port| port.name).collect();
                    let number = number.map(|number| format!(" with the number {number}"));
                    let message = format!(
                        "the Service `{}` has no port `{section}`{}",
                        service.name(),
                        number.unwrap_or_default()
                    );
                    let mut diagnostic = Diagnostic::error(message, place("sectionName"))
                        .with_help(list_names("its named ports", &names));
                    if let Some(near) =
                        nearest(section, names.into_iter().filter(|n| *n != section))
                    {
                        diagnostic = diagnostic.with_label(format!("did you mean `{near}`?"));
                    }
                    diagnostic
                }
                (None, None) => {
                    let message = format!("the Service `{}` has no TCP port", service.name());
                    Diagnostic::error(message, place("name"))
                }
            });
        };
        let fitting = |port: &&&ServicePort<'_>| !route.is_http() || port.speaks.may_be_http();
        let ports: Vec<ClusterId> =
            selected.iter().filter(fitting).map(|port| port.cluster).collect();
        if ports.is_empty() {
            self.findings.push(not_http(service, first.number, route.declared.place_of(path)));
        }
        for cluster in ports {
            let of_port = match route.is_http() {
                true => self.attachments.http_ports.entry(cluster).or_default(),
                false => self.attachments.tcp_ports.entry(cluster).or_default(),
            };
            if !of_port.contains(&route.index) {
                of_port.push(route.index);
            }
        }
    }
}

impl Attachments {
    fn add(&mut self, route: &Route<'_>, key: ListenerKey, listener: &GatewayListeners) {
        if !route.is_http() {
            let attached = self.tcp_listeners.entry(key).or_default();
            if !attached.contains(&route.index) {
                attached.push(route.index);
            }
            return;
        }
        let attached = self.http_listeners.entry(key).or_default();
        let hostnames: Vec<Option<&str>> = match route.hostnames {
            [] => vec![None],
            names => names.iter().map(|name| Some(&**name)).collect(),
        };
        for hostname in hostnames {
            let Some(hosts) = intersect(listener.hostname.as_deref(), hostname) else { continue };
            let rank = HostRank::of(hostname);
            // Two of a route's names may come to one of the listener: the closer fit counts.
            let of_route = attached.iter_mut().rev().take_while(|one| one.route == route.index);
            match of_route.into_iter().find(|one| one.hosts == hosts) {
                Some(same) => same.rank = same.rank.max(rank),
                None => attached.push(HostAttachment { hosts, rank, route: route.index }),
            }
        }
    }
}

/// The listeners that a parentRef means; else the field that is wrong, why, and what was meant.
fn select_listeners(
    gateway: &Item<'_, GatewaySpec>,
    parent: &ParentRef<'_>,
) -> Result<Vec<usize>, (&'static str, String, Option<String>)> {
    let listeners = &gateway.spec.listeners;
    let by_name =
        |listener: &&GatewayListeners| parent.section_name.is_none_or(|name| listener.name == name);
    if !listeners.iter().any(|listener| by_name(&listener)) {
        let name = parent.section_name.unwrap_or_default();
        let near = nearest(name, listeners.iter().map(|listener| &*listener.name));
        let message = format!("the Gateway `{}` has no listener `{name}`", gateway.name());
        return Err(("sectionName", message, near.map(|near| format!("did you mean `{near}`?"))));
    }
    let by_port =
        |listener: &GatewayListeners| parent.port.is_none_or(|port| listener.port == port);
    let selected = listeners.iter().enumerate();
    let selected = selected.filter(|(_, listener)| by_name(listener) && by_port(listener));
    let selected: Vec<usize> = selected.map(|(index, _)| index).collect();
    if selected.is_empty() {
        let port = parent.port.unwrap_or_default();
        let message = match parent.section_name {
            Some(name) => {
                format!(
                    "the listener `{name}` of the Gateway `{}` is not on port {port}",
                    gateway.name()
                )
            }
            None => format!("the Gateway `{}` has no listener on port {port}", gateway.name()),
        };
        return Err(("port", message, None));
    }
    Ok(selected)
}

/// There is no such Gateway.
pub(super) fn missing_gateway(
    gateways: &[Item<'_, GatewaySpec>],
    namespace: &str,
    name: &str,
    place: crate::language::place::Place,
) -> Diagnostic {
    let message = format!("there is no Gateway `{name}` in the namespace `{namespace}`");
    let diagnostic = Diagnostic::error(message, place);
    let here = gateways.iter().filter(|gateway| gateway.namespace() == namespace);
    if let Some(near) = nearest(name, here.map(Item::name)) {
        return diagnostic.with_label(format!("did you mean `{near}`?"));
    }
    match gateways.iter().find(|gateway| gateway.name() == name) {
        Some(other) => {
            diagnostic.with_help(format!("there is one in the namespace `{}`", other.namespace()))
        }
        None => diagnostic.with_label("not declared"),
    }
}
