//! What `lateen-bench load` can be asked for. Comes before the [`plan`](super::plan), which checks
//! what one argument alone can't tell.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use crate::engine::EngineChoice;
use crate::units::{parse_body_bytes, parse_bytes, parse_duration, parse_duration_above_zero};

const EXAMPLES: &str = "\
Examples:
  lateen-bench load http://127.0.0.1:8080/ -c 64 -d 30s
      as fast as 64 connections go: each sends when its last answer is there (closed loop)
  lateen-bench load http://127.0.0.1:8080/ -c 64 -d 30s -R 5000
      5,000 requests a second whatever the server does (open loop): latency counts from the moment
      a request was due, so a server that stalls can't hide it
  lateen-bench load https://shop.example/cart -n 1000 -H 'Cookie: a=b' --json result.json
      1,000 requests over TLS, the result also in a file
  lateen-bench load http://127.0.0.1:8080/ --no-keepalive -d 10s
      a new connection for each request
  lateen-bench load tcp://127.0.0.1:5201 --body-bytes 16k -d 10s
      messages of 16 KiB over TCP, each awaited as 16 KiB of answer (an echo); with --expect-bytes N
      as N bytes; with --expect-bytes 0 nothing is awaited
  lateen-bench load tcp://127.0.0.1:5201 --no-keepalive --body-bytes 0 -d 10s
      connects and closes: the connect rate

Exit code: 0, 1 if no right answer came, 2 if the arguments make no sense.";

/// Make requests, and say what came back and when.
#[derive(Args, Clone, Debug)]
#[command(after_help = EXAMPLES)]
pub struct LoadArguments {
    /// Where to: http://HOST[:PORT][/PATH], https://… or tcp://HOST:PORT
    pub url: String,

    /// Connections, over all threads
    #[arg(short, long, default_value_t = 64, value_name = "CONNS")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub connections: u32,

    /// Threads, each with an event loop and its share of the connections
    #[arg(short, long, default_value_t = 1, value_name = "THREADS")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=256))]
    pub threads: u32,

    /// How long to send for, after the warm-up [default: 10s unless -n is given]
    #[arg(short, long, value_parser = parse_duration_above_zero, conflicts_with = "requests")]
    pub duration: Option<Duration>,

    /// How many requests to make, after the warm-up, instead of for how long
    #[arg(short = 'n', long, value_name = "REQUESTS")]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=1_000_000_000_000))]
    pub requests: Option<u64>,

    /// Requests a second over all connections, at even distances (open loop); else as many as go
    #[arg(short = 'R', long, value_parser = parse_rate)]
    pub rate: Option<f64>,

    /// Method [default: GET, or POST with a body]
    #[arg(short = 'X', long)]
    pub method: Option<String>,

    /// Header of each request, as 'Name: value'; may be given several times
    #[arg(short = 'H', long = "header", value_name = "HEADER")]
    pub headers: Vec<String>,

    /// Body of each request, from a file
    #[arg(long, value_name = "FILE", conflicts_with = "body_bytes")]
    pub body: Option<PathBuf>,

    /// Body of each request, of so many bytes (100, 64k, 1M); with tcp:// the message [default: 16k]
    #[arg(long, value_name = "N", value_parser = parse_body_bytes)]
    pub body_bytes: Option<u64>,

    /// A new connection for each request
    #[arg(long)]
    pub no_keepalive: bool,

    /// Believe any certificate
    #[arg(long, conflicts_with = "ca")]
    pub insecure: bool,

    /// Certificates (PEM) to believe instead of the machine's
    #[arg(long, value_name = "FILE")]
    pub ca: Option<PathBuf>,

    /// Give up on a connection that isn't there, or an answer that isn't whole, after this
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = parse_duration_above_zero)]
    pub timeout: Duration,

    /// Send for this long before anything counts
    #[arg(long, value_name = "TIME", default_value = "0s", value_parser = parse_duration)]
    pub warmup: Duration,

    /// Statuses of a right answer, as 200 or 2xx [default: 2xx]
    #[arg(long, value_name = "STATUS", value_delimiter = ',')]
    #[arg(value_parser = parse_expected)]
    pub expect_status: Vec<ExpectedStatus>,

    /// Bytes of a right answer's body (of each answer, with tcp://) [default: any; tcp: as sent]
    #[arg(long, value_name = "N", value_parser = parse_bytes)]
    pub expect_bytes: Option<u64>,

    /// What drives the sockets
    #[arg(long, default_value = "auto")]
    pub engine: EngineChoice,

    /// Wait for a line on stdin before and after what is measured
    #[arg(long, hide = true)]
    pub staged: bool,

    /// Write the result as JSON to this file; `-` is stdout
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,

    /// Write the latency distribution to this file, in ms, as HdrHistogram's text (.hgrm)
    #[arg(long, value_name = "FILE")]
    pub hdr: Option<PathBuf>,
}

/// One status, or a class of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExpectedStatus {
    /// As `200`.
    Exactly(u16),
    /// The first digit, as `2xx`.
    Class(u16),
}

impl ExpectedStatus {
    /// Whether a status is what was expected.
    pub fn matches(self, status: u16) -> bool {
        match self {
            Self::Exactly(expected) => status == expected,
            Self::Class(class) => status / 100 == class,
        }
    }
}

fn parse_expected(text: &str) -> Result<ExpectedStatus, String> {
    let wrong = || "not a status: write it as 200, or 2xx for a class".to_owned();
    match text.as_bytes() {
        [class @ b'2'..=b'9', b'x', b'x'] => Ok(ExpectedStatus::Class(u16::from(class - b'0'))),
        [b'2'..=b'9', _, _] => text.parse().map(ExpectedStatus::Exactly).map_err(|_| wrong()),
        _ => Err(wrong()),
    }
}

fn parse_rate(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(rate) if (0.01..=10_000_000.0).contains(&rate) => Ok(rate),
        _ => Err("not a rate: from 0.01 to 10000000 requests a second".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_expected_statuses() {
        let two = parse_expected("2xx").expect("a class");
        assert!(two.matches(200) && two.matches(299) && !two.matches(300));
        let exactly = parse_expected("404").expect("a status");
        assert!(exactly.matches(404) && !exactly.matches(400));
        for text in ["", "20", "2x", "1xx", "100", "xxx", "2000", "20a", "+20"] {
            assert!(parse_expected(text).is_err(), "{text}");
        }
    }

    #[test]
    fn refuses_rates_that_are_none() {
        assert_eq!(parse_rate("0.5"), Ok(0.5));
        for text in ["0", "-1", "nan", "inf", "1e8", "x"] {
            assert!(parse_rate(text).is_err(), "{text}");
        }
    }
}
