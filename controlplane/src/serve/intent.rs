//! A set of declared objects: their texts for the store, their types for the compiler.
//!
//! Before: files, or texts of a revision. After: [`control`](crate::serve::control) compiles the set
//! and stores it. Sets share what they have in common. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::language::diagnostic::Diagnostic;
use crate::language::object::{Declared, ObjectKey, ObjectKind};
use crate::language::parse::{Parsed, combine, parse_file};
use crate::language::place::SourceFile;
use crate::serve::text::{key_of, text_of};
use crate::store::revision::{Key, Objects};

/// All objects of one state.
#[derive(Clone, Debug, Default)]
pub struct Content {
    /// For the store.
    pub objects: Arc<Objects>,
    /// The same, for the compiler.
    pub declared: Arc<BTreeMap<ObjectKey, Arc<Declared>>>,
}

impl Content {
    /// What parsed files declare. The objects' places lead into those files.
    pub fn of_parsed(declared: &[Arc<Declared>]) -> Self {
        let objects = declared.iter().map(|d| (key_of(&d.key), text_of(d))).collect();
        let declared = declared.iter().map(|d| (d.key.clone(), d.clone())).collect();
        Self { objects: Arc::new(objects), declared: Arc::new(declared) }
    }

    /// What a revision of the store says. Each text is a file that is named as its object.
    ///
    /// # Errors
    /// This release does not take what an earlier one stored.
    pub fn of_objects(objects: Arc<Objects>) -> Result<Self, Vec<Diagnostic>> {
        let parts: Vec<Parsed> =
            objects.iter().map(|(key, text)| parse_stored(key, text)).collect();
        let parsed = combine(&parts);
        if parsed.has_errors() {
            return Err(parsed.diagnostics);
        }
        let declared = parsed.declared.into_iter().map(|d| (d.key.clone(), d)).collect();
        Ok(Self { objects, declared: Arc::new(declared) })
    }

    /// This set with `changes` in the place of what has the same key; with `prune`, only `changes`.
    /// Objects whose text stays are kept as they are.
    #[must_use]
    pub fn with(&self, changes: &[Arc<Declared>], prune: bool) -> Self {
        let mut objects = Objects::clone(&self.objects);
        let mut declared = BTreeMap::clone(&self.declared);
        if prune {
            let wanted: BTreeSet<&ObjectKey> = changes.iter().map(|change| &change.key).collect();
            declared.retain(|key, _| wanted.contains(key));
            let wanted: BTreeSet<Key> = wanted.into_iter().map(key_of).collect();
            objects.retain(|key, _| wanted.contains(key));
        }
        for change in changes {
            let key = key_of(&change.key);
            let text = text_of(change);
            if objects.get(&key).is_none_or(|old| *old != text) {
                objects.insert(key, text);
                declared.insert(change.key.clone(), change.clone());
            }
        }
        Self { objects: Arc::new(objects), declared: Arc::new(declared) }
    }

    /// This set without one object.
    #[must_use]
    pub fn without(&self, key: &ObjectKey) -> Self {
        let mut objects = Objects::clone(&self.objects);
        let mut declared = BTreeMap::clone(&self.declared);
        objects.remove(&key_of(key));
        declared.remove(key);
        Self { objects: Arc::new(objects), declared: Arc::new(declared) }
    }

    /// What runs while this set is pinned: its intent, with the endpoints of `latest`, which flow.
    #[must_use]
    pub fn pinned_beside(&self, latest: &Self) -> Self {
        let flows = |key: &ObjectKey| key.kind == ObjectKind::EndpointSlice;
        let own = self.declared.iter().filter(|(key, _)| !flows(key));
        let flowing = latest.declared.iter().filter(|(key, _)| flows(key));
        let declared: BTreeMap<_, _> =
            own.chain(flowing).map(|(key, declared)| (key.clone(), declared.clone())).collect();
        let text = |key: &ObjectKey| {
            let from = if flows(key) { latest } else { self };
            let key = key_of(key);
            let text = from.objects.get(&key)?.clone();
            Some((key, text))
        };
        let objects = declared.keys().filter_map(text).collect();
        Self { objects: Arc::new(objects), declared: Arc::new(declared) }
    }

    /// Makes the places of all objects whose text is not that of `before` lead into their own texts,
    /// which stay, and not into the files that they came in.
    #[must_use]
    pub fn settled(&self, before: &Self) -> Self {
        let settle = |(key, declared): (&ObjectKey, &Arc<Declared>)| {
            let stored = key_of(key);
            let text = &self.objects[&stored];
            let is_old = before.objects.get(&stored).is_some_and(|old| old == text);
            let settled = match is_old {
                true => None,
                false => parse_stored(&stored, text).declared.pop(),
            };
            (key.clone(), settled.unwrap_or_else(|| declared.clone()))
        };
        let declared = self.declared.iter().map(settle).collect();
        Self { objects: self.objects.clone(), declared: Arc::new(declared) }
    }

