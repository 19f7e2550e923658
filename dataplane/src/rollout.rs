//! The main thread's part in changing snapshots: prepare on every worker, then commit by one word.
//!
//! Before: `subscription` offers a snapshot. After: every worker runs it and the offer is answered
//! `applied`; or nothing has changed and it is answered `rejected`. One change at a time; of offers
//! that wait only the newest is kept, since it says all that the others said.
//!
//! ```text
//!  idle ──offer──► preparing ──all prepared──► switching ──all switched──► idle
//!   ▲                  │ a port is taken, a worker can't
//!   └──────rejected────┘
//! ```

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use lateen_ring::{Address, Binding};
use lateen_snapshot::model::{Epoch, Listener, Snapshot};

use crate::decide::route::RouteTables;
use crate::loaded::{EpochWord, ListenerSlot, Loaded, Published};
use crate::observe::lifecycle::{Lifecycle, Phase};
use crate::worker::{Order, Preparation};

/// A snapshot to run on, checked, and who wants to know what became of it.
pub struct Offer {
    /// What the control plane calls it.
    pub epoch: Epoch,
    /// The model.
    pub snapshot: Snapshot,
    /// The way of a request through it.
    pub tables: RouteTables,
    /// Is told once.
    pub answer: Box<dyn FnOnce(Outcome) + Send>,
}

/// What became of an offer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Every worker runs it.
    Applied {
        /// How long each worker was kept by making ready and by switching.
        workers: Vec<Kept>,
    },
    /// No worker runs it.
    Rejected {
        /// For the operator.
        reason: String,
    },
    /// A newer one came before its turn; or it is under way or done already. That one's answer says
    /// it all.
    Superseded,
}

/// How long a change kept a worker from its packets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Kept {
    /// Making ready.
    pub prepare: Duration,
    /// Switching.
    pub switch: Duration,
}

/// What is to be sent to the workers, by worker.
pub type Orders = Vec<Order>;

/// The state of the change that is under way.
pub struct Rollout {
    word: Arc<EpochWord>,
    live: Arc<Loaded>,
    published: Arc<Published>,
    lifecycle: Arc<Lifecycle>,
    /// Of each address that was ever listened on.
    slots: HashMap<SocketAddr, ListenerSlot>,
    /// Of the last offer that was looked at.
    serial: u64,
    workers: usize,
    pending: Option<Pending>,
    waiting: Option<Offer>,
    /// Freed here once no worker has them: the last to let go of a snapshot frees all of it.
    retired: Vec<Arc<Loaded>>,
}

struct Pending {
    loaded: Arc<Loaded>,
    answer: Box<dyn FnOnce(Outcome) + Send>,
    kept: Vec<Kept>,
    /// Workers that are ready, or have said that they can't be.
    answered: usize,
    /// Why one can't.
    failed: Option<String>,
    switched: usize,
}

impl Rollout {
    /// Begins with what the workers were started on.
    pub fn new(
        word: Arc<EpochWord>,
        live: Arc<Loaded>,
        published: Arc<Published>,
        lifecycle: Arc<Lifecycle>,
        workers: usize,
    ) -> Self {
        let slots = live.slots().map(|(slot, listener)| (listener.address, slot)).collect();
        let serial = live.serial;
        Self {
            word,
            live,
            published,
            lifecycle,
            slots,
            serial,
            workers,
            pending: None,
            waiting: None,
            retired: Vec::new(),
        }
    }

    /// What every worker runs.
    pub fn published(&self) -> &Arc<Published> {
        &self.published
    }

    /// Whether snapshots wait to be freed; [`tidy`](Self::tidy) should be called again in a while.
    pub fn is_untidy(&self) -> bool {
        !self.retired.is_empty()
    }

    /// Frees what no worker has any more.
    pub fn tidy(&mut self) {
        self.retired.retain(|loaded| Arc::strong_count(loaded) > 1);
    }

