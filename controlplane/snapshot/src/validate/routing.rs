//! Checks what happens to a request: routes, and the tables of rules that lead to them.
//!
//! Before: clusters are known to be whole. After: listeners are checked against these tables.

use std::collections::HashSet;

use super::breaker::check_breaker;
use super::patterns::Patterns;
use super::rate_limit::check_rate_limits;
use super::retry::{check_hedging, check_retry};
use super::text::{self, Problem};
use super::{Item, at_most, check_share, check_sum, duration, faults, in_range, session};
use crate::limits::*;
use crate::model::{
    Action, Cors, FieldMatch, HeaderEdits, HostPattern, Mirror, PathMatch, PathRewrite, Redirect,
    Rewrite, Route, RouteMatch, Rule, Snapshot, ValueMatch, VirtualHost, WeightedBackend,
};
use crate::validate::Invalid;

pub(super) fn check_routes(snapshot: &Snapshot) -> Result<(), Invalid> {
    for (index, route) in snapshot.routes.iter().enumerate() {
        let item = Item { kind: "route", index, name: &route.name };
        check_route(route, snapshot.clusters.len()).map_err(|problem| problem.at(&item))?;
    }
    Ok(())
}

fn check_route(route: &Route, clusters: usize) -> Result<(), Problem> {
    text::name(&route.name)?;
    match &route.action {
        Action::Forward(backends) => check_forward(backends, clusters)?,
        Action::Redirect(redirect) => {
            check_redirect(redirect).map_err(|problem| problem.inside("redirect"))?;
        }
        Action::Respond(400..=599) => {}
        Action::Respond(status) => {
            return Err(Problem::new("respond", status, "a status from 400 to 599 is needed"));
        }
    }
    check_edits("request_headers", &route.request_headers)?;
    check_edits("response_headers", &route.response_headers)?;
    check_added(route)?;
    if let Some(rewrite) = &route.rewrite {
        check_rewrite(rewrite).map_err(|problem| problem.inside("rewrite"))?;
    }
    at_most(route.mirrors.len(), MIRRORS_MAX, "mirrors")?;
    for (index, mirror) in route.mirrors.iter().enumerate() {
        check_mirror(mirror, clusters)
            .map_err(|problem| problem.inside(format_args!("mirrors[{index}]")))?;
    }
    if let Some(cors) = &route.cors {
        check_cors(cors).map_err(|problem| problem.inside("cors"))?;
    }
    check_rate_limits(route.policy.rate_limits.as_deref())?;
    if let Some(breaker) = &route.policy.circuit_breaker {
        check_breaker(breaker, clusters).map_err(|problem| problem.inside("circuit_breaker"))?;
    }
    duration("request_timeout_ms", route.policy.request_timeout_ms)?;
    duration("backend_request_timeout_ms", route.policy.backend_request_timeout_ms)?;
    if let Some(retry) = &route.policy.retry {
        check_retry(retry).map_err(|problem| problem.inside("retry"))?;
    }
    if let Some(after) = route.policy.hedging {
        check_hedging(after).map_err(|problem| problem.inside("hedging"))?;
    }
    if let Some(faults) = &route.policy.faults {
        faults::check(faults).map_err(|problem| problem.inside("faults"))?;
    }
    if let Some(session) = &route.policy.session {
        session::check(session).map_err(|problem| problem.inside("session"))?;
    }
    Ok(())
}

fn check_forward(backends: &[WeightedBackend], clusters: usize) -> Result<(), Problem> {
    at_most(backends.len(), BACKENDS_MAX, "backends")?;
    for (index, backend) in backends.iter().enumerate() {
        check_share(backend.cluster, backend.weight, clusters)
            .and_then(|()| check_edits("request_headers", &backend.request_headers))
            .and_then(|()| check_edits("response_headers", &backend.response_headers))
            .and_then(|()| check_rate_limits(backend.rate_limits.as_deref()))
            .map_err(|problem| problem.inside(format_args!("backends[{index}]")))?;
    }
    check_sum(backends.iter().map(|backend| backend.weight))
}

fn check_redirect(redirect: &Redirect) -> Result<(), Problem> {
    if !matches!(redirect.status, 301 | 302 | 303 | 307 | 308) {
        return Err(Problem::new("status", redirect.status, "301, 302, 303, 307 or 308 is needed"));
    }
    match redirect.scheme.as_deref() {
        None | Some("http" | "https") => {}
        Some(scheme) => return Err(Problem::quoted("scheme", scheme, "http or https is needed")),
    }
    if let Some(host) = &redirect.host {
        text::host("host", host)?;
    }
    if redirect.port == Some(0) {
        return Err(Problem::new("port", 0, "a port from 1 to 65535 is needed"));
    }
    check_path_rewrite(redirect.path.as_ref())
}

fn check_rewrite(rewrite: &Rewrite) -> Result<(), Problem> {
    if let Some(host) = &rewrite.host {
        text::host("host", host)?;
    }
    check_path_rewrite(rewrite.path.as_ref())
}

