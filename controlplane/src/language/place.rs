//! Where something was written: a file, and bytes of it.

use std::fmt;
use std::sync::Arc;

use crate::language::diagnostic::Diagnostic;
use crate::limits::FILE_BYTES_MAX;

/// A text that declares objects, and what to call it in messages.
#[derive(Debug, PartialEq, Eq)]
pub struct SourceFile {
    /// A path, or whatever else tells the reader which text is meant.
    pub name: String,
    /// YAML or JSON, any number of documents.
    pub text: String,
}

impl SourceFile {
    /// Takes a text that is at hand. Its size is checked by [`parse`](crate::language::parse::parse).
    pub fn new(name: impl Into<String>, text: impl Into<String>) -> Self {
        Self { name: name.into(), text: text.into() }
    }

    /// Takes the bytes of a file. Fails, with a place, where they are not UTF-8.
    pub fn from_bytes(name: impl Into<String>, bytes: Vec<u8>) -> Result<Self, Diagnostic> {
        let name = name.into();
        match String::from_utf8(bytes) {
            Ok(text) => Ok(Self { name, text }),
            Err(error) => {
                let valid_bytes = error.utf8_error().valid_up_to();
                let text = String::from_utf8_lossy(error.as_bytes()).into_owned();
                let place = Place::new(Arc::new(Self { name, text }), Span::at(valid_bytes));
                Err(Diagnostic::error("this is not UTF-8", place)
                    .with_label("the first wrong byte"))
            }
        }
    }

    pub(crate) fn check_size(self: &Arc<Self>) -> Result<(), Diagnostic> {
        if self.text.len() <= FILE_BYTES_MAX {
            return Ok(());
        }
        let message =
            format!("a file of {} bytes; at most {FILE_BYTES_MAX} are read", self.text.len());
        Err(Diagnostic::error(message, Place::new(self.clone(), Span::at(0)))
            .with_help("spread the objects over several files"))
    }
}

/// Bytes of a text, from `start` up to but without `end`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Span {
    /// The first byte.
    pub start: u32,
    /// Behind the last byte.
    pub end: u32,
}

impl Span {
    /// From one offset to another.
    pub fn new(start: usize, end: usize) -> Self {
        // A longer text is refused before any of its bytes gets a span.
        let clamp = |offset: usize| u32::try_from(offset).unwrap_or(u32::MAX);
        Self { start: clamp(start), end: clamp(end.max(start)) }
    }

    /// Between two bytes.
    pub fn at(offset: usize) -> Self {
        Self::new(offset, offset)
    }

    /// Whether it holds no byte.
    pub fn is_empty(self) -> bool {
        self.start == self.end
    }
}

/// Bytes of a file.
#[derive(Clone, PartialEq, Eq)]
pub struct Place {
    /// The file.
    pub file: Arc<SourceFile>,
    /// Its bytes.
    pub span: Span,
}

impl Place {
    /// These bytes of that file.
    pub fn new(file: Arc<SourceFile>, span: Span) -> Self {
        Self { file, span }
    }

    /// Line of the first byte, from 1.
    pub fn line(&self) -> usize {
        self.before().bytes().filter(|&byte| byte == b'\n').count() + 1
    }

    /// Column of the first byte in characters, from 1.
    pub fn column(&self) -> usize {
        let before = self.before();
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        before[line_start..].chars().count() + 1
    }

    /// The whole line of the first byte, without its end.
    pub fn line_text(&self) -> &str {
        let line_start = self.before().rfind('\n').map_or(0, |newline| newline + 1);
        self.file.text[line_start..].lines().next().unwrap_or("")
    }

    /// The bytes, on borders of characters whatever the span says.
    pub(crate) fn range(&self) -> std::ops::Range<usize> {
        let text = &self.file.text;
        let start = text.floor_char_boundary(self.span.start as usize);
        let end = text.ceil_char_boundary(self.span.end as usize);
        start..end.max(start)
    }

    fn before(&self) -> &str {
        &self.file.text[..self.range().start]
    }
}

/// `file:line:column`.
impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.file.name, self.line(), self.column())
    }
}

/// Without the text of the file.
impl fmt::Debug for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}
