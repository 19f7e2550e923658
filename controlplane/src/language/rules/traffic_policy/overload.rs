//! Rules of what is said about turning requests away.

use super::check_fits;
use crate::language::kinds::traffic_policy::bulkhead::Bulkhead;
use crate::language::kinds::traffic_policy::overload::{Concurrency, Overload, QueueDelay};
use crate::language::kinds::traffic_policy::{TargetRef, TrafficPolicySpec};
use crate::language::rules::findings::Findings;
use crate::language::rules::spans::check_span;
use crate::language::text::duration_ms;

/// What `target` and `interval` are unless they are written.
const TARGET_MS: u64 = 5;
const INTERVAL_MS: u64 = 100;
/// What a bulkhead's `queueTimeout` is unless it is written.
const QUEUE_TIMEOUT_MS: u64 = 3_000;

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
    let has_no_queue = policy.bulkhead.as_ref().is_some_and(|of| of.max_pending == Some(0));
    if has_no_queue && *overload == Overload::default() {
        let message = "nobody waits, so `overload` says nothing without `concurrency`";
        findings.conflict("spec.overload", "spec.bulkhead.maxPending", message);
    }
    if let Some(delay) = &overload.queue_delay {
        check_delay(delay, findings);
        check_queue(delay, policy.bulkhead.as_ref(), findings);
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

/// There is a queue, and who is in it may wait for as long as the delay.
fn check_queue(delay: &QueueDelay, bulkhead: Option<&Bulkhead>, findings: &mut Findings<'_>) {
    if bulkhead.is_some_and(|bulkhead| bulkhead.max_pending == Some(0)) {
        let message = "nobody waits, so `queueDelay` says nothing";
        return findings.conflict("spec.overload.queueDelay", "spec.bulkhead.maxPending", message);
    }
    let wait = bulkhead.and_then(|bulkhead| bulkhead.queue_timeout.as_deref());
    let (wait_ms, target_ms) =
        (wait.and_then(duration_ms), delay.target.as_deref().and_then(duration_ms));
    let (wait_at, target_at) = ("spec.bulkhead.queueTimeout", "spec.overload.queueDelay.target");
    match (wait_ms, target_ms) {
        (Some(wait_ms @ 1..), Some(target_ms)) if wait_ms < target_ms => {
            let message = "`target` can't be longer than `queueTimeout`: nobody waits for so long";
            findings.conflict(target_at, wait_at, message);
        }
        (Some(1..TARGET_MS), None) => findings.error_with_help(
            wait_at,
            "`queueTimeout` is shorter than `overload.queueDelay.target`, which is `5ms`",
            "give the delay a `target` too",
        ),
        (None, Some(target_ms)) if target_ms > QUEUE_TIMEOUT_MS => findings.error_with_help(
            target_at,
            "`target` is longer than `bulkhead.queueTimeout`, which is `3s`",
            "give the bulkhead a `queueTimeout` too",
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
