//! `subset` of a TrafficPolicy.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Only some endpoints of a route's backends get its requests: those that have all of these labels. They
/// are balanced on their own.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Subset {
    /// Labels and their values, such as `version: v2`: those of `endpoints[].labels` of a Service.
    pub labels: BTreeMap<String, String>,
    /// Where no endpoint has them; `None` unless told otherwise.
    #[serde(default)]
    pub fallback: SubsetFallback,
}

/// What happens where no endpoint has the labels.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum SubsetFallback {
    /// The requests are answered 503, the connections reset.
    #[default]
    None,
    /// All endpoints get them.
    Any,
}
