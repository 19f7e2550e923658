//! Idle upstream connections of one worker, by endpoint, last used first.
//!
//! Before: a response was read whole from a connection that may carry another. After: the next
//! request to the endpoint takes it. While it idles, the receive for the next response is armed
//! already: it costs no buffer, and bytes or an end that come unasked show that the connection is
//! no good. A keeper task per worker removes those at once, and others for age or number.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use lateen_ring::{Deadline, Instant, Stream};

use crate::bootstrap::config::PoolLimits;
use crate::cluster::{Chosen, Cluster, Endpoint};
use crate::limits;
use crate::observe::metrics::{CloseReason, ConnectionSide};
use crate::plant::{self, Plant};
use crate::shard::{Counters, Shard};

/// A connection to an endpoint and when it was opened. It counts as open while it lives, however
/// its end comes: a task that is aborted drops it without a word, which counts as `ECONNABORTED`.
#[derive(Debug)]
pub struct Upstream {
    /// The connection.
    pub stream: Stream,
    /// When it was opened.
    pub opened: Instant,
    counters: Rc<Counters>,
    close_reason: Cell<CloseReason>,
}

impl Upstream {
    /// A connection that was just established.
    pub fn new(shard: &Shard, stream: Stream) -> Self {
        let counters = shard.counters();
        counters.of_worker().connections(ConnectionSide::Upstream).on_open();
        let close_reason = Cell::new(CloseReason::ConnectionAborted);
        Self { stream, opened: lateen_ring::now(), counters, close_reason }
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        let side = self.counters.of_worker().connections(ConnectionSide::Upstream);
        side.on_close(self.close_reason.get());
    }
}

struct Idle {
    upstream: Upstream,
    since: Instant,
    /// When it is too old, or idle for too long.
    dies: Instant,
}

/// The idle connections of one endpoint; the last in is the first out, the first is the oldest. A
/// word while there never was one.
#[derive(Default)]
pub struct IdleList {
    #[expect(clippy::box_collection, reason = "a word for each of many endpoints without any")]
    list: RefCell<Option<Box<VecDeque<Idle>>>>,
    /// The pool has the endpoint among those to look after.
    listed: Cell<bool>,
}

impl IdleList {
    fn pop_latest(&self) -> Option<Idle> {
        self.list.borrow_mut().as_mut()?.pop_back()
    }

    fn push(&self, idle: Idle) {
        self.list.borrow_mut().get_or_insert_default().push_back(idle);
    }

    fn take_all(&self) -> VecDeque<Idle> {
        self.list.take().map_or_else(VecDeque::new, |list| *list)
    }
}

/// The idle connections of a worker.
pub struct Pool {
    /// The endpoints that may have some, each with its cluster.
    endpoints: RefCell<Vec<(Rc<Cluster>, Rc<Endpoint>)>>,
    /// Of one cluster, at the most.
    count_max: usize,
    limits: PoolLimits,
    /// Of the keeper task, which every idle connection's news should wake.
    keeper: RefCell<Option<Waker>>,
    /// When the keeper looks for connections that are too old.
    sweep_at: Cell<Instant>,
}

impl Pool {
    /// An empty pool. It keeps `count_max` connections of each cluster, and for a moment as many more
    /// as were in use at a time.
    pub fn new(limits: &PoolLimits, count_max: usize) -> Self {
        Self {
            endpoints: RefCell::new(Vec::new()),
            count_max,
            limits: *limits,
            keeper: RefCell::new(None),
            sweep_at: Cell::new(Instant::NEVER),
        }
    }

    /// Idle connections.
    pub fn count(&self) -> usize {
        let count = |(_, endpoint): &(_, Rc<Endpoint>)| {
            endpoint.idle.list.borrow().as_ref().map_or(0, |list| list.len())
        };
        self.endpoints.borrow().iter().map(count).sum()
    }

    /// Takes the connection to the endpoint that was used last and is still good.
    #[inline]
    pub fn take(&self, shard: &Shard, chosen: &Chosen) -> Option<Upstream> {
        let now = lateen_ring::now();
        let endpoint = chosen.endpoint();
        loop {
            let idle = endpoint.idle.pop_latest()?;
            count_down(&chosen.cluster, 1);
            if now >= idle.dies || is_stale(idle.upstream.stream.has_news()) {
                evict(shard, idle);
                continue;
            }
            return Some(idle.upstream);
        }
    }

