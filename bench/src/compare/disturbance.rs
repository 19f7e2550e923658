//! How busy the CPUs were during a load, by whom, and whether that spoils the sample.

use super::placement::Placement;
use super::processes::descendants;
use super::usage::{CpuTimes, affinity_of, children_us, own_us};
use crate::results::Busy;
use std::collections::BTreeMap;
use std::time::Instant;

/// Of the CPUs of a part, by whoever is no part of the comparison.
pub const OTHERS_MAX: f64 = 0.10;
/// Of the CPUs of a part, by its host.
pub const STOLEN_MAX: f64 = 0.05;

/// One moment of the machine.
#[derive(Debug)]
pub struct Moment {
    at: Instant,
    cpus: CpuTimes,
    ours: BTreeMap<u32, Ours>,
    /// Of programs that ended: of those, only loads end between two moments.
    ended_us: f64,
}

/// What a process of the comparison used since it began.
#[derive(Debug, Clone, PartialEq)]
struct Ours {
    cpus: Vec<u32>,
    used_us: f64,
}

impl Moment {
    /// This one.
    pub fn now() -> Self {
        let own = std::process::id();
        let mut ours = BTreeMap::new();
        for pid in descendants(own).into_iter().chain([own]) {
            let children_us = if pid == own { 0.0 } else { children_us(pid) };
            let used_us = own_us(pid) + children_us;
            ours.insert(pid, Ours { cpus: affinity_of(pid), used_us });
        }
        Self { at: Instant::now(), cpus: CpuTimes::read(), ours, ended_us: children_us(own) }
    }

    /// What the comparison itself used since an earlier moment, by the CPUs that it may use for it.
    fn ours_since(&self, before: &Self, placement: &Placement) -> Vec<Ours> {
        let since = |(pid, now): (&u32, &Ours)| {
            let then_us = before.ours.get(pid).map_or(0.0, |then| then.used_us);
            Ours { used_us: (now.used_us - then_us).max(0.0), ..now.clone() }
        };
        let ended_us = (self.ended_us - before.ended_us).max(0.0);
        let ended = Ours { cpus: placement.client.clone(), used_us: ended_us };
        self.ours.iter().map(since).chain([ended]).collect()
    }
}

/// What passed between two moments.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Spent {
    /// By the clock.
    pub elapsed_s: f64,
    /// CPU time of the load's own threads.
    pub client_us: f64,
    /// CPU time of the upstream's own threads.
    pub upstream_us: f64,
}

/// Shares of CPUs between two moments.
pub fn busy(before: &Moment, after: &Moment, placement: &Placement, spent: Spent) -> Busy {
    let cpus = after.cpus.since(&before.cpus);
    let proxy = cpus.of(&placement.proxy);
    let of = |used_us: f64, cpus: usize| used_us / (spent.elapsed_s * 1e6 * cpus as f64).max(1.0);
    let ours = after.ours_since(before, placement);
    Busy {
        proxy_cpu: proxy.busy_share(),
        client_cpu: cpus.of(&placement.client).busy_share(),
        client_process: of(spent.client_us, placement.client.len()),
        upstream_process: of(spent.upstream_us, placement.upstream.len()),
        proxy_cpu_us: proxy.busy_us(),
        proxy_cpu_instructions: None,
        others: others(&cpus, &ours, placement, interrupts_are_apart()),
        stolen: worst(parts(placement).iter().map(|part| cpus.of(part).stolen_share())),
    }
}

/// The share that others had of the CPUs of a part, of that which they hit worst: of all CPUs together, a
/// neighbour on the proxy's would hardly show on a large machine.
fn others(cpus: &CpuTimes, ours: &[Ours], placement: &Placement, interrupts_apart: bool) -> f64 {
    let share = |part: &Vec<u32>| {
        let time = cpus.of(part);
        let busy_us = if interrupts_apart { time.threads_us } else { time.busy_us() };
        let here = ours.iter().filter(|one| one.cpus.iter().any(|cpu| part.contains(cpu)));
        let others_us = busy_us - here.map(|one| one.used_us).sum::<f64>();
        if time.all_us() > 0.0 { (others_us / time.all_us()).clamp(0.0, 1.0) } else { 0.0 }
    };
    worst(parts(placement).iter().map(share))
}

fn worst(shares: impl Iterator<Item = f64>) -> f64 {
    shares.fold(0.0, f64::max)
}

/// CPUs by part; parts that share one count as one, as nobody can tell who used it.
fn parts(placement: &Placement) -> Vec<Vec<u32>> {
    let mut parts: Vec<Vec<u32>> = Vec::new();
    for part in [&placement.proxy, &placement.client, &placement.upstream] {
        let shared = |one: &Vec<u32>| one.iter().any(|cpu| part.contains(cpu));
        let (mut same, apart): (Vec<_>, Vec<_>) = parts.into_iter().partition(shared);
        same.push(part.clone());
        let mut joined = same.concat();
        joined.sort_unstable();
        joined.dedup();
        parts = apart;
        parts.push(joined);
    }
    parts
}

/// Between two moments, by the clock.
pub fn elapsed_s(before: &Moment, after: &Moment) -> f64 {
    after.at.duration_since(before.at).as_secs_f64()
}

