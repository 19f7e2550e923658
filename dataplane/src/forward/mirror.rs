//! Copies of requests to mirrors (HTTPRoute `requestMirror`), whose answers nobody sees.
//!
//! Before: `request` is about to forward a request whose route has mirrors. After: a task of its own
//! sends the copy and throws the answer away; the request it copies never waits for it and never hears
//! of it. A body up to a bound is waited for before, for a moment; what is not all in memory then is not
//! copied, but counted.

use std::rc::Rc;

use lateen_ring::{Deadline, Instant, spawn};

use crate::bulkhead::RequestUnit;
use crate::cluster::{Chosen, Cluster};
use crate::codec::body::{BodyEncoding, BodyProgress};
use crate::codec::http1::response::parse_response;
use crate::codec::message::Method;
use crate::decide::route::plan::RoutePlan;
use crate::exchange::Request;
use crate::forward::connect::connect;
use crate::forward::introduce::introduce_itself;
use crate::forward::pool::{Upstream, close_upstream};
use crate::forward::received::Received;
use crate::forward::transfer::Timer;
use crate::in_flight::InFlight;
use crate::limits;
use crate::live::Live;
use crate::observe::metrics::CloseReason;
use crate::shard::Shard;

/// Sends copies of `request` to those mirrors of its route that chance has chosen.
#[cold]
pub fn mirror(shard: &Rc<Shard>, live: &Live, plan: &RoutePlan, request: &Request, drawn: u16) {
    for (index, mirror) in plan.mirrors.iter().enumerate() {
        if drawn & 1 << index == 0 {
            continue;
        }
        let whole = request.body.is_done() && request.upgrade().is_none();
        if !whole || shard.mirroring.get() >= limits::MIRRORS_MAX {
            shard.metrics().mirror_skipped.increment();
            continue;
        }
        shard.metrics().mirror.increment();
        let cluster = live.serving(shard, mirror.cluster);
        let copy = Copy {
            place: Place::take(shard),
            cluster: live.cluster(shard, cluster).clone(),
            message: request.for_mirrors().to_vec(),
            method: request.method,
        };
        spawn(copy.send());
    }
}

/// A copy among those under way, for as long as it lives.
struct Place(Rc<Shard>);

impl Place {
    fn take(shard: &Rc<Shard>) -> Self {
        shard.mirroring.set(shard.mirroring.get() + 1);
        Self(shard.clone())
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.mirroring.set(self.0.mirroring.get() - 1);
    }
}

struct Copy {
    place: Place,
    cluster: Rc<Cluster>,
    message: Vec<u8>,
    method: Method,
}

impl Copy {
    async fn send(self) {
        let Self { place, cluster, message, method } = self;
        let shard = &place.0;
        let fail = || shard.metrics().mirror_failed.increment();
        // It waits for nobody, and takes up room like any other.
        let unit: Option<RequestUnit> = match cluster.bulkhead.caps_requests() {
            true => cluster.bulkhead.try_enter(),
            false => None,
        };
        if cluster.bulkhead.caps_requests() && unit.is_none() {
            return fail();
        }
        let Some(index) = cluster.pick(shard, None, &[]) else { return fail() };
        let deadline = Deadline::new();
        let chosen = Chosen { cluster, index };
        let pooled = shard.pool.take(shard, &chosen);
        let had = match pooled {
            Some(upstream) => Some((InFlight::new(chosen), upstream)),
            None => open(shard, chosen, &deadline).await,
        };
        let Some((in_flight, upstream)) = had else { return fail() };
        // A copy is sent for nobody.
        let timer = Timer { deadline: &deadline, until: Instant::NEVER };
        let cluster = &in_flight.chosen().cluster;
        let Ok(upstream) = introduce_itself(shard, cluster, upstream, timer).await else {
            return fail();
        };
        deadline.set(lateen_ring::now() + limits::MIRROR_TIMEOUT);
        let exchanged = exchange(shard, &upstream, message, method);
        match deadline.guard(exchanged).await {
            Ok(Some(true)) => shard.pool.put(shard, in_flight.chosen(), upstream),
            Ok(Some(false)) => close_upstream(upstream, CloseReason::Orderly),
            Ok(None) => {
                fail();
                close_upstream(upstream, CloseReason::Orderly);
            }
            Err(_elapsed) => {
                fail();
                close_upstream(upstream, CloseReason::TimedOut);
            }
        }
    }
}

/// A new connection, if there is room for one; else one that idles, to whatever endpoint. Where there is
/// neither, what idles on another worker is given up for the next copy.
async fn open(
    shard: &Rc<Shard>,
    chosen: Chosen,
    deadline: &Deadline,
) -> Option<(InFlight, Upstream)> {
    let cluster = chosen.cluster.clone();
    let Some(unit) = cluster.bulkhead.try_enter() else {
        let idle = shard.pool.take_any(shard, &cluster);
        if idle.is_none() {
            cluster.bulkhead.recall_idle();
        }
        return idle.map(|(chosen, upstream)| (InFlight::new(chosen), upstream));
    };
    let mut in_flight = InFlight::new(chosen);
    match connect(shard, in_flight.chosen(), unit, deadline, None).await {
        Ok(upstream) => Some((in_flight, upstream)),
        Err(_) => {
            in_flight.leave_untimed();
            None
        }
    }
}

/// Sends the copy and reads its answer to the end. Whether the connection can carry another request;
/// `None`: it broke, or the answer is none.
async fn exchange(
    shard: &Shard,
    upstream: &Upstream,
    message: Vec<u8>,
    method: Method,
) -> Option<bool> {
    let stream = &upstream.stream;
    let counts = shard.upstream_counts();
    counts.write_bytes.add(message.len() as u64);
    stream.send(message).await.ok()?;
    let mut received = Received::default();
    let (mut body, keep_alive) = loop {
        let lease = stream.recv().await.ok()??;
        counts.read_bytes.add(lease.len() as u64);
        received.push(lease);
        let judged = {
            let mut scratch = shard.scratch.borrow_mut();
            let head = parse_response(received.bytes(), &mut scratch, method, &shard.head_limits);
            head.ok()?.map(|head| (head.consumed, head.is_interim(), head.framing, head.keep_alive))
        };
        match judged {
            Some((consumed, true, ..)) => received.consume(consumed),
            Some((consumed, false, framing, keep_alive)) => {
                received.consume(consumed);
                break (BodyProgress::new(framing), keep_alive);
            }
            None => received.settle(),
        }
    };
    let mut thrown_away = Vec::new();
    let mut taken_since_yield = 0;
    loop {
        if !received.is_empty() && !body.is_done() {
            thrown_away.clear();
            let here = received.bytes();
            let progress = body.transcode(here, &mut thrown_away, BodyEncoding::Plain).ok()?;
            taken_since_yield += progress.consumed as u64;
            received.consume(progress.consumed);
        }
        if body.is_done() {
            return Some(keep_alive && received.is_empty() && !stream.has_unread());
        }
        if taken_since_yield >= limits::COPY_BYTES_PER_TURN {
            taken_since_yield = 0;
            lateen_ring::yield_now().await;
        }
        match stream.recv().await.ok()? {
            Some(lease) => {
                counts.read_bytes.add(lease.len() as u64);
                received.push(lease);
            }
            // The end of a body that only the end of the stream ends, or of one that is cut off.
            None => {
                thrown_away.clear();
                let ended = body.end_of_stream(&mut thrown_away, BodyEncoding::Plain);
                return ended.is_ok().then_some(false);
            }
        }
    }
}
