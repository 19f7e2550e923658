//! Detection: what is HTTP is served as HTTP however slowly it comes, and nothing else waits for it.

use lateen_tests::http::{exchange, read_response};
use lateen_tests::peer::{Ending, Peer};
use lateen_tests::proxy::{Engine, Launch, Proxy};
use lateen_tests::upstream::Upstream;
use lateen_tests::wait::PATIENCE;
use std::sync::mpsc;
use std::time::{Duration, Instant};

lateen_tests::on_both_engines!(
    a_greeting_of_the_server_does_not_wait_for_the_client,
    a_greeting_of_the_server_settles_what_a_part_of_a_line_leaves_open,
    other_first_bytes_are_tcp,
    a_word_that_is_no_method_does_not_wait_for_its_line,
    a_method_without_its_line_is_tcp_when_no_head_is_waited_for_longer,
    http_is_detected_after_a_silence,
    http_is_detected_byte_by_byte,
    a_request_line_in_two_pieces_is_http,
    a_request_line_in_two_pieces_is_http_after_a_silence,
);

/// Far longer than the detect timeout, far shorter than the header timeout.
const PAUSE: Duration = Duration::from_millis(200);

/// A proxy that waits for a head for longer than a read of a test's: what waited for it would not come.
fn start(engine: Engine, upstream: &Upstream) -> Proxy {
    const {
        assert!(PATIENCE.as_secs() < 60);
    }
    start_with(engine, upstream, "60s")
}

fn start_with(engine: Engine, upstream: &Upstream, header_timeout: &str) -> Proxy {
    Launch::new(engine, &[upstream.address()])
        .detecting_soon()
        .with("--header-timeout", header_timeout)
        .start()
}

fn a_greeting_of_the_server_does_not_wait_for_the_client(engine: Engine) {
    let upstream = Upstream::scripted(|mut peer, _| {
        peer.send("220 ready\r\n");
        assert_eq!(peer.read_until(b"\r\n").expect("a line"), b"EHLO client\r\n");
        peer.send("250 ok\r\n");
    });
    let proxy = start(engine, &upstream);
    let mut client = Peer::connect(proxy.address());
    assert_eq!(client.read_exactly(11), b"220 ready\r\n");
    client.send("EHLO client\r\n");
    assert_eq!(client.read_to_end(), (b"250 ok\r\n".to_vec(), Ending::Closed));
}

fn other_first_bytes_are_tcp(engine: Engine) {
    let upstream = Upstream::scripted(|mut peer, _| {
        let first = peer.read_some();
        peer.send(first);
    });
    let proxy = start(engine, &upstream);
    for first in
        [b"\x16\x03\x01\x02\x00".as_slice(), b"\x00\x00", b"SSH-2.0-x\r\n", b"*1\r\n$4\r\nPING\r\n"]
    {
        let mut client = Peer::connect(proxy.address());
        client.send(first);
        assert_eq!(client.read_to_end(), (first.to_vec(), Ending::Closed));
    }
}

fn http_is_detected_after_a_silence(engine: Engine) {
    let upstream = Upstream::fixed("late");
    let proxy = start(engine, &upstream);
    let mut client = Peer::connect(proxy.address());
    // The proxy has given up waiting once it connects to the upstream.
    proxy.await_metric("tcp_open_connections", &[], 2.0);
    assert_eq!(exchange(&mut client, "GET / HTTP/1.1\r\nHost: a\r\n\r\n").body, b"late");
    assert!(upstream.request().head.value("x-forwarded-for").is_some(), "it was carried as TCP");
}

fn http_is_detected_byte_by_byte(engine: Engine) {
    let upstream = Upstream::fixed("x");
    let proxy = start(engine, &upstream);
    let mut client = Peer::connect(proxy.address());
    client.send_bytewise("GET / HTTP/1.1\r\nHost: a\r\n");
    assert_eq!(exchange(&mut client, "\r\n").body, b"x");
    assert!(upstream.request().head.value("x-forwarded-for").is_some(), "it was carried as TCP");
}

