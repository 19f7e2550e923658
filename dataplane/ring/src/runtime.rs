//! The worker's loop: run what is ready, then wait in the engine, then fire what is due.
//!
//! A turn polls each task at most once, in the order in which they were woken, and no more than
//! [`POLLS_PER_TURN`]; then the engine gets its turn, without waiting if tasks are left. So neither
//! a task that is always ready nor a crowd of them keeps the worker from its I/O.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::future::Future;
use std::os::fd::OwnedFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use rustix::io::Errno;

use crate::boxed;
use crate::buffer::Pool;
use crate::chunk::Spares;
use crate::engine::sim::Sim;
use crate::engine::{Counts, Engine, Io, Wait};
use crate::features::Features;
use crate::heap;
use crate::pulse::{Pulse, TurnReport};
use crate::setup::{Config, SetupError, start_engine, system};
use crate::sim::SimConfig;
use crate::splice::Pipes;
use crate::task::{self, Next, Registration, RunQueue, TaskFuture, TaskId, Tasks};
use crate::time::Instant;
use crate::timer::Wheel;
use crate::work::{Work, thread_cpu_time};

/// Task polls between two visits to the engine.
const POLLS_PER_TURN: usize = 512;
/// After a burst its memory is given back this much later.
const SHRINK_AFTER: Duration = Duration::from_secs(1);
/// So many tasks more than twice those that are left make a burst.
const BURST_TASKS_MIN: usize = 256;
/// How long tear-down waits for the kernel to finish what was cancelled.
const TEAR_DOWN_TURNS: usize = 200;
const TEAR_DOWN_TURN: Duration = Duration::from_millis(10);

/// What the engine keeps of an open stream that idles in a task of its own with one deadline, in
/// bytes: its slots in the tables of sockets, tasks and timers.
pub const IDLE_STREAM_BYTES: usize =
    crate::socket::SLOT_BYTES + task::SLOT_BYTES + crate::timer::ENTRY_BYTES;

/// A worker's runtime. It belongs to the thread that made it.
pub struct Runtime {
    core: Rc<Core>,
}

/// Everything a worker has; handles keep it alive.
pub(crate) struct Core {
    /// One cell for both: whoever needs the engine needs what it works on, many times a request.
    driven: RefCell<Driven>,
    pub(crate) wheel: RefCell<Wheel>,
    now: Cell<Instant>,
    work: Cell<Work>,
    turn: Cell<u32>,
    tasks: Tasks,
    queue: Rc<RunQueue>,
    registration: Registration,
    counts: Rc<Counts>,
    pool: Rc<Pool>,
    panics: Cell<u64>,
    engine_reason: &'static str,
}

/// The engine and what it works on.
struct Driven {
    engine: Engine,
    io: Io,
}

thread_local! {
    static CURRENT: RefCell<Option<Rc<Core>>> = const { RefCell::new(None) };
    /// When the present turn of the runtime on this thread began, in a word of its own: it is asked
    /// for many times a request. `NEVER` where no runtime runs.
    static NOW: Cell<Instant> = const { Cell::new(Instant::NEVER) };
}

/// The core of the runtime that runs on this thread.
pub(crate) fn current() -> Rc<Core> {
    with_current(Rc::clone)
}

/// Lends the core of the runtime that runs on this thread.
#[inline]
pub(crate) fn with_current<T>(f: impl FnOnce(&Rc<Core>) -> T) -> T {
    CURRENT.with(|current| {
        f(current.borrow().as_ref().expect("called from within a lateen-ring runtime"))
    })
}

impl Runtime {
    /// Makes a runtime on this thread.
    ///
    /// # Errors
    /// [`SetupError`]; with [`EngineChoice::Auto`] a host without io_uring is no error.
    pub fn new(config: &Config) -> Result<Self, SetupError> {
        heap::settle();
        let pool = Pool::new(config.buffer_bytes, config.buffers_max).map_err(|error| {
            system("reserving receive buffers")(crate::engine::direct::errno_of(&error))
        })?;
        pool.set_plenty(config.leases_max);
        let io = Io::new(pool);
        let (engine, engine_reason, remote) = start_engine(config, &io)?;
        Self::assemble(io, engine, engine_reason, remote)
    }

