//! What a store does, order by order.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::Arc;

use crate::store::database::Store;
use crate::store::error::StoreError;
use crate::store::limits;
use crate::store::open::{How, Opened, open};
use crate::store::retention::Retention;
use crate::store::revision::{Accepted, Digest, Key, Meta, Objects};

pub(super) fn set(objects: &[(&str, &str)]) -> Arc<Objects> {
    let object = |(name, text): &(&str, &str)| (Key::new("Service", "shop", *name), (*text).into());
    Arc::new(objects.iter().map(object).collect())
}

pub(super) fn meta(time_ms: u64) -> Meta {
    Meta { time_ms, author: "ann".into(), message: "why".into(), source: "apply".into() }
}

pub(super) struct Home {
    folder: tempfile::TempDir,
}

impl Home {
    pub(super) fn new() -> Self {
        Self { folder: tempfile::tempdir().expect("there is room") }
    }

    pub(super) fn path(&self) -> PathBuf {
        self.folder.path().join("store.db")
    }

    pub(super) fn open(&self, retention: Retention) -> Opened {
        open(&self.path(), retention, 1_700_000_000_000).expect("it opens")
    }

    fn store(&self) -> Store {
        self.open(Retention::default()).store
    }

    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.folder.path()).expect("it is a folder");
        let mut names: Vec<_> = entries
            .map(|entry| entry.expect("it can be read").file_name().into_string().expect("UTF-8"))
            .collect();
        names.sort();
        names
    }
}

fn numbers(store: &Store) -> Vec<u64> {
    store.history(1000, None).expect("sound").iter().map(|revision| revision.number).collect()
}

fn count(store: &Store, table: &str) -> i64 {
    let query = format!("SELECT count(*) FROM {table}");
    store.connection().query_row(&query, [], |row| row.get(0)).expect("the table is there")
}

#[test]
fn numbers_revisions_and_gives_them_back() {
    let home = Home::new();
    let mut store = home.store();
    let one = set(&[("a", "1"), ("b", "1")]);
    let two = set(&[("b", "2"), ("c", "1")]);
    assert_eq!(store.accept(one.clone(), &meta(10), None).expect("sound"), Accepted::New(1));
    assert_eq!(store.accept(two.clone(), &meta(20), None).expect("sound"), Accepted::New(2));
    let id = store.id();
    drop(store);

    let store = home.store();
    assert_eq!(store.id(), id);
    for (number, objects, time_ms) in [(1, &one, 10), (2, &two, 20)] {
        let (revision, shown) = store.show(number).expect("it is kept");
        assert_eq!(shown, *objects);
        assert_eq!(
            (revision.number, revision.time_ms, revision.object_count, revision.digest),
            (number, time_ms, 2, Digest::of_objects(objects))
        );
        assert_eq!(
            (&*revision.author, &*revision.message, &*revision.source),
            ("ann", "why", "apply")
        );
    }
    assert_eq!(store.latest().expect("there is one").0.number, 2);
    assert_eq!(count(&store, "text"), 2, "the text \"1\" is there once");
}

#[test]
fn stores_nothing_that_the_latest_revision_says_already() {
    let home = Home::new();
    let mut store = home.store();
    for (objects, expected) in [
        (set(&[]), Accepted::New(1)),
        (set(&[]), Accepted::Unchanged(1)),
        (set(&[("a", "1")]), Accepted::New(2)),
        (set(&[("a", "1")]), Accepted::Unchanged(2)),
        (set(&[]), Accepted::New(3)),
        (set(&[("a", "1")]), Accepted::New(4)),
    ] {
        assert_eq!(store.accept(objects, &meta(0), None).expect("sound"), expected);
    }
    assert_eq!(numbers(&store), [4, 3, 2, 1]);
}

