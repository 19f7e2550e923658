//! Exchanges that fail: each with its status, its flag in the access log, and its metric; and the
//! replay of a request whose pooled connection had died.

use lateen_tests::http::{exchange, get, read_request, read_response};
use lateen_tests::peer::{Ending, Peer};
use lateen_tests::proxy::{Engine, Launch, Proxy};
use lateen_tests::upstream::{Upstream, hanging, ok, refusing};
use lateen_tests::wait::eventually;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

lateen_tests::on_both_engines!(
    a_refused_connection_is_503_uf,
    a_hanging_connection_is_503_uf_in_time,
    when_every_endpoint_refuses_it_is_503,
    a_refusing_endpoint_is_tried_last,
    an_upstream_that_resets_is_502_ur,
    an_upstream_that_closes_without_a_word_is_502_ur,
    an_upstream_that_takes_too_long_is_504_ut,
    a_body_that_stops_coming_from_the_upstream_is_ut,
    a_head_that_does_not_end_is_408_dt,
    a_body_that_does_not_end_is_408_dt,
    an_idle_client_is_closed_without_a_word,
    a_client_that_leaves_is_dc,
    a_dead_pooled_connection_is_replaced_once,
    a_request_that_may_not_be_repeated_is_not,
    a_pooled_connection_that_closes_while_idle_is_removed,
    an_idle_pooled_connection_times_out,
    the_answer_says_nothing_of_the_inside,
);

const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
const POST: &str = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc";

fn a_refused_connection_is_503_uf(engine: Engine) {
    let (_bound, address) = refusing();
    let proxy = Proxy::start(engine, &[address]);
    assert_eq!(get(proxy.address(), "/").status, 503);
    proxy.assert_flagged("UF");
    proxy.await_metric(
        "response_total",
        &[("status_class", "5xx"), ("classification", "failure")],
        1.0,
    );
}

fn a_hanging_connection_is_503_uf_in_time(engine: Engine) {
    let (_listener, _queued, address) = hanging();
    let proxy = Launch::new(engine, &[address]).with("--connect-timeout", "300ms").start();
    let began = Instant::now();
    assert_eq!(get(proxy.address(), "/").status, 503);
    let took = began.elapsed();
    // The contract is 10 ms; the rest is for a busy machine.
    assert!(took >= Duration::from_millis(300), "{took:?}");
    assert!(took < Duration::from_millis(800), "{took:?}");
    proxy.assert_flagged("UF");
}

fn when_every_endpoint_refuses_it_is_503(engine: Engine) {
    let refusers = [refusing(), refusing()];
    let proxy = Proxy::start(engine, &[refusers[0].1, refusers[1].1]);
    assert_eq!(get(proxy.address(), "/").status, 503);
    let line = proxy.only_access_log_line();
    assert!(line["flags"] == "UH" || line["flags"] == "UF", "{line}");
}

fn a_refusing_endpoint_is_tried_last(engine: Engine) {
    let (_bound, refuser) = refusing();
    let upstream = Upstream::fixed("alive");
    let proxy = Proxy::start(engine, &[refuser, upstream.address()]);
    for _ in 0..40 {
        assert_eq!(get(proxy.address(), "/").body, b"alive");
    }
    let refused = proxy.metrics().sum("response_flags_total", &[]);
    assert_eq!(refused, 0.0, "a refused connect is tried elsewhere before the client hears of it");
}

fn an_upstream_that_resets_is_502_ur(engine: Engine) {
    let upstream = Upstream::scripted(|mut peer, connection| {
        read_request(&mut peer, connection).expect("a request");
        peer.reset();
    });
    let proxy = Proxy::start(engine, &[upstream.address()]);
    let mut client = Peer::connect(proxy.address());
    assert_eq!(exchange(&mut client, POST).status, 502);
    proxy.assert_flagged("UR");
    assert_eq!(upstream.connections(), 1, "a POST that was sent is not repeated");
}

fn an_upstream_that_closes_without_a_word_is_502_ur(engine: Engine) {
    let upstream = Upstream::scripted(|mut peer, connection| {
        read_request(&mut peer, connection).expect("a request");
    });
    let proxy = Proxy::start(engine, &[upstream.address()]);
    let mut client = Peer::connect(proxy.address());
    assert_eq!(exchange(&mut client, POST).status, 502);
    proxy.assert_flagged("UR");
}

