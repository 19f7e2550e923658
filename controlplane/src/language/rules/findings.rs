//! Where rules put what they find: diagnostics at fields of one object.

use std::collections::HashMap;
use std::hash::Hash;

use crate::language::diagnostic::Diagnostic;
use crate::language::object::Declared;
use crate::language::text::Format;

/// What was found about one object.
pub(super) struct Findings<'a> {
    pub(super) declared: &'a Declared,
    pub(super) diagnostics: &'a mut Vec<Diagnostic>,
}

impl Findings<'_> {
    /// An error at a field.
    pub(super) fn error(&mut self, path: &str, message: impl Into<String>) {
        self.diagnostics.push(Diagnostic::error(message, self.declared.place_of(path)));
    }

    /// An error at a field, and what would be right.
    pub(super) fn error_with_help(
        &mut self,
        path: &str,
        message: impl Into<String>,
        help: impl Into<String>,
    ) {
        let diagnostic = Diagnostic::error(message, self.declared.place_of(path));
        self.diagnostics.push(diagnostic.with_help(help));
    }

    /// An error about two fields that can't both be as they are.
    pub(super) fn conflict(&mut self, path: &str, first_path: &str, message: impl Into<String>) {
        let first = self.declared.place_of(first_path);
        let diagnostic = Diagnostic::error(message, self.declared.place_of(path));
        self.diagnostics.push(diagnostic.with_label("this").with_related(first, "and this"));
    }

    /// Errors for values that are there twice. `what` names a value for the message.
    pub(super) fn unique<K: Eq + Hash>(
        &mut self,
        what: &str,
        values: impl IntoIterator<Item = (String, K, String)>,
    ) {
        let mut first_paths: HashMap<K, String> = HashMap::new();
        for (path, key, shown) in values {
            match first_paths.get(&key) {
                Some(first) => {
                    let first = self.declared.place_of(first);
                    let message = format!("{what} `{shown}` is there twice");
                    let diagnostic = Diagnostic::error(message, self.declared.place_of(&path));
                    let diagnostic = diagnostic.with_label("again here");
                    self.diagnostics.push(diagnostic.with_related(first, "first here"));
                }
                None => {
                    first_paths.insert(key, path);
                }
            }
        }
    }

    /// An error if a text has not this form.
    pub(super) fn format(&mut self, path: &str, text: &str, format: Format) {
        if !format.accepts(text) {
            let message = format!("`{path}` must be {}, not `{text}`", format.noun());
            let help = format!("{}: {}", format.noun(), format.explanation());
            self.error_with_help(path, message, help);
        }
    }
}
