//! Exchanges that fail: each with its status, its flag in the access log, and its metric; and
//! resets in every phase.

use lateen_tests::http::{exchange, get, read_request, read_response};
use lateen_tests::peer::{Ending, Peer};
use lateen_tests::proxy::{Engine, Launch, Proxy};
use lateen_tests::upstream::{Upstream, hanging, ok, refusing};
use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit};
use std::sync::{Mutex, mpsc};
use std::thread;
use std::time::{Duration, Instant};

lateen_tests::on_both_engines!(
    a_refused_connection_is_503_uf,
    a_hanging_connection_is_503_uf_in_time,
    when_every_endpoint_refuses_it_is_503,
    a_refusing_endpoint_is_tried_last,
    an_upstream_that_resets_is_502_ur,
    an_upstream_that_closes_without_a_word_is_502_ur,
    an_upstream_that_takes_too_long_is_504_ut,
    an_upstream_that_stops_reading_is_504_ut_in_time,
    a_body_that_stops_coming_from_the_upstream_is_ut,
    an_answer_is_due_from_the_end_of_a_slow_upload,
    a_head_that_does_not_end_is_408_dt,
    a_body_that_does_not_end_is_408_dt,
    an_idle_client_is_closed_without_a_word,
    a_client_that_leaves_is_dc,
    an_upload_that_ends_early_is_dc_where_no_pipe_can_be_had,
    a_client_that_does_not_read_is_given_up,
    a_pause_of_the_upstream_is_not_held_against_the_client,
    clients_may_reset_in_any_phase,
    upstreams_may_reset_in_any_phase,
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
    let proxy = Launch::new(engine, &[address]).with("--connect-timeout", "1500ms").start();
    let began = Instant::now();
    assert_eq!(get(proxy.address(), "/").status, 503);
    let took = began.elapsed();
    // Longer than without the flag; the rest is for a busy machine.
    assert!((Duration::from_millis(1500)..Duration::from_secs(10)).contains(&took), "{took:?}");
    proxy.assert_flagged("UF");
}

fn when_every_endpoint_refuses_it_is_503(engine: Engine) {
    let refusers = [refusing(), refusing()];
    let proxy = Proxy::start(engine, &[refusers[0].1, refusers[1].1]);
    assert_eq!(get(proxy.address(), "/").status, 503);
    let line = proxy.only_access_log_line();
    assert!(line["flags"] == "UH" || line["flags"] == "UF", "{line}");
    assert_eq!(line["response_bytes"], "Service Unavailable\n".len(), "{line}");
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
    let proxy = Launch::new(engine, &[upstream.address()]).with("--request-timeout", "2s").start();
    let began = Instant::now();
    assert_eq!(get(proxy.address(), "/").status, 504);
    assert!(began.elapsed() >= Duration::from_secs(2));
    proxy.assert_flagged("UT");
}

