//! `slowStart` of a TrafficPolicy's `loadBalancing`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A new endpoint, and one that is healthy again, gets its share of the requests little by little:
/// `max(minPercent, (age / window)^(1 / aggression))` of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SlowStart {
    /// How long it takes until it has all of its share, such as `30s`.
    pub window: String,
    /// In percent: with 100, the value unless told otherwise, the share grows evenly; with more it grows
    /// sooner, with less later.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub aggression_percent: Option<u32>,
    /// Its least share, in percent; 10 unless told otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_percent: Option<u8>,
}
