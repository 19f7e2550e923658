//! Every level, who overrides whom, and backends that differ; held against what the compiler makes of it.

use std::collections::BTreeSet;

use lateen_snapshot::model::RoutePolicy;

use super::settings::{OF_ENDPOINTS, OF_HTTP, OF_TCP, values_of};
use super::*;
use crate::compile::resolve;
use crate::language::object::ObjectKind;
use crate::language::parse::parse;
use crate::language::place::SourceFile;
use crate::language::schema::catalog::json_schema;
use crate::resolver::Addresses;

const SERVICES: &str = "\
apiVersion: lateen.dev/v1alpha1
kind: Service
metadata: {name: front}
spec: {ports: [{name: http, port: 80}, {name: raw, port: 90, protocol: TCP}], endpoints: []}
---
apiVersion: lateen.dev/v1alpha1
kind: Service
metadata: {name: one}
spec: {ports: [{name: http, port: 80}, {name: raw, port: 90, protocol: TCP}], endpoints: []}
---
apiVersion: lateen.dev/v1alpha1
kind: Service
metadata: {name: two}
spec: {ports: [{name: http, port: 80}, {name: raw, port: 90, protocol: TCP}], endpoints: []}
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: edge}
spec:
  gatewayClassName: lateen
  listeners: [{name: web, port: 80, protocol: HTTP}, {name: raw, port: 90, protocol: TCP}]
---
apiVersion: lateen.dev/v1alpha1
kind: Proxy
metadata: {name: p}
spec:
  listeners:
  - {name: out, type: Outbound, port: 15002, protocol: HTTP}
  - {name: edge, type: Gateway, gateway: {name: edge}}
";

/// A policy of a Service or a route, or of a part of it.
fn policy(name: &str, target: &str, says: &str) -> String {
    let (kind, of) = target.split_once('/').expect("a kind and a name");
    let (of, section) = match of.split_once('/') {
        Some((of, section)) => (of, format!(", sectionName: {section}")),
        None => (of, String::new()),
    };
    let group = if kind == "Service" { "lateen.dev" } else { "gateway.networking.k8s.io" };
    format!(
        "---\napiVersion: lateen.dev/v1alpha1\nkind: TrafficPolicy\nmetadata: {{name: {name}}}\nspec:\n  \
         targetRefs: [{{group: {group}, kind: {kind}, name: {of}{section}}}]\n{}",
        says.lines().map(|line| format!("  {line}\n")).collect::<String>()
    )
}

/// The HTTPRoute `r`.
fn route(parents: &str, rules: &str) -> String {
    format!(
        "---\napiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {{name: r}}\nspec:\n  \
         parentRefs: [{parents}]\n  rules: [{rules}]\n"
    )
}

const EDGE: &str = "{name: edge}";
const FRONT: &str = "{group: lateen.dev, kind: Service, name: front, port: 80}";
const BOTH: &str = "backendRefs: [{name: one, port: 80}, {name: two, port: 80}]";

fn declared(parts: &[String]) -> Vec<Arc<Declared>> {
    let text = format!("{SERVICES}{}", parts.concat());
    let parsed = parse(&[Arc::new(SourceFile::new("f.yaml", text))]);
    assert_eq!(parsed.diagnostics, []);
    parsed.declared
}

fn asked(kind: &str, name: &str, rule: Option<&str>) -> Asked {
    Asked {
        kind: Some(kind.to_owned()),
        namespace: "default".to_owned(),
        name: name.to_owned(),
        rule: rule.map(str::to_owned),
    }
}

/// One way of the first rule of the route `r`.
fn only_way(kind: &str, parts: &[String]) -> WayInForce {
    let told = in_force(&declared(parts), &asked(kind, "r", None)).expect("it is there");
    let mut ways = told.rules.into_iter().next().expect("a rule").ways;
    assert_eq!(ways.len(), 1, "{ways:?}");
    ways.remove(0)
}

/// Each word of a setting, as `policy standing value`.
fn words(way: &WayInForce, setting: &str) -> Vec<String> {
    let of = way.settings.iter().filter(|one| one.setting == setting);
    let words = of.flat_map(|one| {
        one.said.iter().map(move |said| {
            let who = said.policy.as_deref().unwrap_or("rule");
            let at = one.backend.as_ref().map(|backend| format!(" at {backend}"));
            format!("{who}: {} {:?}{}", said.value, said.standing, at.unwrap_or_default())
        })
    });
    words.collect()
}

