//! Fuzz target of the config language: whatever the bytes, it answers, and says where.
//!
//! Random bytes hardly ever look like an object, so each input is also read as a few changes to a
//! valid document of the corpus. Checked: nothing panics; what is refused can be shown; what is taken
//! and written again as JSON says the same. Plain `cargo test` runs the committed corpus and about a
//! second of random inputs; `BOLERO_RANDOM_SEED` replays one.

use std::path::PathBuf;
use std::sync::Arc;

use bolero::check;
use lateen_control::language::diagnostic::Colours;
use lateen_control::language::document::{Node, Value};
use lateen_control::language::parse::parse;
use lateen_control::language::place::SourceFile;

#[test]
fn language() {
    let seeds = valid_corpus();
    check!(name = "language").with_max_len(512).for_each(|input: &[u8]| {
        check_bytes(input.to_vec());
        check_bytes(mutate(input, &seeds));
    });
}

fn check_bytes(bytes: Vec<u8>) {
    let file = match SourceFile::from_bytes("fuzz.yaml", bytes) {
        Ok(file) => Arc::new(file),
        Err(diagnostic) => {
            assert!(!diagnostic.render(Colours::Never).is_empty());
            return;
        }
    };
    let parsed = parse(&[file]);
    for diagnostic in &parsed.diagnostics {
        let rendered = diagnostic.render(Colours::Never);
        assert!(rendered.starts_with("error: "), "{rendered}");
    }
    for declared in &parsed.declared {
        let Some(json) = json_of(&declared.document.root) else { continue };
        let again = parse(&[Arc::new(SourceFile::new("again.json", json.to_string()))]);
        assert_eq!(again.diagnostics, [], "{json}");
        assert_eq!(again.declared.len(), 1, "{json}");
        assert_eq!(again.declared[0].key, declared.key);
        assert_eq!(again.declared[0].object, declared.object);
    }
}

/// `None` for what JSON can't say.
fn json_of(node: &Node) -> Option<serde_json::Value> {
    Some(match &node.value {
        Value::Null => serde_json::Value::Null,
        Value::Bool(truth) => (*truth).into(),
        Value::Integer(number) => (*number).into(),
        Value::Number(number) => serde_json::Number::from_f64(*number)?.into(),
        Value::Text(text) => text.as_str().into(),
        Value::List(nodes) => nodes.iter().map(json_of).collect::<Option<Vec<_>>>()?.into(),
        Value::Fields(fields) => {
            let fields =
                fields.iter().map(|field| Some((field.name.clone(), json_of(&field.node)?)));
            serde_json::Value::Object(fields.collect::<Option<_>>()?)
        }
    })
}

fn valid_corpus() -> Vec<Vec<u8>> {
    let folder: PathBuf =
        [env!("CARGO_MANIFEST_DIR"), "tests/__fuzz__/language/corpus"].iter().collect();
    let mut paths: Vec<PathBuf> = std::fs::read_dir(folder)
        .expect("a committed corpus")
        .map(|file| file.expect("a readable folder").path())
        .filter(|path| {
            path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"valid"))
        })
        .collect();
    paths.sort();
    paths.iter().map(|path| std::fs::read(path).expect("a readable file")).collect()
}

const WORDS: [&str; 24] = [
    "---\n", "\n", "  ", "- ", ": ", "&a ", "*a", "!!str ", "! ", "null", "true", "80", "-1",
    "1e9", "\"\"", "{", "}", "[", "]", "#", "|\n", "name", "spec", "\u{e4}",
];

/// Changes a seed in a few places: each change is a kind, a place and a value.
fn mutate(script: &[u8], seeds: &[Vec<u8>]) -> Vec<u8> {
    let Some((&first, changes)) = script.split_first() else { return Vec::new() };
    let mut text = seeds[usize::from(first) % seeds.len()].clone();
    for change in changes.chunks_exact(3).take(1 + usize::from(first) % 5) {
        let at = usize::from(change[1]) * (text.len() + 1) / 256;
        let value = usize::from(change[2]);
        match change[0] % 4 {
            0 => drop(text.splice(at..at, WORDS[value % WORDS.len()].bytes())),
            1 => drop(text.splice(at..(at + 1).min(text.len()), [change[2]])),
            2 => drop(text.drain(at..(at + value % 16).min(text.len()))),
            _ => {
                // A line of the seed once more: duplicates, and fields where they don't belong.
                let lines: Vec<&[u8]> = text.split_inclusive(|&byte| byte == b'\n').collect();
                let line =
                    lines.get(value % lines.len().max(1)).copied().unwrap_or_default().to_vec();
                let at = text[..at].iter().rposition(|&byte| byte == b'\n').map_or(0, |at| at + 1);
                drop(text.splice(at..at, line));
            }
        }
    }
    text
}
