//! Hands each proxy the snapshot that it should run, and hears what became of it.
//!
//! ```text
//! publish(name, snapshot, epoch) ──► registry ◄── who is there, what they answered ──► status, wait
//!                                     │    ▲
//!                             writer ◄┘    └ reader          two threads for each connection
//!                                └─── socket ──┘
//! ```
//!
//! Before: `compile` made a snapshot for a proxy, `store` gave it an epoch. After: the proxy runs it, or
//! keeps what it had and says why; see [`status`](crate::status). It listens on a Unix socket, checks who
//! connects, and speaks [`lateen_snapshot::message`]. Blocking threads: proxies are few, and change
//! rarely, compared to what passes through them. It never decides what a proxy runs, and a proxy, however
//! it behaves, neither blocks another nor takes more than its share of memory and descriptors.
//!
//! 1. [`socket`]: the file that proxies connect to.
//! 2. `accept`, `slots`: a bounded number of connections.
//! 3. `connection`: Hello, then snapshots one way and answers the other.
//! 4. `registry`: what is known of every proxy; `delivery`: the same of one connection, pure.
//! 5. `encodings`: snapshots as bytes.

pub mod limits;
pub mod socket;
mod accept;
mod slots;
mod connection;
mod registry;
mod delivery;
mod encodings;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use lateen_snapshot::limits::FRAME_TIMEOUT;
use lateen_snapshot::model::{Epoch, Snapshot};
use rustix::net::{Shutdown, shutdown};
use rustix::process::{Resource, geteuid, getrlimit};
use tokio::sync::watch;

use crate::status::{Outcome, Status};
use connection::Desk;
use encodings::Turns;
use limits::*;
pub use registry::Meant;
use registry::Registry;
use slots::Slots;
use socket::{BindError, Bound, PROXIES, bind};

/// How to serve proxies.
#[derive(Clone, Debug)]
pub struct Options {
    /// Of the epochs that will be published; see [`Epoch::store`].
    pub store: u64,
    /// Users whose processes may be proxies.
    pub trusted_uids: Vec<u32>,
    /// At a time. Fewer if the process may not have the descriptors for them.
    pub connections_max: usize,
    /// From connecting to the end of the Hello.
    pub hello_timeout: Duration,
    /// For a frame, either way, from its first byte to its last.
    pub frame_timeout: Duration,
    /// From sending a snapshot until its proxy is shown as one that does not answer.
    pub answer_timeout: Duration,
}

impl Options {
    /// The usual bounds; trusted are root and the user of this process.
    pub fn new(store: u64) -> Self {
        Self {
            store,
            trusted_uids: vec![geteuid().as_raw(), 0],
            connections_max: CONNECTIONS_MAX,
            hello_timeout: HELLO_TIMEOUT,
            frame_timeout: FRAME_TIMEOUT,
            answer_timeout: ANSWER_TIMEOUT,
        }
    }
}

/// The server. Dropping it ends all connections and removes the socket; proxies keep what they run.
pub struct Publisher {
    desk: Arc<Desk>,
    slots: Arc<Slots>,
    bound: Arc<Bound>,
    accepting: Option<JoinHandle<()>>,
}

impl Publisher {
    /// Listens on a socket and serves who connects.
    ///
    /// Errors: the socket can't be had; most of all, because another control plane has it.
    pub fn start(socket: &Path, options: Options) -> Result<Self, BindError> {
        let bound = Arc::new(bind(socket, PROXIES)?);
        let slots = Arc::new(Slots::new(affordable(options.connections_max)));
        let registry = Registry::new(options.store, options.answer_timeout);
        let desk = Arc::new(Desk { options, registry, turns: Turns::new() });
        let accepting = thread::Builder::new().name("proxy-accept".to_owned()).spawn({
            let (bound, slots, desk) = (bound.clone(), slots.clone(), desk.clone());
            move || accept::accept(&bound.listener, &slots, &desk)
        });
        let accepting = accepting.map_err(|cause| BindError::System {
            path: socket.into(),
            what: "starting a thread for it",
            cause,
        })?;
        Ok(Self { desk, slots, bound, accepting: Some(accepting) })
    }

    /// Says what a proxy should run from now on, connected or not. It is sent as soon as the proxy has
    /// answered what it was sent before; of several that wait, only the last is. One that is no newer
    /// than the last (see [`Epoch::is_replaced_by`]) is ignored: who says it was overtaken.
    ///
    /// Returns whether the proxy is connected.
    ///
    /// Cost: a look-up; encoding and sending are done elsewhere. Proxies that are given the same `Arc`
    /// under the same epoch share the encoding.
    pub fn publish(&self, name: &str, snapshot: Arc<Snapshot>, epoch: Epoch) -> bool {
        debug_assert!(
            epoch.store != 0 && epoch.number != 0,
            "a config from flags is not published"
        );
        self.desk.registry.publish(name, snapshot, epoch)
    }

    /// Says that nothing is known any more of what a proxy should run: its object is gone. It keeps
    /// what it runs. Returns whether the proxy is connected.
    pub fn withdraw(&self, name: &str) -> bool {
        self.desk.registry.withdraw(name)
    }

    /// Whether a connected proxy refused what it should run, or did not say in time that it does: the
    /// same under another epoch may be another matter.
    pub fn has_failed(&self) -> bool {
        self.desk.registry.has_failed()
    }

    /// The highest epoch of this store that a proxy said it runs, beyond what it should run: the store
    /// is an older copy of itself. 0: none.
    pub fn ahead(&self) -> watch::Receiver<u64> {
        self.desk.registry.ahead()
    }

    /// Waits until every proxy that was meant has said what became of what was published for it, if it
    /// is connected now or was then; not past the deadline. Blocks the thread.
    pub fn wait(
        &self,
        meant: &BTreeMap<String, Meant>,
        deadline: Instant,
    ) -> BTreeMap<String, Outcome> {
        self.desk.registry.wait(meant, deadline)
    }

    /// What is known of all proxies now.
    pub fn status(&self) -> Status {
        self.desk.registry.status()
    }
}

impl Drop for Publisher {
    fn drop(&mut self) {
        self.slots.close();
        // Wakes the thread in accept(2). Fails for no listening socket.
        let _ = shutdown(&self.bound.listener, Shutdown::Both);
        if let Some(accepting) = self.accepting.take() {
            // A panic there has been reported by the thread.
            let _ = accepting.join();
        }
        self.slots.empty();
    }
}

/// As many connections as there are descriptors for.
fn affordable(connections_max: usize) -> usize {
    let descriptors = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    let connections = descriptors.saturating_sub(DESCRIPTORS_RESERVED) / CONNECTION_DESCRIPTORS;
    connections_max.min(usize::try_from(connections).unwrap_or(usize::MAX)).max(1)
}
