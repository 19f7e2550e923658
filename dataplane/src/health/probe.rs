//! Probes of endpoints, many at a time on one thread: a bare connect, or a GET of which the status counts.
//!
//! Before: the health thread wants to know whether an endpoint is there, or well. After: it is told what was
//! found. Sockets don't block; the thread waits for all of them at once.

use std::collections::VecDeque;
use std::io::{self, Read as _, Write as _};
use std::net::SocketAddr;
use std::sync::Arc;

use rustix::event::{PollFd, PollFlags};
use rustix::io::Errno;
use socket2::{Domain, Protocol, Socket, Type};

use crate::limits;

/// What an endpoint is asked.
#[derive(Clone, Debug)]
pub(super) enum What {
    /// To take a connection.
    Connect,
    /// To answer this request.
    Http(Arc<[u8]>),
}

/// What was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// It took the connection, and was asked no more.
    Connected,
    /// It answered with this status.
    Status(u16),
    /// It refused the connection, or can't be reached.
    Refused,
    /// It took the connection and gave no answer that is one.
    Broken,
    /// It did none of that in time.
    TimedOut,
    /// The proxy could not try, for want of descriptors or ports: that says nothing.
    Untried,
}

/// Probes of one kind, which don't wait for those of the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lane {
    /// Whether an endpoint is well: there may be very many, each of which takes its time.
    Check,
    /// Whether one that was ejected is there again: requests could go there.
    Reconnect,
}

/// Who is to be probed, and how long that may take.
#[derive(Clone, Debug)]
pub(super) struct Wanted<T> {
    /// Where it is.
    pub(super) address: SocketAddr,
    /// What it is asked.
    pub(super) what: What,
    /// From its beginning.
    pub(super) timeout_ns: u64,
    /// What it is for.
    pub(super) lane: Lane,
    /// For the asker.
    pub(super) tag: T,
}

/// ```text
/// connecting ──▶ sending ──▶ receiving ──▶ found
///      └──(asked no more)────────────────────▲
/// ```
struct Probe<T> {
    socket: Socket,
    until_ns: u64,
    wanted: Wanted<T>,
    is_connected: bool,
    /// Bytes of the request.
    sent: usize,
    /// The beginning of the answer.
    answer: Vec<u8>,
}

/// Probes that are under way, and those that wait for room.
pub(super) struct Probes<T> {
    running: Vec<Probe<T>>,
    /// How many of each lane are.
    under_way: [usize; 2],
    /// Those of each lane.
    waiting: [VecDeque<Wanted<T>>; 2],
    done: Vec<(T, SocketAddr, Found)>,
}

impl<T: Copy> Probes<T> {
    pub(super) const fn new() -> Self {
        Self {
            running: Vec::new(),
            under_way: [0; 2],
            waiting: [VecDeque::new(), VecDeque::new()],
            done: Vec::new(),
        }
    }

    /// Begins a probe as soon as there is room in its lane.
    pub(super) fn want(&mut self, wanted: Wanted<T>, now_ns: u64) {
        let lane = wanted.lane;
        self.waiting[lane as usize].push_back(wanted);
        self.begin_waiting(lane, now_ns);
    }

    fn begin_waiting(&mut self, lane: Lane, now_ns: u64) {
        while self.under_way[lane as usize] < limits::PROBES_MAX
            && let Some(wanted) = self.waiting[lane as usize].pop_front()
        {
            let until_ns = now_ns.saturating_add(wanted.timeout_ns);
            match begin(wanted.address) {
                Ok(socket) => {
                    self.under_way[lane as usize] += 1;
                    self.running.push(Probe {
                        socket,
                        until_ns,
                        wanted,
                        is_connected: false,
                        sent: 0,
                        answer: Vec::new(),
                    });
                }
                Err(error) => self.done.push((wanted.tag, wanted.address, found_of(&error))),
            }
        }
    }

