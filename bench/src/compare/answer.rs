//! One request and its answer: how a comparison sees that a proxy works before it is loaded, which
//! config it runs, and how idle connections come about.

use super::interrupt::{Interrupt, unless_interrupted};
use super::peers::REVISION_HEADER;
use super::processes::Running;
use anyhow::{Context, bail, ensure};
use socket2::{Domain, Socket, Type};
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

/// Until a proxy must have answered right.
const READY: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(20);
/// Until a single request is answered, to the last byte.
const ANSWER: Duration = Duration::from_secs(20);
/// Between two looks at the interrupt while an answer is awaited.
const PATIENCE: Duration = Duration::from_millis(100);
const HEAD_BYTES_MAX: usize = 64 << 10;
const FIELDS_MAX: usize = 64;
/// Programs that found their port taken are started so often.
const PORT_TRIES: u32 = 3;

/// An answer, read to its end if it announces the length that is right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// Its status.
    pub status: u16,
    /// Of its body, as it announces it.
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
    /// No answer, but what was asked comes back.
    pub echo: bool,
}

/// One request: when to give up.
#[derive(Debug, Clone, Copy)]
pub struct Ask<'a> {
    /// What is asked for.
    pub path: &'a str,
    /// Of a right answer; the body of another is not read.
    pub body_bytes: u64,
    /// Whether what was asked comes back.
    pub echo: bool,
    /// Ends it early.
    pub interrupt: &'a Interrupt,
    /// For connecting, the request, and the answer to its last byte.
    pub within: Duration,
}

