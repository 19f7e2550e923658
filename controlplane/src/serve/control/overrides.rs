//! Orders of operators: from what somebody asks for to what proxies run.
//!
//! Before: [`control`](super) got an order, or the time of one is over. After: it is in the store, and every
//! proxy's snapshot is held to it, under a new epoch. What is declared stays as it is.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::spawn_blocking;
use tokio::time::Instant;

use super::{Control, Live, RETRY};
use crate::serve::order::{Done, OverrideDone, OverrideOrder, OverrideWhat};
use crate::serve::overrides::applied::emptied;
use crate::serve::overrides::lookup::{attached_to, clusters_of, routes_of};
use crate::serve::overrides::names::{EndpointName, RouteName, ServiceName};
use crate::serve::overrides::refusal::OrderRefusal;
use crate::serve::overrides::{Held, Ordered, Override, Overrides};
use crate::serve::plan::Plan;
use crate::serve::refusal::Refusal;
use crate::serve::view::OverrideView;
use crate::status::UnixMs;
use crate::store::error::StoreError;
use crate::store::limits::MESSAGE_BYTES_MAX;
use crate::store::orders::StoredOrder;
use crate::store::thread::StoreThread;

/// How long an order stands, in milliseconds.
const TIME_MS_LEAST: u64 = 1_000;
const TIME_MS_MOST: u64 = 30 * 24 * 3_600 * 1_000;

/// The wall clock may be set: what is due by it is looked at this often at the least.
const LOOK_AT_CLOCK: Duration = Duration::from_secs(10);

/// The orders of an earlier run. One that this release can't read stands no longer; it is told of and kept.
pub(super) async fn restored(store: &StoreThread) -> Result<Overrides, StoreError> {
    let stored = store.run(|store| store.orders()).await?;
    let read = |stored: StoredOrder| match serde_json::from_str(&stored.said) {
        Ok(ordered) => Some(Override {
            ordered,
            author: stored.author,
            message: stored.message,
            since: UnixMs(stored.since_ms),
            until: stored.until_ms.map(UnixMs),
        }),
        Err(error) => {
            tracing::error!(order = stored.said, %error, "a stored order can't be read and does not stand");
            None
        }
    };
    Ok(Overrides::restored(stored.into_iter().filter_map(read).collect()))
}

fn to_store(order: &Override) -> StoredOrder {
    StoredOrder {
        target: order.ordered.target(),
        said: serde_json::to_string(&order.ordered).expect("names and numbers"),
        author: order.author.clone(),
        message: order.message.clone(),
        since_ms: order.since.0,
        until_ms: order.until.map(|until| until.0),
    }
}

/// What an order comes to.
struct Judged {
    /// What it is about.
    about: Ordered,
    /// What is to stand; `None`: what stands about that is taken back.
    new: Option<Override>,
    /// Also if nobody is left.
    is_forced: bool,
}

impl Control {
    /// Does what an operator orders, if it can be.
    pub(super) async fn order(&mut self, order: OverrideOrder) -> Result<OverrideDone, Refusal> {
        let Some(live) = self.live.clone() else { return Err(Refusal::Empty) };
        let now = (self.parts.clock)();
        let Judged { about, new, is_forced } = self.judged(order, now)?;
        let before = Arc::clone(&live.plan);
        let (after, gone) = match &new {
            Some(order) => self.overrides.with(order.clone(), &before.content)?,
            None => self.overrides.without(&about, &before).map_err(|refusal| match refusal {
                // It is listed still, though it is over.
                OrderRefusal::NotOrdered { about: subject }
                    if before.overrides.without(&about, &before).is_ok() =>
                {
                    OrderRefusal::IsOver { about: subject }
                }
                refusal => refusal,
            })?,
        };
        let plan = self.plan_under(after).await?;
        if let Ordered::Ejected { service, endpoint } = &about
            && new.is_some()
            && !is_forced
            && let Ok(clusters) = clusters_of(&before.content, service)
            && let Some(cluster) = emptied(&before, &plan, &clusters)
        {
            let endpoint = endpoint.to_string();
            return Err(OrderRefusal::LastEndpoint { endpoint, cluster }.into());
        }
        if let Ordered::Breaker { route, .. } = &about
            && new.is_some()
            // It is the last, and no later one takes its place.
            && plan.effects.last().is_some_and(|effect| effect.proxies == 0)
        {
            let attached = attached_to(&before.content, route);
            return Err(OrderRefusal::NotForwarded { route: route.to_string(), attached }.into());
        }
        let stored = new.as_ref().map(to_store);
        self.parts.store.run(move |store| store.change_orders(&gone, stored.as_ref())).await?;
        self.overrides = Arc::clone(&plan.overrides);
        match &new {
            Some(Override { ordered, author, .. }) => tracing::info!(author, %ordered, "ordered"),
            None => tracing::info!(about = about.target(), "an order was taken back"),
        }
        self.await_end();
        let published = self.make_live(plan, live.revision).await;
        published.map_err(|cause| Refusal::OrderNotPublished { cause: Box::new(cause) })?;
        let order = new.is_some().then(|| self.override_views().pop()).flatten();
        Ok(OverrideDone { order, done: self.nothing_declared() })
    }

