//! The admin endpoint: `/live`, `/ready`, `/metrics`, `/config_dump`, `/version`.
//!
//! Before: an operator, a probe or a scraper connects. After: it has its answer and the connection
//! is closed. Runs on threads of its own with blocking sockets and touches no worker: it reads
//! counters, the lifecycle word, and the snapshot that the process runs on. Asleep in `accept(2)` it costs
//! no wakeups. One connection, one thread, one request, all bounded.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::limits;
use crate::loaded::Published;
use crate::observe::lifecycle::{Lifecycle, Phase};
use crate::observe::metrics::Metrics;
use crate::observe::{json, metrics_text};

/// What the endpoint tells of.
#[derive(Debug)]
pub struct AdminSources {
    /// The counters.
    pub metrics: Arc<Metrics>,
    /// Whether the process is ready.
    pub lifecycle: Arc<Lifecycle>,
    /// The config as JSON, from [`Config::to_json`](crate::bootstrap::config::Config::to_json).
    pub config_json: String,
    /// What it runs on.
    pub published: Arc<Published>,
}

/// The address could not be bound.
#[derive(Debug, thiserror::Error)]
#[error("cannot serve the admin endpoint on {address}: {cause}; choose another with --admin")]
pub struct BindError {
    address: SocketAddr,
    cause: io::Error,
}

/// Binds `address`, starts to serve on a thread that lives as long as the process, and returns the
/// bound address.
///
/// # Errors
/// [`BindError`], when the port is in use or the address is not this machine's.
pub fn serve(address: SocketAddr, sources: AdminSources) -> Result<SocketAddr, BindError> {
    serve_with_timeout(address, sources, limits::ADMIN_TIMEOUT)
}

fn serve_with_timeout(
    address: SocketAddr,
    sources: AdminSources,
    timeout: Duration,
) -> Result<SocketAddr, BindError> {
    let failed = |cause| BindError { address, cause };
    let listener = TcpListener::bind(address).map_err(failed)?;
    let bound = listener.local_addr().map_err(failed)?;
    let server = Arc::new(Server { sources, timeout, open: AtomicUsize::new(0) });
    thread::Builder::new()
        .name("admin".to_owned())
        .stack_size(limits::ADMIN_STACK_BYTES)
        .spawn(move || accept_forever(&listener, &server))
        .map_err(failed)?;
    Ok(bound)
}

struct Server {
    sources: AdminSources,
    timeout: Duration,
    /// Connections being served.
    open: AtomicUsize,
}

/// Counts one connection for as long as it lives, a panic included.
struct Slot(Arc<Server>);

impl Slot {
    fn take(server: &Arc<Server>) -> Option<Self> {
        // Only the accepting thread takes slots, so that a look before the increment is enough.
        if server.open.load(Ordering::Acquire) >= limits::ADMIN_CONNECTIONS_MAX {
            return None;
        }
        server.open.fetch_add(1, Ordering::AcqRel);
        Some(Self(Arc::clone(server)))
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::AcqRel);
    }
}

fn accept_forever(listener: &TcpListener, server: &Arc<Server>) {
    loop {
        let mut stream = match listener.accept() {
            Ok((stream, _)) => stream,
            Err(error) => {
                // Out of descriptors: accept fails at once and would spin until one is free.
                if !matches!(error.kind(), ErrorKind::ConnectionAborted | ErrorKind::Interrupted) {
                    thread::sleep(Duration::from_millis(100));
                }
                continue;
            }
        };
        let Some(slot) = Slot::take(server) else {
            // Fits in an empty send buffer, so it does not block the accepting thread.
            let _ = stream.write_all(&Answer::BUSY.head_and_body(false));
            continue;
        };
        let spawned = thread::Builder::new()
            .name("admin-client".to_owned())
            .stack_size(limits::ADMIN_STACK_BYTES)
            .spawn(move || {
                // A client that leaves or stalls is no event of ours.
                let _ = answer_one(&mut stream, &slot.0);
            });
        if let Err(error) = spawned {
            tracing::error!(%error, "cannot start a thread for an admin connection");
        }
    }
}

/// Reads one request, answers it, and closes.
fn answer_one(stream: &mut TcpStream, server: &Server) -> io::Result<()> {
    let request = read_request(stream, Instant::now() + server.timeout)?;
    let answer = match &request {
        Request::Get { path, .. } => answer_path(path, &server.sources),
        Request::OtherMethod => Answer::METHOD_NOT_ALLOWED,
        Request::Malformed => Answer::BAD_REQUEST,
        Request::TooLarge => Answer::TOO_LARGE,
        Request::TooSlow => Answer::TOO_SLOW,
    };
    let head_only = matches!(request, Request::Get { head_only: true, .. });
    write_before(stream, &answer.head_and_body(head_only), Instant::now() + server.timeout)?;
    linger(stream)
}

/// What a client asked for.
enum Request {
    Get { path: String, head_only: bool },
    OtherMethod,
    Malformed,
    TooLarge,
    TooSlow,
}

/// Reads a head until `deadline`, however slowly it trickles in. A body is not read: none of the
/// paths takes one.
fn read_request(stream: &mut TcpStream, deadline: Instant) -> io::Result<Request> {
    let mut head = Vec::with_capacity(1024);
    let mut piece = [0; 1024];
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(Request::TooSlow);
        }
        stream.set_read_timeout(Some(left))?;
        let count = match stream.read(&mut piece) {
            Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
            Ok(count) => count,
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                return Ok(Request::TooSlow);
            }
            Err(error) => return Err(error),
        };
        head.extend_from_slice(&piece[..count]);
        if let Some(request) = parse_request(&head) {
            return Ok(request);
        }
        if head.len() > limits::ADMIN_HEAD_BYTES_MAX {
            return Ok(Request::TooLarge);
        }
    }
}

