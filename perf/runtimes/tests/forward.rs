//! Each of the six forwards byte for byte what it was sent: a wrong one would be a fast one.

#[path = "forward/origin.rs"]
mod origin;

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    process::{Child, Command, Stdio},
    time::Duration,
};

use origin::{Origin, body};

/// Each program, and whether it can splice.
const PROGRAMS: [(&str, bool); 6] = [
    (env!("CARGO_BIN_EXE_forward-lateen-ring"), true),
    (env!("CARGO_BIN_EXE_forward-monoio"), true),
    (env!("CARGO_BIN_EXE_forward-glommio"), false),
    (env!("CARGO_BIN_EXE_forward-compio"), false),
    (env!("CARGO_BIN_EXE_forward-tokio"), true),
    (env!("CARGO_BIN_EXE_forward-epoll"), true),
];

const MIB: usize = 1 << 20;

/// A forwarder; killed by its handle when the test ends.
struct Running {
    child: Child,
    address: SocketAddr,
}

impl Running {
    fn start(program: &str, upstream: SocketAddr, arguments: &[&str]) -> Self {
        let mut child = Command::new(program)
            .args(["--listen", "127.0.0.1:0", "--upstream", &upstream.to_string()])
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

    fn connect(&self) -> BufReader<TcpStream> {
        let stream = TcpStream::connect(self.address).expect("it listens");
        stream.set_read_timeout(Some(Duration::from_secs(20))).expect("a valid timeout");
        stream.set_nodelay(true).expect("a live socket");
        BufReader::new(stream)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.child.kill().expect("a child can be killed, also one that ended");
        self.child.wait().expect("it was just killed");
    }
}

/// Every forwarder in every mode that it has, in front of `upstream`.
fn with_each(upstream: SocketAddr, check: impl Fn(&str, &mut Running)) {
    for (program, splices) in PROGRAMS {
        let mut modes = vec![&[][..]];
        if splices {
            modes.push(&["--splice", "true"][..]);
        }
        if program.ends_with("monoio") || program.ends_with("compio") {
            modes.push(&["--defer-taskrun", "true"][..]);
        }
        for mode in modes {
            let name =
                format!("{} {}", program.rsplit('/').next().unwrap_or(program), mode.join(" "));
            check(&name, &mut Running::start(program, upstream, mode));
        }
    }
}

fn write(stream: &mut BufReader<TcpStream>, bytes: impl AsRef<[u8]>) {
    stream.get_mut().write_all(bytes.as_ref()).expect("a live connection");
}

fn get(stream: &mut BufReader<TcpStream>, size: usize) {
    write(stream, format!("GET /{size} HTTP/1.1\r\nHost: a\r\n\r\n"));
}

/// Reads one response: its head and its body.
fn read_response(stream: &mut impl BufRead, name: &str) -> (String, Vec<u8>) {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        let count = stream.read_line(&mut head);
        assert!(count.unwrap_or_else(|error| panic!("{name}: {error}")) > 0, "{name}: {head:?}");
    }
    let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: "));
    let length = length.expect("the origin sends one").parse().expect("a number");
    let mut body = vec![0; length];
    stream.read_exact(&mut body).unwrap_or_else(|error| panic!("{name}: {error} in a body"));
    (head, body)
}

/// Reads one response and checks that its body is the origin's of `size` bytes.
fn expect_body(stream: &mut impl BufRead, size: usize, name: &str) -> String {
    let (head, received) = read_response(stream, name);
    assert!(head.starts_with("HTTP/1.1 200"), "{name}: {head}");
    assert!(received == body(size), "{name}: {size} bytes were changed");
    head
}

/// The connection ends without another byte; by a reset where something was left unread.
fn expect_end(stream: &mut impl Read, name: &str) {
    let read = stream.read(&mut [0]);
    let ended = match &read {
        Ok(count) => *count == 0,
        Err(error) => error.kind() == std::io::ErrorKind::ConnectionReset,
    };
    assert!(ended, "{name}: {read:?}");
}

#[test]
fn forwards_bodies_of_every_size_over_one_connection() {
    with_each(Origin::start(usize::MAX), |name, forwarder| {
        let mut stream = forwarder.connect();
        for size in [100, 65_536, MIB, 0, 100, 16_384, 40_000, MIB, 100] {
            get(&mut stream, size);
            expect_body(&mut stream, size, name);
        }
    });
}

#[test]
fn forwards_request_bodies_and_keeps_what_is_pipelined_behind() {
    with_each(Origin::start(usize::MAX), |name, forwarder| {
        let mut stream = forwarder.connect();
        for size in [1, 100, 65_536, MIB, 0] {
            let head = format!("POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: {size}\r\n\r\n");
            let next = b"GET /100 HTTP/1.1\r\nHost: a\r\n\r\n";
            let bytes = [head.as_bytes(), &body(size), next].concat();
            let mut sender = stream.get_ref().try_clone().expect("a live socket");
            std::thread::scope(|scope| {
                scope.spawn(move || sender.write_all(&bytes).expect("a live connection"));
                expect_body(&mut stream, size, name);
                expect_body(&mut stream, 100, name);
            });
        }
    });
}

