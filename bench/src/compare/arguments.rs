//! What `lateen-bench compare` can be asked for. Comes before the [`plan`](super::plan), which checks
//! what one argument alone can't tell.

use crate::results::Profile;
use crate::units::parse_duration_above_zero;
use clap::{Args, ValueEnum};
use std::path::PathBuf;
use std::time::Duration;

const EXAMPLES: &str = "\
Examples:
  lateen-bench compare --quick
      three scenarios, three short rounds: about three minutes
  lateen-bench compare --profile bare,mesh --out results.json
      everything: a few hours, on a machine that has nothing else to do
  lateen-bench compare --peers lateen,nginx-tuned --scenarios http1-body-1m,memory
  lateen-bench compare --peer-file mine.toml --quick
      a proxy of yours beside the others; perf/peers/ has examples
  lateen-bench compare --list
      the scenarios, and the peers that are here

It needs at least two CPUs that have nothing else to do: what others use is recorded, and a run that they
disturb is made again. Exit code: 0, 1 if nothing was measured, 2 if the arguments make no sense, 130 if
it was interrupted (what was measured until then is written).";

/// Measure proxies against each other on this machine.
#[derive(Args, Clone, Debug)]
#[command(after_help = EXAMPLES)]
pub struct CompareArguments {
    /// Who takes part: lateen, lateen-epoll, nginx, nginx-tuned, haproxy, haproxy-tuned, envoy, floor,
    /// direct (no proxy), and names of --peer-file [default: all]
    #[arg(long, value_delimiter = ',', value_name = "NAME,…")]
    pub peers: Vec<String>,

    /// Where the program of a peer is; with `lateen`, `nginx` and `haproxy` for both of that name
    #[arg(long, value_name = "NAME=PATH", value_parser = parse_peer_bin)]
    pub peer_bin: Vec<(String, PathBuf)>,

    /// A further proxy, as a TOML file describes it; may be given several times
    #[arg(long, value_name = "FILE")]
    pub peer_file: Vec<PathBuf>,

    /// How much the proxies do beside forwarding; several with commas
    #[arg(long, value_enum, value_delimiter = ',', default_value = "bare")]
    pub profile: Vec<ProfileArgument>,

    /// What is measured; --list has the names [default: all]
    #[arg(long, value_delimiter = ',', value_name = "NAME,…", conflicts_with = "quick")]
    pub scenarios: Vec<String>,

    /// A short set: three scenarios, three short rounds
    #[arg(long)]
    pub quick: bool,

    /// Rounds; each has one load for each peer [default: 5; with --quick 3]
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..=1_000))]
    pub runs: Option<u32>,

    /// Length of a load [default: 4s; with --quick 1500ms]
    #[arg(long, value_parser = parse_duration_above_zero)]
    pub duration: Option<Duration>,

    /// Length of a load in requests instead; what connecting costs is then measured and taken off
    #[arg(long, value_name = "COUNT", conflicts_with = "duration")]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=1_000_000_000))]
    pub requests: Option<u64>,

    /// How often a load that others disturbed is made again [default: 2; with --quick 0]
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(..=100))]
    pub repeats: Option<u32>,

    /// Time on this machine counts instructions, a nanosecond each (an emulator; see perf/emulated)
    #[arg(long, requires = "requests")]
    pub instruction_clock: bool,

    /// Where the results are written
    #[arg(long, value_name = "FILE", default_value = "results.json")]
    pub out: PathBuf,

    /// Say what could be measured, and who is here; measure nothing
    #[arg(long)]
    pub list: bool,
}

/// As [`Profile`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ProfileArgument {
    /// No logs and no ids
    Bare,
    /// X-Forwarded-For, request id, JSON access log, metrics
    Mesh,
}

impl From<ProfileArgument> for Profile {
    fn from(argument: ProfileArgument) -> Self {
        match argument {
            ProfileArgument::Bare => Self::Bare,
            ProfileArgument::Mesh => Self::Mesh,
        }
    }
}

fn parse_peer_bin(text: &str) -> Result<(String, PathBuf), String> {
    match text.split_once('=') {
        Some((name, path)) if !name.is_empty() && !path.is_empty() => {
            Ok((name.to_owned(), PathBuf::from(path)))
        }
        _ => Err("write it as NAME=PATH, such as envoy=/opt/envoy/bin/envoy".to_owned()),
    }
}
