//! Servers that answer wrongly, late or not at all: each fault is counted as what it is.

use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::sync::Mutex;

use socket2::{Domain, SockRef, Socket, Type};

use super::programs::{Canned, ENGINES, Loaded, Upstream, load, read_head};

/// Nothing here waits for a timeout, so none is given that a slow machine could meet.
fn load_few(url: &str, engine: &str) -> Loaded {
    load(&[url, "-n", "4", "-c", "2", "--engine", engine])
}

/// All four wait at once, for a time in which a slow machine still connects.
fn load_few_in_vain(url: &str, engine: &str) -> Loaded {
    load(&[url, "-n", "4", "-c", "4", "--timeout", "1s", "--engine", engine])
}

/// All four requests end in this fault, and the exit code says that nothing succeeded.
fn assert_all(loaded: &Loaded, fault: &str, what: &str) {
    assert_eq!(loaded.count(fault), 4, "{what}: {}", loaded.text);
    assert_eq!((loaded.over(), loaded.report.requests), (4, 0), "{what}: {}", loaded.text);
    assert_eq!(loaded.code, Some(1), "{what}");
    assert!(loaded.text.contains("first error"), "{what}: {}", loaded.text);
}

#[test]
fn bytes_that_are_no_answer_are_told_by_kind() {
    let endless = format!("HTTP/1.1 200 OK\r\nA: {}", "a".repeat(100_000));
    for (answer, fault) in [
        ("\x15\x03\x01\x00\x02", "protocol"),
        ("SSH-2.0-OpenSSH_9.2\r\n", "protocol"),
        ("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nab", "protocol"),
        ("HTTP/1.1 200 OK\r\nContent-Length: 1, 2\r\n\r\n", "protocol"),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n", "protocol"),
        ("HTTP/1.1 101 Switching Protocols\r\n\r\n", "protocol"),
        (endless.as_str(), "protocol"),
        ("", "closed early"),
        ("HTTP/1.1 200 OK\r\nContent-", "closed early"),
        ("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello", "closed early"),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhel", "closed early"),
    ] {
        let server = Canned::start(answer.as_bytes(), true);
        for engine in ENGINES {
            let what = answer.get(..answer.len().min(80)).unwrap_or_default();
            assert_all(&load_few(&server.url(), engine), fault, what);
        }
    }
}

#[test]
fn nobody_listening_is_a_connect_error() {
    let address = {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        listener.local_addr().expect("bound")
    };
    for engine in ENGINES {
        let loaded = load_few(&format!("http://{address}/"), engine);
        assert_all(&loaded, "connect", "nobody");
        assert!(loaded.text.contains("refused"), "{}", loaded.text);
    }
}

#[test]
fn a_connection_broken_off_is_a_reset() {
    let server = Canned::serve(|mut stream| {
        if read_head(&mut stream) {
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n");
            let _ = SockRef::from(&stream).set_linger(Some(std::time::Duration::ZERO));
        }
    });
    for engine in ENGINES {
        assert_all(&load_few(&server.url(), engine), "reset", "linger 0");
    }
}

#[test]
fn silence_is_a_timeout_wherever_it_falls() {
    for said in ["", "HTTP/1.1 200 OK\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhe"] {
        let server = Canned::start(said.as_bytes(), false);
        for engine in ENGINES {
            assert_all(&load_few_in_vain(&server.url(), engine), "timeout", said);
        }
    }
}

#[test]
fn a_body_that_nobody_reads_is_a_timeout() {
    // It accepts, keeps the connection open, and never reads.
    let kept = Mutex::new(Vec::new());
    let server = Canned::serve(move |stream| kept.lock().expect("no panic").push(stream));
    for engine in ENGINES {
        let arguments = ["-n", "2", "-c", "2", "--timeout", "1s", "--engine", engine];
        let url = server.url();
        let loaded = load(&[&[url.as_str(), "--body-bytes", "64M"], &arguments[..]].concat());
        assert_eq!(loaded.count("timeout"), 2, "{}", loaded.text);
    }
}

#[test]
fn a_queue_that_is_full_is_a_connect_timeout() {
    let listener = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    listener.bind(&std::net::SocketAddr::from(([127, 0, 0, 1], 0)).into()).expect("a port");
    listener.listen(0).expect("listening");
    let address = listener.local_addr().expect("bound").as_socket().expect("an address");
    // The kernel keeps one connection more than the queue is long; it drops the SYNs of the rest.
    let fillers: Vec<Socket> = (0..4)
        .map(|_| {
            let filler = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
            filler.set_nonblocking(true).expect("a flag");
            let _ = filler.connect(&address.into());
            filler
        })
        .collect();
    for engine in ENGINES {
        let loaded = load_few_in_vain(&format!("http://{address}/"), engine);
        assert_all(&loaded, "connect timeout", "a full queue");
    }
    drop(fillers);
}

#[test]
fn a_connection_that_ended_while_idle_is_made_anew_without_an_error() {
    let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
    for engine in ENGINES {
        // It promises to keep the connection, and ends it; the next request is a second later.
        let server = Canned::start(answer, true);
        let arguments = ["-n", "3", "-c", "1", "-R", "1", "--engine", engine];
        let loaded = load(&[&[server.url().as_str()], &arguments[..]].concat());
        assert_eq!((loaded.report.requests, loaded.report.connects), (3, 3), "{}", loaded.text);
    }
}

#[test]
fn faults_leave_no_descriptors_behind() {
    // More failures than descriptors: a leak of one each would end the load.
    let silent = Canned::start(b"", false);
    let url = silent.url();
    for engine in ENGINES {
        let script = format!(
            "ulimit -n 100; exec '{}' load {url} -n 150 -c 30 --timeout 100ms --engine {engine} --json -",
            env!("CARGO_BIN_EXE_lateen-bench")
        );
        let output =
            std::process::Command::new("sh").args(["-c", &script]).output().expect("a shell");
        let report: lateen_bench::load::summary::LoadReport =
            serde_json::from_slice(&output.stdout).expect("a report");
        // On a slow machine one may not even be connected in time: it has a descriptor all the same.
        let of = |fault: &str| report.errors.get(fault).copied().unwrap_or(0);
        assert_eq!(of("timeout") + of("connect timeout"), 150, "{report:?}");
        assert!(of("timeout") > 0, "{report:?}");
    }
    let upstream = Upstream::start(&[]);
    assert!(TcpStream::connect(upstream.address()).is_ok());
}
