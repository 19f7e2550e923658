//! `deploy/examples/proxy-protocol.yaml`: behind a real load balancer, and before an upstream that reads
//! the header.

use lateen_tests::example::Example;
use lateen_tests::http::exchange;
use lateen_tests::peer::{Ending, Peer};
use lateen_tests::proxy::Engine;
use lateen_tests::upstream::{Upstream, free_address, ok};
use lateen_tests::wait::eventually;
use socket2::{Domain, Socket, Type};
use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;

lateen_tests::on_both_engines!(
    clients_behind_a_load_balancer_are_known_by_name,
    bytes_of_any_protocol_carry_the_client_along,
    only_declared_sources_are_believed,
);

const GET: &str = "GET / HTTP/1.1\r\nHost: a.example\r\n\r\n";

/// An upstream that reads a header of version 2, then answers requests with `x-forwarded-for`, or, to
/// bytes that are none, the bytes. What the headers said comes by the channel.
fn upstream() -> (Upstream, mpsc::Receiver<SocketAddr>) {
    let (sender, said) = mpsc::channel();
    let upstream = Upstream::scripted(move |mut peer, _| {
        let fixed = peer.read_exactly(16);
        assert_eq!(&fixed[..12], b"\r\n\r\n\0\r\nQUIT\n");
        assert_eq!(fixed[12..], [0x21, 0x11, 0, 12], "a client over IPv4");
        let addresses = peer.read_exactly(12);
        let ip: [u8; 4] = addresses[..4].try_into().expect("four bytes");
        let port = u16::from_be_bytes([addresses[8], addresses[9]]);
        // The test may be over.
        let _ = sender.send((ip, port).into());
        let line = peer.read_until(b"\n").expect("bytes follow");
        if !line.starts_with(b"GET ") {
            peer.send(line);
            return;
        }
        // There is one request on each connection.
        let fields = peer.read_until(b"\r\n\r\n").expect("a head");
        let fields = String::from_utf8_lossy(&fields).to_lowercase();
        let client = fields.lines().find_map(|line| line.strip_prefix("x-forwarded-for: "));
        let client = client.unwrap_or_default();
        peer.send(ok(client, client.len()));
        assert_eq!(peer.read_some(), b"", "a second request on a client's connection");
    });
    (upstream, said)
}

/// haproxy, which passes connections on with a header; ended when dropped.
struct Balancer {
    child: Child,
    address: SocketAddr,
    _folder: tempfile::TempDir,
}

impl Balancer {
    fn start(to: SocketAddr, header: &str) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let address = free_address();
        let config = format!(
            "global\n  maxconn 64\ndefaults\n  mode tcp\n  timeout connect 30s\n  timeout client 60s\n  \
             timeout server 60s\nlisten front\n  bind {address}\n  server lateen {to} {header}\n"
        );
        let file = folder.path().join("haproxy.cfg");
        fs::write(&file, config).expect("the temporary folder can be written");
        let program = if std::path::Path::new("/usr/sbin/haproxy").exists() {
            "/usr/sbin/haproxy"
        } else {
            "haproxy"
        };
        let child = Command::new(program)
            .args(["-db", "-f"])
            .arg(&file)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        let child =
            child.unwrap_or_else(|error| panic!("haproxy: {error} (tests/run tools installs it)"));
        let balancer = Self { child, address, _folder: folder };
        eventually("haproxy listens", || {
            // Lateen is told of these connections too: they say nothing, and count for nothing.
            fs::read_to_string("/proc/net/tcp").ok().and_then(|table| {
                let wanted = format!("0100007F:{:04X} 00000000:0000 0A", address.port());
                table.contains(&wanted).then_some(())
            })
        });
        balancer
    }
}

