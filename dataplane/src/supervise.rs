//! The main thread: binds, starts the workers, watches them, ends them.
//!
//! Before: `bootstrap` made a config. After: the process's exit code. Between, this thread sleeps
//! until a signal, a worker's report or a worker's first turn after an idle time wakes it; it never
//! touches a packet.

mod binding;

use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::ops::ControlFlow;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crossbeam_channel::Receiver as Reports;
use lateen_ring::{Features, PostError, Pulse, Sender, UnknownFeature, mailbox};
use lateen_snapshot::model::{Epoch, Snapshot};
use lateen_snapshot::validate::patterns::Patterns;
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec};
use signal_hook::consts::{SIGINT, SIGTERM, SIGUSR1};

use crate::bootstrap::config::Config;
use crate::decide::route::BuildError;
use crate::limits;
use crate::loaded::{EpochWord, Loaded, Published};
use crate::observe::access_log_writer::{AccessLog, OpenError};
use crate::observe::admin::{self, AdminSources};
use crate::observe::lifecycle::{Lifecycle, Phase};
use crate::observe::metrics::Metrics;
use crate::pressure::PressureWatch;
use crate::rollout::{Offer, Orders, Rollout};
use crate::subscription::Subscription;
use crate::supervise::binding::bind_all;
use crate::worker::{Order, Report, Start, StartError, run_worker};

