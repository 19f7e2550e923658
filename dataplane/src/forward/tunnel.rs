//! Two streams joined: bytes both ways until both ends have closed, each end passed on as it came.
//!
//! Before: a TCP client and its upstream, or an HTTP exchange that a 101 turned into a tunnel.
//! After: both connections are done. A FIN is passed on as a FIN while the other direction goes on;
//! a reset is passed on as a reset. Short bursts are copied through the receive buffers; a direction
//! that fills several of them in a row takes to splicing, and goes back when its bursts get small,
//! because on small messages splice costs more than the copy (38 k against 29 k instructions).

mod held;

use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::io;
use std::net::Shutdown;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use lateen_ring::{Deadline, Instant, Moved, Relayed, Spliced, Stream, poll_relay, splice};

use crate::client::Connection;
use crate::failure::{Failure, Stage};
use crate::forward::pool::{Upstream, close_upstream};
use crate::forward::received::Received;
use crate::limits;
use crate::observe::metrics::lasted::Lasted;
use crate::observe::metrics::{CloseReason, ConnectionMetrics, WorkerMetrics};
use crate::rate_limit::flow::{Flow, Flows};

/// One end of a tunnel.
#[derive(Debug)]
pub struct End<'a> {
    /// The stream.
    pub stream: &'a Stream,
    /// What is counted of its side.
    pub counts: &'a ConnectionMetrics,
    /// What it had sent already.
    pub received: Received,
}

/// How a tunnel ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TunnelEnd {
    /// Both directions were closed in order.
    Closed,
    /// The client's connection broke.
    ClientBroke(CloseReason),
    /// The upstream's connection broke.
    UpstreamBroke(CloseReason),
    /// Neither side said anything for the idle timeout.
    Idle,
    /// It has lasted as long as it may.
    Lasted,
}

/// How long a tunnel may be what.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Silent.
    pub idle_timeout: Duration,
    /// There, whatever passes; [`Instant::NEVER`]: for ever.
    pub ends: Instant,
}

/// Bytes that passed, client to upstream and back.
#[derive(Clone, Debug, Default)]
pub struct Passed {
    /// Towards the upstream.
    pub up: Cell<u64>,
    /// Towards the client.
    pub down: Cell<u64>,
}

/// Joins `client` and `upstream`.
pub async fn tunnel(
    mut client: End<'_>,
    mut upstream: End<'_>,
    deadline: &Deadline,
    bounds: Bounds,
    metrics: &WorkerMetrics,
    passed: &Passed,
    flows: Option<&Flows>,
) -> TunnelEnd {
    let unfinished = Unfinished { client: client.stream, upstream: upstream.stream };
    let from_client = std::mem::take(&mut client.received);
    let from_upstream = std::mem::take(&mut upstream.received);
    let moved_at = Cell::new(lateen_ring::now());
    let up_flow = flows.and_then(|flows| flows.up.as_ref());
    let down_flow = flows.and_then(|flows| flows.down.as_ref());
    let (up_done, down_done) = (Cell::new(false), Cell::new(false));
    let (up_held, down_held) = (Cell::new(false), Cell::new(false));
    let up = Relay {
        source: &client,
        sink: &upstream,
        metrics,
        passed: &passed.up,
        flow: up_flow,
        other_is_over: &down_done,
        is_held: &up_held,
    };
    let down = Relay {
        source: &upstream,
        sink: &client,
        metrics,
        passed: &passed.down,
        flow: down_flow,
        other_is_over: &up_done,
        is_held: &down_held,
    };
    let mut up = pin!(relay(up, from_client, &moved_at));
    let mut down = pin!(relay(down, from_upstream, &moved_at));
    let mut sent = 0;
    let Bounds { idle_timeout, ends } = bounds;
    deadline.set((moved_at.get() + idle_timeout).min(ends));
    let ended = poll_fn(|cx| {
        if !up_done.get() {
            match up.as_mut().poll(cx) {
                Poll::Ready(Ok(())) => up_done.set(true),
                Poll::Ready(Err(Broke::Source(reason))) => {
                    return Poll::Ready(TunnelEnd::ClientBroke(reason));
                }
                Poll::Ready(Err(Broke::Sink(reason))) => {
                    return Poll::Ready(TunnelEnd::UpstreamBroke(reason));
                }
                Poll::Pending => {}
            }
        }
        if !down_done.get() {
            match down.as_mut().poll(cx) {
                Poll::Ready(Ok(())) => down_done.set(true),
                Poll::Ready(Err(Broke::Source(reason))) => {
                    return Poll::Ready(TunnelEnd::UpstreamBroke(reason));
                }
                Poll::Ready(Err(Broke::Sink(reason))) => {
                    return Poll::Ready(TunnelEnd::ClientBroke(reason));
                }
                Poll::Pending => {}
            }
        }
        if up_done.get() && down_done.get() {
            return Poll::Ready(TunnelEnd::Closed);
        }
        // After its FIN nothing is received from a side that would tell of a reset.
        if up_done.get() && client.stream.poll_hung_up(cx).is_ready() {
            return Poll::Ready(TunnelEnd::ClientBroke(CloseReason::ConnectionReset));
        }
        if down_done.get() && upstream.stream.poll_hung_up(cx).is_ready() {
            return Poll::Ready(TunnelEnd::UpstreamBroke(CloseReason::ConnectionReset));
        }
        // Not moved for each message, but once it has passed.
        while deadline.poll_past(cx).is_ready() {
            let now = lateen_ring::now();
            if now >= ends {
                return Poll::Ready(TunnelEnd::Lasted);
            }
            if client.stream.is_sending() || upstream.stream.is_sending() {
                // What a slow reader takes of a send wakes nobody.
                let before = sent;
                sent = client.stream.bytes_sent() + upstream.stream.bytes_sent();
                if sent != before {
                    moved_at.set(now);
                }
            }
            if up_held.get() || down_held.get() {
                moved_at.set(now);
            }
            if now >= moved_at.get() + idle_timeout {
                return Poll::Ready(TunnelEnd::Idle);
            }
            deadline.set((moved_at.get() + idle_timeout).min(ends));
        }
        Poll::Pending
    })
    .await;
    std::mem::forget(unfinished);
    ended
}

