//! Walks the files of the repository and checks what CONTRIBUTING.md asks for. Each check comes
//! with made-up input on which it must complain: a check that cannot fail is worth nothing.

use lateen_tests::tidy::{examples, manifest, markdown, rust, text};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ is in the repository").into()
}

/// Files that are tracked, or would be if they were added; never those of a build.
fn paths() -> Vec<String> {
    let output = Command::new("git")
        .args(["ls-files", "--cached", "--others", "--exclude-standard"])
        .current_dir(repository())
        .output()
        .expect("git is needed to tell the files of the project from those of a build");
    assert!(output.status.success(), "git ls-files: {}", String::from_utf8_lossy(&output.stderr));
    let listed = String::from_utf8(output.stdout).expect("paths are UTF-8");
    let paths: Vec<String> = listed
        .lines()
        .filter(|path| repository().join(path).is_file())
        .map(str::to_owned)
        .collect();
    assert!(paths.len() > 10, "git lists hardly any file: {paths:?}");
    paths
}

fn read(path: &str) -> String {
    std::fs::read_to_string(repository().join(path))
        .unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Applies a check to every file that `chosen` picks, of which there must be one.
fn check_each(chosen: impl Fn(&str) -> bool, check: impl Fn(&str, &str) -> Vec<String>) {
    let chosen: Vec<String> = paths().into_iter().filter(|path| chosen(path)).collect();
    assert!(!chosen.is_empty(), "no file to check");
    let complaints: Vec<String> = chosen.iter().flat_map(|path| check(path, &read(path))).collect();
    assert!(complaints.is_empty(), "\n{}\n", complaints.join("\n"));
}

fn is_named(path: &str, name: &str) -> bool {
    path.rsplit('/').next() == Some(name)
}

#[test]
fn rust_files_keep_the_habits() {
    check_each(|path| path.ends_with(".rs"), rust::check);
}

#[test]
fn long_files_that_got_short_lose_their_exception() {
    for (path, reason) in rust::LONG_FILES {
        assert!(!reason.is_empty(), "{path} is listed without a reason");
        let lines = read(path).lines().count();
        assert!(lines > rust::LINES_MAX, "{path} has {lines} lines: take it off the list");
    }
}

#[test]
fn text_files_are_clean() {
    check_each(text::is_checked, text::check);
}

#[test]
fn folders_are_those_of_the_design() {
    assert_eq!(text::check_folders(&paths()), Vec::<String>::new());
}

#[test]
fn versions_and_lints_are_in_the_workspace() {
    check_each(|path| is_named(path, "Cargo.toml"), manifest::check);
    check_each(|path| is_named(path, "Cargo.lock"), manifest::check_lock);
}

#[test]
fn each_behaviour_has_an_example_a_test_and_a_metric() {
    let folder = "deploy/examples/";
    let paths = paths();
    let named = |start: &str| -> Vec<String> {
        let paths = paths.iter().filter_map(|path| path.strip_prefix(start));
        paths.map(str::to_owned).collect()
    };
    let all = |start: &str| -> String {
        paths.iter().filter(|path| path.starts_with(start)).map(|path| read(path)).collect()
    };
    let schema = read("controlplane/schemas/lateen.dev.TrafficPolicy.json");
    let schema: serde_json::Value = serde_json::from_str(&schema).expect("it is JSON");
    let settings = schema["properties"]["spec"]["properties"].as_object().expect("a mapping");
    let settings: Vec<String> =
        settings.keys().filter(|name| *name != "targetRefs").cloned().collect();
    let facts = examples::Facts {
        files: &named(folder),
        tests: &all("tests/tests/examples"),
        metrics: &all("dataplane/src/observe/metrics"),
        settings: &settings,
    };
    let complaints = examples::check(&read("deploy/examples/README.md"), &facts);
    assert!(complaints.is_empty(), "\n{}\n", complaints.join("\n"));
}

#[test]
fn links_in_documents_lead_somewhere() {
    let mut known: BTreeSet<String> = BTreeSet::new();
    for path in paths() {
        let mut folder = path.as_str();
        while let Some((parent, _)) = folder.rsplit_once('/') {
            known.insert(parent.to_owned());
            folder = parent;
        }
        known.insert(path);
    }
    check_each(
        |path| path.ends_with(".md"),
        |path, text| markdown::check_links(path, text, |target| known.contains(target)),
    );
}

mod can_fail {
    use super::*;

    /// The check is content with the first text and complains about the second.
    fn assert_tells_apart(check: impl Fn(&str) -> Vec<String>, good: &str, bad: &str) {
        assert_eq!(check(good), Vec::<String>::new(), "on {good:?}");
        assert_ne!(check(bad), Vec::<String>::new(), "nothing said about {bad:?}");
    }

    #[test]
    fn on_rust_that_breaks_the_habits() {
        let check =
            |text: &str| rust::check("dataplane/src/worker.rs", &format!("//! Doc.\n{text}"));
        let good = r##"
            /// todo!() dbg!(1) unsafe #[ignore] in a comment /* or */ another
            fn f<'a>(c: char, debug: &'a str) -> bool {
                /* unsafe /* nested */ todo!() */
                c == '"' && debug == "unsafe { dbg!() }" && debug == r#"a " todo!()"#
            }
            #[expect(unsafe_code, reason = "a word that only contains it")]
            mod utility {}
        "##;
        for bad in [
            "fn f() { todo!() }",
            "fn f() { unimplemented!(\"later\") }",
            "fn f(a: u8) -> u8 { dbg!(a) }",
            "#[test]\n#[ignore]\nfn f() {}",
            "#[test]\n#[ignore = \"slow\"]\nfn f() {}",
            "fn f() { let c = '\"'; unsafe { g() } }",
            "fn f() { let c = \"\\\"\"; unsafe { g() } }",
            "fn f() { let c = r#\"\"\"#; unsafe { g() } }",
            "fn f() { /* a */ unsafe { g() } }",
            "#![allow(dead_code)]",
            "#![ deny (warnings)]",
            "#[allow(dead_code)]\nfn f() {}",
            "mod util;",
            "pub(crate) mod manager {}",
            &"\n".repeat(rust::LINES_MAX),
        ] {
            assert_tells_apart(check, good, bad);
        }
    }

    #[test]
    fn on_unsafe_only_where_it_has_no_home() {
        let check = |path: &str| rust::check(path, "//! Doc.\nunsafe fn f() {}\n");
        assert_tells_apart(check, "dataplane/ring/src/op.rs", "dataplane/src/forward/pool.rs");
        assert_tells_apart(check, "perf/floor/src/main.rs", "tests/src/lib.rs");
    }

    #[test]
    fn on_a_file_name_that_says_nothing() {
        let check = |path: &str| rust::check(path, "//! Doc.\n");
        assert_tells_apart(check, "dataplane/src/limits.rs", "dataplane/src/util.rs");
        assert_tells_apart(check, "dataplane/src/codec/mod.rs", "dataplane/src/helpers/mod.rs");
    }

    #[test]
    fn on_a_file_without_a_module_doc() {
        let check = |text: &str| rust::check("dataplane/src/lib.rs", text);
        assert_tells_apart(check, "//! Role.\nfn f() {}\n", "/// Role.\nfn f() {}\n");
    }

    #[test]
    fn on_text_that_is_not_clean() {
        let check = |text: &str| text::check("README.md", text);
        let machine_path = format!("see {}/main\n", concat!("/wo", "rk"));
        for bad in ["trailing \n", "a\ttab\n", "no newline", &machine_path] {
            assert_tells_apart(check, "clean\n", bad);
        }
    }

    #[test]
    fn on_text_alone() {
        for path in ["tests/run", "Cargo.toml", "a/b.rs", ".gitignore"] {
            assert!(text::is_checked(path), "{path} is not checked");
        }
        for path in
            ["LICENSE", "dataplane/tests/__fuzz__/head/corpus/smuggle", "a.png", "Cargo.lock"]
        {
            assert!(!text::is_checked(path), "{path} is checked");
        }
    }

    #[test]
    fn on_a_folder_that_nobody_planned() {
        let check = |path: &str| text::check_folders(&[path.to_owned(), "README.md".to_owned()]);
        assert_tells_apart(check, "dataplane/src/lib.rs", "scripts/release.sh");
        assert_tells_apart(check, ".ci/run", "src/lib.rs");
    }

    #[test]
    fn on_manifests_with_versions_or_lints_of_their_own() {
        let check = |text: &str| manifest::check("bench/Cargo.toml", text);
        let lints = "[lints]\nworkspace = true\n";
        let good = format!(
            "[package]\nversion.workspace = true\n[dependencies]\n# h2 = \"1\"\nh2.workspace = true\n\
             [dependencies.http]\nworkspace = true\n{lints}"
        );
        for bad in [
            &format!("[dependencies]\nh2 = \"0.4\"\n{lints}"),
            &format!("[dev-dependencies]\nh2 = {{ version = \"0.4\" }}\n{lints}"),
            &format!("[target.'cfg(unix)'.dependencies]\nh2 = \"0.4\"\n{lints}"),
            &format!("[dependencies.h2]\nversion = \"0.4\"\n{lints}"),
            &format!("[package]\nversion = \"0.1.0\"\n{lints}"),
            &format!("[lints.clippy]\ntodo = \"allow\"\n{lints}"),
            "[package]\nname = \"without-lints\"\n",
        ] {
            assert_tells_apart(check, &good, bad);
        }
        assert_eq!(
            manifest::check("Cargo.toml", "[workspace.dependencies]\nh2 = \"0.4\"\n"),
            Vec::<String>::new()
        );
    }

    #[test]
    fn on_a_lock_file_that_names_another_registry() {
        assert_tells_apart(
            |text| manifest::check_lock("Cargo.lock", text),
            "source = \"registry+https://registry.example/index\"\n",
            "source = \"git+https://example.com/h2\"\n",
        );
    }

    #[test]
    fn on_a_behaviour_without_example_test_or_metric() {
        let files = ["a.yaml".to_owned(), "README.md".to_owned()];
        let settings = ["retry".to_owned()];
        let facts = examples::Facts {
            files: &files,
            tests: "fn tries_again(engine: Engine) {}",
            metrics: "self.counter(\"retry\", help, sum)",
            settings: &settings,
        };
        let check = |row: &str| {
            examples::check(
                &format!("| a | b | c | d | e |\n|---|---|---|---|---|\n{row}\n"),
                &facts,
            )
        };
        let good = "| x | `retry.on` | [a](a.yaml) | `tries_again` | `retry_total{why}` |";
        assert_tells_apart(check, good, "");
        for (right, wrong) in [
            ("retry.on", "retries"),
            ("a.yaml", "b.yaml"),
            ("[a](a.yaml)", "a"),
            ("tries_again", "tries_never"),
            ("`tries_again`", "none"),
            ("retry_total", "retried_total"),
            ("`retry_total{why}`", "none"),
            (" | `retry_total{why}`", ""),
        ] {
            assert_tells_apart(check, good, &good.replace(right, wrong));
        }
    }

    #[test]
    fn on_links_that_lead_nowhere() {
        let exists = |target: &str| ["README.md", "perf/README.md", "perf"].contains(&target);
        let check = |text: &str| markdown::check_links("perf/README.md", text, exists);
        let good = "[a](README.md) [b](../README.md#top) [c](https://lateen.dev) [d](#here) [e](..//perf)\n\
                    `[f](nothing.md)`\n```\n[g](nothing.md)\n```\n";
        for bad in
            ["[a](nothing.md)", "[a](../../README.md)", "x `code` [a](CHANGES)", "[`a`](b.rs)"]
        {
            assert_tells_apart(check, good, bad);
        }
    }

    #[test]
    fn on_a_flag_table_that_differs_from_the_help() {
        let help = "Usage: x [OPTIONS]\n\n  -l, --listen <ADDR>  Where; see --admin\n      --admin <ADDR>\n\
                    \x20         More on --nothing\n  -h, --help\n";
        let check = |readme: &str| markdown::check_flags(readme, help);
        let good = "Use `--other`.\n| flag | d |\n|---|---|\n| `--listen a\\|b` | 1 |\n| `--admin` | `--x` |\n";
        for bad in [
            "| `--listen` | 1 |\n",
            "| `--listen` | 1 |\n| `--admin` | 2 |\n| `--more` | 2 |\n",
            "nothing\n",
        ] {
            assert_tells_apart(check, good, bad);
        }
        assert_ne!(markdown::check_flags(good, ""), Vec::<String>::new());
    }
}
