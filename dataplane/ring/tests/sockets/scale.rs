//! Ten thousand connections in one runtime: served, then idle without a turn, then gone.

use std::cell::Cell;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::rc::Rc;
use std::thread;
use std::time::Duration;

use lateen_ring::{Config, Held, Stream, mailbox, spawn};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::support::{alone, listener, on_each};

const CONNECTIONS: usize = 10_000;
/// Descriptors that a process needs beside its connections.
const OTHER_DESCRIPTORS: u64 = 200;
/// Tells the test below, run in a process of its own, what to connect to.
const CLIENTS_OF: &str = "LATEEN_RING_TEST_CLIENTS_OF";

/// Raises this process's limit and says how many connections it allows.
fn connections_possible() -> usize {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum })
        .expect("up to the hard limit is always allowed");
    let room = limit.maximum.unwrap_or(u64::MAX).saturating_sub(OTHER_DESCRIPTORS);
    let count = usize::try_from(room).unwrap_or(usize::MAX).min(CONNECTIONS);
    if count < CONNECTIONS {
        eprintln!("scaled to {count} connections: the hard limit on descriptors allows no more");
    }
    count
}

/// The clients' side of the test below, which starts this one in a process of its own, because a
/// process's descriptors are limited. By itself it tries the same on a few plain sockets.
#[test]
fn clients_are_echoed_by_whoever_they_are_sent_to() {
    match std::env::var(CLIENTS_OF) {
        Ok(server) => {
            let server = server.parse().expect("the parent writes an address");
            let _clients = be_clients_of(server, connections_possible());
            let mut told = String::new();
            std::io::stdin().read_line(&mut told).expect("the parent writes");
        }
        Err(_) => alone(|| {
            let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
            let server = listener.local_addr().expect("bound");
            let echo = thread::spawn(move || {
                for _ in 0..3 {
                    let (mut client, _) = listener.accept().expect("a client comes");
                    let mut byte = [0; 1];
                    client.read_exact(&mut byte).expect("a byte comes");
                    client.write_all(&byte).expect("it is read");
                }
            });
            assert_eq!(be_clients_of(server, 3).len(), 3);
            echo.join().expect("three clients came");
        }),
    }
}

/// Connects, has one byte echoed on each connection, and says so. The connections stay open as long
/// as what is returned.
#[must_use]
fn be_clients_of(server: SocketAddr, count: usize) -> Vec<TcpStream> {
    let mut clients: Vec<_> =
        (0..count).map(|_| TcpStream::connect(server).expect("the parent accepts")).collect();
    for client in &mut clients {
        client.write_all(b"x").expect("connected");
    }
    for client in &mut clients {
        let mut byte = [0; 1];
        client.read_exact(&mut byte).expect("echoed");
        assert_eq!(&byte, b"x");
    }
    let mut stdout = std::io::stdout();
    writeln!(stdout, "\nechoed {}", clients.len()).expect("the parent reads");
    stdout.flush().expect("the parent reads");
    clients
}

async fn echo(stream: Stream) {
    stream.set_multishot(true);
    while let Some(lease) = stream.recv().await.expect("the client behaves") {
        stream.send(lease).await.expect("the client reads");
    }
}

fn resident_bytes() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").expect("proc is mounted");
    let pages: usize =
        statm.split(' ').nth(1).expect("a second field").parse().expect("a number of pages");
    pages * rustix::param::page_size()
}

#[test]
fn ten_thousand_connections_echo_then_idle_then_leave_nothing() {
    let possible = connections_possible();
    on_each(
        |config| Config { buffers_max: 256, ..config },
        |runtime| {
            let turns = Rc::new(Cell::new(0_u64));
            let (counted, seen) = (turns.clone(), turns.clone());
            let resident = resident_bytes();
            let (idle, after) = runtime.block_on_with(
                async move {
                    let (listener, address) = listener();
                    let mut clients = Command::new(std::env::current_exe().expect("running"))
                        .args(["--nocapture", "--exact"])
                        .arg("scale::clients_are_echoed_by_whoever_they_are_sent_to")
                        .env(CLIENTS_OF, address.to_string())
                        .stdin(Stdio::piped())
                        .stdout(Stdio::piped())
                        .spawn()
                        .expect("this very program runs");
                    let stdout = clients.stdout.take().expect("piped");
                    let acceptor = spawn(async move {
                        loop {
                            spawn(echo(listener.accept().await.expect("descriptors are left")));
                        }
                    });
                    let (sender, mut told) = mailbox(2);
                    let watcher = thread::spawn(move || {
                        let mut lines = BufReader::new(stdout).lines();
                        let echoed = lines
                            .by_ref()
                            .map_while(Result::ok)
                            .find_map(|line| line.strip_prefix("echoed ")?.parse::<usize>().ok());
                        sender.post(echoed).expect("the box is empty");
                        thread::sleep(Duration::from_millis(100));
                        sender.post(None).expect("it holds two");
                        lines
                    });
                    assert_eq!(told.receive().await, Some(Some(possible)));
                    let before = seen.get();
                    told.receive().await;
                    let idle = seen.get() - before;
                    let after = resident_bytes();
                    // Kept open: the clients have a last word to say.
                    let _lines = watcher.join().expect("it only reads");
                    acceptor.abort();
                    clients.stdin.take().expect("piped").write_all(b"\n").expect("it reads");
                    assert!(clients.wait().expect("it ends by itself").success());
                    (idle, after)
                },
                None,
                |_| counted.set(counted.get() + 1),
            );
            assert!(idle <= 4, "{idle} turns with {possible} idle connections");
            eprintln!(
                "{possible} idle connections: {} bytes each of this process's memory",
                after.saturating_sub(resident) / possible
            );
            crate::support::settle(runtime, Held::default());
        },
    );
}
