//! What changed since an older run, beyond the noise. Times of two runs are not comparable, so that each
//! is first divided by a peer that both have; counts and memory are compared as they are. Noise is
//! where the two ranges overlap.

use super::reading::Source;
use crate::judgement::{Conditions, LATEEN, Place, is_floor};
use crate::measure::Measure;
use crate::numbers;
use crate::results::{Entry, Environment, Results, Row};
use crate::statistics::{self, ROUNDS_MIN, Spread};

/// Of a whole run.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Change {
    /// When the old run began, and its commit.
    pub since: String,
    /// Worse than before, the most first.
    pub regressions: Vec<Moved>,
    /// Better than before, the most first.
    pub improvements: Vec<Moved>,
    /// Figures whose ranges overlap.
    pub same_count: usize,
    /// Figures of fewer than three rounds, or without a peer that both runs have.
    pub unjudged_count: usize,
    /// Rows that one of the runs lacks.
    pub unmatched: Vec<String>,
    /// How the two machines and peers differ.
    pub differences: Vec<String>,
}

/// A figure that moved.
#[derive(Debug, Clone, PartialEq)]
pub struct Moved {
    /// Row, profile and point.
    pub place: String,
    /// What moved, and over whom it was taken.
    pub figure: String,
    /// `0.71 (0.70–0.73)`.
    pub before: String,
    /// The same, now.
    pub now: String,
    /// New over old: above 1 is more.
    pub factor: f64,
}

/// Peers to divide by, the best first, after the floors.
const REFERENCES: &[&str] = &["nginx", "haproxy", "envoy"];

/// The rows of all sources against those of an older run.
pub fn of(sources: &[Source], old: &Source) -> Change {
    let before = &old.results;
    let commit = before.environment.commit.as_deref().unwrap_or("of unknown commit");
    let mut change = Change { since: format!("{}, {commit}", before.started), ..Change::default() };
    let mut matched: Vec<&Row> = Vec::new();
    for source in sources {
        let now = &source.results;
        for row in &now.rows {
            let same = |old: &&Row| {
                old.scenario == row.scenario && old.profile == row.profile && old.kind == row.kind
            };
            match before.rows.iter().find(same) {
                Some(old) => {
                    matched.push(old);
                    compare_row((old, before), (row, now), &mut change);
                }
                None => change.unmatched.push(format!("{} is new", row_name(row))),
            }
        }
        for difference in differences(before, now) {
            if !change.differences.contains(&difference) {
                change.differences.push(difference);
            }
        }
    }
    for row in before.rows.iter().filter(|row| !matched.iter().any(|old| std::ptr::eq(*old, *row)))
    {
        change.unmatched.push(format!("{} was not run again", row_name(row)));
    }
    let most =
        |one: &Moved, other: &Moved| other.factor.ln().abs().total_cmp(&one.factor.ln().abs());
    change.regressions.sort_by(most);
    change.improvements.sort_by(most);
    change
}

fn row_name(row: &Row) -> String {
    format!("{} · {}", row.scenario, row.profile.name())
}

fn compare_row((old, before): (&Row, &Results), (new, now): (&Row, &Results), change: &mut Change) {
    for point in new.points() {
        if !old.points().contains(&point) {
            let name = row_name(new);
            change.unmatched.push(format!("{name} · {point} is new"));
            continue;
        }
        let place =
            |row, results: &Results| Place { row, point, conditions: Conditions::of(results) };
        let places = [place(old, before), place(new, now)];
        let [Some(old_lateen), Some(new_lateen)] = places.map(|place| place.lateen()) else {
            continue;
        };
        for measure in places[1].compared() {
            compare_measure(places, [old_lateen, new_lateen], &measure, change);
        }
    }
}

