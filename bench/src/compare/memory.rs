//! What connections take: a fresh proxy, idle clients that come and leave, and its memory at each stage,
//! by the process and, where a cgroup can be made, with what the kernel holds for it.

use super::answer::{Ask, ask_on, connect};
use super::closed::turns;
use super::interrupt::unless_interrupted;
use super::lanes::{Configs, Lane, Measured, Place, not_run};
use super::plan::DIRECT;
use super::usage::resident_kib;
use crate::results::{Row, Sample};
use anyhow::{Context, ensure};
use std::fs;
use std::net::{Ipv4Addr, TcpStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

const FEW: u32 = 1_000;
const MANY: u32 = 10_000;
const CYCLES: u8 = 5;
const CLIENTS_OF_AN_ADDRESS: usize = 500;
/// Rounds, at most: memory is steadier than time.
const ROUNDS: u32 = 3;
/// What a proxy frees a little later is free after this.
const SETTLE: Duration = Duration::from_millis(1_500);
/// A process has some files beside its connections.
const OTHER_FILES: u64 = 100;

/// Measures a row. Ends early only when it was interrupted; what it has is in the row.
pub fn measure(measured: &Measured, row: &mut Row, configs: &mut Configs) -> anyhow::Result<()> {
    let bench = measured.bench;
    let (upstream, port) = bench.generator.upstream(&measured.scenario.work, &bench.placement)?;
    for round in 0..bench.runs.min(ROUNDS) {
        for index in turns(measured.plan.contestants.len(), round) {
            let name = &measured.plan.contestants[index].peer.name;
            bench.progress.doing(&format!("round {}: {name}", round + 1));
            if name == DIRECT {
                not_run(row, index, "there is no proxy".to_owned());
            }
            if row.entries[index].not_run.is_some() {
                continue;
            }
            let mut sample =
                Sample { round, point: "idle connections".to_owned(), ..Sample::default() };
            let ended = one_round(measured, index, port, configs, &mut sample);
            keep(row, index, name, sample, ended)?;
        }
    }
    drop(upstream);
    Ok(())
}

/// Stages that were measured stay, whatever came after them; who never had one did not run.
fn keep(
    row: &mut Row,
    index: usize,
    name: &str,
    sample: Sample,
    ended: anyhow::Result<()>,
) -> anyhow::Result<()> {
    let round = sample.round + 1;
    if !sample.resident_kib.is_empty() {
        row.entries[index].samples.push(sample);
    }
    let Err(error) = ended else { return Ok(()) };
    let why = unless_interrupted(error)?;
    if row.entries[index].samples.is_empty() {
        not_run(row, index, why);
    } else {
        row.caveats.push(format!("{name}, round {round}: not measured to its end: {why}"));
    }
    Ok(())
}

fn one_round(
    measured: &Measured,
    index: usize,
    upstream_port: u16,
    configs: &mut Configs,
    sample: &mut Sample,
) -> anyhow::Result<()> {
    // Dropped last: a group can be removed only when it is empty.
    let group = Group::new(&measured.plan.contestants[index].peer.name);
    let place = Place {
        index,
        workers: 1,
        placement: &measured.bench.placement,
        upstream_port,
        revision: None,
        group: group.as_ref().map(Group::path),
    };
    let lane = measured.lane(&place, configs)?;
    let mut stages = Stages { measured, lane: &lane, group: group.as_ref(), sample };
    stages.note("idle")?;
    let mut clients = Clients::new(lane.port, 0);
    clients.grow(FEW, measured)?;
    stages.note(&format!("idle_{FEW}"))?;
    clients.grow(MANY, measured)?;
    stages.note(&format!("idle_{MANY}"))?;
    drop(clients);
    stages.note("left")?;
    for cycle in 1..=CYCLES {
        let mut clients = Clients::new(lane.port, cycle);
        clients.grow(MANY, measured)?;
        drop(clients);
        stages.note(&format!("cycle_{cycle}"))?;
    }
    Ok(())
}

struct Stages<'a> {
    measured: &'a Measured<'a>,
    lane: &'a Lane,
    group: Option<&'a Group>,
    sample: &'a mut Sample,
}

