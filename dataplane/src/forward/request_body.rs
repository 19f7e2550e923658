//! The request's body on its way to the upstream.
//!
//! Before: `request` sent the head. After: the upstream has the body, or the side that failed is
//! known. It runs beside `response` and has a deadline of its own.

use lateen_ring::{Deadline, Instant, Moved, Stream};

use crate::client::Connection;
use crate::codec::body::{BodyEncoding, BodyError, BodyProgress};
use crate::exchange::Exchange;
use crate::failure::{Failure, Refusal, Stage};
use crate::forward::held::Held;
use crate::forward::received::Received;
use crate::forward::transfer::{BodyStop, Stopped, Timer, Way, transfer_body};
use crate::rate_limit::flow::Flow;

/// Where a request's body goes, and how.
#[derive(Clone, Copy, Debug)]
pub struct Upload<'a> {
    /// Who gets it.
    pub upstream: &'a Stream,
    /// What was spliced.
    pub moved: &'a Moved,
    /// When all of it must be over.
    pub until: Instant,
    /// What holds it back, if anything does.
    pub flow: Option<&'a Flow>,
}

/// Sends the rest of a request's body; `received` holds what has come of it and afterwards what came
/// behind it.
///
/// # Errors
/// The client's fault (a broken, late or oversized body, or its leaving), or the upstream's.
pub async fn send_request_body(
    connection: &Connection,
    exchange: &Exchange,
    received: &mut Received,
    body: &mut BodyProgress,
    upload: Upload<'_>,
) -> Result<(), Failure> {
    let Upload { upstream, moved, until, flow } = upload;
    let shard = &connection.shard;
    let deadline = Deadline::new();
    let held = flow.map(|flow| Held { flow: Some(flow), pace: None, is_up: true });
    let way = Way {
        source: &connection.stream,
        source_counts: connection.counts(),
        sink: upstream,
        sink_counts: shard.upstream_counts(),
        metrics: shard.metrics(),
        timer: Timer { deadline: &deadline, until },
        read_limit: shard.config.timeouts.body,
        write_limit: shard.config.timeouts.write,
        moved,
        held,
    };
    let encoding =
        if body.remaining().is_some() { BodyEncoding::Plain } else { BodyEncoding::Chunked };
    let bytes_max = shard.config.sizes.body_bytes_max.unwrap_or(u64::MAX);
    let sent =
        transfer_body(&way, received, body, encoding, &exchange.request_bytes, bytes_max).await;
    if body.is_done() {
        exchange.request_whole.set(true);
    }
    sent.map_err(|stop| match stop {
        // The whole exchange took too long: not by the endpoint's fault, which has waited too.
        BodyStop::Held => Failure::deadline_passed(),
        BodyStop::Source(Stopped::TimedOut) if lateen_ring::now() >= until => {
            Failure::deadline_passed()
        }
        BodyStop::Source(Stopped::TimedOut) => {
            Failure::refused(Stage::Request, Refusal::RequestTimeout)
        }
        BodyStop::Source(Stopped::Broken(reason)) => {
            connection.closes_for(reason);
            Failure::client_gone(Stage::Request)
        }
        BodyStop::Invalid(BodyError::Truncated) => Failure::client_gone(Stage::Request),
        BodyStop::Invalid(BodyError::Chunked(_)) => {
            Failure::refused(Stage::Request, Refusal::BadRequest)
        }
        BodyStop::TooLong => Failure::refused(Stage::Request, Refusal::ContentTooLarge),
        BodyStop::Sink(Stopped::TimedOut) => Failure::upstream_timeout(Stage::Request),
        BodyStop::Sink(Stopped::Broken(_)) => Failure::upstream_reset(Stage::Request, false),
    })
}
