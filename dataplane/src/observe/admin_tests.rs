//! The endpoint over real sockets.

use std::net::Ipv4Addr;

use lateen_snapshot::model::{Epoch, Snapshot};
use lateen_snapshot::validate::patterns::Patterns;

use super::*;
use crate::loaded::Loaded;

const LOOPBACK: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

struct Admin {
    address: SocketAddr,
    lifecycle: Arc<Lifecycle>,
    metrics: Arc<Metrics>,
}

fn published() -> Arc<Published> {
    let loaded =
        Loaded::first(Epoch { store: 7, number: 3 }, Snapshot::default(), &mut Patterns::default());
    Arc::new(Published::new(Arc::new(loaded.expect("an empty one is whole"))))
}

fn start(timeout: Duration) -> Admin {
    let (lifecycle, metrics) = (Arc::new(Lifecycle::default()), Metrics::new(1));
    let sources = AdminSources {
        metrics: Arc::clone(&metrics),
        lifecycle: Arc::clone(&lifecycle),
        config_json: "{\"workers\":1}".to_owned(),
        published: published(),
    };
    let address = serve_with_timeout(LOOPBACK, sources, timeout).expect("a free port");
    Admin { address, lifecycle, metrics }
}

impl Admin {
    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).expect("the endpoint listens");
        // No assertion waits for ever.
        stream.set_read_timeout(Some(Duration::from_secs(20))).expect("a timeout");
        stream
    }

    /// Sends bytes and returns status, head and body.
    fn exchange(&self, request: &str) -> (u16, String, String) {
        let mut stream = self.connect();
        stream.write_all(request.as_bytes()).expect("sent");
        read_answer(&mut stream)
    }

    fn request(&self, method: &str, path: &str) -> (u16, String, String) {
        self.exchange(&format!("{method} {path} HTTP/1.1\r\nhost: admin\r\n\r\n"))
    }
}

fn read_answer(stream: &mut TcpStream) -> (u16, String, String) {
    let mut text = String::new();
    stream.read_to_string(&mut text).expect("an answer and a FIN");
    let (head, body) = text.split_once("\r\n\r\n").expect("a whole head");
    let status = head.split(' ').nth(1).expect("a status").parse().expect("a number");
    (status, head.to_owned(), body.to_owned())
}

fn plenty() -> Admin {
    start(Duration::from_secs(20))
}

#[test]
fn each_path_has_its_answer() {
    let admin = plenty();
    admin.metrics.worker(0).request.add(41);
    for (path, status, content_type, body) in [
        ("/live", 200, "text/plain", "live\n"),
        ("/live?probe=1", 200, "text/plain", "live\n"),
        (
            "/config_dump",
            200,
            "application/json",
            "{\"process\":{\"workers\":1},\"epoch\":\"00000007-3\",",
        ),
        ("/version", 200, "application/json", env!("CARGO_PKG_VERSION")),
        ("/metrics", 200, "application/openmetrics-text", "\nrequest_total 41\n"),
        ("/", 404, "text/plain", "/metrics"),
        ("/livelihood", 404, "text/plain", "/metrics"),
    ] {
        let (got, head, text) = admin.request("GET", path);
        assert_eq!(got, status, "{path}");
        assert!(head.contains(&format!("content-type: {content_type}")), "{path}: {head}");
        assert!(head.contains(&format!("content-length: {}\r\n", text.len())), "{path}: {head}");
        assert!(text.contains(body), "{path}: {text}");
    }
}

#[test]
fn ready_follows_the_lifecycle() {
    let admin = plenty();
    assert_eq!(admin.request("GET", "/ready").0, 503);
    admin.lifecycle.enter(Phase::Ready);
    assert_eq!(admin.request("GET", "/ready").0, 200);
    admin.lifecycle.enter(Phase::Draining);
    let (status, _, body) = admin.request("GET", "/ready");
    assert_eq!((status, body.as_str()), (503, "draining\n"));
    assert_eq!(admin.request("GET", "/live").0, 200, "a draining process lives");
}

