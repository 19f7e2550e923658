//! Command lines of the reference programs: `--name value` pairs and nothing else.

use std::{collections::BTreeMap, fmt::Display, process, str::FromStr};

/// The flags of one command line, each taken out by the program that knows it.
pub struct Args {
    values: BTreeMap<String, String>,
    usage: &'static str,
}

impl Args {
    /// Reads the process's arguments; prints `usage` and exits with 2 when they are no pairs.
    pub fn from_env(usage: &'static str) -> Self {
        let mut values = BTreeMap::new();
        let mut words = std::env::args().skip(1);
        while let Some(word) = words.next() {
            let (Some(name), Some(value)) = (word.strip_prefix("--"), words.next()) else {
                refuse(usage, format_args!("expected --name value, found {word:?}"));
            };
            values.insert(name.to_owned(), value);
        }
        Self { values, usage }
    }

    /// Takes the flag `name`, or exits with 2 when it is missing or cannot be parsed.
    pub fn required<T: FromStr<Err: Display>>(&mut self, name: &str) -> T {
        match self.optional(name) {
            Some(value) => value,
            None => refuse(self.usage, format_args!("--{name} is missing")),
        }
    }

    /// Takes the flag `name` if it was given; exits with 2 when it cannot be parsed.
    pub fn optional<T: FromStr<Err: Display>>(&mut self, name: &str) -> Option<T> {
        let text = self.values.remove(name)?;
        match text.parse() {
            Ok(value) => Some(value),
            Err(error) => refuse(self.usage, format_args!("--{name} {text:?}: {error}")),
        }
    }

    /// Exits with 2 when a flag is left that the program did not take.
    pub fn finish(self) {
        if let Some(name) = self.values.keys().next() {
            refuse(self.usage, format_args!("--{name} is not known"));
        }
    }
}

fn refuse(usage: &str, why: impl Display) -> ! {
    eprintln!("{why}\nusage: {usage}");
    process::exit(2);
}
