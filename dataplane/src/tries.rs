//! The tries of one request beyond its first: whether one is made, what it costs, where it may not go.
//!
//! Before: `request` or `response` saw a try come to nothing. After: another one is paid for, or the
//! client hears of the failure. What is to be tried again is `decide`'s to say.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use lateen_snapshot::model::ClusterId;
use lateen_snapshot::model::retry::Retry;

use crate::bulkhead::RetryUnit;
use crate::client::Connection;
use crate::cluster::Cluster;
use crate::codec::http1::head::Fields;
use crate::decide::balance::{EndpointIndex, Wish};
use crate::decide::retry::{
    RetryReason, backoff, wait_asked_for, wants_after_answer, wants_after_failure,
};
use crate::exchange::{Exchange, Request, RouteUse};
use crate::failure::{Cause, Failure, ResponseFlag};
use crate::limits;
use crate::live::Live;
use crate::observe::metrics::retry::RetryDenied;
use crate::shard::Shard;

/// The endpoints that a request went to, of the cluster where it is.
#[derive(Debug, Default)]
pub struct Tried {
    endpoints: Cell<[EndpointIndex; limits::TRIED_MAX]>,
    count: Cell<usize>,
    /// All of those where it was first were tried: it went on to what stands in for them.
    gone_on: RefCell<Option<GoneOn>>,
}

#[derive(Debug)]
struct GoneOn {
    /// Whose stand-ins they are, and where it was first.
    of: ClusterId,
    from: ClusterId,
    /// How many of those that stand in for it are done with.
    passed: usize,
    to: Rc<Cluster>,
}

impl Tried {
    /// Where the request is that began at `first`.
    pub fn cluster(&self, first: &Rc<Cluster>) -> Rc<Cluster> {
        let gone_on = self.gone_on.borrow();
        Rc::clone(gone_on.as_ref().map_or(first, |gone_on| &gone_on.to))
    }

    /// Whether it went to every endpoint that is in service here.
    pub fn is_all_of(&self, here: &Cluster) -> bool {
        self.with(0, |tried| here.in_service_among(tried)) >= here.in_service_count()
    }

    /// Goes on to the part of the service that comes next; `None`: there is none.
    pub fn go_on(&self, shard: &Shard, exchange: &Exchange) -> Option<Rc<Cluster>> {
        let live = exchange.live()?;
        let mut gone_on = self.gone_on.borrow_mut();
        let here = exchange.route.get();
        let (of, from, passed) = match &*gone_on {
            Some(gone_on) => (gone_on.of, gone_on.from, gone_on.passed),
            None => {
                let backend = exchange.backend_cluster(&live);
                (backend.unwrap_or(here.cluster), here.cluster, 0)
            }
        };
        let has_any = |at: ClusterId| live.cluster(shard, at).in_service_count() > 0;
        let mut others = live.instead_of(of, from).enumerate().skip(passed);
        let (at, next) = others.find(|(_, at)| has_any(*at))?;
        let to = Rc::clone(live.cluster(shard, next));
        *gone_on = Some(GoneOn { of, from, passed: at + 1, to: Rc::clone(&to) });
        self.count.set(0);
        exchange.route.set(RouteUse { cluster: next, ..here });
        exchange.chose_none();
        // It was for one of those that were tried.
        if matches!(exchange.wish.get(), Some(Wish::Endpoint(_))) {
            exchange.wish.set(None);
        }
        shard.metrics().endpoint_pick_failover.increment();
        Some(to)
    }

    /// It went to this one. What is one too many is not remembered.
    pub fn push(&self, endpoint: EndpointIndex) {
        let count = self.count.get();
        let mut endpoints = self.endpoints.get();
        if endpoints[..count].contains(&endpoint) {
            return;
        }
        if let Some(place) = endpoints.get_mut(count) {
            *place = endpoint;
            self.endpoints.set(endpoints);
            self.count.set(count + 1);
        }
    }

    /// How many are remembered.
    pub fn count(&self) -> usize {
        self.count.get()
    }

