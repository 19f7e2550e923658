//! Why a command failed, in words for whoever gave it.

use std::fmt;
use std::io;

use lateen_control::language::diagnostic::Report;

/// Why a command failed. Written as it is: whole lines.
#[derive(Debug)]
pub(crate) struct Problem {
    text: String,
}

impl Problem {
    /// One line of what is wrong, without a full stop.
    pub(crate) fn new(message: impl fmt::Display) -> Self {
        Self { text: format!("error: {message}\n") }
    }

    /// The output said it already.
    pub(crate) const fn told() -> Self {
        Self { text: String::new() }
    }

    /// What to do about it.
    #[must_use]
    pub(crate) fn with_help(mut self, help: impl fmt::Display) -> Self {
        self.text.push_str(&format!("help: {help}\n"));
        self
    }

    /// All that is wrong with what was declared, before the rest.
    #[must_use]
    pub(crate) fn after(mut self, diagnostics: &[Report]) -> Self {
        let rendered: String =
            diagnostics.iter().map(|report| format!("{}\n\n", report.rendered)).collect();
        self.text.insert_str(0, &rendered);
        self
    }

    /// What cannot be written down. A reader that is gone has seen enough.
    pub(crate) fn of_output(error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self::told(),
            _ => Self::new(format_args!("the output cannot be written: {error}")),
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}
