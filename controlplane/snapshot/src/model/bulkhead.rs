//! How much of a proxy one cluster may take.

use serde::{Deserialize, Serialize};

/// Caps of a cluster, over all workers of a proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Caps {
    /// Connections to all of its endpoints together, idle ones included; more than 0.
    pub connections_max: u32,
    /// Requests and connections that wait for room; 0: none does.
    pub pending_max: u32,
    /// Requests that were sent and are not over; more than 0. `None`: as many as there are connections.
    pub requests_max: Option<u32>,
    /// Those of them that are another try. `None`: as many as the budget allows.
    pub retries_max: Option<u32>,
    /// How long one waits, in milliseconds; more than 0.
    pub queue_timeout_ms: u32,
}
