//! The L7 conductor: one request from its first byte to its answer's last.
//!
//! Before: `connection` has the first bytes of a request. Then, in this order: read and judge the
//! head, choose an endpoint, get a connection to it, send the request, pass the response on, keep
//! what can be kept, observe. After: the client's next request, or the end of its connection. It
//! owns the branching; the rooms it calls never call each other.

use std::cell::Cell;
use std::future::{Future as _, poll_fn};
use std::pin::pin;
use std::task::Poll;

use lateen_ring::{Instant, Moved, Stream, keep_vector, spare_vector};

use crate::client::Connection;
use crate::codec::body::{BodyProgress, Framing};
use crate::codec::http1::fields::FieldScratch;
use crate::codec::http1::reply::{LocalReply, write_local_reply, write_trace_reply};
use crate::codec::http1::request::{
    RequestError, RequestHead, allowed_methods, may_end_head, parse_request,
};
use crate::codec::http1::write_request::{RequestForwarding, write_request};
use crate::codec::message::{Method, Scheme};
use crate::decide::balance::EndpointIndex;
use crate::exchange::{Exchange, Logged, Request};
use crate::failure::{Cause, Failure, Refusal, Side, Stage};
use crate::forward::obtain::{dial, obtain, take_pooled};
use crate::forward::pool::{Upstream, close_upstream};
use crate::forward::received::Received;
use crate::forward::request_body::send_request_body;
use crate::forward::response::{Call, Responded, respond};
use crate::forward::transfer::{Stopped, Timer, one, receive, send};
use crate::forward::tunnel::{End, Passed, end_tunnel, tunnel};
use crate::limits;
use crate::observe::metrics::CloseReason;
use crate::plant::{self, Plant};
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
}

/// Serves one request, whose first bytes are in `received`; what came behind it stays there.
///
/// Whatever is rare on the way of a request is boxed, so that its future stays small.
pub async fn proxy_request(connection: &Connection, received: &mut Received) -> After {
    let exchange = Exchange::begin(lateen_ring::now());
    let mut request = Request::unread();

    // The head. Nothing was forwarded yet: whatever is wrong with it is answered here and ends the
    // connection.
    {
        let head = match judge_head(connection, received, &exchange, &mut request) {
            Ok(Some(head)) => Ok(head),
            Ok(None) => Box::pin(read_head(connection, received, &exchange, &mut request)).await,
            Err(failure) => Err(failure),
        };
        if !matches!(head, Ok(Head::Request)) {
            return Box::pin(answer_head(connection, &exchange, head)).await;
        }
    }

    // The exchange. From here on a failure may come before or after the first byte of a response.
    let outcome = forward(connection, received, &mut request, &exchange).await;
    keep_vector(std::mem::take(&mut request.message));
    match outcome {
        Ok(done) => conclude(connection, &exchange, &done),
        Err(failure) => Box::pin(fail(connection, &exchange, failure, Some(&request))).await,
    }
}

/// What a head asks for.
enum Head {
    /// To be forwarded.
    Request,
    /// The proxy is the last hop for it (Max-Forwards: 0).
    Answer { reply: Vec<u8>, keep_alive: bool },
}

/// Answers a request whose head says all there is to say.
async fn answer_head(
    connection: &Connection,
    exchange: &Exchange,
    head: Result<Head, Failure>,
) -> After {
    match head {
        Ok(Head::Answer { reply, keep_alive }) => {
            answer(connection, exchange, reply, keep_alive).await
        }
        Ok(Head::Request) => unreachable!("that is forwarded"),
        Err(failure) => fail(connection, exchange, failure, None).await,
    }
}

/// Waits for the rest of a head that did not come in one piece.
async fn read_head(
    connection: &Connection,
    received: &mut Received,
    exchange: &Exchange,
    request: &mut Request,
) -> Result<Head, Failure> {
    let shard = &connection.shard;
    let timeout = shard.config.timeouts.header;
    let timer = Timer { deadline: &connection.deadline, until: exchange.began + timeout };
    loop {
        let seen = received.bytes().len();
        received.settle();
        match receive(&connection.stream, connection.counts(), timer, timeout).await {
            Ok(Some(lease)) => received.push(lease),
            Ok(None) => return Err(Failure::client_gone(Stage::RequestHead)),
            Err(Stopped::Broken(reason)) => {
                connection.closes_for(reason);
                return Err(Failure::client_gone(Stage::RequestHead));
            }
            Err(Stopped::TimedOut) => {
                return Err(Failure::refused(Stage::RequestHead, Refusal::RequestTimeout));
            }
        }
        if may_end_head(received.bytes(), seen, &shard.head_limits)
            && let Some(head) = judge_head(connection, received, exchange, request)?
        {
            return Ok(head);
        }
    }
}

