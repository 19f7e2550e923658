//! One try of a request: where it may go, on which connection, and what is sent.
//!
//! Before: `request` judged a head, or saw a try come to nothing. After: it exchanges the messages of this
//! try. Whether there is another try is for `tries` to say.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use lateen_ring::{Instant, keep_vector, spare_vector};

use crate::client::Connection;
use crate::cluster::Cluster;
use crate::codec::http1::fields::put_number_line;
use crate::decide::balance::EndpointIndex;
use crate::decide::retry::RetryReason;
use crate::decide::route::plan::RoutePlan;
use crate::exchange::{Exchange, Request};
use crate::failure::{Cause, Failure, Side};
use crate::forward::leaving::unless_gone;
use crate::forward::mirror::mirror;
use crate::forward::obtain::{Patience, Try, dial, obtain};
use crate::forward::transfer::one;
use crate::in_flight::InFlight;
use crate::observe::metrics::CloseReason;
use crate::observe::metrics::retry::HedgeEnd;
use crate::plant::{self, Plant};
use crate::shard::Shard;
use crate::tries::{Tried, Tries, claim_after_failure};

/// How a try ended that is not the last.
pub enum Ended {
    /// In a failure; what was sent can be sent again.
    Failed {
        /// How it ended.
        failure: Failure,
        /// The connection may have been dead before, so that it is sent on a new one.
        was_stale: bool,
    },
    /// In an answer that asks for another try, which is paid for, after this long.
    Refused(Duration),
}

/// A connection for a request that found none in the pool.
pub async fn first_try(
    connection: &Connection,
    request: &Request,
    exchange: &Exchange,
    way: &Way,
    endpoint: Option<EndpointIndex>,
) -> Result<Try, Failure> {
    let none = Tried::default();
    let tried = request.tries().map_or(&none, |tries| &tries.tried);
    match connect_try(connection, exchange, way, endpoint, (tried, tried.count())).await {
        Ok(first) => Ok(first),
        Err(failure) => obtain_again(connection, request, exchange, way, failure).await,
    }
}

/// A connection for a try that begins now.
async fn connect_try(
    connection: &Connection,
    exchange: &Exchange,
    way: &Way,
    endpoint: Option<EndpointIndex>,
    tried: (&Tried, usize),
) -> Result<Try, Failure> {
    obtain(connection, &way.cluster, exchange, endpoint, tried, Patience::Queues).await
}

/// The try after one that came to nothing.
///
/// # Errors
/// There is none: the failure that stands.
pub async fn try_again(
    connection: &Connection,
    request: &Request,
    exchange: &Exchange,
    way: &Way,
    last: InFlight,
    ended: Ended,
) -> Result<Try, Failure> {
    exchange.heard_upstream.set(false);
    exchange.read_by_count.set(false);
    exchange.answered_at.set(Instant::NEVER);
    let leave = |last: InFlight| {
        if let Some(tries) = request.tries() {
            tries.tried.push(last.chosen().index);
        }
    };
    match ended {
        Ended::Failed { was_stale: true, .. } => {
            exchange.retries.set(exchange.retries.get() + 1);
            let metrics = &connection.shard.metrics().retry;
            metrics.made[RetryReason::PoolReplay as usize].increment();
            // Charged, though never denied: the endpoint has seen nothing of it, and it happens once.
            let _ = way.cluster.pay_for_try(lateen_ring::now().as_nanos());
            match dial(connection, exchange, last).await {
                Ok(again) => Ok(again),
                // As a first try would: to another one, if any is left.
                Err((gone, failure, false)) if failure.cause == Cause::ConnectFailed => {
                    let alone = Tried::default();
                    let tried = request.tries().map_or(&alone, |tries| &tries.tried);
                    let earlier = tried.count();
                    tried.push(gone.chosen().index);
                    drop(gone);
                    let others = (tried, earlier);
                    match connect_try(connection, exchange, way, None, others).await {
                        Ok(other) => Ok(other),
                        Err(none) => {
                            let is_none = none.cause == Cause::NoHealthyUpstream;
                            let failure = if is_none { failure } else { none };
                            obtain_again(connection, request, exchange, way, failure).await
                        }
                    }
                }
                Err((gone, failure, _)) => {
                    leave(gone);
                    obtain_again(connection, request, exchange, way, failure).await
                }
            }
        }
        Ended::Failed { failure, .. } => {
            leave(last);
            obtain_again(connection, request, exchange, way, failure).await
        }
        Ended::Refused(wait) => {
            leave(last);
            obtain_after(connection, request, exchange, way, wait).await
        }
    }
}