/// The policies that the compiler makes of the first rule of the route `r`, whether or not it has its name.
fn compiled(parts: &[String]) -> Vec<RoutePolicy> {
    let mesh = resolve(&declared(parts)).expect("it compiles");
    let snapshot = mesh.snapshot("p", &Addresses::default()).expect("the proxy is declared");
    let names = ["HTTPRoute/default/r/0", "HTTPRoute/default/r/pay"];
    let routes = snapshot.routes.iter().filter(|route| names.contains(&&*route.name));
    routes.map(|route| route.policy.clone()).collect()
}

/// Every level, from the farthest to the closest.
fn all_levels() -> Vec<String> {
    let timeout = |ms: u32| format!("timeouts: {{request: {ms}ms}}");
    vec![
        policy("of-backend", "Service/one", &timeout(7)),
        policy("of-backend-port", "Service/one/http", &timeout(6)),
        policy("of-parent", "Service/front", &timeout(5)),
        policy("of-parent-port", "Service/front/http", &timeout(4)),
        policy("of-route", "HTTPRoute/r", &timeout(3)),
        policy("of-rule", "HTTPRoute/r/pay", &timeout(2)),
    ]
}

#[test]
fn the_closest_word_counts_and_the_others_are_told() {
    let of = |timeouts: &str| {
        route(FRONT, &format!("{{name: pay, backendRefs: [{{name: one, port: 80}}]{timeouts}}}"))
    };
    let names = [
        "rule",
        "of-rule",
        "of-route",
        "of-parent-port",
        "of-parent",
        "of-backend-port",
        "of-backend",
    ];
    // One after the other the closest goes away.
    for closest in 0..names.len() {
        let mut parts = all_levels();
        parts.truncate(if closest == 0 { 6 } else { 7 - closest });
        parts.push(of(if closest == 0 { ", timeouts: {request: 1ms}" } else { "" }));
        let way = only_way("HTTPRoute", &parts);
        let expected: Vec<String> = names[closest..]
            .iter()
            .zip(closest..)
            .map(|(name, at)| {
                let standing = if at == closest { "InForce" } else { "Overridden" };
                format!("{name}: \"{}ms\" {standing}", at + 1)
            })
            .collect();
        assert_eq!(words(&way, "timeouts.request"), expected);
        assert_eq!(way.settings[0].value, format!("{}ms", closest + 1));
        let policies = compiled(&parts);
        assert_eq!(policies.len(), 1);
        assert_eq!(policies[0].request_timeout_ms, Some(closest as u32 + 1), "as it is compiled");
    }
}

#[test]
fn the_levels_and_targets_are_told() {
    let mut parts = all_levels();
    parts.push(route(
        FRONT,
        "{name: pay, backendRefs: [{name: one, port: 80}], timeouts: {request: 1ms}}",
    ));
    let way = only_way("HTTPRoute", &parts);
    assert_eq!(way.parents, ["Service/default/front:80"]);
    let levels: Vec<Level> = way.settings[0].said.iter().map(|said| said.level).collect();
    assert!(levels.is_sorted());
    assert_eq!(levels.len(), 7);
    let target = |at: usize| {
        let Target { kind, name, section, .. } = &way.settings[0].said[at].target;
        format!("{kind}/{name} {}", section.as_deref().unwrap_or("-"))
    };
    assert_eq!(target(1), "HTTPRoute/r pay");
    assert_eq!(target(2), "HTTPRoute/r -");
    assert_eq!(target(3), "Service/front http");
    assert_eq!(target(6), "Service/one -");
}

#[test]
fn a_gateway_brings_no_policy_of_a_parent() {
    let mut parts = all_levels();
    parts.truncate(4);
    let both = format!("{EDGE}, {FRONT}");
    parts.push(route(&both, "{backendRefs: [{name: one, port: 80}]}"));
    let told = in_force(&declared(&parts), &asked("HTTPRoute", "r", None)).expect("it is there");
    let [edge, front] = &told.rules[0].ways[..] else { panic!("{told:?}") };
    assert_eq!(edge.parents, ["Gateway/default/edge/web"]);
    assert_eq!(edge.settings[0].value, "6ms");
    assert_eq!(front.parents, ["Service/default/front:80"]);
    assert_eq!(front.settings[0].value, "4ms");
    let timeouts: BTreeSet<Option<u32>> =
        compiled(&parts).iter().map(|policy| policy.request_timeout_ms).collect();
    assert_eq!(timeouts, [Some(4), Some(6)].into());
}

