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
use crate::forward::leaving::unless_gone;
use crate::forward::pool::{Upstream, close_upstream};
use crate::health::tries::note_connect_failed;
use crate::in_flight::InFlight;
use crate::limits;
use crate::observe::metrics::CloseReason;
use crate::shard::Shard;
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

/// A try: a request at an endpoint, on a connection.
#[derive(Debug)]
pub struct Try {
    /// The endpoint, of which it is load.
    pub in_flight: InFlight,
    /// The connection.
    pub upstream: Upstream,
    /// Whether the connection had carried requests before.
    pub pooled: bool,
    /// When it must be over.
    pub until: Instant,
}

/// A new connection to the endpoint that was chosen `first`; to another, perhaps a pooled one, if
/// that can't be reached. None of `tried` while another is left, be it further away; then one of the first
/// `earlier` of them. The time of the try begins once there is room for a connection.
///
/// # Errors
/// The last failure, or that there was no endpoint to try.
pub async fn obtain(
    connection: &Connection,
    cluster: &Rc<Cluster>,
    exchange: &Exchange,
    mut first: Option<EndpointIndex>,
    (tried, mut earlier): (&Tried, usize),
    patience: Patience,
) -> Result<Try, Failure> {
    let shard = &connection.shard;
    let mut failure = Failure::no_healthy_upstream();
    let mut cluster = tried.cluster(cluster);
    let mut began_until = None;
    for connects in 0..limits::CONNECT_TRIES_MAX {
        let chosen = first.take();
        let was_chosen = chosen.is_some();
        let picked = chosen
            .or_else(|| choose(shard, exchange, (&mut cluster, &mut earlier), tried, patience));
        let Some(index) = picked else { break };
        if connects > 0 {
            exchange.retries.set(exchange.retries.get() + 1);
        }
        let chosen = Chosen { cluster: cluster.clone(), index };
        if !was_chosen && let Some(upstream) = shard.pool.take(shard, &chosen) {
            shard.metrics().pool_hit.increment();
            let in_flight = InFlight::new(chosen);
            let until = began_until.unwrap_or_else(|| exchange.try_until());
            return Ok(Try { in_flight, upstream, pooled: true, until });
        }
        shard.metrics().pool_miss.increment();
        exchange.chose(index);
        // Who wants a certain endpoint, or others than before, is not served by just any connection.
        let takes_any = tried.count() == 0 && exchange.wish.get().is_none();
        let waits_until = began_until.unwrap_or_else(|| exchange.due.get());
        let room = match patience {
            Patience::None => cluster.bulkhead.try_enter().map(Place::New),
            Patience::Queues if takes_any => {
                Some(room(connection, &cluster, exchange, waits_until).await?)
            }
            Patience::Queues => {
                Some(Place::New(unit(connection, exchange, &cluster, waits_until).await?))
            }
        };
        let Some(room) = room else { return Err(Failure::overflow(Stage::Decide)) };
        let until = *began_until.get_or_insert_with(|| exchange.try_until());
        let unit = match room {
            Place::New(unit) => unit,
            Place::Taken(chosen, upstream) => {
                let in_flight = InFlight::new(chosen);
                return Ok(Try { in_flight, upstream, pooled: true, until });
            }
        };
        let mut in_flight = InFlight::new(chosen);
        match dial_with(connection, exchange, in_flight.chosen(), unit, until).await {
            Ok(upstream) => return Ok(Try { in_flight, upstream, pooled: false, until }),
            Err(failed) => failure = failed,
        }
        in_flight.leave_untimed();
        tried.push(index);
        if failure.cause != Cause::ConnectFailed || lateen_ring::now() >= until {
            break;
        }
    }
    Err(failure)
}

/// An endpoint that was not tried, here or where it goes on from here; else one that was tried before, but not
/// by these connects.
fn choose(
    shard: &Shard,
    exchange: &Exchange,
    (cluster, earlier): (&mut Rc<Cluster>, &mut usize),
    tried: &Tried,
    patience: Patience,
) -> Option<EndpointIndex> {
    loop {
        if !tried.is_all_of(cluster)
            && let Some(index) =
                tried.with(0, |tried| cluster.pick(shard, exchange.wish.get(), tried))
        {
            return Some(index);
        }
        // A second request beside the first stays where that is.
        let next = match patience {
            Patience::Queues => tried.go_on(shard, exchange),
            Patience::None => None,
        };
        match next {
            Some(next) => (*cluster, *earlier) = (next, 0),
            None => {
                let pick_but = |skipped| {
                    tried.with(skipped, |tried| cluster.pick(shard, exchange.wish.get(), tried))
                };
                // Those that were found bad get requests too: one of them, rather than the same again.
                let untried = if cluster.is_panicking() { pick_but(0) } else { None };
                return untried.or_else(|| pick_but(*earlier));
            }
        }
    }
}

/// Whether a connection is worth waiting for where a cluster has as many as it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Patience {
    /// A request needs it.
    Queues,
    /// It is for a second one beside a request.
    None,
}

