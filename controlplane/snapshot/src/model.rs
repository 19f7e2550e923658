//! What a proxy runs on: listeners, routes and clusters, resolved.
//!
//! Before: the control plane compiled declared objects into it. After: [`validate`](crate::validate)
//! checks it once on each side, and the proxy builds its look-up tables from it. A plain value: every
//! name is resolved, every default that the control plane knows is filled in, every reference is an
//! index into a list of the same snapshot.

pub mod aperture;
pub mod breaker;
pub mod bulkhead;
pub mod failover;
pub mod faults;
pub mod health_check;
pub mod outlier;
pub mod overload;
pub mod proxy_protocol;
pub mod rate_limit;
pub mod retry;
pub mod session;
pub mod slow_start;

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use self::breaker::CircuitBreaker;
use self::bulkhead::Caps;
use self::health_check::HealthCheck;
use self::outlier::OutlierDetection;
use self::rate_limit::RateLimits;
use self::retry::{HedgeAfter, Retry, RetryBudget};

/// Which state of which store a proxy runs on. Numbers of one store only go up; a new store starts
/// anew, and every number of its is newer than those of another.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Epoch {
    /// Chosen at random when the store was made; 0: no store, a config from flags.
    pub store: u64,
    /// Position in that store's history, from 1; 0 only without a store.
    pub number: u64,
}

impl Epoch {
    /// Whether a proxy that runs `self` takes `offered` for a change.
    pub const fn is_replaced_by(self, offered: Self) -> bool {
        self.store != offered.store || self.number < offered.number
    }
}

/// `store-number`, as in log lines and headers: `4f2a90bb-17`, or `0` for a config from flags.
impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.store {
            0 => write!(f, "{}", self.number),
            store => write!(f, "{:08x}-{}", store as u32, self.number),
        }
    }
}

/// Everything that one proxy runs on. Not more than it can reach.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshot {
    /// Where it accepts; no address twice, no name twice.
    pub listeners: Vec<Listener>,
    /// The route tables that listeners point to.
    pub route_tables: Vec<RouteTable>,
    /// What happens to a request, shared by the rules that lead to it.
    pub routes: Vec<Route>,
    /// What routes point to; no name twice. Behind an `Arc` each, so that a proxy keeps what did not
    /// change from one snapshot to the next.
    pub clusters: Vec<Arc<Cluster>>,
}

/// Position in [`Snapshot::route_tables`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct RouteTableId(pub u32);

/// Position in [`Snapshot::routes`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct RouteId(pub u32);

/// Position in [`Snapshot::clusters`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ClusterId(pub u32);

/// Where a proxy accepts, and what becomes of what it accepts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listener {
    /// Unique in the snapshot; in metrics and messages.
    pub name: String,
    /// Which side of the mesh its clients are on.
    pub direction: Direction,
    /// Unique in the snapshot. Port 0 (the kernel chooses) only in a config from flags.
    pub address: SocketAddr,
    /// What clients speak.
    pub protocol: Protocol,
    /// Connections from these begin with a header of the PROXY protocol, by which their client is known.
    pub proxy_sources: Vec<proxy_protocol::AddressRange>,
    /// How long a connection lasts, in milliseconds, more than 0; `None`: as long as it likes. Some end up
    /// to a tenth of it sooner.
    pub connection_ms_max: Option<u32>,
    /// For HTTP: by the request's host, the most specific first match wins (exact before longer
    /// suffix before shorter suffix before any). A host that none matches is answered 404. Empty for
    /// [`Protocol::Tcp`].
    pub http: Vec<HostRoutes>,
    /// For bytes that are not HTTP; required by [`Protocol::Tcp`] and [`Protocol::Auto`].
    pub tcp: Option<TcpRoute>,
}

/// Which side of the mesh a listener's clients are on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Direction {
    /// Other workloads call the one beside the proxy.
    Inbound,
    /// The workload beside the proxy calls others.
    Outbound,
    /// Clients from outside the mesh.
    Gateway,
}

/// What clients of a listener speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Protocol {
    /// HTTP/1 if the first bytes are, else TCP.
    Auto,
    /// HTTP/1 only.
    Http,
    /// Bytes both ways.
    Tcp,
}

/// The routes for requests to some hosts of a listener.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostRoutes {
    /// Which hosts.
    pub host: HostPattern,
    /// Their routes.
    pub table: RouteTableId,
}

