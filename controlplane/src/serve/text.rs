//! The text of one object, out of the file that declares it: what the store keeps.
//!
//! Before: the language read a file. After: a revision holds the text under the object's key. A
//! document of its own is kept as it was written, comments included; an item of a `List` becomes JSON,
//! because its lines mean something else where the list's indentation is gone.

use std::sync::Arc;

use serde_json::{Map, Number, Value as Json};

use crate::language::document::{Document, Node, Value};
use crate::language::object::{Declared, ObjectKey};
use crate::store::revision::Key;

/// What the store calls an object.
pub fn key_of(key: &ObjectKey) -> Key {
    Key::new(key.kind.to_string(), &*key.namespace, &*key.name)
}

/// The object's text, on its own a file that declares it. Ends in one newline.
pub fn text_of(declared: &Declared) -> Arc<str> {
    let document = &declared.document;
    if let Some(written) = lines_of(document) {
        return format!("{}\n", written.trim_matches('\n').trim_end()).into();
    }
    let json = serde_json::to_string_pretty(&json_of(&document.root));
    format!("{}\n", json.expect("a tree of values is JSON")).into()
}

/// The lines between the markers (`---`, `...`) around a document, if they are the document and nothing
/// else. At the start of a line they are markers wherever they stand (YAML 1.2.2, rule `c-forbidden`).
///
/// Cost: the document's bytes, whatever else is in its file.
fn lines_of(document: &Document) -> Option<&str> {
    if document.is_item {
        return None;
    }
    let text = document.file.text.as_str();
    let within = document.root.span.start as usize;
    let mut start = 0;
    let mut end = text.len();
    // The line that holds the first value may begin with the marker itself: `--- {kind: …}`.
    let mut line_start = text[..within].rfind('\n').map_or(0, |newline| newline + 1);
    loop {
        if is_marker(&text[line_start..]) {
            start = line_start + "---".len();
            // Behind the marker stands a comment or a value on one line, whose indentation is nothing.
            let spaces = text[start..].len() - text[start..].trim_start_matches([' ', '\t']).len();
            start += spaces;
            break;
        }
        if line_start == 0 {
            break;
        }
        line_start = text[..line_start - 1].rfind('\n').map_or(0, |newline| newline + 1);
    }
    for (newline, _) in text[within..].match_indices('\n') {
        let line_start = within + newline + 1;
        if is_marker(&text[line_start..]) {
            end = line_start;
            break;
        }
    }
    // Before the first value stand blank lines and comments, and nothing else.
    (first_value(&text[start..])? == within - start).then_some(&text[start..end])
}

fn is_marker(line: &str) -> bool {
    let rest = line.strip_prefix("---").or_else(|| line.strip_prefix("..."));
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with([' ', '\t', '\r', '\n']))
}

/// Where the first value of a document begins: behind blank lines and comments.
fn first_value(text: &str) -> Option<usize> {
    let mut rest = text;
    loop {
        rest = rest.trim_start_matches(['\u{feff}', ' ', '\t', '\r', '\n']);
        match rest.strip_prefix('#') {
            Some(comment) => rest = &comment[comment.find('\n')?..],
            None => return Some(text.len() - rest.len()),
        }
    }
}

fn json_of(node: &Node) -> Json {
    match &node.value {
        Value::Null => Json::Null,
        Value::Bool(bool) => Json::Bool(*bool),
        Value::Integer(integer) => Json::from(*integer),
        Value::Number(number) => Number::from_f64(*number).map_or(Json::Null, Json::Number),
        Value::Text(text) => Json::String(text.clone()),
        Value::List(nodes) => nodes.iter().map(json_of).collect(),
        Value::Fields(fields) => {
            let fields = fields.iter().map(|field| (field.name.clone(), json_of(&field.node)));
            Json::Object(fields.collect::<Map<_, _>>())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::language::parse::parse;
    use crate::language::place::SourceFile;

    fn texts(file: &str) -> Vec<String> {
        let parsed = parse(&[Arc::new(SourceFile::new("f.yaml", file))]);
        assert_eq!(parsed.diagnostics, []);
        let texts: Vec<String> = parsed.declared.iter().map(|d| text_of(d).to_string()).collect();
        // On its own each declares the same.
        for (text, declared) in texts.iter().zip(&parsed.declared) {
            let alone = parse(&[Arc::new(SourceFile::new("alone", text.as_str()))]);
            assert_eq!(alone.diagnostics, [], "{text}");
            assert_eq!(alone.declared.len(), 1, "{text}");
            assert_eq!(alone.declared[0].key, declared.key);
            assert_eq!(alone.declared[0].object, declared.object);
        }
        texts
    }

    const A: &str = "apiVersion: v1\nkind: Namespace\nmetadata: {name: a}\n";
    const B: &str = "# of b\napiVersion: v1\nkind: Namespace\nmetadata:\n  name: b # here\n";

    #[test]
    fn documents_are_kept_as_they_were_written() {
        assert_eq!(texts(A), [A]);
        assert_eq!(texts(&format!("---\n{A}---\n{B}...\n")), [A, B]);
        assert_eq!(texts(&format!("\n\n{A}\n\n--- # two\n{B}")), [A, &format!("# two\n{B}")]);
        let flow = "{apiVersion: v1, kind: Namespace, metadata: {name: a}}\n";
        assert_eq!(texts(&format!("--- {flow}---\n{A}").replace("a}\n", "z}\n")).len(), 2);
        assert_eq!(texts(&format!("--- {flow}")), [flow]);
        assert_eq!(texts(&A.replace('\n', "\r\n")).len(), 1);
    }

    #[test]
    fn items_of_a_list_become_json() {
        let list = "apiVersion: v1\nkind: List\nitems:\n- apiVersion: v1\n  kind: Namespace\n  \
                    metadata: &m\n    name: a\n- {apiVersion: v1, kind: Namespace, metadata: {name: b}}\n";
        let texts = texts(list);
        assert_eq!(texts.len(), 2);
        assert!(texts.iter().all(|text| text.starts_with("{\n")), "{texts:?}");
    }
}
