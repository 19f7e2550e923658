//! The whole comparison at a glance: one ratio for each row and peer, in a table for each question.

use super::charts::capital;
use super::model::{Cell, Placed, Table, TableRow};
use super::sections::judged_cell;
use crate::judgement::{Judgement, LATEEN, Place, RATES_DIFFER};
use crate::measure::{Holder, Measure};
use crate::results::Kind;
use crate::statistics::Figure;

/// The tables that have something in them.
pub fn of(placed: &[Placed]) -> Vec<Table> {
    let throughput = |place: Place| {
        (place.row.kind == Kind::Throughput).then_some(Measure::Figure(Figure::Throughput))
    };
    let p99 =
        |place: Place| (place.row.kind == Kind::Latency).then_some(Measure::Figure(Figure::P99Us));
    let cost = |place: Place| {
        matches!(place.row.kind, Kind::Throughput | Kind::Latency).then(|| place.cost())
    };
    [
        table("Cost", placed, cost),
        table("Throughput", placed, throughput),
        table("p99 latency", placed, p99),
        table("Memory", placed, per_connection),
        table("Change of config", placed, |place| {
            (place.row.kind == Kind::Change).then_some(Measure::EffectUs)
        }),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// That of the most connections, with the kernel's share where it is known.
pub fn per_connection(place: Place) -> Option<Measure> {
    let of = |wanted: Holder| {
        let mut all = place.compared().into_iter();
        all.rfind(
            |measure| matches!(measure, Measure::PerConnection(holder, _) if *holder == wanted),
        )
    };
    of(Holder::Process).or_else(|| of(Holder::Cgroup))
}

fn table(caption: &str, placed: &[Placed], of: impl Fn(Place) -> Option<Measure>) -> Option<Table> {
    let mut peers: Vec<&str> = Vec::new();
    for entry in placed.iter().flat_map(|one| &one.row.entries) {
        let name = entry.peer.as_str();
        if name != LATEEN && name != "direct" && !peers.contains(&name) {
            peers.push(name);
        }
    }
    let mut rows: Vec<(String, TableRow)> = Vec::new();
    let mut used = vec![false; peers.len()];
    for one in placed {
        for place in one.points() {
            let (Some(measure), Some(lateen)) = (of(place), place.lateen()) else { continue };
            let judged: Vec<Option<Judgement>> = peers
                .iter()
                .map(|peer| {
                    let entry = place.row.entries.iter().find(|entry| entry.peer == *peer)?;
                    place.judge(lateen, entry, &measure)
                })
                .collect();
            if !judged.iter().flatten().any(is_a_comparison) {
                continue;
            }
            let cells = peers.iter().zip(&judged).map(|(peer, judged)| {
                judged.as_ref().map_or_else(Cell::none, |judged| judged_cell(judged, peer))
            });
            used.iter_mut().zip(&judged).for_each(|(used, judged)| *used |= judged.is_some());
            let row = TableRow {
                name: one.name_of(place.point),
                anchor: Some(one.anchor.clone()),
                series: None,
                cells: cells.collect(),
            };
            rows.push((measure.name(&one.row.unit), row));
        }
    }
    let first = rows.first()?.0.clone();
    let same = rows.iter().all(|(measure, _)| *measure == first);
    let caption = if !same {
        caption.to_owned()
    } else if first.to_lowercase().starts_with(&caption.to_lowercase()) {
        capital(&first)
    } else {
        format!("{caption}: {first}")
    };
    let rows = rows.into_iter().map(|(measure, mut row)| {
        if !same {
            row.name = format!("{}: {measure}", row.name);
        }
        let mut keep = used.iter();
        row.cells.retain(|_| *keep.next().unwrap_or(&false));
        row
    });
    let rows = rows.collect();
    let heads = peers.iter().zip(&used).filter(|(_, used)| **used).map(|(peer, _)| *peer);
    let head = std::iter::once("scenario").chain(heads).map(str::to_owned).collect();
    Some(Table { caption, head, rows })
}

/// Points at which each peer has a rate of its own are in the sections only.
fn is_a_comparison(judgement: &Judgement) -> bool {
    judgement.reason.as_deref() != Some(RATES_DIFFER)
}
