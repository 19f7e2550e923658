//! Whether a snapshot is whole: the one check that both sides make.
//!
//! Before: the control plane compiled a snapshot, or a proxy decoded one. After: who holds a
//! snapshot that passed may follow every index, divide by every sum, compile every pattern and write
//! every text into a head, without looking again. [`text`] knows what a single value must look like;
//! this file knows where it stands and what belongs together.
//!
//! It stops at the first problem. Cost: linear in the snapshot, with a few look-up tables on the
//! way; each regular expression is compiled once.

pub mod text;
mod bulkhead;
pub mod patterns;
mod endpoints;
mod faults;
mod retry;
mod rate_limit;
mod breaker;
mod health_check;
mod outlier;
mod overload;
mod routing;
mod session;
#[cfg(test)]
mod tests;

use std::collections::HashSet;
use std::fmt;
use std::net::SocketAddr;

use crate::limits::*;
use crate::model::{
    Balancing, Cluster, Epoch, HashKey, Hashing, HostRoutes, Listener, PeakEwma, Protocol,
    Snapshot, TcpRoute,
};
use patterns::Patterns;
use retry::check_retry_budget;
use text::Problem;

/// Where a snapshot came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// From a control plane's store.
    Store,
    /// From a proxy's own flags: its listeners may leave the choice of a port to the kernel.
    Flags,
}

impl Origin {
    /// Where a snapshot of this epoch came from.
    pub const fn of(epoch: Epoch) -> Self {
        if epoch.store == 0 { Self::Flags } else { Self::Store }
    }
}

/// What is wrong with a snapshot: where, which field, its value, and what would be right.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{place}: {field}: {value}: {wanted}")]
pub struct Invalid {
    /// Which listener, table, route or cluster; `snapshot` for what concerns it as a whole.
    pub place: String,
    /// Which field of it.
    pub field: String,
    /// What it holds, quoted and cut to a readable length.
    pub value: String,
    /// What would be right.
    pub wanted: String,
}

/// Checks everything that [`model`](crate::model) promises about a snapshot, within
/// [`limits`](crate::limits).
///
/// Errors: the first problem found; the fault of whoever made the snapshot.
pub fn validate(snapshot: &Snapshot, origin: Origin) -> Result<(), Invalid> {
    validate_with(snapshot, origin, &mut Patterns::default())
}

/// The same for whoever needs the compiled patterns, or has them from the snapshot before.
///
/// Errors: as [`validate`].
pub fn validate_with(
    snapshot: &Snapshot,
    origin: Origin,
    patterns: &mut Patterns,
) -> Result<(), Invalid> {
    patterns.begin_snapshot();
    check_counts(snapshot).map_err(|problem| problem.at(&"snapshot"))?;
    check_clusters(snapshot)?;
    routing::check_routes(snapshot)?;
    routing::check_tables(snapshot, patterns)?;
    check_listeners(snapshot, origin)
}

/// One of a snapshot's lists' items, as a message names it: `cluster 3 ("shop/cart:80")`.
struct Item<'a> {
    kind: &'static str,
    index: usize,
    name: &'a str,
}

impl fmt::Display for Item<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} ({})", self.kind, self.index, text::quote(self.name))
    }
}

fn check_counts(snapshot: &Snapshot) -> Result<(), Problem> {
    at_most(snapshot.listeners.len(), LISTENERS_MAX, "listeners")?;
    at_most(snapshot.route_tables.len(), ROUTE_TABLES_MAX, "route_tables")?;
    at_most(snapshot.routes.len(), ROUTES_MAX, "routes")?;
    at_most(snapshot.clusters.len(), CLUSTERS_MAX, "clusters")?;
    let endpoints = snapshot.clusters.iter().map(|cluster| cluster.endpoints.len()).sum();
    at_most(endpoints, ENDPOINTS_MAX, "endpoints of all clusters")
}

/// A list's length against its bound.
fn at_most(count: usize, most: usize, field: &'static str) -> Result<(), Problem> {
    if count <= most {
        return Ok(());
    }
    Err(Problem::new(field, count, format!("at most {most} are possible")))
}

