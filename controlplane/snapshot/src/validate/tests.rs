//! Each rule refuses what breaks it, by its message; and what is allowed passes.

use std::sync::Arc;

use proptest::prelude::*;

use super::{Origin, validate};
use crate::limits::*;
use crate::model::*;
use crate::testing::snapshots;

/// One of everything, valid.
fn example() -> Snapshot {
    let http = Listener {
        name: "web".into(),
        direction: Direction::Outbound,
        address: "127.0.0.1:15002".parse().expect("an address"),
        protocol: Protocol::Http,
        proxy_sources: Vec::new(),
        connection_ms_max: Some(60_000),
        http: vec![HostRoutes { host: HostPattern::Any, table: RouteTableId(0) }],
        tcp: None,
    };
    let tcp = Listener {
        name: "db".into(),
        address: "127.0.0.1:5432".parse().expect("an address"),
        protocol: Protocol::Tcp,
        proxy_sources: Vec::new(),
        http: Vec::new(),
        tcp: Some(TcpRoute {
            name: "TCPRoute/shop/db/0".into(),
            backends: vec![TcpBackend {
                cluster: Some(ClusterId(0)),
                weight: 1,
                rate_limits: None,
            }],
            idle_timeout_ms: Some(1000),
            connection_ms_max: None,
        }),
        ..http.clone()
    };
    let matches = RouteMatch {
        path: PathMatch::Prefix("/a".into()),
        method: Some("GET".into()),
        headers: vec![FieldMatch { name: "x-a".into(), value: ValueMatch::Exact("1".into()) }],
        queries: vec![FieldMatch { name: "q".into(), value: ValueMatch::Regex("[0-9]+".into()) }],
    };
    let backend = WeightedBackend {
        cluster: Some(ClusterId(0)),
        weight: 1,
        request_headers: HeaderEdits::default(),
        response_headers: HeaderEdits::default(),
        rate_limits: None,
    };
    let route = Route {
        name: "HTTPRoute/shop/cart/0".into(),
        action: Action::Forward(vec![backend]),
        request_headers: HeaderEdits {
            set: vec![("x-a".into(), "1".into())],
            add: vec![("x-b".into(), String::new())],
            remove: vec!["cookie".into()],
        },
        response_headers: HeaderEdits::default(),
        rewrite: Some(Box::new(Rewrite {
            host: Some("b.example.com".into()),
            path: Some(PathRewrite::Prefix("/b".into())),
        })),
        mirrors: vec![Mirror { cluster: ClusterId(0), numerator: 1, denominator: 100 }],
        cors: Some(Box::new(Cors {
            allow_origins: vec!["https://*.example.com:8443".into()],
            allow_credentials: true,
            allow_methods: vec!["*".into()],
            allow_headers: vec!["x-a".into()],
            expose_headers: vec!["*".into()],
            max_age_s: 5,
        })),
        policy: RoutePolicy { request_timeout_ms: Some(15_000), ..RoutePolicy::default() },
    };
    let host = VirtualHost {
        hosts: vec![
            HostPattern::Exact("cart.shop".into()),
            HostPattern::Suffix(".example.com".into()),
        ],
        port: Some(80),
        rules: vec![Rule { matches, route: RouteId(0) }],
    };
    let cluster = Cluster {
        name: "shop/cart:80".into(),
        endpoints: vec![Endpoint { address: "10.0.0.1:80".parse().expect("an address") }],
        weights: Vec::new(),
        balancing: Balancing::LeastRequest,
        connect_timeout_ms: Some(1000),
        policy: ClusterPolicy::default(),
    };
    Snapshot {
        listeners: vec![http, tcp],
        route_tables: vec![RouteTable { name: "web".into(), hosts: vec![host] }],
        routes: vec![route],
        clusters: vec![Arc::new(cluster)],
    }
}

fn cluster(s: &mut Snapshot) -> &mut Cluster {
    Arc::make_mut(&mut s.clusters[0])
}

