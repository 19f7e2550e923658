//! Idle upstream connections of one worker, by endpoint, last used first.
//!
//! Before: a response was read whole from a connection that may carry another. After: the next
//! request to the endpoint takes it. While it idles, the receive for the next response is armed
//! already: it costs no buffer, and bytes or an end that come unasked show that the connection is
//! no good. A keeper task for each cluster that has any removes those at once, and others for age or
//! number; so news of one connection costs a look at its own cluster's.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use lateen_ring::{Deadline, Instant, Stream, spawn};

use crate::bootstrap::config::PoolLimits;
use crate::bulkhead::{Bulkhead, ConnectionUnit};
use crate::cluster::{Chosen, Cluster, Endpoint};
use crate::decide::balance::EndpointIndex;
use crate::limits;
use crate::observe::metrics::lasted::Lasted;
use crate::observe::metrics::{CloseReason, ConnectionSide};
use crate::plant::{self, Plant};
use crate::shard::Shard;

/// A connection to an endpoint and when it was opened. It counts as open while it lives, however
/// its end comes: a task that is aborted drops it without a word, which counts as `ECONNABORTED`.
#[derive(Debug)]
pub struct Upstream {
    /// The connection.
    pub stream: Stream,
    /// When it was opened.
    pub opened: Instant,
    close_reason: Cell<CloseReason>,
    /// Of its cluster's cap.
    unit: ConnectionUnit,
}

impl Upstream {
    /// A connection that was just established, for which there was room.
    pub fn new(shard: &Shard, stream: Stream, unit: ConnectionUnit) -> Self {
        shard.upstream_counts().on_open();
        let close_reason = Cell::new(CloseReason::ConnectionAborted);
        Self { stream, opened: lateen_ring::now(), close_reason, unit }
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        let counters = self.unit.counters().of_worker();
        let side = counters.connections(ConnectionSide::Upstream);
        side.on_close(self.close_reason.get());
    }
}

struct Idle {
    upstream: Upstream,
    since: Instant,
    /// When it is too old, or idle for too long.
    dies: Instant,
    /// When it is too old.
    ends: Instant,
}

/// The idle connections of one endpoint; the last in is the first out, the first is the oldest. A
/// word while there never was one.
#[derive(Default)]
pub struct IdleList {
    #[expect(clippy::box_collection, reason = "a word for each of many endpoints without any")]
    list: Cell<Option<Box<VecDeque<Idle>>>>,
    /// Its cluster has the endpoint among those to look after.
    listed: Cell<bool>,
}

impl IdleList {
    /// The list is out of its place meanwhile: a cell that can be borrowed is a word more.
    #[inline]
    fn with<T>(&self, look: impl FnOnce(&mut Option<Box<VecDeque<Idle>>>) -> T) -> T {
        let mut list = self.list.take();
        let seen = look(&mut list);
        self.list.set(list);
        seen
    }

    #[inline]
    fn pop_latest(&self) -> Option<Idle> {
        self.with(|list| list.as_mut()?.pop_back())
    }

    fn pop_oldest(&self) -> Option<Idle> {
        self.with(|list| list.as_mut()?.pop_front())
    }

    #[inline]
    fn push(&self, idle: Idle) {
        self.with(|list| list.get_or_insert_default().push_back(idle));
    }

    fn take_all(&self) -> VecDeque<Idle> {
        self.list.take().map_or_else(VecDeque::new, |list| *list)
    }

    /// Since when its oldest is idle.
    fn idle_since(&self) -> Option<Instant> {
        self.with(|list| Some(list.as_ref()?.front()?.since))
    }
}

/// The idle connections to all endpoints of a cluster, also to those of other snapshots.
#[derive(Default)]
pub struct ClusterIdle {
    count: Cell<usize>,
    /// The endpoints that may have some.
    endpoints: RefCell<Vec<Rc<Endpoint>>>,
    /// Of the keeper task, which news of each connection should wake.
    keeper: RefCell<Option<Waker>>,
    /// When the keeper looks for connections that are too old.
    sweep_at: Cell<Instant>,
    /// Where it stands in [`Pool::clusters`], while it has a keeper.
    kept_at: Cell<Option<usize>>,
    /// Where the look for a connection to give up goes on.
    hand: Cell<usize>,
}

