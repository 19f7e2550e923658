//! What processes and CPUs used so far, as `/proc` says it: two readings make a figure.

use crate::cpu::ticks_of;
use std::collections::BTreeMap;
use std::ops::Sub;

/// Sums over all threads of some processes since they began.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Usage {
    /// CPU time in user mode, µs.
    pub user_us: f64,
    /// CPU time in the kernel, µs.
    pub system_us: f64,
    /// CPU time by the scheduler's clock, µs: exact where the other two are shares of it by ticks. `None`
    /// where the kernel does not say it.
    pub cpu_us: Option<f64>,
    /// Went to sleep.
    pub voluntary_switches: f64,
    /// Was put aside.
    pub involuntary_switches: f64,
}

impl Usage {
    /// Of all threads that these processes have now; a process that is gone adds nothing.
    pub fn of(pids: &[u32]) -> Self {
        let mut sum = Self::default();
        let mut scheduled = true;
        for pid in pids {
            let [user, system, ..] = ticks_of_process(*pid);
            sum.user_us += user as f64 * tick_us();
            sum.system_us += system as f64 * tick_us();
            for thread in threads_of(*pid) {
                scheduled &= sum.add_thread(*pid, thread);
            }
        }
        sum.cpu_us = sum.cpu_us.filter(|_| scheduled);
        sum
    }

    /// False if the thread is there, but the scheduler does not say what it used.
    fn add_thread(&mut self, pid: u32, thread: u32) -> bool {
        let path = format!("/proc/{pid}/task/{thread}");
        let run_ns = std::fs::read_to_string(format!("{path}/schedstat"))
            .ok()
            .and_then(|text| run_ns_in(&text));
        if let Some(run_ns) = run_ns {
            *self.cpu_us.get_or_insert_default() += run_ns / 1_000.0;
        }
        let Ok(text) = std::fs::read_to_string(format!("{path}/status")) else { return true };
        self.voluntary_switches += field_of(&text, "voluntary_ctxt_switches:");
        self.involuntary_switches += field_of(&text, "nonvoluntary_ctxt_switches:");
        run_ns.is_some()
    }
}

/// Why the CPU time of processes is absent, where it is.
pub fn no_cpu_time() -> Option<String> {
    Usage::of(&[std::process::id()]).cpu_us.is_none().then(|| {
        "this kernel has no /proc/PID/schedstat (CONFIG_SCHED_INFO), and ticks are too coarse"
            .to_owned()
    })
}

/// The first number of schedstat. A kernel that does not count says 0 thrice, and no thread that was
/// started runs for no nanosecond.
fn run_ns_in(schedstat: &str) -> Option<f64> {
    first_number(schedstat).filter(|_| schedstat.split_whitespace().any(|word| word != "0"))
}

impl Sub for Usage {
    type Output = Self;

    fn sub(self, before: Self) -> Self {
        // A thread that ended between the readings took its past with it.
        let less = |now: f64, before: f64| (now - before).max(0.0);
        Self {
            user_us: less(self.user_us, before.user_us),
            system_us: less(self.system_us, before.system_us),
            cpu_us: self.cpu_us.zip(before.cpu_us).map(|(now, before)| less(now, before)),
            voluntary_switches: less(self.voluntary_switches, before.voluntary_switches),
            involuntary_switches: less(self.involuntary_switches, before.involuntary_switches),
        }
    }
}

/// The threads that a process has now.
pub fn threads_of(pid: u32) -> Vec<u32> {
    let Ok(entries) = std::fs::read_dir(format!("/proc/{pid}/task")) else { return Vec::new() };
    entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

/// Resident memory of some processes together. What they share counts for each of them.
pub fn resident_kib(pids: &[u32]) -> f64 {
    let of = |pid: &u32| {
        let text = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        field_of(&text, "VmRSS:")
    };
    pids.iter().map(of).sum()
}

/// CPU time of a process so far in µs, without its children.
pub fn own_us(pid: u32) -> f64 {
    let [user, system, ..] = ticks_of_process(pid);
    (user + system) as f64 * tick_us()
}

/// CPU time in µs of the children of a process that ended and that it waited for.
pub fn children_us(pid: u32) -> f64 {
    let [.., user, system] = ticks_of_process(pid);
    (user + system) as f64 * tick_us()
}

/// As [`ticks_of`]; zeros for a process that is gone.
fn ticks_of_process(pid: u32) -> [u64; 4] {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    ticks_of(&text).unwrap_or_default()
}

/// The CPUs that a process may use; none if it is gone.
pub fn affinity_of(pid: u32) -> Vec<u32> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let list = text.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
    cpus_of(list.unwrap_or_default())
}

/// Of a list as the kernel writes it: `0-2,5`.
fn cpus_of(list: &str) -> Vec<u32> {
    let range = |text: &str| {
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        Some(first.trim().parse::<u32>().ok()?..=last.trim().parse().ok()?)
    };
    list.split(',').filter_map(range).flatten().collect()
}

fn tick_us() -> f64 {
    1_000_000.0 / rustix::param::clock_ticks_per_second() as f64
}

fn first_number(text: &str) -> Option<f64> {
    text.split_whitespace().next()?.parse().ok()
}

/// The number behind a name at the begin of a line; 0 without it.
fn field_of(text: &str, name: &str) -> f64 {
    text.lines().find_map(|line| first_number(line.strip_prefix(name)?)).unwrap_or_default()
}

/// Time of one CPU since the machine began, in µs.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct CpuTime {
    /// Threads, of whomever.
    pub threads_us: f64,
    /// Interrupts and what follows on them.
    pub interrupts_us: f64,
    /// Nothing to do.
    pub idle_us: f64,
    /// Taken by the host.
    pub stolen_us: f64,
}

