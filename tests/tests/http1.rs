//! HTTP/1 exchanges that go well: real clients, bodies of every shape, and what the upstream sees.

use lateen_tests::http::{
    Head, Request, exchange, read_request, read_response, read_response_head,
};
use lateen_tests::peer::{Ending, Peer};
use lateen_tests::proxy::{Engine, Launch, Proxy};
use lateen_tests::tools::{curl, sha256};
use lateen_tests::upstream::{Upstream, ok};
use std::fs;
use std::io::Write;
use std::sync::{Mutex, mpsc};
use std::thread;

lateen_tests::on_both_engines!(
    curl_gets_posts_and_asks_for_heads,
    curl_uploads_in_chunks,
    curl_waits_for_100_continue,
    curl_speaks_http_1_0,
    curl_reuses_its_connection_and_the_proxy_its_own,
    large_bodies_arrive_whole_in_both_directions,
    large_chunked_bodies_arrive_whole,
    the_upstream_gets_the_rewritten_head,
    a_made_request_id_is_new_each_time,
    pipelined_requests_are_answered_in_order,
    a_request_during_the_last_response_does_not_cut_it,
    a_request_that_comes_byte_by_byte_is_answered,
    interim_responses_reach_only_those_who_know_them,
    trailers_are_carried,
    an_early_final_response_does_not_wait_for_the_body,
    bodiless_responses_have_no_body,
    options_and_trace_count_their_hops,
    a_request_at_its_last_hop_is_answered_once,
    a_response_gets_what_it_lacks,
    a_response_to_http_1_0_is_never_chunked,
);

const LARGE_BYTES: usize = 64 << 20;
const MIB: usize = 1 << 20;
const LAST: &str = "GET /last HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
const UNWANTED: &str = "GET /unwanted HTTP/1.1\r\nHost: a\r\n\r\n";

/// Bytes that repeat only after a prime length, so that a lost or doubled piece changes them.
fn pattern(length: usize) -> Vec<u8> {
    let block: Vec<u8> = (0..65_521_u32).map(|index| (index ^ (index >> 8)) as u8).collect();
    block.iter().copied().cycle().take(length).collect()
}

/// Answers with the request's method and body.
fn echo(request: &Request) -> Vec<u8> {
    let method = request.head.start.split(' ').next().expect("a method");
    let mut body = format!("{method} ").into_bytes();
    body.extend_from_slice(&request.body);
    let length = body.len();
    ok(if method == "HEAD" { Vec::new() } else { body }, length)
}

fn curl_gets_posts_and_asks_for_heads(engine: Engine) {
    let upstream = Upstream::answering(echo);
    let proxy = Proxy::start(engine, &[upstream.address()]);
    let url = proxy.url("/a?b=c");
    assert_eq!(curl(["--fail", &url]).expect_success(), "GET ");
    assert_eq!(upstream.request().head.start, "GET /a?b=c HTTP/1.1");
    assert_eq!(curl(["--fail", "--data", "x=1", &url]).expect_success(), "POST x=1");
    let head = curl(["--fail", "--head", &url]).expect_success();
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
    assert!(head.to_ascii_lowercase().contains("\r\ncontent-length: 5\r\n"), "{head}");
    proxy.await_metric("request_total", &[], 3.0);
    proxy.await_metric("response_total", &[("classification", "success")], 3.0);
    proxy.await_metric("response_latency_ms_count", &[], 3.0);
}

fn curl_uploads_in_chunks(engine: Engine) {
    let upstream = Upstream::answering(echo);
    let proxy = Proxy::start(engine, &[upstream.address()]);
    let mut file = tempfile::NamedTempFile::new().expect("a temporary file");
    file.write_all(&pattern(300_000)).expect("the file can be written");
    let path = file.path().to_str().expect("a plain name");
    let chunked = "Transfer-Encoding: chunked";
    curl(["--fail", "-H", chunked, "-T", path, "-o", "/dev/null", &proxy.url("/")])
        .expect_success();
    let request = upstream.request();
    assert_eq!(request.head.value("transfer-encoding").as_deref(), Some("chunked"));
    assert!(request.body == pattern(300_000), "{} bytes, or not the same", request.body.len());
}

