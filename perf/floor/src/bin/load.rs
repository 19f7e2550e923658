//! The load that wrk cannot make, from one thread, as one JSON line on stdout.
//!
//! `--mode open`: `--rate` requests a second over keep-alive connections, on a schedule that does
//! not wait for answers. Latency counts from the moment a request was due, also when no connection
//! was free then, so that a stall is charged to every request it delayed.
//!
//! `--mode reconnect`: each of `--connections` slots connects, asks once, reads the whole answer,
//! closes, and begins again.
//!
//! `--mode closed`: each of `--connections` slots keeps its connection and asks again when it was
//! answered.
//!
//! With `--requests N` instead of `--seconds N` the last two end with the Nth answer, and stop
//! twice for whoever counts what they cause: after `--warm-up N` requests one line is printed and
//! one awaited, and so again between the last answer and the end. Connecting, warming up and
//! disconnecting then belong to nobody's count.
//!
//! With `--host NAME` requests are for that host. With `--epochs true` each answer must say which
//! config it is of, and what they say is judged (see [`Epochs`]).

use std::{
    collections::VecDeque,
    error::Error,
    io::{self, Read, Write},
    net::{SocketAddr, TcpStream},
    os::fd::AsRawFd,
    time::{Duration, Instant},
};

use lateen_floor::{args::Args, epochs::Epochs, epoll::Epoll, head::parse_response, socket};

const USAGE: &str = "load --mode open|reconnect|closed --target ADDR --path PATH --connections N \
                     --seconds N|--requests N [--rate N] [--warm-up N] [--header-bytes N] \
                     [--host NAME] [--epochs true]";

/// Request headers are padded with this many fields.
const HEADER_FIELDS: usize = 30;

/// How long answers are awaited after the last request was due.
const GRACE: Duration = Duration::from_secs(2);

/// A load of a number of requests is given up after this.
const REQUESTS_TIME_MAX: Duration = Duration::from_secs(60);

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = Args::from_env(USAGE);
    let mode: String = args.required("mode");
    let target: SocketAddr = args.required("target");
    let path: String = args.required("path");
    let connections: usize = args.required("connections");
    let seconds: Option<u64> = args.optional("seconds");
    let requests: Option<u64> = args.optional("requests");
    let warm_up: u64 = args.optional("warm-up").unwrap_or(0);
    let header_bytes: usize = args.optional("header-bytes").unwrap_or(0);
    let rate: Option<u64> = args.optional("rate");
    let host = args.optional("host").unwrap_or_else(|| target.to_string());
    let epochs = args.optional("epochs").unwrap_or(false).then(Epochs::default);
    args.finish();
    let interval = match (mode.as_str(), rate) {
        ("open", Some(rate @ 1..)) => Some(Duration::from_nanos(1_000_000_000 / rate)),
        ("reconnect" | "closed", None) => None,
        _ => return Err("--rate N goes with --mode open, and only with it".into()),
    };
    let length = match (seconds, requests) {
        (Some(seconds), None) => Length::Time(Duration::from_secs(seconds)),
        (None, Some(requests)) if interval.is_none() => Length::Requests(requests),
        _ => return Err("one of --seconds N and --requests N, with --mode open the former".into()),
    };
    socket::raise_descriptor_limit()?;
    // The kernel may fire this thread's timers 50 µs late by default, which would be measured.
    // SAFETY: PR_SET_TIMERSLACK takes an integer.
    socket::check(unsafe { libc::prctl(libc::PR_SET_TIMERSLACK, 1) })?;
    let mut load = Load {
        epoll: Epoll::new()?,
        target,
        request: request(&path, &host, header_bytes, epochs.is_some()),
        body_bytes: path.trim_start_matches('/').parse()?,
        slots: Vec::new(),
        idle: Vec::new(),
        due: VecDeque::new(),
        latencies_ns: Vec::new(),
        errors: 0,
        epochs,
        reconnect: mode == "reconnect",
    };
    for index in 0..connections {
        let connection = load.connect(index)?;
        load.slots.push(connection);
        load.idle.push(index);
    }
    if let Length::Requests(_) = length {
        load.run(Length::Requests(warm_up), None)?;
        pause()?;
        load.latencies_ns.clear();
    }
    let elapsed = load.run(length, interval)?;
    load.report(elapsed);
    if let Length::Requests(_) = length {
        pause()?;
    }
    Ok(())
}

/// A GET, with about `header_bytes` of further fields.
fn request(path: &str, host: &str, header_bytes: usize, epochs: bool) -> Vec<u8> {
    let mut text = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n");
    if epochs {
        text += "X-Lateen-Debug: 1\r\n";
    }
    for index in 0..if header_bytes == 0 { 0 } else { HEADER_FIELDS } {
        let name = format!("x-field-{index:02}");
        let value_bytes =
            (header_bytes / HEADER_FIELDS).saturating_sub(name.len() + ": \r\n".len());
        text += &format!("{name}: {}\r\n", "v".repeat(value_bytes));
    }
    (text + "\r\n").into_bytes()
}

/// Says that all is quiet and waits for a line, or the end, of stdin.
fn pause() -> io::Result<()> {
    println!("quiet");
    io::stdin().read_line(&mut String::new()).map(drop)
}

/// When a load ends.
#[derive(Clone, Copy)]
enum Length {
    Time(Duration),
    /// So many requests are sent; the load ends when all are answered.
    Requests(u64),
}

struct Load {
    epoll: Epoll,
    target: SocketAddr,
    request: Vec<u8>,
    body_bytes: u64,
    slots: Vec<Connection>,
    idle: Vec<usize>,
    due: VecDeque<Instant>,
    latencies_ns: Vec<u64>,
    errors: u64,
    epochs: Option<Epochs>,
    reconnect: bool,
}

