//! Opening a connection to an endpoint, within the connect timeout.
//!
//! Before: `decide` chose the endpoint and its pool was empty. After: a request or a tunnel uses the
//! connection. The outcome is told to the balancer here, and nowhere else.

use std::io;
use std::time::Duration;

use lateen_ring::{Address, Deadline, Stream};

use crate::bulkhead::ConnectionUnit;
use crate::cluster::Chosen;
use crate::failure::Failure;
use crate::forward::pool::Upstream;
use crate::health::tries::note_connect_failed;
use crate::limits;
use crate::observe::metrics::{CloseReason, ConnectionSide};
use crate::shard::Shard;

/// Connects to the endpoint, for which there is room, by `deadline` moved to the connect timeout or to `left`, whichever is
/// less.
///
/// # Errors
/// [`Failure::connect_failed`], after the endpoint's load was told.
pub async fn connect(
    shard: &Shard,
    chosen: &Chosen,
    unit: ConnectionUnit,
    deadline: &Deadline,
    left: Option<Duration>,
) -> Result<Upstream, Failure> {
    let timeout = chosen.cluster.connect_timeout(shard.config.timeouts.connect);
    let patience = left.map_or(timeout, |left| left.min(timeout));
    deadline.set_after(patience);
    let address = Address::from(chosen.address());
    let connected = deadline
        .guard(open(shard, &address))
        .await
        .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
    deadline.clear();
    match connected {
        Ok(stream) => {
            chosen.endpoint().load.on_connected();
            Ok(Upstream::new(shard, stream, unit))
        }
        Err(error) => {
            let reason = CloseReason::of_error(&error);
            let metrics = shard.metrics().connections(ConnectionSide::Upstream);
            metrics.on_connect_failed(reason);
            // Out of ports or descriptors is our own trouble, not the endpoint's.
            let ours = matches!(
                reason,
                CloseReason::NoDescriptor
                    | CloseReason::NoMemory
                    | CloseReason::AddressNotAvailable
            );
            // And who had less than the whole timeout has not failed to meet it.
            let cut_short = reason == CloseReason::TimedOut && patience < timeout;
            if !ours && !cut_short {
                chosen.endpoint().load.on_refused(lateen_ring::now().as_nanos());
                note_connect_failed(shard, chosen);
            }
            Err(Failure::connect_failed())
        }
    }
}

/// Opens a connection; where descriptors have run out, as long as an idle connection can be given up
/// for it.
async fn open(shard: &Shard, address: &Address) -> io::Result<Stream> {
    loop {
        match Stream::connect(address).await {
            Err(error)
                if CloseReason::of_error(&error) == CloseReason::NoDescriptor
                    && shard.pool.give_one_up(shard) =>
            {
                lateen_ring::sleep(limits::DESCRIPTOR_RETRY_AFTER).await;
            }
            connected => return connected,
        }
    }
}
