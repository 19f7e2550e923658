//! Orders of operators: they hold on every proxy when the command returns, are kept, and end.

use insta::assert_snapshot;
use lateen_control::api::messages::Verdict;
use lateen_control::api::messages::overrides::{OverrideResponse, OverridesResponse};
use lateen_snapshot::model::Snapshot;
use lateen_snapshot::model::breaker::BreakerMode;

use crate::fake_proxy::{Answer, FakeProxy};
use crate::support::{Place, Serve, proxy, service};

/// One service with two endpoints, and a route to it.
fn mesh() -> String {
    let cart = service("cart", 9001)
        .replace("port: 9001}]", "port: 9001}, {address: 127.0.0.1, port: 9002}]");
    let route = "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {name: cart}\n\
                 spec:\n  parentRefs: [{group: lateen.dev, kind: Service, name: cart}]\n  rules:\n  \
                 - {name: all, backendRefs: [{name: cart, port: 80}]}\n";
    format!("{cart}---\n{route}---\n{}", proxy("edge", 15001))
}

const FIRST: [&str; 4] = ["--service", "cart", "--endpoint", "127.0.0.1:9001"];
const ROUTE: [&str; 2] = ["--route", "HTTPRoute/default/cart"];

fn eject(serve: &Serve<'_>, more: &[&str]) -> crate::support::Ran {
    serve.lateen(&[&["eject"], &FIRST[..], more].concat())
}

/// Ports of the endpoints that are ordered out.
fn out(snapshot: &Snapshot) -> Vec<u16> {
    let clusters = snapshot.clusters.iter();
    let ports = clusters.flat_map(|cluster| {
        let positions = cluster.policy.ordered_out.iter();
        positions.map(|at| cluster.endpoints[*at as usize].address.port())
    });
    ports.collect()
}

fn mode(snapshot: &Snapshot) -> Option<BreakerMode> {
    let mut routes = snapshot.routes.iter();
    let route =
        routes.find(|route| route.name == "HTTPRoute/default/cart/all").expect("it is there");
    route.policy.circuit_breaker.as_ref().map(|breaker| breaker.mode)
}

#[test]
fn an_order_holds_everywhere_is_listed_and_outlives_the_control_plane() {
    let place = Place::new();
    let serve = place.serve(&[]);
    assert_snapshot!("nothing-runs", eject(&serve, &[]).said());
    let edge = serve.connect("edge");
    serve.apply(&mesh());
    assert_eq!(out(&edge.next().1), [0_u16; 0]);
    assert_snapshot!("ejected", eject(&serve, &["-m", "its disk is full"]).said());
    assert_eq!(out(&edge.next().1), [9001]);
    let open = serve.lateen(&[&["breaker", "open"], &ROUTE[..]].concat());
    assert_snapshot!("opened", open.said());
    let (_, snapshot) = edge.next();
    assert_eq!((out(&snapshot), mode(&snapshot)), (vec![9001], Some(BreakerMode::ForcedOpen)));
    assert_snapshot!("listed", serve.lateen(&["get", "overrides"]).said());
    assert_snapshot!("status-with-orders", serve.lateen(&["status"]).said());
    let shown = serve.lateen(&["get", "policies", "--route", "cart"]);
    assert_snapshot!("policies-with-order", shown.said());

    // No change of what is declared ends it, nor does a rollback, nor the end of the process.
    serve.apply(&service("other", 9003));
    assert_eq!(out(&edge.next().1), [9001]);
    assert_eq!(serve.lateen(&["rollback", "1"]).code, 0);
    assert_eq!(out(&edge.next().1), [9001]);
    serve.kill();
    let serve = place.serve(&[]);
    let edge = serve.connect("edge");
    let (_, snapshot) = edge.next();
    assert_eq!((out(&snapshot), mode(&snapshot)), (vec![9001], Some(BreakerMode::ForcedOpen)));

    let auto = serve.lateen(&[&["breaker", "auto"], &ROUTE[..]].concat());
    assert_snapshot!("let-go", auto.said());
    assert_eq!(mode(&edge.next().1), None);
    assert_snapshot!("readmitted", serve.lateen(&[&["readmit"], &FIRST[..]].concat()).said());
    assert_eq!(out(&edge.next().1), [0_u16; 0]);
    assert_snapshot!("readmitted-again", serve.lateen(&[&["readmit"], &FIRST[..]].concat()).said());
    assert_snapshot!("none-listed", serve.lateen(&["get", "overrides"]).said());
    edge.has_seen_all();
}

