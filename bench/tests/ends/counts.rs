//! No request is lost: what one end sent is what the other answered, and what is told.

use rustix::process::Signal;

use super::programs::{ENGINES, Upstream, bench, load, run};

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
        assert!(loaded.report.elapsed_s >= 0.5, "{}", loaded.text);
        assert_eq!(loaded.over(), upstream.stop(Signal::TERM).0);
        if rate.is_some() {
            assert!(loaded.report.open_loop);
            assert_eq!(loaded.over() + loaded.report.unsent, 250, "{}", loaded.text);
        }
    }
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
    let upstream = Upstream::start(&[]);
    let url = upstream.url("/");
    for rate in [&[][..], &["-R", "0.1", "-c", "2"]] {
        let child = bench()
            .args(["load", &url, "-d", "1h", "--warmup", "0s", "--json", "-"])
            .args(rate)
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::null())
            .spawn()
            .expect("the load starts");
        // It runs once the upstream sees requests; that it does is the child's own affair.
        std::thread::sleep(std::time::Duration::from_millis(500));
        rustix::process::kill_process(rustix::process::Pid::from_child(&child), Signal::INT)
            .expect("it runs");
        let output = child.wait_with_output().expect("it ends");
        let report: lateen_bench::load::summary::LoadReport =
            serde_json::from_slice(&output.stdout).expect("a report");
        assert!(report.requests > 0 && report.elapsed_s < 60.0, "{report:?}");
        assert!(output.status.success());
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
