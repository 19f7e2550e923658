//! The L7 conductor: one request from its first byte to its answer's last.
//!
//! Before: `connection` has the first bytes of a request. Then, in this order: read and judge the
//! head, choose an endpoint, get a connection to it, send the request, pass the response on, keep
//! what can be kept, observe. After: the client's next request, or the end of its connection. It
//! owns the branching; the rooms it calls never call each other.

use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;

use lateen_ring::{Instant, Moved, keep_vector, spare_vector};
use lateen_snapshot::model::breaker::Fallback;

use crate::attempt::{
    Ended, Way, close_reason, first_try, may_replay, send_message, set_out, try_again,
};
use crate::breaker::{self, Verdict};
use crate::client::Connection;
use crate::cluster::Chosen;
use crate::codec::body::{BodyProgress, Framing};
use crate::codec::http1::reply::{LocalReply, body_bytes_of, write_body_reply, write_local_reply};
use crate::codec::http1::request::allowed_methods;
use crate::codec::http1::write_response::ResponseEdits;
use crate::codec::message::Method;
use crate::exchange::{CutWatch, Exchange, Request};
use crate::failure::{Cause, Failure, Side, Stage};
use crate::fallback::lead_elsewhere;
use crate::forward::fault::inject;
use crate::forward::held::hold_request;
use crate::forward::obtain::{Try, take_pooled};
use crate::forward::pool::{Upstream, close_upstream};
use crate::forward::received::Received;
use crate::forward::request_body::{Upload, send_request_body};
use crate::forward::response::{Call, Responded, respond};
use crate::forward::transfer::{Stopped, one, send};
use crate::forward::tunnel::{Bounds, End, Passed, end_tunnel, tunnel};
use crate::health::tries::{note_answered, note_failed};
use crate::hedged::{call, hedge_at, respond_hedged};
use crate::judge::own::put_epoch;
use crate::judge::{Head, OwnAnswer, await_body, judge_head, read_head};
use crate::observe::metrics::CloseReason;
use crate::overload;
use crate::plant::{self, Plant};
use crate::rate_limit::flow::Flows;
use crate::shard::Shard;

/// What becomes of the client's connection after a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum After {
    /// It carries another request.
    KeepAlive,
    /// It closes.
    Close,
    /// It closes, but the client may still be sending: it must be able to read its answer.
    Linger,
    /// It closes with a reset, because its end would otherwise look like the end of a body.
    Reset,
    /// A tunnel was made of it that has lasted as long as it may: both ends know, and it is counted.
    Parted,
}

/// Serves one request, whose first bytes are in `received`; what came behind it stays there.
///
/// Whatever is rare on the way of a request is boxed, so that its future stays small.
#[expect(clippy::manual_async_fn, reason = "an async fn would keep its arguments twice")]
pub fn proxy_request<'a>(
    connection: &'a Connection,
    received: &'a mut Received,
) -> impl Future<Output = After> + 'a {
    async move {
        let exchange = Exchange::begin(connection.take_request_began());
        let _watch = CutWatch { connection, exchange: &exchange };
        let mut request = Request::unread();

        // The head. Nothing was forwarded yet: whatever is wrong with it is answered here and ends the
        // connection.
        {
            let head = match judge_head(connection, received, &exchange, &mut request) {
                Ok(Some(head)) => Ok(head),
                Ok(None) => {
                    Box::pin(read_head(connection, received, &exchange, &mut request)).await
                }
                Err(failure) => Err(failure),
            };
            if !matches!(head, Ok(Head::Request)) {
                return Box::pin(answer_head(connection, &exchange, head)).await;
            }
        }

        // The exchange. From here on a failure may come before or after the first byte of a response.
        let outcome = forward(connection, received, &mut request, &exchange).await;
        breaker::note_end(&exchange, &outcome);
        overload::note_end(&exchange, &outcome);
        keep_vector(std::mem::take(&mut request.message));
        match outcome {
            Ok(done) => conclude(connection, &exchange, &done),
            Err(_) if exchange.falls_back.get() => {
                Box::pin(fall_back(connection, &exchange, &request)).await
            }
            Err(failure) => Box::pin(fail(connection, &exchange, failure, Some(&request))).await,
        }
    }
}

/// Answers a request whose head says all there is to say.
async fn answer_head(
    connection: &Connection,
    exchange: &Exchange,
    head: Result<Head, Failure>,
) -> After {
    match head {
        Ok(Head::Answer(own)) => answer(connection, exchange, own).await,
        Ok(Head::Request) => unreachable!("that is forwarded"),
        Err(failure) => fail(connection, exchange, failure, None).await,
    }
}