    /// Begins a change, or lets it wait for the one under way. Returns what to tell the workers.
    ///
    /// What is no newer than the newest that was offered is not run: a control plane that confuses the
    /// order must not take clients back to what they have seen go.
    pub fn offer(&mut self, offer: Offer) -> Option<Orders> {
        let newest = self.newest();
        if newest == offer.epoch {
            (offer.answer)(Outcome::Superseded);
            return None;
        }
        if !newest.is_replaced_by(offer.epoch) {
            let reason = format!("the proxy was offered {newest}, which is newer");
            (offer.answer)(Outcome::Rejected { reason });
            return None;
        }
        if self.pending.is_some() {
            if let Some(older) = self.waiting.replace(offer) {
                (older.answer)(Outcome::Superseded);
            }
            return None;
        }
        self.begin(offer)
    }

    /// The newest epoch that runs or will, unless it is refused.
    fn newest(&self) -> Epoch {
        let waiting = self.waiting.as_ref().map(|offer| offer.epoch);
        let pending = || self.pending.as_ref().map(|pending| pending.loaded.epoch);
        waiting.or_else(pending).unwrap_or(self.live.epoch)
    }

    fn begin(&mut self, offer: Offer) -> Option<Orders> {
        let Offer { epoch, snapshot, tables, answer } = offer;
        self.serial += 1;
        let after = Loaded::after(&self.live, self.serial, epoch, snapshot, tables, &self.slots);
        let bound = after.map_err(|error| error.to_string()).and_then(|loaded| {
            let added = self.bind_added(&loaded)?;
            Ok((Arc::new(loaded), added))
        });
        let (loaded, added) = match bound {
            Ok(bound) => bound,
            Err(reason) => {
                answer(Outcome::Rejected { reason });
                return self.begin_waiting();
            }
        };
        let kept = vec![Kept::default(); self.workers];
        let orders = added
            .into_iter()
            .map(|added| Order::Prepare(Preparation { loaded: loaded.clone(), added }))
            .collect();
        self.pending =
            Some(Pending { loaded, answer, kept, answered: 0, failed: None, switched: 0 });
        Some(orders)
    }

    /// Binds the addresses that are new, for each worker.
    fn bind_added(&self, loaded: &Loaded) -> Result<Vec<Vec<(ListenerSlot, OwnedFd)>>, String> {
        let mut bindings = Vec::new();
        let mut beside = Vec::new();
        for (slot, listener) in loaded.slots() {
            if self.live.listener(slot).is_some() {
                continue;
            }
            match Binding::new(&Address::from(listener.address), self.workers) {
                Ok(binding) => bindings.push((slot, binding)),
                Err(cause) if cause.kind() == io::ErrorKind::AddrInUse => {
                    beside.push((slot, listener, cause));
                }
                Err(cause) => return Err(cannot_listen(listener, &cause)),
            }
        }
        // Last, since connections come in from here on: those of a listener that this change takes away.
        for (slot, listener, cause) in beside {
            if !self.leaves_for(loaded, listener.address) {
                return Err(cannot_listen(listener, &cause));
            }
            let binding = Binding::beside(&Address::from(listener.address), self.workers);
            bindings.push((slot, binding.map_err(|cause| cannot_listen(listener, &cause))?));
        }
        let mut by_worker: Vec<Vec<_>> = (0..self.workers).map(|_| Vec::new()).collect();
        for (slot, binding) in bindings {
            for (worker, socket) in binding.into_sockets().into_iter().enumerate() {
                by_worker[worker].push((slot, socket));
            }
        }
        Ok(by_worker)
    }

    /// Whether what has the port of `address` is a listener of ours, that `loaded` has no longer, on
    /// all addresses of the machine or on one where `address` is all of them.
    fn leaves_for(&self, loaded: &Loaded, address: SocketAddr) -> bool {
        self.live.slots().any(|(slot, own)| {
            let overlaps = own.address.ip().is_unspecified() || address.ip().is_unspecified();
            own.address.port() == address.port() && overlaps && loaded.listener(slot).is_none()
        })
    }

