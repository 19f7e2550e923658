//! One worker: a pinned thread with a ring, listeners and a shard of its own.
//!
//! Before: `supervise` bound the addresses and starts a worker per core. After: every client that
//! the kernel hands to this worker's sockets is served here, start to end. Orders come by mailbox.

use std::future::poll_fn;
use std::io;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use lateen_ring::{
    Deadline, Features, Instant, Listener, Pulse, Receiver, Runtime, SetupError, TaskHandle,
    TurnReport, spawn,
};

use crate::accept::listener::{accept_clients, admit};
use crate::bootstrap::config::{Config, EngineChoice};
use crate::lag::WorkerLag;
use crate::limits;
use crate::live::{Live, settle};
use crate::loaded::{EpochWord, ListenerSlot, Loaded};
use crate::observe::access_log::AccessLogBuffer;
use crate::observe::metrics::{EngineInfo, Metrics, WorkerMetrics};
use crate::shard::{Seeds, Shard};

/// What the main thread tells a worker.
#[derive(Debug)]
pub enum Order {
    /// Make ready for this snapshot.
    Prepare(Preparation),
    /// It will not come.
    Abandon,
    /// It is committed: open and close listeners.
    Commit,
    /// Finish what is in flight and end.
    Drain,
}

/// A change that is to be prepared.
#[derive(Debug)]
pub struct Preparation {
    /// What to run on.
    pub loaded: Arc<Loaded>,
    /// This worker's socket of each address that is new.
    pub added: Vec<(ListenerSlot, OwnedFd)>,
}

/// What a worker is started with.
#[derive(Debug)]
pub struct Start {
    /// 0 to one less than the number of workers.
    pub worker: usize,
    /// The process's config.
    pub config: Arc<Config>,
    /// Which snapshot is committed.
    pub word: Arc<EpochWord>,
    /// The first one.
    pub loaded: Arc<Loaded>,
    /// The process's counters.
    pub metrics: Arc<Metrics>,
    /// This worker's socket of each listen address.
    pub sockets: Vec<(ListenerSlot, OwnedFd)>,
    /// Where its log lines go.
    pub access_log: Option<AccessLogBuffer>,
    /// What the watchdog looks at.
    pub pulse: Arc<Pulse>,
    /// Kernel features that the engine may use.
    pub features: Features,
}

/// What a worker tells the main thread.
#[derive(Debug)]
pub enum Report {
    /// It accepts; on this engine, for this reason.
    Accepting(EngineInfo),
    /// It could not start.
    Failed(StartError),
    /// It is ready for a snapshot.
    Prepared {
        /// The worker.
        worker: usize,
        /// [`Loaded::serial`].
        serial: u64,
        /// How long that kept it.
        took: Duration,
    },
    /// It can't run a snapshot.
    Unprepared {
        /// [`Loaded::serial`].
        serial: u64,
        /// Why.
        error: io::Error,
    },
    /// It runs a snapshot; listeners that are no more are closed.
    Switched {
        /// The worker.
        worker: usize,
        /// [`Loaded::serial`].
        serial: u64,
        /// How long that kept it.
        took: Duration,
    },
    /// Its thread panicked: it serves nobody any more.
    Panicked,
    /// It has ended; so many requests and tunnels were cut off.
    Ended {
        /// Connections that were not idle when the grace ended.
        cut: usize,
    },
}

/// Why a worker could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// There is no I/O engine.
    #[error(transparent)]
    Engine(#[from] SetupError),
    /// The engine would not take a listening socket.
    #[error("cannot listen: {0}")]
    Listen(#[from] io::Error),
    /// The thread could not be pinned to its CPU.
    #[error("cannot pin worker {worker} to CPU {cpu}: {cause}; run with --pin off")]
    Pin {
        /// The worker.
        worker: usize,
        /// Its CPU.
        cpu: usize,
        /// The kernel's answer.
        cause: io::Error,
    },
}

/// Runs a worker until it has drained. To be called on the worker's own thread.
pub fn run_worker(start: Start, mut orders: Receiver<Order>, report: &dyn Fn(Report)) {
    let watch = PanicWatch { report };
    let metrics = start.metrics.clone();
    let worker = start.worker;
    let pulse = start.pulse.clone();
    let mut runtime = match set_up(&start) {
        Ok(runtime) => runtime,
        Err(error) => return report(Report::Failed(error)),
    };
    let engine = EngineInfo {
        engine: runtime.engine_name(),
        reason: match runtime.engine_name() {
            "uring" => format!("{}; {}", runtime.engine_reason(), runtime.features()),
            _ => runtime.engine_reason().to_owned(),
        },
    };
    let counters = metrics.worker(worker);
    let lag = Rc::<WorkerLag>::default();
    let of_hook = lag.clone();
    let hook = |turn: &TurnReport| {
        observe_turn(counters, turn);
        of_hook.turned(turn.lag, turn.ended);
        counters.overload.lagging.set(of_hook.is_lagging().into());
    };
    let serve = serve(start, &mut orders, (lag, engine), report);
    let cut = runtime.block_on_with(serve, Some(&pulse), hook);
    drop(runtime);
    if let Some(cut) = cut {
        report(Report::Ended { cut });
    }
    drop(watch);
}

/// Tells the main thread if the worker's thread unwinds.
struct PanicWatch<'a> {
    report: &'a dyn Fn(Report),
}

