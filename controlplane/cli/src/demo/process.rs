//! One process of the demo: this same program, as something else.
//!
//! It ends with the demo, whatever becomes of the demo: by its pid when its [`Process`] is dropped, and by
//! itself when its stdin closes, which the kernel sees to even if the demo is killed. It is in a process
//! group of its own, so that a ctrl-C reaches the demo alone, which then ends everything in order.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;

use clap::Parser;

use super::problem::DemoError;
use crate::arguments::{self, Arguments, DemoPart};

/// The hidden command that a process of the demo is started by.
pub(super) const PART_COMMAND: &str = "demo-part";

/// Where a user's CLI finds the secret of a control plane on a port.
pub(super) const TOKEN_VARIABLE: &str = "LATEEN_API_TOKEN_FILE";

/// Lines of a log that are shown when its process ended by itself.
const LAST_LINES: usize = 8;

/// A running process; dropping it ends it.
#[derive(Debug)]
pub(super) struct Process {
    name: String,
    child: Child,
    /// Its stdout.
    output: PathBuf,
    /// Its stderr.
    log: PathBuf,
}

impl Process {
    /// Starts `program demo-part arguments`; what it says goes into files of `logs`.
    ///
    /// # Errors
    /// The system's.
    pub(super) fn start<'a>(
        program: &Path,
        logs: &Path,
        name: &str,
        arguments: impl IntoIterator<Item = &'a str>,
    ) -> Result<Self, DemoError> {
        let output = logs.join(format!("{name}.out"));
        let log = logs.join(format!("{name}.log"));
        let start = || {
            Command::new(program)
                .arg(PART_COMMAND)
                .args(arguments)
                // The demo's control plane is on a Unix socket, whatever its user's is on.
                .env_remove(TOKEN_VARIABLE)
                .stdin(Stdio::piped())
                .stdout(File::create(&output)?)
                // One that is started anew goes on with its log.
                .stderr(File::options().create(true).append(true).open(&log)?)
                .process_group(0)
                .spawn()
        };
        let child = start().map_err(DemoError::system(format!("starting {name}")))?;
        Ok(Self { name: name.to_owned(), child, output, log })
    }

    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The rest of the line of its stdout that begins with `word`, once it is there whole.
    pub(super) fn said(&self, word: &str) -> Option<String> {
        let said = fs::read_to_string(&self.output).ok()?;
        let whole = &said[..said.rfind('\n')?];
        whole.lines().find_map(|line| Some(line.strip_prefix(word)?.trim().to_owned()))
    }

    /// That it still runs.
    ///
    /// # Errors
    /// [`DemoError::Ended`].
    pub(super) fn check(&mut self) -> Result<(), DemoError> {
        let what = format!("looking after {}", self.name);
        match self.child.try_wait().map_err(DemoError::system(what))? {
            None => Ok(()),
            Some(status) => Err(DemoError::Ended {
                name: self.name.clone(),
                status: status.to_string(),
                last_words: self.last_words(),
            }),
        }
    }

    fn last_words(&self) -> String {
        let text = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(LAST_LINES)..].join("\n")
    }
}

impl Drop for Process {
    /// As `kill -9` does.
    fn drop(&mut self) {
        // Both fail if it is gone already, which is as well.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Ends this process as soon as its stdin does: whoever started it is gone.
///
/// # Errors
/// No thread could be started.
pub(crate) fn end_with_stdin() -> io::Result<()> {
    let wait = || {
        let mut byte = [0];
        loop {
            match io::stdin().read(&mut byte) {
                Ok(1..) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(0) | Err(_) => std::process::exit(0),
            }
        }
    };
    thread::Builder::new().name("stdin".to_owned()).spawn(wait).map(drop)
}

/// What a part of the demo is: wrong arguments end it, as they would on the command line.
pub(crate) fn command_of(part: DemoPart) -> arguments::Command {
    let program = OsString::from("lateen");
    Arguments::parse_from(std::iter::once(program).chain(part.arguments)).command
}
