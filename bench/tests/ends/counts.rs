//! No request is lost: what one end sent is what the other answered, and what is told.

use std::io::Write;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;

use lateen_bench::load::summary::LoadReport;
use rustix::process::{Pid, Signal, kill_process};

use super::programs::{Canned, ENGINES, Upstream, bench, load, read_head, run};

#[test]
fn as_many_are_answered_as_are_counted() {
    for engine in ENGINES {
        let upstream = Upstream::start(&["--engine", engine]);
        let url = upstream.url("/");
        let arguments = ["-n", "5003", "-c", "7", "-t", "2", "--engine", engine];
        let loaded = load(&[&[url.as_str()], &arguments[..]].concat());
        assert_eq!(loaded.code, Some(0), "{}", loaded.text);
        assert_eq!(loaded.report.requests, 5003, "{}", loaded.text);
        assert_eq!((loaded.over(), loaded.report.connects), (5003, 7), "{}", loaded.text);
        assert_eq!(loaded.count("2xx"), 5003);
        assert_eq!(loaded.report.latency_us.as_ref().map(|latency| latency.count), Some(5003));
        assert_eq!(loaded.report.connect_us.as_ref().map(|latency| latency.count), Some(7));
        assert_eq!(upstream.stop(Signal::TERM), (5003, 7));
    }
}

#[test]
fn a_warm_up_is_in_no_figure() {
    let upstream = Upstream::start(&[]);
    let url = upstream.url("/");
    let loaded = load(&[&url, "-n", "100", "-c", "2", "--warmup", "100ms"]);
    assert_eq!((loaded.over(), loaded.count("2xx"), loaded.report.connects), (100, 100, 0));
    assert_eq!(loaded.report.connect_us, None);
    let each =
        u64::try_from(format!("GET / HTTP/1.1\r\nHost: {}\r\n\r\n", upstream.address()).len())
            .expect("short");
    assert_eq!(loaded.report.bytes_sent, 100 * each);
    assert!(upstream.stop(Signal::TERM).0 > 100);
}

#[test]
fn connections_that_the_server_ends_are_made_anew_without_an_error() {
    for engine in ENGINES {
        let upstream = Upstream::start(&["--close-every", "3", "--engine", engine]);
        let loaded = load(&[&upstream.url("/"), "-n", "300", "-c", "4", "--engine", engine]);
        assert_eq!(loaded.report.requests, 300, "{}", loaded.text);
        // The last of each connection may have had less than three.
        let connects = loaded.report.connects;
        assert!((100..=103).contains(&connects), "{}", loaded.text);
        assert_eq!(upstream.stop(Signal::TERM), (300, connects));
    }
}

#[test]
fn without_keep_alive_each_request_has_a_connection() {
    for engine in ENGINES {
        let upstream = Upstream::start(&["--engine", engine]);
        let arguments = ["-n", "500", "-c", "5", "--no-keepalive", "--engine", engine];
        let loaded = load(&[&[upstream.url("/").as_str()], &arguments[..]].concat());
        assert_eq!((loaded.report.requests, loaded.report.connects), (500, 500), "{}", loaded.text);
        assert_eq!(upstream.stop(Signal::TERM), (500, 500));
    }
}

#[test]
fn a_load_of_some_time_counts_all_that_it_sent() {
    for (engine, rate) in [("uring", None), ("epoll", None), ("uring", Some("500"))] {
        let upstream = Upstream::start(&[]);
        let url = upstream.url("/");
        let mut arguments = vec![url.as_str(), "-d", "500ms", "-c", "3", "--engine", engine];
        arguments.extend(rate.iter().flat_map(|rate| ["-R", rate]));
        let loaded = load(&arguments);
        assert_eq!(loaded.code, Some(0), "{}", loaded.text);
        assert_eq!(loaded.report.elapsed_s, 0.5, "{}", loaded.text);
        assert_eq!(loaded.over(), upstream.stop(Signal::TERM).0);
        if rate.is_some() {
            assert!(loaded.report.open_loop);
            assert_eq!(loaded.over() + loaded.report.unsent, 250, "{}", loaded.text);
        }
    }
}

