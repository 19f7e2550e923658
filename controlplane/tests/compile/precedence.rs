//! Of two matches that fit a request, the one that the Gateway API prefers.

use lateen_control::resolver::Addresses;

use crate::evaluate::{Request, route_of};
use crate::harness::{mesh, snapshot};

const AROUND: &str = "
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: edge}
spec:
  gatewayClassName: lateen
  listeners:
  - {name: web, port: 80, protocol: HTTP, allowedRoutes: {namespaces: {from: All}}}
  - {name: host, port: 81, protocol: HTTP, hostname: a.example.com}
---
apiVersion: lateen.dev/v1alpha1
kind: Proxy
metadata: {name: p}
spec: {listeners: [{name: edge, type: Gateway, gateway: {name: edge}}]}
";

/// A route, with what is between its name and its rules, and the matches of its rule.
fn route(name: &str, namespace: &str, more: &str, port: u16, matches: &str) -> String {
    format!(
        "---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {{name: {name}, namespace: {namespace}}}
spec:
  parentRefs: [{{name: edge, namespace: default, port: {port}}}]
  {more}
  rules:
  - matches: [{matches}]
    filters: [{{type: RequestRedirect, requestRedirect: {{port: 1}}}}]
"
    )
}

fn request() -> Request {
    Request {
        host: "a.example.com".into(),
        port: None,
        method: "GET".into(),
        path: "/a/b".into(),
        queries: vec![("q".into(), "1".into()), ("r".into(), "1".into())],
        headers: vec![("x-a".into(), "1".into()), ("x-b".into(), "1".into())],
    }
}

fn winner(routes: &str, listener: usize) -> String {
    let mesh = mesh(&format!("{AROUND}{routes}"));
    let snapshot = snapshot(&mesh, "p", &Addresses::default());
    let found = route_of(&snapshot, &snapshot.listeners[listener], &request());
    found.expect("both routes match").name.clone()
}

#[test]
fn the_closer_match_wins_whatever_the_routes_are_called() {
    let exact = "{path: {type: Exact, value: /a/b}}";
    for (closer, wider) in [
        (exact, "{path: {value: /a/b}}"),
        (exact, "{path: {type: RegularExpression, value: \"/a/b\"}, method: GET}"),
        (exact, "{path: {value: /a/b}, method: GET, headers: [{name: x-a, value: \"1\"}]}"),
        // Where the API leaves it open.
        ("{path: {type: RegularExpression, value: \"/.*\"}}", "{path: {value: /a/b}, method: GET}"),
        (
            "{path: {type: RegularExpression, value: \"/a/.*\"}}",
            "{path: {type: RegularExpression, value: \"/.*\"}}",
        ),
        ("{path: {value: /a/b}}", "{path: {value: /a}, method: GET}"),
        ("{path: {value: /a}}", "{path: {value: /}, method: GET}"),
        ("{method: GET}", "{headers: [{name: x-a, value: \"1\"}, {name: x-b, value: \"1\"}]}"),
        (
            "{headers: [{name: x-a, value: \"1\"}, {name: x-b, value: \"1\"}]}",
            "{headers: [{name: x-a, value: \"1\"}], queryParams: [{name: q, value: \"1\"}]}",
        ),
        (
            "{headers: [{name: x-a, value: \"1\"}]}",
            "{queryParams: [{name: q, value: \"1\"}, {name: r, value: \"1\"}]}",
        ),
        (
            "{queryParams: [{name: q, value: \"1\"}, {name: r, value: \"1\"}]}",
            "{queryParams: [{name: q, value: \"1\"}]}",
        ),
        ("{queryParams: [{name: q, value: \"1\"}]}", "{}"),
    ] {
        for (first, second) in [(closer, wider), (wider, closer)] {
            let routes =
                route("a", "default", "", 80, first) + &route("b", "default", "", 80, second);
            let expected = if first == closer { "a" } else { "b" };
            assert_eq!(winner(&routes, 0), format!("HTTPRoute/default/{expected}/0"), "{routes}");
        }
    }
}

#[test]
fn the_closer_host_name_wins_before_any_match() {
    let (weak, strong) = ("{}", "{path: {type: Exact, value: /a/b}}");
    // On a listener for any host, and on one for `a.example.com`, where all names come to the same.
    for (port, listener) in [(80, 0), (81, 1)] {
        for (closer, wider) in [
            ("hostnames: [a.example.com]", "hostnames: [\"*.example.com\"]"),
            ("hostnames: [a.example.com]", ""),
            ("hostnames: [\"*.example.com\"]", "hostnames: [\"*.com\"]"),
            ("hostnames: [\"*.com\"]", ""),
            ("hostnames: [\"*.com\", a.example.com]", "hostnames: [\"*.example.com\"]"),
        ] {
            for (first, second, expected) in [(closer, wider, "a"), (wider, closer, "b")] {
                let (one, other) = if expected == "a" { (weak, strong) } else { (strong, weak) };
                let routes = route("a", "default", first, port, one)
                    + &route("b", "default", second, port, other);
                let found = winner(&routes, listener);
                assert_eq!(found, format!("HTTPRoute/default/{expected}/0"), "{routes}");
            }
        }
    }
}

#[test]
fn of_equal_matches_the_older_route_wins_then_the_first_by_name_then_the_first_rule() {
    let older = "b, creationTimestamp: \"2026-01-01T00:00:00Z\"";
    let newer = "a, creationTimestamp: \"2026-01-02T00:00:00Z\"";
    for (one, other, expected) in [
        ((older, "default"), (newer, "default"), "default/b"),
        ((newer, "default"), ("'0'", "default"), "default/a"),
        (("b", "default"), ("a", "default"), "default/a"),
        (("b", "a"), ("a", "b"), "a/b"),
        // As texts: `-` comes before `/`.
        (("b", "a-a"), ("a", "a"), "a-a/b"),
    ] {
        let routes = route(one.0, one.1, "", 80, "{}") + &route(other.0, other.1, "", 80, "{}");
        assert_eq!(winner(&routes, 0), format!("HTTPRoute/{expected}/0"), "{routes}");
    }
    let two_rules = route("a", "default", "", 80, "{method: GET}")
        + "  - matches: [{method: GET}]
    filters: [{type: RequestRedirect, requestRedirect: {port: 2}}]
";
    assert_eq!(winner(&two_rules, 0), "HTTPRoute/default/a/0");
}

#[test]
fn a_listener_of_a_closer_host_keeps_requests_from_the_others() {
    let around = AROUND.replace("port: 81", "port: 80");
    let routes = route("a", "default", "", 80, "{}").replace(
        "parentRefs: [{name: edge, namespace: default, port: 80}]",
        "parentRefs: [{name: edge, sectionName: web}]",
    );
    let mesh = mesh(&format!("{around}{routes}"));
    let snapshot = snapshot(&mesh, "p", &Addresses::default());
    let of = |host: &str| {
        let request = Request { host: host.to_owned(), ..request() };
        route_of(&snapshot, &snapshot.listeners[0], &request).is_some()
    };
    assert!(of("b.example.com"));
    assert!(!of("a.example.com"), "the listener for this host has no routes");
}