#[test]
fn refuses_a_revision_that_was_made_from_an_older_one() {
    let home = Home::new();
    let mut store = home.store();
    store.accept(set(&[("a", "1")]), &meta(0), Some(0)).expect("there was none");
    for stale in [0, 2, u64::MAX] {
        let refused = store.accept(set(&[("a", "2")]), &meta(0), Some(stale));
        let Err(StoreError::Conflict { expected, current: 1 }) = refused else {
            panic!("{refused:?}")
        };
        assert_eq!(expected, stale);
    }
    let accepted = store.accept(set(&[("a", "2")]), &meta(0), Some(1)).expect("it is the latest");
    assert_eq!(accepted, Accepted::New(2));
}

#[test]
fn refuses_what_is_past_a_bound_and_names_it() {
    let home = Home::new();
    let mut store = home.store();
    let long = |bytes: usize| "x".repeat(bytes);
    let objects = |key: Key, text: String| Arc::new(Objects::from([(key, text.into())]));
    let small = || set(&[("a", "1")]);
    let name = Key::new("Service", "shop", "a");
    for (objects, meta, what) in [
        (small(), Meta { author: long(limits::AUTHOR_BYTES_MAX + 1), ..meta(0) }, "the author"),
        (small(), Meta { message: long(limits::MESSAGE_BYTES_MAX + 1), ..meta(0) }, "the message"),
        (small(), Meta { source: long(limits::SOURCE_BYTES_MAX + 1), ..meta(0) }, "the source"),
        (objects(name, long(limits::TEXT_BYTES_MAX + 1)), meta(0), "the text of Service/shop/a"),
        (
            objects(Key::new("k", "n", long(limits::KEY_PART_BYTES_MAX + 1)), "1".into()),
            meta(0),
            "the key k/n/x",
        ),
        (
            Arc::new(
                (0..=limits::OBJECTS_MAX)
                    .map(|n| (Key::new("k", "", n.to_string()), "".into()))
                    .collect(),
            ),
            meta(0),
            "the set of objects",
        ),
    ] {
        let error = store.accept(objects, &meta, None).expect_err("it is too large").to_string();
        assert!(error.starts_with(what), "{error}");
    }
    assert_eq!(numbers(&store), Vec::<u64>::new());
}

#[test]
fn a_pin_holds_what_is_live_until_it_is_resumed() {
    let home = Home::new();
    let mut store = home.store();
    let live = |store: &Store| {
        let live = store.live().expect("sound");
        live.map(|live| (live.revision.number, live.pinned, live.objects.len()))
    };
    assert_eq!(live(&store), None);
    store.accept(set(&[("a", "1")]), &meta(0), None).expect("sound");
    store.accept(set(&[("a", "1"), ("b", "1")]), &meta(0), None).expect("sound");
    assert_eq!(live(&store), Some((2, false, 2)));
    store.pin(1).expect("it is kept");
    assert_eq!(live(&store), Some((1, true, 1)));
    store.accept(set(&[]), &meta(0), None).expect("sound");
    drop(store);

    let mut store = home.store();
    assert_eq!((live(&store), store.pinned()), (Some((1, true, 1)), Some(1)));
    assert_eq!(store.latest().expect("there is one").0.number, 3);
    store.resume().expect("sound");
    store.resume().expect("nothing to do");
    assert_eq!((live(&store), store.pinned()), (Some((3, false, 0)), None));
}

#[test]
fn names_what_it_keeps_when_asked_for_another_revision() {
    let home = Home::new();
    let mut store = home.store();
    let error = store.show(1).expect_err("it is empty").to_string();
    assert_eq!(error, "no revision 1 in the store: it is empty");
    store.accept(set(&[]), &meta(0), None).expect("sound");
    let error = store.pin(7).expect_err("it was never accepted").to_string();
    assert_eq!(error, "no revision 7 in the store: it keeps some of 1 to 1");
    for absent in [0, 2, u64::MAX] {
        store.show(absent).expect_err("it was never accepted");
    }
}