fn rule(s: &mut Snapshot) -> &mut Rule {
    &mut s.route_tables[0].hosts[0].rules[0]
}

fn backend(s: &mut Snapshot) -> &mut WeightedBackend {
    match &mut s.routes[0].action {
        Action::Forward(backends) => &mut backends[0],
        _ => panic!("the example forwards"),
    }
}

fn tcp(s: &mut Snapshot) -> &mut TcpRoute {
    s.listeners[1].tcp.as_mut().expect("the example's second listener is TCP")
}

fn cors(s: &mut Snapshot) -> &mut Cors {
    s.routes[0].cors.as_mut().expect("the example has CORS")
}

fn redirect(s: &mut Snapshot) -> &mut Redirect {
    let plain = Redirect { status: 302, scheme: None, host: None, port: None, path: None };
    s.routes[0].action = Action::Redirect(Box::new(plain));
    match &mut s.routes[0].action {
        Action::Redirect(redirect) => redirect,
        _ => unreachable!("set above"),
    }
}

type Change = fn(&mut Snapshot);

/// Applies each change to the example; the message must begin with what is expected.
fn assert_refused(cases: &[(Change, &str)]) {
    assert_eq!(validate(&example(), Origin::Store), Ok(()));
    for (index, (change, expected)) in cases.iter().enumerate() {
        let mut snapshot = example();
        change(&mut snapshot);
        let message = match validate(&snapshot, Origin::Store) {
            Ok(()) => panic!("case {index} passes, expected: {expected}"),
            Err(invalid) => invalid.to_string(),
        };
        assert!(message.starts_with(expected), "case {index}:\n  {message}\n  {expected}");
    }
}

#[test]
fn refuses_bad_listeners() {
    assert_refused(&[
        (
            |s| s.listeners[1].name = "web".into(),
            "listener 1 (\"web\"): name: \"web\": another one before it has that name",
        ),
        (
            |s| s.listeners[0].name.clear(),
            "listener 0 (\"\"): name: \"\": a name that is not empty",
        ),
        (
            |s| s.listeners[0].name = "a\nb".into(),
            r#"listener 0 ("a\nb"): name: "a\nb": a name that is not empty, without control"#,
        ),
        (
            |s| s.listeners[0].name = "é".repeat(300),
            "listener 0 (\"éééééééééééééééééééééééééééééééééééééééééééééééééééééééééééé\"… (600 bytes))",
        ),
        (
            |s| s.listeners[1].address = s.listeners[0].address,
            "listener 1 (\"db\"): address: 127.0.0.1:15002: a listener before it has that address",
        ),
        (
            |s| s.listeners[0].address.set_port(0),
            "listener 0 (\"web\"): address: 127.0.0.1:0: a port from 1 to 65535 is needed",
        ),
        (
            |s| s.listeners[0].address = "[fe80::1%3]:80".parse().expect("an address"),
            "listener 0 (\"web\"): address: [fe80::1%3]:80: an address without zone",
        ),
        (
            |s| s.listeners[0].http.clear(),
            "listener 0 (\"web\"): http: empty: a listener that takes HTTP",
        ),
        (
            |s| s.listeners[0].tcp = s.listeners[1].tcp.clone(),
            "listener 0 (\"web\"): tcp: given: an HTTP listener has none",
        ),
        (
            |s| s.listeners[0].protocol = Protocol::Auto,
            "listener 0 (\"web\"): tcp: none: a listener that takes other bytes than HTTP",
        ),
        (|s| s.listeners[1].tcp = None, "listener 1 (\"db\"): tcp: none: a listener that takes"),
        (
            |s| s.listeners[1].http = s.listeners[0].http.clone(),
            "listener 1 (\"db\"): http: not empty: a TCP listener has none",
        ),
        (
            |s| s.listeners[0].http[0].table = RouteTableId(1),
            "listener 0 (\"web\"): http[0].table: 1: there are only 1 route_tables",
        ),
        (
            |s| {
                let entry = s.listeners[0].http[0].clone();
                s.listeners[0].http.push(entry);
            },
            "listener 0 (\"web\"): http[1].host: any: an entry before it has that pattern",
        ),
        (
            |s| s.listeners[0].http[0].host = HostPattern::Exact("A.b".into()),
            "listener 0 (\"web\"): http[0].host: \"A.b\": a host name in lower case is needed",
        ),
        (|s| tcp(s).name.clear(), "listener 1 (\"db\"): tcp.name: \"\": "),
        (
            |s| tcp(s).backends[0].cluster = Some(ClusterId(7)),
            "listener 1 (\"db\"): tcp.backends[0].cluster: 7: there are only 1 clusters",
        ),
        (
            |s| tcp(s).backends[0].weight = 0,
            "listener 1 (\"db\"): tcp.backends: weights that add up to 0: one of them",
        ),
        (
            |s| tcp(s).backends[0].weight = 1_000_001,
            "listener 1 (\"db\"): tcp.backends[0].weight: 1000001: at most 1000000",
        ),
        (
            |s| tcp(s).connection_ms_max = Some(0),
            "listener 1 (\"db\"): tcp.connection_ms_max: 0: at least 1",
        ),
        (
            |s| s.listeners[0].connection_ms_max = Some(0),
            "listener 0 (\"web\"): connection_ms_max: 0: at least 1",
        ),
        (
            |s| tcp(s).idle_timeout_ms = Some(u32::MAX),
            "listener 1 (\"db\"): tcp.idle_timeout_ms: 4294967295: at most 2592000000",
        ),
    ]);
}

