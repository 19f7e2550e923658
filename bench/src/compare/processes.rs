//! Starting, watching and ending the programs of a comparison.
//!
//! A program is started by way of [`start`](super::start), in a process group of its own: so ctrl-C
//! reaches the comparison alone, and whatever the program forks is found again. Whoever holds a
//! [`Running`] holds its processes: they end when it is dropped, also by an error or a panic. Nothing
//! is ever signalled that was not started here.

use super::interrupt::Interrupt;
use anyhow::{Context, bail};
use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use std::fs::{File, OpenOptions};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// From SIGTERM until a program is killed.
const GRACE: Duration = Duration::from_secs(3);
const POLL: Duration = Duration::from_millis(5);
/// Of a program's output, in a message about its failure.
const TAIL_BYTES: usize = 600;

/// What to start, and where.
#[derive(Debug, Clone)]
pub struct Order<'a> {
    /// For messages and for the name of its log.
    pub name: &'a str,
    /// The program and its arguments.
    pub command: &'a [String],
    /// The CPUs it may use.
    pub cpus: &'a [u32],
    /// A cgroup that it joins before it begins.
    pub group: Option<&'a Path>,
    /// Where its standard output goes, if not to the log that has its errors.
    pub stdout: Option<&'a Path>,
}

/// Starts programs that end with this process.
#[derive(Debug, Clone)]
pub struct Starter {
    /// `lateen-bench` itself, whose hidden command `start` pins a program and then becomes it.
    pub launcher: PathBuf,
    /// Logs go there.
    pub directory: PathBuf,
}

impl Starter {
    /// Starts a program. Must be called by a thread that lives as long as the program: its end is the
    /// program's (prctl(2), PR_SET_PDEATHSIG).
    pub fn start(&self, order: &Order) -> anyhow::Result<Running> {
        let log = self.directory.join(format!("{}.log", order.name));
        let errors = append_to(&log)?;
        let output = match order.stdout {
            Some(path) => append_to(path)?,
            None => errors.try_clone()?,
        };
        let cpus: Vec<String> = order.cpus.iter().map(u32::to_string).collect();
        let mut command = Command::new(&self.launcher);
        command.args(["start", "--cpus", &cpus.join(",")]);
        if let Some(group) = order.group {
            command.arg("--group").arg(group);
        }
        let child = command
            .arg("--parent")
            .arg(std::process::id().to_string())
            .arg("--")
            .args(order.command)
            .stdin(Stdio::null())
            .stdout(output)
            .stderr(errors)
            .process_group(0)
            .spawn()
            .with_context(|| format!("{} can't be started", self.launcher.display()))?;
        Ok(Running { name: order.name.to_owned(), child, log, ended: None })
    }
}

fn append_to(path: &Path) -> anyhow::Result<File> {
    let file = OpenOptions::new().create(true).append(true).open(path);
    file.with_context(|| format!("{} can't be written", path.display()))
}

/// A program with all its processes; they end with this value.
#[derive(Debug)]
pub struct Running {
    name: String,
    child: Child,
    log: PathBuf,
    ended: Option<ExitStatus>,
}

impl Running {
    /// Of its first process, which is also the number of its process group.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// All its processes that are alive now.
    pub fn members(&self) -> Vec<u32> {
        let group = self.pid();
        all_processes().into_iter().filter(|one| one.group == group).map(|one| one.pid).collect()
    }

    /// How it ended, if it has.
    pub fn exited(&mut self) -> Option<ExitStatus> {
        if self.ended.is_none() {
            self.ended = self.child.try_wait().ok().flatten();
        }
        self.ended
    }

    /// Why it can't go on, if it ended by itself.
    pub fn check(&mut self) -> anyhow::Result<()> {
        match self.exited() {
            None => Ok(()),
            Some(status) => bail!("{} ended with {status}: {}", self.name, self.last_lines()),
        }
    }

