//! The files of `deploy/examples` about limits: what is over one is made to happen.

use lateen_tests::example::Example;
use lateen_tests::http::{Response, read_response};
use lateen_tests::metrics::Scrape;
use lateen_tests::peer::{Ending, Peer};
use lateen_tests::proxy::{Engine, Launch};
use lateen_tests::upstream::{Upstream, ok};
use lateen_tests::wait::eventually;
use std::io::ErrorKind;
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

lateen_tests::on_both_engines!(
    who_asks_too_much_is_told_when_to_come_again,
    every_answer_says_what_is_left,
    who_connects_too_often_is_reset,
    a_service_that_hangs_takes_no_more_than_its_caps,
    who_says_nothing_takes_no_place_in_the_queue,
    who_leaves_a_queue_makes_room_in_it,
    one_request_at_a_time_and_nobody_waits,
    a_client_too_many_waits_and_is_reset,
);

fn ask(example: &Example, key: &str, client: &str) -> Response {
    example.ask(&format!(
        "GET / HTTP/1.1\r\nHost: a.example\r\nX-Forwarded-For: 6.6.6.6, {client}\r\n\
         x-api-key: {key}\r\nConnection: close\r\n\r\n"
    ))
}

fn decided(metrics: &Scrape, unit: &str, outcome: &str) -> f64 {
    metrics.sum("rate_limit_total", &[("unit", unit), ("outcome", outcome)])
}

fn who_asks_too_much_is_told_when_to_come_again(engine: Engine) {
    let upstream = Upstream::fixed("all is well");
    let example = Example::apply_on(engine, 2, "rate-limit.yaml", &[upstream.address()]);
    let statuses = |key: &str, client: &str, asks: usize| -> Vec<u16> {
        (0..asks).map(|_| ask(&example, key, client).status).collect()
    };
    assert_eq!(statuses("a", "192.0.2.1", 3), [200, 200, 200]);
    let over = ask(&example, "a", "192.0.2.1");
    assert_eq!(over.status, 429);
    let quotas = "\"per-key\";q=6;w=3600, \"per-client\";q=10;w=3600";
    assert_eq!(over.head.value("ratelimit-policy").as_deref(), Some(quotas));
    // One more in ten minutes, less what has passed since.
    let wait = over.head.value("retry-after").expect("it says when to come again");
    let wait_s: u32 = wait.parse().expect("in seconds");
    assert!((1..=600).contains(&wait_s), "{wait_s} s");
    let told = format!("\"per-key\";r=0;t={wait}");
    assert_eq!(over.head.value("ratelimit"), Some(told));
    // Another key of the same client: what was refused has taken nothing from the client's limit.
    assert_eq!(statuses("b", "192.0.2.1", 3), [200, 200, 429]);
    let over = ask(&example, "b", "192.0.2.1");
    assert!(over.head.value("ratelimit").is_some_and(|told| told.starts_with("\"per-client\";")));
    assert_eq!(statuses("b", "192.0.2.2", 2), [200, 429]);

    let metrics = example.proxy.metrics();
    assert_eq!(decided(&metrics, "request", "admitted"), 6.0);
    assert_eq!(decided(&metrics, "request", "limited"), 4.0);
    assert_eq!(decided(&metrics, "request", "dry_run"), 5.0);
    example.proxy.await_metric("response_flags_total", &[("flag", "RL")], 4.0);
    assert_eq!(metrics.sum("rate_limit_overflow_total", &[]), 0.0);
    assert_eq!(upstream.requests_so_far().len(), 6);
    let logged = example.proxy.access_log(10);
    let flagged = logged.iter().filter(|line| line["flags"] == "RL");
    assert_eq!(flagged.count(), 4);
}

