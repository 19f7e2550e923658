//! Rules of a TrafficPolicy's `outlierDetection`.

use lateen_snapshot::limits::EJECTION_INTERVAL_MS_LEAST;

use crate::language::kinds::traffic_policy::outlier::OutlierDetection;
use crate::language::rules::findings::Findings;
use crate::language::rules::spans::{check_length, check_span};
use crate::language::text::duration_ms;

pub(super) fn check_outlier(detection: &OutlierDetection, findings: &mut Findings<'_>) {
    let ms = |text: &Option<String>| text.as_deref().and_then(duration_ms);
    if ms(&detection.interval).is_some_and(|ms| ms < EJECTION_INTERVAL_MS_LEAST.into()) {
        let message = "endpoints can't be compared so often";
        let help = format!("at least every `{EJECTION_INTERVAL_MS_LEAST}ms`");
        findings.error_with_help("spec.outlierDetection.interval", message, help);
    }
    let interval = detection.interval.as_deref();
    check_length(interval, "spec.outlierDetection.interval", "interval", findings);
    for (field, text) in [
        ("baseEjectionTime", &detection.base_ejection_time),
        ("maxEjectionTime", &detection.max_ejection_time),
    ] {
        let path = format!("spec.outlierDetection.{field}");
        check_span(text.as_deref(), &path, field, "at least `1ms`", findings);
    }
    let margin = detection.latency.as_ref().and_then(|latency| latency.margin.as_deref());
    check_length(margin, "spec.outlierDetection.latency.margin", "margin", findings);
    // Where one of them is not written, the other is held against its default when it is compiled.
    if let (Some(base_ms), Some(max_ms)) =
        (ms(&detection.base_ejection_time), ms(&detection.max_ejection_time))
        && max_ms < base_ms
    {
        findings.conflict(
            "spec.outlierDetection.maxEjectionTime",
            "spec.outlierDetection.baseEjectionTime",
            "`maxEjectionTime` can't be shorter than `baseEjectionTime`, which is the first",
        );
    }
    let is_off = |count: Option<u32>| count.is_none_or(|count| count == 0);
    let compares = detection.success_rate.is_some()
        || detection.failure_percentage.is_some()
        || detection.latency.is_some();
    if detection.consecutive_local_origin_failures == Some(0)
        && is_off(detection.consecutive_gateway_errors)
        && is_off(detection.consecutive_5xx_errors)
        && !compares
    {
        // Then what else is said says nothing.
        let said = [
            ("interval", detection.interval.is_some()),
            ("baseEjectionTime", detection.base_ejection_time.is_some()),
            ("maxEjectionTime", detection.max_ejection_time.is_some()),
            ("maxEjectionPercent", detection.max_ejection_percent.is_some()),
        ];
        for (field, _) in said.into_iter().filter(|(_, is_said)| *is_said) {
            findings.conflict(
                &format!("spec.outlierDetection.{field}"),
                "spec.outlierDetection.consecutiveLocalOriginFailures",
                format!("`{field}` says nothing where no endpoint is ever ejected"),
            );
        }
    }
}
