//! One thread, one ring: sockets that receive by multishot into leased buffers and send in order.
//!
//! Role: the part that `floor`, `pipe` and `upstream` share, as thin as it can be while it stays
//! correct: a [`Program`] says what a byte means, [`Net`] moves it. Every socket has at most one
//! multishot receive and one send under way; further sends queue behind it.
//!
//! A socket's descriptor is closed only when neither is under way, so a completion never meets a
//! slot that was reused. When the buffers run out, the kernel ends a receive with ENOBUFS; such a
//! socket waits in a queue and is armed again as buffers come back. There is no other back-pressure
//! and there are no timers: one peer that never reads can hold all the buffers. That is fine for a
//! reference on a loopback and for nothing else.

use std::{
    collections::VecDeque,
    io,
    net::{SocketAddr, TcpListener},
    os::fd::{AsRawFd, RawFd},
};

use io_uring::{IoUring, cqueue, opcode, squeue, types::Fd};

use crate::{
    leases::{GROUP, Lease, Leases},
    socket::{KernelAddress, open_stream, shut_down},
};

/// Submissions that one batch may queue; past it they are submitted early.
const SUBMISSIONS: u32 = 2048;

/// Completions that may wait: a burst of accepts beside a receive and a send for every socket.
const COMPLETIONS: u32 = 16_384;

/// A socket's slot; valid until [`Net::close`] was called for it.
pub type SocketId = u32;

/// Why no more bytes come from a socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// The peer sent FIN.
    Finished,
    /// Connect, receive or send failed.
    Failed,
}

/// Bytes on their way out.
#[derive(Debug)]
pub enum Bytes {
    /// Still in the buffer they arrived in.
    Leased(Lease),
    /// Assembled by the program, from this offset on.
    Owned(Vec<u8>, usize),
    /// Prepared once for the life of the process.
    Fixed(&'static [u8]),
}

/// What a reference program does with events. Each call may send, connect and close freely.
pub trait Program {
    /// A client connected.
    fn accepted(&mut self, net: &mut Net, socket: SocketId);
    /// Bytes arrived; the program sends the lease on or gives it back.
    fn received(&mut self, net: &mut Net, socket: SocketId, lease: Lease);
    /// No more bytes will come; the program has to call [`Net::close`] now or later.
    fn ended(&mut self, net: &mut Net, socket: SocketId, ending: Ending);
}

/// The ring, its buffers, and the sockets on it.
pub struct Net {
    ring: IoUring,
    leases: Leases,
    sockets: Vec<Socket>,
    free: Vec<SocketId>,
    starved: VecDeque<SocketId>,
    /// Sockets with an eager send that was queued since the last enter.
    eager: Vec<SocketId>,
    /// Something waits for the end of an eager send: the next enter must not sleep.
    hurried: bool,
    upstream: Option<KernelAddress>,
}

#[derive(Default)]
struct Socket {
    fd: RawFd,
    receiving: bool,
    connecting: bool,
    closing: bool,
    finish_when_sent: bool,
    sending: Option<Bytes>,
    /// The send under way reports only failure: see [`Net::settle_sends`].
    eager: bool,
    queued: VecDeque<Bytes>,
}

/// The upper half of `user_data`; the lower half is the socket.
#[derive(Clone, Copy)]
#[repr(u32)]
enum Operation {
    Accept,
    Receive,
    Send,
    Connect,
    Close,
}

const OPERATIONS: [Operation; 5] =
    [Operation::Accept, Operation::Receive, Operation::Send, Operation::Connect, Operation::Close];

impl Net {
    /// Builds the ring. `upstream` is where [`Net::connect`] goes.
    ///
    /// # Errors
    /// From io_uring_setup(2): a kernel before 6.1, or io_uring forbidden.
    pub fn new(upstream: Option<SocketAddr>) -> io::Result<Self> {
        let mut ring = IoUring::builder()
            .setup_single_issuer()
            .setup_defer_taskrun()
            .setup_submit_all()
            .setup_cqsize(COMPLETIONS)
            .build(SUBMISSIONS)?;
        // One file look-up less per enter; the kernels that lack it are too old for the rest.
        ring.submitter().register_ring_fd()?;
        let leases = Leases::new(&ring)?;
        let upstream = upstream.map(KernelAddress::new).transpose()?;
        ring.completion().sync();
        Ok(Self {
            ring,
            leases,
            sockets: Vec::new(),
            free: Vec::new(),
            starved: VecDeque::new(),
            eager: Vec::new(),
            hurried: false,
            upstream,
        })
    }

