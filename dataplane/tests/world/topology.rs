//! What a world is made of: the proxy's config, its upstreams, its clients' sessions, the network.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use lateen_proxy::bootstrap::config::{
    AccessLogTarget, Config, Drain, EngineChoice, PoolLimits, Sizes, Timeouts,
};
use lateen_proxy::bootstrap::quick::{self, ProtocolFlag};
use lateen_ring::Address;
use lateen_ring::sim::{self, Faults, Scope, SimConfig};
use lateen_snapshot::model::Snapshot;

use crate::case::{AfterEarly, Body, Case, Form, Mishap};
use crate::dice::{millis, one_of, percent, within};

/// Bytes of a request target; `Malformed::TargetTooLong` is longer.
const TARGET_BYTES_MAX: usize = 1_200;
const HEAD_BYTES_MAX: usize = 4_096;
const HEADERS_MAX: usize = 40;
/// The longest stall of a harsh network: shorter than any timeout that ends a connection.
const STALL_MAX: Duration = Duration::from_millis(250);

/// How unkind the network is to the proxy's sockets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Weather {
    /// As the network is without faults.
    Calm,
    /// Faults that nobody may notice from outside.
    Choppy,
    /// Faults that may cost a request.
    Stormy,
}

/// What the clients speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Speech {
    /// The proxy is told that it is HTTP.
    Http,
    /// The proxy finds out; some clients speak something else.
    Mixed,
    /// The proxy is told that it is not HTTP.
    Tcp,
    /// The upstreams speak first, and the proxy finds out.
    ServerFirst,
}

/// An upstream and its habits.
#[derive(Clone, Copy, Debug)]
pub(crate) struct UpstreamTraits {
    pub(crate) address: SocketAddr,
    /// Somebody listens there.
    pub(crate) listens: bool,
    /// Connects to it are not answered.
    pub(crate) black_hole: bool,
    /// Closes a connection after so many answers; having said so in the last, or not.
    pub(crate) closes_after: Option<(usize, bool)>,
}

/// A client's connection.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) cases: Vec<Rc<Case>>,
    /// All requests are sent without waiting for answers.
    pub(crate) pipelined: bool,
    /// Waited before each read.
    pub(crate) pace: Duration,
    /// Silence before the first byte.
    pub(crate) silence: Duration,
    /// Time between an answer and the next request.
    pub(crate) pause: Duration,
    pub(crate) end: SessionEnd,
}

/// What a client does after its last answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SessionEnd {
    Close,
    /// It sends a FIN behind its last request, and waits for the proxy's.
    HalfClose,
    /// It stays, and the proxy must end the connection in time.
    Idle,
}

/// A world.
#[derive(Debug)]
pub(crate) struct Topology {
    pub(crate) weather: Weather,
    pub(crate) speech: Speech,
    pub(crate) config: Config,
    pub(crate) listen: SocketAddr,
    pub(crate) upstreams: Vec<UpstreamTraits>,
    pub(crate) clients: Vec<Vec<Session>>,
    pub(crate) case_count: usize,
    /// When the proxy is told to drain, from the start on.
    pub(crate) drain_at: Option<Duration>,
    /// Some upstream closes connections without having said so.
    pub(crate) silent_closes: bool,
    /// Some upstream says more than it was asked.
    pub(crate) unasked: bool,
    /// Clients may be cut off while idle: the cap is low, or accepts fail.
    pub(crate) idle_cuts: bool,
}

/// The network that a seed gives.
pub(crate) fn network(seed: u64) -> SimConfig {
    let mut config = SimConfig::new(seed);
    config.buffer_bytes = lateen_proxy::limits::RECEIVE_BUFFER_BYTES;
    // Clients and upstreams receive into the same pool: were it small, they could starve the proxy
    // that waits for them. Starvation is a fault of the weather.
    config.buffers_max = 128;
    config.stall_max = STALL_MAX;
    config.latency_us = 10..=if seed.is_multiple_of(5) { 5_000 } else { 600 };
    config.socket_bytes = match seed % 4 {
        0 => 600..=3_000,
        1 => 4_096..=40_000,
        2 => 20_000..=200_000,
        _ => 600..=70_000,
    };
    config
}

