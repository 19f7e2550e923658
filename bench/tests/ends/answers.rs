//! Answers in every form that HTTP/1.1 has, each read to its end.

use std::collections::BTreeSet;
use std::fs;
use std::net::IpAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use super::programs::{Canned, ENGINES, Upstream, load, start_on_free_port};

#[test]
fn every_framing_is_read_to_its_end() {
    let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n\
                   5\r\nhello\r\n6;a=b\r\n world\r\n0\r\nT: x\r\n\r\n";
    for (answer, closes, method, body_bytes, connects) in [
        ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", false, "GET", "5", 1),
        (chunked, false, "GET", "11", 1),
        ("HTTP/1.1 200 OK\r\n\r\nuntil the end", true, "GET", "13", 10),
        ("HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok", true, "GET", "2", 10),
        ("HTTP/1.1 204 No Content\r\n\r\n", false, "GET", "0", 1),
        ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", false, "HEAD", "0", 1),
        (
            "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
            false,
            "GET",
            "2",
            1,
        ),
        (
            "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok",
            true,
            "GET",
            "2",
            10,
        ),
    ] {
        let server = Canned::start(answer.as_bytes(), closes);
        for engine in ENGINES {
            let loaded = load(&[
                &server.url(),
                "-n",
                "10",
                "-c",
                "1",
                "-X",
                method,
                "--expect-bytes",
                body_bytes,
                "--engine",
                engine,
            ]);
            assert_eq!(loaded.report.requests, 10, "{answer}: {}", loaded.text);
            assert_eq!(loaded.report.connects, connects, "{answer}: {}", loaded.text);
            assert_eq!(loaded.report.bytes_received, 10 * answer.len() as u64, "{answer}");
        }
    }
}

#[test]
fn bodies_of_any_size_come_whole_and_go_whole() {
    for engine in ENGINES {
        let upstream = Upstream::start(&["--engine", engine]);
        for bytes in ["0", "1", "8192", "65537", "5000000"] {
            let url = upstream.url(&format!("/{bytes}"));
            let common = ["-n", "6", "-c", "2", "--engine", engine, "--expect-bytes", bytes];
            let loaded = load(&[&[url.as_str(), "--body-bytes", bytes], &common[..]].concat());
            assert_eq!(loaded.report.requests, 6, "{bytes} on {engine}: {}", loaded.text);
            let size: u64 = bytes.parse().expect("a number");
            assert!(loaded.report.bytes_received > 6 * size && loaded.report.bytes_sent > 6 * size);
        }
    }
}

#[test]
fn what_is_not_expected_is_wrong() {
    let upstream = Upstream::start(&["--error-rate", "1"]);
    let loaded = load(&[&upstream.url("/"), "-n", "10", "-c", "2"]);
    assert_eq!((loaded.code, loaded.count("status"), loaded.count("5xx")), (Some(1), 10, 10));
    let loaded = load(&[&upstream.url("/"), "-n", "10", "-c", "2", "--expect-status", "404,5xx"]);
    assert_eq!((loaded.code, loaded.report.requests), (Some(0), 10));
    let upstream = Upstream::start(&[]);
    let loaded = load(&[&upstream.url("/7"), "-n", "10", "-c", "2", "--expect-bytes", "8"]);
    assert_eq!((loaded.code, loaded.count("bytes"), loaded.count("2xx")), (Some(1), 10, 10));
}

#[test]
fn new_connections_on_loopback_come_from_many_addresses() {
    let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
    for (extra, many) in [(&["--no-keepalive"][..], true), (&[], false)] {
        let server = Canned::start(answer, false);
        let url = server.url();
        let loaded = load(&[&[url.as_str(), "-n", "40", "-c", "2"], extra].concat());
        assert_eq!(loaded.report.requests, 40, "{}", loaded.text);
        let peers = server.peers.lock().expect("no panic");
        let sources: BTreeSet<IpAddr> = peers.iter().map(|peer| peer.ip()).collect();
        assert_eq!(sources.len(), if many { 40 } else { 1 }, "{sources:?}");
    }
}

#[test]
fn the_distribution_is_written_as_plotters_read_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let (hgrm, json) = (folder.path().join("a.hgrm"), folder.path().join("a.json"));
    let upstream = Upstream::start(&[]);
    let (hgrm_path, json_path) = (hgrm.to_str().expect("UTF-8"), json.to_str().expect("UTF-8"));
    let status = super::programs::bench()
        .args(["load", &upstream.url("/"), "-n", "100", "-c", "1"])
        .args(["--hdr", hgrm_path, "--json", json_path])
        .output()
        .expect("the load starts");
    let text = String::from_utf8_lossy(&status.stdout).into_owned();
    assert!(text.contains("requests     100 in"), "{text}");
    let hgrm = fs::read_to_string(hgrm).expect("written");
    assert!(hgrm.contains("Percentile   TotalCount 1/(1-Percentile)"), "{hgrm}");
    assert!(hgrm.contains("Total count    =          100]"), "{hgrm}");
    let json: serde_json::Value =
        serde_json::from_str(&fs::read_to_string(json).expect("written")).expect("JSON");
    let mut keys: Vec<&str> =
        json.as_object().expect("an object").keys().map(String::as_str).collect();
    keys.sort_unstable();
    let contract = "bytes_received bytes_sent connect_us connections connects cpu_system_us \
                    cpu_user_us elapsed_s engine errors format late_max_us late_sends latency_us \
                    open_loop rate_per_s requests requests_per_s statuses threads unsent url wrong";
    assert_eq!(keys.join(" "), contract);
}

/// nginx in the foreground, which ends with the value.
struct Nginx(Child, String);

impl Nginx {
    fn start(folder: &Path) -> Self {
        let (child, port) = start_on_free_port(|port| {
            let config = format!(
                "daemon off; worker_processes 1; pid {0}/pid; error_log {0}/error.log;\n\
                 events {{}}\nhttp {{ access_log off; client_body_temp_path {0}/b;\n\
                 proxy_temp_path {0}/p; fastcgi_temp_path {0}/f; uwsgi_temp_path {0}/u;\n\
                 scgi_temp_path {0}/s; keepalive_requests 50;\n\
                 server {{ listen 127.0.0.1:{port}; location / {{ return 200 \"hello\"; }} }} }}\n",
                folder.display()
            );
            let path = folder.join("nginx.conf");
            fs::write(&path, config).expect("written");
            let mut command = Command::new("nginx");
            command.arg("-e").arg(folder.join("error.log")).arg("-c").arg(path);
            command.stderr(Stdio::null());
            command
        });
        Self(child, format!("http://127.0.0.1:{port}/"))
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        let master = rustix::process::Pid::from_child(&self.0);
        let _ = rustix::process::kill_process(master, rustix::process::Signal::TERM);
        let _ = self.0.wait();
    }
}

#[test]
fn nginx_is_read_without_a_fault() {
    let folder = tempfile::tempdir().expect("a folder");
    let nginx = Nginx::start(folder.path());
    for engine in ENGINES {
        let arguments = ["-n", "2000", "-c", "8", "--expect-bytes", "5", "--engine", engine];
        let loaded = load(&[&[nginx.1.as_str()], &arguments[..]].concat());
        assert_eq!(loaded.report.requests, 2000, "{}", loaded.text);
        assert_eq!(loaded.report.errors.len(), 0, "{}", loaded.text);
        assert!(loaded.report.connects >= 40, "nginx closes after 50: {}", loaded.text);
    }
}
