//! The proxy's end of the control plane's socket.
//!
//! Before: `main` launched the proxy on the last good snapshot, or on none. After: what the control
//! plane publishes is decoded and checked here, offered to the main thread, and answered when every
//! worker has switched, or none will. The last snapshot that was applied is kept on disk.
//!
//! Two threads, neither of which carries traffic. The reader connects, again and again with jittered
//! backoff, and takes what comes; the keeper answers and writes to the disk, so that neither a full
//! socket nor a slow disk keeps the reader or the main thread. A control plane that hangs, floods,
//! sends garbage or goes away changes nothing for traffic: the proxy keeps what it has.

use std::io;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver as Events, Sender as Tell, bounded};
use lateen_snapshot::encoding::VERSIONS_READABLE;
use lateen_snapshot::frame::{self, FrameError, Patience, Receiver, Sender};
use lateen_snapshot::message::{
    Arrived, Hello, MessageError, PROTOCOL, Publish, ToControl, ToProxy, WorkerSwitch,
};
use lateen_snapshot::model::Epoch;
use lateen_snapshot::validate::patterns::Patterns;
use rustix::event::{PollFd, PollFlags, poll};

use crate::decide::route::RouteTables;
use crate::last_good;
use crate::limits;
use crate::loaded::Published;
use crate::observe::metrics::Metrics;
use crate::rollout::{Kept, Offer, Outcome};
use crate::supervise::Offers;

/// Who subscribes, and where.
#[derive(Debug)]
pub struct Subscription {
    /// The proxy's name in the mesh.
    pub name: String,
    /// The control plane's socket.
    pub control: PathBuf,
    /// The folder of the last good snapshot.
    pub state: PathBuf,
    /// How many workers answer.
    pub workers: usize,
    /// Where snapshots are offered.
    pub offers: Offers,
    /// What every worker runs.
    pub published: Arc<Published>,
    /// Where it is counted.
    pub metrics: Arc<Metrics>,
}

impl Subscription {
    /// Starts both threads, which live until the process ends or drains. `patterns` are those of what
    /// runs now.
    ///
    /// # Errors
    /// The kernel refuses a thread.
    pub fn start(self, mut patterns: Patterns) -> io::Result<()> {
        let (tell, events) = bounded(limits::CONTROL_EVENTS_MAX);
        let unsaved = Arc::default();
        let keeper = Keeper {
            state: self.state.clone(),
            metrics: self.metrics.clone(),
            connection: None,
            unsaved: Arc::clone(&unsaved),
        };
        thread::Builder::new()
            .name("subscription-keeper".to_owned())
            .spawn(move || keeper.keep(&events))?;
        thread::Builder::new()
            .name("subscription".to_owned())
            .spawn(move || self.subscribe(&Told { tell, unsaved }, &mut patterns))?;
        Ok(())
    }

    fn subscribe(&self, keeper: &Told, patterns: &mut Patterns) {
        let mut backoff = Backoff::new();
        let mut last_trouble = String::new();
        let mut is_silence_noted = false;
        loop {
            let ended = self.converse(keeper, patterns, &mut backoff, &mut is_silence_noted);
            self.metrics.control().connected.set(0);
            keeper.tell(Event::Disconnected);
            match ended {
                Err(Trouble::Ending) => return,
                Ok(()) => tracing::info!("the control plane closed its socket"),
                Err(error) => {
                    let trouble = error.to_string();
                    // Said once, not with every try.
                    if trouble != last_trouble {
                        let control = self.control.display();
                        tracing::warn!(%control, %trouble, "no control plane; the proxy keeps what it runs");
                        last_trouble = trouble;
                    }
                }
            }
            if backoff.is_fresh() {
                last_trouble.clear();
            }
            thread::sleep(backoff.next());
        }
    }

    /// One connection, from its first frame to its end.
    fn converse(
        &self,
        keeper: &Told,
        patterns: &mut Patterns,
        backoff: &mut Backoff,
        is_silence_noted: &mut bool,
    ) -> Result<(), Trouble> {
        let stream = UnixStream::connect(&self.control).map_err(Trouble::Connect)?;
        let (mut sender, mut receiver) = frame::split(stream).map_err(Trouble::Connect)?;
        sender.send(&self.hello().into_frame()?, limits::CONTROL_SEND_TIMEOUT)?;
        match receive(&mut receiver, Some(limits::CONTROL_WELCOME_TIMEOUT))? {
            Some(ToProxy::Welcome { store }) => tracing::info!(store, "the control plane answers"),
            Some(ToProxy::Refused { reason }) => return Err(Trouble::Refused(reason)),
            Some(ToProxy::Publish(_)) => return Err(Trouble::Unwelcome),
            None => return Err(Trouble::Frame(FrameError::Broken)),
        }
        backoff.reset();
        self.metrics.control().connected.set(1);
        keeper.tell(Event::Connected(sender));
        self.note_silence(&receiver, is_silence_noted);
        loop {
            match receive(&mut receiver, None)? {
                Some(ToProxy::Publish(publish)) => {
                    let began = Instant::now();
                    self.take(publish, keeper, patterns)?;
                    // Whoever publishes without end gets half a core at the most.
                    thread::sleep(began.elapsed().clamp(PAUSE_LEAST, PAUSE_MOST));
                }
                Some(ToProxy::Refused { reason }) => return Err(Trouble::Refused(reason)),
                Some(ToProxy::Welcome { .. }) => return Err(Trouble::Unwelcome),
                None => return Ok(()),
            }
        }
    }

