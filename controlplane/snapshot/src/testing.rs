//! Strategies for valid snapshots, small ones, of every shape that the model has.
//!
//! For the tests of this crate, of the compiler and of the proxy. Every snapshot from here passes
//! [`validate`](crate::validate::validate) with [`Origin::Store`](crate::validate::Origin::Store).

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;

use proptest::collection::{btree_map, btree_set, vec};
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;

use crate::limits::{BOUND_PERCENT_MAX, BYTES_PER_S_MAX, DENOMINATOR_MAX, ENDPOINT_WEIGHT_MAX};
use crate::model::aperture::Aperture;
use crate::model::breaker::{BreakerMode, CircuitBreaker, Fallback, FallbackResponse};
use crate::model::bulkhead::Caps;
use crate::model::faults::{AbortKind, FaultAbort, FaultBandwidth, FaultDelay, Faults, Share};
use crate::model::health_check::{HealthCheck, HttpProbe, Probe};
use crate::model::outlier::{OutlierDetection, SuccessRate};
use crate::model::overload::{Concurrency, Overload, Priority, QueueDelay};
use crate::model::proxy_protocol::{AddressRange, ProxyVersion};
use crate::model::rate_limit::{
    ByteDirection, ByteLimit, LimitKey, RateLimit, RateLimits, SourcePrefix,
};
use crate::model::retry::{HedgeAfter, RetriableField, Retry, RetryBudget, RetryOn};
use crate::model::session::Session;
use crate::model::slow_start::SlowStart;
use crate::model::*;

/// Valid snapshots.
pub fn snapshots() -> impl Strategy<Value = Snapshot> {
    (clusters(), 1..6_u32, 1..4_u32).prop_flat_map(|(clusters, routes, tables)| {
        let count = clusters.len() as u32;
        vec(route(count), routes as usize).prop_flat_map(move |routes| {
            let clusters = clusters.clone();
            let prefixed: Vec<bool> = routes.iter().map(replaces_prefix).collect();
            (vec(route_table(prefixed), tables as usize), listeners(tables, count)).prop_map(
                move |(route_tables, listeners)| Snapshot {
                    listeners,
                    route_tables,
                    routes: routes.clone(),
                    clusters: clusters.clone(),
                },
            )
        })
    })
}

/// Epochs of a store.
pub fn epochs() -> impl Strategy<Value = Epoch> {
    (1..=u64::MAX, 1..=u64::MAX).prop_map(|(store, number)| Epoch { store, number })
}

fn replaces_prefix(route: &Route) -> bool {
    let is_prefix = |path: &Option<PathRewrite>| matches!(path, Some(PathRewrite::Prefix(_)));
    route.rewrite.as_ref().is_some_and(|rewrite| is_prefix(&rewrite.path))
        || matches!(&route.action, Action::Redirect(redirect) if is_prefix(&redirect.path))
}

