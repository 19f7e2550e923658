//! Places for connections: a bounded number, and a way to end each from outside.
//!
//! Before: [`accept`](super::accept) has a new connection. After: it holds a slot until its threads
//! are done. When all are taken, the oldest connection that has not said who it is makes room, so that
//! a crowd that connects and says nothing keeps no proxy out.

use std::collections::BTreeMap;
use std::io;
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use lateen_snapshot::frame::PeerCredentials;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// A connection, as seen from outside of its threads.
pub(super) struct Link {
    /// Unique in this process.
    pub(super) id: u64,
    pub(super) credentials: PeerCredentials,
    /// Wakes its writer; used with the registry's lock.
    pub(super) wake: Condvar,
    stream: UnixStream,
    is_welcome: AtomicBool,
    is_evicted: AtomicBool,
}

impl Link {
    /// Ends both halves; whoever reads from it or writes to it is told.
    pub(super) fn shut_down(&self) {
        // Fails only if the peer ended the connection before.
        let _ = self.stream.shutdown(Shutdown::Both);
    }

    /// It has said who it is: it makes room for nobody any more.
    pub(super) fn set_welcome(&self) {
        self.is_welcome.store(true, Ordering::Relaxed);
    }

    /// Whether it had to make room.
    pub(super) fn is_evicted(&self) -> bool {
        self.is_evicted.load(Ordering::Relaxed)
    }

    /// Whether the peer has closed its end, even if nobody has read that far.
    pub(super) fn is_hung_up(&self) -> bool {
        let mut socket = [PollFd::new(&self.stream, PollFlags::RDHUP)];
        let no_time = Timespec { tv_sec: 0, tv_nsec: 0 };
        let ended = PollFlags::RDHUP | PollFlags::HUP | PollFlags::ERR;
        poll(&mut socket, Some(&no_time)).is_ok() && socket[0].revents().intersects(ended)
    }
}

/// All connections.
pub(super) struct Slots {
    max: usize,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    is_closing: bool,
    next_id: u64,
    links: BTreeMap<u64, Arc<Link>>,
}

/// Why there is no place.
#[derive(Debug, thiserror::Error)]
pub(super) enum NoSlot {
    /// The control plane is ending.
    #[error("the control plane is ending")]
    Closing,
    /// Nobody can be sent away.
    #[error("the control plane has {max} connections, which is all that it takes")]
    Full {
        /// How many.
        max: usize,
    },
    /// The process is out of descriptors.
    #[error("the control plane can't take another connection: {0}")]
    System(#[from] io::Error),
}

/// The place of one connection.
pub(super) struct Slot {
    pub(super) link: Arc<Link>,
    // Last: who waits for the place finds the link's descriptor closed.
    _place: Place,
}

struct Place {
    slots: Arc<Slots>,
    id: u64,
}

impl Slots {
    pub(super) fn new(max: usize) -> Self {
        Self { max, state: Mutex::default(), changed: Condvar::new() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn is_closing(&self) -> bool {
        self.lock().is_closing
    }

    /// Waits, but not past the end of the control plane.
    pub(super) fn pause(&self, time: Duration) {
        let wait = |state: &mut State| !state.is_closing;
        drop(self.changed.wait_timeout_while(self.lock(), time, wait));
    }

    /// Takes a place; if there is none, sends the oldest away that has not said who it is, and waits
    /// for its thread to go, which it does at once.
    pub(super) fn enter(
        self: &Arc<Self>,
        stream: &UnixStream,
        credentials: PeerCredentials,
    ) -> Result<Slot, NoSlot> {
        let stream = stream.try_clone()?;
        let mut state = self.lock();
        while state.links.len() >= self.max && !state.is_closing {
            if !state.links.values().any(|link| link.is_evicted()) {
                let silent = |link: &&Arc<Link>| !link.is_welcome.load(Ordering::Relaxed);
                let oldest = state.links.values().find(silent);
                let oldest = oldest.ok_or(NoSlot::Full { max: self.max })?;
                oldest.is_evicted.store(true, Ordering::Relaxed);
                oldest.shut_down();
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        if state.is_closing {
            return Err(NoSlot::Closing);
        }
        let id = state.next_id;
        state.next_id += 1;
        let link = Arc::new(Link {
            id,
            credentials,
            wake: Condvar::new(),
            stream,
            is_welcome: AtomicBool::new(false),
            is_evicted: AtomicBool::new(false),
        });
        state.links.insert(id, link.clone());
        Ok(Slot { link, _place: Place { slots: self.clone(), id } })
    }

    /// From now on nobody gets in.
    pub(super) fn close(&self) {
        self.lock().is_closing = true;
        self.changed.notify_all();
    }

    /// Ends all connections, and waits until their threads are done.
    pub(super) fn empty(&self) {
        let state = self.lock();
        state.links.values().for_each(|link| link.shut_down());
        let wait = |state: &mut State| !state.links.is_empty();
        drop(self.changed.wait_while(state, wait));
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.slots.lock().links.remove(&self.id);
        self.slots.changed.notify_all();
    }
}