fn curl_waits_for_100_continue(engine: Engine) {
    let upstream = Upstream::scripted(|mut peer, _| {
        let head = Head::parse(&peer.read_until(b"\r\n\r\n").expect("a request"));
        assert_eq!(head.value("expect").as_deref(), Some("100-continue"));
        peer.send("HTTP/1.1 100 Continue\r\n\r\n");
        let length = head.value("content-length").expect("a length").parse().expect("a number");
        let body = peer.read_exactly(length);
        peer.send(ok(&body, body.len()));
    });
    let proxy = Proxy::start(engine, &[upstream.address()]);
    let expect = "Expect: 100-continue";
    let wait = ["--fail", "-v", "--expect100-timeout", "30"];
    let outcome = curl(wait.into_iter().chain(["-H", expect, "--data", "later", &proxy.url("/")]));
    assert!(outcome.stderr.contains("< HTTP/1.1 100 Continue"), "{}", outcome.stderr);
    assert_eq!(outcome.expect_success(), "later");
}

fn curl_speaks_http_1_0(engine: Engine) {
    let upstream = Upstream::fixed("old");
    let proxy = Proxy::start(engine, &[upstream.address()]);
    let response = curl(["--fail", "--http1.0", "-i", &proxy.url("/")]).expect_success();
    assert!(response.ends_with("\r\n\r\nold"), "{response}");
    assert_eq!(upstream.request().head.start, "GET / HTTP/1.1");
    assert_eq!(proxy.only_access_log_line()["version"], "HTTP/1.0");
}

fn curl_reuses_its_connection_and_the_proxy_its_own(engine: Engine) {
    let upstream = Upstream::fixed("x");
    let proxy = Proxy::start(engine, &[upstream.address()]);
    let url = proxy.url("/");
    let connects =
        ["-w", "%{num_connects} ", "-o", "/dev/null", "-o", "/dev/null", "-o", "/dev/null"];
    let said = curl(connects.into_iter().chain([url.as_str(); 3])).expect_success();
    assert_eq!(said, "1 0 0 ");
    assert_eq!(upstream.connections(), 1);
    proxy.await_metric("pool_hit_total", &[], 2.0);
    proxy.await_metric("pool_miss_total", &[], 1.0);
    // A second client gets the same upstream connection.
    curl(["--fail", &url]).expect_success();
    assert_eq!(upstream.connections(), 1);
}

fn large_bodies_arrive_whole_in_both_directions(engine: Engine) {
    let upstream = Upstream::answering(|request| {
        if request.head.start.starts_with("PUT") {
            ok("", 0)
        } else {
            ok(pattern(LARGE_BYTES), LARGE_BYTES)
        }
    });
    let proxy = Proxy::start(engine, &[upstream.address()]);
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (up, down) = (folder.path().join("up"), folder.path().join("down"));
    fs::write(&up, pattern(LARGE_BYTES)).expect("the file can be written");
    let path = |file: &std::path::Path| file.to_str().expect("a plain name").to_owned();

    curl(["--fail", "-o", &path(&down), &proxy.url("/down")]).expect_success();
    assert_eq!(sha256(&down), sha256(&up));
    upstream.request();
    let metrics = proxy.metrics();
    assert!(
        metrics.sum("bytes_spliced_total", &[]) > 0.0,
        "a body of known length was never spliced"
    );

    curl(["--fail", "-T", &path(&up), &proxy.url("/up")]).expect_success();
    let request = upstream.request();
    assert!(request.body == pattern(LARGE_BYTES), "{} bytes, or not the same", request.body.len());
    let lines = proxy.access_log(2);
    let large = LARGE_BYTES as u64;
    assert!(lines[0]["response_bytes"].as_u64().expect("a number") >= large, "{}", lines[0]);
    assert!(lines[1]["request_bytes"].as_u64().expect("a number") >= large, "{}", lines[1]);
    let metrics = proxy.metrics();
    let moved = metrics.sum("bytes_spliced_total", &[]) + metrics.sum("bytes_copied_total", &[]);
    assert!(moved >= 2.0 * LARGE_BYTES as f64, "{moved} bytes moved");
}

