//! The io_uring engine: one ring per worker, created and entered on the worker alone.
//!
//! A completion's tag holds the kind of operation, the socket's slot and the slot's generation. A
//! slot is freed only when the kernel owes it nothing, so that whatever a completion names exists,
//! and memory that the kernel reads or writes (a send's chunks, a connect's address, published
//! buffers) lives until the completion that gives it back.
#![expect(unsafe_code, reason = "submission entries hand raw pointers to the kernel")]

use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use io_uring::squeue::Entry;
use io_uring::types::{Fd, SubmitArgs, Timespec};
use io_uring::{IoUring, cqueue, opcode};
use rustix::io::Errno;
use socket2::SockAddr;

use crate::engine::uring::probe::Probe;
use crate::engine::uring::setup::{BUFFER_GROUP, publish_buffers, set_up};
use crate::engine::uring::tag::{Kind, key_of, tag};
use crate::engine::{Counts, Io, Wait, add, direct};
use crate::features::{Feature, Features};
use crate::socket::{
    End, Interest, READY_ACCEPTS_MAX, READY_LEASES_MAX, RecvState, SocketKey, Watch,
};

/// Waits for readiness before the first attempt (`IORING_RECVSEND_POLL_FIRST`, Linux 5.19): for
/// receives that are armed when nothing can have arrived yet.
const POLL_FIRST: u16 = 1;

mod probe;
mod sending;
mod setup;
mod tag;

pub(crate) struct Uring {
    ring: IoUring,
    features: Features,
    /// Another thread called; see `Engine::take_called`.
    pub(crate) called: bool,
    /// The eventfd that others call through, and the word that its read fills. `Some` while the
    /// kernel holds the word.
    eventfd: OwnedFd,
    call: Box<u64>,
    /// Completions of one turn, copied out so that handling one may submit.
    finished: Vec<(u64, i32, u32)>,
    /// Sends that report only failure, since the last enter that made all of them; see `sending`.
    quiet: Vec<SocketKey>,
    /// The last enter did not make all of them.
    unsettled: bool,
    /// A receive of this turn found no buffer.
    ran_dry: bool,
    probe: Probe,
}

impl Uring {
    /// Sets up a ring with as many of `wanted` as the kernel has.
    ///
    /// # Errors
    /// What `io_uring_setup(2)` answers: EPERM or ENOSYS where io_uring is switched off or filtered,
    /// ENOMEM where the locked-memory limit is too low (kernels before 5.12).
    pub(crate) fn new(io: &Io, eventfd: OwnedFd, wanted: Features) -> Result<Self, Errno> {
        let (ring, mut features) = set_up(wanted)?;
        if !ring.params().is_feature_skip_cqe_on_success() {
            features = features.without(Feature::QuietSend);
        }
        if !ring.params().is_feature_ext_arg() || !ring.params().is_feature_nodrop() {
            return Err(Errno::NOSYS);
        }
        if features.has(Feature::RegisteredRing) && ring.submitter().register_ring_fd().is_err() {
            features = features.without(Feature::RegisteredRing);
        }
        if features.has(Feature::BufferRing) && !publish_buffers(&ring, io) {
            // Multishot accept came with the same kernel.
            features = features.without(Feature::BufferRing).without(Feature::MultishotAccept);
        }
        if !features.has(Feature::BufferRing) {
            // Multishot receives take provided buffers.
            features = features.without(Feature::MultishotRecv);
        }
        let mut uring = Self {
            ring,
            features,
            called: false,
            eventfd,
            call: Box::new(0),
            finished: Vec::new(),
            quiet: Vec::new(),
            unsettled: false,
            ran_dry: false,
            probe: Probe::default(),
        };
        uring.await_call();
        Ok(uring)
    }

    pub(crate) fn features(&self) -> Features {
        self.features
    }

    /// Gives back what a burst of completions took.
    pub(crate) fn shrink(&mut self) {
        self.finished.shrink_to_fit();
        self.quiet.shrink_to_fit();
    }

