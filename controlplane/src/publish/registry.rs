//! Every proxy by its name: what it should run, who it is while it is connected, what it answered.
//!
//! Before: [`Publisher::publish`](super::Publisher::publish) says what should run, and
//! [`connection`](super::connection) what proxies say. After: their writers are woken, and whoever waits
//! for outcomes. One lock, held for no longer than it takes to look something up; snapshots are encoded,
//! sent and freed outside of it.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use lateen_snapshot::encoding::{VERSIONS_WRITABLE, version_for};
use lateen_snapshot::frame::PeerCredentials;
use lateen_snapshot::message::{Hello, WorkerSwitch};
use lateen_snapshot::model::{Epoch, Snapshot};
use tokio::sync::watch;

use super::delivery::{Delivery, Unasked};
use super::encodings::{Encodings, Shared};
use super::limits::REFUSALS_MAX;
use super::slots::Link;
use crate::status::{
    Applied, ConnectionStatus, Outcome, ProxyState, ProxyStatus, Refusal, Rejection,
    SecondConnections, Status, UnixMs,
};

pub(super) struct Registry {
    state: Mutex<State>,
    /// A proxy came, went, answered, or did not.
    changed: Condvar,
    answer_timeout: Duration,
    /// Whose epochs are published.
    store: u64,
    /// See [`Publisher::ahead`](super::Publisher::ahead).
    ahead: watch::Sender<u64>,
}

/// What a proxy should say that it runs.
#[derive(Clone, Copy, Debug)]
pub struct Meant {
    /// What was published for it.
    pub epoch: Epoch,
    /// Whether it was connected then.
    pub was_connected: bool,
}

#[derive(Default)]
struct State {
    proxies: BTreeMap<String, Proxy>,
    refusals: VecDeque<Refusal>,
    trouble: Option<String>,
    encodings: Shared,
}

#[derive(Default)]
struct Proxy {
    wanted: Option<Wanted>,
    connected: Option<Connected>,
    /// When it was last connected.
    ran: Option<Epoch>,
    last_applied: Option<Applied>,
    last_rejection: Option<Rejection>,
    second_connections: Option<SecondConnections>,
}

struct Wanted {
    epoch: Epoch,
    snapshot: Arc<Snapshot>,
}

struct Connected {
    link: Arc<Link>,
    status: ConnectionStatus,
    delivery: Delivery,
}

/// A connected proxy, for its two threads.
pub(super) struct Member {
    pub(super) link: Arc<Link>,
    pub(super) name: String,
    /// Of the snapshots that it is sent.
    pub(super) version: u16,
}

/// An answer that ends the connection; the fault of the proxy.
#[derive(Debug, thiserror::Error)]
pub(super) enum WrongAnswer {
    #[error("it answers again and again what it was never sent")]
    Unasked,
    #[error("it answers for {answered} workers, its Hello said {expected}")]
    Workers { answered: usize, expected: u32 },
}

impl From<Unasked> for WrongAnswer {
    fn from(Unasked: Unasked) -> Self {
        Self::Unasked
    }
}

impl Registry {
    pub(super) fn new(store: u64, answer_timeout: Duration) -> Self {
        let (changed, ahead) = (Condvar::new(), watch::Sender::new(0));
        Self { state: Mutex::default(), changed, answer_timeout, store, ahead }
    }

    /// Every change under the lock is whole when it is let go of, even by a panic.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    // What should run.

    /// Returns whether the proxy is connected.
    pub(super) fn publish(&self, name: &str, snapshot: Arc<Snapshot>, epoch: Epoch) -> bool {
        let mut state = self.lock();
        let State { proxies, encodings, .. } = &mut *state;
        let proxy = match proxies.get_mut(name) {
            Some(proxy) => proxy,
            None => proxies.entry(name.to_owned()).or_default(),
        };
        let is_connected = proxy.connected.is_some();
        if proxy.wanted.as_ref().is_some_and(|wanted| !wanted.epoch.is_replaced_by(epoch)) {
            return is_connected;
        }
        let next = is_connected.then(|| encodings.encodings(epoch, &snapshot));
        let old = proxy.wanted.replace(Wanted { epoch, snapshot });
        let mut dropped = None;
        if let (Some(connected), Some(next)) = (&mut proxy.connected, next) {
            dropped = connected.delivery.want(next);
            connected.link.wake.notify_all();
        }
        drop(state);
        // Freeing a large snapshot takes a while.
        drop((old, dropped));
        self.changed.notify_all();
        is_connected
    }

