//! Rules of a TrafficPolicy's `healthCheck`.

use lateen_snapshot::limits::CHECK_INTERVAL_MS_LEAST;

use crate::language::kinds::traffic_policy::health_check::{HealthCheck, HealthCheckType};
use crate::language::rules::findings::Findings;
use crate::language::rules::spans::{check_length, check_span};
use crate::language::text::duration_ms;

pub(super) fn check_health_check(check: &HealthCheck, findings: &mut Findings<'_>) {
    let ms = |text: &Option<String>| text.as_deref().and_then(duration_ms);
    if ms(&check.interval).is_some_and(|ms| ms < CHECK_INTERVAL_MS_LEAST.into()) {
        let message = "endpoints can't be checked so often";
        let help = format!("at least every `{CHECK_INTERVAL_MS_LEAST}ms`");
        findings.error_with_help("spec.healthCheck.interval", message, help);
    }
    let (interval, timeout) = ("spec.healthCheck.interval", "spec.healthCheck.timeout");
    check_length(check.interval.as_deref(), interval, "interval", findings);
    check_span(check.timeout.as_deref(), timeout, "timeout", "at least `1ms`", findings);
    let Some(http) = &check.http else { return };
    if check.r#type != HealthCheckType::Http {
        let message = "`http` says nothing for the type `TCP`";
        findings.conflict("spec.healthCheck.http", "spec.healthCheck.type", message);
    }
    for (index, range) in http.expected_statuses.iter().flatten().enumerate() {
        if range.from > range.to {
            let path = format!("spec.healthCheck.http.expectedStatuses[{index}]");
            let message = format!("no status is from {} to {}", range.from, range.to);
            findings.error_with_help(&path, message, "`from` is the lower one");
        }
    }
}