fn a_request_line_in_two_pieces_is_http(engine: Engine) {
    for (first, rest) in [("GE", "T /"), ("\r\nPOST", " /"), ("PROPFI", "ND /"), ("MKCOL /a", "b")]
    {
        let upstream = Upstream::fixed("slow");
        let proxy = start(engine, &upstream);
        let mut client = Peer::connect(proxy.address());
        client.send(first);
        // The detect timeout is over once the proxy connects to the upstream.
        proxy.await_metric("tcp_open_connections", &[], 2.0);
        client.assert_silent_for(PAUSE);
        client.send(format!("{rest} HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n"));
        assert_eq!(read_response(&mut client, "GET").body, b"slow");
        let head = upstream.request().head;
        assert!(head.value("x-forwarded-for").is_some(), "{first:?} was carried as TCP");
        assert_eq!(upstream.connections(), 1, "what was connected meanwhile was not used");
    }
}

fn a_request_line_in_two_pieces_is_http_after_a_silence(engine: Engine) {
    let upstream = Upstream::fixed("slow");
    let proxy = start(engine, &upstream);
    let mut client = Peer::connect(proxy.address());
    proxy.await_metric("tcp_open_connections", &[], 2.0);
    client.send("G");
    client.assert_silent_for(Duration::from_secs(2));
    client.send("ET");
    client.assert_silent_for(PAUSE);
    assert_eq!(exchange(&mut client, " / HTTP/1.1\r\nHost: a\r\n\r\n").body, b"slow");
    let head = upstream.request().head;
    assert!(head.value("x-forwarded-for").is_some(), "it was carried as TCP");
    // From its first byte on, from which the header timeout counts as well. The proxy may have had it later
    // than it was sent, but not that much.
    let total_us = proxy.only_access_log_line()["total_us"].as_u64();
    assert!(total_us >= Some(1_000_000), "{total_us:?}");
}

fn a_greeting_of_the_server_settles_what_a_part_of_a_line_leaves_open(engine: Engine) {
    let (go, wait) = mpsc::channel::<()>();
    let wait = std::sync::Mutex::new(wait);
    let upstream = Upstream::scripted(move |mut peer, _| {
        wait.lock().expect("one connection waits").recv().expect("the test says when");
        peer.send("220 ready\r\n");
        let line = peer.read_until(b"\r\n").expect("a line");
        peer.send(line);
    });
    let proxy = start(engine, &upstream);
    let mut client = Peer::connect(proxy.address());
    client.send("P");
    proxy.await_metric("tcp_open_connections", &[], 2.0);
    client.assert_silent_for(PAUSE);
    go.send(()).expect("the upstream waits");
    assert_eq!(client.read_exactly(11), b"220 ready\r\n");
    client.send("ING\r\n");
    assert_eq!(client.read_to_end(), (b"PING\r\n".to_vec(), Ending::Closed));
}

/// An upstream that sends the first bytes that it gets back.
fn echoing() -> Upstream {
    Upstream::scripted(|mut peer, _| {
        let first = peer.read_some();
        peer.send(first);
    })
}

fn a_word_that_is_no_method_does_not_wait_for_its_line(engine: Engine) {
    let upstream = echoing();
    let proxy = start(engine, &upstream);
    for word in ["hello", "HELLO", "HELLO world", "PRI", "GETS"] {
        let mut client = Peer::connect(proxy.address());
        client.send(word);
        assert_eq!(client.read_to_end(), (word.as_bytes().to_vec(), Ending::Closed));
    }
    // Nor does it after a silence.
    let mut client = Peer::connect(proxy.address());
    client.assert_silent_for(PAUSE);
    client.send("hello");
    assert_eq!(client.read_to_end(), (b"hello".to_vec(), Ending::Closed));
}

fn a_method_without_its_line_is_tcp_when_no_head_is_waited_for_longer(engine: Engine) {
    let upstream = echoing();
    let proxy = start_with(engine, &upstream, "500ms");
    let began = Instant::now();
    let mut client = Peer::connect(proxy.address());
    client.send("GET");
    assert_eq!(client.read_to_end(), (b"GET".to_vec(), Ending::Closed));
    assert!(began.elapsed() >= Duration::from_millis(500), "{:?}", began.elapsed());
}