    /// Makes a runtime on a virtual network and clock; see [`crate::sim`].
    ///
    /// # Panics
    /// If there is no memory for its buffers, or 4,096 runtimes live in this process.
    #[must_use]
    pub fn simulated(config: SimConfig) -> Self {
        let pool = Pool::new(config.buffer_bytes, config.buffers_max);
        let io = Io::new(pool.expect("there is address space for a small pool"));
        let engine = Engine::Sim(Box::new(Sim::new(config)));
        Self::assemble(io, engine, "asked for", None).expect("few runtimes live at a time")
    }

    fn assemble(
        io: Io,
        engine: Engine,
        engine_reason: &'static str,
        remote: Option<OwnedFd>,
    ) -> Result<Self, SetupError> {
        let (counts, pool) = (io.counts.clone(), io.pool.clone());
        let registration = Registration::new(remote).ok_or(SetupError::TooMany)?;
        let now = engine.now();
        let worker = registration.worker;
        let core = Core {
            driven: RefCell::new(Driven { engine, io }),
            wheel: RefCell::new(Wheel::new(now)),
            now: Cell::new(now),
            work: Cell::default(),
            turn: Cell::new(0),
            tasks: Tasks::new(worker),
            queue: Rc::new(RunQueue::new(worker)),
            registration,
            counts,
            pool,
            panics: Cell::new(0),
            engine_reason,
        };
        Ok(Self { core: Rc::new(core) })
    }

    /// The engine that runs: `uring`, `epoll` or `sim`.
    #[must_use]
    pub fn engine_name(&self) -> &'static str {
        self.core.with(|engine, _| engine.name())
    }

    /// Why that engine runs, in words for an operator.
    #[must_use]
    pub fn engine_reason(&self) -> &'static str {
        self.core.engine_reason
    }

    /// The kernel features in use; none on epoll.
    #[must_use]
    pub fn features(&self) -> Features {
        self.core.with(|engine, _| match engine {
            Engine::Uring(engine) => engine.features(),
            Engine::Epoll(_) | Engine::Sim(_) => Features::NONE,
        })
    }

    /// Runs `future` and all tasks until `future` is done. Tasks that are left stay where they are
    /// and go on in the next call.
    pub fn block_on<F: Future>(&mut self, future: F) -> F::Output {
        self.block_on_with(future, None, |_| {})
    }

    /// Like [`Runtime::block_on`], with a `pulse` that other threads may watch and a hook that is
    /// called once a turn, before the worker waits.
    ///
    /// # Panics
    /// If the kernel refuses the engine's wait: the worker cannot go on. In a simulation, if nothing
    /// will ever happen again.
    pub fn block_on_with<F: Future>(
        &mut self,
        future: F,
        pulse: Option<&Arc<Pulse>>,
        mut hook: impl FnMut(&TurnReport),
    ) -> F::Output {
        let core = self.core.clone();
        let _entered = core.enter();
        let mut future = pin!(future);
        let waker = TaskId::main(core.registration.worker).waker();
        core.queue.push(TaskId::main(core.registration.worker));
        let mut shrink_at = Instant::NEVER;
        let mut tasks_peak = 0;
        let mut last_began = Instant::NEVER;
        loop {
            let began = core.clock();
            let without_wait = began.since(last_began);
            core.now.set(began);
            NOW.set(began);
            core.wheel.borrow_mut().advance(began);
            if let Some(pulse) = pulse {
                pulse.busy(began);
            }
            core.turn.set(core.turn.get().wrapping_add(1));
            if core.queue.take_main() {
                let mut cx = Context::from_waker(&waker);
                if let Poll::Ready(output) = future.as_mut().poll(&mut cx) {
                    if let Some(pulse) = pulse {
                        pulse.waiting();
                    }
                    return output;
                }
            }
            core.run_tasks();
            let ended = core.clock();
            hook(&core.report(began, ended, without_wait));
            let live = core.tasks.live();
            tasks_peak = tasks_peak.max(live);
            let burst_is_over = tasks_peak > 2 * live + BURST_TASKS_MIN || core.pool.has_grown();
            if burst_is_over && shrink_at == Instant::NEVER {
                shrink_at = ended + SHRINK_AFTER;
            } else if ended >= shrink_at {
                core.shrink();
                tasks_peak = live;
                shrink_at = Instant::NEVER;
            }
            let wait = core.wait(ended, shrink_at);
            let may_wait = wait != Wait::No && !core.with(|engine, _| engine.is_due());
            last_began = if may_wait { Instant::NEVER } else { began };
            if let Some(pulse) = pulse
                && wait != Wait::No
            {
                pulse.waiting();
            }
            let turned = core.with(|engine, io| {
                io.turned_at = ended;
                engine.turn(io, wait)?;
                Ok(engine.take_called())
            });
            match turned {
                Ok(true) => core.registration.remote.drain(&core.queue),
                Ok(false) => {}
                Err(errno) => panic!("{}", core.describe_failure(errno)),
            }
        }
    }

    /// Live tasks, open or closing sockets, lent receive buffers, and timers: what a leak check
    /// compares before and after.
    #[must_use]
    pub fn held(&self) -> Held {
        Held {
            tasks: self.core.tasks.live(),
            sockets: self.core.with(|_, io| io.sockets.len()),
            leases: usize::from(self.core.pool.leased()),
            timers: self.core.wheel.borrow().len(),
        }
    }
}