#[test]
fn shows_history_by_pages_newest_first() {
    let home = Home::new();
    let mut store = home.store();
    for n in 1..=5_u64 {
        store.accept(set(&[("a", &n.to_string())]), &meta(n), None).expect("sound");
    }
    let page = |limit, before| -> Vec<u64> {
        let page = store.history(limit, before).expect("sound");
        page.iter().map(|revision| revision.number).collect()
    };
    assert_eq!(page(2, None), [5, 4]);
    assert_eq!(page(2, Some(4)), [3, 2]);
    assert_eq!(page(2, Some(2)), [1]);
    assert_eq!(page(2, Some(1)), Vec::<u64>::new());
    assert_eq!(page(0, None), Vec::<u64>::new());
    assert_eq!(page(usize::MAX, Some(u64::MAX)), [5, 4, 3, 2, 1]);
}

#[test]
fn epochs_only_go_up_and_writes_are_rare() {
    let home = Home::new();
    let mut last = 0;
    for _ in 0..3 {
        let mut store = home.store();
        let writes = store.connection().total_changes();
        for _ in 0..limits::EPOCHS_PER_LEASE + 1 {
            let epoch = store.next_epoch().expect("sound");
            assert_eq!(epoch.store, store.id());
            assert!(epoch.number > last, "{epoch:?} after {last}");
            last = epoch.number;
        }
        assert_eq!(store.connection().total_changes() - writes, 2);
    }
}

#[test]
fn keeps_so_many_revisions_and_the_pinned_one() {
    let home = Home::new();
    let mut store = home.open(Retention { count: 3, ..Retention::default() }).store;
    let texts: Vec<String> = (1..=9).map(|n| format!("only {n}")).collect();
    for (index, text) in texts.iter().enumerate() {
        store.accept(set(&[("a", text), ("b", "all")]), &meta(0), None).expect("sound");
        if index == 1 {
            store.pin(2).expect("it is kept");
        }
    }
    assert_eq!(numbers(&store), [9, 8, 2]);
    assert_eq!(*store.show(2).expect("it is pinned").1, *set(&[("a", "only 2"), ("b", "all")]));
    assert_eq!((count(&store, "text"), count(&store, "object")), (4, 4));
    store.resume().expect("sound");
    store.accept(set(&[]), &meta(0), None).expect("sound");
    assert_eq!(numbers(&store), [10, 9, 8]);
    assert_eq!((count(&store, "text"), count(&store, "object")), (3, 3));
}

#[test]
fn drops_old_revisions_but_never_the_latest_or_the_pinned() {
    let home = Home::new();
    let mut store = home.open(Retention { age_ms: Some(100), ..Retention::default() }).store;
    for n in 1..=4_u64 {
        store.accept(set(&[("a", &n.to_string())]), &meta(n * 10), None).expect("sound");
    }
    store.pin(3).expect("it is kept");
    assert_eq!(store.prune(110).expect("sound"), 0);
    assert_eq!(store.prune(121).expect("sound"), 2);
    assert_eq!(numbers(&store), [4, 3]);
    assert_eq!(store.prune(u64::MAX).expect("sound"), 0);
    store.resume().expect("sound");
    assert_eq!(store.prune(u64::MAX).expect("sound"), 1);
    assert_eq!((numbers(&store), count(&store, "text")), (vec![4], 1));
}

#[test]
fn drops_the_oldest_when_the_file_grows_too_large() {
    let home = Home::new();
    let mut store = home.open(Retention { bytes: 1024 * 1024, ..Retention::default() }).store;
    for n in 0..40_u64 {
        let text = format!("{n:07}").repeat(15_000);
        store.accept(set(&[("a", &text)]), &meta(0), None).expect("sound");
    }
    let kept = numbers(&store);
    assert!((5..=10).contains(&kept.len()), "{kept:?}");
    assert_eq!(kept[0], 40);
    let bytes = fs::metadata(home.path()).expect("it is there").len();
    assert!(bytes < 3 * 1024 * 1024, "freed pages are used again: {bytes}");
}

#[test]
fn one_process_owns_a_store() {
    let home = Home::new();
    let store = home.store();
    let error = open(&home.path(), Retention::default(), 0).expect_err("it is in use");
    let message = error.to_string();
    assert!(
        message.contains(&format!("is in use by process {}; ", std::process::id())),
        "{message}"
    );
    drop(store);
    assert_eq!(home.open(Retention::default()).how, How::Found);
}

