//! A load that makes sense: arguments checked against each other, the request built, the address
//! known. What a thread needs is here, and nothing is checked after.

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;

use super::arguments::{ExpectedStatus, LoadArguments};
use super::target::{Scheme, Target};
use crate::certificates::{self, Trust};
use crate::descriptors;
use crate::engine::Engine;

/// How long to send for if nothing is said.
const DURATION_DEFAULT: Duration = Duration::from_secs(10);

/// The message over TCP if nothing is said.
const MESSAGE_BYTES_DEFAULT: u64 = 16 * 1024;

/// The status of a right answer if nothing is said.
const STATUS_DEFAULT: ExpectedStatus = ExpectedStatus::Class(2);

/// Descriptors beside those of connections: standard streams, rings, timers, files.
const DESCRIPTORS_BESIDE: u64 = 64;

/// What every thread works from.
#[derive(Clone)]
pub(crate) struct Plan {
    pub(crate) url: String,
    pub(crate) engine: Engine,
    pub(crate) address: SocketAddr,
    /// Each connection takes another source address of 127.0.0.0/8.
    pub(crate) spreads_sources: bool,
    pub(crate) tls: Option<(Arc<ClientConfig>, ServerName<'static>)>,
    pub(crate) exchange: Exchange,
    pub(crate) keep_alive: bool,
    pub(crate) connections: u32,
    pub(crate) threads: u32,
    pub(crate) warmup: Duration,
    /// It waits at [`barrier`](super::barrier)s.
    pub(crate) staged: bool,
    pub(crate) amount: Amount,
    pub(crate) rate_per_s: Option<f64>,
    pub(crate) timeout: Duration,
}

/// When the load ends.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Amount {
    Time(Duration),
    Requests(u64),
}

/// What is sent, and what is right to come back. The bytes live as long as the program: each
/// connection sends them from where they are.
#[derive(Clone)]
pub(crate) enum Exchange {
    Http {
        request: &'static [u8],
        method: String,
        expected: Expected,
    },
    /// A message, and bytes of answer.
    Tcp {
        message: &'static [u8],
        answer_bytes: u64,
    },
}

/// A right answer.
#[derive(Clone, Debug)]
pub(crate) struct Expected {
    pub(crate) statuses: Vec<ExpectedStatus>,
    pub(crate) body_bytes: Option<u64>,
}

impl Plan {
    /// Checks, reads files, resolves the name, raises the limit of descriptors.
    ///
    /// # Errors
    /// The user's to mend: which argument is wrong, and what would be right.
    pub(crate) fn new(arguments: &LoadArguments) -> anyhow::Result<Self> {
        let target = Target::parse(&arguments.url)?;
        if arguments.threads > arguments.connections {
            bail!(
                "-t {} is more than -c {}: a thread needs a connection, so use -t {} or less",
                arguments.threads,
                arguments.connections,
                arguments.connections
            );
        }
        if arguments.timeout < Duration::from_millis(1) {
            bail!("--timeout must be at least 1ms");
        }
        let amount = match (arguments.requests, arguments.duration) {
            (Some(requests), _) => Amount::Requests(requests),
            (None, duration) => Amount::Time(duration.unwrap_or(DURATION_DEFAULT)),
        };
        let exchange = match target.scheme {
            Scheme::Tcp => tcp_exchange(arguments)?,
            Scheme::Http | Scheme::Https => http_exchange(arguments, &target)?,
        };
        let engine = arguments.engine.resolve().context("--engine uring")?;
        raise_descriptors(arguments.connections)?;
        let address = target.resolve()?;
        Ok(Self {
            url: arguments.url.clone(),
            engine,
            address,
            spreads_sources: matches!(address.ip(), IpAddr::V4(ip) if ip.is_loopback()),
            tls: tls_of(arguments, &target)?,
            exchange,
            keep_alive: !arguments.no_keepalive,
            connections: arguments.connections,
            threads: arguments.threads,
            warmup: arguments.warmup,
            staged: arguments.staged,
            amount,
            rate_per_s: arguments.rate,
            timeout: arguments.timeout,
        })
    }

    /// What is left of a staged plan when its connections stand: the warm-up is over.
    pub(crate) fn warmed_up(&self) -> Self {
        Self { warmup: Duration::ZERO, ..self.clone() }
    }

    /// A thread's share of something that is divided among all.
    pub(crate) fn share(&self, of: u64, thread: u32) -> u64 {
        let (threads, thread) = (u64::from(self.threads), u64::from(thread));
        of / threads + u64::from(thread < of % threads)
    }
}

fn tls_of(
    arguments: &LoadArguments,
    target: &Target,
) -> anyhow::Result<Option<(Arc<ClientConfig>, ServerName<'static>)>> {
    if target.scheme != Scheme::Https {
        if arguments.insecure || arguments.ca.is_some() {
            bail!("--insecure and --ca are for https:// URLs");
        }
        return Ok(None);
    }
    let trust = match &arguments.ca {
        _ if arguments.insecure => Trust::Anyone,
        Some(path) => Trust::Roots(path.clone()),
        None => Trust::System,
    };
    let name = ServerName::try_from(target.host.clone())
        .with_context(|| format!("`{}` is no name for a TLS server", target.host))?;
    Ok(Some((certificates::client_config(&trust)?, name)))
}