fn clusters() -> impl Strategy<Value = Vec<Arc<Cluster>>> {
    let weights = vec(1..=ENDPOINT_WEIGHT_MAX, 4);
    let weights = prop_oneof![Just(Vec::new()), weights];
    let cluster = (
        btree_set(address(), 0..4),
        weights,
        balancing(),
        option::of(0..100_000_u32),
        (option::of(caps()), health_policy()),
    );
    btree_map("[a-z]{1,8}/[a-z]{1,8}:[1-9]", cluster, 0..5).prop_map(|clusters| {
        let into_cluster =
            |(name, (addresses, weights, balancing, connect_timeout_ms, (caps, health)))| {
                let addresses: BTreeSet<SocketAddr> = addresses;
                let endpoints: Vec<Endpoint> =
                    addresses.into_iter().map(|address| Endpoint { address }).collect();
                let mut weights: Vec<u32> = weights;
                weights.truncate(endpoints.len());
                let caps: Option<Caps> = caps;
                let health: (Option<OutlierDetection>, Option<HealthCheck>) = health;
                let versions = [None, Some(ProxyVersion::V1), Some(ProxyVersion::V2)];
                let is_keyed = matches!(balancing, Balancing::RingHash(_) | Balancing::Maglev(_));
                let slow = SlowStart { window_ms: 1_000, aggression_percent: 50, min_percent: 10 };
                let overload = caps.map(|caps| Overload {
                    queue_delay: QueueDelay {
                        target_ms: 5,
                        interval_ms: caps.queue_timeout_ms + 5,
                    },
                    concurrency: caps
                        .requests_max
                        .map(|maximum| Concurrency { minimum: 1, maximum }),
                });
                let policy = ClusterPolicy {
                    part_of: (endpoints.len() == 1).then(|| "shop/whole:80".into()),
                    retry_budget: (!endpoints.is_empty()).then(RetryBudget::default),
                    proxy_protocol: versions[endpoints.len() % 3],
                    connection_ms_max: endpoints.len().is_multiple_of(3).then_some(1_000),
                    panic_threshold_percent: endpoints.len().is_multiple_of(2).then_some(100),
                    slow_start: (!is_keyed).then(|| Box::new(slow)),
                    aperture: matches!(balancing, Balancing::LeastRequest)
                        .then_some(Aperture { min_endpoints: 12 }),
                    terminating: (1..endpoints.len() as u32).collect(),
                    ordered_out: (0..endpoints.len() as u32).step_by(2).collect(),
                    failover: None,
                    bulkhead: caps.map(Box::new),
                    outlier: health.0.map(Box::new),
                    health_check: health.1.map(Box::new),
                    overload: overload.map(Box::new),
                };
                Arc::new(Cluster {
                    name,
                    endpoints,
                    weights,
                    balancing,
                    connect_timeout_ms,
                    policy,
                })
            };
        clusters.into_iter().map(into_cluster).collect()
    })
}

fn caps() -> impl Strategy<Value = Caps> {
    let some = || option::of(1..1_000_u32);
    (1..1_000_u32, 0..1_000_u32, some(), some(), 1..100_000_u32).prop_map(
        |(connections_max, pending_max, requests_max, retries_max, queue_timeout_ms)| Caps {
            connections_max,
            pending_max,
            requests_max,
            retries_max,
            queue_timeout_ms,
        },
    )
}

fn health_policy() -> impl Strategy<Value = (Option<OutlierDetection>, Option<HealthCheck>)> {
    let comparing = (1..10_000_u32, 2..1_000_u32, 1..1_000_u32);
    let detection = (0..100_u32, 1..100_000_u32, 1..=100_u32, option::of(comparing)).prop_map(
        |(consecutive, base_ejection_ms, max_ejection_percent, comparing)| OutlierDetection {
            consecutive_5xx_errors: consecutive,
            base_ejection_ms,
            max_ejection_ms: base_ejection_ms.saturating_mul(2),
            max_ejection_percent,
            success_rate: comparing.map(|(stdev_factor, minimum_hosts, request_volume)| {
                SuccessRate { stdev_factor, minimum_hosts, request_volume }
            }),
            ..OutlierDetection::default()
        },
    );
    let http = (path(), option::of(host()), 100..300_u16, 300..600_u16).prop_map(
        |(path, host, from, to)| {
            Probe::Http(Box::new(HttpProbe { path, host, statuses: vec![(from, to)] }))
        },
    );
    let probe = prop_oneof![Just(Probe::Tcp), http];
    let check = (probe, 100..100_000_u32, 1..100_000_u32, 1..100_u32).prop_map(
        |(probe, interval_ms, timeout_ms, unhealthy_threshold)| HealthCheck {
            probe,
            interval_ms,
            timeout_ms,
            unhealthy_threshold,
            healthy_threshold: 1,
        },
    );
    (option::of(detection), option::of(check))
}

fn balancing() -> impl Strategy<Value = Balancing> {
    let key = prop_oneof![
        "[a-z]{1,8}".prop_map(HashKey::Header),
        "[a-zA-Z]{1,8}".prop_map(HashKey::Cookie),
        "[a-zA-Z]{1,8}".prop_map(HashKey::Query),
        Just(HashKey::Path),
        Just(HashKey::SourceAddress),
    ];
    let hashing = (vec(key, 1..4), option::of(101..=BOUND_PERCENT_MAX))
        .prop_map(|(keys, bound_percent)| Box::new(Hashing { keys, bound_percent }));
    let ewma = (1..100_000_u32, 1..100_000_u32)
        .prop_map(|(default_rtt_ms, decay_ms)| PeakEwma { default_rtt_ms, decay_ms });
    prop_oneof![
        Just(Balancing::LeastRequest),
        Just(Balancing::RoundRobin),
        Just(Balancing::Random),
        ewma.prop_map(Balancing::PeakEwma),
        hashing.clone().prop_map(Balancing::RingHash),
        hashing.prop_map(Balancing::Maglev),
    ]
}

