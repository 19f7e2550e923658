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

use lateen_ring::{
    Deadline, Features, Instant, Listener, Pulse, Receiver, Runtime, SetupError, TaskHandle,
    TurnReport, spawn,
};

use crate::accept::listener::{accept_clients, admit};
use crate::bootstrap::config::{Config, EngineChoice};
use crate::forward::pool;
use crate::limits;
use crate::observe::access_log::AccessLogBuffer;
use crate::observe::metrics::{EngineInfo, Metrics, WorkerMetrics};
use crate::shard::{Seeds, Shard};

/// What the main thread tells a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Finish what is in flight and end.
    Drain,
}

/// What a worker is started with.
#[derive(Debug)]
pub struct Start {
    /// 0 to one less than the number of workers.
    pub worker: usize,
    /// The process's config.
    pub config: Arc<Config>,
    /// The process's counters.
    pub metrics: Arc<Metrics>,
    /// This worker's socket of each listen address.
    pub sockets: Vec<OwnedFd>,
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
    let hook = |turn: &TurnReport| observe_turn(counters, turn);
    let serve = serve(start, &mut orders, engine, report);
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

/// The worker's main task: lets clients in, and ends in order when told to. `None` if it could not
/// begin, which was reported.
async fn serve(
    start: Start,
    orders: &mut Receiver<Order>,
    engine: EngineInfo,
    report: &dyn Fn(Report),
) -> Option<usize> {
    let seeds = Seeds::of_host(lateen_ring::now());
    let Start { worker, config, metrics, sockets, access_log, .. } = start;
    let shard = Rc::new(Shard::new(config, metrics, worker, access_log, &seeds));
    let listeners = sockets.into_iter().map(|socket| Listener::from_fd(socket).map(Rc::new));
    let listeners: Vec<Rc<Listener>> = match listeners.collect::<io::Result<_>>() {
        Ok(listeners) => listeners,
        Err(error) => {
            report(Report::Failed(error.into()));
            return None;
        }
    };
    let accepting: Vec<TaskHandle> = listeners
        .iter()
        .map(|listener| spawn(accept_clients(shard.clone(), listener.clone())))
        .collect();
    let keeper = spawn(pool::keep(shard.clone()));
    let log_keeper = shard.logs().then(|| spawn(flush_log(shard.clone())));
    report(Report::Accepting(engine));

    // A sender that is gone means that the main thread is: end as if told to.
    let (Some(Order::Drain) | None) = orders.receive().await;
    let cut = drain(&shard, listeners, &accepting).await;
    keeper.abort();
    if let Some(log_keeper) = log_keeper {
        log_keeper.abort();
    }
    shard.flush_log_for_good();
    Some(cut)
}

/// Ends in order: accept what was opened before, close the listeners, let what is in flight finish.
/// Returns how many were cut off when the grace was over.
pub async fn drain(
    shard: &Rc<Shard>,
    listeners: Vec<Rc<Listener>>,
    accepting: &[TaskHandle],
) -> usize {
    let until = lateen_ring::now() + shard.config.drain.timeout;
    shard.begin_drain();
    for task in accepting {
        task.abort();
    }
    for listener in listeners {
        for stream in listener.empty().await {
            admit(shard, stream);
        }
    }
    shard.pool.clear(shard);

    // A client that was idle for long will not ask just now; one that was busy a moment ago may be
    // sending its next request, and gets to hear that this is the last.
    let grace = limits::DRAIN_IDLE_GRACE.min(shard.config.drain.timeout / 2);
    let began = lateen_ring::now();
    let recently = Instant::from_nanos(began.as_nanos().saturating_sub(grace.as_nanos() as u64));
    while shard.clients.end_longest_idle(recently) {}
    while shard.clients.count() > 0 {
        let now = lateen_ring::now();
        if now >= until {
            break;
        }
        if now >= began + grace {
            while shard.clients.end_longest_idle(Instant::NEVER) {}
        }
        lateen_ring::sleep(limits::DRAIN_LOOK_AGAIN.min(until.since(now))).await;
    }
    shard.clients.end_all()
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
