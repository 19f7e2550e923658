//! Orders by themselves, and in snapshots.

use std::sync::Arc;

use lateen_snapshot::model::breaker::BreakerMode;
use lateen_snapshot::model::{Cluster, Snapshot};

use super::applied::{emptied, gets_requests};
use super::*;
use crate::resolver::Addresses;
use crate::resolver::answers::Known;
use crate::serve::intent::{Content, FileCache};
use crate::serve::plan::Plan;

const MESH: &str = "\
apiVersion: lateen.dev/v1alpha1
kind: Service
metadata: {name: cart, namespace: shop}
spec:
  ports: [{name: http, port: 80}, {name: admin, port: 81}]
  endpoints:
  - {address: 10.0.0.1, ports: {http: 8080, admin: 8081}, labels: {version: v1}}
  - {address: 10.0.0.2, ports: {http: 8080, admin: 8081}, labels: {version: v1}}
  - {address: 10.0.0.3, ports: {http: 8080, admin: 8081}, labels: {version: v2}}
---
apiVersion: lateen.dev/v1alpha1
kind: Service
metadata: {name: db, namespace: shop}
spec: {ports: [{name: http, port: 80}], dns: {name: db.internal, port: 9000}}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: cart, namespace: shop}
spec:
  parentRefs: [{group: lateen.dev, kind: Service, name: cart, port: 80}]
  rules:
  - {name: old, matches: [{path: {value: /old}}], filters: [{type: RequestRedirect, requestRedirect: {port: 81}}]}
  - {name: pay, matches: [{path: {value: /pay}}], backendRefs: [{name: cart, port: 80}]}
  - {backendRefs: [{name: cart, port: 80}]}
---
apiVersion: lateen.dev/v1alpha1
kind: TrafficPolicy
metadata: {name: pay, namespace: shop}
spec:
  targetRefs: [{group: gateway.networking.k8s.io, kind: HTTPRoute, name: cart, sectionName: pay}]
  subset: {labels: {version: v2}}
  circuitBreaker: {requestVolume: 7, fallback: {response: {body: later}}}
---
apiVersion: lateen.dev/v1alpha1
kind: Proxy
metadata: {name: edge, namespace: shop}
spec:
  listeners: [{name: out, type: Outbound, port: 15001, protocol: HTTP}]
---
apiVersion: lateen.dev/v1alpha1
kind: Proxy
metadata: {name: other, namespace: elsewhere}
spec:
  listeners: [{name: out, type: Outbound, port: 15001, protocol: HTTP}]
";

fn content(text: &str) -> Content {
    let (parsed, content) = FileCache::default().parse([("f.yaml", text)].into_iter());
    assert_eq!(parsed.diagnostics, []);
    content
}

fn addresses() -> Addresses {
    let known = [[10, 1, 0, 1], [10, 1, 0, 2]].map(Into::into);
    let known = Known { addresses: Some(Arc::from(known)), problem: None };
    [(Arc::from("db.internal"), known)].into_iter().collect()
}

fn ejected(service: &str, endpoint: &str) -> Ordered {
    Ordered::Ejected {
        service: service.parse().expect("a service"),
        endpoint: endpoint.parse().expect("an endpoint"),
    }
}

fn held(route: &str, held: Held) -> Ordered {
    Ordered::Breaker { route: route.parse().expect("a route"), held }
}

fn order(ordered: Ordered, since: u64, until: Option<u64>) -> Override {
    let (author, message) = ("ann".to_owned(), String::new());
    Override { ordered, author, message, since: UnixMs(since), until: until.map(UnixMs) }
}

fn all(orders: impl IntoIterator<Item = Ordered>) -> Arc<Overrides> {
    let orders = orders.into_iter().zip(1..).map(|(ordered, since)| order(ordered, since, None));
    Arc::new(Overrides::restored(orders.collect()))
}

fn planned(text: &str, overrides: &Arc<Overrides>) -> Plan {
    let before = Plan::default();
    Plan::new(content(text), &before, &addresses(), overrides.clone()).expect("it is right")
}

/// `shop/cart:80 [10.0.0.1:8080]`: what is ordered out of which cluster.
fn out(snapshot: &Snapshot) -> Vec<String> {
    let clusters = snapshot.clusters.iter().filter(|of| !of.policy.ordered_out.is_empty());
    let shown = clusters.map(|cluster| {
        let at = |position: &u32| cluster.endpoints[*position as usize].address.to_string();
        let out: Vec<String> = cluster.policy.ordered_out.iter().map(at).collect();
        format!("{} [{}]", cluster.name, out.join(", "))
    });
    let mut shown: Vec<String> = shown.collect();
    shown.sort();
    shown
}

