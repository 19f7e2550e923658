//! How what is called is treated: TrafficPolicies, looked up by what they are attached to.
//!
//! Field by field the closest word counts: what an HTTPRoute's rule says itself, the policy of that
//! rule, the policy of the route; then the policy of the service's port, then that of the service. A
//! target has one policy, so that nothing depends on an order among policies.

pub(crate) mod breaker;
mod bulkhead;
mod bytes;
mod faults;
mod health_check;
mod outlier;
mod overload;
pub(super) mod rate_limit;
pub(super) mod retry;

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use lateen_snapshot::limits::DURATION_MS_MAX;
use lateen_snapshot::model::aperture::Aperture;
use lateen_snapshot::model::proxy_protocol::ProxyVersion;
use lateen_snapshot::model::slow_start::SlowStart;
use lateen_snapshot::model::{Balancing, ClusterPolicy, HashKey, Hashing, PeakEwma, RoutePolicy};

use crate::compile::findings::Findings;
use crate::compile::objects::{Item, Objects};
use crate::compile::policy::bulkhead::caps_of;
use crate::compile::policy::bytes::warn_of_bytes;
use crate::compile::policy::rate_limit::{place_limits, rate_limits_of};
use crate::compile::references::{References, list_names, missing_service};
use crate::compile::services::Services;
use crate::compile::subsets::Subset;
use crate::language::diagnostic::Diagnostic;
use crate::language::kinds::traffic_policy::slow_start as written_slow_start;
use crate::language::kinds::traffic_policy::subset::SubsetFallback;
use crate::language::kinds::traffic_policy::{
    Hash, HashKeyType, LoadBalancing, LoadBalancingType, TargetRef, TrafficPolicySpec,
};
use crate::language::object::Declared;
use crate::language::schema::check::nearest;
use crate::language::text::duration_ms;

/// What an endpoint is taken to need before it has answered, and how long a latency is remembered.
/// Source: FEATURES, Defaults; Linkerd's.
const DEFAULT_RTT_MS: u32 = 30;
const RTT_DECAY_MS: u32 = 10_000;

/// Where fewer of the nearer endpoints are in service, others get the requests. Source: FEATURES; Kuma's.
const LOCALITY_FAILOVER_PERCENT: u8 = 50;

/// How the share of a new endpoint grows. Source: Envoy's.
const SLOW_START_AGGRESSION_PERCENT: u32 = 100;
const SLOW_START_MIN_PERCENT: u8 = 10;

/// How many endpoints a worker calls at least. Source: Finagle's `minDeterministicAperture`.
const APERTURE_ENDPOINTS: u32 = 12;

/// What policies say; `None`: nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Settings {
    pub(super) connect_timeout_ms: Option<u32>,
    pub(super) idle_timeout_ms: Option<u32>,
    pub(super) balancing: Option<Balancing>,
    /// Of a service whose requests stay near: with fewer percent in service they go further.
    pub(super) locality_percent: Option<u8>,
    /// Of a route.
    pub(super) subset: Option<Subset>,
    /// Of the endpoints of a service.
    pub(super) policy: ClusterPolicy,
    /// Of requests.
    pub(super) of_requests: RoutePolicy,
}

impl Settings {
    /// What is said here; what is not, as `other` says.
    pub(super) fn or(self, other: &Self) -> Self {
        Self {
            connect_timeout_ms: self.connect_timeout_ms.or(other.connect_timeout_ms),
            idle_timeout_ms: self.idle_timeout_ms.or(other.idle_timeout_ms),
            balancing: self.balancing.or_else(|| other.balancing.clone()),
            locality_percent: self.locality_percent.or(other.locality_percent),
            subset: self.subset.or_else(|| other.subset.clone()),
            policy: either_cluster(self.policy, &other.policy),
            of_requests: either(self.of_requests, &other.of_requests),
        }
    }
}

