//! Rules of what is said about turning requests away.

use super::check_fits;
use crate::language::kinds::traffic_policy::overload::{Concurrency, QueueDelay};
use crate::language::kinds::traffic_policy::{TargetRef, TrafficPolicySpec};
use crate::language::rules::findings::Findings;
use crate::language::rules::spans::check_span;
use crate::language::text::duration_ms;

/// What `target` and `interval` are unless they are written.
const TARGET_MS: u64 = 5;
const INTERVAL_MS: u64 = 100;

pub(super) fn check(
    policy: &TrafficPolicySpec,
    targets: &[TargetRef],
    findings: &mut Findings<'_>,
) {
    if policy.priority.is_some() {
        check_fits("priority", |kind| kind != "TCPRoute", targets, findings);
    }
    let Some(overload) = &policy.overload else { return };
    check_fits("overload", |kind| kind == "Service", targets, findings);
    if let Some(delay) = &overload.queue_delay {
        check_delay(delay, findings);
    }
    if let Some(bounds) = &overload.concurrency {
        check_concurrency(bounds, policy, findings);
    }
}

fn check_delay(delay: &QueueDelay, findings: &mut Findings<'_>) {
    let (target, interval) = (delay.target.as_deref(), delay.interval.as_deref());
    let path = |field: &str| format!("spec.overload.queueDelay.{field}");
    check_span(target, &path("target"), "target", "at least `1ms`", findings);
    check_span(interval, &path("interval"), "interval", "at least `1ms`", findings);
    let ms = |text: Option<&str>| text.and_then(duration_ms);
    match (ms(target), ms(interval)) {
        (Some(target_ms), Some(interval_ms @ 1..)) if interval_ms < target_ms => findings.conflict(
            &path("interval"),
            &path("target"),
            "`interval` can't be shorter than `target`",
        ),
        (None, Some(1..TARGET_MS)) => findings.error_with_help(
            &path("interval"),
            "`interval` is shorter than `target`, which is `5ms`",
            "give it a `target` too",
        ),
        (Some(target_ms), None) if target_ms > INTERVAL_MS => findings.error_with_help(
            &path("target"),
            "`target` is longer than `interval`, which is `100ms`",
            "give it an `interval` too",
        ),
        _ => {}
    }
}

fn check_concurrency(
    bounds: &Concurrency,
    policy: &TrafficPolicySpec,
    findings: &mut Findings<'_>,
) {
    let (least, most) = ("spec.overload.concurrency.minimum", "spec.overload.concurrency.maximum");
    match (bounds.minimum, bounds.maximum) {
        (Some(minimum), Some(maximum)) if maximum < minimum => {
            findings.conflict(most, least, "`maximum` can't be less than `minimum`");
        }
        (None, Some(maximum @ 1)) => {
            let message = format!("`maximum` is {maximum}, less than `minimum`, which is 2");
            findings.error_with_help(most, message, "give it a `minimum` too");
        }
        _ => {}
    }
    let max_requests = policy.bulkhead.as_ref().and_then(|bulkhead| bulkhead.max_requests);
    if let (Some(minimum), Some(max_requests)) = (bounds.minimum, max_requests)
        && max_requests < minimum
    {
        let message = "the bulkhead's `maxRequests` is less than `minimum`, and holds as well";
        findings.conflict(least, "spec.bulkhead.maxRequests", message);
    }
}
