//! `deploy/examples/rate-limit-bytes.yaml`: bodies and tunnels come whole, and no faster than their limits say.

use lateen_tests::example::Example;
use lateen_tests::http::read_response;
use lateen_tests::metrics::Scrape;
use lateen_tests::peer::{Ending, Peer};
use lateen_tests::proxy::Engine;
use lateen_tests::upstream::{Upstream, ok};
use lateen_tests::wait::eventually;
use rustix::process::Signal;
use std::sync::Barrier;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

lateen_tests::on_both_engines!(
    two_downloads_share_what_there_is,
    a_body_of_unknown_length_is_held_to_it_too,
    uploads_wait_small_ones_too,
    a_delay_is_no_part_of_a_try,
    a_tunnel_is_held_to_it_both_ways,
    who_leaves_while_its_body_waits_is_noticed,
    a_drain_lets_a_body_finish,
);

const DOWNLOAD: &str = "GET /large HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n\r\n";

fn body(bytes: usize) -> Vec<u8> {
    (0..bytes).map(|at| (at % 251) as u8).collect()
}

/// An upstream that answers everything with a body of so many bytes.
fn serving(bytes: usize) -> Upstream {
    let body = body(bytes);
    Upstream::answering(move |_| ok(&body, bytes))
}

fn passed(metrics: &Scrape, outcome: &str) -> f64 {
    metrics.sum("rate_limit_total", &[("unit", "byte"), ("outcome", outcome)])
}

/// Waits until so many bytes were counted as passed; some of them waited, and those waits were counted.
fn assert_counted(example: &Example, bytes: usize) {
    let counted = |metrics: &Scrape| passed(metrics, "admitted") + passed(metrics, "limited");
    eventually("all bytes are counted", || {
        (counted(&example.proxy.metrics()) >= bytes as f64).then_some(())
    });
    let metrics = example.proxy.metrics();
    assert_eq!(counted(&metrics), bytes as f64);
    assert!(passed(&metrics, "limited") > 0.0);
    assert!(metrics.sum("rate_limit_delay_total", &[]) > 0.0);
    // All but its burst; in this time it gains nothing.
    assert_eq!(passed(&metrics, "dry_run"), (bytes - 1_024) as f64);
    let refused = [("unit", "request"), ("outcome", "limited")];
    assert_eq!(metrics.sum("rate_limit_total", &refused), 0.0);
    assert_eq!(metrics.sum("response_flags_total", &[("flag", "RL")]), 0.0);
}

/// Time for so many bytes at `rate`, after a burst that was there.
fn at_least(bytes: usize, burst: usize, rate: usize) -> Duration {
    Duration::from_millis(((bytes - burst) * 1_000 / rate) as u64)
}

fn two_downloads_share_what_there_is(engine: Engine) {
    // Seconds of it: one may begin half a second after the other.
    const BYTES: usize = 8_000_000;
    let upstream = serving(BYTES);
    let example = Example::apply_on(engine, 2, "rate-limit-bytes.yaml", &[upstream.address()]);
    let both_begin = Barrier::new(2);
    let received = [AtomicUsize::new(0), AtomicUsize::new(0)];
    let began = Instant::now();
    thread::scope(|scope| {
        for (own, other) in [(0, 1), (1, 0)] {
            let (received, example, both_begin) = (&received, &example, &both_begin);
            scope.spawn(move || {
                let mut client = Peer::connect(example.listen);
                client.send(DOWNLOAD);
                client.read_until(b"\r\n\r\n").expect("a head");
                both_begin.wait();
                let mut got = Vec::new();
                while got.len() < BYTES {
                    let some = client.read_some();
                    assert!(!some.is_empty(), "it ended after {} bytes", got.len());
                    got.extend(some);
                    received[own].store(got.len(), Ordering::Release);
                }
                assert!(got == body(BYTES));
                // Neither had to wait until the other was through.
                let of_other = received[other].load(Ordering::Acquire);
                assert!(of_other > BYTES / 4, "the other has {of_other} bytes");
            });
        }
    });
    let least = at_least(2 * BYTES, 1_000_000, 4_000_000);
    assert!(began.elapsed() >= least, "{:?} of {least:?}", began.elapsed());
    assert_counted(&example, 2 * BYTES);
    let spliced = example.proxy.metrics().sum("bytes_spliced_total", &[]);
    assert!(spliced > 0.0, "large pieces are not copied");
}

fn a_body_of_unknown_length_is_held_to_it_too(engine: Engine) {
    const BYTES: usize = 2_000_000;
    let sent = body(BYTES);
    let upstream = Upstream::answering(move |_| {
        let mut response = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
        for chunk in sent.chunks(7_000) {
            response.extend(format!("{:x}\r\n", chunk.len()).as_bytes());
            response.extend(chunk);
            response.extend(b"\r\n");
        }
        response.extend(b"0\r\n\r\n");
        response
    });
    let example = Example::apply(engine, "rate-limit-bytes.yaml", &[upstream.address()]);
    let began = Instant::now();
    let response = example.ask(DOWNLOAD);
    assert!(response.body == body(BYTES), "{} bytes", response.body.len());
    let least = at_least(BYTES, 1_000_000, 4_000_000);
    assert!(began.elapsed() >= least, "{:?} of {least:?}", began.elapsed());
    assert_counted(&example, BYTES);
}