#[test]
fn takes_heads_in_pieces_and_answers_pipelined_requests_in_order() {
    with_each(Origin::start(usize::MAX), |name, forwarder| {
        let mut stream = forwarder.connect();
        for byte in b"GET /100 HTTP/1.1\r\nHost: a\r\n\r\n" {
            write(&mut stream, [*byte]);
        }
        expect_body(&mut stream, 100, name);
        let sizes = [100, 65_536, 100, MIB, 100];
        let requests: String =
            sizes.iter().map(|size| format!("GET /{size} HTTP/1.1\r\nHost: a\r\n\r\n")).collect();
        let (first, second) = requests.split_at(requests.len() / 2 + 5);
        write(&mut stream, first);
        expect_body(&mut stream, sizes[0], name);
        write(&mut stream, second);
        for size in &sizes[1..] {
            expect_body(&mut stream, *size, name);
        }
    });
}

#[test]
fn hides_that_the_upstream_closes() {
    // Says so, then does so.
    with_each(Origin::start(1), |name, forwarder| {
        let mut stream = forwarder.connect();
        for size in [100, 65_536, 100, MIB, 100] {
            get(&mut stream, size);
            let head = expect_body(&mut stream, size, name);
            assert!(!head.contains("Connection"), "{name}: {head}");
        }
    });
}

#[test]
fn asks_again_where_an_idle_upstream_closed_without_a_word() {
    with_each(Origin::start_silent(2), |name, forwarder| {
        let mut stream = forwarder.connect();
        for size in [100, 100, 100, 65_536, 100, 100, 100] {
            get(&mut stream, size);
            expect_body(&mut stream, size, name);
        }
    });
}

#[test]
fn closes_when_the_client_asked_to_and_hides_its_connection_line() {
    with_each(Origin::start(usize::MAX), |name, forwarder| {
        for size in [100, MIB] {
            let mut stream = forwarder.connect();
            let line = "Connection: close\r\n";
            write(&mut stream, format!("GET /{size} HTTP/1.1\r\nHost: a\r\n{line}X: y\r\n\r\n"));
            let head = expect_body(&mut stream, size, name);
            // The origin counts the fields it received.
            assert!(head.contains("X-Fields: 2\r\n"), "{name}: {head}");
            expect_end(&mut stream, name);
        }
    });
}

#[test]
fn serves_fifty_connections_at_a_time() {
    with_each(Origin::start(usize::MAX), |name, forwarder| {
        let mut streams: Vec<_> = (0..50).map(|_| forwarder.connect()).collect();
        for size in [100, 65_536, 100, MIB, 100] {
            for stream in &mut streams {
                get(stream, size);
            }
            for stream in &mut streams {
                expect_body(stream, size, name);
            }
        }
    });
}

#[test]
fn closes_where_no_upstream_is_or_a_head_is_bad() {
    let nobody = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
    with_each(nobody.expect("a free port"), |name, forwarder| {
        for bytes in ["GET /100 HTTP/1.1\r\nHost: a\r\n\r\n", "\0\r\n\r\n", &"a".repeat(20_000)] {
            let mut stream = forwarder.connect();
            write(&mut stream, bytes);
            expect_end(&mut stream, name);
        }
    });
}

#[test]
fn closes_within_a_body_that_the_upstream_cuts_short() {
    with_each(Origin::start(usize::MAX), |name, forwarder| {
        let mut stream = forwarder.connect();
        write(&mut stream, "GET /short HTTP/1.1\r\nHost: a\r\n\r\n");
        let mut bytes = Vec::new();
        let read = stream.read_to_end(&mut bytes);
        assert!(bytes.len() < MIB, "{name}: {read:?} and {} bytes", bytes.len());
    });
}

#[test]
fn refuses_to_splice_where_the_runtime_cannot() {
    for (program, _) in PROGRAMS.iter().filter(|(_, splices)| !splices) {
        let output = Command::new(program)
            .args(["--listen", "127.0.0.1:0", "--upstream", "127.0.0.1:1", "--splice", "true"])
            .output()
            .expect("the program was built with this test");
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{program}: {said}");
        assert!(said.contains("sockets have no splice"), "{program}: {said}");
    }
}

#[test]
fn ends_with_zero_at_sigterm() {
    with_each(Origin::start(usize::MAX), |name, forwarder| {
        let mut stream = forwarder.connect();
        get(&mut stream, 100);
        expect_body(&mut stream, 100, name);
        let pid = forwarder.child.id().to_string();
        let asked = Command::new("kill").arg(pid).status().expect("kill is there");
        assert!(asked.success(), "{name}");
        let status = forwarder.child.wait().expect("a child of this test");
        assert_eq!(status.code(), Some(0), "{name}");
    });
}