/// `None`: the head is not whole yet.
fn parse_request(head: &[u8]) -> Option<Request> {
    let mut fields = [httparse::EMPTY_HEADER; limits::ADMIN_HEADERS_MAX];
    let mut request = httparse::Request::new(&mut fields);
    match request.parse(head) {
        Ok(httparse::Status::Partial) => None,
        Err(httparse::Error::TooManyHeaders) => Some(Request::TooLarge),
        Err(_) => Some(Request::Malformed),
        Ok(httparse::Status::Complete(_)) => {
            let head_only = match request.method {
                Some("GET") => false,
                Some("HEAD") => true,
                _ => return Some(Request::OtherMethod),
            };
            let target = request.path.unwrap_or_default();
            let path = target.split_once('?').map_or(target, |(path, _)| path).to_owned();
            Some(Request::Get { path, head_only })
        }
    }
}

fn answer_path(path: &str, sources: &AdminSources) -> Answer {
    match path {
        "/live" => Answer::text("200 OK", "live\n"),
        "/ready" => match sources.lifecycle.phase() {
            Phase::Ready => Answer::text("200 OK", "ready\n"),
            Phase::Starting => Answer::text("503 Service Unavailable", "starting\n"),
            Phase::Draining => Answer::text("503 Service Unavailable", "draining\n"),
        },
        "/metrics" => Answer {
            status: "200 OK",
            content_type: metrics_text::CONTENT_TYPE,
            allow: false,
            body: sources.metrics.text(),
        },
        "/config_dump" => Answer::json(dump_json(sources) + "\n"),
        "/version" => Answer::json(version_json() + "\n"),
        _ => Answer::text(
            "404 Not Found",
            "no such path; try /live /ready /metrics /config_dump /version\n",
        ),
    }
}

/// What the process was started with, and the snapshot that every worker runs.
fn dump_json(sources: &AdminSources) -> String {
    let loaded = sources.published.loaded();
    let epoch = serde_json::Value::from(loaded.epoch.to_string());
    // Only a map with keys that are no strings could fail, and the model has none.
    let snapshot = serde_json::to_string(&loaded.snapshot).unwrap_or_default();
    let process = &sources.config_json;
    format!("{{\"process\":{process},\"epoch\":{epoch},\"snapshot\":{snapshot}}}")
}

/// Name, version and target of this build as JSON.
fn version_json() -> String {
    let mut object = json::Object::new();
    object.string("name", env!("CARGO_PKG_NAME"));
    object.string("version", env!("CARGO_PKG_VERSION"));
    object.string("target_arch", std::env::consts::ARCH);
    object.finish()
}

/// An answer before it is written.
struct Answer {
    /// Code and reason phrase.
    status: &'static str,
    content_type: &'static str,
    /// Says which methods are allowed (RFC 9110 §15.5.6).
    allow: bool,
    body: String,
}

impl Answer {
    const BAD_REQUEST: Self = Self::empty("400 Bad Request");
    const TOO_SLOW: Self = Self::empty("408 Request Timeout");
    const TOO_LARGE: Self = Self::empty("431 Request Header Fields Too Large");
    const BUSY: Self = Self::empty("503 Service Unavailable");
    const METHOD_NOT_ALLOWED: Self = Self {
        status: "405 Method Not Allowed",
        content_type: "text/plain",
        allow: true,
        body: String::new(),
    };

    const fn empty(status: &'static str) -> Self {
        Self { status, content_type: "text/plain", allow: false, body: String::new() }
    }

    fn text(status: &'static str, body: &str) -> Self {
        Self { body: body.to_owned(), ..Self::empty(status) }
    }

    fn json(body: String) -> Self {
        Self { content_type: "application/json", body, ..Self::empty("200 OK") }
    }

    fn head_and_body(&self, head_only: bool) -> Vec<u8> {
        let allow = if self.allow { "allow: GET, HEAD\r\n" } else { "" };
        let mut out = format!(
            "HTTP/1.1 {}\r\ncontent-type: {}\r\ncontent-length: {}\r\n{allow}connection: close\r\n\
             cache-control: no-store\r\n\r\n",
            self.status,
            self.content_type,
            self.body.len()
        )
        .into_bytes();
        if !head_only {
            out.extend_from_slice(self.body.as_bytes());
        }
        out
    }
}

/// Writes all of `bytes` before `deadline`, however slowly the client reads.
fn write_before(stream: &mut TcpStream, mut bytes: &[u8], deadline: Instant) -> io::Result<()> {
    while !bytes.is_empty() {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(ErrorKind::TimedOut.into());
        }
        stream.set_write_timeout(Some(left))?;
        match stream.write(bytes) {
            Ok(count) => bytes = &bytes[count..],
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Closes so that the answer arrives: a socket closed with unread bytes sends RST, which may
/// overtake what was written (RFC 9112 §9.6).
fn linger(stream: &mut TcpStream) -> io::Result<()> {
    stream.shutdown(Shutdown::Write)?;
    let deadline = Instant::now() + limits::ADMIN_LINGER;
    let mut piece = [0; 1024];
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(());
        }
        stream.set_read_timeout(Some(left))?;
        if stream.read(&mut piece)? == 0 {
            return Ok(());
        }
    }
}

#[cfg(test)]
#[path = "admin_tests.rs"]
mod tests;