/// Closes both ends of a tunnel as it ended, and says what to count.
pub async fn end_tunnel(
    connection: &Connection,
    upstream: Upstream,
    ended: TunnelEnd,
) -> Option<Failure> {
    match ended {
        TunnelEnd::Closed => {
            close_upstream(upstream, CloseReason::Orderly);
            None
        }
        TunnelEnd::Idle => {
            connection.closes_for(CloseReason::TimedOut);
            close_upstream(upstream, CloseReason::TimedOut);
            None
        }
        TunnelEnd::Lasted => {
            connection.shard.metrics().lasted[Lasted::Tunnel as usize].increment();
            let ends = [&connection.stream, &upstream.stream];
            Box::pin(see_off(ends, &connection.deadline)).await;
            close_upstream(upstream, CloseReason::Orderly);
            Some(Failure::lasted())
        }
        TunnelEnd::ClientBroke(reason) => {
            connection.closes_for(reason);
            upstream.stream.reset_on_close();
            close_upstream(upstream, CloseReason::Orderly);
            Some(Failure::client_gone(Stage::Tunnel))
        }
        TunnelEnd::UpstreamBroke(reason) => {
            connection.stream.reset_on_close();
            close_upstream(upstream, reason);
            Some(Failure::upstream_reset(Stage::Tunnel, false))
        }
    }
}

/// Closes both ends so that their peers get what is on its way to them: what they still send for a moment is
/// thrown away, since closing over unread bytes is a reset, which overtakes the end.
async fn see_off(ends: [&Stream; 2], deadline: &Deadline) {
    deadline.set_after(limits::DISCARD_TIMEOUT);
    for end in ends {
        if matches!(deadline.guard(end.flush()).await, Ok(Ok(()))) {
            // It may be gone already.
            let _ = end.shutdown(Shutdown::Write);
        }
    }
    let mut left = limits::DISCARD_BYTES_MAX;
    for end in ends {
        while left > 0 {
            match deadline.guard(end.recv()).await {
                Ok(Ok(Some(lease))) => left = left.saturating_sub(lease.len()),
                _ => break,
            }
        }
    }
}

/// Resets both ends of a tunnel whose task is aborted: a FIN would pass for the end of what was sent.
struct Unfinished<'a> {
    client: &'a Stream,
    upstream: &'a Stream,
}

impl Drop for Unfinished<'_> {
    fn drop(&mut self) {
        self.client.reset_on_close();
        self.upstream.reset_on_close();
    }
}

enum Broke {
    Source(CloseReason),
    Sink(CloseReason),
}

/// One direction of a tunnel.
#[derive(Clone, Copy)]
struct Relay<'a> {
    source: &'a End<'a>,
    sink: &'a End<'a>,
    metrics: &'a WorkerMetrics,
    passed: &'a Cell<u64>,
    /// What holds it back, if anything does.
    flow: Option<&'a Flow>,
    /// The other direction has come to its end.
    other_is_over: &'a Cell<bool>,
    /// It waits for its turn, which is not its peers' silence.
    is_held: &'a Cell<bool>,
}