    /// Shows those after the first `skipped`.
    pub fn with<T>(&self, skipped: usize, look: impl FnOnce(&[EndpointIndex]) -> T) -> T {
        look(&self.endpoints.get()[skipped..self.count.get()])
    }
}

/// The tries of a request whose route allows more than one.
#[derive(Debug)]
pub struct Tries {
    /// Those that were begun, the first included.
    made: Cell<u32>,
    /// Second ones beside them.
    beside: Cell<u32>,
    /// Where they went.
    pub tried: Tried,
    /// Its place among the retries that the service may have at a time.
    place: RefCell<Option<RetryUnit>>,
    /// The request may be sent again though an endpoint may have acted on it.
    pub repeats: bool,
}

impl Tries {
    /// Of a request that is to be sent for the first time.
    pub fn new(repeats: bool) -> Self {
        Self {
            beside: Cell::new(0),
            made: Cell::new(1),
            tried: Tried::default(),
            place: RefCell::default(),
            repeats,
        }
    }

    /// Takes a place among the retries that a service may have at a time, unless it has one. False: there
    /// is none.
    pub fn enter(&self, cluster: &Cluster) -> bool {
        let mut place = self.place.borrow_mut();
        if place.is_none() {
            *place = cluster.bulkhead.try_retry();
        }
        place.is_some()
    }

    /// Gives the place back, of a request that was sent once only: another one was denied after all.
    pub fn leave_unless_again(&self) {
        if self.sent() == 1 {
            self.place.take();
        }
    }

    /// One more is begun.
    pub fn begin(&self) {
        self.made.set(self.made.get() + 1);
    }

    /// A second one is sent beside the last.
    pub fn begin_beside(&self) {
        self.beside.set(self.beside.get() + 1);
    }

    /// How many times the request was sent, or is about to be.
    pub fn sent(&self) -> u32 {
        self.made.get() + self.beside.get()
    }

    /// Those that were begun one after the other.
    pub fn made(&self) -> u32 {
        self.made.get()
    }
}

/// What its route says of trying again, if it does so at all.
fn retry_of<'l>(exchange: &Exchange, live: &'l Live) -> Option<&'l Retry> {
    let retry = exchange.plan(live)?.policy.retry.as_deref();
    retry.filter(|retry| retry.attempts > 0)
}

/// Claims another try after a failure: how long to wait before it. `None`: the failure stands.
pub fn claim_after_failure(
    connection: &Connection,
    exchange: &Exchange,
    request: &Request,
    failure: Failure,
) -> Option<Duration> {
    let has_begun = exchange.status.get() != 0;
    let reason = match failure.cause {
        Cause::ConnectFailed => RetryReason::ConnectFailure,
        Cause::UpstreamReset if !exchange.heard_upstream.get() => RetryReason::Reset,
        Cause::UpstreamTimeout if lateen_ring::now() < exchange.due.get() => {
            RetryReason::PerTryTimeout
        }
        _ => return None,
    };
    if has_begun || !request.is_kept() {
        return None;
    }
    let live = exchange.live()?;
    let retry = retry_of(exchange, &live)?;
    if !wants_after_failure(retry, request.method, reason) {
        return None;
    }
    if reason != RetryReason::ConnectFailure && !request.repeats() {
        return None;
    }
    claim(connection, exchange, request, &live, retry, reason, Some(Duration::ZERO))
}

/// Claims another try instead of an answer.
pub fn claim_after_answer(
    connection: &Connection,
    exchange: &Exchange,
    request: &Request,
    status: u16,
    fields: Fields<'_>,
) -> Option<Duration> {
    if !request.is_kept() || !request.repeats() {
        return None;
    }
    let live = exchange.live()?;
    let retry = retry_of(exchange, &live)?;
    let reason = wants_after_answer(retry, request.method, status, fields)?;
    let asked = wait_asked_for(fields, connection.shard.unix_us());
    claim(connection, exchange, request, &live, retry, reason, asked)
}

