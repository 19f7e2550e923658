//! Upstream connections that are kept: reused, replaced when dead, bounded in number and age.

use lateen_tests::http::{Head, exchange, read_request, read_response, read_response_head};
use lateen_tests::peer::Peer;
use lateen_tests::proxy::{Engine, Launch, Proxy};
use lateen_tests::upstream::{Upstream, ok};
use lateen_tests::wait::eventually;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, Mutex, mpsc};
use std::thread;

lateen_tests::on_both_engines!(
    requests_that_follow_each_other_share_a_connection,
    a_dead_pooled_connection_is_replaced_once,
    a_body_that_was_not_begun_goes_to_the_replacement,
    a_request_that_may_not_be_repeated_is_not,
    a_pooled_connection_that_closes_while_idle_is_removed,
    an_idle_pooled_connection_times_out,
    an_old_pooled_connection_is_not_used_again,
    no_more_idle_connections_are_kept_than_allowed,
    connections_that_are_used_by_turns_are_kept_although_they_are_many,
    an_upstream_that_closes_after_each_response_is_served,
    bytes_behind_a_response_never_answer_the_next_request,
);

const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
const POST: &str = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc";

/// An upstream that answers the first request on its first connection, and on the second ends it
/// before it says a word; every later connection is good.
fn dying(count: Arc<AtomicUsize>) -> Upstream {
    Upstream::scripted(move |mut peer, connection| {
        while read_request(&mut peer, connection).is_some() {
            let request = count.fetch_add(1, Ordering::AcqRel);
            if connection == 0 && request == 1 {
                return peer.reset();
            }
            peer.send(ok("x", 1));
        }
    })
}

/// Who has its answer may ask again at once, on another connection: the upstream's is free by then.
fn requests_that_follow_each_other_share_a_connection(engine: Engine) {
    let upstream = Upstream::fixed("x");
    let proxy = Proxy::start(engine, &[upstream.address()]);
    let mut clients = [0; 2].map(|_| Peer::connect(proxy.address()));
    for turn in 0..400 {
        assert_eq!(exchange(&mut clients[turn % 2], GET).status, 200);
    }
    assert_eq!(upstream.connections(), 1);
}

fn a_dead_pooled_connection_is_replaced_once(engine: Engine) {
    let count = Arc::new(AtomicUsize::new(0));
    let upstream = dying(count.clone());
    let proxy = Proxy::start(engine, &[upstream.address()]);
    let mut client = Peer::connect(proxy.address());
    assert_eq!(exchange(&mut client, GET).status, 200);
    assert_eq!(exchange(&mut client, GET).status, 200);
    assert_eq!((upstream.connections(), count.load(Ordering::Acquire)), (2, 3));
    assert_eq!(proxy.access_log(2)[1]["retries"], 1);

    // Where the replacement dies as well, that is the answer.
    let upstream = Upstream::scripted(|mut peer, connection| {
        for index in 0.. {
            if read_request(&mut peer, connection).is_none() {
                return;
            }
            if connection > 0 || index > 0 {
                return peer.reset();
            }
            peer.send(ok("x", 1));
        }
    });
    let proxy = Proxy::start(engine, &[upstream.address()]);
    let mut client = Peer::connect(proxy.address());
    assert_eq!(exchange(&mut client, GET).status, 200);
    assert_eq!(exchange(&mut client, GET).status, 502);
    assert_eq!(upstream.connections(), 2);
}

fn a_request_that_may_not_be_repeated_is_not(engine: Engine) {
    let count = Arc::new(AtomicUsize::new(0));
    let upstream = dying(count.clone());
    let proxy = Proxy::start(engine, &[upstream.address()]);
    let mut client = Peer::connect(proxy.address());
    assert_eq!(exchange(&mut client, GET).status, 200);
    assert_eq!(exchange(&mut client, POST).status, 502);
    assert_eq!(count.load(Ordering::Acquire), 2, "the upstream may have acted on it already");
    proxy.await_metric("response_flags_total", &[("flag", "UR")], 1.0);
}