fn body_of(arguments: &LoadArguments) -> anyhow::Result<Option<Vec<u8>>> {
    if let Some(path) = &arguments.body {
        let body = fs::read(path).with_context(|| format!("--body {}", path.display()))?;
        return Ok(Some(body));
    }
    Ok(arguments.body_bytes.map(|bytes| vec![b'x'; usize::try_from(bytes).unwrap_or(usize::MAX)]))
}

fn tcp_exchange(arguments: &LoadArguments) -> anyhow::Result<Exchange> {
    if arguments.method.is_some() || !arguments.headers.is_empty() {
        bail!("-X and -H are for http:// and https:// URLs");
    }
    if !arguments.expect_status.is_empty() {
        bail!(
            "--expect-status is for http:// and https:// URLs, as bytes over TCP have no status: \
             leave it out, or use --expect-bytes"
        );
    }
    let message = match body_of(arguments)? {
        Some(body) => body,
        None => vec![b'x'; usize::try_from(MESSAGE_BYTES_DEFAULT).unwrap_or(usize::MAX)],
    };
    if message.is_empty() && !arguments.no_keepalive {
        bail!("empty messages over TCP measure nothing: add --no-keepalive for the connect rate");
    }
    let answer_bytes = arguments.expect_bytes.unwrap_or(message.len() as u64);
    Ok(Exchange::Tcp { message: message.leak(), answer_bytes })
}

fn http_exchange(arguments: &LoadArguments, target: &Target) -> anyhow::Result<Exchange> {
    let body = body_of(arguments)?;
    let default = if body.is_some() { "POST" } else { "GET" };
    let method = arguments.method.clone().unwrap_or_else(|| default.to_owned());
    if !is_token(&method) || method.eq_ignore_ascii_case("CONNECT") {
        bail!("-X `{method}` is no method that can be measured: use GET, HEAD, POST, …");
    }
    let mut request = format!("{method} {} HTTP/1.1\r\n", target.path);
    if !arguments.headers.iter().any(|header| is_named(header, "host")) {
        request += &format!("Host: {target}\r\n");
    }
    for header in &arguments.headers {
        request += &checked_header(header)?;
    }
    if !arguments.keep_alive() {
        request += "Connection: close\r\n";
    }
    if let Some(body) = &body {
        request += &format!("Content-Length: {}\r\n", body.len());
    } else if matches!(method.as_str(), "POST" | "PUT" | "PATCH") {
        request += "Content-Length: 0\r\n";
    }
    request += "\r\n";
    let mut request = request.into_bytes();
    request.extend(body.unwrap_or_default());
    let statuses = match arguments.expect_status.as_slice() {
        [] => vec![STATUS_DEFAULT],
        statuses => statuses.to_vec(),
    };
    let expected = Expected { statuses, body_bytes: arguments.expect_bytes };
    Ok(Exchange::Http { request: request.leak(), method, expected })
}

impl LoadArguments {
    fn keep_alive(&self) -> bool {
        !self.no_keepalive
    }
}

fn is_token(text: &str) -> bool {
    !text.is_empty()
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte))
}

fn is_named(header: &str, name: &str) -> bool {
    header.split(':').next().is_some_and(|found| found.eq_ignore_ascii_case(name))
}

/// The header as a line of the request.
fn checked_header(header: &str) -> anyhow::Result<String> {
    let Some((name, value)) = header.split_once(':') else {
        bail!("-H `{header}` has no colon: write it as 'Name: value'");
    };
    if !is_token(name) || value.contains(|c: char| c.is_ascii_control() && c != '\t') {
        bail!("-H {header:?} is no header: write it as 'Name: value'");
    }
    for (taken, instead) in [
        ("content-length", "it is computed from the body"),
        ("transfer-encoding", "bodies are sent with their length"),
        ("connection", "use --no-keepalive"),
        ("expect", "bodies are sent at once"),
    ] {
        if name.eq_ignore_ascii_case(taken) {
            bail!("-H `{name}` can't be given: {instead}");
        }
    }
    Ok(format!("{name}: {}\r\n", value.trim()))
}

/// Raises the limit of open files as far as it goes; that must be enough.
fn raise_descriptors(connections: u32) -> anyhow::Result<()> {
    let needed = u64::from(connections) + DESCRIPTORS_BESIDE;
    let allowed = descriptors::raise_to_hard_limit();
    if allowed < needed {
        bail!(
            "-c {connections} needs {needed} open files, {allowed} are allowed: use -c {} or less, \
             or raise the hard limit (ulimit -Hn {needed} as root)",
            allowed.saturating_sub(DESCRIPTORS_BESIDE)
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_checked() {
        assert_eq!(checked_header("A:  b ").expect("a header"), "A: b\r\n");
        for header in
            ["", "A", ": b", "A b: c", "A: b\r\nC: d", "Content-Length: 1", "expect: 100-continue"]
        {
            assert!(checked_header(header).is_err(), "{header:?}");
        }
    }
}