#[test]
fn head_gets_the_head_alone() {
    let (status, head, body) = plenty().request("HEAD", "/live");
    assert_eq!((status, body.as_str()), (200, ""));
    assert!(head.contains("content-length: 5\r\n"), "{head}");
}

#[test]
fn other_methods_are_refused_with_allow() {
    let admin = plenty();
    for method in ["POST", "PUT", "DELETE", "OPTIONS"] {
        let (status, head, _) = admin.request(method, "/live");
        assert_eq!(status, 405, "{method}");
        assert!(head.contains("allow: GET, HEAD"), "{head}");
    }
    let (status, ..) =
        admin.exchange("POST /live HTTP/1.1\r\ncontent-length: 5000\r\n\r\nnever to be read");
    assert_eq!(status, 405, "an unread body does not reset the answer away");
}

#[test]
fn what_is_no_http_or_too_large_is_refused() {
    let admin = plenty();
    assert_eq!(admin.exchange("\x16\x03\x01 hello\r\n\r\n").0, 400);
    let long = "x".repeat(2 * limits::ADMIN_HEAD_BYTES_MAX);
    assert_eq!(admin.exchange(&format!("GET /live HTTP/1.1\r\na: {long}")).0, 431);
    let many = "a: b\r\n".repeat(limits::ADMIN_HEADERS_MAX + 1);
    assert_eq!(admin.exchange(&format!("GET /live HTTP/1.1\r\n{many}\r\n")).0, 431);
}

#[test]
fn a_head_may_come_byte_by_byte() {
    let mut stream = plenty().connect();
    stream.set_nodelay(true).expect("no delay");
    for byte in b"GET /live HTTP/1.1\r\nhost: a\r\n\r\n" {
        stream.write_all(&[*byte]).expect("sent");
    }
    assert_eq!(read_answer(&mut stream).0, 200);
}

#[test]
fn a_slow_client_delays_no_other_and_is_answered_408() {
    let admin = start(Duration::from_millis(200));
    let mut slow = admin.connect();
    slow.write_all(b"GET /live HT").expect("sent");
    assert_eq!(admin.request("GET", "/live").0, 200);
    assert_eq!(read_answer(&mut slow).0, 408);
}

#[test]
fn a_client_that_trickles_cannot_stretch_the_deadline() {
    let admin = start(Duration::from_millis(100));
    let mut slow = admin.connect();
    let mut trickle = slow.try_clone().expect("a second handle");
    // Each byte comes well before the timeout; only a deadline over all of them ends this.
    let writer = thread::spawn(move || while trickle.write_all(b"G").is_ok() {});
    let (status, ..) = read_answer(&mut slow);
    assert!(matches!(status, 408 | 431), "{status}");
    drop(slow);
    writer.join().expect("the writer ends when the connection does");
}

#[test]
fn beyond_the_cap_clients_are_refused_and_served_again_later() {
    let admin = plenty();
    let held: Vec<TcpStream> =
        (0..limits::ADMIN_CONNECTIONS_MAX).map(|_| admin.connect()).collect();
    let (status, ..) = read_answer(&mut admin.connect());
    assert_eq!(status, 503);
    drop(held);
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        // Slots come back when their threads saw the FIN.
        let mut stream = admin.connect();
        let sent = stream.write_all(b"GET /live HTTP/1.1\r\n\r\n").is_ok();
        let mut text = String::new();
        if sent && stream.read_to_string(&mut text).is_ok() && text.starts_with("HTTP/1.1 200") {
            return;
        }
        assert!(Instant::now() < deadline, "no slot came back");
    }
}

#[test]
fn a_port_in_use_is_an_error_that_says_how_to_mend_it() {
    let admin = plenty();
    let sources = AdminSources {
        metrics: Metrics::new(1),
        lifecycle: Arc::default(),
        config_json: String::new(),
        published: published(),
    };
    let error = serve(admin.address, sources).expect_err("the port is taken");
    let text = error.to_string();
    assert!(text.contains(&admin.address.to_string()) && text.contains("--admin"), "{text}");
}
