//! What the page says about one row: the ratios of Lateen to each peer, the figures behind them, and who
//! is not in them.

use super::charts;
use super::model::{Cell, Placed, Point, Section, Table, TableRow};
use super::series::Series;
use crate::judgement::{Judgement, LATEEN, Place, is_reference};
use crate::measure::Measure;
use crate::numbers::{self, Quantity};
use crate::results::{Entry, Kind};
use crate::statistics::{Figure, Spread};
use std::collections::BTreeMap;

/// Process and core may differ by this share before the page says so.
const CROSS_CHECK_MAX: f64 = 0.15;

/// The section of a row.
pub fn of(placed: &Placed, series: &BTreeMap<String, Series>) -> Section {
    let row = placed.row;
    let alone = row.points().len() < 2;
    let points = placed.points().map(|place| Point {
        heading: (!alone).then(|| place.point.to_owned()),
        charts: charts::of_point(place, series),
        ratios: ratios(place, series),
        figures: figures(place, series),
        remarks: remarks(place),
    });
    Section {
        anchor: placed.anchor.clone(),
        heading: placed.heading.clone(),
        title: row.title.clone(),
        caveats: row.caveats.clone(),
        charts: charts::of_rates(row, placed.conditions, series),
        points: points.collect(),
        absent: absent(placed),
    }
}

/// The cell of a judgement. The floor and no proxy at all are no rivals, and get no verdict.
pub fn judged_cell(judgement: &Judgement, peer: &str) -> Cell {
    Cell {
        text: judgement.text(),
        range: judgement.ratio.map(numbers::ratio_range),
        verdict: (!is_reference(peer)).then(|| judgement.word()),
        note: judgement.reason.clone(),
    }
}

fn ratios(place: Place, series: &BTreeMap<String, Series>) -> Option<Table> {
    let lateen = place.lateen()?;
    let judged: Vec<(&Entry, Vec<Option<Judgement>>)> = place
        .row
        .entries
        .iter()
        .filter(|entry| entry.peer != LATEEN)
        .map(|entry| {
            let judge = |measure: &Measure| place.judge(lateen, entry, measure);
            // Nothing stands between client and upstream: its throughput is a ceiling, not a rival's.
            let direct = entry.peer == "direct" && place.row.kind == Kind::Throughput;
            let of = if direct { |_: &Measure| false } else { |_: &Measure| true };
            let all = place.compared();
            (
                entry,
                all.iter().map(|measure| of(measure).then(|| judge(measure)).flatten()).collect(),
            )
        })
        .collect();
    let all = place.compared();
    let used: Vec<usize> = (0..all.len())
        .filter(|index| judged.iter().any(|(_, cells)| cells[*index].is_some()))
        .collect();
    let rows: Vec<TableRow> = judged
        .iter()
        .filter(|(_, cells)| cells.iter().any(Option::is_some))
        .map(|(entry, cells)| TableRow {
            name: entry.peer.clone(),
            anchor: None,
            series: series.get(&entry.peer).copied(),
            cells: used
                .iter()
                .map(|index| {
                    cells[*index]
                        .as_ref()
                        .map_or_else(Cell::none, |judged| judged_cell(judged, &entry.peer))
                })
                .collect(),
        })
        .collect();
    let names = used.iter().map(|index| all[*index].name(&place.row.unit));
    (!rows.is_empty()).then(|| Table {
        caption: "Lateen ÷ peer".to_owned(),
        head: std::iter::once("peer".to_owned()).chain(names).collect(),
        rows,
    })
}

