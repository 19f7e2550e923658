//! The sockets that a process begins with.
//!
//! Before: its first snapshot says where it listens. After: each worker has a socket of each address.

use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::thread;
use std::time::Instant;

use lateen_ring::{Address, Binding};
use lateen_snapshot::model::Snapshot;

use crate::bootstrap::config::Config;
use crate::limits;
use crate::loaded::ListenerSlot;
use crate::rollout::mend;
use crate::supervise::LaunchError;

pub(super) type Sockets = Vec<(ListenerSlot, OwnedFd)>;

/// Binds every address once per worker. The sockets come by worker.
pub(super) fn bind_all(
    config: &Config,
    snapshot: &Snapshot,
) -> Result<(Vec<SocketAddr>, Vec<Sockets>), LaunchError> {
    let end = Instant::now() + limits::BIND_PATIENCE;
    let mut listening = Vec::new();
    let mut by_worker: Vec<Sockets> = (0..config.workers).map(|_| Vec::new()).collect();
    for (index, listener) in snapshot.listeners.iter().enumerate() {
        let address = listener.address;
        let binding = bind_patiently(address, config.workers, end).map_err(|cause| {
            let mend = mend(&cause);
            LaunchError::Listen { address, cause, mend }
        })?;
        listening.extend(binding.address().inet());
        for (worker, socket) in binding.into_sockets().into_iter().enumerate() {
            by_worker[worker].push((ListenerSlot(index as u16), socket));
        }
    }
    by_worker.reverse();
    Ok((listening, by_worker))
}

/// Binds an address. One in use is waited for until `end`: after a process was killed the kernel takes a
/// moment to tear its ring down, and with it what the ring accepts on.
fn bind_patiently(address: SocketAddr, workers: usize, end: Instant) -> io::Result<Binding> {
    loop {
        match Binding::new(&Address::from(address), workers) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && Instant::now() < end => {
                thread::sleep(limits::BIND_AGAIN);
            }
            bound => return bound,
        }
    }
}
