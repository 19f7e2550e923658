//! What stands at the top of the page: what was measured and what came out, in sentences that the data
//! makes, and one number for each peer.

use super::behind::Behind;
use super::model::Placed;
use super::reading::Source;
use crate::judgement::{Judgement, LATEEN, is_reference, is_variant};
use crate::measure::Measure;
use crate::numbers::{self, counted, listed};
use crate::results::Kind;
use crate::statistics::{Figure, Verdict};
use std::collections::BTreeSet;

/// The main finding against one peer.
#[derive(Debug, Clone, PartialEq)]
pub struct Tile {
    /// Whom against.
    pub peer: String,
    /// `0.62`.
    pub ratio: String,
    /// `instructions / request`.
    pub figure: String,
    /// Row and profile.
    pub place: String,
    /// Of the row's section.
    pub anchor: String,
    /// `better`, `worse` or `undecided`.
    pub verdict: &'static str,
    /// `0.60–0.65`.
    pub range: String,
}

/// The scenario of the tiles, where it was run.
const FIRST_CHOICE: &str = "keepalive-64";

/// Of the page.
pub fn title(sources: &[Source]) -> String {
    let peers = peers(sources);
    let names: Vec<&String> = peers.iter().filter(|peer| !peer.contains("-tuned")).collect();
    if names.is_empty() {
        "What Lateen costs".to_owned()
    } else {
        format!("Lateen beside {}", listed(&names))
    }
}

/// The sentences and the tiles.
pub fn of(sources: &[Source], placed: &[Placed], behind: &Behind) -> (Vec<String>, Vec<Tile>) {
    let all = peers(sources);
    let mut sentences = vec![measured(sources, &all)];
    // Beside its tuned self a peer with its defaults is the easier one to beat.
    let is_easier = |peer: &String| all.contains(&format!("{peer}-tuned"));
    let peers: Vec<String> = all.iter().filter(|peer| !is_easier(peer)).cloned().collect();
    if behind.has_lateen {
        sentences.extend(costs(placed, &peers));
        sentences.extend(throughput(placed, &peers));
        sentences.extend(latency(placed, &peers));
    }
    sentences.push(losses(behind));
    let tiles = if behind.has_lateen { tiles(placed, &peers) } else { Vec::new() };
    (sentences, tiles)
}

/// Other proxies with samples, in the order in which they first ran.
fn peers(sources: &[Source]) -> Vec<String> {
    let mut peers: Vec<String> = Vec::new();
    let rows = sources.iter().flat_map(|source| &source.results.rows);
    for entry in rows.flat_map(|row| &row.entries) {
        let name = &entry.peer;
        let ran = entry.samples.iter().any(|sample| sample.discarded.is_none());
        let other = name != LATEEN && !is_variant(name) && !is_reference(name);
        if ran && other && !peers.contains(name) {
            peers.push(name.clone());
        }
    }
    peers
}

fn measured(sources: &[Source], peers: &[String]) -> String {
    let rows: Vec<_> = sources.iter().flat_map(|source| &source.results.rows).collect();
    let scenarios: BTreeSet<&str> = rows.iter().map(|row| row.scenario.as_str()).collect();
    let profiles: BTreeSet<&str> = rows.iter().map(|row| row.profile.name()).collect();
    let rounds: BTreeSet<u32> = rows
        .iter()
        .flat_map(|row| &row.entries)
        .flat_map(|entry| &entry.samples)
        .map(|sample| sample.round)
        .collect();
    let environment = &sources[0].results.environment;
    let version = |name: &str| {
        let mut all = sources.iter().flat_map(|source| &source.results.peers);
        let version = all.find(|peer| peer.name == name).and_then(|peer| peer.version.clone());
        let plain = name.trim_end_matches("-tuned");
        match version.as_deref().and_then(number_of) {
            Some(number) => format!("{plain} {number}"),
            None => plain.to_owned(),
        }
    };
    let named: Vec<String> = peers.iter().map(|peer| version(peer)).collect();
    let mut unique: Vec<&String> = Vec::new();
    named.iter().for_each(|name| {
        if !unique.contains(&name) {
            unique.push(name);
        }
    });
    let beside =
        if unique.is_empty() { "no other proxy".to_owned() } else { listed(&unique).to_string() };
    let on = if environment.cpu.is_empty() {
        String::new()
    } else {
        format!(" on {} of {}", counted(environment.cpus.len(), "CPU"), environment.cpu.trim())
    };
    format!(
        "{} was measured beside {beside}, in {} ({}) and up to {}{on}.",
        version(LATEEN),
        counted(scenarios.len(), "scenario"),
        listed(&profiles.into_iter().collect::<Vec<_>>()),
        counted(rounds.len(), "round"),
    )
}

