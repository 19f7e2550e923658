//! Start, reload of the log, drain, end; and what the admin endpoint says meanwhile.

use lateen_tests::binary;
use lateen_tests::http::{exchange, get, read_request, read_response};
use lateen_tests::peer::{Ending, Peer};
use lateen_tests::proxy::{Engine, Launch, Proxy};
use lateen_tests::tools::{Server, Wrk, curl};
use lateen_tests::upstream::{Upstream, ok, refusing};
use lateen_tests::wait::{PATIENCE, eventually, settled, within};
use rustix::process::{Pid, Signal, kill_process};
use std::fs;
use std::io::{BufRead, BufReader};
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::sync::{Mutex, mpsc};
use std::thread;
use std::time::{Duration, Instant};

lateen_tests::on_both_engines!(
    a_drain_under_load_fails_no_request,
    a_drain_finishes_what_is_in_flight,
    a_drain_does_not_wait_for_silent_clients,
    a_drain_delay_keeps_accepting,
    a_drain_that_takes_too_long_says_how_many_were_cut,
    what_a_drain_cuts_off_is_logged,
    what_a_drain_cuts_off_of_tcp_is_logged,
    a_second_signal_ends_it_at_once,
    a_signal_right_after_the_first_line_is_a_drain,
    the_access_log_is_reopened,
    the_admin_endpoint_answers,
    every_metric_of_the_contract_is_there,
    nothing_is_left_open_after_the_clients_are_gone,
);

const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";

/// An upstream that answers only when the test says so, and tells when it has a request.
fn held() -> (Upstream, mpsc::Receiver<()>, mpsc::Sender<()>) {
    let (arrived, has_arrived) = mpsc::channel();
    let (go, wait) = mpsc::channel::<()>();
    let wait = Mutex::new(wait);
    let upstream = Upstream::scripted(move |mut peer, connection| {
        while read_request(&mut peer, connection).is_some() {
            if arrived.send(()).is_err() || wait.lock().expect("one waits").recv().is_err() {
                return;
            }
            peer.send(ok("late", 4));
        }
    });
    (upstream, has_arrived, go)
}

fn a_drain_under_load_fails_no_request(engine: Engine) {
    let server = Server::nginx("hello");
    let mut proxy = Launch::new(engine, &[server.address()]).workers(2).start();
    let wrk = Wrk::start(&proxy.url("/"), 32, 3);
    eventually("the load runs", || {
        (proxy.metrics().sum("request_total", &[]) > 1000.0).then_some(())
    });
    proxy.signal(Signal::TERM);
    assert_eq!(proxy.exit_code(), 0, "{}", proxy.said());
    let load = wrk.finish();
    // Once the listener is closed, wrk's new connections are refused: these are write errors. A
    // request that was taken and not answered would be a read error.
    let failed = load.not_2xx_or_3xx + load.read_errors + load.timeouts;
    assert_eq!(failed, 0, "{load:?}");
    assert!(load.requests > 1000, "{load:?}");
}

fn a_drain_finishes_what_is_in_flight(engine: Engine) {
    let (upstream, arrived, go) = held();
    let mut proxy = Proxy::start(engine, &[upstream.address()]);
    let mut idle = Peer::connect(proxy.address());
    idle.send(GET);
    arrived.recv().expect("a request");
    go.send(()).expect("the upstream waits");
    read_response(&mut idle, "GET");
    let mut busy = Peer::connect(proxy.address());
    busy.send(GET);
    arrived.recv().expect("a request");

    assert_eq!(proxy.ask_admin("/ready").status, 200);
    proxy.signal(Signal::TERM);
    eventually("/ready turns 503", || (proxy.ask_admin("/ready").status == 503).then_some(()));
    assert_eq!(proxy.ask_admin("/live").status, 200, "a draining process is alive");
    // A client that has nothing in flight is let go at once.
    assert_eq!(idle.ending(), Ending::Closed);
    eventually("the listener closes", || {
        TcpStream::connect(proxy.address()).is_err().then_some(())
    });
    go.send(()).expect("the upstream waits");
    let response = read_response(&mut busy, "GET");
    assert_eq!((response.status, response.body.as_slice()), (200, b"late".as_slice()));
    assert!(response.head.lists("connection", "close"), "{:?}", response.head);
    assert_eq!(busy.ending(), Ending::Closed);
    assert_eq!(proxy.exit_code(), 0, "{}", proxy.said());
    // What happened last is in the log as well.
    assert_eq!(proxy.access_log(2)[1]["status"], 200);
}

