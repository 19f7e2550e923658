//! From a compiled set to what proxies should run.
//!
//! Before: [`control`](super) decided that a set is live. After: the publisher hands it out. An epoch is
//! taken for every publication, so that what comes later is always newer.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::spawn_blocking;
use tokio::time::{Instant, timeout_at};

use super::{Control, Live, Parts, RETRY};
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

    /// Keeps what DNS says for the next start: it may be down then.
    async fn note_addresses(&mut self) {
        let wanted = self.live_plan().mesh.dns_names();
        if wanted.is_empty() {
            return;
        }
        let mut remembered = std::mem::take(&mut self.parts.remembered);
        let known = self.parts.addresses.borrow_and_update().clone();
        let noting = spawn_blocking(move || {
            remembered.note(&known, &wanted);
            remembered
        });
        self.parts.remembered = noting.await.expect("writing a file does not panic");
    }

    /// A proxy says that it runs an epoch of this store. If that was never given out, the store is an older
    /// copy of itself, and proxies would refuse what it publishes: it goes on from there.
    pub(super) async fn catch_up(&mut self, running: u64) {
        match self.parts.store.run(move |store| store.raise_epoch(running)).await {
            Ok(false) => {}
            Ok(true) => {
                tracing::warn!(
                    running,
                    "a proxy runs a later epoch of this store than it knows of: was it restored from \
                     an older copy? epochs go on from there"
                );
                // It logs, and tries again, itself.
                let _ = self.publish().await;
            }
            Err(error) => {
                tracing::error!(running, %error, "a proxy runs an epoch of this store that can't be");
            }
        }
    }

    /// Gives all proxies what should run, under a new epoch.
    pub(super) async fn publish(&mut self) -> Result<(), Refusal> {
        let published = match self.live.clone() {
            None => Ok(()),
            Some(live) => match self.renewed(&live).await {
                Ok(plan) => self.hand_out(plan).await,
                Err(refusal) => Err(refusal),
            },
        };
        self.tell(published)
    }

    /// The same, if what DNS says has changed it.
    pub(super) async fn take_addresses(&mut self) {
        let Some(live) = self.live.clone() else { return };
        match self.renewed(&live).await {
            Ok(plan) if live.is_published && plan.snapshots == live.plan.snapshots => {}
            Ok(plan) => {
                let published = self.hand_out(plan).await;
                // It logs, and has it tried again.
                let _ = self.tell(published);
            }
            Err(refusal) => {
                tracing::warn!(error = %refusal, "the addresses that DNS gave are not used");
            }
        }
    }

    /// Says what became of a publication; one that failed is tried again.
    fn tell(&mut self, published: Result<(), Refusal>) -> Result<(), Refusal> {
        if let Err(refusal) = &published {
            tracing::error!(error = %refusal, "what should run is not published; tried again soon");
            self.publish_again = Some(Instant::now() + RETRY);
        }
        self.parts.view.send_modify(|view| {
            view.problem =
                published.as_ref().err().map(|refusal| format!("not published: {refusal}"));
        });
        published
    }

    /// What is live, with what DNS says now.
    async fn renewed(&mut self, live: &Live) -> Result<Plan, Refusal> {
        self.note_addresses().await;
        let (plan, addresses) = (live.plan.clone(), self.addresses());
        let renewing = spawn_blocking(move || plan.with_addresses(&addresses));
        renewing.await.expect("compiling does not panic")
    }

    async fn hand_out(&mut self, plan: Plan) -> Result<(), Refusal> {
        let plan = Arc::new(plan);
        let epoch = self.parts.store.run(|store| store.next_epoch()).await?;
        let publish = |(proxy, snapshot): (&String, &Arc<_>)| {
            (proxy.clone(), self.publisher.publish(proxy, Arc::clone(snapshot), epoch))
        };
        let proxies = plan.snapshots.iter().map(publish).collect();
        let before = self.published.iter().flat_map(|before| before.proxies.keys());
        let gone = before.filter(|proxy| !plan.snapshots.contains_key(*proxy));
        let orphans: Vec<String> =
            gone.filter(|proxy| self.publisher.withdraw(proxy)).cloned().collect();
        if !orphans.is_empty() {
            tracing::warn!(proxies = ?orphans, "not declared any more, and connected: they keep what they run");
        }
        let live = self.live.as_mut().expect("a plan is of what is live");
        (live.plan, live.is_published) = (plan.clone(), true);
        self.published = Some(Published { epoch, proxies, orphans });
        tracing::info!(%epoch, revision = live.revision, proxies = plan.snapshots.len(), "published");
        Ok(())
    }
}