fn large_chunked_bodies_arrive_whole(engine: Engine) {
    let upstream = Upstream::scripted(|mut peer, connection| {
        let request = read_request(&mut peer, connection).expect("a request");
        peer.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
        for piece in request.body.chunks(100_003) {
            peer.send(format!("{:x}\r\n", piece.len()));
            peer.send(piece);
            peer.send("\r\n");
        }
        peer.send("0\r\n\r\n");
    });
    let proxy = Proxy::start(engine, &[upstream.address()]);
    let mut client = Peer::connect(proxy.address());
    let mut sender = Peer::new(client.stream().try_clone().expect("a second handle"));
    let writer = thread::spawn(move || {
        sender.send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
        for piece in pattern(8 * MIB).chunks(77_777) {
            sender.send(format!("{:X};note=1\r\n", piece.len()));
            sender.send(piece);
            sender.send("\r\n");
        }
        sender.send("0\r\n\r\n");
    });
    let response = read_response(&mut client, "POST");
    writer.join().expect("the request was sent");
    assert!(response.body == pattern(8 * MIB), "{} bytes, or not the same", response.body.len());
}

fn the_upstream_gets_the_rewritten_head(engine: Engine) {
    let upstream = Upstream::fixed("x");
    let proxy = Proxy::start(engine, &[upstream.address()]);
    let mut client = Peer::connect(proxy.address());
    let request = "GET /path?q=%20 HTTP/1.1\r\nAccept: */*\r\nHost: lateen.test:8080\r\n\
                   Connection: keep-alive, X-Drop, Upgrade, HTTP2-Settings\r\nX-Drop: 1\r\nKeep-Alive: timeout=5\r\n\
                   Proxy-Connection: keep-alive\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n\
                   X-Forwarded-For: 10.1.2.3\r\nX-Forwarded-Proto: https\r\nX-Request-Id: abc-123\r\n\
                   Via: 1.0 edge\r\nX-Empty:\r\nX-Text: caf\u{e9} \t\r\nTE: trailers\r\n\r\n";
    assert_eq!(exchange(&mut client, request).status, 200);
    let head = upstream.request().head;
    assert_eq!(head.start, "GET /path?q=%20 HTTP/1.1");
    assert_eq!(head.fields[0], ("Host".to_owned(), "lateen.test:8080".to_owned()));
    let mut fields: Vec<(String, String)> = head
        .fields
        .iter()
        .map(|(name, _)| name.to_ascii_lowercase())
        .map(|name| {
            let value = head.value(&name).expect("it is there");
            (name, value)
        })
        .collect();
    fields.sort();
    fields.dedup();
    let expected = [
        ("accept", "*/*"),
        ("host", "lateen.test:8080"),
        ("via", "1.0 edge, 1.1 lateen"),
        ("x-empty", ""),
        ("x-forwarded-for", "10.1.2.3, 127.0.0.1"),
        ("x-forwarded-proto", "http"),
        ("x-request-id", "abc-123"),
        ("x-text", "caf\u{e9}"),
    ];
    assert_eq!(fields, expected.map(|(name, value)| (name.to_owned(), value.to_owned())));

    // The absolute form's authority wins over Host.
    let request = "GET http://other.test/p HTTP/1.1\r\nHost: lateen.test\r\n\r\n";
    assert_eq!(exchange(&mut client, request).status, 200);
    let head = upstream.request().head;
    assert_eq!(head.start, "GET /p HTTP/1.1");
    assert_eq!(head.values("host").collect::<Vec<_>>(), ["other.test"]);

    let line = &proxy.access_log(2)[0];
    assert_eq!(line["request_id"], "abc-123");
    assert_eq!(line["method"], "GET");
    assert_eq!(line["authority"], "lateen.test:8080");
    assert_eq!(line["path"], "/path?q=%20");
    assert_eq!(line["version"], "HTTP/1.1");
    assert_eq!(line["status"], 200);
    assert_eq!(line["downstream"], client.local_address().to_string());
    assert_eq!(line["upstream"], upstream.address().to_string());
    assert_eq!(line["retries"], 0);
    assert_eq!(line["worker"], 0);
    assert_access_log_order(&proxy);
}

/// The fields of a line stand in the order of the contract, and there is no other.
fn assert_access_log_order(proxy: &Proxy) {
    let text = fs::read_to_string(proxy.access_log_path()).expect("the log is there");
    let names = [
        "time",
        "request_id",
        "downstream",
        "upstream",
        "method",
        "authority",
        "path",
        "version",
        "status",
        "flags",
        "request_bytes",
        "response_bytes",
        "total_us",
        "upstream_us",
        "processing_us",
        "retries",
        "worker",
        "epoch",
    ];
    let line = text.lines().next().expect("a line");
    let places: Vec<Option<usize>> =
        names.iter().map(|name| line.find(&format!("\"{name}\":"))).collect();
    assert!(places.iter().all(Option::is_some), "{names:?} in {line}");
    assert!(places.is_sorted(), "{names:?} in this order in {line}");
    assert_eq!(line.matches("\":").count(), names.len(), "no other field in {line}");
}