    /// For the compiler.
    pub fn to_compile(&self) -> Vec<Arc<Declared>> {
        self.declared.values().cloned().collect()
    }
}

fn parse_stored(key: &Key, text: &str) -> Parsed {
    let name = match key.namespace.as_str() {
        "" => format!("{}/{}", key.kind, key.name),
        _ => key.to_string(),
    };
    parse_file(&Arc::new(SourceFile::new(name, text)))
}

/// Files that were read before, so that only those that changed are read again.
#[derive(Debug, Default)]
pub struct FileCache {
    files: BTreeMap<String, (Arc<SourceFile>, Parsed)>,
}

impl FileCache {
    /// What a set of files declares. `files`: names and texts.
    pub fn parse<'a>(&mut self, files: impl Iterator<Item = (&'a str, &'a str)>) -> Parsed {
        let mut old = std::mem::take(&mut self.files);
        let mut order = Vec::new();
        for (name, text) in files {
            let kept = old.remove(name).filter(|(file, _)| file.text == text);
            let entry = kept.unwrap_or_else(|| {
                let file = Arc::new(SourceFile::new(name, text));
                let parsed = parse_file(&file);
                (file, parsed)
            });
            self.files.insert(name.to_owned(), entry);
            order.push(name);
        }
        combine(order.iter().map(|name| &self.files[*name].1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Vec<Arc<Declared>> {
        let parsed = parse_file(&Arc::new(SourceFile::new("f.yaml", text)));
        assert_eq!(parsed.diagnostics, []);
        parsed.declared
    }

    fn namespace(name: &str, label: &str) -> String {
        format!(
            "apiVersion: v1\nkind: Namespace\nmetadata: {{name: {name}, labels: {{l: {label}}}}}\n---\n"
        )
    }

    fn slice(name: &str, address: &str) -> String {
        format!(
            "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\n\
             metadata: {{name: {name}, labels: {{kubernetes.io/service-name: s}}}}\n\
             addressType: IPv4\nports: [{{port: 80}}]\nendpoints: [{{addresses: [{address}]}}]\n---\n"
        )
    }

    fn names(content: &Content) -> Vec<String> {
        assert_eq!(content.objects.len(), content.declared.len());
        content.objects.keys().map(ToString::to_string).collect()
    }

    #[test]
    fn upserts_prunes_and_removes() {
        let first = Content::default()
            .with(&parsed(&(namespace("a", "one") + &namespace("b", "one"))), false);
        assert_eq!(names(&first), ["Namespace//a", "Namespace//b"]);
        let second = first.with(&parsed(&(namespace("b", "two") + &namespace("c", "one"))), false);
        assert_eq!(names(&second), ["Namespace//a", "Namespace//b", "Namespace//c"]);
        let a = Key::new("Namespace", "", "a");
        assert!(Arc::ptr_eq(&first.objects[&a], &second.objects[&a]), "it stays");
        let pruned = second.with(&parsed(&namespace("b", "two")), true);
        assert_eq!(names(&pruned), ["Namespace//b"]);
        let key = parsed(&namespace("b", "x"))[0].key.clone();
        assert_eq!(names(&pruned.without(&key)), Vec::<String>::new());
    }

    #[test]
    fn endpoints_flow_past_a_pin_and_intent_does_not() {
        let pinned =
            Content::of_parsed(&parsed(&(namespace("a", "old") + &slice("s", "10.0.0.1"))));
        let latest = Content::of_parsed(&parsed(
            &(namespace("a", "new") + &namespace("b", "new") + &slice("s", "10.0.0.2")),
        ));
        let live = pinned.pinned_beside(&latest);
        assert_eq!(names(&live), ["EndpointSlice/default/s", "Namespace//a"]);
        let texts: String = live.objects.values().map(|text| &**text).collect();
        assert!(texts.contains("10.0.0.2") && texts.contains("old"), "{texts}");
    }

    #[test]
    fn what_is_stored_reads_as_what_was_declared() {
        let content =
            Content::of_parsed(&parsed(&(namespace("a", "one") + &slice("s", "10.0.0.1"))));
        let again = Content::of_objects(content.objects.clone()).expect("it was taken before");
        let specs = |content: &Content| {
            content.declared.values().map(|d| (d.key.clone(), d.object.clone())).collect::<Vec<_>>()
        };
        assert_eq!(specs(&content), specs(&again));
        let place = again.declared.values().next().expect("two").place_of("kind");
        assert_eq!(place.to_string(), "Namespace/a:2:7");
    }
}
