//! Many clients, slow ones, hostile ones, and an upstream that dies under load. Each of these tests
//! takes most of the machine, so they take turns.

use lateen_tests::http::{exchange, get, read_request, read_response, read_response_head};
use lateen_tests::peer::{Ending, Peer};
use lateen_tests::proxy::{Engine, Launch, Proxy};
use lateen_tests::tools::{Server, Wrk};
use lateen_tests::upstream::{Upstream, ok, refusing};
use lateen_tests::wait::{eventually, settled};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::collections::BTreeSet;
use std::io::Write;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread;
use std::time::{Duration, Instant};

lateen_tests::on_both_engines!(
    clients_that_do_not_read_cost_bounded_memory,
    upstreams_that_do_not_read_cost_bounded_memory,
    an_upstream_killed_under_load_costs_only_what_it_held,
    slow_clients_do_not_delay_an_honest_one,
    at_the_cap_the_longest_idle_client_makes_room,
    at_the_cap_a_silent_client_makes_room,
    two_workers_share_the_load,
    a_refusing_endpoint_under_load_costs_no_request,
);

const MIB: u64 = 1 << 20;
const CALM: Duration = Duration::from_millis(500);
const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";

/// Held by the one test of this file that runs.
fn turn() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    // A test that failed is over, and its turn with it.
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

fn clients_that_do_not_read_cost_bounded_memory(engine: Engine) {
    const CLIENTS: usize = 50;
    const BODY: usize = 64 << 20;
    let _turn = turn();
    let sent = Arc::new(AtomicU64::new(0));
    let progress = sent.clone();
    let upstream = Upstream::scripted(move |mut peer, connection| {
        while let Some(request) = read_request(&mut peer, connection) {
            let chunked = request.target() == "/chunked";
            let framing = if chunked {
                "Transfer-Encoding: chunked"
            } else {
                &format!("Content-Length: {BODY}")
            };
            peer.send(format!("HTTP/1.1 200 OK\r\n{framing}\r\n\r\n"));
            let block = vec![b'x'; 1 << 16];
            for _ in 0..BODY / block.len() {
                let piece = if chunked {
                    [b"10000\r\n", block.as_slice(), b"\r\n"].concat()
                } else {
                    block.clone()
                };
                if peer.try_send(piece).is_err() {
                    return;
                }
                progress.fetch_add(block.len() as u64, Ordering::AcqRel);
            }
            if chunked {
                peer.send("0\r\n\r\n");
            }
        }
    });
    let proxy = Proxy::start(engine, &[upstream.address()]);
    // One request of each kind first, so that what is touched once does not count.
    for target in ["/", "/chunked"] {
        let mut client = Peer::connect(proxy.address());
        client.send(format!("GET {target} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"));
        assert!(client.drain().0 > BODY as u64);
    }
    let before = proxy.resident_bytes();
    let mut clients: Vec<Peer> = (0..CLIENTS)
        .map(|index| {
            let mut client = Peer::connect_with_receive_buffer(proxy.address(), 16 << 10);
            let target = if index % 2 == 0 { "/" } else { "/chunked" };
            client.send(format!("GET {target} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"));
            client
        })
        .collect();
    eventually("all are being sent to", || (upstream.connections() >= CLIENTS).then_some(()));
    settled("the upstream is held up", CALM, || sent.load(Ordering::Acquire));
    let grown = proxy.resident_bytes().saturating_sub(before);
    assert!(grown <= 16 * MIB, "{CLIENTS} clients that don't read cost {} KiB", grown / 1024);
    // An honest one is served meanwhile, and those who read again get all of it.
    let mut honest = Peer::connect(proxy.address());
    honest.send(GET);
    assert_eq!(read_response_head(&mut honest).expect("a head").0, 200);
    let (count, ending) = clients[0].drain();
    assert!(count > BODY as u64 && ending == Ending::Closed, "{count} bytes, {ending:?}");
}

