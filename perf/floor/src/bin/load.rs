//! The load that wrk cannot make, from one thread, as one JSON line on stdout.
//!
//! `--mode open`: `--rate` requests a second over keep-alive connections, on a schedule that does
//! not wait for answers. Latency counts from the moment a request was due, also when no connection
//! was free then, so that a stall is charged to every request it delayed.
//!
//! `--mode reconnect`: each of `--connections` slots connects, asks once, reads the whole answer,
//! closes, and begins again.

use std::{
    collections::VecDeque,
    error::Error,
    io::{self, Read, Write},
    net::{SocketAddr, TcpStream},
    os::fd::AsRawFd,
    time::{Duration, Instant},
};

use lateen_floor::{args::Args, epoll::Epoll, head::parse_response, socket};

const USAGE: &str = "load --mode open|reconnect --target ADDR --path PATH --connections N \
                     --seconds N [--rate N]";

/// How long answers are awaited after the last request was due.
const GRACE: Duration = Duration::from_secs(2);

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = Args::from_env(USAGE);
    let mode: String = args.required("mode");
    let target: SocketAddr = args.required("target");
    let path: String = args.required("path");
    let connections: usize = args.required("connections");
    let seconds: u64 = args.required("seconds");
    let rate: Option<u64> = args.optional("rate");
    args.finish();
    let interval = match (mode.as_str(), rate) {
        ("open", Some(rate @ 1..)) => Some(Duration::from_nanos(1_000_000_000 / rate)),
        ("reconnect", None) => None,
        _ => return Err("--rate N goes with --mode open, and only with it".into()),
    };
    socket::raise_descriptor_limit()?;
    // The kernel may fire this thread's timers 50 µs late by default, which would be measured.
    // SAFETY: PR_SET_TIMERSLACK takes an integer.
    socket::check(unsafe { libc::prctl(libc::PR_SET_TIMERSLACK, 1) })?;
    let mut load = Load {
        epoll: Epoll::new()?,
        target,
        request: format!("GET {path} HTTP/1.1\r\nHost: {target}\r\n\r\n").into_bytes(),
        body_bytes: path.trim_start_matches('/').parse()?,
        slots: Vec::new(),
        idle: Vec::new(),
        due: VecDeque::new(),
        latencies_ns: Vec::new(),
        errors: 0,
        reconnect: interval.is_none(),
    };
    for index in 0..connections {
        let connection = load.connect(index)?;
        load.slots.push(connection);
        load.idle.push(index);
    }
    let elapsed = load.run(Duration::from_secs(seconds), interval)?;
    load.report(elapsed);
    Ok(())
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
    reconnect: bool,
}

struct Connection {
    stream: TcpStream,
    /// When the request under way was due; `None` while idle.
    due: Option<Instant>,
    head: Vec<u8>,
    body_left: Option<u64>,
}

impl Load {
    /// Runs the schedule, then waits for what is under way; returns the time the load took.
    fn run(&mut self, length: Duration, interval: Option<Duration>) -> io::Result<Duration> {
        let start = Instant::now();
        let end = start + length;
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
                None if now < end => self.due.extend(self.idle.iter().map(|_| now)),
                None => {}
            }
            self.start_due()?;
            let quiet = self.due.is_empty() && self.idle.len() == self.slots.len();
            if now >= end && (quiet || now >= end + GRACE) {
                self.errors += (self.slots.len() - self.idle.len() + self.due.len()) as u64;
                return Ok(length.max(now.min(end) - start));
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
        Ok(Connection { stream, due: None, head: Vec::new(), body_left: None })
    }

    fn report(&mut self, elapsed: Duration) {
        self.latencies_ns.sort_unstable();
        let count = self.latencies_ns.len();
        let quantile_us = |share: f64| {
            let rank = (count as f64 * share).ceil() as usize;
            let value = self.latencies_ns.get(rank.saturating_sub(1)).copied().unwrap_or_default();
            value as f64 / 1000.0
        };
        println!(
            "{{\"requests\":{count},\"errors\":{},\"seconds\":{:.3},\"p50_us\":{:.1},\
             \"p99_us\":{:.1},\"p999_us\":{:.1},\"max_us\":{:.1}}}",
            self.errors,
            elapsed.as_secs_f64(),
            quantile_us(0.5),
            quantile_us(0.99),
            quantile_us(0.999),
            quantile_us(1.0),
        );
    }
}
