//! What is in force on the ports of a service that is called without a route.
//!
//! Before: a service was asked about. After: the same facts as of a route, a port in the place of a rule. Whoever
//! speaks is the policies of the port and of its service: as callee and as backend they are one.

use crate::compile::attach::Attachments;
use crate::compile::in_force::settings::{Way, settle};
use crate::compile::in_force::{
    Asked, BackendPort, NotTold, RouteInForce, RuleInForce, SERVICE, Setting, WayInForce,
    port_name, words_of_backend,
};
use crate::compile::objects::Objects;
use crate::compile::policy::{Policies, TargetKind};
use crate::compile::services::{Service, ServicePort, Services, Speaks};
use crate::language::object::ObjectKey;
use crate::language::schema::check::nearest;

pub(super) fn find_service<'a, 'd>(
    services: &'a Services<'d>,
    asked: &Asked,
) -> Result<&'a Service<'d>, NotTold> {
    if let Some(found) = services.named(&asked.namespace, &asked.name) {
        return Ok(found);
    }
    let here = services.of_namespace(&asked.namespace).iter();
    let near = nearest(&asked.name, here.map(Service::name));
    let is_named = |service: &&Service<'_>| service.name() == asked.name;
    let elsewhere =
        services.iter().filter(is_named).map(|service| service.declared.key.to_string());
    Err(NotTold::NoRoute {
        wanted: format!("{SERVICE} {}/{}", asked.namespace, asked.name),
        near: near.map(str::to_owned),
        elsewhere: elsewhere.collect(),
    })
}

pub(super) fn service_in_force<'d>(
    service: &Service<'d>,
    asked: &Asked,
    objects: &Objects<'d>,
    policies: &Policies<'d>,
    attachments: &Attachments,
) -> Result<RouteInForce, NotTold> {
    let rules = asked_ports(service, asked)?.into_iter().map(|port| {
        let attached = attached_to(port, objects, attachments);
        // Routes of the service's own namespace are for all callers without one of their own.
        let is_decided =
            |routes: &[&ObjectKey]| routes.iter().any(|key| *key.namespace == *service.namespace());
        let open = attached.iter().filter(|(_, routes)| !is_decided(routes));
        let open: Vec<TargetKind> = open.map(|(kind, _)| *kind).collect();
        let way = || WayInForce {
            parents: vec![port_name(service, port)],
            settings: settings_of(policies, service, port, &open),
        };
        RuleInForce {
            index: port.number.into(),
            name: port.name.map(str::to_owned),
            has_requests: open.contains(&TargetKind::HttpRoute),
            decided_by: attached.iter().flat_map(|(_, of)| of).map(ToString::to_string).collect(),
            backends: vec![BackendPort::of((service, port))],
            ways: (!open.is_empty()).then(way).into_iter().collect(),
        }
    });
    Ok(RouteInForce {
        kind: SERVICE.to_owned(),
        namespace: service.namespace().to_owned(),
        name: service.name().to_owned(),
        rules: rules.collect(),
    })
}

/// A name comes before a number that looks like it.
fn asked_ports<'a, 'd>(
    service: &'a Service<'d>,
    asked: &Asked,
) -> Result<Vec<&'a ServicePort<'d>>, NotTold> {
    let Some(wanted) = &asked.rule else { return Ok(service.ports.iter().collect()) };
    let by_name = service.ports.iter().find(|port| port.name == Some(wanted));
    let by_number = || wanted.parse().ok().and_then(|number| service.port(number));
    if let Some(port) = by_name.or_else(by_number) {
        return Ok(vec![port]);
    }
    let show = |port: &ServicePort<'_>| match port.name {
        Some(name) => format!("{} ({name})", port.number),
        None => port.number.to_string(),
    };
    Err(NotTold::NoPort {
        service: service.declared.key.to_string(),
        wanted: wanted.clone(),
        ports: service.ports.iter().map(show).collect(),
    })
}

/// The routes that are attached to a port, by what they are about: requests, connections, or either where it was
/// not said what is spoken. The compiler decides the two apart.
fn attached_to<'d>(
    port: &ServicePort<'d>,
    objects: &Objects<'d>,
    attachments: &Attachments,
) -> Vec<(TargetKind, Vec<&'d ObjectKey>)> {
    let mut attached = Vec::new();
    if port.speaks != Speaks::Tcp {
        let of_port = attachments.http_ports.get(&port.cluster).into_iter().flatten();
        let keys = of_port.map(|&at| &objects.http_routes[at].declared.key).collect();
        attached.push((TargetKind::HttpRoute, keys));
    }
    if port.speaks != Speaks::Http {
        let of_port = attachments.tcp_ports.get(&port.cluster).into_iter().flatten();
        let keys = of_port.map(|&at| &objects.tcp_routes[at].declared.key).collect();
        attached.push((TargetKind::TcpRoute, keys));
    }
    attached
}

/// Of each of the kinds; what two of them have is told once.
fn settings_of<'d>(
    policies: &Policies<'d>,
    service: &Service<'d>,
    port: &ServicePort<'d>,
    kinds: &[TargetKind],
) -> Vec<Setting> {
    let backends = [words_of_backend(policies, (service, port))];
    let mut settings: Vec<Setting> = Vec::new();
    for &kind in kinds {
        let of_kind = settle(&Way { kind, own: &[], parent: &[], backends: &backends });
        let is_new = |new: &Setting| settings.iter().all(|known| known.setting != new.setting);
        let new: Vec<Setting> = of_kind.into_iter().filter(is_new).collect();
        settings.extend(new);
    }
    settings
}
