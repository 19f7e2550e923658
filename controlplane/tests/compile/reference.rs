//! A slow and obvious matcher: straight from the declared objects to the route of a request, sentence by
//! sentence from the Gateway API's text. It shares nothing with the compiler.

use std::sync::Arc;

use gateway_api::apis::experimental::gateways::GatewayListeners;
use gateway_api::apis::experimental::httproutes::{
    HttpRouteParentRefs, HttpRouteRulesMatches, HttpRouteRulesMatchesHeadersType as HeaderType,
    HttpRouteRulesMatchesPathType as PathType, HttpRouteRulesMatchesQueryParamsType as QueryType,
    HttpRouteSpec,
};
use lateen_control::language::object::{Declared, Object};
use regex::Regex;

use crate::evaluate::Request;

/// What the routes of one listener, or one port of a service, make of a request.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    Rule(String),
    NotFound,
}

/// Through the listeners of a Gateway on one port.
pub(crate) fn through_gateway(
    declared: &[Arc<Declared>],
    gateway: &str,
    port: i32,
    request: &Request,
) -> Answer {
    let gateway = find_gateway(declared, gateway);
    let Object::Gateway(spec) = &gateway.object else { panic!("a Gateway") };
    // "Exact matches MUST be processed before wildcard matches, and wildcard matches before fallback."
    let mut best: Option<&GatewayListeners> = None;
    for listener in spec.listeners.iter().filter(|listener| listener.port == port) {
        if !listener.hostname.as_ref().is_none_or(|name| host_matches(name, &request.host)) {
            continue;
        }
        let is_better = match (&best.map(|best| best.hostname.clone()), &listener.hostname) {
            (None, _) => true,
            (Some(_), None) => false,
            (Some(None), Some(_)) => true,
            (Some(Some(old)), Some(new)) => closer_name(new, old),
        };
        if is_better {
            best = Some(listener);
        }
    }
    let Some(listener) = best else { return Answer::NotFound };
    let attached = http_routes(declared).filter(|(route, spec)| {
        let mut parents = spec.parent_refs.iter().flatten();
        parents.any(|parent| {
            let is_gateway = parent.kind.as_deref().is_none_or(|kind| kind == "Gateway");
            is_gateway
                && *parent.name == *gateway.key.name
                && accepts(gateway, listener, route, spec, parent)
        })
    });
    choose(attached.collect(), request)
}

/// To a port of a service, from a proxy of the namespace `caller`.
pub(crate) fn through_mesh(
    declared: &[Arc<Declared>],
    caller: &str,
    (namespace, service, port): (&str, &str, i32),
    request: &Request,
) -> Answer {
    let attached = |of: &str| -> Vec<(&Declared, &HttpRouteSpec)> {
        let routes = http_routes(declared).filter(|(route, spec)| {
            let mut parents = spec.parent_refs.iter().flatten();
            *route.key.namespace == *of
                && parents.any(|parent| {
                    parent.kind.as_deref() == Some("Service")
                        && parent.name == service
                        && parent.namespace.as_deref().unwrap_or(&route.key.namespace) == namespace
                        && parent.port.is_none_or(|wanted| wanted == port)
                })
        });
        routes.collect()
    };
    let consumers = if caller == namespace { Vec::new() } else { attached(caller) };
    let routes = if consumers.is_empty() { attached(namespace) } else { consumers };
    if routes.is_empty() {
        return Answer::Rule(format!("Service/{namespace}/{service}/{port}"));
    }
    choose(routes, request)
}

/// Whether a route attaches to some listener by each of its parentRefs to a Gateway.
pub(crate) fn is_attached(declared: &[Arc<Declared>], route: &Declared) -> bool {
    let Object::HttpRoute(spec) = &route.object else { return true };
    let mut parents = spec.parent_refs.iter().flatten();
    parents.all(|parent| {
        if parent.kind.as_deref() == Some("Service") {
            return true;
        }
        let gateway = find_gateway(declared, &parent.name);
        let Object::Gateway(of_gateway) = &gateway.object else { panic!("a Gateway") };
        let mut listeners = of_gateway.listeners.iter();
        listeners.any(|listener| accepts(gateway, listener, route, spec, parent))
    })
}