impl Topology {
    /// Draws a world; to be called within the simulated runtime.
    pub(crate) fn draw() -> Self {
        let weather = match within(0..=99) {
            0..=24 => Weather::Calm,
            25..=64 => Weather::Choppy,
            _ => Weather::Stormy,
        };
        let speech = match within(0..=99) {
            0..=69 => Speech::Http,
            70..=84 => Speech::Mixed,
            85..=92 => Speech::Tcp,
            _ => Speech::ServerFirst,
        };
        let upstreams = draw_upstreams();
        let config = draw_config();
        let mut drawn = Self {
            weather,
            speech,
            upstreams,
            clients: Vec::new(),
            case_count: 0,
            drain_at: percent(18).then(|| millis(1..=150)),
            silent_closes: false,
            unasked: false,
            idle_cuts: percent(8),
            config,
            listen: SocketAddr::from(([10, 0, 0, 1], 80)),
        };
        drawn.draw_clients();
        if drawn.idle_cuts {
            drawn.config.connections_max = within(2..=drawn.clients.len());
        }
        drawn.note_habits();
        drawn
    }

    /// What the proxy runs on.
    pub(crate) fn snapshot(&self) -> Snapshot {
        let upstreams: Vec<SocketAddr> = self.upstreams.iter().map(|one| one.address).collect();
        let protocol = match self.speech {
            Speech::Http => ProtocolFlag::Http,
            Speech::Mixed | Speech::ServerFirst => ProtocolFlag::Auto,
            Speech::Tcp => ProtocolFlag::Tcp,
        };
        quick::snapshot(&[self.listen], &upstreams, protocol)
    }

    fn draw_clients(&mut self) {
        let client_count = within(3..=6);
        // Half of the clients do nothing wrong and get nothing wrong: their answers are certain.
        let cases = within(20..=28);
        for client in 0..client_count {
            let share = cases / client_count + usize::from(client < cases % client_count);
            let reliable = percent(50);
            let mut sessions = Vec::new();
            let mut left = share;
            while left > 0 {
                let size = within(1..=6).min(left);
                left -= size;
                sessions.extend(self.draw_sessions(size, reliable));
            }
            if percent(12) {
                sessions.push(Session { end: SessionEnd::Idle, ..self.session(Vec::new()) });
            }
            self.clients.push(sessions);
        }
    }

    /// Connections that carry `size` cases.
    fn draw_sessions(&mut self, size: usize, reliable: bool) -> Vec<Session> {
        let tcp = match self.speech {
            Speech::Http => false,
            Speech::Mixed => percent(30),
            Speech::Tcp | Speech::ServerFirst => true,
        };
        let mut sessions = Vec::new();
        let mut cases = Vec::new();
        for index in 0..size {
            let id = self.case_count;
            self.case_count += 1;
            if tcp {
                let case = Rc::new(Case::tcp(id, reliable));
                sessions.push(self.session(vec![case]));
                continue;
            }
            let case = Rc::new(Case::draw(id, reliable, index + 1 == size));
            let ends = case.ends_connection();
            cases.push(case);
            if ends {
                sessions.push(self.session(std::mem::take(&mut cases)));
            }
        }
        if !cases.is_empty() {
            sessions.push(self.session(cases));
        }
        sessions
    }

    pub(crate) fn session(&self, cases: Vec<Rc<Case>>) -> Session {
        let plain = cases.iter().all(|case| case.form == Form::Exchange && !case.expects);
        let late = self.speech == Speech::Mixed && percent(20);
        Session {
            pipelined: plain && percent(45),
            pace: if percent(15) { millis(1..=20) } else { Duration::ZERO },
            silence: if late { self.config.timeouts.detect * 2 } else { Duration::ZERO },
            pause: if percent(40) { millis(0..=60) } else { Duration::ZERO },
            end: match within(0..=9) {
                0..=5 => SessionEnd::Close,
                6 | 7 => SessionEnd::HalfClose,
                _ => SessionEnd::Idle,
            },
            cases,
        }
    }

    fn note_habits(&mut self) {
        self.silent_closes =
            self.upstreams.iter().any(|one| matches!(one.closes_after, Some((_, false))));
        for case in self.clients.iter().flatten().flat_map(|session| &session.cases) {
            self.silent_closes |=
                case.mishap == Mishap::SilentClose || case.answer.early == Some(AfterEarly::Closes);
            self.unasked |= matches!(case.mishap, Mishap::Unasked(_));
        }
    }

