//! The command line, parsed once into an immutable [`Config`](config::Config).
//!
//! Before: nothing. After: `main` starts what was asked for; workers and admin read the config and
//! never change it. [`parse`] does no I/O (what the machine has comes in as a [`host::Host`]),
//! binds nothing, prints nothing: what a user should see is returned.

pub mod config;
mod flags;
pub mod host;
pub mod quick;
mod value;

use std::ffi::OsString;
use std::path::PathBuf;

use clap::Parser;
use clap::error::ErrorKind;

use lateen_snapshot::model::Snapshot;

use crate::bootstrap::config::Config;
use crate::bootstrap::host::Host;

/// What the command line asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// `quick`: run a proxy with this config and snapshot.
    Quick(Box<Quick>),
    /// `run`: run a proxy under a control plane.
    Run(Box<Run>),
    /// `try`: show what it does, against an embedded upstream.
    Try,
    /// `--help` or `--version`: print this on stdout and exit 0.
    Print(String),
}

/// What `quick` runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quick {
    /// The process's config.
    pub config: Config,
    /// Its only snapshot.
    pub snapshot: Snapshot,
}

/// What `run` runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    /// The process's config.
    pub config: Config,
    /// The proxy's name in the mesh.
    pub name: String,
    /// The control plane's socket.
    pub control: PathBuf,
    /// Where the last good snapshot is kept.
    pub state: PathBuf,
}

/// Why nothing can be started: one line, which says what is wrong and how to mend it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BootstrapError {
    /// The command line is wrong.
    #[error("{0}")]
    Usage(String),
    /// The machine does not give what the command line needs.
    #[error("{0}")]
    Host(String),
}

impl BootstrapError {
    /// The process's exit code: 2 for usage, 1 for the rest.
    pub const fn exit_code(&self) -> u8 {
        match self {
            Self::Usage(_) => 2,
            Self::Host(_) => 1,
        }
    }
}

/// Parses `arguments` (the program's name first, as [`std::env::args_os`] gives them).
///
/// # Errors
/// [`BootstrapError::Usage`] for a flag that is unknown, missing, malformed or at odds with
/// another; [`BootstrapError::Host`] when there are too few descriptors.
pub fn parse<I, A>(arguments: I, host: &Host) -> Result<Command, BootstrapError>
where
    I: IntoIterator<Item = A>,
    A: Into<OsString> + Clone,
{
    let arguments: Vec<OsString> = arguments.into_iter().map(Into::into).collect();
    let help = match arguments.get(1).and_then(|command| command.to_str()) {
        Some("run") => "lateen-proxy run --help",
        Some(_) => "lateen-proxy quick --help",
        None => "lateen-proxy --help",
    };
    take(arguments, host).map_err(|error| match error {
        BootstrapError::Usage(line) => BootstrapError::Usage(format!("{line}; see `{help}`")),
        BootstrapError::Host(_) => error,
    })
}

fn take(arguments: Vec<OsString>, host: &Host) -> Result<Command, BootstrapError> {
    match flags::CommandLine::try_parse_from(arguments) {
        Ok(line) => match line.command {
            flags::Subcommand::Quick(flags) => {
                Ok(Command::Quick(Box::new(flags.into_quick(host)?)))
            }
            flags::Subcommand::Run(flags) => Ok(Command::Run(Box::new(flags.into_run(host)?))),
            flags::Subcommand::Try => Ok(Command::Try),
        },
        Err(error) => match error.kind() {
            ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
                Ok(Command::Print(error.to_string()))
            }
            ErrorKind::MissingSubcommand | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
                Err(BootstrapError::Usage(NO_COMMAND.to_owned()))
            }
            _ => Err(BootstrapError::Usage(one_line(&error.to_string()))),
        },
    }
}

const NO_COMMAND: &str = "no command given; run `lateen-proxy try` for a first look, or \
    `lateen-proxy quick --listen 127.0.0.1:8080 --upstream 127.0.0.1:9000`";

/// Condenses clap's report of several paragraphs into a line: what is wrong, and its tips. The usage paragraph and what follows it are left out.
fn one_line(report: &str) -> String {
    let mut line = String::new();
    for part in report.lines().map(str::trim).take_while(|part| !part.starts_with("Usage:")) {
        if part.is_empty() || part.starts_with("For more information") {
            continue;
        }
        let part = part.strip_prefix("error: ").unwrap_or(part);
        if !line.is_empty() {
            // A part that ends in a colon announces the next one.
            line.push_str(if line.ends_with(':') { " " } else { "; " });
        }
        line.push_str(part);
    }
    line
}

#[cfg(test)]
#[path = "bootstrap/tests.rs"]
mod tests;
