//! Upgrades: a WebSocket by real peers, and a 101 that nobody asked for.

use lateen_tests::http::{Head, exchange, get, read_response_head};
use lateen_tests::peer::{Ending, Peer};
use lateen_tests::proxy::{Engine, Proxy};
use lateen_tests::tools::{Server, websocket_client};
use lateen_tests::upstream::Upstream;
use std::time::Duration;

lateen_tests::on_both_engines!(
    a_websocket_echoes,
    an_upgraded_connection_carries_any_bytes_and_half_closes,
    bytes_behind_an_upgrade_reach_the_upstream_after_its_101,
    an_upgrade_counts_when_its_101_is_sent,
    a_refused_upgrade_stays_http,
    an_unasked_101_is_a_bad_gateway,
    a_101_to_a_protocol_that_was_not_offered_is_a_bad_gateway,
    h2c_is_not_negotiated,
);

const UPGRADE: &str =
    "GET /chat HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: test\r\n\r\n";
const SWITCHING: &str =
    "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: test\r\n\r\n";

fn a_websocket_echoes(engine: Engine) {
    let server = Server::websocket();
    let proxy = Proxy::start(engine, &[server.address()]);
    let url = format!("ws://{}/", proxy.address());
    websocket_client(&url).expect_success();
    websocket_client(&url).expect_success();
    assert_eq!(proxy.access_log(2)[0]["status"], 101);
}

fn an_upgraded_connection_carries_any_bytes_and_half_closes(engine: Engine) {
    let upstream = Upstream::scripted(|mut peer, _| {
        let head = Head::parse(&peer.read_until(b"\r\n\r\n").expect("a request"));
        assert!(head.lists("connection", "upgrade"), "{head:?}");
        assert_eq!(head.value("upgrade").as_deref(), Some("test"));
        // The first bytes of the new protocol come in one segment with the head.
        peer.send(format!("{SWITCHING}server first "));
        assert_eq!(peer.read_to_end(), (b"\x00client\xff".to_vec(), Ending::Closed));
        peer.send("after your end");
    });
    let proxy = Proxy::start(engine, &[upstream.address()]);
    let mut client = Peer::connect(proxy.address());
    client.send(UPGRADE);
    let (status, head) = read_response_head(&mut client).expect("a head");
    assert_eq!(status, 101);
    assert!(head.lists("connection", "upgrade"), "{head:?}");
    assert_eq!(head.value("upgrade").as_deref(), Some("test"));
    assert_eq!(client.read_exactly(13), b"server first ");
    client.send(b"\x00client\xff");
    client.half_close();
    assert_eq!(client.read_to_end(), (b"after your end".to_vec(), Ending::Closed));
}

fn bytes_behind_an_upgrade_reach_the_upstream_after_its_101(engine: Engine) {
    let upstream = Upstream::scripted(|mut peer, _| {
        peer.read_until(b"\r\n\r\n").expect("a request");
        // Before it has agreed, it would take them for the next request.
        peer.assert_silent_for(Duration::from_millis(200));
        peer.send(SWITCHING);
        assert_eq!(peer.read_exactly(5), b"early");
        peer.send("got it");
        assert_eq!(peer.read_to_end(), (b"late".to_vec(), Ending::Closed));
    });
    let proxy = Proxy::start(engine, &[upstream.address()]);
    let mut client = Peer::connect(proxy.address());
    client.send(format!("{UPGRADE}early"));
    assert_eq!(read_response_head(&mut client).expect("a head").0, 101);
    assert_eq!(client.read_exactly(6), b"got it");
    client.send("late");
    client.half_close();
    assert_eq!(client.ending(), Ending::Closed);
}

fn an_upgrade_counts_when_its_101_is_sent(engine: Engine) {
    let upstream = Upstream::scripted(|mut peer, _| {
        peer.read_until(b"\r\n\r\n").expect("a request");
        peer.send(SWITCHING);
        assert_eq!(peer.read_exactly(5), b"hello");
        peer.send("hi");
        peer.drain();
    });
    let proxy = Proxy::start(engine, &[upstream.address()]);
    let mut client = Peer::connect(proxy.address());
    client.send(UPGRADE);
    assert_eq!(read_response_head(&mut client).expect("a head").0, 101);
    let answered = [("status_class", "1xx"), ("classification", "success")];
    proxy.await_metric("response_total", &answered, 1.0);
    proxy.await_metric("request_total", &[], 1.0);
    proxy.await_metric("tcp_open_connections", &[], 2.0);
    client.send("hello");
    assert_eq!(client.read_exactly(2), b"hi");
    // A moment after the client has them, the proxy knows that it has.
    proxy.await_metric("bytes_copied_total", &[], 7.0);
    client.reset();

    // The line is written at the end, and says how the tunnel ended and what it carried.
    let line = proxy.only_access_log_line();
    assert_eq!((&line["status"], &line["flags"]), (&101.into(), &"DC".into()));
    assert_eq!((&line["request_bytes"], &line["response_bytes"]), (&5.into(), &2.into()));
    proxy.await_metric("response_flags_total", &[("flag", "DC")], 1.0);
    proxy.await_metric("response_total", &[], 1.0);
    proxy.await_metric("request_total", &[], 1.0);
}

fn a_refused_upgrade_stays_http(engine: Engine) {
    let upstream = Upstream::fixed("no");
    let proxy = Proxy::start(engine, &[upstream.address()]);
    let mut client = Peer::connect(proxy.address());
    assert_eq!(exchange(&mut client, UPGRADE).body, b"no");
    assert_eq!(exchange(&mut client, "GET / HTTP/1.1\r\nHost: a\r\n\r\n").body, b"no");
}

fn an_unasked_101_is_a_bad_gateway(engine: Engine) {
    let upstream = Upstream::answering(|_| SWITCHING.into());
    let proxy = Proxy::start(engine, &[upstream.address()]);
    assert_eq!(get(proxy.address(), "/").status, 502);
    proxy.assert_flagged("UPE");
}

fn a_101_to_a_protocol_that_was_not_offered_is_a_bad_gateway(engine: Engine) {
    let upstream = Upstream::answering(|_| SWITCHING.replace("test", "other").into());
    let proxy = Proxy::start(engine, &[upstream.address()]);
    let mut client = Peer::connect(proxy.address());
    assert_eq!(exchange(&mut client, UPGRADE).status, 502);
    proxy.assert_flagged("UPE");
}

fn h2c_is_not_negotiated(engine: Engine) {
    let upstream = Upstream::fixed("x");
    let proxy = Proxy::start(engine, &[upstream.address()]);
    let mut client = Peer::connect(proxy.address());
    let request = "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, HTTP2-Settings\r\n\
                   Upgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n";
    assert_eq!(exchange(&mut client, request).status, 200);
    let head = upstream.request().head;
    assert_eq!((head.value("upgrade"), head.value("http2-settings")), (None, None));
}
