//! Where Lateen is behind: every figure of every row in which it did worse than a peer, and those in
//! which nothing was decided. Nothing is chosen here but the order.

use super::model::Placed;
use crate::judgement::{Judgement, LATEEN, Place, is_floor, is_reference, is_variant};
use crate::measure::Measure;
use crate::numbers;
use crate::results::{Entry, Kind};
use crate::statistics::Verdict;

/// The whole of it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Behind {
    /// Worse than a peer, the most first.
    pub worse: Vec<Item>,
    /// Neither, in the order of the rows.
    pub undecided: Vec<Item>,
    /// Worse than Lateen itself on another engine or with other settings.
    pub own: Vec<Item>,
    /// Better than a peer.
    pub better_count: usize,
    /// Cost over the smallest forwarder's, the most first.
    pub floor: Vec<Item>,
    /// Peers that were compared nowhere.
    pub unmeasured: Vec<String>,
    /// Whether Lateen is in the results at all.
    pub has_lateen: bool,
}

/// A figure of a row against a peer.
#[derive(Debug, Clone, PartialEq)]
pub struct Item {
    /// Row, profile and point.
    pub place: String,
    /// Of the row's section.
    pub anchor: String,
    /// `CPU time / request`.
    pub figure: String,
    /// Behind whom.
    pub peer: String,
    /// `1.31 (1.28–1.40)`; nothing where there is no ratio.
    pub ratio: String,
    /// `31.0 k against 23.7 k`.
    pub values: String,
    /// Why nothing was decided.
    pub reason: Option<String>,
    weight: f64,
}

/// Of all rows.
pub fn of(placed: &[Placed]) -> Behind {
    let mut behind = Behind::default();
    let mut peers: Vec<(&str, bool)> = Vec::new();
    for one in placed {
        for entry in one.row.entries.iter().filter(|entry| !is_reference(&entry.peer)) {
            let other = entry.peer != LATEEN && !is_variant(&entry.peer);
            if other && !peers.iter().any(|(peer, _)| *peer == entry.peer) {
                peers.push((&entry.peer, false));
            }
        }
        for place in one.points() {
            let Some(lateen) = place.lateen() else { continue };
            behind.has_lateen |= place.samples(lateen).next().is_some();
            for entry in place.row.entries.iter().filter(|entry| entry.peer != LATEEN) {
                let judged = judge_all(one, place, lateen, entry, &mut behind);
                let peer = peers.iter_mut().find(|(peer, _)| *peer == entry.peer);
                if let Some((_, compared)) = peer {
                    *compared |= judged;
                }
            }
        }
    }
    let heaviest = |one: &Item, other: &Item| other.weight.total_cmp(&one.weight);
    behind.worse.sort_by(heaviest);
    behind.own.sort_by(heaviest);
    behind.floor.sort_by(heaviest);
    let unmeasured = peers.into_iter().filter(|(_, compared)| !compared);
    behind.unmeasured = unmeasured.map(|(peer, _)| peer.to_owned()).collect();
    behind
}

/// Sorts every figure of one peer into its list; says whether there was one.
fn judge_all(
    one: &Placed,
    place: Place,
    lateen: &Entry,
    peer: &Entry,
    behind: &mut Behind,
) -> bool {
    let mut any = false;
    for measure in place.compared() {
        let Some(judgement) = place.judge(lateen, peer, &measure) else { continue };
        any = true;
        let item = || item(one, place, (lateen, peer), &measure, &judgement);
        if is_floor(&peer.peer) {
            let cost = matches!(place.row.kind, Kind::Throughput | Kind::Latency);
            if cost && measure == place.cost() {
                behind.floor.push(item());
            }
        } else if is_variant(&peer.peer) {
            if judgement.verdict == Verdict::Worse {
                behind.own.push(item());
            }
        } else if !is_reference(&peer.peer) {
            match judgement.verdict {
                Verdict::Worse => behind.worse.push(item()),
                Verdict::Undecided => behind.undecided.push(item()),
                Verdict::Better => behind.better_count += 1,
            }
        }
    }
    any
}

fn item(
    one: &Placed,
    place: Place,
    (lateen, peer): (&Entry, &Entry),
    measure: &Measure,
    judgement: &Judgement,
) -> Item {
    let median = |entry| {
        place.spread(entry, measure).map_or_else(
            || "–".to_owned(),
            |spread| numbers::quantity(spread.median, measure.quantity()),
        )
    };
    let ratio = judgement.ratio.map_or_else(String::new, |ratio| {
        format!("{} ({})", numbers::ratio(ratio.median), numbers::ratio_range(ratio))
    });
    Item {
        place: one.name_of(place.point),
        anchor: one.anchor.clone(),
        figure: measure.name(&place.row.unit),
        peer: peer.peer.clone(),
        ratio,
        values: format!("{} against {}", median(lateen), median(peer)),
        reason: judgement.reason.clone(),
        weight: judgement.weight(measure.lower_is_better()),
    }
}

impl Behind {
    /// What stands above the lists.
    pub fn sentence(&self) -> String {
        if !self.has_lateen {
            return "Lateen has no sample in these results, so that nothing is compared with it."
                .to_owned();
        }
        let judged = self.worse.len() + self.undecided.len() + self.better_count;
        if judged == 0 {
            return "No other proxy ran beside Lateen, so that there is nobody to be behind."
                .to_owned();
        }
        let unmeasured = if self.unmeasured.is_empty() {
            String::new()
        } else {
            format!(" Not measured: {}.", numbers::listed(&self.unmeasured))
        };
        let (worse, undecided) = (self.worse.len(), self.undecided.len());
        let open = format!("{undecided} stayed undecided");
        if worse == 0 {
            format!(
                "In no figure that could be decided was Lateen behind a peer: of {judged} it was ahead \
                 in {}, and {open}. Undecided is not equal.{unmeasured}",
                self.better_count
            )
        } else {
            format!(
                "Of {judged} figures beside other proxies Lateen was behind in {worse} and ahead in {}; \
                 {open}.{unmeasured}",
                self.better_count
            )
        }
    }
}
