//! A control plane that a test plays itself: it hears a proxy's Hello, publishes what it likes, and
//! hears what became of it.

use crate::wait::PATIENCE;
use lateen_snapshot::encoding::{VERSION, encode};
use lateen_snapshot::frame::{Patience, Receiver, Sender, split};
use lateen_snapshot::message::{Hello, Publish, ToControl, ToProxy, WorkerSwitch};
use lateen_snapshot::model::{
    Action, Balancing, Cluster, ClusterId, ClusterPolicy, Direction, Endpoint, Epoch, HeaderEdits,
    HostPattern, HostRoutes, Listener, PathMatch, Protocol, Route, RouteId, RouteMatch,
    RoutePolicy, RouteTable, RouteTableId, Rule, Snapshot, TcpBackend, TcpRoute, VirtualHost,
    WeightedBackend,
};
use std::net::SocketAddr;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tempfile::TempDir;

/// The store that every [`Control`] says it has.
pub const STORE: u64 = 0xabcd_0123;

/// A socket on which proxies are awaited, and a folder for their state.
#[derive(Debug)]
pub struct Control {
    listener: UnixListener,
    folder: TempDir,
}

impl Default for Control {
    fn default() -> Self {
        Self::new()
    }
}

impl Control {
    /// Begins to listen.
    pub fn new() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let listener = UnixListener::bind(folder.path().join("socket")).expect("a new socket");
        Self { listener, folder }
    }

    /// The socket.
    pub fn socket(&self) -> PathBuf {
        self.folder.path().join("socket")
    }

    /// A folder for a proxy's last good snapshot.
    pub fn state(&self) -> PathBuf {
        self.folder.path().join("state")
    }

    /// Takes a connection and says nothing.
    pub fn take(&self) -> UnixStream {
        self.listener.accept().expect("a connection").0
    }

    /// Takes a connection, hears the Hello and welcomes the proxy.
    pub fn welcome(&self) -> Session {
        let (sender, receiver) = split(self.take()).expect("two halves");
        let mut session = Session { sender, receiver, hello: None };
        let ToControl::Hello(hello) = session.hear() else { panic!("a Hello comes first") };
        session.hello = Some(hello);
        session.say(ToProxy::Welcome { store: STORE });
        session
    }

    /// Goes away: the socket is removed, and nobody can connect any more.
    pub fn leave(self) -> Left {
        std::fs::remove_file(self.socket()).expect("the socket is there");
        Left { folder: self.folder }
    }
}

/// A control plane that has left.
#[derive(Debug)]
pub struct Left {
    folder: TempDir,
}

impl Left {
    /// It comes back at the same place.
    pub fn come_back(self) -> Control {
        let socket = self.folder.path().join("socket");
        let listener = UnixListener::bind(socket).expect("it was removed");
        Control { listener, folder: self.folder }
    }

    /// Where it was.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }
}

/// A proxy that was welcomed.
#[derive(Debug)]
pub struct Session {
    sender: Sender,
    receiver: Receiver,
    hello: Option<Hello>,
}

impl Session {
    /// What it said first.
    pub fn hello(&self) -> &Hello {
        self.hello.as_ref().expect("it was welcomed")
    }

    fn say(&mut self, message: ToProxy) {
        self.sender.send(&message.into_frame(), PATIENCE).expect("the proxy reads");
    }

    /// The next thing that it says.
    pub fn hear(&mut self) -> ToControl {
        let patience = Patience { first_byte: Some(PATIENCE), whole_frame: PATIENCE };
        let frame = self.receiver.receive(patience).expect("a frame").expect("not the end");
        ToControl::from_frame(frame).expect("a message")
    }

    /// Waits until the proxy closes the connection.
    ///
    /// # Panics
    /// When it says something instead.
    pub fn await_end(&mut self) {
        let patience = Patience { first_byte: Some(PATIENCE), whole_frame: PATIENCE };
        match self.receiver.receive(patience) {
            Ok(None) => {}
            Ok(Some(frame)) => panic!("not the end, but {:?}", ToControl::from_frame(frame)),
            // What it had not read is answered with a reset.
            Err(error) => assert!(error.to_string().contains("reset"), "{error}"),
        }
    }

    /// Publishes without waiting for the answer.
    pub fn publish(&mut self, number: u64, snapshot: &Snapshot) {
        let encoded = encode(epoch(number), snapshot, VERSION).expect("the snapshot is valid");
        self.say(ToProxy::Publish(Publish::new(&encoded).expect("memory for it")));
    }

    /// Publishes and waits until every worker has switched; returns how long each was kept.
    ///
    /// # Panics
    /// When it is refused.
    pub fn apply(&mut self, number: u64, snapshot: &Snapshot) -> Vec<WorkerSwitch> {
        self.publish(number, snapshot);
        match self.hear() {
            ToControl::Applied { epoch: applied, workers } if applied == epoch(number) => workers,
            other => panic!("not applied, but {other:?}"),
        }
    }