/// Carries one direction until its source closes, and passes the FIN on. Notes in `moved_at` when
/// something was passed.
async fn relay(
    way: Relay<'_>,
    mut received: Received,
    moved_at: &Cell<Instant>,
) -> Result<(), Broke> {
    let Relay { source, sink, metrics, passed, flow, .. } = way;
    if let Some(flow) = flow {
        // Boxed: only a tunnel that is held back pays for it.
        return Box::pin(held::relay_held(way, flow, received, moved_at)).await;
    }
    source.stream.set_multishot(true);
    let copied = |count: usize| {
        sink.counts.write_bytes.add(count as u64);
        metrics.bytes_copied.add(count as u64);
        passed.set(passed.get() + count as u64);
        moved_at.set(lateen_ring::now());
    };
    if !received.is_empty() {
        let count = received.bytes().len();
        sink.stream.send(received.take(count)).await.map_err(of_sink)?;
        copied(count);
    }
    let mut full_reads = 0;
    let mut yielded_at = passed.get();
    loop {
        if passed.get() - yielded_at >= limits::COPY_BYTES_PER_TURN {
            // Where both ends are always ready this would never end, and others wait.
            yielded_at = passed.get();
            lateen_ring::yield_now().await;
        }
        let count = match poll_fn(|cx| poll_relay(source.stream, sink.stream, cx)).await {
            Relayed::Bytes(count) => count,
            Relayed::Ended => break,
            Relayed::SourceFailed(error) => return Err(of_source(error)),
            Relayed::SinkFailed(error) => return Err(of_sink(error)),
        };
        source.counts.read_bytes.add(count as u64);
        copied(count);
        full_reads = if count >= limits::RECEIVE_BUFFER_BYTES { full_reads + 1 } else { 0 };
        if full_reads >= limits::TUNNEL_FULL_READS {
            full_reads = 0;
            let after = relay_by_splice(way, moved_at).await?;
            if after == AfterSplice::Ended {
                break;
            }
        }
    }
    sink.stream.flush().await.map_err(of_sink)?;
    // The sink may be gone already, which it will tell by itself.
    let _ = sink.stream.shutdown(Shutdown::Write);
    Ok(())
}

fn of_source(error: io::Error) -> Broke {
    Broke::Source(CloseReason::of_error(&error))
}

fn of_sink(error: io::Error) -> Broke {
    Broke::Sink(CloseReason::of_error(&error))
}

#[derive(PartialEq, Eq)]
enum AfterSplice {
    /// The source closed.
    Ended,
    /// The bursts have become small, or there is no pipe.
    CopyAgain,
}

async fn relay_by_splice(way: Relay<'_>, moved_at: &Cell<Instant>) -> Result<AfterSplice, Broke> {
    let Relay { source, sink, metrics, passed, .. } = way;
    source.stream.recv_stop().await;
    while let Some(lease) = source.stream.try_recv() {
        let count = lease.len() as u64;
        source.counts.read_bytes.add(count);
        sink.stream.send(lease).await.map_err(of_sink)?;
        sink.counts.write_bytes.add(count);
        metrics.bytes_copied.add(count);
        passed.set(passed.get() + count);
        moved_at.set(lateen_ring::now());
    }
    // A splice goes straight to the socket: it must not overtake what is on its way.
    sink.stream.flush().await.map_err(of_sink)?;
    loop {
        match splice_some(way, limits::TUNNEL_SPLICE_BYTES, moved_at).await {
            (Spliced::Done, _) => {}
            (Spliced::Paused, given) if given >= limits::TUNNEL_BURST_BYTES_MIN => {}
            (Spliced::Paused | Spliced::NoPipe, _) => return Ok(AfterSplice::CopyAgain),
            (Spliced::Ended, _) => return Ok(AfterSplice::Ended),
            (Spliced::SourceFailed(error), _) => return Err(of_source(error)),
            (Spliced::SinkFailed(error), _) => return Err(of_sink(error)),
        }
    }
}

/// Splices up to `most` bytes of those that are there, and counts them: how that ended, and how many the sink
/// has got.
async fn splice_some(way: Relay<'_>, most: u64, moved_at: &Cell<Instant>) -> (Spliced, u64) {
    let Relay { source, sink, metrics, passed, .. } = way;
    let moved = Moved::default();
    let outcome = {
        let mut splicing = pin!(splice(source.stream, sink.stream, most, true, &moved));
        poll_fn(|cx| {
            let before = moved.taken() + moved.given();
            let polled = splicing.as_mut().poll(cx);
            if moved.taken() + moved.given() != before {
                moved_at.set(lateen_ring::now());
            }
            polled
        })
        .await
    };
    source.counts.read_bytes.add(moved.taken());
    sink.counts.write_bytes.add(moved.given());
    metrics.bytes_spliced.add(moved.given());
    passed.set(passed.get() + moved.given());
    (outcome, moved.given())
}

#[cfg(test)]
mod tests;