/// Which hosts of a request's authority (without port, lower case) are meant.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum HostPattern {
    /// Any.
    Any,
    /// This one; lower case, no trailing dot.
    Exact(String),
    /// Those that end in this with at least one label before it: `.example.com` stands for
    /// `*.example.com` and does not match `example.com` itself. Starts with a dot; lower case.
    Suffix(String),
}

/// Rules by host. Between hosts the Gateway API's order holds (HTTPRoute `hostnames`): rules of the
/// exact host come first, then those of the longest suffix, …, then those for any host; a request
/// that no rule of one matches goes on to the next.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RouteTable {
    /// For messages.
    pub name: String,
    /// No pattern twice with the same port.
    pub hosts: Vec<VirtualHost>,
}

/// The rules of some host names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VirtualHost {
    /// Its names: a mesh service has one for each way to call it.
    pub hosts: Vec<HostPattern>,
    /// Only requests whose authority has this port (80 where it names none); `None`: whatever port.
    /// One with a port comes before one without.
    pub port: Option<u16>,
    /// In order of precedence: the first that matches wins.
    pub rules: Vec<Rule>,
}

/// Requests like these go this way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rule {
    /// Which requests; all conditions must hold.
    pub matches: RouteMatch,
    /// What happens to them.
    pub route: RouteId,
}

/// Conditions on a request; all must hold.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RouteMatch {
    /// On the path, without the query.
    pub path: PathMatch,
    /// On the method, exactly as sent; `None`: any.
    pub method: Option<String>,
    /// On header fields; no name twice.
    pub headers: Vec<FieldMatch>,
    /// On query parameters; no name twice. The first value of a name counts.
    pub queries: Vec<FieldMatch>,
}

/// A condition on the path. Paths are compared as sent, without decoding.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum PathMatch {
    /// By whole segments: `/a` matches `/a`, `/a/` and `/a/b`, not `/ab`. Without a trailing slash,
    /// except for `/`, which matches every path.
    Prefix(String),
    /// This path.
    Exact(String),
    /// The whole path matches this regular expression (the `regex` crate's syntax).
    Regex(String),
}

/// A condition on a header field or a query parameter.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FieldMatch {
    /// Lower case for a header field; as it is for a query parameter.
    pub name: String,
    /// What its value must be.
    pub value: ValueMatch,
}

/// A condition on a value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ValueMatch {
    /// This one.
    Exact(String),
    /// The whole value matches this regular expression.
    Regex(String),
}

/// What happens to a request. What few routes have is in a box: there is a route for each service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Route {
    /// Where it was declared, such as `HTTPRoute/shop/canary/pay` (namespace, name, rule), or `…/0` where the
    /// rule has no name. What is known of a route is kept by it.
    pub name: String,
    /// What answers it.
    pub action: Action,
    /// Changes to its header fields, before those of the backend.
    pub request_headers: HeaderEdits,
    /// Changes to the response's header fields, after those of the backend.
    pub response_headers: HeaderEdits,
    /// Changes to its target.
    pub rewrite: Option<Box<Rewrite>>,
    /// Who gets a copy, whose answer nobody sees.
    pub mirrors: Vec<Mirror>,
    /// Which other origins' pages may call this.
    pub cors: Option<Box<Cors>>,
    /// How they are treated.
    pub policy: RoutePolicy,
}

/// How the requests of a route are treated. What few routes have is in a box.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct RoutePolicy {
    /// From the request's head to the response's last byte, in milliseconds; `None`: the proxy's own
    /// `--request-timeout`; 0: none.
    pub request_timeout_ms: Option<u32>,
    /// The same for one try at a backend; `None` and 0: none.
    pub backend_request_timeout_ms: Option<u32>,
    /// When they are tried again; `None`: never.
    pub retry: Option<Box<Retry>>,
    /// When a second request is sent beside a slow one; `None`: never.
    pub hedging: Option<HedgeAfter>,
    /// What is made to go wrong on purpose.
    pub faults: Option<Box<faults::Faults>>,
    /// Sessions stay at one endpoint.
    pub session: Option<Box<session::Session>>,
    /// How many of them are let through; those of its backends don't count then.
    pub rate_limits: Option<Box<RateLimits>>,
    /// When they are answered at once; `None`: never.
    pub circuit_breaker: Option<Box<CircuitBreaker>>,
    /// How important they are; `None`: as any other.
    pub priority: Option<overload::Priority>,
}