fn figures(place: Place, series: &BTreeMap<String, Series>) -> Table {
    let row = place.row;
    let mut measures = place.compared();
    if matches!(row.kind, Kind::Throughput | Kind::Latency) {
        let split = [
            Figure::InstructionsUser,
            Figure::InstructionsKernel,
            Figure::UserUs,
            Figure::SystemUs,
        ];
        let also = match row.kind {
            Kind::Throughput => &[Figure::P50Us, Figure::P99Us, Figure::P999Us][..],
            _ => &[Figure::ResidentKib][..],
        };
        let more = split.iter().chain(also).map(|figure| Measure::Figure(*figure));
        measures.extend(more.filter(|measure| place.has(measure)));
    }
    let entries: Vec<&Entry> =
        row.entries.iter().filter(|entry| place.samples(entry).next().is_some()).collect();
    measures.retain(|measure| entries.iter().any(|entry| place.spread(entry, measure).is_some()));
    let mut head = vec!["peer".to_owned(), "rounds".to_owned()];
    let rated = row.kind == Kind::Latency;
    // Without time nobody is busy.
    let busy = !place.conditions.instruction_clock
        && entries.iter().any(|entry| place.samples(entry).any(|one| one.busy.is_some()));
    if rated {
        head.extend(["offered rate", "sent over 1 ms late"].map(str::to_owned));
    }
    head.extend(measures.iter().map(|measure| measure.name(&row.unit)));
    if busy {
        head.extend(["proxy's core busy", "client's core busy"].map(str::to_owned));
    }
    let rows = entries.iter().map(|entry| {
        let mut cells = vec![Cell::plain(place.samples(entry).count().to_string())];
        if rated {
            cells.extend([rate_cell(place, entry), late_cell(place, entry)]);
        }
        cells.extend(measures.iter().map(|measure| figure_cell(place, entry, measure)));
        if busy {
            cells.extend([
                busy_cell(place, entry, |busy| busy.proxy_cpu),
                busy_cell(place, entry, |busy| busy.client_cpu),
            ]);
        }
        let name = entry.peer.clone();
        TableRow { series: series.get(&name).copied(), name, anchor: None, cells }
    });
    Table { caption: "Medians, least–most".to_owned(), head, rows: rows.collect() }
}

fn rate_cell(place: Place, entry: &Entry) -> Cell {
    let Some(rate) = place.rate(entry) else { return Cell::none() };
    let (missed, rounds) = (place.missed(entry), place.samples(entry).count());
    let rounds = numbers::counted(rounds, "round");
    Cell {
        text: numbers::quantity(rate, Quantity::PerSecond),
        note: (missed > 0).then(|| format!("not carried in {missed} of {rounds}")),
        ..Cell::default()
    }
}

/// The client's lateness, which latency has in it.
fn late_cell(place: Place, entry: &Entry) -> Cell {
    let loads = || place.samples(entry).filter_map(|sample| sample.load.as_ref());
    let late = loads().filter(|load| load.open_loop).map(|load| load.late_sends as f64);
    let Some(late) = Spread::of(late) else { return Cell::none() };
    let (text, range) = numbers::spread(late, Quantity::Count);
    let latest = loads().map(|load| load.late_max_us).fold(0.0, f64::max);
    let latest = || format!("by {} at most", numbers::quantity(latest, Quantity::Us));
    Cell {
        text,
        range: (late.most > 0.0 && late.count > 1).then_some(range),
        verdict: None,
        note: (late.most > 0.0).then(latest),
    }
}

fn figure_cell(place: Place, entry: &Entry, measure: &Measure) -> Cell {
    let Some(spread) = place.spread(entry, measure) else { return Cell::none() };
    let (text, range) = numbers::spread(spread, measure.quantity());
    let note = (*measure == Measure::Figure(Figure::Throughput) && entry.peer != "direct")
        .then(|| place.client_bound(entry))
        .flatten();
    Cell { text, range: (spread.count > 1).then_some(range), verdict: None, note }
}

fn busy_cell(place: Place, entry: &Entry, share: impl Fn(&crate::results::Busy) -> f64) -> Cell {
    let shares = place.samples(entry).filter_map(|sample| sample.busy.as_ref()).map(share);
    Spread::of(shares).map_or_else(Cell::none, |spread| Cell {
        text: numbers::share(spread.median),
        range: (spread.count > 1)
            .then(|| format!("{:.0}–{}", spread.least * 100.0, numbers::share(spread.most))),
        ..Cell::default()
    })
}

