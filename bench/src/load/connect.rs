//! From an address to a [`Wire`]: the socket, its source address, the handshake.
//!
//! The socket connects by itself, without an operation that could need cancelling: what is waited
//! for is that it becomes writable, and the [`watch`](super::watch) ends that wait.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};

use monoio::io::AsyncReadRent;
use monoio::net::TcpStream;
use rustix::io::Errno;
use rustls::ClientConnection;
use socket2::{Domain, Protocol, Socket, Type};

use super::plan::Plan;
use super::tally::Fault;
use super::watch::{Watch, Watched};
use crate::engine::Engine;
use crate::wire::Wire;

/// Sources that connections are spread over: 127.0.0.1 to 127.0.0.250.
const SOURCES: u64 = 250;

/// Connects, from the source address number `source` if there is one.
///
/// # Errors
/// The fault, and the reason in words.
pub(crate) async fn connect(
    plan: &Plan,
    watch: &Watch,
    watched: &Watched,
    source: Option<u64>,
) -> Result<Wire, (Fault, String)> {
    let refused = |error: io::Error| (Fault::Connect, error.to_string());
    let socket = open(plan, source).map_err(refused)?;
    watch.opened(watched, &socket).map_err(refused)?;
    let stream = TcpStream::from_std(socket.into()).map_err(refused)?;
    let fault = |error: io::Error, fault| match error {
        _ if watched.has_expired() => (Fault::ConnectTimeout, "no connection in time".to_owned()),
        error => (fault, error.to_string()),
    };
    let stream = match established(stream).await {
        Ok(stream) => stream,
        Err(error) => return Err(fault(error, Fault::Connect)),
    };
    let Some((config, name)) = &plan.tls else { return Ok(Wire::plain(stream)) };
    let session = ClientConnection::new(config.clone(), name.clone())
        .map_err(|error| (Fault::Tls, error.to_string()))?;
    Wire::handshake(stream, session.into()).await.map_err(|error| fault(error, Fault::Tls))
}

/// A socket that is connecting.
fn open(plan: &Plan, source: Option<u64>) -> io::Result<Socket> {
    let socket = Socket::new(
        Domain::for_address(plan.address),
        Type::STREAM.nonblocking().cloexec(),
        Some(Protocol::TCP),
    )?;
    socket.set_tcp_nodelay(true)?;
    if let Some(number) = source {
        let last = (number % SOURCES) as u8 + 1;
        socket.bind(&SocketAddr::from((Ipv4Addr::new(127, 0, 0, last), 0)).into())?;
    }
    match socket.connect(&plan.address.into()) {
        Err(error) if error.raw_os_error() != Some(Errno::INPROGRESS.raw_os_error()) => {
            return Err(error);
        }
        _ => {}
    }
    // io_uring answers EAGAIN on a socket that doesn't block; epoll needs one that doesn't.
    socket.set_nonblocking(plan.engine == Engine::Epoll)?;
    Ok(socket)
}

async fn established(mut stream: TcpStream) -> io::Result<TcpStream> {
    stream.writable(false).await?;
    match stream.peer_addr() {
        Ok(_) => Ok(stream),
        // Only a read tells the reason.
        Err(no_peer) => match stream.read(Vec::with_capacity(1)).await.0 {
            Ok(_) => Err(no_peer),
            Err(reason) => Err(reason),
        },
    }
}