fn check_clusters(snapshot: &Snapshot) -> Result<(), Invalid> {
    let mut names = HashSet::with_capacity(snapshot.clusters.len());
    let mut sorted = Vec::new();
    for (index, cluster) in snapshot.clusters.iter().enumerate() {
        let item = Item { kind: "cluster", index, name: &cluster.name };
        check_cluster(cluster, &mut names, &mut sorted)
            .and_then(|()| endpoints::check_failover(index, cluster, snapshot.clusters.len()))
            .map_err(|problem| problem.at(&item))?;
    }
    Ok(())
}

fn check_cluster<'s>(
    cluster: &'s Cluster,
    names: &mut HashSet<&'s str>,
    sorted: &mut Vec<SocketAddr>,
) -> Result<(), Problem> {
    text::name(&cluster.name)?;
    first_of_its_name(&cluster.name, names)?;
    duration("connect_timeout_ms", cluster.connect_timeout_ms)?;
    check_weights(cluster)?;
    bulkhead::check_caps(cluster.policy.bulkhead.as_deref())?;
    overload::check_overload(cluster.policy.overload.as_deref())?;
    check_balancing(&cluster.balancing).map_err(|problem| problem.inside("balancing"))?;
    if let Some(budget) = cluster.policy.retry_budget {
        check_retry_budget(budget).map_err(|problem| problem.inside("retry_budget"))?;
    }
    endpoints::check_policy(cluster).map_err(|problem| problem.inside("policy"))?;
    if let Some(detection) = &cluster.policy.outlier {
        outlier::check_outlier(detection).map_err(|problem| problem.inside("outlier"))?;
    }
    if let Some(check) = &cluster.policy.health_check {
        health_check::check_health_check(check)
            .map_err(|problem| problem.inside("health_check"))?;
    }
    sorted.clear();
    for (index, endpoint) in cluster.endpoints.iter().enumerate() {
        address(endpoint.address)
            .and_then(|()| port_given(endpoint.address))
            .map_err(|problem| problem.inside(format_args!("endpoints[{index}]")))?;
        sorted.push(endpoint.address);
    }
    sorted.sort_unstable();
    match sorted.windows(2).find(|pair| pair[0] == pair[1]) {
        None => Ok(()),
        Some(pair) => Err(Problem::new("endpoints", pair[0], "no address may stand there twice")),
    }
}

fn check_weights(cluster: &Cluster) -> Result<(), Problem> {
    let (weights, endpoints) = (cluster.weights.len(), cluster.endpoints.len());
    if weights != 0 && weights != endpoints {
        let wanted = format!("none, or one for each of {endpoints} endpoints");
        return Err(Problem::new("weights", weights, wanted));
    }
    match cluster.weights.iter().find(|weight| !(1..=ENDPOINT_WEIGHT_MAX).contains(*weight)) {
        None => Ok(()),
        Some(weight) => {
            Err(Problem::new("weights", weight, format!("from 1 to {ENDPOINT_WEIGHT_MAX}")))
        }
    }
}

fn check_balancing(balancing: &Balancing) -> Result<(), Problem> {
    match balancing {
        Balancing::LeastRequest | Balancing::RoundRobin | Balancing::Random => Ok(()),
        Balancing::PeakEwma(PeakEwma { default_rtt_ms, decay_ms }) => {
            positive_duration("default_rtt_ms", *default_rtt_ms)?;
            positive_duration("decay_ms", *decay_ms)
        }
        Balancing::RingHash(hashing) | Balancing::Maglev(hashing) => check_hashing(hashing),
    }
}

fn positive_duration(field: &'static str, span_ms: u32) -> Result<(), Problem> {
    match span_ms {
        0 => Err(Problem::new(field, span_ms, "at least 1")),
        _ => duration(field, Some(span_ms)),
    }
}

