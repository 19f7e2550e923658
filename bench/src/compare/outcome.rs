//! What is printed at the end: a line for each peer of each row, what was not run and why, and how to get
//! the report, which tells more. Judged and written by the same rules as the report.

use super::closed::KEPT;
use super::plan::DIRECT;
use crate::judgement::{Conditions, LATEEN, Place, is_reference};
use crate::measure::{Holder, Measure};
use crate::numbers;
use crate::results::{Entry, Kind, Results, Row};
use crate::statistics::Figure;
use comfy_table::{CellAlignment, Table, presets};

/// All of it, as text.
pub fn text(results: &Results, path: &str) -> String {
    let conditions = Conditions::of(results);
    let mut parts: Vec<String> = results.rows.iter().map(|row| row_text(row, conditions)).collect();
    let not_run: Vec<String> = results
        .peers
        .iter()
        .filter_map(|peer| Some(format!("not run: {}: {}", peer.name, peer.not_run.as_ref()?)))
        .collect();
    if !not_run.is_empty() {
        parts.push(not_run.join("\n"));
    }
    if results.interrupted {
        parts.push("Interrupted: rows are missing, and the last one may be cut short.".to_owned());
    }
    parts.push(format!("Written to {path}. Next: lateen-bench report {path} --out report.html"));
    parts.join("\n\n") + "\n"
}

fn row_text(row: &Row, conditions: Conditions) -> String {
    let mut lines = vec![format!("{} ({}): {}", row.scenario, row.profile.name(), row.title)];
    let table = match row.kind {
        Kind::Throughput | Kind::Latency => cost_table(row, conditions),
        Kind::Memory => table_of(row, conditions, &memory_measures()),
        Kind::Change => table_of(row, conditions, &CHANGE),
    };
    if table.row_count() > 0 {
        lines.push(table.to_string());
    }
    let missing = row.entries.iter().filter(|entry| entry.samples.is_empty());
    lines.extend(
        missing.filter_map(|entry| Some(format!("{}: {}", entry.peer, entry.not_run.as_ref()?))),
    );
    let (kept, others): (Vec<&String>, Vec<&String>) =
        row.caveats.iter().partition(|caveat| caveat.contains(KEPT));
    lines.extend(others.iter().map(|caveat| format!("note: {caveat}")));
    match kept.as_slice() {
        [] => {}
        [one] => lines.push(format!("note: {one}")),
        [one, ..] => {
            lines.push(format!("note: {one}; {} samples were (the file has them)", kept.len()))
        }
    }
    lines.join("\n")
}

fn places(row: &Row, conditions: Conditions) -> Vec<Place<'_>> {
    row.points().into_iter().map(|point| Place { row, point, conditions }).collect()
}

/// What a request costs, and what the row is about, each as the report judges it.
fn cost_table(row: &Row, conditions: Conditions) -> Table {
    let places = places(row, conditions);
    let cost = places.first().map_or(Measure::Figure(Figure::CpuUs), Place::cost);
    let beside: &[Figure] = match row.kind {
        Kind::Latency => &[Figure::P50Us, Figure::P99Us],
        _ => &[Figure::Throughput],
    };
    let beside: Vec<Measure> = beside
        .iter()
        .map(|figure| Measure::Figure(*figure))
        .filter(|measure| places.iter().all(|place| place.has(measure)))
        .collect();
    let compared = row.entries.iter().any(|entry| entry.peer == LATEEN);
    let mut names = vec!["peer".to_owned(), "point".to_owned(), cost.name(&row.unit)];
    names.extend(compared.then(|| "Lateen ÷ peer".to_owned()));
    names.extend(beside.iter().map(|measure| measure.name(&row.unit)));
    let mut table = new_table(&names);
    for place in places {
        let here = row.entries.iter().filter(|entry| place.samples(entry).next().is_some());
        for entry in here {
            let mut cells =
                vec![entry.peer.clone(), place.point.to_owned(), written(place, entry, &cost)];
            if compared {
                cells.push(judged(place, entry, &cost).unwrap_or_default());
            }
            cells.extend(beside.iter().map(|measure| {
                let value = written(place, entry, measure);
                match objection(place, entry, measure) {
                    Some(why) => format!("{value} ({why})"),
                    None => value,
                }
            }));
            table.add_row(cells);
        }
    }
    table
}

fn written(place: Place, entry: &Entry, measure: &Measure) -> String {
    place.spread(entry, measure).map_or_else(
        || "–".to_owned(),
        |spread| numbers::quantity(spread.median, measure.quantity()),
    )
}

fn judged(place: Place, entry: &Entry, measure: &Measure) -> Option<String> {
    if entry.peer == LATEEN {
        return None;
    }
    let judgement = place.judge(place.lateen()?, entry, measure)?;
    let range = judgement.ratio.map(|ratio| format!(" ({})", numbers::ratio_range(ratio)));
    let mut text = format!("{}{}", judgement.text(), range.unwrap_or_default());
    // The floor is no rival.
    if !is_reference(&entry.peer) {
        text += &format!(": {}", judgement.word());
    }
    text += &judgement.reason.map(|reason| format!(", {reason}")).unwrap_or_default();
    Some(text)
}

/// Why a figure says nothing, whomever it is put beside.
fn objection(place: Place, entry: &Entry, measure: &Measure) -> Option<String> {
    if measure.is_latency() {
        place.unfit(entry, measure)
    } else if entry.peer == DIRECT {
        None
    } else {
        place.client_bound(entry)
    }
}

fn memory_measures() -> [Measure; 5] {
    ["idle", "idle_1000", "idle_10000", "left", "cycle_5"]
        .map(|stage| Measure::Stage(Holder::Process, stage.to_owned()))
}

const CHANGE: [Measure; 5] = [
    Measure::EffectUs,
    Measure::Failed,
    Measure::Processes,
    Measure::ResidentMax,
    Measure::Figure(Figure::Throughput),
];

fn table_of(row: &Row, conditions: Conditions, measures: &[Measure]) -> Table {
    let places = places(row, conditions);
    let shown: Vec<&Measure> =
        measures.iter().filter(|measure| places.iter().all(|place| place.has(measure))).collect();
    let named = shown.iter().map(|measure| measure.name(&row.unit));
    let names: Vec<String> = std::iter::once("peer".to_owned()).chain(named).collect();
    let mut table = new_table(&names);
    for place in places {
        let here = row.entries.iter().filter(|entry| place.samples(entry).next().is_some());
        for entry in here {
            let cells = shown.iter().map(|measure| written(place, entry, measure));
            table.add_row(std::iter::once(entry.peer.clone()).chain(cells));
        }
    }
    table
}

fn new_table(names: &[String]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(names);
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}
