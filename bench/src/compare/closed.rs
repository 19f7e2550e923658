//! As much as goes, in interleaved rounds (A B C, B C A, …): what disturbs the machine for seconds hits
//! all peers and not one, and nobody is always the first, who comes after a pause, or always after the
//! same other.

use super::interrupt::unless_interrupted;
use super::lanes::{Configs, Lane, Measured, Place, not_run};
use super::placement::{Placement, place};
use super::processes::Running;
use super::sample::Target;
use super::scenarios::Method;
use crate::results::Row;
use std::time::Duration;

/// How a sample is set apart where there is one load for each peer.
pub const AS_MUCH: &str = "as much as it can";
/// In a caveat about a sample that counts, but was disturbed each time that it was taken.
pub const KEPT: &str = "kept although";
/// Caches, pools and threads are what they are in the long run after this.
const WARM_UP: Duration = Duration::from_secs(1);

/// Measures a row. Ends early only when it was interrupted; what it has is in the row.
pub fn measure(measured: &Measured, row: &mut Row, configs: &mut Configs) -> anyhow::Result<()> {
    let bench = measured.bench;
    let workers = measured.scenario.method == Method::Workers;
    let placement = place(&bench.cpus, if workers { 2 } else { 1 });
    row.caveats.extend(placement.caveat.map(str::to_owned));
    let (upstream, port) = bench.generator.upstream(&measured.scenario.work, &placement)?;
    let mut lanes: Vec<(String, Lane)> = Vec::new();
    if workers {
        let first = placement.proxy[..1].to_vec();
        let one = Placement { proxy: first, ..placement.clone() };
        for (point, count, placement) in [("1 worker", 1, &one), ("2 workers", 2, &placement)] {
            let up = up(
                measured,
                row,
                configs,
                &Ground { workers: count, placement, port, upstream: &upstream },
            )?;
            lanes.extend(up.into_iter().map(|lane| (point.to_owned(), lane)));
        }
        // Peer by peer, with one worker and with two.
        lanes.sort_by_key(|(_, lane)| lane.index);
    } else {
        let up = up(
            measured,
            row,
            configs,
            &Ground { workers: 1, placement: &placement, port, upstream: &upstream },
        )?;
        lanes.extend(up.into_iter().map(|lane| (AS_MUCH.to_owned(), lane)));
    }
    for round in 0..bench.runs {
        for (point, lane) in turns(lanes.len(), round).map(|index| &lanes[index]) {
            let target = Target {
                lane,
                work: &measured.scenario.work,
                upstream: &upstream,
                rate_per_s: None,
                point,
                round,
            };
            take(measured, row, &target)?;
        }
    }
    Ok(())
}

/// Whose turn it is in a round, by position.
pub fn turns(count: usize, round: u32) -> impl Iterator<Item = usize> {
    (0..count).map(move |turn| (turn + round as usize) % count)
}

/// What lanes stand on.
#[derive(Debug, Clone, Copy)]
pub struct Ground<'a> {
    /// Of each proxy.
    pub workers: usize,
    /// CPUs.
    pub placement: &'a Placement,
    /// Of the upstream.
    pub port: u16,
    /// The upstream.
    pub upstream: &'a Running,
}

/// Starts all peers and warms them up; why one is not up is in its entry.
pub fn up(
    measured: &Measured,
    row: &mut Row,
    configs: &mut Configs,
    ground: &Ground,
) -> anyhow::Result<Vec<Lane>> {
    let bench = measured.bench;
    let mut lanes = Vec::new();
    for index in 0..measured.plan.contestants.len() {
        let name = &measured.plan.contestants[index].peer.name;
        bench.progress.doing(&format!("starting {name}"));
        let place = Place {
            index,
            workers: ground.workers,
            placement: ground.placement,
            upstream_port: ground.port,
            revision: None,
            group: None,
        };
        let started = measured.lane(&place, configs).and_then(|lane| {
            let load = super::generator::Load {
                work: &measured.scenario.work,
                port: lane.port,
                length: bench.length.at_most(WARM_UP),
                rate_per_s: None,
                placement: &lane.placement,
            };
            let report = bench.generator.run(&load)?;
            lane.empty_access_log();
            match super::sample::wrong_with(&report) {
                Some(wrong) => anyhow::bail!("{wrong} while it warmed up"),
                None => Ok(lane),
            }
        });
        match started {
            Ok(lane) => lanes.push(lane),
            Err(error) => not_run(row, index, unless_interrupted(error)?),
        }
    }
    Ok(lanes)
}

/// Takes a sample into the row, with what must be said about it.
pub fn take(measured: &Measured, row: &mut Row, target: &Target) -> anyhow::Result<()> {
    let bench = measured.bench;
    let name = &measured.plan.contestants[target.lane.index].peer.name;
    bench.progress.doing(&format!("round {} of {}: {name}", target.round + 1, bench.runs));
    let entry = &mut row.entries[target.lane.index];
    match bench.samples(target) {
        Ok((samples, disturbed)) => {
            for sample in &samples {
                bench.progress.sampled(row.unit.as_str(), row.units_per_answer, name, sample);
            }
            entry.samples.extend(samples);
            if let Some(why) = disturbed {
                let round = target.round + 1;
                row.caveats.push(format!("{name}, round {round}, {}: {KEPT} {why}", target.point));
            }
        }
        Err(error) => entry.samples.push(crate::results::Sample {
            round: target.round,
            point: target.point.to_owned(),
            discarded: Some(unless_interrupted(error)?),
            ..crate::results::Sample::default()
        }),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_round_begins_with_another() {
        let rounds: Vec<Vec<usize>> = (0..4).map(|round| turns(3, round).collect()).collect();
        assert_eq!(rounds, [[0, 1, 2], [1, 2, 0], [2, 0, 1], [0, 1, 2]]);
        assert_eq!(turns(0, 5).count(), 0);
    }
}