fn find_gateway<'d>(declared: &'d [Arc<Declared>], name: &str) -> &'d Declared {
    let mut gateways = declared.iter();
    gateways
        .find(|one| matches!(one.object, Object::Gateway(_)) && *one.key.name == *name)
        .expect("the test declares it")
}

fn http_routes(declared: &[Arc<Declared>]) -> impl Iterator<Item = (&Declared, &HttpRouteSpec)> {
    declared.iter().filter_map(|one| match &one.object {
        Object::HttpRoute(spec) => Some((&**one, &**spec)),
        _ => None,
    })
}

/// Of `allowedRoutes` the tests use `All`, and nothing, which is `Same`.
fn accepts(
    gateway: &Declared,
    listener: &GatewayListeners,
    route: &Declared,
    spec: &HttpRouteSpec,
    parent: &HttpRouteParentRefs,
) -> bool {
    let is_allowed =
        listener.allowed_routes.is_some() || route.key.namespace == gateway.key.namespace;
    let names = spec.hostnames.as_deref().unwrap_or_default();
    is_allowed
        && parent.section_name.as_ref().is_none_or(|name| *name == listener.name)
        && parent.port.is_none_or(|port| port == listener.port)
        && (names.is_empty()
            || names.iter().any(|name| {
                listener.hostname.as_ref().is_none_or(|of_listener| {
                    // Either stands for the other, or a wildcard is a shorter one's rest.
                    name == of_listener
                        || host_matches(of_listener, name)
                        || host_matches(name, of_listener)
                })
            }))
}

/// "`*.example.com` would match both `test.example.com`, and `foo.test.example.com`, but not
/// `example.com`". Also says whether it stands for all that another wildcard does.
fn host_matches(name: &str, host: &str) -> bool {
    if !name.starts_with("*.") {
        return name == host;
    }
    let mut wanted: Vec<&str> = name.split('.').skip(1).collect();
    let mut found: Vec<&str> = host.split('.').collect();
    wanted.reverse();
    found.reverse();
    found.len() > wanted.len() && found[..wanted.len()] == wanted[..]
}

/// Of two names that match one host.
fn closer_name(one: &str, other: &str) -> bool {
    match (one.starts_with('*'), other.starts_with('*')) {
        (false, true) => true,
        (true, false) => false,
        _ => one.len() > other.len(),
    }
}

struct Candidate<'d> {
    route: &'d Declared,
    rule: usize,
    matched: usize,
    conditions: HttpRouteRulesMatches,
    host: Option<&'d str>,
}

/// "Across all rules specified on applicable Routes, precedence must be given to the match having …"
fn choose(routes: Vec<(&Declared, &HttpRouteSpec)>, request: &Request) -> Answer {
    let mut best: Option<Candidate<'_>> = None;
    for (route, spec) in routes {
        let names = spec.hostnames.as_deref().unwrap_or_default();
        let mut host: Option<&str> = None;
        for name in names.iter().filter(|name| host_matches(name, &request.host)) {
            if host.is_none_or(|old| closer_name(name, old)) {
                host = Some(name);
            }
        }
        if host.is_none() && !names.is_empty() {
            continue;
        }
        for (rule, of_rule) in spec.rules.iter().flatten().enumerate() {
            let mut conditions = of_rule.matches.clone().unwrap_or_default();
            if conditions.is_empty() {
                conditions.push(HttpRouteRulesMatches::default());
            }
            for (matched, conditions) in conditions.into_iter().enumerate() {
                if !matches(&conditions, request) {
                    continue;
                }
                let found = Candidate { route, rule, matched, conditions, host };
                if best.as_ref().is_none_or(|best| is_preferred(&found, best)) {
                    best = Some(found);
                }
            }
        }
    }
    best.map_or(Answer::NotFound, |best| {
        let key = &best.route.key;
        Answer::Rule(format!("HTTPRoute/{}/{}/{}", key.namespace, key.name, best.rule))
    })
}

