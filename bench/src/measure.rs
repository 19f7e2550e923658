//! What is read from a sample for the page: the figures of `statistics`, and what memory and changes of
//! config have beside them. Says what each is called and how it is written; judges nothing.

use crate::numbers::{self, Quantity};
use crate::results::{Kind, Row, Sample};
use crate::statistics::Figure;
use std::collections::BTreeSet;

/// Something with a name and a value in a sample. All but throughput are better when lower.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Measure {
    /// Of `statistics`.
    Figure(Figure),
    /// The share of a fixed rate that was carried; all of it unless [`misses_rate`].
    Carried,
    /// KiB at a stage of a memory row.
    Stage(Holder, String),
    /// KiB of one idle connection: a stage above `idle`, divided.
    PerConnection(Holder, u64),
    /// From asking for a change to its first effect.
    EffectUs,
    /// Requests that failed while config changed.
    Failed,
    /// Processes at most, those of old configs among them.
    Processes,
    /// Most memory of all processes while config changed.
    ResidentMax,
}

/// Whose memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Holder {
    /// What the process has resident.
    Process,
    /// What its memory cgroup has, the kernel's share in it.
    Cgroup,
}

impl Measure {
    /// Reads it; `None` where the sample lacks it.
    pub fn of(&self, row: &Row, sample: &Sample) -> Option<f64> {
        let value = match self {
            Measure::Figure(figure) => figure.of(row, sample)?,
            Measure::Carried => carried(sample)?,
            Measure::Stage(holder, stage) => *holder.stages(sample).get(stage)?,
            Measure::PerConnection(holder, connections) => {
                let stages = holder.stages(sample);
                let held = stages.get(&format!("idle_{connections}"))? - stages.get("idle")?;
                held / *connections as f64
            }
            Measure::EffectUs => sample.change.as_ref()?.effect_ms * 1e3,
            Measure::Failed => sample.change.as_ref()?.failed as f64,
            Measure::Processes => sample.change.as_ref()?.processes_max as f64,
            Measure::ResidentMax => sample.change.as_ref()?.resident_kib_max,
        };
        value.is_finite().then_some(value)
    }

    /// Its name, as a column has it; a cost is for one `unit`.
    pub fn name(&self, unit: &str) -> String {
        let cost = |what: &str| format!("{what} / {unit}");
        match self {
            Measure::Figure(figure) => match figure {
                Figure::Throughput => "throughput".to_owned(),
                Figure::CpuUs => cost("CPU time"),
                Figure::UserUs => cost("CPU time in user mode"),
                Figure::SystemUs => cost("CPU time in the kernel"),
                Figure::Instructions => cost("instructions"),
                Figure::InstructionsUser => cost("instructions in user mode"),
                Figure::InstructionsKernel => cost("instructions in the kernel"),
                Figure::Cycles => cost("cycles"),
                Figure::Syscalls => cost("syscalls"),
                Figure::Switches => cost("context switches"),
                Figure::CoreUs => cost("CPU time of the whole core"),
                Figure::CoreInstructions => cost("instructions of the whole core"),
                Figure::P50Us => "p50 latency".to_owned(),
                Figure::P99Us => "p99 latency".to_owned(),
                Figure::P999Us => "p99.9 latency".to_owned(),
                Figure::ResidentKib => "resident memory".to_owned(),
            },
            Measure::Carried => "share of the rate carried".to_owned(),
            Measure::Stage(holder, stage) => format!("{}{}", stage_name(stage), holder.suffix()),
            Measure::PerConnection(holder, connections) => {
                let connections = numbers::whole(*connections);
                format!("memory per idle connection, at {connections}{}", holder.suffix())
            }
            Measure::EffectUs => "change to effect".to_owned(),
            Measure::Failed => "failed requests".to_owned(),
            Measure::Processes => "processes at most".to_owned(),
            Measure::ResidentMax => "memory at most".to_owned(),
        }
    }

    /// How it is written.
    pub fn quantity(&self) -> Quantity {
        match self {
            Measure::Figure(figure) => match figure {
                Figure::Throughput => Quantity::PerSecond,
                Figure::CpuUs | Figure::UserUs | Figure::SystemUs | Figure::CoreUs => Quantity::Us,
                Figure::P50Us | Figure::P99Us | Figure::P999Us => Quantity::Us,
                Figure::ResidentKib => Quantity::Kib,
                _ => Quantity::Count,
            },
            Measure::Stage(..) | Measure::PerConnection(..) | Measure::ResidentMax => Quantity::Kib,
            Measure::EffectUs => Quantity::Us,
            Measure::Carried => Quantity::Share,
            Measure::Failed | Measure::Processes => Quantity::Plain,
        }
    }

    /// Whether more of it is worse.
    pub fn lower_is_better(&self) -> bool {
        !matches!(self, Measure::Figure(Figure::Throughput) | Measure::Carried)
    }

    /// Whether it is a time that a request took.
    pub fn is_latency(&self) -> bool {
        matches!(self, Measure::Figure(Figure::P50Us | Figure::P99Us | Figure::P999Us))
    }