    /// Serves `listener` for ever.
    ///
    /// # Errors
    /// Only what makes going on impossible: io_uring_enter(2) or accept(2) failed.
    pub fn run(mut self, listener: &TcpListener, program: &mut impl Program) -> io::Result<()> {
        self.arm_accept(listener.as_raw_fd());
        let mut batch: Vec<cqueue::Entry> = Vec::with_capacity(COMPLETIONS as usize);
        loop {
            self.rearm_starved();
            self.leases.publish();
            // Starved sockets wait for the buffers that eager sends hold.
            let hurried = self.hurried || !self.eager.is_empty() && !self.starved.is_empty();
            self.hurried = false;
            match self.ring.submit_and_wait(usize::from(!hurried)) {
                Err(error) if error.raw_os_error() != Some(libc::EINTR) => return Err(error),
                _ => {}
            }
            // Taken out first, because handling a completion submits more.
            batch.extend(self.ring.completion());
            self.settle_sends(program, &batch);
            for completion in batch.drain(..) {
                self.dispatch(listener.as_raw_fd(), program, &completion)?;
            }
        }
    }

    /// Starts to connect to the upstream. What is sent before that is done goes out after it.
    ///
    /// # Errors
    /// Whatever socket(2) returns; `NotConnected` without an upstream.
    pub fn connect(&mut self) -> io::Result<SocketId> {
        let Some((address, length)) = self.upstream.as_ref().map(KernelAddress::as_raw) else {
            return Err(io::ErrorKind::NotConnected.into());
        };
        let socket = self.adopt(open_stream()?);
        self.sockets[socket as usize].connecting = true;
        let fd = Fd(self.sockets[socket as usize].fd);
        self.submit(opcode::Connect::new(fd, address, length).build(), Operation::Connect, socket);
        Ok(socket)
    }

    /// The bytes of a lease, to be parsed or moved in place.
    pub fn bytes(&mut self, lease: &Lease) -> &mut [u8] {
        self.leases.bytes(lease)
    }

    /// Gives back a lease that is not sent on.
    pub fn give_back(&mut self, lease: Lease) {
        self.leases.give_back(lease);
    }

    /// Sends after everything that was sent before. A closing socket swallows the bytes.
    pub fn send(&mut self, socket: SocketId, bytes: Bytes) {
        let slot = &mut self.sockets[socket as usize];
        if slot.closing {
            self.release(bytes);
        } else if slot.connecting || slot.sending.is_some() {
            slot.queued.push_back(bytes);
            self.hurried |= slot.eager;
        } else {
            self.start_send(socket, bytes);
        }
    }

    /// Sends FIN once everything queued is out; the peer's FIN still arrives as an ending.
    pub fn finish(&mut self, socket: SocketId) {
        let slot = &mut self.sockets[socket as usize];
        if slot.connecting || slot.sending.is_some() {
            slot.finish_when_sent = true;
            self.hurried |= slot.eager;
        } else {
            shut_down(slot.fd, libc::SHUT_WR);
        }
    }

    /// Drops what is queued and closes. No event of this socket follows.
    pub fn close(&mut self, socket: SocketId) {
        let slot = &mut self.sockets[socket as usize];
        if slot.closing {
            return;
        }
        slot.closing = true;
        self.hurried |= slot.eager;
        if slot.receiving || slot.connecting || slot.sending.is_some() {
            // close(2) beside an armed receive would send no FIN: the operation holds the file.
            shut_down(slot.fd, libc::SHUT_RDWR);
        }
        for bytes in std::mem::take(&mut slot.queued) {
            self.release(bytes);
        }
        self.close_when_quiet(socket);
    }

    /// Ends the sends that this enter completed.
    ///
    /// A first attempt is eager: it may not wait and posts no completion when it sent everything, so
    /// it is over, one way or the other, when the enter that submitted it returns. What none of the
    /// completions names went out whole. That saves a completion for each message, and above all the
    /// enter that would return at once because of it, just before the one that sleeps.
    fn settle_sends(&mut self, program: &mut impl Program, batch: &[cqueue::Entry]) {
        // Were the submission cut short, the attempts are not all made: next time, then.
        let eager = if self.ring.submission().is_empty() {
            std::mem::take(&mut self.eager)
        } else {
            Vec::new()
        };
        for completion in batch {
            if completion.user_data() >> 32 == Operation::Send as u64 {
                self.on_send(program, completion.user_data() as u32, completion.result());
            }
        }
        for &socket in &eager {
            let slot = &mut self.sockets[socket as usize];
            if let (true, Some(bytes)) = (slot.eager, &slot.sending) {
                let length = bytes.len() as i32;
                self.on_send(program, socket, length);
            }
        }
        // The memory of the list is used again when nothing was queued meanwhile.
        if self.eager.is_empty() {
            self.eager = eager;
            self.eager.clear();
        }
    }

