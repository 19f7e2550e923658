//! The files of `deploy/examples`: each is applied to a real proxy, and what it is for is made to happen.

use lateen_tests::example::Example;
use lateen_tests::proxy::Engine;
use lateen_tests::upstream::{Upstream, ok};
use lateen_tests::wait::eventually;
use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

lateen_tests::on_both_engines!(
    a_user_stays_at_an_instance_and_moves_only_when_it_goes,
    a_slow_instance_is_left_alone,
    the_heavier_instance_gets_nine_of_ten,
    each_service_is_balanced_as_it_says,
    who_takes_too_long_is_answered_for,
    a_copy_goes_to_another_service_and_nobody_waits_for_it,
);

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n\r\n")
}

fn addresses(upstreams: &[Upstream]) -> Vec<SocketAddr> {
    upstreams.iter().map(Upstream::address).collect()
}

fn a_user_stays_at_an_instance_and_moves_only_when_it_goes(engine: Engine) {
    let mut upstreams: Vec<Upstream> = ["one", "two", "three"].map(closing).into();
    let example = Example::apply(engine, "balancing-by-user.yaml", &addresses(&upstreams));
    let users: Vec<String> = (0..30).map(|user| format!("x-user: u{user}\r\n")).collect();
    let first: BTreeMap<&str, String> =
        users.iter().map(|user| (user.as_str(), example.get(user))).collect();
    for user in &users {
        assert_eq!(&example.get(user), &first[user.as_str()], "{user}");
    }
    let by_cookie = example.get("Cookie: a=1; session=s1\r\n");
    assert_eq!(example.get("Cookie: session=s1\r\n"), by_cookie);
    for instance in ["one", "two", "three"] {
        assert!(first.values().any(|at| at == instance), "nobody is at {instance}: {first:?}");
    }
    example.get("");
    let metrics = example.proxy.metrics();
    assert_eq!(metrics.sum("endpoint_pick_total", &[("method", "maglev")]), 63.0);
    assert_eq!(metrics.sum("endpoint_pick_keyless_total", &[]), 1.0);
    assert_eq!(metrics.sum("endpoint_pick_moved_total", &[]), 0.0);

    // An instance refuses: its users go elsewhere, and nobody else does.
    let gone = upstreams.remove(0);
    let address = gone.address();
    drop(gone);
    eventually("the instance refuses", || TcpStream::connect(address).is_err().then_some(()));
    for user in &users {
        let before = &first[user.as_str()];
        let after = example.get(user);
        assert_ne!(after, "one");
        assert!(before == "one" || *before == after, "{user} moved from {before} to {after}");
    }
    let metrics = example.proxy.metrics();
    let moved = metrics.sum("endpoint_pick_moved_total", &[]);
    let refused = metrics.sum("tcp_close_total", &[("errno", "ECONNREFUSED")]);
    let its_own = first.values().filter(|at| *at == "one").count() as f64;
    assert!(refused >= 1.0, "somebody has to find out");
    assert_eq!(moved, its_own - refused, "all others of its users are led past it");
}

/// Answers each request with this body, and closes.
fn closing(body: &'static str) -> Upstream {
    Upstream::answering(move |_| {
        let length = body.len();
        let head =
            format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n");
        (head + body).into_bytes()
    })
}

fn a_slow_instance_is_left_alone(engine: Engine) {
    let is_slow = Arc::new(AtomicBool::new(true));
    let slow = Upstream::answering({
        let is_slow = is_slow.clone();
        move |_| {
            if is_slow.load(Ordering::Acquire) {
                // Longer than the fast one may stall.
                thread::sleep(Duration::from_secs(2));
            }
            ok("slow", 4)
        }
    });
    let upstreams = [slow, Upstream::fixed("fast")];
    let example = Example::apply(engine, "balancing-fastest.yaml", &addresses(&upstreams));
    let before = example.proxy.metrics().sum("endpoint_pick_total", &[("method", "peak_ewma")]);
    let answers: Vec<String> = (0..200).map(|_| example.get("")).collect();
    // Once, to learn how long it takes; then not until that is forgotten, many seconds later.
    let at_slow = answers.iter().filter(|answer| *answer == "slow").count();
    assert!(at_slow <= 3, "{at_slow} of 200 went to the slow instance");
    let after = example.proxy.metrics().sum("endpoint_pick_total", &[("method", "peak_ewma")]);
    assert_eq!(after - before, 200.0);
}