fn a_drain_does_not_wait_for_silent_clients(engine: Engine) {
    let upstream = Upstream::fixed("x");
    let mut proxy = Launch::new(engine, &[upstream.address()]).detecting_soon().start();
    let mut silent = [0; 3].map(|_| Peer::connect(proxy.address()));
    // The detection has given up on all of them once each has its upstream.
    proxy.await_metric("tcp_open_connections", &[], 6.0);
    let began = Instant::now();
    proxy.signal(Signal::TERM);
    assert_eq!(proxy.exit_code(), 0, "{}", proxy.said());
    // Below the 30 s that the drain may take.
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
    assert!(silent.iter_mut().all(|client| client.ending() != Ending::Open));
}

fn a_drain_delay_keeps_accepting(engine: Engine) {
    let upstream = Upstream::fixed("x");
    let mut proxy = Launch::new(engine, &[upstream.address()]).with("--drain-delay", "3s").start();
    let began = Instant::now();
    proxy.signal(Signal::TERM);
    eventually("/ready turns 503", || (proxy.ask_admin("/ready").status == 503).then_some(()));
    assert_eq!(get(proxy.address(), "/").status, 200, "new connections are taken meanwhile");
    assert_eq!(proxy.exit_code(), 0, "{}", proxy.said());
    assert!(began.elapsed() >= Duration::from_secs(3), "{:?}", began.elapsed());
}

fn a_drain_that_takes_too_long_says_how_many_were_cut(engine: Engine) {
    let (upstream, arrived, _go) = held();
    let mut proxy =
        Launch::new(engine, &[upstream.address()]).with("--drain-timeout", "300ms").start();
    // A worker's clock stands while it works: once a request has arrived, it may be behind.
    let began = Instant::now();
    let mut clients = [0; 2].map(|_| Peer::connect(proxy.address()));
    for client in &mut clients {
        client.send(GET);
        arrived.recv().expect("a request");
    }
    proxy.signal(Signal::TERM);
    assert_eq!(proxy.exit_code(), 3, "{}", proxy.said());
    assert!(began.elapsed() >= Duration::from_millis(300), "{:?}", began.elapsed());
    let said = proxy.said();
    let last = said.lines().last().unwrap_or_default();
    let mut words = last.split(|c: char| !c.is_alphanumeric());
    assert!(words.any(|word| word == "2"), "how many were cut: {said}");
    assert!(clients.iter_mut().all(|client| client.ending() != Ending::Open));
}

fn what_a_drain_cuts_off_is_logged(engine: Engine) {
    let switching =
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: test\r\n\r\n";
    let upstream = Upstream::scripted(move |mut peer, connection| {
        while let Some(request) = read_request(&mut peer, connection) {
            match request.target() {
                "/begun" => peer.send(ok("12345", 10)),
                "/upgrade" => peer.send(format!("{switching}hi")),
                _ => {}
            }
        }
    });
    let mut proxy =
        Launch::new(engine, &[upstream.address()]).with("--drain-timeout", "300ms").start();
    let upgrade = "Connection: Upgrade\r\nUpgrade: test\r\n";
    let mut clients = ["/waiting", "/begun", "/upgrade"].map(|target| {
        let mut client = Peer::connect(proxy.address());
        let more = if target == "/upgrade" { upgrade } else { "" };
        client.send(format!("GET {target} HTTP/1.1\r\nHost: a\r\n{more}\r\n"));
        client
    });
    clients[1].read_until(b"12345").expect("a part of a body");
    clients[2].read_until(b"\r\n\r\nhi").expect("the tunnel's first bytes");
    // A head that is not whole is a line, but no request.
    let mut partial = Peer::connect(proxy.address());
    partial.send("GET /partial HTTP/1.1\r\n");
    // Each has its upstream but the last.
    proxy.await_metric("tcp_open_connections", &[], 7.0);
    proxy.signal(Signal::TERM);
    assert_eq!(proxy.exit_code(), 3, "{}", proxy.said());
    for client in clients.iter_mut().chain([&mut partial]) {
        assert_eq!(client.ending(), Ending::Reset, "a FIN would pass for an end in order");
    }

    let lines = proxy.access_log(4);
    assert!(lines.iter().all(|line| line["flags"] == "LR"), "{lines:?}");
    for (path, status, bytes) in [("/waiting", 0, 0), ("/begun", 200, 5), ("/upgrade", 101, 2)] {
        let line = lines.iter().find(|line| line["path"] == path).expect("a line for each");
        assert_eq!((&line["status"], &line["response_bytes"]), (&status.into(), &bytes.into()));
        assert_eq!(line["upstream"], upstream.address().to_string(), "{line}");
        assert!(line["total_us"].as_u64() >= Some(300_000), "{line}");
    }
}

