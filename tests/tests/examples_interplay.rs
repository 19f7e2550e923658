//! Where two behaviours meet, the examples of `deploy/examples` a little changed: neither takes the other's
//! word for its own.

use lateen_tests::example::Example;
use lateen_tests::http::{exchange, read_request, read_response};
use lateen_tests::peer::Peer;
use lateen_tests::proxy::{Engine, Launch};
use lateen_tests::upstream::{Upstream, hanging, ok};
use lateen_tests::wait::{PATIENCE, eventually};
use std::net::{SocketAddr, TcpListener};
use std::sync::{Mutex, mpsc};
use std::thread;
use std::time::{Duration, Instant};

lateen_tests::on_both_engines!(
    who_says_nothing_keeps_no_place_that_somebody_needs,
    who_waits_for_a_place_has_a_whole_try_after_it,
    an_upload_that_is_limited_is_answered_in_the_time_of_a_try,
    one_retry_at_a_time_and_the_other_answer_stands,
    who_shares_a_network_or_a_session_shares_a_limit,
    a_copy_waits_for_no_slow_client,
    copies_are_held_to_the_caps_of_where_they_go,
    a_caller_that_waits_no_longer_opens_no_breaker,
    a_dead_connection_to_a_dead_instance_costs_no_request,
    a_dead_connection_to_the_only_instance_is_replaced_once,
);

const GET: &str = "GET / HTTP/1.1\r\nHost: a.example\r\n\r\n";

/// Takes requests and never answers.
fn silent() -> (Upstream, mpsc::Receiver<()>) {
    let (arrived, has_arrived) = mpsc::channel();
    let upstream = Upstream::scripted(move |mut peer, connection| {
        while read_request(&mut peer, connection).is_some() {
            // The test may be over.
            let _ = arrived.send(());
        }
    });
    (upstream, has_arrived)
}

fn who_says_nothing_keeps_no_place_that_somebody_needs(engine: Engine) {
    let upstream = Upstream::fixed("fine");
    let quick_to_connect = |launch: Launch| launch.with("--detect-timeout", "50ms");
    let addresses = [upstream.address()];
    let example = Example::apply_as(engine, "bulkhead.yaml", &addresses, quick_to_connect);
    // Both places are taken for clients who may speak a protocol that servers begin.
    let quiet = [0; 2].map(|_| Peer::connect(example.listen));
    example.proxy.await_metric("tcp_open_connections", &[("side", "upstream")], 2.0);
    assert_eq!(example.get(""), "fine");
    for mut peer in quiet {
        peer.send(GET);
        assert_eq!(read_response(&mut peer, "GET").status, 200);
    }
    example.proxy.await_metric("response_flags_total", &[], 0.0);
}

fn who_waits_for_a_place_has_a_whole_try_after_it(engine: Engine) {
    let (upstream, arrived) = silent();
    let example = Example::apply(engine, "bulkhead.yaml", &[upstream.address()]);
    example.change("  bulkhead:", "  timeouts: {backendRequest: 1s}\n  bulkhead:");
    let mut clients: Vec<_> = (0..3).map(|_| Peer::connect(example.listen)).collect();
    for client in &mut clients {
        client.send(GET);
    }
    for mut client in clients {
        assert_eq!(read_response(&mut client, "GET").status, 504);
    }
    assert_eq!(arrived.try_iter().count(), 3, "who waited was sent too");
    example.proxy.await_metric("response_flags_total", &[("flag", "UT")], 3.0);
}

fn an_upload_that_is_limited_is_answered_in_the_time_of_a_try(engine: Engine) {
    const BYTES: usize = 20_000;
    let (upstream, arrived) = silent();
    let example = Example::apply(engine, "rate-limit-bytes.yaml", &[upstream.address()]);
    example.change("  rateLimits:", "  timeouts: {backendRequest: 1s}\n  rateLimits:");
    let began = Instant::now();
    let mut client = Peer::connect(example.listen);
    client.send(format!("POST / HTTP/1.1\r\nHost: a.example\r\nContent-Length: {BYTES}\r\n\r\n"));
    client.send(vec![b'x'; BYTES]);
    // Far sooner than after --body-timeout, of a minute.
    assert_eq!(read_response(&mut client, "POST").status, 504);
    assert!(began.elapsed() >= Duration::from_secs(1), "{:?}", began.elapsed());
    arrived.recv_timeout(PATIENCE).expect("all of it went up");
    example.proxy.await_metric("response_flags_total", &[("flag", "UT")], 1.0);
}