impl Drop for PanicWatch<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            (self.report)(Report::Panicked);
        }
    }
}

fn set_up(start: &Start) -> Result<Runtime, StartError> {
    if let Some(&cpu) = start.config.pinned_cpus.get(start.worker) {
        pin(start.worker, cpu)?;
    }
    let config = lateen_ring::Config {
        engine: match start.config.engine {
            EngineChoice::Auto => lateen_ring::EngineChoice::Auto,
            EngineChoice::Uring => lateen_ring::EngineChoice::Uring,
            EngineChoice::Epoll => lateen_ring::EngineChoice::Epoll,
        },
        features: start.features,
        buffer_bytes: limits::RECEIVE_BUFFER_BYTES,
        buffers_max: limits::RECEIVE_BUFFERS_MAX,
        leases_max: limits::RECEIVE_BUFFERS_MAX / 2,
    };
    Ok(Runtime::new(&config)?)
}

fn pin(worker: usize, cpu: usize) -> Result<(), StartError> {
    let mut set = rustix::thread::CpuSet::new();
    set.set(cpu);
    rustix::thread::sched_setaffinity(None, &set).map_err(|errno| StartError::Pin {
        worker,
        cpu,
        cause: errno.into(),
    })
}

/// A listener and the task that accepts from it.
pub struct Accepting {
    slot: ListenerSlot,
    listener: Rc<Listener>,
    task: TaskHandle,
}

impl Accepting {
    /// Begins to accept.
    pub fn begin(shard: &Rc<Shard>, slot: ListenerSlot, listener: Rc<Listener>) -> Self {
        let task = spawn(accept_clients(shard.clone(), listener.clone(), slot));
        Self { slot, listener, task }
    }

    /// Ceases to, lets in who was connected before, and closes the listener.
    async fn cease(self, shard: &Rc<Shard>) {
        self.task.abort();
        let connected = self.listener.empty().await;
        // Whoever comes now is to hear at once that nobody listens.
        drop(self.listener);
        for stream in connected {
            admit(shard, stream, self.slot);
        }
    }
}

/// The worker's main task: lets clients in, changes snapshots, and ends in order when told to. `None`
/// if it could not begin, which was reported.
async fn serve(
    start: Start,
    orders: &mut Receiver<Order>,
    (lag, engine): (Rc<WorkerLag>, EngineInfo),
    report: &dyn Fn(Report),
) -> Option<usize> {
    let seeds = Seeds::of_host(lateen_ring::now());
    let Start { worker, config, word, loaded, metrics, sockets, access_log, .. } = start;
    let mut shard = Shard::new(config, word, loaded, metrics, worker, access_log, &seeds);
    shard.lag = lag;
    let shard = Rc::new(shard);
    let mut accepting = Vec::new();
    match take_over(sockets) {
        Ok(listeners) => {
            let begun = listeners
                .into_iter()
                .map(|(slot, listener)| Accepting::begin(&shard, slot, listener));
            accepting.extend(begun);
        }
        Err(error) => {
            report(Report::Failed(error.into()));
            return None;
        }
    }
    let log_keeper = shard.logs().then(|| spawn(flush_log(shard.clone())));
    report(Report::Accepting(engine));

    let mut added = Vec::new();
    loop {
        let order = orders.receive().await;
        let began = lateen_ring::clock();
        match order {
            Some(Order::Prepare(Preparation { loaded, added: sockets })) => {
                let serial = loaded.serial;
                match take_over(sockets) {
                    Ok(listeners) => {
                        added = listeners;
                        shard.views.prepare(loaded);
                        let took = lateen_ring::clock().since(began);
                        report(Report::Prepared { worker, serial, took });
                    }
                    Err(error) => report(Report::Unprepared { serial, error }),
                }
            }
            Some(Order::Abandon) => {
                added.clear();
                shard.views.abandon();
            }
            Some(Order::Commit) => {
                let live = shard.views.live();
                let serial = live.loaded.serial;
                for (slot, listener) in added.drain(..) {
                    accepting.push(Accepting::begin(&shard, slot, listener));
                }
                let took = lateen_ring::clock().since(began);
                let is_left = |at: &mut Accepting| live.listener(at.slot).is_none();
                let mut slots = Vec::new();
                for left in accepting.extract_if(.., is_left) {
                    slots.push(left.slot);
                    left.cease(&shard).await;
                }
                if let Some(slot) = slots.first() {
                    let last = shard.views.of_slot(*slot);
                    spawn(empty_slots(shard.clone(), slots, last));
                }
                let (of_shard, live) = (shard.clone(), live.clone());
                spawn(async move { settle(&of_shard, &live).await });
                report(Report::Switched { worker, serial, took });
            }
            // A sender that is gone means that the main thread is: end as if told to.
            Some(Order::Drain) | None => break,
        }
    }
    let cut = drain(&shard, accepting).await;
    if let Some(log_keeper) = log_keeper {
        log_keeper.abort();
    }
    shard.flush_log_for_good();
    Some(cut)
}

