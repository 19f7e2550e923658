//! Tables of the `route` module: hosts, ports, paths, methods, header fields and queries.

use lateen_snapshot::model::{
    Action, Direction, FieldMatch, HeaderEdits, HostPattern, HostRoutes, Listener, PathMatch,
    Protocol, RouteMatch, RouteTable, RouteTableId, Rule, ValueMatch, VirtualHost, WeightedBackend,
};
use lateen_snapshot::validate::patterns::Patterns;

use super::*;
use crate::codec::http1::head::tests::OwnedFields;
use crate::testing::route;

pub(super) fn any() -> HostPattern {
    HostPattern::Any
}

pub(super) fn host(name: &str) -> HostPattern {
    HostPattern::Exact(name.to_owned())
}

pub(super) fn below(suffix: &str) -> HostPattern {
    HostPattern::Suffix(suffix.to_owned())
}

fn on(path: PathMatch) -> RouteMatch {
    RouteMatch { path, method: None, headers: Vec::new(), queries: Vec::new() }
}

fn prefix(path: &str) -> RouteMatch {
    on(PathMatch::Prefix(path.to_owned()))
}

fn exact(path: &str) -> RouteMatch {
    on(PathMatch::Exact(path.to_owned()))
}

fn regex(pattern: &str) -> RouteMatch {
    on(PathMatch::Regex(pattern.to_owned()))
}

fn is(name: &str, value: &str) -> FieldMatch {
    FieldMatch { name: name.to_owned(), value: ValueMatch::Exact(value.to_owned()) }
}

fn like(name: &str, pattern: &str) -> FieldMatch {
    FieldMatch { name: name.to_owned(), value: ValueMatch::Regex(pattern.to_owned()) }
}

fn with_headers(headers: &[FieldMatch]) -> RouteMatch {
    RouteMatch { headers: headers.to_vec(), ..prefix("/") }
}

fn with_queries(queries: &[FieldMatch]) -> RouteMatch {
    RouteMatch { queries: queries.to_vec(), ..prefix("/") }
}

/// A virtual host whose rules lead to routes that [`snapshot`] numbers.
pub(super) fn virtual_host(
    hosts: &[HostPattern],
    port: Option<u16>,
    matches: &[RouteMatch],
) -> VirtualHost {
    let rule = |matches: &RouteMatch| Rule { matches: matches.clone(), route: RouteId(0) };
    VirtualHost { hosts: hosts.to_vec(), port, rules: matches.iter().map(rule).collect() }
}

pub(super) fn listener(http: Vec<HostRoutes>) -> Listener {
    Listener {
        name: "listener".into(),
        direction: Direction::Gateway,
        address: ([127, 0, 0, 1], 80).into(),
        protocol: Protocol::Http,
        proxy_sources: Vec::new(),
        connection_ms_max: None,
        http,
        tcp: None,
    }
}

/// Each rule of each table leads to a route of its own, numbered in the order in which they stand.
pub(super) fn snapshot(listeners: Vec<Vec<HostRoutes>>, tables: Vec<Vec<VirtualHost>>) -> Snapshot {
    let mut count = 0;
    let mut route_tables = Vec::new();
    for mut hosts in tables {
        for rule in hosts.iter_mut().flat_map(|host| &mut host.rules) {
            rule.route = RouteId(count);
            count += 1;
        }
        route_tables.push(RouteTable { name: "table".into(), hosts });
    }
    Snapshot {
        listeners: listeners.into_iter().map(listener).collect(),
        route_tables,
        routes: (0..count).map(|_| route(Action::Respond(503))).collect(),
        clusters: Vec::new(),
    }
}

/// One listener, one table for all its hosts.
fn one_table(hosts: Vec<VirtualHost>) -> Snapshot {
    snapshot(vec![vec![HostRoutes { host: any(), table: RouteTableId(0) }]], vec![hosts])
}

struct Asked<'a> {
    method: &'a str,
    authority: &'a str,
    target: &'a str,
    fields: &'a [(&'a str, &'a [u8])],
}

const ASKED: Asked<'static> = Asked { method: "GET", authority: "a", target: "/", fields: &[] };

fn found(snapshot: &Snapshot, asked: &Asked<'_>) -> Option<Found> {
    let tables = RouteTables::build(snapshot, &mut Patterns::default()).expect("valid");
    let regexes = WorkerRegexes::of(&tables);
    let fields = OwnedFields::new(asked.fields.iter().copied());
    let request = RequestView {
        method: asked.method.as_bytes(),
        authority: asked.authority.as_bytes(),
        target: asked.target.as_bytes(),
        fields: fields.view(),
    };
    tables.find(ListenerIndex(0), &request, &regexes)
}