/// What answers a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Action {
    /// One of these, by weight; their weights add up to more than 0.
    Forward(Vec<WeightedBackend>),
    /// The proxy, by sending the client elsewhere.
    Redirect(Box<Redirect>),
    /// The proxy, with this status (4xx or 5xx) and no more.
    Respond(u16),
}

/// A backend and its share of the requests.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WeightedBackend {
    /// Who answers; `None`: a reference that leads nowhere, whose share is answered 500.
    pub cluster: Option<ClusterId>,
    /// Its share is weight / sum of weights; 0: none.
    pub weight: u32,
    /// Changes to the request's header fields for this backend.
    pub request_headers: HeaderEdits,
    /// Changes to the response's header fields from this backend.
    pub response_headers: HeaderEdits,
    /// How many requests are let through to it, if the route does not say so itself.
    pub rate_limits: Option<Box<RateLimits>>,
}

/// Changes to header fields: first `remove`, then `set`, then `add`. Names are lower case, and none of
/// those that frame a message or end at a hop; see [`validate`](crate::validate).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeaderEdits {
    /// Replaces all fields of that name.
    pub set: Vec<(String, String)>,
    /// Adds a field beside those that are there.
    pub add: Vec<(String, String)>,
    /// Takes all fields of that name away.
    pub remove: Vec<String>,
}

/// Changes to the target of a request.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rewrite {
    /// The new `Host`.
    pub host: Option<String>,
    /// The new path; the query stays.
    pub path: Option<PathRewrite>,
}

/// A new path.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum PathRewrite {
    /// Replaces the whole path.
    Full(String),
    /// Replaces the prefix that the rule matched ([`PathMatch::Prefix`] only), by the Gateway API's
    /// table (`ReplacePrefixMatch`): the result never has two slashes at the seam and is never empty.
    Prefix(String),
}

/// An answer that sends the client elsewhere. What is `None` is taken from the request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Redirect {
    /// 301, 302, 303, 307 or 308.
    pub status: u16,
    /// `http` or `https`.
    pub scheme: Option<String>,
    /// The host to go to.
    pub host: Option<String>,
    /// The port to go to; left out of the answer where it is the scheme's own. `None`: the scheme's own
    /// if `scheme` is given, else the listener's.
    pub port: Option<u16>,
    /// The path to go to.
    pub path: Option<PathRewrite>,
}

/// A copy of some requests.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mirror {
    /// Who gets it.
    pub cluster: ClusterId,
    /// This share of the requests …
    pub numerator: u32,
    /// … of that many; more than 0.
    pub denominator: u32,
}

/// Which other origins' pages may call (Fetch standard, CORS protocol; HTTPRoute `cors`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cors {
    /// Origins: `*`, or scheme and host (a leading `*.` label of the host is a wildcard) and port if it
    /// is not the scheme's own.
    pub allow_origins: Vec<String>,
    /// Cookies and credentials may come along.
    pub allow_credentials: bool,
    /// Methods; `*` for all.
    pub allow_methods: Vec<String>,
    /// Header fields of requests; `*` for all.
    pub allow_headers: Vec<String>,
    /// Header fields of responses that the page may read; `*` for all.
    pub expose_headers: Vec<String>,
    /// How long a page may remember the answer to a preflight request, in seconds.
    pub max_age_s: u32,
}

/// Where the bytes of a TCP client go.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TcpRoute {
    /// Where it was declared, such as `TCPRoute/shop/db/0`.
    pub name: String,
    /// One of these, by weight, for each connection. Empty, or one without a cluster: a reset.
    pub backends: Vec<TcpBackend>,
    /// Without a byte either way, in milliseconds; `None`: the proxy's own `--idle-timeout`.
    pub idle_timeout_ms: Option<u32>,
    /// How long a connection lasts, in milliseconds, more than 0; `None`: as its cluster says.
    pub connection_ms_max: Option<u32>,
}

/// A backend and its share of the connections.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TcpBackend {
    /// Who gets the bytes; `None`: a reference that leads nowhere.
    pub cluster: Option<ClusterId>,
    /// Its share is weight / sum of weights; 0: none.
    pub weight: u32,
    /// How many connections are let through to it.
    pub rate_limits: Option<Box<RateLimits>>,
}