fn every_answer_says_what_is_left(engine: Engine) {
    let upstream = Upstream::answering(|request| {
        let own = match request.head.value("x-own") {
            Some(_) => "RateLimit-Policy: \"own\";q=9\r\nRateLimit: \"own\";r=8\r\n",
            None => "",
        };
        format!("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n{own}\r\n").into_bytes()
    });
    let example = Example::apply_on(engine, 2, "rate-limit-told.yaml", &[upstream.address()]);
    let ask = |lines: &str| {
        example
            .ask(&format!("GET / HTTP/1.1\r\nHost: a.example\r\n{lines}Connection: close\r\n\r\n"))
    };
    // Of each limit what is left, and about when it is whole again.
    let assert_left = |answer: &Response, expected: [(&str, u64, u64); 2]| {
        let told = answer.head.value("ratelimit").expect("it is told");
        let parts: Vec<&str> = told.split(", ").collect();
        assert_eq!(parts.len(), 2, "{told}");
        for (part, (name, left, full_in_s)) in parts.into_iter().zip(expected) {
            let (said, seconds) = part.split_once(";t=").expect("and until when");
            assert_eq!(said, format!("\"{name}\";r={left}"));
            let seconds: u64 = seconds.parse().expect("seconds");
            assert!((full_in_s - 60..=full_in_s).contains(&seconds), "{told}");
        }
    };
    let policies = "\"per-key\";q=6;w=3600, \"whole\";q=10;w=3600";
    let first = ask("x-api-key: a\r\n");
    assert_eq!(first.status, 200);
    assert_eq!(first.head.value("ratelimit-policy").as_deref(), Some(policies));
    assert_left(&first, [("per-key", 2, 600), ("whole", 4, 360)]);
    assert_left(&ask("x-api-key: a\r\n"), [("per-key", 1, 1_200), ("whole", 3, 720)]);
    assert_left(&ask("x-api-key: b\r\n"), [("per-key", 2, 600), ("whole", 2, 1_080)]);
    // What the service says of its own stays.
    let both = ask("x-api-key: b\r\nx-own: yes\r\n");
    let lines = |name| both.head.values(name).map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(lines("ratelimit-policy"), ["\"own\";q=9", policies]);
    let told = lines("ratelimit");
    assert_eq!((told.len(), &*told[0]), (2, "\"own\";r=8"));
    assert!(told[1].starts_with("\"per-key\";r=1;t="), "{told:?}");
    // One that is refused is told of all, and of when to come again.
    assert_eq!(ask("x-api-key: c\r\n").status, 200);
    let over = ask("x-api-key: c\r\n");
    assert_eq!(over.status, 429);
    let all = format!("{policies}, \"quiet\";q=1000;w=3600");
    assert_eq!(over.head.value("ratelimit-policy"), Some(all));
    assert!(over.head.value("ratelimit").is_some_and(|told| told.starts_with("\"whole\";r=0;t=")));
    let metrics = example.proxy.metrics();
    assert_eq!(decided(&metrics, "request", "admitted"), 5.0);
    assert_eq!(decided(&metrics, "request", "limited"), 1.0);

    // Whoever is let through is not told any more.
    let whole = "{name: whole, requests: 10, per: 1h, burst: 5, headers: Always}";
    example.change(whole, "{name: whole, requests: 1000, headers: OnRefusal}");
    example.change("name: x-api-key}, headers: Always", "name: x-api-key}");
    eventually("it has gained one", || (ask("x-api-key: d\r\n").status == 200).then_some(()));
    assert_eq!(ask("x-api-key: e\r\n").head.value("ratelimit"), None);
}

/// A new client hears nothing but a reset, be it while it still connects.
fn assert_reset(example: &Example) {
    match TcpStream::connect(example.listen) {
        Ok(stream) => {
            assert_eq!(Peer::new(stream).read_to_end(), (Vec::new(), Ending::Reset));
        }
        Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{error}"),
    }
}

fn who_connects_too_often_is_reset(engine: Engine) {
    let upstream = Upstream::scripted(|mut peer, _| peer.send("hello"));
    let example =
        Example::apply_on(engine, 2, "rate-limit-connections.yaml", &[upstream.address()]);
    for _ in 0..3 {
        let mut client = Peer::connect(example.listen);
        assert_eq!(client.read_to_end(), (b"hello".to_vec(), Ending::Closed));
    }
    for _ in 0..2 {
        assert_reset(&example);
    }
    let metrics = example.proxy.metrics();
    assert_eq!(decided(&metrics, "connection", "admitted"), 3.0);
    assert_eq!(decided(&metrics, "connection", "limited"), 2.0);
    example.proxy.await_metric("response_flags_total", &[("flag", "RL")], 2.0);
    assert_eq!(upstream.connections(), 3);
}

/// An upstream that answers nothing as long as it hangs, and notes how much it had to do at a time.
struct Hanging {
    upstream: Upstream,
    hangs: Arc<AtomicBool>,
    at_work: Arc<AtomicUsize>,
    most_at_work: Arc<AtomicUsize>,
}

