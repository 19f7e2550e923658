//! A client's connection, as everything that serves it sees it.
//!
//! Before: `accept::listener` makes one. After: the conductors and the rooms borrow it; dropping it
//! ends the client. It decides nothing.

use std::cell::Cell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use lateen_ring::{Deadline, Instant, Stream};

use crate::accept::clients::ClientId;
use crate::cluster::Cluster;
use crate::codec::proxy_protocol::Ends;
use crate::decide::lasting::{lasts_ns, scattered};
use crate::decide::limit_key::Peer;
use crate::forward::transfer::Timer;
use crate::loaded::ListenerSlot;
use crate::observe::metrics::{CloseReason, ConnectionMetrics, ConnectionSide};
use crate::shard::Shard;

/// A client's connection and what belongs to it.
pub struct Connection {
    /// The worker's state.
    pub shard: Rc<Shard>,
    /// The client's stream.
    pub stream: Stream,
    /// Who watches the clock for the one thing that is waited for.
    pub deadline: Deadline,
    /// The client's address.
    pub peer: SocketAddr,
    peer_text: AddressText,
    /// Its place in the table of clients.
    pub client: ClientId,
    /// Where it came in.
    pub slot: ListenerSlot,
    close_reason: Cell<CloseReason>,
    /// When detection got the first byte of the request that comes next; `NEVER` if it got none.
    first_byte_at: Cell<Instant>,
    /// Detection, a request, or the connecting of a tunnel is under way.
    pub unfinished: Cell<bool>,
}

impl Connection {
    /// A connection that was just accepted at `slot` from `peer` and entered as `client`.
    pub fn new(
        shard: Rc<Shard>,
        stream: Stream,
        peer: SocketAddr,
        client: ClientId,
        slot: ListenerSlot,
    ) -> Self {
        shard.metrics().connections(ConnectionSide::Downstream).on_open();
        // A v4 client of a dual-stack listener is a v4 client.
        let peer = SocketAddr::new(peer.ip().to_canonical(), peer.port());
        let ends = ends(&shard, slot);
        if ends != Instant::NEVER {
            shard.clients.set_ends(client, ends);
        }
        Self {
            shard,
            stream,
            deadline: Deadline::new(),
            peer,
            peer_text: AddressText::new(peer),
            client,
            slot,
            close_reason: Cell::new(CloseReason::Orderly),
            first_byte_at: Cell::new(Instant::NEVER),
            unfinished: Cell::new(false),
        }
    }

    /// The connection comes through a proxy that says who is at its ends.
    pub fn set_ends(&mut self, ends: Ends) {
        self.peer = SocketAddr::new(ends.source.ip().to_canonical(), ends.source.port());
        self.peer_text = AddressText::new(self.peer);
        self.shard.destinations.enter(self.client, ends.destination);
    }

    /// What the client connected to, if that can still be told.
    pub fn destination(&self) -> Option<SocketAddr> {
        let said = self.shard.destinations.of(self.client);
        said.or_else(|| self.stream.local_address().ok()?.inet())
    }

    /// The client, as limits count it.
    #[inline]
    pub fn limited_peer(&self) -> Peer<'_> {
        Peer { ip: self.peer.ip(), hashed: &self.shard.peer_hashes }
    }

    /// The client's IP address in text, without the port.
    #[inline]
    pub fn address_text(&self) -> &[u8] {
        self.peer_text.as_bytes()
    }

    /// What is counted of this side.
    #[inline]
    pub fn counts(&self) -> &ConnectionMetrics {
        self.shard.metrics().connections(ConnectionSide::Downstream)
    }

    /// A timer for a wait that nothing but its own limit bounds.
    #[inline]
    pub fn timer(&self) -> Timer<'_> {
        Timer { deadline: &self.deadline, until: Instant::NEVER }
    }

    /// Whether it has lasted as long as it may.
    #[inline]
    pub fn has_lasted(&self) -> bool {
        let ends = self.shard.clients.ends_of(self.client);
        ends != Instant::NEVER && lateen_ring::now() >= ends
    }

    /// Whether it may carry another request after this one.
    #[inline]
    pub fn may_go_on(&self) -> bool {
        !self.shard.closes_after(self.slot) && !self.has_lasted()
    }

    /// When a tunnel has lasted as long as its route says, else its cluster; but no longer than this
    /// connection may. Its upstream was `opened` then.
    pub fn tunnel_ends(&self, cluster: &Cluster, opened: Instant, most_ms: Option<u32>) -> Instant {
        let of_route = most_ms.map(|ms| {
            let most_ns = u64::from(ms) * 1_000_000;
            opened + Duration::from_nanos(lasts_ns(most_ns, scattered(opened.as_nanos())))
        });
        let own = of_route.or_else(|| cluster.connection_ends(opened));
        own.unwrap_or(Instant::NEVER).min(self.shard.clients.ends_of(self.client))
    }

    /// Detection got a request's first byte at `at`.
    pub fn request_began(&self, at: Instant) {
        self.first_byte_at.set(at);
    }

    /// When the first byte came of the request that is about to be served: now, unless detection had
    /// it for a while.
    #[inline]
    pub fn take_request_began(&self) -> Instant {
        lateen_ring::now().min(self.first_byte_at.replace(Instant::NEVER))
    }

    /// Notes how the connection ends, for `tcp_close_total`.
    pub fn closes_for(&self, reason: CloseReason) {
        self.close_reason.set(reason);
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        if self.unfinished.get() {
            // The task was aborted, or panicked: what the client has may look whole.
            self.stream.reset_on_close();
            if self.close_reason.get() == CloseReason::Orderly {
                self.closes_for(CloseReason::ConnectionAborted);
            }
        }
        self.counts().on_close(self.close_reason.get());
        self.shard.destinations.leave(self.client);
        self.shard.clients.leave(self.client);
    }
}

/// When a connection that begins now at `slot` has lasted as long as it may; `NEVER`: it may for ever.
fn ends(shard: &Shard, slot: ListenerSlot) -> Instant {
    let live = shard.views.of_slot(slot);
    let most_ms = live.listener(slot).and_then(|listener| listener.connection_ms_max);
    most_ms.map_or(Instant::NEVER, |ms| {
        let lasts_ns = lasts_ns(u64::from(ms) * 1_000_000, shard.random());
        lateen_ring::now() + Duration::from_nanos(lasts_ns)
    })
}

/// The longest text of an IP address, `ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff`: none is written
/// with a v4 address in it but those of `::/96` and `::ffff:0:0/96`, which are shorter.
const ADDRESS_TEXT_BYTES: usize = 39;

/// An IP address in text, made once per connection.
struct AddressText {
    bytes: [u8; ADDRESS_TEXT_BYTES],
    length: u8,
}

impl AddressText {
    fn new(address: SocketAddr) -> Self {
        use std::io::Write as _;
        let mut bytes = [0; ADDRESS_TEXT_BYTES];
        let mut room = &mut bytes[..];
        let fits = write!(room, "{}", address.ip());
        debug_assert!(fits.is_ok(), "the longest address fits");
        let left = room.len();
        Self { bytes, length: (ADDRESS_TEXT_BYTES - left) as u8 }
    }

    fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.length)]
    }
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connection").field("peer", &self.peer).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