#[test]
fn of_backends_that_differ_none_counts_or_the_longest() {
    let retry = |attempts: u32| format!("retry: {{attempts: {attempts}}}\n");
    let parts = |one: &str, two: &str| {
        let mut parts = vec![route(EDGE, &format!("{{{BOTH}}}"))];
        let of = [("one", one), ("two", two)].into_iter().filter(|(_, says)| !says.is_empty());
        parts.extend(of.map(|(name, says)| policy(name, &format!("Service/{name}"), says)));
        parts
    };
    for (one, two, setting, expected, value) in [
        (
            retry(1),
            retry(1),
            "retry",
            vec!["one: {\"attempts\":1} InForce", "two: {\"attempts\":1} InForce"],
            json(1),
        ),
        (
            retry(1),
            retry(2),
            "retry",
            vec!["one: {\"attempts\":1} Differs", "two: {\"attempts\":2} Differs"],
            Json::Null,
        ),
        (retry(1), String::new(), "retry", vec!["one: {\"attempts\":1} Differs"], Json::Null),
        (
            "timeouts: {request: 1s}".into(),
            "timeouts: {request: 2s}".into(),
            "timeouts.request",
            vec!["one: \"1s\" Shorter", "two: \"2s\" InForce"],
            Json::from("2s"),
        ),
        (
            "timeouts: {request: 1s}".into(),
            "timeouts: {request: 1000ms}".into(),
            "timeouts.request",
            vec!["one: \"1s\" InForce", "two: \"1000ms\" InForce"],
            Json::from("1s"),
        ),
        (
            "timeouts: {request: 1s}".into(),
            "timeouts: {request: 0s}".into(),
            "timeouts.request",
            vec!["one: \"1s\" Shorter", "two: \"0s\" InForce"],
            Json::from("0s"),
        ),
        (
            "timeouts: {request: 1s}".into(),
            String::new(),
            "timeouts.request",
            vec!["one: \"1s\" Differs"],
            Json::Null,
        ),
    ] {
        let parts = parts(&one, &two);
        let way = only_way("HTTPRoute", &parts);
        assert_eq!(words(&way, setting), expected, "{one} and {two}");
        let told = way.settings.iter().find(|of| of.setting == setting).expect("it is told");
        assert_eq!(told.value, value, "{one} and {two}");
        let policy = &compiled(&parts)[0];
        assert_eq!(policy.retry.is_some(), setting == "retry" && !value.is_null());
        assert_eq!(policy.request_timeout_ms.is_some(), setting != "retry" && !value.is_null());
    }
    // Who says it closer settles it.
    let mut parts = parts(&retry(1), &retry(2));
    parts.push(policy("closer", "HTTPRoute/r", &retry(3)));
    let words = words(&only_way("HTTPRoute", &parts), "retry");
    assert_eq!(words[0], "closer: {\"attempts\":3} InForce");
    assert!(words[1..].iter().all(|word| word.ends_with("Overridden")), "{words:?}");
}

fn json(attempts: u32) -> Json {
    serde_json::json!({ "attempts": attempts })
}

#[test]
fn what_is_about_connections_is_each_backends_own() {
    let says = "loadBalancing: {type: Random, panicThresholdPercent: 30}\nrateLimits: [{name: l, requests: 5}]";
    let mut parts = vec![
        policy("of-one", "Service/one", says),
        policy("of-port", "Service/one/http", "loadBalancing: {type: RoundRobin}"),
        policy("of-two", "Service/two", "bulkhead: {maxRequests: 4}"),
        policy("of-front", "Service/front", "loadBalancing: {type: PeakEwma}"),
        route(FRONT, &format!("{{{BOTH}}}")),
    ];
    let way = only_way("HTTPRoute", &parts);
    assert_eq!(
        words(&way, "loadBalancing.type"),
        [
            "of-port: \"RoundRobin\" InForce at Service/default/one:80",
            "of-one: \"Random\" Overridden at Service/default/one:80",
        ]
    );
    assert_eq!(
        words(&way, "loadBalancing.panicThresholdPercent"),
        ["of-one: 30 InForce at Service/default/one:80"]
    );
    assert_eq!(
        words(&way, "bulkhead"),
        ["of-two: {\"maxRequests\":4} InForce at Service/default/two:80"]
    );
    let limits = "[{\"name\":\"l\",\"requests\":5}]";
    let at_one = format!("of-one: {limits} InForce at Service/default/one:80");
    assert_eq!(words(&way, "rateLimits"), [at_one]);
    parts.push(policy("of-route", "HTTPRoute/r", "rateLimits: [{name: m, requests: 6}]"));
    assert_eq!(
        words(&only_way("HTTPRoute", &parts), "rateLimits"),
        [
            "of-route: [{\"name\":\"m\",\"requests\":6}] InForce".to_owned(),
            format!("of-one: {limits} Overridden"),
        ]
    );
}

