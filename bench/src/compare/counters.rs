//! The CPU's own counters and the count of syscalls, by perf_event_open(2). Most virtual machines have
//! no counters, and many systems forbid them: then the figures are absent, and it is said why.

use super::usage::threads_of;
use perf_event::events::{Hardware, Tracepoint};
use perf_event::{Builder, Counter};
use std::io;

/// Totals since the counting began.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Counts {
    /// Instructions in user mode.
    pub instructions_user: f64,
    /// Instructions in the kernel.
    pub instructions_kernel: f64,
    /// Cycles in both.
    pub cycles: f64,
}

/// What can be counted on this machine.
#[derive(Debug, Clone, Default)]
pub struct Countable {
    /// Why instructions of a process can't be.
    pub no_counters: Option<String>,
    /// Why those of whole CPUs can't be, which needs more privilege.
    pub no_cpu_counters: Option<String>,
    /// Why syscalls can't be.
    pub no_syscalls: Option<String>,
}

impl Countable {
    /// Tries it on this process and on a CPU that is going to be counted.
    pub fn here(cpu: u32) -> Self {
        let own = std::process::id();
        let why = |error: anyhow::Error| format!("{error:#}");
        Self {
            no_counters: Counting::of(&[own], &[]).err().map(why),
            no_cpu_counters: Counting::of(&[], &[cpu]).err().map(why),
            no_syscalls: SyscallCounting::of(&[own]).err().map(why),
        }
    }
}

/// Counters on all threads of some processes, and on some whole CPUs.
#[derive(Debug)]
pub struct Counting {
    user: Vec<Counter>,
    kernel: Vec<Counter>,
    cycles: Vec<Counter>,
    cpus: Vec<Counter>,
}

impl Counting {
    /// Begins to count. Threads that come later are counted with the one that made them.
    pub fn of(pids: &[u32], cpus: &[u32]) -> anyhow::Result<Self> {
        let mut counting =
            Self { user: Vec::new(), kernel: Vec::new(), cycles: Vec::new(), cpus: Vec::new() };
        let instructions = || Builder::new(Hardware::INSTRUCTIONS);
        for thread in pids.iter().flat_map(|pid| threads_of(*pid)) {
            let thread = thread.cast_signed();
            counting.user.extend(begin(instructions().exclude_kernel(true), thread)?);
            counting
                .kernel
                .extend(begin(instructions().include_kernel().exclude_user(true), thread)?);
            let cycles = &mut Builder::new(Hardware::CPU_CYCLES);
            counting.cycles.extend(begin(cycles.include_kernel(), thread)?);
        }
        for cpu in cpus {
            let mut builder = instructions();
            builder.include_kernel().any_pid().one_cpu(*cpu as usize);
            let counter = builder.build().and_then(enable);
            counting.cpus.push(counter.map_err(explain)?);
        }
        Ok(counting)
    }

    /// Of the processes.
    pub fn read(&mut self) -> anyhow::Result<Counts> {
        Ok(Counts {
            instructions_user: sum(&mut self.user)?,
            instructions_kernel: sum(&mut self.kernel)?,
            cycles: sum(&mut self.cycles)?,
        })
    }

    /// Instructions of the whole CPUs, if any are counted.
    pub fn read_cpus(&mut self) -> anyhow::Result<Option<f64>> {
        if self.cpus.is_empty() {
            return Ok(None);
        }
        sum(&mut self.cpus).map(Some)
    }
}

/// A tracepoint on all threads of some processes. It slows each of their syscalls.
#[derive(Debug)]
pub struct SyscallCounting(Vec<Counter>);

impl SyscallCounting {
    /// Begins to count.
    pub fn of(pids: &[u32]) -> anyhow::Result<Self> {
        let event = Tracepoint::with_id(sys_enter_id()?);
        let mut counters = Vec::new();
        for thread in pids.iter().flat_map(|pid| threads_of(*pid)) {
            let mut builder = Builder::new(event);
            counters.extend(begin(builder.include_kernel(), thread.cast_signed())?);
        }
        Ok(Self(counters))
    }

    /// Since then.
    pub fn read(&mut self) -> anyhow::Result<f64> {
        sum(&mut self.0)
    }
}

