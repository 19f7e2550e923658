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
use std::sync::mpsc::{Receiver, Sender};
use std::task::{Poll, Waker};

use super::connection::{Connection, Shared};
use super::plan::Plan;
use super::schedule::Schedule;
use super::tally::Tally;
use super::watch::Watch;
use crate::clock::{Clock, as_ns, now_ns};
use crate::engine::{Engine, EventLoop};

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

/// What a thread says.
pub(crate) enum Message {
    /// It can start.
    Ready(io::Result<Engine>),
    /// Of a staged load: its connections stand, and the warm-up is over.
    Standing,
    /// What it counted.
    Done(io::Result<Box<Tally>>),
}

/// The way between a thread and who started it.
pub(crate) struct Link {
    /// The moment from which on to work; a staged load gets another when it is to be measured, and
    /// none when it is to end.
    pub(crate) starts: Receiver<u64>,
    pub(crate) messages: Sender<Message>,
}

/// What connections do together.
#[derive(Clone, Copy)]
enum Stage {
    Stand,
    Work,
}

/// Runs thread `thread` of the plan from `start_ns` until its share is done, and says what it counted.
///
/// # Errors
/// No descriptor for the clock.
pub(crate) fn run(
    event_loop: &mut EventLoop,
    plan: Plan,
    thread: u32,
    start_ns: u64,
    signals: Signals,
    link: &Link,
) -> io::Result<()> {
    event_loop.run(async move {
        let stop = &signals.stop;
        let shared = Rc::new(Shared {
            clock: Clock::start()?,
            watch: Watch::new(),
            schedule: RefCell::new(Schedule::new(&plan, thread, start_ns)),
            tally: RefCell::new(Tally::new()),
            progress: signals.progress,
            plan,
        });
        let plan = &shared.plan;
        let mut start_ns = start_ns;
        let mut connections: Vec<Connection> = (0..plan.share(plan.connections.into(), thread))
            .map(|index| index * u64::from(plan.threads) + u64::from(thread))
            .map(|number| Connection::new(shared.clone(), number))
            .collect();
        if plan.staged {
            connections = go(&shared, connections, Stage::Stand, start_ns, stop).await;
            let warm_up_ns = now_ns();
            shared.schedule.replace(Schedule::warm_up(plan, thread, warm_up_ns));
            connections = go(&shared, connections, Stage::Work, warm_up_ns, stop).await;
            // Nothing is under way: the thread may wait as a whole.
            let _ = link.messages.send(Message::Standing);
            let Ok(measure_from_ns) = link.starts.recv() else { return Ok(()) };
            start_ns = measure_from_ns;
            shared.schedule.replace(Schedule::new(&plan.warmed_up(), thread, start_ns));
        }
        let connections = go(&shared, connections, Stage::Work, start_ns, stop).await;
        let mut tally = shared.tally.replace(Tally::new());
        let schedule = shared.schedule.borrow();
        tally.unsent = schedule.unsent();
        tally.end_ns = schedule.end_ns();
        let _ = link.messages.send(Message::Done(Ok(Box::new(tally))));
        if plan.staged {
            // Until whoever measures is told what the connections did.
            let _ = link.starts.recv();
        }
        drop(connections);
        Ok(())
    })
}

/// Lets all connections do their part of a stage; what of them stands after it.
async fn go(
    shared: &Rc<Shared>,
    connections: Vec<Connection>,
    stage: Stage,
    start_ns: u64,
    stop: &AtomicBool,
) -> Vec<Connection> {
    let working = Rc::new(Working::default());
    working.count.set(connections.len());
    for (index, mut connection) in (0..).zip(connections) {
        let (shared, working) = (shared.clone(), working.clone());
        monoio::spawn(async move {
            shared.clock.sleep_until(start_ns + index * START_DISTANCE_NS).await;
            match stage {
                Stage::Stand => connection.stand().await,
                Stage::Work => connection.work().await,
            }
            if shared.plan.staged {
                working.stand.borrow_mut().push(connection);
            } else {
                connection.close();
            }
            working.one_less();
        });
    }
    look_after(shared, &working, stop).await;
    working.stand.take()
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
    count: std::cell::Cell<usize>,
    waker: RefCell<Option<Waker>>,
    /// Those that are done and stay, in a staged load.
    stand: RefCell<Vec<Connection>>,
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
