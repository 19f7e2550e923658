//! Byte streams: TCP and Unix sockets, alike to everything above.
//!
//! Every wait here is cancel-safe: a dropped future loses no byte (see `socket.rs`). At most one
//! receive and one send are in flight per stream. Dropping a stream cancels what is in flight, waits
//! for the kernel to let go in the background, and closes.

use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::io;
use std::net::Shutdown;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::task::{Context, Poll};

use rustix::io::Errno;
use socket2::{Protocol, Socket as RawSocket, TcpKeepalive, Type};

use crate::address::Address;
use crate::buffer::Lease;
use crate::chunk::{CHUNKS_MAX, Chunk};
use crate::engine::{Engine, Io};
use crate::runtime::{Core, current, with_current};
use crate::socket::{Accepted, Connect, End, Interest, Recv, RecvState, SocketKey, Watch};
use crate::splice::Pipe;

/// A connected byte stream.
pub struct Stream {
    core: Rc<Core>,
    key: SocketKey,
    multishot: Cell<bool>,
}

/// How far a send came at its start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Started {
    /// Bytes that the kernel has taken already.
    pub bytes: u64,
    /// All bytes that it has taken from this stream; see [`Stream::bytes_sent`].
    pub bytes_total: u64,
    /// It has taken all of them: there is nothing to wait for.
    pub done: bool,
}

const _: () = assert!(size_of::<Stream>() <= 24, "an idle connection keeps one of these");

impl Stream {
    /// Takes over a connected, non-blocking stream socket.
    ///
    /// # Errors
    /// When the engine cannot watch the descriptor (epoll's limit on watches); ENOTSOCK in a
    /// simulation, which has none.
    pub fn from_fd(fd: OwnedFd) -> io::Result<Self> {
        Self::with_core(current(), fd.into())
    }

    pub(crate) fn with_core(core: Rc<Core>, accepted: Accepted) -> io::Result<Self> {
        let key = core.with(|engine, io| engine.open(io, accepted))?;
        Ok(Self { core, key, multishot: Cell::new(false) })
    }

    /// Opens a connection. There is no timeout here: dropping the future gives up.
    ///
    /// # Errors
    /// What `connect(2)` answers: ECONNREFUSED, EHOSTUNREACH, EADDRNOTAVAIL (no local port), …; or
    /// EMFILE when no descriptor is left.
    pub async fn connect(address: &Address) -> io::Result<Self> {
        let core = current();
        let socket = match core.with(|engine, _| engine.simulation().map(|sim| sim.socket(address)))
        {
            Some(end) => Accepted::Simulated(end?),
            None => Accepted::Fd(make_socket(address)?),
        };
        let target = Box::new(address.to_socket_address()?);
        let stream = Self::with_core(core, socket)?;
        stream.core.with(|engine, io| {
            let connect = Connect { address: target, outcome: None, waker: None };
            io.sockets.at(stream.key).rare().connect = Some(connect);
            engine.connect(io, stream.key);
        });
        let outcome = poll_fn(|cx| {
            stream.core.with(|_, io| {
                let connect = io.sockets.at(stream.key).connect().expect("set above");
                match connect.outcome {
                    Some(outcome) => Poll::Ready(outcome),
                    None => {
                        connect.waker = Some(cx.waker().clone());
                        Poll::Pending
                    }
                }
            })
        })
        .await;
        let rare = stream.core.with(|_, io| io.sockets.at(stream.key).rare.take());
        drop(rare);
        outcome?;
        Ok(stream)
    }