fn number(snapshot: &Snapshot, asked: &Asked<'_>) -> Option<u32> {
    found(snapshot, asked).map(|found| found.route.0)
}

/// Which of these matches takes a request; `None`: none.
fn taken_by(matches: &[RouteMatch], asked: &Asked<'_>) -> Option<u32> {
    number(&one_table(vec![virtual_host(&[any()], None, matches)]), asked)
}

#[test]
fn the_most_specific_host_comes_first_and_the_others_behind_it() {
    let paths = |path: &str| [prefix(path)];
    let snapshot = one_table(vec![
        virtual_host(&[any()], None, &paths("/any")),
        virtual_host(&[below(".b.example")], None, &paths("/longer")),
        virtual_host(&[below(".example")], None, &paths("/shorter")),
        virtual_host(&[host("a.b.example")], None, &[prefix("/exact"), exact("/longer")]),
    ]);
    for (authority, target, expected) in [
        ("a.b.example", "/exact", Some(3)),
        ("a.b.example", "/longer", Some(4)),
        ("a.b.example", "/longer/x", Some(1)),
        ("a.b.example", "/shorter", Some(2)),
        ("a.b.example", "/any", Some(0)),
        ("a.b.example", "/none", None),
        ("c.b.example", "/exact", None),
        ("c.b.example", "/longer", Some(1)),
        ("d.c.b.example", "/longer", Some(1)),
        ("b.example", "/longer", None),
        ("b.example", "/shorter", Some(2)),
        ("example", "/shorter", None),
        (".example", "/shorter", None),
        ("xexample", "/shorter", None),
        ("example", "/any", Some(0)),
        ("", "/any", Some(0)),
    ] {
        let asked = Asked { authority, target, ..ASKED };
        assert_eq!(number(&snapshot, &asked), expected, "{authority} {target}");
    }
}

#[test]
fn a_listener_takes_the_most_specific_host_and_no_other() {
    let to = |host, table| HostRoutes { host, table: RouteTableId(table) };
    let listener = vec![to(any(), 0), to(below(".example"), 1), to(host("a.example"), 2)];
    let table = |path: &str| vec![virtual_host(&[any()], None, &[prefix(path)])];
    let snapshot = snapshot(vec![listener], vec![table("/0"), table("/1"), table("/2")]);
    for (authority, target, expected) in [
        ("a.example", "/2", Some(2)),
        ("a.example", "/1", None),
        ("b.example", "/1", Some(1)),
        ("b.example", "/0", None),
        ("example", "/0", Some(0)),
    ] {
        let asked = Asked { authority, target, ..ASKED };
        assert_eq!(number(&snapshot, &asked), expected, "{authority} {target}");
    }
}

#[test]
fn hosts_are_compared_in_any_case_without_port_and_final_dot() {
    let snapshot = one_table(vec![
        virtual_host(&[host("shop.example")], None, &[prefix("/")]),
        virtual_host(&[below(".wild.example")], None, &[prefix("/")]),
        virtual_host(&[host("[::1]"), host("10.0.0.1")], None, &[prefix("/")]),
    ]);
    for (authority, expected) in [
        ("SHOP.Example", Some(0)),
        ("shop.example.", Some(0)),
        ("Shop.Example.:8080", Some(0)),
        ("shop.example..", None),
        ("A.WILD.example:1", Some(1)),
        ("wild.example", None),
        ("[::1]", Some(2)),
        ("[::1]:8080", Some(2)),
        ("[::2]", None),
        ("10.0.0.1:80", Some(2)),
        ("10.0.0.10", None),
        ("shop-example", None),
        ("shop.exampl", None),
        ("shop.examples", None),
    ] {
        assert_eq!(number(&snapshot, &Asked { authority, ..ASKED }), expected, "{authority}");
    }
}

#[test]
fn a_port_chooses_and_comes_before_none() {
    let names = [host("cart"), host("cart.shop"), below(".cart")];
    let snapshot = one_table(vec![
        virtual_host(&names, None, &[prefix("/")]),
        virtual_host(&names, Some(80), &[exact("/80")]),
        virtual_host(&names, Some(9090), &[exact("/9090")]),
        virtual_host(&[any()], Some(7), &[prefix("/")]),
    ]);
    for (authority, target, expected) in [
        ("cart", "/80", Some(1)),
        ("cart:80", "/80", Some(1)),
        ("cart:9090", "/80", Some(0)),
        ("cart:9090", "/9090", Some(2)),
        ("cart.shop", "/80", Some(1)),
        ("x.cart:9090", "/9090", Some(2)),
        ("cart:81", "/9090", Some(0)),
        ("other:7", "/", Some(3)),
        ("other", "/", None),
        ("cart:7", "/", Some(0)),
    ] {
        let asked = Asked { authority, target, ..ASKED };
        assert_eq!(number(&snapshot, &asked), expected, "{authority} {target}");
    }
}

