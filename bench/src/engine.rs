//! Which of monoio's drivers runs: io_uring, or epoll where io_uring is missing or forbidden.
//!
//! Comes before the first socket; each thread of the load and of the upstream runs one. monoio
//! and not `lateen-ring`, so that the measuring tool shares no engine with what it measures.

use std::fmt;
use std::future::Future;
use std::io;

use clap::ValueEnum;
use monoio::{IoUringDriver, LegacyDriver, Runtime, RuntimeBuilder};

/// What the user asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum EngineChoice {
    /// io_uring where the machine allows it, else epoll
    #[default]
    Auto,
    /// io_uring, or an error
    Uring,
    /// epoll
    Epoll,
}

/// What runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Engine {
    /// monoio's `IoUringDriver`.
    IoUring,
    /// monoio's `LegacyDriver`.
    Epoll,
}

impl EngineChoice {
    /// The engine that this machine has for this choice.
    ///
    /// # Errors
    /// io_uring was asked for and isn't there.
    pub fn resolve(self) -> io::Result<Engine> {
        match self {
            Self::Epoll => Ok(Engine::Epoll),
            _ if monoio::utils::detect_uring() => Ok(Engine::IoUring),
            Self::Auto => Ok(Engine::Epoll),
            Self::Uring => Err(io::Error::new(
                io::ErrorKind::Unsupported,
                "this machine has no io_uring or forbids it (see sysctl kernel.io_uring_disabled): \
                 use --engine epoll",
            )),
        }
    }
}

impl fmt::Display for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::IoUring => "io_uring",
            Self::Epoll => "epoll",
        })
    }
}

/// One thread's event loop, before anything runs on it.
pub(crate) enum EventLoop {
    IoUring(Runtime<IoUringDriver>),
    Epoll(Runtime<LegacyDriver>),
}

impl EventLoop {
    /// Creates the ring or the epoll descriptor for the calling thread.
    ///
    /// # Errors
    /// The kernel refuses: no descriptors or no locked memory left.
    pub(crate) fn new(engine: Engine) -> io::Result<Self> {
        Ok(match engine {
            Engine::IoUring => Self::IoUring(RuntimeBuilder::<IoUringDriver>::new().build()?),
            Engine::Epoll => Self::Epoll(RuntimeBuilder::<LegacyDriver>::new().build()?),
        })
    }

    /// Runs until the future is done; what it spawned and is not done by then is dropped.
    pub(crate) fn run<F: Future>(&mut self, future: F) -> F::Output {
        match self {
            Self::IoUring(runtime) => runtime.block_on(future),
            Self::Epoll(runtime) => runtime.block_on(future),
        }
    }

    /// The engine it was made for.
    pub(crate) fn engine(&self) -> Engine {
        match self {
            Self::IoUring(_) => Engine::IoUring,
            Self::Epoll(_) => Engine::Epoll,
        }
    }
}
