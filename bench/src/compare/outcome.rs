//! What is printed at the end: a line for each peer of each row, what was not run and why, and how to get
//! the report, which tells more.

use super::closed::KEPT;
use super::plan::DIRECT;
use crate::results::{Entry, Kind, Profile, Results, Row, Sample};
use crate::statistics::{Figure, PROXY_BUSY_MIN, Spread, Verdict, figure, ratio};
use comfy_table::{CellAlignment, Table, presets};

/// Who the others are put beside: the first of these that has samples.
const BASES: [&str; 5] = ["nginx-tuned", "nginx", "haproxy-tuned", "haproxy", "envoy"];

/// All of it, as text.
pub fn text(results: &Results, path: &str) -> String {
    let mut parts: Vec<String> = results.rows.iter().map(row_text).collect();
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

fn row_text(row: &Row) -> String {
    let profile = match row.profile {
        Profile::Bare => "bare",
        Profile::Mesh => "mesh",
    };
    let mut lines = vec![format!("{} ({profile}): {}", row.scenario, row.title)];
    lines.push(match row.kind {
        Kind::Throughput | Kind::Latency => cost_table(row).to_string(),
        Kind::Memory => memory_table(row).to_string(),
        Kind::Change => change_table(row).to_string(),
    });
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

fn cost_table(row: &Row) -> Table {
    let counted = row.entries.iter().flat_map(|entry| &entry.samples);
    let counted =
        counted.filter_map(|sample| Figure::Instructions.of(row, sample)).next().is_some();
    let (cost, name) = if counted {
        (Figure::Instructions, format!("instructions/{}", row.unit))
    } else {
        (Figure::CpuUs, format!("CPU µs/{}", row.unit))
    };
    let mut table = new_table(&["peer", "point", &name, "ratio", "answers/s", "p50 µs", "p99 µs"]);
    for point in row.points() {
        let base = base_of(row, point);
        for entry in row.entries.iter().filter(|entry| entry.valid(point).next().is_some()) {
            let middle = |what| figure(row, point, entry, what).map(|spread| spread.median);
            let ratio = base
                .filter(|base| base.peer != entry.peer)
                .map(|base| ratio_text(row, point, entry, base, cost));
            table.add_row([
                entry.peer.clone(),
                point.to_owned(),
                number(middle(cost)),
                ratio.unwrap_or_default(),
                throughput(row, point, entry),
                number(middle(Figure::P50Us)),
                number(middle(Figure::P99Us)),
            ]);
        }
    }
    table
}

fn base_of<'a>(row: &'a Row, point: &str) -> Option<&'a Entry> {
    BASES.iter().find_map(|name| {
        row.entries.iter().find(|entry| entry.peer == *name && entry.valid(point).next().is_some())
    })
}

fn ratio_text(row: &Row, point: &str, entry: &Entry, base: &Entry, cost: Figure) -> String {
    let Some(ratio) = ratio(row, point, entry, base, cost) else { return String::new() };
    let word = match ratio.verdict {
        Verdict::Better => "less",
        Verdict::Worse => "more",
        Verdict::Undecided => "undecided",
    };
    let spread = ratio.spread;
    format!("{:.2} ({:.2}–{:.2}) × {}: {word}", spread.median, spread.least, spread.most, base.peer)
}

/// Without a proxy whose core was the limit, throughput is the client's.
fn throughput(row: &Row, point: &str, entry: &Entry) -> String {
    let rate = figure(row, point, entry, Figure::Throughput).map(|spread| spread.median);
    let busy = entry.valid(point).filter_map(|sample| Some(sample.busy.as_ref()?.proxy_cpu));
    let bound = Spread::of(busy).is_some_and(|spread| spread.median < PROXY_BUSY_MIN);
    let word = if bound && row.kind == Kind::Throughput && entry.peer != DIRECT {
        " (client-bound)"
    } else {
        ""
    };
    format!("{}{word}", number(rate))
}

fn memory_table(row: &Row) -> Table {
    let stages: [(&str, &str); 5] = [
        ("idle", "idle KiB"),
        ("idle_1000", "1,000 clients"),
        ("idle_10000", "10,000 clients"),
        ("left", "left"),
        ("cycle_5", "after 5 cycles"),
    ];
    let names: Vec<&str> = ["peer"].into_iter().chain(stages.map(|(_, name)| name)).collect();
    let mut table = new_table(&names);
    for entry in row.entries.iter().filter(|entry| !entry.samples.is_empty()) {
        let at = |stage: &str| {
            let values =
                entry.samples.iter().filter_map(|sample| sample.resident_kib.get(stage).copied());
            number(Spread::of(values).map(|spread| spread.median))
        };
        table.add_row([entry.peer.clone()].into_iter().chain(stages.map(|(stage, _)| at(stage))));
    }
    table
}

fn change_table(row: &Row) -> Table {
    let mut table = new_table(&[
        "peer",
        "changes",
        "failed",
        "shown after ms",
        "processes",
        "most KiB",
        "answers/s",
    ]);
    for entry in row.entries.iter().filter(|entry| !entry.samples.is_empty()) {
        let changes: Vec<_> =
            entry.samples.iter().filter_map(|sample| sample.change.as_ref()).collect();
        let most = |values: Vec<f64>| Spread::of(values).map(|spread| spread.most);
        let effects = changes.iter().map(|change| change.effect_ms);
        let rates = entry.samples.iter().filter_map(rate_of);
        table.add_row([
            entry.peer.clone(),
            changes.iter().map(|change| change.changes).sum::<u64>().to_string(),
            changes.iter().map(|change| change.failed).sum::<u64>().to_string(),
            number(Spread::of(effects).map(|spread| spread.median)),
            number(most(changes.iter().map(|change| change.processes_max as f64).collect())),
            number(most(changes.iter().map(|change| change.resident_kib_max).collect())),
            number(Spread::of(rates).map(|spread| spread.median)),
        ]);
    }
    table
}

fn rate_of(sample: &Sample) -> Option<f64> {
    sample.load.as_ref().map(|load| load.requests_per_s)
}

fn new_table(names: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(names);
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

fn number(value: Option<f64>) -> String {
    match value {
        None => "–".to_owned(),
        Some(value) if value.abs() < 100.0 => format!("{value:.2}"),
        Some(value) => format!("{value:.0}"),
    }
}
