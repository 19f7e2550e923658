//! The simulation: what a test says to the virtual world in which tasks run.
//!
//! A runtime made by [`crate::Runtime::simulated`] has no kernel below it but a seeded, virtual
//! network and clock. Tasks use the same [`crate::Stream`], [`crate::Listener`] and timers as on a
//! real engine, so that a whole proxy, its clients and its upstream servers are tasks of one
//! runtime. Nothing real is touched: no descriptor, no port, no clock; the same seed gives the same
//! run, whatever else the machine does.
//!
//! Even without faults the network is an unkind one: latencies and socket buffers differ from
//! connection to connection, completions come in random order, now at once and now a turn later,
//! sends finish in parts, and an operation that is being stopped may still deliver. [`Faults`] adds
//! what goes wrong. Which sockets it goes wrong for is a matter of [`Scope`], so that a world can
//! harass a proxy and keep its own clients in the know of what they sent.
//!
//! When no task is ready, no timer is set and nothing is on its way, the runtime panics with a list
//! of what everybody waits for, rather than hang.
//!
//! The functions here panic outside of a simulated runtime.

use std::ops::RangeInclusive;
use std::time::Duration;

use crate::address::Address;
use crate::engine::Engine;
use crate::engine::sim::Sim;
use crate::runtime::current;
use crate::stream::Stream;

/// What a simulated runtime is made with.
#[derive(Clone, Debug)]
pub struct SimConfig {
    /// Decides everything that is left to chance.
    pub seed: u64,
    /// What goes wrong on sockets that no [`Scope`] covers.
    pub faults: Faults,
    /// Size of a receive buffer, in bytes: a multiple of the page size.
    pub buffer_bytes: usize,
    /// Receive buffers at the most: a power of two.
    pub buffers_max: u16,
    /// One-way delay of a connection's direction, in virtual microseconds.
    pub latency_us: RangeInclusive<u32>,
    /// Random delay that each segment has on top, in virtual microseconds.
    pub jitter_us_max: u32,
    /// Bytes that a direction of a connection holds between the two ends.
    pub socket_bytes: RangeInclusive<u32>,
    /// The longest stall.
    pub stall_max: Duration,
    /// How many of the latest events [`journal`] tells of; they cost memory.
    pub journal_events_max: usize,
}

impl SimConfig {
    /// A world without faults.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self {
            seed,
            faults: Faults::NONE,
            buffer_bytes: 4_096,
            buffers_max: 64,
            latency_us: 10..=1_000,
            jitter_us_max: 200,
            socket_bytes: 512..=32_768,
            stall_max: Duration::from_secs(2),
            journal_events_max: 0,
        }
    }
}

/// How often things go wrong: probabilities in parts of 65,536, drawn each time the thing could.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Faults {
    /// A read, or a splice from a socket, gets a random part of what is there.
    pub short_read: u32,
    /// A write, or a splice into a socket, takes a random part of what there is room for.
    pub short_write: u32,
    /// What is done on a socket is reported late, after what was done later on others.
    pub reorder: u32,
    /// The connection breaks at a random byte: both ends get a reset.
    pub reset: u32,
    /// The socket makes no progress for a random time up to [`SimConfig::stall_max`]. Certainty makes
    /// a socket that is dead for good, though nobody is told.
    pub stall: u32,
    /// A connect is answered with ECONNREFUSED.
    pub connect_refused: u32,
    /// A connect is not answered at all; ETIMEDOUT after 127 s, as Linux gives up.
    pub connect_timeout: u32,
    /// No descriptor is left for a connect: EMFILE.
    pub socket_refused: u32,
    /// An accept fails with EMFILE, ENFILE, ENOBUFS or ENOMEM; the connection stays queued.
    pub accept_error: u32,
    /// A receive finds no buffer (ENOBUFS) though there is one.
    pub starve: u32,
    /// No pipe is to be had to splice through.
    pub splice_refused: u32,
}

impl Faults {
    /// Nothing goes wrong.
    pub const NONE: Self = Self::uniform(0);

    /// Each kind of fault with the same probability.
    #[must_use]
    pub const fn uniform(per_65536: u32) -> Self {
        Self {
            short_read: per_65536,
            short_write: per_65536,
            reorder: per_65536,
            reset: per_65536,
            stall: per_65536,
            connect_refused: per_65536,
            connect_timeout: per_65536,
            socket_refused: per_65536,
            accept_error: per_65536,
            starve: per_65536,
            splice_refused: per_65536,
        }
    }
}

