//! What `lateen-bench upstream` can be asked for.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::bail;
use clap::{Args, ValueEnum};

use crate::engine::EngineChoice;
use crate::units::{parse_body_bytes, parse_duration, parse_duration_above_zero};

const EXAMPLES: &str = "\
It prints `listening ADDR` once it accepts, serves until SIGTERM or SIGINT, and then prints how much
it has answered.

A path that is a number is answered with so many bytes: GET /1048576 is 1 MiB, and /0 an empty
answer. Every other path gets --body-bytes.

Examples:
  lateen-bench upstream --listen 127.0.0.1:0
      100 bytes to every request, on a port that the kernel chooses
  lateen-bench upstream --listen 127.0.0.1:9000 --delay 5ms --jitter 2ms
      each answer after 5 to 7 ms
  lateen-bench upstream --listen 127.0.0.1:9000 --stall-every 10s --stall-for 1s
      nothing is answered for 1 s, every 10 s
  lateen-bench upstream --listen 127.0.0.1:9000 --delay 10ms --slots 8
      at most 8 requests at a time, 10 ms each: 800 a second, and who comes too many waits
  lateen-bench upstream --listen 127.0.0.1:9000 --error-rate 0.01 --close-every 100
      one answer in a hundred is a 503, and a connection ends after 100 answers
  lateen-bench upstream --listen 127.0.0.1:9443 --tls-cert cert.pem --tls-key key.pem
      the same over TLS
  lateen-bench upstream --listen 127.0.0.1:5201 --protocol echo
      what comes over TCP goes back";

/// As many as a load has connections at most: more would never be full.
const SLOTS_MAX: i64 = 1_000_000;

/// Answer requests, as fast or as badly as told.
#[derive(Args, Clone, Debug)]
#[command(after_help = EXAMPLES)]
pub struct UpstreamArguments {
    /// Where to listen, as 127.0.0.1:9000; port 0 lets the kernel choose
    #[arg(long, value_name = "ADDR")]
    pub listen: SocketAddr,

    /// What is spoken
    #[arg(long, default_value = "http")]
    pub protocol: Protocol,

    /// Bytes of an answer's body, unless the path says how many (100, 64k, 1M) [default: 100]
    #[arg(long, value_name = "N", value_parser = parse_body_bytes)]
    pub body_bytes: Option<u64>,

    /// Answer after this time
    #[arg(long, value_name = "TIME", default_value = "0s", value_parser = parse_duration)]
    pub delay: Duration,

    /// And after up to this much more, evenly spread
    #[arg(long, value_name = "TIME", default_value = "0s", value_parser = parse_duration)]
    pub jitter: Duration,

    /// Work on so many requests at a time, over all connections and threads; each holds its slot for
    /// --delay and --jitter, and the others wait in the order in which they came. A connection has one
    /// request at a time, so that no more wait than there are connections [default: no limit]
    #[arg(long, value_name = "N")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=SLOTS_MAX))]
    pub slots: Option<u32>,

    /// The share of answers that are 503, from 0 to 1
    #[arg(long, value_name = "SHARE", default_value_t = 0.0, value_parser = parse_share)]
    pub error_rate: f64,

    /// Every so often hold everything back, for --stall-for
    #[arg(long, value_name = "TIME", value_parser = parse_duration_above_zero)]
    pub stall_every: Option<Duration>,

    /// How long a stall holds everything back
    #[arg(long, value_name = "TIME", default_value = "1s", requires = "stall_every")]
    #[arg(value_parser = parse_duration_above_zero)]
    pub stall_for: Duration,

    /// End a connection after this many answers, the last with `Connection: close`
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub close_every: Option<u64>,

    /// What chance is seeded with: the same seed misbehaves in the same way
    #[arg(long, default_value_t = 1)]
    pub seed: u64,

    /// Certificates (PEM): serve TLS
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    pub tls_cert: Option<PathBuf>,

    /// The certificate's private key (PEM)
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    pub tls_key: Option<PathBuf>,

    /// Threads, each with an event loop; the kernel spreads connections over them
    #[arg(short, long, default_value_t = 1)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=256))]
    pub threads: u32,

    /// What drives the sockets
    #[arg(long, default_value = "auto")]
    pub engine: EngineChoice,
}

/// What the upstream speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Protocol {
    /// HTTP/1.1
    Http,
    /// What comes goes back
    Echo,
    /// What comes is thrown away
    Discard,
}

impl UpstreamArguments {
    /// Refuses what one argument alone can't tell to be senseless.
    ///
    /// # Errors
    /// The user's to mend: which argument is wrong, and what would be right.
    pub(crate) fn check(&self) -> anyhow::Result<()> {
        if self.stall_every.is_some_and(|every| self.stall_for >= every) {
            bail!("--stall-for must be shorter than --stall-every, or nothing is ever answered");
        }
        if self.slots.is_some()
            && self.protocol != Protocol::Discard
            && self.delay.is_zero()
            && self.jitter.is_zero()
        {
            bail!(
                "--slots limits nothing while a request takes no time: give --delay or --jitter too"
            );
        }
        let answers_differ = [
            ("--body-bytes", self.body_bytes.is_some()),
            ("--error-rate", self.error_rate > 0.0),
            ("--close-every", self.close_every.is_some()),
        ];
        let holds_back = [
            ("--delay", !self.delay.is_zero()),
            ("--jitter", !self.jitter.is_zero()),
            ("--stall-every", self.stall_every.is_some()),
            ("--slots", self.slots.is_some()),
        ];
        let given = |flags: &[(&'static str, bool)]| {
            flags.iter().find(|(_, given)| *given).map(|(flag, _)| *flag)
        };
        match self.protocol {
            Protocol::Http => Ok(()),
            Protocol::Echo | Protocol::Discard => match given(&answers_differ) {
                Some(flag) => {
                    bail!("{flag} is for answers of HTTP: leave it out, or use --protocol http")
                }
                None if self.protocol == Protocol::Echo => Ok(()),
                None => match given(&holds_back) {
                    Some(flag) => bail!(
                        "{flag} holds answers back, and --protocol discard gives none: leave it \
                         out, or use --protocol echo"
                    ),
                    None => Ok(()),
                },
            },
        }
    }
}

fn parse_share(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(share) if (0.0..=1.0).contains(&share) => Ok(share),
        _ => Err("not a share: from 0 (never) to 1 (always)".to_owned()),
    }
}