/// Why a proxy could not start. Each says how to mend it.
#[derive(Debug, thiserror::Error)]
pub enum LaunchError {
    /// A kernel feature's name is unknown.
    #[error("--engine-features: {0}")]
    Features(#[from] UnknownFeature),
    /// An address can't be bound.
    #[error("cannot listen on {address}: {cause}; {mend}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// The kernel's answer.
        cause: io::Error,
        /// What to do about it.
        mend: &'static str,
    },
    /// The admin endpoint can't be served.
    #[error(transparent)]
    Admin(#[from] admin::BindError),
    /// The access log can't be written.
    #[error(transparent)]
    AccessLog(#[from] OpenError),
    /// The snapshot can't be run.
    #[error("the snapshot to begin with can't be run: {0}")]
    Snapshot(#[from] BuildError),
    /// A worker could not start.
    #[error(transparent)]
    Worker(#[from] StartError),
    /// The kernel refused a thread, an eventfd or a signal handler.
    #[error("cannot start: {0}")]
    System(#[from] io::Error),
}

impl LaunchError {
    /// The process's exit code: 2 for usage, 1 for the rest.
    pub const fn exit_code(&self) -> u8 {
        if matches!(self, Self::Features(_)) { 2 } else { 1 }
    }
}

/// A proxy that accepts.
pub struct Proxy {
    config: Arc<Config>,
    metrics: Arc<Metrics>,
    lifecycle: Arc<Lifecycle>,
    access_log: Option<AccessLog>,
    workers: Vec<Worker>,
    reports: Reports<Report>,
    wakeup: Arc<OwnedFd>,
    listening: Vec<SocketAddr>,
    admin: SocketAddr,
    pressure: PressureWatch,
    rollout: Rollout,
    offers: (Offers, crossbeam_channel::Receiver<Offer>),
}

/// Where snapshots to run on are handed to the main thread.
#[derive(Clone, Debug)]
pub struct Offers {
    queue: crossbeam_channel::Sender<Offer>,
    wakeup: Arc<OwnedFd>,
}

impl Offers {
    /// Offers a snapshot; its answer comes when every worker has switched, or none will. False: the
    /// proxy is ending.
    pub fn offer(&self, offer: Offer) -> bool {
        let sent = self.queue.send(offer).is_ok();
        call(self.wakeup.as_fd());
        sent
    }
}

struct Worker {
    thread: JoinHandle<()>,
    orders: Sender<Order>,
    pulse: Arc<Pulse>,
    /// The turn that was reported as a stall, so that each is reported once.
    stalled_turn: Option<lateen_ring::Instant>,
}

/// How a proxy ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// Everything in flight was finished.
    InOrder,
    /// The grace ended first; so many connections were cut off.
    Cut(usize),
    /// A second signal came.
    AtOnce,
    /// A worker's thread panicked.
    Broken,
}

impl Ended {
    /// The process's exit code.
    pub const fn exit_code(self) -> u8 {
        match self {
            Self::InOrder => 0,
            Self::Cut(_) => 3,
            Self::AtOnce | Self::Broken => 1,
        }
    }
}

impl Proxy {
    /// Binds all addresses, starts the workers and waits until every one accepts.
    ///
    /// # Errors
    /// [`LaunchError`]; nothing is left running that serves.
    pub fn launch(
        config: Config,
        epoch: Epoch,
        snapshot: Snapshot,
        patterns: &mut Patterns,
    ) -> Result<Self, LaunchError> {
        let features = Features::all_but(config.engine_features.iter().map(String::as_str))?;
        let config = Arc::new(config);
        let metrics = Metrics::new(config.workers);
        let lifecycle = Arc::new(Lifecycle::default());
        let (listening, mut sockets) = bind_all(&config, &snapshot)?;
        let loaded = Arc::new(Loaded::first(epoch, snapshot, patterns)?);
        let word = Arc::new(EpochWord::new(loaded.serial));
        let published = Arc::new(Published::new(loaded.clone()));
        let sources = AdminSources {
            metrics: metrics.clone(),
            lifecycle: lifecycle.clone(),
            config_json: config.to_json(),
            published: published.clone(),
        };
        crate::health::thread::start(published.clone(), metrics.clone())?;
        let admin = admin::serve(config.admin, sources)?;
        let access_log = AccessLog::start(&config.access_log, config.workers, metrics.clone())?;
        let wakeup = Arc::new(
            rustix::event::eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)
                .map_err(io::Error::from)?,
        );
        let (reporter, reports) = crossbeam_channel::unbounded();
        let mut workers = Vec::with_capacity(config.workers);
        for worker in 0..config.workers {
            let pulse = Arc::new(Pulse::new(wakeup.try_clone()?));
            let (orders, for_worker) = mailbox(ORDERS_MAX);
            let start = Start {
                worker,
                config: config.clone(),
                word: word.clone(),
                loaded: loaded.clone(),
                metrics: metrics.clone(),
                sockets: sockets.pop().expect("one set of sockets per worker"),
                access_log: access_log.as_ref().map(|log| log.buffer(worker)),
                pulse: pulse.clone(),
                features,
            };
            let (reporter, wakeup) = (reporter.clone(), wakeup.clone());
            let report = move |report| {
                // The main thread outlives its workers.
                let _ = reporter.send(report);
                call(wakeup.as_fd());
            };
            let thread = thread::Builder::new()
                .name(format!("worker-{worker}"))
                .spawn(move || run_worker(start, for_worker, &report))?;
            workers.push(Worker { thread, orders, pulse, stalled_turn: None });
        }
        // The workers' own are left: when all have gone, nobody waits for a report.
        drop(reporter);
        // One at a time: whoever offers waits until the one before it is looked at.
        let (queue, offers) = crossbeam_channel::bounded(1);
        let rollout = Rollout::new(word, loaded, published, lifecycle.clone(), config.workers);
        let (memory_max, descriptors_max) = (config.memory_max, config.descriptors_max);
        let mut proxy = Self {
            pressure: PressureWatch::new(metrics.clone(), memory_max, descriptors_max),
            rollout,
            offers: (Offers { queue, wakeup: wakeup.clone() }, offers),
            config,
            metrics,
            lifecycle,
            access_log,
            workers,
            reports,
            wakeup,
            listening,
            admin,
        };
        proxy.await_workers()?;
        // Without a snapshot there is nothing to be ready for.
        if !proxy.listening.is_empty() {
            proxy.lifecycle.enter(Phase::Ready);
        }
        Ok(proxy)
    }

    fn await_workers(&mut self) -> Result<(), LaunchError> {
        for _ in 0..self.workers.len() {
            match self.reports.recv() {
                Ok(Report::Accepting(engine)) => {
                    tracing::info!(engine = engine.engine, reason = %engine.reason, "worker accepts");
                    self.metrics.set_engine(engine);
                }
                Ok(Report::Failed(error)) => return Err(error.into()),
                Ok(_) | Err(_) => {
                    return Err(io::Error::other("a worker ended before it accepted").into());
                }
            }
        }
        Ok(())
    }

    /// Lets the control plane behind the socket `control` say what to run. `patterns` are those of what
    /// runs now.
    ///
    /// # Errors
    /// The kernel refuses a thread.
    pub fn subscribe(
        &self,
        name: String,
        control: PathBuf,
        state: PathBuf,
        patterns: Patterns,
    ) -> io::Result<()> {
        let published = self.rollout.published().clone();
        self.metrics.control().set_epoch(published.loaded().epoch);
        Subscription {
            name,
            control,
            state,
            workers: self.config.workers,
            offers: self.offers.0.clone(),
            published,
            metrics: self.metrics.clone(),
        }
        .start(patterns)
    }

    /// The bound addresses, with real ports.
    pub fn listening(&self) -> &[SocketAddr] {
        &self.listening
    }

    /// The admin endpoint's bound address.
    pub fn admin(&self) -> SocketAddr {
        self.admin
    }

    /// Writes `listening <addr>` for each address and `admin <addr>`: the lines that other programs
    /// wait for.
    ///
    /// # Errors
    /// Nobody reads `out` any more.
    pub fn announce(&self, out: &mut impl io::Write) -> io::Result<()> {
        for address in &self.listening {
            writeln!(out, "listening {address}")?;
        }
        writeln!(out, "admin {}", self.admin)?;
        out.flush()
    }

    /// Runs until a signal ends the proxy: SIGTERM or SIGINT drain, a second one ends at once;
    /// SIGUSR1 reopens the access log. `signals` should be made before anybody is told that the proxy
    /// accepts: from then on somebody may send one.
    ///
    /// # Errors
    /// Waiting fails.
    pub fn run_until_signal(mut self, signals: &Signals) -> io::Result<Ended> {
        loop {
            // What a change left behind is freed soon after; with nothing left nothing wakes.
            let tidy_at = self.rollout.is_untidy().then(|| Instant::now() + TIDY_AFTER);
            match self.wait(signals, tidy_at)? {
                Woken::Reopen => self.reopen_log(),
                // A worker that ends unasked has panicked. Its clients are gone; the others get to
                // finish, and whoever runs this process gets to start it anew.
                Woken::Terminate => break,
                Woken::Reported => {
                    if self.roll_out().is_break() {
                        break;
                    }
                }
                Woken::Elapsed => self.rollout.tidy(),
            }
        }
        self.drain(Some(signals))
    }

    /// Drains and ends, watching `signals` for a second one.
    ///
    /// # Errors
    /// Waiting fails.
    pub fn drain(mut self, signals: Option<&Signals>) -> io::Result<Ended> {
        self.lifecycle.enter(Phase::Draining);
        // A drain ends on what it began with: the subscription, told so, takes no more.
        self.offers.1 = crossbeam_channel::never();
        tracing::info!(delay = ?self.config.drain.delay, "drain begins");
        let none = Signals::none()?;
        let signals = signals.unwrap_or(&none);
        let accept_until = Instant::now() + self.config.drain.delay;
        loop {
            match self.wait(signals, Some(accept_until))? {
                Woken::Terminate => return Ok(Ended::AtOnce),
                Woken::Reopen => self.reopen_log(),
                Woken::Elapsed => break,
                Woken::Reported => {}
            }
        }
        for worker in &self.workers {
            // A worker that is gone has nothing to drain.
            let _ = worker.orders.post(Order::Drain);
        }
        let mut running = self.workers.len();
        let mut cut = 0;
        let mut panicked = false;
        while running > 0 {
            while let Ok(report) = self.reports.try_recv() {
                match report {
                    Report::Ended { cut: of_worker } => cut += of_worker,
                    Report::Panicked => panicked = true,
                    _ => continue,
                }
                running -= 1;
            }
            if running == 0 {
                break;
            }
            match self.wait(signals, None)? {
                Woken::Terminate => return Ok(Ended::AtOnce),
                Woken::Reopen => self.reopen_log(),
                Woken::Reported | Woken::Elapsed => {}
            }
        }
        for worker in self.workers {
            if worker.thread.join().is_err() {
                tracing::error!("a worker's thread panicked");
            }
        }
        if let Some(log) = self.access_log {
            let written = log.close(LOG_PATIENCE);
            if !written {
                tracing::warn!("the access log could not be written to its end in time");
            }
        }
        Ok(match cut {
            _ if panicked => Ended::Broken,
            0 => Ended::InOrder,
            cut => Ended::Cut(cut),
        })
    }

    /// Takes what workers and the subscription have to say of a change of snapshots. Breaks when a
    /// worker is gone.
    fn roll_out(&mut self) -> ControlFlow<()> {
        while let Ok(report) = self.reports.try_recv() {
            let orders = match report {
                Report::Prepared { worker, serial, took } => {
                    self.rollout.prepared(worker, serial, took)
                }
                Report::Switched { worker, serial, took } => {
                    self.rollout.switched(worker, serial, took)
                }
                Report::Unprepared { serial, error } => self.rollout.unprepared(serial, &error),
                Report::Accepting(_) => None,
                Report::Failed(_) | Report::Panicked | Report::Ended { .. } => {
                    return ControlFlow::Break(());
                }
            };
            self.post(orders);
        }
        while let Ok(offer) = self.offers.1.try_recv() {
            let orders = self.rollout.offer(offer);
            self.post(orders);
        }
        let orders = self.rollout.begin_waiting();
        self.post(orders);
        ControlFlow::Continue(())
    }

    fn post(&self, orders: Option<Orders>) {
        for (worker, order) in self.workers.iter().zip(orders.into_iter().flatten()) {
            // A worker that is gone has told so, or is about to. A full box can't be: a worker has
            // answered a change before it is told of the next but one.
            let posted = worker.orders.post(order);
            debug_assert!(!matches!(posted, Err(PostError::Full(_))), "{posted:?}");
        }
    }

    fn reopen_log(&self) {
        if let Some(log) = &self.access_log {
            log.reopen();
        }
    }

    /// Sleeps until something happens, and looks for stalled workers meanwhile. While every worker
    /// waits for work there is nothing to look for, and nothing wakes this thread.
    fn wait(&mut self, signals: &Signals, until: Option<Instant>) -> io::Result<Woken> {
        loop {
            let any_busy = self.watch_for_stalls();
            let left = until.map(|until| until.saturating_duration_since(Instant::now()));
            let look = self.pressure.look(any_busy.then_some(limits::WORKER_STALL / 2));
            let timeout = left.into_iter().chain(look).min();
            let mut watched = [
                PollFd::new(&signals.terminate, PollFlags::IN),
                PollFd::new(&signals.reopen, PollFlags::IN),
                PollFd::new(&*self.wakeup, PollFlags::IN),
            ];
            match rustix::event::poll(&mut watched, timeout.map(timespec).as_ref()) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(errno) => return Err(errno.into()),
            }
            let ready = watched.map(|fd| !fd.revents().is_empty());
            if ready[0] {
                empty(signals.terminate.as_fd());
                return Ok(Woken::Terminate);
            }
            if ready[1] {
                empty(signals.reopen.as_fd());
                return Ok(Woken::Reopen);
            }
            if ready[2] {
                empty(self.wakeup.as_fd());
                if !self.reports.is_empty() || !self.offers.1.is_empty() {
                    return Ok(Woken::Reported);
                }
            }
            if until.is_some_and(|until| Instant::now() >= until) {
                return Ok(Woken::Elapsed);
            }
        }
    }

    /// Reports workers whose present turn is too long. True if any worker is in a turn.
    fn watch_for_stalls(&mut self) -> bool {
        let mut any_busy = false;
        for (index, worker) in self.workers.iter_mut().enumerate() {
            let Some(since) = worker.pulse.busy_since() else {
                worker.pulse.call_when_busy();
                continue;
            };
            any_busy = true;
            let busy_for = worker.pulse.busy_for();
            if busy_for >= limits::WORKER_STALL && worker.stalled_turn != Some(since) {
                worker.stalled_turn = Some(since);
                self.metrics.record_stall(index);
                tracing::warn!(worker = index, ?busy_for, "a worker is blocked");
            }
        }
        any_busy
    }
}

enum Woken {
    /// SIGTERM or SIGINT.
    Terminate,
    /// SIGUSR1.
    Reopen,
    /// A worker reported something.
    Reported,
    /// The time is over.
    Elapsed,
}

/// Letters that may wait for a worker: to abandon a change, to prepare the next one, and to drain; and
/// room to spare.
const ORDERS_MAX: usize = 8;
/// How long after a change it is looked whether its predecessor can be freed.
const TIDY_AFTER: Duration = Duration::from_millis(200);
/// How long the end of the process waits for the access log's disk.
const LOG_PATIENCE: Duration = Duration::from_secs(2);

/// Signals as descriptors that can be polled.
pub struct Signals {
    terminate: UnixStream,
    reopen: UnixStream,
    /// The other ends, where no handler holds them.
    _writers: Option<(UnixStream, UnixStream)>,
}

impl Signals {
    /// Installs the handlers.
    ///
    /// # Errors
    /// No descriptor is left.
    pub fn new() -> io::Result<Self> {
        let (terminate, on_terminate) = UnixStream::pair()?;
        let (reopen, on_reopen) = UnixStream::pair()?;
        for signal in [SIGTERM, SIGINT] {
            signal_hook::low_level::pipe::register(signal, on_terminate.try_clone()?)?;
        }
        signal_hook::low_level::pipe::register(SIGUSR1, on_reopen)?;
        terminate.set_nonblocking(true)?;
        reopen.set_nonblocking(true)?;
        Ok(Self { terminate, reopen, _writers: None })
    }

    fn none() -> io::Result<Self> {
        let (terminate, on_terminate) = UnixStream::pair()?;
        let (reopen, on_reopen) = UnixStream::pair()?;
        Ok(Self { terminate, reopen, _writers: Some((on_terminate, on_reopen)) })
    }
}

fn empty(fd: BorrowedFd<'_>) {
    let mut bytes = [0; 64];
    // EAGAIN: it is empty, which is what is wanted.
    let _ = rustix::io::read(fd, &mut bytes);
}

fn call(fd: BorrowedFd<'_>) {
    // EAGAIN: the counter is full, so the call has arrived already.
    let _ = rustix::io::write(fd, &1_u64.to_ne_bytes());
}

fn timespec(duration: Duration) -> Timespec {
    Timespec { tv_sec: duration.as_secs() as i64, tv_nsec: i64::from(duration.subsec_nanos()) }
}

/// Tells a person on stderr, in one line.
pub fn complain(message: &dyn std::fmt::Display) {
    // Nobody reads stderr: there is nobody to tell.
    let _ = writeln!(io::stderr(), "lateen-proxy: {message}");
}

impl std::fmt::Debug for Proxy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Proxy").field("listening", &self.listening).finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Signals {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Signals")
    }
}
