//! The three engines behind one set of operations.
//!
//! An engine starts operations on sockets whose state is in [`Sockets`], and its `turn` waits for
//! some of them to finish, records the outcome in the socket's slot and wakes who waits. It never
//! runs a task and never blocks but in `turn`.

use std::cell::Cell;
use std::collections::VecDeque;
use std::net::Shutdown;
use std::rc::Rc;
use std::time::Duration;

use rustix::io::Errno;

use crate::address::Address;
use crate::buffer::Pool;
use crate::chunk::{CHUNKS_MAX, Chunk, Spares};
use crate::engine::epoll::Epoll;
use crate::engine::sim::Sim;
use crate::engine::uring::Uring;
use crate::socket::{Accepted, Interest, RecvState, SocketKey, Sockets, Watch};
use crate::splice::{Pipe, Pipes};
use crate::time::{self, Instant};

pub(crate) mod direct;
pub(crate) mod epoll;
pub(crate) mod sim;
pub(crate) mod uring;

/// State that the engines share with the handles.
pub(crate) struct Io {
    pub(crate) sockets: Sockets,
    pub(crate) pool: Rc<Pool>,
    pub(crate) spares: Spares,
    pub(crate) pipes: Pipes,
    /// Sockets whose receive found no buffer, in the order in which they starved.
    pub(crate) starved: VecDeque<SocketKey>,
    /// Since the last turn a task began to wait for the end of a send.
    pub(crate) send_awaited: bool,
    /// When the turn's tasks had run.
    pub(crate) turned_at: Instant,
    /// How long completions have waited in the kernel, as far as the engine knows.
    pub(crate) waited: Duration,
    pub(crate) counts: Rc<Counts>,
}

impl Io {
    pub(crate) fn new(pool: Rc<Pool>) -> Self {
        Self {
            sockets: Sockets::default(),
            pool,
            spares: Spares::default(),
            pipes: Pipes::default(),
            starved: VecDeque::new(),
            send_awaited: false,
            turned_at: Instant::default(),
            waited: Duration::ZERO,
            counts: Rc::default(),
        }
    }
}

/// What an engine did so far.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    pub(crate) enters: Cell<u64>,
    pub(crate) submitted: Cell<u64>,
    pub(crate) completed: Cell<u64>,
    pub(crate) starved: Cell<u64>,
}

impl Io {
    /// The socket's receive found no buffer: it waits in line for one. A socket stands in the line
    /// once, and keeps its place, however often it stops and starts meanwhile.
    pub(crate) fn starve(&mut self, key: SocketKey) {
        let recv = &mut self.sockets.at(key).recv;
        recv.state = RecvState::Starved;
        if std::mem::replace(&mut recv.in_line, true) {
            return;
        }
        if self.starved.len() > 2 * self.sockets.len() + STARVED_SLACK {
            // Sockets were closed while they stood in it, and no buffer came back to move it on.
            self.starved.retain(|&key| self.sockets.find(key).is_some());
        }
        self.starved.push_back(key);
    }

    /// Takes the first socket that still starves out of the line.
    pub(crate) fn next_starved(&mut self) -> Option<SocketKey> {
        while let Some(key) = self.starved.pop_front() {
            let Some(socket) = self.sockets.find(key) else { continue };
            socket.recv.in_line = false;
            if socket.recv.state == RecvState::Starved && !socket.closing {
                return Some(key);
            }
        }
        None
    }
}

/// Sockets that may stand in line for a buffer in vain before the line is looked through.
const STARVED_SLACK: usize = 64;

pub(crate) fn add(counter: &Cell<u64>, count: u64) {
    counter.set(counter.get() + count);
}

/// How long a turn may wait for something to happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wait {
    /// Not at all: tasks are ready.
    No,
    AtMost(Duration),
    Forever,
}

pub(crate) enum Engine {
    Uring(Box<Uring>),
    Epoll(Box<Epoll>),
    Sim(Box<Sim>),
}

