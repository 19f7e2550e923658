//! When a request is tried again, and what that may cost.
//!
//! Before: policies and HTTPRoutes said it. After: the proxy goes by it once a try has failed.

use serde::{Deserialize, Serialize};

/// When a request of a route is tried again.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Retry {
    /// Tries beyond the first, at most [`RETRIES_MAX`](crate::limits::RETRIES_MAX); 0: none.
    pub attempts: u32,
    /// After which failures.
    pub on: RetryOn,
    /// After an answer with one of these statuses.
    pub statuses: Vec<u16>,
    /// After an answer with one of these fields.
    pub headers: Vec<RetriableField>,
    /// The longest wait before the first of them in milliseconds, doubling for each; more than 0.
    pub backoff_base_ms: u32,
    /// The longest wait at all; not less.
    pub backoff_max_ms: u32,
    /// Also of a method that must not be repeated by itself (RFC 9110 §9.2.2).
    pub non_idempotent: bool,
}

/// After which failures a request is tried again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct RetryOn {
    /// No connection could be made: safe for any method.
    pub connect_failure: bool,
    /// The connection broke before a byte of the answer came.
    pub reset_before_response: bool,
    /// A try took longer than [`backend_request_timeout_ms`](super::RoutePolicy::backend_request_timeout_ms).
    pub per_try_timeout: bool,
    /// An answer with a status from 500 on.
    pub server_error: bool,
    /// An answer with the status 502, 503 or 504.
    pub gateway_error: bool,
}

/// A field of an answer that asks for another try.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct RetriableField {
    /// Its name, in lower case.
    pub name: String,
    /// Its value; `None`: any.
    pub value: Option<String>,
}

/// How many tries beyond the first the requests to a cluster may cost together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct RetryBudget {
    /// So many for each 100 requests …
    pub percent: u32,
    /// … and so many each second.
    pub min_per_second: u32,
}

impl Default for RetryBudget {
    /// Linkerd's.
    fn default() -> Self {
        Self { percent: 20, min_per_second: 10 }
    }
}

/// When a second request is sent beside one that has no answer yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum HedgeAfter {
    /// After so many milliseconds; more than 0.
    DelayMs(u32),
    /// Once it has taken longer than so many of 100 took lately: 50 to 99.
    Percentile(u32),
}