fn compare_measure(
    places: [Place; 2],
    lateen: [&Entry; 2],
    measure: &Measure,
    change: &mut Change,
) {
    let pairs = [(places[0], lateen[0]), (places[1], lateen[1])];
    let own = pairs.map(|(place, lateen)| place.spread(lateen, measure));
    let [Some(own_before), Some(own_now)] = own else { return };
    let row = places[1].row;
    let mut figure = measure.name(&row.unit);
    let (before, now) = if measure.is_count() {
        (own_before, own_now)
    } else {
        let Some((reference, ratios)) = referred(pairs, measure) else {
            change.unjudged_count += 1;
            return;
        };
        figure = format!("{figure}, over {reference}");
        ratios
    };
    if before.count < ROUNDS_MIN || now.count < ROUNDS_MIN {
        change.unjudged_count += 1;
        return;
    }
    let (more, less) = (now.least > before.most, now.most < before.least);
    if !more && !less {
        change.same_count += 1;
        return;
    }
    let write = |spread: Spread| {
        if measure.is_count() {
            let (median, range) = numbers::spread(spread, measure.quantity());
            format!("{median} ({range})")
        } else {
            format!("{} ({})", numbers::ratio(spread.median), numbers::ratio_range(spread))
        }
    };
    let alone = row.points().len() < 2;
    let moved = Moved {
        place: if alone {
            row_name(row)
        } else {
            format!("{} · {}", row_name(row), places[1].point)
        },
        figure,
        before: write(before),
        now: write(now),
        factor: now.median / before.median,
    };
    if more == measure.lower_is_better() {
        change.regressions.push(moved);
    } else {
        change.improvements.push(moved);
    }
}

/// Lateen over the first peer that both runs have and that may be compared in both.
fn referred(pairs: [(Place, &Entry); 2], measure: &Measure) -> Option<(String, (Spread, Spread))> {
    let names = pairs[1].0.row.entries.iter().map(|entry| entry.peer.as_str());
    let mut references: Vec<&str> = names.clone().filter(|peer| is_floor(peer)).collect();
    references
        .extend(REFERENCES.iter().filter(|wanted| names.clone().any(|name| name == **wanted)));
    references.into_iter().find_map(|reference| {
        let ratios = pairs.map(|(place, lateen)| {
            let entry = place.row.entries.iter().find(|entry| entry.peer == reference)?;
            let judgement = place.judge(lateen, entry, measure)?;
            let read = |sample: &crate::results::Sample| measure.of(place.row, sample);
            let ratio = statistics::ratio_by(place.point, lateen, entry, true, read)?;
            (!judgement.objected).then_some(ratio.spread)
        });
        let [before, now] = ratios;
        Some((reference.to_owned(), (before?, now?)))
    })
}

fn differences(before: &Results, now: &Results) -> Vec<String> {
    let (old, new) = (&before.environment, &now.environment);
    let optional = |text: &Option<String>| text.clone().unwrap_or_else(|| "none".to_owned());
    let facts = |of: &Environment| {
        vec![
            ("CPU", of.cpu.clone()),
            ("number of CPUs", of.cpus.len().to_string()),
            ("kernel", of.kernel.clone()),
            ("virtualisation", optional(&of.virtualisation)),
            ("congestion control", of.congestion_control.clone()),
            ("governor", optional(&of.governor)),
            ("load engine", of.load_engine.clone()),
            ("hardware counters", if of.no_counters.is_none() { "yes" } else { "no" }.to_owned()),
            ("time as instructions", if of.instruction_clock { "yes" } else { "no" }.to_owned()),
        ]
    };
    let mut differences: Vec<String> = facts(old)
        .into_iter()
        .zip(facts(new))
        .filter(|((_, before), (_, now))| before != now)
        .map(|((name, before), (_, now))| format!("{name}: {before} before, {now} now"))
        .collect();
    if old.mitigations != new.mitigations {
        differences.push("mitigations of the CPU's vulnerabilities".to_owned());
    }
    for peer in now.peers.iter().filter(|peer| peer.name != LATEEN) {
        let earlier = before.peers.iter().find(|old| old.name == peer.name);
        if let Some(earlier) = earlier.filter(|earlier| earlier.version != peer.version) {
            let [was, is] = [earlier, peer].map(|peer| optional(&peer.version));
            differences.push(format!("{}: {was} before, {is} now", peer.name));
        }
    }
    differences
}

impl Change {
    /// What stands above the lists.
    pub fn sentence(&self) -> String {
        let regressions = numbers::counted(self.regressions.len(), "figure");
        let unjudged = match self.unjudged_count {
            0 => String::new(),
            count => format!(" {count} could not be judged."),
        };
        format!(
            "Beyond the noise, {regressions} got worse and {} better since the run of {}; {} stayed \
             within it.{unjudged}",
            self.improvements.len(),
            self.since,
            self.same_count
        )
    }
}

impl Moved {
    /// New over old; nothing where the old was nothing.
    pub fn factor_text(&self) -> String {
        if self.factor.is_finite() { numbers::ratio(self.factor) } else { "–".to_owned() }
    }
}
