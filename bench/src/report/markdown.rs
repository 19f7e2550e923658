//! Writes the report in brief, as Markdown: for a README, or to be kept beside the results. Whatever
//! comes from the results is escaped, and stands on one line.

use super::baseline::{Change, Moved};
use super::behind::{Behind, Item};
use super::machine::Run;
use super::model::{Cell, Page, Section, Table};
use std::fmt::Write;

/// Figures that are listed of those that stayed undecided; the page has all.
const UNDECIDED_MAX: usize = 20;

/// The whole of it, with a newline at the end.
pub fn write(page: &Page) -> String {
    let mut out = String::new();
    paragraph(&mut out, &format!("# {}", escape(&page.title)));
    if let Some(headline) = &page.headline {
        paragraph(&mut out, "## In one table");
        write_table(&mut out, headline);
        paragraph(&mut out, "## What was found");
    }
    for finding in &page.findings {
        paragraph(&mut out, &escape(finding));
    }
    if !page.overview.is_empty() {
        paragraph(&mut out, "## Lateen ÷ peer");
        paragraph(
            &mut out,
            "Medians of ratios that are paired by round, with the least and the most. Better and worse are \
             Lateen's; undecided where rounds disagree or the conditions do not allow a comparison.",
        );
        for table in &page.overview {
            write_table(&mut out, table);
        }
    }
    write_behind(&mut out, &page.behind);
    if let Some(change) = &page.changes {
        write_change(&mut out, change);
    }
    paragraph(&mut out, "## By scenario");
    for section in &page.sections {
        write_section(&mut out, section);
    }
    list(&mut out, "## How it was measured", &page.method);
    list(&mut out, "## What cannot be concluded", &page.limits);
    for run in &page.runs {
        write_run(&mut out, run);
    }
    let lines: Vec<&str> = out.lines().map(str::trim_end).collect();
    format!("{}\n", lines.join("\n").trim_end())
}

fn write_section(out: &mut String, section: &Section) {
    paragraph(out, &format!("### {}", escape(&section.heading)));
    paragraph(out, &escape(&section.title));
    list(out, "", &section.caveats);
    for point in &section.points {
        if let Some(heading) = &point.heading {
            paragraph(out, &format!("**{}**", escape(heading)));
        }
        match &point.ratios {
            Some(ratios) => write_table(out, ratios),
            None => write_table(out, &point.figures),
        }
        point.remarks.iter().for_each(|remark| paragraph(out, &escape(remark)));
    }
    list(out, "", &section.absent);
}

fn write_behind(out: &mut String, behind: &Behind) {
    paragraph(out, "## Where Lateen is behind");
    paragraph(out, &escape(behind.sentence()));
    if !behind.worse.is_empty() {
        items(out, &behind.worse);
    }
    if !behind.undecided.is_empty() {
        paragraph(out, "### Undecided");
        let shown = behind.undecided.len().min(UNDECIDED_MAX);
        items(out, &behind.undecided[..shown]);
        let hidden = behind.undecided.len() - shown;
        if hidden > 0 {
            paragraph(out, &format!("And {hidden} more, which the page lists."));
        }
    }
    if !behind.own.is_empty() {
        paragraph(out, "### Behind itself, on another engine or with other settings");
        items(out, &behind.own);
    }
    if !behind.floor.is_empty() {
        paragraph(out, "### Distance to the floor");
        items(out, &behind.floor);
    }
}

fn items(out: &mut String, items: &[Item]) {
    let rows = items.iter().map(|item| {
        let ratio = if item.ratio.is_empty() { "–" } else { &item.ratio };
        let values = item
            .reason
            .as_ref()
            .map_or_else(|| item.values.clone(), |reason| format!("{} ({reason})", item.values));
        [&item.place, &item.figure, &item.peer, ratio, &values].map(escape).join(" | ")
    });
    grid(out, "scenario | figure | peer | Lateen ÷ peer | values", 5, rows);
}