    /// Waits for bytes and lends them; `None` is the end of the stream.
    ///
    /// # Errors
    /// ECONNRESET, ETIMEDOUT and the like; the same error again on every later call.
    pub fn recv(&self) -> impl Future<Output = io::Result<Option<Lease>>> + '_ {
        poll_fn(|cx| self.poll_recv(cx))
    }

    /// See [`Stream::recv`].
    pub fn poll_recv(&self, cx: &mut Context<'_>) -> Poll<io::Result<Option<Lease>>> {
        self.core.with(|engine, io| {
            let mut recv = &mut io.sockets.at(self.key).recv;
            if let Some(taken) = take_received(recv) {
                return Poll::Ready(taken);
            }
            if recv.state == RecvState::Idle {
                engine.recv(io, self.key, self.multishot.get());
                // It may be done already, with bytes or with the end.
                recv = &mut io.sockets.at(self.key).recv;
                if let Some(taken) = take_received(recv) {
                    return Poll::Ready(taken);
                }
            }
            set_waker(&mut recv.waker, cx);
            Poll::Pending
        })
    }

    /// Lets receives stay armed between messages (multishot), where the kernel can. For streams of
    /// small messages; never for one that is to be spliced, since it reads ahead.
    pub fn set_multishot(&self, on: bool) {
        self.multishot.set(on);
    }

    /// Starts a receive without waiting for it, so that bytes, the end or a reset are noticed (see
    /// [`Stream::has_news`]) and wake whoever waited last in [`Stream::poll_news`].
    pub fn arm_recv(&self) {
        self.core.with(|engine, io| {
            let recv = &io.sockets.at(self.key).recv;
            if recv.state == RecvState::Idle && !recv.has_news() {
                engine.recv(io, self.key, self.multishot.get());
            }
        });
    }

    /// True if bytes wait to be taken or the stream has ended.
    #[must_use]
    #[inline]
    pub fn has_news(&self) -> bool {
        self.core.with(|_, io| {
            let recv = &io.sockets.at(self.key).recv;
            recv.has_news()
        })
    }

    /// True if the peer closed its direction or reset the connection, and all it sent was taken.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.core.with(|_, io| {
            let recv = &io.sockets.at(self.key).recv;
            recv.ready() == 0 && recv.end.is_some()
        })
    }

    /// True if the peer reset the connection (or the kernel gave it up), and all it sent was taken.
    #[must_use]
    pub fn has_failed(&self) -> bool {
        self.core.with(|_, io| {
            let socket = io.sockets.at(self.key);
            socket.recv.ready() == 0 && matches!(socket.recv.end, Some(End::Failed(_)))
        })
    }

    /// True while a receive is with the engine.
    #[must_use]
    #[inline]
    pub fn is_receiving(&self) -> bool {
        self.core.with(|_, io| io.sockets.at(self.key).recv.state != RecvState::Idle)
    }

    /// Waits, with an armed receive, until [`Stream::has_news`]; takes nothing.
    pub fn poll_news(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.core.with(|engine, io| {
            let recv = &io.sockets.at(self.key).recv;
            if recv.state == RecvState::Idle && !recv.has_news() {
                engine.recv(io, self.key, self.multishot.get());
            }
            let recv = &mut io.sockets.at(self.key).recv;
            if recv.has_news() {
                return Poll::Ready(());
            }
            set_waker(&mut recv.waker, cx);
            Poll::Pending
        })
    }

    /// Stops receiving. When this returns, what had arrived can still be taken with
    /// [`Stream::try_recv`], and everything after it stays in the socket.
    pub fn recv_stop(&self) -> impl Future<Output = ()> + '_ {
        poll_fn(|cx| {
            self.core.with(|engine, io| {
                engine.recv_stop(io, self.key);
                let recv = &mut io.sockets.at(self.key).recv;
                if recv.state == RecvState::Idle {
                    return Poll::Ready(());
                }
                set_waker(&mut recv.waker, cx);
                Poll::Pending
            })
        })
    }

    /// Takes bytes that have arrived already.
    #[must_use]
    pub fn try_recv(&self) -> Option<Lease> {
        self.core.with(|_, io| io.sockets.at(self.key).recv.pop())
    }

    /// Waits until something can be read and appends up to `bytes_max` of it to `into`: for bulk,
    /// with a buffer larger than a lease. The receive must be stopped and its leases taken.
    ///
    /// # Errors
    /// As [`Stream::recv`]; 0 is the end of the stream.
    pub fn read<'a>(
        &'a self,
        into: &'a mut Vec<u8>,
        bytes_max: usize,
    ) -> impl Future<Output = io::Result<usize>> + 'a {
        poll_fn(move |cx| {
            if bytes_max == 0 {
                return Poll::Ready(Ok(0));
            }
            self.poll_direct(cx, Interest::Readable, |stream| {
                stream.core.with(|engine, io| match io.sockets.at(stream.key).recv.end {
                    Some(End::Fin) => Ok(0),
                    Some(End::Failed(errno)) => Err(errno),
                    None => {
                        let outcome = engine.read_now(io, stream.key, into, bytes_max);
                        io.sockets.at(stream.key).note_direct(outcome)
                    }
                })
            })
        })
    }

    /// Sends all of `chunk`, in order after what was sent before.
    ///
    /// Dropping the future abandons nothing: the bytes stay on their way, and the next send waits
    /// for them.
    ///
    /// # Errors
    /// EPIPE, ECONNRESET and the like; the same error again on every later call.
    pub fn send(&self, chunk: impl Into<Chunk>) -> impl Future<Output = io::Result<()>> + '_ {
        self.send_all([Some(chunk.into()), None, None])
    }

    /// Like [`Stream::send`], for several pieces in one operation.
    pub fn send_all(
        &self,
        chunks: [Option<Chunk>; CHUNKS_MAX],
    ) -> impl Future<Output = io::Result<()>> + '_ {
        let mut chunks = Some(chunks);
        poll_fn(move |cx| {
            self.core.with(|engine, io| {
                let send = &mut io.sockets.at(self.key).send;
                if send.op.is_none()
                    && send.error.is_none()
                    && let Some(chunks) = chunks.take()
                {
                    engine.send_chunks(io, self.key, chunks);
                }
                poll_sent(io, self.key, cx)
            })
        })
    }

    /// Starts sending `chunks` without waiting; the outcome is that of a later send, flush or
    /// receive. No effect but dropping the bytes if an earlier send failed.
    ///
    /// # Panics
    /// If a send is under way (see [`Stream::is_sending`]).
    pub fn start_send(&self, chunks: [Option<Chunk>; CHUNKS_MAX]) -> Started {
        self.starting(|engine, io| engine.send_chunks(io, self.key, chunks)).0
    }

    /// Like [`Stream::start_send`], for what goes ahead of a [`splice`](crate::splice()) to this
    /// stream: the kernel may hold it until the splice brings its first bytes, and then sends both as
    /// one. A splice that has to wait for its source, or finds no pipe, lets it go; whoever does
    /// something else instead calls [`Stream::push`].
    ///
    /// # Panics
    /// As [`Stream::start_send`].
    pub fn start_send_ahead(&self, chunks: [Option<Chunk>; CHUNKS_MAX]) -> Started {
        self.core.with(|_, io| io.sockets.at(self.key).send.ahead = true);
        self.start_send(chunks)
    }

    /// Lets go what [`Stream::start_send_ahead`] sent, if the kernel may still hold it.
    pub fn push(&self) {
        self.core.with(|engine, io| {
            let send = &mut io.sockets.at(self.key).send;
            if send.ahead {
                engine.push(io, self.key);
            }
        });
    }

    /// Like [`Stream::start_send`], for bytes that may have to be sent again: they are given back,
    /// without a copy where the kernel has taken them already.
    ///
    /// # Panics
    /// As [`Stream::start_send`].
    pub fn start_send_kept(&self, bytes: Vec<u8>) -> (Started, Vec<u8>) {
        self.starting(|engine, io| engine.send_kept(io, self.key, bytes))
    }

    #[inline]
    fn starting<T>(&self, send: impl FnOnce(&mut Engine, &mut Io) -> T) -> (Started, T) {
        self.core.with(|engine, io| {
            let state = &io.sockets.at(self.key).send;
            assert!(state.op.is_none(), "one send at a time");
            let before = state.bytes_total;
            let given_back = send(engine, io);
            let state = &io.sockets.at(self.key).send;
            let done = state.op.is_none() && state.error.is_none();
            let bytes_total = state.bytes_total;
            (Started { bytes: bytes_total - before, bytes_total, done }, given_back)
        })
    }

    /// True while the kernel has not taken everything that was sent.
    #[must_use]
    #[inline]
    pub fn is_sending(&self) -> bool {
        self.core.with(|_, io| io.sockets.at(self.key).send.op.is_some())
    }

    /// Waits until the kernel has taken everything that was sent.
    ///
    /// # Errors
    /// As [`Stream::send`].
    pub fn flush(&self) -> impl Future<Output = io::Result<()>> + '_ {
        poll_fn(|cx| self.poll_flush(cx))
    }

    /// See [`Stream::flush`].
    #[inline]
    pub fn poll_flush(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.core.with(|_, io| poll_sent(io, self.key, cx))
    }

    /// Bytes that the kernel took from this stream so far: a send that makes progress moves it.
    #[must_use]
    pub fn bytes_sent(&self) -> u64 {
        self.core.with(|_, io| io.sockets.at(self.key).send.bytes_total)
    }

    /// True if bytes or the end of the stream wait in the socket: asked of the kernel directly, where
    /// no receive was armed that would have noticed. For a stream whose last read stopped before the
    /// socket was empty.
    #[must_use]
    pub fn has_unread(&self) -> bool {
        self.has_news() || self.core.with(|engine, io| engine.has_unread(io, self.key))
    }

    /// Waits until the peer reset the connection, or both directions are closed. Only needed while
    /// no receive is armed.
    pub fn hung_up(&self) -> impl Future<Output = ()> + '_ {
        poll_fn(|cx| self.poll_hung_up(cx))
    }

    /// See [`Stream::hung_up`].
    pub fn poll_hung_up(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.core.with(|engine, io| {
            if *io.sockets.at(self.key).watch(Interest::HungUp) == Watch::Idle {
                engine.watch(io, self.key, Interest::HungUp);
            }
            let socket = io.sockets.at(self.key);
            if *socket.watch(Interest::HungUp) == Watch::Ready {
                return Poll::Ready(());
            }
            set_waker(&mut socket.rare().hung_up_waker, cx);
            Poll::Pending
        })
    }

    /// Closes one or both directions. Call it when nothing is being sent.
    ///
    /// # Errors
    /// ENOTCONN if the peer is gone already.
    pub fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        Ok(self.core.with(|engine, io| engine.shutdown(io, self.key, how))?)
    }

    /// Closes with a reset: the peer learns that what it has may be incomplete.
    pub fn reset(self) {
        self.reset_on_close();
    }

    /// Makes the close that follows when this stream is dropped a reset.
    pub fn reset_on_close(&self) {
        self.core.with(|engine, io| engine.reset_on_close(io, self.key));
    }

    /// This end's address.
    ///
    /// # Errors
    /// What `getsockname(2)` answers.
    pub fn local_address(&self) -> io::Result<Address> {
        Ok(self.core.with(|engine, io| engine.local_address(io, self.key))?)
    }

    /// The other end's address.
    ///
    /// # Errors
    /// ENOTCONN if the peer is gone already.
    pub fn peer_address(&self) -> io::Result<Address> {
        Ok(self.core.with(|engine, io| engine.peer_address(io, self.key))?)
    }

    pub(crate) fn core(&self) -> &Rc<Core> {
        &self.core
    }

    pub(crate) fn key(&self) -> SocketKey {
        self.key
    }

    pub(crate) fn is_multishot(&self) -> bool {
        self.multishot.get()
    }

    /// Waits until up to `bytes_max` bytes have moved from the socket into `pipe`; 0 is the end.
    pub(crate) fn poll_splice_in(
        &self,
        cx: &mut Context<'_>,
        pipe: &mut Pipe,
        bytes_max: usize,
    ) -> Poll<io::Result<usize>> {
        self.poll_direct(cx, Interest::Readable, |stream| {
            stream.core.with(|engine, io| match io.sockets.at(stream.key).recv.end {
                Some(End::Fin) => Ok(0),
                Some(End::Failed(errno)) => Err(errno),
                None => {
                    let outcome = engine.splice_in(io, stream.key, pipe, bytes_max);
                    io.sockets.at(stream.key).note_direct(outcome)
                }
            })
        })
    }

    /// Waits until some bytes have moved from `pipe` into the socket.
    pub(crate) fn poll_splice_out(
        &self,
        cx: &mut Context<'_>,
        pipe: &mut Pipe,
    ) -> Poll<io::Result<usize>> {
        self.poll_direct(cx, Interest::Writable, |stream| {
            stream.core.with(|engine, io| {
                let outcome = engine.splice_out(io, stream.key, pipe);
                if let Err(errno) = outcome
                    && errno != Errno::AGAIN
                {
                    io.sockets.at(stream.key).send.error = Some(errno);
                }
                outcome
            })
        })
    }

    /// Tries a direct operation, waits for readiness where it answers EAGAIN, and tries again.
    pub(crate) fn poll_direct(
        &self,
        cx: &mut Context<'_>,
        interest: Interest,
        mut operation: impl FnMut(&Self) -> Result<usize, Errno>,
    ) -> Poll<io::Result<usize>> {
        loop {
            let waiting = self.core.with(|_, io| {
                let socket = io.sockets.at(self.key);
                debug_assert!(
                    interest != Interest::Readable || socket.recv.state == RecvState::Idle,
                    "a direct read beside an armed receive would take its bytes"
                );
                let watch = socket.watch(interest);
                if *watch == Watch::Ready {
                    *watch = Watch::Idle;
                }
                *watch == Watch::Armed
            });
            if !waiting {
                match operation(self) {
                    Err(Errno::AGAIN) => {}
                    outcome => return Poll::Ready(outcome.map_err(io::Error::from)),
                }
            }
            let ready = self.core.with(|engine, io| {
                if *io.sockets.at(self.key).watch(interest) == Watch::Idle {
                    engine.watch(io, self.key, interest);
                }
                let socket = io.sockets.at(self.key);
                let waker = match interest {
                    Interest::Readable => &mut socket.recv.waker,
                    _ => &mut socket.send.waker,
                };
                set_waker(waker, cx);
                *socket.watch(interest) == Watch::Ready
            });
            if !ready {
                return Poll::Pending;
            }
        }
    }
}

