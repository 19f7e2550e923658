//! Each setting: who says it, and what comes of that.
//!
//! Before: everyone who may say something about a rule is known, the closest first. After: a list for
//! people and programs. How a setting is settled stands in a table; a field that a policy has and the table
//! has not fails a test.

use gateway_api::apis::experimental::httproutes::HttpRouteRules;
use serde_json::{Map, Value as Json, json};

use crate::compile::http_rules::longest;
use crate::compile::in_force::{Level, Said, Setting, Standing, Target};
use crate::compile::policy::{Settings, TargetKind};
use crate::language::kinds::traffic_policy::TrafficPolicySpec;

/// How words about a setting come to one.
#[derive(Clone, Copy)]
pub(super) enum Merge {
    /// The rule's and the route's alone.
    OfRoute,
    /// Each backend's own, whatever a route says: it is about the connections to it.
    OfBackend,
    /// The route's, else the parent's, else each backend's own.
    OfEachBackend,
    /// The route's, else the parent's, else what all backends have alike.
    Unanimous(fn(&Settings, &Settings) -> bool),
    /// The route's, else the parent's, else the longest of the backends'.
    Longest(fn(&Settings) -> Option<u32>),
}

use Merge::{Longest, OfBackend, OfEachBackend, OfRoute, Unanimous};

/// Settings of an HTTPRoute's rules, in the order in which they are told.
pub(super) const OF_HTTP: &[(&str, Merge)] = &[
    ("timeouts.request", Longest(|of| of.of_requests.request_timeout_ms)),
    ("timeouts.backendRequest", Longest(|of| of.of_requests.backend_request_timeout_ms)),
    ("timeouts.connect", OfBackend),
    ("timeouts.maxConnectionDuration", OfBackend),
    ("retry", Unanimous(|one, other| one.of_requests.retry == other.of_requests.retry)),
    ("retryBudget", OfBackend),
    ("hedging", Unanimous(|one, other| one.of_requests.hedging == other.of_requests.hedging)),
    ("rateLimits", OfEachBackend),
    (
        "circuitBreaker",
        Unanimous(|one, other| {
            one.of_requests.circuit_breaker == other.of_requests.circuit_breaker
        }),
    ),
    ("priority", Unanimous(|one, other| one.of_requests.priority == other.of_requests.priority)),
    ("faults", Unanimous(|one, other| one.of_requests.faults == other.of_requests.faults)),
    ("sessionPersistence", OfRoute),
    ("subset", OfRoute),
];

/// The same for a TCPRoute. What is about requests means nothing to it.
pub(super) const OF_TCP: &[(&str, Merge)] = &[
    ("timeouts.idle", Longest(|of| of.idle_timeout_ms)),
    ("timeouts.connect", OfBackend),
    ("timeouts.maxConnectionDuration", OfEachBackend),
    ("rateLimits", OfEachBackend),
    ("subset", OfRoute),
];

/// And of both: what is about the endpoints of each backend.
pub(super) const OF_ENDPOINTS: &[(&str, Merge)] = &[
    ("loadBalancing.type", OfBackend),
    ("loadBalancing.panicThresholdPercent", OfBackend),
    ("loadBalancing.slowStart", OfBackend),
    ("loadBalancing.aperture", OfBackend),
    ("loadBalancing.locality", OfBackend),
    ("outlierDetection", OfBackend),
    ("healthCheck", OfBackend),
    ("bulkhead", OfBackend),
    ("overload", OfBackend),
    ("proxyProtocol", OfBackend),
];

/// Whoever says something about a rule.
pub(super) struct Speaker {
    level: Level,
    policy: Option<String>,
    target: Target,
    values: Map<String, Json>,
}

impl Speaker {
    /// A rule of an HTTPRoute.
    pub(super) fn of_rule(rule: &HttpRouteRules, target: Target) -> Self {
        let mut values = Map::new();
        let timeouts = rule.timeouts.as_ref();
        let mut put = |name: &str, value: Option<Json>| {
            if let Some(value) = value {
                values.insert(name.to_owned(), value);
            }
        };
        put("timeouts.request", timeouts.and_then(|of| of.request.clone()).map(Json::from));
        let backend_request = timeouts.and_then(|of| of.backend_request.clone());
        put("timeouts.backendRequest", backend_request.map(Json::from));
        put("retry", rule.retry.as_ref().map(|retry| json!(retry)));
        let session = rule.session_persistence.as_ref();
        put("sessionPersistence", session.map(|session| json!(session)));
        Self { level: Level::Rule, policy: None, target, values }
    }

    /// A policy.
    pub(super) fn of_policy(
        spec: &TrafficPolicySpec,
        policy: &str,
        level: Level,
        target: Target,
    ) -> Self {
        Self { level, policy: Some(policy.to_owned()), target, values: values_of(spec) }
    }

    fn says(&self, setting: &str, standing: Standing) -> Option<Said> {
        Some(Said {
            value: self.values.get(setting)?.clone(),
            level: self.level,
            policy: self.policy.clone(),
            target: self.target.clone(),
            standing,
        })
    }
}

/// What of a policy is about requests, and means nothing for bytes: by field.
pub(in crate::compile) fn of_requests_alone(spec: &TrafficPolicySpec) -> Vec<String> {
    let values = values_of(spec);
    let is_of_bytes = |name: &str| OF_TCP.iter().any(|(of_tcp, _)| *of_tcp == name);
    let settings = OF_HTTP.iter().map(|(name, _)| *name);
    let said = settings.filter(|name| values.contains_key(*name) && !is_of_bytes(name));
    let limits = spec.rate_limits.iter().enumerate().filter(|(_, limit)| limit.requests.is_some());
    let limits = limits.map(|(index, _)| format!("rateLimits[{index}].requests"));
    said.map(str::to_owned).chain(limits).collect()
}