fn a_made_request_id_is_new_each_time(engine: Engine) {
    let upstream = Upstream::fixed("x");
    let proxy = Proxy::start(engine, &[upstream.address()]);
    let mut client = Peer::connect(proxy.address());
    let long = "x".repeat(129);
    let mut made = Vec::new();
    for given in ["", "X-Request-Id: has space\r\n", &format!("X-Request-Id: {long}\r\n")] {
        exchange(&mut client, &format!("GET / HTTP/1.1\r\nHost: a\r\n{given}\r\n"));
        let head = upstream.request().head;
        let ids: Vec<&str> = head.values("x-request-id").collect();
        assert_eq!(ids.len(), 1, "{ids:?}");
        assert!(!ids[0].contains(' ') && ids[0].len() >= 16 && ids[0] != long, "{ids:?}");
        made.push(ids[0].to_owned());
    }
    made.sort();
    made.dedup();
    assert_eq!(made.len(), 3, "an id was made twice");
    let kept = "y".repeat(128);
    exchange(&mut client, &format!("GET / HTTP/1.1\r\nHost: a\r\nX-Request-Id: {kept}\r\n\r\n"));
    assert_eq!(upstream.request().head.value("x-request-id"), Some(kept));
}

fn pipelined_requests_are_answered_in_order(engine: Engine) {
    let upstream = Upstream::answering(|request| ok(request.target(), request.target().len()));
    let proxy = Proxy::start(engine, &[upstream.address()]);
    let mut client = Peer::connect(proxy.address());
    let request = |index: usize| match index % 2 {
        0 => format!("GET /{index} HTTP/1.1\r\nHost: a\r\n\r\n"),
        _ => format!("POST /{index} HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc"),
    };
    client.send((0..50).map(request).collect::<String>());
    for index in 0..50 {
        assert_eq!(read_response(&mut client, "GET").body, format!("/{index}").into_bytes());
    }
    client.half_close();
    assert_eq!(client.ending(), Ending::Closed);
}

fn a_request_during_the_last_response_does_not_cut_it(engine: Engine) {
    const LENGTH: usize = 400_000;
    const BEFORE: usize = 100_000;
    let (go, wait) = mpsc::channel::<()>();
    let wait = Mutex::new(wait);
    let upstream = Upstream::scripted(move |mut peer, connection| {
        let request = read_request(&mut peer, connection).expect("a request");
        assert_eq!(request.target(), "/last");
        peer.send(ok(&pattern(LENGTH)[..BEFORE], LENGTH));
        wait.lock().expect("one waits").recv().expect("the test says when");
        peer.send(&pattern(LENGTH)[BEFORE..]);
        peer.drain();
    });
    let proxy = Proxy::start(engine, &[upstream.address()]);
    let mut client = Peer::connect_with_receive_buffer(proxy.address(), 4096);
    client.send(LAST);
    assert_eq!(read_response_head(&mut client).expect("a head").0, 200);
    // It lies in the proxy's socket before the end of the response has come.
    client.send(UNWANTED);
    go.send(()).expect("the upstream waits");
    proxy.only_access_log_line();
    let (body, ending) = client.read_to_end();
    assert_eq!(ending, Ending::Closed, "after {} bytes", body.len());
    assert!(body == pattern(LENGTH), "{} bytes, or not the same", body.len());
}

fn a_request_that_comes_byte_by_byte_is_answered(engine: Engine) {
    let upstream = Upstream::answering(echo);
    let proxy = Proxy::start(engine, &[upstream.address()]);
    let mut client = Peer::connect(proxy.address());
    for _ in 0..2 {
        client.send_bytewise(
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n",
        );
        assert_eq!(read_response(&mut client, "POST").body, b"POST hi");
    }
    assert_eq!(upstream.connections(), 1);
}

