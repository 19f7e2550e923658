//! What a runtime is made with, and which engine it gets on this host.

use std::os::fd::OwnedFd;

use rustix::event::EventfdFlags;
use rustix::io::Errno;

use crate::engine::epoll::Epoll;
use crate::engine::uring::Uring;
use crate::engine::{Engine, Io};
use crate::features::Features;

/// Which engine to run on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EngineChoice {
    /// io_uring where the host allows it, else epoll.
    Auto,
    /// io_uring or nothing.
    Uring,
    /// epoll.
    Epoll,
}

/// What a runtime is made with.
#[derive(Clone, Debug)]
pub struct Config {
    /// Which engine to run on.
    pub engine: EngineChoice,
    /// Kernel features that the io_uring engine may use.
    pub features: Features,
    /// Size of a receive buffer, in bytes: a multiple of the page size.
    pub buffer_bytes: usize,
    /// Receive buffers at the most: a power of two. Address space is reserved for all of them,
    /// memory is used by those that were received into.
    pub buffers_max: u16,
    /// While more than so many buffers are lent, received bytes are copied out at once and their
    /// buffer goes back: slow peers can't take all of them.
    pub leases_max: u16,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            engine: EngineChoice::Auto,
            features: Features::ALL,
            buffer_bytes: 16 * 1024,
            buffers_max: 2_048,
            leases_max: 1_024,
        }
    }
}

/// Why there is no runtime.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// The engine that was asked for cannot run here.
    #[error(
        "io_uring cannot be used here: {reason}; run with --engine epoll, or allow the io_uring \
         system calls (sysctl kernel.io_uring_disabled, the container's seccomp profile)"
    )]
    Uring {
        /// The kernel's answer in words.
        reason: &'static str,
    },
    /// The kernel refused something that every engine needs.
    #[error("setting up the I/O engine failed: {what}: {errno}")]
    System {
        /// What was asked of the kernel.
        what: &'static str,
        /// Its answer.
        errno: Errno,
    },
    /// 4,096 runtimes live in this process already.
    #[error("too many runtimes in one process")]
    TooMany,
}

pub(crate) fn system(what: &'static str) -> impl Fn(Errno) -> SetupError {
    move |errno| SetupError::System { what, errno }
}

/// Starts the engine that was asked for, or the best that this host allows, and says why that one.
pub(crate) fn start_engine(
    config: &Config,
    io: &Io,
) -> Result<(Engine, &'static str, Option<OwnedFd>), SetupError> {
    let called = call_eventfd()?;
    let eventfd = called.try_clone().map_err(|error| {
        system("duplicating an eventfd")(crate::engine::direct::errno_of(&error))
    })?;
    if config.engine == EngineChoice::Epoll {
        let engine = Epoll::new(eventfd).map_err(system("epoll_create"))?;
        return Ok((Engine::Epoll(Box::new(engine)), "asked for", Some(called)));
    }
    let spare = eventfd.try_clone().map_err(|error| {
        system("duplicating an eventfd")(crate::engine::direct::errno_of(&error))
    })?;
    match Uring::new(io, eventfd, config.features) {
        Ok(engine) => {
            let reason = match config.engine {
                EngineChoice::Uring => "asked for",
                _ => "io_uring is available",
            };
            Ok((Engine::Uring(Box::new(engine)), reason, Some(called)))
        }
        Err(errno) => {
            let reason = uring_refusal(errno);
            if config.engine == EngineChoice::Uring {
                return Err(SetupError::Uring { reason });
            }
            let engine = Epoll::new(spare).map_err(system("epoll_create"))?;
            Ok((Engine::Epoll(Box::new(engine)), reason, Some(called)))
        }
    }
}

fn call_eventfd() -> Result<OwnedFd, SetupError> {
    rustix::event::eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)
        .map_err(system("eventfd"))
}

fn uring_refusal(errno: Errno) -> &'static str {
    match errno {
        Errno::PERM | Errno::ACCESS => {
            "io_uring is forbidden here (seccomp profile or kernel.io_uring_disabled)"
        }
        Errno::NOSYS => "this kernel has no io_uring, or one older than Linux 5.11",
        Errno::NOMEM => "not enough locked memory for a ring (ulimit -l)",
        Errno::MFILE | Errno::NFILE => "no descriptor is left for a ring (ulimit -n)",
        _ => "the kernel refused to set up a ring",
    }
}