fn remarks(place: Place) -> Vec<String> {
    let mut remarks = Vec::new();
    let checks = [
        (Figure::Instructions, Figure::CoreInstructions, "number of instructions"),
        (Figure::CpuUs, Figure::CoreUs, "CPU time"),
    ];
    for (process, core, what) in checks {
        let apart = apart(place, [process, core].map(Measure::Figure));
        if !apart.is_empty() {
            remarks.push(cross_check(&apart, what));
        }
    }
    remarks.extend(not_carried(place));
    if place.row.kind == Kind::Throughput && !place.conditions.instruction_clock {
        let bound: Vec<&str> = place
            .row
            .entries
            .iter()
            .filter(|entry| entry.peer != "direct" && place.client_bound(entry).is_some())
            .map(|entry| entry.peer.as_str())
            .collect();
        let proxies = place
            .row
            .entries
            .iter()
            .filter(|entry| entry.peer != "direct" && place.samples(entry).next().is_some());
        let whose = if bound.len() > 1 && proxies.count() == bound.len() {
            "every proxy".to_owned()
        } else {
            numbers::listed(&bound)
        };
        if !bound.is_empty() {
            remarks.push(format!(
                "Client-bound: the core of {whose} was not at least 95 % busy in each round, so that \
                 something else may have been the limit. Throughput is shown there and decides nothing; \
                 cost does."
            ));
        }
    }
    remarks
}

/// Peers whose core used another amount than their process, and how many times as much.
fn apart<'a>(place: Place<'a>, [process, core]: [Measure; 2]) -> Vec<(&'a str, f64)> {
    if !place.has(&process) || !place.has(&core) {
        return Vec::new();
    }
    let factor = |entry: &'a Entry| {
        let billed = place.spread(entry, &process)?.median;
        let whole = place.spread(entry, &core)?.median;
        let factor = (billed > 0.0).then_some(whole / billed)?;
        let differs = (factor - 1.0).abs() > CROSS_CHECK_MAX;
        differs.then_some((entry.peer.as_str(), factor))
    };
    place.row.entries.iter().filter_map(factor).collect()
}

fn not_carried(place: Place) -> Option<String> {
    let missed = place.row.entries.iter().filter(|entry| place.missed(entry) > 0);
    let each: Vec<String> = missed
        .map(|entry| {
            let share = place.spread(entry, &Measure::Carried).map(|carried| carried.least);
            let least = numbers::quantity(share.unwrap_or_default(), Quantity::Share);
            let of = place.samples(entry).count();
            format!("{} in {} of {of} rounds ({least} at least)", entry.peer, place.missed(entry))
        })
        .collect();
    (!each.is_empty()).then(|| {
        format!(
            "Rate not carried: {}. Its latency and its cost are those of another load, and decide \
             nothing.",
            numbers::listed(&each)
        )
    })
}

fn cross_check(apart: &[(&str, f64)], what: &str) -> String {
    let factor = |of: &(&str, f64)| format!("{}×", numbers::ratio(of.1));
    let least = apart.iter().min_by(|one, other| one.1.total_cmp(&other.1));
    let most = apart.iter().max_by(|one, other| one.1.total_cmp(&other.1));
    let by = match (least, most) {
        (Some(least), Some(most)) if apart.len() > 3 && factor(least) == factor(most) => {
            format!("{}, for {} peers", factor(most), apart.len())
        }
        (Some(least), Some(most)) if apart.len() > 3 => format!(
            "between {} ({}) and {} ({}), for {} peers",
            factor(least),
            least.0,
            factor(most),
            most.0,
            apart.len()
        ),
        _ => {
            let each: Vec<String> =
                apart.iter().map(|one| format!("{} {}", one.0, factor(one))).collect();
            numbers::listed(&each)
        }
    };
    format!(
        "Cross-check: the proxy's whole core used another {what} than its process was billed: {by}. \
         What loopback bills to others, and what others used there, is in the difference: read both \
         columns."
    )
}

fn absent(placed: &Placed) -> Vec<String> {
    let mut lines = Vec::new();
    for entry in &placed.row.entries {
        if let Some(reason) = &entry.not_run {
            lines.push(format!("{} was not run: {reason}", entry.peer));
        } else if entry.samples.is_empty() {
            lines.push(format!("{} has no samples", entry.peer));
        }
        let mut reasons: BTreeMap<&str, usize> = BTreeMap::new();
        for reason in entry.samples.iter().filter_map(|sample| sample.discarded.as_deref()) {
            *reasons.entry(reason).or_default() += 1;
        }
        for (reason, count) in reasons {
            let samples = numbers::counted(count, "sample");
            lines.push(format!("{}: {samples} discarded: {reason}", entry.peer));
        }
    }
    lines
}
