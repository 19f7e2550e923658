//! Probes of endpoints, many at a time on one thread: a bare connect.
//!
//! Before: the health thread wants to know whether an endpoint is there. After: it is told what was found.
//! Sockets don't block; the thread waits for all of them at once.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;

use rustix::event::{PollFd, PollFlags};
use socket2::{Domain, Protocol, Socket, Type};

use crate::limits;

/// What was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// It took the connection.
    Connected,
    /// It refused the connection, or can't be reached.
    Refused,
    /// It did neither in time.
    TimedOut,
    /// The proxy could not try, for want of descriptors or ports: that says nothing.
    Untried,
}

/// Who is to be probed, and how long that may take.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wanted<T> {
    /// Where it is.
    pub(super) address: SocketAddr,
    /// From its beginning.
    pub(super) timeout_ns: u64,
    /// For the asker.
    pub(super) tag: T,
}

struct Probe<T> {
    socket: Socket,
    until_ns: u64,
    wanted: Wanted<T>,
}

/// Probes that are under way, and those that wait for room.
pub(super) struct Probes<T> {
    running: Vec<Probe<T>>,
    waiting: VecDeque<Wanted<T>>,
    done: Vec<(T, SocketAddr, Found)>,
}

impl<T: Copy> Probes<T> {
    pub(super) const fn new() -> Self {
        Self { running: Vec::new(), waiting: VecDeque::new(), done: Vec::new() }
    }

    /// Begins a probe as soon as there is room.
    pub(super) fn want(&mut self, wanted: Wanted<T>, now_ns: u64) {
        self.waiting.push_back(wanted);
        self.begin_waiting(now_ns);
    }

    fn begin_waiting(&mut self, now_ns: u64) {
        while self.running.len() < limits::PROBES_MAX
            && let Some(wanted) = self.waiting.pop_front()
        {
            let until_ns = now_ns.saturating_add(wanted.timeout_ns);
            match begin(wanted.address) {
                Ok(socket) => self.running.push(Probe { socket, until_ns, wanted }),
                Err(error) => self.done.push((wanted.tag, wanted.address, found_of(&error))),
            }
        }
    }

    /// What to wait for.
    pub(super) fn watched(&self) -> impl Iterator<Item = PollFd<'_>> {
        self.running.iter().map(|probe| PollFd::new(&probe.socket, PollFlags::OUT))
    }

    /// When the first of them takes too long; 0: one is over already.
    pub(super) fn next_ns(&self) -> Option<u64> {
        match self.done.is_empty() {
            true => self.running.iter().map(|probe| probe.until_ns).min(),
            false => Some(0),
        }
    }

    /// Those that are over.
    pub(super) fn take_done(&mut self, now_ns: u64) -> Vec<(T, SocketAddr, Found)> {
        let mut index = 0;
        while index < self.running.len() {
            let probe = &self.running[index];
            match look(&probe.socket, probe.wanted.address) {
                None if now_ns < probe.until_ns => index += 1,
                found => {
                    let probe = self.running.swap_remove(index);
                    let found = found.unwrap_or(Found::TimedOut);
                    self.done.push((probe.wanted.tag, probe.wanted.address, found));
                }
            }
        }
        self.begin_waiting(now_ns);
        std::mem::take(&mut self.done)
    }
}

fn begin(address: SocketAddr) -> io::Result<Socket> {
    let kind = Type::STREAM.nonblocking().cloexec();
    let socket = Socket::new(Domain::for_address(address), kind, Some(Protocol::TCP))?;
    match socket.connect(&address.into()) {
        Err(error)
            if error.raw_os_error() != Some(rustix::io::Errno::INPROGRESS.raw_os_error()) =>
        {
            Err(error)
        }
        _ => Ok(socket),
    }
}

/// `None`: it is not decided yet.
fn look(socket: &Socket, address: SocketAddr) -> Option<Found> {
    match socket.take_error() {
        Ok(None) => {}
        Ok(Some(error)) | Err(error) => return Some(found_of(&error)),
    }
    socket.peer_addr().ok()?;
    // A port of this host that nobody listens on may be connected to itself (RFC 9293, simultaneous open).
    let own = socket.local_addr().ok().and_then(|own| own.as_socket());
    Some(if own == Some(address) { Found::Refused } else { Found::Connected })
}

fn found_of(error: &io::Error) -> Found {
    use rustix::io::Errno;
    match Errno::from_io_error(error) {
        Some(Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM | Errno::ADDRNOTAVAIL) => {
            Found::Untried
        }
        Some(Errno::TIMEDOUT) => Found::TimedOut,
        _ => Found::Refused,
    }
}
