//! How two sets of objects differ. Pure but for a glance at the clock, which only makes the matching
//! of lines coarser when two texts would take too long.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use similar::TextDiff;

use crate::store::limits::DIFF_MS_MAX;
use crate::store::revision::{Key, Objects};

/// What became of one object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// Which one.
    #[serde(flatten)]
    pub key: Key,
    /// What became of it.
    pub change: ChangeKind,
    /// A unified diff from the old text to the new, three lines of context, without the two lines
    /// that would name files. One side is empty where the object was added or removed.
    pub text: String,
}

/// What became of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ChangeKind {
    /// It is only in the new set.
    Added,
    /// It is only in the old set.
    Removed,
    /// Its text differs.
    Changed,
}

/// Which objects differ and how, in the order of the keys. Cost: a comparison for each object, by
/// pointer where a text is shared.
pub fn changed(old: &Objects, new: &Objects) -> Vec<(Key, ChangeKind)> {
    let changes = pairs(old, new);
    changes.filter_map(|(key, before, after)| Some((key.clone(), change(before, after)?))).collect()
}

fn change(before: Option<&Arc<str>>, after: Option<&Arc<str>>) -> Option<ChangeKind> {
    match (before, after) {
        (None, _) => Some(ChangeKind::Added),
        (_, None) => Some(ChangeKind::Removed),
        // `Arc<str>` compares pointers first.
        (before, after) => (before != after).then_some(ChangeKind::Changed),
    }
}

/// Every object that differs, in the order of the keys.
pub fn diff(old: &Objects, new: &Objects) -> Vec<Change> {
    let deadline = Instant::now() + Duration::from_millis(DIFF_MS_MAX);
    let mut changes = Vec::new();
    for (key, before, after) in pairs(old, new) {
        let Some(change) = change(before, after) else { continue };
        let [before, after] = [before, after].map(|text| text.map_or("", |text| &**text));
        let text = unified(before, after, deadline);
        changes.push(Change { key: key.clone(), change, text });
    }
    changes
}

/// Every key of either set with its text in both.
fn pairs<'a>(
    old: &'a Objects,
    new: &'a Objects,
) -> impl Iterator<Item = (&'a Key, Option<&'a Arc<str>>, Option<&'a Arc<str>>)> {
    let mut old = old.iter().peekable();
    let mut new = new.iter().peekable();
    std::iter::from_fn(move || {
        let first = match (old.peek(), new.peek()) {
            (None, None) => return None,
            (Some((key, _)), None) | (None, Some((key, _))) => *key,
            (Some((left, _)), Some((right, _))) => (*left).min(*right),
        };
        let before = old.next_if(|(key, _)| *key == first).map(|(_, text)| text);
        let after = new.next_if(|(key, _)| *key == first).map(|(_, text)| text);
        Some((first, before, after))
    })
}

fn unified(before: &str, after: &str, deadline: Instant) -> String {
    TextDiff::configure()
        .deadline(deadline)
        .diff_lines(before, after)
        .unified_diff()
        .context_radius(3)
        .to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(objects: &[(&str, &str)]) -> Objects {
        objects
            .iter()
            .map(|(name, text)| (Key::new("Service", "shop", *name), (*text).into()))
            .collect()
    }

    #[test]
    fn tells_added_removed_and_changed_objects_apart() {
        let old = set(&[("a", "one\n"), ("b", "1\n2\n3\n4\n5\n6\n7\n8\n9\n"), ("d", "same\n")]);
        let new = set(&[("b", "1\n2\n3\n4\nfive\n6\n7\n8\n9\n"), ("c", "new"), ("d", "same\n")]);
        let changes = diff(&old, &new);
        let seen: Vec<_> =
            changes.iter().map(|c| (&*c.key.name, c.change, c.text.as_str())).collect();
        assert_eq!(
            seen,
            [
                ("a", ChangeKind::Removed, "@@ -1 +0,0 @@\n-one\n"),
                ("b", ChangeKind::Changed, "@@ -2,7 +2,7 @@\n 2\n 3\n 4\n-5\n+five\n 6\n 7\n 8\n"),
                ("c", ChangeKind::Added, "@@ -0,0 +1 @@\n+new\n\\ No newline at end of file\n"),
            ]
        );
    }

    #[test]
    fn finds_nothing_between_equal_sets() {
        let some = set(&[("a", "one\n"), ("b", "two\n")]);
        assert_eq!(diff(&some, &some.clone()), []);
        assert_eq!(diff(&Objects::new(), &Objects::new()), []);
    }

    #[test]
    fn ends_on_texts_that_have_nothing_in_common() {
        let lines = |from: u32| (from..from + 60_000).map(|n| format!("{n}\n")).collect::<String>();
        let (old, new) = (lines(0), lines(1_000_000));
        let text = &diff(&set(&[("a", &old)]), &set(&[("a", &new)]))[0].text;
        assert!(text.lines().count() >= 120_000, "each line is removed or added");
    }
}
