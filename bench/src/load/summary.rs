//! What a load did and what came back: printed, and kept as JSON for `compare` and `report`.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// One load, without its warm-up.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct LoadReport {
    /// Of this structure: 1.
    pub format: u32,
    /// As it was given.
    pub url: String,
    /// `io_uring` or `epoll`: what carried the load.
    pub engine: String,
    /// Whether requests were due by a schedule, and latency counts from when they were due.
    pub open_loop: bool,
    /// Of all connections together, in an open loop.
    pub rate_per_s: Option<f64>,
    /// Connections that were kept busy.
    pub connections: u32,
    /// Threads that they were spread over.
    pub threads: u32,
    /// From the first counted request to the last answer.
    pub elapsed_s: f64,
    /// Right answers.
    pub requests: u64,
    /// Right answers in a second.
    pub requests_per_s: f64,
    /// Of answers, with their heads.
    pub bytes_received: u64,
    /// Of requests, with their heads.
    pub bytes_sent: u64,
    /// Connections that came about.
    pub connects: u64,
    /// From the first SYN to the connection, with TLS where there is.
    pub connect_us: Option<Latency>,
    /// From the request, or from when it was due, to the end of its answer.
    pub latency_us: Option<Latency>,
    /// Answers by class: `2xx`.
    pub statuses: BTreeMap<String, u64>,
    /// Requests without an answer, by what went wrong.
    pub errors: BTreeMap<String, u64>,
    /// Answers that were not as expected, by what was wrong.
    pub wrong: BTreeMap<String, u64>,
    /// Requests that were sent after they were due.
    pub late_sends: u64,
    /// The longest that one was late.
    pub late_max_us: f64,
    /// Requests that were due and never sent.
    pub unsent: u64,
    /// What the load itself used, in user mode.
    pub cpu_user_us: u64,
    /// The same in the kernel.
    pub cpu_system_us: u64,
}

/// A distribution of times in µs, with three significant digits.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Latency {
    /// Of values.
    pub count: u64,
    /// Arithmetic.
    pub mean: f64,
    /// The median.
    pub p50: f64,
    /// 90th percentile.
    pub p90: f64,
    /// 99th percentile.
    pub p99: f64,
    /// 99.9th percentile.
    pub p99_9: f64,
    /// 99.99th percentile.
    pub p99_99: f64,
    /// The largest.
    pub max: f64,
    /// Percentile (0 to 100) and value, closer together towards 100.
    pub curve: Vec<(f64, f64)>,
}
