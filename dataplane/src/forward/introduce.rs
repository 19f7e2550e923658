//! The header of the PROXY protocol that a connection to an endpoint begins with, where its service wants
//! one.
//!
//! Before: the connection was just opened. After: the endpoint knows the client, so that the connection
//! serves that client alone and is kept for nobody (`pool`).

use crate::client::Connection;
use crate::cluster::Cluster;
use crate::codec::proxy_protocol::{Ends, put_proxy_header};
use crate::failure::Failure;
use crate::forward::pool::{Upstream, close_upstream};
use crate::forward::transfer::{Timer, one, send};
use crate::observe::metrics::CloseReason;
use crate::shard::Shard;

/// Says who the client is, if that is asked for.
///
/// # Errors
/// The endpoint closed at once, or takes nothing; it has got nothing of a request.
pub async fn introduce(
    connection: &Connection,
    cluster: &Cluster,
    upstream: Upstream,
) -> Result<Upstream, Failure> {
    if cluster.proxy_protocol().is_none() {
        return Ok(upstream);
    }
    // Where a client has gone it can't be told what it connected to.
    let ends =
        connection.destination().map(|destination| Ends { source: connection.peer, destination });
    Box::pin(send_header(&connection.shard, cluster, upstream, ends, connection.timer())).await
}

/// Says that the connection is the proxy's own, if anything is to be said.
///
/// # Errors
/// As [`introduce`].
pub async fn introduce_itself(
    shard: &Shard,
    cluster: &Cluster,
    upstream: Upstream,
    timer: Timer<'_>,
) -> Result<Upstream, Failure> {
    if cluster.proxy_protocol().is_none() {
        return Ok(upstream);
    }
    Box::pin(send_header(shard, cluster, upstream, None, timer)).await
}

async fn send_header(
    shard: &Shard,
    cluster: &Cluster,
    upstream: Upstream,
    ends: Option<Ends>,
    timer: Timer<'_>,
) -> Result<Upstream, Failure> {
    let Some(version) = cluster.proxy_protocol() else { return Ok(upstream) };
    let mut header = Vec::new();
    put_proxy_header(version, ends, &mut header);
    let limit = cluster.connect_timeout(shard.config.timeouts.connect);
    let sent = send(&upstream.stream, shard.upstream_counts(), timer, limit, one(header)).await;
    timer.deadline.clear();
    if sent.is_err() {
        close_upstream(upstream, CloseReason::ConnectionReset);
        return Err(Failure::connect_failed());
    }
    shard.metrics().proxy_protocol.sent.increment();
    Ok(upstream)
}
