//! The L4 conductor: one client connection from its first byte to its last.
//!
//! Before: `accept::listener` let the client in. Then, in this order: detect what it speaks, and
//! either join it to an upstream (TCP), or serve one request after another (`request`). It owns the
//! branching; the rooms it calls never call each other.

use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::io;
use std::net::{Shutdown, SocketAddr};
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use lateen_ring::{Instant, Lease, boxed};
use lateen_snapshot::model::{Epoch, Protocol};

use crate::accept::detect::{Detected, detect};
use crate::accept::proxied::{self, read_proxy_header};
use crate::client::Connection;
use crate::cluster::{Chosen, Cluster};
use crate::decide::balance::Wish;
use crate::decide::balance::key::key_of_connection;
use crate::failure::{Failure, Stage};
use crate::forward::connect::connect;
use crate::forward::introduce::introduce;
use crate::forward::leaving::unless_gone;
use crate::forward::pool::{Upstream, close_upstream};
use crate::forward::received::Received;
use crate::forward::tunnel::{Bounds, End, Passed, end_tunnel, tunnel};
use crate::in_flight::InFlight;
use crate::limits;
use crate::observe::access_log::Entry;
use crate::observe::metrics::CloseReason;
use crate::observe::metrics::lasted::Lasted;
use crate::plant::{self, Plant};
use crate::rate_limit::Limits;
use crate::rate_limit::flow::Flows;
use crate::request::{After, proxy_request};

/// Serves a client until its connection ends.
///
/// The future is what an idle connection costs; everything that is only needed while something
/// happens is boxed when it begins and freed when it ends.
#[expect(clippy::manual_async_fn, reason = "an async fn would keep its argument twice")]
pub fn serve_connection(mut connection: Connection) -> impl Future<Output = ()> {
    async move {
        let mut received = Received::default();

        // Who is it? A load balancer that is declared says whom it passes on.
        if proxied::is_declared(&connection) {
            match Box::pin(read_proxy_header(&connection, &mut received)).await {
                Ok(Some(ends)) => connection.set_ends(ends),
                Ok(None) => {}
                Err(()) => return,
            }
        }
        let connection = &connection;

        // What does it speak? A client that keeps us waiting gets its upstream connected meanwhile,
        // and if that speaks first, it is a protocol that servers begin.
        let spoken = match protocol(connection) {
            Protocol::Http => Spoken::Http1,
            Protocol::Tcp => Spoken::Tcp(None),
            Protocol::Auto => {
                connection.unfinished.set(true);
                let spoken = Box::pin(listen_in(connection, &mut received)).await;
                connection.unfinished.set(false);
                spoken
            }
        };
        match spoken {
            Spoken::Http1 => serve_http1(connection, &mut received).await,
            Spoken::Tcp(upstream) => {
                Box::pin(serve_tcp(connection, std::mem::take(&mut received), upstream)).await;
            }
            Spoken::Nothing => {}
        }
    }
}

/// What the listener's clients speak.
fn protocol(connection: &Connection) -> Protocol {
    let live = connection.shard.views.of_slot(connection.slot);
    live.listener(connection.slot).map_or(Protocol::Tcp, |listener| listener.protocol)
}

/// What a client turned out to speak.
enum Spoken {
    Http1,
    /// Anything else; perhaps with the upstream that was connected meanwhile, and what that has said.
    Tcp(Option<Box<Connected>>),
    /// It left, or its upstream can't be had.
    Nothing,
}

/// An upstream that a TCP client was connected to, by the snapshot of that moment.
struct Connected {
    upstream: Upstream,
    in_flight: InFlight,
    /// How long the tunnel may be silent, and there.
    bounds: Bounds,
    /// What limits its bytes.
    flows: Option<Box<Flows>>,
    /// Of the snapshot.
    epoch: Epoch,
    /// What the upstream said before the client was known to speak TCP.
    said: Option<Lease>,
}