#[test]
fn a_tcp_route_has_what_is_about_connections() {
    let route = "---\napiVersion: gateway.networking.k8s.io/v1alpha2\nkind: TCPRoute\nmetadata: {name: r}\n\
        spec:\n  parentRefs: [{group: lateen.dev, kind: Service, name: front, port: 90}]\n  \
        rules: [{backendRefs: [{name: one, port: 90}]}]\n";
    let mut parts = vec![
        route.to_owned(),
        policy(
            "of-one",
            "Service/one",
            "timeouts: {idle: 1m, request: 1s}\nretry: {attempts: 1}\nrateLimits: [{name: l, connections: 5}]",
        ),
        policy(
            "of-front",
            "Service/front",
            "timeouts: {idle: 2m}\nrateLimits: [{name: l, requests: 5}]",
        ),
    ];
    let way = only_way("TCPRoute", &parts);
    assert_eq!(
        words(&way, "timeouts.idle"),
        ["of-front: \"2m\" InForce", "of-one: \"1m\" Overridden"]
    );
    assert_eq!(words(&way, "timeouts.request"), Vec::<String>::new());
    assert_eq!(words(&way, "retry"), Vec::<String>::new());
    assert_eq!(
        words(&way, "rateLimits"),
        [
            "of-front: [{\"name\":\"l\",\"requests\":5}] NotForTcp",
            "of-one: [{\"connections\":5,\"name\":\"l\"}] InForce at Service/default/one:90",
        ]
    );
    parts.push(policy("of-route", "TCPRoute/r", "timeouts: {idle: 3m}"));
    assert_eq!(
        words(&only_way("TCPRoute", &parts), "timeouts.idle")[0],
        "of-route: \"3m\" InForce"
    );
}

#[test]
fn a_service_without_a_route_has_what_is_said_of_it() {
    let mut parts = vec![
        policy("whole", "Service/front", "timeouts: {request: 1s, idle: 1m}\nretry: {attempts: 1}"),
        policy("of-http", "Service/front/http", "timeouts: {request: 2s}"),
    ];
    let told = |parts: &[String], asked: &Asked| in_force(&declared(parts), asked);
    let front = told(&parts, &asked("Service", "front", None)).expect("it is there");
    let [http, raw] = &front.rules[..] else { panic!("two ports: {front:?}") };
    assert_eq!((front.kind.as_str(), http.index, raw.index), ("Service", 80, 90));
    assert_eq!(
        words(&http.ways[0], "timeouts.request"),
        ["of-http: \"2s\" InForce", "whole: \"1s\" Overridden"]
    );
    assert_eq!(words(&http.ways[0], "retry"), ["whole: {\"attempts\":1} InForce"]);
    assert_eq!(words(&http.ways[0], "timeouts.idle"), Vec::<String>::new(), "it speaks HTTP");
    assert_eq!(words(&raw.ways[0], "timeouts.idle"), ["whole: \"1m\" InForce"]);
    assert_eq!(words(&raw.ways[0], "timeouts.request"), Vec::<String>::new());
    // As the compiler has it.
    let mesh = resolve(&declared(&parts)).expect("it compiles");
    let snapshot = mesh.snapshot("p", &Addresses::default()).expect("the proxy is declared");
    let name = "Service/default/front/80";
    let direct = snapshot.routes.iter().find(|route| route.name == name).expect("it can be called");
    assert_eq!(direct.policy.request_timeout_ms, Some(2_000));

    // Where no route has the name it need not be said that a service is meant.
    let any = Asked { kind: None, rule: Some("raw".to_owned()), ..asked("", "front", None) };
    assert_eq!(told(&parts, &any).map(|told| told.rules[0].index), Ok(90));
    let none = Asked { rule: Some("81".to_owned()), ..any };
    let why = told(&parts, &none).expect_err("there is none");
    assert_eq!(why.to_string(), "Service/default/front has no port 81");
    let NotTold::NoPort { ports, .. } = why else { panic!("{why:?}") };
    assert_eq!(ports, ["80 (http)", "90 (raw)"]);
    let why = told(&parts, &asked("Service", "frond", None)).expect_err("there is none");
    assert_eq!(why.to_string(), "there is no Service default/frond; did you mean front?");

    // A route that is attached to it decides, for all callers where it is of the service's namespace.
    parts.push(route(FRONT, &format!("{{{BOTH}}}")));
    let front = told(&parts, &asked("Service", "front", None)).expect("it is there");
    assert_eq!(front.rules[0].decided_by, ["HTTPRoute/default/r"]);
    assert!(!front.rules[0].has_requests);
    assert_eq!(front.rules[0].ways, []);
    assert_eq!(front.rules[1].decided_by, Vec::<String>::new());
    assert_eq!(front.rules[1].ways[0].parents, ["Service/default/front:90"]);
}