impl Hanging {
    fn start() -> Self {
        let hangs = Arc::new(AtomicBool::new(true));
        let (at_work, most_at_work) =
            (Arc::<AtomicUsize>::default(), Arc::<AtomicUsize>::default());
        let (stuck, now, most) = (hangs.clone(), at_work.clone(), most_at_work.clone());
        let upstream = Upstream::answering(move |_| {
            let count = now.fetch_add(1, Ordering::AcqRel) + 1;
            most.fetch_max(count, Ordering::AcqRel);
            while stuck.load(Ordering::Acquire) {
                thread::sleep(Duration::from_millis(1));
            }
            now.fetch_sub(1, Ordering::AcqRel);
            ok("done", 4)
        });
        Self { upstream, hangs, at_work, most_at_work }
    }

    fn hang(&self, hangs: bool) {
        self.hangs.store(hangs, Ordering::Release);
    }

    fn await_work(&self, count: usize) {
        eventually("the upstream is at work", || {
            (self.at_work.load(Ordering::Acquire) == count).then_some(())
        });
    }
}

const REQUEST: &str = "GET / HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n\r\n";

/// Sends a request on a connection of its own, whose answer is still to be read.
fn begin(example: &Example) -> Peer {
    let mut peer = Peer::connect(example.listen);
    peer.send(REQUEST);
    peer
}

fn status(mut peer: Peer) -> u16 {
    read_response(&mut peer, "GET").status
}

fn overflow(metrics: &Scrape, resource: &str, reason: &str) -> f64 {
    metrics.sum("bulkhead_overflow_total", &[("resource", resource), ("reason", reason)])
}

const SHORT: &str = "queueTimeout: 3s";
const LONG: &str = "queueTimeout: 60s";

/// Whoever waits in the queue of `bulkhead.yaml` does so until the test goes on, stalled or not.
fn wait_long(example: &Example) {
    example.change(SHORT, LONG);
}

fn a_service_that_hangs_takes_no_more_than_its_caps(engine: Engine) {
    let hanging = Hanging::start();
    let example = Example::apply_on(engine, 2, "bulkhead.yaml", &[hanging.upstream.address()]);
    wait_long(&example);
    let queued = [("resource", "connections")];
    let at_work = [begin(&example), begin(&example)];
    hanging.await_work(2);
    let waiting = [begin(&example), begin(&example)];
    example.proxy.await_metric("bulkhead_queued_total", &queued, 2.0);
    let turned_away = example.ask(REQUEST);
    assert_eq!(turned_away.status, 503);
    assert_eq!(turned_away.head.value("retry-after").as_deref(), Some("1"));
    assert_eq!(overflow(&example.proxy.metrics(), "connections", "queue_full"), 1.0);
    hanging.hang(false);
    for peer in at_work.into_iter().chain(waiting) {
        assert_eq!(status(peer), 200);
    }

    // It hangs for longer than anybody waits.
    example.change(LONG, SHORT);
    hanging.hang(true);
    let at_work = [begin(&example), begin(&example)];
    hanging.await_work(2);
    // One of them may have waited until the other worker gave up what idled there.
    let before = example.proxy.metrics().sum("bulkhead_queued_total", &queued);
    let in_vain = begin(&example);
    example.proxy.await_metric("bulkhead_queued_total", &queued, before + 1.0);
    assert_eq!(status(in_vain), 503);
    assert_eq!(example.ask(REQUEST).status, 503, "nobody waits any more");
    let metrics = example.proxy.metrics();
    assert_eq!(overflow(&metrics, "connections", "timeout"), 1.0);
    assert_eq!(overflow(&metrics, "connections", "failfast"), 1.0);
    assert_eq!(metrics.sum("bulkhead_queued_total", &queued), before + 1.0);
    hanging.hang(false);
    for peer in at_work {
        assert_eq!(status(peer), 200);
    }
    // What idles on one worker is given up for the other.
    for _ in 0..20 {
        assert_eq!(example.ask(REQUEST).status, 200);
    }
    let metrics = example.proxy.metrics();
    example.proxy.await_metric("response_flags_total", &[("flag", "UO")], 3.0);
    assert_eq!(hanging.most_at_work.load(Ordering::Acquire), 2);
    assert!(metrics.sum("tcp_open_connections", &[("side", "upstream")]) <= 2.0);
}