    /// Returns whether the proxy is connected.
    pub(super) fn withdraw(&self, name: &str) -> bool {
        let mut state = self.lock();
        let Some(proxy) = state.proxies.get_mut(name) else { return false };
        let is_connected = proxy.connected.is_some();
        let old = proxy.wanted.take();
        let mut dropped = None;
        match &mut proxy.connected {
            Some(connected) => dropped = connected.delivery.want_nothing(),
            None => drop(state.proxies.remove(name)),
        }
        drop(state);
        drop((old, dropped));
        self.changed.notify_all();
        is_connected
    }

    // What proxies say.

    /// Lets a proxy in, or says why not. To be followed by [`leave`](Self::leave).
    pub(super) fn admit(&self, link: &Arc<Link>, hello: Hello) -> Result<Member, String> {
        let (lowest, highest) = hello.snapshot_versions;
        let Some(version) = version_for(&(lowest..=highest)) else {
            let reason = format!(
                "it reads snapshots of versions {lowest} to {highest}, this control plane writes \
                 versions {} to {}",
                VERSIONS_WRITABLE.start(),
                VERSIONS_WRITABLE.end()
            );
            self.refuse(link.credentials, Some(&hello.name), &reason);
            return Err(reason);
        };
        let seen_pid = u32::try_from(link.credentials.pid).ok().filter(|pid| *pid != 0);
        let status = ConnectionStatus {
            pid: seen_pid.unwrap_or(hello.pid),
            uid: link.credentials.uid,
            program_version: hello.program_version,
            snapshot_version: version,
            workers: hello.workers,
            since: UnixMs::now(),
        };

        let mut state = self.lock();
        let State { proxies, encodings, .. } = &mut *state;
        let proxy = proxies.entry(hello.name.clone()).or_default();
        // A process that was restarted may be here before its predecessor's end is read.
        if let Some(holder) = &proxy.connected
            && !holder.link.is_hung_up()
        {
            let held_by_pid = holder.status.pid;
            let count = proxy.second_connections.as_ref().map_or(0, |second| second.count) + 1;
            proxy.second_connections = Some(SecondConnections {
                count,
                held_by_pid,
                last_pid: status.pid,
                last_uid: status.uid,
                last_at: UnixMs::now(),
            });
            return Err(format!(
                "a proxy named {} is connected already, as process {held_by_pid}; this is process {}",
                hello.name, status.pid
            ));
        }
        let mut delivery = Delivery::new(hello.running);
        if let Some(running) = hello.running
            && running.store == self.store
            && proxy.wanted.as_ref().is_none_or(|wanted| running.number > wanted.epoch.number)
        {
            self.ahead.send_if_modified(|ahead| {
                let is_higher = running.number > *ahead;
                *ahead = running.number.max(*ahead);
                is_higher
            });
        }
        if let Some(wanted) = &proxy.wanted {
            delivery.want(encodings.encodings(wanted.epoch, &wanted.snapshot));
        }
        let predecessor =
            proxy.connected.replace(Connected { link: link.clone(), status, delivery });
        link.set_welcome();
        drop(state);
        if let Some(predecessor) = predecessor {
            predecessor.link.shut_down();
            predecessor.link.wake.notify_all();
        }
        self.changed.notify_all();
        Ok(Member { link: link.clone(), name: hello.name, version })
    }

    /// The connection is over, whatever the reason.
    pub(super) fn leave(&self, member: &Member) {
        let mut state = self.lock();
        let Some(proxy) = state.proxies.get_mut(&member.name) else { return };
        let left = proxy.connected.take_if(|connected| connected.link.id == member.link.id);
        if let Some(left) = &left {
            proxy.ran = left.delivery.running();
            if proxy.wanted.is_none() {
                state.proxies.remove(&member.name);
            }
        }
        drop(state);
        drop(left);
        member.link.wake.notify_all();
        self.changed.notify_all();
    }

