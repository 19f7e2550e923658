//! The machine and the tree, as far as a reader of the numbers needs them.

use super::counters::Countable;
use super::placement::{Cpu, Placement};
use super::processes::output_of;
use crate::results::Environment;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// Everything that is known before the first load.
pub fn environment(cpus: &[Cpu], placement: &Placement, countable: &Countable) -> Environment {
    let cpuinfo = read("/proc/cpuinfo").unwrap_or_default();
    let uname = rustix::system::uname();
    let (system, release) = (uname.sysname().to_string_lossy(), uname.release().to_string_lossy());
    Environment {
        cpu: cpuinfo_field(&cpuinfo, "model name").unwrap_or_else(|| "unknown".to_owned()),
        cpus: cpus.iter().map(|cpu| cpu.number).collect(),
        smt: smt(cpus),
        memory_mib: memory_mib(&read("/proc/meminfo").unwrap_or_default()),
        kernel: format!("{system} {release}"),
        virtualisation: virtualisation(&cpuinfo),
        mitigations: mitigations(),
        congestion_control: read("/proc/sys/net/ipv4/tcp_congestion_control").unwrap_or_default(),
        governor: read("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
        no_counters: countable.no_counters.clone(),
        no_syscalls: countable.no_syscalls.clone(),
        versions: versions(),
        commit: commit(),
        placement: BTreeMap::from([
            ("proxy".to_owned(), placement.proxy.clone()),
            ("client".to_owned(), placement.client.clone()),
            ("upstream".to_owned(), placement.upstream.clone()),
        ]),
        ..Environment::default()
    }
}

fn smt(cpus: &[Cpu]) -> Option<bool> {
    Path::new("/sys/devices/system/cpu/cpu0/topology/thread_siblings_list").exists().then(|| {
        let mut cores: Vec<u32> = cpus.iter().map(|cpu| cpu.core).collect();
        cores.sort_unstable();
        cores.windows(2).any(|pair| pair[0] == pair[1])
    })
}

/// The hypervisor's or container's name where the system has one, else what the CPU says.
fn virtualisation(cpuinfo: &str) -> Option<String> {
    let named =
        output_of(&["systemd-detect-virt"]).filter(|name| !name.is_empty() && name != "none");
    let vendor = || {
        let vendor = read("/sys/class/dmi/id/sys_vendor")?;
        let product = read("/sys/class/dmi/id/product_name").unwrap_or_default();
        has_hypervisor(cpuinfo).then(|| format!("{vendor} {product}").trim().to_owned())
    };
    let flag =
        || has_hypervisor(cpuinfo).then(|| "a hypervisor that does not say its name".to_owned());
    named.or_else(vendor).or_else(flag)
}

fn has_hypervisor(cpuinfo: &str) -> bool {
    cpuinfo_field(cpuinfo, "flags")
        .is_some_and(|flags| flags.split_whitespace().any(|flag| flag == "hypervisor"))
}

fn mitigations() -> BTreeMap<String, String> {
    let Ok(entries) = fs::read_dir("/sys/devices/system/cpu/vulnerabilities") else {
        return BTreeMap::new();
    };
    let of = |entry: fs::DirEntry| {
        let text = fs::read_to_string(entry.path()).ok()?;
        Some((entry.file_name().to_str()?.to_owned(), text.trim().to_owned()))
    };
    entries.flatten().filter_map(of).collect()
}

fn versions() -> BTreeMap<String, String> {
    let mut versions =
        BTreeMap::from([("lateen-bench".to_owned(), env!("CARGO_PKG_VERSION").to_owned())]);
    if let Some(rustc) = output_of(&["rustc", "--version"]) {
        versions.insert("rustc".to_owned(), rustc);
    }
    versions
}

/// Of the tree in which the comparison was started, if it is one.
fn commit() -> Option<String> {
    let commit = output_of(&["git", "rev-parse", "--short=12", "HEAD"])?;
    let differs = output_of(&["git", "status", "--porcelain"]).is_some_and(|text| !text.is_empty());
    Some(if differs { format!("{commit}+") } else { commit })
}

fn read(path: &str) -> Option<String> {
    fs::read_to_string(path).ok().map(|text| text.trim().to_owned())
}

fn cpuinfo_field(text: &str, name: &str) -> Option<String> {
    text.lines().find_map(|line| {
        let (key, value) = line.split_once(':')?;
        (key.trim() == name).then(|| value.trim().to_owned())
    })
}

fn memory_mib(meminfo: &str) -> u64 {
    let kib = meminfo.lines().find_map(|line| {
        line.strip_prefix("MemTotal:")?.split_whitespace().next()?.parse::<u64>().ok()
    });
    kib.unwrap_or_default() / 1024
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_the_kernel_says() {
        let cpuinfo = "processor\t: 0\nmodel name\t: Some CPU: 3 GHz\nflags\t\t: fpu hypervisor\n";
        assert_eq!(cpuinfo_field(cpuinfo, "model name"), Some("Some CPU: 3 GHz".to_owned()));
        assert!(has_hypervisor(cpuinfo) && !has_hypervisor("flags : hypervisors"));
        assert_eq!(memory_mib("MemFree: 1 kB\nMemTotal:       2097152 kB\n"), 2048);
    }

    #[test]
    fn knows_siblings() {
        let cpu = |number, core| Cpu { number, core };
        assert_ne!(smt(&[cpu(0, 0), cpu(1, 1)]), Some(true));
        assert_ne!(smt(&[cpu(0, 0), cpu(1, 0)]), Some(false));
    }
}