/// Parses the head, and if it is whole, rewrites it for the upstream into `request`. No await: the
/// scratch for its fields never becomes part of a future.
#[inline]
fn judge_head(
    connection: &Connection,
    received: &mut Received,
    exchange: &Exchange,
    request: &mut Request,
) -> Result<Option<Head>, Failure> {
    let shard = &connection.shard;
    let mut scratch = FieldScratch::new();
    let parsed = parse_request(received.bytes(), &mut scratch, &shard.head_limits);
    let head = match parsed {
        Ok(Some(head)) => head,
        Ok(None) => return Ok(None),
        Err(error) => return Err(refuse(exchange, error)),
    };
    exchange.version.set(head.version);
    exchange.method.set(head.method);
    let made_id = head.request_id.is_none().then(|| shard.request_id());
    if shard.logs() {
        let made = made_id.as_ref().map_or(&b""[..], |id| &id[..]);
        let id = head.request_id.unwrap_or(made);
        exchange.keep_for_log(Logged::new(
            head.method_text.as_bytes(),
            head.authority.unwrap_or(b""),
            head.target,
            id,
        ));
    }
    if let (Framing::Length(length), Some(max)) = (head.framing, shard.config.sizes.body_bytes_max)
        && length > max
    {
        return Err(Failure::refused(Stage::RequestHead, Refusal::ContentTooLarge));
    }
    if head.max_forwards == Some(0) {
        let answer = answer_as_last_hop(connection, &head);
        let consumed = head.consumed;
        received.consume(consumed);
        return Ok(Some(answer));
    }
    let forwarding = RequestForwarding {
        client_address: connection.address_text(),
        scheme: Scheme::Http,
        request_id: made_id.as_ref().map(|id| &id[..]),
        authority_if_missing: &shard.fallback_authority,
        upgrade: true,
        edits: None,
    };
    request.message = spare_vector();
    write_request(&head, &forwarding, &mut request.message);
    request.method = head.method;
    request.version = head.version;
    request.framing = head.framing;
    request.keep_alive = head.keep_alive;
    request.upgrade = head.upgrade.map(Box::from);
    let consumed = head.consumed;
    received.consume(consumed);
    if request.framing == Framing::None {
        exchange.request_whole.set(true);
    } else {
        request.body = BodyProgress::new(request.framing);
        inline_body(received, request, exchange);
        shard.metrics().bytes_copied.add(exchange.request_bytes.get());
        exchange.request_whole.set(request.body.is_done());
    }
    Ok(Some(Head::Request))
}

/// Puts a small body that is all there behind its head: one send, and the request can be replayed.
fn inline_body(received: &mut Received, request: &mut Request, exchange: &Exchange) {
    let Framing::Length(length) = request.framing else { return };
    let here = received.bytes().len() as u64;
    if length > 0 && length <= here && length <= limits::INLINE_BODY_BYTES_MAX as u64 {
        request.message.extend_from_slice(&received.bytes()[..length as usize]);
        received.consume(length as usize);
        request.body.take_plain(length);
        exchange.request_bytes.set(length);
    }
}

fn refuse(exchange: &Exchange, error: RequestError) -> Failure {
    exchange.allow.set(error.allow());
    Failure::refused(Stage::RequestHead, Refusal::from_status(error.status()))
}

fn answer_as_last_hop(connection: &Connection, head: &RequestHead<'_>) -> Head {
    let shard = &connection.shard;
    let bodyless = matches!(head.framing, Framing::None | Framing::Length(0));
    let keep_alive = head.keep_alive && bodyless && !shard.is_draining();
    let mut reply = spare_vector();
    if head.method == Method::Trace {
        write_trace_reply(head, keep_alive, &shard.date(), &mut reply);
    } else {
        let allow = allowed_methods(shard.config.trace_method);
        let local = LocalReply {
            status: 200,
            client_version: head.version,
            keep_alive,
            head_only: false,
            allow: Some(allow),
            retry_after_s: None,
            date: &shard.date(),
            location: None,
            edits: None,
        };
        write_local_reply(&local, &mut reply);
    }
    Head::Answer { reply, keep_alive }
}