/// Field by field what `this` says; what it does not, as `other` says.
pub(super) fn either(this: RoutePolicy, other: &RoutePolicy) -> RoutePolicy {
    RoutePolicy {
        request_timeout_ms: this.request_timeout_ms.or(other.request_timeout_ms),
        backend_request_timeout_ms: this
            .backend_request_timeout_ms
            .or(other.backend_request_timeout_ms),
        retry: this.retry.or_else(|| other.retry.clone()),
        hedging: this.hedging.or(other.hedging),
        faults: this.faults.or_else(|| other.faults.clone()),
        session: this.session.or_else(|| other.session.clone()),
        rate_limits: this.rate_limits.or_else(|| other.rate_limits.clone()),
        circuit_breaker: this.circuit_breaker.or_else(|| other.circuit_breaker.clone()),
        priority: this.priority.or(other.priority),
    }
}

fn either_cluster(this: ClusterPolicy, other: &ClusterPolicy) -> ClusterPolicy {
    ClusterPolicy {
        // Of the cluster, not of a policy; as all those that are nothing here.
        part_of: None,
        retry_budget: this.retry_budget.or(other.retry_budget),
        proxy_protocol: this.proxy_protocol.or(other.proxy_protocol),
        connection_ms_max: this.connection_ms_max.or(other.connection_ms_max),
        panic_threshold_percent: this.panic_threshold_percent.or(other.panic_threshold_percent),
        slow_start: this.slow_start.or_else(|| other.slow_start.clone()),
        aperture: this.aperture.or(other.aperture),
        terminating: Vec::new(),
        // Of orders.
        ordered_out: Vec::new(),
        failover: None,
        bulkhead: this.bulkhead.or_else(|| other.bulkhead.clone()),
        outlier: this.outlier.or_else(|| other.outlier.clone()),
        health_check: this.health_check.or_else(|| other.health_check.clone()),
        overload: this.overload.or_else(|| other.overload.clone()),
    }
}

/// What a policy is attached to. Both kinds of Service are one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum TargetKind {
    Service,
    HttpRoute,
    TcpRoute,
}

type Target<'d> = (TargetKind, &'d str, &'d str, Option<&'d str>);

/// All policies.
#[derive(Debug, Default)]
pub(super) struct Policies<'d> {
    by_target: HashMap<Target<'d>, (Settings, &'d Declared, usize)>,
}

impl<'d> Policies<'d> {
    pub(super) fn collect(
        objects: &Objects<'d>,
        services: &Services<'d>,
        references: &References<'_, 'd>,
        findings: &mut Findings,
    ) -> Self {
        let routes = RouteNames::collect(objects);
        let mut policies = Self::default();
        for policy in &objects.policies {
            let settings = settings_of(policy, references, findings);
            for (index, reference) in policy.spec.target_refs.iter().enumerate() {
                let path = format!("spec.targetRefs[{index}]");
                check_target(policy, reference, &path, services, &routes, findings);
                policies.attach(policy, reference, index, &settings, findings);
            }
        }
        policies
    }

    fn attach(
        &mut self,
        policy: &Item<'d, TrafficPolicySpec>,
        reference: &'d TargetRef,
        index: usize,
        settings: &Settings,
        findings: &mut Findings,
    ) {
        let section = reference.section_name.as_deref();
        let target = (kind_of(reference), policy.namespace(), &*reference.name, section);
        match self.by_target.entry(target) {
            Entry::Vacant(free) => {
                let mut settings = settings.clone();
                place_limits(&mut settings.of_requests, policy.namespace(), reference);
                free.insert((settings, policy.declared, index));
            }
            Entry::Occupied(taken) => {
                let (_, first, first_index) = taken.get();
                let part = section.map(|name| format!(" (`{name}` of it)")).unwrap_or_default();
                let message = format!(
                    "the {} `{}`{part} has two TrafficPolicies",
                    reference.kind, reference.name
                );
                let place = policy.declared.place_of(&format!("spec.targetRefs[{index}].name"));
                let first_place = first.place_of(&format!("spec.targetRefs[{first_index}].name"));
                findings.push(
                    Diagnostic::error(message, place)
                        .with_label(format!("by the policy `{}`", policy.name()))
                        .with_related(first_place, format!("by the policy `{}`", first.key.name))
                        .with_help("put everything about one target into one policy"),
                );
            }
        }
    }

