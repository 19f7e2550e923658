//! `TrafficPolicy`: how requests to services or of routes are treated, attached by `targetRefs`.

pub mod aperture;
pub mod breaker;
pub mod bulkhead;
pub mod faults;
pub mod health_check;
pub mod locality;
pub mod outlier;
pub mod overload;
pub mod proxy_protocol;
pub mod rate_limit;
pub mod retry;
pub mod slow_start;
pub mod subset;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use breaker::CircuitBreaker;
use bulkhead::Bulkhead;
use health_check::HealthCheck;
use outlier::OutlierDetection;
use overload::{Overload, Priority};
use rate_limit::RateLimit;
use retry::{Hedging, Retry, RetryBudget};

/// How requests to some services, or of some routes, are treated.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
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
    /// When a request is tried again; never unless told. Not for a TCPRoute.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry: Option<Retry>,
    /// When a second request is sent beside a slow one; never unless told. Not for a TCPRoute.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hedging: Option<Hedging>,
    /// What tries beyond the first may cost. Only for a Service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_budget: Option<RetryBudget>,
    /// What is made to go wrong on purpose. Those of a route replace those of its services.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub faults: Option<faults::Faults>,
    /// Endpoints are told who the client is. Only for a Service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proxy_protocol: Option<proxy_protocol::SentProxyProtocol>,
    /// Only some endpoints of the backends get the requests. Only for a route.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subset: Option<subset::Subset>,
    /// How much of a proxy it may take. Only for a Service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bulkhead: Option<Bulkhead>,
    /// How many requests or connections are let through. Each of these limits must admit. What a route
    /// says counts instead of what its services say.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rate_limits: Vec<RateLimit>,
    /// When an endpoint that fails, or is slower than the others, gets no requests for a while. Only for a
    /// Service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outlier_detection: Option<OutlierDetection>,
    /// How endpoints are asked whether they are well. Only for a Service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health_check: Option<HealthCheck>,
    /// When requests are answered at once, because most of those before them failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub circuit_breaker: Option<CircuitBreaker>,
    /// When requests are turned away so that the others are answered in time. Only for a Service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub overload: Option<Overload>,
    /// How important requests are where not all can be answered. What a route says counts instead of what
    /// its services say. Not for a TCPRoute.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority: Option<Priority>,
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
    /// How long a connection lasts at the most. Of a Service: one that HTTP requests share takes none after
    /// that, or after up to a tenth less, so that not all end at once; an hour unless told otherwise, or as
    /// the proxy's flags say. TCP: both sides are closed then, whatever passes; never unless told otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_connection_duration: Option<String>,
}

/// Which endpoint gets a request.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct LoadBalancing {
    /// How it is chosen; `LeastRequest` unless told otherwise.
    #[serde(default)]
    pub r#type: LoadBalancingType,
    /// How latency is remembered. Only with `PeakEwma`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peak_ewma: Option<PeakEwma>,
    /// What of a request decides. Needed by `RingHash` and `Maglev`, and only with them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hash: Option<Hash>,
    /// Where fewer than so many percent of the endpoints are in service, those that were found bad get
    /// requests too: else the few others would be crushed. 50 unless told otherwise; 0: never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub panic_threshold_percent: Option<u8>,
    /// How the share of a new endpoint grows; it has all of it at once unless told otherwise. Not with
    /// `RingHash` and `Maglev`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slow_start: Option<slow_start::SlowStart>,
    /// Each worker of a proxy calls but some of the endpoints; all of them unless told otherwise. Only with
    /// `LeastRequest`, `PeakEwma` and `RoundRobin`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub aperture: Option<aperture::Aperture>,
    /// Requests stay near; all endpoints are equal unless told otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub locality: Option<locality::LocalityFailover>,
}

/// How latency is remembered: it rises at once and falls slowly.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PeakEwma {
    /// What an endpoint is taken to need before it has answered; `30ms` unless told otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default_rtt: Option<String>,
    /// How long it takes until a past latency counts for about a third (1/e); `10s` unless told otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decay: Option<String>,
}

/// What of a request decides which endpoint gets it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Hash {
    /// The first of these that a request has decides; one that has none goes to any endpoint.
    pub keys: Vec<HashKey>,
    /// An endpoint that has more requests in flight than so many percent of the average is passed over
    /// for the next one; never unless told otherwise. 125 is a usual value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bound_percent: Option<u32>,
}

/// A part of a request.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HashKey {
    /// What kind of part it is.
    pub r#type: HashKeyType,
    /// Its name, for a header field, a cookie or a query parameter.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

/// A kind of part of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum HashKeyType {
    /// The value of a header field; of several fields of that name, the first.
    Header,
    /// The value of a cookie.
    Cookie,
    /// The value of a query parameter; of several of that name, the first.
    Query,
    /// The path, without the query.
    Path,
    /// The client's address, without its port. The only one that a TCP connection has.
    SourceAddress,
}

/// How an endpoint is chosen. All of them go by the endpoints' weights, where they have some.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum LoadBalancingType {
    /// The less loaded of two that chance chose.
    #[default]
    LeastRequest,
    /// One after the other.
    RoundRobin,
    /// Any, evenly.
    Random,
    /// Of two that chance chose, the one that will probably answer sooner: by its latency, and by how many
    /// requests it has in flight.
    PeakEwma,
    /// The one whose point on a ring comes next after the request's hash. When an endpoint goes, only its
    /// own requests go elsewhere.
    RingHash,
    /// The one that a table has for the request's hash: more even than a ring, but when an endpoint goes, a
    /// few other requests go elsewhere too.
    Maglev,
}
