//! Mailboxes: how another thread hands a worker something.
//!
//! This is the control path (a snapshot, a drain order), never the packet path: a bounded queue
//! under a lock that is held for a push or a pop, and the receiver's waker, which finds its worker
//! through the worker's eventfd when it is woken from afar.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};

struct Shared<T> {
    letters: VecDeque<T>,
    capacity: usize,
    waker: Option<Waker>,
    senders: usize,
    receiver_gone: bool,
}

/// Makes a mailbox that holds at most `capacity` letters.
#[must_use]
pub fn mailbox<T: Send>(capacity: usize) -> (Sender<T>, Receiver<T>) {
    let shared = Arc::new(Mutex::new(Shared {
        letters: VecDeque::new(),
        capacity,
        waker: None,
        senders: 1,
        receiver_gone: false,
    }));
    (Sender { shared: shared.clone() }, Receiver { shared })
}

/// Why a letter could not be posted; it comes back with the answer.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum PostError<T> {
    /// The receiver has not emptied its box yet.
    #[error("the mailbox is full")]
    Full(T),
    /// Nobody will read it any more.
    #[error("the mailbox's receiver is gone")]
    Gone(T),
}

/// The posting end; any thread may hold one.
pub struct Sender<T> {
    shared: Arc<Mutex<Shared<T>>>,
}

impl<T> Sender<T> {
    /// Posts a letter without waiting.
    ///
    /// # Errors
    /// [`PostError::Full`] and [`PostError::Gone`] give the letter back.
    pub fn post(&self, letter: T) -> Result<(), PostError<T>> {
        let waker = {
            let mut shared = lock(&self.shared);
            if shared.receiver_gone {
                return Err(PostError::Gone(letter));
            }
            if shared.letters.len() >= shared.capacity {
                return Err(PostError::Full(letter));
            }
            shared.letters.push_back(letter);
            shared.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
        Ok(())
    }
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Self {
        lock(&self.shared).senders += 1;
        Self { shared: self.shared.clone() }
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        let waker = {
            let mut shared = lock(&self.shared);
            shared.senders -= 1;
            if shared.senders == 0 { shared.waker.take() } else { None }
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

/// The reading end, for one task of one worker.
pub struct Receiver<T> {
    shared: Arc<Mutex<Shared<T>>>,
}

impl<T> Receiver<T> {
    /// Waits for a letter; `None` once every sender is gone and the box is empty.
    ///
    /// Cancel-safe: a letter stays in the box until a poll returns it.
    pub async fn receive(&mut self) -> Option<T> {
        poll_fn(|cx| {
            let mut shared = lock(&self.shared);
            if let Some(letter) = shared.letters.pop_front() {
                return Poll::Ready(Some(letter));
            }
            if shared.senders == 0 {
                return Poll::Ready(None);
            }
            shared.waker = Some(cx.waker().clone());
            Poll::Pending
        })
        .await
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        let mut shared = lock(&self.shared);
        shared.receiver_gone = true;
        let letters = std::mem::take(&mut shared.letters);
        drop(shared);
        drop(letters);
    }
}

/// The lock guards plain data that no panic leaves half-changed, so poison is passed over.
fn lock<T>(shared: &Mutex<Shared<T>>) -> MutexGuard<'_, Shared<T>> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}
