//! Holds a document against the shape of its kind: every field that is unknown, missing, of the wrong
//! type, or has a value that it can't have.

use std::collections::BTreeMap;

use serde_json::Value as Json;

use crate::language::diagnostic::Diagnostic;
use crate::language::document::{Document, Field, Node, Value};
use crate::language::place::Span;
use crate::language::schema::shape::Shape;

/// Adds what is wrong with a document to the diagnostics. Cost: one walk over the document.
pub fn check(document: &Document, shape: &Shape, diagnostics: &mut Vec<Diagnostic>) {
    let mut checker = Checker { document, diagnostics, path: Vec::new() };
    checker.check(&document.root, document.root.span, shape);
}

struct Checker<'a> {
    document: &'a Document,
    diagnostics: &'a mut Vec<Diagnostic>,
    path: Vec<Step<'a>>,
}

/// The way from the document to a value.
enum Step<'a> {
    Field(&'a str),
    Item(usize),
}

impl<'a> Checker<'a> {
    /// `span` is what a message about the node points to.
    fn check(&mut self, node: &'a Node, span: Span, shape: &Shape) {
        if !shape.types.is_empty() && !shape.types.iter().any(|name| is_of_type(&node.value, name))
        {
            return self.wrong_type(node, span, shape);
        }
        if !shape.allowed.is_empty() && !shape.allowed.iter().any(|value| is(&node.value, value)) {
            return self.not_allowed(node, span, shape);
        }
        match &node.value {
            Value::Text(text) => self.check_text(text, span, shape),
            Value::Integer(number) => self.check_number(*number as f64, span, shape),
            Value::Number(number) => self.check_number(*number, span, shape),
            Value::List(nodes) => self.check_list(nodes, span, shape),
            Value::Fields(fields) => self.check_fields(fields, span, shape),
            Value::Null | Value::Bool(_) => {}
        }
    }

    fn check_text(&mut self, text: &str, span: Span, shape: &Shape) {
        if let Some(format) = shape.format.filter(|format| !format.accepts(text)) {
            let message =
                format!("`{}` must be {}, not `{}`", self.path(), format.noun(), shorten(text));
            let help = format!("{}: {}", format.noun(), format.explanation());
            return self.report(self.error(message, span).with_help(help));
        }
        let length = text.chars().count() as u64;
        if shape.length_max.is_some_and(|max| length > max)
            || shape.length_min.is_some_and(|min| length < min)
        {
            let range = range_of(shape.length_min, shape.length_max);
            let message = format!("`{}` must have {range} characters, not {length}", self.path());
            self.report(self.error(message, span));
        }
    }

    fn check_number(&mut self, number: f64, span: Span, shape: &Shape) {
        if shape.minimum.is_none_or(|minimum| number >= minimum)
            && shape.maximum.is_none_or(|maximum| number <= maximum)
        {
            return;
        }
        let range = range_of(shape.minimum, shape.maximum);
        let message = format!("`{}` must be {range}, not {number}", self.path());
        self.report(self.error(message, span));
    }

    fn check_list(&mut self, nodes: &'a [Node], span: Span, shape: &Shape) {
        let count = nodes.len() as u64;
        if shape.items_max.is_some_and(|max| count > max)
            || shape.items_min.is_some_and(|min| count < min)
        {
            let range = range_of(shape.items_min, shape.items_max);
            let message = format!("`{}` must have {range} items, not {count}", self.path());
            self.report(self.error(message, span));
        }
        let Some(items) = &shape.items else { return };
        for (index, node) in nodes.iter().enumerate() {
            let node_span = if node.span.is_empty() { span } else { node.span };
            self.path.push(Step::Item(index));
            self.check(node, node_span, items);
            self.path.pop();
        }
    }

    fn check_fields(&mut self, fields: &'a [Field], span: Span, shape: &Shape) {
        for field in fields {
            let known = shape.fields.as_ref().and_then(|known| known.get(&field.name));
            if let Some(field_shape) = known.or(shape.values.as_deref()) {
                self.check_field(field, field_shape, shape);
            } else if let Some(reason) = shape.unsupported_fields.get(&field.name) {
                self.unsupported_field(field, reason);
            } else if let Some(known) = &shape.fields {
                self.unknown_field(field, known);
            }
        }
        for name in &shape.required {
            if !fields.iter().any(|field| field.name == *name) {
                self.missing_field(name, span, shape);
            }
        }
    }

    fn check_field(&mut self, field: &'a Field, field_shape: &Shape, shape: &Shape) {
        if field.node.value == Value::Null && !shape.requires(&field.name) {
            return;
        }
        self.path.push(Step::Field(&field.name));
        self.check(&field.node, field.value_span(), field_shape);
        self.path.pop();
    }

