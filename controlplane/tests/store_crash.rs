//! kill -9 at any moment loses no revision, pin or epoch that the store said it has.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use lateen_control::store::database::Store;
use lateen_control::store::error::StoreError;
use lateen_control::store::open::{How, open};
use lateen_control::store::retention::Retention;
use lateen_control::store::revision::{Key, Meta, Objects};

/// Names the store for a process of this file that should commit until it is killed.
const STORE: &str = "LATEEN_TEST_STORE";

/// Few, so that revisions are dropped all the time too.
const RETENTION: Retention = Retention { count: 20, age_ms: None, bytes: u64::MAX };

const KILLS: u32 = 25;

/// One round of what the killed process does without end. Says on `out` what it was promised, after
/// it was promised.
fn commit(store: &mut Store, out: &mut impl Write) -> Result<(), StoreError> {
    let next = store.latest().map_or(1, |(revision, _)| revision.number + 1);
    let objects: Objects = (0..8)
        .map(|name| {
            let since = (next + name) / 4;
            (Key::new("Service", "shop", name.to_string()), format!("{name} {since}\n").into())
        })
        .collect();
    let meta =
        Meta { time_ms: next, author: "a".into(), message: String::new(), source: "t".into() };
    let number = store.accept(Arc::new(objects), &meta, None)?.number();
    let digest = store.show(number)?.0.digest;
    say(out, &format!("revision {number} {digest}"));
    match number % 7 {
        0 => {
            store.pin(number)?;
            say(out, &format!("pinned {number}"));
        }
        3 => {
            store.resume()?;
            say(out, "resumed 0");
        }
        _ => {}
    }
    for _ in 0..300 {
        let epoch = store.next_epoch()?.number;
        say(out, &format!("epoch {epoch}"));
    }
    Ok(())
}

/// Past the test harness, which would keep what is printed.
fn say(out: &mut impl Write, what: &str) {
    writeln!(out, "said {what}").and_then(|()| out.flush()).expect("someone listens");
}

/// Also what the killed process runs, with [`STORE`] set; then it does not end by itself.
#[test]
fn commits_are_said_to_be_there() {
    let rounds = match std::env::var_os(STORE) {
        Some(path) => {
            let mut store = open(Path::new(&path), RETENTION, 0).expect("it opens").store;
            loop {
                commit(&mut store, &mut std::io::stdout().lock()).expect("the disk is sound");
            }
        }
        None => 10,
    };
    let folder = tempfile::tempdir().expect("there is room");
    let mut store = open(&folder.path().join("s.db"), RETENTION, 0).expect("it opens").store;
    let mut said = Vec::new();
    for _ in 0..rounds {
        commit(&mut store, &mut said).expect("the disk is sound");
    }
    let said = String::from_utf8(said).expect("only text is said");
    assert_eq!(said.lines().filter(|line| line.starts_with("said revision")).count(), rounds);
}

/// What the killed processes were promised.
#[derive(Default)]
struct Promised {
    /// Number → digest.
    revisions: BTreeMap<u64, String>,
    pinned: Option<u64>,
    epoch: u64,
}

impl Promised {
    /// Takes a line in; `false` if it is the test harness's.
    fn hear(&mut self, line: &str) -> bool {
        let Some(said) = line.split_once("said ").map(|(_, said)| said) else { return false };
        let mut words = said.split(' ');
        let (what, number) = (words.next().expect("a word"), words.next().expect("a number"));
        let number: u64 = number.parse().expect("a number");
        match what {
            "revision" => {
                let digest = words.next().expect("a digest").to_owned();
                self.revisions.insert(number, digest);
            }
            "pinned" => self.pinned = Some(number),
            "resumed" => self.pinned = None,
            "epoch" => {
                assert!(number > self.epoch, "epoch {number} after {}", self.epoch);
                self.epoch = number;
            }
            other => panic!("{other}"),
        }
        true
    }
}

#[test]
fn nothing_that_was_promised_is_lost_when_the_process_is_killed() {
    let folder = tempfile::tempdir().expect("there is room");
    let path = folder.path().join("store.db");
    let id = open(&path, RETENTION, 0).expect("it opens").store.id();
    let seed = std::env::var("LATEEN_SEED").ok().and_then(|seed| seed.parse().ok());
    let mut random = seed.unwrap_or(id) | 1;
    let mut promised = Promised::default();
    for kill in 0..KILLS {
        // xorshift64
        for shift in [13_i8, -7, 17] {
            random ^= if shift > 0 { random << shift } else { random >> -shift };
        }
        run_and_kill(&path, &mut promised, random % 2000, random / 2000 % 3000);

        let opened = open(&path, RETENTION, 0).expect("it opens");
        let context = format!("kill {kill}, LATEEN_SEED={}", seed.unwrap_or(id));
        assert_eq!(opened.how, How::Found, "{context}");
        check(opened.store, id, &mut promised, &context);
    }
}

/// Lets a process commit until it said `lines` and `more` microseconds have gone by.
fn run_and_kill(path: &Path, promised: &mut Promised, lines: u64, more: u64) {
    let mut child = Command::new(std::env::current_exe().expect("it runs"))
        .args(["--exact", "commits_are_said_to_be_there", "--nocapture"])
        .env(STORE, path)
        .stdout(Stdio::piped())
        .spawn()
        .expect("it was there to run this");
    let mut said = BufReader::new(child.stdout.take().expect("it is piped")).lines();
    let mut heard = 0;
    while heard <= lines {
        let line = said.next().expect("it does not end by itself").expect("text");
        heard += u64::from(promised.hear(&line));
    }
    let until = Instant::now() + Duration::from_micros(more);
    while Instant::now() < until {
        std::hint::spin_loop();
    }
    child.kill().expect("it runs");
    // What it said before it died counts. Its last line may be half.
    let rest: Vec<String> = said.map_while(Result::ok).collect();
    for line in rest.split_last().map_or(&rest[..], |(_, whole)| whole) {
        promised.hear(line);
    }
    child.wait().expect("it was killed");
}

fn check(mut store: Store, id: u64, promised: &mut Promised, context: &str) {
    assert_eq!(store.id(), id, "{context}");
    let latest = store.latest().map_or(0, |(revision, _)| revision.number);
    let last = promised.revisions.keys().next_back().copied().unwrap_or(0);
    assert!(latest >= last, "{latest} is there of {last}, {context}");
    for (number, digest) in promised.revisions.range(latest.saturating_sub(17)..) {
        let (revision, _) =
            store.show(*number).unwrap_or_else(|error| panic!("{error}, {context}"));
        assert_eq!(revision.digest.to_string(), *digest, "{context}");
    }
    // One pin or release may have reached the disk and not the pipe.
    if store.pinned() != promised.pinned {
        let unsaid = match store.pinned() {
            Some(pinned) => pinned == latest && pinned % 7 == 0,
            None => latest % 7 == 3,
        };
        assert!(unsaid, "{:?} is pinned, not {:?}, {context}", store.pinned(), promised.pinned);
        // The next process goes on from what is there.
        promised.pinned = store.pinned();
    }
    store.live().unwrap_or_else(|error| panic!("{error}, {context}"));
    let epoch = store.next_epoch().expect("the disk is sound").number;
    assert!(epoch > promised.epoch, "{epoch} after {}, {context}", promised.epoch);
}