fn address() -> impl Strategy<Value = SocketAddr> {
    prop_oneof![
        (any::<[u8; 4]>(), 1..=u16::MAX).prop_map(SocketAddr::from),
        (any::<[u8; 16]>(), 1..=u16::MAX).prop_map(SocketAddr::from),
    ]
}

fn listeners(tables: u32, clusters: u32) -> impl Strategy<Value = Vec<Listener>> {
    let direction = select(vec![Direction::Inbound, Direction::Outbound, Direction::Gateway]);
    let protocol = select(vec![Protocol::Auto, Protocol::Http, Protocol::Tcp]);
    let http = btree_map(pattern_key(), 0..tables, 1..4);
    let listener = ("[a-z]{1,8}", direction, protocol, http, tcp_route(clusters));
    btree_map(address(), listener, 0..4).prop_map(|listeners| {
        let into_listener = |(index, (address, (name, direction, protocol, http, tcp)))| {
            let http: BTreeMap<PatternKey, u32> = http;
            let into_entry =
                |(key, table)| HostRoutes { host: into_pattern(key), table: RouteTableId(table) };
            let http = match protocol {
                Protocol::Tcp => Vec::new(),
                _ => http.into_iter().map(into_entry).collect(),
            };
            let tcp = (protocol != Protocol::Http).then_some(tcp);
            let index: usize = index;
            let name = format!("{name}-{index}");
            let proxy_sources = proxy_sources(address);
            let connection_ms_max = address.port().is_multiple_of(2).then_some(60_000);
            Listener {
                name,
                direction,
                address,
                protocol,
                proxy_sources,
                connection_ms_max,
                http,
                tcp,
            }
        };
        listeners.into_iter().enumerate().map(into_listener).collect()
    })
}

/// Of some listeners none.
fn proxy_sources(address: SocketAddr) -> Vec<AddressRange> {
    let bits = (address.port() % 40) as u8;
    AddressRange::around(address.ip().to_canonical(), bits).into_iter().collect()
}

/// What kind of pattern, and its name; ordered, so that a map keeps the patterns apart.
type PatternKey = (u8, String);

fn pattern_key() -> impl Strategy<Value = PatternKey> {
    prop_oneof![Just((0, String::new())), (1..=2_u8, host())]
}

fn into_pattern((kind, host): PatternKey) -> HostPattern {
    match kind {
        0 => HostPattern::Any,
        1 => HostPattern::Exact(host),
        _ => HostPattern::Suffix(format!(".{host}")),
    }
}

fn host() -> impl Strategy<Value = String> {
    "[a-z]([a-z0-9_-]{0,4}[a-z0-9])?(\\.[a-z]{1,5}){0,3}"
}

fn cluster_id(clusters: u32) -> BoxedStrategy<Option<ClusterId>> {
    match clusters {
        0 => Just(None).boxed(),
        count => option::of((0..count).prop_map(ClusterId)).boxed(),
    }
}

fn tcp_route(clusters: u32) -> impl Strategy<Value = TcpRoute> {
    let backend = (cluster_id(clusters), 1..100_u32).prop_map(|(cluster, weight)| TcpBackend {
        cluster,
        weight,
        rate_limits: None,
    });
    ("TCPRoute/[a-z]{1,8}/0", vec(backend, 0..3), option::of(0..100_000_u32)).prop_map(
        |(name, backends, idle_timeout_ms)| {
            let connection_ms_max = idle_timeout_ms.map(|span_ms| span_ms + 1);
            TcpRoute { name, backends, idle_timeout_ms, connection_ms_max }
        },
    )
}