impl ClusterIdle {
    /// Some of its endpoints are retired: what idles on connections to them is to be closed.
    pub fn wake_keeper(&self) {
        if let Some(keeper) = &*self.keeper.borrow() {
            keeper.wake_by_ref();
        }
    }
}

/// The idle connections of a worker.
pub struct Pool {
    /// The clusters that have a keeper.
    clusters: RefCell<Vec<Rc<ClusterIdle>>>,
    count: Cell<usize>,
    /// Of all clusters, at the most.
    total_max: usize,
    /// Of one cluster, at the most.
    count_max: usize,
    limits: PoolLimits,
    /// Where the look for a connection to give up goes on.
    hand: Cell<usize>,
}

impl Pool {
    /// An empty pool. It keeps `total_max` connections; `count_max` of each cluster, and for a moment as
    /// many more as were in use at a time.
    pub fn new(limits: &PoolLimits, count_max: usize, total_max: usize) -> Self {
        Self {
            clusters: RefCell::new(Vec::new()),
            count: Cell::new(0),
            total_max,
            count_max,
            limits: *limits,
            hand: Cell::new(0),
        }
    }

    /// Idle connections.
    pub fn count(&self) -> usize {
        self.count.get()
    }

    /// Takes the connection to the endpoint that was used last and is still good.
    #[inline]
    pub fn take(&self, shard: &Shard, chosen: &Chosen) -> Option<Upstream> {
        let now = lateen_ring::now();
        let endpoint = chosen.endpoint();
        loop {
            let idle = endpoint.idle.pop_latest()?;
            self.count_down(&chosen.cluster.idle, 1);
            // One may have idled before config asked for a connection for each client.
            let is_shared = chosen.cluster.proxy_protocol().is_none();
            if now >= idle.dies || !is_shared || is_stale(idle.upstream.stream.has_news()) {
                evict(shard, idle);
                continue;
            }
            return Some(idle.upstream);
        }
    }

    /// Keeps a connection for the next request, if there is room and it is young enough.
    #[inline]
    pub fn put(&self, shard: &Rc<Shard>, chosen: &Chosen, upstream: Upstream) {
        if chosen.cluster.proxy_protocol().is_some() {
            return close_upstream(upstream, CloseReason::Orderly);
        }
        let now = lateen_ring::now();
        let cluster = &chosen.cluster.idle;
        let endpoint = chosen.endpoint();
        let ends = chosen.cluster.connection_ends(upstream.opened);
        let ends = ends.unwrap_or(upstream.opened + self.limits.lifetime);
        let dies = (now + self.limits.idle_timeout).min(ends);
        let idle = Idle { upstream, since: now, dies, ends };
        if self.count_max == 0 || now >= dies || endpoint.is_retired() || shard.is_draining() {
            return evict(shard, idle);
        }
        let bulkhead = &chosen.cluster.bulkhead;
        let idle = if bulkhead.is_waited_for_here() {
            // What is out of service, or was closed by its peer, is nothing to hand to another request.
            let news = idle.upstream.stream.poll_news(&mut Context::from_waker(Waker::noop()));
            if endpoint.load.is_out_of_service() || news.is_ready() {
                return evict(shard, idle);
            }
            match bulkhead.hand_over(chosen, idle.upstream) {
                Ok(()) => return,
                // Its room is for those who wait for another part of the service.
                Err(upstream) => {
                    bulkhead.note_recalled();
                    return evict(shard, Idle { upstream, ..idle });
                }
            }
        } else {
            idle
        };
        if bulkhead.wanted_elsewhere(cluster) > 0 {
            bulkhead.note_recalled();
            return evict(shard, idle);
        }
        bulkhead.note_idle();
        {
            let keeper = cluster.keeper.borrow();
            let waker = keeper.as_ref().unwrap_or(Waker::noop());
            // What is long had better stay in the socket, and be spliced.
            let is_short = endpoint.short_responses() >= self.limits.short_responses_min;
            idle.upstream.stream.set_multishot(is_short);
            // Arms the receive; whatever comes before the next request wakes the keeper.
            let news = idle.upstream.stream.poll_news(&mut Context::from_waker(waker));
            if is_stale(news.is_ready()) {
                return evict(shard, idle);
            }
        }
        endpoint.idle.push(idle);
        cluster.count.set(cluster.count.get() + 1);
        self.count.set(self.count.get() + 1);
        if !endpoint.idle.listed.replace(true) {
            self.look_after(shard, &chosen.cluster);
            cluster.endpoints.borrow_mut().push(endpoint.clone());
        }
        if self.count.get() > self.total_max {
            self.give_one_up(shard);
        }
        // One too many is closed once it was of no use for a while: where more requests than the
        // pool holds are answered in one turn, the next turn needs all their connections again.
        let has_surplus = cluster.count.get() > self.count_max;
        let patience =
            if has_surplus { limits::POOL_SURPLUS_IDLE } else { self.limits.idle_timeout };
        if cluster.sweep_at.get() > now + patience {
            cluster.sweep_at.set(now + patience);
            cluster.wake_keeper();
        }
    }

