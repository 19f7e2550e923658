//! The simulation engine: the operations of the real ones on a virtual network and clock.
//!
//! It takes the liberties that kernels take, at random: what can be done at once is done at once or
//! a turn later, a stopped operation may still deliver, accepts and receives end after one delivery
//! or go on. Everything left to chance comes from the seed, and nothing else is looked at: not the
//! clock, not an address in memory, not the order of a hash table.
//!
//! Time stands still while tasks run, moves by [`TURN`] a turn so that whoever polls for the time
//! sees it pass, and jumps to whatever comes next when nothing is ready.
//!
//! ```text
//!   operation ──► touched ──turn, shuffled──► progress ──► slot, waker
//!                    ▲                            │ held back, or on its way
//!                    └────────── agenda ◄─────────┘
//! ```

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr};
use std::time::Duration;

use rustix::io::Errno;

use crate::address::Address;
use crate::engine::{Io, Wait, add};
use crate::sim::{FaultCounts, Faults, SimConfig};
use crate::socket::{Interest, RecvState, SocketKey, Watch};
use crate::splice::Pipe;
use crate::time::Instant;

use network::{Agenda, Answer, End, EndId, Ends, Event, Kind, Profiles};
use random::Random;
use trace::{Trace, What};

pub(crate) mod network;
mod progress;
pub(crate) mod random;
pub(crate) mod trace;
mod transfer;

/// What a turn costs in virtual time.
const TURN: Duration = Duration::from_micros(1);
/// The clock's first reading, give or take: not zero, so that nobody relies on it.
const START: Duration = Duration::from_secs(1_000);
/// The longest that a completion is held back.
const HELD_BACK_MAX: Duration = Duration::from_micros(300);
/// How long Linux tries to connect by default (`net.ipv4.tcp_syn_retries` = 6).
const CONNECT_GIVEN_UP_AFTER: Duration = Duration::from_secs(127);
/// A pipe of the simulation is small, so that splices take many steps.
const PIPE_BYTES: usize = 16 * 1024;
/// Ports that are given out where port 0 is bound, and for the near end of a connect.
const PORTS_FIRST: u16 = 20_000;
const EPHEMERAL_PORTS_FIRST: u16 = 32_768;

pub(crate) struct Sim {
    now: Instant,
    /// The network's dice, and the world's.
    random: Random,
    pub(crate) world: Random,
    pub(crate) ends: Ends,
    pub(crate) profiles: Profiles,
    pub(crate) counts: FaultCounts,
    pub(crate) trace: Trace,
    /// Wakes from other threads, or from outside of `block_on`, may wait; see `Engine::take_called`.
    pub(crate) called: bool,
    config: SimConfig,
    agenda: Agenda,
    /// Ends to look at in the next turn.
    touched: Vec<EndId>,
    /// The end of each slot.
    by_slot: Vec<Option<EndId>>,
    port_next: u16,
    ephemeral_port_next: u16,
    /// The worker asked for a wait without end, and there is nothing to wait for.
    stuck: bool,
}

impl Sim {
    pub(crate) fn new(config: SimConfig) -> Self {
        let mut random = Random::new(config.seed);
        let world = Random::new(random.next());
        let start = Instant::default() + START + Duration::from_nanos(random.below(1 << 30));
        Self {
            now: start,
            random,
            world,
            ends: Ends::default(),
            profiles: Profiles::new(config.faults),
            counts: FaultCounts::default(),
            trace: Trace::new(config.journal_events_max),
            called: false,
            config,
            agenda: Agenda::default(),
            touched: Vec::new(),
            by_slot: Vec::new(),
            port_next: PORTS_FIRST,
            ephemeral_port_next: EPHEMERAL_PORTS_FIRST,
            stuck: false,
        }
    }

    pub(crate) fn now(&self) -> Instant {
        self.now
    }