impl CpuTime {
    /// All of it but idle and stolen time.
    pub fn busy_us(self) -> f64 {
        self.threads_us + self.interrupts_us
    }

    /// The share of its time in which it did something, 0 to 1.
    pub fn busy_share(self) -> f64 {
        share(self.busy_us(), self.all_us())
    }

    /// The share that the host took, 0 to 1.
    pub fn stolen_share(self) -> f64 {
        share(self.stolen_us, self.all_us())
    }

    /// Everything.
    pub fn all_us(self) -> f64 {
        self.busy_us() + self.idle_us + self.stolen_us
    }

    fn plus(self, other: Self) -> Self {
        Self {
            threads_us: self.threads_us + other.threads_us,
            interrupts_us: self.interrupts_us + other.interrupts_us,
            idle_us: self.idle_us + other.idle_us,
            stolen_us: self.stolen_us + other.stolen_us,
        }
    }
}

fn share(part: f64, whole: f64) -> f64 {
    if whole > 0.0 { (part / whole).clamp(0.0, 1.0) } else { 0.0 }
}

/// All CPUs of the machine.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct CpuTimes(BTreeMap<u32, CpuTime>);

impl CpuTimes {
    /// As `/proc/stat` has them now.
    pub fn read() -> Self {
        Self::parse(&std::fs::read_to_string("/proc/stat").unwrap_or_default())
    }

    pub(super) fn parse(text: &str) -> Self {
        let line = |line: &str| {
            let mut words = line.strip_prefix("cpu")?.split_whitespace();
            let cpu = words.next()?.parse().ok()?;
            let ticks: Vec<f64> = words.filter_map(|word| word.parse().ok()).collect();
            let us = |index: usize| ticks.get(index).copied().unwrap_or_default() * tick_us();
            let time = CpuTime {
                threads_us: us(0) + us(1) + us(2),
                idle_us: us(3) + us(4),
                interrupts_us: us(5) + us(6),
                stolen_us: us(7),
            };
            Some((cpu, time))
        };
        Self(text.lines().filter(|text| !text.starts_with("cpu ")).filter_map(line).collect())
    }

    /// Since an earlier reading.
    pub fn since(&self, before: &Self) -> Self {
        let less = |now: f64, before: f64| (now - before).max(0.0);
        let of = |(cpu, now): (&u32, &CpuTime)| {
            let then = before.0.get(cpu).copied().unwrap_or_default();
            let time = CpuTime {
                threads_us: less(now.threads_us, then.threads_us),
                interrupts_us: less(now.interrupts_us, then.interrupts_us),
                idle_us: less(now.idle_us, then.idle_us),
                stolen_us: less(now.stolen_us, then.stolen_us),
            };
            (*cpu, time)
        };
        Self(self.0.iter().map(of).collect())
    }

    /// Some of them together.
    pub fn of(&self, cpus: &[u32]) -> CpuTime {
        let chosen = self.0.iter().filter(|(cpu, _)| cpus.contains(cpu));
        chosen.fold(CpuTime::default(), |sum, (_, time)| sum.plus(*time))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_readings_of_cpus_make_shares() {
        let before =
            CpuTimes::parse("cpu  9 9 9 9\ncpu0 0 0 0 0 0 0 0 0 0 0\ncpu1 5 0 5 90 0 0 0 0\n");
        let after = CpuTimes::parse(
            "cpu  9 9 9 9\ncpu0 60 0 20 10 0 0 0 10 0 0\ncpu1 5 0 5 190 0 0 0 0\nintr 1\n",
        );
        let since = after.since(&before);
        assert_eq!(since.of(&[0]).busy_share(), 0.8);
        assert_eq!(since.of(&[0]).stolen_share(), 0.1);
        assert_eq!(since.of(&[1]).busy_share(), 0.0);
        assert_eq!(since.of(&[0, 1]).busy_share(), 0.4);
    }

    #[test]
    fn this_process_uses_something() {
        let own = std::process::id();
        let usage = Usage::of(&[own]);
        assert_eq!(usage.cpu_us.is_none(), no_cpu_time().is_some());
        assert!(usage.cpu_us.is_none_or(|cpu_us| cpu_us > 0.0), "{usage:?}");
        assert!(resident_kib(&[own]) > 100.0);
        assert!(threads_of(own).contains(&own));
        assert!(!affinity_of(own).is_empty());
    }

    #[test]
    fn time_that_the_scheduler_does_not_say_is_absent_and_not_nothing() {
        assert_eq!(run_ns_in("1234 5 6\n"), Some(1_234.0));
        assert_eq!(run_ns_in("0 0 0\n"), None);
        let usage = |cpu_us| Usage { cpu_us, ..Usage::default() };
        assert_eq!((usage(Some(3.0)) - usage(Some(1.0))).cpu_us, Some(2.0));
        assert_eq!((usage(None) - usage(Some(1.0))).cpu_us, None);
    }

    #[test]
    fn reads_lists_of_cpus() {
        assert_eq!(cpus_of("\t0-2,5\n"), [0, 1, 2, 5]);
        assert!(cpus_of("").is_empty());
    }

    #[test]
    fn a_process_that_is_gone_used_nothing() {
        assert_eq!(Usage::of(&[u32::MAX]), Usage::default());
        assert_eq!(
            field_of("a: 1\nvoluntary_ctxt_switches:\t7\n", "voluntary_ctxt_switches:"),
            7.0
        );
    }
}