fn what_a_drain_cuts_off_of_tcp_is_logged(engine: Engine) {
    let upstream = Upstream::scripted(|mut peer, _| {
        assert_eq!(peer.read_exactly(5), b"hello");
        peer.send("hi");
        peer.drain();
    });
    let mut proxy = Launch::new(engine, &[upstream.address()])
        .with("--protocol", "tcp")
        .with("--drain-timeout", "300ms")
        .start();
    let mut client = Peer::connect(proxy.address());
    client.send("hello");
    assert_eq!(client.read_exactly(2), b"hi");
    proxy.signal(Signal::TERM);
    assert_eq!(proxy.exit_code(), 3, "{}", proxy.said());
    assert_eq!(client.ending(), Ending::Reset);
    let line = proxy.only_access_log_line();
    assert_eq!((&line["version"], &line["flags"]), (&"TCP".into(), &"LR".into()));
    assert_eq!((&line["request_bytes"], &line["response_bytes"]), (&5.into(), &2.into()));
    assert_eq!(line["upstream"], upstream.address().to_string());
}

fn a_second_signal_ends_it_at_once(engine: Engine) {
    let (upstream, arrived, _go) = held();
    let mut proxy = Proxy::start(engine, &[upstream.address()]);
    let mut client = Peer::connect(proxy.address());
    client.send(GET);
    arrived.recv().expect("a request");
    proxy.signal(Signal::TERM);
    eventually("/ready turns 503", || (proxy.ask_admin("/ready").status == 503).then_some(()));
    proxy.signal(Signal::TERM);
    // Far below the 30 s that the drain may take.
    assert!(proxy.exit_within(Duration::from_secs(10)).is_some(), "still there");
}

fn a_signal_right_after_the_first_line_is_a_drain(engine: Engine) {
    let (_bound, upstream) = refusing();
    let upstream = upstream.to_string();
    for attempt in 0..20 {
        let mut child = Command::new(binary::proxy())
            .args(["quick", "--engine", engine.name(), "--workers", "1"])
            .args(["--listen", "127.0.0.1:0", "--upstream", &upstream])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("the proxy's binary runs");
        // Kept to the end, because the proxy may have more to say.
        let mut stdout = BufReader::new(child.stdout.take().expect("stdout is piped"));
        let mut line = String::new();
        stdout.read_line(&mut line).expect("the first line is text");
        assert!(line.starts_with("listening "), "{line:?}");
        kill_process(Pid::from_child(&child), Signal::TERM).expect("the proxy still runs");
        let status = within(PATIENCE, || child.try_wait().expect("it is our child"));
        // It is gone by now, unless it does not heed the signal.
        let _ = child.kill();
        child.wait().expect("it is our child");
        let status = status.unwrap_or_else(|| panic!("attempt {attempt}: still running"));
        assert_eq!(status.code(), Some(0), "attempt {attempt}: {status}");
    }
}

fn the_access_log_is_reopened(engine: Engine) {
    let upstream = Upstream::fixed("x");
    let proxy = Proxy::start(engine, &[upstream.address()]);
    assert_eq!(get(proxy.address(), "/before").status, 200);
    proxy.access_log(1);
    let moved = proxy.access_log_path().with_extension("1");
    fs::rename(proxy.access_log_path(), &moved).expect("the log can be moved");
    proxy.signal(Signal::USR1);
    eventually("a new log", || proxy.access_log_path().exists().then_some(()));
    assert_eq!(get(proxy.address(), "/after").status, 200);
    assert_eq!(proxy.only_access_log_line()["path"], "/after");
    let old = fs::read_to_string(moved).expect("the old log is still there");
    assert!(old.lines().count() == 1 && old.contains("\"/before\""), "{old}");
}