    /// An endpoint that had no connection has one.
    #[cold]
    fn look_after(&self, shard: &Rc<Shard>, of: &Cluster) {
        let cluster = &of.idle;
        if cluster.kept_at.get().is_none() {
            let mut clusters = self.clusters.borrow_mut();
            cluster.kept_at.set(Some(clusters.len()));
            clusters.push(cluster.clone());
            // It looks at everything when it first runs, which is when it leaves its waker.
            cluster.sweep_at.set(Instant::NEVER);
            spawn(keep(shard.clone(), cluster.clone(), of.bulkhead.clone()));
        }
    }

    /// Takes an idle connection to any endpoint of a cluster that has no room for another one.
    #[cold]
    pub fn take_any(&self, shard: &Shard, cluster: &Rc<Cluster>) -> Option<(Chosen, Upstream)> {
        let endpoints = (0..).zip(cluster.endpoints());
        endpoints.filter(|(_, endpoint)| !endpoint.load.is_out_of_service()).find_map(
            |(index, _)| {
                let chosen = Chosen { cluster: cluster.clone(), index: EndpointIndex::new(index) };
                let upstream = self.take(shard, &chosen)?;
                Some((chosen, upstream))
            },
        )
    }

    /// Closes one of the connections that have been idle longest, to make room for something that is
    /// more urgent. False if none is idle. Cost: of all endpoints only some are looked at, other ones
    /// the next time.
    #[cold]
    pub fn give_one_up(&self, shard: &Shard) -> bool {
        let clusters = self.clusters.borrow();
        let mut oldest: Option<(Instant, Rc<ClusterIdle>, Rc<Endpoint>)> = None;
        let mut seen = 0;
        for step in 0..clusters.len() {
            let cluster = &clusters[(self.hand.get() + step) % clusters.len()];
            let endpoints = cluster.endpoints.borrow();
            for step in 0..endpoints.len() {
                let at = (cluster.hand.get() + step) % endpoints.len();
                let endpoint = &endpoints[at];
                let Some(since) = endpoint.idle.idle_since() else { continue };
                if oldest.as_ref().is_none_or(|(oldest, ..)| since < *oldest) {
                    oldest = Some((since, cluster.clone(), endpoint.clone()));
                }
                seen += 1;
                if seen == limits::POOL_LOOKED_AT_MAX {
                    cluster.hand.set(at + 1);
                    break;
                }
            }
            if seen == limits::POOL_LOOKED_AT_MAX {
                self.hand.set((self.hand.get() + step + 1) % clusters.len());
                break;
            }
        }
        let Some((_, cluster, endpoint)) = oldest else { return false };
        if let Some(idle) = endpoint.idle.pop_oldest() {
            self.count_down(&cluster, 1);
            evict(shard, idle);
        }
        true
    }

    /// Closes all idle connections, at a drain.
    pub fn clear(&self, shard: &Shard) {
        for cluster in &*self.clusters.borrow() {
            for endpoint in &*cluster.endpoints.borrow() {
                let all = endpoint.idle.take_all();
                self.count_down(cluster, all.len());
                for idle in all {
                    evict(shard, idle);
                }
            }
            cluster.wake_keeper();
        }
    }

