//! Sends on the ring, most of which post no completion.
//!
//! A small send fits its socket's buffer unless the peer has stopped reading. So its first attempt
//! may not wait (MSG_DONTWAIT) and reports only failure (`IOSQE_CQE_SKIP_SUCCESS`, Linux 5.17): it is
//! over, one way or the other, when the enter that submitted it returns, and what no completion names
//! went out whole. That saves a completion for each message, and the enter that would return at
//! once because of it, just before the one that sleeps. A second attempt waits for room and reports.

use std::time::Duration;

use io_uring::squeue::{Entry, Flags};
use io_uring::{opcode, types::Fd};
use rustix::io::Errno;
use rustix::net::SendFlags;

use std::os::fd::AsRawFd as _;

use crate::chunk::Sending;
use crate::engine::uring::tag::{Kind, tag};
use crate::engine::uring::{Uring, finish_close};
use crate::engine::{Io, Wait};
use crate::features::Feature;
use crate::socket::SocketKey;

/// A send of so many bytes fits a socket's buffer unless its peer has stopped reading.
const QUIET_SEND_BYTES_MAX: usize = 4_096;
/// How long an enter may sleep while a task waits for the end of a quiet send: most often something
/// else ends the sleep sooner, and an enter that does not sleep is saved.
const QUIET_WAIT: Duration = Duration::from_millis(1);

impl Uring {
    /// Sends what is to be sent; it is over with the next enter, most often.
    pub(crate) fn send(&mut self, io: &mut Io, key: SocketKey) {
        let send = &mut io.sockets.at(key).send;
        let op = send.op.as_ref().expect("there is something to send");
        send.quiet =
            self.features.has(Feature::QuietSend) && op.bytes_left() <= QUIET_SEND_BYTES_MAX;
        if send.quiet {
            self.quiet.push(key);
        }
        self.submit_send(io, key);
    }

    #[inline]
    fn submit_send(&mut self, io: &mut Io, key: SocketKey) {
        let socket = io.sockets.at(key);
        debug_assert!(!socket.send.in_flight, "one send at a time");
        let fd = Fd(socket.fd().as_raw_fd());
        let flags = socket.send.flags();
        let op = socket.send.op.as_mut().expect("there is something to send");
        let entry = if socket.send.quiet {
            // A part is a failure, which is told.
            let whole = SendFlags::DONTWAIT | SendFlags::from_bits_retain(libc::MSG_WAITALL as u32);
            send_entry(fd, op, flags | whole).flags(Flags::SKIP_SUCCESS)
        } else {
            send_entry(fd, op, flags)
        };
        socket.send.in_flight = true;
        socket.in_flight += 1;
        self.submit(&io.counts, &entry.user_data(tag(Kind::Send, key)));
    }

    /// No long sleep while a task waits for what posts no completion.
    pub(super) fn wait_for_quiet(&self, io: &mut Io, wait: Wait) -> Wait {
        match wait {
            _ if !std::mem::take(&mut io.send_awaited) || self.quiet.is_empty() => wait,
            Wait::No => Wait::No,
            Wait::AtMost(duration) => Wait::AtMost(duration.min(QUIET_WAIT)),
            Wait::Forever => Wait::AtMost(QUIET_WAIT),
        }
    }

    /// Were all submissions made, and can every completion be seen? One that overflowed may be a
    /// failure.
    pub(super) fn all_made(&mut self) -> bool {
        let queue = self.ring.submission();
        queue.is_empty() && !queue.cq_overflow()
    }

    pub(super) fn has_quiet(&self) -> bool {
        !self.quiet.is_empty()
    }

    /// Ends the quiet sends that no completion of this turn named; later if some were not made.
    pub(super) fn settle_quiet(&mut self, io: &mut Io, all_made: bool) {
        self.unsettled = !all_made && !self.quiet.is_empty();
        if self.unsettled {
            return;
        }
        for key in self.quiet.drain(..) {
            let Some(socket) = io.sockets.find(key) else { continue };
            // A completion said how far it came, and it goes on aloud or failed.
            if !std::mem::take(&mut socket.send.quiet) {
                continue;
            }
            socket.in_flight -= 1;
            socket.send.in_flight = false;
            let op = socket.send.op.take().expect("a send is kept until it is over");
            socket.send.bytes_total += op.bytes_left() as u64;
            if socket.send.awaited {
                socket.send.wake();
            }
            if socket.closing && socket.in_flight == 0 {
                finish_close(io, key);
            }
            io.spares.retire(op);
        }
    }

    pub(super) fn complete_send(
        &mut self,
        io: &mut Io,
        key: SocketKey,
        outcome: Result<usize, Errno>,
    ) {
        let socket = io.sockets.at(key);
        socket.send.in_flight = false;
        socket.send.quiet = false;
        let op = socket.send.op.as_mut().expect("a send is kept until it completes");
        match outcome {
            Ok(count) => {
                socket.send.bytes_total += count as u64;
                if !op.advance(count) && !socket.closing {
                    return self.submit_send(io, key);
                }
            }
            Err(Errno::INTR | Errno::AGAIN) if !socket.closing => {
                return self.submit_send(io, key);
            }
            Err(errno) => socket.send.error = Some(errno),
        }
        let op = socket.send.op.take().expect("checked above");
        socket.send.wake();
        io.spares.retire(op);
    }
}

#[inline]
fn send_entry(fd: Fd, op: &mut Sending, flags: SendFlags) -> Entry {
    let flags = flags.bits();
    match op.single() {
        Some(bytes) => {
            let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
            opcode::Send::new(fd, bytes.as_ptr(), length).flags(flags as i32).build()
        }
        None => opcode::SendMsg::new(fd, op.message()).flags(flags).build(),
    }
}
