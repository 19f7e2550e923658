//! Regular expressions that are compiled once, for as many snapshots in a row as have them.
//!
//! Before: [`validate`](super::validate_with) comes to a pattern. After: whoever runs the snapshot
//! takes the same program from here. Of a change of one endpoint nothing is compiled.

use std::collections::HashMap;

use regex::bytes::Regex;

use super::text::compile_regex;

/// The programs of the last snapshots, by pattern. At most those of two: bounded by
/// [`REGEXES_MAX`](crate::limits::REGEXES_MAX).
#[derive(Debug, Default)]
pub struct Patterns {
    known: HashMap<Box<str>, Known>,
    /// Counts the snapshots.
    snapshot: u64,
}

#[derive(Debug)]
struct Known {
    program: Regex,
    /// The last snapshot that has it.
    snapshot: u64,
}

impl Patterns {
    /// Another snapshot begins. What neither it nor the one before it has is forgotten with the next;
    /// one that is refused halfway does not cost those of the one that stays.
    pub fn begin_snapshot(&mut self) {
        let last = self.snapshot.saturating_sub(1);
        self.known.retain(|_, known| known.snapshot >= last);
        self.snapshot += 1;
    }

    /// The program of a pattern; it shares its memory for matching with nobody if it is cloned.
    ///
    /// Errors: those of [`compile_regex`].
    pub fn compile(&mut self, pattern: &str) -> Result<&Regex, regex::Error> {
        let snapshot = self.snapshot;
        if !self.known.contains_key(pattern) {
            let program = compile_regex(pattern)?;
            self.known.insert(pattern.into(), Known { program, snapshot });
        }
        let known = self.known.get_mut(pattern).expect("it was known or is now");
        known.snapshot = snapshot;
        Ok(&known.program)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known(patterns: &Patterns) -> Vec<&str> {
        let mut known: Vec<&str> = patterns.known.keys().map(|pattern| &**pattern).collect();
        known.sort_unstable();
        known
    }

    #[test]
    fn a_pattern_is_compiled_once() {
        let mut patterns = Patterns::default();
        patterns.compile("a").expect("a pattern");
        // Another program in its place shows whether it is taken or made anew.
        patterns.known.get_mut("a").expect("it is known").program =
            compile_regex("b").expect("a pattern");
        patterns.begin_snapshot();
        assert!(patterns.compile("a").expect("a pattern").is_match(b"b"));
    }

    #[test]
    fn what_two_snapshots_have_not_is_forgotten() {
        let mut patterns = Patterns::default();
        for of_snapshot in [&["a", "b"][..], &["b"], &["b"]] {
            patterns.begin_snapshot();
            for pattern in of_snapshot {
                patterns.compile(pattern).expect("a pattern");
            }
        }
        patterns.begin_snapshot();
        assert_eq!(known(&patterns), ["b"]);
        assert!(patterns.compile("(").is_err());
        assert_eq!(known(&patterns), ["b"]);
    }
}