/// Endpoints that do the same, as one port of a Service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cluster {
    /// Unique in the snapshot, such as `shop/cart:80` (namespace, service, port). What a worker knows
    /// of a cluster survives a snapshot under this name.
    pub name: String,
    /// Where it can be reached; no address twice, in no particular order. May be empty: 503.
    pub endpoints: Vec<Endpoint>,
    /// Of each endpoint, its share of the requests beside the others': 1 to
    /// [`ENDPOINT_WEIGHT_MAX`](crate::limits::ENDPOINT_WEIGHT_MAX). Empty: all have the same.
    pub weights: Vec<u32>,
    /// Which of them gets a request.
    pub balancing: Balancing,
    /// Until a connection to one of them stands, in milliseconds; `None`: the proxy's own
    /// `--connect-timeout`.
    pub connect_timeout_ms: Option<u32>,
    /// How its endpoints are treated.
    pub policy: ClusterPolicy,
}

/// How the endpoints of a cluster are treated. What few clusters have is in a box.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterPolicy {
    /// The name of what this is a part of, where a service is divided by locality or label: caps and budgets
    /// are of all its parts together. `None`: it is no part.
    pub part_of: Option<Box<str>>,
    /// What retries to it may cost; `None`: as usual.
    pub retry_budget: Option<RetryBudget>,
    /// Connections to them begin with a header of the PROXY protocol, and serve one client each.
    pub proxy_protocol: Option<proxy_protocol::ProxyVersion>,
    /// How long a connection to one of them lasts, in milliseconds, more than 0; `None`: the proxy's own
    /// `--pool-lifetime` if HTTP requests share it, else as long as it likes.
    pub connection_ms_max: Option<u32>,
    /// Where fewer than so many percent of them are in service, those that are not get requests too: at
    /// most 100; 0: never; `None`: the proxy's own default.
    pub panic_threshold_percent: Option<u8>,
    /// How the share of a new one grows; `None`: it has all of it at once. Not where keys decide.
    pub slow_start: Option<Box<slow_start::SlowStart>>,
    /// Each worker calls but a part of it; `None`: all of it. Only where turns or the less loaded of two
    /// decide.
    pub aperture: Option<aperture::Aperture>,
    /// Positions of those that are being taken away, in their order: they get no new requests while there
    /// are others.
    pub terminating: Vec<u32>,
    /// Positions of those that an operator has ordered out, in their order: they get no new requests,
    /// whatever becomes of the others.
    pub ordered_out: Vec<u32>,
    /// Who gets the requests while too few of them are in service.
    pub failover: Option<failover::Failover>,
    /// How much of the proxy it may take; `None`: the proxy's own caps.
    pub bulkhead: Option<Box<Caps>>,
    /// When endpoints are ejected; `None`: as [`OutlierDetection::default`] says.
    pub outlier: Option<Box<OutlierDetection>>,
    /// How its endpoints are asked whether they are well; `None`: they are not.
    pub health_check: Option<Box<HealthCheck>>,
    /// When requests are turned away so that the others are answered in time; `None`: never.
    pub overload: Option<Box<overload::Overload>>,
}

/// One instance of a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Endpoint {
    /// Where it listens; no port 0.
    pub address: SocketAddr,
}

/// Which endpoint gets a request, beside its weight.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Balancing {
    /// The less loaded of two that chance chose.
    #[default]
    LeastRequest,
    /// One after the other, by worker.
    RoundRobin,
    /// Any, evenly.
    Random,
    /// Of two that chance chose, the one that will probably answer sooner.
    PeakEwma(PeakEwma),
    /// The one whose point on a ring comes next after the request's key (consistent hashing).
    RingHash(Box<Hashing>),
    /// The one that a table has for the request's key (Maglev).
    Maglev(Box<Hashing>),
}

/// How latency is remembered: it rises at once and falls slowly.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeakEwma {
    /// What an endpoint is taken to need before it has answered; more than 0.
    pub default_rtt_ms: u32,
    /// How long it takes until a past latency counts for 1/e; more than 0.
    pub decay_ms: u32,
}

/// What a request's key is made of, and how far it binds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hashing {
    /// The first of these that a request has is its key; one that has none goes anywhere. Not empty.
    pub keys: Vec<HashKey>,
    /// An endpoint that has more in flight than so many percent of the average is passed over for the
    /// next one (consistent hashing with bounded loads); more than 100. `None`: never.
    pub bound_percent: Option<u32>,
}

/// A part of a request that can be its key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum HashKey {
    /// The value of this header field, the first if there are several. Lower case.
    Header(String),
    /// The value of this cookie.
    Cookie(String),
    /// The first value of this query parameter.
    Query(String),
    /// The path without the query.
    Path,
    /// The client's address without its port. A connection that is not HTTP has no other.
    SourceAddress,
}