/// Who said something, or came to an end, first.
enum Spoke {
    Client(io::Result<Option<Lease>>),
    Upstream(io::Result<Option<Lease>>),
    /// Neither, for as long as was to be waited.
    Nobody,
}

/// Listens until it is known what the client speaks. Undecided for the detect timeout, it connects an
/// upstream and goes on listening to both sides, in which the upstream's first word settles it:
///
/// ```text
/// silent ─detect timeout─▶ connected ──upstream speaks──▶ TCP
///   │                        │ idle timeout: closed
///   └─────first bytes────────┴─▶ decided: HTTP/1 or TCP
///                                likely HTTP/1 ─detect timeout─▶ connected ─header timeout─▶ TCP
///                                undecided ────detect timeout──▶ TCP
/// ```
async fn listen_in(connection: &Connection, received: &mut Received) -> Spoken {
    let shard = &connection.shard;
    let timeouts = &shard.config.timeouts;
    let line = TcpLine::begin(connection);
    let mut early: Option<Box<Connected>> = None;
    // Something may have come behind a header of the PROXY protocol.
    let mut verdict = detect(received.bytes());
    match verdict {
        Detected::Http1 => {
            connection.request_began(lateen_ring::now());
            return Spoken::Http1;
        }
        Detected::Tcp => return Spoken::Tcp(None),
        Detected::LikelyHttp1 | Detected::Undecided => received.settle(),
    }
    line.set_due(!received.is_empty());
    // Accepted, then connected, then the client's first byte: whichever was last.
    let mut since = lateen_ring::now();
    let spoken = loop {
        let silent = received.is_empty();
        let patience = match (&early, verdict) {
            (Some(_), _) if silent => timeouts.idle,
            (Some(_), Detected::LikelyHttp1) => timeouts.header,
            _ => timeouts.detect,
        };
        connection.deadline.set(since + patience);
        // Nothing was asked for: at the cap, and at a drain, this is an idle connection like any other.
        let idles = silent && early.is_some();
        if idles {
            shard.clients.became_idle(connection.client, lateen_ring::now());
        }
        let spoke = who_speaks_first(connection, early.as_ref().map(|early| &early.upstream)).await;
        if idles {
            shard.clients.became_busy(connection.client);
        }
        match spoke {
            Spoke::Client(Ok(Some(lease))) => {
                connection.counts().read_bytes.add(lease.len() as u64);
                if silent {
                    since = lateen_ring::now();
                    line.set_due(true);
                }
                received.push(lease);
                verdict = detect(received.bytes());
                match verdict {
                    Detected::Http1 => {
                        if let Some(early) = early {
                            shard.pool.put(shard, early.in_flight.chosen(), early.upstream);
                        }
                        connection.request_began(since);
                        break Spoken::Http1;
                    }
                    Detected::Tcp => break Spoken::tcp(early, None),
                    Detected::LikelyHttp1 | Detected::Undecided => received.settle(),
                }
            }
            Spoke::Client(Ok(None)) if silent && early.is_none() => break Spoken::Nothing,
            Spoke::Client(Err(error)) => {
                connection.closes_for(CloseReason::of_error(&error));
                if let Some(early) = early {
                    close_upstream(early.upstream, CloseReason::Orderly);
                }
                break Spoken::Nothing;
            }
            Spoke::Upstream(Ok(Some(lease))) => {
                shard.upstream_counts().read_bytes.add(lease.len() as u64);
                break Spoken::tcp(early, Some(lease));
            }
            // Either closed: the tunnel passes on what there is to pass on.
            Spoke::Client(Ok(None)) | Spoke::Upstream(_) => break Spoken::tcp(early, None),
            Spoke::Nobody if early.is_none() && (silent || verdict == Detected::LikelyHttp1) => {
                early = connect_any(connection, &line).await;
                if early.is_none() {
                    break Spoken::Nothing;
                }
                line.set_due(!silent);
                if silent {
                    since = lateen_ring::now();
                }
            }
            Spoke::Nobody if silent => {
                connection.closes_for(CloseReason::TimedOut);
                if let Some(early) = early {
                    close_upstream(early.upstream, CloseReason::TimedOut);
                }
                break Spoken::Nothing;
            }
            // A line that does not end: whatever it is, waiting any longer would stall it.
            Spoke::Nobody => break Spoken::tcp(early, None),
        }
    };
    line.set_due(false);
    spoken
}