fn sys_enter_id() -> anyhow::Result<u64> {
    const PLACES: [&str; 2] = ["/sys/kernel/tracing", "/sys/kernel/debug/tracing"];
    let read = |place| std::fs::read_to_string(format!("{place}/events/raw_syscalls/sys_enter/id"));
    let text = PLACES.into_iter().find_map(|place| read(place).ok());
    let text = text.ok_or_else(|| {
        anyhow::anyhow!(
            "no tracefs at {}, or it can't be read (as root: mount -t tracefs none {0})",
            PLACES[0]
        )
    })?;
    Ok(text.trim().parse()?)
}

/// Begins on one thread; `None` if it ended meanwhile.
fn begin(builder: &mut Builder, thread: i32) -> anyhow::Result<Option<Counter>> {
    builder.observe_pid(thread).any_cpu().inherit(true);
    match builder.build().and_then(enable) {
        Ok(counter) => Ok(Some(counter)),
        Err(error) if error.raw_os_error() == Some(rustix::io::Errno::SRCH.raw_os_error()) => {
            Ok(None)
        }
        Err(error) => Err(explain(error)),
    }
}

fn enable(mut counter: Counter) -> io::Result<Counter> {
    counter.enable()?;
    Ok(counter)
}

fn explain(error: io::Error) -> anyhow::Error {
    match error.kind() {
        io::ErrorKind::PermissionDenied => anyhow::anyhow!(
            "perf_event_open is not permitted ({error}): needs CAP_PERFMON, or \
             kernel.perf_event_paranoid = -1"
        ),
        io::ErrorKind::NotFound => {
            anyhow::anyhow!(
                "this machine has no hardware counters, as most virtual machines ({error})"
            )
        }
        _ => anyhow::anyhow!("perf_event_open: {error}"),
    }
}

/// Counts that ran for a part of the time, because the CPU has too few counters, are scaled up.
fn sum(counters: &mut [Counter]) -> anyhow::Result<f64> {
    let mut total = 0.0;
    for counter in counters {
        let data = counter.read_full()?;
        let seconds = |time: Option<std::time::Duration>| time.map(|time| time.as_secs_f64());
        let scale = match (seconds(data.time_enabled()), seconds(data.time_running())) {
            (Some(enabled), Some(running)) if running > 0.0 => enabled / running,
            _ => 1.0,
        };
        total += data.count() as f64 * scale;
    }
    Ok(total)
}

#[cfg(test)]
mod tests {
    use super::*;
    use perf_event::events::Software;

    /// By the same calls as instructions, on a machine that may have no counters for those. A kernel that
    /// permits nothing at all (perf_event_paranoid above 2) must be told as that.
    #[test]
    fn counts_a_thread_from_outside_or_says_that_it_may_not() {
        let own = rustix::thread::gettid().as_raw_nonzero().get();
        match begin(&mut Builder::new(Software::PAGE_FAULTS), own) {
            Ok(counter) => {
                let mut counters = [counter.expect("this thread is there")];
                let before = sum(&mut counters).expect("a count");
                let touched = vec![1_u8; 8 << 20];
                assert!(touched.iter().all(|byte| *byte == 1));
                assert!(sum(&mut counters).expect("a count") > before);
            }
            Err(error) => {
                let why = error.to_string();
                assert!(why.contains("is not permitted") && why.contains("CAP_PERFMON"), "{why}");
            }
        }
    }

    #[test]
    fn a_thread_that_is_gone_is_no_error() {
        let counter = begin(&mut Builder::new(Software::PAGE_FAULTS), i32::MAX - 1);
        assert!(counter.is_ok_and(|counter| counter.is_none()));
    }

    #[test]
    fn what_can_not_be_counted_has_a_reason() {
        let nowhere = Countable::here(u32::MAX);
        let why = nowhere.no_cpu_counters.expect("there is no such CPU");
        assert!(why.contains("perf_event_open") || why.contains("no hardware counters"), "{why}");
        for (number, part) in
            [(1, "CAP_PERFMON"), (2, "no hardware counters"), (22, "(os error 22)")]
        {
            let why = explain(io::Error::from_raw_os_error(number)).to_string();
            assert!(why.contains(part), "{why}");
        }
    }

    #[test]
    fn a_process_is_counted_where_whole_cpus_may_not_be() {
        let mut counting = Counting::of(&[], &[]).expect("nothing is needed");
        assert_eq!(counting.read_cpus().expect("nothing is read"), None);
    }
}
