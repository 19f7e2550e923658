//! `Proxy`: where one named proxy accepts, and what it can reach.

use std::net::IpAddr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What the proxy that runs under this name does.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ProxySpec {
    /// Where it accepts; no name and no address twice.
    pub listeners: Vec<ProxyListener>,
    /// Which services its `Outbound` listeners reach; those of its own namespace unless told
    /// otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outbound: Option<OutboundScope>,
    /// Where the proxy is, for policies by which requests stay near.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub locality: Option<Locality>,
}

/// Where something is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Locality {
    /// The zone, such as a data centre.
    pub zone: String,
    /// The region that the zone is in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
}

/// Where a proxy accepts, and what becomes of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ProxyListener {
    /// Unique in the proxy; in metrics and messages.
    pub name: String,
    /// Which side of the mesh its clients are on; decides which other fields there are.
    pub r#type: ListenerType,
    /// The IP address to listen on: 127.0.0.1 for `Outbound` and 0.0.0.0 for the others unless told
    /// otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<IpAddr>,
    /// The port to listen on. A `Gateway` listener has those of its Gateway instead.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// What its clients speak; `Auto` unless told otherwise. Not for `Gateway`, whose listeners say
    /// it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protocol: Option<ListenerProtocol>,
    /// How long a client's connection lasts at the most, or up to a tenth less, so that not all end at once.
    /// After that the next answer is the last; what is not HTTP is closed then. Never unless told otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_connection_duration: Option<String>,
    /// Load balancers in front say whom a connection is from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proxy_protocol: Option<AcceptedProxyProtocol>,
    /// `Inbound`: the service, of the proxy's namespace, that the target is an instance of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    /// `Inbound`: where the workload beside the proxy listens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<Target>,
    /// `Outbound`, for bytes that are not HTTP: the one service behind this port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backend: Option<Backend>,
    /// `Gateway`: the Gateway whose listeners these are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gateway: Option<GatewayRef>,
    /// `Gateway`: added to each port of the Gateway, so that one of port 80 can be tried without
    /// being root.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port_offset: Option<u16>,
}

/// Whose headers of the PROXY protocol, version 1 or 2, are believed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AcceptedProxyProtocol {
    /// Ranges of addresses, such as `10.0.0.0/8`, or single ones. Each connection from one of them must
    /// begin with a header, which says who the client is; from elsewhere a header is bytes like others.
    pub from: Vec<String>,
}

/// Which side of the mesh a listener's clients are on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ListenerType {
    /// Others call the workload beside the proxy.
    Inbound,
    /// The workload beside the proxy calls others.
    Outbound,
    /// Clients from outside the mesh call in.
    Gateway,
}

/// What clients of a listener speak.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ListenerProtocol {
    /// HTTP/1 if the first bytes are, else bytes both ways.
    #[default]
    Auto,
    /// HTTP/1.
    #[serde(rename = "HTTP")]
    Http,
    /// Bytes both ways.
    #[serde(rename = "TCP")]
    Tcp,
}

/// An address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Target {
    /// IP address.
    pub address: IpAddr,
    /// Port.
    pub port: u16,
}

/// A port of a service.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Backend {
    /// Group of the service: `lateen.dev`, or `""` for one of Kubernetes; whichever there is unless
    /// told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// Name of the service.
    pub name: String,
    /// Its namespace; the proxy's unless told otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// Number of its port.
    pub port: u16,
}

/// A Gateway.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct GatewayRef {
    /// Its name.
    pub name: String,
    /// Its namespace; the proxy's unless told otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
}

/// Which services a proxy reaches: what any of the lists names.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct OutboundScope {
    /// These services.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub services: Option<Vec<ServiceRef>>,
    /// All services of these namespaces; `*` stands for every namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespaces: Option<Vec<String>>,
}

/// A service.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ServiceRef {
    /// Its name.
    pub name: String,
    /// Its namespace; the proxy's unless told otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
}
