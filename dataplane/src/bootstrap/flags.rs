//! The flags, as clap reads them, and their way into a [`Config`].
//!
//! Before: the argument vector. After: `config`. The only place that knows clap's types; a check
//! that looks at one flag stands in that flag's parser, one that relates two flags in
//! [`QuickFlags::into_quick`].

use std::collections::HashSet;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, ValueEnum};

use crate::bootstrap::config::{
    AccessLogTarget, Config, Drain, EngineChoice, PoolLimits, Sizes, Timeouts,
};
use crate::bootstrap::host::Host;
use crate::bootstrap::quick::{self, ProtocolFlag};
use crate::bootstrap::value::{ByteSize, OrNone, TimeSpan};
use crate::bootstrap::{BootstrapError, Quick, Run};
use crate::limits;

/// Lateen's data plane: a proxy for TCP and HTTP/1.1
#[derive(Debug, Parser)]
#[command(
    name = "lateen-proxy",
    bin_name = "lateen-proxy",
    version,
    about,
    disable_help_subcommand = true
)]
#[command(subcommand_required = true, arg_required_else_help = true)]
pub(super) struct CommandLine {
    #[command(subcommand)]
    pub(super) command: Subcommand,
}

#[derive(Debug, clap::Subcommand)]
pub(super) enum Subcommand {
    /// Run a proxy from flags alone
    #[command(after_help = QUICK_EXAMPLES)]
    Quick(Box<QuickFlags>),
    /// Run a proxy that a control plane tells what to do
    #[command(after_help = RUN_EXAMPLES)]
    Run(Box<RunFlags>),
    /// See it work: a proxy, an upstream and a few requests, all on this machine
    ///
    /// Starts a proxy on a free port with an upstream of its own, sends real requests through it
    /// and prints what happened and a curl line to go on with. Stays until ctrl-C; without a
    /// terminal it ends by itself, with exit code 0 if all was well.
    Try,
}

const QUICK_EXAMPLES: &str = "\
Examples:
  Forward port 8080 to two local servers, HTTP or not:
    lateen-proxy quick --listen 0.0.0.0:8080 --upstream 127.0.0.1:9000,127.0.0.1:9001
  With an access log, and metrics on a known port:
    lateen-proxy quick --listen [::]:8080 --upstream 127.0.0.1:9000 \\
      --access-log /var/log/lateen.json --admin 127.0.0.1:9901

Signals: TERM or INT drains and exits (again: at once), USR1 reopens the access log.
Exit codes: 0 drained, 1 could not run, 2 wrong flags, 3 drained but connections had to be cut.
Time spans are written 250ms, 10s, 5m, 1h; sizes 4096, 64KiB, 1MiB.";

const RUN_EXAMPLES: &str = "\
Examples:
  The proxy beside one instance of a service:
    lateen-proxy run --name cart-a --control /run/lateen/proxies.sock --state /var/lib/lateen/cart-a

It starts with the snapshot that it ran last and asks the control plane for a newer one. Listeners,
routes and clusters come from there; a change reaches all workers at once or is refused whole.
Signals and exit codes are those of `quick`.";

const TRAFFIC: &str = "Traffic";
const CONTROL: &str = "Control plane";
const MACHINE: &str = "Machine";
const WATCHING: &str = "Watching";
const TIMEOUTS: &str = "Timeouts";
const LIMITS: &str = "Limits";
const POOL: &str = "Upstream connections";
const DRAINING: &str = "Draining";

#[derive(Debug, Args)]
pub(super) struct QuickFlags {
    /// Address to accept on; repeat for more. Port 0 takes a free one.
    ///
    /// IPv4 (127.0.0.1:8080) or IPv6 ([::1]:8080). Printed as `listening <addr>` once it accepts.
    #[arg(long, value_name = "ADDR", required = true, help_heading = TRAFFIC, value_parser = address)]
    listen: Vec<SocketAddr>,

    /// Where requests go: one address, or several with commas.
    ///
    /// Each request goes to the less loaded of two endpoints chosen by chance. An endpoint that
    /// refuses a connection is tried last for 1 s, doubling to 30 s.
    #[arg(long, value_name = "ADDR,...", required = true, value_delimiter = ',')]
    #[arg(help_heading = TRAFFIC, value_parser = upstream_address)]
    upstream: Vec<SocketAddr>,

