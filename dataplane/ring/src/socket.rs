//! What the engine knows of each open socket: one slot per socket, shared by all three engines.
//!
//! The slot, not a future, owns the operations in flight. A future that waits for bytes only leaves
//! its waker here; dropping it takes nothing away from the kernel and loses no byte, because what
//! arrives later is kept in the slot for the next one who asks. That is what makes every wait of
//! this crate cancel-safe.
//!
//! ```text
//!   recv:  Idle ──arm──► Armed ──bytes──► Idle + ready      (one-shot)
//!                          │  └─bytes──► Armed + ready      (multishot)
//!                          ├─ENOBUFS──► Starved ──buffers return──► Armed
//!                          └─stop──► Stopping ──last completion──► Idle
//!   slot:  open ──handle dropped──► closing (cancel, drain) ──nothing in flight──► closed, reused
//! ```

use std::collections::VecDeque;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::task::Waker;

use rustix::io::Errno;
use rustix::net::SendFlags;
use socket2::SockAddr;

use crate::buffer::Lease;
use crate::chunk::Sending;
use crate::engine::sim::network::EndId;
use crate::pages::Pages;

/// Received buffers that may wait for a slow reader before its receive is stopped.
pub(crate) const READY_LEASES_MAX: usize = 4;
/// Accepted connections that may wait for a slow acceptor before accepting is stopped.
pub(crate) const READY_ACCEPTS_MAX: usize = 256;

/// Names a socket; the generation tells it from an earlier user of the slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SocketKey {
    pub(crate) index: u32,
    pub(crate) generation: u32,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum RecvState {
    #[default]
    Idle,
    /// A receive is with the engine; `multishot` ones stay armed after they deliver.
    Armed { multishot: bool },
    /// There was no buffer; armed again as soon as one returns.
    Starved,
    /// A cancel is under way; what still arrives is kept.
    Stopping,
}

/// How a stream ended, delivered after everything that arrived before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Fin,
    Failed(Errno),
}

#[derive(Default)]
pub(crate) struct Recv {
    pub(crate) state: RecvState,
    pub(crate) end: Option<End>,
    /// It stands in `Io::starved`, perhaps for an earlier receive.
    pub(crate) in_line: bool,
    first: Option<Lease>,
    #[expect(clippy::box_collection, reason = "nearly always absent: 8 bytes of a slot, not 32")]
    rest: Option<Box<VecDeque<Lease>>>,
    pub(crate) waker: Option<Waker>,
}

impl Recv {
    /// Queues received bytes. Those that have to wait behind others give their buffer back.
    #[inline]
    pub(crate) fn push(&mut self, lease: Lease) {
        if self.first.is_none() && !lease.is_scarce() {
            self.first = Some(lease);
            return;
        }
        let lease = lease.settled(self.first.is_some());
        if self.first.is_none() {
            self.first = Some(lease);
        } else {
            self.rest.get_or_insert_default().push_back(lease);
        }
    }

    #[inline]
    pub(crate) fn pop(&mut self) -> Option<Lease> {
        let lease = self.first.take()?;
        if self.rest.is_some() {
            self.move_up();
        }
        Some(lease)
    }

    /// The next lease in line takes the first place.
    #[cold]
    fn move_up(&mut self) {
        self.first = self.rest.as_mut().and_then(|rest| rest.pop_front());
        if self.rest.as_ref().is_some_and(|rest| rest.is_empty()) {
            self.rest = None;
        }
    }

    /// True if bytes wait to be taken or the stream has ended.
    #[inline]
    pub(crate) fn has_news(&self) -> bool {
        self.first.is_some() || self.end.is_some()
    }

    pub(crate) fn ready(&self) -> usize {
        usize::from(self.first.is_some()) + self.rest.as_ref().map_or(0, |rest| rest.len())
    }