fn interim_responses_reach_only_those_who_know_them(engine: Engine) {
    let upstream = Upstream::scripted(|mut peer, connection| {
        while read_request(&mut peer, connection).is_some() {
            peer.send("HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n");
            peer.send("HTTP/1.1 102 Processing\r\n\r\n");
            peer.send(ok("x", 1));
        }
    });
    let proxy = Proxy::start(engine, &[upstream.address()]);
    let mut client = Peer::connect(proxy.address());
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    let statuses = [0; 3].map(|_| read_response_head(&mut client).expect("a head").0);
    assert_eq!(statuses, [103, 102, 200]);

    let mut old = Peer::connect(proxy.address());
    old.send("GET / HTTP/1.0\r\nHost: a\r\n\r\n");
    assert_eq!(read_response_head(&mut old).expect("a head").0, 200);

    let flood = Upstream::scripted(|mut peer, connection| {
        read_request(&mut peer, connection).expect("a request");
        while peer.try_send("HTTP/1.1 102 Processing\r\n\r\n").is_ok() {}
    });
    let proxy = Proxy::start(engine, &[flood.address()]);
    let mut client = Peer::connect(proxy.address());
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    let mut interim = 0;
    while let Some((100..=199, _)) = read_response_head(&mut client) {
        interim += 1;
        assert!(interim < 10_000, "interim responses are not bounded in number");
    }
}

fn trailers_are_carried(engine: Engine) {
    let upstream = Upstream::answering(|_| {
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\nX-Sum: 9\r\n\r\n"
            .to_vec()
    });
    let proxy = Proxy::start(engine, &[upstream.address()]);
    let mut client = Peer::connect(proxy.address());
    let request = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTrailer: X-Up\r\n\r\n\
                   3\r\nabc\r\n0\r\nX-Up: 1\r\nContent-Length: 7\r\n\r\n";
    let response = exchange(&mut client, request);
    let text = |trailers: &[(String, String)]| {
        trailers
            .iter()
            .map(|(name, value)| format!("{name}: {value}").to_ascii_lowercase())
            .collect::<Vec<_>>()
    };
    assert_eq!(text(&response.trailers), ["x-sum: 9"]);
    // A trailer that would change the framing is not passed on (RFC 9110 §6.5.1).
    assert_eq!(text(&upstream.request().trailers), ["x-up: 1"]);
}

fn an_early_final_response_does_not_wait_for_the_body(engine: Engine) {
    let upstream = Upstream::scripted(|mut peer, _| {
        peer.read_until(b"\r\n\r\n").expect("a request");
        peer.send("HTTP/1.1 413 Content Too Large\r\nContent-Length: 4\r\n\r\nmuch");
        peer.drain();
    });
    let proxy = Proxy::start(engine, &[upstream.address()]);
    let mut client = Peer::connect(proxy.address());
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n");
    client.send(vec![b'x'; 10_000]);
    let response = read_response(&mut client, "POST");
    assert_eq!((response.status, response.body.as_slice()), (413, b"much".as_slice()));
    assert!(response.head.lists("connection", "close"), "{:?}", response.head);
    assert_ne!(client.drain().1, Ending::Open, "the connection must end by itself");
    proxy.only_access_log_line();
}

fn bodiless_responses_have_no_body(engine: Engine) {
    let upstream = Upstream::answering(|request| match request.target() {
        "/204" => b"HTTP/1.1 204 No Content\r\n\r\n".to_vec(),
        "/304" => {
            b"HTTP/1.1 304 Not Modified\r\nContent-Length: 99\r\nETag: \"a\"\r\n\r\n".to_vec()
        }
        _ => ok("", 7),
    });
    let proxy = Proxy::start(engine, &[upstream.address()]);
    let mut client = Peer::connect(proxy.address());
    let mut ask = |method: &str, target: &str| {
        exchange(&mut client, &format!("{method} {target} HTTP/1.1\r\nHost: a\r\n\r\n"))
    };
    let response = ask("GET", "/204");
    assert_eq!((response.status, response.head.value("content-length")), (204, None));
    assert_eq!(response.head.value("transfer-encoding"), None);
    let response = ask("GET", "/304");
    assert_eq!((response.status, response.head.value("etag").as_deref()), (304, Some("\"a\"")));
    let response = ask("HEAD", "/");
    assert_eq!(
        (response.status, response.head.value("content-length").as_deref()),
        (200, Some("7"))
    );
    assert_eq!(ask("GET", "/204").status, 204);
    assert_eq!(upstream.connections(), 1, "the upstream connection is still in step");
}