/// A port of Kubernetes of which nobody says what it speaks may get either.
#[test]
fn what_is_about_requests_and_what_about_bytes_is_decided_apart() {
    const CORE: &str = "---\napiVersion: v1\nkind: Service\nmetadata: {name: core}\n\
        spec: {ports: [{name: any, port: 70}]}\n";
    let tcp = |of: &str| {
        format!(
            "---\napiVersion: gateway.networking.k8s.io/v1alpha2\nkind: TCPRoute\nmetadata: {{name: bytes}}\n\
             spec:\n  parentRefs: [{{group: lateen.dev, kind: Service, name: {of}}}]\n  \
             rules: [{{backendRefs: [{{name: one, port: 90}}]}}]\n"
        )
    };
    let says = "timeouts: {request: 1s, idle: 1m}";
    let told = |parts: &[String], name: &str| {
        in_force(&declared(parts), &asked("Service", name, None)).expect("it is there")
    };
    // A TCPRoute says nothing of the requests to a port that speaks HTTP.
    let front = told(&[tcp("front"), policy("of-front", "Service/front", says)], "front");
    let [http, raw] = &front.rules[..] else { panic!("two ports: {front:?}") };
    assert!(http.decided_by.is_empty() && http.has_requests, "{http:?}");
    assert_eq!(words(&http.ways[0], "timeouts.request"), ["of-front: \"1s\" InForce"]);
    assert_eq!(raw.decided_by, ["TCPRoute/default/bytes"]);
    assert!(!raw.has_requests);
    assert_eq!(raw.ways, []);

    let core = |more: &[String]| {
        let parts = [&[CORE.to_owned(), policy("of-core", "Service/core", says)], more].concat();
        told(&parts, "core").rules.remove(0)
    };
    let neither = core(&[]);
    assert!(neither.has_requests);
    assert_eq!(words(&neither.ways[0], "timeouts.request"), ["of-core: \"1s\" InForce"]);
    assert_eq!(words(&neither.ways[0], "timeouts.idle"), ["of-core: \"1m\" InForce"]);
    let parent = "{group: \"\", kind: Service, name: core, port: 70}";
    let requests = core(&[route(parent, &format!("{{{BOTH}}}"))]);
    assert_eq!(requests.decided_by, ["HTTPRoute/default/r"]);
    assert!(!requests.has_requests);
    assert_eq!(words(&requests.ways[0], "timeouts.request"), Vec::<String>::new());
    assert_eq!(words(&requests.ways[0], "timeouts.idle"), ["of-core: \"1m\" InForce"]);
}

#[test]
fn a_rule_that_sends_nothing_anywhere_has_no_backends() {
    let redirect = "{filters: [{type: RequestRedirect, requestRedirect: {scheme: https}}], timeouts: {request: 1s}}";
    let idle = "{backendRefs: [{name: one, port: 80, weight: 0}, {name: two, port: 80}]}";
    let parts = [
        route(EDGE, &format!("{redirect}, {idle}")),
        policy("one", "Service/one", "retry: {attempts: 1}"),
        policy("two", "Service/two", "retry: {attempts: 2}"),
    ];
    let told = in_force(&declared(&parts), &asked("HTTPRoute", "r", None)).expect("it is there");
    let of = |rule: usize| &told.rules[rule].ways[0];
    assert_eq!(words(of(0), "retry"), Vec::<String>::new());
    assert_eq!(words(of(0), "timeouts.request"), ["rule: \"1s\" InForce"]);
    assert_eq!(words(of(1), "retry"), ["two: {\"attempts\":2} InForce"]);
}

