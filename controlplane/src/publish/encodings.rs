//! Snapshots as bytes: made once for all proxies that are to get the same, and freed when they have.
//!
//! Before: [`registry`](super::registry) was told what proxies should run. After: their writers send
//! the bytes. A control plane keeps what its proxies should run as snapshots, which share their
//! clusters; their encodings share nothing, so they live only until they are sent.

use std::collections::HashMap;
use std::sync::{Arc, Condvar, Mutex, PoisonError, Weak};
use std::{io, thread};

use lateen_snapshot::encoding::{EncodeError, Encoded, encode};
use lateen_snapshot::message::Publish;
use lateen_snapshot::model::{Epoch, Snapshot};

/// One snapshot under one epoch, in the versions that were asked for.
pub(super) struct Encodings {
    /// Which.
    pub(super) epoch: Epoch,
    snapshot: Arc<Snapshot>,
    made: Mutex<Vec<(u16, Arc<Encoded>)>>,
}

/// Why there is no message.
#[derive(Debug, thiserror::Error)]
pub(super) enum PrepareError {
    /// The snapshot is at fault.
    #[error(transparent)]
    Encode(#[from] EncodeError),
    /// The process is out of descriptors, or the system of memory.
    #[error("no memory for a snapshot: {0}")]
    System(#[from] io::Error),
}

impl Encodings {
    pub(super) fn new(epoch: Epoch, snapshot: Arc<Snapshot>) -> Self {
        Self { epoch, snapshot, made: Mutex::default() }
    }

    /// The message for a proxy that reads `version`.
    ///
    /// Cost: encoding for the first proxy, a copy for each further one.
    pub(super) fn prepare(&self, version: u16, turns: &Turns) -> Result<Publish, PrepareError> {
        turns.take(|| Ok(Publish::new(&*self.encoded(version)?)?))
    }

    fn encoded(&self, version: u16) -> Result<Arc<Encoded>, EncodeError> {
        // Held while encoding: whoever else wants it waits for it instead of making it as well.
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, encoded)) = made.iter().find(|(of, _)| *of == version) {
            return Ok(encoded.clone());
        }
        let encoded = Arc::new(encode(self.epoch, &self.snapshot, version)?);
        made.push((version, encoded.clone()));
        Ok(encoded)
    }
}

/// Finds the encodings of a snapshot that another proxy is to get as well.
#[derive(Default)]
pub(super) struct Shared {
    /// By the snapshot's address, which is its own as long as the encodings keep it alive.
    known: HashMap<(usize, Epoch), Weak<Encodings>>,
    sweep_at: usize,
}

impl Shared {
    pub(super) fn encodings(&mut self, epoch: Epoch, snapshot: &Arc<Snapshot>) -> Arc<Encodings> {
        let key = (Arc::as_ptr(snapshot).addr(), epoch);
        if let Some(known) = self.known.get(&key).and_then(Weak::upgrade) {
            return known;
        }
        if self.known.len() >= self.sweep_at {
            self.known.retain(|_, encodings| encodings.strong_count() > 0);
            self.sweep_at = 2 * self.known.len() + 16;
        }
        let encodings = Arc::new(Encodings::new(epoch, snapshot.clone()));
        self.known.insert(key, Arc::downgrade(&encodings));
        encodings
    }
}

/// As many threads encode at a time as there are cores: more would only take memory.
pub(super) struct Turns {
    left: Mutex<usize>,
    back: Condvar,
}

impl Turns {
    pub(super) fn new() -> Self {
        let cores = thread::available_parallelism().map_or(1, usize::from);
        Self { left: Mutex::new(cores), back: Condvar::new() }
    }

    fn take<T>(&self, work: impl FnOnce() -> T) -> T {
        let left = self.left.lock().unwrap_or_else(PoisonError::into_inner);
        let left = self.back.wait_while(left, |left| *left == 0);
        *left.unwrap_or_else(PoisonError::into_inner) -= 1;
        // Given back also by a panic.
        let _turn = Turn(self);
        work()
    }
}

struct Turn<'t>(&'t Turns);

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        *self.0.left.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        self.0.back.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;

    use lateen_snapshot::encoding::VERSION;

    use super::*;

    const EPOCH: Epoch = Epoch { store: 1, number: 1 };

    #[test]
    fn the_same_snapshot_under_the_same_epoch_is_encoded_once() {
        let mut shared = Shared::default();
        let (one, other) = (Arc::<Snapshot>::default(), Arc::<Snapshot>::default());
        let first = shared.encodings(EPOCH, &one);
        assert!(Arc::ptr_eq(&first, &shared.encodings(EPOCH, &one)));
        assert!(!Arc::ptr_eq(&first, &shared.encodings(EPOCH, &other)));
        let next = Epoch { number: 2, ..EPOCH };
        assert!(!Arc::ptr_eq(&first, &shared.encodings(next, &one)));

        let everyone = Barrier::new(8);
        let encoded = thread::scope(|scope| {
            let encode = || {
                everyone.wait();
                first.encoded(VERSION).expect("valid")
            };
            let threads: Vec<_> = (0..8).map(|_| scope.spawn(encode)).collect();
            let join = |thread: thread::ScopedJoinHandle<'_, _>| thread.join().expect("no panic");
            threads.into_iter().map(join).collect::<Vec<_>>()
        });
        assert!(encoded.iter().all(|each| Arc::ptr_eq(each, &encoded[0])));
    }

    #[test]
    fn what_is_sent_is_freed_and_forgotten() {
        let mut shared = Shared::default();
        let snapshot = Arc::<Snapshot>::default();
        for number in 1..1000 {
            drop(shared.encodings(Epoch { store: 1, number }, &snapshot));
        }
        assert_eq!(Arc::strong_count(&snapshot), 1);
        assert!(shared.known.len() <= 17, "{}", shared.known.len());
    }

    #[test]
    fn a_panic_gives_the_turn_back() {
        let turns = Turns { left: Mutex::new(1), back: Condvar::new() };
        thread::scope(|scope| {
            let panics = scope.spawn(|| turns.take(|| panic!("on purpose")));
            assert!(panics.join().is_err());
        });
        assert_eq!(turns.take(|| 5), 5);
    }
}