fn route_table(prefixed: Vec<bool>) -> impl Strategy<Value = RouteTable> {
    let names = btree_set((option::of(1..=u16::MAX), pattern_key()), 1..5);
    (names, vec(vec(rule(prefixed), 0..4), 5), "[a-z]{0,6}/[a-z]{1,6}").prop_map(
        |(names, rules, name)| {
            let mut by_port: BTreeMap<Option<u16>, Vec<HostPattern>> = BTreeMap::new();
            for (port, key) in names {
                by_port.entry(port).or_default().push(into_pattern(key));
            }
            let hosts = by_port.into_iter().zip(rules);
            let hosts = hosts.map(|((port, hosts), rules)| VirtualHost { hosts, port, rules });
            RouteTable { name, hosts: hosts.collect() }
        },
    )
}

/// `prefixed` says of each route whether it needs a match by prefix.
fn rule(prefixed: Vec<bool>) -> impl Strategy<Value = Rule> {
    let fields = || btree_map("[a-z][a-z-]{0,5}", value_match(), 0..3);
    (0..prefixed.len(), path_match(), path(), option::of("GET|POST|PUT"), fields(), fields())
        .prop_map(move |(route, path, prefix, method, headers, queries)| {
            let path = if prefixed[route] { PathMatch::Prefix(prefix) } else { path };
            let (headers, queries) = (into_fields(headers), into_fields(queries));
            let matches = RouteMatch { path, method, headers, queries };
            Rule { matches, route: RouteId(route as u32) }
        })
}

fn into_fields(fields: BTreeMap<String, ValueMatch>) -> Vec<FieldMatch> {
    fields.into_iter().map(|(name, value)| FieldMatch { name, value }).collect()
}

fn value_match() -> impl Strategy<Value = ValueMatch> {
    prop_oneof![
        value().prop_map(ValueMatch::Exact),
        "[a-c]{1,3}(\\.\\*|\\+)?".prop_map(ValueMatch::Regex),
    ]
}

fn path_match() -> impl Strategy<Value = PathMatch> {
    prop_oneof![
        path().prop_map(PathMatch::Prefix),
        path().prop_map(|path| PathMatch::Exact(format!("{path}/"))),
        "/[a-c]{1,3}(/\\.\\*|\\[0-9\\]\\+)?".prop_map(PathMatch::Regex),
    ]
}

fn path() -> impl Strategy<Value = String> {
    prop_oneof![Just("/".to_owned()), "(/[a-c0-9%._~-]{1,3}){1,3}"]
}

fn value() -> impl Strategy<Value = String> {
    "([!-~]([ -~]{0,8}[!-~])?)?"
}

fn route(clusters: u32) -> impl Strategy<Value = Route> {
    let about = ("HTTPRoute/[a-z]{1,6}/[a-z]{1,6}/[0-9]", option::of(0..100_000_u32));
    let filters =
        (option::of(rewrite()), mirrors(clusters), option::of(cors()), option::of(rate_limits()));
    let policy = (
        option::of(0..100_000_u32),
        option::of(faults()),
        option::of(retry()),
        option::of(hedging()),
        option::of(breaker(clusters)),
    );
    (about, action(clusters), edits(), edits(), filters, policy).prop_map(
        |(about, action, request_headers, response_headers, filters, policy)| Route {
            name: about.0,
            action,
            request_headers,
            response_headers,
            rewrite: filters.0.map(Box::new),
            mirrors: filters.1,
            cors: filters.2.map(Box::new),
            policy: RoutePolicy {
                request_timeout_ms: about.1,
                backend_request_timeout_ms: policy.0,
                faults: policy.1.map(Box::new),
                session: policy.0.map(|timeout_ms| Box::new(session(timeout_ms))),
                retry: policy.2.map(Box::new),
                hedging: policy.3,
                rate_limits: filters.3.map(Box::new),
                circuit_breaker: policy.4.map(Box::new),
                priority: policy.0.map(|timeout_ms| PRIORITIES[timeout_ms as usize % 3]),
            },
        },
    )
}

const PRIORITIES: [Priority; 3] = [Priority::Critical, Priority::Default, Priority::Sheddable];