fn write_change(out: &mut String, change: &Change) {
    paragraph(out, "## Since the baseline");
    paragraph(out, &escape(change.sentence()));
    for (heading, moved) in
        [("### Worse", &change.regressions), ("### Better", &change.improvements)]
    {
        if moved.is_empty() {
            continue;
        }
        paragraph(out, heading);
        let cells = |moved: &Moved| {
            [&moved.place, &moved.figure, &moved.before, &moved.now].map(escape).join(" | ")
        };
        grid(out, "scenario | figure | before | now", 4, moved.iter().map(cells));
    }
    list(out, "The machines or peers differ:", &change.differences);
    list(out, "Not compared:", &change.unmatched);
}

fn write_run(out: &mut String, run: &Run) {
    let heading = run.name.as_ref().map_or_else(String::new, |name| format!(": {}", escape(name)));
    paragraph(out, &format!("## The machine and the peers{heading}"));
    let rows =
        run.facts.iter().map(|(name, value)| format!("{} | {}", escape(name), escape(value)));
    grid(out, "what | value", 2, rows);
    list(out, "", &run.remarks);
    let peers = run.peers.iter().map(|peer| {
        let state = match (&peer.not_run, &peer.newer) {
            (Some(reason), _) => format!("not run: {reason}"),
            (None, Some(newer)) => newer.clone(),
            (None, None) => String::new(),
        };
        [&peer.name, &peer.version, &peer.about, &state].map(escape).join(" | ")
    });
    grid(out, "peer | version | what it is | remark", 4, peers);
    if !run.command.is_empty() {
        paragraph(out, &format!("Made by: {}", escape(&run.command)));
    }
}

fn write_table(out: &mut String, table: &Table) {
    paragraph(out, &format!("{}:", escape(&table.caption)));
    let head: Vec<String> = table.head.iter().map(escape).collect();
    let rows = table.rows.iter().map(|row| {
        let cells = row.cells.iter().map(|cell| escape(cell_text(cell)));
        std::iter::once(escape(&row.name)).chain(cells).collect::<Vec<_>>().join(" | ")
    });
    grid(out, &head.join(" | "), head.len(), rows);
}

fn cell_text(cell: &Cell) -> String {
    let mut text = cell.text.clone();
    if let Some(range) = &cell.range {
        let _ = write!(text, " ({range})");
    }
    match (cell.verdict, &cell.note) {
        (Some(verdict), Some(note)) => text.push_str(&format!(" {verdict}: {note}")),
        (Some(verdict), None) => text.push_str(&format!(" {verdict}")),
        (None, Some(note)) => text.push_str(&format!(", {note}")),
        (None, None) => {}
    }
    text
}

/// A table whose cells are escaped already.
fn grid(out: &mut String, head: &str, columns: usize, rows: impl Iterator<Item = String>) {
    let _ = writeln!(out, "| {head} |");
    let _ = writeln!(out, "|{}", "---|".repeat(columns));
    for row in rows {
        let _ = writeln!(out, "| {row} |");
    }
    out.push('\n');
}

fn list(out: &mut String, heading: &str, lines: &[String]) {
    if lines.is_empty() {
        return;
    }
    if !heading.is_empty() {
        paragraph(out, heading);
    }
    for line in lines {
        let _ = writeln!(out, "- {}", escape(line));
    }
    out.push('\n');
}

fn paragraph(out: &mut String, text: &str) {
    out.push_str(text);
    out.push_str("\n\n");
}

/// On one line, with nothing in it that Markdown or HTML would read.
fn escape(text: impl AsRef<str>) -> String {
    let text = text.as_ref().trim();
    // Else a list.
    let mut out = String::from(if text.starts_with(['-', '+']) { "\\" } else { "" });
    for letter in text.chars() {
        match letter {
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '&' => out.push_str("&amp;"),
            '|' | '*' | '_' | '`' | '[' | ']' | '\\' | '#' | '~' => {
                out.push('\\');
                out.push(letter);
            }
            other if other.is_control() => out.push(' '),
            other => out.push(other),
        }
    }
    out
}
