//! From the bytes of a head to what is to be done: forward the request, rewritten, to a backend of its
//! route, or answer it.
//!
//! Before: `request` has a request's first bytes. After: a [`Head`]; what the upstream is to get
//! stands in the [`Request`], and the [`Exchange`] knows its snapshot and route. The snapshot is
//! pinned here, once: whatever a request does later it does on that one.

mod limited;
pub mod own;

use std::time::Duration;

use lateen_ring::{Instant, room, spare_vector};
use lateen_snapshot::model::breaker::Fallback;

use crate::client::Connection;
use crate::codec::body::{BodyEncoding, BodyProgress, Framing};
use crate::codec::http1::request::{RequestError, RequestHead, may_end_head, parse_request};
use crate::codec::http1::write_request::{RequestEdits, RequestForwarding, write_request};
use crate::codec::message::Scheme;
use crate::decide::balance::Wish;
use crate::decide::balance::key::key_of_request;
use crate::decide::fault;
use crate::decide::retry::may_repeat;
use crate::decide::route::RequestView;
use crate::decide::route::plan::RoutePlan;
use crate::exchange::{Exchange, Logged, Rare, Request, RouteUse};
use crate::failure::{Cause, Failure, Refusal, Stage};
use crate::fallback::prepare_fallback;
use crate::forward::received::Received;
use crate::forward::transfer::{Stopped, Timer, receive};
use crate::judge::limited::limit_request;
use crate::judge::own::{
    OwnReply, added_by_route, answer_as_last_hop, answer_by_route, own_answer, put_epoch,
};
use crate::limits;
use crate::overload;
use crate::sessions::{Place, find_session};
use crate::shard::Shard;
use crate::tries::Tries;

/// What a head asks for.
#[derive(Debug)]
pub enum Head {
    /// To be forwarded.
    Request,
    /// The proxy answers itself.
    Answer(OwnAnswer),
}

/// An answer of the proxy's own to a request that was well formed.
#[derive(Debug)]
pub struct OwnAnswer {
    /// All of it.
    pub reply: Vec<u8>,
    /// Its status.
    pub status: u16,
    /// Whether the client's connection can carry another request.
    pub keep_alive: bool,
    /// What went wrong, if that is why.
    pub failure: Option<Failure>,
}

/// Waits for the rest of a head that did not come in one piece.
///
/// # Errors
/// [`Failure`]: the client's mistake, its leaving, or a route that leads nowhere.
pub async fn read_head(
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
        receive_more(connection, received, timer, timeout, Stage::RequestHead).await?;
        if may_end_head(received.bytes(), seen, &shard.head_limits)
            && let Some(head) = judge_head(connection, received, exchange, request)?
        {
            return Ok(head);
        }
    }
}

