//! Text to trees: values with the bytes they were written as.
//!
//! YAML 1.2 with its core schema, and so JSON. The parser's events are taken one by one, so that the
//! tree knows where each name and each value stands, a name that is there twice is shown at both
//! places, and a mistake in one document hides nothing of those before it. Anchors are fine within
//! bounds; merge keys and tags of one's own are not.

use std::collections::HashMap;
use std::sync::Arc;

use granit_parser::{Event, Parser, ScalarStyle, ScanError, Tag};

use crate::language::diagnostic::Diagnostic;
use crate::language::place::{Place, SourceFile, Span};
use crate::limits::{DEPTH_MAX, FILE_DOCUMENTS_MAX, FILE_NODES_MAX};

/// One document of a file.
#[derive(Clone, Debug, PartialEq)]
pub struct Document {
    /// Where it is from.
    pub file: Arc<SourceFile>,
    /// All of it.
    pub root: Node,
    /// It is an item of a `List`, so that its lines alone say nothing.
    pub is_item: bool,
}

impl Document {
    /// A place of this document.
    pub fn place(&self, span: Span) -> Place {
        Place::new(self.file.clone(), span)
    }
}

/// A value, and where it stands.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// The value.
    pub value: Value,
    /// Its bytes; of a list or mapping over several lines only the first name or item, which is
    /// what a message about it points to.
    pub span: Span,
}

/// What YAML's core schema takes a text for.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// `null`, `~`, or nothing.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A whole number.
    Integer(i64),
    /// Any other number.
    Number(f64),
    /// A text.
    Text(String),
    /// A sequence.
    List(Vec<Node>),
    /// A mapping; no name twice.
    Fields(Vec<Field>),
}

/// A name and its value.
#[derive(Clone, Debug, PartialEq)]
pub struct Field {
    /// The name.
    pub name: String,
    /// Its bytes.
    pub name_span: Span,
    /// The value.
    pub node: Node,
}

impl Field {
    /// What a message about the value points to: the value if it stands on one line, else its name.
    pub fn value_span(&self) -> Span {
        match &self.node.value {
            Value::List(_) | Value::Fields(_) => self.name_span,
            _ if self.node.span.is_empty() => self.name_span,
            _ => self.node.span,
        }
    }
}

impl Node {
    /// The field of that name, if this is a mapping that has it.
    pub fn field(&self, name: &str) -> Option<&Field> {
        match &self.value {
            Value::Fields(fields) => fields.iter().find(|field| field.name == name),
            _ => None,
        }
    }

    /// The text, if it is one.
    pub fn text(&self) -> Option<&str> {
        match &self.value {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }
}

/// All documents of a file that can be read; empty ones are left out. What can't be read is
/// reported, and with it ends the reading of this file.
pub fn read(file: &Arc<SourceFile>, diagnostics: &mut Vec<Diagnostic>) -> Vec<Document> {
    let mut reader = Reader {
        file,
        diagnostics,
        documents: Vec::new(),
        open: Vec::new(),
        anchors: HashMap::new(),
        nodes: 0,
    };
    if let Err(Stop(diagnostic)) = reader.run() {
        reader.diagnostics.push(*diagnostic);
    }
    reader.documents
}

/// Ends the reading of a file.
struct Stop(Box<Diagnostic>);

struct Reader<'a> {
    file: &'a Arc<SourceFile>,
    diagnostics: &'a mut Vec<Diagnostic>,
    documents: Vec<Document>,
    /// The lists and mappings around the next event, outermost first.
    open: Vec<Open>,
    /// Finished nodes of this document that have an anchor, by the parser's number for it.
    anchors: HashMap<usize, Node>,
    /// Values so far, copies included.
    nodes: usize,
}

/// A list or mapping whose end has not come.
struct Open {
    items: Items,
    span: Span,
    anchor: usize,
}