/// What a receive answers at once: bytes, or how the stream ended after them.
#[inline]
pub(crate) fn take_received(recv: &mut Recv) -> Option<io::Result<Option<Lease>>> {
    match (recv.pop(), recv.end) {
        (Some(lease), _) => Some(Ok(Some(lease))),
        (None, Some(End::Fin)) => Some(Ok(None)),
        (None, Some(End::Failed(errno))) => Some(Err(errno.into())),
        (None, None) => None,
    }
}

/// Ready once nothing is being sent any more.
#[inline]
pub(crate) fn poll_sent(io: &mut Io, key: SocketKey, cx: &Context<'_>) -> Poll<io::Result<()>> {
    let send = &mut io.sockets.at(key).send;
    if let Some(errno) = send.error {
        return Poll::Ready(Err(errno.into()));
    }
    if send.op.is_none() {
        return Poll::Ready(Ok(()));
    }
    set_waker(&mut send.waker, cx);
    send.awaited = true;
    io.send_awaited = true;
    Poll::Pending
}

#[inline]
pub(crate) fn set_waker(slot: &mut Option<std::task::Waker>, cx: &Context<'_>) {
    match slot {
        Some(known) if known.will_wake(cx.waker()) => {}
        _ => *slot = Some(cx.waker().clone()),
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.core.with(|engine, io| engine.close(io, self.key));
    }
}