    fn dispatch(
        &mut self,
        listener: RawFd,
        program: &mut impl Program,
        completion: &cqueue::Entry,
    ) -> io::Result<()> {
        let socket = completion.user_data() as u32;
        match OPERATIONS[(completion.user_data() >> 32) as usize] {
            Operation::Receive => self.on_receive(program, socket, completion),
            Operation::Accept => self.on_accept(listener, program, completion)?,
            Operation::Connect => self.on_connect(program, socket, completion.result()),
            // Sends are settled before anything else; a close reports only failure.
            Operation::Send | Operation::Close => {}
        }
        Ok(())
    }

    fn on_accept(
        &mut self,
        listener: RawFd,
        program: &mut impl Program,
        completion: &cqueue::Entry,
    ) -> io::Result<()> {
        if !cqueue::more(completion.flags()) {
            self.arm_accept(listener);
        }
        match completion.result() {
            fd if fd >= 0 => {
                let socket = self.adopt(fd);
                self.arm_receive(socket);
                program.accepted(self, socket);
            }
            // The client was gone before it was accepted.
            errno if -errno == libc::ECONNABORTED => {}
            errno => return Err(io::Error::from_raw_os_error(-errno)),
        }
        Ok(())
    }

    fn on_receive(
        &mut self,
        program: &mut impl Program,
        socket: SocketId,
        completion: &cqueue::Entry,
    ) {
        let result = completion.result();
        let lease = cqueue::buffer_select(completion.flags())
            .map(|id| self.leases.lease(id, result.max(0) as u32));
        let more = cqueue::more(completion.flags());
        let slot = &mut self.sockets[socket as usize];
        slot.receiving = more;
        if slot.closing {
            if let Some(lease) = lease {
                self.leases.give_back(lease);
            }
            self.close_when_quiet(socket);
            return;
        }
        match (result, lease) {
            (1.., Some(lease)) => {
                if !more {
                    self.arm_receive(socket);
                }
                program.received(self, socket, lease);
            }
            (result, lease) => {
                if let Some(lease) = lease {
                    self.leases.give_back(lease);
                }
                match -result {
                    libc::ENOBUFS => self.starved.push_back(socket),
                    0 => program.ended(self, socket, Ending::Finished),
                    _ => program.ended(self, socket, Ending::Failed),
                }
            }
        }
    }

    fn on_send(&mut self, program: &mut impl Program, socket: SocketId, result: i32) {
        let slot = &mut self.sockets[socket as usize];
        let Some(mut bytes) = slot.sending.take() else { return };
        // The socket buffer was full at once: the second attempt waits for room.
        let full = std::mem::take(&mut slot.eager) && result == -libc::EAGAIN;
        let result = if full { 0 } else { result };
        if slot.closing {
            self.release(bytes);
            self.close_when_quiet(socket);
        } else if result < 0 {
            self.release(bytes);
            program.ended(self, socket, Ending::Failed);
        } else if bytes.advance(result as usize) {
            self.submit_send(socket, bytes, false);
        } else {
            let next = slot.queued.pop_front();
            let finish = slot.finish_when_sent && next.is_none();
            let fd = slot.fd;
            self.release(bytes);
            if let Some(next) = next {
                self.start_send(socket, next);
            } else if finish {
                shut_down(fd, libc::SHUT_WR);
            }
        }
    }

    fn on_connect(&mut self, program: &mut impl Program, socket: SocketId, result: i32) {
        let slot = &mut self.sockets[socket as usize];
        slot.connecting = false;
        if slot.closing {
            self.close_when_quiet(socket);
        } else if result < 0 {
            program.ended(self, socket, Ending::Failed);
        } else {
            let finish = slot.finish_when_sent && slot.queued.is_empty();
            let (fd, next) = (slot.fd, slot.queued.pop_front());
            self.arm_receive(socket);
            if let Some(next) = next {
                self.start_send(socket, next);
            } else if finish {
                shut_down(fd, libc::SHUT_WR);
            }
        }
    }