    /// A worker is ready. Returns what to tell all of them, if it was the last to answer.
    pub fn prepared(&mut self, worker: usize, serial: u64, took: Duration) -> Option<Orders> {
        let pending = self.pending.as_mut().filter(|pending| pending.loaded.serial == serial)?;
        pending.kept[worker].prepare = took;
        self.note_answer()
    }

    /// A worker can't run it: nobody will. Returns what to tell all of them, if it was the last to
    /// answer.
    pub fn unprepared(&mut self, serial: u64, error: &io::Error) -> Option<Orders> {
        let pending = self.pending.as_mut().filter(|pending| pending.loaded.serial == serial)?;
        pending.failed.get_or_insert_with(|| format!("a worker cannot run it: {error}"));
        self.note_answer()
    }

    /// Commits or abandons the change once all workers have answered: none has then more than that in
    /// its box, however slow it is.
    fn note_answer(&mut self) -> Option<Orders> {
        let pending = self.pending.as_mut()?;
        pending.answered += 1;
        if pending.answered < self.workers {
            return None;
        }
        if pending.failed.is_some() {
            return self.abandon();
        }
        let slots = pending.loaded.slots().map(|(slot, listener)| (listener.address, slot));
        self.slots.extend(slots);
        // From here on every request that begins anywhere runs on the new one.
        self.word.commit(pending.loaded.serial);
        Some((0..self.workers).map(|_| Order::Commit).collect())
    }

    fn abandon(&mut self) -> Option<Orders> {
        let Pending { loaded, answer, failed, .. } = self.pending.take()?;
        // The workers let go of it when they hear that it is abandoned; none should be the last.
        self.retired.push(loaded);
        answer(Outcome::Rejected { reason: failed? });
        // What waits comes with the next event.
        Some((0..self.workers).map(|_| Order::Abandon).collect())
    }

    /// A worker runs it. Answers the offer if it was the last, and returns what to tell the workers of
    /// the next one.
    pub fn switched(&mut self, worker: usize, serial: u64, took: Duration) -> Option<Orders> {
        let pending = self.pending.as_mut().filter(|pending| pending.loaded.serial == serial)?;
        pending.kept[worker].switch = took;
        pending.switched += 1;
        if pending.switched < self.workers {
            return None;
        }
        let Pending { loaded, answer, kept, .. } = self.pending.take()?;
        let last = std::mem::replace(&mut self.live, loaded);
        self.published.publish(self.live.clone());
        // Once is enough, and more does nothing.
        self.lifecycle.enter(Phase::Ready);
        self.retired.push(last);
        self.tidy();
        answer(Outcome::Applied { workers: kept });
        self.begin_waiting()
    }

    /// Begins the change that waits, if none is under way.
    pub fn begin_waiting(&mut self) -> Option<Orders> {
        if self.pending.is_some() {
            return None;
        }
        let waiting = self.waiting.take()?;
        self.begin(waiting)
    }
}

fn cannot_listen(listener: &Listener, cause: &io::Error) -> String {
    let (name, address) = (&listener.name, listener.address);
    format!("listener {name}: cannot listen on {address}: {cause}; {}", mend(cause))
}

/// What to do about an address that can't be bound.
pub fn mend(cause: &io::Error) -> &'static str {
    match cause.kind() {
        io::ErrorKind::AddrInUse => "stop what uses it, or choose another",
        io::ErrorKind::PermissionDenied => {
            "ports below 1024 need CAP_NET_BIND_SERVICE; choose a higher one"
        }
        _ => "choose an address of this machine",
    }
}

impl std::fmt::Debug for Rollout {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Rollout").field("live", &self.live.epoch).finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Offer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Offer").field(&self.epoch).finish()
    }
}

#[cfg(test)]
mod tests;
