//! Starts what the tests look at: the upstream, the load, and servers that say what they are told.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;

use lateen_bench::load::summary::LoadReport;
use rustix::process::{Pid, Signal, kill_process};
use socket2::{Domain, Socket, Type};

/// Both engines: what holds for one holds for the other.
pub(crate) const ENGINES: [&str; 2] = ["uring", "epoll"];

pub(crate) fn bench() -> Command {
    Command::new(env!("CARGO_BIN_EXE_lateen-bench"))
}

/// A running `lateen-bench upstream`, which ends with the value.
pub(crate) struct Upstream {
    child: Child,
    output: BufReader<ChildStdout>,
    address: SocketAddr,
}

impl Upstream {
    /// On a port of its own.
    pub(crate) fn start(arguments: &[&str]) -> Self {
        let mut child = bench()
            .args(["upstream", "--listen", "127.0.0.1:0"])
            .args(arguments)
            .stdout(Stdio::piped())
            .spawn()
            .expect("the upstream starts");
        let mut output = BufReader::new(child.stdout.take().expect("it is piped"));
        let mut line = String::new();
        output.read_line(&mut line).expect("a line");
        let address = line.strip_prefix("listening ").expect(&line).trim();
        Self { address: address.parse().expect(&line), child, output }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Ends it with a signal: how many answers it gave, on how many connections.
    pub(crate) fn stop(mut self, signal: Signal) -> (u64, u64) {
        kill_process(Pid::from_child(&self.child), signal).expect("it runs");
        let mut rest = String::new();
        self.output.read_to_string(&mut rest).expect("text");
        let status = self.child.wait().expect("it ends");
        assert!(status.success(), "{status}");
        let words: Vec<&str> = rest.split_whitespace().collect();
        let ["answered", answers, "on", connections, "connections"] = words[..] else {
            panic!("{rest}")
        };
        (answers.parse().expect("a number"), connections.parse().expect("a number"))
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What `lateen-bench load` said.
pub(crate) struct Loaded {
    pub(crate) code: Option<i32>,
    pub(crate) report: LoadReport,
    /// What people read.
    pub(crate) text: String,
}

impl Loaded {
    pub(crate) fn count(&self, of: &str) -> u64 {
        let report = &self.report;
        let counts = [&report.errors, &report.wrong, &report.statuses];
        counts.iter().find_map(|counts| counts.get(of)).copied().unwrap_or(0)
    }

    /// Requests that are over, however they ended.
    pub(crate) fn over(&self) -> u64 {
        let report = &self.report;
        report.requests + report.errors.values().sum::<u64>() + report.wrong.values().sum::<u64>()
    }
}

/// Runs a load to its end.
pub(crate) fn load(arguments: &[&str]) -> Loaded {
    let output = bench()
        .arg("load")
        .args(arguments)
        .args(["--json", "-"])
        .output()
        .expect("the load starts");
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    let report = serde_json::from_slice(&output.stdout).unwrap_or_else(|error| {
        panic!("{error} in {:?}; {text}", output.stdout.escape_ascii().to_string())
    });
    Loaded { code: output.status.code(), report, text }
}

/// A server that reads heads of requests without bodies, and says what it is told.
pub(crate) struct Canned {
    pub(crate) address: SocketAddr,
    /// Where its clients came from.
    pub(crate) peers: Arc<Mutex<Vec<SocketAddr>>>,
}

impl Canned {
    /// Answers every request with `answer`; then ends the connection, or not.
    pub(crate) fn start(answer: &[u8], closes: bool) -> Self {
        let answer = answer.to_vec();
        Self::serve(move |mut stream| {
            while read_head(&mut stream) {
                if stream.write_all(&answer).is_err() || closes {
                    break;
                }
            }
        })
    }

    /// Gives each connection to `handle`, on a thread of its own.
    pub(crate) fn serve(handle: impl Fn(TcpStream) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("bound");
        let peers = Arc::new(Mutex::new(Vec::new()));
        let (seen, handle) = (peers.clone(), Arc::new(handle));
        thread::spawn(move || {
            while let Ok((stream, peer)) = listener.accept() {
                seen.lock().expect("no panic").push(peer);
                let handle = handle.clone();
                thread::spawn(move || handle(stream));
            }
        });
        Self { address, peers }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}/", self.address)
    }
}

/// Reads up to an empty line; whether there was one.
pub(crate) fn read_head(stream: &mut TcpStream) -> bool {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read(&mut byte) {
            Ok(1) => head.push(byte[0]),
            _ => return false,
        }
    }
    true
}

/// Starts a server that can't choose its own port, and waits until it accepts.
pub(crate) fn start_on_free_port(command: impl FnOnce(u16) -> Command) -> (Child, u16) {
    // Bound, so that no other test gets it, which servers don't mind that set SO_REUSEADDR too; but no
    // listener: that would live on for a moment in a program that another thread starts just now, and
    // accept in this one's stead.
    let free = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    free.set_reuse_address(true).expect("a TCP socket");
    free.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).expect("a port");
    let address = free.local_addr().ok().and_then(|address| address.as_socket()).expect("bound");
    let mut child = command(address.port()).spawn().expect("the program is needed");
    while TcpStream::connect(address).is_err() {
        let ended = child.try_wait().expect("ours");
        assert!(ended.is_none(), "the program ended before it accepted: {ended:?}");
        thread::yield_now();
    }
    (child, address.port())
}

/// Runs a program of the machine; what it says on stdout.
pub(crate) fn run(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .unwrap_or_else(|error| panic!("{program} is needed: {error}"));
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments:?}: {}\n{error}", output.status);
    String::from_utf8(output.stdout).expect("text")
}

/// curl, told to be quiet and to use no proxy.
pub(crate) fn curl(arguments: &[&str]) -> String {
    run("curl", &[&["-sS", "--noproxy", "*", "--max-time", "60"], arguments].concat())
}
