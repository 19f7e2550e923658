//! Bytes that are held back: by a limit of their rate, or on purpose.
//!
//! Before: a transfer is about to pass on a piece of a body. After: it knows how many bytes may pass now.
//! While it waits, for the source or for its turn, it holds no buffer of the worker, has no claim to what
//! others could use, and hears of a peer that leaves.

use std::cell::Cell;
use std::future::poll_fn;
use std::task::{Context, Poll};

use lateen_ring::{Deadline, Instant, Stream};

use crate::client::Connection;
use crate::decide::fault::Pace;
use crate::exchange::Exchange;
use crate::failure::{Failure, Stage};
use crate::forward::leaving::ClientWatch;
use crate::forward::received::Received;
use crate::forward::transfer::{
    BodyStop, Stall, Stopped, Way, attend, gather, sink_gone, source_too_slow,
};
use crate::limits;
use crate::observe::metrics::CloseReason;
use crate::rate_limit::flow::{Flow, Grant};

/// What a body is held back by.
#[derive(Clone, Copy, Debug)]
pub struct Held<'a> {
    /// Limits of the rate.
    pub flow: Option<&'a Flow>,
    /// A fault on purpose.
    pub pace: Option<Pace>,
    /// It comes from the client.
    pub is_up: bool,
}

impl<'a> Held<'a> {
    /// Lets so many bytes pass if none of them has to wait.
    #[inline]
    pub fn allow_at_once(&self, bytes: u64, passed: &'a Cell<u64>) -> Option<AtOnce<'a>> {
        let flow = self.flow.filter(|_| self.pace.is_none())?;
        if flow.has_lent(bytes, lateen_ring::now().as_nanos()) {
            return Some(AtOnce::Lent(flow));
        }
        let grant = flow.ask(bytes, passed);
        let is_all = grant.bytes() == bytes && lateen_ring::now() >= grant.due();
        is_all.then_some(AtOnce::Granted(grant))
    }

    /// Whether any of it had to wait.
    pub fn has_waited(&self) -> bool {
        self.pace.is_some() || self.flow.is_some_and(Flow::has_delayed)
    }
}

/// Bytes that pass before anything is waited for.
#[derive(Debug)]
pub enum AtOnce<'a> {
    /// All of what this worker was lent: [`Flow::pass_lent`] is to hear how many did.
    Lent(&'a Flow),
    /// To be kept until they have.
    Granted(Grant<'a>),
}

/// What may pass as one. To be kept until it has.
#[derive(Debug)]
pub struct Allowed<'a> {
    /// So many bytes, more than 0.
    pub bytes: u64,
    passed_before: u64,
    _grant: Option<Grant<'a>>,
}

impl Allowed<'_> {
    /// Whether any of them have passed.
    pub fn is_used(&self, passed: &Cell<u64>) -> bool {
        passed.get() > self.passed_before
    }
}

/// Waits until bytes of a body may pass. `left` is what is still to come of it, if that is known.
///
/// # Errors
/// [`BodyStop`]: a side that is gone meanwhile, or [`Held`](BodyStop::Held) at the end of the time for the
/// whole.
pub async fn allow<'g>(
    way: &Way<'g>,
    held: &Held<'g>,
    received: &mut Received,
    left: Option<u64>,
    passed: &'g Cell<u64>,
) -> Result<Allowed<'g>, BodyStop> {
    let mut most = left.unwrap_or(u64::MAX).max(1);
    if let Some(pace) = &held.pace {
        let due = Instant::from_nanos(pace.due_ns(passed.get()));
        if lateen_ring::now() < due {
            received.settle();
            await_due(way, held, due).await?;
        }
        most = most.min(pace.slice_bytes());
    }
    let Some(flow) = held.flow else {
        return Ok(Allowed { bytes: most, passed_before: passed.get(), _grant: None });
    };
    if received.is_empty() {
        gather(way, received).await;
    }
    if received.is_empty() {
        // Who asks before there is something to pass on takes it from others.
        way.sink.push();
        let readable = poll_fn(|cx| way.source.poll_readable(cx));
        match attend(way, || way.read_limit, || 0, readable).await {
            Ok(()) => {}
            Err(Stall::Elapsed) => return Err(source_too_slow(way)),
            Err(Stall::SinkGone) => return Err(sink_gone()),
        }
    } else {
        most = most.min(received.bytes().len() as u64);
    }
    let mut grant = flow.ask(most, passed);
    if lateen_ring::now() < grant.due() {
        flow.note_delay();
        received.settle();
    }
    while lateen_ring::now() < grant.due() {
        let look_again = lateen_ring::now() + limits::FLOW_LOOK_AGAIN;
        await_due(way, held, grant.due().min(look_again)).await?;
        if grant.is_outdated() {
            drop(grant);
            grant = flow.ask(most, passed);
        }
    }
    let passed_before = passed.get();
    Ok(Allowed { bytes: grant.bytes(), passed_before, _grant: Some(grant) })
}