#[test]
fn what_is_not_there_is_told_with_what_is_near() {
    let parts = [route(EDGE, &format!("{{name: pay, {BOTH}}}, {{{BOTH}}}"))];
    let told = |asked: &Asked| in_force(&declared(&parts), asked);
    let why = |asked: &Asked| told(asked).expect_err("it is not there").to_string();
    let some = |namespace: &str, name: &str, rule: Option<&str>| Asked {
        kind: None,
        namespace: namespace.to_owned(),
        name: name.to_owned(),
        rule: rule.map(str::to_owned),
    };
    assert_eq!(told(&some("default", "r", Some("pay"))).map(|told| told.rules.len()), Ok(1));
    assert_eq!(told(&some("default", "r", Some("1"))).map(|told| told.rules[0].index), Ok(1));
    assert_eq!(why(&some("default", "R", None)), "there is no route default/R; did you mean r?");
    assert_eq!(why(&asked("TCPRoute", "r", None)), "there is no TCPRoute default/r");
    assert_eq!(
        why(&some("default", "r", Some("pai"))),
        "HTTPRoute/default/r has no rule pai; did you mean pay?"
    );
    assert_eq!(why(&some("default", "r", Some("2"))), "HTTPRoute/default/r has no rule 2");
    for name in ["r", "R"] {
        let Err(NotTold::NoRoute { elsewhere, .. }) = told(&some("shop", name, None)) else {
            panic!("there is none")
        };
        assert_eq!(elsewhere, ["HTTPRoute/default/r"], "{name}");
    }
    // A service may be meant as well.
    let Err(NotTold::NoRoute { elsewhere, .. }) = told(&some("shop", "front", None)) else {
        panic!("there is none")
    };
    assert_eq!(elsewhere, ["Service/default/front"]);
    assert_eq!(
        why(&some("default", "frond", None)),
        "there is no route default/frond; did you mean front?"
    );
}

/// A new field of a policy must be told of.
#[test]
fn every_field_of_a_policy_is_in_the_table() {
    let schema = json_schema(ObjectKind::TrafficPolicy);
    let fields_of = |of: &Json| -> Vec<String> {
        of["properties"].as_object().expect("an object").keys().cloned().collect()
    };
    let spec = &schema["properties"]["spec"];
    let mut fields: BTreeSet<String> = BTreeSet::new();
    for field in fields_of(spec) {
        match &*field {
            "targetRefs" => {}
            "timeouts" | "loadBalancing" => {
                let parts = fields_of(&spec["properties"][&field]);
                let whole = parts.iter().filter(|part| !["peakEwma", "hash"].contains(&&***part));
                fields.extend(whole.map(|part| format!("{field}.{part}")));
            }
            _ => {
                fields.insert(field);
            }
        }
    }
    let told: BTreeSet<String> = OF_HTTP
        .iter()
        .chain(OF_TCP)
        .chain(OF_ENDPOINTS)
        .map(|(name, _)| (*name).to_owned())
        .collect();
    // A rule says that, and no policy.
    fields.insert("sessionPersistence".to_owned());
    assert_eq!(told, fields);
}

#[test]
fn how_an_endpoint_is_chosen_is_one_setting() {
    let says =
        "loadBalancing: {type: Maglev, hash: {keys: [{type: Path}]}, panicThresholdPercent: 9}";
    let declared = declared(&[policy("p", "Service/one", says)]);
    let spec = declared.iter().find_map(|one| match &one.object {
        Object::TrafficPolicy(spec) => Some(spec),
        _ => None,
    });
    let values: Vec<String> = values_of(spec.expect("it is declared"))
        .iter()
        .map(|(name, value)| format!("{name} {value}"))
        .collect();
    assert_eq!(
        values,
        [
            "loadBalancing.panicThresholdPercent 9",
            "loadBalancing.type {\"hash\":{\"keys\":[{\"type\":\"Path\"}]},\"type\":\"Maglev\"}",
        ]
    );
}
