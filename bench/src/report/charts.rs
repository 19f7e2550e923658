//! What the plots show: the values, taken from a row. How they are drawn is for `plots`.

use super::series::Series;
use crate::judgement::{Conditions, Place};
use crate::load::summary::Latency;
use crate::measure::{Holder, Measure};
use crate::numbers::Quantity;
use crate::results::{Kind, Row, Sample};
use crate::statistics::{Figure, Spread};
use std::collections::BTreeMap;
use std::f64::consts::LOG10_2;

/// A plot.
#[derive(Debug, Clone, PartialEq)]
pub enum Chart {
    /// One bar for each peer.
    Bars(Bars),
    /// One line for each peer.
    Lines(Lines),
}

/// Bars that begin at nothing.
#[derive(Debug, Clone, PartialEq)]
pub struct Bars {
    /// Above the plot.
    pub title: String,
    /// What is counted.
    pub quantity: Quantity,
    /// Names of the two parts of a stacked bar.
    pub parts: Option<[&'static str; 2]>,
    /// From top to bottom.
    pub bars: Vec<Bar>,
}

/// A bar.
#[derive(Debug, Clone, PartialEq)]
pub struct Bar {
    /// The peer.
    pub label: String,
    /// Its colour.
    pub series: Series,
    /// Its length, and the whisker.
    pub value: Spread,
    /// Share of the first part.
    pub first_share: Option<f64>,
    /// Why it is drawn pale.
    pub note: Option<String>,
}

/// Lines with a logarithmic upright axis.
#[derive(Debug, Clone, PartialEq)]
pub struct Lines {
    /// Above the plot.
    pub title: String,
    /// What is level.
    pub axis: Axis,
    /// What is upright.
    pub quantity: Quantity,
    /// One for each peer.
    pub lines: Vec<Line>,
}

/// The level axis.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Axis {
    /// `log10(1 / (1 - p))`: each step is another nine.
    Nines,
    /// Requests a second, from nothing.
    Rate,
}

/// A line.
#[derive(Debug, Clone, PartialEq)]
pub struct Line {
    /// The peer.
    pub label: String,
    /// Its colour.
    pub series: Series,
    /// From left to right.
    pub points: Vec<(f64, Spread)>,
}

/// Plots of one point of a row.
pub fn of_point(place: Place, series: &BTreeMap<String, Series>) -> Vec<Chart> {
    let row = place.row;
    let figure = |figure, parts| bars(place, series, Measure::Figure(figure), parts);
    let instructions = [Figure::InstructionsUser, Figure::InstructionsKernel];
    let cost = [
        figure(Figure::Instructions, Some(instructions)),
        figure(Figure::CpuUs, Some([Figure::UserUs, Figure::SystemUs])),
    ];
    let mut charts = Vec::new();
    match row.kind {
        Kind::Throughput => charts.push(figure(Figure::Throughput, None)),
        Kind::Latency if place.conditions.instruction_clock => {}
        Kind::Latency => charts.push(percentiles(place, series)),
        Kind::Memory => charts.extend(memory(place, series)),
        Kind::Change => {
            charts.extend(
                [Measure::EffectUs, Measure::Failed, Measure::ResidentMax]
                    .map(|measure| bars(place, series, measure, None)),
            );
        }
    }
    charts.extend(cost);
    charts.into_iter().flatten().collect()
}

/// Latency against rate over the points of a row; nothing where there is one point only.
pub fn of_rates(
    row: &Row,
    conditions: Conditions,
    series: &BTreeMap<String, Series>,
) -> Vec<Chart> {
    let points = row.points();
    if row.kind != Kind::Latency || points.len() < 2 || conditions.instruction_clock {
        return Vec::new();
    }
    let against = |figure: Figure, title: &str| {
        let line = |entry: &crate::results::Entry| {
            let mut values: Vec<(f64, Spread)> = points
                .iter()
                .filter_map(|point| {
                    let place = Place { row, point, conditions };
                    Some((place.rate(entry)?, place.spread(entry, &Measure::Figure(figure))?))
                })
                .filter(|(rate, _)| rate.is_finite())
                .collect();
            values.sort_by(|one, other| one.0.total_cmp(&other.0));
            line(&entry.peer, series, values)
        };
        let lines: Vec<Line> = row.entries.iter().filter_map(line).collect();
        (!lines.is_empty()).then(|| {
            let title = format!("{title} against the offered rate");
            Chart::Lines(Lines { title, axis: Axis::Rate, quantity: Quantity::Us, lines })
        })
    };
    [against(Figure::P50Us, "Median latency"), against(Figure::P99Us, "99th percentile")]
        .into_iter()
        .flatten()
        .collect()
}

fn line(peer: &str, series: &BTreeMap<String, Series>, points: Vec<(f64, Spread)>) -> Option<Line> {
    let series = *series.get(peer)?;
    let points: Vec<_> = points.into_iter().filter(|(_, spread)| spread.least > 0.0).collect();
    (!points.is_empty()).then(|| Line { label: peer.to_owned(), series, points })
}