    /// What to wait for.
    pub(super) fn watched(&self) -> impl Iterator<Item = PollFd<'_>> {
        self.running.iter().map(|probe| {
            let flags = if probe.receives() { PollFlags::IN } else { PollFlags::OUT };
            PollFd::new(&probe.socket, flags)
        })
    }

    /// When the first of them takes too long; 0: one is over already.
    pub(super) fn next_ns(&self) -> Option<u64> {
        match self.done.is_empty() {
            true => self.running.iter().map(|probe| probe.until_ns).min(),
            false => Some(0),
        }
    }

    /// Those that are over.
    pub(super) fn take_done(&mut self, now_ns: u64) -> Vec<(T, SocketAddr, Found)> {
        let mut index = 0;
        while index < self.running.len() {
            let probe = &mut self.running[index];
            match probe.go_on() {
                None if now_ns < probe.until_ns => index += 1,
                found => {
                    let wanted = self.running.swap_remove(index).wanted;
                    self.under_way[wanted.lane as usize] -= 1;
                    self.done.push((wanted.tag, wanted.address, found.unwrap_or(Found::TimedOut)));
                }
            }
        }
        for lane in [Lane::Check, Lane::Reconnect] {
            self.begin_waiting(lane, now_ns);
        }
        std::mem::take(&mut self.done)
    }
}

impl<T> Probe<T> {
    fn receives(&self) -> bool {
        matches!(&self.wanted.what, What::Http(request) if self.sent == request.len())
    }

