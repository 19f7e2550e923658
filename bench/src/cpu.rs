//! What this process has cost the machine.
//!
//! The sum is `CLOCK_PROCESS_CPUTIME_ID`, exact to the microsecond; how it splits into user and
//! system is what `/proc/self/stat` says (proc(5), fields 14 and 15), which the kernel scales from
//! its ticks. `getrusage` says the same, but rustix has it not.

use std::fs;

use rustix::time::{ClockId, clock_gettime};

/// CPU time since the process began, or between two moments.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct ProcessTime {
    all_us: u64,
    user_ticks: u64,
    system_ticks: u64,
}

impl ProcessTime {
    pub(crate) fn now() -> Self {
        let all = clock_gettime(ClockId::ProcessCPUTime);
        let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
        let [user_ticks, system_ticks, ..] = ticks_of(&stat).unwrap_or_default();
        let all_us = all.tv_sec.unsigned_abs() * 1_000_000 + all.tv_nsec.unsigned_abs() / 1_000;
        Self { all_us, user_ticks, system_ticks }
    }

    /// What was used since `before`.
    pub(crate) fn since(self, before: Self) -> Self {
        Self {
            all_us: self.all_us.saturating_sub(before.all_us),
            user_ticks: self.user_ticks.saturating_sub(before.user_ticks),
            system_ticks: self.system_ticks.saturating_sub(before.system_ticks),
        }
    }

    /// In the program.
    pub(crate) fn user_us(self) -> u64 {
        // Less than a tick: nobody can tell, so half and half.
        let (user, all) = match self.user_ticks + self.system_ticks {
            0 => (1, 2),
            all => (self.user_ticks, all),
        };
        (self.all_us as f64 * user as f64 / all as f64).round() as u64
    }

    /// In the kernel.
    pub(crate) fn system_us(self) -> u64 {
        self.all_us - self.user_us().min(self.all_us)
    }
}

/// User and system time, and both of the children that were waited for, in ticks, from the text of
/// `/proc/PID/stat` (proc_pid_stat(5), fields 14 to 17); nothing if it is no such text.
pub(crate) fn ticks_of(stat: &str) -> Option<[u64; 4]> {
    // The program's name may contain anything, so count from its end: state is field 3.
    let after_name = stat.rsplit_once(')')?.1;
    let mut ticks = [0; 4];
    let mut fields = after_name.split_ascii_whitespace().skip(11);
    for tick in &mut ticks {
        *tick = fields.next()?.parse().ok()?;
    }
    Some(ticks)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_ticks_after_a_name_with_parentheses() {
        let stat = "1 (a) b) c) R 0 1 1 0 -1 4194304 95 0 0 0 17 4 2 1 20 0";
        assert_eq!(ticks_of(stat), Some([17, 4, 2, 1]));
        assert_eq!(ticks_of(""), None);
    }

    #[test]
    fn user_and_system_add_up() {
        let used = ProcessTime { all_us: 1_001, user_ticks: 1, system_ticks: 2 };
        assert_eq!(used.user_us() + used.system_us(), 1_001);
        assert_eq!(ProcessTime { all_us: 10, ..ProcessTime::default() }.user_us(), 5);
    }

    #[test]
    fn work_costs_something() {
        let before = ProcessTime::now();
        let mut sum = 0_u64;
        while ProcessTime::now().since(before).all_us == 0 {
            sum = std::hint::black_box(sum + 1);
        }
    }
}