/// How breakers stand: their routes, and `O`, `C` or `A`.
fn breakers(snapshot: &Snapshot) -> Vec<String> {
    let routes = snapshot.routes.iter();
    let mut shown: Vec<String> = routes
        .filter_map(|route| {
            let mode = match route.policy.circuit_breaker.as_ref()?.mode {
                BreakerMode::Automatic => 'A',
                BreakerMode::ForcedOpen => 'O',
                BreakerMode::ForcedClosed => 'C',
            };
            Some(format!("{} {mode}", route.name))
        })
        .collect();
    shown.sort();
    shown
}

#[test]
fn an_endpoint_is_marked_wherever_it_is_and_only_where_it_is_meant() {
    for (service, endpoint, expected) in [
        (
            "shop/cart",
            "10.0.0.3:8080",
            &["shop/cart:80 [10.0.0.3:8080]", "shop/cart:80?version=v2 [10.0.0.3:8080]"][..],
        ),
        (
            "shop/cart",
            "10.0.0.2",
            &["shop/cart:80 [10.0.0.2:8080]", "shop/cart:81 [10.0.0.2:8081]"],
        ),
        ("shop/cart:admin", "10.0.0.2", &["shop/cart:81 [10.0.0.2:8081]"]),
        ("shop/cart:81", "10.0.0.2", &["shop/cart:81 [10.0.0.2:8081]"]),
        ("shop/db", "10.1.0.2:9000", &["shop/db:80 [10.1.0.2:9000]"]),
        ("shop/cart", "10.0.0.9:8080", &[]),
        ("shop/gone", "10.0.0.2", &[]),
    ] {
        let plan = planned(MESH, &all([ejected(service, endpoint)]));
        assert_eq!(out(&plan.snapshots["edge"]), expected, "{service} {endpoint}");
        assert_eq!(out(&plan.snapshots["other"]), [""; 0], "it calls nothing of it");
        let effect = &plan.effects[0];
        assert_eq!(effect.proxies, usize::from(!expected.is_empty()), "{service} {endpoint}");
        assert_eq!(effect.why_none.is_some(), expected.is_empty(), "{effect:?}");
    }
    let both = all([ejected("shop/cart:80", "10.0.0.2:8080"), ejected("shop/cart", "10.0.0.1")]);
    let plan = planned(MESH, &both);
    let expected = ["shop/cart:80 [10.0.0.1:8080, 10.0.0.2:8080]", "shop/cart:81 [10.0.0.1:8081]"];
    assert_eq!(out(&plan.snapshots["edge"]), expected);
    // Without the orders all is as it was, and the same in memory.
    let free = plan.with_overrides(&addresses(), Arc::default()).expect("it is right");
    assert_eq!(out(&free.snapshots["edge"]), [""; 0]);
    assert_eq!(*free.snapshots["edge"], *planned(MESH, &Arc::default()).snapshots["edge"]);
    assert!(Arc::ptr_eq(&free.snapshots["other"], &plan.snapshots["other"]));
}

