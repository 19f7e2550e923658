//! A request that goes to the backend which its route falls back to.
//!
//! Before: `judge` read a head whose route has such a backend, and keeps here what is another for it; later
//! `breaker` did not let the request through, of which nothing was sent yet. After: it is forwarded as any
//! other, to that backend's cluster: by its balancing and its bulkhead, within the route's timeouts, and
//! tried again as the route says, from that cluster's budget. What belongs to the route's own backends stays
//! with them: their edits of heads, sessions, and second requests beside slow ones.

use std::rc::Rc;

use lateen_snapshot::model::breaker::{BreakerMode, CircuitBreaker, Fallback};
use lateen_snapshot::model::{Balancing, ClusterId};

use crate::client::Connection;
use crate::cluster::Cluster;
use crate::codec::http1::request::RequestHead;
use crate::codec::http1::write_request::{RequestEdits, RequestForwarding, write_request};
use crate::decide::balance::Wish;
use crate::decide::balance::key::key_of_request;
use crate::decide::route::RequestView;
use crate::decide::route::plan::{BackendPlan, RoutePlan};
use crate::exchange::{Exchange, Request, RouteUse};
use crate::live::Live;
use crate::shard::Shard;

/// What of a request is another for the backend that its route falls back to.
#[derive(Debug)]
pub struct ForFallback {
    /// Its head; `None`: the same.
    head: Option<Vec<u8>>,
    /// Where its key leads.
    wish: Option<Wish>,
}

/// Keeps what can't be known any more once the head is gone; `None`: there is no such backend, or nothing is
/// another for it.
#[cold]
pub fn prepare_fallback(
    connection: &Connection,
    live: &Live,
    breaker: &CircuitBreaker,
    head: &RequestHead<'_>,
    view: &RequestView<'_>,
    (plan, backend): (&RoutePlan, &BackendPlan),
    forwarding: RequestForwarding<'_>,
) -> Option<Box<ForFallback>> {
    let Some(Fallback::Backend(ClusterId(index))) = breaker.fallback else { return None };
    if breaker.mode == BreakerMode::ForcedClosed {
        return None;
    }
    let wish = match &live.loaded.snapshot.clusters[index as usize].balancing {
        Balancing::RingHash(hashing) | Balancing::Maglev(hashing) => {
            key_of_request(&hashing.keys, view, connection.peer.ip()).map(Wish::Key)
        }
        _ => None,
    };
    let own_head = backend.edits_requests.then(|| {
        let (fields, rewrite) = (plan.route_edits.as_deref(), plan.rewrite.as_deref());
        let edits = forwarding.edits.map(|edits| RequestEdits { fields, rewrite, ..edits });
        let mut message = Vec::new();
        write_request(head, &RequestForwarding { edits, ..forwarding }, &mut message);
        message
    });
    let is_another = wish.is_some() || own_head.is_some();
    is_another.then(|| Box::new(ForFallback { head: own_head, wish }))
}

/// Leads a request that the breaker did not let through to `fallback`. Nothing of it was sent yet.
#[cold]
pub fn lead_elsewhere(
    shard: &Shard,
    live: &Live,
    request: &mut Request,
    exchange: &Exchange,
    fallback: ClusterId,
) -> Rc<Cluster> {
    let serving = live.serving(shard, fallback);
    let route = exchange.route.get().route;
    exchange.route.set(RouteUse { route, backend: RouteUse::FALLBACK, cluster: serving });
    let mut wish = None;
    if let Some(rare) = &mut request.rare {
        rare.session = None;
        rare.hedge = None;
        if let Some(own) = rare.fallback.take() {
            wish = own.wish;
            if let Some(head) = own.head {
                let body = request.message.split_off(rare.head_bytes);
                rare.head_bytes = head.len();
                request.message = head;
                request.message.extend_from_slice(&body);
            }
        }
    }
    exchange.wish.set(wish);
    let plan = exchange.plan(live);
    request.edits_response |= plan.is_some_and(|plan| plan.response_edits.is_some());
    Rc::clone(live.cluster(shard, serving))
}
