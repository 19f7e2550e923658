//! How much of a long turn was work.
//!
//! The kernel sends and receives inside the engine's wait, and by the clock alone that looks like waiting. The
//! thread's CPU time tells it: it is asked for where a turn was long, which costs a busy worker a system call
//! each few milliseconds and an idle one nothing to speak of.

use std::time::Duration;

use crate::time::Instant;

/// Shorter turns are nothing that anybody asks about.
const LONG_TURN: Duration = Duration::from_millis(2);

/// What is known of a thread's turns.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Work {
    /// When the last turn ended.
    ended: Instant,
    /// When the thread's CPU time was asked for last, and what it was.
    asked: Option<(Instant, Duration)>,
}

impl Work {
    /// A turn has ended now. For how long of it the thread has worked at the least, if it was long; `cpu_time`
    /// is the thread's, `None` where there is no such thing.
    #[inline]
    pub(crate) fn turned(
        &mut self,
        ended: Instant,
        cpu_time: impl FnOnce() -> Option<Duration>,
    ) -> Duration {
        let turn = ended.since(std::mem::replace(&mut self.ended, ended));
        if turn < LONG_TURN { Duration::ZERO } else { self.judge(turn, cpu_time()) }
    }

    #[cold]
    fn judge(&mut self, turn: Duration, cpu_time: Option<Duration>) -> Duration {
        let Some(cpu_time) = cpu_time else { return Duration::ZERO };
        let asked = self.asked.replace((self.ended, cpu_time));
        let Some((at, cpu_before)) = asked else { return Duration::ZERO };
        // All that it has waited since then may have been in this turn.
        let worked = cpu_time.saturating_sub(cpu_before);
        turn.saturating_sub(self.ended.since(at).saturating_sub(worked))
    }
}

/// The CPU time of the thread that calls (`clock_gettime(2)`, `CLOCK_THREAD_CPUTIME_ID`).
pub(crate) fn thread_cpu_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    /// Turns of so many milliseconds, of which so many were work; what is said of each.
    fn told(turns: &[(u64, u64)]) -> Vec<u64> {
        let mut work = Work::default();
        let (mut now_ms, mut cpu_ms) = (1_000, 0);
        work.turned(Instant::from_nanos(now_ms * MS), || Some(Duration::ZERO));
        let mut told = Vec::new();
        for (turn_ms, worked_ms) in turns {
            (now_ms, cpu_ms) = (now_ms + turn_ms, cpu_ms + worked_ms);
            let ended = Instant::from_nanos(now_ms * MS);
            let worked = work.turned(ended, || Some(Duration::from_millis(cpu_ms)));
            told.push(worked.as_millis() as u64);
        }
        told
    }

    #[test]
    fn long_turns_are_told_by_how_much_of_them_was_work() {
        assert_eq!(told(&[(10, 10), (10, 8), (500, 1), (10, 10)]), [10, 8, 1, 10]);
    }

    #[test]
    fn of_what_is_not_known_the_least_is_told() {
        // Short turns are not asked about, and it waited in some of them.
        assert_eq!(told(&[(1, 0), (1, 1), (10, 10), (10, 10)]), [0, 0, 9, 10]);
        assert_eq!(told(&[(1, 0), (1, 0), (1, 0), (1, 0), (3, 3)]), [0, 0, 0, 0, 0]);
        let mut without = Work::default();
        for ms in [10, 20, 30] {
            assert_eq!(without.turned(Instant::from_nanos(ms * MS), || None), Duration::ZERO);
        }
    }

    #[test]
    fn a_thread_that_works_has_cpu_time_and_one_that_sleeps_has_none() {
        let before = thread_cpu_time();
        std::thread::sleep(Duration::from_millis(20));
        let slept = thread_cpu_time() - before;
        assert!(slept < Duration::from_millis(15), "{slept:?}");
        let mut sum = 0_u64;
        while thread_cpu_time() - before <= slept {
            sum = sum.wrapping_mul(31).wrapping_add(1);
        }
        assert_ne!(sum, 1);
    }
}
