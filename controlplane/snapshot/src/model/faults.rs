//! Faults that a proxy puts into the requests of a route on purpose.

use serde::{Deserialize, Serialize};

/// What is made to go wrong, and for which requests. At least one of the three is there.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Faults {
    /// Only requests with all of these fields, by lower-case name and exact value; empty: all requests.
    pub headers: Vec<(String, String)>,
    /// They wait before they are forwarded.
    pub delay: Option<FaultDelay>,
    /// They are not forwarded.
    pub abort: Option<FaultAbort>,
    /// Their responses come slowly.
    pub bandwidth: Option<FaultBandwidth>,
}

/// A wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct FaultDelay {
    /// How long, in milliseconds; more than 0.
    pub delay_ms: u32,
    /// For how many.
    pub share: Share,
}

/// An end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct FaultAbort {
    /// What the client sees.
    pub kind: AbortKind,
    /// For how many.
    pub share: Share,
}

/// What the client of an aborted request sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum AbortKind {
    /// An answer of this status, 400 to 599.
    Status(u16),
    /// Its connection is reset.
    Reset,
}

/// A slow response.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct FaultBandwidth {
    /// So many bytes of the body in a second; more than 0.
    pub bytes_per_s: u64,
    /// For how many.
    pub share: Share,
}

/// A part of the requests, chosen by chance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Share {
    /// So many …
    pub numerator: u32,
    /// … of so many; more than 0, and not less than the numerator.
    pub denominator: u32,
}
