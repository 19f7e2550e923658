//! What a reader needs to know of a run: the machine, the placement, who took part in which version.

use super::reading::Source;
use crate::judgement::{LATEEN, is_variant};
use crate::numbers::{self, Quantity};
use crate::results::{Environment, Peer};

/// One file of results.
#[derive(Debug, Clone, PartialEq)]
pub struct Run {
    /// Nothing where it is the only one.
    pub name: Option<String>,
    /// When it began.
    pub started: String,
    /// Name and value.
    pub facts: Vec<(String, String)>,
    /// By name, as the kernel says them.
    pub mitigations: Vec<(String, String)>,
    /// Sentences.
    pub remarks: Vec<String>,
    /// Who took part, and who did not.
    pub peers: Vec<Participant>,
    /// What it was started with.
    pub command: String,
}

/// A peer, as it is listed.
#[derive(Debug, Clone, PartialEq)]
pub struct Participant {
    /// Its name in the tables.
    pub name: String,
    /// What it is.
    pub about: String,
    /// Version and day of release.
    pub version: String,
    /// Whether there is a newer one.
    pub newer: Option<String>,
    /// Why it did not run.
    pub not_run: Option<String>,
    /// File name and text.
    pub configs: Vec<(String, String)>,
}

/// Of one file.
pub fn of(name: Option<String>, source: &Source) -> Run {
    let results = &source.results;
    let environment = &results.environment;
    let mut facts = vec![
        ("results".to_owned(), source.file.clone()),
        ("began".to_owned(), results.started.clone()),
        ("took".to_owned(), duration(results.took_s)),
    ];
    facts.extend(
        machine_facts(environment)
            .into_iter()
            .filter(|(_, value)| !value.trim().is_empty())
            .map(|(name, value)| (name.to_owned(), value)),
    );
    for (part, cpus) in &environment.placement {
        facts.push((format!("CPUs of the {part}"), cpu_list(cpus)));
    }
    facts
        .extend(environment.versions.iter().map(|(tool, version)| (tool.clone(), version.clone())));
    Run {
        name,
        started: results.started.clone(),
        facts,
        mitigations: environment.mitigations.clone().into_iter().collect(),
        remarks: environment.remarks.clone(),
        peers: results.peers.iter().map(participant).collect(),
        command: results.command.join(" "),
    }
}

fn machine_facts(environment: &Environment) -> Vec<(&'static str, String)> {
    let no = |reason: &Option<String>| match reason {
        None => "yes".to_owned(),
        Some(reason) => format!("no: {reason}"),
    };
    let siblings = match environment.smt {
        Some(true) => "among the CPUs",
        Some(false) => "none",
        None => "not known",
    };
    let commit = environment.commit.clone().unwrap_or_else(|| "not known".to_owned());
    let none = || "none known".to_owned();
    vec![
        ("commit", commit),
        ("CPU", environment.cpu.clone()),
        ("CPUs", cpu_list(&environment.cpus)),
        ("siblings of one core", siblings.to_owned()),
        ("memory", numbers::quantity(environment.memory_mib as f64 * 1024.0, Quantity::Kib)),
        ("kernel", environment.kernel.clone()),
        ("virtualisation", environment.virtualisation.clone().unwrap_or_else(none)),
        ("governor", environment.governor.clone().unwrap_or_else(none)),
        ("congestion control", environment.congestion_control.clone()),
        ("hardware counters", no(&environment.no_counters)),
        ("syscalls counted", no(&environment.no_syscalls)),
        ("load driven by", environment.load_engine.clone()),
    ]
}

fn participant(peer: &Peer) -> Participant {
    let version = match (&peer.version, &peer.released) {
        (Some(version), Some(released)) => format!("{version}, released {released}"),
        // Lateen's is the tree's: its commit is among the facts.
        (Some(version), None) if peer.name == LATEEN || is_variant(&peer.name) => version.clone(),
        (Some(version), None) => format!("{version}, release date not known"),
        (None, Some(released)) => format!("released {released}"),
        (None, None) => "–".to_owned(),
    };
    Participant {
        name: peer.name.clone(),
        about: peer.about.clone(),
        version,
        newer: peer.newer.clone(),
        not_run: peer.not_run.clone(),
        configs: peer.configs.clone().into_iter().collect(),
    }
}

fn cpu_list(cpus: &[u32]) -> String {
    let cpus: Vec<String> = cpus.iter().map(u32::to_string).collect();
    cpus.join(", ")
}

fn duration(seconds: f64) -> String {
    let minutes = (seconds / 60.0).round();
    if seconds < 120.0 {
        format!("{seconds:.0} s")
    } else if minutes < 120.0 {
        format!("{minutes:.0} min")
    } else {
        format!("{} h {} min", (minutes / 60.0).floor(), minutes % 60.0)
    }
}
