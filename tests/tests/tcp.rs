//! TCP: both directions end on their own, and a reset stays a reset.

use lateen_tests::peer::{Ending, Peer};
use lateen_tests::proxy::{Engine, Launch, Proxy};
use lateen_tests::upstream::{Upstream, hanging, refusing};
use lateen_tests::wait::{PATIENCE, within};
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

lateen_tests::on_both_engines!(
    a_client_that_half_closes_still_gets_its_answer,
    an_upstream_that_half_closes_still_gets_the_rest,
    a_clients_reset_reaches_the_upstream_as_a_reset,
    a_clients_reset_after_its_end_reaches_the_upstream_as_a_reset,
    an_upstreams_reset_reaches_the_client_as_a_reset,
    a_refused_connection_is_a_reset_without_a_byte,
    a_hanging_connection_is_a_reset_in_time,
    large_transfers_arrive_whole_in_both_directions,
    an_idle_connection_is_closed,
);

const MIB: usize = 1 << 20;

fn start_tcp(engine: Engine, upstream: SocketAddr) -> Proxy {
    Launch::new(engine, &[upstream]).with("--protocol", "tcp").start()
}

fn pattern(length: usize) -> Vec<u8> {
    let block: Vec<u8> = (0..65_521_u32).map(|index| (index ^ (index >> 8)) as u8).collect();
    block.iter().copied().cycle().take(length).collect()
}

fn a_client_that_half_closes_still_gets_its_answer(engine: Engine) {
    let upstream = Upstream::scripted(|mut peer, _| {
        let (question, ending) = peer.read_to_end();
        assert_eq!(ending, Ending::Closed);
        peer.send("answer to ");
        peer.send(question);
    });
    let proxy = start_tcp(engine, upstream.address());
    let mut client = Peer::connect(proxy.address());
    client.send("question");
    client.half_close();
    assert_eq!(client.read_to_end(), (b"answer to question".to_vec(), Ending::Closed));
    proxy.await_metric("tcp_open_connections", &[], 0.0);
    proxy.await_metric("tcp_open_total", &[], 2.0);
}

fn an_upstream_that_half_closes_still_gets_the_rest(engine: Engine) {
    let (sender, receiver) = mpsc::channel();
    let upstream = Upstream::scripted(move |mut peer, _| {
        peer.send("all I say");
        peer.half_close();
        sender.send(peer.read_to_end()).expect("the test waits");
    });
    let proxy = start_tcp(engine, upstream.address());
    let mut client = Peer::connect(proxy.address());
    assert_eq!(client.read_to_end(), (b"all I say".to_vec(), Ending::Closed));
    client.send("and this is ");
    client.send("my part");
    client.half_close();
    let heard = receiver.recv().expect("the upstream tells what it heard");
    assert_eq!(heard, (b"and this is my part".to_vec(), Ending::Closed));
}

fn a_clients_reset_reaches_the_upstream_as_a_reset(engine: Engine) {
    let (sender, receiver) = mpsc::channel();
    let upstream = Upstream::scripted(move |mut peer, _| {
        peer.send(peer_hello());
        sender.send(peer.read_to_end()).expect("the test waits");
    });
    let proxy = start_tcp(engine, upstream.address());
    let mut client = Peer::connect(proxy.address());
    assert_eq!(client.read_exactly(5), peer_hello());
    client.reset();
    assert_eq!(receiver.recv().expect("the upstream tells").1, Ending::Reset);
    proxy.await_metric("tcp_open_connections", &[], 0.0);
}

fn a_clients_reset_after_its_end_reaches_the_upstream_as_a_reset(engine: Engine) {
    let (sender, receiver) = mpsc::channel();
    let upstream = Upstream::scripted(move |mut peer, _| {
        peer.send(peer_hello());
        assert_eq!(peer.ending(), Ending::Closed);
        sender.send(None).expect("the test waits for the FIN");
        // Reads only repeat the FIN; a reset after it is told as the socket's error.
        let error =
            within(PATIENCE, || peer.stream().take_error().expect("the error can be asked for"));
        sender.send(error.map(|error| error.kind())).expect("the test waits");
    });
    let proxy = start_tcp(engine, upstream.address());
    let mut client = Peer::connect(proxy.address());
    assert_eq!(client.read_exactly(5), peer_hello());
    client.half_close();
    let told = || receiver.recv_timeout(2 * PATIENCE).expect("the upstream tells in time");
    assert_eq!(told(), None);
    client.reset();
    let error = told().expect("a reset within the patience");
    // Linux: EPIPE where a FIN came before the RST.
    assert!(matches!(error, ErrorKind::BrokenPipe | ErrorKind::ConnectionReset), "{error:?}");
    proxy.await_metric("tcp_open_connections", &[], 0.0);
}

