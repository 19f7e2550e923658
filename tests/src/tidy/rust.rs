//! Checks on Rust sources. They look at code only: comments and literals are blanked first, so a
//! test may quote what is forbidden.

/// Lines of a Rust file before it must be split by concept.
pub const LINES_MAX: usize = 600;

/// Files that may be longer, each with its reason.
pub const LONG_FILES: &[(&str, &str)] = &[];

/// Where `unsafe` may stand: the I/O engine, and the reference programs.
const UNSAFE_HOMES: &[&str] = &["dataplane/ring/", "perf/"];

/// Module names that say nothing about what is inside.
const EMPTY_NAMES: &[&str] = &["util", "utils", "helper", "helpers", "manager", "common", "misc"];

/// All complaints about one Rust file; `path` is relative to the root of the repository.
pub fn check(path: &str, text: &str) -> Vec<String> {
    let code = code_only(text);
    let mut complaints = Vec::new();
    let mut complain = |what: String| complaints.push(format!("{path}: {what}"));

    if !text.starts_with("//!") {
        complain("does not begin with a module doc (`//!`)".to_owned());
    }
    let lines = text.lines().count();
    if lines > LINES_MAX && !LONG_FILES.iter().any(|(long, _)| *long == path) {
        complain(format!("{lines} lines, past {LINES_MAX}: split it by concept"));
    }
    if has_empty_name(path) {
        complain("the file's name says nothing about what is inside".to_owned());
    }
    for (index, line) in code.lines().enumerate() {
        for what in forbidden_in_line(path, line) {
            complain(format!("line {}: {what}", index + 1));
        }
    }
    complaints
}

fn forbidden_in_line(path: &str, line: &str) -> Vec<String> {
    let mut found = Vec::new();
    for name in ["todo", "unimplemented", "dbg"] {
        if words(line).any(|(at, word)| word == name && line[at + word.len()..].starts_with('!')) {
            found.push(format!("`{name}!` is left in"));
        }
    }
    let packed: String = line.chars().filter(|c| !c.is_whitespace()).collect();
    if packed.contains("#[ignore]") || packed.contains("#[ignore=") {
        found.push("an ignored test does not count: mend or remove it".to_owned());
    }
    if words(line).any(|(_, word)| word == "unsafe")
        && !UNSAFE_HOMES.iter().any(|home| path.starts_with(home))
    {
        found.push(format!("`unsafe` outside {}", UNSAFE_HOMES.join(", ")));
    }
    for level in ["allow", "warn", "deny", "forbid"] {
        if packed.contains(&format!("#![{level}(")) {
            found.push(format!("`#![{level}(…)]`: lints are set in the root Cargo.toml"));
        }
    }
    if packed.contains("#[allow(") && !packed.contains("reason=") {
        found.push("`#[allow]` without a reason; `#[expect]` is better still".to_owned());
    }
    let mut previous = "";
    for (_, word) in words(line) {
        if previous == "mod" && EMPTY_NAMES.contains(&word) {
            found.push(format!("module `{word}`: the name says nothing about what is inside"));
        }
        previous = word;
    }
    found
}

fn has_empty_name(path: &str) -> bool {
    path.split('/').any(|part| EMPTY_NAMES.contains(&part.strip_suffix(".rs").unwrap_or(part)))
}

/// Identifiers and keywords of a line, with their offsets.
fn words(line: &str) -> impl Iterator<Item = (usize, &str)> {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    let mut at = 0;
    line.split(move |c| !is_word(c)).filter_map(move |word| {
        let start = at;
        at += word.len();
        at += line[at..].chars().next().map_or(0, char::len_utf8);
        (!word.is_empty()).then_some((start, word))
    })
}

/// What the scanner is inside of.
#[derive(Clone, Copy)]
enum Inside {
    Code,
    LineComment,
    /// Block comments nest: the depth.
    BlockComment(usize),
    Text,
    /// A raw string, with the number of `#` that ends it.
    RawText(usize),
}

/// The source with every comment and literal replaced by spaces; line breaks stay where they are.
pub fn code_only(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let starts = |at: usize, what: &str| {
        what.chars().enumerate().all(|(offset, c)| chars.get(at + offset) == Some(&c))
    };
    let mut out = String::with_capacity(text.len());
    let mut inside = Inside::Code;
    let mut at = 0;
    while at < chars.len() {
        let mut taken = 1;
        let mut keep = false;
        match inside {
            Inside::Code if starts(at, "//") => inside = Inside::LineComment,
            Inside::Code if starts(at, "/*") => (inside, taken) = (Inside::BlockComment(1), 2),
            Inside::Code if chars[at] == '"' => inside = Inside::Text,
            Inside::Code => match raw_text_opening(&chars, at) {
                Some((length, hashes)) => (inside, taken) = (Inside::RawText(hashes), length),
                None => match char_literal_length(&chars, at) {
                    Some(length) => taken = length,
                    None => keep = true,
                },
            },
            Inside::LineComment if chars[at] == '\n' => inside = Inside::Code,
            Inside::LineComment => {}
            Inside::BlockComment(depth) if starts(at, "*/") => {
                inside = if depth == 1 { Inside::Code } else { Inside::BlockComment(depth - 1) };
                taken = 2;
            }
            Inside::BlockComment(depth) if starts(at, "/*") => {
                (inside, taken) = (Inside::BlockComment(depth + 1), 2);
            }
            Inside::BlockComment(_) => {}
            Inside::Text if chars[at] == '\\' => taken = 2,
            Inside::Text if chars[at] == '"' => inside = Inside::Code,
            Inside::Text => {}
            Inside::RawText(hashes) if starts(at, &format!("\"{}", "#".repeat(hashes))) => {
                (inside, taken) = (Inside::Code, 1 + hashes);
            }
            Inside::RawText(_) => {}
        }
        for &c in &chars[at..(at + taken).min(chars.len())] {
            out.push(if keep || c == '\n' { c } else { ' ' });
        }
        at += taken;
    }
    out
}

/// `r"`, `r#"`, `br##"`, …: the length of the opening, and its number of `#`.
fn raw_text_opening(chars: &[char], at: usize) -> Option<(usize, usize)> {
    let before = at.checked_sub(1).map(|index| chars[index]);
    if chars[at] != 'r' || before.is_some_and(|c| c.is_alphanumeric() && c != 'b' && c != 'c') {
        return None;
    }
    let hashes = chars[at + 1..].iter().take_while(|&&c| c == '#').count();
    (chars.get(at + 1 + hashes) == Some(&'"')).then_some((2 + hashes, hashes))
}

/// The length of a char or byte literal that starts here; `None` for a lifetime.
fn char_literal_length(chars: &[char], at: usize) -> Option<usize> {
    if chars[at] != '\'' {
        return None;
    }
    if chars.get(at + 1) == Some(&'\\') {
        let rest = chars.get(at + 3..)?;
        return Some(rest.iter().take(10).position(|&c| c == '\'')? + 4);
    }
    (chars.get(at + 2) == Some(&'\'')).then_some(3)
}
