//! Copies of requests to mirrors (HTTPRoute `requestMirror`), whose answers nobody sees.
//!
//! Before: `request` is about to forward a request whose route has mirrors. After: a task of its own
//! sends the copy and throws the answer away; the request it copies never waits for it and never hears
//! of it. A body up to a bound is waited for before; what is not all in memory then is not copied, but
//! counted.

use std::rc::Rc;

use lateen_ring::{Deadline, Instant, spawn};

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

/// Sends copies of `request` to those mirrors of its route that chance chooses.
#[cold]
pub fn mirror(shard: &Rc<Shard>, live: &Live, plan: &RoutePlan, request: &Request) {
    for mirror in &plan.mirrors {
        let point = ((shard.random() >> 32) * u64::from(mirror.denominator)) >> 32;
        if point >= u64::from(mirror.numerator) {
            continue;
        }
        let whole = request.body.is_done() && request.upgrade().is_none();
        if !whole || shard.mirroring.get() >= limits::MIRRORS_MAX {
            shard.metrics().mirror_skipped.increment();
            continue;
        }
        shard.metrics().mirror.increment();
        let copy = Copy {
            place: Place::take(shard),
            cluster: live.cluster(shard, mirror.cluster).clone(),
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
        let Some(index) = cluster.pick(shard, None, &[]) else {
            return shard.metrics().mirror_failed.increment();
        };
        let mut in_flight = InFlight::new(Chosen { cluster, index });
        let deadline = Deadline::new();
        let pooled = shard.pool.take(shard, in_flight.chosen());
        let upstream = match pooled {
            Some(upstream) => upstream,
            None => match open(shard, &in_flight, &deadline).await {
                Some(upstream) => upstream,
                None => {
                    in_flight.leave_untimed();
                    return shard.metrics().mirror_failed.increment();
                }
            },
        };
        // A copy is sent for nobody.
        let timer = Timer { deadline: &deadline, until: Instant::NEVER };
        let cluster = &in_flight.chosen().cluster;
        let Ok(upstream) = introduce_itself(shard, cluster, upstream, timer).await else {
            return shard.metrics().mirror_failed.increment();
        };
        deadline.set(lateen_ring::now() + limits::MIRROR_TIMEOUT);
        let exchanged = exchange(shard, &upstream, message, method);
        match deadline.guard(exchanged).await {
            Ok(Some(true)) => shard.pool.put(shard, in_flight.chosen(), upstream),
            Ok(Some(false)) => close_upstream(upstream, CloseReason::Orderly),
            Ok(None) => {
                shard.metrics().mirror_failed.increment();
                close_upstream(upstream, CloseReason::Orderly);
            }
            Err(_elapsed) => {
                shard.metrics().mirror_failed.increment();
                close_upstream(upstream, CloseReason::TimedOut);
            }
        }
    }
}

/// A new connection, if there is room for one: a copy waits for nobody.
async fn open(shard: &Shard, in_flight: &InFlight, deadline: &Deadline) -> Option<Upstream> {
    let unit = in_flight.chosen().cluster.bulkhead.try_enter()?;
    connect(shard, in_flight.chosen(), unit, deadline, None).await.ok()
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