    #[inline]
    pub(crate) fn wake(&mut self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

pub(crate) struct Send {
    /// The bytes under way, if any.
    pub(crate) op: Option<Box<Sending>>,
    /// The kernel holds `op`: it may not be touched until the completion.
    pub(crate) in_flight: bool,
    /// The engine will be told of its failure only; see `engine/uring/sending.rs`.
    pub(crate) quiet: bool,
    /// A task waits for its end, and not only for a failure.
    pub(crate) awaited: bool,
    /// Set once a send failed; the stream sends nothing more.
    pub(crate) error: Option<Errno>,
    /// Bytes that the kernel took since the socket was opened: progress, for write timeouts.
    pub(crate) bytes_total: u64,
    /// What is sent may wait for the splice that follows it (`MSG_MORE`).
    pub(crate) ahead: bool,
    pub(crate) waker: Option<Waker>,
}

impl Send {
    fn new() -> Self {
        Self {
            op: None,
            in_flight: false,
            quiet: false,
            awaited: false,
            ahead: false,
            error: None,
            bytes_total: 0,
            waker: None,
        }
    }

    /// What `send(2)` is told.
    #[inline]
    pub(crate) fn flags(&self) -> SendFlags {
        if self.ahead { SendFlags::NOSIGNAL | SendFlags::MORE } else { SendFlags::NOSIGNAL }
    }

    pub(crate) fn wake(&mut self) {
        self.awaited = false;
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

/// Waits for readiness rather than for bytes: splice, direct reads, hang-ups. Bits of `Interest`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Interest {
    Readable,
    Writable,
    /// The peer reset the connection, or both directions are closed.
    HungUp,
}

/// One readiness wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(crate) enum Watch {
    #[default]
    Idle,
    /// The engine will report.
    Armed,
    /// Reported and not yet taken.
    Ready,
}

/// Rare state, in a box of its own so that a plain connection's slot stays small.
#[derive(Default)]
pub(crate) struct Rare {
    pub(crate) hung_up: Watch,
    pub(crate) hung_up_waker: Option<Waker>,
    pub(crate) connect: Option<Connect>,
    pub(crate) accept: Option<Accept>,
}

pub(crate) struct Connect {
    /// Read by the kernel when the operation is issued; kept until it completes.
    pub(crate) address: Box<SockAddr>,
    pub(crate) outcome: Option<Result<(), Errno>>,
    pub(crate) waker: Option<Waker>,
}

#[derive(Default)]
pub(crate) struct Accept {
    pub(crate) armed: bool,
    pub(crate) stopping: bool,
    pub(crate) ready: VecDeque<Accepted>,
    pub(crate) error: Option<Errno>,
    pub(crate) waker: Option<Waker>,
}

/// A connection that nobody has taken yet.
pub(crate) enum Accepted {
    Fd(OwnedFd),
    /// An end in the simulation's network.
    Simulated(EndId),
}

impl From<OwnedFd> for Accepted {
    fn from(fd: OwnedFd) -> Self {
        Self::Fd(fd)
    }
}

impl Accept {
    pub(crate) fn wake(&mut self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

pub(crate) struct Socket {
    generation: u32,
    /// Completions that the engine still owes this slot.
    pub(crate) in_flight: u8,
    /// The handle is gone; the slot is freed when nothing is in flight.
    pub(crate) closing: bool,
    pub(crate) readable: Watch,
    pub(crate) writable: Watch,
    /// The epoll engine's view of the descriptor's edge-triggered readiness.
    pub(crate) edges: Edges,
    /// `None` on the simulation, whose sockets have no descriptor, and in a free slot.
    pub(crate) fd: Option<OwnedFd>,
    pub(crate) recv: Recv,
    pub(crate) send: Send,
    pub(crate) rare: Option<Box<Rare>>,
}

/// Readiness remembered between edge-triggered events.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Edges {
    pub(crate) readable: bool,
    pub(crate) writable: bool,
    pub(crate) read_closed: bool,
    pub(crate) hung_up: bool,
}

impl Socket {
    fn new(generation: u32, fd: Option<OwnedFd>) -> Self {
        Self {
            generation,
            in_flight: 0,
            closing: false,
            readable: Watch::Idle,
            writable: Watch::Idle,
            edges: Edges::default(),
            fd,
            recv: Recv::default(),
            send: Send::new(),
            rare: None,
        }
    }

    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        use std::os::fd::AsFd as _;
        self.fd.as_ref().expect("a real engine's sockets have descriptors").as_fd()
    }

    pub(crate) fn rare(&mut self) -> &mut Rare {
        self.rare.get_or_insert_default()
    }

    pub(crate) fn accept(&mut self) -> &mut Accept {
        self.rare().accept.get_or_insert_default()
    }

    pub(crate) fn connect(&mut self) -> Option<&mut Connect> {
        self.rare.as_mut()?.connect.as_mut()
    }

    pub(crate) fn watch(&mut self, interest: Interest) -> &mut Watch {
        match interest {
            Interest::Readable => &mut self.readable,
            Interest::Writable => &mut self.writable,
            Interest::HungUp => &mut self.rare().hung_up,
        }
    }

    /// Records that nothing more arrives. The kernel reports a broken connection once, to whichever
    /// call comes first, and answers the next receive as if the peer had ended properly; so an end
    /// after a send that learned of the break is that break, lest what was cut short pass for whole.
    pub(crate) fn ended(&mut self) {
        self.recv.end = Some(match self.send.error {
            Some(errno @ (Errno::CONNRESET | Errno::TIMEDOUT)) => End::Failed(errno),
            _ => End::Fin,
        });
    }

    /// Records how a direct read ended, so that every later one gets the same answer.
    pub(crate) fn note_direct(&mut self, outcome: Result<usize, Errno>) -> Result<usize, Errno> {
        match outcome {
            Ok(0) => self.ended(),
            Err(errno) if errno != Errno::AGAIN => self.recv.end = Some(End::Failed(errno)),
            _ => return outcome,
        }
        match self.recv.end {
            Some(End::Failed(errno)) => Err(errno),
            _ => outcome,
        }
    }

    /// Records that an awaited readiness came and wakes who waits for it.
    pub(crate) fn report(&mut self, interest: Interest) {
        *self.watch(interest) = Watch::Ready;
        match interest {
            Interest::Readable => self.recv.wake(),
            Interest::Writable => self.send.wake(),
            Interest::HungUp => {
                if let Some(waker) = self.rare().hung_up_waker.take() {
                    waker.wake();
                }
            }
        }
    }
}

pub(crate) const SLOT_BYTES: usize = size_of::<Socket>();

/// The slots of one worker.
#[derive(Default)]
pub(crate) struct Sockets {
    slots: Pages<Socket>,
    /// What a slot that is made anew begins with: past all that slots before it had.
    first_generation: u32,
}

/// Generations are cut to what a completion's tag holds.
pub(crate) const GENERATION_MASK: u32 = (1 << 24) - 1;

impl Sockets {
    pub(crate) fn insert(&mut self, fd: Option<OwnedFd>) -> SocketKey {
        let first_generation = self.first_generation;
        let index = self.slots.take(|| Socket::new(first_generation, None));
        let slot = self.slots.at(index);
        slot.fd = fd;
        SocketKey { index, generation: slot.generation }
    }

    /// The socket that `key` names.
    ///
    /// # Panics
    /// If it is gone: handles and completions never outlive their slot.
    #[inline]
    pub(crate) fn at(&mut self, key: SocketKey) -> &mut Socket {
        let socket = self.slots.at(key.index);
        assert_eq!(socket.generation, key.generation, "a handle outlived its socket");
        socket
    }

    /// The socket that `key` names, unless it is gone.
    pub(crate) fn find(&mut self, key: SocketKey) -> Option<&mut Socket> {
        self.slots.find(key.index).filter(|s| s.generation == key.generation)
    }

    /// Frees a slot; the descriptor, the leases and the wakers in it are dropped by the caller.
    pub(crate) fn remove(&mut self, key: SocketKey) -> Socket {
        let generation = key.generation.wrapping_add(1) & GENERATION_MASK;
        let socket = std::mem::replace(self.at(key), Socket::new(generation, None));
        self.slots.free(key.index);
        socket
    }

    /// Gives back the memory of the pages of slots that nobody uses. Generations keep growing.
    pub(crate) fn shrink(&mut self) {
        let Self { slots, first_generation } = self;
        slots.shrink(|gone| *first_generation = gone.generation.max(*first_generation));
    }

    /// Sockets that are open or closing.
    pub(crate) fn len(&self) -> usize {
        self.slots.len()
    }
}

/// How many slots of a table there are up to the last one that is not free.
pub(crate) fn slots_in_use(count: usize, free: &[u32]) -> usize {
    let mut is_free = vec![false; count];
    for &index in free {
        is_free[index as usize] = true;
    }
    is_free.iter().rposition(|is_free| !is_free).map_or(0, |last| last + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_never_names_a_later_socket_even_after_the_table_shrank() {
        let mut sockets = Sockets::default();
        let first: Vec<_> = (0..1_500).map(|_| sockets.insert(None)).collect();
        for &key in &first {
            drop(sockets.remove(key));
        }
        assert_eq!(sockets.len(), 0);
        sockets.shrink();
        let second: Vec<_> = (0..1_500).map(|_| sockets.insert(None)).collect();
        for &key in &first {
            assert!(sockets.find(key).is_none(), "{key:?} came back to life");
        }
        for &key in &second {
            assert!(sockets.find(key).is_some());
        }
    }

    #[test]
    fn an_end_after_a_broken_send_is_the_break() {
        let mut sockets = Sockets::default();
        let key = sockets.insert(None);
        for (sent, end) in [
            (None, End::Fin),
            (Some(Errno::PIPE), End::Fin),
            (Some(Errno::CONNRESET), End::Failed(Errno::CONNRESET)),
            (Some(Errno::TIMEDOUT), End::Failed(Errno::TIMEDOUT)),
        ] {
            sockets.at(key).send.error = sent;
            sockets.at(key).ended();
            assert_eq!(sockets.at(key).recv.end, Some(end));
        }
    }
}