    /// Where nothing runs and nothing comes, the name is most likely another one than was declared. Said once.
    fn note_silence(&self, receiver: &Receiver, is_noted: &mut bool) {
        if self.running().is_some() || *is_noted {
            return;
        }
        let mut socket = [PollFd::new(receiver, PollFlags::IN)];
        let patience = limits::CONTROL_SNAPSHOT_PATIENCE;
        let patience = patience.try_into().expect("seconds fit");
        // What else there may be is for who reads next.
        if poll(&mut socket, Some(&patience)) == Ok(0) {
            *is_noted = true;
            let name = &self.name;
            tracing::warn!(%name, "the control plane has sent no snapshot for a proxy of this name yet: is a Proxy declared so? `lateen status` lists those that are");
        }
    }

    /// `None`: nothing was published yet.
    fn running(&self) -> Option<Epoch> {
        Some(self.published.loaded().epoch).filter(|epoch| epoch.store != 0)
    }

    fn hello(&self) -> ToControl {
        ToControl::Hello(Hello {
            protocol: PROTOCOL,
            snapshot_versions: (*VERSIONS_READABLE.start(), *VERSIONS_READABLE.end()),
            name: self.name.clone(),
            program_version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            workers: self.workers as u32,
            running: self.running(),
        })
    }

    /// Decodes what was published and offers it, or says what is wrong with it.
    fn take(
        &self,
        publish: Publish,
        keeper: &Told,
        patterns: &mut Patterns,
    ) -> Result<(), Trouble> {
        let epoch = publish.epoch;
        let reject = |reason: String| {
            keeper.tell(Event::Rejected { epoch, reason });
            Ok(())
        };
        let running = self.published.loaded().epoch;
        if running == epoch {
            // The answer was lost with the last connection.
            let workers = vec![WorkerSwitch::default(); self.workers];
            keeper.tell(Event::Applied { epoch, workers, is_new: false });
            return Ok(());
        }
        if !running.is_replaced_by(epoch) {
            return reject(format!("the proxy runs {running}, which is newer"));
        }
        let Arrived { snapshot, bytes, .. } = match publish.open_with(patterns) {
            Ok(arrived) => arrived,
            Err(error) => return reject(error.to_string()),
        };
        let tables = match RouteTables::build(&snapshot, patterns) {
            Ok(tables) => tables,
            Err(error) => return reject(error.to_string()),
        };
        let keeper = keeper.clone();
        let answer = Box::new(move |outcome| match outcome {
            Outcome::Applied { workers } => {
                let workers = workers.into_iter().map(in_microseconds).collect();
                keeper.keep(bytes);
                keeper.tell_or_drop(Event::Applied { epoch, workers, is_new: true });
            }
            Outcome::Rejected { reason } => keeper.tell_or_drop(Event::Rejected { epoch, reason }),
            Outcome::Superseded => {}
        });
        match self.offers.offer(Offer { epoch, snapshot, tables, answer }) {
            true => Ok(()),
            false => Err(Trouble::Ending),
        }
    }
}

/// The keeper, as those see it who tell it something.
#[derive(Clone)]
struct Told {
    tell: Tell<Event>,
    unsaved: Unsaved,
}

/// The newest snapshot that was applied, until it is on disk. However long the disk takes, only one
/// waits for it.
type Unsaved = Arc<Mutex<Option<Vec<u8>>>>;

impl Told {
    /// Waits while too much is left to be told: so a flood of what is answered at once is held up by
    /// who does not take the answers.
    fn tell(&self, event: Event) {
        // The keeper lives as long as anybody who could tell it something.
        let _ = self.tell.send(event);
    }

    /// For the main thread, which waits for nobody. An answer that is dropped is of a control plane
    /// that has long ceased to take any, and will be asked for again.
    fn tell_or_drop(&self, event: Event) {
        if self.tell.try_send(event).is_err() {
            tracing::warn!("the control plane takes no answers; one is dropped");
        }
    }

    fn keep(&self, bytes: Vec<u8>) {
        *self.unsaved.lock().unwrap_or_else(PoisonError::into_inner) = Some(bytes);
    }
}