#[test]
fn lets_the_kernel_choose_ports_only_in_a_config_from_flags() {
    let mut snapshot = example();
    snapshot.listeners[0].address.set_port(0);
    snapshot.listeners[1].address.set_port(0);
    assert_eq!(validate(&snapshot, Origin::Flags), Ok(()));
    assert!(validate(&snapshot, Origin::Store).is_err());
    assert_eq!(Origin::of(Epoch::default()), Origin::Flags);
    assert_eq!(Origin::of(Epoch { store: 1, number: 1 }), Origin::Store);
}

#[test]
fn refuses_bad_clusters() {
    assert_refused(&[
        (
            |s| s.clusters.push(s.clusters[0].clone()),
            "cluster 1 (\"shop/cart:80\"): name: \"shop/cart:80\": another one",
        ),
        (
            |s| cluster(s).endpoints[0].address.set_port(0),
            "cluster 0 (\"shop/cart:80\"): endpoints[0].address: 10.0.0.1:0: a port from 1",
        ),
        (
            |s| cluster(s).endpoints[0].address = "[fe80::1%2]:1".parse().expect("an address"),
            "cluster 0 (\"shop/cart:80\"): endpoints[0].address: [fe80::1%2]:1: an address without",
        ),
        (
            |s| {
                let twice = cluster(s).endpoints[0];
                cluster(s).endpoints.push(twice);
            },
            "cluster 0 (\"shop/cart:80\"): endpoints: 10.0.0.1:80: no address may stand there twice",
        ),
        (
            |s| cluster(s).connect_timeout_ms = Some(DURATION_MS_MAX + 1),
            "cluster 0 (\"shop/cart:80\"): connect_timeout_ms: 2592000001: at most",
        ),
    ]);
}