/// Forwards an operation to the engine that runs.
macro_rules! forward {
    ($self:ident, $engine:ident => $call:expr) => {
        match $self {
            Self::Uring($engine) => $call,
            Self::Epoll($engine) => $call,
            Self::Sim($engine) => $call,
        }
    };
}

impl Engine {
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Uring(_) => "uring",
            Self::Epoll(_) => "epoll",
            Self::Sim(_) => "sim",
        }
    }

    pub(crate) fn now(&self) -> Instant {
        match self {
            Self::Uring(_) | Self::Epoll(_) => time::monotonic(),
            Self::Sim(engine) => engine.now(),
        }
    }

    /// Puts a socket in a slot.
    ///
    /// # Errors
    /// When epoll cannot watch it; then it is closed.
    pub(crate) fn open(&mut self, io: &mut Io, socket: Accepted) -> Result<SocketKey, Errno> {
        match (self, socket) {
            (Self::Uring(_), Accepted::Fd(fd)) => Ok(io.sockets.insert(Some(fd))),
            (Self::Epoll(engine), Accepted::Fd(fd)) => {
                let key = io.sockets.insert(Some(fd));
                engine.opened(io, key).inspect_err(|_| drop(io.sockets.remove(key)))?;
                Ok(key)
            }
            (Self::Sim(engine), Accepted::Simulated(end)) => {
                let key = io.sockets.insert(None);
                engine.attach(key, end);
                Ok(key)
            }
            // A descriptor means nothing to the simulation, nor the reverse.
            (Self::Sim(_), Accepted::Fd(_)) => Err(Errno::NOTSOCK),
            (_, Accepted::Simulated(_)) => Err(Errno::BADF),
        }
    }

    /// Starts a receive on an idle receive side; it may be done when this returns.
    pub(crate) fn recv(&mut self, io: &mut Io, key: SocketKey, multishot: bool) {
        forward!(self, engine => engine.recv(io, key, multishot));
    }

    /// Stops an armed receive; its state turns `Idle` once nothing can arrive through it any more.
    pub(crate) fn recv_stop(&mut self, io: &mut Io, key: SocketKey) {
        forward!(self, engine => engine.recv_stop(io, key));
    }

    /// Sends `chunks`, while nothing else is being sent; it may be done when this returns. Nothing is
    /// sent if an earlier send failed.
    pub(crate) fn send_chunks(
        &mut self,
        io: &mut Io,
        key: SocketKey,
        chunks: [Option<Chunk>; CHUNKS_MAX],
    ) {
        let mut sent = 0;
        if let [Some(chunk), None, None] = &chunks {
            let bytes = chunk.bytes();
            sent = self.send_at_once(io, key, bytes);
            if sent == bytes.len() {
                let [Some(chunk), ..] = chunks else { unreachable!("matched above") };
                return io.spares.reuse(chunk);
            }
        }
        self.send_rest(io, key, chunks, sent);
    }

    /// Like [`Engine::send_chunks`] for bytes that are wanted again: gives back the vector itself if
    /// all went at once, else a copy.
    pub(crate) fn send_kept(&mut self, io: &mut Io, key: SocketKey, bytes: Vec<u8>) -> Vec<u8> {
        let sent = self.send_at_once(io, key, &bytes);
        if sent == bytes.len() {
            return bytes;
        }
        let mut copy = io.spares.vector();
        copy.extend_from_slice(&bytes);
        self.send_rest(io, key, [Some(Chunk::Vector(bytes)), None, None], sent);
        copy
    }

    /// Where a send needs no operation: sends what the socket takes now, and returns how much.
    #[inline]
    fn send_at_once(&mut self, io: &mut Io, key: SocketKey, bytes: &[u8]) -> usize {
        match self {
            Self::Epoll(_) if io.sockets.at(key).send.error.is_none() => {
                direct::send_once(io, key, bytes)
            }
            Self::Epoll(_) | Self::Uring(_) | Self::Sim(_) => 0,
        }
    }

    /// Sends `chunks`, of which the kernel has taken `sent` bytes already.
    fn send_rest(
        &mut self,
        io: &mut Io,
        key: SocketKey,
        chunks: [Option<Chunk>; CHUNKS_MAX],
        sent: usize,
    ) {
        let send = &mut io.sockets.at(key).send;
        if send.error.is_some() {
            chunks.into_iter().flatten().for_each(|chunk| io.spares.reuse(chunk));
            return;
        }
        let mut op = io.spares.sending(chunks);
        if sent > 0 {
            op.advance(sent);
        }
        send.op = Some(op);
        self.send(io, key);
    }

    /// Sends what `send.op` holds; it may be done when this returns.
    pub(crate) fn send(&mut self, io: &mut Io, key: SocketKey) {
        forward!(self, engine => engine.send(io, key));
    }

    /// Starts the connect that `rare.connect` describes.
    pub(crate) fn connect(&mut self, io: &mut Io, key: SocketKey) {
        forward!(self, engine => engine.connect(io, key));
    }

    /// Starts accepting; it may have accepted when this returns.
    pub(crate) fn accept(&mut self, io: &mut Io, key: SocketKey) {
        forward!(self, engine => engine.accept(io, key));
    }

    /// Stops accepting; `armed` turns false once no connection can arrive that way any more.
    pub(crate) fn accept_stop(&mut self, io: &mut Io, key: SocketKey) {
        forward!(self, engine => engine.accept_stop(io, key));
    }

    /// Waits for readiness, to be reported in the socket's `watch`.
    pub(crate) fn watch(&mut self, io: &mut Io, key: SocketKey, interest: Interest) {
        debug_assert_eq!(*io.sockets.at(key).watch(interest), Watch::Idle);
        forward!(self, engine => engine.watch(io, key, interest));
    }

    /// The handle is gone: cancels what is in flight, drains it, closes.
    pub(crate) fn close(&mut self, io: &mut Io, key: SocketKey) {
        io.sockets.at(key).closing = true;
        forward!(self, engine => engine.close(io, key));
    }

    /// Starts what could not be started before, waits, and records what finished.
    ///
    /// # Errors
    /// Only what no worker can go on with: the kernel refused the wait itself.
    pub(crate) fn turn(&mut self, io: &mut Io, wait: Wait) -> Result<(), Errno> {
        forward!(self, engine => engine.turn(io, wait))
    }

    /// Whether the next turn surely won't wait, whatever it may, as far as that can be told without a call of
    /// the kernel.
    pub(crate) fn is_due(&mut self) -> bool {
        match self {
            Self::Uring(engine) => engine.is_due(),
            Self::Epoll(_) | Self::Sim(_) => false,
        }
    }

    /// True if other threads asked for this worker since this was last asked.
    pub(crate) fn take_called(&mut self) -> bool {
        forward!(self, engine => std::mem::take(&mut engine.called))
    }

    /// Gives back memory after a burst.
    pub(crate) fn shrink(&mut self, io: &mut Io) {
        let may_unpublish = match self {
            Self::Uring(engine) => {
                engine.shrink();
                engine.may_unpublish()
            }
            Self::Epoll(_) | Self::Sim(_) => true,
        };
        io.pool.shrink(may_unpublish);
    }

    /// The simulation, if that is what runs.
    pub(crate) fn simulation(&mut self) -> Option<&mut Sim> {
        match self {
            Self::Sim(engine) => Some(engine),
            Self::Uring(_) | Self::Epoll(_) => None,
        }
    }

    // Direct operations: done at once, no waiting.

    /// Reads what is there, up to the spare room of `into`, without waiting; 0 is the end.
    pub(crate) fn read_now(
        &mut self,
        io: &mut Io,
        key: SocketKey,
        into: &mut Vec<u8>,
        max: usize,
    ) -> Result<usize, Errno> {
        match self {
            Self::Uring(_) | Self::Epoll(_) => direct::read(io, key, into, max),
            Self::Sim(engine) => engine.read_now(key, into, max),
        }
    }

    /// True if bytes or the end wait in the socket. Takes nothing.
    pub(crate) fn has_unread(&mut self, io: &mut Io, key: SocketKey) -> bool {
        match self {
            Self::Uring(_) | Self::Epoll(_) => direct::has_unread(io, key),
            Self::Sim(engine) => engine.has_unread(key),
        }
    }

    /// Moves up to `max` bytes from the socket into `pipe` without waiting; 0 is the end.
    pub(crate) fn splice_in(
        &mut self,
        io: &mut Io,
        key: SocketKey,
        pipe: &mut Pipe,
        max: usize,
    ) -> Result<usize, Errno> {
        match self {
            Self::Uring(_) | Self::Epoll(_) => direct::splice_in(io, key, pipe, max),
            Self::Sim(engine) => engine.splice_in(key, pipe, max),
        }
    }

    /// Moves up to `max` bytes from `pipe` into the socket without waiting.
    pub(crate) fn splice_out(
        &mut self,
        io: &mut Io,
        key: SocketKey,
        pipe: &mut Pipe,
    ) -> Result<usize, Errno> {
        match self {
            Self::Uring(_) | Self::Epoll(_) => direct::splice_out(io, key, pipe),
            Self::Sim(engine) => engine.splice_out(io, key, pipe),
        }
    }

    /// Lets go what was sent ahead of a splice, if anything is held.
    pub(crate) fn push(&mut self, io: &mut Io, key: SocketKey) {
        match self {
            Self::Uring(_) | Self::Epoll(_) => direct::push(io, key),
            Self::Sim(_) => io.sockets.at(key).send.ahead = false,
        }
    }

    /// An empty pipe to splice through, for what comes from `key`; `None` if there is none to be had.
    pub(crate) fn lend_pipe(&mut self, io: &mut Io, key: SocketKey) -> Option<Pipe> {
        match self {
            Self::Uring(_) | Self::Epoll(_) => io.pipes.take().or_else(|| Pipe::open().ok()),
            Self::Sim(engine) => engine.lend_pipe(key),
        }
    }

    /// Lets nobody begin to connect to a listener. In a simulation nobody does within a step, which is as long
    /// as it matters.
    pub(crate) fn turn_deaf(&mut self, io: &mut Io, key: SocketKey) {
        match self {
            Self::Uring(_) | Self::Epoll(_) => direct::turn_deaf(io, key),
            Self::Sim(_) => {}
        }
    }

    /// Accepts one connection that waits already; EAGAIN if none does.
    pub(crate) fn accept_now(&mut self, io: &mut Io, key: SocketKey) -> Result<Accepted, Errno> {
        match self {
            Self::Uring(_) | Self::Epoll(_) => direct::accept(io, key).map(Accepted::Fd),
            Self::Sim(engine) => engine.accept_now(key).map(Accepted::Simulated),
        }
    }

    /// Closes one or both directions of a stream.
    pub(crate) fn shutdown(
        &mut self,
        io: &mut Io,
        key: SocketKey,
        how: Shutdown,
    ) -> Result<(), Errno> {
        match self {
            Self::Uring(_) | Self::Epoll(_) => direct::shutdown(io, key, how),
            Self::Sim(engine) => engine.shutdown(key, how),
        }
    }

    /// Makes the coming close a reset.
    pub(crate) fn reset_on_close(&mut self, io: &mut Io, key: SocketKey) {
        match self {
            Self::Uring(_) | Self::Epoll(_) => direct::reset_on_close(io, key),
            Self::Sim(engine) => engine.reset_on_close(key),
        }
    }

    pub(crate) fn local_address(&mut self, io: &mut Io, key: SocketKey) -> Result<Address, Errno> {
        match self {
            Self::Uring(_) | Self::Epoll(_) => direct::local_address(io, key),
            Self::Sim(engine) => Ok(engine.local_address(key)),
        }
    }

    pub(crate) fn peer_address(&mut self, io: &mut Io, key: SocketKey) -> Result<Address, Errno> {
        match self {
            Self::Uring(_) | Self::Epoll(_) => direct::peer_address(io, key),
            Self::Sim(engine) => engine.peer_address(key),
        }
    }
}
