//! The program itself: what it writes, and what it says of files that are no results.

use crate::synthetic;
use std::path::Path;
use std::process::{Command, Output};

fn report(folder: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_lateen-bench"))
        .arg("report")
        .args(arguments)
        .current_dir(folder)
        .output()
        .expect("the program runs")
}

fn write(folder: &Path, name: &str, text: &str) {
    std::fs::write(folder.join(name), text).expect("a file in a temporary folder");
}

#[test]
fn writes_both_and_tells_the_findings() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let results = serde_json::to_string(&synthetic::results(true)).expect("JSON");
    write(folder.path(), "results.json", &results);
    write(folder.path(), "old.json", &results);
    let done = report(
        folder.path(),
        &["results.json", "--baseline", "old.json", "--out", "r.html", "--markdown", "r.md"],
    );
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let said = String::from_utf8(done.stdout).expect("text");
    assert!(said.starts_with("lateen 0.1.0 was measured beside"), "{said}");
    assert!(said.contains("Beyond the noise, 0 figures got worse and 0 better"), "{said}");
    let read = |name: &str| std::fs::read_to_string(folder.path().join(name)).expect(name);
    assert!(read("r.html").contains("<svg"));
    // Paths of the machine stay there.
    let markdown = read("r.md");
    assert!(markdown.contains("envoy=…/envoy") && !markdown.contains("/opt"), "{markdown}");
    assert!(!read("r.html").contains("/tmp/compare"));
}

#[test]
fn says_what_is_wrong_with_a_file() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let good = serde_json::to_string(&synthetic::results(true)).expect("JSON");
    let units = "\"units_per_answer\":1.0";
    for (name, text, reason) in [
        ("empty.json", String::new(), "empty.json: no results to report: the file is empty"),
        ("cut.json", good[..good.len() / 2].to_owned(), "cut.json: no results to report"),
        ("later.json", good.replacen("\"format\":1", "\"format\":99", 1), "format 99"),
        ("nan.json", good.replacen("\"took_s\":4210.0", "\"took_s\":NaN", 1), "not results"),
        (
            "null.json",
            good.replacen("\"took_s\":4210.0", "\"took_s\":null", 1),
            "invalid type: null",
        ),
        ("huge.json", good.replacen("\"took_s\":4210.0", "\"took_s\":1e999", 1), "out of range"),
        ("zero.json", good.replacen(units, "\"units_per_answer\":0.0", 1), "must be more than 0"),
        (
            "none.json",
            {
                let mut none = synthetic::results(true);
                none.rows.clear();
                serde_json::to_string(&none).expect("JSON")
            },
            "no scenario in it",
        ),
    ] {
        write(folder.path(), name, &text);
        let done = report(folder.path(), &[name, "--out", "r.html"]);
        let said = String::from_utf8_lossy(&done.stderr).into_owned();
        assert_eq!(done.status.code(), Some(1), "{name}: {said}");
        assert!(said.contains(reason), "{name}: {said}");
        assert!(!folder.path().join("r.html").exists(), "{name} made a page");
    }
    write(folder.path(), "good.json", &good);
    let done = report(folder.path(), &["good.json", "--out", "./good.json"]);
    assert!(String::from_utf8_lossy(&done.stderr).contains("would be overwritten"));
    let done = report(folder.path(), &["missing.json", "--out", "r.html"]);
    assert!(String::from_utf8_lossy(&done.stderr).contains("missing.json: cannot be opened"));
}

#[test]
fn a_file_that_no_comparison_writes_is_not_read() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = std::fs::File::create(folder.path().join("vast.json")).expect("a file");
    file.set_len(lateen_bench::report::reading::FILE_BYTES_MAX + 1).expect("a file with a hole");
    let done = report(folder.path(), &["vast.json", "--out", "r.html"]);
    assert!(String::from_utf8_lossy(&done.stderr).contains("vast.json: larger than 256 MiB"));
}