    fn wrong_type(&mut self, node: &Node, span: Span, shape: &Shape) {
        let expected: Vec<&str> = shape.types.iter().map(|name| noun_of(name)).collect();
        let what = match self.path.is_empty() {
            true => "a document".to_owned(),
            false => format!("`{}`", self.path()),
        };
        let message =
            format!("{what} must be {}, not {}", expected.join(" or "), describe(&node.value));
        let is_scalar = matches!(node.value, Value::Bool(_) | Value::Integer(_) | Value::Number(_));
        let wants_text = shape.types.iter().any(|name| name == "string");
        let diagnostic = match (is_scalar && wants_text, &node.value) {
            (true, _) => {
                let written = self.written(span).to_owned();
                self.error(message, span).with_help(format!("put it in quotes: \"{written}\""))
            }
            (false, Value::Text(text)) if resolves_unquoted(text, shape) => {
                self.error(message, span).with_help(format!("leave the quotes out: {text}"))
            }
            _ => self.error(message, span),
        };
        self.report(diagnostic);
    }

    fn not_allowed(&mut self, node: &Node, span: Span, shape: &Shape) {
        let written = match &node.value {
            Value::Text(text) => text.clone(),
            _ => self.written(span).to_owned(),
        };
        if let Some(reason) = shape.unsupported_values.get(&written) {
            let message = format!("`{}: {written}` is not supported yet", self.last_name());
            return self.report(self.error(message, span).with_help(reason.as_str()));
        }
        let allowed: Vec<String> = shape.allowed.iter().map(show).collect();
        let message = match self.path.is_empty() {
            true => format!("a document can't be `{}`", shorten(&written)),
            false => format!("`{}` can't be `{}`", self.path(), shorten(&written)),
        };
        let mut diagnostic = self.error(message, span);
        if let Some(near) = nearest(&written, allowed.iter().map(String::as_str)) {
            diagnostic = diagnostic.with_label(format!("did you mean `{near}`?"));
        }
        self.report(diagnostic.with_help(format!("it can be {}", list_of(&allowed, "or"))));
    }

    fn unsupported_field(&mut self, field: &Field, reason: &str) {
        let message = format!("`{}` is not supported yet", self.path_to(&field.name));
        self.report(self.error(message, field.name_span).with_help(reason));
    }

    fn unknown_field(&mut self, field: &Field, known: &BTreeMap<String, Shape>) {
        let message = format!("unknown field `{}`", self.path_to(&field.name));
        let mut diagnostic = self.error(message, field.name_span);
        if let Some(near) = nearest(&field.name, known.keys().map(String::as_str)) {
            diagnostic = diagnostic.with_label(format!("did you mean `{near}`?"));
        }
        let names: Vec<String> = known.keys().cloned().collect();
        let place = match self.path.is_empty() {
            true => "a document".to_owned(),
            false => format!("`{}`", self.path()),
        };
        self.report(diagnostic.with_help(format!("{place} can have {}", list_of(&names, "and"))));
    }

    fn missing_field(&mut self, name: &str, span: Span, shape: &Shape) {
        let message = format!("`{}` is missing", self.path_to(name));
        let wanted = shape.fields.as_ref().and_then(|fields| fields.get(name));
        let mut diagnostic = self.error(message, span).with_label("in here");
        if let Some(wanted) = wanted.filter(|wanted| !wanted.allowed.is_empty()) {
            let allowed: Vec<String> = wanted.allowed.iter().map(show).collect();
            diagnostic = diagnostic.with_help(format!("it can be {}", list_of(&allowed, "or")));
        }
        self.report(diagnostic);
    }

    fn path(&self) -> String {
        let mut path = String::new();
        for step in &self.path {
            match step {
                Step::Field(name) if path.is_empty() => path.push_str(name),
                Step::Field(name) => {
                    path.push('.');
                    path.push_str(name);
                }
                Step::Item(index) => path.push_str(&format!("[{index}]")),
            }
        }
        path
    }

    fn path_to(&self, name: &str) -> String {
        match self.path.is_empty() {
            true => name.to_owned(),
            false => format!("{}.{name}", self.path()),
        }
    }

    fn last_name(&self) -> &str {
        let names = self.path.iter().rev().filter_map(|step| match step {
            Step::Field(name) => Some(*name),
            Step::Item(_) => None,
        });
        names.clone().next().unwrap_or_default()
    }

