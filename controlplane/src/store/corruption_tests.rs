//! A file that is not what was written: never a panic, never a wrong answer, and the operator is told.

use std::fs;

use proptest::prelude::*;

use crate::store::error::StoreError;
use crate::store::open::{How, open};
use crate::store::retention::Retention;
use crate::store::tests::{Home, meta, set};

const NOW_MS: u64 = 1_700_000_000_000;

/// A store with some history, closed; with its log still beside it if `with_log`.
fn written(home: &Home, with_log: bool) {
    let mut store = home.open(Retention::default()).store;
    for n in 1..=20_u64 {
        let text = format!("revision {n} ").repeat(40);
        store
            .accept(set(&[("a", &text), ("b", "same"), ("c", &n.to_string())]), &meta(n), None)
            .expect("sound");
    }
    store.pin(5).expect("it is kept");
    store.next_epoch().expect("sound");
    if with_log {
        // As kill -9 leaves them: both files as they are while the store is open.
        let log = home.path().with_extension("db-wal");
        let (file, log_bytes) = (fs::read(home.path()), fs::read(&log));
        drop(store);
        fs::write(home.path(), file.expect("it is there")).expect("there is room");
        fs::write(log, log_bytes.expect("it is there")).expect("there is room");
    }
}

#[test]
fn sets_a_damaged_store_aside_and_begins_anew() {
    let home = Home::new();
    written(&home, false);
    let old = home.open(Retention::default()).store.id();
    let mut bytes = fs::read(home.path()).expect("it is there");
    bytes[4096..8192].fill(0x5a);
    fs::write(home.path(), &bytes).expect("there is room");

    let opened = home.open(Retention::default());
    let How::SetAside { to, why } = opened.how else { panic!("{:?}", opened.how) };
    assert_eq!(to.file_name().expect("it has one"), "store.db.corrupt-20231114T221320Z");
    assert!(!why.is_empty());
    assert_eq!(fs::read(&to).expect("it is there"), bytes, "the damaged file is as it was");
    let mut store = opened.store;
    assert_ne!(store.id(), old);
    assert!(store.live().expect("sound").is_none());
    store.accept(set(&[("a", "1")]), &meta(0), Some(0)).expect("it is empty and sound");
    drop(store);

    fs::write(home.path(), "not a database at all, but long enough to be one").expect("room");
    let How::SetAside { to, .. } = home.open(Retention::default()).how else { panic!("damaged") };
    assert_eq!(to.file_name().expect("it has one"), "store.db.corrupt-20231114T221320Z-2");
}

#[test]
fn takes_the_log_along_when_it_sets_a_store_aside() {
    let home = Home::new();
    written(&home, false);
    let mut store = home.open(Retention::default()).store;
    store.pin(6).expect("it is kept");
    let log = fs::read(home.path().with_extension("db-wal")).expect("the pin is in it");
    drop(store);
    let mut bytes = fs::read(home.path()).expect("it is there");
    bytes[4096..8192].fill(0x5a);
    fs::write(home.path(), bytes).expect("there is room");
    fs::write(home.path().with_extension("db-wal"), log).expect("there is room");
    let How::SetAside { to, .. } = home.open(Retention::default()).how else { panic!("damaged") };
    let mut log = to.into_os_string();
    log.push("-wal");
    assert!(fs::metadata(log).expect("it is there").len() > 0);
    assert_eq!(home.open(Retention::default()).how, How::Found, "the old log is not replayed");
}

#[test]
fn finds_a_text_that_was_changed_behind_its_back() {
    for (wanted, at_open) in [("revision 20 ", true), ("revision 5 ", true), ("revision 7 ", false)]
    {
        let home = Home::new();
        written(&home, false);
        let mut bytes = fs::read(home.path()).expect("it is there");
        let wanted = wanted.repeat(40).into_bytes();
        // Pages that were split keep old copies in their free space.
        for at in 0..bytes.len() - wanted.len() {
            if bytes[at..].starts_with(&wanted) {
                bytes[at] = b'R';
            }
        }
        fs::write(home.path(), bytes).expect("there is room");
        let opened = home.open(Retention::default());
        match opened.how {
            How::SetAside { why, .. } => assert!(at_open && why.contains(" when stored "), "{why}"),
            How::Found => {
                assert!(!at_open, "what is live or latest is checked at once");
                let error = opened.store.show(7).expect_err("its text has changed");
                assert!(matches!(error, StoreError::Damaged { .. }), "{error}");
                opened.store.show(8).expect("the others are sound");
            }
            How::Created => panic!("it was there"),
        }
    }
}

/// Does everything there is to do; only errors may come of it.
fn use_all(home: &Home) {
    let Ok(opened) = open(&home.path(), Retention { count: 3, ..Retention::default() }, NOW_MS)
    else {
        return;
    };
    let mut store = opened.store;
    for number in 0..=21 {
        if let Ok((_, objects)) = store.show(number) {
            assert_eq!(objects.len(), 3, "what is shown is what was accepted");
        }
    }
    let _ = store.history(100, None);
    let _ = store.live();
    let _ = store.next_epoch();
    let _ = store.pin(7);
    let _ = store.resume();
    let _ = store.accept(set(&[("a", "1"), ("b", "2"), ("c", "3")]), &meta(0), None);
    let _ = store.accept(set(&[("a", "1"), ("b", "3"), ("d", "3")]), &meta(0), None);
    let _ = store.prune(NOW_MS);
    let _ = store.live();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, ..ProptestConfig::default() })]

    #[test]
    fn damage_anywhere_never_panics(
        flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..24),
        fill in prop::option::of((any::<prop::sample::Index>(), 1..5000_usize, any::<u8>())),
        cut in prop::option::weighted(0.2, any::<prop::sample::Index>()),
        in_log in any::<bool>(),
    ) {
        let home = Home::new();
        written(&home, in_log);
        let path = if in_log { home.path().with_extension("db-wal") } else { home.path() };
        let mut bytes = fs::read(&path).expect("it is there");
        for (at, value) in flips {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        if let Some((at, length, value)) = fill {
            let at = at.index(bytes.len());
            let end = (at + length).min(bytes.len());
            bytes[at..end].fill(value);
        }
        if let Some(at) = cut {
            bytes.truncate(at.index(bytes.len()));
        }
        fs::write(&path, bytes).expect("there is room");
        use_all(&home);
        use_all(&home);
    }
}