/// What an exchange that went well leaves behind.
struct Done {
    /// Whether the client's connection can carry another request.
    keep_alive: bool,
    /// Whether the client may be sending still: the rest of this request, or a next one that it was
    /// told too late not to send.
    sends_on: bool,
}

/// Chooses an endpoint, gets a connection and exchanges the messages; a pooled connection that died
/// before it answered is replaced once where the request may be sent again.
async fn forward(
    connection: &Connection,
    received: &mut Received,
    request: &mut Request,
    exchange: &Exchange,
) -> Result<Done, Failure> {
    let shard = &connection.shard;
    let until = shard.config.timeouts.request.map_or(Instant::NEVER, |t| exchange.began + t);
    let timer = Timer { deadline: &connection.deadline, until };
    let (in_flight, mut upstream, mut pooled) = match take_pooled(connection) {
        Ok((in_flight, upstream)) => (in_flight, upstream, true),
        Err(endpoint) => Box::pin(obtain(connection, exchange, endpoint, timer)).await?,
    };
    loop {
        exchange.chose(in_flight.endpoint());
        let has_body_to_send = !request.body.is_done();
        send_message(shard, request, exchange, &upstream.stream, pooled);

        // What is left of the request's body goes up while the response comes down: an upstream may
        // answer before it has read everything.
        let outcome = if !has_body_to_send {
            exchange.request_over_at.set(exchange.sent_at.get());
            let call = Call {
                connection,
                request,
                exchange,
                upstream: &upstream.stream,
                timer,
                body_sent: Cell::new(true),
            };
            respond(&call).await
        } else {
            Box::pin(converse_with_body(connection, received, request, exchange, &upstream, timer))
                .await
        };
        let failure = match outcome {
            Ok(Responded::Whole { keep_alive, upstream_reusable, request_whole }) => {
                exchange.upstream_done_at.set(lateen_ring::now());
                let endpoint = in_flight.endpoint();
                // Checked here, not in the pool: only a body that was read by count can leave
                // something unseen.
                let clean = !exchange.read_by_count.get() || !upstream.stream.has_unread();
                keep_or_close(shard, endpoint, upstream, upstream_reusable && clean);
                let sends_on = !request_whole || request.keep_alive;
                return Ok(Done { keep_alive, sends_on });
            }
            Ok(Responded::Upgraded { from_upstream }) => {
                exchange.upstream_done_at.set(lateen_ring::now());
                debug_assert!(request.upgrade.is_some(), "an unasked 101 is an error");
                let joining = join(connection, received, exchange, upstream, from_upstream);
                return Ok(Box::pin(joining).await);
            }
            Err(failure) => failure,
        };
        close_upstream(upstream, close_reason(failure));
        let unheard = exchange.status.get() == 0 && !exchange.heard_upstream.get();
        // Its body is whole in memory, or not one byte of it has been taken.
        let can_be_sent = request.body.is_done() != has_body_to_send && replay_is_kept(request);
        if pooled && unheard && failure.cause == Cause::UpstreamReset && can_be_sent {
            exchange.retries.set(exchange.retries.get() + 1);
            upstream = Box::pin(dial(connection, in_flight.endpoint(), timer)).await?;
            pooled = false;
            continue;
        }
        return Err(failure);
    }
}

/// Starts sending the head, and the body if it is with it; keeps what may have to be sent again.
#[inline]
fn send_message(
    shard: &Shard,
    request: &mut Request,
    exchange: &Exchange,
    upstream: &Stream,
    pooled: bool,
) {
    let message = std::mem::take(&mut request.message);
    exchange.sent_at.set(lateen_ring::now());
    shard.upstream_counts().write_bytes.add(message.len() as u64);
    let replayable = request.method.is_idempotent() || plant::has(Plant::PostReplayed);
    let may_begin_anew = request.body.is_done() || request.body.remaining().is_some();
    if pooled && may_begin_anew && replayable {
        request.message = upstream.start_send_kept(message).1;
    } else {
        upstream.start_send(one(message));
    }
}

fn replay_is_kept(request: &Request) -> bool {
    !request.message.is_empty()
}

fn close_reason(failure: Failure) -> CloseReason {
    match (failure.side, failure.cause) {
        (Side::Upstream, Cause::UpstreamReset) => CloseReason::ConnectionReset,
        (Side::Upstream, Cause::UpstreamTimeout) => CloseReason::TimedOut,
        _ => CloseReason::Orderly,
    }
}

