//! Strict framing: what two implementations could read differently is refused, the connection ends,
//! and nothing is forwarded. Responses get the same care.

use lateen_tests::http::{exchange, read_request, read_response};
use lateen_tests::peer::{Ending, Peer};
use lateen_tests::proxy::{Engine, Launch};
use lateen_tests::upstream::Upstream;

lateen_tests::on_both_engines!(
    refuses_requests_that_could_be_read_in_two_ways,
    refuses_broken_bodies_without_completing_them,
    refuses_what_is_past_a_limit,
    accepts_what_is_unusual_but_clear,
    refuses_connect_and_trace,
    refuses_responses_that_could_be_read_in_two_ways,
    a_response_that_breaks_off_is_not_taken_for_success,
    bytes_past_the_end_of_a_response_never_reach_anyone,
);

/// `GET / HTTP/1.1` with a valid Host and this field line.
fn get_with(field: &str) -> String {
    format!("GET / HTTP/1.1\r\nHost: a\r\n{field}\r\n\r\n")
}

/// `POST / HTTP/1.1` with a valid Host, this field line, and this body.
fn post_with(field: &str, body: &str) -> String {
    format!("POST / HTTP/1.1\r\nHost: a\r\n{field}\r\n\r\n{body}")
}

fn refused_requests() -> Vec<(&'static str, String, u16)> {
    let smuggled = "0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n";
    vec![
        (
            "length with coding",
            post_with("Content-Length: 6\r\nTransfer-Encoding: chunked", smuggled),
            400,
        ),
        (
            "coding with length",
            post_with("Transfer-Encoding: chunked\r\nContent-Length: 6", smuggled),
            400,
        ),
        ("length repeated", post_with("Content-Length: 3\r\nContent-Length: 3", "abc"), 400),
        ("lengths differ", post_with("Content-Length: 3\r\nContent-Length: 5", "abc"), 400),
        ("length as a list", post_with("Content-Length: 3, 3", "abc"), 400),
        ("length with a plus", post_with("Content-Length: +3", "abc"), 400),
        ("length with a minus", post_with("Content-Length: -3", "abc"), 400),
        ("length in hex", post_with("Content-Length: 0x3", "abc"), 400),
        ("length with a space inside", post_with("Content-Length: 1 0", "abc"), 400),
        ("length empty", post_with("Content-Length:", "abc"), 400),
        ("length overflows", post_with("Content-Length: 18446744073709551616", "abc"), 400),
        ("coding unknown", post_with("Transfer-Encoding: xchunked", smuggled), 501),
        ("coding twice", post_with("Transfer-Encoding: chunked, chunked", smuggled), 400),
        (
            "coding in two fields",
            post_with("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked", smuggled),
            400,
        ),
        ("coding not final", post_with("Transfer-Encoding: chunked, identity", smuggled), 400),
        ("coding after a vertical tab", post_with("Transfer-Encoding:\x0bchunked", smuggled), 400),
        (
            "coding in HTTP/1.0",
            "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n".into(),
            400,
        ),
        ("space before the colon", post_with("Transfer-Encoding : chunked", smuggled), 400),
        ("tab before the colon", get_with("X-A\t: 1"), 400),
        ("space in a name", get_with("X A: 1"), 400),
        ("empty name", get_with(": 1"), 400),
        ("no colon", get_with("X-A"), 400),
        ("line folded", get_with("X-A: 1\r\n 2"), 400),
        ("first field folded", "GET / HTTP/1.1\r\n Host: a\r\n\r\n".into(), 400),
        ("bare LF after a field", "GET / HTTP/1.1\r\nHost: a\nX-A: 1\r\n\r\n".into(), 400),
        ("bare LF after the request line", "GET / HTTP/1.1\nHost: a\r\n\r\n".into(), 400),
        ("bare LF at the end", "GET / HTTP/1.1\r\nHost: a\r\n\n".into(), 400),
        ("bare CR in a value", get_with("X-A: 1\r2"), 400),
        ("NUL in a value", get_with("X-A: 1\x002"), 400),
        ("control byte in a value", get_with("X-A: 1\x012"), 400),
        ("DEL in a value", get_with("X-A: 1\x7f2"), 400),
        ("control byte in the target", "GET /\x01 HTTP/1.1\r\nHost: a\r\n\r\n".into(), 400),
        ("space in the target", "GET / x HTTP/1.1\r\nHost: a\r\n\r\n".into(), 400),
        ("two spaces", "GET  / HTTP/1.1\r\nHost: a\r\n\r\n".into(), 400),
        ("no target", "GET HTTP/1.1\r\nHost: a\r\n\r\n".into(), 400),
        ("method is no token", "G@T / HTTP/1.1\r\nHost: a\r\n\r\n".into(), 400),
        ("version in small letters", "GET / http/1.1\r\nHost: a\r\n\r\n".into(), 400),
        ("version without a minor", "GET / HTTP/1\r\nHost: a\r\n\r\n".into(), 400),
        ("another major version", "GET / HTTP/2.0\r\nHost: a\r\n\r\n".into(), 505),
        ("no host", "GET / HTTP/1.1\r\n\r\n".into(), 400),
        ("two hosts", get_with("Host: a"), 400),
        ("host with user", "GET / HTTP/1.1\r\nHost: u@a\r\n\r\n".into(), 400),
        ("host with a path", "GET / HTTP/1.1\r\nHost: a/b\r\n\r\n".into(), 400),
        ("host with a port of letters", "GET / HTTP/1.1\r\nHost: a:b\r\n\r\n".into(), 400),
        ("host with too large a port", "GET / HTTP/1.1\r\nHost: a:65536\r\n\r\n".into(), 400),
        ("host with a space", "GET / HTTP/1.1\r\nHost: a b\r\n\r\n".into(), 400),
        ("absolute form with user", "GET http://u@a/ HTTP/1.1\r\nHost: a\r\n\r\n".into(), 400),
        ("two empty lines first", format!("\r\n\r\n{}", get_with("X-A: 1")), 400),
        ("expectation unknown", get_with("Expect: a-miracle"), 417),
        ("Host nominated", get_with("Connection: host"), 400),
        (
            "Content-Length nominated",
            post_with("Connection: content-length\r\nContent-Length: 1", "x"),
            400,
        ),
        (
            "Transfer-Encoding nominated",
            post_with("Connection: Transfer-Encoding\r\nTransfer-Encoding: chunked", smuggled),
            400,
        ),
        ("X-Forwarded-For nominated", get_with("Connection: close, X-Forwarded-For"), 400),
    ]
}

