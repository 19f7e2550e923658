//! What a comparison found: written by `compare`, read by `report` and by `perf/gate`.
//!
//! A file holds every sample as it was taken, with what was wrong about it, and no conclusion: ratios,
//! medians and verdicts are made from it by `statistics`, each time anew.

use crate::load::summary::LoadReport;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Of this file; a reader refuses another.
pub const FORMAT: u32 = 1;

/// A whole comparison.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Results {
    /// [`FORMAT`].
    pub format: u32,
    /// When it began, RFC 3339, UTC.
    pub started: String,
    /// How long it took.
    pub took_s: f64,
    /// The command line, without the program's path.
    pub command: Vec<String>,
    /// Whether ctrl-C ended it before all rows were done.
    pub interrupted: bool,
    /// The machine, and what was said about it.
    pub environment: Environment,
    /// All peers that were asked for, in the order of their first run, with those that did not run.
    pub peers: Vec<Peer>,
    /// One for each scenario and profile.
    pub rows: Vec<Row>,
}

/// The machine, as far as a reader of the numbers needs it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Environment {
    /// Model name of the first CPU.
    pub cpu: String,
    /// CPUs that the run was allowed to use.
    pub cpus: Vec<u32>,
    /// Whether siblings of one core are among them; `None` where the machine does not say.
    pub smt: Option<bool>,
    /// Memory of the machine.
    pub memory_mib: u64,
    /// Of `uname -sr`.
    pub kernel: String,
    /// The hypervisor or container, where one is known.
    pub virtualisation: Option<String>,
    /// By name, as `/sys/devices/system/cpu/vulnerabilities` says them.
    pub mitigations: BTreeMap<String, String>,
    /// TCP congestion control.
    pub congestion_control: String,
    /// Frequency governor, where there is one.
    pub governor: Option<String>,
    /// Whether time in this run is a count of instructions (an emulated machine).
    pub instruction_clock: bool,
    /// Why hardware counters are absent; `None` where they are there.
    pub no_counters: Option<String>,
    /// Why syscalls could not be counted; `None` where they could.
    pub no_syscalls: Option<String>,
    /// Versions by tool: `lateen-bench`, `rustc`, ….
    pub versions: BTreeMap<String, String>,
    /// Commit of the tree that the run was started in, with `+` behind it where files differ.
    pub commit: Option<String>,
    /// What drove the load: `io_uring` or `epoll`.
    pub load_engine: String,
    /// CPUs by part: `proxy`, `client`, `upstream`.
    pub placement: BTreeMap<String, Vec<u32>>,
    /// What else must be known, in sentences.
    pub remarks: Vec<String>,
}

/// A proxy, with one set of settings; or `direct`, which is none.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Peer {
    /// `lateen`, `lateen-epoll`, `nginx`, `nginx-tuned`, `haproxy`, `haproxy-tuned`, `envoy`, `floor`,
    /// `direct`, or what its description calls it.
    pub name: String,
    /// What it is and how it is set, in one sentence.
    pub about: String,
    /// As the program says it.
    pub version: Option<String>,
    /// Day of that version's release, where known.
    pub released: Option<String>,
    /// A word where a newer stable version is known.
    pub newer: Option<String>,
    /// Its config by profile and scenario family, as it was written: file name and text.
    pub configs: BTreeMap<String, String>,
    /// Why it did not run at all.
    pub not_run: Option<String>,
}

/// How much a proxy does beside forwarding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Profile {
    /// No logs and no ids.
    Bare,
    /// X-Forwarded-For, request id, JSON access log, metrics.
    Mesh,
}

/// What a row is about, which decides what of its samples is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// As much as it can carry: throughput and cost.
    Throughput,
    /// The same rate for all: cost, and latency from when a request was due.
    Latency,
    /// What connections take.
    Memory,
    /// What a change of config does to traffic.
    Change,
}

/// One scenario under one profile, with all peers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// `http1-keepalive-64`, ….
    pub scenario: String,
    /// How much the proxies did.
    pub profile: Profile,
    /// What is read.
    pub kind: Kind,
    /// What the scenario is, in one sentence.
    pub title: String,
    /// What cost is divided by: `request`, `MiB`, `message`, `connection`.
    pub unit: String,
    /// How many of `unit` one right answer is.
    pub units_per_answer: f64,
    /// What must be known before this row is compared (`shared-core, not comparable`).
    pub caveats: Vec<String>,
    /// By peer, in the order of a round.
    pub entries: Vec<Entry>,
}

/// A peer in a row.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// [`Peer::name`].
    pub peer: String,
    /// Why it has no samples here.
    pub not_run: Option<String>,
    /// One for each round, those that were thrown away too.
    pub samples: Vec<Sample>,
}

