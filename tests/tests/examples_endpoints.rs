//! Examples of endpoints that come and go: each is applied to a real proxy, then changed.

use lateen_tests::example::Example;
use lateen_tests::http::{exchange, read_response};
use lateen_tests::peer::Peer;
use lateen_tests::proxy::Engine;
use lateen_tests::upstream::{Upstream, refusing};
use lateen_tests::wait::eventually;
use std::collections::{BTreeMap, BTreeSet};
use std::net::TcpStream;

/// What the four instances of the aperture answer.
const NAMES: [&str; 4] = ["one", "two", "three", "four"];

lateen_tests::on_both_engines!(
    a_new_instance_gets_its_share_little_by_little,
    an_instance_that_is_taken_away_finishes_and_gets_no_more,
    each_version_gets_the_requests_that_are_for_it,
    a_session_stays_at_its_instance_until_that_goes,
    requests_stay_near_until_too_little_is_in_service_there,
    what_nobody_near_takes_goes_further,
    each_worker_calls_its_part_of_the_instances,
    a_worker_whose_part_is_gone_calls_any_other,
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
    let (one, work) = Upstream::working_long("one");
    let two = Upstream::fixed("two");
    let addresses = [one.address(), two.address()];
    let example = Example::apply(engine, "terminating-endpoints.yaml", &addresses);
    let answers: Vec<String> = (0..10).map(|_| example.get("")).collect();
    for instance in ["one", "two"] {
        assert!(answers.iter().any(|answer| answer == instance), "{answers:?}");
    }

    let mut long = example.begin_long(&work);
    example.change(
        "conditions: {ready: true, serving: true, terminating: false}  # one",
        "conditions: {ready: false, serving: true, terminating: true}  # one",
    );
    for _ in 0..30 {
        assert_eq!(example.get(""), "two");
    }
    work.end();
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
    example.proxy.await_metric("response_flags_total", &[("flag", "UH")], 1.0);
}

/// Answers each request with this body, and closes.
fn closing(body: &'static str) -> Upstream {
    Upstream::answering(move |request| {
        let body = body.repeat(if request.target() == "/big" { 50_000 } else { 1 });
        let length = body.len();
        let head =
            format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n");
        (head + &body).into_bytes()
    })
}

/// Who answered, and what the response says of the session.
fn visit(example: &Example, path: &str, lines: &str) -> (String, Option<String>) {
    let request =
        format!("GET {path} HTTP/1.1\r\nHost: a.example\r\n{lines}Connection: close\r\n\r\n");
    let response = example.ask(&request);
    assert_eq!(response.status, 200, "{response:?}");
    let told = response.head.value("set-cookie").or_else(|| response.head.value("x-session"));
    (String::from_utf8_lossy(&response.body).into_owned(), told)
}

fn a_session_stays_at_its_instance_until_that_goes(engine: Engine) {
    let mut upstreams: Vec<Upstream> = ["one", "two", "new"].map(closing).into();
    let addresses: Vec<_> = upstreams.iter().map(Upstream::address).collect();
    let example = Example::apply(engine, "session-persistence.yaml", &addresses);
    let count =
        |outcome: &str| example.proxy.metrics().sum("session_total", &[("outcome", outcome)]);

    // Clients begin at any instance, and each stays at its own.
    let mut cookies: BTreeMap<String, String> = BTreeMap::new();
    let mut began = 0.0;
    while cookies.len() < 3 {
        let (at, told) = visit(&example, "/", "");
        let told = told.expect("a cookie");
        assert!(told.ends_with("; Path=/; Max-Age=3600; HttpOnly; SameSite=Lax"), "{told}");
        let cookie = told.split(';').next().expect("a value").to_owned();
        assert!(cookie.starts_with("shop-session="), "{cookie}");
        cookies.insert(at, format!("Cookie: a=b; {cookie}\r\n"));
        began += 1.0;
        assert!(began < 1_000.0, "some instance gets nobody: {cookies:?}");
    }
    for (instance, cookie) in &cookies {
        for _ in 0..10 {
            assert_eq!(&visit(&example, "/", cookie).0, instance);
        }
    }
    assert_eq!((count("began"), count("kept")), (began, 30.0));
    assert_eq!((count("moved"), count("invalid")), (0.0, 0.0));

    // Whatever the size of the response.
    let (body, told) = visit(&example, "/big", "");
    assert!(body.len() > 100_000 && told.is_some());
    began += 1.0;

    // What is no token begins a session.
    assert!(visit(&example, "/", "Cookie: shop-session=nonsense\r\n").1.is_some());
    assert_eq!((count("began"), count("invalid")), (began + 1.0, 1.0));

    // By header.
    let (at, token) = visit(&example, "/app", "");
    let line = format!("X-Session: {}\r\n", token.expect("a token"));
    for _ in 0..10 {
        assert_eq!(visit(&example, "/app", &line), (at.clone(), None));
    }
    assert_eq!((count("began"), count("kept")), (began + 2.0, 40.0));

    // An instance goes: its session goes on at the other one of its service.
    let gone = upstreams.remove(0);
    let address = gone.address();
    drop(gone);
    eventually("the instance refuses", || TcpStream::connect(address).is_err().then_some(()));
    let (at, told) = visit(&example, "/", &cookies["one"]);
    assert_eq!(at, "two");
    assert_eq!(count("moved"), 1.0);
    let told = told.expect("a new cookie");
    let cookie = format!("Cookie: {}\r\n", told.split(';').next().expect("a value"));
    assert_eq!(visit(&example, "/", &cookie).0, "two");
    assert_eq!(visit(&example, "/", &cookies["new"]).0, "new");
}