fn check_hashing(hashing: &Hashing) -> Result<(), Problem> {
    at_most(hashing.keys.len(), HASH_KEYS_MAX, "keys")?;
    if hashing.keys.is_empty() {
        return Err(Problem::new("keys", 0, "at least one"));
    }
    for key in &hashing.keys {
        match key {
            HashKey::Header(name) => text::field_name("keys.header", name)?,
            HashKey::Cookie(name) => text::cookie_name("keys.cookie", name)?,
            HashKey::Query(name) => {
                text::query_text("keys.query", name, FIELD_NAME_BYTES_MAX)?;
            }
            HashKey::Path | HashKey::SourceAddress => {}
        }
    }
    match hashing.bound_percent {
        Some(percent) if !(101..=BOUND_PERCENT_MAX).contains(&percent) => {
            Err(Problem::new("bound_percent", percent, format!("from 101 to {BOUND_PERCENT_MAX}")))
        }
        _ => Ok(()),
    }
}

fn first_of_its_name<'s>(name: &'s str, names: &mut HashSet<&'s str>) -> Result<(), Problem> {
    if names.insert(name) {
        return Ok(());
    }
    Err(Problem::quoted("name", name, "another one before it has that name; names are unique"))
}

/// An IPv6 zone or flow label says something on one host only, and the encoding has no room for it.
fn address(address: SocketAddr) -> Result<(), Problem> {
    match address {
        SocketAddr::V6(v6) if v6.scope_id() != 0 || v6.flowinfo() != 0 => Err(Problem::new(
            "address",
            address,
            "an address without zone and flow label is needed",
        )),
        _ => Ok(()),
    }
}

fn port_given(address: SocketAddr) -> Result<(), Problem> {
    if address.port() != 0 {
        return Ok(());
    }
    Err(Problem::new("address", address, "a port from 1 to 65535 is needed"))
}

fn duration(field: &'static str, span_ms: Option<u32>) -> Result<(), Problem> {
    match span_ms {
        Some(span_ms) if span_ms > DURATION_MS_MAX => {
            Err(Problem::new(field, span_ms, format!("at most {DURATION_MS_MAX} (30 days)")))
        }
        _ => Ok(()),
    }
}

fn connection_duration(span_ms: Option<u32>) -> Result<(), Problem> {
    span_ms.map_or(Ok(()), |span_ms| positive_duration("connection_ms_max", span_ms))
}

fn check_listeners(snapshot: &Snapshot, origin: Origin) -> Result<(), Invalid> {
    let mut names = HashSet::new();
    let mut addresses = HashSet::new();
    for (index, listener) in snapshot.listeners.iter().enumerate() {
        let item = Item { kind: "listener", index, name: &listener.name };
        text::name(&listener.name)
            .and_then(|()| first_of_its_name(&listener.name, &mut names))
            .and_then(|()| check_address(listener, origin, &mut addresses))
            .and_then(|()| check_protocol(listener))
            .and_then(|()| check_proxy_sources(listener))
            .and_then(|()| connection_duration(listener.connection_ms_max))
            .and_then(|()| check_host_routes(&listener.http, snapshot.route_tables.len()))
            .and_then(|()| match &listener.tcp {
                Some(route) => {
                    check_tcp(route, snapshot.clusters.len()).map_err(|p| p.inside("tcp"))
                }
                None => Ok(()),
            })
            .map_err(|problem| problem.at(&item))?;
    }
    Ok(())
}

fn check_address(
    listener: &Listener,
    origin: Origin,
    addresses: &mut HashSet<SocketAddr>,
) -> Result<(), Problem> {
    address(listener.address)?;
    // The kernel gives each of those a port of its own, so that they are no two of one address.
    if origin == Origin::Flags && listener.address.port() == 0 {
        return Ok(());
    }
    port_given(listener.address)?;
    if addresses.insert(listener.address) {
        return Ok(());
    }
    Err(Problem::new("address", listener.address, "a listener before it has that address"))
}

