//! The header of the PROXY protocol that a connection from a declared source begins with.
//!
//! Before: `listener` let the connection in. After: its client is who the header says, for everything that
//! goes by the client's address, and what came behind the header is detected like any client's bytes. From
//! a source that is not declared a header is bytes like any others.

use std::cell::RefCell;
use std::collections::HashMap;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::task::Poll;

use lateen_ring::Lease;

use crate::accept::clients::ClientId;
use crate::client::Connection;
use crate::codec::proxy_protocol::{Ends, ProxyHeaderError, parse_proxy_header};
use crate::failure::{Failure, Refusal, Stage};
use crate::forward::received::Received;
use crate::observe::metrics::CloseReason;

/// What clients connected to, of those whose header said so: few have one, and an idle connection is to stay
/// small.
#[derive(Debug, Default)]
pub struct Destinations(RefCell<HashMap<ClientId, SocketAddr>>);

impl Destinations {
    /// Notes it of a client.
    pub fn enter(&self, client: ClientId, destination: SocketAddr) {
        self.0.borrow_mut().insert(client, destination);
    }

    /// A client's.
    pub fn of(&self, client: ClientId) -> Option<SocketAddr> {
        self.0.borrow().get(&client).copied()
    }

    /// The client is gone.
    pub fn leave(&self, client: ClientId) {
        let mut known = self.0.borrow_mut();
        if known.remove(&client).is_some() && known.is_empty() {
            known.shrink_to_fit();
        }
    }
}

/// Whether the connection comes from a source that is declared to send a header.
pub fn is_declared(connection: &Connection) -> bool {
    let live = connection.shard.views.of_slot(connection.slot);
    let listener = live.listener(connection.slot);
    listener.is_some_and(|listener| {
        let sources = &listener.proxy_sources;
        !sources.is_empty() && sources.iter().any(|range| range.contains(connection.peer.ip()))
    })
}

/// Waits for the header, and says who is behind the connection, if the header does. What came behind it
/// is in `received` then.
///
/// # Errors
/// The connection is over: it has no header, which is counted and answered by a reset, or it was closed
/// before it began one, as by who only looks whether the port is open.
pub async fn read_proxy_header(
    connection: &Connection,
    received: &mut Received,
) -> Result<Option<Ends>, ()> {
    let shard = &connection.shard;
    let metrics = &shard.metrics().proxy_protocol;
    connection.deadline.set(lateen_ring::now() + shard.config.timeouts.header);
    loop {
        let Some(lease) = next_bytes(connection).await else {
            if !received.is_empty() {
                metrics.refused.increment();
                refuse(connection);
            }
            return Err(());
        };
        received.push(lease);
        match parse_proxy_header(received.bytes()) {
            Ok(None) => received.settle(),
            Ok(Some(header)) => {
                received.consume(header.consumed);
                match header.ends {
                    Some(_) => metrics.accepted.increment(),
                    None => metrics.local.increment(),
                }
                return Ok(header.ends);
            }
            Err(error) => {
                let from: SocketAddr = connection.peer;
                tracing::debug!(%from, %error, "a declared source is refused");
                if error == ProxyHeaderError::Missing {
                    metrics.missing.increment();
                } else {
                    metrics.refused.increment();
                }
                refuse(connection);
                return Err(());
            }
        }
    }
}

fn refuse(connection: &Connection) {
    let failure = Failure::refused(Stage::Accept, Refusal::BadRequest);
    connection.shard.metrics().record_failure(failure);
    connection.closes_for(CloseReason::ConnectionAborted);
    connection.stream.reset_on_close();
}

/// Nothing was asked for: at the cap, and at a drain, this is an idle connection like any other.
async fn next_bytes(connection: &Connection) -> Option<Lease> {
    let clients = &connection.shard.clients;
    clients.became_idle(connection.client, lateen_ring::now());
    let lease = poll_fn(|cx| {
        if let Poll::Ready(lease) = connection.stream.poll_recv(cx) {
            return Poll::Ready(match lease {
                Ok(lease) => lease,
                Err(error) => {
                    connection.closes_for(CloseReason::of_error(&error));
                    None
                }
            });
        }
        connection.deadline.poll_past(cx).map(|()| {
            connection.closes_for(CloseReason::TimedOut);
            None
        })
    })
    .await;
    clients.became_busy(connection.client);
    if let Some(lease) = &lease {
        connection.counts().read_bytes.add(lease.len() as u64);
    }
    lease
}
