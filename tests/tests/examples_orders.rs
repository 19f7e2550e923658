//! The file of `deploy/examples` about orders of operators: what `lateen` says is what clients see.

use lateen_tests::example::Example;
use lateen_tests::http::read_response;
use lateen_tests::proxy::Engine;
use lateen_tests::tools::Outcome;
use lateen_tests::upstream::Upstream;
use lateen_tests::wait::eventually;
use std::collections::BTreeSet;

lateen_tests::on_both_engines!(
    who_is_ejected_by_order_finishes_and_gets_no_more,
    a_breaker_that_is_held_lets_nothing_through_until_it_is_let_go,
);

/// The answers to `count` requests for `path`: the status and the body.
fn answers(example: &Example, path: &str, count: usize) -> BTreeSet<(u16, String)> {
    let request = format!("GET {path} HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n\r\n");
    let answers = (0..count).map(|_| example.ask(&request));
    answers
        .map(|response| (response.status, String::from_utf8_lossy(&response.body).into_owned()))
        .collect()
}

fn set(of: &[(u16, &str)]) -> BTreeSet<(u16, String)> {
    of.iter().map(|(status, body)| (*status, (*body).to_owned())).collect()
}

fn refused(outcome: Outcome, says: &str) {
    let Outcome { code, stderr, .. } = outcome;
    assert_eq!(code, Some(1), "{stderr}");
    assert!(stderr.contains(says), "{stderr}");
}

fn who_is_ejected_by_order_finishes_and_gets_no_more(engine: Engine) {
    let (one, work) = Upstream::working_long("one");
    let two = Upstream::fixed("two");
    let addresses = [one.address(), two.address()];
    let example = Example::apply_on(engine, 2, "orders.yaml", &addresses);
    let gauge = |name: &str| example.proxy.metrics().sum(name, &[]);
    let both = set(&[(200, "one"), (200, "two")]);
    assert_eq!(answers(&example, "/", 40), both);
    assert_eq!(gauge("endpoints_ordered_out"), 0.0);

    let mut long = example.begin_long(&work);
    let first = one.address().to_string();
    let about = ["--service", "shop", "--endpoint", &first];
    let told = example.lateen(&[&["eject"], &about[..]].concat()).expect_success();
    assert!(told.contains("is ejected until `lateen readmit`: every core of 1 proxy"), "{told}");
    // Once the command returns every core keeps to it.
    assert_eq!(answers(&example, "/", 60), set(&[(200, "two")]));
    example.proxy.await_metric("endpoints_ordered_out", &[], 1.0);
    assert_eq!(gauge("endpoints_ejected"), 0.0, "nobody was ejected for failing");
    work.end();
    let response = read_response(&mut long, "GET");
    assert_eq!((response.status, &*response.body), (200, &b"one"[..]));

    let second = two.address().to_string();
    let last = ["eject", "--service", "shop", "--endpoint", &second];
    refused(example.lateen(&last), "is all that gets requests for default/shop:80");
    assert_eq!(answers(&example, "/", 10), set(&[(200, "two")]), "nothing was changed");
    example.lateen(&[&last[..], &["--force"]].concat()).expect_success();
    assert_eq!(answers(&example, "/", 4), set(&[(503, "Service Unavailable\n")]));
    example.proxy.await_metric("endpoints_ordered_out", &[], 2.0);
    example.proxy.await_metric("response_flags_total", &[("flag", "UH")], 4.0);
    let listed = example.lateen(&["get", "overrides"]).expect_success();
    assert_eq!(listed.lines().count(), 3, "{listed}");

    for at in [&first, &second] {
        let readmit = ["readmit", "--service", "shop", "--endpoint", at];
        example.lateen(&readmit).expect_success();
        refused(example.lateen(&readmit), "no order is about");
    }
    assert_eq!(answers(&example, "/", 40), both);
    example.proxy.await_metric("endpoints_ordered_out", &[], 0.0);

    // Its time is over by itself.
    example.lateen(&[&["eject"], &about[..], &["--for", "3s"]].concat()).expect_success();
    eventually("it is back", || (answers(&example, "/", 20) == both).then_some(()));
    example.proxy.await_metric("endpoints_ordered_out", &[], 0.0);
    assert_eq!(example.lateen(&["get", "overrides"]).expect_success(), "no overrides\n");
    assert_eq!(example.proxy.metrics().sum("response_flags_total", &[]), 4.0);
}

fn a_breaker_that_is_held_lets_nothing_through_until_it_is_let_go(engine: Engine) {
    let upstreams = ["one", "two"].map(Upstream::fixed);
    let addresses = upstreams.each_ref().map(Upstream::address);
    let example = Example::apply_on(engine, 2, "orders.yaml", &addresses);
    let both = set(&[(200, "one"), (200, "two")]);
    let hold = |to: &str, route: &str| {
        example.lateen(&["breaker", to, "--route", route, "-m", "the database is moved"])
    };
    let forced = |to: &str, count: f64| {
        example.proxy.await_metric("breakers_forced", &[("to", to)], count);
    };
    assert_eq!(answers(&example, "/pay", 20), both);
    let told = hold("open", "HTTPRoute/default/shop/pay").expect_success();
    assert!(told.contains("the breaker of HTTPRoute/default/shop/pay is open until"), "{told}");
    assert_eq!(answers(&example, "/pay", 20), set(&[(503, "pay later")]));
    assert_eq!(answers(&example, "/", 20), both);
    forced("open", 1.0);
    let shown = example.lateen(&["get", "policies", "--route", "shop"]).expect_success();
    assert_eq!(shown.matches("its circuit breaker is held open by order of").count(), 1, "{shown}");
    assert!(shown.contains("until `lateen breaker auto`: the database is moved"), "{shown}");

    // The whole route: what has no breaker is held too.
    hold("open", "HTTPRoute/default/shop").expect_success();
    assert_eq!(answers(&example, "/", 20), set(&[(503, "Service Unavailable\n")]));
    assert_eq!(answers(&example, "/pay", 20), set(&[(503, "pay later")]));
    forced("open", 2.0);
    example.proxy.await_metric("response_flags_total", &[("flag", "UO")], 20.0);
    let metrics = example.proxy.metrics();
    assert_eq!(metrics.sum("breaker_rejected_total", &[]), 60.0);
    assert_eq!(metrics.sum("breaker_fallback_total", &[("to", "response")]), 40.0);

    // One rule of it is an exception.
    hold("close", "HTTPRoute/default/shop/rest").expect_success();
    assert_eq!(answers(&example, "/", 20), both);
    assert_eq!(answers(&example, "/pay", 4), set(&[(503, "pay later")]));
    forced("open", 1.0);
    forced("closed", 1.0);
    // What is declared changes, and what was ordered stays.
    example.change("body: pay later", "body: not now");
    assert_eq!(answers(&example, "/pay", 4), set(&[(503, "not now")]));

    hold("auto", "HTTPRoute/default/shop").expect_success();
    refused(hold("auto", "HTTPRoute/default/shop"), "no order is about");
    assert_eq!(answers(&example, "/", 20), both);
    assert_eq!(answers(&example, "/pay", 20), both);
    forced("open", 0.0);
    forced("closed", 0.0);
    refused(hold("open", "HTTPRoute/default/shop/pai"), "did you mean pay?");
    let metrics = example.proxy.metrics();
    assert_eq!(metrics.sum("breaker_rejected_total", &[]), 68.0);
    assert_eq!(metrics.sum("response_flags_total", &[]), 20.0);
}