fn what_nobody_near_takes_goes_further(engine: Engine) {
    let far = Upstream::fixed("far");
    let (_bound, near) = refusing();
    let example = Example::apply(engine, "locality-failover.yaml", &[near, far.address()]);
    // Each finds the one that is near refusing, before that is ejected for it.
    for _ in 0..3 {
        assert_eq!(example.get(""), "far");
    }
    assert_eq!(example.proxy.metrics().sum("endpoint_pick_failover_total", &[]), 3.0);
}

fn requests_stay_near_until_too_little_is_in_service_there(engine: Engine) {
    let upstreams = ["near", "far"].map(Upstream::fixed);
    let addresses: Vec<_> = upstreams.iter().map(Upstream::address).collect();
    let example = Example::apply(engine, "locality-failover.yaml", &addresses);
    let further = || example.proxy.metrics().sum("endpoint_pick_failover_total", &[]);
    for _ in 0..20 {
        assert_eq!(example.get(""), "near");
    }
    assert_eq!(further(), 0.0);
    let (stays, goes) =
        ("{ready: true}   # near", "{ready: false, serving: true, terminating: true} # near");
    example.change(stays, goes);
    for _ in 0..20 {
        assert_eq!(example.get(""), "far");
    }
    assert_eq!(further(), 20.0);
    example.change(goes, stays);
    for _ in 0..20 {
        assert_eq!(example.get(""), "near");
    }
    assert_eq!(further(), 20.0);
}

fn each_worker_calls_its_part_of_the_instances(engine: Engine) {
    let upstreams = NAMES.map(Upstream::fixed);
    let addresses: Vec<_> = upstreams.iter().map(Upstream::address).collect();
    let example = Example::apply_on(engine, 2, "aperture.yaml", &addresses);
    let connections = || upstreams.each_ref().map(Upstream::connections);
    // The kernel gives both workers some of the clients.
    let ask_often = || (0..100).for_each(|_| drop(example.get("")));
    ask_often();
    assert_eq!(connections(), [1; 4], "one for each instance, whatever the workers");
    let metrics = example.proxy.metrics();
    assert_eq!(metrics.sum("tcp_open_connections", &[("side", "upstream")]), 4.0);
    assert_eq!(metrics.sum("endpoint_pick_aperture_widened_total", &[]), 0.0);
    example.change("    aperture: {minEndpoints: 2}", "    # all");
    ask_often();
    assert_eq!(connections(), [2; 4], "one for each instance and worker");
}

fn a_worker_whose_part_is_gone_calls_any_other(engine: Engine) {
    let mut upstreams: Vec<Upstream> = NAMES.map(closing).into();
    let addresses: Vec<_> = upstreams.iter().map(Upstream::address).collect();
    let example = Example::apply_on(engine, 2, "aperture.yaml", &addresses);
    let widened = || example.proxy.metrics().sum("endpoint_pick_aperture_widened_total", &[]);
    // A client stays at its worker, and is served by that one's two instances.
    let mut client = Peer::connect(example.listen);
    let mut ask = || {
        let response = exchange(&mut client, "GET / HTTP/1.1\r\nHost: a.example\r\n\r\n");
        assert_eq!(response.status, 200, "{response:?}");
        String::from_utf8_lossy(&response.body).into_owned()
    };
    let near: BTreeSet<String> = (0..20).map(|_| ask()).collect();
    assert_eq!(near.len(), 2, "{near:?}");
    assert_eq!(widened(), 0.0);
    for (name, address) in NAMES.into_iter().zip(addresses) {
        if near.contains(name) {
            upstreams.retain(|upstream| upstream.address() != address);
            eventually("it refuses", || TcpStream::connect(address).is_err().then_some(()));
        }
    }
    let others: BTreeSet<String> = (0..20).map(|_| ask()).collect();
    assert_eq!(others.len(), 2, "{others:?}");
    assert!(others.is_disjoint(&near), "{others:?}, and {near:?} are gone");
    assert_eq!(widened(), 20.0, "each request looked beyond its worker's part once");
}
