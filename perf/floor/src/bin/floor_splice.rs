//! The floor for bulk: heads are read and parsed, bodies of known length move by splice(2).
//!
//! Where `floor` copies every byte twice through user space, this reads a response head with no more
//! than a page and leaves the rest of the body in the socket for the splice. On epoll, for the
//! splice has to be called directly. A client's request has to arrive whole (its rows send GETs
//! without a body, and none pipelines); anything else is answered by closing.

use std::{
    collections::HashMap,
    error::Error,
    io::{self, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    os::fd::{AsRawFd, RawFd},
};

use lateen_floor::{
    args::Args,
    epoll::Epoll,
    head::{parse_request, parse_response},
    socket,
    splice::{Pipe, Pumped},
};

const USAGE: &str = "floor_splice --listen ADDR --upstream ADDR";

/// A request head may be this large; its row has 8 KiB at most.
const REQUEST_BYTES_MAX: usize = 64 * 1024;

/// What the first read of a response may bring: a head, and not much body to copy.
const RESPONSE_HEAD_BYTES_MAX: usize = 4096;

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = Args::from_env(USAGE);
    let address = args.required("listen");
    let upstream = args.required("upstream");
    args.finish();
    socket::raise_descriptor_limit()?;
    let listener = socket::listen(address)?;
    listener.set_nonblocking(true)?;
    Floor {
        epoll: Epoll::new()?,
        listener,
        upstream,
        clients: HashMap::new(),
        leased: HashMap::new(),
        pool: Vec::new(),
        pipes: Vec::new(),
        buffer: vec![0; REQUEST_BYTES_MAX],
    }
    .run()?;
    Ok(())
}

struct Floor {
    epoll: Epoll,
    listener: TcpListener,
    upstream: SocketAddr,
    clients: HashMap<RawFd, Client>,
    /// By an upstream's descriptor: the client it works for.
    leased: HashMap<RawFd, RawFd>,
    pool: Vec<TcpStream>,
    pipes: Vec<Pipe>,
    buffer: Vec<u8>,
}

struct Client {
    stream: TcpStream,
    exchange: Option<Exchange>,
}

struct Exchange {
    upstream: TcpStream,
    /// What follows once the head was sent on.
    body: Option<Body>,
    without_body: bool,
    client_closes: bool,
}

struct Body {
    pipe: Pipe,
    left: usize,
    reusable: bool,
}

/// The connection cannot go on; both sides of its exchange are closed.
struct Broken;

impl From<io::Error> for Broken {
    fn from(_: io::Error) -> Self {
        Self
    }
}

impl Floor {
    fn run(mut self) -> io::Result<()> {
        let listener = self.listener.as_raw_fd();
        self.epoll.add(listener, listener as u64)?;
        let mut ready = Vec::new();
        loop {
            self.epoll.wait(None, &mut ready)?;
            for &token in &ready {
                let fd = token as RawFd;
                if fd == listener {
                    self.accept_all()?;
                } else if let Some(&client) = self.leased.get(&fd) {
                    self.advance(client);
                } else if self.clients.contains_key(&fd) {
                    self.advance(fd);
                } else {
                    // A pooled upstream that closed, or spoke unasked; an edge of a closed socket
                    // finds nothing here.
                    self.pool.retain(|stream| stream.as_raw_fd() != fd || is_quiet(stream));
                }
            }
        }
    }

    fn accept_all(&mut self) -> io::Result<()> {
        loop {
            let stream = match self.listener.accept() {
                Ok((stream, _)) => stream,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            };
            stream.set_nonblocking(true)?;
            let fd = stream.as_raw_fd();
            self.epoll.add(fd, fd as u64)?;
            self.clients.insert(fd, Client { stream, exchange: None });
        }
    }

    /// Goes on with whatever this client waits for, until a socket would block.
    fn advance(&mut self, fd: RawFd) {
        let Some(mut client) = self.clients.remove(&fd) else { return };
        match self.go_on(&mut client) {
            Ok(()) => {
                self.clients.insert(fd, client);
            }
            Err(Broken) => {
                if let Some(exchange) = client.exchange {
                    self.leased.remove(&exchange.upstream.as_raw_fd());
                }
            }
        }
    }

    fn go_on(&mut self, client: &mut Client) -> Result<(), Broken> {
        loop {
            let moved = match client.exchange.as_ref().map(|exchange| exchange.body.is_some()) {
                None => self.start_exchange(client)?,
                Some(false) => self.forward_head(client)?,
                Some(true) => self.forward_body(client)?,
            };
            if !moved {
                return Ok(());
            }
        }
    }