impl<'a> Ask<'a> {
    /// Of the path `/`, in the usual time.
    pub fn usual(body_bytes: u64, interrupt: &'a Interrupt) -> Self {
        Self { path: "/", body_bytes, echo: false, interrupt, within: ANSWER }
    }
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
        let ask_for = Ask {
            path: &expected.path,
            echo: expected.echo,
            within: READY,
            ..Ask::usual(expected.body_bytes, interrupt)
        };
        let wrong = match ask(port, &ask_for) {
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
pub fn ask(port: u16, ask: &Ask) -> anyhow::Result<Answer> {
    ask_on(&mut connect(Ipv4Addr::LOCALHOST, port)?, ask)
}

/// One GET on a connection that is there.
pub fn ask_on(connection: &mut TcpStream, ask: &Ask) -> anyhow::Result<Answer> {
    let end = Instant::now() + ask.within;
    let request = format!("GET {} HTTP/1.1\r\nHost: compared.example\r\n\r\n", ask.path);
    connection.write_all(request.as_bytes())?;
    let mut received = Vec::new();
    if ask.echo {
        while received.len() < request.len() {
            receive(connection, &mut received, ask, end)?;
        }
        ensure!(received == request.as_bytes(), "what came back is not what was sent");
        let body_bytes = ask.body_bytes;
        return Ok(Answer { status: 200, body_bytes, revision: None, uniform: true });
    }
    loop {
        if let Some((mut answer, head_bytes)) = read_head(&received)? {
            if answer.body_bytes == ask.body_bytes {
                let mut body = received.split_off(head_bytes);
                while (body.len() as u64) < answer.body_bytes {
                    receive(connection, &mut body, ask, end)?;
                }
                answer.body_bytes = body.len() as u64;
                answer.uniform = body.windows(2).all(|pair| pair[0] == pair[1]);
            }
            return Ok(answer);
        }
        ensure!(received.len() < HEAD_BYTES_MAX, "the answer's head has no end");
        receive(connection, &mut received, ask, end)?;
    }
}

/// The answer as its head announces it, and the length of that.
fn read_head(bytes: &[u8]) -> anyhow::Result<Option<(Answer, usize)>> {
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
        body_bytes: length,
        revision: field(REVISION_HEADER).map(str::to_owned),
        uniform: true,
    };
    Ok(Some((answer, head_bytes)))
}

fn receive(
    connection: &mut TcpStream,
    into: &mut Vec<u8>,
    ask: &Ask,
    end: Instant,
) -> anyhow::Result<()> {
    let mut buffer = [0; 16 << 10];
    loop {
        ask.interrupt.check()?;
        let left = end.saturating_duration_since(Instant::now());
        ensure!(!left.is_zero(), "no whole answer within {:?}", ask.within);
        match connection.read(&mut buffer) {
            Ok(0) => bail!("the connection ended within an answer"),
            Ok(count) => {
                into.extend_from_slice(&buffer[..count]);
                return Ok(());
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// A connection from one of this machine's own addresses: each has its own ports, of which those of
/// connections that were closed stay taken for a minute.
pub fn connect(source: Ipv4Addr, port: u16) -> anyhow::Result<TcpStream> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    // Binding to the usual address would only make the kernel look for a port that nobody has.
    if source != Ipv4Addr::LOCALHOST {
        socket.bind(&SocketAddr::from((source, 0)).into())?;
    }
    socket.set_read_timeout(Some(PATIENCE))?;
    socket.set_write_timeout(Some(ANSWER))?;
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    socket.connect_timeout(&address.into(), ANSWER)?;
    Ok(socket.into())
}

/// Ports that were free a moment ago: most programs can't be asked which one they took. All are held until
/// the last is found, so that none comes twice.
pub fn free_ports<const COUNT: usize>() -> anyhow::Result<[u16; COUNT]> {
    let mut held = Vec::new();
    let mut ports = [0; COUNT];
    for port in &mut ports {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        *port = listener.local_addr()?.port();
        held.push(listener);
    }
    Ok(ports)
}

/// Starts something that listens; again, with other ports, where somebody else took one meanwhile.
pub fn with_free_ports<T>(mut start: impl FnMut() -> anyhow::Result<T>) -> anyhow::Result<T> {
    let mut tries = 1;
    loop {
        match start() {
            Err(error) if tries < PORT_TRIES && port_was_taken(&format!("{error:#}")) => tries += 1,
            done => return done,
        }
    }
}

/// By what a program printed before it ended: each has its own words.
fn port_was_taken(said: &str) -> bool {
    let said = said.to_lowercase();
    ["address already in use", "address in use", "eaddrinuse", "os error 98", "cannot bind socket"]
        .into_iter()
        .any(|words| said.contains(words))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn a_port_that_was_taken_is_another_try() {
        let mut tries = 0;
        let done = with_free_ports(|| {
            tries += 1;
            ensure!(tries > 2, "nginx ended: bind() failed (98: Address already in use)");
            Ok(tries)
        });
        assert_eq!(done.expect("the third is free"), 3);
        let always = with_free_ports::<()>(|| bail!("[ALERT] cannot bind socket"));
        assert!(always.is_err());
        let mut others = 0;
        let other = with_free_ports::<()>(|| {
            others += 1;
            bail!("no such file")
        });
        assert!(other.is_err() && others == 1, "what is wrong for other reasons stays so");
    }

    #[test]
    fn ports_are_different() {
        let ports: [u16; 20] = free_ports().expect("they are free");
        assert_eq!(BTreeSet::from(ports).len(), 20);
    }

    /// Answers one connection, and keeps it open for as long as the other end does.
    fn answering(text: &'static str) -> u16 {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let port = listener.local_addr().expect("bound").port();
        thread::spawn(move || {
            let (mut connection, _) = listener.accept().expect("a client");
            connection.write_all(text.as_bytes()).expect("a client that reads");
            while connection.read(&mut [0; 1 << 10]).is_ok_and(|count| count > 0) {}
        });
        port
    }

    #[test]
    fn a_wrong_length_is_seen_before_the_body_is_awaited() {
        let interrupt = Interrupt::default();
        let port = answering("HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\nx");
        let answer = ask(port, &Ask::usual(100, &interrupt)).expect("a head");
        assert_eq!((answer.status, answer.body_bytes), (200, 1_000_000));
    }

    #[test]
    fn an_answer_without_an_end_is_given_up() {
        let interrupt = Interrupt::default();
        let within = Duration::from_millis(150);
        let port = answering("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nx");
        let error = ask(port, &Ask { within, ..Ask::usual(100, &interrupt) }).expect_err("no end");
        assert!(error.to_string().contains("no whole answer within 150ms"), "{error}");
    }
}