    /// Publishes what is refused; returns the reason.
    ///
    /// # Panics
    /// When it is applied.
    pub fn refused(&mut self, number: u64, snapshot: &Snapshot) -> String {
        self.publish(number, snapshot);
        match self.hear() {
            ToControl::Rejected { epoch: refused, reason } if refused == epoch(number) => reason,
            other => panic!("not refused, but {other:?}"),
        }
    }
}

/// An epoch of the [`STORE`].
pub const fn epoch(number: u64) -> Epoch {
    Epoch { store: STORE, number }
}

/// A snapshot that is put together by parts.
#[derive(Clone, Debug, Default)]
pub struct Mesh(pub Snapshot);

impl Mesh {
    /// One HTTP listener, all of whose requests go to these endpoints.
    pub fn forwarding(listen: SocketAddr, upstreams: &[SocketAddr]) -> Self {
        let mut mesh = Self::default();
        let cluster = mesh.cluster("upstream", upstreams);
        let route = mesh.route(forward(&[(Some(cluster), 1)]));
        let table = mesh.table(vec![host(HostPattern::Any, vec![(prefix("/"), route)])]);
        mesh.http(listen, table);
        mesh
    }

    /// Adds a cluster.
    pub fn cluster(&mut self, name: &str, endpoints: &[SocketAddr]) -> ClusterId {
        let endpoints = endpoints.iter().map(|&address| Endpoint { address }).collect();
        self.0.clusters.push(Arc::new(Cluster {
            name: name.to_owned(),
            endpoints,
            weights: Vec::new(),
            balancing: Balancing::LeastRequest,
            connect_timeout_ms: None,
            policy: ClusterPolicy::default(),
        }));
        ClusterId(self.0.clusters.len() as u32 - 1)
    }

    /// Adds a route that does this and nothing else.
    pub fn route(&mut self, action: Action) -> RouteId {
        let name = format!("route-{}", self.0.routes.len());
        self.0.routes.push(Route {
            name,
            action,
            request_headers: HeaderEdits::default(),
            response_headers: HeaderEdits::default(),
            rewrite: None,
            mirrors: Vec::new(),
            cors: None,
            policy: RoutePolicy::default(),
        });
        RouteId(self.0.routes.len() as u32 - 1)
    }

    /// To change a route.
    pub fn route_mut(&mut self, route: RouteId) -> &mut Route {
        &mut self.0.routes[route.0 as usize]
    }

    /// Adds a route table.
    pub fn table(&mut self, hosts: Vec<VirtualHost>) -> RouteTableId {
        let name = format!("table-{}", self.0.route_tables.len());
        self.0.route_tables.push(RouteTable { name, hosts });
        RouteTableId(self.0.route_tables.len() as u32 - 1)
    }

    /// Adds a listener for HTTP.
    pub fn http(&mut self, address: SocketAddr, table: RouteTableId) {
        self.0.listeners.push(Listener {
            name: format!("listener-{}", self.0.listeners.len()),
            direction: Direction::Gateway,
            address,
            protocol: Protocol::Http,
            proxy_sources: Vec::new(),
            connection_ms_max: None,
            http: vec![HostRoutes { host: HostPattern::Any, table }],
            tcp: None,
        });
    }

    /// Adds a listener for TCP.
    pub fn tcp(&mut self, address: SocketAddr, cluster: ClusterId) {
        self.0.listeners.push(Listener {
            name: format!("listener-{}", self.0.listeners.len()),
            direction: Direction::Gateway,
            address,
            protocol: Protocol::Tcp,
            proxy_sources: Vec::new(),
            connection_ms_max: None,
            http: Vec::new(),
            tcp: Some(TcpRoute {
                name: "tcp".to_owned(),
                backends: vec![TcpBackend { cluster: Some(cluster), weight: 1, rate_limits: None }],
                idle_timeout_ms: None,
                connection_ms_max: None,
            }),
        });
    }
}

/// Forwarding by weight.
pub fn forward(backends: &[(Option<ClusterId>, u32)]) -> Action {
    let backend = |&(cluster, weight): &(Option<ClusterId>, u32)| WeightedBackend {
        cluster,
        weight,
        request_headers: HeaderEdits::default(),
        response_headers: HeaderEdits::default(),
        rate_limits: None,
    };
    Action::Forward(backends.iter().map(backend).collect())
}

/// The rules of one host.
pub fn host(host: HostPattern, rules: Vec<(RouteMatch, RouteId)>) -> VirtualHost {
    let rules = rules.into_iter().map(|(matches, route)| Rule { matches, route }).collect();
    VirtualHost { hosts: vec![host], port: None, rules }
}

/// Requests whose path begins so.
pub fn prefix(path: &str) -> RouteMatch {
    RouteMatch {
        path: PathMatch::Prefix(path.to_owned()),
        method: None,
        headers: Vec::new(),
        queries: Vec::new(),
    }
}
