//! Letting clients in, and ceasing to.
//!
//! Before: the main thread bound an address and gave each worker a socket of it. After: a task per
//! client runs `connection::serve_connection`. At the cap the client that has been idle longest goes
//! first; if none is idle, the new one is refused.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::rc::Rc;

use lateen_ring::{Instant, Listener, Stream, spawn};

use crate::connection::{Connection, serve_connection};
use crate::failure::{Failure, Stage};
use crate::limits;
use crate::shard::Shard;

/// Accepts until the task is ended.
pub async fn accept_clients(shard: Rc<Shard>, listener: Rc<Listener>) {
    loop {
        match listener.accept().await {
            Ok(stream) => admit(&shard, stream),
            Err(error) => {
                // No descriptor or no memory. The connection waits in the kernel's queue; make room
                // for it if somebody can be spared, else try again in a moment.
                tracing::warn!(%error, "accepting a connection failed");
                if !shard.clients.end_longest_idle(Instant::NEVER) {
                    lateen_ring::sleep(limits::ACCEPT_RETRY_AFTER).await;
                }
            }
        }
    }
}

/// Lets one client in, or refuses it at the cap.
pub fn admit(shard: &Rc<Shard>, stream: Stream) {
    if shard.clients.is_full() && !shard.clients.end_longest_idle(Instant::NEVER) {
        shard.metrics().record_failure(Failure::overflow(Stage::Accept));
        return stream.reset();
    }
    // A client that is gone already has no address any more; serving it finds that out.
    let peer = stream.peer_address().ok().and_then(|address| address.inet());
    let peer = peer.unwrap_or(SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0));
    let client = shard.clients.enter();
    let connection = Connection::new(shard.clone(), stream, peer, client);
    let task = spawn(serve_connection(connection));
    shard.clients.set_task(client, task);
}
