//! Latency and cost at fixed rates. First each peer's capacity is taken; then all get the same rates,
//! which are shares of the slowest proxy's capacity, and each gets shares of its own.

use super::closed::{AS_MUCH, Ground, take, turns, up};
use super::lanes::{Configs, Lane, Measured};
use super::plan::DIRECT;
use super::sample::Target;
use crate::results::{Entry, Row};
use crate::statistics::{PROXY_BUSY_MIN, Spread};

const OF_THE_SLOWEST: [u32; 3] = [25, 50, 75];
const OF_ITS_OWN: [u32; 3] = [50, 75, 90];
/// Rounds in which capacity is taken, at most.
const CAPACITY_ROUNDS: u32 = 3;
/// Of the rate that was asked for, what must be answered.
const CARRIED_MIN: f64 = 0.99;
/// Of the requests, those that were sent late.
const LATE_MAX: f64 = 0.01;

/// Measures a row. Ends early only when it was interrupted; what it has is in the row.
pub fn measure(measured: &Measured, row: &mut Row, configs: &mut Configs) -> anyhow::Result<()> {
    let ended = loads(measured, row, configs);
    let caveats: Vec<String> = row.entries.iter().flat_map(caveats_of).collect();
    row.caveats.extend(caveats);
    ended
}

fn loads(measured: &Measured, row: &mut Row, configs: &mut Configs) -> anyhow::Result<()> {
    let bench = measured.bench;
    row.caveats.extend(bench.placement.caveat.map(str::to_owned));
    let work = &measured.scenario.work;
    let (upstream, port) = bench.generator.upstream(work, &bench.placement)?;
    let ground = Ground { workers: 1, placement: &bench.placement, port, upstream: &upstream };
    let lanes = up(measured, row, configs, &ground)?;
    for round in 0..bench.runs.min(CAPACITY_ROUNDS) {
        for lane in turns(lanes.len(), round).map(|index| &lanes[index]) {
            let target =
                Target { lane, work, upstream: &upstream, rate_per_s: None, point: AS_MUCH, round };
            take(measured, row, &target)?;
        }
    }
    let points = points(measured, row, &lanes);
    for round in 0..bench.runs {
        for (point, rates) in &points {
            for index in turns(lanes.len(), round) {
                let (lane, rate_per_s) = (&lanes[index], rates[index]);
                if rate_per_s.is_some() {
                    let target =
                        Target { lane, work, upstream: &upstream, rate_per_s, point, round };
                    take(measured, row, &target)?;
                }
            }
        }
    }
    Ok(())
}

/// What must be known of a peer's samples before their latency is compared.
fn caveats_of(entry: &Entry) -> Vec<String> {
    let mut points: Vec<&str> = Vec::new();
    for sample in &entry.samples {
        if !points.contains(&sample.point.as_str()) {
            points.push(&sample.point);
        }
    }
    let of = |point: &str| {
        if point == AS_MUCH {
            return vec![not_the_limit(entry)];
        }
        vec![not_carried(entry, point), sent_late(entry, point)]
    };
    points.into_iter().flat_map(of).flatten().collect()
}

/// A capacity that was taken while the proxy idled is the client's.
fn not_the_limit(entry: &Entry) -> Option<String> {
    let busy = entry.valid(AS_MUCH).filter_map(|sample| Some(sample.busy.as_ref()?.proxy_cpu));
    let busy = Spread::of(busy)?.median;
    (busy < PROXY_BUSY_MIN && entry.peer != DIRECT).then(|| {
        format!(
            "{} was not the limit at {AS_MUCH} (its CPU was busy for {:.0} %): its capacity, and the rates \
             made of it, are the client's",
            entry.peer,
            busy * 100.0
        )
    })
}

/// Latency at a rate that was not carried is that of another rate.
fn not_carried(entry: &Entry, point: &str) -> Option<String> {
    let loads: Vec<_> = entry.valid(point).filter_map(|sample| sample.load.as_ref()).collect();
    let unsent: u64 = loads.iter().map(|load| load.unsent).sum();
    let offered = loads.iter().filter_map(|load| load.rate_per_s).find(|rate| *rate > 0.0)?;
    let least = loads.iter().map(|load| load.requests_per_s).min_by(f64::total_cmp)?;
    let share = least / offered;
    (unsent > 0 || share < CARRIED_MIN).then(|| {
        format!(
            "{} did not carry {}/s at {point}: {unsent} unsent, {:.1} % answered at worst",
            entry.peer,
            with_commas(offered),
            share * 100.0
        )
    })
}

fn sent_late(entry: &Entry, point: &str) -> Option<String> {
    let loads = entry.valid(point).filter_map(|sample| sample.load.as_ref());
    let share = |load: &crate::load::summary::LoadReport| {
        load.late_sends as f64 / load.requests.max(1) as f64
    };
    let most = loads.map(share).max_by(f64::total_cmp)?;
    (most > LATE_MAX).then(|| {
        format!(
            "{} at {point}: up to {:.1} % of the requests were sent more than 1 ms late, as the client or \
             all its connections were busy",
            entry.peer,
            most * 100.0
        )
    })
}

/// A whole number with a comma before each three digits.
fn with_commas(number: f64) -> String {
    let digits = format!("{number:.0}");
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
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
    use crate::load::summary::LoadReport;
    use crate::results::{Busy, Sample};

    fn sample(point: &str, load: LoadReport, proxy_cpu: f64) -> Sample {
        let busy = Some(Busy { proxy_cpu, ..Busy::default() });
        Sample { point: point.to_owned(), load: Some(load), busy, ..Sample::default() }
    }

    #[test]
    fn a_rate_that_was_not_carried_is_told_by_peer_and_point() {
        let load = |requests_per_s: f64, unsent, late_sends| LoadReport {
            rate_per_s: Some(12_345.0),
            requests_per_s,
            requests: 10_000,
            unsent,
            late_sends,
            ..LoadReport::default()
        };
        let entry = |loads: &[LoadReport]| Entry {
            peer: "nginx".to_owned(),
            samples: loads.iter().map(|load| sample("here", load.clone(), 0.5)).collect(),
            ..Entry::default()
        };
        let said = |loads: &[LoadReport]| caveats_of(&entry(loads)).join("|");
        assert_eq!(said(&[load(12_345.0, 0, 100), load(12_230.0, 0, 0)]), "");
        assert_eq!(
            said(&[load(12_345.0, 7, 0), load(12_345.0, 3, 0)]),
            "nginx did not carry 12,345/s at here: 10 unsent, 100.0 % answered at worst"
        );
        assert!(said(&[load(12_000.0, 0, 0)]).contains("0 unsent, 97.2 % answered at worst"));
        assert!(said(&[load(12_345.0, 0, 101)]).contains("up to 1.0 % of the requests"));
    }

    #[test]
    fn a_capacity_that_is_the_clients_is_told() {
        let entry = |peer: &str, proxy_cpu| Entry {
            peer: peer.to_owned(),
            samples: vec![sample(AS_MUCH, LoadReport::default(), proxy_cpu)],
            ..Entry::default()
        };
        assert!(caveats_of(&entry("nginx", 0.8))[0].contains("busy for 80 %"));
        assert!(caveats_of(&entry("nginx", 0.96)).is_empty());
        assert!(caveats_of(&entry(DIRECT, 0.1)).is_empty());
    }

    #[test]
    fn long_numbers_have_commas() {
        for (number, text) in
            [(7.4, "7"), (999.0, "999"), (1_000.0, "1,000"), (1_234_567.0, "1,234,567")]
        {
            assert_eq!(with_commas(number), text);
        }
    }

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
