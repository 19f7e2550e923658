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
    let is_here = |service: &&Service<'_>| service.namespace() == asked.namespace;
    let is_named = |service: &&Service<'_>| service.name() == asked.name;
    if let Some(found) = services.iter().find(|service| is_here(service) && is_named(service)) {
        return Ok(found);
    }
    let near = nearest(&asked.name, services.iter().filter(is_here).map(Service::name));
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
        let decided_by = attached_to(port, objects, attachments);
        // Those of the service's own namespace are for all callers without one of their own.
        let is_called = decided_by.iter().all(|key| *key.namespace != *service.namespace());
        RuleInForce {
            index: port.number.into(),
            name: port.name.map(str::to_owned),
            decided_by: decided_by.iter().map(ToString::to_string).collect(),
            backends: vec![BackendPort::of((service, port))],
            ways: vec![WayInForce {
                parents: is_called.then(|| port_name(service, port)).into_iter().collect(),
                settings: settings_of(policies, service, port),
            }],
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

fn attached_to<'d>(
    port: &ServicePort<'d>,
    objects: &Objects<'d>,
    attachments: &Attachments,
) -> Vec<&'d ObjectKey> {
    let of_http = attachments.http_ports.get(&port.cluster).into_iter().flatten();
    let of_http = of_http.map(|&at| objects.http_routes[at].declared);
    let of_tcp = attachments.tcp_ports.get(&port.cluster).into_iter().flatten();
    let of_tcp = of_tcp.map(|&at| objects.tcp_routes[at].declared);
    of_http.chain(of_tcp).map(|declared| &declared.key).collect()
}

/// Where it was not said what is spoken, what is about connections counts beside what is about requests.
fn settings_of<'d>(
    policies: &Policies<'d>,
    service: &Service<'d>,
    port: &ServicePort<'d>,
) -> Vec<Setting> {
    let backends = [words_of_backend(policies, (service, port))];
    let of_kind = |kind| settle(&Way { kind, own: &[], parent: &[], backends: &backends });
    let mut settings = match port.speaks {
        Speaks::Tcp => Vec::new(),
        Speaks::Http | Speaks::Unsaid => of_kind(TargetKind::HttpRoute),
    };
    if port.speaks != Speaks::Http {
        let of_bytes = of_kind(TargetKind::TcpRoute);
        let is_new = |new: &Setting| settings.iter().all(|known| known.setting != new.setting);
        let new: Vec<Setting> = of_bytes.into_iter().filter(is_new).collect();
        settings.extend(new);
    }
    settings
}
