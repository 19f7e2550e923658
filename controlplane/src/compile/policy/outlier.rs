//! What a policy says of ejecting endpoints; what it does not say is filled in.

use lateen_snapshot::limits::DURATION_MS_MAX;
use lateen_snapshot::model::outlier as model;

use crate::language::kinds::traffic_policy::outlier::OutlierDetection;
use crate::language::text::duration_ms;

/// Source: the issue and FEATURES, Defaults; where they say nothing, Envoy's.
const SUCCESS_RATE: model::SuccessRate =
    model::SuccessRate { stdev_factor: 1_900, minimum_hosts: 5, request_volume: 100 };
const FAILURE_PERCENTAGE: model::FailurePercentage =
    model::FailurePercentage { threshold: 85, request_volume: 50 };
const LATENCY: model::Latency =
    model::Latency { factor_percent: 300, margin_ms: 10, request_volume: 100 };

pub(super) fn outlier_of(written: &OutlierDetection) -> model::OutlierDetection {
    let defaults = model::OutlierDetection::default();
    let base_ejection_ms = span_ms(written.base_ejection_time.as_ref(), defaults.base_ejection_ms);
    let max_written = written.max_ejection_time.as_ref();
    // Of a pair of which one is written, the other gives way.
    let max_ejection_ms = span_ms(max_written, defaults.max_ejection_ms.max(base_ejection_ms));
    model::OutlierDetection {
        consecutive_local_origin_failures: written
            .consecutive_local_origin_failures
            .unwrap_or(defaults.consecutive_local_origin_failures),
        consecutive_gateway_errors: written.consecutive_gateway_errors.unwrap_or(0),
        consecutive_5xx_errors: written.consecutive_5xx_errors.unwrap_or(0),
        interval_ms: span_ms(written.interval.as_ref(), defaults.interval_ms),
        base_ejection_ms: base_ejection_ms.min(max_ejection_ms),
        max_ejection_ms,
        max_ejection_percent: written.max_ejection_percent.unwrap_or(defaults.max_ejection_percent),
        success_rate: written.success_rate.as_ref().map(|rate| model::SuccessRate {
            stdev_factor: rate.stdev_factor.unwrap_or(SUCCESS_RATE.stdev_factor),
            minimum_hosts: rate.minimum_hosts.unwrap_or(SUCCESS_RATE.minimum_hosts),
            request_volume: rate.request_volume.unwrap_or(SUCCESS_RATE.request_volume),
        }),
        failure_percentage: written.failure_percentage.as_ref().map(|share| {
            model::FailurePercentage {
                threshold: share.threshold.unwrap_or(FAILURE_PERCENTAGE.threshold),
                request_volume: share.request_volume.unwrap_or(FAILURE_PERCENTAGE.request_volume),
            }
        }),
        latency: written.latency.as_ref().map(|latency| model::Latency {
            factor_percent: latency.factor_percent.unwrap_or(LATENCY.factor_percent),
            margin_ms: match &latency.margin {
                Some(margin) => duration_ms(margin)
                    .map_or(LATENCY.margin_ms, |ms| ms.min(DURATION_MS_MAX.into()) as u32),
                None => LATENCY.margin_ms,
            },
            request_volume: latency.request_volume.unwrap_or(LATENCY.request_volume),
        }),
    }
}

/// The language saw to it that it is more than 0.
pub(super) fn span_ms(text: Option<&String>, otherwise: u32) -> u32 {
    let written = text.and_then(|text| duration_ms(text));
    written.map_or(otherwise, |ms| ms.clamp(1, DURATION_MS_MAX.into()) as u32)
}
