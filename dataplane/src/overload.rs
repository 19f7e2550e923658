//! What of a request is about not asking too much: whether the process has anything left for it, its place
//! among those that its cluster may have at a time, and what its end says of how much that may be.
//!
//! Before: `judge` knows a request's route, or `request` is about to forward it. After: it is turned away, or
//! has a place, which is free again when it is over. Who waits how long for one is `bulkhead`'s to say;
//! whether the worker keeps up `lag`'s, and what the process has left [`pressure`](crate::pressure)'s.

use lateen_ring::Instant;
use lateen_snapshot::model::overload::Priority;

use crate::attempt::Way;
use crate::client::Connection;
use crate::exchange::Exchange;
use crate::failure::{Cause, Failure, Stage};
use crate::forward::leaving::unless_gone;
use crate::observe::metrics::overload::ShedCause;
use crate::shard::Shard;

/// Turns a request of this priority away, if the worker or the process can't take it. Cost: two loads.
#[inline]
pub fn turn_away(shard: &Shard, priority: Priority) -> Option<Failure> {
    if !shard.lag.is_lagging() && !shard.pressure().is_tight() {
        return None;
    }
    let cause = find_cause(shard, priority)?;
    shard.metrics().overload.shed(cause, priority).increment();
    Some(Failure::overloaded(Stage::Decide))
}

#[cold]
fn find_cause(shard: &Shard, priority: Priority) -> Option<ShedCause> {
    let levels = shard.pressure().levels();
    if levels.memory.sheds(priority) {
        Some(ShedCause::Memory)
    } else if levels.descriptors.sheds(priority) {
        Some(ShedCause::Descriptors)
    } else {
        // Others wait for their turn.
        let is_first_to_go = shard.lag.is_lagging() && priority == Priority::Sheddable;
        is_first_to_go.then_some(ShedCause::Lag)
    }
}

/// Takes a place, if there is one.
#[inline]
pub fn try_enter(exchange: &Exchange, way: &Way) -> bool {
    let unit = way.cluster.bulkhead.try_enter();
    let has_entered = unit.is_some();
    *exchange.entered.borrow_mut() = unit;
    has_entered
}

/// Waits for a place.
///
/// # Errors
/// As [`Bulkhead::enter`](crate::bulkhead::Bulkhead::enter).
pub async fn enter(connection: &Connection, exchange: &Exchange, way: &Way) -> Result<(), Failure> {
    let (deadline, until) = (&connection.deadline, exchange.due.get());
    let entering = way.cluster.bulkhead.enter(exchange.priority.get(), deadline, until);
    let unit = unless_gone(connection, entering).await??;
    *exchange.entered.borrow_mut() = Some(unit);
    Ok(())
}

/// Gives the place back, and tells how long the answer took. One that says that it failed was perhaps made
/// without work, and counts for nothing; nor does one that its caller did not wait for.
#[inline]
pub fn note_end<T>(exchange: &Exchange, outcome: &Result<T, Failure>) {
    let Some(unit) = exchange.entered.borrow_mut().take() else { return };
    // Until then it is the client who takes its time, or a limit of ours.
    let began = exchange.request_over_at.get();
    let answered_at = exchange.answered_at.get();
    if exchange.sent_at.get() == Instant::NEVER || began == Instant::NEVER {
        return;
    }
    if answered_at == Instant::NEVER {
        if let Err(failure) = outcome
            && failure.cause == Cause::UpstreamTimeout
            && failure.tells_of_service()
        {
            unit.observe(began, None);
        }
    } else if answered_at >= began && (1..500).contains(&exchange.status.get()) {
        unit.observe(began, Some(answered_at));
    }
}
