//! For random meshes and random requests: what the snapshot does is what the reference says.

use std::sync::Arc;

use lateen_control::compile::resolve;
use lateen_control::language::diagnostic::Severity;
use lateen_control::language::object::Declared;
use lateen_control::language::parse::parse;
use lateen_control::language::place::SourceFile;
use lateen_control::resolver::Addresses;
use lateen_snapshot::model::{Action, Snapshot};
use lateen_snapshot::validate::{Origin, validate};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::{select, subsequence};
use serde_json::{Value as Json, json};

use crate::evaluate::{Request, route_of};
use crate::harness::{declared, render, snapshot};
use crate::reference::{Answer, is_attached, through_gateway, through_mesh};

const NAMESPACES: [&str; 3] = ["a", "a-a", "b"];
const HOSTS: [&str; 7] = [
    "x.example.com",
    "y.example.com",
    "z.y.example.com",
    "*.example.com",
    "*.y.example.com",
    "*.com",
    "example.org",
];

/// A mesh as texts, without the routes that attach to nothing.
fn mesh_texts(gateway: &Json, routes: &[Json]) -> Vec<Arc<Declared>> {
    let mut objects = around();
    objects.push(gateway.clone());
    objects.extend(routes.iter().cloned());
    let texts: Vec<String> = objects.iter().map(Json::to_string).collect();
    declared(&texts.join("\n---\n"))
}

/// Services of two ports in each namespace, and proxies that call them.
fn around() -> Vec<Json> {
    let mut objects = Vec::new();
    for namespace in NAMESPACES {
        for name in ["one", "two"] {
            objects.push(json!({
                "apiVersion": "lateen.dev/v1alpha1", "kind": "Service",
                "metadata": {"name": name, "namespace": namespace},
                "spec": {
                    "ports": [{"name": "http", "port": 80}, {"name": "other", "port": 81}],
                    "endpoints": [{"address": "10.0.0.1", "ports": {"http": 80, "other": 81}}],
                },
            }));
        }
        objects.push(json!({
            "apiVersion": "lateen.dev/v1alpha1", "kind": "Proxy",
            "metadata": {"name": format!("proxy-{namespace}"), "namespace": namespace},
            "spec": {
                "listeners": [
                    {"name": "out", "type": "Outbound", "port": 15002, "protocol": "HTTP"},
                    {"name": "edge", "type": "Gateway", "gateway": {"name": "edge", "namespace": "a"}},
                ],
                "outbound": {"namespaces": ["a", "b"]},
            },
        }));
    }
    objects
}

fn gateways() -> impl Strategy<Value = Json> {
    let listener = (80..82_u16, option::of(select(&HOSTS[..])), any::<bool>());
    vec(listener, 1..5).prop_map(|listeners| {
        let mut seen = Vec::new();
        let mut written = Vec::new();
        for (port, host, is_open) in listeners {
            if seen.contains(&(port, host)) {
                continue;
            }
            seen.push((port, host));
            let mut listener =
                json!({"name": format!("l{}", written.len()), "port": port, "protocol": "HTTP"});
            if let Some(host) = host {
                listener["hostname"] = json!(host);
            }
            if is_open {
                listener["allowedRoutes"] = json!({"namespaces": {"from": "All"}});
            }
            written.push(listener);
        }
        json!({
            "apiVersion": "gateway.networking.k8s.io/v1", "kind": "Gateway",
            "metadata": {"name": "edge", "namespace": "a"},
            "spec": {"gatewayClassName": "lateen", "listeners": written},
        })
    })
}

fn routes() -> impl Strategy<Value = Vec<Json>> {
    vec(route(), 0..7).prop_map(|mut routes| {
        for (index, route) in routes.iter_mut().enumerate() {
            // Names that are not in the order of the list.
            route["metadata"]["name"] = json!(format!("r{}", (index * 5) % 7));
        }
        routes
    })
}

fn route() -> impl Strategy<Value = Json> {
    let times = ["2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z"];
    let parents = prop_oneof![
        2 => option::of(80..82_u16).prop_map(|port| {
            let mut parent = json!({"name": "edge", "namespace": "a"});
            if let Some(port) = port {
                parent["port"] = json!(port);
            }
            (parent, true)
        }),
        1 => (select(&NAMESPACES[..]), select(vec!["one", "two"]), option::of(80..82_u16)).prop_map(
            |(namespace, name, port)| {
                let mut parent =
                    json!({"group": "", "kind": "Service", "name": name, "namespace": namespace});
                if let Some(port) = port {
                    parent["port"] = json!(port);
                }
                (parent, false)
            }
        ),
    ];
    let hosts = subsequence(HOSTS.to_vec(), 0..3);
    let namespace = select(&NAMESPACES[..]);
    (namespace, option::of(select(times.to_vec())), parents, hosts, vec(rule(), 1..4)).prop_map(
        |(namespace, created, (parent, is_of_gateway), hosts, rules)| {
            let mut route = json!({
                "apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute",
                "metadata": {"namespace": namespace},
                "spec": {"parentRefs": [parent], "rules": rules},
            });
            if let Some(created) = created {
                route["metadata"]["creationTimestamp"] = json!(created);
            }
            if is_of_gateway && !hosts.is_empty() {
                route["spec"]["hostnames"] = json!(hosts);
            }
            route
        },
    )
}