enum Items {
    List(Vec<Node>),
    Mapping { fields: Vec<Field>, name: Option<(String, Span)> },
}

impl Reader<'_> {
    fn run(&mut self) -> Result<(), Stop> {
        self.file.check_size().map_err(stop)?;
        let file = self.file.clone();
        for event in Parser::new_from_str(&file.text) {
            let (event, span) = event.map_err(|error| self.not_yaml(&error))?;
            let span = byte_span(&span);
            match event {
                Event::DocumentStart(..) => self.start_document(span)?,
                Event::Scalar(text, style, anchor, tag) => {
                    let value = self.resolve(text.into_owned(), style, tag.as_deref(), span);
                    self.take(Node { value, span }, anchor)?;
                }
                Event::SequenceStart(_, anchor, tag) => {
                    self.open(Items::List(Vec::new()), span, anchor, tag.as_deref())?;
                }
                Event::MappingStart(_, anchor, tag) => {
                    let items = Items::Mapping { fields: Vec::new(), name: None };
                    self.open(items, span, anchor, tag.as_deref())?;
                }
                Event::SequenceEnd | Event::MappingEnd => self.close(span)?,
                Event::Alias(anchor) => self.copy(anchor, span)?,
                _ => {}
            }
        }
        Ok(())
    }

    fn start_document(&mut self, span: Span) -> Result<(), Stop> {
        self.anchors.clear();
        if self.documents.len() >= FILE_DOCUMENTS_MAX {
            let message = format!("more than {FILE_DOCUMENTS_MAX} documents in one file");
            return Err(stop(self.error(message, span)));
        }
        Ok(())
    }

    fn open(
        &mut self,
        items: Items,
        span: Span,
        anchor: usize,
        tag: Option<&Tag>,
    ) -> Result<(), Stop> {
        if tag.is_some_and(|tag| !matches!(tag.core_suffix(), Some("seq" | "map"))) {
            self.refuse_tag(span);
        }
        if self.open.len() >= DEPTH_MAX {
            return Err(self.too_deep(span));
        }
        self.open.push(Open { items, span, anchor });
        Ok(())
    }

    fn close(&mut self, end: Span) -> Result<(), Stop> {
        let Some(Open { items, span, anchor }) = self.open.pop() else { return Ok(()) };
        let text = &self.file.text;
        let whole = Span::new(span.start as usize, end.end as usize);
        let is_one_line = text
            .get(whole.start as usize..whole.end as usize)
            .is_some_and(|text| text.starts_with(['{', '[']) && !text.contains('\n'));
        let (value, first) = match items {
            Items::List(nodes) => {
                let first = nodes.first().map(|node| node.span);
                (Value::List(nodes), first)
            }
            Items::Mapping { fields, .. } => {
                let first = fields.first().map(|field| field.name_span);
                (Value::Fields(self.without_duplicates(fields)), first)
            }
        };
        let span = match first {
            Some(first) if !is_one_line => first,
            _ => whole,
        };
        self.take(Node { value, span }, anchor)
    }

    /// Puts a finished node where it belongs.
    fn take(&mut self, node: Node, anchor: usize) -> Result<(), Stop> {
        self.count(1, node.span)?;
        if anchor != 0 {
            self.count(count(&node), node.span)?;
            self.anchors.insert(anchor, node.clone());
        }
        let is_name =
            matches!(self.open.last(), Some(Open { items: Items::Mapping { name: None, .. }, .. }));
        if is_name {
            let field_name = self.field_name(node);
            if let Some(Open { items: Items::Mapping { name, .. }, .. }) = self.open.last_mut() {
                *name = Some(field_name);
            }
            return Ok(());
        }
        match self.open.last_mut().map(|open| &mut open.items) {
            Some(Items::List(nodes)) => nodes.push(node),
            Some(Items::Mapping { fields, name }) => {
                let (name, name_span) = name.take().unwrap_or_default();
                fields.push(Field { name, name_span, node });
            }
            None if node.value == Value::Null => {}
            None => self.documents.push(Document {
                file: self.file.clone(),
                root: node,
                is_item: false,
            }),
        }
        Ok(())
    }

    /// A field's name; one that is no text is reported and stands for itself.
    fn field_name(&mut self, node: Node) -> (String, Span) {
        let text = self.file.text.get(node.span.start as usize..node.span.end as usize);
        let written = text.unwrap_or_default().to_owned();
        let name = match node.value {
            Value::Text(text) => text,
            Value::List(_) | Value::Fields(_) => {
                self.report("a field's name must be a text", node.span);
                written
            }
            _ => written,
        };
        (name, node.span)
    }

    fn copy(&mut self, anchor: usize, span: Span) -> Result<(), Stop> {
        let Some(anchored) = self.anchors.get(&anchor) else {
            return Err(stop(self.error("an alias of something that contains it", span)));
        };
        let (size, depth) = (count(anchored), depth(anchored));
        // Counted before it is copied: this is what a "billion laughs" grows by.
        self.count(size, span)?;
        if self.open.len() + depth > DEPTH_MAX {
            return Err(self.too_deep(span));
        }
        let node = self.anchors[&anchor].clone();
        self.take(node, 0)
    }

    fn count(&mut self, added: usize, span: Span) -> Result<(), Stop> {
        self.nodes = self.nodes.saturating_add(added);
        if self.nodes <= FILE_NODES_MAX {
            return Ok(());
        }
        let message = format!("more than {FILE_NODES_MAX} values in one file, aliases counted");
        Err(stop(self.error(message, span).with_help("spread the objects over several files")))
    }

    /// The fields without those whose name was there before, which are reported.
    fn without_duplicates(&mut self, fields: Vec<Field>) -> Vec<Field> {
        let firsts = first_positions(&fields);
        if firsts.iter().enumerate().all(|(index, &first)| index == first) {
            return fields;
        }
        for (index, field) in fields.iter().enumerate().filter(|(index, _)| firsts[*index] < *index)
        {
            let first = Place::new(self.file.clone(), fields[firsts[index]].name_span);
            let diagnostic = self
                .error(format!("`{}` is there twice", field.name), field.name_span)
                .with_label("again here")
                .with_related(first, "first here");
            self.diagnostics.push(diagnostic);
        }
        let indexed = fields.into_iter().enumerate();
        indexed.filter(|(index, _)| firsts[*index] == *index).map(|(_, field)| field).collect()
    }

    fn resolve(
        &mut self,
        text: String,
        style: ScalarStyle,
        tag: Option<&Tag>,
        span: Span,
    ) -> Value {
        let is_text = match tag.map(Tag::core_suffix) {
            None => style != ScalarStyle::Plain,
            Some(Some("str")) => true,
            Some(Some("int" | "float" | "bool" | "null")) => false,
            Some(_) => {
                self.refuse_tag(span);
                true
            }
        };
        if is_text { Value::Text(text) } else { resolve_plain(text) }
    }

    fn refuse_tag(&mut self, span: Span) {
        let diagnostic = self.error("a tag that has no meaning here", span).with_help(
            "leave the tag out; `!!str`, `!!int`, `!!float`, `!!bool` and `!!null` are known",
        );
        self.diagnostics.push(diagnostic);
    }

    fn report(&mut self, message: &str, span: Span) {
        let diagnostic = self.error(message, span);
        self.diagnostics.push(diagnostic);
    }

    fn too_deep(&self, span: Span) -> Stop {
        let message = format!("more than {DEPTH_MAX} lists and mappings within each other");
        stop(self.error(message, span))
    }

    fn not_yaml(&self, error: &ScanError) -> Stop {
        let start = error.marker().byte_offset().unwrap_or(self.file.text.len());
        stop(self.error(format!("this is not YAML: {}", error.info()), Span::at(start)))
    }

    fn error(&self, message: impl Into<String>, span: Span) -> Diagnostic {
        Diagnostic::error(message, Place::new(self.file.clone(), span))
    }
}