fn the_admin_endpoint_answers(engine: Engine) {
    let upstream = Upstream::fixed("x");
    let proxy = Launch::new(engine, &[upstream.address()]).with("--idle-timeout", "77s").start();
    for (target, status, content) in [
        ("/live", 200, ""),
        ("/ready", 200, ""),
        ("/metrics", 200, "request_total"),
        ("/version", 200, env!("CARGO_PKG_VERSION")),
        ("/config_dump", 200, "77"),
        ("/nothing", 404, ""),
    ] {
        let response = proxy.ask_admin(target);
        let text = String::from_utf8_lossy(&response.body).into_owned();
        assert_eq!(response.status, status, "{target}: {text}");
        assert!(text.contains(content), "{content:?} in {target}: {text}");
    }
    let config: serde_json::Value =
        serde_json::from_slice(&proxy.ask_admin("/config_dump").body).expect("the dump is JSON");
    assert!(config.to_string().contains(&upstream.address().to_string()), "{config}");

    let url = |target: &str| format!("http://{}{target}", proxy.admin());
    let code = ["-o", "/dev/null", "-w", "%{http_code}"];
    let post = curl(code.into_iter().chain(["--data", "x", &url("/metrics")]));
    assert_eq!(post.expect_success(), "405");
    assert!(curl(["--head", &url("/live")]).expect_success().starts_with("HTTP/1.1 200"));
    // A client that says nothing does not hold up another, and neither holds up the data path.
    let _silent = [0; 4].map(|_| Peer::connect(proxy.admin()));
    assert_eq!(proxy.ask_admin("/live").status, 200);
    assert_eq!(get(proxy.address(), "/").status, 200);
}

fn every_metric_of_the_contract_is_there(engine: Engine) {
    let upstream = Upstream::fixed("x");
    let proxy = Proxy::start(engine, &[upstream.address()]);
    assert_eq!(get(proxy.address(), "/").status, 200);
    proxy.await_metric(
        "response_total",
        &[("status_class", "2xx"), ("classification", "success")],
        1.0,
    );
    let metrics = proxy.metrics();
    let missing: Vec<&str> = [
        "request_total",
        "response_total",
        "response_latency_ms_bucket",
        "response_latency_ms_sum",
        "response_latency_ms_count",
        "response_flags_total",
        "tcp_open_connections",
        "tcp_open_total",
        "tcp_close_total",
        "tcp_read_bytes_total",
        "tcp_write_bytes_total",
        "pool_hit_total",
        "pool_miss_total",
        "pool_evicted_total",
        "bytes_spliced_total",
        "bytes_copied_total",
        "ring_enter_total",
        "ring_sqe_total",
        "ring_cqe_total",
        "ring_buffers_free",
        "worker_loop_us_bucket",
        "worker_stalled_total",
    ]
    .into_iter()
    .filter(|name| !metrics.has(name))
    .collect();
    assert!(missing.is_empty(), "{missing:?} in {metrics:?}");
    let text = String::from_utf8(proxy.ask_admin("/metrics").body).expect("metrics are text");
    for start in ["build_info", "process_"] {
        assert!(text.lines().any(|line| line.starts_with(start)), "no metric {start}…");
    }
    assert!(text.contains(&format!("\"{}\"", engine.name())), "the engine is a label somewhere");
    let buckets: Vec<f64> =
        metrics.all("response_latency_ms_bucket").map(|sample| sample.value).collect();
    assert!(buckets.is_sorted() && buckets.last() == Some(&1.0), "{buckets:?}");
}

fn nothing_is_left_open_after_the_clients_are_gone(engine: Engine) {
    let upstream = Upstream::answering(|request| match request.target() {
        "/large" => ok(vec![b'x'; 1 << 20], 1 << 20),
        _ => ok("x", 1),
    });
    let proxy =
        Launch::new(engine, &[upstream.address()]).with("--pool-idle-timeout", "200ms").start();
    // What is kept for later use, such as pipes, is there after the first round; a leak grows.
    leave_in_the_middle(&proxy);
    let count = || proxy.descriptors();
    let before = settled("descriptors", Duration::from_millis(300), count);
    for _ in 0..3 {
        leave_in_the_middle(&proxy);
    }
    let slack = LEAVING / 2;
    let given_back = within(PATIENCE, || (count() <= before + slack).then_some(()));
    assert!(given_back.is_some(), "{before} descriptors became {}", count());
}

const LEAVING: usize = 20;

/// Clients that reset their connection in the middle of a large response, after a few good ones.
fn leave_in_the_middle(proxy: &Proxy) {
    thread::scope(|scope| {
        for _ in 0..LEAVING {
            scope.spawn(|| {
                let mut client = Peer::connect(proxy.address());
                for target in ["/", "/large", "/"] {
                    exchange(&mut client, &format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n"));
                }
                client.send("GET /large HTTP/1.1\r\nHost: a\r\n\r\n");
                client.read_until(b"\r\n\r\n").expect("a head");
                client.reset();
            });
        }
    });
    proxy.await_metric("tcp_open_connections", &[], 0.0);
}
