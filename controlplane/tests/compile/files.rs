//! Whole files: what becomes of them, and what is said about mistakes in them.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use lateen_control::compile::resolve;
use lateen_control::resolver::Addresses;
use lateen_control::resolver::answers::Known;

use crate::harness::{declared, describe, mesh, render, snapshot};

fn texts(folder: &str) -> Vec<(String, String)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/compile").join(folder);
    let mut paths: Vec<PathBuf> = std::fs::read_dir(folder)
        .expect("the folder is committed")
        .map(|entry| entry.expect("a readable folder").path())
        .collect();
    paths.sort();
    assert!(!paths.is_empty());
    let text = |path: &PathBuf| {
        let name = path.file_stem().expect("a file").to_string_lossy().into_owned();
        (name, std::fs::read_to_string(path).expect("a readable file"))
    };
    paths.iter().map(text).collect()
}

fn answers() -> Addresses {
    let known = |addresses: &[[u8; 4]]| Known {
        addresses: Some(addresses.iter().map(|&address| address.into()).collect()),
        problem: None,
    };
    let answers = [("db.internal", known(&[[10, 9, 0, 1], [10, 9, 0, 2]]))];
    answers.into_iter().map(|(name, known)| (Arc::from(name), known)).collect()
}

#[test]
fn meshes_become_snapshots_of_what_each_proxy_reaches() {
    for (name, text) in texts("accepted") {
        let mesh = mesh(&text);
        let mut told = String::new();
        for proxy in mesh.proxies() {
            told += &format!("=== {proxy}\n{}\n", describe(&snapshot(&mesh, proxy, &answers())));
        }
        let names: Vec<String> = mesh.dns_names().iter().map(ToString::to_string).collect();
        if !names.is_empty() {
            told += &format!("=== DNS: {}\n", names.join(", "));
        }
        if !mesh.warnings().is_empty() {
            told += &format!("=== warnings\n{}", render(mesh.warnings()));
        }
        insta::assert_snapshot!(format!("accepted-{name}"), told);
    }
}

#[test]
fn mistakes_are_named_placed_and_helped() {
    for (name, text) in texts("refused") {
        match resolve(&declared(&text)) {
            Ok(_) => panic!("{name} was accepted"),
            Err(found) => insta::assert_snapshot!(format!("refused-{name}"), render(&found)),
        }
    }
}

#[test]
fn the_order_of_the_objects_changes_nothing() {
    for (name, text) in texts("accepted") {
        let mut objects = declared(&text);
        let expected = resolve(&objects).expect("it is accepted");
        for turn in 0..objects.len() {
            objects.rotate_left(1);
            if turn % 2 == 0 {
                objects.reverse();
            }
            let mesh = resolve(&objects).expect("it is accepted in any order");
            for proxy in expected.proxies() {
                let one = expected.snapshot(proxy, &answers());
                assert_eq!(mesh.snapshot(proxy, &answers()), one, "{name}: {proxy}");
            }
        }
    }
}

#[test]
fn a_proxy_that_is_not_declared_has_no_snapshot() {
    let (_, text) = texts("accepted").swap_remove(0);
    assert_eq!(mesh(&text).snapshot("nobody", &answers()), None);
}
