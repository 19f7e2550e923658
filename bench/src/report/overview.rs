//! The whole comparison at a glance: one ratio for each row and peer, in a table for each question.

use super::judgement::Place;
use super::measure::{self, Holder, Measure};
use super::model::{Cell, Placed, Table, TableRow};
use super::sections::judged_cell;
use super::series::LATEEN;
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
        table("Memory per idle connection", placed, per_connection),
        table("From a change of config to its effect", placed, |place| {
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
        let all = measure::compared(place.row).into_iter();
        all.filter(|measure| matches!(measure, Measure::PerConnection(holder, _) if *holder == wanted))
            .next_back()
    };
    of(Holder::Process).or_else(|| of(Holder::Cgroup))
}

fn table(
    caption: &str,
    placed: &[Placed],
    of: impl Fn(Place) -> Option<Measure>,
) -> Option<Table> {
    let mut peers: Vec<&str> = Vec::new();
    for entry in placed.iter().flat_map(|one| &one.row.entries) {
        let name = entry.peer.as_str();
        if name != LATEEN && name != "direct" && !peers.contains(&name) {
            peers.push(name);
        }
    }
    let mut rows = Vec::new();
    let mut used = vec![false; peers.len()];
    for one in placed {
        for place in one.points() {
            let (Some(measure), Some(lateen)) = (of(place), place.lateen()) else { continue };
            let mut cells = Vec::new();
            for (index, peer) in peers.iter().enumerate() {
                let entry = place.row.entries.iter().find(|entry| entry.peer == *peer);
                let judged = entry.and_then(|entry| place.judge(lateen, entry, &measure));
                used[index] |= judged.is_some();
                cells.push(judged.as_ref().map_or_else(Cell::none, judged_cell));
            }
            let name = format!("{}: {}", one.name_of(place.point), measure.name(&one.row.unit));
            let anchor = Some(one.anchor.clone());
            rows.push(TableRow { name, anchor, series: None, cells });
        }
    }
    rows.retain(|row| row.cells.iter().any(|cell| *cell != Cell::none()));
    for row in &mut rows {
        let mut keep = used.iter();
        row.cells.retain(|_| *keep.next().unwrap_or(&false));
    }
    let heads = peers.iter().zip(&used).filter(|(_, used)| **used).map(|(peer, _)| *peer);
    let head = std::iter::once("scenario").chain(heads).map(str::to_owned).collect();
    (!rows.is_empty()).then(|| Table { caption: caption.to_owned(), head, rows })
}