    /// The policy that is attached to an object, or to a named part of it.
    pub(super) fn policy_of(
        &self,
        kind: TargetKind,
        namespace: &str,
        name: &str,
        section: Option<&str>,
    ) -> Option<&'d Declared> {
        self.by_target.get(&(kind, namespace, name, section)).map(|found| found.1)
    }

    /// The policies about an object and a named part of it; the part's own comes first.
    pub(super) fn speakers(
        &self,
        kind: TargetKind,
        namespace: &str,
        name: &str,
        section: Option<&str>,
    ) -> Vec<&'d Declared> {
        let of = |section| self.policy_of(kind, namespace, name, section);
        let part = section.and_then(|section| of(Some(section)));
        part.into_iter().chain(of(None)).collect()
    }

    /// What is said about an object and a named part of it; the part's own policy comes first.
    pub(super) fn about(
        &self,
        kind: TargetKind,
        namespace: &str,
        name: &str,
        section: Option<&str>,
    ) -> Settings {
        if self.by_target.is_empty() {
            return Settings::default();
        }
        let of = |section| self.by_target.get(&(kind, namespace, name, section));
        let part = section.and_then(|section| of(Some(section)));
        let part = part.map(|found| found.0.clone()).unwrap_or_default();
        match of(None) {
            Some((whole, ..)) => part.or(whole),
            None => part,
        }
    }
}

fn kind_of(reference: &TargetRef) -> TargetKind {
    match reference.kind.as_str() {
        "HTTPRoute" => TargetKind::HttpRoute,
        "TCPRoute" => TargetKind::TcpRoute,
        _ => TargetKind::Service,
    }
}

/// The rules' names of each route.
struct RouteNames<'d> {
    rules: HashMap<(TargetKind, &'d str, &'d str), Vec<&'d str>>,
}

impl<'d> RouteNames<'d> {
    fn collect(objects: &Objects<'d>) -> Self {
        let mut rules = HashMap::new();
        if objects.policies.is_empty() {
            return Self { rules };
        }
        for route in &objects.http_routes {
            let names = route.spec.rules.iter().flatten().filter_map(|rule| rule.name.as_deref());
            rules.insert((TargetKind::HttpRoute, route.namespace(), route.name()), names.collect());
        }
        for route in &objects.tcp_routes {
            let names = route.spec.rules.iter().filter_map(|rule| rule.name.as_deref());
            rules.insert((TargetKind::TcpRoute, route.namespace(), route.name()), names.collect());
        }
        Self { rules }
    }
}

fn check_target(
    policy: &Item<'_, TrafficPolicySpec>,
    reference: &TargetRef,
    path: &str,
    services: &Services<'_>,
    routes: &RouteNames<'_>,
    findings: &mut Findings,
) {
    let (kind, namespace) = (kind_of(reference), policy.namespace());
    let (sections, what) = match kind {
        TargetKind::Service => match services.find(&reference.group, namespace, &reference.name) {
            Ok(service) => {
                warn_of_bytes(policy, reference, path, service, findings);
                let names = service.ports.iter().filter_map(|port| port.name);
                (names.collect::<Vec<&str>>(), "port")
            }
            Err(missing) => {
                let place = policy.declared.place_of(&format!("{path}.name"));
                return findings.push(missing_service(missing, namespace, &reference.name, place));
            }
        },
        TargetKind::HttpRoute | TargetKind::TcpRoute => {
            let Some(names) = routes.rules.get(&(kind, namespace, &reference.name)) else {
                let place = policy.declared.place_of(&format!("{path}.name"));
                let message = format!(
                    "there is no {} `{}` in the namespace `{namespace}`",
                    reference.kind, reference.name
                );
                let others = routes.rules.keys().filter(|key| key.0 == kind && key.1 == namespace);
                let near = nearest(&reference.name, others.map(|key| key.2));
                let diagnostic = Diagnostic::error(message, place);
                return findings.push(match near {
                    Some(near) => diagnostic.with_label(format!("did you mean `{near}`?")),
                    None => diagnostic.with_help("a policy is in the namespace of its targets"),
                });
            };
            (names.clone(), "rule")
        }
    };
    let Some(section) = reference.section_name.as_deref() else { return };
    if sections.contains(&section) {
        return;
    }
    let message = format!("the {} `{}` has no {what} `{section}`", reference.kind, reference.name);
    let place = policy.declared.place_of(&format!("{path}.sectionName"));
    let mut diagnostic = Diagnostic::error(message, place);
    if let Some(near) = nearest(section, sections.iter().copied()) {
        diagnostic = diagnostic.with_label(format!("did you mean `{near}`?"));
    }
    findings.push(diagnostic.with_help(list_names(&format!("its named {what}s"), &sections)));
}