    /// What clients speak.
    #[arg(long, value_enum, default_value = "auto", help_heading = TRAFFIC)]
    protocol: ProtocolFlag,

    #[command(flatten)]
    process: ProcessFlags,
}

#[derive(Debug, Args)]
pub(super) struct RunFlags {
    /// Which of the control plane's proxies this is: the name of a `Proxy` in the config.
    #[arg(long, value_name = "NAME", help_heading = CONTROL, value_parser = proxy_name)]
    name: String,

    /// The control plane's socket, as in `lateen serve --socket`.
    ///
    /// While nobody answers there the proxy serves what it ran last, and tries again.
    #[arg(long, value_name = "SOCKET", help_heading = CONTROL)]
    control: PathBuf,

    /// Folder for the last good snapshot, which a restart begins with; made if it is not there.
    #[arg(long, value_name = "DIR", help_heading = CONTROL)]
    state: PathBuf,

    #[command(flatten)]
    process: ProcessFlags,
}

/// What is the process's own, wherever its routes come from.
#[derive(Debug, Args)]
struct ProcessFlags {
    /// Forward TRACE requests, which are answered 405 otherwise.
    #[arg(long, help_heading = TRAFFIC)]
    trace_method: bool,

    /// Worker threads [default: the CPUs this process may use]
    ///
    /// The default counts the affinity mask and the CPU quota of the cgroup.
    #[arg(long, value_name = "N", help_heading = MACHINE, value_parser = workers)]
    workers: Option<usize>,

    /// Pin each worker to a CPU.
    #[arg(long, value_enum, default_value = "auto", help_heading = MACHINE)]
    pin: Pin,

    /// Which I/O engine to run.
    ///
    /// What runs, and why, is in the log and in the metric engine_info.
    #[arg(long, value_enum, default_value = "auto", help_heading = MACHINE)]
    engine: EngineChoice,

    /// For tests: kernel features to do without, such as -multishot-recv,-buffer-ring.
    #[arg(long, value_name = "-FEATURE,...", value_delimiter = ',', allow_hyphen_values = true)]
    #[arg(help_heading = MACHINE)]
    engine_features: Vec<String>,

    /// Where /live, /ready, /metrics, /config_dump and /version are served.
    ///
    /// Printed as `admin <addr>`. Keep it off public networks: it has no access control.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:0")]
    #[arg(help_heading = WATCHING, value_parser = address)]
    admin: SocketAddr,

    /// Where the access log goes: a file, - for standard output, or off.
    ///
    /// One JSON object per line. Lines are dropped and counted, never waited for, when the disk is
    /// slow.
    #[arg(long, value_name = "PATH|-|off", default_value = "off", help_heading = WATCHING)]
    access_log: PathBuf,

    /// Until a request head is whole; then 408.
    #[arg(long, value_name = "TIME", default_value_t = TimeSpan(limits::HEADER_TIMEOUT))]
    #[arg(help_heading = TIMEOUTS, value_parser = timeout)]
    header_timeout: TimeSpan,

    /// No progress for that long while a body is read.
    #[arg(long, value_name = "TIME", default_value_t = TimeSpan(limits::BODY_TIMEOUT))]
    #[arg(help_heading = TIMEOUTS, value_parser = timeout)]
    body_timeout: TimeSpan,

    /// A connection between requests, or a tunnel in which neither side speaks.
    #[arg(long, value_name = "TIME", default_value_t = TimeSpan(limits::IDLE_TIMEOUT))]
    #[arg(help_heading = TIMEOUTS, value_parser = timeout)]
    idle_timeout: TimeSpan,

    /// Until a connection to an endpoint stands; then another endpoint, or 503.
    #[arg(long, value_name = "TIME", default_value_t = TimeSpan(limits::CONNECT_TIMEOUT))]
    #[arg(help_heading = TIMEOUTS, value_parser = timeout)]
    connect_timeout: TimeSpan,

    /// From the request's head to the response's last byte; then 504. May be none.
    #[arg(long, value_name = "TIME|none", default_value_t = OrNone(None))]
    #[arg(help_heading = TIMEOUTS, value_parser = optional_timeout)]
    request_timeout: OrNone<TimeSpan>,

    /// No progress for that long while a peer does not read.
    #[arg(long, value_name = "TIME", default_value_t = TimeSpan(limits::WRITE_TIMEOUT))]
    #[arg(help_heading = TIMEOUTS, value_parser = timeout)]
    write_timeout: TimeSpan,