    /// Whether any upstream can be reached.
    pub(crate) fn is_served(&self) -> bool {
        self.upstreams.iter().any(|one| one.listens && !one.black_hole)
    }

    /// The longest that a proxy that works may leave anybody waiting.
    pub(crate) fn patience(&self) -> Duration {
        let timeouts = &self.config.timeouts;
        let most = timeouts.header + timeouts.body * 2 + timeouts.idle + timeouts.write * 2;
        most + timeouts.connect * 6 + STALL_MAX * 8 + Duration::from_secs(3)
    }

    /// Sets the network's faults on the proxy's sockets.
    pub(crate) fn set_weather(&mut self, proxy: SocketAddr) {
        let mut inward = Faults::NONE;
        if self.weather != Weather::Calm {
            let often = |most: u32| if percent(60) { within(0..=most as usize) as u32 } else { 0 };
            inward.short_read = often(30_000);
            inward.short_write = often(30_000);
            inward.reorder = often(16_000);
            inward.starve = often(6_000);
            inward.splice_refused = often(40_000);
            inward.accept_error = if percent(15) { 12_000 } else { 0 };
            self.idle_cuts |= inward.accept_error > 0;
        }
        let mut outward = inward;
        if self.weather == Weather::Stormy {
            inward.reset = if percent(40) { within(0..=250) as u32 } else { 0 };
            inward.stall = if percent(30) { within(0..=250) as u32 } else { 0 };
            outward.reset = if percent(50) { within(0..=400) as u32 } else { 0 };
            outward.stall = if percent(40) { within(0..=250) as u32 } else { 0 };
            outward.connect_refused = if percent(40) { within(0..=20_000) as u32 } else { 0 };
            outward.connect_timeout = if percent(30) { within(0..=6_000) as u32 } else { 0 };
            outward.socket_refused = if percent(30) { within(0..=8_000) as u32 } else { 0 };
        }
        sim::set_faults(Scope::Accepted(Address::from(proxy)), inward);
        for upstream in &self.upstreams {
            let mut faults = outward;
            if upstream.black_hole {
                faults.connect_timeout = 65_536;
            }
            sim::set_faults(Scope::Connecting(Address::from(upstream.address)), faults);
        }
    }
}

fn draw_upstreams() -> Vec<UpstreamTraits> {
    (0..within(1..=3))
        .map(|index| UpstreamTraits {
            address: SocketAddr::from(([10, 0, 1, index as u8 + 1], 8_080)),
            listens: percent(90),
            black_hole: percent(7),
            closes_after: percent(25).then(|| (within(1..=5), percent(50))),
        })
        .collect()
}

fn draw_config() -> Config {
    Config {
        workers: 1,
        pinned_cpus: Vec::new(),
        engine: EngineChoice::Auto,
        engine_features: Vec::new(),
        admin: SocketAddr::from(([10, 0, 0, 1], 81)),
        access_log: AccessLogTarget::File(PathBuf::new()),
        timeouts: Timeouts {
            header: millis(500..=1_000),
            body: millis(500..=1_000),
            idle: millis(500..=2_000),
            connect: millis(60..=200),
            request: percent(10).then(|| millis(300..=3_000)),
            write: millis(500..=1_000),
            detect: millis(25..=60),
        },
        sizes: Sizes {
            head_bytes_max: HEAD_BYTES_MAX,
            headers_max: HEADERS_MAX,
            target_bytes_max: TARGET_BYTES_MAX,
            body_bytes_max: percent(10).then(|| one_of(&[0, 1_000, 50_000])),
        },
        connections_max: 100,
        memory_max: None,
        pool: PoolLimits {
            idle_max: one_of(&[0, 1, 2, 8]),
            total_max: one_of(&[1, 3, 100]),
            idle_timeout: millis(20..=1_000),
            lifetime: millis(50..=3_000),
            short_responses_min: one_of(&[0, 1, 3, u32::MAX]),
        },
        drain: Drain {
            delay: Duration::ZERO,
            timeout: if percent(15) { millis(1..=100) } else { Duration::from_secs(30) },
        },
        trace_method: false,
        descriptors_max: 1_024,
    }
}

/// Whether a request's body is longer than the config allows.
pub(crate) fn is_too_long(config: &Config, body: Body) -> bool {
    config.sizes.body_bytes_max.is_some_and(|max| body.bytes() as u64 > max)
}