#[test]
fn a_foreign_tool_that_holds_the_file_is_waited_for_by_nobody() {
    let home = Home::new();
    drop(home.store());
    let other = rusqlite::Connection::open(home.path()).expect("it is a database");
    other.execute_batch("BEGIN IMMEDIATE").expect("nobody else is there");
    let error = open(&home.path(), Retention::default(), 0).expect_err("it is in use").to_string();
    assert!(error.contains("is in use by another process"), "{error}");
    drop(other);
    assert_eq!(home.open(Retention::default()).how, How::Found);
}

#[test]
fn every_commit_waits_for_the_disk() {
    let home = Home::new();
    let store = home.store();
    let read = |name| -> String {
        let query = format!("SELECT CAST({name} AS TEXT) FROM pragma_{name}");
        store.connection().query_row(&query, [], |row| row.get(0)).expect("it has a value")
    };
    assert_eq!((&*read("journal_mode"), &*read("synchronous")), ("wal", "2"));
}

#[test]
fn others_cannot_read_what_is_declared() {
    let home = Home::new();
    let mut store = home.store();
    store.accept(set(&[("a", "secret")]), &meta(0), None).expect("sound");
    assert_eq!(home.names(), ["store.db", "store.db-wal", "store.db.lock"]);
    for name in home.names() {
        let file = fs::metadata(home.folder.path().join(&name)).expect("it is there");
        assert_eq!(file.permissions().mode() & 0o777, 0o600, "{name}");
    }
}

#[test]
fn refuses_a_store_of_a_later_release_and_leaves_it_alone() {
    let home = Home::new();
    drop(home.store());
    let other = rusqlite::Connection::open(home.path()).expect("it is a database");
    other.pragma_update(None, "user_version", 99).expect("it can be written");
    drop(other);
    let before = fs::read(home.path()).expect("it is there");
    let error = open(&home.path(), Retention::default(), 0).expect_err("it is newer").to_string();
    assert!(error.contains("has schema version 99, and this release knows up to 2"), "{error}");
    assert_eq!(fs::read(home.path()).expect("it is there"), before);
}

#[test]
fn refuses_another_programs_database_and_leaves_it_alone() {
    let home = Home::new();
    let other = rusqlite::Connection::open(home.path()).expect("there is room");
    other.execute_batch("CREATE TABLE photos (name)").expect("it can be written");
    drop(other);
    let before = fs::read(home.path()).expect("it is there");
    let error = open(&home.path(), Retention::default(), 0).expect_err("not ours").to_string();
    assert!(error.contains("a database of another program"), "{error}");
    assert_eq!(fs::read(home.path()).expect("it is there"), before);
}

#[test]
fn names_the_folder_that_is_missing() {
    let home = Home::new();
    let path = home.folder.path().join("absent").join("store.db");
    let error = open(&path, Retention::default(), 0).expect_err("no such folder").to_string();
    assert!(error.contains("absent/store.db.lock: No such file or directory"), "{error}");
}

#[test]
fn begins_in_an_empty_file() {
    let home = Home::new();
    fs::write(home.path(), "").expect("there is room");
    assert_eq!(home.open(Retention::default()).how, How::Created);
}

#[test]
fn an_epoch_that_somebody_has_seen_is_never_given_out_again() {
    let home = Home::new();
    let mut store = home.store();
    let first = store.next_epoch().expect("sound").number;
    assert!(!store.raise_epoch(first).expect("sound"), "it was given out here");
    assert!(store.raise_epoch(first + 5000).expect("sound"));
    assert_eq!(store.next_epoch().expect("sound").number, first + 5001);
    drop(store);
    let mut store = home.store();
    assert!(store.next_epoch().expect("sound").number > first + 5001);
    store.raise_epoch(u64::MAX).expect_err("no store comes to that");
}
