//! `aperture` of a TrafficPolicy's `loadBalancing`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Each worker of a proxy calls but a part of the endpoints, so that a service has about as many connections
/// from a proxy whatever its workers, and not each of them one to every endpoint. All workers together give
/// each endpoint its share, and its weight counts. Where nothing in a worker's part can be had, it calls any.
/// A proxy with one worker calls all of them.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Aperture {
    /// A worker's part has at least so many endpoints, or all if there are fewer; 12 unless told otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_endpoints: Option<u32>,
}
