//! Moving bytes from one stream to another, with a bound on how long either side may stall.
//!
//! Before: a head said that a body follows, and its first bytes may have come with it. After: the
//! body is whole on the other side, or the caller knows which side failed. Bodies of known length
//! past a threshold move by splice, all others through one buffer at a time; nothing here holds
//! more than that.

use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use lateen_ring::{
    CHUNKS_MAX, Chunk, Deadline, Elapsed, Instant, Lease, Moved, Spliced, Started, Stream, splice,
};

use crate::codec::body::{BodyEncoding, BodyError, BodyProgress};
use crate::forward::held::{Held, allow};
use crate::forward::received::Received;
use crate::limits;
use crate::observe::metrics::{CloseReason, ConnectionMetrics, WorkerMetrics};
use crate::plant::{self, Plant};

/// Why a stream can't go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stopped {
    /// It made no progress in time.
    TimedOut,
    /// Its peer is gone.
    Broken(CloseReason),
}

impl From<io::Error> for Stopped {
    fn from(error: io::Error) -> Self {
        Self::Broken(CloseReason::of_error(&error))
    }
}

impl From<Elapsed> for Stopped {
    fn from(_: Elapsed) -> Self {
        Self::TimedOut
    }
}

/// A deadline for one wait after another, none of which may last beyond `until`.
#[derive(Clone, Copy, Debug)]
pub struct Timer<'a> {
    /// The wheel's entry.
    pub deadline: &'a Deadline,
    /// The end of the whole; [`Instant::NEVER`] if there is none.
    pub until: Instant,
}

impl Timer<'_> {
    /// Waits for `future`, for at most `limit`.
    ///
    /// # Errors
    /// [`Elapsed`]; the future has been dropped.
    pub async fn within<F: Future>(
        &self,
        limit: Duration,
        future: F,
    ) -> Result<F::Output, Elapsed> {
        self.set(limit);
        self.deadline.guard(future).await
    }

    /// Moves the deadline to `limit` from now, or to the end of the whole if that is sooner.
    #[inline]
    pub fn set(&self, limit: Duration) {
        self.deadline.set((lateen_ring::now() + limit).min(self.until));
    }
}

/// Receives once; `None` is the end of the stream.
///
/// # Errors
/// [`Stopped`] after `limit` without a byte, or when the peer is gone.
pub async fn receive(
    stream: &Stream,
    counts: &ConnectionMetrics,
    timer: Timer<'_>,
    limit: Duration,
) -> Result<Option<Lease>, Stopped> {
    let lease = timer.within(limit, stream.recv()).await??;
    if let Some(lease) = &lease {
        counts.read_bytes.add(lease.len() as u64);
    }
    Ok(lease)
}

/// Sends all chunks and waits until the kernel has taken them.
///
/// # Errors
/// [`Stopped`] when the peer takes nothing for `limit`, or is gone.
pub async fn send(
    stream: &Stream,
    counts: &ConnectionMetrics,
    timer: Timer<'_>,
    limit: Duration,
    chunks: [Option<Chunk>; CHUNKS_MAX],
) -> Result<(), Stopped> {
    if stream.is_sending() {
        flush(stream, stream.bytes_sent(), timer, limit).await?;
    }
    let started = stream.start_send(chunks);
    finish_send(stream, counts, timer, limit, started).await
}

/// Waits until the kernel has taken the rest of what was just `started`, and counts all of it.
///
/// # Errors
/// As [`send`].
pub async fn finish_send(
    stream: &Stream,
    counts: &ConnectionMetrics,
    timer: Timer<'_>,
    limit: Duration,
    started: Started,
) -> Result<(), Stopped> {
    counts.write_bytes.add(started.bytes);
    if started.done {
        return Ok(());
    }
    let sent = flush(stream, started.bytes_total, timer, limit).await;
    counts.write_bytes.add(stream.bytes_sent() - started.bytes_total);
    sent
}

