//! Waiting for bytes without taking any: for who does not know yet how many it may take.

use std::task::{Context, Poll};

use rustix::io::Errno;

use crate::socket::Interest;
use crate::stream::Stream;

impl Stream {
    /// Waits until something can be read, or the stream has ended; takes nothing, and holds nothing
    /// meanwhile. The receive must be stopped and its leases taken.
    pub fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<()> {
        let look = |stream: &Self| {
            stream.core().with(|engine, io| {
                let has_ended = io.sockets.at(stream.key()).recv.end.is_some();
                match has_ended || engine.has_unread(io, stream.key()) {
                    true => Ok(0),
                    false => Err(Errno::AGAIN),
                }
            })
        };
        self.poll_direct(cx, Interest::Readable, look).map(|_| ())
    }
}
