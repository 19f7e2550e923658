//! What tries beyond the first may cost: a share of the requests, and a few each second besides
//! (Finagle's and Linkerd's `RetryBudget`).
//!
//! Before: requests to a cluster were counted, by each worker for itself. After: a worker draws some
//! tries at a time from the cluster's one budget; where that is empty it does not ask again for a
//! while, so that a storm of failures costs no lock for each. Nothing here reads a clock.

use std::cell::Cell;
use std::time::Duration;

use lateen_snapshot::model::retry::RetryBudget;

use crate::limits;

/// How far back what was not spent counts. Source: Linkerd's `ttl`.
const WINDOW_S: f64 = 10.0;

/// A worker holds no more than this part of what is left.
const LEASES: u32 = 8;

/// The budget of one cluster, of the whole process.
#[derive(Debug, Default)]
pub struct Budget {
    /// Tries that can be paid now.
    balance: f64,
    /// About how many requests came within the window.
    recent: f64,
    /// What was known at the last look.
    last: Option<Look>,
    /// What there is each second was given up to here.
    given_ns: u64,
}

const SECOND_NS: u64 = 1_000_000_000;

#[derive(Clone, Copy, Debug)]
struct Look {
    now_ns: u64,
    requests: u64,
}

impl Budget {
    /// Pays for up to `wanted` tries, and says for how many. `requests` is how many came until now; it
    /// never falls.
    pub fn draw(&mut self, terms: RetryBudget, wanted: u32, requests: u64, now_ns: u64) -> u32 {
        let share = f64::from(terms.percent) / 100.0;
        let each_second = f64::from(terms.min_per_second);
        match self.last {
            // What a service that was never called has of its first second is there at once, and comes only once.
            None => {
                self.balance = each_second;
                self.given_ns = now_ns + SECOND_NS;
            }
            Some(last) => {
                let span_s = seconds(last.now_ns, now_ns);
                let came = requests.saturating_sub(last.requests) as f64;
                self.balance += share * came + each_second * seconds(self.given_ns, now_ns);
                self.given_ns = self.given_ns.max(now_ns);
                self.recent = forget(self.recent, came, span_s);
            }
        }
        self.last = Some(Look { now_ns, requests });
        // What was earned longer ago than the window is gone.
        self.balance = self.balance.min(share * self.recent + each_second * WINDOW_S);
        let affordable = self.balance.max(0.0) as u32;
        // Where little is left nobody holds what another worker could use.
        let paid = wanted.min((affordable / LEASES).max(1)).min(affordable);
        self.balance -= f64::from(paid);
        paid
    }
}

fn seconds(from_ns: u64, to_ns: u64) -> f64 {
    to_ns.saturating_sub(from_ns) as f64 / SECOND_NS as f64
}

/// How many of the requests came within the window, if `came` more came evenly within `span_s`: what is
/// older fades (1/e after a window).
fn forget(recent: f64, came: f64, span_s: f64) -> f64 {
    if span_s <= 0.0 {
        return recent + came;
    }
    let left = (-span_s / WINDOW_S).exp();
    recent * left + came / span_s * WINDOW_S * (1.0 - left)
}

/// What one worker has drawn of a budget and not used.
#[derive(Debug, Default)]
pub struct BudgetLease {
    held: Cell<u32>,
    /// What is held is worth nothing from then on.
    expires_ns: Cell<u64>,
    /// The budget was empty: it is not asked before.
    ask_again_ns: Cell<u64>,
}

impl BudgetLease {
    /// Pays for one try, from what is held or by `draw`, which says how many of the wanted it got.
    pub fn pay(&self, now_ns: u64, draw: impl FnOnce(u32) -> u32) -> bool {
        if self.held.get() > 0 && now_ns < self.expires_ns.get() {
            self.held.set(self.held.get() - 1);
            return true;
        }
        if now_ns < self.ask_again_ns.get() {
            return false;
        }
        let drawn = draw(limits::RETRIES_DRAWN);
        let Some(left) = drawn.checked_sub(1) else {
            self.ask_again_ns.set(now_ns + span_ns(limits::RETRY_BUDGET_LOOK));
            return false;
        };
        self.held.set(left);
        self.expires_ns.set(now_ns + span_ns(limits::RETRY_LEASE));
        true
    }
}

const fn span_ns(span: Duration) -> u64 {
    span.as_nanos() as u64
}

#[cfg(test)]
#[path = "budget_tests.rs"]
mod tests;
