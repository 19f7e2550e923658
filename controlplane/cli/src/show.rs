//! Words and tables for people, JSON for programs. Everything goes to stdout.

use std::io::{self, Write};

use comfy_table::{Cell, ContentArrangement, Table, presets};
use lateen_control::store::diff::ChangeKind;
use lateen_control::store::revision::Key;
use serde::Serialize;

use crate::problem::Problem;

pub(crate) fn print(text: &str) -> Result<(), Problem> {
    io::stdout().write_all(text.as_bytes()).map_err(|error| Problem::of_output(&error))
}

pub(crate) fn print_json(value: &impl Serialize) -> Result<(), Problem> {
    let text = serde_json::to_string_pretty(value).map_err(Problem::new)?;
    print(&(text + "\n"))
}

/// Rows below a header, columns by two spaces apart. Never wraps: lines are for `grep` too.
pub(crate) fn table(header: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(header.iter().map(Cell::new));
    for row in rows {
        table.add_row(row);
    }
    let last = header.len() - 1;
    for (index, column) in table.column_iter_mut().enumerate() {
        column.set_padding((0, if index == last { 0 } else { 2 }));
    }
    table.to_string().lines().map(|line| format!("{}\n", line.trim_end())).collect()
}

/// `HTTPRoute/shop/cart`
pub(crate) fn name(key: &Key) -> String {
    match &*key.namespace {
        "" => format!("{}/{}", key.kind, key.name),
        namespace => format!("{}/{namespace}/{}", key.kind, key.name),
    }
}

pub(crate) const fn change_word(change: ChangeKind) -> &'static str {
    match change {
        ChangeKind::Added => "added",
        ChangeKind::Removed => "removed",
        ChangeKind::Changed => "changed",
    }
}

/// `1 proxy`, `2 proxies`, `3 errors`
pub(crate) fn count(count: usize, noun: &str) -> String {
    match (count, noun.strip_suffix('y')) {
        (1, _) => format!("1 {noun}"),
        (_, Some(stem)) => format!("{count} {stem}ies"),
        _ => format!("{count} {noun}s"),
    }
}