    /// The end of what it printed.
    pub fn last_lines(&self) -> String {
        let text = std::fs::read(&self.log).unwrap_or_default();
        let tail = &text[text.len().saturating_sub(TAIL_BYTES)..];
        let tail = String::from_utf8_lossy(tail).trim().to_owned();
        if tail.is_empty() { "it printed nothing".to_owned() } else { tail }
    }

    /// Sends its first process a signal.
    pub fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, signal).with_context(|| format!("{} can't be signalled", self.name))
    }

    /// Waits until it ends by itself.
    pub fn wait(
        &mut self,
        patience: Duration,
        interrupt: &Interrupt,
    ) -> anyhow::Result<ExitStatus> {
        let end = Instant::now() + patience;
        loop {
            if let Some(status) = self.exited() {
                return Ok(status);
            }
            interrupt.check()?;
            if Instant::now() > end {
                bail!("{} did not end within {patience:?}: {}", self.name, self.last_lines());
            }
            thread::sleep(POLL);
        }
    }

    /// Asks all its processes to end, waits for it, then makes them.
    pub fn stop(&mut self) {
        let members = self.members();
        if self.exited().is_none() {
            let _ = self.signal(Signal::TERM);
        }
        let end = Instant::now() + GRACE;
        while self.exited().is_none() && Instant::now() < end {
            thread::sleep(POLL);
        }
        // A process group keeps its number as long as a process is in it; what is in it now and was
        // before is ours.
        let left = self.members();
        for pid in left.into_iter().filter(|pid| members.contains(pid) || *pid == self.pid()) {
            kill(pid);
        }
        if self.exited().is_none() {
            let _ = self.child.kill();
            self.ended = self.child.wait().ok();
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Kills a process that is not a child of this one, and waits until it is gone.
fn kill(pid: u32) {
    let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) else { return };
    let _ = kill_process(pid, Signal::KILL);
    let end = Instant::now() + GRACE;
    while test_kill_process(pid).is_ok() && !is_zombie(pid) && Instant::now() < end {
        thread::sleep(POLL);
    }
}

fn is_zombie(pid: Pid) -> bool {
    read_stat(pid.as_raw_nonzero().get().unsigned_abs()).is_some_and(|stat| stat.zombie)
}

/// A process as `/proc` has it.
#[derive(Debug, Clone, Copy)]
pub struct Entry {
    /// Its number.
    pub pid: u32,
    /// Its parent's.
    pub parent: u32,
    /// Its process group's.
    pub group: u32,
    zombie: bool,
}

/// All processes of this machine that are visible and alive.
pub fn all_processes() -> Vec<Entry> {
    let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
    entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter_map(read_stat)
        .filter(|entry| !entry.zombie)
        .collect()
}

/// This process's descendants, without itself.
pub fn descendants(pid: u32) -> Vec<u32> {
    let all = all_processes();
    let mut found = vec![pid];
    let mut next = 0;
    while next < found.len() {
        let parent = found[next];
        found.extend(all.iter().filter(|one| one.parent == parent).map(|one| one.pid));
        next += 1;
    }
    found.split_off(1)
}

fn read_stat(pid: u32) -> Option<Entry> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name is in parentheses and may have blanks and parentheses in it.
    let mut fields = text.rsplit_once(')')?.1.split_whitespace();
    let zombie = matches!(fields.next()?, "Z" | "X");
    let parent = fields.next()?.parse().ok()?;
    let group = fields.next()?.parse().ok()?;
    Some(Entry { pid, parent, group, zombie })
}

/// What a program prints, on both streams, if it can be run and ends well.
pub fn output_of(command: &[&str]) -> Option<String> {
    let (program, arguments) = command.split_first()?;
    let output = Command::new(program).args(arguments).stdin(Stdio::null()).output().ok()?;
    let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.push_str(&String::from_utf8_lossy(&output.stderr));
    output.status.success().then(|| text.trim().to_owned())
}