fn a_body_that_was_not_begun_goes_to_the_replacement(engine: Engine) {
    // As many bytes, once of a length that is told, once in one chunk.
    let plain = vec![b'x'; 100_000];
    replaces_under_a_body(engine, "Content-Length: 100000", plain.clone());
    let chunked = [b"186a0\r\n".as_slice(), &plain, b"\r\n0\r\n\r\n"].concat();
    replaces_under_a_body(engine, "Transfer-Encoding: chunked", chunked);
}

/// A PUT whose body waits for a 100 meets a pooled connection that dies under its head.
fn replaces_under_a_body(engine: Engine, framing: &str, body: Vec<u8>) {
    let upstream = Upstream::scripted(|mut peer, connection| {
        if connection == 0 {
            read_request(&mut peer, connection).expect("the first request");
            peer.send(ok("x", 1));
            // The second one's head, and then no word.
            peer.read_until(b"\r\n\r\n").expect("the second head");
            return peer.reset();
        }
        let head = Head::parse(&peer.read_until(b"\r\n\r\n").expect("the second head again"));
        peer.send("HTTP/1.1 100 Continue\r\n\r\n");
        let bytes = match head.value("content-length") {
            Some(_) => peer.read_exactly(100_000),
            // Chunks are ours to cut: what counts is what is in them.
            None => peer.read_until(b"\r\n0\r\n\r\n").expect("a body"),
        };
        assert_eq!(bytes.iter().filter(|byte| **byte == b'x').count(), 100_000);
        peer.send(ok("y", 1));
    });
    let proxy = Proxy::start(engine, &[upstream.address()]);
    let mut client = Peer::connect(proxy.address());
    assert_eq!(exchange(&mut client, GET).status, 200);
    client.send(format!("PUT / HTTP/1.1\r\nHost: a\r\n{framing}\r\nExpect: 100-continue\r\n\r\n"));
    let (status, _) = read_response_head(&mut client).expect("an interim response");
    assert_eq!(status, 100, "{framing}");
    client.send(body);
    assert_eq!(read_response(&mut client, "PUT").status, 200);
    assert_eq!(upstream.connections(), 2);
    assert_eq!(proxy.access_log(2)[1]["retries"], 1);
}

fn a_pooled_connection_that_closes_while_idle_is_removed(engine: Engine) {
    let (close, wait) = mpsc::channel::<()>();
    let wait = Mutex::new(wait);
    let upstream = Upstream::scripted(move |mut peer, connection| {
        while read_request(&mut peer, connection).is_some() {
            peer.send(ok("x", 1));
            if connection == 0 {
                return wait
                    .lock()
                    .expect("one connection waits")
                    .recv()
                    .expect("the test says when");
            }
        }
    });
    let proxy = Proxy::start(engine, &[upstream.address()]);
    let mut client = Peer::connect(proxy.address());
    assert_eq!(exchange(&mut client, GET).status, 200);
    let open = || proxy.metrics().sum("tcp_open_connections", &[("side", "upstream")]);
    assert_eq!(open(), 1.0);
    close.send(()).expect("the upstream waits");
    eventually("the closed connection leaves the pool", || (open() == 0.0).then_some(()));
    // Even what may not be repeated is safe then.
    assert_eq!(exchange(&mut client, POST).status, 200);
    assert_eq!(proxy.access_log(2)[1]["retries"], 0);
}

fn an_idle_pooled_connection_times_out(engine: Engine) {
    let upstream = Upstream::fixed("x");
    let proxy =
        Launch::new(engine, &[upstream.address()]).with("--pool-idle-timeout", "200ms").start();
    let mut client = Peer::connect(proxy.address());
    assert_eq!(exchange(&mut client, GET).status, 200);
    proxy.await_metric("pool_evicted_total", &[], 1.0);
    proxy.await_metric("tcp_open_connections", &[("side", "upstream")], 0.0);
    assert_eq!(exchange(&mut client, POST).status, 200);
    assert_eq!(upstream.connections(), 2);
}

fn an_old_pooled_connection_is_not_used_again(engine: Engine) {
    let upstream = Upstream::fixed("x");
    let proxy = Launch::new(engine, &[upstream.address()]).with("--pool-lifetime", "200ms").start();
    let mut client = Peer::connect(proxy.address());
    let began = std::time::Instant::now();
    // In use all the time, so that it never idles for long.
    while upstream.connections() < 3 {
        assert_eq!(exchange(&mut client, POST).status, 200);
        assert!(began.elapsed() < lateen_tests::wait::PATIENCE, "one connection lives for ever");
    }
    assert!(began.elapsed() >= std::time::Duration::from_millis(300), "{:?}", began.elapsed());
}