/// Parses the head, and if it is whole, rewrites it for the upstream into `request`. No await: the
/// scratch for its fields is the worker's. `None`: it is not whole.
///
/// # Errors
/// As [`read_head`].
#[inline]
pub fn judge_head(
    connection: &Connection,
    received: &mut Received,
    exchange: &Exchange,
    request: &mut Request,
) -> Result<Option<Head>, Failure> {
    let shard = &connection.shard;
    let mut scratch = shard.scratch.borrow_mut();
    let parsed = parse_request(received.bytes(), &mut scratch, &shard.head_limits);
    let head = match parsed {
        Ok(Some(head)) => head,
        Ok(None) => return Ok(None),
        Err(error) => return Err(refuse(error)),
    };
    exchange.note_asked();
    exchange.version.set(head.version);
    exchange.method.set(head.method);
    exchange.wants_epoch.set(head.wants_epoch);
    let made_id = head.request_id.is_none().then(|| shard.request_id());
    if shard.logs() {
        let made = made_id.as_ref().map_or(&b""[..], |id| &id[..]);
        let id = head.request_id.unwrap_or(made);
        exchange.keep_for_log(Logged::new(
            head.method_text,
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
    // The snapshot is pinned once; what follows runs on no other.
    let live = &shard.views.of_slot(connection.slot);
    exchange.pin(live.clone());
    if head.max_forwards == Some(0) {
        let answer = answer_as_last_hop(connection, live, &head);
        received.consume(head.consumed);
        return Ok(Some(answer));
    }
    // Where it goes.
    let view = RequestView::of(&head);
    let listener = live.loaded.index_of(connection.slot).ok_or_else(Failure::no_route)?;
    let Some(found) = live.loaded.tables.find(listener, &view, &live.regexes) else {
        let answer = own_answer(connection, live, &head, OwnReply::failed(Failure::no_route()));
        received.consume(head.consumed);
        return Ok(Some(answer));
    };
    let plan = live.loaded.tables.plan(found.route);
    // What the answer says of the limits that let the request through.
    let mut told = Vec::new();
    if let Some(limits) = plan.rate_limits
        && let Some(answer) = limit_request(connection, live, &head, &view, plan, limits, &mut told)
    {
        received.consume(head.consumed);
        return Ok(Some(answer));
    }
    if let Some(answer) = answer_by_route(connection, live, &head, &view, found, plan, &mut told) {
        received.consume(head.consumed);
        return Ok(Some(answer));
    }
    if head.timeout_ms == Some(0) {
        let reply = OwnReply::failed(Failure::deadline_passed());
        let answer = own_answer(connection, live, &head, reply);
        received.consume(head.consumed);
        return Ok(Some(answer));
    }
    let session = match plan.policy.session {
        None => None,
        Some(_) => find_session(shard, live, plan, &view),
    };
    let place = session.and_then(|(_, place)| place);
    let chosen = match place {
        None => plan.choose(shard.random()),
        Some(Place { index, backend, .. }) => Some((index, backend)),
    };
    let (index, backend) = chosen.expect("a route that does not answer has backends");
    let Some(cluster) = backend.cluster else {
        let added = added_by_route(&view, plan, told);
        let reply = OwnReply { added, ..OwnReply::failed(Failure::no_cluster()) };
        let answer = own_answer(connection, live, &head, reply);
        received.consume(head.consumed);
        return Ok(Some(answer));
    };
    if let Some(limits) = backend.rate_limits
        && let Some(answer) = limit_request(connection, live, &head, &view, plan, limits, &mut told)
    {
        received.consume(head.consumed);
        return Ok(Some(answer));
    }
    if let Some(failure) = overload::turn_away(shard, plan.policy.priority.unwrap_or_default()) {
        let added = added_by_route(&view, plan, told);
        let reply = OwnReply { added, ..OwnReply::failed(failure) };
        let answer = own_answer(connection, live, &head, reply);
        received.consume(head.consumed);
        return Ok(Some(answer));
    }
    // What the route itself says counts, else the backend.
    let byte_limits = plan.rate_limits.or(backend.rate_limits).map(|of| live.limits(shard, of));
    let has_up = head.framing != Framing::None || head.upgrade.is_some();
    let flows =
        byte_limits.and_then(|of| of.flows(shard, Some(&view), connection.limited_peer(), has_up));
    let cluster = place.map_or_else(|| live.serving(shard, cluster), |place| place.cluster);
    exchange.route.set(RouteUse { route: found.route, backend: index as u16, cluster });
    let cluster = live.cluster(shard, cluster);
    if let Some(keys) = cluster.hash_keys() {
        exchange.wish.set(key_of_request(keys, &view, connection.peer.ip()).map(Wish::Key));
    }
    if let Some(place) = place {
        exchange.wish.set(Some(Wish::Endpoint(place.endpoint)));
    }
    let fields = backend.request_edits.as_deref();
    let rewrite = plan.rewrite.as_deref();
    let own_authority = head.authority.is_none().then(|| cluster.fallback_authority());
    let forwarding = RequestForwarding {
        client_address: connection.address_text(),
        scheme: Scheme::Http,
        request_id: made_id.as_ref().map(|id| &id[..]),
        authority_if_missing: own_authority.as_ref().map_or(b"", |host| host.as_bytes()),
        upgrade: true,
        edits: (fields.is_some() || rewrite.is_some()).then_some(RequestEdits {
            fields,
            rewrite,
            prefix_bytes: found.prefix_bytes,
        }),
    };
    request.message = spare_vector();
    write_request(&head, &forwarding, &mut request.message);
    request.edits_response = backend.response_edits.is_some();
    let mirrored = if plan.mirrors.is_empty() { 0 } else { draw_mirrors(shard, plan) };
    let has_mirrors = mirrored != 0;
    let retry = plan.policy.retry.as_deref().filter(|retry| retry.attempts > 0);
    let has_tries = retry.is_some() || plan.policy.hedging.is_some();
    let faults = plan.policy.faults.as_deref();
    let fault = faults.and_then(|faults| fault::draw(faults, &view.fields, || shard.random()));
    let session = session.map(|(in_session, _)| in_session);
    let changes_response =
        plan.cors.is_some() || head.wants_epoch || session.is_some() || !told.is_empty();
    let fallback = match plan.policy.circuit_breaker.as_deref() {
        Some(breaker) if matches!(breaker.fallback, Some(Fallback::Backend(_))) => {
            prepare_fallback(connection, live, breaker, &head, &view, (plan, backend), forwarding)
        }
        _ => None,
    };
    let is_rare = has_mirrors
        || has_tries
        || fault.is_some()
        || fallback.is_some()
        || flows.is_some()
        || head.timeout_ms.is_some();
    if head.upgrade.is_some() || changes_response || is_rare {
        let room = room();
        let mut added = added_by_route(&view, plan, told);
        if head.wants_epoch {
            put_epoch(live, &mut added.lines);
        }
        request.edits_response |= !added.lines.is_empty() || session.is_some();
        let has_own = has_mirrors && backend.edits_requests;
        let for_mirrors = has_own.then(|| write_for_mirrors(&head, forwarding, plan));
        let upgrade = head.upgrade.map(Box::from);
        let hedge =
            live.hedge(found.route).filter(|_| head.method.is_idempotent() && upgrade.is_none());
        let hedge = hedge.cloned();
        let repeats = hedge.is_some() || retry.is_some_and(|retry| may_repeat(retry, head.method));
        // A client that waits for a 100 sends nothing before the upstream has the head.
        let awaits_body = (has_mirrors || repeats) && upgrade.is_none() && !head.expect_continue;
        request.rare = Some(room.put(Rare {
            upgrade,
            added,
            mirrored,
            for_mirrors,
            awaits_body,
            deadline: head.timeout_ms.map(|ms| exchange.began.plus_millis(ms)),
            tries: (retry.is_some() || hedge.is_some()).then(|| Tries::new(repeats)),
            hedge,
            fault,
            session,
            fallback,
            flows,
            head_bytes: request.message.len(),
            try_bytes: 0,
        }));
    }
    request.method = head.method;
    request.version = head.version;
    request.framing = head.framing;
    request.keep_alive = head.keep_alive;
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

/// Those mirrors of its route that a request is to be copied to, by chance: a bit for each.
fn draw_mirrors(shard: &Shard, plan: &RoutePlan) -> u16 {
    let mut drawn = 0;
    for (index, mirror) in plan.mirrors.iter().enumerate() {
        let point = ((shard.random() >> 32) * u64::from(mirror.denominator)) >> 32;
        drawn |= u16::from(point < u64::from(mirror.numerator)) << index;
    }
    drawn
}

/// The head for mirrors: what the backend that was chosen changes is for it alone (HTTPRouteFilter: of
/// a backend "executed if and only if the request is being forwarded to the backend defined here").
#[cold]
fn write_for_mirrors(
    head: &RequestHead<'_>,
    forwarding: RequestForwarding<'_>,
    plan: &RoutePlan,
) -> Vec<u8> {
    let (fields, rewrite) = (plan.route_edits.as_deref(), plan.rewrite.as_deref());
    let edits = forwarding.edits.map(|edits| RequestEdits { fields, rewrite, ..edits });
    let mut message = Vec::new();
    write_request(head, &RequestForwarding { edits, ..forwarding }, &mut message);
    message
}

/// Puts a small body that is all there behind its head: one send, and the request can be replayed.
fn inline_body(received: &mut Received, request: &mut Request, exchange: &Exchange) {
    let Framing::Length(length) = request.framing else { return };
    let here = received.bytes().len() as u64;
    if length > 0 && length <= here && length <= limits::INLINE_BODY_BYTES_MAX as u64 {
        take_body(received, request, exchange, length);
    }
}

fn take_body(received: &mut Received, request: &mut Request, exchange: &Exchange, length: u64) {
    let body = &received.bytes()[..length as usize];
    request.message.extend_from_slice(body);
    if let Some(own) = request.rare.as_mut().and_then(|rare| rare.for_mirrors.as_mut()) {
        own.extend_from_slice(body);
    }
    received.consume(length as usize);
    request.body.take_plain(length);
    exchange.request_bytes.set(length);
}

/// Waits for the rest of a body that mirrors are to get a copy of, or that may be sent again, if it is
/// not too long: whether that can be must not hang on how its bytes came. But what is to be copied alone is
/// not waited for for long, and nothing is when it takes its time: the rest goes up as it comes.
///
/// # Errors
/// The client is too slow with it, or leaves.
pub async fn await_body(
    connection: &Connection,
    received: &mut Received,
    request: &mut Request,
    exchange: &Exchange,
) -> Result<(), Failure> {
    if request.body.is_done() {
        return Ok(());
    }
    let shard = &connection.shard;
    let of_all = shard.config.timeouts.body;
    let limit = if request.repeats() { of_all } else { limits::MIRROR_BODY_WAIT.min(of_all) };
    let until = lateen_ring::now() + limit;
    match request.framing {
        Framing::Length(length @ 1..=limits::RETRY_BODY_BYTES_MAX) => {
            while (received.bytes().len() as u64) < length {
                if !receive_more_until(connection, received, until).await? {
                    return Ok(());
                }
            }
            take_body(received, request, exchange, length);
            shard.metrics().bytes_copied.add(length);
        }
        Framing::Chunked if request.repeats() => {
            take_chunks(connection, received, request, exchange, until).await?;
        }
        _ => {}
    }
    exchange.request_whole.set(request.body.is_done());
    Ok(())
}

/// Takes chunks until the body is whole, or longer than what is kept: the rest goes up as it comes.
async fn take_chunks(
    connection: &Connection,
    received: &mut Received,
    request: &mut Request,
    exchange: &Exchange,
    until: Instant,
) -> Result<(), Failure> {
    let shard = &connection.shard;
    loop {
        let Request { message, body, rare, .. } = request;
        let before = message.len();
        let taken = body.transcode(received.bytes(), message, BodyEncoding::Chunked);
        if let Some(own) = rare.as_mut().and_then(|rare| rare.for_mirrors.as_mut()) {
            own.extend_from_slice(&message[before..]);
        }
        let Ok(taken) = taken else {
            return Err(Failure::refused(Stage::Request, Refusal::BadRequest));
        };
        received.consume(taken.consumed);
        let so_far = exchange.request_bytes.get() + taken.body_bytes as u64;
        exchange.request_bytes.set(so_far);
        shard.metrics().bytes_copied.add(taken.body_bytes as u64);
        if shard.config.sizes.body_bytes_max.is_some_and(|most| so_far > most) {
            return Err(Failure::refused(Stage::Request, Refusal::ContentTooLarge));
        }
        // Whatever came with it: how its bytes were cut must not decide.
        let is_too_long = so_far > limits::RETRY_BODY_BYTES_MAX;
        if request.body.is_done() && !is_too_long {
            return Ok(());
        }
        if is_too_long || !receive_more_until(connection, received, until).await? {
            if let Some(tries) = request.rare.as_mut().and_then(|rare| rare.tries.as_mut()) {
                tries.repeats = false;
            }
            return Ok(());
        }
    }
}

/// Waits for more of a body, until `until` at most. False: it comes slowly, and that time is over.
///
/// # Errors
/// Nothing of it came for as long as a body may stand still, or the client leaves.
async fn receive_more_until(
    connection: &Connection,
    received: &mut Received,
    until: Instant,
) -> Result<bool, Failure> {
    let limit = connection.shard.config.timeouts.body;
    let stands_until = lateen_ring::now() + limit;
    let timer = Timer { deadline: &connection.deadline, until };
    match receive_more(connection, received, timer, limit, Stage::Request).await {
        Err(Failure { cause: Cause::Refused(Refusal::RequestTimeout), .. })
            if lateen_ring::now() < stands_until =>
        {
            Ok(false)
        }
        more => more.map(|()| true),
    }
}

/// Waits for more of a request, for at most `limit`.
async fn receive_more(
    connection: &Connection,
    received: &mut Received,
    timer: Timer<'_>,
    limit: Duration,
    stage: Stage,
) -> Result<(), Failure> {
    received.settle();
    match receive(&connection.stream, connection.counts(), timer, limit).await {
        Ok(Some(lease)) => {
            received.push(lease);
            Ok(())
        }
        Ok(None) => Err(Failure::client_gone(stage)),
        Err(Stopped::Broken(reason)) => {
            connection.closes_for(reason);
            Err(Failure::client_gone(stage))
        }
        Err(Stopped::TimedOut) => Err(Failure::refused(stage, Refusal::RequestTimeout)),
    }
}

fn refuse(error: RequestError) -> Failure {
    Failure::refused(Stage::RequestHead, Refusal::from_status(error.status()))
}