/// Sends a second request beside a slow one, if it is paid for and a connection can be had before the
/// first is answered.
pub async fn start_rival(
    connection: &Connection,
    request: &mut Request,
    exchange: &Exchange,
    way: &Way,
    this: &Try,
) -> Option<Try> {
    let shard = &connection.shard;
    let metrics = &shard.metrics().hedge;
    let (tries, hedge) = (request.tries()?, request.rare.as_ref()?.hedge.as_ref()?);
    let now_ns = lateen_ring::now().as_nanos();
    if !tries.enter(&way.cluster) || !hedge.pay() || !way.cluster.pay_for_try(now_ns) {
        tries.leave_unless_again();
        metrics.denied.increment();
        return None;
    }
    tries.tried.push(this.in_flight.chosen().index);
    let obtained = {
        let tried = (&tries.tried, tries.tried.count());
        let obtaining = obtain(connection, &way.cluster, exchange, None, tried, Patience::None);
        let mut obtaining = pin!(obtaining);
        poll_fn(|cx| {
            if this.upstream.stream.poll_news(cx).is_ready() {
                return Poll::Ready(None);
            }
            obtaining.as_mut().poll(cx).map(Result::ok)
        })
        .await
    };
    exchange.chose(this.in_flight.chosen().index);
    let Some(rival) = obtained else {
        tries.leave_unless_again();
        metrics.ended[HedgeEnd::Failed as usize].increment();
        return None;
    };
    tries.begin_beside();
    tries.tried.push(rival.in_flight.chosen().index);
    exchange.retries.set(exchange.retries.get() + 1);
    let first_sent = exchange.sent_at.get();
    send_message(shard, request, exchange, &rival);
    // What a request takes is counted from its first try on.
    exchange.sent_at.set(first_sent);
    Some(rival)
}

/// Whether a request may be sent again whose endpoint may have seen it, without a route's leave.
pub fn may_replay(request: &Request) -> bool {
    request.method.is_idempotent() || plant::has(Plant::PostReplayed)
}

/// A connection for the next try after `failure`, if there is one.
async fn obtain_again(
    connection: &Connection,
    request: &Request,
    exchange: &Exchange,
    way: &Way,
    failure: Failure,
) -> Result<Try, Failure> {
    match claim_after_failure(connection, exchange, request, failure) {
        Some(wait) => obtain_after(connection, request, exchange, way, wait).await,
        None => Err(failure),
    }
}

/// A connection for a try that was paid for, after `wait`; and for the next ones, if it can't be had.
async fn obtain_after(
    connection: &Connection,
    request: &Request,
    exchange: &Exchange,
    way: &Way,
    mut wait: Duration,
) -> Result<Try, Failure> {
    let tried = &request.tries().expect("who has none claims none").tried;
    loop {
        unless_gone(connection, lateen_ring::sleep(wait)).await?;
        let tried = (tried, tried.count());
        let failure = match connect_try(connection, exchange, way, None, tried).await {
            Ok(next) => return Ok(next),
            Err(failure) => failure,
        };
        wait = claim_after_failure(connection, exchange, request, failure).ok_or(failure)?;
    }
}

/// Where a request goes.
pub struct Way {
    /// Who answers it.
    pub cluster: Rc<Cluster>,
    /// The route has a breaker.
    pub has_breaker: bool,
}

