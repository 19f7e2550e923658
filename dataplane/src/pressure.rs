//! How much of its memory and descriptors the process uses.
//!
//! Before: the main thread wakes, because a worker has something to do or because little was left the last
//! time. After: one word says how close the end is, which workers read. Nobody looks while nothing happens.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant};
use std::{fs, io};

use rustix::io::Errno;

use crate::decide::overload::pressure::{Level, Levels};
use crate::limits;
use crate::observe::metrics::Metrics;

/// How close the process is to the end of what it may use, for all threads.
#[derive(Debug, Default)]
pub struct Pressure(AtomicU8);

impl Pressure {
    /// Whether there is little of something.
    #[inline]
    pub fn is_tight(&self) -> bool {
        self.0.load(Ordering::Relaxed) != 0
    }

    /// The levels.
    pub fn levels(&self) -> Levels {
        Levels::of_word(self.0.load(Ordering::Relaxed))
    }

    /// They are these. For the main thread alone.
    pub fn set(&self, levels: Levels) {
        self.0.store(levels.to_word(), Ordering::Relaxed);
    }
}

/// Who looks.
#[derive(Debug)]
pub struct PressureWatch {
    metrics: Arc<Metrics>,
    memory_max: Option<u64>,
    descriptors_max: u64,
    look_at: Instant,
}

impl PressureWatch {
    /// Looks for the first time when it is first called.
    pub fn new(metrics: Arc<Metrics>, memory_max: Option<u64>, descriptors_max: u64) -> Self {
        Self { metrics, memory_max, descriptors_max, look_at: Instant::now() }
    }

    /// Looks, if it is time to. Returns how long the caller may sleep, who would sleep for `sleep` otherwise:
    /// what is short now must be found to be there again, though nothing happens meanwhile.
    pub fn look(&mut self, sleep: Option<Duration>) -> Option<Duration> {
        let now = Instant::now();
        let pressure = &self.metrics.overload.pressure;
        if now >= self.look_at {
            self.look_at = now + limits::PRESSURE_LOOK;
            self.judge(resident_bytes(), open_descriptors());
        }
        match pressure.is_tight() {
            true => {
                let next = self.look_at.saturating_duration_since(now);
                Some(sleep.map_or(next, |sleep| sleep.min(next)))
            }
            false => sleep,
        }
    }

    fn judge(&self, resident_bytes: Option<u64>, descriptors: Option<u64>) {
        let pressure = &self.metrics.overload.pressure;
        let before = pressure.levels();
        // What can't be told is as it was: without a descriptor left nothing can be read.
        let level = |before: Level, used: Option<u64>, most: Option<u64>| match (used, most) {
            (Some(used), Some(most)) => before.after(used, most),
            (None, Some(_)) => before,
            (_, None) => Level::Calm,
        };
        let levels = Levels {
            memory: level(before.memory, resident_bytes, self.memory_max),
            descriptors: level(before.descriptors, descriptors, Some(self.descriptors_max)),
        };
        if levels != before {
            pressure.set(levels);
            tracing::warn!(
                memory = ?levels.memory,
                resident_bytes,
                memory_max = self.memory_max,
                descriptors = ?levels.descriptors,
                open = descriptors,
                descriptors_max = self.descriptors_max,
                "how much is left",
            );
        }
    }
}

/// Resident memory of this process (`proc(5)`: the second word of `statm`, in pages).
fn resident_bytes() -> Option<u64> {
    let text = fs::read_to_string("/proc/self/statm").ok()?;
    let pages: u64 = text.split_whitespace().nth(1)?.parse().ok()?;
    Some(pages * rustix::param::page_size() as u64)
}

/// Open descriptors of this process. Since Linux 6.2 the folder's size says it; before, they are counted, which
/// takes another one: where there is none, all are open.
fn open_descriptors() -> Option<u64> {
    let folder = Path::new("/proc/self/fd");
    match fs::metadata(folder).ok()?.len() {
        0 => count_entries(fs::read_dir(folder)),
        count => Some(count),
    }
}

