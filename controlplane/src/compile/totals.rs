//! Whether what one proxy reaches fits into a snapshot.
//!
//! Before: a plan is made. The bounds of single values were checked where the values came from, or
//! are those of the language; here are those of sums. After: no snapshot of the plan is too large,
//! whatever DNS answers.

use std::net::{IpAddr, Ipv4Addr};

use lateen_snapshot::encoding::{VERSION, decode, encode};
use lateen_snapshot::limits::*;
use lateen_snapshot::model::breaker::Fallback;
use lateen_snapshot::model::{
    Action, Epoch, HeaderEdits, PathMatch, Route, RouteMatch, Snapshot, ValueMatch,
};

use crate::compile::findings::Findings;
use crate::compile::objects::Item;
use crate::compile::plan::Plan;
use crate::language::diagnostic::Diagnostic;
use crate::language::kinds::proxy::ProxySpec;
use crate::resolver::answers::ADDRESSES_MAX;

/// Checks a proxy's plan.
pub(super) fn check_totals(proxy: &Item<'_, ProxySpec>, plan: &Plan, findings: &mut Findings) {
    let sums = Sums::of(plan.fixed());
    let rows = [
        (plan.fixed().listeners.len(), LISTENERS_MAX, "listeners"),
        (plan.fixed().route_tables.len(), ROUTE_TABLES_MAX, "Gateway listeners"),
        (sums.virtual_hosts, VIRTUAL_HOSTS_MAX, "ports of services and sets of host names"),
        (sums.patterns, HOST_PATTERNS_MAX, "host names"),
        (sums.rules, RULES_MAX, "matches of rules"),
        (plan.fixed().routes.len(), ROUTES_MAX, "rules"),
        (sums.regexes, REGEXES_MAX, "regular expressions"),
        (plan.fixed().clusters.len(), CLUSTERS_MAX, "ports of services"),
        (sums.endpoints, ENDPOINTS_MAX, "endpoints"),
    ];
    let mut is_too_large = false;
    for (count, most, what) in rows {
        if count > most {
            is_too_large = true;
            findings.push(too_much(proxy, &format!("{count} {what}; at most {most} are possible")));
        }
    }
    if !is_too_large && let Err(problem) = fits(plan, &sums) {
        findings.push(too_much(proxy, &problem));
    }
}

fn too_much(proxy: &Item<'_, ProxySpec>, problem: &str) -> Diagnostic {
    let message = format!("the Proxy `{}` would have {problem}", proxy.name());
    Diagnostic::error(message, proxy.declared.place_of("metadata.name"))
        .with_help("`spec.outbound` says what it reaches: name the services that it calls")
}

/// Its bytes, written and read. That is known without writing it unless it is close.
fn fits(plan: &Plan, sums: &Sums) -> Result<(), String> {
    let dns_endpoints = plan.dns_count().saturating_mul(ADDRESSES_MAX);
    let endpoints = sums.endpoints.saturating_add(dns_endpoints).min(ENDPOINTS_MAX);
    let items = sums.items + endpoints;
    let decoded_bytes = sums.decoded_bytes + endpoints * ENDPOINT_BYTES;
    let encoded_bytes = sums.text_bytes + items * ENCODED_ITEM_BYTES;
    if decoded_bytes <= DECODED_BYTES_MAX && encoded_bytes <= ENCODED_BYTES_MAX {
        return Ok(());
    }
    let addresses: Vec<IpAddr> =
        (0..ADDRESSES_MAX as u32).map(|n| Ipv4Addr::from(n).into()).collect();
    let largest = plan.snapshot(|_| &addresses);
    let epoch = Epoch { store: u64::MAX, number: u64::MAX };
    let encoded = encode(epoch, &largest, VERSION)
        .map_err(|_| format!("a snapshot of more than {ENCODED_BYTES_MAX} bytes"))?;
    decode(&encoded.bytes)
        .map(drop)
        .map_err(|error| format!("a snapshot that can't be read: {error}"))
}

/// What a value takes to decode, and what is nested in it, each level charged anew; more than it can be.
const ROUTE_BYTES: usize = 4_096;
const RULE_BYTES: usize = 1_024;
const HOST_BYTES: usize = 512;
const TABLE_BYTES: usize = 512;
const LISTENER_BYTES: usize = 2_048;
const CLUSTER_BYTES: usize = 1_024;
const PART_BYTES: usize = 1_024;
const ENDPOINT_BYTES: usize = 192;
/// Numbers and lengths beside the text of a value, as varints; more than it can be.
const ENCODED_ITEM_BYTES: usize = 64;

