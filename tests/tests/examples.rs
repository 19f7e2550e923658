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
use std::time::Duration;

lateen_tests::on_both_engines!(
    a_user_stays_at_an_instance_and_moves_only_when_it_goes,
    a_slow_instance_is_left_alone,
    the_heavier_instance_gets_nine_of_ten,
);

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
                thread::sleep(Duration::from_millis(200));
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