/// The number in what a program says of its version: `1.22.1` of `nginx version: nginx/1.22.1`.
fn number_of(said: &str) -> Option<&str> {
    said.split([' ', '/']).find_map(|word| {
        let end = word.find(|letter: char| !letter.is_ascii_digit() && letter != '.');
        let number = &word[..end.unwrap_or(word.len())];
        (number.starts_with(|first: char| first.is_ascii_digit()) && number.contains('.'))
            .then_some(number)
    })
}

/// How a measure came out against one peer, over rows and points.
#[derive(Default)]
struct Tally {
    better: usize,
    worse: usize,
    undecided: usize,
    /// Where the conditions did not allow a comparison.
    objected: usize,
    medians: Vec<f64>,
}

impl Tally {
    fn total(&self) -> usize {
        self.better + self.worse + self.undecided
    }

    fn add(&mut self, judgement: &Judgement) {
        if judgement.objected {
            self.objected += 1;
            return;
        }
        match judgement.verdict {
            Verdict::Better => self.better += 1,
            Verdict::Worse => self.worse += 1,
            Verdict::Undecided => self.undecided += 1,
        }
        self.medians.extend(judgement.ratio.map(|ratio| ratio.median));
    }

    /// `better in 9 of 10, worse in 1`.
    fn words(&self) -> String {
        let all = self.total();
        let parts: Vec<String> =
            [("better", self.better), ("worse", self.worse), ("undecided", self.undecided)]
                .iter()
                .filter(|(_, count)| *count > 0)
                .map(|(word, count)| format!("{word} in {count}"))
                .collect();
        format!("{} of {all}", listed(&parts))
    }

    fn range(&self) -> String {
        let least = self.medians.iter().copied().fold(f64::INFINITY, f64::min);
        let most = self.medians.iter().copied().fold(0.0, f64::max);
        let (least, most) = (numbers::ratio(least), numbers::ratio(most));
        if least == most { format!("{least}×") } else { format!("{least} to {most}×") }
    }
}

fn tally(
    placed: &[Placed],
    peer: &str,
    of: impl Fn(crate::judgement::Place) -> Option<Measure>,
) -> Tally {
    let mut tally = Tally::default();
    for place in placed.iter().flat_map(Placed::points) {
        let entry = place.row.entries.iter().find(|entry| entry.peer == peer);
        let (Some(measure), Some(lateen), Some(entry)) = (of(place), place.lateen(), entry) else {
            continue;
        };
        if let Some(judgement) = place.judge(lateen, entry, &measure) {
            tally.add(&judgement);
        }
    }
    tally
}

fn costs(placed: &[Placed], peers: &[String]) -> Option<String> {
    let of = |place: crate::judgement::Place| {
        matches!(place.row.kind, Kind::Throughput | Kind::Latency).then(|| place.cost())
    };
    let counted = placed
        .iter()
        .flat_map(Placed::points)
        .any(|place| of(place) == Some(Measure::Figure(Figure::Instructions)));
    let parts: Vec<String> = peers
        .iter()
        .filter_map(|peer| {
            let tally = tally(placed, peer, of);
            (!tally.medians.is_empty())
                .then(|| format!("{} those of {peer} ({})", tally.range(), tally.words()))
        })
        .collect();
    let what = if counted { "instructions" } else { "CPU µs" };
    (!parts.is_empty()).then(|| {
        format!(
            "For the same work Lateen's process used, in {what} and by row, {}.",
            listed(&parts)
        )
    })
}

