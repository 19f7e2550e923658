//! Which CPUs the proxy, the client and the upstream get: a pure function of what the machine has.

use rustix::thread::sched_getaffinity;
use std::collections::BTreeMap;

/// Fewer CPUs than this, and two workers share theirs with the load.
pub const CPUS_FOR_TWO_WORKERS: usize = 4;

/// A CPU with the core that it is a part of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cpu {
    /// The kernel's number.
    pub number: u32,
    /// The lowest number among the siblings of its core.
    pub core: u32,
}

/// CPUs by part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placement {
    /// Of the proxy under measurement.
    pub proxy: Vec<u32>,
    /// Of the load.
    pub client: Vec<u32>,
    /// Of what answers.
    pub upstream: Vec<u32>,
    /// What must be known of figures that are made this way.
    pub caveat: Option<&'static str>,
}

/// Places `workers` workers. A part gets whole cores where there are enough of them, so that no sibling
/// takes its time; the proxy comes first, the client gets what is over.
///
/// `cpus` must not be empty.
pub fn place(cpus: &[Cpu], workers: usize) -> Placement {
    let chosen = chosen_of(cpus, workers);
    let placed = |proxy: &[u32], client: &[u32], upstream: &[u32], caveat| Placement {
        proxy: proxy.to_vec(),
        client: client.to_vec(),
        upstream: upstream.to_vec(),
        caveat,
    };
    if chosen.len() == 1 {
        return placed(&chosen, &chosen, &chosen, Some("one CPU for everybody"));
    }
    if workers > 1 && chosen.len() < CPUS_FOR_TWO_WORKERS {
        let last = &chosen[chosen.len() - 1..];
        return placed(&chosen, last, last, Some("shared-core, not comparable"));
    }
    if chosen.len() == 2 {
        return placed(&chosen[..1], &chosen[1..], &chosen[1..], None);
    }
    let workers = workers.min(chosen.len() - 2);
    let (proxy, rest) = chosen.split_at(workers);
    let (client, upstream) = rest.split_at(rest.len().div_ceil(2));
    placed(proxy, client, upstream, None)
}

/// One CPU of each core where that is enough for all parts, else all.
fn chosen_of(cpus: &[Cpu], workers: usize) -> Vec<u32> {
    let mut firsts: BTreeMap<u32, u32> = BTreeMap::new();
    for cpu in cpus {
        let first = firsts.entry(cpu.core).or_insert(cpu.number);
        *first = (*first).min(cpu.number);
    }
    let needed = if workers > 1 { CPUS_FOR_TWO_WORKERS } else { 3 };
    if firsts.len() >= needed {
        return firsts.into_values().collect();
    }
    // Siblings last: the proxy's own would be the worst neighbour.
    let mut all: Vec<Cpu> = cpus.to_vec();
    all.sort_by_key(|cpu| (firsts.get(&cpu.core) != Some(&cpu.number), cpu.number));
    all.into_iter().map(|cpu| cpu.number).collect()
}

/// The CPUs that this process may use.
pub fn usable_cpus() -> anyhow::Result<Vec<Cpu>> {
    let allowed = sched_getaffinity(None)?;
    let cpus: Vec<Cpu> = (0..rustix::thread::CpuSet::MAX_CPU)
        .filter(|number| allowed.is_set(*number))
        .filter_map(|number| u32::try_from(number).ok())
        .map(|number| Cpu { number, core: core_of(number).unwrap_or(number) })
        .collect();
    anyhow::ensure!(!cpus.is_empty(), "the affinity mask of this process has no CPU");
    Ok(cpus)
}

fn core_of(cpu: u32) -> Option<u32> {
    let path = format!("/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list");
    let text = std::fs::read_to_string(path).ok()?;
    text.trim().split([',', '-']).next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cpus(cores: &[u32]) -> Vec<Cpu> {
        (0..).zip(cores).map(|(number, core)| Cpu { number, core: *core }).collect()
    }

    fn parts(cores: &[u32], workers: usize) -> (Vec<u32>, Vec<u32>, Vec<u32>, bool) {
        let placement = place(&cpus(cores), workers);
        let caveat = placement.caveat.is_some();
        (placement.proxy, placement.client, placement.upstream, caveat)
    }

    #[test]
    fn one_cpu_is_for_everybody() {
        assert_eq!(parts(&[0], 1), (vec![0], vec![0], vec![0], true));
        assert_eq!(parts(&[0], 2), (vec![0], vec![0], vec![0], true));
    }

    #[test]
    fn two_cpus_leave_one_to_the_proxy() {
        assert_eq!(parts(&[0, 1], 1), (vec![0], vec![1], vec![1], false));
        assert_eq!(parts(&[0, 1], 2), (vec![0, 1], vec![1], vec![1], true));
    }

    #[test]
    fn siblings_of_the_proxys_core_stay_idle_where_cores_suffice() {
        assert_eq!(parts(&[0, 1, 2, 0, 1, 2], 1), (vec![0], vec![1], vec![2], false));
        assert_eq!(parts(&[0, 0, 2, 2, 4, 4, 6, 6], 2), (vec![0, 2], vec![4], vec![6], false));
    }

    #[test]
    fn two_cores_with_siblings_keep_the_proxys_sibling_for_last() {
        assert_eq!(parts(&[0, 0, 2, 2], 1), (vec![0], vec![2, 1], vec![3], false));
    }

    #[test]
    fn what_is_over_goes_to_client_and_upstream() {
        assert_eq!(parts(&[0, 1, 2], 1), (vec![0], vec![1], vec![2], false));
        let many: Vec<u32> = (0..8).collect();
        assert_eq!(parts(&many, 1), (vec![0], vec![1, 2, 3, 4], vec![5, 6, 7], false));
        assert_eq!(parts(&many[..4], 2), (vec![0, 1], vec![2], vec![3], false));
    }
}