/// What a policy says, by setting.
pub fn values_of(spec: &TrafficPolicySpec) -> Map<String, Json> {
    let Json::Object(fields) = json!(spec) else { return Map::new() };
    let mut values = Map::new();
    for (name, value) in fields {
        match (&*name, value) {
            ("targetRefs", _) => {}
            ("timeouts" | "loadBalancing", Json::Object(parts)) => {
                let parts = if name == "timeouts" { parts } else { with_type(parts) };
                let parts = parts.into_iter();
                values.extend(parts.map(|(part, value)| (format!("{name}.{part}"), value)));
            }
            (_, value) => {
                values.insert(name, value);
            }
        }
    }
    values
}

/// How an endpoint is chosen is one setting: what is hashed, and how latency is remembered, go with the
/// type.
fn with_type(mut parts: Map<String, Json>) -> Map<String, Json> {
    let mut whole = Map::new();
    for part in ["type", "peakEwma", "hash"] {
        if let Some(value) = parts.remove(part) {
            whole.insert(part.to_owned(), value);
        }
    }
    let kind = match (whole.len(), whole.get("type")) {
        (1, Some(kind)) => kind.clone(),
        _ => Json::Object(whole),
    };
    parts.insert("type".to_owned(), kind);
    parts
}

/// A backend of a rule.
pub(super) struct Backend {
    pub(super) name: String,
    pub(super) words: Vec<Speaker>,
    /// The same as the compiler has them.
    pub(super) compiled: Settings,
}

/// All who may say something about a rule, where it is reached from one parent.
pub(super) struct Way<'a> {
    pub(super) kind: TargetKind,
    pub(super) own: &'a [Speaker],
    pub(super) parent: &'a [Speaker],
    pub(super) backends: &'a [Backend],
}

/// Every setting that someone says.
pub(super) fn settle(way: &Way<'_>) -> Vec<Setting> {
    let table = match way.kind {
        TargetKind::TcpRoute => OF_TCP,
        _ => OF_HTTP,
    };
    table
        .iter()
        .chain(OF_ENDPOINTS)
        .flat_map(|&(setting, merge)| way.settle(setting, merge))
        .collect()
}

impl Way<'_> {
    fn settle(&self, setting: &str, merge: Merge) -> Vec<Setting> {
        let of_backend = |backend: &Backend| {
            let said = self.words(&backend.words, setting, false).0;
            told(setting, Some(&backend.name), said)
        };
        if matches!(merge, OfBackend) {
            return self.backends.iter().filter_map(of_backend).collect();
        }
        let (mut said, mut is_said) = self.words(self.own, setting, false);
        if matches!(merge, OfRoute) {
            return told(setting, None, said).into_iter().collect();
        }
        let (of_parent, parent_says) = self.words(self.parent, setting, is_said);
        said.extend(of_parent);
        is_said |= parent_says;
        if matches!(merge, OfEachBackend) && !is_said {
            let alone = told(setting, None, said);
            return alone.into_iter().chain(self.backends.iter().filter_map(of_backend)).collect();
        }
        for (index, backend) in self.backends.iter().enumerate() {
            let (mut words, says) = self.words(&backend.words, setting, is_said);
            if let (true, Some(first)) = (says, words.first_mut()) {
                first.standing = self.among_backends(index, merge);
            }
            said.extend(words);
        }
        told(setting, None, said).into_iter().collect()
    }

    /// What some who override each other say, the closest first, and whether one of them counts. None
    /// does with `is_said`: someone closer counts.
    fn words(&self, of: &[Speaker], setting: &str, is_said: bool) -> (Vec<Said>, bool) {
        let mut said: Vec<Said> =
            of.iter().filter_map(|one| one.says(setting, Standing::Overridden)).collect();
        let Some(first) = said.first_mut().filter(|_| !is_said) else { return (said, false) };
        let is_for_it = self.kind != TargetKind::TcpRoute
            || setting != "rateLimits"
            || limits_connections(&first.value);
        first.standing = if is_for_it { Standing::InForce } else { Standing::NotForTcp };
        (said, is_for_it)
    }

    /// What the word of a backend comes to beside those of the others, where nobody closer says anything.
    fn among_backends(&self, index: usize, merge: Merge) -> Standing {
        let all = || self.backends.iter().map(|backend| &backend.compiled);
        match merge {
            Unanimous(is_same) => {
                match all().all(|other| is_same(other, &self.backends[index].compiled)) {
                    true => Standing::InForce,
                    false => Standing::Differs,
                }
            }
            Longest(limit) => {
                let limits: Vec<Option<u32>> = all().map(limit).collect();
                match longest(&limits).0 {
                    None => Standing::Differs,
                    agreed if agreed == limits[index] => Standing::InForce,
                    Some(_) => Standing::Shorter,
                }
            }
            OfRoute | OfBackend | OfEachBackend => Standing::InForce,
        }
    }
}

fn limits_connections(limits: &Json) -> bool {
    let counts = |limit: &Json| ["connections", "bytes"].iter().any(|of| limit.get(of).is_some());
    limits.as_array().is_some_and(|all| all.iter().any(counts))
}

fn told(setting: &str, backend: Option<&str>, said: Vec<Said>) -> Option<Setting> {
    if said.is_empty() {
        return None;
    }
    let counts = said.iter().find(|said| said.standing == Standing::InForce);
    Some(Setting {
        setting: setting.to_owned(),
        backend: backend.map(str::to_owned),
        value: counts.map_or(Json::Null, |said| said.value.clone()),
        said,
    })
}
