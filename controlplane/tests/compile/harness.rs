//! From texts to meshes and snapshots, and snapshots in few lines.

use std::fmt::Write;
use std::sync::Arc;

use lateen_control::compile::{Mesh, resolve};
use lateen_control::language::diagnostic::{Colours, Diagnostic};
use lateen_control::language::object::Declared;
use lateen_control::language::parse::parse;
use lateen_control::language::place::SourceFile;
use lateen_control::resolver::Addresses;
use lateen_snapshot::model::breaker::{CircuitBreaker, Fallback};
use lateen_snapshot::model::rate_limit::{RateLimit, RateLimits};
use lateen_snapshot::model::{
    Action, ClusterPolicy, HeaderEdits, HostPattern, PathMatch, Route, RouteMatch, Rule, Snapshot,
    TcpRoute, ValueMatch,
};
use lateen_snapshot::validate::{Origin, validate};

pub(crate) fn declared(text: &str) -> Vec<Arc<Declared>> {
    let parsed = parse(&[Arc::new(SourceFile::new("mesh.yaml", text))]);
    assert!(!parsed.has_errors(), "{}\n{text}", render(&parsed.diagnostics));
    parsed.declared
}

pub(crate) fn mesh(text: &str) -> Mesh {
    resolve(&declared(text)).unwrap_or_else(|found| panic!("{}\n{text}", render(&found)))
}

/// The snapshot of a proxy, which is whole.
pub(crate) fn snapshot(mesh: &Mesh, proxy: &str, addresses: &Addresses) -> Snapshot {
    let snapshot = mesh.snapshot(proxy, addresses).expect("the proxy is declared");
    validate(&snapshot, Origin::Store).unwrap_or_else(|invalid| panic!("{proxy}: {invalid}"));
    Snapshot::clone(&snapshot)
}

pub(crate) fn render(found: &[Diagnostic]) -> String {
    let rendered: Vec<String> = found.iter().map(|one| one.render(Colours::Never)).collect();
    rendered.join("\n\n") + "\n"
}

/// A snapshot as a person would tell it.
pub(crate) fn describe(snapshot: &Snapshot) -> String {
    let mut out = String::new();
    let mut line = |indent: usize, text: String| {
        writeln!(out, "{}{text}", "  ".repeat(indent)).expect("writing to a text can't fail");
    };
    for listener in &snapshot.listeners {
        let (direction, protocol) = (listener.direction, listener.protocol);
        let (name, address) = (&listener.name, listener.address);
        let from = listener.proxy_sources.iter();
        let from: Vec<String> =
            from.map(|range| format!(" from {}/{}", range.address, range.prefix_bits)).collect();
        let from = from.concat();
        line(0, format!("listener {name}: {direction:?} {protocol:?} {address}{from}"));
        for entry in &listener.http {
            let table = &snapshot.route_tables[entry.table.0 as usize];
            line(1, format!("{} => table {}", pattern(&entry.host), table.name));
            for host in &table.hosts {
                let names: Vec<String> = host.hosts.iter().map(pattern).collect();
                let port = host.port.map(|port| format!(" port {port}")).unwrap_or_default();
                line(2, format!("{}{port}", names.join(", ")));
                for Rule { matches, route } in &host.rules {
                    let route = &snapshot.routes[route.0 as usize];
                    line(3, format!("{} => {}", conditions(matches), route.name));
                }
            }
        }
        if let Some(tcp) = &listener.tcp {
            line(1, format!("bytes => {}", tcp_route(tcp, snapshot)));
        }
    }
    for route in &snapshot.routes {
        line(0, format!("route {}: {}", route.name, action(route, snapshot)));
        for text in effects(route, snapshot) {
            line(1, text);
        }
    }
    for cluster in &snapshot.clusters {
        let endpoints: Vec<String> =
            cluster.endpoints.iter().map(|endpoint| endpoint.address.to_string()).collect();
        let connect = cluster.connect_timeout_ms.map(|ms| format!(" connect {ms} ms"));
        line(
            0,
            format!(
                "cluster {}: {:?}{}{} [{}]",
                cluster.name,
                cluster.balancing,
                connect.unwrap_or_default(),
                of_policy(&cluster.policy),
                endpoints.join(", ")
            ),
        );
        if cluster.policy != ClusterPolicy::default() {
            line(1, format!("{:?}", cluster.policy));
        }
    }
    out
}

/// What a cluster's policy says, if anything.
fn of_policy(policy: &ClusterPolicy) -> String {
    if *policy == ClusterPolicy::default() { String::new() } else { format!(" {policy:?}") }
}

fn pattern(pattern: &HostPattern) -> String {
    match pattern {
        HostPattern::Any => "any host".to_owned(),
        HostPattern::Exact(host) => host.clone(),
        HostPattern::Suffix(suffix) => format!("*{suffix}"),
    }
}

fn conditions(matches: &RouteMatch) -> String {
    let mut text = match &matches.path {
        PathMatch::Prefix(prefix) => format!("prefix {prefix}"),
        PathMatch::Exact(path) => format!("exact {path}"),
        PathMatch::Regex(pattern) => format!("regex {pattern}"),
    };
    if let Some(method) = &matches.method {
        text = format!("{method} {text}");
    }
    for (mark, fields) in [("", &matches.headers), ("?", &matches.queries)] {
        for field in fields {
            let (sign, value) = match &field.value {
                ValueMatch::Exact(value) => ("=", value),
                ValueMatch::Regex(pattern) => ("~", pattern),
            };
            write!(text, " {mark}{}{sign}{value}", field.name).expect("it is a text");
        }
    }
    text
}