fn is_preferred(one: &Candidate<'_>, other: &Candidate<'_>) -> bool {
    // "Characters in a matching non-wildcard hostname." "Characters in a matching hostname."
    if one.host != other.host {
        return match (one.host, other.host) {
            (Some(_), None) => true,
            (None, _) => false,
            (Some(one), Some(other)) => closer_name(one, other),
        };
    }
    let (first, second) = (path_of(&one.conditions), path_of(&other.conditions));
    let kind_rank = |kind: &PathType| match kind {
        PathType::Exact => 0,
        PathType::RegularExpression => 1,
        PathType::PathPrefix => 2,
    };
    if kind_rank(&first.0) != kind_rank(&second.0) {
        return kind_rank(&first.0) < kind_rank(&second.0);
    }
    let length = |path: &(PathType, String)| match path {
        (PathType::Exact, _) => 0,
        (PathType::PathPrefix, value) if value.len() > 1 => value.trim_end_matches('/').len(),
        (_, value) => value.chars().count(),
    };
    if length(&first) != length(&second) {
        return length(&first) > length(&second);
    }
    let has_method = |one: &Candidate<'_>| one.conditions.method.is_some();
    if has_method(one) != has_method(other) {
        return has_method(one);
    }
    let headers = |one: &Candidate<'_>| one.conditions.headers.iter().flatten().count();
    if headers(one) != headers(other) {
        return headers(one) > headers(other);
    }
    let queries = |one: &Candidate<'_>| one.conditions.query_params.iter().flatten().count();
    if queries(one) != queries(other) {
        return queries(one) > queries(other);
    }
    let (created, other_created) = (&one.route.metadata.created, &other.route.metadata.created);
    if created != other_created {
        return match (created, other_created) {
            (Some(created), Some(other_created)) => created < other_created,
            (created, _) => created.is_some(),
        };
    }
    let name = |one: &Candidate<'_>| format!("{}/{}", one.route.key.namespace, one.route.key.name);
    if name(one) != name(other) {
        return name(one) < name(other);
    }
    (one.rule, one.matched) < (other.rule, other.matched)
}

fn path_of(conditions: &HttpRouteRulesMatches) -> (PathType, String) {
    let path = conditions.path.clone().unwrap_or_default();
    (path.r#type.unwrap_or(PathType::PathPrefix), path.value.unwrap_or_else(|| "/".to_owned()))
}

fn matches(conditions: &HttpRouteRulesMatches, request: &Request) -> bool {
    let path_matches = match path_of(conditions) {
        (PathType::Exact, value) => value == request.path,
        (PathType::RegularExpression, value) => whole_matches(&value, &request.path),
        (PathType::PathPrefix, value) => {
            let segments = |path: &str| -> Vec<String> {
                let path = path.strip_suffix('/').unwrap_or(path);
                path.split('/').map(str::to_owned).collect()
            };
            let (wanted, found) = (segments(&value), segments(&request.path));
            found.starts_with(&wanted)
        }
    };
    let method_matches = conditions
        .method
        .as_ref()
        .is_none_or(|method| format!("{method:?}").to_uppercase() == request.method);
    let headers_match = conditions.headers.iter().flatten().all(|wanted| {
        request.headers.iter().any(|(name, value)| {
            wanted.name.eq_ignore_ascii_case(name)
                && match wanted.r#type.as_ref().unwrap_or(&HeaderType::Exact) {
                    HeaderType::Exact => wanted.value == *value,
                    HeaderType::RegularExpression => whole_matches(&wanted.value, value),
                }
        })
    });
    let queries_match = conditions.query_params.iter().flatten().all(|wanted| {
        request.queries.iter().any(|(name, value)| {
            wanted.name == *name
                && match wanted.r#type.as_ref().unwrap_or(&QueryType::Exact) {
                    QueryType::Exact => wanted.value == *value,
                    QueryType::RegularExpression => whole_matches(&wanted.value, value),
                }
        })
    });
    path_matches && method_matches && headers_match && queries_match
}

fn whole_matches(pattern: &str, text: &str) -> bool {
    let found = Regex::new(pattern).expect("the test writes valid ones");
    found.find_iter(text).any(|found| found.as_str() == text)
        || Regex::new(&format!("^(?:{pattern})$")).expect("the same").is_match(text)
}
