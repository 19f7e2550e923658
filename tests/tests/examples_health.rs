//! The files of `deploy/examples` about endpoints that get no requests for a while, applied to a real proxy.

use lateen_tests::example::Example;
use lateen_tests::peer::Peer;
use lateen_tests::proxy::Engine;
use lateen_tests::upstream::{Upstream, ok, refusing};
use lateen_tests::wait::eventually;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

lateen_tests::on_both_engines!(
    an_instance_that_answers_5xx_is_ejected_and_comes_back,
    an_instance_that_refuses_is_back_when_it_takes_a_connection,
    resets_in_a_row_eject,
    instances_that_stand_out_are_ejected,
    a_share_of_failures_ejects_and_never_the_last,
    an_instance_that_fails_its_checks_gets_no_requests,
    an_instance_that_takes_no_connection_gets_none,
    when_most_instances_are_out_all_get_requests,
    a_breaker_answers_for_a_service_that_fails,
    what_a_breaker_holds_off_another_service_answers,
    a_route_that_is_forced_open_is_not_called,
);

const GET: &str = "GET / HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n\r\n";

/// The status and the body of an answer.
fn ask(example: &Example) -> (u16, String) {
    let response = example.ask(GET);
    (response.status, String::from_utf8_lossy(&response.body).into_owned())
}

/// Who answers each of `count` requests.
fn answers(example: &Example, count: usize) -> Vec<String> {
    (0..count).map(|_| ask(example).1).collect()
}

fn ejections(example: &Example, cause: &str) -> f64 {
    example.proxy.metrics().sum("ejections_total", &[("cause", cause)])
}

fn await_ejections(example: &Example, cause: &str, count: f64) {
    example.proxy.await_metric("ejections_total", &[("cause", cause)], count);
}

/// Asks until so many answers had this status.
fn fail_times(example: &Example, status: u16, times: usize) {
    let mut failed = 0;
    eventually("the instance fails often enough", || {
        failed += usize::from(ask(example).0 == status);
        (failed == times).then_some(())
    });
}

fn error_of(status: u16, body: &str) -> Vec<u8> {
    format!("HTTP/1.1 {status} No\r\nContent-Length: {}\r\n\r\n{body}", body.len()).into_bytes()
}

/// Answers with its name; with 500 while `is_ill`.
fn falling_ill(name: &'static str, is_ill: &Arc<AtomicBool>) -> Upstream {
    let is_ill = is_ill.clone();
    Upstream::answering(move |_| match is_ill.load(Ordering::Acquire) {
        true => error_of(500, name),
        false => ok(name, name.len()),
    })
}

fn an_instance_that_answers_5xx_is_ejected_and_comes_back(engine: Engine) {
    let is_ill = Arc::new(AtomicBool::new(true));
    let upstreams = [falling_ill("ill", &is_ill), Upstream::fixed("one"), Upstream::fixed("two")];
    let addresses = upstreams.each_ref().map(Upstream::address);
    let example = Example::apply(engine, "ejection.yaml", &addresses);
    fail_times(&example, 500, 2);
    assert_eq!(ejections(&example, "consecutive_5xx_errors"), 0.0, "three in a row are needed");
    fail_times(&example, 500, 1);
    // In one look: it is back before long.
    eventually("it is ejected, for that and nothing else", || {
        let metrics = example.proxy.metrics();
        let cause = [("cause", "consecutive_5xx_errors")];
        let counts =
            [("ejections_total", &cause[..]), ("ejections_total", &[]), ("endpoints_ejected", &[])];
        counts.iter().all(|(name, labels)| metrics.sum(name, labels) == 1.0).then_some(())
    });

    // Back by time; still ill, one failure is enough, and it is away for longer.
    let back = |count: f64| {
        example.proxy.await_metric("readmissions_total", &[("by", "time")], count);
        example.proxy.await_metric("endpoints_ejected", &[], 0.0);
    };
    back(1.0);
    fail_times(&example, 500, 1);
    await_ejections(&example, "consecutive_5xx_errors", 2.0);
    is_ill.store(false, Ordering::Release);
    back(2.0);
    eventually("it gets requests again", || {
        (ask(&example) == (200, "ill".to_owned())).then_some(())
    });
    let metrics = example.proxy.metrics();
    assert_eq!(metrics.sum("ejections_total", &[]), 2.0);
    assert_eq!(metrics.sum("ejections_declined_total", &[]), 0.0);
    assert_eq!(metrics.sum("readmissions_total", &[]), 2.0);
}

