//! The program `lateen-bench`: arguments in, an exit code out.

use std::io::Write;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use lateen_bench::compare::arguments::CompareArguments;
use lateen_bench::compare::start::StartArguments;
use lateen_bench::load::arguments::LoadArguments;
use lateen_bench::report::arguments::ReportArguments;
use lateen_bench::upstream::arguments::UpstreamArguments;
use lateen_bench::{compare, load, report, upstream};

/// Measure what a proxy costs: make load, answer it, compare proxies, report.
#[derive(Parser)]
#[command(name = "lateen-bench", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Load(LoadArguments),
    Upstream(UpstreamArguments),
    Compare(CompareArguments),
    Report(ReportArguments),
    #[command(hide = true)]
    Start(StartArguments),
}

fn main() -> ExitCode {
    // Wrong usage ends here, with 2.
    match Arguments::parse().command {
        Command::Load(arguments) => load::run::run(&arguments),
        Command::Upstream(arguments) => upstream::run::run(&arguments),
        Command::Compare(arguments) => compare::run::run(&arguments),
        Command::Report(arguments) => report::run::run(&arguments)
            .unwrap_or_else(|error| complain("lateen-bench report", &error)),
        Command::Start(arguments) => complain("error", &compare::start::start(&arguments)),
    }
}

fn complain(who: &str, error: &anyhow::Error) -> ExitCode {
    // Nobody to tell: the code says it.
    let _ = writeln!(std::io::stderr(), "{who}: {error:#}");
    ExitCode::FAILURE
}