fn peer_hello() -> &'static [u8] {
    b"hello"
}

fn an_upstreams_reset_reaches_the_client_as_a_reset(engine: Engine) {
    let upstream = Upstream::scripted(|mut peer, _| {
        peer.read_exactly(4);
        peer.reset();
    });
    let proxy = start_tcp(engine, upstream.address());
    let mut client = Peer::connect(proxy.address());
    client.send("boom");
    assert_eq!(client.ending(), Ending::Reset);
    // Also when the client has half-closed before: then only a reset can still be told.
    let mut client = Peer::connect(proxy.address());
    client.half_close();
    assert_ne!(client.ending(), Ending::Open);
    proxy.await_metric("tcp_open_connections", &[], 0.0);
}

fn a_refused_connection_is_a_reset_without_a_byte(engine: Engine) {
    let (_bound, address) = refusing();
    let proxy = start_tcp(engine, address);
    // The reset may be there before the client's connect has returned; then that is what it tells.
    match std::net::TcpStream::connect(proxy.address()) {
        Ok(stream) => assert_eq!(Peer::new(stream).ending(), Ending::Reset),
        Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset),
    }
}

fn a_hanging_connection_is_a_reset_in_time(engine: Engine) {
    let (_listener, _queued, address) = hanging();
    let proxy = Launch::new(engine, &[address])
        .with("--protocol", "tcp")
        .with("--connect-timeout", "1500ms")
        .start();
    let began = Instant::now();
    let mut client = Peer::connect(proxy.address());
    assert_eq!(client.ending(), Ending::Reset);
    let took = began.elapsed();
    // Longer than without the flag; the rest is for a busy machine.
    assert!((Duration::from_millis(1500)..Duration::from_secs(10)).contains(&took), "{took:?}");
}

fn large_transfers_arrive_whole_in_both_directions(engine: Engine) {
    const LENGTH: usize = 32 * MIB;
    let upstream = Upstream::scripted(|mut peer, _| {
        let mut other = Peer::new(peer.stream().try_clone().expect("a second handle"));
        let writer = thread::spawn(move || {
            other.send(pattern(LENGTH));
            other.half_close();
        });
        let (bytes, ending) = peer.read_to_end();
        assert_eq!(ending, Ending::Closed);
        assert!(bytes == pattern(LENGTH), "{} bytes, or not the same", bytes.len());
        writer.join().expect("all was sent");
    });
    let proxy = start_tcp(engine, upstream.address());
    let mut client = Peer::connect(proxy.address());
    let mut sender = Peer::new(client.stream().try_clone().expect("a second handle"));
    let writer = thread::spawn(move || {
        sender.send(pattern(LENGTH));
        sender.half_close();
    });
    let (bytes, ending) = client.read_to_end();
    writer.join().expect("all was sent");
    assert_eq!(ending, Ending::Closed);
    assert!(bytes == pattern(LENGTH), "{} bytes, or not the same", bytes.len());
    let metrics = proxy.metrics();
    assert!(metrics.sum("bytes_spliced_total", &[]) > 0.0, "a long burst was never spliced");
    let total = 2.0 * LENGTH as f64;
    proxy.await_metric("tcp_read_bytes_total", &[], total);
    proxy.await_metric("tcp_write_bytes_total", &[], total);
}

fn an_idle_connection_is_closed(engine: Engine) {
    let upstream = Upstream::scripted(|mut peer, _| {
        peer.send("hi");
        peer.drain();
    });
    let proxy = Launch::new(engine, &[upstream.address()])
        .with("--protocol", "tcp")
        .with("--idle-timeout", "2s")
        .start();
    let began = Instant::now();
    let mut client = Peer::connect(proxy.address());
    assert_eq!(client.read_exactly(2), b"hi");
    assert_ne!(client.ending(), Ending::Open);
    assert!(began.elapsed() >= Duration::from_secs(2), "{:?}", began.elapsed());
    proxy.await_metric("tcp_open_connections", &[], 0.0);
}