    /// May published buffers be taken back now? Only if the kernel picks them inside
    /// `io_uring_enter` alone, and every buffer that it picked has been seen: a submission in the
    /// midst of a turn, or an overflow, leaves completions that name buffers still counted as
    /// published.
    pub(crate) fn may_unpublish(&mut self) -> bool {
        self.features.has(Feature::DeferTaskrun)
            && self.finished.is_empty()
            && self.ring.completion().is_empty()
            && !self.ring.submission().cq_overflow()
    }

    #[inline]
    fn push(&mut self, entry: &Entry) {
        if !self.offer(entry) {
            self.push_to_full(entry);
        }
    }

    #[inline]
    fn offer(&mut self, entry: &Entry) -> bool {
        // SAFETY: every pointer in an entry made in this file leads to memory that stays in place
        // until the entry's completion: a static, a boxed `Sending` or `SockAddr` kept in a slot that is not
        // freed while an operation is in flight, the boxed word of `call`, or a buffer published to
        // the ring. Tear-down drains or leaks them (see `Drop`).
        unsafe { self.ring.submission().push(entry) }.is_ok()
    }

    #[cold]
    fn push_to_full(&mut self, entry: &Entry) {
        loop {
            // Hand over what is there. An error (EBUSY, EAGAIN) means that the kernel wants
            // completions reaped first; then the next attempt submits again.
            let _ = self.ring.submit();
            if self.ring.submission().is_full() {
                self.reap();
            }
            if self.offer(entry) {
                return;
            }
        }
    }

    fn start(&mut self, io: &mut Io, key: SocketKey, entry: &Entry) {
        io.sockets.at(key).in_flight += 1;
        self.submit(&io.counts, entry);
    }

    /// Submits an operation that its socket counts as in flight already.
    #[inline]
    fn submit(&mut self, counts: &Counts, entry: &Entry) {
        add(&counts.submitted, 1);
        self.push(entry);
    }

    fn await_call(&mut self) {
        let buffer = (&raw mut *self.call).cast::<u8>();
        let entry = opcode::Read::new(Fd(self.eventfd.as_raw_fd()), buffer, 8)
            .build()
            .user_data((Kind::Called as u64) << 56);
        self.push(&entry);
    }

    pub(crate) fn recv(&mut self, io: &mut Io, key: SocketKey, multishot: bool) {
        if !self.features.has(Feature::BufferRing) {
            let socket = io.sockets.at(key);
            socket.recv.state = RecvState::Armed { multishot: false };
            // A direct read that was given up may have left its poll behind: it serves as well. A
            // second one would have the same tag, and a cancel would end only one of them.
            if socket.readable != Watch::Armed {
                socket.readable = Watch::Idle;
                self.watch(io, key, Interest::Readable);
            }
            return;
        }
        let multishot = multishot && self.features.has(Feature::MultishotRecv);
        let socket = io.sockets.at(key);
        debug_assert!(matches!(socket.recv.state, RecvState::Idle | RecvState::Starved));
        socket.recv.state = RecvState::Armed { multishot };
        socket.in_flight += 1;
        let fd = Fd(socket.fd().as_raw_fd());
        let entry = if multishot {
            opcode::RecvMulti::new(fd, BUFFER_GROUP).build()
        } else {
            opcode::Recv::new(fd, std::ptr::null_mut(), 0)
                .buf_group(BUFFER_GROUP)
                .ioprio(POLL_FIRST)
                .build()
                .flags(io_uring::squeue::Flags::BUFFER_SELECT)
        };
        self.submit(&io.counts, &entry.user_data(tag(Kind::Recv, key)));
    }