/// What the snapshot says of a request's way. Copies go to the mirrors of its route.
///
/// # Errors
/// It leads nowhere, or its caller waits no longer.
#[inline]
pub fn set_out(
    connection: &Connection,
    request: &Request,
    exchange: &Exchange,
) -> Result<Way, Failure> {
    let shard = &connection.shard;
    let live = exchange.live().ok_or_else(Failure::no_cluster)?;
    let plan = exchange.plan(&live).ok_or_else(Failure::no_cluster)?;
    let cluster = exchange.cluster(shard, &live).ok_or_else(Failure::no_cluster)?;
    let due = due(shard, request, exchange, plan);
    if due <= lateen_ring::now() {
        return Err(Failure::deadline_passed());
    }
    exchange.due.set(due);
    exchange.priority.set(plan.policy.priority.unwrap_or_default());
    if let Some(rare) = request.rare.as_ref().filter(|rare| rare.mirrored != 0) {
        mirror(shard, &live, plan, request, rare.mirrored);
    }
    exchange.each_ms.set(plan.policy.backend_request_timeout_ms.unwrap_or(0));
    let has_breaker = plan.policy.circuit_breaker.is_some();
    Ok(Way { cluster: Rc::clone(cluster), has_breaker })
}

/// When the exchange must be over: by its route, else by the process's config; and by its caller.
#[inline]
fn due(shard: &Shard, request: &Request, exchange: &Exchange, plan: &RoutePlan) -> Instant {
    let whole = match plan.policy.request_timeout_ms {
        Some(0) => Instant::NEVER,
        Some(ms) => exchange.began.plus_millis(ms.into()),
        None => {
            let of_process = shard.config.timeouts.request;
            of_process.map_or(Instant::NEVER, |timeout| exchange.began + timeout)
        }
    };
    match request.rare.as_ref().and_then(|rare| rare.deadline) {
        None => whole,
        Some(deadline) => whole.min(deadline),
    }
}

/// Starts sending the head, and the body if it is with it; keeps what may have to be sent again.
#[inline]
pub fn send_message(shard: &Shard, request: &mut Request, exchange: &Exchange, this: &Try) {
    if request.rare.is_some() {
        if let Some(flow) = request.up_flow() {
            flow.pass_kept();
        }
        put_try(request, exchange);
    }
    let message = std::mem::take(&mut request.message);
    exchange.sent_at.set(lateen_ring::now());
    shard.upstream_counts().write_bytes.add(message.len() as u64);
    let upstream = &this.upstream.stream;
    if (this.pooled && may_replay(request)) || request.repeats() {
        request.message = upstream.start_send_kept(message).1;
    } else {
        upstream.start_send(one(message));
    }
}

/// Writes into the head what is to be said of this try: which it is, and how long its caller waits.
fn put_try(request: &mut Request, exchange: &Exchange) {
    let Some(rare) = &mut request.rare else { return };
    let put_lines = |lines: &mut Vec<u8>| {
        match rare.tries.as_ref().map(Tries::sent) {
            None => {}
            // Of most requests.
            Some(1) => lines.extend_from_slice(b"X-Attempt-Count: 1\r\n"),
            Some(sent) => put_number_line(b"X-Attempt-Count: ", sent.into(), lines),
        }
        if rare.deadline.is_some() {
            let left = exchange.due.get().since(lateen_ring::now());
            put_number_line(b"X-Request-Timeout-Ms: ", left.as_millis() as u64, lines);
        }
    };
    // Before the empty line that ends the head.
    let (at, message) = (rare.head_bytes - 2, &mut request.message);
    let end = at + rare.try_bytes;
    rare.try_bytes = if end + 2 == message.len() {
        message.truncate(at);
        put_lines(message);
        let try_bytes = message.len() - at;
        message.extend_from_slice(b"\r\n");
        try_bytes
    } else {
        let mut lines = spare_vector();
        put_lines(&mut lines);
        message.splice(at..end, lines.iter().copied());
        let try_bytes = lines.len();
        keep_vector(lines);
        try_bytes
    };
}

/// How the connection of a try ends that failed.
pub fn close_reason(failure: Failure) -> CloseReason {
    match (failure.side, failure.cause) {
        (Side::Upstream, Cause::UpstreamReset) => CloseReason::ConnectionReset,
        (Side::Upstream, Cause::UpstreamTimeout) => CloseReason::TimedOut,
        _ => CloseReason::Orderly,
    }
}
