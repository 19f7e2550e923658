//! Listening sockets: exclusive ports, one socket per worker, and closing without a reset.

use std::future::poll_fn;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;
use std::task::Poll;

use socket2::{Protocol, SockRef, Socket as RawSocket, Type};

use crate::address::Address;
use crate::runtime::{Core, current};
use crate::socket::{Accepted, SocketKey};
use crate::stream::{self, Stream};

/// Connections that the kernel may queue for one listener; it cuts this to `net.core.somaxconn`.
const BACKLOG: i32 = 4_096;

/// Sockets bound to one address, one for each worker, not yet listening with an engine. They are the
/// kernel's: in a simulation use [`Listener::bind`].
#[derive(Debug)]
pub struct Binding {
    sockets: Vec<OwnedFd>,
    address: Address,
}

impl Binding {
    /// Binds `count` sockets to `address` and listens on them. The kernel spreads connections over
    /// them (SO_REUSEPORT). The first is bound without that option, so that a port that somebody
    /// else has, even somebody who would share it, is an error.
    ///
    /// # Errors
    /// EADDRINUSE, EACCES, EADDRNOTAVAIL and the like.
    pub fn new(address: &Address, count: usize) -> io::Result<Self> {
        Self::bind(address, count, false)
    }

    /// The same where a binding of this process has the port already, for another address that
    /// overlaps with this one: `127.0.0.1:80` beside `0.0.0.0:80`. The more specific one gets the
    /// connections that both could take.
    ///
    /// Only for whoever knows that it is this process's: another one of the same user that shares its
    /// ports would not be noticed.
    ///
    /// # Errors
    /// As [`Binding::new`].
    pub fn beside(address: &Address, count: usize) -> io::Result<Self> {
        Self::bind(address, count, true)
    }

    fn bind(address: &Address, count: usize, shares: bool) -> io::Result<Self> {
        let mut sockets = Vec::with_capacity(count);
        let mut address = address.clone();
        for index in 0..count {
            let protocol = address.inet().map(|_| Protocol::TCP);
            let kind = Type::STREAM.nonblocking().cloexec();
            let socket = RawSocket::new(address.domain(), kind, protocol)?;
            if let Some(inet) = address.inet() {
                stream::configure(&socket);
                socket.set_reuse_address(true)?;
                if inet.is_ipv6() {
                    socket.set_only_v6(false)?;
                }
                if index > 0 || shares {
                    socket.set_reuse_port(true)?;
                }
            }
            socket.bind(&address.to_socket_address()?)?;
            if index == 0 {
                if address.inet().is_some() {
                    // For the others, and for a binding beside this one.
                    socket.set_reuse_port(true)?;
                }
                // Port 0 has become a real one, which the others share.
                address = Address::from_socket_address(&socket.local_addr()?);
            }
            sockets.push(socket);
        }
        for socket in &sockets {
            socket.listen(BACKLOG)?;
        }
        Ok(Self { sockets: sockets.into_iter().map(OwnedFd::from).collect(), address })
    }

    /// The address that is bound, with its real port.
    #[must_use]
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// The sockets, one for each worker, to be given to [`Listener::from_fd`] there.
    #[must_use]
    pub fn into_sockets(self) -> Vec<OwnedFd> {
        self.sockets
    }
}

/// A listening socket on this worker.
pub struct Listener {
    core: Rc<Core>,
    key: SocketKey,
}

impl Listener {
    /// Takes over a listening, non-blocking socket.
    ///
    /// # Errors
    /// When the engine cannot watch the descriptor; ENOTSOCK in a simulation, which has none.
    pub fn from_fd(fd: OwnedFd) -> io::Result<Self> {
        SockRef::from(&fd.as_fd()).set_nonblocking(true)?;
        Self::with_core(current(), fd.into())
    }

    fn with_core(core: Rc<Core>, socket: Accepted) -> io::Result<Self> {
        let key = core.with(|engine, io| engine.open(io, socket))?;
        Ok(Self { core, key })
    }

    /// Binds `address` for this worker alone. In a simulation the address is a virtual one.
    ///
    /// # Errors
    /// As [`Binding::new`].
    pub fn bind(address: &Address) -> io::Result<Self> {
        let core = current();
        if let Some(listening) =
            core.with(|engine, _| engine.simulation().map(|sim| sim.listen(address)))
        {
            return Self::with_core(core, Accepted::Simulated(listening?));
        }
        let socket = Binding::new(address, 1)?.into_sockets().pop();
        Self::from_fd(socket.expect("one socket was asked for"))
    }

    /// Waits for a connection.
    ///
    /// # Errors
    /// EMFILE, ENFILE, ENOBUFS, ENOMEM: the connection waits in the kernel's queue; free something,
    /// or wait a moment, before the next call. An error is reported once.
    pub async fn accept(&self) -> io::Result<Stream> {
        let fd = poll_fn(|cx| {
            self.core.with(|engine, io| {
                for attempt in 0..2 {
                    let accept = io.sockets.at(self.key).accept();
                    if let Some(fd) = accept.ready.pop_front() {
                        return Poll::Ready(Ok(fd));
                    }
                    if let Some(errno) = accept.error.take() {
                        return Poll::Ready(Err(errno));
                    }
                    if attempt == 0 && !accept.armed {
                        engine.accept(io, self.key);
                    } else {
                        break;
                    }
                }
                io.sockets.at(self.key).accept().waker = Some(cx.waker().clone());
                Poll::Pending
            })
        })
        .await?;
        Stream::with_core(self.core.clone(), fd)
    }

    /// Stops accepting until the next [`accept`](Self::accept): clients wait in the kernel's queue. What was
    /// accepted by then, or is just being, waits for that call.
    pub fn pause(&self) {
        self.core.with(|engine, io| engine.accept_stop(io, self.key));
    }

    /// Stops accepting for good and returns every connection that clients have opened, so that
    /// closing the listener resets none of them. Who begins to connect from now on is not heard, and
    /// tries again after a second: close it soon. Whose handshake is half done then is reset.
    pub async fn empty(&self) -> Vec<Stream> {
        poll_fn(|cx| {
            self.core.with(|engine, io| {
                engine.accept_stop(io, self.key);
                let accept = io.sockets.at(self.key).accept();
                if !accept.armed {
                    return Poll::Ready(());
                }
                accept.waker = Some(cx.waker().clone());
                Poll::Pending
            })
        })
        .await;
        self.core.with(|engine, io| engine.turn_deaf(io, self.key));
        let mut waiting = Vec::new();
        loop {
            let fd = self.core.with(|engine, io| {
                match io.sockets.at(self.key).accept().ready.pop_front() {
                    Some(fd) => Ok(fd),
                    None => engine.accept_now(io, self.key),
                }
            });
            match fd {
                Ok(fd) => waiting.extend(Stream::with_core(self.core.clone(), fd)),
                Err(rustix::io::Errno::CONNABORTED) => {}
                // EAGAIN: the queue is empty. Anything else (EMFILE): no more can be saved.
                Err(_) => return waiting,
            }
        }
    }

    /// The address it is bound to.
    ///
    /// # Errors
    /// What `getsockname(2)` answers.
    pub fn local_address(&self) -> io::Result<Address> {
        Ok(self.core.with(|engine, io| engine.local_address(io, self.key))?)
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.core.with(|engine, io| engine.close(io, self.key));
    }
}

impl std::fmt::Debug for Listener {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Listener").field("key", &self.key).finish()
    }
}