fn refuses_requests_that_could_be_read_in_two_ways(engine: Engine) {
    let upstream = Upstream::fixed("forwarded");
    let proxy = Launch::new(engine, &[upstream.address()]).with("--protocol", "http").start();
    let cases = refused_requests();
    let mut wrong = Vec::new();
    for (name, request, status) in &cases {
        let mut client = Peer::connect(proxy.address());
        client.send(request);
        let response = read_response(&mut client, "GET");
        // What follows in the same segment must not be taken for a second request.
        let (rest, ending) = client.read_to_end();
        let found = (
            response.status,
            rest.is_empty(),
            ending != Ending::Open,
            upstream.requests_so_far().len(),
        );
        if found != (*status, true, true, 0) {
            wrong.push(format!(
                "{name}: {found:?} instead of {status}, nothing more, closed, 0 forwarded"
            ));
        }
        if !response.head.lists("connection", "close") {
            wrong.push(format!("{name}: no `Connection: close`"));
        }
    }
    assert!(wrong.is_empty(), "\n{}\n", wrong.join("\n"));
    assert_eq!(upstream.connections(), 0, "not even a connection was made");
    proxy.await_metric("response_flags_total", &[("flag", "DPE")], cases.len() as f64);
    assert!(proxy.access_log(cases.len()).iter().all(|line| line["flags"] == "DPE"));
}

