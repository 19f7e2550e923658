//! The forwarder on bare epoll: a loop, non-blocking sockets, edges.
//!
//! ```text
//! Head ─► Asking ─► Answering ─► Passing ─► Head
//!   whole   sent       whole       sent
//! ```
//!
//! Every step is tried at once and waits for an edge where it would block. A read that was short
//! emptied the socket, so that it is not tried again before the next edge, unless that edge said that
//! the peer closed: then the end is still to be read. One buffer serves all connections; what has to
//! wait, for the rest of a head or for room in a socket, is copied out of it.

use std::{
    error::Error,
    io::{self, Read, Write},
    mem,
    net::{SocketAddr, TcpListener, TcpStream},
    os::fd::{AsRawFd, RawFd},
};

use lateen_floor::{
    epoll::Epoll,
    splice::{Pipe, Pumped},
};
use lateen_runtimes::{
    BUFFER_BYTES, Over, SPLICE_FROM_BYTES,
    message::{Request, Response, cut},
    start::{Program, Splice, Started, start},
};

const PROGRAM: Program = Program {
    usage: "forward-epoll --listen ADDR --upstream ADDR [--splice true]",
    splice: Splice::Documented,
    has_ring_flags: false,
};

/// Idle upstream connections that are kept.
const IDLE_MAX: usize = 1024;

/// Empty pipes that are kept.
const PIPES_MAX: usize = 16;

/// Emptied vectors that are kept for the next messages.
const SPARE_MAX: usize = 1024;

/// The peer closed, or the connection is broken.
const ENDED: u32 = (libc::EPOLLRDHUP | libc::EPOLLHUP | libc::EPOLLERR) as u32;

fn main() -> Result<(), Box<dyn Error>> {
    let Started { listener, upstream, splice, .. } = start(&PROGRAM)?;
    listener.set_nonblocking(true)?;
    let forwarder = Forwarder {
        epoll: Epoll::new()?,
        listener,
        slots: Vec::new(),
        there: Upstreams { address: upstream, idle: Vec::new() },
        pipes: Vec::new(),
        spare: Vec::new(),
        splice,
        buffer: vec![0; BUFFER_BYTES],
    };
    Ok(forwarder.run()?)
}

struct Forwarder {
    epoll: Epoll,
    listener: TcpListener,
    /// By descriptor.
    slots: Vec<Slot>,
    there: Upstreams,
    pipes: Vec<Pipe>,
    spare: Vec<Vec<u8>>,
    splice: bool,
    buffer: Vec<u8>,
}

struct Upstreams {
    address: SocketAddr,
    idle: Vec<Socket>,
}

/// What a descriptor's event is for.
#[derive(Default)]
enum Slot {
    #[default]
    Nobody,
    Client(Box<Connection>),
    /// An upstream in use by the client with this descriptor.
    Upstream(RawFd),
}

/// A non-blocking socket and what its edges said.
struct Socket {
    stream: TcpStream,
    readable: bool,
    /// The peer closed: reads go on until they say so too.
    ended: bool,
}

struct Connection {
    client: Socket,
    /// The beginning of a head, or what was pipelined.
    kept: Vec<u8>,
    exchange: Option<Exchange>,
}

struct Exchange {
    request: Request,
    upstream: Socket,
    was_pooled: bool,
    /// The message, kept for another attempt, and how much of it is sent.
    message: Vec<u8>,
    sent: usize,
    request_left: u64,
    /// The beginning of the response's head.
    answer: Vec<u8>,
    response: Option<Response>,
    response_left: u64,
    /// What a full socket did not take: of a request's body for the upstream, else for the client.
    waiting: Vec<u8>,
    pipe: Option<Pipe>,
}

/// Whether a step came to its end, or waits for an edge.
#[derive(PartialEq, Eq)]
enum Step {
    Done,
    Waits,
}

