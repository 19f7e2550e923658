//! Ends waits that last too long, without a timer per request and without cancelling anything.
//!
//! A connection notes until when it is willing to wait; every few milliseconds one pass over the
//! thread's connections shuts down the sockets of those that waited longer. Their operation then
//! ends by itself (monoio 0.2.4 loses descriptors when it cancels). A request pays one store.

use std::cell::{Cell, RefCell};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::rc::Rc;

use rustix::io::Errno;
use rustix::net::{RecvFlags, Shutdown};
use rustix::process::{PidfdFlags, PidfdGetfdFlags, getpid, pidfd_getfd, pidfd_open};

/// No operation is waited for.
const IDLE: u64 = u64::MAX;

/// All connections of one thread.
pub(crate) struct Watch {
    /// This process: through it a socket is reached by its number. Nothing where that is forbidden
    /// (as in some containers), and each connection keeps a second descriptor instead.
    process: Option<OwnedFd>,
    watched: RefCell<Vec<Rc<Watched>>>,
}

/// One connection as the watch sees it.
pub(crate) struct Watched {
    deadline_ns: Cell<u64>,
    expired: Cell<bool>,
    socket: RefCell<Option<Socket>>,
}

enum Socket {
    Number(RawFd),
    Second(OwnedFd),
}

impl Watch {
    pub(crate) fn new() -> Self {
        let process = pidfd_open(getpid(), PidfdFlags::empty()).ok().filter(|process| {
            let itself = process.as_raw_fd();
            pidfd_getfd(process, itself, PidfdGetfdFlags::empty()).is_ok()
        });
        Self { process, watched: RefCell::default() }
    }

    /// A new connection's place.
    pub(crate) fn add(&self) -> Rc<Watched> {
        let watched = Rc::new(Watched {
            deadline_ns: Cell::new(IDLE),
            expired: Cell::new(false),
            socket: RefCell::new(None),
        });
        self.watched.borrow_mut().push(watched.clone());
        watched
    }

    /// The connection has a socket, until [`Watched::closing`].
    ///
    /// # Errors
    /// No descriptor left.
    pub(crate) fn opened(&self, watched: &Watched, socket: &socket2::Socket) -> io::Result<()> {
        let socket = match self.process {
            Some(_) => Socket::Number(socket.as_raw_fd()),
            None => Socket::Second(socket.as_fd().try_clone_to_owned()?),
        };
        watched.expired.set(false);
        watched.socket.replace(Some(socket));
        Ok(())
    }

    /// Shuts down the sockets of connections that waited past their deadline.
    pub(crate) fn end_expired(&self, now_ns: u64) {
        for watched in self.watched.borrow().iter() {
            if watched.deadline_ns.get() <= now_ns {
                watched.expired.set(true);
                watched.idle();
                self.shut_down(watched);
            }
        }
    }

    /// Whether some connection waits for something.
    pub(crate) fn any_waits(&self) -> bool {
        self.watched.borrow().iter().any(|watched| watched.deadline_ns.get() != IDLE)
    }

    /// Whether the peer has ended an idle connection.
    pub(crate) fn has_ended(&self, watched: &Watched) -> bool {
        let looking = RecvFlags::PEEK | RecvFlags::DONTWAIT;
        self.with_socket(watched, |socket| match rustix::net::recv(socket, &mut [0; 1], looking) {
            Ok((0, _)) => true,
            Ok(_) => false,
            Err(error) => error != Errno::WOULDBLOCK,
        })
        .unwrap_or(false)
    }

    fn shut_down(&self, watched: &Watched) {
        // A socket that is already closed by the peer says ENOTCONN: its wait has ended.
        let _ = self.with_socket(watched, |socket| rustix::net::shutdown(socket, Shutdown::Both));
    }

    fn with_socket<R>(
        &self,
        watched: &Watched,
        use_it: impl FnOnce(BorrowedFd<'_>) -> R,
    ) -> Option<R> {
        match (&*watched.socket.borrow(), &self.process) {
            (Some(Socket::Number(number)), Some(process)) => {
                let socket = pidfd_getfd(process, *number, PidfdGetfdFlags::empty()).ok()?;
                Some(use_it(socket.as_fd()))
            }
            (Some(Socket::Second(socket)), _) => Some(use_it(socket.as_fd())),
            _ => None,
        }
    }
}

impl Watched {
    /// What is waited for from now on must be there by then.
    #[inline]
    pub(crate) fn wait_until(&self, deadline_ns: u64) {
        self.deadline_ns.set(deadline_ns);
    }

    /// Nothing is waited for.
    #[inline]
    pub(crate) fn idle(&self) {
        self.deadline_ns.set(IDLE);
    }

    /// Whether the wait that just ended was ended by the watch.
    pub(crate) fn has_expired(&self) -> bool {
        self.expired.get()
    }

    /// The socket is about to be closed: its number is no longer ours.
    pub(crate) fn closing(&self) {
        self.idle();
        self.socket.replace(None);
    }
}