    pub(crate) fn recv_stop(&mut self, io: &mut Io, key: SocketKey) {
        let socket = io.sockets.at(key);
        match socket.recv.state {
            RecvState::Armed { .. } => {
                socket.recv.state = RecvState::Stopping;
                let kind = if self.features.has(Feature::BufferRing) {
                    Kind::Recv
                } else {
                    Kind::Readable
                };
                self.cancel(io, key, kind);
            }
            RecvState::Starved => socket.recv.state = RecvState::Idle,
            RecvState::Idle | RecvState::Stopping => {}
        }
    }

    fn cancel(&mut self, io: &mut Io, key: SocketKey, kind: Kind) {
        let entry = opcode::AsyncCancel::new(tag(kind, key)).build();
        self.start(io, key, &entry.user_data(tag(Kind::Cancel, key)));
    }

    pub(crate) fn connect(&mut self, io: &mut Io, key: SocketKey) {
        let socket = io.sockets.at(key);
        let fd = Fd(socket.fd().as_raw_fd());
        let connect = socket.connect().expect("the caller described the connect");
        let address: &SockAddr = &connect.address;
        let entry = opcode::Connect::new(fd, address.as_ptr().cast(), address.len()).build();
        self.start(io, key, &entry.user_data(tag(Kind::Connect, key)));
    }

    pub(crate) fn accept(&mut self, io: &mut Io, key: SocketKey) {
        const FLAGS: i32 = libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
        let socket = io.sockets.at(key);
        let fd = Fd(socket.fd().as_raw_fd());
        let accept = socket.accept();
        debug_assert!(!accept.armed, "one accept at a time");
        accept.armed = true;
        if !self.features.has(Feature::WaitingAccept) {
            return self.watch(io, key, Interest::Readable);
        }
        let entry = if self.features.has(Feature::MultishotAccept) {
            opcode::AcceptMulti::new(fd).flags(FLAGS).build()
        } else {
            opcode::Accept::new(fd, std::ptr::null_mut(), std::ptr::null_mut()).flags(FLAGS).build()
        };
        self.start(io, key, &entry.user_data(tag(Kind::Accept, key)));
    }

    pub(crate) fn accept_stop(&mut self, io: &mut Io, key: SocketKey) {
        let socket = io.sockets.at(key);
        let polls = socket.readable == Watch::Armed;
        let accept = socket.accept();
        if accept.armed && !accept.stopping {
            accept.stopping = true;
            self.cancel(io, key, if polls { Kind::Readable } else { Kind::Accept });
        }
    }

    pub(crate) fn watch(&mut self, io: &mut Io, key: SocketKey, interest: Interest) {
        let socket = io.sockets.at(key);
        *socket.watch(interest) = Watch::Armed;
        let fd = Fd(socket.fd().as_raw_fd());
        let (kind, events, multi) = match interest {
            Interest::Readable => (Kind::Readable, libc::POLLIN | libc::POLLRDHUP, false),
            Interest::Writable => (Kind::Writable, libc::POLLOUT, false),
            // After a FIN a one-shot poll completes at once with POLLRDHUP and would miss a reset
            // that comes later; a multishot one reports it.
            Interest::HungUp => (Kind::HungUp, libc::POLLHUP | libc::POLLERR, true),
        };
        let entry = opcode::PollAdd::new(fd, events as u32).multi(multi).build();
        self.start(io, key, &entry.user_data(tag(kind, key)));
    }

    pub(crate) fn close(&mut self, io: &mut Io, key: SocketKey) {
        let socket = io.sockets.at(key);
        if socket.in_flight == 0 {
            return finish_close(io, key);
        }
        let mut kinds = [None; 6];
        if matches!(socket.recv.state, RecvState::Armed { .. })
            && self.features.has(Feature::BufferRing)
        {
            kinds[0] = Some(Kind::Recv);
        }
        if socket.readable == Watch::Armed {
            kinds[1] = Some(Kind::Readable);
        }
        if socket.writable == Watch::Armed {
            kinds[2] = Some(Kind::Writable);
        }
        if socket.send.in_flight {
            kinds[3] = Some(Kind::Send);
        }
        if let Some(rare) = &socket.rare {
            if rare.hung_up == Watch::Armed {
                kinds[4] = Some(Kind::HungUp);
            }
            if rare.accept.as_ref().is_some_and(|accept| accept.armed) {
                kinds[5] = Some(Kind::Accept);
            } else if rare.connect.as_ref().is_some_and(|connect| connect.outcome.is_none()) {
                kinds[5] = Some(Kind::Connect);
            }
        }
        for kind in kinds.into_iter().flatten() {
            self.cancel(io, key, kind);
        }
    }