    /// A silent client gets its upstream connected after that long (protocol auto).
    #[arg(long, value_name = "TIME", default_value_t = TimeSpan(limits::DETECT_TIMEOUT))]
    #[arg(help_heading = TIMEOUTS, value_parser = timeout)]
    detect_timeout: TimeSpan,

    /// Bytes of a request or response head; a longer request gets 431.
    #[arg(long, value_name = "SIZE", default_value_t = ByteSize(limits::HEAD_BYTES_MAX as u64))]
    #[arg(help_heading = LIMITS, value_parser = head_bytes)]
    head_bytes_max: ByteSize,

    /// Header fields of a head; a request with more gets 431.
    #[arg(long, value_name = "N", default_value_t = limits::HEADERS_MAX)]
    #[arg(help_heading = LIMITS, value_parser = headers)]
    headers_max: usize,

    /// Bytes of a request target; a longer one gets 414.
    #[arg(long, value_name = "SIZE", default_value_t = ByteSize(limits::TARGET_BYTES_MAX as u64))]
    #[arg(help_heading = LIMITS, value_parser = positive_size)]
    target_bytes_max: ByteSize,

    /// Bytes of a request body; a longer one gets 413. May be none.
    #[arg(long, value_name = "SIZE|none", default_value_t = OrNone(None), help_heading = LIMITS)]
    body_bytes_max: OrNone<ByteSize>,

    /// Client connections at a time, in the whole process [default: 90 % of the descriptors]
    ///
    /// At the cap the longest-idle connection is closed for a new one; with none idle the new one
    /// is refused.
    #[arg(long, value_name = "N", help_heading = LIMITS, value_parser = connections)]
    connections_max: Option<usize>,

    /// Bytes of memory of the whole process, by which requests are turned away [default: of the cgroup]
    ///
    /// From 90 % on Sheddable requests are answered 503 and answers close their connection; from 95 % on only
    /// Critical ones are answered, and new connections wait. The default is none without a cgroup's memory.max.
    #[arg(long, value_name = "SIZE|none", help_heading = LIMITS, value_parser = memory)]
    memory_max: Option<OrNone<ByteSize>>,

    /// Idle connections kept to each upstream service, in the whole process; 0 keeps none.
    ///
    /// To all services together no more are kept than this or a quarter of the descriptors, whichever
    /// is more; and where descriptors run out, idle connections are closed first.
    #[arg(long, value_name = "N", default_value_t = limits::POOL_IDLE_MAX)]
    #[arg(help_heading = POOL, value_parser = pool_idle)]
    pool_idle_max: usize,

    /// An idle one is closed after.
    #[arg(long, value_name = "TIME", default_value_t = TimeSpan(limits::POOL_IDLE_TIMEOUT))]
    #[arg(help_heading = POOL, value_parser = timeout)]
    pool_idle_timeout: TimeSpan,

    /// None is used again after.
    #[arg(long, value_name = "TIME", default_value_t = TimeSpan(limits::POOL_LIFETIME))]
    #[arg(help_heading = POOL, value_parser = timeout)]
    pool_lifetime: TimeSpan,

    /// After a TERM, /ready is 503 but accepting goes on for that long.
    #[arg(long, value_name = "TIME", default_value_t = TimeSpan(limits::DRAIN_DELAY))]
    #[arg(help_heading = DRAINING)]
    drain_delay: TimeSpan,

    /// Then what is in flight may take that long before it is cut (exit code 3).
    #[arg(long, value_name = "TIME", default_value_t = TimeSpan(limits::DRAIN_TIMEOUT))]
    #[arg(help_heading = DRAINING, value_parser = timeout)]
    drain_timeout: TimeSpan,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Pin {
    /// Only when there are as many workers as CPUs in the affinity mask
    Auto,
    /// Always, round robin over the affinity mask
    On,
    /// Never
    Off,
}

impl QuickFlags {
    /// Checks what relates flags to each other and to the machine.
    pub(super) fn into_quick(self, host: &Host) -> Result<Quick, BootstrapError> {
        self.check_addresses()?;
        let snapshot = quick::snapshot(&self.listen, &self.upstream, self.protocol);
        Ok(Quick { config: self.process.into_config(host)?, snapshot })
    }