fn an_instance_that_refuses_is_back_when_it_takes_a_connection(engine: Engine) {
    let (socket, refuses) = refusing();
    let upstreams = ["one", "two"].map(Upstream::fixed);
    let addresses = [upstreams[0].address(), refuses, upstreams[1].address()];
    let example = Example::apply(engine, "ejection.yaml", &addresses);
    let cause = "consecutive_local_origin_failures";
    let refused = || example.proxy.metrics().sum("tcp_close_total", &[("errno", "ECONNREFUSED")]);
    eventually("it refuses two connections", || {
        assert_eq!(ask(&example).0, 200, "another instance is tried");
        (refused() == 2.0).then_some(())
    });
    await_ejections(&example, cause, 1.0);
    // Longer than its ejection would last: no request is spent on finding out.
    let until = std::time::Instant::now() + Duration::from_millis(2_500);
    while std::time::Instant::now() < until {
        assert_eq!(ask(&example).0, 200);
    }
    assert_eq!(refused(), 2.0);
    assert_eq!(example.proxy.metrics().sum("endpoints_ejected", &[]), 1.0);

    socket.listen(128).expect("listen works");
    let listener: TcpListener = socket.into();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            thread::spawn(move || {
                let mut peer = Peer::new(stream);
                while peer.read_until(b"\r\n\r\n").is_some() {
                    if peer.try_send(ok("back", 4)).is_err() {
                        return;
                    }
                }
            });
        }
    });
    example.proxy.await_metric("readmissions_total", &[("by", "connect")], 1.0);
    example.proxy.await_metric("endpoints_ejected", &[], 0.0);
    eventually("it gets requests again", || (ask(&example).1 == "back").then_some(()));
    let metrics = example.proxy.metrics();
    assert_eq!(metrics.sum("ejections_total", &[]), 1.0);
    assert_eq!(metrics.sum("readmissions_total", &[]), 1.0);
}

fn resets_in_a_row_eject(engine: Engine) {
    let broken = Upstream::scripted(|mut peer, _| {
        // Reads the request, and closes without a word.
        drop(peer.read_until(b"\r\n\r\n"));
    });
    let upstreams = [broken, Upstream::fixed("one"), Upstream::fixed("two")];
    let addresses: Vec<SocketAddr> = upstreams.iter().map(Upstream::address).collect();
    let example = Example::apply(engine, "ejection.yaml", &addresses);
    let cause = "consecutive_local_origin_failures";
    fail_times(&example, 502, 2);
    await_ejections(&example, cause, 1.0);
    // It takes connections, so that time brings it back and not a connect.
    example.proxy.await_metric("readmissions_total", &[("by", "time")], 1.0);
    assert_eq!(example.proxy.metrics().sum("readmissions_total", &[("by", "connect")]), 0.0);
}

fn instances_that_stand_out_are_ejected(engine: Engine) {
    let asked = AtomicUsize::new(0);
    let flaky = Upstream::answering(move |_| match asked.fetch_add(1, Ordering::Relaxed) % 2 {
        0 => ok("flaky", 5),
        _ => error_of(500, "flaky"),
    });
    let slow = Upstream::answering(|_| {
        thread::sleep(Duration::from_millis(50));
        ok("slow", 4)
    });
    let others = ["a", "b", "c", "d"].map(Upstream::fixed);
    let mut addresses = vec![flaky.address(), slow.address()];
    addresses.extend(others.each_ref().map(Upstream::address));
    let example = Example::apply(engine, "ejection-by-comparing.yaml", &addresses);
    eventually("both are ejected", || {
        answers(&example, 10);
        (example.proxy.metrics().sum("endpoints_ejected", &[]) == 2.0).then_some(())
    });
    let after = answers(&example, 40);
    assert!(after.iter().all(|answer| answer.len() == 1), "{after:?}");
    assert_eq!(ejections(&example, "success_rate"), 1.0);
    assert_eq!(ejections(&example, "latency"), 1.0);
    assert_eq!(example.proxy.metrics().sum("ejections_total", &[]), 2.0);
}

fn a_share_of_failures_ejects_and_never_the_last(engine: Engine) {
    let is_ill = Arc::new(AtomicBool::new(true));
    let is_well = Arc::new(AtomicBool::new(false));
    let upstreams = [falling_ill("ill", &is_ill), falling_ill("well", &is_well)];
    let addresses = upstreams.each_ref().map(Upstream::address);
    let example = Example::apply(engine, "ejection-by-share.yaml", &addresses);
    eventually("the instance is ejected", || {
        answers(&example, 10);
        (ejections(&example, "failure_percentage") == 1.0).then_some(())
    });
    assert_eq!(answers(&example, 20), ["well"; 20]);
    // The other one is all that is left.
    is_well.store(true, Ordering::Release);
    eventually("the other would be ejected", || {
        answers(&example, 10);
        (example.proxy.metrics().sum("ejections_declined_total", &[]) >= 1.0).then_some(())
    });
    assert_eq!(ask(&example), (500, "well".to_owned()));
    assert_eq!(example.proxy.metrics().sum("endpoints_ejected", &[]), 1.0);
}

