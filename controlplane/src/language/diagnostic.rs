//! What is wrong with what was declared, where, and what would be right.
//!
//! Made by every step from the text to the snapshot; printed by the command that was asked, or sent
//! as a [`Report`] by the API.

use annotate_snippets::renderer::DecorStyle;
use annotate_snippets::{Annotation, AnnotationKind, Element, Level, Renderer, Snippet};
use serde::{Deserialize, Serialize};

use crate::language::place::Place;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The set of objects is refused.
    Error,
    /// It is accepted, but probably not what was meant.
    Warning,
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// How bad it is.
    pub severity: Severity,
    /// What is wrong, in one line, without a full stop.
    pub message: String,
    /// Where; `None` if it is nowhere in particular.
    pub place: Option<Place>,
    /// A few words below the place.
    pub label: Option<String>,
    /// Other places that have to do with it, each with a few words.
    pub related: Vec<(Place, String)>,
    /// What would be right, what is allowed.
    pub help: Vec<String>,
}

impl Diagnostic {
    /// An error at a place.
    pub fn error(message: impl Into<String>, place: Place) -> Self {
        Self { place: Some(place), ..Self::without_place(Severity::Error, message) }
    }

    /// A warning at a place.
    pub fn warning(message: impl Into<String>, place: Place) -> Self {
        Self { place: Some(place), ..Self::without_place(Severity::Warning, message) }
    }

    /// One that belongs to no place.
    pub fn without_place(severity: Severity, message: impl Into<String>) -> Self {
        let message = message.into();
        Self { severity, message, place: None, label: None, related: Vec::new(), help: Vec::new() }
    }

    /// Puts words below the place.
    #[must_use]
    pub fn with_label(mut self, label: impl Into<String>) -> Self {
        self.label = Some(label.into());
        self
    }

    /// Points to another place.
    #[must_use]
    pub fn with_related(mut self, place: Place, label: impl Into<String>) -> Self {
        self.related.push((place, label.into()));
        self
    }

    /// Says what would be right.
    #[must_use]
    pub fn with_help(mut self, help: impl Into<String>) -> Self {
        self.help.push(help.into());
        self
    }

    /// For people: the message, the lines with carets below them, the help. Several lines, without a
    /// newline at the end.
    pub fn render(&self, colours: Colours) -> String {
        let level = match self.severity {
            Severity::Error => Level::ERROR,
            Severity::Warning => Level::WARNING,
        };
        let primary = self.place.iter().map(|place| (place, self.label.as_deref(), true));
        let related = self.related.iter().map(|(place, label)| (place, Some(&**label), false));
        let mut places: Vec<_> = primary.chain(related).collect();
        // Places of one file share one snippet, so that its lines are shown in their order.
        let mut elements: Vec<Element<'_>> = Vec::new();
        while let Some(&(first, ..)) = places.first() {
            let (here, elsewhere): (Vec<_>, Vec<_>) =
                places.into_iter().partition(|(place, ..)| place.file == first.file);
            elements.push(snippet_of(first, &here).into());
            places = elsewhere;
        }
        elements.extend(self.help.iter().map(|help| Level::HELP.message(help.as_str()).into()));
        let group = level.primary_title(self.message.as_str()).elements(elements);
        let renderer = match colours {
            Colours::Never => Renderer::plain(),
            Colours::Ansi => Renderer::styled(),
        };
        renderer.decor_style(DecorStyle::Ascii).render(&[group])
    }

    /// For programs.
    pub fn report(&self) -> Report {
        Report {
            severity: self.severity,
            message: self.message.clone(),
            place: self.place.as_ref().map(report_place),
            label: self.label.clone(),
            related: self
                .related
                .iter()
                .map(|(place, label)| ReportedLabel {
                    place: report_place(place),
                    label: label.clone(),
                })
                .collect(),
            help: self.help.clone(),
            rendered: self.render(Colours::Never),
        }
    }
}

/// The lines of some places of one file. Only those: the renderer reads all that it is given.
fn snippet_of<'a>(
    first: &'a Place,
    places: &[(&'a Place, Option<&'a str>, bool)],
) -> Snippet<'a, Annotation<'a>> {
    let text = first.file.text.as_str();
    let start = places.iter().map(|(place, ..)| place.range().start).min().unwrap_or(0);
    let end = places.iter().map(|(place, ..)| place.range().end).max().unwrap_or(0);
    let window_start = text[..start].rfind('\n').map_or(0, |newline| newline + 1);
    let window_end = text[end..].find('\n').map_or(text.len(), |newline| end + newline);
    let line_start = text[..window_start].bytes().filter(|&byte| byte == b'\n').count() + 1;
    let annotations = places.iter().map(|&(place, label, is_primary)| {
        let kind = match is_primary {
            true => AnnotationKind::Primary,
            false => AnnotationKind::Context,
        };
        let range = place.range();
        kind.span(range.start - window_start..range.end - window_start).label(label)
    });
    Snippet::source(&text[window_start..window_end])
        .line_start(line_start)
        .path(first.file.name.as_str())
        .annotations(annotations)
}

/// Whether a rendered diagnostic has colours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Colours {
    /// Plain text.
    Never,
    /// Escape sequences of a terminal.
    Ansi,
}

/// A diagnostic as JSON, without the file it points into.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// How bad it is.
    pub severity: Severity,
    /// What is wrong, in one line.
    pub message: String,
    /// Where.
    pub place: Option<ReportedPlace>,
    /// A few words on the place.
    pub label: Option<String>,
    /// Other places that have to do with it.
    pub related: Vec<ReportedLabel>,
    /// What would be right.
    pub help: Vec<String>,
    /// All of it, as [`Diagnostic::render`] writes it.
    pub rendered: String,
}

/// A place in a [`Report`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReportedPlace {
    /// Name of the file.
    pub file: String,
    /// From 1.
    pub line: usize,
    /// In characters, from 1.
    pub column: usize,
    /// That line.
    pub text: String,
}

/// Another place in a [`Report`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReportedLabel {
    /// Where.
    pub place: ReportedPlace,
    /// What is there.
    pub label: String,
}

fn report_place(place: &Place) -> ReportedPlace {
    ReportedPlace {
        file: place.file.name.clone(),
        line: place.line(),
        column: place.column(),
        text: place.line_text().to_owned(),
    }
}
