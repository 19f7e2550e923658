//! What can be asked for: every command, option and example of the help.

pub(crate) mod overrides;

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{ArgGroup, Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use lateen_control::api::address::Address;
use lateen_control::store::limits::REVISIONS_KEPT;

const EXIT_CODES: &str = "\
Exit codes:
  0  what was asked for holds
  1  it was refused, or failed; the reason is on stderr
  2  it was not asked for in the right way";

/// A service mesh: declared config in, proxies that run it out.
#[derive(Debug, Parser)]
#[command(name = "lateen", version, max_term_width = 100, after_help = EXIT_CODES)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Demo(Demo),
    Serve(Serve),
    Check(Check),
    Apply(Apply),
    Delete(Delete),
    Get(Get),
    Diff(Diff),
    Status(Status),
    History(History),
    Show(Show),
    Rollback(Rollback),
    Resume(Resume),
    Eject(overrides::Eject),
    Readmit(overrides::Readmit),
    Breaker(overrides::Breaker),
    /// Run a proxy: the same program as `lateen-proxy`.
    ///
    /// `lateen proxy --help` tells more.
    #[command(disable_help_flag = true)]
    Proxy {
        /// As `lateen-proxy` takes them.
        #[arg(value_name = "ARGUMENTS", trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<OsString>,
    },
    /// Write a completion script for a shell to stdout.
    #[command(after_help = "Example:\n  lateen completions bash > /etc/bash_completion.d/lateen")]
    Completions {
        /// Which shell.
        shell: Shell,
    },
    /// Write the manual's pages into a folder.
    #[command(after_help = "Example:\n  lateen man ~/.local/share/man/man1")]
    Man {
        /// Which folder; it must be there.
        #[arg(value_name = "DIR")]
        folder: PathBuf,
    },
    #[command(hide = true)]
    DemoPart(DemoPart),
    #[command(hide = true)]
    DemoApp(DemoApp),
}

/// See the mesh at work on this machine: a control plane, proxies and services, under load.
///
/// Shows a canary, a bad config that is refused, a rollback, and what becomes of traffic when the
/// control plane is killed. Counts every request; succeeds only if none was lost or failed.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  lateen demo
  lateen demo --keep")]
pub(crate) struct Demo {
    /// Be done within 20 seconds.
    #[arg(long)]
    pub(crate) quick: bool,
    /// Stay up at the end until ctrl-C, to be played with, and leave the config and the logs there.
    #[arg(long)]
    pub(crate) keep: bool,
}

/// A command of this program as a part of the demo: it ends when its stdin does.
#[derive(Debug, Args)]
pub(crate) struct DemoPart {
    /// The command.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, required = true)]
    pub(crate) arguments: Vec<OsString>,
}

/// The demo's built-in service.
#[derive(Debug, Args)]
pub(crate) struct DemoApp {
    /// Who it says it is.
    #[arg(long)]
    pub(crate) name: String,
    /// The sidecar through which it asks another service first.
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub(crate) calls: Option<SocketAddr>,
    /// The mesh's name of the other service.
    #[arg(long, default_value = "")]
    pub(crate) host: String,
}

/// Run the control plane of this host.
///
/// With --config, the folder's files are the config: they are read again whenever they change, and
/// `apply` is refused. Without, the store is, and `apply` writes to it. Either way a change is taken
/// whole or not at all, and what was accepted last goes on running.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  lateen serve --config /etc/lateen --socket /run/lateen/control.sock --state /var/lib/lateen
  lateen serve --socket control.sock --state state --api unix:api.sock

Levels of the log on stderr are chosen with RUST_LOG, such as RUST_LOG=debug.")]
pub(crate) struct Serve {
    /// Take the config from the YAML and JSON files of this folder.
    #[arg(long, value_name = "DIR")]
    pub(crate) config: Option<PathBuf>,
    /// Proxies connect to this Unix socket.
    #[arg(long, value_name = "PATH")]
    pub(crate) socket: PathBuf,
    /// Keep the store and the like in this folder, which is made if it is missing.
    #[arg(long, value_name = "DIR")]
    pub(crate) state: PathBuf,
    #[command(flatten)]
    pub(crate) api: Api,
    /// A user whose processes may be proxies, beside root and the user of this one. Can be repeated.
    #[arg(long, value_name = "UID")]
    pub(crate) allow_uid: Vec<u32>,
    /// Keep so many revisions.
    #[arg(long, value_name = "COUNT", default_value_t = REVISIONS_KEPT)]
    pub(crate) keep_revisions: usize,
    /// Keep no revision that is older than so many days. The latest always stays.
    #[arg(long, value_name = "DAYS")]
    pub(crate) keep_days: Option<u32>,
    /// Ask this DNS server, not those of the system. Can be repeated.
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub(crate) dns_server: Vec<SocketAddr>,
}

