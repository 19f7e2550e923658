//! What a worker does that can't keep up: it begins no more requests than end, and lets nobody in.
//!
//! Before: the worker's loop tells how long a turn took; `connection` has the first bytes of a request. After:
//! the request is served, at once or in its turn. Requests under way go on. What waits is bounded by the
//! clients that are connected, in time by [`LAG_HOLD_MAX`](limits::LAG_HOLD_MAX): a worker whose time goes
//! into tunnels must not hold requests up for ever.
//!
//! ```text
//!           turns were long for an interval            one ends ──▶ the next in line begins
//! any number ──────────────────────────────▶ no more than now ──┐
//!     ▲                                             │  ▲────────┘
//!     └── a short turn: all that wait begin ────────┘
//! ```

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Poll, Waker};
use std::time::Duration;

use lateen_ring::{Deadline, Instant};

use crate::decide::overload::lag::LoopLag;
use crate::limits;

/// Of one worker.
#[derive(Debug)]
pub struct WorkerLag {
    turns: Cell<LoopLag>,
    is_lagging: Cell<bool>,
    /// Requests under way.
    running: Cell<usize>,
    /// No more than so many are begun.
    running_max: Cell<usize>,
    /// Who waits to begin, in their order.
    held: RefCell<VecDeque<Rc<Held>>>,
}

impl Default for WorkerLag {
    fn default() -> Self {
        Self {
            turns: Cell::default(),
            is_lagging: Cell::new(false),
            running: Cell::new(0),
            running_max: Cell::new(usize::MAX),
            held: RefCell::default(),
        }
    }
}

#[derive(Debug)]
struct Held {
    waker: Waker,
    has_begun: Cell<bool>,
}

impl WorkerLag {
    /// A turn has ended at `now`, during which something may have waited for so long.
    #[inline]
    pub fn turned(&self, lag: Duration, now: Instant) {
        let mut turns = self.turns.get();
        let is_lagging = turns.turned(lag, now);
        self.turns.set(turns);
        if is_lagging != self.is_lagging.get() {
            self.switch(is_lagging);
        }
    }

    #[cold]
    fn switch(&self, is_lagging: bool) {
        self.is_lagging.set(is_lagging);
        if is_lagging {
            // Few are not what takes so long, and one after the other would be slower than it need be.
            self.running_max.set(self.running.get().max(limits::LAG_REQUESTS_LEAST));
        } else {
            self.let_all_begin();
        }
    }

    /// Nobody is held any more, whatever the turns.
    pub fn let_all_begin(&self) {
        self.running_max.set(usize::MAX);
        while self.begin_next() {}
    }

    /// Whether the worker can't keep up.
    #[inline]
    pub fn is_lagging(&self) -> bool {
        self.is_lagging.get()
    }

    /// Begins a request, if it need not wait.
    #[inline]
    pub fn try_begin(&self) -> bool {
        let running = self.running.get();
        let may_begin = running < self.running_max.get();
        if may_begin {
            self.running.set(running + 1);
        }
        may_begin
    }

    /// Begins a request in its turn, but no later than the most that one waits.
    pub async fn begin(&self, deadline: &Deadline) {
        let waker = poll_fn(|cx| Poll::Ready(cx.waker().clone())).await;
        let held = Rc::new(Held { waker, has_begun: Cell::new(false) });
        self.held.borrow_mut().push_back(held.clone());
        let place = Place { lag: self, held: &held };
        deadline.set_after(limits::LAG_HOLD_MAX);
        poll_fn(|cx| match held.has_begun.get() {
            true => Poll::Ready(()),
            false => deadline.poll_past(cx),
        })
        .await;
        deadline.clear();
        place.take();
    }

    /// A request is over.
    #[inline]
    pub fn end(&self) {
        debug_assert!(self.running.get() > 0, "what ends has begun");
        self.running.set(self.running.get() - 1);
        if self.running_max.get() != usize::MAX && self.running.get() < self.running_max.get() {
            self.begin_next();
        }
    }

    /// Lets who waits longest begin. False: nobody waits.
    fn begin_next(&self) -> bool {
        let next = self.held.borrow_mut().pop_front();
        let Some(next) = next else { return false };
        self.running.set(self.running.get() + 1);
        next.has_begun.set(true);
        next.waker.wake_by_ref();
        true
    }
}

/// A place among those who wait, which is left when this is dropped.
struct Place<'a> {
    lag: &'a WorkerLag,
    held: &'a Rc<Held>,
}