    /// Whether it is time, or made of it.
    pub fn is_time(&self) -> bool {
        match self {
            Measure::Figure(figure) => matches!(
                figure,
                Figure::Throughput
                    | Figure::CpuUs
                    | Figure::UserUs
                    | Figure::SystemUs
                    | Figure::CoreUs
                    | Figure::P50Us
                    | Figure::P99Us
                    | Figure::P999Us
            ),
            Measure::EffectUs | Measure::Carried => true,
            _ => false,
        }
    }

    /// Whether it is of the proxy's whole cores, whoever they were billed to.
    pub fn is_of_the_core(&self) -> bool {
        matches!(self, Measure::Figure(Figure::CoreUs | Figure::CoreInstructions))
    }

    /// Whether it is the same on a machine of another speed: a count, or memory.
    pub fn is_count(&self) -> bool {
        match self {
            Measure::Figure(figure) => matches!(
                figure,
                Figure::Instructions
                    | Figure::InstructionsUser
                    | Figure::InstructionsKernel
                    | Figure::CoreInstructions
                    | Figure::Syscalls
                    | Figure::ResidentKib
            ),
            Measure::EffectUs | Measure::Carried => false,
            _ => true,
        }
    }
}

/// Carried less than this of a fixed rate is not carrying it.
const CARRIED_MIN: f64 = 0.99;

/// Whether a load of a fixed rate was not what it was meant to be: requests were never sent, or answers
/// came at another rate. Its latency and cost are those of another load.
pub fn misses_rate(sample: &Sample) -> bool {
    sample.load.as_ref().is_some_and(|load| {
        let rate = load.rate_per_s.filter(|_| load.open_loop);
        rate.is_some_and(|rate| load.unsent > 0 || load.requests_per_s < CARRIED_MIN * rate)
    })
}

fn carried(sample: &Sample) -> Option<f64> {
    let load = sample.load.as_ref()?;
    let rate = load.rate_per_s.filter(|rate| load.open_loop && *rate > 0.0)?;
    if !misses_rate(sample) {
        return Some(1.0);
    }
    let sent = load.requests as f64 / (load.requests + load.unsent).max(1) as f64;
    Some((load.requests_per_s / rate).min(sent))
}

impl Holder {
    fn stages(self, sample: &Sample) -> &std::collections::BTreeMap<String, f64> {
        match self {
            Holder::Process => &sample.resident_kib,
            Holder::Cgroup => &sample.cgroup_kib,
        }
    }

    fn suffix(self) -> &'static str {
        match self {
            Holder::Process => "",
            Holder::Cgroup => ", with the kernel's",
        }
    }
}

/// What a row compares, in the order of its columns; some of it may have no value anywhere.
pub fn compared(row: &Row) -> Vec<Measure> {
    let costs = [
        Figure::Instructions,
        Figure::CpuUs,
        Figure::CoreInstructions,
        Figure::CoreUs,
        Figure::Cycles,
        Figure::Syscalls,
        Figure::Switches,
    ];
    let figures = |before: &[Figure], after: &[Figure]| {
        let all = before.iter().chain(&costs).chain(after);
        all.map(|figure| Measure::Figure(*figure)).collect::<Vec<_>>()
    };
    match row.kind {
        Kind::Throughput => figures(&[Figure::Throughput], &[Figure::ResidentKib]),
        Kind::Latency => {
            let mut all = figures(&[Figure::P50Us, Figure::P99Us, Figure::P999Us], &[]);
            all.push(Measure::Carried);
            all
        }
        Kind::Memory => [Holder::Process, Holder::Cgroup]
            .into_iter()
            .flat_map(|holder| memory(row, holder))
            .collect(),
        Kind::Change => {
            let mut all =
                vec![Measure::EffectUs, Measure::Failed, Measure::Processes, Measure::ResidentMax];
            all.extend(figures(&[], &[]));
            all
        }
    }
}

fn memory(row: &Row, holder: Holder) -> Vec<Measure> {
    let samples = row.entries.iter().flat_map(|entry| &entry.samples);
    let stages: BTreeSet<(u8, u64, &str)> = samples
        .flat_map(|sample| holder.stages(sample).keys())
        .map(|stage| stage_order(stage))
        .collect();
    let per_connection = stages
        .iter()
        .filter(|(kind, count, _)| *kind == 1 && *count > 0)
        .map(|(_, count, _)| Measure::PerConnection(holder, *count));
    let at = stages.iter().map(|(.., stage)| Measure::Stage(holder, (*stage).to_owned()));
    per_connection.chain(at).collect()
}

fn stage_order(stage: &str) -> (u8, u64, &str) {
    let number = |prefix| stage.strip_prefix(prefix).and_then(|text: &str| text.parse().ok());
    match stage {
        "idle" => (0, 0, stage),
        "left" => (2, 0, stage),
        _ => {
            if let Some(count) = number("idle_") {
                (1, count, stage)
            } else if let Some(count) = number("cycle_") {
                (3, count, stage)
            } else {
                (4, 0, stage)
            }
        }
    }
}

fn stage_name(stage: &str) -> String {
    match stage_order(stage) {
        (0, ..) => "idle process".to_owned(),
        (1, count, _) => format!("with {} idle connections", numbers::whole(count)),
        (2, ..) => "after they left".to_owned(),
        (3, count, _) => format!("after cycle {count}"),
        _ => stage.replace('_', " "),
    }
}