#[test]
fn a_held_breaker_keeps_what_was_declared_of_it_and_is_made_where_there_is_none() {
    let rules = ["HTTPRoute/shop/cart/2", "HTTPRoute/shop/cart/pay"];
    for (route, at, expected) in [
        (
            "HTTPRoute/shop/cart",
            Held::Open,
            vec![format!("{} O", rules[0]), format!("{} O", rules[1])],
        ),
        ("HTTPRoute/shop/cart/pay", Held::Closed, vec![format!("{} C", rules[1])]),
        ("HTTPRoute/shop/cart/1", Held::Closed, vec![format!("{} C", rules[1])]),
        (
            "httproute/shop/cart/2",
            Held::Open,
            vec![format!("{} O", rules[0]), format!("{} A", rules[1])],
        ),
        // A redirect has none.
        ("HTTPRoute/shop/cart/old", Held::Open, vec![format!("{} A", rules[1])]),
        (
            "Service/shop/db",
            Held::Open,
            vec![format!("{} A", rules[1]), "Service/shop/db/80 O".to_owned()],
        ),
        ("HTTPRoute/shop/gone", Held::Open, vec![format!("{} A", rules[1])]),
    ] {
        let plan = planned(MESH, &all([held(route, at)]));
        assert_eq!(breakers(&plan.snapshots["edge"]), expected, "{route}");
    }
    let plan = planned(MESH, &all([held("HTTPRoute/shop/cart", Held::Open)]));
    let routes = &plan.snapshots["edge"].routes;
    let breaker = |name: &str| {
        let route = routes.iter().find(|route| route.name == name).expect("it is there");
        route.policy.circuit_breaker.clone().expect("it has one")
    };
    assert_eq!((breaker(rules[1]).request_volume, breaker(rules[1]).fallback.is_some()), (7, true));
    assert_eq!(
        (breaker(rules[0]).request_volume, breaker(rules[0]).fallback.is_some()),
        (20, false)
    );
    // Of a whole route and a rule of it, whoever ordered last counts.
    let [whole, rule] =
        [held("HTTPRoute/shop/cart", Held::Open), held("HTTPRoute/shop/cart/pay", Held::Closed)];
    let plan = planned(MESH, &all([whole.clone(), rule.clone()]));
    assert_eq!(
        breakers(&plan.snapshots["edge"]),
        [format!("{} O", rules[0]), format!("{} C", rules[1])]
    );
    let first =
        Overrides::default().with(order(rule, 1, None), &plan.content).expect("there is room").0;
    let (last, gone) = first.with(order(whole, 2, None), &plan.content).expect("there is room");
    assert_eq!((last.iter().len(), gone), (1, vec!["breaker HTTPRoute/shop/cart/pay".to_owned()]));
}

#[test]
fn an_order_follows_what_it_is_about() {
    let orders =
        all([held("HTTPRoute/shop/cart/pay", Held::Open), ejected("shop/cart:http", "10.0.0.1")]);
    let moved = MESH
        .replace("  - {name: old,", "  - {matches: [{path: {value: /new}}], backendRefs: [{name: cart, port: 80}]}\n  - {name: old,")
        .replace("{name: http, port: 80}, {name: admin", "{name: http, port: 80}, {name: more, port: 90}, {name: admin")
        .replace("ports: {http: 8080, admin", "ports: {http: 8080, more: 8090, admin");
    let plan = planned(&moved, &orders);
    let pay = breakers(&plan.snapshots["edge"]);
    assert_eq!(pay, ["HTTPRoute/shop/cart/pay O"], "what a proxy knows of it stays its own");
    assert_eq!(out(&plan.snapshots["edge"]), ["shop/cart:80 [10.0.0.1:8080]"]);
    let gone = planned(
        &MESH.replace("name: pay,", "name: buy,").replace("sectionName: pay", "sectionName: buy"),
        &orders,
    );
    let why = gone.effects[0].why_none.clone().unwrap_or_default();
    assert!(why.contains("HTTPRoute/shop/cart has no rule pay"), "{why}");
}

#[test]
fn the_last_that_gets_requests_is_known_in_each_part() {
    let none = planned(MESH, &Arc::default());
    let ports = ["shop/cart:80".to_owned(), "shop/cart:81".to_owned()];
    let emptied_by = |orders: &[&str]| {
        let orders = all(orders.iter().map(|endpoint| ejected("shop/cart", endpoint)));
        let after = none.with_overrides(&addresses(), orders).expect("it is right");
        emptied(&none, &after, &ports)
    };
    assert_eq!(emptied_by(&["10.0.0.1", "10.0.0.2"]), None);
    let subset = Some("shop/cart:80?version=v2".to_owned());
    assert_eq!(emptied_by(&["10.0.0.3:8080"]), subset, "a version of which it is the only one");
    assert_eq!(emptied_by(&["10.0.0.3:8081"]), None);
    let port = Some("shop/cart:81".to_owned());
    assert_eq!(emptied_by(&["10.0.0.1:8081", "10.0.0.2:8081", "10.0.0.3:8081"]), port);
}

