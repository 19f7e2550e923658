//! The whole comparison at a glance: one ratio for each row and peer, in a table for each question.

use super::charts::capital;
use super::model::{Cell, Placed, Table, TableRow};
use super::sections::judged_cell;
use crate::judgement::{Judgement, LATEEN, Place, RATES_DIFFER};
use crate::measure::{Holder, Measure};
use crate::numbers;
use crate::results::{Kind, Sample};
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

/// Peers of the short table: of each program the best settings that ran.
const RIVALS: [[&str; 2]; 3] =
    [["nginx-tuned", "nginx"], ["haproxy-tuned", "haproxy"], ["envoy-tuned", "envoy"]];

/// What a request costs with each program: as much as goes where that was measured, else at equal rates.
pub fn headline(placed: &[Placed]) -> Option<Table> {
    let ran = |name: &&str| {
        let mut entries = placed.iter().flat_map(|one| &one.row.entries);
        entries.any(|entry| entry.peer == *name && entry.samples.iter().any(counts))
    };
    let peers: Vec<&str> =
        RIVALS.iter().filter_map(|settings| settings.iter().copied().find(ran)).collect();
    let of_kind = |kind: Kind| {
        let rows = placed.iter().filter(move |one| one.row.kind == kind);
        rows.flat_map(|one| one.points().map(move |place| (one, place)))
            .filter_map(|(one, place)| headline_row(one, place, &peers))
            .collect::<Vec<_>>()
    };
    let mut rows = of_kind(Kind::Throughput);
    if rows.is_empty() {
        rows = of_kind(Kind::Latency);
    }
    let first = rows.first()?.0.clone();
    let same = rows.iter().all(|(name, _)| *name == first);
    let caption = if same { capital(&first) } else { "Cost".to_owned() };
    let heads = peers.iter().map(|peer| match peer.strip_suffix("-tuned") {
        Some(base) => format!("{base} (tuned)"),
        None => (*peer).to_owned(),
    });
    let head = ["scenario", LATEEN].map(str::to_owned).into_iter().chain(heads).collect();
    let rows = rows.into_iter().map(|(name, mut row)| {
        if !same {
            row.name = format!("{}: {name}", row.name);
        }
        row
    });
    let caption = format!("{caption}, median; in brackets Lateen's over it, and how Lateen did");
    (!peers.is_empty()).then(|| Table { caption, head, rows: rows.collect() })
}

/// The measure's name, and its row; nothing where no peer has a figure beside Lateen's.
fn headline_row(one: &Placed, place: Place, peers: &[&str]) -> Option<(String, TableRow)> {
    let (lateen, measure) = (place.lateen()?, place.cost());
    let write = |entry| {
        let median = place.spread(entry, &measure)?.median;
        Some(numbers::quantity(median, measure.quantity()))
    };
    let cell = |peer: &&str| {
        let entry = place.row.entries.iter().find(|entry| entry.peer == **peer)?;
        let judgement = place.judge(lateen, entry, &measure)?;
        let verdict = format!("{}×, {}", judgement.text(), judgement.word());
        let differ = !is_a_comparison(&judgement);
        (!differ).then(|| Some(format!("{} ({verdict})", write(entry)?))).flatten()
    };
    let cells: Vec<Option<String>> = peers.iter().map(cell).collect();
    cells.iter().any(Option::is_some).then_some(())?;
    let others = cells.into_iter().map(|cell| cell.map_or_else(Cell::none, Cell::plain));
    let row = TableRow {
        name: one.name_of(place.point),
        anchor: Some(one.anchor.clone()),
        series: None,
        cells: std::iter::once(Cell::plain(write(lateen)?)).chain(others).collect(),
    };
    Some((measure.name(&place.row.unit), row))
}

fn counts(sample: &Sample) -> bool {
    sample.discarded.is_none()
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
