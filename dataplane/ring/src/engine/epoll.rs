//! The epoll engine: readiness and direct system calls, for hosts where io_uring is switched off,
//! filtered or too old.
//!
//! Each socket is registered once, edge-triggered, for both directions. What an edge said is kept in
//! the slot until a call answers EAGAIN, so that the steady state costs one `epoll_wait` a turn and
//! one system call per receive and per send, and an idle socket costs nothing.

use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::io::Errno;
use rustix::time::Timespec;

use crate::engine::{Io, Wait, add, direct};
use crate::socket::{Interest, RecvState, Socket, SocketKey, Watch};

/// Events taken in one wait.
const EVENTS_MAX: usize = 1_024;
/// The tag of the eventfd through which other threads call.
const CALLED: u64 = u64::MAX;

pub(crate) struct Epoll {
    epoll: OwnedFd,
    eventfd: OwnedFd,
    /// Another thread called; see `Engine::take_called`.
    pub(crate) called: bool,
    events: Vec<epoll::Event>,
}

fn tag(key: SocketKey) -> EventData {
    EventData::new_u64(u64::from(key.generation) << 32 | u64::from(key.index))
}

impl Epoll {
    pub(crate) fn new(eventfd: OwnedFd) -> Result<Self, Errno> {
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        epoll::add(&epoll, eventfd.as_fd(), EventData::new_u64(CALLED), EventFlags::IN)?;
        Ok(Self { epoll, eventfd, called: false, events: Vec::with_capacity(EVENTS_MAX) })
    }

    pub(crate) fn opened(&mut self, io: &mut Io, key: SocketKey) -> Result<(), Errno> {
        let socket = io.sockets.at(key);
        let flags = EventFlags::IN | EventFlags::OUT | EventFlags::RDHUP | EventFlags::ET;
        epoll::add(&self.epoll, socket.fd(), tag(key), flags)
    }

    pub(crate) fn recv(&mut self, io: &mut Io, key: SocketKey, _multishot: bool) {
        let socket = io.sockets.at(key);
        socket.recv.state = RecvState::Idle;
        if !socket.edges.readable || direct::receive(io, key) == Err(Errno::AGAIN) {
            io.sockets.at(key).recv.state = RecvState::Armed { multishot: false };
        }
    }

    pub(crate) fn recv_stop(&mut self, io: &mut Io, key: SocketKey) {
        io.sockets.at(key).recv.state = RecvState::Idle;
    }

    pub(crate) fn send(&mut self, io: &mut Io, key: SocketKey) {
        let outcome = direct::send(io, key);
        let socket = io.sockets.at(key);
        match outcome {
            Ok(true) => {}
            Ok(false) => {
                socket.send.in_flight = true;
                return;
            }
            Err(errno) => socket.send.error = Some(errno),
        }
        socket.send.in_flight = false;
        socket.send.wake();
        if let Some(op) = socket.send.op.take() {
            io.spares.retire(op);
        }
    }

    pub(crate) fn connect(&mut self, io: &mut Io, key: SocketKey) {
        let socket = io.sockets.at(key);
        let fd = socket.fd.as_ref().expect("a real engine's sockets have descriptors");
        let connect = socket
            .rare
            .as_mut()
            .and_then(|rare| rare.connect.as_mut())
            .expect("the caller described the connect");
        add(&io.counts.submitted, 1);
        match socket2::SockRef::from(fd).connect(&connect.address) {
            Ok(()) => connect.outcome = Some(Ok(())),
            Err(error) => match direct::errno_of(&error) {
                Errno::INPROGRESS => {}
                errno => connect.outcome = Some(Err(errno)),
            },
        }
    }

    pub(crate) fn accept(&mut self, io: &mut Io, key: SocketKey) {
        let socket = io.sockets.at(key);
        socket.accept().armed = true;
        if socket.edges.readable {
            direct::accept_ready(io, key);
        }
    }

    pub(crate) fn accept_stop(&mut self, io: &mut Io, key: SocketKey) {
        io.sockets.at(key).accept().armed = false;
    }

    pub(crate) fn watch(&mut self, io: &mut Io, key: SocketKey, interest: Interest) {
        let socket = io.sockets.at(key);
        let ready = match interest {
            Interest::Readable => socket.edges.readable,
            Interest::Writable => socket.edges.writable,
            Interest::HungUp => socket.edges.hung_up,
        };
        *socket.watch(interest) = if ready { Watch::Ready } else { Watch::Armed };
    }

