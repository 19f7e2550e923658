//! `lateen check`: what a control plane would say of some files, without one.

use std::io::{self, IsTerminal, Write};
use std::sync::Arc;

use lateen_control::compile::resolve;
use lateen_control::language::diagnostic::{Colours, Diagnostic, Report, Severity};
use lateen_control::language::parse::parse;
use lateen_control::language::place::SourceFile;

use crate::arguments::{Check, Output};
use crate::files;
use crate::problem::Problem;
use crate::show::{count, print, print_json};

pub(crate) fn run(check: &Check) -> Result<(), Problem> {
    let files = files::read(&check.files)?;
    let files: Vec<Arc<SourceFile>> =
        files.into_iter().map(|file| Arc::new(SourceFile::new(file.name, file.text))).collect();
    let parsed = parse(&files);
    let object_count = parsed.declared.len();
    let mut diagnostics = parsed.diagnostics;
    // What an object that is wrong would have offered to others is not known: they are not looked at.
    if errors(&diagnostics) == 0 {
        match resolve(&parsed.declared) {
            Ok(mesh) => diagnostics.extend_from_slice(mesh.warnings()),
            Err(found) => diagnostics.extend(found),
        }
    }
    let error_count = errors(&diagnostics);
    match check.form.output {
        Output::Json => {
            let reports: Vec<Report> = diagnostics.iter().map(Diagnostic::report).collect();
            print_json(&reports)?;
        }
        Output::Text => tell(&diagnostics),
    }
    if error_count > 0 {
        return Err(Problem::new(count(error_count, "error")));
    }
    match check.form.output {
        Output::Json => Ok(()),
        Output::Text => print(&format!(
            "{} in {}: no errors\n",
            count(object_count, "object"),
            count(files.len(), "file")
        )),
    }
}

fn errors(diagnostics: &[Diagnostic]) -> usize {
    diagnostics.iter().filter(|diagnostic| diagnostic.severity == Severity::Error).count()
}

fn tell(diagnostics: &[Diagnostic]) {
    let is_coloured = io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let colours = if is_coloured { Colours::Ansi } else { Colours::Never };
    for diagnostic in diagnostics {
        // Nobody to tell: the code says it.
        let _ = writeln!(io::stderr(), "{}\n", diagnostic.render(colours));
    }
}