fn check_path_rewrite(rewrite: Option<&PathRewrite>) -> Result<(), Problem> {
    match rewrite {
        None => Ok(()),
        // Takes the prefix away; what is left begins with a slash, or becomes one.
        Some(PathRewrite::Prefix(path)) if path.is_empty() => Ok(()),
        Some(PathRewrite::Full(path) | PathRewrite::Prefix(path)) => text::path("path", path),
    }
}

fn check_edits(field: &'static str, edits: &HeaderEdits) -> Result<(), Problem> {
    check_fields("set", &edits.set)
        .and_then(|()| check_fields("add", &edits.add))
        .and_then(|()| {
            at_most(edits.remove.len(), HEADER_EDITS_MAX, "remove")?;
            edits.remove.iter().try_for_each(|name| text::editable_name("remove", name))
        })
        .map_err(|problem| problem.inside(field))
}

/// A head gets what the route adds and what the backend adds. Counted without what one of them takes
/// away of the other's, which is simpler to explain.
fn check_added(route: &Route) -> Result<(), Problem> {
    let check = |field: &'static str, of_route: &HeaderEdits, of_backend: Option<&HeaderEdits>| {
        let added = added_bytes(of_route) + of_backend.map_or(0, added_bytes);
        if added <= EDITS_BYTES_MAX {
            return Ok(());
        }
        let value = format_args!("lines of {added} bytes, set and added");
        let wanted = format!("a route and a backend add {EDITS_BYTES_MAX} bytes at most");
        Err(Problem::new(field, value, wanted))
    };
    check("request_headers", &route.request_headers, None)?;
    check("response_headers", &route.response_headers, None)?;
    let Action::Forward(backends) = &route.action else { return Ok(()) };
    for (index, backend) in backends.iter().enumerate() {
        check("request_headers", &route.request_headers, Some(&backend.request_headers))
            .and_then(|()| {
                check("response_headers", &route.response_headers, Some(&backend.response_headers))
            })
            .map_err(|problem| problem.inside(format_args!("backends[{index}]")))?;
    }
    Ok(())
}

fn added_bytes(edits: &HeaderEdits) -> usize {
    let line = |(name, value): &(String, String)| name.len() + value.len() + ": \r\n".len();
    edits.set.iter().chain(&edits.add).map(line).sum()
}

fn check_fields(field: &'static str, fields: &[(String, String)]) -> Result<(), Problem> {
    at_most(fields.len(), HEADER_EDITS_MAX, field)?;
    for (name, value) in fields {
        text::editable_name(field, name)?;
        text::field_value("value", value)
            .map_err(|problem| problem.inside(format_args!("{field}[{}]", text::quote(name))))?;
    }
    Ok(())
}

fn check_mirror(mirror: &Mirror, clusters: usize) -> Result<(), Problem> {
    in_range("cluster", mirror.cluster.0, clusters, "clusters")?;
    if !(1..=DENOMINATOR_MAX).contains(&mirror.denominator) {
        let wanted = format!("a number from 1 to {DENOMINATOR_MAX} is needed");
        return Err(Problem::new("denominator", mirror.denominator, wanted));
    }
    if mirror.numerator > mirror.denominator {
        let wanted = format!("at most its denominator, {}", mirror.denominator);
        return Err(Problem::new("numerator", mirror.numerator, wanted));
    }
    Ok(())
}

fn check_cors(cors: &Cors) -> Result<(), Problem> {
    at_most(cors.allow_origins.len(), CORS_ENTRIES_MAX, "allow_origins")?;
    at_most(cors.allow_methods.len(), CORS_ENTRIES_MAX, "allow_methods")?;
    at_most(cors.allow_headers.len(), CORS_ENTRIES_MAX, "allow_headers")?;
    at_most(cors.expose_headers.len(), CORS_ENTRIES_MAX, "expose_headers")?;
    for origin in &cors.allow_origins {
        text::origin("allow_origins", origin)?;
    }
    for method in &cors.allow_methods {
        text::method("allow_methods", method)?;
    }
    for name in &cors.allow_headers {
        text::field_name("allow_headers", name)?;
    }
    for name in &cors.expose_headers {
        text::field_name("expose_headers", name)?;
    }
    if cors.max_age_s > CORS_MAX_AGE_S_MAX {
        return Err(Problem::new(
            "max_age_s",
            cors.max_age_s,
            format!("at most {CORS_MAX_AGE_S_MAX}"),
        ));
    }
    Ok(())
}

pub(super) fn check_tables(snapshot: &Snapshot, patterns: &mut Patterns) -> Result<(), Invalid> {
    check_totals(snapshot).map_err(|problem| problem.at(&"snapshot"))?;
    let mut seen = HashSet::new();
    for (index, table) in snapshot.route_tables.iter().enumerate() {
        let item = Item { kind: "route table", index, name: &table.name };
        text::name(&table.name).map_err(|problem| problem.at(&item))?;
        seen.clear();
        for (index, host) in table.hosts.iter().enumerate() {
            check_names(host, &mut seen)
                .and_then(|()| check_rules(host, &snapshot.routes, patterns))
                .map_err(|problem| problem.inside(format_args!("hosts[{index}]")).at(&item))?;
        }
    }
    Ok(())
}