fn action(route: &Route, snapshot: &Snapshot) -> String {
    match &route.action {
        Action::Forward(backends) => {
            let shares = backends.iter().map(|backend| {
                let cluster = backend.cluster.map(|id| &*snapshot.clusters[id.0 as usize].name);
                let request = edits(" request", &backend.request_headers);
                let response = edits(" response", &backend.response_headers);
                let limits = limits(backend.rate_limits.as_deref());
                let to = cluster.unwrap_or("nowhere");
                format!("{to} x{}{request}{response}{limits}", backend.weight)
            });
            shares.collect::<Vec<String>>().join(", ")
        }
        Action::Redirect(redirect) => format!("{redirect:?}"),
        Action::Respond(status) => format!("answer {status}"),
    }
}

fn effects(route: &Route, snapshot: &Snapshot) -> Vec<String> {
    let mut lines = Vec::new();
    lines.push(edits("request", &route.request_headers));
    lines.push(edits("response", &route.response_headers));
    lines.extend(route.rewrite.iter().map(|rewrite| format!("{rewrite:?}")));
    for mirror in &route.mirrors {
        let cluster = &snapshot.clusters[mirror.cluster.0 as usize].name;
        lines.push(format!("mirror {}/{} to {cluster}", mirror.numerator, mirror.denominator));
    }
    lines.extend(route.cors.iter().map(|cors| format!("{cors:?}")));
    lines.extend(route.policy.request_timeout_ms.map(|ms| format!("timeout {ms} ms")));
    lines.extend(
        route.policy.backend_request_timeout_ms.map(|ms| format!("backend timeout {ms} ms")),
    );
    lines.extend(route.policy.retry.iter().map(|retry| format!("{retry:?}")));
    lines.extend(route.policy.hedging.map(|after| format!("hedging {after:?}")));
    lines.extend(route.policy.session.iter().map(|session| format!("{session:?}")));
    lines.extend(route.policy.faults.iter().map(|faults| format!("{faults:?}")));
    lines.push(limits(route.policy.rate_limits.as_deref()).trim_start().to_owned());
    lines.extend(route.policy.circuit_breaker.iter().map(|of| breaker(of, snapshot)));
    lines.retain(|line| !line.is_empty());
    lines
}

fn breaker(breaker: &CircuitBreaker, snapshot: &Snapshot) -> String {
    let fallback = match &breaker.fallback {
        None => "503".to_owned(),
        Some(Fallback::Response(response)) => format!("{response:?}"),
        Some(Fallback::Backend(id)) => snapshot.clusters[id.0 as usize].name.clone(),
    };
    let CircuitBreaker { mode, error_percent, request_volume, .. } = breaker;
    format!("breaker {mode:?} at {error_percent} % of {request_volume}, else {fallback}")
}

fn limits(limits: Option<&RateLimits>) -> String {
    let Some(limits) = limits else { return String::new() };
    let tell = |what: &'static str| {
        move |limit: &RateLimit| {
            let RateLimit { name, units, span_ms, burst, key, keys_max, dry_run, is_told, .. } =
                limit;
            let key = key.as_ref().map(|key| format!(" by {key:?} up to {keys_max}"));
            let dry = if *dry_run { " dry" } else { "" };
            let told = if *is_told { " told" } else { "" };
            let key = key.unwrap_or_default();
            format!(" limit {name}: {units} {what}/{span_ms} ms burst {burst}{key}{dry}{told}")
        }
    };
    let requests = limits.requests.iter().map(tell("requests"));
    let bytes = limits.bytes.iter().map(|of| {
        let told = tell("bytes")(&of.limit);
        format!("{told} {:?}", of.direction)
    });
    requests.chain(limits.connections.iter().map(tell("connections"))).chain(bytes).collect()
}

fn edits(what: &str, edits: &HeaderEdits) -> String {
    let mut parts: Vec<String> = edits.remove.iter().map(|name| format!("-{name}")).collect();
    parts.extend(edits.set.iter().map(|(name, value)| format!("{name}:={value}")));
    parts.extend(edits.add.iter().map(|(name, value)| format!("{name}+={value}")));
    if parts.is_empty() { String::new() } else { format!("{what} [{}]", parts.join(" ")) }
}

fn tcp_route(route: &TcpRoute, snapshot: &Snapshot) -> String {
    let shares: Vec<String> = route
        .backends
        .iter()
        .map(|backend| {
            let cluster = backend.cluster.map(|id| &*snapshot.clusters[id.0 as usize].name);
            let limits = limits(backend.rate_limits.as_deref());
            format!("{} x{}{limits}", cluster.unwrap_or("nowhere"), backend.weight)
        })
        .collect();
    let idle = route.idle_timeout_ms.map(|ms| format!(" idle {ms} ms")).unwrap_or_default();
    let longest = route.connection_ms_max.map(|ms| format!(" for {ms} ms")).unwrap_or_default();
    format!("{} [{}]{idle}{longest}", route.name, shares.join(", "))
}
