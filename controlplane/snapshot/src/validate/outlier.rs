//! Checks when endpoints are ejected.

use super::text::Problem;
use super::{duration, positive_duration};
use crate::limits::{
    CONSECUTIVE_MAX, DURATION_MS_MAX, EJECTION_INTERVAL_MS_LEAST, REQUEST_VOLUME_MAX,
    STDEV_FACTOR_MAX,
};
use crate::model::outlier::{FailurePercentage, Latency, OutlierDetection, SuccessRate};

pub(super) fn check_outlier(detection: &OutlierDetection) -> Result<(), Problem> {
    for (field, count) in [
        ("consecutive_local_origin_failures", detection.consecutive_local_origin_failures),
        ("consecutive_gateway_errors", detection.consecutive_gateway_errors),
        ("consecutive_5xx_errors", detection.consecutive_5xx_errors),
    ] {
        within(field, count, 0, CONSECUTIVE_MAX)?;
    }
    let interval_ms = detection.interval_ms;
    within("interval_ms", interval_ms, EJECTION_INTERVAL_MS_LEAST, DURATION_MS_MAX)?;
    positive_duration("base_ejection_ms", detection.base_ejection_ms)?;
    duration("max_ejection_ms", Some(detection.max_ejection_ms))?;
    if detection.max_ejection_ms < detection.base_ejection_ms {
        let wanted = format!("at least base_ejection_ms ({})", detection.base_ejection_ms);
        return Err(Problem::new("max_ejection_ms", detection.max_ejection_ms, wanted));
    }
    within("max_ejection_percent", detection.max_ejection_percent, 1, 100)?;
    if let Some(SuccessRate { stdev_factor, minimum_hosts, request_volume }) =
        detection.success_rate
    {
        within("success_rate.stdev_factor", stdev_factor, 1, STDEV_FACTOR_MAX)?;
        within("success_rate.minimum_hosts", minimum_hosts, 2, REQUEST_VOLUME_MAX)?;
        within("success_rate.request_volume", request_volume, 1, REQUEST_VOLUME_MAX)?;
    }
    if let Some(FailurePercentage { threshold, request_volume }) = detection.failure_percentage {
        within("failure_percentage.threshold", threshold, 1, 100)?;
        within("failure_percentage.request_volume", request_volume, 1, REQUEST_VOLUME_MAX)?;
    }
    if let Some(Latency { factor_percent, margin_ms, request_volume }) = detection.latency {
        within("latency.factor_percent", factor_percent, 101, 10_000)?;
        duration("latency.margin_ms", Some(margin_ms))?;
        within("latency.request_volume", request_volume, 1, REQUEST_VOLUME_MAX)?;
    }
    Ok(())
}

/// A number between two others, both allowed.
pub(super) fn within(
    field: &'static str,
    value: u32,
    least: u32,
    most: u32,
) -> Result<(), Problem> {
    if (least..=most).contains(&value) {
        return Ok(());
    }
    Err(Problem::new(field, value, format!("from {least} to {most}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_right_and_each_bound_is_held() {
        let right = OutlierDetection::default();
        assert!(check_outlier(&right).is_ok());
        let rate = SuccessRate { stdev_factor: 1_900, minimum_hosts: 5, request_volume: 100 };
        let share = FailurePercentage { threshold: 85, request_volume: 50 };
        let latency = Latency { factor_percent: 300, margin_ms: 10, request_volume: 100 };
        let all = OutlierDetection {
            success_rate: Some(rate),
            failure_percentage: Some(share),
            latency: Some(latency),
            ..right.clone()
        };
        assert!(check_outlier(&all).is_ok());
        let of_rate = |rate| OutlierDetection { success_rate: Some(rate), ..right.clone() };
        let of_share =
            |share| OutlierDetection { failure_percentage: Some(share), ..right.clone() };
        let of_latency = |latency| OutlierDetection { latency: Some(latency), ..right.clone() };
        for (wrong, field) in [
            (
                OutlierDetection { consecutive_5xx_errors: CONSECUTIVE_MAX + 1, ..right.clone() },
                "consecutive_5xx_errors",
            ),
            (OutlierDetection { interval_ms: 99, ..right.clone() }, "interval_ms"),
            (OutlierDetection { base_ejection_ms: 0, ..right.clone() }, "base_ejection_ms"),
            (OutlierDetection { max_ejection_ms: 29_999, ..right.clone() }, "max_ejection_ms"),
            (OutlierDetection { max_ejection_percent: 0, ..right.clone() }, "max_ejection_percent"),
            (
                OutlierDetection { max_ejection_percent: 101, ..right.clone() },
                "max_ejection_percent",
            ),
            (of_rate(SuccessRate { stdev_factor: 0, ..rate }), "success_rate.stdev_factor"),
            (of_rate(SuccessRate { minimum_hosts: 1, ..rate }), "success_rate.minimum_hosts"),
            (of_rate(SuccessRate { request_volume: 0, ..rate }), "success_rate.request_volume"),
            (
                of_share(FailurePercentage { threshold: 101, ..share }),
                "failure_percentage.threshold",
            ),
            (of_latency(Latency { factor_percent: 100, ..latency }), "latency.factor_percent"),
        ] {
            let problem = check_outlier(&wrong).expect_err(field);
            assert!(format!("{problem:?}").contains(field), "{problem:?}");
        }
    }
}
