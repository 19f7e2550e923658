//! A set of declared objects: their texts for the store, their types for the compiler.
//!
//! Before: files, or texts of a revision. After: [`control`](crate::serve::control) compiles the set
//! and stores it. Sets share what they have in common. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::language::diagnostic::Diagnostic;
use crate::language::object::{Declared, ObjectKey, ObjectKind, SERVICE_NAME_LABEL};
use crate::language::parse::{Parsed, combine, parse_file};
use crate::language::place::SourceFile;
use crate::serve::text::{key_of, text_of};
use crate::store::diff::ChangeKind;
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

    /// What runs while this set is pinned: its intent, with the endpoints of `latest`, which flow: the
    /// `EndpointSlice`s of its own services. Those of later services wait with them.
    #[must_use]
    pub fn pinned_beside(&self, latest: &Self) -> Self {
        let mut objects = Objects::clone(&self.objects);
        let mut declared = BTreeMap::clone(&self.declared);
        declared.retain(|key, _| key.kind != ObjectKind::EndpointSlice);
        objects.retain(|key, _| *key.kind != *ObjectKind::EndpointSlice.to_string());
        for (key, slice) in latest.declared.iter().filter(|(_, slice)| self.has_service_of(slice)) {
            let stored = key_of(key);
            let text = latest.objects[&stored].clone();
            objects.insert(stored, text);
            declared.insert(key.clone(), slice.clone());
        }
        Self { objects: Arc::new(objects), declared: Arc::new(declared) }
    }

    /// Whether this is a slice of one of this set's services.
    fn has_service_of(&self, slice: &Declared) -> bool {
        let ObjectKey { kind: ObjectKind::EndpointSlice, namespace, .. } = &slice.key else {
            return false;
        };
        slice.metadata.labels.get(SERVICE_NAME_LABEL).is_some_and(|name| {
            let (kind, namespace) = (ObjectKind::CoreService, namespace.clone());
            self.declared.contains_key(&ObjectKey { kind, namespace, name: name.as_str().into() })
        })
    }

    /// Whether what a change was about runs in this set too, which has it from `latest`.
    pub fn runs(&self, changes: &[(Key, ChangeKind)], latest: &Self) -> bool {
        let is_same = |(key, _): &(Key, _)| self.objects.get(key) == latest.objects.get(key);
        match changes {
            [] => self.objects == latest.objects,
            changes => changes.iter().all(is_same),
        }
    }

    /// Makes the places of all objects that `before` does not have lead into their own texts, which
    /// stay, and not into the files that they came in.
    #[must_use]
    pub fn settled(&self, before: &Self) -> Self {
        let is_new = |(key, declared): &(&ObjectKey, &Arc<Declared>)| {
            before.declared.get(*key).is_none_or(|old| !Arc::ptr_eq(old, declared))
        };
        let settle = |(key, _): (&ObjectKey, _)| {
            let stored = key_of(key);
            let settled = parse_stored(&stored, &self.objects[&stored]).declared.pop();
            Some((key.clone(), settled?))
        };
        let settled: Vec<_> = self.declared.iter().filter(is_new).filter_map(settle).collect();
        let mut declared = self.declared.clone();
        Arc::make_mut(&mut declared).extend(settled);
        Self { objects: self.objects.clone(), declared }
    }

    /// For the compiler.
    pub fn to_compile(&self) -> Vec<Arc<Declared>> {
        self.declared.values().cloned().collect()
    }
}

fn parse_stored(key: &Key, text: &str) -> Parsed {
    let name = match &*key.namespace {
        "" => format!("{}/{}", key.kind, key.name),
        _ => key.to_string(),
    };
    parse_file(&Arc::new(SourceFile::new(name, text)))
}

/// Files that were read before, so that only those that changed are read again.
#[derive(Debug, Default)]
pub struct FileCache {
    files: BTreeMap<String, ReadFile>,
}

/// A file, and what came of it.
#[derive(Debug)]
struct ReadFile {
    file: Arc<SourceFile>,
    parsed: Parsed,
    /// Of the objects that it declares, in their order.
    texts: Vec<(Key, Arc<str>)>,
}

impl ReadFile {
    fn read(name: &str, text: &str) -> Self {
        let file = Arc::new(SourceFile::new(name, text));
        let parsed = parse_file(&file);
        let texts = parsed.declared.iter().map(|of| (key_of(&of.key), text_of(of))).collect();
        Self { file, parsed, texts }
    }
}