/// What a runtime holds at the moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Held {
    /// Tasks that have not ended.
    pub tasks: usize,
    /// Sockets that are open, or closing with an operation in flight.
    pub sockets: usize,
    /// Receive buffers lent out.
    pub leases: usize,
    /// Timers, set or not.
    pub timers: usize,
}

impl Core {
    fn enter(self: &Rc<Self>) -> Entered {
        let entered = task::enter(self.queue.clone());
        CURRENT.with(|current| *current.borrow_mut() = Some(self.clone()));
        NOW.set(self.now.get());
        Entered { _queue: entered }
    }

    /// Hands out the engine and what it works on together.
    #[inline]
    pub(crate) fn with<T>(&self, f: impl FnOnce(&mut Engine, &mut Io) -> T) -> T {
        let Driven { engine, io } = &mut *self.driven.borrow_mut();
        f(engine, io)
    }

    /// Reads the engine's clock.
    fn clock(&self) -> Instant {
        self.driven.borrow().engine.now()
    }

    #[inline]
    pub(crate) fn now(&self) -> Instant {
        self.now.get()
    }

    fn run_tasks(&self) {
        let turn = self.turn.get();
        for _ in 0..POLLS_PER_TURN {
            match self.tasks.next(&self.queue, turn) {
                Next::Poll(id, future) => self.poll_task(id, future),
                Next::Later | Next::Empty => return,
            }
        }
    }

    fn poll_task(&self, id: TaskId, mut future: TaskFuture) {
        let waker = id.waker();
        let mut cx = Context::from_waker(&waker);
        // A task that panics takes only itself down: whatever it shares with others is handles of
        // this crate, which stay whole, and the proxy's counters.
        let polled = catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(&mut cx)));
        let ended = match polled {
            Ok(Poll::Pending) => self.tasks.put_back(id, future),
            Ok(Poll::Ready(())) => {
                self.tasks.remove(id);
                Some(future)
            }
            Err(payload) => {
                self.count_panic(payload);
                self.tasks.remove(id);
                Some(future)
            }
        };
        if let Some(future) = ended {
            self.drop_future(future);
        }
    }

    /// Drops a task's future; a panic in a destructor is counted like one in a poll.
    fn drop_future(&self, future: TaskFuture) {
        if let Err(payload) = catch_unwind(AssertUnwindSafe(|| drop(future))) {
            self.count_panic(payload);
        }
    }

    fn count_panic(&self, payload: Box<dyn Any + Send>) {
        self.panics.set(self.panics.get() + 1);
        // A payload is the task's own type, and its destructor may panic in its turn.
        if let Err(again) = catch_unwind(AssertUnwindSafe(|| drop(payload))) {
            std::mem::forget(again);
        }
    }

    /// Gives back what a burst of tasks and sockets made the worker hold.
    fn shrink(&self) {
        self.with(|engine, io| {
            engine.shrink(io);
            io.sockets.shrink();
            io.starved.shrink_to_fit();
            io.spares = Spares::default();
            io.pipes = Pipes::default();
        });
        self.tasks.shrink(&self.queue);
        self.wheel.borrow_mut().shrink();
        boxed::shrink();
        if self.with(|engine, _| engine.simulation().is_none()) {
            heap::trim();
        }
    }

    fn report(&self, began: Instant, ended: Instant, without_wait: Duration) -> TurnReport {
        let busy = ended.since(began);
        let mut work = self.work.get();
        let is_simulated = || self.with(|engine, _| engine.simulation().is_some());
        let worked = work.turned(ended, || (!is_simulated()).then(thread_cpu_time));
        self.work.set(work);
        TurnReport {
            busy,
            ended,
            lag: busy.max(without_wait).max(worked).max(self.with(|_, io| io.waited)),
            enters: self.counts.enters.get(),
            submitted: self.counts.submitted.get(),
            completed: self.counts.completed.get(),
            starved: self.counts.starved.get(),
            buffers_free: u64::from(self.pool.available()),
            task_panics: self.panics.get(),
        }
    }

    #[cold]
    fn describe_failure(&self, errno: Errno) -> String {
        self.with(|engine, io| match engine.simulation() {
            Some(sim) => format!(
                "the simulation is deadlocked: {} tasks and the main future wait, no timer is set, \
                 nothing is on its way; {}",
                self.tasks.live(),
                sim.describe(io),
            ),
            None => format!("the I/O engine cannot wait any more: {errno}"),
        })
    }

    fn wait(&self, now: Instant, shrink_at: Instant) -> Wait {
        if !self.queue.is_empty() {
            return Wait::No;
        }
        let timer = self.wheel.borrow().next_wait(now);
        let shrink = (shrink_at != Instant::NEVER).then(|| shrink_at.since(now));
        match timer.into_iter().chain(shrink).min() {
            Some(Duration::ZERO) => Wait::No,
            Some(wait) => Wait::AtMost(wait),
            None => Wait::Forever,
        }
    }
}