    fn start_send(&mut self, socket: SocketId, bytes: Bytes) {
        self.eager.push(socket);
        let slot = &self.sockets[socket as usize];
        self.hurried |= slot.finish_when_sent || !slot.queued.is_empty();
        self.submit_send(socket, bytes, true);
    }

    fn submit_send(&mut self, socket: SocketId, mut bytes: Bytes, eager: bool) {
        let (pointer, length) = match &mut bytes {
            Bytes::Leased(lease) => {
                let slice = self.leases.bytes(lease);
                (slice.as_ptr(), slice.len())
            }
            Bytes::Owned(vector, start) => (vector[*start..].as_ptr(), vector.len() - *start),
            Bytes::Fixed(slice) => (slice.as_ptr(), slice.len()),
        };
        let slot = &mut self.sockets[socket as usize];
        // The kernel reads these bytes until the completion: the slot holds them until then, and
        // moving a Vec into the slot does not move its heap memory.
        slot.sending = Some(bytes);
        slot.eager = eager;
        let flags = libc::MSG_WAITALL | libc::MSG_NOSIGNAL;
        let send = opcode::Send::new(Fd(slot.fd), pointer, length as u32);
        let entry = if eager {
            let skip = squeue::Flags::SKIP_SUCCESS;
            send.flags(flags | libc::MSG_DONTWAIT).build().flags(skip)
        } else {
            send.flags(flags).build()
        };
        self.submit(entry, Operation::Send, socket);
    }

    fn arm_accept(&mut self, listener: RawFd) {
        let entry = opcode::AcceptMulti::new(Fd(listener))
            .flags(libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK)
            .build();
        self.submit(entry, Operation::Accept, 0);
    }

    fn arm_receive(&mut self, socket: SocketId) {
        let slot = &mut self.sockets[socket as usize];
        slot.receiving = true;
        let entry = opcode::RecvMulti::new(Fd(slot.fd), GROUP).build();
        self.submit(entry, Operation::Receive, socket);
    }

    fn rearm_starved(&mut self) {
        let count = self.starved.len().min(usize::from(self.leases.published()));
        for _ in 0..count {
            let Some(socket) = self.starved.pop_front() else { return };
            if self.sockets[socket as usize].closing {
                self.close_when_quiet(socket);
            } else {
                self.arm_receive(socket);
            }
        }
    }

    fn submit(&mut self, entry: squeue::Entry, operation: Operation, socket: SocketId) {
        let entry = entry.user_data(u64::from(operation as u32) << 32 | u64::from(socket));
        loop {
            // SAFETY: buffers and addresses that the entry points at live until its completion:
            // `Socket::sending` and `Net::upstream` hold them, and the leases are never unmapped.
            if unsafe { self.ring.submission().push(&entry) }.is_ok() {
                return;
            }
            // Full: a failure here shows again, and is reported, in the loop's own enter.
            let _ = self.ring.submit();
        }
    }

    fn adopt(&mut self, fd: RawFd) -> SocketId {
        let socket = Socket { fd, ..Socket::default() };
        if let Some(id) = self.free.pop() {
            self.sockets[id as usize] = socket;
            return id;
        }
        self.sockets.push(socket);
        (self.sockets.len() - 1) as SocketId
    }

    fn close_when_quiet(&mut self, socket: SocketId) {
        let slot = &self.sockets[socket as usize];
        if slot.receiving
            || slot.connecting
            || slot.sending.is_some()
            || self.starved.contains(&socket)
        {
            return;
        }
        let entry = opcode::Close::new(Fd(slot.fd)).build().flags(squeue::Flags::SKIP_SUCCESS);
        self.submit(entry, Operation::Close, socket);
        self.free.push(socket);
    }

    fn release(&mut self, bytes: Bytes) {
        if let Bytes::Leased(lease) = bytes {
            self.leases.give_back(lease);
        }
    }
}

impl Bytes {
    fn len(&self) -> usize {
        match self {
            Self::Leased(lease) => (lease.end - lease.start) as usize,
            Self::Owned(vector, start) => vector.len() - start,
            Self::Fixed(slice) => slice.len(),
        }
    }

    /// Drops `count` bytes from the front; whether any are left.
    fn advance(&mut self, count: usize) -> bool {
        match self {
            Self::Leased(lease) => {
                lease.start += count as u32;
                lease.start < lease.end
            }
            Self::Owned(vector, start) => {
                *start += count;
                *start < vector.len()
            }
            Self::Fixed(slice) => {
                *slice = &slice[count..];
                !slice.is_empty()
            }
        }
    }
}
