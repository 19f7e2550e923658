//! Zero-copy forwarding: direct, non-blocking `splice(2)` through a large pipe, on readiness.
//!
//! Never IORING_OP_SPLICE: the kernel hands that to a worker thread each time. A pipe is lent for a
//! burst: it is taken when bytes are there and given back when it is empty, so that idle tunnels hold
//! none. An unprivileged user may have 64 pipes of a MiB (`pipe-user-pages-soft`) and then gets small
//! ones, and sidecars share a user; so pipes shrink to 64 KiB and then are refused, upon which the
//! caller copies.

use std::cell::Cell;
use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::task::Poll;

use rustix::io::Errno;
use rustix::pipe::PipeFlags;

use crate::stream::Stream;

/// The pipe size asked for, and the least that is worth splicing through.
pub(crate) const PIPE_BYTES: usize = 1024 * 1024;
const PIPE_BYTES_MIN: usize = 64 * 1024;
/// Empty pipes that a worker keeps for the next burst.
const SPARE_PIPES_MAX: usize = 8;
/// Bytes that one splice moves before other tasks get their turn.
const BYTES_PER_TURN: u64 = 4 * 1024 * 1024;

/// A pipe and what is in it. On the simulation it is a plain queue.
pub(crate) struct Pipe {
    ends: Option<(OwnedFd, OwnedFd)>,
    bytes: usize,
    capacity: usize,
    pub(crate) simulated: VecDeque<u8>,
}

impl Pipe {
    /// Opens a pipe as large as the system allows.
    ///
    /// # Errors
    /// EMFILE and the like; ENOMEM where pipes have become too small to be worth it.
    pub(crate) fn open() -> Result<Self, Errno> {
        let ends = rustix::pipe::pipe_with(PipeFlags::NONBLOCK | PipeFlags::CLOEXEC)?;
        let capacity = match rustix::pipe::fcntl_setpipe_size(&ends.1, PIPE_BYTES) {
            Ok(capacity) => capacity,
            Err(_) => rustix::pipe::fcntl_getpipe_size(&ends.1)?,
        };
        if capacity < PIPE_BYTES_MIN {
            return Err(Errno::NOMEM);
        }
        Ok(Self { ends: Some(ends), bytes: 0, capacity, simulated: VecDeque::new() })
    }

    /// A pipe without a kernel.
    pub(crate) fn simulated(capacity: usize) -> Self {
        Self { ends: None, bytes: 0, capacity, simulated: VecDeque::new() }
    }

    /// The read and the write end.
    pub(crate) fn ends(&self) -> Option<(BorrowedFd<'_>, BorrowedFd<'_>)> {
        self.ends.as_ref().map(|(read, write)| (read.as_fd(), write.as_fd()))
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(crate) fn room(&self) -> usize {
        self.capacity - self.bytes
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.bytes == 0
    }

    pub(crate) fn filled(&mut self, count: usize) {
        self.bytes += count;
    }

    pub(crate) fn drained(&mut self, count: usize) {
        debug_assert!(count <= self.bytes, "a pipe gives what it holds");
        self.bytes -= count;
    }
}

/// The empty pipes of a worker.
#[derive(Default)]
pub(crate) struct Pipes {
    spare: Vec<Pipe>,
}

impl Pipes {
    pub(crate) fn take(&mut self) -> Option<Pipe> {
        self.spare.pop()
    }

    fn keep(&mut self, pipe: Pipe) {
        // One that still holds bytes would leak them into somebody else's stream: it is closed.
        if pipe.is_empty() && pipe.ends.is_some() && self.spare.len() < SPARE_PIPES_MAX {
            self.spare.push(pipe);
        }
    }
}

/// How far a splice has come.
#[derive(Debug, Default)]
pub struct Moved {
    taken: Cell<u64>,
    given: Cell<u64>,
}

impl Moved {
    /// Bytes taken from the source.
    #[must_use]
    pub fn taken(&self) -> u64 {
        self.taken.get()
    }

    /// Bytes given to the sink; the rest of what was taken is in the pipe.
    #[must_use]
    pub fn given(&self) -> u64 {
        self.given.get()
    }
}

/// How a splice ended.
#[derive(Debug)]
pub enum Spliced {
    /// As many bytes as were asked for have moved.
    Done,
    /// The source has nothing more for the moment, and all it had is in the sink.
    Paused,
    /// The source came to its end first.
    Ended,
    /// Reading from the source failed.
    SourceFailed(io::Error),
    /// Writing to the sink failed.
    SinkFailed(io::Error),
    /// There is no pipe to be had; what moved so far is in the sink. Go on by copying.
    NoPipe,
}

/// Moves up to `limit` bytes from `source` to `sink` without copying them, adding to `moved`. With
/// `pauses` it ends as soon as the source has nothing more, though at least once something; else it
/// waits for more. The source's receive must be stopped and its leases taken; nothing may be under
/// way on the sink.
///
/// Dropping the future while it moves bytes loses those that are in the pipe: close both streams.
pub fn splice<'a>(
    source: &'a Stream,
    sink: &'a Stream,
    limit: u64,
    pauses: bool,
    moved: &'a Moved,
) -> impl Future<Output = Spliced> + 'a {
    let mut lent = Lent { stream: source, pipe: None };
    let mut taken: u64 = 0;
    poll_fn(move |cx| {
        let mut in_this_turn = 0;
        loop {
            if let Some(pipe) = lent.pipe.as_mut().filter(|pipe| !pipe.is_empty()) {
                match sink.poll_splice_out(cx, pipe) {
                    Poll::Ready(Ok(count)) => {
                        moved.given.set(moved.given.get() + count as u64);
                        in_this_turn += count as u64;
                        continue;
                    }
                    Poll::Ready(Err(error)) => return Poll::Ready(Spliced::SinkFailed(error)),
                    Poll::Pending => return Poll::Pending,
                }
            }
            if taken == limit {
                return Poll::Ready(Spliced::Done);
            }
            if in_this_turn >= BYTES_PER_TURN {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            let Some(pipe) = lent.take() else {
                sink.push();
                return Poll::Ready(Spliced::NoPipe);
            };
            let wanted = (limit - taken).min(pipe.capacity as u64) as usize;
            match source.poll_splice_in(cx, pipe, wanted) {
                Poll::Ready(Ok(0)) => {
                    sink.push();
                    return Poll::Ready(Spliced::Ended);
                }
                Poll::Ready(Ok(count)) => {
                    taken += count as u64;
                    moved.taken.set(moved.taken.get() + count as u64);
                }
                Poll::Ready(Err(error)) => {
                    sink.push();
                    return Poll::Ready(Spliced::SourceFailed(error));
                }
                Poll::Pending => {
                    lent.give_back();
                    sink.push();
                    if pauses && taken > 0 {
                        return Poll::Ready(Spliced::Paused);
                    }
                    return Poll::Pending;
                }
            }
        }
    })
}

/// A pipe on loan from the source's worker, returned in every case.
struct Lent<'a> {
    stream: &'a Stream,
    pipe: Option<Pipe>,
}

impl Lent<'_> {
    fn take(&mut self) -> Option<&mut Pipe> {
        if self.pipe.is_none() {
            self.pipe =
                self.stream.core().with(|engine, io| engine.lend_pipe(io, self.stream.key()));
        }
        self.pipe.as_mut()
    }

    fn give_back(&mut self) {
        if let Some(pipe) = self.pipe.take() {
            self.stream.core().with(|_, io| io.pipes.keep(pipe));
        }
    }
}

impl Drop for Lent<'_> {
    fn drop(&mut self) {
        self.give_back();
    }
}
