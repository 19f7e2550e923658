//! When requests are turned away so that the others are answered in time, and which.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// When requests to a service are turned away so that the others are answered in time: 503 with
/// `Retry-After` and the flag `OM`. What all workers of a proxy see counts together. Said without anything in
/// it, the delay of the queue is bounded as usual.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Overload {
    /// How long one may wait for room in the bulkhead, whose `maxPending` must be more than 0 then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queue_delay: Option<QueueDelay>,
    /// How many requests there may be at a time, found by how long they take; as many as the bulkhead says
    /// unless this is there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub concurrency: Option<Concurrency>,
}

/// When those who wait for room have waited for too long (CoDel): while nobody gets through sooner than
/// `target` for a whole `interval`, nobody waits for longer than `target`; who is `Sheddable` does not wait
/// at all, and who is `Critical` waits as usual.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct QueueDelay {
    /// `5ms` unless told otherwise; not longer than the bulkhead's `queueTimeout`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// `100ms` unless told otherwise; not shorter than `target`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interval: Option<String>,
}

/// A limit of the requests at a time that follows how long they take: it grows until they take a quarter
/// longer than they do without a queue, which is found by halving it for a moment now and then. The
/// bulkhead's `maxRequests` holds as well.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Concurrency {
    /// It is never less; 2 unless told otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub minimum: Option<u32>,
    /// It is never more; 1,000 unless told otherwise, or `minimum` if that is more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub maximum: Option<u32>,
}

/// How important requests are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Priority {
    /// They are turned away last.
    Critical,
    /// As any other.
    Default,
    /// They are turned away first.
    Sheddable,
}
