//! What of a request is about not asking too much: its place among those that its cluster may have at a time,
//! and what its end says of how much that may be.
//!
//! Before: `request` is about to forward a request. After: it has a place, and when it is over the place is
//! free again. Who waits how long for one is `bulkhead`'s to say.

use lateen_ring::Instant;

use crate::attempt::Way;
use crate::client::Connection;
use crate::exchange::Exchange;
use crate::failure::{Cause, Failure};

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
    let unit = way.cluster.bulkhead.enter(exchange.priority.get(), deadline, until).await?;
    *exchange.entered.borrow_mut() = Some(unit);
    Ok(())
}

/// Gives the place back, and tells how long the answer took. One that says that it failed was perhaps made
/// without work, and counts for nothing; one that did not come in time took as long as it was waited for.
#[inline]
pub fn note_end<T>(exchange: &Exchange, outcome: &Result<T, Failure>) {
    let Some(unit) = exchange.entered.borrow_mut().take() else { return };
    let (sent_at, answered_at) = (exchange.sent_at.get(), exchange.answered_at.get());
    if sent_at == Instant::NEVER {
        return;
    }
    match outcome {
        _ if answered_at != Instant::NEVER && (1..500).contains(&exchange.status.get()) => {
            unit.observe(sent_at, answered_at);
        }
        _ if answered_at != Instant::NEVER => {}
        Err(Failure { cause: Cause::UpstreamTimeout | Cause::DeadlinePassed, .. }) => {
            unit.observe(sent_at, lateen_ring::now());
        }
        _ => {}
    }
}
