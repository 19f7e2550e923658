//! The proxies that are compared: where each is found, how it is configured for a piece of work, and how
//! its config is changed while it runs. Nothing here starts a process, so that what a proxy is told can
//! be read, and tested, by itself.
//!
//! The rules are the same for all: one process with one worker (but where two are compared, or where a
//! change of config needs a second process), upstream connections that are kept and used again (as many and
//! as long by all, as a smaller pool would be a test of connecting), client connections that are never closed for their age or their count of requests.

pub mod described;
pub mod envoy;
pub mod haproxy;
pub mod lateen;
pub mod nginx;
pub mod reference;
pub mod releases;

use super::scenarios::Family;
use crate::results::Profile;
use rustix::process::Signal;
use std::env;
use std::fmt::Debug;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// Header field by which an answer shows the config that it was made under.
pub const REVISION_HEADER: &str = "x-config";

/// Client connections that every proxy must be able to hold.
pub const CONNECTIONS_MAX: u32 = 12_000;

/// Upstream connections that a proxy keeps when they are idle.
pub const UPSTREAM_IDLE_MAX: u32 = 1_024;

/// For so long, which is longer than any row takes.
pub const UPSTREAM_IDLE_S: u32 = 3_600;

/// A proxy with one set of settings.
pub trait Proxy: Debug {
    /// In results and on the command line.
    fn name(&self) -> &str;

    /// What it is and how it is set, in one sentence.
    fn about(&self) -> String;

    /// Looks for the program. The error says what is missing, and how to get it.
    fn find(&self) -> Result<Found, String>;

    /// How it is started for a piece of work. The error says why it can't do that.
    fn launch(&self, setting: &Setting) -> Result<Launch, String>;
}

/// A program that is there.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Found {
    /// As it says itself.
    pub version: Option<String>,
    /// Day of that version's release, where it is known.
    pub released: Option<String>,
    /// A word where a newer one is known.
    pub newer: Option<String>,
}

/// What a proxy is configured for.
#[derive(Debug, Clone)]
pub struct Setting<'a> {
    /// How much it does beside forwarding.
    pub profile: Profile,
    /// What it forwards.
    pub family: Family,
    /// Bytes of an answer's body.
    pub body_bytes: u64,
    /// Worker threads or processes.
    pub workers: usize,
    /// The CPUs it has.
    pub cpus: &'a [u32],
    /// The port on 127.0.0.1 that it listens on.
    pub listen_port: u16,
    /// The port on 127.0.0.1 that it forwards to.
    pub upstream_port: u16,
    /// A free port for its metrics, in the profile `mesh`.
    pub admin_port: u16,
    /// A folder of its own.
    pub directory: &'a Path,
    /// The number of the config, which each answer then shows in [`REVISION_HEADER`]; with it the config
    /// can be changed while the proxy runs.
    pub revision: Option<u32>,
}

impl Setting<'_> {
    /// A file in its folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// The same, as text: the folder's name is this program's own.
    pub fn path_text(&self, name: &str) -> String {
        self.path(name).to_string_lossy().into_owned()
    }
}

/// How a proxy is started.
#[derive(Debug, Clone, Default)]
pub struct Launch {
    /// Written before the start, and again for each change of config.
    pub files: Vec<ConfigFile>,
    /// The program and its arguments.
    pub command: Vec<String>,
    /// Where its standard output goes, if that is its access log.
    pub stdout: Option<PathBuf>,
    /// Its access log, which is emptied after each load.
    pub access_log: Option<PathBuf>,
    /// What must run first.
    pub companion: Option<Companion>,
    /// How it comes to know that its files changed.
    pub reload: Option<Reload>,
    /// What tells that it works; `None` for the path `/` and the status 200.
    pub ready: Option<Ready>,
}

/// A file with a config.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigFile {
    /// Where it is written.
    pub path: PathBuf,
    /// What is in it.
    pub text: String,
}

/// A program without which the proxy has no config: a control plane.
#[derive(Debug, Clone)]
pub struct Companion {
    /// The program and its arguments.
    pub command: Vec<String>,
    /// Run, again and again until it succeeds, before the proxy is started.
    pub prepare: Vec<String>,
}

/// How a proxy comes to know of a new config, once its files are in place.
#[derive(Debug, Clone)]
pub enum Reload {
    /// By a signal to its first process.
    Signal(Signal),
    /// By a program that tells it.
    Run(Vec<String>),
    /// By itself: it watches the files.
    Watch,
}

/// What a right answer to a first request is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ready {
    /// What is asked for.
    pub path: String,
    /// Its status.
    pub status: u16,
}

/// A program on the path of this process, or where Debian puts daemons.
pub fn on_path(program: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let more = ["/usr/local/sbin", "/usr/sbin", "/sbin"].map(PathBuf::from);
    env::split_paths(&path).chain(more).map(|folder| folder.join(program)).find(|path| runs(path))
}

/// A program of this project: beside this one, or in a target folder above the working directory.
pub fn built_here(program: &str, folders: &[&str]) -> Option<PathBuf> {
    let beside = env::current_exe().ok().and_then(|own| Some(own.parent()?.join(program)));
    let current = env::current_dir().unwrap_or_default();
    let above = current
        .ancestors()
        .flat_map(|folder| folders.iter().map(move |below| folder.join(below).join(program)));
    beside.into_iter().chain(above).find(|path| runs(path))
}

/// The program that was named on the command line, or what `search` finds.
pub fn given_or(
    given: Option<&Path>,
    search: impl FnOnce() -> Option<PathBuf>,
    missing: &str,
) -> Result<PathBuf, String> {
    match given {
        Some(path) if runs(path) => Ok(path.to_owned()),
        Some(path) => Err(format!("{} is no program", path.display())),
        None => search().ok_or_else(|| missing.to_owned()),
    }
}

fn runs(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
}

/// A path in a command line.
pub fn text_of(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

/// A command line from words of different types.
pub fn words<const COUNT: usize>(words: [&str; COUNT]) -> Vec<String> {
    words.map(str::to_owned).into()
}
