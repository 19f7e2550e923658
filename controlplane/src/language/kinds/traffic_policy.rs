//! `TrafficPolicy`: how requests to services or of routes are treated, attached by `targetRefs`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How requests to some services, or of some routes, are treated.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TrafficPolicySpec {
    /// What it is attached to, in the policy's own namespace.
    pub target_refs: Vec<TargetRef>,
    /// How long things may take.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeouts: Option<Timeouts>,
    /// Which endpoint gets a request. Only for a Service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub load_balancing: Option<LoadBalancing>,
}

/// An object that a policy is attached to (GEP-713).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TargetRef {
    /// Its group: `lateen.dev` or `""` for a Service, `gateway.networking.k8s.io` for a route.
    pub group: String,
    /// Its kind: `Service`, `HTTPRoute` or `TCPRoute`.
    pub kind: String,
    /// Its name.
    pub name: String,
    /// A part of it: the name of a Service's port or of a route's rule.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub section_name: Option<String>,
}

/// How long things may take, as durations of the Gateway API such as `1h30m`, `5s` or `250ms`; `0s`
/// stands for no limit.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Timeouts {
    /// Until a connection to an endpoint stands. Only for a Service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connect: Option<String>,
    /// From a request's head to its answer's last byte.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<String>,
    /// The same for one try at an endpoint; not longer than `request`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backend_request: Option<String>,
    /// TCP: without a byte either way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idle: Option<String>,
}

/// Which endpoint gets a request.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct LoadBalancing {
    /// How it is chosen; `LeastRequest` unless told otherwise.
    #[serde(default)]
    pub r#type: LoadBalancingType,
}

/// How an endpoint is chosen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum LoadBalancingType {
    /// The less loaded of two that chance chose.
    #[default]
    LeastRequest,
    /// One after the other.
    RoundRobin,
    /// Any, evenly.
    Random,
}