#[test]
fn an_order_is_over_when_its_time_is_whether_the_control_plane_ran_or_not() {
    let place = Place::new();
    let serve = place.serve(&[]);
    let edge = serve.connect("edge");
    serve.apply(&mesh());
    edge.next();
    // Long enough for a stalled machine to tell of it before it is over.
    let ran = eject(&serve, &["--for", "3s", "-o", "json"]);
    let response: OverrideResponse = ran.json();
    assert_eq!((ran.code, response.verdict), (0, Verdict::Live));
    let order = response.order.expect("it stands").order;
    assert_eq!(order.until.map(|until| until.0 - order.since.0), Some(3_000));
    assert_eq!(out(&edge.next().1), [9001]);
    assert_eq!(out(&edge.next().1), [0_u16; 0], "nobody asked for it");
    serve.wait_for(|status| status.control.overrides.is_empty());

    assert_eq!(eject(&serve, &["--for", "3s"]).code, 0);
    assert_eq!(out(&edge.next().1), [9001]);
    serve.kill();
    let serve = place.serve(&[]);
    let edge = serve.connect("edge");
    // By then it may be over or not.
    while !out(&edge.next().1).is_empty() {}
    assert!(
        serve
            .lateen(&["get", "overrides", "-o", "json"])
            .json::<OverridesResponse>()
            .overrides
            .is_empty()
    );
    serve.kill();
    let serve = place.serve(&[]);
    assert_eq!(out(&serve.connect("edge").next().1), [0_u16; 0]);
}

#[test]
fn what_cannot_be_is_refused_and_changes_nothing() {
    let place = Place::new();
    let serve = place.serve(&[]);
    let edge = serve.connect("edge");
    serve.apply(&mesh());
    edge.next();
    for (name, arguments) in [
        ("no-service", &["eject", "--service", "card", "--endpoint", "127.0.0.1:9001"][..]),
        ("no-port", &["eject", "--service", "cart:81", "--endpoint", "127.0.0.1:9001"]),
        ("no-endpoint", &["eject", "--service", "cart", "--endpoint", "127.0.0.1:9009"]),
        ("both-endpoints", &["eject", "--service", "cart", "--endpoint", "127.0.0.1"]),
        ("no-route", &["breaker", "open", "--route", "HTTPRoute/shop/cart"]),
        ("no-rule", &["breaker", "open", "--route", "HTTPRoute/default/cart/al"]),
        ("no-time", &["breaker", "open", "--route", "HTTPRoute/default/cart", "--for", "10ms"]),
        ("not-held", &["breaker", "auto", "--route", "HTTPRoute/default/cart"]),
    ] {
        let ran = serve.lateen(arguments);
        assert_eq!(ran.code, 1, "{ran:?}");
        assert_snapshot!(format!("refused-{name}"), ran.said());
    }
    for arguments in [
        &["eject", "--service", "cart"][..],
        &["eject", "--service", "a/b/c", "--endpoint", "127.0.0.1"],
        &["eject", "--service", "cart", "--endpoint", "here"],
        &["breaker", "--route", "HTTPRoute/default/cart"],
        &["breaker", "shut", "--route", "HTTPRoute/default/cart"],
        &["breaker", "open", "--route", "cart"],
        &["breaker", "open", "--route", "HTTPRoute/default/cart", "--for", "soon"],
        &["breaker", "auto", "--route", "HTTPRoute/default/cart", "--for", "1m"],
    ] {
        assert_eq!(serve.lateen(arguments).code, 2, "{arguments:?}");
    }
    edge.has_seen_all();
    assert_eq!(eject(&serve, &[]).code, 0);
    edge.next();
    let last = ["eject", "--service", "cart", "--endpoint", "127.0.0.1:9002"];
    assert_snapshot!("refused-last", serve.lateen(&last).said());
    edge.has_seen_all();
    assert_eq!(serve.lateen(&[&last[..], &["--force"]].concat()).code, 0);
    assert_eq!(out(&edge.next().1), [9001, 9002]);
}

#[test]
fn a_proxy_that_refuses_or_is_silent_fails_the_command_and_the_order_stands() {
    let place = Place::new();
    let serve = place.serve(&[]);
    serve.apply(&mesh());
    let edge = FakeProxy::with(&serve.socket(), "edge", |number, _| match number {
        1 => Answer::Reject("no memory"),
        2 => Answer::Silence,
        _ => Answer::Apply,
    });
    edge.next();
    serve.wait_for(|status| status.proxies.proxies.iter().all(|proxy| proxy.running.is_some()));
    assert_snapshot!("order-rejected", eject(&serve, &[]).said());
    assert_eq!(out(&edge.next().1), [9001]);
    let silent = serve.lateen(&[&["breaker", "close"], &ROUTE[..], &["--wait", "1"]].concat());
    assert_snapshot!("order-unanswered", silent.said());
    assert_eq!(mode(&edge.next().1), Some(BreakerMode::ForcedClosed));
    let listed: OverridesResponse = serve.lateen(&["get", "overrides", "-o", "json"]).json();
    assert_eq!(listed.overrides.len(), 2);
}