    pub(super) fn applied(
        &self,
        member: &Member,
        epoch: Epoch,
        workers: Vec<WorkerSwitch>,
    ) -> Result<(), WrongAnswer> {
        let mut dropped = None;
        self.hear(member, |proxy, connected| {
            let (answered, expected) = (workers.len(), connected.status.workers);
            if answered as u64 != u64::from(expected) {
                return Err(WrongAnswer::Workers { answered, expected });
            }
            dropped = connected.delivery.applied(epoch)?;
            *proxy.last_applied = Some(Applied { epoch, at: UnixMs::now(), workers });
            Ok(())
        })
    }

    pub(super) fn rejected(
        &self,
        member: &Member,
        epoch: Epoch,
        reason: String,
    ) -> Result<(), WrongAnswer> {
        self.hear(member, |proxy, connected| {
            connected.delivery.rejected(epoch)?;
            *proxy.last_rejection = Some(Rejection { epoch, reason, at: UnixMs::now() });
            Ok(())
        })
    }

    /// Takes an answer in, unless another connection has taken the place of this one.
    fn hear(
        &self,
        member: &Member,
        answer: impl FnOnce(Answers<'_>, &mut Connected) -> Result<(), WrongAnswer>,
    ) -> Result<(), WrongAnswer> {
        let mut state = self.lock();
        let Some(proxy) = state.proxies.get_mut(&member.name) else { return Ok(()) };
        let Proxy { connected, last_applied, last_rejection, .. } = proxy;
        let Some(connected) = connected.as_mut().filter(|c| c.link.id == member.link.id) else {
            return Ok(());
        };
        answer(Answers { last_applied, last_rejection }, connected)?;
        connected.link.wake.notify_all();
        drop(state);
        self.changed.notify_all();
        Ok(())
    }

    /// Remembers a connection that was refused, or ended for what came on it.
    pub(super) fn refuse(&self, peer: PeerCredentials, name: Option<&str>, reason: &str) {
        let uid = peer.uid;
        let pid = u32::try_from(peer.pid).unwrap_or(0);
        let at = UnixMs::now();
        let refusals = &mut self.lock().refusals;
        if let Some(last) = refusals.back_mut()
            && (last.uid, last.pid, last.name.as_deref(), &*last.reason) == (uid, pid, name, reason)
        {
            (last.count, last.at) = (last.count + 1, at);
            return;
        }
        if refusals.len() == REFUSALS_MAX {
            refusals.pop_front();
        }
        let (name, reason) = (name.map(str::to_owned), reason.to_owned());
        refusals.push_back(Refusal { name, pid, uid, reason, count: 1, at });
    }

    /// Remembers why nobody gets in, while that is so.
    pub(super) fn set_trouble(&self, trouble: Option<String>) {
        self.lock().trouble = trouble;
    }

    // What writers ask.

    /// Waits for the next snapshot to send; `None`: the connection is over.
    pub(super) fn next(&self, member: &Member) -> Option<Arc<Encodings>> {
        let mut state = self.lock();
        loop {
            let delivery = state.delivery_of(member)?;
            if delivery.expire(Instant::now()) {
                self.changed.notify_all();
            }
            if let Some(next) = delivery.take() {
                return Some(next);
            }
            let wake = &member.link.wake;
            state = match delivery.answer_by() {
                None => wake.wait(state).unwrap_or_else(PoisonError::into_inner),
                Some(at) => {
                    let left = at.saturating_duration_since(Instant::now());
                    wake.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
    }

    /// It has been sent.
    pub(super) fn sent(&self, member: &Member, epoch: Epoch) {
        if let Some(delivery) = self.lock().delivery_of(member) {
            delivery.sent(epoch, Instant::now() + self.answer_timeout);
        }
    }

    // What operators ask.

    pub(super) fn has_failed(&self) -> bool {
        let failed =
            |proxy: &Proxy| matches!(proxy.state(), ProxyState::Rejected | ProxyState::NoAnswer);
        self.lock().proxies.values().any(failed)
    }

    pub(super) fn ahead(&self) -> watch::Receiver<u64> {
        self.ahead.subscribe()
    }

    /// Waits until each of the proxies that is connected, or was when it was told, has answered, or the
    /// deadline has passed.
    pub(super) fn wait(
        &self,
        meant: &BTreeMap<String, Meant>,
        deadline: Instant,
    ) -> BTreeMap<String, Outcome> {
        let mut state = self.lock();
        loop {
            let is_open = meant.iter().any(|(name, meant)| state.outcome(name, *meant).is_none());
            let left = deadline.saturating_duration_since(Instant::now());
            if !is_open || left.is_zero() {
                let outcome = |(name, meant): (&String, &Meant)| {
                    let outcome =
                        state.outcome(name, *meant).unwrap_or_else(|| state.silence(name));
                    (name.clone(), outcome)
                };
                return meant.iter().map(outcome).collect();
            }
            let woken = self.changed.wait_timeout(state, left);
            state = woken.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    pub(super) fn status(&self) -> Status {
        let state = self.lock();
        let proxies = state.proxies.iter().map(|(name, proxy)| proxy.status(name)).collect();
        let refused = state.refusals.iter().cloned().collect();
        Status { proxies, refused, trouble: state.trouble.clone() }
    }
}

/// Where an answer is noted.
struct Answers<'p> {
    last_applied: &'p mut Option<Applied>,
    last_rejection: &'p mut Option<Rejection>,
}

impl State {
    fn delivery_of(&mut self, member: &Member) -> Option<&mut Delivery> {
        let connected = self.proxies.get_mut(&member.name)?.connected.as_mut()?;
        (connected.link.id == member.link.id).then_some(&mut connected.delivery)
    }

    /// What it is to have said nothing until now.
    fn silence(&self, name: &str) -> Outcome {
        match self.proxies.get(name).and_then(|proxy| proxy.connected.as_ref()) {
            Some(_) => Outcome::Unanswered,
            None => Outcome::Left,
        }
    }

    /// `None`: not known yet.
    fn outcome(&self, name: &str, meant: Meant) -> Option<Outcome> {
        let Meant { epoch: meant, was_connected } = meant;
        let proxy = self.proxies.get(name);
        let Some((proxy, connected)) = proxy.and_then(|of| Some((of, of.connected.as_ref()?)))
        else {
            // One that left may be back in a moment, and run it; or it is what it died of.
            return (!was_connected).then_some(Outcome::Disconnected);
        };
        let running = connected.delivery.running();
        if running == Some(meant) {
            return Some(Outcome::Applied);
        }
        let is_at_least = |epoch: Epoch| epoch.store == meant.store && epoch.number >= meant.number;
        let rejection = proxy.last_rejection.as_ref().filter(|last| is_at_least(last.epoch));
        let is_running_newer = running.is_some_and(is_at_least);
        match rejection {
            // Before what is newer: that may be what followed because this one was refused.
            Some(last) if last.epoch == meant || !is_running_newer => {
                Some(Outcome::Rejected { epoch: last.epoch, reason: last.reason.clone() })
            }
            _ if is_running_newer => Some(Outcome::Applied),
            // A late answer counts.
            _ => None,
        }
    }
}

impl Proxy {
    fn status(&self, name: &str) -> ProxyStatus {
        let connected = self.connected.as_ref();
        ProxyStatus {
            name: name.to_owned(),
            state: self.state(),
            wanted: self.wanted.as_ref().map(|wanted| wanted.epoch),
            running: connected.map_or(self.ran, |connected| connected.delivery.running()),
            connection: connected.map(|connected| connected.status.clone()),
            last_applied: self.last_applied.clone(),
            last_rejection: self.last_rejection.clone(),
            second_connections: self.second_connections.clone(),
        }
    }

    fn state(&self) -> ProxyState {
        let Some(connected) = &self.connected else { return ProxyState::Disconnected };
        let Some(wanted) = &self.wanted else { return ProxyState::UnknownProxy };
        let delivery = &connected.delivery;
        if delivery.running() == Some(wanted.epoch) {
            ProxyState::Current
        } else if self.last_rejection.as_ref().is_some_and(|last| last.epoch == wanted.epoch) {
            ProxyState::Rejected
        } else if delivery.is_unanswered(wanted.epoch) {
            ProxyState::NoAnswer
        } else {
            ProxyState::Changing
        }
    }
}