/// Why a sample does not count, if so much else ran beside it.
pub fn verdict(busy: &Busy) -> Option<String> {
    let percent = |share: f64| format!("{:.0} %", share * 100.0);
    if busy.others > OTHERS_MAX {
        let (others, most) = (percent(busy.others), percent(OTHERS_MAX));
        return Some(format!(
            "disturbed: others used {others} of the CPUs of a part (more than {most})"
        ));
    }
    if busy.stolen > STOLEN_MAX {
        let (stolen, most) = (percent(busy.stolen), percent(STOLEN_MAX));
        return Some(format!(
            "disturbed: the host took {stolen} of the CPUs of a part (more than {most})"
        ));
    }
    None
}

/// Whether time in interrupts is missing in the time of threads (CONFIG_IRQ_TIME_ACCOUNTING). On a
/// loopback that is the better part of TCP: taken for the work of others it would disturb every sample.
/// Where it can't be known it is assumed.
fn interrupts_are_apart() -> bool {
    static APART: std::sync::OnceLock<bool> = std::sync::OnceLock::new();
    *APART.get_or_init(|| kernel_config().is_none_or(|text| asks_for_interrupt_time(&text)))
}

fn asks_for_interrupt_time(config: &str) -> bool {
    config.lines().any(|line| line == "CONFIG_IRQ_TIME_ACCOUNTING=y")
}

fn kernel_config() -> Option<String> {
    let release = rustix::system::uname().release().to_string_lossy().into_owned();
    let boot = format!("/boot/config-{release}");
    let unpack = || super::processes::output_of(&["zcat", "/proc/config.gz"]);
    std::fs::read_to_string(boot).ok().or_else(unpack)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn placement(proxy: &[u32], client: &[u32], upstream: &[u32]) -> Placement {
        let (proxy, client, upstream) = (proxy.to_vec(), client.to_vec(), upstream.to_vec());
        Placement { proxy, client, upstream, caveat: None }
    }

    /// 16 CPUs of which each was used for so many of 100 ticks.
    fn sixteen(used: impl Fn(u32) -> u32, stolen: impl Fn(u32) -> u32) -> CpuTimes {
        let line = |cpu: u32| {
            let (used, stolen) = (used(cpu), stolen(cpu));
            format!("cpu{cpu} {used} 0 0 {} 0 0 0 {stolen} 0 0\n", 100 - used - stolen)
        };
        CpuTimes::parse(&(0..16).map(line).collect::<String>())
    }

    #[test]
    fn a_neighbour_on_the_proxys_cpu_is_seen_on_a_large_machine() {
        let placement = placement(&[0], &[1, 2, 3, 4, 5, 6, 7, 8], &[9, 10, 11, 12, 13, 14, 15]);
        let tick_us = sixteen(|_| 0, |_| 0).of(&[0]).all_us() / 100.0;
        let ours =
            |cpus: &[u32], ticks: f64| Ours { cpus: cpus.to_vec(), used_us: ticks * tick_us };
        // The proxy gets 20 of the 100 ticks of its CPU, and a neighbour the other 80.
        let cpus = sixteen(|cpu| if cpu == 0 { 100 } else { 50 }, |_| 0);
        let all =
            [ours(&[0], 20.0), ours(&placement.client, 400.0), ours(&placement.upstream, 350.0)];
        assert!((others(&cpus, &all, &placement, true) - 0.8).abs() < 1e-9);
        // What is all the proxy's own is no neighbour's; nor can the client's idle CPUs make up for one.
        let all = [ours(&[0], 100.0), all[1].clone(), all[2].clone()];
        assert_eq!(others(&cpus, &all, &placement, true), 0.0);
        let stolen = sixteen(|_| 0, |cpu| if cpu == 0 { 40 } else { 0 });
        let shares = parts(&placement).into_iter().map(|part| stolen.of(&part).stolen_share());
        assert_eq!(worst(shares), 0.4);
    }

    #[test]
    fn parts_that_share_a_cpu_are_judged_together() {
        assert_eq!(parts(&placement(&[0], &[1], &[1])), [vec![0], vec![1]]);
        assert_eq!(parts(&placement(&[0, 1], &[1], &[1])), [vec![0, 1]]);
        assert_eq!(parts(&placement(&[0], &[1], &[2])), [vec![0], vec![1], vec![2]]);
    }

    #[test]
    fn much_other_load_spoils_a_sample() {
        let quiet = Busy { others: 0.10, stolen: 0.05, ..Busy::default() };
        assert_eq!(verdict(&quiet), None);
        let others = verdict(&Busy { others: 0.11, ..Busy::default() }).expect("disturbed");
        assert!(others.contains("others used 11 %"), "{others}");
        let stolen = verdict(&Busy { stolen: 0.2, ..Busy::default() }).expect("disturbed");
        assert!(stolen.contains("the host took 20 %"), "{stolen}");
    }

    #[test]
    fn knows_a_kernel_that_counts_interrupts_apart() {
        assert!(asks_for_interrupt_time("CONFIG_A=y\nCONFIG_IRQ_TIME_ACCOUNTING=y\n"));
        assert!(!asks_for_interrupt_time("# CONFIG_IRQ_TIME_ACCOUNTING is not set\n"));
    }
}