fn the_heavier_instance_gets_nine_of_ten(engine: Engine) {
    let upstreams = ["heavy", "light"].map(Upstream::fixed);
    let example = Example::apply(engine, "balancing-by-weight.yaml", &addresses(&upstreams));
    let answers: Vec<String> = (0..200).map(|_| example.get("")).collect();
    let light = answers.iter().filter(|answer| *answer == "light").count();
    assert!((19..=21).contains(&light), "{light} of 200");
    let picks = example.proxy.metrics().sum("endpoint_pick_total", &[("method", "round_robin")]);
    assert_eq!(picks, 200.0);
}

fn each_service_is_balanced_as_it_says(engine: Engine) {
    let upstreams = ["one", "two"].map(Upstream::fixed);
    let example = Example::apply(engine, "balancing-by-route.yaml", &addresses(&upstreams));
    let at = |path: &str| String::from_utf8(example.ask(&get(path)).body).expect("a name");
    let paths: Vec<String> = (0..40).map(|file| format!("/files/{file}?version={file}")).collect();
    let first: Vec<String> = paths.iter().map(|path| at(path)).collect();
    // A query is no part of the path.
    let again: Vec<String> = paths.iter().map(|path| at(&path.replace('?', "?n=1&"))).collect();
    assert_eq!(first, again);
    let by_chance: Vec<String> = (0..40).map(|_| at("/events")).collect();
    let by_load: Vec<String> = (0..40).map(|_| at("/")).collect();
    for answers in [&first, &by_chance, &by_load] {
        assert!(
            ["one", "two"].iter().all(|name| answers.iter().any(|at| at == name)),
            "{answers:?}"
        );
    }
    let metrics = example.proxy.metrics();
    for (method, picks) in [("ring_hash", 80.0), ("random", 40.0), ("least_request", 40.0)] {
        let picked = metrics.sum("endpoint_pick_total", &[("method", method)]);
        assert_eq!(picked, picks, "{method}");
    }
}

fn who_takes_too_long_is_answered_for(engine: Engine) {
    // It takes a request and says nothing.
    let silent = Upstream::scripted(|mut peer, _| {
        let _ = peer.read_to_end();
    });
    let example = Example::apply(engine, "timeouts.yaml", &[silent.address()]);
    // So long that a stall is no part of what happens: who can't even connect in time is answered 503.
    example.change("request: 300ms", "request: 2s");
    example.change("backendRequest: 400ms", "backendRequest: 2s");
    let late = |count: f64| {
        example.proxy.await_metric("response_flags_total", &[("flag", "UT")], count);
    };
    for (path, count) in [("/suggestions", 1.0), ("/reports", 2.0)] {
        let began = Instant::now();
        assert_eq!(example.ask(&get(path)).status, 504, "{path}");
        assert!(began.elapsed() >= Duration::from_secs(2), "{:?}", began.elapsed());
        late(count);
    }
    // A caller that waits for less says so.
    let hurried = get("/").replace("Connection", "X-Request-Timeout-Ms: 2000\r\nConnection");
    assert_eq!(example.ask(&hurried).status, 504);
    late(3.0);
}

fn a_copy_goes_to_another_service_and_nobody_waits_for_it(engine: Engine) {
    let upstreams = [Upstream::fixed("answer"), closing("nobody sees that")];
    let example = Example::apply(engine, "mirror.yaml", &addresses(&upstreams));
    for _ in 0..100 {
        assert_eq!(example.get(""), "answer");
    }
    let [_, copied] = &upstreams;
    let copies = example.proxy.metrics().sum("mirror_total", &[]);
    assert!((20.0..=80.0).contains(&copies), "{copies} of 100 where half should");
    let mut arrived = 0;
    eventually("every copy is there", || {
        arrived += copied.requests_so_far().len();
        (arrived as f64 == copies).then_some(())
    });

    // Whatever becomes of a copy, nobody hears of it; all are copied now.
    example.change("fraction: {numerator: 1, denominator: 2}", "percent: 100");
    let [_answers, gone] = upstreams;
    let address = gone.address();
    drop(gone);
    eventually("it refuses", || TcpStream::connect(address).is_err().then_some(()));
    for _ in 0..10 {
        assert_eq!(example.get(""), "answer");
    }
    example.proxy.await_metric("mirror_failed_total", &[], 10.0);
    assert_eq!(example.proxy.metrics().sum("mirror_total", &[]), copies + 10.0);
    assert_eq!(example.proxy.metrics().sum("mirror_skipped_total", &[]), 0.0);
}