    /// `None`: it is not over yet.
    fn go_on(&mut self) -> Option<Found> {
        if !self.is_connected {
            if let Some(refused) = self.look_connected()? {
                return Some(refused);
            }
            self.is_connected = true;
        }
        let What::Http(request) = &self.wanted.what else { return Some(Found::Connected) };
        while self.sent < request.len() {
            match (&self.socket).write(&request[self.sent..]) {
                Ok(count) => self.sent += count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return None,
                Err(_) => return Some(Found::Broken),
            }
        }
        let mut bytes = [0; limits::CHECK_ANSWER_BYTES];
        loop {
            match (&self.socket).read(&mut bytes) {
                Ok(0) => return Some(Found::Broken),
                Ok(count) => self.answer.extend_from_slice(&bytes[..count]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return None,
                Err(_) => return Some(Found::Broken),
            }
            if let Some(status) = status_of(&self.answer) {
                return Some(status.map_or(Found::Broken, Found::Status));
            }
        }
    }

    /// `None`: it is not decided yet; `Some(None)`: it is connected.
    fn look_connected(&self) -> Option<Option<Found>> {
        match self.socket.take_error() {
            Ok(None) => {}
            Ok(Some(error)) | Err(error) => return Some(Some(found_of(&error))),
        }
        self.socket.peer_addr().ok()?;
        // A port of this host that nobody listens on may be connected to itself (RFC 9293, simultaneous
        // open).
        let own = self.socket.local_addr().ok().and_then(|own| own.as_socket());
        Some((own == Some(self.wanted.address)).then_some(Found::Refused))
    }
}

/// Of the beginning of an answer (RFC 9112 §4). `None`: that is too little to tell; `Some(None)`: it is no
/// answer of HTTP/1.
fn status_of(answer: &[u8]) -> Option<Option<u16>> {
    const VERSION: &[u8] = b"HTTP/1.";
    let known = answer.len().min(VERSION.len());
    if answer[..known] != VERSION[..known] {
        return Some(None);
    }
    // The version's last digit, a space, three digits, and what ends them.
    let rest = answer.get(VERSION.len()..VERSION.len() + 6)?;
    let [b'0'..=b'9', b' ', digits @ .., b' ' | b'\r'] = rest else { return Some(None) };
    let digits = std::str::from_utf8(digits).ok();
    Some(
        digits
            .filter(|digits| digits.bytes().all(|it| it.is_ascii_digit()))
            .and_then(|digits| digits.parse().ok()),
    )
}

fn begin(address: SocketAddr) -> io::Result<Socket> {
    let kind = Type::STREAM.nonblocking().cloexec();
    let socket = Socket::new(Domain::for_address(address), kind, Some(Protocol::TCP))?;
    match socket.connect(&address.into()) {
        Err(error) if Errno::from_io_error(&error) != Some(Errno::INPROGRESS) => Err(error),
        _ => Ok(socket),
    }
}

fn found_of(error: &io::Error) -> Found {
    match Errno::from_io_error(error) {
        Some(Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM | Errno::ADDRNOTAVAIL) => {
            Found::Untried
        }
        Some(Errno::TIMEDOUT) => Found::TimedOut,
        _ => Found::Refused,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;
    use std::thread;

    #[test]
    fn a_status_is_told_as_soon_as_it_is_there() {
        let answer = b"HTTP/1.1 204 No Content\r\n\r\n";
        for length in 0..=answer.len() {
            let expected = if length < 13 { None } else { Some(Some(204)) };
            assert_eq!(status_of(&answer[..length]), expected, "{length}");
        }
        for (answer, status) in [
            (&b"HTTP/1.0 200\r\n"[..], Some(200)),
            (b"HTTP/1.1 2000", None),
            (b"HTTP/2.0 200 ", None),
            (b"HTTP/1.1  200 ", None),
            (b"HTTP/1.1 +20 ", None),
            (b"220 smtp", None),
        ] {
            assert_eq!(status_of(answer), Some(status), "{answer:?}");
        }
    }

    /// Waits until one is over: whose it is, and what was found.
    fn next_done<T: Copy>(probes: &mut Probes<T>) -> (T, Found) {
        loop {
            let mut watched: Vec<PollFd<'_>> = probes.watched().collect();
            rustix::event::poll(&mut watched, None).expect("it waits");
            drop(watched);
            if let Some((tag, _, found)) = probes.take_done(0).pop() {
                return (tag, found);
            }
        }
    }

    /// Waits for one probe.
    fn ask(address: SocketAddr, what: What, timeout_ns: u64) -> Found {
        let mut probes = Probes::new();
        probes.want(Wanted { address, what, timeout_ns, lane: Lane::Check, tag: () }, 0);
        next_done(&mut probes).1
    }

    #[test]
    fn endpoints_answer_take_connections_or_refuse() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("it is bound");
        let answering = thread::spawn(move || {
            for answer in ["", "HTTP/1.1 503 No\r\n\r\n", "SSH-2.0-none\r\n"] {
                let (mut stream, _) = listener.accept().expect("a connection");
                if !answer.is_empty() {
                    let mut bytes = [0; 64];
                    let count = stream.read(&mut bytes).expect("a request");
                    assert_eq!(&bytes[..count], b"GET");
                    stream.write_all(answer.as_bytes()).expect("an answer");
                }
            }
        });
        let get = || What::Http(Arc::from(&b"GET"[..]));
        assert_eq!(ask(address, What::Connect, u64::MAX), Found::Connected);
        assert_eq!(ask(address, get(), u64::MAX), Found::Status(503));
        assert_eq!(ask(address, get(), u64::MAX), Found::Broken);
        answering.join().expect("it answered");
        assert_eq!(ask(address, get(), u64::MAX), Found::Refused);
    }

    #[test]
    fn who_was_ejected_does_not_wait_for_checks_that_hang() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("it is bound");
        let mut probes = Probes::new();
        let mut want = |lane, what, tag| {
            probes.want(Wanted { address, what, timeout_ns: u64::MAX, lane, tag }, 0);
        };
        for _ in 0..2 * limits::PROBES_MAX {
            want(Lane::Check, What::Http(Arc::from(&b"GET"[..])), "check");
        }
        want(Lane::Reconnect, What::Connect, "reconnect");
        assert_eq!(next_done(&mut probes), ("reconnect", Found::Connected));
        assert_eq!(probes.under_way, [limits::PROBES_MAX, 0]);
    }
}
