//! Fuzz targets of what one side reads of the other: an encoded snapshot, and a message.
//!
//! Each checks two things of any input: nothing panics; what is accepted and written again reads the
//! same. Plain `cargo test` runs the committed corpus and about a second of random inputs;
//! `BOLERO_RANDOM_TEST_TIME_MS` makes it longer and `BOLERO_RANDOM_SEED` replays one.
//!
//! Random bytes hardly ever have the right digest, so each input is read in two more ways: as the
//! payload under a header that fits, and as a few small changes to the payload of a valid snapshot of
//! the corpus.

#[path = "fuzz_snapshot/written.rs"]
mod written;

use std::path::PathBuf;

use bolero::check;
use lateen_snapshot::encoding::{HEADER_BYTES, VERSION, decode, encode};
use lateen_snapshot::frame::Frame;
use lateen_snapshot::message::{ToControl, ToProxy};
use lateen_snapshot::model::Epoch;
use sha2::{Digest, Sha256};

#[test]
fn snapshot() {
    let seeds: Vec<Vec<u8>> =
        valid_corpus("snapshot").iter().map(|file| file[HEADER_BYTES..].to_vec()).collect();
    check!(name = "snapshot").with_max_len(1024).for_each(|input: &[u8]| {
        check_snapshot(input);
        check_snapshot(&with_header(input));
        check_snapshot(&with_header(&mutate(input, &seeds)));
    });
}

#[test]
fn message() {
    let seeds = valid_corpus("message");
    check!(name = "message").with_max_len(512).for_each(|input: &[u8]| {
        check_message(input);
        check_message(&mutate(input, &seeds));
    });
}

/// What hangs on the bytes of the model is as the model is now.
#[test]
fn the_corpus_is_of_this_model() {
    let writes = std::env::var_os("LATEEN_WRITE_CORPUS").is_some();
    for (name, bytes) in written::files() {
        let path = folder("snapshot").join(name);
        if writes {
            std::fs::write(&path, &bytes).expect("the corpus can be written");
        }
        let is_same = std::fs::read(&path).is_ok_and(|there| there == bytes);
        assert!(is_same, "{name} is of another model: LATEEN_WRITE_CORPUS=1 writes it anew");
    }
}

/// Each that is hostile is refused for what is wrong with it.
#[test]
fn what_is_wrong_with_a_file_is_what_it_is_refused_for() {
    let reasons = [
        ("check", "header"),
        ("digest", "digest"),
        ("cut", "bytes"),
        ("trailing", "bytes"),
        ("length-long", "bytes"),
        ("length-short", "bytes"),
        ("no-store", "epoch"),
        ("no-number", "epoch"),
        ("version-0", "version"),
        ("version-2", "version"),
        ("empty-names", "name"),
        ("header-injection", "response_headers"),
        ("regex", "path"),
    ];
    let files = corpus("snapshot");
    for (name, word) in reasons {
        let found = files.iter().find(|(of, _)| *of == format!("hostile-{name}"));
        let (_, bytes) = found.expect("it is in the corpus");
        let refusal = decode(bytes).expect_err("it is hostile").to_string();
        assert!(refusal.contains(word), "{name}: {refusal}");
    }
}

/// A file whose name begins with `valid` is accepted, with `hostile` refused: so the corpus can't
/// turn into noise unseen.
#[test]
fn the_corpus_gets_the_verdicts_that_its_names_say() {
    type Verdict = fn(&[u8]) -> bool;
    let targets: [(&str, Verdict); 2] =
        [("snapshot", |bytes| decode(bytes).is_ok()), ("message", accepts_message)];
    let mut seen = 0;
    for (target, verdict) in targets {
        for (name, bytes) in corpus(target) {
            let expected = match name.split('-').next() {
                Some("valid") => true,
                Some("hostile") => false,
                _ => panic!("{name}: a corpus file is named after its verdict"),
            };
            assert_eq!(verdict(&bytes), expected, "{target}/{name}");
            seen += 1;
        }
    }
    assert!(seen >= 25, "only {seen} files");
}

