//! How much of a proxy one service may take.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How much of a proxy one service may take, over all workers and for each of its ports. Who finds no
/// room waits in a queue; who finds that full, or waits in vain, is answered 503 with `Retry-After`, and a
/// TCP connection is reset. Once one has waited in vain nobody else waits until something comes free.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Bulkhead {
    /// Connections to all of its endpoints together, idle ones included; 1,024 unless told otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_connections: Option<u32>,
    /// Requests and connections that wait for room; 1,024 unless told otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_pending: Option<u32>,
    /// Requests that were sent and are not over; as many as there are connections unless told otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_requests: Option<u32>,
    /// Requests among those that are another try; as many as the retry budget allows unless told otherwise.
    /// Not more than `maxRequests`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_retries: Option<u32>,
    /// How long one waits for room; `3s` unless told otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queue_timeout: Option<String>,
}
