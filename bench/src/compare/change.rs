//! What a change of config does to traffic: a load keeps connections busy, the config changes again and
//! again, each time to one that answers show, and what failed is counted.

use super::answer::{Ask, ask};
use super::closed::turns;
use super::generator::{Begun, Length, Load};
use super::interrupt::unless_interrupted;
use super::lanes::{Configs, Lane, Measured, Place, not_run};
use super::peers::Reload;
use super::plan::DIRECT;
use super::processes::{Order, Running};
use super::usage::resident_kib;
use crate::load::summary::LoadReport;
use crate::results::{Change, Row, Sample};
use crate::statistics::Spread;
use anyhow::{bail, ensure};
use std::thread;
use std::time::{Duration, Instant};

/// Between two changes.
const EVERY: Duration = Duration::from_secs(1);
/// A load with changes is at least this long.
const LOAD_MIN: Duration = Duration::from_secs(5);
/// No change is begun so shortly before the load ends.
const REST: Duration = Duration::from_millis(1_500);
/// Until a change must show.
const EFFECT: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(1);
/// Between two looks at its processes, each of which reads all of `/proc` and so delays the next ask.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Measures a row. Ends early only when it was interrupted; what it has is in the row.
pub fn measure(measured: &Measured, row: &mut Row, configs: &mut Configs) -> anyhow::Result<()> {
    let bench = measured.bench;
    row.caveats.extend(bench.placement.caveat.map(str::to_owned));
    row.caveats.push(
        "processes and memory are those of the proxy and of what it needs for a change: lateen's control \
         plane is among them, and master processes are"
            .to_owned(),
    );
    row.caveats.push(
        "a request that meets a kept connection just as the proxy closes it counts as failed; many clients \
         would send it once more"
            .to_owned(),
    );
    let (upstream, port) = bench.generator.upstream(&measured.scenario.work, &bench.placement)?;
    for round in 0..bench.runs {
        for index in turns(measured.plan.contestants.len(), round) {
            let name = &measured.plan.contestants[index].peer.name;
            bench.progress.doing(&format!("round {} of {}: {name}", round + 1, bench.runs));
            if name == DIRECT {
                not_run(row, index, "there is no proxy".to_owned());
            }
            if row.entries[index].not_run.is_some() {
                continue;
            }
            let place = Place {
                index,
                workers: 1,
                placement: &bench.placement,
                upstream_port: port,
                revision: Some(0),
                group: None,
            };
            let mut lane = match measured.lane(&place, configs) {
                Ok(lane) => lane,
                Err(error) => {
                    not_run(row, index, unless_interrupted(error)?);
                    continue;
                }
            };
            let sample = match one_round(measured, &mut lane) {
                Ok(sample) => sample,
                Err(error) => {
                    Sample { discarded: Some(unless_interrupted(error)?), ..Sample::default() }
                }
            };
            let point = "changes under load".to_owned();
            row.entries[index].samples.push(Sample { round, point, ..sample });
        }
    }
    drop(upstream);
    Ok(())
}

fn one_round(measured: &Measured, lane: &mut Lane) -> anyhow::Result<Sample> {
    let bench = measured.bench;
    let Some(reload) = lane.launch.reload.clone() else { bail!("its config can't be changed") };
    let time = match bench.length {
        Length::Time(time) => time.max(LOAD_MIN),
        Length::Requests(_) => LOAD_MIN,
    };
    let mut begun = bench.generator.begin(&Load {
        work: &measured.scenario.work,
        port: lane.port,
        length: Length::Time(time),
        rate_per_s: None,
        placement: &lane.placement,
    })?;
    let end = Instant::now() + time.saturating_sub(REST);
    let mut seen = Seen::default();
    let mut next = Instant::now() + EVERY / 2;
    while next < end {
        bench.interrupt.sleep(next.saturating_duration_since(Instant::now()))?;
        begun.running.check()?;
        let revision = seen.effects_ms.len() as u32 + 1;
        change(measured, lane, &reload, revision, &mut seen)?;
        next = (next + EVERY).max(Instant::now());
    }
    finish(measured, lane, begun, seen)
}

fn finish(
    measured: &Measured,
    lane: &Lane,
    begun: Begun,
    mut seen: Seen,
) -> anyhow::Result<Sample> {
    let report = measured.bench.generator.finish(begun)?;
    seen.look(lane);
    let effect_ms = Spread::of(seen.effects_ms.iter().copied()).map(|spread| spread.median);
    let change = Change {
        changes: seen.effects_ms.len() as u64,
        failed: failed(&report),
        effect_ms: effect_ms.unwrap_or_default(),
        processes_max: seen.processes_max,
        resident_kib_max: seen.resident_kib_max,
    };
    lane.empty_access_log();
    Ok(Sample { load: Some(report), change: Some(change), ..Sample::default() })
}

fn failed(report: &LoadReport) -> u64 {
    report.errors.values().sum::<u64>() + report.wrong.values().sum::<u64>()
}

#[derive(Debug, Default)]
struct Seen {
    effects_ms: Vec<f64>,
    processes_max: u64,
    resident_kib_max: f64,
    looked: Option<Instant>,
}

impl Seen {
    fn look_at_times(&mut self, lane: &Lane) {
        if self.looked.is_none_or(|looked| looked.elapsed() >= LOOK_EVERY) {
            self.look(lane);
        }
    }

    fn look(&mut self, lane: &Lane) {
        let mut members = lane.members();
        members.extend(lane.companion.iter().flat_map(Running::members));
        self.processes_max = self.processes_max.max(members.len() as u64);
        self.resident_kib_max = self.resident_kib_max.max(resident_kib(&members));
        self.looked = Some(Instant::now());
    }
}

/// Changes the config and waits until an answer on a new connection shows it.
fn change(
    measured: &Measured,
    lane: &mut Lane,
    reload: &Reload,
    revision: u32,
    seen: &mut Seen,
) -> anyhow::Result<()> {
    let bench = measured.bench;
    let wanted = revision.to_string();
    let began = Instant::now();
    measured.revise(lane, revision)?;
    let mut told = match (reload, &lane.running) {
        (Reload::Signal(signal), Some(running)) => {
            running.signal(*signal)?;
            None
        }
        (Reload::Run(command), _) => Some(bench.starter.start(&Order {
            name: "change",
            command,
            cpus: &lane.placement.upstream,
            group: None,
            stdout: None,
        })?),
        _ => None,
    };
    loop {
        // A request that fails here is seen by the load too, where it counts.
        let usual = Ask::usual(measured.scenario.work.body_bytes, &bench.interrupt);
        let request = Ask { within: EFFECT.saturating_sub(began.elapsed()), ..usual };
        let shown = ask(lane.port, &request).ok().and_then(|answer| answer.revision);
        if shown.as_deref() == Some(wanted.as_str()) {
            break;
        }
        if let Some(running) = &mut lane.running {
            running.check()?;
        }
        bench.interrupt.check()?;
        seen.look_at_times(lane);
        ensure!(began.elapsed() < EFFECT, "change {revision} did not show within {EFFECT:?}");
        thread::sleep(POLL);
    }
    seen.effects_ms.push(began.elapsed().as_secs_f64() * 1_000.0);
    seen.look(lane);
    if let Some(told) = &mut told {
        let status = told.wait(EFFECT, &bench.interrupt)?;
        ensure!(status.success(), "change {revision} was refused: {}", told.last_lines());
    }
    Ok(())
}
