//! A connection to an endpoint for a request: a pooled one, else a new one.
//!
//! Before: `request` has a head to send. After: it sends it. Which endpoint is `decide`'s to say; one
//! that can't be reached is left for another, because no byte was sent to it.

use std::rc::Rc;

use lateen_ring::Instant;

use crate::bulkhead::{ConnectionUnit, Room};
use crate::client::Connection;
use crate::cluster::{Chosen, Cluster};
use crate::decide::balance::EndpointIndex;
use crate::exchange::Exchange;
use crate::failure::{Cause, Failure, Stage};
use crate::forward::connect::connect;
use crate::forward::introduce::introduce;
use crate::forward::pool::Upstream;
use crate::forward::transfer::Timer;
use crate::in_flight::InFlight;
use crate::limits;
use crate::tries::Tried;

/// Chooses an endpoint and takes a pooled connection to it.
///
/// # Errors
/// The endpoint, if there is one, when none of its connections is idle.
#[inline]
pub fn take_pooled(
    connection: &Connection,
    cluster: &Rc<Cluster>,
    exchange: &Exchange,
) -> Result<(InFlight, Upstream), Option<EndpointIndex>> {
    let shard = &connection.shard;
    let index = cluster.pick(shard, exchange.wish.get(), &[]).ok_or(None)?;
    let chosen = Chosen { cluster: cluster.clone(), index };
    let upstream = shard.pool.take(shard, &chosen).ok_or(Some(index))?;
    shard.metrics().pool_hit.increment();
    Ok((InFlight::new(chosen), upstream))
}

/// A new connection to the endpoint that was chosen `first`; to another, perhaps a pooled one, if
/// that can't be reached. True if it was pooled. None of `tried` while another is left.
///
/// # Errors
/// The last failure, or that there was no endpoint to try.
pub async fn obtain(
    connection: &Connection,
    cluster: &Rc<Cluster>,
    exchange: &Exchange,
    mut first: Option<EndpointIndex>,
    timer: Timer<'_>,
    tried: &Tried,
) -> Result<(InFlight, Upstream, bool), Failure> {
    let shard = &connection.shard;
    let mut failure = Failure::no_healthy_upstream();
    let earlier = tried.count();
    for connects in 0..limits::CONNECT_TRIES_MAX {
        let chosen = first.take();
        let was_chosen = chosen.is_some();
        let picked = chosen.or_else(|| {
            // Once all were tried, those of this try alone are passed over.
            let is_any_left = tried.count() < cluster.endpoint_count();
            let skipped = if is_any_left { 0 } else { earlier };
            tried.with(skipped, |tried| cluster.pick(shard, exchange.wish.get(), tried))
        });
        let Some(index) = picked else { break };
        if connects > 0 {
            exchange.retries.set(exchange.retries.get() + 1);
        }
        let chosen = Chosen { cluster: cluster.clone(), index };
        if !was_chosen && let Some(upstream) = shard.pool.take(shard, &chosen) {
            shard.metrics().pool_hit.increment();
            return Ok((InFlight::new(chosen), upstream, true));
        }
        shard.metrics().pool_miss.increment();
        exchange.chose(index);
        let unit = match room(connection, cluster, timer).await? {
            Room::Unit(unit) => unit,
            Room::Connection(other) => match other.0.as_of(cluster) {
                Some(chosen) => return Ok((InFlight::new(chosen), other.1, true)),
                // Its endpoint is not one of this snapshot's.
                None => continue,
            },
        };
        let mut in_flight = InFlight::new(chosen);
        match dial_with(connection, in_flight.chosen(), unit, timer).await {
            Ok(upstream) => return Ok((in_flight, upstream, false)),
            Err(failed) => failure = failed,
        }
        in_flight.leave_untimed();
        tried.push(index);
        if failure.cause != Cause::ConnectFailed {
            break;
        }
    }
    Err(failure)
}

/// Room for a connection to the cluster; or a connection to whatever endpoint.
async fn room(
    connection: &Connection,
    cluster: &Rc<Cluster>,
    timer: Timer<'_>,
) -> Result<Room, Failure> {
    let shard = &connection.shard;
    let idle = || shard.pool.take_any(shard, cluster);
    cluster.bulkhead.room(timer.deadline, timer.until, idle).await
}

/// A new connection to the endpoint, once there is room for it.
///
/// # Errors
/// [`Failure::connect_failed`], [`Failure::overflow`], or a timeout if the request's own ran out.
pub async fn dial(
    connection: &Connection,
    chosen: &Chosen,
    timer: Timer<'_>,
) -> Result<Upstream, Failure> {
    let bulkhead = &chosen.cluster.bulkhead;
    let unit = bulkhead.enter(timer.deadline, timer.until).await?;
    dial_with(connection, chosen, unit, timer).await
}

async fn dial_with(
    connection: &Connection,
    chosen: &Chosen,
    unit: ConnectionUnit,
    timer: Timer<'_>,
) -> Result<Upstream, Failure> {
    let now = lateen_ring::now();
    let left = (timer.until != Instant::NEVER).then(|| timer.until.since(now));
    let connected = match connect(&connection.shard, chosen, unit, timer.deadline, left).await {
        Ok(upstream) => introduce(connection, &chosen.cluster, upstream).await,
        failed => failed,
    };
    match connected {
        Err(_) if lateen_ring::now() >= timer.until => {
            Err(Failure::upstream_timeout(Stage::Connect))
        }
        connected => connected,
    }
}