/// Waits until then. Both sides are watched for a reset, which nothing else would tell of; but what an
/// endpoint has sent before it left is still there to be read.
async fn await_due(way: &Way<'_>, held: &Held<'_>, due: Instant) -> Result<(), BodyStop> {
    // What went ahead of a splice is not to wait for it any longer.
    way.sink.push();
    let deadline = way.timer.deadline;
    deadline.set(due.min(way.timer.until));
    poll_fn(|cx| {
        if way.sink.poll_hung_up(cx).is_ready() {
            return Poll::Ready(Err(sink_gone()));
        }
        if held.is_up && way.source.poll_hung_up(cx).is_ready() {
            let reset = Stopped::Broken(CloseReason::ConnectionReset);
            return Poll::Ready(Err(BodyStop::Source(reset)));
        }
        if deadline.poll_past(cx).is_pending() {
            return Poll::Pending;
        }
        Poll::Ready(match lateen_ring::now() >= due {
            true => Ok(()),
            false => Err(BodyStop::Held),
        })
    })
    .await
}

/// Waits until a request's body may go up that is in memory already. Before it has a place at its service,
/// which others could use meanwhile; should it get none, what it was granted goes back.
///
/// # Errors
/// The client left meanwhile, or its time is over.
pub async fn hold_request(
    connection: &Connection,
    exchange: &Exchange,
    flow: &Flow,
) -> Result<(), Failure> {
    let (deadline, until) = (&connection.deadline, exchange.due.get());
    let passed = Cell::new(0);
    let mut client = ClientWatch::new(connection);
    let mut left = exchange.request_bytes.get();
    while left > 0 {
        let mut grant = flow.ask(left, &passed);
        if lateen_ring::now() < grant.due() {
            flow.note_delay();
        }
        while lateen_ring::now() < grant.due() {
            if lateen_ring::now() >= until {
                return Err(Failure::deadline_passed());
            }
            let look_again = lateen_ring::now() + limits::FLOW_LOOK_AGAIN;
            deadline.set(grant.due().min(look_again).min(until));
            poll_fn(|cx| match client.poll_gone(cx) {
                true => Poll::Ready(Err(Failure::client_gone(Stage::Decide))),
                false => deadline.poll_past(cx).map(Ok),
            })
            .await?;
            if grant.is_outdated() {
                drop(grant);
                grant = flow.ask(left, &passed);
            }
        }
        left -= grant.bytes();
        grant.keep();
    }
    Ok(())
}

/// Those ends of a tunnel that would otherwise not be heard of while one of its directions waits.
#[derive(Clone, Copy, Debug)]
pub struct WatchedEnds<'a> {
    /// Where the bytes come from.
    pub source: &'a Stream,
    /// Where they go.
    pub sink: &'a Stream,
    /// The other direction is over: the source is hung up when it has closed its own too, which is no reset.
    pub other_is_over: &'a Cell<bool>,
}

impl WatchedEnds<'_> {
    fn is_one_gone(&self, cx: &mut Context<'_>) -> bool {
        self.sink.poll_hung_up(cx).is_ready()
            || (!self.other_is_over.get() && self.source.poll_hung_up(cx).is_ready())
    }
}

/// Waits until bytes of a tunnel may pass, of which there are up to `most`. `None`: one of its ends is gone,
/// which no receive would tell of meanwhile. `is_held` says so while it waits.
pub async fn allow_tunnel<'g>(
    flow: &'g Flow,
    most: u64,
    passed: &'g Cell<u64>,
    is_held: &Cell<bool>,
    ends: WatchedEnds<'_>,
) -> Option<Grant<'g>> {
    let mut grant = flow.ask(most, passed);
    if lateen_ring::now() >= grant.due() {
        return Some(grant);
    }
    flow.note_delay();
    let deadline = Deadline::new();
    is_held.set(true);
    while lateen_ring::now() < grant.due() {
        let look_again = lateen_ring::now() + limits::FLOW_LOOK_AGAIN;
        deadline.set(grant.due().min(look_again));
        poll_fn(|cx| match ends.is_one_gone(cx) {
            true => Poll::Ready(None),
            false => deadline.poll_past(cx).map(Some),
        })
        .await?;
        if grant.is_outdated() {
            drop(grant);
            grant = flow.ask(most, passed);
        }
    }
    is_held.set(false);
    Some(grant)
}

#[cfg(test)]
mod tests;