impl Drop for Balancer {
    fn drop(&mut self) {
        // It may have ended by itself; the test says why then.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A client at this address of the loopback network.
fn client(last_octet: u8, to: SocketAddr) -> Peer {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    let address: SocketAddr = ([127, 0, 0, last_octet], 0).into();
    socket.bind(&address.into()).expect("an address of loopback");
    socket.connect(&to.into()).expect("it listens");
    Peer::new(TcpStream::from(socket))
}

fn headers(example: &Example, header: &str) -> f64 {
    example.proxy.metrics().sum("proxy_protocol_total", &[("header", header)])
}

fn clients_behind_a_load_balancer_are_known_by_name(engine: Engine) {
    let (upstream, said) = upstream();
    let example = Example::apply(engine, "proxy-protocol.yaml", &[upstream.address()]);
    for (round, header) in ["send-proxy", "send-proxy-v2"].into_iter().enumerate() {
        let balancer = Balancer::start(example.listen, header);
        let mut peer = client(7, balancer.address);
        let address = peer.local_address();
        let round = round as f64;
        for _ in 0..2 {
            let response = exchange(&mut peer, GET);
            assert_eq!(String::from_utf8_lossy(&response.body), "127.0.0.7", "{header}");
            // Each of the requests has a connection of its own, with a header of its own.
            assert_eq!(said.recv().expect("a header"), address, "{header}");
        }
        assert_eq!(headers(&example, "accepted"), round + 1.0, "{header}");
        assert_eq!(headers(&example, "sent"), 2.0 * round + 2.0, "{header}");
    }
    assert_eq!(upstream.connections(), 4);
    let metrics = example.proxy.metrics();
    assert_eq!(metrics.sum("pool_hit_total", &[]), 0.0);
    assert_eq!(metrics.sum("response_flags_total", &[]), 0.0);
    let line = example.proxy.access_log(4).pop().expect("four lines");
    let downstream = line["downstream"].as_str().expect("an address");
    assert!(downstream.starts_with("127.0.0.7:"), "{line}");
}

fn bytes_of_any_protocol_carry_the_client_along(engine: Engine) {
    let (upstream, said) = upstream();
    let example = Example::apply(engine, "proxy-protocol.yaml", &[upstream.address()]);
    let balancer = Balancer::start(example.listen, "send-proxy-v2");
    let mut peer = client(8, balancer.address);
    peer.send("=no HTTP\n");
    assert_eq!(peer.read_to_end(), (b"=no HTTP\n".to_vec(), Ending::Closed));
    assert_eq!(said.recv().expect("a header"), peer.local_address());
}

fn only_declared_sources_are_believed(engine: Engine) {
    let (upstream, said) = upstream();
    let example = Example::apply(engine, "proxy-protocol.yaml", &[upstream.address()]);
    let lie = "PROXY TCP4 192.0.2.9 192.0.2.1 1 2\r\n";

    // From a source that is not declared a header is bytes, which are no HTTP.
    let mut peer = client(9, example.listen);
    peer.send(lie);
    assert_eq!(peer.read_to_end(), (lie.as_bytes().to_vec(), Ending::Closed));
    assert_eq!(said.recv().expect("a header"), peer.local_address());
    assert_eq!(headers(&example, "accepted"), 0.0);
    let mut peer = client(9, example.listen);
    assert_eq!(exchange(&mut peer, GET).body, b"127.0.0.9");

    // A declared one has to send one, and a good one.
    for (bytes, header) in [
        (GET.to_owned(), "missing"),
        ("PROXY TCP4 192.0.2.9 192.0.2.1 1 70000\r\n".to_owned(), "refused"),
        (format!("PROXY UNKNOWN {}", "x".repeat(200)), "refused"),
    ] {
        let before = headers(&example, header);
        let mut peer = client(1, example.listen);
        peer.send(bytes);
        assert_eq!(peer.read_to_end(), (Vec::new(), Ending::Reset), "{header}");
        assert_eq!(headers(&example, header), before + 1.0);
    }
    let metrics = example.proxy.metrics();
    assert_eq!(metrics.sum("response_flags_total", &[("flag", "DPE")]), 3.0);

    // One byte at a time, and a request behind it; and a check of the balancer's own.
    let mut peer = client(1, example.listen);
    peer.send_bytewise(format!("{lie}{GET}"));
    let response = lateen_tests::http::read_response(&mut peer, "GET");
    assert_eq!(response.body, b"192.0.2.9");
    let mut peer = client(1, example.listen);
    peer.send(b"\r\n\r\n\0\r\nQUIT\n\x20\x00\x00\x00");
    assert_eq!(exchange(&mut peer, GET).body, b"127.0.0.1");
    assert_eq!((headers(&example, "accepted"), headers(&example, "local")), (1.0, 1.0));
}