fn count_entries(folder: io::Result<impl Iterator>) -> Option<u64> {
    match folder {
        // The folder's own descriptor is one of those listed.
        Ok(entries) => Some((entries.count() as u64).saturating_sub(1)),
        Err(error) => {
            let none_left = [Errno::MFILE, Errno::NFILE];
            let errno = Errno::from_io_error(&error);
            errno.is_some_and(|errno| none_left.contains(&errno)).then_some(u64::MAX)
        }
    }
}

/// What the cgroup of this process, and those above it, let it have (cgroup v2, `memory.max`). `None`: as
/// much as there is.
pub fn memory_of_cgroup() -> Option<u64> {
    let groups = fs::read_to_string("/proc/self/cgroup").ok()?;
    let path = groups.lines().find_map(|line| line.strip_prefix("0::/"))?;
    let root = Path::new("/sys/fs/cgroup");
    let group = root.join(path);
    let limit = |folder: &Path| {
        fs::read_to_string(folder.join("memory.max")).ok()?.trim().parse::<u64>().ok()
    };
    group.ancestors().take_while(|folder| folder.starts_with(root)).filter_map(limit).min()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_used_of_what_there_is_makes_the_levels() {
        let metrics = Metrics::new(1);
        let watch = PressureWatch::new(metrics.clone(), Some(1_000), 200);
        let levels = |resident, descriptors| {
            watch.judge(resident, descriptors);
            let levels = metrics.overload.pressure.levels();
            (levels.memory, levels.descriptors)
        };
        assert_eq!(levels(Some(899), Some(179)), (Level::Calm, Level::Calm));
        assert_eq!(levels(Some(900), Some(190)), (Level::Tight, Level::Full));
        assert_eq!(levels(None, None), (Level::Tight, Level::Full), "nothing can be read then");
        assert_eq!(levels(Some(890), Some(100)), (Level::Tight, Level::Calm));
        assert_eq!(levels(None, None), (Level::Tight, Level::Calm));
        let unbounded = PressureWatch::new(metrics.clone(), None, 200);
        unbounded.judge(Some(u64::MAX), Some(1));
        assert!(!metrics.overload.pressure.is_tight());
    }

    #[test]
    fn it_is_looked_again_while_little_is_left_and_else_only_when_called() {
        let metrics = Metrics::new(1);
        let mut calm = PressureWatch::new(metrics.clone(), None, u64::MAX);
        assert_eq!(calm.look(None), None);
        let sleep = Some(Duration::from_millis(500));
        assert_eq!(calm.look(sleep), sleep);
        let mut short = PressureWatch::new(metrics.clone(), Some(1), u64::MAX);
        let wait = short.look(None).expect("it looks again");
        assert!(wait <= limits::PRESSURE_LOOK);
        assert!(short.look(sleep).is_some_and(|wait| Some(wait) <= sleep));
        assert_eq!(metrics.overload.pressure.levels().memory, Level::Full);
    }

    #[test]
    fn where_no_descriptor_is_left_to_count_them_with_all_are_open() {
        let failed = |errno: Errno| count_entries(Err::<std::iter::Empty<()>, _>(errno.into()));
        assert_eq!(failed(Errno::MFILE), Some(u64::MAX));
        assert_eq!(failed(Errno::NOENT), None);
        assert_eq!(count_entries(Ok(0..10)), Some(9));
        let metrics = Metrics::new(1);
        PressureWatch::new(metrics.clone(), None, 200).judge(Some(1), Some(u64::MAX));
        assert_eq!(metrics.overload.pressure.levels().descriptors, Level::Full);
    }

    #[test]
    fn this_process_uses_something() {
        let held: Vec<_> = (0..10).map(|_| fs::File::open("/proc/self/status")).collect();
        assert!(open_descriptors().is_some_and(|count| count >= 13), "{held:?}");
        assert!(resident_bytes().is_some_and(|bytes| bytes > 100 * 1024));
    }
}
