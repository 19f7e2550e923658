//! `deploy/examples/faults.yaml`: each fault is made to happen, and nothing else is touched by it.

use lateen_tests::example::Example;
use lateen_tests::http::read_response;
use lateen_tests::peer::{Ending, Peer};
use lateen_tests::proxy::Engine;
use lateen_tests::upstream::{Upstream, ok};
use lateen_tests::wait::eventually;
use rustix::process::Signal;
use std::time::{Duration, Instant};

lateen_tests::on_both_engines!(
    who_asks_for_it_is_delayed_aborted_or_cut_off,
    a_body_that_is_held_back_comes_whole_and_no_faster,
    a_client_that_leaves_and_a_drain_end_a_delay,
);

const CHAOS: &str = "x-chaos: on\r\n";

fn get(path: &str, lines: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: a.example\r\n{lines}Connection: close\r\n\r\n")
}

fn who_asks_for_it_is_delayed_aborted_or_cut_off(engine: Engine) {
    let upstream = Upstream::fixed("fine");
    let example = Example::apply(engine, "faults.yaml", &[upstream.address()]);
    let fault = |kind: &str| example.proxy.metrics().sum("fault_total", &[("type", kind)]);
    let flag = |flag: &str| example.proxy.metrics().sum("response_flags_total", &[("flag", flag)]);

    // Who does not ask for it gets none.
    for path in ["/slow", "/stuck", "/failing", "/cut", "/thin"] {
        assert_eq!(example.ask(&get(path, "")).status, 200, "{path}");
        assert_eq!(example.ask(&get(path, "x-chaos: off\r\n")).status, 200, "{path}");
    }
    assert_eq!((fault("delay"), fault("abort"), fault("bandwidth")), (0.0, 0.0, 0.0));
    assert_eq!((flag("FI"), flag("DI")), (0.0, 0.0));

    let began = Instant::now();
    assert_eq!(example.ask(&get("/slow", CHAOS)).status, 200);
    assert!(began.elapsed() >= Duration::from_millis(300), "{:?}", began.elapsed());
    assert_eq!(fault("delay"), 1.0);
    example.proxy.await_metric("response_flags_total", &[("flag", "DI")], 1.0);
    assert_eq!(flag("FI"), 0.0);

    let mut failed = 0;
    let before = upstream.requests_so_far().len();
    for _ in 0..100 {
        let response = example.ask(&get("/failing", CHAOS));
        assert!(matches!(response.status, 200 | 503), "{response:?}");
        failed += usize::from(response.status == 503);
    }
    assert!((20..=80).contains(&failed), "{failed} of 100 where half should");
    assert_eq!(fault("abort"), failed as f64);
    // Counted once the answer is on its way.
    let aborted = |count: usize| {
        let flag = [("flag", "FI")];
        example.proxy.await_metric("response_flags_total", &flag, count as f64);
    };
    aborted(failed);
    assert_eq!(before, 11);
    assert_eq!(upstream.requests_so_far().len(), 100 - failed, "an aborted one reached it");

    let mut client = Peer::connect(example.listen);
    client.send(get("/cut", CHAOS));
    assert_eq!(client.read_to_end(), (Vec::new(), Ending::Reset));
    assert_eq!(fault("abort"), (failed + 1) as f64);
    aborted(failed + 1);
    assert!(upstream.requests_so_far().is_empty(), "it was not forwarded");
}

fn a_body_that_is_held_back_comes_whole_and_no_faster(engine: Engine) {
    const BYTES: usize = 200_000;
    let body: Vec<u8> = (0..BYTES).map(|at| (at % 251) as u8).collect();
    let sent = body.clone();
    let upstream =
        Upstream::answering(move |request| match request.head.value("x-how").as_deref() {
            Some("chunked") => {
                let mut response =
                    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
                for chunk in sent.chunks(7_000) {
                    response.extend(format!("{:x}\r\n", chunk.len()).as_bytes());
                    response.extend(chunk);
                    response.extend(b"\r\n");
                }
                response.extend(b"0\r\n\r\n");
                response
            }
            Some("small") => ok(&sent[..100], 100),
            _ => ok(&sent, BYTES),
        });
    let example = Example::apply(engine, "faults.yaml", &[upstream.address()]);
    for how in ["whole", "chunked"] {
        let began = Instant::now();
        let response = example.ask(&get("/thin", &format!("{CHAOS}x-how: {how}\r\n")));
        assert!(response.body == body, "{how}: {} bytes", response.body.len());
        // Half a second, less what passes as the last piece.
        assert!(began.elapsed() >= Duration::from_millis(440), "{how}: {:?}", began.elapsed());
    }
    let response = example.ask(&get("/thin", &format!("{CHAOS}x-how: small\r\n")));
    assert_eq!(response.body, &body[..100]);
    let metrics = example.proxy.metrics();
    assert_eq!(metrics.sum("fault_total", &[("type", "bandwidth")]), 3.0);
}

fn a_client_that_leaves_and_a_drain_end_a_delay(engine: Engine) {
    let upstream = Upstream::fixed("fine");
    let mut example = Example::apply(engine, "faults.yaml", &[upstream.address()]);
    let mut leaving = Peer::connect(example.listen);
    leaving.send(get("/stuck", CHAOS));
    example.proxy.await_metric("fault_total", &[("type", "delay")], 1.0);
    leaving.reset();
    example.proxy.await_metric("response_flags_total", &[("flag", "DC")], 1.0);

    let mut staying = Peer::connect(example.listen);
    staying.send(get("/stuck", CHAOS));
    example.proxy.await_metric("fault_total", &[("type", "delay")], 2.0);
    assert_eq!(upstream.connections(), 0, "a delayed request holds no connection");
    example.proxy.signal(Signal::TERM);
    let response = read_response(&mut staying, "GET");
    assert_eq!((response.status, &*response.body), (200, &b"fine"[..]));
    eventually("it ends", || example.proxy.exit_within(Duration::from_millis(50)));
}
