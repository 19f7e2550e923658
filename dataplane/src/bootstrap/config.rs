//! The config of one process: what the flags said, checked, with every default filled in.
//!
//! Before: `flags` made it. After: everything reads it. A plain value; nothing in it changes while
//! the process lives.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::observe::json;

/// Checked config of one proxy process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Worker threads, at least 1.
    pub workers: usize,
    /// The CPU of each worker, by worker; empty: workers are not pinned.
    pub pinned_cpus: Vec<usize>,
    /// Which I/O engine to run.
    pub engine: EngineChoice,
    /// Kernel features that the engine is told to do without, as given, such as `-buffer-ring`.
    pub engine_features: Vec<String>,
    /// Where the admin endpoint listens.
    pub admin: SocketAddr,
    /// Where access-log lines go.
    pub access_log: AccessLogTarget,
    /// How long peers are waited for.
    pub timeouts: Timeouts,
    /// How large heads and bodies may be.
    pub sizes: Sizes,
    /// Client connections at a time, in the whole process; at least one per worker.
    pub connections_max: usize,
    /// Bytes of memory that the process may use; `None`: any.
    pub memory_max: Option<u64>,
    /// Upstream connections kept between requests.
    pub pool: PoolLimits,
    /// How the process ends.
    pub drain: Drain,
    /// TRACE is forwarded, not answered 405.
    pub trace_method: bool,
    /// The process's limit of descriptors when it started.
    pub descriptors_max: u64,
}

/// Which I/O engine to run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum EngineChoice {
    /// io_uring where the kernel offers it, else epoll; the log says which and why
    Auto,
    /// io_uring or an error
    Uring,
    /// epoll
    Epoll,
}

impl EngineChoice {
    /// As on the command line.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Uring => "uring",
            Self::Epoll => "epoll",
        }
    }
}

/// Where access-log lines go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AccessLogTarget {
    /// Nowhere.
    Off,
    /// To standard output.
    Stdout,
    /// To the end of this file, which is reopened on SIGUSR1.
    File(PathBuf),
}

/// How long peers are waited for. None is zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// Until a request head is whole.
    pub header: Duration,
    /// Without progress while a body is read.
    pub body: Duration,
    /// A connection on which nothing happens.
    pub idle: Duration,
    /// Until a connection to an endpoint stands.
    pub connect: Duration,
    /// From a request's head to its response's last byte; `None`: as long as it makes progress.
    pub request: Option<Duration>,
    /// Without progress while a peer does not read.
    pub write: Duration,
    /// Of a client's silence before its upstream is connected.
    pub detect: Duration,
}

/// How large heads and bodies may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sizes {
    /// Bytes of a head.
    pub head_bytes_max: usize,
    /// Fields of a head.
    pub headers_max: usize,
    /// Bytes of a request target; less than `head_bytes_max`.
    pub target_bytes_max: usize,
    /// Bytes of a request body; `None`: any.
    pub body_bytes_max: Option<u64>,
}

/// Upstream connections kept between requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolLimits {
    /// Idle connections of each cluster, in the whole process; 0: none are kept.
    pub idle_max: usize,
    /// Idle connections of all clusters, in the whole process.
    pub total_max: usize,
    /// An idle connection is closed after.
    pub idle_timeout: Duration,
    /// A connection is not used again after.
    pub lifetime: Duration,
    /// See [`SHORT_RESPONSES_MIN`](crate::limits::SHORT_RESPONSES_MIN).
    pub short_responses_min: u32,
}

/// How the process ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Drain {
    /// Accepting goes on that long after `/ready` turned 503; may be zero.
    pub delay: Duration,
    /// Then what is in flight may take that long.
    pub timeout: Duration,
}

impl Config {
    /// The config as one JSON object, for `/config_dump`: the flags' names, with their unit.
    pub fn to_json(&self) -> String {
        let mut object = json::Object::new();
        object.number("workers", self.workers as u64);
        object.numbers("pinned_cpus", self.pinned_cpus.iter().map(|cpu| *cpu as u64));
        object.string("engine", self.engine.as_str());
        object.strings("engine_features", self.engine_features.iter().cloned());
        object.string("admin", &self.admin.to_string());
        match &self.access_log {
            AccessLogTarget::Off => object.string("access_log", "off"),
            AccessLogTarget::Stdout => object.string("access_log", "-"),
            AccessLogTarget::File(path) => object.string("access_log", &path.to_string_lossy()),
        }
        let timeouts = &self.timeouts;
        object.number("header_timeout_ms", milliseconds(timeouts.header));
        object.number("body_timeout_ms", milliseconds(timeouts.body));
        object.number("idle_timeout_ms", milliseconds(timeouts.idle));
        object.number("connect_timeout_ms", milliseconds(timeouts.connect));
        object.optional_number("request_timeout_ms", timeouts.request.map(milliseconds));
        object.number("write_timeout_ms", milliseconds(timeouts.write));
        object.number("detect_timeout_ms", milliseconds(timeouts.detect));
        object.number("head_bytes_max", self.sizes.head_bytes_max as u64);
        object.number("headers_max", self.sizes.headers_max as u64);
        object.number("target_bytes_max", self.sizes.target_bytes_max as u64);
        object.optional_number("body_bytes_max", self.sizes.body_bytes_max);
        object.number("connections_max", self.connections_max as u64);
        object.optional_number("memory_max", self.memory_max);
        object.number("pool_idle_max", self.pool.idle_max as u64);
        object.number("pool_idle_total_max", self.pool.total_max as u64);
        object.number("pool_idle_timeout_ms", milliseconds(self.pool.idle_timeout));
        object.number("pool_lifetime_ms", milliseconds(self.pool.lifetime));
        object.number("drain_delay_ms", milliseconds(self.drain.delay));
        object.number("drain_timeout_ms", milliseconds(self.drain.timeout));
        object.boolean("trace_method", self.trace_method);
        object.number("descriptors_max", self.descriptors_max);
        object.finish()
    }
}

fn milliseconds(span: Duration) -> u64 {
    span.as_millis() as u64
}