#[test]
fn the_last_of_a_service_is_known_before_any_proxy_uses_it() {
    let unused: Vec<&str> =
        MESH.split("---\n").filter(|document| !document.contains("kind: Proxy")).collect();
    let none = planned(&unused.join("---\n"), &Arc::default());
    let ports = ["shop/cart:80".to_owned(), "shop/cart:81".to_owned()];
    let with = |before: &Plan, orders: &[&str]| {
        let orders = all(orders.iter().map(|endpoint| ejected("shop/cart", endpoint)));
        before.with_overrides(&addresses(), orders).expect("it is right")
    };
    let two = with(&none, &["10.0.0.1", "10.0.0.2:8080"]);
    assert_eq!(emptied(&none, &two, &ports), None);
    let three = with(&two, &["10.0.0.1", "10.0.0.2:8080", "10.0.0.3:8080"]);
    assert_eq!(emptied(&two, &three, &ports).as_deref(), Some("shop/cart:80"));
    assert_eq!(emptied(&three, &three, &ports), None, "it was before");
    let mut cluster = Cluster::clone(none.mesh.cluster("shop/cart:80").expect("it is declared"));
    cluster.policy.terminating = vec![1];
    assert!(gets_requests(&cluster, &[0]));
    assert!(!gets_requests(&cluster, &[0, 2]), "who is being taken away is nobody");
}

#[test]
fn orders_end_by_the_clock_and_one_is_about_each_thing() {
    let plan = planned(MESH, &Arc::default());
    let mesh = &plan.content;
    let a = ejected("shop/cart", "10.0.0.1:8080");
    let b = ejected("shop/cart", "10.0.0.2:8080");
    let (orders, _) =
        Overrides::default().with(order(a.clone(), 5, Some(100)), mesh).expect("room");
    let (orders, gone) = orders.with(order(b.clone(), 6, None), mesh).expect("room");
    assert_eq!((gone.len(), orders.next_end()), (0, Some(UnixMs(100))));
    let (mut orders, gone) = orders.with(order(a.clone(), 7, Some(50)), mesh).expect("room");
    assert_eq!(gone, ["endpoint Service/shop/cart 10.0.0.1:8080"], "it is ordered anew");
    assert_eq!(orders.expire(UnixMs(49)), []);
    assert_eq!(orders.expire(UnixMs(50)), [order(a.clone(), 7, Some(50))]);
    assert_eq!((orders.iter().len(), orders.next_end()), (1, None));
    let (none, gone) =
        orders.without(&ejected("shop/cart", "10.0.0.2"), &plan).expect("it covers it");
    assert!(none.is_empty() && gone == ["endpoint Service/shop/cart 10.0.0.2:8080"]);
    let (whole, _) =
        orders.with(order(ejected("shop/cart", "10.0.0.1"), 8, None), mesh).expect("room");
    let refused = whole.without(&a, &plan).expect_err("that is about more");
    assert_eq!(
        refused.to_string(),
        "nothing was taken back: 10.0.0.1:8080 of Service/shop/cart would still be held, for 10.0.0.1 of \
         Service/shop/cart is ejected"
    );
    assert!(orders.without(&held("Service/shop/cart", Held::Open), &plan).is_err());
    let mut full = Overrides::default();
    for index in 0..OVERRIDES_MAX {
        let endpoint = ejected("shop/cart", &format!("10.0.{}.{}", index / 250, index % 250));
        full = full.with(order(endpoint, 1, None), mesh).expect("there is room").0;
    }
    assert_eq!(full.with(order(b, 1, None), mesh), Err(OrderRefusal::TooMany));
    assert!(
        full.with(order(ejected("shop/cart", "10.0.0.1"), 2, None), mesh).is_ok(),
        "in its place"
    );
}

/// What comes of taking something back: the targets that go, or what holds on and the command that ends it.
fn taken_back(orders: &[Ordered], about: &Ordered, plan: &Plan) -> Result<Vec<String>, String> {
    let standing = Overrides::restored(
        orders.iter().zip(1..).map(|(ordered, at)| order(ordered.clone(), at, None)).collect(),
    );
    let refusal = |refusal: OrderRefusal| match &refusal {
        OrderRefusal::StillHeld { orders, command, .. } => {
            format!("{}: {command}", orders.join(", "))
        }
        _ => refusal.to_string(),
    };
    standing.without(about, plan).map(|(_, gone)| gone).map_err(refusal)
}

