//! Against real folders.

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::source::folder::{BYTES_MAX, FILES_MAX, File, SourceError, read};
use crate::source::{Reading, run};

/// Longer than any of this takes, so that only a test that would hang fails by it.
const DEADLINE: Duration = Duration::from_secs(30);

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().expect("there is room")
}

fn write(path: impl AsRef<Path>, text: &str) {
    fs::write(path, text).expect("there is room");
}

fn files(files: &[(&str, &str)]) -> Vec<File> {
    files.iter().map(|(name, text)| File { name: (*name).into(), text: (*text).into() }).collect()
}

#[test]
fn reads_declared_files_in_order_and_nothing_else() {
    let folder = folder();
    let at = |name: &str| folder.path().join(name);
    for name in ["b.yml", "a.yaml", "c.json", ".hidden.yaml", "a.yaml~", "readme.md", "yaml"] {
        write(at(name), name);
    }
    fs::create_dir(at("folder.yaml")).expect("there is room");
    write(at("folder.yaml/inner.yaml"), "inner");
    symlink("readme.md", at("link.yaml")).expect("there is room");
    assert_eq!(
        read(folder.path()).expect("all can be read"),
        files(&[
            ("a.yaml", "a.yaml"),
            ("b.yml", "b.yml"),
            ("c.json", "c.json"),
            ("link.yaml", "readme.md")
        ])
    );
}

#[test]
fn reads_an_empty_folder() {
    assert_eq!(read(folder().path()), Ok(vec![]));
}

#[test]
fn names_what_cannot_be_read() {
    let folder = folder();
    let absent = folder.path().join("absent");
    let error = read(&absent).expect_err("it is not there").to_string();
    assert!(error.contains("absent: No such file"), "{error}");

    write(folder.path().join("a.yaml"), "a");
    symlink("nowhere", folder.path().join("b.yaml")).expect("there is room");
    let error = read(folder.path()).expect_err("a link leads nowhere").to_string();
    assert!(error.contains("b.yaml: No such file"), "{error}");

    fs::remove_file(folder.path().join("b.yaml")).expect("it is there");
    fs::write(folder.path().join("c.yaml"), [0xff, 0xfe]).expect("there is room");
    let error = read(folder.path()).expect_err("it is no text").to_string();
    assert!(error.ends_with("c.yaml is not UTF-8 text"), "{error}");

    fs::remove_file(folder.path().join("c.yaml")).expect("it is there");
    let name = std::ffi::OsStr::from_bytes(b"\xff.yaml");
    fs::write(folder.path().join(name), "d").expect("there is room");
    assert!(matches!(read(folder.path()), Err(SourceError::NotText { .. })));
}

#[test]
fn refuses_too_many_files_and_too_many_bytes() {
    let large = folder();
    for name in ["a.yaml", "b.yaml"] {
        let file = fs::File::create(large.path().join(name)).expect("there is room");
        file.set_len(BYTES_MAX / 2 + 1).expect("it has holes only");
    }
    assert!(matches!(read(large.path()), Err(SourceError::TooLarge { .. })));
    let many = folder();
    write(many.path().join("a"), "");
    for n in 0..=FILES_MAX {
        symlink("a", many.path().join(format!("{n}.yaml"))).expect("there is room");
    }
    assert!(matches!(read(many.path()), Err(SourceError::TooMany { .. })));
}

/// A folder that is watched, and what was told of it.
struct Watching {
    readings: watch::Receiver<Reading>,
    running: JoinHandle<()>,
}

impl Watching {
    async fn start(folder: &Path) -> Self {
        let (told, readings) = watch::channel(None);
        let running = tokio::spawn(run(folder.to_owned(), told));
        Self { readings, running }
    }

    /// What is told next.
    async fn next(&mut self) -> Result<Vec<File>, SourceError> {
        let told = timeout(DEADLINE, self.readings.changed()).await.expect("it comes");
        told.expect("the folder is watched");
        let reading = self.readings.borrow_and_update().clone().expect("something was told");
        reading.map(|files| files.to_vec())
    }

    /// Waits until this is told.
    async fn expect(&mut self, expected: &[(&str, &str)]) {
        let expected = files(expected);
        while self.next().await.as_ref() != Ok(&expected) {}
    }

