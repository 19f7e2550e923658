//! When a route whose requests fail answers for itself, so that what is behind it can recover.

use serde::{Deserialize, Serialize};

use crate::model::ClusterId;

/// When a route stops to forward, and what it answers then.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct CircuitBreaker {
    /// Who decides.
    pub mode: BreakerMode,
    /// Opens when so many percent of the requests of the window failed or more; 1 to 100 …
    pub error_percent: u32,
    /// … of at least so many; more than 0.
    pub request_volume: u32,
    /// How far back it looks; more than 0.
    pub window_ms: u32,
    /// How long it stays open before it tries one request; more than 0.
    pub sleep_ms: u32,
    /// How long it lets requests in by and by after that went well.
    pub ramp_ms: u32,
    /// What becomes of requests that are not let through; `None`: 503.
    pub fallback: Option<Fallback>,
}

/// What becomes of the requests that a breaker does not let through.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Fallback {
    /// The proxy answers them.
    Response(FallbackResponse),
    /// Another cluster does. It is not counted by the breaker, and what is said of one of the route's
    /// backends alone is not said of it.
    Backend(ClusterId),
}

/// Who decides whether a breaker is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum BreakerMode {
    /// How its requests end.
    Automatic,
    /// It is open.
    ForcedOpen,
    /// It is closed.
    ForcedClosed,
}

/// An answer of the proxy's own.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct FallbackResponse {
    /// 200 to 599, but not 204, 205 and 304.
    pub status: u16,
    /// Of the body.
    pub content_type: String,
    /// At most [`FALLBACK_BODY_BYTES_MAX`](crate::limits::FALLBACK_BODY_BYTES_MAX) bytes.
    pub body: String,
}