impl Spoken {
    fn tcp(mut early: Option<Box<Connected>>, said: Option<Lease>) -> Self {
        if let Some(early) = &mut early {
            early.said = said;
        }
        Self::Tcp(early)
    }
}

/// Waits for either side, up to the connection's deadline.
async fn who_speaks_first(connection: &Connection, upstream: Option<&Upstream>) -> Spoke {
    poll_fn(|cx| {
        if let Poll::Ready(said) = connection.stream.poll_recv(cx) {
            return Poll::Ready(Spoke::Client(said));
        }
        if let Some(upstream) = upstream
            && let Poll::Ready(said) = upstream.stream.poll_recv(cx)
        {
            return Poll::Ready(Spoke::Upstream(said));
        }
        connection.deadline.poll_past(cx).map(|()| Spoke::Nobody)
    })
    .await
}

/// Serves one request after another.
#[expect(clippy::manual_async_fn, reason = "an async fn would keep its arguments twice")]
fn serve_http1<'a>(
    connection: &'a Connection,
    received: &'a mut Received,
) -> impl Future<Output = ()> + 'a {
    async move {
        let mut patience = connection.shard.config.timeouts.header;
        loop {
            if received.is_empty() {
                match next_bytes(connection, patience).await {
                    Some(lease) => received.push(lease),
                    None => return,
                }
            }
            connection.unfinished.set(true);
            let after = boxed(proxy_request(connection, received)).await;
            connection.unfinished.set(false);
            if !matches!(after, After::KeepAlive) && connection.has_lasted() {
                connection.shard.metrics().lasted[Lasted::Client as usize].increment();
            }
            match after {
                After::KeepAlive => {
                    patience = connection.shard.config.timeouts.idle;
                    if plant::has(Plant::PipelinedDropped) {
                        *received = Received::default();
                    }
                    connection.stream.set_multishot(true);
                }
                // Closing over unread bytes would be a reset, which may overtake the answer.
                After::Close if !received.is_empty() || connection.stream.has_unread() => {
                    return Box::pin(linger(connection, received)).await;
                }
                After::Close => return,
                After::Linger => return Box::pin(linger(connection, received)).await,
                After::Reset => return connection.stream.reset_on_close(),
            }
        }
    }
}

/// Waits for the first bytes of the next request, for as long as `patience` from now. `None`: the
/// connection is over.
///
/// What an idle connection's future is for most of its life: one word.
fn next_bytes(
    connection: &Connection,
    patience: Duration,
) -> impl Future<Output = Option<Lease>> + '_ {
    let now = lateen_ring::now();
    connection.deadline.set(if plant::has(Plant::IdleUnbounded) {
        Instant::NEVER
    } else {
        now + patience
    });
    connection.shard.clients.became_idle(connection.client, now);
    poll_fn(|cx| {
        let lease = match connection.stream.poll_recv(cx) {
            Poll::Ready(lease) => Some(lease),
            Poll::Pending if connection.deadline.poll_past(cx).is_pending() => {
                return Poll::Pending;
            }
            Poll::Pending => None,
        };
        connection.shard.clients.became_busy(connection.client);
        Poll::Ready(match lease {
            Some(Ok(Some(lease))) => {
                connection.counts().read_bytes.add(lease.len() as u64);
                Some(lease)
            }
            Some(Ok(None)) => None,
            Some(Err(error)) => {
                connection.closes_for(CloseReason::of_error(&error));
                None
            }
            None => {
                connection.closes_for(CloseReason::TimedOut);
                None
            }
        })
    })
}

