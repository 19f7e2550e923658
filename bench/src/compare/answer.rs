//! One request and its answer: how a comparison sees that a proxy works before it is loaded, which
//! config it runs, and how idle connections come about.

use super::interrupt::{Interrupt, unless_interrupted};
use super::peers::REVISION_HEADER;
use super::processes::Running;
use anyhow::{Context, bail, ensure};
use socket2::{Domain, Socket, Type};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

/// Until a proxy must have answered right.
const READY: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(20);
/// Until a single request is answered.
const ANSWER: Duration = Duration::from_secs(20);
const HEAD_BYTES_MAX: usize = 64 << 10;
const FIELDS_MAX: usize = 64;

/// An answer, read to its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// Its status.
    pub status: u16,
    /// Of its body.
    pub body_bytes: u64,
    /// The config under which it was made, where it shows that.
    pub revision: Option<String>,
    /// Whether all bytes of its body are those of the upstream, which are all the same.
    pub uniform: bool,
}

/// What a right answer is.
#[derive(Debug, Clone)]
pub struct Expected {
    /// What is asked for.
    pub path: String,
    /// Its status.
    pub status: u16,
    /// Of its body; with a status other than 200 any.
    pub body_bytes: u64,
}

/// Waits until a program answers right, for a bounded time. The error has what it printed.
pub fn wait_until_right(
    running: &mut Running,
    port: u16,
    expected: &Expected,
    interrupt: &Interrupt,
) -> anyhow::Result<Answer> {
    let end = Instant::now() + READY;
    loop {
        running.check()?;
        interrupt.check()?;
        let wrong = match ask(port, &expected.path) {
            Ok(answer) if is_right(&answer, expected) => return Ok(answer),
            Ok(answer) => format!(
                "it answered {} with {} bytes{}, and {} with {} is right",
                answer.status,
                answer.body_bytes,
                if answer.uniform { "" } else { " that are not the upstream's" },
                expected.status,
                expected.body_bytes
            ),
            Err(error) => unless_interrupted(error)?,
        };
        if Instant::now() > end {
            bail!("not ready within {READY:?}: {wrong}; it printed: {}", running.last_lines());
        }
        thread::sleep(POLL);
    }
}

fn is_right(answer: &Answer, expected: &Expected) -> bool {
    let body =
        expected.status != 200 || (answer.body_bytes == expected.body_bytes && answer.uniform);
    answer.status == expected.status && body
}

/// One GET on a new connection.
pub fn ask(port: u16, path: &str) -> anyhow::Result<Answer> {
    ask_on(&mut connect(Ipv4Addr::LOCALHOST, port)?, path)
}

/// One GET on a connection that is there.
pub fn ask_on(connection: &mut TcpStream, path: &str) -> anyhow::Result<Answer> {
    let request = format!("GET {path} HTTP/1.1\r\nHost: compared.example\r\n\r\n");
    connection.write_all(request.as_bytes())?;
    let mut received = Vec::new();
    loop {
        if let Some((answer, head_bytes, length)) = read_head(&received)? {
            let begun = received.get(head_bytes..).unwrap_or_default().to_vec();
            return read_body(connection, answer, begun, length);
        }
        ensure!(received.len() < HEAD_BYTES_MAX, "the answer's head has no end");
        receive(connection, &mut received)?;
    }
}

/// The answer so far, the length of its head, and the length of its body.
fn read_head(bytes: &[u8]) -> anyhow::Result<Option<(Answer, usize, u64)>> {
    let mut fields = [httparse::EMPTY_HEADER; FIELDS_MAX];
    let mut head = httparse::Response::new(&mut fields);
    let httparse::Status::Complete(head_bytes) = head.parse(bytes)? else { return Ok(None) };
    let field = |name: &str| {
        let field = head.headers.iter().find(|field| field.name.eq_ignore_ascii_case(name))?;
        std::str::from_utf8(field.value).ok()
    };
    let length = field("content-length").context("the answer has no Content-Length")?.parse()?;
    let answer = Answer {
        status: head.code.context("the answer has no status")?,
        body_bytes: 0,
        revision: field(REVISION_HEADER).map(str::to_owned),
        uniform: true,
    };
    Ok(Some((answer, head_bytes, length)))
}

fn read_body(
    connection: &mut TcpStream,
    mut answer: Answer,
    mut bytes: Vec<u8>,
    length: u64,
) -> anyhow::Result<Answer> {
    while (bytes.len() as u64) < length {
        receive(connection, &mut bytes)?;
    }
    answer.body_bytes = bytes.len() as u64;
    answer.uniform = bytes.windows(2).all(|pair| pair[0] == pair[1]);
    Ok(answer)
}

fn receive(connection: &mut TcpStream, into: &mut Vec<u8>) -> anyhow::Result<()> {
    let mut buffer = [0; 16 << 10];
    let count = connection.read(&mut buffer)?;
    ensure!(count > 0, "the connection ended within an answer");
    into.extend_from_slice(&buffer[..count]);
    Ok(())
}

/// A connection from one of this machine's own addresses: each has its own ports, of which those of
/// connections that were closed stay taken for a minute.
pub fn connect(source: Ipv4Addr, port: u16) -> anyhow::Result<TcpStream> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    // Binding to the usual address would only make the kernel look for a port that nobody has.
    if source != Ipv4Addr::LOCALHOST {
        socket.bind(&SocketAddr::from((source, 0)).into())?;
    }
    socket.set_read_timeout(Some(ANSWER))?;
    socket.set_write_timeout(Some(ANSWER))?;
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    socket.connect_timeout(&address.into(), ANSWER)?;
    Ok(socket.into())
}

/// A port that was free a moment ago: most programs can't be asked which one they took.
pub fn free_port() -> anyhow::Result<u16> {
    let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    Ok(listener.local_addr()?.port())
}