fn check_snapshot(bytes: &[u8]) {
    let Ok((epoch, digest, snapshot)) = decode(bytes) else { return };
    let again = encode(epoch, &snapshot, VERSION).expect("what was read can be written");
    // Numbers may be written longer than they need to be, so that the digest may change.
    assert!(again.bytes.len() <= bytes.len());
    assert_eq!(again.bytes == bytes, again.digest == digest);
    assert_eq!(decode(&again.bytes), Ok((epoch, again.digest, snapshot)));
}

/// A message's bytes are its kind and its payload.
fn frame(bytes: &[u8]) -> Option<Frame> {
    let (&kind, payload) = bytes.split_first()?;
    Some(Frame { kind, payload: payload.to_vec(), descriptor: None })
}

fn accepts_message(bytes: &[u8]) -> bool {
    let read = |bytes| (frame(bytes).expect("a kind"), frame(bytes).expect("a kind"));
    let (one, other) = read(bytes);
    ToControl::from_frame(one).is_ok() || ToProxy::from_frame(other).is_ok()
}

fn check_message(bytes: &[u8]) {
    let Some(frame) = frame(bytes) else { return };
    if let Ok(message) = ToControl::from_frame(frame) {
        let again = message.clone().into_frame().expect("what was read can be written");
        assert_eq!(ToControl::from_frame(again), Ok(message));
    }
    let Some(frame) = self::frame(bytes) else { return };
    if let Ok(message) = ToProxy::from_frame(frame) {
        let shown = format!("{message:?}");
        let again = ToProxy::from_frame(message.into_frame()).expect("what was read is a message");
        assert_eq!(format!("{again:?}"), shown);
        if let ToProxy::Publish(publish) = again {
            // Most are no snapshots.
            let _ = publish.open();
        }
    }
}

/// The payload under a header that fits it, made without the code under test.
fn with_header(payload: &[u8]) -> Vec<u8> {
    with_header_of(1, payload.len() as u64, Epoch { store: 7, number: 9 }, payload)
}

/// The payload under a header that says this, and whose checks fit.
fn with_header_of(version: u16, length: u64, epoch: Epoch, payload: &[u8]) -> Vec<u8> {
    let mut bytes = b"lateen\0s".to_vec();
    bytes.extend(version.to_le_bytes());
    bytes.extend(length.to_le_bytes());
    bytes.extend(epoch.store.to_le_bytes());
    bytes.extend(epoch.number.to_le_bytes());
    bytes.extend(Sha256::digest(payload));
    let check = Sha256::digest(&bytes);
    bytes.extend(&check[..8]);
    bytes.extend(payload);
    bytes
}

/// A few small changes to one of the seeds, as the input says.
fn mutate(input: &[u8], seeds: &[Vec<u8>]) -> Vec<u8> {
    let Some((&choice, changes)) = input.split_first() else { return Vec::new() };
    let mut bytes = seeds[usize::from(choice) % seeds.len()].clone();
    for change in changes.chunks_exact(4).take(4) {
        let at = usize::from(u16::from_le_bytes([change[0], change[1]]));
        let at = at % (bytes.len() + 1);
        match change[2] % 4 {
            0 => bytes.insert(at, change[3]),
            1 => bytes.truncate(at),
            2 if at < bytes.len() => bytes[at] = change[3],
            _ if at < bytes.len() => drop(bytes.remove(at)),
            _ => bytes.push(change[3]),
        }
    }
    bytes
}

fn valid_corpus(target: &str) -> Vec<Vec<u8>> {
    let valid = corpus(target).into_iter().filter(|(name, _)| name.starts_with("valid"));
    let valid: Vec<Vec<u8>> = valid.map(|(_, bytes)| bytes).collect();
    assert!(!valid.is_empty(), "{target} has no valid files");
    valid
}

/// The files of a target's corpus, in the order of their names.
fn corpus(target: &str) -> Vec<(String, Vec<u8>)> {
    let mut files = Vec::new();
    for file in std::fs::read_dir(folder(target)).expect("a committed corpus") {
        let path = file.expect("a readable folder").path();
        let name = path.file_name().expect("a file").to_string_lossy().into_owned();
        files.push((name, std::fs::read(&path).expect("a readable file")));
    }
    files.sort();
    files
}

fn folder(target: &str) -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "tests/__fuzz__", target, "corpus"].iter().collect()
}
