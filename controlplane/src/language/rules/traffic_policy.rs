//! Rules of a TrafficPolicy.

use crate::language::kinds::traffic_policy::{TargetRef, Timeouts, TrafficPolicySpec};
use crate::language::rules::findings::Findings;
use crate::language::text::duration_ms;

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
    if policy.timeouts.is_none() && policy.load_balancing.is_none() {
        let help = "give it `timeouts` or `loadBalancing`";
        findings.error_with_help("spec", "this policy says nothing", help);
    }
    if policy.load_balancing.is_some() {
        check_fits("loadBalancing", |kind| kind == "Service", targets, findings);
    }
    if let Some(timeouts) = &policy.timeouts {
        check_timeouts(timeouts, targets, findings);
    }
}

fn check_timeouts(timeouts: &Timeouts, targets: &[TargetRef], findings: &mut Findings<'_>) {
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
