//! Latency and cost at fixed rates. First each peer's capacity is taken; then all get the same rates,
//! which are shares of the slowest proxy's capacity, and each gets shares of its own.

use super::closed::{AS_MUCH, Ground, take, up};
use super::lanes::{Configs, Lane, Measured};
use super::plan::DIRECT;
use super::sample::Target;
use crate::results::{Entry, Row};
use crate::statistics::Spread;

const OF_THE_SLOWEST: [u32; 3] = [25, 50, 75];
const OF_ITS_OWN: [u32; 3] = [50, 75, 90];
/// Rounds in which capacity is taken, at most.
const CAPACITY_ROUNDS: u32 = 3;

/// Measures a row. Ends early only when it was interrupted; what it has is in the row.
pub fn measure(measured: &Measured, row: &mut Row, configs: &mut Configs) -> anyhow::Result<()> {
    let bench = measured.bench;
    row.caveats.extend(bench.placement.caveat.map(str::to_owned));
    let work = &measured.scenario.work;
    let (upstream, port) = bench.generator.upstream(work, &bench.placement)?;
    let ground = Ground { workers: 1, placement: &bench.placement, port, upstream: &upstream };
    let lanes = up(measured, row, configs, &ground)?;
    for round in 0..bench.runs.min(CAPACITY_ROUNDS) {
        for lane in &lanes {
            let target =
                Target { lane, work, upstream: &upstream, rate_per_s: None, point: AS_MUCH, round };
            take(measured, row, &target)?;
        }
    }
    let points = points(measured, row, &lanes);
    for round in 0..bench.runs {
        for (point, rates) in &points {
            for (lane, rate) in lanes.iter().zip(rates) {
                if rate.is_some() {
                    let target =
                        Target { lane, work, upstream: &upstream, rate_per_s: *rate, point, round };
                    take(measured, row, &target)?;
                }
            }
        }
    }
    Ok(())
}

/// By point, the rate of each lane that takes part in it.
fn points(measured: &Measured, row: &Row, lanes: &[Lane]) -> Vec<(String, Vec<Option<f64>>)> {
    let capacities: Vec<(bool, Option<f64>)> = lanes
        .iter()
        .map(|lane| {
            let proxy = measured.plan.contestants[lane.index].peer.name != DIRECT;
            (proxy, capacity(&row.entries[lane.index]))
        })
        .collect();
    rates(&capacities)
}

fn capacity(entry: &Entry) -> Option<f64> {
    let rates =
        entry.valid(AS_MUCH).filter_map(|sample| Some(sample.load.as_ref()?.requests_per_s));
    Spread::of(rates).map(|spread| spread.median)
}

/// Of each lane: whether it is a proxy, and what it can do.
fn rates(capacities: &[(bool, Option<f64>)]) -> Vec<(String, Vec<Option<f64>>)> {
    let proxies =
        capacities.iter().filter(|(proxy, _)| *proxy).filter_map(|(_, capacity)| *capacity);
    let Some(slowest) = proxies.min_by(f64::total_cmp) else { return Vec::new() };
    let share = |percent: u32| f64::from(percent) / 100.0;
    let same = OF_THE_SLOWEST.map(|percent| {
        let rate = slowest * share(percent);
        let of = |(_, capacity): &(bool, Option<f64>)| capacity.map(|_| rate);
        (format!("{percent} % of the slowest"), capacities.iter().map(of).collect())
    });
    let own = OF_ITS_OWN.map(|percent| {
        let of = |(proxy, capacity): &(bool, Option<f64>)| {
            capacity.filter(|_| *proxy).map(|capacity| capacity * share(percent))
        };
        (format!("{percent} % of its own"), capacities.iter().map(of).collect())
    });
    same.into_iter().chain(own).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_shares_of_the_slowest_proxy_and_of_each_ones_own() {
        let points = rates(&[
            (true, Some(4_000.0)),
            (true, Some(1_000.0)),
            (true, None),
            (false, Some(500.0)),
        ]);
        let at = |name: &str| {
            points
                .iter()
                .find(|(point, _)| point == name)
                .map(|(_, rates)| rates.clone())
                .expect("there")
        };
        assert_eq!(
            at("25 % of the slowest"),
            [Some(250.0), Some(250.0), None, Some(250.0)],
            "the upstream itself takes part, and does not count as the slowest"
        );
        assert_eq!(at("90 % of its own"), [Some(3_600.0), Some(900.0), None, None]);
        assert_eq!(points.len(), 6);
        assert!(rates(&[(false, Some(1.0))]).is_empty());
    }
}