fn one_retry_at_a_time_and_the_other_answer_stands(engine: Engine) {
    let (go, wait) = mpsc::channel::<()>();
    let wait = Mutex::new(wait);
    let (arrived, has_arrived) = mpsc::channel();
    let upstream = Upstream::scripted(move |mut peer, connection| {
        while let Some(request) = read_request(&mut peer, connection) {
            let is_first = request.head.value("x-attempt-count").as_deref() == Some("1");
            arrived.send(is_first).expect("the test waits");
            wait.lock().expect("one at a time").recv().expect("the test says when");
            peer.send(match is_first {
                true => b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n".to_vec(),
                false => ok("fine", 4),
            });
        }
    });
    let example = Example::apply(engine, "bulkhead.yaml", &[upstream.address()]);
    example.change("  bulkhead:", "  retry: {attempts: 1, on: [5xx]}\n  bulkhead:");
    let mut clients = [0; 2].map(|_| Peer::connect(example.listen));
    for client in &mut clients {
        client.send(GET);
        assert!(has_arrived.recv_timeout(PATIENCE).expect("a first try"));
    }
    go.send(()).expect("both wait");
    assert!(!has_arrived.recv_timeout(PATIENCE).expect("the second try of one"));
    // The other's is one too many, and its answer stands.
    go.send(()).expect("both wait");
    example.proxy.await_metric("bulkhead_overflow_total", &[("resource", "retries")], 1.0);
    go.send(()).expect("one waits");
    let mut statuses = clients.map(|mut client| read_response(&mut client, "GET").status);
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 503]);
    example.proxy.await_metric("retry_denied_total", &[("why", "bulkhead")], 1.0);
}

fn who_shares_a_network_or_a_session_shares_a_limit(engine: Engine) {
    let upstream = Upstream::fixed("fine");
    let example = Example::apply_on(engine, 2, "rate-limit-networks.yaml", &[upstream.address()]);
    let status = |client: &str, session: &str| {
        let request = format!(
            "GET / HTTP/1.1\r\nHost: a.example\r\nX-Forwarded-For: {client}\r\n\
             Cookie: theme=dark; session={session}\r\nConnection: close\r\n\r\n"
        );
        example.ask(&request).status
    };
    assert_eq!(status("192.0.2.1", "a"), 200);
    assert_eq!(status("198.51.100.1", "a"), 200);
    assert_eq!(status("203.0.113.1", "a"), 429, "the session's is used up, wherever it comes from");
    assert_eq!(status("192.0.2.200", "b"), 200);
    assert_eq!(status("192.0.2.77", "c"), 200);
    assert_eq!(status("192.0.2.5", "d"), 429, "the network's is used up, whoever asks");
    assert_eq!(status("192.0.3.5", "d"), 200, "another network");
    let limited = [("unit", "request"), ("outcome", "limited")];
    example.proxy.await_metric("rate_limit_total", &limited, 2.0);
    example.proxy.await_metric("response_flags_total", &[("flag", "RL")], 2.0);
}

fn a_copy_waits_for_no_slow_client(engine: Engine) {
    let (head_came, has_head) = mpsc::channel();
    let upstream = Upstream::scripted(move |mut peer, _| {
        peer.read_until(b"\r\n\r\n").expect("a head");
        head_came.send(()).expect("the test waits");
        assert_eq!(peer.read_exactly(10), b"helloworld");
        peer.send(ok("fine", 4));
    });
    let copied = Upstream::fixed("copied");
    let example = Example::apply(engine, "mirror.yaml", &[upstream.address(), copied.address()]);
    example.change("        fraction: {numerator: 1, denominator: 2}", "        percent: 100");
    let mut client = Peer::connect(example.listen);
    client.send("POST / HTTP/1.1\r\nHost: a.example\r\nContent-Length: 10\r\n\r\nhello");
    has_head.recv_timeout(PATIENCE).expect("it goes on without the rest");
    client.send("world");
    assert_eq!(read_response(&mut client, "POST").status, 200);
    example.proxy.await_metric("mirror_skipped_total", &[], 1.0);
    assert_eq!(copied.connections(), 0);
}