#[test]
fn refuses_bad_tables() {
    assert_refused(&[
        (|s| s.route_tables[0].name.clear(), "route table 0 (\"\"): name: \"\""),
        (
            |s| s.route_tables[0].hosts[0].hosts.clear(),
            "route table 0 (\"web\"): hosts[0].hosts: empty: one pattern at least",
        ),
        (
            |s| s.route_tables[0].hosts[0].port = Some(0),
            "route table 0 (\"web\"): hosts[0].port: 0: a port from 1",
        ),
        (
            |s| {
                let host = s.route_tables[0].hosts[0].clone();
                s.route_tables[0].hosts.push(host);
            },
            "route table 0 (\"web\"): hosts[1].host: \"cart.shop\": the table has that pattern",
        ),
        (
            |s| s.route_tables[0].hosts[0].hosts[1] = HostPattern::Suffix("example.com".into()),
            "route table 0 (\"web\"): hosts[0].host: \"example.com\": a suffix begins with a dot",
        ),
        (
            |s| rule(s).route = RouteId(1),
            "route table 0 (\"web\"): hosts[0].rules[0].route: 1: there are only 1 routes",
        ),
        (
            |s| rule(s).matches.path = PathMatch::Exact("/a".into()),
            "route table 0 (\"web\"): hosts[0].rules[0].route: 0: this route replaces the prefix",
        ),
        (
            |s| rule(s).matches.path = PathMatch::Prefix("/a/".into()),
            "route table 0 (\"web\"): hosts[0].rules[0].path: \"/a/\": a prefix has no trailing",
        ),
        (
            |s| rule(s).matches.path = PathMatch::Exact("a".into()),
            "route table 0 (\"web\"): hosts[0].rules[0].path: \"a\": a path that begins with '/'",
        ),
        (
            |s| rule(s).matches.path = PathMatch::Regex("(".into()),
            "route table 0 (\"web\"): hosts[0].rules[0].path: \"(\": not a regular expression: unclosed group",
        ),
        (
            |s| rule(s).matches.path = PathMatch::Regex("[a-z]{1000}{1000}".into()),
            "route table 0 (\"web\"): hosts[0].rules[0].path: \"[a-z]{1000}{1000}\": a regular expression that takes at most",
        ),
        (
            |s| rule(s).matches.method = Some("G T".into()),
            "route table 0 (\"web\"): hosts[0].rules[0].method: \"G T\": a method is needed",
        ),
        (
            |s| rule(s).matches.headers[0].name = "X-A".into(),
            "route table 0 (\"web\"): hosts[0].rules[0].headers[0].name: \"X-A\": a header field's name",
        ),
        (
            |s| rule(s).matches.headers[0].value = ValueMatch::Exact("a\r\nb: c".into()),
            r#"route table 0 ("web"): hosts[0].rules[0].headers[0].value: "a\r\nb: c": a header"#,
        ),
        (
            |s| rule(s).matches.headers[0].value = ValueMatch::Regex("a)|(b".into()),
            "route table 0 (\"web\"): hosts[0].rules[0].headers[0].value: \"a)|(b\": not a regular",
        ),
        (
            |s| {
                let again = rule(s).matches.queries[0].clone();
                rule(s).matches.queries.push(again);
            },
            "route table 0 (\"web\"): hosts[0].rules[0].queries[1].name: \"q\": a condition before it",
        ),
        (
            |s| rule(s).matches.queries[0].name = "a\0".into(),
            r#"route table 0 ("web"): hosts[0].rules[0].queries[0].name: "a\0": a query has no"#,
        ),
    ]);
}