    pub(crate) fn turn(&mut self, io: &mut Io, wait: Wait) -> Result<(), Errno> {
        // Those that are fed may have nothing to receive, while others behind them do: nobody
        // sleeps while sockets starve beside free buffers.
        let hungry = self.feed_starved(io) && !io.starved.is_empty();
        self.probe_line(io);
        add(&io.counts.enters, 1);
        let backlog = hungry || self.unsettled || !self.finished.is_empty();
        let wait = self.wait_for_quiet(io, wait);
        let entered = match wait {
            _ if backlog => self.ring.submit(),
            Wait::No => self.ring.submit(),
            Wait::Forever => self.ring.submit_and_wait(1),
            Wait::AtMost(duration) => {
                let timespec = Timespec::from(duration);
                let args = SubmitArgs::new().timespec(&timespec);
                self.ring.submitter().submit_with_args(1, &args)
            }
        };
        match entered.map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO)) {
            // ETIME: the wait ran out. EINTR: a signal. EBUSY, EAGAIN: the kernel wants completions
            // reaped before it takes more; what was not submitted is submitted next time.
            Ok(_) | Err(Errno::TIME | Errno::INTR | Errno::BUSY | Errno::AGAIN) => {}
            Err(errno) => return Err(errno),
        }
        // Before completions are handled, which may submit more.
        let all_made = self.all_made();
        self.reap();
        let mut finished = std::mem::take(&mut self.finished);
        add(&io.counts.completed, finished.len() as u64);
        if self.has_quiet() {
            // Sends end before anything else is told: what a peer did on account of one must not
            // overtake who waits for its end.
            let is_send = |(tag, ..): &mut (u64, i32, u32)| Kind::from_tag(*tag) == Kind::Send;
            for (tag, result, flags) in finished.extract_if(.., is_send) {
                self.complete(io, tag, result, flags);
            }
            self.settle_quiet(io, all_made);
        }
        for (tag, result, flags) in finished.drain(..) {
            self.complete(io, tag, result, flags);
        }
        if std::mem::take(&mut self.ran_dry) {
            // Once a turn, however many found nothing: a published buffer is memory soon.
            io.pool.grow();
        }
        // Completions that `push` reaped meanwhile, if any, are the next turn's, which won't wait.
        if self.finished.is_empty() {
            self.finished = finished;
        }
        Ok(())
    }

    fn reap(&mut self) {
        for entry in self.ring.completion() {
            self.finished.push((entry.user_data(), entry.result(), entry.flags()));
        }
    }

    /// Arms as many starved receives as there are buffers. True if there were any.
    fn feed_starved(&mut self, io: &mut Io) -> bool {
        if io.starved.is_empty() {
            return false;
        }
        if self.features.has(Feature::BufferRing) && !io.pool.replenish() {
            return false;
        }
        let feed = usize::from(io.pool.available());
        for _ in 0..feed {
            let Some(key) = io.next_starved() else { break };
            self.recv(io, key, false);
        }
        feed > 0
    }

    fn complete(&mut self, io: &mut Io, tag: u64, result: i32, flags: u32) {
        let kind = Kind::from_tag(tag);
        if kind == Kind::Called {
            self.called = true;
            return self.await_call();
        }
        if kind == Kind::Probe {
            return self.probe_returned();
        }
        let key = key_of(tag);
        let more = cqueue::more(flags);
        let outcome =
            if result < 0 { Err(Errno::from_raw_os_error(-result)) } else { Ok(result as usize) };
        if kind == Kind::Recv {
            return self.complete_recv(io, key, outcome, flags);
        }
        let socket = io.sockets.at(key);
        if !more {
            debug_assert!(socket.in_flight > 0, "the kernel answers what was asked");
            socket.in_flight -= 1;
        }
        match kind {
            Kind::Send => self.complete_send(io, key, outcome),
            Kind::Connect => {
                if let Some(connect) = socket.connect() {
                    connect.outcome = Some(outcome.map(|_| ()));
                    if let Some(waker) = connect.waker.take() {
                        waker.wake();
                    }
                }
            }
            Kind::Accept => self.complete_accept(io, key, outcome, more),
            Kind::Readable => self.complete_readable(io, key, outcome),
            Kind::Writable => socket.report(Interest::Writable),
            Kind::HungUp => {
                // The kernel adds POLLRDHUP to every poll: a FIN alone is no hang-up, and the poll
                // goes on. It ends by itself only when it is cancelled or fails.
                let hang_up = (libc::POLLHUP | libc::POLLERR) as usize;
                if !more || outcome.is_ok_and(|events| events & hang_up != 0) {
                    let told = *socket.watch(Interest::HungUp) == Watch::Ready;
                    socket.report(Interest::HungUp);
                    if more && !told {
                        // Told once is enough.
                        self.cancel(io, key, Kind::HungUp);
                    }
                }
            }
            Kind::Cancel | Kind::Recv | Kind::Probe | Kind::Called => {}
        }
        let socket = io.sockets.at(key);
        if socket.closing && socket.in_flight == 0 {
            finish_close(io, key);
        }
    }

    #[inline]
    fn complete_recv(
        &mut self,
        io: &mut Io,
        key: SocketKey,
        outcome: Result<usize, Errno>,
        flags: u32,
    ) {
        let more = cqueue::more(flags);
        let lease =
            cqueue::buffer_select(flags).map(|index| io.pool.consumed(index, outcome.unwrap_or(0)));
        let socket = io.sockets.at(key);
        let stopping = socket.recv.state == RecvState::Stopping;
        if !more {
            debug_assert!(socket.in_flight > 0, "the kernel answers what was asked");
            socket.in_flight -= 1;
            socket.recv.state = RecvState::Idle;
        }
        if socket.closing {
            if socket.in_flight == 0 {
                finish_close(io, key);
            }
            return;
        }
        match outcome {
            Ok(0) => socket.ended(),
            Ok(_) => socket.recv.push(lease.expect("received bytes come in a buffer")),
            Err(Errno::NOBUFS) => {
                add(&io.counts.starved, 1);
                if stopping {
                    socket.recv.wake();
                    return;
                }
                io.starve(key);
                self.ran_dry = true;
                return;
            }
            Err(Errno::CANCELED) => {}
            Err(errno) => socket.recv.end = Some(End::Failed(errno)),
        }
        socket.recv.wake();
        if more && !stopping && socket.recv.ready() >= READY_LEASES_MAX {
            self.recv_stop(io, key);
        }
    }

    /// A socket became readable: for a direct read, or for a receive on a kernel without buffer
    /// rings.
    fn complete_readable(&mut self, io: &mut Io, key: SocketKey, outcome: Result<usize, Errno>) {
        let socket = io.sockets.at(key);
        if socket.rare.as_ref().is_some_and(|rare| rare.accept.is_some()) {
            return self.complete_accept_ready(io, key);
        }
        match socket.recv.state {
            RecvState::Armed { .. } if !self.features.has(Feature::BufferRing) => {
                socket.readable = Watch::Idle;
                socket.recv.state = RecvState::Idle;
                if !socket.closing && direct::receive(io, key) == Err(Errno::AGAIN) {
                    self.recv(io, key, false);
                }
            }
            RecvState::Stopping if !self.features.has(Feature::BufferRing) => {
                socket.readable = Watch::Idle;
                socket.recv.state = RecvState::Idle;
                socket.recv.wake();
            }
            _ if outcome == Err(Errno::CANCELED) => socket.readable = Watch::Idle,
            _ => socket.report(Interest::Readable),
        }
    }

    /// A listener became readable, on a kernel whose accepts don't wait.
    fn complete_accept_ready(&mut self, io: &mut Io, key: SocketKey) {
        let socket = io.sockets.at(key);
        socket.readable = Watch::Idle;
        let closing = socket.closing;
        let accept = socket.accept();
        if closing || std::mem::take(&mut accept.stopping) {
            accept.armed = false;
            return accept.wake();
        }
        direct::accept_ready(io, key);
        if io.sockets.at(key).accept().armed {
            // Whoever came has left again.
            self.watch(io, key, Interest::Readable);
        }
    }

    fn complete_accept(
        &mut self,
        io: &mut Io,
        key: SocketKey,
        outcome: Result<usize, Errno>,
        more: bool,
    ) {
        let accepted = outcome.map(|fd| {
            // SAFETY: a successful accept's result is a descriptor that nobody else owns yet.
            unsafe { OwnedFd::from_raw_fd(fd as i32) }
        });
        let socket = io.sockets.at(key);
        let closing = socket.closing;
        let accept = socket.accept();
        if !more {
            accept.armed = false;
        }
        let stopping = accept.stopping;
        match accepted {
            // A listener that closes resets nobody: its owner empties it first (see `Listener`).
            Ok(fd) => accept.ready.push_back(fd.into()),
            // A client that left before it was accepted is nobody's error.
            Err(Errno::CANCELED | Errno::CONNABORTED | Errno::INTR) => {}
            // The kernel took the listener's O_NONBLOCK for the accept's: from now on by readiness.
            Err(Errno::AGAIN) => self.features = self.features.without(Feature::WaitingAccept),
            Err(errno) => accept.error = Some(errno),
        }
        if !more {
            accept.stopping = false;
        }
        accept.wake();
        let full = accept.ready.len() >= READY_ACCEPTS_MAX;
        if more && full && !stopping && !closing {
            self.accept_stop(io, key);
        }
    }
}