/// Where the control plane is.
#[derive(Debug, Args)]
pub(crate) struct Api {
    /// Where the control plane's API is: `unix:PATH`, or a port of loopback such as 127.0.0.1:9901.
    /// Without it: /run/lateen/api.sock for root, else lateen/api.sock in $XDG_RUNTIME_DIR.
    #[arg(long, value_name = "ADDRESS", env = "LATEEN_API", hide_env_values = true)]
    pub(crate) api: Option<Address>,
    /// The file with the secret that an API on a port asks for.
    #[arg(long, value_name = "FILE", env = "LATEEN_API_TOKEN_FILE", hide_env_values = true)]
    pub(crate) api_token_file: Option<PathBuf>,
}

/// How a command answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Output {
    /// Words and tables for people.
    Text,
    /// For programs; what the API said.
    Json,
}

/// The form of the answer.
#[derive(Debug, Args)]
pub(crate) struct Form {
    /// How to answer.
    #[arg(long, short, value_enum, default_value_t = Output::Text)]
    pub(crate) output: Output,
}

/// Files that declare objects.
#[derive(Debug, Args)]
pub(crate) struct Files {
    /// A file, a folder's YAML and JSON files, or `-` for stdin. Can be repeated.
    #[arg(long = "file", short = 'f', value_name = "FILE|DIR|-", required = true)]
    pub(crate) files: Vec<PathBuf>,
}

/// Check files without a control plane.
///
/// All that is wrong in the files is shown at once, with its place and what would be right; then, when
/// each object is right by itself, all that is wrong between them. The files are taken for the whole
/// config: what they refer to must be in them.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  lateen check mesh.yaml\n  lateen check config/ --output json")]
pub(crate) struct Check {
    /// Files, folders, or `-` for stdin.
    #[arg(value_name = "FILE|DIR|-", required = true)]
    pub(crate) files: Vec<PathBuf>,
    #[command(flatten)]
    pub(crate) form: Form,
}

/// Declare objects: new ones are added, others replaced.
///
/// All or nothing is accepted. Succeeds when every core of every connected proxy runs it. If a proxy
/// refuses it, says so and fails; that proxy keeps what it had.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  lateen apply -f canary.yaml -m 'ten percent to v2'
  lateen apply -f config/ --prune --dry-run
  kubectl get httproutes -A -o yaml | lateen apply -f -")]
pub(crate) struct Apply {
    #[command(flatten)]
    pub(crate) files: Files,
    /// The files are the whole config: remove every object that is not in them.
    #[arg(long)]
    pub(crate) prune: bool,
    #[command(flatten)]
    pub(crate) how: How,
    #[command(flatten)]
    pub(crate) api: Api,
    #[command(flatten)]
    pub(crate) form: Form,
}

/// How to make a change.
#[derive(Debug, Args)]
pub(crate) struct How {
    /// Only if the latest revision is still this one (0: none yet).
    #[arg(long, value_name = "N")]
    pub(crate) if_revision: Option<u64>,
    /// Check everything and say what would change; change nothing.
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Why, for the history.
    #[arg(long, short, value_name = "TEXT")]
    pub(crate) message: Option<String>,
    /// If a connected proxy refuses it, give all of them the old config again, as a new epoch.
    #[arg(long)]
    pub(crate) atomic: bool,
    #[command(flatten)]
    pub(crate) wait: Wait,
}

/// How long to wait for the proxies.
#[derive(Debug, Args)]
pub(crate) struct Wait {
    /// Wait so long for the proxies; with 0, return when it is stored.
    #[arg(long, value_name = "SECONDS", default_value_t = 30)]
    pub(crate) wait: u64,
}

/// Remove one object.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  lateen delete httproute/canary -n shop
  lateen delete service.core/cart        # Kubernetes' own Service, not that of lateen.dev")]
pub(crate) struct Delete {
    /// Which one.
    #[arg(value_name = "KIND/NAME", value_parser = named)]
    pub(crate) object: Named,
    /// Its namespace; `default` unless given.
    #[arg(long, short, value_name = "NAMESPACE")]
    pub(crate) namespace: Option<String>,
    #[command(flatten)]
    pub(crate) how: How,
    #[command(flatten)]
    pub(crate) api: Api,
    #[command(flatten)]
    pub(crate) form: Form,
}

/// A kind and a name.
#[derive(Clone, Debug)]
pub(crate) struct Named {
    pub(crate) kind: String,
    pub(crate) name: String,
}

fn named(text: &str) -> Result<Named, String> {
    match text.split_once('/') {
        Some((kind, name)) if !kind.is_empty() && !name.is_empty() && !name.contains('/') => {
            Ok(Named { kind: kind.to_owned(), name: name.to_owned() })
        }
        _ => Err("write KIND/NAME, such as httproute/canary".to_owned()),
    }
}

/// List objects, or show one as it was declared; `policies`: what TrafficPolicies are attached to, and
/// what they come to on a route; `overrides`: what operators have ordered of what runs.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  lateen get
  lateen get httproutes -n shop
  lateen get httproute/canary -n shop > canary.yaml
  lateen get policies -n shop
  lateen get policies --route cart -n shop --rule pay
  lateen get policies --route service/ledger -n shop
  lateen get overrides

