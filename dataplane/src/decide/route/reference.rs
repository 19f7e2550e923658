//! A second, slow matcher, written from the Gateway API's text and the model's, and the property that
//! the tables find what it finds for random snapshots and requests.

use std::cmp::Reverse;

use lateen_snapshot::model::{
    FieldMatch, HostPattern, HostRoutes, PathMatch, RouteMatch, RouteTableId, Snapshot, ValueMatch,
    VirtualHost,
};
use lateen_snapshot::validate::patterns::Patterns;
use proptest::prelude::*;
use proptest::sample::{select, subsequence};

use super::tests::{any, below, host, snapshot, virtual_host};
use super::*;
use crate::codec::http1::head::tests::OwnedFields;

#[derive(Clone, Debug)]
struct Request {
    method: &'static str,
    host: String,
    port: Option<u16>,
    path: String,
    /// The parameters as they stand between `&`; `None`: no `?`.
    query: Option<Vec<&'static str>>,
    fields: Vec<(&'static str, &'static str)>,
}

impl Request {
    fn authority(&self) -> String {
        match self.port {
            Some(port) => format!("{}:{port}", self.host),
            None => self.host.clone(),
        }
    }
}

fn reference(snapshot: &Snapshot, listener: usize, request: &Request) -> Option<Found> {
    let host = request.host.to_ascii_lowercase();
    let host = host.strip_suffix('.').unwrap_or(&host);

    // Of a listener's hosts the most specific one counts.
    let best = snapshot.listeners[listener]
        .http
        .iter()
        .filter(|entry| covers(&entry.host, host))
        .max_by_key(|entry| specificity(&entry.host))?;
    let table = &snapshot.route_tables[best.table.0 as usize];

    // Of a table's hosts all that match count, one after the other.
    let mut hosts: Vec<(&HostPattern, &VirtualHost)> = table
        .hosts
        .iter()
        .flat_map(|entry| entry.hosts.iter().map(move |pattern| (pattern, entry)))
        .filter(|(pattern, _)| covers(pattern, host))
        .filter(|(_, entry)| entry.port.is_none_or(|port| port == request.port.unwrap_or(80)))
        .collect();
    hosts.sort_by_key(|(pattern, entry)| Reverse((specificity(pattern), entry.port.is_some())));
    hosts
        .iter()
        .flat_map(|(_, entry)| &entry.rules)
        .find(|rule| matches(&rule.matches, request))
        .map(|rule| Found { route: rule.route, prefix_bytes: taken(&rule.matches.path) })
}

/// Exact before wildcard, longer before shorter, any last.
fn specificity(pattern: &HostPattern) -> (u8, usize) {
    match pattern {
        HostPattern::Exact(_) => (2, 0),
        HostPattern::Suffix(suffix) => (1, suffix.len()),
        HostPattern::Any => (0, 0),
    }
}

fn covers(pattern: &HostPattern, host: &str) -> bool {
    match pattern {
        HostPattern::Any => true,
        HostPattern::Exact(name) => name == host,
        HostPattern::Suffix(suffix) => host.strip_suffix(&**suffix).is_some_and(|l| !l.is_empty()),
    }
}

fn taken(path: &PathMatch) -> u32 {
    match path {
        PathMatch::Prefix(prefix) => prefix.trim_end_matches('/').len() as u32,
        PathMatch::Exact(_) | PathMatch::Regex(_) => 0,
    }
}

fn matches(wanted: &RouteMatch, request: &Request) -> bool {
    let path = match &wanted.path {
        PathMatch::Prefix(prefix) if prefix == "/" => true,
        PathMatch::Prefix(prefix) => {
            let (own, wanted) = (request.path.split('/'), prefix.split('/'));
            own.take(wanted.clone().count()).eq(wanted)
        }
        PathMatch::Exact(path) => *path == request.path,
        PathMatch::Regex(pattern) => matches_whole(pattern, &request.path),
    };
    path && wanted.method.as_ref().is_none_or(|method| method == request.method)
        && wanted.headers.iter().all(|field| {
            let lines = request.fields.iter().filter(|(n, _)| n.eq_ignore_ascii_case(&field.name));
            let values: Vec<&str> = lines.map(|(_, value)| *value).collect();
            !values.is_empty() && has_value(field, &values.join(","))
        })
        && wanted.queries.iter().all(|field| {
            let mut parameters = request
                .query
                .iter()
                .flatten()
                .map(|text| text.split_once('=').unwrap_or((text, "")));
            parameters
                .find(|(name, _)| *name == field.name)
                .is_some_and(|(_, value)| has_value(field, value))
        })
}

fn has_value(field: &FieldMatch, value: &str) -> bool {
    match &field.value {
        ValueMatch::Exact(wanted) => wanted == value,
        ValueMatch::Regex(pattern) => matches_whole(pattern, value),
    }
}

fn matches_whole(pattern: &str, value: &str) -> bool {
    regex::Regex::new(&format!("^(?:{pattern})$")).expect("valid").is_match(value)
}

// Small alphabets, so that things meet.

const HOSTS: [&str; 7] =
    ["b", "a.b", "x.a.b", "b.b", "cart.shop.svc.cluster.local", "shop.svc.cluster.local", "A.b."];
const SUFFIXES: [&str; 5] = [".b", ".a.b", ".cluster.local", ".svc.cluster.local", ".shop"];

fn host_pattern() -> impl Strategy<Value = HostPattern> {
    let lower = |name: &str| name.to_ascii_lowercase().trim_end_matches('.').to_owned();
    prop_oneof![
        2 => Just(any()),
        3 => select(&HOSTS[..]).prop_map(move |name| host(&lower(name))),
        3 => select(&SUFFIXES[..]).prop_map(below),
    ]
}