impl Forwarder {
    fn run(mut self) -> io::Result<()> {
        let listener = self.listener.as_raw_fd();
        self.epoll.add(listener, listener as u64)?;
        let mut events = Vec::new();
        loop {
            events.clear();
            events.extend_from_slice(self.epoll.wait_for_events(None)?);
            for event in &events {
                let fd = event.u64 as RawFd;
                if fd == listener {
                    self.accept_all()?;
                } else {
                    self.on_event(fd, event.events);
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
            let client = Socket { stream, readable: false, ended: false };
            let connection = Connection { client, kept: Vec::new(), exchange: None };
            *slot(&mut self.slots, fd) = Slot::Client(Box::new(connection));
        }
    }

    fn on_event(&mut self, fd: RawFd, events: u32) {
        let client = match slot(&mut self.slots, fd) {
            Slot::Upstream(client) => *client,
            Slot::Client(_) => fd,
            Slot::Nobody => {
                // An idle upstream that closed, or spoke unasked, is no good.
                let spoke = events & (libc::EPOLLIN as u32 | ENDED) != 0;
                self.there.idle.retain(|socket| !spoke || socket.stream.as_raw_fd() != fd);
                return;
            }
        };
        let Slot::Client(mut connection) = mem::take(slot(&mut self.slots, client)) else { return };
        let socket = match &mut connection.exchange {
            Some(exchange) if fd != client => &mut exchange.upstream,
            _ => &mut connection.client,
        };
        socket.readable |= events & (libc::EPOLLIN as u32 | ENDED) != 0;
        socket.ended |= events & ENDED != 0;
        match self.advance(&mut connection) {
            Ok(()) => *slot(&mut self.slots, client) = Slot::Client(connection),
            Err(Over) => {
                if let Some(exchange) = connection.exchange {
                    *slot(&mut self.slots, exchange.upstream.stream.as_raw_fd()) = Slot::Nobody;
                }
            }
        }
    }

    /// Goes on with whatever this client waits for, until something would block.
    fn advance(&mut self, connection: &mut Connection) -> Result<(), Over> {
        loop {
            let step = match &mut connection.exchange {
                None => self.read_request(connection)?,
                Some(exchange) => {
                    match self.go_on(&mut connection.client, exchange, &mut connection.kept) {
                        Ok(Step::Done) => self.finish(connection)?,
                        Ok(Step::Waits) => Step::Waits,
                        Err(Over) => self.ask_again(connection)?,
                    }
                }
            };
            if step == Step::Waits {
                return Ok(());
            }
        }
    }

    fn read_request(&mut self, connection: &mut Connection) -> Result<Step, Over> {
        if let Some(request) = Request::parse(&connection.kept)? {
            let mut bytes = mem::take(&mut connection.kept);
            connection.kept = bytes.split_off(request.end);
            return self.start_exchange(connection, request, bytes);
        }
        let Some(count) = connection.client.read(&mut self.buffer)? else { return Ok(Step::Waits) };
        if connection.kept.is_empty()
            && let Some(request) = Request::parse(&self.buffer[..count])?
        {
            connection.kept.extend_from_slice(&self.buffer[request.end..count]);
            let mut bytes = self.spare.pop().unwrap_or_default();
            bytes.extend_from_slice(&self.buffer[..request.end]);
            return self.start_exchange(connection, request, bytes);
        }
        connection.kept.extend_from_slice(&self.buffer[..count]);
        Ok(Step::Done)
    }

    fn start_exchange(
        &mut self,
        connection: &mut Connection,
        request: Request,
        mut message: Vec<u8>,
    ) -> Result<Step, Over> {
        let start = cut(&mut message, &request.line);
        message.drain(..start);
        let (upstream, was_pooled) = self.take_upstream(connection.client.stream.as_raw_fd())?;
        connection.exchange = Some(Exchange {
            upstream,
            was_pooled,
            message,
            sent: 0,
            request_left: request.body_left,
            answer: Vec::new(),
            response: None,
            response_left: 0,
            waiting: Vec::new(),
            pipe: None,
            request,
        });
        Ok(Step::Done)
    }

    /// The idle one that was used last, or a new one, whose events are this client's from now on.
    fn take_upstream(&mut self, client: RawFd) -> Result<(Socket, bool), Over> {
        let idle = self.there.idle.pop();
        let was_pooled = idle.is_some();
        let upstream = match idle {
            Some(upstream) => upstream,
            None => self.connect()?,
        };
        *slot(&mut self.slots, upstream.stream.as_raw_fd()) = Slot::Upstream(client);
        Ok((upstream, was_pooled))
    }

    /// Blocking: on a loopback a connect is done at once or refused.
    fn connect(&self) -> io::Result<Socket> {
        let stream = TcpStream::connect(self.there.address)?;
        stream.set_nonblocking(true)?;
        stream.set_nodelay(true)?;
        self.epoll.add(stream.as_raw_fd(), stream.as_raw_fd() as u64)?;
        Ok(Socket { stream, readable: false, ended: false })
    }

    /// The same request on another connection, where that may help.
    fn ask_again(&mut self, connection: &mut Connection) -> Result<Step, Over> {
        let exchange = connection.exchange.as_mut().ok_or(Over)?;
        let nothing_came = exchange.answer.is_empty() && exchange.response.is_none();
        let answered_bytes = usize::from(!nothing_came);
        if !exchange.request.may_ask_again(exchange.was_pooled, answered_bytes) {
            return Err(Over);
        }
        *slot(&mut self.slots, exchange.upstream.stream.as_raw_fd()) = Slot::Nobody;
        let (upstream, was_pooled) = self.take_upstream(connection.client.stream.as_raw_fd())?;
        (exchange.upstream, exchange.was_pooled, exchange.sent) = (upstream, was_pooled, 0);
        Ok(Step::Done)
    }

    /// From the request's first byte to the response's last.
    fn go_on(
        &mut self,
        client: &mut Socket,
        exchange: &mut Exchange,
        kept: &mut Vec<u8>,
    ) -> Result<Step, Over> {
        while exchange.sent < exchange.message.len() {
            match exchange.upstream.write(&exchange.message[exchange.sent..])? {
                Some(count) => exchange.sent += count,
                None => return Ok(Step::Waits),
            }
        }
        if exchange.response.is_none()
            && (self.pass_request(client, exchange, kept)? == Step::Waits
                || self.read_answer(client, exchange)? == Step::Waits)
        {
            return Ok(Step::Waits);
        }
        self.pass_response(client, exchange)
    }

    fn pass_request(
        &mut self,
        client: &mut Socket,
        exchange: &mut Exchange,
        kept: &mut Vec<u8>,
    ) -> Result<Step, Over> {
        loop {
            if send_waiting(&mut exchange.waiting, &mut exchange.upstream)? == Step::Waits {
                return Ok(Step::Waits);
            }
            if exchange.request_left == 0 {
                return Ok(Step::Done);
            }
            let Some(count) = client.read(&mut self.buffer)? else { return Ok(Step::Waits) };
            let body = exchange.request_left.min(count as u64) as usize;
            exchange.request_left -= body as u64;
            kept.extend_from_slice(&self.buffer[body..count]);
            let bytes = &self.buffer[..body];
            send_or_keep(bytes, &mut exchange.waiting, &mut exchange.upstream)?;
        }
    }

    fn read_answer(&mut self, client: &mut Socket, exchange: &mut Exchange) -> Result<Step, Over> {
        let mut joined;
        let (bytes, response) = loop {
            let Some(count) = exchange.upstream.read(&mut self.buffer)? else {
                return Ok(Step::Waits);
            };
            let bytes = if exchange.answer.is_empty() {
                &mut self.buffer[..count]
            } else {
                exchange.answer.extend_from_slice(&self.buffer[..count]);
                &mut exchange.answer[..]
            };
            if let Some(response) = Response::parse(bytes, exchange.request.without_body)? {
                joined = mem::take(&mut exchange.answer);
                let here =
                    if joined.is_empty() { &mut self.buffer[..count] } else { &mut joined[..] };
                break (here, response);
            }
            if exchange.answer.is_empty() {
                exchange.answer.extend_from_slice(&self.buffer[..count]);
            }
        };
        let start = cut(bytes, &response.line);
        exchange.response_left = response.body_left;
        exchange.response = Some(response);
        send_or_keep(&bytes[start..], &mut exchange.waiting, client)?;
        if self.splice && exchange.response_left >= SPLICE_FROM_BYTES {
            exchange.pipe = Some(self.pipes.pop().map_or_else(Pipe::new, Ok)?);
        }
        Ok(Step::Done)
    }

    fn pass_response(
        &mut self,
        client: &mut Socket,
        exchange: &mut Exchange,
    ) -> Result<Step, Over> {
        loop {
            if send_waiting(&mut exchange.waiting, client)? == Step::Waits {
                return Ok(Step::Waits);
            }
            if let Some(pipe) = &mut exchange.pipe {
                let mut left = usize::try_from(exchange.response_left).map_err(|_| Over)?;
                let pumped = pipe.pump(&exchange.upstream.stream, &client.stream, &mut left)?;
                exchange.response_left = left as u64;
                return match pumped {
                    Pumped::Whole => Ok(Step::Done),
                    Pumped::Blocked => Ok(Step::Waits),
                    Pumped::Ended => Err(Over),
                };
            }
            if exchange.response_left == 0 {
                return Ok(Step::Done);
            }
            let Some(count) = exchange.upstream.read(&mut self.buffer)? else {
                return Ok(Step::Waits);
            };
            exchange.response_left =
                exchange.response_left.checked_sub(count as u64).ok_or(Over)?;
            send_or_keep(&self.buffer[..count], &mut exchange.waiting, client)?;
        }
    }

    /// After the response's last byte: both connections go on, or end.
    fn finish(&mut self, connection: &mut Connection) -> Result<Step, Over> {
        let mut exchange = connection.exchange.take().ok_or(Over)?;
        *slot(&mut self.slots, exchange.upstream.stream.as_raw_fd()) = Slot::Nobody;
        if let Some(pipe) = exchange.pipe
            && self.pipes.len() < PIPES_MAX
        {
            self.pipes.push(pipe);
        }
        if self.spare.len() < SPARE_MAX {
            exchange.message.clear();
            self.spare.push(exchange.message);
        }
        let reusable = exchange.response.is_some_and(|response| response.reusable);
        if reusable && !exchange.upstream.ended && self.there.idle.len() < IDLE_MAX {
            self.there.idle.push(exchange.upstream);
        }
        if exchange.request.close { Err(Over) } else { Ok(Step::Done) }
    }
}

impl Socket {
    /// Reads at an edge only; `None` when nothing is there, and the end of the stream is [`Over`].
    fn read(&mut self, into: &mut [u8]) -> Result<Option<usize>, Over> {
        if !self.readable {
            return Ok(None);
        }
        match self.stream.read(into) {
            Ok(0) => Err(Over),
            Ok(count) => {
                self.readable = count == into.len() || self.ended;
                Ok(Some(count))
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.readable = false;
                Ok(None)
            }
            Err(_) => Err(Over),
        }
    }

    /// `None` when the socket is full.
    fn write(&mut self, bytes: &[u8]) -> Result<Option<usize>, Over> {
        match self.stream.write(bytes) {
            Ok(count) => Ok(Some(count)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(_) => Err(Over),
        }
    }
}

/// Sends what waited, before anything else may.
fn send_waiting(waiting: &mut Vec<u8>, sink: &mut Socket) -> Result<Step, Over> {
    while !waiting.is_empty() {
        match sink.write(waiting)? {
            Some(count) => drop(waiting.drain(..count)),
            None => return Ok(Step::Waits),
        }
    }
    Ok(Step::Done)
}

/// Sends `bytes`, and keeps what a full socket does not take. Nothing else waits.
fn send_or_keep(mut bytes: &[u8], waiting: &mut Vec<u8>, sink: &mut Socket) -> Result<(), Over> {
    while !bytes.is_empty() {
        match sink.write(bytes)? {
            Some(count) => bytes = &bytes[count..],
            None => {
                waiting.extend_from_slice(bytes);
                break;
            }
        }
    }
    Ok(())
}

fn slot(slots: &mut Vec<Slot>, fd: RawFd) -> &mut Slot {
    let index = fd as usize;
    if index >= slots.len() {
        slots.resize_with(index + 1, Slot::default);
    }
    &mut slots[index]
}
