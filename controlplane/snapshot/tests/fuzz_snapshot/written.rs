//! The part of the corpus that hangs on the bytes of the model: written anew when the model changes, by
//! `LATEEN_WRITE_CORPUS=1 cargo test -p lateen-snapshot --test fuzz_snapshot`. Each hostile file has one thing
//! wrong with it, so that it is refused for that.

use std::sync::Arc;

use lateen_snapshot::encoding::{HEADER_BYTES, VERSION, encode};
use lateen_snapshot::model::{
    Action, Balancing, Cluster, ClusterPolicy, Direction, Endpoint, Epoch, HeaderEdits,
    HostPattern, HostRoutes, Listener, PathMatch, Protocol, Route, RouteId, RouteMatch,
    RoutePolicy, RouteTable, RouteTableId, Rule, Snapshot, VirtualHost,
};
use lateen_snapshot::testing::snapshots;
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::TestRunner;

use super::with_header_of;

const EPOCH: Epoch = Epoch { store: 7, number: 9 };
/// What a fuzz target takes at the most; the longest below it has most kinds of things in it.
const EVERYTHING_BYTES_MAX: usize = 1_000;
/// So many are drawn, to choose from.
const DRAWS: usize = 2_000;

/// The files, by name.
pub(crate) fn files() -> Vec<(&'static str, Vec<u8>)> {
    let drawn = drawn();
    let everything = chosen(&drawn, |_| true);
    let of_protocol = |protocol| {
        let is_one = move |snapshot: &Snapshot| {
            snapshot.listeners.len() == 1 && snapshot.listeners[0].protocol == protocol
        };
        shortest(&drawn, is_one)
    };
    let mut files = vec![
        ("valid-everything", everything.clone()),
        ("valid-empty", bytes_of(&Snapshot::default())),
        ("valid-cluster", bytes_of(&of_cluster("a/b:1"))),
        ("valid-http", of_protocol(Protocol::Http)),
        ("valid-tcp", of_protocol(Protocol::Tcp)),
        ("hostile-empty-names", bytes_of(&of_cluster(""))),
        ("hostile-header-injection", bytes_of(&of_route("/", "a\r\nX-Injected: b"))),
        ("hostile-regex", bytes_of(&of_route("((", "a"))),
    ];
    files.extend(spoilt(&everything));
    files
}

/// A whole file with one thing wrong with its frame.
fn spoilt(whole: &[u8]) -> Vec<(&'static str, Vec<u8>)> {
    let payload = &whole[HEADER_BYTES..];
    let flipped = |at: usize| {
        let mut bytes = whole.to_vec();
        bytes[at] ^= 1;
        bytes
    };
    let length = payload.len() as u64;
    let under = |version: u16, length, epoch| with_header_of(version, length, epoch, payload);
    vec![
        ("hostile-check", flipped(HEADER_BYTES - 1)),
        ("hostile-digest", flipped(HEADER_BYTES)),
        ("hostile-cut", whole[..whole.len() - 11].to_vec()),
        ("hostile-trailing", [whole, &[0]].concat()),
        ("hostile-length-long", under(VERSION, length + 1, EPOCH)),
        ("hostile-length-short", under(VERSION, length - 1, EPOCH)),
        ("hostile-no-store", under(VERSION, length, Epoch { store: 0, ..EPOCH })),
        ("hostile-no-number", under(VERSION, length, Epoch { number: 0, ..EPOCH })),
        ("hostile-version-0", under(0, length, EPOCH)),
        ("hostile-version-2", under(2, length, EPOCH)),
    ]
}

/// Valid snapshots, always the same ones.
fn drawn() -> Vec<(Snapshot, Vec<u8>)> {
    let mut runner = TestRunner::deterministic();
    let draws = (0..DRAWS).filter_map(|_| snapshots().new_tree(&mut runner).ok());
    let snapshots = draws.map(|tree| tree.current());
    snapshots.map(|snapshot| (snapshot.clone(), bytes_of(&snapshot))).collect()
}

fn chosen(drawn: &[(Snapshot, Vec<u8>)], fits: impl Fn(&Snapshot) -> bool) -> Vec<u8> {
    let fitting = drawn
        .iter()
        .filter(|(snapshot, bytes)| bytes.len() <= EVERYTHING_BYTES_MAX && fits(snapshot));
    let longest = fitting.max_by_key(|(_, bytes)| bytes.len());
    longest.expect("one of so many is short enough").1.clone()
}

fn shortest(drawn: &[(Snapshot, Vec<u8>)], fits: impl Fn(&Snapshot) -> bool) -> Vec<u8> {
    let fitting = drawn.iter().filter(|(snapshot, _)| fits(snapshot));
    fitting.min_by_key(|(_, bytes)| bytes.len()).expect("one of so many is such").1.clone()
}

fn bytes_of(snapshot: &Snapshot) -> Vec<u8> {
    encode(EPOCH, snapshot, VERSION).expect("a snapshot can be written").bytes
}

fn of_cluster(name: &str) -> Snapshot {
    let cluster = Cluster {
        name: name.to_owned(),
        endpoints: vec![Endpoint { address: ([10, 0, 0, 1], 80).into() }],
        weights: Vec::new(),
        balancing: Balancing::RoundRobin,
        connect_timeout_ms: Some(300),
        policy: ClusterPolicy::default(),
    };
    Snapshot { clusters: vec![Arc::new(cluster)], ..Snapshot::default() }
}

/// A listener whose requests are answered 404 where their path matches, with a field in the answer.
fn of_route(path_pattern: &str, field: &str) -> Snapshot {
    let route = Route {
        name: "r".to_owned(),
        action: Action::Respond(404),
        request_headers: HeaderEdits::default(),
        response_headers: HeaderEdits {
            set: vec![("x-a".to_owned(), field.to_owned())],
            ..HeaderEdits::default()
        },
        rewrite: None,
        mirrors: Vec::new(),
        cors: None,
        policy: RoutePolicy::default(),
    };
    let matches = RouteMatch {
        path: PathMatch::Regex(path_pattern.to_owned()),
        method: None,
        headers: Vec::new(),
        queries: Vec::new(),
    };
    let rules = vec![Rule { matches, route: RouteId(0) }];
    let host = VirtualHost { hosts: vec![HostPattern::Any], port: None, rules };
    let listener = Listener {
        name: "l".to_owned(),
        direction: Direction::Gateway,
        address: ([10, 0, 0, 1], 80).into(),
        protocol: Protocol::Http,
        proxy_sources: Vec::new(),
        http: vec![HostRoutes { host: HostPattern::Any, table: RouteTableId(0) }],
        tcp: None,
        connection_ms_max: None,
    };
    Snapshot {
        listeners: vec![listener],
        route_tables: vec![RouteTable { name: "t".to_owned(), hosts: vec![host] }],
        routes: vec![route],
        clusters: Vec::new(),
    }
}
