//! How tries at endpoints end: told here, and nowhere else.
//!
//! Before: `request` tried an endpoint, or `forward::connect` could not connect to one. After: what it says
//! of the endpoint is noted, if it says anything. A try that the client broke off, or the proxy itself, says
//! nothing; nor does a pooled connection that was found dead and replaced.

use lateen_ring::Instant;

use crate::cluster::Chosen;
use crate::decide::outlier::Ending;
use crate::exchange::Exchange;
use crate::failure::{Cause, Failure, Side};
use crate::health::watch;
use crate::shard::Shard;

/// The endpoint answered with this status, and the answer was passed on whole, or nobody wanted it. Cost of a good one: two branches, unless the
/// endpoint failed just before, or its cluster counts every try.
#[inline]
pub fn note_answered(shard: &Shard, chosen: &Chosen, exchange: &Exchange, status: u16) {
    let ending = Ending::of_status(status);
    let counts = chosen.cluster.watch.counts();
    if ending.is_good() && !counts && !chosen.endpoint().is_suspect() {
        return;
    }
    let (sent, answered) = (exchange.sent_at.get(), exchange.answered_at.get());
    let is_timed = sent != Instant::NEVER && answered != Instant::NEVER;
    watch::note(shard, chosen, ending, is_timed.then(|| answered.micros_since(sent)));
}

/// The try failed once it was connected.
#[cold]
pub fn note_failed(shard: &Shard, chosen: &Chosen, failure: Failure) {
    if failure.side != Side::Upstream {
        return;
    }
    let ending = match failure.cause {
        Cause::UpstreamReset => Ending::Reset,
        // Told where it happened.
        Cause::ConnectFailed => return,
        _ => Ending::GatewayError,
    };
    watch::note(shard, chosen, ending, None);
}

/// A connection to the endpoint could not be made, by the endpoint's fault.
#[cold]
pub fn note_connect_failed(shard: &Shard, chosen: &Chosen) {
    watch::note(shard, chosen, Ending::ConnectFailed, None);
}
