//! From a compiled set to what proxies should run.
//!
//! Before: [`control`](super) decided that a set is live. After: the publisher hands it out. An epoch is
//! taken for every publication, so that what comes later is always newer.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::spawn_blocking;
use tokio::time::{Instant, timeout_at};

use super::{Control, Live, Parts, Step};
use crate::resolver::Addresses;
use crate::serve::order::Published;
use crate::serve::plan::Plan;
use crate::serve::refusal::Refusal;
use crate::serve::remembered::Remembered;

/// How long a change waits for the first answers of DNS for its new names.
const FIRST_ANSWER_WAIT: Duration = Duration::from_secs(2);

impl Control {
    /// From here on this is what should run.
    pub(super) async fn make_live(&mut self, plan: Plan, revision: u64) -> Result<(), Refusal> {
        let names = plan.mesh.dns_names();
        self.live = Some(Live { plan: Arc::new(plan), revision, is_published: false });
        self.parts.names.send_if_modified(|told| {
            let is_new = *told != names;
            told.clone_from(&names);
            is_new
        });
        self.await_first_answers(&names).await;
        self.publish().await
    }

    /// A cluster without endpoints must not go out because DNS was asked a moment ago.
    async fn await_first_answers(&mut self, names: &BTreeSet<Arc<str>>) {
        let end = Instant::now() + FIRST_ANSWER_WAIT;
        let is_known = |addresses: &Addresses, remembered: &Remembered| {
            names.iter().all(|name| addresses.contains_key(name) || remembered.has(name))
        };
        let Parts { addresses, remembered, .. } = &mut self.parts;
        while !is_known(&addresses.borrow_and_update(), remembered) {
            if !matches!(timeout_at(end, addresses.changed()).await, Ok(Ok(()))) {
                return;
            }
        }
    }

    /// Gives all proxies what should run, under a new epoch.
    pub(super) async fn publish(&mut self) -> Result<(), Refusal> {
        let published = self.try_to_publish().await;
        if let Err(refusal) = &published {
            tracing::error!(error = %refusal, "what should run is not published; tried again soon");
            self.try_again(Step::Publishing);
        }
        self.parts.view.send_modify(|view| {
            view.problem =
                published.as_ref().err().map(|refusal| format!("not published: {refusal}"));
        });
        published
    }

    async fn try_to_publish(&mut self) -> Result<(), Refusal> {
        let Some(live) = self.live.clone() else { return Ok(()) };
        let addresses = self.addresses();
        let renewed = spawn_blocking(move || live.plan.with_addresses(&addresses));
        let plan = Arc::new(renewed.await.expect("compiling does not panic")?);
        let epoch = self.parts.store.run(|store| store.next_epoch()).await?;
        for (proxy, snapshot) in &plan.snapshots {
            self.publisher.publish(proxy, snapshot.clone(), epoch);
        }
        let proxies: Vec<String> = plan.snapshots.keys().cloned().collect();
        let live = self.live.as_mut().expect("it was there above");
        (live.plan, live.is_published) = (plan.clone(), true);
        let before = self.published.replace(Published { epoch, proxies });
        let gone = before.iter().flat_map(|before| &before.proxies);
        for proxy in gone.filter(|proxy| !plan.snapshots.contains_key(*proxy)) {
            self.publisher.withdraw(proxy);
        }
        tracing::info!(%epoch, revision = live.revision, proxies = plan.snapshots.len(), "published");
        Ok(())
    }
}