struct Connection {
    stream: TcpStream,
    /// When the request under way was due; `None` while idle.
    due: Option<Instant>,
    /// What [`Epochs::newest`] was when it was sent.
    newest_before: u64,
    head: Vec<u8>,
    body_left: Option<u64>,
}

impl Load {
    /// Runs the schedule, then waits for what is under way; returns the time the load took.
    fn run(&mut self, length: Length, interval: Option<Duration>) -> io::Result<Duration> {
        let start = Instant::now();
        let (mut end, mut unsent) = match length {
            Length::Time(length) => (start + length, u64::MAX),
            Length::Requests(count) => (start + REQUESTS_TIME_MAX, count),
        };
        let mut next = start;
        let mut ready = Vec::new();
        loop {
            let now = Instant::now();
            match interval {
                Some(interval) => {
                    while next <= now && next < end {
                        self.due.push_back(next);
                        next += interval;
                    }
                }
                None if now < end => {
                    let count = unsent.min(self.idle.len() as u64);
                    self.due.extend((0..count).map(|_| now));
                    unsent -= count;
                    if unsent == 0 {
                        end = now;
                    }
                }
                None => {}
            }
            self.start_due()?;
            let quiet = self.due.is_empty() && self.idle.len() == self.slots.len();
            if now >= end && (quiet || now >= end + GRACE) {
                self.errors += (self.slots.len() - self.idle.len() + self.due.len()) as u64;
                return Ok(end - start);
            }
            let wake = if next < end && interval.is_some() { next } else { end + GRACE };
            let timeout = wake.saturating_duration_since(Instant::now());
            self.epoll.wait(Some(timeout.max(Duration::from_nanos(1))), &mut ready)?;
            for &token in &ready {
                self.read_answer(token as usize)?;
            }
        }
    }

    fn start_due(&mut self) -> io::Result<()> {
        while let Some(index) = if self.due.is_empty() { None } else { self.idle.pop() } {
            if self.reconnect && !self.slots[index].head.is_empty() {
                self.slots[index] = self.connect(index)?;
            }
            let connection = &mut self.slots[index];
            connection.due = self.due.pop_front();
            connection.newest_before = self.epochs.as_ref().map_or(0, Epochs::newest);
            connection.head.clear();
            connection.body_left = None;
            // A request fits any socket buffer, so that a short write is an error.
            match connection.stream.write(&self.request) {
                Ok(count) if count == self.request.len() => {}
                _ => self.fail(index)?,
            }
        }
        Ok(())
    }

    fn read_answer(&mut self, index: usize) -> io::Result<()> {
        let mut buffer = [0; 64 * 1024];
        while self.slots[index].due.is_some() {
            match self.slots[index].stream.read(&mut buffer) {
                Ok(0) => return self.fail(index),
                Ok(count) => {
                    if self.take(index, &buffer[..count]).is_none() {
                        return self.fail(index);
                    }
                    // A short read emptied the socket: the next edge will tell.
                    if count < buffer.len() {
                        return Ok(());
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(_) => return self.fail(index),
            }
        }
        Ok(())
    }

    /// Counts answer bytes; `None` when the answer is not the one that was asked for.
    fn take(&mut self, index: usize, bytes: &[u8]) -> Option<()> {
        let connection = &mut self.slots[index];
        let left = match connection.body_left {
            Some(left) => left.checked_sub(bytes.len() as u64)?,
            None => {
                connection.head.extend_from_slice(bytes);
                let Some(head) = parse_response(&connection.head).ok()? else { return Some(()) };
                if head.status != 200 || head.content_length != Some(self.body_bytes) {
                    return None;
                }
                if let Some(epochs) = &mut self.epochs {
                    epochs.take(&connection.head[..head.length], connection.newest_before)?;
                }
                self.body_bytes.checked_sub((connection.head.len() - head.length) as u64)?
            }
        };
        connection.body_left = Some(left);
        if left == 0 {
            let due = connection.due.take()?;
            self.latencies_ns.push(due.elapsed().as_nanos() as u64);
            self.idle.push(index);
        }
        Some(())
    }

    fn fail(&mut self, index: usize) -> io::Result<()> {
        self.errors += 1;
        self.slots[index] = self.connect(index)?;
        self.idle.push(index);
        Ok(())
    }

    fn connect(&self, index: usize) -> io::Result<Connection> {
        let stream = TcpStream::connect(self.target)?;
        stream.set_nonblocking(true)?;
        stream.set_nodelay(true)?;
        self.epoll.add(stream.as_raw_fd(), index as u64)?;
        let (head, body_left) = (Vec::new(), None);
        Ok(Connection { stream, due: None, newest_before: 0, head, body_left })
    }

    fn report(&mut self, elapsed: Duration) {
        self.latencies_ns.sort_unstable();
        let count = self.latencies_ns.len();
        let quantile_us = |share: f64| {
            let rank = (count as f64 * share).ceil() as usize;
            let value = self.latencies_ns.get(rank.saturating_sub(1)).copied().unwrap_or_default();
            value as f64 / 1000.0
        };
        let epochs = self.epochs.as_ref().map_or(String::new(), |seen| {
            let (count, mixed, back) = (seen.count(), seen.mixed, seen.back);
            format!(",\"epochs\":{count},\"mixed\":{mixed},\"back\":{back}")
        });
        println!(
            "{{\"requests\":{count},\"errors\":{},\"seconds\":{:.3},\"p50_us\":{:.1},\
             \"p99_us\":{:.1},\"p999_us\":{:.1},\"max_us\":{:.1}{epochs}}}",
            self.errors,
            elapsed.as_secs_f64(),
            quantile_us(0.5),
            quantile_us(0.99),
            quantile_us(0.999),
            quantile_us(1.0),
        );
    }
}