    /// What an order comes to, if that can be.
    fn judged(&self, order: OverrideOrder, now: UnixMs) -> Result<Judged, Refusal> {
        let OverrideOrder { what, author, message, for_ms } = order;
        if message.len() > MESSAGE_BYTES_MAX {
            return Err(OrderRefusal::MessageTooLong(message.len(), MESSAGE_BYTES_MAX).into());
        }
        if let Some(span_ms) = for_ms.filter(|ms| !(TIME_MS_LEAST..=TIME_MS_MOST).contains(ms)) {
            return Err(OrderRefusal::WrongTime(span_ms).into());
        }
        let until = for_ms.map(|span_ms| UnixMs(now.0.saturating_add(span_ms)));
        let standing = |about: Ordered, is_forced| {
            let since = self.overrides.since(now);
            let new = Override { ordered: about.clone(), author, message, since, until };
            Judged { about, new: Some(new), is_forced }
        };
        let taken_back = |about| Judged { about, new: None, is_forced: false };
        Ok(match what {
            OverrideWhat::Eject { service, endpoint, force } => {
                self.check_endpoint(&service, &endpoint)?;
                standing(Ordered::Ejected { service, endpoint }, force)
            }
            OverrideWhat::Readmit { service, endpoint } => {
                taken_back(Ordered::Ejected { service, endpoint })
            }
            OverrideWhat::Hold { route, held } => {
                self.check_route(&route)?;
                standing(Ordered::Breaker { route, held }, false)
            }
            // Whichever way it is held.
            OverrideWhat::LetGo { route } => {
                taken_back(Ordered::Breaker { route, held: Held::Open })
            }
        })
    }

    /// That there is such an endpoint: what is mistyped must not look as if it had been done.
    fn check_endpoint(&self, service: &ServiceName, wanted: &EndpointName) -> Result<(), Refusal> {
        let plan = self.live_plan();
        let clusters = clusters_of(&plan.content, service)?;
        let known = plan.endpoints_of(&clusters);
        if known.iter().any(|endpoint| wanted.means(*endpoint)) {
            return Ok(());
        }
        Err(OrderRefusal::NoSuchEndpoint {
            service: service.to_string(),
            wanted: wanted.to_string(),
            known: known.iter().map(ToString::to_string).collect(),
        }
        .into())
    }

    fn check_route(&self, route: &RouteName) -> Result<(), Refusal> {
        match routes_of(&self.live_plan().content, route)?.is_empty() {
            true => Err(OrderRefusal::NothingToHold(route.to_string()).into()),
            false => Ok(()),
        }
    }

    async fn plan_under(&self, overrides: Overrides) -> Result<Plan, Refusal> {
        let (plan, addresses) = (self.live_plan(), self.addresses());
        let planning = spawn_blocking(move || plan.with_overrides(&addresses, Arc::new(overrides)));
        planning.await.expect("compiling does not panic")
    }

    /// The time of some orders may be over: what runs is held to them no longer. What failed is tried again,
    /// and so it counts what runs is held to, not what is over since last time.
    pub(super) async fn end_overrides(&mut self) {
        self.expire().await;
        let Some(live) = self.live.clone() else { return };
        if live.plan.overrides == self.overrides {
            return;
        }
        match self.plan_under(Overrides::clone(&self.overrides)).await {
            // It logs, and tries again, itself.
            Ok(plan) => drop(self.make_live(plan, live.revision).await),
            Err(refusal) => {
                tracing::error!(error = %refusal, "what runs could not be freed of orders that are over; tried again soon");
                let again = Instant::now() + RETRY;
                self.override_due = Some(self.override_due.map_or(again, |due| due.min(again)));
            }
        }
    }

    /// Takes out the orders that are over, also from the store; a start does so before it publishes. Should
    /// the store fail they are over all the same, and the next start forgets them.
    pub(super) async fn expire(&mut self) {
        let mut left = Overrides::clone(&self.overrides);
        let over = left.expire((self.parts.clock)());
        if !over.is_empty() {
            for order in &over {
                tracing::info!(ordered = %order.ordered, "the time of an order is over");
            }
            self.overrides = Arc::new(left);
            let gone: Vec<String> = over.iter().map(|order| order.ordered.target()).collect();
            let forgotten = self.parts.store.run(move |store| store.change_orders(&gone, None));
            if let Err(error) = forgotten.await {
                tracing::warn!(%error, "orders that are over could not be taken out of the store");
            }
        }
        self.await_end();
    }

    fn await_end(&mut self) {
        self.override_due = self.overrides.next_end().map(|end| {
            let left_ms = end.0.saturating_sub((self.parts.clock)().0);
            Instant::now() + Duration::from_millis(left_ms).min(LOOK_AT_CLOCK)
        });
    }

    /// The orders that stand, as operators see them: those that what runs is held to, should one be over and
    /// hold all the same.
    pub(super) fn override_views(&self) -> Vec<OverrideView> {
        let Some(Live { plan, .. }) = &self.live else {
            let view = |order: &Override| OverrideView {
                order: order.clone(),
                proxies: 0,
                why_none: None,
            };
            return self.overrides.iter().map(view).collect();
        };
        let all = plan.overrides.iter().zip(plan.effects.iter());
        all.map(|(order, effect)| OverrideView {
            order: order.clone(),
            proxies: effect.proxies,
            why_none: effect.why_none.clone(),
        })
        .collect()
    }

    /// What is to be said of a change that declared nothing.
    fn nothing_declared(&self) -> Done {
        Done {
            revision: self.latest.as_ref().map_or(0, |latest| latest.number),
            is_new: false,
            changes: Vec::new(),
            warnings: Vec::new(),
            pinned: self.pinned_number(),
            is_live: true,
            published: self.published(),
            before: self.live_plan().content.clone(),
        }
    }
}

#[cfg(test)]
mod tests;