#[test]
fn a_prefix_matches_whole_segments() {
    let long = "/long/enough/for/words";
    for (path, target, matches) in [
        ("/a", "/a", true),
        ("/a", "/a/", true),
        ("/a", "/a/b", true),
        ("/a", "/a?b", true),
        ("/a", "/a/?b", true),
        ("/a", "/ab", false),
        ("/a", "/A", false),
        ("/a", "/", false),
        ("/a", "/%61", false),
        ("/a/b", "/a//b", false),
        ("/a", "//a", false),
        ("/", "/", true),
        ("/", "/?", true),
        ("/", "/a", true),
        ("/", "*", true),
        ("/12345678", "/12345678", true),
        ("/1234567", "/1234567", true),
        ("/1234567", "/1234567/", true),
        ("/1234567", "/12345678", false),
        (long, "/long/enough/for/words/x", true),
        (long, "/long/enough/for/word", false),
        (long, "/long/enough/for/wordsx", false),
        (long, "/long/enough/for/words?", true),
    ] {
        let taken = taken_by(&[prefix(path)], &Asked { target, ..ASKED });
        assert_eq!(taken.is_some(), matches, "{path} {target}");
    }
}

#[test]
fn a_prefix_says_how_much_it_took() {
    let snapshot = one_table(vec![virtual_host(
        &[any()],
        None,
        &[prefix("/a/b"), exact("/exact"), regex("/r.*"), prefix("/")],
    )]);
    for (target, route, prefix_bytes) in
        [("/a/b/c", 0, 4), ("/exact", 1, 0), ("/regex", 2, 0), ("/else", 3, 0)]
    {
        let expected = Found { route: RouteId(route), prefix_bytes };
        assert_eq!(found(&snapshot, &Asked { target, ..ASKED }), Some(expected), "{target}");
    }
}

#[test]
fn an_exact_path_is_the_whole_path_as_sent() {
    for (path, target, matches) in [
        ("/a", "/a", true),
        ("/a", "/a?", true),
        ("/a", "/a?b=/c", true),
        ("/a", "/a/", false),
        ("/a", "/a/b", false),
        ("/a", "/%61", false),
        ("/a%20b", "/a%20b", true),
        ("/a/", "/a/", true),
        ("/a/", "/a", false),
        ("/", "/", true),
        ("/", "/a", false),
        ("/longer-than-a-word", "/longer-than-a-word", true),
        ("/longer-than-a-word", "/longer-than-a-wore", false),
    ] {
        let taken = taken_by(&[exact(path)], &Asked { target, ..ASKED });
        assert_eq!(taken.is_some(), matches, "{path} {target}");
    }
}

#[test]
fn a_regular_expression_matches_the_whole_path() {
    for (pattern, target, matches) in [
        ("/a+", "/aaa", true),
        ("/a+", "/aaab", false),
        ("/a+", "/b/a", false),
        ("/a|/b", "/b", true),
        ("/a|/b", "/ax", false),
        ("/a|/ab", "/ab", true),
        ("/a.*", "/a?b", true),
        ("/a", "/a?b", true),
        ("/a.b", "/a?b", false),
        ("(?i)/A", "/a", true),
        ("(?m)/a$", "/a", true),
        ("", "/", false),
    ] {
        let taken = taken_by(&[regex(pattern)], &Asked { target, ..ASKED });
        assert_eq!(taken.is_some(), matches, "{pattern} {target}");
    }
}

#[test]
fn a_method_is_compared_as_sent() {
    let posts = RouteMatch { method: Some("POST".into()), ..prefix("/") };
    for (method, expected) in [("POST", Some(0)), ("post", Some(1)), ("POSTS", Some(1))] {
        let asked = Asked { method, ..ASKED };
        assert_eq!(taken_by(&[posts.clone(), prefix("/")], &asked), expected, "{method}");
    }
}

