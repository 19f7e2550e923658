//! `lateen-bench upstream`: listens, starts the threads, and ends when it is told to.

use std::cell::RefCell;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::process::ExitCode;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, Sender};
use std::thread;

use anyhow::Context;
use monoio::net::TcpListener;
use rustls::ServerConfig;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use socket2::{Domain, Protocol, Socket, Type};

use super::arguments::UpstreamArguments;
use super::connection::{Counts, Shared, serve};
use super::misbehaviour::{Chance, Misbehaviour};
use super::reply::Replies;
use super::slots::Slots;
use crate::certificates;
use crate::clock::{Clock, now_ns};
use crate::descriptors;
use crate::engine::{Engine, EventLoop};

/// The queue of connections that nobody has accepted yet; the kernel lowers it to
/// `net.core.somaxconn`.
const BACKLOG: i32 = 65_535;

/// Accepts that wait in the ring at once. One alone gives one connection per turn of the loop, so
/// that under load new connections wait for seconds. With epoll an accept goes on until there is
/// none left, and only one may wait.
const ACCEPTS_AHEAD: usize = 64;

/// An answer's body if nothing is said.
const BODY_BYTES_DEFAULT: u64 = 100;

/// A pause after an accept that failed, for want of descriptors as a rule.
const ACCEPT_PAUSE_NS: u64 = 10_000_000;

/// The exit code of arguments that make no sense, which is clap's too.
const USAGE: u8 = 2;

/// The command.
pub fn run(arguments: &UpstreamArguments) -> ExitCode {
    let service = match Service::new(arguments) {
        Ok(service) => service,
        Err(error) => return complain(&error, ExitCode::from(USAGE)),
    };
    match serve_until_told(&service) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => complain(&error, ExitCode::FAILURE),
    }
}

fn complain(error: &anyhow::Error, code: ExitCode) -> ExitCode {
    // Nobody to tell: the code says it.
    let _ = writeln!(io::stderr(), "lateen-bench upstream: {error:#}");
    code
}

fn serve_until_told(service: &Service) -> anyhow::Result<()> {
    // Before the first thread, so that none of them is ended by a signal.
    let mut signals = Signals::new([SIGTERM, SIGINT])?;
    // Connections past the soft limit would not be accepted. Whoever meets the hard one is told by
    // accept.
    descriptors::raise_to_hard_limit();
    let arguments = &service.arguments;
    let mut counts = Vec::new();
    let mut address = arguments.listen;
    for thread in 0..arguments.threads {
        let (listening, told) = mpsc::channel();
        let of_thread = Arc::new(Counts::default());
        counts.push(of_thread.clone());
        let service = service.clone();
        thread::Builder::new()
            .name(format!("upstream-{thread}"))
            .spawn(move || service.run(thread, address, of_thread, &listening))
            .context("a thread can't be started")?;
        // With port 0 the first chooses for all.
        address = told
            .recv()
            .context("a thread ended early")?
            .with_context(|| format!("--listen {address}"))?;
    }
    writeln!(io::stdout(), "listening {address}")?;
    io::stdout().flush()?;
    signals.forever().next();
    let sum = |of: fn(&Counts) -> &AtomicU64| -> u64 {
        counts.iter().map(|counts| of(counts).load(Ordering::Relaxed)).sum()
    };
    let (answers, connections) = (sum(|counts| &counts.answers), sum(|counts| &counts.connections));
    writeln!(io::stdout(), "answered {answers} on {connections} connections")?;
    Ok(())
}

/// What every thread works from.
#[derive(Clone)]
struct Service {
    engine: Engine,
    arguments: UpstreamArguments,
    replies: Replies,
    misbehaviour: Misbehaviour,
    slots: Option<Arc<Slots>>,
    tls: Option<Arc<ServerConfig>>,
}

impl Service {
    fn new(arguments: &UpstreamArguments) -> anyhow::Result<Self> {
        arguments.check()?;
        let tls = match (&arguments.tls_cert, &arguments.tls_key) {
            (Some(certificate), Some(key)) => Some(certificates::server_config(certificate, key)?),
            _ => None,
        };
        Ok(Self {
            engine: arguments.engine.resolve().context("--engine uring")?,
            replies: Replies::new(arguments.body_bytes.unwrap_or(BODY_BYTES_DEFAULT)),
            misbehaviour: Misbehaviour::new(arguments, now_ns()),
            slots: arguments.slots.map(|count| Arc::new(Slots::new(count))),
            arguments: arguments.clone(),
            tls,
        })
    }

    /// Accepts for ever; first it tells where it listens.
    fn run(
        self,
        thread: u32,
        address: SocketAddr,
        counts: Arc<Counts>,
        listening: &Sender<io::Result<SocketAddr>>,
    ) {
        let mut event_loop = match EventLoop::new(self.engine) {
            Ok(event_loop) => event_loop,
            Err(error) => {
                let _ = listening.send(Err(error));
                return;
            }
        };
        let ended: io::Result<()> = event_loop.run(async {
            let listener = listen(self.engine, address, self.arguments.threads > 1)?;
            let clock = Clock::start()?;
            let bound = listener.local_addr()?;
            let shared = Rc::new(Shared {
                clock: clock.clone(),
                protocol: self.arguments.protocol,
                replies: self.replies,
                misbehaviour: self.misbehaviour,
                chance: RefCell::new(Chance::new(self.arguments.seed ^ u64::from(thread) << 32)),
                slots: self.slots.clone(),
                close_every: self.arguments.close_every,
                tls: self.tls.clone(),
                counts,
            });
            let _ = listening.send(Ok(bound));
            let listener = Rc::new(listener);
            let accepts = match self.engine {
                Engine::IoUring => ACCEPTS_AHEAD,
                Engine::Epoll => 1,
            };
            for _ in 1..accepts {
                monoio::spawn(accept_for_ever(listener.clone(), clock.clone(), shared.clone()));
            }
            accept_for_ever(listener, clock, shared).await;
            Ok(())
        });
        if let Err(error) = ended {
            let _ = listening.send(Err(error));
        }
    }
}

async fn accept_for_ever(listener: Rc<TcpListener>, clock: Clock, shared: Rc<Shared>) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                monoio::spawn(serve(shared.clone(), stream));
            }
            Err(_) => clock.sleep_until(now_ns() + ACCEPT_PAUSE_NS).await,
        }
    }
}

fn listen(engine: Engine, address: SocketAddr, is_shared: bool) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(is_shared)?;
    // What is accepted inherits it.
    socket.set_tcp_nodelay(true)?;
    socket.set_nonblocking(engine == Engine::Epoll)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}
