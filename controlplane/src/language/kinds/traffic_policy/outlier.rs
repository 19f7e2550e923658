//! When an endpoint that fails, or is slower than the others, gets no requests for a while.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// When an endpoint that fails, or is slower than the others, gets no requests for a while (is ejected).
/// What all workers of a proxy saw counts together. Without a word of it an endpoint is ejected after five
/// connect failures and resets in a row.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct OutlierDetection {
    /// Ejected after so many connect failures and resets in a row; 5 unless told otherwise, 0: not for
    /// these. An endpoint that refuses connections is tried by bare connects every 1 to 5 seconds, and is
    /// back as soon as it takes one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub consecutive_local_origin_failures: Option<u32>,
    /// Ejected after so many failures in a row of those and of 502, 503, 504 and timeouts; 0 unless told
    /// otherwise: not for these.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub consecutive_gateway_errors: Option<u32>,
    /// Ejected after so many failures in a row of those and of any 5xx; 0 unless told otherwise: not for
    /// these.
    #[serde(default, skip_serializing_if = "Option::is_none", rename = "consecutive5xxErrors")]
    pub consecutive_5xx_errors: Option<u32>,
    /// How often endpoints are compared; `10s` unless told otherwise, at least `100ms`. After as long in
    /// service, an endpoint's next ejection is one `baseEjectionTime` shorter.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interval: Option<String>,
    /// How long the first ejection lasts; `30s` unless told otherwise. The second lasts twice as long, the
    /// third three times, …
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base_ejection_time: Option<String>,
    /// No ejection lasts longer; `5m` unless told otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_ejection_time: Option<String>,
    /// At most so many percent of the endpoints are ejected at a time; 50 unless told otherwise. One may be
    /// where there are two, and never the last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_ejection_percent: Option<u32>,
    /// Ejects an endpoint whose success rate is far below that of the others. Not unless told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub success_rate: Option<SuccessRate>,
    /// Ejects an endpoint that fails too large a share of its requests. Not unless told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure_percentage: Option<FailurePercentage>,
    /// Ejects an endpoint that is much slower than the others. Not unless told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latency: Option<Latency>,
}

/// Ejects an endpoint whose success rate is far below the mean: by so many standard deviations, and by five
/// points at least.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SuccessRate {
    /// Thousandths of a standard deviation; 1900 unless told otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stdev_factor: Option<u32>,
    /// Among at least so many endpoints; 5 unless told otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub minimum_hosts: Option<u32>,
    /// Each of which had at least so many requests in an interval; 100 unless told otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_volume: Option<u32>,
}

/// Ejects an endpoint that fails too large a share of its requests.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct FailurePercentage {
    /// So many percent or more; 85 unless told otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub threshold: Option<u32>,
    /// Of at least so many requests in an interval; 50 unless told otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_volume: Option<u32>,
}

/// Ejects an endpoint whose median latency is far above the median of all endpoints' medians. There must be
/// three to compare.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Latency {
    /// More than so many percent of it; 300 unless told otherwise …
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub factor_percent: Option<u32>,
    /// … and so much more; `10ms` unless told otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub margin: Option<String>,
    /// Of at least so many requests in an interval; 100 unless told otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_volume: Option<u32>,
}