fn refuses_broken_bodies_without_completing_them(engine: Engine) {
    let upstream = Upstream::fixed("forwarded");
    let proxy = Launch::new(engine, &[upstream.address()]).with("--protocol", "http").start();
    let long = "x".repeat(100_000);
    for (name, body) in [
        ("size is no number", "g\r\n".to_owned()),
        ("size empty", "\r\nabc".to_owned()),
        ("size negative", "-1\r\n".to_owned()),
        ("size with 0x", "0x3\r\nabc\r\n0\r\n\r\n".to_owned()),
        ("size with a space first", " 3\r\nabc\r\n0\r\n\r\n".to_owned()),
        ("size overflows", "10000000000000000\r\n".to_owned()),
        ("bare LF after the size", "3\nabc\r\n0\r\n\r\n".to_owned()),
        ("no CRLF after the data", "3\r\nabcd\r\n0\r\n\r\n".to_owned()),
        ("bare LF after the data", "3\r\nabc\n0\r\n\r\n".to_owned()),
        ("extension without a bound", format!("3;{long}\r\nabc\r\n0\r\n\r\n")),
        ("bare LF in an extension", "3;a\nb\r\nabc\r\n0\r\n\r\n".to_owned()),
        ("trailer without a colon", "0\r\nX-A\r\n\r\n".to_owned()),
        ("trailer folded", "0\r\nX-A: 1\r\n 2\r\n\r\n".to_owned()),
        ("trailers without a bound", format!("0\r\nX-A: {long}\r\n\r\n")),
    ] {
        let mut client = Peer::connect(proxy.address());
        // The proxy may refuse before it has read all of it.
        let _ = client.try_send(post_with("Transfer-Encoding: chunked", &body));
        let response = read_response(&mut client, "POST");
        assert_eq!(response.status, 400, "{name}");
        assert_ne!(client.drain().1, Ending::Open, "{name}: not closed");
        assert!(upstream.requests_so_far().is_empty(), "{name}: a whole request was forwarded");
    }
}