fn no_more_idle_connections_are_kept_than_allowed(engine: Engine) {
    const CLIENTS: usize = 8;
    let together = Arc::new(Barrier::new(CLIENTS));
    let upstream = Upstream::answering(move |_| {
        together.wait();
        ok("x", 1)
    });
    let proxy = Launch::new(engine, &[upstream.address()]).with("--pool-idle-max", 3).start();
    thread::scope(|scope| {
        for _ in 0..CLIENTS {
            scope.spawn(|| {
                let response = exchange(&mut Peer::connect(proxy.address()), GET);
                assert_eq!(response.status, 200);
            });
        }
    });
    assert_eq!(upstream.connections(), CLIENTS);
    proxy.await_metric("tcp_open_connections", &[("side", "upstream")], 3.0);
}

fn connections_that_are_used_by_turns_are_kept_although_they_are_many(engine: Engine) {
    const CLIENTS: usize = 8;
    const ROUNDS: usize = 5;
    // All are answered at the same time and idle at the same time, again and again.
    let together = Arc::new(Barrier::new(CLIENTS));
    let upstream = Upstream::answering(move |_| {
        together.wait();
        ok("x", 1)
    });
    let proxy = Launch::new(engine, &[upstream.address()]).with("--pool-idle-max", 3).start();
    thread::scope(|scope| {
        for _ in 0..CLIENTS {
            scope.spawn(|| {
                let mut client = Peer::connect(proxy.address());
                for _ in 0..ROUNDS {
                    assert_eq!(exchange(&mut client, GET).status, 200);
                }
            });
        }
    });
    assert_eq!(upstream.connections(), CLIENTS);
    proxy.await_metric("pool_evicted_total", &[], 5.0);
}

fn an_upstream_that_closes_after_each_response_is_served(engine: Engine) {
    let upstream = Upstream::scripted(|mut peer, connection| {
        read_request(&mut peer, connection).expect("a request");
        if connection % 2 == 0 {
            peer.send("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 1\r\n\r\nx");
        } else {
            // The body ends with the connection (RFC 9112 §6.3).
            peer.send("HTTP/1.0 200 OK\r\n\r\nx");
        }
    });
    let proxy = Proxy::start(engine, &[upstream.address()]);
    let mut client = Peer::connect(proxy.address());
    for _ in 0..10 {
        let response = exchange(&mut client, POST);
        assert_eq!((response.status, response.body.as_slice()), (200, b"x".as_slice()));
    }
    assert_eq!(upstream.connections(), 10);
}

fn bytes_behind_a_response_never_answer_the_next_request(engine: Engine) {
    // More than one receive buffer, so that its end is read by count.
    const LENGTH: usize = 30_000;
    let upstream = Upstream::scripted(|mut peer, connection| {
        while let Some(request) = read_request(&mut peer, connection) {
            let body = format!("{:.<LENGTH$}", request.target());
            let mut response = ok(body, LENGTH);
            if request.target() == "/first" {
                response.extend(ok("stray", 5));
            }
            // In one piece, so that the stray bytes are there when the response has been read.
            peer.send(response);
        }
    });
    let proxy = Launch::new(engine, &[upstream.address()]).with("--protocol", "http").start();
    let mut client = Peer::connect(proxy.address());
    let request = |target: &str| format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n");
    client.send(request("/first") + &request("/second"));
    let expected = |target: &str| format!("{target:.<LENGTH$}").into_bytes();
    for target in ["/first", "/second"] {
        let body = read_response(&mut client, "GET").body;
        assert!(body == expected(target), "{target}: {} bytes, or not the same", body.len());
    }
    assert_eq!(upstream.connections(), 2, "the first connection was out of step");
    let mut other = Peer::connect(proxy.address());
    let body = exchange(&mut other, &request("/other")).body;
    assert!(body == expected("/other"), "another client: {} bytes, or not the same", body.len());
}
