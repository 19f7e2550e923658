//! Examples of endpoints that come and go: each is applied to a real proxy, then changed.

use lateen_tests::example::Example;
use lateen_tests::http::read_response;
use lateen_tests::peer::Peer;
use lateen_tests::proxy::Engine;
use lateen_tests::upstream::{Upstream, ok};
use lateen_tests::wait::eventually;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

lateen_tests::on_both_engines!(
    a_new_instance_gets_its_share_little_by_little,
    an_instance_that_is_taken_away_finishes_and_gets_no_more,
    each_version_gets_the_requests_that_are_for_it,
);

fn a_new_instance_gets_its_share_little_by_little(engine: Engine) {
    let (old, new) = (Upstream::fixed("old"), Upstream::fixed("new"));
    let example = Example::apply(engine, "slow-start.yaml", &[old.address(), new.address()]);
    let slow = || example.proxy.metrics().sum("endpoint_pick_slow_start_total", &[]);
    for _ in 0..20 {
        assert_eq!(example.get(""), "old");
    }
    assert_eq!(slow(), 0.0, "who was there at first is not new");
    let port = new.address().port();
    let line = format!("- {{address: 127.0.0.1, port: {port}}}");
    example.change(&format!("# {line}"), &line);
    let answers: Vec<String> = (0..200).map(|_| example.get("")).collect();
    let at_new = answers.iter().filter(|answer| *answer == "new").count();
    assert!(at_new <= 20, "{at_new} of 200 went to the new instance, where 1 should");
    let by_worker = slow();
    // A worker that has not called the service before knows of no new instance.
    assert!((1.0..=200.0).contains(&by_worker), "{by_worker}");
}

fn an_instance_that_is_taken_away_finishes_and_gets_no_more(engine: Engine) {
    let may_answer = Arc::new(AtomicBool::new(false));
    let one = Upstream::answering({
        let may_answer = may_answer.clone();
        move |request| {
            if request.target() == "/long" {
                eventually("leave", || may_answer.load(Ordering::Acquire).then_some(()));
            }
            ok("one", 3)
        }
    });
    let two = Upstream::fixed("two");
    let addresses = [one.address(), two.address()];
    let example = Example::apply(engine, "terminating-endpoints.yaml", &addresses);
    let answers: Vec<String> = (0..10).map(|_| example.get("")).collect();
    for instance in ["one", "two"] {
        assert!(answers.iter().any(|answer| answer == instance), "{answers:?}");
    }

    // A long request that the one is working on: whoever gets it at two asks again.
    let long = eventually("a long request at the first instance", || {
        let mut peer = Peer::connect(example.listen);
        peer.send("GET /long HTTP/1.1\r\nHost: a.example\r\n\r\n");
        peer.stream().set_read_timeout(Some(Duration::from_millis(300))).expect("a socket");
        let is_at_one = peer.stream().peek(&mut [0]).is_err();
        is_at_one.then_some(peer)
    });
    example.change(
        "conditions: {ready: true, serving: true, terminating: false}  # one",
        "conditions: {ready: false, serving: true, terminating: true}  # one",
    );
    for _ in 0..30 {
        assert_eq!(example.get(""), "two");
    }
    may_answer.store(true, Ordering::Release);
    let mut long = long;
    long.stream().set_read_timeout(Some(Duration::from_secs(30))).expect("a socket");
    let response = read_response(&mut long, "GET");
    assert_eq!((response.status, &*response.body), (200, &b"one"[..]));

    // With both going, both serve on.
    example.change(
        "conditions: {ready: true, serving: true, terminating: false}  # two",
        "conditions: {ready: false, serving: true, terminating: true}  # two",
    );
    let answers: Vec<String> = (0..20).map(|_| example.get("")).collect();
    for instance in ["one", "two"] {
        assert!(answers.iter().any(|answer| answer == instance), "{answers:?}");
    }
}

fn each_version_gets_the_requests_that_are_for_it(engine: Engine) {
    let upstreams = ["v1 a", "v1 b", "v2"].map(Upstream::fixed);
    let addresses: Vec<_> = upstreams.iter().map(Upstream::address).collect();
    let example = Example::apply(engine, "subsets.yaml", &addresses);
    let all = |lines: &str| -> BTreeSet<String> { (0..40).map(|_| example.get(lines)).collect() };
    let set = |of: &[&str]| -> BTreeSet<String> { of.iter().map(ToString::to_string).collect() };
    assert_eq!(all("x-preview: yes\r\n"), set(&["v2"]));
    assert_eq!(all(""), set(&["v1 a", "v1 b"]));
    assert_eq!(all("x-preview: third\r\n"), set(&["v1 a", "v1 b", "v2"]));
    let metrics = example.proxy.metrics();
    assert_eq!(metrics.sum("endpoint_pick_total", &[]), 120.0);
    assert_eq!(metrics.sum("response_flags_total", &[]), 0.0);
    let lost =
        "GET / HTTP/1.1\r\nHost: a.example\r\nx-preview: fourth\r\nConnection: close\r\n\r\n";
    assert_eq!(example.ask(lost).status, 503);
    let metrics = example.proxy.metrics();
    assert_eq!(metrics.sum("response_flags_total", &[("flag", "UH")]), 1.0);
}
