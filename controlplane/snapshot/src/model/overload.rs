//! When requests to a cluster are turned away so that the others are answered in time, and which.

use serde::{Deserialize, Serialize};

/// How the requests to a cluster are kept from queueing up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Overload {
    /// How long they may wait for room.
    pub queue_delay: QueueDelay,
    /// How many there may be at a time; `None`: as many as the bulkhead says.
    pub concurrency: Option<Concurrency>,
}

/// When those who wait for room have waited for too long.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct QueueDelay {
    /// While nobody gets through sooner than that, …
    pub target_ms: u32,
    /// … for this long, nobody waits for longer than the target. Not shorter.
    pub interval_ms: u32,
}

/// Bounds of a limit that follows how long requests take.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Concurrency {
    /// It is never less; more than 0.
    pub minimum: u32,
    /// It is never more; not less than the minimum.
    pub maximum: u32,
}

/// How important requests are where not all can be answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Priority {
    /// They are turned away last.
    Critical,
    /// As any other.
    #[default]
    Default,
    /// They are turned away first.
    Sheddable,
}