impl Stages<'_> {
    fn note(&mut self, stage: &str) -> anyhow::Result<()> {
        self.measured.bench.interrupt.sleep(SETTLE)?;
        let members = self.lane.members();
        ensure!(!members.is_empty(), "it ended while idle clients came and left");
        // It lies in memory, and who wrote it is charged for it.
        self.lane.empty_access_log();
        self.sample.resident_kib.insert(stage.to_owned(), resident_kib(&members));
        if let Some(kib) = self.group.and_then(Group::used_kib) {
            self.sample.cgroup_kib.insert(stage.to_owned(), kib);
        }
        Ok(())
    }
}

/// Clients that asked once and keep their connection. They close when this is dropped.
struct Clients {
    port: u16,
    cycle: u8,
    connections: Vec<TcpStream>,
}

impl Clients {
    fn new(port: u16, cycle: u8) -> Self {
        Self { port, cycle, connections: Vec::new() }
    }

    /// Each cycle has addresses of its own, as the ports of the one before stay taken for a minute; and
    /// each some, as the kernel looks long for a free port where many are taken.
    fn source(&self) -> Ipv4Addr {
        let number = self.connections.len() / CLIENTS_OF_AN_ADDRESS;
        Ipv4Addr::new(127, 0, 1 + self.cycle, 1 + (number % 250) as u8)
    }

    fn grow(&mut self, count: u32, measured: &Measured) -> anyhow::Result<()> {
        let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
        ensure!(
            limit.is_none_or(|limit| limit >= u64::from(count) + OTHER_FILES),
            "{count} idle clients need as many descriptors, and this process may have {} (ulimit -n)",
            limit.unwrap_or_default()
        );
        while (self.connections.len() as u32) < count {
            if self.connections.len().is_multiple_of(100) {
                measured.bench.interrupt.check()?;
            }
            let number = self.connections.len() + 1;
            let mut connection = connect(self.source(), self.port)
                .with_context(|| format!("idle client {number} of {count}"))?;
            let request = Ask::usual(measured.scenario.work.body_bytes, &measured.bench.interrupt);
            let answer = ask_on(&mut connection, &request)
                .with_context(|| format!("idle client {number} of {count}"))?;
            ensure!(answer.status == 200, "idle client {number} was answered {}", answer.status);
            self.connections.push(connection);
        }
        Ok(())
    }
}

/// A memory cgroup, which goes when this is dropped.
struct Group(PathBuf);

impl Group {
    /// Version 2 of the interface, then version 1; `None` where none may be made.
    fn new(name: &str) -> Option<Self> {
        let own = std::process::id();
        ["/sys/fs/cgroup", "/sys/fs/cgroup/memory"].into_iter().find_map(|root| {
            let path = Path::new(root).join(format!("lateen-compare-{own}-{name}"));
            fs::create_dir(&path).ok()?;
            let group = Self(path);
            group.used_kib().is_some().then_some(group)
        })
    }

    fn path(&self) -> &Path {
        &self.0
    }

    fn used_kib(&self) -> Option<f64> {
        let read = |name| fs::read_to_string(self.0.join(name)).ok();
        let text = ["memory.current", "memory.usage_in_bytes"].into_iter().find_map(read)?;
        Some(text.trim().parse::<f64>().ok()? / 1024.0)
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::interrupt::Interrupted;
    use crate::results::{Entry, Kind, Profile};

    fn row() -> Row {
        Row {
            scenario: "memory".to_owned(),
            profile: Profile::Mesh,
            kind: Kind::Memory,
            title: String::new(),
            unit: "connection".to_owned(),
            units_per_answer: 1.0,
            caveats: Vec::new(),
            entries: vec![Entry::default()],
        }
    }

    #[test]
    fn stages_that_were_measured_outlive_a_failure() {
        let stages = || Sample {
            resident_kib: [("idle".to_owned(), 7.0)].into_iter().collect(),
            ..Sample::default()
        };
        let failed = || Err(anyhow::anyhow!("no descriptors"));
        let mut first = row();
        keep(&mut first, 0, "nginx", Sample::default(), failed()).expect("no interrupt");
        assert_eq!(first.entries[0].not_run.as_deref(), Some("no descriptors"));
        let mut later = row();
        keep(&mut later, 0, "nginx", stages(), failed()).expect("no interrupt");
        assert_eq!((later.entries[0].samples.len(), &later.entries[0].not_run), (1, &None));
        assert_eq!(later.caveats, ["nginx, round 1: not measured to its end: no descriptors"]);
        let ended = keep(&mut later, 0, "nginx", stages(), Err(Interrupted.into()));
        assert!(ended.is_err() && later.entries[0].samples.len() == 2);
    }
}