#[test]
fn header_fields_are_joined_by_commas() {
    type Case<'a> = (&'a [FieldMatch], &'a [(&'a str, &'a [u8])], bool);
    let cases: &[Case<'_>] = &[
        (&[is("x", "1")], &[("X", b"1")], true),
        (&[is("x", "1")], &[("x", b"2")], false),
        (&[is("x", "1")], &[("xx", b"1")], false),
        (&[is("x", "1")], &[], false),
        (&[is("x", "")], &[("x", b"")], true),
        (&[is("x", "")], &[], false),
        (&[is("x", "1")], &[("x", b"1"), ("X", b"2")], false),
        (&[is("x", "1,2")], &[("x", b"1"), ("y", b"0"), ("X", b"2")], true),
        (&[is("x", "1,2")], &[("x", b"1,2")], true),
        (&[is("x", "1, 2")], &[("x", b"1"), ("x", b"2")], false),
        (&[is("x", "1,")], &[("x", b"1"), ("x", b"")], true),
        (&[is("x", "1"), is("y", "2")], &[("y", b"2"), ("x", b"1")], true),
        (&[is("x", "1"), is("y", "2")], &[("x", b"1")], false),
        (&[like("x", "[0-9]+")], &[("x", b"12")], true),
        (&[like("x", "[0-9]+")], &[("x", b"12a")], false),
        (&[like("x", "[0-9]+")], &[], false),
        (&[like("x", "1,2|3")], &[("x", b"1"), ("x", b"2")], true),
        (&[like("x", "1")], &[("x", b"1"), ("x", b"2")], false),
        (&[like("x", ".*")], &[("x", b"")], true),
        (&[like("x", r"(?-u:\xff)+")], &[("x", b"\xff\xff")], true),
        (&[like("x", ".")], &[("x", b"\xff")], false),
        (&[is("x", "1"), like("y", "a+")], &[("x", b"1"), ("y", b"aa")], true),
    ];
    for (conditions, fields, matches) in cases {
        let taken = taken_by(&[with_headers(conditions)], &Asked { fields, ..ASKED });
        assert_eq!(taken.is_some(), *matches, "{conditions:?} {fields:?}");
    }
}

#[test]
fn a_condition_on_host_is_one_on_the_authority() {
    let line: &[(&str, &[u8])] = &[("Host", b"line")];
    for (value, authority, matches) in
        [("line", "target:1", false), ("target:1", "target:1", true), ("line", "", false)]
    {
        let asked = Asked { authority, fields: line, ..ASKED };
        let taken = taken_by(&[with_headers(&[is("host", value)])], &asked);
        assert_eq!(taken.is_some(), matches, "{value} {authority}");
    }
}

#[test]
fn the_first_value_of_a_query_parameter_counts_as_sent() {
    for (condition, target, matches) in [
        (is("a", "1"), "/?a=1", true),
        (is("a", "1"), "/?b=2&a=1", true),
        (is("a", "1"), "/?a=2&a=1", false),
        (is("a", "1"), "/?a=1&a=2", true),
        (is("a", "1"), "/?aa=1", false),
        (is("a", "1"), "/?A=1", false),
        (is("a", "1"), "/", false),
        (is("a", "1"), "/?", false),
        (is("a", "1"), "/?%61=1", false),
        (is("a", "1"), "/?a=%31", false),
        (is("a", "%31"), "/?a=%31", true),
        (is("a", ""), "/?a", true),
        (is("a", ""), "/?a=", true),
        (is("a", ""), "/?&a&", true),
        (is("a", ""), "/?aa", false),
        (is("a", "b=c"), "/?a=b=c", true),
        (is("a", "b?c"), "/?a=b?c", true),
        (is("a", "b+c"), "/?a=b+c", true),
        (like("a", "[0-9]+"), "/?a=12", true),
        (like("a", "[0-9]+"), "/?a=12x", false),
        (like("a", "[0-9]+"), "/?a=x&a=1", false),
        (like("a", ".*"), "/?b", false),
    ] {
        let taken =
            taken_by(&[with_queries(std::slice::from_ref(&condition))], &Asked { target, ..ASKED });
        assert_eq!(taken.is_some(), matches, "{condition:?} {target}");
    }
}

#[test]
fn one_route_for_all_is_found_without_looking() {
    let all = one_table(vec![virtual_host(&[any()], None, &[prefix("/"), exact("/a")])]);
    let tables = RouteTables::build(&all, &mut Patterns::default()).expect("valid");
    assert_eq!(tables.listeners[0].always, Some(Found { route: RouteId(0), prefix_bytes: 0 }));
    for other in [
        one_table(vec![virtual_host(&[any()], Some(80), &[prefix("/")])]),
        one_table(vec![virtual_host(&[any(), host("a")], None, &[prefix("/")])]),
        one_table(vec![virtual_host(&[any()], None, &[exact("/a"), prefix("/")])]),
        one_table(vec![virtual_host(&[any()], None, &[with_headers(&[is("x", "1")])])]),
        one_table(vec![
            virtual_host(&[any()], None, &[prefix("/")]),
            virtual_host(&[any()], Some(81), &[prefix("/")]),
        ]),
        one_table(vec![]),
    ] {
        let tables = RouteTables::build(&other, &mut Patterns::default()).expect("valid");
        assert_eq!(tables.listeners[0].always, None, "{other:?}");
    }
}

