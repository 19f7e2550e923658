//! Small messages from one stream to another: the copying twin of `splice`.

use std::io;
use std::task::{Context, Poll};

use crate::chunk::Chunk;
use crate::socket::RecvState;
use crate::stream::{Stream, poll_sent, set_waker, take_received};

/// What became of a try to pass something on.
#[derive(Debug)]
pub enum Relayed {
    /// So many bytes were taken from the source and are on their way to the sink. More can be asked
    /// for at once.
    Bytes(usize),
    /// The source closed its direction. The last bytes may still be under way.
    Ended,
    /// The source broke.
    SourceFailed(io::Error),
    /// The sink broke.
    SinkFailed(io::Error),
}

/// Passes on what `source` has received: one buffer, without a copy.
///
/// Nobody waits for the end of a send but who has more to send: a message costs one poll. Nothing is
/// taken from the source while the sink is busy, so that no more than one buffer is lent, and what
/// the sink does not take stays in the source's socket. A sink that breaks wakes the task.
pub fn poll_relay(source: &Stream, sink: &Stream, cx: &mut Context<'_>) -> Poll<Relayed> {
    source.core().with(|engine, io| {
        if let Some(errno) = io.sockets.at(sink.key()).send.error {
            return Poll::Ready(Relayed::SinkFailed(errno.into()));
        }
        let mut recv = &mut io.sockets.at(source.key()).recv;
        if !recv.has_news() {
            if recv.state == RecvState::Idle {
                engine.recv(io, source.key(), source.is_multishot());
                recv = &mut io.sockets.at(source.key()).recv;
            }
            if !recv.has_news() {
                set_waker(&mut recv.waker, cx);
                return Poll::Pending;
            }
        }
        if poll_sent(io, sink.key(), cx).is_pending() {
            return Poll::Pending;
        }
        let lease = match take_received(&mut io.sockets.at(source.key()).recv) {
            Some(Ok(Some(lease))) => lease,
            Some(Ok(None)) => return Poll::Ready(Relayed::Ended),
            Some(Err(error)) => return Poll::Ready(Relayed::SourceFailed(error)),
            None => unreachable!("there are news, and the sink has not failed"),
        };
        let count = lease.len();
        engine.send_chunks(io, sink.key(), [Some(Chunk::Lease(lease)), None, None]);
        let send = &mut io.sockets.at(sink.key()).send;
        if let Some(errno) = send.error {
            return Poll::Ready(Relayed::SinkFailed(errno.into()));
        }
        if send.op.is_some() {
            set_waker(&mut send.waker, cx);
        }
        Poll::Ready(Relayed::Bytes(count))
    })
}