    fn check_addresses(&self) -> Result<(), BootstrapError> {
        if self.listen.len() > limits::LISTENERS_MAX {
            let most = limits::LISTENERS_MAX;
            return Err(usage(format!("more than {most} --listen addresses; use fewer")));
        }
        if self.upstream.len() > limits::ENDPOINTS_MAX {
            let most = limits::ENDPOINTS_MAX;
            return Err(usage(format!("more than {most} --upstream addresses; use fewer")));
        }
        let mut taken = HashSet::new();
        let fixed = self.listen.iter().filter(|address| address.port() != 0);
        for address in fixed {
            if !taken.insert(*address) {
                return Err(usage(format!("--listen {address} is given twice; remove one")));
            }
        }
        if taken.contains(&self.process.admin) {
            let admin = self.process.admin;
            return Err(usage(format!("--admin {admin} is also a --listen address; move one")));
        }
        let mut endpoints = HashSet::new();
        for address in &self.upstream {
            if taken.contains(address) {
                return Err(usage(format!(
                    "--upstream {address} is also a --listen address, so requests would go round \
                     in circles; change one"
                )));
            }
            if !endpoints.insert(*address) {
                return Err(usage(format!("--upstream {address} is given twice; remove one")));
            }
        }
        Ok(())
    }
}

impl RunFlags {
    /// Checks what relates flags to each other and to the machine.
    pub(super) fn into_run(self, host: &Host) -> Result<Run, BootstrapError> {
        let Self { name, control, state, process } = self;
        Ok(Run { config: process.into_config(host)?, name, control, state })
    }
}

impl ProcessFlags {
    fn into_config(self, host: &Host) -> Result<Config, BootstrapError> {
        self.check_sizes()?;
        let workers = self.workers.unwrap_or(host.usable_cpus);
        let connections_max = connections_max(self.connections_max, workers, host)?;
        let pool_share = host.descriptors_max * limits::POOL_DESCRIPTORS_PERCENT / 100;
        let access_log = match self.access_log.to_str() {
            Some("off") => AccessLogTarget::Off,
            Some("-") => AccessLogTarget::Stdout,
            _ => AccessLogTarget::File(self.access_log),
        };
        Ok(Config {
            workers,
            pinned_cpus: self.pin.cpus_of_workers(workers, &host.cpus),
            engine: self.engine,
            engine_features: self.engine_features,
            admin: self.admin,
            access_log,
            timeouts: Timeouts {
                header: self.header_timeout.0,
                body: self.body_timeout.0,
                idle: self.idle_timeout.0,
                connect: self.connect_timeout.0,
                request: self.request_timeout.0.map(|span| span.0),
                write: self.write_timeout.0,
                detect: self.detect_timeout.0,
            },
            sizes: Sizes {
                head_bytes_max: self.head_bytes_max.0 as usize,
                headers_max: self.headers_max,
                target_bytes_max: self.target_bytes_max.0 as usize,
                body_bytes_max: self.body_bytes_max.0.map(|size| size.0),
            },
            connections_max,
            memory_max: match self.memory_max {
                Some(asked) => asked.0.map(|size| size.0),
                None => host.memory_max,
            },
            pool: PoolLimits {
                idle_max: self.pool_idle_max,
                total_max: self.pool_idle_max.max(pool_share as usize),
                idle_timeout: self.pool_idle_timeout.0,
                lifetime: self.pool_lifetime.0,
                short_responses_min: limits::SHORT_RESPONSES_MIN,
            },
            drain: Drain { delay: self.drain_delay.0, timeout: self.drain_timeout.0 },
            trace_method: self.trace_method,
            descriptors_max: host.descriptors_max,
        })
    }

