//! A running `lateen-proxy`, seen from outside: what it prints, its admin endpoint, its access log,
//! its memory and its exit code.

use crate::binary;
use crate::control::Control;
use crate::http::{self, Response};
use crate::metrics::Scrape;
use crate::wait::{PATIENCE, eventually, within};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, mpsc};
use std::thread::{self, JoinHandle};
use std::time::Duration;
use tempfile::TempDir;

/// The I/O engine to run on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Engine {
    /// io_uring. Where it is not allowed the proxy does not start, and the test fails with its
    /// reason.
    Uring,
    /// epoll.
    Epoll,
    /// What the proxy chooses itself.
    Auto,
}

impl Engine {
    /// Its name as a value of `--engine`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Uring => "uring",
            Self::Epoll => "epoll",
            Self::Auto => "auto",
        }
    }
}

/// Makes a test of each function for each engine: `uring::name` and `epoll::name`.
#[macro_export]
macro_rules! on_both_engines {
    ($($name:ident),+ $(,)?) => {
        mod uring {
            $(#[test] fn $name() { super::$name($crate::proxy::Engine::Uring); })+
        }
        mod epoll {
            $(#[test] fn $name() { super::$name($crate::proxy::Engine::Epoll); })+
        }
    };
}

const DETECT_TIMEOUT: &str = "--detect-timeout";

/// Far longer than a client is silent because its machine has stalled: after the detect timeout it would get
/// an upstream's connection of its own, and others one more.
const LATE: &str = "60s";

/// As without the flag.
const SOON: &str = "50ms";

/// The flags of a proxy that is about to start. Unless told otherwise by `--detect-timeout`, it waits for a
/// client's first bytes for longer than any test does.
#[derive(Debug)]
pub struct Launch {
    command: &'static str,
    listen: Vec<String>,
    flags: Vec<String>,
    workers: usize,
    io_uring_forbidden: bool,
    descriptors_max: Option<u32>,
}

impl Launch {
    /// `quick` with one worker, a free port on 127.0.0.1, and these endpoints.
    pub fn new(engine: Engine, upstreams: &[SocketAddr]) -> Self {
        let upstreams: Vec<String> = upstreams.iter().map(SocketAddr::to_string).collect();
        let flags = ["--engine", engine.name(), "--upstream", &upstreams.join(",")];
        let flags = flags.map(str::to_owned).into();
        Self {
            command: "quick",
            listen: Vec::new(),
            flags,
            workers: 1,
            io_uring_forbidden: false,
            descriptors_max: None,
        }
    }

    /// `run` with one worker under this control plane.
    pub fn under(engine: Engine, control: &Control) -> Self {
        Self::joining(engine, "test", &control.socket(), &control.state())
    }

    /// `run` as the proxy `name` with one worker, under whoever listens at `socket`.
    pub fn joining(engine: Engine, name: &str, socket: &Path, state: &Path) -> Self {
        let flags = [
            "--engine",
            engine.name(),
            "--name",
            name,
            "--control",
            &socket.to_string_lossy(),
            "--state",
            &state.to_string_lossy(),
        ];
        let flags = flags.map(str::to_owned).into();
        Self {
            command: "run",
            listen: Vec::new(),
            flags,
            workers: 1,
            io_uring_forbidden: false,
            descriptors_max: None,
        }
    }

    /// Adds a flag with its value.
    pub fn with(mut self, flag: &str, value: impl ToString) -> Self {
        self.flags.extend([flag.to_owned(), value.to_string()]);
        self
    }

    /// Connects an upstream for whoever has said nothing for a moment.
    pub fn detecting_soon(self) -> Self {
        self.with(DETECT_TIMEOUT, SOON)
    }

    /// Adds a flag that has no value.
    pub fn with_switch(mut self, flag: &str) -> Self {
        self.flags.push(flag.to_owned());
        self
    }

    /// Listens there, instead of on a free port on 127.0.0.1.
    pub fn listening(mut self, address: &str) -> Self {
        self.listen.push(address.to_owned());
        self
    }

    /// Runs this many workers.
    pub fn workers(mut self, count: usize) -> Self {
        self.workers = count;
        self
    }

    /// Runs it where the kernel refuses io_uring, as in most containers.
    pub fn forbidding_io_uring(mut self) -> Self {
        self.io_uring_forbidden = true;
        self
    }

    /// Gives it no more descriptors than so many.
    pub fn limiting_descriptors(mut self, most: u32) -> Self {
        self.descriptors_max = Some(most);
        self
    }

    /// Starts it and waits until it accepts on all its addresses.
    ///
    /// # Panics
    /// When it ends or stays silent instead: the message has what it said.
    pub fn start(mut self) -> Proxy {
        if self.listen.is_empty() && self.command == "quick" {
            self.listen.push("127.0.0.1:0".to_owned());
        }
        if !self.flags.iter().any(|flag| flag == DETECT_TIMEOUT) {
            self = self.with(DETECT_TIMEOUT, LATE);
        }
        let folder = tempfile::tempdir().expect("a temporary folder");
        let access_log = folder.path().join("access.log");
        let mut command = match (self.io_uring_forbidden, self.descriptors_max) {
            (true, _) => proxy_without_io_uring(),
            (false, None) => Command::new(binary::proxy()),
            (false, Some(most)) => {
                let mut shell = Command::new("sh");
                shell.args(["-c", "ulimit -n \"$0\" && exec \"$@\"", &most.to_string()]);
                shell.arg(binary::proxy());
                shell
            }
        };
        command.arg(self.command);
        for address in &self.listen {
            command.args(["--listen", address]);
        }
        command.args(&self.flags).args(["--workers", &self.workers.to_string()]);
        command.arg("--access-log").arg(&access_log);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("the proxy's binary runs");

        let lines = lines_of(child.stdout.take().expect("stdout is piped"));
        let said = Said::new(child.stderr.take().expect("stderr is piped"));
        let mut proxy =
            Proxy { child, addresses: Vec::new(), admin: None, access_log, said, _folder: folder };
        while proxy.addresses.len() < self.listen.len() || proxy.admin.is_none() {
            match lines.recv_timeout(PATIENCE) {
                Ok(line) => proxy.read_start_line(&line),
                Err(error) => {
                    panic!("the proxy did not start ({error}); it said:\n{}", proxy.said())
                }
            }
        }
        proxy
    }
}

/// The proxy under a filter that answers EPERM to the system calls of io_uring.
pub fn proxy_without_io_uring() -> Command {
    // Debian's own Python, as everywhere here.
    let mut command = Command::new("/usr/bin/python3");
    command
        .arg(binary::repository().join("tests/clients/without_io_uring.py"))
        .arg(binary::proxy());
    command
}

/// A running proxy; killed when dropped.
#[derive(Debug)]
pub struct Proxy {
    child: Child,
    addresses: Vec<SocketAddr>,
    admin: Option<SocketAddr>,
    access_log: PathBuf,
    said: Said,
    _folder: TempDir,
}

impl Proxy {
    /// A proxy with nothing special about it.
    pub fn start(engine: Engine, upstreams: &[SocketAddr]) -> Self {
        Launch::new(engine, upstreams).start()
    }

    /// Its first address.
    pub fn address(&self) -> SocketAddr {
        self.addresses[0]
    }

    /// All addresses, in the order in which they were printed.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// `http://<address><target>`
    pub fn url(&self, target: &str) -> String {
        format!("http://{}{target}", self.address())
    }

    /// Address of the admin endpoint.
    pub fn admin(&self) -> SocketAddr {
        self.admin.expect("it was printed before the test began")
    }

    /// Asks the admin endpoint.
    pub fn ask_admin(&self, target: &str) -> Response {
        http::get(self.admin(), target)
    }

    /// Process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// All of stderr so far; the whole of it once the proxy was seen to end.
    pub fn said(&self) -> String {
        self.said.so_far()
    }

    /// Waits until stderr has all these words: the thread that reads it may be behind.
    ///
    /// # Panics
    /// When it never has.
    pub fn await_words(&self, words: &[&str]) {
        let has_all = || words.iter().all(|word| self.said().contains(word)).then_some(());
        if within(PATIENCE, has_all).is_none() {
            panic!("not all of {words:?} in:\n{}", self.said());
        }
    }

    /// Scrapes the metrics.
    pub fn metrics(&self) -> Scrape {
        let response = self.ask_admin("/metrics");
        assert_eq!(response.status, 200);
        Scrape::parse(&String::from_utf8(response.body).expect("metrics are text"))
    }

    /// Waits until the samples with these labels sum up to `value`. A counter may be counted a
    /// moment after the client has its answer.
    ///
    /// # Panics
    /// When they don't, with what they are.
    pub fn await_metric(&self, name: &str, labels: &[(&str, &str)], value: f64) {
        let found = || self.metrics().sum(name, labels);
        if within(PATIENCE, || (found() == value).then_some(())).is_none() {
            panic!("{name}{labels:?} is {}, should be {value}", found());
        }
    }

    /// Path of the access log.
    pub fn access_log_path(&self) -> &Path {
        &self.access_log
    }

    /// The access log's lines, once there are `count`.
    ///
    /// # Panics
    /// When there are more, or a line is no JSON.
    pub fn access_log(&self, count: usize) -> Vec<Value> {
        let read = || std::fs::read_to_string(&self.access_log).unwrap_or_default();
        let text = eventually(&format!("{count} lines in the access log"), || {
            Some(read()).filter(|text| text.ends_with('\n') && text.lines().count() >= count)
        });
        assert_eq!(text.lines().count(), count, "more lines than requests:\n{text}");
        text.lines()
            .map(|line| {
                serde_json::from_str(line).unwrap_or_else(|error| panic!("{error} in {line}"))
            })
            .collect()
    }

    /// The only line of the access log, once it is there.
    pub fn only_access_log_line(&self) -> Value {
        self.access_log(1).remove(0)
    }

    /// One response carries this flag, in the access log and in the metrics.
    pub fn assert_flagged(&self, flag: &str) {
        assert_eq!(self.only_access_log_line()["flags"], flag);
        self.await_metric("response_flags_total", &[("flag", flag)], 1.0);
        self.await_metric("response_flags_total", &[], 1.0);
    }

    /// Resident memory in bytes.
    pub fn resident_bytes(&self) -> u64 {
        let path = format!("/proc/{}/status", self.pid());
        let status = std::fs::read_to_string(path).expect("the proxy runs");
        let line =
            status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a VmRSS line");
        let kib: u64 =
            line.trim().trim_end_matches(" kB").parse().expect("VmRSS is a number of kB");
        kib * 1024
    }

    /// How many descriptors it has open.
    pub fn descriptors(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.pid())).expect("the proxy runs").count()
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        let pid =
            Pid::from_raw(self.pid().try_into().expect("a pid is positive")).expect("not zero");
        kill_process(pid, signal).expect("the proxy still runs");
    }

    /// Waits until it ends by itself; `None` when it still runs after `limit`.
    pub fn exit_within(&mut self, limit: Duration) -> Option<ExitStatus> {
        let status = within(limit, || self.child.try_wait().expect("it is our child"))?;
        assert!(self.said.ends(), "stderr of a proxy that ended is still open");
        Some(status)
    }

    /// Waits until it ends by itself, and returns its exit code.
    ///
    /// # Panics
    /// When it does not, or a signal ended it.
    pub fn exit_code(&mut self) -> i32 {
        let status =
            self.exit_within(PATIENCE).unwrap_or_else(|| panic!("still running:\n{}", self.said()));
        status.code().unwrap_or_else(|| panic!("ended by a signal: {status}"))
    }

    fn read_start_line(&mut self, line: &str) {
        let address =
            |text: &str| text.parse().unwrap_or_else(|_| panic!("no address in {line:?}"));
        if let Some(text) = line.strip_prefix("listening ") {
            self.addresses.push(address(text));
        } else if let Some(text) = line.strip_prefix("admin ") {
            self.admin = Some(address(text));
        }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        // Both fail where it ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
        self.said.ends();
        let said = self.said();
        if thread::panicking() {
            #[expect(clippy::print_stderr, reason = "a failed test shows what the proxy said")]
            {
                eprintln!("--- the proxy said:\n{said}---");
            }
        } else {
            assert!(!said.contains("panicked"), "something panicked in the proxy:\n{said}");
        }
    }
}

/// The lines of a stream as they come; it is read to its end also when nobody listens.
pub fn lines_of(stream: impl Read + Send + 'static) -> mpsc::Receiver<String> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        for line in BufReader::new(stream).lines().map_while(Result::ok) {
            let _ = sender.send(line);
        }
    });
    receiver
}

/// The text of a stream as it grows.
#[derive(Debug)]
struct Said {
    text: Arc<Mutex<String>>,
    reader: JoinHandle<()>,
}

impl Said {
    fn new(mut stream: impl Read + Send + 'static) -> Self {
        let text = Arc::new(Mutex::new(String::new()));
        let grown = text.clone();
        let reader = thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(count @ 1..) = stream.read(&mut buffer) {
                let mut text = grown.lock().expect("nobody panics while holding it");
                text.push_str(&String::from_utf8_lossy(&buffer[..count]));
            }
        });
        Self { text, reader }
    }

    fn so_far(&self) -> String {
        self.text.lock().expect("the reader does not panic").clone()
    }

    /// Waits for the stream's end: whoever wrote to it may be gone before all was read. Whether it
    /// came.
    fn ends(&self) -> bool {
        within(PATIENCE, || self.reader.is_finished().then_some(())).is_some()
    }
}