/// Waits until the kernel has taken everything, as long as it takes something within each `limit`.
/// It has taken `before` bytes of the stream so far.
fn flush<'a>(
    stream: &'a Stream,
    mut before: u64,
    timer: Timer<'a>,
    limit: Duration,
) -> impl Future<Output = Result<(), Stopped>> + 'a {
    timer.set(limit);
    poll_fn(move |cx| {
        loop {
            if let Poll::Ready(flushed) = stream.poll_flush(cx) {
                return Poll::Ready(flushed.map_err(Stopped::from));
            }
            if timer.deadline.poll_past(cx).is_pending() {
                return Poll::Pending;
            }
            let sent = stream.bytes_sent();
            if sent == before || lateen_ring::now() >= timer.until {
                return Poll::Ready(Err(Stopped::TimedOut));
            }
            before = sent;
            timer.set(limit);
        }
    })
}

/// One chunk to send.
pub fn one(chunk: impl Into<Chunk>) -> [Option<Chunk>; CHUNKS_MAX] {
    [Some(chunk.into()), None, None]
}

/// One direction of a message's way: where its bytes come from, where they go, and how long either
/// side may do nothing.
#[derive(Clone, Copy, Debug)]
pub struct Way<'a> {
    /// Where bytes come from.
    pub source: &'a Stream,
    /// What is counted of the source's side.
    pub source_counts: &'a ConnectionMetrics,
    /// Where they go.
    pub sink: &'a Stream,
    /// What is counted of the sink's side.
    pub sink_counts: &'a ConnectionMetrics,
    /// The worker's counters.
    pub metrics: &'a WorkerMetrics,
    /// Who watches the clock.
    pub timer: Timer<'a>,
    /// How long the source may send nothing.
    pub read_limit: Duration,
    /// How long the sink may take nothing.
    pub write_limit: Duration,
    /// What was spliced, also by a transfer that is given up in the middle.
    pub moved: &'a Moved,
    /// How fast it may go, where it is held back.
    pub held: Option<Held<'a>>,
}

/// Why a body did not arrive whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyStop {
    /// The source stopped.
    Source(Stopped),
    /// The source's bytes are no body, or it ended too early.
    Invalid(BodyError),
    /// It is longer than allowed.
    TooLong,
    /// The sink stopped.
    Sink(Stopped),
    /// The time for the whole was over while the proxy held it back: by neither side's fault.
    Held,
}

/// Moves the rest of a body. `received` holds what has come of it already, and afterwards what came
/// behind it; `passed` counts body bytes without framing.
///
/// # Errors
/// [`BodyStop`]: which side is to blame.
pub async fn transfer_body(
    way: &Way<'_>,
    received: &mut Received,
    body: &mut BodyProgress,
    encoding: BodyEncoding,
    passed: &Cell<u64>,
    bytes_max: u64,
) -> Result<(), BodyStop> {
    let mut may_splice = encoding == BodyEncoding::Plain;
    let mut yielded_at = passed.get();
    let mut allowed = None;
    loop {
        if passed.get() - yielded_at >= limits::COPY_BYTES_PER_TURN {
            // Where both sides are always ready this would never end, and others wait.
            yielded_at = passed.get();
            lateen_ring::yield_now().await;
        }
        if let (Some(held), None, false) = (&way.held, &allowed, body.is_done()) {
            allowed = Some(allow(way, held, received, body.remaining(), passed).await?);
        }
        let slice = allowed.as_ref().map_or(u64::MAX, |allowed| allowed.bytes);
        if !received.is_empty() {
            way.sink.push();
            let before = passed.get();
            let chunk = next_chunk(received, body, encoding, passed, slice)?;
            way.metrics.bytes_copied.add(passed.get() - before);
            if passed.get() > bytes_max {
                return Err(BodyStop::TooLong);
            }
            if let Some(chunk) = chunk {
                send(way.sink, way.sink_counts, way.timer, way.write_limit, one(chunk))
                    .await
                    .map_err(BodyStop::Sink)?;
            }
        }
        if body.is_done() {
            return Ok(());
        }
        if allowed.as_ref().is_some_and(|allowed| allowed.is_used(passed)) {
            allowed = None;
            continue;
        }
        gather(way, received).await;
        if !received.is_empty() {
            continue;
        }
        match body.remaining() {
            Some(left) if may_splice && is_worth_splicing(left.min(slice)) => {
                let (spliced, had_pipe) = splice_body(way, left.min(slice), passed).await?;
                body.take_plain(spliced);
                // If no pipe is to be had: copy the rest, and don't ask for one again.
                may_splice = had_pipe;
                allowed = None;
            }
            left => {
                way.sink.push();
                let most = left.unwrap_or(u64::MAX).min(slice);
                let more = read_more(way, received, most).await?;
                if !more {
                    let mut out = lateen_ring::spare_vector();
                    body.end_of_stream(&mut out, encoding).map_err(BodyStop::Invalid)?;
                    return send(way.sink, way.sink_counts, way.timer, way.write_limit, one(out))
                        .await
                        .map_err(BodyStop::Sink);
                }
            }
        }
    }
}

