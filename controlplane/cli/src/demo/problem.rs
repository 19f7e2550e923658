//! Why the demo could not go on.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

/// Why the demo could not go on.
#[derive(Debug, thiserror::Error)]
pub(super) enum DemoError {
    /// Ctrl-C, or a signal like it.
    #[error("ended before the show was over, as asked")]
    Interrupted,
    /// The system refused.
    #[error("{what}: {cause}")]
    System {
        /// What it was asked for.
        what: String,
        /// What it said.
        cause: io::Error,
    },
    /// There are not enough ports below those that the system hands out itself.
    #[error("{needed} free ports are needed on 127.0.0.1, and only {found} were found")]
    Ports {
        /// So many.
        needed: usize,
        /// So few.
        found: usize,
    },
    /// A process is gone that should be there.
    #[error("{name} ended by itself ({status}); it said last:\n{last_words}")]
    Ended {
        /// Which.
        name: String,
        /// How.
        status: String,
        /// The end of its log.
        last_words: String,
    },
    /// A command of the CLI failed.
    #[error("`lateen {command}` failed:\n{said}")]
    Command {
        /// Which.
        command: String,
        /// Its stdout and stderr.
        said: String,
    },
    /// Something did not happen.
    #[error("not within {} s: {what}{detail}; the logs are in {}", limit.as_secs(), logs.display())]
    NotInTime {
        /// What was waited for.
        what: &'static str,
        /// How far it came.
        detail: String,
        /// How long it was waited for.
        limit: Duration,
        /// Where one may look.
        logs: PathBuf,
    },
    /// Nobody sees the demo any more.
    #[error("the output cannot be written: {0}")]
    Output(io::Error),
}

impl DemoError {
    /// What the system was asked for, for [`Result::map_err`].
    pub(super) fn system(what: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let what = what.into();
        move |cause| Self::System { what, cause }
    }
}
