//! A staged load, as a tool that measures around it sees it: what has happened when it waits.

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, ChildStdin, ChildStdout, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::programs::{Canned, ENGINES, bench, read_head};

/// A staged load that runs, on two connections.
struct Staged {
    child: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
}

impl Staged {
    fn start(url: &str, arguments: &[&str]) -> Self {
        let mut child = bench()
            .args(["load", url, "-c", "2", "-t", "2", "--staged"])
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the load starts");
        let stdin = child.stdin.take().expect("it is piped");
        let stdout = BufReader::new(child.stdout.take().expect("it is piped"));
        Self { child, stdin, stdout }
    }

    fn await_line(&mut self, line: &str) {
        let mut found = String::new();
        self.stdout.read_line(&mut found).expect("a line");
        assert_eq!(found, format!("{line}\n"));
    }

    fn go_on(&mut self) {
        writeln!(self.stdin).expect("it waits");
    }

    /// What it says after the last barrier.
    fn rest(mut self) -> String {
        let mut rest = String::new();
        self.stdout.read_to_string(&mut rest).expect("text");
        assert!(self.child.wait().expect("it ends").success(), "{rest}");
        rest
    }
}

/// Requests that came, and connections that ended.
#[derive(Default)]
struct Seen {
    requests: AtomicU64,
    ended: AtomicU64,
}

impl Seen {
    fn requests(&self) -> u64 {
        self.requests.load(Ordering::SeqCst)
    }

    fn ended(&self) -> u64 {
        self.ended.load(Ordering::SeqCst)
    }
}

fn serve() -> (Canned, Arc<Seen>) {
    let seen = Arc::new(Seen::default());
    let of_server = seen.clone();
    let server = Canned::serve(move |mut stream| {
        while read_head(&mut stream) {
            of_server.requests.fetch_add(1, Ordering::SeqCst);
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
        }
        of_server.ended.fetch_add(1, Ordering::SeqCst);
    });
    (server, seen)
}

#[test]
fn connecting_and_warming_up_are_over_before_what_is_measured() {
    for engine in ENGINES {
        let (server, seen) = serve();
        let mut load = Staged::start(&server.url(), &["-n", "20", "--engine", engine]);
        load.await_line("ready");
        let connections = || server.peers.lock().expect("no panic").len();
        assert_eq!((seen.requests(), connections()), (2, 2), "one for each connection");
        load.go_on();
        load.await_line("done");
        assert_eq!((seen.requests(), connections(), seen.ended()), (22, 2, 0));
        load.go_on();
        let text = load.rest();
        assert!(text.contains("requests     20 in") && text.contains("connects     0"), "{text}");
    }
}

#[test]
fn a_warm_up_of_some_time_ends_before_what_is_measured() {
    for (engine, rate) in [("uring", &[][..]), ("epoll", &[]), ("uring", &["-R", "200"])] {
        let (server, seen) = serve();
        let common = ["-d", "200ms", "--warmup", "100ms", "--engine", engine];
        let mut load = Staged::start(&server.url(), &[&common[..], rate].concat());
        load.await_line("ready");
        let warm_up = seen.requests();
        assert!(warm_up > 0);
        load.go_on();
        load.await_line("done");
        let measured = seen.requests() - warm_up;
        assert_eq!((server.peers.lock().expect("no panic").len(), seen.ended()), (2, 0));
        load.go_on();
        let text = load.rest();
        assert!(text.contains(&format!("requests     {measured} in 0.200 s")), "{text}");
    }
}

#[test]
fn without_keep_alive_there_are_just_the_barriers() {
    for engine in ENGINES {
        let (server, seen) = serve();
        let arguments = ["-n", "20", "--no-keepalive", "--engine", engine];
        let mut load = Staged::start(&server.url(), &arguments);
        load.await_line("ready");
        assert_eq!((seen.requests(), server.peers.lock().expect("no panic").len()), (0, 0));
        load.go_on();
        load.await_line("done");
        assert_eq!(seen.requests(), 20);
        load.go_on();
        assert!(load.rest().contains("connects     20"));
    }
}

#[test]
fn a_barrier_without_anybody_behind_it_is_told() {
    let (server, _) = serve();
    let output = bench()
        .args(["load", &server.url(), "-c", "1", "-n", "1", "--staged"])
        .stdin(Stdio::null())
        .output()
        .expect("the load starts");
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("stdin ended") && text.contains("`ready`"), "{text}");
}