/// Which ends of which connections a set of faults is for. A connection has two ends, and each has
/// its own: of one between a client and a proxy at P, `Accepted(P)` is the proxy's end and
/// `Connecting(P)` the client's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Every end that no other scope covers.
    Others,
    /// Listeners on this address and the connections that they accept.
    Accepted(Address),
    /// Connections opened to this address, refused ones included.
    Connecting(Address),
}

/// How often each thing happened that a real network does to a proxy now and then.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FaultCounts {
    /// Reads that were cut short.
    pub short_reads: u64,
    /// Writes that were cut short.
    pub short_writes: u64,
    /// Completions that were held back.
    pub reorders: u64,
    /// Connections that broke.
    pub resets: u64,
    /// Sockets that stalled.
    pub stalls: u64,
    /// Connects refused, beside those to where nobody listens.
    pub connects_refused: u64,
    /// Connects that got no answer.
    pub connects_timed_out: u64,
    /// Connects that found no descriptor.
    pub sockets_refused: u64,
    /// Accepts that failed.
    pub accept_errors: u64,
    /// Receives that found no buffer, truly or by fault.
    pub starvations: u64,
    /// Pipes that were not to be had.
    pub pipes_refused: u64,
    /// Operations that completed although they were being cancelled; needs no fault.
    pub cancel_races: u64,
    /// Sends and splices that had to wait for the reader; needs no fault.
    pub backpressure: u64,
}

impl FaultCounts {
    /// Each count with its name, for sums over many runs.
    #[must_use]
    pub fn each(&self) -> [(&'static str, u64); 13] {
        [
            ("short_reads", self.short_reads),
            ("short_writes", self.short_writes),
            ("reorders", self.reorders),
            ("resets", self.resets),
            ("stalls", self.stalls),
            ("connects_refused", self.connects_refused),
            ("connects_timed_out", self.connects_timed_out),
            ("sockets_refused", self.sockets_refused),
            ("accept_errors", self.accept_errors),
            ("starvations", self.starvations),
            ("pipes_refused", self.pipes_refused),
            ("cancel_races", self.cancel_races),
            ("backpressure", self.backpressure),
        ]
    }
}

/// Sets what goes wrong in `scope` from now on. Sockets take the scope that covers them when they
/// are opened; a scope that is set again changes them too.
pub fn set_faults(scope: Scope, faults: Faults) {
    with(|sim| sim.profiles.set(scope, faults));
}

/// Sets what goes wrong on this end of one connection from now on.
pub fn set_stream_faults(stream: &Stream, faults: Faults) {
    with(|sim| sim.set_faults_of(stream.key(), faults));
}

/// The next number of the world's own seeded stream; drawing from it does not disturb the network's.
#[must_use]
pub fn random() -> u64 {
    with(|sim| sim.world.next())
}

/// A random number below `bound`; 0 if that is 0.
#[must_use]
pub fn random_below(bound: u64) -> u64 {
    with(|sim| sim.world.below(bound))
}

/// How often each fault has happened so far.
#[must_use]
pub fn counts() -> FaultCounts {
    with(|sim| sim.counts)
}

/// Sockets that exist in the virtual network: listeners, open ends of connections, and connections
/// that wait to be accepted.
#[must_use]
pub fn sockets_open() -> usize {
    with(|sim| sim.ends.len())
}

/// A digest of all that happened in the network so far, with its times: equal for equal runs.
#[must_use]
pub fn trace_hash() -> u64 {
    with(|sim| sim.trace.digest())
}

/// The latest events in the network, a line each, oldest first: as many as
/// [`SimConfig::journal_events_max`] says. Sockets are numbered as in [`describe`].
#[must_use]
pub fn journal() -> String {
    with(|sim| sim.trace.journal())
}

/// The state of every open socket in words, a line each, for the message of a failed check.
#[must_use]
pub fn describe() -> String {
    let core = current();
    core.with(|engine, io| simulation(engine).describe(io))
}

fn with<T>(f: impl FnOnce(&mut Sim) -> T) -> T {
    current().with(|engine, _| f(simulation(engine)))
}

fn simulation(engine: &mut Engine) -> &mut Sim {
    engine.simulation().expect("called from within a simulated runtime")
}
