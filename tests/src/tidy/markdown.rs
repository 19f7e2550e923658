//! Checks on Markdown: links lead somewhere, and the flag table is that of the binary.

use std::collections::BTreeSet;

/// Complaints about links from one file to files that `exists` does not know. It is asked with
/// paths relative to the root of the repository. Links to other hosts are not followed.
pub fn check_links(path: &str, text: &str, exists: impl Fn(&str) -> bool) -> Vec<String> {
    let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
    link_targets(text)
        .into_iter()
        .filter(|target| !target.contains("://") && !target.starts_with("mailto:"))
        .filter_map(|target| {
            let file = target.split('#').next().unwrap_or_default();
            let broken =
                !file.is_empty() && !resolve(folder, file).is_some_and(|file| exists(&file));
            broken.then(|| format!("{path}: link to {target}, which is not there"))
        })
        .collect()
}

/// Complaints about flags that only one of the two knows: the table in the README, and `--help`.
pub fn check_flags(readme: &str, help: &str) -> Vec<String> {
    let table = flags_in_table(readme);
    let offered = flags_in_help(help);
    if offered.is_empty() {
        return vec!["the help text names no flag at all".to_owned()];
    }
    let missing = offered.difference(&table);
    let invented = table.difference(&offered);
    missing
        .map(|flag| format!("README.md: {flag} is not in the flag table"))
        .chain(invented.map(|flag| format!("README.md: {flag} is not a flag of the binary")))
        .collect()
}

/// The long flags in the first column of a Markdown table.
fn flags_in_table(readme: &str) -> BTreeSet<String> {
    // A `|` inside a cell is written `\|`: the cell is not over there.
    let unescaped = |line: &str| line.replace("\\|", " ");
    readme
        .lines()
        .filter(|line| line.starts_with('|'))
        .flat_map(|line| {
            let line = unescaped(line);
            let cell = line.split('|').nth(1).unwrap_or_default();
            long_flags(cell).collect::<Vec<_>>()
        })
        .collect()
}

/// The long flags that a help text lists: those at the start of a line, after a short form or not.
fn flags_in_help(help: &str) -> BTreeSet<String> {
    help.lines()
        .map(str::trim_start)
        .filter(|line| line.starts_with('-'))
        .filter_map(|line| long_flags(line).next())
        .filter(|flag| flag != "--help" && flag != "--version")
        .collect()
}

fn long_flags(text: &str) -> impl Iterator<Item = String> {
    text.split(|c: char| !c.is_ascii_alphanumeric() && c != '-')
        .filter(|word| {
            word.strip_prefix("--").is_some_and(|name| name.starts_with(|c: char| c != '-'))
        })
        .map(str::to_owned)
}

/// `text` of every `](text)` outside code.
fn link_targets(text: &str) -> Vec<&str> {
    let mut targets = Vec::new();
    let mut fenced = false;
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
        }
        if fenced {
            continue;
        }
        // What is between the odd and the even backtick is code.
        for prose in line.split('`').step_by(2) {
            let links = prose.split("](").skip(1);
            targets.extend(links.filter_map(|rest| rest.split(')').next()));
        }
        // A link whose text is code: the opening is split off from it.
        let code_links = line.split("`](").skip(1);
        targets.extend(code_links.filter_map(|rest| rest.split(')').next()));
    }
    targets.sort_unstable();
    targets.dedup();
    targets
}

/// The path that `file` means in `folder`; `None` where it leaves the repository.
fn resolve(folder: &str, file: &str) -> Option<String> {
    let mut parts: Vec<&str> = folder.split('/').filter(|part| !part.is_empty()).collect();
    for part in file.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop()?;
            }
            name => parts.push(name),
        }
    }
    Some(parts.join("/"))
}
