//! `locality` of a TrafficPolicy's `loadBalancing`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Requests stay near: they go to the endpoints in the zone of the proxy, then to those in its region, then
/// to all others, each only while too few of the nearer ones are in service. Where an endpoint is its labels
/// `topology.kubernetes.io/zone` and `topology.kubernetes.io/region` say, or the `zone` of its EndpointSlice;
/// where the proxy is, its `locality` does. What says nothing of that is far from everything.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct LocalityFailover {
    /// Where fewer than so many percent of the nearer endpoints are in service, the next ones get the
    /// requests; 50 unless told otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failover_threshold_percent: Option<u8>,
}