fn take_over(
    sockets: Vec<(ListenerSlot, OwnedFd)>,
) -> io::Result<Vec<(ListenerSlot, Rc<Listener>)>> {
    let take = |(slot, socket)| Ok((slot, Rc::new(Listener::from_fd(socket)?)));
    sockets.into_iter().map(take).collect()
}

/// Ends in order: accept what was opened before, close the listeners, let what is in flight finish.
/// Returns how many were cut off when the grace was over.
pub async fn drain(shard: &Rc<Shard>, accepting: Vec<Accepting>) -> usize {
    let until = lateen_ring::now() + shard.config.drain.timeout;
    shard.begin_drain();
    for left in accepting {
        left.cease(shard).await;
    }
    shard.pool.clear(shard);
    see_off(shard, |_| true, until).await
}

/// Lets the clients of listeners that are no more, `last` being the last view that had them, finish
/// what they do.
async fn empty_slots(shard: Rc<Shard>, slots: Vec<ListenerSlot>, last: Rc<Live>) {
    let until = lateen_ring::now() + shard.config.drain.timeout;
    let is_left = |at| slots.contains(&at) && shard.views.is_leaving(at);
    let cut = see_off(&shard, is_left, until).await;
    if cut > 0 {
        tracing::warn!(cut, "connections of listeners that were removed were cut off");
    }
    shard.views.have_left(&last);
}

/// Waits for the clients of some listeners, which let nobody in any more, to go, and cuts off who has
/// not gone by `until`. All clients are looked at once; from then on only those.
async fn see_off(shard: &Shard, at: impl Fn(ListenerSlot) -> bool, until: Instant) -> usize {
    // A client that was idle for long will not ask just now; one that was busy a moment ago may be
    // sending its next request, and gets to hear that this is the last.
    let grace = limits::DRAIN_IDLE_GRACE.min(shard.config.drain.timeout / 2);
    let began = lateen_ring::now();
    let recently = Instant::from_nanos(began.as_nanos().saturating_sub(grace.as_nanos() as u64));
    let clients = &shard.clients;
    let mut left = clients.at(&at);
    clients.end_idle(&left, recently);
    loop {
        clients.retain_at(&mut left, &at);
        let now = lateen_ring::now();
        if left.is_empty() || now >= until {
            return clients.end_all(&left);
        }
        if now >= began + grace {
            clients.end_idle(&left, Instant::NEVER);
        }
        lateen_ring::sleep(limits::DRAIN_LOOK_AGAIN.min(until.since(now))).await;
    }
}

/// Hands log lines over some time after the first of them was written. Sleeps while there is none.
async fn flush_log(shard: Rc<Shard>) {
    let deadline = Deadline::new();
    poll_fn(|cx| -> Poll<()> {
        shard.wake_when_logged(cx.waker());
        if deadline.poll_past(cx).is_ready() {
            deadline.clear();
        }
        if deadline.at() == Instant::NEVER
            && let Some(wait) = shard.flush_log(lateen_ring::now())
        {
            deadline.set_after(wait);
            let _ = deadline.poll_past(cx);
        }
        Poll::Pending
    })
    .await;
}

fn observe_turn(counters: &WorkerMetrics, turn: &TurnReport) {
    counters.ring_enter.set_total(turn.enters);
    counters.ring_sqe.set_total(turn.submitted);
    counters.ring_cqe.set_total(turn.completed);
    counters.ring_buffers_free.set(turn.buffers_free as i64);
    counters.task_panics.set_total(turn.task_panics);
    counters.worker_loop.observe(turn.busy.as_micros() as u64);
}
