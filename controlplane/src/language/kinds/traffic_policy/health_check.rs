//! How endpoints are asked whether they are well.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How each endpoint is asked whether it is well, by every proxy that calls it. One that is not gets no
/// requests while another is; a new one gets them after it has passed once.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HealthCheck {
    /// What is asked.
    pub r#type: HealthCheckType,
    /// Which request. Only with `HTTP`; without it, `/` must be answered 200 to 299.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http: Option<HttpCheck>,
    /// From the end of one check of an endpoint to the next, give or take a tenth; `10s` unless told
    /// otherwise, at least `100ms`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interval: Option<String>,
    /// Until the answer is there; `1s` unless told otherwise. It may be longer than `interval`, which begins
    /// when it is over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<String>,
    /// Failures in a row after which an endpoint gets no requests; 3 unless told otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unhealthy_threshold: Option<u32>,
    /// Passes in a row after which it gets them again; 1 unless told otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub healthy_threshold: Option<u32>,
}

/// What an endpoint is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum HealthCheckType {
    /// To answer a GET.
    #[serde(rename = "HTTP")]
    Http,
    /// To take a connection.
    #[serde(rename = "TCP")]
    Tcp,
}

/// A GET, and which answers are good.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HttpCheck {
    /// Its path; `/` unless told otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// Its `Host`; the endpoint's address and port unless told otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// Which statuses are good; 200 to 299 unless told otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expected_statuses: Option<Vec<StatusRange>>,
}

/// Statuses from one to another, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct StatusRange {
    /// The first.
    pub from: u16,
    /// The last; not less than `from`.
    pub to: u16,
}