fn upstreams_that_do_not_read_cost_bounded_memory(engine: Engine) {
    const CLIENTS: usize = 20;
    const BODY: usize = 32 << 20;
    let _turn = turn();
    let reading = Arc::new(AtomicBool::new(false));
    let may_read = reading.clone();
    let upstream = Upstream::scripted(move |mut peer, connection| {
        eventually("the upstream may read", || may_read.load(Ordering::Acquire).then_some(()));
        let request = read_request(&mut peer, connection).expect("a request");
        peer.send(ok("", 0));
        assert_eq!(request.body.len(), BODY);
    });
    let proxy = Proxy::start(engine, &[upstream.address()]);
    let before = proxy.resident_bytes();
    let sent = AtomicU64::new(0);
    thread::scope(|scope| {
        let answers: Vec<_> = (0..CLIENTS)
            .map(|_| {
                scope.spawn(|| {
                    let mut client = Peer::connect(proxy.address());
                    client.send(format!(
                        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {BODY}\r\n\r\n"
                    ));
                    let block = vec![b'x'; 1 << 16];
                    for _ in 0..BODY / block.len() {
                        client.send(&block);
                        sent.fetch_add(block.len() as u64, Ordering::AcqRel);
                    }
                    read_response(&mut client, "POST").status
                })
            })
            .collect();
        eventually("all are sending", || (upstream.connections() >= CLIENTS).then_some(()));
        settled("the clients are held up", CALM, || sent.load(Ordering::Acquire));
        let grown = proxy.resident_bytes().saturating_sub(before);
        reading.store(true, Ordering::Release);
        assert!(grown <= 16 * MIB, "{CLIENTS} upstreams that don't read cost {} KiB", grown / 1024);
        for answer in answers {
            assert_eq!(answer.join().expect("the client got an answer"), 200);
        }
    });
}

fn an_upstream_killed_under_load_costs_only_what_it_held(engine: Engine) {
    const CONNECTIONS: usize = 32;
    let _turn = turn();
    let mut doomed = Server::nginx("doomed");
    let survivor = Server::nginx("alive");
    let proxy = Launch::new(engine, &[doomed.address(), survivor.address()]).start();
    let wrk = Wrk::start(&proxy.url("/"), CONNECTIONS, 3);
    eventually("the load runs", || {
        (proxy.metrics().sum("request_total", &[]) > 1000.0).then_some(())
    });
    doomed.kill();
    let load = wrk.finish();
    assert!(load.not_2xx_or_3xx <= CONNECTIONS as u64, "{load:?}");
    assert_eq!(load.read_errors + load.connect_errors + load.timeouts, 0, "{load:?}");
    assert!(load.requests > 2000, "the load went on: {load:?}");
    for _ in 0..20 {
        assert_eq!(get(proxy.address(), "/").body, b"alive");
    }
}

fn slow_clients_do_not_delay_an_honest_one(engine: Engine) {
    const SLOW: usize = 10_000;
    let _turn = turn();
    raise_descriptors(SLOW as u64 + 500);
    let upstream = Upstream::fixed("x");
    let proxy = Launch::new(engine, &[upstream.address()])
        .with("--protocol", "http")
        .with("--header-timeout", "60s")
        .start();
    let mut slow: Vec<Peer> = (0..SLOW)
        .map(|_| {
            let mut client = Peer::connect(proxy.address());
            client.send("GET / HTTP/1.1\r\nHost: a\r\nX-Slow: ");
            client
        })
        .collect();
    let open = || proxy.metrics().sum("tcp_open_connections", &[("side", "downstream")]);
    eventually("all slow clients are in", || (open() == SLOW as f64).then_some(()));

    let mut took = thread::scope(|scope| {
        // Every slow client goes on sending a byte about once a second, twice.
        let dripping = scope.spawn(|| {
            for _ in 0..2 {
                for some in slow.chunks(SLOW / 100) {
                    for client in some {
                        client.stream().write_all(b"x").expect("it is not cut before its time");
                    }
                    thread::sleep(Duration::from_millis(10));
                }
            }
        });
        let mut took = Vec::new();
        while !dripping.is_finished() || took.len() < 200 {
            let began = Instant::now();
            assert_eq!(get(proxy.address(), "/").status, 200);
            took.push(began.elapsed());
        }
        took
    });
    took.sort();
    let (median, slowest) = (took[took.len() / 2], took[took.len() - 1]);
    // Who waited for the slow ones would wait for their header timeout; the rest is for a busy machine.
    assert!(
        median < Duration::from_millis(500) && slowest < Duration::from_secs(10),
        "{median:?}, {slowest:?}"
    );
    // They are whole connections still: one that ends its head is answered.
    slow[SLOW / 2].send("\r\n\r\n");
    assert_eq!(read_response(&mut slow[SLOW / 2], "GET").status, 200);
    let before = proxy.descriptors();
    assert!(before > SLOW, "{before} descriptors");
    drop(slow);
    eventually("they are let go", || (open() == 0.0).then_some(()));
    eventually("their descriptors are given back", || (proxy.descriptors() < 100).then_some(()));
}

/// Raises this process's limit of descriptors to at least `needed`.
fn raise_descriptors(needed: u64) {
    let limit = getrlimit(Resource::Nofile);
    let enough = |value: Option<u64>| value.is_none_or(|value| value >= needed);
    assert!(
        enough(limit.maximum),
        "this test needs {needed} descriptors, and the hard limit is {:?}: raise it (ulimit -Hn)",
        limit.maximum
    );
    if !enough(limit.current) {
        let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
        setrlimit(Resource::Nofile, raised).expect("up to the hard limit everybody may");
    }
}