/// Answers with its name, whatever its checks say; those with 500 while `is_ill`.
fn checked(name: &'static str, is_ill: &Arc<AtomicBool>) -> Upstream {
    let is_ill = is_ill.clone();
    Upstream::answering(move |request| match request.target() {
        "/healthz" => {
            assert_eq!(request.head.value("host").as_deref(), Some("catalog.internal"));
            if is_ill.load(Ordering::Acquire) { error_of(500, "ill") } else { ok("well", 4) }
        }
        _ => ok(name, name.len()),
    })
}

fn an_instance_that_fails_its_checks_gets_no_requests(engine: Engine) {
    let are_ill = [false, true].map(AtomicBool::new).map(Arc::new);
    let upstreams = [checked("one", &are_ill[0]), checked("two", &are_ill[1])];
    let addresses = upstreams.each_ref().map(Upstream::address);
    let example = Example::apply(engine, "health-check.yaml", &addresses);
    let changes = |to: &str, count: f64| {
        example.proxy.await_metric("health_changes_total", &[("to", to)], count);
    };
    let unhealthy = |count: f64| example.proxy.await_metric("endpoints_unhealthy", &[], count);
    // A new one that has not passed gets nothing.
    changes("healthy", 1.0);
    unhealthy(1.0);
    assert_eq!(answers(&example, 20), ["one"; 20]);
    are_ill[1].store(false, Ordering::Release);
    changes("healthy", 2.0);
    unhealthy(0.0);
    eventually("it gets requests", || (ask(&example).1 == "two").then_some(()));

    are_ill[0].store(true, Ordering::Release);
    changes("unhealthy", 1.0);
    unhealthy(1.0);
    assert_eq!(answers(&example, 20), ["two"; 20]);
    let metrics = example.proxy.metrics();
    assert!(metrics.sum("health_checks_total", &[("result", "fail")]) >= 3.0);
    assert!(metrics.sum("health_checks_total", &[("result", "pass")]) >= 2.0);

    // Nobody passes: all that is left is to try.
    are_ill[1].store(true, Ordering::Release);
    unhealthy(2.0);
    assert!(answers(&example, 20).iter().all(|answer| answer == "one" || answer == "two"));
    are_ill[0].store(false, Ordering::Release);
    unhealthy(1.0);
    assert_eq!(answers(&example, 20), ["one"; 20]);
}

fn when_most_instances_are_out_all_get_requests(engine: Engine) {
    let are_ill = [false, false, false].map(AtomicBool::new).map(Arc::new);
    let upstreams =
        [checked("one", &are_ill[0]), checked("two", &are_ill[1]), checked("three", &are_ill[2])];
    let addresses = upstreams.each_ref().map(Upstream::address);
    let example = Example::apply(engine, "panic-threshold.yaml", &addresses);
    let panics = || example.proxy.metrics().sum("endpoint_pick_panic_total", &[]);
    let unhealthy = |count: f64| example.proxy.await_metric("endpoints_unhealthy", &[], count);
    unhealthy(0.0);
    are_ill[0].store(true, Ordering::Release);
    unhealthy(1.0);
    eventually("both workers know", || {
        answers(&example, 20).iter().all(|answer| answer != "one").then_some(())
    });
    let before = panics();
    assert!(answers(&example, 10).iter().all(|answer| answer != "one"));
    assert_eq!(panics(), before, "two of three are enough");

    are_ill[1].store(true, Ordering::Release);
    unhealthy(2.0);
    eventually("all are tried", || {
        let answers = answers(&example, 20);
        ["one", "two", "three"].iter().all(|name| answers.iter().any(|it| it == name)).then_some(())
    });
    let before = panics();
    answers(&example, 10);
    assert_eq!(panics(), before + 10.0);
}

