//! The L4 conductor: one client connection from its first byte to its last.
//!
//! Before: `accept::listener` let the client in. Then, in this order: detect what it speaks, and
//! either join it to an upstream (TCP), or serve one request after another (`request`). It owns the
//! branching; the rooms it calls never call each other.

use std::future::{Future, poll_fn};
use std::io;
use std::net::Shutdown;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use lateen_ring::{Instant, Lease, room};
use lateen_snapshot::model::Protocol;

use crate::accept::detect::{Detected, detect};
use crate::accept::proxied::{self, read_proxy_header};
use crate::bulkhead::Bulkhead;
use crate::bulkhead::total::Spare;
use crate::client::Connection;
use crate::failure::{Failure, Stage};
use crate::forward::pool::close_upstream;
use crate::forward::received::Received;
use crate::forward::tunnel::{End, end_tunnel, tunnel};
use crate::limits;
use crate::observe::metrics::CloseReason;
use crate::observe::metrics::lasted::Lasted;
use crate::plant::{self, Plant};
use crate::reach::{Connected, Haste, Reached, TcpLine, connect_any};
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

/// Who said something, or came to an end, first.
enum Spoke {
    Client(io::Result<Option<Lease>>),
    Upstream(io::Result<Option<Lease>>),
    /// Neither, for as long as was to be waited.
    Nobody,
    /// Neither, and somebody else waits for room for a connection.
    Wanted,
}