    /// Makes the slot of `key` the owner of an end.
    pub(crate) fn attach(&mut self, key: SocketKey, id: EndId) {
        let index = key.index as usize;
        if self.by_slot.len() <= index {
            self.by_slot.resize(index + 1, None);
        }
        self.by_slot[index] = Some(id);
        self.ends.at(id).key = Some(key);
    }

    fn end_of(&self, key: SocketKey) -> EndId {
        self.by_slot[key.index as usize].expect("a simulated socket's slot has an end")
    }

    pub(crate) fn set_faults_of(&mut self, key: SocketKey, faults: Faults) {
        let profile = self.profiles.add(faults);
        let id = self.end_of(key);
        self.ends.at(id).profile = profile;
    }

    /// An end that listens.
    ///
    /// # Errors
    /// EADDRINUSE.
    pub(crate) fn listen(&mut self, address: &Address) -> Result<EndId, Errno> {
        let mut address = address.clone();
        if let Address::Inet(inet) = &mut address
            && inet.port() == 0
        {
            inet.set_port(self.port_next);
            while self.ends.is_taken(&Address::Inet(*inet)) {
                self.port_next += 1;
                inet.set_port(self.port_next);
            }
            self.port_next += 1;
        }
        if self.ends.is_taken(&address) {
            return Err(Errno::ADDRINUSE);
        }
        let kind = Kind::Listening { queue: Default::default(), multishot: false };
        let profile = self.profiles.of_accepted(&address);
        let id = self.ends.insert(End::new(kind, address, None, profile));
        self.note(What::Listens, id, 0);
        Ok(id)
    }

    /// An end that is about to connect to `address`.
    ///
    /// # Errors
    /// EMFILE.
    pub(crate) fn socket(&mut self, address: &Address) -> Result<EndId, Errno> {
        let profile = self.profiles.of_connecting(address);
        if self.random.chance(self.profiles.at(profile).socket_refused) {
            self.counts.sockets_refused += 1;
            return Err(Errno::MFILE);
        }
        let local = match address {
            Address::Inet(inet) => Address::Inet(self.ephemeral(inet.ip())),
            Address::Unix(_) => Address::Unix(Default::default()),
        };
        Ok(self.ends.insert(End::new(Kind::Connecting, local, Some(address.clone()), profile)))
    }