/// What an exchange that went well leaves behind.
struct Done {
    /// Whether the client's connection can carry another request.
    keep_alive: bool,
    /// Whether the client may be sending still: the rest of this request, or a next one that it was
    /// told too late not to send.
    sends_on: bool,
}

/// Chooses an endpoint, gets a connection and exchanges the messages; does so again, as the route and
/// the rules of safety allow, where a try comes to nothing.
async fn forward(
    connection: &Connection,
    received: &mut Received,
    request: &mut Request,
    exchange: &Exchange,
) -> Result<Done, Failure> {
    let shard = &connection.shard;
    if !request.body.is_done() && request.rare.as_ref().is_some_and(|rare| rare.awaits_body) {
        Box::pin(await_body(connection, received, request, exchange)).await?;
    }
    let mut way = set_out(connection, request, exchange)?;
    // A body that is to come is held as it comes.
    let is_held = exchange.request_bytes.get() > 0 && request.up_flow().is_some();
    if is_held || request.rare.as_ref().is_some_and(|rare| rare.fault.is_some()) {
        Box::pin(hold_back(connection, request, exchange)).await?;
    }
    if way.has_breaker {
        admit(connection, request, exchange, &mut way)?;
    }
    // A request of its own cap, as long as the exchange lasts.
    if way.cluster.bulkhead.caps_requests() && !overload::try_enter(exchange, &way) {
        Box::pin(overload::enter(connection, exchange, &way)).await?;
    }
    way.cluster.note_request();
    let mut this = match take_pooled(connection, &way.cluster, exchange) {
        Ok((in_flight, upstream)) => {
            Try { in_flight, upstream, pooled: true, until: exchange.try_until() }
        }
        Err(endpoint) => Box::pin(first_try(connection, request, exchange, &way, endpoint))
            .await
            .map_err(|failure| blame(request, exchange, failure))?,
    };
    loop {
        exchange.chose(this.in_flight.chosen().index);
        let has_body_to_send = !request.body.is_done();
        send_message(shard, request, exchange, &this);

        // What is left of the request's body goes up while the response comes down: an upstream may
        // answer before it has read everything.
        let outcome = if !has_body_to_send {
            exchange.request_over_at.set(exchange.sent_at.get());
            let mut call = call(connection, request, exchange, &this);
            if request.rare.is_some() {
                call.hedge_at = hedge_at(request);
            }
            match respond(&call).await {
                Ok(Responded::Hedge(_)) => {
                    let hedged = respond_hedged(connection, request, exchange, &way, &mut this);
                    Box::pin(hedged).await
                }
                outcome => outcome,
            }
        } else {
            Box::pin(converse_with_body(connection, received, request, exchange, &this)).await
        };
        let Try { mut in_flight, upstream, pooled, .. } = this;
        let ended = match outcome {
            Ok(Responded::Whole { keep_alive, upstream_reusable, request_whole }) => {
                exchange.upstream_done_at.set(lateen_ring::now());
                in_flight.leave_out_since(exchange.answered_at.get());
                // Checked here, not in the pool: only a body that was read by count can leave
                // something unseen.
                let is_short = !exchange.read_by_count.get();
                let clean = is_short || !upstream.stream.has_unread();
                in_flight.chosen().endpoint().note_response(is_short);
                note_answered(shard, in_flight.chosen(), exchange, exchange.status.get());
                keep_or_close(shard, in_flight.chosen(), upstream, upstream_reusable && clean);
                if request.rare.is_some() {
                    note_success(shard, request, exchange);
                }
                let sends_on = !request_whole || request.keep_alive;
                return Ok(Done { keep_alive, sends_on });
            }
            Ok(Responded::Upgraded { from_upstream }) => {
                exchange.upstream_done_at.set(lateen_ring::now());
                in_flight.leave_untimed();
                debug_assert!(request.upgrade().is_some(), "an unasked 101 is an error");
                note_answered(shard, in_flight.chosen(), exchange, exchange.status.get());
                exchange.count_upgrade(connection);
                exchange.let_go(shard);
                let flows = request.rare.as_ref().and_then(|rare| rare.flows.as_ref());
                let cluster = &in_flight.chosen().cluster;
                let bounds = Bounds {
                    idle_timeout: shard.config.timeouts.idle,
                    ends: connection.tunnel_ends(cluster, upstream.opened, None),
                };
                let server = (upstream, from_upstream);
                let joining = join(connection, received, exchange, server, bounds, flows);
                return Ok(Box::pin(joining).await);
            }
            Ok(Responded::Hedge(_)) => unreachable!("only who hedges is told"),
            Ok(Responded::Refused { wait, status, upstream_reusable }) => {
                note_answered(shard, in_flight.chosen(), exchange, status);
                keep_or_close(shard, in_flight.chosen(), upstream, upstream_reusable);
                Ended::Refused(wait)
            }
            Err(failure) => {
                let failure = blame(request, exchange, failure);
                close_upstream(upstream, close_reason(failure));
                // Its body is whole in memory, or not one byte of it has been taken.
                let can_be_sent = request.body.is_done() != has_body_to_send && request.is_kept();
                let was_stale = can_be_sent
                    && pooled
                    && !exchange.heard_upstream.get()
                    && failure.cause == Cause::UpstreamReset
                    && may_replay(request);
                if !was_stale {
                    note_failed(shard, in_flight.chosen(), failure);
                }
                if exchange.status.get() != 0 || !can_be_sent {
                    return Err(failure);
                }
                Ended::Failed { failure, was_stale }
            }
        };
        this = Box::pin(try_again(connection, request, exchange, &way, in_flight, ended))
            .await
            .map_err(|failure| blame(request, exchange, failure))?;
    }
}