fn options_and_trace_count_their_hops(engine: Engine) {
    let upstream = Upstream::fixed("x");
    let proxy = Launch::new(engine, &[upstream.address()]).with_switch("--trace-method").start();
    let mut client = Peer::connect(proxy.address());
    let mut ask = |request: &str| exchange(&mut client, &format!("{request}\r\nHost: a\r\n\r\n"));

    assert_eq!(ask("OPTIONS * HTTP/1.1\r\nMax-Forwards: 2").status, 200);
    let head = upstream.request().head;
    assert_eq!(head.start, "OPTIONS * HTTP/1.1");
    assert_eq!(head.value("max-forwards").as_deref(), Some("1"));
    assert_eq!(ask("TRACE /t HTTP/1.1\r\nMax-Forwards: 1").status, 200);
    assert_eq!(upstream.request().head.value("max-forwards").as_deref(), Some("0"));
    // On GET it means nothing and is left alone.
    assert_eq!(ask("GET / HTTP/1.1\r\nMax-Forwards: 0").status, 200);
    assert_eq!(upstream.request().head.value("max-forwards").as_deref(), Some("0"));
    // At 0 the proxy itself is the last recipient.
    assert_eq!(ask("OPTIONS / HTTP/1.1\r\nMax-Forwards: 0").status / 100, 2);
    assert!(upstream.requests_so_far().is_empty(), "a request with no hop left was forwarded");
}

fn a_request_at_its_last_hop_is_answered_once(engine: Engine) {
    let upstream = Upstream::fixed("next");
    let proxy = Proxy::start(engine, &[upstream.address()]);
    let mut client = Peer::connect(proxy.address());
    let last_hop = "OPTIONS * HTTP/1.1\r\nHost: a\r\nMax-Forwards: 0\r\n\r\n";
    assert_eq!(exchange(&mut client, last_hop).status, 200);
    // A second answer to it would be taken for the answer to this.
    let next = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    assert_eq!(exchange(&mut client, next).body, b"next");
    client.half_close();
    assert_eq!(client.ending(), Ending::Closed);
    let methods: Vec<_> = proxy.access_log(2).iter().map(|line| line["method"].clone()).collect();
    assert_eq!(methods, ["OPTIONS", "GET"]);
}

fn a_response_gets_what_it_lacks(engine: Engine) {
    let date = "Sun, 06 Nov 1994 08:49:37 GMT";
    let upstream = Upstream::answering(move |request| {
        match request.target() {
        "/dated" => format!("HTTP/1.1 200 Fine\r\nDate: {date}\r\nContent-Length: 0\r\n\r\n").into_bytes(),
        _ => b"HTTP/1.1 200 OK\r\nConnection: X-Drop\r\nX-Drop: 1\r\nKeep-Alive: timeout=5\r\nContent-Length: 0\r\n\r\n".to_vec(),
    }
    });
    let proxy = Proxy::start(engine, &[upstream.address()]);
    let mut client = Peer::connect(proxy.address());
    let mut ask = |target: &str| {
        exchange(&mut client, &format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n")).head
    };
    let head = ask("/");
    assert_eq!(head.values("date").count(), 1, "{head:?}");
    assert_eq!(head.value("via").as_deref(), Some("1.1 lateen"));
    for dropped in ["x-drop", "keep-alive"] {
        assert_eq!(head.value(dropped), None, "{dropped}");
    }
    assert!(!head.lists("connection", "x-drop"), "{head:?}");
    let head = ask("/dated");
    assert_eq!(head.values("date").collect::<Vec<_>>(), [date]);
}

fn a_response_to_http_1_0_is_never_chunked(engine: Engine) {
    let upstream = Upstream::answering(|request| match request.target() {
        "/chunked" => {
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n".to_vec()
        }
        _ => ok("abc", 3),
    });
    let proxy = Proxy::start(engine, &[upstream.address()]);
    let mut client = Peer::connect(proxy.address());
    // HTTP/1.0 keeps a connection only where both say so, and the length is known.
    let keep = "GET /known HTTP/1.0\r\nConnection: keep-alive\r\n\r\n";
    for _ in 0..2 {
        let response = exchange(&mut client, keep);
        assert_eq!(response.body, b"abc");
        assert!(response.head.lists("connection", "keep-alive"), "{:?}", response.head);
    }
    client.send("GET /chunked HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
    let (_, head) = read_response_head(&mut client).expect("a head");
    assert_eq!(head.value("transfer-encoding"), None);
    assert_eq!(client.read_to_end(), (b"abc".to_vec(), Ending::Closed));
}