    fn written(&self, span: Span) -> &'a str {
        self.document.file.text.get(span.start as usize..span.end as usize).unwrap_or_default()
    }

    fn error(&self, message: String, span: Span) -> Diagnostic {
        Diagnostic::error(message, self.document.place(span))
    }

    fn report(&mut self, diagnostic: Diagnostic) {
        self.diagnostics.push(diagnostic);
    }
}

/// Names in backquotes, as a list in words.
pub(crate) fn list_of(names: &[String], conjunction: &str) -> String {
    let quoted: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
    match quoted.as_slice() {
        [] => "nothing".to_owned(),
        [one] => one.clone(),
        [others @ .., last] => format!("{} {conjunction} {last}", others.join(", ")),
    }
}

/// The name that was probably meant, if one is near.
pub(crate) fn nearest<'n>(written: &str, names: impl Iterator<Item = &'n str>) -> Option<&'n str> {
    let lower = written.to_lowercase();
    // A distance of a third of the letters: `weigth` is near `weight`, `port` is not near `name`.
    let letters = written.chars().count();
    let distance_max = (letters / 3).max(1);
    // Two texts are at least as far apart as they differ in length. A part is at least half of the whole.
    let possible = names.filter(|name| {
        let others = name.chars().count();
        others.abs_diff(letters) <= distance_max || 2 * others.min(letters) >= others.max(letters)
    });
    let distances = possible.map(|name| {
        let other = name.to_lowercase();
        // `Prefix` is near `PathPrefix`, but less so than a slip of the finger.
        let is_part = (other.contains(&lower) || lower.contains(&other))
            && 2 * lower.len().min(other.len()) >= lower.len().max(other.len());
        let distance = strsim::damerau_levenshtein(&lower, &other);
        (if is_part { distance.min(distance_max) } else { distance }, name)
    });
    distances.filter(|&(distance, _)| distance <= distance_max).min().map(|(_, name)| name)
}

fn is_of_type(value: &Value, name: &str) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(_) => name == "boolean",
        Value::Integer(_) => matches!(name, "integer" | "number"),
        Value::Number(_) => name == "number",
        Value::Text(_) => name == "string",
        Value::List(_) => name == "array",
        Value::Fields(_) => name == "object",
    }
}

fn is(value: &Value, json: &Json) -> bool {
    match value {
        Value::Text(text) => json.as_str() == Some(text),
        Value::Integer(number) => json.as_i64() == Some(*number),
        Value::Number(number) => json.as_f64() == Some(*number),
        Value::Bool(truth) => json.as_bool() == Some(*truth),
        Value::Null | Value::List(_) | Value::Fields(_) => false,
    }
}

/// Whether a quoted text would have the right type without its quotes.
fn resolves_unquoted(text: &str, shape: &Shape) -> bool {
    shape.types.iter().any(|name| match name.as_str() {
        "integer" => text.parse::<i64>().is_ok(),
        "boolean" => matches!(text, "true" | "false"),
        _ => false,
    })
}

fn noun_of(name: &str) -> &str {
    match name {
        "string" => "a text",
        "integer" => "a whole number",
        "number" => "a number",
        "boolean" => "`true` or `false`",
        "array" => "a list",
        "object" => "a mapping",
        other => other,
    }
}

fn describe(value: &Value) -> String {
    match value {
        Value::Null => "nothing".to_owned(),
        Value::Bool(truth) => format!("`{truth}`"),
        Value::Integer(number) => format!("the number {number}"),
        Value::Number(number) => format!("the number {number}"),
        Value::Text(text) => format!("the text `{}`", shorten(text)),
        Value::List(_) => "a list".to_owned(),
        Value::Fields(_) => "a mapping".to_owned(),
    }
}

fn show(value: &Json) -> String {
    match value {
        Json::String(text) if text.is_empty() => "\"\"".to_owned(),
        Json::String(text) => text.clone(),
        other => other.to_string(),
    }
}

fn range_of<T: std::fmt::Display + PartialEq>(minimum: Option<T>, maximum: Option<T>) -> String {
    match (minimum, maximum) {
        (Some(minimum), Some(maximum)) if minimum == maximum => format!("{minimum}"),
        (Some(minimum), Some(maximum)) => format!("{minimum} to {maximum}"),
        (Some(minimum), None) => format!("at least {minimum}"),
        (None, Some(maximum)) => format!("at most {maximum}"),
        (None, None) => "any number of".to_owned(),
    }
}

/// For messages: no more than a line takes.
pub(crate) fn shorten(text: &str) -> String {
    const CHARS_MAX: usize = 60;
    match text.char_indices().nth(CHARS_MAX) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}
