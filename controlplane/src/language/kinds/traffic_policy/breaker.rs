//! When requests that would fail are answered at once.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// When requests are answered by the proxy at once, because most of those before them failed: after
/// `requestVolume` requests within `window` of which `errorPercent` failed it opens. After `sleep` one
/// request is let through (half-open); if that goes well others follow by and by (ramp), else it stays
/// open. What all workers of a proxy saw counts together; failures are 5xx, and what got no answer.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CircuitBreaker {
    /// Who decides whether it is open; `Automatic` unless told otherwise.
    #[serde(default)]
    pub mode: BreakerMode,
    /// So many percent or more; 50 unless told otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error_percent: Option<u32>,
    /// Of at least so many requests; 20 unless told otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_volume: Option<u32>,
    /// How far back it looks; `10s` unless told otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window: Option<String>,
    /// How long it is open before it tries one request; `5s` unless told otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sleep: Option<String>,
    /// How long requests are let through by and by after that went well: as many at a time as have been
    /// answered well, and one. `10s` unless told otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ramp: Option<String>,
    /// What becomes of requests that are not let through; 503 unless told otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fallback: Option<Fallback>,
}

/// Who decides whether a breaker is open.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum BreakerMode {
    /// How its requests end.
    #[default]
    Automatic,
    /// Nobody: it is open.
    ForcedOpen,
    /// Nobody: it is closed.
    ForcedClosed,
}

/// What becomes of requests that are not let through: one of the two.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Fallback {
    /// An answer of the proxy's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub response: Option<FallbackResponse>,
    /// A port of another Service gets them: by its balancing, bulkhead, health checks and connect timeout,
    /// within the route's timeouts, and tried again as the route says. The breaker does not count them, and
    /// if they fail there, that is what the client hears.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backend_ref: Option<FallbackBackendRef>,
}

/// A port of a Service, in the Gateway API's words (BackendObjectReference).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct FallbackBackendRef {
    /// Group of the Service: `lateen.dev`, or `""`, which finds whichever there is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// `Service`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// Name of the Service.
    pub name: String,
    /// Its namespace; the policy's unless told otherwise. In another one a ReferenceGrant must give leave.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// Number of its port.
    pub port: u16,
}

/// An answer of the proxy's own.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct FallbackResponse {
    /// Its status; 200 unless told otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// Its `Content-Type`; `text/plain` unless told otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content_type: Option<String>,
    /// Its body, at most 4096 bytes; empty unless told otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body: Option<String>,
}