fn at_the_cap_the_longest_idle_client_makes_room(engine: Engine) {
    let _turn = turn();
    let (arrived, has_arrived) = mpsc::channel();
    let upstream = Upstream::scripted(move |mut peer, connection| {
        while let Some(request) = read_request(&mut peer, connection) {
            if request.target() == "/held" {
                arrived.send(()).expect("the test waits");
                peer.drain();
                return;
            }
            peer.send(ok("x", 1));
        }
    });
    let proxy = Launch::new(engine, &[upstream.address()])
        .with("--protocol", "http")
        .with("--connections-max", 3)
        .start();
    let [mut first, mut second, mut third] = [0; 3].map(|_| {
        let mut client = Peer::connect(proxy.address());
        assert_eq!(exchange(&mut client, GET).status, 200);
        client
    });
    // The first is used again, so the second is the one that idled longest.
    assert_eq!(exchange(&mut first, GET).status, 200);
    let mut fourth = Peer::connect(proxy.address());
    assert_eq!(exchange(&mut fourth, GET).status, 200);
    assert_eq!(second.ending(), Ending::Closed);
    for client in [&mut first, &mut third, &mut fourth] {
        assert_eq!(exchange(client, GET).status, 200, "the others stay");
    }
    // With all of them busy nobody makes room: the new one is told so, the others are left alone.
    for client in [&mut first, &mut third, &mut fourth] {
        client.send("GET /held HTTP/1.1\r\nHost: a\r\n\r\n");
        has_arrived.recv().expect("it arrives");
    }
    let mut refused = Peer::connect(proxy.address());
    // The proxy may have refused and closed before this is sent.
    let _ = refused.try_send(GET);
    assert_eq!(read_response(&mut refused, "GET").status, 503);
    assert_ne!(refused.drain().1, Ending::Open);
    proxy.await_metric("response_flags_total", &[("flag", "UO")], 1.0);
    fourth.assert_silent_for(Duration::from_millis(100));
}

fn at_the_cap_a_silent_client_makes_room(engine: Engine) {
    let _turn = turn();
    let upstream = Upstream::fixed("x");
    let proxy = Launch::new(engine, &[upstream.address()])
        .detecting_soon()
        .with("--connections-max", 3)
        .start();
    let mut silent = [1, 2, 3].map(|count| {
        let client = Peer::connect(proxy.address());
        // The detection has given up on it once it has its upstream. One after the other, so that
        // it is clear which of them was silent longest.
        proxy.await_metric("tcp_open_connections", &[], 2.0 * f64::from(count));
        client
    });
    assert_eq!(get(proxy.address(), "/").status, 200);
    assert_ne!(silent[0].ending(), Ending::Open, "the one that was silent longest");
    for client in &mut silent[1..] {
        assert_eq!(exchange(client, GET).status, 200, "the others stay");
    }
    proxy.await_metric("response_flags_total", &[], 0.0);
}

fn two_workers_share_the_load(engine: Engine) {
    const CLIENTS: usize = 32;
    const REQUESTS: usize = 20;
    let _turn = turn();
    let upstream = Upstream::fixed("x");
    let proxy = Launch::new(engine, &[upstream.address()]).workers(2).start();
    thread::scope(|scope| {
        for _ in 0..CLIENTS {
            scope.spawn(|| {
                let mut client = Peer::connect(proxy.address());
                for _ in 0..REQUESTS {
                    assert_eq!(exchange(&mut client, GET).status, 200);
                }
            });
        }
    });
    proxy.await_metric("request_total", &[], (CLIENTS * REQUESTS) as f64);
    let lines = proxy.access_log(CLIENTS * REQUESTS);
    let workers: BTreeSet<u64> = lines.iter().filter_map(|line| line["worker"].as_u64()).collect();
    assert_eq!(workers, BTreeSet::from([0, 1]), "the kernel spreads connections over both");
    let ids: BTreeSet<&str> = lines.iter().filter_map(|line| line["request_id"].as_str()).collect();
    assert_eq!(ids.len(), CLIENTS * REQUESTS, "an id was made twice");
}

fn a_refusing_endpoint_under_load_costs_no_request(engine: Engine) {
    let _turn = turn();
    let (_bound, refuser) = refusing();
    let server = Server::nginx("hello");
    let proxy = Launch::new(engine, &[refuser, server.address()]).workers(2).start();
    let load = Wrk::start(&proxy.url("/"), 32, 2).finish();
    assert!(load.requests > 1000, "{load:?}");
    assert_eq!(load.not_2xx_or_3xx + load.read_errors + load.timeouts, 0, "{load:?}");
}
