//! A direction of a tunnel under limits of its bytes.
//!
//! Before: the tunnel's route has some. After: as of any other direction; it only took longer. Nothing is
//! received ahead: what may not pass yet stays in the source's socket, and the source hears of it from its
//! own kernel.

use std::cell::Cell;
use std::future::poll_fn;
use std::net::Shutdown;
use std::task::Poll;

use lateen_ring::{Instant, Spliced};

use super::{Broke, Relay, of_sink, of_source, splice_some};
use crate::forward::held::{WatchedEnds, allow_tunnel};
use crate::forward::received::Received;
use crate::limits;
use crate::observe::metrics::CloseReason;
use crate::rate_limit::flow::Flow;

/// As [`relay`](super::relay).
pub(super) async fn relay_held(
    way: Relay<'_>,
    flow: &Flow,
    mut received: Received,
    moved_at: &Cell<Instant>,
) -> Result<(), Broke> {
    let Relay { source, sink, passed, .. } = way;
    let mut is_bulk = false;
    let mut yielded_at = passed.get();
    source.stream.set_multishot(false);
    loop {
        if passed.get() - yielded_at >= limits::COPY_BYTES_PER_TURN {
            // A large burst between two ends that are always ready is no reason for others to wait.
            yielded_at = passed.get();
            lateen_ring::yield_now().await;
        }
        if received.is_empty() {
            source.stream.recv_stop().await;
            while let Some(lease) = source.stream.try_recv() {
                source.counts.read_bytes.add(lease.len() as u64);
                received.push(lease);
            }
        }
        let most = if received.is_empty() {
            // Who asks before there is something to pass on takes it from others.
            poll_fn(|cx| source.stream.poll_readable(cx)).await;
            u64::MAX
        } else {
            received.settle();
            received.bytes().len() as u64
        };
        let other_is_over = way.other_is_over;
        let ends = WatchedEnds { source: source.stream, sink: sink.stream, other_is_over };
        let Some(grant) = allow_tunnel(flow, most, passed, way.is_held, ends).await else {
            return Err(match poll_fn(|cx| Poll::Ready(sink.stream.poll_hung_up(cx))).await {
                Poll::Ready(()) => Broke::Sink(CloseReason::ConnectionReset),
                Poll::Pending => Broke::Source(CloseReason::ConnectionReset),
            });
        };
        // However long that took, it was not its ends that were silent.
        moved_at.set(lateen_ring::now());
        sink.stream.flush().await.map_err(of_sink)?;
        if is_bulk && received.is_empty() && grant.bytes() >= limits::SPLICE_BYTES_MIN {
            match splice_piece(way, grant.bytes(), moved_at).await? {
                Piece::Bytes(count) => is_bulk = count >= limits::SPLICE_BYTES_MIN,
                Piece::NoPipe => is_bulk = false,
                Piece::Ended => break,
            }
            continue;
        }
        if received.is_empty() {
            let bytes_max = grant.bytes().min(limits::COPY_BYTES_MAX as u64) as usize;
            let mut buffer = Vec::new();
            let count = source.stream.read(&mut buffer, bytes_max).await.map_err(of_source)?;
            if count == 0 {
                break;
            }
            source.counts.read_bytes.add(count as u64);
            is_bulk = count >= limits::SPLICE_BYTES_MIN as usize;
            received.replace(buffer);
        }
        let count = grant.bytes().min(received.bytes().len() as u64);
        sink.stream.send(received.take(count as usize)).await.map_err(of_sink)?;
        sink.counts.write_bytes.add(count);
        way.metrics.bytes_copied.add(count);
        passed.set(passed.get() + count);
        moved_at.set(lateen_ring::now());
    }
    sink.stream.flush().await.map_err(of_sink)?;
    // The sink may be gone already, which it will tell by itself.
    let _ = sink.stream.shutdown(Shutdown::Write);
    Ok(())
}

enum Piece {
    Bytes(u64),
    /// There is no pipe to be had.
    NoPipe,
    /// The source closed.
    Ended,
}

/// Splices up to `most` bytes of those that are there.
async fn splice_piece(way: Relay<'_>, most: u64, moved_at: &Cell<Instant>) -> Result<Piece, Broke> {
    match splice_some(way, most, moved_at).await {
        (Spliced::Done | Spliced::Paused, given) => Ok(Piece::Bytes(given)),
        (Spliced::NoPipe, _) => Ok(Piece::NoPipe),
        (Spliced::Ended, _) => Ok(Piece::Ended),
        (Spliced::SourceFailed(error), _) => Err(of_source(error)),
        (Spliced::SinkFailed(error), _) => Err(of_sink(error)),
    }
}
