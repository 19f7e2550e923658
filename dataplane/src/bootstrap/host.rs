//! What the machine gives this process: CPUs and descriptors.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::thread::{CpuSet, sched_getaffinity};

use crate::limits;
use crate::pressure::memory_of_cgroup;

/// What the machine gives this process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Host {
    /// CPUs of the affinity mask, rising, at least one.
    pub cpus: Vec<usize>,
    /// CPUs that the process can keep busy: the mask, cut to the cgroup's quota; at least 1.
    pub usable_cpus: usize,
    /// Descriptors that the process may open.
    pub descriptors_max: u64,
    /// Bytes of memory that its cgroup lets it have; `None`: any.
    pub memory_max: Option<u64>,
}

impl Host {
    /// Looks at this machine and raises the limit of descriptors as far as it goes. To be called
    /// once, early, on the main thread before any thread is pinned.
    pub fn observe() -> Self {
        Self {
            cpus: affinity_cpus(),
            usable_cpus: usable_cpus(),
            descriptors_max: raise_nofile(),
            memory_max: memory_of_cgroup(),
        }
    }
}

/// CPUs of the calling thread's affinity mask; CPU 0 alone if the kernel does not tell.
pub fn affinity_cpus() -> Vec<usize> {
    let mask = sched_getaffinity(None).unwrap_or_default();
    let cpus: Vec<usize> = (0..CpuSet::MAX_CPU).filter(|cpu| mask.is_set(*cpu)).collect();
    if cpus.is_empty() { vec![0] } else { cpus }
}

/// How many CPUs the process can keep busy: those of its affinity mask, cut to the CPU quota of its
/// cgroup and of the cgroups above it (v2 `cpu.max`, v1 `cpu.cfs_quota_us`), rounded down; at
/// least 1. The standard library reads just these.
pub fn usable_cpus() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from).min(limits::WORKERS_MAX)
}

/// Raises the soft limit of descriptors to the hard one and returns what holds then. A refusal is
/// no error: the old limit stands.
pub fn raise_nofile() -> u64 {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    let _ = setrlimit(Resource::Nofile, raised);
    getrlimit(Resource::Nofile).current.unwrap_or(limits::DESCRIPTORS_UNLIMITED)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_quota_never_exceeds_the_mask() {
        let host = Host::observe();
        assert!(!host.cpus.is_empty() && host.cpus.is_sorted());
        assert!((1..=host.cpus.len()).contains(&host.usable_cpus), "{host:?}");
    }

    #[test]
    fn a_narrower_mask_means_fewer_cpus() {
        // The mask is the thread's own, so a thread of its own keeps the other tests untouched.
        std::thread::spawn(|| {
            let first = affinity_cpus()[0];
            let mut mask = CpuSet::new();
            mask.set(first);
            rustix::thread::sched_setaffinity(None, &mask).expect("a part of the mask is allowed");
            assert_eq!(affinity_cpus(), [first]);
            assert_eq!(usable_cpus(), 1);
        })
        .join()
        .expect("the thread's assertions hold");
    }

    #[test]
    fn descriptors_are_raised_to_the_hard_limit() {
        let raised = raise_nofile();
        let limit = getrlimit(Resource::Nofile);
        assert_eq!(limit.current, limit.maximum);
        assert_eq!(raised, limit.maximum.unwrap_or(limits::DESCRIPTORS_UNLIMITED));
    }
}
