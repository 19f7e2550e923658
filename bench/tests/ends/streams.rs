//! Byte streams over TCP: messages that come back, that vanish, and connections alone.

use rustix::process::Signal;

use super::programs::{Canned, ENGINES, Upstream, load};

#[test]
fn messages_of_any_size_are_echoed() {
    for engine in ENGINES {
        let upstream = Upstream::start(&["--protocol", "echo", "--engine", engine]);
        let url = format!("tcp://{}", upstream.address());
        for (bytes, size) in [("1", 1), ("16k", 16_384), ("64k", 65_536), ("9M", 9 << 20)] {
            let arguments = ["-n", "6", "-c", "2", "--body-bytes", bytes, "--engine", engine];
            let loaded = load(&[&[url.as_str()], &arguments[..]].concat());
            assert_eq!(loaded.report.requests, 6, "{bytes}: {}", loaded.text);
            assert_eq!(loaded.report.bytes_sent, 6 * size);
            assert_eq!(loaded.report.bytes_received, 6 * size);
        }
    }
}

#[test]
fn messages_need_no_answer_and_answers_can_have_another_size() {
    for engine in ENGINES {
        let upstream = Upstream::start(&["--protocol", "discard", "--engine", engine]);
        let url = format!("tcp://{}", upstream.address());
        let arguments = ["-n", "20", "-c", "2", "--expect-bytes", "0", "--engine", engine];
        let loaded = load(&[&[url.as_str()], &arguments[..]].concat());
        assert_eq!(loaded.report.bytes_sent, 20 * 16_384, "{}", loaded.text);
        assert_eq!((loaded.report.requests, loaded.report.bytes_received), (20, 0));
    }
    let answers = Canned::start(b"twelve bytes", false);
    let url = format!("tcp://{}", answers.address);
    let folder = tempfile::tempdir().expect("a folder");
    let body = folder.path().join("message");
    std::fs::write(&body, "ask\r\n\r\n").expect("written");
    let body = body.to_str().expect("UTF-8");
    let loaded = load(&[&url, "-n", "5", "-c", "1", "--body", body, "--expect-bytes", "12"]);
    assert_eq!(loaded.report.requests, 5, "{}", loaded.text);
    let loaded = load(&[&url, "-n", "5", "-c", "1", "--body", body, "--expect-bytes", "11"]);
    assert_eq!(loaded.count("protocol"), 5, "{}", loaded.text);
}

#[test]
fn connecting_alone_is_counted() {
    for engine in ENGINES {
        let upstream = Upstream::start(&["--protocol", "echo", "--engine", engine]);
        let url = format!("tcp://{}", upstream.address());
        let arguments = ["-n", "300", "-c", "3", "--body-bytes", "0", "--no-keepalive"];
        let loaded = load(&[&[url.as_str(), "--engine", engine], &arguments[..]].concat());
        assert_eq!((loaded.report.requests, loaded.report.connects), (300, 300), "{}", loaded.text);
        // A connection may still lie in the queue when the upstream is told to end.
        let (answers, connections) = upstream.stop(Signal::TERM);
        assert!(answers == 0 && connections <= 300, "{connections}");
    }
}