/// Whether so much of a body moves by splice, if it is passed on as it comes.
pub fn is_worth_splicing(left: u64) -> bool {
    left >= limits::SPLICE_BYTES_MIN
}

/// Takes what a receive has brought, and has none go on: what follows is read in larger pieces, or not at
/// all, and nothing may read ahead.
pub(super) async fn gather(way: &Way<'_>, received: &mut Received) {
    if way.source.is_receiving() {
        way.source.recv_stop().await;
    }
    while let Some(lease) = way.source.try_recv() {
        way.source_counts.read_bytes.add(lease.len() as u64);
        received.push(lease);
    }
}

/// What of `received` goes to the sink next, if anything; made of at most so many bytes.
fn next_chunk(
    received: &mut Received,
    body: &mut BodyProgress,
    encoding: BodyEncoding,
    passed: &Cell<u64>,
    bytes_max: u64,
) -> Result<Option<Chunk>, BodyStop> {
    let here = (received.bytes().len() as u64).min(bytes_max);
    if encoding == BodyEncoding::Plain
        && let Some(count) = body.take_plain(here)
    {
        passed.set(passed.get() + count);
        return Ok((count > 0).then(|| received.take(count as usize)));
    }
    let mut out = lateen_ring::spare_vector();
    let bytes = &received.bytes()[..here as usize];
    let progress = body.transcode(bytes, &mut out, encoding).map_err(BodyStop::Invalid)?;
    received.consume(progress.consumed);
    passed.set(passed.get() + progress.body_bytes as u64);
    if out.is_empty() {
        lateen_ring::keep_vector(out);
        return Ok(None);
    }
    Ok(Some(Chunk::Vector(out)))
}

/// Reads once, directly and in bulk. False at the end of the stream.
async fn read_more(way: &Way<'_>, received: &mut Received, left: u64) -> Result<bool, BodyStop> {
    let bytes_max = left.min(limits::COPY_BYTES_MAX as u64) as usize;
    let mut buffer = Vec::new();
    let reading = way.source.read(&mut buffer, bytes_max);
    let read = attend(way, || way.read_limit, || 0, reading).await;
    let count = match read {
        Ok(read) => read.map_err(|error| BodyStop::Source(error.into()))?,
        Err(Stall::Elapsed) => return Err(source_too_slow(way)),
        Err(Stall::SinkGone) => return Err(sink_gone()),
    };
    way.source_counts.read_bytes.add(count as u64);
    if plant::has(Plant::ByteLostOnShortRead) && count < bytes_max {
        buffer.pop();
    }
    received.replace(buffer);
    Ok(count > 0)
}