/// For each field the position of the first with its name.
fn first_positions(fields: &[Field]) -> Vec<usize> {
    // Nearly all mappings are this small; comparing names then costs less than hashing them.
    if fields.len() <= 16 {
        let first_of = |field: &Field| fields.iter().position(|other| other.name == field.name);
        return fields.iter().filter_map(first_of).collect();
    }
    let mut firsts = HashMap::with_capacity(fields.len());
    let positions = fields.iter().enumerate();
    positions.map(|(index, field)| *firsts.entry(field.name.as_str()).or_insert(index)).collect()
}

fn stop(diagnostic: Diagnostic) -> Stop {
    Stop(Box::new(diagnostic))
}

fn byte_span(span: &granit_parser::Span) -> Span {
    span.byte_range().map_or(Span::default(), |range| Span::new(range.start, range.end))
}

/// Nodes of a tree that is at most [`DEPTH_MAX`] deep.
fn count(node: &Node) -> usize {
    match &node.value {
        Value::List(nodes) => 1 + nodes.iter().map(count).sum::<usize>(),
        Value::Fields(fields) => 1 + fields.iter().map(|field| count(&field.node)).sum::<usize>(),
        _ => 1,
    }
}

/// Lists and mappings within each other.
fn depth(node: &Node) -> usize {
    match &node.value {
        Value::List(nodes) => 1 + nodes.iter().map(depth).max().unwrap_or(0),
        Value::Fields(fields) => {
            1 + fields.iter().map(|field| depth(&field.node)).max().unwrap_or(0)
        }
        _ => 0,
    }
}

