//! The reference programs forward what they were sent: a wrong floor would be a fast one.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
    process::{Child, Command, Stdio},
    time::Duration,
};

const FLOOR: &str = env!("CARGO_BIN_EXE_floor");
const FLOOR_SPLICE: &str = env!("CARGO_BIN_EXE_floor_splice");
const PIPE: &str = env!("CARGO_BIN_EXE_pipe");
const UPSTREAM: &str = env!("CARGO_BIN_EXE_upstream");

/// A program that listens; killed by its handle when the test ends.
struct Running {
    child: Child,
    address: SocketAddr,
}

impl Running {
    fn start(program: &str, arguments: &[&str]) -> Self {
        let mut child = Command::new(program)
            .args(["--listen", "127.0.0.1:0"])
            .args(arguments)
            .stdout(Stdio::piped())
            .spawn()
            .expect("the program was built with this test");
        let mut line = String::new();
        let stdout = child.stdout.take().expect("stdout is piped");
        BufReader::new(stdout).read_line(&mut line).expect("it says where it listens");
        let address = line.trim().rsplit(' ').next().and_then(|word| word.parse().ok());
        Self { child, address: address.expect("listening ADDR") }
    }

    fn forwarder(program: &str, upstream: &Self, arguments: &[&str]) -> Self {
        let address = upstream.address.to_string();
        Self::start(program, &[&["--upstream", &address], arguments].concat())
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).expect("it listens");
        stream.set_read_timeout(Some(Duration::from_secs(10))).expect("a valid timeout");
        stream.set_nodelay(true).expect("a live socket");
        stream
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.child.kill().expect("it is still running: these programs never end");
        self.child.wait().expect("it was just killed");
    }
}

/// Every forwarder in front of an upstream that was started with `arguments`.
fn with_each_forwarder(arguments: &[&str], check: impl Fn(&str, &Running)) {
    let upstream = Running::start(UPSTREAM, arguments);
    for (program, mode) in
        [(FLOOR, None), (FLOOR_SPLICE, None), (PIPE, Some("copy")), (PIPE, Some("splice"))]
    {
        let mode: Vec<&str> = mode.iter().flat_map(|mode| ["--mode", mode]).collect();
        check(program, &Running::forwarder(program, &upstream, &mode));
    }
}

/// Reads one response and returns its head and its body's length.
fn read_response(stream: &mut impl BufRead) -> (String, usize) {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        assert!(stream.read_line(&mut head).expect("an answer in time") > 0, "ended in a head");
    }
    let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: "));
    let length = length.expect("the upstream sends one").parse().expect("a number");
    let mut body = vec![0; length];
    stream.read_exact(&mut body).expect("the whole body");
    assert!(body.iter().all(|&byte| byte == b'x'), "a body byte was changed");
    (head, length)
}

#[test]
fn forwards_bodies_of_every_size_over_one_connection() {
    with_each_forwarder(&[], |program, forwarder| {
        let mut stream = BufReader::new(forwarder.connect());
        for size in [100, 65_536, 1_048_576, 100, 1_048_576] {
            let request = format!("GET /{size} HTTP/1.1\r\nHost: a\r\n\r\n");
            stream.get_mut().write_all(request.as_bytes()).expect("a live connection");
            let (head, length) = read_response(&mut stream);
            assert!(head.starts_with("HTTP/1.1 200"), "{program}: {head}");
            assert_eq!(length, size, "{program}");
        }
    });
}

#[test]
fn forwards_many_fields() {
    let fields: String =
        (0..30).map(|index| format!("x-field-{index:02}: {}\r\n", "v".repeat(260))).collect();
    with_each_forwarder(&[], |program, forwarder| {
        let mut stream = BufReader::new(forwarder.connect());
        let request = format!("GET /100 HTTP/1.1\r\nHost: a\r\n{fields}\r\n");
        stream.get_mut().write_all(request.as_bytes()).expect("a live connection");
        assert_eq!(read_response(&mut stream).1, 100, "{program}");
    });
}

#[test]
fn hides_that_the_upstream_closes_after_each_response() {
    let upstream = Running::start(UPSTREAM, &["--close-every", "1"]);
    for program in [FLOOR, FLOOR_SPLICE] {
        let forwarder = Running::forwarder(program, &upstream, &[]);
        let mut stream = BufReader::new(forwarder.connect());
        for size in [100, 65_536, 100, 100] {
            let request = format!("GET /{size} HTTP/1.1\r\nHost: a\r\n\r\n");
            stream.get_mut().write_all(request.as_bytes()).expect("a live connection");
            let (head, length) = read_response(&mut stream);
            assert!(!head.contains("Connection"), "{program}: {head}");
            assert_eq!(length, size, "{program}");
        }
    }
}

#[test]
fn closes_when_the_client_asked_to() {
    let upstream = Running::start(UPSTREAM, &[]);
    for program in [FLOOR, FLOOR_SPLICE] {
        let forwarder = Running::forwarder(program, &upstream, &[]);
        let mut stream = BufReader::new(forwarder.connect());
        let request = b"GET /65536 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
        stream.get_mut().write_all(request).expect("a live connection");
        assert_eq!(read_response(&mut stream).1, 65_536, "{program}");
        assert_eq!(stream.read(&mut [0]).expect("FIN, no reset"), 0, "{program}");
    }
}

#[test]
fn floor_takes_a_request_byte_by_byte_and_answers_pipelined_ones_in_order() {
    let upstream = Running::start(UPSTREAM, &[]);
    let forwarder = Running::forwarder(FLOOR, &upstream, &[]);
    let mut stream = BufReader::new(forwarder.connect());
    for byte in b"GET /100 HTTP/1.1\r\nHost: a\r\n\r\n" {
        stream.get_mut().write_all(&[*byte]).expect("a live connection");
    }
    assert_eq!(read_response(&mut stream).1, 100);
    let sizes = [100, 65_536, 100, 1_048_576, 100];
    let requests: String =
        sizes.iter().map(|size| format!("GET /{size} HTTP/1.1\r\nHost: a\r\n\r\n")).collect();
    stream.get_mut().write_all(requests.as_bytes()).expect("a live connection");
    for size in sizes {
        assert_eq!(read_response(&mut stream).1, size);
    }
}

#[test]
fn floor_survives_more_slow_readers_than_it_has_buffers() {
    let upstream = Running::start(UPSTREAM, &[]);
    let forwarder = Running::forwarder(FLOOR, &upstream, &[]);
    let mut streams: Vec<_> = (0..400).map(|_| BufReader::new(forwarder.connect())).collect();
    for stream in &mut streams {
        let request = b"GET /1048576 HTTP/1.1\r\nHost: a\r\n\r\n";
        stream.get_mut().write_all(request).expect("a live connection");
    }
    for stream in &mut streams {
        assert_eq!(read_response(stream).1, 1_048_576);
    }
}