/// Sends what is left of the request's body and passes the response on, both at the same time.
async fn converse_with_body(
    connection: &Connection,
    received: &mut Received,
    request: &mut Request,
    exchange: &Exchange,
    upstream: &Upstream,
    timer: Timer<'_>,
) -> Result<Responded, Failure> {
    let framing = request.framing;
    let mut body = std::mem::replace(&mut request.body, BodyProgress::new(Framing::None));
    let moved = Moved::default();
    let outcome = {
        let sending = send_request_body(
            connection,
            exchange,
            &upstream.stream,
            received,
            &mut body,
            &moved,
            timer.until,
        );
        let mut sending = pin!(sending);
        let call = Call {
            connection,
            request,
            exchange,
            upstream: &upstream.stream,
            timer,
            body_sent: Cell::new(false),
        };
        let mut responding = pin!(respond(&call));
        let mut is_sending = true;
        poll_fn(|cx| {
            if is_sending {
                match sending.as_mut().poll(cx) {
                    Poll::Ready(Ok(())) => {
                        is_sending = false;
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
    let untouched = exchange.request_bytes.get() == 0 && moved.taken() == 0;
    if outcome.is_err() && untouched && matches!(framing, Framing::Length(_)) {
        // All of the body is still to come: the request may be sent again.
        request.body = BodyProgress::new(framing);
        exchange.request_over_at.set(Instant::NEVER);
    }
    outcome
}

/// Keeps the upstream's connection after a response that was passed on whole, or closes it.
#[inline]
fn keep_or_close(shard: &Shard, endpoint: EndpointIndex, upstream: Upstream, reusable: bool) {
    if reusable && !upstream.stream.is_sending() {
        shard.pool.put(shard, endpoint, upstream);
    } else {
        close_upstream(upstream, CloseReason::Orderly);
    }
}

/// Joins both sides after a 101.
async fn join(
    connection: &Connection,
    received: &mut Received,
    exchange: &Exchange,
    upstream: Upstream,
    from_upstream: Received,
) -> Done {
    let shard = &connection.shard;
    let passed = Passed::default();
    let client = End {
        stream: &connection.stream,
        counts: connection.counts(),
        // A hasty client's first bytes came behind its request.
        received: std::mem::take(received),
    };
    let server =
        End { stream: &upstream.stream, counts: shard.upstream_counts(), received: from_upstream };
    let idle_timeout = shard.config.timeouts.idle;
    let ended =
        tunnel(client, server, &connection.deadline, idle_timeout, shard.metrics(), &passed).await;
    exchange.request_bytes.set(passed.up.get());
    exchange.response_bytes.set(passed.down.get());
    exchange.tunnel_failure.set(end_tunnel(connection, upstream, ended));
    Done { keep_alive: false, sends_on: false }
}

/// Sends an answer of the proxy's own to a request that was well formed.
async fn answer(
    connection: &Connection,
    exchange: &Exchange,
    reply: Vec<u8>,
    keep_alive: bool,
) -> After {
    let timeout = connection.shard.config.timeouts.write;
    let sent =
        send(&connection.stream, connection.counts(), connection.timer(), timeout, one(reply));
    exchange.status.set(200);
    let failure = sent.await.err().map(|_| Failure::client_gone(Stage::ResponseBody));
    exchange.observe(connection, failure);
    match failure {
        None if keep_alive => After::KeepAlive,
        None => After::Linger,
        Some(_) => After::Close,
    }
}

/// Counts and logs an exchange that went well, and decides over the client's connection.
#[inline]
fn conclude(connection: &Connection, exchange: &Exchange, done: &Done) -> After {
    let tunnel_failure = exchange.tunnel_failure.get();
    exchange.observe(connection, tunnel_failure);
    match done {
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
        && !shard.is_draining();
    let mut reply = spare_vector();
    let local = LocalReply {
        status,
        client_version: exchange.version.get(),
        keep_alive,
        head_only: exchange.method.get() == Method::Head,
        allow: exchange.allow.get(),
        retry_after_s: (failure.cause == Cause::Overflow).then_some(1),
        date: &shard.date(),
        location: None,
        edits: None,
    };
    write_local_reply(&local, &mut reply);
    exchange.status.set(status);
    let timeout = shard.config.timeouts.write;
    let sent =
        send(&connection.stream, connection.counts(), connection.timer(), timeout, one(reply))
            .await;
    match sent {
        Ok(()) if keep_alive => After::KeepAlive,
        Ok(()) => After::Linger,
        Err(_) => After::Close,
    }
}
