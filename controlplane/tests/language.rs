//! What the config language takes and what it refuses, with the messages as they are printed.
//!
//! `language/valid` holds documents of every kind, `language/refused` mistakes of every sort. The
//! messages are in `snapshots`; after a change to them look at what `INSTA_UPDATE=always cargo test -p
//! lateen-control --test language` makes of them.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use lateen_control::language::diagnostic::{Colours, Report, Severity};
use lateen_control::language::object::{Object, ObjectKind};
use lateen_control::language::parse::{Parsed, parse};
use lateen_control::language::place::SourceFile;

fn files(folder: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/language").join(folder);
    let mut paths: Vec<PathBuf> = std::fs::read_dir(folder)
        .expect("the folder is committed")
        .map(|entry| entry.expect("a readable folder").path())
        .collect();
    paths.sort();
    assert!(!paths.is_empty());
    paths
}

fn source(path: &Path) -> Arc<SourceFile> {
    let name = path.file_name().expect("a file").to_string_lossy().into_owned();
    let bytes = std::fs::read(path).expect("a readable file");
    Arc::new(SourceFile::from_bytes(name, bytes).expect("UTF-8"))
}

fn parse_text(text: &str) -> Parsed {
    parse(&[Arc::new(SourceFile::new("test.yaml", text))])
}

fn render(parsed: &Parsed) -> String {
    let rendered: Vec<String> =
        parsed.diagnostics.iter().map(|found| found.render(Colours::Never)).collect();
    rendered.join("\n\n") + "\n"
}

#[test]
fn valid_documents_of_every_kind_are_taken() {
    let mut kinds: Vec<ObjectKind> = Vec::new();
    for path in files("valid") {
        let parsed = parse(&[source(&path)]);
        assert!(parsed.diagnostics.is_empty(), "{}\n{}", path.display(), render(&parsed));
        assert!(!parsed.declared.is_empty(), "{}", path.display());
        kinds.extend(parsed.declared.iter().map(|declared| declared.key.kind));
    }
    for kind in ObjectKind::ALL {
        assert!(kinds.contains(&kind), "no valid example of a {kind}");
    }
}

#[test]
fn mistakes_are_named_placed_and_helped() {
    for path in files("refused") {
        let parsed = parse(&[source(&path)]);
        assert!(parsed.has_errors(), "{}", path.display());
        let name = path.file_stem().expect("a file").to_string_lossy().into_owned();
        insta::assert_snapshot!(format!("refused-{name}"), render(&parsed));
    }
}

