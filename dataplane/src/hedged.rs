//! A first try that may get a second one beside it.
//!
//! Before: `request` sent the first, on a route that sends second ones. After: one of both has answered, or
//! both have failed; the slower one's connection is closed, for HTTP/1 knows no other way to break off. An
//! answer that is a failure (5xx) counts only where no other may come.

use std::cell::{Cell, RefCell};
use std::task::Context;

use lateen_ring::Instant;

use crate::attempt::{Way, close_reason, start_rival};
use crate::client::Connection;
use crate::exchange::{Exchange, Request};
use crate::failure::{Cause, Failure, Side, Stage};
use crate::forward::obtain::Try;
use crate::forward::pool::close_upstream;
use crate::forward::response::{Call, HedgeNews, Responded, Rival, respond};
use crate::health::tries::{note_answered, note_failed};
use crate::observe::metrics::CloseReason;
use crate::observe::metrics::retry::{HedgeEnd, HedgeMetrics};

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
        deadline: &connection.deadline,
        until: Cell::new(this.until),
        body_sent: Cell::new(true),
        hedge_at: Instant::NEVER,
        rival: None,
    }
}

/// The other one of two tries of a request, while there are two.
struct Beside<'a> {
    rival: RefCell<Option<Try>>,
    /// It is the first of them: the second was heard before it.
    is_first: Cell<bool>,
    metrics: &'a HedgeMetrics,
}

impl Beside<'_> {
    /// Takes it out: the other one came to nothing.
    fn take_over(&self) -> Option<Try> {
        let left = self.rival.take()?;
        self.count(if self.is_first.get() { HedgeEnd::Failed } else { HedgeEnd::Won });
        Some(left)
    }

    fn count(&self, end: HedgeEnd) {
        self.metrics.ended[end as usize].increment();
    }
}

impl Rival for Beside<'_> {
    fn has_news(&self, cx: &mut Context<'_>) -> bool {
        let rival = self.rival.borrow();
        rival.as_ref().is_some_and(|rival| rival.upstream.stream.poll_news(cx).is_ready())
    }

    fn is_under_way(&self) -> bool {
        self.rival.borrow().is_some()
    }

    #[inline]
    fn lose(&self) {
        if self.is_under_way()
            && let Some(slower) = self.rival.take()
        {
            self.count(if self.is_first.get() { HedgeEnd::Won } else { HedgeEnd::Lost });
            close_upstream(slower.upstream, CloseReason::Orderly);
        }
    }
}

impl std::fmt::Debug for Beside<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Beside")
    }
}

/// When a second try is worth its cost beside one that was just sent; `NEVER`: its route sends none.
pub fn hedge_at(request: &Request) -> Instant {
    let hedge = request.rare.as_ref().and_then(|rare| rare.hedge.as_ref());
    let hedge = hedge.filter(|_| request.is_kept());
    hedge.map_or(Instant::NEVER, |hedge| hedge.alone_until())
}

/// The same as [`respond`] where that takes long: with a second try beside it. `this` is then the one whose
/// answer counts; the other is broken off as soon as that one's head is there.
pub async fn respond_hedged(
    connection: &Connection,
    request: &mut Request,
    exchange: &Exchange,
    way: &Way,
    this: &mut Try,
) -> Result<Responded, Failure> {
    let shard = &connection.shard;
    let (rival, is_first) = (RefCell::new(None), Cell::new(false));
    let beside = Beside { rival, is_first, metrics: &shard.metrics().hedge };
    let second = start_rival(connection, request, exchange, way, this).await;
    *beside.rival.borrow_mut() = second;
    let outcome = loop {
        let mut call = call(connection, request, exchange, this);
        call.rival = Some(&beside);
        let outcome = respond(&call).await;
        match outcome {
            Ok(Responded::Hedge(HedgeNews::RivalFirst)) => {
                let faster = beside.rival.take().expect("it was heard");
                if faster.upstream.stream.has_ended() {
                    // It has no answer, only bad news: the first is waited for as before.
                    beside.count(HedgeEnd::Failed);
                    if !faster.pooled {
                        let failure = Failure::upstream_reset(Stage::ResponseHead, false);
                        note_failed(shard, faster.in_flight.chosen(), failure);
                    }
                    close_upstream(faster.upstream, CloseReason::ConnectionReset);
                    continue;
                }
                *beside.rival.borrow_mut() = Some(std::mem::replace(this, faster));
                beside.is_first.set(true);
                exchange.chose(this.in_flight.chosen().index);
            }
            Ok(Responded::Hedge(HedgeNews::BadAnswer(status))) => {
                let left = beside.take_over().expect("it was under way");
                note_answered(shard, this.in_flight.chosen(), exchange, status);
                let failed = std::mem::replace(this, left);
                close_upstream(failed.upstream, CloseReason::Orderly);
                wait_anew(exchange, this);
            }
            Err(failure) if failure.side == Side::Upstream && exchange.status.get() == 0 => {
                // The first has failed: the second may still answer.
                let Some(left) = beside.take_over() else { break Err(failure) };
                if !this.pooled || failure.cause != Cause::UpstreamReset {
                    note_failed(shard, this.in_flight.chosen(), failure);
                }
                let failed = std::mem::replace(this, left);
                close_upstream(failed.upstream, close_reason(failure));
                wait_anew(exchange, this);
            }
            outcome => break outcome,
        }
    };
    beside.lose();
    outcome
}

/// Nothing was heard of the try that is left.
fn wait_anew(exchange: &Exchange, left: &Try) {
    exchange.heard_upstream.set(false);
    exchange.read_by_count.set(false);
    exchange.answered_at.set(Instant::NEVER);
    exchange.chose(left.in_flight.chosen().index);
}
