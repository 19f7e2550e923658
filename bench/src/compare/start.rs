//! What `lateen-bench start` does: it takes the place that a comparison gives a program, and then
//! becomes that program. The comparison could not do so from outside without code that runs between
//! fork and exec, which is unsafe in a program with threads.

use crate::descriptors::raise_past_hard_limit;
use clap::Args;
use rustix::process::{Pid, Signal, getppid, set_parent_process_death_signal};
use rustix::thread::{CpuSet, sched_setaffinity};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;

/// Where a program is to run.
#[derive(Args, Clone, Debug)]
pub struct StartArguments {
    /// CPUs
    #[arg(long, value_delimiter = ',', required = true)]
    pub cpus: Vec<u32>,
    /// Folder of a cgroup to join
    #[arg(long)]
    pub group: Option<PathBuf>,
    /// Process whose end is to be the program's
    #[arg(long)]
    pub parent: u32,
    /// The program and its arguments
    #[arg(last = true, required = true)]
    pub command: Vec<String>,
}

/// Becomes the program; returns only what kept it from that.
pub fn start(arguments: &StartArguments) -> anyhow::Error {
    match prepare(arguments) {
        Ok(()) => {
            let program = &arguments.command[0];
            let error = Command::new(program).args(&arguments.command[1..]).exec();
            anyhow::anyhow!("{program}: {error}")
        }
        Err(error) => error,
    }
}

fn prepare(arguments: &StartArguments) -> anyhow::Result<()> {
    set_parent_process_death_signal(Some(Signal::TERM))?;
    let parent = getppid().map(Pid::as_raw_nonzero);
    anyhow::ensure!(
        parent.is_some_and(|pid| pid.get().unsigned_abs() == arguments.parent),
        "the comparison ended before this program began"
    );
    if let Some(group) = &arguments.group {
        std::fs::write(group.join("cgroup.procs"), std::process::id().to_string())?;
    }
    pin(&arguments.cpus)?;
    raise_past_hard_limit();
    Ok(())
}

/// Holds this thread, and those that it is going to start, to some CPUs.
pub fn pin(numbers: &[u32]) -> anyhow::Result<()> {
    let mut cpus = CpuSet::new();
    for number in numbers {
        cpus.set(*number as usize);
    }
    Ok(sched_setaffinity(None, &cpus)?)
}
