//! What a `TrafficPolicy` says of tries beyond the first.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// When a request is tried again, at another endpoint if there is one. A body is kept for that up to
/// 64 KiB.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Retry {
    /// Tries beyond the first; 2 unless told otherwise, 0 for none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempts: Option<u32>,
    /// After which failures: `ConnectFailure` and `ResetBeforeResponse` unless told otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on: Option<Vec<RetryCondition>>,
    /// After an answer with one of these statuses: 503, if neither `on` nor `headers` is given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub statuses: Option<Vec<u16>>,
    /// After an answer with one of these header fields.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub headers: Option<Vec<RetriableHeader>>,
    /// How long to wait before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backoff: Option<Backoff>,
    /// Also of methods that must not be repeated by themselves, such as POST; else those are tried again
    /// only where no connection could be made. `false` unless told otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub non_idempotent: Option<bool>,
}

/// A failure after which a request is tried again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum RetryCondition {
    /// No connection could be made: safe for any method.
    ConnectFailure,
    /// The connection broke before a byte of the answer came.
    ResetBeforeResponse,
    /// A try took longer than `timeouts.backendRequest`.
    PerTryTimeout,
    /// An answer with a status from 500 to 599.
    #[serde(rename = "5xx")]
    ServerError,
    /// An answer with the status 502, 503 or 504.
    GatewayError,
}

/// A header field of an answer that asks for another try.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RetriableHeader {
    /// Its name.
    pub name: String,
    /// Its whole value; any unless told otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
}

/// How long to wait before a try: any time up to `base` before the second, up to twice as long before
/// each further one. `Retry-After` of an answer is waited for up to a second; with more the answer is
/// passed on.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Backoff {
    /// `25ms` unless told otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base: Option<String>,
    /// The longest; ten times `base` unless told otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max: Option<String>,
}

/// What tries beyond the first may cost, of all requests to a service together: retries, hedged requests,
/// and requests repeated because a pooled connection had died. Over 10 seconds, by each proxy. There is
/// always one.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RetryBudget {
    /// So many for each 100 requests; 20 unless told otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub percent: Option<u32>,
    /// And so many each second; 10 unless told otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_per_second: Option<u32>,
}

/// When a second request is sent beside one that has no answer yet, to another endpoint if there is one.
/// The first answer counts, the other request is broken off. Only of requests whose method may be
/// repeated and whose body is kept; one for each 100 requests, and within the service's `retryBudget`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Hedging {
    /// Once a request has taken longer than so many of 100 requests of its route took lately; 99 unless
    /// told otherwise. None before 1,000 were answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub percentile: Option<u32>,
    /// After this long, instead.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delay: Option<String>,
}