fn who_says_nothing_takes_no_place_in_the_queue(engine: Engine) {
    let hanging = Hanging::start();
    let instances = [hanging.upstream.address()];
    let example = Example::apply_as(engine, "bulkhead.yaml", &instances, Launch::detecting_soon);
    wait_long(&example);
    let at_work = [begin(&example), begin(&example)];
    hanging.await_work(2);
    let mut silent = Peer::connect(example.listen);
    // Far longer than the detect timeout: an upstream would be connected for whoever says nothing.
    thread::sleep(Duration::from_millis(300));
    let waiting = [begin(&example), begin(&example)];
    let queued = [("resource", "connections")];
    example.proxy.await_metric("bulkhead_queued_total", &queued, 2.0);
    hanging.hang(false);
    for peer in at_work.into_iter().chain(waiting) {
        assert_eq!(status(peer), 200);
    }
    silent.send(REQUEST);
    assert_eq!(status(silent), 200);
    assert_eq!(overflow(&example.proxy.metrics(), "connections", "timeout"), 0.0);
}

fn who_leaves_a_queue_makes_room_in_it(engine: Engine) {
    let hanging = Hanging::start();
    let example = Example::apply_on(engine, 2, "bulkhead.yaml", &[hanging.upstream.address()]);
    wait_long(&example);
    let queued = [("resource", "connections")];
    let at_work = [begin(&example), begin(&example)];
    hanging.await_work(2);
    let leaving = [begin(&example), begin(&example)];
    example.proxy.await_metric("bulkhead_queued_total", &queued, 2.0);
    for peer in leaving {
        peer.reset();
    }
    example.proxy.await_metric("response_flags_total", &[("flag", "DC")], 2.0);
    let waiting = [begin(&example), begin(&example)];
    example.proxy.await_metric("bulkhead_queued_total", &queued, 4.0);
    hanging.hang(false);
    for peer in at_work.into_iter().chain(waiting) {
        assert_eq!(status(peer), 200);
    }
    let metrics = example.proxy.metrics();
    assert_eq!(overflow(&metrics, "connections", "queue_full"), 0.0);
    assert_eq!(overflow(&metrics, "connections", "timeout"), 0.0);
}

fn one_request_at_a_time_and_nobody_waits(engine: Engine) {
    let hanging = Hanging::start();
    let example =
        Example::apply_on(engine, 2, "bulkhead-requests.yaml", &[hanging.upstream.address()]);
    let at_work = begin(&example);
    hanging.await_work(1);
    for _ in 0..5 {
        assert_eq!(example.ask(REQUEST).status, 503);
    }
    let metrics = example.proxy.metrics();
    assert_eq!(overflow(&metrics, "requests", "queue_full"), 5.0);
    assert_eq!(metrics.sum("bulkhead_queued_total", &[]), 0.0);
    example.proxy.await_metric("response_flags_total", &[("flag", "UO")], 5.0);
    hanging.hang(false);
    assert_eq!(status(at_work), 200);
    // The client has its answer a moment before the request is over.
    eventually("room again", || (example.ask(REQUEST).status == 200).then_some(()));
    assert_eq!(hanging.most_at_work.load(Ordering::Acquire), 1);
}

fn a_client_too_many_waits_and_is_reset(engine: Engine) {
    let upstream = Upstream::scripted(|mut peer, _| {
        peer.send("hello");
        peer.read_to_end();
    });
    let example = Example::apply_on(engine, 2, "bulkhead-connections.yaml", &[upstream.address()]);
    let greeted = || {
        let mut client = Peer::connect(example.listen);
        assert_eq!(client.read_exactly(5), b"hello");
        client
    };
    let (one, _two) = (greeted(), greeted());
    assert_reset(&example);
    assert_reset(&example);
    let metrics = example.proxy.metrics();
    assert_eq!(overflow(&metrics, "connections", "timeout"), 1.0);
    assert_eq!(overflow(&metrics, "connections", "failfast"), 1.0);
    example.proxy.await_metric("response_flags_total", &[("flag", "UO")], 2.0);
    assert_eq!(upstream.connections(), 2);
    // One goes, another can come.
    drop(one);
    example.proxy.await_metric("tcp_open_connections", &[("side", "upstream")], 1.0);
    greeted();
}
