//! An upstream for a client that speaks no HTTP, or may not: where its bytes go, who is connected for it, and
//! the log line that tells of it.
//!
//! Before: `connection` found out that a client speaks something else, or has nothing to say. After: both are
//! joined by a tunnel.

use std::cell::Cell;
use std::iter;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use lateen_ring::{Instant, Lease};
use lateen_snapshot::model::Epoch;
use lateen_snapshot::model::overload::Priority;

use crate::client::Connection;
use crate::cluster::{Chosen, Cluster};
use crate::decide::balance::Wish;
use crate::decide::balance::key::key_of_connection;
use crate::failure::{Failure, Stage};
use crate::forward::connect::connect;
use crate::forward::introduce::introduce;
use crate::forward::leaving::unless_gone;
use crate::forward::pool::Upstream;
use crate::forward::tunnel::{Bounds, Passed};
use crate::in_flight::InFlight;
use crate::limits;
use crate::observe::access_log::Entry;
use crate::observe::metrics::CloseReason;
use crate::rate_limit::Limits;
use crate::rate_limit::flow::Flows;

/// An upstream that a TCP client was connected to, by the snapshot of that moment.
pub struct Connected {
    /// The connection.
    pub upstream: Upstream,
    /// The endpoint, of which it is load.
    pub in_flight: InFlight,
    /// How long the tunnel may be silent, and there.
    pub bounds: Bounds,
    /// What limits its bytes.
    pub flows: Option<Box<Flows>>,
    /// Of the snapshot.
    pub epoch: Epoch,
    /// Of the rate of connections: not asked yet, since the client may turn out to speak HTTP.
    pub limits: Option<Limits>,
    /// What the upstream said before the client was known to speak TCP.
    pub said: Option<Lease>,
}

/// Whether it is known that a client needs its upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Haste {
    /// It may turn out to speak HTTP: it waits for no room, and no limit counts it yet.
    Early {
        /// Where there is no room, a connection that idles is given up for it.
        recalls: bool,
    },
    /// It does.
    Due,
}

/// What came of the wish for an upstream.
pub enum Reached {
    /// It is connected.
    Endpoint(Box<Connected>),
    /// None can be had; the client gets a reset, since there is no other way to say so before its protocol
    /// is known, and its line is told.
    Nobody,
    /// There is no room for a connection now, and who is early does not wait for it.
    NoRoom,
}

/// Connects the client to any endpoint that can be had.
pub async fn connect_any(connection: &Connection, line: &TcpLine<'_>, haste: Haste) -> Reached {
    let shard = &connection.shard;
    let before = connection.unfinished.replace(true);
    let way = tcp_way(connection);
    line.epoch.set(way.epoch);
    line.set_due(true);
    let is_limited = haste == Haste::Due
        && way
            .limits
            .as_ref()
            .is_some_and(|limits| limits.ask(shard, None, connection.limited_peer()).is_some());
    let reached = match is_limited {
        true => Err(Failure::rate_limited(Stage::Connect)),
        false => connect_one_of(connection, line, &way.clusters, haste).await,
    };
    match reached {
        Ok(Some((in_flight, upstream))) => {
            connection.unfinished.set(before);
            let TcpWay { idle_timeout, most_ms, epoch, limits, .. } = way;
            let of = &in_flight.chosen().cluster;
            let ends = connection.tunnel_ends(of, upstream.opened, most_ms);
            let bounds = Bounds { idle_timeout, ends };
            let peer = connection.limited_peer();
            let flows = limits.as_ref().and_then(|it| it.flows(shard, None, peer, true));
            let flows = flows.map(Box::new);
            let limits = limits.filter(|_| haste != Haste::Due);
            let said = None;
            let connected = Connected { upstream, in_flight, bounds, flows, epoch, limits, said };
            Reached::Endpoint(Box::new(connected))
        }
        Ok(None) => {
            connection.unfinished.set(before);
            Reached::NoRoom
        }
        Err(failure) => {
            connection.stream.reset_on_close();
            line.tell(Some(failure));
            Reached::Nobody
        }
    }
}