fn bars(
    place: Place,
    series: &BTreeMap<String, Series>,
    measure: Measure,
    parts: Option<[Figure; 2]>,
) -> Option<Chart> {
    if !place.has(&measure) {
        return None;
    }
    let throughput = measure == Measure::Figure(Figure::Throughput);
    let mut stacked = false;
    let mut bars = Vec::new();
    for entry in &place.row.entries {
        let Some(value) = place.spread(entry, &measure) else { continue };
        let first_share = parts.and_then(|parts| {
            let [first, second] = parts.map(|part| place.spread(entry, &Measure::Figure(part)));
            let (first, second) = (first?.median.max(0.0), second?.median.max(0.0));
            (first + second > 0.0).then(|| first / (first + second))
        });
        stacked |= first_share.is_some();
        let note = throughput.then(|| place.client_bound(entry)).flatten();
        let note =
            if entry.peer == "direct" && throughput { Some("no proxy".into()) } else { note };
        let note =
            note.or_else(|| (place.missed(entry) > 0).then(|| "did not carry the rate".to_owned()));
        let series = *series.get(&entry.peer)?;
        bars.push(Bar { label: entry.peer.clone(), series, value, first_share, note });
    }
    let shows = bars.iter().any(|bar| bar.value.most > 0.0);
    shows.then(|| {
        Chart::Bars(Bars {
            title: capital(&measure.name(&place.row.unit)),
            quantity: measure.quantity(),
            parts: stacked.then_some(["user", "kernel"]),
            bars,
        })
    })
}

fn memory(place: Place, series: &BTreeMap<String, Series>) -> Vec<Option<Chart>> {
    let measures = place.compared();
    let most = |holder| {
        let counts = measures.iter().filter_map(|measure| match measure {
            Measure::PerConnection(of, connections) if *of == holder => Some(*connections),
            _ => None,
        });
        counts.max()
    };
    let per_connection = [Holder::Process, Holder::Cgroup].into_iter().filter_map(|holder| {
        Some(bars(place, series, Measure::PerConnection(holder, most(holder)?), None))
    });
    let idle = bars(place, series, Measure::Stage(Holder::Process, "idle".into()), None);
    per_connection.chain([idle]).collect()
}

fn percentiles(place: Place, series: &BTreeMap<String, Series>) -> Option<Chart> {
    let lines: Vec<Line> = place
        .row
        .entries
        .iter()
        .filter_map(|entry| {
            let rounds: Vec<&Latency> =
                place.samples(entry).filter_map(latency).filter(|one| one.count > 0).collect();
            line(&entry.peer, series, curve(&rounds))
        })
        .collect();
    (!lines.is_empty()).then(|| {
        Chart::Lines(Lines {
            title: "Latency by percentile".to_owned(),
            axis: Axis::Nines,
            quantity: Quantity::Us,
            lines,
        })
    })
}

fn latency(sample: &Sample) -> Option<&Latency> {
    sample.load.as_ref()?.latency_us.as_ref()
}

/// From the median on, four to a nine.
const NINES: &[f64] =
    &[LOG10_2, 0.5, 0.75, 1.0, 1.25, 1.5, 1.75, 2.0, 2.25, 2.5, 2.75, 3.0, 3.25, 3.5, 3.75, 4.0];

/// Each percentile over the rounds; it ends where a round has no value beyond it.
fn curve(rounds: &[&Latency]) -> Vec<(f64, Spread)> {
    let all_have = |nines: f64| rounds.iter().all(|one| one.count as f64 >= 10_f64.powf(nines));
    NINES
        .iter()
        .take_while(|nines| all_have(**nines))
        .filter_map(|nines| {
            let values: Vec<f64> = rounds.iter().filter_map(|one| value_at(one, *nines)).collect();
            let complete = values.len() == rounds.len();
            complete.then(|| Spread::of(values)).flatten().map(|spread| (*nines, spread))
        })
        .collect()
}

/// Between the two points of the curve that surround it.
fn value_at(latency: &Latency, nines: f64) -> Option<f64> {
    let named = [
        (50.0, latency.p50),
        (90.0, latency.p90),
        (99.0, latency.p99),
        (99.9, latency.p99_9),
        (99.99, latency.p99_99),
    ];
    let curve = if latency.curve.len() > 1 { &latency.curve[..] } else { &named[..] };
    let place = |percentile: f64| -> f64 {
        let above = 1.0 - percentile / 100.0;
        if above > 1e-9 { -above.log10() } else { 9.0 }
    };
    let after = curve.iter().position(|(percentile, _)| place(*percentile) >= nines - 1e-6)?;
    let (right, high) = curve[after];
    let Some((left, low)) = after.checked_sub(1).map(|before| curve[before]) else {
        return Some(high);
    };
    let width = place(right) - place(left);
    let share = if width > 0.0 { (nines - place(left)) / width } else { 1.0 };
    Some(low + (high - low) * share.clamp(0.0, 1.0))
}

/// With a capital letter.
pub fn capital(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| {
        // CPU stays, and p99 is no word.
        if text.starts_with("p99") || text.starts_with("p50") {
            text.to_owned()
        } else {
            first.to_uppercase().chain(letters).collect()
        }
    })
}