/// An upstream that reads a request, sends `beginning`, then nothing until the proxy gives up.
fn stalling(beginning: &'static str) -> Upstream {
    Upstream::scripted(move |mut peer, connection| {
        read_request(&mut peer, connection).expect("a request");
        peer.send(beginning);
        peer.drain();
    })
}

fn an_upstream_that_takes_too_long_is_504_ut(engine: Engine) {
    let upstream = stalling("");
    let proxy =
        Launch::new(engine, &[upstream.address()]).with("--request-timeout", "300ms").start();
    let began = Instant::now();
    assert_eq!(get(proxy.address(), "/").status, 504);
    assert!(began.elapsed() >= Duration::from_millis(300));
    proxy.assert_flagged("UT");
}

fn a_body_that_stops_coming_from_the_upstream_is_ut(engine: Engine) {
    let upstream = stalling("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello");
    let proxy = Launch::new(engine, &[upstream.address()]).with("--body-timeout", "300ms").start();
    let mut client = Peer::connect(proxy.address());
    client.send(GET);
    client.read_until(b"hello").expect("the beginning of the body");
    assert_ne!(client.ending(), Ending::Open);
    proxy.assert_flagged("UT");
}

fn a_head_that_does_not_end_is_408_dt(engine: Engine) {
    let upstream = Upstream::fixed("x");
    let proxy =
        Launch::new(engine, &[upstream.address()]).with("--header-timeout", "300ms").start();
    let mut client = Peer::connect(proxy.address());
    let began = Instant::now();
    client.send("GET / HTTP/1.1\r\nHost: a\r\nX-");
    assert_eq!(read_response(&mut client, "GET").status, 408);
    assert!(began.elapsed() >= Duration::from_millis(300));
    assert_ne!(client.ending(), Ending::Open);
    proxy.assert_flagged("DT");
    assert_eq!(upstream.connections(), 0);
}

fn a_body_that_does_not_end_is_408_dt(engine: Engine) {
    let upstream = Upstream::fixed("x");
    let proxy = Launch::new(engine, &[upstream.address()]).with("--body-timeout", "300ms").start();
    let mut client = Peer::connect(proxy.address());
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhello");
    assert_eq!(read_response(&mut client, "POST").status, 408);
    assert_ne!(client.ending(), Ending::Open);
    proxy.assert_flagged("DT");
}

fn an_idle_client_is_closed_without_a_word(engine: Engine) {
    let upstream = Upstream::fixed("x");
    let proxy = Launch::new(engine, &[upstream.address()]).with("--idle-timeout", "300ms").start();
    let mut client = Peer::connect(proxy.address());
    exchange(&mut client, GET);
    let began = Instant::now();
    assert_eq!(client.ending(), Ending::Closed);
    assert!(began.elapsed() >= Duration::from_millis(250));
    proxy.only_access_log_line();
    proxy.await_metric("response_flags_total", &[], 0.0);
}

fn a_client_that_leaves_is_dc(engine: Engine) {
    let (arrived, wait) = mpsc::channel();
    let upstream = Upstream::scripted(move |mut peer, connection| {
        read_request(&mut peer, connection).expect("a request");
        arrived.send(()).expect("the test waits");
        assert_ne!(peer.ending(), Ending::Open, "the upstream's connection ends as well");
        arrived.send(()).expect("the test waits");
    });
    let proxy = Proxy::start(engine, &[upstream.address()]);
    let mut client = Peer::connect(proxy.address());
    client.send(GET);
    wait.recv().expect("the request arrived");
    client.reset();
    proxy.assert_flagged("DC");
    wait.recv().expect("the upstream heard of it");
    proxy.await_metric("tcp_open_connections", &[], 0.0);
}

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

fn the_answer_says_nothing_of_the_inside(engine: Engine) {
    let (_bound, address) = refusing();
    let proxy = Proxy::start(engine, &[address]);
    let response = get(proxy.address(), "/");
    let text = format!("{:?}{}", response.head, String::from_utf8_lossy(&response.body));
    let text = text.to_ascii_lowercase();
    for inside in [&address.port().to_string(), "127.0.0.1", "refused", "os error", "errno"] {
        assert!(!text.contains(inside), "{inside:?} in {text}");
    }
}