/// Waits as long as a fault or a limit of bytes has the request wait before it goes anywhere.
async fn hold_back(
    connection: &Connection,
    request: &Request,
    exchange: &Exchange,
) -> Result<(), Failure> {
    if let Some(fault) = request.rare.as_ref().and_then(|rare| rare.fault) {
        inject(connection, exchange, fault, exchange.due.get()).await?;
    }
    match request.up_flow() {
        None => Ok(()),
        Some(flow) => hold_request(connection, exchange, flow).await,
    }
}

/// Asks the route's breaker. What it does not let through may lead elsewhere.
fn admit(
    connection: &Connection,
    request: &mut Request,
    exchange: &Exchange,
    way: &mut Way,
) -> Result<(), Failure> {
    let live = exchange.live().ok_or_else(Failure::no_cluster)?;
    let plan = exchange.plan(&live).ok_or_else(Failure::no_cluster)?;
    let rule = plan.policy.circuit_breaker.as_deref().expect("the way says that there is one");
    match breaker::admit(&connection.shard, &live, rule, request, exchange)? {
        Verdict::Admitted => {}
        Verdict::Elsewhere(cluster) => {
            way.cluster = lead_elsewhere(&connection.shard, &live, request, exchange, cluster);
        }
    }
    Ok(())
}

/// Whose fault a failure is: that a caller waits no longer than it said is no endpoint's.
fn blame(request: &Request, exchange: &Exchange, failure: Failure) -> Failure {
    let by_caller = request.rare.as_ref().and_then(|rare| rare.deadline);
    match failure.cause {
        Cause::UpstreamTimeout
            if by_caller.is_some_and(|at| at <= exchange.due.get())
                && lateen_ring::now() >= exchange.due.get() =>
        {
            Failure::deadline_passed()
        }
        _ => failure,
    }
}

/// More than one try ended well.
#[cold]
fn note_success(shard: &Shard, request: &Request, exchange: &Exchange) {
    if request.tries().is_some_and(|tries| tries.sent() > 1) && exchange.status.get() < 500 {
        shard.metrics().retry.success.increment();
    }
}