impl FileCache {
    /// What a set of files declares, and the same as a set, which is whole if there are no errors. The
    /// objects' places lead into the files. `files`: names and texts.
    pub fn parse<'a>(
        &mut self,
        files: impl Iterator<Item = (&'a str, &'a str)>,
    ) -> (Parsed, Content) {
        let mut old = std::mem::take(&mut self.files);
        let mut order = Vec::new();
        for (name, text) in files {
            let kept = old.remove(name).filter(|read| read.file.text == text);
            let read = kept.unwrap_or_else(|| ReadFile::read(name, text));
            self.files.insert(name.to_owned(), read);
            order.push(name);
        }
        let parsed = combine(order.iter().map(|name| &self.files[*name].parsed));
        let texts = self.files.values().flat_map(|read| read.texts.iter().cloned());
        let objects = Arc::new(texts.collect());
        let declared = parsed.declared.iter().map(|of| (of.key.clone(), of.clone()));
        let content = Content { objects, declared: Arc::new(declared.collect()) };
        (parsed, content)
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
             metadata: {{name: {name}, labels: {{kubernetes.io/service-name: {name}}}}}\n\
             addressType: IPv4\nports: [{{port: 80}}]\nendpoints: [{{addresses: [{address}]}}]\n---\n"
        )
    }

    fn content(text: &str) -> Content {
        let (parsed, content) = FileCache::default().parse([("f.yaml", text)].into_iter());
        assert_eq!(parsed.diagnostics, []);
        content
    }

    fn core_service(name: &str) -> String {
        format!(
            "apiVersion: v1\nkind: Service\nmetadata: {{name: {name}}}\n\
             spec: {{ports: [{{port: 80}}]}}\n---\n"
        )
    }

    fn service(name: &str, address: &str) -> String {
        format!(
            "apiVersion: lateen.dev/v1alpha1\nkind: Service\nmetadata: {{name: {name}}}\n\
             spec: {{ports: [{{port: 80}}], endpoints: [{{address: {address}, port: 80}}]}}\n---\n"
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
        let pinned = content(
            &(namespace("a", "old")
                + &core_service("s")
                + &slice("s", "10.0.0.1")
                + &service("own", "10.0.1.1")),
        );
        let latest = content(
            &(namespace("a", "new")
                + &namespace("b", "new")
                + &core_service("s")
                + &slice("s", "10.0.0.2")
                + &core_service("later")
                + &slice("later", "10.0.0.3")
                + &service("own", "10.0.1.2")),
        );
        let live = pinned.pinned_beside(&latest);
        assert_eq!(
            names(&live),
            [
                "EndpointSlice/default/s",
                "Namespace//a",
                "Service/default/own",
                "Service (core)/default/s",
            ]
        );
        let texts: String = live.objects.values().map(|text| &**text).collect();
        for (part, is_in) in [
            ("old", true),
            ("10.0.0.1", false),
            ("10.0.0.2", true),
            // Written into the service, so a part of the intent.
            ("10.0.1.1", true),
            ("10.0.1.2", false),
        ] {
            assert_eq!(texts.contains(part), is_in, "{part} in {texts}");
        }

        let change =
            |name: &str, kind: &str| (Key::new(kind, "default", name), ChangeKind::Changed);
        assert!(live.runs(&[change("s", "EndpointSlice")], &latest));
        assert!(!live.runs(&[change("s", "EndpointSlice"), change("own", "Service")], &latest));
        assert!(!live.runs(&[], &latest), "nothing changed, and it is not what runs");
        assert!(latest.runs(&[], &latest));
    }

    #[test]
    fn what_is_stored_reads_as_what_was_declared() {
        let content = content(&(namespace("a", "one") + &slice("s", "10.0.0.1")));
        let again = Content::of_objects(content.objects.clone()).expect("it was taken before");
        let specs = |content: &Content| {
            content.declared.values().map(|d| (d.key.clone(), d.object.clone())).collect::<Vec<_>>()
        };
        assert_eq!(specs(&content), specs(&again));
        let place = again.declared.values().next().expect("two").place_of("kind");
        assert_eq!(place.to_string(), "Namespace/a:2:7");
    }
}
