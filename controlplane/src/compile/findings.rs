//! Where every step of the compiler puts what it finds.

use crate::language::diagnostic::{Diagnostic, Severity};
use crate::language::object::Declared;
use crate::limits::DIAGNOSTICS_MAX;

/// What is wrong so far.
#[derive(Debug, Default)]
pub(super) struct Findings {
    diagnostics: Vec<Diagnostic>,
}

impl Findings {
    /// Any diagnostic.
    pub(super) fn push(&mut self, diagnostic: Diagnostic) {
        self.diagnostics.push(diagnostic);
    }

    /// An error at a field.
    pub(super) fn error(&mut self, at: &Declared, path: &str, message: impl Into<String>) {
        self.push(Diagnostic::error(message, at.place_of(path)));
    }

    /// An error at a field, and what would be right.
    pub(super) fn error_with_help(
        &mut self,
        at: &Declared,
        path: &str,
        message: impl Into<String>,
        help: impl Into<String>,
    ) {
        self.push(Diagnostic::error(message, at.place_of(path)).with_help(help));
    }

    /// What is accepted, but probably not meant.
    pub(super) fn warn(
        &mut self,
        at: &Declared,
        path: &str,
        message: impl Into<String>,
        help: impl Into<String>,
    ) {
        self.push(Diagnostic::warning(message, at.place_of(path)).with_help(help));
    }

    /// The warnings if nothing is worse; else everything, in the order of the texts.
    pub(super) fn finish(mut self) -> Result<Vec<Diagnostic>, Vec<Diagnostic>> {
        self.diagnostics.sort_by(|one, other| order_of(one).cmp(&order_of(other)));
        self.diagnostics.dedup();
        let is_refused = self.diagnostics.iter().any(|found| found.severity == Severity::Error);
        if is_refused {
            // Errors first where not everything is shown: no warning may displace one.
            self.diagnostics.sort_by_key(|found| found.severity == Severity::Warning);
        }
        let more = self.diagnostics.len().saturating_sub(DIAGNOSTICS_MAX);
        if more > 0 {
            let severity = if is_refused { Severity::Error } else { Severity::Warning };
            self.diagnostics.truncate(DIAGNOSTICS_MAX);
            let message = format!("{more} more are not shown");
            self.diagnostics.push(Diagnostic::without_place(severity, message));
        }
        if is_refused { Err(self.diagnostics) } else { Ok(self.diagnostics) }
    }
}

/// Files by name; what has no place comes last.
fn order_of(found: &Diagnostic) -> (bool, Option<(&str, u32, u32)>, &str) {
    let place = found.place.as_ref();
    let order = place.map(|place| (&*place.file.name, place.span.start, place.span.end));
    (place.is_none(), order, &found.message)
}
