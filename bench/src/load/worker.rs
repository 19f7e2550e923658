//! One thread of the load: its event loop, its connections, its part of the result.
//!
//! Comes after the [`plan`](super::plan); [`run`](super::run) starts the threads and adds up.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Poll, Waker};

use super::connection::{Connection, Shared};
use super::plan::Plan;
use super::schedule::Schedule;
use super::tally::Tally;
use super::watch::Watch;
use crate::clock::{Clock, as_ns, now_ns};
use crate::engine::EventLoop;

/// A thread opens at most one connection per this time at its start, so that they don't overflow
/// the server's queue of connections, where a SYN that is dropped costs a second.
const START_DISTANCE_NS: u64 = 20_000;

/// How often the connections' deadlines are looked at.
const TICK_NS_MIN: u64 = 1_000_000;
const TICK_NS_MAX: u64 = 50_000_000;

/// What a thread is told from outside, and tells.
#[derive(Clone)]
pub(crate) struct Signals {
    /// Set when the user has seen enough.
    pub(crate) stop: Arc<AtomicBool>,
    /// Right answers of this thread so far.
    pub(crate) progress: Arc<AtomicU64>,
}

/// Runs thread `thread` of the plan from `start_ns` until its share is done.
///
/// # Errors
/// No descriptor for the clock.
pub(crate) fn run(
    event_loop: &mut EventLoop,
    plan: Plan,
    thread: u32,
    start_ns: u64,
    signals: Signals,
) -> io::Result<Tally> {
    event_loop.run(async move {
        let shared = Rc::new(Shared {
            clock: Clock::start()?,
            watch: Watch::new(),
            schedule: RefCell::new(Schedule::new(&plan, thread, start_ns)),
            tally: RefCell::new(Tally::new()),
            progress: signals.progress,
            plan,
        });
        let working = Rc::new(Working::default());
        for index in 0..shared.plan.share(shared.plan.connections.into(), thread) {
            let number = index * u64::from(shared.plan.threads) + u64::from(thread);
            let connection = Connection::new(shared.clone(), number);
            working.count.set(working.count.get() + 1);
            let (clock, working) = (shared.clock.clone(), working.clone());
            monoio::spawn(async move {
                clock.sleep_until(start_ns + index * START_DISTANCE_NS).await;
                connection.work().await;
                working.one_less();
            });
        }
        look_after(&shared, &working, &signals.stop).await;
        let mut tally = shared.tally.replace(Tally::new());
        let schedule = shared.schedule.borrow();
        tally.unsent = schedule.unsent();
        tally.end_ns = schedule.end_ns();
        Ok(tally)
    })
}

/// Ends waits that last too long, until every connection is done.
async fn look_after(shared: &Shared, working: &Working, stop: &AtomicBool) {
    let timeout_ns = as_ns(shared.plan.timeout);
    let tick_ns = (timeout_ns / 20).clamp(TICK_NS_MIN, TICK_NS_MAX);
    while working.count.get() > 0 {
        let mut tick = pin!(shared.clock.sleep_until(now_ns() + tick_ns));
        poll_fn(|context| {
            if working.count.get() == 0 {
                return Poll::Ready(());
            }
            working.waker.replace(Some(context.waker().clone()));
            tick.as_mut().poll(context)
        })
        .await;
        let now = now_ns();
        shared.watch.end_expired(now);
        if stop.load(Ordering::Relaxed) {
            shared.schedule.borrow_mut().stop(now);
            // Who sleeps until a turn that won't come is not waited for.
            if !shared.watch.any_waits() {
                break;
            }
        }
    }
}

/// How many connections are not done.
#[derive(Default)]
struct Working {
    count: std::cell::Cell<u64>,
    waker: RefCell<Option<Waker>>,
}

impl Working {
    fn one_less(&self) {
        self.count.set(self.count.get() - 1);
        if self.count.get() == 0
            && let Some(waker) = self.waker.take()
        {
            waker.wake();
        }
    }
}
