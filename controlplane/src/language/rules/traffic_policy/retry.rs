//! Rules of what is said about tries beyond the first.

use crate::language::kinds::traffic_policy::retry::{Retry, RetryCondition};
use crate::language::kinds::traffic_policy::{TargetRef, TrafficPolicySpec};
use crate::language::rules::findings::Findings;
use crate::language::rules::spans::{check_length, check_span};
use crate::language::rules::traffic_policy::check_fits;
use crate::language::text::duration_ms;

pub(super) fn check(
    policy: &TrafficPolicySpec,
    targets: &[TargetRef],
    findings: &mut Findings<'_>,
) {
    if policy.retry_budget.is_some() {
        check_fits("retryBudget", |kind| kind == "Service", targets, findings);
    }
    check_hedging(policy, targets, findings);
    let Some(retry) = &policy.retry else { return };
    check_fits("retry", |kind| kind != "TCPRoute", targets, findings);
    let is_said = retry.on.is_some()
        || retry.statuses.is_some()
        || retry.headers.is_some()
        || retry.backoff.is_some()
        || retry.non_idempotent.is_some();
    if retry.attempts == Some(0) && is_said {
        let message = "`attempts` is 0: nothing is tried again, so that the rest says nothing";
        findings.error_with_help(
            "spec.retry.attempts",
            message,
            "at least 1, or nothing beside it",
        );
    }
    let is_empty = retry.on.as_ref().is_some_and(Vec::is_empty)
        && retry.statuses.iter().flatten().next().is_none()
        && retry.headers.is_none();
    if is_empty && retry.attempts != Some(0) {
        let message = "`on` names nothing, and there are no `statuses` and no `headers`: nothing is tried again";
        let help = "name a condition, such as `ConnectFailure`; or `attempts: 0` alone, to say so";
        findings.error_with_help("spec.retry.on", message, help);
    }
    check_lists(retry, findings);
    let has_per_try = policy.timeouts.as_ref().is_some_and(|all| all.backend_request.is_some());
    if let Some(index) = position(retry, RetryCondition::PerTryTimeout)
        && !has_per_try
        && targets.iter().all(|target| target.kind == "Service")
    {
        let message = "there is no limit for a single try that could pass";
        let path = format!("spec.retry.on[{index}]");
        findings.error_with_help(&path, message, "give the policy `timeouts.backendRequest`");
    }
    let backoff = retry.backoff.as_ref();
    let base = backoff.and_then(|backoff| backoff.base.as_deref());
    let most = backoff.and_then(|backoff| backoff.max.as_deref());
    check_span(base, "spec.retry.backoff.base", "base", "at least `1ms`", findings);
    check_length(most, "spec.retry.backoff.max", "max", findings);
    let (base_ms, most_ms) = (base.map(duration_ms), most.map(duration_ms));
    match (base_ms, most_ms) {
        (Some(Some(base_ms)), Some(Some(most_ms))) if most_ms < base_ms => findings.conflict(
            "spec.retry.backoff.max",
            "spec.retry.backoff.base",
            "`max` can't be shorter than `base`",
        ),
        (None, Some(Some(0..25))) => findings.error_with_help(
            "spec.retry.backoff.max",
            "`max` is shorter than `base`, which is `25ms`",
            "give it a `base` too",
        ),
        _ => {}
    }
}

fn check_hedging(policy: &TrafficPolicySpec, targets: &[TargetRef], findings: &mut Findings<'_>) {
    let Some(hedging) = &policy.hedging else { return };
    check_fits("hedging", |kind| kind != "TCPRoute", targets, findings);
    if hedging.percentile.is_some() && hedging.delay.is_some() {
        let message = "`delay` and `percentile` both say when";
        findings.conflict("spec.hedging.delay", "spec.hedging.percentile", message);
    }
    check_length(hedging.delay.as_deref(), "spec.hedging.delay", "delay", findings);
    let Some(delay_ms) = hedging.delay.as_deref().and_then(duration_ms) else { return };
    if delay_ms == 0 {
        let message = "a `delay` of 0 would send every request twice";
        findings.error_with_help("spec.hedging.delay", message, "at least `1ms`");
    }
    let timeouts = policy.timeouts.iter();
    let limits = timeouts.flat_map(|timeouts| {
        [("request", &timeouts.request), ("backendRequest", &timeouts.backend_request)]
    });
    for (field, limit) in limits {
        let limit_ms = limit.as_deref().and_then(duration_ms).filter(|&limit_ms| limit_ms > 0);
        if limit_ms.is_some_and(|limit_ms| limit_ms <= delay_ms) {
            findings.conflict(
                "spec.hedging.delay",
                &format!("spec.timeouts.{field}"),
                format!(
                    "`delay` must be shorter than `timeouts.{field}`: the request is over then"
                ),
            );
        }
    }
}

fn check_lists(retry: &Retry, findings: &mut Findings<'_>) {
    let conditions = retry.on.iter().flatten().enumerate();
    findings.unique(
        "the condition",
        conditions.map(|(index, condition)| {
            (format!("spec.retry.on[{index}]"), format!("{condition:?}"), format!("{condition:?}"))
        }),
    );
    let statuses = retry.statuses.iter().flatten().enumerate();
    findings.unique(
        "the status",
        statuses.map(|(index, status)| {
            (format!("spec.retry.statuses[{index}]"), *status, status.to_string())
        }),
    );
}

fn position(retry: &Retry, condition: RetryCondition) -> Option<usize> {
    retry.on.as_ref()?.iter().position(|one| *one == condition)
}
