//! The writer's thread against a real file, a slow output and a failing one.

use std::fs;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use super::*;
use crate::observe::access_log::Entry;

const PATIENCE: Duration = Duration::from_secs(20);

fn entry(path: &[u8]) -> Entry<'_> {
    Entry {
        time_us: 0,
        request_id: b"id",
        downstream: "127.0.0.1:1".parse().expect("an address"),
        upstream: None,
        method: b"GET",
        authority: b"a",
        path,
        version: "HTTP/1.1",
        status: 200,
        flag: None,
        request_bytes: 0,
        response_bytes: 0,
        total_us: 0,
        upstream_us: None,
        processing_us: 0,
        retries: 0,
        epoch: lateen_snapshot::model::Epoch::default(),
    }
}

fn record(buffer: &mut AccessLogBuffer, path: &str) {
    buffer.record(&entry(path.as_bytes()));
    buffer.flush();
}

fn paths(text: &str) -> Vec<String> {
    let path = |line: &str| -> String {
        let value: serde_json::Value = serde_json::from_str(line).expect("a line is JSON");
        value["path"].as_str().expect("a path").to_owned()
    };
    text.lines().map(path).collect()
}

/// Waits for what another thread does; fails after [`PATIENCE`].
fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = std::time::Instant::now() + PATIENCE;
    while !holds() {
        assert!(std::time::Instant::now() < deadline, "waited too long until {what}");
        std::thread::yield_now();
    }
}

#[test]
fn lines_of_all_workers_reach_the_file_before_close_returns() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("access.json");
    fs::write(&path, "{\"path\":\"/before\"}\n").expect("a file");
    let metrics = Metrics::new(2);
    let log = AccessLog::start(&AccessLogTarget::File(path.clone()), 2, metrics.clone())
        .expect("the file opens")
        .expect("the log is on");
    let workers: Vec<_> = (0..2)
        .map(|worker| {
            let mut buffer = log.buffer(worker);
            std::thread::spawn(move || {
                for request in 0..2_000 {
                    buffer.record(&entry(format!("/{worker}/{request}").as_bytes()));
                }
                buffer.flush();
            })
        })
        .collect();
    for worker in workers {
        worker.join().expect("the worker ends well");
    }
    assert!(log.close(PATIENCE));
    let text = fs::read_to_string(&path).expect("the file is there");
    let dropped: u64 = metrics.workers().map(|worker| worker.access_log_dropped.value()).sum();
    let written = paths(&text);
    assert_eq!(written.first().map(String::as_str), Some("/before"), "appended, not truncated");
    assert_eq!(written.len() as u64 + dropped, 4_001);
    for worker in 0..2 {
        let prefix = format!("/{worker}/");
        let requests = written.iter().filter_map(|path| path.strip_prefix(&prefix)?.parse().ok());
        let requests: Vec<u32> = requests.collect();
        assert!(requests.is_sorted(), "one worker's lines keep their order");
    }
}

#[test]
fn a_renamed_file_is_let_go_on_reopen() {
    let directory = tempfile::tempdir().expect("a directory");
    let (path, rotated) = (directory.path().join("log"), directory.path().join("log.1"));
    let log = AccessLog::start(&AccessLogTarget::File(path.clone()), 1, Metrics::new(1))
        .expect("the file opens")
        .expect("the log is on");
    let mut buffer = log.buffer(0);
    record(&mut buffer, "/first");
    wait_until("the first line is written", || {
        fs::metadata(&path).is_ok_and(|file| file.len() > 0)
    });
    fs::rename(&path, &rotated).expect("a rename");
    log.reopen();
    wait_until("the file is made anew", || path.exists());
    record(&mut buffer, "/second");
    drop(buffer);
    assert!(log.close(PATIENCE));
    assert_eq!(paths(&fs::read_to_string(&rotated).expect("rotated")), ["/first"]);
    assert_eq!(paths(&fs::read_to_string(&path).expect("new")), ["/second"]);
}

#[test]
fn the_old_file_stays_in_use_when_reopening_fails() {
    let directory = tempfile::tempdir().expect("a directory");
    let folder = directory.path().join("logs");
    fs::create_dir(&folder).expect("a folder");
    let log = AccessLog::start(&AccessLogTarget::File(folder.join("log")), 1, Metrics::new(1))
        .expect("the file opens")
        .expect("the log is on");
    let moved = directory.path().join("moved");
    fs::rename(&folder, &moved).expect("a rename");
    log.reopen();
    let mut buffer = log.buffer(0);
    record(&mut buffer, "/kept");
    drop(buffer);
    assert!(log.close(PATIENCE));
    assert_eq!(paths(&fs::read_to_string(moved.join("log")).expect("old")), ["/kept"]);
}

