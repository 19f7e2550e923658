//! Rules of a TrafficPolicy.

mod breaker;
mod bulkhead;
mod faults;
mod health_check;
mod outlier;
mod overload;
mod rate_limit;
mod retry;
mod subset;

use crate::language::kinds::traffic_policy::{
    HashKey, HashKeyType, LoadBalancing, LoadBalancingType, TargetRef, Timeouts, TrafficPolicySpec,
};
use crate::language::rules::findings::Findings;
use crate::language::rules::spans::check_span;
use crate::language::text::{duration_ms, is_token};

pub(super) fn check(policy: &TrafficPolicySpec, findings: &mut Findings<'_>) {
    let targets = &policy.target_refs;
    let keys = targets.iter().enumerate().map(|(index, target)| {
        let key = (&target.group, &target.kind, &target.name, &target.section_name);
        (format!("spec.targetRefs[{index}].name"), key, target.name.clone())
    });
    findings.unique("the target", keys);
    for (index, target) in targets.iter().enumerate() {
        let is_route = target.kind != "Service";
        if is_route != (target.group == "gateway.networking.k8s.io") {
            let message = format!("there is no {} in the group `{}`", target.kind, target.group);
            let help = match is_route {
                true => "the group of routes is `gateway.networking.k8s.io`",
                false => "the group of a Service is `lateen.dev`, or `\"\"` for one of Kubernetes",
            };
            findings.error_with_help(&format!("spec.targetRefs[{index}].group"), message, help);
        }
    }
    let nothing = TrafficPolicySpec { target_refs: targets.clone(), ..Default::default() };
    if *policy == nothing {
        let help = "give it `timeouts`, `loadBalancing`, `retry` or another setting";
        findings.error_with_help("spec", "this policy says nothing", help);
    }
    if let Some(balancing) = &policy.load_balancing {
        check_fits("loadBalancing", |kind| kind == "Service", targets, findings);
        check_balancing(balancing, findings);
    }
    if let Some(detection) = &policy.outlier_detection {
        check_fits("outlierDetection", |kind| kind == "Service", targets, findings);
        outlier::check_outlier(detection, findings);
    }
    if let Some(check) = &policy.health_check {
        check_fits("healthCheck", |kind| kind == "Service", targets, findings);
        health_check::check_health_check(check, findings);
    }
    if let Some(breaker) = &policy.circuit_breaker {
        check_fits("circuitBreaker", |kind| kind != "TCPRoute", targets, findings);
        breaker::check_breaker(breaker, findings);
    }
    if let Some(timeouts) = &policy.timeouts {
        check_timeouts(timeouts, targets, findings);
    }
    retry::check(policy, targets, findings);
    if let Some(faults) = &policy.faults {
        faults::check(faults, policy.timeouts.as_ref(), targets, findings);
    }
    if let Some(subset) = &policy.subset {
        subset::check(subset, targets, findings);
    }
    if policy.proxy_protocol.is_some() {
        check_fits("proxyProtocol", |kind| kind == "Service", targets, findings);
    }
    if let Some(bulkhead) = &policy.bulkhead {
        bulkhead::check_bulkhead(bulkhead, targets, findings);
    }
    rate_limit::check_rate_limits(&policy.rate_limits, targets, findings);
    overload::check(policy, targets, findings);
}

fn check_balancing(balancing: &LoadBalancing, findings: &mut Findings<'_>) {
    let kind = balancing.r#type;
    if balancing.peak_ewma.is_some() && kind != LoadBalancingType::PeakEwma {
        let message = format!("`peakEwma` says nothing for the type `{kind:?}`");
        findings.conflict("spec.loadBalancing.peakEwma", "spec.loadBalancing.type", message);
    }
    for (field, text) in balancing.peak_ewma.iter().flat_map(|ewma| {
        [("defaultRtt", ewma.default_rtt.as_deref()), ("decay", ewma.decay.as_deref())]
    }) {
        let path = format!("spec.loadBalancing.peakEwma.{field}");
        check_span(text, &path, field, "at least `1ms`", findings);
    }
    let is_hashed = matches!(kind, LoadBalancingType::RingHash | LoadBalancingType::Maglev);
    if let Some(slow) = &balancing.slow_start {
        if is_hashed {
            let message = format!("`slowStart` says nothing for the type `{kind:?}`: keys decide");
            findings.conflict("spec.loadBalancing.slowStart", "spec.loadBalancing.type", message);
        }
        let path = "spec.loadBalancing.slowStart.window";
        check_span(Some(&slow.window), path, "window", "at least `1ms`", findings);
    }
    if balancing.aperture.is_some() && (is_hashed || kind == LoadBalancingType::Random) {
        let why = if is_hashed { "keys decide" } else { "chance alone decides" };
        let message = format!(
            "`aperture` is for the types `LeastRequest`, `PeakEwma` and `RoundRobin`; with `{kind:?}` {why}"
        );
        findings.conflict("spec.loadBalancing.aperture", "spec.loadBalancing.type", message);
    }
    match &balancing.hash {
        None if is_hashed => {
            let message = format!("the type `{kind:?}` needs `hash`");
            let help = "say what of a request decides, such as `hash: {keys: [{type: Header, name: x-user}]}`";
            findings.error_with_help("spec.loadBalancing", message, help);
        }
        Some(_) if !is_hashed => {
            let message = format!("`hash` says nothing for the type `{kind:?}`");
            findings.conflict("spec.loadBalancing.hash", "spec.loadBalancing.type", message);
        }
        Some(hash) => check_keys(&hash.keys, findings),
        None => {}
    }
}