    /// Keeps a connection for the next request, if there is room and it is young enough.
    #[inline]
    pub fn put(&self, shard: &Shard, chosen: &Chosen, upstream: Upstream) {
        let now = lateen_ring::now();
        let Chosen { cluster, .. } = chosen;
        let endpoint = chosen.endpoint();
        let dies = (now + self.limits.idle_timeout).min(upstream.opened + self.limits.lifetime);
        let idle = Idle { upstream, since: now, dies };
        if self.count_max == 0 || now >= dies || endpoint.is_retired() || shard.is_draining() {
            return evict(shard, idle);
        }
        {
            let keeper = self.keeper.borrow();
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
        cluster.idle_count.set(cluster.idle_count.get() + 1);
        if !endpoint.idle.listed.replace(true) {
            self.endpoints.borrow_mut().push((cluster.clone(), endpoint.clone()));
        }
        // One too many is closed once it was of no use for a while: where more requests than the
        // pool holds are answered in one turn, the next turn needs all their connections again.
        let has_surplus = cluster.idle_count.get() > self.count_max;
        let patience =
            if has_surplus { limits::POOL_SURPLUS_IDLE } else { self.limits.idle_timeout };
        if self.sweep_at.get() > now + patience {
            self.sweep_at.set(now + patience);
            if let Some(keeper) = &*self.keeper.borrow() {
                keeper.wake_by_ref();
            }
        }
    }

    /// Closes all idle connections, at a drain.
    pub fn clear(&self, shard: &Shard) {
        let all = std::mem::take(&mut *self.endpoints.borrow_mut());
        for (cluster, endpoint) in all {
            endpoint.idle.listed.set(false);
            self.clear_endpoint(shard, &cluster, &endpoint);
        }
    }

    /// Closes the idle connections of an endpoint that is no more.
    pub fn clear_endpoint(&self, shard: &Shard, cluster: &Cluster, endpoint: &Endpoint) {
        let all = endpoint.idle.take_all();
        count_down(cluster, all.len());
        for idle in all {
            evict(shard, idle);
        }
    }

    /// Removes every connection that has news, is too old, or is one too many and of no use; says
    /// when to look again.
    fn sweep(&self, shard: &Shard, cx: &mut Context<'_>) -> Instant {
        let now = lateen_ring::now();
        let mut bad = Vec::new();
        let mut next = Instant::NEVER;
        self.endpoints.borrow_mut().retain(|(cluster, endpoint)| {
            let mut list = endpoint.idle.list.borrow_mut();
            let Some(idle_ones) = list.as_mut() else {
                endpoint.idle.listed.set(false);
                return false;
            };
            let mut index = 0;
            while index < idle_ones.len() {
                let idle = &idle_ones[index];
                let news = idle.upstream.stream.poll_news(cx) == Poll::Ready(());
                let dies = if cluster.idle_count.get() > self.count_max {
                    idle.dies.min(idle.since + limits::POOL_SURPLUS_IDLE)
                } else {
                    idle.dies
                };
                if is_stale(news) || now >= dies {
                    bad.extend(idle_ones.remove(index));
                    count_down(cluster, 1);
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
        });
        for idle in bad {
            evict(shard, idle);
        }
        next
    }
}

fn count_down(cluster: &Cluster, count: usize) {
    cluster.idle_count.set(cluster.idle_count.get() - count);
}

/// Whether news of an idle connection make it no good, which they do.
#[inline]
fn is_stale(news: bool) -> bool {
    news && !plant::has(Plant::StaleConnectionKept)
}

fn evict(shard: &Shard, idle: Idle) {
    shard.metrics().pool_evicted.increment();
    close_upstream(idle.upstream, CloseReason::Orderly);
}

/// Closes a connection to an endpoint, for `reason`.
pub fn close_upstream(upstream: Upstream, reason: CloseReason) {
    upstream.close_reason.set(reason);
}

/// The keeper of a worker's pool; runs as long as the worker.
pub async fn keep(shard: Rc<Shard>) {
    let deadline = Deadline::new();
    poll_fn(|cx| -> Poll<()> {
        *shard.pool.keeper.borrow_mut() = Some(cx.waker().clone());
        let next = shard.pool.sweep(&shard, cx);
        shard.pool.sweep_at.set(next);
        deadline.set(next);
        let _ = deadline.poll_past(cx);
        Poll::Pending
    })
    .await;
}

impl std::fmt::Debug for Pool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pool").field("count", &self.count()).finish_non_exhaustive()
    }
}