#[test]
fn a_path_that_cannot_be_opened_is_an_error_that_says_how_to_mend_it() {
    let path = PathBuf::from("/nonexistent/access.json");
    let error = AccessLog::start(&AccessLogTarget::File(path), 1, Metrics::new(1))
        .expect_err("the folder is missing");
    let text = error.to_string();
    assert!(text.contains("/nonexistent/access.json") && text.contains("--access-log"), "{text}");
    assert_eq!(text.lines().count(), 1);
}

#[test]
fn off_starts_nothing() {
    let log = AccessLog::start(&AccessLogTarget::Off, 1, Metrics::new(1)).expect("nothing to open");
    assert!(log.is_none());
}

/// An output that fails or blocks on demand and keeps what it was given.
#[derive(Clone, Debug, Default)]
struct Scripted {
    written: Arc<Mutex<Vec<u8>>>,
    failing: Arc<AtomicBool>,
    /// Held by the test, a write blocks.
    gate: Arc<Mutex<()>>,
}

impl Write for Scripted {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let _open = self.gate.lock().expect("no test panics while it holds the gate");
        if self.failing.load(Ordering::SeqCst) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.written.lock().expect("never poisoned").extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl TestOutput for Scripted {}

impl Scripted {
    fn text(&self) -> String {
        let bytes = self.written.lock().expect("never poisoned").clone();
        String::from_utf8(bytes).expect("lines are UTF-8")
    }
}

#[test]
fn a_stuck_disk_never_blocks_a_worker() {
    let output = Scripted::default();
    let metrics = Metrics::new(1);
    let stuck = output.gate.lock().expect("not poisoned");
    let boxed = Output::Test(Box::new(output.clone()));
    let log = AccessLog::start_on(boxed, 1, Arc::clone(&metrics));
    let mut buffer = log.buffer(0);
    let sent = 100 * limits::ACCESS_LOG_QUEUE_PER_WORKER as u64;
    for _ in 0..sent {
        record(&mut buffer, "/");
    }
    let dropped = metrics.worker(0).access_log_dropped.value();
    let queue = limits::ACCESS_LOG_QUEUE_PER_WORKER as u64;
    assert!((sent - queue - 1..=sent - queue).contains(&dropped), "{dropped} of {sent} dropped");
    drop(stuck);
    drop(buffer);
    assert!(log.close(PATIENCE));
    assert_eq!(paths(&output.text()).len() as u64 + dropped, sent);
}

#[test]
fn close_does_not_wait_for_ever() {
    let output = Scripted::default();
    let _stuck = output.gate.lock().expect("not poisoned");
    let log = AccessLog::start_on(Output::Test(Box::new(output.clone())), 1, Metrics::new(1));
    record(&mut log.buffer(0), "/");
    assert!(!log.close(Duration::from_millis(20)));
}

#[test]
fn failed_writes_are_counted_and_later_lines_stay_whole() {
    let output = Scripted::default();
    let metrics = Metrics::new(1);
    output.failing.store(true, Ordering::SeqCst);
    let boxed = Output::Test(Box::new(output.clone()));
    let log = AccessLog::start_on(boxed, 1, Arc::clone(&metrics));
    let mut buffer = log.buffer(0);
    buffer.record(&entry(b"/lost"));
    buffer.record(&entry(b"/lost"));
    buffer.flush();
    wait_until("both are counted", || metrics.access_log_write_dropped.value() == 2);
    output.failing.store(false, Ordering::SeqCst);
    record(&mut buffer, "/kept");
    drop(buffer);
    assert!(log.close(PATIENCE));
    // The empty line ends what the failed write may have left of a line.
    assert!(output.text().starts_with("\n{"), "{}", output.text());
    assert_eq!(paths(output.text().trim_start()), ["/kept"]);
}

#[test]
fn buffers_come_back_to_the_workers() {
    let output = Scripted::default();
    let log = AccessLog::start_on(Output::Test(Box::new(output)), 1, Metrics::new(1));
    let mut buffer = log.buffer(0);
    record(&mut buffer, "/");
    wait_until("the emptied buffer is back", || !log.recycled.is_empty());
    record(&mut buffer, "/");
    drop(buffer);
    let recycled = log.recycled.clone();
    assert!(log.close(PATIENCE));
    assert_eq!(recycled.len(), 1, "the same buffer went round twice");
}