    pub(crate) fn close(&mut self, io: &mut Io, key: SocketKey) {
        let mut socket = io.sockets.remove(key);
        if let Some(op) = socket.send.op.take() {
            io.spares.retire(op);
        }
        // Dropping the slot closes the descriptor, which takes it off the epoll set.
    }

    pub(crate) fn turn(&mut self, io: &mut Io, wait: Wait) -> Result<(), Errno> {
        let wait = if self.feed_starved(io) { Wait::No } else { wait };
        let timeout = match wait {
            Wait::No => Some(Duration::ZERO),
            Wait::AtMost(duration) => Some(duration),
            Wait::Forever => None,
        };
        let timeout = timeout.map(|duration| Timespec {
            tv_sec: duration.as_secs() as i64,
            tv_nsec: i64::from(duration.subsec_nanos()),
        });
        add(&io.counts.enters, 1);
        let mut events = std::mem::take(&mut self.events);
        events.clear();
        let spare = rustix::buffer::spare_capacity(&mut events);
        match epoll::wait(&self.epoll, spare, timeout.as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
        for event in &events {
            let data = event.data.u64();
            if data == CALLED {
                self.called = true;
                let mut count = [0; 8];
                // EAGAIN would mean that somebody else read it; either way it is reset.
                let _ = rustix::io::read(self.eventfd.as_fd(), &mut count);
                continue;
            }
            let key = SocketKey { index: data as u32, generation: (data >> 32) as u32 };
            self.happened(io, key, event.flags);
        }
        self.events = events;
        Ok(())
    }

    fn feed_starved(&mut self, io: &mut Io) -> bool {
        let feed = usize::from(io.pool.available()).min(io.starved.len());
        for _ in 0..feed {
            let Some(key) = io.next_starved() else { break };
            self.recv(io, key, false);
        }
        feed > 0
    }

    /// An edge: remembers it, and goes on with whatever waited for it.
    fn happened(&mut self, io: &mut Io, key: SocketKey, flags: EventFlags) {
        // A socket closed earlier in this turn may still be named by an event of the same wait.
        let Some(socket) = io.sockets.find(key) else { return };
        let broken = flags.intersects(EventFlags::ERR | EventFlags::HUP);
        if flags.intersects(EventFlags::IN | EventFlags::RDHUP) || broken {
            socket.edges.readable = true;
            socket.edges.read_closed |= flags.contains(EventFlags::RDHUP) || broken;
        }
        if flags.contains(EventFlags::OUT) || broken {
            socket.edges.writable = true;
        }
        if broken {
            socket.edges.hung_up = true;
        }
        if socket.edges.writable && (socket.send.in_flight || socket.rare.is_some()) {
            self.became_writable(io, key);
        }
        let socket = io.sockets.at(key);
        if socket.edges.readable {
            if matches!(socket.recv.state, RecvState::Armed { .. }) {
                socket.recv.state = RecvState::Idle;
                if direct::receive(io, key) == Err(Errno::AGAIN) {
                    io.sockets.at(key).recv.state = RecvState::Armed { multishot: false };
                }
            } else if let Some(rare) = &socket.rare
                && rare.accept.as_ref().is_some_and(|accept| accept.armed)
            {
                direct::accept_ready(io, key);
            }
        }
        let socket = io.sockets.at(key);
        if socket.edges.readable && socket.readable == Watch::Armed {
            socket.report(Interest::Readable);
        }
        if socket.edges.writable && socket.writable == Watch::Armed {
            socket.report(Interest::Writable);
        }
        let waits = socket.rare.as_ref().is_some_and(|rare| rare.hung_up == Watch::Armed);
        if socket.edges.hung_up && waits {
            socket.report(Interest::HungUp);
        }
    }

    fn became_writable(&mut self, io: &mut Io, key: SocketKey) {
        let socket = io.sockets.at(key);
        if socket.send.in_flight {
            return self.send(io, key);
        }
        finish_connect(socket);
    }
}

fn finish_connect(socket: &mut Socket) {
    let fd = socket.fd.as_ref().expect("a real engine's sockets have descriptors");
    let Some(connect) = socket.rare.as_mut().and_then(|rare| rare.connect.as_mut()) else { return };
    if connect.outcome.is_none() {
        connect.outcome = Some(match rustix::net::sockopt::socket_error(fd) {
            Ok(outcome) => outcome,
            Err(errno) => Err(errno),
        });
        if let Some(waker) = connect.waker.take() {
            waker.wake();
        }
    }
}