/// Sends what is left of the request's body and passes the response on, both at the same time.
async fn converse_with_body(
    connection: &Connection,
    received: &mut Received,
    request: &mut Request,
    exchange: &Exchange,
    this: &Try,
) -> Result<Responded, Failure> {
    let framing = request.framing;
    let mut body = std::mem::replace(&mut request.body, BodyProgress::new(Framing::None));
    // Who sends a body as it comes can't send it again.
    let kept = std::mem::take(&mut request.message);
    let moved = Moved::default();
    let outcome = {
        let (upstream, flow) = (&this.upstream.stream, request.up_flow());
        // What a limit holds back takes its time by the route's word, not by the endpoint's doing: the try's
        // time begins when that is over.
        let until = if flow.is_some() { exchange.due.get() } else { this.until };
        let upload = Upload { upstream, moved: &moved, until, flow };
        let sending = send_request_body(connection, exchange, received, &mut body, upload);
        let mut sending = pin!(sending);
        let call = Call {
            connection,
            request,
            exchange,
            upstream,
            deadline: &connection.deadline,
            until: Cell::new(until),
            body_sent: Cell::new(false),
            hedge_at: Instant::NEVER,
            rival: None,
        };
        let mut responding = pin!(respond(&call));
        let mut is_sending = true;
        poll_fn(|cx| {
            if is_sending {
                match sending.as_mut().poll(cx) {
                    Poll::Ready(Ok(())) => {
                        is_sending = false;
                        if flow.is_some() {
                            call.until.set(exchange.try_until());
                        }
                        call.body_sent.set(true);
                        exchange.request_over_at.set(lateen_ring::now());
                    }
                    // The upstream does not want the rest; it may have said why.
                    Poll::Ready(Err(failure)) if failure.cause == Cause::UpstreamReset => {
                        is_sending = false;
                        exchange.request_over_at.set(lateen_ring::now());
                    }
                    Poll::Ready(Err(failure)) => return Poll::Ready(Err(failure)),
                    Poll::Pending => {}
                }
            }
            responding.as_mut().poll(cx)
        })
        .await
    };
    // A splice that was given up has told the body's progress nothing.
    if outcome.is_err() && body.is_untouched(framing) && moved.taken() == 0 {
        // All of the body is still to come: the request may be sent again.
        request.body = body;
        request.message = kept;
        exchange.request_over_at.set(Instant::NEVER);
    }
    outcome
}

/// Keeps the upstream's connection after a response that was passed on whole, or closes it.
#[inline]
fn keep_or_close(shard: &Rc<Shard>, chosen: &Chosen, upstream: Upstream, reusable: bool) {
    if reusable && !upstream.stream.is_sending() {
        shard.pool.put(shard, chosen, upstream);
    } else {
        close_upstream(upstream, CloseReason::Orderly);
    }
}

/// Joins both sides after a 101.
async fn join(
    connection: &Connection,
    received: &mut Received,
    exchange: &Exchange,
    (upstream, from_upstream): (Upstream, Received),
    bounds: Bounds,
    flows: Option<&Flows>,
) -> Done {
    let shard = &connection.shard;
    let passed = Passed::default();
    let _noted = NotedBytes { passed: &passed, exchange };
    let client = End {
        stream: &connection.stream,
        counts: connection.counts(),
        // A hasty client's first bytes came behind its request.
        received: std::mem::take(received),
    };
    let server =
        End { stream: &upstream.stream, counts: shard.upstream_counts(), received: from_upstream };
    let (deadline, metrics) = (&connection.deadline, shard.metrics());
    let ended = tunnel(client, server, deadline, bounds, metrics, &passed, flows).await;
    exchange.tunnel_failure.set(end_tunnel(connection, upstream, ended).await);
    Done { keep_alive: false, sends_on: false }
}

/// Notes for the log line what passed a tunnel, also one that is cut off.
struct NotedBytes<'a> {
    passed: &'a Passed,
    exchange: &'a Exchange,
}

impl Drop for NotedBytes<'_> {
    fn drop(&mut self) {
        self.exchange.request_bytes.set(self.passed.up.get());
        self.exchange.response_bytes.set(self.passed.down.get());
    }
}

/// Sends an answer of the proxy's own to a request that was well formed.
async fn answer(connection: &Connection, exchange: &Exchange, own: OwnAnswer) -> After {
    let OwnAnswer { reply, status, keep_alive, failure } = own;
    let sent = send_own(connection, exchange, status, reply).await;
    let gone = sent.err().map(|_| Failure::client_gone(Stage::ResponseBody));
    exchange.observe(connection, gone.or(failure));
    match gone {
        None if keep_alive => After::KeepAlive,
        None => After::Linger,
        Some(_) => After::Close,
    }
}

/// Answers what the route's breaker did not let through as the route says.
async fn fall_back(connection: &Connection, exchange: &Exchange, request: &Request) -> After {
    let shard = &connection.shard;
    let live = exchange.live();
    let plan = live.as_ref().and_then(|live| exchange.plan(live));
    let rule = plan.and_then(|plan| plan.policy.circuit_breaker.as_deref());
    let Some(Fallback::Response(fallback)) = rule.and_then(|rule| rule.fallback.as_ref()) else {
        return fail(connection, exchange, Failure::overflow(Stage::Decide), Some(request)).await;
    };
    let keep_alive = exchange.request_whole.get() && request.keep_alive && connection.may_go_on();
    let added = added_to_failure(connection, exchange, Some(request));
    let mut reply = spare_vector();
    let local = LocalReply {
        status: fallback.status,
        client_version: exchange.version.get(),
        keep_alive,
        head_only: exchange.method.get() == Method::Head,
        allow: None,
        retry_after_s: None,
        date: &shard.date(),
        location: None,
        edits: Some(ResponseEdits {
            fields: plan.and_then(|plan| plan.response_edits.as_deref()),
            cut: &[],
            lines: &added,
        }),
    };
    write_body_reply(&local, &fallback.content_type, fallback.body.as_bytes(), &mut reply);
    let own = OwnAnswer { reply, status: fallback.status, keep_alive, failure: None };
    answer(connection, exchange, own).await
}

