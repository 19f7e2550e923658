//! A first try that may get a second one beside it.
//!
//! Before: `request` sent the first, on a route that sends second ones. After: one of both has answered, or
//! both have failed; the slower one's connection is closed, for HTTP/1 knows no other way to break off.

use std::cell::Cell;

use lateen_ring::Instant;

use crate::attempt::{Try, Way, close_reason, start_rival};
use crate::client::Connection;
use crate::exchange::{Exchange, Request};
use crate::failure::{Failure, Side};
use crate::forward::pool::close_upstream;
use crate::forward::response::{Call, HedgeNews, Hedging, Responded, respond};
use crate::forward::transfer::Timer;
use crate::health::tries::note_failed;
use crate::observe::metrics::CloseReason;
use crate::observe::metrics::retry::HedgeEnd;

/// A call whose request went up whole.
pub fn call<'a>(
    connection: &'a Connection,
    request: &'a Request,
    exchange: &'a Exchange,
    this: &'a Try,
) -> Call<'a> {
    Call {
        connection,
        request,
        exchange,
        upstream: &this.upstream.stream,
        timer: Timer { deadline: &connection.deadline, until: this.until },
        body_sent: Cell::new(true),
        hedging: None,
    }
}

/// The same as [`respond`], with a second try beside one that takes long. Returns the one whose answer
/// counts; the other is broken off.
pub async fn respond_hedged(
    connection: &Connection,
    request: &mut Request,
    exchange: &Exchange,
    way: &Way,
    mut this: Try,
) -> (Result<Responded, Failure>, Try) {
    let metrics = &connection.shard.metrics().hedge;
    let mut rival: Option<Try> = None;
    let hedge = request.rare.as_ref().and_then(|rare| rare.hedge.clone());
    let patience = hedge.as_ref().filter(|_| request.is_kept()).and_then(|hedge| hedge.patience());
    let mut hedge_at = patience.map_or(Instant::NEVER, |wait| lateen_ring::now() + wait);
    let outcome = loop {
        let hedging =
            Hedging { at: hedge_at, rival: rival.as_ref().map(|rival| &rival.upstream.stream) };
        let mut call = call(connection, request, exchange, &this);
        call.hedging = Some(&hedging);
        let outcome = respond(&call).await;
        match outcome {
            Ok(Responded::Hedge(HedgeNews::Slow)) => {
                hedge_at = Instant::NEVER;
                let hedge = hedge.as_ref().expect("who has none is not told");
                rival = start_rival(connection, request, exchange, way, &this, hedge).await;
            }
            Ok(Responded::Hedge(HedgeNews::RivalFirst)) => {
                let faster = rival.take().expect("it was heard");
                let slower = std::mem::replace(&mut this, faster);
                if this.upstream.stream.has_failed() {
                    // It has no answer, only bad news: the first is waited for as before.
                    metrics.ended[HedgeEnd::Failed as usize].increment();
                    let failed = std::mem::replace(&mut this, slower);
                    close_upstream(failed.upstream, CloseReason::ConnectionReset);
                    continue;
                }
                metrics.ended[HedgeEnd::Won as usize].increment();
                exchange.chose(this.in_flight.chosen().index);
                close_upstream(slower.upstream, CloseReason::Orderly);
            }
            Err(failure) if failure.side == Side::Upstream && exchange.status.get() == 0 => {
                // The first has failed: the second may still answer.
                let Some(left) = rival.take() else { break Err(failure) };
                metrics.ended[HedgeEnd::Won as usize].increment();
                note_failed(&connection.shard, this.in_flight.chosen(), failure);
                let failed = std::mem::replace(&mut this, left);
                close_upstream(failed.upstream, close_reason(failure));
                exchange.heard_upstream.set(false);
                exchange.chose(this.in_flight.chosen().index);
            }
            outcome => break outcome,
        }
    };
    if let Some(slower) = rival {
        metrics.ended[HedgeEnd::Lost as usize].increment();
        close_upstream(slower.upstream, CloseReason::Orderly);
    }
    (outcome, this)
}
