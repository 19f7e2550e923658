//! Rules of bulkheads.

use super::check_fits;
use crate::language::kinds::traffic_policy::TargetRef;
use crate::language::kinds::traffic_policy::bulkhead::Bulkhead;
use crate::language::rules::findings::Findings;
use crate::language::rules::spans::check_span;

pub(super) fn check_bulkhead(
    bulkhead: &Bulkhead,
    targets: &[TargetRef],
    findings: &mut Findings<'_>,
) {
    check_fits("bulkhead", |kind| kind == "Service", targets, findings);
    if *bulkhead == Bulkhead::default() {
        let help = "such as `maxConnections: 100`";
        findings.error_with_help("spec.bulkhead", "this bulkhead says nothing", help);
    }
    let (wait, path) = (bulkhead.queue_timeout.as_deref(), "spec.bulkhead.queueTimeout");
    check_span(wait, path, "queueTimeout", "so that nobody waits, say `maxPending: 0`", findings);
    if bulkhead.queue_timeout.is_some() && bulkhead.max_pending == Some(0) {
        let message = "nobody waits, so `queueTimeout` says nothing";
        findings.conflict("spec.bulkhead.queueTimeout", "spec.bulkhead.maxPending", message);
    }
    if let (Some(retries), Some(requests)) = (bulkhead.max_retries, bulkhead.max_requests)
        && retries > requests
    {
        let message = "`maxRetries` can't be more than `maxRequests`, which counts them too";
        findings.conflict("spec.bulkhead.maxRetries", "spec.bulkhead.maxRequests", message);
    }
}