fn path() -> impl Strategy<Value = String> {
    let segment = select(&["", "a", "b", "ab", "a%2Fb", "a-segment-of-more-than-a-word"][..]);
    prop::collection::vec(segment, 0..4).prop_map(|segments| format!("/{}", segments.join("/")))
}

fn path_match() -> impl Strategy<Value = PathMatch> {
    let as_prefix = |path: String| match path.trim_end_matches('/') {
        "" => PathMatch::Prefix("/".into()),
        path => PathMatch::Prefix(path.into()),
    };
    let patterns = ["/a.*", "/a|/b", "(?i)/A(/.*)?", "/[^/]+/b", "/"];
    prop_oneof![
        4 => path().prop_map(as_prefix),
        2 => path().prop_map(PathMatch::Exact),
        1 => select(patterns.to_vec()).prop_map(|pattern| PathMatch::Regex(pattern.into())),
    ]
}

fn field_matches(names: &'static [&'static str]) -> impl Strategy<Value = Vec<FieldMatch>> {
    let exact = select(&["", "1", "2", "1,2", "2,1", "1=2"][..]);
    let value = prop_oneof![
        3 => exact.prop_map(|value| ValueMatch::Exact(value.into())),
        1 => select(&["1|2", "[0-9],.*", ".*"][..]).prop_map(|p| ValueMatch::Regex(p.into())),
    ];
    let fields = prop_oneof![
        3 => Just(Vec::new()),
        2 => subsequence(names, 1..=names.len()),
    ];
    (fields, prop::collection::vec(value, names.len())).prop_map(|(names, values)| {
        let field = |(name, value): (&str, _)| FieldMatch { name: name.to_owned(), value };
        names.into_iter().zip(values).map(field).collect()
    })
}

fn route_match() -> impl Strategy<Value = RouteMatch> {
    let method = prop_oneof![
        3 => Just(None),
        1 => select(&["GET", "POST"][..]).prop_map(|method| Some(method.to_owned())),
    ];
    (path_match(), method, field_matches(&["x", "y"]), field_matches(&["a", "b"]))
        .prop_map(|(path, method, headers, queries)| RouteMatch { path, method, headers, queries })
}

fn table() -> impl Strategy<Value = Vec<VirtualHost>> {
    let port = select(&[None, None, Some(80), Some(8080)][..]);
    let hosts = prop::collection::vec(host_pattern(), 1..4);
    let entry = (hosts, port, prop::collection::vec(route_match(), 0..5));
    prop::collection::vec(entry, 0..6).prop_map(|entries| {
        let mut seen = Vec::new();
        let mut hosts = Vec::new();
        for (mut patterns, port, matches) in entries {
            patterns.retain(|pattern| {
                let key = (pattern.clone(), port);
                let is_new = !seen.contains(&key);
                seen.push(key);
                is_new
            });
            hosts.push(virtual_host(&patterns, port, &matches));
        }
        hosts
    })
}

fn any_snapshot() -> impl Strategy<Value = Snapshot> {
    let listener = prop::collection::vec((host_pattern(), 0..2_u32), 1..4);
    let tables = prop::collection::vec(table(), 2);
    (prop::collection::vec(listener, 2), tables).prop_map(|(listeners, tables)| {
        let listeners = listeners.into_iter().map(|entries| {
            let mut http: Vec<HostRoutes> = Vec::new();
            for (host, table) in entries {
                if http.iter().all(|entry| entry.host != host) {
                    http.push(HostRoutes { host, table: RouteTableId(table) });
                }
            }
            http
        });
        snapshot(listeners.collect(), tables)
    })
}

fn request() -> impl Strategy<Value = Request> {
    let host = prop_oneof![
        4 => select(&HOSTS[..]).prop_map(str::to_owned),
        2 => (select(&["c", "C", "d.c"][..]), select(&SUFFIXES[..]))
            .prop_map(|(label, suffix)| format!("{label}{suffix}")),
        1 => Just("[::1]".to_owned()),
    ];
    let parameter = select(&["", "a", "a=", "a=1", "a=1,2", "a=1=2", "b=2", "b", "ab=1"][..]);
    let query = prop::option::of(prop::collection::vec(parameter, 0..4));
    let field = (select(&["x", "X", "y", "z"][..]), select(&["", "1", "2", "1,2"][..]));
    let fields = prop::collection::vec(field, 0..4);
    let port = select(&[None, None, Some(80), Some(8080), Some(8)][..]);
    let method = select(&["GET", "POST", "PUT"][..]);
    (method, host, port, path(), query, fields).prop_map(
        |(method, host, port, path, query, fields)| Request {
            method,
            host,
            port,
            path,
            query,
            fields,
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, ..ProptestConfig::default() })]

    #[test]
    fn tables_find_what_the_reference_finds(
        snapshot in any_snapshot(),
        requests in prop::collection::vec(request(), 40),
    ) {
        let tables = RouteTables::build(&snapshot, &mut Patterns::default()).expect("valid");
        let regexes = WorkerRegexes::of(&tables);
        for request in requests {
            let query = request.query.as_ref().map(|query| format!("?{}", query.join("&")));
            let target = format!("{}{}", request.path, query.unwrap_or_default());
            let authority = request.authority();
            let fields = request.fields.iter().map(|(name, value)| (*name, value.as_bytes()));
            let fields = OwnedFields::new(fields);
            let view = RequestView {
                method: request.method.as_bytes(),
                authority: authority.as_bytes(),
                target: target.as_bytes(),
                fields: fields.view(),
            };
            for listener in 0..2 {
                let expected = reference(&snapshot, listener, &request);
                let index = ListenerIndex(listener as u32);
                prop_assert_eq!(tables.find(index, &view, &regexes), expected, "{:?}", request);
            }
        }
    }
}