#[test]
fn nothing_is_taken_back_while_another_order_holds_the_same() {
    let plan = planned(MESH, &Arc::default());
    let readmit_cart = |endpoint: &str| {
        format!("lateen readmit --service Service/shop/cart --endpoint {endpoint}")
    };
    let whole = "lateen breaker auto --route HTTPRoute/shop/cart";
    for (orders, about, expected) in [
        (
            vec![
                held("HTTPRoute/shop/cart", Held::Open),
                held("HTTPRoute/shop/cart/pay", Held::Closed),
            ],
            held("HTTPRoute/shop/cart/pay", Held::Open),
            format!("the breaker of HTTPRoute/shop/cart is open: {whole}"),
        ),
        (
            vec![
                held("HTTPRoute/shop/cart", Held::Open),
                held("HTTPRoute/shop/cart/1", Held::Closed),
            ],
            held("HTTPRoute/shop/cart/pay", Held::Open),
            format!("the breaker of HTTPRoute/shop/cart is open: {whole}"),
        ),
        (
            vec![ejected("shop/cart", "10.0.0.1:8080"), ejected("shop/cart:80", "10.0.0.1:8080")],
            ejected("shop/cart:http", "10.0.0.1:8080"),
            format!(
                "10.0.0.1:8080 of Service/shop/cart is ejected: {}",
                readmit_cart("10.0.0.1:8080")
            ),
        ),
        (
            vec![ejected("shop/cart", "10.0.0.1"), ejected("shop/cart", "10.0.0.1:8080")],
            ejected("shop/cart", "10.0.0.1:8080"),
            format!("10.0.0.1 of Service/shop/cart is ejected: {}", readmit_cart("10.0.0.1")),
        ),
        // By name, and all of an address.
        (
            vec![ejected("shop/cart:http", "10.0.0.1")],
            ejected("shop/cart:80", "10.0.0.1:8080"),
            "10.0.0.1 of Service/shop/cart:http is ejected: lateen readmit --service \
             Service/shop/cart:80 --endpoint 10.0.0.1"
                .to_owned(),
        ),
        // Neither is a part of the other.
        (
            vec![ejected("shop/cart", "10.0.0.1:8080"), ejected("shop/cart:80", "10.0.0.1")],
            ejected("shop/cart:80", "10.0.0.1"),
            format!("10.0.0.1:8080 of Service/shop/cart is ejected: {}", readmit_cart("10.0.0.1")),
        ),
        // One about what is gone stands, and would hold it again.
        (
            vec![ejected("shop/gone", "10.0.0.1"), ejected("shop/gone:80", "10.0.0.1")],
            ejected("shop/gone:80", "10.0.0.1"),
            "10.0.0.1 of Service/shop/gone is ejected: lateen readmit --service Service/shop/gone \
             --endpoint 10.0.0.1"
                .to_owned(),
        ),
    ] {
        assert_eq!(taken_back(&orders, &about, &plan), Err(expected), "{about}");
    }
}

#[test]
fn what_has_two_names_is_taken_back_by_either_and_the_rest_stands() {
    let plan = planned(MESH, &Arc::default());
    let by_number = ejected("shop/cart:80", "10.0.0.1");
    let by_name = ejected("shop/cart:http", "10.0.0.1");
    let of_admin = ejected("shop/cart:admin", "10.0.0.1");
    let other = ejected("shop/cart", "10.0.0.2");
    let gone = |orders: &[&Ordered]| Ok(orders.iter().map(|order| order.target()).collect());
    for (orders, about, expected) in [
        (vec![by_name.clone(), of_admin.clone()], &by_number, gone(&[&by_name])),
        (vec![by_number.clone(), other.clone()], &by_name, gone(&[&by_number])),
        // It listens elsewhere for that port: they have nothing in common.
        (
            vec![ejected("shop/cart", "10.0.0.1:8080"), of_admin.clone()],
            &of_admin,
            gone(&[&of_admin]),
        ),
        (
            vec![by_name.clone(), of_admin.clone(), other.clone()],
            &ejected("shop/cart", "10.0.0.1"),
            gone(&[&by_name, &of_admin]),
        ),
    ] {
        assert_eq!(taken_back(&orders, about, &plan), expected, "{about}");
    }
    // There is one order about each thing, whatever it is called.
    let first = Overrides::default().with(order(by_number.clone(), 1, None), &plan.content);
    let second = first.expect("room").0.with(order(by_name, 2, Some(9)), &plan.content);
    let (orders, replaced) = second.expect("room");
    assert_eq!((orders.iter().len(), replaced), (1, vec![by_number.target()]));
}

