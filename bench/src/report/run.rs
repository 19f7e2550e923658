//! `lateen-bench report`: reads, makes the page, writes it.

use super::arguments::Arguments;
use super::model::Page;
use super::reading::{self, Source};
use super::{markdown, page};
use anyhow::Context;
use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

/// Writes the report; fails where results cannot be read, or a file not be written.
pub fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let read = |path: &std::path::PathBuf| reading::read(path);
    let sources = arguments.results.iter().map(read).collect::<anyhow::Result<Vec<Source>>>()?;
    let old = arguments.baseline.as_ref().map(read).transpose()?;
    let report = Page::of(&sources, old.as_ref());
    write(&arguments.out, &page::write(&report)?)?;
    if let Some(path) = &arguments.markdown {
        write(path, &markdown::write(&report))?;
    }
    let mut out = std::io::stdout().lock();
    for finding in &report.findings {
        writeln!(out, "{finding}")?;
    }
    if let Some(change) = &report.changes {
        writeln!(out, "{}", change.sentence())?;
    }
    writeln!(out, "{}", arguments.out.display())?;
    Ok(ExitCode::SUCCESS)
}

fn write(path: &Path, text: &str) -> anyhow::Result<()> {
    std::fs::write(path, text).with_context(|| format!("{}: cannot be written", path.display()))
}