fn uploads_wait_small_ones_too(engine: Engine) {
    let upstream = Upstream::answering(|_| ok("", 0));
    let example = Example::apply_on(engine, 2, "rate-limit-bytes.yaml", &[upstream.address()]);
    let upload = |bytes: usize| {
        let mut client = Peer::connect(example.listen);
        client.send(format!(
            "POST / HTTP/1.1\r\nHost: a.example\r\nContent-Length: {bytes}\r\nConnection: close\r\n\r\n"
        ));
        client.send(body(bytes));
        assert_eq!(read_response(&mut client, "POST").status, 200);
        assert!(upstream.request().body == body(bytes), "it came whole");
    };
    let began = Instant::now();
    upload(500_000);
    for _ in 0..10 {
        upload(4_000);
    }
    let least = at_least(540_000, 100_000, 400_000);
    assert!(began.elapsed() >= least, "{:?} of {least:?}", began.elapsed());
    assert_counted(&example, 540_000);
}

fn a_delay_is_no_part_of_a_try(engine: Engine) {
    // Both ways are delayed for longer than a try may last.
    const UPLOADED: usize = 1_300_000;
    const BYTES: usize = 13_000_000;
    let upstream = serving(BYTES);
    let example = Example::apply(engine, "rate-limit-bytes.yaml", &[upstream.address()]);
    example.change("  rateLimits:", "  timeouts: {backendRequest: 2s}\n  rateLimits:");
    let began = Instant::now();
    let mut client = Peer::connect(example.listen);
    client.send(format!(
        "POST / HTTP/1.1\r\nHost: a.example\r\nContent-Length: {UPLOADED}\r\nConnection: close\r\n\r\n"
    ));
    client.send(body(UPLOADED));
    assert!(read_response(&mut client, "POST").body == body(BYTES));
    let least = at_least(UPLOADED, 100_000, 400_000) + at_least(BYTES, 1_000_000, 4_000_000);
    assert!(began.elapsed() >= least, "{:?} of {least:?}", began.elapsed());
    let late = [("flag", "UT")];
    assert_eq!(example.proxy.metrics().sum("response_flags_total", &late), 0.0);
}

fn a_tunnel_is_held_to_it_both_ways(engine: Engine) {
    let (up, down) = (300_000, 2_000_000);
    let upstream = Upstream::scripted(move |mut peer, _| {
        assert!(peer.read_exactly(up) == vec![0; up]);
        peer.send(body(down));
        assert_eq!(peer.read_to_end(), (Vec::new(), Ending::Closed));
    });
    let example = Example::apply_on(engine, 2, "rate-limit-bytes.yaml", &[upstream.address()]);
    let began = Instant::now();
    let mut client = Peer::connect(example.listen);
    client.send(vec![0; up]);
    assert!(client.read_exactly(down) == body(down));
    let least = at_least(up, 100_000, 400_000) + at_least(down, 1_000_000, 4_000_000);
    assert!(began.elapsed() >= least, "{:?} of {least:?}", began.elapsed());
    // Its end passes as any other.
    client.half_close();
    assert_eq!(client.read_to_end(), (Vec::new(), Ending::Closed));
    assert_counted(&example, up + down);
}

fn who_leaves_while_its_body_waits_is_noticed(engine: Engine) {
    let upstream = serving(100_000_000);
    let example = Example::apply(engine, "rate-limit-bytes.yaml", &[upstream.address()]);
    let mut leaving = Peer::connect(example.listen);
    leaving.send(DOWNLOAD);
    leaving.read_until(b"\r\n\r\n").expect("a head");
    example.proxy.await_metric("tcp_open_connections", &[("side", "upstream")], 1.0);
    eventually("it waits", || {
        (example.proxy.metrics().sum("rate_limit_delay_total", &[]) > 0.0).then_some(())
    });
    leaving.reset();
    example.proxy.await_metric("response_flags_total", &[("flag", "DC")], 1.0);
    example.proxy.await_metric("tcp_open_connections", &[("side", "upstream")], 0.0);

    let mut leaving = Peer::connect(example.listen);
    leaving.send("POST / HTTP/1.1\r\nHost: a.example\r\nContent-Length: 100000000\r\n\r\n");
    leaving.send(body(200_000));
    example.proxy.await_metric("tcp_open_connections", &[("side", "upstream")], 1.0);
    leaving.reset();
    example.proxy.await_metric("response_flags_total", &[("flag", "DC")], 2.0);
    example.proxy.await_metric("tcp_open_connections", &[("side", "upstream")], 0.0);
}

fn a_drain_lets_a_body_finish(engine: Engine) {
    const BYTES: usize = 3_000_000;
    let upstream = serving(BYTES);
    let mut example = Example::apply(engine, "rate-limit-bytes.yaml", &[upstream.address()]);
    let mut client = Peer::connect(example.listen);
    client.send(DOWNLOAD);
    client.read_until(b"\r\n\r\n").expect("a head");
    example.proxy.signal(Signal::TERM);
    assert!(client.read_exactly(BYTES) == body(BYTES));
    eventually("it ends", || example.proxy.exit_within(Duration::from_millis(50)));
}