fn retry() -> impl Strategy<Value = Retry> {
    let field = ("x-[a-z]{1,6}", option::of(value()));
    let on = (any::<bool>(), any::<bool>(), any::<bool>(), any::<bool>(), any::<bool>());
    let answers = (vec(400..600_u16, 0..3), vec(field, 0..3));
    (0..=8_u32, on, answers, 1..100_u32, 100..1000_u32, any::<bool>()).prop_map(
        |(attempts, on, (statuses, fields), backoff_base_ms, backoff_max_ms, non_idempotent)| {
            Retry {
                attempts,
                on: RetryOn {
                    connect_failure: on.0,
                    reset_before_response: on.1,
                    per_try_timeout: on.2,
                    server_error: on.3,
                    gateway_error: on.4,
                },
                statuses,
                headers: fields
                    .into_iter()
                    .map(|(name, value)| RetriableField { name, value })
                    .collect(),
                backoff_base_ms,
                backoff_max_ms,
                non_idempotent,
            }
        },
    )
}

fn breaker(clusters: u32) -> impl Strategy<Value = CircuitBreaker> {
    let mode =
        select(vec![BreakerMode::Automatic, BreakerMode::ForcedOpen, BreakerMode::ForcedClosed]);
    let response = (400..=599_u16, "[a-z]{0,9}").prop_map(|(status, body)| {
        Fallback::Response(FallbackResponse { status, content_type: "text/plain".to_owned(), body })
    });
    let to_cluster = cluster_id(clusters).prop_map(|id| id.map(Fallback::Backend));
    let fallback = prop_oneof![option::of(response), to_cluster];
    let numbers = (1..=100_u32, 1..100_u32, 1..100_000_u32, 0..100_000_u32);
    (mode, numbers, fallback).prop_map(
        |(mode, (error_percent, request_volume, window_ms, ramp_ms), fallback)| CircuitBreaker {
            mode,
            error_percent,
            request_volume,
            window_ms,
            sleep_ms: window_ms,
            ramp_ms,
            fallback,
        },
    )
}

fn hedging() -> impl Strategy<Value = HedgeAfter> {
    prop_oneof![
        (1..100_000_u32).prop_map(HedgeAfter::DelayMs),
        (50..=99_u32).prop_map(HedgeAfter::Percentile),
    ]
}

fn session(timeout_ms: u32) -> Session {
    let in_header = timeout_ms.is_multiple_of(2);
    Session {
        name: format!("x-session-{timeout_ms}"),
        in_header,
        absolute_timeout_ms: Some(timeout_ms),
        idle_timeout_ms: (timeout_ms.is_multiple_of(3)).then_some(timeout_ms),
        is_permanent: !in_header && timeout_ms.is_multiple_of(5),
    }
}

fn faults() -> impl Strategy<Value = Faults> {
    let share = || {
        (1..=DENOMINATOR_MAX).prop_flat_map(|denominator| {
            (0..=denominator).prop_map(move |numerator| Share { numerator, denominator })
        })
    };
    let kind = prop_oneof![Just(AbortKind::Reset), (400..=599_u16).prop_map(AbortKind::Status)];
    let delay =
        (1..100_000_u32, share()).prop_map(|(delay_ms, share)| FaultDelay { delay_ms, share });
    let abort = (kind, share()).prop_map(|(kind, share)| FaultAbort { kind, share });
    let bandwidth = (1..=BYTES_PER_S_MAX, share())
        .prop_map(|(bytes_per_s, share)| FaultBandwidth { bytes_per_s, share });
    let headers = vec(("x-[a-z]{1,6}", value()), 0..3);
    (headers, delay, option::of(abort), option::of(bandwidth)).prop_map(
        |(headers, delay, abort, bandwidth)| Faults {
            headers,
            delay: Some(delay),
            abort,
            bandwidth,
        },
    )
}