/// Splices `left` bytes; or as many as are there, of what is held back; or as many as there are pipes for.
/// Returns how many, and whether there was a pipe.
async fn splice_body(
    way: &Way<'_>,
    left: u64,
    passed: &Cell<u64>,
) -> Result<(u64, bool), BodyStop> {
    // A splice goes straight to the socket: it must not overtake the head, which may still be on
    // its way.
    if way.sink.is_sending() {
        let before = way.sink.bytes_sent();
        flush(way.sink, before, way.timer, way.write_limit).await.map_err(BodyStop::Sink)?;
    }
    let moved = way.moved;
    let (taken_before, given_before) = (moved.taken(), moved.given());
    // Bytes in the pipe wait for the sink; with none, the source is waited for.
    let limit = || if moved.taken() > moved.given() { way.write_limit } else { way.read_limit };
    let progress = || moved.taken() + moved.given();
    let splicing = splice(way.source, way.sink, left, way.held.is_some(), moved);
    let outcome = attend(way, limit, progress, splicing).await;
    let given = moved.given() - given_before;
    let taken = moved.taken() - taken_before;
    way.source_counts.read_bytes.add(taken);
    way.sink_counts.write_bytes.add(given);
    way.metrics.bytes_spliced.add(given);
    passed.set(passed.get() + given);
    match outcome {
        Ok(Spliced::Done | Spliced::Paused) => Ok((given, true)),
        Ok(Spliced::NoPipe) => Ok((given, false)),
        Ok(Spliced::Ended) => Err(BodyStop::Invalid(BodyError::Truncated)),
        Ok(Spliced::SourceFailed(error)) => Err(BodyStop::Source(error.into())),
        Ok(Spliced::SinkFailed(error)) => Err(BodyStop::Sink(error.into())),
        Err(Stall::Elapsed) if taken > given => Err(BodyStop::Sink(Stopped::TimedOut)),
        Err(Stall::Elapsed) => Err(source_too_slow(way)),
        Err(Stall::SinkGone) => Err(sink_gone()),
    }
}

pub(super) fn sink_gone() -> BodyStop {
    BodyStop::Sink(Stopped::Broken(CloseReason::ConnectionReset))
}

/// Nothing more came in time. Where the time for the whole is over and the proxy itself spent some of it, that
/// is not the source's fault.
pub(super) fn source_too_slow(way: &Way<'_>) -> BodyStop {
    let is_held = way.held.is_some_and(|held| held.has_waited());
    match is_held && lateen_ring::now() >= way.timer.until {
        true => BodyStop::Held,
        false => BodyStop::Source(Stopped::TimedOut),
    }
}

/// Why nothing more is to be expected.
pub(super) enum Stall {
    /// No progress in time.
    Elapsed,
    /// The sink's peer is gone: what the source may still send is wanted by nobody.
    SinkGone,
}

/// Waits for `future` as long as `progress` moves at least once in each `limit`. When it has not
/// moved for a while, the sink is watched for a reset, which nothing else would tell of: nothing is
/// being written to it.
pub(super) async fn attend<F: Future>(
    way: &Way<'_>,
    limit: impl Fn() -> Duration,
    progress: impl Fn() -> u64,
    future: F,
) -> Result<F::Output, Stall> {
    let mut future = pin!(future);
    let mut moved_at = lateen_ring::now();
    let mut seen = progress();
    way.timer.set(limits::PEER_WATCH_AFTER.min(limit()));
    poll_fn(|cx| {
        if let Poll::Ready(output) = future.as_mut().poll(cx) {
            return Poll::Ready(Ok(output));
        }
        let now = lateen_ring::now();
        if progress() != seen {
            seen = progress();
            moved_at = now;
        }
        loop {
            let stalled = now >= moved_at + limits::PEER_WATCH_AFTER;
            if stalled && way.sink.poll_hung_up(cx).is_ready() {
                return Poll::Ready(Err(Stall::SinkGone));
            }
            let ends_at = moved_at + limit();
            if now >= ends_at || now >= way.timer.until {
                return Poll::Ready(Err(Stall::Elapsed));
            }
            let look = moved_at + limits::PEER_WATCH_AFTER;
            let next = if stalled { ends_at } else { ends_at.min(look) };
            way.timer.deadline.set(next.min(way.timer.until));
            if way.timer.deadline.poll_past(cx).is_pending() {
                return Poll::Pending;
            }
        }
    })
    .await
}
