//! The one thread that owns a store. Everyone else sends it an order and awaits the answer, so that
//! no task of the control plane waits for the disk on a thread that others need.

use std::io;
use std::thread::{self, JoinHandle};

use tokio::sync::{mpsc, oneshot};

use crate::store::database::Store;
use crate::store::error::StoreError;
use crate::store::limits::ORDERS_QUEUED_MAX;

type Order = Box<dyn FnOnce(&mut Store) + Send>;

/// The way to a store's thread. Clones lead to the same one; when the last is gone, the store is
/// closed and the thread ends.
#[derive(Clone, Debug)]
pub struct StoreThread {
    orders: mpsc::Sender<Order>,
}

impl StoreThread {
    /// Starts the thread. Join the handle, after every clone is gone, to know that the store is closed.
    ///
    /// # Errors
    /// The system gives no thread.
    pub fn start(mut store: Store) -> io::Result<(Self, JoinHandle<()>)> {
        let (orders, mut queue) = mpsc::channel::<Order>(ORDERS_QUEUED_MAX);
        let thread = thread::Builder::new().name("lateen-store".to_owned()).spawn(move || {
            while let Some(order) = queue.blocking_recv() {
                order(&mut store);
            }
        })?;
        Ok((Self { orders }, thread))
    }

    /// Has the thread do `order` and gives back what it returned. Orders are done one at a time, in
    /// the order they were sent. Once sent, an order is done even if this future is dropped.
    ///
    /// # Errors
    /// [`StoreError::Stopped`] if the thread has ended, which only a panic in an order makes it do.
    pub async fn run<T: Send + 'static>(
        &self,
        order: impl FnOnce(&mut Store) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (answer, answered) = oneshot::channel();
        let order: Order = Box::new(move |store| {
            // Nobody may be there to hear it.
            let _ = answer.send(order(store));
        });
        self.orders.send(order).await.map_err(|_| StoreError::Stopped)?;
        answered.await.map_err(|_| StoreError::Stopped)?
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::open::open;
    use crate::store::retention::Retention;

    fn start() -> (tempfile::TempDir, StoreThread, JoinHandle<()>) {
        let folder = tempfile::tempdir().expect("there is room");
        let store = open(&folder.path().join("s.db"), Retention::default(), 0).expect("new").store;
        let (thread, join) = StoreThread::start(store).expect("there are threads");
        (folder, thread, join)
    }

    #[tokio::test]
    async fn does_orders_one_after_the_other_and_closes_the_store() {
        let (folder, thread, join) = start();
        let mut epochs = Vec::new();
        for _ in 0..3 {
            epochs.push(thread.run(|store| store.next_epoch()).await.expect("it runs").number);
        }
        assert_eq!(epochs, [1, 2, 3]);
        drop(thread);
        join.join().expect("no order panicked");
        open(&folder.path().join("s.db"), Retention::default(), 0).expect("nobody has it");
    }

    #[tokio::test]
    async fn says_that_it_has_stopped_after_a_panic() {
        let (_folder, thread, join) = start();
        let panicked = thread.run(|_| -> Result<(), _> { panic!("as the test wants") }).await;
        assert!(matches!(panicked, Err(StoreError::Stopped)), "{panicked:?}");
        assert!(join.join().is_err());
        let after = thread.run(|store| store.next_epoch()).await;
        assert!(matches!(after, Err(StoreError::Stopped)), "{after:?}");
    }
}