/// Closes so that a client that is still sending gets to read its answer: first the FIN, then a
/// bounded amount is read and thrown away, since closing over unread bytes is a reset, which may
/// overtake the answer (RFC 9112 §9.6).
async fn linger(connection: &Connection, received: &mut Received) {
    let mut discarded = received.bytes().len();
    *received = Received::default();
    if connection.stream.shutdown(Shutdown::Write).is_err() {
        return;
    }
    connection.deadline.set_after(limits::DISCARD_TIMEOUT);
    while discarded <= limits::DISCARD_BYTES_MAX {
        match connection.deadline.guard(connection.stream.recv()).await {
            Ok(Ok(Some(lease))) => {
                connection.counts().read_bytes.add(lease.len() as u64);
                discarded += lease.len();
                if plant::has(Plant::LeaseLeaked) {
                    std::mem::forget(lease);
                }
            }
            _ => return,
        }
    }
}

/// Joins the client to an upstream.
async fn serve_tcp(connection: &Connection, received: Received, early: Option<Box<Connected>>) {
    let shard = connection.shard.clone();
    let line = TcpLine::begin(connection);
    let connected = match early {
        Some(early) => early,
        None => match connect_any(connection, &line).await {
            Some(connected) => connected,
            None => return,
        },
    };
    let Connected { upstream, in_flight, bounds, flows, epoch, said } = *connected;
    let mut from_upstream = Received::default();
    if let Some(said) = said {
        from_upstream.push(said);
    }
    line.epoch.set(epoch);
    line.upstream.set(Some(in_flight.address()));
    line.set_due(true);
    let ended = tunnel(
        End { stream: &connection.stream, counts: connection.counts(), received },
        End { stream: &upstream.stream, counts: shard.upstream_counts(), received: from_upstream },
        &connection.deadline,
        bounds,
        shard.metrics(),
        &line.passed,
        flows.as_deref(),
    )
    .await;
    line.tell(end_tunnel(connection, upstream, ended).await);
}

/// Connects the client to any endpoint that can be had. `None`: there is none; the client gets a
/// reset, since there is no other way to say so before its protocol is known, and its line is told.
async fn connect_any(connection: &Connection, line: &TcpLine<'_>) -> Option<Box<Connected>> {
    let shard = &connection.shard;
    let began = lateen_ring::now();
    let mut tried = Vec::new();
    let mut failure = Failure::no_healthy_upstream();
    let before = connection.unfinished.replace(true);
    let TcpWay { cluster, idle_timeout, most_ms, epoch, is_limited, flows } = tcp_way(connection);
    line.epoch.set(epoch);
    line.set_due(true);
    if is_limited {
        failure = Failure::rate_limited(Stage::Connect);
    } else if let Some(cluster) = &cluster {
        let timeout = cluster.connect_timeout(shard.config.timeouts.connect);
        let keys = cluster.hash_keys();
        let key = keys.and_then(|keys| key_of_connection(keys, connection.peer.ip()));
        let wish = key.map(Wish::Key);
        while tried.len() < limits::CONNECT_TRIES_MAX {
            let Some(index) = cluster.pick(shard, wish, &tried) else { break };
            let mut in_flight = InFlight::new(Chosen { cluster: cluster.clone(), index });
            in_flight.leave_untimed();
            line.upstream.set(Some(in_flight.address()));
            // One timeout for all of them: the first, if it is a black hole, must leave some to the
            // rest.
            let others = cluster.endpoint_count().min(limits::CONNECT_TRIES_MAX) - tried.len();
            let left = timeout.saturating_sub(lateen_ring::now().since(began)) / others as u32;
            let deadline = &connection.deadline;
            let room = cluster.bulkhead.enter(deadline, Instant::NEVER);
            let unit = match unless_gone(connection, room).await.and_then(|unit| unit) {
                Ok(unit) => unit,
                Err(overflow) => {
                    failure = overflow;
                    break;
                }
            };
            let connected =
                match connect(shard, in_flight.chosen(), unit, deadline, Some(left)).await {
                    Ok(upstream) => introduce(connection, cluster, upstream).await,
                    failed => failed,
                };
            match connected {
                Ok(upstream) => {
                    connection.unfinished.set(before);
                    let said = None;
                    let ends = connection.tunnel_ends(cluster, upstream.opened, most_ms);
                    let bounds = Bounds { idle_timeout, ends };
                    let connected = Connected { upstream, in_flight, bounds, flows, epoch, said };
                    return Some(Box::new(connected));
                }
                Err(failed) => failure = failed,
            }
            tried.push(index);
            if lateen_ring::now().since(began) >= timeout {
                break;
            }
        }
    }
    connection.stream.reset_on_close();
    line.tell(Some(failure));
    None
}

