//! What an order is about, in a set of objects: which clusters and routes of snapshots that is.
//!
//! Before: an order names a service or a route. After: [`applied`](super::applied) knows what to look for.
//! Clusters and routes are called after what they are of (see the compiler's `endpoints`, `whole` and
//! `rule_names`), and so found by name. Cost: a few look-ups by key. Pure.

use std::sync::Arc;

use gateway_api::apis::experimental::httproutes::HttpRouteParentRefs;

use crate::compile::rule_names::rule_name;
use crate::language::object::{Object, ObjectKey, ObjectKind};
use crate::language::schema::check::nearest;
use crate::serve::intent::Content;
use crate::serve::overrides::names::{RouteKind, RouteName, ServiceName};
use crate::serve::overrides::refusal::OrderRefusal;

/// A rule or a port: its number, and its name if it has one.
type Part = (usize, Option<String>);

/// The clusters of a service's ports, or of the one that is named: `shop/cart:80`.
///
/// # Errors
/// There is no such service or port.
pub fn clusters_of(content: &Content, service: &ServiceName) -> Result<Vec<String>, OrderRefusal> {
    let ServiceName { namespace, name, port } = service;
    let whole = format!("Service/{namespace}/{name}");
    let kinds = [ObjectKind::CoreService, ObjectKind::Service];
    let ports = ports_of(find(content, &kinds, namespace, name, &whole)?);
    let chosen = chosen(&ports, port.as_deref(), &whole, "port")?;
    Ok(chosen.into_iter().map(|(number, _)| format!("{namespace}/{name}:{number}")).collect())
}

/// The names of a route's rules, or of the one that is meant: `HTTPRoute/shop/cart/0`, or `…/pay` where it has
/// a name of its own; of what leads to a service's ports: `Service/shop/cart/80`.
///
/// # Errors
/// There is no such route or rule.
pub fn routes_of(content: &Content, route: &RouteName) -> Result<Vec<String>, OrderRefusal> {
    let RouteName { kind, namespace, name, part } = route;
    let whole = format!("{}/{namespace}/{name}", kind.as_str());
    let (parts, what) = match kind {
        RouteKind::HttpRoute => {
            let kinds = [ObjectKind::HttpRoute];
            (rules_of(find(content, &kinds, namespace, name, &whole)?), "rule")
        }
        RouteKind::Service => {
            let kinds = [ObjectKind::CoreService, ObjectKind::Service];
            (ports_of(find(content, &kinds, namespace, name, &whole)?), "port")
        }
    };
    let chosen = chosen(&parts, part.as_deref(), &whole, what)?;
    let name_of = |(number, own): &Part| match kind {
        RouteKind::HttpRoute => rule_name(namespace, name, *number, own.as_deref()),
        RouteKind::Service => format!("{whole}/{number}"),
    };
    Ok(chosen.into_iter().map(name_of).collect())
}

/// The HTTPRoutes that are attached to the ports of a service that a route means, in whose place they decide.
pub fn attached_to(content: &Content, route: &RouteName) -> Vec<String> {
    let RouteName { kind: RouteKind::Service, namespace, name, part } = route else {
        return Vec::new();
    };
    let whole = format!("Service/{namespace}/{name}");
    let kinds = [ObjectKind::CoreService, ObjectKind::Service];
    let Ok(service) = find(content, &kinds, namespace, name, &whole) else { return Vec::new() };
    let ports = ports_of(service);
    let meant = chosen(&ports, part.as_deref(), &whole, "port").unwrap_or_default();
    let is_attached = |key: &ObjectKey, parent: &HttpRouteParentRefs| {
        parent.kind.as_deref() == Some("Service")
            && parent.name == *name
            && parent.namespace.as_deref().unwrap_or(&key.namespace) == namespace
            && meant.iter().any(|(number, port)| {
                parent.port.is_none_or(|wanted| usize::try_from(wanted) == Ok(*number))
                    && parent
                        .section_name
                        .as_deref()
                        .is_none_or(|wanted| Some(wanted) == port.as_deref())
            })
    };
    let routes = content.declared.iter().filter_map(|(key, declared)| match &declared.object {
        Object::HttpRoute(spec) => Some((key, spec.parent_refs.iter().flatten())),
        _ => None,
    });
    let attached = routes.filter(|(key, parents)| parents.clone().any(|at| is_attached(key, at)));
    attached.map(|(key, _)| format!("HTTPRoute/{}/{}", key.namespace, key.name)).collect()
}

fn find<'c>(
    content: &'c Content,
    kinds: &[ObjectKind],
    namespace: &str,
    name: &str,
    wanted: &str,
) -> Result<&'c Object, OrderRefusal> {
    let key = |kind: &ObjectKind| ObjectKey {
        kind: *kind,
        namespace: Arc::from(namespace),
        name: Arc::from(name),
    };
    if let Some(found) = kinds.iter().find_map(|kind| content.declared.get(&key(kind))) {
        return Ok(&found.object);
    }
    let all = || content.declared.keys().filter(|key| kinds.contains(&key.kind));
    let here = all().filter(|key| *key.namespace == *namespace).map(|key| &*key.name);
    Err(OrderRefusal::NoSuchObject {
        wanted: wanted.to_owned(),
        near: nearest(name, here).map(str::to_owned),
        elsewhere: all().filter(|key| *key.name == *name).map(ToString::to_string).collect(),
    })
}

fn ports_of(object: &Object) -> Vec<Part> {
    match object {
        Object::CoreService(spec) => {
            let ports = spec.ports.iter().flatten();
            let named = |name: &Option<String>| name.clone().filter(|name| !name.is_empty());
            ports
                .filter_map(|port| Some((usize::try_from(port.port).ok()?, named(&port.name))))
                .collect()
        }
        Object::Service(spec) => {
            spec.ports.iter().map(|port| (port.port.into(), port.name.clone())).collect()
        }
        _ => Vec::new(),
    }
}

fn rules_of(object: &Object) -> Vec<Part> {
    let Object::HttpRoute(spec) = object else { return Vec::new() };
    let rules = spec.rules.iter().flatten().enumerate();
    rules.map(|(index, rule)| (index, rule.name.clone())).collect()
}

/// All parts, or the one that is meant. A name comes before a number that looks like it.
fn chosen<'p>(
    parts: &'p [Part],
    wanted: Option<&str>,
    whole: &str,
    what: &'static str,
) -> Result<Vec<&'p Part>, OrderRefusal> {
    let Some(wanted) = wanted else { return Ok(parts.iter().collect()) };
    let by_name = || parts.iter().find(|(_, name)| name.as_deref() == Some(wanted));
    let by_number = || {
        let number: usize = wanted.parse().ok()?;
        parts.iter().find(|(known, _)| *known == number)
    };
    if let Some(part) = by_name().or_else(by_number) {
        return Ok(vec![part]);
    }
    let names = parts.iter().filter_map(|(_, name)| name.as_deref());
    let show = |(number, name): &Part| match name {
        Some(name) => format!("{number} ({name})"),
        None => number.to_string(),
    };
    Err(OrderRefusal::NoSuchPart {
        whole: whole.to_owned(),
        what,
        wanted: wanted.to_owned(),
        near: nearest(wanted, names).map(str::to_owned),
        parts: parts.iter().map(show).collect(),
    })
}