fn an_upstream_that_stops_reading_is_504_ut_in_time(engine: Engine) {
    const LENGTH: usize = 64 << 20;
    let (go, wait) = mpsc::channel::<()>();
    let (ended, has_ended) = mpsc::channel();
    let wait = Mutex::new(wait);
    let upstream = Upstream::scripted(move |mut peer, _| {
        peer.read_until(b"\r\n\r\n").expect("a request");
        wait.lock().expect("one waits").recv().expect("the test says when");
        ended.send(peer.drain().1).expect("the test waits");
    });
    let proxy = Launch::new(engine, &[upstream.address()])
        .with("--write-timeout", "2s")
        .with("--body-timeout", "2s")
        .start();
    let began = Instant::now();
    let mut client = Peer::connect(proxy.address());
    let mut sender = Peer::new(client.stream().try_clone().expect("a second handle"));
    let writer = thread::spawn(move || {
        sender.send(format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {LENGTH}\r\n\r\n"));
        sender.try_send(vec![b'x'; LENGTH])
    });
    assert_eq!(read_response(&mut client, "POST").status, 504);
    let took = began.elapsed();
    assert!(took >= Duration::from_secs(2), "{took:?}");
    // One timeout for the body and one for the answer; the rest is for a busy machine. It is a minute without
    // the flags.
    assert!(took < Duration::from_secs(15), "{took:?}");
    assert_ne!(client.drain().1, Ending::Open);
    let sent = writer.join().expect("the writer does not panic");
    assert!(sent.is_err(), "somebody took {LENGTH} bytes that the upstream did not read");
    proxy.assert_flagged("UT");
    proxy.await_metric("tcp_open_connections", &[], 0.0);
    go.send(()).expect("the upstream waits");
    assert_ne!(has_ended.recv().expect("the upstream tells"), Ending::Open);
}

fn a_body_that_stops_coming_from_the_upstream_is_ut(engine: Engine) {
    let upstream = stalling("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello");
    let proxy = Launch::new(engine, &[upstream.address()]).with("--body-timeout", "2s").start();
    let mut client = Peer::connect(proxy.address());
    client.send(GET);
    client.read_until(b"hello").expect("the beginning of the body");
    assert_ne!(client.ending(), Ending::Open);
    proxy.assert_flagged("UT");
}

fn an_answer_is_due_from_the_end_of_a_slow_upload(engine: Engine) {
    // Each shorter than the timeout, together longer.
    const UPLOAD: Duration = Duration::from_millis(2_500);
    const ANSWER: Duration = UPLOAD;
    let upstream = Upstream::scripted(|mut peer, connection| {
        read_request(&mut peer, connection).expect("a request");
        peer.assert_silent_for(ANSWER);
        peer.send(ok("ok", 2));
    });
    let proxy = Launch::new(engine, &[upstream.address()]).with("--body-timeout", "4s").start();
    let mut client = Peer::connect(proxy.address());
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhello");
    client.assert_silent_for(UPLOAD);
    client.send("world");
    let response = read_response(&mut client, "POST");
    assert_eq!((response.status, response.body.as_slice()), (200, b"ok".as_slice()));
}

fn a_head_that_does_not_end_is_408_dt(engine: Engine) {
    let upstream = Upstream::fixed("x");
    let proxy =
        Launch::new(engine, &[upstream.address()]).with("--header-timeout", "300ms").start();
    let began = Instant::now();
    let mut client = Peer::connect(proxy.address());
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
    let began = Instant::now();
    let mut client = Peer::connect(proxy.address());
    exchange(&mut client, GET);
    assert_eq!(client.ending(), Ending::Closed);
    assert!(began.elapsed() >= Duration::from_millis(300), "{:?}", began.elapsed());
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

fn an_upload_that_ends_early_is_dc_where_no_pipe_can_be_had(engine: Engine) {
    let upstream = Upstream::scripted(|mut peer, _| {
        while let Some(head) = peer.read_until(b"\r\n\r\n") {
            if head.starts_with(b"POST") {
                peer.drain();
                return;
            }
            peer.send(ok("x", 1));
        }
    });
    let proxy = Proxy::start(engine, &[upstream.address()]);
    // Both clients and the upstream's connection are there before nothing more can be opened.
    let [mut client, mut other] = [0; 2].map(|_| {
        let mut client = Peer::connect(proxy.address());
        assert_eq!(exchange(&mut client, GET).status, 200);
        client
    });
    // Fewer than are open already, so that the next pipe is refused (getrlimit(2): EMFILE).
    let before =
        limit_descriptors(&proxy, Rlimit { current: Some(8), ..getrlimit(Resource::Nofile) });
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n");
    client.send(vec![b'x'; 100_000]);
    client.half_close();
    assert_ne!(client.drain().1, Ending::Open);
    limit_descriptors(&proxy, before);
    assert_eq!(exchange(&mut other, GET).status, 200, "the worker has time for others");
    assert_eq!(proxy.access_log(4)[2]["flags"], "DC");
    let spliced = proxy.metrics().sum("bytes_spliced_total", &[]);
    assert_eq!(spliced, 0.0, "there was a pipe, so this shows nothing");
}

/// Gives the running proxy this limit, and returns the one that it had.
fn limit_descriptors(proxy: &Proxy, limit: Rlimit) -> Rlimit {
    let pid = Pid::from_raw(proxy.pid().try_into().expect("a pid is positive"));
    prlimit(pid, Resource::Nofile, limit).expect("a limit may be lowered, and raised again")
}

fn a_client_that_does_not_read_is_given_up(engine: Engine) {
    const LENGTH: usize = 64 << 20;
    let (ended, wait) = mpsc::channel();
    let upstream = Upstream::scripted(move |mut peer, connection| {
        read_request(&mut peer, connection).expect("a request");
        assert!(peer.try_send(ok(vec![b'x'; LENGTH], LENGTH)).is_err(), "all of it was taken");
        ended.send(()).expect("the test waits");
    });
    let proxy = Launch::new(engine, &[upstream.address()]).with("--write-timeout", "300ms").start();
    let mut client = Peer::connect_with_receive_buffer(proxy.address(), 16 << 10);
    client.send(GET);
    wait.recv().expect("the upstream is let go");
    proxy.assert_flagged("DC");
    proxy.await_metric("tcp_open_connections", &[], 0.0);
    let (count, ending) = client.drain();
    assert!(count < LENGTH as u64 && ending != Ending::Open, "{count} bytes, {ending:?}");
}

fn a_pause_of_the_upstream_is_not_held_against_the_client(engine: Engine) {
    // More than a ring that has not yet ceased to receive can take in, however late the proxy is.
    const LENGTH: usize = 16 << 20;
    const BEFORE: usize = 50_000;
    let upstream = Upstream::scripted(|mut peer, connection| {
        read_request(&mut peer, connection).expect("a request");
        peer.send(ok(vec![b'x'; BEFORE], LENGTH));
        // More than twice the write timeout, and far less than the body timeout.
        peer.assert_silent_for(Duration::from_secs(5));
        peer.send(vec![b'x'; LENGTH - BEFORE]);
    });
    // Longer than a client that has stalled leaves its bytes unread.
    let proxy = Launch::new(engine, &[upstream.address()]).with("--write-timeout", "2s").start();
    assert_eq!(get(proxy.address(), "/").body.len(), LENGTH);
    proxy.await_metric("response_flags_total", &[], 0.0);
    let spliced = proxy.metrics().sum("bytes_spliced_total", &[]);
    assert!(spliced > 0.0, "the body was not spliced, so this shows nothing");
}

fn clients_may_reset_in_any_phase(engine: Engine) {
    let upstream = Upstream::scripted(|mut peer, connection| {
        while let Some(request) = read_request(&mut peer, connection) {
            match request.target() {
                "/half" => peer.send("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello"),
                "/held" => {}
                _ => peer.send(ok("x", 1)),
            }
        }
    });
    let proxy = Proxy::start(engine, &[upstream.address()]);
    for (sent, awaited) in [
        ("", ""),
        ("GET / HT", ""),
        ("GET / HTTP/1.1\r\nHost: a\r\n", ""),
        ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhello", ""),
        ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhel", ""),
        ("GET /held HTTP/1.1\r\nHost: a\r\n\r\n", ""),
        ("GET /half HTTP/1.1\r\nHost: a\r\n\r\n", "hello"),
        (GET, "x"),
    ] {
        let mut client = Peer::connect(proxy.address());
        client.send(sent);
        if !awaited.is_empty() {
            client.read_until(b"\r\n\r\n").expect("a head");
            client.read_until(awaited.as_bytes()).expect("the beginning of a body");
        }
        client.reset();
        assert_eq!(get(proxy.address(), "/").status, 200, "after a reset after {sent:?}");
        proxy.await_metric("tcp_open_connections", &[("side", "downstream")], 0.0);
    }
}

fn upstreams_may_reset_in_any_phase(engine: Engine) {
    let upstream = Upstream::scripted(|mut peer, _| {
        // What a connection does is its first request's choice: the target.
        let Some(head) = peer.read_until(b"\r\n\r\n") else { return };
        let head = String::from_utf8(head).expect("a head is text");
        match head.split(' ').nth(1).expect("a target") {
            "/head" => {}
            "/body" => drop(peer.read_exactly(5)),
            "/status" => peer.send("HTTP/1.1 2"),
            "/field" => peer.send("HTTP/1.1 200 OK\r\nContent-Le"),
            "/interim" => peer.send("HTTP/1.1 103 Early Hints\r\n\r\n"),
            // Not kept, so that each target gets a connection of its own.
            _ => {
                return peer
                    .send("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 1\r\n\r\nx");
            }
        }
        peer.reset();
    });
    let proxy = Proxy::start(engine, &[upstream.address()]);
    for target in ["/head", "/body", "/status", "/field", "/interim"] {
        let mut client = Peer::connect(proxy.address());
        client
            .send(format!("POST {target} HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhello"));
        // The rest of the body is still owed: the failure must not wait for it.
        assert_eq!(read_response(&mut client, "POST").status, 502, "{target}");
        drop(client);
        assert_eq!(get(proxy.address(), "/").status, 200, "after {target}");
        proxy.await_metric("tcp_open_connections", &[("side", "downstream")], 0.0);
    }
    proxy.await_metric("response_flags_total", &[("flag", "UR")], 5.0);
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
