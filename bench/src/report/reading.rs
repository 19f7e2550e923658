//! Takes result files in: within bounds, with an error that names the file, and without the paths of
//! the machine that they were made on, which say nothing to a reader and may say too much.

use crate::results::Results;
use anyhow::{Context, ensure};
use serde_json::Value;
use std::fs::File;
use std::io::Read;
use std::path::Path;

/// Of one file. A full comparison has some MiB.
pub const FILE_BYTES_MAX: u64 = 256 << 20;
/// Scenarios and profiles of one file; a page with more could not be read.
pub const ROWS_MAX: usize = 1_000;
/// Peers of one file.
pub const PEERS_MAX: usize = 64;

/// Results, and the name of the file that they came from, without its folder.
#[derive(Debug, Clone, PartialEq)]
pub struct Source {
    /// `results.json`.
    pub file: String,
    /// What is in it.
    pub results: Results,
}

/// Reads and checks one file.
pub fn read(path: &Path) -> anyhow::Result<Source> {
    let shown = path.display();
    let file = File::open(path).with_context(|| format!("{shown}: cannot be opened"))?;
    let bounded = |bytes: u64| {
        ensure!(
            bytes <= FILE_BYTES_MAX,
            "{shown}: larger than {} MiB, which no comparison writes",
            FILE_BYTES_MAX >> 20
        );
        Ok(())
    };
    bounded(file.metadata().map_or(0, |metadata| metadata.len()))?;
    let mut text = String::new();
    // What is no ordinary file has no length before it is read.
    file.take(FILE_BYTES_MAX + 1)
        .read_to_string(&mut text)
        .with_context(|| format!("{shown}: cannot be read as text"))?;
    bounded(text.len() as u64)?;
    let results = parse(&text).with_context(|| format!("{shown}: no results to report"))?;
    let file = path.file_name().map_or_else(String::new, |name| name.to_string_lossy().into());
    Ok(Source { file, results })
}

/// Reads a file's text; an error says what is wrong with it.
pub fn parse(text: &str) -> anyhow::Result<Results> {
    ensure!(!text.trim().is_empty(), "the file is empty");
    let results = Results::parse(text)?;
    ensure!(
        !results.rows.is_empty(),
        "no scenario in it: the comparison ended before its first row"
    );
    ensure!(results.rows.len() <= ROWS_MAX, "{} rows, at most {ROWS_MAX}", results.rows.len());
    ensure!(results.peers.len() <= PEERS_MAX, "{} peers, at most {PEERS_MAX}", results.peers.len());
    for row in &results.rows {
        let name = &row.scenario;
        ensure!(
            row.units_per_answer.is_finite() && row.units_per_answer > 0.0,
            "row {name}: units_per_answer is {}, it must be more than 0",
            row.units_per_answer
        );
        ensure!(
            row.entries.len() <= PEERS_MAX,
            "row {name}: {} peers, at most {PEERS_MAX}",
            row.entries.len()
        );
    }
    let mut value = serde_json::to_value(&results)?;
    shorten_paths(&mut value, Text::Said);
    Ok(serde_json::from_value(value)?)
}

/// What stands in a text, which decides which paths are shortened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Text {
    /// Sentences and command lines.
    Said,
    /// A config, in which a path may be that of a request.
    Config,
}

fn shorten_paths(value: &mut Value, text: Text) {
    match value {
        Value::String(string) => *string = without_machine_paths(string, text),
        Value::Array(values) => values.iter_mut().for_each(|value| shorten_paths(value, text)),
        Value::Object(fields) => {
            let taken = std::mem::take(fields);
            for (name, mut field) in taken {
                let inside = if name == "configs" { Text::Config } else { text };
                shorten_paths(&mut field, inside);
                fields.insert(without_machine_paths(&name, text), field);
            }
        }
        _ => {}
    }
}

/// First folders that are the same on every machine; paths below others keep their last part only.
const EVERYWHERE: &[&str] =
    &["usr", "etc", "proc", "sys", "dev", "bin", "sbin", "lib", "var", "run"];

/// First folders that are somebody's own.
const SOMEBODYS: &[&str] = &["home", "root", "tmp", "work", "opt", "srv", "mnt"];

fn without_machine_paths(text: &str, of: Text) -> String {
    let ends = |letter: char| letter.is_whitespace() || "\"'`=:;,()<>|".contains(letter);
    let mut short = String::with_capacity(text.len());
    let mut rest = text;
    while !rest.is_empty() {
        let end = rest.find(ends).unwrap_or(rest.len());
        short.push_str(&shorten(&rest[..end], short.ends_with(':'), of));
        let after = rest[end..].chars().next().map_or(0, char::len_utf8);
        short.push_str(&rest[end..end + after]);
        rest = &rest[end + after..];
    }
    short
}

fn shorten(word: &str, after_colon: bool, of: Text) -> String {
    let mut parts = word.split('/').filter(|part| !part.is_empty());
    let first = parts.next().unwrap_or_default();
    let is_url = after_colon && word.starts_with("//");
    let own = match of {
        Text::Said => !EVERYWHERE.contains(&first),
        Text::Config => SOMEBODYS.contains(&first),
    };
    match parts.next_back() {
        Some(last) if word.starts_with('/') && !is_url && own => {
            format!("…/{last}")
        }
        _ => word.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_of_one_machine_keeps_its_last_part() {
        for (text, short) in [
            ("--peer-bin envoy=/opt/x/bin/envoy", "--peer-bin envoy=…/envoy"),
            ("http://127.0.0.1:80/a/b", "http://127.0.0.1:80/a/b"),
            ("access_log /tmp/run.1/log;", "access_log …/log;"),
            ("/usr/sbin/nginx is missing", "/usr/sbin/nginx is missing"),
            ("GET /100 and a/b", "GET /100 and a/b"),
        ] {
            assert_eq!(without_machine_paths(text, Text::Said), short);
        }
        let config = "path: /stats/prometheus\nlog: /tmp/run.1/log\n";
        let short = "path: /stats/prometheus\nlog: …/log\n";
        assert_eq!(without_machine_paths(config, Text::Config), short);
    }

    #[test]
    fn what_is_not_results_is_refused_with_its_reason() {
        for (text, reason) in [
            ("", "empty"),
            ("{", "not results"),
            ("{\"format\": 99}", "format 99"),
            ("[1, 2]", "not results"),
            ("{\"format\": 1}", "missing field"),
        ] {
            let error = format!("{:#}", parse(text).expect_err(text));
            assert!(error.contains(reason), "{text:?} gave {error:?}");
        }
    }
}