/// Before anything is looked at, so that no more patterns are compiled than are allowed.
fn check_totals(snapshot: &Snapshot) -> Result<(), Problem> {
    let hosts = || snapshot.route_tables.iter().flat_map(|table| &table.hosts);
    let rules = || hosts().flat_map(|host| &host.rules);
    let patterns = hosts().map(|host| host.hosts.len()).sum();
    let regexes = rules().map(|rule| count_regexes(&rule.matches)).sum();
    at_most(hosts().count(), VIRTUAL_HOSTS_MAX, "virtual hosts of all route tables")?;
    at_most(patterns, HOST_PATTERNS_MAX, "host patterns of all route tables")?;
    at_most(rules().count(), RULES_MAX, "rules of all route tables")?;
    at_most(regexes, REGEXES_MAX, "regular expressions of all route tables")
}

fn count_regexes(matches: &RouteMatch) -> usize {
    let fields = matches.headers.iter().chain(&matches.queries);
    usize::from(matches!(matches.path, PathMatch::Regex(_)))
        + fields.filter(|field| matches!(field.value, ValueMatch::Regex(_))).count()
}

fn check_names<'s>(
    host: &'s VirtualHost,
    seen: &mut HashSet<(Option<u16>, &'s HostPattern)>,
) -> Result<(), Problem> {
    if host.hosts.is_empty() {
        return Err(Problem::new("hosts", "empty", "one pattern at least is needed"));
    }
    if host.port == Some(0) {
        return Err(Problem::new("port", 0, "a port from 1 to 65535 is needed"));
    }
    for pattern in &host.hosts {
        text::host_pattern(pattern)?;
        if !seen.insert((host.port, pattern)) {
            let wanted = "the table has that pattern with the same port before";
            return Err(Problem::new("host", text::show_pattern(pattern), wanted));
        }
    }
    Ok(())
}

fn check_rules(
    host: &VirtualHost,
    routes: &[Route],
    patterns: &mut Patterns,
) -> Result<(), Problem> {
    for (index, rule) in host.rules.iter().enumerate() {
        check_rule(rule, routes, patterns)
            .map_err(|problem| problem.inside(format_args!("rules[{index}]")))?;
    }
    Ok(())
}

fn check_rule(rule: &Rule, routes: &[Route], patterns: &mut Patterns) -> Result<(), Problem> {
    check_match(&rule.matches, patterns)?;
    in_range("route", rule.route.0, routes.len(), "routes")?;
    let route = &routes[rule.route.0 as usize];
    if replaces_prefix(route) && !matches!(rule.matches.path, PathMatch::Prefix(_)) {
        let wanted = "this route replaces the prefix of a path: its rule must match by prefix";
        return Err(Problem::new("route", rule.route.0, wanted));
    }
    Ok(())
}

fn replaces_prefix(route: &Route) -> bool {
    let rewritten = route.rewrite.as_ref().and_then(|rewrite| rewrite.path.as_ref());
    let redirected = match &route.action {
        Action::Redirect(redirect) => redirect.path.as_ref(),
        _ => None,
    };
    [rewritten, redirected].into_iter().flatten().any(|path| matches!(path, PathRewrite::Prefix(_)))
}

fn check_match(matches: &RouteMatch, patterns: &mut Patterns) -> Result<(), Problem> {
    match &matches.path {
        PathMatch::Prefix(prefix) => text::path_prefix("path", prefix)?,
        PathMatch::Exact(path) => text::path("path", path)?,
        PathMatch::Regex(pattern) => text::regex("path", pattern, patterns)?,
    }
    if let Some(method) = &matches.method {
        text::method("method", method)?;
    }
    check_field_matches("headers", &matches.headers, |field| {
        text::field_name("name", &field.name)?;
        match &field.value {
            ValueMatch::Exact(value) => text::field_value("value", value),
            ValueMatch::Regex(pattern) => text::regex("value", pattern, patterns),
        }
    })?;
    check_field_matches("queries", &matches.queries, |field| {
        text::query_text("name", &field.name, FIELD_NAME_BYTES_MAX)?;
        match &field.value {
            ValueMatch::Exact(value) => text::query_text("value", value, FIELD_VALUE_BYTES_MAX),
            ValueMatch::Regex(pattern) => text::regex("value", pattern, patterns),
        }
    })
}

fn check_field_matches(
    list: &'static str,
    fields: &[FieldMatch],
    mut check: impl FnMut(&FieldMatch) -> Result<(), Problem>,
) -> Result<(), Problem> {
    at_most(fields.len(), MATCH_FIELDS_MAX, list)?;
    for (index, field) in fields.iter().enumerate() {
        let inside = |problem: Problem| problem.inside(format_args!("{list}[{index}]"));
        check(field).map_err(inside)?;
        if fields[..index].iter().any(|before| before.name == field.name) {
            let wanted = "a condition before it has that name";
            return Err(inside(Problem::quoted("name", &field.name, wanted)));
        }
    }
    Ok(())
}