/// Counts and logs an exchange that went well, and decides over the client's connection.
#[inline]
fn conclude(connection: &Connection, exchange: &Exchange, done: &Done) -> After {
    let tunnel_failure = exchange.tunnel_failure.get();
    exchange.observe(connection, tunnel_failure);
    match done {
        _ if tunnel_failure.is_some_and(|failure| failure.cause == Cause::Lasted) => After::Parted,
        // A tunnel that broke must not look as if it had ended.
        _ if tunnel_failure.is_some() => After::Reset,
        Done { keep_alive: true, .. } => After::KeepAlive,
        Done { sends_on: true, .. } => After::Linger,
        Done { .. } => After::Close,
    }
}

/// Answers a failure as far as that can still be done, counts and logs it, and decides over the
/// client's connection.
async fn fail(
    connection: &Connection,
    exchange: &Exchange,
    failure: Failure,
    request: Option<&Request>,
) -> After {
    let begun = exchange.status.get() != 0;
    let after = match failure.outcome().status {
        Some(status) if !begun => {
            answer_failure(connection, exchange, failure, status, request).await
        }
        _ if failure.cause == Cause::InjectedReset => After::Reset,
        _ if plant::has(Plant::TruncationUnmarked) => After::Close,
        _ if exchange.ends_by_close.get() => After::Reset,
        _ => After::Close,
    };
    exchange.observe(connection, Some(failure));
    after
}

async fn answer_failure(
    connection: &Connection,
    exchange: &Exchange,
    failure: Failure,
    status: u16,
    request: Option<&Request>,
) -> After {
    let shard = &connection.shard;
    // Where the request was read whole, it is not the client's connection that is at fault.
    let wanted = request.is_some_and(|request| request.keep_alive);
    let keep_alive = exchange.request_whole.get()
        && wanted
        && failure.side != Side::Downstream
        && connection.may_go_on();
    let added = added_to_failure(connection, exchange, request);
    let mut reply = spare_vector();
    let local = LocalReply {
        status,
        client_version: exchange.version.get(),
        keep_alive,
        head_only: exchange.method.get() == Method::Head,
        allow: (status == 405).then(|| allowed_methods(shard.config.trace_method)),
        retry_after_s: failure.retry_after_s(),
        date: &shard.date(),
        location: None,
        edits: Some(ResponseEdits { fields: None, cut: &[], lines: &added }),
    };
    write_local_reply(&local, &mut reply);
    match send_own(connection, exchange, status, reply).await {
        Ok(()) if keep_alive => After::KeepAlive,
        Ok(()) => After::Linger,
        Err(_) => After::Close,
    }
}

/// Sends an answer of the proxy's own, and notes for the log line that it was sent.
async fn send_own(
    connection: &Connection,
    exchange: &Exchange,
    status: u16,
    reply: Vec<u8>,
) -> Result<(), Stopped> {
    exchange.status.set(status);
    let body_bytes = body_bytes_of(&reply) as u64;
    let (timer, timeout) = (connection.timer(), connection.shard.config.timeouts.write);
    send(&connection.stream, connection.counts(), timer, timeout, one(reply)).await?;
    exchange.response_bytes.set(body_bytes);
    Ok(())
}

/// What an answer to a failure says as any other to the request would: what CORS lets a page read it,
/// and the epoch for who asks.
fn added_to_failure(
    connection: &Connection,
    exchange: &Exchange,
    request: Option<&Request>,
) -> Vec<u8> {
    if let Some(rare) = request.and_then(|request| request.rare.as_ref()) {
        return rare.added.lines.clone();
    }
    let mut lines = Vec::new();
    if exchange.wants_epoch.get() {
        let views = &connection.shard.views;
        let live = exchange.live().unwrap_or_else(|| views.of_slot(connection.slot));
        put_epoch(&live, &mut lines);
    }
    lines
}