/// Connects to an endpoint of the first of these clusters, or if all of those were tried of the next.
/// `None`: there is no room, and who is early does not wait for it.
async fn connect_one_of(
    connection: &Connection,
    line: &TcpLine<'_>,
    clusters: &[Rc<Cluster>],
    haste: Haste,
) -> Result<Option<(InFlight, Upstream)>, Failure> {
    let (shard, deadline) = (&connection.shard, &connection.deadline);
    let mut failure = Failure::no_healthy_upstream();
    let Some((mut cluster, mut others)) = clusters.split_first() else { return Err(failure) };
    // Later by what was waited for room, which is no endpoint's time.
    let mut began = lateen_ring::now();
    let timeout = cluster.connect_timeout(shard.config.timeouts.connect);
    let mut tried = Vec::new();
    for connects in 0..limits::CONNECT_TRIES_MAX {
        if cluster.in_service_among(&tried) >= cluster.in_service_count()
            && let Some(at) = others.iter().position(|other| other.in_service_count() > 0)
        {
            (cluster, others) = (&others[at], &others[at + 1..]);
            tried.clear();
            shard.metrics().endpoint_pick_failover.increment();
        }
        // Before the pick, which moves turns on.
        let early_unit = match haste {
            Haste::Due => None,
            Haste::Early { recalls } => match cluster.bulkhead.try_enter() {
                Some(unit) => Some(unit),
                None if tried.len() < cluster.endpoint_count() => {
                    if recalls {
                        cluster.bulkhead.recall_idle();
                    }
                    return Ok(None);
                }
                None => break,
            },
        };
        let keys = cluster.hash_keys();
        let key = keys.and_then(|keys| key_of_connection(keys, connection.peer.ip()));
        let Some(index) = cluster.pick(shard, key.map(Wish::Key), &tried) else { break };
        let mut in_flight = InFlight::new(Chosen { cluster: cluster.clone(), index });
        in_flight.leave_untimed();
        line.upstream.set(Some(in_flight.address()));
        let unit = match early_unit {
            Some(unit) => unit,
            None => {
                let asked = lateen_ring::now();
                let entering = cluster.bulkhead.enter(Priority::Default, deadline, Instant::NEVER);
                let unit = unless_gone(connection, entering).await??;
                began = began + lateen_ring::now().since(asked);
                unit
            }
        };
        // One timeout for all of them: the first, if it is a black hole, must leave some to the rest.
        let further: usize = others.iter().map(|other| other.in_service_count()).sum();
        let untried = (cluster.endpoint_count() - tried.len() + further).max(1);
        let tries_left = untried.min(limits::CONNECT_TRIES_MAX - connects);
        let left = timeout.saturating_sub(lateen_ring::now().since(began)) / tries_left as u32;
        match connect(shard, in_flight.chosen(), unit, deadline, Some(left)).await {
            Ok(upstream) => match introduce(connection, cluster, upstream).await {
                Ok(upstream) => return Ok(Some((in_flight, upstream))),
                Err(failed) => failure = failed,
            },
            Err(failed) => failure = failed,
        }
        tried.push(index);
        if lateen_ring::now().since(began) >= timeout {
            break;
        }
    }
    Err(failure)
}

/// Where the bytes of a TCP client go, all of it by one snapshot.
struct TcpWay {
    /// A cluster, and what stands in for it once all of it was tried; empty: its listener has no such place.
    clusters: Vec<Rc<Cluster>>,
    /// How long the tunnel may be silent.
    idle_timeout: Duration,
    /// How long it may be there, if the route says so.
    most_ms: Option<u32>,
    /// Of the snapshot.
    epoch: Epoch,
    /// Of the rate of connections.
    limits: Option<Limits>,
}

/// The snapshot is let go: the tunnel may outlive many.
fn tcp_way(connection: &Connection) -> TcpWay {
    let shard = &connection.shard;
    let live = shard.views.of_slot(connection.slot);
    let route = live.listener(connection.slot).and_then(|listener| listener.tcp.as_ref());
    let backend = live.loaded.index_of(connection.slot).zip(route).and_then(|(listener, route)| {
        let chosen = live.loaded.tables.choose_tcp_backend(listener, shard.random())?;
        route.backends.get(chosen)
    });
    let clusters = backend.and_then(|backend| backend.cluster).map_or_else(Vec::new, |id| {
        let serving = live.serving(shard, id);
        let ids = iter::once(serving).chain(live.instead_of(id, serving));
        ids.map(|id| live.cluster(shard, id).clone()).collect()
    });
    let limits = backend.and_then(|backend| backend.rate_limits.as_deref());
    let limits = limits.map(|limits| Limits::of_connections(limits, shard, &live.loaded));
    let own = route.and_then(|route| route.idle_timeout_ms);
    let idle_timeout =
        own.map_or(shard.config.timeouts.idle, |ms| Duration::from_millis(ms.into()));
    let most_ms = route.and_then(|route| route.connection_ms_max);
    TcpWay { clusters, idle_timeout, most_ms, epoch: live.loaded.epoch, limits }
}

/// What the log tells of a TCP connection. A line that is due when it is dropped is told then: its
/// task was aborted when a drain's grace was over, or panicked.
pub struct TcpLine<'a> {
    connection: &'a Connection,
    began: Instant,
    /// Who was connected, or tried last.
    pub upstream: Cell<Option<SocketAddr>>,
    /// Of the snapshot by which that was.
    pub epoch: Cell<Epoch>,
    /// What went either way.
    pub passed: Passed,
    due: Cell<bool>,
}

impl<'a> TcpLine<'a> {
    /// Not due yet.
    pub fn begin(connection: &'a Connection) -> Self {
        Self {
            connection,
            began: lateen_ring::now(),
            upstream: Cell::new(None),
            epoch: Cell::default(),
            passed: Passed::default(),
            due: Cell::new(false),
        }
    }

    /// Whether there is something to tell, if it ended now.
    pub fn set_due(&self, due: bool) {
        self.due.set(due);
    }

    /// Tells of it: it is over.
    pub fn tell(&self, failure: Option<Failure>) {
        self.due.set(false);
        let shard = &self.connection.shard;
        if let Some(failure) = failure {
            shard.metrics().record_failure(failure);
        }
        let total_us = lateen_ring::clock().since(self.began).as_micros() as u64;
        shard.log(
            self.began,
            Entry {
                time_us: 0,
                request_id: b"",
                downstream: self.connection.peer,
                upstream: self.upstream.get(),
                method: b"",
                authority: b"",
                path: b"",
                version: "TCP",
                status: 0,
                flag: failure.map(|failure| failure.outcome().flag),
                request_bytes: self.passed.up.get(),
                response_bytes: self.passed.down.get(),
                total_us,
                upstream_us: self.upstream.get().map(|_| total_us),
                processing_us: 0,
                retries: 0,
                epoch: self.epoch.get(),
            },
        );
    }
}

impl Drop for TcpLine<'_> {
    fn drop(&mut self) {
        if self.due.get() {
            self.connection.closes_for(CloseReason::ConnectionAborted);
            self.tell(Some(Failure::cut_off(Stage::Tunnel)));
        }
    }
}