#[test]
fn a_request_that_hangs_does_not_lengthen_the_load() {
    for engine in ENGINES {
        // The first connection is never answered, the others always are.
        let first = AtomicBool::new(true);
        let server = Canned::serve(move |mut stream| {
            let hangs = first.swap(false, Ordering::Relaxed);
            while read_head(&mut stream) && !hangs {
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
            }
            // Open until the client gives up.
            let _ = read_head(&mut stream);
        });
        let arguments = ["-d", "500ms", "-c", "3", "--timeout", "2s", "--engine", engine];
        let loaded = load(&[&[server.url().as_str()], &arguments[..]].concat());
        assert_eq!((loaded.over(), loaded.report.elapsed_s), (loaded.report.requests + 1, 0.5));
        assert_eq!(loaded.count("timeout"), 1, "{}", loaded.text);
        // All but those that were under way at the end.
        let in_time = loaded.report.requests_per_s * 0.5;
        let all = loaded.report.requests as f64;
        assert!((all - 2.5..all + 0.5).contains(&in_time), "{in_time}: {}", loaded.text);
    }
}

#[test]
fn an_answer_after_the_end_counts_in_latency_alone() {
    let upstream = Upstream::start(&["--delay", "1s"]);
    let loaded = load(&[&upstream.url("/"), "-d", "200ms", "-c", "2"]);
    assert_eq!((loaded.report.requests, loaded.report.requests_per_s), (2, 0.0), "{}", loaded.text);
    assert_eq!(loaded.report.latency_us.map(|latency| latency.count), Some(2));
}

#[test]
fn errors_and_right_answers_add_up() {
    let upstream = Upstream::start(&["--error-rate", "0.3"]);
    let loaded = load(&[&upstream.url("/"), "-n", "1000", "-c", "3"]);
    let (right, wrong) = (loaded.report.requests, loaded.count("status"));
    assert_eq!(right + wrong, 1000);
    assert!((200..400).contains(&wrong), "{wrong}");
    assert_eq!((loaded.count("2xx"), loaded.count("5xx")), (right, wrong));
    assert_eq!(loaded.code, Some(0), "something succeeded");
}

#[test]
fn a_first_signal_ends_the_load_with_a_report() {
    // The closed loop is ended among its answers, the open one while it waits for turns.
    for (rate, seen) in [(&[][..], 10), (&["-R", "0.1"], 1)] {
        let (sender, heads) = mpsc::channel();
        let server = Canned::serve(move |mut stream| {
            while read_head(&mut stream) {
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
                let _ = sender.send(());
            }
        });
        let child = bench()
            .args(["load", &server.url(), "-c", "2", "-d", "1h", "--json", "-"])
            .args(rate)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("the load starts");
        for _ in 0..seen {
            heads.recv().expect("a request");
        }
        kill_process(Pid::from_child(&child), Signal::INT).expect("it runs");
        let output = child.wait_with_output().expect("it ends");
        let report: LoadReport = serde_json::from_slice(&output.stdout).expect("a report");
        assert!(report.requests + 2 >= seen, "{report:?}");
        assert!(report.elapsed_s < 600.0, "{report:?}");
    }
}

#[test]
fn wrk_finds_no_fault_in_the_upstream() {
    for engine in ENGINES {
        let upstream = Upstream::start(&["--engine", engine]);
        let text = run("wrk", &["-c", "16", "-t", "1", "-d", "1s", &upstream.url("/")]);
        assert!(text.contains("requests in"), "{text}");
        assert!(!text.contains("Socket errors") && !text.contains("Non-2xx"), "{text}");
    }
}

#[test]
fn without_io_uring_both_run_on_epoll_and_say_so() {
    let forbid = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/clients/without_io_uring.py");
    let program = env!("CARGO_BIN_EXE_lateen-bench");
    let load = |engine: &str, url: &str| {
        Command::new("python3")
            .args([forbid, program, "load", url, "-n", "50", "-c", "2", "--json", "-"])
            .args(["--engine", engine])
            .output()
            .expect("python3 is needed")
    };
    let upstream = Upstream::start(&[]);
    let url = upstream.url("/");
    let output = load("auto", &url);
    let report: LoadReport = serde_json::from_slice(&output.stdout).expect("a report");
    assert_eq!((report.engine.as_str(), report.requests), ("epoll", 50));
    assert!(String::from_utf8_lossy(&output.stderr).contains("1 thread, epoll"));
    let output = load("uring", &url);
    assert_eq!(output.status.code(), Some(2));
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(text.contains("use --engine epoll"), "{text}");
}