/// One run of one peer. Samples of one round belong together.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    /// From 0.
    pub round: u32,
    /// Why it does not count: other load on the machine, wrong answers, ….
    pub discarded: Option<String>,
    /// Set apart within a row: rate as a share of capacity (`25 % of the slowest`), or `as much as it can`.
    pub point: String,
    /// The load and its answers.
    pub load: Option<LoadReport>,
    /// What the proxy used for it.
    pub cost: Option<Cost>,
    /// How busy the CPUs were.
    pub busy: Option<Busy>,
    /// KiB by stage: `idle`, `idle_1000`, `idle_10000`, `left`, `cycle_1` …, of the process.
    pub resident_kib: BTreeMap<String, f64>,
    /// The same by the memory cgroup, which has the kernel's share in it, where one could be made.
    pub cgroup_kib: BTreeMap<String, f64>,
    /// Of a change of config.
    pub change: Option<Change>,
}

/// Totals of the proxy's process over a whole load, the connecting at its begin included. With a load of a
/// number of requests that part is measured by itself and taken off.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Cost {
    /// CPU time in user mode.
    pub user_us: f64,
    /// CPU time in the kernel.
    pub system_us: f64,
    /// CPU time of all its threads by the scheduler's clock, which is exact where ticks are not.
    pub cpu_us: f64,
    /// Instructions in both modes, where the clock counts them and does not tell the modes apart.
    #[serde(default)]
    pub instructions: Option<f64>,
    /// Instructions in user mode.
    pub instructions_user: Option<f64>,
    /// Instructions in the kernel.
    pub instructions_kernel: Option<f64>,
    /// Cycles in both.
    pub cycles: Option<f64>,
    /// Syscalls; from a load of its own, because counting slows them.
    pub syscalls: Option<f64>,
    /// Right answers of the load in which syscalls were counted.
    pub syscalls_answers: Option<f64>,
    /// Went to sleep.
    pub voluntary_switches: f64,
    /// Was put aside.
    pub involuntary_switches: f64,
    /// Resident memory at the end of the load.
    pub resident_kib: f64,
}

/// Shares of a CPU, 0 to 1 each (of all CPUs that the part has).
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Busy {
    /// All of the proxy's CPUs, whoever used them, by `/proc/stat`.
    pub proxy_cpu: f64,
    /// All of the client's CPUs.
    pub client_cpu: f64,
    /// The client's own threads.
    pub client_process: f64,
    /// The upstream's own threads.
    pub upstream_process: f64,
    /// CPU time of the proxy's whole CPUs in µs, whoever it was billed to: beside [`Cost::cpu_us`] this
    /// shows what loopback billed to others.
    pub proxy_cpu_us: f64,
    /// Instructions of the proxy's whole CPUs, where there are counters.
    pub proxy_cpu_instructions: Option<f64>,
    /// What ran beside all parts, as a share of the CPUs of the part that was hit worst.
    pub others: f64,
    /// What the host took, as a share of the CPUs of the part that was hit worst.
    pub stolen: f64,
}

/// What a change of config did.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Change {
    /// Changes made while the load ran.
    pub changes: u64,
    /// Requests that failed in the load.
    pub failed: u64,
    /// From asking for a change to the first answer that shows it, median, in ms.
    pub effect_ms: f64,
    /// Processes that the proxy had at most, those of old configs among them.
    pub processes_max: u64,
    /// Most memory of all its processes together.
    pub resident_kib_max: f64,
}

impl Results {
    /// Reads a file's text. The error says what is wrong with it, and what to do.
    pub fn parse(text: &str) -> anyhow::Result<Results> {
        #[derive(Deserialize)]
        struct Version {
            format: u32,
        }
        let version: Version = serde_json::from_str(text)
            .map_err(|error| anyhow::anyhow!("not results of `lateen-bench compare`: {error}"))?;
        anyhow::ensure!(
            version.format == FORMAT,
            "these results have format {}, this lateen-bench reads {FORMAT}: make them again with it",
            version.format
        );
        Ok(serde_json::from_str(text)?)
    }
}

impl Profile {
    /// As the command line has it.
    pub fn name(self) -> &'static str {
        match self {
            Profile::Bare => "bare",
            Profile::Mesh => "mesh",
        }
    }
}

impl Entry {
    /// What counts, of one point of the row.
    pub fn valid<'a>(&'a self, point: &'a str) -> impl Iterator<Item = &'a Sample> {
        self.samples
            .iter()
            .filter(move |sample| sample.point == point && sample.discarded.is_none())
    }
}

impl Row {
    /// The points in the order in which they first appear.
    pub fn points(&self) -> Vec<&str> {
        let mut points: Vec<&str> = Vec::new();
        for sample in self.entries.iter().flat_map(|entry| &entry.samples) {
            if !points.contains(&sample.point.as_str()) {
                points.push(&sample.point);
            }
        }
        points
    }
}