/// What a snapshot adds up to.
#[derive(Default)]
struct Sums {
    virtual_hosts: usize,
    patterns: usize,
    rules: usize,
    regexes: usize,
    endpoints: usize,
    /// Values in lists, endpoints excepted.
    items: usize,
    /// At most, endpoints excepted.
    decoded_bytes: usize,
    text_bytes: usize,
}

impl Sums {
    fn of(snapshot: &Snapshot) -> Self {
        let mut sums = Self::default();
        for table in &snapshot.route_tables {
            sums.add(TABLE_BYTES, table.name.len());
            for host in &table.hosts {
                sums.virtual_hosts += 1;
                sums.patterns += host.hosts.len();
                sums.add(HOST_BYTES, 0);
                for _ in &host.hosts {
                    sums.add(PART_BYTES, HOST_BYTES_MAX);
                }
                for rule in &host.rules {
                    sums.rules += 1;
                    sums.add_match(&rule.matches);
                }
            }
        }
        for route in &snapshot.routes {
            sums.add_route(route);
        }
        for cluster in &snapshot.clusters {
            sums.endpoints += cluster.endpoints.len();
            sums.add(CLUSTER_BYTES, cluster.name.len());
        }
        for listener in &snapshot.listeners {
            let backends = listener.tcp.as_ref().map_or(0, |tcp| tcp.backends.len());
            sums.add(LISTENER_BYTES, 2 * NAME_BYTES_MAX);
            for _ in 0..listener.http.len() + backends {
                sums.add(PART_BYTES, HOST_BYTES_MAX);
            }
        }
        sums
    }

    fn add(&mut self, decoded_bytes: usize, text_bytes: usize) {
        self.items += 1;
        self.decoded_bytes += decoded_bytes;
        self.text_bytes += text_bytes;
    }

    fn add_match(&mut self, matches: &RouteMatch) {
        let path = match &matches.path {
            PathMatch::Regex(text) => {
                self.regexes += 1;
                text
            }
            PathMatch::Exact(text) | PathMatch::Prefix(text) => text,
        };
        self.add(RULE_BYTES, path.len() + METHOD_BYTES_MAX);
        for field in matches.headers.iter().chain(&matches.queries) {
            let value = match &field.value {
                ValueMatch::Regex(text) => {
                    self.regexes += 1;
                    text
                }
                ValueMatch::Exact(text) => text,
            };
            self.add(PART_BYTES, field.name.len() + value.len());
        }
    }

    fn add_route(&mut self, route: &Route) {
        // A name, a redirect and a rewrite: a host and a path each.
        self.add(ROUTE_BYTES, route.name.len() + 2 * (HOST_BYTES_MAX + PATH_BYTES_MAX));
        self.add_edits(&route.request_headers);
        self.add_edits(&route.response_headers);
        if let Action::Forward(backends) = &route.action {
            for backend in backends {
                self.add(PART_BYTES, 0);
                self.add_edits(&backend.request_headers);
                self.add_edits(&backend.response_headers);
            }
        }
        for _ in &route.mirrors {
            self.add(PART_BYTES, 0);
        }
        if let Some(breaker) = &route.policy.circuit_breaker {
            let text_bytes = match &breaker.fallback {
                Some(Fallback::Response(it)) => it.content_type.len() + it.body.len(),
                Some(Fallback::Backend(_)) | None => 0,
            };
            self.add(PART_BYTES, text_bytes);
        }
        let Some(cors) = &route.cors else { return };
        let lists =
            [&cors.allow_origins, &cors.allow_methods, &cors.allow_headers, &cors.expose_headers];
        for text in lists.into_iter().flatten() {
            self.add(PART_BYTES, text.len());
        }
    }

    fn add_edits(&mut self, edits: &HeaderEdits) {
        for (name, value) in edits.set.iter().chain(&edits.add) {
            self.add(PART_BYTES, name.len() + value.len());
        }
        for name in &edits.remove {
            self.add(PART_BYTES, name.len());
        }
    }
}
