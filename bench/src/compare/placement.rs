//! Which CPUs the proxy, the client and the upstream get: a pure function of what the machine has.

use rustix::thread::sched_getaffinity;
use std::collections::BTreeMap;

const SHARED: &str = "shared-core, not comparable";
const SIBLINGS: &str = "client and upstream run on siblings of the proxy's own core, which takes some of its \
                        speed: there is one core";

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

/// Places `workers` workers, each on a core of its own whose siblings stay idle; the client gets what is
/// over. Cores count and not their threads: who runs on a sibling takes the proxy's time.
///
/// `cpus` must not be empty.
pub fn place(cpus: &[Cpu], workers: usize) -> Placement {
    let mut cores: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
    for cpu in cpus {
        cores.entry(cpu.core).or_default().push(cpu.number);
    }
    let mut cores: Vec<Vec<u32>> = cores.into_values().collect();
    cores.iter_mut().for_each(|core| core.sort_unstable());
    cores.sort_by_key(|core| core[0]);
    let firsts: Vec<u32> = cores.iter().map(|core| core[0]).collect();
    if cores.len() > workers {
        let others = &firsts[workers..];
        // Siblings of the load's cores take nothing from the proxy.
        let rest = if others.len() > 1 { others.to_vec() } else { cores[workers..].concat() };
        return between(&firsts[..workers], &rest, None);
    }
    let mut siblings: Vec<u32> = cores.iter().flat_map(|core| core[1..].to_vec()).collect();
    siblings.sort_unstable();
    match (cpus.len(), workers) {
        (1, _) => between(&firsts, &firsts, Some("one CPU for everybody")),
        (_, 1) => between(&firsts, &siblings, Some(SIBLINGS)),
        // One core has its threads for all.
        _ if cores.len() < 2 => {
            let all = &cores[0];
            between(all, &all[all.len() - 1..], Some(SHARED))
        }
        _ if siblings.is_empty() => between(&firsts, &firsts[firsts.len() - 1..], Some(SHARED)),
        _ => between(&firsts, &siblings, Some(SHARED)),
    }
}

/// Client and upstream divide `rest`, and share it where it is one CPU.
fn between(proxy: &[u32], rest: &[u32], caveat: Option<&'static str>) -> Placement {
    let (client, upstream) =
        if rest.len() == 1 { (rest, rest) } else { rest.split_at(rest.len().div_ceil(2)) };
    Placement {
        proxy: proxy.to_vec(),
        client: client.to_vec(),
        upstream: upstream.to_vec(),
        caveat,
    }
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
    fn siblings_of_the_proxys_core_stay_idle_on_two_cores_too() {
        assert_eq!(parts(&[0, 0, 2, 2], 1), (vec![0], vec![2], vec![3], false));
        assert_eq!(parts(&[0, 0, 2], 1), (vec![0], vec![2], vec![2], false));
    }

    #[test]
    fn siblings_of_the_only_core_are_used_and_told() {
        assert_eq!(parts(&[0, 0], 1), (vec![0], vec![1], vec![1], true));
        assert_eq!(parts(&[0, 0], 2), (vec![0, 1], vec![1], vec![1], true));
    }

    #[test]
    fn two_workers_need_three_cores_whatever_their_threads() {
        assert_eq!(parts(&[0, 0, 2, 2], 2), (vec![0, 2], vec![1], vec![3], true));
        assert_eq!(parts(&[0, 0, 2, 2, 4, 4], 2), (vec![0, 2], vec![4], vec![5], false));
        assert_eq!(parts(&[0, 1, 2], 2), (vec![0, 1], vec![2], vec![2], false));
    }

    #[test]
    fn what_is_over_goes_to_client_and_upstream() {
        assert_eq!(parts(&[0, 1, 2], 1), (vec![0], vec![1], vec![2], false));
        let many: Vec<u32> = (0..8).collect();
        assert_eq!(parts(&many, 1), (vec![0], vec![1, 2, 3, 4], vec![5, 6, 7], false));
        assert_eq!(parts(&many[..4], 2), (vec![0, 1], vec![2], vec![3], false));
    }
}
