//! How endpoints are asked whether they are well.

use serde::{Deserialize, Serialize};

/// How each endpoint of a cluster is asked whether it is well, by the proxy itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HealthCheck {
    /// What is asked.
    pub probe: Probe,
    /// From one check of an endpoint to the next, give or take a tenth; at least
    /// [`CHECK_INTERVAL_MS_LEAST`](crate::limits::CHECK_INTERVAL_MS_LEAST).
    pub interval_ms: u32,
    /// Until the answer is there; more than 0.
    pub timeout_ms: u32,
    /// Failures in a row after which an endpoint gets no requests; more than 0.
    pub unhealthy_threshold: u32,
    /// Passes in a row after which it gets them again; more than 0. A new one gets them after the first.
    pub healthy_threshold: u32,
}

/// What an endpoint is asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Probe {
    /// To take a connection.
    Tcp,
    /// To answer a GET.
    Http(Box<HttpProbe>),
}

/// A GET, and which answers are good.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HttpProbe {
    /// Its path.
    pub path: String,
    /// Its `Host`; `None`: the endpoint's address and port.
    pub host: Option<String>,
    /// From and to, both included; 100 to 599 each. Not empty.
    pub statuses: Vec<(u16, u16)>,
}