fn check_proxy_sources(listener: &Listener) -> Result<(), Problem> {
    at_most(listener.proxy_sources.len(), PROXY_SOURCES_MAX, "proxy_sources")?;
    match listener.proxy_sources.iter().find(|range| !range.is_whole()) {
        None => Ok(()),
        Some(range) => {
            let value = format_args!("{}/{}", range.address, range.prefix_bits);
            let wanted = "an address whose bits are 0 behind as many as it has at most";
            Err(Problem::new("proxy_sources", value, wanted))
        }
    }
}

fn check_protocol(listener: &Listener) -> Result<(), Problem> {
    let (http, tcp) = (!listener.http.is_empty(), listener.tcp.is_some());
    let (field, value, wanted) = match (listener.protocol, http, tcp) {
        (Protocol::Auto, true, true) | (Protocol::Http, true, false) => return Ok(()),
        (Protocol::Tcp, false, true) => return Ok(()),
        (Protocol::Auto | Protocol::Http, false, _) => {
            ("http", "empty", "a listener that takes HTTP needs one entry at least")
        }
        (Protocol::Tcp, true, _) => ("http", "not empty", "a TCP listener has none"),
        (Protocol::Http, _, true) => ("tcp", "given", "an HTTP listener has none"),
        (Protocol::Auto | Protocol::Tcp, _, false) => {
            ("tcp", "none", "a listener that takes other bytes than HTTP needs a route for them")
        }
    };
    Err(Problem::new(field, value, wanted))
}

fn check_host_routes(entries: &[HostRoutes], tables: usize) -> Result<(), Problem> {
    at_most(entries.len(), HOST_ROUTES_MAX, "http")?;
    let mut seen = HashSet::with_capacity(entries.len());
    for (index, entry) in entries.iter().enumerate() {
        let inside = |problem: Problem| problem.inside(format_args!("http[{index}]"));
        text::host_pattern(&entry.host).map_err(inside)?;
        in_range("table", entry.table.0, tables, "route_tables").map_err(inside)?;
        if !seen.insert(&entry.host) {
            return Err(inside(Problem::new(
                "host",
                text::show_pattern(&entry.host),
                "an entry before it has that pattern",
            )));
        }
    }
    Ok(())
}

/// An index against the list that it points into.
fn in_range(
    field: &'static str,
    index: u32,
    count: usize,
    list: &'static str,
) -> Result<(), Problem> {
    if (index as usize) < count {
        return Ok(());
    }
    Err(Problem::new(field, index, format!("there are only {count} {list}, counted from 0")))
}

fn check_tcp(route: &TcpRoute, clusters: usize) -> Result<(), Problem> {
    text::name(&route.name)?;
    duration("idle_timeout_ms", route.idle_timeout_ms)?;
    connection_duration(route.connection_ms_max)?;
    at_most(route.backends.len(), BACKENDS_MAX, "backends")?;
    for (index, backend) in route.backends.iter().enumerate() {
        check_share(backend.cluster, backend.weight, clusters)
            .and_then(|()| rate_limit::check_rate_limits(backend.rate_limits.as_deref()))
            .map_err(|problem| problem.inside(format_args!("backends[{index}]")))?;
    }
    if route.backends.is_empty() {
        return Ok(());
    }
    check_sum(route.backends.iter().map(|backend| backend.weight))
}

fn check_share(
    cluster: Option<crate::model::ClusterId>,
    weight: u32,
    clusters: usize,
) -> Result<(), Problem> {
    if let Some(cluster) = cluster {
        in_range("cluster", cluster.0, clusters, "clusters")?;
    }
    if weight > WEIGHT_MAX {
        return Err(Problem::new("weight", weight, format!("at most {WEIGHT_MAX}")));
    }
    Ok(())
}

/// `limits` asserts that the sum of as many weights as are allowed fits.
fn check_sum(weights: impl Iterator<Item = u32>) -> Result<(), Problem> {
    if weights.sum::<u32>() > 0 {
        return Ok(());
    }
    Err(Problem::new("backends", "weights that add up to 0", "one of them must be more than 0"))
}
