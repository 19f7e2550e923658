//! Figures of the process that the kernel keeps, read at scrape time (`proc(5)`).

use std::fs;
use std::time::Duration;

use rustix::process::{Resource, getrlimit};
use rustix::time::{ClockId, clock_gettime};

/// What the kernel knows of this process; `None` where `/proc` does not tell.
#[derive(Debug)]
pub(super) struct ProcessFigures {
    /// User and system time of all threads.
    pub(super) cpu: Duration,
    /// Resident bytes.
    pub(super) resident_bytes: Option<u64>,
    /// Open descriptors.
    pub(super) open_descriptors: Option<u64>,
    /// Soft limit of descriptors; `None` also when unlimited.
    pub(super) descriptors_max: Option<u64>,
    /// Threads.
    pub(super) threads: Option<u64>,
}

impl ProcessFigures {
    /// Reads them all: four files of `/proc/self` at most.
    pub(super) fn read() -> Self {
        let cpu = clock_gettime(ClockId::ProcessCPUTime);
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        Self {
            cpu: Duration::try_from(cpu).unwrap_or_default(),
            resident_bytes: status_field(&status, "VmRSS:").map(|kib| kib * 1024),
            // The directory's own descriptor is one of those listed.
            open_descriptors: fs::read_dir("/proc/self/fd")
                .ok()
                .map(|entries| (entries.count() as u64).saturating_sub(1)),
            descriptors_max: getrlimit(Resource::Nofile).current,
            threads: status_field(&status, "Threads:"),
        }
    }
}

/// The number after `name` in the text of `/proc/self/status`.
fn status_field(status: &str, name: &str) -> Option<u64> {
    status.lines().find_map(|line| line.strip_prefix(name))?.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_field_is_found_by_its_name() {
        let status = "Name:\tx\nVmRSS:\t    1234 kB\nThreads:\t7\n";
        assert_eq!(status_field(status, "VmRSS:"), Some(1234));
        assert_eq!(status_field(status, "Threads:"), Some(7));
        assert_eq!(status_field(status, "VmSwap:"), None);
        assert_eq!(status_field("VmRSS:\tmany kB", "VmRSS:"), None);
    }

    #[test]
    fn this_process_has_figures() {
        let held = fs::File::open("/proc/self/status").expect("proc is mounted");
        let figures = ProcessFigures::read();
        assert!(figures.resident_bytes.is_some_and(|bytes| bytes > 100 * 1024));
        assert!(figures.open_descriptors.is_some_and(|count| count >= 4), "{held:?} is a fourth");
        assert!(figures.threads.is_some_and(|count| count >= 2), "the harness and this test");
        assert!(figures.cpu > Duration::ZERO);
    }
}