/// What a request is sent on.
enum Place {
    /// A connection that there is room for.
    New(ConnectionUnit),
    /// One that is there already, to this endpoint.
    Taken(Chosen, Upstream),
}

/// Room for a connection to the cluster; or a connection to one of its endpoints, whichever.
async fn room(
    connection: &Connection,
    cluster: &Rc<Cluster>,
    exchange: &Exchange,
    until: Instant,
) -> Result<Place, Failure> {
    let (shard, priority) = (&connection.shard, exchange.priority.get());
    loop {
        let idle = || shard.pool.take_any(shard, cluster);
        let room =
            cluster.bulkhead.room(&cluster.idle, priority, &connection.deadline, until, idle);
        let (of, upstream) = match unless_gone(connection, room).await?? {
            Room::Unit(unit) => return Ok(Place::New(unit)),
            Room::Connection(handed_over) => *handed_over,
        };
        // Where a connection serves one client alone, whoever hands one over does not know yet.
        let is_shared = cluster.proxy_protocol().is_none();
        match of.as_of(cluster).filter(|_| is_shared) {
            Some(chosen) => return Ok(Place::Taken(chosen, upstream)),
            // It is of no use here, but its place is.
            None => close_upstream(upstream, CloseReason::Orderly),
        }
    }
}

/// A place for a connection, once there is one.
async fn unit(
    connection: &Connection,
    exchange: &Exchange,
    cluster: &Cluster,
    until: Instant,
) -> Result<ConnectionUnit, Failure> {
    let entering = cluster.bulkhead.enter(exchange.priority.get(), &connection.deadline, until);
    unless_gone(connection, entering).await?
}

/// The same request on a new connection to its endpoint, once there is room for that.
///
/// # Errors
/// With the endpoint, [`Failure::connect_failed`], [`Failure::overflow`], or a timeout if the request's own
/// ran out; and whether the try's time is over.
pub async fn dial(
    connection: &Connection,
    exchange: &Exchange,
    in_flight: InFlight,
) -> Result<Try, (InFlight, Failure, bool)> {
    let cluster = in_flight.chosen().cluster.clone();
    let unit = match unit(connection, exchange, &cluster, exchange.due.get()).await {
        Ok(unit) => unit,
        Err(failure) => return Err((in_flight, failure, true)),
    };
    let until = exchange.try_until();
    match dial_with(connection, exchange, in_flight.chosen(), unit, until).await {
        Ok(upstream) => Ok(Try { in_flight, upstream, pooled: false, until }),
        Err(failure) => Err((in_flight, failure, lateen_ring::now() >= until)),
    }
}

async fn dial_with(
    connection: &Connection,
    exchange: &Exchange,
    chosen: &Chosen,
    unit: ConnectionUnit,
    until: Instant,
) -> Result<Upstream, Failure> {
    let left = (until != Instant::NEVER).then(|| until.since(lateen_ring::now()));
    let deadline = &connection.deadline;
    let connected = match connect(&connection.shard, chosen, unit, deadline, left).await {
        Ok(upstream) => introduce(connection, &chosen.cluster, upstream).await,
        failed => failed,
    };
    match connected {
        Err(_) if lateen_ring::now() >= exchange.due.get() => {
            Err(Failure::upstream_timeout(Stage::Connect))
        }
        // A try's own time is over: the endpoint did not take the connection for as long as that.
        Err(failed) if lateen_ring::now() >= until => {
            chosen.endpoint().load.on_refused(lateen_ring::now().as_nanos());
            note_connect_failed(&connection.shard, chosen);
            Err(failed)
        }
        connected => connected,
    }
}

#[cfg(test)]
mod tests {
    use lateen_snapshot::model::ClusterId;

    use super::*;
    use crate::decide::balance::load::OutOfService;
    use crate::testing::{clusters, on_worker};

    #[test]
    fn where_the_bad_get_requests_too_none_gets_one_twice_while_another_is_left() {
        on_worker(&[], async |mut worker| {
            let live = worker.switch(clusters(&[("a", &[1, 2, 3, 4])]));
            let cluster = live.cluster(&worker.shard, ClusterId(0)).clone();
            for ill in 1..4 {
                cluster.set_out_of_service(EndpointIndex::new(ill), OutOfService::Unhealthy, true);
            }
            assert!(cluster.is_panicking());
            let exchange = Exchange::begin(lateen_ring::now());
            exchange.pin(live.clone());
            for patience in [Patience::Queues, Patience::None] {
                for _ in 0..50 {
                    let tried = Tried::default();
                    let mut went_to = Vec::new();
                    for _ in 0..6 {
                        let (mut at, mut earlier) = (cluster.clone(), tried.count());
                        let place = (&mut at, &mut earlier);
                        let next = choose(&worker.shard, &exchange, place, &tried, patience);
                        let next = next.expect("somebody is always left");
                        tried.push(next);
                        went_to.push(next.as_usize());
                    }
                    went_to.truncate(4);
                    went_to.sort_unstable();
                    assert_eq!(went_to, [0, 1, 2, 3]);
                }
            }
        });
    }
}
