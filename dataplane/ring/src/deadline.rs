//! Deadlines and sleeps: the handles on the timer wheel.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use crate::runtime::{Core, current};
use crate::time::Instant;
use crate::timer::TimerKey;

/// A deadline that is moved often and expires seldom: one per connection, for all its waits.
pub struct Deadline {
    core: Rc<Core>,
    key: TimerKey,
}

/// A deadline passed before what it guarded was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the deadline passed")]
pub struct Elapsed;

impl Default for Deadline {
    fn default() -> Self {
        Self::new()
    }
}

impl Deadline {
    /// A deadline that is not set.
    #[must_use]
    pub fn new() -> Self {
        let core = current();
        let key = core.wheel.borrow_mut().insert();
        Self { core, key }
    }

    /// Moves the deadline to `at`; [`Instant::NEVER`] clears it.
    #[inline]
    pub fn set(&self, at: Instant) {
        self.core.wheel.borrow_mut().set(self.key, at);
    }

    /// Moves the deadline to `duration` from now.
    pub fn set_after(&self, duration: Duration) {
        self.set(self.core.now() + duration);
    }

    /// Clears the deadline.
    pub fn clear(&self) {
        self.set(Instant::NEVER);
    }

    /// When it passes; [`Instant::NEVER`] if it is not set.
    #[must_use]
    pub fn at(&self) -> Instant {
        self.core.wheel.borrow().wanted(self.key)
    }

    /// True if it has passed.
    #[must_use]
    pub fn is_past(&self) -> bool {
        self.at() <= self.core.now()
    }

    /// Ready once the deadline has passed; registers the task to be woken then.
    #[inline]
    pub fn poll_past(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut wheel = self.core.wheel.borrow_mut();
        if wheel.wanted(self.key) <= self.core.now() {
            return Poll::Ready(());
        }
        wheel.set_waker(self.key, cx.waker());
        Poll::Pending
    }

    /// Runs `future` until it is done or the deadline, wherever it is moved to meanwhile, passes.
    ///
    /// # Errors
    /// [`Elapsed`]; then `future` has been dropped.
    pub async fn guard<F: Future>(&self, future: F) -> Result<F::Output, Elapsed> {
        let mut future = pin!(future);
        poll_fn(|cx| match future.as_mut().poll(cx) {
            Poll::Ready(output) => Poll::Ready(Ok(output)),
            Poll::Pending => self.poll_past(cx).map(|()| Err(Elapsed)),
        })
        .await
    }
}

impl Drop for Deadline {
    fn drop(&mut self) {
        let waker = self.core.wheel.borrow_mut().remove(self.key);
        drop(waker);
    }
}

impl std::fmt::Debug for Deadline {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Deadline").field(&self.at()).finish()
    }
}

/// Waits until `at`.
pub async fn sleep_until(at: Instant) {
    let deadline = Deadline::new();
    deadline.set(at);
    poll_fn(|cx| deadline.poll_past(cx)).await;
}

/// Waits for `duration`.
pub async fn sleep(duration: Duration) {
    sleep_until(current().now() + duration).await;
}