fn rule() -> impl Strategy<Value = Json> {
    (vec(matches(), 0..3), select(vec!["one", "two"])).prop_map(|(matches, backend)| {
        let mut rule = json!({"backendRefs": [{"name": backend, "port": 80}]});
        if !matches.is_empty() {
            rule["matches"] = json!(matches);
        }
        rule
    })
}

fn matches() -> impl Strategy<Value = Json> {
    let path = prop_oneof![
        Just(Json::Null),
        select(vec!["/", "/a", "/a/", "/a/b", "/ab"]).prop_map(|value| json!({"value": value})),
        select(vec!["/", "/a", "/a/b"]).prop_map(|value| json!({"type": "Exact", "value": value})),
        select(vec!["/a.*", "/[ab]/.*", "/a|/ab", ".*"])
            .prop_map(|value| json!({"type": "RegularExpression", "value": value})),
    ];
    let method = option::of(select(vec!["GET", "POST"]));
    (path, method, conditions("X-A"), conditions("x-b"), conditions("q")).prop_map(
        |(path, method, header, other, query)| {
            let mut matches = json!({});
            if path != Json::Null {
                matches["path"] = path;
            }
            if let Some(method) = method {
                matches["method"] = json!(method);
            }
            let headers: Vec<Json> = [header, other].into_iter().flatten().collect();
            if !headers.is_empty() {
                matches["headers"] = json!(headers);
            }
            if let Some(query) = query {
                matches["queryParams"] = json!([query]);
            }
            matches
        },
    )
}

fn conditions(name: &'static str) -> impl Strategy<Value = Option<Json>> {
    let values = [("Exact", "1"), ("Exact", "22"), ("RegularExpression", "[0-9]")];
    option::weighted(0.3, select(values.to_vec())).prop_map(move |condition| {
        let (kind, value) = condition?;
        Some(json!({"name": name, "type": kind, "value": value}))
    })
}

fn requests() -> impl Strategy<Value = Request> {
    let hosts = vec![
        "x.example.com",
        "y.example.com",
        "z.y.example.com",
        "w.z.y.example.com",
        "example.com",
        "example.org",
        "a.com",
        "one",
        "one.a",
        "two.b.svc",
        "two.a.svc.cluster.local",
        "one.a-a",
    ];
    let paths = vec!["/", "/a", "/a/", "/a/b", "/a/b/c", "/ab", "/b/x", "/x"];
    let values = || option::of(select(vec!["1", "22", "x"]));
    let port = option::of(select(vec![80, 81, 82]));
    (
        select(hosts),
        port,
        select(vec!["GET", "POST", "PUT"]),
        select(paths),
        (values(), values(), values()),
    )
        .prop_map(|(host, port, method, path, (a, b, q))| {
            let fields = |fields: Vec<(&str, Option<&str>)>| {
                let fields = fields.into_iter();
                fields
                    .filter_map(|(name, value)| Some((name.to_owned(), value?.to_owned())))
                    .collect()
            };
            Request {
                host: host.to_owned(),
                port,
                method: method.to_owned(),
                path: path.to_owned(),
                queries: fields(vec![("q", q)]),
                headers: fields(vec![("x-a", a), ("x-b", b)]),
            }
        })
}

/// The service and port that an authority names, to a caller of that namespace; both see `a` and `b`.
fn called(request: &Request, caller: &str) -> Option<(String, String, i32)> {
    let mut labels = request.host.split('.');
    let name = labels.next()?;
    let namespace = labels.next().unwrap_or(caller);
    let rest: Vec<&str> = labels.collect();
    let is_mesh_name = matches!(rest[..], [] | ["svc"] | ["svc", "cluster", "local"]);
    let port = request.port.unwrap_or(80);
    let is_there =
        matches!(name, "one" | "two") && matches!(namespace, "a" | "b") && matches!(port, 80 | 81);
    (is_mesh_name && is_there).then(|| (namespace.to_owned(), name.to_owned(), port.into()))
}

fn answer_of(snapshot: &Snapshot, listener: &str, request: &Request) -> Answer {
    let found = snapshot.listeners.iter().find(|one| one.name == listener);
    let route = found.and_then(|listener| route_of(snapshot, listener, request));
    route.map_or(Answer::NotFound, |route| {
        assert!(matches!(route.action, Action::Forward(_)));
        Answer::Rule(route.name.clone())
    })
}