fn settings_of(
    policy: &Item<'_, TrafficPolicySpec>,
    references: &References<'_, '_>,
    findings: &mut Findings,
) -> Settings {
    let written = policy.spec.timeouts.clone().unwrap_or_default();
    let mut time_limit = |text: Option<&str>, field: &str| {
        let path = format!("spec.timeouts.{field}");
        timeout_ms(policy.declared, text, &path, findings)
    };
    let longest = written.max_connection_duration.as_deref();
    let connection_ms_max = time_limit(longest, "maxConnectionDuration").map(never_is_long);
    let balancing = policy.spec.load_balancing.as_ref();
    Settings {
        connect_timeout_ms: time_limit(written.connect.as_deref(), "connect").map(never_is_long),
        idle_timeout_ms: time_limit(written.idle.as_deref(), "idle").map(never_is_long),
        policy: ClusterPolicy {
            part_of: None,
            retry_budget: policy.spec.retry_budget.as_ref().map(retry::budget_of),
            proxy_protocol: policy.spec.proxy_protocol.as_ref().map(|sent| match sent.version {
                1 => ProxyVersion::V1,
                _ => ProxyVersion::V2,
            }),
            connection_ms_max,
            panic_threshold_percent: balancing.and_then(|all| all.panic_threshold_percent),
            slow_start: balancing
                .and_then(|all| all.slow_start.as_ref())
                .map(|slow| Box::new(slow_start_of(slow))),
            aperture: balancing.and_then(|all| all.aperture.as_ref()).map(|written| Aperture {
                min_endpoints: written.min_endpoints.unwrap_or(APERTURE_ENDPOINTS),
            }),
            terminating: Vec::new(),
            ordered_out: Vec::new(),
            failover: None,
            bulkhead: policy.spec.bulkhead.as_ref().map(|caps| Box::new(caps_of(caps))),
            outlier: (policy.spec.outlier_detection.as_ref())
                .map(|written| Box::new(outlier::outlier_of(written))),
            health_check: (policy.spec.health_check.as_ref())
                .map(|written| Box::new(health_check::health_check_of(written))),
            overload: (policy.spec.overload.as_ref())
                .map(|written| Box::new(overload::overload_of(written))),
        },
        of_requests: RoutePolicy {
            request_timeout_ms: time_limit(written.request.as_deref(), "request"),
            backend_request_timeout_ms: time_limit(
                written.backend_request.as_deref(),
                "backendRequest",
            ),
            retry: policy.spec.retry.as_ref().map(retry::retry_of),
            hedging: policy.spec.hedging.as_ref().map(retry::hedging_of),
            faults: policy.spec.faults.as_ref().map(faults::faults_of),
            session: None,
            rate_limits: rate_limits_of(&policy.spec.rate_limits),
            circuit_breaker: (policy.spec.circuit_breaker.as_ref())
                .map(|of| Box::new(breaker::breaker_of(policy, of, references, findings))),
            priority: policy.spec.priority.map(overload::priority_of),
        },
        balancing: policy.spec.load_balancing.as_ref().map(balancing_of),
        locality_percent: balancing
            .and_then(|all| all.locality.as_ref())
            .map(|of| of.failover_threshold_percent.unwrap_or(LOCALITY_FAILOVER_PERCENT)),
        subset: policy.spec.subset.as_ref().map(|written| Subset {
            labels: written.labels.clone(),
            falls_back: written.fallback == SubsetFallback::Any,
        }),
    }
}

