//! Faults that are put into a request on purpose, before its first try.
//!
//! Before: its mirrors have their copies. After: it is forwarded, or answered as if that had failed. A
//! request that waits here holds no endpoint and no connection to one.

use std::future::poll_fn;
use std::task::Poll;
use std::time::Duration;

use lateen_ring::Instant;

use crate::client::Connection;
use crate::decide::fault::Injected;
use crate::exchange::Exchange;
use crate::failure::{Failure, ResponseFlag, Stage};
use crate::forward::leaving::ClientWatch;
use crate::limits;

/// Delays the request, then ends it, as was drawn for it.
///
/// # Errors
/// Its end; that the client left meanwhile; or that it took longer than `until`.
pub async fn inject(
    connection: &Connection,
    exchange: &Exchange,
    injected: Injected,
    until: Instant,
) -> Result<(), Failure> {
    let metrics = connection.shard.metrics();
    if let Some(delay_ms) = injected.delay_ms {
        metrics.faults.delay.increment();
        metrics.record_flag(ResponseFlag::DelayInjected);
        exchange.mark.set(Some(ResponseFlag::DelayInjected));
        delay(connection, Duration::from_millis(delay_ms.into()), until).await?;
    }
    if let Some(kind) = injected.abort {
        metrics.faults.abort.increment();
        return Err(Failure::injected(kind));
    }
    if injected.bytes_per_s.is_some() {
        metrics.faults.bandwidth.increment();
    }
    Ok(())
}

/// Waits for so long, or until there is no point in it: the client has gone, or a drain waits for it.
async fn delay(connection: &Connection, span: Duration, until: Instant) -> Result<(), Failure> {
    let ends_at = lateen_ring::now() + span;
    let mut client = ClientWatch::new(connection);
    connection.deadline.set(lateen_ring::now());
    poll_fn(|cx| {
        loop {
            if client.poll_gone(cx) {
                return Poll::Ready(Err(Failure::client_gone(Stage::Decide)));
            }
            let now = lateen_ring::now();
            if now >= ends_at || connection.shard.is_leaving(connection.slot) {
                return Poll::Ready(Ok(()));
            }
            if now >= until {
                return Poll::Ready(Err(Failure::upstream_timeout(Stage::Decide)));
            }
            if connection.deadline.poll_past(cx).is_pending() {
                return Poll::Pending;
            }
            // A drain wakes nobody.
            let look_again = now + limits::FAULT_LOOK_AGAIN;
            connection.deadline.set(ends_at.min(until).min(look_again));
        }
    })
    .await
}
