//! `lateen demo`: that it shows what it says, loses nothing, and leaves nothing behind.

use lateen_tests::binary;
use lateen_tests::wait::{eventually, within};
use rustix::process::{Pid, Signal, kill_process};
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::Duration;
use tempfile::TempDir;

/// The whole demo, and whatever it waits for on a busy machine.
const PATIENCE: Duration = Duration::from_secs(180);

/// Marks a demo and all its processes, which inherit it.
const MARK: &str = "LATEEN_TEST_MARK";

/// A demo that runs, with a folder of its own for its temporary files.
struct Demo {
    child: Child,
    lines: BufReader<std::process::ChildStdout>,
    mark: String,
    temporary: TempDir,
}

impl Demo {
    fn start() -> Self {
        let temporary = tempfile::tempdir().expect("a temporary folder");
        let mark = format!("{MARK}={}", temporary.path().display());
        let mut child = Command::new(binary::lateen())
            .args(["demo", "--quick"])
            .env(MARK, temporary.path())
            .env("TMPDIR", temporary.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary runs");
        let lines = BufReader::new(child.stdout.take().expect("stdout is piped"));
        Self { child, lines, mark, temporary }
    }

    /// Reads on until a line contains `text`.
    fn read_until(&mut self, text: &str) {
        let mut said = String::new();
        while !said.lines().last().is_some_and(|line| line.contains(text)) {
            let read = self.lines.read_line(&mut said).expect("the output is text");
            assert!(read > 0, "it ended before {text:?}:\n{said}");
        }
    }

    /// The pids of all its processes, itself among them.
    fn processes(&self) -> Vec<u32> {
        let pids = fs::read_dir("/proc").expect("there is /proc").flatten();
        let pids = pids.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
        pids.filter(|pid| {
            // One that is gone meanwhile, or is someone else's, is none of them.
            let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
            environment.split(|byte| *byte == 0).any(|entry| entry == self.mark.as_bytes())
        })
        .collect()
    }

    fn signal(&self, signal: Signal) {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, signal).expect("it runs");
    }

    /// Waits for its end; what it said last on both outputs.
    fn ended(&mut self) -> (ExitStatus, String) {
        let mut errors = self.child.stderr.take().expect("stderr is piped");
        let reading = thread::spawn(move || {
            let mut text = String::new();
            errors.read_to_string(&mut text).map(|_| text)
        });
        let mut said = String::new();
        self.lines.read_to_string(&mut said).expect("the output is text");
        let errors = reading.join().expect("reading does not panic").expect("the errors are text");
        let status = within(PATIENCE, || self.child.try_wait().expect("it is ours"));
        (status.expect("it ends when its output has"), said + &errors)
    }

    fn assert_nothing_is_left(&self) {
        eventually("all its processes are gone", || self.processes().is_empty().then_some(()));
    }

    fn leftovers(&self) -> usize {
        fs::read_dir(self.temporary.path()).expect("the folder is there").count()
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        // Gone already, but for a test that failed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn shows_every_act_and_loses_no_request() {
    let mut demo = Demo::start();
    let (status, said) = demo.ended();
    assert!(status.success(), "{status}\n{said}");
    for act in ["steady", "canary", "bad config", "rollback", "kill -9"] {
        let is_well = said.lines().any(|line| line.starts_with(&format!("ok     {act} ")));
        assert!(is_well, "{act}:\n{said}");
    }
    assert!(said.contains("did you mean `weight`?"), "{said}");
    assert!(said.contains(", lost 0, failed 0;"), "{said}");
    assert!(said.ends_with("All was well.\n"), "{said}");
    demo.assert_nothing_is_left();
    assert_eq!(demo.leftovers(), 0, "its folder is gone");
}

#[test]
fn an_interrupt_ends_everything() {
    let mut demo = Demo::start();
    demo.read_until("A steady mesh");
    assert_eq!(demo.processes().len(), 13, "the demo, a control plane, 6 proxies, 5 apps");
    demo.signal(Signal::INT);
    let (status, said) = demo.ended();
    assert_eq!(status.code(), Some(1), "{said}");
    assert!(said.ends_with("error: ended before the show was over, as asked\n"), "{said}");
    demo.assert_nothing_is_left();
    assert_eq!(demo.leftovers(), 0, "its folder is gone");
}

#[test]
fn no_process_outlives_a_demo_that_is_killed() {
    let mut demo = Demo::start();
    demo.read_until("A steady mesh");
    demo.signal(Signal::KILL);
    demo.ended();
    demo.assert_nothing_is_left();
}