/// The committed meshes, good and bad: their words are what random changes are made of.
fn committed() -> Vec<String> {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/compile");
    let mut texts = Vec::new();
    for folder in [folder.join("accepted"), folder.join("refused")] {
        let mut paths: Vec<_> = std::fs::read_dir(folder)
            .expect("the folder is committed")
            .map(|entry| entry.expect("a readable folder").path())
            .collect();
        paths.sort();
        texts.extend(paths.iter().map(|path| std::fs::read_to_string(path).expect("readable")));
    }
    texts
}

/// The beginnings and ends of its words and numbers.
fn words(text: &str) -> Vec<(usize, usize)> {
    let mut words = Vec::new();
    let is_of_word = |byte: u8| byte.is_ascii_alphanumeric() || b"-./*\"".contains(&byte);
    let mut start = None;
    for (at, byte) in text.bytes().enumerate() {
        match (is_of_word(byte), start) {
            (true, None) => start = Some(at),
            (false, Some(from)) => {
                words.push((from, at));
                start = None;
            }
            _ => {}
        }
    }
    words
}

/// A text with some of its words replaced by others of it.
fn exchange(text: &str, changes: &[(usize, usize)]) -> String {
    let mut text = text.to_owned();
    for &(place, other) in changes {
        let words = words(&text);
        let (from, to) = words[place % words.len()];
        // Most changes take a word that stands near, which is likely to fit.
        let near = (place % words.len() + other % 64).saturating_sub(32);
        let (other_from, other_to) = words[near.min(words.len() - 1)];
        let word = text[other_from..other_to].to_owned();
        text.replace_range(from..to, &word);
    }
    text
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_024, ..ProptestConfig::default() })]

    #[test]
    fn what_is_accepted_is_valid_and_what_is_refused_can_be_shown(
        index in 0..64_usize,
        changes in vec((0..100_000_usize, 0..64_usize), 0..4),
    ) {
        let texts = committed();
        let text = exchange(&texts[index % texts.len()], &changes);
        let parsed = parse(&[Arc::new(SourceFile::new("mesh.yaml", text.clone()))]);
        if parsed.has_errors() {
            return Ok(());
        }
        let declared = parsed.declared;
        match resolve(&declared) {
            Ok(mesh) => {
                for proxy in mesh.proxies() {
                    let snapshot = mesh.snapshot(proxy, &Addresses::default());
                    let valid = validate(&snapshot.expect("it is there"), Origin::Store);
                    prop_assert!(valid.is_ok(), "{}: {:?}\n{}", proxy, valid, text);
                }
            }
            Err(found) => {
                prop_assert!(found.iter().any(|one| one.severity == Severity::Error));
                render(&found);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 192, ..ProptestConfig::default() })]

    #[test]
    fn snapshots_route_as_the_reference_does(
        gateway in gateways(),
        routes in routes(),
        requests in vec(requests(), 24),
    ) {
        let all = mesh_texts(&gateway, &routes);
        // Those that attach to nothing make an error, and the mesh is right without them.
        let attached: Vec<Arc<Declared>> =
            all.iter().filter(|one| is_attached(&all, one)).cloned().collect();
        prop_assert_eq!(resolve(&all).is_ok(), attached.len() == all.len());
        let mesh = resolve(&attached);
        let mesh = mesh.unwrap_or_else(|found| panic!("{}", render(&found)));
        for caller in NAMESPACES {
            let snapshot = snapshot(&mesh, &format!("proxy-{caller}"), &Addresses::default());
            for request in &requests {
                for port in [80, 81] {
                    let expected = through_gateway(&attached, "edge", port, request);
                    let found = answer_of(&snapshot, &format!("edge:{port}"), request);
                    prop_assert_eq!(found, expected, "port {} of the Gateway: {:?}", port, request);
                }
                let expected = match called(request, caller) {
                    None => Answer::NotFound,
                    Some((namespace, name, port)) => {
                        through_mesh(&attached, caller, (&namespace, &name, port), request)
                    }
                };
                let found = answer_of(&snapshot, "out", request);
                prop_assert_eq!(found, expected, "from {}: {:?}", caller, request);
            }
        }
    }

    #[test]
    fn the_order_of_random_objects_changes_nothing(
        gateway in gateways(),
        routes in routes(),
        turn in 0..20_usize,
    ) {
        let mut objects = mesh_texts(&gateway, &routes);
        let first = resolve(&objects);
        let count = objects.len();
        objects.rotate_left(turn % count);
        objects.reverse();
        match (first, resolve(&objects)) {
            (Ok(one), Ok(other)) => {
                let none = Addresses::default();
                for proxy in one.proxies() {
                    prop_assert_eq!(one.snapshot(proxy, &none), other.snapshot(proxy, &none));
                }
            }
            (Err(one), Err(other)) => prop_assert_eq!(one, other),
            _ => prop_assert!(false, "accepted in one order only"),
        }
    }
}