With --route, every setting that someone says is shown with its value, who says it, and whether
it counts. For each setting the closest word does: the rule's own, the policy of the rule, of the
route; then, for what is sent to a service that the route is attached to, that of its port, of the
service; then those of the backends' ports and services. Of the backends' timeouts the longest
counts, of the rest what all of them have alike. What is about connections (loadBalancing, bulkhead,
healthCheck, …), and rate limits that nobody closer says, each backend keeps for itself. What nobody
says is a proxy's default. What is live is told of: after `lateen rollback` that is not the latest.")]
pub(crate) struct Get {
    /// Of this kind; with a name, its text.
    #[arg(value_name = "KIND[/NAME]")]
    pub(crate) what: Option<String>,
    /// With `policies`: what is in force on this HTTPRoute or TCPRoute, or on this Service where no route is
    /// attached to it, and where it was said. Of several with one name `httproute/NAME`, `tcproute/NAME` or
    /// `service/NAME` is the one that is meant. Without --namespace it is looked for in `default`.
    #[arg(long, value_name = "ROUTE", requires = "what")]
    pub(crate) route: Option<String>,
    /// Only on this rule of the route: its name, or its number, from 0. Of a service: this port.
    #[arg(long, value_name = "RULE", requires = "route")]
    pub(crate) rule: Option<String>,
    /// Of this namespace only.
    #[arg(long, short, value_name = "NAMESPACE")]
    pub(crate) namespace: Option<String>,
    #[command(flatten)]
    pub(crate) api: Api,
    #[command(flatten)]
    pub(crate) form: Form,
}

/// Say what files would change and for which proxy, or how two revisions differ.
#[derive(Debug, Args)]
#[command(
    group = ArgGroup::new("what").args(["revisions", "files"]).required(true),
    after_help = "\
Examples:
  lateen diff -f canary.yaml
  lateen diff -f config/ --prune
  lateen diff 16 17"
)]
pub(crate) struct Diff {
    /// From this revision to that one.
    #[arg(value_name = "REVISION", num_args = 2, value_names = ["OLD", "NEW"])]
    pub(crate) revisions: Vec<u64>,
    /// A file, a folder's YAML and JSON files, or `-` for stdin. Can be repeated.
    #[arg(long = "file", short = 'f', value_name = "FILE|DIR|-")]
    pub(crate) files: Vec<PathBuf>,
    /// The files are the whole config: every object that is not in them would go.
    #[arg(long, requires = "files")]
    pub(crate) prune: bool,
    #[command(flatten)]
    pub(crate) api: Api,
    #[command(flatten)]
    pub(crate) form: Form,
}

/// Show what the control plane and its proxies run, and what is wrong.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  lateen status

PREPARE is how long it took the slowest core to build its state beside the traffic, SWITCH how long
each core took from the commit until it ran on it, in microseconds.")]
pub(crate) struct Status {
    #[command(flatten)]
    pub(crate) api: Api,
    #[command(flatten)]
    pub(crate) form: Form,
}

/// List the accepted revisions, newest first.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  lateen history\n  lateen history --before 900 --limit 100")]
pub(crate) struct History {
    /// At most so many.
    #[arg(long, value_name = "COUNT", default_value_t = 20)]
    pub(crate) limit: usize,
    /// Only those before this one.
    #[arg(long, value_name = "N")]
    pub(crate) before: Option<u64>,
    #[command(flatten)]
    pub(crate) api: Api,
    #[command(flatten)]
    pub(crate) form: Form,
}

/// Show a revision: who made it, why, and all objects of it.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  lateen show 17")]
pub(crate) struct Show {
    /// Which one.
    #[arg(value_name = "N")]
    pub(crate) revision: u64,
    #[command(flatten)]
    pub(crate) api: Api,
    #[command(flatten)]
    pub(crate) form: Form,
}

/// Make an accepted revision live again, and pin it.
///
/// What is applied afterwards is stored and waits until `lateen resume`. Endpoints that are reported, in
/// `EndpointSlice`s or by DNS, stay as they are now and go on changing. Those that are written into a
/// `Service` are part of what was declared, and go back with it.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  lateen history && lateen rollback 16")]
pub(crate) struct Rollback {
    /// Which one.
    #[arg(value_name = "N")]
    pub(crate) revision: u64,
    #[command(flatten)]
    pub(crate) wait: Wait,
    #[command(flatten)]
    pub(crate) api: Api,
    #[command(flatten)]
    pub(crate) form: Form,
}

/// End a rollback: make the latest revision live.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  lateen resume")]
pub(crate) struct Resume {
    #[command(flatten)]
    pub(crate) wait: Wait,
    #[command(flatten)]
    pub(crate) api: Api,
    #[command(flatten)]
    pub(crate) form: Form,
}
