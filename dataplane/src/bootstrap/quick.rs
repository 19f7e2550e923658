//! What `quick` runs on, as a snapshot: its listeners all lead to one cluster.
//!
//! Before: `flags` checked the command line. After: the proxy runs it like one from a control plane.

use std::net::SocketAddr;
use std::sync::Arc;

use lateen_snapshot::model::{
    Action, Balancing, Cluster, ClusterId, ClusterPolicy, Direction, Endpoint, HeaderEdits,
    HostPattern, HostRoutes, Listener, PathMatch, Protocol, Route, RouteId, RouteMatch,
    RoutePolicy, RouteTable, RouteTableId, Rule, Snapshot, TcpBackend, TcpRoute, VirtualHost,
    WeightedBackend,
};

/// What clients speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum ProtocolFlag {
    /// HTTP/1 if the first bytes are, else TCP; a silent client gets its upstream connected
    Auto,
    /// HTTP/1 only; anything else is answered 400
    Http,
    /// Bytes both ways, whatever they are
    Tcp,
}

/// A snapshot in which every address of `listen` leads to the endpoints `upstream`.
pub fn snapshot(
    listen: &[SocketAddr],
    upstream: &[SocketAddr],
    protocol: ProtocolFlag,
) -> Snapshot {
    let cluster = ClusterId(0);
    let listener = |(index, address): (usize, &SocketAddr)| Listener {
        name: format!("listen-{index}"),
        direction: Direction::Gateway,
        address: *address,
        proxy_sources: Vec::new(),
        connection_ms_max: None,
        protocol: match protocol {
            ProtocolFlag::Auto => Protocol::Auto,
            ProtocolFlag::Http => Protocol::Http,
            ProtocolFlag::Tcp => Protocol::Tcp,
        },
        http: match protocol {
            ProtocolFlag::Tcp => Vec::new(),
            _ => vec![HostRoutes { host: HostPattern::Any, table: RouteTableId(0) }],
        },
        tcp: match protocol {
            ProtocolFlag::Http => None,
            _ => Some(TcpRoute {
                name: "upstream".to_owned(),
                backends: vec![TcpBackend { cluster: Some(cluster), weight: 1, rate_limits: None }],
                idle_timeout_ms: None,
                connection_ms_max: None,
            }),
        },
    };
    Snapshot {
        listeners: listen.iter().enumerate().map(listener).collect(),
        route_tables: vec![everything_to(RouteId(0))],
        routes: vec![Route {
            name: "upstream".to_owned(),
            action: Action::Forward(vec![WeightedBackend {
                cluster: Some(cluster),
                weight: 1,
                request_headers: HeaderEdits::default(),
                response_headers: HeaderEdits::default(),
                rate_limits: None,
            }]),
            request_headers: HeaderEdits::default(),
            response_headers: HeaderEdits::default(),
            rewrite: None,
            mirrors: Vec::new(),
            cors: None,
            policy: RoutePolicy::default(),
        }],
        clusters: vec![Arc::new(Cluster {
            name: "upstream".to_owned(),
            endpoints: upstream.iter().map(|&address| Endpoint { address }).collect(),
            weights: Vec::new(),
            balancing: Balancing::LeastRequest,
            connect_timeout_ms: None,
            policy: ClusterPolicy::default(),
        })],
    }
}

fn everything_to(route: RouteId) -> RouteTable {
    let matches = RouteMatch {
        path: PathMatch::Prefix("/".to_owned()),
        method: None,
        headers: Vec::new(),
        queries: Vec::new(),
    };
    RouteTable {
        name: "upstream".to_owned(),
        hosts: vec![VirtualHost {
            hosts: vec![HostPattern::Any],
            port: None,
            rules: vec![Rule { matches, route }],
        }],
    }
}