fn refuses_what_is_past_a_limit(engine: Engine) {
    let upstream = Upstream::fixed("forwarded");
    let proxy = Launch::new(engine, &[upstream.address()])
        .with("--protocol", "http")
        .with("--head-bytes-max", "4KiB")
        .with("--headers-max", 10)
        .with("--target-bytes-max", "1KiB")
        .with("--body-bytes-max", 1000)
        .start();
    let long = |count: usize| "x".repeat(count);
    let chunk = format!("3e9\r\n{}\r\n0\r\n\r\n", long(1001));
    for (name, request, status) in [
        ("target", format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", long(1024)), 414),
        ("head", get_with(&format!("X-A: {}", long(4096))), 431),
        ("head that never ends", format!("GET / HTTP/1.1\r\nHost: a\r\nX-A: {}", long(5000)), 431),
        ("fields", get_with(&["X-A: 1"; 10].join("\r\n")), 431),
        ("body by its length", post_with("Content-Length: 1001", ""), 413),
        ("body by its chunks", post_with("Transfer-Encoding: chunked", &chunk), 413),
    ] {
        let mut client = Peer::connect(proxy.address());
        client.send(request);
        assert_eq!(read_response(&mut client, "GET").status, status, "{name}");
        assert_ne!(client.drain().1, Ending::Open, "{name}: not closed");
        assert!(upstream.requests_so_far().is_empty(), "{name}: forwarded");
    }
    for (name, request) in [
        ("target", format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", long(1000))),
        ("fields", get_with(&["X-A: 1"; 9].join("\r\n"))),
        ("body", post_with("Content-Length: 1000", &long(1000))),
    ] {
        let response = exchange(&mut Peer::connect(proxy.address()), &request);
        assert_eq!(response.status, 200, "{name} at its limit");
    }
}

fn accepts_what_is_unusual_but_clear(engine: Engine) {
    let upstream = Upstream::fixed("forwarded");
    let proxy = Launch::new(engine, &[upstream.address()]).with("--protocol", "http").start();
    for (name, request) in [
        ("an empty line first", format!("\r\n{}", get_with("X-A: 1"))),
        ("absolute form", "GET http://a:80/x HTTP/1.1\r\nHost: a:80\r\n\r\n".to_owned()),
        ("an IPv6 host", "GET / HTTP/1.1\r\nHost: [::1]:8080\r\n\r\n".to_owned()),
        ("a method of its own", "PURGE / HTTP/1.1\r\nHost: a\r\n\r\n".to_owned()),
        ("white space around a value", get_with("X-A: \t 1 \t ")),
        ("an empty value", get_with("X-A:")),
        ("text beyond ASCII in a value", get_with("X-A: \u{e9}")),
        ("a length of zero", post_with("Content-Length: 0", "")),
        ("a length with zeros first", post_with("Content-Length: 0003", "abc")),
        ("coding in capitals", post_with("Transfer-Encoding: Chunked", "0\r\n\r\n")),
        ("a short extension", post_with("Transfer-Encoding: chunked", "3;a=b\r\nabc\r\n0\r\n\r\n")),
        (
            "zeros before a size",
            post_with("Transfer-Encoding: chunked", "0003\r\nabc\r\n000\r\n\r\n"),
        ),
    ] {
        let response = exchange(&mut Peer::connect(proxy.address()), &request);
        assert_eq!(response.status, 200, "{name}");
        assert_eq!(upstream.requests_so_far().len(), 1, "{name}");
    }
}

fn refuses_connect_and_trace(engine: Engine) {
    let upstream = Upstream::fixed("forwarded");
    let proxy = Launch::new(engine, &[upstream.address()]).with("--protocol", "http").start();
    for request in
        ["CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n", "TRACE / HTTP/1.1\r\nHost: a\r\n\r\n"]
    {
        let response = exchange(&mut Peer::connect(proxy.address()), request);
        assert_eq!(response.status, 405, "{request}");
        let allowed = response.head.value("allow").expect("405 says what is allowed");
        assert!(
            allowed.contains("GET") && !allowed.contains("TRACE") && !allowed.contains("CONNECT")
        );
    }
    assert_eq!(upstream.connections(), 0);
}

const REFUSED_RESPONSES: &[(&str, &str)] = &[
    (
        "length with coding",
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ),
    ("lengths differ", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello"),
    ("length with a plus", "HTTP/1.1 200 OK\r\nContent-Length: +5\r\n\r\nhello"),
    ("coding unknown", "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\nhello"),
    ("coding twice", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n"),
    ("bare LF", "HTTP/1.1 200 OK\nContent-Length: 5\r\n\r\nhello"),
    ("bare CR in a value", "HTTP/1.1 200 OK\r\nX-A: 1\r2\r\nContent-Length: 5\r\n\r\nhello"),
    ("line folded", "HTTP/1.1 200 OK\r\nX-A: 1\r\n 2\r\nContent-Length: 5\r\n\r\nhello"),
    ("space before the colon", "HTTP/1.1 200 OK\r\nContent-Length : 5\r\n\r\nhello"),
    ("NUL in a value", "HTTP/1.1 200 OK\r\nX-A: \0\r\nContent-Length: 5\r\n\r\nhello"),
    ("another major version", "HTTP/2.0 200 OK\r\nContent-Length: 5\r\n\r\nhello"),
    ("status of two digits", "HTTP/1.1 20 OK\r\nContent-Length: 5\r\n\r\nhello"),
    ("status of four digits", "HTTP/1.1 2000 OK\r\nContent-Length: 5\r\n\r\nhello"),
    ("no HTTP at all", "220 mail.test ESMTP\r\n\r\n"),
];

fn refuses_responses_that_could_be_read_in_two_ways(engine: Engine) {
    let upstream = Upstream::answering(|request| {
        let index: usize = request.target()[1..].parse().expect("the target is an index");
        REFUSED_RESPONSES[index].1.into()
    });
    let proxy = Launch::new(engine, &[upstream.address()]).start();
    let mut wrong = Vec::new();
    for (index, (name, _)) in REFUSED_RESPONSES.iter().enumerate() {
        let request = format!("GET /{index} HTTP/1.1\r\nHost: a\r\n\r\n");
        let response = exchange(&mut Peer::connect(proxy.address()), &request);
        if response.status != 502 {
            wrong.push(format!("{name}: {}", response.status));
        }
        if response.body.windows(5).any(|window| window == b"hello") {
            wrong.push(format!("{name}: the body got through"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:?}");
    let count = REFUSED_RESPONSES.len();
    assert_eq!(
        upstream.connections(),
        count,
        "a connection with a broken response is not used again"
    );
    proxy.await_metric("response_flags_total", &[("flag", "UPE")], count as f64);
    assert!(proxy.access_log(count).iter().all(|line| line["flags"] == "UPE"));
}

fn a_response_that_breaks_off_is_not_taken_for_success(engine: Engine) {
    for (name, sent, reset) in [
        ("length, closed", "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello", false),
        ("length, reset", "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello", true),
        (
            "chunked, closed",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
            false,
        ),
        (
            "chunked, reset",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
            true,
        ),
        (
            "chunked, bad size",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\nx\r\n",
            false,
        ),
    ] {
        // The break comes only after the client has the beginning, so that it can't become a 502.
        let (go, wait) = std::sync::mpsc::channel::<()>();
        let wait = std::sync::Mutex::new(wait);
        let upstream = Upstream::scripted(move |mut peer, connection| {
            while read_request(&mut peer, connection).is_some() {
                let (first, last) =
                    sent.split_at(sent.find("hello").expect("it is in every case") + 5);
                peer.send(first);
                wait.lock().expect("one at a time").recv().expect("the client says when");
                peer.send(last);
                if reset {
                    return peer.reset();
                }
                peer.half_close();
            }
        });
        let proxy = Launch::new(engine, &[upstream.address()]).start();
        for version in ["1.1", "1.0"] {
            let mut client = Peer::connect(proxy.address());
            client.send(format!("GET / HTTP/{version}\r\nHost: a\r\n\r\n"));
            let head = client.read_until(b"\r\n\r\n").expect("a head");
            let head = String::from_utf8(head).expect("a head is text").to_ascii_lowercase();
            client.read_until(b"hello").expect("the beginning of the body");
            go.send(()).expect("the upstream waits");
            let (rest, ending) = client.read_to_end();
            assert!(!rest.ends_with(b"0\r\n\r\n"), "{name}: the last chunk was made up");
            let framed = head.contains("content-length") || head.contains("chunked");
            let told = if framed { ending != Ending::Open } else { ending == Ending::Reset };
            assert!(told, "{name}, HTTP/{version}: {ending:?} after {head}");
        }
        let lines = proxy.access_log(2);
        assert!(
            lines.iter().all(|line| line["flags"] == "UR" || line["flags"] == "UPE"),
            "{name}: {lines:?}"
        );
        proxy.await_metric("response_total", &[("classification", "failure")], 2.0);
    }
}

fn bytes_past_the_end_of_a_response_never_reach_anyone(engine: Engine) {
    let upstream = Upstream::answering(|_| {
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhelloHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil".to_vec()
    });
    let proxy = Launch::new(engine, &[upstream.address()]).start();
    let mut client = Peer::connect(proxy.address());
    for _ in 0..5 {
        let response = exchange(&mut client, "GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!((response.status, response.body.as_slice()), (200, b"hello".as_slice()));
    }
    assert_eq!(upstream.connections(), 5, "a connection with unread bytes is not used again");
}