/// Listens until it is known what the client speaks. Undecided for the detect timeout, it connects an
/// upstream and goes on listening to both sides, in which the upstream's first word settles it:
///
/// ```text
/// silent ─detect timeout─▶ connected ──upstream speaks──▶ TCP
///   │      (where there is room for a connection; else again)
///   │                        │ somebody waits for the room: given up, connected again later
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
    // Accepted, or the client's first byte, whichever was last: what bounds the wait for either.
    let mut heard_at = lateen_ring::now();
    // The same, or connected, or found that there is no room to be: what the next step is counted from.
    let (mut since, mut wait) = (heard_at, timeouts.detect);
    let spoken = loop {
        let silent = received.is_empty();
        connection.deadline.set(match (&early, verdict) {
            (Some(_), _) if silent => heard_at + timeouts.idle,
            (Some(_), Detected::LikelyHttp1) => heard_at + timeouts.header,
            _ => since + wait,
        });
        // Nothing was asked for: at the cap, and at a drain, this is an idle connection like any other.
        let idles = silent && (early.is_some() || since > heard_at);
        if idles {
            shard.clients.became_idle(connection.client, lateen_ring::now());
        }
        let spoke = who_speaks_first(connection, early.as_deref(), silent).await;
        if idles {
            shard.clients.became_busy(connection.client);
        }
        match spoke {
            Spoke::Client(Ok(Some(lease))) => {
                connection.counts().read_bytes.add(lease.len() as u64);
                if silent {
                    heard_at = lateen_ring::now();
                    (since, wait) = (heard_at, timeouts.detect);
                    line.set_due(true);
                }
                received.push(lease);
                verdict = detect(received.bytes());
                match verdict {
                    Detected::Http1 => {
                        if let Some(early) = early {
                            shard.pool.put(shard, early.in_flight.chosen(), early.upstream);
                        }
                        connection.request_began(heard_at);
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
                // Once, as soon as it could be of use: not again and again what others use.
                let recalls = since == heard_at;
                match connect_any(connection, &line, Haste::Early { recalls }).await {
                    Reached::Endpoint(connected) => early = Some(connected),
                    Reached::Nobody => break Spoken::Nothing,
                    // Whoever may have nothing to say to it takes nobody's place in the queue.
                    Reached::NoRoom => {
                        let now = lateen_ring::now();
                        // With nobody to hear, for as long as with somebody.
                        let until = heard_at + if silent { timeouts.idle } else { timeouts.header };
                        if now >= until {
                            if silent {
                                connection.closes_for(CloseReason::TimedOut);
                                break Spoken::Nothing;
                            }
                            break Spoken::tcp(None, None);
                        }
                        // The first time after the least, then twice as late each time.
                        let again = if since > heard_at { 2 * wait } else { Duration::ZERO };
                        let most = limits::EARLY_CONNECT_AGAIN_MAX.min(until.since(now));
                        (since, wait) = (now, again.max(limits::EARLY_CONNECT_AGAIN).min(most));
                    }
                }
                line.set_due(!silent);
                if silent {
                    since = lateen_ring::now();
                }
            }
            // Nor does it keep a place that somebody has a use for.
            Spoke::Wanted => {
                let Connected { in_flight, upstream, .. } = *early.take().expect("it is wanted");
                shard.pool.put(shard, in_flight.chosen(), upstream);
                (since, wait) = (lateen_ring::now(), limits::EARLY_CONNECT_AGAIN_MAX);
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

/// Waits for either side, up to the connection's deadline; while both are silent also for somebody who has
/// more use for the upstream's place.
async fn who_speaks_first(
    connection: &Connection,
    early: Option<&Connected>,
    is_silent: bool,
) -> Spoke {
    let of_spare = early.filter(|_| is_silent).map(|early| &early.in_flight.chosen().cluster);
    let spare = match of_spare {
        Some(cluster) => Some(SpareGuard::enter(cluster.bulkhead.clone()).await),
        None => None,
    };
    poll_fn(|cx| {
        if let Poll::Ready(said) = connection.stream.poll_recv(cx) {
            return Poll::Ready(Spoke::Client(said));
        }
        if let Some(early) = early
            && let Poll::Ready(said) = early.upstream.stream.poll_recv(cx)
        {
            return Poll::Ready(Spoke::Upstream(said));
        }
        if spare.as_ref().is_some_and(|guard| guard.spare.is_wanted()) {
            return Poll::Ready(Spoke::Wanted);
        }
        connection.deadline.poll_past(cx).map(|()| Spoke::Nobody)
    })
    .await
}

/// An upstream's place that is given up as soon as somebody asks for it, while this lives.
struct SpareGuard {
    bulkhead: Rc<Bulkhead>,
    spare: Arc<Spare>,
}

impl SpareGuard {
    async fn enter(bulkhead: Rc<Bulkhead>) -> Self {
        let keeper = poll_fn(|cx| Poll::Ready(cx.waker().clone())).await;
        let spare = bulkhead.enter_spare(keeper);
        Self { bulkhead, spare }
    }
}

impl Drop for SpareGuard {
    fn drop(&mut self) {
        self.bulkhead.leave_spare(&self.spare);
    }
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
            if !connection.shard.lag.try_begin() {
                Box::pin(await_turn(connection, received)).await;
            }
            let after = room().put(proxy_request(connection, received)).await;
            connection.unfinished.set(false);
            if !matches!(after, After::KeepAlive | After::Parted) && connection.has_lasted() {
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
                After::Close | After::Parted => return,
                After::Linger => return Box::pin(linger(connection, received)).await,
                After::Reset => return connection.stream.reset_on_close(),
            }
        }
    }
}

/// Waits until the worker, which can't keep up, may begin this request. It counts from its first byte.
async fn await_turn(connection: &Connection, received: &mut Received) {
    connection.shard.metrics().overload.held.increment();
    connection.request_began(connection.take_request_began());
    received.settle();
    connection.shard.lag.begin(&connection.deadline).await;
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
        None => match connect_any(connection, &line, Haste::Due).await {
            Reached::Endpoint(connected) => connected,
            Reached::Nobody | Reached::NoRoom => return,
        },
    };
    let Connected { upstream, in_flight, bounds, flows, epoch, limits, said } = *connected;
    if limits.is_some_and(|limits| limits.ask(&shard, None, connection.limited_peer()).is_some()) {
        close_upstream(upstream, CloseReason::Orderly);
        connection.stream.reset_on_close();
        return line.tell(Some(Failure::rate_limited(Stage::Connect)));
    }
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

#[cfg(test)]
mod early_tests;

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