#[test]
fn an_order_about_what_is_gone_stands_and_does_nothing_until_it_is_back() {
    let place = Place::new();
    let folder = place.write("config/mesh.yaml", &mesh());
    let folder = folder.parent().expect("it is in one").display().to_string();
    // Files are the source: what is declared is theirs, what is ordered is not.
    let serve = place.serve(&["--config", &folder]);
    let edge = serve.connect("edge");
    edge.next();
    assert_eq!(eject(&serve, &[]).code, 0);
    assert_eq!(out(&edge.next().1), [9001]);
    place.write("config/mesh.yaml", &mesh().replace("port: 9001", "port: 9005"));
    assert_eq!(out(&edge.next().1), [0_u16; 0]);
    serve.wait_for(|status| status.control.overrides.iter().all(|of| of.proxies == 0));
    assert_snapshot!("without-effect", serve.lateen(&["get", "overrides"]).said());
    assert_snapshot!("without-effect-status", serve.lateen(&["status"]).said());
    place.write("config/mesh.yaml", &mesh());
    assert_eq!(out(&edge.next().1), [9001]);
}

#[test]
fn nothing_is_said_to_be_free_while_a_wider_order_holds_it() {
    let place = Place::new();
    let serve = place.serve(&[]);
    let edge = serve.connect("edge");
    serve.apply(&mesh());
    edge.next();
    let rule = ["--route", "HTTPRoute/default/cart/all"];
    for (to, route) in [("open", ROUTE), ("close", rule)] {
        assert_eq!(serve.lateen(&[&["breaker", to], &route[..]].concat()).code, 0);
        edge.next();
    }
    let auto = |route: &[&str]| serve.lateen(&[&["breaker", "auto"], route].concat());
    assert_snapshot!("still-held-breaker", auto(&rule).said());
    let of_port = ["--service", "cart:80", "--endpoint", "127.0.0.1:9001"];
    for which in [FIRST, of_port] {
        assert_eq!(serve.lateen(&[&["eject"], &which[..]].concat()).code, 0);
        edge.next();
    }
    let by_name = ["--service", "cart:http", "--endpoint", "127.0.0.1:9001"];
    let readmit = |which: &[&str]| serve.lateen(&[&["readmit"], which].concat());
    assert_snapshot!("still-held-endpoint", readmit(&by_name).said());
    edge.has_seen_all();
    // As it was told.
    assert_eq!(auto(&ROUTE).code, 0);
    let (_, snapshot) = edge.next();
    assert_eq!((out(&snapshot), mode(&snapshot)), (vec![9001], None));
    assert_eq!(readmit(&FIRST).code, 0);
    assert_eq!(out(&edge.next().1), [0_u16; 0]);
    assert_snapshot!("none-listed", serve.lateen(&["get", "overrides"]).said());
}

#[test]
fn a_breaker_that_no_request_meets_is_not_held() {
    let place = Place::new();
    let serve = place.serve(&[]);
    let edge = serve.connect("edge");
    let redirect = "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {name: old}\n\
                    spec:\n  parentRefs: [{group: lateen.dev, kind: Service, name: other}]\n  rules:\n  \
                    - filters: [{type: RequestRedirect, requestRedirect: {port: 81}}]\n";
    serve.apply(&format!("{}---\n{}---\n{redirect}", mesh(), service("other", 9003)));
    edge.next();
    // The HTTPRoute takes all that is for the service.
    for (name, route) in [
        ("service", "Service/default/cart"),
        ("port", "Service/default/cart/http"),
        ("redirect", "HTTPRoute/default/old"),
    ] {
        let ran = serve.lateen(&["breaker", "open", "--route", route]);
        assert_eq!(ran.code, 1, "{ran:?}");
        assert_snapshot!(format!("refused-not-forwarded-{name}"), ran.said());
    }
    edge.has_seen_all();
    assert_snapshot!("none-listed", serve.lateen(&["get", "overrides"]).said());

    // Without it there is something to hold; the order then stands, whoever comes in its place.
    assert_eq!(serve.lateen(&["delete", "httproute/cart"]).code, 0);
    edge.next();
    let open = ["breaker", "open", "--route", "Service/default/cart"];
    assert_eq!(serve.lateen(&open).code, 0);
    edge.next();
    serve.apply(&mesh());
    assert_eq!(mode(&edge.next().1), None);
    let listed: OverridesResponse = serve.lateen(&["get", "overrides", "-o", "json"]).json();
    assert_eq!((listed.overrides.len(), listed.overrides[0].proxies), (1, 0));
    // To say it again is to ask for it anew.
    assert_eq!(serve.lateen(&open).code, 1);
}