fn copies_are_held_to_the_caps_of_where_they_go(engine: Engine) {
    let upstream = Upstream::fixed("fine");
    let (copied, arrived) = silent();
    let example = Example::apply(engine, "mirror.yaml", &[upstream.address(), copied.address()]);
    let policy = "apiVersion: lateen.dev/v1alpha1\nkind: TrafficPolicy\nmetadata: {name: copies}\nspec:\n  \
                  targetRefs: [{group: lateen.dev, kind: Service, name: cart-next}]\n  \
                  bulkhead: {maxRequests: 1, maxPending: 0}\n---\n";
    let service = "apiVersion: lateen.dev/v1alpha1\nkind: Proxy\n";
    example.change(service, &format!("{policy}{service}"));
    example.change("        fraction: {numerator: 1, denominator: 2}", "        percent: 100");
    assert_eq!(example.get(""), "fine");
    arrived.recv_timeout(PATIENCE).expect("the first copy");
    for _ in 0..3 {
        assert_eq!(example.get(""), "fine");
    }
    example.proxy.await_metric("mirror_failed_total", &[], 3.0);
    assert_eq!(arrived.try_iter().count(), 0, "one at a time");
}

fn a_caller_that_waits_no_longer_opens_no_breaker(engine: Engine) {
    let (_listener, _queued, address) = hanging();
    let example = Example::apply(engine, "circuit-breaker.yaml", &[address]);
    for _ in 0..12 {
        let impatient = "GET / HTTP/1.1\r\nHost: a.example\r\nX-Request-Timeout-Ms: 30\r\n\r\n";
        assert_eq!(exchange(&mut Peer::connect(example.listen), impatient).status, 504);
    }
    example.proxy.await_metric("breaker_transitions_total", &[], 0.0);
    // Ten whose time was the proxy's to say open it.
    let connect = "  timeouts: {connect: 30ms}\n  circuitBreaker:";
    example.change("  circuitBreaker:", connect);
    for _ in 0..10 {
        example.ask("GET / HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n\r\n");
    }
    example.proxy.await_metric("breaker_transitions_total", &[("to", "open")], 1.0);
}

/// An instance that takes one connection, and ends with that connection's second request; and word of its end.
fn mortal() -> (SocketAddr, mpsc::Receiver<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("it is bound");
    let (is_dead, dying) = mpsc::channel();
    thread::spawn(move || {
        let (stream, _) = listener.accept().expect("a connection");
        drop(listener);
        let mut peer = Peer::new(stream);
        if read_request(&mut peer, 0).is_some() {
            peer.send(ok("mortal", 6));
            read_request(&mut peer, 0);
        }
        drop(peer);
        // The test may be over.
        let _ = is_dead.send(());
    });
    (address, dying)
}

fn a_dead_connection_to_a_dead_instance_costs_no_request(engine: Engine) {
    let (address, dying) = mortal();
    let other = Upstream::fixed("other");
    let proxy = Launch::new(engine, &[address, other.address()]).start();
    let mut client = Peer::connect(proxy.address());
    eventually("the instance dies of a request", || {
        assert_eq!(exchange(&mut client, GET).status, 200);
        dying.try_recv().ok()
    });
    assert_eq!(exchange(&mut client, GET).status, 200);
}

fn a_dead_connection_to_the_only_instance_is_replaced_once(engine: Engine) {
    let (address, _dying) = mortal();
    let proxy = Launch::new(engine, &[address]).start();
    let mut client = Peer::connect(proxy.address());
    assert_eq!(exchange(&mut client, GET).status, 200);
    assert_eq!(exchange(&mut client, GET).status, 503);
    let logged = &proxy.access_log(2)[1];
    assert_eq!((&logged["flags"], &logged["retries"]), (&"UF".into(), &1.into()));
}