fn an_instance_that_takes_no_connection_gets_none(engine: Engine) {
    let (socket, refuses) = refusing();
    let there = Upstream::scripted(|mut peer, _| {
        // Checks close without a word.
        if peer.read_until(b"\n").is_some() {
            let _ = peer.try_send("there\n");
        }
    });
    let example = Example::apply(engine, "health-check-tcp.yaml", &[refuses, there.address()]);
    example.proxy.await_metric("health_changes_total", &[("to", "healthy")], 1.0);
    example.proxy.await_metric("endpoints_unhealthy", &[], 1.0);
    for _ in 0..10 {
        let mut peer = Peer::connect(example.listen);
        peer.send("hello\n");
        assert_eq!(peer.read_until(b"\n").as_deref(), Some(&b"there\n"[..]));
    }
    let metrics = example.proxy.metrics();
    assert_eq!(metrics.sum("tcp_close_total", &[("errno", "ECONNREFUSED")]), 0.0);
    socket.listen(128).expect("listen works");
    example.proxy.await_metric("endpoints_unhealthy", &[], 0.0);
    example.proxy.await_metric("health_changes_total", &[("to", "healthy")], 2.0);
    assert_eq!(example.proxy.metrics().sum("health_changes_total", &[("to", "unhealthy")]), 0.0);
}

fn a_breaker_answers_for_a_service_that_fails(engine: Engine) {
    let is_ill = Arc::new(AtomicBool::new(true));
    let upstream = falling_ill("real", &is_ill);
    let example = Example::apply(engine, "circuit-breaker.yaml", &[upstream.address()]);
    let count = |name: &str, to: &str| {
        let labels = [("to", to)];
        example.proxy.metrics().sum(name, if to.is_empty() { &[] } else { &labels })
    };
    let fallback = (200, "[]".to_owned());
    let (mut failed, mut answered) = (0, 0);
    eventually("the breaker opens", || {
        match ask(&example) {
            (500, _) => failed += 1,
            answer => {
                assert_eq!(answer, fallback);
                answered += 1;
            }
        }
        (count("breaker_transitions_total", "open") == 1.0).then_some(())
    });
    assert!(failed >= 10, "{failed} requests are too few");
    let mut probes = 0;
    // It is still ill when it is tried, and then it is not.
    eventually("it stays open", || {
        match ask(&example) {
            (500, _) => probes += 1,
            answer => {
                assert_eq!(answer, fallback);
                answered += 1;
            }
        }
        (count("breaker_transitions_total", "open") == 2.0).then_some(())
    });
    assert_eq!(probes, 1, "one request is let through, and fails");
    assert_eq!(count("breakers_open", ""), 1.0);
    is_ill.store(false, Ordering::Release);
    eventually("it is called again", || {
        let answer = ask(&example);
        answered += usize::from(answer == fallback);
        (answer == (200, "real".to_owned())).then_some(())
    });
    // The client has its answer a moment before the proxy has drawn its conclusion.
    eventually("the next answer is the service's own", || {
        let is_own = example.ask(GET).head.value("content-type").is_none();
        answered += usize::from(!is_own);
        is_own.then_some(())
    });
    example.proxy.await_metric("breaker_transitions_total", &[("to", "closed")], 1.0);
    for (to, times) in [("open", 2.0), ("half_open", 2.0), ("ramp", 1.0), ("closed", 1.0)] {
        assert_eq!(count("breaker_transitions_total", to), times, "{to}");
    }
    assert_eq!(count("breaker_probes_total", ""), 2.0);
    assert_eq!(count("breaker_fallback_total", "response"), f64::from(answered as u32));
    assert_eq!(count("breaker_fallback_total", "backend"), 0.0);
    assert_eq!(count("breaker_rejected_total", ""), f64::from(answered as u32));
    assert_eq!(count("breakers_open", ""), 0.0);
    assert_eq!(example.proxy.metrics().sum("response_flags_total", &[]), 0.0);
    assert_eq!(answers(&example, 20), ["real"; 20]);
}

/// Says who it is, and what it was asked: the two headers that are set, and how long the body was.
fn telling(name: &'static str, is_ill: &Arc<AtomicBool>) -> Upstream {
    let is_ill = is_ill.clone();
    Upstream::answering(move |request| {
        let of = |name: &str| request.head.value(name).unwrap_or_else(|| "-".to_owned());
        let length = request.body.len();
        let told = format!("{name} {} {} {length}", of("x-caller"), of("x-model"));
        match is_ill.load(Ordering::Acquire) {
            true => error_of(500, &told),
            false => ok(&told, told.len()),
        }
    })
}