/// YAML 1.2.2, 10.3.2: tag resolution of the core schema. `yes`, `no`, `on` and `off` are texts.
fn resolve_plain(text: String) -> Value {
    match text.as_str() {
        "" | "~" | "null" | "Null" | "NULL" => return Value::Null,
        "true" | "True" | "TRUE" => return Value::Bool(true),
        "false" | "False" | "FALSE" => return Value::Bool(false),
        ".nan" | ".NaN" | ".NAN" => return Value::Number(f64::NAN),
        ".inf" | ".Inf" | ".INF" | "+.inf" | "+.Inf" | "+.INF" => {
            return Value::Number(f64::INFINITY);
        }
        "-.inf" | "-.Inf" | "-.INF" => return Value::Number(f64::NEG_INFINITY),
        _ => {}
    }
    let digits = text.strip_prefix(['-', '+']).unwrap_or(&text);
    let based = |prefix: &str, radix: u32| {
        let digits = text.strip_prefix(prefix)?;
        let are_digits = !digits.is_empty() && digits.chars().all(|c| c.is_digit(radix));
        i64::from_str_radix(digits, radix).ok().filter(|_| are_digits)
    };
    if let Some(integer) = based("0x", 16).or_else(|| based("0o", 8)) {
        return Value::Integer(integer);
    }
    if !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return match text.parse() {
            Ok(integer) => Value::Integer(integer),
            // Beyond 64 bits: no field takes it, but what it is must be said right.
            Err(_) => Value::Number(text.parse().unwrap_or(f64::INFINITY)),
        };
    }
    // `[-+]? ( \. [0-9]+ | [0-9]+ ( \. [0-9]* )? ) ( [eE] [-+]? [0-9]+ )?`; Rust's parser takes the
    // same but for words such as `inf`, which hold other letters.
    let is_number = digits.starts_with(|c: char| c.is_ascii_digit() || c == '.')
        && digits
            .bytes()
            .all(|byte| matches!(byte, b'0'..=b'9' | b'.' | b'e' | b'E' | b'+' | b'-'));
    match text.parse() {
        Ok(number) if is_number => Value::Number(number),
        _ => Value::Text(text),
    }
}