fn slow_start_of(written: &written_slow_start::SlowStart) -> SlowStart {
    // The language saw to it that it is more than 0.
    let window_ms = duration_ms(&written.window).unwrap_or(1);
    SlowStart {
        window_ms: window_ms.clamp(1, DURATION_MS_MAX.into()) as u32,
        aggression_percent: written.aggression_percent.unwrap_or(SLOW_START_AGGRESSION_PERCENT),
        min_percent: written.min_percent.unwrap_or(SLOW_START_MIN_PERCENT),
    }
}

fn balancing_of(written: &LoadBalancing) -> Balancing {
    match (written.r#type, &written.hash) {
        (LoadBalancingType::LeastRequest, _) => Balancing::LeastRequest,
        (LoadBalancingType::RoundRobin, _) => Balancing::RoundRobin,
        (LoadBalancingType::Random, _) => Balancing::Random,
        (LoadBalancingType::PeakEwma, _) => {
            let ewma = written.peak_ewma.as_ref();
            let span_ms = |text: Option<&String>, otherwise: u32| {
                let written = text.and_then(|text| duration_ms(text));
                // The language saw to it that it is more than 0.
                written.map_or(otherwise, |ms| ms.clamp(1, DURATION_MS_MAX.into()) as u32)
            };
            Balancing::PeakEwma(PeakEwma {
                default_rtt_ms: span_ms(
                    ewma.and_then(|ewma| ewma.default_rtt.as_ref()),
                    DEFAULT_RTT_MS,
                ),
                decay_ms: span_ms(ewma.and_then(|ewma| ewma.decay.as_ref()), RTT_DECAY_MS),
            })
        }
        (LoadBalancingType::RingHash, Some(hash)) => Balancing::RingHash(hashing_of(hash)),
        (LoadBalancingType::Maglev, Some(hash)) => Balancing::Maglev(hashing_of(hash)),
        (LoadBalancingType::RingHash | LoadBalancingType::Maglev, None) => {
            unreachable!("the language asks for what these hash")
        }
    }
}

fn hashing_of(hash: &Hash) -> Box<Hashing> {
    let keys = hash.keys.iter().map(|key| {
        let name = || key.name.clone().unwrap_or_default();
        match key.r#type {
            HashKeyType::Header => HashKey::Header(name().to_ascii_lowercase()),
            HashKeyType::Cookie => HashKey::Cookie(name()),
            HashKeyType::Query => HashKey::Query(name()),
            HashKeyType::Path => HashKey::Path,
            HashKeyType::SourceAddress => HashKey::SourceAddress,
        }
    });
    Box::new(Hashing { keys: keys.collect(), bound_percent: hash.bound_percent })
}

/// No limit: where the snapshot has no word for it, its longest one.
fn never_is_long(span_ms: u32) -> u32 {
    if span_ms == 0 { DURATION_MS_MAX } else { span_ms }
}

/// A duration as it stands in a field, within what a snapshot takes.
pub(super) fn timeout_ms(
    declared: &Declared,
    text: Option<&str>,
    path: &str,
    findings: &mut Findings,
) -> Option<u32> {
    let text = text?;
    let span_ms = duration_ms(text).and_then(|span_ms| u32::try_from(span_ms).ok());
    if let Some(span_ms) = span_ms.filter(|&span_ms| span_ms <= DURATION_MS_MAX) {
        return Some(span_ms);
    }
    let message = format!("a timeout of `{text}` is too long");
    findings.error_with_help(declared, path, message, "at most 30 days (`720h`); `0s` is no limit");
    None
}