/// Where the bytes of a TCP client go, all of it by one snapshot.
struct TcpWay {
    /// `None`: its listener has no such place.
    cluster: Option<Rc<Cluster>>,
    /// How long the tunnel may be silent.
    idle_timeout: Duration,
    /// How long it may be there, if the route says so.
    most_ms: Option<u32>,
    /// Of the snapshot.
    epoch: Epoch,
    /// It is over a limit of its rate.
    is_limited: bool,
    /// What limits its bytes.
    flows: Option<Box<Flows>>,
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
    let cluster = backend.and_then(|backend| {
        let id = live.serving(shard, backend.cluster?);
        Some(live.cluster(shard, id).clone())
    });
    let limits = backend.and_then(|backend| backend.rate_limits.as_deref());
    let limits = limits.map(|limits| Limits::of_connections(limits, shard, &live.loaded));
    let peer = connection.peer.ip();
    let is_limited = limits.as_ref().is_some_and(|limits| limits.ask(shard, None, peer).is_some());
    let flows = limits.as_ref().and_then(|limits| limits.flows(shard, None, peer));
    let own = route.and_then(|route| route.idle_timeout_ms);
    let idle_timeout =
        own.map_or(shard.config.timeouts.idle, |ms| Duration::from_millis(ms.into()));
    let most_ms = route.and_then(|route| route.connection_ms_max);
    TcpWay { cluster, idle_timeout, most_ms, epoch: live.loaded.epoch, is_limited, flows }
}

/// What the log tells of a TCP connection. A line that is due when it is dropped is told then: its
/// task was aborted when a drain's grace was over, or panicked.
struct TcpLine<'a> {
    connection: &'a Connection,
    began: Instant,
    /// Who was connected, or tried last.
    upstream: Cell<Option<SocketAddr>>,
    /// Of the snapshot by which that was.
    epoch: Cell<Epoch>,
    passed: Passed,
    due: Cell<bool>,
}

impl<'a> TcpLine<'a> {
    /// Not due yet.
    fn begin(connection: &'a Connection) -> Self {
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
    fn set_due(&self, due: bool) {
        self.due.set(due);
    }

    fn tell(&self, failure: Option<Failure>) {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::accept::clients;

    fn bytes_of<'a, 'b, F: Future>(_: fn(&'a Connection, &'b mut Received) -> F) -> usize {
        size_of::<F>()
    }

    fn bytes_of_connection<F: Future>(_: fn(Connection) -> F) -> usize {
        size_of::<F>()
    }

    #[test]
    fn an_idle_connection_stays_small() {
        let future = bytes_of_connection(serve_connection);
        let slots = lateen_ring::IDLE_STREAM_BYTES + clients::SLOT_BYTES;
        assert!(future + slots <= 520, "{future} bytes of future, {slots} bytes of slots");
    }

    #[test]
    fn a_request_is_not_far_smaller_than_its_block() {
        let future = bytes_of(proxy_request);
        let block = lateen_ring::BOXED_BYTES_MAX;
        assert!(future <= block && future > block / 2, "{future} bytes in a block of {block}");
    }
}