    async fn end(self) {
        drop(self.readings);
        timeout(DEADLINE, self.running).await.expect("it ends").expect("it did not panic");
    }
}

#[tokio::test]
async fn tells_of_files_that_are_written_replaced_and_removed() {
    let folder = folder();
    let at = |name: &str| folder.path().join(name);
    let mut watching = Watching::start(folder.path()).await;
    watching.expect(&[]).await;
    write(at("a.yaml"), "1");
    watching.expect(&[("a.yaml", "1")]).await;
    write(at("a.yaml"), "2");
    watching.expect(&[("a.yaml", "2")]).await;
    write(at(".a.yaml.new"), "3");
    fs::rename(at(".a.yaml.new"), at("a.yaml")).expect("it is there");
    watching.expect(&[("a.yaml", "3")]).await;
    fs::rename(at("a.yaml"), at("b.yaml")).expect("it is there");
    watching.expect(&[("b.yaml", "3")]).await;
    fs::remove_file(at("b.yaml")).expect("it is there");
    watching.expect(&[]).await;
    watching.end().await;
}

/// As the kubelet does it: a new folder, a link to it beside the old link, a rename over that.
fn swap(folder: &Path, version: &str, all: &[(&str, &str)]) {
    let data = folder.join(format!("..{version}"));
    fs::create_dir(&data).expect("there is room");
    for (name, text) in all {
        write(data.join(name), text);
    }
    symlink(format!("..{version}"), folder.join("..data_tmp")).expect("there is room");
    fs::rename(folder.join("..data_tmp"), folder.join("..data")).expect("it is there");
    for (name, _) in all {
        // The first time only.
        let _ = symlink(format!("..data/{name}"), folder.join(name));
    }
}

#[tokio::test]
async fn follows_the_swap_of_a_config_map_and_never_mixes_two_versions() {
    let folder = folder();
    fn all(text: &str) -> [(&'static str, &str); 2] {
        [("a.yaml", text), ("b.yaml", text)]
    }
    swap(folder.path(), "0", &all("0"));
    let mut watching = Watching::start(folder.path()).await;
    watching.expect(&all("0")).await;
    for version in 1..=20_u32 {
        let old = folder.path().join(format!("..{}", version - 1));
        let version = version.to_string();
        swap(folder.path(), &version, &all(&version));
        fs::remove_dir_all(old).expect("it is there");
        loop {
            let read = watching.next().await.expect("it can be read");
            assert_eq!(read[0].text, read[1].text, "both files are of one version");
            if read[0].text == version {
                break;
            }
        }
    }
    watching.end().await;
}

#[tokio::test]
async fn tells_nothing_when_nothing_is_different() {
    let folder = folder();
    let at = |name: &str| folder.path().join(name);
    write(at("a.yaml"), "1");
    let mut watching = Watching::start(folder.path()).await;
    assert_eq!(watching.next().await, Ok(files(&[("a.yaml", "1")])));
    write(at(".unread"), "2");
    write(at("unread.txt"), "2");
    let same = fs::File::open(at("a.yaml")).expect("it is there");
    same.set_modified(std::time::SystemTime::UNIX_EPOCH).expect("it is ours");
    // The folder was read since: that is why this one is seen.
    write(at("b.yaml"), "2");
    let next = watching.next().await.expect("it can be read");
    assert_eq!(next[0], files(&[("a.yaml", "1")])[0]);
    assert_eq!(next.len(), 2, "nothing was told in between");
    watching.end().await;
}

#[tokio::test]
async fn finds_a_folder_again_that_was_replaced() {
    let parent = folder();
    let folder = parent.path().join("config");
    let mut watching = Watching::start(&folder).await;
    assert!(matches!(watching.next().await, Err(SourceError::Unreadable { .. })));
    fs::create_dir(&folder).expect("there is room");
    watching.expect(&[]).await;
    write(folder.join("a.yaml"), "1");
    watching.expect(&[("a.yaml", "1")]).await;
    fs::remove_dir_all(&folder).expect("it is there");
    while watching.next().await.is_ok() {}
    fs::create_dir(&folder).expect("there is room");
    write(folder.join("a.yaml"), "2");
    watching.expect(&[("a.yaml", "2")]).await;
    write(folder.join("a.yaml"), "3");
    watching.expect(&[("a.yaml", "3")]).await;
    watching.end().await;
}