/// A flood of small snapshots is taken at this pace at the most.
const PAUSE_LEAST: Duration = Duration::from_millis(1);
/// A control plane that is not flooding is not kept waiting for longer.
const PAUSE_MOST: Duration = Duration::from_millis(100);

fn receive(
    receiver: &mut Receiver,
    first_byte: Option<Duration>,
) -> Result<Option<ToProxy>, Trouble> {
    let patience = Patience { first_byte, whole_frame: limits::CONTROL_FRAME_TIMEOUT };
    let frame = receiver.receive(patience)?;
    Ok(frame.map(ToProxy::from_frame).transpose()?)
}

fn in_microseconds(kept: Kept) -> WorkerSwitch {
    let us = |time: Duration| u32::try_from(time.as_micros()).unwrap_or(u32::MAX);
    WorkerSwitch { prepare_us: us(kept.prepare), switch_us: us(kept.switch) }
}

/// Why a conversation ended.
#[derive(Debug, thiserror::Error)]
enum Trouble {
    #[error("cannot connect: {0}")]
    Connect(io::Error),
    #[error(transparent)]
    Frame(#[from] FrameError),
    #[error(transparent)]
    Message(#[from] MessageError),
    #[error("the control plane refuses this proxy: {0}")]
    Refused(String),
    #[error("the control plane began with another message than a welcome, or welcomed twice")]
    Unwelcome,
    #[error("the proxy is ending")]
    Ending,
}

/// How long to wait before the next try: half of it is chance, so that many proxies that lost one
/// control plane don't come back as one.
struct Backoff {
    next: Duration,
    random: u64,
}

impl Backoff {
    fn new() -> Self {
        use std::hash::{BuildHasher as _, RandomState};
        let random = RandomState::new().hash_one(std::process::id());
        Self { next: limits::CONTROL_BACKOFF_LEAST, random }
    }

    fn reset(&mut self) {
        self.next = limits::CONTROL_BACKOFF_LEAST;
    }

    fn is_fresh(&self) -> bool {
        self.next == limits::CONTROL_BACKOFF_LEAST
    }

    fn next(&mut self) -> Duration {
        let wait = self.next;
        self.next = (wait * 2).min(limits::CONTROL_BACKOFF_MOST);
        // A congruential step is enough to spread retries (Knuth, TAOCP 3.3.4).
        self.random = self.random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let share = (self.random >> 32) as u32;
        wait / 2 + (wait / 2).mul_f64(f64::from(share) / f64::from(u32::MAX))
    }
}

/// What the keeper is told.
enum Event {
    /// Answers go here from now on.
    Connected(Sender),
    /// Answers go nowhere.
    Disconnected,
    /// Every worker runs it; since now, or it was told before.
    Applied { epoch: Epoch, workers: Vec<WorkerSwitch>, is_new: bool },
    /// No worker runs it.
    Rejected { epoch: Epoch, reason: String },
}

/// Answers, and keeps the last good snapshot.
struct Keeper {
    state: PathBuf,
    metrics: Arc<Metrics>,
    connection: Option<Sender>,
    unsaved: Unsaved,
}

impl Keeper {
    fn keep(mut self, events: &Events<Event>) {
        while let Ok(event) = events.recv() {
            self.hear(event);
            // Of several snapshots in a row only the last is worth a disk's time.
            while let Ok(event) = events.try_recv() {
                self.hear(event);
            }
            let unsaved = self.unsaved.lock().unwrap_or_else(PoisonError::into_inner).take();
            if let Some(bytes) = unsaved {
                save(&self.state, &bytes);
            }
        }
    }

    fn hear(&mut self, event: Event) {
        let control = self.metrics.control();
        match event {
            Event::Connected(sender) => self.connection = Some(sender),
            Event::Disconnected => self.connection = None,
            Event::Applied { epoch, workers, is_new } => {
                if is_new {
                    control.applied.increment();
                    control.set_epoch(epoch);
                }
                self.answer(ToControl::Applied { epoch, workers });
            }
            Event::Rejected { epoch, reason } => {
                tracing::warn!(%epoch, %reason, "a snapshot is refused; the proxy keeps what it runs");
                control.rejected.increment();
                self.answer(ToControl::Rejected { epoch, reason });
            }
        }
    }

    fn answer(&mut self, answer: ToControl) {
        let Some(sender) = &mut self.connection else { return };
        let sent = match answer.into_frame() {
            Ok(frame) => {
                sender.send(&frame, limits::CONTROL_SEND_TIMEOUT).map_err(|e| e.to_string())
            }
            Err(error) => Err(error.to_string()),
        };
        if let Err(error) = sent {
            tracing::warn!(%error, "the control plane does not take an answer");
            sender.shut_down();
            self.connection = None;
        }
    }
}

fn save(state: &Path, bytes: &[u8]) {
    if let Err(error) = last_good::save(state, bytes) {
        let state = state.display();
        tracing::warn!(%state, %error, "the last good snapshot can't be kept; a restart begins with an older one");
    }
}