    fn check_sizes(&self) -> Result<(), BootstrapError> {
        let (target, head) = (self.target_bytes_max, self.head_bytes_max);
        if target.0 >= head.0 {
            return Err(usage(format!(
                "--target-bytes-max {target} leaves no room in --head-bytes-max {head}; lower the \
                 first or raise the second"
            )));
        }
        Ok(())
    }
}

impl Pin {
    /// The CPU of each worker, or nothing.
    fn cpus_of_workers(self, workers: usize, cpus: &[usize]) -> Vec<usize> {
        let pinned = match self {
            Self::Auto => workers == cpus.len(),
            Self::On => true,
            Self::Off => false,
        };
        if pinned { cpus.iter().copied().cycle().take(workers).collect() } else { Vec::new() }
    }
}

/// The cap on client connections: what was asked for, or 90 % of what the machine gives.
fn connections_max(
    asked: Option<usize>,
    workers: usize,
    host: &Host,
) -> Result<usize, BootstrapError> {
    let given = host.descriptors_max;
    let overhead = limits::DESCRIPTORS_RESERVED + limits::DESCRIPTORS_PER_WORKER * workers as u64;
    if given < overhead {
        return Err(BootstrapError::Host(format!(
            "{given} file descriptors are too few for {workers} workers, which need {overhead}; \
             raise the hard limit (ulimit -Hn, or LimitNOFILE= of the unit) or lower --workers"
        )));
    }
    let by_default = (given * limits::CONNECTIONS_MAX_PERCENT / 100).max(workers as u64);
    let asked = asked.map_or(by_default, |asked| asked as u64);
    if asked < workers as u64 {
        return Err(usage(format!(
            "--connections-max {asked} leaves a worker without a connection; give at least \
             {workers}, one per worker, or lower --workers"
        )));
    }
    if asked > given {
        return Err(BootstrapError::Host(format!(
            "--connections-max {asked} exceeds the {given} file descriptors of this process; \
             lower it or raise the hard limit (ulimit -Hn, or LimitNOFILE= of the unit)"
        )));
    }
    Ok(asked as usize)
}

fn usage(message: impl Into<String>) -> BootstrapError {
    BootstrapError::Usage(message.into())
}

fn address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| "is not IP:PORT, such as 127.0.0.1:8080 or [::1]:8080".to_owned())
}

fn upstream_address(text: &str) -> Result<SocketAddr, String> {
    let address = address(text)?;
    if address.port() == 0 {
        return Err("has port 0, on which nothing can listen; give the upstream's port".into());
    }
    Ok(address)
}

fn proxy_name(text: &str) -> Result<String, String> {
    if text.is_empty() || text.len() > limits::PROXY_NAME_BYTES_MAX {
        return Err(format!("is not 1 to {} bytes long", limits::PROXY_NAME_BYTES_MAX));
    }
    Ok(text.to_owned())
}

fn timeout(text: &str) -> Result<TimeSpan, String> {
    let span: TimeSpan = text.parse()?;
    if span.0 == Duration::ZERO {
        return Err("is zero, which nothing could meet; give a longer time".into());
    }
    Ok(span)
}

fn optional_timeout(text: &str) -> Result<OrNone<TimeSpan>, String> {
    let span: OrNone<TimeSpan> = text.parse()?;
    if span.0 == Some(TimeSpan(Duration::ZERO)) {
        return Err("is zero, which nothing could meet; give a longer time, or none".into());
    }
    Ok(span)
}

fn workers(text: &str) -> Result<usize, String> {
    whole_number(text, 1, limits::WORKERS_MAX)
}

fn headers(text: &str) -> Result<usize, String> {
    whole_number(text, 1, limits::HEADERS_MAX_MOST)
}

fn connections(text: &str) -> Result<usize, String> {
    whole_number(text, 1, limits::DESCRIPTORS_MOST)
}

fn pool_idle(text: &str) -> Result<usize, String> {
    whole_number(text, 0, limits::POOL_IDLE_MAX_MOST)
}

fn whole_number(text: &str, least: usize, most: usize) -> Result<usize, String> {
    match text.parse() {
        Ok(number) if (least..=most).contains(&number) => Ok(number),
        _ => Err(format!("is not a whole number from {least} to {most}")),
    }
}

fn head_bytes(text: &str) -> Result<ByteSize, String> {
    let (least, most) = (limits::HEAD_BYTES_MAX_LEAST as u64, limits::HEAD_BYTES_MAX_MOST as u64);
    let size: ByteSize = text.parse()?;
    if !(least..=most).contains(&size.0) {
        return Err(format!("is not between {} and {}", ByteSize(least), ByteSize(most)));
    }
    Ok(size)
}

fn memory(text: &str) -> Result<OrNone<ByteSize>, String> {
    let size: OrNone<ByteSize> = text.parse()?;
    let least = limits::MEMORY_BYTES_MAX_LEAST;
    if size.0.is_some_and(|size| size.0 < least) {
        return Err(format!("is less than {}, which the process needs", ByteSize(least)));
    }
    Ok(size)
}

fn positive_size(text: &str) -> Result<ByteSize, String> {
    let size: ByteSize = text.parse()?;
    if size.0 == 0 {
        return Err("is zero; give at least 1".into());
    }
    Ok(size)
}
