//! A worker for unit tests: a shard in a simulated runtime, whose snapshots the test changes itself.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use lateen_ring::Runtime;
use lateen_ring::sim::SimConfig;
use lateen_snapshot::model::breaker::{BreakerMode, CircuitBreaker};
use lateen_snapshot::model::{
    Action, Balancing, Cluster, ClusterPolicy, Direction, Endpoint, Epoch, HeaderEdits, Listener,
    Protocol, Route, RoutePolicy, Snapshot, TcpRoute,
};
use lateen_snapshot::validate::patterns::Patterns;

use crate::bootstrap::{self, Command, host::Host};
use crate::decide::route::RouteTables;
use crate::live::Live;
use crate::loaded::{EpochWord, ListenerSlot, Loaded};
use crate::observe::metrics::Metrics;
use crate::shard::{Seeds, Shard};

/// What a test plays the main thread of.
pub(crate) struct TestWorker {
    pub(crate) shard: Rc<Shard>,
    word: Arc<EpochWord>,
    loaded: Arc<Loaded>,
    slots: HashMap<SocketAddr, ListenerSlot>,
}

/// Runs a test on a worker that was started with these flags of `quick` and without a snapshot.
pub(crate) fn on_worker(flags: &[&str], test: impl AsyncFnOnce(TestWorker)) {
    on_worker_in(SimConfig::new(1), flags, test);
}

/// As [`on_worker`], in a world of this kind.
pub(crate) fn on_worker_in(world: SimConfig, flags: &[&str], test: impl AsyncFnOnce(TestWorker)) {
    let least = ["lateen-proxy", "quick", "--listen=10.0.0.1:80", "--upstream=10.0.0.2:80"];
    let host = Host { cpus: vec![0], usable_cpus: 1, descriptors_max: 1_000, memory_max: None };
    let config = match bootstrap::parse(least.iter().chain(flags), &host) {
        Ok(Command::Quick(quick)) => Arc::new(quick.config),
        other => panic!("{other:?} is not quick"),
    };
    Runtime::simulated(world).block_on(async {
        let loaded = Loaded::first(Epoch::default(), Snapshot::default(), &mut Patterns::default());
        let loaded = Arc::new(loaded.expect("an empty one is whole"));
        let word = Arc::new(EpochWord::new(loaded.serial));
        let seeds = Seeds { random: 1, unix_us_at_zero: 0, follows_host: false };
        let metrics = Metrics::new(1);
        let shard = Shard::new(config, word.clone(), loaded.clone(), metrics, 0, None, &seeds);
        test(TestWorker { shard: Rc::new(shard), word, loaded, slots: HashMap::new() }).await;
    });
}

impl TestWorker {
    /// Prepares and commits a snapshot, and returns the view of it.
    pub(crate) fn switch(&mut self, snapshot: Snapshot) -> Rc<Live> {
        let tables = RouteTables::build(&snapshot, &mut Patterns::default()).expect("valid");
        let serial = self.loaded.serial + 1;
        let epoch = Epoch { store: 1, number: serial };
        let next = Loaded::after(&self.loaded, serial, epoch, snapshot, tables, &self.slots);
        self.loaded = Arc::new(next.expect("few listeners"));
        self.shard.views.prepare(self.loaded.clone());
        self.word.commit(serial);
        self.slots.extend(self.loaded.slots().map(|(slot, at)| (at.address, slot)));
        self.shard.views.live()
    }
}

/// A breaker as it is unless told otherwise.
pub(crate) fn breaker_rule() -> CircuitBreaker {
    CircuitBreaker {
        mode: BreakerMode::Automatic,
        error_percent: 50,
        request_volume: 20,
        window_ms: 10_000,
        sleep_ms: 5_000,
        ramp_ms: 10_000,
        fallback: None,
    }
}

/// A route that changes nothing.
pub(crate) fn route(action: Action) -> Route {
    Route {
        name: "route".into(),
        action,
        request_headers: HeaderEdits::default(),
        response_headers: HeaderEdits::default(),
        rewrite: None,
        mirrors: Vec::new(),
        cors: None,
        policy: RoutePolicy::default(),
    }
}

/// A snapshot of clusters and nothing else; endpoints are told by the last number of their address.
pub(crate) fn clusters(named: &[(&str, &[u8])]) -> Snapshot {
    let cluster = |&(name, endpoints): &(&str, &[u8])| {
        let address = |&last: &u8| SocketAddr::from(([10, 0, 1, last], 80));
        Arc::new(Cluster {
            name: name.to_owned(),
            endpoints: endpoints.iter().map(|last| Endpoint { address: address(last) }).collect(),
            weights: Vec::new(),
            balancing: Balancing::LeastRequest,
            connect_timeout_ms: None,
            policy: ClusterPolicy::default(),
        })
    };
    Snapshot { clusters: named.iter().map(cluster).collect(), ..Snapshot::default() }
}

/// A snapshot of TCP listeners that lead nowhere.
pub(crate) fn listening(addresses: &[SocketAddr]) -> Snapshot {
    let listener = |(index, address): (usize, &SocketAddr)| Listener {
        name: format!("listener-{index}"),
        direction: Direction::Gateway,
        address: *address,
        protocol: Protocol::Tcp,
        proxy_sources: Vec::new(),
        connection_ms_max: None,
        http: Vec::new(),
        tcp: Some(TcpRoute {
            name: "t".to_owned(),
            backends: Vec::new(),
            idle_timeout_ms: None,
            connection_ms_max: None,
        }),
    };
    let listeners = addresses.iter().enumerate().map(listener).collect();
    Snapshot { listeners, ..Snapshot::default() }
}
