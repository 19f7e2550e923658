//! Upstreams on threads: one that runs a script on the bytes of each connection, and one that
//! answers whole requests and keeps them for the test to look at.

use crate::http::{Request, read_request};
use crate::peer::Peer;
use crate::wait::{PATIENCE, eventually};
use socket2::{Domain, Socket, Type};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;

/// More than any test connects at once: beyond the 128 of the standard library handshakes are dropped, and
/// tried again after the proxy's connect timeout.
const BACKLOG: i32 = 1024;

/// An upstream; its listener closes when it is dropped. Declare it before the proxy, so that it
/// outlives it.
#[derive(Debug)]
pub struct Upstream {
    address: SocketAddr,
    connections: Arc<AtomicUsize>,
    stopping: Arc<AtomicBool>,
    requests: Mutex<mpsc::Receiver<Request>>,
}

impl Upstream {
    /// Runs `script` on every connection, with its number from 0, each on a thread of its own. A
    /// script that panics ends its connection; the message is on stderr.
    pub fn scripted(script: impl Fn(Peer, usize) + Send + Sync + 'static) -> Self {
        let (_, requests) = mpsc::channel();
        Self::start(script, requests)
    }

    /// Answers every request with the bytes that `answer` makes of it. Requests are kept for
    /// [`Upstream::request`].
    pub fn answering(answer: impl Fn(&Request) -> Vec<u8> + Send + Sync + 'static) -> Self {
        let (sender, requests) = mpsc::channel();
        let script = move |mut peer: Peer, connection: usize| {
            while let Some(request) = read_request(&mut peer, connection) {
                let response = answer(&request);
                // The test may be over, and the client may be gone.
                let _ = sender.send(request);
                if peer.try_send(response).is_err() {
                    return;
                }
            }
        };
        Self::start(script, requests)
    }

    /// The same with 200 and this body; but it works on `/long` until it is told to end.
    pub fn working_long(body: &'static str) -> (Self, Arc<LongWork>) {
        let work = Arc::<LongWork>::default();
        let upstream = Self::answering({
            let work = work.clone();
            move |request| {
                if request.target() == "/long" {
                    work.begun.store(true, Ordering::Release);
                    eventually("leave", || work.may_end.load(Ordering::Acquire).then_some(()));
                }
                ok(body, body.len())
            }
        });
        (upstream, work)
    }

    /// Answers every request with 200 and this body.
    pub fn fixed(body: &'static str) -> Self {
        Self::answering(move |request| {
            ok(if request.head.start.starts_with("HEAD ") { "" } else { body }, body.len())
        })
    }

    fn start(
        script: impl Fn(Peer, usize) + Send + Sync + 'static,
        requests: mpsc::Receiver<Request>,
    ) -> Self {
        let (socket, address) = refusing();
        socket.listen(BACKLOG).expect("listen works");
        let listener = TcpListener::from(socket);
        let connections = Arc::new(AtomicUsize::new(0));
        let stopping = Arc::new(AtomicBool::new(false));
        let (count, stop) = (connections.clone(), stopping.clone());
        let script = Arc::new(script);
        thread::spawn(move || {
            for stream in listener.incoming() {
                if stop.load(Ordering::Acquire) {
                    return;
                }
                let peer = Peer::new(stream.expect("accept works"));
                let connection = count.fetch_add(1, Ordering::AcqRel);
                let script = script.clone();
                thread::spawn(move || {
                    // The message of a panic is printed by then; the others go on.
                    let _ = catch_unwind(AssertUnwindSafe(|| script(peer, connection)));
                });
            }
        });
        Self { address, connections, stopping, requests: Mutex::new(requests) }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// How many connections it has accepted.
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::Acquire)
    }

    /// The next request that arrived whole, waiting for it.
    ///
    /// # Panics
    /// When none comes.
    pub fn request(&self) -> Request {
        let requests = self.requests.lock().expect("no test panics while it waits");
        requests.recv_timeout(PATIENCE).expect("the upstream gets a request")
    }

    /// Requests that arrived whole and were not asked for yet.
    pub fn requests_so_far(&self) -> Vec<Request> {
        self.requests.lock().expect("no test panics while it waits").try_iter().collect()
    }
}

/// What an upstream works on for as long as a test wants.
#[derive(Debug, Default)]
pub struct LongWork {
    begun: AtomicBool,
    may_end: AtomicBool,
}

impl LongWork {
    /// Whether the request for it has arrived.
    pub fn has_begun(&self) -> bool {
        self.begun.load(Ordering::Acquire)
    }

    /// Lets the answer go.
    pub fn end(&self) {
        self.may_end.store(true, Ordering::Release);
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.stopping.store(true, Ordering::Release);
        // Wakes the thread that waits in accept, which then closes the listener.
        let _ = TcpStream::connect(self.address);
    }
}

/// A 200 with this `Content-Length`, and these bytes after the head.
pub fn ok(body: impl AsRef<[u8]>, length: usize) -> Vec<u8> {
    let mut response = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n").into_bytes();
    response.extend_from_slice(body.as_ref());
    response
}

/// An address on loopback where nobody listens: the port of a bound socket that does not. Keep the
/// socket as long as the address must refuse.
pub fn refusing() -> (Socket, SocketAddr) {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    let any: SocketAddr = "127.0.0.1:0".parse().expect("an address");
    socket.bind(&any.into()).expect("a free port on loopback");
    let address = socket.local_addr().expect("a bound socket has an address");
    (socket, address.as_socket().expect("an IPv4 address"))
}

/// An address on loopback where nobody listens yet, for a program that is told where to. It stays
/// bound to the end of this process, so that no other test gets it; a program that sets SO_REUSEADDR,
/// as servers do, can listen there all the same.
///
/// A listener that is closed again would do less: while another thread starts a program, the new
/// process still has it, until it has become that program, and takes connections.
pub fn free_address() -> SocketAddr {
    static KEPT: Mutex<Vec<Socket>> = Mutex::new(Vec::new());
    let (socket, address) = refusing();
    socket.set_reuse_address(true).expect("a TCP socket");
    KEPT.lock().expect("nothing panics meanwhile").push(socket);
    address
}

/// An address on loopback that lets connects hang: a listener whose queue is full. Keep what is
/// returned as long as they must.
pub fn hanging() -> (Socket, Vec<Socket>, SocketAddr) {
    let (socket, address) = refusing();
    socket.listen(0).expect("listen works");
    let mut queued = Vec::new();
    // Linux takes one more than the queue is long, then drops the handshakes.
    loop {
        let client = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        let limit = std::time::Duration::from_millis(200);
        if client.connect_timeout(&address.into(), limit).is_err() {
            return (socket, queued, address);
        }
        queued.push(client);
        assert!(queued.len() < 64, "the queue of a listener is never full");
    }
}
