//! `deploy/examples/connection-duration.yaml`: connections end when they have lasted long enough, in order.

use lateen_tests::example::Example;
use lateen_tests::http::{get, read_response, read_response_head};
use lateen_tests::peer::{Ending, Peer};
use lateen_tests::proxy::Engine;
use lateen_tests::upstream::Upstream;
use lateen_tests::wait::PATIENCE;
use std::thread;
use std::time::{Duration, Instant};

lateen_tests::on_both_engines!(
    a_client_is_told_to_close_after_an_answer,
    requests_share_a_connection_no_longer_than_it_may_last,
    a_tunnel_that_is_in_use_is_closed_too,
    an_upgraded_connection_lasts_no_longer_than_another,
);

fn lasted(example: &Example, of: &str, count: f64) {
    example.proxy.await_metric("connection_lasted_total", &[("of", of)], count);
}

fn a_client_is_told_to_close_after_an_answer(engine: Engine) {
    let upstream = Upstream::fixed("fine");
    let example = Example::apply(engine, "connection-duration.yaml", &[upstream.address()]);
    let mut client = Peer::connect(example.listen);
    // The 3 s count from when the proxy has taken it.
    thread::sleep(Duration::from_secs(4));
    // It idled for longer than it may last; the next request is answered all the same.
    client.send("GET / HTTP/1.1\r\nHost: a.example\r\n\r\n");
    let response = read_response(&mut client, "GET");
    assert_eq!((response.status, &*response.body), (200, &b"fine"[..]));
    assert!(response.head.lists("connection", "close"), "{response:?}");
    assert_eq!(client.read_to_end(), (Vec::new(), Ending::Closed));
    lasted(&example, "client", 1.0);
}

fn requests_share_a_connection_no_longer_than_it_may_last(engine: Engine) {
    let upstream = Upstream::fixed("fine");
    let example = Example::apply(engine, "connection-duration.yaml", &[upstream.address()]);
    assert_eq!(get(example.listen, "/").status, 200);
    // Nobody uses it, and it has not idled for as long as one may.
    lasted(&example, "pooled", 1.0);
    example.proxy.await_metric("tcp_open_connections", &[("side", "upstream")], 0.0);
    assert_eq!(get(example.listen, "/").status, 200);
    assert_eq!(upstream.connections(), 2);
}

fn a_tunnel_that_is_in_use_is_closed_too(engine: Engine) {
    let upstream = Upstream::scripted(|mut peer, _| {
        loop {
            let some = peer.read_some();
            if some.is_empty() || peer.try_send(some).is_err() {
                return;
            }
        }
    });
    let example = Example::apply(engine, "connection-duration.yaml", &[upstream.address()]);
    example.change("maxConnectionDuration: 3s ", "maxConnectionDuration: 1h ");
    let began = Instant::now();
    let mut client = Peer::connect(example.listen);
    let mut echoed = 0;
    while client.try_send([0]).is_ok() && !client.read_some().is_empty() {
        echoed += 1;
        thread::sleep(Duration::from_millis(20));
    }
    assert!(echoed > 0, "it never worked");
    assert!(began.elapsed() >= Duration::from_millis(1_800), "{:?}", began.elapsed());
    assert_eq!(client.read_to_end(), (Vec::new(), Ending::Closed));
    lasted(&example, "tunnel", 1.0);
    example.proxy.await_metric("response_flags_total", &[("flag", "DT")], 1.0);
    example.proxy.await_metric("tcp_open_connections", &[("side", "upstream")], 0.0);
    let logged = example.proxy.access_log(1);
    assert_eq!(logged[0]["flags"], "DT");
}

fn an_upgraded_connection_lasts_no_longer_than_another(engine: Engine) {
    let switching =
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: test\r\n\r\n";
    let upstream = Upstream::scripted(move |mut peer, _| {
        if peer.read_until(b"\r\n\r\n").is_none() {
            return;
        }
        peer.send(switching);
        loop {
            let some = peer.read_some();
            if some.is_empty() || peer.try_send(some).is_err() {
                return;
            }
        }
    });
    let example = Example::apply(engine, "connection-duration.yaml", &[upstream.address()]);
    // The service's time is over before the listener's, however late the proxy finds out.
    example.change("maxConnectionDuration: 3s ", "maxConnectionDuration: 1h ");
    let began = Instant::now();
    let mut client = Peer::connect(example.listen);
    client.send("GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: test\r\n\r\n");
    assert_eq!(read_response_head(&mut client).expect("a head").0, 101);
    while client.try_send([0]).is_ok() && !client.read_some().is_empty() {
        assert!(began.elapsed() < PATIENCE, "it lasts for ever");
        thread::sleep(Duration::from_millis(20));
    }
    assert!(began.elapsed() >= Duration::from_millis(1_800), "{:?}", began.elapsed());
    assert_eq!(client.read_to_end(), (Vec::new(), Ending::Closed), "in order, not by a reset");
    drop(client);
    lasted(&example, "tunnel", 1.0);
    lasted(&example, "client", 0.0);
    example.proxy.await_metric("response_flags_total", &[("flag", "DT")], 1.0);
    example.proxy.await_metric("tcp_open_connections", &[("side", "upstream")], 0.0);
    let logged = example.proxy.access_log(1);
    assert_eq!((&logged[0]["status"], &logged[0]["flags"]), (&101.into(), &"DT".into()));
}