#[test]
fn refuses_bad_routes() {
    assert_refused(&[
        (|s| s.routes[0].name.clear(), "route 0 (\"\"): name: \"\""),
        (
            |s| s.routes[0].action = Action::Respond(200),
            "route 0 (\"HTTPRoute/shop/cart/0\"): respond: 200: a status from 400 to 599",
        ),
        (
            |s| s.routes[0].action = Action::Forward(Vec::new()),
            "route 0 (\"HTTPRoute/shop/cart/0\"): backends: weights that add up to 0",
        ),
        (
            |s| backend(s).cluster = Some(ClusterId(1)),
            "route 0 (\"HTTPRoute/shop/cart/0\"): backends[0].cluster: 1: there are only 1 clusters",
        ),
        (
            |s| backend(s).response_headers.remove.push("te".into()),
            "route 0 (\"HTTPRoute/shop/cart/0\"): backends[0].response_headers.remove: \"te\": this",
        ),
        (
            |s| redirect(s).status = 300,
            "route 0 (\"HTTPRoute/shop/cart/0\"): redirect.status: 300: 301, 302",
        ),
        (
            |s| redirect(s).scheme = Some("ftp".into()),
            "route 0 (\"HTTPRoute/shop/cart/0\"): redirect.scheme: \"ftp\": http or https",
        ),
        (
            |s| redirect(s).host = Some("a:80".into()),
            "route 0 (\"HTTPRoute/shop/cart/0\"): redirect.host: \"a:80\": a host name",
        ),
        (
            |s| redirect(s).port = Some(0),
            "route 0 (\"HTTPRoute/shop/cart/0\"): redirect.port: 0: a port",
        ),
        (
            |s| redirect(s).path = Some(PathRewrite::Full("/a b".into())),
            "route 0 (\"HTTPRoute/shop/cart/0\"): redirect.path: \"/a b\": a path",
        ),
        (
            |s| s.routes[0].request_headers.set[0].1 = "a\r\nx: y".into(),
            r#"route 0 ("HTTPRoute/shop/cart/0"): request_headers.set["x-a"].value: "a\r\nx: y": a"#,
        ),
        (
            |s| s.routes[0].request_headers.add[0].0 = "host".into(),
            "route 0 (\"HTTPRoute/shop/cart/0\"): request_headers.add: \"host\": the host is changed",
        ),
        (
            |s| s.routes[0].response_headers.remove = vec!["content-length".into()],
            "route 0 (\"HTTPRoute/shop/cart/0\"): response_headers.remove: \"content-length\": this header field frames",
        ),
        (
            |s| s.routes[0].response_headers.remove = vec!["a".into(); HEADER_EDITS_MAX + 1],
            "route 0 (\"HTTPRoute/shop/cart/0\"): response_headers.remove: 65: at most 64",
        ),
        (
            |s| {
                s.routes[0].rewrite = Some(Box::new(Rewrite { host: Some("*".into()), path: None }))
            },
            "route 0 (\"HTTPRoute/shop/cart/0\"): rewrite.host: \"*\": a host name",
        ),
        (
            |s| {
                s.routes[0].rewrite = Some(Box::new(Rewrite {
                    host: None,
                    path: Some(PathRewrite::Full(String::new())),
                }))
            },
            "route 0 (\"HTTPRoute/shop/cart/0\"): rewrite.path: \"\": a path",
        ),
        (
            |s| s.routes[0].mirrors[0].cluster = ClusterId(2),
            "route 0 (\"HTTPRoute/shop/cart/0\"): mirrors[0].cluster: 2: there are",
        ),
        (
            |s| s.routes[0].mirrors[0].denominator = 0,
            "route 0 (\"HTTPRoute/shop/cart/0\"): mirrors[0].denominator: 0: a number from 1",
        ),
        (
            |s| s.routes[0].mirrors[0].numerator = 101,
            "route 0 (\"HTTPRoute/shop/cart/0\"): mirrors[0].numerator: 101: at most its denominator, 100",
        ),
        (
            |s| cors(s).allow_origins[0] = "http://a:80".into(),
            "route 0 (\"HTTPRoute/shop/cart/0\"): cors.allow_origins: \"http://a:80\": \"*\" or an origin",
        ),
        (
            |s| cors(s).allow_methods[0] = String::new(),
            "route 0 (\"HTTPRoute/shop/cart/0\"): cors.allow_methods: \"\": a method",
        ),
        (
            |s| cors(s).allow_headers[0] = "a b".into(),
            "route 0 (\"HTTPRoute/shop/cart/0\"): cors.allow_headers: \"a b\": a header",
        ),
        (
            |s| cors(s).expose_headers[0] = "\n".into(),
            r#"route 0 ("HTTPRoute/shop/cart/0"): cors.expose_headers: "\n": a header"#,
        ),
        (
            |s| cors(s).max_age_s = u32::MAX,
            "route 0 (\"HTTPRoute/shop/cart/0\"): cors.max_age_s: 4294967295: at most",
        ),
        (
            |s| s.routes[0].policy.request_timeout_ms = Some(u32::MAX),
            "route 0 (\"HTTPRoute/shop/cart/0\"): request_timeout_ms: 4294967295: at most",
        ),
        (
            |s| s.routes[0].policy.backend_request_timeout_ms = Some(u32::MAX),
            "route 0 (\"HTTPRoute/shop/cart/0\"): backend_request_timeout_ms: 4294967295: at most",
        ),
    ]);
}