impl Drop for Uring {
    /// Cancels everything and waits for the kernel to let go of our memory. Tasks and handles are
    /// gone by now; what is in flight is the read of the eventfd, and sockets that were closing.
    fn drop(&mut self) {
        let entry = opcode::AsyncCancel2::new(io_uring::types::CancelBuilder::any()).build();
        let entry = entry.user_data((Kind::Cancel as u64) << 56 | u64::from(u32::MAX));
        let by_tag = opcode::AsyncCancel::new((Kind::Called as u64) << 56).build();
        self.push(&entry);
        self.push(&by_tag.user_data((Kind::Cancel as u64) << 56));
        let timespec = Timespec::from(std::time::Duration::from_millis(100));
        let args = SubmitArgs::new().timespec(&timespec);
        for _ in 0..16 {
            let _ = self.ring.submitter().submit_with_args(1, &args);
            let mut released = false;
            for entry in self.ring.completion() {
                released |= Kind::from_tag(entry.user_data()) == Kind::Called;
            }
            if released {
                return;
            }
        }
        // The kernel still holds the word: better to lose eight bytes than to let it write into
        // memory that is somebody else's.
        std::mem::forget(std::mem::take(&mut self.call));
    }
}

/// Closes a drained socket and frees its slot.
fn finish_close(io: &mut Io, key: SocketKey) {
    let mut socket = io.sockets.remove(key);
    if let Some(op) = socket.send.op.take() {
        io.spares.retire(op);
    }
    // Dropping the rest closes the descriptor and returns the leases.
}