    fn start_exchange(&mut self, client: &mut Client) -> Result<bool, Broken> {
        let Some(count) = read(&mut client.stream, &mut self.buffer)? else { return Ok(false) };
        let bytes = &mut self.buffer[..count];
        let head = parse_request(bytes).map_err(|_| Broken)?.ok_or(Broken)?;
        if head.length != count || head.content_length.unwrap_or_default() > 0 {
            return Err(Broken);
        }
        let line = head.connection_line.unwrap_or(0..0);
        bytes.copy_within(..line.start, line.len());
        let mut upstream = self.pool.pop().map_or_else(|| self.connect(), Ok)?;
        upstream.write_all(&self.buffer[line.len()..count])?;
        self.leased.insert(upstream.as_raw_fd(), client.stream.as_raw_fd());
        client.exchange = Some(Exchange {
            upstream,
            body: None,
            without_body: head.is_head_method,
            client_closes: head.close,
        });
        Ok(false)
    }

    fn forward_head(&mut self, client: &mut Client) -> Result<bool, Broken> {
        let exchange = client.exchange.as_mut().ok_or(Broken)?;
        let buffer = &mut self.buffer[..RESPONSE_HEAD_BYTES_MAX];
        let Some(count) = read(&mut exchange.upstream, buffer)? else { return Ok(false) };
        let head = parse_response(&buffer[..count]).map_err(|_| Broken)?.ok_or(Broken)?;
        let length = match head.content_length {
            _ if exchange.without_body || matches!(head.status, 204 | 304) => 0,
            Some(length) => usize::try_from(length).map_err(|_| Broken)?,
            None => return Err(Broken),
        };
        let left = length.checked_sub(count - head.length).ok_or(Broken)?;
        let line = head.connection_line.unwrap_or(0..0);
        buffer.copy_within(..line.start, line.len());
        send(&client.stream, &buffer[line.len()..count], left > 0)?;
        let pipe = self.pipes.pop().map_or_else(Pipe::new, Ok)?;
        exchange.body = Some(Body { pipe, left, reusable: !head.close });
        Ok(true)
    }

    fn forward_body(&mut self, client: &mut Client) -> Result<bool, Broken> {
        let exchange = client.exchange.as_mut().ok_or(Broken)?;
        let body = exchange.body.as_mut().ok_or(Broken)?;
        match body.pipe.pump(&exchange.upstream, &client.stream, &mut body.left)? {
            Pumped::Blocked => return Ok(false),
            Pumped::Ended => return Err(Broken),
            Pumped::Whole => {}
        }
        let exchange = client.exchange.take().ok_or(Broken)?;
        self.leased.remove(&exchange.upstream.as_raw_fd());
        let body = exchange.body.ok_or(Broken)?;
        self.pipes.push(body.pipe);
        if body.reusable {
            self.pool.push(exchange.upstream);
        }
        if exchange.client_closes {
            socket::shut_down(client.stream.as_raw_fd(), libc::SHUT_WR);
        }
        Ok(true)
    }

    /// Blocking: on a loopback a connect is done at once or refused.
    fn connect(&self) -> io::Result<TcpStream> {
        let stream = TcpStream::connect(self.upstream)?;
        stream.set_nonblocking(true)?;
        stream.set_nodelay(true)?;
        self.epoll.add(stream.as_raw_fd(), stream.as_raw_fd() as u64)?;
        Ok(stream)
    }
}

/// `None` when nothing is there yet; the end of the stream is an error, for it is never expected.
fn read(stream: &mut TcpStream, buffer: &mut [u8]) -> Result<Option<usize>, Broken> {
    match stream.read(buffer) {
        Ok(0) => Err(Broken),
        Ok(count) => Ok(Some(count)),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
        Err(_) => Err(Broken),
    }
}

/// Sends a head whole: the client just read everything before it, so that there is room.
fn send(stream: &TcpStream, bytes: &[u8], more: bool) -> Result<(), Broken> {
    let flags = libc::MSG_NOSIGNAL | if more { libc::MSG_MORE } else { 0 };
    // SAFETY: the kernel reads `bytes`, which outlive the call.
    let count =
        unsafe { libc::send(stream.as_raw_fd(), bytes.as_ptr().cast(), bytes.len(), flags) };
    if count == bytes.len() as isize { Ok(()) } else { Err(Broken) }
}

/// Whether a pooled connection is open and has nothing to read.
fn is_quiet(stream: &TcpStream) -> bool {
    let peeked = stream.peek(&mut [0]);
    peeked.is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
}