fn what_a_breaker_holds_off_another_service_answers(engine: Engine) {
    let [real_is_ill, cache_is_ill] = [true, false].map(AtomicBool::new).map(Arc::new);
    let upstreams = [
        telling("real", &real_is_ill),
        telling("cache-a", &cache_is_ill),
        telling("cache-b", &cache_is_ill),
    ];
    let addresses = upstreams.each_ref().map(Upstream::address);
    let example = Example::apply(engine, "circuit-breaker-fallback.yaml", &addresses);
    // Longer than all that is led away takes on a stalled machine.
    example.change("sleep: 2s", "sleep: 10s");
    let shown = ["get", "policies", "--route", "recommendations", "--output", "json"];
    let shown = example.lateen(&shown).expect_success();
    assert!(shown.contains("\"name\": \"recommendations-cached\""), "{shown}");
    let sum = |name: &str, labels: &[(&str, &str)]| example.proxy.metrics().sum(name, labels);
    let opened = || sum("breaker_transitions_total", &[("to", "open")]);
    let mut led_away = 0;
    eventually("the breaker opens", || {
        let (status, told) = ask(&example);
        assert_eq!(status == 200, told.starts_with("cache-"), "{told}");
        assert!(status == 200 || told == "real shop large 0", "{told}");
        led_away += usize::from(status == 200);
        (opened() == 1.0).then_some(())
    });
    // Each user at one instance, without what is for the other backend alone; bodies of any kind come along.
    let as_user = |user: usize, rest: &str| {
        let response = example.ask(&format!(
            "POST /x HTTP/1.1\r\nHost: a.example\r\nx-user: {user}\r\nConnection: close\r\n{rest}"
        ));
        let header = |name: &str| response.head.value(name);
        assert_eq!((header("x-served-by").as_deref(), header("x-fresh")), (Some("shop"), None));
        (response.status, String::from_utf8_lossy(&response.body).into_owned())
    };
    let long = "x".repeat(100_000);
    let bodies = [
        ("Content-Length: 0\r\n\r\n".to_owned(), 0),
        ("Content-Length: 5\r\n\r\nhello".to_owned(), 5),
        (format!("Content-Length: {}\r\n\r\n{long}", long.len()), long.len()),
        (format!("Transfer-Encoding: chunked\r\n\r\n186A0\r\n{long}\r\n0\r\n\r\n"), long.len()),
    ];
    let mut used = std::collections::BTreeSet::new();
    for user in 0..16 {
        let (_, told) = as_user(user, &bodies[0].0);
        let instance = told.split(' ').next().unwrap_or_default().to_owned();
        led_away += 1;
        for (body, length) in &bodies {
            let expected = format!("{instance} shop - {length}");
            assert_eq!(as_user(user, body), (200, expected), "user {user}");
            led_away += 1;
        }
        used.insert(instance);
    }
    assert_eq!(used.len(), 2, "users are spread: {used:?}");
    // What fails there is what the client hears, and says nothing of the first service.
    cache_is_ill.store(true, Ordering::Release);
    let (status, told) = as_user(0, &bodies[0].0);
    assert!(status == 500 && told.starts_with("cache-"), "{status} {told}");
    led_away += 1;
    real_is_ill.store(false, Ordering::Release);
    eventually("the first service is called again", || {
        let (status, told) = ask(&example);
        led_away += usize::from(status == 500);
        (told == "real shop large 0").then_some(())
    });
    eventually("the breaker closes", || {
        led_away += usize::from(ask(&example).0 == 500);
        (sum("breaker_transitions_total", &[("to", "closed")]) == 1.0).then_some(())
    });
    assert_eq!(answers(&example, 20), ["real shop large 0"; 20]);
    let led_away = f64::from(led_away as u32);
    assert_eq!(sum("breaker_fallback_total", &[("to", "backend")]), led_away);
    assert_eq!(sum("breaker_fallback_total", &[("to", "response")]), 0.0);
    assert_eq!(sum("breaker_rejected_total", &[]), led_away);
    assert_eq!(sum("response_flags_total", &[]), 0.0);
    assert_eq!(opened(), 1.0);
}

fn a_route_that_is_forced_open_is_not_called(engine: Engine) {
    let upstream = Upstream::fixed("real");
    let example = Example::apply(engine, "circuit-breaker-forced.yaml", &[upstream.address()]);
    let refused =
        example.ask("GET /legacy/x HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n\r\n");
    assert_eq!(refused.status, 503);
    assert_eq!(refused.head.value("retry-after").as_deref(), Some("1"));
    assert_eq!(ask(&example), (200, "real".to_owned()));
    example.proxy.await_metric("response_flags_total", &[("flag", "UO")], 1.0);
    let metrics = example.proxy.metrics();
    assert_eq!(metrics.sum("breaker_rejected_total", &[]), 1.0);
    assert_eq!(metrics.sum("breaker_fallback_total", &[]), 0.0);
    assert_eq!(upstream.requests_so_far().len(), 1);
}