#[test]
fn a_thousand_hosts_keep_apart() {
    let hosts = (0..1000)
        .map(|n| virtual_host(&[host(&format!("service-{n}.shop"))], None, &[prefix("/")]))
        .collect();
    let snapshot = one_table(hosts);
    let tables = RouteTables::build(&snapshot, &mut Patterns::default()).expect("valid");
    let regexes = WorkerRegexes::of(&tables);
    for n in 0..1001 {
        let authority = format!("Service-{n}.SHOP");
        let request = RequestView {
            method: b"GET",
            authority: authority.as_bytes(),
            target: b"/",
            fields: Fields::NONE,
        };
        let found = tables.find(ListenerIndex(0), &request, &regexes);
        assert_eq!(found.map(|found| found.route.0), (n < 1000).then_some(n));
    }
}

#[test]
fn an_edge_that_leads_nowhere_is_refused() {
    let good = one_table(vec![virtual_host(&[any()], None, &[prefix("/")])]);
    let mut no_table = good.clone();
    no_table.listeners[0].http[0].table = RouteTableId(1);
    let mut no_route = good.clone();
    no_route.routes.clear();
    let backend = |cluster, weight| WeightedBackend {
        cluster,
        weight,
        request_headers: HeaderEdits::default(),
        response_headers: HeaderEdits::default(),
        rate_limits: None,
    };
    let mut no_cluster = good.clone();
    let missing = Some(lateen_snapshot::model::ClusterId(0));
    no_cluster.routes[0] = route(Action::Forward(vec![backend(missing, 1)]));
    let mut no_weight = good.clone();
    no_weight.routes[0] = route(Action::Forward(vec![backend(None, 0)]));
    let mut bad_edit = good.clone();
    bad_edit.routes[0].response_headers.remove.push("host".into());
    let bad_regex = one_table(vec![virtual_host(&[any()], None, &[regex("a)|(b")])]);
    for (snapshot, expected) in [
        (no_table, "listener \"listener\": route table 1 is not in the snapshot"),
        (no_route, "route table \"table\": route 0 is not in the snapshot"),
        (no_cluster, "route \"route\": cluster 0 is not in the snapshot"),
        (no_weight, "route \"route\": the weights of its backends add up to 0"),
        (bad_edit, "route \"route\": the header field \"host\" is not to be edited"),
    ] {
        let error = RouteTables::build(&snapshot, &mut Patterns::default()).expect_err("not valid");
        assert_eq!(error.to_string(), expected);
    }
    let error = RouteTables::build(&bad_regex, &mut Patterns::default()).expect_err("not valid");
    assert!(matches!(error, BuildError::Regex { .. }), "{error}");
    RouteTables::build(&good, &mut Patterns::default()).expect("valid");
}

#[test]
fn a_route_forwards_by_weight_with_the_edits_of_both() {
    let set = |name: &str, value: &str| HeaderEdits {
        set: vec![(name.into(), value.into())],
        ..HeaderEdits::default()
    };
    let backend = |weight, name: &str| WeightedBackend {
        cluster: None,
        weight,
        request_headers: set("x", name),
        response_headers: HeaderEdits::default(),
        rate_limits: None,
    };
    let mut snapshot = one_table(vec![virtual_host(&[any()], None, &[prefix("/")])]);
    snapshot.routes[0] = route(Action::Forward(vec![backend(1, "a"), backend(3, "b")]));
    snapshot.routes[0].request_headers = set("x", "route");
    let tables = RouteTables::build(&snapshot, &mut Patterns::default()).expect("valid");
    let chosen = |random| tables.plan(RouteId(0)).choose(random).expect("forwards");
    assert_eq!(chosen(0).0, 0);
    assert_eq!(chosen(u64::MAX / 4 - 1).0, 0);
    assert_eq!(chosen(u64::MAX / 4 + 2).0, 1);
    assert_eq!(chosen(u64::MAX).0, 1);
    assert!(chosen(0).1.request_edits.is_some() && chosen(0).1.response_edits.is_none());
    snapshot.routes[0].action = Action::Respond(503);
    let tables = RouteTables::build(&snapshot, &mut Patterns::default()).expect("valid");
    assert!(tables.plan(RouteId(0)).choose(0).is_none());
}