/// What was legal field by field, and every proxy refused.
#[test]
fn refuses_edits_that_add_too_much_together() {
    let fields = |count: usize| -> Vec<(String, String)> {
        (0..count).map(|n| (format!("x{n:02}"), "v".repeat(FIELD_VALUE_BYTES_MAX))).collect()
    };
    let line = FIELD_VALUE_BYTES_MAX + "x00: \r\n".len();
    let most = EDITS_BYTES_MAX / line;
    let mut snapshot = example();
    for route in &mut snapshot.routes {
        route.request_headers = HeaderEdits { set: fields(most), ..HeaderEdits::default() };
        route.response_headers = HeaderEdits { add: fields(most), ..HeaderEdits::default() };
        if let Action::Forward(backends) = &mut route.action {
            for backend in backends {
                backend.request_headers = HeaderEdits::default();
                backend.response_headers = HeaderEdits::default();
            }
        }
    }
    validate(&snapshot, Origin::Store).expect("as much as is allowed");
    let refused = |change: fn(&mut Route, Vec<(String, String)>), expected: &str| {
        let mut snapshot = snapshot.clone();
        let route = snapshot
            .routes
            .iter_mut()
            .find(|route| matches!(route.action, Action::Forward(_)))
            .expect("a route that forwards");
        change(route, fields(16));
        let invalid = validate(&snapshot, Origin::Store).expect_err("too much").to_string();
        assert!(invalid.contains(expected) && invalid.contains("65536"), "{invalid}");
    };
    refused(|route, fields| route.request_headers.set = fields, "request_headers: lines of");
    refused(
        |route, fields| {
            let Action::Forward(backends) = &mut route.action else { return };
            backends[0].response_headers.add = fields;
        },
        "backends[0].response_headers: lines of",
    );
}

#[test]
fn refuses_more_than_the_limits_allow() {
    assert_refused(&[
        (
            |s| s.listeners = vec![s.listeners[0].clone(); LISTENERS_MAX + 1],
            "snapshot: listeners: 1025: at most 1024 are possible",
        ),
        (
            |s| s.clusters = vec![s.clusters[0].clone(); CLUSTERS_MAX + 1],
            "snapshot: clusters: 65537: at most 65536 are possible",
        ),
        (
            |s| {
                let one = cluster(s).endpoints[0];
                cluster(s).endpoints = vec![one; ENDPOINTS_MAX + 1];
            },
            "snapshot: endpoints of all clusters: 1048577: at most 1048576",
        ),
        (
            |s| {
                let rule = rule(s).clone();
                s.route_tables[0].hosts[0].rules = vec![rule; REGEXES_MAX + 1];
            },
            "snapshot: regular expressions of all route tables: 4097: at most 4096",
        ),
        (
            |s| rule(s).matches.path = PathMatch::Regex("a".repeat(REGEX_BYTES_MAX + 1)),
            "route table 0 (\"web\"): hosts[0].rules[0].path: \"aaaa",
        ),
        (
            |s| {
                let backend = backend(s).clone();
                s.routes[0].action = Action::Forward(vec![backend; BACKENDS_MAX + 1]);
            },
            "route 0 (\"HTTPRoute/shop/cart/0\"): backends: 17: at most 16",
        ),
    ]);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn accepts_what_the_strategies_make(snapshot in snapshots()) {
        prop_assert_eq!(validate(&snapshot, Origin::Store), Ok(()));
    }
}