#[test]
fn one_key_twice_is_shown_at_both_places() {
    let namespace =
        |name: &str| format!("apiVersion: v1\nkind: Namespace\nmetadata: {{name: {name}}}\n");
    let first = Arc::new(SourceFile::new("a.yaml", namespace("shop")));
    let second =
        Arc::new(SourceFile::new("b.yaml", namespace("data") + "---\n" + &namespace("shop")));
    let parsed = parse(&[first, second]);
    assert_eq!(parsed.declared.len(), 2);
    insta::assert_snapshot!(render(&parsed), @r"
    error: Namespace/shop is declared twice
     --> b.yaml:7:18
      |
    7 | metadata: {name: shop}
      |                  ^^^^ again here
      |
     ::: a.yaml:3:18
      |
    3 | metadata: {name: shop}
      |                  ---- first here
    ");
}

#[test]
fn names_of_a_large_mapping_are_unique_too() {
    let labels: String = (0..40).map(|index| format!("    l{}: a\n", index % 39)).collect();
    let text =
        format!("apiVersion: v1\nkind: Namespace\nmetadata:\n  name: a\n  labels:\n{labels}");
    let parsed = parse_text(&text);
    assert_eq!(parsed.diagnostics.len(), 1);
    assert_eq!(parsed.diagnostics[0].message, "`l0` is there twice");
}

#[test]
fn the_namespace_is_default_where_none_is_named() {
    let parsed = parse_text(
        "{apiVersion: gateway.networking.k8s.io/v1, kind: HTTPRoute, metadata: {name: a}, spec: {}}",
    );
    assert_eq!(parsed.declared[0].key.to_string(), "HTTPRoute/default/a");
}

#[test]
fn a_place_is_that_of_the_field_or_of_what_is_around_it() {
    let parsed = parse_text(
        "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {name: a}\nspec:\n  rules:\n  - backendRefs:\n    - {name: b, port: 80}\n    - name: c\n      port: 81\n",
    );
    let declared = &parsed.declared[0];
    for (path, place) in [
        ("spec.rules[0].backendRefs[0].port", "test.yaml:7:23"),
        ("spec.rules[0].backendRefs[1].name", "test.yaml:8:13"),
        ("spec.rules[0].backendRefs[1].weight", "test.yaml:8:7"),
        ("spec.rules[0].backendRefs[0].weight", "test.yaml:7:7"),
        ("spec.rules[0].backendRefs", "test.yaml:6:5"),
        ("spec.rules[7].name", "test.yaml:5:3"),
        ("spec.hostnames", "test.yaml:4:1"),
        ("nothing.at.all", "test.yaml:1:1"),
    ] {
        assert_eq!(declared.place_of(path).to_string(), place, "{path}");
    }
}

#[test]
fn texts_numbers_and_truths_are_told_apart_as_yaml_1_2_does() {
    let annotated = |value: &str| {
        parse_text(&format!(
            "apiVersion: v1\nkind: Namespace\nmetadata: {{name: a, annotations: {{a: {value}}}}}\n"
        ))
    };
    for text in ["yes", "no", "on", "off", "1_000", "0b1", "1.2.3", "\"1\"", "'true'", "!!str 1"] {
        assert!(!annotated(text).has_errors(), "{text} is a text");
    }
    for other in
        ["true", "False", "1", "-1", "+1", "0x1f", "0o17", "1.5", ".5", "1e3", ".inf", ".NaN"]
    {
        assert!(annotated(other).has_errors(), "{other} is no text");
    }
}

#[test]
fn bombs_are_refused() {
    let mut laughs = "a: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for level in 1..10 {
        let previous = vec![format!("*a{}", level - 1); 10].join(", ");
        laughs += &format!("b{level}: &a{level} [{previous}]\n");
    }
    let deep = "[".repeat(100) + &"]".repeat(100);
    for (text, word) in [(laughs, "values in one file"), (deep, "within each other")] {
        let parsed = parse_text(&text);
        let message = &parsed.diagnostics[0].message;
        assert!(message.contains(word), "{message}");
    }
}

#[test]
fn errors_beyond_the_bound_are_counted() {
    let text = "- 1\n---\n".repeat(600);
    let parsed = parse_text(&text);
    assert_eq!(parsed.diagnostics.len(), 501);
    let last = &parsed.diagnostics[500];
    assert_eq!((last.severity, &*last.message), (Severity::Error, "100 more are not shown"));
}

#[test]
fn bytes_that_are_no_text_are_refused_with_their_place() {
    let error =
        SourceFile::from_bytes("a.yaml", b"a: b\nc: \xff\n".to_vec()).expect_err("not UTF-8");
    assert_eq!(error.place.expect("a place").to_string(), "a.yaml:2:4");
}

#[test]
fn a_report_is_json_that_a_program_can_point_with() {
    let parsed = parse_text("apiVersion: v1\nkind: Namespace\nmetadata: {name: Ä}\n");
    let report = parsed.diagnostics[0].report();
    let place = report.place.as_ref().expect("a place");
    assert_eq!((place.line, place.column, &*place.text), (3, 18, "metadata: {name: Ä}"));
    let json = serde_json::to_string(&report).expect("it is JSON");
    let read: Report = serde_json::from_str(&json).expect("it is a report");
    assert_eq!(read, report);
}

#[test]
fn colours_are_there_when_asked_for() {
    let parsed = parse_text("apiVersion: v1\nkind: Nmespace\n");
    assert!(parsed.diagnostics[0].render(Colours::Ansi).contains("\x1b["));
    assert!(!parsed.diagnostics[0].render(Colours::Never).contains('\x1b'));
}

#[test]
fn typed_objects_hold_what_was_written() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/language/valid/http-route.yaml");
    let parsed = parse(&[source(&path)]);
    let Object::HttpRoute(route) = &parsed.declared[0].object else { panic!("an HTTPRoute") };
    let rules = route.rules.as_deref().expect("rules");
    assert_eq!(rules[0].backend_refs.as_ref().expect("backends")[1].weight, Some(10));
    assert_eq!(parsed.declared[0].metadata.labels["team"], "checkout");
    assert_eq!(parsed.declared[0].metadata.created.as_deref(), Some("2026-01-31T12:00:00Z"));
}
