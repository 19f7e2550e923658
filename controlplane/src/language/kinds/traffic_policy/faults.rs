//! `faults` of a TrafficPolicy.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What is made to go wrong on purpose, so that it can be seen how callers bear it. Each of the three is
/// drawn on its own; a request that is delayed may then be aborted. What is aborted is not tried again.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Faults {
    /// Only requests with all of these header fields; all requests unless told otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub headers: Option<Vec<FaultHeader>>,
    /// Requests wait before they are forwarded. The wait is part of what `timeouts.request` allows, and
    /// shorter.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delay: Option<FaultDelay>,
    /// Requests are answered, or cut off, instead of being forwarded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub abort: Option<FaultAbort>,
    /// Response bodies come slowly.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub response_bandwidth: Option<FaultBandwidth>,
}

/// A header field that a request must have.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct FaultHeader {
    /// Its name, whatever its case.
    pub name: String,
    /// Its value, exactly.
    pub value: String,
}

/// A wait.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct FaultDelay {
    /// How long, such as `250ms`.
    pub duration: String,
    /// For how many of the requests.
    pub fraction: FaultFraction,
}

/// An end: exactly one of `status` and `reset` is given.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct FaultAbort {
    /// The client gets this status, 400 to 599.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// The client's connection is reset.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reset: Option<bool>,
    /// For how many of the requests.
    pub fraction: FaultFraction,
}

/// A bandwidth.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct FaultBandwidth {
    /// So many bytes of the body pass in a second.
    pub bytes_per_second: u64,
    /// For how many of the requests.
    pub fraction: FaultFraction,
}

/// A part of the requests, chosen by chance: as the Gateway API says it of mirrors.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct FaultFraction {
    /// So many …
    pub numerator: u32,
    /// … of so many; 100 unless told otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub denominator: Option<u32>,
}

impl FaultFraction {
    /// Of how many.
    pub fn of(&self) -> u32 {
        self.denominator.unwrap_or(100)
    }
}