fn rate_limits() -> impl Strategy<Value = RateLimits> {
    let bits = (0..=32_u8, 0..=128_u8, 0..=16_u8);
    let key = prop_oneof![
        "[a-z]{1,8}".prop_map(LimitKey::Header),
        "[a-zA-Z]{1,8}".prop_map(LimitKey::Cookie),
        bits.prop_map(|(v4_bits, v6_bits, trusted_hops)| {
            LimitKey::SourceAddress(SourcePrefix { v4_bits, v6_bits, trusted_hops })
        }),
    ];
    let numbers = (1..1_000_u64, 1..100_000_u32, 1..1_000_u64, 1..1_000_u32);
    let flags = any::<(bool, bool)>();
    let limit = ("[a-z]{1,4}/[a-z-]{1,8}", "[a-z-]{1,8}", numbers, option::of(key), flags);
    let directions = [ByteDirection::Request, ByteDirection::Response, ByteDirection::Both];
    let ways = vec(select(directions.to_vec()), 0..3);
    (vec(limit, 0..3), ways).prop_map(|(limits, ways)| {
        let into_limit =
            |(name, label, (units, span_ms, burst, keys_max), key, (is_told, dry_run))| RateLimit {
                name,
                label,
                units,
                span_ms,
                burst,
                key,
                keys_max,
                is_told,
                dry_run,
            };
        let requests: Vec<RateLimit> = limits.into_iter().map(into_limit).collect();
        let bytes = requests.iter().cloned().zip(ways);
        let of_bytes = |(limit, direction): (RateLimit, _)| {
            let burst = 1_024 + limit.burst;
            ByteLimit { limit: RateLimit { burst, ..limit }, direction }
        };
        let bytes = bytes.map(of_bytes).collect();
        RateLimits { requests, connections: Vec::new(), bytes }
    })
}

fn action(clusters: u32) -> impl Strategy<Value = Action> {
    let backend = (cluster_id(clusters), 1..1000_u32, edits(), edits()).prop_map(
        |(cluster, weight, request_headers, response_headers)| WeightedBackend {
            cluster,
            weight,
            request_headers,
            response_headers,
            rate_limits: None,
        },
    );
    let status = select(vec![301, 302, 303, 307, 308]);
    let target = (option::of("https?"), option::of(host()), option::of(1..=u16::MAX));
    let redirect = (status, target, option::of(path_rewrite())).prop_map(
        |(status, (scheme, host, port), path)| Redirect { status, scheme, host, port, path },
    );
    prop_oneof![
        4 => vec(backend, 1..4).prop_map(Action::Forward),
        1 => redirect.prop_map(|redirect| Action::Redirect(Box::new(redirect))),
        1 => (400..=599_u16).prop_map(Action::Respond),
    ]
}

fn edits() -> impl Strategy<Value = HeaderEdits> {
    let name = || "x-[a-z]{1,6}";
    (vec((name(), value()), 0..3), vec((name(), value()), 0..3), vec(name(), 0..3))
        .prop_map(|(set, add, remove)| HeaderEdits { set, add, remove })
}

fn rewrite() -> impl Strategy<Value = Rewrite> {
    (option::of(host()), option::of(path_rewrite())).prop_map(|(host, path)| Rewrite { host, path })
}

fn path_rewrite() -> impl Strategy<Value = PathRewrite> {
    prop_oneof![
        path().prop_map(PathRewrite::Full),
        path().prop_map(PathRewrite::Prefix),
        Just(PathRewrite::Prefix(String::new())),
    ]
}

fn mirrors(clusters: u32) -> BoxedStrategy<Vec<Mirror>> {
    if clusters == 0 {
        return Just(Vec::new()).boxed();
    }
    let mirror = (0..clusters, 0..=100_u32).prop_map(|(cluster, numerator)| Mirror {
        cluster: ClusterId(cluster),
        numerator,
        denominator: 100,
    });
    vec(mirror, 0..2).boxed()
}

fn cors() -> impl Strategy<Value = Cors> {
    let origin = prop_oneof![
        Just("*".to_owned()),
        host().prop_map(|host| format!("https://{host}")),
        host().prop_map(|host| format!("http://*.{host}:8080")),
    ];
    let names = || vec("\\*|[a-z-]{1,8}", 0..3);
    (vec(origin, 0..3), any::<bool>(), vec("\\*|GET|PUT", 0..3), names(), names(), 0..100_000_u32)
        .prop_map(|(allow_origins, allow_credentials, methods, headers, exposed, max_age_s)| Cors {
            allow_origins,
            allow_credentials,
            allow_methods: methods,
            allow_headers: headers,
            expose_headers: exposed,
            max_age_s,
        })
}