#[test]
fn names_are_read_as_they_are_shown_and_mistakes_are_told() {
    for text in ["Service/shop/cart", "Service/shop/cart:80", "Service/shop/cart:http"] {
        assert_eq!(text.parse::<ServiceName>().expect("a name").to_string(), text);
    }
    let short: ServiceName = "cart:80".parse().expect("a name");
    assert_eq!(short.to_string(), "Service/default/cart:80");
    for text in ["", "/", "a/", "/a", "a/b/c", "a:", "a:b:c", "Service/a/b/c"] {
        assert!(text.parse::<ServiceName>().is_err(), "{text}");
    }
    for text in ["10.0.0.7", "10.0.0.7:80", "fd00::7", "[fd00::7]:80"] {
        assert_eq!(text.parse::<EndpointName>().expect("a name").to_string(), text);
    }
    for text in ["", "cart", "10.0.0.7:0", "10.0.0.7:", "fd00::7:", "10.0.0:80"] {
        assert!(text.parse::<EndpointName>().is_err(), "{text}");
    }
    for text in ["HTTPRoute/shop/cart", "HTTPRoute/shop/cart/0", "Service/shop/cart/http"] {
        assert_eq!(text.parse::<RouteName>().expect("a name").to_string(), text);
    }
    for text in ["", "cart", "HTTPRoute/cart", "TCPRoute/a/b", "HTTPRoute//b", "HTTPRoute/a/b/c/d"]
    {
        assert!(text.parse::<RouteName>().is_err(), "{text}");
    }
}

#[test]
fn what_is_mistyped_is_told_with_what_is_near() {
    let content = content(MESH);
    let clusters = |name: &str| lookup::clusters_of(&content, &name.parse().expect("a name"));
    let routes = |name: &str| lookup::routes_of(&content, &name.parse().expect("a name"));
    for (refused, says, help) in [
        (
            clusters("shop/carts"),
            "there is no Service/shop/carts; did you mean cart?",
            "lateen get",
        ),
        (clusters("cart"), "there is no Service/default/cart", "there is Service/shop/cart"),
        (
            clusters("shop/cart:htp"),
            "has no port htp; did you mean http?",
            "its ports: 80 (http), 81 (admin)",
        ),
        (clusters("shop/cart:90"), "has no port 90", "its ports"),
        (routes("HTTPRoute/shop/card"), "did you mean cart?", "lateen get"),
        (routes("HTTPRoute/shop/cart/3"), "has no rule 3", "its rules: 0 (old), 1 (pay), 2"),
        (routes("Service/shop/db/81"), "has no port 81", "its ports: 80 (http)"),
    ] {
        let refused = refused.expect_err(says);
        assert!(refused.to_string().contains(says), "{refused}");
        assert!(refused.help().unwrap_or_default().contains(help), "{:?}", refused.help());
    }
}

#[test]
fn what_decides_in_place_of_a_service_is_known() {
    let content = content(&format!(
        "{MESH}---\napiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\n\
         metadata: {{name: admin, namespace: elsewhere}}\nspec:\n  parentRefs:\n  \
         - {{group: lateen.dev, kind: Service, name: cart, namespace: shop, sectionName: admin}}\n  \
         rules: [{{backendRefs: [{{name: cart, namespace: shop, port: 81}}]}}]\n"
    ));
    let [of_cart, of_admin] = ["HTTPRoute/shop/cart", "HTTPRoute/elsewhere/admin"];
    for (route, expected) in [
        ("Service/shop/cart", &[of_admin, of_cart][..]),
        ("Service/shop/cart/80", &[of_cart]),
        ("Service/shop/cart/http", &[of_cart]),
        ("Service/shop/cart/admin", &[of_admin]),
        ("Service/shop/db", &[]),
        ("Service/shop/gone", &[]),
        ("HTTPRoute/shop/cart", &[]),
    ] {
        let route = route.parse().expect("a route");
        assert_eq!(lookup::attached_to(&content, &route), expected, "{route}");
    }
}

#[test]
fn what_was_ordered_last_counts_whatever_the_clock() {
    let orders = all([held("HTTPRoute/shop/cart", Held::Open)]);
    let since = orders.iter().next().expect("there is one").since;
    assert_eq!(orders.since(UnixMs(since.0 + 5)), UnixMs(since.0 + 5));
    for now in [0, since.0] {
        let later =
            order(held("HTTPRoute/shop/cart/pay", Held::Closed), orders.since(UnixMs(now)).0, None);
        let mut stored: Vec<Override> = orders.iter().cloned().collect();
        stored.insert(0, later.clone());
        let restored = Overrides::restored(stored);
        assert_eq!(restored.iter().last(), Some(&later), "the clock said {now}");
    }
    assert_eq!(Overrides::default().since(UnixMs(7)), UnixMs(7));
}
