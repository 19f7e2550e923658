//! How busy the CPUs were during a load, by whom, and whether that spoils the sample.

use super::placement::Placement;
use super::processes::descendants;
use super::usage::{CpuTimes, ours_us};
use crate::results::Busy;
use std::time::Instant;

/// Of the machine, by whoever is no part of the comparison.
pub const OTHERS_MAX: f64 = 0.10;
/// Of the machine, by its host.
pub const STOLEN_MAX: f64 = 0.05;

/// One moment of the machine.
#[derive(Debug)]
pub struct Moment {
    at: Instant,
    cpus: CpuTimes,
    ours_us: f64,
}

impl Moment {
    /// This one.
    pub fn now() -> Self {
        let own = std::process::id();
        Self {
            at: Instant::now(),
            cpus: CpuTimes::read(),
            ours_us: ours_us(own, &descendants(own)),
        }
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
    let all = cpus.all();
    let busy_us = if interrupts_are_apart() { all.threads_us } else { all.busy_us() };
    let others_us = (busy_us - (after.ours_us - before.ours_us)).max(0.0);
    Busy {
        proxy_cpu: proxy.busy_share(),
        client_cpu: cpus.of(&placement.client).busy_share(),
        client_process: of(spent.client_us, placement.client.len()),
        upstream_process: of(spent.upstream_us, placement.upstream.len()),
        proxy_cpu_us: proxy.busy_us(),
        proxy_cpu_instructions: None,
        others: if all.all_us() > 0.0 { (others_us / all.all_us()).clamp(0.0, 1.0) } else { 0.0 },
        stolen: all.stolen_share(),
    }
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
        return Some(format!("disturbed: others used {others} of the machine (more than {most})"));
    }
    if busy.stolen > STOLEN_MAX {
        let (stolen, most) = (percent(busy.stolen), percent(STOLEN_MAX));
        return Some(format!(
            "disturbed: the host took {stolen} of the machine (more than {most})"
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