fn throughput(placed: &[Placed], peers: &[String]) -> Option<String> {
    let of = |place: crate::judgement::Place| {
        (place.row.kind == Kind::Throughput).then_some(Measure::Figure(Figure::Throughput))
    };
    verdicts(placed, peers, of).map(|(total, text)| {
        if text.is_empty() {
            format!(
                "Throughput decided nothing in {}: the client was the limit, or rounds disagreed.",
                counted(total, "comparison")
            )
        } else {
            format!("Where the proxies were the limit, Lateen's throughput was {text}.")
        }
    })
}

fn latency(placed: &[Placed], peers: &[String]) -> Option<String> {
    let of = |place: crate::judgement::Place| {
        (place.row.kind == Kind::Latency).then_some(Measure::Figure(Figure::P99Us))
    };
    verdicts(placed, peers, of).map(|(total, text)| {
        if text.is_empty() {
            format!("p99 latency decided nothing in {}.", counted(total, "comparison"))
        } else {
            format!("At equal rates its p99 latency was {text}.")
        }
    })
}

/// How many comparisons there were, and what the decided ones say.
fn verdicts(
    placed: &[Placed],
    peers: &[String],
    of: impl Fn(crate::judgement::Place) -> Option<Measure>,
) -> Option<(usize, String)> {
    let tallies: Vec<(&String, Tally)> =
        peers.iter().map(|peer| (peer, tally(placed, peer, &of))).collect();
    let total = tallies.iter().map(|(_, tally)| tally.total() + tally.objected).sum();
    let mut alike: Vec<((usize, usize, usize), Vec<String>)> = Vec::new();
    for (peer, tally) in tallies.iter().filter(|(_, tally)| tally.better + tally.worse > 0) {
        let counts = (tally.better, tally.worse, tally.total());
        let whose = format!("{peer}'s");
        match alike.iter_mut().find(|(same, _)| *same == counts) {
            Some((_, peers)) => peers.push(whose),
            None => alike.push((counts, vec![whose])),
        }
    }
    let said: Vec<String> = alike
        .iter()
        .map(|((better, worse, all), peers)| {
            let peers = listed(peers);
            match (better, worse) {
                (better, 0) => format!("better than {peers} in {better} of {all}"),
                (0, worse) => format!("worse than {peers} in {worse} of {all}"),
                (better, worse) => {
                    format!("better than {peers} in {better} and worse in {worse} of {all}")
                }
            }
        })
        .collect();
    (total > 0).then(|| (total, said.join("; ")))
}

fn losses(behind: &Behind) -> String {
    let mut sentence = behind.sentence();
    if let Some(most) = behind.worse.first() {
        let ratio = if most.ratio.is_empty() { &most.values } else { &most.ratio };
        sentence.push_str(&format!(
            " Furthest behind {}: {} in {}, {ratio}.",
            most.peer, most.figure, most.place
        ));
    }
    sentence
}

fn tiles(placed: &[Placed], peers: &[String]) -> Vec<Tile> {
    let chosen = placed
        .iter()
        .find(|one| one.row.kind == Kind::Throughput && one.row.scenario.contains(FIRST_CHOICE))
        .or_else(|| placed.iter().find(|one| one.row.kind == Kind::Throughput))
        .or_else(|| placed.iter().find(|one| one.row.kind == Kind::Latency));
    let Some((one, place)) = chosen.and_then(|one| Some((one, one.points().next()?))) else {
        return Vec::new();
    };
    let measure = place.cost();
    let tile = |peer: &String| {
        let entry = place.row.entries.iter().find(|entry| entry.peer == *peer)?;
        let judgement = place.judge(place.lateen()?, entry, &measure)?;
        let ratio = judgement.ratio?;
        Some(Tile {
            peer: peer.clone(),
            ratio: numbers::ratio(ratio.median),
            figure: measure.name(&place.row.unit),
            place: one.heading.clone(),
            anchor: one.anchor.clone(),
            verdict: judgement.word(),
            range: numbers::ratio_range(ratio),
        })
    };
    peers.iter().filter_map(tile).collect()
}