    /// Removes the connections of a cluster that have news, are too old, lead to an endpoint that is
    /// no more, or are one too many and of no use; says when to look again, or that none is left.
    fn sweep(
        &self,
        shard: &Shard,
        cluster: &Rc<ClusterIdle>,
        bulkhead: &Bulkhead,
        cx: &mut Context<'_>,
    ) -> Option<Instant> {
        let now = lateen_ring::now();
        let mut bad = Vec::new();
        let mut next = Instant::NEVER;
        // For those who can't be handed one of these any is given up; for others what they can't use.
        let missed = if cluster.count.get() > 0 { bulkhead.take_missed() } else { 0 };
        let mut wanted_elsewhere = bulkhead.wanted_elsewhere(cluster) + missed;
        let mut wanted = bulkhead.waiting() + missed;
        cluster.endpoints.borrow_mut().retain(|endpoint| {
            endpoint.idle.with(|list| {
                let Some(idle_ones) = list.as_mut() else {
                    endpoint.idle.listed.set(false);
                    return false;
                };
                let mut index = 0;
                // Closing takes its time: what is left of many waits for the next turn.
                while index < idle_ones.len() && bad.len() < limits::POOL_CLOSED_PER_TURN {
                    let idle = &idle_ones[index];
                    let news = idle.upstream.stream.poll_news(cx) == Poll::Ready(());
                    let dies = if cluster.count.get() > self.count_max {
                        idle.dies.min(idle.since + limits::POOL_SURPLUS_IDLE)
                    } else {
                        idle.dies
                    };
                    let is_bad = is_stale(news) || now >= dies || endpoint.is_retired();
                    let is_useless = endpoint.load.is_out_of_service();
                    if is_bad || wanted_elsewhere > 0 || (wanted > 0 && is_useless) {
                        if !is_bad {
                            bulkhead.note_recalled();
                        }
                        wanted = wanted.saturating_sub(1);
                        wanted_elsewhere = wanted_elsewhere.saturating_sub(1);
                        bad.extend(idle_ones.remove(index));
                        self.count_down(cluster, 1);
                        continue;
                    }
                    next = next.min(dies);
                    index += 1;
                }
                let any_left = !idle_ones.is_empty();
                if !any_left {
                    *list = None;
                    endpoint.idle.listed.set(false);
                }
                any_left
            })
        });
        if bad.len() == limits::POOL_CLOSED_PER_TURN {
            cx.waker().wake_by_ref();
        }
        for idle in bad {
            evict(shard, idle);
        }
        (!cluster.endpoints.borrow().is_empty()).then_some(next)
    }

    /// A cluster needs no keeper any more.
    fn leave(&self, cluster: &ClusterIdle) {
        cluster.keeper.take();
        let mut clusters = self.clusters.borrow_mut();
        let at = cluster.kept_at.take().expect("it has a keeper, which calls this at its end");
        clusters.swap_remove(at);
        if let Some(moved) = clusters.get(at) {
            moved.kept_at.set(Some(at));
        }
    }

    fn count_down(&self, cluster: &ClusterIdle, count: usize) {
        cluster.count.set(cluster.count.get() - count);
        self.count.set(self.count.get() - count);
    }
}

/// Whether news of an idle connection make it no good, which they do.
#[inline]
fn is_stale(news: bool) -> bool {
    news && !plant::has(Plant::StaleConnectionKept)
}

fn evict(shard: &Shard, idle: Idle) {
    shard.metrics().pool_evicted.increment();
    if lateen_ring::now() >= idle.ends {
        shard.metrics().lasted[Lasted::Pooled as usize].increment();
    }
    close_upstream(idle.upstream, CloseReason::Orderly);
}

/// Closes a connection to an endpoint, for `reason`.
pub fn close_upstream(upstream: Upstream, reason: CloseReason) {
    upstream.close_reason.set(reason);
}

/// The keeper of a cluster's idle connections; runs as long as there are any.
async fn keep(shard: Rc<Shard>, cluster: Rc<ClusterIdle>, bulkhead: Rc<Bulkhead>) {
    let deadline = Deadline::new();
    let keeper = poll_fn(|cx| Poll::Ready(cx.waker().clone())).await;
    bulkhead.enter_keeper(&keeper);
    poll_fn(|cx| {
        *cluster.keeper.borrow_mut() = Some(cx.waker().clone());
        let Some(next) = shard.pool.sweep(&shard, &cluster, &bulkhead, cx) else {
            return Poll::Ready(());
        };
        cluster.sweep_at.set(next);
        deadline.set(next);
        let _ = deadline.poll_past(cx);
        Poll::Pending
    })
    .await;
    bulkhead.leave_keeper(&keeper);
    shard.pool.leave(&cluster);
}

impl std::fmt::Debug for Pool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pool").field("count", &self.count()).finish_non_exhaustive()
    }
}

impl std::fmt::Debug for ClusterIdle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ClusterIdle").field("count", &self.count).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