struct Entered {
    _queue: task::Entered,
}

impl Drop for Entered {
    fn drop(&mut self) {
        CURRENT.with(|current| *current.borrow_mut() = None);
        NOW.set(Instant::NEVER);
    }
}

impl Drop for Runtime {
    /// Ends all tasks, then waits until the kernel has let go of every socket.
    fn drop(&mut self) {
        let core = self.core.clone();
        let _entered = core.enter();
        while let Some(future) = core.tasks.take_any() {
            core.drop_future(future);
        }
        for _ in 0..TEAR_DOWN_TURNS {
            if core.with(|_, io| io.sockets.len()) == 0 {
                return;
            }
            if core.with(|engine, io| engine.turn(io, Wait::AtMost(TEAR_DOWN_TURN))).is_err() {
                break;
            }
        }
        // A handle outlives its runtime, or the kernel still holds memory of ours: keep that memory
        // for good rather than let the kernel write into somebody else's.
        std::mem::forget(core.clone());
    }
}

/// A task that can be ended from outside. It keeps neither the task nor the runtime alive.
pub struct TaskHandle {
    id: TaskId,
    /// A handle is of use on its worker only, so it is not `Send`.
    core: Weak<Core>,
}

impl TaskHandle {
    /// Ends the task: its future is dropped now, or, if the task calls this of itself, as soon as
    /// its poll returns. No effect on a task that has ended.
    pub fn abort(&self) {
        let Some(core) = self.core.upgrade() else { return };
        if let Some(future) = core.tasks.remove(self.id) {
            core.drop_future(future);
        }
    }
}

impl std::fmt::Debug for TaskHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("TaskHandle").field(&self.id).finish()
    }
}

/// Starts a task on this worker.
///
/// # Panics
/// Outside of a runtime.
pub fn spawn(future: impl Future<Output = ()> + 'static) -> TaskHandle {
    let core = current();
    let id = core.tasks.insert(&core.queue, core.turn.get(), Box::pin(future));
    TaskHandle { id, core: Rc::downgrade(&core) }
}

/// The time at which the worker's present turn began.
///
/// # Panics
/// Outside of a runtime.
#[must_use]
#[inline]
pub fn now() -> Instant {
    let now = NOW.get();
    assert!(now != Instant::NEVER, "called from within a lateen-ring runtime");
    now
}

/// The time at this very moment; costs a clock reading.
///
/// # Panics
/// Outside of a runtime.
#[must_use]
pub fn clock() -> Instant {
    with_current(|core| core.clock())
}

/// Lets the other ready tasks run, and the engine if it is due.
pub async fn yield_now() {
    struct Yield(bool);
    impl Future for Yield {
        type Output = ();
        fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
            if std::mem::replace(&mut self.0, true) {
                return Poll::Ready(());
            }
            cx.waker().wake_by_ref();
            Poll::Pending
        }
    }
    Yield(false).await;
}
