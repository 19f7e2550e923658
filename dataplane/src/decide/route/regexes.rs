//! Regular expressions: compiled once for snapshots in a row, matched by each worker with a cache of its own.
//!
//! Before it: the patterns of all rules. After it: a yes or no for a value. A [`Regex`] keeps the
//! memory that matching needs in a pool, which is shared by all who share the value; a clone has a
//! pool of its own (and shares the program), and the first thread that matches with it becomes the
//! pool's owner, for whom taking and giving back is a plain load and store.

use std::cell::{OnceCell, RefCell};

use lateen_snapshot::validate::patterns::Patterns;
use regex::bytes::Regex;

use crate::decide::route::RouteTables;

/// Position in [`Regexes`].
#[derive(Clone, Copy, Debug)]
pub(super) struct RegexIndex(u32);

/// The programs of one snapshot. Nobody matches with these themselves.
#[derive(Debug, Default)]
pub(super) struct Regexes {
    programs: Vec<Regex>,
}

impl Regexes {
    /// Takes the program of a pattern that stands for whole values from `patterns`, which has it from
    /// `validate`, or from an earlier snapshot.
    ///
    /// # Errors
    /// It is no regular expression, or its program is larger than
    /// [`REGEX_PROGRAM_BYTES_MAX`](lateen_snapshot::limits::REGEX_PROGRAM_BYTES_MAX).
    pub(super) fn add(
        &mut self,
        pattern: &str,
        patterns: &mut Patterns,
    ) -> Result<RegexIndex, regex::Error> {
        self.programs.push(patterns.compile(pattern)?.clone());
        Ok(RegexIndex(self.programs.len() as u32 - 1))
    }
}

/// What one worker needs to match with the expressions of one snapshot; made for its
/// [`RouteTables`], and used with no others.
///
/// An expression costs memory from its first use on this worker:
/// [`REGEX_CACHE_BYTES_MAX`](lateen_snapshot::limits::REGEX_CACHE_BYTES_MAX) at the most, a few KiB usually.
#[derive(Debug)]
pub struct WorkerRegexes {
    own: Box<[OnceCell<Regex>]>,
    /// For the value of a repeated field, lines joined.
    joined: RefCell<Vec<u8>>,
}

impl WorkerRegexes {
    /// With nothing in it. Cost: an allocation of four words for each expression.
    pub fn of(tables: &RouteTables) -> Self {
        let own = tables.regexes.programs.iter().map(|_| OnceCell::new()).collect();
        Self { own, joined: RefCell::default() }
    }

    #[inline]
    pub(super) fn is_match(&self, shared: &Regexes, index: RegexIndex, value: &[u8]) -> bool {
        debug_assert_eq!(self.own.len(), shared.programs.len(), "made for other tables");
        let index = index.0 as usize;
        self.own[index].get_or_init(|| shared.programs[index].clone()).is_match(value)
    }

    /// Matches values as one, a comma between them. Allocates until the largest was seen.
    pub(super) fn is_match_joined<'v>(
        &self,
        shared: &Regexes,
        index: RegexIndex,
        values: impl Iterator<Item = &'v [u8]>,
    ) -> bool {
        let mut joined = self.joined.borrow_mut();
        joined.clear();
        for (count, value) in values.enumerate() {
            if count > 0 {
                joined.push(b',');
            }
            joined.extend_from_slice(value);
        }
        self.is_match(shared, index, &joined)
    }
}