impl Place<'_> {
    /// It begins: in its turn, or because it has waited for long enough.
    fn take(self) {
        if !self.held.has_begun.replace(true) {
            self.lag.held.borrow_mut().retain(|other| !Rc::ptr_eq(other, self.held));
            self.lag.running.set(self.lag.running.get() + 1);
        }
        std::mem::forget(self);
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        if self.held.has_begun.get() {
            return self.lag.end();
        }
        self.lag.held.borrow_mut().retain(|other| !Rc::ptr_eq(other, self.held));
    }
}

#[cfg(test)]
mod tests {
    use lateen_ring::{TaskHandle, sleep, spawn};

    use super::*;
    use crate::testing::on_worker;

    const LONG: Duration = Duration::from_millis(6);

    /// Long turns, for long enough.
    fn lag(lag: &WorkerLag) {
        let now = lateen_ring::now();
        lag.turned(LONG, now);
        lag.turned(limits::LAG_INTERVAL, now + limits::LAG_INTERVAL);
        assert!(lag.is_lagging());
    }

    /// A request that waits to begin and notes when it did.
    fn wait(lag: &Rc<WorkerLag>, began: &Rc<RefCell<Vec<usize>>>, index: usize) -> TaskHandle {
        let (lag, began) = (lag.clone(), began.clone());
        spawn(async move {
            assert!(!lag.try_begin(), "it has to wait");
            lag.begin(&Deadline::new()).await;
            began.borrow_mut().push(index);
        })
    }

    #[test]
    fn no_more_begin_than_end_and_in_their_order() {
        on_worker(&[], async |_| {
            let lag_of = Rc::<WorkerLag>::default();
            for _ in 0..limits::LAG_REQUESTS_LEAST + 10 {
                assert!(lag_of.try_begin(), "a worker that keeps up begins any number");
            }
            lag(&lag_of);
            let began = Rc::<RefCell<Vec<usize>>>::default();
            let tasks = [0, 1, 2, 3].map(|index| wait(&lag_of, &began, index));
            sleep(Duration::from_millis(1)).await;
            assert!(began.borrow().is_empty());
            lag_of.end();
            // One that goes leaves its place.
            tasks[1].abort();
            lag_of.end();
            sleep(Duration::from_millis(1)).await;
            assert_eq!(*began.borrow(), [0, 2]);
            assert!(!lag_of.try_begin(), "nobody comes before who waits");
            // A short turn lets all begin.
            lag_of.turned(limits::LAG_TARGET, lateen_ring::now());
            sleep(Duration::from_millis(1)).await;
            assert_eq!(*began.borrow(), [0, 2, 3]);
            assert!(lag_of.try_begin());
        });
    }

    #[test]
    fn one_that_was_let_in_and_goes_lets_the_next_in() {
        on_worker(&[], async |_| {
            let lag_of = Rc::<WorkerLag>::default();
            for _ in 0..limits::LAG_REQUESTS_LEAST {
                assert!(lag_of.try_begin());
            }
            lag(&lag_of);
            let began = Rc::<RefCell<Vec<usize>>>::default();
            let tasks = [0, 1].map(|index| wait(&lag_of, &began, index));
            sleep(Duration::from_millis(1)).await;
            lag_of.end();
            tasks[0].abort();
            sleep(Duration::from_millis(1)).await;
            assert_eq!(*began.borrow(), [1]);
            assert_eq!(lag_of.running.get(), limits::LAG_REQUESTS_LEAST);
        });
    }

    #[test]
    fn nobody_waits_for_ever_and_few_do_not_wait_at_all() {
        on_worker(&[], async |_| {
            let lag_of = Rc::<WorkerLag>::default();
            assert!(lag_of.try_begin());
            lag(&lag_of);
            for _ in 1..limits::LAG_REQUESTS_LEAST {
                assert!(lag_of.try_begin());
            }
            let began = Rc::<RefCell<Vec<usize>>>::default();
            wait(&lag_of, &began, 0);
            sleep(limits::LAG_HOLD_MAX - Duration::from_millis(10)).await;
            assert!(began.borrow().is_empty());
            sleep(Duration::from_millis(20)).await;
            assert_eq!(*began.borrow(), [0]);
            assert_eq!(lag_of.running.get(), limits::LAG_REQUESTS_LEAST + 1);
            // All that is too many ends before another begins.
            lag_of.end();
            assert!(!lag_of.try_begin());
            lag_of.end();
            assert!(lag_of.try_begin());
        });
    }
}
