//! Measures what a snapshot costs: encoding, decoding, validation, and its memory.
//!
//! `snapshot_cost [CLUSTERS [ENDPOINTS_OF_EACH]]`, 10,000 and 10 unless told; as many virtual hosts
//! with four names each. Times are the best and the median of 21 rounds; memory is the growth of the
//! resident set while ten decoded snapshots are held, divided by ten.
#![expect(clippy::print_stdout, reason = "what it is for")]

use std::time::{Duration, Instant};

use lateen_snapshot::encoding::{VERSION, decode, encode};
use lateen_snapshot::model::*;
use lateen_snapshot::validate::{Origin, validate};

const ROUNDS: usize = 21;
const HELD: usize = 10;

fn main() {
    let mut numbers = std::env::args().skip(1).map(|text| text.parse().expect("a number"));
    let clusters = numbers.next().unwrap_or(10_000);
    let endpoints = numbers.next().unwrap_or(10);
    let snapshot = mesh(clusters, endpoints);
    let epoch = Epoch { store: 1, number: 1 };
    let bytes = encode(epoch, &snapshot, VERSION).expect("valid").bytes;
    println!("{clusters} clusters × {endpoints} endpoints: {} bytes encoded", bytes.len());
    report("encode", || encode(epoch, &snapshot, VERSION).expect("valid"));
    report("decode + validate", || decode(&bytes).expect("valid"));
    report("validate alone", || validate(&snapshot, Origin::Store).expect("valid"));
    drop(snapshot);

    let before = resident_bytes();
    let held: Vec<_> = (0..HELD).map(|_| decode(&bytes).expect("valid")).collect();
    let each = (resident_bytes() - before) / held.len();
    println!("resident: {each} bytes each, {} by endpoint", each / (clusters * endpoints).max(1));
}

fn report<T>(what: &str, mut work: impl FnMut() -> T) {
    let mut times: Vec<Duration> = Vec::new();
    for _ in 0..ROUNDS {
        let start = Instant::now();
        let result = work();
        times.push(start.elapsed());
        drop(result);
    }
    times.sort();
    println!("{what}: best {:?}, median {:?}", times[0], times[ROUNDS / 2]);
}

fn resident_bytes() -> usize {
    let text = std::fs::read_to_string("/proc/self/statm").expect("Linux");
    let pages: usize = text.split(' ').nth(1).and_then(|n| n.parse().ok()).expect("its format");
    pages * rustix::param::page_size()
}

/// Services with one route each, as a sidecar's outbound listener has them.
fn mesh(clusters: usize, endpoints: usize) -> Snapshot {
    let address = |n: usize| ([10, (n >> 16) as u8, (n >> 8) as u8, n as u8], 8080).into();
    let cluster = |index: usize| {
        let endpoints =
            (0..endpoints).map(|n| Endpoint { address: address(index * endpoints + n) });
        Cluster {
            name: format!("shop/service-{index}:80"),
            endpoints: endpoints.collect(),
            weights: Vec::new(),
            balancing: Balancing::LeastRequest,
            connect_timeout_ms: None,
            policy: ClusterPolicy::default(),
        }
        .into()
    };
    let route = |index: usize| Route {
        name: format!("Service/shop/service-{index}/80"),
        action: Action::Forward(vec![WeightedBackend {
            cluster: Some(ClusterId(index as u32)),
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
    };
    let host = |index: usize| VirtualHost {
        hosts: ["", ".shop", ".shop.svc", ".shop.svc.cluster.local"]
            .map(|domain| HostPattern::Exact(format!("service-{index}{domain}")))
            .to_vec(),
        port: Some(80),
        rules: vec![Rule {
            matches: RouteMatch {
                path: PathMatch::Prefix("/".into()),
                method: None,
                headers: Vec::new(),
                queries: Vec::new(),
            },
            route: RouteId(index as u32),
        }],
    };
    let listener = Listener {
        name: "outbound".into(),
        direction: Direction::Outbound,
        address: ([127, 0, 0, 1], 15002).into(),
        protocol: Protocol::Http,
        proxy_sources: Vec::new(),
        connection_ms_max: None,
        http: vec![HostRoutes { host: HostPattern::Any, table: RouteTableId(0) }],
        tcp: None,
    };
    let table = RouteTable { name: "outbound".into(), hosts: (0..clusters).map(host).collect() };
    Snapshot {
        listeners: vec![listener],
        route_tables: vec![table],
        routes: (0..clusters).map(route).collect(),
        clusters: (0..clusters).map(cluster).collect(),
    }
}
