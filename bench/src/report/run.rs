//! `lateen-bench report`: reads, makes the page, writes it.

use super::arguments::ReportArguments;
use super::model::Page;
use super::reading::{self, Source};
use super::{markdown, page};
use anyhow::{Context, ensure};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Writes the report; fails where results cannot be read, or a file not be written.
pub fn run(arguments: &ReportArguments) -> anyhow::Result<ExitCode> {
    refuse_to_overwrite(arguments)?;
    let read = |path: &PathBuf| reading::read(path);
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
    writeln!(out, "{}", arguments.out.display())?;
    Ok(ExitCode::SUCCESS)
}

/// Results take an hour to make, and a page a second.
fn refuse_to_overwrite(arguments: &ReportArguments) -> anyhow::Result<()> {
    let inputs = arguments.results.iter().chain(&arguments.baseline);
    let inputs: Vec<PathBuf> = inputs.filter_map(|path| path.canonicalize().ok()).collect();
    for path in std::iter::once(&arguments.out).chain(&arguments.markdown) {
        let is_input = path.canonicalize().is_ok_and(|path| inputs.contains(&path));
        ensure!(!is_input, "{}: holds results, and would be overwritten", path.display());
    }
    Ok(())
}

fn write(path: &Path, text: &str) -> anyhow::Result<()> {
    std::fs::write(path, text).with_context(|| format!("{}: cannot be written", path.display()))
}
