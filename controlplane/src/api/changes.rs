//! A change, and what became of it at every proxy.
//!
//! Before: [`routes`](crate::api::routes) read a request. After: the caller knows whether what it asked
//! for holds. A change that is to be taken back when a proxy refuses it is, even if its caller is gone.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::task::spawn_blocking;

use crate::api::limits::WAIT_STEP;
use crate::api::messages::{ChangeResponse, ObjectChange, Undone, Verdict};
use crate::language::diagnostic::Diagnostic;
use crate::publish::{Meant, Publisher};
use crate::serve::order::{Change, Done, Order, Orders, Published, Undo};
use crate::serve::refusal::Refusal;
use crate::status::Outcome;

/// Makes a change and waits for the proxies. With `atomic`, what a proxy refuses, or goes away at and does
/// not come back, is taken back from all.
///
/// # Errors
/// The change was not made.
pub async fn change(
    orders: Orders,
    publisher: Arc<Publisher>,
    change: Change,
    wait: Duration,
    atomic: bool,
) -> Result<ChangeResponse, Refusal> {
    let dry_run = change.dry_run;
    let author = change.author.clone();
    let done = orders.ask(|answer| Order::Change(change, answer)).await?;
    if dry_run {
        return Ok(response(&done, Verdict::DryRun));
    }
    let before = done.before.clone();
    let mut answer = settle(&publisher, done, wait).await;
    let is_lost = answer.proxies.values().any(|outcome| *outcome == Outcome::Left);
    if atomic && (answer.verdict == Verdict::Rejected || is_lost) && answer.is_new {
        let undo = Undo { revision: answer.revision, before, author, why: why(&answer) };
        answer.undone = Some(take_back(&orders, &publisher, undo, wait).await);
    }
    Ok(answer)
}

/// Waits for the proxies after what was done.
pub async fn settle(publisher: &Arc<Publisher>, done: Done, wait: Duration) -> ChangeResponse {
    if !done.is_live {
        return response(&done, Verdict::StoredNotLive);
    }
    if wait.is_zero() {
        return response(&done, Verdict::NotWaited);
    }
    let proxies = match &done.published {
        Some(published) => outcomes(publisher, published, wait).await,
        None => BTreeMap::new(),
    };
    let mut answer = response(&done, verdict(&proxies));
    answer.proxies = proxies;
    answer
}

async fn take_back(
    orders: &Orders,
    publisher: &Arc<Publisher>,
    undo: Undo,
    wait: Duration,
) -> Undone {
    match orders.ask(|answer| Order::Undo(undo, answer)).await {
        Ok(Some(done)) => {
            let proxies = match &done.published {
                Some(published) => outcomes(publisher, published, wait).await,
                None => BTreeMap::new(),
            };
            let epoch = done.published.map(|published| published.epoch);
            Undone::Back { revision: done.revision, epoch, proxies }
        }
        Ok(None) => Undone::Overtaken,
        Err(refusal) => Undone::Failed { reason: refusal.to_string() },
    }
}

fn why(answer: &ChangeResponse) -> String {
    let refused = answer.proxies.iter().find_map(|(proxy, outcome)| match outcome {
        Outcome::Rejected { reason, .. } => Some(format!("proxy {proxy} refused it: {reason}")),
        Outcome::Left => Some(format!("proxy {proxy} went away when it was told")),
        _ => None,
    });
    refused.unwrap_or_default()
}

/// Waits in steps, so that the thread that waits ends soon after the control plane does.
async fn outcomes(
    publisher: &Arc<Publisher>,
    published: &Published,
    wait: Duration,
) -> BTreeMap<String, Outcome> {
    let meant = published.proxies.iter().map(|(name, &was_connected)| {
        (name.clone(), Meant { epoch: published.epoch, was_connected })
    });
    let meant = Arc::new(meant.collect::<BTreeMap<_, _>>());
    let end = Instant::now() + wait;
    loop {
        let step_end = end.min(Instant::now() + WAIT_STEP);
        let (publisher, meant) = (publisher.clone(), meant.clone());
        let waiting = spawn_blocking(move || publisher.wait(&meant, step_end));
        let outcomes = waiting.await.expect("waiting does not panic");
        // Before the end of the step: every proxy has been heard.
        if Instant::now() < step_end || step_end == end {
            return outcomes;
        }
    }
}

fn verdict(proxies: &BTreeMap<String, Outcome>) -> Verdict {
    let any = |is: fn(&Outcome) -> bool| proxies.values().any(is);
    if any(|outcome| matches!(outcome, Outcome::Rejected { .. })) {
        Verdict::Rejected
    } else if any(|outcome| matches!(outcome, Outcome::Unanswered | Outcome::Left)) {
        Verdict::Unfinished
    } else {
        Verdict::Live
    }
}

fn response(done: &Done, verdict: Verdict) -> ChangeResponse {
    let change = |(key, change): &_| ObjectChange { key: Clone::clone(key), change: *change };
    ChangeResponse {
        verdict,
        revision: done.revision,
        is_new: done.is_new,
        changes: done.changes.iter().map(change).collect(),
        warnings: done.warnings.iter().map(Diagnostic::report).collect(),
        pinned: done.pinned,
        epoch: done.published.as_ref().map(|published| published.epoch),
        proxies: BTreeMap::new(),
        orphans: done.published.iter().flat_map(|of| of.orphans.clone()).collect(),
        undone: None,
    }
}