/// Another try, if one is left, it is paid for, and it can end in time. `asked`: how long the answer
/// asks to wait; `None`: for longer than anybody does.
fn claim(
    connection: &Connection,
    exchange: &Exchange,
    request: &Request,
    live: &Live,
    retry: &Retry,
    reason: RetryReason,
    asked: Option<Duration>,
) -> Option<Duration> {
    let shard = &connection.shard;
    let tries = request.tries()?;
    let metrics = &shard.metrics().retry;
    let deny = |why: RetryDenied| {
        metrics.denied[why as usize].increment();
        None
    };
    let made = tries.made.get();
    if made > retry.attempts {
        let flag = ResponseFlag::RetryLimitExceeded;
        exchange.mark.set(Some(flag));
        shard.metrics().record_flag(flag);
        return deny(RetryDenied::Attempts);
    }
    let Some(asked) = asked else { return deny(RetryDenied::RetryAfter) };
    let wait = backoff(retry, made, shard.random()).max(asked);
    let now = lateen_ring::now();
    if now + wait >= exchange.due.get() {
        return deny(RetryDenied::Deadline);
    }
    let cluster = exchange.cluster(shard, live)?;
    if !tries.enter(cluster) {
        return deny(RetryDenied::Bulkhead);
    }
    if !cluster.pay_for_try(now.as_nanos()) {
        tries.leave_unless_again();
        return deny(RetryDenied::Budget);
    }
    metrics.made[reason as usize].increment();
    tries.begin();
    exchange.retries.set(exchange.retries.get() + 1);
    Some(wait)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use lateen_snapshot::model::breaker::Fallback;
    use lateen_snapshot::model::bulkhead::Caps;
    use lateen_snapshot::model::failover::Failover;
    use lateen_snapshot::model::{Action, RouteId};

    use super::*;
    use crate::bulkhead::caps_of;
    use crate::testing::{breaker_rule, clusters, on_worker, route};

    #[test]
    fn a_try_that_was_denied_after_all_keeps_no_place() {
        on_worker(&[], async |mut worker| {
            let live = worker.switch(clusters(&[("a", &[1])]));
            let cluster = live.cluster(&worker.shard, ClusterId(0));
            let caps = caps_of(&cluster.spec().policy);
            cluster.bulkhead.set_caps(Caps { retries_max: Some(1), ..caps });
            let [first, second] = [true, true].map(Tries::new);
            assert!(first.enter(cluster) && !second.enter(cluster));
            first.leave_unless_again();
            assert!(second.enter(cluster));
            second.begin_beside();
            second.leave_unless_again();
            assert!(!first.enter(cluster), "it was sent twice, and has its place");
        });
    }

    #[test]
    fn what_stands_in_for_a_fallback_is_gone_on_from_like_any_other() {
        on_worker(&[], async |mut worker| {
            let (near, far) = (ClusterId(0), ClusterId(1));
            let mut snapshot = clusters(&[("shop@near", &[1]), ("shop@far", &[2])]);
            let policy = &mut Arc::make_mut(&mut snapshot.clusters[0]).policy;
            policy.failover = Some(Failover { to: far, threshold_percent: 50 });
            let mut breaker = breaker_rule();
            breaker.fallback = Some(Fallback::Backend(near));
            let mut route = route(Action::Respond(500));
            route.policy.circuit_breaker = Some(Box::new(breaker));
            snapshot.routes = vec![route];
            let live = worker.switch(snapshot);
            let exchange = Exchange::begin(lateen_ring::now());
            exchange.pin(live);
            let use_of_far =
                RouteUse { route: RouteId(0), backend: RouteUse::FALLBACK, cluster: far };
            exchange.route.set(use_of_far);
            let next = Tried::default().go_on(&worker.shard, &exchange).expect("the near part");
            assert_eq!(next.name(), "shop@near");
            assert_eq!(exchange.route.get().cluster, near);
        });
    }

    #[test]
    fn remembers_where_it_went_and_not_more_than_there_is_room_for() {
        let tried = Tried::default();
        for index in 0..limits::TRIED_MAX + 3 {
            tried.push(EndpointIndex::new(index));
            tried.push(EndpointIndex::new(index / 2));
        }
        assert_eq!(tried.count(), limits::TRIED_MAX);
        tried.with(10, |last| assert_eq!(last, [10, 11].map(EndpointIndex::new)));
    }
}
