//! The table of `deploy/examples`: each behaviour has an example, a test and a metric, and each setting of
//! a policy is in it.

use std::collections::BTreeSet;

/// What the table is held against.
#[derive(Debug)]
pub struct Facts<'a> {
    /// Names of the files beside the table.
    pub files: &'a [String],
    /// The sources of the tests that apply them.
    pub tests: &'a str,
    /// The source that names all metrics.
    pub metrics: &'a str,
    /// The fields of a policy's `spec`, but for what it is attached to.
    pub settings: &'a [String],
}

/// Complaints about the table in `readme`.
pub fn check(readme: &str, facts: &Facts<'_>) -> Vec<String> {
    let mut complaints = Vec::new();
    let mut examples = BTreeSet::new();
    let mut declared = String::new();
    for row in rows(readme) {
        let [behaviour, place, example, test, metric] = row.as_slice() else {
            complaints.push(format!("a row of {} columns: {row:?}", row.len()));
            continue;
        };
        declared.push_str(place);
        let named = linked_files(example);
        if named.is_empty() {
            complaints.push(format!("{behaviour}: no example"));
        }
        for file in named {
            if !facts.files.iter().any(|known| *known == file) {
                complaints.push(format!("{behaviour}: there is no {file}"));
            }
            examples.insert(file);
        }
        let tests: Vec<&str> = quoted(test).collect();
        if tests.is_empty() {
            complaints.push(format!("{behaviour}: no test"));
        }
        for name in tests {
            if !facts.tests.contains(&format!("fn {name}(")) {
                complaints.push(format!("{behaviour}: there is no test {name}"));
            }
        }
        let metrics: Vec<&str> = quoted(metric).collect();
        if metrics.is_empty() {
            complaints.push(format!("{behaviour}: no metric"));
        }
        for name in metrics {
            let family = name.split('{').next().unwrap_or(name);
            let family = family.strip_suffix("_total").unwrap_or(family);
            if !facts.metrics.contains(&format!("\"{family}\"")) {
                complaints.push(format!("{behaviour}: there is no metric {name}"));
            }
        }
    }
    for file in facts.files.iter().filter(|file| file.ends_with(".yaml")) {
        if !examples.contains(file.as_str()) {
            complaints.push(format!("{file} is in no row"));
        }
    }
    for setting in facts.settings {
        if !words(&declared).any(|word| word == setting) {
            complaints.push(format!("the setting {setting} is in no row"));
        }
    }
    complaints
}

/// The cells of each row below a line of dashes.
fn rows(readme: &str) -> impl Iterator<Item = Vec<&str>> {
    let is_row = |line: &&str| line.starts_with('|');
    let body = readme.lines().skip_while(|line| !line.starts_with("|---")).skip(1);
    body.take_while(is_row).map(|line| line.trim_matches('|').split(" | ").map(str::trim).collect())
}

/// The texts between backquotes.
fn quoted(cell: &str) -> impl Iterator<Item = &str> {
    cell.split('`').skip(1).step_by(2)
}

/// The targets of links.
fn linked_files(cell: &str) -> Vec<&str> {
    let targets = cell.split("](").skip(1);
    targets.filter_map(|rest| rest.split(')').next()).collect()
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|letter: char| !letter.is_ascii_alphanumeric())
}