fn check_keys(keys: &[HashKey], findings: &mut Findings<'_>) {
    let path = |index: usize| format!("spec.loadBalancing.hash.keys[{index}]");
    for (index, key) in keys.iter().enumerate() {
        let has_name =
            matches!(key.r#type, HashKeyType::Header | HashKeyType::Cookie | HashKeyType::Query);
        match &key.name {
            None if has_name => {
                let message = format!("a key of the type `{:?}` needs a `name`", key.r#type);
                findings.error(&path(index), message);
            }
            Some(_) if !has_name => {
                let message = format!("a key of the type `{:?}` has no `name`", key.r#type);
                let (at, of) = (format!("{}.name", path(index)), format!("{}.type", path(index)));
                findings.conflict(&at, &of, message);
            }
            Some(name) if key.r#type != HashKeyType::Query && !is_token(name) => {
                let message = format!("`{name}` can't be the name of a header field or a cookie");
                let help = "letters, digits and !#$%&'*+-.^_`|~";
                findings.error_with_help(&format!("{}.name", path(index)), message, help);
            }
            _ => {}
        }
    }
    let each = keys.iter().enumerate().map(|(index, key)| {
        let lower = key.name.as_ref().map(|name| match key.r#type {
            HashKeyType::Header => name.to_ascii_lowercase(),
            _ => name.clone(),
        });
        (
            format!("{}.type", path(index)),
            (format!("{:?}", key.r#type), lower),
            format!("{:?}", key.r#type),
        )
    });
    findings.unique("the key", each);
}

fn check_timeouts(timeouts: &Timeouts, targets: &[TargetRef], findings: &mut Findings<'_>) {
    if *timeouts == Timeouts::default() {
        let help =
            "give it `request`, `backendRequest`, `connect` or another time, or leave it out";
        findings.error_with_help("spec.timeouts", "`timeouts` says nothing", help);
    }
    if timeouts.connect.is_some() {
        check_fits("timeouts.connect", |kind| kind == "Service", targets, findings);
    }
    if timeouts.request.is_some() {
        check_fits("timeouts.request", |kind| kind != "TCPRoute", targets, findings);
    }
    if timeouts.backend_request.is_some() {
        check_fits("timeouts.backendRequest", |kind| kind != "TCPRoute", targets, findings);
    }
    if timeouts.idle.is_some() {
        check_fits("timeouts.idle", |kind| kind != "HTTPRoute", targets, findings);
    }
    if timeouts.max_connection_duration.is_some() {
        let field = "timeouts.maxConnectionDuration";
        check_fits(field, |kind| kind != "HTTPRoute", targets, findings);
    }
    let ms = |text: &Option<String>| text.as_deref().and_then(duration_ms);
    if let (Some(request_ms), Some(backend_ms)) =
        (ms(&timeouts.request), ms(&timeouts.backend_request))
        && request_ms != 0
        && backend_ms > request_ms
    {
        findings.conflict(
            "spec.timeouts.backendRequest",
            "spec.timeouts.request",
            "`backendRequest` can't be longer than `request`, which includes it",
        );
    }
}

/// A field that means something for every target.
fn check_fits(
    field: &str,
    fits: impl Fn(&str) -> bool,
    targets: &[TargetRef],
    findings: &mut Findings<'_>,
) {
    let Some(index) = targets.iter().position(|target| !fits(&target.kind)) else { return };
    let message = format!("`{field}` means nothing for the target {}", targets[index].kind);
    let target_path = format!("spec.targetRefs[{index}].kind");
    findings.conflict(&format!("spec.{field}"), &target_path, message);
}