impl std::fmt::Debug for Stream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Stream").field("key", &self.key).finish()
    }
}

fn make_socket(address: &Address) -> io::Result<OwnedFd> {
    let protocol = address.inet().map(|_| Protocol::TCP);
    let kind = Type::STREAM.nonblocking().cloexec();
    let socket = RawSocket::new(address.domain(), kind, protocol)?;
    if protocol.is_some() {
        configure(&socket);
    }
    Ok(socket.into())
}

/// Keep-alive probes: a vanished peer is noticed after about two minutes.
const KEEPALIVE_IDLE_S: u64 = 60;
const KEEPALIVE_INTERVAL_S: u64 = 15;
const KEEPALIVE_PROBES: u32 = 4;

/// Sets what every TCP stream of a proxy wants: no delay, keep-alive probes. Refusals are passed
/// over: they cost latency or memory, not correctness.
pub(crate) fn configure(socket: &RawSocket) {
    use std::time::Duration;
    let _ = socket.set_tcp_nodelay(true);
    let keepalive = TcpKeepalive::new()
        .with_time(Duration::from_secs(KEEPALIVE_IDLE_S))
        .with_interval(Duration::from_secs(KEEPALIVE_INTERVAL_S))
        .with_retries(KEEPALIVE_PROBES);
    let _ = socket.set_tcp_keepalive(&keepalive);
}

/// An emptied vector of this worker, for the next thing that is made to be sent.
#[must_use]
#[inline]
pub fn spare_vector() -> Vec<u8> {
    with_current(|core| core.with(|_, io| io.spares.vector()))
}

/// Gives a vector back that was not sent.
#[inline]
pub fn keep_vector(vector: Vec<u8>) {
    with_current(|core| core.with(|_, io| io.spares.keep(vector)));
}
