//! When an endpoint that fails, or is slower than the others, gets no requests for a while.

use serde::{Deserialize, Serialize};

/// When endpoints of a cluster are ejected, and for how long.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutlierDetection {
    /// After so many connect failures and resets in a row; 0: not for these.
    pub consecutive_local_origin_failures: u32,
    /// After so many in a row of those and of 502, 503, 504 and timeouts; 0: not for these.
    pub consecutive_gateway_errors: u32,
    /// After so many in a row of those and of any other 5xx; 0: not for these.
    pub consecutive_5xx_errors: u32,
    /// How often what all workers saw is compared; more than 0.
    pub interval_ms: u32,
    /// The first ejection of an endpoint lasts so long, the next one twice, …; more than 0.
    pub base_ejection_ms: u32,
    /// No ejection lasts longer; not less than `base_ejection_ms`.
    pub max_ejection_ms: u32,
    /// At most so many percent of the endpoints are ejected at a time, but one is allowed if there are two;
    /// 1 to 100. Never the last one.
    pub max_ejection_percent: u32,
    /// By comparing success rates.
    pub success_rate: Option<SuccessRate>,
    /// By the share of failures.
    pub failure_percentage: Option<FailurePercentage>,
    /// By comparing latencies.
    pub latency: Option<Latency>,
}

/// Ejects an endpoint whose success rate is far below that of the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SuccessRate {
    /// Far: so many thousandths of a standard deviation; more than 0. It must be five points besides.
    pub stdev_factor: u32,
    /// Among at least so many endpoints; 2 or more.
    pub minimum_hosts: u32,
    /// Each of which had at least so many requests in an interval; 1 or more.
    pub request_volume: u32,
}

/// Ejects an endpoint that fails too large a share of its requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailurePercentage {
    /// So many percent or more; 1 to 100.
    pub threshold: u32,
    /// Of at least so many requests in an interval; 1 or more.
    pub request_volume: u32,
}

/// Ejects an endpoint that is much slower than the others: its median against the median of all medians.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Latency {
    /// More than so many percent of it; 101 or more …
    pub factor_percent: u32,
    /// … and so much more.
    pub margin_ms: u32,
    /// Of at least so many requests in an interval; 1 or more.
    pub request_volume: u32,
}

impl Default for OutlierDetection {
    /// Of a cluster of which nothing is said. Source: FEATURES, Defaults; the rest Envoy's.
    fn default() -> Self {
        Self {
            consecutive_local_origin_failures: 5,
            consecutive_gateway_errors: 0,
            consecutive_5xx_errors: 0,
            interval_ms: 10_000,
            base_ejection_ms: 30_000,
            max_ejection_ms: 300_000,
            max_ejection_percent: 50,
            success_rate: None,
            failure_percentage: None,
            latency: None,
        }
    }
}

impl OutlierDetection {
    /// Whether requests are counted, to compare endpoints by them.
    pub const fn compares(&self) -> bool {
        self.success_rate.is_some() || self.failure_percentage.is_some() || self.latency.is_some()
    }
}