    fn ephemeral(&mut self, target: IpAddr) -> SocketAddr {
        let port = self.ephemeral_port_next;
        self.ephemeral_port_next = port.checked_add(1).unwrap_or(EPHEMERAL_PORTS_FIRST);
        let ip = match target {
            IpAddr::V4(ip) if !ip.is_loopback() => IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1)),
            IpAddr::V6(ip) if !ip.is_loopback() => {
                IpAddr::V6(Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 1))
            }
            loopback => loopback,
        };
        SocketAddr::new(ip, port)
    }

    pub(crate) fn connect(&mut self, io: &mut Io, key: SocketKey) {
        debug_assert!(io.sockets.at(key).connect().is_some(), "the caller described the connect");
        let id = self.end_of(key);
        let latency = self.latency();
        let end = self.ends.at(id);
        end.incoming.latency_ns = latency;
        end.incoming.capacity = self.random.within(&self.config.socket_bytes) as usize;
        let faults = *self.profiles.at(end.profile);
        self.note(What::Connects, id, 0);
        add(&io.counts.submitted, 1);
        if self.random.chance(faults.connect_timeout) {
            self.counts.connects_timed_out += 1;
            self.after(CONNECT_GIVEN_UP_AFTER, Event::Answer(id, Answer::TimedOut));
        } else if self.random.chance(faults.connect_refused) {
            self.counts.connects_refused += 1;
            let delay = self.delay(latency) + self.delay(latency);
            self.after(delay, Event::Answer(id, Answer::Refused));
        } else {
            let delay = self.delay(latency);
            self.after(delay, Event::Arrive(id));
        }
    }

    /// A direction's latency, in nanoseconds.
    fn latency(&mut self) -> u64 {
        u64::from(self.random.within(&self.config.latency_us)) * 1_000
    }

    /// How long something is on its way on a direction with this latency.
    fn delay(&mut self, latency_ns: u64) -> Duration {
        let jitter = self.random.below(u64::from(self.config.jitter_us_max) * 1_000 + 1);
        Duration::from_nanos(latency_ns + jitter)
    }

    fn after(&mut self, delay: Duration, event: Event) {
        self.at(self.now + delay, event);
    }

    fn at(&mut self, at: Instant, event: Event) {
        let tie = self.random.next();
        self.agenda.add(at, tie, event);
    }

    fn touch(&mut self, id: EndId) {
        if let Some(end) = self.ends.find(id)
            && !end.touched
        {
            end.touched = true;
            self.touched.push(id);
        }
    }

    fn note(&mut self, what: What, id: EndId, count: usize) {
        self.trace.note(self.now, what, id.index, count);
    }

    pub(crate) fn recv(&mut self, io: &mut Io, key: SocketKey, multishot: bool) {
        let id = self.end_of(key);
        let multishot = multishot && self.random.coin();
        let socket = io.sockets.at(key);
        debug_assert!(matches!(socket.recv.state, RecvState::Idle | RecvState::Starved));
        socket.recv.state = RecvState::Armed { multishot };
        add(&io.counts.submitted, 1);
        // At once, as epoll does, or in the coming turn, as io_uring does.
        if self.may_go_on(id) && self.random.coin() {
            self.progress_recv(io, key, id);
        } else {
            self.touch(id);
        }
    }

    pub(crate) fn recv_stop(&mut self, io: &mut Io, key: SocketKey) {
        let id = self.end_of(key);
        let recv = &mut io.sockets.at(key).recv;
        match recv.state {
            RecvState::Armed { .. } if self.random.coin() => recv.state = RecvState::Idle,
            RecvState::Armed { .. } => {
                recv.state = RecvState::Stopping;
                self.touch(id);
            }
            RecvState::Starved => recv.state = RecvState::Idle,
            RecvState::Idle | RecvState::Stopping => {}
        }
    }

    pub(crate) fn send(&mut self, io: &mut Io, key: SocketKey) {
        let id = self.end_of(key);
        io.sockets.at(key).send.in_flight = true;
        add(&io.counts.submitted, 1);
        if self.may_go_on(id) && self.random.coin() {
            self.progress_send(io, key, id);
        } else {
            self.touch(id);
        }
    }

    pub(crate) fn accept(&mut self, io: &mut Io, key: SocketKey) {
        let id = self.end_of(key);
        let coin = self.random.coin();
        if let Kind::Listening { multishot, .. } = &mut self.ends.at(id).kind {
            *multishot = coin;
        }
        io.sockets.at(key).accept().armed = true;
        add(&io.counts.submitted, 1);
        if self.random.coin() {
            self.progress_accept(io, key, id);
        } else {
            self.touch(id);
        }
    }

    pub(crate) fn accept_stop(&mut self, io: &mut Io, key: SocketKey) {
        let id = self.end_of(key);
        let accept = io.sockets.at(key).accept();
        if !accept.armed || accept.stopping {
            return;
        }
        if self.random.coin() {
            accept.armed = false;
        } else {
            accept.stopping = true;
            self.touch(id);
        }
    }

    /// Takes a connection that waits; EAGAIN if none does.
    pub(crate) fn accept_now(&mut self, key: SocketKey) -> Result<EndId, Errno> {
        let id = self.end_of(key);
        match &mut self.ends.at(id).kind {
            Kind::Listening { queue, .. } => queue.pop_front().ok_or(Errno::AGAIN),
            Kind::Connecting | Kind::Connected => Err(Errno::INVAL),
        }
    }

    pub(crate) fn watch(&mut self, io: &mut Io, key: SocketKey, interest: Interest) {
        let id = self.end_of(key);
        *io.sockets.at(key).watch(interest) = Watch::Armed;
        if self.random.coin() && self.may_go_on(id) && self.is_ready(id, interest) {
            *io.sockets.at(key).watch(interest) = Watch::Ready;
        } else {
            self.touch(id);
        }
    }

    pub(crate) fn close(&mut self, io: &mut Io, key: SocketKey) {
        let id = self.end_of(key);
        let socket = io.sockets.at(key);
        let accepting = |rare: &crate::socket::Rare| rare.accept.as_ref().is_some_and(|a| a.armed);
        let busy = socket.send.in_flight
            || !matches!(socket.recv.state, RecvState::Idle | RecvState::Starved)
            || socket.rare.as_ref().is_some_and(|rare| accepting(rare));
        if busy && self.random.coin() {
            // What is in flight is being cancelled, and may still complete.
            self.touch(id);
        } else {
            self.finish_close(io, key, id);
        }
    }

    /// One turn: what is due happens, then every touched end makes progress, in random order. If
    /// there was nothing of either, time moves on to whatever comes next.
    ///
    /// # Errors
    /// EDEADLK: nothing will ever happen again.
    pub(crate) fn turn(&mut self, io: &mut Io, wait: Wait) -> Result<(), Errno> {
        add(&io.counts.enters, 1);
        self.called = true;
        let until = match wait {
            Wait::No => Some(self.now),
            Wait::AtMost(duration) => Some(self.now + duration),
            Wait::Forever => None,
        };
        self.now = self.now + TURN;
        self.feed_starved(io);
        // One that starves again though there are buffers is fed in the next turn, not after a wait.
        let hungry = !io.starved.is_empty() && io.pool.available() > 0;
        if self.step(io) || hungry || wait == Wait::No {
            self.stuck = false;
            return Ok(());
        }
        let Some(next) = self.agenda.next_at().into_iter().chain(until).min() else {
            // A wake from outside of the worker may wait to be seen: look once.
            return if std::mem::replace(&mut self.stuck, true) {
                Err(Errno::DEADLK)
            } else {
                Ok(())
            };
        };
        self.stuck = false;
        self.now = self.now.max(next);
        self.step(io);
        Ok(())
    }

    /// True if anything happened.
    fn step(&mut self, io: &mut Io) -> bool {
        let mut any = false;
        while let Some(event) = self.agenda.pop_due(self.now) {
            self.happen(io, event);
            any = true;
        }
        let mut touched = std::mem::take(&mut self.touched);
        any |= !touched.is_empty();
        self.random.shuffle(&mut touched);
        for id in touched.drain(..) {
            self.progress(io, id);
        }
        // Those touched meanwhile are the next turn's; the emptied vector keeps its memory.
        if self.touched.is_empty() {
            self.touched = touched;
        }
        any
    }

    /// Arms what starves, if there are buffers again: here a receive takes one when it has bytes.
    fn feed_starved(&mut self, io: &mut Io) {
        if io.pool.available() == 0 {
            return;
        }
        for _ in 0..io.starved.len() {
            let Some(key) = io.next_starved() else { return };
            self.recv(io, key, false);
        }
    }

    // Direct operations.

    pub(crate) fn read_now(
        &mut self,
        key: SocketKey,
        into: &mut Vec<u8>,
        max: usize,
    ) -> Result<usize, Errno> {
        let id = self.end_of(key);
        let count = self.readable(id, max)?;
        self.take_in(id, count, |bytes| into.extend_from_slice(bytes));
        Ok(count)
    }

    pub(crate) fn has_unread(&mut self, key: SocketKey) -> bool {
        let id = self.end_of(key);
        self.ends.at(id).is_readable()
    }

    pub(crate) fn splice_in(
        &mut self,
        key: SocketKey,
        pipe: &mut Pipe,
        max: usize,
    ) -> Result<usize, Errno> {
        let id = self.end_of(key);
        let room = max.min(pipe.room());
        if room == 0 {
            return Err(Errno::AGAIN);
        }
        let count = self.readable(id, room)?;
        self.take_in(id, count, |bytes| pipe.simulated.extend(bytes));
        pipe.filled(count);
        Ok(count)
    }

    pub(crate) fn splice_out(
        &mut self,
        io: &mut Io,
        key: SocketKey,
        pipe: &mut Pipe,
    ) -> Result<usize, Errno> {
        let id = self.end_of(key);
        let count = self.writable(id, pipe.bytes())?;
        let (first, second) = pipe.simulated.as_slices();
        self.put_out(id, count, [first, second].into_iter());
        pipe.simulated.drain(..count);
        pipe.drained(count);
        io.sockets.at(key).send.bytes_total += count as u64;
        Ok(count)
    }

    pub(crate) fn lend_pipe(&mut self, key: SocketKey) -> Option<Pipe> {
        let id = self.end_of(key);
        let profile = self.ends.at(id).profile;
        if self.random.chance(self.profiles.at(profile).splice_refused) {
            self.counts.pipes_refused += 1;
            return None;
        }
        Some(Pipe::simulated(PIPE_BYTES))
    }

    pub(crate) fn shutdown(&mut self, key: SocketKey, how: Shutdown) -> Result<(), Errno> {
        let id = self.end_of(key);
        let end = self.ends.at(id);
        if end.broken || !matches!(end.kind, Kind::Connected) {
            return Err(Errno::NOTCONN);
        }
        if how != Shutdown::Write {
            end.read_closed = true;
        }
        if how != Shutdown::Read {
            self.send_fin(id);
        }
        self.touch(id);
        Ok(())
    }

    pub(crate) fn reset_on_close(&mut self, key: SocketKey) {
        let id = self.end_of(key);
        self.ends.at(id).reset_on_close = true;
    }

    pub(crate) fn local_address(&mut self, key: SocketKey) -> Address {
        let id = self.end_of(key);
        self.ends.at(id).local.clone()
    }

    pub(crate) fn peer_address(&mut self, key: SocketKey) -> Result<Address, Errno> {
        let id = self.end_of(key);
        let end = self.ends.at(id);
        if end.broken || !matches!(end.kind, Kind::Connected) {
            return Err(Errno::NOTCONN);
        }
        end.remote.clone().ok_or(Errno::NOTCONN)
    }

    /// All open sockets, a line each.
    pub(crate) fn describe(&self, io: &mut Io) -> String {
        let mut text = format!("at {:?}, seed {}:", self.now, self.config.seed);
        for (index, end) in self.ends.iter() {
            let _ = write!(text, "\n  {index}: {}", end.local);
            if let Some(remote) = &end.remote {
                let _ = write!(text, " to {remote}");
            }
            match &end.kind {
                Kind::Listening { queue, .. } => {
                    let _ = write!(text, " listening, {} queued", queue.len());
                }
                Kind::Connecting => text.push_str(" connecting"),
                Kind::Connected => {
                    let incoming = &end.incoming;
                    let _ = write!(
                        text,
                        " {} bytes to read, {} more to come, room for {}",
                        incoming.arrived,
                        incoming.bytes.len() - incoming.arrived,
                        incoming.room(),
                    );
                }
            }
            let states = [
                (end.incoming.fin_arrived, "FIN received"),
                (end.write_closed, "FIN sent"),
                (end.broken, "reset"),
                (end.peer.is_none() && matches!(end.kind, Kind::Connected), "peer gone"),
                (end.stalled_until > self.now, "stalled"),
                (end.key.is_none(), "not accepted"),
            ];
            for (_, state) in states.iter().filter(|(holds, _)| *holds) {
                let _ = write!(text, ", {state}");
            }
            if let Some(socket) = end.key.and_then(|key| io.sockets.find(key)) {
                let _ = write!(
                    text,
                    "; receive {:?} with {} waiting, send in flight: {}, watches: {:?} {:?}",
                    socket.recv.state,
                    socket.recv.ready(),
                    socket.send.in_flight,
                    socket.readable,
                    socket.writable,
                );
            }
        }
        text
    }
}
