//! The upstream as curl and bare sockets see it.

use std::io::{Read, Write};
use std::net::TcpStream;

use rustix::process::Signal;

use super::programs::{ENGINES, Upstream, curl, load};

#[test]
fn curl_gets_what_the_path_asks_for() {
    for engine in ENGINES {
        let upstream = Upstream::start(&["--engine", engine, "--body-bytes", "70000"]);
        for (path, bytes) in [
            ("/", "70000"),
            ("/words", "70000"),
            ("/0", "0"),
            ("/65536", "65536"),
            ("/65537?a=b", "65537"),
            ("/200000000", "200000000"),
        ] {
            let url = upstream.url(path);
            let sized = curl(&["-o", "/dev/null", "-w", "%{http_code} %{size_download}", &url]);
            assert_eq!(sized, format!("200 {bytes}"), "{path}");
        }
        let head = curl(&["-I", &upstream.url("/123")]);
        assert!(head.contains("Content-Length: 123\r\n"), "{head}");
        let code = ["-o", "/dev/null", "-w", "%{http_code}"];
        assert_eq!(curl(&[&code[..], &[&upstream.url("/1073741825")]].concat()), "400");
    }
}

#[test]
fn curl_sends_bodies_of_any_size_and_form() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("body");
    std::fs::write(&file, vec![b'y'; 3_000_000]).expect("written");
    let body = format!("@{}", file.display());
    for engine in ENGINES {
        let upstream = Upstream::start(&["--engine", engine]);
        let url = upstream.url("/5");
        for extra in [
            &["-H", "Expect: 100-continue"][..],
            &["-H", "Expect:"],
            &["-H", "Transfer-Encoding: chunked", "-H", "Expect:"],
        ] {
            // Twice, so that the second shows where the first ended.
            let answers = curl(&[&["--data-binary", &body], extra, &[&url, &url]].concat());
            assert_eq!(answers, "xxxxxxxxxx", "{extra:?}");
        }
        assert_eq!(upstream.stop(Signal::INT).0, 6);
    }
}

/// Sends bytes and reads up to the end that the upstream makes of it.
fn exchange(upstream: &Upstream, request: &[u8]) -> String {
    let mut stream = TcpStream::connect(upstream.address()).expect("it accepts");
    stream.write_all(request).expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an end");
    answer
}

#[test]
fn requests_that_come_together_are_answered_one_by_one() {
    for engine in ENGINES {
        let upstream = Upstream::start(&["--engine", engine]);
        let answers = exchange(
            &upstream,
            b"GET /1 HTTP/1.1\r\n\r\nPOST /2 HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc\
              GET /3 HTTP/1.1\r\nConnection: close\r\n\r\n",
        );
        for bytes in 1..=3 {
            assert!(answers.contains(&format!("Content-Length: {bytes}\r\n")), "{answers}");
        }
        assert!(answers.ends_with("Connection: close\r\n\r\nxxx"), "{answers}");
        assert_eq!(upstream.stop(Signal::TERM), (3, 1));
    }
}

#[test]
fn what_is_no_request_is_refused() {
    let upstream = Upstream::start(&[]);
    for request in [
        &b"\x16\x03\x01\x00\x05hello\r\n\r\n"[..],
        b"GET / HTTP/9.9\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    ] {
        let answer = exchange(&upstream, request);
        assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    }
    assert_eq!(upstream.stop(Signal::TERM).0, 0);
}

#[test]
fn it_misbehaves_as_it_is_told() {
    let upstream = Upstream::start(&["--delay", "50ms", "--jitter", "10ms"]);
    let took = curl(&["-o", "/dev/null", "-w", "%{time_total}", &upstream.url("/")]);
    assert!(took.parse::<f64>().expect("seconds") >= 0.05, "{took}");

    let upstream = Upstream::start(&["--error-rate", "1"]);
    let code = ["-o", "/dev/null", "-w", "%{http_code}"];
    assert_eq!(curl(&[&code[..], &[&upstream.url("/5")]].concat()), "503");

    let upstream = Upstream::start(&["--close-every", "2"]);
    let (url, heads) = (upstream.url("/"), ["-D", "-", "-o", "/dev/null"]);
    let heads =
        curl(&[&heads[..], &[&url, "--next", "-sS", "-D", "-", "-o", "/dev/null", &url]].concat());
    assert_eq!(heads.matches("Connection: close").count(), 1, "{heads}");
}

#[test]
fn many_threads_share_one_port() {
    for engine in ENGINES {
        let upstream = Upstream::start(&["--threads", "3", "--engine", engine]);
        let url = upstream.url("/");
        let loaded = load(&[&url, "-n", "3000", "-c", "30"]);
        assert_eq!(loaded.report.requests, 3000, "{}", loaded.text);
        assert_eq!(upstream.stop(Signal::TERM), (3000, 30));
    }
}

#[test]
fn slots_are_the_whole_process_s_and_who_waits_is_served_in_order() {
    const SLOTS: u64 = 4;
    // Longer than a machine stalls.
    const DELAY_MS: u64 = 400;
    for (engine, threads) in [("uring", "1"), ("epoll", "2"), ("uring", "2")] {
        let slots = SLOTS.to_string();
        let delay = format!("{DELAY_MS}ms");
        let upstream = Upstream::start(&[
            "--engine",
            engine,
            "--threads",
            threads,
            "--slots",
            &slots,
            "--delay",
            &delay,
        ]);
        // 16 at once: four rounds, whichever threads their connections fell to.
        let url = upstream.url("/");
        let loaded = load(&[&url, "-n", "16", "-c", "16", "-t", "2", "--engine", engine]);
        assert_eq!(loaded.report.requests, 16, "{}", loaded.text);
        let latency = loaded.report.latency_us.as_ref().expect("answers");
        let round_us = 1e3 * DELAY_MS as f64;
        assert!(latency.max >= 3.5 * round_us, "{}", loaded.text);
        // Half of them were in the first two rounds.
        assert!(latency.p50 < 3.0 * round_us, "{}", loaded.text);
        // Closed loop: as many wait at all times, and the slots are never short of work.
        let loaded = load(&[&url, "-d", "4s", "-c", "16", "-t", "2", "--engine", engine]);
        let most = SLOTS as f64 * 1e3 / DELAY_MS as f64;
        let rate = loaded.report.requests_per_s;
        assert!(rate <= most + SLOTS as f64, "{rate}/s of {most}: {}", loaded.text);
        assert!(rate > 0.6 * most, "{rate}/s of {most}: {}", loaded.text);
    }
}

#[test]
fn what_was_refused_is_told_apart_in_the_latency() {
    let upstream = Upstream::start(&["--delay", "5ms", "--error-rate", "0.5"]);
    let loaded = load(&[&upstream.url("/"), "-n", "200", "-c", "2", "--expect-status", "2xx"]);
    let count = |of: &Option<lateen_bench::load::summary::Latency>| of.as_ref().map(|it| it.count);
    let right = loaded.report.requests;
    assert!((50..150).contains(&right), "{}", loaded.text);
    assert_eq!(count(&loaded.report.latency_us), Some(200));
    assert_eq!(count(&loaded.report.right_latency_us), Some(right));
    assert!(loaded.text.contains("of right"), "{}", loaded.text);
    let expected = ["-n", "20", "-c", "2", "--expect-status", "200,503"];
    let all_right = load(&[&[upstream.url("/").as_str()], &expected[..]].concat());
    assert_eq!(count(&all_right.report.right_latency_us), None);
}
